"""Nothing is lost: kills, torn tails, full disks, several processes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from disk_helpers import damage_file, files_up_to
from session_helpers import begin, parts, some_yaws, walk

from vmemkit.pipeline import Step
from vmemkit.sessions import Session

pytestmark = [
    pytest.mark.usefixtures("as_installed"),  # shape checks would take most of the time
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix"),
]
LONG = 400  # steps: no child takes so many before it is killed


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return list(walk(begin(), some_yaws(8)))


def kept_in(folder: Path, steps: list[Step]) -> Session:
    """A session that holds these steps, open for writing."""
    session = Session(folder)
    for step in steps:
        session.add(step)
    return session


def check(folder: Path, steps: list[Step]) -> None:
    """The session holds these steps and nothing else, to the bit."""
    with Session(folder, readonly=True) as session:
        assert [parts(step) for step in session.steps()] == [parts(step) for step in steps]


def mended(folder: Path, note: str) -> Session:
    """The session, open for writing, which says what it has mended."""
    with pytest.warns(UserWarning, match=note):
        return Session(folder)


def forked(task: Callable[[int], None]) -> tuple[int, int]:
    """A child process that runs `task` with the number of a pipe; its process, and the pipe's end."""
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            os.close(end)
            task(start)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(start)
    return child, end


def read_all(end: int) -> bytes:
    with os.fdopen(end, "rb") as pipe:
        return pipe.read()


# ---- kills ---------------------------------------------------------------------------------------


