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
    "coverage_of_oracle": ("of best", 3),
    "return_psnr": ("return dB", 1),
    "return_ssim": ("SSIM", 3),
    "truth_psnr": ("truth dB", 1),
}


def metrics_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of metrics.json as a table, the better of each walk in bold."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("walk", "policy"):
        table.add_column(heading, no_wrap=True)
    for heading, _ in METRICS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        rivals = [other for other in rows if other["walk"] == row["walk"]]
        cells = [
            _cell(row[key], [r[key] for r in rivals], digits)
            for key, (_, digits) in METRICS.items()
        ]
        last = i + 1 == len(rows) or rows[i + 1]["walk"] != row["walk"]
        table.add_row(row["walk"], row["policy"], *cells, end_section=last)
    return table


def _cell(value: float | None, rivals: list[float | None], digits: int) -> Text:
    best = (
        value is not None and len(rivals) > 1 and value == max(r for r in rivals if r is not None)
    )
    return Text("-" if value is None else f"{value:.{digits}f}", style="bold" if best else "")


def progress_bar(console: Console) -> Progress:
    """A bar while there is something to wait for, and somebody to see it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
