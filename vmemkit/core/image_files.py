"""Image, depth and video files: read, check and write them.

In: paths of files that may come from anywhere. Out: tensors as camera.py defines them.
A file that cannot be read is always a ValueError that names it. A file is written beside its place
and moved there when it is complete, so that a failure never damages an older one.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import stat
import subprocess
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8, UInt16
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vmemkit.core.camera import SKY_FROM, horizontal_fov
from vmemkit.core.conversions import as_images, as_tensor
from vmemkit.core.data_files import names_in
from vmemkit.core.image_metadata import (
    JPEG_SCAN,
    JPEG_START,
    focal_length,
    in_srgb,
    jpeg_segments,
    orientation,
    with_less_metadata,
)

MAX_PIXELS = 200_000_000  # as the largest phone cameras have; 2.4 GB as float32
PIXEL_BYTES, METADATA_BYTES = 8, 2**26  # most that a pixel and all the rest take in a sane file
MAX_SCANS = 100  # a JPEG usually has up to 10, and each takes as long as a whole image
MAX_PLAIN_BYTES = 2**24  # a PPM that is written as text is read slowly
PPM_HEADER_BYTES = 4096  # the header of a PPM is shorter, with its comments
DEPTH_UNIT = 0.001  # metres per step of a 16-bit depth image, as most depth cameras write them
RANGE_TOLERANCE = 1e-4  # values this far outside [0, 1] count as rounding errors
MAX_STEP = 65534  # largest depth in 16 bits; 65535 means unknown, as 0 does, or sky
NPY_HEADER_BYTES = 4096  # the header of an array of numbers is shorter
ARRAYS = (".npy", ".npz")
FILM_WIDTH = 36.0  # mm: longer side of 35 mm film
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags
JPEG_QUALITY = 95  # percent; WebP uses it, too
VIDEO_CRF = 18  # H.264 constant rate factor: visually lossless
MAX_FPS = 240.0  # frames per second
ENCODER_WORDS = 500  # characters of what a failed encoder said last

# Raster formats only: some other readers of Pillow start external programs.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
SAVED_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


T = TypeVar("T")
ArrayFile = IO[bytes] | zipfile.ZipExtFile
_opening = threading.Lock()  # Pillow's limit of pixels is one for all threads


def load_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Float[Tensor, "3 h w"]:
    """An image file as sRGB in [0, 1], turned upright by its EXIF tag, on white where transparent.

    An embedded colour profile is applied. EXIF and profiles that cannot be read count as absent.
    Errors: ValueError for a file that is missing, damaged or no image, or that has more than
    `max_pixels` (its header is checked before anything is decoded).
    """
    pixels = _read_image(path, IMAGE_FORMATS, max_pixels, _upright_pixels).transpose(2, 0, 1)
    white = {"f": 1.0, "u": 255.0 if pixels.dtype == np.uint8 else 65535.0}[pixels.dtype.kind]
    image = np.empty((3, *pixels.shape[1:]), np.float32)
    np.divide(pixels, np.float32(white), out=image)
    return torch.from_numpy(image)


def image_size(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) that `load_image` would give, from the file's header alone."""
    return _read_image(path, IMAGE_FORMATS, max_pixels, _upright_size)


