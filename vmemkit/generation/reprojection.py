"""Reprojection: context pixels moved into target views, for a batch of contexts at a time.

In: b contexts of k views with depth, and m target cameras for each. Out: what the targets see of them.
This is plain batched tensor code, for any device; `Warp` treats one context with more care.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from vmemkit.core import Cameras, TensorStruct, Views, project, unproject
from vmemkit.generation.generator import IMAGINED, SEEN, Generation

NEAR = 0.05  # world units in front of a camera up to which nothing is drawn
SLACK = 0.04  # share of the depth within which two points count as one surface
ENOUGH = 0.25  # share of a pixel that must be covered for it to be known
FOCUS = 4.0  # exponent on resolution: how far the sharper view outweighs the others
CRACK = 2  # pixels: width of cracks that are closed
ONE_SURFACE = 1.2  # largest ratio of the depths around a crack
DOUBT = 1e-3  # weight of an imagined pixel; a given one's is 1


@dataclass(frozen=True, repr=False)
class ContextBatch(TensorStruct):
    """b contexts of k views each; where a context has fewer, the others are not `present`."""

    cameras: Cameras  # (b, k)
    image: Float[Tensor, "b k 3 h w"]  # in [0, 1]
    depth: Float[Tensor, "b k h w"]  # planar z-depth, world units; NaN where unknown
    given: Bool[Tensor, "b k h w"]  # whether a pixel's content comes from a given view
    present: Bool[Tensor, "b k"]


@dataclass(frozen=True, repr=False)
class Reprojection(TensorStruct):
    """What the targets see of the context; where `known` is false, colour is 0 and depth NaN."""

    image: Float[Tensor, "b m 3 h w"]
    depth: Float[Tensor, "b m h w"]
    known: Bool[Tensor, "b m h w"]
    given: Bool[Tensor, "b m h w"]  # whether mostly given pixels made up the pixel


def context_batch(context: Views) -> ContextBatch:
    """Context views (k,) with depth as a batch of one."""
    given = context.given[:, None, None].expand(context.depth.shape)
    if context.confidence is not None:
        given = given | (context.confidence >= SEEN)
    return ContextBatch(
        cameras=context.cameras.map(lambda tensor: tensor[None]),
        image=context.image[None],
        depth=context.depth[None],
        given=given[None],
        present=torch.ones_like(context.given)[None],
    )


def reproject(context: ContextBatch, targets: Cameras) -> Reprojection:
    """The context's pixels in targets (b, m), at the context's resolution.

    1. Project each context pixel into each target, and give it a share of the four pixels around
       the place where it lands (bilinear splatting).
    2. Find the nearest depth in every target pixel, and drop what lies behind it.
    3. Average the rest: given pixels before imagined ones, finer pixels before coarser ones. Depth is
       averaged as inverse depth, in which planes are straight.
    4. Close cracks, which open where a surface comes nearer.
    """
    (b, k, h, w), m = context.depth.shape, targets.world_from_cam.shape[1]
    # 1. All pixels of the k views are in one row of n = k h w points, then four corners each.
    points = unproject(context.cameras, context.depth).reshape(b, 1, k * h * w, 3)
    uv, depth = project(targets, points.expand(b, m, -1, 3))
    usable = context.present[:, :, None, None] & context.depth.isfinite()
    usable = usable.reshape(b, 1, -1) & (depth > NEAR)
    corner, share = _corners(uv, usable, h, w)
    # 2. Nearest depth per target pixel; pixels that are hardly touched do not count.
    depth = torch.where(usable, depth, torch.inf).repeat(1, 1, 4)
    nearest = depth.new_full((b, m, h * w + 1), torch.inf)
    nearest.scatter_reduce_(2, corner, torch.where(share > ENOUGH / 4, depth, torch.inf), "amin")
    in_front = depth <= nearest.gather(2, corner) * (1 + SLACK)
    cover = torch.where(in_front, share, 0.0)
    # 3. Weighted sums of [r g b 1/z, weight, weight of given pixels, cover] per target pixel.
    sharpness = (depth / context.depth.reshape(b, 1, -1).repeat(1, 1, 4)).nan_to_num(0.0, 0.0)
    trust = torch.where(context.given.reshape(b, 1, -1), 1.0, DOUBT).repeat(1, 1, 4)
    weight = cover * trust * sharpness.clamp(0.1, 10) ** FOCUS
    color = context.image.transpose(1, 2).reshape(b, 1, 3, -1).repeat(1, 1, 1, 4)
    channels = torch.cat([color.expand(-1, m, -1, -1), (1 / depth)[:, :, None]], 2)
    of_given = (weight * (trust == 1))[:, :, None]
    layers = [channels * weight[:, :, None], weight[:, :, None], of_given, cover[:, :, None]]
    total = cover.new_zeros(b, m, 7, h * w + 1)
    total.scatter_add_(3, corner[:, :, None].expand(-1, -1, 7, -1), torch.cat(layers, 2))
    total = total[..., :-1].unflatten(3, (h, w))
    mean = total[:, :, :4] / total[:, :, 4:5].clamp(min=1e-20)
    known = total[:, :, 6] > ENOUGH
    given = known & (total[:, :, 5] > total[:, :, 4] / 2)
    # 4. Cracks.
    mean = torch.cat([mean, given[:, :, None].float()], 2).flatten(0, 1)
    mean, known = _without_cracks(mean, known.flatten(0, 1)[:, None])
    known = known[:, 0].unflatten(0, (b, m))
    image, inverse, given = (x.unflatten(0, (b, m)) for x in mean.split([3, 1, 1], 1))
    return Reprojection(
        image=torch.where(known[:, :, None], image, 0.0).clamp(0, 1),
        depth=torch.where(known, 1 / inverse[:, :, 0], torch.nan),
        known=known,
        given=known & (given[:, :, 0] > 0.5),
    )


def _corners(
    uv: Float[Tensor, "b m n 2"], usable: Bool[Tensor, "b m n"], h: int, w: int
) -> tuple[Int[Tensor, "b m n4"], Float[Tensor, "b m n4"]]:
    """The four pixels around each point, as indices (h w = outside), and the point's share of each."""
    place = torch.where(usable[..., None], uv * uv.new_tensor([w, h]) - 0.5, -9.0)
    place = place.clamp(-9, max(h, w) + 9)
    first = place.floor()
    off = place - first
    corners, shares = [], []
    for i in (0, 1):
        for j in (0, 1):
            x, y = (first + first.new_tensor([i, j])).long().unbind(-1)
            inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
            corners.append(torch.where(inside, y * w + x, h * w))
            across = off[..., 0] if i else 1 - off[..., 0]
            shares.append(across * (off[..., 1] if j else 1 - off[..., 1]) * inside)
    return torch.cat(corners, -1), torch.cat(shares, -1)


