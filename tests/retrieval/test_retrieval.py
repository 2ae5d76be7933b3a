"""Retrieval: every policy on small memories, what they owe to all, and what is no question."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from core_helpers import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vmemkit.core import (
    Cameras,
    SurfelConfig,
    Views,
    cameras,
    cat,
    intrinsics,
    look_at,
    mean_pose,
    pose_distance,
)
from vmemkit.memory import Memory, MemoryConfig, Sightings, begin, write
from vmemkit.retrieval import (
    POLICIES,
    Coverage,
    Hard,
    Oracle,
    Random,
    Retrieval,
    RetrievalConfig,
    Soft,
    SurfelVotes,
    best_cover,
    largest_cover,
    retrieve,
    true_visibility,
)
from vmemkit.retrieval.policies import SAMPLED_PIXELS, SAMPLED_VIEWS, known_depths

BOX = Box()
LOOKING = ("surfel_votes", "coverage", "released")  # the policies that look at the surfels
YAWS = (0.0, 25.0, 50.0, 120.0, 180.0, 240.0, 300.0)
ROWS = RetrievalConfig(rows=24)


@pytest.fixture(scope="module")
def memory() -> Memory:
    return BOX.memory(*YAWS)


def seen_pixels(outcome: Retrieval) -> int:
    return int((outcome.splat.surfel >= 0).sum())


def sky() -> Cameras:
    """A camera outside the box that looks away from it."""
    eye = torch.tensor([[0.0, 0.0, 50.0]])
    return cameras(look_at(eye, eye + torch.tensor([0.0, 0.0, 1.0])))


# ---- what every policy owes ----------------------------------------------------------------------


@pytest.mark.parametrize("policy", [*POLICIES, "oracle"])
@pytest.mark.parametrize("k", [1, 3, len(YAWS)])
def test_at_most_k_different_views_are_chosen_and_the_answer_repeats(memory, policy, k):
    targets = BOX.look(10.0, 30.0, at=(0.2, 0.1, 0.3))
    chosen_by = Oracle(BOX) if policy == "oracle" else policy
    outcome = retrieve(memory, targets, k, chosen_by, ROWS)
    chosen = outcome.chosen.tolist()
    assert outcome.policy == policy
    assert 1 <= len(chosen) <= k
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= v < len(memory) for v in chosen)
    for column in (outcome.votes, outcome.distance, outcome.suppressed_by):
        assert column.shape == (len(memory),)
        assert column.isfinite().all()
    assert (outcome.suppressed_by[outcome.chosen] == -1).all()
    assert set(outcome.suppressed_by.tolist()) <= {-1, *chosen}
    again = retrieve(memory, targets, k, chosen_by, ROWS)
    assert again.chosen.tolist() == chosen
    assert torch.equal(again.votes, outcome.votes)


@pytest.mark.parametrize("policy", sorted({*POLICIES, "oracle"} - {"temporal", "random"}))
def test_a_target_that_stands_where_a_view_stood_gets_that_view_first(memory, policy):
    target = BOX.look(YAWS[3])
    chosen = retrieve(memory, target, 2, Oracle(BOX) if policy == "oracle" else policy, ROWS).chosen
    assert int(chosen[0]) == 3


@pytest.mark.parametrize("policy", POLICIES)
def test_the_distance_is_the_mean_pose_distance_to_the_query(memory, policy):
    targets = BOX.look(10.0, 70.0)
    outcome = retrieve(memory, targets, 1, policy, ROWS)
    poses, query = memory.views.cameras.world_from_cam, outcome.query.world_from_cam
    expected = torch.stack([pose_distance(poses, q) for q in query]).mean(0)
    assert torch.allclose(outcome.distance, expected, atol=1e-5)


@pytest.mark.parametrize("policy", sorted({*POLICIES} - {"random"}))
def test_views_that_came_later_and_saw_nothing_of_it_do_not_change_the_answer(memory, policy):
    """Undo a view that looks the other way: the rest of the ranking stays."""
    if policy in ("temporal", "released"):  # these rank by what is recent, or shortlist by number
        return
    target = BOX.look(0.0)
    with_it = retrieve(memory.truncate(5), target, 2, policy, ROWS)  # view 4 looks back
    without = retrieve(memory.truncate(4), target, 2, policy, ROWS)
    assert with_it.chosen.tolist() == without.chosen.tolist()


def test_the_devices_agree(memory, device):
    targets = BOX.look(10.0, 30.0, at=(0.2, 0.1, 0.3))
    for policy in POLICIES:
        there = retrieve(memory.to(device), targets, 3, policy, ROWS)
        assert there.chosen.device.type == device
        assert there.chosen.tolist() == retrieve(memory, targets, 3, policy, ROWS).chosen.tolist()


def test_the_default_is_coverage_of_four(memory):
    outcome = retrieve(memory, BOX.look(0.0, 90.0, 180.0))
    assert outcome.policy == "coverage"
    assert repr(outcome) == f"Retrieval(coverage: {outcome.chosen.tolist()} of {len(YAWS)} views)"
    assert len(outcome.chosen) <= 4


# ---- votes ---------------------------------------------------------------------------------------


def test_shared_votes_sum_to_the_pixels_that_see_a_surfel(memory):
    outcome = retrieve(memory, BOX.look(10.0, 80.0), 2, "surfel_votes", ROWS)
    assert seen_pixels(outcome) > 500
    assert float(outcome.votes.sum()) == pytest.approx(seen_pixels(outcome), rel=1e-4)


@settings(deadline=None, max_examples=5)
@given(st.floats(-180, 180))
def test_votes_by_frequency_are_those_of_a_loop_over_pixels(memory, yaw):
    targets, config = BOX.look(yaw, yaw + 20), RetrievalConfig(rows=9)
    outcome = retrieve(memory, targets, 3, SurfelVotes("frequency"), config)
    views_of: dict[int, list[int]] = {}
    sightings = memory.sightings
    for surfel, view in zip(sightings.surfel.tolist(), sightings.view.tolist(), strict=True):
        views_of.setdefault(surfel, []).append(view)
    votes, shares = [0.0] * len(memory), [0.0] * len(memory)
    for surfel in outcome.splat.surfel.flatten().tolist():
        for view in views_of.get(surfel, []):
            votes[view] += 1
            shares[view] += 1 / len(views_of[surfel])
    assert outcome.votes.tolist() == votes
    shared = retrieve(memory, targets, 3, SurfelVotes("shared"), config)
    assert torch.allclose(shared.votes, torch.tensor(shares), atol=1e-3)


def test_the_canvas_has_square_pixels_of_the_images_shape(memory):
    outcome = retrieve(memory, BOX.look(0.0, 10.0), 1, "coverage", RetrievalConfig(rows=30))
    assert outcome.splat.surfel.shape == (2, 30, 40)


def test_of_two_views_from_one_place_only_one_is_wanted():
    """Suppression: a second view of the same is worth less than the first of something else."""
    poses = (0.0, 0.5, 1.0, 45.0)
    memory = BOX.memory(*poses)
    target = BOX.look(0.0)
    for suppression in (Soft(), Hard()):
        policy = SurfelVotes(suppression=suppression)
        outcome = retrieve(memory, target, 2, policy, ROWS)
        assert 3 in outcome.chosen.tolist()
        assert set(outcome.suppressed_by.tolist()) == {-1, int(outcome.chosen[0])}
    unsuppressed = SurfelVotes(suppression=Hard(threshold=0.0))
    assert 3 not in retrieve(memory, target, 2, unsuppressed, ROWS).chosen.tolist()
    assert len(retrieve(memory, target, 4, policy, ROWS).chosen) == 4  # relaxed


def test_coverage_takes_what_completes_not_what_repeats():
    memory = BOX.memory(0.0, 8.0, -8.0, 75.0)
    outcome = retrieve(memory, BOX.look(40.0, fov=100.0), 2, "coverage", ROWS)
    assert 3 in outcome.chosen.tolist()
    assert (outcome.suppressed_by == -1).all()


def test_coverage_stops_when_nothing_is_gained():
    memory = BOX.memory(0.0, 180.0)
    assert retrieve(memory, BOX.look(0.0, fov=30.0), 2, "coverage", ROWS).chosen.tolist() == [0]


def test_given_views_are_preferred_to_generated_ones_of_the_same():
    view = BOX.render(BOX.look(0.0))
    generated = view.replace(given=torch.zeros(1, dtype=torch.bool))
    for first, second, expected in ((view, generated, 0), (generated, view, 1)):
        memory = write(write(Memory.empty(), first), second)
        assert int(retrieve(memory, BOX.look(3.0), 1, "coverage", ROWS).chosen[0]) == expected


def test_a_generated_view_must_add_more_than_a_given_one():
    """Of two views to either side of the target, the second adds a stripe of about a tenth."""
    first, second = BOX.render(BOX.look(-10.0)), BOX.render(BOX.look(10.0))
    generated = second.replace(given=torch.zeros(1, dtype=torch.bool))
    for views, least, count in ((second, 0.2, 2), (generated, 0.2, 1), (generated, 0.0, 2)):
        memory = write(write(Memory.empty(), first), views)
        chosen = Coverage(least=least)(memory, BOX.look(0.0), 2).chosen
        assert len(chosen) == count


def test_sharper_views_are_preferred_to_distant_ones_of_the_same():
    near, far = BOX.look(0.0, at=(0.0, 0.0, 0.8)), BOX.look(0.0, at=(0.0, 0.0, -2.0))
    memory = begin(BOX.render(cat([far, near])))
    target = BOX.look(0.0, at=(0.0, 0.0, 1.4), fov=30.0)
    assert int(retrieve(memory, target, 1, "coverage", ROWS).chosen[0]) == 1


def room_with_a_view_behind_its_wall() -> Memory:
    """View 0 sees the wall at z = 2 from the side; view 1 stands behind it and sees z = 20."""
    eyes = torch.tensor([[1.5, 0.0, 0.0], [0.0, 0.0, 2.5]])
    aims = torch.tensor([[-0.3, 0.0, 2.0], [0.0, 0.0, 20.0]])
    poses = cameras(look_at(eyes, aims), intrinsics(70.0, 4 / 3))
    walls = (2.0, 20.0)
    shots = []
    for i, wall in enumerate(walls):
        uv = (torch.arange(24) + 0.5) / 24, (torch.arange(32) + 0.5) / 32
        v, u = torch.meshgrid(*uv, indexing="ij")
        ray = torch.stack([u, v, torch.ones_like(u)], -1) @ torch.linalg.inv(poses.K[i]).T
        ahead = ray @ poses.rotation[i][2]
        shots.append((wall - eyes[i, 2]) / ahead)
    image = torch.zeros(2, 3, 24, 32)
    return begin(Views(poses, image, torch.ones(2, dtype=torch.bool), torch.stack(shots)))


def test_only_policies_that_look_know_that_walls_hide():
    memory = room_with_a_view_behind_its_wall()
    target = cameras(torch.eye(4)[None], intrinsics(60.0, 4 / 3))
    for policy in ("surfel_votes", "coverage"):  # released: votes shortlist both, distance decides
        assert retrieve(memory, target, 1, policy, ROWS).chosen.tolist() == [0]
    assert retrieve(memory, target, 1, "fov_overlap", ROWS).chosen.tolist() == [1]


# ---- baselines -----------------------------------------------------------------------------------


def test_temporal_takes_the_latest_views_latest_first(memory):
    assert retrieve(memory, BOX.look(0.0), 3, "temporal").chosen.tolist() == [6, 5, 4]


def test_camera_distance_takes_the_nearest_poses_by_hand(memory):
    outcome = retrieve(memory, BOX.look(35.0), 4, "camera_distance")
    assert outcome.chosen.tolist() == [1, 2, 0, 3]  # of 0, 25, 50, 120, 180, 240, 300
    expected = [math.radians(d) for d in (35, 10, 15, 85, 145, 155, 95)]
    assert torch.allclose(outcome.distance, torch.tensor(expected), atol=1e-4)
    assert torch.equal(outcome.votes, -outcome.distance)


def test_fov_overlap_is_the_share_of_the_targets_frustum_inside_each_views(memory):
    votes = retrieve(memory, BOX.look(0.0), 1, "fov_overlap").votes
    assert votes[0] == votes.max() == 1.0
    assert votes[1] > votes[2] > 0
    assert votes[3] == votes[4] == votes[5] == 0
    assert retrieve(memory, BOX.look(0.0, 180.0), 1, "fov_overlap").votes[4] == pytest.approx(0.5)


def test_frusta_end_where_the_remembered_surfaces_end():
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 2, 3] = -10.0  # the same view from far behind
    of = cameras(poses, intrinsics(70.0, 4 / 3))
    walls = Views(of, torch.zeros(2, 3, 12, 16), torch.ones(2).bool(), torch.full((2, 12, 16), 2.0))
    assert retrieve(begin(walls), of[:1], 1, "fov_overlap").votes.tolist() == [1.0, 0.0]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 700), st.floats(0, 0.9), st.integers(0, 100))
def test_a_sample_of_the_known_depths_has_their_quantile(views, unknown, seed):
    rng = torch.Generator().manual_seed(seed)
    depth = 1 + torch.rand(views, 2 + 20_000 // views, 16, generator=rng)
    depth[torch.rand(depth.shape, generator=rng) < unknown] = torch.nan
    sample = known_depths(depth)
    far = sample.quantile(0.99)
    assert len(sample) <= SAMPLED_PIXELS
    assert 0.98 < float((depth[depth.isfinite()] <= far).float().mean()) < 0.997
    assert torch.equal(known_depths(depth), sample)


def test_the_known_depths_of_few_pixels_are_all_of_them():
    depth = torch.arange(24.0).view(2, 3, 4)
    depth[0, 1, 1] = torch.nan
    assert known_depths(depth).tolist() == [*range(5), *range(6, 24)]


def test_a_sample_of_depths_reads_few_views_from_all_over():
    depth = torch.arange(1000.0)[:, None, None].expand(1000, 12, 16)
    read = known_depths(depth).unique()
    assert len(read) == SAMPLED_VIEWS
    assert read.diff().amax() <= math.ceil(1000 / SAMPLED_VIEWS)
    assert read[-1] >= 1000 - math.ceil(1000 / SAMPLED_VIEWS)


def test_sparse_depth_is_read_from_all_pixels_of_the_sampled_views():
    depth = torch.full((300, 40, 50), torch.nan)
    depth[:, 7, 9] = torch.arange(300.0)
    assert len(known_depths(depth)) == SAMPLED_VIEWS


def test_random_depends_on_the_seed_and_on_nothing_else(memory):
    def chosen(seed: int, yaw: float) -> list[int]:
        return retrieve(memory, BOX.look(yaw), 3, Random(seed)).chosen.tolist()

    assert chosen(0, 0.0) == chosen(0, 90.0)
    draws = [tuple(chosen(seed, 0.0)) for seed in range(30)]
    assert len(set(draws)) > 15
    assert {v for draw in draws for v in draw} == set(range(len(YAWS)))


@dataclass(frozen=True)
class Points:
    """A scene of which only the answers are known: who sees which of the targets' points."""

    seen: Tensor  # [t n]

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        n = len(cameras)
        depth = torch.ones(n, height, width)
        flags = torch.ones(n, dtype=torch.bool)
        return Views(cameras, torch.zeros(n, 3, height, width), flags, depth)

    def visible(self, points_world: Tensor, cameras: Cameras) -> Tensor:
        assert (len(cameras), len(points_world)) == self.seen.shape
        return self.seen


