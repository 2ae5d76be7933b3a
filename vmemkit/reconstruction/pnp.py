"""Where a network thinks that cameras stand, from the points that it predicts for their images.

In: predictions, points of all views in the axes of the first, the "anchor". Out: a pose and a focal
length per view: the anchor's by reweighted least squares, the others' by PnP with RANSAC (DUSt3R;
Wang et al., 2024, as in VMem's released code). Pixels are integers at their centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import TensorStruct, pose

FOCALS = 21  # that PnP tries, from half to three times the longer side

WEISZFELD = 10  # reweightings

TINY = 1e-8


@dataclass(frozen=True, repr=False)
class Predictions(TensorStruct):
    """What a network says of n views that belong together, in its own unit of length."""

    points: Float[Tensor, "n h w 3"]  # in the camera axes of view 0, the anchor
    confidence: Float[Tensor, "n h w"]  # > 1


@dataclass(frozen=True, repr=False)
class Placed(TensorStruct):
    """Cameras where they stand, and where the network thinks they do."""

    world_from_cam: Float[Tensor, "n 4 4"]
    anchor_from_cam: Float[Tensor, "n 4 4"]


@dataclass(frozen=True)
class AlignConfig:
    """Defaults are the released code's."""

    min_confidence: float = 3.0  # of points that PnP uses
    # Inlier share below which a camera has no say in the similarity; the released code lets the
    # identity of a camera that PnP could not place count like any other.
    min_inliers: float = 0.0
    pnp_iterations: int = 10
    pnp_pixels: float = 5.0  # reprojection error of an inlier
    iterations: int = 400
    rates: tuple[float, float] = (0.01, 1e-6)  # learning rate at the start and at the end, linear
    betas: tuple[float, float] = (0.9, 0.9)  # of Adam
    clean: float = 0.001  # how far in front of another view's surface a point is wrong, relative

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"need one or more iterations, got {self.iterations}")


def has_baseline(world_from_cam: Float[Tensor, "n 4 4"]) -> bool:
    """Whether the cameras do not all stand in one place, where nothing would tell the scale."""
    centre = world_from_cam[:, :3, 3]
    return len(centre) > 1 and bool((centre - centre[:1]).norm(dim=-1).max() > 1e-6)


class Registered(NamedTuple):
    """Where the network thinks that cameras stand. Where PnP fails: the identity, the longer side
    and 0, as in the released code."""

    anchor_from_cam: Float[Tensor, "m 4 4"]
    focal: Float[Tensor, " m"]  # pixels
    inliers: Float[Tensor, " m"]  # share of the confident pixels that PnP explains


def away(points: Float[Tensor, "m h w 3"], found: Registered) -> Float[Tensor, "m h w"]:
    """Depth of points in the anchor's axes from the cameras that the network believes in."""
    pose = found.anchor_from_cam[:, None, None]
    return ((points - pose[..., :3, 3]) * pose[..., :3, 2]).sum(-1)


def register(
    predictions: Predictions, first: int = 0, config: AlignConfig | None = None
) -> Registered:
    """Find the cameras of the views from `first` on."""
    config, points = config or AlignConfig(), predictions.points
    poses, focals, inliers = [], [], []
    for i in range(first, len(points)):
        if i == 0:
            focal = float(weiszfeld_focal(points[0]))
            sane = 0 < focal < float("inf")
            found = torch.eye(4), focal if sane else float(max(points.shape[1:3])), float(sane)
        else:
            found = _pnp(points[i].cpu(), predictions.confidence[i].cpu(), config)
        for column, value in zip((poses, focals, inliers), found, strict=True):
            column.append(value)
    stacked = torch.stack(poses) if poses else torch.zeros(0, 4, 4)
    return Registered(stacked.to(points), points.new_tensor(focals), points.new_tensor(inliers))


def weiszfeld_focal(points: Float[Tensor, "h w 3"]) -> Float[Tensor, ""]:
    """The focal length (pixels) that best explains points in camera axes: the L1 fit by
    reweighting (DUSt3R)."""
    u, v = pixels(*points.shape[:2], points.device)
    uv = torch.stack([u.expand(points.shape[:2]), v.expand(points.shape[:2])], -1).reshape(-1, 2)
    ray = points[..., :2] / points[..., 2:]
    ray = ray.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).reshape(-1, 2)
    along, square = (ray * uv).sum(-1), ray.square().sum(-1)
    focal = along.mean() / square.mean()
    for _ in range(WEISZFELD):
        weight = 1 / (uv - focal * ray).norm(dim=-1).clamp(min=TINY)
        focal = (weight * along).mean() / (weight * square).mean()
    return focal


def _pnp(
    points: Float[Tensor, "h w 3"], confidence: Float[Tensor, "h w"], config: AlignConfig
) -> tuple[Float[Tensor, "4 4"], float, float]:
    """Pose, focal length and inlier share of the camera that sees these points at their pixels."""
    h, w = confidence.shape
    eye, longest = torch.eye(4), float(max(h, w))
    sure = confidence > config.min_confidence
    total = int(sure.sum())
    if total < 4:
        return eye, longest, 0.0
    row, column = sure.nonzero(as_tuple=True)
    places = torch.stack([column, row], -1).double().numpy()
    spots, best = points[sure].double().numpy(), (0, eye, longest)
    for focal in np.geomspace(longest / 2, 3 * longest, FOCALS):
        K = np.array([[focal, 0, w / 2], [0, focal, h / 2], [0, 0, 1]])
        found, turn, shift, inliers = cv2.solvePnPRansac(
            *(spots, places, K, None),
            iterationsCount=config.pnp_iterations,
            reprojectionError=config.pnp_pixels,
            flags=cv2.SOLVEPNP_SQPNP,
        )
        if found and len(inliers) > best[0]:
            rotation, shift = torch.from_numpy(cv2.Rodrigues(turn)[0]), torch.from_numpy(shift)
            best = (len(inliers), pose(rotation.mT, -(rotation.mT @ shift)[:, 0]), focal)
    return best[1].float(), float(best[2]), best[0] / total


def pixels(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns [1 w] and rows [h 1] of all pixels, from the principal point (w / 2, h / 2)."""
    u, v = torch.arange(w, device=device) - w / 2, torch.arange(h, device=device) - h / 2
    return u[None], v[:, None]
