"""Contents: which facts of a plan a rendered view shows."""

from __future__ import annotations

import numpy as np

from vmemkit.core import Views, unproject
from vmemkit.generation.writer.evidence import axis_of, within
from vmemkit.generation.writer.facts import DoorFacts, Facts, RoomFacts
from vmemkit.scenes.house import (
    CASING_DEPTH,
    CASING_WIDTH,
    OVERLAP,
    Box,
    Doorway,
    Plan,
    Room,
    bounds,
    middle,
)

LEAST = 3  # pixels that make a fact
ON_WALL = 0.01  # metres


def facts_in_view(plan: Plan, view: Views, known: Facts, age: int) -> Facts:
    """The facts that a view (1,) rendered from the plan shows, in the frame of `known`."""
    points = unproject(view.cameras, view.depth).reshape(-1, 3).double().numpy()
    rooms = [_room(room, points) for room in plan.rooms]
    doors = [_door(doorway, points) for doorway in plan.doorways]
    return Facts(
        rooms=tuple(room for room in rooms if room is not None),
        doors=tuple(door for door in doors if door is not None),
        turn=known.turn,
        floor=known.floor,
        age=age,
    )


def _room(room: Room, points: np.ndarray) -> RoomFacts | None:
    """What the points show of a room; None if they show nothing of it."""
    here = points[_within(room.box, points, ON_WALL)]
    if len(here) < LEAST:
        return None
    things = tuple(
        thing
        for thing in room.things
        if _within(bounds(room.box, thing), _off_wall(room, thing.wall, here), ON_WALL).sum()
        >= LEAST
    )
    walls = []
    for wall in range(4):
        at, axis = room.box[wall % 2][axis_of(wall)], axis_of(wall)
        seen = (np.abs(here[:, axis] - at) < ON_WALL).sum() >= LEAST
        walls.append(at if seen or any(thing.wall == wall for thing in things) else None)
    top, (x, _, z), (a, b) = room.box[0][1], middle(room.box), room.rug
    ceiling = (np.abs(here[:, 1] - top) < ON_WALL).sum() >= LEAST
    floor = (np.abs(here[:, 1]) < ON_WALL).sum() >= LEAST
    rug = (np.abs(here[:, 0] - x) < a / 2) & (np.abs(here[:, 2] - z) < b / 2) & (here[:, 1] > -0.02)
    return RoomFacts(
        inside=(x, -1.5, z),
        walls=(walls[0], walls[1], walls[2], walls[3]),
        ceiling=top if ceiling else None,
        palette=room.palette,
        wall_finish=room.wall_finish,
        floor_finish=room.floor_finish if floor else None,
        rug=room.rug if rug.sum() >= LEAST or max(room.rug) == 0 else None,  # 0: there is none
        tones=room.tones,
        things=things,
    )


def _off_wall(room: Room, wall: int, points: np.ndarray) -> np.ndarray:
    """The points that are neither on that wall nor on the floor."""
    axis = axis_of(wall)
    off = np.abs(points[:, axis] - room.box[wall % 2][axis]) > 0.012
    return points[off & (points[:, 1] < -0.03)]


def _door(doorway: Doorway, points: np.ndarray) -> DoorFacts | None:
    """The doorway, if its space or its casing is seen."""
    axis, (low, high) = doorway.axis, doorway.box
    along = 2 - axis
    grown_low, grown_high = list(low), list(high)
    grown_low[axis] -= CASING_DEPTH
    grown_high[axis] += CASING_DEPTH
    for corner, sign in ((grown_low, -1), (grown_high, 1)):
        corner[along] += sign * CASING_WIDTH
    grown_low[1] -= CASING_WIDTH
    (x0, y0, z0), (x1, y1, z1) = grown_low, grown_high
    box = ((x0, y0, z0), (x1, y1, z1))
    if _within(box, points, ON_WALL).sum() < LEAST:
        return None
    edges = (low[along], high[along])
    walls = (low[axis] + OVERLAP, high[axis] - OVERLAP)
    return DoorFacts(axis, walls, edges, edges, low[1], doorway.tones)


def _within(box: Box, points: np.ndarray, gap: float) -> np.ndarray:
    return within(points, np.array(box[0]) - gap, np.array(box[1]) + gap)