def image_orientation(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> int:
    """How an image file is turned to be shown, 1 to 8 as in EXIF; 1 is not at all, or no readable tag.

    Errors: ValueError as `image_size`.
    """
    return _read_image(path, IMAGE_FORMATS, max_pixels, orientation)


def photo_fov(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> float | None:
    """Horizontal field of view of an upright photo in degrees, by the focal length in its EXIF data.

    The longer side of the photo is that of 35 mm film, 36 mm. None where there is no focal length, or
    an absurd one. Errors: ValueError as `image_size`.
    """

    def read(image: Image.Image) -> float | None:
        length, (height, width) = focal_length(image), _upright_size(image)
        if length is None:
            return None
        along = 2 * math.degrees(math.atan(FILM_WIDTH / 2 / length))
        return horizontal_fov(along, width / height)

    return _read_image(path, IMAGE_FORMATS, max_pixels, read)


def load_depth(
    path: str | os.PathLike,
    unit: float | None = None,
    max_pixels: int = MAX_PIXELS,
    sky: bool = False,
) -> Float[Tensor, "h w"]:
    """Planar depth in metres, from a 16-bit PNG or a .npy or .npz array; NaN where unknown, infinity
    where nothing is met.

    `unit` is in metres per step of the file: by default 0.001 for a PNG and for an array of integers,
    1 for an array of floats. Values that are not positive are unknown; from 1e10 metres on they are
    sky. 65535 of 16 bits is unknown, as depth cameras write it, or sky with `sky=True`, as renderers
    do. An .npz must hold one array, or one named `depth`.
    Errors: ValueError for an unreadable file, another shape or type, and for depth without a known
    pixel.
    """
    if unit is not None:
        _check_unit(unit)
    is_array = Path(path).suffix.lower() in ARRAYS
    steps = _array_values(path, max_pixels) if is_array else _png_values(path, max_pixels)
    unit = _usual_unit(steps.dtype) if unit is None else unit
    metres = np.empty(steps.shape, np.float32)
    with np.errstate(all="ignore"):  # float32 may hold them as 0 or infinity
        np.multiply(steps, unit, out=metres, dtype=np.float64, casting="unsafe")
    far = metres >= SKY_FROM
    known = (metres > 0) & ~far
    if steps.dtype.kind == "u" and steps.dtype.itemsize == 2:
        saturated = steps > MAX_STEP
        known &= ~saturated
        far |= saturated & sky
    if not known.any():
        raise ValueError(
            f"cannot use the depth in {path}: no pixel has a positive finite value; check that it "
            f"is the depth file and that its unit is {unit} metres"
        )
    metres[~known] = np.where(far, np.inf, np.nan)[~known]
    return torch.from_numpy(metres)


def default_depth_unit(path: str | os.PathLike) -> float:
    """Metres per step that `load_depth` takes: 0.001 for images and integers, 1 for other arrays.

    Errors: ValueError for an array whose header cannot be read.
    """
    if Path(path).suffix.lower() not in ARRAYS:
        return DEPTH_UNIT
    return _read_array(path, MAX_PIXELS, lambda file, header: _usual_unit(header.dtype))


def save_image(path: str | os.PathLike, image: Float[Tensor, "3 h w"]) -> None:
    """Write an RGB image in [0, 1] with 8 bits per channel, as PNG, JPEG or WebP by its suffix.

    Errors: ValueError for another suffix, values outside [0, 1], and a folder that does not exist.
    """
    if Path(path).suffix.lower() not in SAVED_SUFFIXES:
        raise ValueError(f"cannot save {path}: its name must end in one of {SAVED_SUFFIXES}")
    pixels = image_bytes(images_in_range(as_images(image)[None]))[0]
    with replacing(path) as draft:
        Image.fromarray(pixels).save(draft, quality=JPEG_QUALITY)


def save_depth(
    path: str | os.PathLike, depth: Float[Tensor, "h w"], unit: float = DEPTH_UNIT
) -> None:
    """Write planar depth (metres; NaN = unknown) as a 16-bit PNG, in steps of `unit` metres.

    Errors: ValueError for a suffix other than .png, and for depth beyond 1 to 65,534 steps.
    """
    depth = as_tensor(depth, "depth")
    _check_unit(unit)
    if Path(path).suffix.lower() != ".png" or depth.ndim != 2 or depth.numel() == 0:
        raise ValueError(
            f"save_depth needs a .png and depth [h w], got {path} and {list(depth.shape)}"
        )
    steps = (depth.detach().cpu().double() / unit).round()
    known = steps[~steps.isnan()]
    if len(known) and not 1 <= known.min() <= known.max() <= MAX_STEP:
        raise ValueError(
            f"cannot save {path}: depth from {known.min() * unit:g} to {known.max() * unit:g} does "
            f"not fit 1 to {MAX_STEP} steps of {unit}: choose another unit, or NaN for what is unknown"
        )
    pixels = steps.nan_to_num(0).numpy().astype(np.uint16)
    with replacing(path) as draft:
        Image.fromarray(pixels).save(draft)


def save_video(path: str | os.PathLike, images: Float[Tensor, "t 3 h w"], fps: float) -> None:
    """Write RGB images in [0, 1] as an H.264 .mp4 that browsers play (yuv420p, BT.709).

    The format needs even sizes: an odd one is made even by repeating the last row or column.
    Errors: ValueError for no images, values outside [0, 1], a bad frame rate or another suffix, and
    without an encoder; OSError with the encoder's words if it fails.
    """
    images = images_in_range(images)
    if len(images) == 0 or Path(path).suffix.lower() != ".mp4" or not 0 < fps <= MAX_FPS:
        raise ValueError(
            f"save_video needs an .mp4, at least one image and 0 < fps <= {MAX_FPS:g}, got {path}, "
            f"{len(images)} images and fps {fps}"
        )
    h, w = images.shape[-2:]
    padding = (0, w % 2, 0, h % 2)
    # What the encoder says goes to a file, because a pipe that nobody reads would stop it.
    with replacing(path) as draft, tempfile.TemporaryFile() as log:
        command = _encoder_command(draft, h + h % 2, w + w % 2, fps)
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as encoder,
            suppress(BrokenPipeError),  # an encoder that ends early says why
            encoder.stdin as frames,
        ):
            for image in images:
                even = functional.pad(image[None], padding, mode="replicate")
                frames.write(image_bytes(even).tobytes())
        if encoder.returncode != 0 or not draft.is_file():
            log.seek(0)
            words = " ".join(log.read().decode(errors="replace").split())[-ENCODER_WORDS:]
            raise OSError(
                f"the video encoder {command[0]} failed with code {encoder.returncode}: "
                f"{words or 'it said nothing'}"
            )


def video_encoder() -> str:
    """The program that writes videos. Errors: ValueError that says how to get one."""
    try:
        import imageio_ffmpeg  # late: only writing videos needs it

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"videos need ffmpeg: pip install imageio-ffmpeg, or name one in IMAGEIO_FFMPEG_EXE ({error})"
        ) from error


