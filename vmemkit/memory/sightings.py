"""Sightings: which view saw which surfel, packed as one bit each.

In: pairs (surfel, view), ordered by view. Out: marks: one row for every 64 neighbouring surfels of
which a view saw any. Neighbours in a picture are neighbours in the table, so a row stands for some
thirty sightings and a sighting costs half a byte instead of eight. Rows only ever come at the end.
The questions that retrieval asks are answered on the packed rows: votes, counts, and the sightings
of some surfels. Compiled kernels answer them (backends.py); the torch code is the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import TensorStruct
from vmemkit.core.kernels import backend, cpu, pairs

WORD = 64  # surfels per row

BATCH = 1 << 16  # rows that are unpacked at once: bounds the memory of a call to some 100 MB


@dataclass(frozen=True, repr=False)
class Sightings(TensorStruct):
    """Row s: `surfel[s]` was seen in `view[s]`. Ordered by view."""

    surfel: Int[Tensor, " s"]
    view: Int[Tensor, " s"]


@dataclass(frozen=True, repr=False)
class Marks(TensorStruct):
    """Row r: of the surfels from 64 word[r] on, view[r] saw those whose bit is set in bits[r].
    Ordered by view, then by word."""

    word: Int[Tensor, " r"]
    view: Int[Tensor, " r"]
    bits: Int[Tensor, " r"]


def pack(sightings: Sightings) -> Marks:
    """The marks of sightings. Errors: ValueError where a view sees a surfel twice."""
    surfel, view = sightings.surfel.long(), sightings.view.long()
    key = (view << 32) | surfel
    if not (torch.diff(key) > 0).all():
        key = key.sort().values
        if (torch.diff(key) == 0).any():
            raise ValueError("a view may see a surfel once: the sightings hold a pair twice")
    row, place = torch.unique_consecutive(key >> 6, return_inverse=True)
    bit = torch.ones_like(key) << (key & (WORD - 1))
    # Different bits: their sum is their union.
    bits = torch.zeros_like(row).index_add_(0, place, bit)
    word = row & ((1 << 26) - 1)
    return Marks(word.int(), (row >> 26).int(), bits)


def unpack(marks: Marks) -> Sightings:
    """The sightings of marks, in their order."""
    surfel, view = _pairs(marks, marks.bits)
    return Sightings(surfel.int(), view.int())


def sightings_of(
    marks: Marks, surfels: Bool[Tensor, " n"]
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """(surfel, view) of all sightings of the surfels of a mask, ordered by view."""
    return _pairs(marks, marks.bits & packed(surfels)[marks.word.long()])


def surfels_of(marks: Marks, view: int) -> Int[Tensor, " s"]:
    """The surfels that a view saw, ascending."""
    ends = marks.view.new_tensor([view, view + 1])
    start, stop = torch.searchsorted(marks.view.contiguous(), ends).tolist()
    rows = marks[start:stop]
    return _pairs(rows, rows.bits)[0]


def views_of(marks: Marks, surfel: int) -> Int[Tensor, " v"]:
    """The views that saw a surfel, ascending."""
    seen = (marks.word == surfel // WORD) & ((marks.bits >> (surfel % WORD)) & 1).bool()
    return marks.view[seen].long()


def weight_by_view(marks: Marks, weight: Float[Tensor, " n"], views: int) -> Float[Tensor, " t"]:
    """Per view the sum of the weights of the surfels that it saw, added up in float64."""
    weight = weight.float()
    engine = backend(marks.device)
    if engine == "numba":
        return cpu.votes(*marks.leaves().values(), weight, views)
    if engine == "triton":
        from vmemkit.core.kernels import cuda

        return cuda.votes(*marks.leaves().values(), weight, views)
    asked = packed(weight != 0)
    total = torch.zeros(views, dtype=torch.float64, device=weight.device)
    rows = _words(weight).double()
    for word, view, seen in _unpacked(marks, marks.bits & asked[marks.word.long()]):
        total.index_add_(0, view, (rows[word] * seen).sum(1))
    return total.float()


def sighting_counts(marks: Marks, surfels: int) -> Int[Tensor, " n"]:
    """How many views saw each of the `surfels` surfels that the marks are about."""
    engine = backend(marks.device)
    if engine == "numba":
        return cpu.sighting_counts(marks.word, marks.bits, surfels)
    if engine == "triton":
        from vmemkit.core.kernels import cuda

        return cuda.sighting_counts(marks.word, marks.bits, surfels)
    count = torch.zeros(-(-surfels // WORD), WORD, dtype=torch.int64, device=marks.device)
    for word, _, seen in _unpacked(marks, marks.bits):
        count.index_add_(0, word, seen.long())
    return count.flatten()[:surfels]


def last_seen(marks: Marks, surfels: int) -> Int[Tensor, " n"]:
    """The last view that saw each of the `surfels` surfels that the marks are about."""
    surfel, view = _pairs(marks, marks.bits)
    last = torch.zeros(surfels, dtype=torch.int64, device=marks.device)
    return last.scatter_reduce_(0, surfel, view, "amax")


def packed(mask: Bool[Tensor, " n"]) -> Int[Tensor, " w"]:
    """64 flags to a word."""
    if backend(mask.device) == "numba":
        return cpu.packed(mask)
    return (_words(mask).long() << torch.arange(WORD, device=mask.device)).sum(1)


def _words(values: Tensor) -> Tensor:
    """[n] -> [w 64], filled up with zeros."""
    filled = torch.nn.functional.pad(values, (0, -len(values) % WORD))
    return filled.view(-1, WORD)


def _unpacked(marks: Marks, bits: Tensor) -> Iterator[tuple[Tensor, Tensor, Bool[Tensor, "b 64"]]]:
    """Batches of (word, view, flags)."""
    places = torch.arange(WORD, device=bits.device)
    for start in range(0, len(bits), BATCH):
        rows = slice(start, start + BATCH)
        flags = ((bits[rows, None] >> places) & 1).bool()
        yield marks.word[rows].long(), marks.view[rows].long(), flags


def _pairs(marks: Marks, bits: Tensor) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """(surfel, view) of the set bits, which are those of the marks or some of them."""
    if backend(bits.device) == "numba":
        return pairs(marks.word, marks.view, bits)
    none = torch.zeros(0, dtype=torch.int64, device=bits.device)
    surfels, views = [none], [none]
    for word, view, flags in _unpacked(marks, bits):
        row, place = flags.nonzero(as_tuple=True)
        surfels.append(word[row] * WORD + place)
        views.append(view[row])
    return torch.cat(surfels), torch.cat(views)
