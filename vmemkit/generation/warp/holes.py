"""Filling of what no view has seen in one image: depth by extending planes, colour smoothly.

In: an image or a depth map with a mask of what is known. Out: the same, complete; what was known
is returned unchanged.

- `fill_depth`: inverse depth of a plane is affine in image coordinates: the dominant planes are
  fitted and continued, and where two compete, the change is laid where they meet.
- `push_pull`: smooth filling by a pyramid of averages (Gortler et al., The Lumigraph, 1996).
- `exemplar`: content-aware filling (He and Sun 2012, as OpenCV contrib's shift map).
`cylinder.fill_views` fills several views together by copying real content.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vmemkit.core import pixel_centres

SEAM_REACH = 0.06  # of the image width: how far a seam's colour step is spread into the filling

RANSAC_TRIALS = 256  # finds a plane that holds 20 % of the samples with probability 0.9

RANSAC_SAMPLES = 2048  # known pixels that take part in the fit: more only cost time

LOCAL_SHARE = 1 / 8  # nearest samples a triple is drawn from: one surface, yet wide enough to tilt

THIN_TRIANGLE = 1e-5  # twice the area, in images, of a triple that fixes no plane

PLANES = 8  # a view of a furnished room shows 3 to 5 large planes

PLANE_TOLERANCE = 0.005  # relative inverse depth: 1.5 cm at 3 m; more where the depth is noisy

NOISE_TOLERANCE, MOST_TOLERANCE = 4.0, 0.03  # times the median roughness of the depth, but no more

PLANE_SUPPORT = 0.015  # share of the known pixels below which a plane is clutter

# prices of a surface at a pixel: relative depth errors and shares, so around 1
NEAR_COST = 1.0  # price of a plane that misses the nearest known depth by 100 %

STEP_COST = 1.5  # price of a step in depth by 100 %

ROOM_COST = 1.0  # price of lying 100 % behind a wall

HIDING = 0.05  # relative: a plane this far in front of known depth would hide it

MOST_HIDDEN = 0.15  # share of the known pixels: a plane that hides more is furniture

RARE_COST = 0.05  # price of a plane that explains little of the image

SMOOTH_COST = 1.0  # price of leaving the planes for the smooth filling

WILD_COST = 10.0  # price of a plane beyond its horizon: never, if there is another

TEMPERATURE = 0.1  # of the choice while it is undecided, in the same units

REACH_FACTOR = 1.4  # by which the reach shrinks each time: half in two

DEPTH_RANGE = (0.5, 2.0)  # extrapolated depth stays within these multiples of the known extremes


def push_pull(
    image: Float[Tensor, "*b c h w"], known: Bool[Tensor, "*b h w"]
) -> Float[Tensor, "*b c h w"]:
    """Smooth filling of the unknown pixels from all scales; any size, within the known range.

    Errors: ValueError if an image has no known pixel.
    """
    require_known(known)
    shape = image.shape
    image = image.reshape(-1, *shape[-3:])
    known = known.reshape(-1, 1, *shape[-2:])
    clean = torch.where(known, image, image.new_zeros(()))  # unknown pixels may hold NaN
    filled = _push_pull(clean, known.to(image.dtype))
    low = torch.where(known, image, torch.inf).amin((-2, -1), keepdim=True)
    high = torch.where(known, image, -torch.inf).amax((-2, -1), keepdim=True)
    return torch.where(known, image, filled.clamp(low, high)).reshape(shape)


def _push_pull(
    image: Float[Tensor, "b c h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """`image` blended over its own coarser levels by `weight` in [0, 1]."""
    h, w = image.shape[-2:]
    if h == w == 1:
        return image
    even = (0, w % 2, 0, h % 2)  # pad so that 2 x 2 cells stay aligned at every size
    total = functional.avg_pool2d(functional.pad(weight, even), 2)
    mean = functional.avg_pool2d(functional.pad(image * weight, even), 2) / total.clamp(min=1e-9)
    coarse = _push_pull(mean, (4 * total).clamp(max=1))  # one whole pixel in the cell suffices
    fine = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[
        ..., :h, :w
    ]
    return weight * image + (1 - weight) * fine


def exemplar(
    image: Float[Tensor, "3 h w"],
    known: Bool[Tensor, "h w"],
    source: Bool[Tensor, "h w"],
    seed: int = 0,
) -> Float[Tensor, "3 h w"]:
    """Content-aware filling of one image; only `source` pixels are copied. Colours to 8 bits.

    Known pixels that are no source are kept, but nothing is taken from them.
    Errors: ValueError if no known pixel is a source.
    """
    import cv2  # here, since it takes a tenth of the package's import

    source = source & known
    require_known(source, "source pixel to copy from")
    if known.all():
        return image
    lab = cv2.cvtColor(_to_bytes(image), cv2.COLOR_RGB2LAB)
    valid = source.cpu().numpy().astype(np.uint8) * 255
    filled = np.zeros_like(lab)
    cv2.setRNGSeed(seed)
    cv2.xphoto.inpaint(lab, valid, filled, cv2.xphoto.INPAINT_SHIFTMAP)
    missed = torch.from_numpy((filled == 0).all(-1) & (valid == 0)).to(image.device)
    rgb = torch.from_numpy(cv2.cvtColor(filled, cv2.COLOR_LAB2RGB)).to(image.device)
    # holes wider than the image's known part are left black by the library
    rgb = push_pull(rgb.permute(2, 0, 1).to(image.dtype) / 255, ~missed)
    return blend_seam(rgb, image, known)


def blend_seam(
    filling: Float[Tensor, "3 h w"], image: Float[Tensor, "3 h w"], known: Bool[Tensor, "h w"]
) -> Float[Tensor, "3 h w"]:
    """`image` where known, else `filling`, whose colour is led over to the image's at the seam."""
    import cv2  # here, since it takes a tenth of the package's import

    if known.all() or not known.any():
        return torch.where(known, image, filling)
    hole = (~known).cpu().numpy().astype(np.uint8)
    distance = torch.from_numpy(cv2.distanceTransform(hole, cv2.DIST_L2, 5)).to(image)
    rim = known & (functional.max_pool2d((~known)[None].to(image.dtype), 5, 1, 2)[0] > 0)
    step = push_pull(torch.where(known, image - filling, image.new_zeros(())), rim)
    fade = torch.exp(-distance / (SEAM_REACH * image.shape[-1]))
    return torch.where(known, image, (filling + fade * step).clamp(0, 1))


