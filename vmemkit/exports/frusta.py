"""Frusta: cameras as pyramids, from the eye to the corners of the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, rays

EDGES = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 4, 4, 3, 3, 1]  # pairs of corners; the eye is 0


def frustum_corners(cameras: Cameras, length: float) -> Float[Tensor, "t 5 3"]:
    """The eye of each camera (t,), and the corners of its image `length` world units ahead, row by
    row."""
    uv = cameras.K.new_tensor([[[0, 0], [1, 0]], [[0, 1], [1, 1]]])
    eye = cameras.position[:, None]
    directions = rays(cameras, uv.expand(len(cameras), 2, 2, 2)).flatten(1, 2)
    return torch.cat([eye, eye + length * directions], 1)
