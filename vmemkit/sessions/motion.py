"""The motion from one camera to another, in the words of `scenes.moves`."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import UP, Cameras

LEAST_METRES, LEAST_DEGREES = 0.005, 0.05  # smaller motions are left out of the words


def motion_between(start: Cameras, end: Cameras) -> str:
    """How the camera `end` stands to `start`, both single: "forward 0.50, right 30.0", in world units
    and degrees; "stay" where it hardly differs. As in `scenes.moves`, forward is level."""
    (right, ahead), (end_right, _) = _level(start), _level(end)
    up = start.position.new_tensor(UP)
    path = end.position - start.position
    turn = math.degrees(math.atan2(-float(end_right @ ahead), float(end_right @ right)))
    look = _elevation(end) - _elevation(start)
    words = []
    for amount, plus, minus in (
        (float(path @ ahead), "forward", "back"),
        (float(path @ right), "strafe right", "strafe left"),
        (float(path @ up), "up", "down"),
    ):
        if abs(amount) >= LEAST_METRES:
            words.append(f"{plus if amount > 0 else minus} {abs(amount):.2f}")
    for amount, plus, minus in ((turn, "right", "left"), (look, "look up", "look down")):
        if abs(amount) >= LEAST_DEGREES:
            words.append(f"{plus if amount > 0 else minus} {abs(amount):.1f}")
    return ", ".join(words) or "stay"


def _level(camera: Cameras) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """The level directions to the right of a camera and ahead of it."""
    up, right = camera.position.new_tensor(UP), camera.rotation[:, 0]
    right = torch.nn.functional.normalize(right - (right @ up) * up, dim=0)
    return right, torch.linalg.cross(up, right)


def _elevation(camera: Cameras) -> float:
    """How far a camera looks up, degrees."""
    height = float(camera.forward @ camera.position.new_tensor(UP))
    return math.degrees(math.asin(max(-1.0, min(1.0, height))))
