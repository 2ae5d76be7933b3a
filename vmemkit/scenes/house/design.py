"""Houses: design a furnished house from a seed.

In: a seed and a number of rooms. Out: `Rooms`.
Rooms stand in a row along x, each shifted along z against the one before, with a doorway through
the wall between neighbours. Every room has its own palette, wall finish and floor, a window,
furniture along its walls, a rug, pictures and a lamp. A thing is placed at the first random spot
whose claim (its box and the clearance it wants) overlaps no earlier claim. The doorways and the
straight ways to them claim their space first, so a viewer can walk from room centre to room centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vmemkit.scenes.house.finishes import PATTERNS, SHADOW, WHITE, Finish
from vmemkit.scenes.house.ray_casting import VIEWER_RADIUS, Blocks, Rooms

Color = tuple[float, float, float]  # rgb in [0, 1]
Point = tuple[float, float, float]  # metres, world
Box = tuple[Point, Point]  # least and greatest corner, metres, world
Limits = tuple[float, float]  # least, most
Span = tuple[float, float, float, float, float, float]  # from and to: along, out of and up a wall

# Lengths are in metres.
ROOM_SIDE, CEILING, WALL_THICKNESS = (3.8, 5.8), (2.5, 2.95), (0.15, 0.30)
SHIFT = (-1.0, 1.0)  # shift of a room along z against the one before
DOOR_WIDTH, DOOR_HEIGHT = (1.0, 1.3), (2.02, 2.15)
DOOR_SLANT = 0.5  # largest slope z / x of the straight way from a room's centre to its doorway
CASING_WIDTH, CASING_DEPTH = 0.09, 0.025  # frame around a doorway: width, and how far it stands out
WALL_GAP = 0.03  # least distance of furniture from the wall beside it
OVERLAP = 5e-3  # overlap of a doorway with its rooms, so that no ray slips between them
WAY = 0.8  # width of the free way from a room's centre to its doorway
RUG_SIDE, RUG_HEIGHT = (1.5, 2.3), 0.012
CORD, GLOBE, GLOBE_DROP = 0.01, 0.17, 0.37  # lamp: half widths, and from the ceiling to its centre
PICTURES = 4  # pictures to place in each room, as far as there is space
TRIES = 40  # random spots tried for each thing
MAX_SEED = 2**63 - 1
OAK, WALNUT = (0.66, 0.48, 0.31), (0.40, 0.26, 0.18)
PINE, WHITEWASH = (0.78, 0.60, 0.40), (0.80, 0.77, 0.71)
STONE, MORTAR, METAL = (0.83, 0.80, 0.75), (0.80, 0.76, 0.70), (0.72, 0.66, 0.52)
LINEN, TREES, BULB = (0.92, 0.90, 0.86), (0.42, 0.55, 0.38), (1.0, 0.95, 0.84)
SKY, POT, LEAF = (0.66, 0.80, 0.95), (0.62, 0.42, 0.33), (0.30, 0.45, 0.24)
GLOW = {"sky": 0.85, "bulb": 0.9}  # share of a colour that shines without other light


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

# Wall finishes and floors: pattern, metres per repeat.
WALLS = (
    ("plaster", 1.0),
    ("limewash", 1.0),
    ("stripes", 0.36),
    ("plaid", 0.5),
    ("dots", 0.26),
    ("lattice", 0.42),
    ("wainscot", 1.0),
    ("two_tone", 1.0),
    ("moulding", 1.0),
    ("brick", 1.0),
    ("tiles", 1.0),
    ("boards", 0.16),
)
FLOORS = (("planks", 0.13), ("checker", 0.42), ("parquet", 0.36), ("carpet", 1.0), ("slabs", 0.6))
PAPERS = ("stripes", "plaid", "dots", "lattice")  # wallpapers: printed in muted tones of the wall


@dataclass(frozen=True)
class Part:
    """One box (or ball) of a thing: its pattern, its colour and its place in the thing.

    `span` is a share of the thing's size: from and to along the wall, out from the wall, and up.
    """

    pattern: str
    color: str  # key of `_colors`
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


@dataclass(frozen=True)
class Solid:
    """A box of the house, or the largest ball in that box, and its finish."""

    box: Box
    pattern: str
    colors: tuple[Color, Color, Color]  # main, second, accent
    scale: float = 1.0  # metres per repeat
    glow: float = 0.0  # share that shines without other light
    ball: bool = False


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


def rooms(seed: int = 0, n_rooms: int = 2) -> Rooms:
    """A furnished house of `n_rooms` rooms in a row; the same seed gives the same house.

    Errors: ValueError for fewer than two rooms, and for more rooms than palettes.
    """
    if not 2 <= n_rooms <= len(PALETTES):
        raise ValueError(
            f"n_rooms must be 2 to {len(PALETTES)} (each room has its own palette), got {n_rooms}"
        )
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be 0 to {MAX_SEED}, got {seed}")
    rng = torch.Generator().manual_seed(seed)
    cells = _plan(rng, n_rooms)
    doorways = [_doorway(rng, cells[i], cells[i + 1]) for i in range(n_rooms - 1)]
    palettes = [PALETTES[i] for i in _draw(rng, len(PALETTES), n_rooms)]
    suites = [SUITES[i] for i in _draw(rng, len(SUITES), n_rooms)]
    walls, floors = _walls_and_floors(rng, cells, palettes)
    trim = [Solid(box, "plain", (WHITE,) * 3) for box in doorways]
    sills = [Solid(box, "planks", (OAK,) * 3, 0.13) for box in doorways]
    ceilings = [Solid(box, "plaster", (WHITE,) * 3) for box in cells + doorways]
    solids = [solid for doorway in doorways for solid in _casing(doorway)]
    windows: list[Point] = []
    for cell, palette, suite in zip(cells, palettes, suites, strict=True):
        inside, window = _furnish(rng, cell, doorways, palette, suite)
        solids, windows = solids + inside, [*windows, window]
    return Rooms(
        cells=_blocks(rng, walls + trim),
        floors=_blocks(rng, floors + sills).finish,
        ceilings=_blocks(rng, ceilings).finish,
        boxes=_blocks(rng, [solid for solid in solids if not solid.ball]),
        balls=_blocks(rng, [solid for solid in solids if solid.ball]),
        windows=torch.tensor(windows),
    )


# ---- the plan ------------------------------------------------------------------------------------


def _plan(rng: torch.Generator, n_rooms: int) -> list[Box]:
    """The empty space of each room; the first is centred on x = z = 0."""
    cells: list[Box] = []
    x, z = 0.0, 0.0
    for i in range(n_rooms):
        width, depth = uniform(rng, *ROOM_SIDE), uniform(rng, *ROOM_SIDE)
        x = x + uniform(rng, *WALL_THICKNESS) if i else -width / 2
        z = z + uniform(rng, *SHIFT) if i else 0.0
        cells.append(((x, -uniform(rng, *CEILING), z - depth / 2), (x + width, 0.0, z + depth / 2)))
        x = x + width
    return cells


def _doorway(rng: torch.Generator, left: Box, right: Box) -> Box:
    """The empty space of the doorway from one room to the next."""
    width, height = uniform(rng, *DOOR_WIDTH), uniform(rng, *DOOR_HEIGHT)
    limits = []
    for room in (left, right):
        side = (room[1][2] - room[0][2]) / 2 - width / 2 - 2 * CASING_WIDTH
        aside = min(side, DOOR_SLANT * (room[1][0] - room[0][0]) / 2)
        limits.append((_middle(room)[2] - aside, _middle(room)[2] + aside))
    z = uniform(rng, max(limit[0] for limit in limits), min(limit[1] for limit in limits))
    x0, x1 = left[1][0] - OVERLAP, right[0][0] + OVERLAP
    return (x0, -height, z - width / 2), (x1, 0.0, z + width / 2)


def _casing(doorway: Box) -> list[Solid]:
    """A frame that lines the doorway and stands out from the wall on both sides."""
    (x0, top, z0), (x1, _, z1) = doorway
    x0, x1, lining = x0 - CASING_DEPTH, x1 + CASING_DEPTH, CASING_DEPTH / 2
    boxes = (
        ((x0, top, z0 - CASING_WIDTH), (x1, 0.0, z0 + lining)),
        ((x0, top, z1 - lining), (x1, 0.0, z1 + CASING_WIDTH)),
        ((x0, top - CASING_WIDTH, z0 - CASING_WIDTH), (x1, top + lining, z1 + CASING_WIDTH)),
    )
    return [Solid(box, "plain", (WHITE,) * 3) for box in boxes]


# ---- furnishing ----------------------------------------------------------------------------------


def _furnish(
    rng: torch.Generator, cell: Box, doorways: list[Box], palette: Palette, suite: tuple[str, ...]
) -> tuple[list[Solid], Point]:
    """All furniture of a room, and the middle of its window."""
    claims = [way for door in doorways if _overlap(cell, door) for way in _ways(cell, door)]
    solids, window = _lamp(cell) + _rug(rng, cell, palette), _middle(cell)
    for name in ("window", *suite, *("picture",) * PICTURES):
        walls = (2, 3) if name == "window" else (0, 1, 2, 3)  # other rooms lie behind 0 and 1
        placed = _place(rng, THINGS[name], cell, walls, claims)
        if placed is None:
            continue  # no space left
        wall, along, size, claim = placed
        claims = [*claims, claim]
        solids = solids + _build(THINGS[name], cell, wall, along, size, palette)
        window = _middle(claim) if name == "window" else window
    return solids, window


def _ways(cell: Box, doorway: Box) -> list[Box]:
    """Boxes that keep the straight way from the room's middle to the doorway free."""
    (x0, _, z0), (x1, _, z1) = _middle(cell), _middle(doorway)
    half = WAY / 2 + VIEWER_RADIUS
    steps = [(x0 + (x1 - x0) * step / 10, z0 + (z1 - z0) * step / 10) for step in range(11)]
    top = cell[0][1]
    return [((x - half, top, z - half), (x + half, 0.0, z + half)) for x, z in steps]