def sees(*points: int) -> list[bool]:
    """A row of `Points.seen`: a view that sees these of 16 points."""
    return [point in points for point in range(16)]


def test_the_oracle_exchanges_a_view_that_others_make_useless(memory):
    """The view with most points comes first, but the best two views are the others."""
    target, config = cameras(torch.eye(4)[None]), RetrievalConfig(rows=8)
    nothing = [sees()] * (len(YAWS) - 3)
    seen = torch.tensor([sees(2, 3, 4, 5), sees(1, 2, 3), sees(4, 5, 6), *nothing])
    outcome = retrieve(memory, target, 2, Oracle(Points(seen)), config)
    assert set(outcome.chosen.tolist()) == {1, 2}
    assert torch.equal(outcome.votes, seen.sum(1).float())
    assert retrieve(memory, target, 1, Oracle(Points(seen)), config).chosen.tolist() == [0]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_no_other_views_see_more_than_the_oracles(memory, seed, k):
    rng = torch.Generator().manual_seed(seed)
    target, config = cameras(torch.eye(4)[None]), RetrievalConfig(rows=8, blind="nearest")
    share = torch.rand(len(YAWS), 1, generator=rng) * 0.5
    seen = torch.rand(len(YAWS), 4 * 4, generator=rng) < share
    chosen = retrieve(memory, target, k, Oracle(Points(seen)), config).chosen
    sets = torch.combinations(torch.arange(len(YAWS)), k)
    assert int(seen[chosen].any(0).sum()) == int(seen[sets].any(1).sum(1).max())


