"""Depth of a hole: the planes around it are continued, and meet where they intersect.

In: z-depth with a mask of its known pixels. Out: complete z-depth; known pixels stay.
The inverse z-depth of a plane is affine in image coordinates, 1 / z = a u + b v + c, whatever the
intrinsics. So a plane is three numbers, and continuing it means to evaluate them elsewhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vmemkit.core import pixel_centres
from vmemkit.core.kernels import accelerated
from vmemkit.generation.warp.smoothing import push_pull, require_known

# ---- finding planes ------------------------------------------------------------------------------

RANSAC_TRIALS = 256  # finds a plane that holds 20 % of the samples with probability 0.9
RANSAC_SAMPLES = 2048  # known pixels that take part in the fit: more only cost time
LOCAL = 8  # the other two points of a plane are each the nearest of so many samples
THIN_TRIANGLE = 1e-5  # twice the area, in images, below which three points fix no plane
PLANES = 8  # planes at most: a view of a furnished room shows 3 to 5 large ones
PLANE_TOLERANCE = 0.005  # relative error of inverse depth on a plane: 1.5 cm at 3 m
NOISE_TOLERANCE = 4.0  # factor on the depth's median roughness: the tolerance where depth is noisy
MOST_TOLERANCE = 0.03  # upper limit of the tolerance, relative
PLANE_SUPPORT = 0.015  # share of the known pixels below which a plane counts as clutter

# ---- choosing among them: costs without a unit, about 1 for an error of 100 % ---------------------

NEAR_COST = 1.0  # for a surface that misses the nearest known depth by 100 %
STEP_COST = 1.5  # for a step in depth of 100 % between neighbours
ROOM_COST = 1.0  # for a surface that lies 100 % behind a wall
HIDING = 0.05  # relative depth by which a plane must be in front of known depth to hide it
MOST_HIDDEN = 0.15  # share of the known pixels: a plane that hides more is furniture, no wall
RARE_COST = 0.05  # for a plane that explains little of the image
SMOOTH_COST = 1.0  # for the smooth filling instead of a plane
WILD_COST = 10.0  # for a plane beyond its horizon: never chosen if there is another
TEMPERATURE = 0.1  # of the choice between surfaces, in units of cost
REACH_FACTOR = 1.4  # by which the neighbourhood shrinks in each round: halved in two rounds
DEPTH_RANGE = (0.5, 2.0)  # filled depth stays within these multiples of the known extremes


def fill_depth(depth: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Planar z-depth completed by continuing the planes at the holes' borders.

    1. Find the dominant planes of the known pixels.
    2. Evaluate each plane at every pixel. The smooth filling is one more candidate surface.
    3. Give every candidate a cost at every pixel: planes that explain little, lie behind a wall or
       leave DEPTH_RANGE are expensive.
    4. Choose a surface per hole pixel: a low cost, and small depth steps to its neighbours.

    Known depth is returned unchanged. Errors: ValueError if nothing is known, or if known depth is
    not positive and finite.
    """
    require_known(known)
    if not bool(((torch.isfinite(depth) & (depth > 0)) | ~known).all()):
        raise ValueError("known depth must be positive and finite: mark other pixels as unknown")
    if known.all():
        return depth
    inverse = torch.where(known, 1 / depth, 0.0)
    low = 1 / (DEPTH_RANGE[1] * torch.where(known, depth, 0.0).amax())
    high = 1 / (DEPTH_RANGE[0] * torch.where(known, depth, torch.inf).amin())
    height, width = depth.shape
    uv = pixel_centres(height, width, device=depth.device)
    uv1 = torch.cat([uv, torch.ones_like(uv[..., :1])], -1)  # [h w 3]
    seen = known.flatten().nonzero()[:, 0]
    planes, support = _dominant_planes(inverse, uv1, seen, _tolerance(inverse, known))
    surfaces = torch.einsum("hwi,pi->phw", uv1, planes)
    walls = _walls(surfaces, inverse, known, low, high)
    surfaces = torch.cat([surfaces, push_pull(inverse[None], known)])
    step = _steps_to_known(surfaces.clamp(low, high), inverse, known)
    hole = (~known).flatten().nonzero()[:, 0]  # from here on only these pixels matter
    surfaces = surfaces.flatten(1).index_select(1, hole)
    cost = _plane_costs(surfaces[:-1], support, walls, low, high)
    cost = torch.cat([cost, cost.new_full((1, len(hole)), SMOOTH_COST)])
    chosen = _choose_surfaces(surfaces.clamp(low, high), cost, step, hole)
    return depth.flatten().index_copy(0, hole, 1 / chosen).view_as(depth)


