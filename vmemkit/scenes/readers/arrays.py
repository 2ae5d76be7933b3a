"""Poses and intrinsics in NumPy's files: poses.npy with intrinsics.npy, and one .npz with both.

In: a file or a folder. Out: a `Source`. The names say little, so a note says what was assumed: poses are
camera-to-world with OpenCV's axes, unless the caller or the name `w2c` says otherwise.
Sources: Lyra 2 (github.com/nv-tlabs/lyra, Lyra-2/lyra_2/_src/inference/lyra2_custom_traj_inference.py)
for the .npz with w2c, intrinsics, image_height and image_width.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float64, Shaped

from vmemkit.core import cameras, image_size, intrinsics, npy_header
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    MAX_FILE_BYTES,
    MAX_FOCAL,
    MAX_NUMBER,
    axis_signs,
    inner_file,
    pixels,
    rigid,
    unit_intrinsics,
)
from vmemkit.scenes.readers.pictures import beside, pictures_in
from vmemkit.scenes.readers.source import AXES, STAND_IN_FOV, Source

POSES, LENS = "poses.npy", "intrinsics.npy"  # names in a folder
# Arrays of an .npz: its poses, whether these are world-to-camera, and its lens.
POSE_KEYS: dict[str, bool | None] = {"w2c": True, "c2w": False, "poses": None}
LENS_KEYS, SIZE_KEYS = ("intrinsics", "K"), ("image_height", "image_width")
MOST_OF_SHARES = 2.0  # of a principal point that is a share of the image: usually a half
MAX_ENTRIES = 100  # of an .npz


def arrays_source(
    path: Path,
    convention: str | None = None,
    world_to_camera: bool | None = None,
    fov: float | None = None,
    depth_unit: float | None = None,
) -> Source:
    """Poses [t 4 4] or [t 3 4] and intrinsics [3 3], [t 3 3], [4] or [t 4] (fx, fy, cx, cy).

    `path` is an .npz, a .npy of poses with intrinsics.npy beside it, or the folder of poses.npy.
    Intrinsics are in pixels or shares of the image. Images lie in `images` beside them, as many as
    poses. `fov` (horizontal, degrees) takes the place of missing intrinsics, and only of these.
    Errors: ValueError naming file and array for whatever is missing or malformed.
    """
    file = inner_file(path, POSES) if path.is_dir() else path
    is_archive = file.suffix.lower() == ".npz"
    found = _archive(file) if is_archive else {"poses": _array_file(file)}
    if not is_archive and (file.parent / LENS).is_file():
        found["intrinsics"] = _array_file(inner_file(file.parent, LENS))
    name = _only(found, POSE_KEYS, file, "poses")
    has_lens = bool(set(LENS_KEYS) & found.keys())
    if has_lens and fov is not None:
        raise ValueError(f"{file} has intrinsics, so it needs no fov: leave it out")
    notes = []
    inverse = POSE_KEYS[name] if world_to_camera is None else world_to_camera
    if inverse is None:
        notes.append("poses were taken for camera-to-world: world_to_camera=True inverts them")
    matrices = _poses(found[name], file, convention or "opencv", bool(inverse))
    images = pictures_in(beside(file.parent, ("images", "rgb", "color")))
    images = images if len(images) == len(matrices) else ()
    depths = pictures_in(beside(file.parent, ("depth", "depths")), depth=True)
    K, size, words = _lens(found, len(matrices), file, images, fov)
    unused = sorted(found.keys() - {name, *LENS_KEYS, *SIZE_KEYS})
    if unused:
        notes.append(f"the arrays {', '.join(unused)[:300]} were not used")
    return Source(
        what=f"NumPy arrays ({file.name}: {', '.join(sorted(found)[:9])})",
        cameras=cameras(torch.from_numpy(matrices), torch.from_numpy(K)),
        lens_known=has_lens or fov is not None,
        sizes=() if size is None else (size,) * len(matrices),
        images=images,
        depths=depths if images and len(depths) == len(images) else (),
        depth_unit=depth_unit,
        axes=AXES[convention or "opencv"] + ("" if convention else ", by default"),
        notes=(*notes, *words),
    )


def _poses(
    values: Shaped[np.ndarray, ...], file: Path, convention: str, inverse: bool
) -> Float64[np.ndarray, "t 4 4"]:
    """Checked poses, camera to world, with OpenCV's axes. Errors: ValueError."""
    where = f"{file}: the poses"
    if values.ndim != 3 or values.shape[1:] not in ((4, 4), (3, 4)):
        raise ValueError(f"{where} must be [t 4 4] or [t 3 4], got {list(values.shape)}")
    if not 1 <= len(values) <= MAX_CAMERAS:
        raise ValueError(f"{where} must be 1 to {MAX_CAMERAS}, got {len(values)}")
    matrices = np.tile(np.eye(4), (len(values), 1, 1))
    matrices[:, : values.shape[1]] = _numbers(values, where)
    matrices = rigid(matrices, [f"{where}, number {i}" for i in range(len(values))])
    if inverse:
        matrices = np.linalg.inv(matrices)
    return matrices * axis_signs(convention)


