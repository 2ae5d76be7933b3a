"""Layout: the room that the context views suggest, as a box to paint the unseen on.

In: context views with depth, target cameras. Out: for every target pixel the point where its ray
leaves the box, and the colour that the context shows at such a place.
It is a guess by rules, for a network to start from. Walls are vertical and at right angles (a
Manhattan world; Coughlan and Yuille, 1999), each where most of the visible area facing that way lies.
Floor and ceiling are level, and a wall has one colour per height. The world's y axis must point down
along gravity, and its unit must be the metre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad

from vmemkit.core import Cameras, TensorStruct, invert, pixel_centres, pose, rays, unproject
from vmemkit.generation.reprojection import ContextBatch, relative

EYE_HEIGHT, EYE_HEIGHTS = 1.5, (1.0, 2.0)  # metres above the floor: where unseen, and its range
HEADROOM, HEADROOMS = 1.2, (0.7, 1.7)  # metres from the eye to the ceiling, likewise
FAR_WALL, NEAREST_WALL = 2.5, 0.3  # metres to a wall: where unseen, and at least
BIN, BINS = 0.1, 80  # metres per bin, and number of bins, of the distances to walls
LEAST_AREA = 0.3  # square metres of a wall that must be visible
NEARBY = 2.0  # metres from the first target, beyond which surfaces count less and less
ON_PLANE = 0.15  # metres up to which a point belongs to a wall, the floor or the ceiling
UPRIGHT = 0.8  # cosine from which a normal counts as along an axis
VERTICAL = 0.5  # |y| of a unit normal below which a surface counts as vertical
EDGE_STEP = 0.25  # share of the distance: neighbouring points farther apart are on two surfaces
HEIGHTS = 24  # levels of a wall's colour from floor to ceiling
WHITE = 0.93  # brightness of an unseen ceiling
POINTS = 32  # rows and columns of a context view that are used, at most
FEATURES = 7  # channels of `Layout.features`
REACH = 3.0  # metres: the unit of the coordinates that the network sees


@dataclass(frozen=True, repr=False)
class Layout(TensorStruct):
    """The boxes of b contexts, as m targets each see them."""

    frame_from_world: Float[Tensor, "b 4 4"]  # origin: first target; axes: along the walls
    image: Float[Tensor, "b m 3 h w"]  # colour of the box
    depth: Float[Tensor, "b m h w"]  # planar z-depth of the box, world units
    # Flags: floor, ceiling, seen wall, unseen wall; then x, y, z of the box's point in REACH.
    features: Float[Tensor, "b m f h w"]


@dataclass(frozen=True, repr=False)
class RoomBox(TensorStruct):
    """Boxes around the first targets of b contexts. Sides: -x, +x, ceiling, floor, -z, +z."""

    frame_from_world: Float[Tensor, "b 4 4"]  # origin: first target; axes: along the walls
    distance: Float[Tensor, "b 6"]  # metres from the origin to each side
    seen: Bool[Tensor, "b 6"]  # whether the context shows the side
    palette: Float[Tensor, "b c 3"]  # colours: walls by height from the floor up, floor, ceiling


def layout(context: ContextBatch, targets: Cameras, height: int, width: int) -> Layout:
    """The box around the first target of each context, as the targets (b, m) see it."""
    return _seen_from(targets, fit_box(context, targets), (height, width))


def fit_box(context: ContextBatch, targets: Cameras) -> RoomBox:
    """The box that the context suggests around the first of the targets (b, m).

    1. Take a selection of the context's pixels as points with normals, areas and colours.
    2. Turn them into a frame along the walls: normals of walls agree modulo 90 degrees.
    3. Put each side where most of the area that faces it lies, nearby surfaces first.
    4. Average the colours of the points on the sides.
    """
    points, normals, area, color = _surface(context)
    frame_from_world = _frame(normals, area, targets)
    rotation, origin = frame_from_world[:, :3, :3], frame_from_world[:, None, :3, 3]
    points = points @ rotation.mT + origin
    normals = torch.einsum("bij,bnj->bni", rotation, normals)
    area = area / (1 + (points.norm(dim=-1) / NEARBY) ** 4)  # this room rather than the next
    distance, seen = _sides(points, normals, area)
    palette = _palette(points, normals, area, color, distance)
    return RoomBox(frame_from_world, distance, seen, palette)


def _surface(context: ContextBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A selection of the context's pixels: points [b n 3], unit normals [b n 3], areas [b n] and
    colours [b n 3]. The area is 0 where there is no surface."""
    b, _, h, w = context.depth.shape
    step = max(1, math.ceil(max(h, w) / POINTS))
    points = unproject(context.cameras, context.depth)
    across = points[:, :, :-1, 1:] - points[:, :, :-1, :-1]
    down = points[:, :, 1:, :-1] - points[:, :, :-1, :-1]
    normal = torch.linalg.cross(across, down)  # its length is the area of a pixel on the surface
    sight = points[:, :, :-1, :-1] - context.cameras.position[:, :, None, None]
    normal = torch.where((normal * sight).sum(-1, keepdim=True) > 0, -normal, normal)
    usable = normal.isfinite().all(-1) & context.present[:, :, None, None]
    # At a depth edge, neighbouring points lie on two surfaces and span no area.
    longest = torch.maximum(across.norm(dim=-1), down.norm(dim=-1))
    flat = longest < EDGE_STEP * sight.norm(dim=-1)
    area = torch.where(usable & flat, normal.norm(dim=-1), 0.0) * step**2
    color = context.image[:, :, :, :-1, :-1].movedim(2, -1)
    points, normal, area, color = (
        tensor[:, :, ::step, ::step].reshape(b, -1, *tensor.shape[4:])
        for tensor in (points[:, :, :-1, :-1], normal, area, color)
    )
    surface = area[..., None] > 0
    points, normal = torch.where(surface, points, 0.0), torch.where(surface, normal, 0.0)
    return points, normalize(normal, dim=-1), area, color