def fill_depth(depth: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Planar depth completed by continuing the planes at the holes' borders.

    Known depth is returned unchanged; filled depth lies within `DEPTH_RANGE` times the known
    extremes. The intrinsics do not matter: they map planes to planes.
    Errors: ValueError if nothing is known, or if known depth is not positive and finite.
    """
    require_known(known)
    if not bool((torch.isfinite(depth) & (depth > 0))[known].all()):
        raise ValueError("known depth must be positive and finite: mark other pixels as unknown")
    if known.all():
        return depth
    inverse = torch.where(known, 1 / depth, 0.0)
    low = 1 / (DEPTH_RANGE[1] * depth[known].amax())
    high = 1 / (DEPTH_RANGE[0] * depth[known].amin())
    at = _homogeneous(*depth.shape, depth)
    tolerance = _tolerance(inverse, known)
    planes, support = _dominant_planes(inverse[known], at[known], tolerance)
    surfaces = torch.einsum("hwi,pi->phw", at, planes)
    sound = (surfaces > low) & (surfaces < high)
    price = RARE_COST * (1 - support[:, None, None]) + WILD_COST * ~sound
    price = price + ROOM_COST * _behind_room(surfaces, sound, inverse, known)
    surfaces = torch.cat([surfaces, push_pull(inverse[None], known)])  # where no plane goes on
    price = torch.cat([price, price.new_full((1, *known.shape), SMOOTH_COST)])
    filled = _choose_surfaces(inverse, known, surfaces.clamp(low, high), price)
    return torch.where(known, depth, 1 / filled)


def _behind_room(
    surfaces: Float[Tensor, "p h w"],
    sound: Bool[Tensor, "p h w"],
    inverse: Float[Tensor, "h w"],
    known: Bool[Tensor, "h w"],
) -> Float[Tensor, "p h w"]:
    """How far (relative, at most 1) each surface lies behind one that seems to bound the room.

    A plane that, continued, would hide much of what is known is a piece of furniture; one that
    would hide nothing is a wall, a floor or a ceiling, and nothing is expected behind it.
    """
    hides = (sound & (surfaces > (1 + HIDING) * inverse))[:, known].to(inverse.dtype).mean(-1)
    bounds = (1 - hides / MOST_HIDDEN).clamp(min=0)[:, None, None]
    behind = torch.zeros_like(surfaces)
    for front, bound in zip(torch.where(sound, surfaces, 0.0), bounds, strict=True):
        gap = (front / surfaces.clamp(min=1e-9) - 1).clamp(0, 1)
        behind = torch.maximum(behind, bound * gap)
    return behind


def _choose_surfaces(
    inverse: Float[Tensor, "h w"],
    known: Bool[Tensor, "h w"],
    surfaces: Float[Tensor, "p h w"],
    price: Float[Tensor, "p h w"],
) -> Float[Tensor, "h w"]:
    """For each hole pixel one of the `surfaces` (inverse depths): low price, small steps in depth.

    An annealed mean field: each pixel weighs how far every surface lies from what its surroundings
    take, over a reach that shrinks from half the image to the next pixel. So a change of surface
    comes to lie where the two meet.
    """
    reach = max(known.shape) // 2
    to_known = ((surfaces - inverse).abs() / inverse.clamp(min=1e-9)).clamp(max=1)
    step = push_pull(to_known, known)
    price = price + NEAR_COST * step  # what fits the nearest known pixels is likely
    while True:
        cost = price + STEP_COST * _box_mean(step, reach)
        if reach == 1:
            return surfaces.gather(0, cost.argmin(0)[None])[0]
        expected = torch.zeros_like(step)
        for taken, share in zip(surfaces, torch.softmax(-cost / TEMPERATURE, 0), strict=True):
            expected += share * ((surfaces - taken) / surfaces[-1]).abs().clamp(max=1)
        step = torch.where(known, to_known, expected)
        reach = max(1, int(reach / REACH_FACTOR))


def _box_mean(layers: Float[Tensor, "c h w"], reach: int) -> Float[Tensor, "c h w"]:
    """Mean over squares of 2 reach + 1 pixels, cut off at the image's edge."""
    h, w = layers.shape[-2:]
    sums = functional.pad(layers.double(), (1, 0, 1, 0)).cumsum(-1).cumsum(-2)
    rows, columns = torch.arange(h, device=layers.device), torch.arange(w, device=layers.device)
    top, bottom = (rows - reach).clamp(min=0), (rows + reach + 1).clamp(max=h)
    left, right = (columns - reach).clamp(min=0), (columns + reach + 1).clamp(max=w)
    bands = sums[:, bottom] - sums[:, top]
    area = (bottom - top)[:, None] * (right - left)
    return ((bands[..., right] - bands[..., left]) / area).to(layers.dtype)


def _homogeneous(h: int, w: int, like: Tensor) -> Float[Tensor, "h w 3"]:
    """(u, v, 1) of the pixel centres."""
    uv = pixel_centres(h, w, device=like.device)
    return torch.cat([uv, torch.ones_like(uv[..., :1])], -1)


def _tolerance(inverse: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]) -> float:
    """How far, relatively, inverse depth may be off its plane: more where it is rough everywhere."""
    row = inverse[:, 1:-1] - (inverse[:, 2:] + inverse[:, :-2]) / 2
    inside = known[:, 1:-1] & known[:, 2:] & known[:, :-2]
    if not inside.any():
        return PLANE_TOLERANCE
    rough = float((row.abs() / inverse[:, 1:-1].clamp(min=1e-9))[inside].median())
    return min(max(PLANE_TOLERANCE, NOISE_TOLERANCE * rough), MOST_TOLERANCE)


