"""A server on Ray Serve: a class of notebooks, who leaves, what dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
import torch
from generator_helpers import small
from rich.console import Console
from serving_helpers import NETWORK_ROWS, SLOW_ROWS, SLOW_STATES, TOKEN, server

import vmemkit as vm
from vmemkit.cli.commands import parser
from vmemkit.cli.walk import run_walk
from vmemkit.core import same_bits
from vmemkit.generation import Generation, Remote
from vmemkit.memory import same_memory
from vmemkit.scenes import rooms, single_tour

pytest.importorskip("ray.serve", reason="needs Ray Serve, the extra `cluster`")
pytestmark = pytest.mark.usefixtures("as_installed")  # shape checks would take half of the time
NOTEBOOKS, WINDOWS = 20, 10  # windows of each notebook
DIFFERENT = 50  # windows; each is asked four times
LIMIT = 60  # seconds that a test waits for the server


@pytest.fixture(scope="module")
def house():
    return rooms(0)


@pytest.fixture(scope="module")
def tour(house):
    return single_tour(house)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("serving") / "log"


@pytest.fixture(scope="module")
def url(log) -> Iterator[str]:
    """A server of two replicas, each with batches of up to four windows."""
    with server(log, "--replicas", "2", "--at-once", "4") as url:
        yield url


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def equal(a: Generation, b: Generation) -> bool:
    """Whether two states are the same to the bit."""
    leaves, others = a.leaves(), b.leaves()
    same = leaves.keys() == others.keys() and a.note == b.note
    return same and all(same_bits(leaf, others[name]) for name, leaf in leaves.items())


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.is_file() else []


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_twenty_notebooks_get_what_the_generator_makes_here(url, house, tour):
    """Windows that are there at once differ in camera and seed, so a mix-up would show."""
    given = house.render(tour.given, 24, 32)
    asked = [(tour.cameras[i % len(tour.cameras)][None], i) for i in range(DIFFERENT)]

    def notebook(number: int) -> list[list[Generation]]:
        generator, own = Remote(url, TOKEN), windows_of(number)
        return [list(generator(given, asked[i][0], seed(asked[i][1]))) for i in own]

    def windows_of(number: int) -> list[int]:
        return [(WINDOWS * number + i) % DIFFERENT for i in range(WINDOWS)]

    with ThreadPoolExecutor(NOTEBOOKS) as pool:
        made = list(pool.map(notebook, range(NOTEBOOKS)))
    assert sum(map(len, made)) == NOTEBOOKS * WINDOWS
    writer = vm.Writer()
    here = [list(writer(given, targets, seed(number))) for targets, number in asked]
    for number, windows in enumerate(made):
        for states, i in zip(windows, windows_of(number), strict=True):
            assert len(states) == len(here[i])
            assert all(map(equal, states, here[i]))


def test_a_walk_is_that_of_the_generator_here_and_its_session_holds_no_token(
    url, house, tour, tmp_path
):
    memory, remote = vm.begin(house.render(tour.given, 24, 32)), Remote(url, TOKEN)
    here = list(vm.walk(memory, tour.cameras[:4], generator=vm.Writer(), m=2))
    with vm.Session(tmp_path / "walk") as session:
        there = list(vm.walk(memory, tour.cameras[:4], generator=remote, m=2, session=session))
        assert all(
            equal(a, b)
            for step, other in zip(here, there, strict=True)
            for a, b in zip(step.generations, other.generations, strict=True)
        )
        assert there[-1].memory.surfels.leaves().keys() == here[-1].memory.surfels.leaves().keys()
        with pytest.raises(
            ValueError, match=r"client\.Remote.*session\.config\(generator=\.\.\.\)"
        ):
            session.config()
        assert session.config(generator=remote).generator is remote
    assert not any(TOKEN.encode() in file.read_bytes() for file in (tmp_path / "walk").rglob("*.*"))
    assert TOKEN not in repr(remote)


def test_the_command_line_walks_by_a_server(url, tmp_path, monkeypatch):
    def walk(out: str, *arguments: str) -> vm.Memory:
        common = ["walk", "house, one view", "--size", "24", "--moves", "right 30", "--m", "2"]
        options = parser().parse_args([*common, "--out", str(tmp_path / out), *arguments])
        run_walk(options, Console(), film_rows=36)
        return vm.load(tmp_path / out / "memory")

    monkeypatch.setenv("VMEMKIT_TOKEN", TOKEN)
    assert same_memory(walk("there", "--remote", url), walk("here"))
    with pytest.raises(ValueError, match="serves 'writer': choose that by --generator"):
        walk("other", "--generator", "warp", "--remote", url)


def test_windows_that_come_together_run_as_one_batch(url, log, house, tour):
    given = house.render(tour.given, NETWORK_ROWS, 24)
    asked = [(given, tour.cameras[i : i + 3], i) for i in range(8)]

    def made(window: tuple) -> Generation:
        *_, last = Remote(url, TOKEN)(*window[:2], seed(window[2]))
        return last

    with ThreadPoolExecutor(8) as pool:
        there = list(pool.map(made, asked))
    network = small()
    for state, (context, targets, number) in zip(there, asked, strict=True):
        *_, here = network(context, targets, seed(number))
        # Up to rounding: a batch may be added up in another order.
        assert torch.allclose(state.latent, here.latent, atol=1e-3)
    assert any(line.startswith("batch") for line in lines(log))


def test_a_client_that_leaves_cancels_its_window(url, log, house, tour):
    before = len(lines(log))
    states = Remote(url, TOKEN)(house.render(tour.given, SLOW_ROWS, 24), tour.cameras[:1], seed())
    next(states)
    states.close()
    wait_until(lambda: Remote(url, TOKEN).about()["windows"] == 0)
    time.sleep(0.3)
    made = len(lines(log))
    time.sleep(0.3)
    assert len(lines(log)) == made < before + SLOW_STATES


def test_a_window_whose_replica_is_killed_is_made_again_and_no_state_comes_twice(
    url, log, house, tour
):
    said: list[str] = []
    remote = Remote(url, TOKEN, tell=said.append)
    states = remote(house.render(tour.given, SLOW_ROWS, 24), tour.cameras[:1], seed())
    shades = [float(next(states).image[0, 0, 0, 0]) for _ in range(3)]
    pid = int(lines(log)[-1].removeprefix("slow "))
    os.kill(pid, signal.SIGKILL)
    shades += [float(state.image[0, 0, 0, 0]) for state in states]
    assert shades == pytest.approx([i / SLOW_STATES for i in range(SLOW_STATES)])
    assert any("has died" in line for line in said)
    assert int(lines(log)[-1].removeprefix("slow ")) != pid


def test_a_hundred_megapixels_are_refused_before_they_are_sent(url, house, tour):
    given, side = house.render(tour.given, 24, 32), 10_000
    large = torch.zeros(()).expand(1, side, side)  # without memory of its own
    image = large[:, None].expand(1, 3, side, side)
    huge = vm.Views(given.cameras, image, given.given, depth=large)
    with pytest.raises(
        ValueError, match="takes 8 megapixels a window, got 2 views of 10000 x 10000"
    ):
        list(Remote(url, TOKEN)(huge, tour.cameras[:1], seed()))
    # A client that does not ask first is refused by the length that it announces.
    connection = HTTPConnection(url.removeprefix("http://"), timeout=LIMIT)
    connection.putrequest("POST", "/windows")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", str(12 * side**2))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_an_error_of_the_generator_is_told_and_other_windows_go_on(url, house, tour):
    given, targets = house.render(tour.given, 24, 32), tour.cameras[:1]
    with pytest.raises(ValueError, match="need context views with depth"):
        list(Remote(url, TOKEN)(given.replace(depth=None), targets, seed()))
    with pytest.raises(ValueError, match="refuses this token"):
        list(Remote(url, TOKEN + "x")(given, targets, seed()))
    assert Remote(url, TOKEN).about()["generator"] == "writer"
