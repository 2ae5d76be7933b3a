"""Excerpts: the part of a memory that cameras see, so that costs follow what is in sight.

In: a memory, and what cameras see of it. Out: the surfels in sight and their sightings, under numbers
of their own. Surfels come in the words of 64 of packed sightings, all or none of a word. All that is
in sight keeps its order, so that sums over it are the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from vmemkit.core import Splat, Surfels, runs_to_test, surfels_in_runs
from vmemkit.memory.memory import Memory
from vmemkit.memory.sightings import WORD, PackedSightings

LEAST_SAVING = 4  # a row of sightings takes so many times as long to copy as to skip


@dataclass(frozen=True)
class Excerpt:
    """Some surfels of a memory, all their sightings, and the number of its views (`len`)."""

    surfels: Surfels
    packed_sightings: PackedSightings
    views: int

    def __len__(self) -> int:
        return self.views

    @property
    def device(self) -> torch.device:
        return self.surfels.device


def excerpt(memory: Memory, canvas: Splat) -> tuple[Memory | Excerpt, Splat]:
    """The part of the memory that a canvas of it shows, and the canvas with the part's numbers.

    This is the whole memory where a smaller part would save no time: where a large share of all
    sightings is in sight, and on a GPU, which would have to be waited for.
    """
    if memory.device.type != "cpu":
        return memory, canvas
    surfels, sightings = memory.surfels, memory.packed_sightings
    word, count = canvas.surfel // WORD, -(-len(surfels) // WORD)
    shown = torch.zeros(count + 1, dtype=torch.bool)
    shown[word.flatten()] = True  # where no surfel is seen, the word is -1: the last flag is spare
    shown[count] = False
    before = torch.nn.functional.pad(shown.cumsum(0), (1, 0))  # the words' new numbers
    spans = memory.spans
    meet = before[spans.high.long() + 1] > before[spans.low.long()]
    if LEAST_SAVING * int(meet.sum()) >= len(meet):
        return memory, canvas
    rows = surfels_in_runs(runs_to_test(meet, len(sightings)), len(sightings))
    found = sightings.at(rows[shown[sightings.word[rows].long()]])
    part = Excerpt(
        surfels.map(partial(_words, words=shown[: len(surfels) // WORD].nonzero()[:, 0])),
        found.replace(word=before[found.word.long()].int()),
        len(memory),
    )
    number = before[word] * WORD + canvas.surfel % WORD
    return part, canvas.replace(surfel=torch.where(canvas.surfel < 0, -1, number))


def _words(column: Tensor, words: Int[Tensor, " w"]) -> Tensor:
    """The rows of some full words of 64 rows, then those of the last word if it is not full."""
    full = len(column) // WORD * WORD
    blocks = column[:full].view(-1, WORD, *column.shape[1:]).index_select(0, words)
    return torch.cat([blocks.flatten(0, 1), column[full:]])