def _place(
    rng: torch.Generator, thing: Thing, cell: Box, walls: tuple[int, ...], claims: list[Box]
) -> tuple[int, float, Point, Box] | None:
    """A wall, a place along it, a size and the claimed space; None if every try overlaps."""
    gap = thing.clearance
    for _ in range(TRIES):
        width, depth, height = (
            uniform(rng, *limits) for limits in (thing.width, thing.depth, thing.height)
        )
        wall = walls[int(torch.randint(len(walls), (), generator=rng))]
        axis, reach = (2 if wall < 2 else 0), width / 2 + WALL_GAP
        along = uniform(rng, cell[0][axis] + reach, cell[1][axis] - reach)
        half = width / 2 + gap
        up = (max(thing.raised - gap, 0.0), thing.raised + height + gap)
        claim = _at_wall(cell, wall, along, (-half, half, 0.0, depth + gap, *up))
        if not any(_overlap(claim, other) for other in claims):
            return wall, along, (width, depth, height), claim
    return None


def _build(
    thing: Thing, cell: Box, wall: int, along: float, size: Point, palette: Palette
) -> list[Solid]:
    """The solids of a thing, placed `along` metres along a wall of the room."""
    width, depth, height = size
    solids = []
    for part in thing.parts:
        a0, a1, o0, o1, u0, u1 = part.span
        up = (thing.raised + u0 * height, thing.raised + u1 * height)
        span = ((a0 - 0.5) * width, (a1 - 0.5) * width, o0 * depth, o1 * depth, *up)
        box, colors = _at_wall(cell, wall, along, span), _colors(palette, part.color)
        glow = GLOW.get(part.color, 0.0)
        solids.append(Solid(box, part.pattern, colors, part.scale, glow, part.ball))
    return solids


