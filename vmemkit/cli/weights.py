"""`vmemkit weights`: list, get and check weight files.

Files are found and downloaded by `nets/weights/download.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmemkit.nets.weights import (
    FOLDERS,
    WEIGHTS,
    count_tensors,
    download_weights,
    find,
    matching_entries,
    read,
    require,
)


def run_weights(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit weights`: which published weight files there are, and which are on this machine."""
    console.print(weights_table())
    console.print(
        "None is needed. `vmemkit weights get NAME` downloads one, `vmemkit weights check NAME` reads "
        f"it. Put files of your own into a folder that {FOLDERS} names.",
        style="dim",
    )


def run_get(
    options: argparse.Namespace,
    console: Console,
    download: Callable[..., Path] = download_weights,
) -> None:
    """`vmemkit weights get NAME`: print the terms, then `download(name, folder, repository)`."""
    if options.name in WEIGHTS:
        entry = WEIGHTS[options.name]
        console.print(Text(f"{entry.name}: {entry.what}, {entry.size_text}"))
        console.print(Text(entry.terms), soft_wrap=True)
    path = download(options.name, options.folder, options.repository)
    console.print(Text(f"{options.name} is in {path}"), soft_wrap=True)


def run_check(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit weights check NAME|FILE`: what a file holds, and which entry of the table it fits."""
    name = options.file
    path = require(name) if name in WEIGHTS else Path(name)
    state = read(path)
    counts, entries = count_tensors(state), matching_entries(state)
    dtypes = " and ".join(counts.dtypes) or "no floating-point tensor"
    console.print(
        Text(f"{path}: {counts.keys:,} keys, {counts.parameters:,} parameters, {dtypes}"),
        soft_wrap=True,
    )
    if name in WEIGHTS and name not in entries:
        entry = WEIGHTS[name]
        raise ValueError(
            f"{path} is not {name}, which has {entry.keys:,} keys and {entry.parameters:,} "
            f"parameters: get it anew with `vmemkit weights get {name}`"
        )
    console.print(f"it has the size of {' and '.join(entries) or 'no entry of the table'}")


def weights_table() -> Table:
    """The published weight files, their terms, and where they are on this machine."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for heading in ("what", "size", "licence", "gated", "found"):
        table.add_column(heading, overflow="fold")
    gates = {True: "yes", False: "no", None: "unknown"}
    for name, entry in WEIGHTS.items():
        terms = "; ".join(filter(None, (entry.licence, entry.limits)))
        where = str(find(name) or "no")
        cells = (entry.what, entry.size_text, terms, gates[entry.gated], where)
        table.add_row(name, *map(Text, cells), end_section=True)
    return table
