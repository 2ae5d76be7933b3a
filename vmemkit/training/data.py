"""Walks to train on: through made-up houses, sampled like interactive walks, or cut from recordings.

In: numbers of walks, or folders. Out: `Walks`, views with depth of equal length, many at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, TensorStruct, Views, cat, crop_to_aspect, resize, stream
from vmemkit.scenes import Rooms, load_capture, rooms, walk_through

HOUSES = 1  # random stream of a run's houses and walks


@dataclass(frozen=True, repr=False)
class Walks(TensorStruct):
    """Recorded walks of equal length."""

    cameras: Cameras  # (n, t)
    image: Float[Tensor, "n t 3 h w"]
    depth: Float[Tensor, "n t h w"]


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
