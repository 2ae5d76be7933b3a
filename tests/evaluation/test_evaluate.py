"""Tours, scores, and the claim of the method: the memory finds what the target needs."""

from statistics import mean

import pytest
import torch

import vmemkit as vm
from vmemkit.core import cat, pose_distance
from vmemkit.evaluation import coverage, psnr, race, score, ssim
from vmemkit.retrieval import POLICIES, RetrievalConfig
from vmemkit.scenes import Tour, capture_tour, moves, rooms, single_tour, there_and_back


@pytest.mark.parametrize("tour_of", [single_tour, capture_tour])
@pytest.mark.parametrize("seed", range(4))
def test_a_tour_stays_in_free_space_and_comes_back_by_other_poses(tour_of, seed):
    house = rooms(seed)
    tour = tour_of(house, seed)
    assert house.free(tour.cameras.position).all()
    out, back = tour.cameras[: tour.back.start], tour.cameras[tour.back]
    distance = pose_distance(
        out.world_from_cam[:, None], back.world_from_cam[None], translation_weight=1.0
    )
    assert distance.amin() > 0.1
    revisits = (tour.twin >= 0).nonzero()[:, 0]
    twins = tour.cameras[tour.twin[revisits]]
    assert torch.equal(tour.cameras[revisits].world_from_cam, twins.world_from_cam)


def test_psnr_and_ssim_of_known_differences():
    image = torch.full((3, 16, 16), 0.5)
    assert psnr(image, image) == 99.0
    assert psnr(image, image + 0.1) == pytest.approx(20.0, abs=1e-3)
    assert ssim(image, image) == pytest.approx(1.0)
    noisy = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert ssim(image, noisy) < 0.2


def test_memory_beats_every_baseline_on_the_way_back():
    """Five houses, K = 4, M = 4: the figures that the README quotes, as bounds."""
    ratios: dict[str, list[float]] = {name: [] for name in POLICIES}
    for seed in range(5):
        house = rooms(seed)
        policies = {name: (name, RetrievalConfig()) for name in POLICIES}
        for name, values in race(house, capture_tour(house, seed), policies, size=(72, 96)).items():
            ratios[name] += values
    average = {name: mean(values) for name, values in ratios.items()}
    assert average["coverage"] >= 0.98
    assert min(ratios["coverage"]) >= 0.85
    assert average["surfel_votes"] >= 0.96
    baselines = ("camera_distance", "fov_overlap", "temporal", "random")
    assert average["surfel_votes"] > max(average[name] for name in baselines) + 0.05


def test_a_walk_returns_to_what_it_showed_where_temporal_does_not():
    house = rooms(0)
    tour = single_tour(house)
    memory = vm.begin(house.render(tour.given, 36, 48))
    scores = {
        policy: score(tour, list(vm.walk(memory, tour.cameras, policy=policy)), house)
        for policy in ("coverage", "temporal")
    }
    assert scores["coverage"].return_psnr > scores["temporal"].return_psnr + 3
    assert scores["coverage"].return_ssim > scores["temporal"].return_ssim
    assert scores["coverage"].coverage_of_oracle > scores["temporal"].coverage_of_oracle
    assert scores["coverage"].coverage <= scores["coverage"].coverage_of_oracle + 1e-6


def test_coverage_of_all_views_is_what_the_memory_can_show():
    house = rooms(2)
    tour = capture_tour(house)
    memory = vm.begin(house.render(tour.given, 36, 48))
    step = vm.step(memory, tour.cameras[:1], k=len(memory))
    share, best = coverage(house, step)
    assert 0 < share <= best <= 1


def test_scores_without_scene_or_revisits_are_none():
    house = rooms(0)
    tour = single_tour(house)
    tour = type(tour)(tour.given, tour.cameras[:2], slice(2, 2), tour.twin[:2])
    memory = vm.begin(house.render(tour.given, 24, 32))
    scores = score(tour, list(vm.walk(memory, tour.cameras)))
    assert scores.coverage is None
    assert scores.return_psnr is None
    assert scores.truth_psnr is None


def test_views_made_without_a_memory_are_scored_like_those_of_a_walk():
    house = rooms(0)
    given = house.render(single_tour(house).given, 24, 32)
    path = there_and_back(moves(given.cameras[0], "right 60"))
    twin = torch.tensor([-1, -1, -1, -1, 2, 1, 0])
    tour = Tour(given.cameras, path, slice(4, 7), twin)
    steps = list(vm.walk(vm.begin(given), path))
    walked = score(tour, steps, house, rows=12)
    same = score(tour, cat([step.views for step in steps]), house)
    assert walked.coverage is not None
    assert same.coverage is None
    with pytest.raises(ValueError, match="the tour's 7, got 4"):
        score(tour, steps[:1], house)
    assert (same.return_psnr, same.truth_psnr) == (walked.return_psnr, walked.truth_psnr)
