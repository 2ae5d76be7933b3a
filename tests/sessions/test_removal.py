"""Removal: a session goes with all its files, and nothing that is not its own."""

import pytest
from session_helpers import BOX

from vmemkit.sessions import Session, delete_session, is_session


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "walk"
    with Session(folder) as session:
        session.begin(BOX.memory(0.0))
    return folder


def test_a_session_is_deleted_with_its_folder_and_unfinished_files(folder):
    (folder / ".writing-abc").mkdir()
    (folder / ".writing-abc" / "journal").write_bytes(b"half of")
    assert is_session(folder)
    delete_session(folder)
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(ValueError, match="there is no session in"):
        delete_session(folder)


def test_a_session_that_is_open_stays_whole(folder):
    with Session(folder), pytest.raises(ValueError, match="this process writes to the session"):
        delete_session(folder)
    with Session(folder, readonly=True) as session:
        assert len(session.memory()) == 1


@pytest.mark.parametrize("name", ["lock", "tensors", "notes.txt"])
def test_links_and_files_of_others_are_refused_and_left_alone(folder, tmp_path, name):
    other = tmp_path / "other"
    if name == "tensors":
        (folder / name).rename(other)
    else:
        other.write_text("mine")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(other)
    with pytest.raises(ValueError, match=f"holds other files, too, such as {name}"):
        delete_session(folder)
    assert is_session(folder)
    assert len(list(other.iterdir())) == 1 if name == "tensors" else other.read_text() == "mine"


def test_a_link_to_a_session_is_no_session_to_delete(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    with pytest.raises(ValueError, match="there is no session in"):
        delete_session(link)
    assert is_session(folder)
