"""Checks that all readers share: texts, numbers, rotations, lenses, and the order of frames.

In: what files hold, which may come from anywhere. Out: checked values, or a ValueError that says where
the wrong one is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vmemkit.core import Cameras, check_cameras

MAX_CAMERAS = 30_000  # in one path or file: a thousand seconds of video
MAX_FILE_BYTES = 40_000_000  # that many frames of a transforms.json with long file names
MAX_NUMBER = 1e9  # beyond it float32 cannot tell neighbouring positions or pixels apart
HUGE = 10**18  # integers beyond it are not shown
MAX_LISTED = 100  # missing files in one message
# Largest entry of |R^T R - 1|: what rounding to three decimals makes, and what coarser rounding can.
ROUNDED, COARSELY_ROUNDED = 2e-3, 5e-2
# Focal lengths as shares of the image: fields of view from 2 to 169 degrees.
MIN_FOCAL, MAX_FOCAL = 0.05, 30.0
MAX_CENTRE = 30.0  # of a principal point, in images: beyond it the share must be a pixel
# Camera axes by name: the signs that turn their x, y and z into OpenCV's.
CONVENTIONS = {"opengl": (1.0, -1.0, -1.0, 1.0), "opencv": (1.0, 1.0, 1.0, 1.0)}


def check_path(cameras: Cameras, least: int = 1) -> Cameras:
    """The same cameras, if they are a path (t,) of `least` to 30,000. Errors: ValueError if not."""
    shape = check_cameras(cameras).world_from_cam.shape[:-2]
    if len(shape) != 1 or not least <= shape[0] <= MAX_CAMERAS:
        raise ValueError(
            f"need a path (t,) of {least} to {MAX_CAMERAS} cameras, got shape {list(shape)}"
        )
    return cameras


def check_writable(cameras: Cameras) -> None:
    """Errors: ValueError for cameras that are no path, or have a skew."""
    skew = check_path(cameras).K[:, [0, 1], [1, 0]]
    if bool((skew.abs() > 1e-6).any()):
        raise ValueError(
            "the format has focal lengths and principal point, but no skew: got skew in K"
        )


def axis_signs(convention: str) -> Float64[np.ndarray, 4]:
    """The factors of a pose's columns that turn its camera axes into OpenCV's. Errors: ValueError."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {list(CONVENTIONS)}, got {convention!r}")
    return np.array(CONVENTIONS[convention])


# ---- files ---------------------------------------------------------------------------------------


def inner_file(folder: Path, name: str) -> Path:
    """A file of a folder. Errors: ValueError for a link that leads out of it, as a foreign folder may
    have one."""
    file = folder / name
    try:
        leads_out = not file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a circle of links
        raise ValueError(f"cannot read {file}: {error}") from error
    if leads_out:
        raise ValueError(f"{file} is a link that leads out of {folder}: put the file itself there")
    return file


def read_bytes(file: Path, most: int = MAX_FILE_BYTES) -> bytes:
    """The content of a regular file. Errors: ValueError that names it."""
    try:
        if not file.is_file() or file.stat().st_size > most:
            raise ValueError(f"it must be an existing file of at most {most} bytes")
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError also for a name with a zero byte
        raise ValueError(f"cannot read {file}: {error}") from error


