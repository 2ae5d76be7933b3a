"""Warp: the generator that needs no weights and imagines no content of its own.

In: context views with depth, target cameras. Out: target views with depth. The context's pixels are
moved into the targets by their depth, and what no context view saw is filled (`holes.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from vmemkit.core import (
    Cameras,
    PointMaps,
    SplatConfig,
    SurfelConfig,
    Surfels,
    TensorStruct,
    Views,
    cat,
    footprint,
    in_image,
    project,
    seen_through,
    splat,
    surfels_from_points,
    unproject,
)
from vmemkit.generation.far_sky import sky_again, with_far_sky
from vmemkit.generation.generator import (
    SEEN,
    Generation,
    check_context,
    checked_targets,
    confidence_of,
)
from vmemkit.generation.warp.config import WarpConfig
from vmemkit.generation.warp.cylinder import (
    Panorama,
    cylinder_rays,
    surrounding_cameras,
    to_cylinder,
)
from vmemkit.generation.warp.holes import fill_holes


@dataclass(frozen=True, repr=False)
class PixelDiscs(TensorStruct):
    """Context pixels as surfels, each with its pixel's confidence."""

    surfels: Surfels
    confidence: Float[Tensor, " n"]


@dataclass(frozen=True)
class Warp:
    """A generator that moves the context's pixels into the targets.

    1. Turn the context's pixels into discs, and splat these into a target: this gives its depth.
    2. Look each target pixel's surface point up in all context views that see it, and blend their
       colours. The sharpest view counts most.
    3. Fill the holes (`holes.py`).
    4. Add the target to the context of the next one, so that targets agree with each other.

    Given pixels outrank imagined ones. An imagined pixel is dropped where a given view looked through
    it, and lends no colour where a seen one can. Sky moves with the direction only (far_sky.py).
    Yields the targets with holes, then without.
    """

    config: WarpConfig = field(default_factory=WarpConfig)

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """Errors: ValueError for an empty context or one without depth, and bad targets."""
        check_context(context)
        targets = checked_targets(targets)
        context = context.replace(confidence=confidence_of(context), latent=None, embedding=None)
        context, sky = with_far_sky(context)
        upright = _upright(targets)
        targets, context = upright(targets), context.replace(cameras=upright(context.cameras))
        evidence, (height, width) = context[context.given], context.image.shape[2:]
        by_view = discs_of_views(context, self.config)
        # The panorama shows given views only, or generated ones if the context has no given view.
        used = context.given if context.given.any() else ~context.given
        given = context[used]
        given_discs = cat([disc for disc, use in zip(by_view, used, strict=True) if use])
        panorama = functools.cache(lambda: _panorama(given, given_discs, targets, self.config))
        discs = given_discs if used.all() else cat(by_view)
        with_holes, complete = [], []
        for i in range(len(targets)):
            target = targets[i : i + 1]
            state = splat_context(context, discs, target, height, width, self.config)
            filled = fill_holes(state, target, context, panorama, sky, self.config)
            with_holes.append(state)
            complete.append(filled)
            if i + 1 < len(targets):
                context = cat([context, filled.views(target)])
                discs = cat([discs, context_discs(context[-1:], evidence, self.config)])
        for made in (cat(with_holes), cat(complete)):
            yield made.replace(depth=sky_again(made.depth, sky))


def discs_of_views(context: Views, config: WarpConfig) -> list[PixelDiscs]:
    """The discs of each context view (`context_discs`)."""
    evidence = context[context.given]
    return [context_discs(context[i : i + 1], evidence, config) for i in range(len(context))]


def context_discs(view: Views, evidence: Views, config: WarpConfig) -> PixelDiscs:
    """The pixels of one view (t = 1) as discs.

    Pixels at depth edges are left out, because they often mix two surfaces. So are imagined pixels
    in space that the `evidence` views saw to be empty.
    """
    maps = PointMaps.from_depth(view.cameras, view.depth, view.confidence)
    thinning = SurfelConfig(shrink=1.0, edge=config.edge, depth_quantile=1.0)
    surfels, pixel = surfels_from_points(maps[0], view.cameras[0], view.image[0], thinning)
    discs = PixelDiscs(surfels, view.confidence.flatten()[pixel])
    keep, imagined = discs.confidence >= SEEN, (discs.confidence < SEEN).nonzero()[:, 0]
    if len(imagined):
        keep[imagined] = ~seen_through(evidence, surfels.position[imagined], config.empty)
    return discs if keep.all() else discs[keep]


