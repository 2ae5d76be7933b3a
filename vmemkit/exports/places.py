"""Places to write to: a file or a folder that appears complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmemkit.core import new_folder, replacing


@contextmanager
def writing_file(path: str | os.PathLike, suffix: str) -> Iterator[Path]:
    """Give the path of a draft, which becomes the file at the end, as `core.replacing` does.

    Errors: ValueError for another suffix and a missing folder; OSError, in a sentence, for a full disk.
    """
    check_suffix(path, suffix)
    with in_words(path), replacing(path) as draft:
        yield draft


@contextmanager
def writing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give the path of a draft, which becomes the folder at the end, as `core.new_folder` does.

    Errors: ValueError unless `path` is new or empty; OSError, in a sentence, for a full disk.
    """
    with in_words(path), new_folder(path) as draft:
        yield draft


@contextmanager
def in_words(path: str | os.PathLike) -> Iterator[None]:
    """Make an OSError inside say what was not written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} was not written, because of the disk ({error.strerror or error}): make room or "
            "give another place; what was there is as it was"
        ) from error


def check_suffix(path: str | os.PathLike, suffix: str) -> None:
    """Errors: ValueError for a file name that ends otherwise."""
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"this format is a {suffix} file, got {path}: give a name that ends so")