def killed_walks(folder: Path, kills: int, seed: int) -> int:
    """Walks in children that are killed at random moments; returns how many steps they had reported.

    After each kill the session opens, and holds every step that was reported, and at most one more.
    """
    rng, reported = random.Random(seed), 0
    cameras = some_yaws(LONG, seed)

    def walk_on(pipe: int) -> None:
        with Session(folder) as session:
            first = len(session.tree) - 1
            for _ in walk(session.memory(), cameras[first:], session=session):
                os.write(pipe, b"%d\n" % session.head)

    with Session(folder) as session:
        session.begin(begin())
    for _ in range(kills):
        child, end = forked(walk_on)
        told = os.read(end, 100) if rng.random() < 0.5 else b""  # half of them after a step
        time.sleep(rng.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        heads = [int(line) for line in (told + read_all(end)).split()]
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # opening says that a torn record was cut off
            session = Session(folder)
        with session:
            known = [entry.id for entry in session.tree]
            reported = max([reported, *heads])
            assert known == list(range(len(known)))
            assert reported <= known[-1] <= reported + 1
            reported = known[-1]
    again = walk(begin(), cameras[:reported])
    with Session(folder, readonly=True) as session:
        for ours, theirs in zip(session.steps(), again, strict=True):
            assert parts(replace(ours, seconds={})) == parts(replace(theirs, seconds={}))
    return reported


def test_no_kill_loses_a_step_that_was_reported(tmp_path):
    assert killed_walks(tmp_path, 20, 0) >= 10


@pytest.mark.slow
def test_no_kill_of_many_loses_a_step_that_was_reported(tmp_path):
    for seed in range(1, 16):
        assert killed_walks(tmp_path / str(seed), 20, seed) >= 10


# ---- torn tails ----------------------------------------------------------------------------------


def test_a_journal_cut_at_any_byte_of_its_last_records_opens(steps, tmp_path):
    with kept_in(tmp_path, steps[:3]) as session:
        begin_of_step = session.entry().offset
        begin_of_head = (tmp_path / "journal").stat().st_size
        session.undo()
    journal = tmp_path / "journal"
    whole = journal.read_bytes()
    ends = []
    for length in range(len(whole) - 1, begin_of_step - 1, -1):
        journal.write_bytes(whole[:length])
        with Session(tmp_path, readonly=True) as reader:
            ends.append((len(reader.tree), reader.head))
            assert reader.notes == ()
    assert set(ends) == {(3, 2), (4, 3)}
    for length in range(begin_of_step, len(whole), 97):
        journal.write_bytes(whole[:length])
        torn = length not in (begin_of_step, begin_of_head)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Session(tmp_path) as session:
                assert len(session.notes) == len(caught) == torn
                assert all("torn record" in note for note in session.notes)
                assert len(session.tree) in (3, 4)
                assert session.go(2) == 2
        with Session(tmp_path, readonly=True) as reader:
            assert parts(reader.step(2)) == parts(steps[1])


def test_a_cut_session_goes_on(steps, tmp_path):
    kept_in(tmp_path, steps[:3]).close()
    journal = tmp_path / "journal"
    journal.write_bytes(journal.read_bytes()[:-5])
    with mended(tmp_path, "torn record") as session:
        assert session.head == 2
        session.add(steps[2])
    check(tmp_path, steps[:3])


@pytest.mark.parametrize("garbage", [bytes(1), bytes(5000), b"\xffVMR" + bytes(100), b"\xff" * 30])
def test_what_a_power_cut_leaves_behind_the_end_is_cut_off(garbage, steps, tmp_path):
    kept_in(tmp_path, steps[:2]).close()
    with (tmp_path / "journal").open("ab") as file:
        file.write(garbage)
    check(tmp_path, steps[:2])  # a reader ignores it
    with mended(tmp_path, f"{len(garbage)} bytes") as session:
        session.add(steps[2])
    check(tmp_path, steps[:3])


def test_last_steps_whose_tensors_are_lost_are_cut_off(steps, tmp_path):
    kept_in(tmp_path, steps[:4]).close()
    for node in (3, 4):
        (tmp_path / "tensors" / f"0000000{node}.safetensors").unlink()
    check(tmp_path, steps[:2])
    with mended(tmp_path, r"cut off: \[3, 4\]") as session:
        assert session.head == 2
        for step in steps[2:5]:
            session.add(step)
    check(tmp_path, steps[:5])


def test_a_session_whose_tensors_were_not_copied_is_kept_as_it_is(steps, tmp_path):
    kept_in(tmp_path / "a", steps[:2]).close()
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "journal", tmp_path / "b" / "journal")
    for readonly in (True, False):
        with pytest.raises(ValueError, match="copy them, too"):
            Session(tmp_path / "b", readonly=readonly)
    shutil.copytree(tmp_path / "a" / "tensors", tmp_path / "b" / "tensors", dirs_exist_ok=True)
    check(tmp_path / "b", steps[:2])


def test_a_lost_step_in_the_middle_is_named_when_it_is_asked_for(steps, tmp_path):
    kept_in(tmp_path, steps[:4]).close()
    (tmp_path / "tensors" / "00000002.safetensors").unlink()
    with Session(tmp_path) as session:
        assert parts(session.step(1)) == parts(steps[0])
        for node in (2, 3, 4):
            with pytest.raises(ValueError, match=r"00000002\.safetensors is missing"):
                session.step(node)


def test_damage_in_the_middle_is_an_error_that_says_where(steps, tmp_path):
    with kept_in(tmp_path, steps[:4]) as session:
        offset = session.entry(2).offset
    journal = tmp_path / "journal"
    whole = journal.read_bytes()
    for place in (offset, offset + 5, offset + 9, offset + 500):
        journal.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for readonly in (True, False):
            with pytest.raises(ValueError, match=f"journal is damaged at byte {offset}"):
                Session(tmp_path, readonly=readonly)
    journal.write_bytes(whole)
    check(tmp_path, steps[:4])


def test_what_killed_writers_left_is_swept(steps, tmp_path):
    kept_in(tmp_path, steps[:2]).close()
    draft = tmp_path / "tensors" / ".writing-abc"
    draft.mkdir()
    (draft / "00000003.safetensors").write_bytes(b"half")
    Session(tmp_path).close()
    assert sorted(path.suffix for path in (tmp_path / "tensors").iterdir()) == [".safetensors"] * 3


