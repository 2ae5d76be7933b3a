"""Image, depth and video files: round trips, and that damaged and hostile files are refused."""

import io
import os
import struct
import subprocess
import warnings
import zipfile
import zlib
from contextlib import suppress

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vmemkit.core import (
    default_depth_unit,
    image_size,
    load_depth,
    load_image,
    new_folder,
    replacing,
    save_depth,
    save_image,
    save_video,
)


def gradient(h=5, w=7):
    return np.arange(h * w * 3, dtype=np.uint8).reshape(h, w, 3) * 2


# --- images ---------------------------------------------------------------------------------------


def test_an_image_that_is_saved_and_loaded_is_within_half_a_grey_level(tmp_path):
    image = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    save_image(tmp_path / "a.png", image)
    torch.testing.assert_close(load_image(tmp_path / "a.png"), image, atol=0.5 / 255, rtol=0)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_images_come_back_nearly_equal(tmp_path, suffix):
    image = torch.linspace(0, 1, 32).expand(3, 32, 32).contiguous()
    save_image(tmp_path / f"a{suffix}", image)
    torch.testing.assert_close(load_image(tmp_path / f"a{suffix}"), image, atol=0.05, rtol=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_with_an_exif_orientation_is_turned_upright(tmp_path, orientation):
    upright = Image.fromarray(gradient())
    turn_back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn_back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    expected = torch.from_numpy(gradient()).permute(2, 0, 1) / 255
    torch.testing.assert_close(load_image(tmp_path / "a.png"), expected)
    assert image_size(tmp_path / "a.png") == (5, 7)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "YCbCr", "1", "LA", "RGBA", "I;16", "F"])
def test_every_usual_mode_becomes_three_channels_within_range(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gradient()).convert(mode)
    if mode == "F":
        image = Image.fromarray(np.asarray(image) / np.float32(255))
    suffix = "tif" if mode in ("CMYK", "YCbCr", "F") else "png"
    image.save(tmp_path / f"a.{suffix}")
    loaded = load_image(tmp_path / f"a.{suffix}")
    assert loaded.shape == (3, 5, 7)
    assert loaded.dtype == torch.float32
    assert 0 <= loaded.min() < loaded.max() <= 1


def test_sixteen_bit_grey_keeps_its_precision(tmp_path):
    values = np.array([[0, 1, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = torch.from_numpy(values.astype(np.float32)) / 65535
    torch.testing.assert_close(load_image(tmp_path / "a.png"), expected.expand(3, 1, 4))


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]]).T[:, None]
    torch.testing.assert_close(load_image(tmp_path / "a.png"), expected)


def test_a_transparent_palette_colour_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.save(tmp_path / "a.png", transparency=1)
    loaded = load_image(tmp_path / "a.png")
    torch.testing.assert_close(loaded[:, 0, 1], torch.ones(3))


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e"


@pytest.mark.parametrize("side", [14143, 18000, 60000])
def test_an_enormous_image_is_refused_by_its_header_without_a_warning(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"bomb\.png.*1 to 200000000 pixels"):
            load_image(tmp_path / "bomb.png")


def test_the_limit_of_pixels_can_be_lowered_and_raised(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="34 pixels"):
        load_image(tmp_path / "a.png", max_pixels=34)
    assert load_image(tmp_path / "a.png", max_pixels=35).shape == (3, 5, 7)


def truncated(kind):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


