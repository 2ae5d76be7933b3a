"""Append-only rows: storage that longer and shorter values share.

In: rows of a `TensorStruct`. Out: `Rows`, a value that `append` makes longer and `prefix` shorter.
Appending n rows costs O(n), a prefix costs nothing, and no value ever changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import Any, Generic

import torch
from safetensors.torch import load, save
from torch import Tensor

from vmemkit.core import S, unflatten
from vmemkit.memory.spill import Spill, SpillFiles

CLAIMED = -1  # stands in `Store.used` while somebody writes


@dataclasses.dataclass
class Store:
    """What all values on one buffer share. Only the longest of them may grow in place."""

    used: int  # rows that belong to some value
    spill: Spill | None = None
    files: SpillFiles | None = None  # where the buffer lies, if not in memory
    _lock: Lock = dataclasses.field(default_factory=Lock, kw_only=True, repr=False)

    def claim(self, length: int) -> bool:
        """Claim the right to append after row `length`; False if another value has it or has appended.

        Nobody else may append until `used` is set again: of two threads, the later one copies."""
        # After os.fork() both processes have the same files: only the one that made them writes there.
        if self.files is not None and not self.files.mine:
            return False
        with self._lock:
            is_longest = self.used == length
            if is_longest:
                self.used = CLAIMED
        return is_longest

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())


class Rows(Generic[S]):
    """Append-only rows of one struct, which share their storage with the value they grew from.

    A full buffer grows by half, so appending n rows costs O(n) and at most a third of the buffer is
    empty. All values on one buffer agree on the rows they share. Only the value that ends where the
    buffer's used part ends may grow in place; a truncated or forked one copies its rows first. This
    holds for several threads, too.
    With a `Spill`, a buffer of more rows than it allows moves to files. Those grow in place, and each
    append frees the memory that reading older rows took.
    """

    def __init__(self, buffer: S, length: int, store: Store) -> None:
        self._buffer, self._length, self._store = buffer, length, store

    @classmethod
    def of(cls, rows: S, spill: Spill | None = None) -> Rows[S]:
        """Rows that start as a copy of `rows`; without `spill` they stay in memory.

        Errors: ValueError for rows to be spilled that are not on the CPU, and for a full disk.
        """
        return cls(rows, 0, Store(0, spill)).replaced(rows)

    @cached_property
    def value(self) -> S:
        """All rows, as views of the shared buffer. Do not write into them."""
        return self._buffer[: self._length]

    @property
    def spill(self) -> Spill | None:
        """When and where these rows go to disk; None if they stay in memory."""
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

    def __reduce__(self) -> tuple[Callable[..., Rows[S]], tuple[Any, ...]]:
        """Copies and pickles hold these rows only, on storage of their own.

        They go as bytes, not as tensors: memory that is shared for the pickle alone would be gone
        before a spawned process could open it.
        """
        like = self.value[:0].map(torch.clone)
        columns = {name: leaf.clone() for name, leaf in self.value.leaves().items()}
        return Rows._restored, (like, save(columns), self.spill)

    @classmethod
    def _restored(cls, like: S, columns: bytes, spill: Spill | None) -> Rows[S]:
        """Rows with these columns, on the device of `like`, an empty struct of the same kind."""
        return cls.of(unflatten(like, load(columns)).to(like.device), spill)

    def prefix(self, length: int) -> Rows[S]:
        """The first `length` rows, in O(1)."""
        return Rows(self._buffer, length, self._store)

    def continues(self, earlier: Rows[S]) -> bool:
        """Whether these rows are known to begin with `earlier`, because both lie in one buffer."""
        return self._store is earlier._store and len(earlier) <= len(self)

    def append(self, rows: S) -> Rows[S]:
        """These rows followed by `rows`. The first append fixes the shapes. Errors: as `of`."""
        if self._length == 0:
            return Rows.of(rows, self._store.spill)
        end, store = self._length + len(rows), self._store
        capacity = max(self._length + self._length // 2, end)
        if not store.claim(self._length):
            return self.replaced(self.value, capacity)._written(rows)
        try:
            extended = self if end <= len(self._buffer) else self._extended(capacity)
            return extended._written(rows)
        finally:
            if store.used == CLAIMED:  # the rows were written elsewhere, or not at all
                store.used = self._length

    def replaced(self, rows: S, capacity: int = 0) -> Rows[S]:
        """A copy of `rows` on storage of its own, spilled where these would be.

        `rows` may be views of these rows. Memory that reading spilled rows takes is freed again.
        Errors: as `of`.
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
            return Rows(rows.map(copied), len(rows), Store(len(rows), spill))
        files, step = SpillFiles(spill, columns), spill.rows(columns.values())
        copy = Rows(unflatten(rows, files.tensors(capacity)), 0, Store(0, spill, files))
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