# ---- full disks ----------------------------------------------------------------------------------


def refused(session: Session, step: Step, count: int) -> None:
    """The step is refused in one sentence, and nothing of it shows."""
    with pytest.raises(OSError, match=r"was not stored, because .* cannot be written") as caught:
        session.add(step)
    assert "\n" not in str(caught.value)
    assert len(session.tree) == count + 1
    check(session.folder, list(session.steps()))
    assert len(list((session.folder / "tensors").iterdir())) == count + 1


@pytest.mark.parametrize("place", ["tensors", "journal"])
def test_a_step_that_finds_no_room_is_refused_and_the_session_goes_on(place, steps, tmp_path):
    with kept_in(tmp_path, steps[:5]) as session:
        size = 4096 if place == "tensors" else (tmp_path / "journal").stat().st_size + 1000
        assert session.entry().size < (tmp_path / "journal").stat().st_size
        with files_up_to(size):
            for _ in range(2):
                refused(session, steps[5], 5)
        for step in steps[5:]:
            session.add(step)
    check(tmp_path, steps)


@pytest.mark.parametrize("call", ["fsync", "write", "replace", "mkdir"])
def test_a_failure_of_any_call_of_the_system_refuses_the_step_only(
    call, steps, tmp_path, monkeypatch
):
    real, failures = getattr(os, call), 0
    with kept_in(tmp_path, steps[:2]) as session:
        for number in range(1, 10):
            calls = []

            def fail(*arguments, calls=calls, number=number, **options):
                calls.append(arguments)
                if len(calls) == number:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*arguments, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, call, fail)
                try:
                    session.add(steps[2])
                    break
                except OSError as error:
                    words = str(error)
            assert "No space left" in words
            failures += 1
            check(tmp_path, steps[:2])
            assert session.head == 2
        assert failures == (3 if call == "fsync" else 1)
    check(tmp_path, steps[:3])


@pytest.mark.parametrize("damage", ["shorten", "replace", "delete"])
def test_a_journal_that_another_program_damages_is_not_written_to(damage, steps, tmp_path):
    journal = tmp_path / "journal"
    with kept_in(tmp_path, steps[:2]) as session:
        damage_file(journal, damage)
        left = journal.read_bytes() if journal.exists() else b""
        with pytest.raises(OSError, match="deleted, replaced or shortened its journal"):
            session.add(steps[2])
        with pytest.raises(OSError, match="deleted, replaced or shortened its journal"):
            session.undo()
        assert session.head == 2
    assert (journal.read_bytes() if journal.exists() else b"") == left


