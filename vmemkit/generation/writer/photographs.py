"""Photographs: the room that given views show, where it is none of our made-up houses.

In: views with depth, which may be noisy and have holes. Out: the frame of the walls and the facts of
one room in the photograph's own colours, or None where no floor and walls are found.
Normals come from medians of blocks of pixels. A wall is the outermost plane that many samples agree on.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import LUMA, Views, crop
from vmemkit.generation.writer.evidence import (
    LEVEL,
    Array,
    Evidence,
    axis_of,
    common_heading,
    frame,
    gather,
    inward,
)
from vmemkit.generation.writer.facts import RoomFacts, Walls
from vmemkit.generation.writer.walls import ON_WALL
from vmemkit.scenes.house import PALETTES, Color, Palette

# Lengths are in metres.
ROWS = 40  # blocks of pixels from the top of a view to its bottom
FACING = 0.85  # cosine from which a noisy normal counts as along an axis
BINS = 30  # into which the headings within 90 degrees are sorted
EYE_HEIGHTS = (0.4, 2.2)  # above the floor
WALLS_AWAY = (0.8, 8.0)  # least and greatest distance of a wall from the eye
CEILINGS = -2.0  # y above which a level surface is a ceiling
CLOSE = 0.12  # from a plane, within which a sample belongs to it
BIN = 0.04  # width of a bin into which coordinates are sorted
LEAST_FLOOR, LEAST_WALL = 0.03, 0.04  # shares of a view's samples that a floor and a wall need
LEAST_UPRIGHT = 0.2  # share of samples that face like walls
LEAST_PEAK = 0.3  # a wall has at least this share of the samples of the largest plane
OVER_PICTURE = 0.15  # from the highest sample of a wall to a ceiling that no view shows
ROOM_HIGH = 2.5  # least height of a ceiling
EXPECTED, REACH = 0.8, 9.0  # share of samples that may be walls and floors, and their farthest
ENOUGH_WALL = 80  # samples of walls that tell a palette
EXACT = 0.99  # cosine between such a sample's normal and an axis
GREY = 0.02  # largest difference of the channels in a grey photograph
LIGHT = (
    0.89  # mean light on the walls of 12 of our houses, by which paint is brighter than it looks
)
SECOND = 0.7  # brightness of a room's second colour, of its wall's


def find_photo_frame(views: Views) -> Float[Tensor, "4 4"]:
    """frame_from_world as `find_frame` has it, from noisy normals; y points down along gravity."""
    samples = gather(_blocks(views), torch.eye(4))
    upright = (np.abs(samples.normal[:, 1]) < LEVEL) & (samples.area > 0)
    heading = np.arctan2(samples.normal[:, 0], samples.normal[:, 2])
    turn = round(common_heading(heading, upright.astype(float), BINS), 3)
    level = _level(samples)
    below = samples.point[level, 1] - samples.eye[level, 1]
    low, high = EYE_HEIGHTS
    rows = (below > low) & (below < high)
    floor = _outermost(samples.point[level, 1][rows], LEAST_FLOOR * len(samples))
    return frame(turn, round(0.0 if floor is None else floor, 2))


def find_photo_room(views: Views, frame_from_world: Float[Tensor, "4 4"]) -> RoomFacts | None:
    """The room around the first view: its seen walls and its colours.

    None without a floor, without a wall, and where little else faces like walls.
    """
    samples = gather(_blocks(views), frame_from_world)
    on_floor = _level(samples) & (np.abs(samples.point[:, 1]) < CLOSE)
    if on_floor.sum() <= LEAST_FLOOR * len(samples):
        return None
    inside = samples.eye[0]
    a, b, c, d = (_wall(samples, inside, wall) for wall in range(4))
    walls: Walls = (a, b, c, d)
    on_walls = [_on_wall(samples, walls, wall) for wall in range(4)]
    upright = np.logical_or.reduce([samples.facing(wall, FACING) for wall in range(4)])
    if walls == (None,) * 4 or upright.mean() < LEAST_UPRIGHT:
        return None
    on_wall = np.logical_or.reduce(on_walls)
    return RoomFacts(
        inside=(float(inside[0]), float(inside[1]), float(inside[2])),
        walls=walls,
        ceiling=_ceiling(samples, on_wall),
        palette=_palette(views, samples, on_wall, on_floor),
        wall_finish="plaster",
        floor_finish="planks",
        rug=(0.0, 0.0),  # none: the photograph would show only a part of it
    )


def may_be_room(evidence: Evidence, rooms: Iterable[RoomFacts]) -> bool:
    """Whether nothing speaks against a room of ours, although no palette was found.

    What is seen must be near, and level or along the walls. Too little of the walls of the perceived
    rooms must be seen to tell a palette; else they are walls of something else.
    """
    distance = np.linalg.norm(evidence.point - evidence.eye, axis=1)
    along = np.abs(evidence.normal).max(1) > EXACT
    seen = sum(
        int(
            (
                evidence.facing(wall) & (np.abs(evidence.point[:, axis_of(wall)] - at) < ON_WALL)
            ).sum()
        )
        for room in rooms
        for wall, at in enumerate(room.walls)
        if at is not None
    )
    if len(evidence) == 0:
        return True
    return seen < ENOUGH_WALL and float((along & (distance < REACH)).mean()) > EXPECTED


def snap_to_planes(evidence: Evidence, room: RoomFacts) -> Evidence:
    """The samples, those near the room's floor and walls put onto them."""
    point = evidence.point.copy()
    planes = [(1, 0.0)]
    planes += [(axis_of(wall), at) for wall, at in enumerate(room.walls) if at is not None]
    for axis, at in planes:
        point[np.abs(point[:, axis] - at) < CLOSE, axis] = at
    return Evidence(**{**vars(evidence), "point": point})


