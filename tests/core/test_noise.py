"""Noise of depth: it is measured, and smoothed away without moving edges."""

from __future__ import annotations

import pytest
import torch
from core_helpers import Box

from vmemkit.core import SurfelConfig, depth_noise, smoothed
from vmemkit.memory import MemoryConfig, begin

BOX, SIZE = Box(), (48, 64)


def room(noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """True depth of a view into a corner of the box, and with normal noise of this share."""
    true = BOX.depth(BOX.look(35.0, at=(0.3, 0.2, 0.1)), *SIZE)
    random = torch.Generator().manual_seed(seed)
    return true, true * (1 + noise * torch.randn(true.shape, generator=random))


def error(depth: torch.Tensor, true: torch.Tensor) -> float:
    return float((depth / true - 1).abs().median())


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03, 0.1])
def test_noise_is_measured_as_a_share_of_depth(noise):
    _, noisy = room(noise)
    assert float(depth_noise(noisy)) == pytest.approx(noise, rel=0.15)


def test_exact_depth_has_no_noise_and_unknown_depth_tells_nothing():
    true, _ = room(0.0)
    assert float(depth_noise(true)) < 1e-5
    assert depth_noise(torch.full((2, *SIZE), torch.nan)).tolist() == [0, 0]
    assert depth_noise(torch.ones(3, 2, 9)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_smoothing_removes_most_of_it(noise):
    true, noisy = room(noise)
    assert error(smoothed(noisy[0], noise), true[0]) < error(noisy, true) / 3


def test_a_step_between_surfaces_stays_where_it_is():
    true = torch.full(SIZE, 2.0)
    true[:, 30:] = 3.0
    random = torch.Generator().manual_seed(0)
    found = smoothed(true * (1 + 0.01 * torch.randn(SIZE, generator=random)), 0.01)
    assert (found[:, :30] < 2.1).all()
    assert (found[:, 30:] > 2.85).all()


def test_unknown_pixels_stay_unknown_and_do_not_spread():
    true, noisy = room(0.02)
    noisy[0, 10:20, 5:30] = torch.nan
    found = smoothed(noisy[0], 0.02)
    assert torch.equal(found.isnan(), noisy[0].isnan())
    assert float((found / true[0] - 1).abs().nan_to_num(0).max()) < 0.1


def test_a_memory_of_noisy_depth_has_steadier_normals_and_does_not_change_its_views():
    view = BOX.render(BOX.look(35.0, at=(0.3, 0.2, 0.1)), *SIZE)
    _, noisy = room(0.03)
    view = view.replace(depth=noisy)
    smooth, rough = (
        begin(view, MemoryConfig(SurfelConfig(noise=noise))) for noise in (SurfelConfig.noise, 1.0)
    )
    # The walls of the box are normal to its axes.
    steady, shaky = (m.surfels.normal.abs().amax(1).median() for m in (smooth, rough))
    assert steady > 0.98 > 0.9 > shaky
    assert torch.equal(smooth.views.depth, view.depth)


def test_without_noise_nothing_is_smoothed():
    view = BOX.render(BOX.look(35.0), *SIZE)
    usual, never = begin(view), begin(view, MemoryConfig(SurfelConfig(noise=1.0)))
    assert torch.equal(usual.surfels.position, never.surfels.position)
    assert torch.equal(usual.surfels.normal, never.surfels.normal)