BAD_IMAGES = {
    "empty": b"",
    "text": b"this is no image",
    "zero-size": png_header(0, 5),
    "half a PNG": truncated("PNG"),
    "half a JPEG": truncated("JPEG"),
    "a script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_file_that_is_not_a_complete_image_is_refused_by_name(tmp_path, name):
    (tmp_path / "bad.png").write_bytes(BAD_IMAGES[name])
    with pytest.raises(ValueError, match=r"bad\.png.*complete image"):
        load_image(tmp_path / "bad.png")


@pytest.mark.parametrize("load", [load_image, load_depth, image_size])
@pytest.mark.parametrize("name", ["missing.png", ".", "a\0b.png", "x" * 300])
def test_a_missing_file_is_refused(tmp_path, load, name):
    with pytest.raises(ValueError, match="cannot read"):
        load(tmp_path / name)


def noisy(kind, **options):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(count):
    """A JPEG that repeats its last scan, a refinement."""
    content = noisy("JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * count + content[-2:]


def webp_header(side):
    content = bytearray(noisy("WEBP", lossless=True))
    content[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    return bytes(content)


SLOW_IMAGES = {
    "scans": (many_scans(101), "100 scans"),
    "canvas": (webp_header(16383), "200000000 pixels"),
    "comment": (b"P6\n#" + b"x" * 5000 + b"\n1 1\n255\n123", "EOF while reading header"),
    "words": (b"P3\n1 1\n255\n" + b" " * 2**24 + b"1 2 3\n", "16777216 bytes"),
}


@pytest.mark.parametrize("name", SLOW_IMAGES)
def test_a_file_that_takes_long_for_its_pixels_is_refused_and_the_limit_is_named(tmp_path, name):
    content, limit = SLOW_IMAGES[name]
    (tmp_path / "slow").write_bytes(content)
    for read in (load_image, image_size):
        with pytest.raises(ValueError, match=f"slow.*{limit}"):
            read(tmp_path / "slow")


def test_a_jpeg_of_usual_scans_with_a_video_behind_it_is_read(tmp_path):
    video = np.random.default_rng(0).integers(0, 256, 2**24, dtype=np.uint8).tobytes()
    assert video.count(b"\xff\xda") > 100
    (tmp_path / "motion.jpg").write_bytes(noisy("JPEG", progressive=True) + video)
    assert load_image(tmp_path / "motion.jpg").shape == (3, 40, 40)


def test_a_file_with_too_many_bytes_for_its_pixels_is_refused(tmp_path):
    with open(tmp_path / "sparse.tif", "wb") as file:
        file.truncate(2**26 + 8 * 100 + 1)
    with pytest.raises(ValueError, match="100 pixels need at most 67109664 bytes"):
        load_image(tmp_path / "sparse.tif", max_pixels=100)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz"])
def test_pipes_and_devices_are_not_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"zero-{name}"):
        for read in (load_image, image_size, load_depth):
            with pytest.raises(ValueError, match="no regular file"):
                read(path)


@pytest.mark.parametrize("size", [(11968, 5984), (16320, 12240)])
def test_360_degree_photos_and_those_of_200_megapixels_are_admitted(tmp_path, size):
    (tmp_path / "large.png").write_bytes(png_header(*size))
    assert image_size(tmp_path / "large.png") == size[::-1]


# --- depth ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-4, 0.1), st.integers(0, 1000))
def test_depth_that_is_saved_and_loaded_is_within_half_a_step(tmp_path_factory, unit, seed):
    rng = torch.Generator().manual_seed(seed)
    depth = (1 + torch.rand(4, 5, generator=rng) * 60000) * unit
    depth[0, 0] = torch.nan
    path = tmp_path_factory.mktemp("depth") / "d.png"
    save_depth(path, depth, unit)
    loaded = load_depth(path, unit)
    torch.testing.assert_close(loaded, depth, atol=unit * 0.501, rtol=1e-6, equal_nan=True)


def test_depth_images_are_in_millimetres_and_arrays_in_metres(tmp_path):
    save_depth(tmp_path / "d.png", torch.tensor([[1.25]]))
    np.save(tmp_path / "d.npy", np.array([[1.25]]))
    np.savez(tmp_path / "d.npz", np.array([[1.25]]))
    np.savez(tmp_path / "e.npz", depth=np.array([[1.25]]), other=np.zeros(3))
    for name in ("d.png", "d.npy", "d.npz", "e.npz"):
        assert load_depth(tmp_path / name).item() == pytest.approx(1.25)
    assert load_depth(tmp_path / "d.npy", unit=0.01).item() == pytest.approx(0.0125)


def test_zero_and_negative_depth_is_unknown(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[0.0, -1, -np.inf, np.nan, 2]]))
    assert load_depth(tmp_path / "d.npy").isnan().tolist() == [[True] * 4 + [False]]


@pytest.mark.parametrize("far", [np.inf, 1e10, 1e12, 1e300])
def test_infinite_depth_is_sky(tmp_path, far):
    np.save(tmp_path / "d.npy", np.array([[far, 2.0]]))
    assert load_depth(tmp_path / "d.npy").tolist() == [[np.inf, 2.0]]


def test_sky_alone_is_no_depth(tmp_path):
    np.save(tmp_path / "d.npy", np.full((2, 2), np.inf))
    with pytest.raises(ValueError, match="no pixel has a positive finite value"):
        load_depth(tmp_path / "d.npy")


