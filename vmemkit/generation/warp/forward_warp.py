"""Warp: the generator that needs no weights and imagines no content of its own.

In: context views with depth, target cameras. Out: target views with depth. The context's pixels are
moved into the targets by their depth, and what no context view saw is filled (`holes.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
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
    dot,
    footprint,
    in_camera_axes,
    root,
    seen_through,
    splat,
    surfels_from_points,
    unproject,
)
from vmemkit.core.kernels import accelerated
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
        views = one_by_one(context)
        by_view = [context_discs(view, evidence, self.config) for view in views]
        # The panorama shows given views only, or generated ones if the context has no given view.
        used = context.given if context.given.any() else ~context.given
        given = [
            (view, discs) for view, discs, use in zip(views, by_view, used, strict=True) if use
        ]
        panorama = functools.cache(lambda: _panorama(given, targets, self.config))
        discs = _DiscTable(by_view, room=(len(targets) - 1) * height * width)
        with_holes, complete = [], []
        for i in range(len(targets)):
            target = targets[i : i + 1]
            state = splat_context(views, discs.rows, target, height, width, self.config)
            filled = fill_holes(state, target, views, evidence, panorama, sky, self.config)
            with_holes.append(state)
            complete.append(filled)
            if i + 1 < len(targets):
                views = [*views, filled.views(target)]
                discs.append(context_discs(views[-1], evidence, self.config))
        for made in (cat(with_holes), cat(complete)):
            yield made.replace(depth=sky_again(made.depth, sky))


class _DiscTable:
    """Discs of one view after the other, with room for more: none is copied again for those to come."""

    def __init__(self, tables: Sequence[PixelDiscs], room: int) -> None:
        self._length, rows = 0, sum(map(len, tables)) + room
        self._table = tables[0].map(lambda x: x.new_empty(rows, *x.shape[1:]))
        for table in tables:
            self.append(table)

    def append(self, discs: PixelDiscs) -> None:
        start, self._length = self._length, self._length + len(discs)
        new = discs.leaves()
        for name, column in self._table.leaves().items():
            column[start : self._length] = new[name]

    @property
    def rows(self) -> PixelDiscs:
        return self._table[: self._length]


def one_by_one(views: Views) -> list[Views]:
    """The views, as one value (t = 1) each."""
    return [views[i : i + 1] for i in range(len(views))]


def context_discs(view: Views, evidence: Views, config: WarpConfig) -> PixelDiscs:
    """The pixels of one view (t = 1) as discs.

    Pixels at depth edges are left out, because they often mix two surfaces. So are imagined pixels
    in space that the `evidence` views saw to be empty.
    """
    maps = PointMaps.from_depth(view.cameras, view.depth, view.confidence)
    thinning = SurfelConfig(shrink=1.0, edge=config.edge, depth_quantile=1.0)
    surfels, pixel = surfels_from_points(maps[0], view.cameras[0], view.image[0], thinning)
    discs = PixelDiscs(surfels, view.confidence.flatten().index_select(0, pixel))
    keep, imagined = discs.confidence >= SEEN, (discs.confidence < SEEN).nonzero()[:, 0]
    if len(imagined):
        keep[imagined] = ~seen_through(evidence, surfels.position[imagined], config.empty)
    return discs if keep.all() else discs[keep]


def splat_context(
    context: Sequence[Views],
    discs: PixelDiscs,
    targets: Cameras,
    height: int,
    width: int,
    config: WarpConfig,
) -> Generation:
    """The targets as far as the context, of views with t = 1, shows them; elsewhere colour 0, depth
    NaN, confidence 0."""
    if len(discs) == 0:  # every context pixel was imagined in space that is known to be empty
        blank = context[0].image.new_zeros(len(targets), height, width)
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
        color = color / weight.clamp(min=1e-12)
        # The disc's own colour remains where no view passes the tests of `_look_up`.
        bare = (weight == 0).nonzero()[:, 0]
        own = discs.surfels.color.index_select(0, disc.index_select(0, bare))
        color.index_copy_(1, bare, own.T)
        image[m].scatter_(1, pixel.expand(3, -1), color)
        confidence[m, pixel] = discs.confidence.index_select(0, disc)
    return Generation(image.view(-1, 3, height, width), depth, confidence.view_as(depth))


def _panorama(
    given: Sequence[tuple[Views, PixelDiscs]], targets: Cameras, config: WarpConfig
) -> Panorama:
    """What views (t = 1) with their discs show all around the targets."""
    views, discs = zip(*given, strict=True)
    directions = cylinder_rays(targets, *views[0].image.shape[2:])
    ring = surrounding_cameras(targets, directions)
    height, width = directions.shape[0], directions.shape[1] // 4
    state = splat_context(views, cat(discs), ring, height, width, config)
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
    context: Sequence[Views],
    points: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    config: WarpConfig,
) -> tuple[Float[Tensor, "3 n"], Float[Tensor, " n"]]:
    """Weighted sum of the colours of world points in the context views, and the sum of the weights
    (0 where no view sees the point)."""
    limits = config.occlusion, SurfelConfig.slant, SEEN
    seen, sharpest = [], points.new_full((len(points),), torch.inf)  # world units a pixel
    for view in context:
        point, grid, size, trusted = _sight(
            points, normal, view.cameras, (view.depth[0], view.confidence[0]), limits
        )
        sharpest.scatter_reduce_(0, point, size, "amin")
        seen.append((view.image, point, grid, size, trusted))
    color, weight = points.new_zeros(3, len(points)), points.new_zeros(len(points))
    for image, point, grid, size, trusted in seen:
        share = (sharpest.index_select(0, point) / size) ** config.focus
        share = torch.where(trusted, share, config.imagined * share)
        shown = grid_sample(
            image, grid[None, :, None], "bicubic", padding_mode="border", align_corners=False
        )
        color.index_add_(1, point, shown[0, ..., 0].clamp(0, 1) * share)
        weight.index_add_(0, point, share)
    return color, weight


@accelerated
def _sight(
    points: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    camera: Cameras,
    view: tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]],
    limits: tuple[float, float, float],
) -> tuple[Int[Tensor, " s"], Float[Tensor, "s 2"], Float[Tensor, " s"], Bool[Tensor, " s"]]:
    """Which points of surfaces with these normals a view sees, given its camera (1,), depth and
    confidence: their numbers, places as `grid_sample` takes them, how large a pixel of the view is
    there, and whether its content was seen.

    limits: the largest relative error of depth, `slant` of `footprint`, and the confidence of what
    was seen.
    """
    (depth, confidence), (occlusion, slant, least) = view, limits
    (h, w), K = depth.shape, camera.K[0]
    offset = points - camera.position
    x, y, z = in_camera_axes(offset, camera.rotation[0])
    u, v = x / z * K[0, 0] + K[0, 2], y / z * K[1, 1] + K[1, 2]
    point = ((z > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)).nonzero()[:, 0]
    u, v, z = (a.index_select(0, point) for a in (u, v, z))
    # Interpolated inverse depth is exact on planes, where it is affine, and wrong across edges, whose
    # points this test then rejects.
    inverse = _bilinear(1 / depth, u, v)
    seen = ((inverse * z - 1).abs() <= occlusion).nonzero()[:, 0]
    point, u, v, z = (a.index_select(0, seen) for a in (point, u, v, z))
    offset, normal = offset.index_select(0, point), normal.index_select(0, point)
    distance = root(dot(offset, offset)).clamp(min=1e-12)
    cosine = dot(offset / distance[:, None], normal).clamp(min=0)
    row, column = (v * h).long().clamp(max=h - 1), (u * w).long().clamp(max=w - 1)
    grid = torch.stack([2 * u - 1, 2 * v - 1], -1)
    return point, grid, footprint(z, K[1, 1], cosine, slant), confidence[row, column] >= least


def _bilinear(
    image: Float[Tensor, "h w"], u: Float[Tensor, " n"], v: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The image interpolated at points from 0 to 1. Kernels repeat it to the bit."""
    h, w = image.shape
    x, y = (u * w - 0.5).clamp(0, w - 1), (v * h - 0.5).clamp(0, h - 1)
    left, top = x.long(), y.long()
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    x, y = x - left, y - top
    above = image[top, left] + x * (image[top, right] - image[top, left])
    below = image[bottom, left] + x * (image[bottom, right] - image[bottom, left])
    return above + y * (below - above)
