"""From the stages to the compiled kernels: tensors in, tensors out, work shared among threads.

Every function here is what kernels.py does for one stage on a CPU; the stage has the same in torch.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.kernels.sizes import RUN
from vmemkit.core.kernels.switch import bands, in_bands, in_parallel, threads

Column = Int[Tensor, " r"]  # of marks

Discs = tuple[Tensor, Tensor, Tensor]  # position, normal, radius

FEW = 1 << 14  # surfels that one thread is done with before another has begun

# A surfel in sight takes as long to draw as so many pixels. For less than so many pixels a further
# thread gains little, and costs where torch's still spin.
EFFORT, SHARE = 6, 1 << 18


def discs(
    position: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    radius: Float[Tensor, " n"],
    pose: Float[Tensor, "m 4 4"],
    K: Float[Tensor, "m 3 3"],
    size: tuple[int, int],
    limits: tuple[float, float, float],
    boxes: tuple[Tensor, Tensor, Tensor] | None,
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """Surfel, depth and cosine per pixel, as splat.splat's discs, of cameras of these poses and
    intrinsics on a canvas of `size`; `limits` are scale, near and far;
    `boxes` are low, high and largest radius of every run of surfels.

    Every thread draws a band of rows, of the runs that show there; few are for one thread.
    """
    from vmemkit.core.kernels import pixels

    m, n, (height, width), count = len(K), len(position), size, threads()
    numbers, (poses, intrinsics) = np.float32(limits), _arrays(pose, K)
    known = () if boxes is None else _arrays(*boxes)

    def showing(top: int, bottom: int) -> np.ndarray:
        inside = np.ones((m, -(-n // RUN)), bool)
        if known:
            edges = np.float32([0, top / height, 1, bottom / height])
            pixels.showing(*known, poses, intrinsics, edges, numbers, inside)
        return inside

    in_sight = showing(0, height)
    effort = EFFORT * RUN * np.count_nonzero(in_sight) / m + height * width
    shares = bands(height, max(1, min(-(-count // m), int(effort / SHARE))))
    parts = [in_sight] if len(shares) == 1 else [showing(*share) for share in shares]
    shape, some = (m, height, width), min(m, count)  # cameras at a time: what they need is reused
    keys = np.empty((some, height, width + pixels.LANES), np.int64)
    cosines = np.empty((some, max(n, 1)), np.float32)
    surfel = torch.empty(shape, dtype=torch.int64)
    depth, cosine = torch.empty(shape), torch.empty(shape)
    surfels = tuple(_arrays(position, normal, radius))
    out = _arrays(surfel, depth.view(torch.int32), cosine)
    for first in range(0, m, some):
        work = []
        for i in range(first, min(first + some, m)):
            where = (poses[i], intrinsics[i]), numbers, height
            for band, inside in zip(shares, parts, strict=True):
                rows, runs = slice(*band), np.flatnonzero(inside[i])
                # All bands write the cosines, of a surfel in several of them several times the same.
                buffers = keys[i - first, rows], cosines[i - first]
                task = surfels, runs, *where, band, buffers, tuple(x[i, rows] for x in out)
                work.append(partial(pixels.draw_discs, *task))
        in_parallel(work)
    return surfel, depth, cosine


def pixel_counts(surfel: Int[Tensor, "m h w"], surfels: int) -> Float[Tensor, " n"]:
    """As votes.pixels_per_surfel."""
    from vmemkit.core.kernels import tables

    count = _zeros(surfels, np.float32)
    tables.pixel_counts(*_arrays(surfel.flatten(), count))
    return count


def seen_again(
    new: Discs,
    pixel: Int[Tensor, " p"],
    grid: tuple[int, int],
    old: Discs,
    runs: Int[Tensor, " r"],
    pose: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    limits: tuple[float, float, float, float, float],
) -> tuple[Int[Tensor, " s"], Int[Tensor, " p"]]:
    """(old surfels of `runs` that the view sees, ascending; per new surfel the one that explains
    it, -1 = none), as association.by_projection. Discs are position, normal, radius; `limits` are
    scale, near, far, distance and cosine."""
    from vmemkit.core.kernels import pixels

    # The new surfels as planes of the grid; NaN, which is like nothing, where there are none.
    (height, width), n = grid, len(old[0])
    planes = np.full((7, height, width + pixels.LANES), np.nan, np.float32)
    pixels.lay_out(*_arrays(*new, pixel), width, planes)
    parts = threads() if len(runs) * RUN > FEW else 1
    keys = np.empty((parts, *planes.shape[1:]), np.int64)
    seen = np.zeros((len(runs), RUN), bool)
    surfels, where = tuple(_arrays(*old)), (tuple(_arrays(pose, K)), np.float32(limits), planes)
    work = []
    for part in range(parts):  # each takes runs from all over, so that none has all the near ones
        shares = runs.numpy()[part::parts], *where, keys[part], seen[part::parts]
        work.append(partial(pixels.see_again, surfels, *shares))
    in_parallel(work)
    hit, place = np.empty(grid, np.int64), np.zeros(-(-n // RUN), np.int64)
    place[runs.numpy()] = np.arange(len(runs))
    pixels.explained(keys, place, seen, hit)
    again = np.flatnonzero(seen)
    again += (runs.numpy() - np.arange(len(runs)))[again // RUN] * RUN
    return torch.from_numpy(again), torch.from_numpy(hit).flatten()[pixel]


def normals_and_radii(
    points: Float[Tensor, "h w 3"],
    depth: Float[Tensor, "h w"],
    eye: Float[Tensor, " 3"],
    focal: Float[Tensor, ""],
    slant: float,
    edge: float,
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """As surfels._normals_and_radii by central differences, of at least 3 x 3 pixels."""
    from vmemkit.core.kernels import pixels

    height, width = depth.shape
    out = torch.empty(points.shape), torch.empty(depth.shape), torch.empty(depth.shape).bool()
    numbers = np.float32([float(focal), slant, 1 - slant, edge])
    work = (*_arrays(points, depth, eye), numbers, *_arrays(*out))
    in_bands(partial(pixels.normals_and_radii, *work), height, FEW // width)
    return out


def looks_through(
    points: Float[Tensor, "n 3"],
    rotation: Float[Tensor, "3 3"],
    eye: Float[Tensor, " 3"],
    K: Float[Tensor, "3 3"],
    nearest: Float[Tensor, "h w"],
    margin: float,
    through: Bool[Tensor, " n"],
) -> None:
    """As views.seen_through for one view: sets the flags of the points it looks through."""
    from vmemkit.core.kernels import pixels

    work = (*_arrays(points, rotation, eye, K, nearest), np.float32(1 - margin), through.numpy())
    in_bands(partial(pixels.looks_through, *work), len(points), FEW)


def votes(
    word: Column, view: Column, bits: Column, weight: Float[Tensor, " n"], views: int
) -> Float[Tensor, " t"]:
    """As sightings.votes, by the marks' columns."""
    from vmemkit.core.kernels import tables

    total = _zeros(views, np.float64)
    _check_marks(word, len(weight))
    if len(view) and (last := view.numpy()[-1]) >= views:  # they are ordered by view
        raise ValueError(f"the marks name views up to {last}, of {views}")
    tables.votes(*_arrays(word, view), _bits(bits), *_arrays(weight, total))
    return total.float()


