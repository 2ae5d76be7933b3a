"""Layout: the room that the context views suggest, as a box to paint the unseen on.

In: windows of context views with depth, target cameras. Out: for every target pixel where its ray
would leave the room, and the colour that the context shows at such a place. A guess made by rule,
for a network to start from: walls are vertical and at right angles (a Manhattan world; Coughlan and
Yuille, 1999), each where most of the visible area facing that way lies; floor and ceiling are level,
and a wall has one colour per height. The world's y axis points down along gravity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import normalize

from vmemkit.core import Cameras, TensorStruct, invert, pixel_centres, pose, rays, unproject
from vmemkit.generation.reprojection import Windows, relative

# Metres. What a room is taken to be where the context does not show it.
EYE, EYES = 1.5, (1.0, 2.0)  # above the floor

HEADROOM, HEADROOMS = 1.2, (0.7, 1.7)  # from the eye to the ceiling

FAR_WALL, NEAREST_WALL = 2.5, 0.3

BIN, BINS = 0.1, 80  # of the distances at which a wall is looked for

LEAST_AREA = 0.3  # square metres that must be seen of a wall

NEARBY = 2.0  # metres from the first target, beyond which surfaces count less and less

ON_PLANE = 0.15  # how far a point may lie from a wall, floor or ceiling that it belongs to

UPRIGHT = 0.8  # cosine from which a normal counts as along an axis

HEIGHTS = 24  # bins of a wall's colour from floor to ceiling

WHITE = 0.93  # of an unseen ceiling

POINTS = 32  # rows and columns of a context view that are looked at, at most

FEATURES = 7  # of `Layout.features`


@dataclass(frozen=True, repr=False)
class Layout(TensorStruct):
    """Boxes of b windows, seen by m targets each."""

    frame_from_world: Float[Tensor, "b 4 4"]  # origin: first target; axes: along the walls
    image: Float[Tensor, "b m 3 h w"]  # colour of the box
    depth: Float[Tensor, "b m h w"]  # planar, world units
    features: Float[
        Tensor, "b m f h w"
    ]  # floor, ceiling, seen wall, unseen wall; x, y, z of the box


def layout(context: Windows, targets: Cameras, height: int, width: int) -> Layout:
    """The box round the first target of each window, and how the targets (b, m) see it."""
    frame_from_world, distance, seen, palette = _room(context, targets)
    return _look(palette, distance, seen, frame_from_world, targets, (height, width))


def _room(context: Windows, targets: Cameras) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frame [b 4 4], walls' distances and whether they are seen [b 6], palette [b c 3]."""
    points, normals, area, color = _surface(context)
    frame_from_world = _frame(normals, area, targets)
    points = _moved(frame_from_world, points)
    normals = torch.einsum("bij,bnj->bni", frame_from_world[:, :3, :3], normals)
    area = area / (1 + (points.norm(dim=-1) / NEARBY) ** 4)  # this room rather than the next
    distance, seen = _box(points, normals, area)
    return frame_from_world, distance, seen, _palette(points, normals, area, color, distance)


