"""Sampling: from noise to clean latents, one step at a time.

A sampler is a generator: it takes `denoise(x, sigma)`, the best guess at the clean sample behind a
noisy one, and yields a `Denoising` per step, the last of which has the result. `denoise` is made of
a network by `denoised` (which noise level is which index, what the network is fed) and `guided`.
Here sigma is the standard deviation of the noise on a sample of variance 1, never a depth.
Sources: Karras et al., 2022 (samplers in sigma), Lu et al., 2022 (DPM-Solver++), Zhou et al., 2025
(Stable Virtual Camera: noise levels, guidance), whose numbers VMem keeps.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, TensorStruct, pose_distance

Denoise = Callable[[Tensor, Tensor], Tensor]  # x [t c h w], sigma [] on CPU -> clean x [t c h w]

DenoisePair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (unconditional, conditional)

Network = Callable[[Tensor, Tensor], Tensor]  # [n i h w], index of the noise level [1] -> [n c h w]

Noise = Callable[[], Tensor]  # standard normal, in the shape of the sample

CHURN = 1e-6  # added to each sigma by the released Euler sampler, with the noise that belongs to it

FINEST, RHO = 19, 7.0  # index of the last level of the released 50 steps; of Karras et al., 2022

CLOSE_DEGREES, CLOSE_DISTANCE = 10.0, 1e-5  # of a target that a context view as good as shows


@dataclass(frozen=True, repr=False)
class Condition(TensorStruct):
    """What a network is told about a window of t frames, context frames among them."""

    latent: Float[Tensor, "t c h w"]  # of the context frames; 0 for the others
    known: Float[Tensor, "t 1 h w"]  # 1 on frames whose latent replaces the noisy one
    concat: Float[Tensor, "t e h w"]  # further input channels: mask, Pluecker rays
    crossattn: Float[Tensor, "t s d"]  # image embedding
    dense: Float[Tensor, "t 6 h w"]  # Pluecker rays


@dataclass(frozen=True)
class Levels:
    """The noise levels that a network knows: those of a DDPM with a scaled-linear schedule, shifted
    towards more noise, because many views of one scene repeat each other."""

    count: int = 1000
    linear_start: float = 5e-6
    linear_end: float = 0.012
    log_snr_shift: float = 2.4

    @functools.cached_property
    def table(self) -> Float[Tensor, " count"]:
        """Every sigma, ascending with the index that the network is given."""
        ends = self.linear_start**0.5, self.linear_end**0.5
        beta = torch.linspace(*ends, self.count, dtype=torch.float64) ** 2
        kept = torch.cumprod(1 - beta, 0)
        return (((1 - kept) / kept).sqrt() * math.exp(self.log_snr_shift)).float()

    def sigmas(
        self, steps: int, spacing: Literal["uniform", "karras"] = "uniform"
    ) -> Float[Tensor, " n"]:
        """Levels for a sampler, descending, and a final 0: steps + 1 of them.

        "uniform" in the index is how the released samplers space them: the fewer the steps, the more
        noise is left for the last to remove at once. "karras" always goes down to FINEST, with rho = 7
        (Karras et al., 2022, equation 5), at levels of the table.
        Errors: ValueError unless 1 <= steps <= count, or where Karras' levels would repeat.
        """
        if not 1 <= steps <= self.count:
            raise ValueError(f"a sampler needs 1 to {self.count} steps, got {steps}")
        if spacing not in ("uniform", "karras"):
            raise ValueError(f"spacing is uniform or karras, got {spacing!r}")
        finest = FINEST if self.count > FINEST else 0
        if spacing == "uniform":
            index = np.linspace(self.count - 1, 0, steps, endpoint=False).astype(int)
            levels = self.table[torch.from_numpy(index)]
        else:
            ends = (float(self.table[i]) ** (1 / RHO) for i in (-1, finest))
            levels = self.snap(torch.linspace(*ends, steps, dtype=torch.float64).float() ** RHO)[1]
            if len(levels.unique()) < steps:
                raise ValueError(f"the table has no {steps} levels so spaced: use fewer steps")
        return torch.cat([levels, torch.zeros(1)])

    def snap(self, sigma: Float[Tensor, "*b"]) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The nearest level: its index and its sigma."""
        index = (sigma[..., None] - self.table).abs().argmin(-1)
        return index, self.table[index]


