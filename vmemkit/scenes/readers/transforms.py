"""The transforms.json of nerfstudio and instant-ngp, read and written.

In: a file, or `Cameras` (t,). Out: the other. Files may come from anywhere, so every number and name
is checked before it is used, and a ValueError says what is wrong in which frame.
Only camera axes are converted; the world frame stays the file's own, and its up need not be
`core.UP` (nerfstudio's worlds have z up). Numbers are float64 until they become cameras.
Every key is read, known not to change geometry, or refused by name.
Sources: docs.nerf.studio (data conventions) and instant-ngp (docs/nerf_dataset_tips.md).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, default_depth_unit, image_size, replacing
from vmemkit.core import cameras as checked_cameras
from vmemkit.core import intrinsics as centred_lens
from vmemkit.scenes.file_names import FolderFiles
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    MAX_NUMBER,
    axis_signs,
    check_writable,
    finite,
    inner_file,
    is_number,
    missing_files,
    natural_key,
    pixels,
    positive,
    read_json,
    rigid,
    shown,
    unit_intrinsics,
)
from vmemkit.scenes.readers.lenses import FISHEYE, POLYNOMIAL, Distortion, distortion
from vmemkit.scenes.readers.source import ARBITRARY, AXES, METRES, STAND_IN_FOV, Source
from vmemkit.scenes.turned_photos import exif_orientation

PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL")
FISHEYES = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
DISTORTION = (*POLYNOMIAL, "p3", "p4", "b1", "b2")
NERFSTUDIO = ("k1", "k2", "k3", "k4", "p1", "p2")  # the order of its distortion_params

LENS_KEYS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")
DEPTH_KEYS, MASK_KEYS = ("depth_file_path", "depth_path"), ("mask_path", "mask_file_path")
NAME_KEYS = ("file_path", *DEPTH_KEYS, *MASK_KEYS)
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
    {"ply_file_path", "colmap_im_id", "orientation_override"}
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
    sizes: tuple[tuple[int, int], ...]  # (height, width) of each camera
    masks: tuple[Path | None, ...]  # one per camera, None where all of the depth counts
    distortions: tuple[Distortion | None, ...]  # one per camera, None for a pinhole
    applied_scale: float  # by which the file's positions were multiplied; it is undone
    turned: bool  # whether the world was turned before, by an applied_transform


def read_transforms(
    path: str | Path,
    convention: str = "opengl",
    assumed: Lens | None = None,
    distorted: bool = False,
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
    needed, files that it names need not exist, and `images` and `depths` stay empty. A lens with
    distortion is refused unless `distorted`; then `distortions` holds it.
    Errors: ValueError naming file, frame and key for whatever is missing, malformed, not finite, not
    rigid, distorted, unknown, or outside the file's folder.
    """
    # 1. The JSON, and the frames with the values that they share.
    signs, file = axis_signs(convention), _json_file(path)
    data = read_json(file)
    frames = _frames(data, file)
    distortions = tuple(_distortion(frame, where, distorted) for where, frame in frames)
    # 2. Poses, turned into OpenCV's camera axes.
    scale = _applied_scale(data, file)
    poses = np.array([_matrix(frame, where) for where, frame in frames]) * signs
    poses = rigid(poses, [where for where, _ in frames])
    poses[:, :3, 3] /= scale
    if np.abs(poses).max() > MAX_NUMBER:
        raise ValueError(f"{file}: applied_scale makes positions larger than {MAX_NUMBER:g}")
    # 3. Image and depth files, which must exist inside the folder.
    files = FolderFiles(file.parent)
    images: tuple[Path | None, ...] = (None,) * len(frames)
    depths = masks = images
    if assumed is None:
        images = _named_files(frames, ("file_path",), files)
        depths = _named_files(frames, DEPTH_KEYS, files)
        masks = _named_files(frames, MASK_KEYS, files)
    if None in images and any(images):
        raise ValueError(f"{file}: only some frames have a file_path: give every frame its image")
    # 4. K is for a 1 x 1 image, and the file counts in pixels of an image of some size.
    sizes, K = _lenses(frames, images, files, assumed)
    return Transforms(
        cameras=checked_cameras(torch.from_numpy(poses), torch.tensor(K, dtype=torch.float64)),
        images=tuple(image for image in images if image is not None),
        depths=depths,
        size=sizes[0] if len(set(sizes)) == 1 else None,
        depth_unit=_depth_unit(data, file),
        order=_order([frame for _, frame in frames]),
        sizes=sizes,
        masks=masks,
        distortions=distortions,
        applied_scale=scale,
        turned=data.get("applied_transform") is not None,
    )


