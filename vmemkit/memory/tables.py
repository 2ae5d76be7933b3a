"""The tables of a memory, column by column: what a write has added, and how it is put back.

In: memories, or columns by name, such as "surfels.radius". Out: columns, or a memory of stored ones.
Nothing is computed anew: a memory that is put together again is equal to the bit. Columns may come
from a file of anybody's, so that their types, sizes, ranges and order are checked.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vmemkit.core import (
    CODES,
    MAX_DISTANCE,
    TensorStruct,
    Views,
    boxes_of,
    check_cameras,
    check_surfels,
    far_depths,
    same_bits,
    unflatten,
)
from vmemkit.core.kernels import RUN
from vmemkit.memory.memory import Ends, Memory, Reach, check_codes, check_radii, sky_in
from vmemkit.memory.rows import Rows
from vmemkit.memory.sightings import WORD, spans_of

PARTS = ("views", "surfels", "sightings", "ends", "boxes")  # the sightings as packed rows
Columns = dict[str, tuple[int, Tensor]]  # by name: the first row, and the rows from there on
States = tuple[int, tuple[object, ...]]  # how many are those of an earlier memory, and the others


def columns_since(memory: Memory, before: Memory | None = None) -> Columns:
    """The columns of a memory, each from the row on up to which it is that of `before`.

    This row is the length of `before`, or 0 for a column that has changed in its older rows, such as
    surfels after some were forgotten, or codes that were added. Without `before` all start at 0.
    """
    columns = {}
    for part in PARTS:
        rows: Rows = getattr(memory, f"_{part}")
        earlier: Rows | None = getattr(before, f"_{part}", None)
        old = {} if earlier is None else earlier.value.leaves()
        shared = earlier is not None and rows.continues(earlier)
        for name, column in rows.value.leaves().items():
            start = len(old[name]) if name in old else 0
            if not shared and start and not same_bits(column[:start], old[name]):
                start = 0
            columns[f"{part}.{name}"] = (start, column[start:])
    return columns


def states_since(memory: Memory, before: Memory | None = None) -> States:
    """The reconstructor's states of a memory, without the first ones, which are those of `before`."""
    states, old, shared = memory._states, () if before is None else before._states, 0
    while shared < min(len(states), len(old)) and states[shared] is old[shared]:
        shared += 1
    return shared, states[shared:]


def same_memory(a: Memory, b: Memory) -> bool:
    """Whether two memories have the same settings and tables, to the bit. States are not compared."""
    if len(a) != len(b) or a.config != b.config:
        return False
    ours, theirs = columns_since(a, b), columns_since(b)
    return ours.keys() == theirs.keys() and all(
        start == len(theirs[name][1]) and len(rows) == 0 for name, (start, rows) in ours.items()
    )


def with_columns(memory: Memory, columns: Columns, states: States = (0, ())) -> Memory:
    """The memory of which `columns_since(..., memory)` and `states_since(..., memory)` tell.

    Errors: ValueError for columns and states that no memory can have.
    """
    like, changed, goes_on = Memory.empty(memory.config), {}, True
    for part in PARTS:
        prefix, rows = f"{part}.", getattr(memory, f"_{part}")
        own = {n.removeprefix(prefix): c for n, c in columns.items() if n.startswith(prefix)}
        _check_columns(part, own, rows, getattr(like, f"_{part}").value)
        starts = {start for start, _ in own.values()}
        if starts == {len(rows)} and own.keys() == rows.value.leaves().keys():
            new = _struct(rows.value, {name: column for name, (_, column) in own.items()})
            changed[f"_{part}"] = rows.append(new) if len(new) else rows
        else:
            changed[f"_{part}"] = rows.replaced(_struct(rows.value, _whole(own, rows)))
            goes_on = False
    unused = [name for name in columns if name.partition(".")[0] not in PARTS]
    if unused:
        raise ValueError(f"a memory has no column {unused[0]!r}")
    shared, new_states = states
    if not 0 <= shared <= len(memory._states):
        raise ValueError(f"{shared} states are shared with a memory of {len(memory._states)}")
    kept = columns["views.depth"][0]  # views whose depth is as before
    far = Reach(far_depths(changed["_views"].value.depth[kept:]))
    changed["_reach"] = memory._reach.append(far) if kept else memory._reach.replaced(far)
    spanned = columns["sightings.word"][0] // RUN  # runs of rows that are as before
    spans = spans_of(changed["_sightings"].value[spanned * RUN :])
    changed["_spans"] = memory._spans.prefix(spanned).append(spans)
    longer = dataclasses.replace(memory, **changed, _states=(*memory._states[:shared], *new_states))
    if len(longer._states) > len(longer):
        raise ValueError(f"{len(longer)} views cannot have {len(longer._states)} states")
    _check_rows(longer, len(memory) if goes_on else 0)
    return longer


def check_column(name: str, got: Tensor, like: Tensor) -> None:
    """Compare a column with `like`, the same column of an empty memory.

    Errors: ValueError for another dtype, number of axes or size, and for NaN or infinity where
    values must be finite. Where an axis of `like` has size 0, any size fits.
    """
    if got.dtype != like.dtype or got.ndim != like.ndim:
        raise ValueError(
            f"{name} is {got.dtype} {list(got.shape)}, needs {like.dtype} with {like.ndim} axes"
        )
    needed = like.shape[1:]
    if any(n not in (0, size) for n, size in zip(needed, got.shape[1:], strict=True)):
        sizes = ["n", *(n or "any" for n in needed)]
        raise ValueError(f"{name} has shape {list(got.shape)}, needs {sizes}")
    checked_later = name in ("views.depth", "views.confidence")
    if got.is_floating_point() and not checked_later and not got.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity")


