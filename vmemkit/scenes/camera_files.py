"""Camera files: nerfstudio's transforms.json and RealEstate10K's text files, read and written.

In: a file, or `Cameras` (t,). Out: the other. `read_transforms` and `read_realestate10k` are where
files come in. These may come from anywhere, so every number and name is checked before it is used,
and a ValueError says what is wrong in which frame or line.
Only camera axes are converted; the world frame stays the file's own, and its up need not be
`core.UP` (nerfstudio's worlds have z up). Numbers are float64 until they become cameras.
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

from vmemkit.core import Cameras, check_cameras, default_depth_unit, image_size, replacing
from vmemkit.core import cameras as checked_cameras

MAX_CAMERAS = 100_000  # in one file: an hour of video
MAX_FILE_BYTES = 256_000_000  # that many cameras with long file names
MAX_NUMBER = 1e9  # beyond it float32 cannot tell neighbouring positions or pixels apart
RIGID_TOLERANCE = 1e-3  # largest entry of |R^T R - 1|, as in core.check_cameras
NUMBERS_PER_LINE = 19  # of a RealEstate10K camera
FRAME_MICROSECONDS = 33_333  # RealEstate10K's time between frames, at 30 per second
# Camera axes by name: the signs that turn their x, y and z into OpenCV's.
CONVENTIONS = {"opengl": (1.0, -1.0, -1.0, 1.0), "opencv": (1.0, 1.0, 1.0, 1.0)}
PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")

# A frame of a transforms.json: where it is, for messages, and its values over the file's.
Frame = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Transforms:
    """The content of a transforms.json."""

    cameras: Cameras  # (t,)
    images: tuple[Path, ...]  # one per camera; empty if the file names no images
    depths: tuple[Path | None, ...]  # one per camera, None where there is no depth
    size: tuple[int, int] | None  # (height, width), None if frames differ
    depth_unit: float | None  # metres per step of the depth files, None if the file has none


def check_path(cameras: Cameras, least: int = 1) -> Cameras:
    """The same cameras, if they are a path (t,) of `least` to 100,000. Errors: ValueError if not."""
    shape = check_cameras(cameras).world_from_cam.shape[:-2]
    if len(shape) != 1 or not least <= shape[0] <= MAX_CAMERAS:
        raise ValueError(
            f"need a path (t,) of {least} to {MAX_CAMERAS} cameras, got shape {list(shape)}"
        )
    return cameras


def read_transforms(path: str | Path, convention: str = "opengl") -> Transforms:
    """Cameras and file names of a nerfstudio transforms.json (`path`: the file or its folder).

    `convention` names the camera axes of the file: "opengl" (x right, y up, z back; nerfstudio's
    own) or "opencv". Intrinsics are fl_x, fl_y, cx, cy, w, h, global or per frame, or
    camera_angle_x; a missing size is that of the first image. A file without images is a bare
    trajectory.
    Errors: ValueError naming file and frame for whatever is missing, malformed, not finite, not
    rigid, distorted, or outside the file's folder.
    """
    # 1. The JSON, and the frames with the values that they share.
    signs, file = _axis_signs(convention), _json_file(path)
    data = _read_json(file)
    frames = _frames(data, file)
    # 2. Poses, turned into OpenCV's camera axes.
    poses = np.array([_matrix(frame, where) for where, frame in frames]) * signs
    _check_rigid(poses, [where for where, _ in frames])
    # 3. Image and depth files, which must exist inside the folder.
    images = _named_files(frames, "file_path", file.parent)
    if None in images and any(images):
        raise ValueError(f"{file}: only some frames have a file_path: give every frame its image")
    depths = _named_files(frames, "depth_file_path", file.parent)
    # 4. Image sizes, because K is for a 1 x 1 image and the file counts in pixels.
    sizes = [_size(frame, where) for where, frame in frames]
    if None in sizes:
        if not images[0]:
            raise ValueError(f"{file} has neither w and h nor images to measure: add w and h")
        first = image_size(images[0])
        sizes = [size or first for size in sizes]
    K = [
        _unit_intrinsics(frame, size, where)
        for (where, frame), size in zip(frames, sizes, strict=True)
    ]
    unit = data.get("depth_unit_scale_factor")
    return Transforms(
        cameras=checked_cameras(torch.from_numpy(poses), torch.tensor(K, dtype=torch.float64)),
        images=tuple(image for image in images if image is not None),
        depths=depths,
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
    absolute inside it. `depth_unit` is metres per step of the depth files; its default is that of
    `load_depth` for their kind. Without images the file holds the trajectory alone.
    Errors: ValueError, and nothing written, for skewed K, wrong counts and names outside the folder.
    """
    _check_writable(cameras)
    if min(size) < 1:
        raise ValueError(f"size is (height, width) in pixels, at least 1, got {size}")
    signs, file = _axis_signs(convention), _json_file(path)
    matrices = (cameras.world_from_cam.cpu().double().numpy() * signs).tolist()
    frames = [{"transform_matrix": matrix} for matrix in matrices]
    for key, names in (("file_path", images), ("depth_file_path", depths)):
        if names is not None and len(names) != len(frames):
            raise ValueError(f"need one {key} per camera: {len(frames)}, got {len(names)}")
        for frame, name in zip(frames, names or [], strict=False):
            if name is not None:
                frame[key] = _relative(file, name)
    data: dict[str, Any] = {"camera_model": "OPENCV", "w": size[1], "h": size[0]}
    intrinsics = [_pixel_intrinsics(K, size) for K in cameras.K.tolist()]
    if intrinsics.count(intrinsics[0]) == len(intrinsics):
        data |= intrinsics[0]
    else:
        frames = [own | frame for own, frame in zip(intrinsics, frames, strict=True)]
    if depth_unit is None:
        units = {default_depth_unit(name) for name in depths or [] if name is not None}
    else:
        units = {_positive(depth_unit, "depth_unit")}
    if len(units) > 1:
        raise ValueError("depth images and depth arrays together need their common depth_unit")
    if units:
        data["depth_unit_scale_factor"] = units.pop()
    with replacing(file) as draft:
        draft.write_text(json.dumps(data | {"frames": frames}, indent=1, allow_nan=False))


