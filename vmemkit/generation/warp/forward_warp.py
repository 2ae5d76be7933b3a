"""Warp: the generator that needs no weights and imagines nothing.

In: context views with depth, target cameras. Out: the context's pixels, moved by their depth into the
targets, and what no context view saw, filled from its surroundings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, normalize

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
    project,
    seen_through,
    splat,
    surfels_from_points,
    unproject,
)
from vmemkit.generation.generator import IMAGINED, SEEN, Generation
from vmemkit.generation.warp.cylinder import (
    cylinder_rays,
    fill_views,
    surrounding_cameras,
    to_cylinder,
)
from vmemkit.generation.warp.holes import exemplar, fill_depth, push_pull

NOWHERE = 2.0  # world units: depth where not even the context knows any

Surroundings = tuple[Tensor, Tensor, Tensor]  # rays [H W 3], panorama [3 H W], source [H W]


@dataclass(frozen=True)
class WarpConfig:
    occlusion: float = 0.03  # relative depth by which a pixel may miss the surface it is taken from
    empty: float = 0.06  # likewise, by which a given view must look past a point to see through it
    focus: float = 8.0  # exponent on quality: how far the sharpest view outweighs the others
    imagined: float = 1e-3  # weight of a filled pixel's colour against a seen one's
    edge: float = SurfelConfig.edge
    scale: float = 2**0.5  # of the discs, as in splatting
    fill: Literal["columns", "exemplar", "push_pull"] = "columns"  # colour of holes, see `fill`
    crack: float = 0.01  # share of a target below which holes are filled by push-pull
    rim: float = 0.06  # of the width: how far from a hole nearer surfaces lend it no colour
    nearer: float = 0.9  # of the hole's depth: what counts as nearer


@dataclass(frozen=True, repr=False)
class Discs(TensorStruct):
    """Context pixels as surfels."""

    surfels: Surfels
    confidence: Float[Tensor, " n"]


@dataclass(frozen=True)
class Warp:
    """Depth forwards, colour backwards: the context's pixels, as discs, give each target pixel its
    depth; that point is looked up in every context view which sees it, the sharpest counting most.

    What was given outranks what was filled: imagined pixels are dropped where a given view looked
    through them, and lend no colour where a seen one can. Targets are made in turn and each becomes
    context for the next, so that a window agrees with itself. Yields the warped targets with their
    holes, then the filled ones.
    """

    config: WarpConfig = field(default_factory=WarpConfig)

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """Errors: ValueError for an empty context or one without depth."""
        if len(context) == 0 or context.depth is None:
            raise ValueError(
                f"warp needs context views with depth, got {context}: retrieve at least one view"
            )
        context = context.replace(confidence=_confidence(context), latent=None, embedding=None)
        turned = _upright(targets)
        targets, context = turned(targets), context.replace(cameras=turned(context.cameras))
        evidence, size = context[context.given], context.image.shape[2:]
        discs = [
            context_discs(context[i : i + 1], evidence, self.config) for i in range(len(context))
        ]
        # What was given is copied from; with nothing given in sight, what there is must do.
        around = context.given if context.given.any() else ~context.given
        real = cat([disc for disc, shown in zip(discs, around, strict=True) if shown])
        surroundings = functools.cache(
            lambda: _surroundings(context[around], real, targets, self.config)
        )
        seen = context
        warped, filled = [], []
        for i in range(len(targets)):
            target = targets[i : i + 1]
            warped.append(warp(seen, cat(discs), target, *size, self.config))
            state = fill(warped[-1], target, seen, surroundings, self.config, rng)
            filled.append(state)
            made = state.views(target)
            seen = cat([seen, made])
            discs.append(context_discs(made, evidence, self.config))
        yield cat(warped)
        yield cat(filled)


def context_discs(view: Views, evidence: Views, config: WarpConfig) -> Discs:
    """Every pixel of one view (t = 1) as a disc, except at depth edges, where pixels are often
    mixtures, and except imagined ones in space that the `evidence` views saw to be empty."""
    maps = PointMaps.from_depth(view.cameras, view.depth, view.confidence)
    thinning = SurfelConfig(shrink=1.0, edge=config.edge, depth_quantile=1.0)
    surfels, pixel = surfels_from_points(maps[0], view.cameras[0], view.image[0], thinning)
    discs = Discs(surfels, view.confidence.flatten()[pixel])
    empty = seen_through(evidence, surfels.position, config.empty)
    return discs[~(empty & (discs.confidence < SEEN))]


def warp(
    context: Views, discs: Discs, targets: Cameras, height: int, width: int, config: WarpConfig
) -> Generation:
    """The targets as far as the context shows them; elsewhere colour 0, depth NaN, confidence 0."""
    if len(discs) == 0:  # all that the context imagined has been seen to be empty
        blank = context.image.new_zeros(len(targets), height, width)
        return Generation(blank[:, None].expand(-1, 3, -1, -1), blank + torch.nan, blank)
    seen = splat(discs.surfels, targets, height, width, SplatConfig(scale=config.scale))
    hit = seen.surfel >= 0
    depth = torch.where(hit, seen.depth, torch.nan)
    ids = seen.surfel.clamp(min=0)
    image = discs.surfels.color[ids].permute(0, 3, 1, 2)  # where no view passes the tests below
    points = unproject(targets, depth)
    for m in range(len(targets)):
        normal = discs.surfels.normal[ids[m][hit[m]]]
        color, weight = _look_up(context, points[m][hit[m]], normal, config)
        total = weight.sum(0)
        blended = (color * weight[:, None]).sum(0) / total.clamp(min=1e-12)
        image[m, :, hit[m]] = torch.where(total > 0, blended, image[m, :, hit[m]])
    confidence = torch.where(hit, discs.confidence[ids], 0.0)
    return Generation(torch.where(hit[:, None], image, 0.0), depth, confidence)


def fill(
    state: Generation,
    target: Cameras,
    context: Views,
    surroundings: Callable[[], Surroundings],
    config: WarpConfig,
    rng: torch.Generator,
) -> Generation:
    """One warped target (m = 1) with its holes filled. Depth continues the planes at their border.

    Colour comes from surfaces as far away as the hole's: by copying columns of the given views
    all round ("columns"), by a library's content-aware inpainting ("exemplar"), or smoothly.
    Depth that would stand where a given view looked through empty space stays NaN: the pixel is
    painted, but not remembered (unless nothing would be). A target that sees nothing is filled as a
    surface at the context's median depth, or at NOWHERE.
    """
    image, known = state.image, state.confidence > 0
    narrow = bool((~known).float().mean() < config.crack)
    if narrow:
        depth = 1 / push_pull(1 / state.depth[:, None], known)[:, 0]
    elif known.any():
        depth = fill_depth(state.depth[0], known[0])[None]
    else:
        depth = torch.full_like(state.depth, float(context.depth.nanmedian()))
        depth = depth.nan_to_num(NOWHERE)
    anchor = known & ~_in_front_of_holes(depth, known, config)
    anchor = anchor if anchor.any() else known
    if narrow:
        colored = push_pull(image, anchor)
    else:
        colored = _colored(state, anchor, target, context, surroundings, config, rng)
    points = unproject(target, depth).flatten(0, 2)
    empty = seen_through(context[context.given], points, config.empty).view(depth.shape) & ~known
    return Generation(
        torch.where(known[:, None], image, colored).clamp(0, 1),
        depth if empty.all() else torch.where(empty, torch.nan, depth),
        torch.where(known, state.confidence, IMAGINED),
    )


def _colored(
    state: Generation,
    anchor: Bool[Tensor, "1 h w"],
    target: Cameras,
    context: Views,
    surroundings: Callable[[], Surroundings],
    config: WarpConfig,
    rng: torch.Generator,
) -> Float[Tensor, "1 3 h w"]:
    """Colour for every pixel, from the `anchor` ones and what is all round."""
    if config.fill == "columns" and (anchor.any() or surroundings()[2].any()):
        return fill_views(target, state.image, anchor, *surroundings())
    if not anchor.any():
        return context.image.mean((0, 2, 3)).view(1, 3, 1, 1).expand_as(state.image)
    if config.fill == "exemplar":
        source = anchor & (state.confidence >= SEEN)
        source = source if source.any() else anchor
        seed = int(torch.randint(2**31, (1,), generator=rng))
        return exemplar(state.image[0], anchor[0], source[0], seed)[None]
    return push_pull(state.image, anchor)


def _surroundings(views: Views, discs: Discs, targets: Cameras, config: WarpConfig) -> Surroundings:
    """What the views show all round the targets: (rays, panorama, which of it is shown)."""
    directions = cylinder_rays(targets, *views.image.shape[2:])
    ring = surrounding_cameras(targets, directions)
    state = warp(views, discs, ring, directions.shape[0], directions.shape[1] // 4, config)
    return (directions, *to_cylinder(ring, state.image, state.confidence > 0, directions))


def _in_front_of_holes(
    depth: Float[Tensor, "1 h w"], known: Bool[Tensor, "1 h w"], config: WarpConfig
) -> Bool[Tensor, "1 h w"]:
    """Pixels near a hole that lie in front of it: what moved aside and uncovered it."""
    reach = max(1, round(config.rim * depth.shape[-1]))
    behind = torch.where(known, 0.0, depth)
    # A square's maximum is that of its columns' maxima: of dozens of pixels, not thousands.
    behind = max_pool2d(behind, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    behind = max_pool2d(behind, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return depth < config.nearer * behind


def _upright(targets: Cameras) -> Callable[[Cameras], Cameras]:
    """Turns the world so that its axis nearest to the cameras' down is +y, for cylinders to stand
    on, and the first target faces +z."""
    down, ahead = targets.rotation[:, :, 1].mean(0), targets.forward[0]
    axis = down.abs().argmax()
    y = torch.zeros_like(down)
    y[axis] = 1.0 if down[axis] >= 0 else -1.0
    ahead = torch.where(ahead[axis].abs() > 0.99, -targets.rotation[0, :, 1], ahead)
    z = normalize(ahead - (ahead @ y) * y, dim=0)
    new_from_world = torch.eye(4, device=down.device)
    new_from_world[:3, :3] = torch.stack([torch.linalg.cross(y, z), y, z])
    return lambda cameras: Cameras(new_from_world @ cameras.world_from_cam, cameras.K)


def _confidence(views: Views) -> Float[Tensor, "t h w"]:
    """SEEN for given views, whatever their geometry's own confidence; else as they carry it."""
    seen = torch.full_like(views.depth, SEEN)
    if views.confidence is None:
        return seen
    return torch.where(views.given[:, None, None], seen, views.confidence)