@dataclass(frozen=True)
class LogLevels(Levels):
    """Noise levels evenly spaced in their logarithm, for networks of one's own (Karras et al., 2022,
    who give the network log sigma itself)."""

    coarsest: float = 80.0
    finest: float = 0.02
    start: float = 40.0  # of a sampler
    stop: float = 0.1

    @functools.cached_property
    def table(self) -> Float[Tensor, " count"]:
        ends = math.log(self.finest), math.log(self.coarsest)
        return torch.linspace(*ends, self.count, dtype=torch.float64).exp().float()

    def sigmas(
        self, steps: int, spacing: Literal["uniform", "karras"] = "karras"
    ) -> Float[Tensor, " n"]:
        """Levels for a sampler, descending from `start` to `stop`, and a final 0: steps + 1 of them.

        "uniform" in log sigma, or "karras". Errors: ValueError unless 2 <= steps <= count.
        """
        if not 2 <= steps <= self.count or spacing not in ("uniform", "karras"):
            raise ValueError(
                f"need 2 to {self.count} steps, uniform or karras, got {steps}, {spacing}"
            )
        if spacing == "uniform":
            levels = torch.linspace(math.log(self.start), math.log(self.stop), steps).exp()
        else:
            levels = torch.linspace(self.start ** (1 / RHO), self.stop ** (1 / RHO), steps) ** RHO
        return torch.cat([levels, torch.zeros(1)])


@dataclass(frozen=True, repr=False)
class Denoising:
    """One step of a sampler, on t frames."""

    step: int  # 0 to steps - 1
    steps: int
    sigma: float  # noise level that the step started from
    sigma_next: float  # and that it leads to; 0 after the last
    x: Float[Tensor, "t c h w"]  # the sample at sigma_next
    denoised: Float[Tensor, "t c h w"]  # the guess at the clean sample that the step follows

    def __repr__(self) -> str:
        levels = f"sigma {self.sigma:.3g} -> {self.sigma_next:.3g}"
        return f"Denoising(step {self.step + 1} of {self.steps}, {levels}, x={list(self.x.shape)})"


# ---- what to denoise with ------------------------------------------------------------------------


