"""Policies: which views become the context.

A policy is a frozen value that is called with `(memory, targets, k)` and returns a `Retrieval`:

- SurfelVotes   every target pixel's surfel votes for the views that saw it; most votes first, without
                views whose pose resembles a chosen one's. `SurfelVotes.paper()`, by name "paper",
                is VMem's rule in full (section 3.3); "surfel_votes" differs from it in three ways.
- Coverage      ours: greedily the view that explains most of what no chosen view explains yet,
                weighted by how sharply it saw it. Needs no suppression; at least 1 - 1/e of the best.
- Released      the released code's rule, quirks included.
- Temporal, CameraDistance, FovOverlap, Random: the baselines of the paper's ablation.
- Oracle        the most true target points, by a scene's exact visibility; no other set has more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import (
    Cameras,
    Splat,
    SplatConfig,
    canvas_width,
    in_image,
    mean_pose,
    pixel_centres,
    pose_distance,
    project,
    rays,
    splat,
    unproject,
    without_pinholes,
)
from vmemkit.memory import Memory, excerpt, sighting_counts, sightings_of, unpack_sightings
from vmemkit.retrieval.selection import (
    Hard,
    Soft,
    best_cover,
    largest_cover,
    ranked,
    suppress,
    suppress_softly,
)
from vmemkit.retrieval.sky import SKY_STEP, VIEWS_AT_ONCE, sky_sightings
from vmemkit.retrieval.types import Policy, Recorded, Retrieval, RetrievalConfig, Visibility
from vmemkit.retrieval.votes import (
    count_votes,
    finest_sizes,
    pixels_per_surfel,
    released_votes,
    sharpness,
    shown_points,
    verified,
)

# Enough for a quantile of the depths: this many pixels, of at most this many views.
SAMPLED_PIXELS, SAMPLED_VIEWS = 1 << 15, 256
SPARSE = 1 << 10  # known pixels of such a sample below which all pixels of its views are taken
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class SurfelVotes:
    """Views by the target pixels whose surfel they saw, without views of similar poses.

    # differs from VMem: the views that saw a surfel share its vote, so that surfels seen by few views
    # are not outvoted. Suppression is soft, because no threshold was published. All targets are
    # rendered, not one camera at their mean pose. `SurfelVotes.paper()` has the paper's settings.
    # In both, pinholes between discs are closed.
    """

    vote: Literal["shared", "frequency"] = (
        "shared"  # a pixel's vote is shared by its views | given to each (paper)
    )
    suppression: Soft | Hard = field(default_factory=Soft)
    config: RetrievalConfig = field(default_factory=RetrievalConfig)
    name: str = "surfel_votes"  # what its retrievals are called

    def __post_init__(self) -> None:
        if self.vote not in ("shared", "frequency"):
            raise ValueError(f"vote is one of shared, frequency; got {self.vote!r}")

    @classmethod
    def paper(cls) -> SurfelVotes:
        """VMem, section 3.3: one query camera at the mean target pose, a vote per view, hard."""
        return cls("frequency", Hard(), RetrievalConfig(query="mean"), "paper")

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        query, distance, canvas = _rendered(memory, targets, self.config)
        if not (canvas.surfel >= 0).any():
            return _blind(self.name, memory, query, k, self.config)
        part, shown = excerpt(memory, canvas)
        pixels = pixels_per_surfel(part, shown)
        if self.vote == "shared":
            seers = sighting_counts(part.packed_sightings, len(pixels))
            pixels = pixels / seers.clamp(min=1)
        votes = count_votes(part, pixels)
        field_of_view = 2 * math.atan(0.5 / float(query.K[0, 0, 0]))
        if isinstance(self.suppression, Soft):
            fade = self.suppression.fade * field_of_view
            chosen, suppressed_by = suppress_softly(memory, votes, distance, k, fade)
        else:
            order = ranked(votes, distance)
            order = order[votes[order] > 0]
            threshold = self.suppression.threshold * field_of_view
            chosen, suppressed_by = suppress(memory, order, k, threshold, self.suppression.relax)
        return Retrieval(self.name, chosen, votes, distance, suppressed_by, query, canvas)


@dataclass(frozen=True)
class Coverage:
    """Maximum coverage of target pixels, each worth more the more sharply it was seen.

    The worth of a set of views is the sum over pixels of the best quality among the views that saw
    the pixel's surfel. It is monotone and submodular, so the greedy choice is within 1 - 1/e of the
    best set (Nemhauser et al., 1978); exchanging single views then improves it further.
    Where the targets meet no surfel, views count that show sky in that direction (sky.py).
    A further generated view must add at least the share `least`: what it shows again, it shows with
    its own mistakes. A given view has none, so it needs to add only something.
    """

    sharpness: float = 0.1  # share of a pixel's worth that depends on how sharply it was seen
    generated: float = 0.9  # worth of a generated view, where a given one has 1
    sky: float = 0.1  # worth of a pixel of sky, where one of a surface has 1
    verify: bool = False  # test each pixel against the views' depth, instead of using sightings
    least: float = 0.005  # share of the targets that a further generated view must add
    config: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __post_init__(self) -> None:
        shares = (self.sharpness, self.generated, self.sky, self.least)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                f"sharpness, generated, sky and least are shares from 0 to 1, got {', '.join(map(str, shares))}"
            )

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        query, distance, canvas = _rendered(memory, targets, self.config)
        directions, direction, beholder = sky_sightings(memory, query, canvas)
        if not (canvas.surfel >= 0).any() and len(direction) == 0:
            return _blind("coverage", memory, query, k, self.config)
        if self.verify:
            seen, finest = shown_points(memory, query, canvas)
            pixels = torch.ones_like(finest)
            pairs = unpack_sightings(verified(memory, seen))
            surfel, view = pairs.surfel.long(), pairs.view.long()
            votes = torch.bincount(view, minlength=len(memory)).float()
        else:
            part, shown = excerpt(memory, canvas)
            seen, finest = part.surfels, finest_sizes(part, query, shown)
            pixels = pixels_per_surfel(part, shown)
            surfel, view = sightings_of(part.packed_sightings, pixels > 0)
            votes = count_votes(part, pixels)
        sharp = sharpness(seen, finest, memory.views.cameras, surfel, view)
        quality = 1 - self.sharpness + self.sharpness * sharp
        if directions:  # they count like further surfels
            surfel = torch.cat([surfel, direction + len(pixels)])
            view = torch.cat([view, beholder])
            quality = torch.cat([quality, quality.new_ones(len(direction))])
            worth = self.sky * SKY_STEP**2
            pixels = torch.cat([pixels, pixels.new_full((directions,), worth)])
            votes = votes + worth * torch.bincount(beholder, minlength=len(memory))
        quality = torch.where(memory.views.given[view], quality, self.generated * quality)
        cost = torch.where(memory.views.given, 0, self.least * pixels.sum())
        chosen = best_cover(surfel, view, quality, pixels, distance, k, cost)
        return Retrieval("coverage", chosen, votes, distance, none_suppressed(votes), query, canvas)


@dataclass(frozen=True)
class Released:
    """The released code's rule: votes only shortlist k + 10 views, pose distance orders them.

    The memory is rendered from the last target, with a focal length of 0.65, on 512 x 288 pixels. A
    vote is cos / (1 + depth), and each view's first pixel counts twice. The suppression threshold is
    the median pose distance among the first five views; with fewer views nothing is suppressed.
    # differs from VMem: no state is kept, and targets that see nothing are an error, not a crash.
    """

    config: RetrievalConfig = field(default_factory=RetrievalConfig)  # only `blind` matters

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        query = targets[-1:]
        wide = torch.diag(query.K.new_tensor([0.65, 0.65, 1.0])) @ query.K
        wide[:, :2, 2] = wide.new_tensor([256.5 / 512, 144.5 / 288])  # centre of pixel (256, 144)
        camera = Cameras(query.world_from_cam, wide)
        canvas = splat(memory.surfels, camera, 288, 512, SplatConfig.released())
        distance = mean_distance(memory, query)
        if not (canvas.surfel >= 0).any():
            return _blind("released", memory, query, k, self.config)
        votes = released_votes(memory, canvas)
        shortlist = ranked(votes, distance)[: k + 10]
        shortlist = shortlist[votes[shortlist] > 0]
        nearest_first = shortlist[torch.argsort(distance[shortlist], stable=True)]
        threshold = 0.0
        if len(memory) >= 5:
            poses = memory.views.cameras.world_from_cam[:5]
            i, j = torch.triu_indices(5, 5, offset=1)
            threshold = float(pose_distance(poses[i], poses[j]).sort().values[5])
        chosen, suppressed_by = suppress(memory, nearest_first, k, threshold, Hard.relax)
        return Retrieval("released", chosen, votes, distance, suppressed_by, query, canvas)


@dataclass(frozen=True)
class Temporal:
    """The most recent views."""

    config: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        score = torch.arange(len(memory), device=memory.device).float()
        return _by_score("temporal", memory, _query(targets, self.config), score, k)


@dataclass(frozen=True)
class CameraDistance:
    """The views whose poses are nearest to the query cameras, on average."""

    config: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        return _nearest("camera_distance", memory, _query(targets, self.config), k)


@dataclass(frozen=True)
class FovOverlap:
    """The views whose frusta hold most of the targets' frusta. Walls are ignored.

    All frusta end at the depth that 99 % of the remembered pixels do not exceed, as a sample of at
    most SAMPLED_PIXELS of them tells, so that time does not grow with the pixels of the memory.
    """

    config: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        query = _query(targets, self.config)
        far = known_depths(memory.views.depth).quantile(0.99)
        shares = (torch.arange(8, device=memory.device) + 0.5) / 8
        grid = pixel_centres(6, 8, device=memory.device).expand(len(query), 6, 8, 2)
        along = rays(query, grid)[:, None] * (far * shares[:, None, None, None])
        points = query.position[:, None, None, None] + along
        views = memory.views.cameras
        parts = (views[i : i + VIEWS_AT_ONCE] for i in range(0, len(views), VIEWS_AT_ONCE))
        score = torch.cat([_share_in_sight(points.reshape(1, -1, 3), part, far) for part in parts])
        return _by_score("fov_overlap", memory, query, score, k)


@dataclass(frozen=True)
class Random:
    """Any k views; the same ones for the same seed and number of views."""

    seed: int = 0
    config: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + len(memory))
        score = torch.rand(len(memory), generator=generator).to(memory.device)
        return _by_score("random", memory, _query(targets, self.config), score, k)


@dataclass(frozen=True)
class Oracle:
    """The k views that see most of the true surface points behind the target pixels.

    No other set sees more (`largest_cover`). The memory's views are looked at with the scene's truth,
    not with the memory's surfels.
    """

    scene: Visibility
    config: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __call__(self, memory: Memory, targets: Cameras, k: int) -> Retrieval:
        cameras = memory.views.cameras
        rows = max(1, self.config.rows // 2)  # half, because visibility takes longer than splatting
        visible = true_visibility(self.scene, cameras, targets, rows)
        query = _query(targets, self.config)
        distance, votes = mean_distance(memory, query), visible.sum(1).float()
        chosen = largest_cover(visible, distance, k)
        if len(chosen) == 0:
            return _blind("oracle", memory, query, k, self.config)
        return Retrieval("oracle", chosen, votes, distance, none_suppressed(votes), query, None)


POLICIES: dict[str, Policy] = {
    "surfel_votes": SurfelVotes(),
    "coverage": Coverage(),
    "paper": SurfelVotes.paper(),
    "released": Released(),
    "temporal": Temporal(),
    "camera_distance": CameraDistance(),
    "fov_overlap": FovOverlap(),
    "random": Random(),
}


def true_visibility(
    scene: Visibility, cameras: Cameras, targets: Cameras, rows: int = 36
) -> Bool[Tensor, "t n"]:
    """Which of the surface points behind a grid of target pixels each camera (t,) really sees.

    The grid has `rows` rows, or fewer where a recording has fewer. Pixels of unknown depth are left
    out. Errors: as the scene's, for cameras that it cannot show.
    """
    grid = (rows, canvas_width(targets, rows))
    height, width = render_size(scene, grid)
    points = unproject(targets, scene.render(targets, height, width).depth)
    points = points[:, _spread(height, grid[0])][:, :, _spread(width, grid[1])].reshape(-1, 3)
    return scene.visible(points[points.isfinite().all(-1)], cameras)


def known_depths(depth: Float[Tensor, "t h w"]) -> Float[Tensor, " n"]:
    """Known depths of a sample of pixels: all, or SAMPLED_PIXELS that are spread over the views.

    Only SAMPLED_VIEWS views are read, because they may be on disk.
    """
    t, pixels = len(depth), depth[0].numel()
    if t * pixels <= SAMPLED_PIXELS:
        return depth[depth.isfinite()]
    count = min(t, SAMPLED_VIEWS)
    views = torch.arange(count, device=depth.device) * t // count
    place = torch.arange(SAMPLED_PIXELS, device=depth.device)
    # Multiples of the golden ratio, modulo 1, are spread evenly and never repeat.
    pixel = (place.double() * GOLDEN % 1 * pixels).long()
    sample = depth.flatten(1)[views[place * count // SAMPLED_PIXELS], pixel]
    known = sample[sample.isfinite()]
    if len(known) >= SPARSE:
        return known
    sample = depth[views]
    known = sample[sample.isfinite()]
    return known[:: 1 + len(known) // SAMPLED_PIXELS]


def _share_in_sight(
    points: Float[Tensor, "1 n 3"], cameras: Cameras, far: Float[Tensor, ""]
) -> Float[Tensor, " t"]:
    """The share of the points that each camera (t,) has in its image and not beyond `far`."""
    uv, z = project(cameras, points)
    return (in_image(uv, z) & (z <= far)).float().mean(-1)


def render_size(scene: Visibility, size: tuple[int, int]) -> tuple[int, int]:
    """The height and width at which to render a scene: `size`, or a recording's own."""
    return scene.recorded_size if isinstance(scene, Recorded) else size


