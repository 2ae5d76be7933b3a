"""Visibility: which views see which surfels, by the views' own depth.

In: surfels, and views with depth. Out: packed sightings. A view sees a surfel if the surfel's centre
lies in its image, faces it, and is not hidden: the centre is not behind the depth at its pixel, or
the pixel's point lies on the surfel's plane. The first test allows for noise. The second is for
surfaces at a slant, where depth changes much from pixel to pixel.
A write tests old surfels against the new view, and new surfels against all views before.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Surfels, Views, dot, in_camera_axes, surfels_in_runs
from vmemkit.core.kernels import accelerated
from vmemkit.memory.memory import MemoryConfig
from vmemkit.memory.sightings import PackedSightings, pack_ordered

TESTS = 1 << 22  # pairs of a view and a surfel that are tested at once, which bounds the memory


def sightings_by_depth(
    surfels: Surfels,
    runs: Int[Tensor, " r"],
    first: int,
    views: Views,
    config: MemoryConfig,
    far: Float[Tensor, "t i j"] | None = None,
) -> PackedSightings:
    """A block of sightings: which of the surfels from number `first` on, in `runs` of 256, views (t,)
    with depth and confidence see. Depth that is not trusted counts as unknown. `far` (`far_depths` of
    the views) saves time and changes nothing.
    """
    rules = config.association
    limits = (rules.behind, rules.before, config.surfels.min_confidence)
    maps = (views.depth, views.confidence)
    return PackedSightings(*_sighted(surfels, runs, first, views.cameras, maps, limits, far))


@accelerated
def _sighted(
    surfels: Surfels,
    runs: Int[Tensor, " r"],
    first: int,
    cameras: Cameras,
    maps: tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]],
    limits: tuple[float, float, float],
    far: Float[Tensor, "t i j"] | None,
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Word, view and bits of the packed rows. `maps` are depth and confidence. `limits` are how far
    behind the depth and before it a seen surfel may be, and the least confidence. This reference
    tests every pair; its twin uses `far` to skip surfels that are hidden."""
    ids = surfels_in_runs(runs, len(surfels))
    tested, step = surfels.at(ids), max(1, TESTS // max(1, len(ids)))
    none = torch.zeros(0, dtype=torch.int64, device=ids.device)
    surfel, view = [none], [none]
    for start in range(0, len(cameras), step):
        part = slice(start, start + step)
        seen = _seen(tested, cameras[part], (maps[0][part], maps[1][part]), limits)
        seen &= ids >= first
        row, column = seen.nonzero(as_tuple=True)
        surfel.append(ids[column])
        view.append(row + start)
    packed = pack_ordered(torch.cat(surfel), torch.cat(view))
    return packed.word, packed.view, packed.bits


def _seen(
    surfels: Surfels,
    cameras: Cameras,
    maps: tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]],
    limits: tuple[float, float, float],
) -> Bool[Tensor, "t n"]:
    """Whether each view sees each surfel."""
    (depth, confidence), (behind, before, least) = maps, limits
    (t, h, w), K = depth.shape, cameras.K[:, :, :, None]
    rotation = cameras.rotation.permute(1, 2, 0)[..., None]
    sight = surfels.position - cameras.position[:, None]
    q = torch.stack(in_camera_axes(sight, rotation), -1)
    normal = torch.stack(in_camera_axes(surfels.normal, rotation), -1)
    x, y, z = q.unbind(-1)
    u, v = x / z * K[:, 0, 0] + K[:, 0, 2], y / z * K[:, 1, 1] + K[:, 1, 2]
    inside = (dot(normal, q) > 0) & (z > 0) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    row, column = (torch.where(inside, a, 0).mul(n).long() for a, n in ((v, h), (u, w)))
    view = torch.arange(t, device=depth.device)[:, None]
    found = depth[view, row, column]
    inside &= confidence[view, row, column] >= least
    shown = (z <= (1 + behind) * found) & (z >= (1 - before) * found)
    # From the surfel's centre to the pixel's point.
    a = ((column + 0.5) / w - K[:, 0, 2]) / K[:, 0, 0] * found - x
    b = ((row + 0.5) / h - K[:, 1, 2]) / K[:, 1, 1] * found - y
    off = dot(torch.stack([a, b, found - z], -1), normal)
    return inside & (shown | (off.abs() <= surfels.radius))
