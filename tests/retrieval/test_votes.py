"""The parts of the policies, each against a slow reference on small memories made by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import (
    Cameras,
    Splat,
    Surfels,
    Views,
    cameras,
    intrinsics,
    kernels,
    look_at,
    pose_distance,
    splat,
)
from vmemkit.core.kernels import use
from vmemkit.memory import Memory, Sightings
from vmemkit.retrieval import (
    best_cover,
    count_votes,
    finest_sizes,
    pixels_per_surfel,
    ranked,
    sharpness,
    suppress,
    suppress_softly,
)

seeds = st.integers(0, 10_000)


def wall_memory(seen: torch.Tensor, seed: int = 0) -> Memory:
    """A wall of discs at z = 2; `seen` [t n] says which of t random views saw which."""
    t, n = seen.shape
    rng = torch.Generator().manual_seed(seed)
    side = math.ceil(n**0.5)
    place = torch.arange(n)
    xy = torch.stack([place % side, place // side], -1) / (side - 1) * 2 - 1
    position = torch.cat([xy, torch.full((n, 1), 2.0)], -1)
    normal = torch.tensor([0.0, 0.0, 1.0]).expand(n, 3)
    surfels = Surfels(position, normal, torch.full((n,), 1 / side), xy.new_zeros(n, 3))
    eye = torch.rand(t, 3, generator=rng) - 0.5
    poses = look_at(eye, eye + torch.tensor([0.0, 0, 1]) + 0.5 * torch.rand(t, 3, generator=rng))
    views = Views(
        cameras(poses, intrinsics(70.0, 4 / 3)),
        torch.zeros(t, 3, 3, 4),
        torch.ones(t, dtype=torch.bool),
        torch.full((t, 3, 4), 2.0),
        torch.ones(t, 3, 4),
    )
    view, surfel = seen.nonzero(as_tuple=True)
    ends = torch.full((t,), n)
    return Memory.from_tables(views, surfels, Sightings(surfel.int(), view.int()), ends)


def random_memory(seed: int, t: int = 6, n: int = 25) -> Memory:
    rng = torch.Generator().manual_seed(seed)
    share = torch.rand(t, 1, generator=rng)
    return wall_memory(torch.rand(t, n, generator=rng) < share, seed)


def ahead(n: int = 1) -> Cameras:
    """Cameras at the origin and to its right that look at the wall."""
    eye = torch.tensor([[0.1 * i, 0.0, 0.0] for i in range(n)])
    return cameras(look_at(eye, eye + torch.tensor([0.0, 0.0, 1.0])), intrinsics(70.0, 4 / 3))


def look(memory: Memory, n: int = 1) -> Splat:
    return splat(memory.surfels, ahead(n), 12, 16)


# ---- counting ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(1, 3))
def test_votes_are_the_pixels_whose_surfel_a_view_saw(seed, cameras_looking):
    memory = random_memory(seed)
    seen = look(memory, cameras_looking)
    saw = set(zip(memory.sightings.view.tolist(), memory.sightings.surfel.tolist(), strict=True))
    ids = [s for s in seen.surfel.flatten().tolist() if s >= 0]
    expected = [sum((v, s) in saw for s in ids) for v in range(len(memory))]
    assert count_votes(memory, pixels_per_surfel(memory, seen)).tolist() == expected


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_weights_of_surfels_sum_to_those_of_their_views(seed):
    memory = random_memory(seed)
    weight = torch.rand(25, generator=torch.Generator().manual_seed(seed))
    sightings = torch.bincount(memory.sightings.surfel, minlength=25)
    votes = count_votes(memory, weight)
    assert float(votes.sum()) == pytest.approx(float((weight * sightings).sum()), rel=1e-4)


def test_a_ranking_is_by_score_and_then_by_distance():
    score, distance = torch.tensor([1.0, 3, 1, 3, 0]), torch.tensor([0.2, 0.5, 0.1, 0.4, 0.0])
    assert ranked(score, distance).tolist() == [3, 1, 2, 0, 4]


# ---- suppression ---------------------------------------------------------------------------------


def slow_suppress(memory: Memory, order: list[int], k: int, threshold: float, relax: float):
    poses = memory.views.cameras.world_from_cam
    apart = pose_distance(poses[:, None], poses[None])
    chosen, reasons = [], {}
    while True:
        for view in order:
            if view in chosen or len(chosen) == k:
                continue
            resembled = [c for c in chosen if apart[view, c] < threshold]
            if resembled:
                reasons[view] = resembled[0]
            else:
                chosen.append(view)
                reasons.pop(view, None)
        if len(chosen) == min(k, len(order)):
            return chosen, [reasons.get(v, -1) for v in range(len(memory))]
        threshold = threshold / relax if threshold > 1e-5 else 0.0


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from([8, 30]), st.integers(1, 30), st.floats(0, 2), st.floats(1.05, 3))
def test_suppression_is_that_of_a_loop(seed, views, k, threshold, relax):
    memory = random_memory(seed, t=views, n=9)
    shuffled = torch.randperm(views, generator=torch.Generator().manual_seed(seed)).tolist()
    order = shuffled[: 1 + seed % views]
    chosen, suppressed_by = suppress(memory, torch.tensor(order), k, threshold, relax)
    expected = slow_suppress(memory, order, k, threshold, relax)
    assert (chosen.tolist(), suppressed_by.tolist()) == expected
    assert len(set(chosen.tolist())) == min(k, len(order))


def test_of_views_alike_the_first_is_kept_and_names_itself_as_the_reason():
    memory = random_memory(3, t=4, n=9)
    poses = memory.views.cameras.world_from_cam.clone()
    poses[2] = poses[0]
    views = memory.views.replace(cameras=Cameras(poses, memory.views.cameras.K))
    twins = Memory.from_tables(views, memory.surfels, memory.sightings, memory.ends)
    chosen, suppressed_by = suppress(twins, torch.tensor([0, 2, 1]), 2, 1e-3, 1.2)
    assert chosen.tolist() == [0, 1]
    assert suppressed_by.tolist() == [-1, -1, 0, -1]
    chosen, suppressed_by = suppress(twins, torch.tensor([0, 2, 1]), 3, 1e-3, 1.2)
    assert chosen.tolist() == [0, 1, 2]  # for want of others
    assert suppressed_by.tolist() == [-1, -1, -1, -1]


def slow_softly(memory: Memory, votes: list[float], distance: list[float], k: int, fade: float):
    poses, left, chosen = memory.views.cameras.world_from_cam, list(votes), []
    for _ in range(k):
        best = max(range(len(left)), key=lambda v: (left[v], -distance[v]))
        if left[best] <= 0:
            break
        chosen.append(best)
        for v in range(len(left)):
            apart = float(pose_distance(poses[v], poses[best]))
            left[v] *= 1 - math.exp(-((apart / fade) ** 2))
    return chosen


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(1, 8), st.floats(0.05, 2))
def test_soft_suppression_is_that_of_a_loop(seed, k, fade):
    memory = random_memory(seed, t=8, n=9)
    rng = torch.Generator().manual_seed(seed)
    votes, distance = torch.rand(8, generator=rng) * 9, torch.rand(8, generator=rng)
    votes[seed % 8] = 0
    chosen, suppressed_by = suppress_softly(memory, votes, distance, k, fade)
    taken = chosen.tolist()
    assert taken == slow_softly(memory, votes.tolist(), distance.tolist(), k, fade)
    assert seed % 8 not in taken
    for view, by in enumerate(suppressed_by.tolist()):
        out_voted = view not in taken and votes[view] > votes[chosen].min()
        assert (by in taken) if out_voted else by == -1


def test_soft_suppression_never_takes_the_same_pose_twice():
    memory = random_memory(3, t=3, n=9)
    poses = memory.views.cameras.world_from_cam[:1].expand(3, 4, 4)
    views = memory.views.replace(cameras=Cameras(poses.clone(), memory.views.cameras.K))
    alike = Memory.from_tables(views, memory.surfels, memory.sightings, memory.ends)
    votes = torch.tensor([3.0, 5.0, 4.0])
    chosen, _ = suppress_softly(alike, votes, torch.zeros(3), 3, 0.5)
    assert chosen.tolist() == [1]


# ---- coverage ------------------------------------------------------------------------------------


def worth(chosen: tuple[int, ...], quality: torch.Tensor, pixels: torch.Tensor) -> float:
    """Sum over pixels of the best quality [t n] among the chosen views."""
    if not chosen:
        return 0.0
    return float((quality[list(chosen)].amax(0) * pixels).sum())


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(1, 5), st.booleans())
def test_the_cover_is_no_worse_than_greedy_and_no_exchange_improves_it(seed, k, plain):
    rng = torch.Generator().manual_seed(seed)
    t, n = 6, 12
    seen = torch.rand(t, n, generator=rng) < torch.rand(t, 1, generator=rng)
    quality = torch.ones(t, n) if plain else torch.rand(t, n, generator=rng) * 0.9 + 0.1
    quality = quality * seen
    pixels = torch.randint(0, 9, (n,), generator=rng).float()
    distance = torch.rand(t, generator=rng)
    view, surfel = seen.nonzero(as_tuple=True)
    chosen = best_cover(surfel, view, quality[view, surfel], pixels, distance, k).tolist()
    assert len(set(chosen)) == len(chosen) <= k
    value = worth(tuple(chosen), quality, pixels)
    greedy: tuple[int, ...] = ()
    for _ in range(k):
        gains = [(worth((*greedy, v), quality, pixels), -float(distance[v])) for v in range(t)]
        greedy = (*greedy, gains.index(max(gains)))
    best = max(worth(c, quality, pixels) for c in itertools.combinations(range(t), k))
    assert value >= worth(greedy, quality, pixels) * (1 - 1e-5)
    assert (1 - 1 / math.e) * best <= value + 1e-4
    assert value <= best * (1 + 1e-5)
    for i, v in itertools.product(range(len(chosen)), range(t)):
        exchanged = (*chosen[:i], v, *chosen[i + 1 :])
        assert worth(exchanged, quality, pixels) <= value * (1 + 1e-4) + 1e-4


def test_what_greed_took_first_is_exchanged_when_others_make_it_superfluous():
    seen = {0: [0, 1, 2, 3], 1: [0, 1, 4], 2: [2, 3, 5]}
    view = torch.tensor([v for v, ids in seen.items() for _ in ids])
    surfel = torch.tensor([s for ids in seen.values() for s in ids])
    quality, pixels, distance = torch.ones(len(view)), torch.ones(6), torch.zeros(3)
    assert best_cover(surfel, view, quality, pixels, distance, 1).tolist() == [0]
    assert sorted(best_cover(surfel, view, quality, pixels, distance, 2).tolist()) == [1, 2]


def test_a_cover_ends_when_nothing_is_left_to_cover():
    surfel, view = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 2])
    chosen = best_cover(surfel, view, torch.ones(4), torch.ones(2), torch.zeros(3), 3)
    assert chosen.tolist() == [0]


def test_a_view_that_adds_less_than_its_cost_is_left_out():
    surfel, view = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 2])
    pixels, cost = torch.tensor([50.0, 40.0, 6.0, 4.0]), torch.tensor([99.0, 5.0, 5.0])
    chosen = best_cover(surfel, view, torch.ones(4), pixels, torch.zeros(3), 3, cost)
    assert chosen.tolist() == [0, 1]  # the first costs nothing, the last adds 4


def test_equal_covers_go_to_the_nearer_view():
    surfel, view = torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])
    distance = torch.tensor([0.3, 0.1, 0.2])
    assert best_cover(surfel, view, torch.ones(3), torch.ones(1), distance, 2).tolist() == [1]


# ---- sharpness -----------------------------------------------------------------------------------


def memory_from(*eyes: tuple[float, float, float]) -> Memory:
    """One disc at (0, 0, 2), seen by views at `eyes` that look along z."""
    base = wall_memory(torch.ones(len(eyes), 4, dtype=torch.bool))
    poses = torch.eye(4).repeat(len(eyes), 1, 1)
    poses[:, :3, 3] = torch.tensor(eyes)
    views = base.views.replace(cameras=Cameras(poses, base.views.cameras.K))
    centred = base.surfels.replace(position=torch.tensor([0.0, 0.0, 2.0]).expand(4, 3))
    return Memory.from_tables(views, centred, base.sightings, base.ends)


def sharpness_of(memory: Memory, query: Cameras, canvas: Splat, surfel, view) -> torch.Tensor:
    finest = finest_sizes(memory, query, canvas)
    return sharpness(memory.surfels, finest, memory.views.cameras, surfel, view)


def test_sharpness_falls_with_the_distance_and_ends_at_what_the_target_needs():
    memory = memory_from((0, 0, 0), (0, 0, -2), (0, 0, -6), (0, 0, 1))
    seen = look(memory)
    surfel, view = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    got = sharpness_of(memory, ahead(), seen, surfel, view)
    assert torch.allclose(got, torch.tensor([1.0, 0.5, 0.25, 1.0]), atol=1e-5)


def test_sharpness_falls_with_the_slant():
    memory = memory_from((0, 0, 0), (2.0, 0, 0))
    seen = look(memory)
    surfel, view = torch.zeros(2, dtype=torch.int64), torch.arange(2)
    got = sharpness_of(memory, ahead(), seen, surfel, view)
    # the same depth, at 45 degrees: (0.2 + 0.8 cos 45) / (0.2 + 0.8)
    assert torch.allclose(got, torch.tensor([1.0, 0.2 + 0.8 * 0.5**0.5]), atol=1e-5)


def test_the_finest_query_camera_says_what_is_sharp_enough():
    # At half the distance, the second query camera asks for twice as much.
    memory = memory_from((0, 0, 0), (0, 0, 1))
    query, seen = memory.views.cameras, splat(memory.surfels, memory.views.cameras, 12, 16)
    assert (seen.surfel == 0).flatten(1).any(1).all()
    surfel, view = torch.zeros(2, dtype=torch.int64), torch.arange(2)
    got = sharpness_of(memory, query, seen, surfel, view)
    assert torch.allclose(got, torch.tensor([0.5, 1.0]), atol=1e-5)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", kernels.backend("cpu")])
def test_pixels_of_another_memory_are_refused(backend):
    memory = wall_memory(torch.ones(2, 100).bool())
    surfel = torch.arange(-1, 100)[None, None]
    seen = Splat(surfel, torch.ones(1, 1, 101), torch.ones(1, 1, 101))
    with use(backend):
        assert pixels_per_surfel(memory, seen).tolist() == [1] * 100
        with pytest.raises(ValueError, match="shows surfel 100, but this memory has 100"):
            pixels_per_surfel(memory, seen.replace(surfel=surfel + 1))


@pytest.mark.parametrize("backend", ["torch", kernels.backend("cpu")])
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64])
@pytest.mark.usefixtures("as_installed")
def test_weights_may_be_any_numbers_but_of_all_surfels(backend, kind):
    memory, weight = wall_memory(torch.ones(2, 300).bool()), torch.zeros(300)
    weight[220:] = 1
    with use(backend):
        assert count_votes(memory, weight.to(kind)).tolist() == [80, 80]
        with pytest.raises(ValueError, match=r"each of 300 surfels, got \[290\]"):
            count_votes(memory, weight[:290].to(kind))
