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
    min_samples: int = 16
    max_shift: float = 0.75  # of the median depth: with more, depth would hardly count
    # How much farther than the near depths the far ones must lie, in typical errors of a fit: on
    # less, noise decides what is scale and what shift.
    spread: float = 15.0
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
    explains makes it precise: by the ratio of the spreads, since both sides may be noisy. It counts
    only where the depths lie far enough apart to tell a shift from noise.
    Errors: ValueError for different shapes and too little overlap.
    """
    config = config or FitConfig()
    if depth.shape != reference.shape:
        raise ValueError(
            f"need two depths of one shape, got {list(depth.shape)} and {list(reference.shape)}"
        )
    both = depth.isfinite() & reference.isfinite() & (depth > 0) & (reference > 0)
    share, count = float(both.float().mean()) if both.numel() else 0.0, int(both.sum())
    if share < config.min_overlap or count < config.min_samples:
        raise ValueError(
            f"the depths overlap in {share:.2%} of the pixels ({count}), need {config.min_overlap:.2%}"
            f" and {config.min_samples}: the memory does not know this place"
        )
    d, z = depth[both].double(), reference[both].double()
    scale, offset = float((z / d).median()), 0.0
    if shift:
        even = torch.linspace(0, count - 1, min(config.samples, count), device=d.device).long()
        chosen = (scale * d + z).argsort()[even]  # by either side alone, noise would sort
        scale, offset = _with_shift(d[chosen], z[chosen], scale, config)
    error = (scale * d + offset - z).abs() / z
    explained = float((error < config.tolerance).double().mean())
    return DepthFit(scale, offset, share, explained, float(error.median()))


def _with_shift(
    x: Float[Tensor, " s"], y: Float[Tensor, " s"], scale: float, config: FitConfig
) -> tuple[float, float]:
    """Scale and shift, or `scale` and none where a shift does not pay. Near pixels come first."""

    def error(a: Tensor, b: Tensor) -> Tensor:
        """Relative to what noise of both sides makes of it: a flat line is no way out."""
        return (a * x + b - y).abs() / ((a * x) ** 2 + y**2).sqrt() * 2**0.5

    half = len(x) // 2
    near = torch.linspace(0, half - 1, min(config.pairs, half), device=x.device).long()
    far = near + half
    slope = (y[far] - y[near]) / (x[far] - x[near])
    possible = slope.isfinite() & (slope > 0)
    slope, offset = slope[possible], (y[near] - slope * x[near])[possible]
    if len(slope) == 0:
        return scale, 0.0
    best = int(error(slope[:, None], offset[:, None]).median(dim=1).values.argmin())
    a, b = slope[best], offset[best]
    for _ in range(3):
        off = error(a, b)
        kept = off <= (2.5 * 1.4826 * off.median()).clamp(min=1e-6)  # of a normal error, 99 %
        weight = y[kept] ** -2  # relative errors
        weight = weight / weight.sum()
        mean_x, mean_y = (weight * x[kept]).sum(), (weight * y[kept]).sum()
        a = (
            (weight * (y[kept] - mean_y) ** 2).sum() / (weight * (x[kept] - mean_x) ** 2).sum()
        ).sqrt()
        b = mean_y - a * mean_x
    typical = float(error(a, b).median())
    without = float(error(x.new_tensor(scale), x.new_zeros(())).median())
    low, high = torch.quantile(y, y.new_tensor([0.05, 0.95])).tolist()
    told = high / low - 1 > config.spread * typical
    sane = bool(a.isfinite() and b.abs() <= config.max_shift * y.median())
    pays = sane and told and typical < config.gain * without
    return (float(a), float(b)) if pays else (scale, 0.0)
