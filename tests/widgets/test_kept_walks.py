"""Walks of the Explorer on the disk: kept by default, opened again, and never in the way."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from core_helpers import same, tables
from disk_helpers import damage_file
from widget_helpers import H, Paints, W, ids

import vmemkit as vm
from vmemkit.scenes import Beginning
from vmemkit.widgets import Explorer, RetrievalInspector, SessionSteps, StepThrough
from vmemkit.widgets.gallery import data_uri
from vmemkit.widgets.journeys import START
from vmemkit.widgets.keeper import Keeper, slug
from vmemkit.widgets.walk_list import LISTED, walks_in

pytest.importorskip("anywidget", reason="widgets need the extra `notebook`")


@pytest.fixture
def explore(box, tmp_path, monkeypatch):
    """Makes explorers of the box, in a notebook's folder of their own."""
    monkeypatch.chdir(tmp_path)
    given = box.render(box.look(0.0, 180.0), H, W)
    examples = {"box": lambda height, seed: Beginning(given, box, "a box")}
    made = []

    def make(generator=None, **options):
        generator = generator or Paints(box)
        made.append(Explorer("box", generator, height=H, examples=examples, **options))
        return made[-1]

    yield make
    for explorer in made:
        explorer.close()


def walked(explorer, *verbs):
    for verb in verbs:
        explorer.move(verb)
        explorer.wait(30)
    return explorer


def branched(explorer):
    """right, forward and, from the first of them, left."""
    walked(explorer, "right", "forward")
    explorer.go(0)
    return walked(explorer, "left")


def kept(place: Path) -> Path:
    """The only session of a notebook's folder."""
    [folder] = (place / "sessions").iterdir()
    return folder


def pictures(explorer):
    return [row["src"] for row in explorer.tree.tree.rows]


def test_looking_leaves_nothing_and_the_first_step_begins_a_session(explore, tmp_path):
    explorer = explore()
    explorer.listing.click()
    explorer.earlier.back.click()
    assert "your steps will be kept in sessions" in explorer.tree.kept.value
    assert list(tmp_path.iterdir()) == []
    walked(explorer, "right")
    folder = kept(tmp_path)
    assert folder.name == f"{time.strftime('%Y-%m-%d')}-box"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.name != "lock")
    assert f"{size / 1e6:.1f} MB kept in sessions/{folder.name}" in explorer.tree.kept.value
    with vm.Session(folder, readonly=True) as session:
        step = explorer.value.nodes[0].step
        assert [entry.label for entry in session.tree] == ["box", "right 20"]
        assert same(tables(session.memory()), tables(step.memory))
        settings = session.entry().settings
        assert (settings["k"], settings["m"], settings["seed"]) == (4, 2, 0)
        assert settings["policy"].config.blind == "nearest"


@pytest.mark.parametrize("off", [None, False])
def test_the_off_switch_leaves_no_file(explore, tmp_path, off):
    explorer = branched(explore(session=off))
    explorer.undo.click()
    explorer.drop()
    assert list(tmp_path.iterdir()) == []
    assert explorer.tree.kept.value == ""
    assert explorer.listing.layout.display == "none"


def test_after_a_restart_the_walk_is_there_to_the_bit_and_goes_on(explore, tmp_path):
    first = branched(explore())
    first.close()
    second = explore()
    second.listing.click()
    [item] = second.earlier.gallery.items
    assert item["label"].startswith("box\n3 steps, ")
    second.earlier.gallery.picked = item["id"]
    assert second.message.text.startswith("opened ")
    assert second.earlier.layout.display == "none"
    assert second.value.at == first.value.at == 2
    assert [node.label for node in second.value.nodes] == ["right 20", "forward 0.4", "left 20"]
    for mine, theirs in zip(second.value.nodes, first.value.nodes, strict=True):
        assert mine.parent == theirs.parent
        assert torch.equal(mine.step.views.image, theirs.step.views.image)
        assert same(tables(mine.step.memory), tables(theirs.step.memory))
    assert pictures(second) == pictures(first)
    assert second.screen.src == first.screen.src
    assert torch.equal(second.value.eye.world_from_cam, first.value.eye.world_from_cam)
    assert second.beginning.scene is not None  # the truth of an example is known again
    # the next step is the one that the first explorer would have taken
    walked(second, "back")
    alone = walked(branched(explore(session=None)), "back")
    assert same(tables(second.value.memory), tables(alone.value.memory))
    second.close()
    with vm.Session(kept(tmp_path), readonly=True) as session:
        assert [entry.parent for entry in session.tree] == [None, 0, 1, 1, 3]