def _without_cracks(
    layers: Float[Tensor, "n 5 h w"], known: Bool[Tensor, "n 1 h w"]
) -> tuple[Float[Tensor, "n 5 h w"], Bool[Tensor, "n 1 h w"]]:
    """Layers in which an unknown pixel takes the mean of its neighbours, if most of these are known
    and lie on one surface. The fourth layer is inverse depth."""
    for _ in range(CRACK):
        inverse = layers[:, 3:4]
        most = max_pool2d(torch.where(known, inverse, -torch.inf), 3, 1, 1)
        least = -max_pool2d(torch.where(known, -inverse, -torch.inf), 3, 1, 1)
        share = avg_pool2d(known.float(), 3, 1, 1)
        mean = avg_pool2d(layers * known, 3, 1, 1) / share.clamp(min=1e-6)
        crack = ~known & (share > 0.5) & (most < least * ONE_SURFACE)
        layers, known = torch.where(crack, mean, layers), known | crack
    return layers, known


def completed(
    seen: Reprojection, image: Float[Tensor, "m 3 h w"], depth: Float[Tensor, "m h w"]
) -> Generation:
    """A reprojection (b = 1) with `image` and `depth` where it knows nothing."""
    return Generation(
        torch.where(seen.known[0, :, None], seen.image[0], image),
        torch.where(seen.known[0], seen.depth[0], depth),
        torch.where(seen.given[0], SEEN, IMAGINED),
    )
