"""The tree of a session: its nodes as the journal tells them, without their tensors.

In: records, one after the other. Out: a `Tree` of entries, which knows where each record lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from vmemkit.sessions.descriptions import described
from vmemkit.sessions.journal import Record
from vmemkit.sessions.values import decode, no_tensor

NODES = ("root", "step")  # kinds of records that make a node


@dataclass(frozen=True)
class Entry:
    """A node of a session: a memory that was begun with (a root), or a step."""

    id: int
    parent: int | None  # None for a root
    label: str  # given by the user; empty if none was
    moved: str  # how the camera moved in the step, such as "right 30.0"; empty for a root
    views: int  # in the memory afterwards
    chosen: tuple[int, ...]  # views of context, in the order of choice
    seconds: dict[str, float]  # per stage
    time: float  # when it was added, seconds since 1970
    size: int  # bytes of its tensors
    left_out: tuple[str, ...]  # what could not be stored, a sentence each
    versions: dict[str, str]  # the versions of vmemkit and torch that made it
    raw_settings: dict[str, Any] | None = field(repr=False)  # as JSON; None if unknown
    counts: tuple[int, int, int] = field(repr=False)  # views, surfels, packed rows
    goes_on: bool = field(repr=False)  # whether its memory only adds rows to that of the parent
    offset: int = field(repr=False)  # byte at which its record begins in the journal

    @property
    def settings(self) -> dict[str, Any] | None:
        """The fields of the `WalkConfig`, of which some may be `Described`; None if unknown.

        Errors: ValueError for settings that no session has stored.
        """
        if self.raw_settings is None:
            return None
        return {name: described(made) for name, made in self.raw_settings.items()}


class Tree:
    """The nodes of a session that were not deleted, and the current one."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}  # parents before children
        self.head: int | None = None
        self.next_id = 0
        self._children: dict[int | None, list[int]] = {None: []}

    def apply(self, record: Record, offset: int) -> None:
        """What one record changes. Errors: ValueError that names the offset of a bad record."""
        try:
            match record:
                case {"kind": "root" | "step"}:
                    self._add(_entry(record, offset))
                case {"kind": "head", "id": int(node)}:
                    self.head = self.entries[node].id
                case {"kind": "rename", "id": int(node), "label": str(label)}:
                    self.entries[node] = replace(self.entries[node], label=label)
                case {"kind": "delete", "id": int(node)}:
                    self._delete(node)
                case {"kind": "compacted", "next": int(next_id), "head": int() | None as head}:
                    self.next_id = max(self.next_id, next_id)
                    self.head = None if head is None else self.entries[head].id
                case _:
                    raise ValueError(f"unknown kind {record.get('kind')!r:.40}")
        except Exception as error:
            words = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise ValueError(
                f"the journal's record at byte {offset} is not sound: {words}"
            ) from error

    def children(self, node: int | None) -> tuple[int, ...]:
        """The steps that were taken from a node, the youngest last; of None: the roots."""
        return tuple(self._children[node])

    def way(self, node: int) -> list[int]:
        """The nodes from a root to this one."""
        way = [node]
        while (parent := self.entries[way[-1]].parent) is not None:
            way.append(parent)
        return way[::-1]

    def below(self, node: int) -> Iterator[int]:
        """A node and all that were taken from it, parents first."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            waiting.extend(self._children[node])
            yield node

    def _add(self, entry: Entry) -> None:
        if entry.id < self.next_id:
            raise ValueError(f"the id {entry.id} is not new")
        if entry.parent is not None and entry.parent not in self.entries:
            raise ValueError(f"there is no node {entry.parent} to come after")
        self.entries[entry.id] = entry
        self._children[entry.id] = []
        self._children[entry.parent].append(entry.id)
        self.head, self.next_id = entry.id, entry.id + 1

    def _delete(self, node: int) -> None:
        parent = self.entries[node].parent
        gone = list(self.below(node))
        self._children[parent].remove(node)
        for other in gone:
            del self.entries[other], self._children[other]
        if self.head in gone:
            self.head = parent


def _entry(record: Record, offset: int) -> Entry:
    """The entry of a node's record. Errors: ValueError for a record that is none."""
    match record:
        case {
            "kind": str(kind),
            "id": int(node),
            "parent": int() | None as parent,
            "label": str(label),
            "moved": str(moved),
            "chosen": list(chosen),
            "seconds": dict(seconds),
            "time": float(time),
            "size": int(size),
            "left_out": list(left_out),
            "versions": dict(versions),
            "settings": dict() | None as settings,
            "counts": [int(views), int(surfels), int(rows)],
            "goes_on": bool(goes_on),
        } if (kind == "root") == (parent is None) and min(node, size, views, surfels, rows) >= 0:
            return Entry(
                id=node,
                parent=parent,
                label=label,
                moved=moved,
                views=views,
                chosen=tuple(int(view) for view in chosen),
                seconds={
                    str(name): float(decode(value, no_tensor)) for name, value in seconds.items()
                },
                time=time,
                size=size,
                left_out=tuple(map(str, left_out)),
                versions={str(name): str(version) for name, version in versions.items()},
                raw_settings=settings,
                counts=(views, surfels, rows),
                goes_on=goes_on,
                offset=offset,
            )
    raise ValueError("a node lacks entries, or has some of another kind")
