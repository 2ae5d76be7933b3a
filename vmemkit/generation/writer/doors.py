"""Doorways: where rays run through the walls of a room.

In: evidence and the walls of a room. Out: `Opening`, one for each doorway that is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vmemkit.generation.writer.evidence import (
    Array,
    Evidence,
    axis_of,
    groups,
    inward,
    planes,
)
from vmemkit.generation.writer.facts import THIN, DoorFacts
from vmemkit.generation.writer.walls import (
    DOOR,
    JAMB_HEIGHT,
    OVER_DOOR,
    TINTED,
    UNDER_LINTEL,
    Jamb,
    Shell,
)
from vmemkit.scenes.house import CASING_DEPTH, CASING_WIDTH, OVERLAP, SKIRTING

LEAST_RAYS = 12  # that must run through a wall
BEYOND = 0.1  # metres behind a wall at which a ray has run through it
BESIDE = 0.2  # metres beside an opening in which the wall must be seen, for its edge to be known
LINTELS = (-2.2, -1.95)  # y of the underside of a doorway's top
PASSABLE = 0.4  # metres beside one of its sides in which a doorway is open
LINING = CASING_DEPTH / 2
BOARD = CASING_DEPTH + OVERLAP  # metres from the wall to the face of a casing
ON_BOARD = 0.0045  # metres from a face, within which a sample belongs to it
UNDER_PICTURES = 1.1  # metres above the floor; pictures and windows hang higher


@dataclass(frozen=True)
class Opening:
    """What is seen of a doorway. Metres; None where unseen."""

    wall: int  # 0 to 3, in the room from which it is seen
    low: float  # least and greatest place along the wall that rays run through
    high: float
    low_seen: bool  # whether the doorway's edge is there, rather than somewhere beyond
    high_seen: bool
    top: float | None  # y of its upper edge
    far: float | None  # where the wall of the next room is, on the axis through the doorway


def find_openings(evidence: Evidence, jambs: list[Jamb], shell: Shell) -> list[Opening]:
    """The doorways in the seen walls of a room."""
    seen = [wall for wall in range(4) if shell.walls[wall] is not None]
    found = [_opening(evidence, jambs, shell, wall) for wall in seen]
    if not any(found):
        found = [_cased(evidence, shell, wall) for wall in seen]
    return [opening for opening in found if opening is not None]


def _opening(evidence: Evidence, jambs: list[Jamb], shell: Shell, wall: int) -> Opening | None:
    axis, side, sign = axis_of(wall), 2 - axis_of(wall), inward(wall)
    at = shell.walls[wall]
    assert at is not None
    eye, end = (sign * (place[:, axis] - at) for place in (evidence.eye, evidence.point))
    through = ((eye > 0) & (end < -BEYOND)) | ((eye < -BEYOND) & (end > BEYOND))
    place = evidence.crossing(through, axis, at)
    low, high = limits(shell, side)
    inside = (place[:, 1] > -OVER_DOOR) & (place[:, side] > low) & (place[:, side] < high)
    along = np.sort(place[inside, side])
    if len(along) < LEAST_RAYS:
        return None
    ends = np.searchsorted(along, along + DOOR, side="right")
    first = int((ends - np.arange(len(along))).argmax())
    low, high = float(along[first]), float(along[ends[first] - 1])
    left = _wall_between(evidence, wall, at, (low - BESIDE, low))
    right = _wall_between(evidence, wall, at, (high, high + BESIDE))
    low_seen, high_seen = len(left) > 0, len(right) > 0
    # The edge lies between the last ray through the doorway and the first sample beside it.
    low = (low + float(left.max())) / 2 if low_seen else low
    high = (high + float(right.min())) / 2 if high_seen else high
    far = None
    for jamb in jambs:
        spans = jamb.low - 0.06 < at < jamb.high + 0.06
        if jamb.axis != axis or not spans or not low - 0.3 < jamb.at < high + 0.3:
            continue
        if jamb.faces > 0:
            low, low_seen = jamb.at - LINING, True
        else:
            high, high_seen = jamb.at + LINING, True
        far = jamb.low + CASING_DEPTH if sign > 0 else jamb.high - CASING_DEPTH
        far = float(far) if sign * (at - far) > 0.08 else None
    low, high = min(low, high), max(low, high)
    lintel = _lintel(evidence, at, axis, (low, high))
    return Opening(wall, low, high, low_seen, high_seen, lintel, far)


def _cased(evidence: Evidence, shell: Shell, wall: int) -> Opening | None:
    """The doorway of which only one upright board of the casing is seen, beside the wall."""
    at, side = shell.walls[wall], 2 - axis_of(wall)
    assert at is not None
    low, high = limits(shell, side)
    out = inward(wall) * (evidence.point[:, axis_of(wall)] - at)
    along = evidence.point[:, side]
    rows = (along > low + CASING_WIDTH) & (along < high - CASING_WIDTH)
    rows &= (evidence.point[:, 1] > -UNDER_LINTEL) & (evidence.point[:, 1] < -SKIRTING)
    board = evidence[rows & (np.abs(out - BOARD) < ON_BOARD)]
    for group in groups(board.point, CASING_WIDTH, LEAST_RAYS):
        points, half = board.point[group], float(np.median(board.size[group])) / 2
        first, last = float(points[:, side].min()), float(points[:, side].max())
        color = np.median(board.color[group], 0)
        white, high = color.min() > (1 - TINTED) * color.max(), np.ptp(points[:, 1]) > JAMB_HEIGHT
        narrow = last - first < CASING_WIDTH + LINING
        if not (white and high and narrow) or points[:, 1].max() < -UNDER_PICTURES:
            continue
        bare = along[rows & (np.abs(out) < ON_BOARD)]
        left = ((bare < first) & (bare > first - CASING_WIDTH)).any()
        right = ((bare > last) & (bare < last + CASING_WIDTH)).any()
        if left and not right:
            edge = first - half + CASING_WIDTH
            return Opening(wall, edge, edge + PASSABLE, True, False, None, None)
        if right and not left:
            edge = last + half - CASING_WIDTH
            return Opening(wall, edge - PASSABLE, edge, False, True, None, None)
    return None


def doors_of_jambs(jambs: list[Jamb]) -> list[DoorFacts]:
    """The doorways of which the sides are seen, as from inside them."""
    doors = []
    for jamb in jambs:
        walls = (jamb.low + CASING_DEPTH, jamb.high - CASING_DEPTH)
        if walls[1] - walls[0] < THIN:
            continue
        edge = jamb.at - LINING * jamb.faces
        edges = (edge, None) if jamb.faces > 0 else (None, edge)
        other = edge + jamb.faces * PASSABLE
        seen = (min(edge, other), max(edge, other))
        doors.append(DoorFacts(jamb.axis, walls, edges, seen))
    return doors


def limits(shell: Shell, axis: int) -> tuple[float, float]:
    """Where the walls across an axis are; infinity where unseen."""
    low, high = shell.walls[:2] if axis == 0 else shell.walls[2:]
    return -np.inf if low is None else low, np.inf if high is None else high


def _wall_between(evidence: Evidence, wall: int, at: float, along: tuple[float, float]) -> Array:
    """Places along the wall at which it or its casing is seen, at a doorway's height."""
    side = evidence.point[:, 2 - axis_of(wall)]
    out = inward(wall) * (evidence.point[:, axis_of(wall)] - at)
    rows = (np.abs(out) < 2 * CASING_DEPTH) & (side > along[0]) & (side < along[1])
    rows &= (evidence.point[:, 1] > -UNDER_LINTEL) & (evidence.point[:, 1] < -SKIRTING)
    return side[rows]


def _lintel(evidence: Evidence, at: float, axis: int, along: tuple[float, float]) -> float | None:
    """y of the doorway's upper edge, if its underside is seen."""
    y = evidence.point[:, 1]
    rows = (evidence.normal[:, 1] > 0.99) & (evidence.area > 0)
    rows &= (y > LINTELS[0]) & (y < LINTELS[1])
    rows &= np.abs(evidence.point[:, axis] - at) < 0.4
    side = evidence.point[:, 2 - axis]
    rows &= (side > along[0] - CASING_WIDTH) & (side < along[1] + CASING_WIDTH)
    groups = planes(y[rows], evidence.area[rows])
    return max(groups, key=lambda plane: plane.area).at - LINING if groups else None
