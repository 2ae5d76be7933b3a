"""Fingerprints: which weights a network has.

In: a network. Out: a hash of its tensors, the same in every process.
"""

from __future__ import annotations

import hashlib
import weakref

import torch
from torch import Tensor, nn

_hashes: weakref.WeakKeyDictionary[nn.Module, bytes] = weakref.WeakKeyDictionary()


def module_hash(module: nn.Module) -> bytes:
    """SHA-256 of the names, types, shapes and bits of all tensors of a network.

    It is computed once for each network: weights must not change after that.
    """
    if module not in _hashes:
        total = hashlib.sha256()
        for name, tensor in sorted(module.state_dict().items()):
            if isinstance(tensor, Tensor):
                total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
                total.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        _hashes[module] = total.digest()
    return _hashes[module]
