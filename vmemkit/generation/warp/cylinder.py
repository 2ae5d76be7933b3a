"""Colour of holes, for several views together: given content copied in a cylinder around them.

In: target views at (nearly) one position with their known pixels, and a `Panorama` of what the given
views show from there. Out: the targets, complete, and equal where they overlap.
The cylinder is upright. Its missing columns are taken from columns of given views, in runs that are
copied or mirrored. So no content changes its elevation: the horizon stays straight and floors stay
below. The runs are a shortest path, solved exactly (the one-dimensional case of shift maps; Pritch
et al., 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vmemkit.core import Cameras, pixel_centres, pose, rays
from vmemkit.core.kernels import accelerated
from vmemkit.generation.warp.smoothing import blend_seam, push_pull, require_known

JUMP_COST = 0.2  # for a cut between two runs, in means of the column distance
TURN_COST = 0.1  # for a change between copying and mirroring, in the same unit
BORDER_COST = 2.5  # factor on cuts at a gap's border, which are cross-faded from one side only
FULL_COLUMN = 0.8  # share of the tallest column's height; corners of a 70 degree view have 0.82
FADE = 6  # columns on either side of a cut over which two runs are cross-faded
SIDES = 5  # cameras that surround a position, 72 degrees each
MAX_SLOPE = 2.0  # height over distance: the cylinder ends 63 degrees above and below the horizon
MOST_COLUMNS = 900  # of a cylinder, 0.4 degrees each; planning takes their cube in time
KNOWN_SHARE = 1 - 1e-3  # an interpolated pixel is known if all pixels it came from are


# Of columns to others: the sum of squared differences, and the number of rows that both know.
Differences = tuple[Float[Tensor, "a b"], Float[Tensor, "a b"]]


@dataclass(frozen=True)
class Panorama:
    """What given views show all around a position, on the cylinder of `cylinder_rays`."""

    rays_world: Float[Tensor, "H W 3"]
    image: Float[Tensor, "3 H W"]
    source: Bool[Tensor, "H W"]  # where the image shows a given view, and may be copied

    @cached_property
    def differences(self) -> Differences:
        """Of its columns to each other, which are the same for all targets."""
        return _differences(self.image, self.source, self.image, self.source)


def cylinder_rays(targets: Cameras, height: int, width: int) -> Float[Tensor, "H W 3"]:
    """World directions of the pixels of an upright cylinder that holds all that the targets (m,) see.

    Columns are azimuths over the full circle. Rows are height over horizontal distance (y down), so
    that vertical edges stay straight. Its pixels are as fine as those at the centre of the targets'
    images of `height` x `width`. Errors: ValueError for no targets or no pixels.
    """
    if height < 1 or width < 1 or len(targets) < 1:
        raise ValueError(
            f"a cylinder needs targets and an image size, got {len(targets)}, {height} x {width}"
        )
    uv = pixel_centres(height, width, device=targets.device)
    ray = rays(targets, uv.expand(len(targets), *uv.shape))
    slope = (ray[..., 1].abs() / torch.hypot(ray[..., 0], ray[..., 2]).clamp(min=1e-6)).amax()
    slope = min(float(slope) + 1 / height, MAX_SLOPE)
    columns = 2 * math.pi * float(targets.K[:, 0, 0].amax()) * width
    rows = 2 * slope * float(targets.K[:, 1, 1].amax()) * height
    scale = min(1.0, MOST_COLUMNS / columns)
    columns, rows = max(8, round(scale * columns)), max(8, round(scale * rows))
    u, v = pixel_centres(rows, columns, device=targets.device).unbind(-1)
    azimuth = (2 * u - 1) * math.pi
    return torch.stack([azimuth.sin(), (2 * v - 1) * slope, azimuth.cos()], -1)


def surrounding_cameras(targets: Cameras, rays_world: Float[Tensor, "H W 3"]) -> Cameras:
    """Level cameras at the targets' mean position that together see the whole cylinder.

    What views show is splatted into these and taken `to_cylinder` to make a `Panorama`. Their images
    need about the cylinder's resolution: H rows and W / 4 columns.
    """
    overlap = math.radians(1.0)  # so that no ray falls between two images
    half = math.pi / SIDES + overlap
    turn = torch.arange(SIDES, device=targets.device) * (2 * math.pi / SIDES)
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    rows = [turn.cos(), zero, turn.sin(), zero, one, zero, -turn.sin(), zero, turn.cos()]
    rotation = torch.stack(rows, -1).view(SIDES, 3, 3)
    tall = float(rays_world[-1, 0, 1]) / math.cos(half)
    K = rotation.new_tensor(
        [[0.5 / math.tan(half), 0, 0.5], [0, 0.5 / tall, 0.5], [0, 0, 1]]
    ).expand(SIDES, 3, 3)
    return Cameras(pose(rotation, targets.position.mean(0).expand(SIDES, 3)), K)


def to_cylinder(
    targets: Cameras,
    image: Float[Tensor, "m 3 h w"],
    known: Bool[Tensor, "m h w"],
    rays_world: Float[Tensor, "H W 3"],
) -> tuple[Float[Tensor, "3 H W"], Bool[Tensor, "H W"]]:
    """Colour along `rays_world`, each from the view that sees the ray most centrally, and whether
    any view knows it.

    All views are treated as if they stood at one position. This is exact for pure rotations, and
    otherwise better the farther away the content is.
    """
    uv, central = _in_images(targets, rays_world)
    clean = torch.where(known[:, None], image, image.new_zeros(()))
    layers = torch.cat([clean, known[:, None].to(image.dtype)], 1)
    sampled = functional.grid_sample(layers, 2 * uv - 1, padding_mode="border", align_corners=False)
    central = torch.where(sampled[:, 3] > KNOWN_SHARE, central, -1.0)
    best, view = central.max(0)
    color = sampled[:, :3].gather(0, view[None, None].expand(1, 3, -1, -1))[0]
    return color, best > 0


def _in_images(
    targets: Cameras, rays_world: Float[Tensor, "H W 3"]
) -> tuple[Float[Tensor, "m H W 2"], Float[Tensor, "m H W"]]:
    """Where targets see rays, and how far from their images' edges: not above 0 is out of sight."""
    in_cam = targets.rotation.mT.contiguous() @ rays_world.flatten(0, 1).T.contiguous()
    image = (targets.K @ in_cam).unflatten(-1, rays_world.shape[:2])
    u, v = (image[:, :2] / image[:, 2:].clamp(min=1e-6)).unbind(1)
    central = 0.5 - torch.maximum((u - 0.5).abs(), (v - 0.5).abs())
    return torch.stack([u, v], -1), torch.where(image[:, 2] > 1e-6, central, -1.0)