def test_the_largest_cover_is_found_where_exchanges_of_single_views_stop_short():
    seen = torch.tensor([sees(3, 5), sees(0, 1), sees(0, 4, 5), sees(2, 4, 5)])
    view, point = seen.nonzero(as_tuple=True)
    distance, ones = torch.zeros(4), torch.ones(16)
    assert best_cover(point, view, ones[: len(view)], ones, distance, 2).tolist() == [2, 0]
    assert largest_cover(seen, distance, 2).tolist() == [3, 1]  # the one that sees more comes first
    assert len(largest_cover(seen[:, 6:], distance, 2)) == 0


def test_true_visibility_is_of_the_points_behind_the_targets_pixels(memory):
    visible = true_visibility(BOX, memory.views.cameras, BOX.look(0.0, 180.0), rows=6)
    assert visible.shape == (len(YAWS), 2 * 6 * 8)
    assert visible[0, :48].all()
    assert not visible[0, 48:].any()


# ---- verified coverage ---------------------------------------------------------------------------


def test_verified_coverage_asks_the_depth_and_not_the_sightings(memory):
    targets = BOX.look(10.0, 30.0, at=(0.2, 0.1, 0.3))
    blank = Memory.from_tables(memory.views, memory.surfels, memory.sightings[:0], memory.ends)
    usual, verified = (
        retrieve(memory, targets, 3),
        retrieve(blank, targets, 3, Coverage(verify=True)),
    )
    assert verified.chosen.tolist() == usual.chosen.tolist()
    assert (verified.votes > 0).tolist() == (usual.votes > 0).tolist()


