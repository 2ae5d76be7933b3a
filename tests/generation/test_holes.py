"""Laws of hole filling: known pixels stay, nothing wild appears, planes are continued."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import cameras, intrinsics, pixel_centres, rays
from vmemkit.generation import push_pull
from vmemkit.generation.warp.holes import _maximum_along
from vmemkit.generation.warp.planes import DEPTH_RANGE, fill_depth
from vmemkit.generation.warp.smoothing import blend_seam

SIZES = st.integers(1, 37)


def random_mask(height: int, width: int, seed: int) -> torch.Tensor:
    known = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.2
    known[seed % height, seed % width] = True
    return known


def room_depth(low: tuple, high: tuple, height: int = 60, width: int = 80) -> torch.Tensor:
    """Planar depth seen from the origin, inside an empty box."""
    camera = cameras(torch.eye(4), intrinsics(90.0, width / height))
    ray = rays(camera, pixel_centres(height, width))
    return torch.maximum(torch.tensor(high) / ray, torch.tensor(low) / ray).amin(-1)


def relative_error(filled: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return ((filled - truth).abs() / truth)[where]


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, st.integers(0, 999), st.floats(0, 1, width=32))
def test_push_pull_reproduces_constants_exactly_at_any_size(height, width, seed, value):
    image = torch.full((3, height, width), value)
    assert torch.equal(push_pull(image, random_mask(height, width, seed)), image)


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, st.integers(0, 999))
def test_push_pull_keeps_what_is_known_and_its_range(height, width, seed):
    known = random_mask(height, width, seed)
    image = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    filled = push_pull(torch.where(known, image, torch.nan), known)
    assert torch.equal(filled[:, known], image[:, known])
    assert (filled.amin((1, 2)) >= image[:, known].amin(1)).all()
    assert (filled.amax((1, 2)) <= image[:, known].amax(1)).all()


def test_push_pull_of_a_batch_is_that_of_each_image():
    image, known = torch.rand(2, 3, 11, 7), torch.rand(2, 11, 7) < 0.5
    each = [push_pull(i, k) for i, k in zip(image, known, strict=True)]
    assert torch.equal(push_pull(image, known), torch.stack(each))


def test_push_pull_bridges_a_gap_smoothly():
    ramp = torch.linspace(0, 1, 32).expand(1, 32, 32)
    known = torch.ones(32, 32, dtype=torch.bool)
    known[:, 12:20] = False
    assert (push_pull(ramp, known) - ramp).abs().amax() < 0.15


def test_a_slanted_wall_goes_on_into_the_hole():
    uv = pixel_centres(48, 64)
    depth = 1 / (0.2 + 0.3 * uv[..., 0] - 0.05 * uv[..., 1])
    known = torch.ones(48, 64, dtype=torch.bool)
    known[:, 40:] = known[10:20, 5:15] = False
    filled = fill_depth(torch.where(known, depth, torch.nan), known)
    assert relative_error(filled, depth, ~known).amax() < 1e-3


@pytest.mark.parametrize(
    "hole", [(0, 60, 30, 60), (0, 60, 68, 80), (50, 60, 0, 80), (40, 60, 58, 80)]
)
def test_in_an_empty_room_walls_floor_and_ceiling_meet_where_they_should(hole):
    depth = room_depth((-2.0, -1.2, -9.0), (2.5, 1.5, 4.0))
    known = torch.ones_like(depth, dtype=torch.bool)
    known[hole[0] : hole[1], hole[2] : hole[3]] = False
    filled = fill_depth(torch.where(known, depth, torch.nan), known)
    error = relative_error(filled, depth, ~known)
    smooth = relative_error(1 / push_pull((1 / depth)[None], known)[0], depth, ~known)
    assert error.median() < 0.005
    assert error.mean() < 0.03
    assert error.mean() < 0.3 * smooth.mean()


def test_planes_are_found_in_noisy_depth():
    depth = room_depth((-2.0, -1.2, -9.0), (2.5, 1.5, 4.0))
    noise = torch.randn(depth.shape, generator=torch.Generator().manual_seed(1))
    known = torch.ones_like(depth, dtype=torch.bool)
    known[:, 30:60] = False
    filled = fill_depth(depth * (1 + 0.01 * noise), known)
    assert relative_error(filled, depth, ~known).median() < 0.03


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 999))
def test_even_clutter_is_filled_without_wild_values(height, width, seed):
    known = random_mask(height, width, seed)
    depth = 0.1 + 9 * torch.rand(height, width, generator=torch.Generator().manual_seed(seed))
    filled = fill_depth(torch.where(known, depth, torch.nan), known)
    assert torch.equal(filled[known], depth[known])
    assert (filled >= DEPTH_RANGE[0] * depth[known].amin() * (1 - 1e-5)).all()
    assert (filled <= DEPTH_RANGE[1] * depth[known].amax() * (1 + 1e-5)).all()


def test_filling_depth_twice_gives_the_same():
    depth = room_depth((-2.0, -1.2, -9.0), (2.5, 1.5, 4.0))
    known = random_mask(*depth.shape, seed=3)
    assert torch.equal(fill_depth(depth, known), fill_depth(depth, known))


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, st.integers(1, 50), st.integers(0, 999))
def test_the_maximum_along_an_axis_is_that_of_all_neighbours(height, width, reach, seed):
    image = torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed))
    row = [image[:, :, max(0, j - reach) : j + reach + 1].amax(-1) for j in range(width)]
    column = [image[:, max(0, i - reach) : i + reach + 1].amax(-2) for i in range(height)]
    assert torch.equal(_maximum_along(image, -1, reach), torch.stack(row, -1))
    assert torch.equal(_maximum_along(image, -2, reach), torch.stack(column, -2))


def test_a_blended_seam_takes_the_step_out_of_a_filling_that_is_too_bright():
    image, known = torch.full((3, 20, 40), 0.4), torch.ones(20, 40, dtype=torch.bool)
    known[:, 20:] = False
    blended = blend_seam(image + 0.2, image, known)
    assert (blended[:, :, 20] - 0.4).abs().amax() < 0.08
    assert (blended[:, :, -1] - 0.6).abs().amax() < 0.01