def from_cylinder(
    panorama: Float[Tensor, "c H W"],
    rays_world: Float[Tensor, "H W 3"],
    targets: Cameras,
    height: int,
    width: int,
) -> Float[Tensor, "m c height width"]:
    """An image on the cylinder as the targets see it; its top and bottom rows are continued."""
    uv = pixel_centres(height, width, device=targets.device)
    ray = rays(targets, uv.expand(len(targets), height, width, 2))
    slope = rays_world[-1, 0, 1] * len(rays_world) / (len(rays_world) - 1)
    u = torch.atan2(ray[..., 0], ray[..., 2]) / (2 * math.pi) + 0.5
    v = ray[..., 1] / torch.hypot(ray[..., 0], ray[..., 2]).clamp(min=1e-6) / slope
    W = panorama.shape[-1]
    # Two columns of the other end on either side, because bicubic sampling reaches that far.
    wrapped = torch.cat([panorama[..., -2:], panorama, panorama[..., :2]], -1)
    grid = torch.stack([2 * (u * W + 2) / (W + 4) - 1, v.clamp(-1, 1)], -1)
    wrapped = wrapped.expand(len(targets), *wrapped.shape)
    return functional.grid_sample(
        wrapped, grid, mode="bicubic", padding_mode="border", align_corners=False
    )


def fill_views(
    targets: Cameras,
    image: Float[Tensor, "m 3 h w"],
    known: Bool[Tensor, "m h w"],
    panorama: Panorama,
) -> Float[Tensor, "m 3 h w"]:
    """Views at (nearly) one position, filled together so that they agree where they overlap.

    1. Take the targets to the cylinder, and lay what the panorama shows of given views over them.
    2. Fill the missing columns that some target sees, from columns of given views.
    3. Take the cylinder back to the targets, with the colour step at the seam blended.

    Known pixels are returned unchanged. If the panorama shows nothing, the targets' own known pixels
    are copied. Errors: ValueError if there is neither a known nor a source pixel.
    """
    if known.all():
        return image
    # Only columns in sight differ from the panorama's.
    in_sight = (_in_images(targets, panorama.rays_world)[1] > 0).any(0).any(0)
    column = in_sight.nonzero()[:, 0]
    own, own_known = to_cylinder(targets, image, known, panorama.rays_world[:, column])
    source = panorama.source[:, column]
    own = torch.where(source, panorama.image[:, :, column], own)
    own_known = source | own_known
    both = panorama.image.index_copy(2, column, own)
    both_known = panorama.source.index_copy(1, column, own_known)
    if panorama.source.any():
        new = _differences(own, own_known, panorama.image, panorama.source)
        pairs = zip(panorama.differences, new, strict=True)
        total, common = (old.index_copy(0, column, rows) for old, rows in pairs)
        filled = copy_columns(both, both_known, panorama.source, in_sight, (total, common))
    else:
        filled = copy_columns(both, both_known, both_known, in_sight)
    filling = from_cylinder(filled, panorama.rays_world, targets, *image.shape[-2:])
    return torch.stack([blend_seam(f, i, k) for f, i, k in zip(filling, image, known, strict=True)])


