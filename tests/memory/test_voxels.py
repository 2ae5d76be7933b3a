"""The voxel hash finds what comparing all with all finds, however the points came to be in it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import Surfels
from vmemkit.memory.association import _nearest_of_all
from vmemkit.memory.voxels import Voxels

tables = pytest.importorskip("vmemkit.core.kernels.tables")


def discs(n: int, seed: int, size: float = 1.0) -> Surfels:
    """Points on a coarse lattice and off it, so that there are equal distances too."""
    random = torch.Generator().manual_seed(seed)
    position = torch.rand(n, 3, generator=random) * 2 * size - size
    position[::2] = (position[::2] * 4).round() / 4
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=random), dim=-1)
    return Surfels(position, normal, torch.ones(n), torch.zeros(n, 3))


def nearest(voxels: Voxels, new: Surfels, old: Surfels, distance: float, like: float):
    queries, points = (new.position, new.normal), (old.position, old.normal)
    return voxels.nearest(queries, points, distance, like)


@settings(max_examples=40, deadline=None)
@given(
    old=st.integers(0, 700),
    distance=st.sampled_from([0.0, 0.05, 0.25, 0.7, 5.0]),
    like=st.sampled_from([-1.0, 0.0, 0.6]),
    seed=st.integers(0, 99),
)
def test_it_finds_what_comparing_all_with_all_finds(old, distance, like, seed):
    held, new = discs(old, seed), discs(200, seed + 1)
    found = nearest(Voxels.of(held.position, distance), new, held, distance, like)
    assert torch.equal(found, _nearest_of_all(new, held, distance, like))


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.integers(0, 400), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_points_that_come_in_batches_are_found_as_those_that_come_at_once(parts, seed):
    held, new, distance = discs(sum(parts), seed), discs(100, seed + 1), 0.2
    voxels, count = Voxels.of(held.position[:0], distance), 0
    for part in parts:
        count += part
        voxels = voxels.extended(held.position[:count])
        expected = _nearest_of_all(new, held[:count], distance, 0.0)
        assert torch.equal(nearest(voxels, new, held[:count], distance, 0.0), expected)


def test_a_shorter_value_does_not_see_later_points_and_may_go_its_own_way():
    held, other, new = discs(500, 1), discs(500, 2), discs(100, 3)
    whole = Voxels.of(held.position, 0.3)
    short = whole.prefix(200)
    assert torch.equal(
        nearest(short, new, held[:200], 0.3, 0.0), _nearest_of_all(new, held[:200], 0.3, 0.0)
    )
    other.position[:200], other.normal[:200] = held.position[:200], held.normal[:200]
    fork = short.extended(other.position)
    assert torch.equal(nearest(fork, new, other, 0.3, 0.0), _nearest_of_all(new, other, 0.3, 0.0))
    assert torch.equal(nearest(whole, new, held, 0.3, 0.0), _nearest_of_all(new, held, 0.3, 0.0))


def test_what_an_interrupt_left_half_done_is_not_gone_on_with(monkeypatch):
    held, new = discs(3000, 1), discs(100, 3)
    some, insert = Voxels.of(held.position[:1500], 0.3), tables.insert_points

    def interrupted(*work) -> None:
        insert(*work)
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "insert_points", interrupted)
    with pytest.raises(KeyboardInterrupt):
        some.extended(held.position)
    monkeypatch.undo()
    assert torch.equal(
        nearest(some, new, held[:1500], 0.3, 0.0), _nearest_of_all(new, held[:1500], 0.3, 0.0)
    )
    whole = some.extended(held.position)
    assert torch.equal(nearest(whole, new, held, 0.3, 0.0), _nearest_of_all(new, held, 0.3, 0.0))


def test_it_can_be_copied():
    held, new = discs(500, 1), discs(100, 3)
    twin = copy.deepcopy(Voxels.of(held.position[:300], 0.3)).extended(held.position)
    assert torch.equal(nearest(twin, new, held, 0.3, 0.0), _nearest_of_all(new, held, 0.3, 0.0))


def test_places_far_from_the_origin_are_found():
    held, new = discs(300, 5), discs(100, 6)
    for shift in (-1e4, 3e5):
        there, query = (
            x.replace(position=x.position + torch.tensor([shift, 0.0, -shift])) for x in (held, new)
        )
        found = nearest(Voxels.of(there.position, 0.1), query, there, 0.1, -1.0)
        assert torch.equal(found, _nearest_of_all(query, there, 0.1, -1.0))


def test_cells_serve_distances_of_their_own_size():
    voxels = Voxels.of(discs(10, 0).position, 1.0)
    assert voxels.serves(1.0)
    assert voxels.serves(0.5)
    assert not voxels.serves(1.3)
    assert not voxels.serves(0.01)
