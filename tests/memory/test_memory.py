"""The memory: what a write appends, exact undo and forks, and that bad input changes nothing."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import pytest
import torch
from core_helpers import Box, same, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import (
    MAX_DISTANCE,
    Cameras,
    SurfelConfig,
    Views,
    boxes_of,
    cat,
    kernels,
    splat,
)
from vmemkit.core.kernels import use
from vmemkit.memory import (
    AssociationConfig,
    Memory,
    MemoryConfig,
    Sightings,
    Spill,
    begin,
    forget,
    load,
    read,
    save,
    write,
)
from vmemkit.memory.rows import Rows

BOX = Box()
CONFIGS = {
    "projective": MemoryConfig(),
    "radius": MemoryConfig(association=AssociationConfig.released()),
    "released": MemoryConfig.released(),
}


@cache
def view(i: int) -> Views:
    """The i-th of some views from different places, overlapping with many others."""
    place = (0.5 * math.sin(2.0 * i), 0.2 * math.cos(i), 0.6 * math.cos(3.0 * i))
    return BOX.render(BOX.look(47.0 * i, at=place, pitch=15 * math.sin(i)), 20, 24)


def replay(ids: list[int], config: MemoryConfig | None = None) -> Memory:
    memory = Memory.empty(config)
    for i in ids:
        memory = write(memory, view(i))
    return memory


# ---- writing -------------------------------------------------------------------------------------


def test_an_empty_memory_holds_nothing():
    empty = Memory.empty()
    assert len(empty) == len(empty.surfels) == len(empty.sightings) == len(empty.ends) == 0
    assert repr(empty) == "Memory(views=0, surfels=0, sightings=0)"


def test_a_write_appends_the_view_its_new_surfels_and_its_sightings():
    before = replay([0, 1])
    after = write(before, view(2))
    assert len(after) == 3
    for name, column in tables(before).items():
        assert torch.equal(tables(after)[name][: len(column)].nan_to_num(), column.nan_to_num())
    assert torch.equal(after.views.image[2], view(2).image[0])
    assert torch.equal(after.views.depth[2], view(2).depth[0])
    assert torch.equal(after.views.cameras.world_from_cam[2], view(2).cameras.world_from_cam[0])
    assert len(after.surfels) > len(before.surfels)


def test_every_new_surfel_is_sighted_by_the_view_that_wrote_it():
    memory = replay([0, 1, 2, 3])
    starts = [0, *memory.ends[:-1].tolist()]
    for v, (start, end) in enumerate(zip(starts, memory.ends.tolist(), strict=True)):
        then = memory.truncate(v + 1).sightings
        ids = then.surfel[then.view == v].tolist()
        assert set(range(start, end)) <= set(ids)
        assert max(ids) < end
        assert v == 0 or min(ids) < start  # and old ones that it saw again
        assert len(ids) == len(set(ids))


def test_sightings_are_in_blocks_of_the_view_or_of_the_view_that_wrote_the_surfel():
    memory = replay([0, 1, 0, 2])
    sightings, counts = memory.sightings, memory.sighting_counts
    writer = torch.searchsorted(memory.ends, sightings.surfel.long(), right=True)
    block = torch.maximum(sightings.view.long(), writer)
    assert torch.equal(block.bincount(minlength=4).cumsum(0), counts)
    assert (block.diff() >= 0).all()
    assert (sightings.view < block).any()  # an older view had seen what a later one wrote
    assert int(memory.ends[-1]) == len(memory.surfels)
    assert [len(memory.truncate(t).sightings) for t in (1, 2, 3, 4)] == counts.tolist()


def test_a_write_of_several_views_is_several_writes_of_one():
    poses = BOX.look(0.0, 40.0, 80.0)
    together = begin(BOX.render(poses))
    alone = Memory.empty()
    for i in range(3):
        one = BOX.render(poses[i : i + 1])
        alone = write(alone, one)
    assert same(tables(together), tables(alone))


def test_depth_and_confidence_are_remembered():
    depth, confidence = view(0).depth * 0.5, torch.full_like(view(0).depth, 2.5)
    memory = write(Memory.empty(), view(0).replace(depth=depth, confidence=confidence))
    assert torch.equal(memory.views.depth, depth)
    assert (memory.views.confidence == 2.5).all()


def test_without_a_confidence_every_known_depth_is_trusted():
    sure = view(0).replace(confidence=torch.ones_like(view(0).depth))
    unsaid = view(0).replace(confidence=None)
    assert same(tables(begin(unsaid)), tables(begin(sure)))


def test_a_view_of_which_nothing_is_trusted_is_remembered_without_surfels():
    memory, doubtful = replay([0]), view(1).replace(confidence=torch.zeros_like(view(1).depth))
    for start in (memory, Memory.empty()):
        after = write(start, doubtful)
        assert len(after) == len(start) + 1
        assert len(after.surfels) == len(start.surfels)
        assert len(after.sightings) == len(start.sightings)
        again = write(after, view(2))
        assert len(again.surfels) > len(after.surfels)


def test_unknown_depth_is_remembered_as_unknown():
    depth = view(0).depth.clone()
    depth[:, :, 8:] = torch.nan
    memory = begin(view(0).replace(depth=depth))
    assert torch.equal(memory.views.depth.isnan(), depth.isnan())
    assert len(memory.surfels) < len(begin(view(0)).surfels)


def test_given_and_generated_views_stay_told_apart():
    memory = begin(view(0))
    memory = write(memory, view(1).replace(given=torch.zeros(1, dtype=torch.bool)))
    assert memory.views.given.tolist() == [True, False]


def test_a_write_stores_in_place_while_the_buffer_has_room():
    memory, moves = replay([0]), 0
    for i in range(1, 12):
        after = write(memory, view(i % 5))
        moves += after.surfels.position.data_ptr() != memory.surfels.position.data_ptr()
        memory = after
    assert moves <= 4  # the buffers double


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("backend", ["torch", kernels.backend("cpu")])
def test_looking_surfels_up_through_boxes_finds_what_looking_at_all_does(config, backend):
    config = dataclasses.replace(config or MemoryConfig(), surfels=SurfelConfig(shrink=0.9))
    with use(backend):
        through_boxes = at_all = Memory.empty(config)
        for i in (0, 1, 2, 3, 4, 0, 5):
            through_boxes = write(through_boxes, view(i))
            at_all = write(everywhere(at_all), view(i))
    assert len(at_all.boxes) > 4
    assert same(tables(through_boxes), tables(at_all))


def test_boxes_do_not_hide_coarse_surfels_from_a_view_close_by():
    far = BOX.render(BOX.look(10.0, at=(0.0, 0.0, -2.3), pitch=10.0), 48, 64)
    near = BOX.render(BOX.look(-3.0, at=(0.21, 0.13, 2.3), pitch=-5.0), 48, 64)
    through_boxes = write(begin(far), near)
    assert len(through_boxes.boxes) > 1
    assert same(tables(through_boxes), tables(write(everywhere(begin(far)), near)))


def everywhere(memory: Memory) -> Memory:
    """The memory with boxes that nothing lies outside of."""
    boxes = boxes_of(memory.surfels.position, memory.surfels.radius)
    boxes = boxes.replace(low=boxes.low - 1e6, high=boxes.high + 1e6)
    return dataclasses.replace(memory, _boxes=Rows.of(boxes))


def test_devices_agree(device):
    here, there = replay([0, 1, 2]), Memory.empty(device=device)
    for i in (0, 1, 2):
        moved = view(i).to(device)
        there = write(there, moved)
    assert there.device.type == device
    assert len(there.surfels) == pytest.approx(len(here.surfels), rel=0.01)
    back = there.to("cpu")
    assert same(tables(back), {k: v.cpu() for k, v in tables(there).items()})
    if device == "cpu":
        assert same(tables(there), tables(here))


# ---- undo and forks ------------------------------------------------------------------------------


@cache
def replayed(name: str, history: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return tables(replay(list(history), CONFIGS[name]))


steps = st.tuples(st.sampled_from(["write", "write", "undo", "fork"]), *[st.integers(0, 99)] * 2)


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(list(CONFIGS)), st.lists(steps, max_size=10))
def test_a_memory_is_what_its_surviving_writes_make_it_whatever_came_between(name, program):
    """Bit for bit; and no value ever changes, however others on its storage grow."""
    config = CONFIGS[name]
    memories, histories = [Memory.empty(config)], [[]]
    for kind, which, what in program:
        memory, history = memories[which % len(memories)], histories[which % len(memories)]
        if kind == "write":
            i = what % 4
            memory, history = write(memory, view(i)), [*history, i]
        elif kind == "undo":
            keep = what % (len(history) + 1)
            memory, history = memory.truncate(keep), history[:keep]
        else:
            memory = memory.fork()
        memories.append(memory)
        histories.append(history)
    when_all_is_done = [tables(memory) for memory in memories]
    expected = {tuple(h): replayed(name, tuple(h)) for h in histories}
    for got, history in zip(when_all_is_done, histories, strict=True):
        if history:
            assert same(got, expected[tuple(history)])
        else:  # an emptied memory keeps the size of its images
            assert all(len(column) == 0 for column in got.values())


@settings(deadline=None, max_examples=4)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 5))
def test_older_values_stay_as_they_were(ids, cut):
    memory = replay(ids)
    before = tables(memory)
    short = memory.truncate(min(cut, len(ids)))
    write(memory, view(2))
    write(short, view(3))
    memory.fork()
    assert same(tables(memory), before)


def test_undo_forgets_the_view_and_all_that_only_it_saw():
    memory = replay([0, 1, 2])
    assert same(tables(memory.truncate(2)), tables(replay([0, 1])))
    assert same(tables(memory.truncate(3)), tables(memory))
    emptied = memory.truncate(0)
    assert len(emptied) == len(emptied.surfels) == len(emptied.sightings) == 0
    assert same(tables(write(emptied, view(1))), tables(replay([1])))


def test_undo_and_fork_copy_nothing():
    memory = replay([0, 1, 2])
    for value in (memory.truncate(1), memory.fork()):
        assert value.surfels.position.data_ptr() == memory.surfels.position.data_ptr()
        assert value.views.image.data_ptr() == memory.views.image.data_ptr()


@pytest.mark.parametrize("views", [-1, 4])
def test_only_what_is_there_can_be_kept(views):
    with pytest.raises(ValueError, match="holds 3"):
        replay([0, 1, 2]).truncate(views)


def test_a_memory_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        replay([0]).config = MemoryConfig()


# ---- existing tables -----------------------------------------------------------------------------


def test_a_memory_of_its_own_tables_is_the_same_memory_in_whatever_order_its_sightings_come():
    memory = replay([0, 1, 2])
    mixed = memory.sightings[torch.randperm(len(memory.sightings))]
    again = Memory.from_tables(memory.views, memory.surfels, mixed, memory.ends)
    assert same(tables(again), tables(memory))
    longer = [write(m, view(3)) for m in (memory, again)]
    assert same(*[tables(m) for m in longer])


def spoiled(name: str, value: float, rows: slice = slice(7, 8)):
    """A memory's surfels with this value in some rows of a column."""

    def change(memory: Memory) -> dict:
        column = getattr(memory.surfels, name).clone()
        column[rows] = value
        return {"surfels": memory.surfels.replace(**{name: column})}

    return change


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e18])
@pytest.mark.parametrize("name", ["position", "normal", "radius"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_surfels_that_are_none_are_no_memory(name, value, backend):
    memory = pair()
    parts = {name: getattr(memory, name) for name in ("views", "surfels", "sightings", "ends")}
    with use(backend), pytest.raises(ValueError, match=f"the {name} of surfel 7 is"):
        Memory.from_tables(**parts | spoiled(name, value)(memory))


@pytest.mark.parametrize("radius", [2.0, 1e6])
def test_discs_that_no_view_writes_are_no_memory(radius):
    memory = pair()
    parts = {name: getattr(memory, name) for name in ("views", "surfels", "sightings", "ends")}
    with pytest.raises(ValueError, match=r"surfel 7 has a radius of .* the limit"):
        Memory.from_tables(**parts | spoiled("radius", radius)(memory))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e3, 1e7])
