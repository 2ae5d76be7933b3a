"""Scale and shift from the overlap: exact without noise, and robust where the two depths differ."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vmemkit.reconstruction import FitConfig, fit_depth


def truth(h: int = 60, w: int = 80, seed: int = 0) -> Tensor:
    return 1 + 4 * torch.rand(h, w, generator=torch.Generator().manual_seed(seed))


def corrupt(depth: Tensor, share: float, seed: int = 1) -> Tensor:
    """The depth, with a share of the pixels wrong."""
    rng = torch.Generator().manual_seed(seed)
    wrong = torch.rand(depth.shape, generator=rng) < share
    return torch.where(wrong, depth * (0.3 + 2 * torch.rand(depth.shape, generator=rng)), depth)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.05, 20), shift=st.floats(-2, 0.8), bad=st.floats(0, 0.4))
def test_scale_and_shift_are_exact_though_some_depth_is_wrong(scale, shift, bad):
    z = truth()
    fit = fit_depth(corrupt((z - shift) / scale, bad), z)
    assert fit.scale == pytest.approx(scale, rel=1e-3)
    assert fit.shift == pytest.approx(shift, abs=2e-3)
    assert fit.overlap == 1
    assert fit.inliers >= 1 - bad - 0.05


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.05, 20), unit=st.floats(0.01, 100))
def test_the_fit_does_not_depend_on_the_units(scale, unit):
    z = truth()
    one, other = fit_depth(corrupt(z, 0.2) / scale, z), fit_depth(corrupt(z, 0.2) / scale, unit * z)
    assert other.scale == pytest.approx(unit * one.scale, rel=1e-4)
    assert other.residual == pytest.approx(one.residual, rel=1e-3, abs=1e-7)


def test_noise_changes_the_fit_little_and_shows_in_the_residual():
    z, rng = truth(), torch.Generator().manual_seed(2)
    noisy = (z - 0.4) / 2.5 * (1 + 0.03 * torch.randn(z.shape, generator=rng))
    fit = fit_depth(noisy, z)
    assert fit.scale == pytest.approx(2.5, rel=0.02)
    assert fit.shift == pytest.approx(0.4, abs=0.05)
    assert 0.01 < fit.residual < 0.03  # the median of |N(0, 0.03)|, and less where the shift counts


def test_a_shift_is_fitted_only_where_it_pays():
    z, rng = truth(), torch.Generator().manual_seed(2)
    noisy = z / 2.5 * (1 + 0.03 * torch.randn(z.shape, generator=rng))
    assert fit_depth(noisy, z).shift == 0
    assert fit_depth((z - 0.4) / 2.5, z, shift=False).shift == 0


@pytest.mark.parametrize("spread", [0.03, 0.1, 0.3])
def test_noise_on_a_nearly_flat_wall_is_not_taken_for_a_shift(spread):
    for seed in range(5):
        z, rng = 3 + 0.75 * spread * (truth(seed=seed) - 1), torch.Generator().manual_seed(seed)
        fit = fit_depth(z / 2.5 * (1 + 0.03 * torch.randn(z.shape, generator=rng)), z)
        assert fit.shift == 0
        assert fit.scale == pytest.approx(2.5, rel=0.01)


def test_too_few_pixels_are_refused():
    for n in (0, 1, 2, 15):
        with pytest.raises(ValueError, match=r"need 1\.00% and 16"):
            fit_depth(torch.ones(n), torch.ones(n))
    assert fit_depth(torch.ones(16), 2 * torch.ones(16)).scale == 2


def test_a_wall_seen_frontally_tells_the_scale_and_no_shift():
    fit = fit_depth(torch.full((20, 30), 2.0), torch.full((20, 30), 5.0))
    assert (fit.scale, fit.shift, fit.residual, fit.inliers) == (2.5, 0.0, 0.0, 1.0)


def test_the_fit_is_a_function_of_depth():
    z = truth()
    fit = fit_depth((z - 0.4) / 2.5, z)
    torch.testing.assert_close(fit((z - 0.4) / 2.5), z)


@pytest.mark.parametrize("unknown", [torch.nan, 0.0, torch.inf, -1.0])
def test_unknown_pixels_do_not_count(unknown):
    z = truth()
    depth = z / 2
    depth[:30], z[:, 40:] = unknown, unknown
    fit = fit_depth(depth, z)
    assert fit.scale == pytest.approx(2)
    assert fit.overlap == 0.25


@pytest.mark.parametrize(("h", "w"), [(1, 200), (7, 5), (200, 3)])
def test_maps_of_any_shape_can_be_fitted(h, w):
    z = truth(h, w)
    assert fit_depth(z / 3, z).scale == pytest.approx(3, rel=1e-4)


def test_too_little_overlap_is_refused_with_its_size():
    z, nothing = truth(), torch.full((60, 80), torch.nan)
    with pytest.raises(
        ValueError, match=r"overlap in 0\.00% of the pixels \(0\), need 1\.00% and 16"
    ):
        fit_depth(z, nothing)
    nothing[0, :24] = 1.0
    with pytest.raises(ValueError, match=r"overlap in 0\.50%"):
        fit_depth(z, nothing)
    assert fit_depth(z, nothing, config=FitConfig(min_overlap=0.001)).overlap == pytest.approx(
        0.005
    )
