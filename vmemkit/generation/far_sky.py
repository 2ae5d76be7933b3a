"""The sky while a picture is made: pixels of infinite depth get a place, so far away that none moves.

In: views whose depth may be infinite. Out: views of finite depth, and the distance of the sky. What is
found there is sky again (`sky_again`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import Cameras, Views, pixel_centres, rays

EXTENTS = 1e4  # the distance of the sky in extents of the scene: parallax stays below 1/100 pixel
FARTHEST = 1e10  # world units: the sky is nowhere farther
NEAREST = 0.1  # share of the distance from which on depth means sky


def with_far_sky(views: Views) -> tuple[Views, float]:
    """The views (t,) with finite depth where they show sky, and its distance in world units: infinite
    if they show none. The sky is a sphere around each camera, so that all agree about it."""
    shown = views.depth.isinf()
    if not bool(shown.any()):
        return views, math.inf
    known = torch.where(views.depth.isfinite(), views.depth, 0).amax()
    spread = (views.cameras.position - views.cameras.position[0]).norm(dim=1).amax()
    extent = float(known + spread)
    distance = min(FARTHEST, EXTENTS * (extent if extent > 0 else 1.0))
    height, width = views.depth.shape[1:]
    sphere = sky_depth(views.cameras, height, width, distance)
    return views.replace(depth=torch.where(shown, sphere, views.depth)), distance


def sky_depth(cameras: Cameras, height: int, width: int, distance: float) -> Float[Tensor, "t h w"]:
    """The planar depth of a sphere of this radius around each camera (t,)."""
    uv = pixel_centres(height, width, device=cameras.device)
    length = rays(cameras, uv.expand(len(cameras), *uv.shape)).norm(dim=-1)
    return distance / length


def is_sky(depth: Float[Tensor, "*t h w"], distance: float) -> Bool[Tensor, "*t h w"]:
    """Where depth is that of the sky at this distance."""
    return depth > NEAREST * distance


def sky_again(depth: Float[Tensor, "*t h w"], distance: float) -> Float[Tensor, "*t h w"]:
    """The depth with infinity where the sky at this distance is."""
    return torch.where(is_sky(depth, distance), torch.inf, depth)
