"""Errors of camera poses, and of the geometry that views claim.

In: two paths of cameras with the same number of poses, or views with depth. Out: numbers. Lower is
better, 0 is perfect. The poses that a generator really made are not known; these functions compare
whatever estimate one has with the poses that were asked for.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import SAME_SURFACE, Cameras, Views, project, surface_at, unproject
from vmemkit.reconstruction import fit_similarity


def rotation_distance(estimated: Cameras, asked: Cameras) -> float:
    """R_dist: mean angle in degrees between the rotations relative to the first camera.

    VMem and others sum radians over the frames. Errors: ValueError for paths of different lengths or
    of fewer than two cameras.
    """
    a, b = (_from_first(path) for path in _paired(estimated, asked))
    return float(torch.rad2deg(_angles(a[1:, :3, :3], b[1:, :3, :3])).mean())


def translation_distance(estimated: Cameras, asked: Cameras) -> float:
    """T_dist: mean distance between the positions relative to the first camera; it has no unit.

    The positions of each path are divided by the distance of its furthest one (VMem, section 4.1).
    Errors: as `rotation_distance`.
    """
    places = []
    for path in _paired(estimated, asked):
        place = _from_first(path)[:, :3, 3]
        places.append(place / place.norm(dim=1).max().clamp(min=1e-12))
    return float((places[0] - places[1])[1:].norm(dim=1).mean())


def trajectory_error(estimated: Cameras, asked: Cameras) -> float:
    """ATE: root mean square distance of the positions after the best similarity (Umeyama, 1991).

    In world units. Errors: as `rotation_distance`.
    """
    a, b = (path.position.double() for path in _paired(estimated, asked))
    scale, rotation, shift = fit_similarity(a, b)
    return float((scale * a @ rotation.T + shift - b).square().sum(1).mean().sqrt())


def relative_pose_error(estimated: Cameras, asked: Cameras) -> tuple[float, float]:
    """RPE: root mean square error of the motions from frame to frame, in world units and degrees.

    The positions are first scaled as `trajectory_error` scales them. Errors: as
    `rotation_distance`.
    """
    ours, theirs = _paired(estimated, asked)
    scale, _, _ = fit_similarity(ours.position.double(), theirs.position.double())
    a, b = _motions(ours, float(scale)), _motions(theirs, 1.0)
    shift = (torch.linalg.inv(b) @ a)[:, :3, 3].norm(dim=1)
    angle = torch.rad2deg(_angles(a[:, :3, :3], b[:, :3, :3]))
    return float(shift.square().mean().sqrt()), float(angle.square().mean().sqrt())


def warp_consistency(a: Views, b: Views) -> tuple[float | None, float]:
    """Whether two views (1,) with depth show one scene.

    Returns the mean absolute difference of colours in [0, 1] where both see the same surface, and the
    share of a's pixels where they do. Each pixel of a is projected into b by its own depth. It counts
    if b's depth there agrees within 5 %. The difference is None if no pixel counts.
    The idea is MEt3R's (Asim et al., 2025), without its network. Errors: ValueError for views without
    depth.
    """
    if a.depth is None or b.depth is None:
        raise ValueError(
            "warp consistency needs two views with depth, got one without: take those of step.views"
        )
    points = unproject(a.cameras, a.depth).reshape(-1, 3)
    depth, there = surface_at(b, points)
    same = (depth - there).abs() <= SAME_SURFACE * there  # false where b's depth is unknown
    share = float(same.float().mean())
    if not same.any():
        return None, share
    height, width = b.depth.shape[1:]
    [uv], _ = project(b.cameras, points[same][None])
    column, row = (uv * uv.new_tensor([width, height])).long().unbind(-1)
    ours, theirs = a.image[0].flatten(1)[:, same], b.image[0, :, row, column]
    return float((ours - theirs).abs().mean()), share


def _paired(a: Cameras, b: Cameras) -> tuple[Cameras, Cameras]:
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"poses are compared in paths of the same length of 2 or more, got {len(a)} and {len(b)}"
        )
    return a, b


def _from_first(path: Cameras) -> Float[Tensor, "n 4 4"]:
    poses = path.world_from_cam.double()
    return torch.linalg.inv(poses[0]) @ poses


def _motions(path: Cameras, scale: float) -> Float[Tensor, "n 4 4"]:
    poses = path.world_from_cam.double().clone()
    poses[:, :3, 3] *= scale
    return torch.linalg.inv(poses[:-1]) @ poses[1:]


def _angles(a: Float[Tensor, "n 3 3"], b: Float[Tensor, "n 3 3"]) -> Float[Tensor, " n"]:
    """Angles in radians between rotations; exact for small ones, too."""
    chord = (a - b).flatten(1).norm(dim=1)  # 2 sqrt(2) sin(angle / 2)
    return 2 * torch.asin((chord / (2 * math.sqrt(2))).clamp(max=1.0))
