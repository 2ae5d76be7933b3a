"""Facts: what views show of a house, as a plan with holes; and the codes that carry it.

In: facts of several views. Out: what they say together. A field that no view shows is None. A
generated view carries its facts as a code (`Views.embedding`), so memory stores, forks and undoes
them, and retrieval decides which views speak. There is no plan of the whole house anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.scenes.house import (
    FLOORS,
    ROOM_SIDE,
    THINGS,
    WALLS,
    Box,
    Palette,
    Placed,
    Point,
    bounds,
    overlap,
    part_boxes,
)

Walls = tuple[float | None, float | None, float | None, float | None]

SAME_WALL = 0.25  # metres within which two walls are one
SAME_DOOR = 0.45  # likewise for the walls of a doorway, whose thickness may be unseen
THIN, NARROW = 0.08, 0.6  # metres: a wall is thicker, and a doorway wider
FAR = 6.5  # metres: places farther apart are not in one room
LONGEST = ROOM_SIDE[1] + 0.2  # metres that a side of a room may have


@dataclass(frozen=True)
class RoomFacts:
    """What is known of one room. Metres, in the frame of the walls."""

    inside: Point  # a place in the room
    walls: Walls = (None, None, None, None)  # at -x, +x, -z, +z
    ceiling: float | None = None  # y
    palette: Palette | None = None
    wall_finish: str | None = None
    floor_finish: str | None = None
    rug: tuple[float, float] | None = None
    tones: tuple[int, ...] | None = None
    things: tuple[Placed, ...] = ()


@dataclass(frozen=True)
class DoorFacts:
    """What is known of a doorway between two rooms."""

    axis: int  # the axis on which one walks through it, 0 or 2
    walls: tuple[float | None, float | None]  # the walls of the rooms on its low and high sides
    edges: tuple[float | None, float | None]  # its ends along the wall
    seen: tuple[float, float]  # the part along the wall that was looked through
    top: float | None = None  # y of its upper edge
    tones: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """What views show of a house."""

    rooms: tuple[RoomFacts, ...] = ()
    doors: tuple[DoorFacts, ...] = ()
    turn: float = 0.0  # radians from the world's z axis to the frame's, about y
    floor: float = 0.0  # world y of the floor
    age: int = 0  # 0 for given views; a generated view is older by one than what it was made from


def join(parts: Sequence[Facts]) -> Facts:
    """What all the facts say together; where they contradict each other, the earlier ones win."""
    rooms: list[RoomFacts] = []
    doors: list[DoorFacts] = []
    for door in (door for facts in parts for door in facts.doors):
        same = next((i for i, other in enumerate(doors) if _same_door(door, other)), None)
        if same is None:
            doors.append(door)
        else:
            doors[same] = _merged_doors(doors[same], door)
    for room in (room for facts in parts for room in facts.rooms):
        same = next((i for i, other in enumerate(rooms) if _same_room(room, other, doors)), None)
        if same is None:
            rooms.append(room)
        else:
            rooms[same] = _merged_rooms(rooms[same], room)
    first = parts[0] if parts else Facts()
    age = max((facts.age for facts in parts), default=0)
    return Facts(tuple(rooms), tuple(doors), first.turn, first.floor, age)


def thing_space(walls: Walls, thing: Placed, gap: float = 0.0) -> Box:
    """The space of a thing in a room of which only the thing's own wall must be known."""
    return bounds(_box(walls), thing, gap)


def solid_boxes(walls: Walls, thing: Placed) -> list[Box]:
    """The boxes of a thing's parts but for its balls, which do not fill theirs."""
    parts = THINGS[thing.kind].parts
    boxes = part_boxes(_box(walls), thing)
    return [box for part, box in zip(parts, boxes, strict=True) if not part.ball]


def _box(walls: Walls) -> Box:
    a, b, c, d = (0.0 if wall is None else wall for wall in walls)
    return (a, -3.0, c), (b, 0.0, d)


def may_be_inside(walls: Walls, place: Point, margin: float = 0.0) -> bool:
    """Whether a place is on the inner side of all known walls."""
    (x, _, z), (a, b, c, d) = place, walls
    return (
        (a is None or x > a - margin)
        and (b is None or x < b + margin)
        and (c is None or z > c - margin)
        and (d is None or z < d + margin)
    )


def holds(room: RoomFacts, place: Point, doors: Iterable[DoorFacts]) -> bool:
    """Whether a place may be in the room: no known wall and no doorway is between, and no room would
    have to be longer than rooms are."""
    if not may_be_inside(room.walls, place):
        return False
    for axis in (0, 2):
        low, high = room.walls[axis : axis + 2]
        if (low is None) != (high is None):
            wall = high if low is None else low
            if abs(place[axis] - wall) > max(LONGEST, abs(room.inside[axis] - wall)):
                return False
    return not any(separates(door, room.inside, place) for door in doors)


