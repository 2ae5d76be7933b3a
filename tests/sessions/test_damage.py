"""Files of a session that are damaged or hostile: ValueErrors that name the file, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from session_helpers import Coding, Counting, begin, parts, path, walk
from torch import Tensor

from vmemkit.core import bytes_of
from vmemkit.memory import MemoryConfig
from vmemkit.retrieval import Coverage, RetrievalConfig
from vmemkit.sessions import Session
from vmemkit.sessions.journal import HEADER, Journal, write_journal

pytestmark = pytest.mark.usefixtures("as_installed")  # bad values arrive where users' would
BODY = ("memory", "tensors", "step", "config")  # what a record has in its second line
STEP = 2  # the node whose files are changed


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, dict]:
    """A session, and everything in its nodes."""
    folder = tmp_path_factory.mktemp("session")
    few = RetrievalConfig(rows=9, blind="nearest")
    settings = {"generator": Coding(), "reconstructor": Counting(), "policy": Coverage(config=few)}
    with Session(folder) as session:
        for _ in walk(begin(MemoryConfig()), path(20, 50, 100), session=session, **settings):
            pass
        session.go(1)
        for _ in walk(session.memory(), path(300), session=session, **settings):
            pass
        session.rename(2, "two")
    return folder, whole(folder)


@pytest.fixture
def folder(stored) -> Iterator[Path]:
    """The session, which gets its bytes back after the test."""
    files = {path: path.read_bytes() for path in stored[0].rglob("*") if path.is_file()}
    yield stored[0]
    for file, content in files.items():
        file.write_bytes(content)


def whole(folder: Path) -> dict[int, Any]:
    """Everything in the nodes of a session; nodes that are refused are left out."""
    found = {}
    with Session(folder, readonly=True) as session:
        for entry in session.tree:
            with contextlib.suppress(ValueError):
                read = session.memory if entry.parent is None else session.step
                found[entry.id] = parts(read(entry.id)), str(entry.settings)
    return found


def readable(folder: Path) -> set[int]:
    """The nodes of a session that can be read."""
    found = set()
    with contextlib.suppress(ValueError), Session(folder, readonly=True) as session:
        for entry in session.tree:
            with contextlib.suppress(ValueError):
                session.memory(entry.id) if entry.parent is None else session.step(entry.id)
                entry.settings  # noqa: B018
                found.add(entry.id)
    return found


def opened(folder: Path) -> dict[int, Any]:
    try:
        return whole(folder)
    except ValueError:
        return {}


# ---- accidents -----------------------------------------------------------------------------------


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The bytes with a bit turned, a piece cut out, doubled, or overwritten."""
    start = rng.randrange(len(content))
    stop = min(len(content), start + rng.choice([1, 2, 8, 100]))
    piece = {
        "turn": bytes([content[start] ^ (1 << rng.randrange(8))]) + content[start + 1 : stop],
        "cut": b"",
        "double": 2 * content[start:stop],
        "fill": rng.randbytes(stop - start),
    }[rng.choice(["turn", "turn", "cut", "double", "fill"])]
    return content[:start] + piece + content[stop:]


@pytest.mark.parametrize(
    "name", ["journal", "tensors/00000000.safetensors", "tensors/00000002.safetensors"]
)
def test_accidents_are_refused_or_change_nothing(name, folder, stored):
    rng, file = random.Random(name), folder / name
    content, sound = file.read_bytes(), 0
    for _ in range(80):
        file.write_bytes(mutated(content, rng))
        found = opened(folder)
        sound += len(found)
        for node, value in found.items():
            kept = stored[1][node]
            assert value == kept
    assert sound < 80 * len(stored[1]) * 0.9  # most accidents were noticed


def test_each_refusal_names_the_file_and_no_path(folder):
    file = folder / "tensors" / "00000002.safetensors"
    content = file.read_bytes()
    for changed in (content[:-1], b"", pickle.dumps(content), content[:-1] + b"\x55"):
        file.write_bytes(changed)
        with Session(folder, readonly=True) as session:
            with pytest.raises(ValueError, match=r"00000002\.safetensors") as caught:
                session.step(2)
            assert str(folder) not in str(caught.value)
            assert session.step(1).note == session.step(4).note


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "not the journal"),
        (b"vmemkit-session 1\n", "not the journal"),
        (b"vmemkit-session 2 " + b"0" * 32 + b"\n", "version 2; this code reads 1"),
        (b"\x80\x04" + b"0" * 100, "not the journal"),
        (b"x" * 10_000_000, "not the journal"),
    ],
)
def test_another_file_in_place_of_the_journal_is_refused_and_kept(line, message, folder):
    (folder / "journal").write_bytes(line)
    for readonly in (True, False):
        with pytest.raises(ValueError, match=message):
            Session(folder, readonly=readonly)
    assert (folder / "journal").read_bytes() == line


