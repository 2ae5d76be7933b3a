"""Rows grow without any value ever changing, whoever writes to them."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from struct_helpers import Inner, Outer, outer

from vmemkit.memory.rows import CLAIMED, Rows, Store


def contents(rows: Rows) -> list[int]:
    assert torch.equal(rows.value.inner.a[:, 0], rows.value.b * 10)
    return rows.value.b.tolist()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from([True, True, False]), st.integers(0, 99), st.integers(0, 5)),
        min_size=5,
        max_size=16,
    )
)
def test_rows_behave_as_lists_whatever_is_appended_to_whichever_value(program):
    values, lists, serial = [Rows.of(outer(2))], [[0, 1]], 2
    for grow, which, count in program:
        rows, expected = values[which % len(values)], lists[which % len(values)]
        if grow:
            values.append(rows.append(outer(count, start=serial)))
            lists.append([*expected, *range(serial, serial + count)])
            serial += count
        else:
            kept = min(count, len(rows))
            values.append(rows.prefix(kept))
            lists.append(expected[:kept])
    assert [contents(rows) for rows in values] == lists
    assert [len(rows) for rows in values] == [len(expected) for expected in lists]


def test_rows_start_as_a_copy():
    source = outer(2)
    rows = Rows.of(source)
    source.b[0] = 99
    assert contents(rows) == [0, 1]


def test_appending_copies_what_is_there_only_when_the_buffer_is_full():
    rows, moves = Rows.of(outer(1)), 0
    for i in range(1, 200):
        grown = rows.append(outer(1, start=i))
        moves += grown.value.b.data_ptr() != rows.value.b.data_ptr()
        rows = grown
    assert contents(rows) == list(range(200))
    assert moves <= 13  # the buffer grows by half: log1.5(200)


def test_a_prefix_shares_the_memory_of_the_whole():
    rows = Rows.of(outer(5))
    assert rows.prefix(3).value.b.data_ptr() == rows.value.b.data_ptr()


def test_of_two_branches_neither_sees_the_other():
    trunk = Rows.of(outer(4)).append(outer(1, start=4))
    left, right = trunk.append(outer(1, start=7)), trunk.append(outer(1, start=8))
    assert left.value.b.data_ptr() == trunk.value.b.data_ptr()  # room for one of them only
    assert contents(trunk) == [0, 1, 2, 3, 4]
    assert contents(left) == [0, 1, 2, 3, 4, 7]
    assert contents(right) == [0, 1, 2, 3, 4, 8]


def test_of_threads_that_append_to_one_value_each_gets_its_own_rows():
    trunk = Rows.of(outer(400)).append(outer(1, start=400))  # with room for all but few
    start, results = threading.Barrier(8), [[] for _ in range(8)]

    def write(name: int) -> None:
        start.wait()
        for i in range(25):
            results[name].append(trunk.append(outer(5, start=1000 * name + i)))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, grown in enumerate(results):
        for i, rows in enumerate(grown):
            first = 1000 * name + i
            assert contents(rows) == [*range(401), *range(first, first + 5)]


def test_only_one_of_those_who_ask_at_once_may_write():
    shared = Store(3)
    assert not shared.claim(2)
    assert shared.claim(3)
    assert not shared.claim(3)
    assert not shared.claim(CLAIMED + 4)


def test_an_append_that_fails_leaves_the_room_to_the_next():
    rows = Rows.of(outer(4)).append(outer(1, start=4))
    with pytest.raises(RuntimeError, match="size"):
        rows.append(Outer(Inner(torch.zeros(1, 7)), torch.tensor([5]), torch.tensor([500])))
    grown = rows.append(outer(1, start=5))
    assert contents(grown) == [0, 1, 2, 3, 4, 5]
    assert grown.value.b.data_ptr() == rows.value.b.data_ptr()


def test_copies_and_pickles_hold_what_they_show_and_grow_on_their_own():
    rows = Rows.of(outer(10_000)).prefix(3)
    stored = pickle.dumps(rows)
    assert len(stored) < 5_000
    for twin in (pickle.loads(stored), copy.deepcopy(rows)):
        assert contents(twin) == [0, 1, 2]
        assert contents(twin.append(outer(1, start=7))) == [0, 1, 2, 7]
    assert contents(rows) == [0, 1, 2]


def test_at_most_a_third_of_what_is_allocated_is_empty():
    rows = Rows.of(outer(1))
    for i in range(1, 100):
        rows = rows.append(outer(1, start=i))
        used = sum(leaf.nbytes for leaf in rows.value.leaves().values())
        assert used <= rows.nbytes <= 1.5 * used