def _tolerance(inverse: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]) -> float:
    """Relative error of inverse depth that a plane may have: larger where all depth is rough."""
    bend = inverse[:, 1:-1] - (inverse[:, 2:] + inverse[:, :-2]) / 2
    inside = known[:, 1:-1] & known[:, 2:] & known[:, :-2]
    if not inside.any():
        return PLANE_TOLERANCE
    roughness = float((bend.abs() / inverse[:, 1:-1].clamp(min=1e-9))[inside].median())
    return min(max(PLANE_TOLERANCE, NOISE_TOLERANCE * roughness), MOST_TOLERANCE)


def _dominant_planes(
    inverse: Float[Tensor, "h w"],
    uv1: Float[Tensor, "h w 3"],
    seen: Int[Tensor, " n"],
    tolerance: float,
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, " p"]]:
    """Planes (a, b, c) with 1 / z = a u + b v + c, and the share of the pixels each explains. Of
    pixels (row * width + column), those seen count.

    One after the other by RANSAC, each from the pixels that the ones before do not explain.
    """
    generator, device = torch.Generator().manual_seed(0), inverse.device
    sample = seen[torch.randperm(len(seen), generator=generator)[:RANSAC_SAMPLES].to(device)]
    # On the CPU, because the samples are few and each plane decides what is tried next.
    uv1, inverse = uv1.view(-1, 3)[sample].cpu(), inverse.flatten()[sample].cpu()
    free = torch.ones_like(inverse, dtype=torch.bool)
    planes: list[Tensor] = []
    support: list[float] = []
    while len(planes) < PLANES and int(free.sum()) > max(3, PLANE_SUPPORT * len(inverse)):
        left, left_inverse = uv1[free], inverse[free]
        candidates = _candidates(left, left_inverse, generator)
        error = (candidates @ left.T).sub_(left_inverse).abs_()
        near = error.lt_(tolerance * left_inverse)  # as 0 and 1, which are faster than booleans
        best = candidates[near.sum(1).argmax()]
        inlier = free
        for _ in range(2):  # refitted to its inliers, a plane explains more of them
            inlier = free & ((uv1 @ best - inverse).abs() < tolerance * inverse)
            if not inlier.any():
                break
            best = _least_squares(uv1[inlier], inverse[inlier])
        share = float(inlier.sum()) / len(inverse)
        if share < PLANE_SUPPORT:
            break
        planes.append(best)
        support.append(share)
        free = free & ~((uv1 @ best - inverse).abs() < 2 * tolerance * inverse)
    stacked = torch.stack(planes) if planes else uv1.new_zeros(0, 3)
    return stacked.to(device), inverse.new_tensor(support).to(device)


def _candidates(
    uv1: Float[Tensor, "n 3"], inverse: Float[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "t 3"]:
    """Planes through RANSAC_TRIALS triples of points that are close to each other in the image.

    Close points are likely on one surface: the second and the third are each the nearest of a few
    random points to the first. Where a triple is too thin, the plane is level instead: it has
    constant depth.
    """
    first = torch.randint(len(uv1), (RANSAC_TRIALS, 1), generator=generator)
    drawn = torch.randint(len(uv1), (RANSAC_TRIALS, 2, LOCAL), generator=generator)
    distance = (uv1[drawn] - uv1[first][:, None]).square().sum(-1)
    others = drawn.gather(2, distance.argmin(2, keepdim=True))[..., 0]
    triple = torch.cat([first, others], 1)
    A, b = uv1[triple], inverse[triple]
    usable = torch.linalg.det(A).abs() > THIN_TRIANGLE
    eye = torch.eye(3).expand_as(A)
    planes = torch.linalg.solve(torch.where(usable[:, None, None], A, eye), b[..., None])[..., 0]
    level = torch.stack([torch.zeros_like(b[:, 0]), torch.zeros_like(b[:, 0]), b[:, 0]], -1)
    return torch.where(usable[:, None], planes, level)


def _least_squares(uv1: Float[Tensor, "n 3"], inverse: Float[Tensor, " n"]) -> Float[Tensor, " 3"]:
    """The plane through n points; the flattest one where they leave a choice."""
    A = uv1.double()
    # A weak pull towards flat planes, too weak to matter where any two pixels fix the slope.
    slopes = torch.diag(A.new_tensor([1e-6, 1e-6, 0.0]))
    return torch.linalg.solve(A.T @ A + slopes, A.T @ inverse.double()).to(uv1.dtype)


def _walls(
    surfaces: Float[Tensor, "p h w"],
    inverse: Float[Tensor, "h w"],
    known: Bool[Tensor, "h w"],
    low: Float[Tensor, ""],
    high: Float[Tensor, ""],
) -> Float[Tensor, " p"]:
    """How far each plane bounds the room, in [0, 1].

    A wall, floor or ceiling hides nothing that is known when it is continued. A plane that would
    hide much is a piece of furniture and bounds nothing.
    """
    valid = (surfaces > low) & (surfaces < high)
    hides = valid & (surfaces > (1 + HIDING) * inverse) & known
    share = hides.flatten(1).sum(1) / known.sum()
    return (1 - share / MOST_HIDDEN).clamp(min=0)


def _plane_costs(
    surfaces: Float[Tensor, "p n"],
    support: Float[Tensor, " p"],
    walls: Float[Tensor, " p"],
    low: Float[Tensor, ""],
    high: Float[Tensor, ""],
) -> Float[Tensor, "p n"]:
    """What each plane costs at n pixels: it explains little, is wild, or lies behind a wall.

    Nothing is expected behind a wall: the cost grows with the distance from it, relative to the
    wall's depth and at most 1.
    """
    valid = (surfaces > low) & (surfaces < high)
    behind = torch.zeros_like(surfaces)
    for wall, weight in zip(torch.where(valid, surfaces, 0.0), walls, strict=True):
        gap = (wall / surfaces.clamp(min=1e-9) - 1).clamp(0, 1)
        behind = torch.maximum(behind, weight * gap)
    return RARE_COST * (1 - support[:, None]) + WILD_COST * ~valid + ROOM_COST * behind


def _steps_to_known(
    surfaces: Float[Tensor, "p h w"], inverse: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]
) -> Float[Tensor, "p h w"]:
    """Relative depth step between each surface and the known pixel, in holes the nearest ones."""
    step = (surfaces - inverse).abs() / inverse.clamp(min=1e-9)
    return push_pull(step.clamp(max=1), known)


