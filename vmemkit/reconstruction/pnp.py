"""PnP: the pose and the focal length of each camera, from the points that a network predicts.

In: points of all views in the camera axes of the first view, the "anchor". Out, for each view:
1. The anchor's pose is the identity; its focal length is a robust fit to its own points.
2. Another view's pose comes from perspective-n-point (PnP) with RANSAC, tried at FOCALS focal
   lengths: the pose with the most inliers wins.
Source: DUSt3R (Wang et al., CVPR 2024), as in VMem's released code. As there, pixel centres have
integer coordinates, and focal lengths are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vmemkit.core import TensorStruct, pose

FOCALS = 21  # focal lengths to try, from half to three times the longer side
REWEIGHTINGS = 10  # iterations of the focal length's fit
TINY = 1e-8  # avoids divisions by zero


@dataclass(frozen=True, repr=False)
class Predictions(TensorStruct):
    """The geometry that a network predicts for n views of one scene, in its own unit of length."""

    points: Float[Tensor, "n h w 3"]  # in the camera axes of view 0, the anchor
    confidence: Float[Tensor, "n h w"]  # more than 1


@dataclass(frozen=True, repr=False)
class PoseMatches(TensorStruct):
    """The known poses of n cameras, and the poses that the network's points imply."""

    world_from_cam: Float[Tensor, "n 4 4"]  # known, world units
    anchor_from_cam: Float[Tensor, "n 4 4"]  # implied, the network's unit


@dataclass(frozen=True)
class AlignConfig:
    """Settings of PnP and of the alignment; the defaults are those of VMem's released code."""

    min_confidence: float = 3.0  # points with less are not used by PnP
    # Cameras with a smaller share of inliers do not count when the similarity is fitted. At 0 even
    # a failed PnP counts, with the identity as its pose, as in the released code.
    min_inliers: float = 0.0
    pnp_iterations: int = 10  # of RANSAC
    pnp_pixels: float = 5.0  # largest reprojection error of an inlier
    iterations: int = 400  # of Adam
    rates: tuple[float, float] = (
        0.01,
        1e-6,
    )  # Adam's learning rate: first and last, linear between
    betas: tuple[float, float] = (0.9, 0.9)  # of Adam
    clean: float = 0.001  # a point this much in front of a surer surface is wrong; share of depth

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"need one or more iterations, got {self.iterations}")


class Registration(NamedTuple):
    """Poses and focal lengths of m views. A view whose PnP failed has the identity, the longer side
    and no inliers, as in the released code."""

    anchor_from_cam: Float[Tensor, "m 4 4"]
    focal: Float[Tensor, " m"]  # pixels
    inliers: Float[Tensor, " m"]  # share of the confident pixels


def has_baseline(world_from_cam: Float[Tensor, "n 4 4"]) -> bool:
    """Whether two cameras stand apart. If all stand in one place, nothing determines the scale."""
    centre = world_from_cam[:, :3, 3]
    return len(centre) > 1 and bool((centre - centre[:1]).norm(dim=-1).max() > 1e-6)


def planar_depth(
    points: Float[Tensor, "m h w 3"], registration: Registration
) -> Float[Tensor, "m h w"]:
    """Planar depth of each view's points (anchor axes) in the view's own camera."""
    pose = registration.anchor_from_cam[:, None, None]
    return ((points - pose[..., :3, 3]) * pose[..., :3, 2]).sum(-1)


def register(
    predictions: Predictions, first: int = 0, config: AlignConfig | None = None
) -> Registration:
    """Poses and focal lengths of the views from index `first` on."""
    config, points = config or AlignConfig(), predictions.points
    poses, focals, inliers = [], [], []
    for i in range(first, len(points)):
        if i == 0:
            anchor_from_cam, focal = torch.eye(4), float(fit_focal(points[0]))
            valid = 0 < focal < float("inf")
            focal, share = focal if valid else float(max(points.shape[1:3])), float(valid)
        else:
            anchor_from_cam, focal, share = _solve_pnp(
                points[i].cpu(), predictions.confidence[i].cpu(), config
            )
        poses.append(anchor_from_cam)
        focals.append(focal)
        inliers.append(share)
    stacked = torch.stack(poses) if poses else torch.zeros(0, 4, 4)
    return Registration(stacked.to(points), points.new_tensor(focals), points.new_tensor(inliers))


