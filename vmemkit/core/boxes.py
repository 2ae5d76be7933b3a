"""Runs: 256 surfels that were written one after the other, and the box that holds them.

In: surfels. Out: boxes, and which runs a camera may see or a box may touch: the rest of the memory
need not be looked at. What is found so is a superset; the stages test every surfel of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.camera import Cameras
from vmemkit.core.kernels import ROUNDING, RUN
from vmemkit.core.structs import TensorStruct


@dataclass(frozen=True, repr=False)
class Boxes(TensorStruct):
    """Axis-aligned bounds of the centres of each full run of RUN surfels, and their largest radius."""

    low: Float[Tensor, "c 3"]
    high: Float[Tensor, "c 3"]
    radius: Float[Tensor, " c"]


def boxes_of(position: Float[Tensor, "n 3"], radius: Float[Tensor, " n"]) -> Boxes:
    """The boxes of the full runs of surfels; what is left over has none."""
    full = len(position) // RUN * RUN
    runs = position[:full].view(-1, RUN, 3)
    return Boxes(runs.amin(1), runs.amax(1), radius[:full].view(-1, RUN).amax(1))


def touching(
    boxes: Boxes, low: Float[Tensor, " 3"], high: Float[Tensor, " 3"], scale: float
) -> Bool[Tensor, " c"]:
    """Which runs may reach into the box from `low` to `high`; radii count `scale` times."""
    reach = scale * boxes.radius[:, None]
    return ((boxes.low - reach <= high) & (boxes.high + reach >= low)).all(-1)


def showing(
    boxes: Boxes, cameras: Cameras, scale: float, near: float, far: float
) -> Bool[Tensor, "m c"]:
    """Which runs may show in each camera (m,): those that reach into its frustum."""
    normals = frusta(cameras)
    middle = (boxes.low + boxes.high) / 2 - cameras.position[:, None]  # [m c 3]
    half = (boxes.high - boxes.low) / 2 + scale * boxes.radius[:, None]
    half = half + (half + middle.abs()) * ROUNDING
    inside = torch.ones_like(middle[..., 0], dtype=torch.bool)
    for border, offset in enumerate((0, 0, 0, 0, -near, far)):
        normal = normals[:, None, border]
        inside &= (middle * normal).sum(-1) + (half * normal.abs()).sum(-1) + offset >= 0
    return inside


def frusta(cameras: Cameras) -> Float[Tensor, "m 6 3"]:
    """World normals, inward, of the planes through the eye that border what a camera sees: left,
    top, right, bottom; and of those across the line of sight, near and far."""
    # In camera axes; the image is the unit square.
    first, ahead = cameras.K[:, :2], cameras.K[:, 2:]
    planes = torch.cat([first, ahead - first, ahead, -ahead], 1)
    # Sums, not matrix products, of which some hardware rounds the factors.
    return (planes[:, :, None] * cameras.rotation[:, None]).sum(-1)


def runs_that(meet: Bool[Tensor, " c"], total: int) -> Int[Tensor, " r"]:
    """Those runs of `total` surfels, and the last one if it is not full: it has no box yet."""
    rest = torch.arange(len(meet), -(-total // RUN), device=meet.device)
    return torch.cat([meet.nonzero()[:, 0], rest])


def rows_of(runs: Int[Tensor, " r"], total: int) -> Int[Tensor, " s"]:
    """The surfels of these runs, in their order."""
    rows = (runs[:, None] * RUN + torch.arange(RUN, device=runs.device)).flatten()
    return rows[rows < total]
