"""Depth fit: the scale and the shift that bring a depth map over depths that are known.

In: a depth map in a network's own unit, and the depth that the memory's surfels have in the same
camera. Out: two numbers. With known cameras nothing else is unknown, so a closed form is enough. It
is robust, because the two depths can differ in part: a new object may hide an old surface.
Beyond VMem, which aligns poses (alignment.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

OUTLIER = 2.5 * 1.4826  # median errors: 2.5 standard deviations of normal noise, or 99 % of it


@dataclass(frozen=True)
class DepthFit:
    """scale * depth + shift is planar depth in world units."""

    scale: float  # world units per unit of the network
    shift: float  # world units
    overlap: float  # share of the pixels at which both depths are known
    inliers: float  # share of the overlap that the fit explains within the tolerance
    residual: float  # median |fitted / reference - 1| over the overlap

    def __call__(self, depth: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return self.scale * depth + self.shift


@dataclass(frozen=True)
class FitConfig:
    min_overlap: float = 0.01  # share of the pixels; with less, single errors decide the fit
    min_samples: int = 16  # pixels in the overlap
    tolerance: float = 0.05  # relative depth error of an inlier
    gain: float = 0.9  # a shift must bring the median error below this share of that without
    max_shift: float = 0.75  # share of the median depth; with more, depth would hardly matter
    # How much farther than near depths far ones must lie, in median errors: on less, noise decides
    # what is scale and what is shift.
    spread: float = 15.0
    samples: int = 4096  # pixels to fit a shift to, evenly spaced in the sorted depths
    pairs: int = 256  # pairs of samples that propose a scale and a shift


def fit_depth(
    depth: Float[Tensor, "*b"],
    reference: Float[Tensor, "*b"],
    shift: bool = True,
    config: FitConfig | None = None,
) -> DepthFit:
    """Fit scale * depth, or with `shift` scale * depth + shift, to the reference depth.

    Errors are relative. Either depth may be NaN or 0 where it is unknown, and almost half of the
    overlap may be wrong.
    1. The scale without a shift is the median ratio.
    2. With `shift`, pairs of samples propose lines, and the best is refined (`_fit_line`).
    3. The line replaces the scale only if it is clearly better and its shift is small.
    Errors: ValueError for different shapes and for too little overlap.
    """
    config = config or FitConfig()
    if depth.shape != reference.shape:
        raise ValueError(
            f"need two depths of one shape, got {list(depth.shape)} and {list(reference.shape)}"
        )
    both = depth.isfinite() & reference.isfinite() & (depth > 0) & (reference > 0)
    overlap, count = float(both.float().mean()) if both.numel() else 0.0, int(both.sum())
    if overlap < config.min_overlap or count < config.min_samples:
        raise ValueError(
            f"the depths overlap in {overlap:.2%} of the pixels ({count}), need "
            f"{config.min_overlap:.2%} and {config.min_samples}: the memory does not know this place"
        )
    x, y = depth[both].double(), reference[both].double()
    scale, offset = float((y / x).median()), 0.0
    if shift:
        even = torch.linspace(0, count - 1, min(config.samples, count), device=x.device).long()
        # Sorted by the sum of both sides: sorted by one side, its noise would bias the pairs.
        samples = (scale * x + y).argsort()[even]
        scale, offset = _with_shift(x[samples], y[samples], scale, config)
    error = (scale * x + offset - y).abs() / y
    inliers = float((error < config.tolerance).double().mean())
    return DepthFit(scale, offset, overlap, inliers, float(error.median()))


def _with_shift(
    x: Float[Tensor, " s"], y: Float[Tensor, " s"], scale: float, config: FitConfig
) -> tuple[float, float]:
    """Scale and shift of y ~ a x + b; or `scale` and 0 where a shift does not pay. x is sorted."""
    line = _fit_line(x, y, config.pairs)
    if line is None:
        return scale, 0.0
    a, b = line
    error = float(_line_error(x, y, a, b).median())
    error_without = float(_line_error(x, y, x.new_tensor(scale), x.new_zeros(())).median())
    low, high = torch.quantile(y, y.new_tensor([0.05, 0.95])).tolist()
    spread_out = high / low - 1 > config.spread * error
    plausible = bool(a.isfinite() and b.abs() <= config.max_shift * y.median())
    pays = plausible and spread_out and error < config.gain * error_without
    return (float(a), float(b)) if pays else (scale, 0.0)


def _fit_line(
    x: Float[Tensor, " s"], y: Float[Tensor, " s"], pairs: int
) -> tuple[Tensor, Tensor] | None:
    """Slope a > 0 and offset b of a robust line y ~ a x + b, or None. x is sorted, near to far."""
    # 1. Pair near samples with far ones: each pair proposes a line through its two points.
    half = len(x) // 2
    near = torch.linspace(0, half - 1, min(pairs, half), device=x.device).long()
    far = near + half
    slope = (y[far] - y[near]) / (x[far] - x[near])
    possible = slope.isfinite() & (slope > 0)
    slope, offset = slope[possible], (y[near] - slope * x[near])[possible]
    if len(slope) == 0:
        return None
    # 2. Choose the line of least median error (Rousseeuw, 1984).
    best = int(_line_error(x, y, slope[:, None], offset[:, None]).median(dim=1).values.argmin())
    a, b = slope[best], offset[best]
    # 3. Refine it on its inliers. The slope is the ratio of the standard deviations, since both
    #    sides may be noisy: least squares would take the noise of x for a flatter line.
    for _ in range(3):
        error = _line_error(x, y, a, b)
        inlier = error <= (OUTLIER * error.median()).clamp(min=1e-6)
        weight = y[inlier] ** -2  # the errors are relative
        weight = weight / weight.sum()
        mean_x, mean_y = (weight * x[inlier]).sum(), (weight * y[inlier]).sum()
        variance_x = (weight * (x[inlier] - mean_x) ** 2).sum()
        variance_y = (weight * (y[inlier] - mean_y) ** 2).sum()
        a = (variance_y / variance_x).sqrt()
        b = mean_y - a * mean_x
    return a, b


def _line_error(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Error of a x + b against y, relative to the noise of both sides: relative to y alone, a flat
    line would look good."""
    return (a * x + b - y).abs() / ((a * x) ** 2 + y**2).sqrt() * 2**0.5
