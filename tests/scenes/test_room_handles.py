"""The handles of a room: what is dragged is where it was put, and the rest follows."""

import pytest
import torch

from vmemkit.core import intrinsics
from vmemkit.scenes import (
    HANDLES,
    VANISHING_POINT,
    default_room,
    fit_room,
    handle_places,
    move_handle,
    roll_of,
    room_from_handles,
    seams,
    stereo_view,
    with_fov,
    with_roll,
)
from vmemkit.scenes.room_handles import CORNERS

K = intrinsics(65.0, 4 / 3)
LEVEL = default_room(4 / 3, 65.0)


@pytest.fixture(scope="module")
def tilted():
    view = stereo_view("cycles")
    return fit_room(view.image[0], view.cameras.K[0], 1.1)


def same(a, b, tolerance=1e-4):
    torch.testing.assert_close(a.rotation, b.rotation, atol=tolerance, rtol=0)
    for wall in ("floor", "ceiling", "left", "right", "back"):
        assert getattr(a, wall) == pytest.approx(getattr(b, wall), rel=1e-3)


def test_a_level_camera_sees_the_vanishing_point_in_the_middle():
    assert handle_places(LEVEL)[VANISHING_POINT] == pytest.approx((0.5, 0.5))
    u, v = handle_places(LEVEL)["top left"]
    assert u == pytest.approx(0.5 - float(K[0, 0]) * LEVEL.left / LEVEL.back, abs=1e-5)
    assert v == pytest.approx(0.5 - float(K[1, 1]) * LEVEL.ceiling / LEVEL.back, abs=1e-5)


def test_a_room_is_that_of_its_handles(tilted):
    for room in (LEVEL, tilted):
        places = handle_places(room)
        corners = places["top left"], places["bottom right"]
        again = room_from_handles(
            room.K, places[VANISHING_POINT], *corners, roll_of(room), room.floor
        )
        same(room, again)


@pytest.mark.parametrize("handle", HANDLES)
def test_a_handle_is_where_it_was_put(tilted, handle):
    for room in (LEVEL, tilted):
        u, v = handle_places(room)[handle]
        place = (u + 0.03, v - 0.02)
        moved = move_handle(room, handle, place)
        assert handle_places(moved)[handle] == pytest.approx(place, abs=2e-3)
        assert moved.floor == pytest.approx(room.floor)
        if handle == VANISHING_POINT:  # the camera turns in the room, and two corners stay
            for corner in ("top left", "bottom right"):
                expected = handle_places(room)[corner]
                assert handle_places(moved)[corner] == pytest.approx(expected, abs=2e-3)
        else:  # the room changes, and the camera stays
            torch.testing.assert_close(moved.rotation, room.rotation)
            opposite = list(CORNERS)[(list(CORNERS).index(handle) + 2) % 4]
            expected = handle_places(room)[opposite]
            assert handle_places(moved)[opposite] == pytest.approx(expected, abs=2e-3)


def test_a_higher_vanishing_point_is_a_camera_that_looks_down():
    moved = move_handle(LEVEL, VANISHING_POINT, (0.5, 0.2))
    assert moved.camera.forward[1] > 0.2
    assert abs(float(moved.camera.forward[0])) < 1e-6
    aside = move_handle(LEVEL, VANISHING_POINT, (0.2, 0.5))  # the wall is to the left
    assert aside.camera.forward[0] > 0.2
    assert roll_of(aside) == pytest.approx(0, abs=1e-4)


def test_roll_and_field_of_view_can_be_set(tilted):
    rolled = with_roll(tilted, 5.0)
    assert roll_of(rolled) == pytest.approx(5.0, abs=1e-3)
    point = handle_places(tilted)[VANISHING_POINT]
    assert handle_places(rolled)[VANISHING_POINT] == pytest.approx(point, abs=1e-3)
    wide = with_fov(LEVEL, 90.0)
    assert wide.fov == pytest.approx(90.0, abs=1e-3)
    assert wide.back < LEVEL.back  # the floor seam is seen as steeper, so the wall is nearer


@pytest.mark.parametrize("place", [(0.9, 0.9), (5.0, 5.0), (-9.0, 0.5)])
@pytest.mark.parametrize("handle", HANDLES)
def test_a_handle_may_be_put_anywhere(handle, place):
    room = move_handle(LEVEL, handle, place)
    assert room.depth(12, 16).isfinite().all()
    assert (room.depth(12, 16) > 0).all()


def test_seams_join_the_corners_and_meet_in_the_vanishing_point():
    lines, places = seams(LEVEL), handle_places(LEVEL)
    assert lines.shape == (8, 2, 2)
    for i, corner in enumerate(CORNERS):
        torch.testing.assert_close(lines[i, 0], torch.tensor(places[corner]))
    towards = lines[4:, 1] - lines[4:, 0]
    point = torch.tensor(places[VANISHING_POINT]) - lines[4:, 0]
    cross = towards[:, 0] * point[:, 1] - towards[:, 1] * point[:, 0]
    assert cross.abs().max() < 1e-3
    assert seams(move_handle(LEVEL, VANISHING_POINT, (3.0, 0.5))).isfinite().all()


def test_seams_lie_where_the_faces_change(tilted):
    faces = tilted.faces(240, 320)
    for line in seams(tilted):
        middle = line.mean(0)
        if (middle > 0.05).all() and (middle < 0.95).all():
            column, row = (middle * torch.tensor([320, 240])).int().tolist()
            assert len(faces[row - 3 : row + 4, column - 3 : column + 4].unique()) >= 2


@pytest.mark.parametrize(
    ("handle", "place", "words"),
    [
        ("nose", (0.5, 0.5), "a handle is vanishing point, top left"),
        ("top left", (float("nan"), 0.5), "finite"),
        (VANISHING_POINT, (float("inf"), 0.5), "finite"),
    ],
)
def test_what_is_no_handle_or_place_is_refused(handle, place, words):
    with pytest.raises(ValueError, match=words):
        move_handle(LEVEL, handle, place)
