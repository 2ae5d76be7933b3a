"""Extents: the box that pictures show leaves out sky and strays, and nothing else."""

import pytest
import torch

from vmemkit.figures import scene_box, surfel_box
from vmemkit.figures.extents import without_background


@pytest.fixture
def surfels():
    """A grid of 21 x 21 x 21 surfels in [-1, 1], ten strays at x = 30, and sky at 1e10."""
    axis = torch.linspace(-1, 1, 21)
    grid = torch.cartesian_prod(axis, axis, axis)
    strays = torch.tensor([30.0, 0.0, 0.0]).expand(10, 3)
    sky = torch.tensor([0.0, -1e10, 0.0]).expand(500, 3)
    return torch.cat([grid, strays, sky])


def test_the_box_of_surfels_has_neither_strays_nor_sky(surfels):
    eyes = torch.zeros(1, 3)
    low, high = surfel_box(surfels, eyes)
    assert low.tolist() == pytest.approx(
        [-1.0, -1.0, -1.0]
    )  # each face of the grid is 1 / 21 of it
    assert high.tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert len(without_background(surfels, eyes)) == len(surfels) - 500  # strays are no background


def test_the_box_of_a_scene_has_all_cameras_too(surfels):
    eyes = torch.tensor([[0.0, 0.0, -4.0], [0.0, 2.0, 0.0]])
    low, high = scene_box(surfels, eyes)
    assert low.tolist() == pytest.approx([-1.0, -1.0, -4.0])
    assert high.tolist() == pytest.approx([1.0, 2.0, 1.0])


def test_scenes_without_surfels_or_cameras_have_a_box():
    nothing, eyes = torch.empty(0, 3), torch.tensor([[1.0, 2.0, 3.0]])
    assert [end.tolist() for end in scene_box(nothing, eyes)] == [[1.0, 2.0, 3.0]] * 2
    assert [end.tolist() for end in scene_box(nothing, nothing)] == [[0.0, 0.0, 0.0]] * 2
    low, high = scene_box(eyes, nothing)
    assert low.tolist() == high.tolist() == [1.0, 2.0, 3.0]