def _at_wall(cell: Box, wall: int, along: float, span: Span) -> Box:
    """The box of `span`, in metres along, out of and up a wall (0 to 3: -x, +x, -z, +z)."""
    a0, a1, o0, o1, u0, u1 = span
    axis = 0 if wall < 2 else 2
    low, high = cell[0][axis], cell[1][axis]
    out = (high - o1, high - o0) if wall % 2 else (low + o0, low + o1)
    sides = (along + a0, along + a1)
    x, z = (out, sides) if axis == 0 else (sides, out)
    return (x[0], -u1, z[0]), (x[1], -u0, z[1])


def _lamp(cell: Box) -> list[Solid]:
    (x, _, z), top = _middle(cell), cell[0][1]
    y = top + GLOBE_DROP
    cord = (x - CORD, top, z - CORD), (x + CORD, y, z + CORD)
    globe = (x - GLOBE, y - GLOBE, z - GLOBE), (x + GLOBE, y + GLOBE, z + GLOBE)
    lit = Solid(globe, "plain", (BULB,) * 3, glow=GLOW["bulb"], ball=True)
    return [Solid(cord, "plain", (SHADOW,) * 3), lit]


def _rug(rng: torch.Generator, cell: Box, palette: Palette) -> list[Solid]:
    x, _, z = _middle(cell)
    a, b = uniform(rng, *RUG_SIDE) / 2, uniform(rng, *RUG_SIDE) / 2
    box = (x - a, -RUG_HEIGHT, z - b), (x + a, 0.0, z + b)
    return [Solid(box, "rug", (palette.textile, LINEN, palette.second), 0.4)]


