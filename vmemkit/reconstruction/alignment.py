"""Alignment: from a network's points to depth in the world of known cameras, by their poses.

In: predictions (points of all views in the axes of the first, the "anchor") and known camera poses.
Out: an `Alignment`, depth and focal lengths in world units.
1. PnP finds the poses that the points imply (pnp.py).
2. One similarity brings these poses over the known ones, and scales all depth (`initialise`).
3. Adam refines it (`optimise`): `released` moves focal lengths and similarities only, since depth
   carries no gradient in VMem's code; `full` also moves all depth, as CUT3R's code does.
4. Points that stand in front of a more confident surface get confidence 0 (`clean`).
Source: DUSt3R (Wang et al., CVPR 2024). With known cameras depth_fit.py is a more direct way.
As in the released code, pixel centres have integer coordinates, and focal lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from vmemkit.core import TensorStruct, cat
from vmemkit.reconstruction.pnp import (
    AlignConfig,
    PoseMatches,
    Predictions,
    Registration,
    has_baseline,
    pixel_offsets,
    planar_depth,
    register,
)

Variant = Literal["released", "full"]
LEAST_SPREAD = 1e-18  # squared length below which points are one
FOCAL_UNIT = 20.0  # Adam moves this times ln(focal length), as in the released code


@dataclass(frozen=True, repr=False)
class Alignment(TensorStruct):
    """Depth and focal lengths of n views in the world."""

    world_from_cam: Float[Tensor, "n 4 4"]  # the known poses
    log_depth: Float[Tensor, "n h w"]  # log of planar depth, world units
    focal: Float[Tensor, " n"]  # pixels
    # Each view but the anchor forms a pair with it. A similarity takes the pair's points into the
    # world: quaternion (x y z w), sign(t) ln(1 + |t|) of t = translation / scale, ln(scale). Row 0
    # is unused.
    pair: Float[Tensor, "n 8"]

    @property
    def depth(self) -> Float[Tensor, "n h w"]:
        return self.log_depth.exp()

    def points(self) -> Float[Tensor, "n h w 3"]:
        """World points of all pixels, by the aligned depth and focal lengths."""
        centre, forward, sideways = _ray_parts(self)
        offset = forward + sideways / self.focal[:, None, None, None]
        return centre + self.depth[..., None] * offset


# ---- initial values ------------------------------------------------------------------------------


def initialise(
    predictions: Predictions,
    world_from_cam: Float[Tensor, "n 4 4"],
    others: PoseMatches | None = None,
    config: AlignConfig | None = None,
    registration: Registration | None = None,
) -> Alignment:
    """Scale all depth by the similarity that brings the implied poses over the known ones.

    `others` are cameras of the same sequence that also count for the similarity. `registration` is
    what `register(predictions)` gave, if it was called before.
    Errors: ValueError for fewer than two views, for points that are not finite, for a confidence
    below 1, and for cameras that all stand in one place.
    """
    n = len(predictions.points)
    if n < 2 or len(world_from_cam) != n:
        raise ValueError(
            f"alignment needs predictions of two or more views and as many poses, got {n} and "
            f"{len(world_from_cam)}: the scale of one view follows from the memory only (depth_fit)"
        )
    if not predictions.points.isfinite().all() or not (predictions.confidence >= 1).all():
        raise ValueError(
            "alignment needs a finite point and a confidence of 1 or more per pixel (its logarithm "
            f"is the weight of the point), got {predictions}: check the network and its weights"
        )
    config = config or AlignConfig()
    registration = registration or register(predictions, config=config)
    counts = registration.inliers >= config.min_inliers
    matches = PoseMatches(world_from_cam[counts], registration.anchor_from_cam[counts])
    matches = matches if others is None else cat([others, matches])
    if not has_baseline(matches.world_from_cam):
        raise ValueError(
            f"the {len(matches)} cameras that could be placed stand in one place, so that nothing "
            "tells the scale: align views with a baseline, or fit each to the memory (depth_fit)"
        )
    scale, rotation, shift = _pose_similarity(matches)
    depth = scale * planar_depth(predictions.points, registration)
    log_depth = depth.log().nan_to_num(nan=0.0, neginf=0.0)  # behind the camera: 1 (released code)
    pair = torch.cat([_quaternion(rotation), _signed_log(shift / scale), scale.log()[None]])
    return Alignment(world_from_cam, log_depth, registration.focal, pair.expand(n, -1))


def fit_similarity(
    x: Float[Tensor, "n 3"], y: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, " 3"]]:
    """Scale s, rotation R and translation t for which s R x + t fits y best in the least squares
    (Umeyama, 1991). If all points x are one, the scale is 1."""
    # 1. Take the means off.
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    # 2. The rotation comes from the SVD of the covariance; a reflection is turned into a rotation.
    U, _, Vh = torch.linalg.svd(y.mT @ x)
    signs = torch.ones(3, dtype=x.dtype, device=x.device)
    signs[2] = torch.sign(torch.linalg.det(U @ Vh))
    R = U * signs @ Vh
    # 3. The scale is the share of y that lies along R x; the translation joins the means.
    spread = x.square().sum()
    s = torch.where(spread > LEAST_SPREAD, (R * (y.mT @ x)).sum() / spread, 1.0)
    return s, R, mean_y - s * (R @ mean_x)


def _pose_similarity(
    matches: PoseMatches,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, " 3"]]:
    """The similarity from the implied poses to the known ones. It is fitted to the camera centres
    and to points a little in front of them, so that viewing directions count as well."""

    def landmarks(poses: Tensor) -> Tensor:
        centre = poses[:, :3, 3].double()
        ahead = max(float(np.median(torch.pdist(centre).cpu())) / 100, 1e-6)
        return torch.cat([centre, centre + ahead * poses[:, :3, 2].double()])

    parts = fit_similarity(landmarks(matches.anchor_from_cam), landmarks(matches.world_from_cam))
    scale, rotation, shift = (part.to(matches.world_from_cam) for part in parts)
    return torch.ones_like(scale) if scale.abs() < 1e-6 else scale, rotation, shift


def pose_mismatch(matches: PoseMatches) -> float:
    """Root mean square distance of known and implied camera centres after the best similarity,
    relative to the largest distance from the first camera: 0 is perfect, 1 is noise."""
    known, implied = matches.world_from_cam[:, :3, 3], matches.anchor_from_cam[:, :3, 3]
    scale, rotation, shift = _pose_similarity(matches)
    error = (scale * implied @ rotation.mT + shift - known).square().sum(-1).mean().sqrt()
    return float(error / (known - known[:1]).norm(dim=-1).max())


# ---- optimisation --------------------------------------------------------------------------------


def optimise(
    alignment: Alignment,
    predictions: Predictions,
    variant: Variant = "released",
    freeze_anchor: bool = False,
    config: AlignConfig | None = None,
) -> Iterator[tuple[float, Alignment]]:
    """Adam on the distance between each pair's transformed points and the views' own points,
    weighted by log confidence. Yields the loss before each step and the alignment after it.

    It moves the pairs' similarities, focal lengths and, with `full`, all depth; with
    `freeze_anchor` the anchor's focal length and depth stay.
    """
    config, depth_moves = config or AlignConfig(), variant == "full"
    pair = alignment.pair[1:].clone().requires_grad_(True)
    log_focal = (FOCAL_UNIT * alignment.focal.log()).requires_grad_(True)
    log_depth = alignment.log_depth.clone().requires_grad_(depth_moves)

    def moved() -> Alignment:
        return alignment.replace(
            pair=torch.cat([alignment.pair[:1], pair]),
            focal=torch.exp(log_focal / FOCAL_UNIT),
            log_depth=log_depth.clone(),
        )

    parameters = [pair, log_focal, log_depth] if depth_moves else [pair, log_focal]
    first_rate, last_rate = config.rates
    adam = torch.optim.Adam(parameters, lr=first_rate, betas=config.betas)
    for step in range(config.iterations):
        rate = first_rate + (last_rate - first_rate) * step / config.iterations
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad(set_to_none=True)
        loss = _loss(moved(), predictions)
        loss.backward()
        if freeze_anchor:
            log_focal.grad[0] = 0
            if depth_moves:
                log_depth.grad[0] = 0
        adam.step()
        yield loss.item(), moved().map(Tensor.detach)


def _loss(alignment: Alignment, predictions: Predictions) -> Float[Tensor, ""]:
    """Mean over the pairs of their two views' mean distances, weighted by log confidence."""
    linear, shift = _similarities(alignment.pair[1:])
    own, points, weight = alignment.points(), predictions.points, predictions.confidence.log()
    total = own.new_zeros(())
    # The anchor belongs to every pair, each other view to one.
    for views in (slice(1), slice(1, None)):
        transformed = torch.einsum("ehwj,eij->ehwi", points[views], linear)
        distance = (own[views] - transformed - shift[:, None, None]).norm(dim=-1)
        total = total + (weight[views] * distance).sum()
    return total / weight[1:].numel()