def fit_focal(points: Float[Tensor, "h w 3"]) -> Float[Tensor, ""]:
    """The focal length (pixels) that minimises the sum of reprojection errors of points in camera
    axes, by Weiszfeld's reweighted least squares (DUSt3R)."""
    h, w = points.shape[:2]
    u, v = pixel_offsets(h, w, points.device)
    uv = torch.stack([u.expand(h, w), v.expand(h, w)], -1).reshape(-1, 2)
    ray = points[..., :2] / points[..., 2:]
    ray = ray.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).reshape(-1, 2)
    dot, square = (ray * uv).sum(-1), ray.square().sum(-1)
    focal = dot.mean() / square.mean()
    for _ in range(REWEIGHTINGS):
        weight = 1 / (uv - focal * ray).norm(dim=-1).clamp(min=TINY)
        focal = (weight * dot).mean() / (weight * square).mean()
    return focal


def _solve_pnp(
    points: Float[Tensor, "h w 3"], confidence: Float[Tensor, "h w"], config: AlignConfig
) -> tuple[Float[Tensor, "4 4"], float, float]:
    """Pose, focal length and share of inliers of the camera that sees points at their pixels."""
    h, w = confidence.shape
    longer_side = float(max(h, w))
    best_pose, best_focal, most_inliers = torch.eye(4), longer_side, 0
    confident = confidence > config.min_confidence
    total = int(confident.sum())
    if total < 4:  # PnP needs four points
        return best_pose, best_focal, 0.0
    row, column = confident.nonzero(as_tuple=True)
    image_points = torch.stack([column, row], -1).double().numpy()
    object_points = points[confident].double().numpy()
    for focal in np.geomspace(longer_side / 2, 3 * longer_side, FOCALS):
        K = np.array([[focal, 0, w / 2], [0, focal, h / 2], [0, 0, 1]])
        found = solve_pnp(
            object_points,
            image_points,
            K,
            config.pnp_iterations,
            config.pnp_pixels,
            most_inliers + 1,
        )
        if found is not None:
            (best_pose, most_inliers), best_focal = found, float(focal)
    return best_pose.float(), best_focal, most_inliers / total


def pixel_offsets(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns [1 w] and rows [h 1] of all pixels, from the principal point (w / 2, h / 2)."""
    u, v = torch.arange(w, device=device) - w / 2, torch.arange(h, device=device) - h / 2
    return u[None], v[:, None]


def solve_pnp(
    points: Float64[np.ndarray, "n 3"],
    pixels: Float64[np.ndarray, "n 2"],
    K: Float64[np.ndarray, "3 3"],
    iterations: int,
    largest_error: float,
    least: int,
    refine: bool = False,
) -> tuple[Float64[Tensor, "4 4"], int] | None:
    """The pose of the camera that sees n >= 4 points at pixels, in the points' frame, and how many
    agree with it within `largest_error` pixels; None if fewer than `least` do.

    By RANSAC; with `refine`, the points that agree then improve the pose. K is in pixels.
    """
    success, turn, shift, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        K,
        None,  # no lens distortion
        iterationsCount=iterations,
        reprojectionError=largest_error,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not success or len(inliers) < least:
        return None
    if refine:
        agree = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(points[agree], pixels[agree], K, None, turn, shift)
    # OpenCV gives the inverse of the pose.
    rotation = torch.from_numpy(cv2.Rodrigues(turn)[0])
    centre = -(rotation.mT @ torch.from_numpy(shift))[:, 0]
    return pose(rotation.mT, centre), len(inliers)
