"""Perception: the facts that views show, from their images, depth and cameras alone.

In: views with depth. Out: `Facts`. A place in each room is needed to look for its walls from there:
the cameras' own places, and places behind the doorways that are found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Views
from vmemkit.generation.writer.doors import Opening, doors_of_jambs, find_openings
from vmemkit.generation.writer.evidence import (
    EYE_HEIGHT,
    Array,
    Evidence,
    axis_of,
    find_frame,
    frame,
    gather,
    in_frame,
    inward,
)
from vmemkit.generation.writer.facts import (
    DoorFacts,
    Facts,
    RoomFacts,
    Walls,
    holds,
    join,
)
from vmemkit.generation.writer.lamps import find_lamps, with_lamp
from vmemkit.generation.writer.looks import Look, find_look
from vmemkit.generation.writer.things import find_things
from vmemkit.generation.writer.walls import Shell, find_jambs, find_shell
from vmemkit.scenes.house import RUG_HEIGHT

BEHIND = 0.9  # metres behind a doorway, where the next room is looked for
THICKNESS = 0.2  # metres of a wall whose far side is unseen
NEAR_DOOR = 4.5  # metres from a place to the doorways of its room
MOST_ROOMS = 3  # that are looked for
RUG_SAMPLES = 6  # on the rug that its size needs


def perceive_views(views: Views) -> Facts:
    """What the views (t,) show of the rooms that they are in and of those behind doorways.

    Errors: ValueError for no views, and for views without depth.
    """
    if len(views) == 0 or views.depth is None:
        raise ValueError(f"facts need views with depth, got {views}")
    frame_from_world = find_frame(views)
    places = in_frame(views.cameras, frame_from_world).position.double().numpy()
    found = perceive(gather(views, frame_from_world), places)
    turn, floor = frame_numbers(frame_from_world)
    return Facts(found.rooms, found.doors, turn, floor)


def frame_numbers(frame_from_world: Float[Tensor, "4 4"]) -> tuple[float, float]:
    """Turn and floor of a frame, as `Facts` has them."""
    sin, cos = float(-frame_from_world[0, 2]), float(frame_from_world[0, 0])
    return math.atan2(sin, cos), -float(frame_from_world[1, 3])


def frame_of(facts: Facts) -> Float[Tensor, "4 4"]:
    """frame_from_world of the facts."""
    return frame(facts.turn, facts.floor)


def perceive(evidence: Evidence, places: Array) -> Facts:
    """The rooms around the places [n 3], their doorways, and the rooms behind these.

    They have no look if none of them looks like a room of our houses.
    """
    rooms: list[RoomFacts] = []
    looks: list[Look] = []
    jambs, lamps = find_jambs(evidence), find_lamps(evidence)
    doors = list(join([Facts(doors=(door,)) for door in doors_of_jambs(jambs)]).doors)
    queue = [side for place in places for side in _beside_door(tuple(place.tolist()), doors)]
    # Lamps come last: from that of the next room, walls of two rooms may look like one room.
    queue += [(x, -EYE_HEIGHT, z) for x, _, z in lamps]
    while queue and len(rooms) < MOST_ROOMS:
        place = queue.pop(0)
        if any(holds(room, place, doors) for room in rooms):
            continue
        shell = find_shell(evidence, jambs, np.array(place), _walls_at_doors(doors, place))
        shell = with_lamp(shell, lamps)
        openings = find_openings(evidence, jambs, shell)
        looks.append(find_look(evidence, shell))
        inside = _inside(shell.walls, place)
        rooms.append(_room(evidence, shell, openings, looks[-1], inside))
        for opening in openings:
            door = _door(shell, opening)
            doors = list(join([Facts(doors=tuple(doors)), Facts(doors=(door,))]).doors)
            queue.append(_behind(shell, opening, place[1]))
    if not any(look.of_our_houses for look in looks):
        rooms = [replace(r, palette=None, wall_finish=None, floor_finish=None) for r in rooms]
    return join([Facts(rooms=(room,), doors=tuple(doors)) for room in rooms])


def _inside(walls: Walls, place: tuple) -> tuple:
    """The place, moved to the middle between walls that it is not between: it looks into the room."""
    moved = list(place)
    for axis in (0, 2):
        low, high = walls[axis], walls[axis + 1]
        if low is not None and high is not None and not low < place[axis] < high:
            moved[axis] = (low + high) / 2
    return tuple(moved)


def _beside_door(place: tuple, doors: Sequence[DoorFacts]) -> list[tuple]:
    """The place, or the places on both sides of the doorway that it is in."""
    for door in doors:
        low, high = door.walls
        near = min(door.seen) - 0.9 < place[2 - door.axis] < max(door.seen) + 0.9
        if low is not None and high is not None and low <= place[door.axis] <= high and near:
            sides = []
            for at in (low - BEHIND, high + BEHIND):
                side = [0.0, place[1], 0.0]
                side[door.axis], side[2 - door.axis] = at, sum(door.seen) / 2
                sides.append(tuple(side))
            return sides
    return [place]


def _walls_at_doors(doors: Sequence[DoorFacts], place: tuple) -> dict[int, float]:
    """The walls that the doorways near a place tell."""
    walls: dict[int, float] = {}
    for door in doors:
        low, high = door.walls
        if abs(place[2 - door.axis] - sum(door.seen) / 2) > NEAR_DOOR:
            continue
        middle = np.mean([at for at in door.walls if at is not None])
        on_low_side = place[door.axis] < middle
        at = low if on_low_side else high
        if at is None:
            at = high - THICKNESS if on_low_side else low + THICKNESS
        if abs(place[door.axis] - at) < NEAR_DOOR:
            walls[door.axis + 1 if on_low_side else door.axis] = at
    return walls


def _room(
    evidence: Evidence, shell: Shell, openings: Sequence[Opening], look: Look, place: tuple
) -> RoomFacts:
    things = find_things(evidence, shell, openings, look.palette)
    return RoomFacts(
        inside=place,
        walls=shell.walls,
        ceiling=shell.ceiling,
        palette=look.palette,
        wall_finish=look.wall_finish,
        floor_finish=look.floor_finish,
        rug=_rug(evidence, shell),
        things=tuple(things),
    )


def _door(shell: Shell, opening: Opening) -> DoorFacts:
    at, sign = shell.walls[opening.wall], inward(opening.wall)
    return DoorFacts(
        axis=axis_of(opening.wall),
        walls=(opening.far, at) if sign > 0 else (at, opening.far),
        edges=(
            opening.low if opening.low_seen else None,
            opening.high if opening.high_seen else None,
        ),
        seen=(opening.low, opening.high),
        top=opening.top,
    )


def _behind(shell: Shell, opening: Opening, height: float) -> tuple[float, float, float]:
    at, sign = shell.walls[opening.wall], inward(opening.wall)
    assert at is not None
    far = at - sign * THICKNESS if opening.far is None else opening.far
    through, along = far - sign * BEHIND, (opening.low + opening.high) / 2
    x, z = (through, along) if axis_of(opening.wall) == 0 else (along, through)
    return x, height, z


def _rug(evidence: Evidence, shell: Shell) -> tuple[float, float] | None:
    """The sides of the rug, which lies in the room's middle, if the middle is known."""
    x0, x1, z0, z1 = shell.walls
    if x0 is None or x1 is None or z0 is None or z1 is None:
        return None
    middle = np.array([(x0 + x1) / 2, (z0 + z1) / 2])
    aside = np.abs(evidence.point[:, ::2] - middle)
    rows = (np.abs(evidence.point[:, 1] + RUG_HEIGHT) < 0.004) & (evidence.normal[:, 1] < -0.99)
    rows &= (aside < 1.3).all(1)
    if rows.sum() < RUG_SAMPLES:
        return None
    x, z = (2 * aside[rows].max(0)).tolist()
    return x, z
