"""The walk: stages chained, every intermediate kept, nothing lost on bad input."""

import pytest
import torch

import vmemkit as vm
from vmemkit.core import Cameras
from vmemkit.core.kernels import backend, use
from vmemkit.generation import Generation
from vmemkit.reconstruction import from_depth, oracle
from vmemkit.scenes import moves, rooms, single_tour

H, W = 36, 48


@pytest.fixture(scope="module")
def start():
    house = rooms(1)
    tour = single_tour(house)
    return house, tour, vm.begin(house.render(tour.given, H, W))


def test_a_walk_yields_one_step_per_window_with_every_intermediate(start):
    _, tour, memory = start
    steps = list(vm.walk(memory, tour.cameras[:7], k=3, m=3))
    assert [len(step.targets) for step in steps] == [3, 3, 1]
    assert len(steps[-1].memory) == len(memory) + 7
    for step in steps:
        assert len(step.context) == len(step.retrieval.chosen) <= 3
        assert len(step.generations) == 2
        assert torch.equal(step.views.image, step.generations[-1].image)
        assert step.memory.views.image[len(step.before) :].equal(step.views.image)
        assert not step.memory.views.given[len(memory) :].any()
        assert set(step.seconds) == {"retrieve", "generate", "reconstruct", "write"}
        assert "Step(views=" in repr(step)


def test_stages_hand_over_what_each_made_and_end_with_the_step(start):
    _, tour, memory = start
    seen = list(vm.stages(memory, tour.cameras[:2], k=3))
    assert [stage.name for stage in seen] == [
        "retrieve",
        "generate",
        "generate",
        "reconstruct",
        "write",
    ]
    assert [stage.step is None for stage in seen] == [True] * 4 + [False]
    step = seen[-1].step
    assert seen[0].made is step.retrieval
    assert tuple(stage.made for stage in seen[1:3]) == step.generations
    assert seen[3].made.views is step.views
    assert step.reports == ()
    assert seen[4].made is step.memory
    for name, seconds in step.seconds.items():
        assert seconds == pytest.approx(sum(s.seconds for s in seen if s.name == name))
    assert repr(seen[0]) == f"Stage(retrieve: {step.retrieval})"


def test_a_generator_that_makes_nothing_is_told_so(start):
    _, tour, memory = start
    with pytest.raises(ValueError, match="at least one Generation"):
        vm.step(memory, tour.cameras[:2], generator=lambda context, targets, rng: iter(()))


def test_a_generator_that_makes_too_few_views_is_told_so(start):
    _, tour, memory = start

    def lazy(context, targets, rng):
        *_, last = vm.Warp()(context, targets, rng)
        yield last[:1]

    with pytest.raises(ValueError, match="each of 2 targets"):
        vm.step(memory, tour.cameras[:2], generator=lazy)


def same_again(context, targets, rng):
    return context.image[:1].repeat(len(targets), 1, 1, 1)


def noisier(context, targets, rng):
    for noise in (0.2, 0.1):
        yield (1 - noise) * same_again(context, targets, rng) + noise * torch.rand(1, generator=rng)


def latest(memory, targets, k):
    return [len(memory) - 1]


@pytest.mark.parametrize(("generator", "states"), [(same_again, 1), (noisier, 2)])
def test_three_lines_make_a_generator_and_a_policy(start, generator, states):
    """Plain images get the depth that Warp finds, as by `with_depth`."""
    _, tour, memory = start
    first, second = vm.walk(memory, tour.cameras[:4], generator=generator, policy=latest, m=2)
    assert second.retrieval.chosen.tolist() == [len(memory) + 1]
    assert (first.retrieval.policy, len(first.generations)) == ("latest", states)
    *_, warped = vm.Warp()(first.context, first.targets, torch.Generator())
    assert torch.equal(first.views.depth, warped.depth)
    assert torch.equal(first.views.confidence, warped.confidence)
    if generator is same_again:
        assert torch.equal(first.views.image, memory.views.image.repeat(2, 1, 1, 1))
    painted = vm.with_depth(generator, vm.Warp())
    by_hand = next(vm.walk(memory, tour.cameras[:2], generator=painted, policy=latest, m=2))
    assert torch.equal(by_hand.views.depth, first.views.depth)


@pytest.mark.parametrize(
    ("made", "got"),
    [
        (None, "got None"),
        (torch.rand(1, 3, H, W), rf"got torch.float32 \[1, 3, {H}, {W}\]"),
        (torch.rand(2, H, W, 3), rf"float tensor \[2, 3, {H}, {W}\]"),
        (torch.zeros(2, 3, H, W, dtype=torch.uint8), "got torch.uint8"),
        ([torch.rand(3, H, W)] * 2, rf"got torch.float32 \[3, {H}, {W}\]"),
    ],
    ids=["nothing", "a view too few", "channels last", "bytes", "one view at a time"],
)
def test_what_is_no_image_of_the_targets_is_told_how_to_be_one(start, made, got):
    _, tour, memory = start
    with pytest.raises(ValueError, match=f"must yield or return a Generation, or images.*{got}"):
        vm.step(memory, tour.cameras[:2], generator=lambda context, targets, rng: made)


def test_steps_chain_and_a_step_alone_does_the_same(start):
    _, tour, memory = start
    first, second = vm.walk(memory, tour.cameras[:4], m=2)
    assert second.before is first.memory
    alone = vm.step(memory, tour.cameras[:2])
    assert torch.equal(alone.views.image, first.views.image)


