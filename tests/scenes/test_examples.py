"""Examples: the photo of a room whose depth is a box around the camera."""

from __future__ import annotations

import math

import pytest
import torch

from vmemkit.core import unproject
from vmemkit.scenes import EXAMPLES, example_size, examples, room_photo

NAME = "colour photo, depth of a box"


@pytest.mark.parametrize("rows", [24, 180, 240])
def test_the_photo_of_a_room_has_finite_depth_at_every_size(rows):
    view, box = room_photo(rows)
    assert view.image.shape == (1, 3, *example_size(rows))
    assert view.depth.shape == (1, *example_size(rows))
    assert view.depth.isfinite().all()
    assert 1.0 < view.depth.min() < view.depth.max() < 4.0
    assert box.fov == pytest.approx(examples.ROOM_FOV, abs=0.01)


def test_its_floor_lies_at_the_stated_height_below_the_camera():
    view, box = room_photo()
    points = unproject(view.cameras, view.depth)[0]
    floor = box.faces(240, 320) == 0
    assert floor.float().mean() > 0.1
    assert points[floor][:, 1].allclose(torch.tensor(examples.ROOM_EYE_HEIGHT), atol=1e-4)
    assert (points[..., 1] <= examples.ROOM_EYE_HEIGHT + 1e-4).all()


def test_it_has_colour_and_is_no_finer_than_its_panorama():
    view, _ = room_photo()
    assert (view.image.amax(1) - view.image.amin(1)).mean() > 0.1
    per_radian = view.image.shape[3] * float(view.cameras.K[0, 0, 0])
    assert per_radian < 1024 / (2 * math.pi)


def test_the_box_stands_as_the_camera_was_turned_and_where_the_panorama_shows_its_walls():
    view, box = room_photo()
    drop = math.degrees(math.asin(float(view.cameras.forward[0, 1])))
    assert drop == pytest.approx(examples.ROOM_DROP, abs=1.0)
    # The floor meets the wall with the window 34.1 degrees below the horizon.
    assert math.degrees(math.atan(box.floor / box.back)) == pytest.approx(34.1, abs=1.0)
    assert box.ceiling + box.floor == pytest.approx(3.18)


def test_it_is_an_example_that_says_that_its_depth_is_a_guess():
    beginning = EXAMPLES[NAME](24, 0)
    assert beginning.given.image.shape == (1, 3, 24, 32)
    assert "depth is a rough guess" in beginning.about
