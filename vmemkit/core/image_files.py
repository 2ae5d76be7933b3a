"""Image, depth and video files: read, check and write them.

In: paths of files that may come from anywhere. Out: tensors as camera.py defines them.
A file that cannot be read is always a ValueError that names it. A file is written beside its place
and moved there when it is complete, so that a failure never damages an older one.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn import functional

MAX_PIXELS = 64_000_000  # more than common cameras have; 0.8 GB as float32
DEPTH_UNIT = 0.001  # metres per step of a 16-bit depth image, as most depth cameras write them
RANGE_TOLERANCE = 1e-4  # values this far outside [0, 1] count as rounding errors
NPY_HEADER_BYTES = 4096  # the header of an array of numbers is shorter
JPEG_QUALITY = 95  # percent; WebP uses it, too
VIDEO_CRF = 18  # H.264 constant rate factor: visually lossless
MAX_FPS = 240.0  # frames per second

# Raster formats only: some other readers of Pillow start external programs.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
SAVED_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def load_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Float[Tensor, "3 h w"]:
    """An image file as RGB in [0, 1], turned upright by its EXIF tag, on white where transparent.

    Errors: ValueError for a file that is missing, damaged or no image, or that has more than
    `max_pixels` (its header is checked before anything is decoded).
    """
    with _open_image(path, IMAGE_FORMATS, max_pixels) as image:
        pixels = _rgb(ImageOps.exif_transpose(image))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def image_size(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) that `load_image` would give, from the file's header alone."""
    with _open_image(path, IMAGE_FORMATS, max_pixels) as image:
        width, height = image.size
        lies_on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (width, height) if lies_on_its_side else (height, width)


def load_depth(
    path: str | os.PathLike, unit: float | None = None, max_pixels: int = MAX_PIXELS
) -> Float[Tensor, "h w"]:
    """Planar depth in metres, from a 16-bit PNG or a .npy or .npz array; NaN where unknown.

    `unit` is in metres per step of the file: by default 0.001 for a PNG, 1 for an array. Values
    that are not positive and finite count as unknown. An .npz must hold one array, or one named
    `depth`. Errors: ValueError for an unreadable file, another shape or type, and for depth without
    a known pixel.
    """
    unit = default_depth_unit(path) if unit is None else unit
    _check_unit(unit)
    is_array = Path(path).suffix.lower() in (".npy", ".npz")
    steps = _array_values(path, max_pixels) if is_array else _png_values(path, max_pixels)
    metres = steps.astype(np.float64) * unit
    depth = torch.from_numpy(metres).float()
    depth = torch.where(depth.isfinite() & (depth > 0), depth, torch.nan)
    if bool(depth.isnan().all()):
        raise ValueError(
            f"cannot use the depth in {path}: no pixel has a positive finite value; check that it "
            f"is the depth file and that its unit is {unit} metres"
        )
    return depth


def default_depth_unit(path: str | os.PathLike) -> float:
    """Metres per step that a depth file has by convention: 1 for arrays, 0.001 for images."""
    return 1.0 if Path(path).suffix.lower() in (".npy", ".npz") else DEPTH_UNIT


def save_image(path: str | os.PathLike, image: Float[Tensor, "3 h w"]) -> None:
    """Write an RGB image in [0, 1] with 8 bits per channel, as PNG, JPEG or WebP by its suffix.

    Errors: ValueError for another suffix, values outside [0, 1], and a folder that does not exist.
    """
    if Path(path).suffix.lower() not in SAVED_SUFFIXES:
        raise ValueError(f"cannot save {path}: its name must end in one of {SAVED_SUFFIXES}")
    pixels = image_bytes(images_in_range(image[None]))[0]
    with replacing(path) as draft:
        Image.fromarray(pixels).save(draft, quality=JPEG_QUALITY)


def save_depth(
    path: str | os.PathLike, depth: Float[Tensor, "h w"], unit: float = DEPTH_UNIT
) -> None:
    """Write planar depth (metres; NaN = unknown) as a 16-bit PNG, in steps of `unit` metres.

    Errors: ValueError for a suffix other than .png, and for depth beyond 1 to 65,535 steps.
    """
    _check_unit(unit)
    if Path(path).suffix.lower() != ".png" or depth.ndim != 2 or depth.numel() == 0:
        raise ValueError(
            f"save_depth needs a .png and depth [h w], got {path} and {list(depth.shape)}"
        )
    steps = (depth.detach().cpu().double() / unit).round()
    known = steps[~steps.isnan()]
    if len(known) and not 1 <= known.min() <= known.max() <= 65535:
        raise ValueError(
            f"cannot save {path}: depth from {known.min() * unit:g} to {known.max() * unit:g} does "
            f"not fit 1 to 65535 steps of {unit}: choose another unit, or NaN for what is unknown"
        )
    pixels = steps.nan_to_num(0).numpy().astype(np.uint16)
    with replacing(path) as draft:
        Image.fromarray(pixels).save(draft)


