"""Spill: rows on disk that read like tensors, for tables that outgrow memory.

In: columns of rows on the CPU, and how many bytes of memory they may take. Out: tensors over files
without a name, which are gone with the last tensor over them, also after a crash.
Rows are written to the file, not through the tensor: a full disk is then an error where the row is
written, not a bus error where it is read, and writing takes no memory of the process. Rows that are
read are fetched by the operating system page by page; `drop` gives those pages back. A tensor over
a file keeps its mapping, so the file may grow while older, shorter tensors show its first rows.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

DROPS = hasattr(mmap, "MADV_DONTNEED")  # elsewhere the system trims what a process holds by itself


@dataclass(frozen=True)
class Spill:
    """From when on rows go to disk, and where to. Errors: ValueError for a bad budget or folder."""

    budget: int  # bytes of memory: a quarter for the rows, as older values may keep twice as much
    folder: str | None = None  # the system's folder for temporary files

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise ValueError(f"the budget must be a positive number of bytes, got {self.budget}")
        if not os.path.isdir(self._folder):
            raise ValueError(f"rows cannot be spilled to {self._folder}: make that folder first")

    def rows(self, columns: Iterable[Tensor]) -> int:
        """How many rows of such columns may be in memory, at least one."""
        return max(1, self.budget // 4 // max(1, row_bytes(columns)))

    @contextmanager
    def room(self, needed: int) -> Iterator[None]:
        """While files grow by `needed` bytes. Errors: ValueError where the disk refuses."""
        free = 0
        try:
            free = shutil.disk_usage(self._folder).free
            if needed > free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield
        except OSError as error:
            raise ValueError(
                f"spilling rows needs {needed} bytes in {self._folder}, got {free} free "
                f"({error.strerror}): make room there, or spill to another folder"
            ) from error

    @property
    def _folder(self) -> str:
        return tempfile.gettempdir() if self.folder is None else self.folder


class SpillFiles:
    """One file for each column of rows that only grow at their end."""

    def __init__(self, spill: Spill, columns: dict[str, Tensor]) -> None:
        """Files for rows like those of `columns`. Errors: ValueError off the CPU, or by the disk."""
        devices = {str(column.device) for column in columns.values()} - {"cpu"}
        if devices:
            raise ValueError(
                f"only rows on the CPU can be spilled, got some on {', '.join(sorted(devices))}: "
                "keep them on the CPU, or do without spilling"
            )
        self.row_bytes, self._process = row_bytes(columns.values()), os.getpid()
        self._spill, self._in_memory = spill, spill.rows(columns.values())
        with spill.room(0):
            self._files = {name: _File(spill, column) for name, column in columns.items()}

    @property
    def mine(self) -> bool:
        """Has this process made them? One that was forked off shares what is written to them."""
        return self._process == os.getpid()

    def tensors(self, capacity: int) -> dict[str, Tensor]:
        """Tensors of `capacity` rows over the files: those not written yet take no space on disk."""
        with self._spill.room(0):
            return {name: file.tensor(capacity) for name, file in self._files.items()}

    def write(self, start: int, rows: dict[str, Tensor], count: int) -> None:
        """`count` rows, from row `start` on, of which and of those before only as many as the budget
        has room for stay in memory. Errors: ValueError where the disk has no room."""
        with self._spill.room(count * self.row_bytes):
            for name, file in self._files.items():
                file.write(start, rows[name], count)
        self.drop(max(0, start + count - self._in_memory))

    def drop(self, stop: int) -> None:
        """Give back the memory that the rows before `stop` took when they were read."""
        for file in self._files.values():
            file.drop(stop)


class _File:
    """The rows of one column."""

    def __init__(self, spill: Spill, like: Tensor) -> None:
        self._dtype, self._shape, self._row_bytes = like.dtype, like.shape[1:], row_bytes([like])
        self._file = tempfile.TemporaryFile(buffering=0, dir=spill.folder)  # noqa: SIM115
        # Closed with this object. Tensors outlive it: their mapping has a handle of its own.
        weakref.finalize(self, self._file.close)
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def tensor(self, capacity: int) -> Tensor:
        used = capacity * self._row_bytes
        size = max(1, used)  # nothing cannot be mapped
        if size > self._file.seek(0, os.SEEK_END):
            self._file.truncate(size)  # longer, by a hole
        for older in self._maps:
            _give_back(older, len(older))
        pages = mmap.mmap(self._file.fileno(), size)
        self._maps.add(pages)
        flat = torch.frombuffer(pages, dtype=torch.uint8)[:used]  # which keeps `pages` alive
        return flat.view(self._dtype).view(capacity, *self._shape)

    def write(self, start: int, rows: Tensor, count: int) -> None:
        rows = rows.detach().to("cpu", self._dtype).expand(count, *self._shape).contiguous()
        left = memoryview(rows.flatten().view(torch.uint8).numpy())
        self._file.seek(start * self._row_bytes)
        while left:  # a write may stop early, at 2 GB at the latest
            left = left[self._file.write(left) :]

    def drop(self, stop: int) -> None:
        for pages in self._maps:
            _give_back(pages, stop * self._row_bytes)


def row_bytes(columns: Iterable[Tensor]) -> int:
    """Bytes of one row over all columns."""
    return sum(math.prod(column.shape[1:]) * column.element_size() for column in columns)


def _give_back(pages: mmap.mmap, stop: int) -> None:
    if DROPS:
        pages.madvise(mmap.MADV_DONTNEED, 0, min(stop, len(pages)))
