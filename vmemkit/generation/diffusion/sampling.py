"""Sampling: from noise to clean latents, one step at a time.

A sampler is a generator. It takes `denoise(x, sigma)`, which guesses the clean sample behind a noisy
one, and yields a `Denoising` per step; the last one holds the result. `denoised` makes such a guess
with a network, and `guided_denoiser` combines the guesses with and without context.
Here sigma is the standard deviation of the noise that is added to a sample of variance 1.
Sources: Karras et al., 2022 (samplers in sigma), Lu et al., 2022 (DPM-Solver++), Zhou et al., 2025
(Stable Virtual Camera: noise levels and guidance; VMem keeps its numbers).
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
CHURN = 1e-6  # the released Euler sampler raises each sigma by this much, by adding noise
FINEST = 19  # index of the finest level that the released 50 steps use
RHO = 7.0  # exponent of the level spacing of Karras et al., 2022

# A context view at most this far from a target (degrees, network units) shows the same picture.
CLOSE_DEGREES, CLOSE_DISTANCE = 10.0, 1e-5


@dataclass(frozen=True, repr=False)
class Condition(TensorStruct):
    """The network's input besides the noisy sample, for t frames, context frames among them."""

    latent: Float[Tensor, "t c h w"]  # clean latents of the context frames; 0 for the others
    known: Float[Tensor, "t 1 h w"]  # 1 on context frames, whose latent replaces the noisy one
    concat: Float[Tensor, "t e h w"]  # further input channels: mask and Pluecker rays
    crossattn: Float[Tensor, "t s d"]  # image embedding
    dense: Float[Tensor, "t 6 h w"]  # Pluecker rays


@dataclass(frozen=True)
class Levels:
    """The noise levels that a network was trained on: a DDPM's scaled-linear schedule.

    It is shifted towards more noise, because many views of one scene are redundant.
    """

    count: int = 1000
    linear_start: float = 5e-6
    linear_end: float = 0.012
    log_snr_shift: float = 2.4

    @functools.cached_property
    def table(self) -> Float[Tensor, " count"]:
        """Every sigma in ascending order; the network is given the index."""
        ends = self.linear_start**0.5, self.linear_end**0.5
        beta = torch.linspace(*ends, self.count, dtype=torch.float64) ** 2
        signal = torch.cumprod(1 - beta, 0)
        return (((1 - signal) / signal).sqrt() * math.exp(self.log_snr_shift)).float()

    def sigmas(
        self, steps: int, spacing: Literal["uniform", "karras"] = "uniform"
    ) -> Float[Tensor, " n"]:
        """Levels for a sampler, steps + 1 of them, descending and ending with 0.

        "uniform": evenly spaced in the index, as released. The fewer the steps, the more noise is
        left for the last one. "karras": always down to FINEST (Karras et al., 2022, equation 5, each
        snapped to the table).
        Errors: ValueError unless 1 <= steps <= count, and where Karras' levels would repeat.
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
            first, last = (float(self.table[i]) ** (1 / RHO) for i in (-1, finest))
            roots = torch.linspace(first, last, steps, dtype=torch.float64)
            levels = self.snap(roots.float() ** RHO)[1]
            if len(levels.unique()) < steps:
                raise ValueError(f"the table has no {steps} levels so spaced: use fewer steps")
        return torch.cat([levels, torch.zeros(1)])

    def snap(self, sigma: Float[Tensor, "*b"]) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The nearest level: its index and its sigma."""
        index = (sigma[..., None] - self.table).abs().argmin(-1)
        return index, self.table[index]


@dataclass(frozen=True, repr=False)
class Denoising:
    """One step of a sampler, on t frames."""

    step: int  # 0 to steps - 1
    steps: int
    sigma: float  # noise level before the step
    sigma_next: float  # noise level after it; 0 after the last
    x: Float[Tensor, "t c h w"]  # the sample at sigma_next
    denoised: Float[Tensor, "t c h w"]  # the guess at the clean sample that the step went towards

    def __repr__(self) -> str:
        levels = f"sigma {self.sigma:.3g} -> {self.sigma_next:.3g}"
        return f"Denoising(step {self.step + 1} of {self.steps}, {levels}, x={list(self.x.shape)})"


# ---- denoisers -----------------------------------------------------------------------------------