def _dominant_planes(
    value: Float[Tensor, " n"], at: Float[Tensor, "n 3"], tolerance: float
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, " p"]]:
    """Planes (a, b, c), inverse depth = a u + b v + c, and the share of the pixels each explains.

    One after the other by RANSAC with local triples, each refined by least squares.
    """
    generator = torch.Generator().manual_seed(0)
    pick = torch.randperm(len(value), generator=generator)[:RANSAC_SAMPLES].to(value.device)
    at, value = at[pick], value[pick]
    free = torch.ones_like(value, dtype=torch.bool)
    planes, support = [], []
    while len(planes) < PLANES and int(free.sum()) > max(3, PLANE_SUPPORT * len(value)):
        candidates = _candidates(at[free], value[free], generator)
        error = (candidates @ at[free].T - value[free]).abs()
        best = candidates[(error < tolerance * value[free]).sum(1).argmax()]
        inlier = free
        for _ in range(2):  # refit to what the plane explains, which then explains more
            inlier = free & ((at @ best - value).abs() < tolerance * value)
            if not inlier.any():
                break
            best = _least_squares(at[inlier], value[inlier])
        share = float(inlier.sum()) / len(value)
        if share < PLANE_SUPPORT:
            break
        planes.append(best)
        support.append(share)
        free = free & ~((at @ best - value).abs() < 2 * tolerance * value)
    return (
        torch.stack(planes) if planes else at.new_zeros(0, 3),
        value.new_tensor(support),
    )


