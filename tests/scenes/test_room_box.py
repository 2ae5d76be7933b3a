"""The room of a photo as a box: depth that is exact, and the photo as a view."""

import pytest
import torch
from core_helpers import Box

from vmemkit.core import intrinsics, resize, unproject
from vmemkit.scenes import EYE_HEIGHT, PhotoRoom, default_room

LEFT, RIGHT, CEILING, FLOOR, BACK = 1.5, 2.5, 1.1, 1.4, 3.0
WALLS = {"floor": FLOOR, "ceiling": CEILING, "left": LEFT, "right": RIGHT, "back": BACK}


def room_of(camera, **walls):
    return PhotoRoom(camera.K[0], camera.rotation[0], **{**WALLS, **walls})


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (30.0, -20.0), (-40.0, 25.0)])
def test_the_depth_is_that_of_the_box(yaw, pitch):
    """The box of the tests' own renderer, which is closed behind the camera, too."""
    half, at = (2.0, 1.25, 2.5), (-0.5, -0.15, -0.5)
    camera = Box(half).look(yaw, at=at, pitch=pitch)
    expected = Box(half).depth(camera, 30, 40)
    torch.testing.assert_close(room_of(camera).depth(30, 40)[None], expected)


def test_every_pixel_lies_on_the_face_that_it_shows(box):
    camera = box.look(25.0, pitch=-20.0)
    room = room_of(camera)
    points = unproject(room.camera, room.depth(24, 32))
    faces = room.faces(24, 32)
    for face, axis, place in ((0, 1, FLOOR), (2, 0, -LEFT), (3, 0, RIGHT), (4, 2, BACK)):
        shown = points[faces == face][:, axis]
        torch.testing.assert_close(shown, torch.full_like(shown, place))
    assert {0, 3, 4} <= set(faces.unique().tolist())


def test_another_eye_height_scales_all(box):
    room = room_of(box.look(20.0, pitch=-10.0))
    twice = room.scaled(2 * FLOOR)
    torch.testing.assert_close(twice.depth(12, 16), 2 * room.depth(12, 16))
    assert twice.floor == 2 * FLOOR


def test_the_photo_becomes_a_level_view_cut_to_format(box):
    """A square photo at 4 : 3: the view is the middle of the photo, and so is its depth."""
    camera = box.look(20.0, pitch=-15.0)
    room = room_of(camera)
    image = box.render(camera, 120, 160).image[0]
    view = room.view(image, (30, 40))
    assert view.image.shape == (1, 3, 30, 40)
    torch.testing.assert_close(view.cameras.rotation, camera.rotation)
    torch.testing.assert_close(view.depth[0], room.depth(30, 40))
    square = room.view(image, (120, 120))
    torch.testing.assert_close(square.depth[0], room.depth(120, 160)[:, 20:140])
    assert square.cameras.K[0, 0, 0] > view.cameras.K[0, 0, 0]
    torch.testing.assert_close(resize(view, 30, 40).depth, view.depth)


def test_what_was_assumed_is_said(box):
    words = room_of(box.look(0.0, fov=65.0)).about
    for part in ("rough", "4.0 m wide", "2.5 m high", "3.0 m away", "1.4 m above", "65 degrees"):
        assert part in words
    assert "back wall 3.0 m away" in repr(room_of(box.look(0.0)))


def test_the_default_room_is_level():
    room = default_room(4 / 3, 65.0)
    assert room.floor == EYE_HEIGHT
    assert room.fov == pytest.approx(65.0, abs=1e-3)
    torch.testing.assert_close(room.K, intrinsics(65.0, 4 / 3))
    assert torch.equal(room.rotation, torch.eye(3))


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("distance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_box_without_inside_is_refused(box, wall, distance):
    with pytest.raises(ValueError, match=r"eye height is|must be positive"):
        room_of(box.look(0.0), **{wall: distance})


def test_an_eye_below_the_floor_is_refused(box):
    with pytest.raises(ValueError, match=r"eye height is 0.05 to 50 metres, got -1"):
        room_of(box.look(0.0)).scaled(-1.0)
