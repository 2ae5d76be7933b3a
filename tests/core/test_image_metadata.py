"""Image metadata: orientation, colour profiles and lenses; odd metadata never hides sound pixels."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from vmemkit.core import image_size, load_depth, load_image, photo_fov

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2
SIDEWAYS = (7, 5)  # height and width of PIXELS, turned by orientation 6


def exif(orientation=1, focal_length=None):
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = orientation
    if focal_length is not None:
        data.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal_length
    return data.tobytes()


def stored(kind, pixels=PIXELS, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def sizes(path, content):
    """(height, width) of the pixels and of the header of a file with these bytes."""
    path.write_bytes(content)
    return tuple(load_image(path).shape[1:]), image_size(path)


# --- metadata that is odd or damaged --------------------------------------------------------------


def segment(marker, body, length=None):
    """A segment of a JPEG, also with a false length."""
    length = len(body) + 2 if length is None else length
    return b"\xff" + bytes([marker]) + struct.pack(">H", length) + body


def chunk(name, body, damaged=False):
    """A chunk of a PNG, also with a false checksum."""
    checksum = zlib.crc32(name + body) ^ damaged
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def tiff_block(*entries):
    """An EXIF block of entries (tag, type, count, four bytes)."""
    rows = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4)


UPRIGHT = (ExifTags.Base.Orientation, 3, 1, struct.pack("<HH", 6, 0))  # orientation 6
EXIF = {
    "a rational far away": tiff_block(UPRIGHT, (0x11A, 5, 1, struct.pack("<I", 60000))),
    "a type that does not exist": tiff_block(UPRIGHT, (0x11A, 99, 1, b"abcd")),
    "a count of billions": tiff_block(UPRIGHT, (0x10F, 2, 2**32 - 1, b"\x08\0\0\0")),
    "a directory that names itself": tiff_block(UPRIGHT, (0x8769, 4, 1, b"\x08\0\0\0")),
    "a directory beyond the end": tiff_block(UPRIGHT, (0x8825, 4, 1, b"\xff\xff\0\0")),
}
NO_EXIF = {
    "nothing": b"",
    "no block": b"this is no EXIF",
    "no order of bytes": b"XX*\0\x08\0\0\0",
    "half an entry": tiff_block(UPRIGHT)[:14],
    "an orientation of 9": tiff_block((0x112, 3, 1, b"\x09\0\0\0")),
    "an orientation in words": tiff_block((0x112, 2, 4, b"top\0")),
    "an orientation without values": tiff_block((0x112, 3, 0, bytes(4))),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", [*EXIF, *NO_EXIF])
def test_odd_exif_data_counts_where_it_can_be_read_and_never_hides_the_pixels(tmp_path, kind, name):
    block, expected = EXIF.get(name), SIDEWAYS
    if block is None:
        block, expected = NO_EXIF[name], PIXELS.shape[:2]
    content = stored(kind, exif=b"Exif\0\0" + block)
    assert sizes(tmp_path / "photo", content) == (expected, expected)


BAD_SEGMENTS = {
    "JFIF": segment(0xE0, b"JFIF\0"),
    "IPTC": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "Adobe": segment(0xEE, b"Adobe"),
    "more images": segment(
        0xE2, b"MPF\0MM\0*\0\0\0\x08\0\x01\xb0\x01\0\x04\xff\xff\xff\xff\0\0\0\0"
    ),
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0tiff:Orientation=\xff"),
    "a comment": segment(0xFE, b"\xff\xd9\xff\xda"),
    "a false length": segment(0xE1, b"Exif\0\0II*\0", length=2),
}


@pytest.mark.parametrize("name", BAD_SEGMENTS)
def test_a_damaged_segment_of_a_jpeg_hides_neither_pixels_nor_orientation(tmp_path, name):
    sound = stored("JPEG", exif=exif(6), quality=100, subsampling=0)
    damaged = sound[:2] + BAD_SEGMENTS[name] + sound[2:]
    assert sizes(tmp_path / "photo", damaged) == (SIDEWAYS, SIDEWAYS)
    (tmp_path / "sound").write_bytes(sound)
    torch.testing.assert_close(load_image(tmp_path / "photo"), load_image(tmp_path / "sound"))


BAD_CHUNKS = {
    "checksum of a text": chunk(b"tEXt", b"Comment\0hello", damaged=True),
    "text that is too long": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21))),
    "text that is not compressed": chunk(b"zTXt", b"Comment\0\0hello"),
    "international text": chunk(b"iTXt", b"Comment\0\x01\x07\xff\0\xfe\0hello"),
    "EXIF in text": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nxyz\n"),
    "resolution": chunk(b"pHYs", b"\0"),
    "colours": chunk(b"cHRM", b"\0\0"),
    "gamma": chunk(b"gAMA", b""),
    "profile": chunk(b"iCCP", b"icc\0\0hello"),
    "profile that is too long": chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**21))),
    "kind of sRGB": chunk(b"sRGB", b""),
}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_damaged_chunk_of_a_png_hides_neither_pixels_nor_orientation(tmp_path, name, at_end):
    sound = stored("PNG", exif=exif(6))
    at = sound.rindex(b"IEND") - 4 if at_end else sound.index(b"IDAT") - 4
    damaged = sound[:at] + BAD_CHUNKS[name] + sound[at:]
    assert sizes(tmp_path / "photo", damaged) == (SIDEWAYS, SIDEWAYS)
    expected = torch.from_numpy(np.rot90(PIXELS, -1).copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(load_image(tmp_path / "photo"), expected)


def test_exif_data_behind_the_pixels_of_a_png_counts(tmp_path):
    sound = stored("PNG")
    at = sound.rindex(b"IEND") - 4
    content = sound[:at] + chunk(b"eXIf", tiff_block(UPRIGHT)) + sound[at:]
    assert sizes(tmp_path / "photo", content) == (SIDEWAYS, SIDEWAYS)


BAD_TAGS = {
    "text far away": (0x131, 2, 100, struct.pack("<I", 60000)),
    "text of billions": (0x131, 2, 2**32 - 1, struct.pack("<I", 8)),
    "a type that does not exist": (0x131, 99, 1, bytes(4)),
    "a resolution of 0 / 0": (0x11A, 5, 1, struct.pack("<I", 0)),
    "a profile far away": (0x8773, 7, 100, struct.pack("<I", 60000)),
    "EXIF far away": (0x8769, 4, 1, struct.pack("<I", 60000)),
    "a place that is itself": (0x8825, 4, 1, struct.pack("<I", 8)),
}


@pytest.mark.parametrize("name", BAD_TAGS)
def test_a_damaged_tag_of_a_tiff_hides_neither_pixels_nor_orientation(tmp_path, name):
    h, w, _ = PIXELS.shape
    numbers = {
        0x100: w,
        0x101: h,
        0x102: 8,
        0x103: 1,
        0x106: 2,
        0x112: 6,
        0x115: 3,
        0x117: h * w * 3,
    }
    tags = [(tag, 3, 1, struct.pack("<I", number)) for tag, number in numbers.items()]
    start = len(tiff_block(*tags, UPRIGHT, UPRIGHT))
    tags += [(0x111, 4, 1, struct.pack("<I", start)), BAD_TAGS[name]]
    content = tiff_block(*sorted(tags)) + PIXELS.tobytes()
    assert sizes(tmp_path / "photo", content) == (SIDEWAYS, SIDEWAYS)


# --- orientation ----------------------------------------------------------------------------------

COMPRESSIONS = [("TIFF", {"compression": name}) for name in (None, "tiff_lzw", "jpeg")]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True}), *COMPRESSIONS]
)
def test_the_size_by_the_header_is_that_of_the_upright_pixels(tmp_path, kind, options, orientation):
    content = stored(kind, exif=exif(orientation), **options)
    expected = SIDEWAYS if orientation >= 5 else PIXELS.shape[:2]
    assert sizes(tmp_path / "photo", content) == (expected, expected)


# --- colour profiles ------------------------------------------------------------------------------


def s15(number):
    return struct.pack(">i", round(number * 65536))


def icc(space, tags):
    """A colour profile of version 2 for screens, of tags (name, content)."""
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags:
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += padded
    head = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + s15(0.9642) + s15(1) + s15(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def xyz(*values):
    return b"XYZ " + bytes(4) + b"".join(map(s15, values))


WHITE = (b"wtpt", xyz(0.9642, 1, 0.8249))
# Primaries for D50. Display P3's true curve is sRGB's; gamma 2.2 is close.
P3 = [(0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)]
WIDE = icc(
    b"RGB ",
    [
        WHITE,
        *(
            (name, xyz(*primary))
            for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3, strict=True)
        ),
        *((name, curve(2.2)) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ],
)
DARK_GREY = icc(b"GRAY", [WHITE, (b"kTRC", curve(1.0))])  # linear: mid grey is light
GREEN = (100, 170, 80)  # in P3; in sRGB 65, 171, 71 by the matrices


def flat(colour, dtype=np.uint8):
    return np.broadcast_to(np.array(colour, dtype=dtype), (8, 8, *np.shape(colour))).copy()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_wide_colours_become_srgb(tmp_path, kind):
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    (tmp_path / "photo").write_bytes(stored(kind, flat(GREEN), icc_profile=WIDE, **options))
    colour = load_image(tmp_path / "photo")[:, 4, 4] * 255
    linear = [(channel / 255) ** 2.2 for channel in GREEN]
    # From linear P3 to linear sRGB (W3C, CSS Color 4).
    rows = [(1.2249, -0.2247, 0), (-0.0420, 1.0419, 0), (-0.0197, -0.0786, 1.0979)]
    mixed = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows]
    expected = [255 * (1.055 * channel ** (1 / 2.4) - 0.055) for channel in mixed]
    np.testing.assert_allclose(colour, expected, atol=3)


@pytest.mark.parametrize(
    ("mode", "pixels"),
    [("P", flat(GREEN)), ("RGBA", flat((*GREEN, 255))), ("transparent", flat((*GREEN, 0)))],
)
def test_palettes_and_transparent_images_have_profiles_too(tmp_path, mode, pixels):
    image = Image.fromarray(pixels)
    image = image.quantize(4) if mode == "P" else image
    image.save(tmp_path / "photo.png", icc_profile=WIDE)
    Image.fromarray(flat(GREEN)).save(tmp_path / "plain.png", icc_profile=WIDE)
    expected = load_image(tmp_path / "plain.png")
    expected = torch.ones_like(expected) if mode == "transparent" else expected
    torch.testing.assert_close(load_image(tmp_path / "photo.png"), expected, atol=1e-6, rtol=0)
    assert expected[1, 0, 0] - expected[0, 0, 0] > 0.38 or mode == "transparent"


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_of_greys_is_used(tmp_path, mode):
    image = Image.fromarray(flat(128)).convert(mode)
    image.save(tmp_path / "grey.png", icc_profile=DARK_GREY)
    expected = 1.055 * (128 / 255) ** (1 / 2.4) - 0.055  # sRGB of half the light
    torch.testing.assert_close(
        load_image(tmp_path / "grey.png"), torch.full((3, 8, 8), expected), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    "profile",
    [b"no profile", WIDE[:200], WIDE[:60], b"\0" * 132, DARK_GREY],
    ids=["words", "cut short", "half a header", "zeros", "of greys, for colours"],
)
def test_a_profile_that_cannot_be_used_counts_as_absent(tmp_path, profile):
    Image.fromarray(PIXELS).save(tmp_path / "photo.png", icc_profile=profile)
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
    torch.testing.assert_close(load_image(tmp_path / "photo.png"), expected)


def test_a_profile_of_srgb_changes_colours_by_rounding_only(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(tmp_path / "photo.png", icc_profile=profile)
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
    torch.testing.assert_close(
        load_image(tmp_path / "photo.png"), expected, atol=1.01 / 255, rtol=0
    )


# --- lenses ---------------------------------------------------------------------------------------


def degrees(half_side, length):
    return 2 * math.degrees(math.atan(half_side / length))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "half_side"), [(1, 18.0), (3, 18.0), (6, 13.5), (8, 13.5)])
def test_the_field_of_view_is_that_of_the_focal_length_along_the_longer_side(
    tmp_path, kind, orientation, half_side
):
    pixels = np.zeros((30, 40, 3), np.uint8)
    (tmp_path / "photo").write_bytes(stored(kind, pixels, exif=exif(orientation, 26)))
    assert photo_fov(tmp_path / "photo") == pytest.approx(degrees(half_side, 26))


@pytest.mark.parametrize("length", [None, 0, 1, 65535, "26 mm"])
def test_an_absurd_focal_length_is_none(tmp_path, length):
    (tmp_path / "photo").write_bytes(stored("JPEG", exif=exif(1, length)))
    assert photo_fov(tmp_path / "photo") is None


def test_a_photo_without_exif_data_has_no_focal_length(tmp_path):
    (tmp_path / "photo").write_bytes(stored("JPEG"))
    assert photo_fov(tmp_path / "photo") is None
    with pytest.raises(ValueError, match="cannot read"):
        photo_fov(tmp_path / "missing")


# --- any damage -----------------------------------------------------------------------------------


def samples():
    """Small files of every kind, with metadata."""
    options = {"exif": exif(6, 26), "icc_profile": WIDE}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        yield kind.lower(), stored(kind, **options)
    yield "jpg", stored("JPEG", progressive=True, **options)
    yield "tif", stored("TIFF", compression="tiff_adobe_deflate", exif=exif(6))
    yield "gif", stored("GIF")
    yield "bmp", stored("BMP")
    yield "ppm", stored("PPM")
    yield "depth.png", stored("PNG", PIXELS[..., 0].astype(np.uint16))
    for suffix, save in (("npy", np.save), ("npz", np.savez), ("z.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, PIXELS[..., 0].astype(np.float32))
        yield suffix, buffer.getvalue()


SAMPLES = list(samples())


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_damaged_files_are_read_or_refused_by_name_and_nothing_else(tmp_path_factory, data):
    suffix, sound = data.draw(st.sampled_from(SAMPLES))
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    path.write_bytes(content)
    for read in (load_image, image_size, photo_fov, load_depth):
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
