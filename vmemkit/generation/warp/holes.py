"""How a hole is filled: colour and depth for the pixels that no context view has seen.

In: one target as far as the context shows it. Out: the same target without holes; what was known
stays as it was. `fill_holes` takes four steps, of which the larger ones have files of their own:

1. Depth: the planes around the hole are continued into it (`planes.py`).
2. Sources: pixels in front of the hole lend it no colour, because their surface only uncovered it.
3. Colour: the hole takes columns of what the given views show all round (`cylinder.py`).
4. Empty space: where a given view saw through the new depth, the depth becomes unknown again.

A target whose holes are only cracks is smoothed over instead (`smoothing.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from vmemkit.core import Cameras, Views, cat, seen_through, unproject
from vmemkit.generation.far_sky import is_sky, sky_depth
from vmemkit.generation.generator import IMAGINED, Generation
from vmemkit.generation.warp.config import WarpConfig
from vmemkit.generation.warp.cylinder import Panorama, fill_views
from vmemkit.generation.warp.planes import fill_depth
from vmemkit.generation.warp.smoothing import push_pull

NOWHERE = 2.0  # world units: depth of a target where not even the context knows any depth


def fill_holes(
    state: Generation,
    target: Cameras,
    context: Sequence[Views],
    evidence: Views,
    panorama: Callable[[], Panorama],
    sky: float,
    config: WarpConfig,
) -> Generation:
    """One splatted target (m = 1) with its holes filled.

    context: all views (t = 1), which say what to do where the target knows nothing.
    evidence: the given views.
    panorama: makes what the given views show all round. It is called only if a hole needs it.
    sky: the distance of the sky (`with_far_sky`); infinite without one.
    A target that sees nothing is filled as a surface at the context's median depth, or at NOWHERE.
    """
    known = state.confidence > 0
    only_cracks = bool((~known).float().mean() < config.crack)
    # 1. Depth.
    if only_cracks:
        depth = 1 / push_pull(1 / state.depth[:, None], known)[:, 0]
    elif known.any():
        depth = fill_depth(state.depth[0], known[0])[None]
    else:
        depth = torch.full_like(state.depth, float(cat(context).depth.nanmedian()))
        depth = depth.nan_to_num(NOWHERE)
    if sky < math.inf:  # sky that is continued into a hole lies where the context's lies
        sphere = sky_depth(target, depth.shape[1], depth.shape[2], sky)
        depth = torch.where(is_sky(depth, sky), sphere, depth)
    # 2. Pixels that may lend their colour.
    sources = known & ~_in_front_of_holes(depth, known, config)
    sources = sources if sources.any() else known
    # 3. Colour.
    if only_cracks:
        image = push_pull(state.image, sources)
    elif config.fill == "columns" and (sources.any() or panorama().source.any()):
        image = fill_views(target, state.image, sources, panorama())
    elif sources.any():
        image = push_pull(state.image, sources)
    else:  # no pixel has a colour to lend: the mean colour of the context
        image = cat(context).image.mean((0, 2, 3)).view(1, 3, 1, 1).expand_as(state.image)
    # 4. Empty space: a new pixel there keeps its colour but not its depth, so it is not remembered.
    #    If that were so for all pixels, all keep their depth: a view without any is refused.
    hole = (~known).flatten().nonzero()[:, 0]
    points = unproject(target, depth).view(-1, 3).index_select(0, hole)
    empty = torch.zeros_like(known)
    empty.view(-1)[hole] = seen_through(evidence, points, config.empty)
    return Generation(
        torch.where(known[:, None], state.image, image).clamp(0, 1),
        depth if empty.all() else torch.where(empty, torch.nan, depth),
        torch.where(known, state.confidence, IMAGINED),
    )


def _in_front_of_holes(
    depth: Float[Tensor, "1 h w"], known: Bool[Tensor, "1 h w"], config: WarpConfig
) -> Bool[Tensor, "1 h w"]:
    """Pixels near a hole that are closer than it: the foreground that uncovered the hole."""
    reach = max(1, round(config.rim * depth.shape[-1]))
    # The maximum over a square in two passes, across and down.
    behind = torch.where(known, 0.0, depth)
    behind = _maximum_along(_maximum_along(behind, -1, reach), -2, reach)
    return depth < config.nearer * behind


def _maximum_along(image: Float[Tensor, "1 h w"], axis: int, reach: int) -> Float[Tensor, "1 h w"]:
    """The maximum of the 2 reach + 1 neighbours along an axis, at least 0.

    Two stretches that overlap or meet are joined, so every pass nearly doubles their length.
    """
    border = (reach, reach) if axis == -1 else (0, 0, reach, reach)
    maximum, length = pad(image, border), 1
    while length < 2 * reach + 1:
        shift = min(length, 2 * reach + 1 - length)
        rest = maximum.shape[axis] - shift
        maximum = torch.maximum(maximum.narrow(axis, 0, rest), maximum.narrow(axis, shift, rest))
        length += shift
    return maximum
