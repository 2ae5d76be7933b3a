"""Sky: which views show it where the query cameras see no surfel.

In: a memory, query cameras and what they see of it. Out: pairs of a direction and a view. The sky has
no place, so it has no surfels. A view that shows it in some direction shows it to every camera that
looks there and meets nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Splat, in_image, pixel_centres, pose, project, rays
from vmemkit.memory import Memory

SKY_STEP = 4  # canvas pixels from one direction to the next: the sky is smooth
VIEWS_AT_ONCE = 256  # views are compared in parts of this size, which bounds the memory needed


def sky_sightings(
    memory: Memory, query: Cameras, canvas: Splat
) -> tuple[int, Int[Tensor, " e"], Int[Tensor, " e"]]:
    """The number of directions in which the query cameras see no surfel, of every SKY_STEP-th row and
    column of the canvas; and pairs of a direction and a view (of the memory) that shows sky there."""
    views = memory.shows_sky.nonzero()[:, 0].to(memory.device)
    if len(views) == 0:
        return 0, views, views
    height, width = canvas.surfel.shape[1:]
    part = slice(SKY_STEP // 2, None, SKY_STEP)
    uv = pixel_centres(height, width, memory.device)[part, part]
    towards = rays(query, uv.expand(len(query), *uv.shape))[canvas.surfel[:, part, part] < 0]
    direction, view = [], []
    for some in views.split(VIEWS_AT_ONCE):
        row, column = _shows_sky(memory, some, towards).nonzero(as_tuple=True)
        direction.append(column)
        view.append(some[row])
    return len(towards), torch.cat(direction), torch.cat(view)


def _shows_sky(
    memory: Memory, views: Int[Tensor, " v"], towards: Float[Tensor, "n 3"]
) -> Bool[Tensor, "v n"]:
    """Whether each of the views shows sky in each world direction."""
    height, width = memory.views.image.shape[2:]
    cameras = memory.views.cameras[views]
    # For a camera at the origin, a direction is a point.
    turned = cameras.replace(world_from_cam=pose(cameras.rotation, 0 * cameras.position))
    uv, z = project(turned, towards[None])
    inside = in_image(uv, z)
    u, v = torch.where(inside[..., None], uv, 0).unbind(-1)
    row, column = (v * height).long().clamp(max=height - 1), (u * width).long().clamp(max=width - 1)
    return inside & memory.views.depth[views[:, None], row, column].isinf()
