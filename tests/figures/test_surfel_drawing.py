"""The drawing from pixel to splat: its numbers and shapes are those of the core."""

import pytest
import torch

from vmemkit.core import (
    PointMaps,
    SurfelConfig,
    footprint,
    project,
    splat,
    surfels_from_points,
    thin,
)
from vmemkit.figures import pixel_to_splat
from vmemkit.figures.surfel_drawing import DISC, FOOTPRINT

PIXEL, ROWS = (9, 8), 12  # a pixel of the floor in a grid of 12 x 16


@pytest.fixture(scope="module")
def view(box):
    return box.render(box.look(0.0, pitch=-10.0), 48, 64)


@pytest.fixture(scope="module")
def other(box):
    return box.look(15.0, at=(-0.4, -0.3, -0.5), pitch=-15.0)


@pytest.fixture(scope="module")
def drawings(view, other):
    return pixel_to_splat(view, PIXEL, other).axes


@pytest.fixture(scope="module")
def surfels(view):
    """The surfels of the grid, and the index of the pixel's."""
    maps = PointMaps.from_depth(view.cameras, view.depth)
    coarse, image = thin(maps, view.image, SurfelConfig(shrink=ROWS / 48))
    surfels, ids = surfels_from_points(coarse[0], view.cameras[0], image[0], SurfelConfig())
    return surfels, ids.tolist().index(PIXEL[0] * 16 + PIXEL[1])


def title(axes) -> str:
    return axes.get_title(loc="left")


def words(axes) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def line(axes, color):
    """The longest line of a colour, as points (n, 2)."""
    lines = [line for line in axes.lines if line.get_color() == color]
    return torch.tensor(max((line.get_xydata().tolist() for line in lines), key=len))


def test_there_are_four_drawings(drawings):
    assert [title(axes)[0] for axes in drawings] == ["1", "2", "3", "4"]


def test_depth_angle_and_radius_are_those_of_the_surfel(drawings, view, surfels):
    table, index = surfels
    point, normal, radius = table.position[index], table.normal[index], table.radius[index]
    _, depth = project(view.cameras[0], point[None])
    sight = torch.nn.functional.normalize(point - view.cameras.position[0], dim=0)
    cosine, focal = sight @ normal, view.cameras.K[0, 0, 0] * 16
    assert f"= {float(depth):.2f} m" in title(drawings[0])
    assert f"{float(focal):.1f} pixels" in title(drawings[1])
    assert f"= {100 * float(depth / focal):.0f} cm" in words(drawings[1])
    assert f"= {float(cosine):.2f}" in title(drawings[2])
    assert f"= {100 * float(radius):.0f} cm" in words(drawings[2])
    torch.testing.assert_close(radius, footprint(depth[0], focal, cosine))


def test_the_patch_on_the_surface_lies_between_the_rays_of_the_pixel(drawings):
    window, patch = (line(drawings[1], color) for color in (FOOTPRINT, DISC))
    assert (patch[1] - patch[0]).norm() > (window[1] - window[0]).norm()
    # Both lie between the same two rays from the camera, which is the origin.
    for a, b in zip(window, patch, strict=True):
        assert abs(a[0] * b[1] - a[1] * b[0]) < 1e-5


def test_the_splat_has_the_pixels_that_the_core_gives_to_the_surfel(drawings, surfels, other):
    table, index = surfels
    won = int((splat(table, other, 48, 64).surfel == index).sum())
    covered = int((splat(table[index : index + 1], other, 48, 64).surfel == 0).sum())
    assert 0 < won <= covered
    assert f"covers {covered} pixels, is nearest in {won}" in title(drawings[3])
    assert len(drawings[3].patches) == covered


@pytest.mark.parametrize("pixel", [(12, 0), (0, 16), (-1, 0)])
def test_a_pixel_outside_of_the_grid_is_refused(view, other, pixel):
    with pytest.raises(ValueError, match="makes no surfel: choose one inside the grid"):
        pixel_to_splat(view, pixel, other)


def test_a_pixel_of_unknown_depth_is_refused(view, other):
    unknown = view.replace(depth=torch.full_like(view.depth, torch.nan))
    with pytest.raises(ValueError, match="makes no surfel"):
        pixel_to_splat(unknown, PIXEL, other)


def test_a_camera_that_looks_away_is_refused(view, box):
    with pytest.raises(ValueError, match="does not see the disc"):
        pixel_to_splat(view, PIXEL, box.look(180.0))


def test_a_view_without_depth_is_refused(view, other):
    with pytest.raises(ValueError, match="one view with depth"):
        pixel_to_splat(view.replace(depth=None), PIXEL, other)