@pytest.mark.parametrize("name", CONFIGS)
def test_whatever_its_unit_and_origin_a_written_memory_is_one_of_its_tables(name, scale, shift):
    memory = Memory.empty(CONFIGS[name])
    for i in range(3):
        poses = view(i).cameras.world_from_cam.clone()
        poses[:, :3, 3] = poses[:, :3, 3] * scale + shift
        moved = view(i).cameras.replace(world_from_cam=poses)
        memory = write(memory, view(i).replace(cameras=moved, depth=view(i).depth * scale))
    parts = {name: getattr(memory, name) for name in ("views", "surfels", "sightings", "ends")}
    assert same(tables(Memory.from_tables(**parts, config=memory.config)), tables(memory))


def ends_that(change):
    def broken(memory: Memory) -> dict:
        return {"ends": change(memory.ends)}

    return broken


LOW, HIGH = -(2**63), 2**62
CONTRADICTIONS = {
    "ends fall": ends_that(lambda e: e.flip(0)),
    "ends are short": ends_that(lambda e: e - 1),
    "ends are negative": ends_that(lambda e: torch.cat([e[:1] - e[0] - 1, e[1:]])),
    "fewer ends than views": ends_that(lambda e: e[1:]),
    "no ends": ends_that(lambda e: e[:0]),
    # steps that wrap round in 64 bits look like rises
    "ends wrap round": ends_that(lambda e: torch.tensor([HIGH, LOW, LOW + HIGH, int(e[-1])])),
    "a sighting of a surfel beyond": lambda m: {
        "sightings": m.sightings.replace(surfel=m.sightings.surfel + 1)
    },
    "a sighting of no surfel": lambda m: {
        "sightings": Sightings(m.sightings.surfel - 1, m.sightings.view)
    },
    "a sighting by no view": lambda m: {
        "sightings": m.sightings.replace(view=m.sightings.view - 1)
    },
    "a sighting twice": lambda m: {"sightings": cat([m.sightings, m.sightings[:1]])},
    "surfels missing": lambda m: {"surfels": m.surfels[:-1]},
    "normals missing": lambda m: {"surfels": m.surfels.replace(normal=m.surfels.normal[:5])},
    "views of sightings missing": lambda m: {
        "sightings": m.sightings.replace(view=m.sightings.view[:5])
    },
}


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
@pytest.mark.usefixtures("as_installed")
def test_tables_that_contradict_each_other_are_no_memory(change):
    memory = replay([0, 1, 2, 3])
    parts = {name: getattr(memory, name) for name in ("views", "surfels", "sightings", "ends")}
    with pytest.raises(ValueError, match=r"ends|sighting|surfel|Surfels|Sightings"):
        Memory.from_tables(**{**parts, **change(memory)})


