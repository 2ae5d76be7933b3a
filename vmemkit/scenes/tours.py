"""Tours: camera paths through a house that go out and come back, and random walks.

In: a house, a seed. Out: a `Tour` (given cameras, path, which part returns), or `Cameras`.
A tour returns by other poses than it went, so that the nearest camera is not simply the answer. At
its end it repeats its first poses exactly: images there can be compared with the first visit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool1d, normalize, pad

from vmemkit.core import Cameras, cat, intrinsics
from vmemkit.scenes.house.designer import uniform
from vmemkit.scenes.house.ray_casting import Rooms
from vmemkit.scenes.trajectory import upright_cameras

STRIDE = 0.35  # metres between the views of a tour
LOOK_AROUND = torch.arange(0, 360, 30.0)  # degrees: headings of a look all round
GIVEN_AROUND = torch.arange(0, 360, 60.0)  # degrees: headings of the given views in each room
SWING = torch.tensor([15.0, 30.0, 45.0, 60.0, 30.0, 0.0])  # degrees: a look to the side and back
SIDEWAYS = torch.tensor([15.0, 30.0, 15.0, 0.0, -15.0, -30.0, -15.0, 0.0])  # degrees: both sides
WALK_EYES = (1.35, 1.65)  # metres: eye height in `walk_through`
WALK_FOVS = (60.0, 80.0)  # degrees: horizontal field of view
WALK_TURNS = (5.0, 45.0)  # degrees: one turn on the spot
WALK_STRIDES = (0.1, 0.5)  # metres


@dataclass(frozen=True, repr=False)
class Tour:
    """A path with the cameras whose views are given."""

    given: Cameras  # (g,)
    cameras: Cameras  # (n,) the path to generate
    back: slice  # rows of the path: the way back, by other poses
    twin: Int[Tensor, " n"]  # an earlier camera of the path with the same pose, -1 = none

    def __repr__(self) -> str:
        revisits = int((self.twin >= 0).sum())
        back = f"{self.back.start}:{self.back.stop}"
        return f"Tour({len(self.given)} given, {len(self.cameras)} cameras, back={back}, {revisits} revisits)"


def single_tour(house: Rooms, seed: int = 0, fov: float = 75.0, aspect: float = 4 / 3) -> Tour:
    """From one given view: a look aside, through the doorways, a look to both sides, back, and the
    first look aside again.

    On the way back the camera faces as it did on the way out, and walks backwards along another
    line with other headings and slopes: it only shows what it has shown before.
    """
    rng = torch.Generator().manual_seed(seed)
    K, points = intrinsics(fov, aspect), _sample_line(_corners(house))
    heading = _smooth(_headings(points))
    aside = upright_cameras(points[:1], heading[:1] + SWING, K)
    out = upright_cameras(points[1:], heading[1:], K)
    there = upright_cameras(points[-1:], heading[-1:] + SIDEWAYS, K)
    back_points = _beside(house, points.flip(0), rng)
    back_heading = heading.flip(0) + _sway(len(points), 20, rng)
    back = upright_cameras(back_points, back_heading, K, 6 * _nod(points))
    given = upright_cameras(points[:1], heading[:1], K)
    return _tour(given, [aside, out, there], back, aside)


def capture_tour(house: Rooms, seed: int = 0, fov: float = 75.0, aspect: float = 4 / 3) -> Tour:
    """From six given views in each room: a look all round, through the doorways, a look all round,
    back along another line with other headings and slopes, and the first look all round again."""
    rng = torch.Generator().manual_seed(seed)
    K, points = intrinsics(fov, aspect), _sample_line(_corners(house))
    heading = _smooth(_headings(points))
    home = upright_cameras(points[:1], heading[:1] + LOOK_AROUND, K)
    out = upright_cameras(points[1:], heading[1:], K)
    there = upright_cameras(points[-1:], heading[-1:] + LOOK_AROUND[1:], K)
    back_points = _beside(house, points.flip(0), rng)
    back_heading = _headings(back_points) + _sway(len(points), 50, rng)
    back = upright_cameras(back_points, back_heading, K, 12 * _nod(points))
    rings = [upright_cameras(c[None], heading[:1] + GIVEN_AROUND, K) for c in house.centres]
    return _tour(cat(rings), [home, out, there], back, home)


def walk_through(house: Rooms, rng: torch.Generator, views: int, aspect: float = 1.0) -> Cameras:
    """Cameras (views,) of a walk as people take them: strides along the line from room to room, runs
    of turns on the spot in one direction, looks aside, and returns."""
    line = _corners(house)
    ends = (line[1:] - line[:-1]).norm(dim=1).cumsum(0)  # metres along the line
    length, height = float(ends[-1]), uniform(rng, *WALK_EYES)
    at, aside, heading = uniform(rng, 0, length), 0.0, uniform(rng, 0, 360)
    direction, sense = (1.0 if _chance(rng, 0.5) else -1.0 for _ in range(2))
    eyes, headings, slopes = [], [], []
    for _ in range(views):
        segment = min(int((ends < at).sum()), len(ends) - 1)
        unit = normalize(line[segment + 1] - line[segment], dim=0)
        point = line[segment + 1] - (ends[segment] - at) * unit
        eyes.append(_standing(house, point, unit, aside, height))
        headings.append(heading)
        slopes.append(uniform(rng, -8, 8))
        if _chance(rng, 0.5):  # a turn on the spot
            sense = -sense if _chance(rng, 0.15) else sense
            heading += sense * uniform(rng, *WALK_TURNS)
            continue
        ahead = math.degrees(math.atan2(float(direction * unit[0]), float(direction * unit[2])))
        if _chance(rng, 0.3):
            heading = ahead + uniform(rng, -25, 25)
        else:
            heading += sense * uniform(rng, 0, 15)
        at += direction * uniform(rng, *WALK_STRIDES)
        if not 0 < at < length or _chance(rng, 0.05):
            direction, at = -direction, min(max(at, 0.0), length)
        aside = min(max(aside + uniform(rng, -0.3, 0.3), -0.8), 0.8)
    K = intrinsics(uniform(rng, *WALK_FOVS), aspect)
    # In float64, because headings add up over the walk.
    angles = torch.tensor([headings, slopes], dtype=torch.float64)
    return upright_cameras(torch.stack(eyes), angles[0], K, angles[1])


def _tour(given: Cameras, before: list[Cameras], back: Cameras, again: Cameras) -> Tour:
    """`again` repeats the first cameras of `before`."""
    path = cat([*before, back, again])
    start = sum(len(part) for part in before)
    twin = torch.full((len(path),), -1)
    twin[len(path) - len(again) :] = torch.arange(len(again))
    return Tour(given, path, slice(start, start + len(back)), twin)


def _corners(house: Rooms) -> Float[Tensor, "n 3"]:
    """The first room's centre, then each doorway and the centre of the room behind it."""
    corners = [house.centres[0]]
    for doorway, centre in zip(house.doorways, house.centres[1:], strict=True):
        corners += [doorway, centre]
    return torch.stack(corners)


