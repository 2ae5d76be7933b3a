"""Evaluating reconstructors: how good is their geometry, and what does it do to retrieval?

In: a scene, a tour, a reconstructor. Out: errors of depth and the coverage of what is retrieved, on a
walk whose images are true and whose geometry is the reconstructor's.
`SimulatedNetwork` stands in for published weights: it knows the scene and corrupts its depth as
networks do (a unit of its own, scale and shift per view, noise per pixel), so its error is known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import mean, median

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, invert, pixel_centres, rays, stream
from vmemkit.evaluation.scores import coverage, share_of_best
from vmemkit.memory import MemoryConfig, begin, write
from vmemkit.nets.cut3r import CUT3RConfig, CUT3RPrediction, Head
from vmemkit.reconstruction import NetworkCrop, Reconstructor, reconstruct
from vmemkit.retrieval import RetrievalConfig, retrieve
from vmemkit.scenes import Scene, Tour

CONFIDENCE = 5.0  # what the simulated network reports; enough for PnP
WALKING = RetrievalConfig(blind="nearest")  # the configuration of `walk`


@dataclass(frozen=True)
class Corruption:
    """How a simulated network changes true depth. All but `unit` are standard deviations."""

    unit: float = 2.5  # units of the network per world unit
    scale: float = 0.0  # log scale of each view
    shift: float = 0.0  # shift of each view, world units
    noise: float = 0.0  # relative error of each pixel


CORRUPTIONS = {
    "unit": Corruption(),
    "unit, scale": Corruption(scale=0.1),
    "unit, scale, shift": Corruption(scale=0.1, shift=0.2),
    "unit, scale, shift, noise": Corruption(scale=0.1, shift=0.2, noise=0.03),
}


@dataclass(frozen=True, repr=False)
class SimulatedNetwork:
    """A CUT3R network that knows a scene: the i-th image it is given is what camera i of (n,) sees.

    Its state is i. The same seed corrupts the same view in the same way each time.
    """

    scene: Scene
    cameras: Cameras
    size: tuple[int, int]  # height and width of the images
    corruption: Corruption
    config: CUT3RConfig = field(default_factory=lambda: CUT3RConfig(img_size=(128, 128)))
    seed: int = 0

    @property
    def device(self) -> torch.device:
        return self.cameras.device

    @property
    def fingerprint(self) -> str:
        """The same for all simulated networks that answer alike, as far as their fields tell."""
        poses = self.cameras.world_from_cam.flatten().tolist()
        return f"simulated {self.seed} {self.corruption} {self.size} {hash(tuple(poses))}"

    def begin(self, batch: int = 1) -> int:
        return 0

    def step(
        self, state: int, image: Float[Tensor, "1 3 h w"], heads: Collection[Head]
    ) -> tuple[int, CUT3RPrediction]:
        """Errors: ValueError for more images than cameras."""
        if state >= len(self.cameras):
            raise ValueError(f"this network knows {len(self.cameras)} views, and got another")
        h, w = image.shape[2:]
        camera = NetworkCrop.of(*self.size, self.config).camera(self.cameras[state])
        depth = self.scene.render(Cameras(camera.world_from_cam[None], camera.K[None]), h, w).depth[
            0
        ]
        # 1. Corrupt the depth, in the network's own unit.
        by, rng = self.corruption, stream(self.seed, state)
        scale, shift = torch.randn(2, generator=rng)
        depth = depth * (1 + by.noise * torch.randn(depth.shape, generator=rng))
        depth = by.unit * (depth * torch.exp(by.scale * scale) + by.shift * shift)
        # 2. Points in the axes of this camera, and of the first one.
        in_cam = camera.replace(world_from_cam=torch.eye(4))
        points = depth[..., None] * rays(in_cam, pixel_centres(h, w))
        poses = self.cameras.world_from_cam
        anchor_from_cam = invert(poses[0]) @ poses[state]
        in_anchor = points @ anchor_from_cam[:3, :3].mT + by.unit * anchor_from_cam[:3, 3]
        confidence = torch.full((1, h, w), CONFIDENCE)
        prediction = CUT3RPrediction(None, points[None], confidence, in_anchor[None], confidence)
        return state + 1, prediction


@dataclass(frozen=True)
class ReconstructorScores:
    """Metrics of a reconstructor over a tour."""

    error: float  # median over views of the median |depth / true - 1|
    worst: float  # largest error of a view that left surfels
    coverage: float  # share of the targets that the retrieved views show, relative to the oracle's
    trusted: float  # share of the views
    surfels: int

    def __str__(self) -> str:
        return (
            f"depth error {self.error:6.1%} (worst kept {self.worst:7.1%}), "
            f"coverage {self.coverage:.3f}, {self.surfels} surfels"
        )


def evaluate_reconstructor(
    scene: Scene,
    tour: Tour,
    reconstructor: Reconstructor,
    k: int = 4,
    m: int = 4,
    size: tuple[int, int] = (96, 128),
    config: MemoryConfig | None = None,
    policy: str = "surfel_votes",
) -> ReconstructorScores:
    """Walk the tour's path from its given views, whose depth is true, and score the geometry.

    All images are true; all geometry but the given views' is the reconstructor's.
    Errors: ValueError from the reconstructor.
    """
    path = tour.cameras[: tour.back.stop]
    memory = begin(scene.render(tour.given, *size), config)
    errors, kept_errors, ratios, trusted = [], [], [], []
    for start in range(0, len(path), m):
        views = scene.render(path[start : start + m], *size)
        if start >= tour.back.start:
            chosen = retrieve(memory, views.cameras, k, policy, WALKING).chosen
            [both] = coverage(scene, memory.views.cameras, views.cameras, [chosen], k)
            ratios.append(share_of_best(*both))
        images = views.replace(depth=None, confidence=None)
        result = reconstruct(reconstructor, memory, images)
        depth, confidence = result.views.depth, result.views.confidence
        for estimate, trust, true_depth in zip(depth, confidence, views.depth, strict=True):
            error = (estimate / true_depth - 1).abs()
            errors.append(float(error[error.isfinite()].median()))
            if (trust > 0).any():
                kept_errors.append(errors[-1])
        trusted += [report.trusted for report in result.reports] or [True] * len(views)
        memory = write(memory, result.views, result.state)
    return ReconstructorScores(
        error=median(errors),
        worst=max(kept_errors, default=0.0),
        coverage=mean(ratios),
        trusted=mean(trusted),
        surfels=len(memory.surfels),
    )
