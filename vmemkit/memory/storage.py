"""A memory on disk: one folder with memory.json and the tables as safetensors; no pickle.

`save` writes the tables under a fresh name and then replaces memory.json, which names them, in one
atomic step: a reader, or a crash, sees the old memory or the new one, never a mixture.
`load` trusts nothing: every table's shape, range and order is checked before a Memory is made.
`save_ply` is for showing surfels in other programs: MeshLab, CloudCompare, Blender.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vmemkit.core import CODES, SurfelConfig, Surfels, Views, check, replacing, unflatten
from vmemkit.memory.association import AssociationConfig
from vmemkit.memory.memory import Memory, MemoryConfig, check_codes
from vmemkit.memory.spill import Spill

FORMAT, VERSION = "vmemkit-memory", 1

INDEX = "memory.json"

TABLES = ("views", "surfels", "sightings", "ends")

# The names that programs know as position, normal and colour; the radius is ours.
PLY_FLOATS, PLY_BYTES = ("x", "y", "z", "nx", "ny", "nz", "radius"), ("red", "green", "blue")

TABLES_NAME = re.compile(r"tables-[0-9a-f]{32}\.safetensors(\.json)?")


def save(memory: Memory, folder: str | os.PathLike) -> None:
    """Write `memory` into `folder`, replacing the memory that it holds, if any.

    Errors: ValueError if the folder holds other things and no memory, or the path is a file.
    """
    folder = Path(folder)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = f"tables-{uuid.uuid4().hex}.safetensors"
    tensors = {
        f"{table}.{name}": leaf.contiguous().cpu()
        for table in TABLES
        for name, leaf in getattr(memory, table).leaves().items()
    }
    # Views of one buffer must be copied apart, or safetensors refuses them as shared memory.
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / tables)
    index = {
        "format": FORMAT,
        "version": VERSION,
        "tables": tables,
        "config": dataclasses.asdict(memory.config),
    }
    temporary = folder / f"{tables}.json"
    temporary.write_text(json.dumps(index, indent=1))
    os.replace(temporary, folder / INDEX)
    for stale in folder.iterdir():
        if TABLES_NAME.fullmatch(stale.name) and stale.name != tables:
            stale.unlink()


def load(
    folder: str | os.PathLike, device: torch.device | str = "cpu", spill: Spill | None = None
) -> Memory:
    """Read a memory; `spill` as in `Memory.empty`. Errors: ValueError that names the file and what
    is wrong with it."""
    index_path = Path(folder) / INDEX
    index = _read_index(index_path)
    path = index_path.parent / index["tables"]
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the tables {path}: {error}") from error
    try:
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        return _assemble(tensors, _config(index.get("config")), spill)
    except ValueError as error:
        raise ValueError(f"{path} is not a sound memory: {error}") from error


def _check_folder(folder: Path) -> None:
    """Errors: ValueError unless `folder` is new, empty, a memory's, or what a crash left of one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder to save a memory in")
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if INDEX in names:
        _read_index(folder / INDEX)
    elif not all(TABLES_NAME.fullmatch(name) for name in names):
        raise ValueError(f"{folder} holds other files and no {INDEX}: give a new or empty folder")


def save_ply(surfels: Surfels, path: str | os.PathLike) -> None:
    """Write surfels as the vertices of a binary PLY file: positions in world units, normals as they
    are in memory (away from the viewer), radii, and colours of 8 bits.

    Errors: ValueError for another suffix than .ply, and for no folder to write to.
    """
    if Path(path).suffix.lower() != ".ply":
        raise ValueError(f"surfels are saved as .ply, got {path}")
    vertices = np.empty(
        len(surfels), [(name, "<f4") for name in PLY_FLOATS] + [(name, "u1") for name in PLY_BYTES]
    )
    floats = torch.cat([surfels.position, surfels.normal, surfels.radius[:, None]], 1)
    bytes_ = (surfels.color * 255).round().byte()
    for names, columns in ((PLY_FLOATS, floats.cpu().numpy()), (PLY_BYTES, bytes_.cpu().numpy())):
        for i, name in enumerate(names):
            vertices[name] = columns[:, i]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(surfels)}"]
    header += [f"property float {name}" for name in PLY_FLOATS]
    header += [f"property uchar {name}" for name in PLY_BYTES]
    with replacing(path) as draft:
        draft.write_bytes("\n".join([*header, "end_header\n"]).encode() + vertices.tobytes())


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}, the index of a saved memory: {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} is not the index of a {FORMAT}")
    if index.get("version") != VERSION:
        raise ValueError(f"{path} has version {index.get('version')!r}; this code reads {VERSION}")
    # The name goes into a path: only the names that `save` makes are followed.
    name = index.get("tables")
    if not (isinstance(name, str) and TABLES_NAME.fullmatch(name)):
        raise ValueError(f"{path} names no table file of its own folder, got {name!r}")
    return index