# ---- bad input -----------------------------------------------------------------------------------


def with_pose(row: int, column: int, value: float):
    def change(views: Views) -> Views:
        poses = views.cameras.world_from_cam.clone()
        poses[-1, row, column] = value
        return views.replace(cameras=Cameras(poses, views.cameras.K))

    return change


def with_pixel(value: float):
    def change(views: Views) -> Views:
        image = views.image.clone()
        image[-1, 1, 2, 3] = value
        return views.replace(image=image)

    return change


def with_depth(value: float, everywhere: bool = False):
    def change(views: Views) -> Views:
        depth = views.depth.clone()
        depth[-1, 2, 3] = value
        if everywhere:
            depth[-1] = value
        return views.replace(depth=depth)

    return change


def with_fields(**changes):
    return lambda views: views.replace(**{k: f(getattr(views, k)) for k, f in changes.items()})


BAD = {
    "scaled pose": with_pose(0, 0, 2.0),
    "NaN pose": with_pose(1, 3, math.nan),
    "infinite pose": with_pose(1, 3, math.inf),
    "pose of no bottom row": with_pose(3, 3, 0.0),
    "NaN image": with_pixel(math.nan),
    "image above one": with_pixel(1.5),
    "image below zero": with_pixel(-0.1),
    "no depth": with_fields(depth=lambda x: None),
    "no known depth": with_depth(math.nan, everywhere=True),
    "negative depth": with_depth(-1.0),
    "zero depth": with_depth(0.0),
    "depth of minus infinity": with_depth(-math.inf),
    "pose beyond the limit": with_pose(1, 3, 1.01 * MAX_DISTANCE),
    "NaN confidence": with_fields(confidence=lambda x: x * math.nan),
    "depth of another size": with_fields(depth=lambda x: x[:, :10]),
    "depth of fewer views": with_fields(depth=lambda x: x[:1]),
    "images of another size": with_fields(image=lambda x: x[..., :10]),
    "no views": lambda views: views[:0],
    "another size than the memory's": with_fields(
        image=lambda x: x[..., :10], depth=lambda x: x[..., :10], confidence=lambda x: x[..., :10]
    ),
    "confidence of another size": with_fields(confidence=lambda x: x[:, :10]),
    "images of bytes": with_fields(image=lambda x: (255 * x).byte() * 0),
    "flags that are numbers": with_fields(given=lambda x: x.float()),
    "whole depths": with_fields(depth=lambda x: x.ceil().long()),
    "grey images": with_fields(image=lambda x: x[:, :1]),
    "flags of fewer views": with_fields(given=lambda x: x[:1]),
    "cameras of fewer views": with_fields(cameras=lambda x: x[:1]),
    "poses of three rows": with_fields(cameras=lambda x: Cameras(x.world_from_cam[:, :3], x.K)),
}