def transforms_source(
    path: Path, convention: str | None = None, depth_unit: float | None = None
) -> Source:
    """A transforms.json with its images, depth and masks, in the order of time.

    Errors: ValueError as `read_transforms`.
    """
    convention = convention or "opengl"
    read = read_transforms(path, convention, distorted=True)
    order = list(read.order)

    def sorted_by_time(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[i] for i in order) if values else ()

    notes = []
    if read.order != tuple(range(len(order))):
        notes.append("the frames were not in the order of time, and are now")
    if read.applied_scale != 1:
        notes.append(f"positions were divided by applied_scale = {read.applied_scale:.6g}")
    if read.turned:
        notes.append("applied_transform is part of the poses, so the world is the turned one")
    has_depth = any(read.depths)
    return Source(
        what="transforms.json of nerfstudio or instant-ngp",
        cameras=read.cameras[order],
        sizes=sorted_by_time(read.sizes),
        images=sorted_by_time(read.images),
        depths=sorted_by_time(read.depths) if has_depth else (),
        masks=sorted_by_time(read.masks) if any(read.masks) else (),
        distortions=sorted_by_time(read.distortions),
        depth_unit=read.depth_unit if depth_unit is None else depth_unit,
        axes=f"{AXES[convention]}, by default" if convention == "opengl" else AXES[convention],
        scale=f"{METRES}, that of the depth files" if has_depth else ARBITRARY,
        notes=tuple(notes),
    )


def transforms_cameras(
    path: Path, size: tuple[int, int], convention: str | None = None, fov: float | None = None
) -> Source:
    """A transforms.json as a path for pictures of `size` (height, width) that it need not name.

    `fov` (horizontal, degrees) is the lens of frames that state none. Errors: ValueError.
    """
    convention, file = convention or "opengl", _json_file(path)
    K = centred_lens(STAND_IN_FOV if fov is None else fov, size[1] / size[0])
    if fov is None and not all(_states_lens(frame) for _, frame in _frames(read_json(file), file)):
        raise ValueError(f"{file} states no lens for some frames: give fov (horizontal, degrees)")
    read = read_transforms(file, convention, assumed=(size, K), distorted=True)
    order = list(read.order)
    return Source(
        what="transforms.json of nerfstudio or instant-ngp",
        cameras=read.cameras[order],
        sizes=tuple(read.sizes[i] for i in order),
        distortions=tuple(read.distortions[i] for i in order),
        axes=AXES[convention],
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
    check_writable(cameras)
    if min(size) < 1:
        raise ValueError(f"size is (height, width) in pixels, at least 1, got {size}")
    signs, file = axis_signs(convention), _json_file(path)
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
        units = {positive(depth_unit, "depth_unit")}
    if len(units) > 1:
        raise ValueError("depth images and depth arrays together need their common depth_unit")
    if units:
        data["depth_unit_scale_factor"] = units.pop()
    text = json.dumps(data | {"frames": frames}, indent=1, allow_nan=False)
    with replacing(file) as draft:
        draft.write_text(text, encoding="utf-8")


def _json_file(path: str | Path) -> Path:
    return inner_file(Path(path), "transforms.json") if os.path.isdir(path) else Path(path)


def _frames(data: dict[str, Any], file: Path) -> list[Frame]:
    """All frames. Errors: ValueError for keys that may change geometry and are not known."""
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
                f"got {shown(value)}: apply it to poses, lens and depth, and remove the key"
            )


def _distortion(frame: Mapping[str, Any], where: str, welcome: bool) -> Distortion | None:
    """The lens distortion of a frame, None for a pinhole.

    Errors: ValueError for a model that is not known, for coefficients whose meaning is not, and for
    any distortion if it is not welcome.
    """
    model = frame.get("camera_model", "OPENCV")
    model = model.upper() if isinstance(model, str) else ""
    known = (*PINHOLES, *FISHEYES) if welcome else PINHOLES
    if model not in known:
        raise ValueError(f"{where}: camera_model must be a pinhole's or known, one of {known}")
    values = {key: finite(frame[key], f"{where}: {key}") for key in DISTORTION if key in frame}
    parameters = [
        finite(value, f"{where}: distortion_params")
        for value in _listed(frame.get("distortion_params", []))
    ]
    nonzero = [key for key, value in values.items() if value]
    nonzero += ["distortion_params"] if any(parameters) else []
    nonzero += ["is_fisheye"] if frame.get("is_fisheye") else []
    if nonzero and not welcome:
        raise ValueError(f"{where} has lens distortion {nonzero}: undistort the images first")
    if any(parameters):
        if len(parameters) != len(NERFSTUDIO) or any(values.values()):
            raise ValueError(
                f"{where}: distortion_params must be nerfstudio's {len(NERFSTUDIO)} numbers "
                f"{NERFSTUDIO} and stand alone, got {len(parameters)}: name the coefficients, as k1 "
                "and p1"
            )
        values = dict(zip(NERFSTUDIO, parameters, strict=True))
    fisheye = bool(frame.get("is_fisheye")) or model in FISHEYES
    meant = FISHEYE if fisheye else POLYNOMIAL if model == "FULL_OPENCV" else POLYNOMIAL[:5]
    unknown = [key for key, value in values.items() if value and key not in meant]
    if unknown:
        raise ValueError(
            f"{where} has lens distortion {unknown}, which {model}{' with is_fisheye' * fisheye} does "
            f"not have, but {meant}: undistort the images first"
        )
    return distortion(fisheye, **{key: value for key, value in values.items() if key in meant})


