"""Disks that get full, and files that other programs damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system lets no file grow beyond so many bytes, as on a disk that gets full."""
    resource = pytest.importorskip("resource", reason="needs Unix")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def damage_file(path: Path, how: str) -> None:
    """Shorten a file, replace it by another one of the same content, or delete it."""
    if how == "shorten":
        os.truncate(path, 100)
        return
    content = path.read_bytes()
    path.unlink()
    if how == "replace":
        path.write_bytes(content)
