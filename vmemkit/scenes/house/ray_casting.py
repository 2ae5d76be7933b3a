"""Ray casting: a furnished house with exactly known colour, depth and visibility.

In: cameras, or points and cameras. Out: views with planar depth for every pixel; which camera sees
which point. The house is a union of open axis-aligned cells (rooms, and the doorways between them)
cut out of solid rock and furnished with boxes and balls. A ray passes from cell to cell until it
leaves the last one, so walls have thickness and occlude; the first box or ball on its way may stop
it earlier. All of it is closed form, batched over rays, in plain torch. Compiled twins of the slow
parts run on a CPU. They leave roots to torch, whose last bits differ from theirs.
Shading: a lamp and a window per room, and less light near other surfaces (after Evans, "Fast
approximations for global illumination on dynamic scenes", 2006).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import (
    Cameras,
    TensorStruct,
    Views,
    camera_list,
    cat,
    dot,
    in_image,
    pixel_centres,
    project,
    rays,
    whole,
)
from vmemkit.core.kernels import accelerated
from vmemkit.scenes.house.finishes import WHITE, Finish, Surface, mix, paint, skirting

# Lengths are in metres.
EYE_HEIGHT = 1.5  # height of room centres and doorways above the floor
VIEWER_RADIUS, VIEWER_SIDES = 0.3, 16  # a viewer is a regular polygon of that radius
HEADROOM = 0.1  # least height of an eye above the floor, and least gap to whatever hangs above it
FLAT, OVERHEAD = 0.05, 1.9  # lower things (rugs) and higher things (lamps) are no obstacles
SURFACE_TOLERANCE = 2e-3  # distance by which rounding may put a point behind its own surface
TINY = 1e-6  # replaces zeros in a ray's direction
MAX_RAYS = 2**28  # in one render: 5000 views of 256 x 192
RAYS_AT_ONCE = 2**17  # which bounds memory
RAYS_TIMES_BLOCKS = 2**20  # intersections at once: enough to keep two cores busy
AMBIENT, BOUNCE = 0.62, 0.10  # light from all sides, and light that the floor reflects upwards
LAMP_LIGHT, WINDOW_LIGHT = (0.42, 0.38, 0.30), (0.30, 0.33, 0.37)  # rgb: warm, cool
LAMP_DROP = 0.3  # from the ceiling to the lamp
FALLOFF = 0.10  # per square metre
WRAP = 0.25  # light on surfaces that face slightly away from a lamp
CORNER, CORNER_SHADE = 0.45, 0.40  # reach and strength of the shade in corners


@dataclass(frozen=True, repr=False)
class Blocks(TensorStruct):
    """Axis-aligned boxes, or the balls that fill such cubes. Metres, world."""

    low: Float[Tensor, "n 3"]
    high: Float[Tensor, "n 3"]
    finish: Finish

    @property
    def middle(self) -> Float[Tensor, "n 3"]:
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Float[Tensor, " n"]:
        return (self.high - self.low)[:, 0] / 2


@dataclass(frozen=True, repr=False)
class Hits(TensorStruct):
    """The first surface that each ray meets."""

    distance: Float[Tensor, " n"]  # in multiples of the ray's direction
    block: Int[Tensor, " n"]  # row of `Rooms.blocks`
    normal: Float[Tensor, "n 3"]  # unit, world, towards the viewer


@dataclass(frozen=True)
class Rooms:
    """A house. Metres; the floor is y = 0 and y points down."""

    cells: Blocks  # r rooms, then the doorways between them; their finish is the walls'
    floors: Finish  # one per cell
    ceilings: Finish  # one per cell
    boxes: Blocks
    balls: Blocks
    windows: Float[Tensor, "r 3"]  # where daylight enters each room

    def __len__(self) -> int:
        """The number of rooms."""
        return len(self.windows)

    def __repr__(self) -> str:
        return f"Rooms({len(self)} rooms, {len(self.boxes)} boxes, {len(self.balls)} balls)"

    def to(self, device: torch.device | str) -> Rooms:
        return Rooms(**{name: value.to(device) for name, value in vars(self).items()})

    @property
    def blocks(self) -> Blocks:
        """Cells, boxes and balls in one table, whose rows `Hits.block` names."""
        return cat([self.cells, self.boxes, self.balls])

    @property
    def centres(self) -> Float[Tensor, "r 3"]:
        """The middle of each room at eye height. The straight ways from there to the room's
        doorways are free."""
        return _at_eye_height(self.cells[: len(self)])

    @property
    def doorways(self) -> Float[Tensor, "d 3"]:
        """The middle of each doorway at eye height. In a row of rooms, the i-th leads from room i to
        room i + 1."""
        return _at_eye_height(self.cells[len(self) :])

    def room_of(self, points_world: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """The room that each point is in; -1 in a doorway or outside."""
        rooms = self.cells[: len(self)]
        inside = _inside(points_world, rooms.low, rooms.high)
        return torch.where(inside.any(1), inside.int().argmax(1), -1)

    def free(self, points_world: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Whether a viewer's eye can be there: in a room or a doorway, between floor and ceiling, and
        VIEWER_RADIUS away from walls and furniture."""
        angle = torch.linspace(0, 2 * torch.pi, VIEWER_SIDES + 1, device=points_world.device)[1:]
        ring = VIEWER_RADIUS * torch.stack([angle.cos(), torch.zeros_like(angle), angle.sin()], 1)
        body = torch.cat([ring, ring.new_tensor([[0.0, HEADROOM, 0.0], [0.0, -HEADROOM, 0.0]])])
        around = (points_world[:, None] + body).flatten(0, 1)
        in_cells = _inside(around, self.cells.low, self.cells.high).any(1)
        free = in_cells.view(-1, len(body)).all(1)
        plan, head = points_world[:, None, ::2], points_world[:, 1:2] - HEADROOM
        for blocks in (self.boxes, self.balls):
            obstacles = blocks[blocks.low[:, 1] < -FLAT]
            low, high = obstacles.low[:, ::2], obstacles.high[:, ::2]
            gap = torch.maximum(low - plan, plan - high).clamp(min=0).norm(dim=2)
            overhead = obstacles.high[:, 1] < head.clamp(max=-OVERHEAD)
            free &= (overhead | (gap > VIEWER_RADIUS)).all(1)
        return free

    def in_the_open(self, points_world: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Whether each point is inside a room or a doorway, and outside furniture."""
        gap = SURFACE_TOLERANCE  # nearer to a surface than this, depths would be zero or negative
        cells, boxes, balls = self.cells, self.boxes, self.balls
        is_open = _inside(points_world, cells.low + gap, cells.high - gap).any(1)
        is_open &= ~_inside(points_world, boxes.low - gap, boxes.high + gap).any(1)
        far_from_balls = torch.cdist(points_world, balls.middle) >= balls.radius + gap
        return is_open & far_from_balls.all(1)

    def render(self, cameras: Cameras, height: int, width: int, samples: int = 1) -> Views:
        """Views (t,) of height x width pixels, with exact planar depth in metres.

        At the edges of surfaces, a pixel's colour is the mean of `samples` x `samples` rays (2
        softens them); its depth is that of the ray through its centre.
        Errors: ValueError for a camera inside a wall or furniture, and for an impossible size.
        """
        cameras = camera_list(cameras, "the cameras to render", least=0)
        height, width, samples = (whole(n, "a size") for n in (height, width, samples))
        rays_needed = len(cameras) * height * width * samples**2
        if min(height, width, samples) < 1 or rays_needed > MAX_RAYS:
            raise ValueError(
                f"need images of at least 1 x 1 pixel and at most {MAX_RAYS} rays in all, got "
                f"{len(cameras)} of {height} x {width} with {samples} x {samples} samples"
            )
        _check_in_the_open(self, cameras)
        color, hits = _trace(self, cameras, (height, width))
        if samples > 1:
            edge = _at_edges(hits, height, width).nonzero()[:, 0]
            color[edge] = _traced_finely(self, cameras, (height, width), edge, samples)
        image = color.view(-1, height, width, 3).permute(0, 3, 1, 2).contiguous()
        depth = hits.distance.view(-1, height, width)
        given = torch.ones(len(cameras), dtype=torch.bool, device=depth.device)
        return Views(cameras, image, given, depth)

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera, inside its image, and not occluded.

        Errors: ValueError for a camera inside a wall or furniture.
        """
        _check_in_the_open(self, cameras)
        uv, depth = project(cameras, points_world)
        visible = in_image(uv, depth)
        view, point = visible.nonzero().unbind(1)
        origin = cameras.position[view]
        direction = points_world[point] - origin
        slack = SURFACE_TOLERANCE / direction.norm(dim=1).clamp(min=SURFACE_TOLERANCE)
        visible[view, point] = self.cast(origin, direction).distance >= 1 - slack
        return visible

    def cast(
        self, origins_world: Float[Tensor, "n 3"], directions_world: Float[Tensor, "n 3"]
    ) -> Hits:
        """The first surface that each ray meets. Directions may have any length."""
        parts = zip(
            origins_world.split(RAYS_AT_ONCE), directions_world.split(RAYS_AT_ONCE), strict=True
        )
        return cat([_cast(self, origin, direction) for origin, direction in parts])


