"""Tiles: the seen floor and walls of a photographed room, continued over the whole of them.

In: a plan, context views, and pictures rendered from the plan. Out: the pictures with the photograph's
own surfaces. A surface is seen straight on (rectified), freed from uneven light, and quilted. It
changes what is rendered by its colour over the plan's, so the light stays that of the rendered house.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from vmemkit.core import Cameras, Views, in_image, project, resize, unproject
from vmemkit.generation.writer.evidence import Array, axis_of
from vmemkit.generation.writer.photographs import LIGHT, is_photographed
from vmemkit.generation.writer.quilting import quilt
from vmemkit.scenes.house import (
    CORNICE,
    SKIRTING,
    Color,
    Plan,
    Point,
    Room,
    Rooms,
    Solid,
    build,
    finish_of,
)

# Lengths are in metres.
CELL = 0.02  # side of a cell of a tile
ROWS = 200  # pixel rows of a view that are used: finer ones would not fit the cells
SAME, MADE_SAME = 0.08, 0.01  # from the surface, within which given and generated pixels show it
COARSE = 4  # cells that a pixel may cover
ON_SURFACE = 0.004  # from a rendered point to the surface that it is on
LIGHT_ROWS = 40  # pixel rows of small pictures, which tell how the rendered house is lit
GAINS = (0.6, 1.6)  # of uneven light
SHARP = 0.5  # share of a pixel's length on the surface over which colours are averaged
LEVELS = 4  # of a tile, each half as fine as the one before


@dataclass(frozen=True, repr=False)
class Face:
    """The floor or a wall of a room: a rectangle on the plane `axis` = `at`, in the frame."""

    axis: int
    at: float
    low: Point  # corners of the room
    high: Point
    paint: Color  # in the plan

    @property
    def across(self) -> tuple[int, int]:
        """The axes of its columns and rows."""
        return (0, 2) if self.axis == 1 else (2 - self.axis, 1)


@dataclass(frozen=True, repr=False)
class Tile:
    """What a face looks like, over its paint as it looks in mean light."""

    face: Face
    ratio: Float[Tensor, "3 h w"]  # one pixel for each cell, from the face's low corner


def find_tiles(plan: Plan, views: Views) -> list[Tile]:
    """The tiles of photographed rooms, as far as views (t,) with depth in the plan's frame show them.

    Given views are used if there are any, because generated ones repeat them. Views from inside a wall
    of the plan are left out.
    """
    rooms = [room for room in plan.rooms if is_photographed(room.palette)]
    if not rooms:
        return []
    views = views[views.given] if views.given.any() else views
    house = build(plan)
    views = views[house.in_the_open(views.cameras.position)]
    if len(views) == 0:
        return []
    height, width = views.image.shape[2:]
    if height > ROWS:
        views = resize(views, ROWS, max(1, round(width * ROWS / height)))
    lit = house.render(views.cameras, LIGHT_ROWS, max(1, round(width * LIGHT_ROWS / height)))
    tiles = []
    for room in rooms:
        floor = _face(room, 1, 0.0, room.palette.wood)
        walls = [
            _face(room, axis_of(wall), room.box[wall % 2][axis_of(wall)], room.palette.wall)
            for wall in range(4)
        ]
        tiles += _tiles([floor], views, lit)
        tiles += _tiles(walls, views, lit)
    return tiles


def with_flat_floors(plan: Plan, tiles: list[Tile]) -> Rooms:
    """The house of the plan, in which floors that have a tile are of one colour."""
    house = build(plan)
    plain = finish_of([Solid(plan.rooms[0].box, "plain", (plan.rooms[0].palette.wood,) * 3, 0)])
    pattern = house.floors.pattern.clone()
    for tile in tiles:
        for i, room in enumerate(plan.rooms):
            if tile.face.axis == 1 and tile.face.low == room.box[0]:
                pattern[i] = plain.pattern[0]
    return replace(house, floors=house.floors.replace(pattern=pattern))


def lay(rendered: Views, tiles: list[Tile]) -> Float[Tensor, "m 3 h w"]:
    """The pictures of rendered views (m,), in the plan's frame, with the tiles on their faces."""
    image = rendered.image.clone()
    for i in range(len(rendered)):
        view = rendered[i : i + 1]
        points = unproject(view.cameras, view.depth)[0]
        for tile in tiles:
            shows = _is_on(tile.face, points)
            here = points[shows]
            size = _pixel_size(view.cameras, here, tile.face.axis, image.shape[2])
            image[i, :, shows] *= _looked_up(tile, here, size).T
    return image.clamp(0, 1)


# ---- making tiles --------------------------------------------------------------------------------


def _face(room: Room, axis: int, at: float, paint: Color) -> Face:
    return Face(axis, at, *room.box, paint)


def _tiles(faces: list[Face], views: Views, lit: Views) -> list[Tile]:
    """The tiles of faces that look alike, with pieces from the plainest one that is seen well."""
    seen = [_rectified(face, views) for face in faces]
    most = max(int(known.sum()) for _, known in seen)
    well = [patch for patch in seen if patch[1].sum() > most / 2]
    if not well:
        return []
    color, known = min(well, key=lambda patch: _unevenness(*patch))
    tiles, light = [], _light(faces, lit)
    for face, (own_color, own_known) in zip(faces, seen, strict=True):
        whole = quilt(own_color, own_known, color, known, rows=face.axis != 1)
        if whole is not None:
            paint = np.array(face.paint) * light
            ratio = torch.from_numpy(whole / paint.clip(0.02)).float().permute(2, 0, 1)
            tiles.append(Tile(face, ratio))
    return tiles