def _surface(context: Windows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A selection of the context's pixels as points [b n 3], their normals, areas [b n] and
    colours; area 0 where there is no surface."""
    b, _, h, w = context.depth.shape
    step = max(1, math.ceil(max(h, w) / POINTS))
    points = unproject(context.cameras, context.depth)
    across = points[:, :, :-1, 1:] - points[:, :, :-1, :-1]
    down = points[:, :, 1:, :-1] - points[:, :, :-1, :-1]
    normal = torch.linalg.cross(across, down)  # its length is the area of a pixel on the surface
    sight = points[:, :, :-1, :-1] - context.cameras.position[:, :, None, None]
    normal = torch.where((normal * sight).sum(-1, keepdim=True) > 0, -normal, normal)
    usable = normal.isfinite().all(-1) & context.present[:, :, None, None]
    # Across a depth edge a "pixel" spans the gap: no surface is as large as that.
    flat = torch.maximum(across.norm(dim=-1), down.norm(dim=-1)) < 0.25 * sight.norm(dim=-1)
    area = torch.where(usable & flat, normal.norm(dim=-1), 0.0) * step**2
    rows = [
        tensor[:, :, ::step, ::step].reshape(b, -1, *tensor.shape[4:])
        for tensor in (points[:, :, :-1, :-1], normal, area)
    ]
    color = context.image[:, :, :, :-1, :-1][..., ::step, ::step].movedim(2, -1).reshape(b, -1, 3)
    points, normal, area = (
        torch.where(rows[2][(...,) + (None,) * (r.ndim - 2)] > 0, r, 0.0) for r in rows
    )
    return points, normalize(normal, dim=-1), area, color


def _frame(
    normals: Float[Tensor, "b n 3"], area: Float[Tensor, "b n"], targets: Cameras
) -> Float[Tensor, "b 4 4"]:
    """The world as seen from the first target: upright, with z along the walls nearest to its
    viewing direction."""
    weight = area * (normals[..., 1].abs() < 0.5)
    angle = 4 * torch.atan2(normals[..., 0], normals[..., 2])  # the same for all four walls
    turn = torch.atan2((weight * angle.sin()).sum(1), (weight * angle.cos()).sum(1)) / 4
    forward = targets.forward[:, 0]
    heading = torch.atan2(forward[:, 0], forward[:, 2])
    quarter = torch.pi / 2
    yaw = turn + quarter * ((heading - turn) / quarter).round()
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    axes = [[yaw.cos(), zero, yaw.sin()], [zero, one, zero], [-yaw.sin(), zero, yaw.cos()]]
    rotation = torch.stack([torch.stack(row, -1) for row in axes], 1)
    return invert(pose(rotation, targets.position[:, 0]))


def _box(
    points: Float[Tensor, "b n 3"], normals: Float[Tensor, "b n 3"], area: Float[Tensor, "b n"]
) -> tuple[Float[Tensor, "b 6"], Bool[Tensor, "b 6"]]:
    """Distances from the first target to -x, +x, the ceiling, the floor, -z, +z, and whether the
    context shows them."""
    distances, shown = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            along = sign * points[..., axis]
            facing = (sign * normals[..., axis] < -UPRIGHT) & (along > NEAREST_WALL)
            if axis == 1:
                usual, (least, most) = (EYE, EYES) if sign > 0 else (HEADROOM, HEADROOMS)
                facing &= (along > least) & (along < most)
            else:
                usual = FAR_WALL
            weight = area * facing
            at = (along / BIN).long().clamp(0, BINS - 1)
            amount = area.new_zeros(len(area), BINS).scatter_add(1, at, weight)
            place = area.new_zeros(len(area), BINS).scatter_add(1, at, weight * along)
            amount, place = (_neighbours(x) for x in (amount, place))
            best = amount.argmax(1, keepdim=True)
            seen = amount.gather(1, best)[:, 0] > LEAST_AREA
            mean = (place / amount.clamp(min=1e-9)).gather(1, best)[:, 0]
            distances.append(torch.where(seen, mean, usual))
            shown.append(seen)
    return torch.stack(distances, 1), torch.stack(shown, 1)


def _neighbours(bins: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Sums over three bins."""
    padded = torch.nn.functional.pad(bins, (1, 1))
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


def _palette(
    points: Float[Tensor, "b n 3"],
    normals: Float[Tensor, "b n 3"],
    area: Float[Tensor, "b n"],
    color: Float[Tensor, "b n 3"],
    distance: Float[Tensor, "b 6"],
) -> Float[Tensor, "b c 3"]:
    """Colour of walls by height (HEIGHTS, from the floor up), of the floor and of the ceiling."""
    ceiling, floor = distance[:, 2:3], distance[:, 3:4]
    x, y, z = points.unbind(-1)
    gaps = torch.stack([-x, x, -z, z], 1) - distance[:, [0, 1, 4, 5], None]
    on_wall = (gaps.abs() < ON_PLANE).any(1) & (normals[..., 1].abs() < 0.5)
    share = ((floor - y) / (floor + ceiling)).clamp(0, 1 - 1e-6)
    kind = torch.where(on_wall, (share * HEIGHTS).long(), HEIGHTS + 2)
    kind = torch.where((y - floor).abs() < ON_PLANE, HEIGHTS, kind)
    kind = torch.where((y + ceiling).abs() < ON_PLANE, HEIGHTS + 1, kind)
    bins = torch.nn.functional.one_hot(kind, HEIGHTS + 3).to(area) * area[..., None]
    amount = bins.sum(1)
    total = torch.einsum("bnc,bni->bci", bins, color)
    everything = total.sum(1, keepdim=True) / amount.sum(1).clamp(min=1e-9)[:, None, None]
    everything = torch.where(amount.sum(1)[:, None, None] > 0, everything, 0.5)
    # What is not shown at a height is taken from the heights next to it, or else from all.
    level = torch.arange(HEIGHTS, device=area.device)
    reach = torch.exp(-2.0 * (level[:, None] - level).abs().to(area)) + 1e-4
    walls, wall_amount = reach @ total[:, :HEIGHTS], reach @ amount[:, :HEIGHTS, None]
    walls = (walls + 1e-6 * everything) / (wall_amount + 1e-6)
    white = torch.full_like(everything, WHITE)
    flats = [(HEIGHTS, everything), (HEIGHTS + 1, white)]
    rest = [
        (total[:, i : i + 1] + 1e-3 * usual) / (amount[:, i : i + 1, None] + 1e-3)
        for i, usual in flats
    ]
    return torch.cat([walls, *rest], 1)


def _look(
    palette: Float[Tensor, "b c 3"],
    distance: Float[Tensor, "b 6"],
    seen: Bool[Tensor, "b 6"],
    frame_from_world: Float[Tensor, "b 4 4"],
    targets: Cameras,
    size: tuple[int, int],
) -> Layout:
    """The box through the targets' eyes, which must be inside."""
    cameras = relative(targets, frame_from_world)
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
    image = _rows(palette, kind).movedim(-1, 2)
    shown = _rows(seen[..., None], face)[..., 0]
    wall = axis != 1
    flags = torch.stack([face == 3, face == 2, wall & shown, wall & ~shown], 2)
    features = torch.cat([flags.to(depth), point.movedim(-1, 2) / 3], 2)
    return Layout(frame_from_world, image, depth, features)


def _rows(table: Shaped[Tensor, "b r c"], index: Int[Tensor, "b ..."]) -> Tensor:
    """Rows of each window's own table, in the shape of the index: [b ... c]."""
    window = torch.arange(len(table), device=table.device)
    return table[window.view(-1, *[1] * (index.ndim - 1)), index]


def _moved(pose: Float[Tensor, "b 4 4"], points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
    return points @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
