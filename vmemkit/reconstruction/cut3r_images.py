"""Images on their way to CUT3R, and its maps on their way back to the images' pixels.

The network sees a central crop of an image, at a size of its own (`prepare_images`). Its maps are
sampled at points of the whole image (`sample_depth`); depth outside the crop is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vmemkit.core import Cameras, image_bytes
from vmemkit.nets.cut3r import PATCH, CUT3RConfig

EDGE = 0.05  # relative difference across which depth is not interpolated


@dataclass(frozen=True)
class NetworkCrop:
    """The central part of an image that the network sees, as shares of its width and height."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, height: int, width: int, config: CUT3RConfig) -> NetworkCrop:
        """The crop of `height` x `width` images. Errors: ValueError for too narrow ones."""
        h, w, (left, top, right, bottom) = _resized_box(height, width, config)
        return cls(left / w, top / h, (right - left) / w, (bottom - top) / h)

    def camera(self, whole: Cameras) -> Cameras:
        """A camera of the whole image, as a camera of the crop."""
        u = [1 / self.width, 0, -self.left / self.width]
        v = [0, 1 / self.height, -self.top / self.height]
        crop_from_image = whole.K.new_tensor([u, v, [0, 0, 1]])
        return whole.replace(K=crop_from_image @ whole.K)


def prepare_images(
    image: Float[Tensor, "t 3 h w"], config: CUT3RConfig
) -> tuple[Float[Tensor, "t 3 h2 w2"], NetworkCrop]:
    """Images in [0, 1] as the network was trained on them, in [-1, 1], and the crop they show.

    1. The longer side is resized to config.img_size (512).
    2. The centre is cut to multiples of PATCH; a square to 4:3, losing an eighth above and below.
    Errors: ValueError for no images, for values that are not finite in [0, 1], and for images that
    are too narrow.
    """
    if len(image) == 0:
        raise ValueError(f"the network needs images [t 3 h w], got {list(image.shape)}")
    if not (image.isfinite().all() and ((image >= 0) & (image <= 1)).all()):
        raise ValueError("images must be finite and in [0, 1]")
    h, w = image.shape[2:]
    height, width, box = _resized_box(h, w, config)
    shrinks = max(h, w) > max(config.img_size)
    method = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    crops = [
        np.asarray(Image.fromarray(pixels).resize((width, height), method).crop(box))
        for pixels in image_bytes(image)
    ]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255
    return (2 * pixels - 1).to(image.device), NetworkCrop.of(h, w, config)


def _resized_box(h: int, w: int, config: CUT3RConfig) -> tuple[int, int, tuple[int, int, int, int]]:
    """Height and width to which an image is resized, and the box (left, top, right, bottom) of the
    resized image that the network sees."""
    longest = max(config.img_size)
    if min(h, w) == 0 or PATCH * max(h, w) > longest * min(h, w):
        raise ValueError(
            f"the network needs images whose shorter side is at least {PATCH} / {longest} of the "
            f"longer, got {h} x {w} pixels"
        )
    height, width = (round(side * longest / max(h, w)) for side in (h, w))
    rows, columns = height // PATCH * PATCH, width // PATCH * PATCH
    rows = rows * 3 // 4 // PATCH * PATCH if height == width else rows
    top, left = (height - rows) // 2, (width - columns) // 2
    return height, width, (left, top, left + columns, top + rows)


def sample_depth(
    depth: Float[Tensor, "h2 w2"], crop: NetworkCrop, uv: Float[Tensor, "h w 2"]
) -> Float[Tensor, "h w"]:
    """The crop's depth at image points (u, v); NaN outside it and where depth is not positive.

    Inverse depth is interpolated linearly, which is exact on planes. Across edges, where that would
    mix two surfaces, the nearest pixel counts.
    """
    depth = torch.where(depth > 0, depth, torch.nan)
    nearest = sample(depth, crop, uv, "nearest")
    interpolated = 1 / sample(1 / depth, crop, uv, "bilinear")
    return torch.where((interpolated / nearest - 1).abs() < EDGE, interpolated, nearest)


def sample(
    values: Float[Tensor, "h2 w2"],
    crop: NetworkCrop,
    uv: Float[Tensor, "h w 2"],
    mode: Literal["nearest", "bilinear"],
) -> Float[Tensor, "h w"]:
    """Values of the crop's pixels at image points (u, v); NaN outside the crop."""
    corner = uv.new_tensor([crop.left, crop.top])
    uv_crop = (uv - corner) / uv.new_tensor([crop.width, crop.height])
    inside = ((uv_crop >= 0) & (uv_crop <= 1)).all(-1)
    grid = (2 * uv_crop - 1)[None]
    samples = functional.grid_sample(
        values[None, None], grid, mode, padding_mode="border", align_corners=False
    )[0, 0]
    return torch.where(inside, samples, torch.nan)