def test_the_largest_step_of_16_bits_is_unknown(tmp_path):
    steps = np.array([[0, 1, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(steps).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", steps.astype(">u2"))
    np.savez(tmp_path / "d.npz", steps)
    expected = torch.tensor([[torch.nan, 0.001, 65.534, torch.nan]])
    for name in ("d.png", "d.npy", "d.npz"):
        torch.testing.assert_close(load_depth(tmp_path / name), expected, equal_nan=True)


def test_the_largest_step_of_16_bits_is_sky_where_the_caller_says_so(tmp_path):
    steps = np.array([[0, 1, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(steps).save(tmp_path / "d.png")
    expected = torch.tensor([[torch.nan, 0.001, 65.534, torch.inf]])
    loaded = load_depth(tmp_path / "d.png", sky=True)
    torch.testing.assert_close(loaded, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", ["u2", "i2", "i4", ">i8", "u4"])
def test_integers_of_an_array_are_millimetres_unless_a_unit_is_given(tmp_path, dtype):
    np.save(tmp_path / "d.npy", np.array([[1250]], dtype))
    np.savez_compressed(tmp_path / "d.npz", depth=np.array([[1250]], dtype))
    for name in ("d.npy", "d.npz"):
        assert load_depth(tmp_path / name).item() == pytest.approx(1.25)
        assert load_depth(tmp_path / name, unit=1.0).item() == 1250
        assert default_depth_unit(tmp_path / name) == 0.001


def test_depth_that_float32_cannot_tell_from_zero_is_unknown(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[1e-300, 2.0]]))
    assert load_depth(tmp_path / "d.npy").isnan().tolist() == [[True, False]]


def test_arrays_of_either_order_are_the_same(tmp_path):
    values = np.arange(1.0, 13).reshape(3, 4)
    np.save(tmp_path / "c.npy", values)
    np.savez_compressed(tmp_path / "f.npz", depth=np.asfortranarray(values)[..., None])
    torch.testing.assert_close(load_depth(tmp_path / "f.npz"), load_depth(tmp_path / "c.npy"))


def test_depth_with_an_axis_of_one_channel_is_accepted(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((4, 5, 1), dtype=np.float16))
    assert load_depth(tmp_path / "d.npy").shape == (4, 5)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3)),
        np.full((2, 3), np.nan),
        np.ones(3),
        np.ones((2, 3, 4)),
        np.ones((0, 3)),
        np.ones((2, 3), dtype=complex),
        np.array([["a", "b"]]),
        np.array([[{}]], dtype=object),
    ],
)
def test_an_array_that_is_not_depth_is_refused(tmp_path, array):
    np.save(tmp_path / "d.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"d\.npy"):
        load_depth(tmp_path / "d.npy")


def test_an_array_too_large_is_refused_by_its_header(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    (tmp_path / "d.npy").write_bytes(header.getvalue() + b"\0" * 64)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("depth.npy", header.getvalue() + b"\0" * 64)
    for name in ("d.npy", "d.npz"):
        with pytest.raises(ValueError, match="cannot read"):
            load_depth(tmp_path / name)


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", depth=np.ones((1000, 1000)))
    with pytest.raises(ValueError, match="1 to 10000 pixels"):
        load_depth(tmp_path / "d.npz", max_pixels=10_000)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_numpy_does_not_write_is_refused(tmp_path, method):
    array = io.BytesIO()
    np.save(array, np.ones((2, 3)))
    with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
        archive.writestr("depth.npy", array.getvalue())
    with pytest.raises(ValueError, match="compressed in a way"):
        load_depth(tmp_path / "d.npz")


def test_an_array_that_is_cut_short_is_refused(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((20, 30)))
    os.truncate(tmp_path / "d.npy", 2000)
    with pytest.raises(ValueError, match=r"d\.npy"):
        load_depth(tmp_path / "d.npy")


def test_an_archive_of_several_arrays_must_name_its_depth(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(ValueError, match="name the array `depth`"):
        load_depth(tmp_path / "d.npz")


def test_a_colour_image_is_not_depth(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "d.png")
    with pytest.raises(ValueError, match="one channel of 16 bits"):
        load_depth(tmp_path / "d.png")


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_unit_that_is_not_positive_and_finite_is_refused(tmp_path, unit):
    np.save(tmp_path / "d.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match="unit"):
        load_depth(tmp_path / "d.npy", unit)
    with pytest.raises(ValueError, match="unit"):
        save_depth(tmp_path / "d.png", torch.ones(2, 2), unit)


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [66.0, 65.535, float("inf"), 0.0, -1.0, 0.0001])
def test_depth_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, depth):
    with pytest.raises(ValueError, match="fit"):
        save_depth(tmp_path / "d.png", torch.tensor([[1.0, depth]]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.exr", "a", "nowhere/a.png"])
def test_an_image_without_a_folder_or_a_known_format_is_refused_and_nothing_is_written(
    tmp_path, name
):
    with pytest.raises(ValueError, match="cannot"):
        save_image(tmp_path / name, torch.zeros(3, 2, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way():
        with replacing(path) as draft:
            draft.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    save_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    save_image(tmp_path / "a.png", torch.ones(3, 2, 2))
    assert load_image(tmp_path / "a.png").min() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def decode(path, height, width):
    """The decoder's description of a video's stream, and the frames."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-"]
    run = subprocess.run(command, capture_output=True, check=True)
    frames = np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3) / 255
    return next(line for line in run.stderr.decode().splitlines() if "Stream" in line), frames


def test_a_video_has_even_sizes_its_colours_and_every_frame(tmp_path):
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.2, 0.2, 0.7]])
    images = colours[:, :, None, None].expand(3, 3, 33, 47)
    save_video(tmp_path / "a.mp4", images, fps=10.0)
    stream, frames = decode(tmp_path / "a.mp4", 34, 48)
    assert "h264" in stream
    assert "yuv420p(tv, bt709" in stream
    assert "10 fps" in stream
    assert len(frames) == 3
    for frame, colour in zip(frames, colours, strict=True):
        np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=0.03)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 1e9])
def test_a_video_with_an_impossible_frame_rate_is_refused_and_nothing_is_written(tmp_path, fps):
    with pytest.raises(ValueError, match="fps"):
        save_video(tmp_path / "a.mp4", torch.zeros(1, 3, 4, 4), fps)
    assert list(tmp_path.iterdir()) == []


def encoder(tmp_path, monkeypatch, script):
    """Let a shell script stand for the encoder."""
    program = tmp_path / "encoder" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))


FAILURES = {
    "it does not know the format": (
        "echo 'Unknown encoder libx264' >&2; exit 1",
        "Unknown encoder libx264",
    ),
    "it takes some frames first": (
        "head -c 5000 >/dev/null; echo 'disk full' >&2; exit 3",
        "code 3: disk full",
    ),
    "it says more than a pipe holds": ("yes no | head -c 300000 >&2; exit 1", "no no no$"),
    "it says nothing": ("exit 1", "it said nothing"),
    "it writes nothing": ("cat >/dev/null", "code 0: it said nothing"),
}


@pytest.mark.skipif(os.name == "nt", reason="the encoders here are shell scripts")
@pytest.mark.parametrize("name", FAILURES)
def test_what_a_failed_encoder_said_is_passed_on_and_nothing_is_written(
    tmp_path, monkeypatch, name
):
    script, words = FAILURES[name]
    encoder(tmp_path, monkeypatch, script)
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match=words):
        save_video(tmp_path / "out" / "a.mp4", torch.zeros(40, 3, 96, 128), 10.0)
    assert list((tmp_path / "out").iterdir()) == []


def test_without_an_encoder_the_way_to_one_is_named(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(ValueError, match=r"pip install imageio-ffmpeg.*No ffmpeg exe"):
        save_video(tmp_path / "a.mp4", torch.zeros(1, 3, 4, 4), 10.0)


@pytest.mark.parametrize("folder", ["2024-11-28T10:30:00", "-y", "a[b]c %d"])
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    save_video(f"{folder}/a.mp4", torch.zeros(1, 3, 4, 4), 10.0)
    assert (tmp_path / folder / "a.mp4").stat().st_size > 500


def test_a_video_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        save_video(tmp_path / "a.mp4", torch.zeros(0, 3, 4, 4), 10.0)


def test_a_new_folder_appears_complete_or_not_at_all(tmp_path):
    with suppress(KeyError), new_folder(tmp_path / "a") as draft:
        (draft / "half.txt").write_text("x")
        assert not (tmp_path / "a").exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()  # empty, or as good as that
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    with new_folder(tmp_path / "a") as draft:
        (draft / "whole.txt").write_text("x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["whole.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("place", ["full", "file", "link", "none/new"])
def test_a_new_folder_takes_no_place_of_others(tmp_path, place):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with (
        pytest.raises(ValueError, match="new folder in an existing one"),
        new_folder(tmp_path / place),
    ):
        raise AssertionError
    assert (tmp_path / "full" / "a.txt").exists()
    assert (tmp_path / "file").read_text() == "x"