def _spread(pixels: int, count: int) -> list[int]:
    """`count` of so many pixels, evenly spread; all of them where there are no more."""
    count = min(pixels, count)
    return [(2 * i + 1) * pixels // (2 * count) for i in range(count)]


def _query(targets: Cameras, config: RetrievalConfig) -> Cameras:
    """The cameras that the memory is rendered from."""
    if config.query == "mean":
        return Cameras(mean_pose(targets.world_from_cam)[None], targets.K[:1])
    return targets[-1:] if config.query == "last" else targets


def _rendered(
    memory: Memory, targets: Cameras, config: RetrievalConfig
) -> tuple[Cameras, Float[Tensor, " t"], Splat]:
    """The query cameras, the pose distance of each view to them, and what they see."""
    query = _query(targets, config)
    columns = canvas_width(query, config.rows)
    canvas = splat(
        memory.surfels, query, config.rows, columns, config.splatting, boxes=memory.boxes
    )
    return query, mean_distance(memory, query), without_pinholes(canvas)


def _blind(name: str, memory: Memory, query: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """The outcome where the query cameras see no surfel."""
    if config.blind == "nearest":
        return _nearest(name, memory, query, k)
    raise ValueError(
        "the targets see no surfel of the memory, so no view can be voted for: move them, "
        'or fall back to the nearest poses with RetrievalConfig(blind="nearest")'
    )


def mean_distance(memory: Memory, query: Cameras) -> Float[Tensor, " t"]:
    """The mean pose distance of each view to the query cameras."""
    poses = memory.views.cameras.world_from_cam
    return pose_distance(poses[:, None], query.world_from_cam[None]).mean(1)


def none_suppressed(votes: Tensor) -> Tensor:
    """`suppressed_by` where no view was suppressed."""
    return torch.full_like(votes, -1).long()


def _by_score(
    name: str, memory: Memory, query: Cameras, score: Float[Tensor, " t"], k: int
) -> Retrieval:
    distance = mean_distance(memory, query)
    chosen = ranked(score, distance)[:k]
    return Retrieval(name, chosen, score, distance, none_suppressed(score), query, None)


def _nearest(name: str, memory: Memory, query: Cameras, k: int) -> Retrieval:
    return _by_score(name, memory, query, -mean_distance(memory, query), k)