def splat_context(
    context: Views,
    discs: PixelDiscs,
    targets: Cameras,
    height: int,
    width: int,
    config: WarpConfig,
) -> Generation:
    """The targets as far as the context shows them; elsewhere colour 0, depth NaN, confidence 0."""
    if len(discs) == 0:  # every context pixel was imagined in space that is known to be empty
        blank = context.image.new_zeros(len(targets), height, width)
        return Generation(blank[:, None].expand(-1, 3, -1, -1), blank + torch.nan, blank)
    rendered = splat(discs.surfels, targets, height, width, SplatConfig(scale=config.scale))
    hit = rendered.surfel >= 0
    depth = torch.where(hit, rendered.depth, torch.nan)
    image = depth.new_zeros(len(targets), 3, height * width)
    confidence = torch.zeros_like(depth).flatten(1)
    for m, points in enumerate(unproject(targets, depth)):
        pixel = hit[m].flatten().nonzero()[:, 0]
        disc = rendered.surfel[m].flatten().index_select(0, pixel)
        normal = discs.surfels.normal.index_select(0, disc)
        points = points.flatten(0, 1).index_select(0, pixel)
        color, weight = _look_up(context, points, normal, config)
        # The disc's own colour remains where no view passes the tests of `_look_up`.
        own = discs.surfels.color.index_select(0, disc).T
        color = torch.where(weight > 0, color / weight.clamp(min=1e-12), own)
        image[m].scatter_(1, pixel.expand(3, -1), color)
        confidence[m, pixel] = discs.confidence.index_select(0, disc)
    return Generation(image.view(-1, 3, height, width), depth, confidence.view_as(depth))


def _panorama(views: Views, discs: PixelDiscs, targets: Cameras, config: WarpConfig) -> Panorama:
    """What the views show all around the targets."""
    directions = cylinder_rays(targets, *views.image.shape[2:])
    ring = surrounding_cameras(targets, directions)
    height, width = directions.shape[0], directions.shape[1] // 4
    state = splat_context(views, discs, ring, height, width, config)
    image, source = to_cylinder(ring, state.image, state.confidence > 0, directions)
    return Panorama(directions, image, source)


def _upright(targets: Cameras) -> Callable[[Cameras], Cameras]:
    """A rotation of the world, as a function of cameras: the axis nearest to the targets' mean down
    direction becomes +y, on which cylinders stand, and the first target faces +z."""
    down, ahead = targets.rotation[:, :, 1].mean(0), targets.forward[0]
    axis = down.abs().argmax()
    y = torch.zeros_like(down)
    y[axis] = 1.0 if down[axis] >= 0 else -1.0
    ahead = torch.where(ahead[axis].abs() > 0.99, -targets.rotation[0, :, 1], ahead)
    z = normalize(ahead - (ahead @ y) * y, dim=0)
    new_from_world = torch.eye(4, device=down.device)
    new_from_world[:3, :3] = torch.stack([torch.linalg.cross(y, z), y, z])
    return lambda cameras: Cameras(new_from_world @ cameras.world_from_cam, cameras.K)


def _look_up(
    context: Views, points: Float[Tensor, "n 3"], normal: Float[Tensor, "n 3"], config: WarpConfig
) -> tuple[Float[Tensor, "3 n"], Float[Tensor, " n"]]:
    """Weighted sum of the colours of world points in the context views, and the sum of the weights
    (0 where no view sees the point)."""
    views = [context[i : i + 1] for i in range(len(context))]
    columns = points.mT.contiguous().mT  # as `project` needs them, once for all views
    size = points.new_full((len(views), len(points)), torch.inf)  # world units a pixel
    given = torch.zeros_like(size, dtype=torch.bool)
    seen = []
    for view, its_size, its_given in zip(views, size, given, strict=True):
        point, grid, depth = _sight(view, columns, config)
        sight = normalize(points.index_select(0, point) - view.cameras.position, dim=-1)
        cosine = (sight * normal.index_select(0, point)).sum(-1).clamp(min=0)
        its_size[point] = footprint(depth, view.cameras.K[0, 1, 1], cosine)
        its_given[point] = _sample(view.confidence[:, None], grid, "nearest")[0, 0] >= SEEN
        seen.append((point, grid))
    sharpest = size.amin(0).clamp(max=torch.finfo(size.dtype).max)  # finite where no view sees it
    weight = (sharpest / size) ** config.focus * torch.where(given, 1.0, config.imagined)
    color = points.new_zeros(3, len(points))
    for view, its_weight, (point, grid) in zip(views, weight, seen, strict=True):
        shown = _sample(view.image, grid, "bicubic")[0].clamp(0, 1)
        color.index_add_(1, point, shown * its_weight.index_select(0, point))
    return color, weight.sum(0)


def _sight(
    view: Views, points: Float[Tensor, "n 3"], config: WarpConfig
) -> tuple[Int[Tensor, " s"], Float[Tensor, "1 s 1 2"], Float[Tensor, " s"]]:
    """Which points one view (t = 1) sees, where, as `grid_sample` takes it, and at what depth."""
    uv, depth = project(view.cameras, points)
    point = in_image(uv, depth)[0].nonzero()[:, 0]
    grid = torch.stack([2 * x.index_select(0, point) - 1 for x in uv[0].unbind(-1)], -1)
    depth = depth[0].index_select(0, point)
    # Interpolated inverse depth is exact on planes, where it is affine, and wrong across edges, whose
    # points this test then rejects.
    inverse = _sample(1 / view.depth[:, None], grid[None, :, None], "bilinear")[0, 0]
    seen = ((inverse * depth - 1).abs() <= config.occlusion).nonzero()[:, 0]
    grid = grid.index_select(0, seen)[None, :, None]
    return point.index_select(0, seen), grid, depth.index_select(0, seen)


def _sample(image: Tensor, grid: Tensor, mode: Literal["nearest", "bilinear", "bicubic"]) -> Tensor:
    sampled = grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled[..., 0]
