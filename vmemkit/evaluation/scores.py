"""Evaluation: how well a memory is read, and how well a walk comes back.

Coverage needs no generator: the share of target pixels whose true surface point some chosen view
really saw (inside its image, not occluded), relative to what the best k views would cover.
The tour of a house goes out, looks around, and comes back by other poses, so that retracing does
not hand the answer to the nearest camera; at its end it stands where it stood before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from jaxtyping import Float, Int
from skimage.metrics import structural_similarity
from torch import Tensor

from vmemkit.core import Cameras, PointMaps, Views
from vmemkit.memory import Memory, MemoryConfig, begin, write
from vmemkit.pipeline import Step
from vmemkit.retrieval import (
    Policy,
    RetrievalConfig,
    Visibility,
    oracle,
    retrieve,
    true_visibility,
)
from vmemkit.scenes import Scene, Tour


@dataclass(frozen=True)
class Scores:
    """What a walk is judged by; None where it is undefined."""

    coverage: float | None  # mean over the way back: target pixels really seen by the context
    coverage_of_oracle: float | None  # the same, relative to what the best k views cover
    return_psnr: float | None  # dB, revisits against the first pass
    return_ssim: float | None
    truth_psnr: float | None  # dB, all generated views against the scene


def score(
    tour: Tour,
    steps: Sequence[Step] | Views,
    scene: Scene | None = None,
    truth: Float[Tensor, "n 3 h w"] | None = None,
    rows: int = 24,
) -> Scores:
    """Scores of a walk along a tour, or of its views (n,) made without a memory (`passes`).

    Coverage needs the scene and a memory, and is judged on a grid of `rows` rows of points; `truth`
    are the scene's views of the tour, rendered if they are not given.
    """
    if isinstance(steps, Views):
        steps, image = [], steps.image
    else:
        image = torch.cat([step.views.image for step in steps])
    if len(image) != len(tour.cameras):
        raise ValueError(
            f"need a view for each of the tour's {len(tour.cameras)}, got {len(image)}"
        )
    pairs = [(i, int(j)) for i, j in enumerate(tour.twin) if j >= 0]
    ratios, shares, likeness = [], [], None
    if scene is not None:
        if truth is None:
            truth = scene.render(tour.cameras, *image.shape[2:]).image
        likeness = mean(psnr(a, b) for a, b in zip(image, truth, strict=True))
        at = 0
        for step in steps:
            if tour.back.start <= at < tour.back.stop:
                share, best = coverage(scene, step, rows)
                shares.append(share)
                ratios.append(share / best if best else 1.0)
            at += len(step.targets)
    return Scores(
        mean(shares) if shares else None,
        mean(ratios) if ratios else None,
        mean(psnr(image[i], image[j]) for i, j in pairs) if pairs else None,
        mean(ssim(image[i], image[j]) for i, j in pairs) if pairs else None,
        likeness,
    )


def coverage(scene: Scene, step: Step, rows: int = 36) -> tuple[float, float]:
    """`true_coverage` of a step's context."""
    return true_coverage(scene, step.before, step.targets, step.retrieval.chosen, rows)


def true_coverage(
    scene: Visibility, memory: Memory, targets: Cameras, chosen: Int[Tensor, " k"], rows: int = 36
) -> tuple[float, float]:
    """Share of the target pixels whose true surface point the chosen views really see, and the share
    that the oracle's choice of as many views sees. Points lie on a grid of `rows` rows per target."""
    visible = true_visibility(scene, memory.views.cameras, targets, rows)
    best = oracle(scene)(memory, targets, len(chosen), RetrievalConfig(rows=2 * rows))
    share, top = (visible[views].any(0).float().mean() for views in (chosen, best.chosen))
    return float(share), float(top)


def coverage_ratios(
    scene: Scene,
    memory: Memory,
    targets: Cameras,
    k: int,
    choices: Mapping[str, Int[Tensor, " _"]],
    config: RetrievalConfig | None = None,
) -> dict[str, float]:
    """What each choice of views truly shows of the targets, relative to what the oracle's k show."""
    visible = true_visibility(scene, memory.views.cameras, targets)

    def shown(chosen: Tensor) -> float:
        return float(visible[chosen].any(0).float().mean())

    top = shown(oracle(scene)(memory, targets, k, config or RetrievalConfig()).chosen)
    return {label: shown(chosen) / top if top else 1.0 for label, chosen in choices.items()}


def race(
    scene: Scene,
    tour: Tour,
    policies: Mapping[str, tuple[str | Policy, RetrievalConfig]],
    k: int = 4,
    m: int = 4,
    size: tuple[int, int] = (96, 128),
    config: MemoryConfig | None = None,
) -> dict[str, list[float]]:
    """Coverage relative to the oracle's, per step of the way back, of several policies on one memory.

    The memory holds the scene's true views and depths, so that only retrieval is judged. `policies`
    maps a label to a policy and its configuration.
    """
    path = tour.cameras[: tour.back.stop]
    views = scene.render(path, *size)
    memory = begin(views[: tour.back.start], config)
    ratios: dict[str, list[float]] = {label: [] for label in policies}
    for start in range(tour.back.start, tour.back.stop, m):
        targets = path[start : start + m]
        chosen = {
            label: retrieve(memory, targets, k, policy, settings).chosen
            for label, (policy, settings) in policies.items()
        }
        for label, ratio in coverage_ratios(scene, memory, targets, k, chosen).items():
            ratios[label].append(ratio)
        new = views[start : start + m]
        memory = write(memory, new, PointMaps.from_depth(new.cameras, new.depth))
    return ratios


def psnr(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; at most 99."""
    error = float((a - b).square().mean())
    return min(99.0, -10 * math.log10(max(error, 1e-12)))


def ssim(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Structural similarity of images in [0, 1] (Wang et al., 2004; scikit-image, 7 x 7 windows)."""
    return float(
        structural_similarity(a.cpu().numpy(), b.cpu().numpy(), channel_axis=0, data_range=1.0)
    )
