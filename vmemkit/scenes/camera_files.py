"""Camera files: nerfstudio's transforms.json and RealEstate10K's text files, read and written.

In: a file, or `Cameras` (t,). Out: the other. `read_transforms` and `read_realestate10k` are where
files come in. These may come from anywhere, so every number and name is checked before it is used,
and a ValueError says what is wrong in which frame or line.
Only camera axes are converted; the world frame stays the file's own, and its up need not be
`core.UP` (nerfstudio's worlds have z up). Numbers are float64 until they become cameras.
Every key of a transforms.json is read, known not to change geometry, or refused by name.
Sources: docs.nerf.studio (data conventions), instant-ngp (docs/nerf_dataset_tips.md) and
google.github.io/realestate10k (the file format).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vmemkit.core import Cameras, check_cameras, default_depth_unit, image_size, replacing
from vmemkit.core import cameras as checked_cameras
from vmemkit.scenes.file_names import FolderFiles
from vmemkit.scenes.turned_photos import exif_orientation

MAX_CAMERAS = 30_000  # in one path or file: a thousand seconds of video
MAX_FILE_BYTES = 40_000_000  # that many frames of a transforms.json with long file names
MAX_NUMBER = 1e9  # beyond it float32 cannot tell neighbouring positions or pixels apart
MAX_TIMESTAMP = 10**18
# Largest entry of |R^T R - 1|: what rounding to three decimals makes, and what coarser rounding can.
ROUNDED, COARSELY_ROUNDED = 2e-3, 5e-2
# Focal lengths as shares of the image: fields of view from 2 to 169 degrees.
MIN_FOCAL, MAX_FOCAL = 0.05, 30.0
MAX_CENTRE = 30.0  # of a principal point, in images: beyond it the share must be a pixel
NUMBERS_PER_LINE = 19  # of a RealEstate10K camera
FRAME_MICROSECONDS = 33_333  # RealEstate10K's time between frames, at 30 per second
# Camera axes by name: the signs that turn their x, y and z into OpenCV's.
CONVENTIONS = {"opengl": (1.0, -1.0, -1.0, 1.0), "opencv": (1.0, 1.0, 1.0, 1.0)}
PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "p3", "p4", "b1", "b2")

LENS_KEYS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")
NAME_KEYS = ("file_path", "depth_file_path", "depth_path")
UNIT_KEYS = ("depth_unit_scale_factor", "integer_depth_scale")  # nerfstudio's and instant-ngp's
TIME_KEYS = ("timestamp", "time")
# Keys that are read in a frame, or once for all frames; and those that only the file can have.
FRAME_KEYS = (
    {*LENS_KEYS, *DISTORTION, *NAME_KEYS, *TIME_KEYS}
    | {"cx", "cy", "w", "h", "camera_model", "distortion_params", "is_fisheye"}
    | {"transform_matrix"}
)
FILE_KEYS = {"frames", *UNIT_KEYS, "applied_scale", "applied_transform"}
# Keys of programs that write these files; they do not change what the cameras and depth files mean.
HARMLESS_KEYS = (
    {"ply_file_path", "mask_path", "mask_file_path", "colmap_im_id", "orientation_override"}
    | {"train_filenames", "val_filenames", "test_filenames", "semantic_path", "normal_file_path"}
    # instant-ngp: the bounds of its volume, and how it uses the images
    | {"aabb", "aabb_scale", "render_aabb", "sharpness", "sharpness_discard_threshold"}
    | {"n_extra_learnable_dims", "n_frames", "enable_depth_loading", "is_hdr", "fix_premult"}
    | {"white_transparent", "black_transparent", "linear_colors", "mask_color", "light_dir"}
    # NeRF's synthetic scenes, and apps on phones
    | {"rotation", "blur_score", "motion_blur_score", "exposure", "exposure_time", "iso", "exif"}
    | {"id", "image_id", "camera_id", "cam_id", "frame_id", "frame_index", "index"}
    | {"near", "far", "z_near", "z_far", "near_plane", "far_plane", "scene_box"}
)
# Words in a key that make even a text a statement about geometry, such as "camera_convention".
GEOMETRIC = re.compile(
    "coord|conven|ax[ei]s|unit|orient|handed|distort|depth|scale|projection|transform"
)

# (height, width) in pixels and K that a frame has if it states no lens.
Lens = tuple[tuple[int, int], Float[Tensor, "3 3"]]
# A frame of a transforms.json: where it is, for messages, and its values over the file's.
Frame = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Transforms:
    """The content of a transforms.json."""

    cameras: Cameras  # (t,)
    images: tuple[Path, ...]  # one per camera; empty if the file names no images
    depths: tuple[Path | None, ...]  # one per camera, None where there is no depth
    size: tuple[int, int] | None  # (height, width) that K is for, None if frames differ
    depth_unit: float | None  # metres per step of the depth files, None if the file has none
    order: tuple[int, ...]  # of the cameras in time; without times and numbers, as in the file


def check_path(cameras: Cameras, least: int = 1) -> Cameras:
    """The same cameras, if they are a path (t,) of `least` to 30,000. Errors: ValueError if not."""
    shape = check_cameras(cameras).world_from_cam.shape[:-2]
    if len(shape) != 1 or not least <= shape[0] <= MAX_CAMERAS:
        raise ValueError(
            f"need a path (t,) of {least} to {MAX_CAMERAS} cameras, got shape {list(shape)}"
        )
    return cameras


def read_transforms(
    path: str | Path, convention: str = "opengl", assumed: Lens | None = None
) -> Transforms:
    """Cameras and file names of a nerfstudio transforms.json (`path`: the file or its folder).

    `convention` names the camera axes of the file: "opengl" (x right, y up, z back; nerfstudio's
    own) or "opencv". Intrinsics are fl_x, fl_y, cx, cy, w, h, global or per frame, or
    camera_angle_x and camera_angle_y; a missing size is that of the frame's image. A file without
    images is a bare trajectory. `order` sorts the frames by their `timestamp` or `time`, else by
    file names that differ only in their numbers.
    Positions are in the unit of the depth files: `applied_scale` is undone. `applied_transform` is
    part of the poses already, and stays. Rotations that were rounded become the nearest ones.
    With `assumed`, the file is a path for a photo of that (height, width) and K: only poses are
    needed, files that it names need not exist, and `images` and `depths` stay empty.
    Errors: ValueError naming file, frame and key for whatever is missing, malformed, not finite, not
    rigid, distorted, unknown, or outside the file's folder.
    """
    # 1. The JSON, and the frames with the values that they share.
    signs, file = _axis_signs(convention), _json_file(path)
    data = _read_json(file)
    frames = _frames(data, file)
    # 2. Poses, turned into OpenCV's camera axes.
    poses = np.array([_matrix(frame, where) for where, frame in frames]) * signs
    poses = _rigid(poses, [where for where, _ in frames])
    poses[:, :3, 3] /= _applied_scale(data, file)
    if np.abs(poses).max() > MAX_NUMBER:
        raise ValueError(f"{file}: applied_scale makes positions larger than {MAX_NUMBER:g}")
    # 3. Image and depth files, which must exist inside the folder.
    files = FolderFiles(file.parent)
    images: tuple[Path | None, ...] = (None,) * len(frames)
    depths = images
    if assumed is None:
        images = _named_files(frames, ("file_path",), files)
        depths = _named_files(frames, ("depth_file_path", "depth_path"), files)
    if None in images and any(images):
        raise ValueError(f"{file}: only some frames have a file_path: give every frame its image")
    # 4. K is for a 1 x 1 image, and the file counts in pixels of an image of some size.
    if assumed is not None and len({_states_lens(frame) for _, frame in frames}) > 1:
        raise ValueError(
            f"{file}: only some frames have a lens: give every frame its fl_x, or none"
        )
    sizes, K = [], []
    for (where, frame), image in zip(frames, images, strict=True):
        size, lens = _lens(frame, image, where, files, assumed)
        sizes.append(size)
        K.append(lens)
    return Transforms(
        cameras=checked_cameras(torch.from_numpy(poses), torch.tensor(K, dtype=torch.float64)),
        images=tuple(image for image in images if image is not None),
        depths=depths,
        size=sizes[0] if len(set(sizes)) == 1 else None,
        depth_unit=_depth_unit(data, file),
        order=_order([frame for _, frame in frames]),
    )


def write_transforms(
    path: str | Path,
    cameras: Cameras,
    size: tuple[int, int],
    images: Sequence[str | Path] | None = None,
    depths: Sequence[str | Path | None] | None = None,
    convention: str = "opengl",
    depth_unit: float | None = None,
    masks: Sequence[str | Path] | None = None,
    points: str | Path | None = None,
) -> None:
    """Write cameras (t,) as a nerfstudio transforms.json (`path`: the file, or its folder).

    `size` is (height, width) in pixels. File names are relative to the folder of the json, or
    absolute inside it. `depth_unit` is metres per step of the depth files; its default is that of
    `load_depth` for their kind. `masks` are images that are black where a trainer must not look, and
    `points` a PLY file in the world frame of the cameras. Without images the file holds the
    trajectory alone.
    Errors: ValueError, and nothing written, for skewed K, wrong counts, names outside the folder, and
    depth arrays without a `depth_unit` that are not there.
    """
    _check_writable(cameras)
    if min(size) < 1:
        raise ValueError(f"size is (height, width) in pixels, at least 1, got {size}")
    signs, file = _axis_signs(convention), _json_file(path)
    matrices = (cameras.world_from_cam.cpu().double().numpy() * signs).tolist()
    frames = [{"transform_matrix": matrix} for matrix in matrices]
    files = {"file_path": images, "depth_file_path": depths, "mask_path": masks}
    for key, names in files.items():
        if names is not None and len(names) != len(frames):
            raise ValueError(f"need one {key} per camera: {len(frames)}, got {len(names)}")
        for frame, name in zip(frames, names or [], strict=False):
            if name is not None:
                frame[key] = _relative(file, name)
    data: dict[str, Any] = {"camera_model": "OPENCV", "w": size[1], "h": size[0]}
    if points is not None:
        data["ply_file_path"] = _relative(file, points)
    intrinsics = [_pixel_intrinsics(K, size) for K in cameras.K.tolist()]
    if intrinsics.count(intrinsics[0]) == len(intrinsics):
        data |= intrinsics[0]
    else:
        frames = [own | frame for own, frame in zip(intrinsics, frames, strict=True)]
    if depth_unit is None:
        names = [name for name in depths or [] if name is not None]
        units = {default_depth_unit(file.parent / name) for name in names}
    else:
        units = {_positive(depth_unit, "depth_unit")}
    if len(units) > 1:
        raise ValueError("depth images and depth arrays together need their common depth_unit")
    if units:
        data["depth_unit_scale_factor"] = units.pop()
    text = json.dumps(data | {"frames": frames}, indent=1, allow_nan=False)
    with replacing(file) as draft:
        draft.write_text(text, encoding="utf-8")


def read_realestate10k(path: str | Path) -> tuple[Cameras, list[int]]:
    """Cameras (t,) and timestamps (microseconds) of a RealEstate10K text file.

    The first line is the video's address. Each further line has 19 numbers: timestamp, fx fy cx cy
    (over width and height, as in our K), k1 k2 (zero), and the rows of the 3 x 4 world-to-camera
    matrix. Rotations that were rounded become the nearest ones. Errors: ValueError naming file and
    line for anything else.
    """
    lines = [line.split() for line in _read_text(Path(path)).splitlines()]
    if lines and len(lines[0]) == NUMBERS_PER_LINE:
        raise ValueError(f"{path} needs a line of its video's address before the cameras")
    rows = [(f"{path}, line {i}", words) for i, words in enumerate(lines[1:], 2) if words]
    if not 1 <= len(rows) <= MAX_CAMERAS:
        raise ValueError(f"{path} needs 1 to {MAX_CAMERAS} cameras, got {len(rows)}")
    timestamps, numbers = [], np.zeros((len(rows), NUMBERS_PER_LINE - 1))
    for row, (where, words) in zip(numbers, rows, strict=True):
        if len(words) != NUMBERS_PER_LINE:
            raise ValueError(f"{where} needs {NUMBERS_PER_LINE} numbers, got {len(words)}")
        timestamps.append(_timestamp(words[0], where))
        row[:] = [_number(word, where) for word in words[1:]]
        if row[4] or row[5]:
            raise ValueError(f"{where} has lens distortion: undistort the images first")
        focal, centre = (row[0], row[1]), (row[2], row[3])
        if (
            not MIN_FOCAL <= min(focal) <= max(focal) <= MAX_FOCAL
            or max(map(abs, centre)) > MAX_CENTRE
        ):
            raise ValueError(
                f"{where}: focal lengths and principal point are shares of the image's width and "
                f"height, {MIN_FOCAL:g} to {MAX_FOCAL:g}, got {focal[0]:g}, {focal[1]:g}, "
                f"{centre[0]:g}, {centre[1]:g}: divide pixels by the image's width or height"
            )
    cam_from_world = np.tile(np.eye(4), (len(rows), 1, 1))
    cam_from_world[:, :3] = numbers[:, 6:].reshape(-1, 3, 4)
    cam_from_world = _rigid(cam_from_world, [where for where, _ in rows])
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
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _check_writable(cameras: Cameras) -> None:
    skew = check_path(cameras).K[:, [0, 1], [1, 0]]
    if bool((skew.abs() > 1e-6).any()):
        raise ValueError(
            "the format has focal lengths and principal point, but no skew: got skew in K"
        )


def _rigid(poses: Float64[np.ndarray, "t 4 4"], where: list[str]) -> Float64[np.ndarray, "t 4 4"]:
    """The poses with the nearest rotations, if rounding explains the difference.

    Errors: ValueError naming the first place whose pose is not a rotation and a position.
    """
    R = poses[:, :3, :3]
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
    """All frames. Errors: ValueError for cameras that are not pinholes without distortion, and for
    keys that may change geometry and are not known."""
    _check_keys(data, FRAME_KEYS | FILE_KEYS, str(file))
    frames = data.get("frames")
    if not isinstance(frames, list) or not 1 <= len(frames) <= MAX_CAMERAS:
        got = f"{len(frames)} of them" if isinstance(frames, list) else type(frames).__name__
        raise ValueError(f"{file} needs a list of 1 to {MAX_CAMERAS} frames, got {got}")
    own = {*NAME_KEYS, *TIME_KEYS}
    shared = {key: value for key, value in data.items() if key not in own and value is not None}
    checked_frames: list[Frame] = []
    for i, frame in enumerate(frames):
        where = f"{file}, frame {i}"
        if not isinstance(frame, dict):
            raise ValueError(f"{where} must be an object, got {type(frame).__name__}")
        _check_keys(frame, FRAME_KEYS, where)
        values = shared | {key: value for key, value in frame.items() if value is not None}
        _check_pinhole(values, where)
        checked_frames.append((where, values))
    return checked_frames


def _check_keys(values: Mapping[str, Any], known: set[str], where: str) -> None:
    """Errors: ValueError for a key that is not known and whose value may change geometry."""
    for key in values.keys() - known - HARMLESS_KEYS:
        value = values[key]
        is_text = _all_are(value, str) and not GEOMETRIC.search(key.lower())
        is_nothing = not value or (_all_are(value, (int, float)) and not any(_listed(value)))
        if not (is_text or is_nothing or (key == "scale" and value == 1)):
            raise ValueError(
                f"{where} has the key {key[:60]!r}, which may change geometry and is not known here, "
                f"got {_shown(value)}: apply it to poses, lens and depth, and remove the key"
            )


def _check_pinhole(frame: Mapping[str, Any], where: str) -> None:
    """Errors: ValueError for a camera that is no pinhole without distortion."""
    model = frame.get("camera_model", "OPENCV")
    if not isinstance(model, str) or model.upper() not in PINHOLES:
        raise ValueError(f"{where}: camera_model must be a pinhole's, one of {PINHOLES}")
    nonzero = [key for key in DISTORTION if key in frame and _finite(frame[key], f"{where}: {key}")]
    parameters = _listed(frame.get("distortion_params", []))
    if any(_finite(value, f"{where}: distortion_params") for value in parameters):
        nonzero.append("distortion_params")
    if frame.get("is_fisheye"):
        nonzero.append("is_fisheye")
    if nonzero:
        raise ValueError(f"{where} has lens distortion {nonzero}: undistort the images first")


def _applied_scale(data: Mapping[str, Any], file: Path) -> float:
    """The factor by which positions were multiplied, and depth files were not."""
    scale, transform = data.get("applied_scale"), data.get("applied_transform")
    if transform is not None:
        where = f"{file}: applied_transform"
        _rigid(np.array([_pose_rows(transform, where)]), [where])
    return 1.0 if scale is None else _positive(scale, f"{file}: applied_scale")


def _depth_unit(data: Mapping[str, Any], file: Path) -> float | None:
    """Metres per step of the depth files. Errors: ValueError for two units that differ."""
    given = {
        key: _positive(data[key], f"{file}: {key}")
        for key in UNIT_KEYS
        if data.get(key) is not None
    }
    if len(set(given.values())) > 1:
        raise ValueError(f"{file} has two units of depth, {given}: keep the right one")
    return next(iter(given.values()), None)


def _order(frames: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The frames in time: by their times, else by names that differ only in their numbers."""
    indices = range(len(frames))
    for key in TIME_KEYS:
        times = [frame.get(key) for frame in frames]
        if all(_is_number(time) for time in times) and len(set(times)) > 1:
            return tuple(sorted(indices, key=lambda i: times[i]))
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names):
        return tuple(indices)
    paths = [PurePosixPath(str(name).replace("\\", "/")) for name in names]
    if len({re.sub("[0-9]+", "0", path.stem) for path in paths}) > 1:
        return tuple(indices)
    keys = [(_natural(str(path.parent)), _natural(path.stem)) for path in paths]
    return tuple(sorted(indices, key=lambda i: keys[i]))


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in a text by their value."""
    parts = re.split("0*([0-9]+)", text)  # every second one is a number: more digits, more value
    return [(len(part) if i % 2 else 0, part) for i, part in enumerate(parts)]


def _matrix(frame: Mapping[str, Any], where: str) -> list[list[float]]:
    rows = frame.get("transform_matrix")
    if not isinstance(rows, list) or len(rows) != 4:
        raise ValueError(f"{where}: transform_matrix must be 4 lists of 4 numbers, camera to world")
    return _pose_rows(rows, f"{where}: transform_matrix")


def _pose_rows(rows: Any, where: str) -> list[list[float]]:
    """The 4 x 4 matrix of 3 or 4 rows."""
    rows = rows if isinstance(rows, list) else []
    lengths = [len(row) if isinstance(row, list) else 0 for row in rows]
    if lengths not in ([4] * 3, [4] * 4):
        raise ValueError(f"{where} must be 3 or 4 lists of 4 numbers, camera to world")
    matrix = [[_finite(value, where) for value in row] for row in rows]
    return matrix if len(matrix) == 4 else [*matrix, [0.0, 0.0, 0.0, 1.0]]


def _states_lens(frame: Mapping[str, Any]) -> bool:
    return any(key in frame for key in LENS_KEYS)


def _lens(
    frame: Mapping[str, Any],
    image: Path | None,
    where: str,
    files: FolderFiles,
    assumed: Lens | None,
) -> tuple[tuple[int, int], list[list[float]]]:
    """(height, width) in pixels, and K for a 1 x 1 image. Errors: ValueError."""
    if assumed is not None and not _states_lens(frame):
        return assumed[0], assumed[1].tolist()
    size = _stated_size(frame, where)
    if size is None and assumed is not None and not {"fl_x", "fl_y", "cx", "cy"} & frame.keys():
        size = assumed[0]  # fields of view are the same in images of any size
    if size is None and image is None and "file_path" in frame:
        image = files.find(
            frame["file_path"], f"{where} has no w and h, so its image is measured, and"
        )
    if size is None and image is None:
        raise ValueError(f"{where} has neither w and h nor an image to measure: add w and h")
    size = size or _measured(image, where)
    return size, _unit_intrinsics(frame, size, where)


def _stated_size(frame: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """(height, width) in pixels, None if the frame has none."""
    if "w" not in frame and "h" not in frame:
        return None
    if "w" not in frame or "h" not in frame:
        raise ValueError(f"{where} has only one of w and h: add w and h, or neither")
    h, w = (_positive(frame[key], f"{where}: {key}") for key in ("h", "w"))
    if h != int(h) or w != int(w):
        raise ValueError(f"{where}: w and h must be whole numbers of pixels, got {w} and {h}")
    return int(h), int(w)


def _measured(image: Path, where: str) -> tuple[int, int]:
    """(height, width) of an image. Errors: ValueError where EXIF leaves open what the lens is for."""
    orientation = exif_orientation(image)
    if orientation != 1:
        raise ValueError(
            f"{where}: {image.name} is turned when it is shown, by its EXIF orientation {orientation}, "
            "and without w and h the lens may be for the pixels as stored or as shown: add w and h"
        )
    return image_size(image)


def _unit_intrinsics(
    frame: Mapping[str, Any], size: tuple[int, int], where: str
) -> list[list[float]]:
    """K for a 1 x 1 image from the frame's values in pixels."""
    h, w = size
    fx = _focal(frame, "fl_x", "camera_angle_x", w, where)
    if fx is None:
        raise ValueError(f"{where}: fl_x or camera_angle_x is needed, a positive number")
    fy = _focal(frame, "fl_y", "camera_angle_y", h, where) or fx  # square pixels
    cx = _finite(frame.get("cx", w / 2), f"{where}: cx")
    cy = _finite(frame.get("cy", h / 2), f"{where}: cy")
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


