"""Rows on disk: equal to rows in memory, within their share of memory, and leaving nothing behind."""

from __future__ import annotations

import copy
import dataclasses
import errno
import gc
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vmemkit.core import TensorStruct, cat
from vmemkit.memory import Spill
from vmemkit.memory.rows import Rows

SHARE = 4  # rows may use a quarter of `max_bytes` (see Spill)


@dataclasses.dataclass(frozen=True, repr=False)
class Pose(TensorStruct):
    pose: Tensor


@dataclasses.dataclass(frozen=True, repr=False)
class Frames(TensorStruct):
    pose: Pose
    image: Tensor
    given: Tensor
    half: Tensor
    empty: Tensor
    code: Tensor | None = None


def frames(n: int, start: int = 0) -> Frames:
    i = torch.arange(start, start + n)
    image = (i[:, None, None] + torch.arange(12.0).view(3, 4)).float()
    return Frames(Pose(i.double()), image, i % 3 == 0, i.bfloat16(), torch.zeros(n, 0, 2))


ROW = sum(leaf[0].nbytes for leaf in frames(1).leaves().values())


def in_memory(rows: int, folder: Path | None = None) -> Spill:
    """A spill with which this many frames may be in memory."""
    return Spill(SHARE * ROW * rows, None if folder is None else str(folder))


def spilled(n: int = 5, folder: Path | None = None) -> Rows[Frames]:
    return Rows.of(frames(n), in_memory(2, folder))


def equal(some: Frames, others: Frames) -> bool:
    ours, theirs = some.leaves(), others.leaves()
    return ours.keys() == theirs.keys() and all(
        leaf.dtype == theirs[name].dtype and torch.equal(leaf, theirs[name])
        for name, leaf in ours.items()
    )


# ---- rows on disk are rows -----------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.sampled_from([True, True, False]), st.integers(0, 99), st.integers(0, 5)),
        min_size=5,
        max_size=16,
    ),
)
def test_spilled_rows_equal_rows_in_memory_after_any_appends_and_cuts(room, program):
    spilled, plain = [Rows.of(frames(0), in_memory(room))], [Rows.of(frames(0))]
    serial = 0
    for grow, which, count in program:
        ours, theirs = spilled[which % len(spilled)], plain[which % len(plain)]
        if grow:
            more = frames(count, serial)
            spilled.append(ours.append(more))
            plain.append(theirs.append(more))
            serial += count
        else:
            length = min(count, len(ours))
            spilled.append(ours.prefix(length))
            plain.append(theirs.prefix(length))
    assert all(equal(a.value, b.value) for a, b in zip(spilled, plain, strict=True))
    assert all(rows.nbytes <= room * ROW for rows in spilled)


def test_rows_stay_in_memory_up_to_their_share_of_max_bytes():
    rows = Rows.of(frames(2), in_memory(3))
    assert (rows.nbytes, rows.spilled) == (2 * ROW, 0)
    rows = rows.append(frames(1, start=2))
    assert (rows.nbytes, rows.spilled) == (3 * ROW, 0)
    rows = rows.append(frames(1, start=3))
    assert (rows.nbytes, rows.spilled) == (0, 4 * ROW)
    assert equal(rows.value, frames(4))


def test_rows_without_a_spill_never_spill():
    rows = Rows.of(frames(1)).append(frames(500, start=1))
    assert (rows.nbytes, rows.spilled) == (501 * ROW, 0)


def test_the_limit_still_holds_after_an_empty_start_and_a_cut_to_nothing():
    assert Rows.of(frames(0), in_memory(2)).append(frames(5)).spilled == 5 * ROW
    assert spilled().prefix(0).append(frames(4)).spilled == 4 * ROW


def test_a_short_branch_of_spilled_rows_is_in_memory_again():
    branch = spilled().prefix(1).append(frames(1, start=1))
    assert (branch.nbytes, branch.spilled) == (2 * ROW, 0)
    assert equal(branch.value, frames(2))


def test_two_spilled_branches_do_not_affect_each_other():
    trunk = spilled().append(frames(1, start=5))
    left, right = trunk.append(frames(1, start=70)), trunk.append(frames(1, start=80))
    assert equal(trunk.value, frames(6))
    assert equal(left.prefix(6).value, trunk.value)
    assert equal(right.prefix(6).value, trunk.value)
    assert equal(left.value[6:], frames(1, start=70))
    assert equal(right.value[6:], frames(1, start=80))


def test_a_file_grows_in_place_and_older_values_keep_their_rows():
    values = [spilled()]
    for i in range(5, 60):
        values.append(values[-1].append(frames(1, start=i)))
    assert all(equal(rows.value, frames(len(rows))) for rows in values)
    values[-1].value.image[3] = -1  # shows that both map the same file
    assert (values[0].value.image[3] == -1).all()


def test_appended_rows_get_the_type_of_the_first_and_must_have_their_shape():
    wide = frames(1, start=5).map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf)
    strided = wide.replace(image=wide.image.mT.contiguous().mT, given=torch.tensor(False).expand(1))
    assert equal(spilled().append(strided).value, frames(6))
    with pytest.raises(RuntimeError, match="expand"):
        spilled().append(wide.replace(image=torch.zeros(1, 5, 4)))


def test_replaced_columns_are_spilled_beside_copies_of_the_others():
    rows = spilled()
    code = torch.full((1, 2), torch.nan).expand(5, 2)
    coded = rows.replaced(rows.value.replace(code=code))
    assert coded.spilled == 5 * (ROW + 8)
    assert equal(coded.value.replace(code=None), rows.value)
    assert coded.value.code.isnan().all()


