"""Evaluating generators: metrics measure what they claim, trials are fair, baselines are simple."""

import functools
import math
from dataclasses import replace

import pytest
import torch
from generator_helpers import small

from vmemkit.core import stream
from vmemkit.evaluation import (
    GATE,
    Circle,
    FillBaseline,
    Trial,
    bare_share,
    circle_metrics,
    evaluate_generators,
    gate_results,
    generate_trials,
    generators,
    sample_trials,
    things_in_empty_space,
    things_kept,
    trial_images,
    trial_metrics,
    walk_circle,
)
from vmemkit.generation import IMAGINED, SEEN, Generation, Writer, context_batch, reproject
from vmemkit.generation.writer.facts import Facts, RoomFacts, encode
from vmemkit.scenes import rooms
from vmemkit.scenes.house import PALETTES, Doorway, Placed, Plan, Room


@pytest.fixture(scope="module")
def trials():
    return sample_trials(6, 32)


def perfect(trials):
    """A generator that knows the truth of the trials."""
    truths = {float(t.truth.cameras.world_from_cam.sum()): t.truth for t in trials}

    def generator(context, targets, rng):
        truth = truths[float(targets.world_from_cam.sum())]
        yield Generation(truth.image, truth.depth, torch.full_like(truth.depth, IMAGINED))

    return generator


# ---- metrics -------------------------------------------------------------------------------------


def test_the_truth_gets_full_marks(trials):
    numbers = trial_metrics(generate_trials(perfect(trials), trials), trials)
    assert numbers["depth_error"] == 0
    assert numbers["edges"] == pytest.approx(1)
    assert numbers["contrast"] == pytest.approx(1)
    assert numbers["frechet"] == pytest.approx(0, abs=1e-6)
    assert numbers["psnr_seen"] > 90


def test_a_blur_loses_structure_though_it_wins_on_error():
    rng = stream(0)
    truth = torch.rand(4, 3, 32, 32, generator=rng)
    mask = torch.ones(4, 32, 32, dtype=torch.bool)
    blurred = torch.nn.functional.avg_pool2d(truth, 9, 1, 4)
    other = torch.rand(4, 3, 32, 32, generator=rng)
    assert (blurred - truth).square().mean() < (other - truth).square().mean()
    for measure in (generators.edge_energy, generators.contrast):
        assert measure(blurred, mask) < 0.6 * measure(truth, mask)
        assert measure(other, mask) == pytest.approx(measure(truth, mask), rel=0.1)
    sets = [generators.features(x, mask) for x in (truth, other, blurred)]
    assert generators.frechet(sets[0], sets[1]) < 0.4 * generators.frechet(sets[0], sets[2])


def test_edges_are_steps_between_neighbours_of_the_mask_alone():
    image = torch.zeros(1, 3, 4, 4)
    image[..., 2:] = 1.0
    everywhere = torch.ones(1, 4, 4, dtype=torch.bool)
    assert generators.edge_energy(image, everywhere) == pytest.approx(4 / 24)
    left = everywhere.clone()
    left[..., 2:] = False
    assert generators.edge_energy(image, left) == 0
    assert generators.contrast(image, left) == 0
    assert generators.contrast(image, everywhere) == pytest.approx(math.sqrt(0.25 * 16 / 15))


def test_the_frechet_distance_is_that_of_normal_distributions():
    a = torch.randn(20000, 3, generator=stream(1))
    shifted = a + torch.tensor([3.0, 0.0, 0.0])
    assert generators.frechet(a, shifted) == pytest.approx(9, rel=1e-3)
    assert generators.frechet(a, 2 * a) == pytest.approx(3 * 1.0, rel=0.03)  # (2 - 1)^2 per axis
    assert generators.frechet(a, a) == pytest.approx(0, abs=1e-6)


# ---- trials and baselines ------------------------------------------------------------------------


def test_trials_are_partly_unseen_repeatable_and_of_many_houses(trials):
    again = sample_trials(6, 32)
    for one, other in zip(trials, again, strict=True):
        assert torch.equal(one.truth.image, other.truth.image)
        assert generators.LEAST_UNSEEN <= one.unseen_mask.float().mean() <= generators.MOST_UNSEEN
        assert 1 <= len(one.context) <= 4
        assert not (one.seen_mask & one.unseen_mask).any()
    assert not torch.equal(sample_trials(1, 32, seed=1)[0].truth.image, trials[0].truth.image)


@pytest.mark.parametrize("fill", ["nearest", "push_pull"])
def test_baselines_keep_what_is_shown_and_fill_the_rest(trials, fill):
    for trial in trials:
        *_, filled = FillBaseline(fill)(trial.context, trial.truth.cameras, stream(0))
        shown = reproject(context_batch(trial.context), trial.truth.cameras[None])
        known = shown.known[0, 0]
        assert torch.equal(filled.image[0][:, known], shown.image[0, 0][:, known])
        assert filled.depth.isfinite().all()
        assert (filled.confidence[0][known] == SEEN).all()
        if fill == "nearest":
            colors = shown.image[0, 0][:, known].T
            filled = filled.image[0][:, ~known].T
            assert torch.cdist(filled, colors).amin(1).amax() < 2e-3


