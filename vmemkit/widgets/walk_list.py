"""The walks of a folder as a list of pictures, to be opened again.

In: a folder of sessions. Out: what each is called, its last picture, steps, size and date. Only the
journals and one picture each are read.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.sessions import Session
from vmemkit.widgets.files import MB
from vmemkit.widgets.gallery import Gallery, data_uri
from vmemkit.widgets.parts import button, heading, words_of

LISTED = 30  # walks that are shown, the newest ones
THUMBNAIL = 120  # height of their pictures, pixels
BLANK = torch.full((3, 3, 4), 0.6)  # the picture of a walk that cannot be read
FRAME = "#969696"  # walks are no views, so they have no colour of their own


@dataclass(frozen=True)
class Walk:
    """A session in a list. Of one that cannot be read there is only the `problem`."""

    folder: Path
    name: str
    steps: int = 0
    size: int = 0  # bytes
    time: datetime = datetime.min  # when its last step was taken
    picture: Float[Tensor, "3 h w"] = BLANK
    problem: str = ""

    @property
    def words(self) -> str:
        """Its name, steps, size and date, in three lines."""
        if self.problem:
            return f"{self.name}\ncannot be opened"
        steps = f"{self.steps} step{'s' * (self.steps != 1)}"
        return f"{self.name}\n{steps}, {self.size / MB:.1f} MB\n{self.time:%d %b %Y, %H:%M}"


class WalkList(ipywidgets.VBox):
    """Earlier walks as pictures; a click on one opens it. `value` has the walks that are listed."""

    def __init__(self, opens: Callable[[Path], object], closes: Callable[[], object]) -> None:
        """`opens` is called with a walk's folder, `closes` by the button that leaves the list."""
        self.value: list[Walk] = []
        self._opens, self.about = opens, ipywidgets.HTML()
        self.gallery = Gallery(height=THUMBNAIL, wraps=True, cards=True)
        self.gallery.observe(self._picked, "picked")
        self.back = button("back to the walk", closes, icon="arrow-left")
        above = ipywidgets.HBox([self.back, heading("Earlier walks: click on one to go on")])
        super().__init__([above, self.gallery, self.about])

    def show(self, folder: Path | None) -> None:
        """List the sessions of a folder."""
        found = [] if folder is None else walks_in(folder)
        self.value = found[:LISTED]
        if not found:
            self.about.value = "There are none yet: a walk is kept from its first step on."
        elif len(found) > LISTED:
            words = f"These are the newest {LISTED} of {len(found)} in {folder}."
            self.about.value = html.escape(words)
        else:
            self.about.value = ""
        with self.gallery.hold_sync():
            self.gallery.items = [
                {
                    "id": i,
                    "src": data_uri(walk.picture),
                    "color": FRAME,
                    "label": walk.words,
                    "title": walk.problem or str(walk.folder),
                }
                for i, walk in enumerate(self.value)
            ]
            self.gallery.picked = -1

    def _picked(self, change: dict) -> None:
        if change["new"] >= 0:
            walk, self.gallery.picked = self.value[change["new"]], -1
            self._opens(walk.folder)


def walks_in(folder: Path) -> list[Walk]:
    """The sessions that lie in a folder, the newest first, and then those that cannot be read."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    walks = [_walk(path) for path in sorted(folders) if (path / "journal").exists()]
    return sorted(walks, key=lambda walk: walk.time, reverse=True)


def _walk(folder: Path) -> Walk:
    try:
        session = Session(folder, readonly=True)
        entries, root = session.tree, session.way()[0]
        steps = sum(entry.parent is not None for entry in entries)
        time = datetime.fromtimestamp(max(entry.time for entry in entries))
        picture = _thumbnail(session.picture())
        return Walk(folder, root.label or folder.name, steps, session.size, time, picture)
    except (ValueError, OSError, OverflowError) as error:  # overflow: a date that no calendar has
        return Walk(folder, folder.name, problem=words_of(error))


def _thumbnail(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h2 w2"]:
    """An image that is THUMBNAIL pixels high at most, twice that for sharp screens."""
    height, width = image.shape[1:]
    scale = min(1.0, 2 * THUMBNAIL / height)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return torch.nn.functional.interpolate(image[None], size=size, mode="area")[0]
