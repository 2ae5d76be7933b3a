"""The command line's parser, and `main`, which turns errors into one line and an exit code.

Bad input is one red line and exit code 2, with nothing written; Ctrl-C is exit code 130. Each command
has a file of its own, which adds its arguments and its `run` function. It is imported only for its
command, because the rooms that do the work take seconds to import.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes: argparse's, and the shell's for Ctrl-C
COMMANDS = {  # name -> file, its function that adds the arguments, help
    "demo": ("demonstration", "add_demo", "four walks with and without surfel memory"),
    "walk": ("walk", "add_walk", "walk into an image of your own, also without depth"),
    "resume": ("sessions", "add_resume", "go on with a walk that a session keeps"),
    "show": ("sessions", "add_show", "the tree of a session: its steps and branches"),
    "evaluate": ("evaluate", "add_evaluate", "compare the generators without weights"),
    "weights": ("weights", "add_weights", "published weight files: list, get, check"),
    "doctor": ("doctor", "add_doctor", "versions, device, data and weights"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line, `sys.argv` by default; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_command(parser(arguments).parse_args(arguments))


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


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these arguments; each command sets `run` to a function of options and a console.

    Only commands that are among the arguments have their own.
    """
    parser = argparse.ArgumentParser(
        prog="vmemkit", description="Surfel-indexed view memory: walk a room and come back."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('vmemkit')}")
    commands = parser.add_subparsers(required=True, metavar=" | ".join(COMMANDS))
    for name, (file, function, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about)
        if name in arguments:
            getattr(import_module(f"vmemkit.cli.{file}"), function)(command)
    return parser