def test_verified_coverage_counts_the_part_of_a_disc_that_a_view_sees():
    """The first view is credited with a large disc, but knows the depth of part of it only. The last
    view has no sighting, and its depth shows all of the disc."""
    disc = BOX.memory(0.0).surfels[:1]
    disc = disc.replace(position=torch.tensor([[0.0, 0.0, 2.5]]), radius=torch.tensor([1.2]))
    eyes = BOX.look(20.0, -20.0, 20.0)
    views = BOX.render(eyes)
    views = views.replace(confidence=torch.ones_like(views.depth))
    near = torch.where(torch.arange(views.image.shape[3]) < 18, torch.nan, views.depth)
    views = views.replace(depth=torch.cat([near[:1], views.depth[1:]]))
    wide = SurfelConfig(shrink=0.05)  # a memory of discs as large as this one
    memory = Memory.from_tables(
        views,
        disc,
        Sightings(torch.tensor([0]), torch.tensor([0])),
        torch.ones(3).long(),
        MemoryConfig(wide),
    )
    believed, verified = (retrieve(memory, eyes[2:], 1, Coverage(verify=v)) for v in (False, True))
    assert believed.chosen.tolist() == [0]
    assert verified.chosen.tolist() == [2]


# ---- query cameras -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", LOOKING[:2])
def test_the_query_may_be_all_targets_their_mean_or_the_last(memory, policy):
    targets = BOX.look(0.0, 40.0)

    def ask(cameras: Cameras, query: str) -> Retrieval:
        return retrieve(memory, cameras, 2, policy, replace(ROWS, query=query))

    assert len(ask(targets, "all").query) == 2
    last = ask(targets, "last")
    assert torch.equal(last.votes, ask(targets[1:], "all").votes)
    mean = ask(targets, "mean")
    assert torch.allclose(mean.query.world_from_cam[0], mean_pose(targets.world_from_cam))
    # Rounding decides on surfels at the very border of a view's image.
    assert torch.allclose(mean.votes, ask(BOX.look(20.0), "all").votes, atol=25)
    for query in ("mean", "last"):
        assert torch.allclose(ask(targets[:1], query).votes, ask(targets[:1], "all").votes, atol=5)


