"""Walks to train on: through made-up houses, sampled like interactive walks, or cut from recordings.

In: numbers of walks, or folders. Out: `Walks`, views with depth of equal length, many at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vmemkit.core import (
    Cameras,
    TensorStruct,
    Views,
    cat,
    crop_to_aspect,
    intrinsics,
    look_at,
    resize,
    stream,
)
from vmemkit.houses import rooms
from vmemkit.rooms import Rooms
from vmemkit.scenes import load_capture

HOUSES = 1  # random stream of a run's houses and walks

EYES = (1.35, 1.65)  # metres above the floor

FOVS = (60.0, 80.0)  # degrees

TURNS = (5.0, 45.0)  # degrees between views

STRIDES = (0.1, 0.5)  # metres


@dataclass(frozen=True, repr=False)
class Walks(TensorStruct):
    """Recorded walks of equal length."""

    cameras: Cameras  # (n, t)
    image: Float[Tensor, "n t 3 h w"]
    depth: Float[Tensor, "n t h w"]


def walk_through(house: Rooms, rng: torch.Generator, views: int, aspect: float = 1.0) -> Cameras:
    """Cameras (views,) of a walk as people take them: strides along the way from room to room, turns
    on the spot that keep their sense for a while, looks aside, and returns."""
    corners = [house.centres[0]]
    for doorway, centre in zip(house.doorways, house.centres[1:], strict=True):
        corners += [doorway, centre]
    way = torch.stack(corners)
    ends = (way[1:] - way[:-1]).norm(dim=1).cumsum(0)  # metres along the way
    length, height = float(ends[-1]), _uniform(rng, *EYES)
    at, aside, yaw = _uniform(rng, 0, length), 0.0, _uniform(rng, 0, 360)
    ahead, sense = (1.0 if _chance(rng, 0.5) else -1.0 for _ in range(2))
    eyes, gazes = [], []
    for _ in range(views):
        segment = min(int((ends < at).sum()), len(ends) - 1)
        unit = normalize(way[segment + 1] - way[segment], dim=0)
        eyes.append(
            _standing(house, way[segment + 1] - (ends[segment] - at) * unit, unit, aside, height)
        )
        slope, turn = math.radians(_uniform(rng, -8, 8)), math.radians(yaw)
        gazes.append(
            (math.sin(turn) * math.cos(slope), math.sin(slope), math.cos(turn) * math.cos(slope))
        )
        if _chance(rng, 0.5):  # a turn on the spot
            sense = -sense if _chance(rng, 0.15) else sense
            yaw += sense * _uniform(rng, *TURNS)
            continue
        heading = math.degrees(math.atan2(float(ahead * unit[0]), float(ahead * unit[2])))
        follows = _chance(rng, 0.3)
        yaw = heading + _uniform(rng, -25, 25) if follows else yaw + sense * _uniform(rng, 0, 15)
        at += ahead * _uniform(rng, *STRIDES)
        if not 0 < at < length or _chance(rng, 0.05):
            ahead, at = -ahead, min(max(at, 0.0), length)
        aside = min(max(aside + _uniform(rng, -0.3, 0.3), -0.8), 0.8)
    eye = torch.stack(eyes)
    K = intrinsics(_uniform(rng, *FOVS), aspect)
    return Cameras(look_at(eye, eye + torch.tensor(gazes)), K.expand(views, 3, 3))


def _standing(house: Rooms, point: Tensor, unit: Tensor, aside: float, height: float) -> Tensor:
    """The eye beside the way as far as there is room, else on it."""
    across = torch.stack([unit[2], torch.zeros_like(unit[0]), -unit[0]])
    beside = point + aside * across
    point, beside = (torch.stack([p[0], p.new_tensor(-height), p[2]]) for p in (point, beside))
    return beside if house.free(beside[None])[0] else point


def record(
    seed: int, number: int, views: int, size: int, device: torch.device | str = "cpu"
) -> Walks:
    """Walk `number` of a run: its own house, its own way through it."""
    rng = stream(seed, HOUSES, number)
    design = int(torch.randint(2**40, (), generator=rng))
    house = rooms(design, 2 + int(torch.randint(2, (), generator=rng)))
    cameras = walk_through(house, rng, views).to(device)
    return of_views(house.to(device).render(cameras, size, size))


def in_house(house: Rooms, count: int, views: int, size: int, seed: int = 0) -> Walks:
    """Several walks through one house, each with its own lens."""
    found = []
    for number in range(count):
        cameras = walk_through(house, stream(seed, HOUSES, number), views)
        found.append(of_views(house.render(cameras, size, size)))
    return cat(found)


def of_views(views: Views) -> Walks:
    """Views (t,) as one walk."""
    cameras = views.cameras.map(lambda tensor: tensor[None])
    return Walks(cameras, views.image[None], views.depth[None])


def recorded(folders: Sequence[str | Path], views: int, size: int) -> Walks:
    """Walks cut from one's own posed RGB-D recordings (`scenes.load_capture`), in metres, with y down
    along gravity: every `views` consecutive frames, cropped to the square in their middle.

    Errors: ValueError for recordings without depth, or with fewer frames than a walk has.
    """
    found = []
    for folder in folders:
        tape = load_capture(folder)
        if tape.depth is None or len(tape) < views:
            raise ValueError(
                f"{folder} needs {views} frames or more with depth, got {len(tape)} "
                f"{'without' if tape.depth is None else 'with'} it"
            )
        tape = resize(crop_to_aspect(tape, 1.0), size, size)
        starts = range(0, len(tape) - views + 1, max(1, views // 2))
        found += [of_views(tape[start : start + views]) for start in starts]
    if not found:
        raise ValueError("need one recording or more, got none")
    return cat(found)


def _uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _chance(rng: torch.Generator, share: float) -> bool:
    return _uniform(rng, 0.0, 1.0) < share