def read_text(file: Path, most: int = MAX_FILE_BYTES) -> str:
    """The content of a regular file of text. Errors: ValueError that names it."""
    try:
        return read_bytes(file, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {file}: a text file in UTF-8 is needed: {error}") from error


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file of JSON. Errors: ValueError that names the file."""
    text = read_text(file)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for numbers of 5000 digits
        raise ValueError(f"{file} must be a JSON object, but is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} must be a JSON object, got {type(data).__name__}")
    return data


def lines_of(file: Path, most: int = MAX_FILE_BYTES) -> list[tuple[str, list[str]]]:
    """The words of each line that is neither empty nor a comment (#), with its place for messages."""
    lines = enumerate(read_text(file, most).splitlines(), 1)
    return [(f"{file}, line {i}", words.split()) for i, words in lines if says_something(words)]


def says_something(line: str) -> bool:
    """Whether a line of text is neither empty nor a comment."""
    line = line.strip()
    return bool(line) and not line.startswith("#")


def missing_files(misses: Sequence[tuple[str, ValueError]]) -> ValueError:
    """The error for names of which `FolderFiles` found no file: the first reason, then all names."""
    names, first = [name for name, _ in misses], str(misses[0][1])
    if len(names) == 1:
        return ValueError(first)
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return ValueError(f"{first}. In all, {len(names)} files are missing: {listed}")


# ---- numbers -------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def shown(value: Any) -> str:
    """A value from a file, as messages show it: short, however large or deep it is."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > HUGE:
        return "an enormous integer"
    return repr(value[:60] if isinstance(value, str) else value)


def finite(value: Any, name: str) -> float:
    """A number of JSON, at most MAX_NUMBER. Errors: ValueError that begins with `name`."""
    if not is_number(value) or not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{name} must be a number within {MAX_NUMBER:g}, got {shown(value)}")
    return float(value)


def positive(value: Any, name: str) -> float:
    """As `finite`, above 0."""
    number = finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def pixels(value: Any, name: str) -> int:
    """A side of an image: a whole number above 0. Errors: ValueError that begins with `name`."""
    number = positive(value, name)
    if number != int(number):
        raise ValueError(f"{name} must be a whole number of pixels, got {number}")
    return int(number)


def number(word: str, where: str) -> float:
    """The number that a word of a text is. Errors: ValueError that begins with `where`."""
    try:
        return finite(float(word), where)
    except ValueError as error:
        raise ValueError(f"{where} needs finite numbers, got {word[:60]!r}") from error


def are_numbers(words: Sequence[str], count: int) -> bool:
    """Whether words are so many numbers, as a line of a text may be."""
    try:
        return len(words) == count and all(float(word) is not None for word in words)
    except ValueError:
        return False


def numbers(values: Any, count: int, name: str) -> list[float]:
    """A list of so many numbers of JSON. Errors: ValueError that begins with `name`."""
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} must be a list of {count} numbers, got {shown(values)}")
    return [finite(value, name) for value in values]


# ---- geometry ------------------------------------------------------------------------------------


def rigid(poses: Float64[np.ndarray, "t 4 4"], where: list[str]) -> Float64[np.ndarray, "t 4 4"]:
    """The poses with the nearest rotations, if rounding explains the difference.

    Errors: ValueError naming the first place whose pose is not a rotation and a position.
    """
    R = poses[:, :3, :3]
    with np.errstate(all="ignore"):  # of numbers that are refused below
        error = np.abs(R.swapaxes(1, 2) @ R - np.eye(3)).max(axis=(1, 2))
        mirrored = np.linalg.det(R) <= 0
    bottom = np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1)
    bad = (error > ROUNDED) | mirrored | (bottom > 1e-5)
    if bad.any():
        first = int(bad.argmax())
        rounded = ROUNDED < error[first] <= COARSELY_ROUNDED and not mirrored[first]
        cure = "write more decimals, if they were rounded, or " if rounded else ""
        raise ValueError(
            f"{where[first]}: the matrix must be rigid (rotation and position, last row 0 0 0 1), "
            f"got |R^T R - 1| = {error[first]:.3g}: {cure}remove scale, shear and mirroring"
        )
    U, _, Vh = np.linalg.svd(R)
    nearest = poses.copy()
    nearest[:, :3, :3] = U @ Vh
    return nearest


def pose_from_quaternion(
    xyzw: Sequence[float], position: Sequence[float], where: str
) -> Float64[np.ndarray, "4 4"]:
    """The 4 x 4 matrix of a quaternion (x, y, z, w) and a translation.

    Errors: ValueError that begins with `where` for a quaternion that is not of length 1, but for
    rounding.
    """
    x, y, z, w = quaternion = np.array(xyzw, dtype=np.float64)
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1) <= COARSELY_ROUNDED:
        raise ValueError(f"{where}: the quaternion must have length 1, got {length:.3g}")
    x, y, z, w = quaternion / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = position
    return pose


def unit_intrinsics(
    fx: float, fy: float, cx: float, cy: float, size: tuple[int, int], where: str
) -> list[list[float]]:
    """K for a 1 x 1 image from values in pixels of an image of `size` (height, width).

    The principal point counts from the image's corner. Errors: ValueError that begins with `where`
    for values that are no pixels.
    """
    h, w = size
    if not (MIN_FOCAL <= fx / w <= MAX_FOCAL and MIN_FOCAL <= fy / h <= MAX_FOCAL):
        raise ValueError(
            f"{where}: fl_x and fl_y must be in pixels, {MIN_FOCAL:g} to {MAX_FOCAL:g} times the "
            f"image's width and height, got {fx:g} and {fy:g} at {w} x {h}"
        )
    at_corner = max(abs(cx), abs(cy)) <= 1 < min(w, h)
    if at_corner or abs(cx / w) > MAX_CENTRE or abs(cy / h) > MAX_CENTRE:
        raise ValueError(
            f"{where}: cx and cy must be in pixels from the image's corner, got {cx:g} and {cy:g} at "
            f"{w} x {h}"
        )
    return [[fx / w, 0.0, cx / w], [0.0, fy / h, cy / h], [0.0, 0.0, 1.0]]


# ---- the order of frames -------------------------------------------------------------------------


def natural_key(text: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in a text by their value: 2 before 10."""
    parts = re.split("0*([0-9]+)", text)  # every second one is a number: more digits, more value
    return [(len(part) if i % 2 else 0, part) for i, part in enumerate(parts)]
