"""A memory on disk: round trips are equal to the bit, and only sound memories are loaded."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from core_helpers import Box, same, tables
from disk_helpers import files_up_to
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vmemkit.core import LEAST_SLANT, MAX_DISTANCE, PointMaps, SurfelConfig, names_in
from vmemkit.memory import (
    AssociationConfig,
    Memory,
    MemoryConfig,
    begin,
    load,
    save,
    save_ply,
    storage,
    write,
)

BOX = Box()


@pytest.fixture(scope="module")
def memory(box) -> Memory:
    views = box.render(box.look(0.0, 40.0, 80.0), 12, 16)
    depth = views.depth.clone()
    depth[1, :3] = torch.nan
    return begin(views.replace(depth=depth, given=torch.tensor([True, False, True])))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- round trips ---------------------------------------------------------------------------------


def test_a_loaded_memory_is_bit_equal_to_the_saved_one(memory, tmp_path, device):
    save(memory.to(device), tmp_path / "new" / "folder")
    back = load(tmp_path / "new" / "folder", device)
    assert back.device.type == device
    assert same(tables(back.to("cpu")), tables(memory))
    assert back.config == memory.config


def test_writing_to_a_loaded_memory_equals_writing_to_the_saved_one(memory, tmp_path, box):
    save(memory, tmp_path)
    view = box.render(box.look(120.0), 12, 16)
    maps = PointMaps.from_depth(view.cameras, view.depth)
    assert same(tables(write(load(tmp_path), view, maps)), tables(write(memory, view, maps)))
    assert same(tables(load(tmp_path).truncate(1)), tables(memory.truncate(1)))


@pytest.mark.parametrize(
    "config",
    [
        MemoryConfig.released(),
        MemoryConfig(SurfelConfig(shrink=0.25, slant=0.3), AssociationConfig(distance=3.0)),
    ],
)
def test_the_configuration_is_restored(config, tmp_path, box):
    save(box.memory(0.0, config=config), tmp_path)
    assert load(tmp_path).config == config


def test_truncated_memories_are_saved_without_what_was_cut(memory, tmp_path):
    save(memory.truncate(2), tmp_path)
    assert same(tables(load(tmp_path)), tables(memory.truncate(2)))


@pytest.mark.parametrize("views", [None, 0])
def test_an_empty_memory_can_be_saved_and_begun_with(memory, views, tmp_path, box):
    save(Memory.empty() if views is None else memory.truncate(views), tmp_path)
    back = load(tmp_path)
    assert len(back) == len(back.surfels) == 0
    view = box.render(box.look(0.0), 12, 16)
    assert len(write(back, view)) == 1


def test_saving_again_replaces_the_memory_and_leaves_no_other_tables(memory, tmp_path):
    save(memory, tmp_path)
    save(memory.truncate(1), tmp_path)
    assert len(load(tmp_path)) == 1
    assert len(files(tmp_path)) == 2


def test_the_folder_holds_json_and_safetensors_alone(memory, tmp_path):
    save(memory, tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("rule", ["projective", "radius"])
@pytest.mark.parametrize("scheme", ["central", "forward"])
@settings(deadline=None, max_examples=15)
@given(
    size=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    shrink=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
    slant=st.sampled_from([LEAST_SLANT, 0.2, 1.0]),
    yaws=st.lists(st.floats(0, 360, width=32), min_size=1, max_size=3),
    fov=st.sampled_from([5.0, 70.0, 170.0]),
)
def test_memories_of_the_smallest_images_are_saved_and_loaded(
    rule, scheme, size, shrink, slant, yaws, fov
):
    surfels = SurfelConfig(shrink=shrink, slant=slant, scheme=scheme, edge=10.0)
    config = MemoryConfig(surfels, AssociationConfig(method=rule))
    memory = begin(BOX.render(BOX.look(*yaws, pitch=20.0, fov=fov), *size), config)
    with TemporaryDirectory() as folder:
        save(memory, folder)
        back = load(folder)
    assert same(tables(back), tables(memory))
    again = BOX.render(BOX.look(yaws[0] + 5.0, fov=fov), *size)
    assert same(tables(write(back, again)), tables(write(memory, again)))


# ---- saving loses nothing ------------------------------------------------------------------------


def fail(*_: object) -> None:
    raise OSError("no space left on device")


@pytest.mark.parametrize("step", ["tables", "index"])
def test_a_save_that_fails_leaves_the_older_memory(memory, tmp_path, step, monkeypatch):
    save(memory, tmp_path)
    if step == "tables":
        with files_up_to(4096), pytest.raises(OSError, match="File too large"):
            save(memory.truncate(2), tmp_path)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            with pytest.raises(OSError, match="no space"):
                save(memory.truncate(2), tmp_path)
    assert same(tables(load(tmp_path)), tables(memory))
    save(memory.truncate(2), tmp_path)
    assert len(load(tmp_path)) == 2
    assert len(files(tmp_path)) == 2  # the remains of the failed save are gone


def test_a_first_save_that_fails_can_be_repeated(memory, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            save(memory, tmp_path)
    with pytest.raises(ValueError, match="cannot read"):
        load(tmp_path)
    save(memory, tmp_path)
    assert same(tables(load(tmp_path)), tables(memory))


@pytest.mark.parametrize("hook", ["save_tensors", "replace"])
def test_a_save_that_comes_between_leaves_a_whole_memory(memory, tmp_path, hook, monkeypatch):
    save(memory, tmp_path)
    owner = os if hook == "replace" else storage
    real, between = getattr(owner, hook), []

    def slow(*arguments: object) -> None:
        if hook == "save_tensors":
            real(*arguments)
        if not between:
            between.append(True)
            save(memory.truncate(2), tmp_path)
        if hook == "replace":
            real(*arguments)

    monkeypatch.setattr(owner, hook, slow)
    save(memory.truncate(1), tmp_path)
    assert between
    assert len(load(tmp_path)) == 1  # the last one that ended


def test_a_load_goes_on_with_the_memory_that_was_saved_meanwhile(memory, tmp_path, monkeypatch):
    save(memory, tmp_path)
    real, between = storage.load_file, []

    def late(path: Path) -> dict:
        if not between:
            between.append(True)
            save(memory.truncate(2), tmp_path)
        return real(path)

    monkeypatch.setattr(storage, "load_file", late)
    assert len(load(tmp_path)) == 2


def test_saves_and_loads_at_once_never_fail(memory, tmp_path):
    save(memory, tmp_path)

    def work(number: int) -> None:
        for _ in range(15):
            save(memory.truncate(1 + number), tmp_path)
            assert 1 <= len(load(tmp_path)) <= 3

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert 1 <= len(load(tmp_path)) <= 3


def kill_before(number: int) -> None:
    """Kill this process before its file operation of this number: an open, a rename, a deletion."""
    count = 0

    def hook(event: str, _: tuple) -> None:
        nonlocal count
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix")
@pytest.mark.parametrize("first", [True, False])
def test_a_save_that_is_killed_blocks_nothing(memory, tmp_path, first):
    left, killed, number = set(), True, 0
    while killed:
        number += 1
        folder = tmp_path / str(number)
        if not first:
            save(memory, folder)
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(60)
                kill_before(number)
                save(memory.truncate(2), folder)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0
        names = names_in(folder) if folder.exists() else []
        left.update(name[:5] for name in names)
        if "memory.json" in names:
            assert len(load(folder)) in (2, 3)
        save(memory.truncate(1), folder)
        assert len(load(folder)) == 1
    assert number > 8
    assert left >= {"table", ".writ"}  # kills came at moments that matter


def test_what_killed_saves_left_is_cleaned_when_it_is_old(memory, tmp_path):
    save(memory, tmp_path)
    tables, draft = tmp_path / f"tables-{'0' * 32}.safetensors", tmp_path / ".writing-abc12345"
    tables.write_bytes(b"x")
    draft.mkdir()
    (draft / "memory.json").write_bytes(b"x")
    save(memory, tmp_path)
    assert tables.exists()  # somebody may be about to name it in the index
    assert draft.exists()
    for path in (tables, draft):
        os.utime(path, (0, 0))
    save(memory, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db"])
def test_a_folder_that_a_file_manager_has_looked_at_counts_as_empty(memory, tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    save(memory, tmp_path)
    assert same(tables(load(tmp_path)), tables(memory))
    assert (tmp_path / name).read_bytes() == b"x"


def test_a_folder_of_other_files_is_refused_and_unchanged(memory, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ValueError, match="other files"):
        save(memory, tmp_path)
    assert files(tmp_path) == {"holiday.jpg": b"precious"}


@pytest.mark.parametrize("content", ['{"recipes": []}', "not json", '{"format": "other"}'])
def test_another_programs_memory_json_is_not_replaced(memory, tmp_path, content):
    (tmp_path / "memory.json").write_text(content)
    with pytest.raises(ValueError, match=r"memory\.json"):
        save(memory, tmp_path)
    assert files(tmp_path) == {"memory.json": content.encode()}


def test_other_files_beside_a_memory_survive_its_replacement(memory, tmp_path):
    save(memory, tmp_path)
    others = {"notes.txt": b"mine", "tables-2024.safetensors": b"mine too"}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    save(memory, tmp_path)
    assert others.items() <= files(tmp_path).items()


def test_a_file_in_place_of_the_folder_is_refused(memory, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        save(memory, tmp_path / "file")
    with pytest.raises(ValueError, match="cannot read"):
        load(tmp_path / "file")


# ---- loading trusts nothing ----------------------------------------------------------------------


def edit_index(folder: Path, change: Callable[[dict], object]) -> None:
    index = json.loads((folder / "memory.json").read_text())
    changed = change(index)
    (folder / "memory.json").write_text(json.dumps(index if changed is None else changed))


def edit_tables(folder: Path, change: Callable[[dict], None]) -> None:
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content",
    [b"", b"not json", b"\xff\xfe\x00", b"[" * 100_000, b"[1, 2]", b"null", b'{"version": 1}'],
    ids=["empty", "text", "bytes", "deep", "list", "null", "no format"],
)
def test_an_index_that_is_not_one_is_refused(memory, tmp_path, content):
    save(memory, tmp_path)
    (tmp_path / "memory.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"memory\.json"):
        load(tmp_path)


BAD_INDEX = {
    "other format": {"format": "something else"},
    "newer version": {"version": 3},
    "version as text": {"version": "1"},
    "path upwards": {"tables": "../tables-" + "0" * 32 + ".safetensors"},
    "absolute path": {"tables": "/etc/passwd"},
    "path in a path": {"tables": "sub/tables-" + "0" * 32 + ".safetensors"},
    "missing tables": {"tables": "tables-" + "0" * 32 + ".safetensors"},
    "no name": {"tables": None},
    "config of nothing": {"config": None},
    "config as list": {"config": [1]},
    "config without parts": {"config": {}},
    "unknown setting": {"config": {"surfels": {"colour": 1}, "association": {}}},
    "setting of text": {"config": {"surfels": {"shrink": "half"}, "association": {}}},
    "setting of NaN": {"config": {"surfels": {"shrink": float("nan")}, "association": {}}},
    "unknown choice": {"config": {"surfels": {}, "association": {"method": "magic"}}},
    "huge number": {"config": {"surfels": {"min_confidence": 10**400}, "association": {}}},
    "huge distance": {"config": {"surfels": {}, "association": {"distance": 10**400}}},
    "choice as list": {"config": {"surfels": {"scheme": ["central"]}, "association": {}}},
}


def test_the_first_version_of_the_format_is_read(memory, tmp_path):
    save(memory, tmp_path)
    edit_index(tmp_path, lambda index: index.update({"version": 1}))
    assert same(tables(load(tmp_path)), tables(memory))


@pytest.mark.parametrize("change", BAD_INDEX.values(), ids=BAD_INDEX)
@pytest.mark.usefixtures("as_installed")
def test_an_index_with_a_wrong_entry_is_refused(memory, tmp_path, change):
    save(memory, tmp_path)
    edit_index(tmp_path, lambda index: index.update(change))
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        load(tmp_path)


@pytest.mark.parametrize("where", ["..", "inner", "absolute"])
def test_sound_tables_outside_the_folder_are_not_read(memory, tmp_path, where):
    folder = tmp_path / "memory"
    save(memory, folder)
    tables_file = next(folder.glob("*.safetensors"))
    place = tmp_path if where == "absolute" else folder / where
    place.mkdir(exist_ok=True)
    moved = tables_file.rename(place / tables_file.name)
    name = str(moved) if where == "absolute" else f"{where}/{moved.name}"
    edit_index(folder, lambda index: index.update(tables=name))
    with pytest.raises(ValueError, match="own folder"):
        load(folder)


@pytest.mark.parametrize("key", ["format", "version", "tables", "config"])
def test_an_index_without_an_entry_is_refused(memory, tmp_path, key):
    save(memory, tmp_path)
    edit_index(tmp_path, lambda index: {k: v for k, v in index.items() if k != key})
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_tables_cut_short_are_refused(memory, tmp_path, keep):
    save(memory, tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cannot read the tables"):
        load(tmp_path)


def test_a_pickle_in_place_of_the_tables_is_not_unpickled(memory, tmp_path):
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    save(memory, tmp_path)
    next(tmp_path.glob("*.safetensors")).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="cannot read the tables"):
        load(tmp_path)
    assert not (tmp_path / "sprung").exists()


def put(name: str, value: float, at: tuple[int, ...] = (0,)) -> Callable[[dict], None]:
    def change(tensors: dict) -> None:
        tensors[name][at] = value

    return change


def swap(name: str, new: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    def change(tensors: dict) -> None:
        tensors[name] = new(tensors[name])

    return change


NAN = float("nan")
BAD_TABLES = {
    "missing column": lambda t: t.pop("surfels.radius"),
    "missing table": lambda t: t.pop("ends.surfels"),
    "short column": swap("surfels.radius", lambda x: x[:-1]),
    "more views than ends": lambda t: t.update(
        {k: torch.cat([v, v[:1]]) for k, v in t.items() if k.startswith("views.")}
    ),
    "no rank": swap("surfels.radius", lambda x: x[0]),
    "rank": swap("surfels.radius", lambda x: x[:, None]),
    "width": swap("surfels.position", lambda x: x[:, :2]),
    "poses of three rows": swap("views.cameras.world_from_cam", lambda x: x[:, :3]),
    "grey images": swap("views.image", lambda x: x[:, :1]),
    "smaller depth": swap("views.depth", lambda x: x[:, :5]),
    "no pixels": lambda t: t.update(
        {k: t[k][..., :0] for k in ("views.image", "views.depth", "views.confidence")}
    ),
    "double": swap("surfels.position", lambda x: x.double()),
    "half": swap("views.image", lambda x: x.half()),
    "ids as numbers": swap("sightings.surfel", lambda x: x.float()),
    "long ids": swap("sightings.surfel", lambda x: x.long()),
    "short ends": swap("ends.surfels", lambda x: x.int()),
    "flags as numbers": swap("views.given", lambda x: x.float()),
    "NaN position": put("surfels.position", NAN),
    "NaN normal": put("surfels.normal", NAN),
    "infinite radius": put("surfels.radius", float("inf")),
    "negative radius": put("surfels.radius", -1.0),
    "huge position": put("surfels.position", 1e18),
    "long normal": put("surfels.normal", 1e18),
    "radius of a scene": put("surfels.radius", 30.0),
    "radius of a kilometre": put("surfels.radius", 1e6, (slice(None),)),
    "huge radius": put("surfels.radius", 1e30, (slice(None),)),
    "huge depth": put("views.depth", 1e18),
    "huge pose": put("views.cameras.world_from_cam", 1e18, (0, 0, 3)),
    "huge focal length": put("views.cameras.K", 1e18, (0, 0, 0)),
    "NaN colour": put("surfels.color", NAN),
    "NaN image": put("views.image", NAN),
    "bright image": put("views.image", 2.0),
    "negative depth": put("views.depth", -1.0),
    "zero depth": put("views.depth", 0.0),
    "depth beyond the limit": put("views.depth", 1.01 * MAX_DISTANCE),
    "NaN confidence": put("views.confidence", NAN),
    "NaN pose": put("views.cameras.world_from_cam", NAN),
    "scaled pose": put("views.cameras.world_from_cam", 3.0, (1, 0, 0)),
    "negative focal length": put("views.cameras.K", -1.0, (0, 0, 0)),
    "sighting of a surfel beyond": put("sightings.surfel", 2**31 - 1, (-1,)),
    "sighting of surfel -1": put("sightings.surfel", -1),
    "sighting by a view beyond": put("sightings.view", 3, (-1,)),
    "sighting by view -1": put("sightings.view", -1),
    "ends that fall": put("ends.surfels", 10**6, (0,)),
    "negative ends": put("ends.surfels", -5, (0,)),
    "huge ends": put("ends.surfels", 2**62, (-1,)),
}


@pytest.mark.parametrize("change", BAD_TABLES.values(), ids=BAD_TABLES)
@pytest.mark.usefixtures("as_installed")
def test_tables_that_are_not_a_sound_memory_are_refused(memory, tmp_path, change):
    save(memory, tmp_path)
    edit_tables(tmp_path, change)
    with pytest.raises(ValueError, match="not a sound memory"):
        load(tmp_path)


def test_unknown_columns_are_ignored(memory, tmp_path):
    save(memory, tmp_path)
    edit_tables(tmp_path, lambda t: t.update({"views.secret": torch.zeros(3)}))
    assert same(tables(load(tmp_path)), tables(memory))


# ---- surfels for other programs ------------------------------------------------------------------


def test_a_ply_holds_every_surfel_with_its_normal_radius_and_colour(memory, tmp_path):
    surfels = memory.surfels
    save_ply(surfels, tmp_path / "surfels.ply")
    header, _, body = (tmp_path / "surfels.ply").read_bytes().partition(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
    assert f"element vertex {len(surfels)}\n".encode() in header
    kinds = {b"float": "<f4", b"uchar": "u1"}
    properties = [line.split() for line in header.splitlines() if line.startswith(b"property")]
    rows = np.frombuffer(body, [(name.decode(), kinds[kind]) for _, kind, name in properties])
    assert np.array_equal(np.stack([rows[k] for k in "xyz"], -1), surfels.position.numpy())
    assert np.array_equal(np.stack([rows["n" + k] for k in "xyz"], -1), surfels.normal.numpy())
    assert np.array_equal(rows["radius"], surfels.radius.numpy())
    colours = np.stack([rows[k] for k in ("red", "green", "blue")], -1) / 255
    assert np.abs(colours - surfels.color.numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_ply_without_surfels_can_be_written(memory, tmp_path):
    save_ply(memory.surfels[:0], tmp_path / "none.ply")
    assert b"element vertex 0\n" in (tmp_path / "none.ply").read_bytes()


def test_other_suffixes_and_missing_folders_are_refused_for_surfels(memory, tmp_path):
    for path in (tmp_path / "surfels.obj", tmp_path / "missing" / "surfels.ply"):
        with pytest.raises(ValueError, match="surfels"):
            save_ply(memory.surfels, path)
    assert files(tmp_path) == {}