def _config(raw: Any) -> MemoryConfig:
    try:
        parts = SurfelConfig(**raw["surfels"]), AssociationConfig(**raw["association"])
        budget = raw.get("budget")  # memories from before there were budgets have none
    except (TypeError, KeyError) as error:
        raise ValueError(f"bad configuration: {error}") from error
    if not (budget is None or (type(budget) is int and budget > 0)):
        raise ValueError(f"bad configuration: budget = {budget!r}")
    config = MemoryConfig(*parts, budget)
    for part in (config.surfels, config.association):
        for name, kind in typing.get_type_hints(type(part)).items():
            value, choices = getattr(part, name), typing.get_args(kind)  # of a Literal
            fits = value in choices if choices else isinstance(value, int | float)
            if not fits or value != value:
                raise ValueError(f"bad configuration: {name} = {value!r}")
    return config


def _assemble(tensors: dict[str, Tensor], config: MemoryConfig, spill: Spill | None) -> Memory:
    empty = Memory.empty(config)
    tables = {}
    for table in TABLES:
        like = getattr(empty, table)
        leaves = {name: tensors.get(f"{table}.{name}") for name in like.leaves()}
        lengths = {len(leaf) for leaf in leaves.values() if leaf is not None and leaf.ndim}
        if None in leaves.values() or len(lengths) != 1:
            raise ValueError(f"table {table!r} lacks columns or they differ in length")
        for name, leaf in like.leaves().items():
            _check_column(f"{table}.{name}", leaves[name], leaf)
        tables[table] = unflatten(like, leaves)
    codes = {name: tensors.get(f"views.{name}") for name in CODES}
    tables["views"] = tables["views"].replace(**codes)
    check_codes(tables["views"])
    _check_values(tables["views"], tables["surfels"])
    check(tables["views"].cameras)
    return Memory.from_tables(config=config, spill=spill, **tables)


def _check_column(name: str, got: Tensor, like: Tensor) -> None:
    """Same dtype, rank and fixed sizes as in an empty memory; finite where it must be."""
    fixed = [n for n in like.shape[1:] if n]
    if got.dtype != like.dtype or got.ndim != like.ndim:
        raise ValueError(f"{name} is {got.dtype} {list(got.shape)}, want {like.dtype}")
    if [n for n, m in zip(got.shape[1:], like.shape[1:], strict=True) if m] != fixed:
        raise ValueError(f"{name} has shape {list(got.shape)}, want [n, {fixed}]")
    may_be_unknown = name in ("views.depth", "views.confidence")
    if got.is_floating_point() and not may_be_unknown and not got.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity")


def _check_values(views: Views, surfels: Surfels) -> None:
    size = views.image.shape[2:]
    if views.depth.shape[1:] != size or views.confidence.shape[1:] != size:
        raise ValueError(f"depth and confidence must have the images' size {list(size)}")
    if len(views) and min(size) < 2:
        raise ValueError(f"images must have at least 2 x 2 pixels, got {list(size)}")
    if ((views.image < 0) | (views.image > 1)).any():
        raise ValueError("images must be in [0, 1]")
    if ((views.depth <= 0) | views.depth.isinf()).any() or views.confidence.isnan().any():
        raise ValueError("depth must be positive or NaN, and confidence not NaN")
    if (surfels.radius < 0).any():
        raise ValueError("radii must not be negative")
