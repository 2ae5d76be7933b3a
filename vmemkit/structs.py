"""Frozen bundles of tensors: the values that flow between the stages.

A `TensorStruct` is a frozen dataclass whose fields are tensors, nested structs or `None`, all with
the same leading ("row") dimension. It can be indexed, concatenated and moved as a whole.
`Rows` is its growing counterpart: append-only storage in which a longer value shares the memory of
the shorter one it grew from, so that appending costs what is appended and a prefix costs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from threading import Lock
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from vmemkit.spill import Spill, SpillFiles

S = TypeVar("S", bound="TensorStruct")
CLAIMED = -1  # rows used, of storage that is being written to


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
        if isinstance(index, Tensor) and index.dtype == torch.bool and index.ndim == 1:
            # Look the rows up once, not once a field; and by index, which is faster than by mask.
            rows = index.nonzero()[:, 0]
            return self.map(lambda tensor: tensor.index_select(0, rows))
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(self._some())

    @property
    def device(self) -> torch.device:
        return self._some().device

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
        return [(name, getattr(self, name)) for name in _names(type(self))]

    def _some(self) -> Tensor:
        """Its first tensor."""
        value = next(value for _, value in self._items() if value is not None)
        return value if isinstance(value, Tensor) else value._some()

    def __repr__(self) -> str:
        """Shapes, not values: short in a notebook and the same on every machine."""
        shapes = ", ".join(f"{key}={list(leaf.shape)}" for key, leaf in self.leaves().items())
        return f"{type(self).__name__}({shapes})"


@cache
def _names(struct: type[TensorStruct]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(struct))


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return value.map(function) if isinstance(value, TensorStruct) else value


def plain(struct: S) -> S:
    """Floating point as float32, without gradients, whatever a network left there."""
    return struct.map(lambda x: x.detach().float() if x.is_floating_point() else x)


def check_rows(struct: TensorStruct) -> None:
    """Errors: ValueError unless all its tensors have the same number of rows."""
    rows = {name: len(leaf) for name, leaf in struct.leaves().items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"{type(struct).__name__} needs columns of one length, got {rows}")


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


@dataclasses.dataclass
class Shared:
    """Storage that several values share, of which only the longest may grow in place."""

    used: int  # rows that belong to some value
    _lock: Lock = dataclasses.field(default_factory=Lock, kw_only=True, repr=False)

    def claim(self, length: int) -> bool:
        """May a value of that length write behind itself? Then no other may, until `used` is set;
        whoever is refused, as the writer of two threads that is late, works on a copy."""
        with self._lock:
            mine = self.used == length
            if mine:
                self.used = CLAIMED
        return mine

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())


@dataclasses.dataclass
class _Store(Shared):
    """What all values on one buffer share."""

    spill: Spill | None = None
    files: SpillFiles | None = None  # where the buffer lies, if not in memory

    def claim(self, length: int) -> bool:
        # After a fork both processes have the same files: only the one that made them writes there.
        return (self.files is None or self.files.mine) and super().claim(length)


class Rows(Generic[S]):
    """Append-only rows of one struct: a value that shares its storage with what it grew from.

    A full buffer grows by half, so appending n rows costs O(n) and at most a third of what is
    allocated is empty. All values on one buffer agree on the rows they share; only the value that
    ends where the buffer's used part ends may grow in place, any other (a truncated or forked one)
    copies its rows first. No value ever changes, whichever thread writes.
    With a `Spill`, a buffer that outgrows its share of the budget moves to files. Those grow in
    place, and each append gives back the memory that older rows took when they were read.
    """

    def __init__(self, buffer: S, length: int, store: _Store) -> None:
        self._buffer, self._length, self._store = buffer, length, store

    @classmethod
    def of(cls, rows: S, spill: Spill | None = None) -> Rows[S]:
        """Rows that start as a copy of `rows`; without `spill` they stay in memory.

        Errors: ValueError for rows to be spilled that are not on the CPU, and for a full disk.
        """
        return cls(rows, 0, _Store(0, spill)).replaced(rows)

    @cached_property
    def value(self) -> S:
        """All rows, as views of the shared buffer: not to be written into."""
        return self._buffer[: self._length]

    @property
    def spill(self) -> Spill | None:
        """The budget that these rows have, if any."""
        return self._store.spill

    @property
    def nbytes(self) -> int:
        """Bytes of memory allocated for the buffer."""
        return 0 if self._store.files else sum(x.nbytes for x in self._buffer.leaves().values())

    @property
    def spilled(self) -> int:
        """Bytes of the buffer's rows on disk."""
        return self._store.files.row_bytes * self._store.used if self._store.files else 0

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple[Callable[..., Rows[S]], tuple[S, Spill | None]]:
        """Copies and pickles hold these rows, not all of the buffer, on storage of their own."""
        return Rows.of, (self.value.map(torch.clone), self.spill)

    def prefix(self, length: int) -> Rows[S]:
        """The first `length` rows, in O(1)."""
        return Rows(self._buffer, length, self._store)

    def append(self, rows: S) -> Rows[S]:
        """These rows followed by `rows`; the first rows of all fix the shapes. Errors: as `of`."""
        if self._length == 0:
            return Rows.of(rows, self._store.spill)
        end, store = self._length + len(rows), self._store
        capacity = max(self._length + self._length // 2, end)
        if not store.claim(self._length):
            return self.replaced(self.value, capacity)._written(rows)
        try:
            room = self if end <= len(self._buffer) else self._extended(capacity)
            return room._written(rows)
        finally:
            if store.used == CLAIMED:  # the rows went elsewhere, or nowhere
                store.used = self._length

    def replaced(self, rows: S, capacity: int = 0) -> Rows[S]:
        """A copy of `rows` on storage of its own, spilled where these would be.

        `rows` may show parts of these rows: what they take of memory while they are read is given
        back. Errors: as `of`.
        """
        spill, capacity = self._store.spill, max(capacity, len(rows))
        columns = rows.leaves()

        def copied(column: Tensor) -> Tensor:
            if capacity == len(column):
                return column.clone()
            buffer = column.new_empty((capacity, *column.shape[1:]))
            buffer[: len(column)] = column
            return buffer

        if spill is None or capacity <= spill.rows(columns.values()):
            return Rows(rows.map(copied), len(rows), _Store(len(rows), spill))
        files, step = SpillFiles(spill, columns), spill.rows(columns.values())
        copy = Rows(unflatten(rows, files.tensors(capacity)), 0, _Store(0, spill, files))
        for start in range(0, len(rows), step):
            copy = copy._written(rows[start : start + step])
            if self._store.files:
                self._store.files.drop(start + step)
        return copy

    def _extended(self, capacity: int) -> Rows[S]:
        """The same rows with room for more behind them: files grow, memory is copied."""
        files = self._store.files
        if files is None:
            return self.replaced(self.value, capacity)
        return Rows(unflatten(self._buffer, files.tensors(capacity)), self._length, self._store)

    def _written(self, rows: S) -> Rows[S]:
        """These rows followed by `rows`, for which there is room."""
        end, new, store = self._length + len(rows), rows.leaves(), self._store
        if store.files is None:
            for name, buffer in self._buffer.leaves().items():
                buffer[self._length : end] = new[name]
        else:
            store.files.write(self._length, new, len(rows))
        store.used = end
        return Rows(self._buffer, end, store)