def _look_up(
    context: Views, points: Float[Tensor, "n 3"], normal: Float[Tensor, "n 3"], config: WarpConfig
) -> tuple[Float[Tensor, "t 3 n"], Float[Tensor, "t n"]]:
    """Colour of world points in each context view, and the weight it deserves (0 = not seen)."""
    uv, depth = project(context.cameras, points)
    grid = (2 * uv - 1)[:, :, None]
    color = _sample(context.image, grid, "bicubic").clamp(0, 1)
    # Inverse depth is affine on planes, so interpolating it is exact there and fails across edges.
    inverse = _sample(1 / context.depth[:, None], grid, "bilinear")[:, 0]
    seen = (depth > 0) & (uv >= 0).all(-1) & (uv <= 1).all(-1)
    seen &= (inverse * depth - 1).abs() <= config.occlusion
    sight = normalize(points - context.cameras.position[:, None], dim=-1)
    cosine = (sight * normal).sum(-1).clamp(min=0)
    size = footprint(depth, context.cameras.K[:, 1, 1][:, None], cosine)
    size = torch.where(seen, size, torch.inf)
    sharpest = size.amin(0).clamp(max=torch.finfo(size.dtype).max)  # inf / inf where none sees it
    real = _sample(context.confidence[:, None], grid, "nearest")[:, 0] >= SEEN
    return color, (sharpest / size) ** config.focus * torch.where(real, 1.0, config.imagined)


def _sample(image: Tensor, grid: Tensor, mode: Literal["nearest", "bilinear", "bicubic"]) -> Tensor:
    sampled = grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled[..., 0]