def _light(faces: list[Face], lit: Views) -> float:
    """The middle brightness of the faces over their paint, in the rendered house where the views look."""
    points, image = unproject(lit.cameras, lit.depth), lit.image.permute(0, 2, 3, 1)
    light = [image[_is_on(face, points)].mean(1) / max(sum(face.paint) / 3, 0.02) for face in faces]
    light = torch.cat(light)
    return float(light.median()) if len(light) else LIGHT


def _unevenness(picture: Array, known: Array) -> float:
    """The middle difference of the known part's colours from their median."""
    seen = picture[known]
    return float(np.median(np.abs(seen - np.median(seen, 0)).mean(1)))


def _rectified(face: Face, views: Views) -> tuple[Array, Array]:
    """The face seen straight on [h w 3] without uneven light, and where it is seen [h w]."""
    u, v = face.across
    columns, rows = (
        face.low[axis] + (torch.arange(_cells(face, axis)) + 0.5) * CELL for axis in (u, v)
    )
    points = torch.empty(len(rows), len(columns), 3)
    points[..., u], points[..., v], points[..., face.axis] = columns, rows[:, None], face.at
    flat = points.reshape(-1, 3)
    color, known = torch.zeros(len(flat), 3), torch.zeros(len(flat), dtype=torch.bool)
    for i in range(len(views)):
        new, shows = _seen_in(views[i : i + 1], flat, face.axis)
        take = shows & ~known
        color[take], known = new[take], known | take
    shape = points.shape[:2]
    picture, mask = color.view(*shape, 3).double().numpy(), known.view(shape).numpy()
    return _evenly_lit(picture, mask), mask


def _cells(face: Face, axis: int) -> int:
    return max(1, round((face.high[axis] - face.low[axis]) / CELL))


def _seen_in(
    view: Views, points: Float[Tensor, "n 3"], axis: int
) -> tuple[Float[Tensor, "n 3"], Bool[Tensor, " n"]]:
    """The colours of the points in one view (1,), and whether it shows them finely enough."""
    uv, depth = project(view.cameras, points)
    grid = (2 * uv - 1)[:, :, None]
    sampled = grid_sample(view.image, grid, padding_mode="border", align_corners=False)
    measured = grid_sample(view.depth[:, None], grid, "nearest", align_corners=False)[0, 0, :, 0]
    off = (measured / depth[0] - 1) * (points[:, axis] - view.cameras.position[0, axis])
    shows = in_image(uv, depth)[0] & (off.abs() < (SAME if bool(view.given) else MADE_SAME))
    size = _pixel_size(view.cameras, points, axis, view.image.shape[2])
    return sampled[0, :, :, 0].T, shows & (size < COARSE * CELL)


def _pixel_size(
    camera: Cameras, points: Float[Tensor, "n 3"], axis: int, height: int
) -> Float[Tensor, " n"]:
    """Metres from one pixel of a camera (1,) to the next on the plane across `axis`."""
    sight = points - camera.position
    distance = sight.norm(dim=1)
    slant = (sight[:, axis].abs() / distance).clamp(min=0.02)
    return distance / (camera.K[0, 1, 1] * height) / slant


def _evenly_lit(picture: Array, known: Array) -> Array:
    """The picture without a smooth change of brightness: a quadratic fit to the known part."""
    if known.sum() < 12:
        return picture
    h, w = known.shape
    y, x = np.mgrid[:h, :w] / max(h, w)
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    brightness = picture.mean(2)
    fit = basis @ np.linalg.lstsq(basis[known], brightness[known], rcond=None)[0]
    gain = (fit / max(float(brightness[known].mean()), 1e-3)).clip(*GAINS)
    return picture / gain[..., None]


# ---- laying tiles --------------------------------------------------------------------------------


def _is_on(face: Face, points: Float[Tensor, "*b 3"]) -> Bool[Tensor, "*b"]:
    """Which points are on the face, between the boards at the foot and the top of a wall."""
    shows = (points[..., face.axis] - face.at).abs() < ON_SURFACE
    for axis in face.across:
        low, high = face.low[axis], face.high[axis]
        if axis == 1:
            low, high = low + CORNICE, high - SKIRTING
        shows &= (points[..., axis] > low) & (points[..., axis] < high)
    return shows


def _looked_up(
    tile: Tile, points: Float[Tensor, "n 3"], size: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """The tile's ratio at points on its face, averaged over about `size` metres."""
    u, v = tile.face.across
    place = torch.stack([points[:, axis] - tile.face.low[axis] for axis in (u, v)], 1) / CELL
    level = (SHARP * size / CELL).log2().round().clamp(0, LEVELS - 1)
    ratio, result = tile.ratio[None], torch.zeros_like(points)
    whole = place.new_tensor([tile.ratio.shape[2], tile.ratio.shape[1]])
    for i in range(LEVELS):
        rows = level == i
        grid = (2 * place[rows] / whole - 1)[None, :, None]
        found = grid_sample(ratio, grid, padding_mode="border", align_corners=False)
        result[rows] = found[0, :, :, 0].T
        if min(ratio.shape[2:]) > 1:
            ratio = avg_pool2d(ratio, 2, ceil_mode=True)
    return result