def test_undo_redo_and_jumps_move_the_head(explore, tmp_path):
    explorer = branched(explore())
    session = vm.Session(kept(tmp_path), readonly=True)
    assert session.head == 3
    for press, head in (
        (explorer.undo.click, 1),
        (explorer.undo.click, 0),
        (explorer.redo.click, 1),
        (explorer.redo.click, 3),  # the youngest branch
        (lambda: setattr(explorer.tree.tree, "pressed", [1, 1]), 2),
        (lambda: setattr(explorer.strip, "picked", 0), 0),
    ):
        press()
        assert session.head == head
    explorer.close()
    again = explore(session=session.folder)
    assert again.value.at == START
    assert len(again.tree.tree.rows) == 4


def test_settings_of_the_last_step_are_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"height": 24, "seed": 5}
    first = Explorer("house, one view", **options)
    first.settings.policy.value, first.settings.k.value = "temporal", 2
    first.settings.views.value = 1
    walked(first, "right").close()
    again = Explorer("house, one view", height=24, session=kept(tmp_path))
    shown = again.settings
    assert (shown.policy.value, shown.k.value, shown.views.value) == ("temporal", 2, 1)
    alone = walked(Explorer("house, one view", session=None, **options), "right")
    assert again.example.value == "house, one view"
    alone.settings.policy.value, alone.settings.k.value = "temporal", 2
    alone.settings.views.value = 1
    alone.go(START)
    for explorer in (walked(alone, "right", "left"), walked(again, "left")):
        explorer.close()
    assert same(tables(again.value.memory), tables(alone.value.memory))


def test_a_network_that_a_session_can_only_name_is_asked_for(explore, box, tmp_path):
    walked(explore(), "right").close()
    again = Explorer("house, one view", height=H, session=kept(tmp_path))
    assert "Its generator was widget_helpers.Paints" in again.message.text
    assert "generator=..." in again.message.text
    again.close()


def test_steps_are_renamed_deleted_and_brought_back(explore, tmp_path):
    explorer = branched(explore())
    panel, session = explorer.tree, vm.Session(kept(tmp_path), readonly=True)
    assert panel.name.value == "left 20"
    panel.name.value = "the wall"
    assert session.entry(3).label == "the wall"
    panel.name.value = "  "
    assert panel.name.value == "the wall"
    explorer.go(START)
    assert panel.delete.disabled
    panel.name.value = "my walk"
    assert [row["label"] for row in panel.tree.rows] == [
        "my walk",
        "right 20",
        "forward 0.4",
        "the wall",
    ]
    assert panel.bring_back.layout.display == "none"
    explorer.go(0)
    panel.delete.click()
    assert explorer.message.text.startswith("deleted 3 steps")
    assert explorer.value.at == START
    assert [entry.id for entry in session.tree] == [0]
    assert panel.bring_back.description == "bring back 3"
    panel.bring_back.click()
    assert [entry.label for entry in session.tree] == [
        "my walk",
        "right 20",
        "forward 0.4",
        "the wall",
    ]
    assert session.head == session.tree[0].id
    assert panel.bring_back.layout.display == "none"
    images = [node.step.views.image for node in explorer.value.nodes]
    explorer.close()
    again = explore(session=session.folder)
    assert [node.parent for node in again.value.nodes] == [START, 0, 0]
    for node, image in zip(again.value.nodes, images, strict=True):
        assert torch.equal(node.step.views.image, image)


def test_each_start_is_a_walk_of_its_own_and_all_are_listed(explore, tmp_path):
    explorer = walked(explore(), "right")
    explorer.folder.value = str(tmp_path / "saved")
    explorer.file("save")
    explorer.file("load")
    walked(explorer, "left")
    damaged = tmp_path / "sessions" / "0-damaged"
    shutil.copytree(tmp_path / "sessions" / f"{time.strftime('%Y-%m-%d')}-box", damaged)
    (damaged / "journal").write_bytes(b"no journal")
    (tmp_path / "sessions" / "notes").mkdir()
    explorer.listing.click()
    labels = [item["label"] for item in explorer.earlier.gallery.items]
    assert [label.split("\n")[0] for label in labels] == ["a saved memory", "box", "0-damaged"]
    assert labels[2].endswith("cannot be opened")
    last = explorer.value.nodes[0].step.views.image[-1]
    assert explorer.earlier.gallery.items[0]["src"] == data_uri(last)
    before = explorer.value
    explorer.earlier.gallery.picked = 2
    assert "not the journal of a session" in explorer.message.text
    explorer.earlier.gallery.picked = 0
    assert "is the walk that you see" in explorer.message.text
    assert explorer.value is before
    assert explorer.earlier.layout.display == "none"