def test_a_length_beyond_the_file_is_not_allocated(folder):
    content = (folder / "journal").read_bytes()
    huge = HEADER.pack(b"\xffVMR", 2**32 - 1, 0)
    (folder / "journal").write_bytes(content + huge)
    with Session(folder, readonly=True) as session:
        assert len(session.tree) == 5


# ---- files of somebody who knows the format ------------------------------------------------------


def edit_record(folder: Path, node: int, change: Callable[[dict], object]) -> None:
    """Change the record of a node, with a right checksum."""
    journal = Journal(folder / "journal")
    records = []
    for record, body in [journal.read(offset) for offset, _ in journal.news()[1]]:
        whole = {**record, **body}
        if record.get("id") == node and body:
            change(whole)
        body = {key: whole.pop(key) for key in BODY if key in whole}
        records.append((whole, body))
    write_journal(folder / "journal", records)


def edit_tensors(folder: Path, node: int, change: Callable[[dict], object]) -> None:
    """Change the tensors of a node, with right checksums and sizes."""
    file = folder / "tensors" / f"{node:08d}.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file)

    def restamp(record: dict) -> None:
        record["size"] = file.stat().st_size
        for name, tensor in tensors.items():
            kind = str(tensor.dtype).removeprefix("torch.")
            record["tensors"][name] = [kind, list(tensor.shape), crc(tensor)]

    edit_record(folder, node, restamp)


def crc(tensor: Tensor) -> int:
    return zlib.crc32(bytes_of(tensor).numpy().data)


def places(value: Any, way: tuple = ()) -> list[tuple]:
    """The ways to all values inside of JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    ways = []
    for key, item in inner:
        ways.append((*way, key))
        if isinstance(item, (dict, list)):
            ways += places(item, (*way, key))
    return ways


JUNK = [
    *(None, True, -1, 0, 3, 2**70, 10**400, 1e308, "", "x", "../../etc/passwd", [], {}, [[]]),
    *({"tensor": "step.views.image"}, {"tensor": "/etc/passwd"}, {"tensor": 3}, {"float": "nan"}),
    *({"value": "core.Views", "fields": {}}, {"value": "os.system", "fields": {"command": "ls"}}),
    *({"function": "reconstruction.from_depth"}, {"function": "core.views"}, {"dict": [[[], 1]]}),
    *({"tuple": [1, 2]}, {"value": "generation.Generation", "fields": {"image": 3}}),
    {"value": "retrieval.RetrievalConfig", "fields": {"rows": -5}},
]


@pytest.mark.parametrize("node", [0, STEP])
def test_records_of_junk_are_refused_or_harmless(node, folder):
    rng, refused = random.Random(node), 0
    journal = (folder / "journal").read_bytes()
    for _ in range(100):

        def change(record: dict) -> None:
            *way, last = rng.choice(places(record))
            for key in way:
                record = record[key]
            record[last] = rng.choice(JUNK)

        (folder / "journal").write_bytes(journal)
        edit_record(folder, node, change)
        refused += node not in readable(folder)  # which raises nothing but ValueErrors
    assert refused > 30


def test_deep_records_are_refused(folder):
    deep: list = []
    for _ in range(900):
        deep = [deep]
    edit_record(folder, STEP, lambda record: record["step"].update(seconds=deep))
    with Session(folder, readonly=True) as session, pytest.raises(ValueError, match="safetensors"):
        session.step(STEP)
    text = b"[" * 200_000
    content = (folder / "journal").read_bytes()
    checksum = zlib.crc32(text, zlib.crc32(len(text).to_bytes(4, "little")))
    (folder / "journal").write_bytes(content + HEADER.pack(b"\xffVMR", len(text), checksum) + text)
    with pytest.raises(ValueError, match="no record at byte"):
        Session(folder, readonly=True)


@pytest.mark.parametrize(
    "name", ["core.cameras", "memory.load", "memory.Spill", "sessions.Session", "os.system", "core"]
)
def test_nothing_but_known_values_is_made(name, folder):
    made = {"value": name, "fields": {"folder": "/"}}
    edit_record(folder, STEP, lambda record: record["step"].update(reports=made))
    with (
        Session(folder, readonly=True) as session,
        pytest.raises(ValueError, match="no such value"),
    ):
        session.step(STEP)


def put(name: str, value: float, at: Any = 0) -> Callable[[dict], None]:
    def change(tensors: dict) -> None:
        tensors[name][at] = value

    return change


def swap(name: str, new: Callable[[Tensor], Tensor]) -> Callable[[dict], None]:
    def change(tensors: dict) -> None:
        tensors[name] = new(tensors[name])

    return change


NAN = float("nan")
BAD_ROWS = {
    "sighting of a word beyond": put("memory.sightings.word", 2**31 - 1, -1),
    "sighting of word -1": put("memory.sightings.word", -1),
    "sighting by a later view": put("memory.sightings.view", STEP + 1, -1),
    "sighting by view -1": put("memory.sightings.view", -1),
    "sighting of a surfel beyond": put("memory.sightings.bits", -1, -1),
    "ends that fall": put("memory.ends.surfels", 0),
    "huge ends": put("memory.ends.surfels", 2**62),
    "negative ends of rows": put("memory.ends.rows", -5),
    "short column": swap("memory.surfels.radius", lambda x: x[:-1]),
    "double": swap("memory.surfels.position", lambda x: x.double()),
    "rank": swap("memory.surfels.radius", lambda x: x[:, None]),
    "NaN position": put("memory.surfels.position", NAN),
    "radius of a kilometre": put("memory.surfels.radius", 1e6),
    "long normal": put("memory.surfels.normal", 1e18),
    "bright image": put("step.views.image", 2.0),
    "negative depth": put("step.generations.tuple.depth", -1.0),
    "scaled pose": put("step.targets.world_from_cam", 3.0, (0, 0, 0)),
    "NaN lens": put("step.targets.K", NAN),
    "wide image": swap("step.views.image", lambda x: x[..., :5]),
    "infinite code": put("step.views.latent", float("inf")),
    "missing tensor": lambda tensors: tensors.pop("memory.surfels.color"),
}


def alias(folder: Path, name: str) -> str:
    """The stored name of a tensor, which may be that of an equal one."""
    journal = Journal(folder / "journal")
    offset = next(offset for offset, record in journal.news()[1] if record.get("id") == STEP)
    _, body = journal.read(offset)
    names = {key: tensor for key, (_, tensor) in body["memory"]["columns"].items()}
    return names.get(name.removeprefix("memory."), name)


@pytest.mark.parametrize("change", BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_no_write_makes_are_refused(change, folder):
    class Stored(dict):
        """Tensors by the names of the memory's columns."""

        def __getitem__(self, name: str) -> Tensor:
            return super().__getitem__(self.real(name))

        def __setitem__(self, name: str, value: Tensor) -> None:
            super().__setitem__(self.real(name), value)

        def real(self, name: str) -> str:
            by_step = {
                "step.views.image": "views.image",
                "step.views.latent": "views.latent",
                "step.generations.tuple.depth": "views.depth",
                "step.targets.world_from_cam": "views.cameras.world_from_cam",
                "step.targets.K": "views.cameras.K",
            }
            return alias(folder, by_step.get(name, name))

        def pop(self, name: str) -> Tensor:
            return super().pop(self.real(name))

    def changed(tensors: dict) -> None:
        stored = Stored(tensors)
        change(stored)
        tensors.clear()
        tensors.update(stored)

    edit_tensors(folder, STEP, changed)
    with Session(folder, readonly=True) as session:
        session.memory(1)
        with pytest.raises(ValueError, match=r"0000000\d\.safetensors"):
            session.memory(STEP)


