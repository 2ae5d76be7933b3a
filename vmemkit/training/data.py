"""Walks to train on: through made-up houses, or cut from recordings.

In: a seed and numbers of walks, or folders. Out: `Walks`, many sequences of views with depth.
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

HOUSES = 1  # number of the random stream for houses and walks; the trainer has its own


@dataclass(frozen=True, repr=False)
class Walks(TensorStruct):
    """n sequences of t views with depth."""

    cameras: Cameras  # (n, t)
    image: Float[Tensor, "n t 3 h w"]
    depth: Float[Tensor, "n t h w"]


def record(
    seed: int, number: int, views: int, size: int, device: torch.device | str = "cpu"
) -> Walks:
    """Walk `number` of a training run, as one row: a house and a way through it, both by the seed."""
    rng = stream(seed, HOUSES, number)
    design = int(torch.randint(2**40, (), generator=rng))
    house = rooms(design, 2 + int(torch.randint(2, (), generator=rng)))
    cameras = walk_through(house, rng, views).to(device)
    return _one_walk(house.to(device).render(cameras, size, size))


def in_house(house: Rooms, count: int, views: int, size: int, seed: int = 0) -> Walks:
    """Several walks through one house, each with its own field of view."""
    walks = []
    for number in range(count):
        cameras = walk_through(house, stream(seed, HOUSES, number), views)
        walks.append(_one_walk(house.render(cameras, size, size)))
    return cat(walks)


def recorded(folders: Sequence[str | Path], views: int, size: int) -> Walks:
    """Walks cut from posed RGB-D recordings (`scenes.load_capture`).

    Every run of `views` consecutive frames, each starting half a walk after the last, is a walk of
    its own. Frames are cropped to the square in their middle. Recordings must be in metres, with y
    down along gravity.
    Errors: ValueError for recordings without depth, or with fewer frames than a walk has.
    """
    walks = []
    for folder in folders:
        recording = load_capture(folder)
        if recording.depth is None or len(recording) < views:
            raise ValueError(
                f"{folder} needs {views} frames or more with depth, got {len(recording)} "
                f"{'without' if recording.depth is None else 'with'} it"
            )
        recording = resize(crop_to_aspect(recording, 1.0), size, size)
        starts = range(0, len(recording) - views + 1, max(1, views // 2))
        walks += [_one_walk(recording[start : start + views]) for start in starts]
    if not walks:
        raise ValueError("need one recording or more, got none")
    return cat(walks)


def _one_walk(views: Views) -> Walks:
    """Views (t,) as one row."""
    cameras = views.cameras.map(lambda tensor: tensor[None])
    return Walks(cameras, views.image[None], views.depth[None])
