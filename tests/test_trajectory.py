"""Trajectories: walking in words, orbits, there and back, keyframes. Their laws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit import camera, trajectory

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def start(yaw=0.0, pitch=0.0, position=(0.0, 0.0, 0.0)):
    """A camera without roll, turned right by yaw and up by pitch (radians)."""
    forward = (
        math.cos(pitch) * math.sin(yaw),
        -math.sin(pitch),
        math.cos(pitch) * math.cos(yaw),
    )
    at = torch.tensor(position)
    return camera.cameras(camera.look_at(at, at + torch.tensor(forward)))


def random_poses(t, seed, spread=5.0):
    rng = torch.Generator().manual_seed(seed)
    Q, R = torch.linalg.qr(torch.randn(t, 3, 3, generator=rng))
    Q = Q * torch.sign(torch.diagonal(R, dim1=-2, dim2=-1))[:, None]
    Q = Q * torch.linalg.det(Q)[:, None, None]
    return camera.pose(Q, spread * torch.randn(t, 3, generator=rng))


yaws = st.floats(-3.1, 3.1)
pitches = st.floats(-1.4, 1.4)
several = settings(deadline=None, max_examples=25)


# --- moves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("forward 1", (0, 0, 1)),
        ("back 1", (0, 0, -1)),
        ("backward 1", (0, 0, -1)),
        ("strafe left 1", (-1, 0, 0)),
        ("strafe right 1", (1, 0, 0)),
        ("up 1", (0, -1, 0)),
        ("down 1", (0, 1, 0)),
        ("right 90, forward 1", (1, 0, 0)),
        ("left 90\nforward 1", (-1, 0, 0)),
        ("look down 60; forward 1".replace(";", ","), (0, 0, 1)),
        ("Look  Up 90,\n\n forward 1.", (0, 0, 1)),
        ("right 90, look down 90, forward .5, strafe right .25", (0.5, 0, -0.25)),
    ],
)
def test_moves_go_where_they_say(text, position):
    last = trajectory.moves(start(), text)[-1]
    torch.testing.assert_close(last.position, torch.tensor(position, dtype=torch.float32), **CLOSE)


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("right 90", (1, 0, 0)),
        ("left 90", (-1, 0, 0)),
        ("look up 90", (0, -1, 0)),
        ("look down 90", (0, 1, 0)),
        ("look up 90, look down 180", (0, 1, 0)),
    ],
)
def test_turns_look_where_they_say(text, forward):
    last = trajectory.moves(start(), text)[-1]
    torch.testing.assert_close(last.forward, torch.tensor(forward, dtype=torch.float32), **CLOSE)


@several
@given(yaws, pitches, st.sampled_from(["forward 1, back 1", "right 90, right 90, right 90, right 90",
       "strafe left 2, strafe right 2", "up .3, down .3", "left 33, right 33", "left 3600",
       "look up 5, look down 5"]))  # fmt: skip
def test_moves_that_cancel_return_to_the_start(yaw, pitch, text):
    first = start(yaw, pitch, (1.0, 2.0, 3.0))
    last = trajectory.moves(first, text)[-1]
    torch.testing.assert_close(last.world_from_cam, first.world_from_cam, **CLOSE)


@several
@given(yaws, pitches)
def test_walking_and_turning_keep_height_and_elevation(yaw, pitch):
    first = start(yaw, pitch)
    path = trajectory.moves(first, "forward 2, right 70, strafe left 1, left 200, back 0.7")
    torch.testing.assert_close(path.position[:, 1], torch.zeros(len(path)), **CLOSE)
    torch.testing.assert_close(path.forward[:, 1], first.forward[1].expand(len(path)), **CLOSE)


@several
@given(st.floats(0.01, 20), st.floats(0.01, 3))
def test_a_move_is_cut_into_the_fewest_equal_steps(metres, step):
    path = trajectory.moves(start(), f"forward {metres:.4f}", step=step)
    metres = float(f"{metres:.4f}")
    z = torch.cat([torch.zeros(1), path.position[:, 2]])
    torch.testing.assert_close(z.diff(), torch.full((len(path),), metres / len(path)), **CLOSE)
    assert metres / len(path) <= step * (1 + 1e-6)
    assert len(path) == 1 or metres / (len(path) - 1) > step * (1 - 1e-6)


def test_ten_steps_of_a_tenth_are_ten():
    assert len(trajectory.moves(start(), "forward 1", step=0.1)) == 10


def test_a_world_with_z_up_is_walked_on_its_floor():
    up = (0, 0, 1)
    pose = camera.look_at(torch.zeros(3), torch.tensor([0.0, 2.0, -1.0]), up)
    path = trajectory.moves(camera.cameras(pose), "forward 1, right 90, forward 1, up 2", up=up)
    torch.testing.assert_close(path[-1].position, torch.tensor([1.0, 1.0, 2.0]), **CLOSE)


def test_moves_keep_the_lens_of_the_start():
    first = camera.cameras(torch.eye(4), camera.intrinsics(50.0, 1.7))
    path = trajectory.moves(first, "forward 1")
    torch.testing.assert_close(path.K, first.K.expand(len(path), 3, 3))
    camera.check(path)


@pytest.mark.parametrize(
    "text",
    [
        *("", " , \n", "fly 3", "forward", "3", "forward nan", "forward inf", "forward 1e9"),
        *("forward -1", "forward 0", "forward 1001", "right 3601", "roll 10", "forward 1 m"),
        *("forward 1 right 90", "right 90 forward", "look 3", "left right 3", "forward 1_0"),
        *("forward ٣", "forward 9999999999999", "look sideways 3", "forward 1; back 1"),
    ],
)
def test_what_is_no_move_is_refused_with_the_way_to_say_it(text):
    with pytest.raises(ValueError, match="forward 1"):
        trajectory.moves(start(), text)


@pytest.mark.parametrize("text", ["look up 91", "look down 50, look down 41", "look up 3600"])
def test_looking_beyond_straight_up_or_down_is_refused(text):
    with pytest.raises(ValueError, match=r"straight .* degrees away"):
        trajectory.moves(start(), text)


@pytest.mark.parametrize("step", [0.0, -1.0, 1e-9, float("nan"), float("inf")])
def test_steps_that_are_none_are_refused(step):
    with pytest.raises(ValueError, match="step and turn"):
        trajectory.moves(start(), "forward 1", step=step)
    with pytest.raises(ValueError, match="step and turn"):
        trajectory.moves(start(), "right 1", turn=step)


def test_a_path_that_never_ends_is_refused():
    with pytest.raises(ValueError, match="larger steps"):
        trajectory.moves(start(), "forward 1000", step=0.001)


def test_a_start_must_be_one_camera():
    with pytest.raises(ValueError, match="take one"):
        trajectory.moves(trajectory.moves(start(), "forward 1"), "forward 1")


@pytest.mark.parametrize("up", [(0, 0, 0), (0, 1), (float("nan"), 0, 1)])
def test_up_must_be_a_direction(up):
    with pytest.raises(ValueError, match="up must be"):
        trajectory.moves(start(), "forward 1", up=up)


# --- orbits ---------------------------------------------------------------------------------------


@several
@given(yaws, pitches, st.floats(0.1, 50), st.floats(-360, 360), st.integers(1, 12))
def test_an_orbit_keeps_its_distance_and_looks_at_its_centre(yaw, pitch, distance, degrees, n):
    first = start(yaw, pitch, (1.0, -2.0, 0.5))
    centre = first.position + distance * first.forward
    path = trajectory.orbit(first, distance, degrees, n)
    assert len(path) == n
    gone = centre - path.position
    torch.testing.assert_close(gone.norm(dim=1), torch.full((n,), distance), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(gone / distance, path.forward, atol=1e-4, rtol=0)
    torch.testing.assert_close(path.position[:, 1], first.position[1].expand(n), atol=1e-5, rtol=0)


def test_a_full_orbit_returns_and_a_positive_one_goes_right():
    path = trajectory.orbit(start(), 2.0, 360.0, 36)
    torch.testing.assert_close(path[-1].world_from_cam, torch.eye(4), **CLOSE)
    assert path[0].position[0] > 0


@pytest.mark.parametrize(
    ("distance", "degrees", "n"),
    [(0.0, 9.0, 3), (-1.0, 9.0, 3), (math.nan, 9.0, 3), (1.0, math.nan, 3), (1.0, 1e9, 3), (1.0, 9.0, 0)],
)  # fmt: skip
def test_an_orbit_that_is_none_is_refused(distance, degrees, n):
    with pytest.raises(ValueError, match="orbit needs"):
        trajectory.orbit(start(), distance, degrees, n)


# --- there and back -------------------------------------------------------------------------------


def test_there_and_back_returns_to_its_first_camera_and_turns_once():
    path = camera.cameras(random_poses(4, 0))
    both = trajectory.there_and_back(path)
    assert len(both) == 7
    torch.testing.assert_close(both.world_from_cam, both.world_from_cam.flip(0))
    torch.testing.assert_close(both[:4].world_from_cam, path.world_from_cam)


def test_one_camera_there_and_back_is_one_camera():
    path = camera.cameras(random_poses(1, 0))
    assert len(trajectory.there_and_back(path)) == 1


def test_no_cameras_there_and_back_are_refused():
    with pytest.raises(ValueError, match="need a path"):
        trajectory.there_and_back(camera.cameras(torch.zeros(0, 4, 4)))


# --- keyframes ------------------------------------------------------------------------------------


@several
@given(st.integers(2, 5), st.integers(2, 30), st.integers(0, 100))
def test_keyframes_begin_and_end_exactly_and_stay_rigid(t, n, seed):
    given_cameras = camera.cameras(random_poses(t, seed))
    path = trajectory.keyframes(given_cameras, n)
    assert len(path) == n
    assert torch.equal(path[0].world_from_cam, given_cameras[0].world_from_cam)
    assert torch.equal(path[-1].world_from_cam, given_cameras[-1].world_from_cam)
    camera.check(path)


@several
@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 100))
def test_keyframes_that_are_equally_far_apart_are_all_met(t, steps, seed):
    keys = trajectory.orbit(start(0.3, 0.2), 2.0, 20.0 * t, t)
    path = trajectory.keyframes(keys, steps * (t - 1) + 1)
    torch.testing.assert_close(path[::steps].world_from_cam, keys.world_from_cam, **CLOSE)


@several
@given(st.integers(2, 40), st.integers(0, 100))
def test_two_keyframes_are_joined_in_equal_steps(n, seed):
    path = trajectory.keyframes(camera.cameras(random_poses(2, seed)), n).world_from_cam
    steps = camera.pose_distance(path[:-1], path[1:])
    torch.testing.assert_close(steps, steps.mean().expand(n - 1), atol=1e-4, rtol=1e-4)


def test_a_keyframe_is_passed_within_a_step():
    keys = camera.cameras(random_poses(4, 7))
    path = trajectory.keyframes(keys, 400).world_from_cam
    steps = camera.pose_distance(path[:-1], path[1:])
    nearest = camera.pose_distance(path[:, None], keys.world_from_cam[None]).amin(0)
    assert (nearest <= steps.amax()).all()


def test_repeated_keyframes_change_nothing_but_the_lens():
    keys = camera.cameras(random_poses(3, 1))
    repeated = keys[[0, 0, 1, 1, 1, 2, 2]]
    torch.testing.assert_close(
        trajectory.keyframes(repeated, 9).world_from_cam,
        trajectory.keyframes(keys, 9).world_from_cam,
    )


def test_keyframes_at_one_pose_are_a_zoom():
    K = torch.stack([camera.intrinsics(fov) for fov in (90.0, 60.0, 30.0)])
    path = trajectory.keyframes(camera.cameras(torch.eye(4).expand(3, 4, 4), K), 5)
    torch.testing.assert_close(path.K[::2], K)
    assert (path.K[:, 0, 0].diff() > 0).all()


@pytest.mark.parametrize(("t", "n"), [(1, 5), (0, 5), (2, 1), (2, 0), (2, -3)])
def test_too_few_keyframes_or_cameras_are_refused(t, n):
    with pytest.raises(ValueError, match="need"):
        trajectory.keyframes(camera.cameras(random_poses(t, 0)), n)
