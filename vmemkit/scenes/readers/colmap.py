"""Models of COLMAP, binary and text: cameras, poses and points.

In: a folder. Out: a `Source`. The files are read as streams, because the 2-D points of an image, which
nobody here needs, are most of them. COLMAP counts pixels from the image's corner and looks along z with
y down, as this package does; only its world-to-camera poses are inverted.
Source: colmap.github.io/format.html and colmap.github.io/cameras.html (models and their numbers).
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import MAX_DISTANCE, MAX_PIXELS, cameras
from vmemkit.scenes.file_names import FolderFiles
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    finite,
    inner_file,
    missing_files,
    natural_key,
    number,
    pose_from_quaternion,
    says_something,
    unit_intrinsics,
)
from vmemkit.scenes.readers.lenses import COLMAP_MODELS, Distortion, distortion
from vmemkit.scenes.readers.source import ARBITRARY, Source

PARTS = ("cameras", "images")  # the files of a model; points3D may be missing
# Where a model lies in the folder of a scene.
MODELS = ("", "sparse/0", "sparse", "colmap/sparse/0")
MAX_BYTES = 4_000_000_000  # of a file: it is read as a stream
MAX_POINTS = 5_000_000
MAX_NAME = 1000  # bytes of an image's name
MAX_LINE = 100_000_000  # characters
# COLMAP's models by their numbers in binary files; those that are not in COLMAP_MODELS are refused.
MODEL_NUMBERS = (
    *("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"),
    *("FULL_OPENCV", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"),
    *("RAD_TAN_THIN_PRISM_FISHEYE", "SIMPLE_DIVISION", "DIVISION", "SIMPLE_FISHEYE", "FISHEYE"),
    *("EUCM", "EQUIRECTANGULAR"),
)
PARAMETERS = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12, 16, 4, 5, 3, 4, 6, 2)  # of each of them


@dataclass(frozen=True)
class _Camera:
    size: tuple[int, int]  # (height, width)
    K: list[list[float]]  # for a 1 x 1 image
    distortion: Distortion | None


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    world_from_cam: Any  # float64 [4, 4]


def find_model(folder: Path) -> Path | None:
    """The folder of the model in the folder of a scene, or itself; None if there is none."""
    for place in MODELS:
        if _suffix(folder / place) is not None:
            return folder / place
    return None


def colmap_source(path: Path) -> Source:
    """The model in a folder, with its images, in the order of their names.

    Errors: ValueError naming file and place for whatever is missing, malformed or not known.
    """
    model = find_model(path)
    if model is None:
        raise ValueError(
            f"{path} has no COLMAP model: cameras and images, .bin or .txt, in {', '.join(MODELS[1:])} "
            "or the folder itself"
        )
    suffix = _suffix(model)
    cameras_file, images_file = (inner_file(model, f"{part}{suffix}") for part in PARTS)
    if suffix == ".bin":
        known, images = _binary_cameras(cameras_file), _binary_images(images_file)
    else:
        known, images = _text_cameras(cameras_file), _text_images(images_file)
    images = sorted(images, key=lambda image: natural_key(image.name))
    if not 1 <= len(images) <= MAX_CAMERAS:
        raise ValueError(f"{model} needs 1 to {MAX_CAMERAS} images with poses, got {len(images)}")
    unknown = sorted({image.camera for image in images} - known.keys())
    if unknown:
        raise ValueError(f"{model}: images name cameras that are not there: {unknown[:20]}")
    lenses = [known[image.camera] for image in images]
    files, notes = _image_files(model, [image.name for image in images])
    if model.parent.name == "sparse":
        count = sum(_suffix(other) is not None for other in model.parent.iterdir())
        if count > 1:
            notes.append(f"of {count} models, {model.name} was taken: give another's folder")
    points = _points(inner_file(model, f"points3D{suffix}"))
    if points is not None and len(points) >= MAX_POINTS:
        notes.append(f"only the first {MAX_POINTS} points were read")
    return Source(
        what=f"COLMAP model, {'binary' if suffix == '.bin' else 'text'}",
        cameras=cameras(
            torch.from_numpy(np.array([image.world_from_cam for image in images])),
            torch.tensor([lens.K for lens in lenses], dtype=torch.float64),
        ),
        sizes=tuple(lens.size for lens in lenses),
        images=files,
        names=tuple(image.name for image in images),
        distortions=tuple(lens.distortion for lens in lenses),
        points=points,
        scale=f"{ARBITRARY}, as COLMAP's are unless it was told a scale",
        notes=("world-to-camera poses were inverted", *notes),
    )


def _suffix(folder: Path) -> str | None:
    """Whether a model is there, binary before text, as COLMAP prefers it."""
    for suffix in (".bin", ".txt"):
        if all(os.path.isfile(folder / f"{part}{suffix}") for part in PARTS):
            return suffix
    return None


def _image_files(model: Path, names: list[str]) -> tuple[tuple[Path, ...], list[str]]:
    """The images of these names, which lie in `images` beside the model, or beside its files."""
    scene = model.parent if model.name.isdigit() and model.parent.name == "sparse" else model
    scene = scene.parent if scene.name == "sparse" else scene
    places = [scene / "images", scene, model]
    if scene.name == "colmap":  # as nerfstudio lays it out
        places.insert(1, scene.parent / "images")
    misses: list[tuple[str, ValueError]] = []
    for folder in places:
        if not folder.is_dir():
            continue
        files, found, missed = FolderFiles(folder), [], []
        for name in names:
            try:
                found.append(files.find(name, f"{model}: the image {name[:60]!r}"))
            except ValueError as error:
                missed.append((repr(name[:60]), error))
        if not missed:
            return tuple(found), []
        if found or folder.name == "images":
            misses = misses or missed
    if misses:
        raise missing_files(misses)
    return (), [f"there is no folder {scene / 'images'}, so there are cameras and no images"]


def _camera(model: str, width: int, height: int, values: list[float], where: str) -> _Camera:
    """A camera. Errors: ValueError for a model that cannot be undone, and for absurd numbers."""
    if model not in COLMAP_MODELS:
        raise ValueError(
            f"{where} has the lens model {model[:40]!r}, which is not one of "
            f"{', '.join(COLMAP_MODELS)}: undistort with `colmap image_undistorter`"
        )
    focals, names, fisheye = COLMAP_MODELS[model]
    if len(values) != focals + 2 + len(names):
        raise ValueError(
            f"{where}: {model} has {focals + 2 + len(names)} parameters, got {len(values)}"
        )
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"{where}: images have 1 to {MAX_PIXELS} pixels, got {width} x {height}")
    values = [finite(value, where) for value in values]
    fx, fy, cx, cy = values[0], values[focals - 1], values[focals], values[focals + 1]
    bent = distortion(fisheye, **dict(zip(names, values[focals + 2 :], strict=True)))
    size = (height, width)
    return _Camera(size, unit_intrinsics(fx, fy, cx, cy, size, where), bent)


def _image(values: list[float], camera: int, name: str, where: str) -> _Image:
    """An image of a quaternion (w, x, y, z) and a translation, world to camera."""
    w, x, y, z, *translation = (finite(value, where) for value in values)
    pose = pose_from_quaternion((x, y, z, w), translation, where)
    return _Image(name, camera, np.linalg.inv(pose))


@contextmanager
def _stream(file: Path) -> Iterator[IO[bytes]]:
    """An open regular file. Errors: ValueError that names it, also for those of what is done with it."""
    try:
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            raise ValueError(f"it must be an existing file of at most {MAX_BYTES} bytes")
        with open(file, "rb") as stream:
            yield stream
    except (OSError, struct.error, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"cannot read {file}: it is cut short or damaged: {error}") from error


# ---- binary --------------------------------------------------------------------------------------


def _take(stream: IO[bytes], layout: str) -> tuple[Any, ...]:
    """The next values, little-endian. Errors: struct.error at the end of the file."""
    return struct.unpack(f"<{layout}", stream.read(struct.calcsize(f"<{layout}")))


def _skip(stream: IO[bytes], count: int, size: int, end: int) -> None:
    """Errors: EOFError for a file that does not hold so many items."""
    if count * size > end - stream.tell():
        raise EOFError(f"{count} items do not fit")
    stream.seek(count * size, os.SEEK_CUR)


def _binary_cameras(file: Path) -> dict[int, _Camera]:
    known: dict[int, _Camera] = {}
    with _stream(file) as stream:
        (count,) = _take(stream, "Q")
        for i in range(min(count, MAX_CAMERAS + 1)):
            where = f"{file}, camera {i}"
            key, model, width, height = _take(stream, "iiQQ")
            if not 0 <= model < len(MODEL_NUMBERS):
                raise ValueError(f"{where} has the unknown lens model {model}")
            values = _take(stream, f"{PARAMETERS[model]}d")
            known[key] = _camera(MODEL_NUMBERS[model], width, height, list(values), where)
    return known


def _binary_images(file: Path) -> list[_Image]:
    images: list[_Image] = []
    with _stream(file) as stream:
        end = os.fstat(stream.fileno()).st_size
        (count,) = _take(stream, "Q")
        for i in range(min(count, MAX_CAMERAS + 1)):
            where = f"{file}, image {i}"
            values = _take(stream, "i7di")
            start = stream.tell()
            name = stream.read(MAX_NAME).partition(b"\0")
            if not name[1]:
                raise ValueError(f"{where}: a name of at most {MAX_NAME} bytes is needed")
            stream.seek(start + len(name[0]) + 1)
            _skip(stream, _take(stream, "Q")[0], 24, end)
            images.append(_image(list(values[1:8]), values[8], name[0].decode(), where))
    return images


def _binary_points(file: Path) -> array[float]:
    points = array("d")
    with _stream(file) as stream:
        end = os.fstat(stream.fileno()).st_size
        (count,) = _take(stream, "Q")
        for _ in range(min(count, MAX_POINTS)):
            points.extend(_take(stream, "Q3d3Bd")[1:4])
            _skip(stream, _take(stream, "Q")[0], 8, end)
    return points


# ---- text ----------------------------------------------------------------------------------------


def _lines(stream: IO[bytes], file: Path) -> Iterator[tuple[str, str]]:
    """Every line with its place, for messages. Errors: ValueError for an endless one."""
    for i in range(1, MAX_BYTES):
        line = stream.readline(MAX_LINE)
        if not line:
            return
        if len(line) == MAX_LINE:
            raise ValueError(f"{file}, line {i} has more than {MAX_LINE} characters")
        yield f"{file}, line {i}", line.decode("utf-8-sig" if i == 1 else "utf-8").strip()


def _words(line: str, count: int, where: str) -> list[str]:
    words = line.split(maxsplit=count - 1)
    if len(words) < count:
        raise ValueError(f"{where} needs {count} values, got {len(words)}")
    return words


def _whole(word: str, where: str) -> int:
    value = number(word, where)
    if value != int(value):
        raise ValueError(f"{where} needs a whole number, got {word[:60]!r}")
    return int(value)


def _text_cameras(file: Path) -> dict[int, _Camera]:
    known: dict[int, _Camera] = {}
    with _stream(file) as stream:
        for where, line in _lines(stream, file):
            if says_something(line) and len(known) <= MAX_CAMERAS:
                key, model, width, height, rest = _words(line, 5, where)
                values = [number(word, where) for word in rest.split(maxsplit=20)]
                size = (_whole(width, where), _whole(height, where))
                known[_whole(key, where)] = _camera(model, *size, values, where)
    return known


def _text_images(file: Path) -> list[_Image]:
    """Each image has two lines: its pose, and its 2-D points, which may be none."""
    images: list[_Image] = []
    with _stream(file) as stream:
        lines = _lines(stream, file)
        for where, line in lines:
            if not says_something(line) or len(images) > MAX_CAMERAS:
                continue
            words = _words(line, 10, where)
            values = [number(word, where) for word in words[1:8]]
            images.append(_image(values, _whole(words[8], where), words[9], where))
            _check_points(*next(lines, (where, "")))
    return images


def _check_points(where: str, line: str) -> None:
    """Errors: ValueError for the pose of the next image where the 2-D points of one should be."""
    words = line.split(maxsplit=9)
    if len(words) < 10:
        return
    try:
        float(words[9].split(maxsplit=1)[0])
    except ValueError:
        raise ValueError(
            f"{where} must be the 2-D points of the image of the line before: leave a line empty there"
        ) from None


def _text_points(file: Path) -> array[float]:
    points = array("d")
    with _stream(file) as stream:
        for where, line in _lines(stream, file):
            if says_something(line) and len(points) < 3 * MAX_POINTS:
                points.extend(number(word, where) for word in _words(line, 5, where)[1:4])
    return points


def _points(file: Path) -> Float[Tensor, "n 3"] | None:
    """The points of a model, None if it has no file of them. Errors: ValueError as other files."""
    read: Callable[[Path], array[float]]
    read = _binary_points if file.suffix == ".bin" else _text_points
    if not os.path.isfile(file):
        return None
    points = np.array(read(file)).reshape(-1, 3)
    return torch.from_numpy(points[(np.abs(points) <= MAX_DISTANCE).all(1)]).float()
