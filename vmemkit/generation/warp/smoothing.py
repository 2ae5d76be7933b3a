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

from vmemkit.core.kernels import accelerated

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
    layers = image.reshape(-1, *image.shape[-3:])
    return _push_pull(layers, known.reshape(-1, *known.shape[-2:])).reshape(image.shape)


@accelerated
def _push_pull(
    image: Float[Tensor, "b c h w"], known: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b c h w"]:
    known = known[:, None]
    clean = torch.where(known, image, image.new_zeros(()))  # unknown pixels may hold NaN
    filled = _from_coarser(clean, known)
    low = torch.where(known, image, torch.inf).amin((-2, -1), keepdim=True)
    high = torch.where(known, image, -torch.inf).amax((-2, -1), keepdim=True)
    return torch.where(known, image, filled.clamp(low, high))


def _from_coarser(
    clean: Float[Tensor, "b c h w"], known: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """What the coarser levels of an image show, which is 0 where it is unknown."""
    h, w = clean.shape[-2:]
    share = known.to(clean.dtype)
    if h % 2 or w % 2:  # pad so that 2 x 2 cells stay aligned at every size
        even = (0, w % 2, 0, h % 2)
        clean, share = functional.pad(clean, even), functional.pad(share, even)
    share = functional.avg_pool2d(share, 2)  # one known pixel makes the cell known
    coarse = functional.avg_pool2d(clean, 2) / share.clamp(min=1e-9)
    if coarse.shape[-2:] != (1, 1):
        coarse = torch.where(share > 0, coarse, _from_coarser(coarse, share > 0))
    return _doubled(coarse)[..., :h, :w]


def _doubled(coarse: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Twice as many rows and columns, by bilinear interpolation. Kernels repeat it to the bit, as they
    could not repeat torch's own."""
    for axis, border in ((-2, (0, 0, 1, 1)), (-1, (1, 1, 0, 0))):
        size, padded = coarse.shape[axis], functional.pad(coarse, border, mode="replicate")
        beside = padded.narrow(axis, 0, size), padded.narrow(axis, 2, size)
        both = [coarse + 0.25 * (neighbour - coarse) for neighbour in beside]
        coarse = torch.stack(both, axis).flatten(axis - 1, axis)
    return coarse


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
