"""Walks that a session keeps, on the command line."""

from __future__ import annotations

import pytest
from core_helpers import same, tables
from generator_helpers import small
from rich.console import Console

from vmemkit.cli import main
from vmemkit.cli.commands import parser
from vmemkit.cli.sessions import run_resume, tree_table
from vmemkit.cli.walk import run_walk
from vmemkit.memory import load
from vmemkit.sessions import Session

pytestmark = pytest.mark.usefixtures("as_installed")  # shape checks would take half of the time


@pytest.fixture
def walked(picture, tmp_path) -> str:
    """The folder of a session of two steps."""
    folder = str(tmp_path / "session")
    how = ["--moves", "right 30", "--m", "1", "--generator", "warp", "--session", folder]
    assert main(["walk", *picture, *how, "--out", str(tmp_path / "out")]) == 0
    return folder


def test_a_walk_is_kept_step_by_step(walked, tmp_path):
    with Session(walked, readonly=True) as session:
        assert [entry.moved for entry in session.tree] == ["", "right 15.0", "right 15.0"]
        assert same(tables(session.memory()), tables(load(tmp_path / "out" / "memory")))


def test_a_walk_goes_on_with_the_stored_settings(walked, picture, tmp_path, printed):
    assert main(["resume", walked, "--moves", "left 15, forward 0.25"]) == 0
    assert "2 steps were added" in printed()
    how = ["--moves", "right 30, left 15, forward 0.25", "--m", "1", "--generator", "warp"]
    assert main(["walk", *picture, *how, "--out", str(tmp_path / "whole")]) == 0
    with Session(walked, readonly=True) as session:
        assert same(tables(session.memory()), tables(load(tmp_path / "whole" / "memory")))
        assert session.entry().settings["m"] == 1


def test_a_branch_is_shown_below_the_way_that_it_left(walked, printed):
    assert main(["resume", walked, "--moves", "left 30", "--at", "1"]) == 0
    with Session(walked) as session:
        session.rename(4, "the window [red]")
        table = tree_table(session.tree, session.head)
    assert [str(cell).rstrip() for cell in table.columns[0].cells] == [
        *(" 0", " 1", " 2", "   3 from 1", "*  4")
    ]
    assert main(["show", walked]) == 0
    text = printed()
    assert "the window [red]: left 15.0" in text
    assert "4 steps, 2 branches, at 4" in text


def test_a_session_that_holds_a_walk_is_not_walked_into(walked, picture, tmp_path, printed):
    how = ["--session", walked, "--out", str(tmp_path / "other")]
    assert main(["walk", *picture, *how]) == 2
    assert f"vmemkit resume {walked}" in printed()
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("command", [["resume", "--moves", "left 15"], ["show"]])
def test_a_folder_without_a_session_is_refused(command, tmp_path, printed):
    name, *rest = command
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    assert main([name, str(tmp_path), *rest]) == 2
    assert "session" in printed()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (["--at", "9"], "no node 9"),
        (["--moves", "jump 3"], "jump"),
        (["--moves", "jump 3", "--at", "1"], "jump"),
    ],
)
def test_bad_ways_on_are_refused_and_change_nothing(how, message, walked, printed):
    assert main(["resume", walked, "--moves", "left 15", *how]) == 2
    assert message in printed()
    with Session(walked, readonly=True) as session:
        assert (len(session.tree), session.head) == (3, 2)


def test_networks_are_asked_for_again(picture, tmp_path, printed):
    def run(command, arguments):
        options = parser().parse_args(arguments)
        command(options, Console(), load_generator=lambda *_, **__: small())

    folder, out = str(tmp_path / "session"), str(tmp_path / "out")
    how = ["--generator", "vmem", "--size", "64", "--moves", "right 15", "--session", folder]
    run(run_walk, ["walk", *picture, *how, "--out", out])
    assert main(["resume", folder, "--moves", "left 15"]) == 2
    text = printed()
    assert "WithDepth, weights" in text
    assert "choose it by --generator" in text
    run(run_resume, ["resume", folder, "--moves", "left 15", "--generator", "vmem"])
    assert "1 steps were added" in printed()