def _lens(
    found: Mapping[str, Shaped[np.ndarray, ...]],
    count: int,
    file: Path,
    images: tuple[Path, ...],
    fov: float | None,
) -> tuple[Float64[np.ndarray, "t 3 3"], tuple[int, int] | None, list[str]]:
    """K for a 1 x 1 image, the (height, width) that it was for, and what was assumed, as words."""
    size = image_size(images[0]) if images else None
    if set(SIZE_KEYS) <= found.keys():
        stated = [pixels(_scalar(found[key]), f"{file}: {key}") for key in SIZE_KEYS]
        size = (stated[0], stated[1])
    if not set(LENS_KEYS) & found.keys():
        aspect = size[1] / size[0] if size else 1.0
        K = intrinsics(STAND_IN_FOV if fov is None else fov, aspect).double().numpy()
        words = [] if fov is None else [f"the lens is the given fov, {fov:g} degrees"]
        return np.tile(K, (count, 1, 1)), size, words
    values = _four(found[_only(found, dict.fromkeys(LENS_KEYS), file, "intrinsics")], count, file)
    # The focal lengths of very small images may look like shares; their principal point does not.
    if np.abs(values[:, :2]).max() <= MAX_FOCAL and np.abs(values[:, 2:]).max() <= MOST_OF_SHARES:
        if not (values[:, :2] > 0).all():
            raise ValueError(f"{file}: intrinsics are neither pixels nor shares, got {values[0]}")
        K = np.tile(np.eye(3), (count, 1, 1))
        K[:, [0, 1, 0, 1], [0, 1, 2, 2]] = values
        return K, size, ["intrinsics were taken for shares of the image's width and height"]
    notes = []
    if size is None:
        w, h = (pixels(round(2 * centre), f"{file}: twice cx, cy") for centre in values[0, 2:])
        size = (h, w)
        notes.append(
            f"no size is stated, so the images were taken for {w} x {h}, twice the principal point"
        )
    lenses = [
        unit_intrinsics(fx, fy, cx, cy, size, f"{file}, lens {i}")
        for i, (fx, fy, cx, cy) in enumerate(values.tolist())
    ]
    words = "intrinsics were divided by the image's width and height"
    return np.array(lenses), size, [*notes, words]


def _four(values: Shaped[np.ndarray, ...], count: int, file: Path) -> Float64[np.ndarray, "t 4"]:
    """fx, fy, cx, cy of each camera. Errors: ValueError."""
    where = f"{file}: the intrinsics"
    numbers = _numbers(values, where)
    if numbers.shape[-2:] == (3, 3):
        others = numbers[..., [0, 1, 2, 2, 2], [1, 0, 0, 1, 2]]
        if np.abs(others - [0, 0, 0, 0, 1]).max(initial=0) > 1e-5:
            raise ValueError(f"{where} must be [[fx 0 cx] [0 fy cy] [0 0 1]], without skew")
        numbers = numbers[..., [0, 1, 0, 1], [0, 1, 2, 2]]
    if numbers.shape[-1:] != (4,) or numbers.shape[:-1] not in ((), (1,), (count,)):
        raise ValueError(
            f"{where} must be [3 3], [4] (fx, fy, cx, cy), or one of these for each of {count} poses, "
            f"got {list(values.shape)}"
        )
    return np.broadcast_to(numbers, (count, 4))


def _numbers(values: Shaped[np.ndarray, ...], where: str) -> Float64[np.ndarray, ...]:
    with np.errstate(all="ignore"):  # long floats may overflow, which is refused
        numbers = values.astype(np.float64)
    if not (np.abs(numbers) <= MAX_NUMBER).all():
        raise ValueError(f"{where} must be numbers within {MAX_NUMBER:g}, got NaN or larger ones")
    return numbers


def _scalar(values: Shaped[np.ndarray, ...]) -> Any:
    return values.item() if values.size == 1 else None


def _only(found: Mapping[str, Any], names: Mapping[str, Any], file: Path, what: str) -> str:
    """The one name under which something is there. Errors: ValueError."""
    there = [name for name in names if name in found]
    if len(there) != 1:
        raise ValueError(
            f"{file} needs one array of {what}, named {' or '.join(names)}, got "
            f"{there or sorted(found)[:9]}"
        )
    return there[0]


def _array_file(file: Path) -> Shaped[np.ndarray, ...]:
    """The array of a .npy. Errors: ValueError that names it."""
    try:
        if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it must be an existing file of at most {MAX_FILE_BYTES} bytes")
        with open(file, "rb") as stream:
            return _array(stream)
    except Exception as error:  # NumPy's parser of headers has half a dozen kinds
        raise ValueError(f"cannot read {file} (a .npy of numbers is needed): {error}") from error


def _archive(file: Path) -> dict[str, Shaped[np.ndarray, ...]]:
    """The arrays of numbers in an .npz by name. Errors: ValueError that names the file."""
    known = {*POSE_KEYS, *LENS_KEYS, *SIZE_KEYS}
    try:
        if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it must be an existing file of at most {MAX_FILE_BYTES} bytes")
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"it holds {len(entries)} arrays, more than {MAX_ENTRIES}")
            found: dict[str, Shaped[np.ndarray, ...]] = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name not in known:
                    found[name[:60]] = np.empty(0)  # it is named, and not read
                    continue
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{name} is compressed in a way that numpy does not use")
                with archive.open(entry) as stream:
                    found[name] = _array(stream)
            return found
    except Exception as error:  # zipfile and its decompressors have half a dozen kinds
        raise ValueError(f"cannot read {file} (an .npz of numbers is needed): {error}") from error


def _array(stream: IO[bytes] | zipfile.ZipExtFile) -> Shaped[np.ndarray, ...]:
    """The array of an open .npy. Errors: ValueError for more than MAX_FILE_BYTES, and for fewer bytes
    than its header says."""
    shape, column_major, dtype = npy_header(stream)
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_FILE_BYTES:
        raise ValueError(f"an array {list(shape)} has more than {MAX_FILE_BYTES} bytes")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError(f"it is cut short: an array {list(shape)} of {dtype} has {size} bytes")
    array = np.frombuffer(content, dtype, math.prod(shape))
    return array.reshape(shape, order="F" if column_major else "C")
