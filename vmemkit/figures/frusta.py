"""Frusta: cameras as pyramids, from the eye to the corners of the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras

FRUSTUM_EDGES = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1]  # pairs of corners; the eye is 0


def frustum_corners(cameras: Cameras, length: Float[Tensor, " t"]) -> Float[Tensor, "t 5 3"]:
    """World points of the eye of each camera (t,), and of its image's corners, going round.

    The image stands `length` world units ahead of the eye, along z.
    """
    uv = cameras.K.new_tensor([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    world_from_image = cameras.rotation @ torch.linalg.inv(cameras.K)
    ahead = torch.einsum("t,tij,cj->tci", length, world_from_image, uv)
    ahead = torch.cat([torch.zeros_like(ahead[:, :1]), ahead], 1)
    return cameras.position[:, None] + ahead