def _ray_parts(alignment: Alignment) -> tuple[Tensor, Tensor, Tensor]:
    """A pixel's world point is centre + depth * (forward + sideways / focal), each [n h w 3] or
    broadcast to it."""
    poses, (h, w) = alignment.world_from_cam, alignment.log_depth.shape[1:]
    u, v = pixel_offsets(h, w, poses.device)
    x, y, z = (poses[:, None, None, :3, axis] for axis in range(3))
    return poses[:, None, None, :3, 3], z, x * u[..., None] + y * v[..., None]


def _similarities(pair: Float[Tensor, "e 8"]) -> tuple[Tensor, Tensor]:
    """scale * rotation [e 3 3] and translation [e 3] of the pairs."""
    scale = pair[:, 7].exp()
    shift = pair[:, 4:7].sign() * pair[:, 4:7].abs().expm1()
    x, y, z, w = torch.nn.functional.normalize(pair[:, :4], dim=-1).unbind(-1)
    row_0 = torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1)
    row_1 = torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1)
    row_2 = torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1)
    rotation = torch.stack([row_0, row_1, row_2], -2)
    return scale[:, None, None] * rotation, scale[:, None] * shift


def _quaternion(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, " 4"]:
    """x, y, z, w."""
    return torch.from_numpy(Rotation.from_matrix(rotation.cpu().numpy()).as_quat()).to(rotation)


