"""Things: furniture, pictures and windows, by proposing many and keeping those that explain samples.

In: evidence, the walls and the palette of a room. Out: `Placed` things, the surest first.
Standing things: each kind is tried at each wall, at many places and widths. A proposal gains by
samples on its surface in its colours. It loses by samples inside it and by rays that run through it.
Flat things are patches that stand out a little from a wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vmemkit.generation.writer.doors import Opening, limits
from vmemkit.generation.writer.evidence import (
    Array,
    Evidence,
    axis_of,
    groups,
    inward,
    runs_through,
    within,
)
from vmemkit.generation.writer.facts import thing_space
from vmemkit.generation.writer.walls import OVER_DOOR, Shell
from vmemkit.scenes.house import (
    CASING_DEPTH,
    THINGS,
    WALL_GAP,
    Palette,
    Placed,
    Thing,
    overlap,
    part_colors,
)

# Lengths are in metres.
STANDING = tuple(kind for kind, thing in THINGS.items() if thing.raised == 0)
ROUND = ("plant", "ball")  # as deep as wide
CLEAR = 0.045  # from walls and floor, within which a sample belongs to them
TOGETHER = 0.16  # samples nearer than this to each other belong to one group
SAMPLES, RAYS = 220, 700  # at most tested of a proposal: samples of a group, rays of all views
CONTRADICTION = 3  # so many rays may run through a thing in the end, of all rays
LEAST = 8  # samples that a thing must explain
MOST = 8  # things in a room
STEP, WIDTHS = 0.06, 3  # places along a wall, and number of widths
NEAR, DEEP = 0.05, 0.07  # from its surface a sample is explained; so deep inside it, contradicted
PAST, REACH = 0.02, 0.4  # in a thing, past which rays run; around it, in which they are counted
COLOR = 0.16  # largest colour difference
INSIDE, ELSE, THROUGH = 1.5, 0.7, 0.6  # weights of samples inside, of another colour, and of rays
LAMP = 0.3  # half width of the column under the ceiling's middle in which the lamp hangs
CHANGING = ("books", "plaid", "stripes", "drawers", "doors")  # patterns of several colours
PICTURE, WINDOW = 0.03, 0.04  # how far the faces of pictures and windows stand out from the wall
FRAME, SILL = 0.15, 0.1  # around doorways and windows, within which samples belong to them
FLAT_GAP = 0.008  # from such a face, within which a sample belongs to it


@dataclass(frozen=True)
class Found:
    """A thing that was recognised, and the number of samples that it explains."""

    thing: Placed
    score: float


def find_things(
    evidence: Evidence, shell: Shell, openings: Sequence[Opening], palette: Palette | None
) -> list[Placed]:
    """The things that stand and hang at the seen walls of a room."""
    evidence = evidence[~_at_openings(evidence, shell, openings)]
    flat = [thing for wall in range(4) for thing in _flat_things(evidence, shell, wall)]
    samples, rays, all_rays = (
        _loose(evidence, shell),
        _rays(evidence.thinned(RAYS)),
        _rays(evidence),
    )
    for thing in flat:
        low, high = _bounds(shell, thing, SILL)
        samples = samples[~within(samples.point, low, high)]
    things: list[Placed] = []
    for group in groups(samples.point, TOGETHER, LEAST):
        rest = samples[group]
        while len(rest) >= LEAST and len(things) < MOST:
            found = _best(rest, rays, shell, palette)
            if found is None or found.score < LEAST:
                break
            low, high = _bounds(shell, found.thing, 0.06)
            explained = within(rest.point, low, high)
            if not explained.any():
                break
            rest = rest[~explained]
            space = thing_space(shell.walls, found.thing)
            meets = any(overlap(space, thing_space(shell.walls, thing)) for thing in things)
            parts = _parts_of(shell, found.thing)
            if not meets and _rays_through(all_rays, parts) <= CONTRADICTION:
                things.append(found.thing)
    return things + flat


def _at_openings(evidence: Evidence, shell: Shell, openings: Sequence[Opening]) -> Array:
    """Whether samples belong to the frame of a doorway."""
    rows = np.zeros(len(evidence), dtype=bool)
    for opening in openings:
        axis, at = axis_of(opening.wall), shell.walls[opening.wall]
        side = evidence.point[:, 2 - axis]
        beside = (side > opening.low - FRAME) & (side < opening.high + FRAME)
        rows |= beside & (np.abs(evidence.point[:, axis] - at) < 2 * CASING_DEPTH)
    return rows


# ---- standing things -----------------------------------------------------------------------------


def _loose(evidence: Evidence, shell: Shell) -> Evidence:
    """Samples inside the room that are on no wall, floor, ceiling or lamp."""
    point = evidence.point
    rows = (point[:, 1] < -CLEAR) & (point[:, 1] > -OVER_DOOR)
    for axis in (0, 2):
        low, high = limits(shell, axis)
        rows &= (point[:, axis] > low + CLEAR) & (point[:, axis] < high - CLEAR)
    (x0, x1), (z0, z1) = limits(shell, 0), limits(shell, 2)
    if np.isfinite([x0, x1, z0, z1]).all() and shell.ceiling is not None:
        middle = (x0 + x1) / 2, (z0 + z1) / 2
        near = (np.abs(point[:, 0] - middle[0]) < LAMP) & (np.abs(point[:, 2] - middle[1]) < LAMP)
        rows &= ~(near & (point[:, 1] < shell.ceiling + 0.7))
    return evidence[rows]


def _rays(evidence: Evidence) -> tuple[Array, Array]:
    """Eyes and ways of the rays."""
    way = evidence.point - evidence.eye
    return evidence.eye, np.where(np.abs(way) < 1e-6, 1e-6, way)


def _best(
    samples: Evidence, rays: tuple[Array, Array], shell: Shell, palette: Palette | None
) -> Found | None:
    """The thing that explains most of the samples."""
    if len(samples) > SAMPLES:
        chosen = np.random.default_rng(0).permutation(len(samples))[:SAMPLES]
        share, samples = len(samples) / SAMPLES, samples[np.sort(chosen)]
    else:
        share = 1.0
    best: Found | None = None
    for wall in range(4):
        if shell.walls[wall] is None:
            continue
        for kind in STANDING:
            least = -np.inf if best is None else best.score
            found = _propose(samples, rays, shell, palette, kind, wall, least)
            if found is not None and found.score > least:
                best = found
    if best is None:
        return None
    best = _refine(samples, rays, shell, best)
    return Found(best.thing, best.score * share)


def _propose(
    samples: Evidence,
    rays: tuple[Array, Array],
    shell: Shell,
    palette: Palette | None,
    kind: str,
    wall: int,
    least: float,
) -> Found | None:
    """The best place and width of one kind at one wall; None if no score can be above `least`."""
    thing, at, side = THINGS[kind], shell.walls[wall], 2 - axis_of(wall)
    out = inward(wall) * (samples.point[:, axis_of(wall)] - at)
    near = samples[out < thing.depth[1] + 0.1]
    if len(near) < max(LEAST, least):
        return None
    low, high = limits(shell, side)
    along, (narrow, wide) = near.point[:, side], thing.width
    first = max(low + narrow / 2 + WALL_GAP, along.min() - wide / 2 + NEAR)
    last = min(high - narrow / 2 - WALL_GAP, along.max() + wide / 2 - NEAR)
    if last < first:
        return None
    places = np.arange(first, last + STEP, STEP)
    widths = np.linspace(narrow, wide, WIDTHS)
    place, width = (grid.ravel() for grid in np.meshgrid(places, widths))
    fits = (place - width / 2 >= low) & (place + width / 2 <= high)
    # A thing scores no more than the samples that are beside it along the wall.
    order = np.sort(along)
    beside = np.searchsorted(order, place + width / 2 + NEAR)
    beside -= np.searchsorted(order, place - width / 2 - NEAR)
    fits &= beside > least
    place, width = place[fits], width[fits]
    if len(place) == 0:
        return None
    sizes = _sizes(kind, width)
    scores = _scores(near, shell, palette, kind, wall, place, sizes)
    best: Found | None = None
    for i in np.argsort(-scores)[:4]:
        w, d, h = (float(value) for value in sizes[i])
        placed = Placed(kind, wall, float(place[i]), (w, d, h))
        through = _rays_through(
            rays, part_boxes(shell, kind, wall, place[i : i + 1], sizes[i : i + 1])[0]
        )
        score = float(scores[i]) - THROUGH * through
        if best is None or score > best.score:
            best = Found(placed, score)
    return best


def _sizes(kind: str, width: Array) -> Array:
    thing = THINGS[kind]
    depth = width if kind in ROUND else np.full_like(width, sum(thing.depth) / 2)
    height = width if kind == "ball" else np.full_like(width, sum(thing.height) / 2)
    return np.stack([width, depth, height], 1)


def part_boxes(shell: Shell, kind: str, wall: int, along: Array, sizes: Array) -> Array:
    """The boxes [n p 2 3] of a thing's parts, at n places with n sizes."""
    thing, axis = THINGS[kind], axis_of(wall)
    span = np.array([part.span for part in thing.parts])[None]
    width, depth, height = (sizes[:, i, None] for i in range(3))
    out = inward(wall) * depth[..., None] * span[..., 2:4] + shell.walls[wall]
    boxes = np.empty((len(along), len(thing.parts), 2, 3))
    boxes[..., axis] = np.sort(out, -1)
    boxes[..., 2 - axis] = along[:, None, None] + (span[..., :2] - 0.5) * width[..., None]
    boxes[..., 1] = -(thing.raised + span[..., 5:3:-1] * height[..., None])
    return boxes


