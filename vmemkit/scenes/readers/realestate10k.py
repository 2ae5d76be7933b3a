"""The text files of RealEstate10K, read and written.

In: a file, or `Cameras` (t,). Out: the other. Files may come from anywhere, so every number is checked
before it is used, and a ValueError says what is wrong in which line.
Source: google.github.io/realestate10k (the file format). Other programs leave out the line of the
video's address, or write times as decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import torch

from vmemkit.core import Cameras, replacing
from vmemkit.core import cameras as checked_cameras
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    MAX_CENTRE,
    MAX_FOCAL,
    MIN_FOCAL,
    are_numbers,
    check_writable,
    number,
    read_text,
    rigid,
)
from vmemkit.scenes.readers.source import Source

NUMBERS_PER_LINE = 19  # of a camera
LINE_BYTES = 2_000  # of a text, to see what it is
FRAME_MICROSECONDS = 33_333  # RealEstate10K's time between frames, at 30 per second
MICRO = 1_000_000  # microseconds per second
MAX_TIMESTAMP = 10**18
MAX_SECONDS = 86_400  # fractional times up to a day are seconds


def read_realestate10k(path: str | Path) -> tuple[Cameras, list[int]]:
    """Cameras (t,) and timestamps (microseconds) of a RealEstate10K text file.

    The first line is the video's address, or already a camera. Each further line has 19 numbers:
    timestamp, fx fy cx cy (over width and height, as in our K), k1 k2 (zero), and the rows of the
    3 x 4 world-to-camera matrix. Timestamps are microseconds; if some have a fraction and none exceeds
    a day of seconds, they are seconds. Rotations that were rounded become the nearest ones.
    Errors: ValueError naming file and line for anything else.
    """
    lines = [line.split() for line in read_text(Path(path)).splitlines()]
    has_address = not (lines and are_numbers(lines[0], NUMBERS_PER_LINE))
    rows = [(f"{path}, line {i}", words) for i, words in enumerate(lines, 1) if words]
    rows = [(where, words) for where, words in rows if words is not lines[0] or not has_address]
    if not 1 <= len(rows) <= MAX_CAMERAS:
        raise ValueError(f"{path} needs 1 to {MAX_CAMERAS} cameras, got {len(rows)}")
    times, values = [], np.zeros((len(rows), NUMBERS_PER_LINE - 1))
    for row, (where, words) in zip(values, rows, strict=True):
        if len(words) != NUMBERS_PER_LINE:
            raise ValueError(f"{where} needs {NUMBERS_PER_LINE} numbers, got {len(words)}")
        times.append(_time(words[0], where))
        row[:] = [number(word, where) for word in words[1:]]
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
    cam_from_world[:, :3] = values[:, 6:].reshape(-1, 3, 4)
    cam_from_world = rigid(cam_from_world, [where for where, _ in rows])
    K = np.tile(np.eye(3), (len(rows), 1, 1))
    K[:, [0, 1, 0, 1], [0, 1, 2, 2]] = values[:, :4]
    poses = torch.from_numpy(np.linalg.inv(cam_from_world))
    return checked_cameras(poses, torch.from_numpy(K)), _microseconds(times)


def realestate10k_source(path: Path) -> Source:
    """A RealEstate10K text file, in the order of time. Errors: ValueError as `read_realestate10k`."""
    cameras, times = read_realestate10k(path)
    order = sorted(range(len(times)), key=times.__getitem__)
    return Source(
        what="text of RealEstate10K",
        cameras=cameras[order],
        times=tuple(times[i] / MICRO for i in order),
        notes=("world-to-camera matrices were inverted",),
    )


def is_realestate10k(file: Path) -> bool:
    """Whether a file is such a text: a camera is in its first lines."""
    if file.suffix.lower() != ".txt" or not file.is_file():
        return False
    with open(file, "rb") as stream:
        lines = [stream.readline(LINE_BYTES).decode("utf-8", "replace") for _ in range(3)]
    return any(are_numbers(line.split(), NUMBERS_PER_LINE) for line in lines)


def write_realestate10k(
    path: str | Path, cameras: Cameras, timestamps: Sequence[int] | None = None, url: str = ""
) -> None:
    """Write cameras (t,) as a RealEstate10K text file; timestamps default to 30 per second.

    Errors: ValueError, and nothing written, for skewed K, wrong counts and an address that is not
    one line.
    """
    check_writable(cameras)
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
        values = " ".join(f"{value:.9f}" for value in [*focal_and_centre, 0, 0, *matrix])
        lines.append(f"{time} {values}")
    with replacing(path) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _time(word: str, where: str) -> Decimal:
    """A time, however it is written: 33367, 33367.0 or 3.3367e+04."""
    try:
        time = Decimal(word)
        if time.is_finite() and 0 <= time < MAX_TIMESTAMP:
            return time
    except InvalidOperation:
        pass
    raise ValueError(
        f"{where} needs {NUMBERS_PER_LINE} numbers, the first of them a time of 0 or more, got "
        f"{word[:60]!r}"
    )


def _microseconds(times: Sequence[Decimal]) -> list[int]:
    """Times in microseconds, from seconds if they are these."""
    fractional = any(time != time.to_integral_value() for time in times)
    factor = MICRO if fractional and max(times) <= MAX_SECONDS else 1
    return [round(time * factor) for time in times]
