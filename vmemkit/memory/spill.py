"""Spill: rows on disk that read like tensors, for tables that outgrow memory.

In: columns of rows on the CPU, and the bytes of memory that they may take. Out: tensors that map
temporary files without a name. The system deletes such a file with its last mapping, also after a
crash. Rows are written to the file and not through a mapping, for two reasons: a full disk is an
OSError at the write instead of a bus error later, and writing takes no memory of the process. The
system loads pages of a file when they are read; `drop` frees them again. A file can grow while
older, shorter tensors still map its first rows.
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

CAN_DROP = hasattr(mmap, "MADV_DONTNEED")  # on other systems, only the system itself frees pages


@dataclass(frozen=True)
class Spill:
    """How much memory rows may take before they go to disk, and the folder that they go to.

    Errors: ValueError unless `max_bytes` is positive, and for a folder that does not exist.
    """

    max_bytes: int  # of memory; rows use a quarter of it, because older values may keep copies
    folder: str | None = None  # None: the system's folder for temporary files

    def __post_init__(self) -> None:
        if self.max_bytes <= 0:
            raise ValueError(f"max_bytes must be a positive number of bytes, got {self.max_bytes}")
        if not os.path.isdir(self._folder):
            raise ValueError(f"rows cannot be spilled to {self._folder}: make that folder first")

    def rows(self, columns: Iterable[Tensor]) -> int:
        """The number of rows of such columns that may be in memory; at least one."""
        return max(1, self.max_bytes // 4 // max(1, row_bytes(columns)))

    @contextmanager
    def room(self, needed: int) -> Iterator[None]:
        """Within the `with`, files may grow by `needed` bytes.

        Errors: ValueError if the disk has less free space, or if the system refuses (an OSError).
        """
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
    """One file per column of a table that grows only at its end."""

    def __init__(self, spill: Spill, columns: dict[str, Tensor]) -> None:
        """Empty files for rows like those of `columns`. Errors: ValueError for columns that are not
        on the CPU, and if the disk has no room."""
        devices = {str(column.device) for column in columns.values()} - {"cpu"}
        if devices:
            raise ValueError(
                f"only rows on the CPU can be spilled, got some on {', '.join(sorted(devices))}: "
                "move the memory to the CPU, or do not spill"
            )
        self.row_bytes, self._process = row_bytes(columns.values()), os.getpid()
        self._spill, self._in_memory = spill, spill.rows(columns.values())
        with spill.room(0):
            self._files = {name: _File(spill, column) for name, column in columns.items()}

    @property
    def mine(self) -> bool:
        """Whether this process made the files. A forked process must not write to those of its
        parent, which would see what is written."""
        return self._process == os.getpid()

    def tensors(self, capacity: int) -> dict[str, Tensor]:
        """Tensors of `capacity` rows that map the files. Unwritten rows take no disk space."""
        with self._spill.room(0):
            return {name: file.tensor(capacity) for name, file in self._files.items()}

    def write(self, start: int, rows: dict[str, Tensor], count: int) -> None:
        """Write `count` rows from index `start` on. Only the last rows stay in memory, as many as
        `Spill.max_bytes` allows. Errors: ValueError if the disk has no room."""
        with self._spill.room(count * self.row_bytes):
            for name, file in self._files.items():
                file.write(start, rows[name], count)
        self.drop(max(0, start + count - self._in_memory))

    def drop(self, stop: int) -> None:
        """Free the memory that rows before index `stop` took when they were read."""
        for file in self._files.values():
            file.drop(stop)


class _File:
    """The file of one column."""

    def __init__(self, spill: Spill, like: Tensor) -> None:
        self._dtype, self._shape, self._row_bytes = like.dtype, like.shape[1:], row_bytes([like])
        self._file = tempfile.TemporaryFile(buffering=0, dir=spill.folder)  # noqa: SIM115
        # The file is closed with this object. Tensors may outlive it, as their mapping has a handle
        # of its own.
        weakref.finalize(self, self._file.close)
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def tensor(self, capacity: int) -> Tensor:
        used = capacity * self._row_bytes
        size = max(1, used)  # an empty file cannot be mapped
        if size > self._file.seek(0, os.SEEK_END):
            self._file.truncate(size)  # longer, but the new part takes no disk space yet
        for older in self._maps:
            _free_pages(older, len(older))
        mapping = mmap.mmap(self._file.fileno(), size)
        self._maps.add(mapping)
        flat = torch.frombuffer(mapping, dtype=torch.uint8)[:used]  # keeps `mapping` alive
        return flat.view(self._dtype).view(capacity, *self._shape)

    def write(self, start: int, rows: Tensor, count: int) -> None:
        rows = rows.detach().to("cpu", self._dtype).expand(count, *self._shape).contiguous()
        remaining = rows.flatten().view(torch.uint8).numpy().data
        self._file.seek(start * self._row_bytes)
        while remaining:  # the system may write less than it is given, and never more than 2 GB
            remaining = remaining[self._file.write(remaining) :]

    def drop(self, stop: int) -> None:
        for mapping in self._maps:
            _free_pages(mapping, stop * self._row_bytes)


def row_bytes(columns: Iterable[Tensor]) -> int:
    """Bytes of one row over all columns."""
    return sum(math.prod(column.shape[1:]) * column.element_size() for column in columns)


def _free_pages(mapping: mmap.mmap, stop: int) -> None:
    """Free the memory of a mapping's first `stop` bytes; reading them loads them again."""
    if CAN_DROP:
        mapping.madvise(mmap.MADV_DONTNEED, 0, min(stop, len(mapping)))
