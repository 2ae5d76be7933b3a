"""The motion from one camera to another, in the words of `scenes.moves`."""

from __future__ import annotations

import math

from vmemkit.core import Cameras

LEAST_METRES, LEAST_DEGREES = 0.005, 0.05  # what is less is not told


def motion_between(start: Cameras, end: Cameras) -> str:
    """How the camera `end` stands to `start`, both single: "forward 0.50, right 30.0", in world units
    and degrees; "stay" where it hardly differs."""
    x, y, z = (start.rotation.mT @ (end.position - start.position)).tolist()
    turn = start.rotation.mT @ end.rotation
    right = math.degrees(math.atan2(float(turn[0, 2]), float(turn[2, 2])))
    up = math.degrees(math.asin(max(-1.0, min(1.0, -float(turn[1, 2])))))
    words = []
    for amount, plus, minus in (
        (z, "forward", "back"),
        (x, "strafe right", "strafe left"),
        (-y, "up", "down"),
    ):
        if abs(amount) >= LEAST_METRES:
            words.append(f"{plus if amount > 0 else minus} {abs(amount):.2f}")
    for amount, plus, minus in ((right, "right", "left"), (up, "look up", "look down")):
        if abs(amount) >= LEAST_DEGREES:
            words.append(f"{plus if amount > 0 else minus} {abs(amount):.1f}")
    return ", ".join(words) or "stay"
