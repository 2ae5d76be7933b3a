"""House drawings: plans of houses, and the facts about them, seen straight from above.

In: a `Plan`, or `Facts`, which are a plan with holes. Out: a floor plan like an architect's. Walls are
lines with gaps at the doorways. A side of a room whose wall is unknown is left open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon, Rectangle

from vmemkit.core import Cameras
from vmemkit.figures.colors import CARD, CARD_INK, CARD_QUIET, INK, text_color, view_hex
from vmemkit.figures.picture import PAGE_WIDTH, Picture, fitting
from vmemkit.generation import Facts, thing_space
from vmemkit.scenes.house import (
    THINGS,
    WALL_THICKNESS,
    Box,
    Palette,
    Placed,
    Plan,
    bounds,
    part_colors,
)

# Lengths are in metres.
AROUND = 0.4  # around a drawing
OPEN = 1.6  # from a place in a room to a side whose wall is unknown
CAMERA = 0.55  # length of a drawn camera
WALL_LINE = 2.5  # points
FLAT = 0.12  # depth up to which a thing hangs on the wall, as pictures and windows do
DIM = 0.38  # share of the card in a room's colour
UNKNOWN = (0.6, 0.6, 0.6)  # colour of what has no palette
TITLE_SPACE = 0.7
LABEL_SIZE, LEAST_SIZE = 8.0, 5.5  # points: of a thing's name, and the least at which it is drawn
LABEL: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5}
TITLE: dict[str, Any] = {"fontsize": 10, "ha": "center", "va": "top", "color": CARD_INK}

Side = tuple[float, float]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class _Area:
    """A room to draw, from above."""

    x: Side
    z: Side
    known: tuple[bool, bool, bool, bool]  # whether there are walls at -x, +x, -z and +z
    palette: Palette | None
    rug: Side | None
    things: tuple[tuple[Placed, Box], ...]


@dataclass(frozen=True)
class _Gap:
    """A doorway to draw, from above."""

    axis: int
    across: Side
    along: Side


def floor_plan(
    *houses: Plan | Facts, path: Cameras | None = None, titles: Sequence[str] = ()
) -> Picture:
    """Houses side by side at one scale, with x to the right and z up, and a title above each.

    `Facts` are drawn as far as they are known: a side without a wall is open. The cameras (m,) of
    `path` have the colours of views; they must be in the frame of the houses, which for a `Draft` is
    that of its walls.
    Errors: ValueError for no houses, and for facts without rooms.
    """
    drawings = [
        _of_plan(house) if isinstance(house, Plan) else _of_facts(house) for house in houses
    ]
    if not drawings or not all(areas for areas, _ in drawings):
        raise ValueError(f"a floor plan needs houses with rooms, got {houses}")
    areas = [area for drawn, _ in drawings for area in drawn]
    x = min(area.x[0] for area in areas) - AROUND, max(area.x[1] for area in areas) + AROUND
    above = AROUND + (TITLE_SPACE if titles else 0.0)
    z = min(area.z[0] for area in areas) - AROUND, max(area.z[1] for area in areas) + above
    height = PAGE_WIDTH / len(houses) * (z[1] - z[0]) / (x[1] - x[0])
    picture = Picture(PAGE_WIDTH, height)
    for i, (rooms, gaps) in enumerate(drawings):
        axes = picture.add_axes((i / len(houses), 0, 1 / len(houses), 1))
        axes.set(xlim=x, ylim=z, aspect="equal")
        axes.set_axis_off()
        for room in rooms:
            _draw_room(axes, room, PAGE_WIDTH / len(houses) / (x[1] - x[0]))
        for gap in gaps:
            _draw_gap(axes, gap)
        if i < len(titles):
            axes.text(0.5, 0.98, titles[i], transform=axes.transAxes, **TITLE)
        for view, camera in enumerate([] if path is None else path):
            _draw_camera(axes, camera, view_hex(view))
    return picture


def _of_plan(plan: Plan) -> tuple[list[_Area], list[_Gap]]:
    areas = [
        _Area(
            x=(room.box[0][0], room.box[1][0]),
            z=(room.box[0][2], room.box[1][2]),
            known=(True, True, True, True),
            palette=room.palette,
            rug=room.rug,
            things=tuple((thing, bounds(room.box, thing)) for thing in room.things),
        )
        for room in plan.rooms
    ]
    gaps = []
    for door in plan.doorways:
        low, high = door.box
        along = 2 - door.axis
        gaps.append(_Gap(door.axis, (low[door.axis], high[door.axis]), (low[along], high[along])))
    return areas, gaps


def _of_facts(facts: Facts) -> tuple[list[_Area], list[_Gap]]:
    areas = []
    for room in facts.rooms:
        things = tuple(
            (thing, thing_space(room.walls, thing))
            for thing in room.things
            if room.walls[thing.wall] is not None
        )
        sides = []
        for axis in (0, 2):
            low, high = room.walls[axis], room.walls[axis + 1]
            inside = [room.inside[axis], *(box[end][axis] for _, box in things for end in (0, 1))]
            low = min(inside) - OPEN if low is None else low
            sides.append((low, max(inside) + OPEN if high is None else high))
        a, b, c, d = (wall is not None for wall in room.walls)
        rug = (
            room.rug if None not in room.walls else None
        )  # it lies in the middle, if that is known
        areas.append(_Area(sides[0], sides[1], (a, b, c, d), room.palette, rug, things))
    gaps = []
    for door in facts.doors:
        low, high = door.walls
        low = high - WALL_THICKNESS[0] if low is None and high is not None else low
        high = low + WALL_THICKNESS[0] if high is None and low is not None else high
        if low is not None and high is not None:
            gaps.append(_Gap(door.axis, (low, high), door.seen))
    return areas, gaps


def _draw_room(axes: Axes, room: _Area, scale: float) -> None:
    """A floor with its things; `scale` is in inches of the page per metre."""
    (x0, x1), (z0, z1) = room.x, room.z
    palette = room.palette
    floor = UNKNOWN if palette is None else palette.wall
    axes.add_patch(Rectangle((x0, z0), x1 - x0, z1 - z0, color=_dim(floor), zorder=0))
    if room.rug is not None:
        a, b = room.rug
        corner = (x0 + x1 - a) / 2, (z0 + z1 - b) / 2
        color = UNKNOWN if palette is None else palette.textile
        axes.add_patch(Rectangle(corner, a, b, color=_dim(color), zorder=1))
    for thing, (low, high) in room.things:
        size = high[0] - low[0], high[2] - low[2]
        main = THINGS[thing.kind].parts[0].color
        color = UNKNOWN if palette is None else part_colors(palette, main)[0]
        box = Rectangle((low[0], low[2]), *size, facecolor=color, edgecolor=INK, linewidth=0.7)
        axes.add_patch(box)
        letters = fitting(thing.kind, scale * max(size), LABEL_SIZE)
        if min(size) > FLAT and letters >= LEAST_SIZE:
            x, z = low[0] + size[0] / 2, low[2] + size[1] / 2
            turned = 90 if size[1] > size[0] else 0
            ink = text_color(torch.tensor(color))
            axes.text(x, z, thing.kind, size=letters, color=ink, rotation=turned, **LABEL)
    ends = [((x0, x0), (z0, z1)), ((x1, x1), (z0, z1)), ((x0, x1), (z0, z0)), ((x0, x1), (z1, z1))]
    for (x, z), known in zip(ends, room.known, strict=True):
        if known:
            axes.plot(
                x, z, color=CARD_INK, linewidth=WALL_LINE, solid_capstyle="projecting", zorder=3
            )


def _dim(color: Sequence[float]) -> Color:
    """The colour of a floor, dark enough for the walls around it to stand out."""
    r, g, b = (
        DIM * card + (1 - DIM) * value for card, value in zip(to_rgb(CARD), color, strict=True)
    )
    return r, g, b


def _draw_gap(axes: Axes, gap: _Gap) -> None:
    """A doorway: the floor goes on, between two short walls."""
    (a, b), (c, d) = gap.across, gap.along
    corner, size = ((a, c), (b - a, d - c)) if gap.axis == 0 else ((c, a), (d - c, b - a))
    axes.add_patch(Rectangle(corner, *size, color=CARD, zorder=4))
    for at in gap.along:
        x, z = ((a, b), (at, at)) if gap.axis == 0 else ((at, at), (a, b))
        axes.plot(x, z, color=CARD_QUIET, linewidth=WALL_LINE, solid_capstyle="butt", zorder=4)


def _draw_camera(axes: Axes, camera: Cameras, color: str) -> None:
    x, _, z = camera.position.tolist()
    right, ahead = camera.rotation[:, 0].tolist(), camera.rotation[:, 2].tolist()
    wide = 0.5 / float(camera.K[0, 0])  # tangent of half the angle of view
    corners = [(x, z)]
    for side in (-wide, wide):
        corners.append(
            (
                x + CAMERA * (ahead[0] + side * right[0]),
                z + CAMERA * (ahead[2] + side * right[2]),
            )
        )
    axes.add_patch(Polygon(corners, facecolor=color, edgecolor=INK, linewidth=0.5, zorder=6))
