"""A memory on disk: a folder with memory.json and the tables as safetensors; no pickle.

`save` writes the tables under a new name. Then it replaces memory.json, which names them, in one
atomic step. So whoever reads finds the old memory or the new one, also after a crash or a power cut,
and while others save into the same folder.
`load` trusts nothing: it checks the shape, range and order of every table before it makes a Memory.
`save_ply` exports surfels for other programs, such as MeshLab, CloudCompare or Blender.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vmemkit.core import (
    CODES,
    SurfelConfig,
    Surfels,
    names_in,
    replacing,
    save_tensors,
    unflatten,
)
from vmemkit.memory.association import AssociationConfig
from vmemkit.memory.memory import Memory, MemoryConfig, check_codes
from vmemkit.memory.spill import Spill
from vmemkit.memory.tables import check_column, check_view_values

FORMAT, VERSION = "vmemkit-memory", 2
READABLE = (1, 2)  # in version 1, no view had seen a surfel that a later one wrote
INDEX = "memory.json"
TABLES = ("views", "surfels", "sightings")
ENDS = "ends.surfels"

# Names that other programs read as position, normal and colour; only `radius` is our own.
PLY_FLOATS, PLY_BYTES = ("x", "y", "z", "nx", "ny", "nz", "radius"), ("red", "green", "blue")
TABLES_NAME = re.compile(r"tables-[0-9a-f]{32}\.safetensors(\.json)?")
DRAFT_NAME = re.compile(r"\.writing-\w+")  # of `replacing`
ABANDONED = (
    3600.0  # seconds after which a draft or tables without an index belong to no running save
)
BIGGEST = 2**53  # of the numbers in a configuration: larger ones are no settings


def save(memory: Memory, folder: str | os.PathLike) -> None:
    """Write `memory` into `folder`, in place of a memory that the folder may hold.

    Errors: ValueError if `folder` is a file, or holds other files and no memory; OSError for a full
    disk and a folder without permission. The older memory is then still there.
    """
    folder = Path(folder)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = f"tables-{uuid.uuid4().hex}.safetensors"
    tensors = {
        f"{table}.{name}": leaf
        for table in TABLES
        for name, leaf in getattr(memory, table).leaves().items()
    }
    tensors[ENDS] = memory.ends
    index = {
        "format": FORMAT,
        "version": VERSION,
        "tables": tables,
        "config": dataclasses.asdict(memory.config),
    }
    try:
        save_tensors(folder / tables, tensors)
        before = _tables_of(folder)
        with replacing(folder / INDEX) as draft:
            draft.write_text(json.dumps(index, indent=1))
    except BaseException:
        (folder / tables).unlink(missing_ok=True)
        raise
    if before is not None:
        (folder / before).unlink(missing_ok=True)
    _clean(folder, tables)


def _tables_of(folder: Path) -> str | None:
    """The tables that the folder's index names; None without an index."""
    return _read_index(folder / INDEX)["tables"] if (folder / INDEX).exists() else None


def _clean(folder: Path, tables: str) -> None:
    """Delete what saves that were killed or overtaken have left, if it is old: another process may
    be saving into the same folder."""
    for path in folder.iterdir():
        ours = TABLES_NAME.fullmatch(path.name) or DRAFT_NAME.fullmatch(path.name)
        if not ours or path.name in (tables, _tables_of(folder)):
            continue
        with contextlib.suppress(FileNotFoundError):  # somebody else has deleted it
            if time.time() - path.lstat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def load(
    folder: str | os.PathLike, device: torch.device | str = "cpu", spill: Spill | None = None
) -> Memory:
    """Read a memory; `spill` as in `Memory.empty`.

    Errors: ValueError that names the file and what is wrong with it.
    """
    index_path = Path(folder) / INDEX
    index = _read_index(index_path)
    while True:
        path = index_path.parent / index["tables"]
        try:
            tensors = load_file(path)
            break
        except Exception as error:
            read, index = index, _read_index(index_path)
            if index == read:  # otherwise a save came between, and has deleted these tables
                raise ValueError(f"cannot read the tables {path}: {error}") from error
    try:
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        return _assemble(tensors, _config(index.get("config")), spill)
    except ValueError as error:
        raise ValueError(f"{path} is not a sound memory: {error}") from error