def _frame(
    normals: Float[Tensor, "b n 3"], area: Float[Tensor, "b n"], targets: Cameras
) -> Float[Tensor, "b 4 4"]:
    """frame_from_world with the first target at the origin, upright, and z along those walls that
    are closest to its viewing direction."""
    weight = area * (normals[..., 1].abs() < VERTICAL)
    angle = 4 * torch.atan2(normals[..., 0], normals[..., 2])  # times 4: equal for all four walls
    turn = torch.atan2((weight * angle.sin()).sum(1), (weight * angle.cos()).sum(1)) / 4
    forward = targets.forward[:, 0]
    heading = torch.atan2(forward[:, 0], forward[:, 2])
    quarter = torch.pi / 2
    yaw = turn + quarter * ((heading - turn) / quarter).round()
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    axes = [[yaw.cos(), zero, yaw.sin()], [zero, one, zero], [-yaw.sin(), zero, yaw.cos()]]
    rotation = torch.stack([torch.stack(row, -1) for row in axes], 1)
    return invert(pose(rotation, targets.position[:, 0]))


def _sides(
    points: Float[Tensor, "b n 3"], normals: Float[Tensor, "b n 3"], area: Float[Tensor, "b n"]
) -> tuple[Float[Tensor, "b 6"], Bool[Tensor, "b 6"]]:
    """Distances from the first target to the six sides, and whether the context shows them."""
    distances, visible = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            along = sign * points[..., axis]
            facing = (sign * normals[..., axis] < -UPRIGHT) & (along > NEAREST_WALL)
            if axis == 1:
                floor, ceiling = (EYE_HEIGHT, EYE_HEIGHTS), (HEADROOM, HEADROOMS)
                usual, (least, most) = floor if sign > 0 else ceiling
                facing &= (along > least) & (along < most)
            else:
                usual = FAR_WALL
            weight = area * facing
            # A histogram of distances by area; the side is where three bins together hold most.
            bins = (along / BIN).long().clamp(0, BINS - 1)
            amount = area.new_zeros(len(area), BINS).scatter_add(1, bins, weight)
            place = area.new_zeros(len(area), BINS).scatter_add(1, bins, weight * along)
            amount, place = _over_three_bins(amount), _over_three_bins(place)
            best = amount.argmax(1, keepdim=True)
            seen = amount.gather(1, best)[:, 0] > LEAST_AREA
            mean = (place / amount.clamp(min=1e-9)).gather(1, best)[:, 0]
            distances.append(torch.where(seen, mean, usual))
            visible.append(seen)
    return torch.stack(distances, 1), torch.stack(visible, 1)


