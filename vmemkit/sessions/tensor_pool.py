"""The tensors of one record: collected for a file, and read back one by one.

The record says what each tensor is: type, shape and CRC-32. So a file is checked before anything is
made of it. Tensors are mapped from the file, and take memory only while they are looked at.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from vmemkit.core import bytes_of, same_bits


class TensorPool:
    """Tensors that will be stored, by name. Equal ones are stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.table: dict[str, Any] = {}  # type, shape and CRC-32 of each by its name, as JSON

    def store(self, name: str, tensor: Tensor) -> str:
        """Add a tensor; returns the name of an equal one that is there, or else `name`."""
        tensor = tensor.detach().cpu()
        stamp = _stamp(tensor)
        for other, known in self.table.items():
            if known == stamp and same_bits(self.tensors[other], tensor):
                return other
        self.tensors[name], self.table[name] = tensor, stamp
        return name


class TensorFile:
    """A file of tensors whose record says what they are."""

    def __init__(self, path: Path, table: Any, device: torch.device | str) -> None:
        """Errors: ValueError that names the file, if it is missing or damaged."""
        self._name, self._table, self._device = path.name, table, device
        try:
            self._file = safe_open(path, "pt")
        except Exception as error:
            raise ValueError(
                f"{path.name} is missing or damaged: {type(error).__name__}"
            ) from error

    def fetch(self, name: str) -> Tensor:
        """The tensor of that name. Errors: ValueError unless it is what the record says."""
        try:
            tensor = self._file.get_tensor(name)
        except Exception as error:
            kind = type(error).__name__
            raise ValueError(f"{self._name} lacks the tensor {name!r:.60}: {kind}") from error
        if _stamp(tensor) != self._table.get(name):
            raise ValueError(f"{self._name} is damaged: the tensor {name!r:.60} is not as stored")
        return tensor.to(self._device)


def _stamp(tensor: Tensor) -> list[Any]:
    kind = str(tensor.dtype).removeprefix("torch.")
    return [kind, list(tensor.shape), zlib.crc32(bytes_of(tensor).numpy().data)]
