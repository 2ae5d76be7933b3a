"""Scores, and the claim of the method: the memory finds what the target needs."""

from statistics import mean

import pytest
import torch
from core_helpers import Box
from torchmetrics.functional.image import peak_signal_noise_ratio

import vmemkit as vm
from vmemkit.core import cat
from vmemkit.evaluation import compare_policies, coverage, psnr, score, share_of_best, ssim
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import (
    Capture,
    Tour,
    capture,
    capture_tour,
    moves,
    rooms,
    single_tour,
    there_and_back,
)


def test_psnr_and_ssim_of_known_differences():
    image = torch.full((3, 16, 16), 0.5)
    assert psnr(image, image) == 99.0
    assert psnr(image, image + 0.1) == pytest.approx(20.0, abs=1e-3)
    assert ssim(image, image) == pytest.approx(1.0)
    noisy = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert ssim(image, noisy) < 0.2


def test_ssim_is_that_of_wang_et_al_in_gaussian_windows_of_11_pixels():
    rng = torch.Generator().manual_seed(1)
    a = torch.rand(3, 20, 24, generator=rng)
    b = (a + 0.2 * torch.randn(3, 20, 24, generator=rng)).clamp(0, 1)
    x = torch.arange(11) - 5.0
    window = torch.outer(torch.exp(-(x**2) / 4.5), torch.exp(-(x**2) / 4.5))
    window = window / window.sum()

    def local_mean(image: torch.Tensor) -> torch.Tensor:
        mirrored = torch.nn.functional.pad(image.double(), (5, 5, 5, 5), mode="reflect")
        return (mirrored.unfold(1, 11, 1).unfold(2, 11, 1) * window).sum((-1, -2))

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a, var_b = local_mean(a**2) - mean_a**2, local_mean(b**2) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
    assert ssim(a, b) == pytest.approx(float((luminance * structure).mean()), abs=1e-4)


def test_psnr_is_that_of_torchmetrics():
    a, b = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(2))
    assert psnr(a, b) == pytest.approx(float(peak_signal_noise_ratio(a, b, data_range=1.0)))


def test_ssim_in_uniform_windows_is_that_of_scikit_image():
    rng = torch.Generator().manual_seed(1)
    a = torch.rand(3, 20, 24, generator=rng)
    b = (a + 0.2 * torch.randn(3, 20, 24, generator=rng)).clamp(0, 1)
    # skimage.metrics.structural_similarity(a, b, channel_axis=0, data_range=1.0), version 0.26.0
    assert ssim(a, b, window="uniform") == pytest.approx(0.8217897341915172, abs=1e-9)


def test_ssim_in_one_uniform_window_worked_by_hand():
    """One window of 48 dark pixels and a bright one, and the same twice as bright."""
    a = torch.zeros(3, 7, 7)
    a[:, 3, 3] = 0.5
    mean, variance = 0.5 / 49, 0.25 / 49
    luminance = (4 * mean**2 + 1e-4) / (5 * mean**2 + 1e-4)
    structure = (4 * variance + 9e-4) / (5 * variance + 9e-4)
    assert ssim(a, 2 * a, window="uniform") == pytest.approx(luminance * structure, abs=1e-6)


@pytest.mark.usefixtures("as_installed")  # the type checks refuse the wrong name first
@pytest.mark.parametrize(("window", "least"), [("gaussian", 6), ("uniform", 7)])
def test_tiny_images_and_other_windows_have_no_ssim(window, least):
    image = torch.rand(3, least, least)
    assert ssim(image, image, window) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=f"{least} pixels a side or more, got {least - 1} x 40"):
        ssim(torch.rand(3, least - 1, 40), torch.rand(3, least - 1, 40), window)
    with pytest.raises(ValueError, match="window is one of gaussian, uniform, got 'box'"):
        ssim(image, image, "box")


@pytest.mark.usefixtures("as_installed")  # a third of the time would go into shape checks
def test_memory_beats_every_baseline_on_the_way_back():
    """Five houses, K = 4, M = 4: the figures that the README quotes, as bounds, on small images."""
    ratios: dict[str, list[float]] = {name: [] for name in POLICIES}
    for seed in range(5):
        house = rooms(seed)
        policies = {name: name for name in POLICIES}
        tour = capture_tour(house, seed)
        for name, values in compare_policies(house, tour, policies, size=(36, 48)).items():
            ratios[name] += values
    average = {name: mean(values) for name, values in ratios.items()}
    assert average["coverage"] >= 0.98
    assert min(ratios["coverage"]) >= 0.85
    assert max(max(values) for values in ratios.values()) <= 1  # nothing beats the best choice
    assert average["surfel_votes"] >= 0.95
    assert average["surfel_votes"] > average["paper"] > average["released"]
    baselines = ("camera_distance", "fov_overlap", "temporal", "random")
    assert average["surfel_votes"] > max(average[name] for name in baselines) + 0.05


