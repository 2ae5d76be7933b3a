"""Designing: draw the plan of a furnished house from a seed.

In: a seed and a number of rooms. Out: a `Plan`, or the `Rooms` built of it.
Rooms stand in a row along x, each shifted along z against the one before, with a doorway through
the wall between neighbours. Every room has its own palette, wall finish and floor, a window,
furniture along its walls, a rug, pictures and a lamp. A thing is placed at the first random spot
whose claim (its box and the clearance it wants) overlaps no earlier claim. The doorways and the
straight ways to them claim their space first, so a viewer can walk from room centre to room centre.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch

from vmemkit.scenes.house.building import CASING_WIDTH, build
from vmemkit.scenes.house.plan import (
    FLOORS,
    PALETTES,
    SUITES,
    THINGS,
    WALLS,
    Box,
    Doorway,
    Placed,
    Plan,
    Room,
    bounds,
    claim,
    middle,
    overlap,
)
from vmemkit.scenes.house.ray_casting import VIEWER_RADIUS, Rooms

# Lengths are in metres.
ROOM_SIDE, CEILING, WALL_THICKNESS = (3.8, 5.8), (2.5, 2.95), (0.15, 0.30)
SHIFT = (-1.0, 1.0)  # shift of a room along z against the one before
DOOR_WIDTH, DOOR_HEIGHT = (1.0, 1.3), (2.02, 2.15)
DOOR_SLANT = 0.5  # largest slope z / x of the straight way from a room's centre to its doorway
WALL_GAP = 0.03  # least distance of furniture from the wall beside it
OVERLAP = 5e-3  # overlap of a doorway with its rooms, so that no ray slips between them
WAY = 0.8  # width of the free way from a room's centre to its doorway
RUG_SIDE = (1.5, 2.3)
PICTURES = 4  # pictures to place in each room, as far as there is space
TRIES = 40  # random spots tried for each thing
TONES = 2**20  # number of different seeds of random tones
MAX_SEED = 2**63 - 1
WINDOW_WALLS = (2, 3)  # in a row of rooms, other rooms lie behind walls 0 and 1


def rooms(seed: int = 0, n_rooms: int = 2) -> Rooms:
    """A furnished house of `n_rooms` rooms in a row; the same seed gives the same house.

    Errors: ValueError for fewer than two rooms, and for more rooms than palettes.
    """
    return build(design(seed, n_rooms))


def open_plan(plan: Plan) -> Plan:
    """The plan of a row of rooms without the walls between them.

    What both rooms share of such a wall becomes a passage up to the lower ceiling. Things that stand
    or hang at the wall go.
    """
    rooms, passages = list(plan.rooms), []
    for i, door in enumerate(plan.doorways):
        axis, along = door.axis, 2 - door.axis
        (low_a, high_a), (low_b, high_b) = rooms[i].box, rooms[i + 1].box
        low, high = list(door.box[0]), list(door.box[1])
        low[along], high[along] = max(low_a[along], low_b[along]), min(high_a[along], high_b[along])
        low[1] = max(low_a[1], low_b[1])
        box = (low[0], low[1], low[2]), (high[0], high[1], high[2])
        passages.append(replace(door, box=box))
        for j in (i, i + 1):
            is_before = rooms[j].box[0][axis] < door.box[0][axis]
            opened = axis + 1 if is_before else axis
            things = tuple(thing for thing in rooms[j].things if thing.wall != opened)
            rooms[j] = replace(rooms[j], things=things)
    return Plan(tuple(rooms), tuple(passages))


def design(seed: int = 0, n_rooms: int = 2) -> Plan:
    """The plan of a furnished house of `n_rooms` rooms in a row; `build` makes a scene of it.

    Errors: ValueError for fewer than two rooms, and for more rooms than palettes.
    """
    if not 2 <= n_rooms <= len(PALETTES):
        raise ValueError(
            f"n_rooms must be 2 to {len(PALETTES)} (each room has its own palette), got {n_rooms}"
        )
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be 0 to {MAX_SEED}, got {seed}")
    rng = torch.Generator().manual_seed(seed)
    boxes = _boxes(rng, n_rooms)
    doorways = [_doorway(rng, boxes[i], boxes[i + 1]) for i in range(n_rooms - 1)]
    palettes = [PALETTES[i] for i in draw(rng, len(PALETTES), n_rooms)]
    suites = [SUITES[i] for i in draw(rng, len(SUITES), n_rooms)]
    walls = [list(WALLS)[i] for i in draw(rng, len(WALLS), n_rooms)]
    floors = [list(FLOORS)[i] for i in draw(rng, len(FLOORS), n_rooms)]
    planned = []
    for box, palette, suite, wall, floor in zip(
        boxes, palettes, suites, walls, floors, strict=True
    ):
        rug = (uniform(rng, *RUG_SIDE), uniform(rng, *RUG_SIDE))
        room = Room(box, palette, wall, floor, rug)
        wanted = ("window", *suite, *("picture",) * PICTURES)
        planned.append(furnish(rng, room, [door.box for door in doorways], wanted))
    return _with_tones(rng, Plan(tuple(planned), tuple(doorways)))


def furnish(
    rng: torch.Generator,
    room: Room,
    doorways: Sequence[Box],
    wanted: Iterable[str],
    may_stand: Callable[[str, Box], bool] = lambda kind, box: True,
    window_walls: Sequence[int] = WINDOW_WALLS,
) -> Room:
    """The room with more things, in the order `wanted`, as far as there is space for them.

    What stands in the room stays, and the ways from its middle to the doorways stay free.
    may_stand(kind, box): whether a thing of that kind may be in that space.
    """
    claims = [way for door in doorways if overlap(room.box, door) for way in ways(room.box, door)]
    claims += [claim(room.box, thing) for thing in room.things]
    things = list(room.things)
    for kind in wanted:
        walls = window_walls if kind == "window" else (0, 1, 2, 3)
        placed = _place(rng, kind, room.box, walls, claims, may_stand)
        if placed is not None:
            claims.append(claim(room.box, placed))
            things.append(placed)
    return replace(room, things=tuple(things))


def ways(box: Box, doorway: Box) -> list[Box]:
    """Boxes that keep the straight way from a room's middle to a doorway free."""
    (x0, _, z0), (x1, _, z1) = middle(box), middle(doorway)
    half = WAY / 2 + VIEWER_RADIUS
    steps = [(x0 + (x1 - x0) * step / 10, z0 + (z1 - z0) * step / 10) for step in range(11)]
    top = box[0][1]
    return [((x - half, top, z - half), (x + half, 0.0, z + half)) for x, z in steps]