def check_folder(folder: Path) -> None:
    """Errors: ValueError unless a memory can be saved in `folder`: unless it is new or empty, holds
    a memory, or holds only what an interrupted `save` leaves."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder to save the memory in")
    names = names_in(folder) if folder.exists() else []
    if INDEX in names:
        _read_index(folder / INDEX)
        return
    others = [n for n in names if not (TABLES_NAME.fullmatch(n) or DRAFT_NAME.fullmatch(n))]
    if others:
        raise ValueError(
            f"{folder} holds other files, such as {others[0]}, and no {INDEX}: give a new or empty "
            "folder"
        )


def save_ply(surfels: Surfels, path: str | os.PathLike) -> None:
    """Write surfels as the vertices of a binary PLY file: positions in world units, normals as in
    the memory (away from the viewer), radii, and colours of 8 bits.

    Errors: ValueError for a suffix other than .ply, and for a folder that does not exist.
    """
    if Path(path).suffix.lower() != ".ply":
        raise ValueError(f"surfels are saved as .ply, got {path}")
    kinds = [(name, "<f4") for name in PLY_FLOATS] + [(name, "u1") for name in PLY_BYTES]
    vertices = np.empty(len(surfels), kinds)
    geometry = torch.cat([surfels.position, surfels.normal, surfels.radius[:, None]], 1)
    colors = (surfels.color * 255).round().byte()
    for names, values in ((PLY_FLOATS, geometry), (PLY_BYTES, colors)):
        for name, column in zip(names, values.cpu().numpy().T, strict=True):
            vertices[name] = column
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(surfels)}"]
    header += [f"property float {name}" for name in PLY_FLOATS]
    header += [f"property uchar {name}" for name in PLY_BYTES]
    with replacing(path) as draft:
        draft.write_bytes("\n".join([*header, "end_header\n"]).encode() + vertices.tobytes())


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise ValueError(f"cannot read {path}, the index of a saved memory: {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} is not the index of a {FORMAT}")
    if index.get("version") not in READABLE:
        raise ValueError(f"{path} has version {index.get('version')!r}; this code reads {READABLE}")
    # The name becomes part of a path, so only names that `save` makes are accepted.
    name = index.get("tables")
    if not (isinstance(name, str) and TABLES_NAME.fullmatch(name)):
        raise ValueError(f"{path} names no table file of its own folder, got {name!r}")
    return index


def _config(raw: Any) -> MemoryConfig:
    """The configuration in memory.json; its classes check their values."""
    try:
        budget = raw.get("budget")  # missing in memories of versions that had no budget
        if type(budget) not in (int, type(None)):
            raise ValueError(f"budget = {budget!r}")
        for name, value in {**raw["surfels"], **raw["association"]}.items():
            if isinstance(value, int | float) and not abs(value) <= BIGGEST:
                raise ValueError(f"{name} = {value!r:.40}")
        surfels = SurfelConfig(**raw["surfels"])
        association = AssociationConfig(**raw["association"])
        return MemoryConfig(surfels, association, budget)
    except Exception as error:
        raise ValueError(f"bad configuration ({type(error).__name__}): {error}") from error


def _assemble(tensors: dict[str, Tensor], config: MemoryConfig, spill: Spill | None) -> Memory:
    """The memory with these tables. Errors: ValueError for tables that no memory can have."""
    empty = Memory.empty(config)
    tables = {}
    for table in TABLES:
        like = getattr(empty, table)
        leaves = {name: tensors.get(f"{table}.{name}") for name in like.leaves()}
        lengths = {len(leaf) for leaf in leaves.values() if leaf is not None and leaf.ndim}
        if None in leaves.values() or len(lengths) != 1:
            raise ValueError(f"table {table!r} lacks columns or they differ in length")
        for name, leaf in like.leaves().items():
            check_column(f"{table}.{name}", leaves[name], leaf)
        tables[table] = unflatten(like, leaves)
    if ENDS not in tensors:
        raise ValueError(f"the column {ENDS} is missing")
    check_column(ENDS, tensors[ENDS], empty.ends)
    codes = {name: tensors.get(f"views.{name}") for name in CODES}
    tables["views"] = tables["views"].replace(**codes)
    check_codes(tables["views"])
    check_view_values(tables["views"])
    return Memory.from_tables(ends=tensors[ENDS], config=config, spill=spill, **tables)