def read_realestate10k(path: str | Path) -> tuple[Cameras, list[int]]:
    """Cameras (t,) and timestamps (microseconds) of a RealEstate10K text file.

    The first line is the video's address. Each further line has 19 numbers: timestamp, fx fy cx cy
    (over width and height, as in our K), k1 k2 (zero), and the rows of the 3 x 4 world-to-camera
    matrix. Errors: ValueError naming file and line for anything else.
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
            raise ValueError(
                f"{where} needs {NUMBERS_PER_LINE} numbers, the first of them an integer"
            )
        timestamps.append(int(words[0]))
        row[:] = [_number(word, where) for word in words[1:]]
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

    Errors: ValueError, and nothing written, for skewed K, wrong counts and an address that is not
    one line.
    """
    _check_writable(cameras)
    if timestamps is None:
        timestamps = range(0, len(cameras) * FRAME_MICROSECONDS, FRAME_MICROSECONDS)
    times = list(timestamps)
    if len(times) != len(cameras) or any(time < 0 for time in times):
        raise ValueError(f"need {len(cameras)} timestamps of 0 or more, got {len(times)}")
    if len(url.splitlines()) > 1 or len(url.split()) == NUMBERS_PER_LINE:
        raise ValueError(f"the address must be one line, and not like a camera's, got {url[:60]!r}")
    K = cameras.K.cpu().double().numpy()[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    matrices = np.linalg.inv(cameras.world_from_cam.cpu().double().numpy())[:, :3].reshape(-1, 12)
    lines = [url.strip()]
    for time, focal_and_centre, matrix in zip(times, K, matrices, strict=True):
        numbers = " ".join(f"{number:.9f}" for number in [*focal_and_centre, 0, 0, *matrix])
        lines.append(f"{time} {numbers}")
    with replacing(path) as draft:
        draft.write_text("\n".join(lines) + "\n")


def _check_writable(cameras: Cameras) -> None:
    skew = check_path(cameras).K[:, [0, 1], [1, 0]]
    if bool((skew.abs() > 1e-6).any()):
        raise ValueError(
            "the format has focal lengths and principal point, but no skew: got skew in K"
        )


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


def _axis_signs(convention: str) -> Float64[np.ndarray, 4]:
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
    except Exception as error:
        raise ValueError(f"cannot read {file} (a text file in UTF-8 is needed): {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    text = _read_text(file)
    try:
        data = json.loads(text)
    except Exception as error:
        raise ValueError(f"{file} must be a JSON object, but is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} must be a JSON object with frames, got {type(data).__name__}")
    return data


def _frames(data: dict[str, Any], file: Path) -> list[Frame]:
    """All frames. Errors: ValueError for cameras that are not pinholes without distortion."""
    frames = data.get("frames")
    if not isinstance(frames, list) or not 1 <= len(frames) <= MAX_CAMERAS:
        got = f"{len(frames)} of them" if isinstance(frames, list) else type(frames).__name__
        raise ValueError(f"{file} needs a list of 1 to {MAX_CAMERAS} frames, got {got}")
    shared = {key: value for key, value in data.items() if not key.endswith("file_path")}
    checked_frames: list[Frame] = []
    for i, frame in enumerate(frames):
        where = f"{file}, frame {i}"
        if not isinstance(frame, dict):
            raise ValueError(f"{where} must be an object, got {type(frame).__name__}")
        values = ChainMap(frame, shared)
        if str(values.get("camera_model", "OPENCV")).upper() not in PINHOLES:
            raise ValueError(f"{where}: camera_model must be a pinhole's, one of {PINHOLES}")
        nonzero = [key for key in DISTORTION if _finite(values.get(key, 0), f"{where}: {key}") != 0]
        no_params = values.get("distortion_params") in (None, [], [0] * 4, [0] * 6)
        if nonzero or not no_params or values.get("is_fisheye"):
            raise ValueError(f"{where} has lens distortion {nonzero}: undistort the images first")
        checked_frames.append((where, values))
    return checked_frames


def _matrix(frame: Mapping[str, Any], where: str) -> list[list[float]]:
    rows = frame.get("transform_matrix")
    rows = rows if isinstance(rows, list) else []
    if [len(row) if isinstance(row, list) else 0 for row in rows] != [4, 4, 4, 4]:
        raise ValueError(f"{where}: transform_matrix must be 4 lists of 4 numbers, camera to world")
    return [[_finite(value, f"{where}: transform_matrix") for value in row] for row in rows]


def _size(frame: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """(height, width) in pixels, None if the frame has none."""
    if frame.get("w") is None or frame.get("h") is None:
        return None
    h, w = (_positive(frame[key], f"{where}: {key}") for key in ("h", "w"))
    if h != int(h) or w != int(w):
        raise ValueError(f"{where}: w and h must be whole numbers of pixels, got {w} and {h}")
    return int(h), int(w)


def _unit_intrinsics(
    frame: Mapping[str, Any], size: tuple[int, int], where: str
) -> list[list[float]]:
    """K for a 1 x 1 image from the frame's values in pixels."""
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


def _pixel_intrinsics(K: list[list[float]], size: tuple[int, int]) -> dict[str, float]:
    h, w = size
    return {"fl_x": K[0][0] * w, "fl_y": K[1][1] * h, "cx": K[0][2] * w, "cy": K[1][2] * h}


def _finite(value: Any, name: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{name} must be a number within {MAX_NUMBER:g}, got {str(value)[:60]!r}")
    return float(value)


def _number(word: str, where: str) -> float:
    try:
        return _finite(float(word), where)
    except ValueError as error:
        raise ValueError(f"{where} needs finite numbers, got {word[:60]!r}") from error


def _positive(value: Any, name: str) -> float:
    number = _finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def _named_files(frames: list[Frame], key: str, folder: Path) -> tuple[Path | None, ...]:
    """The file that each frame names under `key`, None if it names none. Errors: ValueError."""
    root = folder.resolve()
    return tuple(
        None if frame.get(key) is None else _file_inside(root, frame[key], f"{where}: {key}")
        for where, frame in frames
    )


def _file_inside(root: Path, name: Any, where: str) -> Path:
    """The existing file `name` under `root`; NeRF's synthetic scenes leave out the .png."""
    if not isinstance(name, str) or Path(name).is_absolute():
        raise ValueError(f"{where} must be a name relative to the folder, got {str(name)[:60]!r}")
    try:
        for file in ((root / name).resolve(), (root / f"{name}.png").resolve()):
            if file.is_relative_to(root) and file.is_file():
                return file
    except Exception as error:  # too long, a circle of links, a NUL
        raise ValueError(f"{where} cannot be a file name: {error}") from error
    raise ValueError(f"{where} must be an existing file inside {root}, got {name[:60]!r}")


def _relative(file: Path, name: str | Path) -> str:
    """`name` relative to the folder of `file`, with forward slashes."""
    root = file.parent.resolve()
    target = (root / name).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"files must lie in {root} beside their transforms.json, got {name}")
    return target.relative_to(root).as_posix()