def copy_columns(
    image: Float[Tensor, "3 h w"],
    known: Bool[Tensor, "h w"],
    source: Bool[Tensor, "h w"],
    wanted: Bool[Tensor, " w"] | None = None,
    differences: Differences | None = None,
) -> Float[Tensor, "3 h w"]:
    """An image that wraps around (its last column is next to its first), filled column by column.

    1. Compare each column with each source column.
    2. Plan for each gap a sequence of source columns, in copied or mirrored runs, such that the
       visible steps between neighbouring columns are smallest in sum (dynamic programming).
    3. Lay the planned columns, cross-faded at the cuts. No pixel changes its row.

    `push_pull` fills what the planned columns do not show either, and gaps without a `wanted` column
    (default: all are wanted). `differences` are those of all columns, known pixels to source pixels,
    if they are there already. Errors: ValueError if no known pixel is a source.
    """
    source = source & known
    require_known(source, "source pixel to copy from")
    count = source.sum(0)
    usable = count >= FULL_COLUMN * count.amax()
    whole = known.sum(0) >= FULL_COLUMN * count.amax()
    if not whole.any() or whole.all():
        return push_pull(image, known)
    clean = torch.where(known, image, image.new_zeros(()))
    if differences is None:
        differences = _differences(clean, known, clean, source)
    distance = _column_distance(*differences)
    wanted = torch.ones_like(whole) if wanted is None else wanted
    gaps = [gap for gap in _gaps(whole) if wanted[gap].any()]
    column, direction = _plan_columns(distance, usable, gaps)
    return _lay_columns(clean, known, source & usable, column, direction)


def _differences(
    image: Float[Tensor, "3 h a"],
    known: Bool[Tensor, "h a"],
    other: Float[Tensor, "3 h b"],
    source: Bool[Tensor, "h b"],
) -> Differences:
    """Of each column (known pixels) to each column of another image (source pixels)."""
    row, column = known.any(0).nonzero()[:, 0], source.any(0).nonzero()[:, 0]
    a, b = known.T.to(image.dtype)[row], source.T.to(image.dtype)[column]
    x, y = image.transpose(-1, -2)[:, row], other.transpose(-1, -2)[:, column]
    square = (x * x * a).sum(0) @ b.T + a @ (y * y * b).sum(0).T
    cross = ((x * a) @ (y * b).mT).sum(0)
    total, common = image.new_zeros(2, known.shape[1], source.shape[1])
    total[row[:, None], column] = (square - 2 * cross).clamp(min=0)
    common[row[:, None], column] = a @ b.T
    return total, common


def _column_distance(
    total: Float[Tensor, "w w"], common: Float[Tensor, "w w"]
) -> Float[Tensor, "w w"]:
    """Mean squared difference; columns without a common row get the mean distance of the others."""
    distance, compared = total / common.clamp(min=1), common > 0
    usual = torch.where(compared, distance, 0).sum() / compared.sum().clamp(min=1)
    return torch.where(compared, distance, usual)


def _plan_columns(
    distance: Float[Tensor, "w w"], usable: Bool[Tensor, " w"], gaps: list[Int[Tensor, " _"]]
) -> tuple[Int[Tensor, " w"], Int[Tensor, " w"]]:
    """For every column, the column to take and its direction: +1 in a copied run, -1 in a mirrored.

    A state is a usable column with a direction. To go on within a run is free, and a jump costs the
    step that it makes visible. The Viterbi path through each gap starts and ends at its borders.
    """
    w = len(usable)
    column = torch.arange(w, device=distance.device)
    direction = torch.ones_like(column)
    own = column[usable]
    states = torch.cat([own, own]), torch.cat([torch.ones_like(own), -torch.ones_like(own)])
    unit = distance[usable][:, usable].mean()
    jumps = unit * torch.tensor([JUMP_COST, JUMP_COST + TURN_COST], device=unit.device)
    step = _step_cost(distance, usable, states, states, jumps)
    for gap in gaps:
        borders = torch.stack([gap[0] - 1, gap[-1] + 1]) % w
        ahead = borders, torch.ones_like(borders)
        enter = BORDER_COST * _step_cost(distance, usable, ahead, states, jumps)[0]
        leave = BORDER_COST * _step_cost(distance, usable, states, ahead, jumps)[:, 1]
        chosen = _viterbi(enter, step, distance[gap][:, states[0]], leave)
        column = column.index_copy(0, gap, states[0][chosen])
        direction = direction.index_copy(0, gap, states[1][chosen])
    return column, direction


