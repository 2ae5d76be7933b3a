"""Evaluation: how well a memory is read, and how well a walk comes back.

Coverage needs no generator: the share of target pixels whose true surface point some chosen view
really saw (inside its image, not occluded), relative to what the best k views would cover.
The tour of a house goes out, looks around, and comes back by other poses, so that retracing does
not hand the answer to the nearest camera; at its end it stands where it stood before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from skimage.metrics import structural_similarity
from torch import Tensor

from vmemkit.core import Cameras, PointMaps, Views, cameras, intrinsics, look_at
from vmemkit.memory import Memory, MemoryConfig, begin, write
from vmemkit.retrieval import Policy, RetrievalConfig, oracle, retrieve, true_visibility
from vmemkit.scenes import Scene
from vmemkit.walk import Step

STRIDE = 0.35  # metres between the views of a tour

AROUND = 30.0  # degrees between them when looking all round

SWING = (15.0, 30.0, 45.0, 60.0, 30.0, 0.0)  # degrees: a look to the side and back


@runtime_checkable
class House(Protocol):
    """What a tour needs to know of a scene (`scenes.rooms` has it)."""

    centres: Float[Tensor, "r 3"]
    doorways: Float[Tensor, "d 3"]

    def free(self, points_world: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]: ...


@dataclass(frozen=True, repr=False)
class Tour:
    """A trajectory, the cameras whose views are given, and what the trajectory's parts are for."""

    given: Cameras  # (g,)
    cameras: Cameras  # (n,) the path to generate
    back: slice  # of the path: the way back, by other poses
    twin: Int[Tensor, " n"]  # an earlier camera of the path with the same pose, -1 = none

    def __repr__(self) -> str:
        revisits = int((self.twin >= 0).sum())
        back = f"{self.back.start}:{self.back.stop}"
        return f"Tour({len(self.given)} given, {len(self.cameras)} cameras, back={back}, {revisits} revisits)"


def single_tour(house: House, seed: int = 0, fov: float = 75.0, aspect: float = 4 / 3) -> Tour:
    """From one view: a look aside, through the doorways, a look round, back, the same look aside.

    The camera keeps facing ahead and backs out along another line, with other headings and slopes,
    so that what it shows on the way back it has shown before.
    """
    rng = torch.Generator().manual_seed(seed)
    points = _way_through(house)
    heading = _smooth(_headings(points))
    swing, sideways = torch.tensor(SWING), torch.tensor([*SWING[:2], 15, 0, -15, -30, -15, 0])
    aside = _poses(points[:1], heading[:1] + swing)
    out = _poses(points[1:], heading[1:])
    there = _poses(points[-1:], heading[-1:] + sideways)
    back_points = _beside(house, points.flip(0), rng)
    back = _poses(back_points, heading.flip(0) + _sway(len(points), 20, rng), 6 * _wave(points))
    return _tour(_poses(points[:1], heading[:1]), [aside, out, there], back, aside, fov, aspect)


def capture_tour(house: House, seed: int = 0, fov: float = 75.0, aspect: float = 4 / 3) -> Tour:
    """From six given views in each room: look all round, through the doorways, look all round, and
    back along another line, with other headings and slopes; at home, the first look again."""
    rng = torch.Generator().manual_seed(seed)
    points = _way_through(house)
    heading, around = _smooth(_headings(points)), torch.arange(0, 360, AROUND)
    home = _poses(points[:1], heading[:1] + around)
    out = _poses(points[1:], heading[1:])
    there = _poses(points[-1:], heading[-1:] + around[1:])
    back_points = _beside(house, points.flip(0), rng)
    sway = _sway(len(points), 50, rng)
    back = _poses(back_points, _headings(back_points) + sway, 12 * _wave(points))
    ring = torch.arange(0, 360, 60.0)
    given = torch.cat([_poses(centre[None], heading[:1] + ring) for centre in house.centres])
    return _tour(given, [home, out, there], back, home, fov, aspect)


def _tour(
    given: Tensor, before: list[Tensor], back: Tensor, again: Tensor, fov: float, aspect: float
) -> Tour:
    """`again` repeats the first poses of `before`."""
    path, K = torch.cat([*before, back, again]), intrinsics(fov, aspect)
    start = sum(len(part) for part in before)
    twin = torch.full((len(path),), -1)
    twin[len(path) - len(again) :] = torch.arange(len(again))
    return Tour(cameras(given, K), cameras(path, K), slice(start, start + len(back)), twin)


def _way_through(house: House) -> Float[Tensor, "n 3"]:
    """From the first room's centre to the last one's, through the doorways."""
    corners = [house.centres[0]]
    for doorway, centre in zip(house.doorways, house.centres[1:], strict=True):
        corners += [doorway, centre]
    return _sample_line(torch.stack(corners))


def _sample_line(corners: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
    """Points at most STRIDE apart along a polyline, its corners included."""
    pieces = [corners[:1]]
    for a, b in itertools.pairwise(corners):
        count = max(1, math.ceil(float((b - a).norm()) / STRIDE))
        pieces.append(a + (b - a) * ((torch.arange(count) + 1) / count)[:, None])
    return torch.cat(pieces)


def _headings(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Degrees from +z towards +x of the way to the next point."""
    step = torch.diff(points, dim=0)
    angle = torch.rad2deg(torch.atan2(step[:, 0], step[:, 2]))
    return torch.cat([angle, angle[-1:]])


def _smooth(heading: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Headings averaged over seven views, so that corners are rounded."""
    yaw = torch.deg2rad(heading)
    ways = torch.stack([yaw.sin(), yaw.cos()])[None]
    ways = torch.nn.functional.avg_pool1d(torch.nn.functional.pad(ways, (3, 3), "replicate"), 7, 1)
    return torch.rad2deg(torch.atan2(ways[0, 0], ways[0, 1]))


def _sway(n: int, degrees: float, rng: torch.Generator) -> Float[Tensor, " n"]:
    """Headings that look left and right by turns."""
    return degrees * torch.sin(1.1 * torch.arange(n) + 2 * math.pi * torch.rand(1, generator=rng))


def _wave(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    return torch.sin(0.7 * torch.arange(len(points)))


def _poses(
    position: Float[Tensor, "#n 3"],
    heading: Float[Tensor, " n"],
    slope: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n 4 4"]:
    """Upright poses by heading and slope in degrees (slope > 0 looks down)."""
    yaw = torch.deg2rad(heading)
    pitch = torch.deg2rad(torch.zeros_like(heading) if slope is None else slope)
    ahead = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
    position = position.expand(len(heading), 3)
    return look_at(position, position + ahead)


def _beside(
    house: House, points: Float[Tensor, "n 3"], rng: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Points moved sideways and up or down as far as there is room, the same way throughout."""
    yaw = torch.deg2rad(_headings(points))
    side = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], -1)
    sign = 1.0 if torch.rand(1, generator=rng) < 0.5 else -1.0
    lift = points.new_tensor([0.0, 0.2, 0.0])
    moved = points + lift
    for distance in (0.15, 0.3, 0.45, 0.6):
        candidate = points + sign * distance * side + lift
        moved = torch.where(house.free(candidate)[:, None], candidate, moved)
    return moved


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
    """Share of a step's target pixels whose true surface point the chosen views really see, and the
    share that the oracle's choice of as many views sees."""
    memory, k = step.before, len(step.retrieval.chosen)
    visible = true_visibility(scene, memory.views.cameras, step.targets, rows)
    best = oracle(scene)(memory, step.targets, k, RetrievalConfig(rows=2 * rows))
    share, top = (visible[r.chosen].any(0).float().mean() for r in (step.retrieval, best))
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