def _signed_log(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


# ---- cleaning ------------------------------------------------------------------------------------


def clean(
    alignment: Alignment, confidence: Float[Tensor, "n h w"], config: AlignConfig | None = None
) -> Float[Tensor, "n h w"]:
    """The confidence, with 0 for points in front of a surface that another view sees there with
    more confidence."""
    config, confidence = config or AlignConfig(), confidence.clone()
    (n, h, w), points, depth = confidence.shape, alignment.points(), alignment.depth
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            # 1. Project the points of view i into view j.
            pose_j = alignment.world_from_cam[j]
            in_cam = (points[i] - pose_j[:3, 3]) @ pose_j[:3, :3]
            z = in_cam[..., 2]
            uv = alignment.focal[j] * in_cam[..., :2] / z[..., None]
            u, v = (uv[..., 0] + w / 2).round().long(), (uv[..., 1] + h / 2).round().long()
            inside = (z > 0) & (u >= 0) & (u < w) & (v >= 0) & (v < h)
            # 2. Compare them with what view j has at these pixels.
            v, u = v.clamp(0, h - 1), u.clamp(0, w - 1)
            in_front = z < (1 - config.clean) * depth[j, v, u]
            less_confident = confidence[i] < confidence[j, v, u]
            confidence[i][inside & in_front & less_confident] = 0
    return confidence