def _at_eye_height(cells: Blocks) -> Float[Tensor, "n 3"]:
    x, _, z = cells.middle.unbind(1)
    return torch.stack([x, torch.full_like(x, -EYE_HEIGHT), z], 1)


def _inside(
    points: Float[Tensor, "n d"], low: Float[Tensor, "b d"], high: Float[Tensor, "b d"]
) -> Bool[Tensor, "n b"]:
    return ((points[:, None] >= low) & (points[:, None] <= high)).all(-1)


def _check_in_the_open(rooms: Rooms, cameras: Cameras) -> None:
    blocked = ~rooms.in_the_open(cameras.position)
    if blocked.any():
        first = int(blocked.nonzero()[0, 0])
        place = ", ".join(f"{x:.2f}" for x in cameras.position[first].tolist())
        raise ValueError(
            f"camera {first} at ({place}) is inside a wall or a piece of furniture: keep to places "
            "where Rooms.free is true, such as Rooms.centres and Rooms.doorways"
        )


def _in_pieces(function: Callable[..., tuple], blocks: int, *rows: Tensor) -> tuple:
    """The columns that a function makes of rows, computed for few rows at a time."""
    size = max(1, RAYS_TIMES_BLOCKS // blocks)
    parts = [function(*part) for part in zip(*(r.split(size) for r in rows), strict=True)]
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


# ---- intersections -------------------------------------------------------------------------------


def _cast(rooms: Rooms, origin: Float[Tensor, "n 3"], direction: Float[Tensor, "n 3"]) -> Hits:
    step = torch.where(direction.abs() < TINY, torch.full_like(direction, TINY), direction)
    cubes = _larger(rooms.balls, SURFACE_TOLERANCE)
    *met, near_ball = _meet_boxes(rooms.cells, rooms.boxes, cubes, origin, step, SURFACE_TOLERANCE)
    hits, rows = Hits(*met), near_ball.nonzero()[:, 0]
    return _meet_balls(rooms, hits, rows, origin[rows], step[rows]) if len(rows) else hits


@accelerated
def _meet_boxes(
    cells: Blocks,
    boxes: Blocks,
    cubes: Blocks,
    origin: Float[Tensor, "n 3"],
    step: Float[Tensor, "n 3"],
    slack: float,
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, "n 3"], Bool[Tensor, " n"]]:
    """Where each ray leaves the cells or enters a box: distance, block and normal; and whether it
    meets a cube before. Boxes and cubes farther than `slack` from the rays' ways can be skipped."""
    meet = partial(_meet_few_boxes, cells, boxes, cubes, slack)
    return _in_pieces(meet, len(cells) + len(boxes) + len(cubes), origin, step)


