"""Folders of the TUM RGB-D benchmark: rgb.txt, depth.txt and groundtruth.txt; or such poses alone.

In: a folder, or a text of poses. Out: a `Source`. The three lists have clocks of their own: an image
belongs to the pose and the depth that are nearest in time, at most MAX_GAP away. Poses are
camera-to-world, with quaternions (x, y, z, w). The folder has no lens; the benchmark recommends that of
ROS, without undistortion.
Source: cvg.cit.tum.de/data/datasets/rgbd-dataset (file formats, intrinsic calibration).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from vmemkit.core import cameras, image_size, intrinsics
from vmemkit.scenes.file_names import FolderFiles
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    are_numbers,
    inner_file,
    lines_of,
    missing_files,
    number,
    pose_from_quaternion,
    says_something,
    unit_intrinsics,
)
from vmemkit.scenes.readers.source import METRES, STAND_IN_FOV, Source

T = TypeVar("T")
LISTS = ("rgb.txt", "groundtruth.txt")  # depth.txt may be missing
POSE_NUMBERS = 8  # of a line: a time, a position and a quaternion
MAX_POSES = 20 * MAX_CAMERAS  # they come more often than images
MAX_COMMENTS, LINE_BYTES = 20, 2_000  # at the beginning of a text, to see what it is
MAX_GAP = 0.02  # seconds
UNIT = 1 / 5000  # metres per step of depth
# The lens that the benchmark recommends. Its pixels have their centres at whole numbers.
FOCAL, CENTRE, SIZE = 525.0, (319.5, 239.5), (480, 640)


def is_tum(path: Path) -> bool:
    """Whether a path is a folder of the benchmark, or a text that begins with a pose."""
    if path.is_dir():
        return all((path / name).is_file() for name in LISTS)
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with open(path, "rb") as stream:
        for _ in range(MAX_COMMENTS):
            line = stream.readline(LINE_BYTES).decode("utf-8", "replace")
            if says_something(line):
                return are_numbers(line.split(), POSE_NUMBERS)
    return False


def tum_source(path: Path, fov: float | None = None, depth_unit: float | None = None) -> Source:
    """A folder of the benchmark, or a text of poses.

    `fov` (horizontal, degrees) takes the place of a folder's usual lens; a text has none.
    Errors: ValueError naming file and line for whatever is missing or malformed.
    """
    if not path.is_dir():
        return _trajectory(path, fov)
    photos = _files(inner_file(path, "rgb.txt"))
    depths = _files(inner_file(path, "depth.txt")) if (path / "depth.txt").is_file() else []
    poses = _poses(inner_file(path, "groundtruth.txt"), MAX_POSES)
    taken = []
    for time, photo in photos:
        pose, depth = _nearest(time, poses), _nearest(time, depths)
        if pose is not None:
            taken.append((time, photo, pose, depth))
    if not taken:
        raise ValueError(
            f"{path}: none of {len(photos)} images is within {MAX_GAP} s of one of {len(poses)} poses"
        )
    size = image_size(taken[0][1])
    notes = [f"images, depth and poses were matched by time, at most {MAX_GAP} s apart"]
    if len(taken) < len(photos):
        notes.append(f"{len(photos) - len(taken)} of {len(photos)} images have no pose: left out")
    without = sum(depth is None for *_, depth in taken)
    if depths and without:
        notes.append(f"{without} of {len(taken)} images have no depth near in time")
    if fov is not None:
        K = intrinsics(fov, size[1] / size[0])
        notes.append(f"the lens is the given fov, {fov:g} degrees")
    else:
        if size != SIZE:
            raise ValueError(
                f"{path} has images of {size[1]} x {size[0]}, not the benchmark's {SIZE[1]} x "
                f"{SIZE[0]}: give fov (horizontal, degrees)"
            )
        corner = [value + 0.5 for value in CENTRE]
        K = torch.tensor(unit_intrinsics(FOCAL, FOCAL, corner[0], corner[1], SIZE, str(path)))
        notes.append(f"the lens is the benchmark's usual one, fx = fy = {FOCAL:g}, undistorted")
    return Source(
        what="folder of the TUM RGB-D benchmark",
        cameras=cameras(torch.from_numpy(np.array([pose for _, _, pose, _ in taken])), K),
        sizes=(size,) * len(taken),
        images=tuple(photo for _, photo, _, _ in taken),
        depths=tuple(depth for *_, depth in taken) if depths else (),
        depth_unit=UNIT if depth_unit is None else depth_unit,
        times=tuple(time for time, *_ in taken),
        scale=METRES,
        notes=tuple(notes),
    )


def _trajectory(file: Path, fov: float | None) -> Source:
    """The poses of a text, at most MAX_CAMERAS."""
    poses = _poses(file, MAX_CAMERAS)
    return Source(
        what="text of poses as in the TUM benchmarks",
        cameras=cameras(
            torch.from_numpy(np.array([pose for _, pose in poses])),
            intrinsics(STAND_IN_FOV if fov is None else fov),
        ),
        lens_known=fov is not None,
        times=tuple(time for time, _ in poses),
        notes=()
        if fov is None
        else (f"the lens is the given fov, {fov:g} degrees, of square images",),
    )


def _files(file: Path) -> list[tuple[float, Path]]:
    """The files that a list names, with their times, in order. Errors: ValueError."""
    files, found, misses = FolderFiles(file.parent), [], []
    for where, words in _lines(file):
        if len(words) != 2:
            raise ValueError(f"{where} needs a time and a file name, got {len(words)} words")
        try:
            found.append((number(words[0], where), files.find(words[1], where)))
        except ValueError as error:
            misses.append((repr(words[1][:60]), error))
    if misses:
        raise missing_files(misses)
    return sorted(found)


def _poses(file: Path, most: int) -> list[tuple[float, np.ndarray]]:
    """Up to `most` camera-to-world poses with their times, in order. Errors: ValueError."""
    poses = []
    for where, words in _lines(file, most):
        values = [number(word, where) for word in words]
        if len(values) != POSE_NUMBERS:
            raise ValueError(f"{where} needs {POSE_NUMBERS} numbers, got {len(values)}")
        poses.append((values[0], pose_from_quaternion(values[4:], values[1:4], where)))
    return sorted(poses, key=lambda pose: pose[0])


def _lines(file: Path, most: int = MAX_CAMERAS) -> list[tuple[str, list[str]]]:
    lines = lines_of(file)
    if not 1 <= len(lines) <= most:
        raise ValueError(f"{file} needs 1 to {most} lines, got {len(lines)}")
    return lines


def _nearest(time: float, timed: Sequence[tuple[float, T]]) -> T | None:
    """What is nearest in time, None if that is more than MAX_GAP away."""
    place = bisect_left(timed, time, key=lambda item: item[0])
    near = timed[max(place - 1, 0) : place + 1]
    best = min(near, key=lambda item: abs(item[0] - time), default=None)
    return best[1] if best is not None and abs(best[0] - time) <= MAX_GAP else None
