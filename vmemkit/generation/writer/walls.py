"""Walls: find the box of a room by proposing many and keeping the one that explains what is seen.

In: evidence, and a place inside the room. Out: `Shell`, the walls and the ceiling as far as they are
seen. This is analysis by synthesis: a proposed box predicts where each ray ends. It is right where a
ray ends on a wall, and wrong where one runs on through a wall and there is no doorway.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vmemkit.generation.writer.evidence import (
    Array,
    Evidence,
    Plane,
    axis_of,
    inward,
    planes,
    within,
)
from vmemkit.scenes.house import CASING_DEPTH

# Lengths are in metres.
OVER_DOOR = 2.2  # above this height, only walls, ceilings and lamps are seen
UNDER_LINTEL = 1.95  # height up to which every doorway is open
DOOR = 1.35  # greatest width of a doorway
NEAREST, FARTHEST = 0.25, 6.2  # from a place in the room, or in its doorway, to a wall
LEAST_SIDE, MOST_SIDE = 2.0, 6.2  # lengths that the side of a room may have
UNSEEN = 7.0  # where an unseen wall is put, while boxes are compared
CANDIDATES = 4  # walls that are tried on each side, besides the unseen one
LEAST_AREA = 0.04  # square metres of a wall that must be visible
DOOR_ERROR, PLAIN_AREA = 0.2, 1.5  # of a wall that a doorway tells; of one that is plainly seen
WALL_AREA = 0.8  # square metres that tell a wall from furniture where its upper part is unseen
ON_WALL = 0.015  # from a wall, within which a sample belongs to it
RAYS = 2000  # that are tested, about
CEILINGS = -2.3  # y above which a level surface is a ceiling
JAMB_WIDTHS = (0.15, 0.42)  # thickness of walls with casings
BESIDE = 1.5  # from a jamb, within which its walls are looked for
JAMB_ERROR = 0.12  # from the ends of its samples to its walls
JAMB_HEIGHT = 0.35  # least height that is seen
JAMB_EDGE = 0.06  # from its samples, in which it may go on
WHOLE = 0.6  # least share of all samples in its plane: others are of a wall
OPEN = 0.9  # in front of a jamb, in which nothing stands
TINTED = 0.17  # largest saturation of white trim under warm or cool light
# Weights of a box's score, in rays.
LEVEL, THROUGH, LOST, JAMB = 0.3, 6.0, 1.0, 2.0


@dataclass(frozen=True)
class Shell:
    """The walls 0 to 3 (-x, +x, -z, +z) and the ceiling of a room; None where unseen."""

    walls: tuple[float | None, float | None, float | None, float | None]
    ceiling: float | None


@dataclass(frozen=True)
class Jamb:
    """A side of a doorway: a narrow upright surface that spans the thickness of a wall."""

    axis: int  # the axis on which one walks through the doorway
    low: float  # its ends on that axis
    high: float
    at: float  # its coordinate on the other horizontal axis
    faces: int  # sign of its normal on that other axis
    count: int  # samples


@dataclass(frozen=True)
class Candidate:
    """A place at which a wall may be."""

    at: float
    seen: bool
    sure: bool = False  # even where no sample is on it


def find_shell(
    evidence: Evidence, jambs: list[Jamb], inside: Array, known: Mapping[int, float]
) -> Shell:
    """The walls around the place `inside` [3]; `known` are those that its doorways tell.

    1. Candidates for each wall: planes that face the place, and the ends of the jambs of doorways.
    2. Score every combination of four (`_score`).
    3. Keep the best, and take the ceiling inside it.
    """
    candidates = [
        [Candidate(_at_plane(evidence, inside, wall, known[wall]), seen=True, sure=True)]
        if wall in known
        else _candidates(evidence, jambs, inside, wall)
        for wall in range(4)
    ]
    step = max(1, len(evidence) // RAYS)
    rays = _Rays(evidence[np.arange(0, len(evidence), step)])
    best_score, best = -np.inf, None
    for walls in itertools.product(*candidates):
        if not all(_is_a_room(walls[i], walls[i + 1]) for i in (0, 2)):
            continue
        score = _score(rays, walls, jambs, step)
        if score > best_score:
            best_score, best = score, walls
    if best is None:
        return Shell((None, None, None, None), None)
    level = (evidence.normal[:, 1] > 0.99) & (evidence.point[:, 1] < CEILINGS) & (evidence.area > 0)
    for wall in range(4):
        beyond = (evidence.point[:, axis_of(wall)] - best[wall].at) * inward(wall)
        level &= beyond > 0
    ceilings = planes(evidence.point[level, 1], evidence.area[level])
    ceiling = max(ceilings, key=lambda plane: plane.area).at if ceilings else None
    a, b, c, d = (
        wall.at if wall.sure or (wall.seen and _is_wall(evidence, best, w)) else None
        for w, wall in enumerate(best)
    )
    return Shell((a, b, c, d), ceiling)


def find_jambs(evidence: Evidence) -> list[Jamb]:
    """The sides of doorways that are seen: white, high, and as narrow as walls are thick."""
    jambs = []
    for wall in range(4):
        across, through = axis_of(wall), 2 - axis_of(wall)
        rows = np.nonzero(evidence.facing(wall) & (evidence.point[:, 1] > -UNDER_LINTEL))[0]
        for face in _split(rows, evidence.point[rows, across], 0.01):
            for part in _split(face, evidence.point[face, through], 0.12):
                if len(part) < 25:
                    continue
                points = evidence.point[part]
                width, height = np.ptp(points[:, through]), np.ptp(points[:, 1])
                color = np.median(evidence.color[part], 0)
                white = color.min() > (1 - TINTED) * color.max()
                if not white or not JAMB_WIDTHS[0] < width < JAMB_WIDTHS[1] or height < JAMB_HEIGHT:
                    continue
                if len(part) < WHOLE * len(face) or not _is_jamb(evidence, wall, part):
                    continue
                at = float(np.median(points[:, across]))
                low, high = _ends_at_walls(evidence, wall, at, _ends(evidence, part, at, across))
                jambs.append(Jamb(through, low, high, at, inward(wall), len(part)))
    return jambs


def _ends(evidence: Evidence, part: Array, at: float, across: int) -> tuple[float, float]:
    """The ends of a face. The normals of its last samples are those of an edge, not its own."""
    points, all_points = evidence.point[part], evidence.point
    low, high = points.min(0) - JAMB_EDGE, points.max(0) + JAMB_EDGE
    low[across], high[across] = at - 0.004, at + 0.004
    on_face = all_points[within(all_points, low, high)][:, 2 - across]
    return float(on_face.min()), float(on_face.max())


def _ends_at_walls(
    evidence: Evidence, wall: int, at: float, ends: tuple[float, float]
) -> tuple[float, float]:
    """The ends of a jamb, at the casings on the walls beside it where these are seen: samples may end
    a pixel before them, which at a slant is far."""
    across, through = axis_of(wall), 2 - axis_of(wall)
    beside = np.abs(evidence.point[:, across] - at) < BESIDE
    found = []
    for end, side, out in ((ends[0], through + 1, -1), (ends[1], through, 1)):
        near = np.abs(evidence.point[:, through] - end + out * CASING_DEPTH) < JAMB_ERROR
        rows = evidence.facing(side) & beside & near
        walls = planes(evidence.point[rows, through], evidence.area[rows])
        largest = max(walls, key=lambda plane: plane.area, default=None)
        is_wall = largest is not None and largest.area > LEAST_AREA
        found.append(largest.at + out * CASING_DEPTH if is_wall else end)
    return found[0], found[1]


def _is_jamb(evidence: Evidence, wall: int, part: Array) -> bool:
    """Whether a narrow white face is the side of a doorway, rather than something at a wall.

    Behind a casing or a window there is a wall. Beside a piece of furniture the wall goes on. Over it,
    rays run. In front of it, the doorway is open.
    """
    across, through, sign = axis_of(wall), 2 - axis_of(wall), inward(wall)
    points, all_points = evidence.point[part], evidence.point
    at, low, high = np.median(points[:, across]), points[:, through].min(), points[:, through].max()
    front = sign * (all_points[:, across] - at)
    beside = (all_points[:, through] > low - 0.6) & (all_points[:, through] < high + 0.6)
    behind = evidence.facing(wall) & beside & (front < -0.015) & (front > -0.055)
    ends = np.minimum(np.abs(all_points[:, through] - low), np.abs(all_points[:, through] - high))
    walls = evidence.facing(2 - across) | evidence.facing(3 - across)
    goes_on = walls & (ends < 0.035) & (front > 0.03) & (front < 0.6)
    goes_on &= all_points[:, 1] > -UNDER_LINTEL
    between = (all_points[:, through] > low + 0.03) & (all_points[:, through] < high - 0.03)
    filled = between & (front > 0.05) & (front < OPEN) & (all_points[:, 1] > -UNDER_LINTEL)
    filled &= all_points[:, 1] < -0.05
    over_door = evidence.facing(wall) & (np.abs(front) < 0.01) & (all_points[:, 1] < -OVER_DOOR)
    if behind.any() or goes_on.sum() > 2 or filled.sum() > 2 or over_door.any():
        return False
    start, end = evidence.eye[:, across] - at, all_points[:, across] - at
    crosses = (start * end < 0) & (np.abs(end) > 0.05)
    place = evidence.crossing(crosses, across, at)
    over = (place[:, through] > low + 0.03) & (place[:, through] < high - 0.03)
    over &= place[:, 1] < points[:, 1].min() - 0.05
    return not over.any()


def _split(rows: Array, values: Array, gap: float) -> list[Array]:
    """The rows in groups, wherever their sorted values leave a gap."""
    order = np.argsort(values)
    return np.split(rows[order], np.nonzero(np.diff(values[order]) > gap)[0] + 1)


def _at_plane(evidence: Evidence, inside: Array, wall: int, at: float) -> float:
    """Where a wall is seen near `at`, which a doorway tells: its thickness may have been a guess."""
    near = [plane for plane in _planes(evidence, inside, wall) if abs(plane.at - at) < DOOR_ERROR]
    largest = max(near, key=lambda plane: plane.area, default=None)
    return at if largest is None or largest.area < PLAIN_AREA else largest.at


def _planes(evidence: Evidence, inside: Array, wall: int) -> list[Plane]:
    """The planes that face the place `inside` like a wall, at a possible distance."""
    axis, sign = axis_of(wall), inward(wall)
    rows = evidence.facing(wall)
    distance = -sign * (evidence.point[:, axis] - inside[axis])
    rows &= (distance > NEAREST) & (distance < FARTHEST)
    return planes(evidence.point[rows, axis], evidence.area[rows])


def _candidates(evidence: Evidence, jambs: list[Jamb], inside: Array, wall: int) -> list[Candidate]:
    axis, sign = axis_of(wall), inward(wall)
    seen = [plane for plane in _planes(evidence, inside, wall) if plane.area > LEAST_AREA]
    seen.sort(key=lambda plane: -plane.area)
    places = {plane.at: False for plane in seen[:CANDIDATES]}
    for jamb in jambs:
        # The casing stands out from the wall on both sides of it.
        at = jamb.high - CASING_DEPTH if wall % 2 == 0 else jamb.low + CASING_DEPTH
        near = -sign * (at - inside[axis]) < 0.1 or any(abs(at - place) < 0.04 for place in places)
        if jamb.axis == axis and not near:
            places[float(at)] = True
    unseen = Candidate(float(inside[axis] - sign * UNSEEN), seen=False)
    return [*(Candidate(at, True, sure) for at, sure in places.items()), unseen]


def _is_a_room(low: Candidate, high: Candidate) -> bool:
    return not (low.seen and high.seen) or LEAST_SIDE < high.at - low.at < MOST_SIDE


def _is_wall(evidence: Evidence, walls: tuple[Candidate, ...], wall: int) -> bool:
    """Whether a seen wall is more than the front of a wardrobe: it is high, or large."""
    axis, side = axis_of(wall), 2 - axis_of(wall)
    low, high = walls[2 if axis == 0 else 0], walls[3 if axis == 0 else 1]
    along = evidence.point[:, side]
    rows = evidence.facing(wall) & (np.abs(evidence.point[:, axis] - walls[wall].at) < ON_WALL)
    rows &= (along > low.at - ON_WALL) & (along < high.at + ON_WALL)
    over = rows & (evidence.point[:, 1] < -OVER_DOOR)
    return bool(over.any()) or float(evidence.area[rows].sum()) > WALL_AREA


class _Rays:
    """Rays from eyes to samples, prepared for tests against many boxes."""

    def __init__(self, evidence: Evidence) -> None:
        self.eye, self.point = evidence.eye, evidence.point
        way = self.point - self.eye
        self.way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        self.high = self.point[:, 1] < -OVER_DOOR
        floor = np.abs(self.point[:, 1]) < 0.02
        self.level = floor | ((evidence.normal[:, 1] > 0.99) & (self.point[:, 1] < CEILINGS))
        self._reached: dict[tuple[int, float], Array] = {}

    def reaches(self, axis: int, at: float) -> Array:
        """Where each ray reaches a coordinate on an axis, as a share of its length."""
        if (axis, at) not in self._reached:
            self._reached[axis, at] = (at - self.eye[:, axis]) / self.way[:, axis]
        return self._reached[axis, at]


def _score(
    rays: _Rays, walls: tuple[Candidate, ...], jambs: list[Jamb], rays_per_test: int
) -> float:
    """How well a box explains the rays: rays that end on seen walls, floor and ceiling count for it;
    rays through seen walls outside of a doorway, and surfaces inside it that only walls can be,
    count against it."""
    x = [rays.reaches(0, wall.at) for wall in walls[:2]]
    z = [rays.reaches(2, wall.at) for wall in walls[2:]]
    x_in, x_out = np.minimum(*x), np.maximum(*x)
    z_in, z_out = np.minimum(*z), np.maximum(*z)
    enter, leave = np.maximum(x_in, z_in), np.minimum(x_out, z_out)
    way_x, way_z = rays.way[:, 0] > 0, rays.way[:, 2] > 0
    last_wall = np.where(x_out < z_out, np.where(way_x, 1, 0), np.where(way_z, 3, 2))
    first_wall = np.where(x_in > z_in, np.where(way_x, 0, 1), np.where(way_z, 2, 3))
    at, seen = np.array([wall.at for wall in walls]), np.array([wall.seen for wall in walls])
    met = (enter < leave) & (leave > 0) & (enter < 1 - 1e-6)
    axis = np.where(last_wall < 2, 0, 2)
    gap = np.abs(rays.point[np.arange(len(axis)), axis] - at[last_wall])
    on_wall = met & (gap < ON_WALL) & seen[last_wall]
    supported = np.bincount(last_wall[on_wall], minlength=4) > 0
    sure = np.array([wall.sure for wall in walls])
    if (seen & ~supported & ~sure).any():
        return -np.inf
    inside = met & (leave >= 1) & ~on_wall
    through = met & ~inside & ~on_wall
    wrong = _not_through_doors(rays, through, leave, last_wall, seen)
    wrong += _not_through_doors(rays, met & (enter > 0), enter, first_wall, seen)
    level = int((inside & rays.level).sum())
    lost = int((inside & rays.high & ~rays.level).sum())
    score = on_wall.sum() + LEVEL * level - THROUGH * wrong - LOST * lost
    return float(score - JAMB * _jambs_inside(walls, jambs) / rays_per_test)


def _not_through_doors(rays: _Rays, crossing: Array, share: Array, wall: Array, seen: Array) -> int:
    """The number of rays that cross seen walls where there can be no doorway."""
    wrong = 0
    for w in np.nonzero(seen)[0]:
        rows = crossing & (wall == w)
        if not rows.any():
            continue
        place = rays.eye[rows] + share[rows, None] * rays.way[rows]
        over = place[:, 1] < -OVER_DOOR
        along = np.sort(place[~over, 2 - axis_of(int(w))])
        wrong += int(over.sum())
        if len(along):  # the doorway is where most rays go through
            end = np.searchsorted(along, along + DOOR, side="right")
            wrong += len(along) - int((end - np.arange(len(along))).max())
    return wrong


def _jambs_inside(walls: tuple[Candidate, ...], jambs: list[Jamb]) -> int:
    """Samples of jambs that stand in the middle of the room, where no doorway is."""
    count = 0
    for jamb in jambs:
        first, side = (0, 2) if jamb.axis == 0 else (2, 0)
        low, high = walls[first], walls[first + 1]
        middle = (jamb.low + jamb.high) / 2
        between = low.at < middle < high.at
        between &= walls[side].at - 0.05 < jamb.at < walls[side + 1].at + 0.05
        at_low = low.seen and jamb.low - low.at < 0.06
        at_high = high.seen and high.at - jamb.high < 0.06
        if between and not at_low and not at_high:
            count += jamb.count
    return count
