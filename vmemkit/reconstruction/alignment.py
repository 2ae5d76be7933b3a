"""Alignment: point maps in a network's own units -> depth in the world of known cameras.

In: predictions (points of all views in the axes of the first, the "anchor") and camera poses. Where
the network thinks that the cameras stand (PnP) is brought over where they do by one similarity,
which gives every depth its scale; then focal lengths are refined, and
- `released`: depth stays as it is (VMem's code, whose depths carry no gradient);
- `full`: every depth moves too (CUT3R's code, after DUSt3R; Wang et al., 2024).
With known cameras there is a direct way, which is depth_fit.py's.
Pixels here are integers at their centres and focal lengths in pixels, as in the released code.
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

from vmemkit.core import Cameras, TensorStruct, cat, check, intrinsics
from vmemkit.reconstruction.pnp import (
    TINY,
    AlignConfig,
    Placed,
    Predictions,
    Registered,
    away,
    has_baseline,
    pixels,
    register,
)

Variant = Literal["released", "full"]

FOCAL_UNIT = 20.0  # the optimiser's focal parameter is this times ln f (released code)


@dataclass(frozen=True, repr=False)
class Alignment(TensorStruct):
    """n views brought into the world. Rows only depend on the anchor and on their own view, but for
    `log_depth`, whose unit all views had a say in when it was made."""

    world_from_cam: Float[Tensor, "n 4 4"]  # as given
    log_depth: Float[Tensor, "n h w"]  # of planar depth, world units
    focal: Float[Tensor, " n"]  # pixels
    # Per view but the anchor's, whose row is unused: the similarity that takes the pair's points
    # into the world, as quaternion (x y z w), translation / scale in signed log(1 + |.|), log scale.
    pair: Float[Tensor, "n 8"]
    anchor_from_cam: Float[Tensor, "n 4 4"]  # where the network thinks that the camera stands
    inliers: Float[Tensor, " n"]  # share of the confident pixels that PnP explained; 0: it failed

    @property
    def scale(self) -> Float[Tensor, " n"]:
        """World units per unit of the network: of each pair (row 0 is unused), one for all before
        optimisation."""
        return self.pair[:, 7].exp()

    @property
    def depth(self) -> Float[Tensor, "n h w"]:
        return self.log_depth.exp()

    def points(self) -> Float[Tensor, "n h w 3"]:
        """World points, through the focal lengths found."""
        centre, along, across = _rays(self)
        offset = along + across / self.focal[:, None, None, None]
        return centre + self.depth[..., None] * offset


# ---- initial values ------------------------------------------------------------------------------


def initialise(
    predictions: Predictions,
    world_from_cam: Float[Tensor, "n 4 4"],
    known: Alignment | None = None,
    others: Placed | None = None,
    config: AlignConfig | None = None,
    registered: Registered | None = None,
) -> Alignment:
    """Where the network thinks the cameras stand, and one similarity of that to where they do.

    `known` is an alignment of the first of these views: their depth, focal lengths and PnP are
    taken over. `others` are cameras of the same sequence whose points do not matter any more and
    who have a say in the similarity. With both, the cost is that of the new views. `registered` is
    what `register` found of those that are not known, if it was asked before.
    Errors: ValueError for fewer than two views, poses that are not rigid, cameras all in one place
    (nothing tells the scale), and predictions that are not finite or do not fit.
    """
    config = config or AlignConfig()
    _check(predictions, world_from_cam, known)
    start, n = 0 if known is None else len(known), len(predictions)
    new = registered or register(predictions, start, config)
    all_found = new
    if known is not None:
        old = Registered(known.anchor_from_cam, known.focal, known.inliers)
        all_found = Registered(*(torch.cat(both) for both in zip(old, new, strict=True)))
    counts = all_found.inliers >= config.min_inliers
    cameras = Placed(world_from_cam[counts], all_found.anchor_from_cam[counts])
    cameras = cameras if others is None else cat([others, cameras])
    if not has_baseline(cameras.world_from_cam):
        raise ValueError(
            f"the {len(cameras)} cameras that could be placed stand in one place, so that nothing "
            "tells the scale: align views with a baseline, or fit each to the memory (depth_fit)"
        )
    scale, rotation, shift = _between_poses(cameras)
    # Depth is measured along the axes of the camera that the network believes in.
    depth = scale * away(predictions.points[start:], new)
    log_depth = depth.log().nan_to_num(nan=0.0, neginf=0.0)  # behind the camera: 1 (released code)
    if known is not None:
        log_depth = torch.cat([known.log_depth, log_depth])
    pair = torch.cat([_quaternion(rotation), _signed_log(shift / scale), scale.log()[None]])
    return Alignment(
        world_from_cam,
        log_depth,
        all_found.focal,
        pair.expand(n, -1),
        all_found.anchor_from_cam,
        all_found.inliers,
    )


def similarity(
    x: Float[Tensor, "n 3"], y: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, " 3"]]:
    """s, R, t with y close to s R x + t in the least squares (Umeyama, 1991)."""
    centre_x, centre_y = x.mean(0), y.mean(0)
    x, y = x - centre_x, y - centre_y
    U, _, Vh = torch.linalg.svd(y.mT @ x)
    flip = torch.ones(3, dtype=x.dtype, device=x.device)
    flip[2] = torch.sign(torch.linalg.det(U @ Vh))
    R = U * flip @ Vh
    s = (R * (y.mT @ x)).sum() / x.square().sum()
    return s, R, centre_y - s * (R @ centre_x)


def _between_poses(
    placed: Placed,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, " 3"]]:
    """From where the network thinks the cameras are to where they are: the similarity of their
    centres and of points a little in front of them."""

    def marks(poses: Tensor) -> Tensor:
        centre = poses[:, :3, 3].double()
        ahead = max(float(np.median(torch.pdist(centre).cpu())) / 100, 1e-6)
        return torch.cat([centre, centre + ahead * poses[:, :3, 2].double()])

    found = similarity(marks(placed.anchor_from_cam), marks(placed.world_from_cam))
    scale, rotation, shift = (part.to(placed.world_from_cam) for part in found)
    return torch.ones_like(scale) if scale.abs() < 1e-6 else scale, rotation, shift


def mismatch(placed: Placed) -> float:
    """How far camera centres stay from where they stand after the best similarity, root mean square,
    relative to the largest distance from the first: 0 is perfect, 1 is noise."""
    standing, thought = placed.world_from_cam[:, :3, 3], placed.anchor_from_cam[:, :3, 3]
    scale, rotation, shift = _between_poses(placed)
    off = (scale * thought @ rotation.mT + shift - standing).square().sum(-1).mean().sqrt()
    return float(off / (standing - standing[:1]).norm(dim=-1).max())


# ---- optimisation --------------------------------------------------------------------------------


def optimise(
    alignment: Alignment,
    predictions: Predictions,
    variant: Variant = "released",
    frozen: int = 0,
    config: AlignConfig | None = None,
) -> Iterator[tuple[float, Alignment]]:
    """Steps of Adam on how far the pairs' points, moved as one, are from the views' own points,
    weighted by log confidence. Yields the loss before a step and the alignment after it.

    What moves: the pairs' similarities, focal lengths and with `full` all depths. The first
    `frozen` views, if any, stay, which makes a step cost what the others cost. Points are linear in
    depth and in 1 / focal, so that gradients are sums over pixels, not a graph over them.
    Errors: ValueError for fewer than two views, with no view left to move, for an unknown variant,
    and for values that are not finite or do not fit.
    """
    config, n = config or AlignConfig(), len(predictions)
    if not 0 <= frozen < n or n < 2 or len(alignment) != n:
        raise ValueError(
            f"optimise needs two or more views, one of them not frozen, got {n}, {frozen} frozen, "
            f"and an alignment of {len(alignment)}"
        )
    if variant not in ("released", "full"):
        raise ValueError(f"variants are released and full, got {variant!r}")
    if alignment.log_depth.shape != predictions.confidence.shape or not all(
        leaf.isfinite().all() for leaf in (*alignment.leaves().values(), predictions.points)
    ):
        raise ValueError(
            f"need an alignment of the predictions, all finite, got {alignment} and {predictions}"
        )
    first = max(frozen, 1)
    rows = torch.tensor([0, *range(first, n)])
    loss = _Loss(alignment[rows], predictions[rows])
    pair = alignment.pair[first:].clone().requires_grad_(True)
    focal = (FOCAL_UNIT * alignment.focal.log()).clone().requires_grad_(True)
    log_depth = alignment.log_depth[rows].clone()
    moved = [pair, focal, *([log_depth] if variant == "full" else [])]
    adam = torch.optim.Adam(moved, lr=config.rates[0], betas=config.betas)
    begin, end = config.rates
    for step in range(config.iterations):
        adam.param_groups[0]["lr"] = begin + (end - begin) * step / config.iterations
        adam.zero_grad(set_to_none=True)
        value = loss.backward(pair, focal, rows, log_depth, variant == "full")
        if frozen:  # with them, the anchor
            focal.grad[:frozen] = 0
            if log_depth.grad is not None:
                log_depth.grad[0] = 0
        adam.step()
        yield value, _moved(alignment, pair, focal, log_depth, rows)


class _Loss:
    """The loss and its gradient: all that no step changes is computed once."""

    def __init__(self, alignment: Alignment, predictions: Predictions) -> None:
        self.centre, self.along, self.across = _rays(alignment)
        self.points = predictions.points
        weight = predictions.confidence.log()
        self.weight = weight / ((len(weight) - 1) * weight[0].numel())

    def backward(
        self, pair: Tensor, focal: Tensor, rows: Tensor, log_depth: Tensor, depth_moves: bool
    ) -> float:
        """Sets .grad of `pair`, `focal` and, if it moves, `log_depth`; returns the loss."""
        linear, shift = _similarities(pair)  # [e 3 3], [e 3]
        inverse = torch.exp(-focal / FOCAL_UNIT)[rows]
        with torch.no_grad():
            depth = log_depth.exp()[..., None]
            offset = self.along + self.across * inverse[:, None, None, None]
            own = self.centre + depth * offset
            value, at_points, at_linear, at_shift = 0.0, torch.zeros_like(own), [], []
            for edge in range(len(pair)):
                both = torch.tensor([0, edge + 1])
                of_pair = self.points[both] @ linear[edge].mT + shift[edge]
                residual = own[both] - of_pair
                length = residual.norm(dim=-1)
                value += float((self.weight[both] * length).sum())
                pull = (self.weight[both] / length.clamp(min=TINY))[..., None] * residual
                at_points[both] += pull
                flat = pull.reshape(-1, 3)
                at_linear.append(-flat.mT @ self.points[both].reshape(-1, 3))
                at_shift.append(-flat.sum(0))
            at_inverse = (at_points * depth * self.across).sum((1, 2, 3))
            if depth_moves:
                log_depth.grad = (at_points * depth * offset).sum(-1)
        grads = [torch.stack(at_linear), torch.stack(at_shift), at_inverse]
        torch.autograd.backward([linear, shift, inverse], grads)
        return value


def _rays(alignment: Alignment) -> tuple[Tensor, Tensor, Tensor]:
    """World points are centre + depth * (along + across / focal), each [n h w 3] or broadcast."""
    poses, (h, w) = alignment.world_from_cam, alignment.log_depth.shape[1:]
    u, v = pixels(h, w, poses.device)
    x, y, z = (poses[:, None, None, :3, axis] for axis in range(3))
    return poses[:, None, None, :3, 3], z, x * u[..., None] + y * v[..., None]


def _similarities(pair: Float[Tensor, "e 8"]) -> tuple[Tensor, Tensor]:
    """scale * rotation [e 3 3] and translation [e 3]."""
    scale = pair[:, 7].exp()
    shift = pair[:, 4:7].sign() * pair[:, 4:7].abs().expm1()
    x, y, z, w = torch.nn.functional.normalize(pair[:, :4], dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    rotation = torch.stack(rows, -1).unflatten(-1, (3, 3))
    return scale[:, None, None] * rotation, scale[:, None] * shift


def _quaternion(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, " 4"]:
    """x, y, z, w."""
    return torch.from_numpy(Rotation.from_matrix(rotation.cpu().numpy()).as_quat()).to(rotation)


def _signed_log(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def _moved(
    alignment: Alignment, pair: Tensor, focal: Tensor, log_depth: Tensor, rows: Tensor
) -> Alignment:
    new_depth, start = alignment.log_depth.clone(), len(alignment) - len(pair)
    new_depth[rows] = log_depth.detach()
    return alignment.replace(
        pair=torch.cat([alignment.pair[:start], pair.detach()]),
        focal=torch.exp(focal.detach() / FOCAL_UNIT),
        log_depth=new_depth,
    )


# ---- cleaning ------------------------------------------------------------------------------------


def clean(
    alignment: Alignment, confidence: Float[Tensor, "n h w"], config: AlignConfig | None = None
) -> Float[Tensor, "n h w"]:
    """The confidence with 0 for points that stand in front of what a surer view sees there."""
    config, confidence = config or AlignConfig(), confidence.clone()
    (n, h, w), points, depth = confidence.shape, alignment.points(), alignment.depth
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            pose_j = alignment.world_from_cam[j]
            in_cam = (points[i] - pose_j[:3, 3]) @ pose_j[:3, :3]
            z = in_cam[..., 2]
            at = alignment.focal[j] * in_cam[..., :2] / z[..., None]
            u, v = (at[..., 0] + w / 2).round().long(), (at[..., 1] + h / 2).round().long()
            seen = (z > 0) & (u >= 0) & (u < w) & (v >= 0) & (v < h)
            v, u = v.clamp(0, h - 1), u.clamp(0, w - 1)
            in_front = z < (1 - config.clean) * depth[j, v, u]
            less_sure = confidence[i] < confidence[j, v, u]
            confidence[i][seen & in_front & less_sure] = 0
    return confidence


# ---- checks --------------------------------------------------------------------------------------


def _check(
    predictions: Predictions,
    world_from_cam: Float[Tensor, "n 4 4"],
    known: Alignment | None,
) -> None:
    n = len(predictions.points)
    if n < 2 or world_from_cam.shape != (n, 4, 4):
        raise ValueError(
            f"alignment needs predictions of two or more views and as many poses [n 4 4], got {n} "
            f"and {list(world_from_cam.shape)}: the scale of one view follows from the memory only "
            "(depth_fit)"
        )
    check(Cameras(world_from_cam, intrinsics(70.0, device=world_from_cam.device).expand(n, 3, 3)))
    sizes = predictions.points.shape[:3], predictions.confidence.shape
    if sizes[0] != sizes[1] or not predictions.points.isfinite().all():
        raise ValueError(
            f"need a finite point and a confidence per pixel, got points {list(sizes[0])} and "
            f"confidence {list(sizes[1])}"
        )
    if not (predictions.confidence >= 1).all():
        raise ValueError("confidence must be 1 or more: its logarithm weighs the points")
    if known is not None and (
        not 0 < len(known) <= n
        or known.log_depth.shape[1:] != sizes[1][1:]
        or not torch.equal(known.world_from_cam, world_from_cam[: len(known)])
    ):
        raise ValueError(
            f"a known alignment must be of the first views, of the same size and poses, got {known}"
        )