@accelerated
def _step_cost(
    distance: Float[Tensor, "w w"],
    usable: Bool[Tensor, " w"],
    before: tuple[Int[Tensor, " a"], Int[Tensor, " a"]],
    after: tuple[Int[Tensor, " b"], Int[Tensor, " b"]],
    jumps: Float[Tensor, " 2"],
) -> Float[Tensor, "a b"]:
    """Cost of one (column, direction) state being followed by another. `jumps` are the costs of a jump
    that keeps the direction and of one that turns.

    The step between two columns is visible as two differences: between the next column and the one
    that would have come next, and between this column and the one that would have come before. At
    the end of a run only one of these exists. If neither does, the two columns are compared.
    """
    (column, way), (next_column, next_way) = before, after
    beyond, prior = (column + way) % len(usable), (next_column - next_way) % len(usable)
    forward = distance.index_select(0, beyond).index_select(1, next_column)
    backward = distance.index_select(0, column).index_select(1, prior)
    has_beyond, has_prior = usable[beyond][:, None], usable[prior]
    forward = torch.where(
        has_beyond, forward, torch.where(has_prior, backward, distance[column][:, next_column])
    )
    backward = torch.where(has_prior, backward, forward)
    goes_on = (beyond[:, None] == next_column) & (way[:, None] == next_way)
    turns = way[:, None] != next_way
    jump = forward + backward + torch.where(turns, jumps[1], jumps[0])
    return torch.where(goes_on, 0.0, jump)


@accelerated
def _viterbi(
    enter: Float[Tensor, " s"],
    step: Float[Tensor, "s s"],
    stay: Float[Tensor, "g s"],
    leave: Float[Tensor, " s"],
) -> Int[Tensor, " g"]:
    """The cheapest sequence of g states: costs to enter, of each step, to be there and to leave."""
    cost, origins = enter + stay[0], []
    for here in stay[1:]:
        cost, origin = (cost[:, None] + step).min(0)
        cost = cost + here
        origins.append(origin)
    # Read at once, because a GPU would wait for every state of the path.
    back = torch.stack([*origins, (cost + leave).argmin().expand(len(cost))]).tolist()
    path = [back.pop()[0]]
    for origin in reversed(back):
        path.append(origin[path[-1]])
    return torch.tensor(path[::-1], device=cost.device)


def _gaps(whole: Bool[Tensor, " w"]) -> list[Int[Tensor, " _"]]:
    """Runs of columns that are not whole, on the circle. At least one column must be whole."""
    first = int(whole.int().argmax())
    order = (torch.arange(len(whole), device=whole.device) + first) % len(whole)
    missing = order[~whole[order]]
    breaks = (missing[1:] - missing[:-1]) % len(whole) != 1
    sizes = torch.diff(torch.cat([breaks.new_ones(1), breaks, breaks.new_ones(1)]).nonzero()[:, 0])
    return list(missing.split([int(x) for x in sizes]))


def _lay_columns(
    image: Float[Tensor, "3 h w"],
    known: Bool[Tensor, "h w"],
    source: Bool[Tensor, "h w"],
    column: Int[Tensor, " w"],
    direction: Int[Tensor, " w"],
) -> Float[Tensor, "3 h w"]:
    """The planned columns in their places, neighbouring runs cross-faded over FADE columns."""
    total, weight = _cross_fade(image, known, source, column, direction, FADE)
    laid = torch.where(known, image, total / weight.clamp(min=1))
    return push_pull(laid, known | (weight > 0))


@accelerated
def _cross_fade(
    image: Float[Tensor, "3 h w"],
    known: Bool[Tensor, "h w"],
    source: Bool[Tensor, "h w"],
    column: Int[Tensor, " w"],
    direction: Int[Tensor, " w"],
    reach: int,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
    """Weighted sum of what the planned runs show at each unknown pixel, and the sum of the weights.

    Each column shows what the runs of its neighbours, up to `reach` away, would show if they went on.
    """
    total = torch.zeros_like(image)
    weight = image.new_zeros(image.shape[1:])
    for offset in range(-reach, reach + 1):
        continued = (column.roll(-offset) - offset * direction.roll(-offset)) % len(column)
        share = (reach + 1 - abs(offset)) * (source[:, continued] & ~known).to(image.dtype)
        total = total + share * image[:, :, continued]
        weight = weight + share
    return total, weight
