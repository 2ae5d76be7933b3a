"""The walk of the Explorer on the disk: `Keeper` writes a journey to a session, `read_session` reads it.

In: journeys, as they change. Out: a session that is like the journey. Missing steps are added to it, its
head is moved, labels are changed, and dropped steps deleted. What a full disk has refused is added the
next time. journeys.py has the walk in memory, walk_list.py shows what a folder of sessions holds.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import warnings
import weakref
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vmemkit.pipeline import WalkConfig
from vmemkit.sessions import Entry, Session, delete_session
from vmemkit.widgets.files import DISK, MB
from vmemkit.widgets.journeys import START, Journey, Node, resume_journey

SESSIONS = "sessions"  # folder beside the notebook
LONGEST = 40  # letters of a label in a folder's name


@dataclass(frozen=True)
class Opened:
    """A session and the journey that it keeps; `ids` are the session's numbers of its nodes."""

    session: Session
    journey: Journey
    ids: dict[int, int]
    owned: bool  # whether whoever keeps the journey closes the session
    note: str = ""  # why steps from here cannot be kept in it, or what was mended


class Keeper:
    """Keeps one journey at a time. It begins a session at the first step, so that looking around
    leaves nothing on the disk."""

    def __init__(self, place: Path | None, visitors: bool = False, most: int = DISK) -> None:
        """New sessions are folders in `place`; None keeps nothing. For `visitors` of a page it is a
        temporary folder, which ends with the kernel. It begins no step beyond `most` bytes.
        """
        self.place, self._visitors, self._most = place, visitors, most
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._next: Path | None = None  # the folder of the next session, if somebody has named it
        self.session: Session | None = None
        self._owned = True  # whether the session was opened here, and is closed here
        self._ids: dict[int, int] = {}
        self._kept: Journey | None = None  # what the disk is like
        self._elsewhere = 0  # how many nodes, the first ones, are in a session that is not ours
        self._busy = threading.Lock()
        _keepers.add(self)

    def begin_in(self, session: Session | Path) -> None:
        """Keep the next journey in this empty session, or in this new folder."""
        if isinstance(session, Session):
            self.session, self._owned = session, False
        else:
            self._next = session

    def take(self, opened: Opened) -> None:
        """Keep the journey of a session from now on."""
        self.let_go()
        if opened.session.readonly:
            self._elsewhere = len(opened.journey.nodes)
        else:
            self.session, self._owned = opened.session, opened.owned
            self._ids, self._kept = dict(opened.ids), opened.journey

    def let_go(self) -> None:
        """Close the session. What is kept next begins another one."""
        with self._busy:
            self._forget()

    def hand_over(self, folder: Path) -> None:
        """Close the session, if it was opened here and lies in this folder, for another keeper. The next
        step here begins a copy.
        """
        with self._busy:
            if self._owned and self.holds(folder):
                nodes = () if self._kept is None else self._kept.nodes
                self._forget()
                self._elsewhere = len(nodes)

    def delete(self, folder: Path) -> None:
        """Delete a session that lies where new ones are kept.

        Errors: ValueError for another folder, the session of the journey, and as `delete_session`.
        """
        place = self.folder()
        if place is None or _resolved(folder.parent) != _resolved(place):
            raise ValueError(f"{folder} is not one of the walks that are kept in {place}")
        if self.holds(folder):
            raise ValueError(f"{folder.name} is the walk that you see: open another one first")
        delete_session(folder)

    def close(self) -> None:
        """Close the session, and take a temporary folder from the disk."""
        self.let_go()
        if self._temporary is not None:
            self._temporary.cleanup()

    def keep(self, journey: Journey) -> None:
        """Make the session like the journey. It begins with the first step.

        Errors: OSError for a full disk, ValueError for a session that cannot be written to; what is
        missing is added the next time. FileNotFoundError for a folder that is gone; the next time
        begins a new one.
        """
        with self._busy:
            is_new = journey is not self._kept and (self._ids or self._new_steps(journey))
            if not is_new or not self.keeps:
                return
            self._check_folder()
            self._check_most()
            if not self._ids:
                self._begin(journey)
            self._update(journey)
            self._kept = journey

    @property
    def keeps(self) -> bool:
        """Whether walks are kept at all."""
        return self._visitors or self.place is not None

    def holds(self, folder: Path) -> bool:
        """Whether the journey is kept in this folder."""
        return self.session is not None and _resolved(self.session.folder) == _resolved(folder)

    def words(self, journey: Journey) -> str:
        """Where the journey is kept, and how many bytes; empty if it is not."""
        if not self.keeps:
            return ""
        missing = sum(i not in self._ids for i in self._new_steps(journey))
        alone = f"{missing} step{'s' * (missing != 1)} in memory alone; " if missing else ""
        if not self._ids or self.session is None:
            where = "until the page is closed" if self.place is None else f"in {self.place.name}"
            return f"{alone}your steps will be kept {where}"
        folder = self.session.folder
        where = f"in {folder.parent.name}/{folder.name}"
        if self._visitors:
            where = "until the page is closed"
        try:
            size = f"{self.session.size / MB:.1f} MB "
        except OSError:  # somebody deletes it just now; the next step tells
            size = ""
        return f"{alone}{size}kept {where}"

    def folder(self) -> Path | None:
        """The folder that sessions lie in; None before the first of a visitor, and without any."""
        return Path(self._temporary.name) if self._temporary is not None else self.place

    # ---- inside ----------------------------------------------------------------------------------

    def _forget(self) -> None:
        if self.session is not None and self._owned:
            self.session.close()
        self.session, self._owned, self._ids, self._kept = None, True, {}, None
        self._elsewhere = 0

    def _new_steps(self, journey: Journey) -> list[int]:
        """The steps that no other session has."""
        return [i for i in journey.kept() if i >= self._elsewhere]

    def _begin(self, journey: Journey) -> None:
        """The session's first node, in a new folder. If that fails, no folder is left."""
        if self.session is not None:
            self._ids = {START: self.session.begin(journey.start, journey.label)}
            return
        folder = self._next or _new_folder(self._existing_place(), journey.label)
        session = None
        try:
            session = Session(folder)
            self._ids = {START: session.begin(journey.start, journey.label)}
        except BaseException:
            if session is not None:
                session.close()
            if folder != self._next:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self.session, self._next = session, None

    def _update(self, journey: Journey) -> None:
        session, ids = self.session, self._ids
        assert session is not None
        for i in journey.kept():
            if i not in ids:
                node = journey.nodes[i]
                ids[i] = session.add(node.step, ids[node.parent], node.config, node.label)
        for i in sorted(journey.dropped & ids.keys()):
            if ids[i] in {entry.id for entry in session.tree}:  # not deleted with its parent
                session.delete(ids[i])
            del ids[i]
        for i, id in ids.items():
            label = journey.label if i == START else journey.nodes[i].label
            if label_of(session.entry(id)) != label:
                session.rename(id, label)
        if session.head != ids[journey.at]:
            session.go(ids[journey.at])

    def _existing_place(self) -> Path:
        if self._visitors and self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="vmemkit-walks-")
        place = self.folder()
        assert place is not None
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _check_folder(self) -> None:
        """Errors: FileNotFoundError for a session whose folder is gone; it is forgotten."""
        if self._ids and self.session is not None and not self.session.folder.is_dir():
            name = self.session.folder.name
            self._forget()
            raise FileNotFoundError(f"the folder {name} is gone")

    def _check_most(self) -> None:
        """Errors: ValueError for a visitor whose walks have used up the disk."""
        place = self.folder()
        if self._visitors and place is not None:
            used = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            if used >= self._most:
                raise ValueError(
                    f"this page keeps {self._most / MB:g} MB of walks, and they are used"
                )


