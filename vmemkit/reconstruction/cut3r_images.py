"""Weights and images to CUT3R, and its maps back to the images' pixels.

The network sees a central window of an image, of a size of its own. What is outside is unknown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vmemkit.core import Cameras, image_bytes
from vmemkit.nets.cut3r import CUT3R, PATCH, CUT3RConfig, check_model_string
from vmemkit.nets.weights import arguments, load_into, read, require

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
        """That of images of `height` x `width`. Errors: ValueError for too narrow ones."""
        h, w, (left, top, right, bottom) = _framed(height, width, config)
        return cls(left / w, top / h, (right - left) / w, (bottom - top) / h)

    def camera(self, whole: Cameras) -> Cameras:
        """A camera of the whole image as one of the window alone."""
        across = [1 / self.width, 0, -self.left / self.width]
        down = [0, 1 / self.height, -self.top / self.height]
        window_from_image = whole.K.new_tensor([across, down, [0, 0, 1]])
        return whole.replace(K=window_from_image @ whole.K)


def load_network(
    file: str | os.PathLike | None = None,
    config: CUT3RConfig | None = None,
    device: torch.device | str | None = None,
) -> CUT3R:
    """The network with the weights of `file`, or of where `weights.find` looks for the published, on
    `device` (a GPU if there is one), in float32.

    The file's own description is compared with `config` (default: the published network).
    Errors: ValueError for missing weights, for a description of another network, for none where no
    `config` is given, and for weights that do not fit.
    """
    path = require("cut3r") if file is None else Path(file)
    state, said = read(path), arguments(path).get("model")
    if said is not None:
        if not isinstance(said, str):
            raise ValueError(f"{path} describes its network by a {type(said).__name__}, needs text")
        check_model_string(said, config or CUT3RConfig())
    elif config is None:
        raise ValueError(
            f"{path} does not say which network it is of, and numbers of heads do not show in "
            "weights: give config=CUT3RConfig() if you know that it is the published one's"
        )
    with torch.device("meta"):
        network = CUT3R(config or CUT3RConfig())
    load_into(network, state, "CUT3R", torch.float32)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device).eval().requires_grad_(False)


def prepare(
    image: Float[Tensor, "t 3 h w"], config: CUT3RConfig
) -> tuple[Float[Tensor, "t 3 h2 w2"], NetworkCrop]:
    """Images in [0, 1] as the network takes them, in [-1, 1], and which part of each that is.

    The longer side is made config.img_size (512), then the centre is cut to multiples of PATCH, a
    square to 4:3, as the network was trained: of a square, an eighth is lost above and below.
    Errors: ValueError for no images, for such as are not finite in [0, 1], and for too narrow ones.
    """
    if not (image.isfinite().all() and ((image >= 0) & (image <= 1)).all()):
        raise ValueError("images must be finite and in [0, 1]")
    if len(image) == 0:
        raise ValueError(f"the network needs images [t 3 h w], got {list(image.shape)}")
    h, w = image.shape[2:]
    height, width, box = _framed(h, w, config)
    larger = max(h, w) > max(config.img_size)
    method = Image.Resampling.LANCZOS if larger else Image.Resampling.BICUBIC
    cut = [
        Image.fromarray(one).resize((width, height), method).crop(box) for one in image_bytes(image)
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in cut])).permute(0, 3, 1, 2) / 255
    return (2 * pixels - 1).to(image.device), NetworkCrop.of(h, w, config)


def _framed(h: int, w: int, config: CUT3RConfig) -> tuple[int, int, tuple[int, int, int, int]]:
    """Height and width that an image is resized to, and the box (left, top, right, bottom) of it
    that the network sees."""
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


def sampled(
    depth: Float[Tensor, "h2 w2"], window: NetworkCrop, uv: Float[Tensor, "h w 2"]
) -> Float[Tensor, "h w"]:
    """Depth of the window's pixels at image points (u, v); NaN outside and where it is unknown.

    In between, inverse depth is linear, which is exact on planes; across edges the nearest counts.
    """
    depth = torch.where(depth > 0, depth, torch.nan)
    nearest = taken(depth, window, uv, "nearest")
    between = 1 / taken(1 / depth, window, uv, "bilinear")
    return torch.where((between / nearest - 1).abs() < EDGE, between, nearest)


def taken(
    values: Float[Tensor, "h2 w2"],
    window: NetworkCrop,
    uv: Float[Tensor, "h w 2"],
    mode: Literal["nearest", "bilinear"],
) -> Float[Tensor, "h w"]:
    """Values of the window's pixels at image points (u, v); NaN outside."""
    corner = uv.new_tensor([window.left, window.top])
    at = (uv - corner) / uv.new_tensor([window.width, window.height])
    inside = ((at >= 0) & (at <= 1)).all(-1)
    grid = (2 * at - 1)[None]
    taken = functional.grid_sample(
        values[None, None], grid, mode, padding_mode="border", align_corners=False
    )[0, 0]
    return torch.where(inside, taken, torch.nan)
