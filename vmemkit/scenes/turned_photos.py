"""Photos that an EXIF tag turns, and what belongs to them.

A camera that is held upright stores lying pixels and a tag that says how to turn them. `load_image`
turns them. A lens or a depth map can be for the pixels as stored, or for the photo as it is shown.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from vmemkit.core import MAX_PIXELS, image_orientation, image_size, load_depth

SHAPE_TOLERANCE = 0.02  # relative difference of aspect that counts as the same shape
LYING = (5, 6, 7, 8)  # orientations that swap width and height


def exif_orientation(photo: str | os.PathLike) -> int:
    """How a photo is turned to be shown, 1 to 8 as in EXIF; 1 is not at all, or no readable tag."""
    try:
        return image_orientation(photo)
    except ValueError:  # an unreadable photo is reported by whoever loads it
        return 1


def turn(plane: Shaped[Tensor, "*c h w"], orientation: int) -> Shaped[Tensor, "*c h2 w2"]:
    """Stored pixels as they are shown."""
    if orientation in LYING:
        plane = plane.mT
    flips = {2: (-1,), 3: (-2, -1), 4: (-2,), 6: (-1,), 7: (-2, -1), 8: (-2,)}
    return torch.flip(plane, flips.get(orientation, ()))


def turn_back(plane: Shaped[Tensor, "*c h w"], orientation: int) -> Shaped[Tensor, "*c h2 w2"]:
    """Shown pixels as they are stored."""
    return turn(plane, {6: 8, 8: 6}.get(orientation, orientation))


def turn_of(photo: str | os.PathLike, size: tuple[int, int], what: str) -> int:
    """The orientation by which something of `size` (height, width) turns to fit the shown photo.

    `what` it is, for messages. It is 1 where it fits as it is, or not at all. The shape tells, if a
    quarter turn changes it. Errors: ValueError where it cannot.
    """
    orientation = exif_orientation(photo)
    if orientation == 1:
        return 1
    height, width = image_size(photo)
    fits = same_shape(size, (height, width))
    if orientation in LYING and not (fits and same_shape(size, (width, height))):
        return orientation if same_shape(size, (width, height)) else 1
    if not fits:
        return 1
    raise ValueError(
        f"{Path(photo).name} is turned when it is shown, by its EXIF orientation {orientation}, and "
        f"{what} ({size[1]} x {size[0]}) may be for the pixels as stored or as shown: save the photo "
        f"without the tag, such that {what} fits it"
    )


def load_photo_depth(
    photo: str | os.PathLike,
    depth: str | os.PathLike,
    unit: float | None = None,
    max_pixels: int = MAX_PIXELS,
    sky: bool = False,
) -> Shaped[Tensor, "h w"]:
    """The depth of a photo as `load_depth` gives it, turned like the photo.

    Errors: ValueError as `load_depth`, and if a turned photo leaves open which depth fits it.
    """
    return turned_like(photo, load_depth(depth, unit, max_pixels, sky), "its depth")


def turned_like(
    photo: str | os.PathLike, plane: Shaped[Tensor, "h w"], what: str
) -> Shaped[Tensor, "h2 w2"]:
    """A plane that belongs to a photo, turned like it. Errors: ValueError as `turn_of`."""
    return turn(plane, turn_of(photo, (plane.shape[0], plane.shape[1]), what))


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same aspect, but for SHAPE_TOLERANCE."""
    return abs(a[1] * b[0] / (a[0] * b[1]) - 1) <= SHAPE_TOLERANCE
