"""Extents: which surfels a picture should have in sight, and the box that they fill.

A few surfels lie where no surface is, and sky may lie at 1e10 metres. A picture that had them all in
sight would show little of the rest.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# A surfel is background if it is farther from the cameras than BACKGROUND times the nearest tenth.
NEAREST, BACKGROUND = 0.1, 100.0
STRAYS = 0.02  # share of the surfels at either end of an axis that may be out of sight
QUANTILE_SAMPLE = 100_000  # surfels that suffice for a quantile


def without_background(
    surfels: Float[Tensor, "n 3"], eyes: Float[Tensor, "t 3"]
) -> Float[Tensor, "m 3"]:
    """The positions of surfels (n >= 1), world, without those far behind what the `eyes` are near."""
    centre = eyes.mean(0) if len(eyes) else surfels.median(0).values
    distance = (surfels - centre).norm(dim=-1)
    near = distance[:: 1 + len(surfels) // QUANTILE_SAMPLE].quantile(NEAREST)
    return surfels[distance <= BACKGROUND * near]


def surfel_box(
    surfels: Float[Tensor, "n 3"], eyes: Float[Tensor, "t 3"]
) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Least and greatest corner, world, of the box of surfels (n >= 1) without background and strays.

    `eyes` are the positions of the cameras that saw them; the box need not contain these.
    """
    near = without_background(surfels, eyes)
    sample = near[:: 1 + len(near) // QUANTILE_SAMPLE]
    low, high = sample.quantile(sample.new_tensor([STRAYS, 1 - STRAYS]), 0)
    return low, high


def scene_box(
    surfels: Float[Tensor, "n 3"], eyes: Float[Tensor, "t 3"]
) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Least and greatest corner, world, of the box around `surfel_box` and all cameras at `eyes`.

    Without surfels and cameras it is the origin.
    """
    ends = [eyes, *(end[None] for end in surfel_box(surfels, eyes))] if len(surfels) else [eyes]
    points = torch.cat(ends)
    points = points if len(points) else eyes.new_zeros(1, 3)
    return points.amin(0), points.amax(0)
