"""The plan of a house: a value that can be printed, compared, changed and stored as JSON.

A plan names everything that a house consists of: rooms, doorways, finishes, and the things that stand
and hang at the walls. `design` draws one from a seed, `build` makes a scene of it. The catalogue of
palettes, finishes and things is here, too.
Frame: metres, y points down, the floor is y = 0, walls run along x and z.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

Color = tuple[float, float, float]  # rgb in [0, 1]
Point = tuple[float, float, float]  # metres, world
Box = tuple[Point, Point]  # least and greatest corner, metres, world
Limits = tuple[float, float]  # least, most
Span = tuple[float, float, float, float, float, float]  # from and to: along, out of and up a wall

LONG_WALL = 3.0  # metres: a wall as long looks bare with nothing on it
ON_WALL = 0.05  # metres from a wall, within which a doorway is in it

OAK, WALNUT = (0.66, 0.48, 0.31), (0.40, 0.26, 0.18)
PINE, WHITEWASH = (0.78, 0.60, 0.40), (0.80, 0.77, 0.71)


@dataclass(frozen=True)
class Palette:
    """The colours of one room: walls, their second tone, textiles, and the wood in it."""

    wall: Color
    second: Color
    textile: Color
    wood: Color


PALETTES = (
    Palette((0.68, 0.76, 0.64), (0.38, 0.50, 0.40), (0.80, 0.45, 0.28), OAK),  # sage
    Palette((0.84, 0.60, 0.47), (0.66, 0.36, 0.26), (0.24, 0.42, 0.47), WALNUT),  # terracotta
    Palette((0.44, 0.57, 0.72), (0.20, 0.29, 0.45), (0.88, 0.70, 0.34), PINE),  # blue
    Palette((0.90, 0.78, 0.46), (0.72, 0.54, 0.22), (0.36, 0.44, 0.56), WHITEWASH),  # mustard
    Palette((0.89, 0.73, 0.72), (0.68, 0.42, 0.46), (0.42, 0.52, 0.42), PINE),  # blush
    Palette((0.45, 0.68, 0.67), (0.16, 0.40, 0.42), (0.86, 0.48, 0.38), OAK),  # teal
    Palette((0.72, 0.67, 0.82), (0.44, 0.38, 0.60), (0.78, 0.72, 0.38), WHITEWASH),  # lilac
    Palette((0.88, 0.84, 0.74), (0.52, 0.52, 0.34), (0.62, 0.24, 0.22), WALNUT),  # cream
)

# Patterns of walls and floors, and metres per repeat.
WALLS = {
    "plaster": 1.0,
    "limewash": 1.0,
    "stripes": 0.36,
    "plaid": 0.5,
    "dots": 0.26,
    "lattice": 0.42,
    "wainscot": 1.0,
    "two_tone": 1.0,
    "moulding": 1.0,
    "brick": 1.0,
    "tiles": 1.0,
    "boards": 0.16,
}
FLOORS = {"planks": 0.13, "checker": 0.42, "parquet": 0.36, "carpet": 1.0, "slabs": 0.6}
PAPERS = ("stripes", "plaid", "dots", "lattice")  # wallpapers: printed in muted tones of the wall


@dataclass(frozen=True)
class Part:
    """One box (or ball) of a thing: its pattern, its colour and its place in the thing.

    `span` is a share of the thing's size: from and to along the wall, out from the wall, and up.
    """

    pattern: str
    color: str  # key of `building.part_colors`
    span: Span
    scale: float = 1.0  # metres per repeat
    ball: bool = False


@dataclass(frozen=True)
class Thing:
    """Something that stands or hangs at a wall. Sizes are limits, in metres."""

    width: Limits
    depth: Limits
    height: Limits
    parts: tuple[Part, ...]
    raised: float = 0.0  # height of its lower edge above the floor
    clearance: float = 0.05  # free space on all sides


THINGS = {
    "sofa": Thing((1.6, 2.2), (0.85, 0.95), (0.78, 0.86), (
        Part("fabric", "textile", (0.08, 0.92, 0.05, 0.97, 0.08, 0.52)),
        Part("fabric", "textile", (0.00, 1.00, 0.00, 0.28, 0.04, 1.00)),
        Part("fabric", "textile", (0.00, 0.10, 0.02, 1.00, 0.03, 0.72)),
        Part("fabric", "textile", (0.90, 1.00, 0.02, 1.00, 0.03, 0.72)),
        Part("fabric", "second", (0.14, 0.36, 0.28, 0.42, 0.52, 0.92)),
    )),
    "armchair": Thing((0.80, 0.95), (0.80, 0.90), (0.80, 0.90), (
        Part("fabric", "textile", (0.15, 0.85, 0.05, 0.95, 0.10, 0.50)),
        Part("fabric", "textile", (0.00, 1.00, 0.00, 0.26, 0.05, 1.00)),
        Part("fabric", "textile", (0.00, 0.18, 0.02, 1.00, 0.05, 0.70)),
        Part("fabric", "textile", (0.82, 1.00, 0.02, 1.00, 0.05, 0.70)),
    )),
    "bed": Thing((2.00, 2.15), (0.95, 1.05), (0.85, 1.00), (
        Part("wood", "wood", (0.00, 0.04, 0.00, 1.00, 0.00, 1.00)),
        Part("wood", "wood", (0.03, 0.98, 0.03, 0.97, 0.08, 0.30)),
        Part("fabric", "linen", (0.04, 0.97, 0.05, 0.96, 0.29, 0.50)),
        Part("plaid", "textile", (0.36, 0.985, 0.02, 0.985, 0.20, 0.53), 0.3),
        Part("fabric", "linen", (0.06, 0.26, 0.18, 0.82, 0.48, 0.64)),
    )),
    "wardrobe": Thing((1.2, 1.8), (0.55, 0.62), (1.90, 2.15), (
        Part("wood", "wood", (0.0, 1.0, 0.0, 0.97, 0.0, 1.0)),
        Part("doors", "wood", (0.015, 0.985, 0.9, 1.0, 0.04, 0.985), 0.5),
    )),
    "bookshelf": Thing((0.9, 1.6), (0.30, 0.36), (1.70, 2.05), (
        Part("wood", "wood", (0.0, 1.0, 0.0, 0.95, 0.0, 1.0)),
        Part("books", "books", (0.03, 0.97, 0.9, 0.96, 0.02, 0.98), 0.33),
        Part("wood", "wood", (0.0, 0.03, 0.9, 1.0, 0.0, 1.0)),
        Part("wood", "wood", (0.97, 1.0, 0.9, 1.0, 0.0, 1.0)),
    )),
    "sideboard": Thing((1.1, 1.6), (0.42, 0.50), (1.10, 1.20), (
        Part("wood", "wood", (0.0, 1.0, 0.0, 0.95, 0.07, 0.66)),
        Part("drawers", "wood", (0.02, 0.98, 0.9, 1.0, 0.09, 0.64), 0.27),
        Part("fabric", "second", (0.77, 0.83, 0.40, 0.58, 0.64, 0.84)),
        Part("plain", "bulb", (0.71, 0.89, 0.26, 0.72, 0.80, 1.00)),
    )),
    "desk": Thing((1.2, 1.5), (0.60, 0.70), (0.98, 1.08), (
        Part("wood", "wood", (0.00, 1.00, 0.00, 1.00, 0.68, 0.72)),
        Part("drawers", "wood", (0.02, 0.30, 0.03, 0.95, 0.00, 0.69), 0.2),
        Part("wood", "wood", (0.94, 0.98, 0.05, 0.95, 0.00, 0.69)),
        Part("books", "books", (0.10, 0.40, 0.10, 0.40, 0.70, 1.00), 0.33),
    )),
    "plant": Thing((0.55, 0.70), (0.55, 0.70), (1.15, 1.40), (
        Part("fabric", "pot", (0.28, 0.72, 0.28, 0.72, 0.00, 0.28)),
        Part("wood", "wood", (0.48, 0.52, 0.48, 0.52, 0.28, 0.60)),
        Part("leaves", "leaf", (0.00, 1.00, 0.00, 1.00, 0.40, 1.00), ball=True),
    )),
    "ball": Thing((0.30, 0.45), (0.30, 0.45), (0.30, 0.45), (
        Part("stripes", "textile", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0), 0.16, ball=True),
    )),
    "window": Thing((1.1, 1.6), (0.05, 0.05), (1.15, 1.35), (
        Part("window", "sky", (0.0, 1.0, 0.0, 0.8, 0.0, 1.0)),
        Part("plain", "trim", (-0.05, 1.05, 0.0, 2.4, -0.045, 0.0)),
    ), raised=0.90, clearance=0.15),
    "picture": Thing((0.5, 0.95), (0.03, 0.03), (0.5, 0.75), (
        Part("picture", "second", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)),
    ), raised=1.25, clearance=0.15),
}  # fmt: skip

# Furniture of a room, in the order of placing.
SUITES = (
    ("sofa", "bookshelf", "sideboard", "plant", "armchair"),
    ("bed", "wardrobe", "plant", "sideboard", "ball"),
    ("bookshelf", "desk", "armchair", "bookshelf", "plant"),
    ("sideboard", "armchair", "wardrobe", "plant", "ball"),
)


@dataclass(frozen=True)
class Placed:
    """A thing at a wall of a room."""

    kind: str  # key of THINGS
    wall: int  # 0 to 3: at -x, +x, -z, +z
    along: float  # of its middle, on the axis along the wall, metres
    size: Point  # width along the wall, depth out of it, height; metres
    tones: tuple[int, ...] = ()  # seeds of the random tones, one for each of its parts


@dataclass(frozen=True)
class Room:
    """One room: its empty space, its look, and what is in it."""

    box: Box
    palette: Palette
    wall_finish: str  # key of WALLS
    floor_finish: str  # key of FLOORS
    rug: tuple[float, float]  # sides along x and z, metres
    things: tuple[Placed, ...] = ()
    tones: tuple[int, ...] = (0,) * 6  # of walls, floor, ceiling, cord, globe and rug


@dataclass(frozen=True)
class Doorway:
    """The empty space of a doorway, which reaches a little into both rooms."""

    box: Box
    tones: tuple[int, ...] = (
        0,
    ) * 6  # of lining, sill, ceiling, and the three boards of the casing

    @property
    def axis(self) -> int:
        """The axis on which one walks through it, 0 (x) or 2 (z): a doorway is wider than thick."""
        low, high = self.box
        return 0 if high[0] - low[0] <= high[2] - low[2] else 2


@dataclass(frozen=True)
class Plan:
    """A house of rooms joined by doorways."""

    rooms: tuple[Room, ...]
    doorways: tuple[Doorway, ...] = field(default=())

    def to_json(self) -> str:
        """The plan as JSON text, from which `plan_from_json` makes an equal plan."""
        return json.dumps(asdict(self))


def plan_from_json(text: str) -> Plan:
    """The plan that `Plan.to_json` wrote. Errors: ValueError for a text that is no plan."""
    try:
        table = _tuples(json.loads(text))
        rooms = [
            Room(
                **{
                    **room,
                    "palette": Palette(**room["palette"]),
                    "things": tuple(Placed(**thing) for thing in room["things"]),
                }
            )
            for room in table["rooms"]
        ]
        plan = Plan(tuple(rooms), tuple(Doorway(**doorway) for doorway in table["doorways"]))
    except Exception as error:
        raise ValueError(
            f"this is no plan: need the JSON text of Plan.to_json ({error})"
        ) from error
    return checked(plan)


def checked(plan: Plan) -> Plan:
    """The plan, if it can be built. Errors: ValueError for unknown finishes or kinds and bad walls."""
    for i, room in enumerate(plan.rooms):
        unknown = [thing.kind for thing in room.things if thing.kind not in THINGS]
        unknown += [name for name in (room.wall_finish,) if name not in WALLS]
        unknown += [name for name in (room.floor_finish,) if name not in FLOORS]
        if unknown:
            raise ValueError(f"room {i} of the plan has unknown kinds or finishes: {unknown}")
        if any(thing.wall not in (0, 1, 2, 3) for thing in room.things):
            raise ValueError(f"room {i} of the plan has a thing at a wall that is not 0, 1, 2 or 3")
    for box in [*(room.box for room in plan.rooms), *(door.box for door in plan.doorways)]:
        if not all(low < high for low, high in zip(*box, strict=True)):
            raise ValueError(f"a room or doorway of the plan has no space inside: {box}")
    if not plan.rooms:
        raise ValueError("a plan needs at least one room, got none")
    return plan


def _tuples(value: Any) -> Any:
    """JSON lists as tuples, at all depths."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