def _same_room(a: RoomFacts, b: RoomFacts, doors: Iterable[DoorFacts]) -> bool:
    if not (may_be_inside(a.walls, b.inside) and may_be_inside(b.walls, a.inside)):
        return False
    if math.dist(a.inside[::2], b.inside[::2]) > FAR:
        return False
    for p, q in zip(a.walls, b.walls, strict=True):
        if p is not None and q is not None and abs(p - q) > SAME_WALL:
            return False
    return not any(separates(door, a.inside, b.inside) for door in doors)


def separates(door: DoorFacts, a: Point, b: Point) -> bool:
    """Whether the doorway's wall lies between two places that are both near it."""
    walls = [wall for wall in door.walls if wall is not None]
    low, high = sorted((a[door.axis], b[door.axis]))
    if not walls or not (low < max(walls) and high > min(walls)):
        return False
    if low > min(walls) or high < max(walls):
        return False  # both on one side
    along = 2 - door.axis
    return max(abs(place[along] - sum(door.seen) / 2) for place in (a, b)) < FAR / 2


def _merged_rooms(a: RoomFacts, b: RoomFacts) -> RoomFacts:
    w0, w1, w2, w3 = (q if p is None else p for p, q in zip(a.walls, b.walls, strict=True))
    walls = (w0, w1, w2, w3)
    things = list(a.things)
    for thing in b.things:
        meets = [
            i
            for i, x in enumerate(things)
            if overlap(thing_space(walls, x), thing_space(walls, thing))
        ]
        if not meets:
            things.append(thing)
        elif not things[meets[0]].tones and things[meets[0]].kind == thing.kind:
            things[meets[0]] = replace(things[meets[0]], tones=thing.tones)
    return RoomFacts(
        inside=a.inside,
        walls=walls,
        ceiling=b.ceiling if a.ceiling is None else a.ceiling,
        palette=a.palette or b.palette,
        wall_finish=a.wall_finish or b.wall_finish,
        floor_finish=a.floor_finish or b.floor_finish,
        rug=a.rug or b.rug,
        tones=a.tones or b.tones,
        things=tuple(things),
    )


def _same_door(a: DoorFacts, b: DoorFacts) -> bool:
    if a.axis != b.axis or a.seen[0] > b.seen[1] or b.seen[0] > a.seen[1]:
        return False
    places = [[wall for wall in door.walls if wall is not None] for door in (a, b)]
    return min(abs(p - q) for p in places[0] for q in places[1]) < SAME_DOOR


def _merged_doors(a: DoorFacts, b: DoorFacts) -> DoorFacts:
    walls, edges = _either(a.walls, b.walls), _either(a.edges, b.edges)
    return DoorFacts(
        axis=a.axis,
        walls=walls if _wider(walls, THIN) else a.walls,
        edges=edges if _wider(edges, NARROW) else a.edges,
        seen=(min(a.seen[0], b.seen[0]), max(a.seen[1], b.seen[1])),
        top=b.top if a.top is None else a.top,
        tones=a.tones or b.tones,
    )


def _wider(ends: tuple[float | None, float | None], least: float) -> bool:
    """Whether the ends are in order and that far apart, if both are known."""
    return ends[0] is None or ends[1] is None or ends[1] - ends[0] > least


def _either(
    a: tuple[float | None, float | None], b: tuple[float | None, float | None]
) -> tuple[float | None, float | None]:
    return (b[0] if a[0] is None else a[0], b[1] if a[1] is None else a[1])


# ---- codes ---------------------------------------------------------------------------------------

VERSION = 1.0  # first number of a code
MOST_ROOMS, MOST_DOORS, MOST_THINGS, MOST_PARTS = 3, 4, 16, 5
HEAD, THING = 4, 6 + MOST_PARTS  # numbers of the head, and of a thing
ROOM = 3 + 4 + 1 + 12 + 2 + 2 + 6 + MOST_THINGS * THING
DOOR = 1 + 2 + 2 + 2 + 1 + 6
CODE = HEAD + MOST_ROOMS * ROOM + MOST_DOORS * DOOR  # numbers of a code
KINDS, WALL_NAMES, FLOOR_NAMES = list(THINGS), list(WALLS), list(FLOORS)


def encode(facts: Facts) -> Float[Tensor, " c"]:
    """The facts as CODE numbers, NaN where nothing is known."""
    rooms = [_room_code(room) for room in facts.rooms[:MOST_ROOMS]]
    doors = [_door_code(door) for door in facts.doors[:MOST_DOORS]]
    rooms += [[None] * ROOM] * (MOST_ROOMS - len(rooms))
    doors += [[None] * DOOR] * (MOST_DOORS - len(doors))
    head = [VERSION, facts.turn, facts.floor, float(facts.age)]
    numbers = head + [number for part in rooms + doors for number in part]
    return torch.tensor([math.nan if number is None else number for number in numbers])


