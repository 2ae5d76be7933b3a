"""Noise of recordings: as large as it says, the same for the same seed, and judged by the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_helpers import Box

from vmemkit.core import cat
from vmemkit.evaluation import NOISES, Cell, RecordingNoise, noisy, run_cell

BOX = Box()
VIEWS = BOX.render(cat([BOX.look(3.0 * i) for i in range(60)]), 48, 64)


def test_nothing_changes_without_noise():
    same = noisy(VIEWS, NOISES["clean"])
    for name, value in VIEWS.leaves().items():
        torch.testing.assert_close(same.leaves()[name], value)


@pytest.mark.parametrize("kind", ["depth", "smooth", "scale"])
def test_depth_is_as_wrong_as_it_says(kind):
    error = noisy(VIEWS, RecordingNoise(**{kind: 0.03})).depth / VIEWS.depth - 1
    within_view = float(error.flatten(1).std(1).mean())
    next_to_each_other = float((error[:, :, 1:] - error[:, :, :-1]).std())
    size = {"depth": 0.2, "smooth": 0.4, "scale": 0.3}[kind]  # few numbers are drawn for the latter
    assert float(error.std()) == pytest.approx(0.03, rel=size)
    assert (within_view < 1e-6) == (kind == "scale")
    assert (next_to_each_other > 0.03) == (kind == "depth")


def test_poses_and_holes_are_as_wrong_as_they_say():
    noise = RecordingNoise(shift=0.05, turn=2.0, holes=0.1)
    made = noisy(VIEWS, noise)
    moved = made.cameras.position - VIEWS.cameras.position
    assert float(moved.std()) == pytest.approx(0.05, rel=0.2)
    turn = made.cameras.rotation.mT @ VIEWS.cameras.rotation
    cosine = (turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    assert float(angle.square().mean().sqrt()) == pytest.approx(2.0, rel=0.2)
    assert float(made.depth.isnan().float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(noisy(VIEWS, noise).cameras.position, made.cameras.position)
    assert not torch.equal(noisy(VIEWS, noise, seed=1).cameras.position, made.cameras.position)


def test_a_sensor_may_record_the_sky_as_far_away():
    depth = VIEWS.depth.clone()
    depth[:, :4] = torch.nan
    made = noisy(VIEWS.replace(depth=depth), NOISES["sky at 65.5 m"])
    assert (made.depth[:, :4] == 65.535).all()
    assert made.depth[:, 4:].max() < 60
    with pytest.raises(ValueError, match="these have none"):
        noisy(VIEWS.replace(depth=None), NOISES["clean"])


def test_walks_from_noisy_views_are_judged_by_the_truth():
    cell = Cell("rooms:0", "abca", "camera_distance", height=24)
    clean, wrong = run_cell(cell), run_cell(replace(cell, noise="depth 10 %"))
    assert wrong["course"] == clean["course"]
    assert wrong["coverage"] == clean["coverage"]  # this policy does not look at depth
    assert wrong["truth_ssim"] < clean["truth_ssim"]
    recall = replace(cell, protocol="recall", policy="coverage", noise="poses 5 cm, 2 deg")
    assert 0.8 < run_cell(recall)["recall"] <= 1
