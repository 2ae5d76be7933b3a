"""`vmemkit resume` and `vmemkit show`: go on with a walk that a session keeps, and look at its tree."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmemkit.cli.walk import chosen_stages, load_cut3r, take
from vmemkit.generation import Generator, preset
from vmemkit.pipeline import Step, walk
from vmemkit.reconstruction import Reconstructor
from vmemkit.retrieval import policy_name
from vmemkit.scenes import moves
from vmemkit.sessions import Described, Entry, Session


def run_resume(
    options: argparse.Namespace,
    console: Console,
    load_generator: Callable[..., Generator] = preset,
    load_reconstructor: Callable[[str | None], Reconstructor] = load_cut3r,
) -> None:
    """`vmemkit resume FOLDER --moves ...`: steps from the head of a session, with its settings.

    Networks are not stored: `--generator` and `--geometry` load them again.
    """
    with Session(options.folder) as session:
        memory = session.memory(options.at)
        stages = chosen_stages(options, load_generator, load_reconstructor)
        _check_stored(session.entry(options.at), stages)
        config = session.config(options.at, **stages)
        path = moves(memory.views.cameras[-1], options.moves)
        walked, steps = walk(memory, path, config, session=session), list[Step]()
        name = policy_name(config.policy)
        try:
            take(walked, len(path), name, console, (), steps)
        finally:  # after Ctrl-C, too
            words = f"{len(steps)} steps were added to {options.folder}, which is at node {session.head}"
            console.print(words, soft_wrap=True)


def _check_stored(entry: Entry, stages: dict[str, Any]) -> None:
    """Errors: ValueError for a network that the step used and that the arguments do not choose."""
    for name, option in (("generator", "--generator"), ("reconstructor", "--geometry")):
        used = (entry.settings or {}).get(name)
        if isinstance(used, Described) and name not in stages:
            raise ValueError(
                f"the {name} of step {entry.id} was {used}, which a session cannot make again: choose "
                f"it by {option}{' (and --remote)' if name == 'generator' else ''}"
            )


def run_show(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit show FOLDER`: a line for each step, branches indented."""
    with Session(options.folder, readonly=True) as session:
        entries, head = session.tree, session.head
        console.print(tree_table(entries, head))
        console.print(f"{session}, {_megabytes(session.size)}", soft_wrap=True)
        for entry in entries:
            for words in entry.left_out:
                note = f"node {entry.id} is stored without {words}"
                console.print(Text(note, style="yellow"), soft_wrap=True)


def tree_table(entries: Sequence[Entry], head: int | None) -> Table:
    """The nodes of a session. A branch is indented below the way that it left; `*` is the head."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("node", no_wrap=True)
    table.add_column("moves")
    for heading in ("views", "context", "seconds", "size"):
        table.add_column(heading, justify="right", no_wrap=heading != "context")
    for entry, depth, branches in _in_order(entries):
        mark = "*" if entry.id == head else " "
        origin = f" from {entry.parent}" if branches else ""
        # A label of the Explorer is the move itself, which need not be told twice.
        label = "" if entry.moved.startswith(entry.label) else f"{entry.label}: "
        table.add_row(
            Text(f"{mark}{'  ' * depth}{entry.id}{origin}", style="bold" if mark == "*" else ""),
            Text(label + (entry.moved or "start")),
            str(entry.views),
            " ".join(map(str, entry.chosen)) or "-",
            f"{sum(entry.seconds.values()):.2f}" if entry.seconds else "-",
            _megabytes(entry.size),
        )
    return table


def _in_order(entries: Sequence[Entry]) -> Iterator[tuple[Entry, int, bool]]:
    """Each way to its end, then the branches that leave it: (entry, indentation, first of a branch)."""
    children: dict[int | None, list[Entry]] = {}
    for entry in entries:
        children.setdefault(entry.parent, []).append(entry)
    waiting = [(root, 0, False) for root in reversed(children.get(None, []))]
    while waiting:
        entry, depth, branches = waiting.pop()
        yield entry, depth, branches
        first, *others = children.get(entry.id, [None])
        waiting.extend((other, depth + 1, True) for other in reversed(others))
        if first is not None:
            waiting.append((first, depth, False))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