def test_all_targets_vote_together(memory):
    targets = BOX.look(0.0, 120.0)
    together = retrieve(memory, targets, 1, "surfel_votes", ROWS).votes
    alone = [retrieve(memory, targets[i : i + 1], 1, "surfel_votes", ROWS).votes for i in (0, 1)]
    assert torch.allclose(together, alone[0] + alone[1], atol=1e-3)


# ---- what is no question -------------------------------------------------------------------------


def test_an_empty_memory_remembers_nothing():
    with pytest.raises(ValueError, match="empty"):
        retrieve(Memory.empty(), BOX.look(0.0), 1)


@pytest.mark.parametrize("k", [0, -1, len(YAWS) + 1])
@pytest.mark.parametrize("policy", ["coverage", "temporal"])
def test_k_must_be_between_one_and_all(memory, k, policy):
    with pytest.raises(ValueError, match=f"1 <= k <= {len(YAWS)}"):
        retrieve(memory, BOX.look(0.0), k, policy)


def test_an_unknown_policy_is_refused_with_the_names_of_the_known(memory):
    with pytest.raises(ValueError, match="surfel_votes, coverage"):
        retrieve(memory, BOX.look(0.0), 1, "best")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.usefixtures("as_installed")
def test_targets_that_are_no_cameras_are_refused(memory, policy):
    good = BOX.look(0.0)
    nan, scaled = good.world_from_cam.clone(), good.world_from_cam.clone()
    nan[0, 0, 3] = math.nan
    scaled[:, :3, :3] *= 2
    for poses in (nan, scaled, good.world_from_cam[0], good.world_from_cam[:0]):
        K = good.K.expand(*poses.shape[:-2], 3, 3) if poses.ndim == 3 and len(poses) else good.K[0]
        K = good.K[:0] if len(poses) == 0 else K
        with pytest.raises(ValueError, match=r"targets|rigid|finite"):
            retrieve(memory, Cameras(poses, K), 1, policy)


