"""Completion: draw what no view has shown, from the grammar of houses.

In: facts, the places that must be free, the rays of the context, a random generator. Out: a `Plan`
that agrees with the facts. Space that a view has looked through stays empty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from vmemkit.generation.writer.evidence import Array, Evidence, axis_of, inward, runs_through
from vmemkit.generation.writer.facts import (
    LONGEST,
    DoorFacts,
    Facts,
    RoomFacts,
    Walls,
    holds,
    may_be_inside,
    separates,
    thing_space,
)
from vmemkit.generation.writer.photographs import is_grey, to_grey_palette
from vmemkit.scenes.house import (
    CASING_WIDTH,
    CEILING,
    DOOR_HEIGHT,
    DOOR_SLANT,
    DOOR_WIDTH,
    FLOORS,
    OVERLAP,
    PALETTES,
    PICTURES,
    ROOM_SIDE,
    RUG_SIDE,
    SKIRTING,
    SUITES,
    THINGS,
    TONES,
    VIEWER_RADIUS,
    WALL_THICKNESS,
    WALLS,
    Box,
    Doorway,
    Placed,
    Plan,
    Point,
    Room,
    bare_walls,
    bounds,
    door_walls,
    furnish,
    overlap,
    uniform,
)

# Lengths are in metres.
STAND = 0.6  # half width of the space around a camera that stays free of furniture
ROOM_AROUND = 1.2  # from a camera to an unseen wall, at least
TO_DOOR = VIEWER_RADIUS + 0.05  # likewise, to a wall that may have a doorway
BESIDE_DOOR = 0.2  # from a doorway to the corner of a room, at least
SHORT = 0.02  # rays end so far in front of the surface that they show
RAYS, FEW = 1500, 1  # rays that are tested; so many may touch a thing that is drawn
FILLERS = ("picture", "bookshelf", "sideboard")  # things that are put at a long bare wall
TRIES, DRAWN = 40, 8  # places that are tried for a doorway, and possible ones that are compared


def complete(facts: Facts, places: Array, evidence: Evidence, rng: torch.Generator) -> Plan:
    """A plan of the house around the places [n 3], where cameras are.

    1. Complete the doorways, with those in which cameras stand, and put a room on either side of each.
    2. Complete the boxes of the rooms; add a doorway where a house has none.
    3. Complete the looks.
    4. Furnish.
    """
    points: list[Point] = [(x, y, z) for x, y, z in places.tolist()]
    rooms, known = list(facts.rooms), list(facts.doors)
    for place in points:
        if not any(_in_doorway(door, place) for door in known):
            known += _door_around(place, rooms, known, evidence)
    known = [_walked_through(door, points) for door in known]
    for place in points:
        in_door = any(_in_doorway(door, place) for door in known)
        if not in_door and not any(holds(room, place, known) for room in rooms):
            rooms.append(RoomFacts(inside=place))
    doors = [_complete_door(door, rng) for door in known]
    for door in doors:
        rooms = _with_rooms_beside(rooms, door)
    boxes: list[Box] = []
    for room in rooms:
        boxes.append(_box(room, doors, points, evidence, boxes, rng))
    if not doors:
        door, beyond = _new_door(rooms, boxes, points, evidence, rng)
        if door is not None and beyond is not None:
            doors.append(door)
            rooms.append(RoomFacts(inside=_centre(beyond)))
            boxes.append(beyond)
    doorways = [_doorway(door) for door in doors]
    planned = _looks(rooms, boxes, rng)
    return Plan(
        rooms=tuple(_furnished(room, doorways, points, evidence, rng) for room in planned),
        doorways=tuple(doorways),
    )


# ---- doorways ------------------------------------------------------------------------------------


def _complete_door(door: DoorFacts, rng: torch.Generator) -> DoorFacts:
    """The doorway with all numbers."""
    (low, high), thickness = door.walls, uniform(rng, *WALL_THICKNESS)
    low = high - thickness if low is None else low
    high = low + thickness if high is None else high
    width = max(uniform(rng, *DOOR_WIDTH), door.seen[1] - door.seen[0])
    first, last = door.edges
    if first is None and last is None:
        slack = width - (door.seen[1] - door.seen[0])
        first = door.seen[0] - slack * uniform(rng, 0.0, 1.0)
    if first is None:
        first = last - width
    if last is None:
        last = first + width
    top = -uniform(rng, *DOOR_HEIGHT) if door.top is None else door.top
    tones = door.tones or _tones(rng, 6)
    return DoorFacts(door.axis, (low, high), (first, last), (first, last), top, tones)


def _doorway(door: DoorFacts) -> Doorway:
    """The doorway of complete facts."""
    (low, high), (first, last) = door.walls, door.edges
    low, high = low - OVERLAP, high + OVERLAP
    return Doorway(_slab(door.axis, (low, high), (first, last), door.top), door.tones)


def _in_doorway(door: DoorFacts, place: Point, before: float = 0.0) -> bool:
    """Whether a place is between the walls of a doorway, or less than `before` metres before them."""
    low, high = door.walls
    low = high - WALL_THICKNESS[1] if low is None else low
    high = low + WALL_THICKNESS[1] if high is None else high
    along = place[2 - door.axis]
    between = low - before <= place[door.axis] <= high + before
    return between and door.seen[0] - 1 < along < door.seen[1] + 1


def _door_around(
    place: Point, rooms: Sequence[RoomFacts], doors: Sequence[DoorFacts], evidence: Evidence
) -> list[DoorFacts]:
    """The doorway in which a camera stands: nowhere else is one so near to a wall, or inside it."""
    for room in rooms:
        for wall, at in enumerate(room.walls):
            if at is None or _door_in_wall(room, wall, doors):
                continue
            axis, along = axis_of(wall), place[2 - axis_of(wall)]
            behind = (at - place[axis]) * inward(wall)
            walls = [*room.walls]
            walls[wall] = None
            if not -VIEWER_RADIUS < behind < WALL_THICKNESS[1] or not may_be_inside(
                (walls[0], walls[1], walls[2], walls[3]), place
            ):
                continue
            part = (along - VIEWER_RADIUS, along + VIEWER_RADIUS)
            if not _wall_is_seen(evidence, axis, at, 2 - axis, part):
                sides = (None, at) if inward(wall) > 0 else (at, None)
                return [DoorFacts(axis, sides, (None, None), (along, along))]
    return []


def _walked_through(door: DoorFacts, places: Sequence[Point]) -> DoorFacts:
    """The doorway, around the cameras that stand in it: people walk through the middle."""
    first, last = door.edges
    inside = [place[2 - door.axis] for place in places if _in_doorway(door, place, VIEWER_RADIUS)]
    if not inside or (first is not None and last is not None):
        return door
    known, middle = first if last is None else last, sum(inside) / len(inside)
    if known is None:
        half = DOOR_WIDTH[0] / 2
        seen = (min(door.seen[0], middle - half), max(door.seen[1], middle + half))
        return replace(door, seen=seen)
    width = min(max(2 * abs(middle - known), DOOR_WIDTH[0]), DOOR_WIDTH[1])
    if last is None:
        high = max(known + width, door.seen[1])
        return replace(door, edges=(known, high), seen=(door.seen[0], high))
    low = min(known - width, door.seen[0])
    return replace(door, edges=(low, known), seen=(low, door.seen[1]))


def _door_in_wall(room: RoomFacts, wall: int, doors: Sequence[DoorFacts]) -> bool:
    return any(_wall_of_door(room, door) == wall for door in doors)


def _with_rooms_beside(rooms: list[RoomFacts], door: DoorFacts) -> list[RoomFacts]:
    """The rooms, with one on each side of the doorway, whose walls are where the doorway ends."""
    along = sum(door.seen) / 2
    for sign, at in ((-1, door.walls[0]), (1, door.walls[1])):
        wall = (1 if sign < 0 else 0) + door.axis
        place = [0.0, -1.5, 0.0]
        place[door.axis], place[2 - door.axis] = at + sign * 0.4, along
        beside = (place[0], place[1], place[2])
        index = next(
            (
                i
                for i, room in enumerate(rooms)
                if may_be_inside(room.walls, beside, 0.3)
                and (room.inside[door.axis] - at) * sign > -0.05
                and not separates(door, room.inside, beside)
                and abs(room.inside[door.axis] - at) < 6.0
            ),
            None,
        )
        if index is None:
            rooms = [*rooms, RoomFacts(inside=beside)]
            index = len(rooms) - 1
        walls = list(rooms[index].walls)
        if walls[wall] is None:
            walls[wall] = at
        rooms[index] = replace(rooms[index], walls=(walls[0], walls[1], walls[2], walls[3]))
    return rooms


def _new_door(
    rooms: Sequence[RoomFacts],
    boxes: Sequence[Box],
    places: Sequence[Point],
    evidence: Evidence,
    rng: torch.Generator,
) -> tuple[DoorFacts | None, Box | None]:
    """A doorway in an unseen part of a wall, and the box of the room behind it.

    Some that are possible are drawn; the one nearest to a camera is taken, for people walk to doorways.
    """
    drawn = [_possible_door(rooms[0], boxes, places, evidence, rng) for _ in range(TRIES)]
    possible = [choice for choice in drawn if choice is not None][:DRAWN]
    if not possible:
        return None, None
    _, door, beyond = min(possible, key=lambda choice: choice[0])
    return _complete_door(door, rng), beyond


def _possible_door(
    room: RoomFacts,
    boxes: Sequence[Box],
    places: Sequence[Point],
    evidence: Evidence,
    rng: torch.Generator,
) -> tuple[float, DoorFacts, Box] | None:
    """A doorway of the first room, how far cameras are from it, and the box of the room behind it."""
    box = boxes[0]
    wall = _row_axis([room], []) + int(torch.randint(2, (), generator=rng))
    axis, along = axis_of(wall), 2 - axis_of(wall)
    width, thickness = uniform(rng, *DOOR_WIDTH), uniform(rng, *WALL_THICKNESS)
    aside = min(
        (box[1][along] - box[0][along]) / 2 - width / 2 - 2 * CASING_WIDTH,
        DOOR_SLANT * (box[1][axis] - box[0][axis]) / 2,
    )
    middle = (box[0][along] + box[1][along]) / 2 + uniform(rng, -aside, aside)
    at, sign = box[wall % 2][axis], 1 if wall % 2 else -1
    first, last = middle - width / 2, middle + width / 2
    if _wall_is_seen(evidence, axis, at, along, (first - 0.1, last + 0.1)):
        return None
    front = _slab(axis, sorted((at - sign * 1.0, at)), (first - 0.1, last + 0.1), box[0][1])
    if any(overlap(front, thing_space(room.walls, thing, 0.1)) for thing in room.things):
        return None
    side, depth = uniform(rng, *ROOM_SIDE), uniform(rng, *ROOM_SIDE)
    near = at + sign * thickness
    start = middle - side * uniform(rng, 0.35, 0.65)
    top = -uniform(rng, *CEILING)
    beyond = _slab(axis, sorted((near, near + sign * depth)), (start, start + side), top)
    if any(overlap(beyond, other) for other in boxes):
        return None
    walls = (at, near) if sign > 0 else (near, at)
    far = min(math.hypot(place[axis] - at, place[along] - middle) for place in places)
    return far, DoorFacts(axis, walls, (first, last), (first, last)), beyond


def _row_axis(rooms: Sequence[RoomFacts], doors: Sequence[DoorFacts]) -> int:
    """The axis along which rooms stand in a row: that of a doorway, or along a wall with a window."""
    if doors:
        return doors[0].axis
    windows = [thing.wall for room in rooms for thing in room.things if thing.kind == "window"]
    return 2 - axis_of(windows[0]) if windows else 0


def _slab(axis: int, across: Sequence[float], along: tuple[float, float], top: float) -> Box:
    """A box from the floor to `top` with these ends on its horizontal axes."""
    (a, b), (c, d) = across, along
    return ((a, top, c), (b, 0.0, d)) if axis == 0 else ((c, top, a), (d, 0.0, b))


def is_blocked(facts: Facts, start: Point, end: Point, evidence: Evidence) -> bool:
    """Whether the straight way from one place to another runs through a wall that is seen there."""
    for room in facts.rooms:
        for wall, at in enumerate(room.walls):
            axis, along = axis_of(wall), 2 - axis_of(wall)
            if at is None or not may_be_inside(room.walls, start):
                continue
            before, after = ((place[axis] - at) * inward(wall) for place in (start, end))
            if before <= 0 or after > 0:
                continue
            crossing = start[along] + before / (before - after) * (end[along] - start[along])
            part = (crossing - VIEWER_RADIUS, crossing + VIEWER_RADIUS)
            if _wall_is_seen(evidence, axis, at, along, part):
                return True
    return False


def _wall_is_seen(
    evidence: Evidence, axis: int, at: float, along: int, part: tuple[float, float]
) -> bool:
    point = evidence.point
    rows = (np.abs(point[:, axis] - at) < 0.05) & (point[:, 1] > -2.0) & (point[:, 1] < -SKIRTING)
    rows &= (point[:, along] > part[0]) & (point[:, along] < part[1])
    return int(rows.sum()) > 3


# ---- rooms ---------------------------------------------------------------------------------------


def _box(
    room: RoomFacts,
    doors: Sequence[DoorFacts],
    places: Sequence[Point],
    evidence: Evidence,
    others: Sequence[Box],
    rng: torch.Generator,
) -> Box:
    """The box of a room: its known walls, and others so far out that all fits in."""
    low, high = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    low[1] = -uniform(rng, *CEILING) if room.ceiling is None else room.ceiling
    for axis in (0, 2):
        first, last = room.walls[axis], room.walls[axis + 1]
        needs = _needs(room, doors, places, evidence, axis)
        least = needs[1] - needs[0]
        side = uniform(rng, max(ROOM_SIDE[0], least), max(ROOM_SIDE[1], least))
        share = uniform(rng, 0.0, 1.0)
        if first is None and last is None:
            first = needs[0] - share * (side - (needs[1] - needs[0]))
        if first is None:
            first = min(last - side, needs[0])
        if last is None:
            last = max(first + side, needs[1])
        low[axis], high[axis] = first, last
    box = ((low[0], low[1], low[2]), (high[0], 0.0, high[2]))
    for other in others:
        box = _beside(box, other, room.walls)
    return box


def _needs(
    room: RoomFacts,
    doors: Sequence[DoorFacts],
    places: Sequence[Point],
    evidence: Evidence,
    axis: int,
) -> tuple[float, float]:
    """The least and greatest place on an axis that must be inside the room."""
    inside = room.inside[axis]
    around = TO_DOOR if axis == _row_axis([room], doors) else ROOM_AROUND
    low, high = inside - around, inside + around
    for place in places:
        if holds(room, place, doors):
            low, high = min(low, place[axis] - around), max(high, place[axis] + around)
    for door in doors:
        wall = _wall_of_door(room, door)
        if wall is not None and axis_of(wall) != axis:
            low = min(low, door.seen[0] - BESIDE_DOOR)
            high = max(high, door.seen[1] + BESIDE_DOOR)
    for thing in room.things:
        if axis_of(thing.wall) != axis and room.walls[thing.wall] is not None:
            low = min(low, thing.along - thing.size[0] / 2 - 0.03)
            high = max(high, thing.along + thing.size[0] / 2 + 0.03)
    middle = (
        low + high
    ) / 2  # what is seen may be of the next room, but the cameras are in this one
    seen = _seen_inside(room, evidence)[:, axis]
    if len(seen) > 8:
        low, high = min(low, float(seen.min())), max(high, float(seen.max()))
    known = room.walls[axis], room.walls[axis + 1]
    low = max(low, (known[1] if known[1] is not None else middle + LONGEST / 2) - LONGEST)
    high = min(high, (known[0] if known[0] is not None else middle - LONGEST / 2) + LONGEST)
    return min(low, inside - 0.1), max(high, inside + 0.1)


def _wall_of_door(room: RoomFacts, door: DoorFacts) -> int | None:
    """The wall of the room that a doorway is in."""
    for wall, at in ((door.axis + 1, door.walls[0]), (door.axis, door.walls[1])):
        known = room.walls[wall]
        if known is not None and at is not None and abs(known - at) < 0.1:
            return wall
    return None


def _seen_inside(room: RoomFacts, evidence: Evidence) -> Array:
    """Samples that an eye in the room sees on this side of its known walls."""
    x0, x1, z0, z1 = (
        sign * np.inf if wall is None else wall
        for wall, sign in zip(room.walls, (-1, 1, -1, 1), strict=True)
    )

    def within(points: Array) -> Array:
        x, z = points[:, 0], points[:, 2]
        return (x > x0 - 0.02) & (x < x1 + 0.02) & (z > z0 - 0.02) & (z < z1 + 0.02)

    return evidence.point[within(evidence.point) & within(evidence.eye)]


def _beside(box: Box, other: Box, walls: Walls) -> Box:
    """The box, cut where it would overlap another room, at walls that are not known."""
    if not overlap(box, other):
        return box
    (x0, top, z0), (x1, _, z1) = box
    gap = WALL_THICKNESS[0]
    cuts = (
        (other[1][0] + gap - x0, walls[0], ((other[1][0] + gap, top, z0), (x1, 0.0, z1))),
        (x1 - other[0][0] + gap, walls[1], ((x0, top, z0), (other[0][0] - gap, 0.0, z1))),
        (other[1][2] + gap - z0, walls[2], ((x0, top, other[1][2] + gap), (x1, 0.0, z1))),
        (z1 - other[0][2] + gap, walls[3], ((x0, top, z0), (x1, 0.0, other[0][2] - gap))),
    )
    possible = [
        (loss, cut)
        for loss, wall, cut in cuts
        if wall is None and all(cut[1][i] - cut[0][i] > 1.0 for i in (0, 2))
    ]
    return min(possible)[1] if possible else box


def _centre(box: Box) -> Point:
    return (box[0][0] + box[1][0]) / 2, -1.5, (box[0][2] + box[1][2]) / 2


def _looks(rooms: Sequence[RoomFacts], boxes: Sequence[Box], rng: torch.Generator) -> list[Room]:
    """The rooms with palettes and finishes; unseen ones are unlike those of the others, but grey
    beside a grey room, as in a grey photograph."""
    palettes = [room.palette for room in rooms if room.palette is not None]
    walls = [room.wall_finish for room in rooms if room.wall_finish is not None]
    floors = [room.floor_finish for room in rooms if room.floor_finish is not None]
    grey = any(is_grey(palette) for palette in palettes)
    planned = []
    for room, box in zip(rooms, boxes, strict=True):
        palette = room.palette or _another(PALETTES, palettes, rng)
        palette = to_grey_palette(palette) if grey else palette
        wall = room.wall_finish or _another(tuple(WALLS), walls, rng)
        floor = room.floor_finish or _another(tuple(FLOORS), floors, rng)
        palettes.append(palette)
        walls.append(wall)
        floors.append(floor)
        a, b = room.rug or (uniform(rng, *RUG_SIDE), uniform(rng, *RUG_SIDE))
        (x0, _, z0), (x1, _, z1) = box
        rug = (min(a, x1 - x0 - 0.4), min(b, z1 - z0 - 0.4))
        things = tuple(
            thing if thing.tones else replace(thing, tones=_thing_tones(thing.kind, rng))
            for thing in room.things
        )
        planned.append(Room(box, palette, wall, floor, rug, things, room.tones or _tones(rng, 6)))
    return planned


def _another(options: Sequence, used: Sequence, rng: torch.Generator):
    free = [option for option in options if option not in used] or list(options)
    return free[int(torch.randint(len(free), (), generator=rng))]


def _tones(rng: torch.Generator, count: int) -> tuple[int, ...]:
    return tuple(torch.randint(TONES, (count,), generator=rng).tolist())


def _thing_tones(kind: str, rng: torch.Generator) -> tuple[int, ...]:
    return _tones(rng, len(THINGS[kind].parts))


# ---- furniture -----------------------------------------------------------------------------------


def _furnished(
    room: Room,
    doorways: Sequence[Doorway],
    places: Sequence[Point],
    evidence: Evidence,
    rng: torch.Generator,
) -> Room:
    """The room with furniture where nothing was seen."""
    stands = [((x - STAND, -3.0, z - STAND), (x + STAND, 0.0, z + STAND)) for x, _, z in places]
    room = replace(room, things=_possible(room, doorways, places))
    eye, way = _rays(evidence)

    def may_stand(kind: str, box: Box) -> bool:
        if THINGS[kind].raised == 0 and any(overlap(box, stand) for stand in stands):
            return False
        return _rays_through(eye, way, box) <= FEW

    def at_wall(wall: int) -> Callable[[str, Box], bool]:
        return lambda kind, box: _at(room.box, wall, box) and may_stand(kind, box)

    boxes = [doorway.box for doorway in doorways]
    with_door = door_walls(room, doorways)
    window_walls = [wall for wall in range(4) if wall not in with_door] or [2, 3]
    wanted = _wanted(room, rng)
    filled = furnish(rng, room, boxes, wanted, may_stand, window_walls)
    for wall in bare_walls(filled, doorways):
        filled = furnish(rng, filled, boxes, FILLERS, at_wall(wall))
    new = filled.things[len(room.things) :]
    toned = tuple(replace(thing, tones=_thing_tones(thing.kind, rng)) for thing in new)
    return replace(filled, things=room.things + toned)


def _possible(
    room: Room, doorways: Sequence[Doorway], places: Sequence[Point]
) -> tuple[Placed, ...]:
    """The known things that fit into the room, clear of each other, of doorways and of cameras."""
    kept: list[Placed] = []
    taken = [doorway.box for doorway in doorways]
    for thing in room.things:
        box = bounds(room.box, thing)
        grown = bounds(room.box, thing, 0.03)
        camera_inside = any(
            all(grown[0][i] < place[i] < grown[1][i] for i in range(3)) for place in places
        )
        in_room = all(
            box[0][i] > room.box[0][i] - 0.2 and box[1][i] < room.box[1][i] + 0.2 for i in (0, 2)
        )
        if camera_inside or not in_room or any(overlap(box, other) for other in taken):
            continue
        kept.append(thing)
        taken.append(box)
    return tuple(kept)


def _wanted(room: Room, rng: torch.Generator) -> list[str]:
    """What is missing in the room, by a suite of furniture that what stands there may belong to."""
    have = Counter(thing.kind for thing in room.things)
    standing = [kind for kind in have if THINGS[kind].raised == 0]
    suites = [suite for suite in SUITES if all(kind in suite for kind in standing)] or list(SUITES)
    suite = suites[int(torch.randint(len(suites), (), generator=rng))]
    wanted = Counter(["window", *suite, *("picture",) * PICTURES])
    missing = wanted - have
    return [
        kind for kind in ("window", *dict.fromkeys(suite), "picture") for _ in range(missing[kind])
    ]


def _at(room: Box, wall: int, box: Box) -> bool:
    """Whether a thing's box stands at that wall."""
    axis = axis_of(wall)
    return abs(box[wall % 2][axis] - room[wall % 2][axis]) < 1e-6


def _rays(evidence: Evidence) -> tuple[Array, Array]:
    """Eyes and ways of rays, which end a little in front of the surfaces."""
    evidence = evidence.thinned(RAYS)
    eye, way = evidence.eye, evidence.point - evidence.eye
    length = np.linalg.norm(way, axis=1, keepdims=True)
    way = way * (1 - SHORT / length.clip(min=SHORT))
    return eye, np.where(np.abs(way) < 1e-6, 1e-6, way)


def _rays_through(eye: Array, way: Array, box: Box) -> int:
    low, high = np.array(box[0]) + 0.01, np.array(box[1]) - 0.01
    return int(runs_through(eye, way, low, high).sum())
