"""A server in a process of its own, with a generator whose windows can be slow, counted and batched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from vmemkit.core import Cameras, Views
from vmemkit.generation import Asked, Generation, Generator, Writer

HELPERS = Path(__file__).parent
LOG = "SERVING_LOG"  # environment variable: file in which the generator writes what it does
NETWORK_ROWS, SLOW_ROWS = 16, 20  # heights of images that are made by the network, and slowly
SLOW_STATES, SLOW_PAUSE = 40, 0.05
TOKEN = "the-token-of-the-tests"
START, STOP = 300, 60  # seconds


class Mixed:
    """The Writer; for images of NETWORK_ROWS a small network, for SLOW_ROWS slow grey pictures."""

    def __init__(self) -> None:
        from generator_helpers import small

        torch.set_num_threads(1)
        self.network = small()

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        rows = context.image.shape[2]
        if rows == SLOW_ROWS:
            return slow(context, targets)
        return (self.network if rows == NETWORK_ROWS else Writer())(context, targets, rng)

    def together(self, asked: Sequence[Asked]) -> Iterator[list[Generation | None]]:
        context, _, _ = asked[0]
        if context.image.shape[2] == NETWORK_ROWS:
            note(f"batch {len(asked)}")
            yield from self.network.together(asked)
            return
        for i, window in enumerate(asked):
            for state in self(*window):
                yield [state if i == other else None for other in range(len(asked))]


def slow(context: Views, targets: Cameras) -> Iterator[Generation]:
    """SLOW_STATES pictures, each lighter than the last; the log has a line for each."""
    for i in range(SLOW_STATES):
        note(f"slow {os.getpid()}")
        grey = torch.full((len(targets), *context.image.shape[2:]), i / SLOW_STATES)
        yield Generation(grey[:, None].expand(-1, 3, -1, -1), grey + 1, grey)
        time.sleep(SLOW_PAUSE)


def note(line: str) -> None:
    with open(os.environ[LOG], "a") as file:
        file.write(line + "\n")


def load(*arguments: object) -> Generator:
    """The generator that the server loads in place of that of its arguments."""
    return Mixed()


@contextmanager
def server(log: Path, *arguments: str) -> Iterator[str]:
    """`vmemkit serve` with the generator above, until the context ends; gives its URL."""
    path = os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS)])
    environment = os.environ | {"PYTHONPATH": path, LOG: str(log), "VMEMKIT_TOKEN": TOKEN}
    code = "import serving_helpers; serving_helpers.main()"
    command = [sys.executable, "-c", code, "serve", "--port", "0", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        timer = threading.Timer(START, process.kill)
        timer.start()
        try:
            lines = iter(process.stdout.readline, "")
            yield next(line for line in lines if "http://" in line).split(" at ")[1].split(";")[0]
        finally:
            timer.cancel()
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=STOP)
            except subprocess.TimeoutExpired:
                process.kill()  # Ray's processes end with the one that started them


def main() -> None:
    """The command, which ends with the process that started it, too."""
    from rich.console import Console

    from vmemkit.cli.commands import parser
    from vmemkit.cli.serve import run_serve

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    run_serve(parser().parse_args(sys.argv[1:]), Console(), load)
