"""Camera files: nerfstudio's transforms.json and RealEstate10K's text, read and written.

In: a file, or `Cameras` (t,). Out: the other. The files may come from anywhere, so every number and
name in them is checked before it is used, and whatever is wrong is a ValueError that says where.
Only camera axes are converted; the world frame stays the file's own, so that its up need not be
`camera.UP` (nerfstudio's worlds have z up). Numbers are float64 until they are cameras.
Sources: docs.nerf.studio (data conventions) and google.github.io/realestate10k (the file format).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from vmemkit.core import Cameras, check, default_depth_unit, image_size, replacing
from vmemkit.core import cameras as checked_cameras

MAX_CAMERAS = 100_000  # of one file: an hour of video
MAX_FILE_BYTES = 256_000_000  # that many cameras with long names, and room to spare
MAX_NUMBER = 1e9  # beyond it float32 has nothing left of a position or of a pixel
RIGID_TOLERANCE = 1e-3  # of R^T R - 1, as in camera.check
NUMBERS_PER_LINE = 19  # of a RealEstate10K camera
FRAME_MICROSECONDS = 33_333  # RealEstate10K's time between frames, at 30 per second

# Axes that change sign from camera axes of that name to OpenCV's.
CONVENTIONS = {"opengl": (1.0, -1.0, -1.0, 1.0), "opencv": (1.0, 1.0, 1.0, 1.0)}
PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


@dataclass(frozen=True)
class Transforms:
    """What a transforms.json says. `images` is empty for a file of cameras without images."""

    cameras: Cameras  # (t,)
    images: tuple[Path, ...]  # one per camera, or none at all
    depths: tuple[Path | None, ...]  # one per camera, None where there is no depth
    size: tuple[int, int] | None  # (height, width), None where frames differ
    depth_unit: float | None  # metres per step of the depth files, None where the file is silent


def check_path(cameras: Cameras, least: int = 1) -> Cameras:
    """The same cameras, if they are a path (t,) of `least` to 100,000. Errors: ValueError."""
    shape = check(cameras).world_from_cam.shape[:-2]
    if len(shape) != 1 or not least <= shape[0] <= MAX_CAMERAS:
        raise ValueError(
            f"need a path (t,) of {least} to {MAX_CAMERAS} cameras, got shape {list(shape)}"
        )
    return cameras


def read_transforms(path: str | Path, convention: str = "opengl") -> Transforms:
    """Cameras and file names of a nerfstudio transforms.json (`path`: the file or its folder).

    `convention` names the camera axes of the file: "opengl" (x right, y up, z back; nerfstudio's
    own) or "opencv". Only camera axes are converted; the world frame stays the file's, so its up
    is often (0, 0, 1). Intrinsics are fl_x, fl_y, cx, cy, w, h, global or per frame, or
    camera_angle_x; a missing size is that of the first image. A file in which no frame names an
    image is a bare trajectory.
    Errors: ValueError naming file and frame for whatever is missing, malformed, not finite, not
    rigid, distorted, or outside the file's folder.
    """
    signs = _signs(convention)
    file = _json_file(path)
    data = _read_json(file)
    frames = _frames(data, file)
    poses = np.array([_matrix(frame, where) for where, frame in frames]) * signs
    _check_rigid(poses, [where for where, _ in frames])
    images = _files(frames, "file_path", file.parent)
    if None in images and any(images):
        raise ValueError(f"{file}: only some frames have a file_path: give every frame its image")
    images = tuple(image for image in images if image is not None)
    sizes = [_size(frame, where) for where, frame in frames]
    if None in sizes and not images:
        raise ValueError(f"{file} has neither w and h nor images to measure: add w and h")
    if None in sizes:
        first = image_size(images[0])
        sizes = [size or first for size in sizes]
    K = [
        _intrinsics(frame, size, where) for (where, frame), size in zip(frames, sizes, strict=True)
    ]
    unit = data.get("depth_unit_scale_factor")
    return Transforms(
        cameras=checked_cameras(torch.from_numpy(poses), torch.tensor(K, dtype=torch.float64)),
        images=images,
        depths=_files(frames, "depth_file_path", file.parent),
        size=sizes[0] if len(set(sizes)) == 1 else None,
        depth_unit=None if unit is None else _positive(unit, f"{file}: depth_unit_scale_factor"),
    )


def write_transforms(
    path: str | Path,
    cameras: Cameras,
    size: tuple[int, int],
    images: Sequence[str | Path] | None = None,
    depths: Sequence[str | Path | None] | None = None,
    convention: str = "opengl",
    depth_unit: float | None = None,
) -> None:
    """Write cameras (t,) as a nerfstudio transforms.json (`path`: the file, or its folder).

    `size` is (height, width) in pixels. File names are relative to the folder of the json, or
    absolute inside it. `depth_unit` is metres per step of the depth files, by default what
    `load_depth` takes for their kind. Without images the file holds the trajectory alone.
    Errors: ValueError, and nothing written, for skewed K, wrong counts or names outside the folder.
    """
    _check_writable(cameras)
    if min(size) < 1:
        raise ValueError(f"size is (height, width) in pixels, at least 1, got {size}")
    signs = _signs(convention)
    file = _json_file(path)
    matrices = (cameras.world_from_cam.cpu().double().numpy() * signs).tolist()
    frames = [{"transform_matrix": matrix} for matrix in matrices]
    for key, names in (("file_path", images), ("depth_file_path", depths)):
        if names is not None and len(names) != len(frames):
            raise ValueError(f"need one {key} per camera: {len(frames)}, got {len(names)}")
        for frame, name in zip(frames, names or [], strict=False):
            frame |= {} if name is None else {key: _relative(file, name)}
    data: dict[str, Any] = {"camera_model": "OPENCV", "w": size[1], "h": size[0]}
    lenses = [_pixels(K, size) for K in cameras.K.tolist()]
    if lenses.count(lenses[0]) == len(lenses):
        data |= lenses[0]
    else:
        frames = [lens | frame for lens, frame in zip(lenses, frames, strict=True)]
    units = {default_depth_unit(name) for name in depths or [] if name is not None}
    units = units if depth_unit is None else {_positive(depth_unit, "depth_unit")}
    if len(units) > 1:
        raise ValueError("depth images and depth arrays together need their common depth_unit")
    if units:
        data["depth_unit_scale_factor"] = units.pop()
    with replacing(file) as draft:
        draft.write_text(json.dumps(data | {"frames": frames}, indent=1, allow_nan=False))


def read_realestate10k(path: str | Path) -> tuple[Cameras, list[int]]:
    """Cameras (t,) and timestamps (microseconds) of a RealEstate10K text file.

    A line of the video's address, then per frame 19 numbers: timestamp, fx fy cx cy (shares of
    width and height, as our K), k1 k2 (zero), and the 3 x 4 world-to-camera matrix by rows.
    Errors: ValueError naming file and line for anything else.
    """
    lines = [line.split() for line in _read_text(Path(path)).splitlines()]
    if lines and len(lines[0]) == NUMBERS_PER_LINE:
        raise ValueError(f"{path} needs a line of its video's address before the cameras")
    rows = [(f"{path}, line {i}", words) for i, words in enumerate(lines[1:], 2) if words]
    if not 1 <= len(rows) <= MAX_CAMERAS:
        raise ValueError(f"{path} needs 1 to {MAX_CAMERAS} cameras, got {len(rows)}")
    timestamps, numbers = [], np.zeros((len(rows), NUMBERS_PER_LINE - 1))
    for row, (where, words) in zip(numbers, rows, strict=True):
        if len(words) != NUMBERS_PER_LINE or not re.fullmatch(r"\d{1,18}", words[0]):
            raise ValueError(f"{where} needs {NUMBERS_PER_LINE} numbers, the first of them whole")
        timestamps.append(int(words[0]))
        row[:] = [_parsed(word, where) for word in words[1:]]
        if row[4] or row[5]:
            raise ValueError(f"{where} has lens distortion: undistort the images first")
        if min(row[:2]) <= 0:
            raise ValueError(f"{where}: focal lengths must be positive, got {row[0]}, {row[1]}")
    cam_from_world = np.tile(np.eye(4), (len(rows), 1, 1))
    cam_from_world[:, :3] = numbers[:, 6:].reshape(-1, 3, 4)
    _check_rigid(cam_from_world, [where for where, _ in rows])
    K = np.tile(np.eye(3), (len(rows), 1, 1))
    K[:, [0, 1, 0, 1], [0, 1, 2, 2]] = numbers[:, :4]
    poses = torch.from_numpy(np.linalg.inv(cam_from_world))
    return checked_cameras(poses, torch.from_numpy(K)), timestamps


def write_realestate10k(
    path: str | Path, cameras: Cameras, timestamps: Sequence[int] | None = None, url: str = ""
) -> None:
    """Write cameras (t,) as a RealEstate10K text file; timestamps default to 30 per second.

    Errors: ValueError, and nothing written, for skewed K, wrong counts or an address of more lines.
    """
    _check_writable(cameras)
    if timestamps is None:
        timestamps = range(0, len(cameras) * FRAME_MICROSECONDS, FRAME_MICROSECONDS)
    times = list(timestamps)
    if len(times) != len(cameras) or any(time < 0 for time in times):
        raise ValueError(f"need {len(cameras)} timestamps of 0 or more, got {len(times)}")
    if len(url.splitlines()) > 1 or len(url.split()) == NUMBERS_PER_LINE:
        raise ValueError(f"the address must be one line and no camera, got {url[:60]!r}")
    K = cameras.K.cpu().double().numpy()[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    matrices = np.linalg.inv(cameras.world_from_cam.cpu().double().numpy())[:, :3].reshape(-1, 12)
    lines = [url.strip()]
    for time, lens, matrix in zip(times, K, matrices, strict=True):
        numbers = " ".join(f"{number:.9f}" for number in [*lens, 0, 0, *matrix])
        lines.append(f"{time} {numbers}")
    with replacing(path) as draft:
        draft.write_text("\n".join(lines) + "\n")


def _check_writable(cameras: Cameras) -> None:
    skew = check_path(cameras).K[:, [0, 1], [1, 0]]
    if bool((skew.abs() > 1e-6).any()):
        raise ValueError("the format holds focal lengths and principal point, got K with skew")


def _check_rigid(poses: Float64[np.ndarray, "t 4 4"], where: list[str]) -> None:
    """Errors: ValueError naming the first place whose pose is not a rotation and a position."""
    R = poses[:, :3, :3]
    error = np.abs(R.swapaxes(1, 2) @ R - np.eye(3)).max(axis=(1, 2))
    bottom = np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1)
    bad = (error >= RIGID_TOLERANCE) | (np.linalg.det(R) <= 0) | (bottom > 1e-5)
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"{where[first]}: the matrix must be rigid (rotation and position, last row 0 0 0 1), "
            f"got |R^T R - 1| = {error[first]:.3g}: remove scale, shear and mirroring"
        )


def _signs(convention: str) -> Float64[np.ndarray, 4]:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {list(CONVENTIONS)}, got {convention!r}")
    return np.array(CONVENTIONS[convention])


def _json_file(path: str | Path) -> Path:
    return Path(path) / "transforms.json" if os.path.isdir(path) else Path(path)


def _read_text(file: Path) -> str:
    try:
        if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it must be an existing file of at most {MAX_FILE_BYTES} bytes")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {file} (a text file in UTF-8 is needed): {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    text = _read_text(file)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} must be a JSON object, but is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} must be a JSON object with frames, got {type(data).__name__}")
    return data


def _frames(data: dict[str, Any], file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """(place for messages, the frame's values over the file's) of every frame, lenses checked."""
    frames = data.get("frames")
    if not isinstance(frames, list) or not 1 <= len(frames) <= MAX_CAMERAS:
        got = f"{len(frames)} of them" if isinstance(frames, list) else type(frames).__name__
        raise ValueError(f"{file} needs a list of 1 to {MAX_CAMERAS} frames, got {got}")
    shared = {key: value for key, value in data.items() if not key.endswith("file_path")}
    placed = []
    for i, frame in enumerate(frames):
        where = f"{file}, frame {i}"
        if not isinstance(frame, dict):
            raise ValueError(f"{where} must be an object, got {type(frame).__name__}")
        values = ChainMap(frame, shared)
        if str(values.get("camera_model", "OPENCV")).upper() not in PINHOLES:
            raise ValueError(f"{where}: camera_model must be a pinhole's, one of {PINHOLES}")
        bent = [key for key in DISTORTION if _finite(values.get(key, 0), f"{where}: {key}") != 0]
        straight = values.get("distortion_params") in (None, [], [0] * 4, [0] * 6)
        if bent or not straight or values.get("is_fisheye"):
            raise ValueError(f"{where} has lens distortion {bent}: undistort the images first")
        placed.append((where, values))
    return placed


def _matrix(frame: Mapping[str, Any], where: str) -> list[list[float]]:
    rows = frame.get("transform_matrix")
    rows = rows if isinstance(rows, list) else []
    if [len(row) if isinstance(row, list) else 0 for row in rows] != [4, 4, 4, 4]:
        raise ValueError(f"{where}: transform_matrix must be 4 lists of 4 numbers, camera to world")
    return [[_finite(value, f"{where}: transform_matrix") for value in row] for row in rows]


def _size(frame: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """(height, width) in pixels, None where the frame does not say."""
    if frame.get("w") is None or frame.get("h") is None:
        return None
    h, w = (_positive(frame[key], f"{where}: {key}") for key in ("h", "w"))
    if h != int(h) or w != int(w):
        raise ValueError(f"{where}: w and h must be whole numbers of pixels, got {w} and {h}")
    return int(h), int(w)


def _intrinsics(frame: Mapping[str, Any], size: tuple[int, int], where: str) -> list[list[float]]:
    h, w = size
    if frame.get("fl_x") is not None:
        fx = _positive(frame["fl_x"], f"{where}: fl_x")
    else:
        angle = _positive(frame.get("camera_angle_x"), f"{where}: fl_x or camera_angle_x")
        if angle >= math.pi:
            raise ValueError(f"{where}: camera_angle_x must be below pi radians, got {angle}")
        fx = w / 2 / math.tan(angle / 2)
    fy = _positive(frame.get("fl_y", fx), f"{where}: fl_y")
    cx = _finite(frame.get("cx", w / 2), f"{where}: cx")
    cy = _finite(frame.get("cy", h / 2), f"{where}: cy")
    return [[fx / w, 0.0, cx / w], [0.0, fy / h, cy / h], [0.0, 0.0, 1.0]]


def _pixels(K: list[list[float]], size: tuple[int, int]) -> dict[str, float]:
    h, w = size
    return {"fl_x": K[0][0] * w, "fl_y": K[1][1] * h, "cx": K[0][2] * w, "cy": K[1][2] * h}


def _finite(value: Any, name: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{name} must be a number within {MAX_NUMBER:g}, got {str(value)[:60]!r}")
    return float(value)


def _parsed(word: str, where: str) -> float:
    try:
        return _finite(float(word), where)
    except ValueError as error:
        raise ValueError(f"{where} needs finite numbers, got {word[:60]!r}") from error


def _positive(value: Any, name: str) -> float:
    number = _finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def _files(
    frames: list[tuple[str, Mapping[str, Any]]], key: str, folder: Path
) -> tuple[Path | None, ...]:
    """The file each frame names by `key`, None where it names none. Errors: ValueError."""
    root = folder.resolve()
    found: list[Path | None] = []
    for where, frame in frames:
        name = frame.get(key)
        found.append(None if name is None else _inside(root, name, f"{where}: {key}"))
    return tuple(found)


def _inside(root: Path, name: Any, where: str) -> Path:
    """The existing file `name` under `root`; NeRF's synthetic scenes leave out the .png."""
    if not isinstance(name, str) or Path(name).is_absolute():
        raise ValueError(f"{where} must be a name relative to the folder, got {str(name)[:60]!r}")
    try:
        for file in ((root / name).resolve(), (root / f"{name}.png").resolve()):
            if file.is_relative_to(root) and file.is_file():
                return file
    except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, a NUL
        raise ValueError(f"{where} is no usable name: {error}") from error
    raise ValueError(f"{where} must be an existing file inside {root}, got {name[:60]!r}")


def _relative(file: Path, name: str | Path) -> str:
    """`name` relative to the folder of `file`, with forward slashes."""
    root = file.parent.resolve()
    target = (root / name).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"files must lie in {root} beside their transforms.json, got {name}")
    return target.relative_to(root).as_posix()
