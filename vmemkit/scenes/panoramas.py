"""Panoramas: an equirectangular photograph of all directions as a scene.

In: the photograph. Out: a `Panorama` that renders any camera at its centre. Cameras that turn there
get true images; there is no parallax, so depth is only a sphere.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vmemkit.core import (
    MAX_PIXELS,
    Cameras,
    Views,
    as_images,
    camera_list,
    in_image,
    load_image,
    pixel_centres,
    project,
    rays,
    whole,
)

CENTRE_TOLERANCE = 1e-3  # distance of a camera from the centre over the radius
MAX_SAMPLES = 8  # samples per pixel and axis of a rendered view


@dataclass(frozen=True, repr=False)
class Panorama:
    """A photograph of all directions from the world's origin.

    Distances are unknown, so everything lies on a sphere of `radius`; for a camera that only turns,
    any radius is right. The identity pose looks at the middle of the photograph, and turning right
    moves right in it.
    """

    image: Float[Tensor, "3 h w"]  # equirectangular, w = 2 h
    radius: float  # world units

    def __repr__(self) -> str:
        height, width = self.image.shape[1:]
        return f"Panorama({width} x {height}, radius={self.radius:g})"

    def to(self, device: torch.device | str) -> Panorama:
        return Panorama(self.image.to(device), self.radius)

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """Views (t,); coarse pixels are the mean of several bilinear samples.

        Errors: ValueError for a camera away from the origin and for an impossible size.
        """
        cameras = camera_list(cameras, "the cameras to render", least=0)
        height, width = whole(height, "height"), whole(width, "width")
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise ValueError(
                f"need an image of 1 to {MAX_PIXELS} pixels, got {height} x {width} pixels"
            )
        self._check_at_centre(cameras)
        uv = pixel_centres(height, width, device=cameras.device)
        direction = rays(cameras, uv.expand(len(cameras), height, width, 2))
        image = self.image.new_zeros(len(cameras), 3, height, width)
        for i in range(len(cameras)):
            image[i] = self._render_one(cameras[i : i + 1], height, width)
        given = torch.ones(len(cameras), dtype=torch.bool, device=cameras.device)
        return Views(cameras, image, given, self.radius / direction.norm(dim=-1))

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera and inside its image: nothing occludes.

        Errors: ValueError for a camera away from the origin.
        """
        self._check_at_centre(cameras)
        return in_image(*project(cameras, points_world))

    def _render_one(self, camera: Cameras, height: int, width: int) -> Float[Tensor, "3 h w"]:
        # Pixels of the photograph that one pixel covers in the middle of the view.
        focal = min(width * float(camera.K[0, 0, 0]), height * float(camera.K[0, 1, 1]))
        per_pixel = self.image.shape[2] / (2 * math.pi * focal)
        samples = min(max(math.ceil(per_pixel), 1), MAX_SAMPLES)
        uv = pixel_centres(samples * height, samples * width, device=camera.device)
        x, y, z = rays(camera, uv[None]).unbind(-1)
        turns = torch.atan2(x, z) / (2 * math.pi) + 0.5  # 0 and 1 are the seam, behind the camera
        drop = torch.atan2(y, torch.hypot(x, z)) / math.pi + 0.5
        # A column of the opposite side beyond each edge, so that the seam is interpolated, too.
        around = torch.cat([self.image[..., -1:], self.image, self.image[..., :1]], -1)[None]
        columns = self.image.shape[2]
        grid = torch.stack([2 * (turns * columns + 1) / (columns + 2) - 1, 2 * drop - 1], -1)
        fine = functional.grid_sample(around, grid, padding_mode="border", align_corners=False)
        return functional.avg_pool2d(fine, samples)[0]

    def _check_at_centre(self, cameras: Cameras) -> None:
        away = cameras.position.norm(dim=-1)
        if bool((away > CENTRE_TOLERANCE * self.radius).any()):
            worst = int(away.argmax())
            raise ValueError(
                f"camera {worst} is {away[worst]:.3g} away from the panorama's centre (the origin):"
                " a panorama shows only what is seen from there, so turn, but do not move"
            )


def panorama(source: str | os.PathLike | Float[Tensor, "3 h w"], radius: float = 5.0) -> Panorama:
    """A panorama from an equirectangular image (tensor, array or Pillow's) or its file; `radius` in
    world units.

    Errors: ValueError for an image that is not twice as wide as high, and a radius that is not
    positive.
    """
    image = (
        load_image(source)
        if isinstance(source, str | os.PathLike)
        else as_images(source, "a panorama")
    )
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[2] != 2 * image.shape[1]:
        raise ValueError(
            "a panorama needs an equirectangular image [3 h 2h] of all directions, got "
            f"{list(image.shape)}: pad or resize it to twice as wide as high"
        )
    if image.numel() == 0 or not 0 <= image.amin() <= image.amax() <= 1:
        raise ValueError("a panorama needs pixels, finite in [0, 1]: divide 8-bit values by 255")
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be a positive length, got {radius}")
    return Panorama(image.float(), radius)
