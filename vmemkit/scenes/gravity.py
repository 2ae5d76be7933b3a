"""Gravity: which way is up in a world from elsewhere, and the world turned so that it is `core.UP`.

In: cameras whose images are mostly upright. Out: a direction, or the same views in a turned world.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import UP, Cameras, Views
from vmemkit.core import cameras as checked_cameras

AXIS_ANGLE = 25.0  # degrees: a mean direction this close to an axis of the world means that axis
LEAST_COMMON = 0.05  # length of a mean of unit vectors: shorter ones say nothing


def up_direction(cameras: Cameras) -> Float[Tensor, 3]:
    """Up in the world of cameras (t,), unit length: the axis nearest to the mean direction that is up
    in their images, or that mean where no axis is near it. It is `core.UP` where they have none in
    common."""
    up = -cameras.rotation[..., 1].double().mean(0)
    if float(up.norm()) < LEAST_COMMON:
        return torch.tensor(UP)
    up = torch.nn.functional.normalize(up, dim=0)
    axis = int(up.abs().argmax())
    if float(up.abs()[axis]) >= math.cos(math.radians(AXIS_ANGLE)):
        up = torch.zeros_like(up).index_fill(0, torch.tensor(axis), float(up[axis].sign()))
    return up.float()


def up_words(up: Float[Tensor, 3]) -> str:
    """An up direction as words: an axis of the world, or its numbers."""
    axis = int(up.abs().argmax())
    if float(up.abs()[axis]) == 1.0:
        return f"{'-' if up[axis] < 0 else '+'}{'xyz'[axis]} of the world"
    return f"({', '.join(f'{value:.2f}' for value in up.tolist())}), which is along no axis"


def levelled(views: Views) -> Views:
    """The views in a world that is turned such that up is `core.UP`, as moves and rooms expect it."""
    turn = rotation_between(up_direction(views.cameras), torch.tensor(UP))
    if torch.equal(turn, torch.eye(3)):
        return views
    world = torch.eye(4)
    world[:3, :3] = turn
    poses = world.double() @ views.cameras.world_from_cam.double()
    return views.replace(cameras=checked_cameras(poses, views.cameras.K))


def rotation_between(start: Float[Tensor, 3], end: Float[Tensor, 3]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that takes one unit vector to another; half a turn about x or y where they
    are opposite."""
    across = torch.linalg.cross(start, end)
    cosine = float(start @ end)
    if cosine < -1 + 1e-6:
        axis = torch.eye(3)[int(start.abs().argmin())]
        axis = torch.nn.functional.normalize(axis - (axis @ start) * start, dim=0)
        return 2 * torch.outer(axis, axis) - torch.eye(3)
    skew = torch.linalg.cross(across.expand(3, 3), torch.eye(3), dim=1).T
    return torch.eye(3) + skew + skew @ skew / (1 + cosine)
