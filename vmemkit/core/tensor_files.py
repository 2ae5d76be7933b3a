"""Tensor files: named tensors on disk as safetensors, and comparisons to the bit.

A file is written beside its place and moved there when it is complete and on the disk. So a failure
or a power cut never damages an older file. Nothing is pickled.
"""

from __future__ import annotations

import os

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vmemkit.core.image_files import replacing


def save_tensors(path: str | os.PathLike, tensors: dict[str, Tensor]) -> None:
    """Write tensors of any device into a file, in place of an older one.

    Errors: OSError for a full disk; ValueError for a missing folder. The older file is then still there.
    """
    # Tensors may share one buffer, which safetensors refuses: each is copied.
    columns = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        with replacing(path) as draft:
            draft.touch()
            mode = draft.stat().st_mode  # safetensors' own files are for their owner alone
            save_file(columns, draft)
            draft.chmod(mode)
    except SafetensorError as error:  # it raises this where the disk is full
        raise OSError(f"cannot write {path}: {error}") from error


def bytes_of(tensor: Tensor) -> Tensor:
    """The bytes of a tensor's elements in their order, one axis of uint8; without a copy if possible."""
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same type, shape and bits; NaN equals NaN of the same bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(bytes_of(a), bytes_of(b))
