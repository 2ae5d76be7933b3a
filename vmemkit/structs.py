"""Frozen bundles of tensors: the values that flow between the stages.

A `TensorStruct` is a frozen dataclass whose fields are tensors, nested structs or `None`, all with
the same leading ("row") dimension. It can be indexed, concatenated and moved as a whole.
`Rows` is its growing counterpart: append-only storage in which a longer value shares the memory of
the shorter one it grew from, so that appending costs what is appended and a prefix costs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

S = TypeVar("S", bound="TensorStruct")


@dataclasses.dataclass(frozen=True)
class TensorStruct:
    """Base of the value types. Subclasses are frozen dataclasses of tensors sharing axis 0."""

    def map(self: S, function: Callable[[Tensor], Tensor]) -> S:
        """A struct with `function` applied to every tensor, nested ones included."""
        return type(self)(**{name: _mapped(value, function) for name, value in self._items()})

    def to(self: S, device: torch.device | str) -> S:
        return self.map(lambda tensor: tensor.to(device))

    def replace(self: S, **changes: Any) -> S:
        return dataclasses.replace(self, **changes)

    def __getitem__(self: S, index: Any) -> S:
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(next(iter(self.leaves().values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.leaves().values())).device

    def leaves(self) -> dict[str, Tensor]:
        """Every tensor by its dotted name, e.g. `cameras.K`; absent (None) fields are left out."""
        leaves: dict[str, Tensor] = {}
        for name, value in self._items():
            if isinstance(value, Tensor):
                leaves[name] = value
            elif isinstance(value, TensorStruct):
                leaves.update({f"{name}.{key}": leaf for key, leaf in value.leaves().items()})
        return leaves

    def _items(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]

    def __repr__(self) -> str:
        """Shapes, not values: short in a notebook and the same on every machine."""
        shapes = ", ".join(f"{key}={list(leaf.shape)}" for key, leaf in self.leaves().items())
        return f"{type(self).__name__}({shapes})"


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return value.map(function) if isinstance(value, TensorStruct) else value


def cat(structs: Sequence[S]) -> S:
    """Concatenate along axis 0. Errors: ValueError for nothing, or for differing optional fields."""
    if not structs:
        raise ValueError("cat needs at least one struct, got none")
    names = [tuple(struct.leaves()) for struct in structs]
    if len(set(names)) > 1:
        raise ValueError(f"cat needs structs with the same fields, got {sorted(set(names))}")
    columns = {name: torch.cat([s.leaves()[name] for s in structs]) for name in names[0]}
    return unflatten(structs[0], columns)


def unflatten(like: S, leaves: dict[str, Tensor]) -> S:
    """A struct shaped like `like` whose tensors are taken from `leaves` by dotted name."""

    def build(struct: TensorStruct, prefix: str) -> TensorStruct:
        fields: dict[str, Any] = {}
        for name, value in struct._items():
            if isinstance(value, TensorStruct):
                fields[name] = build(value, f"{prefix}{name}.")
            else:
                fields[name] = leaves[prefix + name] if isinstance(value, Tensor) else value
        return type(struct)(**fields)

    return build(like, "")  # type: ignore[return-value]


class Rows(Generic[S]):
    """Append-only rows of one struct: a value that shares its storage with what it grew from.

    The buffer doubles when full, so appending n rows costs O(n). All values on one buffer agree on
    the rows they share; only the value that ends where the buffer's used part ends may grow in
    place, any other (a truncated or forked one) copies its rows first. No value ever changes.
    """

    def __init__(self, buffer: S, length: int, used: list[int]) -> None:
        self._buffer, self._length, self._used = buffer, length, used

    @classmethod
    def of(cls, rows: S) -> Rows[S]:
        """Rows that start as a copy of `rows`."""
        return cls(rows.map(torch.clone), len(rows), [len(rows)])

    @property
    def value(self) -> S:
        """All rows, as views of the shared buffer: not to be written into."""
        return self._buffer[: self._length]

    def __len__(self) -> int:
        return self._length

    def prefix(self, length: int) -> Rows[S]:
        """The first `length` rows, in O(1)."""
        return Rows(self._buffer, length, self._used)

    def append(self, rows: S) -> Rows[S]:
        """These rows followed by `rows`; the first rows of all fix the shapes."""
        if self._length == 0:
            return Rows.of(rows)
        end = self._length + len(rows)
        if self._used[0] != self._length or end > len(self._buffer):
            return self._copied(capacity=max(2 * self._length, end)).append(rows)
        new = rows.leaves()
        for name, buffer in self._buffer.leaves().items():
            buffer[self._length : end] = new[name]
        self._used[0] = end
        return Rows(self._buffer, end, self._used)

    def _copied(self, capacity: int) -> Rows[S]:
        def copy(rows: Tensor) -> Tensor:
            buffer = rows.new_empty((capacity, *rows.shape[1:]))
            buffer[: self._length] = rows
            return buffer

        return Rows(self.value.map(copy), self._length, [self._length])
