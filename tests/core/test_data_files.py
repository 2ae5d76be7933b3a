"""Files that ship with the package are found in a clone and in an installed wheel."""

from __future__ import annotations

import pytest

from vmemkit.core import data_file


def test_the_photographs_are_found():
    for name in ("README.md", "st_fagans_interior_1k.jpg", "cycles_left.png"):
        assert data_file(name).is_file()


def test_a_missing_file_is_named_with_the_way_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"hall\.jpg is not in .*: install vmemkit from its wheel"):
        data_file("hall.jpg", [tmp_path])


def test_the_first_folder_that_has_it_wins(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(name)
    assert data_file("x.txt", [tmp_path / "a", tmp_path / "b"]).read_text() == "a"
