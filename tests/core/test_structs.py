"""Value types are indexed, joined and moved as a whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from struct_helpers import outer

from vmemkit.core import cat, check_equal_lengths, unflatten


def test_leaves_are_named_by_dots_and_absent_ones_left_out():
    assert list(outer(2).leaves()) == ["inner.a", "b", "c"]
    assert list(outer(2, c=False).leaves()) == ["inner.a", "b"]


def test_an_index_takes_the_same_rows_of_every_tensor():
    taken = outer(5)[torch.tensor([3, 1])]
    assert taken.b.tolist() == [3, 1]
    assert taken.inner.a.tolist() == [[30], [10]]
    assert len(outer(5)[1:4]) == 3
    assert len(outer(5)[outer(5).b > 2]) == 2


def test_map_reaches_every_tensor_and_leaves_the_original_alone():
    original = outer(3)
    mapped = original.map(lambda tensor: tensor + 1)
    assert mapped.inner.a.tolist() == [[1], [11], [21]]
    assert original.inner.a.tolist() == [[0], [10], [20]]


def test_structs_are_frozen_and_replace_makes_another():
    original = outer(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        original.b = torch.zeros(2)
    assert original.replace(c=None).c is None
    assert original.c is not None


def test_the_repr_shows_shapes_not_values():
    assert repr(outer(2)) == "Outer(inner.a=[2, 1], b=[2], c=[2])"


def test_moving_a_struct_moves_every_tensor(device):
    moved = outer(2).to(device)
    assert moved.device.type == device
    assert {leaf.device.type for leaf in moved.leaves().values()} == {device}


def test_cat_undoes_slicing():
    whole = outer(7)
    joined = cat([whole[:2], whole[2:2], whole[2:]])
    assert all(torch.equal(leaf, whole.leaves()[name]) for name, leaf in joined.leaves().items())


def test_cat_of_nothing_or_of_unlike_structs_is_refused():
    with pytest.raises(ValueError, match="got none"):
        cat([])
    with pytest.raises(ValueError, match="same fields"):
        cat([outer(2), outer(2, c=False)])


def test_unflatten_undoes_leaves():
    whole = outer(3)
    built = unflatten(outer(0), whole.leaves())
    assert repr(built) == repr(whole)
    assert torch.equal(built.inner.a, whole.inner.a)


def test_columns_of_several_lengths_are_named():
    check_equal_lengths(outer(3))
    with pytest.raises(ValueError, match=r"one length.*'b': 3.*'c': 2"):
        check_equal_lengths(outer(3).replace(c=torch.zeros(2)))