def image_bytes(image: Float[Tensor, "t 3 h w"]) -> UInt8[np.ndarray, "t h w 3"]:
    """Images in [0, 1] as 8-bit pixels, rounded."""
    return (image.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary file to write; it replaces `path` when the block ends without an error.

    If the block raises, `path` stays unchanged. After a power cut, too, the old or the new file is
    there and whole. Errors: ValueError for a missing folder.
    """
    path = Path(path)
    if not os.path.isdir(path.parent) or os.path.isdir(path):
        raise ValueError(f"cannot write {path}: it needs to be a file in a folder that exists")
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        yield draft
        _to_disk(draft)
        os.replace(draft, path)
    _to_disk(path.parent)


@contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary folder to fill; it becomes `path` when the block ends without an error.

    So the folder appears complete or not at all. Errors: ValueError for a path that is a file, a folder
    with something in it, or without a folder to lie in.
    """
    path = Path(path)
    is_empty = path.is_dir() and not names_in(path)
    if not path.parent.is_dir() or (os.path.lexists(path) and not is_empty):
        raise ValueError(f"cannot write {path}: it needs to be a new folder in an existing one")
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as temporary:
        draft = Path(temporary) / "new"
        draft.mkdir()
        yield draft
        if path.exists():  # it is as good as empty, and renaming onto a folder is not portable
            os.replace(path, Path(temporary) / "replaced")
        os.replace(draft, path)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and not only in the cache."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders; it writes names at once
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _read_image(
    path: str | os.PathLike,
    formats: tuple[str, ...],
    max_pixels: int,
    read: Callable[[Image.Image], T],
) -> T:
    """What `read` gives for an image file, whose size is checked before anything is decoded.

    Where the file fails, its pixels are read without metadata. Errors: ValueError that names it.
    """
    reasons = []
    with warnings.catch_warnings():
        # Pillow warns of large sizes and odd tags. The size is checked here.
        warnings.simplefilter("ignore")
        try:
            for content in with_less_metadata(_image_bytes(path, max_pixels)):
                try:
                    with _opened(content, formats, max_pixels) as image:
                        return read(image)
                except Exception as error:  # Pillow has a dozen kinds for damaged files
                    reasons.append(str(error))
        except Exception as error:
            reasons.append(str(error))
    raise ValueError(
        f"cannot read {path} (it needs to be a complete image, one of {', '.join(formats)}): "
        f"{reasons[0]}"
    )


def _image_bytes(path: str | os.PathLike, max_pixels: int) -> bytes:
    """The bytes of an image file. Errors: ValueError for those that would take long to decode."""
    with _open_regular(path, max_pixels) as file:
        content = file.read()
    # Two bytes that look like a scan may also be chance, in a video behind the image.
    if content.startswith(JPEG_START) and content.count(JPEG_SCAN) > MAX_SCANS:
        scans = (1 for segment in jpeg_segments(content) if segment.startswith(JPEG_SCAN))
        if len(list(itertools.islice(scans, MAX_SCANS + 1))) > MAX_SCANS:
            raise ValueError(f"a JPEG may have {MAX_SCANS} scans, this one has more: save it anew")
    if content[:1] == b"P" and content[1:2] in b"123456":
        with Image.open(io.BytesIO(content[:PPM_HEADER_BYTES]), formats=["PPM"]):
            pass  # the reader of headers is slow: a comment without end is refused here
        if content[1:2] in b"123" and len(content) > MAX_PLAIN_BYTES:
            raise ValueError(
                f"a PPM that is text may have {MAX_PLAIN_BYTES} bytes, this one has {len(content)}: "
                "save it as PNG"
            )
    return content


def _open_regular(path: str | os.PathLike, max_pixels: int) -> BinaryIO:
    """An open file. Errors: ValueError for a pipe, a device or a folder, and for too many bytes."""
    found, most = os.stat(path), max_pixels * PIXEL_BYTES + METADATA_BYTES
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    if found.st_size > most:
        raise ValueError(f"{max_pixels} pixels need at most {most} bytes, got {found.st_size}")
    return open(path, "rb")


@contextmanager
def _opened(content: bytes, formats: tuple[str, ...], max_pixels: int) -> Iterator[Image.Image]:
    """An image whose header is read and whose size is checked."""
    with _opening:
        # Some readers allocate memory as they open. Pillow refuses twice its limit before that.
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, (max_pixels + 1) // 2
        try:
            image = Image.open(io.BytesIO(content), formats=formats)
        except Image.DecompressionBombError as error:
            raise ValueError(_wrong_size(max_pixels, "got more")) from error
        except Image.UnidentifiedImageError as error:
            raise ValueError("it is none of them, or its header is damaged") from error
        finally:
            Image.MAX_IMAGE_PIXELS = usual
    with image:
        check_size(image.height, image.width, max_pixels)
        yield image


def _encoder_command(path: Path, height: int, width: int, fps: float) -> list[str]:
    """The command that turns raw RGB frames at its standard input into an H.264 file."""
    program = [video_encoder(), "-y", "-loglevel", "error"]
    frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    # The colour matrix is named: players guess it from the size otherwise, and tint the colours.
    colours = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
    colours += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(VIDEO_CRF)]
    index_first = ["-movflags", "+faststart"]  # so that browsers can play while they load
    # An absolute path, because the encoder takes others with a colon for addresses.
    return [*program, *frames, "-i", "-", *colours, *h264, *index_first, os.path.abspath(path)]


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an open image after it is turned by its EXIF tag."""
    width, height = image.size
    if image.format == "TIFF":  # `size` may be that of the upright image
        width, height = (image.getexif()[tag] for tag in (TIFF_WIDTH, TIFF_HEIGHT))
    return (width, height) if orientation(image) >= 5 else (height, width)


def _upright_pixels(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    """Pixels of an open image, turned by its EXIF tag."""
    turn = orientation(image)
    image.load()
    pixels = _pixels(image)
    if image.format == "TIFF":
        return pixels  # turned by Pillow
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if turn in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if turn in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]


def _pixels(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    """Grey or sRGB pixels from an image in any of Pillow's modes: 8 or 16 bits, or float32 in [0, 1]."""
    if image.mode == "F" or image.mode.startswith("I"):  # these have one channel of 16 or 32 bits
        grey = np.asarray(image)[..., None]
        white = 1 if image.mode == "F" else 65535
        if not 0 <= grey.min() <= grey.max() <= white:
            raise ValueError("32-bit values exceed white: convert it to 8 or 16 bits per channel")
        return grey if image.mode == "F" else grey.astype(np.uint16)
    if not image.has_transparency_data:
        return np.asarray(in_srgb(image))
    if image.mode != "LA":  # a colour may be transparent, as a palette's
        image = image.convert("RGBA")
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(in_srgb(image), mask=image.getchannel("A"))
    return np.asarray(on_white)


