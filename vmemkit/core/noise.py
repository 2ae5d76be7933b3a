"""Noise of depth: how large it is, and depth without it.

In: depth maps. Out: their noise per pixel, and smoothed maps. Inverse depth is affine over the image
of a plane, so what deviates from that is noise, if most pixels do. An affine fit over a window of
pixels of one surface averages it out, which steadies normals even more than positions.
Noise that neighbouring pixels share cannot be told from geometry, and stays.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

LARGEST_WINDOW = 4  # pixels to each side
PER_PIXEL = 0.01  # noise for which the window grows by a pixel to each side
SPREAD = 4.0  # times the noise: pixels further off belong to another surface
MOST_SPREAD = 0.25  # share of inverse depth
LEAST_PIXELS = 6  # an affine fit needs so many pixels of one surface in its window
STRIDE = 3  # every so many rows and columns are enough to measure noise
DEVIATION = 0.6745 * math.sqrt(6)  # median of |a - 2 b + c| for normal noise of deviation 1


def depth_noise(depth: Float[Tensor, "t h w"]) -> Float[Tensor, " t"]:
    """The noise per pixel of each map, as a share of depth: the standard deviation of what most pixels
    deviate from the plane through their neighbours; 0 where too little is known to say."""
    if min(depth.shape[1:]) < 3:
        return depth.new_zeros(len(depth))
    inverse = 1 / depth
    bends = []
    for plane in (inverse, inverse.transpose(1, 2)):
        rows = plane[:, :-2], plane[:, 1:-1], plane[:, 2:]
        before, here, after = (part[:, ::STRIDE, ::STRIDE] for part in rows)
        bends.append(((after - 2 * here + before) / here).abs().flatten(1))
    return torch.cat(bends, 1).nanmedian(1).values.nan_to_num(0) / DEVIATION


def smoothed(depth: Float[Tensor, "h w"], noise: float) -> Float[Tensor, "h w"]:
    """Depth by an affine fit of inverse depth over a window that grows with the noise (of
    `depth_noise`), without the pixels of other surfaces. Unknown depth stays unknown."""
    reach = min(1 + math.ceil(noise / PER_PIXEL), LARGEST_WINDOW)
    here, steps = 1 / depth, torch.arange(-reach, reach + 1, device=depth.device)
    around = pad(here, (reach,) * 4, value=torch.nan)
    windows = around.unfold(0, len(steps), 1).unfold(1, len(steps), 1)
    off = windows.flatten(2) - here[..., None]  # [h w pixels of the window]
    same = off.abs() <= min(SPREAD * noise, MOST_SPREAD) * here[..., None]
    off = torch.where(same, off, 0)
    down, right = torch.cartesian_prod(steps, steps).float().T
    terms = torch.stack([torch.ones_like(right), right, down, right**2, right * down, down**2], 1)
    n, x, y, xx, xy, yy = (same.float() @ terms).unbind(-1)
    i, xi, yi = (off @ terms[:, :3]).unbind(-1)
    # The fit's value at the pixel itself, by Cramer's rule.
    a, b, c = xx * yy - xy * xy, y * xy - x * yy, x * xy - y * xx
    size = n * a + x * b + y * c
    fit = (i * a + xi * b + yi * c) / size
    firm = (n >= LEAST_PIXELS) & (size > 1e-3 * n * xx * yy)
    return 1 / (here + torch.where(firm, fit, i / n))