def _sample_line(corners: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
    """Points at most STRIDE apart along a polyline, its corners included."""
    pieces = [corners[:1]]
    for a, b in itertools.pairwise(corners):
        count = max(1, math.ceil(float((b - a).norm()) / STRIDE))
        pieces.append(a + (b - a) * ((torch.arange(count) + 1) / count)[:, None])
    return torch.cat(pieces)


def _headings(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Headings (degrees from +z towards +x) from each point to the next one."""
    step = torch.diff(points, dim=0)
    angle = torch.rad2deg(torch.atan2(step[:, 0], step[:, 2]))
    return torch.cat([angle, angle[-1:]])


def _smooth(heading: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Headings averaged over seven views, so that the camera turns gradually at corners."""
    yaw = torch.deg2rad(heading)
    directions = avg_pool1d(
        pad(torch.stack([yaw.sin(), yaw.cos()])[None], (3, 3), "replicate"), 7, 1
    )
    return torch.rad2deg(torch.atan2(directions[0, 0], directions[0, 1]))


def _sway(n: int, degrees: float, rng: torch.Generator) -> Float[Tensor, " n"]:
    """Offsets of headings, degrees: alternately left and right."""
    return degrees * torch.sin(1.1 * torch.arange(n) + 2 * math.pi * torch.rand(1, generator=rng))


def _nod(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Slopes in [-1, 1]: alternately down and up."""
    return torch.sin(0.7 * torch.arange(len(points)))


def _beside(
    house: Rooms, points: Float[Tensor, "n 3"], rng: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Points lowered a little and moved sideways as far as there is room, all to the same side."""
    yaw = torch.deg2rad(_headings(points))
    side = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], -1)
    sign = 1.0 if torch.rand(1, generator=rng) < 0.5 else -1.0
    lower = points.new_tensor([0.0, 0.2, 0.0])
    shifted = points + lower
    for distance in (0.15, 0.3, 0.45, 0.6):
        candidate = points + sign * distance * side + lower
        shifted = torch.where(house.free(candidate)[:, None], candidate, shifted)
    return shifted


def _standing(
    house: Rooms, point: Float[Tensor, " 3"], unit: Float[Tensor, " 3"], aside: float, height: float
) -> Float[Tensor, " 3"]:
    """The eye `aside` metres beside a point of the line if there is room, else above the point."""
    beside = point + aside * torch.stack([unit[2], torch.zeros_like(unit[0]), -unit[0]])
    point, beside = (torch.stack([p[0], p.new_tensor(-height), p[2]]) for p in (point, beside))
    return beside if house.free(beside[None])[0] else point


def _chance(rng: torch.Generator, share: float) -> bool:
    return uniform(rng, 0.0, 1.0) < share
