"""Records of memories and steps: everything that they hold, as JSON and tensors, and back.

In: a memory to begin with, or a step. Out: a record and its body for the journal, and tensors for a
file. Of a memory only those rows are stored that its parent lacks. Reading a step
puts the rows back and computes nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Views, same_bits
from vmemkit.memory import (
    Columns,
    Memory,
    MemoryConfig,
    States,
    columns_since,
    states_since,
)
from vmemkit.pipeline import Step, WalkConfig
from vmemkit.sessions.descriptions import describe
from vmemkit.sessions.journal import Record
from vmemkit.sessions.motion import motion_between
from vmemkit.sessions.tensor_pool import TensorFile, TensorPool
from vmemkit.sessions.values import NotStorableError, build, decode, encode, no_tensor

# Fields of a step that are stored as they are. The memories are stored as rows, and the context is
# most often some of their views.
STORED = ("targets", "retrieval", "generations", "views", "reports", "seconds", "backend")


@dataclass(frozen=True)
class NewNode:
    """A node to be stored: what its entry says, what else the journal has of it, and its tensors."""

    record: Record
    body: Record
    pool: TensorPool


def new_root(memory: Memory, label: str) -> NewNode:
    """A memory to begin with."""
    node = _new_node("root", memory, None, label)
    node.body["config"] = encode(memory.config, node.pool.store, "config")
    return node


def new_step(step: Step, config: WalkConfig | None, label: str) -> NewNode:
    """A step; `step.before` is the memory of its parent."""
    node = _new_node("step", step.memory, step.before, label)
    store = node.pool.store
    parts = {name: encode(getattr(step, name), store, f"step.{name}") for name in STORED}
    node.body["step"] = {**parts, "context": _context(step, node.pool)}
    record = node.record
    record["chosen"] = step.retrieval.chosen.tolist()
    record["seconds"] = {name: encode(s, store, "") for name, s in step.seconds.items()}
    record["moved"] = motion_between(step.before.views.cameras[-1], step.targets[-1])
    if config is not None:
        fields = dataclasses.fields(config)
        record["settings"] = {f.name: describe(getattr(config, f.name)) for f in fields}
    return node


def config_in(body: Record) -> MemoryConfig:
    """The settings in a root's body. Errors: ValueError for others than those of a memory."""
    config = decode(body.get("config"), no_tensor)
    if not isinstance(config, MemoryConfig):
        raise ValueError("a root lacks the settings of its memory")
    return config


def rows_in(body: Record, tensors: TensorFile) -> tuple[Columns, States]:
    """The columns and states that a node adds. Errors: ValueError for damaged ones."""
    match body.get("memory"):
        case {"columns": dict(columns), "states": [int(shared), list(states)]}:
            rows = {name: (int(start), tensors.fetch(t)) for name, (start, t) in columns.items()}
            return rows, (shared, tuple(decode(state, tensors.fetch) for state in states))
    raise ValueError("a node lacks the rows of its memory")


def picture_in(body: Record, tensors: TensorFile) -> Float[Tensor, "3 h w"]:
    """The last image that a node adds. Errors: ValueError for a damaged one."""
    match body.get("memory"):
        case {"columns": {"views.image": [int(), str(name)]}}:
            images = tensors.fetch(name)
            pictures = images.is_floating_point() and images.ndim == 4 and images.shape[1] == 3
            if pictures and images.numel():
                return images[-1]
    raise ValueError("a node lacks the images of its memory")


def joined(parts: Sequence[tuple[Columns, States]]) -> tuple[Columns, States]:
    """Rows that follow one another as one. Errors: ValueError if they do not."""
    columns, (shared, states) = parts[0]
    names, pieces = columns.keys(), {name: [rows] for name, (_, rows) in columns.items()}
    ends = {name: start + len(rows) for name, (start, rows) in columns.items()}
    for columns_after, (shared_after, states_after) in parts[1:]:
        if columns_after.keys() != names:
            raise ValueError("a step adds rows of other columns than it says")
        for name, (start, rows) in columns_after.items():
            if start != ends[name] or rows.shape[1:] != pieces[name][0].shape[1:]:
                raise ValueError(f"the rows of {name} do not follow those before")
            pieces[name].append(rows)
            ends[name] += len(rows)
        if not shared <= shared_after <= shared + len(states):
            raise ValueError("the states do not follow those before")
        states = (*states[: shared_after - shared], *states_after)
    whole = {name: (columns[name][0], torch.cat(rows)) for name, rows in pieces.items()}
    return whole, (shared, states)


def step_in(body: Record, tensors: TensorFile, before: Memory, memory: Memory) -> Step:
    """The step of a body. Errors: ValueError for one that no walk can make."""
    stored = body.get("step")
    if not isinstance(stored, dict) or stored.keys() != {*STORED, "context"}:
        raise ValueError("a step lacks fields")
    fields = {name: decode(stored[name], tensors.fetch) for name in STORED}
    chosen = fields["retrieval"].chosen
    match stored["context"]:
        case "before" | "memory" as source:
            context = (before if source == "before" else memory).views[chosen]
        case made:
            context = decode(made, tensors.fetch)
    step = build(Step, {**fields, "context": context, "before": before, "memory": memory})
    m = len(memory) - len(before)
    if not len(step.targets) == len(step.views) == m or len(step.generations) == 0:
        raise ValueError(f"a step of {m} views has others: {step.targets}, {step.views}")
    return step


def _new_node(kind: str, memory: Memory, before: Memory | None, label: str) -> NewNode:
    """What roots and steps share."""
    pool = TensorPool()
    columns = columns_since(memory, before)
    old = {} if before is None else columns_since(before)
    goes_on = columns.keys() == old.keys() and all(
        start == len(old[name][1]) for name, (start, _) in columns.items()
    )
    shared, states = states_since(memory, before)
    stored, left_out = _stored_states(states, shared, pool)
    record = {
        "kind": kind,
        "label": label,
        "moved": "",
        "chosen": [],
        "seconds": {},
        "time": time.time(),
        "counts": [len(memory), len(memory.surfels), len(memory.packed_sightings)],
        "goes_on": goes_on,
        "settings": None,
        "left_out": left_out,
        "versions": {
            "vmemkit": import_module("vmemkit").__version__,
            "torch": str(torch.__version__),
        },
    }
    rows = {
        name: [start, pool.store(f"memory.{name}", column)]
        for name, (start, column) in columns.items()
    }
    return NewNode(record, {"memory": {"columns": rows, "states": [shared, stored]}}, pool)


def _stored_states(
    states: Sequence[object], first: int, pool: TensorPool
) -> tuple[list[Any], list[str]]:
    """A reconstructor's states as JSON, and a sentence for each that cannot be stored."""
    stored, left_out = [], []
    for view, state in enumerate(states, start=first):
        try:
            stored.append(encode(state, pool.store, f"state.{view}"))
        except (NotStorableError, RecursionError) as error:
            kind = getattr(error, "type_name", "value that holds itself")
            stored.append(None)
            left_out.append(f"the reconstructor's state after view {view}: a {kind}")
    return stored, left_out


def _context(step: Step, pool: TensorPool) -> Any:
    """The chosen views: a word if they are those of a memory, with or without codes."""
    for source, memory in (("before", step.before), ("memory", step.memory)):
        if _same_views(step.context, memory.views[step.retrieval.chosen]):
            return source
    return encode(step.context, pool.store, "step.context")


def _same_views(a: Views, b: Views) -> bool:
    ours, theirs = a.leaves(), b.leaves()
    return ours.keys() == theirs.keys() and all(same_bits(ours[n], theirs[n]) for n in ours)
