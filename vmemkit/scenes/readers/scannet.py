"""Exports of ScanNet: the folders color, depth, pose and intrinsic.

In: a folder. Out: a `Source`. Frames have a number: color/7.jpg, depth/7.png and pose/7.txt, a 4 x 4
camera-to-world matrix. Where tracking was lost, it is filled with -inf; such frames are left out. The
pixels of its lens have their centres at whole numbers (a depth image of 640 columns has cx = 319.5).
Source: github.com/ScanNet/ScanNet, SensReader/python.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from vmemkit.core import cameras, image_size
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    MAX_NUMBER,
    inner_file,
    read_text,
    rigid,
    unit_intrinsics,
)
from vmemkit.scenes.readers.pictures import pictures_in
from vmemkit.scenes.readers.source import METRES, Source

FOLDERS = ("color", "pose")  # depth may be missing
MAX_POSE_BYTES = 10_000
UNIT = 0.001  # metres per step of depth
LIKENESS = 0.01  # of the lenses of colour and depth, as shares of the image


def scannet_source(path: Path, depth_unit: float | None = None) -> Source:
    """A folder that ScanNet's reader has exported, in the order of its frames' numbers.

    Errors: ValueError naming the file that is missing or malformed.
    """
    photos = {file.stem: file for file in pictures_in(path / "color")}
    depths = {file.stem: file for file in pictures_in(path / "depth", depth=True)}
    if not 1 <= len(photos) <= MAX_CAMERAS:
        raise ValueError(f"{path / 'color'} needs 1 to {MAX_CAMERAS} images, got {len(photos)}")
    missing = [name for name in photos if not (path / "pose" / f"{name}.txt").is_file()]
    if missing:
        listed = ", ".join(f"{name}.txt" for name in missing[:100])
        raise ValueError(f"{path / 'pose'} lacks the poses of {len(missing)} images: {listed}")
    poses = {name: _matrix(inner_file(path, f"pose/{name}.txt")) for name in photos}
    kept = [name for name, pose in poses.items() if np.isfinite(pose).all()]
    if not kept:
        raise ValueError(f"{path}: tracking was lost in all {len(poses)} frames: none has a pose")
    matrices = rigid(
        np.array([poses[name] for name in kept]), [f"{path}/pose/{name}.txt" for name in kept]
    )
    size = image_size(photos[kept[0]])
    K = _lens(path, "color", size)
    notes = ["half a pixel was added to the principal point, whose pixels are centred at 0"]
    if len(kept) < len(poses):
        notes.append(f"{len(poses) - len(kept)} of {len(poses)} frames lost tracking: left out")
    known = tuple(depths.get(name) for name in kept)
    if any(known):
        _check_registered(path, K, next(file for file in known if file is not None))
    return Source(
        what="export of ScanNet",
        cameras=cameras(torch.from_numpy(matrices), torch.tensor(K)),
        sizes=(size,) * len(kept),
        images=tuple(photos[name] for name in kept),
        depths=known if any(known) else (),
        depth_unit=UNIT if depth_unit is None else depth_unit,
        scale=METRES,
        notes=tuple(notes),
    )


def _check_registered(path: Path, K: list[list[float]], depth: Path) -> None:
    """Errors: ValueError if depth was taken through another lens than colour."""
    file = path / "intrinsic" / "intrinsic_depth.txt"
    if not file.is_file() or depth.suffix != ".png":
        return
    other = _lens(path, "depth", image_size(depth))
    if np.abs(np.array(other) - np.array(K)).max() > LIKENESS:
        raise ValueError(
            f"{path}: the lenses of colour and depth differ by more than {LIKENESS:.0%} of the image: "
            "register the depth to the colour images first"
        )


def _lens(path: Path, kind: str, size: tuple[int, int]) -> list[list[float]]:
    """K for a 1 x 1 image. Errors: ValueError."""
    file = inner_file(path, f"intrinsic/intrinsic_{kind}.txt")
    values = _matrix(file)
    if not np.isfinite(values).all():
        raise ValueError(f"{file} must hold finite numbers")
    fx, fy, cx, cy = values[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    return unit_intrinsics(fx, fy, cx + 0.5, cy + 0.5, size, str(file))


def _matrix(file: Path) -> Float64[np.ndarray, "4 4"]:
    """A 4 x 4 matrix of text; its numbers may be infinite or NaN. Errors: ValueError."""
    words = read_text(file, MAX_POSE_BYTES).split()
    if len(words) != 16:
        raise ValueError(f"{file} must hold the 16 numbers of a matrix, got {len(words)}")
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{file} must hold the 16 numbers of a matrix: {error!s:.100}") from error
    if any(MAX_NUMBER < abs(value) < math.inf for value in values):
        raise ValueError(f"{file} must hold numbers within {MAX_NUMBER:g}, got larger ones")
    return np.array(values).reshape(4, 4)
