"""Sightings packed as bits: nothing is lost, and every question has the answer of the plain pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core.kernels import backend, use
from vmemkit.memory import (
    Sightings,
    sighting_counts,
    sightings_of,
    surfels_of,
    views_of,
    weight_by_view,
)
from vmemkit.memory.sightings import (
    BATCH,
    PackedSightings,
    counts_per_row,
    pack_sightings,
    unpack_sightings,
)

BACKENDS = sorted({"torch", backend("cpu")})
SURFELS, VIEWS = 300, 9
PAIRS = st.sets(st.tuples(st.integers(0, VIEWS - 1), st.integers(0, SURFELS - 1)), max_size=400)


def of(pairs: set[tuple[int, int]]) -> Sightings:
    """Sightings of (view, surfel) pairs, ordered by view and surfel."""
    table = torch.tensor(sorted(pairs), dtype=torch.int32).reshape(-1, 2)
    return Sightings(table[:, 1].clone(), table[:, 0].clone())


def packed(sightings: Sightings) -> PackedSightings:
    """As rows of a memory whose first view wrote all surfels."""
    views = int(sightings.view.max()) + 1 if len(sightings) else 1
    return pack_sightings(sightings, torch.full((views,), 2**32))[0]


def same(a: Sightings, b: Sightings) -> bool:
    return torch.equal(a.surfel, b.surfel) and torch.equal(a.view, b.view)


@pytest.fixture(params=BACKENDS, autouse=True)
def each_backend(request):
    with use(request.param):
        yield


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_packing_loses_nothing(pairs):
    for name in BACKENDS:
        with use(name):
            assert same(unpack_sightings(packed(of(pairs))), of(pairs))


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_pairs_out_of_order_are_put_in_order(pairs):
    mixed = of(pairs)[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))]
    assert same(unpack_sightings(packed(mixed)), of(pairs))


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, ends=st.lists(st.integers(0, SURFELS), min_size=VIEWS - 1, max_size=VIEWS - 1))
def test_the_rows_up_to_a_view_are_the_sightings_there_were_then(pairs, ends):
    ends = torch.tensor([*sorted(ends), SURFELS])
    for name in BACKENDS:
        with use(name):
            rows, after = pack_sightings(of(pairs), ends)
            assert int(after[-1]) == len(rows)
            assert int(counts_per_row(rows).sum()) == len(pairs)
            for view in range(VIEWS):
                then = unpack_sightings(rows[: int(after[view])])
                known = zip(then.view.tolist(), then.surfel.tolist(), strict=True)
                assert set(known) == {(v, s) for v, s in pairs if v <= view and s < ends[view]}


def test_a_pair_that_is_there_twice_is_refused():
    twice = Sightings(torch.tensor([3, 3]), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="a pair twice"):
        packed(twice)


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_votes_are_the_sums_of_the_weights_that_a_view_saw(pairs, seed):
    random = torch.Generator().manual_seed(seed)
    weight = torch.rand(SURFELS, generator=random) * (torch.rand(SURFELS, generator=random) < 0.5)
    plain, expected = of(pairs), torch.zeros(VIEWS, dtype=torch.float64)
    expected.index_add_(0, plain.view.long(), weight[plain.surfel.long()].double())
    for name in BACKENDS:
        with use(name):
            assert torch.allclose(
                weight_by_view(packed(plain), weight, VIEWS), expected.float(), rtol=1e-6
            )


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, chosen=st.sets(st.integers(0, SURFELS - 1)))
def test_sightings_of_some_surfels_are_those_of_the_plain_pairs(pairs, chosen):
    mask = torch.zeros(SURFELS, dtype=torch.bool)
    mask[list(chosen)] = True
    expected = of({(view, surfel) for view, surfel in pairs if surfel in chosen})
    for name in BACKENDS:
        with use(name):
            surfel, view = sightings_of(packed(of(pairs)), mask)
            assert torch.equal(surfel, expected.surfel.long())
            assert torch.equal(view, expected.view.long())


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_counts_and_single_rows_and_columns(pairs):
    rows, plain = packed(of(pairs)), of(pairs)
    count = torch.bincount(plain.surfel, minlength=SURFELS)
    for name in BACKENDS:
        with use(name):
            assert torch.equal(sighting_counts(rows, SURFELS), count)
            for view in (0, 4, VIEWS - 1, VIEWS + 5):
                assert torch.equal(surfels_of(rows, view), plain.surfel[plain.view == view].long())
            for surfel in (0, 63, 64, SURFELS - 1):
                assert torch.equal(
                    views_of(rows, surfel), plain.view[plain.surfel == surfel].long()
                )


def test_the_highest_bit_of_a_word_is_a_surfel_like_any_other():
    rows = packed(Sightings(torch.tensor([63, 127]), torch.tensor([0, 0])))
    assert rows.word.tolist() == [0, 1]
    assert unpack_sightings(rows).surfel.tolist() == [63, 127]
    weight = torch.zeros(128)
    weight[127] = 2.0
    assert weight_by_view(rows, weight, 1).tolist() == [2.0]


def test_a_memory_of_large_numbers_is_packed_without_overflow():
    surfel, view = torch.tensor([2**31 - 1]), torch.tensor([2**20])
    assert same(
        unpack_sightings(packed(Sightings(surfel, view))),
        Sightings(surfel.int(), view.int()),
    )


def test_neighbours_share_a_row():
    dense = Sightings(torch.arange(6400).int(), torch.zeros(6400).int())
    rows = packed(dense)
    assert len(rows) == 100
    assert sum(x.nbytes for x in rows.leaves().values()) <= 6400 / 4


def test_more_rows_than_are_unpacked_at_once_are_all_counted():
    views, surfels = 300, 64 * 250  # one surfel of each word: 75,000 rows
    surfel = (torch.arange(0, surfels, 64) + 7).repeat(views).int()
    view = torch.arange(views).repeat_interleave(surfels // 64).int()
    rows = packed(Sightings(surfel, view))
    assert len(rows) > BATCH
    with use("torch"):
        assert weight_by_view(rows, torch.ones(surfels), views).tolist() == [250.0] * views
        assert sighting_counts(rows, surfels).sum() == 250 * views
        assert same(unpack_sightings(rows), Sightings(surfel, view))


def test_no_sightings_are_no_rows():
    none = torch.zeros(0, dtype=torch.int32)
    rows = packed(Sightings(none, none))
    assert isinstance(rows, PackedSightings)
    assert len(rows) == 0 == len(unpack_sightings(rows))
    assert weight_by_view(rows, torch.ones(5), 3).tolist() == [0, 0, 0]
    assert sighting_counts(rows, 5).tolist() == [0] * 5


def test_kernels_do_not_write_beyond_what_they_are_given():
    pytest.importorskip("numba")
    rows = packed(Sightings(torch.arange(200).int(), torch.zeros(200).int()))
    with use("numba"):
        with pytest.raises(ValueError, match="for 100 surfels: the sightings name more"):
            sighting_counts(rows, 100)
        with pytest.raises(ValueError, match="for 100 surfels: the sightings name more"):
            weight_by_view(rows, torch.ones(100), 1)
        with pytest.raises(ValueError, match="views up to 0, of 0"):
            weight_by_view(rows, torch.ones(200), 0)
        assert sighting_counts(rows, 195).tolist() == [1] * 195