# ---- tensors over files are tensors --------------------------------------------------------------


def test_a_tensor_outlives_the_rows_it_came_from():
    image = spilled().append(frames(3, start=5)).value.image[2:]
    gc.collect()
    assert torch.equal(image, frames(8).image[2:])


def test_tensors_over_files_are_copied_and_pickled_like_others():
    value = spilled().value
    for twin in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), value.map(torch.clone)):
        twin.image[0] += 1
        assert equal(twin[1:], frames(5)[1:])
        assert equal(value, frames(5))


def test_nothing_is_left_in_the_folder(tmp_path):
    rows = spilled(folder=tmp_path).append(frames(9, start=5))
    branch = rows.prefix(7).append(frames(1))
    assert list(tmp_path.iterdir()) == []
    assert rows.spilled + branch.spilled == 22 * ROW


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_files_are_closed_with_the_last_value_over_them():
    def handles() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before, rows = handles(), spilled()
    for i in range(5, 100):
        rows = rows.append(frames(1, start=i))
    assert handles() == before + 2 * len(rows.value.leaves())  # the file, and its mapping
    del rows
    assert handles() == before


# ---- memory stays bounded ------------------------------------------------------------------------

WALK = """
import dataclasses
from pathlib import Path

import torch
from vmemkit.core import TensorStruct
from vmemkit.memory import Spill
from vmemkit.memory.rows import Rows

@dataclasses.dataclass(frozen=True)
class Images(TensorStruct):
    image: torch.Tensor

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Rss")) / 1024  # MiB

def images(i):
    return Images(torch.full((1, 3, 512, 512), float(i)))  # 3 MiB

warm = Rows.of(images(0), Spill(1)).append(images(1))  # so that loaded code does not count
assert (warm.value.image[1] == 1).all() and warm.value.image[0].mean() == 0
del warm

before, most, n = resident(), 0.0, 100
values = [Rows.of(images(0), Spill(32 << 20))]
for i in range(1, n):
    values.append(values[-1].append(images(i)))
    most = max(most, resident() - before)
    for k in range(0, i, 7):  # through old mappings and new ones
        assert values[k].value.image[k, 0, 0, 0] == values[i].value.image[k, 0, 0, 0] == k
assert all((values[-1].value.image[i] == i).all() for i in range(n))
read = resident() - before
fork = values[-1].prefix(n - 1).append(images(0))
after = resident() - before
assert fork.value.image[n - 2].mean() == n - 2
print(most, read, after)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_300_megabytes_of_rows_take_no_more_memory_than_their_spill_allows():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WALK],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "MALLOC_MMAP_THRESHOLD_": "65536",
        },  # freed memory goes back to the system
    )
    assert done.returncode == 0, done.stderr
    most, read, after = map(float, done.stdout.split())
    assert most < 32
    assert read > 250  # rows that are read at once are in memory ...
    assert after < 32  # ... until the next append, even one that copies all rows


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_number_of_bytes_that_is_not_positive_is_refused(max_bytes):
    with pytest.raises(ValueError, match=f"positive number of bytes, got {max_bytes}"):
        Spill(max_bytes)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: make that folder first"):
        Spill(1, str(tmp_path / "nowhere"))


def test_a_folder_that_was_deleted_before_its_use_is_refused(tmp_path):
    rows = Rows.of(frames(2), in_memory(2, tmp_path))
    tmp_path.rmdir()
    with pytest.raises(ValueError, match=r"No such file.*spill to another folder"):
        rows.append(frames(1, start=2))
    assert equal(rows.value, frames(2))


@pytest.mark.parametrize("n", [2, 5])
def test_rows_are_refused_before_any_is_written_if_the_disk_has_no_room(n, monkeypatch):
    rows = spilled(n)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=ROW))
    with pytest.raises(
        ValueError, match=rf"needs {2 * ROW} bytes in \S+, got {ROW} free \(No space"
    ):
        rows.append(frames(2, start=n))
    assert equal(rows.value, frames(n))
    monkeypatch.undo()
    assert equal(rows.append(frames(2, start=n)).value, frames(n + 2))


def test_a_disk_that_fills_up_during_a_write_is_an_error_at_that_write(monkeypatch):
    rows = spilled().append(frames(1, start=5))
    files = rows._store.files._files

    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files["half"], "_file", Full())
    with pytest.raises(ValueError, match="No space left on device"):
        rows.append(frames(1, start=99))
    assert equal(rows.value, frames(6))
    monkeypatch.undo()
    assert equal(rows.append(frames(1, start=6)).value, frames(7))


def test_rows_over_files_are_copied_and_pickled_to_files_of_their_own():
    rows = spilled(5)
    for twin in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
        assert twin.spilled == 5 * ROW
        grown = twin.append(frames(2, start=90))
        assert equal(grown.value, cat([frames(5), frames(2, start=90)]))
    assert equal(rows.append(frames(1, start=5)).value, frames(6))


def test_a_forked_process_writes_to_files_of_its_own(monkeypatch):
    rows, own = spilled(5), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    child = rows.append(frames(1, start=70))
    monkeypatch.undo()
    parent = rows.append(frames(1, start=5))
    assert equal(parent.value, frames(6))
    assert equal(child.value, cat([frames(5), frames(1, start=70)]))


def test_rows_on_a_gpu_are_refused():
    rows = Rows.of(frames(2).to("meta"), in_memory(2))
    with pytest.raises(ValueError, match="only rows on the CPU can be spilled, got some on meta"):
        rows.append(frames(1).to("meta"))
    assert len(rows) == 2
