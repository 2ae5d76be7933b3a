"""Evaluation: how well a memory is read, and how well a walk comes back.

Coverage needs no generator: the share of target pixels whose true surface point some chosen view
really saw (inside its image, not occluded), relative to what the best k views would cover.
The tour of a house goes out, looks around, and comes back by other poses, so that retracing does
not hand the answer to the nearest camera; at its end it stands where it stood before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from skimage.metrics import structural_similarity
from torch import Tensor

from vmemkit.camera import Cameras, cameras, intrinsics, look_at
from vmemkit.retrieval import true_visibility

STRIDE = 0.35  # metres between the views of a tour
TURN = 30.0  # degrees between them while looking around


@dataclass(frozen=True, repr=False)
class Tour:
    """A trajectory and what its parts are for."""

    cameras: Cameras  # (n,)
    back: slice  # the way back, by other poses
    twin: Int[Tensor, " n"]  # an earlier camera with the same pose, -1 = none

    def __repr__(self) -> str:
        revisits = int((self.twin >= 0).sum())
        return f"Tour({len(self.cameras)} cameras, back={self.back.start}:{self.back.stop}, {revisits} revisits)"


def house_tour(house, seed: int = 0, fov: float = 75.0, aspect: float = 4 / 3) -> Tour:
    """Look around the first room, go through the doorway, look around, come back another way.

    Every room is crossed on the way out along the line through its centre and doorways, on the way
    back along a line beside it, with other headings and slopes. The last cameras revisit the first.
    Errors: ValueError if there is no free way.
    """
    rng = torch.Generator().manual_seed(seed)
    K = intrinsics(fov, aspect)
    n = len(house.centres)
    line = [house.centres[0]]
    for i in range(n - 1):
        line += [house.doorways[i], house.centres[i + 1]]
    out_points = _sample_line(torch.stack(line))
    first = house.doorways[0] - house.centres[0]
    start = math.degrees(math.atan2(float(first[0]), float(first[2])))
    turns = torch.arange(0, 360, TURN)
    around = [_turned(house.centres[0], start + turns)]
    heading = _headings(out_points)
    out = _turned(out_points, heading)
    there = _turned(house.centres[-1], heading[-1] + turns[1:])
    back_points = _beside(house, out_points.flip(0), rng)
    swing = 50 * torch.sin(torch.arange(len(back_points)) * 1.1 + 6 * torch.rand(1, generator=rng))
    slope = 12 * torch.sin(torch.arange(len(back_points)) * 0.7)
    back = _turned(back_points, _headings(back_points) + swing, slope)
    home = around[0]
    poses = torch.cat([around[0], out, there, back, home])
    begin_back = len(poses) - len(back) - len(home)
    twin = torch.full((len(poses),), -1)
    twin[len(poses) - len(home) :] = torch.arange(len(home))
    return Tour(cameras(poses, K), slice(begin_back, begin_back + len(back)), twin)


def _sample_line(corners: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
    """Points every STRIDE along a polyline, its first corner left out and its last included."""
    pieces = []
    for a, b in zip(corners[:-1], corners[1:], strict=True):
        count = max(1, math.ceil(float((b - a).norm()) / STRIDE))
        pieces.append(a + (b - a) * ((torch.arange(count) + 1) / count)[:, None])
    return torch.cat(pieces)


def _headings(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Degrees from +z towards +x of the way to the next point."""
    step = torch.diff(points, dim=0)
    angle = torch.rad2deg(torch.atan2(step[:, 0], step[:, 2]))
    return torch.cat([angle, angle[-1:]])


def _turned(
    position: Float[Tensor, "*#n 3"],
    heading: Float[Tensor, " n"],
    slope: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n 4 4"]:
    """Upright poses by heading and slope in degrees (slope > 0 looks down)."""
    yaw = torch.deg2rad(heading)
    pitch = torch.deg2rad(torch.zeros_like(heading) if slope is None else slope)
    ahead = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
    position = position.expand(len(heading), 3)
    return look_at(position, position + ahead)


def _beside(house, points: Float[Tensor, "n 3"], rng: torch.Generator) -> Float[Tensor, "n 3"]:
    """Points moved sideways and up or down as far as there is room, the same way throughout."""
    yaw = torch.deg2rad(_headings(points))
    side = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], -1)
    sign = 1.0 if torch.rand(1, generator=rng) < 0.5 else -1.0
    lift = points.new_tensor([0.0, 0.2, 0.0])
    moved = points + lift
    for distance in (0.15, 0.3, 0.45, 0.6):
        candidate = points + sign * distance * side + lift
        moved = torch.where(house.free(candidate)[:, None], candidate, moved)
    return moved


def covered(scene, context: Cameras, targets: Cameras, rows: int = 36) -> float:
    """Share of target pixels whose true surface point some context camera (k,) really sees."""
    return float(true_visibility(scene, context, targets, rows).any(0).float().mean())


def psnr(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; at most 99."""
    error = float((a - b).square().mean())
    return min(99.0, -10 * math.log10(max(error, 1e-12)))


def ssim(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Structural similarity of images in [0, 1] (Wang et al., 2004; scikit-image, 7 x 7 windows)."""
    return float(
        structural_similarity(a.cpu().numpy(), b.cpu().numpy(), channel_axis=0, data_range=1.0)
    )
