"""The axes of a room from the lines of one image: exact on drawn lines, honest without any."""

import numpy as np
import pytest
import torch

from vmemkit.core import cameras, data_file, intrinsics, pose, project
from vmemkit.scenes import find_axes, panorama, rooms, stereo_view, upright_cameras
from vmemkit.scenes.vanishing_points import rotations

K = intrinsics(65.0, 4 / 3)
SIZE = (360, 480)


def drawn(room_from_cam, count=14, seed=0):
    """An image of edges along the three axes of a room, at random places in front of the camera."""
    import cv2

    rng, image = np.random.default_rng(seed), np.full(SIZE, 90, np.uint8)
    camera = cameras(pose(torch.from_numpy(room_from_cam).float(), torch.zeros(3)), K)
    ahead = torch.from_numpy(room_from_cam).float()
    for axis in range(3):
        direction = torch.eye(3)[axis]
        for _ in range(count):
            near = torch.from_numpy(rng.uniform([-1.5, -1, 2.5], [1.5, 1, 4.0])).float()
            middle = near @ ahead.T  # from camera to room axes
            uv, depth = project(camera, torch.stack([middle - direction, middle + direction]))
            if (depth > 0.3).all():
                a, b = (uv * torch.tensor([SIZE[1], SIZE[0]])).round().int().clamp(-2000, 2000)
                cv2.line(image, a.tolist(), b.tolist(), int(rng.integers(150, 255)), 3, cv2.LINE_AA)
    return torch.from_numpy(image).float().expand(3, *SIZE) / 255


def angle_between(a, b):
    """Degrees of the rotation from one to the other."""
    return np.rad2deg(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (20, 10, 0), (35, -30, 4), (-15, 38, -5), (5, -2, 7)]
)
def test_the_rotation_of_drawn_edges_is_found(angles):
    truth = rotations(np.array([angles], float))[0]
    found = find_axes(drawn(truth), K)
    assert angle_between(found.room_from_cam, truth) < 0.8  # degrees
    assert found.found.all()
    assert found.share > 0.7


def test_a_rotation_is_pitch_down_yaw_right_and_roll():
    pitch, yaw, roll = rotations(np.array([[30.0, 0, 0], [0, 30.0, 0], [0, 0, 30.0]]))
    ahead, across = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    np.testing.assert_allclose(pitch @ ahead, [0, 0.5, np.sqrt(0.75)], atol=1e-12)
    np.testing.assert_allclose(yaw @ ahead, [0.5, 0, np.sqrt(0.75)], atol=1e-12)
    np.testing.assert_allclose(roll @ across, [np.sqrt(0.75), 0.5, 0], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_heading_in_a_made_up_room_is_found_to_half_a_degree(seed):
    heading, slope = 20.0 + 70 * seed, 4.0 * seed
    place = rooms(seed).centres[:1]
    camera = upright_cameras(
        place, torch.tensor([heading]), intrinsics(75.0, 4 / 3), torch.tensor([slope])
    )
    found = find_axes(rooms(seed).render(camera, 240, 320).image[0], camera.K[0])
    # the room has four such axes, a quarter of a turn apart
    quarters = [rotations(np.array([[0, 90.0 * i, 0]]))[0] for i in range(4)]
    truth = camera.rotation[0].double().numpy()
    assert min(angle_between(found.room_from_cam, q @ truth) for q in quarters) < 0.5


@pytest.mark.parametrize("heading", [0.0, 60.0])
def test_photographs_of_a_hall_are_found_to_be_level(heading):
    camera = upright_cameras(torch.zeros(1, 3), torch.tensor([heading]), K)
    hall = panorama(data_file("st_fagans_interior_1k.jpg"))
    found = find_axes(hall.render(camera, *SIZE).image[0], K)
    down = np.rad2deg(np.arccos(found.room_from_cam[1, 1]))
    assert down < 1.5  # degrees between the camera's down and the room's


def test_the_stereo_camera_looked_down_as_its_upright_edges_say():
    view = stereo_view()
    found = find_axes(view.image[0], view.cameras.K[0])
    pitch = np.rad2deg(np.arcsin(found.room_from_cam[1, 2]))
    assert pitch == pytest.approx(17.0, abs=1.5)


def test_the_result_is_the_same_each_time():
    image = stereo_view("cycles").image[0]
    first, second = (find_axes(image, K) for _ in range(2))
    assert np.array_equal(first.room_from_cam, second.room_from_cam)


def clouds(power, seed=0):
    """Random smooth shapes without straight edges, such as clouds and hills have."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIZE[0])[:, None], np.fft.rfftfreq(SIZE[1]))
    frequency[0, 0] = 1
    noise = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    shapes = np.fft.irfft2(noise / frequency**power, s=SIZE)
    shapes = (shapes - shapes.min()) / (shapes.max() - shapes.min())
    return torch.from_numpy(shapes).float().expand(3, *SIZE)


def strokes(seed=0):
    """Lines in all directions."""
    import cv2

    rng, image = np.random.default_rng(seed), np.full(SIZE, 128, np.uint8)
    for _ in range(60):
        a, turn, length = (
            rng.uniform([0, 0], SIZE[::-1]),
            rng.uniform(0, np.pi),
            rng.uniform(20, 150),
        )
        b = a + length * np.array([np.cos(turn), np.sin(turn)])
        shade = int(rng.integers(0, 255))
        cv2.line(image, a.astype(int).tolist(), b.astype(int).tolist(), shade, 3, cv2.LINE_AA)
    return torch.from_numpy(image).float().expand(3, *SIZE) / 255


NO_ROOM = {
    "grey": (torch.full((3, *SIZE), 0.5), "shows no room by its lines (0 lines"),
    "noise": (torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)), "no room"),
    "clouds": (clouds(1.6), "no room"),
    "hills": (clouds(1.0), "no room"),
    "strokes": (strokes(), "of which"),
    "one row": (torch.rand(3, 1, 400), "needs 32 pixels or more each way, got 400 x 1"),
    "tiny": (torch.rand(3, 8, 8), "32 pixels"),
    "unknown": (torch.full((3, *SIZE), torch.nan), "finite"),
}


@pytest.mark.parametrize("case", NO_ROOM)
def test_without_a_room_it_is_said_what_was_found(case):
    image, words = NO_ROOM[case]
    with pytest.raises(ValueError, match="photo") as error:
        find_axes(image, K)
    assert words in str(error.value)
    if "room" in words:
        assert "depth from a file or a network" in str(error.value)
        assert "RoomBox" in str(error.value)