def good() -> Views:
    views = BOX.render(BOX.look(5.0, 60.0), 20, 24)
    return views.replace(confidence=torch.ones_like(views.depth))


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
@pytest.mark.usefixtures("as_installed")
def test_bad_input_is_refused_and_changes_nothing(change):
    memory = pair()
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        write(memory, change(good()))
    assert same(tables(memory), replayed("projective", (0, 1)))


@pytest.mark.parametrize("change", [BAD["scaled pose"], BAD["NaN pose"]])
def test_bad_cameras_are_not_read_from(change):
    views = change(view(0))
    with pytest.raises(ValueError, match=r"camera poses .*must be"):
        read(pair(), views.cameras, 20, 24)


@pytest.mark.parametrize("flags", [torch.zeros(3).bool(), torch.zeros(len(view(0).image))])
@pytest.mark.usefixtures("as_installed")
def test_what_is_to_be_forgotten_is_flagged_surfel_by_surfel(flags):
    with pytest.raises(ValueError, match="a flag for each of"):
        forget(pair(), flags)


@pytest.mark.parametrize(
    ("config", "bad"),
    [
        (AssociationConfig, {"method": "projectiv"}),
        (AssociationConfig, {"distance": 0.0}),
        (AssociationConfig, {"normal_cosine": math.nan}),
        (AssociationConfig, {"empty": -0.1}),
        (SurfelConfig, {"scheme": "centrall"}),
        (SurfelConfig, {"shrink": 0.0}),
        (SurfelConfig, {"shrink": 1.5}),
        (SurfelConfig, {"slant": 0.0}),
        (SurfelConfig, {"slant": 1e-9}),
        (SurfelConfig, {"depth_quantile": 1.5}),
        (SurfelConfig, {"edge": math.nan}),
        (SurfelConfig, {"min_confidence": math.nan}),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_settings_that_mean_nothing_are_refused(config, bad):
    with pytest.raises(ValueError, match=str(next(iter(bad)))):
        config(**bad)


@cache
def pair() -> Memory:
    return replay([0, 1])


@pytest.mark.usefixtures("as_installed")
def test_after_a_refusal_the_memory_can_be_written_to():
    memory = replay([0, 1])
    for change in BAD.values():
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            write(memory, change(good()))
    memory = write(memory, view(2))
    assert same(tables(memory), replayed("projective", (0, 1, 2)))


def test_the_first_views_need_depth():
    with pytest.raises(ValueError, match="need depth"):
        begin(view(0).replace(depth=None))


def test_a_single_pixel_is_no_view():
    tiny = BOX.render(BOX.look(0.0), 1, 1)
    with pytest.raises(ValueError, match="2 x 2"):
        begin(tiny)


@pytest.mark.parametrize("shrink", [0.1, 1.0])
def test_the_smallest_images_can_be_written(shrink):
    tiny = BOX.render(BOX.look(0.0), 2, 3)
    memory = begin(tiny, MemoryConfig(SurfelConfig(shrink=shrink)))
    assert len(memory) == 1


@pytest.mark.usefixtures("as_installed")
def test_numbers_of_another_precision_become_float32():
    double = view(0).map(lambda x: x.double() if x.is_floating_point() else x)
    memory = begin(double)
    assert {x.dtype for x in tables(memory).values() if x.is_floating_point()} == {torch.float32}
    mixed = write(replay([1]), double)
    assert mixed.views.image.dtype == torch.float32


def test_a_guess_does_not_stand_where_a_given_view_saw_empty_space(box):
    """A generated wall half way is forgotten; the same wall in a given view is believed."""
    memory, camera = box.memory(0.0), box.look(0.0)
    truth = box.render(camera)
    half = truth.replace(depth=0.5 * truth.depth)
    guessed = write(memory, half.replace(given=torch.zeros(1, dtype=torch.bool)))
    assert len(guessed.surfels) == len(memory.surfels)
    assert guessed.views.depth[1].isnan().all()
    believed = write(memory, half)
    assert len(believed.surfels) > len(memory.surfels)


# The limits: a budget of surfels, and bytes of memory for the views.


def test_a_budget_limits_the_surfels_and_what_went_unseen_longest_is_forgotten_first():
    config = MemoryConfig(budget=250)
    memory, free = Memory.empty(config), Memory.empty()
    for i in range(8):
        memory = write(memory, view(i))
        free = write(free, view(i))
        assert len(memory.surfels) <= 250
    assert len(memory) == len(free) == 8
    assert len(free.surfels) > 500
    sightings = memory.sightings
    last = torch.zeros(len(memory.surfels), dtype=torch.int64)
    last.scatter_reduce_(0, sightings.surfel.long(), sightings.view.long(), "amax")
    newest = len(sightings.surfel[sightings.view == 7])
    assert newest >= len(view(7).depth.flatten()) // 8  # what was just seen is still there
    assert int(last.min()) > 0


def test_forgetting_is_as_if_the_surfels_had_never_been():
    memory = replay([0, 1, 2, 3])
    gone = torch.zeros(len(memory.surfels), dtype=torch.bool)
    gone[::3] = True
    less, old = forget(memory, gone), memory.sightings
    number = (~gone).cumsum(0) - 1
    kept = ~gone[old.surfel.long()]
    assert torch.equal(less.surfels.position, memory.surfels.position[~gone])
    assert torch.equal(less.sightings.surfel.long(), number[old.surfel[kept].long()])
    assert torch.equal(less.sightings.view, old.view[kept])
    assert same(tables(less.truncate(4)), tables(less))
    for views in range(4):  # an undo agrees with forgetting later
        short = memory.truncate(views)
        early = forget(short, gone[: len(short.surfels)])
        assert same(tables(less.truncate(views)), tables(early))
    assert same(tables(memory), tables(replay([0, 1, 2, 3])))  # the old value is what it was


def test_a_memory_that_forgot_can_be_written_to():
    for config in CONFIGS.values():
        memory = replay([0, 1, 2], config)
        nothing = torch.zeros(len(memory.surfels), dtype=torch.bool)
        on = write(forget(memory, nothing), view(3))
        assert same(tables(on), tables(replay([0, 1, 2, 3], config)))


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_that_holds_nothing_is_refused(budget):
    with pytest.raises(ValueError, match="1 surfel or more"):
        MemoryConfig(budget=budget)


def test_views_on_disk_are_the_same_memory(tmp_path):
    spill = Spill(max_bytes=100_000, folder=str(tmp_path))
    disk, ram = Memory.empty(spill=spill), Memory.empty()
    for i in range(12):
        disk = write(disk, view(i % 5))
        ram = write(ram, view(i % 5))
    assert disk._views.spilled > 0 == ram._views.spilled
    assert same(tables(disk), tables(ram))
    fork = write(disk.truncate(7), view(6))
    assert same(tables(fork), tables(write(ram.truncate(7), view(6))))
    assert same(tables(disk), tables(ram))
    assert disk.to("cpu")._views.spilled > 0
    assert same(tables(disk.to("cpu")), tables(ram))
    save(disk, tmp_path / "saved")
    loaded = load(tmp_path / "saved", spill=spill)
    assert loaded._views.spilled > 0
    assert same(tables(loaded), tables(ram))


def test_reading_is_splatting_the_surfels():
    memory, query = replay([0, 1, 2]), BOX.look(10.0, 100.0)
    assert same(read(memory, query, 30, 40).leaves(), splat(memory.surfels, query, 30, 40).leaves())