# All keepers of this process. A session can be written by one of them, so it is handed over.
_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def keeper_of(
    session: Session | str | os.PathLike | bool | None, shared: bool
) -> tuple[Keeper, Opened | None]:
    """Who keeps the walk of an Explorer that is made with this `session` and this `shared`, and the walk
    that the session holds already, if any.

    Errors: ValueError for what is no session, and as `read_session`.
    """
    if session is None or session is False:
        return Keeper(None), None
    if session is True:
        return Keeper(None if shared else Path(SESSIONS).absolute(), visitors=shared), None
    if not isinstance(session, (Session, str, os.PathLike)):
        raise ValueError(f"session needs a Session, a folder, True or None, got {session!r:.60}")
    given = session if isinstance(session, Session) else Path(session).absolute()
    folder = given.folder if isinstance(given, Session) else given
    keeper = Keeper(folder.absolute().parent)
    new = not given.tree if isinstance(given, Session) else _is_new(folder)
    if new:
        keeper.begin_in(given)
    return keeper, None if new else read_session(given)


def read_session(session: Session | Path) -> Opened:
    """Open a session and read its journey, to the bit; nothing is generated.

    Another keeper of this process that has opened it hands it over. A session that another process
    holds, or that cannot be written, is opened read-only; `note` says so.
    Errors: ValueError for a folder without a session, and a damaged one.
    """
    if isinstance(session, Session):
        journey, ids = _read_journey(session)
        return Opened(session, journey, ids, owned=False)
    Session(session, readonly=True).entry()  # so that none is made where there is none
    for keeper in list(_keepers):
        keeper.hand_over(session)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the note says it
            opened = Session(session)
        note = "; ".join(opened.notes)
    except (ValueError, OSError) as error:
        opened = Session(session, readonly=True)
        note = f"{error}. Steps from here are kept in a copy"
    try:
        journey, ids = _read_journey(opened)
    except BaseException:
        opened.close()
        raise
    beginnings = sum(entry.parent is None for entry in opened.tree)
    if beginnings > 1:
        shown = f"it has {beginnings} beginnings, and that of its head is shown"
        note = "; ".join(filter(None, [note, shown]))
    return Opened(opened, journey, ids, True, note)


def label_of(entry: Entry) -> str:
    """What a node is called."""
    return entry.label or entry.moved or "start"


def slug(label: str) -> str:
    """A label as part of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:LONGEST] or "walk"


def _is_new(folder: Path) -> bool:
    """Whether there is no such folder, or an empty one."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _read_journey(session: Session) -> tuple[Journey, dict[int, int]]:
    """The tree that the head belongs to, and the session's numbers of its nodes."""
    head, nodes = session.entry().id, list[Node]()
    root = session.way(head)[0]
    start, places = session.memory(root.id), {root.id: START}
    for entry in session.tree:
        if entry.parent in places:
            step, config = session.step(entry.id), _config(session, entry)
            nodes.append(Node(places[entry.parent], step, label_of(entry), config))
            places[entry.id] = len(nodes) - 1
    begun = resume_journey(start, label_of(root))
    journey = Journey(start, begun.eye, tuple(nodes), places[head], begun.label)
    return journey, {place: id for id, place in places.items()}


def _config(session: Session, entry: Entry) -> WalkConfig | None:
    """The settings of a step; None where they are unknown, or a session can only name them."""
    with suppress(ValueError):
        return session.config(entry.id)
    return None


def _new_folder(place: Path, label: str) -> Path:
    """A new folder, named after the day and what is walked in."""
    name, number = f"{datetime.now():%Y-%m-%d}-{slug(label)}", 1
    while True:
        folder = place / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _resolved(folder: str | os.PathLike) -> Path:
    return Path(folder).resolve()
