"""Lamps: each hangs in the middle of its room, so it tells walls that no view shows.

In: evidence. Out: the middles of the lamps' globes. A wall that is unseen is as far from the lamp as
the seen wall opposite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vmemkit.generation.writer.evidence import Array, Evidence, groups
from vmemkit.generation.writer.facts import Walls, may_be_inside
from vmemkit.generation.writer.walls import Shell
from vmemkit.scenes.house import BULB, CEILING, GLOBE, GLOBE_DROP, ROOM_SIDE, Point

# Lengths are in metres.
GLOW = 0.15  # largest colour difference of a globe from BULB
ROUND = 0.005  # from the surface of the globe that fits best, at most, half of the samples
LEAST, APART = 6, 0.12  # samples that a lamp needs, and largest gap between them
STEPS = 20  # iterations in which a ball is fitted
MIDDLE = 0.15  # from the middle between two seen walls, within which a lamp belongs to them


def find_lamps(evidence: Evidence) -> list[Point]:
    """The middles of the globes that are seen: bright balls of one size under the ceiling."""
    lowest, highest = (GLOBE_DROP - height for height in CEILING)
    y = evidence.point[:, 1]
    rows = (y < lowest + GLOBE) & (y > highest - GLOBE) & (evidence.area > 0)
    rows &= np.abs(evidence.color - np.array(BULB)).max(1) < GLOW
    bright = evidence[rows & (np.abs(evidence.normal[:, 1]) < 0.99)]
    lamps = []
    for group in groups(bright.point, APART, LEAST):
        points = bright.point[group]
        middle = np.median(points - GLOBE * bright.normal[group], 0)
        for _ in range(STEPS):
            middle = (points - GLOBE * _unit(points - middle)).mean(0)
        gap = np.abs(np.linalg.norm(points - middle, axis=1) - GLOBE)
        hangs = highest - ROUND < middle[1] < lowest + ROUND
        if hangs and np.median(gap) < ROUND:
            lamps.append((float(middle[0]), float(middle[1]), float(middle[2])))
    return lamps


def with_lamp(shell: Shell, lamps: Sequence[Point]) -> Shell:
    """The walls and ceiling of a room with those that its lamp tells."""
    for lamp in lamps:
        walls = _mirrored(shell.walls, lamp)
        if walls is not None:
            ceiling = lamp[1] - GLOBE_DROP if shell.ceiling is None else shell.ceiling
            return replace(shell, walls=walls, ceiling=ceiling)
    return shell


def _mirrored(walls: Walls, lamp: Point) -> Walls | None:
    """The walls with those opposite; None if a room with that lamp would not be like a room."""
    if not may_be_inside(walls, lamp) or all(wall is None for wall in walls):
        return None
    x0, x1 = _pair(walls[0], walls[1], lamp[0])
    z0, z1 = _pair(walls[2], walls[3], lamp[2])
    for low, high, middle in ((x0, x1, lamp[0]), (z0, z1, lamp[2])):
        if low is None or high is None:
            continue
        if abs((low + high) / 2 - middle) > MIDDLE:
            return None
        if not ROOM_SIDE[0] - 0.1 < high - low < ROOM_SIDE[1] + 0.1:
            return None
    return x0, x1, z0, z1


def _pair(
    low: float | None, high: float | None, middle: float
) -> tuple[float | None, float | None]:
    if low is None and high is not None:
        low = 2 * middle - high
    elif high is None and low is not None:
        high = 2 * middle - low
    return low, high


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-9)