def _png_values(path: str | os.PathLike, max_pixels: int) -> UInt16[np.ndarray, "h w"]:
    def read(image: Image.Image) -> UInt16[np.ndarray, "h w"]:
        if not image.mode.startswith("I"):
            raise ValueError(f"depth images have one channel of 16 bits, got mode {image.mode}")
        return np.asarray(image).astype(np.uint16)

    return _read_image(path, ("PNG",), max_pixels, read)


@dataclass(frozen=True)
class _ArrayHeader:
    """What stands before the numbers of an array's file."""

    shape: tuple[int, int]  # (h, w), without an axis of one channel
    column_major: bool
    dtype: np.dtype


def _array_values(path: str | os.PathLike, max_pixels: int) -> Shaped[np.ndarray, "h w"]:
    """The one array of a .npy or .npz. Errors: ValueError that names the file."""

    def read(file: ArrayFile, header: _ArrayHeader) -> Shaped[np.ndarray, "h w"]:
        count = math.prod(header.shape)
        content = file.read(count * header.dtype.itemsize)
        array = np.frombuffer(content, header.dtype, count)
        return array.reshape(header.shape, order="F" if header.column_major else "C")

    return _read_array(path, max_pixels, read)


def _read_array(
    path: str | os.PathLike, max_pixels: int, read: Callable[[ArrayFile, _ArrayHeader], T]
) -> T:
    """What `read` gives for a file of one array [h w], open after its header, which is checked.

    Errors: ValueError that names the file.
    """
    try:
        with _open_regular(path, max_pixels) as file:
            if Path(path).suffix.lower() == ".npy":
                return read(file, _array_header(file, max_pixels))
            with zipfile.ZipFile(file) as archive, archive.open(_depth_entry(archive)) as member:
                return read(member, _array_header(member, max_pixels))
    except Exception as error:  # zipfile and its decompressors have half a dozen kinds
        raise ValueError(
            f"cannot read {path} (it needs to be a .npy or .npz of real numbers [h w]): {error}"
        ) from error