def no_room_code() -> Float[Tensor, " c"]:
    """The code of a view that continues views in which no room was found."""
    return torch.cat([torch.tensor([VERSION]), torch.full((CODE - 1,), torch.nan)])


def says_no_room(code: Float[Tensor, " c"]) -> bool:
    """Whether it is `no_room_code`."""
    return len(code) == CODE and float(code[0]) == VERSION and bool(code[1:].isnan().all())


def decode(code: Float[Tensor, " c"]) -> Facts | None:
    """The facts of a code; None for a missing one, for the code of another generator, and where no
    room was found."""
    if len(code) != CODE or float(code[0]) != VERSION or says_no_room(code):
        return None
    numbers = [None if math.isnan(number) else number for number in code.tolist()]
    _, turn, floor, age = numbers[:HEAD]
    rooms = [numbers[HEAD + i * ROOM : HEAD + (i + 1) * ROOM] for i in range(MOST_ROOMS)]
    start = HEAD + MOST_ROOMS * ROOM
    doors = [numbers[start + i * DOOR : start + (i + 1) * DOOR] for i in range(MOST_DOORS)]
    return Facts(
        rooms=tuple(_room_of_code(part) for part in rooms if part[0] is not None),
        doors=tuple(_door_of_code(part) for part in doors if part[0] is not None),
        turn=turn,
        floor=floor,
        age=int(age),
    )


def _room_code(room: RoomFacts) -> list[float | None]:
    palette: list[float | None] = [None] * 12
    if room.palette is not None:
        colors = (room.palette.wall, room.palette.second, room.palette.textile, room.palette.wood)
        palette = [value for color in colors for value in color]
    wall = None if room.wall_finish is None else float(WALL_NAMES.index(room.wall_finish))
    floor = None if room.floor_finish is None else float(FLOOR_NAMES.index(room.floor_finish))
    things = [number for thing in room.things[:MOST_THINGS] for number in _thing_code(thing)]
    things += [None] * (MOST_THINGS * THING - len(things))
    rug, tones = room.rug or (None, None), room.tones or (None,) * 6
    return [*room.inside, *room.walls, room.ceiling, *palette, wall, floor, *rug, *tones, *things]


def _thing_code(thing: Placed) -> list[float | None]:
    tones: list[float | None] = [*thing.tones, *[None] * (MOST_PARTS - len(thing.tones))]
    return [float(KINDS.index(thing.kind)), float(thing.wall), thing.along, *thing.size, *tones]


def _door_code(door: DoorFacts) -> list[float | None]:
    tones = door.tones or (None,) * 6
    return [float(door.axis), *door.walls, *door.edges, *door.seen, door.top, *tones]


def _room_of_code(part: list) -> RoomFacts:
    inside, walls, ceiling, palette = part[:3], part[3:7], part[7], part[8:20]
    wall, floor, rug, tones = part[20], part[21], part[22:24], part[24:30]
    things = [part[30 + i * THING : 30 + (i + 1) * THING] for i in range(MOST_THINGS)]
    return RoomFacts(
        inside=tuple(inside),
        walls=tuple(walls),
        ceiling=ceiling,
        palette=None if palette[0] is None else _palette_of_code(palette),
        wall_finish=None if wall is None else WALL_NAMES[int(wall)],
        floor_finish=None if floor is None else FLOOR_NAMES[int(floor)],
        rug=None if rug[0] is None else tuple(rug),
        tones=_whole(tones) or None,
        things=tuple(_thing_of_code(thing) for thing in things if thing[0] is not None),
    )


def _palette_of_code(numbers: list[float]) -> Palette:
    exact = [round(number, 6) for number in numbers]  # as it was before it became a float32
    wall, second, textile, wood = ((exact[i], exact[i + 1], exact[i + 2]) for i in range(0, 12, 3))
    return Palette(wall, second, textile, wood)


def _thing_of_code(part: list) -> Placed:
    return Placed(KINDS[int(part[0])], int(part[1]), part[2], tuple(part[3:6]), _whole(part[6:]))


def _door_of_code(part: list) -> DoorFacts:
    return DoorFacts(
        axis=int(part[0]),
        walls=tuple(part[1:3]),
        edges=tuple(part[3:5]),
        seen=tuple(part[5:7]),
        top=part[7],
        tones=_whole(part[8:]) or None,
    )


def _whole(numbers: Iterable[float | None]) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers if number is not None)