# ---- colours -------------------------------------------------------------------------------------


def is_photographed(palette: Palette) -> bool:
    """Whether a palette is of a photograph, rather than one of our houses', in colour or grey."""
    return palette not in PALETTES and palette not in map(to_grey_palette, PALETTES)


def is_grey(palette: Palette) -> bool:
    """Whether the palette has no colour."""
    return palette == to_grey_palette(palette)


def to_grey_palette(palette: Palette) -> Palette:
    """The palette without colour."""

    def grey(color: Color) -> Color:
        value = color[0]
        if max(color) > min(color):
            value = round(sum(w * c for w, c in zip(LUMA, color, strict=True)), 3)
        return value, value, value

    return Palette(*(grey(color) for color in vars(palette).values()))


def shows_grey(image: Float[Tensor, "t 3 h w"]) -> bool:
    """Whether the pictures have no colour."""
    chroma = image.amax(1) - image.amin(1)
    return float((chroma > GREY).float().mean()) < GREY


def to_grey_views(views: Views) -> Views:
    """The views without colour."""
    weights = views.image.new_tensor(LUMA)[:, None, None]
    grey = (views.image * weights).sum(1, keepdim=True).expand_as(views.image)
    return views.replace(image=grey.clamp(0, 1))


def _palette(views: Views, samples: Evidence, on_wall: Array, on_floor: Array) -> Palette:
    """The colours of wall, wood (of the floor) and textile (of all else), as paint without light."""
    wall = np.median(samples.color[on_wall], 0) / LIGHT
    wood = np.median(samples.color[on_floor], 0) / LIGHT
    rest = ~on_wall & ~on_floor & (samples.point[:, 1] > CEILINGS)
    textile = SECOND * wood if rest.mean() < LEAST_WALL else np.median(samples.color[rest], 0)

    def color(value: Array) -> Color:
        r, g, b = (round(float(x), 3) for x in value.clip(0, 1))
        return r, g, b

    palette = Palette(color(wall), color(SECOND * wall), color(textile), color(wood))
    return to_grey_palette(palette) if shows_grey(views.image) else palette


# ---- planes --------------------------------------------------------------------------------------


def _blocks(views: Views) -> Views:
    """The views with one pixel for each block: mean colour and median depth."""
    h, w = views.depth.shape[1:]
    side = max(1, round(h / ROWS))
    views = crop(views, 0, 0, h // side * side, w // side * side)
    depth = views.depth.unfold(1, side, side).unfold(2, side, side).flatten(3)
    image = torch.nn.functional.avg_pool2d(views.image, side)
    return views.replace(image=image, depth=depth.nanmedian(3).values, confidence=None)


def _level(samples: Evidence) -> Array:
    return (samples.normal[:, 1] < -FACING) & (samples.area > 0)


def _wall(samples: Evidence, inside: Array, wall: int) -> float | None:
    """The coordinate of a wall, None if it is not seen."""
    axis, sign = axis_of(wall), inward(wall)
    out = -sign * (samples.point[:, axis] - inside[axis])
    rows = samples.facing(wall, FACING) & (out > WALLS_AWAY[0]) & (out < WALLS_AWAY[1])
    found = _outermost(out[rows], LEAST_WALL * len(samples))
    return None if found is None else round(float(inside[axis] - sign * found), 3)


def _on_wall(samples: Evidence, walls: Walls, wall: int) -> Array:
    at = walls[wall]
    if at is None:
        return np.zeros(len(samples), dtype=bool)
    return samples.facing(wall, FACING) & (np.abs(samples.point[:, axis_of(wall)] - at) < CLOSE)


def _ceiling(samples: Evidence, on_wall: Array) -> float | None:
    """y of the ceiling, or of one above all that is seen of high walls; None if it may be anywhere."""
    level = (samples.normal[:, 1] > FACING) & (samples.point[:, 1] < CEILINGS)
    found = _outermost(-samples.point[level, 1], LEAST_FLOOR * len(samples))
    if found is not None:
        return -round(found, 3)
    top = -float(np.quantile(samples.point[on_wall, 1], 0.01)) + OVER_PICTURE
    return -round(top, 3) if top > ROOM_HIGH else None


def _outermost(values: Array, least: float) -> float | None:
    """The middle of the last group of many equal values, None if no group has `least` of them."""
    if len(values) == 0:
        return None
    start, width = values.min() - CLOSE, round(CLOSE / BIN)
    count = np.bincount(((values - start) / BIN).astype(int), minlength=2 * width + 1)
    around = np.convolve(count, np.ones(2 * width + 1), "same")
    many = np.nonzero(around >= max(least, LEAST_PEAK * around.max(), 1))[0]
    if len(many) == 0:
        return None
    last = many[many > many[-1] - 2 * width]  # the bins of the last group
    weight = width + 1 - np.abs(np.arange(-width, width + 1))  # highest in the group's middle
    peak = last[np.convolve(count, weight, "same")[last].argmax()]
    near = np.abs(values - start - (peak + 0.5) * BIN) < CLOSE + BIN
    return float(np.median(values[near]))
