"""Sightings: which view saw which surfel, stored as one bit each.

In: pairs (surfel, view). Out: `PackedSightings`. A row says which of 64 neighbouring surfels one view
saw; where it saw none of them there is no row. Neighbours in an image are neighbours in the table. So
a row holds about thirty sightings, and each takes half a byte instead of eight.
Rows are only appended, one block for each write. The block of view t holds what t saw, and which of
its new surfels older views had seen already. So a pair belongs to the block of its view or of the
view that wrote its surfel, whichever came later.
Retrieval asks packed rows for votes, counts, and the sightings of some surfels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import TensorStruct
from vmemkit.core.kernels import RUN, accelerated

WORD = 64  # surfels per row
BATCH = 1 << 16  # rows that are unpacked at once, which bounds the memory of a call to 100 MB


@dataclass(frozen=True, repr=False)
class Sightings(TensorStruct):
    """Row s: `surfel[s]` was seen in `view[s]`. Ordered by block, then by view and surfel."""

    surfel: Int[Tensor, " s"]
    view: Int[Tensor, " s"]


@dataclass(frozen=True, repr=False)
class PackedSightings(TensorStruct):
    """Row r: `view[r]` saw surfel 64 * word[r] + i if bit i of bits[r] is set.

    Ordered by block, then by view and word. A view may have a word in two blocks.
    """

    word: Int[Tensor, " r"]
    view: Int[Tensor, " r"]
    bits: Int[Tensor, " r"]


@dataclass(frozen=True, repr=False)
class Spans(TensorStruct):
    """The least and the greatest word of each full run of 256 packed rows: what to skip."""

    low: Int[Tensor, " c"]
    high: Int[Tensor, " c"]


def spans_of(sightings: PackedSightings) -> Spans:
    """The spans of all full runs of rows. A last run that is not full has none."""
    words = sightings.word[: len(sightings) // RUN * RUN].view(-1, RUN)
    return Spans(words.amin(1), words.amax(1))


def pack_sightings(
    sightings: Sightings, ends: Int[Tensor, " t"]
) -> tuple[PackedSightings, Int[Tensor, " t"]]:
    """The sightings as packed rows, and the number of rows after each view. `ends` are the numbers of
    surfels after each view.

    Errors: ValueError where a view sees a surfel twice.
    """
    key = _keys(sightings.surfel.long(), sightings.view.long()).sort().values
    if (torch.diff(key) == 0).any():
        raise ValueError("a view may see a surfel once: the sightings hold a pair twice")
    writer = torch.searchsorted(ends, key & 0xFFFFFFFF, right=True)
    block, order = torch.maximum(key >> 32, writer).sort(stable=True)
    packed, block = _packed(key[order], block)
    views = torch.arange(len(ends), device=ends.device)
    return packed, torch.searchsorted(block, views, right=True)


def pack_ordered(surfel: Int[Tensor, " s"], view: Int[Tensor, " s"]) -> PackedSightings:
    """A block of packed rows, of different pairs (int64) that are ordered by view, then by surfel."""
    return _packed(_keys(surfel, view), torch.zeros_like(view))[0]


def _keys(surfel: Int[Tensor, " s"], view: Int[Tensor, " s"]) -> Int[Tensor, " s"]:
    return (view << 32) | surfel  # the surfel: 26 bits of its word, 6 of its place in the word


def _packed(
    key: Int[Tensor, " s"], block: Int[Tensor, " s"]
) -> tuple[PackedSightings, Int[Tensor, " r"]]:
    """Packed rows of keys that ascend within each block, and the block of each row."""
    row_key = key >> 6
    starts = (torch.diff(row_key) != 0) | (torch.diff(block) != 0)
    row = torch.nn.functional.pad(starts.cumsum(0), (1, 0))[: len(key)]
    first = torch.nn.functional.pad(starts, (1, 0), value=True)[: len(key)].nonzero()[:, 0]
    bit = torch.ones_like(key) << (key & (WORD - 1))
    # The bits of a row differ, so that their sum is their union.
    bits = key.new_zeros(len(first)).index_add_(0, row, bit)
    word = row_key[first] & ((1 << 26) - 1)
    return PackedSightings(word.int(), (row_key[first] >> 26).int(), bits), block[first]


def unpack_sightings(packed_sightings: PackedSightings) -> Sightings:
    """The sightings, one row each, in their order."""
    surfel, view = _pairs(packed_sightings, packed_sightings.bits)
    return Sightings(surfel.int(), view.int())


def sightings_of(
    sightings: PackedSightings, surfels: Bool[Tensor, " n"]
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """(surfel, view) of all sightings of the surfels in a mask, in their order."""
    return _pairs(sightings, sightings.bits & pack_flags(surfels)[sightings.word.long()])


def surfels_of(sightings: PackedSightings, view: int) -> Int[Tensor, " s"]:
    """The surfels that a view saw, ascending."""
    rows = sightings[sightings.view == view]
    return _pairs(rows, rows.bits)[0]


def views_of(sightings: PackedSightings, surfel: int) -> Int[Tensor, " v"]:
    """The views that saw a surfel, ascending."""
    is_set = ((sightings.bits >> (surfel % WORD)) & 1).bool()
    return sightings.view[(sightings.word == surfel // WORD) & is_set].long().sort().values


@accelerated
def weight_by_view(
    sightings: PackedSightings, weight: Float[Tensor, " n"], views: int
) -> Float[Tensor, " t"]:
    """Per view the sum of the weights of the surfels that it saw, added up in float64."""
    weight = weight.float()
    weighted_bits = pack_flags(weight != 0)
    total = torch.zeros(views, dtype=torch.float64, device=weight.device)
    rows = _words(weight).double()
    for word, view, flags in _flag_batches(
        sightings, sightings.bits & weighted_bits[sightings.word.long()]
    ):
        total.index_add_(0, view, (rows[word] * flags).sum(1))
    return total.float()


@accelerated
def sighting_counts(sightings: PackedSightings, surfels: int) -> Int[Tensor, " n"]:
    """How many views saw each surfel, of `surfels` in all."""
    count = torch.zeros(-(-surfels // WORD), WORD, dtype=torch.int64, device=sightings.device)
    for word, _, flags in _flag_batches(sightings, sightings.bits):
        count.index_add_(0, word, flags.long())
    return count.flatten()[:surfels]


def counts_per_row(sightings: PackedSightings) -> Int[Tensor, " r"]:
    """How many sightings each packed row holds."""
    counts = [flags.sum(1) for _, _, flags in _flag_batches(sightings, sightings.bits)]
    return torch.cat([sightings.bits[:0], *counts])


def last_seen(sightings: PackedSightings, surfels: int) -> Int[Tensor, " n"]:
    """The last view that saw each surfel, of `surfels` in all."""
    surfel, view = _pairs(sightings, sightings.bits)
    last = torch.zeros(surfels, dtype=torch.int64, device=sightings.device)
    return last.scatter_reduce_(0, surfel, view, "amax")


@accelerated
def pack_flags(mask: Bool[Tensor, " n"]) -> Int[Tensor, " w"]:
    """Flags as bits, 64 to a word."""
    return (_words(mask).long() << torch.arange(WORD, device=mask.device)).sum(1)


def _words(values: Tensor) -> Tensor:
    """Values in rows of 64 ([n] -> [w 64]), the last one padded with zeros."""
    padded = torch.nn.functional.pad(values, (0, -len(values) % WORD))
    return padded.view(-1, WORD)


def _flag_batches(
    sightings: PackedSightings, bits: Int[Tensor, " r"]
) -> Iterator[tuple[Tensor, Tensor, Bool[Tensor, "b 64"]]]:
    """Batches of rows as (word, view, flags): a flag per bit of `bits`."""
    places = torch.arange(WORD, device=bits.device)
    for start in range(0, len(bits), BATCH):
        rows = slice(start, start + BATCH)
        flags = ((bits[rows, None] >> places) & 1).bool()
        yield sightings.word[rows].long(), sightings.view[rows].long(), flags


@accelerated
def _pairs(
    sightings: PackedSightings, bits: Int[Tensor, " r"]
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """(surfel, view) of the set bits, which are all or some of the sightings' own."""
    none = torch.zeros(0, dtype=torch.int64, device=bits.device)
    surfels, views = [none], [none]
    for word, view, flags in _flag_batches(sightings, bits):
        row, place = flags.nonzero(as_tuple=True)
        surfels.append(word[row] * WORD + place)
        views.append(view[row])
    return torch.cat(surfels), torch.cat(views)
