"""Exports of the iPhone app Record3D: EXR + JPG, and unpacked .r3d files.

In: a folder with metadata.json, rgb/0.jpg and depth/0.exr, or with metadata, rgbd/0.jpg and
rgbd/0.depth. Out: a `Source`. Poses are camera-to-world, (x, y, z, w) quaternions before positions,
with OpenGL's camera axes. K is column by column, for images of w x h. Depth is in metres.
Sources: github.com/marek-simonik/record3d, issues 7, 27, 33, 36 and 67 (answers of the author).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from vmemkit.core import MAX_PIXELS, SKY_FROM, cameras
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    axis_signs,
    inner_file,
    numbers,
    pixels,
    pose_from_quaternion,
    read_bytes,
    read_json,
    unit_intrinsics,
)
from vmemkit.scenes.readers.pictures import pictures_in
from vmemkit.scenes.readers.source import AXES, METRES, Source

METADATA = ("metadata.json", "metadata")
MAX_DEPTH_SIDE = 4096  # pixels of a phone's depth map
EXTRA = 'pip install "vmemkit[record3d]"'


def metadata_file(folder: Path) -> Path | None:
    """The metadata of an export, None if the folder is none."""
    files = (folder / name for name in METADATA)
    return next((file for file in files if file.is_file() and _photos(folder)), None)


def record3d_source(path: Path) -> Source:
    """An export of Record3D, in the order of its frames' numbers.

    Errors: ValueError naming file and key for whatever is missing or malformed, and the extra that
    reads its depth where that is not installed.
    """
    file = metadata_file(path)
    if file is None:
        raise ValueError(f"{path} needs metadata.json with rgb/0.jpg, or metadata with rgbd/0.jpg")
    data, photos = read_json(inner_file(path, file.name)), _photos(path)
    poses = data.get("poses")
    if not isinstance(poses, list) or not 1 <= len(poses) <= MAX_CAMERAS:
        raise ValueError(f"{file} needs a list of 1 to {MAX_CAMERAS} poses")
    if sorted(photos) != list(range(len(poses))):
        raise ValueError(
            f"{file} has {len(poses)} poses, and {next(iter(photos.values())).parent} has "
            f"{len(photos)} images: they must be 0.jpg to {len(poses) - 1}.jpg"
        )
    matrices, K = [], []
    size = (pixels(data.get("h"), f"{file}: h"), pixels(data.get("w"), f"{file}: w"))
    for i, pose in enumerate(poses):
        where = f"{file}, pose {i}"
        values = numbers(pose, 7, where)
        matrices.append(pose_from_quaternion(values[:4], values[4:], where))
        K.append(unit_intrinsics(*_lens(data, i, file), size, where))
    depths = tuple(_depth(photos[i]) for i in range(len(poses)))
    shape = None
    if any(depth is not None and depth.suffix == ".depth" for depth in depths):
        shape = (pixels(data.get("dh"), f"{file}: dh"), pixels(data.get("dw"), f"{file}: dw"))
    times = data.get("frameTimestamps")
    times = numbers(times, len(poses), f"{file}: frameTimestamps") if times else []
    return Source(
        what="export of Record3D",
        cameras=cameras(
            torch.from_numpy(np.array(matrices) * axis_signs("opengl")),
            torch.tensor(K, dtype=torch.float64),
        ),
        sizes=(size,) * len(poses),
        images=tuple(photos[i] for i in range(len(poses))),
        depths=depths if any(depths) else (),
        times=tuple(times),
        read_depth=lambda depth: _read_depth(depth, shape),
        axes=AXES["opengl"],
        scale=f"{METRES}, by the phone's depth sensor",
    )


def _photos(folder: Path) -> dict[int, Path]:
    """The images of an export by their numbers; none if the folder is no export."""
    files = pictures_in(folder / "rgbd") or pictures_in(folder / "rgb")
    return {int(file.stem): file for file in files if file.stem.isascii() and file.stem.isdecimal()}


def _lens(data: dict[str, Any], frame: int, file: Path) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels: those of the frame, else those of K. Errors: ValueError."""
    own = data.get("perFrameIntrinsicCoeffs")
    if isinstance(own, list) and own:
        if frame >= len(own):
            raise ValueError(f"{file}: perFrameIntrinsicCoeffs needs one entry for each pose")
        fx, fy, cx, cy = numbers(own[frame], 4, f"{file}: perFrameIntrinsicCoeffs {frame}")
        return fx, fy, cx, cy
    K = numbers(data.get("K"), 9, f"{file}: K")
    return K[0], K[4], K[6], K[7]


def _depth(photo: Path) -> Path | None:
    """The depth file of an image, None if it has none."""
    places = (
        photo.with_suffix(".depth"),
        *(photo.parent.parent / "depth" / f"{photo.stem}{suffix}" for suffix in (".exr", ".EXR")),
    )
    root = photo.parent.parent.resolve()
    return next(
        (p for p in places if p.is_file() and p.resolve().is_relative_to(root)),
        None,
    )


def _read_depth(file: Path, shape: tuple[int, int] | None) -> Float[Tensor, "h w"]:
    """Depth in metres, NaN where it is unknown. Errors: ValueError that names the file."""
    try:
        metres = _exr(file) if file.suffix.lower() == ".exr" else _compressed(file, shape)
    except ModuleNotFoundError as error:
        raise ValueError(f"the depth of Record3D needs {error.name}: {EXTRA}") from error
    except Exception as error:  # the libraries have their own kinds for damaged files
        raise ValueError(f"cannot read the depth in {file}: {error}") from error
    known = np.isfinite(metres) & (metres > 0) & (metres < SKY_FROM)
    return torch.from_numpy(np.where(known, metres, np.float32(np.nan)).astype(np.float32))


def _exr(file: Path) -> Float32[np.ndarray, "h w"]:
    """The one channel of an EXR. Errors: several."""
    import OpenEXR

    read_bytes(file)  # a regular file of a sane size
    parts = OpenEXR.File(os.fspath(file), header_only=True).parts
    if len(parts) != 1:
        raise ValueError(f"one part is needed, got {len(parts)}: it is damaged, or no depth")
    header = parts[0].header
    (left, top), (right, bottom) = header["dataWindow"]
    if not 0 <= right - left < MAX_DEPTH_SIDE or not 0 <= bottom - top < MAX_DEPTH_SIDE:
        raise ValueError(f"its window is {left}, {top} to {right}, {bottom}")
    channels = OpenEXR.File(os.fspath(file), separate_channels=True).channels()
    name = (
        "R" if "R" in channels else next(iter(channels))
    )  # where there are several, they are equal
    return np.asarray(channels[name].pixels, np.float32)


def _compressed(file: Path, shape: tuple[int, int] | None) -> Float32[np.ndarray, "h w"]:
    """The float32 values that LZFSE has compressed. Errors: several."""
    import liblzfse

    if shape is None or max(shape) > MAX_DEPTH_SIDE or shape[0] * shape[1] > MAX_PIXELS:
        raise ValueError(f"dh and dw must be 1 to {MAX_DEPTH_SIDE}, got {shape}")
    size = 4 * shape[0] * shape[1]
    content = liblzfse.decompress(read_bytes(file, size + 4096))
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes are not {shape[0]} x {shape[1]} float32 values")
    return np.frombuffer(content, "<f4").reshape(shape)