def test_the_same_seed_gives_the_same_walk(start):
    _, tour, memory = start
    a, b = ([step.views.image for step in vm.walk(memory, tour.cameras[:4], seed=5)] for _ in "ab")
    assert torch.equal(torch.cat(a), torch.cat(b))


def test_a_step_alone_is_the_first_of_a_walk(start):
    _, tour, memory = start
    settings = {"generator": vm.Writer(), "seed": 4}
    first = next(vm.walk(memory, tour.cameras[:4], **settings))
    alone = vm.step(memory, tour.cameras[:4], **settings)
    assert torch.equal(first.views.image, alone.views.image)


def test_walks_in_turn_are_the_walks_alone(start):
    _, tour, memory = start
    paths = tour.cameras[:5], tour.cameras[4:6], tour.cameras[7:8]
    rounds = list(vm.walks(memory, paths, m=2, seed=3))
    assert [[step is not None for step in turn] for turn in rounds] == [
        [True, True, True],
        [True, False, False],
        [True, False, False],
    ]
    for i, path in enumerate(paths):
        alone = list(vm.walk(memory, path, m=2, seed=3))
        together = [turn[i] for turn in rounds if turn[i] is not None]
        for a, b in zip(alone, together, strict=True):
            assert torch.equal(a.views.image, b.views.image)
            assert torch.equal(a.memory.sightings.surfel, b.memory.sightings.surfel)


def test_walks_may_start_from_a_memory_each(start):
    _, tour, memory = start
    other = next(vm.walk(memory, tour.cameras[:2], m=2)).memory
    turn = next(vm.walks([memory, other], [tour.cameras[2:4]] * 2, m=2))
    assert [len(step.memory) for step in turn] == [len(memory) + 2, len(other) + 2]
    for memories, paths in (([memory], [tour.cameras[:1]] * 2), (memory, [])):
        with pytest.raises(ValueError, match="one memory or as many: got"):
            vm.walks(memories, paths)


def test_a_step_says_what_ran_it(start):
    _, tour, memory = start
    first = vm.step(memory, tour.cameras[:1])
    assert first.backend == backend("cpu")
    with use("torch"):
        again = vm.step(memory, tour.cameras[:1])
    assert again.backend == "torch"
    assert torch.equal(first.views.image, again.views.image)


def test_k_may_exceed_the_memory_of_a_young_walk(start):
    _, tour, memory = start
    (step,) = vm.walk(memory, tour.cameras[:1], k=17)
    assert step.retrieval.chosen.tolist() == [0]


def test_a_fast_turn_into_the_unknown_does_not_stop_the_walk(start):
    _, tour, memory = start
    away = moves(tour.given[0], "right 180", turn=180.0)
    (step,) = vm.walk(memory, away)
    assert step.views.image.isfinite().all()


def test_undo_after_a_walk_gives_the_memory_before_it(start):
    _, tour, memory = start
    *_, last = vm.walk(memory, tour.cameras[:4])
    undone = last.memory.truncate(len(memory))
    assert torch.equal(undone.surfels.position, memory.surfels.position)


def test_the_oracle_reconstructor_knows_the_true_depth(start):
    house, tour, memory = start
    (step,) = vm.walk(memory, tour.cameras[:2], reconstructor=oracle(house), m=2)
    truth = house.render(tour.cameras[:2], H, W).depth
    assert torch.equal(step.views.depth, truth)
    assert torch.equal(step.memory.views.depth[1:], truth)


def test_a_generator_of_ones_own_is_a_function(start):
    """Grey pictures a metre away; the protocol asks for nothing more."""
    _, tour, memory = start

    def grey(context, targets, rng):
        m, size = len(targets), context.image.shape[2:]
        yield Generation(
            torch.full((m, 3, *size), 0.5), torch.ones(m, *size), torch.full((m, *size), 2.0)
        )

    (step,) = vm.walk(memory, tour.cameras[:2], generator=grey)
    assert (step.memory.views.image[1:] == 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 0}, "m >= 1"),
        ({"k": 0}, "k >= 1"),
        ({"trajectory": "none"}, "one or more cameras"),
        ({"trajectory": "nan"}, "finite"),
        ({"trajectory": "scaled"}, "rigid"),
        ({"policy": "best"}, "unknown policy"),
    ],
)
def test_bad_input_is_refused_at_once(start, change, message):
    _, tour, memory = start
    good = tour.cameras[:2]
    trajectories = {
        "none": good[:0],
        "nan": Cameras(good.world_from_cam * torch.nan, good.K),
        "scaled": Cameras(good.world_from_cam * 2, good.K),
    }
    change = dict(change)
    path = trajectories.get(change.pop("trajectory", ""), good)
    with pytest.raises(ValueError, match=message):
        list(vm.walk(memory, path, **change))
    assert len(memory) == 1


def test_a_walk_from_an_empty_memory_says_what_to_do(start):
    _, tour, _ = start
    with pytest.raises(ValueError, match="write a view first"):
        list(vm.walk(vm.Memory.empty(), tour.cameras[:2]))


def test_views_without_depth_need_another_reconstructor(start):
    house, tour, _memory = start
    views = house.render(tour.given, H, W).replace(depth=None)
    with pytest.raises(ValueError, match="no depth"):
        from_depth(views)
    with pytest.raises(ValueError, match="need depth"):
        vm.begin(views)
