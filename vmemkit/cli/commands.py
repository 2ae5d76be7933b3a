"""The command line's parser, and `main`, which turns errors into one line and an exit code.

Bad input is one red line and exit code 2, with nothing written; Ctrl-C is exit code 130. Each command
has a file of its own. It is imported when the command runs, because the rooms that do the work take
seconds to import.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib.metadata import version

from vmemkit.cli.arguments import (
    add_demo,
    add_doctor,
    add_evaluate,
    add_export,
    add_inspect,
    add_resume,
    add_serve,
    add_show,
    add_walk,
    add_weights,
)

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes: argparse's, and the shell's for Ctrl-C
COMMANDS = {  # name -> the function that adds its arguments, help
    "demo": (add_demo, "four walks with and without surfel memory"),
    "walk": (add_walk, "walk into an image of your own, also without depth"),
    "resume": (add_resume, "go on with a walk that a session keeps"),
    "show": (add_show, "the tree of a session: its steps and branches"),
    "export": (add_export, "a walk or a memory as files of other programs"),
    "inspect": (add_inspect, "what posed images are taken for, with a picture of their cameras"),
    "evaluate": (add_evaluate, "compare policies by protocols, and generators"),
    "serve": (add_serve, "a generator for many notebooks, on Ray Serve"),
    "weights": (add_weights, "published weight files: list, get, check"),
    "doctor": (add_doctor, "versions, device, data and weights"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line, `sys.argv` by default; returns the exit code."""
    return run_command(parser().parse_args(arguments))


def run_command(options: argparse.Namespace) -> int:
    """Call `options.run(options, console)`; returns the exit code, errors in one line.

    Text is printed as it is: file names may look like markup, or have letters that the terminal
    lacks, which become question marks.
    """
    from rich.console import Console
    from rich.text import Text

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
    """The parser; each command sets `run` to a function of options and a console."""
    parser = argparse.ArgumentParser(
        prog="vmemkit", description="Surfel-indexed view memory: walk a room and come back."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('vmemkit')}")
    commands = parser.add_subparsers(required=True, metavar=" | ".join(COMMANDS))
    for name, (add_arguments, about) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=about))
    return parser