def npy_header(file: ArrayFile) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type of the array in an open .npy, read up to its numbers.

    Errors: ValueError for what is no .npy, and for kinds that hold other things than numbers.
    """
    start = io.BytesIO(file.read(NPY_HEADER_BYTES))
    version = np.lib.format.read_magic(start)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its format is {version}, not one for numbers")
    shape, column_major, dtype = readers[version](start)
    if dtype.kind not in "fiu" or min(shape, default=0) < 0:
        raise ValueError(f"got an array {list(shape)} of {dtype}")
    file.seek(start.tell())
    return shape, column_major, dtype


def _array_header(file: ArrayFile, max_pixels: int) -> _ArrayHeader:
    """The header of an array [h w], also with an axis of one channel. Errors: ValueError."""
    shape, column_major, dtype = npy_header(file)
    if len(shape) == 3 and 1 in (shape[0], shape[2]):
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    if len(shape) != 2:
        raise ValueError(f"got an array {list(shape)} of {dtype}")
    check_size(shape[0], shape[1], max_pixels)
    return _ArrayHeader(shape, column_major, dtype)


def _depth_entry(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The array named `depth`, or the only one, of a zip archive of .npy files."""
    names = archive.namelist()
    if len(names) != 1 and "depth.npy" not in names:
        raise ValueError(f"the archive holds {names[:9]}: name the array `depth`")
    entry = archive.getinfo(names[0] if len(names) == 1 else "depth.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed in a way that numpy does not use")
    return entry


def images_in_range(image: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 3 h w"]:
    """The images in float32, with rounding errors clamped; of arrays and Pillow images, too.

    Errors: ValueError for other values.
    """
    image = as_images(image)
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(
            f"images must be float [t 3 h w] in [0, 1], got {image.dtype} {list(image.shape)}"
        )
    if 0 in image.shape[-2:]:
        raise ValueError(f"images need at least one pixel, got [t 3 h w] = {list(image.shape)}")
    if len(image) and not -RANGE_TOLERANCE <= image.amin() <= image.amax() <= 1 + RANGE_TOLERANCE:
        raise ValueError(
            f"images must be finite in [0, 1], got {image.amin():g} to {image.amax():g}: divide "
            "8-bit values by 255, or clamp them"
        )
    return image.float().clamp(0, 1)


def check_size(height: int, width: int, max_pixels: int = MAX_PIXELS) -> None:
    """Errors: ValueError for an image without pixels or with more than `max_pixels`."""
    if height < 1 or width < 1 or height * width > max_pixels:
        raise ValueError(_wrong_size(max_pixels, f"got {width} x {height} (width x height)"))


def _wrong_size(max_pixels: int, got: str) -> str:
    return f"images need 1 to {max_pixels} pixels, {got}: resize it, or give a larger max_pixels"


def _usual_unit(dtype: np.dtype) -> float:
    """Metres per step of depth: integers are millimetres, floats metres."""
    return DEPTH_UNIT if dtype.kind in "iu" else 1.0


def _check_unit(unit: float) -> None:
    if not (math.isfinite(unit) and unit > 0):
        raise ValueError(f"a depth unit is metres per step, positive and finite, got {unit}")
