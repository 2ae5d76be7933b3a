"""Bounding boxes of surfels, which tell the stages what they may skip.

A run is 256 surfels that were written one after the other. Each full run has a box.
In: surfels. Out: their boxes, the runs that a camera may see, and those that may reach into a region.
Stages test only the surfels of these runs. This saves time and changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.camera import Cameras
from vmemkit.core.kernels import ROUNDING, RUN, accelerated
from vmemkit.core.structs import TensorStruct


@dataclass(frozen=True, repr=False)
class Boxes(TensorStruct):
    """A box per full run: the bounds of its surfels' centres in world axes, and the largest radius."""

    low: Float[Tensor, "c 3"]
    high: Float[Tensor, "c 3"]
    radius: Float[Tensor, " c"]


def boxes_of(position: Float[Tensor, "n 3"], radius: Float[Tensor, " n"]) -> Boxes:
    """The boxes of all full runs of surfels. A last run that is not full has none."""
    full = len(position) // RUN * RUN
    runs = position[:full].view(-1, RUN, 3)
    return Boxes(runs.amin(1), runs.amax(1), radius[:full].view(-1, RUN).amax(1))


def runs_in_region(
    boxes: Boxes, low: Float[Tensor, " 3"], high: Float[Tensor, " 3"], scale: float
) -> Bool[Tensor, " c"]:
    """Which runs may reach into the region from `low` to `high`. `scale` multiplies the radii."""
    reach = scale * boxes.radius[:, None]
    return ((boxes.low - reach <= high) & (boxes.high + reach >= low)).all(-1)


def runs_in_sight(
    boxes: Boxes, cameras: Cameras, scale: float, near: float, far: float
) -> Bool[Tensor, "m c"]:
    """Which runs each camera (m,) may see: those that reach into its frustum."""
    return _in_sight(boxes, cameras, (scale, near, far))


@accelerated
def _in_sight(
    boxes: Boxes, cameras: Cameras, limits: tuple[float, float, float]
) -> Bool[Tensor, "m c"]:
    (scale, near, far), normals = limits, frusta(cameras)
    middle = (boxes.low + boxes.high) / 2 - cameras.position[:, None]  # [m c 3]
    half = (boxes.high - boxes.low) / 2 + scale * boxes.radius[:, None]
    half = half + (half + middle.abs()) * ROUNDING
    inside = torch.ones_like(middle[..., 0], dtype=torch.bool)
    for border, offset in enumerate((0, 0, 0, 0, -near, far)):
        side = torch.full_like(middle[..., 0], offset)
        for k in range(3):  # in the kernel's order
            normal = normals[:, None, border, k]
            side = side + (middle[..., k] * normal + half[..., k] * normal.abs())
        inside &= side >= 0
    return inside


def frusta(cameras: Cameras) -> Float[Tensor, "m 6 3"]:
    """Inward world normals of the planes that bound each camera's frustum: left, top, right and
    bottom through the eye, then near and far."""
    # In camera axes, where the image is the unit square.
    first, ahead = cameras.K[:, :2], cameras.K[:, 2:]
    planes = torch.cat([first, ahead - first, ahead, -ahead], 1)
    # Sums, because matrix products may round their factors on a GPU (TF32).
    return (planes[:, :, None] * cameras.rotation[:, None]).sum(-1)


def runs_to_test(meet: Bool[Tensor, " c"], total: int) -> Int[Tensor, " r"]:
    """The runs flagged in `meet` (one flag per box), then those that have no box yet.

    Of `total` surfels, the last run has no box until it is full.
    """
    rest = torch.arange(len(meet), -(-total // RUN), device=meet.device)
    return torch.cat([meet.nonzero()[:, 0], rest])


def surfels_in_runs(runs: Int[Tensor, " r"], total: int) -> Int[Tensor, " s"]:
    """The surfels of these runs, in their order; `runs` and `total` as of `runs_to_test`."""
    rows = (runs[:, None] * RUN + torch.arange(RUN, device=runs.device)).flatten()
    return rows[: len(rows) - -total % RUN]  # the last run may be incomplete
