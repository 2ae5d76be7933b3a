"""Removal: deleting a whole session from the disk, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vmemkit.core import names_in
from vmemkit.sessions.journal import lock
from vmemkit.sessions.session import DRAFT, JOURNAL, LOCK, TENSORS, is_session


def delete_session(folder: str | os.PathLike) -> None:
    """Delete a session with all its steps, for good. A damaged one is deleted, too.

    Errors: ValueError for a folder without a session or with files of somebody else, a link to a
    folder, and a session that this or another process writes; OSError for files that cannot be
    deleted. If some of them are gone then, it can be called again.
    """
    folder = Path(folder)
    if folder.is_symlink() or not is_session(folder):
        raise ValueError(f"there is no session in {folder}")
    names = names_in(folder)
    drafts = [name for name in names if name.startswith(DRAFT)]
    own = {name for name in (JOURNAL, LOCK, TENSORS, *drafts) if not (folder / name).is_symlink()}
    others = set(names) - own
    if others:
        raise ValueError(
            f"{folder} holds other files, too, such as {min(others)}: delete them first, or the folder "
            "by hand"
        )
    with lock(folder / LOCK):
        for name in (TENSORS, *drafts):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        (folder / JOURNAL).unlink()  # last, so that what is left of a session can be found
    (folder / LOCK).unlink()
    folder.rmdir()
