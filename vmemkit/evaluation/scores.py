"""Scores of walks and policies: does retrieval find what a target needs, does a walk come back?

In: a tour, steps of a walk, a scene. Out: numbers.
Coverage needs no generator: the share of target pixels whose true surface point some chosen view
really saw (inside its image, not occluded), also relative to the best choice of k views, which the
`Oracle` finds. Images are compared by SSIM and PSNR, with the scene and with the first visit to the
same pose. The latter also rewards a world that has faded to one colour: read the former first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vmemkit.core import Cameras, Views, pose_distance
from vmemkit.memory import MemoryConfig, begin, write
from vmemkit.pipeline import Step
from vmemkit.retrieval import (
    Policy,
    largest_cover,
    render_size,
    retrieve,
    true_visibility,
)
from vmemkit.scenes import Scene, Tour

SIZE = (96, 128)  # height and width of the images of `compare_policies`
MAX_PSNR = 99.0  # dB: the score of equal images
Window = Literal["gaussian", "uniform"]
SSIM_BORDER = 5  # pixels: half a Gaussian window, by which images are mirrored at their edges
SSIM_SIDE = 7  # pixels of a uniform window
SSIM_LEVELS = (0.01**2, 0.03**2)  # added to squared means and to variances (Wang et al., 2004)


@dataclass(frozen=True)
class Scores:
    """Scores of a walk, the most telling first; None where one is undefined.

    A high return PSNR alone says nothing: a world that has faded to one colour has it, too.
    """

    coverage: float | None  # mean over the way back: target pixels really seen by the context
    coverage_of_oracle: float | None  # the same, relative to the best choice of k views
    truth_ssim: float | None  # all generated views against the scene
    truth_psnr: float | None  # dB
    return_ssim: float | None  # revisits against the first visit
    return_psnr: float | None  # dB


def score(
    tour: Tour,
    steps: Sequence[Step] | Views,
    scene: Scene | None = None,
    truth: Float[Tensor, "n 3 h w"] | None = None,
    rows: int = 24,
) -> Scores:
    """Scores of a walk along a tour, or of its views (n,) made without a memory (`two_passes`).

    Coverage needs the scene and a memory; it is measured on a grid of `rows` rows of points. `truth`
    are the scene's views of the tour, rendered if they are not given.
    Errors: ValueError for another number of views than the tour's cameras, and as `ssim`.
    """
    if isinstance(steps, Views):
        image = steps.image
        steps = []
    else:
        image = torch.cat([step.views.image for step in steps])
    if len(image) != len(tour.cameras):
        raise ValueError(
            f"need a view for each of the tour's {len(tour.cameras)}, got {len(image)}"
        )
    revisits = [(i, int(j)) for i, j in enumerate(tour.twin) if j >= 0]
    coverages, at = [], 0
    truth_ssim = truth_psnr = None
    if scene is not None:
        if truth is None:
            truth = scene.render(tour.cameras, *image.shape[2:]).image
        truth_ssim = mean(ssim(a, b) for a, b in zip(image, truth, strict=True))
        truth_psnr = mean(psnr(a, b) for a, b in zip(image, truth, strict=True))
        for step in steps:
            if tour.back.start <= at < tour.back.stop:
                chosen = step.retrieval.chosen
                coverages += coverage(
                    scene, step.before.views.cameras, step.targets, [chosen], len(chosen), rows
                )
            at += len(step.targets)
    return Scores(
        coverage=mean(share for share, _ in coverages) if coverages else None,
        coverage_of_oracle=mean(share_of_best(*both) for both in coverages) if coverages else None,
        truth_ssim=truth_ssim,
        truth_psnr=truth_psnr,
        return_ssim=mean(ssim(image[i], image[j]) for i, j in revisits) if revisits else None,
        return_psnr=mean(psnr(image[i], image[j]) for i, j in revisits) if revisits else None,
    )


def coverage(
    scene: Scene,
    cameras: Cameras,
    targets: Cameras,
    choices: Sequence[Int[Tensor, " _"]],
    k: int,
    rows: int = 36,
) -> list[tuple[float, float]]:
    """How much each choice among the cameras (t,), by their numbers, truly shows of the targets.

    Per choice: the share of target pixels whose surface point some chosen view sees, on a grid of
    `rows` rows; and the share that the best k views see, as the `Oracle` finds them. A scene may be a
    recording (`Capture`), if the targets and the cameras are recorded ones.
    Errors: ValueError for targets at which the scene has no known depth.
    """
    visible = true_visibility(scene, cameras, targets, rows)
    if visible.shape[1] == 0:
        raise ValueError(
            f"the scene has no depth at any pixel of these {len(targets)} targets, so nothing can be "
            "covered: choose targets with depth"
        )
    poses, ahead = cameras.world_from_cam, targets.world_from_cam
    best = largest_cover(visible, pose_distance(poses[:, None], ahead[None]).mean(1), k)
    shares = [float(visible[chosen].any(0).float().mean()) for chosen in (best, *choices)]
    return [(share, shares[0]) for share in shares[1:]]


def share_of_best(share: float, best: float) -> float:
    """A share of coverage relative to the oracle's; 1 where the oracle covers nothing either."""
    return share / best if best else 1.0