def _choose_surfaces(
    surfaces: Float[Tensor, "p n"],
    cost: Float[Tensor, "p n"],
    step: Float[Tensor, "p h w"],
    hole: Int[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """One of the `surfaces` (inverse depths) per hole pixel: low cost, small steps in depth.

    hole: row * width + column of the n hole pixels. An annealed mean field, in which neighbouring
    pixels come to agree:

    1. Start from the depth `step` between each surface and the (nearest) known pixels.
    2. Average the steps over a square neighbourhood, at first half the image, and add the cost.
    3. Turn costs into probabilities, and these into the expected step from each surface to what
       the pixel itself takes. Shrink the neighbourhood and go on with 2.
    4. When the neighbourhood is one pixel, take the cheapest surface. So surfaces change where
       they intersect, because there the step is smallest.
    """
    reach = max(step.shape[1:]) // 2
    expected = step.flatten(1).index_select(1, hole)
    cost = cost + NEAR_COST * expected
    while True:
        total = _box_means(step, expected, hole, reach).mul_(STEP_COST).add_(cost)
        if reach == 1:
            return surfaces.gather(0, total.min(0).indices[None])[0]  # `argmin` is slower
        expected = _expected_steps(surfaces, torch.softmax(total.div_(-TEMPERATURE), 0))
        reach = max(1, int(reach / REACH_FACTOR))


@accelerated
def _expected_steps(
    surfaces: Float[Tensor, "p n"], share: Float[Tensor, "p n"]
) -> Float[Tensor, "p n"]:
    """Mean relative depth step, at most 1, from each surface to all of them, weighted by `share`."""
    expected = torch.zeros_like(share)
    for surface, weight in zip(surfaces, share, strict=True):
        expected += weight * ((surfaces - surface) / surfaces[-1]).abs().clamp(max=1)
    return expected


@accelerated
def _box_means(
    layers: Float[Tensor, "c h w"],
    values: Float[Tensor, "c n"],
    pixel: Int[Tensor, " n"],
    reach: int,
) -> Float[Tensor, "c n"]:
    """Means over squares of 2 reach + 1 pixels around n pixels (row * width + column), cut off at
    the image's edge, by summed areas. The layers first take `values` at these pixels."""
    h, w = layers.shape[1:]
    layers = layers.flatten(1).index_copy(1, pixel, values).view_as(layers)
    sums = functional.pad(layers, (1, 0, 1, 0)).cumsum(-1, dtype=torch.float64).cumsum(-2)
    row, column = pixel // w, pixel % w
    top, bottom = (row - reach).clamp(min=0), (row + reach + 1).clamp(max=h)
    left, right = (column - reach).clamp(min=0), (column + reach + 1).clamp(max=w)
    beside_right = sums[:, bottom, right] - sums[:, top, right]
    beside_left = sums[:, bottom, left] - sums[:, top, left]
    area = (bottom - top) * (right - left)
    return ((beside_right - beside_left) / area).to(layers.dtype)
