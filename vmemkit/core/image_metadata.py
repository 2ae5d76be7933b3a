"""What an image file holds beside its pixels: orientation, colour profile, focal length.

In: an open image, or a file's bytes. Out: values, colours in sRGB, and copies of the file without
metadata. Metadata that cannot be read counts as absent, because sound pixels do not depend on it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from PIL import ExifTags, Image, ImageCms

FOCAL_LENGTHS = (4.0, 3000.0)  # mm on 35 mm film: shorter and longer ones are mistakes

PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
PNG_USED = (b"eXIf", b"iCCP")  # chunks of the metadata that are used
PNG_METADATA = (*PNG_USED, b"tEXt", b"zTXt", b"iTXt")  # texts may hold EXIF, too
# A marker of a JPEG: 0xFF and its number. 0 and the restarts, 0xD0 to 0xD7, are part of the pixels.
JPEG_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd9-\xfe])")
JPEG_SCAN, JPEG_END = b"\xff\xda", 0xD9
JPEG_METADATA = (*range(0xE0, 0xF0), 0xFE)  # application's segments and comments
JPEG_COLOURS = ((b"JFIF\0", 14), (b"Adobe", 12))  # segments that tell RGB from YCbCr; their bytes
JPEG_USED = (b"Exif\0\0", b"ICC_PROFILE\0")  # segments of the metadata that are used


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none."""
    try:
        # The PNG reader's own getexif decodes the pixels to look behind them.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # whatever Pillow raises for bytes that are no EXIF
        return 1
    return next((number for number in range(2, 9) if value == number), 1)


def focal_length(image: Image.Image) -> float | None:
    """EXIF's focal length in mm on 35 mm film, None where there is none or an absurd one."""
    try:
        lens = Image.Image.getexif(image).get_ifd(ExifTags.IFD.Exif)
        length = float(lens[ExifTags.Base.FocalLengthIn35mmFilm])
    except Exception:  # no such tag, or bytes that are no EXIF
        return None
    return length if FOCAL_LENGTHS[0] <= length <= FOCAL_LENGTHS[1] else None


def in_srgb(image: Image.Image) -> Image.Image:
    """The colours in sRGB, mode RGB, by the embedded profile where there is a usable one."""
    colours = {"1": "L", "L": "L", "LA": "L", "I;16": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    transform = _to_srgb(image.info.get("icc_profile"), colours)
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    return transform.apply(image if image.mode == colours else image.convert(colours))


def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of a profile for pixels of `mode`; None for none, or one of other colours."""
    if not profile:
        return None
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        return ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def with_less_metadata(content: bytes) -> Iterator[bytes]:
    """An image file's bytes, then copies of a PNG or JPEG with less and less metadata.

    First what is used, EXIF and colour profile, is kept; at last nothing. In a PNG it is put before
    the pixels, so that it can be read without them.
    """
    if content.startswith(PNG_START):
        chunks = sorted(_png_chunks(content), key=lambda chunk: _place(chunk[0]))
        yield PNG_START + b"".join(chunk for _, chunk in chunks)
        for used in (PNG_USED, PNG_USED[:1], ()):
            yield PNG_START + b"".join(
                chunk
                for name, chunk in chunks
                if name[:1].isupper() or name == b"tRNS" or name in used
            )
        return
    yield content
    if content.startswith(JPEG_START):
        segments = list(jpeg_segments(content))
        for used in (JPEG_USED, ()):
            yield JPEG_START + b"".join(part for part in segments if _is_needed(part, used))


def jpeg_segments(content: bytes) -> Iterator[bytes]:
    """The segments of a JPEG, from each marker to the next one, up to its end."""
    found = JPEG_MARKER.search(content, len(JPEG_START))
    while found is not None and found[1][0] != JPEG_END:
        length = int.from_bytes(content[found.end() : found.end() + 2], "big")
        following = JPEG_MARKER.search(content, found.end() + length)
        end = len(content) if following is None else following.start()
        yield content[found.end() - 2 : end]
        found = following
    if found is not None:
        yield found[0]


def _is_needed(segment: bytes, used: tuple[bytes, ...]) -> bool:
    """Whether a segment of a JPEG is part of the pixels, says how to read them, or is in `used`."""
    if segment[1] not in JPEG_METADATA:
        return True
    body = segment[4:]  # after the marker and the length
    return body.startswith(used) or any(
        body.startswith(name) and len(body) >= length for name, length in JPEG_COLOURS
    )


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, bytes) of the chunks of a PNG up to its end. The names of critical ones are in capitals."""
    at, name = len(PNG_START), b""
    while at < len(content) and name != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        name = content[at + 4 : at + 8]
        yield name, content[at:end]
        at = end


def _place(name: bytes) -> int:
    """Where a chunk of a PNG goes: its header, its metadata, the rest."""
    return 0 if name == b"IHDR" else 1 if name in PNG_METADATA else 2
