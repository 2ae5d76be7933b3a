"""`vmemkit export`: a walk or a memory on disk, as files of other programs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from vmemkit.exports import FORMATS, export, find_format
from vmemkit.memory import Memory, load
from vmemkit.pipeline import Step
from vmemkit.sessions import Session


def run_export(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit export DIR --to FORMAT --out PATH`. Without a format, it lists them."""
    if options.to is None:
        console.print("formats, for --to:")
        for name, format in FORMATS.items():
            console.print(f"  {name:14} {format.about}", soft_wrap=True)
        return
    format = find_format(options.to)
    if options.folder is None or options.out is None:
        raise ValueError(
            "name what to export and where to: vmemkit export DIR --to FORMAT --out PATH"
        )
    given = {"least": options.least, "points": options.points or None, "rows": options.rows}
    settings = {name: value for name, value in given.items() if value is not None}
    memory, steps = read_walk(options.folder, options.at, format.source == "steps")
    report = export(options.to, memory, steps, options.out, **settings)
    words = report or (f"{len(steps)} steps" if steps else memory)
    console.print(f"{options.out}: {words}", soft_wrap=True)


def read_walk(
    folder: str | os.PathLike, node: int | None = None, with_steps: bool = True
) -> tuple[Memory, list[Step]]:
    """The memory at a node of a session, by default at its head, and the steps that led to it; or a
    saved memory, which has no steps.

    Errors: ValueError for a folder that holds neither, and for a node of a saved memory.
    """
    if (Path(folder) / "memory.json").is_file():
        if node is not None:
            raise ValueError(f"{folder} is a saved memory and no session: leave --at out")
        return load(folder), []
    with Session(folder, readonly=True) as session:
        memory = session.memory(node)
        return memory, list(session.steps(node)) if with_steps else []