def _scores(
    samples: Evidence,
    shell: Shell,
    palette: Palette | None,
    kind: str,
    wall: int,
    along: Array,
    sizes: Array,
) -> Array:
    """How well each proposal explains the samples, before rays through it are counted."""
    thing = THINGS[kind]
    boxes = part_boxes(shell, kind, wall, along, sizes)
    distance, part = _nearest_part(thing, boxes, samples.point)
    explained = np.abs(distance) < NEAR
    right = (
        explained if palette is None else explained & _right_color(thing, palette, samples, part)
    )
    inside = (distance < -DEEP).sum(1)
    return right.sum(1) - INSIDE * inside - ELSE * (explained & ~right).sum(1)


def _nearest_part(thing: Thing, boxes: Array, points: Array) -> tuple[Array, Array]:
    """Signed distances [n m] of the points from the nearest part of each proposal, and which it is."""
    beyond = np.maximum(boxes[:, :, None, 0] - points, points - boxes[:, :, None, 1])
    distance = np.linalg.norm(beyond.clip(min=0), axis=-1) + beyond.max(-1).clip(max=0)
    for i, part in enumerate(thing.parts):
        if part.ball:
            middle = boxes[:, i].mean(1)[:, None]
            radius = (boxes[:, i, 1] - boxes[:, i, 0]).min(-1)[:, None] / 2
            distance[:, i] = np.linalg.norm(points - middle, axis=-1) - radius
    part = distance.argmin(1)
    return np.take_along_axis(distance, part[:, None], 1)[:, 0], part


