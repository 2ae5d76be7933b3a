"""Reproject: context pixels moved into target views, many windows at a time.

In: windows of k context views with depth and m target cameras. Out: what the targets see of them.
Forward splatting with a depth test: each context pixel is spread over the four target pixels round
the place where it lands; what lies behind the nearest surface there is dropped, the rest is averaged.
Plain batched tensor code for training on any device. `warp.Warp` treats one window with more care.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from vmemkit.core import Cameras, TensorStruct, Views, project, unproject
from vmemkit.generation.generator import IMAGINED, SEEN, Generation

NEAR = 0.05  # world units in front of a camera: nothing nearer is drawn

SLACK = 0.04  # share of the depth within which surfaces are taken to be one

ENOUGH = 0.25  # of a pixel that must be covered for it to be known

FOCUS = 4.0  # exponent on the resolution: how far the sharper view outweighs the others

CRACK, ONE_SURFACE = 2, 1.2  # pixels that cracks are wide; depth ratio within one surface

DOUBT = 1e-3  # weight of an imagined pixel against a given one


@dataclass(frozen=True, repr=False)
class Windows(TensorStruct):
    """The context of b windows: k views each, of which some may be absent."""

    cameras: Cameras  # (b, k)
    image: Float[Tensor, "b k 3 h w"]  # in [0, 1]
    depth: Float[Tensor, "b k h w"]  # planar, world units; NaN where unknown
    given: Bool[Tensor, "b k h w"]  # whether a pixel goes back to a given view
    present: Bool[Tensor, "b k"]


@dataclass(frozen=True, repr=False)
class Reprojection(TensorStruct):
    """What the targets see of the context; colour 0 and depth NaN where `known` is false."""

    image: Float[Tensor, "b m 3 h w"]
    depth: Float[Tensor, "b m h w"]
    known: Bool[Tensor, "b m h w"]
    given: Bool[Tensor, "b m h w"]


def reproject(context: Windows, targets: Cameras) -> Reprojection:
    """The context's pixels in targets (b, m), at the context's resolution.

    Depth is averaged as inverse depth, in which planes are straight. Coarser pixels and imagined
    ones count less where others are at hand.
    """
    (b, k, h, w), m = context.depth.shape, targets.world_from_cam.shape[1]
    points = unproject(context.cameras, context.depth).reshape(b, 1, k * h * w, 3)
    uv, depth = project(targets, points.expand(b, m, -1, 3))
    usable = context.present[:, :, None, None] & context.depth.isfinite()
    usable = usable.reshape(b, 1, -1) & (depth > NEAR)
    at, share = _corners(uv, usable, h, w)
    depth = torch.where(usable, depth, torch.inf).repeat(1, 1, 4)
    nearest = depth.new_full((b, m, h * w + 1), torch.inf)
    nearest.scatter_reduce_(2, at, torch.where(share > ENOUGH / 4, depth, torch.inf), "amin")
    in_front = depth <= nearest.gather(2, at) * (1 + SLACK)
    sharpness = (depth / context.depth.reshape(b, 1, -1).repeat(1, 1, 4)).nan_to_num(0.0, 0.0)
    trust = torch.where(context.given.reshape(b, 1, -1), 1.0, DOUBT).repeat(1, 1, 4)
    cover = torch.where(in_front, share, 0.0)
    weight = cover * trust * sharpness.clamp(0.1, 10) ** FOCUS
    color = context.image.transpose(1, 2).reshape(b, 1, 3, -1).repeat(1, 1, 1, 4)
    channels = torch.cat([color.expand(-1, m, -1, -1), (1 / depth)[:, :, None]], 2)
    real = (weight * (trust == 1))[:, :, None]
    layers = torch.cat([channels * weight[:, :, None], weight[:, :, None], real], 2)
    layers = torch.cat([layers, cover[:, :, None]], 2)
    total = layers.new_zeros(b, m, 7, h * w + 1)
    total.scatter_add_(3, at[:, :, None].expand(-1, -1, 7, -1), layers)
    total = total[..., :-1].unflatten(3, (h, w))
    mean = total[:, :, :4] / total[:, :, 4:5].clamp(min=1e-20)
    known = total[:, :, 6] > ENOUGH
    given = known & (total[:, :, 5] > total[:, :, 4] / 2)
    layers = torch.cat([mean, given[:, :, None].float()], 2).flatten(0, 1)
    layers, known = _mended(layers, known.flatten(0, 1)[:, None])
    known = known[:, 0].unflatten(0, (b, m))
    image, inverse, given = (x.unflatten(0, (b, m)) for x in layers.split([3, 1, 1], 1))
    return Reprojection(
        torch.where(known[:, :, None], image, 0.0).clamp(0, 1),
        torch.where(known, 1 / inverse[:, :, 0], torch.nan),
        known,
        known & (given[:, :, 0] > 0.5),
    )


def _mended(
    layers: Float[Tensor, "n 5 h w"], known: Bool[Tensor, "n 1 h w"]
) -> tuple[Float[Tensor, "n 5 h w"], Bool[Tensor, "n 1 h w"]]:
    """Cracks closed, which open where a surface comes nearer: a pixel most of whose neighbours are
    known, and of one surface, takes their mean."""
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
    """What the m targets of one window (b = 1) show, and image and depth elsewhere."""
    return Generation(
        torch.where(seen.known[0, :, None], seen.image[0], image),
        torch.where(seen.known[0], seen.depth[0], depth),
        torch.where(seen.given[0], SEEN, IMAGINED),
    )


def windows(context: Views) -> Windows:
    """Context views (k,) with depth as one window."""
    given = context.given[:, None, None].expand(context.depth.shape)
    if context.confidence is not None:
        given = given | (context.confidence >= SEEN)
    present = torch.ones_like(context.given)[None]
    cameras = context.cameras.map(lambda tensor: tensor[None])
    return Windows(cameras, context.image[None], context.depth[None], given[None], present)


def relative(cameras: Cameras, new_from_world: Float[Tensor, "b 4 4"]) -> Cameras:
    """Cameras (b, n) in other coordinates of the world, those of each window."""
    return cameras.replace(world_from_cam=new_from_world[:, None] @ cameras.world_from_cam)


def _corners(
    uv: Float[Tensor, "b m n 2"], usable: Bool[Tensor, "b m n"], h: int, w: int
) -> tuple[Tensor, Float[Tensor, "b m n4"]]:
    """The four pixels round each point, as index (h w = nowhere), and the share each gets."""
    place = torch.where(usable[..., None], uv * uv.new_tensor([w, h]) - 0.5, -9.0)
    place = place.clamp(-9, max(h, w) + 9)
    first = place.floor()
    off = place - first
    at, share = [], []
    for i in (0, 1):
        for j in (0, 1):
            x, y = (first + first.new_tensor([i, j])).long().unbind(-1)
            inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
            at.append(torch.where(inside, y * w + x, h * w))
            across = off[..., 0] if i else 1 - off[..., 0]
            share.append(across * (off[..., 1] if j else 1 - off[..., 1]) * inside)
    return torch.cat(at, -1), torch.cat(share, -1)
