"""Views: what may become one, and how they are resized and cropped."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import (
    Views,
    cameras,
    crop,
    crop_to_aspect,
    intrinsics,
    pixel_centres,
    project,
    resize,
    surface_at,
    unproject,
    views,
    with_sky,
)


def make_views(t=2, h=6, w=8, seed=0, K=None):
    rng = torch.Generator().manual_seed(seed)
    return views(
        torch.rand(t, 3, h, w, generator=rng),
        cameras(torch.eye(4).expand(t, 4, 4), K),
        depth=torch.rand(t, h, w, generator=rng) + 0.5,
        confidence=torch.rand(t, h, w, generator=rng),
    )


# --- construction ---------------------------------------------------------------------------------


def test_views_are_float32_and_given_by_default():
    result = views(
        torch.zeros(2, 3, 4, 5, dtype=torch.float64), cameras(torch.eye(4).expand(2, 4, 4))
    )
    assert result.image.dtype == torch.float32
    assert result.given.tolist() == [True, True]
    assert result.depth is None


def test_rounding_errors_outside_the_range_are_clamped():
    image = torch.tensor([-1e-6, 0.5, 1 + 1e-6]).reshape(1, 3, 1, 1)
    assert views(image, cameras(torch.eye(4)[None])).image.flatten().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0, float("nan"), float("inf")])
def test_an_image_that_is_not_within_zero_and_one_is_refused(value):
    image = torch.full((1, 3, 2, 2), value)
    with pytest.raises(ValueError, match="finite in"):
        views(image, cameras(torch.eye(4)[None]))


@pytest.mark.parametrize("value", [0.0, -1.0, float("-inf")])
def test_depth_that_is_neither_positive_nor_nan_is_refused(value):
    depth = torch.full((1, 2, 2), value)
    with pytest.raises(ValueError, match="NaN where unknown"):
        views(torch.zeros(1, 3, 2, 2), cameras(torch.eye(4)[None]), depth)


@pytest.mark.parametrize("value", [float("inf"), 1e10, 6.5504e10, 65535.0, 65.535])
def test_saturated_depth_is_sky(value):
    depth = torch.tensor([[[value, 65.534], [2.0, torch.nan]]])
    result = views(torch.zeros(1, 3, 2, 2), cameras(torch.eye(4)[None]), depth).depth
    assert result.isinf().tolist() == [[[True, False], [False, False]]]
    assert torch.equal(result[0, :, 1].nan_to_num(-1), depth[0, :, 1].nan_to_num(-1))


def test_a_16_bit_step_of_any_precision_is_sky():
    steps = torch.tensor([[[65535, 65534]]])
    for metres in (steps * 0.001, (steps.double() / 1000).float(), steps.float() * 1e-3):
        assert with_sky(metres).isinf().tolist() == [[[True, False]]]


def test_unknown_depth_is_accepted():
    depth = torch.full((1, 2, 2), torch.nan)
    result = views(torch.zeros(1, 3, 2, 2), cameras(torch.eye(4)[None]), depth)
    assert result.depth.isnan().all()


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_negative_or_unknown_confidence_is_refused(value):
    confidence = torch.full((1, 2, 2), value)
    with pytest.raises(ValueError, match="confidence"):
        views(torch.zeros(1, 3, 2, 2), cameras(torch.eye(4)[None]), confidence=confidence)


def test_there_must_be_as_many_cameras_as_images():
    with pytest.raises(ValueError, match="3 images need 3 cameras"):
        views(torch.zeros(3, 3, 2, 2), cameras(torch.eye(4)[None]))


def test_images_without_pixels_are_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        views(torch.zeros(1, 3, 0, 4), cameras(torch.eye(4)[None]))


# --- resize and crop ------------------------------------------------------------------------------


def test_resizing_to_the_same_size_changes_nothing():
    old = make_views()
    for name, leaf in resize(old, 6, 8).leaves().items():
        torch.testing.assert_close(leaf, old.leaves()[name])


def test_shrinking_keeps_the_mean_colour_of_a_checkerboard():
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    result = views(board.float().expand(1, 3, 16, 16), cameras(torch.eye(4)[None]))
    small = resize(result, 4, 4).image[..., 1:3, 1:3]
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.02, rtol=0)


def test_resized_depth_has_no_values_between_those_of_the_surfaces():
    depth = torch.full((1, 8, 8), 1.0)
    depth[..., 4:] = 9.0
    result = views(torch.zeros(1, 3, 8, 8), cameras(torch.eye(4)[None]), depth)
    for size in (3, 5, 16):
        assert set(resize(result, size, size).depth.unique().tolist()) == {1.0, 9.0}


def test_resizing_moves_no_point_of_a_plane_by_more_than_a_pixel():
    K = intrinsics(70.0, 1.5)
    result = resize(make_views(1, 24, 36, K=K), 8, 12)
    uv, _ = project(result.cameras, unproject(result.cameras, result.depth).flatten(1, 2))
    torch.testing.assert_close(uv.reshape(8, 12, 2), pixel_centres(8, 12))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_crop_sees_the_same_world_points_at_its_pixels(data):
    h, w = 7, 9
    old = make_views(2, h, w, K=intrinsics(60.0, w / h))
    top = data.draw(st.integers(0, h - 1))
    left = data.draw(st.integers(0, w - 1))
    height = data.draw(st.integers(1, h - top))
    width = data.draw(st.integers(1, w - left))
    new = crop(old, top, left, height, width)
    whole = unproject(old.cameras, old.depth)
    part = whole[:, top : top + height, left : left + width]
    torch.testing.assert_close(unproject(new.cameras, new.depth), part)
    torch.testing.assert_close(new.image, old.image[..., top : top + height, left : left + width])


@pytest.mark.parametrize("rectangle", [(0, 0, 7, 8), (-1, 0, 2, 2), (0, 0, 0, 2), (5, 7, 2, 1)])
def test_a_crop_that_leaves_the_image_is_refused(rectangle):
    with pytest.raises(ValueError, match="inside the image"):
        crop(make_views(), *rectangle)


@pytest.mark.parametrize(
    ("aspect", "size"), [(1.0, (6, 6)), (2.0, (4, 8)), (0.5, (6, 3)), (1e-6, (6, 1)), (1e6, (1, 8))]
)
def test_cropping_to_an_aspect_takes_the_largest_rectangle(aspect, size):
    assert crop_to_aspect(make_views(), aspect).image.shape[-2:] == size


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_an_aspect_that_is_not_positive_and_finite_is_refused(aspect):
    with pytest.raises(ValueError, match="aspect"):
        crop_to_aspect(make_views(), aspect)


def test_resizing_to_no_pixels_is_refused():
    with pytest.raises(ValueError, match="pixels"):
        resize(make_views(), 0, 4)


def test_a_view_tells_the_depth_of_points_and_of_the_surface_at_their_pixels():
    """A wall at 4 with a column at 2; image coordinates are x / z + 1 / 2."""
    depth = torch.full((1, 2, 4), 4.0)
    depth[0, :, 2] = 2.0  # 0.5 <= u < 0.75
    K = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    view = Views(
        cameras(torch.eye(4)[None], K), torch.zeros(1, 3, 2, 4), torch.ones(1).bool(), depth
    )
    points = torch.tensor([[-1.0, 0, 3], [0.1, 0, 1], [3.0, 0, 3], [0.0, 0, -1], [2.0, 0, 4]])
    in_view, surface = surface_at(view, points)
    assert in_view.tolist() == [3, 1, 3, -1, 4]
    # The last three are right of the image, behind the camera, and just on the right border.
    expected = torch.tensor([4.0, 2.0, torch.nan, torch.nan, torch.nan])
    torch.testing.assert_close(surface, expected, equal_nan=True)