def test_the_list_shows_the_newest_walks(explore, tmp_path):
    explorer = walked(explore(), "right")
    folder = kept(tmp_path)
    for number in range(LISTED):
        shutil.copytree(folder, folder.with_name(f"{folder.name}-{number + 2}"))
    explorer.listing.click()
    assert len(explorer.earlier.gallery.items) == LISTED
    assert f"the newest {LISTED} of {LISTED + 1}" in explorer.earlier.about.value
    assert walks_in(tmp_path / "nowhere") == []


def test_earlier_walks_are_deleted_after_a_question(explore, tmp_path):
    place = tmp_path / "sessions"
    walked(explore(), "right").close()
    explorer = walked(explore(), "left")
    old, mine = sorted(place.iterdir())
    notes = place / "notes"
    notes.mkdir()
    earlier = explorer.earlier
    explorer.listing.click()
    names = [walk.folder for walk in earlier.value]
    earlier.deleting.value = True
    earlier.gallery.picked = names.index(old)
    assert "Delete <b>box</b> (1 step, " in earlier.question.value
    assert earlier.asking.layout.display == ""
    earlier.no.click()
    assert (old.is_dir(), earlier.asking.layout.display) == (True, "none")
    earlier.gallery.picked = names.index(old)
    earlier.yes.click()
    assert explorer.message.text == f"deleted {old.name}"
    assert sorted(place.iterdir()) == [mine, notes]
    assert [walk.folder for walk in earlier.value] == [mine]
    earlier.gallery.picked = 0
    earlier.yes.click()
    assert "is the walk that you see" in explorer.message.text
    assert len(vm.Session(mine, readonly=True).tree) == 2
    earlier.back.click()
    explorer.listing.click()
    assert not earlier.deleting.value  # a click opens again


def test_only_walks_that_nobody_has_open_are_deleted_and_only_from_the_own_folder(
    explore, tmp_path
):
    explorer = walked(explore(), "right")
    [mine] = (tmp_path / "sessions").iterdir()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(mine, elsewhere)
    explorer.delete_session(elsewhere)
    assert "is not one of the walks that are kept" in explorer.message.text
    link = mine.with_name("link")
    link.symlink_to(elsewhere, target_is_directory=True)
    explorer.delete_session(link)
    assert "there is no session in" in explorer.message.text
    open_one = mine.with_name("open")
    shutil.copytree(mine, open_one)
    with vm.Session(open_one):
        explorer.delete_session(open_one)
    assert "this process writes to the session" in explorer.message.text
    (open_one / "thesis.tex").write_text("mine")
    explorer.delete_session(open_one)
    assert "holds other files, too, such as thesis.tex" in explorer.message.text
    assert all(len(vm.Session(folder, readonly=True).tree) == 2 for folder in (elsewhere, open_one))
    (open_one / "thesis.tex").unlink()
    (open_one / "journal").write_bytes(b"damaged")
    explorer.delete_session(open_one)
    assert not open_one.exists()


# ---- disks ---------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_the_walk_goes_on_and_is_kept_when_there_is_room(
    explore, tmp_path, monkeypatch
):
    explorer, real = walked(explore(), "right"), os.fsync

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    walked(explorer, "forward", "left")
    words = explorer.message.text
    assert words.startswith(
        "The walk goes on in memory, because the disk does not keep it: No space"
    )
    assert len(explorer.value.nodes) == 3
    assert explorer.tree.kept.value.count("2 steps in memory alone") == 2  # text and tooltip
    explorer.undo.click()
    assert "No space" in explorer.message.text
    assert explorer.value.at == 1
    monkeypatch.setattr(os, "fsync", real)
    explorer.redo.click()
    assert "alone" not in explorer.tree.kept.value
    assert explorer.message.text == ""
    explorer.close()
    again = explore(session=kept(tmp_path))
    assert same(tables(again.value.memory), tables(explorer.value.memory))