def test_a_step_that_is_interrupted_is_not_there(steps, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with kept_in(tmp_path, steps[:2]) as session:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", stop)
            with pytest.raises(KeyboardInterrupt):
                session.add(steps[2])
        check(tmp_path, steps[:2])
        session.add(steps[2])
    check(tmp_path, steps[:3])


def test_a_step_that_is_interrupted_at_the_last_moment_is_not_there(steps, tmp_path, monkeypatch):
    with kept_in(tmp_path, steps[:2]) as session:
        with monkeypatch.context() as patch:

            def stop(*_):  # after the record was written
                patch.undo()
                raise KeyboardInterrupt

            patch.setattr(type(session._nodes), "apply", stop)
            with pytest.raises(KeyboardInterrupt):
                session.add(steps[2])
        check(tmp_path, steps[:2])
        session.add(steps[2])
    check(tmp_path, steps[:3])


def test_a_head_that_cannot_be_stored_stays_where_it_was(steps, tmp_path):
    with kept_in(tmp_path, steps[:2]) as session:
        with files_up_to(1), pytest.raises(OSError, match="the change was not stored"):
            session.undo()
        assert session.head == 2
        assert session.undo() == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_compacting_that_fails_changes_nothing(call, steps, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with kept_in(tmp_path, steps[:3]) as session:
        session.delete(3)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(OSError, match="No space left"):
                session.compact()
        assert session.head == 2
        assert session.add(steps[2]) == 4
        session.compact()
    check(tmp_path, steps[:3])


# ---- several processes ---------------------------------------------------------------------------


def test_the_target_of_a_link_is_not_overwritten(steps, tmp_path):
    with Session(tmp_path / "walk") as session:
        session.begin(steps[0].before)
    target = tmp_path / "diary.txt"
    target.write_text("dear diary")
    (tmp_path / "walk" / "lock").unlink()
    (tmp_path / "walk" / "lock").symlink_to(target)
    with pytest.raises(ValueError, match="lock is a link to another file: delete it"):
        Session(tmp_path / "walk")
    assert target.read_text() == "dear diary"


def test_a_second_writer_is_told_who_writes_and_readers_are_not_kept_out(steps, tmp_path):
    kept_in(tmp_path, steps[:2]).close()

    def hold(pipe: int) -> None:
        with Session(tmp_path) as session:
            os.write(pipe, b"open\n")
            signal.pause()
            session.close()

    child, end = forked(hold)
    assert os.read(end, 5) == b"open\n"
    with pytest.raises(ValueError, match=rf"process {child} on .* writes .* readonly=True"):
        Session(tmp_path)
    check(tmp_path, steps[:2])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    read_all(end)
    with Session(tmp_path) as session:  # the lock died with its process
        session.add(steps[2])
        with pytest.raises(ValueError, match=r"this process writes .* or close\(\) it"):
            Session(tmp_path)
    check(tmp_path, steps[:3])


def test_a_reader_sees_the_steps_of_another_process(steps, tmp_path):
    kept_in(tmp_path, steps[:1]).close()
    with Session(tmp_path, readonly=True) as reader:
        assert len(reader.tree) == 2

        def write_on(pipe: int) -> None:
            with Session(tmp_path) as session:
                for step in steps[1:4]:
                    session.add(step)
                session.go(2)
                session.rename(2, "seen")
                session.delete(4)

        child, end = forked(write_on)
        read_all(end)
        assert os.waitpid(child, 0)[1] == 0
        assert [(entry.id, entry.label) for entry in reader.tree] == [
            *((0, ""), (1, ""), (2, "seen"), (3, ""))
        ]
        assert reader.head == 2
        assert parts(reader.step(3)) == parts(steps[2])


def test_a_reader_while_a_walk_is_written_sees_whole_steps_only(steps, tmp_path):
    kept_in(tmp_path, steps[:1]).close()

    def write_on(pipe: int) -> None:
        with Session(tmp_path) as session:
            for step in steps[1:]:
                session.add(step)

    child, end = forked(write_on)
    seen = set()
    with Session(tmp_path, readonly=True) as reader:
        while len(seen) < 1000 and os.waitpid(child, os.WNOHANG) == (0, 0):
            count = len(reader.tree) - 1
            seen.add(count)
            assert parts(reader.step(count).views) == parts(steps[count - 1].views)
        assert len(reader.tree) == len(steps) + 1
    read_all(end)


def test_a_forked_process_does_not_write_into_its_parents_session(steps, tmp_path):
    with kept_in(tmp_path, steps[:1]) as session:

        def write(pipe: int) -> None:
            try:
                session.add(steps[1])
            except ValueError as error:
                os.write(pipe, str(error).encode())

        child, end = forked(write)
        assert b"only the process that opened" in read_all(end)
        os.waitpid(child, 0)
        session.add(steps[1])
    check(tmp_path, steps[:2])


def test_a_copied_session_opens(steps, tmp_path):
    with kept_in(tmp_path / "a", steps[:3]):
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        check(tmp_path / "b", steps[:3])
        with Session(tmp_path / "b") as session:
            session.add(steps[3])
            assert session.find(steps[1].memory) == 2
    check(tmp_path / "b", steps[:4])
