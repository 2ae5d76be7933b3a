"""Small structs for the tests of structs and rows."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vmemkit.core import TensorStruct


@dataclasses.dataclass(frozen=True, repr=False)
class Inner(TensorStruct):
    a: Tensor


@dataclasses.dataclass(frozen=True, repr=False)
class Outer(TensorStruct):
    inner: Inner
    b: Tensor
    c: Tensor | None = None


def outer(n: int, start: int = 0, c: bool = True) -> Outer:
    b = torch.arange(start, start + n)
    return Outer(Inner(b[:, None] * 10), b, b * 100 if c else None)
