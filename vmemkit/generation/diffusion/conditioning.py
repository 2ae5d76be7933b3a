"""Conditioning: context views and target cameras as a network takes them.

In: the cameras of a window, context frames first, and the context's latents and embeddings. Out:
a `Condition` with them and one without (for guidance): camera rays as Pluecker maps relative to the
first frame, a mask of the frames that are known, their latents, and the mean of their embeddings.
Scenes have no scale of their own: the window is centred and scaled by its first camera's distance.
Source: Zhou et al., 2025 (Stable Virtual Camera), as VMem's released code applies it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from vmemkit.core import Cameras, intrinsics, pixel_centres, rays
from vmemkit.generation.diffusion.sampling import Condition

FAR, FAR_QUANTILE, FARTHEST = 10.0, 0.97, 1e6  # cameras beyond do not count for the centre

DEFAULT_FOV = 54.0  # degrees

AT_CENTRE = 1e-5  # a first camera as near to the centre as this gives no scale


@dataclass(frozen=True)
class CameraScale:
    """How far from the centre the first camera shall be, and what VMem adds to the factor."""

    distance: float = 2.0
    offset: float = 0.01  # differs in Stable Virtual Camera: 0


def default_intrinsics(aspect: float, fov: float = DEFAULT_FOV) -> Float[Tensor, "3 3"]:
    """K of an image that does not say, as released: `fov` degrees along the longer side."""
    if aspect >= 1:
        return intrinsics(fov, aspect)
    across = 2 * math.degrees(math.atan(aspect * math.tan(math.radians(fov / 2))))
    return intrinsics(across, aspect)


def centred(cameras: Cameras) -> Cameras:
    """Cameras (t,) with the mean of their positions, outliers left out, at the origin."""
    position = cameras.position
    away = (position - position.median(0).values).norm(dim=-1)
    near = away <= (FAR * torch.quantile(away, FAR_QUANTILE)).clamp(max=FARTHEST)
    return _moved(cameras, position - position[near].mean(0))


def scaled(cameras: Cameras, scale: CameraScale) -> Cameras:
    """Centred cameras (t,) in the units of the network."""
    distance = float(cameras.position[0].norm())
    factor = scale.distance
    if distance > AT_CENTRE:
        factor = scale.distance / distance + scale.offset
    return _moved(cameras, cameras.position * factor)


def pluecker(cameras: Cameras, height: int, width: int) -> Float[Tensor, "t 6 h w"]:
    """Rays through the pixel centres as seen from the first camera: unit direction d, and moment
    o x d of the camera's position o. The moment says where the line is, whichever point of it the
    camera sits at."""
    first_from_cam = cameras.cam_from_world[:1] @ cameras.world_from_cam
    relative = Cameras(first_from_cam, cameras.K)
    uv = pixel_centres(height, width, device=cameras.device)
    d = normalize(rays(relative, uv.expand(len(cameras), -1, -1, -1)), dim=-1)
    o = relative.position[:, None, None].expand_as(d)
    return torch.cat([d, torch.linalg.cross(o, d)], -1).permute(0, 3, 1, 2)


def conditions(
    cameras: Cameras,
    given: Bool[Tensor, " t"],
    latent: Float[Tensor, "k c h w"],
    embedding: Float[Tensor, "k d"],
) -> tuple[Condition, Condition]:
    """(with, without) the context, for frames of which k are given, in their order.

    cameras (t,): in the network's units. Without context the rays stay, the mask, the latents and
    the embedding are zero. Errors: ValueError for no context, or not as many as `given` says.
    """
    if len(latent) == 0 or not len(latent) == len(embedding) == int(given.sum()):
        raise ValueError(
            f"need a latent and an embedding for each of {int(given.sum())} given frames, at least "
            f"one, got {len(latent)} and {len(embedding)}"
        )
    (_, c, h, w), t = latent.shape, len(given)
    known = given.to(latent.dtype).view(t, 1, 1, 1).expand(t, 1, h, w)
    frames = latent.new_zeros(t, c, h, w)
    frames[given] = latent
    lines = pluecker(cameras, h, w)
    mean = embedding.mean(0).expand(t, 1, -1)
    with_context = Condition(frames, known, torch.cat([known, lines], 1), mean, lines)
    nothing = torch.zeros_like(known)
    without = Condition(
        torch.zeros_like(frames), nothing, torch.cat([nothing, lines], 1), mean * 0, lines
    )
    return with_context, without


def _moved(cameras: Cameras, position: Float[Tensor, "t 3"]) -> Cameras:
    poses = cameras.world_from_cam.clone()
    poses[:, :3, 3] = position
    return cameras.replace(world_from_cam=poses)