@pytest.mark.parametrize("policy", LOOKING)
def test_targets_that_see_nothing_are_refused_unless_the_nearest_poses_will_do(memory, policy):
    with pytest.raises(ValueError, match="see no surfel"):
        retrieve(memory, sky(), 2, policy, ROWS)
    outcome = retrieve(memory, sky(), 2, policy, replace(ROWS, blind="nearest"))
    assert outcome.policy == policy
    assert outcome.chosen.tolist() == outcome.distance.argsort()[:2].tolist()
    assert outcome.splat is None


@pytest.mark.parametrize("policy", LOOKING)
def test_a_memory_of_views_without_surfels_sees_nothing(policy):
    view = BOX.render(BOX.look(0.0, 90.0))
    doubtful = begin(view.replace(confidence=torch.zeros_like(view.depth)))
    assert len(doubtful.surfels) == 0
    with pytest.raises(ValueError, match="see no surfel"):
        retrieve(doubtful, BOX.look(0.0), 1, policy, ROWS)
    nearest = replace(ROWS, blind="nearest")
    assert retrieve(doubtful, BOX.look(80.0), 1, policy, nearest).chosen.tolist() == [1]


@pytest.mark.parametrize("policy", [*POLICIES, "oracle"])
def test_sparse_depth_is_depth_enough(policy):
    view = BOX.render(BOX.look(0.0, 90.0))
    depth = torch.full_like(view.depth, torch.nan)
    depth[:, 9:12, 9:12] = view.depth[:, 9:12, 9:12]
    memory = begin(view.replace(depth=depth))
    config = replace(ROWS, blind="nearest")
    chosen = Oracle(BOX) if policy == "oracle" else policy
    assert len(retrieve(memory, BOX.look(0.0), 1, chosen, config).chosen) == 1


