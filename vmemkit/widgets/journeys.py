"""Journeys: walks by hand, with undo, redo and branches.

In: where to start, and steps as they are taken. Out: a `Journey`, a value that holds all steps ever
taken as a tree. Undo and redo only move in the tree, and what is dropped can be brought back, so
nothing that was generated is lost.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from vmemkit.core import Cameras, Views, cat
from vmemkit.exports import mp4
from vmemkit.memory import Memory, begin
from vmemkit.pipeline import Step, WalkConfig
from vmemkit.scenes import add_capture, check_capture_place

START = -1  # the node before the first step


@dataclass(frozen=True, repr=False)
class Node:
    """A step that was taken, and the node (or START) that it was taken from."""

    parent: int
    step: Step
    label: str  # such as "forward 0.5", or a name that the user gave
    config: WalkConfig | None = None  # the settings that it was taken with


@dataclass(frozen=True, repr=False)
class Journey:
    """All steps that were taken, as a tree, and the current node in it."""

    start: Memory
    eye: Cameras  # the single camera before the first step
    nodes: tuple[Node, ...] = ()
    at: int = START
    label: str = "start"  # of START
    dropped: frozenset[int] = frozenset()  # nodes that are hidden

    def __repr__(self) -> str:
        steps = len(self.nodes) - len(self.dropped)
        return f"Journey({steps} steps, {len(self.leaves())} branches, at {self.at})"

    @property
    def memory(self) -> Memory:
        """The memory at the current node."""
        return self.start if self.at == START else self.nodes[self.at].step.memory

    @property
    def camera(self) -> Cameras:
        """The single camera at the current node."""
        return self.eye if self.at == START else self.nodes[self.at].step.targets[-1]

    def way(self, node: int | None = None) -> list[int]:
        """The nodes from the first step to `node`, by default to the current one."""
        node, way = self.at if node is None else self._checked(node), []
        while node != START:
            way.append(node)
            node = self.nodes[node].parent
        return way[::-1]

    def steps(self, node: int | None = None) -> list[Step]:
        """The steps on the way to `node`, by default to the current one."""
        return [self.nodes[i].step for i in self.way(node)]

    def take(self, step: Step, label: str, config: WalkConfig | None = None) -> Journey:
        """One step further from the current node.

        Errors: ValueError for a step that was not taken from the memory there.
        """
        if step.before is not self.memory:
            raise ValueError("this step was taken from another memory: take it from journey.memory")
        nodes = (*self.nodes, Node(self.at, step, label, config))
        return replace(self, nodes=nodes, at=len(nodes) - 1)

    def undo(self) -> Journey:
        """One step back. Errors: ValueError at the start."""
        if self.at == START:
            raise ValueError("there is nothing to undo: this is the start")
        return replace(self, at=self.nodes[self.at].parent)

    def redo(self) -> Journey:
        """One step forward, on the youngest branch. Errors: ValueError at a branch's end."""
        children = self.children(self.at)
        if not children:
            raise ValueError("there is nothing to redo: this is the end of a branch")
        return replace(self, at=children[-1])

    def go(self, node: int) -> Journey:
        """Go to another node; the next step from there starts a branch."""
        return replace(self, at=self._checked(node))

    def rename(self, node: int, label: str) -> Journey:
        """Another label for a node, or for START. Errors: ValueError for an empty one."""
        if not label:
            raise ValueError("a name needs at least one letter")
        if self._checked(node) == START:
            return replace(self, label=label)
        renamed = replace(self.nodes[node], label=label)
        return replace(self, nodes=(*self.nodes[:node], renamed, *self.nodes[node + 1 :]))

    def drop(self, node: int) -> Journey:
        """Hide a step and all that follow it; who stands there goes back to the step before.

        Errors: ValueError for the start.
        """
        if self._checked(node) == START:
            raise ValueError("the start cannot be deleted: start somewhere else instead")
        gone = {i for i in self.kept() if node in self.way(i)}
        at = self.nodes[node].parent if self.at in gone else self.at
        return replace(self, at=at, dropped=self.dropped | gone)

    def bring_back(self) -> Journey:
        """Show all steps that were dropped."""
        return replace(self, dropped=frozenset())

    def kept(self) -> list[int]:
        """The nodes that were not dropped, in the order in which they were taken."""
        return [i for i in range(len(self.nodes)) if i not in self.dropped]

    def children(self, node: int) -> list[int]:
        """The steps that were taken from a node, the youngest last."""
        return [i for i in self.kept() if self.nodes[i].parent == node]

    def leaves(self) -> list[int]:
        """The ends of all branches."""
        parents = {self.nodes[i].parent for i in self.kept()}
        return [i for i in self.kept() if i not in parents]

    def _checked(self, node: int) -> int:
        if not START <= node < len(self.nodes):
            raise ValueError(
                f"there is no step {node}: choose from {START} to {len(self.nodes) - 1}"
            )
        if node in self.dropped:
            raise ValueError(f"step {node} was deleted: bring it back first")
        return node


def begin_journey(given: Views, label: str = "start") -> Journey:
    """A journey from given views with depth; it starts where the first of them was taken."""
    return resume_journey(begin(given), label)


def resume_journey(memory: Memory, label: str = "start") -> Journey:
    """A journey from a memory; it starts where the last view was taken, or the first if all were given.

    Errors: ValueError for a memory without views.
    """
    if len(memory) == 0:
        raise ValueError("the memory is empty: there is nowhere to stand")
    view = 0 if bool(memory.views.given.all()) else -1
    return Journey(memory, memory.views.cameras[view], label=label)


def export(journey: Journey, folder: str | os.PathLike) -> list[Path]:
    """Write the way to the current node: `walk.mp4`, and its views as a capture, which is
    `transforms.json` with images and depth. `scenes.load_capture` and nerfstudio read it.

    Errors: ValueError at the start, where there is nothing to write, and for a bad folder; as
    `exports.mp4`, after the cameras are written.
    """
    steps = journey.steps()
    if not steps:
        raise ValueError("there is nothing to export: take a step first")
    folder = check_capture_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The rest is of no use there, and some steps may lack it.
    rest: dict[str, None] = dict.fromkeys(["confidence", "latent", "embedding"])
    views = [step.views.replace(**rest) for step in steps]
    add_capture(cat(views), folder)
    video = folder / "walk.mp4"
    mp4(steps, video)
    return [video, folder / "transforms.json"]
