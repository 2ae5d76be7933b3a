"""RoomBox: the room of a photo as one draws it, without a browser."""

import math

import pytest
import torch
from PIL import ExifTags, Image
from widget_helpers import picture

import vmemkit as vm
from vmemkit.core import data_file, horizontal_fov, save_image
from vmemkit.scenes import PHOTO_FOV, VANISHING_POINT, handle_places, stereo_view
from vmemkit.widgets import Explorer, RoomBox

pytest.importorskip("anywidget", reason="widgets need the extra `notebook`")

PHOTO = stereo_view("cycles").image[0]
GREY = torch.full((3, 60, 80), 0.5)


@pytest.fixture
def box():
    return RoomBox(PHOTO, fov=54.0)


def drag(box, handle, u, v):
    """As the browser reports it."""
    box.sketch.moved = [handle, u, v, box.sketch.moved[3] + 1]


def test_it_starts_from_what_the_lines_show(box):
    assert "what the photo's lines show" in box.message.text
    assert box.value.camera.forward[1] > 0.2  # the camera looked down
    assert box.sketch.handles[0]["name"] == VANISHING_POINT
    assert len(box.sketch.lines) == 8
    assert box.depth.shape == PHOTO.shape[1:]


def test_without_a_room_it_starts_from_a_usual_one():
    box = RoomBox(GREY, eye_height=1.2)
    assert "show no room, so this is a usual one" in box.message.text
    assert box.value.floor == 1.2
    assert torch.equal(box.value.rotation, torch.eye(3))


def test_a_photo_may_be_a_file(tmp_path):
    save_image(tmp_path / "photo.png", GREY)
    assert RoomBox(tmp_path / "photo.png").photo.shape == GREY.shape


@pytest.mark.parametrize(("size", "half_side"), [((80, 60), 18.0), ((60, 80), 13.5)])
def test_the_lens_is_that_of_the_file_or_one_along_the_longer_side(tmp_path, size, half_side):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    Image.new("RGB", size, "grey").save(tmp_path / "photo.jpg", exif=exif)
    expected = 2 * math.degrees(math.atan(half_side / 26))
    assert RoomBox(tmp_path / "photo.jpg").value.fov == pytest.approx(expected, abs=0.01)
    Image.new("RGB", size, "grey").save(tmp_path / "photo.jpg")
    guess = horizontal_fov(PHOTO_FOV, size[0] / size[1])
    assert RoomBox(tmp_path / "photo.jpg").value.fov == pytest.approx(guess, abs=0.01)


def test_a_dragged_handle_changes_room_depth_and_picture(box):
    before, drawn, seen = box.value, box.screen.src, []
    box.observe(lambda change: seen.append(change["new"]), "value")
    drag(box, "bottom right", 0.9, 0.7)
    assert handle_places(box.value)["bottom right"] == pytest.approx((0.9, 0.7), abs=2e-3)
    assert seen == [box.value]
    assert box.value is not before
    assert box.screen.src != drawn
    assert picture(box.screen.src).shape[1] == 120
    [shown] = [h for h in box.sketch.handles if h["name"] == "bottom right"]
    assert (shown["u"], shown["v"]) == pytest.approx((0.9, 0.7), abs=2e-3)
    assert box.numbers["right"].value == pytest.approx(box.value.right, abs=0.01)


def test_the_vanishing_point_turns_the_camera(box):
    drag(box, VANISHING_POINT, 0.5, 0.5)
    forward = box.value.camera.forward
    # the point of the image's middle is not the camera's axis: the photo was cut off its middle
    assert handle_places(box.value)[VANISHING_POINT] == pytest.approx((0.5, 0.5), abs=2e-3)
    torch.testing.assert_close(forward, torch.tensor([0.0, 0.0, 1.0]), atol=1e-4, rtol=0)
    assert box.numbers["across"].value == pytest.approx(50, abs=0.1)


NUMBERS = {
    "left": lambda room: room.left,
    "right": lambda room: room.right,
    "ceiling": lambda room: room.ceiling,
    "back": lambda room: room.back,
    "eye_height": lambda room: room.floor,
    "fov": lambda room: room.fov,
    "across": lambda room: 100 * handle_places(room)[VANISHING_POINT][0],
    "down": lambda room: 100 * handle_places(room)[VANISHING_POINT][1],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_can_be_typed(box, name):
    wanted = 1.1 * box.numbers[name].value + 0.05
    box.numbers[name].value = wanted
    assert NUMBERS[name](box.value) == pytest.approx(wanted, rel=2e-2, abs=0.05)
    assert box.depth.isfinite().all()


def test_the_eye_height_scales_the_depth(box):
    before = box.depth
    box.numbers["eye_height"].value = 3.0
    torch.testing.assert_close(box.depth, 2 * before)
    box.numbers["roll"].value = 4.0
    assert box.value.floor == pytest.approx(3.0)


def test_the_impossible_is_a_message_and_nothing_changes(box):
    before = box.value
    drag(box, "bottom right", float("nan"), 0.5)
    assert "finite" in box.message.text
    assert box.value is before
    box.again.click()
    assert box.value is before


def test_the_first_room_can_be_had_again(box):
    first = box.value
    drag(box, "top left", 0.1, 0.1)
    box.again.click()
    assert box.value is first


def test_a_walk_starts_from_the_view(box):
    view = box.view(24)
    assert view.image.shape == (1, 3, 24, 32)
    memory = vm.begin(view)
    path = vm.scenes.moves(view.cameras[0], "forward 0.25")
    [step] = vm.walk(memory, path)
    assert len(step.memory) == 2


def test_the_button_starts_what_was_asked_for_and_can_be_observed():
    boxes, counts = [], []
    box = RoomBox(GREY, start=boxes.append)
    box.observe(lambda change: counts.append(change["new"]), "started")
    box.button.click()
    box.button.click()
    assert boxes == [box, box]
    assert counts == [1, 2]


def test_the_explorer_can_start_in_a_drawn_room():
    box = RoomBox(data_file("cycles_left.png"))
    explorer = Explorer("mine", height=24, examples={"mine": box.beginning}, session=None)
    assert "as you drew it" in explorer.message.text
    assert explorer.value.memory.views.image.shape == (1, 3, 24, 32)
    assert repr(box).startswith("RoomBox(PhotoRoom(")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"photo": torch.full((3, 8, 8), 0.5)}, "32 pixels"),
        ({"photo": torch.full((3, 60, 80), torch.nan)}, "finite"),
        ({"photo": GREY, "fov": 0.0}, "field of view"),
        ({"photo": GREY, "eye_height": 0.0}, "eye height"),
        ({"photo": "nowhere.png"}, "cannot read"),
    ],
)
def test_what_is_no_photo_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        RoomBox(**settings)