def packed(mask: Bool[Tensor, " n"]) -> Int[Tensor, " w"]:
    """As sightings.packed."""
    from vmemkit.core.kernels import tables

    words = _zeros(-(-len(mask) // 64), np.int64)
    tables.packed(mask.numpy(), _bits(words))
    return words


def sighting_counts(word: Column, bits: Column, surfels: int) -> Int[Tensor, " n"]:
    """As sightings.sighting_counts, by the marks' columns."""
    from vmemkit.core.kernels import tables

    count = _zeros(surfels, np.int64)
    _check_marks(word, surfels)
    tables.counts(*_arrays(word), _bits(bits), count.numpy())
    return count


def pairs(word: Column, view: Column, bits: Column) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """(surfel, view) of every set bit of the marks' columns."""
    from vmemkit.core.kernels import tables

    marks, none = (*_arrays(word, view), _bits(bits)), np.empty(0, np.int64)
    surfel, seer = torch.empty(2, tables.marked(*marks, none, none), dtype=torch.int64)
    tables.marked(*marks, surfel.numpy(), seer.numpy())
    return surfel, seer


def gains(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    held: Bool[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """As votes._gains."""
    from vmemkit.core.kernels import tables

    gain, best = _zeros(len(held), np.float32), torch.empty_like(pixels)
    tables.gains(*_arrays(surfel, view, quality, pixels, held, best, gain))
    return gain


def footprints(
    position: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    eye: Float[Tensor, "t 3"],
    forward: Float[Tensor, "t 3"],
    focal: Float[Tensor, " t"],
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    slant: float,
) -> Float[Tensor, " e"]:
    """As votes._footprints."""
    from vmemkit.core.kernels import tables

    size = torch.empty(len(surfel))
    work = _arrays(position, normal, eye, forward, focal, surfel, view)
    tables.footprints(*work, np.float32([slant, 1 - slant]), size.numpy())
    return size


def _zeros(count: int, kind: type[np.number]) -> Tensor:
    """Not torch.zeros: many of them wake torch's threads, which then spin where ours are to run."""
    return torch.from_numpy(np.zeros(count, kind))


def _check_marks(word: Column, surfels: int) -> None:
    """Kernels do not look where they write. Errors: ValueError for marks of more surfels."""
    if len(word) and int(word.numpy().max()) * 64 >= surfels:
        raise ValueError(f"got numbers for {surfels} surfels: the marks name more than those")


def _bits(words: Tensor) -> np.ndarray:
    return words.contiguous().numpy().view(np.uint64)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors' own memory, if it is in order."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
