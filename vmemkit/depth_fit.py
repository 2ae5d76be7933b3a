"""Scale and shift of a depth map, from the overlap with depths that are known.

In: a depth map in a network's own unit, and what the memory, rendered from the same camera, knows.
Out: the two numbers that bring one over the other. With known cameras nothing else is free, so that
no optimisation is needed: the fit is in closed form, and robust because the two may see different
things, such as what stands between the camera and an old surface. Beyond VMem.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class DepthFit:
    """depth * scale + shift is planar depth in the world."""

    scale: float
    shift: float  # world units
    overlap: float  # share of the pixels whose depth both sides know
    inliers: float  # share of those that the fit explains
    residual: float  # median |fitted / reference - 1| over the overlap

    def __call__(self, depth: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return self.scale * depth + self.shift


@dataclass(frozen=True)
class FitConfig:
    min_overlap: float = 0.01  # of the pixels: with fewer, their mistakes decide
    tolerance: float = 0.05  # relative depth error of what counts as explained
    gain: float = (
        0.9  # a shift is fitted where it brings the residual below this times that without
    )
    spread: float = 0.02  # of depth, relative: on less, scale and shift cannot be told apart
    samples: int = 4096  # pixels, evenly over the sorted depths
    pairs: int = 256  # of these that propose a scale and a shift


def overlap(depth: Float[Tensor, "h w"], reference: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Where both depths are known: finite and positive."""
    known = depth.isfinite() & reference.isfinite()
    return known & (depth > 0) & (reference > 0)


def fit_depth(
    depth: Float[Tensor, "h w"],
    reference: Float[Tensor, "h w"],
    shift: bool = True,
    config: FitConfig | None = None,
) -> DepthFit:
    """The scale, and with `shift` the shift, that bring a depth map over a reference, in relative
    error; NaN or 0 where unknown. Bears with almost half of the overlap being wrong.

    The scale alone is the median ratio. With a shift, pairs of pixels far apart in depth propose
    both, the proposal of least median error wins (Rousseeuw, 1984), and least squares over what it
    explains make it precise.
    Errors: ValueError for maps of different sizes and too little overlap.
    """
    config = config or FitConfig()
    if depth.shape != reference.shape or depth.ndim != 2:
        raise ValueError(
            f"need two depth maps [h w] of one size, got {list(depth.shape)} and "
            f"{list(reference.shape)}"
        )
    both = overlap(depth, reference)
    share = float(both.float().mean())
    if share < config.min_overlap or not both.any():
        raise ValueError(
            f"the depths overlap in {share:.2%} of the pixels, need {config.min_overlap:.2%}: the "
            "memory does not know this place"
        )
    d, z = depth[both].double(), reference[both].double()
    order = d.argsort()
    chosen = order[
        torch.linspace(0, len(d) - 1, min(config.samples, len(d)), device=d.device).long()
    ]
    x, y = d[chosen], z[chosen]
    scale, offset = float((y / x).median()), 0.0
    if shift and float(x[-len(x) // 20 - 1] / x[len(x) // 20] - 1) > config.spread:
        scale, offset = _with_shift(x, y, scale, config)
    error = (scale * d + offset - z).abs() / z
    explained = float((error < config.tolerance).double().mean())
    return DepthFit(scale, offset, share, explained, float(error.median()))


def _with_shift(
    x: Float[Tensor, " s"], y: Float[Tensor, " s"], scale: float, config: FitConfig
) -> tuple[float, float]:
    """Scale and shift, or `scale` and none where a shift does not pay. x ascends."""
    half = len(x) // 2
    near = torch.linspace(0, half - 1, min(config.pairs, half), device=x.device).long()
    far = near + half
    slope = (y[far] - y[near]) / (x[far] - x[near])
    possible = slope.isfinite() & (slope > 0)
    slope, offset = slope[possible], (y[near] - slope * x[near])[possible]
    without = float((scale * x / y - 1).abs().median())
    if len(slope) == 0:
        return scale, 0.0
    error = (slope[:, None] * x + offset[:, None] - y).abs() / y
    best = int(error.median(dim=1).values.argmin())
    a, b = slope[best], offset[best]
    for _ in range(3):
        error = (a * x + b - y).abs() / y
        kept = error <= (2.5 * 1.4826 * error.median()).clamp(min=1e-6)  # of a normal error, 99 %
        columns = torch.stack([x[kept] / y[kept], 1 / y[kept]], dim=-1)  # relative errors
        a, b = torch.linalg.lstsq(columns, torch.ones_like(columns[:, :1])).solution[:, 0]
    pays = float(((a * x + b) / y - 1).abs().median()) < config.gain * without
    return (float(a), float(b)) if pays and a > 0 else (scale, 0.0)