# ---- places --------------------------------------------------------------------------------------


def at_wall(box: Box, wall: int, along: float, span: Span) -> Box:
    """The box of `span`, in metres along, out of and up a wall (0 to 3: -x, +x, -z, +z)."""
    a0, a1, o0, o1, u0, u1 = span
    axis = 0 if wall < 2 else 2
    low, high = box[0][axis], box[1][axis]
    out = (high - o1, high - o0) if wall % 2 else (low + o0, low + o1)
    sides = (along + a0, along + a1)
    x, z = (out, sides) if axis == 0 else (sides, out)
    return (x[0], -u1, z[0]), (x[1], -u0, z[1])


def bounds(box: Box, thing: Placed, gap: float = 0.0) -> Box:
    """The space of a thing in a room, grown by `gap` metres except into the wall."""
    kind, (width, depth, height) = THINGS[thing.kind], thing.size
    half = width / 2 + gap
    up = (max(kind.raised - gap, 0.0), kind.raised + height + gap)
    return at_wall(box, thing.wall, thing.along, (-half, half, 0.0, depth + gap, *up))


def part_boxes(box: Box, thing: Placed) -> list[Box]:
    """The boxes of a thing's parts, in the order of the catalogue."""
    kind, (width, depth, height) = THINGS[thing.kind], thing.size
    boxes = []
    for part in kind.parts:
        a0, a1, o0, o1, u0, u1 = part.span
        up = (kind.raised + u0 * height, kind.raised + u1 * height)
        span = ((a0 - 0.5) * width, (a1 - 0.5) * width, o0 * depth, o1 * depth, *up)
        boxes.append(at_wall(box, thing.wall, thing.along, span))
    return boxes


