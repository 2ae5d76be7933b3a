"""Building: make a scene of the plan of a house.

In: a `Plan`. Out: `Rooms`, ready to be rendered. Nothing is drawn at random here: the same plan
always gives the same house, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vmemkit.scenes.house.finishes import PATTERNS, SHADOW, WHITE, Finish
from vmemkit.scenes.house.plan import (
    FLOORS,
    OAK,
    PAPERS,
    THINGS,
    WALLS,
    Box,
    Color,
    Doorway,
    Palette,
    Placed,
    Plan,
    Point,
    Room,
    checked,
    claim,
    middle,
    part_boxes,
)
from vmemkit.scenes.house.ray_casting import Blocks, Rooms

# Lengths are in metres.
CASING_WIDTH, CASING_DEPTH = 0.09, 0.025  # frame around a doorway: width, and how far it stands out
RUG_HEIGHT = 0.012
CORD, GLOBE, GLOBE_DROP = 0.01, 0.17, 0.37  # lamp: half widths, and from the ceiling to its centre
STONE, MORTAR, METAL = (0.83, 0.80, 0.75), (0.80, 0.76, 0.70), (0.72, 0.66, 0.52)
LINEN, TREES, BULB = (0.92, 0.90, 0.86), (0.42, 0.55, 0.38), (1.0, 0.95, 0.84)
SKY, POT, LEAF = (0.66, 0.80, 0.95), (0.62, 0.42, 0.33), (0.30, 0.45, 0.24)
GLOW = {"sky": 0.85, "bulb": 0.9}  # share of a colour that shines without other light


@dataclass(frozen=True)
class Solid:
    """A box of the house, or the largest ball in that box, and its finish."""

    box: Box
    pattern: str
    colors: tuple[Color, Color, Color]  # main, second, accent
    tone: int  # seed of the random tones
    scale: float = 1.0  # metres per repeat
    glow: float = 0.0  # share that shines without other light
    ball: bool = False


def build(plan: Plan) -> Rooms:
    """The house of a plan. Errors: ValueError for a plan that cannot be built."""
    checked(plan)
    rooms, doorways = plan.rooms, plan.doorways
    walls = [wall_solid(room) for room in rooms]
    walls += [_plain(door.box, door.tones[0]) for door in doorways]
    floors = [floor_solid(room) for room in rooms]
    floors += [Solid(door.box, "planks", (OAK,) * 3, door.tones[1], 0.13) for door in doorways]
    spaces: list[Room | Doorway] = [*rooms, *doorways]
    ceilings = [Solid(s.box, "plaster", (WHITE,) * 3, s.tones[2]) for s in spaces]
    solids = [solid for door in doorways for solid in _casing(door)]
    for room in rooms:
        solids += [*_lamp(room), _rug(room)]
        solids += [solid for thing in room.things for solid in parts(room, thing)]
    return Rooms(
        cells=_blocks(walls),
        floors=_blocks(floors).finish,
        ceilings=_blocks(ceilings).finish,
        boxes=_blocks([solid for solid in solids if not solid.ball]),
        balls=_blocks([solid for solid in solids if solid.ball]),
        windows=torch.tensor([_daylight(room) for room in rooms], dtype=torch.float32),
    )


def parts(room: Room, thing: Placed) -> list[Solid]:
    """The solids of a thing in its room."""
    kind = THINGS[thing.kind]
    tones = thing.tones or (0,) * len(kind.parts)
    solids = []
    for part, box, tone in zip(kind.parts, part_boxes(room.box, thing), tones, strict=True):
        colors, glow = part_colors(room.palette, part.color), GLOW.get(part.color, 0.0)
        solids.append(Solid(box, part.pattern, colors, tone, part.scale, glow, part.ball))
    return solids


def part_colors(palette: Palette, name: str) -> tuple[Color, Color, Color]:
    """Main, second and accent colour of a `Part.color`."""
    wall, second, textile, wood = palette.wall, palette.second, palette.textile, palette.wood
    return {
        "textile": (textile, LINEN, second),
        "second": (second, wall, textile),
        "wood": (wood, second, METAL),
        "books": (wood, textile, second),
        "linen": (LINEN, LINEN, LINEN),
        "sky": (SKY, TREES, WHITE),
        "leaf": (LEAF, LEAF, LEAF),
        "pot": (POT, POT, POT),
        "bulb": (BULB, BULB, BULB),
        "trim": (WHITE, WHITE, WHITE),
    }[name]


def wall_solid(room: Room) -> Solid:
    """The walls of a room with their finish."""
    name, palette = room.wall_finish, room.palette
    muted = _blend(palette.wall, palette.second, 0.45)
    second = MORTAR if name == "brick" else muted if name in PAPERS else palette.second
    return Solid(
        room.box, name, (palette.wall, second, palette.textile), room.tones[0], WALLS[name]
    )


def floor_solid(room: Room) -> Solid:
    """The floor of a room with its finish."""
    name, palette = room.floor_finish, room.palette
    main = palette.wood if name in ("planks", "parquet") else STONE
    main = _blend(palette.second, LINEN, 0.5) if name == "carpet" else main
    return Solid(
        room.box, name, (main, palette.second, palette.second), room.tones[1], FLOORS[name]
    )


def _casing(doorway: Doorway) -> list[Solid]:
    """A frame that lines the doorway and stands out from the wall on both sides."""
    through, across = doorway.axis, 2 - doorway.axis
    low, high = doorway.box
    lining, top = CASING_DEPTH / 2, low[1]

    def board(sides: tuple[float, float], up: tuple[float, float]) -> Box:
        corners = []
        for end, side, y in zip((low, high), sides, up, strict=True):
            sign = -1 if end is low else 1
            corner = {through: end[through] + sign * CASING_DEPTH, across: side, 1: y}
            corners.append((corner[0], corner[1], corner[2]))
        return corners[0], corners[1]

    boxes = (
        board((low[across] - CASING_WIDTH, low[across] + lining), (top, 0.0)),
        board((high[across] - lining, high[across] + CASING_WIDTH), (top, 0.0)),
        board(
            (low[across] - CASING_WIDTH, high[across] + CASING_WIDTH),
            (top - CASING_WIDTH, top + lining),
        ),
    )
    return [_plain(box, tone) for box, tone in zip(boxes, doorway.tones[3:], strict=True)]


def _lamp(room: Room) -> list[Solid]:
    (x, _, z), top = middle(room.box), room.box[0][1]
    y = top + GLOBE_DROP
    cord = (x - CORD, top, z - CORD), (x + CORD, y, z + CORD)
    globe = (x - GLOBE, y - GLOBE, z - GLOBE), (x + GLOBE, y + GLOBE, z + GLOBE)
    lit = Solid(globe, "plain", (BULB,) * 3, room.tones[4], glow=GLOW["bulb"], ball=True)
    return [Solid(cord, "plain", (SHADOW,) * 3, room.tones[3]), lit]


def _rug(room: Room) -> Solid:
    x, _, z = middle(room.box)
    a, b = room.rug[0] / 2, room.rug[1] / 2
    box = (x - a, -RUG_HEIGHT, z - b), (x + a, 0.0, z + b)
    colors = (room.palette.textile, LINEN, room.palette.second)
    return Solid(box, "rug", colors, room.tones[5], 0.4)


def _daylight(room: Room) -> Point:
    """Where daylight enters: at the room's last window, or in its middle if it has none."""
    windows = [thing for thing in room.things if thing.kind == "window"]
    return middle(claim(room.box, windows[-1]) if windows else room.box)


def _plain(box: Box, tone: int) -> Solid:
    return Solid(box, "plain", (WHITE,) * 3, tone)


def _blend(a: Color, b: Color, share: float) -> Color:
    x, y, z = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return x, y, z


def _blocks(solids: list[Solid]) -> Blocks:
    boxes = torch.tensor([solid.box for solid in solids], dtype=torch.float32).reshape(-1, 2, 3)
    low, high = boxes.unbind(1)
    if all(solid.ball for solid in solids):
        centre, radius = (low + high) / 2, (high - low).amin(1, keepdim=True) / 2
        low, high = centre - radius, centre + radius
    return Blocks(low, high, finish_of(solids))


def finish_of(solids: list[Solid]) -> Finish:
    """The finishes of the solids, one row each."""
    names = list(PATTERNS)
    return Finish(
        pattern=torch.tensor([names.index(solid.pattern) for solid in solids]),
        colors=torch.tensor([solid.colors for solid in solids]),
        scale=torch.tensor([solid.scale for solid in solids]),
        seed=torch.tensor([solid.tone for solid in solids]),
        glow=torch.tensor([solid.glow for solid in solids]),
    )
