"""The released demo's way of walking, for walks that shall be compared with it.

In: a pose and keys (w forward, s backward, a left, d right). Out: FRAMES poses per key, the last of
which is where the key leads. Unlike `trajectory.moves`, forward follows the camera wherever it looks,
and turns are about the world's vertical, whatever the camera's roll. All in float64.
Source: VMem's released navigation, in our axes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

from vmemkit.core import UP, Cameras, check

STEP = 0.1  # world units of a key

TURN = 4.0  # degrees of a key

FRAMES = 4  # views generated per key

KEYS = {"w": "forward", "s": "backward", "a": "left", "d": "right"}


def navigate(start: Cameras, keys: str, step: float = STEP, turn: float = TURN) -> Cameras:
    """Cameras (FRAMES * len(keys),) of a single start camera and keys such as "wwaad".

    Errors: ValueError for other keys, or none.
    """
    if not keys or set(keys) - set(KEYS):
        raise ValueError(f"need keys of {', '.join(KEYS)}, got {keys!r}")
    if not (math.isfinite(step) and math.isfinite(turn)):
        raise ValueError(f"a step and a turn are finite, got {step} and {turn}")
    if check(start).world_from_cam.ndim != 2:
        raise ValueError("start must be a single camera: take one, cameras[-1]")
    pose, path = start.world_from_cam.cpu().double().numpy(), []
    for key in keys:
        end = moved(pose, KEYS[key], turn if key in "ad" else step)
        path.append(between(pose, end, FRAMES))
        pose = end
    poses = torch.from_numpy(np.concatenate(path)).float().to(start.device)
    return Cameras(poses, start.K.expand(len(poses), 3, 3))


def moved(pose: Float64[np.ndarray, "4 4"], verb: str, amount: float) -> Float64[np.ndarray, "4 4"]:
    """The pose after one verb of KEYS, by world units or degrees."""
    pose = pose.copy()
    if verb in ("forward", "backward"):
        pose[:3, 3] += (1 if verb == "forward" else -1) * amount * pose[:3, 2]
    else:
        angle = np.deg2rad(amount if verb == "left" else -amount)
        pose[:3, :3] = Rotation.from_rotvec(angle * np.array(UP)).as_matrix() @ pose[:3, :3]
    return pose


def between(
    a: Float64[np.ndarray, "4 4"], b: Float64[np.ndarray, "4 4"], n: int
) -> Float64[np.ndarray, "n 4 4"]:
    """n poses from a (left out) to b (included): positions linear, rotations at a constant rate."""
    share = np.arange(1, n + 1) / n
    poses = np.tile(b, (n, 1, 1))
    poses[:, :3, :3] = Slerp([0, 1], Rotation.from_matrix([a[:3, :3], b[:3, :3]]))(
        share
    ).as_matrix()
    poses[:, :3, 3] = a[:3, 3] + share[:, None] * (b[:3, 3] - a[:3, 3])
    return poses
