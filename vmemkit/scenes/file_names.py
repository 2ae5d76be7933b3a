"""Names of files that other programs and systems wrote, found in a folder.

In: a folder, and names from a file that may come from anywhere. Out: existing files inside it.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import unicodedata
from pathlib import Path, PureWindowsPath
from typing import Any

# Those of images and depth; a name may leave its suffix out.
SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".npy", ".npz"]
)
LIKENESS = 0.6  # of two names from which one counts as a near miss of the other


class FolderFiles:
    """The files in a folder and below it, found by name.

    Backslashes count as slashes. A name may lack its suffix, or have it in upper or lower case, and
    its accents may be composed or not. Nothing outside the folder is found.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()
        self._listings: dict[Path, list[str]] = {}

    def find(self, name: Any, where: str) -> Path:
        """The regular file `name`; `where` begins the messages.

        Errors: ValueError for a name that is none, is absolute, leads out of the folder, or fits no
        file or several. It tells the nearest name that there is.
        """
        try:
            file = self._walk(_parts(name), name)
            target = file.resolve()
            if not target.is_relative_to(self.root):
                raise ValueError(
                    f"{name!r} is a link that leads out of {self.root}, to {target}: put the files "
                    "themselves there, or transforms.json beside them"
                )
            if not target.is_file():
                raise ValueError(f"{name!r} is a folder or a device: an existing file is needed")
        except ValueError as error:
            raise ValueError(
                f"{where} must be an existing file inside {self.root}: {error}"
            ) from error
        except (OSError, RuntimeError) as error:  # no permission, or a circle of links
            raise ValueError(f"{where} cannot be a file name: {error}") from error
        return target

    def _walk(self, parts: list[str], name: str) -> Path:
        """The place that the name means, part by part where it is not there as it is written."""
        place = self.root.joinpath(*parts)
        if os.path.lexists(place):
            return place
        place = self.root
        for part in parts:
            entries = self._entries(place)
            found = _matching(part, entries)
            if len(found) != 1:
                raise ValueError(_miss(name, part, place, entries, found))
            place = place / found[0]
        return place

    def _entries(self, folder: Path) -> list[str]:
        if folder not in self._listings:
            self._listings[folder] = sorted(os.listdir(folder)) if folder.is_dir() else []
        return self._listings[folder]


def _parts(name: Any) -> list[str]:
    """The parts of a relative name. Errors: ValueError."""
    if not isinstance(name, str):
        raise ValueError(f"a file name is text, got {type(name).__name__}")
    windows = PureWindowsPath(name)
    if windows.drive or windows.root:
        raise ValueError(f"the name must be relative to the folder, got {name[:60]!r}")
    parts = posixpath.normpath(name.replace("\\", "/")).split("/")
    if parts[0] == "..":
        raise ValueError(f"the name leads out of the folder, got {name[:60]!r}")
    return parts


def _matching(part: str, entries: list[str]) -> list[str]:
    """The entries that a part of a name can mean; the first kind of likeness that there is decides."""
    wanted = unicodedata.normalize("NFC", part)
    same, same_but_case, longer = [], [], []
    for entry in entries:
        plain = unicodedata.normalize("NFC", entry)
        if plain == wanted:
            same.append(entry)
        elif _lower_suffix(plain) == _lower_suffix(wanted):
            same_but_case.append(entry)
        elif plain.startswith(wanted) and plain[len(wanted) :].lower() in SUFFIXES:
            longer.append(entry)
    return same or same_but_case or longer


def _lower_suffix(name: str) -> str:
    stem, suffix = posixpath.splitext(name)
    return stem + suffix.lower()


def _miss(name: str, part: str, folder: Path, entries: list[str], found: list[str]) -> str:
    if found:
        return (
            f"{name[:60]!r} can be {' or '.join(found[:5])} in {folder}: name one with its suffix"
        )
    likely = {entry.casefold(): entry for entry in entries}
    near = difflib.get_close_matches(part[:255].casefold(), likely, 1, LIKENESS)
    hint = f"; the nearest there is {likely[near[0]]!r}" if near else ""
    return f"got {name[:60]!r}, but {folder} has no {part[:60]!r}{hint}"