def _meet_few_boxes(
    cells: Blocks,
    boxes: Blocks,
    cubes: Blocks,
    slack: float,
    origin: Float[Tensor, "n 3"],
    step: Float[Tensor, "n 3"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    distance, block = _leave_cells(cells, origin, step)
    path = torch.cat([origin, origin + distance[:, None] * step])
    rows = _near(boxes, path, slack)
    if len(rows):
        enter, leave = _slab(boxes[rows], origin, step)
        enter = torch.where((enter < leave) & (enter > 0), enter, torch.inf)
        nearest, row = enter.min(0)
        block = torch.where(nearest < distance, len(cells) + rows[row], block)
        distance = torch.minimum(distance, nearest)
    enter, leave = _slab(cubes[_near(cubes, path, slack)], origin, step)
    meets_cube = ((enter < leave) & (leave > 0) & (enter < distance)).any(0)
    point = origin + distance[:, None] * step
    return distance, block, _normal(cells, boxes, point, step, block), meets_cube


def _meet_balls(
    rooms: Rooms,
    hits: Hits,
    rows: Int[Tensor, " k"],
    origin: Float[Tensor, "k 3"],
    step: Float[Tensor, "k 3"],
) -> Hits:
    """The hits, replaced in these rows where the rays meet a ball before."""
    nearest, ball = _enter_balls(rooms.balls, origin, step).min(0)
    first = (nearest < hits.distance[rows]).nonzero()[:, 0]
    rows, nearest, ball = rows[first], nearest[first], ball[first]
    point = origin[first] + nearest[:, None] * step[first]
    normal = torch.nn.functional.normalize(point - rooms.balls.middle[ball], dim=1)
    block = len(rooms.cells) + len(rooms.boxes) + ball
    return Hits(
        hits.distance.index_copy(0, rows, nearest),
        hits.block.index_copy(0, rows, block),
        hits.normal.index_copy(0, rows, normal),
    )


def _larger(blocks: Blocks, margin: float) -> Blocks:
    return blocks.replace(low=blocks.low - margin, high=blocks.high + margin)


def _near(blocks: Blocks, points: Float[Tensor, "n 3"], reach: float) -> Int[Tensor, " k"]:
    """Rows of the blocks within `reach` of the points' bounding box; the others can be skipped."""
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    near = (blocks.low <= points.amax(0) + reach) & (blocks.high >= points.amin(0) - reach)
    return near.all(1).nonzero()[:, 0]


def _slab(
    blocks: Blocks, origin: Float[Tensor, "n 3"], direction: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Where each ray enters and leaves each box; it misses the box if it leaves before it enters."""
    enter = leave = None
    for axis in range(3):
        inverse = 1 / direction[:, axis]
        a = (blocks.low[:, axis, None] - origin[:, axis]) * inverse
        b = (blocks.high[:, axis, None] - origin[:, axis]) * inverse
        near, far = torch.minimum(a, b), torch.maximum(a, b)
        enter = near if enter is None else torch.maximum(enter, near)
        leave = far if leave is None else torch.minimum(leave, far)
    return enter, leave


def _leave_cells(
    cells: Blocks, origin: Float[Tensor, "n 3"], direction: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Where each ray leaves the union of the cells, and the cell that it leaves."""
    enter, leave = _slab(cells, origin, direction)
    distance = torch.zeros_like(origin[:, 0])
    cell = torch.zeros_like(distance, dtype=torch.int64)
    for _ in range(len(cells)):  # a straight ray crosses a convex cell at most once
        reached = (enter < leave) & (enter <= distance)
        further, next_cell = torch.where(reached, leave, -torch.inf).max(0)
        goes_on = further > distance
        distance = torch.where(goes_on, further, distance)
        cell = torch.where(goes_on, next_cell, cell)
        if not goes_on.any():
            break
    return distance, cell


def _enter_balls(
    balls: Blocks, origin: Float[Tensor, "n 3"], direction: Float[Tensor, "n 3"]
) -> Float[Tensor, "b n"]:
    """Where each ray enters each ball, infinity where it misses it."""
    to_ball, length = balls.middle[:, None] - origin, direction.norm(dim=1)
    unit = direction / length[:, None]
    ahead = (to_ball * unit).sum(-1)
    # Squared distance of the ball's centre from the ray. The textbook b^2 - 4ac loses precision.
    aside = (to_ball - ahead[..., None] * unit).square().sum(-1)
    half_chord = (balls.radius[:, None] ** 2 - aside).clamp(min=0).sqrt()
    enter = (ahead - half_chord) / length
    return torch.where((half_chord > 0) & (enter > 0), enter, torch.inf)


def _normal(
    cells: Blocks,
    boxes: Blocks,
    point: Float[Tensor, "n 3"],
    direction: Float[Tensor, "n 3"],
    block: Int[Tensor, " n"],
) -> Float[Tensor, "n 3"]:
    """The normal towards the viewer, of the nearest of the three faces that the ray can have met."""
    low, high = torch.cat([cells.low, boxes.low])[block], torch.cat([cells.high, boxes.high])[block]
    is_cell = (block < len(cells))[:, None]
    face = torch.where((direction > 0) == is_cell, high, low)
    axis = (face - point).abs().argmin(1, keepdim=True)
    return torch.zeros_like(point).scatter(1, axis, -direction.gather(1, axis).sign())


# ---- shading -------------------------------------------------------------------------------------


def _trace(
    rooms: Rooms,
    cameras: Cameras,
    size: tuple[int, int],
    pixels: Int[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "n 3"], Hits]:
    """Colours and surfaces of the rays through the centres of pixels; of all if none are named.

    Pixels are numbered through all images, whose height and width is `size`.
    """
    height, width = size
    if pixels is None:
        pixels = torch.arange(len(cameras) * height * width, device=cameras.device)
    per_image = (cameras.rotation @ torch.linalg.inv(cameras.K))[..., :2]
    per_pixel = per_image / per_image.new_tensor([width, height])
    uv = pixel_centres(height, width, device=cameras.device)
    direction = rays(cameras, uv.expand(len(cameras), *uv.shape)).flatten(0, 2)
    position, colors, hits = cameras.position, [], []
    for rows in pixels.split(RAYS_AT_ONCE):
        view = rows // (height * width)
        origin, towards = position.index_select(0, view), direction.index_select(0, rows)
        hit = rooms.cast(origin, towards)
        point = origin + hit.distance[:, None] * towards
        colors.append(_color(rooms, hit, point, towards, per_pixel, view))
        hits.append(hit)
    return torch.cat(colors), cat(hits)


def _at_edges(hits: Hits, height: int, width: int) -> Bool[Tensor, " n"]:
    """Whether a pixel or one of its eight neighbours shows another block, or another face of it."""
    face = (3 * hits.block + hits.normal.abs().argmax(1)).view(-1, height, width)
    edge = torch.zeros_like(face, dtype=torch.bool)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = ..., slice(height - down), slice(max(-right, 0), width - max(right, 0))
        there = ..., slice(down, None), slice(max(right, 0), width - max(-right, 0))
        differs = face[here] != face[there]
        edge[here] |= differs
        edge[there] |= differs
    return edge.flatten()


def _traced_finely(
    rooms: Rooms,
    cameras: Cameras,
    size: tuple[int, int],
    pixels: Int[Tensor, " n"],
    samples: int,
) -> Float[Tensor, "n 3"]:
    """The mean colours of `samples` x `samples` rays through each of the pixels."""
    height, width = size
    view, place = pixels // (height * width), pixels % (height * width)
    row, column = place // width, place % width
    steps = torch.arange(samples, device=pixels.device)
    rows = (samples * row[:, None] + steps)[:, :, None]
    columns = (samples * column[:, None] + steps)[:, None, :]
    fine = (view[:, None, None] * samples * height + rows) * samples * width + columns
    color, _ = _trace(rooms, cameras, (samples * height, samples * width), fine.flatten())
    return color.view(-1, samples**2, 3).mean(1)


def _color(
    rooms: Rooms,
    hits: Hits,
    point: Float[Tensor, "n 3"],
    direction: Float[Tensor, "n 3"],
    per_pixel: Float[Tensor, "t 3 2"],
    view: Int[Tensor, " n"],
) -> Float[Tensor, "n 3"]:
    """Colour of the points with paint and light, rgb in [0, 1].

    `per_pixel` is the change of a view's rays from one pixel to the next, across and down.
    """
    blocks, cells = rooms.blocks, len(rooms.cells)
    uv, extent, moved, row = _on_faces(blocks, hits, point, direction, per_pixel, view, cells)
    finish = cat([blocks.finish, rooms.floors, rooms.ceilings]).at(row)
    surface = Surface(uv, extent, hits.distance[:, None] * moved.norm(dim=2), finish)
    wall = (hits.block < cells) & (hits.normal[:, 1] == 0)
    color = mix(paint(surface), WHITE, wall * skirting(surface))
    light = _light(rooms, point, hits.normal)
    glow = finish.glow[:, None]
    return (color * (light + glow * (1 - light))).clamp(0, 1)


@accelerated
def _on_faces(
    blocks: Blocks,
    hits: Hits,
    point: Float[Tensor, "n 3"],
    direction: Float[Tensor, "n 3"],
    per_pixel: Float[Tensor, "t 3 2"],
    view: Int[Tensor, " n"],
    cells: int,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"], Float[Tensor, "n 2 2"], Int[Tensor, " n"]]:
    """The points in coordinates of their faces: u along x or z, v up (along z on level faces).

    Place from the lower corner and size of the face; the change along u and v, over the distance, from
    one pixel to the next, across and down; and the row of the finish: the blocks' own, of which the
    first are `cells`, then the cells' floors, then their ceilings.
    """
    block, normal = hits.block, hits.normal
    low, high = blocks.low[block], blocks.high[block]
    axis = normal.abs().argmax(1)
    level = axis == 1
    axes = torch.stack([torch.where(axis == 0, 2, 0), torch.where(level, 2, 1)], 1)
    from_corner = point - low
    from_corner[:, 1] = high[:, 1] - point[:, 1]  # y points down, v up
    towards = dot(normal, direction).clamp(max=-1e-3)  # never quite edge-on
    change = per_pixel[view]
    slide = (normal[:, :, None] * change).sum(1) / towards[:, None]
    moved = change - direction[:, :, None] * slide[:, None]
    of_cell = level & (block < cells)
    is_floor, is_ceiling = of_cell & (normal[:, 1] < 0), of_cell & (normal[:, 1] > 0)
    row = block + len(blocks) * is_floor + (len(blocks) + cells) * is_ceiling
    moved = moved.gather(1, axes[:, :, None].expand(-1, -1, 2))
    return from_corner.gather(1, axes), (high - low).gather(1, axes), moved, row


def _light(
    rooms: Rooms, point: Float[Tensor, "n 3"], normal: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3"]:
    """Light on the points: ambient, and from the lamp and the window of the nearest room."""
    cells = rooms.cells[: len(rooms)]
    lamps = torch.stack([cells.middle[:, 0], cells.low[:, 1] + LAMP_DROP, cells.middle[:, 2]], 1)
    along, squared = _to_lights(cells, torch.stack([lamps, rooms.windows]), point, normal)
    facing = along / (squared + 0.1).sqrt()  # + 0.1: no peak at the light
    strength = (facing + WRAP).clamp(min=0) / (1 + WRAP) / (1 + FALLOFF * squared)
    light = (AMBIENT + BOUNCE * normal[:, 1:2]).expand(-1, 3)
    light = light + strength[0, :, None] * light.new_tensor(LAMP_LIGHT)
    light = light + strength[1, :, None] * light.new_tensor(WINDOW_LIGHT)
    openness = _openness(rooms, point + CORNER * normal)
    return light * (1 - CORNER_SHADE * (1 - openness))[:, None]


@accelerated
def _to_lights(
    cells: Blocks,
    lights: Float[Tensor, "l r 3"],
    point: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, "l n"], Float[Tensor, "l n"]]:
    """How far the lights of the nearest cell are from each point: along its normal, and squared."""
    gap = torch.maximum(cells.low - point[:, None], point[:, None] - cells.high)
    to_light = lights[:, gap.amax(2).argmin(1)] - point
    return dot(normal, to_light), dot(to_light, to_light)


def _openness(rooms: Rooms, point: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """1 where no surface is within CORNER of the points, falling to 0 as one comes nearer."""
    doorways = rooms.cells[len(rooms) :]
    size = doorways.high - doorways.low
    along_x = (size[:, :1] <= size[:, 2:]).expand(-1, 3)  # a doorway is wider than thick
    ends = torch.where(along_x, point.new_tensor([1.0, 0, 0]), point.new_tensor([0, 0, 1.0]))
    # A doorway's ends are open.
    reach = torch.cat([point.new_zeros(len(rooms), 3), CORNER * ends])
    cells = rooms.cells.replace(low=rooms.cells.low - reach, high=rooms.cells.high + reach)
    # Glowing blocks cast no shade.
    boxes, balls = (blocks[blocks.finish.glow == 0] for blocks in (rooms.boxes, rooms.balls))
    cubes = _larger(balls, CORNER + SURFACE_TOLERANCE)
    clear, squared, near_ball = _clearances(cells, boxes, cubes, point, CORNER)
    clear = torch.minimum(clear, squared.sqrt())
    rows = near_ball.nonzero()[:, 0]
    if len(rows):
        clear[rows] = torch.minimum(clear[rows], _ball_gap(balls, point[rows]).amin(0))
    return 1 - (1 - clear / CORNER).clamp(0, 1).square()


@accelerated
def _clearances(
    cells: Blocks, boxes: Blocks, cubes: Blocks, point: Float[Tensor, "n 3"], reach: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Of each point: how deep it is in the cells, its squared distance from the boxes, and whether it
    is in a cube. Distances beyond `reach` may be too large."""
    measure = partial(_clearances_of_few, cells, boxes, cubes, reach)
    return _in_pieces(measure, len(cells) + len(boxes) + len(cubes), point)


def _clearances_of_few(
    cells: Blocks, boxes: Blocks, cubes: Blocks, reach: float, point: Float[Tensor, "n 3"]
) -> tuple[Tensor, Tensor, Tensor]:
    sides = torch.minimum(point[:, None] - cells.low, cells.high - point[:, None])
    depth = sides.amin(2).amax(1)
    squared, rows = torch.full_like(depth, torch.inf), _near(boxes, point, reach)
    if len(rows):
        squared = _squared_gap(boxes[rows], point).amin(0)
    return depth, squared, _inside(point, cubes.low, cubes.high).any(1)


def _squared_gap(boxes: Blocks, point: Float[Tensor, "n 3"]) -> Float[Tensor, "b n"]:
    """Squared distance of each point from each box, 0 inside."""
    squared = point.new_zeros(())
    for axis in range(3):
        x, low, high = point[:, axis], boxes.low[:, axis, None], boxes.high[:, axis, None]
        squared = squared + torch.maximum(low - x, x - high).clamp(min=0).square()
    return squared


def _ball_gap(balls: Blocks, point: Float[Tensor, "n 3"]) -> Float[Tensor, "b n"]:
    """Distance of each point from each ball, negative inside."""
    return (point - balls.middle[:, None]).norm(dim=-1) - balls.radius[:, None]
