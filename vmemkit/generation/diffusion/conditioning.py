"""Conditioning: context views and target cameras as a diffusion network takes them.

In: the cameras of a window (context frames first), and the context's latents and embeddings. Out: two
`Condition`s, one with the context and one without, for guidance. A condition holds camera rays as
Pluecker maps relative to the first frame, a mask of the context frames, their latents, and the mean
of their embeddings. Scenes have no scale of their own, so the cameras of a window are centred, and
scaled by the distance of the first.
Source: Zhou et al., 2025 (Stable Virtual Camera), as VMem's released code applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from vmemkit.core import Cameras, horizontal_fov, intrinsics, pixel_centres, rays
from vmemkit.generation.diffusion.sampling import Condition

# A camera counts for the centre if it is no farther from the median position than FAR times the
# FAR_QUANTILE of these distances, and than FARTHEST world units.
FAR, FAR_QUANTILE, FARTHEST = 10.0, 0.97, 1e6
DEFAULT_FOV = 54.0  # degrees, of images that come without intrinsics
AT_CENTRE = 1e-5  # world units: a first camera this close to the centre gives no scale


@dataclass(frozen=True)
class CameraScale:
    """How the cameras of a window are scaled."""

    distance: float = 2.0  # of the first camera from the centre, afterwards
    offset: float = 0.01  # added to the factor by VMem; 0 in Stable Virtual Camera


def default_intrinsics(aspect: float, fov: float = DEFAULT_FOV) -> Float[Tensor, "3 3"]:
    """K of an image without known intrinsics, as released: `fov` degrees along the longer side."""
    return intrinsics(horizontal_fov(fov, aspect), aspect)


def centred(cameras: Cameras) -> Cameras:
    """Cameras (t,) moved so that the mean of their positions, without outliers, is the origin."""
    position = cameras.position
    distance = (position - position.median(0).values).norm(dim=-1)
    near = distance <= (FAR * torch.quantile(distance, FAR_QUANTILE)).clamp(max=FARTHEST)
    near = near[:, None].to(position.dtype)
    return _moved(cameras, position - (position * near).sum(0) / near.sum())


def scaled(cameras: Cameras, scale: CameraScale) -> Cameras:
    """Centred cameras (t,) in the units of the network."""
    distance = cameras.position[0].norm().double()
    factor = scale.distance / distance + scale.offset
    factor = torch.where(distance > AT_CENTRE, factor, scale.distance)
    return _moved(cameras, cameras.position * factor)


def pluecker(cameras: Cameras, height: int, width: int) -> Float[Tensor, "t 6 h w"]:
    """Rays through the pixel centres in the first camera's axes: unit direction d and moment o x d,
    where o is the camera's position.

    The moment says where the line lies, and is the same for every point o on the line.
    """
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
    """Conditions with and without the context, for t frames of which k are `given`, in their order.

    cameras (t,): in the network's units. The condition without context has the same rays, but its
    mask, latents and embedding are zero. Errors: ValueError for no latents, and for another number
    of latents or embeddings than given frames.
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

    def condition(frames: Tensor, known: Tensor, mean: Tensor) -> Condition:
        return Condition(frames, known, torch.cat([known, lines], 1), mean, lines)

    without_context = condition(torch.zeros_like(frames), torch.zeros_like(known), mean * 0)
    return condition(frames, known, mean), without_context


def _moved(cameras: Cameras, position: Float[Tensor, "t 3"]) -> Cameras:
    poses = cameras.world_from_cam.clone()
    poses[:, :3, 3] = position
    return cameras.replace(world_from_cam=poses)
