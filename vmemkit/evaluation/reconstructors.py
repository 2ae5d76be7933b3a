"""How good is a reconstructor's geometry, and what does it do to retrieval? Judged on true scenes.

`Simulated` stands in for a network: it knows the scene, and spoils what it says as networks do: all
lengths in a unit of its own, a scale and a shift of each view's own, noise. So a `Cut3r` around it
runs as with the published weights, and its error can be told.
`judge` walks a tour whose images are true and whose geometry is a reconstructor's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import mean, median

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, invert, pixel_centres, rays, stream
from vmemkit.evaluation.scores import coverage_ratios
from vmemkit.memory import MemoryConfig, begin, write
from vmemkit.nets.cut3r import CUT3RConfig, CUT3RPrediction, Head
from vmemkit.reconstruction import NetworkCrop, Reconstructor, reconstruct
from vmemkit.retrieval import RetrievalConfig, retrieve
from vmemkit.scenes import Scene, Tour

SURE = 5.0  # confidence: enough for PnP
WALKING = RetrievalConfig(blind="nearest")  # as in `walk`


@dataclass(frozen=True)
class Corruption:
    """What a simulated network does to true depth. Per view: normal, of these standard deviations."""

    unit: float = 2.5  # its units per world unit
    scale: float = 0.0  # of a view's log scale
    shift: float = 0.0  # of a view's shift, world units
    noise: float = 0.0  # of a pixel's depth, relative


CORRUPTIONS = {
    "unit": Corruption(),
    "unit, scale": Corruption(scale=0.1),
    "unit, scale, shift": Corruption(scale=0.1, shift=0.2),
    "unit, scale, shift, noise": Corruption(scale=0.1, shift=0.2, noise=0.03),
}


@dataclass(frozen=True, repr=False)
class Simulated:
    """A `cut3r.Network` of a scene: the i-th image it is given is what camera i of (n,) sees. Its
    state is i. The same seed spoils the same view in the same way, whenever it is seen."""

    scene: Scene
    cameras: Cameras
    size: tuple[int, int]  # of the images, height and width
    corruption: Corruption
    config: CUT3RConfig = field(default_factory=lambda: CUT3RConfig(img_size=(128, 128)))
    seed: int = 0

    @property
    def device(self) -> torch.device:
        return self.cameras.device

    def begin(self, batch: int = 1) -> int:
        return 0

    def step(
        self, state: int, image: Float[Tensor, "1 3 h w"], heads: Collection[Head]
    ) -> tuple[int, CUT3RPrediction]:
        """Errors: ValueError for more images than cameras."""
        if state >= len(self.cameras):
            raise ValueError(f"this network knows {len(self.cameras)} views, and got another")
        window, (h, w) = NetworkCrop.of(*self.size, self.config), (image.shape[2], image.shape[3])
        camera = window.camera(self.cameras[state])
        depth, rng, by = self._depth(camera, h, w), stream(self.seed, state), self.corruption
        of_view = torch.randn(2, generator=rng)
        depth = depth * (1 + by.noise * torch.randn(depth.shape, generator=rng))
        depth = by.unit * (depth * torch.exp(by.scale * of_view[0]) + by.shift * of_view[1])
        in_cam = camera.replace(world_from_cam=torch.eye(4))
        points = depth[..., None] * rays(in_cam, pixel_centres(h, w))
        anchor_from_cam = (
            invert(self.cameras.world_from_cam[0]) @ self.cameras.world_from_cam[state]
        )
        moved = points @ anchor_from_cam[:3, :3].mT + by.unit * anchor_from_cam[:3, 3]
        sure = torch.full((1, h, w), SURE)
        said = CUT3RPrediction(None, points[None], sure, moved[None], sure)
        return state + 1, said

    def _depth(self, camera: Cameras, h: int, w: int) -> Float[Tensor, "h w"]:
        one = Cameras(camera.world_from_cam[None], camera.K[None])
        return self.scene.render(one, h, w).depth[0]


@dataclass(frozen=True)
class ReconstructorVerdict:
    error: float  # median over views of the median |depth / true - 1|
    worst: float  # of a view that left surfels
    coverage: float  # of targets on the way back by what is retrieved, relative to the oracle's
    trusted: float  # share of the views
    surfels: int

    def __str__(self) -> str:
        return (
            f"depth error {self.error:6.1%} (worst kept {self.worst:7.1%}), "
            f"coverage {self.coverage:.3f}, {self.surfels} surfels"
        )


def judge_reconstructors(
    scene: Scene,
    tour: Tour,
    reconstructor: Reconstructor,
    k: int = 4,
    m: int = 4,
    size: tuple[int, int] = (96, 128),
    config: MemoryConfig | None = None,
    policy: str = "surfel_votes",
) -> ReconstructorVerdict:
    """Walk the tour's path from its given views, whose depth is true. All images are true, all other
    geometry is the reconstructor's.

    Errors: ValueError from the reconstructor.
    """
    path = tour.cameras[: tour.back.stop]
    memory = begin(scene.render(tour.given, *size), config)
    errors, kept, ratios, trusted = [], [], [], []
    for start in range(0, len(path), m):
        views = scene.render(path[start : start + m], *size)
        if start >= tour.back.start:
            targets = views.cameras
            chosen = {policy: retrieve(memory, targets, k, policy, WALKING).chosen}
            ratios += coverage_ratios(scene, memory, targets, k, chosen, WALKING).values()
        blind = views.replace(depth=None, confidence=None)
        made = reconstruct(reconstructor, memory, blind)
        for found, true in zip(made.maps, views.depth, strict=True):
            wrong = (found.depth / true - 1).abs()
            errors.append(float(wrong[wrong.isfinite()].median()))
            kept.append(errors[-1] if (found.confidence > 0).any() else 0.0)
        trusted += [report.trusted for report in made.reports] or [True] * len(views)
        memory = write(memory, blind, made.maps, made.state)
    return ReconstructorVerdict(
        median(errors), max(kept), mean(ratios), mean(trusted), len(memory.surfels)
    )