def test_a_baseline_that_sees_nothing_paints_a_wall(box):
    view = box.render(box.look(0.0), 32, 32)
    for fill in ("nearest", "push_pull"):
        *_, filled = FillBaseline(fill)(view, box.look(180.0), stream(0))
        mean = view.image.mean((0, 2, 3))[None, :, None, None]
        torch.testing.assert_close(filled.image, mean.expand_as(filled.image))
        assert filled.depth.unique().tolist() == [float(view.depth.median())]
        assert (filled.confidence == IMAGINED).all()


# ---- circles -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turn():
    return walk_circle(rooms(1), FillBaseline("nearest"), "coverage", 32)


def test_a_circle_goes_round_and_comes_back(turn):
    assert len(turn.views) == 24
    poses = turn.views.cameras.world_from_cam
    for back, out in ((13, 9), (22, 0), (12, 10)):
        torch.testing.assert_close(poses[back], poses[out], atol=1e-5, rtol=0)
    torch.testing.assert_close(poses[11], poses[23], atol=1e-5, rtol=0)  # the start
    assert turn.seconds > 0


def test_metrics_of_true_circles_are_one_and_their_return_exact(turn):
    ideal = Circle(turn.truth, turn.truth, 0.1)
    numbers = circle_metrics([ideal])
    assert numbers["return_psnr"] > 60  # the same pictures, but for rounding of poses
    for name in ("edges_least", "edges_most", "contrast_least", "contrast_most"):
        assert numbers[name] == pytest.approx(1)
    worse = circle_metrics([turn])
    assert worse["edges_least"] < 1
    grey = turn.views.replace(image=torch.full_like(turn.views.image, 0.5))
    assert circle_metrics([Circle(grey, turn.truth, 0.1)])["contrast_most"] == 0


@functools.cache
def written(policy: str) -> Circle:
    return walk_circle(rooms(7), Writer(), policy, 32)


def test_things_come_back_with_memory_and_not_without(as_installed):
    with_memory, without = [written("coverage")], [written("temporal")]
    assert things_kept(with_memory) > 0.85
    assert things_kept(with_memory) > things_kept(without) + 0.3
    assert things_in_empty_space(with_memory) == 0


def test_things_that_vanish_are_not_kept_and_things_in_the_way_are_counted(as_installed):
    circle = written("coverage")
    views = circle.views
    lost = views.embedding.clone()
    lost[len(lost) // 2 :] = encode(Facts(age=1))
    assert things_kept([Circle(views.replace(embedding=lost), circle.truth, 1.0)]) == 0
    # A wardrobe in the middle of what the first view shows.
    given = circle.truth.cameras[len(circle.truth) // 2 - 1]
    x, _, z = (given.position + 1.5 * given.forward).tolist()
    wardrobe = Placed("wardrobe", 2, x, (1.4, 0.6, 2.0))
    wall = RoomFacts((x, -1.5, z + 1), (None, None, z - 0.3, None), things=(wardrobe,))
    code = encode(Facts((wall,), age=1)).expand_as(lost)
    assert things_in_empty_space([Circle(views.replace(embedding=code), circle.truth, 1.0)]) == 1


def test_bare_walls_are_long_and_have_no_thing_and_no_doorway():
    box = ((-2.0, -2.6, -1.0), (2.0, 0.0, 1.0))  # two walls of 4 m, two of 2 m
    room = Room(box, PALETTES[0], "plaster", "planks", (1.5, 1.5))
    assert bare_share([Plan((room,))]) == 1
    picture = Placed("picture", 2, 0.0, (0.6, 0.03, 0.6))
    assert bare_share([Plan((replace(room, things=(picture,)),))]) == 0.5
    doorway = Doorway(((-0.5, -2.1, 0.995), (0.5, 0.0, 1.205)))
    assert bare_share([Plan((room,), (doorway,))]) == 0.5
    short = replace(room, box=((-1.0, -2.6, -1.0), (1.0, 0.0, 1.0)))
    assert bare_share([Plan((short,))]) == 0


def test_the_walls_of_written_plans_are_counted_beside_the_true_ones(trials, as_installed):
    score = next(evaluate_generators({"writer": Writer()}, trials[:2], houses=1))
    assert 0 <= score.metrics["bare_walls"] <= 1
    assert score.metrics["bare_walls_true"] == bare_share([trial.plan for trial in trials[:2]])


def test_the_gate_is_open_for_the_good_and_closed_for_each_fault():
    good = {name: max(low, min(high, low + 0.1)) for name, (low, high) in GATE.items()}
    assert all(gate_results(good).values())
    for name, (low, _) in GATE.items():
        assert not gate_results(good | {name: low - 1})[name]


def test_scores_hold_all_metrics_and_the_views(trials):
    score = next(evaluate_generators({"nearest": FillBaseline("nearest")}, trials[:2], houses=1))
    assert score.metrics.keys() > GATE.keys()
    images = trial_images({score.name: score.views}, trials[:2])
    assert list(images) == ["context", "shown", "nearest", "truth"]
    assert {rows.shape for rows in images.values()} == {(2, 3, 32, 32)}


def test_generators_without_depth_have_no_depth_error(trials):
    """The number is NaN, not a guess."""
    views = generate_trials(small(steps=2), [_encodable(trials[0])])
    numbers = trial_metrics(views, [trials[0]])
    assert math.isnan(numbers["depth_error"])


def _encodable(trial: Trial) -> Trial:
    encoded = small().encode(trial.context)
    return replace(trial, context=encoded)