def _focal(
    frame: Mapping[str, Any], key: str, angle_key: str, side: int, where: str
) -> float | None:
    """Pixels; None if the frame states neither a focal length nor a field of view."""
    if key in frame:
        return _positive(frame[key], f"{where}: {key}")
    if angle_key not in frame:
        return None
    angle = _positive(frame[angle_key], f"{where}: {angle_key}")
    if not 0.01 < angle < math.pi:
        raise ValueError(f"{where}: {angle_key} must be 0.01 to below pi radians, got {angle}")
    return side / 2 / math.tan(angle / 2)


def _pixel_intrinsics(K: list[list[float]], size: tuple[int, int]) -> dict[str, float]:
    h, w = size
    return {"fl_x": K[0][0] * w, "fl_y": K[1][1] * h, "cx": K[0][2] * w, "cy": K[1][2] * h}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _all_are(value: Any, kind: type | tuple[type, ...]) -> bool:
    return all(isinstance(item, kind) for item in _listed(value))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _shown(value: Any) -> str:
    """A value from a file, as messages show it: short, however large or deep it is."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > MAX_TIMESTAMP:
        return "an enormous integer"
    return repr(value[:60] if isinstance(value, str) else value)


def _finite(value: Any, name: str) -> float:
    if not _is_number(value) or not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{name} must be a number within {MAX_NUMBER:g}, got {_shown(value)}")
    return float(value)


def _number(word: str, where: str) -> float:
    try:
        return _finite(float(word), where)
    except ValueError as error:
        raise ValueError(f"{where} needs finite numbers, got {word[:60]!r}") from error


def _timestamp(word: str, where: str) -> int:
    """Whole microseconds, however they are written: 33367, 33367.0 or 3.3367e+04."""
    try:
        time = Decimal(word)
        if time.is_finite() and 0 <= time < MAX_TIMESTAMP and time == time.to_integral_value():
            return int(time)
    except InvalidOperation:
        pass
    raise ValueError(
        f"{where} needs {NUMBERS_PER_LINE} numbers, the first of them an integer, got {word[:60]!r}"
    )


def _positive(value: Any, name: str) -> float:
    number = _finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def _named_files(
    frames: list[Frame], keys: Iterable[str], files: FolderFiles
) -> tuple[Path | None, ...]:
    """The file that each frame names under one of `keys`, None if it names none. Errors: ValueError."""

    def named(frame: Mapping[str, Any], where: str) -> Path | None:
        found = {files.find(frame[key], f"{where}: {key}") for key in keys if key in frame}
        if len(found) > 1:
            raise ValueError(f"{where}: {' and '.join(keys)} name different files: keep one")
        return next(iter(found), None)

    return tuple(named(frame, where) for where, frame in frames)


def _relative(file: Path, name: str | Path) -> str:
    """`name` relative to the folder of `file`, with forward slashes."""
    root = file.parent.resolve()
    target = (root / name).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"files must lie in {root} beside their transforms.json, got {name}")
    return target.relative_to(root).as_posix()