def _right_color(thing: Thing, palette: Palette, samples: Evidence, part: Array) -> Array:
    """Whether each sample has the colour of its part, but for the shade."""
    main = np.array([part_colors(palette, p.color)[0] for p in thing.parts])
    color = main[part]
    shade = samples.color.sum(-1) / color.sum(-1).clip(min=0.1)
    difference = np.abs(samples.color - color * shade.clip(0.5, 1.25)[..., None]).max(-1)
    changing = np.array([p.pattern in CHANGING for p in thing.parts])
    return (difference < COLOR) | changing[part]


def _rays_through(rays: tuple[Array, Array], boxes: Array) -> int:
    """Rays that run through the middle of the parts [p 2 3] of a thing."""
    eye, way = rays
    low, high = boxes[:, None, 0] + NEAR, boxes[:, None, 1] - NEAR
    solid = (low < high).all(-1)
    return int((runs_through(eye, way, low, high, 0.97) & solid).any(0).sum())


def _refine(samples: Evidence, rays: tuple[Array, Array], shell: Shell, found: Found) -> Found:
    """The thing moved and resized in small steps as long as that brings samples closer, and rays past
    it."""
    thing = THINGS[found.thing.kind]
    place, size = found.thing.along, np.array(found.thing.size)
    kind, wall = found.thing.kind, found.thing.wall
    least, most = np.array([thing.width, thing.depth, thing.height]).T
    low, high = limits(shell, 2 - axis_of(wall))

    eye, way = rays
    near = runs_through(eye, way, *_bounds(shell, found.thing, REACH))
    eye, way = eye[near], way[near]

    def closeness(along: Array, sizes: Array) -> Array:
        boxes = part_boxes(shell, kind, wall, along, sizes)
        distance, _ = _nearest_part(thing, boxes, samples.point)
        close = np.exp(-((distance / 0.02) ** 2)).sum(1) - 2 * (distance < -0.03).sum(1)
        low, high = boxes[:, :, None, 0] + PAST, boxes[:, :, None, 1] - PAST
        solid = (low < high).all(-1)
        through = runs_through(eye, way, low, high, 0.97) & solid
        return close - through.any(1).sum(1)

    for step in (0.12, 0.04, 0.02, 0.01, 0.005):
        for _ in range(6):
            moves = np.array([(0, 0, 0, 0), *(s * row for row in np.eye(4) for s in (-step, step))])
            moves = np.concatenate([moves, [(step / 2, step, 0, 0), (-step / 2, step, 0, 0),
                                            (step / 2, -step, 0, 0), (-step / 2, -step, 0, 0)]])  # fmt: skip
            along, sizes = place + moves[:, 0], (size + moves[:, 1:]).clip(least, most)
            if kind in ROUND:
                sizes[:, 1] = sizes[:, 0]
            inside = (along - sizes[:, 0] / 2 >= low) & (along + sizes[:, 0] / 2 <= high)
            values = np.where(inside, closeness(along, sizes), -np.inf)
            best = int(values.argmax())
            if best == 0 or values[best] <= values[0] + 1e-9:
                break
            place, size = float(along[best]), sizes[best]
    w, d, h = (float(value) for value in size)
    return Found(Placed(kind, wall, place, (w, d, h)), found.score)