def test_a_pickle_in_place_of_the_tensors_is_not_unpickled(folder):
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(folder / "sprung"),)

    (folder / "tensors" / "00000002.safetensors").write_bytes(pickle.dumps(Trap()))
    with Session(folder, readonly=True) as session, pytest.raises(ValueError, match="damaged"):
        session.step(2)
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"parent": 99},
        {"parent": STEP},
        {"id": 1},
        {"id": "../3"},
        {"counts": [1, 2]},
        {"kind": "else"},
        {"size": -1},
        {"label": 3},
        {"seconds": {"write": "long"}},
    ],
    ids=str,
)
def test_a_tree_that_is_none_is_an_error_that_names_the_journal(change, folder):
    edit_record(folder, STEP, lambda record: record.update(change))
    for readonly in (True, False):
        with pytest.raises(ValueError, match="journal's record at byte"):
            Session(folder, readonly=readonly)


def test_settings_of_junk_are_refused_when_they_are_asked_for(folder):
    edit_record(folder, STEP, lambda record: record["settings"].update(k={"tensor": "x"}))
    with Session(folder, readonly=True) as session:
        session.step(STEP)
        with pytest.raises(ValueError, match="no tensor here"):
            session.config(STEP)


def test_the_records_are_json_that_other_programs_read(folder):
    text = (folder / "journal").read_bytes()
    first = text.index(b"\n") + 1
    _, length, _ = HEADER.unpack(text[first : first + HEADER.size])
    start = first + HEADER.size
    record, body = map(json.loads, text[start : start + length].split(b"\n"))
    assert (record["kind"], record["id"]) == ("root", 0)
    assert body.keys() == {"memory", "config", "tensors"}
    assert torch.is_tensor(load_file(folder / "tensors" / "00000000.safetensors").popitem()[1])
