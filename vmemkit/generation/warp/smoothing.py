"""Smooth filling: unknown pixels from averages of known ones, and seams made invisible.

In: an image with a mask of its known pixels. Out: the image without holes; known pixels stay.
`push_pull` averages over a pyramid (Gortler et al., The Lumigraph, 1996). `blend_seam` fits the
colours of any other filling to the image around it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

SEAM_REACH = 0.06  # share of the image width over which the colour step at a seam is spread


def push_pull(
    image: Float[Tensor, "*b c h w"], known: Bool[Tensor, "*b h w"]
) -> Float[Tensor, "*b c h w"]:
    """Smooth filling of the unknown pixels, at any image size, within the range of the known ones.

    1. Push: halve the image until one pixel is left, averaging known pixels only.
    2. Pull: from the coarsest level up, take each unknown pixel from the level below.

    Errors: ValueError if an image has no known pixel.
    """
    require_known(known)
    shape = image.shape
    image = image.reshape(-1, *shape[-3:])
    known = known.reshape(-1, 1, *shape[-2:])
    clean = torch.where(known, image, image.new_zeros(()))  # unknown pixels may hold NaN
    filled = _from_coarser(clean, known.to(image.dtype))
    low = torch.where(known, image, torch.inf).amin((-2, -1), keepdim=True)
    high = torch.where(known, image, -torch.inf).amax((-2, -1), keepdim=True)
    return torch.where(known, image, filled.clamp(low, high)).reshape(shape)


def _from_coarser(
    weighted: Float[Tensor, "b c h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """What the coarser levels of an image show, given the image times its `weight` in [0, 1]."""
    h, w = weighted.shape[-2:]
    if h % 2 or w % 2:  # pad so that 2 x 2 cells stay aligned at every size
        even = (0, w % 2, 0, h % 2)
        weighted, weight = functional.pad(weighted, even), functional.pad(weight, even)
    total = functional.avg_pool2d(weight, 2)
    coarse = functional.avg_pool2d(weighted, 2) / total.clamp(min=1e-9)
    if coarse.shape[-2:] != (1, 1):
        weight = (4 * total).clamp(max=1)  # one known pixel makes the cell known
        even_coarser = _from_coarser(coarse * weight, weight)
        coarse = weight * coarse + (1 - weight) * even_coarser
    fine = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return fine[..., :h, :w]


def blend_seam(
    filling: Float[Tensor, "3 h w"], image: Float[Tensor, "3 h w"], known: Bool[Tensor, "h w"]
) -> Float[Tensor, "3 h w"]:
    """`image` where it is known, elsewhere `filling` with its colours fitted to the image's.

    The colour step at the seam is continued into the filling, and fades with distance.
    """
    import cv2  # loaded here, because it takes a tenth of the package's import time

    if known.all() or not known.any():
        return torch.where(known, image, filling)
    hole = (~known).cpu().numpy().astype(np.uint8)
    distance = torch.from_numpy(cv2.distanceTransform(hole, cv2.DIST_L2, 5)).to(image)
    rim = known & torch.from_numpy(cv2.dilate(hole, np.ones((5, 5), np.uint8)) > 0).to(known.device)
    step = push_pull(torch.where(known, image - filling, image.new_zeros(())), rim)
    fade = torch.exp(-distance / (SEAM_REACH * image.shape[-1]))
    return torch.where(known, image, (filling + fade * step).clamp(0, 1))


def require_known(known: Bool[Tensor, "*b h w"], what: str = "known pixel") -> None:
    """Errors: ValueError unless the mask has a true pixel in every image."""
    if known.numel() == 0 or not bool(known.flatten(-2).any(-1).all()):
        raise ValueError(
            f"filling needs at least one {what} in every image, got none in one of shape "
            f"{list(known.shape)}: give a view that sees something first"
        )