def denoised(
    network: Network,
    x: Float[Tensor, "t c h w"],
    sigma: Float[Tensor, ""],
    condition: Condition,
    levels: Levels,
) -> Float[Tensor, "n c h w"]:
    """The clean sample by a network that estimates noise.

    Where the condition knows the latent it replaces x. A condition of n = 2 t rows (two conditions of
    one window, concatenated) denoises x under both. `network` may work in half precision: it is given
    float32, and what it returns is made float32 again.
    """
    index, snapped = levels.snap(sigma)
    x = x.repeat(len(condition) // len(x), 1, 1, 1)
    x = x * (1 - condition.known) + condition.latent * condition.known
    inputs = torch.cat([x / (snapped**2 + 1).sqrt(), condition.concat], dim=1)
    return x - snapped * network(inputs, index[None]).float()


def guided(
    pair: DenoisePair,
    scale: float | Float[Tensor, " t"],
    interval: tuple[float, float] = (0.0, math.inf),
    alone: Denoise | None = None,
) -> Denoise:
    """Classifier-free guidance: past the conditional guess, away from the unconditional one.

    scale: per frame or for all; 1 is the conditional guess itself. Outside the `interval` of sigma
    guidance is off (Kynkäänniemi et al., 2024): there the guess is `alone`, the conditional one by
    itself, where it is given, and else that of the pair.
    """
    weight = torch.as_tensor(scale)
    weight = weight.view(-1, 1, 1, 1) if weight.ndim else weight

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if not interval[0] <= float(sigma) <= interval[1]:
            return pair(x, sigma)[1] if alone is None else alone(x, sigma)
        unconditional, conditional = pair(x, sigma)
        return unconditional + weight.to(x.device) * (conditional - unconditional)

    return denoise


def ideal(
    samples: Float[Tensor, "s t c h w"], log_weight: Float[Tensor, " s"] | None = None
) -> Denoise:
    """The best possible denoiser of a world that holds these windows and no others, with these
    (unnormalised) log probabilities: the mean of what x could have been. For teaching and tests: it
    is exact, needs no training, and remembers instead of imagining."""
    flat = samples.flatten(1)
    prior = flat.new_zeros(len(flat)) if log_weight is None else log_weight

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        distance = (flat - x.flatten()).square().sum(1)
        share = torch.softmax(prior - distance / (2 * sigma**2), 0)
        return (share @ flat).view_as(x)

    return denoise


# ---- guidance scales -----------------------------------------------------------------------------


def multiview_scale(
    scale: float | Float[Tensor, " t"],
    least: float,
    cameras: Cameras,
    given: Bool[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """Guidance per frame: `least` for frames that some context frame as good as shows, `scale` for
    the others. cameras (t,): in the scaled units that the network sees.

    As released, the three tests (turned by less than 10 degrees, within 1e-5, the same K) may each
    be passed by another context frame.
    """
    scale = torch.as_tensor(scale, dtype=torch.float32, device=given.device).expand(len(given))
    shown = cameras[given]
    if len(shown) == 0:
        return scale
    angle = pose_distance(cameras.world_from_cam[:, None], shown.world_from_cam[None], 0.0)
    distance = (cameras.position[:, None] - shown.position[None]).norm(dim=-1)
    same_lens = (cameras.K[:, None] == shown.K[None]).flatten(2).all(-1).any(-1)
    close = torch.rad2deg(angle.amin(-1)) < CLOSE_DEGREES
    close &= (distance.amin(-1) < CLOSE_DISTANCE) & same_lens
    return torch.where(close, least, scale)


def temporal_scale(
    scale: float,
    least: float,
    cameras: Cameras,
    given: Bool[Tensor, " t"],
    time: Int[Tensor, " t"] | None = None,
) -> Float[Tensor, " t"]:
    """Guidance that grows with the distance in time to the nearest context frame, from `least` to
    `scale`; and `least` where `multiview_scale` says so. time: of every frame, its place if None."""
    time = torch.arange(len(given), device=given.device) if time is None else time
    away = (time[:, None] - time[None]).abs()[:, given]
    if away.shape[1] == 0:
        return multiview_scale(scale, least, cameras, given)
    nearest = away.amin(1).float()
    share = nearest / nearest.amax().clamp(min=1)
    return multiview_scale(least + share * (scale - least), least, cameras, given)


# ---- samplers ------------------------------------------------------------------------------------


def start(noise: Float[Tensor, "t c h w"], sigmas: Float[Tensor, " n"]) -> Float[Tensor, "t c h w"]:
    """The sample at the first level, of standard normal noise."""
    return noise * (1 + sigmas[0] ** 2).sqrt()


def euler(
    denoise: Denoise,
    x: Float[Tensor, "t c h w"],
    sigmas: Float[Tensor, " n"],
    noise: Noise | None = None,
) -> Iterator[Denoising]:
    """First-order steps (Karras et al., 2022, algorithm 2), as released: with `noise` each sigma is
    raised by CHURN first, and as much noise added. x: at sigmas[0]."""
    for i, (sigma, sigma_next) in enumerate(_steps(x, sigmas)):
        raised = sigma if noise is None else sigma + CHURN
        if noise is not None:
            x = x + noise() * (raised**2 - sigma**2).sqrt()
        guess = denoise(x, raised)
        x = x + (x - guess) / raised * (sigma_next - raised)
        yield Denoising(i, len(sigmas) - 1, float(sigma), float(sigma_next), x, guess)


def dpm_solver(
    denoise: Denoise, x: Float[Tensor, "t c h w"], sigmas: Float[Tensor, " n"]
) -> Iterator[Denoising]:
    """Second-order multistep steps, DPM-Solver++(2M) of Lu et al., 2022, algorithm 2, in sigma: the
    clean guess is extrapolated from the last two in log sigma. Deterministic. x: at sigmas[0]."""
    before, step_before = None, None
    for i, (sigma, sigma_next) in enumerate(_steps(x, sigmas)):
        guess = denoise(x, sigma)
        step = (sigma / sigma_next).log()  # infinite for the last, which goes to the guess itself
        towards = guess
        if before is not None and sigma_next > 0:
            towards = guess + step / (2 * step_before) * (guess - before)
        x = sigma_next / sigma * x - torch.expm1(-step) * towards
        before, step_before = guess, step
        yield Denoising(i, len(sigmas) - 1, float(sigma), float(sigma_next), x, guess)


def _steps(x: Tensor, sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(from, to) of every step. Errors: ValueError for levels that do not fall to zero or more."""
    falling = len(sigmas) >= 2 and bool((sigmas.diff() < 0).all()) and float(sigmas[-1]) >= 0
    if not falling:
        raise ValueError(f"a sampler needs two or more falling levels >= 0, got {sigmas.tolist()}")
    levels = sigmas.to("cpu", x.dtype)  # a number on the CPU meets any x without waiting for a GPU
    return list(itertools.pairwise(levels))