def denoised(
    network: Network,
    x: Float[Tensor, "t c h w"],
    sigma: Float[Tensor, ""],
    condition: Condition,
    levels: Levels,
) -> Float[Tensor, "n c h w"]:
    """The clean sample, by a network that estimates noise.

    1. Replace x by the condition's latent on context frames.
    2. Scale it to unit variance and let the network estimate the noise.
    3. Subtract the noise.

    A condition of n = 2 t rows (two conditions of one window, concatenated) denoises x under both.
    `network` gets float32, and may return half precision.
    """
    index, snapped = levels.snap(sigma)
    x = x.repeat(len(condition) // len(x), 1, 1, 1)
    x = x * (1 - condition.known) + condition.latent * condition.known
    inputs = torch.cat([x / (snapped**2 + 1).sqrt(), condition.concat], dim=1)
    return x - snapped * network(inputs, index[None]).float()


def guided_denoiser(
    pair: DenoisePair,
    scale: float | Float[Tensor, " t"],
    interval: tuple[float, float] = (0.0, math.inf),
    alone: Denoise | None = None,
) -> Denoise:
    """Classifier-free guidance: the step from the unconditional to the conditional guess, prolonged.

    scale: factor on that step, per frame or for all; 1 gives the conditional guess itself.
    interval: range of sigma in which guidance is on (Kynkäänniemi et al., 2024). Outside, the
    conditional guess is taken, from `alone` if that is given, since it costs half a `pair`.
    """
    weight = torch.as_tensor(scale)
    weight = weight.view(-1, 1, 1, 1) if weight.ndim else weight

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if not interval[0] <= float(sigma) <= interval[1]:
            return pair(x, sigma)[1] if alone is None else alone(x, sigma)
        unconditional, conditional = pair(x, sigma)
        return unconditional + weight.to(x.device) * (conditional - unconditional)

    return denoise


def ideal_denoiser(
    samples: Float[Tensor, "s t c h w"], log_weight: Float[Tensor, " s"] | None = None
) -> Denoise:
    """The best possible denoiser of a world that consists of these samples only.

    Its guess is their mean, weighted by how likely each is behind x. It is exact and needs no
    training, and so serves teaching and tests. log_weight: log probability of each sample, up to a
    constant; by default all are equal.
    """
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
    """Guidance per frame: `least` for frames that the context shows almost exactly, else `scale`.

    Such a frame has a context frame less than CLOSE_DEGREES away, one within CLOSE_DISTANCE, and one
    with the same K. As released, these may be three different context frames.
    cameras (t,): in the scaled units that the network sees.
    """
    scale = torch.as_tensor(scale, dtype=torch.float32, device=given.device).expand(len(given))
    context = cameras[given]
    if len(context) == 0:
        return scale
    angle = pose_distance(cameras.world_from_cam[:, None], context.world_from_cam[None], 0.0)
    distance = (cameras.position[:, None] - context.position[None]).norm(dim=-1)
    same_lens = (cameras.K[:, None] == context.K[None]).flatten(2).all(-1).any(-1)
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
    """Guidance that grows from `least` to `scale` with the time to the nearest context frame.

    It is `least` where `multiview_scale` says so. time: of every frame; by default its index.
    """
    time = torch.arange(len(given), device=given.device) if time is None else time
    gaps = (time[:, None] - time[None]).abs()[:, given]
    if gaps.shape[1] == 0:
        return multiview_scale(scale, least, cameras, given)
    nearest = gaps.amin(1).float()
    share = nearest / nearest.amax().clamp(min=1)
    return multiview_scale(least + share * (scale - least), least, cameras, given)


# ---- samplers ------------------------------------------------------------------------------------


def initial_sample(
    noise: Float[Tensor, "t c h w"], sigmas: Float[Tensor, " n"]
) -> Float[Tensor, "t c h w"]:
    """The sample at the first level, made of standard normal noise."""
    return noise * (1 + sigmas[0] ** 2).sqrt()


def euler(
    denoise: Denoise,
    x: Float[Tensor, "t c h w"],
    sigmas: Float[Tensor, " n"],
    noise: Noise | None = None,
) -> Iterator[Denoising]:
    """First-order steps (Karras et al., 2022, algorithm 2), from x at sigmas[0].

    As released: if `noise` is given, it raises each sigma by CHURN before the step.
    """
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
    """Second-order multistep steps, from x at sigmas[0]: DPM-Solver++(2M) of Lu et al., 2022,
    algorithm 2, in sigma.

    Each step goes towards a guess that is extrapolated from the last two, in log sigma. No noise is
    added, so the result follows from x.
    """
    last_guess, last_step = None, None
    for i, (sigma, sigma_next) in enumerate(_steps(x, sigmas)):
        guess = denoise(x, sigma)
        step = (
            sigma / sigma_next
        ).log()  # infinite in the last step, which ends at the guess itself
        towards = guess
        if last_guess is not None and sigma_next > 0:
            towards = guess + step / (2 * last_step) * (guess - last_guess)
        x = sigma_next / sigma * x - torch.expm1(-step) * towards
        last_guess, last_step = guess, step
        yield Denoising(i, len(sigmas) - 1, float(sigma), float(sigma_next), x, guess)


def _steps(x: Tensor, sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The sigmas (before, after) each step. Errors: ValueError for levels that do not fall."""
    falling = len(sigmas) >= 2 and bool((sigmas.diff() < 0).all()) and float(sigmas[-1]) >= 0
    if not falling:
        raise ValueError(f"a sampler needs two or more falling levels >= 0, got {sigmas.tolist()}")
    levels = sigmas.to("cpu", x.dtype)  # scalars on the CPU, because reading a GPU's makes it wait
    return list(itertools.pairwise(levels))
