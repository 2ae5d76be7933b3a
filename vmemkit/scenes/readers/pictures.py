"""Pictures in a folder: their names in order, and pictures that belong to cameras of another file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmemkit.core import names_in
from vmemkit.scenes.readers.checks import MAX_CAMERAS, natural_key

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm")
DEPTHS = (".png", ".npy", ".npz")


def beside(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these folders that is there; None if none is."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def pictures_in(folder: Path | None, depth: bool = False) -> tuple[Path, ...]:
    """The images, or the depth files, of a folder: 2 before 10. Links that lead out are left out.

    Errors: ValueError for more than MAX_CAMERAS.
    """
    if folder is None or not folder.is_dir():
        return ()
    suffixes, root = DEPTHS if depth else IMAGES, folder.resolve()
    names = [name for name in names_in(folder) if Path(name).suffix.lower() in suffixes]
    if len(names) > MAX_CAMERAS:
        raise ValueError(f"{folder} holds {len(names)} pictures, at most {MAX_CAMERAS} are read")
    files = [folder / name for name in sorted(names, key=natural_key)]
    return tuple(file for file in files if file.is_file() and file.resolve().is_relative_to(root))
