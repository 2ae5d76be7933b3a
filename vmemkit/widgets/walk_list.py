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

from vmemkit.sessions import Session, is_session
from vmemkit.widgets.files import MB
from vmemkit.widgets.gallery import Gallery, data_uri
from vmemkit.widgets.parts import BUTTON, WRAPPED, button, words_of

LISTED = 30  # walks that are shown, the newest ones
THUMBNAIL = 120  # height of their pictures, pixels
OPENS = "<b>Earlier walks: click on one to go on</b>"
DELETES = "<b>Click on a walk to delete it</b>"
BLANK = torch.full((3, 3, 4), 0.6)  # a picture where there is none
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
    """Earlier walks as pictures; a click on one opens it, or asks whether to delete it while `deleting`
    is pressed. `value` has the walks that are listed."""

    def __init__(
        self,
        opens: Callable[[Path], object],
        deletes: Callable[[Path], object],
        closes: Callable[[], object],
    ) -> None:
        """`opens` and `deletes` are called with a walk's folder, `closes` by the button that leaves the
        list."""
        self.value: list[Walk] = []
        self._opens, self._deletes, self._asked = opens, deletes, Path()
        self.about, self.words = ipywidgets.HTML(), ipywidgets.HTML()
        self.gallery = Gallery(height=THUMBNAIL, wraps=True, cards=True)
        self.gallery.observe(self._picked, "picked")
        self.back = button("back to the walk", closes, icon="arrow-left")
        self.deleting = ipywidgets.ToggleButton(
            False, description="delete walks", icon="trash", layout=BUTTON
        )
        self.deleting.observe(lambda change: self._ask(None), "value")
        self.question = ipywidgets.HTML()
        self.yes = button("delete for good", self._delete, button_style="danger")
        self.no = button("keep it", lambda: self._ask(None))
        above = ipywidgets.HBox([self.back, self.deleting, self.words], layout=WRAPPED)
        self.asking = ipywidgets.HBox([self.question, self.yes, self.no], layout=WRAPPED)
        super().__init__([above, self.asking, self.gallery, self.about])
        self._ask(None)

    def show(self, folder: Path | None) -> None:
        """List the sessions of a folder; a click opens one."""
        self.deleting.value = False
        self.refresh(folder)

    def refresh(self, folder: Path | None) -> None:
        """List the sessions of a folder anew."""
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
            if self.deleting.value:
                self._ask(walk)
            else:
                self._opens(walk.folder)

    def _ask(self, walk: Walk | None) -> None:
        """Ask whether to delete a walk, None to ask nothing."""
        self.words.value = DELETES if self.deleting.value else OPENS
        self.asking.layout.display = "none" if walk is None else ""
        if walk is not None:
            self._asked = walk.folder
            name, what, *_ = map(html.escape, walk.words.split("\n"))
            self.question.value = f"Delete <b>{name}</b> ({what})? It cannot be brought back."

    def _delete(self) -> None:
        self._ask(None)
        self._deletes(self._asked)


def walks_in(folder: Path) -> list[Walk]:
    """The sessions that lie in a folder, the newest first, and then those that cannot be read."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    walks = [_walk(path) for path in sorted(folders) if is_session(path)]
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
