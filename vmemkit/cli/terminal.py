"""Tables and progress bars of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

METRICS = {  # key of a row of metrics.json -> heading, decimals
    "coverage": ("coverage", 3),
    "coverage_of_oracle": ("of\nbest", 3),
    "truth_ssim": ("truth\nSSIM", 3),
    "truth_psnr": ("truth\ndB", 1),
    "return_ssim": ("return\nSSIM", 3),
    "return_psnr": ("return\ndB", 1),  # last: a world that has faded to one colour has it, too
}


def metrics_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of metrics.json as a table, the best of each walk in bold."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("walk", "policy"):
        table.add_column(heading, no_wrap=True)
    for heading, _ in METRICS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        same_walk = [other for other in rows if other["walk"] == row["walk"]]
        cells = [
            _cell(row[key], [other[key] for other in same_walk], digits)
            for key, (_, digits) in METRICS.items()
        ]
        is_last = i + 1 == len(rows) or rows[i + 1]["walk"] != row["walk"]
        table.add_row(row["walk"], row["policy"], *cells, end_section=is_last)
    return table


def _cell(value: float | None, values: list[float | None], digits: int) -> Text:
    if value is None:
        return Text("-")
    is_best = len(values) > 1 and value == max(other for other in values if other is not None)
    return Text(f"{value:.{digits}f}", style="bold" if is_best else "")


def progress_bar(console: Console) -> Progress:
    """A bar that disappears at the end, and shows only where the console is a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
