"""From the stages to the compiled kernels: tensors in, tensors out, work shared among threads.

Every function here is what kernels.py does for one stage on a CPU; the stage has the same in torch.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.backends import in_parallel, threads
from vmemkit.camera import Cameras
from vmemkit.runs import RUN, Boxes, in_sight
from vmemkit.surfels import Surfels

Column, Words = Int[Tensor, " r"], Int[Tensor, " w"]  # of marks; of flags, 64 each
FEW = 1 << 14  # surfels that one thread is done with before another has begun


def discs(
    surfels: Surfels,
    cameras: Cameras,
    lenses: list[list[Tensor]],
    size: tuple[int, int],
    limits: tuple[float, float, float],
    boxes: Boxes | None,
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """Surfel, depth and cosine per pixel, as splat.splat's discs. `lenses` hold rotation, eye,
    focal and centre of each camera on a canvas of `size`; `limits` are scale, near and far.

    Every thread draws its share of the runs into depth buffers of its own; then the nearest wins.
    """
    from vmemkit import kernels

    m, n, (height, width) = len(cameras), len(surfels), size
    parts = -(-threads() // m) if n > FEW else 1
    depths = np.full((m, parts, height, width + kernels.LANES), np.inf, np.float32)
    drawn, cosines = np.full(depths.shape, -1, np.int32), np.empty_like(depths)
    shape = (m, height, width)
    out = torch.empty(shape, dtype=torch.int64), torch.empty(shape), torch.empty(shape)
    position, normal, radius = _arrays(surfels.position, surfels.normal, surfels.radius)
    draw, merge = [], []
    for i, lens in enumerate(lenses):
        runs = torch.arange(-(-n // RUN))
        if boxes is not None:
            runs = in_sight(n, boxes, cameras[i : i + 1], *limits)
        rotation, eye, focal, centre = _arrays(*lens)
        for part, share in enumerate(runs.tensor_split(parts)):
            where = (rotation, eye, focal, centre, np.float32(limits))
            buffers = (depths[i, part], drawn[i, part], cosines[i, part])
            work = (position, normal, radius, share.numpy(), *where, *buffers)
            draw.append(partial(kernels.draw_discs, *work))
        result = _arrays(*(x[i] for x in out))
        for part in range(parts):
            rows = part * height // parts, (part + 1) * height // parts
            work = (depths[i], drawn[i], cosines[i], rows, *result)
            merge.append(partial(kernels.nearest_of, *work))
    in_parallel(draw)
    in_parallel(merge)
    return out


def votes(
    word: Column, view: Column, bits: Column, asked: Words, weight: Float[Tensor, " n"], views: int
) -> Float[Tensor, " t"]:
    """As sightings.votes, by the marks' columns, of the surfels whose bits are set in `asked`."""
    from vmemkit import kernels

    total = torch.zeros(views, dtype=torch.float64)
    kernels.votes(*_arrays(word, view), _bits(bits), _bits(asked), *_arrays(weight, total))
    return total.float()


def sighting_counts(word: Column, bits: Column, surfels: int) -> Int[Tensor, " n"]:
    """As sightings.sighting_counts, by the marks' columns."""
    from vmemkit import kernels

    count = torch.zeros(surfels, dtype=torch.int64)
    kernels.counts(*_arrays(word), _bits(bits), count.numpy())
    return count


def pairs(word: Column, view: Column, bits: Column) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """(surfel, view) of every set bit of the marks' columns."""
    from vmemkit import kernels

    marks, none = (*_arrays(word, view), _bits(bits)), np.empty(0, np.int64)
    surfel, seer = torch.empty(2, kernels.marked(*marks, none, none), dtype=torch.int64)
    kernels.marked(*marks, surfel.numpy(), seer.numpy())
    return surfel, seer


def _bits(words: Tensor) -> np.ndarray:
    return words.contiguous().numpy().view(np.uint64)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors' own memory, if it is in order."""
    return [tensor.contiguous().numpy() for tensor in tensors]
