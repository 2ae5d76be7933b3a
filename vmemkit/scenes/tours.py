"""Tours: trajectories through a house that go out and come back."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vmemkit.core import Cameras, cameras, intrinsics, look_at
from vmemkit.scenes.house.ray_casting import Rooms

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


EYES = (1.35, 1.65)  # metres above the floor

FOVS = (60.0, 80.0)  # degrees

TURNS = (5.0, 45.0)  # degrees between views

STRIDES = (0.1, 0.5)  # metres


def walk_through(house: Rooms, rng: torch.Generator, views: int, aspect: float = 1.0) -> Cameras:
    """Cameras (views,) of a walk as people take them: strides along the way from room to room, turns
    on the spot that keep their sense for a while, looks aside, and returns."""
    corners = [house.centres[0]]
    for doorway, centre in zip(house.doorways, house.centres[1:], strict=True):
        corners += [doorway, centre]
    way = torch.stack(corners)
    ends = (way[1:] - way[:-1]).norm(dim=1).cumsum(0)  # metres along the way
    length, height = float(ends[-1]), _uniform(rng, *EYES)
    at, aside, yaw = _uniform(rng, 0, length), 0.0, _uniform(rng, 0, 360)
    ahead, sense = (1.0 if _chance(rng, 0.5) else -1.0 for _ in range(2))
    eyes, gazes = [], []
    for _ in range(views):
        segment = min(int((ends < at).sum()), len(ends) - 1)
        unit = normalize(way[segment + 1] - way[segment], dim=0)
        eyes.append(
            _standing(house, way[segment + 1] - (ends[segment] - at) * unit, unit, aside, height)
        )
        slope, turn = math.radians(_uniform(rng, -8, 8)), math.radians(yaw)
        gazes.append(
            (math.sin(turn) * math.cos(slope), math.sin(slope), math.cos(turn) * math.cos(slope))
        )
        if _chance(rng, 0.5):  # a turn on the spot
            sense = -sense if _chance(rng, 0.15) else sense
            yaw += sense * _uniform(rng, *TURNS)
            continue
        heading = math.degrees(math.atan2(float(ahead * unit[0]), float(ahead * unit[2])))
        follows = _chance(rng, 0.3)
        yaw = heading + _uniform(rng, -25, 25) if follows else yaw + sense * _uniform(rng, 0, 15)
        at += ahead * _uniform(rng, *STRIDES)
        if not 0 < at < length or _chance(rng, 0.05):
            ahead, at = -ahead, min(max(at, 0.0), length)
        aside = min(max(aside + _uniform(rng, -0.3, 0.3), -0.8), 0.8)
    eye = torch.stack(eyes)
    K = intrinsics(_uniform(rng, *FOVS), aspect)
    return Cameras(look_at(eye, eye + torch.tensor(gazes)), K.expand(views, 3, 3))


def _standing(house: Rooms, point: Tensor, unit: Tensor, aside: float, height: float) -> Tensor:
    """The eye beside the way as far as there is room, else on it."""
    across = torch.stack([unit[2], torch.zeros_like(unit[0]), -unit[0]])
    beside = point + aside * across
    point, beside = (torch.stack([p[0], p.new_tensor(-height), p[2]]) for p in (point, beside))
    return beside if house.free(beside[None])[0] else point


def _uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _chance(rng: torch.Generator, share: float) -> bool:
    return _uniform(rng, 0.0, 1.0) < share