def claim(box: Box, thing: Placed) -> Box:
    """The space that a thing keeps free of other things."""
    return bounds(box, thing, THINGS[thing.kind].clearance)


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share some space."""
    return all(a[0][i] < b[1][i] and b[0][i] < a[1][i] for i in range(3))


def door_walls(room: Room, doorways: Iterable[Doorway]) -> set[int]:
    """The walls 0 to 3 of a room in which the doorways are."""
    found = set()
    for doorway in doorways:
        if not overlap(room.box, doorway.box):
            continue
        axis = doorway.axis
        for wall in (axis, axis + 1):  # at the low and at the high end of the axis
            at, facing = room.box[wall % 2][axis], doorway.box[1 - wall % 2][axis]
            if abs(facing - at) < ON_WALL:
                found.add(wall)
    return found


def long_walls(room: Room) -> list[int]:
    """The walls 0 to 3 of a room that are LONG_WALL metres or longer."""
    low, high = room.box
    sides = (high[2] - low[2], high[2] - low[2], high[0] - low[0], high[0] - low[0])
    return [wall for wall, side in enumerate(sides) if side >= LONG_WALL]


def bare_walls(room: Room, doorways: Iterable[Doorway]) -> list[int]:
    """The long walls of a room with neither a thing nor a doorway."""
    used = door_walls(room, doorways) | {thing.wall for thing in room.things}
    return [wall for wall in long_walls(room) if wall not in used]


def middle(box: Box) -> Point:
    """The middle of a box."""
    (x0, y0, z0), (x1, y1, z1) = box
    return (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2
