"""`vmemkit export` of sessions and of saved memories."""

from __future__ import annotations

import numpy as np
import pytest
from session_helpers import begin, path, walk

from vmemkit.cli import main
from vmemkit.exports import FORMATS
from vmemkit.memory import save
from vmemkit.sessions import Session

pytestmark = pytest.mark.usefixtures("as_installed")


@pytest.fixture
def folder(tmp_path) -> str:
    """A session of two steps, and a branch from the first one."""
    folder = str(tmp_path / "session")
    with Session(folder) as session:
        list(walk(begin(), path(30.0, 60.0), session=session))
        list(walk(session.memory(1), path(-30.0, 10.0, 20.0), session=session))
    return folder


@pytest.mark.parametrize("arguments", [[], ["--to"], ["DIR", "--to"]])
def test_formats_are_listed_with_a_line_each(arguments, printed):
    assert main(["export", *arguments]) == 0
    text = printed()
    assert all(f"{name} {format.about}" in text for name, format in FORMATS.items())


def test_an_unknown_format_is_refused_and_the_known_ones_listed(folder, tmp_path, printed):
    assert main(["export", folder, "--to", "usd", "--out", str(tmp_path / "a")]) == 2
    text = printed()
    assert "no format 'usd'" in text
    assert "nerfstudio" in text


def test_a_session_is_exported_from_where_it_stands_or_from_a_node(folder, tmp_path, printed):
    for at, count in ([], 5), (["--at", "2"], 3), (["--at", "0"], 1):
        out = tmp_path / f"{count}.txt"
        assert main(["export", folder, "--to", "tum", "--out", str(out), *at]) == 0
        assert len(np.loadtxt(out, ndmin=2)) == count
    assert "3.txt: Memory(views=3" in printed()


def test_a_saved_memory_is_exported(tmp_path, printed):
    save(begin(), tmp_path / "memory")
    out = ["--out", str(tmp_path / "model")]
    assert main(["export", str(tmp_path / "memory"), "--to", "colmap", *out, "--least", "2"]) == 0
    assert "1 images, 0 points" in printed()
    assert (tmp_path / "model" / "sparse" / "0" / "points3D.txt").is_file()
    assert main(["export", str(tmp_path / "memory"), "--to", "html", *out]) == 2
    assert "keep the walk in a session" in printed()
    assert main(["export", str(tmp_path / "memory"), "--to", "ply", "--at", "1", *out]) == 2
    assert "leave --at out" in printed()


def test_a_page_is_written_of_the_steps_to_a_node(folder, tmp_path, printed):
    out = str(tmp_path / "walk.html")
    assert main(["export", folder, "--to", "html", "--out", out, "--at", "2"]) == 0
    assert "walk.html: 2 steps" in printed()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "ply"], "--out"),
        (["--to", "ply", "--out", "a.txt"], ".ply"),
        (["--to", "ply", "--out", "a.ply", "--points"], "no option 'points'"),
        (["--to", "ply", "--out", "a.ply", "--at", "9"], "no node 9"),
        (["--to", "colmap", "--out", "a", "--least", "0"], "least"),
    ],
)
def test_bad_arguments_are_refused_in_a_line(
    arguments, message, folder, printed, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", folder, *arguments]) == 2
    assert message in printed()
    assert [entry.name for entry in tmp_path.iterdir()] == ["session"]


def test_a_folder_of_other_things_is_refused(tmp_path, printed):
    assert main(["export", str(tmp_path), "--to", "ply", "--out", str(tmp_path / "a.ply")]) == 2
    assert "no session" in printed()
