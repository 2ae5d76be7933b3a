"""A memory taken apart into columns, and put together again: equal to the bit, or refused."""

from __future__ import annotations

import pytest
import torch
from core_helpers import Box, same, tables

from vmemkit.core import SurfelConfig
from vmemkit.memory import (
    Memory,
    MemoryConfig,
    Spill,
    begin,
    columns_since,
    forget,
    same_memory,
    states_since,
    with_columns,
    write,
)

BOX = Box()


def memory(*yaws: float, config: MemoryConfig | None = None, spill: Spill | None = None) -> Memory:
    return begin(BOX.render(BOX.look(*yaws), 12, 16), config, spill)


def rebuilt(of: Memory, before: Memory) -> Memory:
    return with_columns(before, columns_since(of, before), states_since(of, before))


def test_the_columns_of_a_memory_make_it_again(device):
    whole = memory(0.0, 40.0, 80.0).to(device)
    empty = Memory.empty(device=device)
    back = with_columns(empty, columns_since(whole))
    assert back.device.type == device
    assert same_memory(back, whole)
    assert same(tables(back.to("cpu")), tables(whole.to("cpu")))


def test_a_write_adds_rows_only_and_these_make_the_longer_memory():
    short = memory(0.0, 40.0)
    longer = write(short, BOX.render(BOX.look(80.0), 12, 16), state={"any": 1})
    added = columns_since(longer, short)
    assert {start for name, (start, _) in added.items() if name.startswith("views.")} == {2}
    assert len(added["views.image"][1]) == 1
    back = rebuilt(longer, memory(0.0, 40.0))  # equal, in a buffer of its own
    assert same(tables(back), tables(longer))
    assert back.state is longer.state


def test_forgotten_surfels_and_added_codes_start_their_columns_anew():
    before = memory(0.0, 40.0)
    drop = torch.arange(len(before.surfels)) % 3 == 0
    fewer = forget(before, drop)
    coded = before.with_codes(before.views.replace(embedding=torch.rand(2, 5)))
    for after, anew in ((fewer, "surfels.position"), (coded, "views.embedding")):
        added = columns_since(after, before)
        assert added[anew][0] == 0
        assert added["views.image"][0] == 2
        assert same_memory(rebuilt(after, before), after)
        assert not same_memory(after, before)


def test_a_memory_that_was_put_together_goes_on_and_is_undone_like_any():
    whole, view = memory(0.0, 40.0, 80.0), BOX.render(BOX.look(200.0), 12, 16)
    back = rebuilt(whole, memory(0.0))
    assert same(tables(write(back, view)), tables(write(whole, view)))
    assert same(tables(back.truncate(2)), tables(whole.truncate(2)))
    assert same(tables(back.truncate(1)), tables(memory(0.0)))


def test_a_memory_is_put_together_on_the_disk_where_it_outgrows_its_ram():
    spill = Spill(4096)
    whole = memory(0.0, 40.0, 80.0, spill=spill)
    back = with_columns(Memory.empty(spill=spill), columns_since(whole))
    assert back._views.spilled > 0
    assert same_memory(back, whole)


def test_memories_of_other_settings_or_views_differ():
    one = memory(0.0, 40.0)
    assert same_memory(one, memory(0.0, 40.0))
    assert not same_memory(one, memory(0.0, 41.0))
    assert not same_memory(one, memory(0.0))
    assert not same_memory(one, memory(0.0, 40.0, config=MemoryConfig(budget=10_000)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("surfels.color"), "needs columns"),
        (lambda c: c.update({"surfels.taste": c["surfels.color"]}), "needs columns"),
        (lambda c: c.update({"tastes.sweet": c["surfels.color"]}), "no column"),
        (
            lambda c: c.update({"surfels.color": (1, c["surfels.color"][1])}),
            "differ in length|row 1",
        ),
        (lambda c: c["boxes.low"][1].sub_(1), "boxes"),
        (lambda c: c["ends.rows"][1].sub_(1), "ends"),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_columns_that_no_memory_has_are_refused(change, message):
    dense = MemoryConfig(SurfelConfig(shrink=1.0))
    whole = memory(0.0, 90.0, 180.0, config=dense)
    columns = {name: (start, rows.clone()) for name, (start, rows) in columns_since(whole).items()}
    assert len(columns["boxes.low"][1]) > 0
    change(columns)
    with pytest.raises(ValueError, match=message):
        with_columns(Memory.empty(dense), columns)


@pytest.mark.parametrize("states", [(1, ()), (0, (None,) * 4), (-1, ())])
def test_more_states_than_views_are_refused(states):
    whole = memory(0.0, 40.0, 80.0)
    with pytest.raises(ValueError, match="states"):
        with_columns(Memory.empty(), columns_since(whole), states)
