"""The command line's parser, and `main`, which turns errors into one line and an exit code.

Bad input is one red line and exit code 2, with nothing written; Ctrl-C is exit code 130. Each command
has a file of its own, which adds its arguments and its `run` function here.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib.metadata import version

from rich.console import Console
from rich.text import Text

from vmemkit.cli.demonstration import add_demo
from vmemkit.cli.doctor import add_doctor
from vmemkit.cli.evaluate import add_evaluate
from vmemkit.cli.walk import add_walk
from vmemkit.cli.weights import add_weights

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes: argparse's, and the shell's for Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line, `sys.argv` by default; returns the exit code."""
    return run_command(parser().parse_args(arguments))


def run_command(options: argparse.Namespace) -> int:
    """Call `options.run(options, console)`; returns the exit code, errors in one line.

    Text is printed as it is: file names may look like markup, or have letters that the terminal
    lacks, which become question marks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    console, errors = Console(markup=False), Console(stderr=True, markup=False)
    try:
        options.run(options, console)
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder without permission
        errors.print(Text(f"error: {error}", style="bold red"), soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        errors.print("stopped; finished results are kept")
        return INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run` to a function of options and a console."""
    parser = argparse.ArgumentParser(
        prog="vmemkit", description="Surfel-indexed view memory: walk a room and come back."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('vmemkit')}")
    commands = parser.add_subparsers(
        required=True, metavar="demo | walk | evaluate | weights | doctor"
    )
    add_demo(commands.add_parser("demo", help="four walks with and without surfel memory"))
    add_walk(commands.add_parser("walk", help="walk into an image of your own, also without depth"))
    add_evaluate(commands.add_parser("evaluate", help="compare the generators without weights"))
    add_weights(commands.add_parser("weights", help="published weight files: list, get, check"))
    add_doctor(commands.add_parser("doctor", help="versions, device, data and weights"))
    return parser
