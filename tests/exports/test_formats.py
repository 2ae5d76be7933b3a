"""Formats by name, and disks without room."""

from __future__ import annotations

import pytest
from disk_helpers import files_up_to

from vmemkit.exports import FORMATS, export, find_format

NAMES = {
    **dict.fromkeys(("colmap", "nerfstudio"), "folder"),
    **{name: f"a.{name}" for name in ("ply", "glb", "mp4", "gif", "html")},
    "lyra": "a.npz",
    "realestate10k": "a.txt",
    "tum": "a.txt",
}
OPTIONS = {name: {"rows": 24} for name in ("mp4", "gif")}  # larger films take seconds


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_by_its_name(name, memory, steps, tmp_path):
    export(name, memory, steps, tmp_path / NAMES[name], **OPTIONS.get(name, {}))
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[name]]


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_an_error_in_words_and_leaves_nothing(name, memory, steps, tmp_path):
    path = tmp_path / NAMES[name]
    with files_up_to(100), pytest.raises(OSError, match="was not written, because of the disk"):
        export(name, memory, steps, path, **OPTIONS.get(name, {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_in_the_way_is_refused(name, memory, steps, tmp_path):
    path = tmp_path / NAMES[name]
    path.mkdir()
    (path / "theirs.txt").write_text("x")
    with pytest.raises(ValueError, match="cannot write"):
        export(name, memory, steps, path, **OPTIONS.get(name, {}))
    assert (path / "theirs.txt").read_text() == "x"


def test_an_unknown_name_lists_the_formats():
    with pytest.raises(ValueError, match="no format 'usd'") as caught:
        find_format("usd")
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(FORMATS)


def test_options_belong_to_their_format(memory, tmp_path):
    export("glb", memory, [], tmp_path / "a.glb", points=True)
    with pytest.raises(ValueError, match="tum has no option 'points'"):
        export("tum", memory, [], tmp_path / "a.txt", points=True)


@pytest.mark.parametrize("name", ["mp4", "gif", "html"])
def test_formats_of_walks_need_steps(name, memory, tmp_path):
    with pytest.raises(ValueError, match="keep the walk in a session"):
        export(name, memory, [], tmp_path / NAMES[name])
