"""Noise of recordings: views as an imperfect depth camera and tracker would have given them.

In: true views with depth. Out: the same views with errors in depth, in poses, or with holes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from vmemkit.core import Views

BLOBS = (6, 8)  # cells of smooth noise: it changes over a sixth of the image
LEAST_FACTOR = 0.2  # depth is at least so much of the true one


@dataclass(frozen=True)
class RecordingNoise:
    """What is wrong with a recording; the errors have these standard deviations."""

    depth: float = 0.0  # error of depth, different at each pixel; a share of the depth
    smooth: float = 0.0  # the same, smooth over the image
    scale: float = 0.0  # the same, one for each view
    shift: float = 0.0  # error of a position, world units
    turn: float = 0.0  # error of a rotation, degrees
    holes: float = 0.0  # share of pixels without depth, in blobs
    sky: float = 0.0  # depth that a sensor records where it meets nothing, world units; 0: unknown


NOISES = {
    "clean": RecordingNoise(),
    "depth 1 %": RecordingNoise(depth=0.01),
    "depth 3 %": RecordingNoise(depth=0.03),
    "depth 10 %": RecordingNoise(depth=0.1),
    "smooth depth 1 %": RecordingNoise(smooth=0.01),
    "smooth depth 3 %": RecordingNoise(smooth=0.03),
    "smooth depth 10 %": RecordingNoise(smooth=0.1),
    "scale 3 %": RecordingNoise(scale=0.03),
    "scale 10 %": RecordingNoise(scale=0.1),
    "poses 1 cm, 0.5 deg": RecordingNoise(shift=0.01, turn=0.5),
    "poses 5 cm, 2 deg": RecordingNoise(shift=0.05, turn=2.0),
    "holes 10 %": RecordingNoise(holes=0.1),
    "sky at 65.5 m": RecordingNoise(sky=65.535),
}


def noisy(views: Views, noise: RecordingNoise, seed: int = 0) -> Views:
    """The views (t,) with this noise; the same seed gives the same errors.

    Errors: ValueError for views without depth.
    """
    if views.depth is None:
        raise ValueError("noise is added to views with depth, and these have none")
    rng = torch.Generator().manual_seed(seed)
    t, h, w = views.depth.shape

    def blobs() -> Float[Tensor, "t h w"]:
        cells = torch.randn(t, 1, *BLOBS, generator=rng)
        return torch.nn.functional.interpolate(cells, (h, w), mode="bicubic")[:, 0]

    factor = 1 + noise.depth * torch.randn(t, h, w, generator=rng) + noise.smooth * blobs()
    factor = (factor + noise.scale * torch.randn(t, 1, 1, generator=rng)).clamp(min=LEAST_FACTOR)
    found = views.depth * factor
    if noise.holes:
        field = blobs()
        found = torch.where(field > field.flatten().quantile(1 - noise.holes), torch.nan, found)
    if noise.sky:
        found = torch.where(views.depth.isnan(), noise.sky, found)
    pose = views.cameras.world_from_cam.clone()
    pose[:, :3, 3] += noise.shift * torch.randn(t, 3, generator=rng)
    axis = torch.deg2rad(noise.turn * torch.randn(t, 3, generator=rng) / 3**0.5)
    turns = torch.from_numpy(Rotation.from_rotvec(axis.double().numpy()).as_matrix())
    pose[:, :3, :3] = turns.float() @ pose[:, :3, :3]
    return views.replace(cameras=views.cameras.replace(world_from_cam=pose), depth=found)