def _least_squares(at: Float[Tensor, "n 3"], value: Float[Tensor, " n"]) -> Float[Tensor, " 3"]:
    """The plane through n points; the flattest one where they leave a choice."""
    A = at.double()
    slopes = torch.diag(A.new_tensor([1e-6, 1e-6, 0.0]))  # far below what any two pixels say
    return torch.linalg.solve(A.T @ A + slopes, A.T @ value.double()).to(at.dtype)


def _candidates(
    at: Float[Tensor, "n 3"], value: Float[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "t 3"]:
    """Planes through `RANSAC_TRIALS` triples of points that lie near each other in the image."""
    device = at.device
    first = torch.randint(len(at), (RANSAC_TRIALS,), generator=generator).to(device)
    far = (at[first][:, None] - at).square().sum(-1)
    reach = max(3, int(LOCAL_SHARE * len(at)))
    near = far.topk(min(reach, len(at)), largest=False).indices
    others = torch.randint(near.shape[1], (RANSAC_TRIALS, 2), generator=generator).to(device)
    triple = torch.cat([first[:, None], near.gather(1, others)], 1)
    A, b = at[triple], value[triple]
    usable = torch.linalg.det(A).abs() > THIN_TRIANGLE
    eye = torch.eye(3, device=device).expand_as(A)
    planes = torch.linalg.solve(torch.where(usable[:, None, None], A, eye), b[..., None])[..., 0]
    constant = torch.stack([torch.zeros_like(b[:, 0]), torch.zeros_like(b[:, 0]), b[:, 0]], -1)
    return torch.where(usable[:, None], planes, constant)


def require_known(known: Bool[Tensor, "*b h w"], what: str = "known pixel") -> None:
    """Errors: ValueError unless every image has at least one."""
    if known.numel() == 0 or not bool(known.flatten(-2).any(-1).all()):
        raise ValueError(
            f"filling needs at least one {what} in every image, got none in one of shape "
            f"{list(known.shape)}: give a view that sees something first"
        )


def _to_bytes(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