# ---- policies of one's own -----------------------------------------------------------------------


def test_any_callable_of_the_signature_is_a_policy(memory):
    def first(memory: Memory, targets: Cameras, k: int) -> Retrieval:
        inner = POLICIES["temporal"](memory, targets, k)
        return replace(inner, policy="first", chosen=torch.arange(k))

    assert retrieve(memory, BOX.look(0.0), 2, first).chosen.tolist() == [0, 1]


@pytest.mark.parametrize(
    "returned",
    [[5, 0], (5, 0), np.array([5, 0]), torch.tensor([5, 0]), torch.tensor([5, 0]).int()],
    ids=["list", "tuple", "array", "int64", "int32"],
)
def test_a_policy_may_return_indices_only(memory, returned):
    def mine(memory, targets, k):
        return returned

    targets = BOX.look(0.0, 10.0)
    found, nearest = (retrieve(memory, targets, 2, policy) for policy in (mine, "camera_distance"))
    assert (found.policy, found.chosen.tolist()) == ("mine", [5, 0])
    assert torch.equal(found.distance, nearest.distance)
    assert torch.equal(found.query.world_from_cam, targets.world_from_cam)
    assert found.votes.tolist() == [0.0] * len(YAWS)
    assert found.suppressed_by.tolist() == [-1] * len(YAWS)
    assert found.splat is None


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            lambda memory, targets, k: None,
            r"<lambda> must return indices of views, such as \[3, 0\]",
        ),
        (lambda memory, targets, k: [0.5, 1.0], r"must return indices .* got \[0\.5, 1\.0\]"),
        (lambda memory, targets, k: torch.ones(1, 2).long(), "must return indices"),
        (lambda memory, targets, k: [], r"must return indices .* got \[\]"),
        (lambda memory, targets, k: [True, False], "must return indices"),
        (lambda memory, targets, k: [1, 1], r"1 to 2 different views of 0 to 6, got \[1, 1\]"),
        (SurfelVotes, r"a class: pass a value, such as SurfelVotes\(\)"),
    ],
)
def test_what_is_no_choice_of_views_is_told_how_to_be_one(memory, policy, message):
    with pytest.raises(ValueError, match=message):
        retrieve(memory, BOX.look(0.0), 2, policy)


@pytest.mark.parametrize(
    "chosen",
    [
        torch.tensor([0, 0]),
        torch.tensor([-1]),
        torch.tensor([9]),
        torch.tensor([0, 1, 2]),
        torch.tensor([], dtype=torch.int64),
    ],
)
def test_a_policy_of_ones_own_must_choose_different_views_that_there_are(box, chosen):
    memory = box.memory(0, 40, 80)

    def careless(memory, targets, k):
        found = retrieve(memory, targets, k, "temporal")
        return replace(found, chosen=chosen)

    with pytest.raises(ValueError, match="a policy must choose"):
        retrieve(memory, box.look(10.0), 2, careless)