def _bounds(shell: Shell, placed: Placed, gap: float) -> tuple[Array, Array]:
    boxes = _parts_of(shell, placed)
    return boxes[:, 0].min(0) - gap, boxes[:, 1].max(0) + gap


def _parts_of(shell: Shell, placed: Placed) -> Array:
    """The boxes [p 2 3] of a thing's parts."""
    along, size = np.array([placed.along]), np.array([placed.size])
    return part_boxes(shell, placed.kind, placed.wall, along, size)[0]


# ---- flat things ---------------------------------------------------------------------------------


def _flat_things(evidence: Evidence, shell: Shell, wall: int) -> list[Placed]:
    """The pictures and windows on a wall."""
    at, side = shell.walls[wall], 2 - axis_of(wall)
    if at is None:
        return []
    out = inward(wall) * (evidence.point[:, axis_of(wall)] - at)
    low, high = limits(shell, side)
    beside = evidence.point[:, side]
    inside = evidence.facing(wall) & (beside > low) & (beside < high)
    inside &= (evidence.point[:, 1] > -2.4) & (evidence.point[:, 1] < -0.8)
    things = []
    for kind, face in (("picture", PICTURE), ("window", WINDOW)):
        samples = evidence[inside & (np.abs(out - face) < min(FLAT_GAP, (WINDOW - PICTURE) / 2))]
        for group in groups(samples.point, TOGETHER, LEAST):
            things.append(_flat_thing(kind, wall, samples[group], side, (low, high)))
    return things


def _flat_thing(
    kind: str, wall: int, samples: Evidence, side: int, room: tuple[float, float]
) -> Placed:
    """A picture or window from the samples on its face."""
    thing, half = THINGS[kind], float(np.median(samples.size)) / 2
    low, high = samples.point[:, side].min() - half, samples.point[:, side].max() + half
    up = -samples.point[:, 1].min() + half - thing.raised
    width = float(np.clip(high - low, *thing.width))
    height = float(np.clip(up, *thing.height))
    along = (low + high) / 2
    along = float(np.clip(along, room[0] + width / 2 + WALL_GAP, room[1] - width / 2 - WALL_GAP))
    return Placed(kind, wall, along, (width, sum(thing.depth) / 2, height))
