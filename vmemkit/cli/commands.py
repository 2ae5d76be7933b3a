"""The command line: `vmemkit demo`, `walk IMAGE`, `train`, `evaluate`, `weights`, `doctor`.

Bad input is one red line and exit code 2, with nothing written; Ctrl-C is exit code 130. All work is
done by functions of the package; here are only words, tables and a progress bar.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from vmemkit.cli import demonstration, train
from vmemkit.cli.doctor import run_doctor
from vmemkit.cli.terminal import metrics_table, progress_bar
from vmemkit.cli.walk import add_walk
from vmemkit.cli.weights import add_weights

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes: argparse's, and the shell's for Ctrl-C

EXPLANATION = (
    "coverage: share of what the way back shows that the retrieved views had really seen (of best: "
    "relative to the best choice); return dB, SSIM: likeness to the first visit; truth dB: to the "
    "real scene. Higher is better."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line, `sys.argv` by default; returns the exit code."""
    console, errors = Console(), Console(stderr=True)
    options = _parser().parse_args(arguments)
    if getattr(options, "generator", "warp") == "warp":
        # Tensors are small here: more threads only wait for each other.
        torch.set_num_threads(1)
    try:
        options.run(options, console)
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder that is not ours
        errors.print(Text(f"error: {error}", style="bold red"), soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        errors.print("stopped; what was finished is kept")
        return INTERRUPTED
    return 0


def run_demo(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit demo`: the walks, their table, and where the pictures are."""
    rows: list[dict[str, Any]] = []
    with progress_bar(console) as bar:
        task = bar.add_task("preparing", total=None)
        for state in demonstration.demo(options.out, options.seed, options.walks):
            label = f"{state.walk} · {state.policy or 'preparing'}"
            bar.update(task, description=label, completed=state.done, total=state.total)
            rows += [] if state.row is None else [state.row]
    console.print(metrics_table(rows))
    console.print(EXPLANATION, style="dim")
    console.print(f"videos, contact sheets, surfels and metrics.json are in {options.out}")


# ---- words ---------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmemkit", description="Surfel-indexed view memory: walk a room and come back."
    )
    commands = parser.add_subparsers(
        required=True, metavar="demo | walk | train | evaluate | weights | doctor"
    )
    show = commands.add_parser("demo", help="four walks with and without surfel memory, from data/")
    show.add_argument("--out", default="out/demo", help="folder to write to (%(default)s)")
    show.add_argument("--seed", type=int, default=0, help="of the house and of its walks")
    names = ", ".join(demonstration.WALKS)
    show.add_argument("--walks", nargs="+", metavar="NAME", help=f"some of {names} (all)")
    show.set_defaults(run=run_demo)
    add_walk(commands.add_parser("walk", help="walk into an image of your own that has depth"))
    train.add_train(commands.add_parser("train", help="train the small generator"))
    train.add_evaluate(commands.add_parser("evaluate", help="judge the small generator"))
    add_weights(commands.add_parser("weights", help="published weight files: list, get, check"))
    doctor = commands.add_parser("doctor", help="versions, device, data and weights")
    doctor.set_defaults(run=run_doctor)
    return parser
