"""Files and folders: those that ship with the package (data/), and what a folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# A wheel carries data/ inside the package; a clone has it beside the package.
# Files that the file managers of macOS and Windows leave in every folder that somebody has opened.
UNASKED = (".DS_Store", "Thumbs.db", "desktop.ini", ".localized")
FOLDERS = (PACKAGE / "data", PACKAGE.parent / "data")


def data_file(name: str, folders: Sequence[Path] = FOLDERS) -> Path:
    """The path of a file of data/. Errors: ValueError if it is in none of the folders."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"{name} is not in {' or '.join(map(str, folders))}: install vmemkit from its wheel, or "
        "clone the repository and install it from there with `pip install -e .`"
    )


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted, without those that file managers leave there."""
    return sorted(path.name for path in folder.iterdir() if path.name not in UNASKED)