def _over_three_bins(bins: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Sum of each bin and its two neighbours."""
    padded = pad(bins, (1, 1))
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


def _palette(
    points: Float[Tensor, "b n 3"],
    normals: Float[Tensor, "b n 3"],
    area: Float[Tensor, "b n"],
    color: Float[Tensor, "b n 3"],
    distance: Float[Tensor, "b 6"],
) -> Float[Tensor, "b c 3"]:
    """Mean colour of the walls at each of HEIGHTS levels from the floor up, of the floor and of the
    ceiling. A level that the context does not show takes the colour of its neighbours."""
    ceiling, floor = distance[:, 2:3], distance[:, 3:4]
    x, y, z = points.unbind(-1)
    gaps = torch.stack([-x, x, -z, z], 1) - distance[:, [0, 1, 4, 5], None]
    on_wall = (gaps.abs() < ON_PLANE).any(1) & (normals[..., 1].abs() < VERTICAL)
    share = ((floor - y) / (floor + ceiling)).clamp(0, 1 - 1e-6)
    kind = torch.where(on_wall, (share * HEIGHTS).long(), HEIGHTS + 2)
    kind = torch.where((y - floor).abs() < ON_PLANE, HEIGHTS, kind)
    kind = torch.where((y + ceiling).abs() < ON_PLANE, HEIGHTS + 1, kind)
    weight = one_hot(kind, HEIGHTS + 3).to(area) * area[..., None]
    amount = weight.sum(1)
    total = torch.einsum("bnc,bni->bci", weight, color)
    everything = total.sum(1, keepdim=True) / amount.sum(1).clamp(min=1e-9)[:, None, None]
    everything = torch.where(amount.sum(1)[:, None, None] > 0, everything, 0.5)
    # Each level borrows from all others, by far the most from its neighbours.
    level = torch.arange(HEIGHTS, device=area.device)
    reach = torch.exp(-2.0 * (level[:, None] - level).abs().to(area)) + 1e-4
    walls, wall_amount = reach @ total[:, :HEIGHTS], reach @ amount[:, :HEIGHTS, None]
    walls = (walls + 1e-6 * everything) / (wall_amount + 1e-6)
    white = torch.full_like(everything, WHITE)
    floor_and_ceiling = [
        (total[:, i : i + 1] + 1e-3 * usual) / (amount[:, i : i + 1, None] + 1e-3)
        for i, usual in ((HEIGHTS, everything), (HEIGHTS + 1, white))
    ]
    return torch.cat([walls, *floor_and_ceiling], 1)


def _seen_from(targets: Cameras, box: RoomBox, size: tuple[int, int]) -> Layout:
    """The box as targets (b, m) see it from inside; a target outside is moved in."""
    cameras, distance = relative(targets, box.frame_from_world), box.distance
    uv = pixel_centres(*size, device=distance.device)
    ray = rays(cameras, uv.expand(*cameras.K.shape[:2], *uv.shape))  # [b m h w 3]
    eye = cameras.position[:, :, None, None]
    low, high = -distance[:, None, None, None, ::2], distance[:, None, None, None, 1::2]
    eye = torch.minimum(torch.maximum(eye, low + NEAREST_WALL), high - NEAREST_WALL)
    step = torch.where(ray.abs() < 1e-6, 1e-6, ray)
    depth, axis = (torch.where(step > 0, high - eye, low - eye) / step).min(-1)
    point = eye + depth[..., None] * ray
    face = 2 * axis + (step.gather(-1, axis[..., None])[..., 0] > 0)
    share = (high[..., 1] - point[..., 1]) / (high[..., 1] - low[..., 1])
    kind = (share * HEIGHTS).long().clamp(0, HEIGHTS - 1)
    kind = torch.where(face == 3, HEIGHTS, torch.where(face == 2, HEIGHTS + 1, kind))
    image = _rows(box.palette, kind).movedim(-1, 2)
    visible = _rows(box.seen[..., None], face)[..., 0]
    wall = axis != 1
    flags = torch.stack([face == 3, face == 2, wall & visible, wall & ~visible], 2)
    features = torch.cat([flags.to(depth), point.movedim(-1, 2) / REACH], 2)
    return Layout(box.frame_from_world, image, depth, features)


def _rows(table: Shaped[Tensor, "b r c"], index: Int[Tensor, "b ..."]) -> Tensor:
    """Rows of each context's own table, in the shape of the index: [b ... c]."""
    batch = torch.arange(len(table), device=table.device)
    return table[batch.view(-1, *[1] * (index.ndim - 1)), index]