@pytest.mark.usefixtures("as_installed")  # a third of the time would go into shape checks
def test_a_walk_returns_to_what_it_showed_where_temporal_does_not():
    house = rooms(0)
    tour = single_tour(house)
    memory = vm.begin(house.render(tour.given, 36, 48))
    scores = {
        policy: score(tour, list(vm.walk(memory, tour.cameras, policy=policy)), house, rows=12)
        for policy in ("coverage", "temporal")
    }
    assert scores["coverage"].truth_ssim > scores["temporal"].truth_ssim
    assert scores["coverage"].return_psnr > scores["temporal"].return_psnr + 3
    assert scores["coverage"].return_ssim > scores["temporal"].return_ssim
    assert scores["coverage"].coverage_of_oracle > scores["temporal"].coverage_of_oracle
    assert scores["coverage"].coverage <= scores["coverage"].coverage_of_oracle + 1e-6


def test_coverage_of_all_views_is_what_the_memory_can_show():
    house = rooms(2)
    tour = capture_tour(house)
    memory = vm.begin(house.render(tour.given, 36, 48))
    step = vm.step(memory, tour.cameras[:1], k=len(memory))
    everything = torch.arange(len(memory))
    chosen = step.retrieval.chosen
    (share, best), (most, _), (none, _) = coverage(
        house, memory.views.cameras, step.targets, [chosen, everything, everything[:0]], len(memory)
    )
    assert 0 < share <= most <= 1
    assert share <= best <= most
    assert none == 0
    assert 0 < share_of_best(share, best) <= share_of_best(best, best) == 1
    assert share_of_best(0.0, 0.0) == 1


@pytest.fixture
def recording() -> tuple[Box, Capture, Tour]:
    """A world, a recording of its views on a tour, and the tour."""
    box = Box()
    path = box.look(40.0, 80.0, 60.0, 20.0)
    tour = Tour(box.look(0.0, 90.0, 180.0), path, slice(2, 4), torch.full((4,), -1))
    return box, capture(box.render(cat([tour.given, path]), 24, 32)), tour


def test_in_a_recording_coverage_is_that_of_the_world_that_was_recorded(recording):
    box, scene, tour = recording
    memory = vm.begin(scene.render(tour.given, 24, 32))
    choices = [torch.tensor(views) for views in ([0], [1], [2], [0, 1])]
    in_truth = coverage(box, memory.views.cameras, tour.cameras[2:], choices, 2, rows=24)
    recorded = coverage(scene, memory.views.cameras, tour.cameras[2:], choices, 2, rows=24)
    for ours, true in zip(recorded, in_truth, strict=True):
        assert ours == pytest.approx(true, abs=0.02)
    coarse = coverage(scene, memory.views.cameras, tour.cameras[2:], choices, 2, rows=6)
    assert coarse[3][0] == pytest.approx(in_truth[3][0], abs=0.05)
    fine = coverage(scene, memory.views.cameras, tour.cameras[2:], choices, 2, rows=100)
    assert fine == recorded  # there are no more than the recorded pixels


def test_policies_are_compared_and_walks_scored_in_a_recording(recording):
    _, scene, tour = recording
    ratios = compare_policies(scene, tour, {"paper": "paper", "temporal": "temporal"}, k=1, m=2)
    assert len(ratios["paper"]) == 1
    assert 0 <= ratios["temporal"][0] < ratios["paper"][0] <= 1
    memory = vm.begin(scene.render(tour.given, *scene.recorded_size))
    scores = score(tour, list(vm.walk(memory, tour.cameras, k=2, m=2)), scene)
    assert 0.5 < scores.coverage <= scores.coverage_of_oracle <= 1


def test_targets_without_depth_have_no_coverage(recording):
    _, scene, tour = recording
    depth = scene.views.depth.clone()
    depth[-2:] = torch.nan
    unknown = capture(scene.views.replace(depth=depth))
    memory = vm.begin(unknown.render(tour.given, 24, 32))
    with pytest.raises(ValueError, match="no depth at any pixel of these 2 targets"):
        coverage(unknown, memory.views.cameras, tour.cameras[2:], [torch.tensor([0])], 1)


def test_scores_without_scene_or_revisits_are_none():
    house = rooms(0)
    tour = single_tour(house)
    tour = type(tour)(tour.given, tour.cameras[:2], slice(2, 2), tour.twin[:2])
    memory = vm.begin(house.render(tour.given, 24, 32))
    scores = score(tour, list(vm.walk(memory, tour.cameras)))
    assert scores.coverage is None
    assert scores.return_psnr is None
    assert scores.truth_ssim is scores.truth_psnr is None


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
