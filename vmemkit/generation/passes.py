"""A whole path at once, without a memory: anchors first, then the views between them.

In: given views, a path, a generator. Out: the path's views, window by window. In the first pass the
generator makes anchors, which are views spread evenly along the path, from the given views. In the
second it makes the views between two neighbouring anchors from these two. So distant parts of a path
are connected by anchors only, which makes it a baseline for a walk with memory.
Source: Zhou et al., 2025 (Stable Virtual Camera), two-pass sampling, its "interp" strategy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vmemkit.core import CODES, Cameras, Views, cat, check_cameras, pose_distance, stream
from vmemkit.generation.generator import Encodes, Generator

FRAMES = 21  # of a window of Stable Virtual Camera: context and targets


@dataclass(frozen=True, repr=False)
class PathWindow:
    """Views of the path that were generated together, and their context."""

    number: int  # of the pass, 1 or 2
    index: Int[Tensor, " m"]  # places on the path
    context: Views  # (k,)
    views: Views  # (m,) generated

    def __repr__(self) -> str:
        k, places = len(self.context), self.index.tolist()
        return f"PathWindow(pass {self.number}, views={places}, from {k} views)"


def anchor_places(n: int, given: int, frames: int = FRAMES) -> Int[Tensor, " a"]:
    """Places of the anchors on a path of n views: evenly spaced, with both ends among them.

    There are so many that the views between two anchors fit into a window with these, and at least
    as many as fit into the first window beside the given views.
    Errors: ValueError for no views and for windows below 4 frames.
    """
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
) -> Iterator[PathWindow]:
    """The views of `path` (n,) from given views (g,), window by window; `assembled` orders them.

    frames: of the generator's window, context included.
    between: the generator of the second pass, by default the same. Stable Virtual Camera sets
    guidance_scale=4 in the first pass, and guidance="temporal" with guidance_scale=2 in the second
    (`DiffusionGenerator.with_config`).

    Anchors that do not fit into one window are made in several, each from the nearest of the given
    views and earlier anchors. The same seed gives the same views.
    Errors: ValueError at once for no given views or path, too many given views, and windows that are
    too small; later from the generator.
    """
    if path.world_from_cam.ndim != 3 or len(path) == 0 or not 1 <= len(given) < frames:
        raise ValueError(
            f"two passes need a path of one or more cameras and 1 to {frames - 1} given views (fewer "
            f"than the {frames} frames of a window), got {len(given)} given views and {path}"
        )
    places = anchor_places(len(path), len(given), frames)
    check_cameras(path)
    return _path_windows(given, path, places, generator, between or generator, frames, seed)


def assembled(windows: Sequence[PathWindow]) -> Views:
    """The views of the path, in its order. Errors: ValueError unless each place is there once."""
    if not windows:
        raise ValueError("need at least one window, got none")
    index = torch.cat([window.index for window in windows])
    order = index.argsort()
    if not torch.equal(index[order], torch.arange(len(index))):
        raise ValueError(f"need each view of the path once, got {index[order].tolist()}")
    return cat([window.views for window in windows])[order]


def _path_windows(
    given: Views,
    path: Cameras,
    places: Int[Tensor, " a"],
    generator: Generator,
    between: Generator,
    frames: int,
    seed: int,
) -> Iterator[PathWindow]:
    """The windows of both passes; the arguments are checked by `two_passes`."""
    given = _with_depth(given)
    given = generator.encode(given) if isinstance(generator, Encodes) else given
    one_window = len(places) + len(given) <= frames
    k = len(given) if one_window else frames // 2  # context views per window of the first pass
    anchors: list[Views] = []
    for part in places.split(frames - k):
        context = _nearest(_joined([given, *anchors]), path[part], k)
        window = _generated(1, part, context, path, generator, seed)
        yield window
        anchors.append(window.views)
    all_anchors = _joined(anchors)
    for i in range(len(places) - 1):
        inside = torch.arange(int(places[i]) + 1, int(places[i + 1]))
        if len(inside):
            yield _generated(2, inside, all_anchors[i : i + 2], path, between, seed)


def _generated(
    number: int,
    index: Int[Tensor, " m"],
    context: Views,
    path: Cameras,
    generator: Generator,
    seed: int,
) -> PathWindow:
    *_, result = generator(context, path[index], stream(seed, number, int(index[0])))
    return PathWindow(number, index, context, result.views(path[index]))


def _joined(parts: Sequence[Views]) -> Views:
    """All views in one, without codes that some of them lack."""
    missing = [name for name in CODES if any(getattr(views, name) is None for views in parts)]
    return cat([views.replace(**dict.fromkeys(missing)) for views in parts])


def _nearest(pool: Views, targets: Cameras, k: int) -> Views:
    """The k views of the pool whose poses are nearest to the middle of the targets."""
    middle = targets.world_from_cam[len(targets) // 2]
    distance = pose_distance(pool.cameras.world_from_cam, middle)
    return pool[distance.argsort(stable=True)[:k]]


def _with_depth(views: Views) -> Views:
    """The views with depth and confidence, unknown where they have none, as generated views have."""
    blank = views.image[:, 0]
    depth = torch.full_like(blank, torch.nan) if views.depth is None else views.depth
    confidence = torch.zeros_like(blank) if views.confidence is None else views.confidence
    return views.replace(depth=depth, confidence=confidence)
