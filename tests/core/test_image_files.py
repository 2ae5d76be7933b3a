"""Image, depth and video files: round trips, and that damaged and hostile files are refused."""

import io
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vmemkit.core import (
    image_size,
    load_depth,
    load_image,
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


@pytest.mark.parametrize("side", [8001, 12000, 60000])
def test_an_enormous_image_is_refused_by_its_header_without_a_warning(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"bomb\.png.*pixels"):
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


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_file_loads_or_is_refused_and_nothing_else(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "npy", "npz"]))
    buffer = io.BytesIO()
    if kind.startswith("np"):
        save = np.save if kind == "npy" else np.savez_compressed
        save(buffer, np.ones((4, 5), dtype=np.float32))
    else:
        Image.fromarray(gradient()).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.mktemp("damaged") / f"a.{kind.lower()}"
    path.write_bytes(content)
    load = load_depth if kind.startswith("np") else load_image
    try:
        assert load(path).isfinite().any()
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017


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


def test_zero_negative_and_infinite_depth_is_unknown(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[0.0, -1, np.inf, -np.inf, np.nan, 2]]))
    assert load_depth(tmp_path / "d.npy").isnan().tolist() == [[True] * 5 + [False]]


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
    with pytest.raises(ValueError, match="more than 10000 pixels"):
        load_depth(tmp_path / "d.npz", max_pixels=10_000)


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


@pytest.mark.parametrize("depth", [66.0, float("inf"), 0.0, -1.0, 0.0001])
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


def test_a_video_whose_encoder_fails_is_an_error_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", sys.executable)  # no encoder: it refuses our options
    with pytest.raises(OSError, match=r"encoder failed|pipe"):
        save_video(tmp_path / "a.mp4", torch.zeros(1, 3, 4, 4), 10.0)
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        save_video(tmp_path / "a.mp4", torch.zeros(0, 3, 4, 4), 10.0)