def compare_policies(
    scene: Scene,
    tour: Tour,
    policies: Mapping[str, str | Policy],
    k: int = 4,
    m: int = 4,
    size: tuple[int, int] | None = None,
    config: MemoryConfig | None = None,
) -> dict[str, list[float]]:
    """Coverage relative to the oracle's, per step of the way back, of several policies on one memory.

    The memory holds the scene's true views and depths, so that only retrieval is measured.
    `policies` maps a label to a policy. `size` is the images' (height, width): by default a
    recording's own, else 96 x 128.
    """
    path = tour.cameras[: tour.back.stop]
    views = scene.render(path, *(size or render_size(scene, SIZE)))
    memory = begin(views[: tour.back.start], config)
    ratios: dict[str, list[float]] = {label: [] for label in policies}
    for start in range(tour.back.start, tour.back.stop, m):
        targets = path[start : start + m]
        choices = [retrieve(memory, targets, k, policy).chosen for policy in policies.values()]
        coverages = coverage(scene, memory.views.cameras, targets, choices, k)
        for label, both in zip(policies, coverages, strict=True):
            ratios[label].append(share_of_best(*both))
        memory = write(memory, views[start : start + m])
    return ratios


def psnr(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; at most 99, for equal images."""
    error = float((a - b).square().mean())
    return min(MAX_PSNR, -10 * math.log10(max(error, 1e-12)))


def ssim(
    a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"], window: Window = "gaussian"
) -> float:
    """Structural similarity of images in [0, 1] (Wang et al., 2004).

    "gaussian": windows of 11 x 11 pixels, of images that are mirrored at their edges, as in
    torchmetrics and in papers on generated views. "uniform": windows of 7 x 7 pixels inside the
    image, scikit-image's default. The two give different numbers.
    Errors: ValueError for another window, and for images smaller than it (6 or 7 pixels a side).
    """
    if window not in get_args(Window):
        raise ValueError(f"window is one of {', '.join(get_args(Window))}, got {window!r}")
    least = SSIM_BORDER + 1 if window == "gaussian" else SSIM_SIDE
    height, width = a.shape[1:]
    if min(height, width) < least:
        raise ValueError(
            f"SSIM needs {least} pixels a side or more, got {height} x {width}: render the images "
            "larger"
        )
    if window == "uniform":
        return _uniform_ssim(a.double(), b.double())
    # Loaded on first use: torchmetrics loads many libraries, which takes seconds.
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(a[None], b[None], data_range=1.0)
    return float(similarity)  # type: ignore[arg-type]  # a pair only if the image is asked for


def _uniform_ssim(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    # scikit-image divides by one sample less, which torchmetrics does not.
    unbiased = SSIM_SIDE**2 / (SSIM_SIDE**2 - 1)
    products = torch.stack([a, b, a * a, b * b, a * b])
    mean_a, mean_b, aa, bb, ab = avg_pool2d(products, SSIM_SIDE, stride=1)
    variances = unbiased * (aa - mean_a**2 + bb - mean_b**2)
    covariance = unbiased * (ab - mean_a * mean_b)
    c1, c2 = SSIM_LEVELS
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * (2 * covariance + c2) / (variances + c2)).mean())