def check_view_values(views: Views) -> None:
    """Errors: ValueError for sizes that do not agree and for values out of range."""
    size = views.image.shape[2:]
    if views.depth.shape[1:] != size or views.confidence.shape[1:] != size:
        raise ValueError(f"depth and confidence must have the images' size {list(size)}")
    if len(views) and min(size) < 2:
        raise ValueError(f"images must have at least 2 x 2 pixels, got {list(size)}")
    if ((views.image < 0) | (views.image > 1)).any():
        raise ValueError("images must be in [0, 1]")
    beyond = (views.depth > MAX_DISTANCE) & views.depth.isfinite()
    if ((views.depth <= 0) | beyond).any():
        raise ValueError(
            f"depth must be positive and at most {MAX_DISTANCE:g}, NaN (unknown) or infinite (sky)"
        )
    if views.confidence.isnan().any():
        raise ValueError("confidence must not be NaN")


def _check_columns(part: str, columns: Columns, rows: Rows, like: TensorStruct) -> None:
    """Errors: ValueError for columns of one table that are missing, of another kind, or not of one
    length, and that neither start anew nor go on from `rows`."""
    needed, old = like.leaves(), rows.value.leaves()
    known = {*needed, *(CODES if part == "views" else ())}
    if not needed.keys() <= columns.keys() <= known:
        raise ValueError(f"the table {part!r} needs columns {sorted(needed)}, got {list(columns)}")
    if len({start + len(column) for start, column in columns.values()}) != 1:
        raise ValueError(f"the columns of the table {part!r} differ in length")
    for name, (start, column) in columns.items():
        if start not in (0, len(rows)) or (start and name not in old):
            raise ValueError(f"{part}.{name} starts at row {start}, after {len(rows)} rows")
        if name in needed:
            check_column(f"{part}.{name}", column, needed[name])
        if start and column.shape[1:] != old[name].shape[1:]:
            raise ValueError(
                f"{part}.{name} has rows of {list(column.shape[1:])}, and before of "
                f"{list(old[name].shape[1:])}"
            )


def _whole(columns: Columns, rows: Rows) -> dict[str, Tensor]:
    """The columns with the older rows of those that go on."""
    old = rows.value.leaves()
    return {
        name: column if start == 0 else torch.cat([old[name], column.to(old[name].device)])
        for name, (start, column) in columns.items()
    }


def _struct(like: TensorStruct, columns: dict[str, Tensor]) -> TensorStruct:
    """A table like `like` with these columns, on its device; codes come and go."""
    columns = {name: column.to(like.device) for name, column in columns.items()}
    if isinstance(like, Views):
        like = like.replace(**dict.fromkeys(CODES))
        codes = {name: columns[name] for name in CODES if name in columns}
        return unflatten(like, columns).replace(**codes)
    return unflatten(like, columns)


def _check_rows(memory: Memory, since: int) -> None:
    """Check all that views from index `since` on have written; older rows were checked before.

    Errors: ValueError where the tables contradict each other or hold what no write makes.
    """
    t, first, last = len(memory), _ends_after(memory, since), _ends_after(memory, len(memory))
    ends, views = memory._ends.value[since:], memory.views[since:]
    if len(memory._ends) != t or last != (len(memory._surfels), len(memory._sightings)):
        raise ValueError(f"the ends do not agree with {t} views and the lengths of the tables")
    for name, column, start in zip(
        ("surfels", "rows"), (ends.surfels, ends.rows), first, strict=True
    ):
        if (torch.diff(column, prepend=torch.tensor([start])) < 0).any():
            raise ValueError(f"ends.{name} must rise from {start}")
    check_view_values(views)
    check_codes(views)
    check_cameras(views.cameras)
    if not torch.equal(ends.sky, sky_in(views.depth)):
        raise ValueError("the views that show sky are not those that are said to")
    surfels = memory.surfels[first[0] :]
    check_surfels(surfels)
    check_radii(surfels, views, ends.surfels - first[0], memory.config.surfels)
    _check_sightings(memory, since, first[1], ends)
    run = first[0] // RUN
    boxes = boxes_of(memory.surfels.position[run * RUN :], memory.surfels.radius[run * RUN :])
    stored = memory.boxes[run:].leaves()
    if not all(same_bits(stored[name], box) for name, box in boxes.leaves().items()):
        raise ValueError("the boxes are not those of the surfels")


def _ends_after(memory: Memory, views: int) -> tuple[int, int]:
    """How many surfels and packed rows there were after so many views."""
    ends = memory._ends.value[max(0, views - 1) : views]
    return int(ends.surfels.sum()), int(ends.rows.sum())


def _check_sightings(memory: Memory, since: int, first: int, ends: Ends) -> None:
    """Errors: ValueError for packed rows from `first` on whose view or surfels did not exist when
    their block was written. `ends` are those of the views from `since` on."""
    packed = memory.packed_sightings[first:]
    ends = ends.to(memory.device)
    row = torch.arange(first, first + len(packed), device=memory.device)
    block = torch.searchsorted(ends.rows, row, right=True)
    known = ends.surfels[block] - packed.word.long() * WORD  # surfels from this word on
    within = (known >= WORD) | ((packed.bits >> known.clamp(0, WORD - 1)) == 0)
    views = (packed.view >= 0) & (packed.view <= block + since)
    if not (views & (packed.word >= 0) & (known > 0) & within).all():
        raise ValueError("a sighting names a view or a surfel that does not exist")