def _applied_scale(data: Mapping[str, Any], file: Path) -> float:
    """The factor by which positions were multiplied, and depth files were not."""
    scale, transform = data.get("applied_scale"), data.get("applied_transform")
    if transform is not None:
        where = f"{file}: applied_transform"
        rigid(np.array([_pose_rows(transform, where)]), [where])
    return 1.0 if scale is None else positive(scale, f"{file}: applied_scale")


def _depth_unit(data: Mapping[str, Any], file: Path) -> float | None:
    """Metres per step of the depth files. Errors: ValueError for two units that differ."""
    given = {
        key: positive(data[key], f"{file}: {key}") for key in UNIT_KEYS if data.get(key) is not None
    }
    if len(set(given.values())) > 1:
        raise ValueError(f"{file} has two units of depth, {given}: keep the right one")
    return next(iter(given.values()), None)


def _order(frames: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The frames in time: by their times, else by names that differ only in their numbers."""
    indices = range(len(frames))
    for key in TIME_KEYS:
        times = [frame.get(key) for frame in frames]
        if all(is_number(time) for time in times) and len(set(times)) > 1:
            return tuple(sorted(indices, key=lambda i: times[i]))
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names):
        return tuple(indices)
    paths = [PurePosixPath(str(name).replace("\\", "/")) for name in names]
    if len({re.sub("[0-9]+", "0", path.stem) for path in paths}) > 1:
        return tuple(indices)
    keys = [(natural_key(str(path.parent)), natural_key(path.stem)) for path in paths]
    return tuple(sorted(indices, key=lambda i: keys[i]))


def _matrix(frame: Mapping[str, Any], where: str) -> list[list[float]]:
    rows = frame.get("transform_matrix")
    return _pose_rows(rows, f"{where}: transform_matrix")


def _pose_rows(rows: Any, where: str) -> list[list[float]]:
    """The 4 x 4 matrix of 3 or 4 rows."""
    rows = rows if isinstance(rows, list) else []
    lengths = [len(row) if isinstance(row, list) else 0 for row in rows]
    if lengths not in ([4] * 3, [4] * 4):
        raise ValueError(f"{where} must be 3 or 4 lists of 4 numbers, camera to world")
    matrix = [[finite(value, where) for value in row] for row in rows]
    return matrix if len(matrix) == 4 else [*matrix, [0.0, 0.0, 0.0, 1.0]]


def _states_lens(frame: Mapping[str, Any]) -> bool:
    return any(key in frame for key in LENS_KEYS)


def _lenses(
    frames: list[Frame],
    images: tuple[Path | None, ...],
    files: FolderFiles,
    assumed: Lens | None,
) -> tuple[tuple[tuple[int, int], ...], list[list[list[float]]]]:
    """(height, width) in pixels and K for a 1 x 1 image of every frame. Errors: ValueError."""
    if assumed is not None and len({_states_lens(frame) for _, frame in frames}) > 1:
        raise ValueError(
            f"{frames[0][0]} and others: only some frames have a lens: give every frame its fl_x, or none"
        )
    lenses = [
        _lens(frame, image, where, files, assumed)
        for (where, frame), image in zip(frames, images, strict=True)
    ]
    return tuple(size for size, _ in lenses), [K for _, K in lenses]


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
    return pixels(frame["h"], f"{where}: h"), pixels(frame["w"], f"{where}: w")


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
    cx = finite(frame.get("cx", w / 2), f"{where}: cx")
    cy = finite(frame.get("cy", h / 2), f"{where}: cy")
    return unit_intrinsics(fx, fy, cx, cy, size, where)


def _focal(
    frame: Mapping[str, Any], key: str, angle_key: str, side: int, where: str
) -> float | None:
    """Pixels; None if the frame states neither a focal length nor a field of view."""
    if key in frame:
        return positive(frame[key], f"{where}: {key}")
    if angle_key not in frame:
        return None
    angle = positive(frame[angle_key], f"{where}: {angle_key}")
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


def _named_files(
    frames: list[Frame], keys: Iterable[str], files: FolderFiles
) -> tuple[Path | None, ...]:
    """The file that each frame names under one of `keys`, None if it names none.

    Errors: ValueError that lists all frames whose file is not there.
    """
    found: list[Path | None] = []
    misses: list[tuple[str, ValueError]] = []
    for where, frame in frames:
        paths = set()
        for key in keys:
            if key in frame:
                try:
                    paths.add(files.find(frame[key], f"{where}: {key}"))
                except ValueError as error:
                    misses.append((shown(frame[key]), error))
        if len(paths) > 1:
            raise ValueError(f"{where}: {' and '.join(keys)} name different files: keep one")
        found.append(next(iter(paths), None))
    if misses:
        raise missing_files(misses)
    return tuple(found)


def _relative(file: Path, name: str | Path) -> str:
    """`name` relative to the folder of `file`, with forward slashes."""
    root = file.parent.resolve()
    target = (root / name).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"files must lie in {root} beside their transforms.json, got {name}")
    return target.relative_to(root).as_posix()