# ---- finishes ------------------------------------------------------------------------------------


def _walls_and_floors(
    rng: torch.Generator, cells: list[Box], palettes: list[Palette]
) -> tuple[list[Solid], list[Solid]]:
    """Each room's walls and floor; no two rooms have the same wall finish."""
    walls, floors = [], []
    picks = _draw(rng, len(WALLS), len(cells)), _draw(rng, len(FLOORS), len(cells))
    for box, palette, wall, floor in zip(cells, palettes, *picks, strict=True):
        name, scale = WALLS[wall]
        muted = _blend(palette.wall, palette.second, 0.45)
        second = MORTAR if name == "brick" else muted if name in PAPERS else palette.second
        walls.append(Solid(box, name, (palette.wall, second, palette.textile), scale))
        name, scale = FLOORS[floor]
        main = palette.wood if name in ("planks", "parquet") else STONE
        main = _blend(palette.second, LINEN, 0.5) if name == "carpet" else main
        floors.append(Solid(box, name, (main, palette.second, palette.second), scale))
    return walls, floors


def _colors(palette: Palette, name: str) -> tuple[Color, Color, Color]:
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


def _blocks(rng: torch.Generator, solids: list[Solid]) -> Blocks:
    low, high = torch.tensor([solid.box for solid in solids]).unbind(1)
    if all(solid.ball for solid in solids):
        middle, radius = (low + high) / 2, (high - low).amin(1, keepdim=True) / 2
        low, high = middle - radius, middle + radius
    names = list(PATTERNS)
    finish = Finish(
        pattern=torch.tensor([names.index(solid.pattern) for solid in solids]),
        colors=torch.tensor([solid.colors for solid in solids]),
        scale=torch.tensor([solid.scale for solid in solids]),
        seed=torch.randint(2**20, (len(solids),), generator=rng),
        glow=torch.tensor([solid.glow for solid in solids]),
    )
    return Blocks(low, high, finish)


# ---- helpers -------------------------------------------------------------------------------------


def _overlap(a: Box, b: Box) -> bool:
    return all(a[0][i] < b[1][i] and b[0][i] < a[1][i] for i in range(3))


def _middle(box: Box) -> Point:
    (x0, y0, z0), (x1, y1, z1) = box
    return (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2


def _blend(a: Color, b: Color, share: float) -> Color:
    x, y, z = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return x, y, z


def uniform(rng: torch.Generator, low: float, high: float) -> float:
    """One random number between the limits."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def _draw(rng: torch.Generator, n: int, count: int) -> list[int]:
    """`count` numbers below n in random order; each is drawn again only after all others."""
    rounds = [torch.randperm(n, generator=rng) for _ in range(-(-count // n))]
    return torch.cat(rounds)[:count].tolist()