def save_video(path: str | os.PathLike, images: Float[Tensor, "t 3 h w"], fps: float) -> None:
    """Write RGB images in [0, 1] as an H.264 .mp4 that browsers play (yuv420p, BT.709).

    The format needs even sizes: an odd one is made even by repeating the last row or column.
    Errors: ValueError for no images, values outside [0, 1], a bad frame rate or another suffix, and
    OSError if the encoder fails.
    """
    images = images_in_range(images)
    if len(images) == 0 or Path(path).suffix.lower() != ".mp4" or not 0 < fps <= MAX_FPS:
        raise ValueError(
            f"save_video needs an .mp4, at least one image and 0 < fps <= {MAX_FPS:g}, got {path}, "
            f"{len(images)} images and fps {fps}"
        )
    h, w = images.shape[-2:]
    padding = (0, w % 2, 0, h % 2)
    with replacing(path) as draft:
        command = _encoder_command(draft, h + h % 2, w + w % 2, fps)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
            for image in images:
                even = functional.pad(image[None], padding, mode="replicate")
                encoder.stdin.write(image_bytes(even).tobytes())
            _, log = encoder.communicate()
        if encoder.returncode != 0:
            raise OSError(f"the video encoder failed: {log.decode(errors='replace')[-500:]}")


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


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and not only in the cache."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders; it writes names at once
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _open_image(
    path: str | os.PathLike, formats: tuple[str, ...], max_pixels: int
) -> Iterator[Image.Image]:
    """An image file whose header is read and whose size is checked.

    Errors: ValueError that names the file, for any failure here or in the caller's block.
    """
    with warnings.catch_warnings():
        # Pillow warns of large sizes and odd tags. The size is checked here.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=formats) as image:
                check_size(image.height, image.width, max_pixels)
                yield image
        except Exception as error:
            raise ValueError(
                f"cannot read {path} (it needs to be a complete image, one of "
                f"{', '.join(formats)}): {error}"
            ) from error


def _encoder_command(path: Path, height: int, width: int, fps: float) -> list[str]:
    """The command that turns raw RGB frames at its standard input into an H.264 file."""
    try:
        import imageio_ffmpeg  # late: only writing videos needs it
    except ImportError as error:
        raise ValueError("videos need imageio-ffmpeg: pip install imageio-ffmpeg") from error

    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    # The colour matrix is named: players guess it from the size otherwise, and tint the colours.
    colours = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
    colours += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(VIDEO_CRF)]
    index_first = ["-movflags", "+faststart"]  # so that browsers can play while they load
    return [*program, *frames, "-i", "-", *colours, *h264, *index_first, str(path)]


def _rgb(image: Image.Image) -> Float[np.ndarray, "h w 3"]:
    """Pixels in [0, 1], float32, from an image in any of Pillow's modes."""
    if image.mode == "F" or image.mode.startswith("I"):  # these have one channel of 16 or 32 bits
        white = 1.0 if image.mode == "F" else 65535.0
        grey = np.asarray(image, dtype=np.float32)[..., None] / white
        if not 0 <= grey.min() <= grey.max() <= 1:
            raise ValueError("32-bit values exceed white: convert it to 8 or 16 bits per channel")
        return np.repeat(grey, 3, axis=-1)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"), dtype=np.float32) / 255
    pixels = np.array(image.convert("RGBA"), dtype=np.float32) / 255
    return pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:])


def _png_values(path: str | os.PathLike, max_pixels: int) -> Float64[np.ndarray, "h w"]:
    with _open_image(path, ("PNG",), max_pixels) as image:
        if not image.mode.startswith("I"):
            raise ValueError(f"depth images have one channel of 16 bits, got mode {image.mode}")
        return np.array(image, dtype=np.float64)


def _array_values(path: str | os.PathLike, max_pixels: int) -> Float64[np.ndarray, "h w"]:
    """The one array of a .npy or .npz. Errors: ValueError that names the file."""
    try:
        if Path(path).suffix.lower() == ".npz":
            array = _npz_member(path, max_pixels)
        else:  # mapped, not read: a false header is refused before its size is allocated
            array = np.lib.format.open_memmap(path, mode="r")
        if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
            array = array.squeeze(0 if array.shape[0] == 1 else 2)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise ValueError(f"got an array {list(array.shape)} of {array.dtype}")
        check_size(array.shape[0], array.shape[1], max_pixels)
        with np.errstate(invalid="ignore"):  # converting a signalling NaN would warn
            return np.array(array, dtype=np.float64)
    except Exception as error:
        raise ValueError(
            f"cannot read {path} (it needs to be a .npy or .npz of real numbers [h w]): {error}"
        ) from error


def _npz_member(path: str | os.PathLike, max_pixels: int) -> np.ndarray:
    """The array named `depth`, or the only one, of a zip archive of .npy files.

    The archive's own size of the array is checked before anything is unpacked.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1 and "depth.npy" not in names:
            raise ValueError(f"the archive holds {names[:9]}: name the array `depth`")
        entry = archive.getinfo(names[0] if len(names) == 1 else "depth.npy")
        if entry.file_size > max_pixels * 8 + NPY_HEADER_BYTES:
            raise ValueError(f"{entry.filename} has more than {max_pixels} pixels: make it smaller")
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def images_in_range(image: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 3 h w"]:
    """The images in float32, with rounding errors clamped. Errors: ValueError for other values."""
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
        raise ValueError(
            f"images need 1 to {max_pixels} pixels, got {width} x {height} (width x height): "
            "resize it, or give a larger max_pixels"
        )


def _check_unit(unit: float) -> None:
    if not (math.isfinite(unit) and unit > 0):
        raise ValueError(f"a depth unit is metres per step, positive and finite, got {unit}")
