"""A whole path at once, without a memory: anchors first, then the views between them.

In: given views, a path, a generator. Out: the path's views, window by window. In the first pass the
generator makes views spread evenly along the path from the given ones; in the second, those between
two neighbouring anchors from these two. What lies far apart on the path only meets through anchors:
that is what a walk with memory is to be compared with, on the same backbone.
Source: Zhou et al., 2025 (Stable Virtual Camera), two-pass sampling, its "interp" strategy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vmemkit.core import CODES, Cameras, Views, cat, check, pose_distance, stream
from vmemkit.generation.generator import Encodes, Generator

FRAMES = 21  # of a window of Stable Virtual Camera


@dataclass(frozen=True, repr=False)
class Passed:
    """One window: which places of the path it made, from what."""

    number: int  # of the pass, 1 or 2
    index: Int[Tensor, " m"]  # places on the path
    context: Views  # (k,)
    views: Views  # (m,) generated

    def __repr__(self) -> str:
        k, places = len(self.context), self.index.tolist()
        return f"Passed({self.number}, views={places}, from {k} views)"


def anchor_places(n: int, given: int, frames: int = FRAMES) -> Int[Tensor, " a"]:
    """Places of the anchors on a path of n views: evenly spaced, both ends among them; so many that
    the views between two fit into a window with them, and at least as many as fit into the first
    window beside the given views. Errors: ValueError for no views and windows below 4 frames."""
    if n < 1 or frames < 4:
        raise ValueError(
            f"two passes need a path and windows of 4 frames or more, got {n}, {frames}"
        )
    count = max(math.ceil(n / (frames - 2)) + 1, frames - given)
    return torch.linspace(0, n - 1, min(count, n), dtype=torch.float64).round().long()


def two_passes(
    given: Views,
    path: Cameras,
    generator: Generator,
    frames: int = FRAMES,
    seed: int = 0,
    between: Generator | None = None,
) -> Iterator[Passed]:
    """The views of `path` (n,), from given views (g,), window by window; `assembled` puts them in
    order. `frames` is the generator's window, context included.

    `between` makes the second pass, if not the same generator. Stable Virtual Camera's own settings:
    guidance_scale=4 in the first, guidance="temporal" with guidance_scale=2 in the second
    (`DiffusionGenerator.with_config`).

    Anchors that do not fit into one window are made in several, each from the nearest of the given
    views and the anchors already made. The same seed gives the same views.
    Errors: ValueError at once for no given views or path, too many given views or windows too small;
    later from the generator.
    """
    if path.world_from_cam.ndim != 3 or len(path) == 0 or not 1 <= len(given) < frames:
        raise ValueError(
            f"two passes need a path of one or more cameras and 1 to {frames - 1} given views (fewer "
            f"than the {frames} frames of a window), got {len(given)} given views and {path}"
        )
    places = anchor_places(len(path), len(given), frames)
    check(path)
    return _windows(given, path, places, generator, between or generator, frames, seed)


def assembled(windows: Sequence[Passed]) -> Views:
    """The views of the path, in its order. Errors: ValueError unless each place was made once."""
    if not windows:
        raise ValueError("need at least one window, got none")
    index = torch.cat([window.index for window in windows])
    order = index.argsort()
    if not torch.equal(index[order], torch.arange(len(index))):
        raise ValueError(f"need each view of the path once, got {index[order].tolist()}")
    return cat([window.views for window in windows])[order]


def _windows(
    given: Views,
    path: Cameras,
    places: Int[Tensor, " a"],
    generator: Generator,
    between: Generator,
    frames: int,
    seed: int,
) -> Iterator[Passed]:
    encode = generator.encode if isinstance(generator, Encodes) else lambda views: views
    known = encode(_with_depth(given))
    fits = len(places) + len(known) <= frames
    room = len(known) if fits else frames // 2  # for context, in each window of the first pass
    anchors = None
    for part in places.split(frames - room):
        pool = known if anchors is None else _joined(known, anchors)
        context = _nearest(pool, path[part], room)
        window = _made(1, part, context, path, generator, seed)
        yield window
        anchors = window.views if anchors is None else _joined(anchors, window.views)
    for i in range(len(places) - 1):
        inside = torch.arange(int(places[i]) + 1, int(places[i + 1]))
        if len(inside):
            yield _made(2, inside, anchors[i : i + 2], path, between, seed)


def _made(
    number: int,
    index: Int[Tensor, " m"],
    context: Views,
    path: Cameras,
    generator: Generator,
    seed: int,
) -> Passed:
    *_, made = generator(context, path[index], stream(seed, number, int(index[0])))
    return Passed(number, index, context, made.views(path[index]))


def _joined(first: Views, second: Views) -> Views:
    """Both in one, without codes that only one of them has."""
    both = (first, second)
    missing = [name for name in CODES if any(getattr(views, name) is None for views in both)]
    return cat([views.replace(**dict.fromkeys(missing)) for views in both])


def _nearest(pool: Views, targets: Cameras, k: int) -> Views:
    """The k views of the pool that are nearest to the middle of the targets, by pose."""
    middle = targets.world_from_cam[len(targets) // 2]
    distance = pose_distance(pool.cameras.world_from_cam, middle)
    return pool[distance.argsort(stable=True)[:k]]


def _with_depth(views: Views) -> Views:
    """With depth and confidence, unknown where there are none, as generated views have them."""
    blank = views.image[:, 0]
    depth = torch.full_like(blank, torch.nan) if views.depth is None else views.depth
    confidence = torch.zeros_like(blank) if views.confidence is None else views.confidence
    return views.replace(depth=depth, confidence=confidence)