def uniform(rng: torch.Generator, low: float, high: float) -> float:
    """One random number between the limits."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def draw(rng: torch.Generator, n: int, count: int) -> list[int]:
    """`count` numbers below n in random order; each is drawn again only after all others."""
    rounds = [torch.randperm(n, generator=rng) for _ in range(-(-count // n))]
    return torch.cat(rounds)[:count].tolist()


def _boxes(rng: torch.Generator, n_rooms: int) -> list[Box]:
    """The empty space of each room; the first is centred on x = z = 0."""
    boxes: list[Box] = []
    x, z = 0.0, 0.0
    for i in range(n_rooms):
        width, depth = uniform(rng, *ROOM_SIDE), uniform(rng, *ROOM_SIDE)
        x = x + uniform(rng, *WALL_THICKNESS) if i else -width / 2
        z = z + uniform(rng, *SHIFT) if i else 0.0
        boxes.append(((x, -uniform(rng, *CEILING), z - depth / 2), (x + width, 0.0, z + depth / 2)))
        x = x + width
    return boxes


def _doorway(rng: torch.Generator, left: Box, right: Box) -> Doorway:
    """The doorway from one room to the next."""
    width, height = uniform(rng, *DOOR_WIDTH), uniform(rng, *DOOR_HEIGHT)
    limits = []
    for room in (left, right):
        side = (room[1][2] - room[0][2]) / 2 - width / 2 - 2 * CASING_WIDTH
        aside = min(side, DOOR_SLANT * (room[1][0] - room[0][0]) / 2)
        limits.append((middle(room)[2] - aside, middle(room)[2] + aside))
    z = uniform(rng, max(limit[0] for limit in limits), min(limit[1] for limit in limits))
    x0, x1 = left[1][0] - OVERLAP, right[0][0] + OVERLAP
    return Doorway(((x0, -height, z - width / 2), (x1, 0.0, z + width / 2)))


def _place(
    rng: torch.Generator,
    kind: str,
    box: Box,
    walls: Sequence[int],
    claims: Sequence[Box],
    may_stand: Callable[[str, Box], bool],
) -> Placed | None:
    """The thing at the first random spot that is free; None if every try fails."""
    thing = THINGS[kind]
    for _ in range(TRIES):
        width, depth, height = (
            uniform(rng, *limits) for limits in (thing.width, thing.depth, thing.height)
        )
        wall = walls[int(torch.randint(len(walls), (), generator=rng))]
        axis, reach = (2 if wall < 2 else 0), width / 2 + WALL_GAP
        along = uniform(rng, box[0][axis] + reach, box[1][axis] - reach)
        placed = Placed(kind, wall, along, (width, depth, height))
        space = claim(box, placed)
        if any(overlap(space, other) for other in claims):
            continue
        if may_stand(kind, bounds(box, placed)):
            return placed
    return None


def _with_tones(rng: torch.Generator, plan: Plan) -> Plan:
    """The plan with random tones for all its surfaces."""
    rooms, doorways = plan.rooms, plan.doorways
    balls = {kind: sum(part.ball for part in thing.parts) for kind, thing in THINGS.items()}
    kinds = [thing.kind for room in rooms for thing in room.things]
    n_balls = len(rooms) + sum(balls[kind] for kind in kinds)
    n_boxes = 3 * len(doorways) + 2 * len(rooms) - sum(balls[kind] for kind in kinds)
    n_boxes += sum(len(THINGS[kind].parts) for kind in kinds)
    spaces = len(rooms) + len(doorways)
    walls, floors, ceilings, box, ball = (
        iter(torch.randint(TONES, (n,), generator=rng).tolist())
        for n in (spaces, spaces, spaces, n_boxes, n_balls)
    )
    room_tones = [(next(walls), next(floors), next(ceilings)) for _ in rooms]
    doorways = tuple(
        replace(
            door, tones=(next(walls), next(floors), next(ceilings), *(next(box) for _ in range(3)))
        )
        for door in doorways
    )
    toned = []
    for room, tones in zip(rooms, room_tones, strict=True):
        tones = (*tones, next(box), next(ball), next(box))
        things = tuple(
            replace(
                thing,
                tones=tuple(next(ball if part.ball else box) for part in THINGS[thing.kind].parts),
            )
            for thing in room.things
        )
        toned.append(replace(room, tones=tones, things=things))
    return Plan(tuple(toned), doorways)
