"""Scale and shift of a depth map, from the overlap with depths that are known.

In: a depth map in a network's own unit, and what the memory, rendered from the same camera, knows.
Out: the two numbers that bring one over the other. With known cameras nothing else is free, so that
no optimisation is needed: the fit is in closed form, and robust because the two may see different
things, such as what stands between the camera and an old surface. Beyond VMem.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class DepthFit:
    """depth * scale + shift is planar depth in the world."""

    scale: float
    shift: float  # world units
    overlap: float  # share of the depths that both sides know
    inliers: float  # share of those that the fit explains
    residual: float  # median |fitted / reference - 1| over the overlap

    def __call__(self, depth: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return self.scale * depth + self.shift


@dataclass(frozen=True)
class FitConfig:
    min_overlap: float = 0.01  # share: with fewer, their mistakes decide
    tolerance: float = 0.05  # relative depth error of what counts as explained
    gain: float = (
        0.9  # a shift is fitted where it brings the residual below this times that without
    )
    max_shift: float = 0.75  # of the median depth: with more, depth would hardly count
    spread: float = 0.02  # of depth, relative: on less, scale and shift cannot be told apart
    samples: int = 4096  # pixels, evenly over the sorted depths
    pairs: int = 256  # of these that propose a scale and a shift


def fit_depth(
    depth: Float[Tensor, "*b"],
    reference: Float[Tensor, "*b"],
    shift: bool = True,
    config: FitConfig | None = None,
) -> DepthFit:
    """The scale, and with `shift` the shift, that bring depths over a reference, in relative error.
    Either may be NaN or 0 where unknown. Bears with almost half of the overlap being wrong.

    The scale alone is the median ratio. With a shift, pairs of pixels far apart in depth propose
    both, the proposal of least median error wins (Rousseeuw, 1984), and a line through what it
    explains makes it precise: not by least squares, which would take all noise to be the
    reference's, but by the ratio of the spreads, which takes both to be as noisy.
    Errors: ValueError for different shapes and too little overlap.
    """
    config = config or FitConfig()
    if depth.shape != reference.shape:
        raise ValueError(
            f"need two depths of one shape, got {list(depth.shape)} and {list(reference.shape)}"
        )
    both = depth.isfinite() & reference.isfinite() & (depth > 0) & (reference > 0)
    share = float(both.float().mean()) if both.numel() else 0.0
    if share < config.min_overlap or not both.any():
        raise ValueError(
            f"the depths overlap in {share:.2%} of the pixels, need {config.min_overlap:.2%}: the "
            "memory does not know this place"
        )
    d, z = depth[both].double(), reference[both].double()
    even = torch.linspace(0, len(d) - 1, min(config.samples, len(d)), device=d.device).long()
    chosen = d.argsort()[even]
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
        weight = y[kept] ** -2  # relative errors
        weight = weight / weight.sum()
        mean_x, mean_y = (weight * x[kept]).sum(), (weight * y[kept]).sum()
        spread_x, spread_y = (
            (weight * (v[kept] - m) ** 2).sum() for v, m in ((x, mean_x), (y, mean_y))
        )
        a = (spread_y / spread_x).sqrt()
        b = mean_y - a * mean_x
    sane = bool(a.isfinite() and b.abs() <= config.max_shift * y.median())
    pays = sane and float(((a * x + b) / y - 1).abs().median()) < config.gain * without
    return (float(a), float(b)) if pays else (scale, 0.0)
