"""Conversions: the kinds of values that people have, as the tensors that the package computes with.

In: tensors, NumPy arrays, nested lists, Pillow images. Out: tensors, or a ValueError that says what is
needed. They are called where values come in, so that no later stage meets anything else.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def as_tensor(value: Any, what: str) -> Tensor:
    """A tensor of the numbers in a tensor, a NumPy array or nested lists; `what` names them.

    Errors: ValueError for anything else.
    """
    if isinstance(value, Tensor):
        return value
    try:
        array = np.array(value, order="C")
        if array.dtype.kind in "biuf":
            return torch.from_numpy(array)
    except (TypeError, ValueError):  # lists of uneven length, or types that torch does not have
        pass
    raise ValueError(f"{what} must be numbers in a tensor, an array or lists, got {value!r:.60}")


def as_images(value: Any, what: str = "images") -> Tensor:
    """Images [*t 3 h w] of a tensor or array with the colours first or last, or of Pillow images.

    Bytes become shares of 255; other numbers stay as they are. Errors: ValueError as `as_tensor`.
    """
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB"))
    elif isinstance(value, list | tuple) and any(isinstance(x, Image.Image) for x in value):
        value = [np.asarray(x.convert("RGB")) if isinstance(x, Image.Image) else x for x in value]
    images = as_tensor(value, what)
    if images.ndim >= 3 and images.shape[-1] == 3 != images.shape[-3]:
        images = images.movedim(-1, -3)
    return images.float() / 255 if images.dtype == torch.uint8 else images


def whole(value: Any, what: str) -> int:
    """A whole number, such as an int or one of NumPy's. Errors: ValueError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{what} must be a whole number, got {value!r:.40}") from None
