"""Judging generators: measures that say what they claim, trials that are fair, rivals that are simple."""

import json
import math

import pytest
import torch
from generator_helpers import small

from vmemkit.cli import main
from vmemkit.core import stream
from vmemkit.evaluation import (
    GATE,
    Circle,
    Filled,
    Trial,
    circle,
    endurance,
    generators,
    imagination,
    imagine,
    judge_generators,
    passed,
    trials,
)
from vmemkit.generation import IMAGINED, SEEN, Generation, context_batch, reproject
from vmemkit.generation.rgbd import UNET, WEIGHTS, load_rgbd
from vmemkit.scenes import rooms


@pytest.fixture(scope="module")
def asked():
    return trials(6, 32)


def perfect(asked):
    """A generator that knows the truth of the trials."""
    truths = {float(t.truth.cameras.world_from_cam.sum()): t.truth for t in asked}

    def generator(context, targets, rng):
        truth = truths[float(targets.world_from_cam.sum())]
        yield Generation(truth.image, truth.depth, torch.full_like(truth.depth, IMAGINED))

    return generator


# ---- measures ------------------------------------------------------------------------------------


def test_the_truth_gets_full_marks(asked):
    numbers = imagination(imagine(perfect(asked), asked), asked)
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


# ---- trials and rivals ---------------------------------------------------------------------------


def test_trials_are_partly_unseen_repeatable_and_of_many_houses(asked):
    again = trials(6, 32)
    for one, other in zip(asked, again, strict=True):
        assert torch.equal(one.truth.image, other.truth.image)
        assert generators.LEAST <= one.unseen.float().mean() <= generators.MOST
        assert 1 <= len(one.context) <= 4
        assert not (one.seen & one.unseen).any()
    assert not torch.equal(trials(1, 32, seed=1)[0].truth.image, asked[0].truth.image)


@pytest.mark.parametrize("fill", ["nearest", "push_pull", "layout"])
def test_rivals_keep_what_is_shown_and_fill_the_rest(asked, fill):
    for trial in asked:
        *_, made = Filled(fill)(trial.context, trial.truth.cameras, stream(0))
        shown = reproject(context_batch(trial.context), trial.truth.cameras[None])
        known = shown.known[0, 0]
        assert torch.equal(made.image[0][:, known], shown.image[0, 0][:, known])
        assert made.depth.isfinite().all()
        assert (made.confidence[0][known] == SEEN).all()
        if fill == "nearest":
            colors = shown.image[0, 0][:, known].T
            filled = made.image[0][:, ~known].T
            assert torch.cdist(filled, colors).amin(1).amax() < 2e-3


def test_a_rival_that_sees_nothing_paints_the_layout(box):
    view = box.render(box.look(0.0), 32, 32)
    for fill in ("nearest", "push_pull", "layout"):
        *_, made = Filled(fill)(view, box.look(180.0), stream(0))
        assert made.depth.isfinite().all()
        assert (made.confidence == IMAGINED).all()


# ---- circles -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turn():
    return circle(rooms(1), Filled("nearest"), "coverage", 32)


def test_a_circle_goes_round_and_comes_back(turn):
    assert len(turn.made) == 24
    poses = turn.made.cameras.world_from_cam
    for back, out in ((13, 9), (22, 0), (12, 10)):
        torch.testing.assert_close(poses[back], poses[out], atol=1e-5, rtol=0)
    torch.testing.assert_close(poses[11], poses[23], atol=1e-5, rtol=0)  # the start
    assert turn.seconds > 0


def test_endurance_of_the_truth_is_one_and_its_return_exact(turn):
    ideal = Circle(turn.truth, turn.truth, 0.1)
    numbers = endurance([ideal])
    assert numbers["return_psnr"] > 60  # the same pictures, but for rounding of poses
    for name in ("edges_least", "edges_most", "contrast_least", "contrast_most"):
        assert numbers[name] == pytest.approx(1)
    worse = endurance([turn])
    assert worse["edges_least"] < 1
    grey = turn.made.replace(image=torch.full_like(turn.made.image, 0.5))
    assert endurance([Circle(grey, turn.truth, 0.1)])["contrast_most"] == 0


def test_the_gate_is_open_for_the_good_and_closed_for_each_fault():
    good = {name: max(low, min(high, low + 0.1)) for name, (low, high) in GATE.items()}
    assert all(passed(good).values())
    for name, (low, _) in GATE.items():
        assert not passed(good | {name: low - 1})[name]


def test_the_verdict_names_every_number_of_the_table(asked):
    from vmemkit.cli.train import COLUMNS, table, trials_sheet

    verdict = next(judge_generators({"nearest": Filled("nearest")}, asked[:2], houses=1))
    assert verdict.numbers.keys() == COLUMNS.keys()
    assert table([verdict]).row_count == len(COLUMNS)
    figure = trials_sheet({"nearest": verdict.made}, asked[:2])
    assert figure.get_size_inches()[0] > 1


# ---- the command line ----------------------------------------------------------------------------


def test_evaluate_writes_numbers_and_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vmemkit.cli.train.generators", lambda *_: {"rooms": Filled("layout")})
    arguments = ["evaluate", "generator", "--count", "2", "--houses", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["gate"].keys() == GATE.keys()
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    said = capsys.readouterr().out
    assert "depth error" in said
    assert "wanted" in said


def test_train_saves_goes_on_and_says_so(tmp_path, capsys):
    arguments = ["train", "rooms", "--out", str(tmp_path / "a"), "--batch", "1", "--threads", "1"]
    # a run of one step, with a pool as small as can be
    from vmemkit.training import Run, TrainConfig

    run = Run(TrainConfig(size=32, views=4, walks=1, steps=2, batch=1))
    run.advance()
    run.save(tmp_path / "a" / "checkpoint")
    assert main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "going on from step 1" in said
    assert "2 of 2 steps" in said
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"checkpoint", WEIGHTS, "sheet.png"}
    assert Run.resume(tmp_path / "a" / "checkpoint").step == 2
    assert load_rgbd(tmp_path / "a", "cpu").unet.config == UNET


@pytest.mark.parametrize(
    "wrong",
    [
        ["train", "rooms", "--minutes", "0"],
        ["train", "rooms", "--walks", "nowhere"],
        ["evaluate", "generator", "--count", "1"],
        ["evaluate", "generator", "--weights", "nowhere"],
    ],
)
def test_bad_arguments_are_one_line(tmp_path, wrong, capsys):
    assert main([*wrong, "--out", str(tmp_path / "out")]) == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_generators_of_images_alone_cannot_be_judged_on_depth(asked):
    """What makes no depth has none to be wrong about: the number is NaN, not a guess."""
    made = imagine(small(steps=2), [_encodable(asked[0])])
    numbers = imagination(made, [asked[0]])
    assert math.isnan(numbers["depth_error"])


def _encodable(trial: Trial) -> Trial:
    encoded = small().encode(trial.context)
    return Trial(encoded, trial.truth, trial.unseen, trial.seen)