def test_a_session_that_finds_no_room_at_its_beginning_leaves_no_folder(
    explore, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    explorer = explore()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        walked(explorer, "right")
        assert "No space left" in explorer.message.text
        assert list((tmp_path / "sessions").iterdir()) == []
    walked(explorer, "right")
    assert len(vm.Session(kept(tmp_path), readonly=True).tree) == 3


def test_a_folder_that_is_deleted_is_told_and_the_walk_goes_on(explore, tmp_path):
    explorer = walked(explore(), "right")
    shutil.rmtree(tmp_path / "sessions")
    walked(explorer, "forward")
    assert "goes on in memory" in explorer.message.text
    assert "-box is gone. Each step tries again" in explorer.message.text
    assert "2 steps in memory alone; your steps" in explorer.tree.kept.value
    explorer.listing.click()
    assert "There are none yet" in explorer.earlier.about.value
    walked(explorer, "left")  # begins a new one, with all steps
    assert len(vm.Session(kept(tmp_path), readonly=True).tree) == 4


@pytest.mark.parametrize("damage", ["shorten", "replace", "delete"])
def test_a_journal_that_is_damaged_while_it_is_open_is_told_and_the_walk_goes_on(
    explore, tmp_path, damage
):
    explorer = walked(explore(), "right")
    journal = kept(tmp_path) / "journal"
    damage_file(journal, damage)
    walked(explorer, "left")
    assert "another program has deleted, replaced or shortened" in explorer.message.text
    assert "1 step in memory alone" in explorer.tree.kept.value
    assert len(explorer.value.nodes) == 2


def test_a_session_that_is_closed_meanwhile_is_told(explore, tmp_path):
    session = vm.Session(tmp_path / "mine")
    explorer = walked(explore(session=session), "right")
    session.close()
    walked(explorer, "left")
    assert "the session is closed" in explorer.message.text
    assert len(explorer.value.nodes) == 2


# ---- who holds a session -------------------------------------------------------------------------


HOLD = """
import sys, vmemkit as vm
session = vm.Session(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_walk_that_another_process_holds_is_shown_and_goes_on_as_a_copy(explore, tmp_path):
    first = branched(explore())
    first.close()
    folder = kept(tmp_path)
    command = [sys.executable, "-c", HOLD, str(folder)]
    path = os.pathsep.join(filter(None, sys.path))
    holder = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert holder.stdout.readline() == b"open\n"
        second = explore(session=folder)
        assert f"process {holder.pid} on " in second.message.text
        assert "Steps from here are kept in a copy" in second.message.text
        assert pictures(second) == pictures(first)
        second.go(0)
        second.go(2)
        assert kept(tmp_path) == folder  # looking around makes no copy
        walked(second, "back")
        assert second.message.text.startswith("back 0.4")
    finally:
        holder.communicate(b"")
    assert len(vm.Session(folder, readonly=True).tree) == 4
    with vm.Session(folder.with_name(f"{folder.name}-2"), readonly=True) as copy:
        assert [entry.parent for entry in copy.tree] == [None, 0, 1, 1, 3]
        assert same(tables(copy.memory()), tables(second.value.memory))


def test_an_explorer_takes_a_walk_over_from_another_in_the_same_notebook(explore, tmp_path):
    first = walked(explore(), "right")
    folder = kept(tmp_path)
    second = explore()
    second.open_session(folder)
    assert second.message.text.startswith("opened ")
    walked(second, "left")
    first.undo.click()
    first.redo.click()
    assert kept(tmp_path) == folder
    walked(first, "back")  # is kept in a copy from now on
    assert [entry.label for entry in vm.Session(folder, readonly=True).tree] == [
        "box",
        "right 20",
        "left 20",
    ]
    copy = vm.Session(folder.with_name(f"{folder.name}-2"), readonly=True)
    assert [entry.label for entry in copy.tree] == ["box", "right 20", "back 0.4"]


def test_a_walk_that_was_left_is_opened_elsewhere_without_taking_another_one(explore, tmp_path):
    first = walked(explore(), "right")
    folder = kept(tmp_path)
    first.folder.value = str(tmp_path / "saved")
    first.file("save")
    first.file("load")
    walked(first, "left")
    second = explore()
    second.open_session(folder)
    assert second.message.text.startswith("opened ")
    walked(first, "right")  # in its own session still
    assert len(list((tmp_path / "sessions").iterdir())) == 2
    assert "in memory alone" not in first.tree.kept.value


def test_a_session_of_the_caller_stays_with_its_explorer(explore, tmp_path):
    with vm.Session(tmp_path / "mine") as session:
        walked(explore(session=session), "right")
        first, second = explore(session=session), explore()
        second.open_session(tmp_path / "mine")
        assert "Steps from here are kept in a copy" in second.message.text
        walked(first, "left")
        assert len(session.tree) == 3


def test_a_session_or_a_folder_can_be_given(explore, tmp_path):
    session = vm.Session(tmp_path / "mine")
    explorer = walked(explore(session=session), "right")
    assert len(session.tree) == 2
    explorer.close()
    session.undo()  # it is the caller's, and still open
    again = explore(session=session)
    assert (again.value.at, len(again.value.nodes)) == (START, 1)
    walked(explore(session="other"), "right")
    assert len(vm.Session(tmp_path / "other", readonly=True).tree) == 2
    assert not (tmp_path / "sessions").exists()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "letter.txt").write_text("")
    with pytest.raises(ValueError, match="there is no session in"):
        explore(session=tmp_path / "files")


@pytest.mark.usefixtures("as_installed")
def test_what_is_no_session_is_refused(explore):
    with pytest.raises(ValueError, match="needs a Session, a folder"):
        explore(session=3)


def test_of_several_beginnings_that_of_the_head_is_shown(explore, box, tmp_path):
    walked(explore(session="two"), "right").close()
    with vm.Session("two") as session:
        session.begin(box.memory(0.0, 40.0, 180.0), "another")
    explorer = explore(session="two")
    assert "it has 2 beginnings, and that of its head is shown" in explorer.message.text
    assert [row["label"] for row in explorer.tree.tree.rows] == ["another"]
    walked(explorer, "left")
    explorer.close()
    with vm.Session("two", readonly=True) as session:
        assert [entry.parent for entry in session.tree] == [None, 0, None, 2]


def test_visitors_keep_walks_in_a_temporary_folder(explore, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    explorer = explore(shared=True)
    assert "your steps will be kept until the page is closed" in explorer.tree.kept.value
    assert list(tmp_path.iterdir()) == []
    walked(explorer, "right")
    [place] = tmp_path.iterdir()
    assert place.name.startswith("vmemkit-walks-")
    assert str(tmp_path) not in explorer.tree.kept.value
    explorer.listing.click()
    assert len(explorer.earlier.gallery.items) == 1
    explorer.close()
    assert list(tmp_path.iterdir()) == []


def test_what_visitors_keep_is_limited(explore):
    explorer, keeper = walked(explore(session=None), "right"), Keeper(None, True, most=1000)
    keeper.keep(explorer.value)
    walked(explorer, "left")
    with pytest.raises(ValueError, match=r"keeps 0\.001 MB of walks, and they are used"):
        keeper.keep(explorer.value)
    assert "1 step in memory alone" in keeper.words(explorer.value)
    keeper.close()


def test_folders_are_named_so_that_every_system_can_have_them():
    assert slug("house, one view") == "house-one-view"
    assert slug("../../Ä b/c") == "b-c"
    assert slug("…") == "walk"
    assert len(slug("x" * 300)) == 40
    assert not Keeper(None).keeps


# ---- steps in other widgets ----------------------------------------------------------------------


def test_any_step_of_a_session_can_be_gone_through_and_inspected(explore, tmp_path):
    explorer = branched(explore())
    folder = kept(tmp_path)
    steps = SessionSteps(folder)
    assert [label for label, _ in steps.node.options] == [
        "1: right 20",
        "2: forward 0.4",
        "3: left 20",
    ]
    assert steps.node.value == 3
    steps.node.value = 2
    stepper, taken = steps.value, explorer.value.nodes[1].step
    assert isinstance(stepper, StepThrough)
    stepper.finish()
    assert ids(stepper.panels["retrieve"].gallery) == taken.retrieval.chosen.tolist()
    stepper.press()
    assert same(tables(stepper.memory), tables(taken.memory))
    assert torch.equal(stepper.value[0].views.image, taken.views.image)
    stepper.undo.click()  # it can be seen again
    stepper.finish()
    assert ids(stepper.panels["generate"].gallery) == [4, 5]
    inspectors = SessionSteps(vm.Session(folder, readonly=True), RetrievalInspector.of)
    inspector = inspectors.value
    taken = explorer.value.nodes[2].step
    assert inspector.value["coverage"].chosen.tolist() == taken.retrieval.chosen.tolist()
    assert torch.equal(inspector.query_targets.world_from_cam, taken.targets.world_from_cam)
    explorer.go(1)
    broken = SessionSteps(folder)
    (folder / "tensors" / "00000003.safetensors").write_bytes(b"damaged")
    before = broken.value
    broken.node.value = 3
    assert "00000003.safetensors is missing or damaged" in broken.message.text
    assert broken.value is before


def test_a_session_without_steps_has_none_to_show(tmp_path, box):
    with vm.Session(tmp_path / "new") as session:
        session.begin(box.memory(0.0))
        with pytest.raises(ValueError, match="has no step yet"):
            SessionSteps(session)
