"""A session: a walk on disk as a tree of steps, which one process writes and others may read.

In: a folder. Out: a `Session`. Its tree comes from the journal alone; memories and steps are read from
their files when they are asked for. A memory is made of the rows of all nodes on the way to it, and
starts from one that is still in use where it can.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import names_in, save_tensors
from vmemkit.memory import Memory, Spill, same_memory, with_columns
from vmemkit.pipeline import Step, WalkConfig
from vmemkit.sessions.descriptions import Described
from vmemkit.sessions.entries import Entry, Tree
from vmemkit.sessions.journal import Journal, JournalWriter, Record, lock, write_journal
from vmemkit.sessions.records import (
    NewNode,
    config_in,
    joined,
    new_root,
    new_step,
    picture_in,
    rows_in,
    step_in,
)
from vmemkit.sessions.tensor_pool import TensorFile

JOURNAL, LOCK, TENSORS = "journal", "lock", "tensors"
DRAFT = ".writing-"  # how names of unfinished files begin
AT_ONCE = 1 << 26  # bytes of rows that are put together at once


class Session:
    """A walk on disk. `walk(memory, path, session=session)` adds each step before it is yielded.

    Nodes have numbers: a root is a memory to begin with, the others are steps. The head is the current
    node. Undo and redo move it, so that the next step starts a branch; nothing is overwritten.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        readonly: bool = False,
        device: torch.device | str = "cpu",
        spill: Spill | None = None,
    ) -> None:
        """Open a session, or make one in a new or empty folder. Memories that are read lie on `device`,
        with `spill` as in `Memory.empty`.

        Errors: ValueError for a folder of other files, a damaged session, one that another process
        writes (`readonly=True` works then), and for `readonly` where there is none; OSError for a
        folder that cannot be written.
        """
        self.folder, self.readonly = Path(folder), readonly
        self.notes: tuple[str, ...] = ()  # what was found wrong at opening, and mended
        self._device, self._spill = device, spill
        self._process, self._busy = os.getpid(), threading.RLock()
        self._alive: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()
        self._recent: Memory | None = None  # the last memory is most often the next one's beginning
        self._nodes, self._journal = Tree(), Journal(self.folder / JOURNAL)
        if readonly:
            if not is_session(self.folder):
                raise ValueError(f"there is no session in {self.folder}")
            self._release = weakref.finalize(self, lambda: None)
            self._read_news()
            for node in self._lost_tail():
                self._nodes.apply({"kind": "delete", "id": node}, 0)
        else:
            _check_place(self.folder)
            (self.folder / TENSORS).mkdir(parents=True, exist_ok=True)
            self._release = weakref.finalize(self, lock(self.folder / LOCK).close)
            try:
                self._journal = JournalWriter(self.folder / JOURNAL)
                self._mend(self._read_news())
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write. Every step is on the disk already."""
        if isinstance(self._journal, JournalWriter):
            self._journal.close()
        self._release()

    def __repr__(self) -> str:
        tree = self._tree()
        steps = sum(entry.parent is not None for entry in tree.entries.values())
        leaves = sum(not tree.children(node) for node in tree.entries)
        return f"Session({self.folder.name}: {steps} steps, {leaves} branches, at {tree.head})"

    # ---- the tree --------------------------------------------------------------------------------

    @property
    def tree(self) -> tuple[Entry, ...]:
        """All nodes that were not deleted, parents before children; no tensor is read."""
        return tuple(self._tree().entries.values())

    @property
    def head(self) -> int | None:
        """The current node; None before the first."""
        return self._tree().head

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        files = [self.folder / JOURNAL, *(self.folder / TENSORS).iterdir()]
        return sum(path.stat().st_size for path in files)

    def entry(self, id: int | None = None) -> Entry:
        """What the journal says of a node, by default of the head. Errors: ValueError if there is none."""
        tree = self._tree()
        if id is None and tree.head is None:
            raise ValueError("the session is empty: begin it with a memory, session.begin(memory)")
        node = tree.head if id is None else id
        if node not in tree.entries:
            raise ValueError(
                f"the session has no node {node}: session.tree has those that there are"
            )
        return tree.entries[node]

    def children(self, id: int | None = None) -> tuple[Entry, ...]:
        """The steps that were taken from a node, by default from the head, the youngest last."""
        entry, tree = self.entry(id), self._tree()
        return tuple(tree.entries[child] for child in tree.children(entry.id))

    def way(self, id: int | None = None) -> tuple[Entry, ...]:
        """The nodes from the root to a node, by default to the head."""
        entry, tree = self.entry(id), self._tree()
        return tuple(tree.entries[node] for node in tree.way(entry.id))

    # ---- reading ---------------------------------------------------------------------------------

    def memory(self, id: int | None = None) -> Memory:
        """The memory after a node, by default after the head; to the bit as it was.

        Errors: ValueError that names the file if it is missing or damaged.
        """
        entry = self.entry(id)
        memory = self._alive.get(entry.id)
        if memory is None:
            memory = self._remember(entry.id, self._read_memory(entry))
        return memory

    def picture(self, id: int | None = None) -> Float[Tensor, "3 h w"]:
        """The last view of a node, by default of the head. Nothing else is read, so this is quick.

        Errors: as `memory`.
        """
        entry = self.entry(id)
        body, tensors = self._read(entry)
        with _naming(self._path(entry.id)):
            return picture_in(body, tensors)

    def step(self, id: int | None = None) -> Step:
        """The step of a node, by default of the head, with everything that passed between its stages.

        Errors: ValueError for a root, which is no step, and as `memory`.
        """
        entry = self.entry(id)
        if entry.parent is None:
            raise ValueError(
                f"node {entry.id} is a memory to begin with, and no step: session.memory"
            )
        before, memory = self.memory(entry.parent), self.memory(entry.id)
        body, tensors = self._read(entry)
        with _naming(self._path(entry.id)):
            return step_in(body, tensors, before, memory)

    def steps(self, id: int | None = None) -> Iterator[Step]:
        """The steps on the way to a node, by default to the head, one after the other."""
        return (self.step(entry.id) for entry in self.way(id) if entry.parent is not None)

    def config(self, id: int | None = None, **changes: Any) -> WalkConfig:
        """The settings of a step, by default of the head, with changes: what a walk goes on with. After a
        root they are the defaults.

        Errors: ValueError for a step without known settings, and for functions that a session can
        only name, such as your own or networks: give them as `changes`.
        """
        entry = self.entry(id)
        settings = None if entry.parent is None else entry.settings
        settings = {} if settings is None else settings
        if entry.parent is not None and not settings and not changes:
            raise ValueError(f"step {entry.id} was added without its settings: give a WalkConfig")
        settings = {**settings, **changes}
        for name, value in settings.items():
            if isinstance(value, Described):
                raise ValueError(
                    f"the {name} of step {entry.id} was {value!r}, which a session cannot make again: "
                    f"give it, such as session.config({name}=...)"
                )
        try:
            return WalkConfig(**settings)
        except TypeError as error:
            raise ValueError(f"step {entry.id} has other settings than a walk: {error}") from error

    def find(self, memory: Memory) -> int:
        """The node that has this memory, or one that is equal to it; of several the head or the last.

        Errors: ValueError if the session does not know it.
        """
        tree = self._tree()
        order = [tree.head, *reversed(tree.entries)] if tree.entries else []
        nodes = [node for node in order if node is not None]
        for node in nodes:
            if self._alive.get(node) is memory:
                return node
        counts = (len(memory), len(memory.surfels), len(memory.packed_sightings))
        for node in nodes:
            if tree.entries[node].counts == counts and same_memory(self.memory(node), memory):
                return node
        raise ValueError(
            f"the session in {self.folder} does not know this memory of {len(memory)} views: go on "
            "from session.memory(), or keep the walk in a session of its own"
        )

    # ---- writing ---------------------------------------------------------------------------------

    def begin(self, memory: Memory, label: str = "") -> int:
        """Store a memory as a root, which becomes the head; returns its number.

        Errors: ValueError for a memory without views; OSError for a full disk.
        """
        if len(memory) == 0:
            raise ValueError(
                "a session begins with a memory that holds a view: vmemkit.begin(views)"
            )
        with self._writing():
            node = self._store(new_root(memory, label), None)
            self._remember(node, memory)
            return node

    def start(self, memory: Memory) -> int:
        """The node that a walk from this memory starts at. An empty session begins with it.

        Errors: ValueError if the session does not know the memory.
        """
        return self.find(memory) if self._tree().entries else self.begin(memory)

    def add(
        self,
        step: Step,
        parent: int | None = None,
        config: WalkConfig | None = None,
        label: str = "",
    ) -> int:
        """Store a step, which becomes the head; returns its number. It is then on the disk.

        `parent` is the node that it was taken from, by default the one that has its memory. `config`
        are the settings that it was taken with, for `config` and for the record. What cannot be stored
        is in `Entry.left_out`.
        Errors: ValueError for a step from another memory; OSError for a full disk. The session is then
        as it was, and goes on when there is room.
        """
        with self._writing():
            if parent is None:
                parent = self.start(step.before)
            elif not same_memory(self.memory(parent), step.before):
                raise ValueError(f"this step was not taken from the memory of node {parent}")
            if step.memory.config != step.before.config:
                raise ValueError("a step must not change the settings of its memory")
            node = self._store(new_step(step, config, label), parent)
            self._remember(node, step.memory)
            return node

    def undo(self) -> int:
        """Go one step back; returns the head. Errors: ValueError at a root."""
        entry = self.entry()
        if entry.parent is None:
            raise ValueError("there is nothing to undo: this is where the walk began")
        return self.go(entry.parent)

    def redo(self) -> int:
        """Go one step forward, on the youngest branch; returns the head. Errors: ValueError at an end."""
        children = self.children()
        if not children:
            raise ValueError("there is nothing to redo: this is the end of a branch")
        return self.go(children[-1].id)

    def go(self, id: int) -> int:
        """Make a node the head: the next step from there starts a branch."""
        return self._change({"kind": "head", "id": self.entry(id).id})

    def rename(self, id: int, label: str) -> int:
        """Give a node a label; returns the head."""
        return self._change({"kind": "rename", "id": self.entry(id).id, "label": label})

    def delete(self, id: int) -> int | None:
        """Hide a node and all steps that follow it; returns the head, which moves out of them.

        The disk keeps them until `compact`.
        """
        return self._change({"kind": "delete", "id": self.entry(id).id})

    def compact(self) -> None:
        """Take what was deleted from the disk, for good. A crash meanwhile loses nothing else.

        Errors: OSError for a full disk; the session is then as it was.
        """
        with self._writing() as journal:
            old = Journal(journal.path)
            journal.close()
            try:
                write_journal(journal.path, self._records(old))
            except OSError as error:
                raise OSError(_refusal("a compact journal", self.folder, error)) from error
            finally:
                self._journal = JournalWriter(journal.path)
                self._read_news()
            names = {self._path(node).name for node in self._nodes.entries}
            for path in (self.folder / TENSORS).iterdir():
                if path.name not in names:
                    with contextlib.suppress(OSError):  # Windows keeps files that somebody reads
                        path.unlink()

    # ---- inside ----------------------------------------------------------------------------------

    def _tree(self) -> Tree:
        """The nodes of now: a reader looks for news of the writer."""
        if self.readonly:
            with self._busy:
                self._read_news()
        return self._nodes

    def _read_news(self) -> int:
        """Apply what is new in the journal; returns the bytes of a torn record at its end."""
        try:
            is_new, records, torn = self._journal.news()
            if is_new:
                self._nodes = Tree()
                self._alive.clear()
            for offset, record in records:
                self._nodes.apply(record, offset)
        except BaseException:
            self._journal.forget()  # so that the next look reads all, and finds damage again
            raise
        return torn

    def _lost_tail(self) -> list[int]:
        """The last nodes, the youngest first, whose files are missing or of another size.

        Errors: ValueError if no node has its file.
        """
        folder, lost = self.folder / TENSORS, []
        sizes = (
            {file.name: file.stat().st_size for file in folder.iterdir()} if folder.is_dir() else {}
        )
        for node, entry in reversed(self._nodes.entries.items()):
            if sizes.get(self._path(node).name) == entry.size:
                break
            lost.append(node)
        if lost and len(lost) == len(self._nodes.entries):
            raise ValueError(
                f"the tensors of the session in {self.folder} are missing: copy them, too"
            )
        return lost

    def _mend(self, torn: int) -> None:
        """Cut off what a crash has left at the end of the journal, and say so."""
        assert isinstance(self._journal, JournalWriter)
        notes = []
        if torn:
            self._journal.cut_at(self._journal.end)
            notes.append(f"{self.folder}: a torn record of {torn} bytes was cut off")
        if lost := self._lost_tail():
            self._journal.cut_at(min(self._nodes.entries[node].offset for node in lost))
            self._journal.forget()
            self._read_news()
            notes.append(f"{self.folder}: nodes without their tensors were cut off: {lost[::-1]}")
        for path in (self.folder / TENSORS).iterdir():
            if path.name.startswith(DRAFT):
                for draft in path.iterdir() if path.is_dir() else ():
                    draft.unlink()
                path.rmdir() if path.is_dir() else path.unlink()
        self.notes = tuple(notes)
        for note in notes:
            warnings.warn(note, stacklevel=3)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[JournalWriter]:
        """Within the `with`, this thread alone writes. Errors: ValueError for a session that cannot be
        written to here."""
        if self.readonly or not self._release.alive:
            how = "was opened with readonly=True" if self.readonly else "is closed"
            raise ValueError(f"the session {how}: open it for writing")
        if self._process != os.getpid():
            raise ValueError("only the process that opened a session may write to it")
        assert isinstance(self._journal, JournalWriter)
        with self._busy:
            yield self._journal

    def _change(self, record: Record) -> int | None:
        """Append a record without tensors; returns the head. Errors: OSError for a full disk."""
        with self._writing() as journal:
            try:
                self._nodes.apply(record, journal.append(record))
            except OSError as error:
                raise OSError(_refusal("the change", self.folder, error)) from error
            return self._nodes.head

    def _store(self, new: NewNode, parent: int | None) -> int:
        """Write the tensors of a node, and then its record; returns its number."""
        assert isinstance(self._journal, JournalWriter)
        node, end = self._nodes.next_id, self._journal.end
        path = self._path(node)
        try:
            save_tensors(path, new.pool.tensors)
            place = {"id": node, "parent": parent, "size": path.stat().st_size}
            record, body = {**place, **new.record}, {**new.body, "tensors": new.pool.table}
            self._nodes.apply(record, self._journal.append(record, body))
        except BaseException as error:
            self._take_back(node, end)
            if isinstance(error, OSError):
                raise OSError(_refusal("the step", self.folder, error)) from error
            raise
        return node

    def _take_back(self, node: int, end: int) -> None:
        """Make the session as it was before a node, when the journal ended at `end`."""
        assert isinstance(self._journal, JournalWriter)
        if self._journal.end != end or node in self._nodes.entries:  # Ctrl-C came late
            self._journal.cut_at(end)
            self._journal.forget()
            self._read_news()
        with contextlib.suppress(OSError):
            self._path(node).unlink(missing_ok=True)

    def _records(self, journal: Journal) -> Iterator[tuple[Record, Record | None]]:
        """The records that a compact journal has, with their bodies."""
        for entry in self._nodes.entries.values():
            record, body = journal.read(entry.offset)
            yield {**record, "label": entry.label}, body
        yield {"kind": "compacted", "next": self._nodes.next_id, "head": self._nodes.head}, None

    def _path(self, node: int) -> Path:
        return self.folder / TENSORS / f"{node:08d}.safetensors"

    def _remember(self, node: int, memory: Memory) -> Memory:
        self._alive[node] = self._recent = memory
        return memory

    def _read(self, entry: Entry) -> tuple[Record, TensorFile]:
        """A node's body and its file. Errors: ValueError that names what is missing or damaged."""
        (_, body), path = self._journal.read(entry.offset), self._path(entry.id)
        return body, TensorFile(path, body.get("tensors"), self._device)

    def _read_memory(self, entry: Entry) -> Memory:
        """The memory of a node, from the nearest one on the way that is still in use."""
        tree = self._nodes
        way = tree.way(entry.id)
        start, memory = self._at_hand(way)
        if start == entry.id:
            return memory
        waiting: list[tuple] = []  # rows of nodes that only add some
        size = 0
        for node in way[way.index(start) + 1 :] if start is not None else way:
            body, tensors = self._read(tree.entries[node])
            with _naming(self._path(node)):
                if memory is None:
                    memory = Memory.empty(config_in(body), self._device, self._spill)
                columns, states = rows_in(body, tensors)
                if waiting and (size > AT_ONCE or not tree.entries[node].goes_on):
                    memory, waiting, size = with_columns(memory, *joined(waiting)), [], 0
                waiting.append((columns, states))
                size += sum(rows.nbytes for _, rows in columns.values())
                if not tree.entries[node].goes_on:
                    memory, waiting, size = with_columns(memory, *joined(waiting)), [], 0
        with _naming(self._path(entry.id)):
            return with_columns(memory, *joined(waiting)) if waiting else memory

    def _at_hand(self, way: list[int]) -> tuple[int | None, Memory | None]:
        """The last node on a way whose memory is in use, or is the beginning of one in use, and this
        memory; None if there is none."""
        entries = self._nodes.entries
        if len(way) > 1 and (memory := self._alive.get(way[-2])) is not None:
            return way[-2], memory
        beginnings: dict[int, Memory] = {}
        for node, memory in list(self._alive.items()):
            while node is not None and node in entries and node not in beginnings:
                beginnings[node] = memory
                node = entries[node].parent if entries[node].goes_on else None
        for node in reversed(way):
            if node in beginnings:
                return node, beginnings[node].truncate(entries[node].views)
        return None, None


def is_session(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a session, sound or damaged."""
    return (Path(folder) / JOURNAL).is_file()


def _check_place(folder: Path) -> None:
    """Errors: ValueError unless a folder is new, empty, or holds a session."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder to keep the session in")
    names = names_in(folder) if folder.exists() else []
    others = [name for name in names if name not in (LOCK, TENSORS) and not name.startswith(DRAFT)]
    if JOURNAL not in names and others:
        raise ValueError(
            f"{folder} holds other files, such as {others[0]}, and no session: give a new or empty "
            "folder"
        )


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside, because a file holds what no session has stored, is a ValueError that
    names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and path.name in str(error):
            raise
        words = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise ValueError(f"{path.name} is not a sound step of a session: {words}") from error


def _refusal(what: str, folder: Path, error: OSError) -> str:
    return (
        f"{what} was not stored, because {folder} cannot be written ({error.strerror or error}): make "
        "room and store it again; the session is as it was"
    )
