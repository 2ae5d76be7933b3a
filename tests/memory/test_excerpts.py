"""Excerpts: the part of a memory in sight answers as the whole memory does, to the bit."""

from __future__ import annotations

import pytest
import torch
from core_helpers import Box, same
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import Splat, SurfelConfig, Surfels, Views, cameras, intrinsics
from vmemkit.core.kernels import RUN, backend, use
from vmemkit.memory import (
    Excerpt,
    Memory,
    MemoryConfig,
    Sightings,
    begin,
    columns_since,
    excerpt,
    forget,
    sighting_counts,
    sightings_of,
    with_columns,
    write,
)
from vmemkit.memory.sightings import WORD, spans_of
from vmemkit.retrieval import count_votes, pixels_per_surfel

VIEWS, SURFELS = 1500, 1500 * 60 + 7


@pytest.fixture(scope="module")
def long_walk() -> Memory:
    """A memory of views along a corridor. View i sees most surfels from 60 i to 60 i + 600."""
    random = torch.Generator().manual_seed(0)
    place = torch.rand(SURFELS, 3, generator=random)
    surfels = Surfels(place, place / place.norm(dim=1)[:, None], 0 * place[:, 0], place)
    view = torch.arange(VIEWS).repeat_interleave(600)
    surfel = 60 * view + torch.arange(600).repeat(VIEWS)
    seen = (torch.rand(len(view), generator=random) < 0.9) & (surfel < SURFELS)
    sightings = Sightings(surfel[seen].int(), view[seen].int())
    lens = cameras(torch.eye(4).expand(VIEWS, 4, 4), intrinsics(60.0))
    image, depth = torch.zeros(VIEWS, 3, 2, 2), torch.ones(VIEWS, 2, 2)
    views = Views(lens, image, torch.ones(VIEWS).bool(), depth, depth)
    return Memory.from_tables(views, surfels, sightings, torch.full((VIEWS,), SURFELS))


def canvas_of(surfel: torch.Tensor) -> Splat:
    return Splat(surfel, surfel.float(), surfel.float())


@pytest.mark.parametrize("name", sorted({"torch", backend("cpu")}))
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), places=st.lists(st.integers(0, SURFELS - 400), max_size=3))
def test_an_excerpt_answers_as_the_memory_does(long_walk, name, seed, places):
    memory, random = long_walk, torch.Generator().manual_seed(seed)
    shown = [torch.full((5,), -1), torch.tensor([SURFELS - 1])]
    shown += [place + torch.randint(400, (60,), generator=random) for place in places]
    canvas = canvas_of(torch.cat(shown)[None, None])
    with use(name):
        part, small = excerpt(memory, canvas)
        assert isinstance(part, Excerpt)
        assert len(part) == VIEWS
        assert len(part.surfels) <= WORD * (1 + 8 * len(places))
        pixels, few = pixels_per_surfel(memory, canvas), pixels_per_surfel(part, small)
        weight = torch.rand(SURFELS, generator=random)
        ids = torch.where(pixels > 0)[0]
        assert torch.equal(few[few > 0], pixels[ids])
        assert same(part.surfels[few > 0].leaves(), memory.surfels[ids].leaves())
        few[few > 0] = weight[ids]
        assert torch.equal(count_votes(part, few), count_votes(memory, weight * (pixels > 0)))
        counts = sighting_counts(part.packed_sightings, len(few))[few > 0]
        assert torch.equal(counts, sighting_counts(memory.packed_sightings, SURFELS)[ids])
        surfel, view = sightings_of(part.packed_sightings, few > 0)
        expected, viewers = sightings_of(memory.packed_sightings, pixels > 0)
        assert torch.equal(view, viewers)
        assert torch.equal(part.surfels.position[surfel], memory.surfels.position[expected])
    seen = small.surfel >= 0
    assert torch.equal(seen, canvas.surfel >= 0)
    assert torch.equal(
        part.surfels.position[small.surfel[seen]], memory.surfels.position[canvas.surfel[seen]]
    )


def test_where_all_is_in_sight_the_excerpt_is_the_memory(long_walk):
    memory = long_walk
    canvas = canvas_of(torch.arange(SURFELS)[None, None])
    assert excerpt(memory, canvas)[0] is memory
    assert excerpt(memory, canvas)[1] is canvas
    small = Box().memory(0.0)
    nothing = canvas_of(torch.full((1, 2, 2), -1))
    assert excerpt(small, nothing)[0] is small


def test_the_spans_are_those_of_the_sightings_whatever_happened_to_them():
    def spanned(memory: Memory) -> int:
        assert same(memory.spans.leaves(), spans_of(memory.packed_sightings).leaves())
        return len(memory.spans)

    box = Box()
    views = box.render(box.look(*range(0, 120, 20)), 120, 160)
    memory = begin(views[:3], MemoryConfig(SurfelConfig(shrink=1.0)))
    longer = write(memory, views[3:])
    assert 0 < spanned(memory) < spanned(longer)
    assert spanned(longer) == len(longer.packed_sightings) // RUN
    assert spanned(longer.truncate(3)) == spanned(memory)
    spanned(write(longer.truncate(4), views[5:]))
    assert spanned(forget(longer, torch.arange(len(longer.surfels)) % 3 == 0)) > 0
    assert spanned(with_columns(memory, columns_since(longer, memory))) == spanned(longer)
    assert spanned(with_columns(Memory.empty(memory.config), columns_since(longer))) == spanned(
        longer
    )
    assert spanned(Memory.empty()) == 0
