"""Trajectories: moves in words, orbits, presets, keyframes and keys. Their laws."""

import math

import numpy as np
import pytest
import torch
from golden_helpers import part
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit import core, scenes
from vmemkit.core import UP, Cameras, check_cameras, intrinsics, look_at, pose_distance, project
from vmemkit.scenes import (
    keyframes,
    moves,
    navigate,
    preset_path,
    there_and_back,
    trajectory,
    upright_cameras,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def start(yaw=0.0, pitch=0.0, position=(0.0, 0.0, 0.0)):
    """A camera without roll, turned right by yaw and up by pitch (radians)."""
    heading, slope = torch.tensor([math.degrees(yaw)]), torch.tensor([-math.degrees(pitch)])
    return upright_cameras(torch.tensor([position]), heading, intrinsics(70.0), slope)[0]


def random_poses(t, seed, spread=5.0):
    rng = torch.Generator().manual_seed(seed)
    Q, R = torch.linalg.qr(torch.randn(t, 3, 3, generator=rng))
    Q = Q * torch.sign(torch.diagonal(R, dim1=-2, dim2=-1))[:, None]
    Q = Q * torch.linalg.det(Q)[:, None, None]
    return core.pose(Q, spread * torch.randn(t, 3, generator=rng))


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
    last = moves(start(), text)[-1]
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
    last = moves(start(), text)[-1]
    torch.testing.assert_close(last.forward, torch.tensor(forward, dtype=torch.float32), **CLOSE)


@several
@given(yaws, pitches, st.sampled_from(["forward 1, back 1", "right 90, right 90, right 90, right 90",
       "strafe left 2, strafe right 2", "up .3, down .3", "left 33, right 33", "left 3600",
       "look up 5, look down 5"]))  # fmt: skip
def test_moves_that_cancel_return_to_the_start(yaw, pitch, text):
    first = start(yaw, pitch, (1.0, 2.0, 3.0))
    last = moves(first, text)[-1]
    torch.testing.assert_close(last.world_from_cam, first.world_from_cam, **CLOSE)


@several
@given(yaws, pitches)
def test_walking_and_turning_keep_height_and_elevation(yaw, pitch):
    first = start(yaw, pitch)
    path = moves(first, "forward 2, right 70, strafe left 1, left 200, back 0.7")
    torch.testing.assert_close(path.position[:, 1], torch.zeros(len(path)), **CLOSE)
    torch.testing.assert_close(path.forward[:, 1], first.forward[1].expand(len(path)), **CLOSE)


@several
@given(st.floats(0.01, 20), st.floats(0.01, 3))
def test_a_move_is_cut_into_the_fewest_equal_steps(metres, step):
    path = moves(start(), f"forward {metres:.4f}", step=step)
    metres = float(f"{metres:.4f}")
    z = torch.cat([torch.zeros(1), path.position[:, 2]])
    torch.testing.assert_close(z.diff(), torch.full((len(path),), metres / len(path)), **CLOSE)
    assert metres / len(path) <= step * (1 + 1e-6)
    assert len(path) == 1 or metres / (len(path) - 1) > step * (1 - 1e-6)


def test_ten_steps_of_a_tenth_are_ten():
    assert len(moves(start(), "forward 1", step=0.1)) == 10


def test_a_world_with_z_up_is_walked_on_its_floor():
    up = (0, 0, 1)
    pose = look_at(torch.zeros(3), torch.tensor([0.0, 2.0, -1.0]), up)
    path = moves(core.cameras(pose), "forward 1, right 90, forward 1, up 2", up=up)
    torch.testing.assert_close(path[-1].position, torch.tensor([1.0, 1.0, 2.0]), **CLOSE)


def test_moves_keep_the_lens_of_the_start():
    first = core.cameras(torch.eye(4), intrinsics(50.0, 1.7))
    path = moves(first, "forward 1")
    torch.testing.assert_close(path.K, first.K.expand(len(path), 3, 3))
    check_cameras(path)


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
        moves(start(), text)


@pytest.mark.parametrize("text", ["look up 91", "look down 50, look down 41", "look up 3600"])
def test_looking_beyond_straight_up_or_down_is_refused(text):
    with pytest.raises(ValueError, match=r"straight .* degrees away"):
        moves(start(), text)


@pytest.mark.parametrize("step", [0.0, -1.0, 1e-9, float("nan"), float("inf")])
def test_steps_that_are_none_are_refused(step):
    with pytest.raises(ValueError, match="step and turn"):
        moves(start(), "forward 1", step=step)
    with pytest.raises(ValueError, match="step and turn"):
        moves(start(), "right 1", turn=step)


def test_a_path_that_never_ends_is_refused():
    with pytest.raises(ValueError, match="larger steps"):
        moves(start(), "forward 1000", step=0.001)


def test_a_start_must_be_one_camera():
    with pytest.raises(ValueError, match="take one"):
        moves(moves(start(), "forward 1"), "forward 1")


@pytest.mark.parametrize("up", [(0, 0, 0), (0, 1), (float("nan"), 0, 1)])
def test_up_must_be_a_direction(up):
    with pytest.raises(ValueError, match="up must be"):
        moves(start(), "forward 1", up=up)


# --- orbits ---------------------------------------------------------------------------------------


@several
@given(yaws, pitches, st.floats(0.1, 50), st.floats(-360, 360), st.integers(1, 12))
def test_an_orbit_keeps_its_distance_and_looks_at_its_centre(yaw, pitch, distance, degrees, n):
    first = start(yaw, pitch, (1.0, -2.0, 0.5))
    centre = first.position + distance * first.forward
    path = scenes.orbit(first, distance, degrees, n)
    assert len(path) == n
    gone = centre - path.position
    torch.testing.assert_close(gone.norm(dim=1), torch.full((n,), distance), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(gone / distance, path.forward, atol=1e-4, rtol=0)
    torch.testing.assert_close(path.position[:, 1], first.position[1].expand(n), atol=1e-5, rtol=0)


def test_a_full_orbit_returns_and_a_positive_one_goes_right():
    path = scenes.orbit(start(), 2.0, 360.0, 36)
    torch.testing.assert_close(path[-1].world_from_cam, torch.eye(4), **CLOSE)
    assert path[0].position[0] > 0


@pytest.mark.parametrize(
    ("distance", "degrees", "n"),
    [(0.0, 9.0, 3), (-1.0, 9.0, 3), (math.nan, 9.0, 3), (1.0, math.nan, 3), (1.0, 1e9, 3), (1.0, 9.0, 0)],
)  # fmt: skip
def test_an_orbit_that_is_none_is_refused(distance, degrees, n):
    with pytest.raises(ValueError, match="orbit needs"):
        scenes.orbit(start(), distance, degrees, n)


# --- presets --------------------------------------------------------------------------------------

LOOPS = ["orbit", "spiral", "lemniscate", "roll"]
# What SEVA's released formulas give for a start at the origin that looks along z, with 12 cameras to
# the loop and the subject at 10 (the spiral's at 3.2873): camera, position, forward axis.
RELEASED = {
    "orbit": (2, (10.0, 0.0, 10.0), (-1.0, 0.0, 0.0)),
    "lemniscate": (1, (-4.0, -2.0, 0.0), (0.3651, 0.1826, 0.9129)),
    "spiral": (1, (-0.71493, 0.43301, 0.28526), (0.2294, -0.1390, 0.9634)),
}
presets = st.sampled_from(list(trajectory.PRESETS))


def lens_start(yaw=0.0, pitch=0.0, position=(0.0, 0.0, 0.0)):
    """A start that photographs 3 : 2, 60 degrees wide, with its axis off the image's centre."""
    K = intrinsics(60.0, 1.5)
    K[:2, 2] = torch.tensor([0.45, 0.6])
    return core.cameras(start(yaw, pitch, position).world_from_cam, K)


def fov(cameras):
    """Horizontal field of view, degrees, of an image with its axis in the centre."""
    return 2 * torch.rad2deg(torch.atan(0.5 / cameras.K[..., 0, 0].double()))


@several
@given(presets, st.integers(1, 9), yaws, pitches)
def test_a_preset_is_n_rigid_cameras_with_the_axis_and_the_pixels_of_the_start(name, n, yaw, pitch):
    first = lens_start(yaw, pitch, (1.0, -2.0, 0.5))
    path = check_cameras(preset_path(first, name, n, 3.0))
    assert len(path) == n
    assert path.world_from_cam.dtype == path.K.dtype == torch.float32
    torch.testing.assert_close(path.K[:, :2, 2], first.K[:2, 2].expand(n, 2))
    torch.testing.assert_close(path.K[:, 1, 1] / path.K[:, 0, 0], torch.full((n,), 1.5), **CLOSE)


@pytest.mark.parametrize("name", RELEASED)
def test_a_preset_is_where_the_released_formulas_put_it(name):
    at, position, forward = RELEASED[name]
    path = preset_path(start(), name, 12, 3.28734458 if name == "spiral" else 10.0)
    torch.testing.assert_close(path[at].position, torch.tensor(position), atol=2e-5, rtol=0)
    torch.testing.assert_close(path[at].forward, torch.tensor(forward), atol=1e-4, rtol=0)


@several
@given(st.sampled_from(LOOPS), st.integers(1, 40), yaws, pitches)
def test_a_loop_ends_at_the_start(name, n, yaw, pitch):
    first = lens_start(yaw, pitch, (1.0, -2.0, 0.5))
    last = preset_path(first, name, n, 2.0)[-1]
    torch.testing.assert_close(last.world_from_cam, first.world_from_cam, atol=2e-6, rtol=0)


@several
@given(st.sampled_from(["orbit", "spiral", "lemniscate"]), yaws, pitches, st.floats(0.1, 50))
def test_a_path_around_the_subject_keeps_it_where_it_was_in_the_image(name, yaw, pitch, distance):
    first = lens_start(yaw, pitch, (1.0, -2.0, 0.5))
    path = preset_path(first, name, 12, distance)
    uv, depth = project(path, first.position + distance * first.forward[None])
    torch.testing.assert_close(uv[:, 0], first.K[:2, 2].expand(12, 2), atol=1e-4, rtol=0)
    assert (depth > 0).all()


@several
@given(yaws, pitches)
def test_a_preset_orbit_is_the_orbit_all_round(yaw, pitch):
    first = lens_start(yaw, pitch)
    path, orbit = preset_path(first, "orbit", 7), scenes.orbit(first, 10.0, 360.0, 7)
    assert torch.equal(path.world_from_cam, orbit.world_from_cam)


def test_a_spiral_turns_twice_on_its_radii_while_it_goes_ahead_and_back_once():
    distance = 2.0
    scale = distance / math.hypot(3.2490975, 0.5)
    at = preset_path(start(), "spiral", 16, distance).position  # steps of 45 degrees
    down = 0.5 * scale * torch.sin(torch.arange(1, 17) * math.pi / 4)
    torch.testing.assert_close(at[:, 1], down, **CLOSE)
    across = (at[3] - at[7]).norm()  # half a turn apart, and from half ahead to level
    assert float(across) == pytest.approx(scale * math.hypot(2 * 0.5, 0.2), rel=1e-5)
    ahead_to_back = (at[3] - at[11]).norm()  # a turn apart
    assert float(ahead_to_back) == pytest.approx(scale * 2 * 0.2, rel=1e-5)
    assert (at[3] - at[11])[2] > 0
    torch.testing.assert_close(at[7], torch.zeros(3), **CLOSE)  # after one turn, at the start


@several
@given(yaws, pitches, st.integers(1, 20))
def test_a_lemniscate_crosses_its_start_halfway(yaw, pitch, half):
    first = start(yaw, pitch, (1.0, -2.0, 0.5))
    path = preset_path(first, "lemniscate", 2 * half, 2.0)
    torch.testing.assert_close(path[half - 1].world_from_cam, first.world_from_cam, **CLOSE)


def test_a_lemniscate_is_bernoullis_and_spans_sixty_degrees():
    x, y, z = preset_path(start(), "lemniscate", 40, 3.0).position.double().unbind(1)
    a = 3 * math.tan(math.radians(30))
    law = (x**2 + y**2) ** 2 - a**2 * (x**2 - y**2)
    torch.testing.assert_close(law, torch.zeros_like(law), atol=1e-5, rtol=0)
    assert float(x.amax()) == pytest.approx(a) == -float(x.amin())
    assert (x[:20] <= 0).all()  # the left loop first, and up
    assert y[0] < 0
    assert (z == 0).all()


def test_a_roll_is_clockwise_about_the_axis():
    first = lens_start(0.4, -0.3, (1.0, 2.0, 3.0))
    path = preset_path(first, "roll", 4)
    torch.testing.assert_close(path.position, first.position.expand(4, 3))
    torch.testing.assert_close(path.forward, first.forward.expand(4, 3), **CLOSE)
    right, down, _ = first.rotation.unbind(1)
    torch.testing.assert_close(
        -path[0].rotation[:, 1], right, **CLOSE
    )  # a quarter: its up is right
    torch.testing.assert_close(path[1].rotation[:, 1], -down, **CLOSE)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("move forward", (0, 0.6, 0.8)),
        ("move backward", (0, -0.6, -0.8)),
        ("move up", (0, -1, 0)),
        ("move down", (0, 1, 0)),
        ("move left", (-1, 0, 0)),
        ("move right", (1, 0, 0)),
    ],
)
def test_a_preset_move_goes_along_its_axis_in_equal_steps_and_does_not_turn(name, axis):
    first = start(pitch=-math.asin(0.6), position=(1.0, 2.0, 3.0))  # looks down
    path = preset_path(first, name, 5, 20.0)
    gone = torch.arange(1, 6)[:, None] / 5 * 1.98 * torch.tensor(axis)
    torch.testing.assert_close(path.position, first.position + gone, **CLOSE)
    torch.testing.assert_close(path.rotation, first.rotation.expand(5, 3, 3))


@pytest.mark.parametrize("name", ["zoom in", "zoom out"])
def test_a_zoom_stays_and_changes_the_view_in_equal_steps(name):
    first = lens_start(0.4, -0.3, (1.0, 2.0, 3.0))
    path = preset_path(first, name, 6)
    torch.testing.assert_close(path.world_from_cam, first.world_from_cam.expand(6, 4, 4))
    last = 60.0 * {"zoom in": 0.28, "zoom out": 1.5}[name]  # SEVA's
    torch.testing.assert_close(fov(path), torch.linspace(60, last, 7).double()[1:], **CLOSE)


def test_a_zoom_of_an_upright_image_is_counted_along_its_height():
    K = intrinsics(60.0)
    K[0, 0] *= 1.5  # 2 : 3, 60 degrees high
    last = preset_path(core.cameras(torch.eye(4), K), "zoom in", 3, zoom_factor=0.5)[-1]
    focal = 0.5 / math.tan(math.radians(15))
    torch.testing.assert_close(last.K.diagonal(), torch.tensor([1.5 * focal, focal, 1.0]))


@several
@given(
    st.sampled_from([("dolly zoom in", 0.1), ("dolly zoom in", 0.9), ("dolly zoom in", None),
                     ("dolly zoom out", 1.2), ("dolly zoom out", 2.0), ("dolly zoom out", None)]),
    st.floats(0.1, 50), yaws, pitches,
)  # fmt: skip
def test_a_dolly_zoom_keeps_the_size_of_the_subject(zoom, distance, yaw, pitch):
    first = lens_start(yaw, pitch)
    path = preset_path(first, zoom[0], 7, distance, zoom[1])
    side = torch.tensor([[0.0, 0, 1], [0.3, 0, 1], [0, -0.3, 1], [-0.2, 0.4, 1]]) * distance
    subject = side @ first.rotation.mT  # a square sign of its own size, facing the start
    before, after = project(first, subject)[0], project(path, subject)[0]
    torch.testing.assert_close(after, before.expand(7, 4, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(path.rotation, first.rotation.expand(7, 3, 3))


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_dolly_zoom_has_the_lens_of_the_zoom(way):
    dolly, zoom = (preset_path(lens_start(), f"{kind} {way}", 5) for kind in ("dolly zoom", "zoom"))
    torch.testing.assert_close(dolly.K, zoom.K)


def test_a_dolly_zoom_from_ninety_degrees_to_sixty_backs_off_to_the_root_of_three():
    first = core.cameras(torch.eye(4), intrinsics(90.0))
    there = preset_path(first, "dolly zoom in", 3, 2.0, zoom_factor=2 / 3)
    assert float(there.position[-1, 2]) == pytest.approx(2 - 2 * math.sqrt(3), rel=1e-5)
    back = preset_path(there[-1], "dolly zoom out", 3, 2 * math.sqrt(3), zoom_factor=1.5)[-1]
    torch.testing.assert_close(back.position, torch.zeros(3), **CLOSE)
    torch.testing.assert_close(back.K, first.K, **CLOSE)


@several
@given(presets, yaws, pitches, st.integers(0, 100))
def test_a_turned_start_and_up_give_the_turned_preset(name, yaw, pitch, seed):
    world_b_from_a = random_poses(1, seed, spread=2.0)[0]
    first = lens_start(yaw, pitch, (1.0, -2.0, 0.5))
    up = tuple((world_b_from_a[:3, :3] @ torch.tensor(UP)).tolist())
    path = preset_path(first, name, 6, 2.0)
    moved = core.cameras(world_b_from_a @ first.world_from_cam, first.K)
    turned = preset_path(moved, name, 6, 2.0, up=up)
    torch.testing.assert_close(
        turned.world_from_cam, world_b_from_a @ path.world_from_cam, atol=5e-5, rtol=0
    )
    torch.testing.assert_close(turned.K, path.K)


@pytest.mark.parametrize("name", trajectory.PRESETS)
def test_a_preset_is_in_proportion_to_its_distance(name):
    first = lens_start(0.5, -0.4)
    near, far = (preset_path(first, name, 6, distance) for distance in (1.5, 4.5))
    torch.testing.assert_close(far.position, 3 * near.position, **CLOSE)
    torch.testing.assert_close(far.rotation, near.rotation, **CLOSE)
    torch.testing.assert_close(far.K, near.K)


@pytest.mark.parametrize("name", trajectory.PRESETS)
def test_a_preset_is_the_same_each_time_and_leaves_its_start_alone(name):
    first = lens_start(0.5, -0.4)
    pose, K = first.world_from_cam.clone(), first.K.clone()
    once, again = (preset_path(first, name, 6) for _ in range(2))
    assert torch.equal(once.world_from_cam, again.world_from_cam)
    assert torch.equal(once.K, again.K)
    assert torch.equal(first.world_from_cam, pose)
    assert torch.equal(first.K, K)


@pytest.mark.parametrize("name", ["", "Orbit", "zoom", "zoom-in", "dolly"])
def test_an_unknown_preset_is_refused_with_the_names_there_are(name):
    with pytest.raises(ValueError, match=", ".join(trajectory.PRESETS)):
        preset_path(start(), name, 5)


@pytest.mark.parametrize("name", ["orbit", "spiral", "dolly zoom in", "move up", "roll"])
@pytest.mark.parametrize(
    ("n", "distance"),
    [
        (0, 1.0),
        (-1, 1.0),
        (10**6, 1.0),
        (5, 0.0),
        (5, -1.0),
        (5, math.nan),
        (5, math.inf),
        (5, 1e9),
    ],
)
def test_a_preset_that_is_none_is_refused(name, n, distance):
    with pytest.raises(ValueError, match="preset needs"):
        preset_path(start(), name, n, distance)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("in", 0.0), ("in", -0.5), ("in", 0.01), ("in", 1.5), ("in", math.nan),
     ("out", 0.5), ("out", 3.0), ("out", math.inf)],
)  # fmt: skip
def test_a_zoom_that_no_lens_does_is_refused_with_those_that_it_does(name, factor):
    for kind in ("zoom", "dolly zoom"):
        with pytest.raises(ValueError, match=r"60\.0 degrees needs a zoom_factor"):
            preset_path(lens_start(), f"{kind} {name}", 5, zoom_factor=factor)


def test_a_wide_view_cannot_zoom_out_as_far_as_the_released_one():
    wide = core.cameras(torch.eye(4), intrinsics(120.0))
    with pytest.raises(ValueError, match=r"zoom_factor of 1 to 1\.42"):
        preset_path(wide, "zoom out", 5)
    assert float(fov(preset_path(wide, "zoom out", 5, zoom_factor=1.4))[-1]) == pytest.approx(168)


def test_only_zooms_take_a_zoom_factor():
    with pytest.raises(ValueError, match="omit it"):
        preset_path(start(), "roll", 5, zoom_factor=0.5)


@pytest.mark.parametrize("name", trajectory.PRESETS)
def test_every_preset_checks_its_start_and_its_up(name):
    nowhere = Cameras(torch.full((4, 4), math.nan), intrinsics(60.0))
    with pytest.raises(ValueError, match="finite"):
        preset_path(nowhere, name, 5)
    with pytest.raises(ValueError, match="take one"):
        preset_path(core.cameras(random_poses(2, 0)), name, 5)
    with pytest.raises(ValueError, match="up must be"):
        preset_path(start(), name, 5, up=(0, math.inf, 0))


# --- there and back -------------------------------------------------------------------------------


def test_there_and_back_returns_to_its_first_camera_and_turns_once():
    path = core.cameras(random_poses(4, 0))
    both = there_and_back(path)
    assert len(both) == 7
    torch.testing.assert_close(both.world_from_cam, both.world_from_cam.flip(0))
    torch.testing.assert_close(both[:4].world_from_cam, path.world_from_cam)


def test_one_camera_there_and_back_is_one_camera():
    path = core.cameras(random_poses(1, 0))
    assert len(there_and_back(path)) == 1


def test_no_cameras_there_and_back_are_refused():
    with pytest.raises(ValueError, match="need a path"):
        there_and_back(core.cameras(torch.zeros(0, 4, 4)))


# --- keyframes ------------------------------------------------------------------------------------


@several
@given(st.integers(2, 5), st.integers(2, 30), st.integers(0, 100))
def test_keyframes_begin_and_end_exactly_and_stay_rigid(t, n, seed):
    given_cameras = core.cameras(random_poses(t, seed))
    path = keyframes(given_cameras, n)
    assert len(path) == n
    assert torch.equal(path[0].world_from_cam, given_cameras[0].world_from_cam)
    assert torch.equal(path[-1].world_from_cam, given_cameras[-1].world_from_cam)
    check_cameras(path)


@several
@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 100))
def test_keyframes_that_are_equally_far_apart_are_all_met(t, steps, seed):
    keys = scenes.orbit(start(0.3, 0.2), 2.0, 20.0 * t, t)
    path = keyframes(keys, steps * (t - 1) + 1)
    torch.testing.assert_close(path[::steps].world_from_cam, keys.world_from_cam, **CLOSE)


@several
@given(st.integers(2, 40), st.integers(0, 100))
def test_two_keyframes_are_joined_in_equal_steps(n, seed):
    path = keyframes(core.cameras(random_poses(2, seed)), n).world_from_cam
    steps = pose_distance(path[:-1], path[1:])
    torch.testing.assert_close(steps, steps.mean().expand(n - 1), atol=1e-4, rtol=1e-4)


def test_a_keyframe_is_passed_within_a_step():
    keys = core.cameras(random_poses(4, 7))
    path = keyframes(keys, 400).world_from_cam
    steps = pose_distance(path[:-1], path[1:])
    nearest = pose_distance(path[:, None], keys.world_from_cam[None]).amin(0)
    assert (nearest <= steps.amax()).all()


def test_repeated_keyframes_change_nothing_but_the_lens():
    keys = core.cameras(random_poses(3, 1))
    repeated = keys[[0, 0, 1, 1, 1, 2, 2]]
    torch.testing.assert_close(
        keyframes(repeated, 9).world_from_cam,
        keyframes(keys, 9).world_from_cam,
    )


def test_keyframes_at_one_pose_are_a_zoom():
    K = torch.stack([intrinsics(fov) for fov in (90.0, 60.0, 30.0)])
    path = keyframes(core.cameras(torch.eye(4).expand(3, 4, 4), K), 5)
    torch.testing.assert_close(path.K[::2], K)
    assert (path.K[:, 0, 0].diff() > 0).all()


@pytest.mark.parametrize(("t", "n"), [(1, 5), (0, 5), (2, 1), (2, 0), (2, -3)])
def test_too_few_keyframes_or_cameras_are_refused(t, n):
    with pytest.raises(ValueError, match="need"):
        keyframes(core.cameras(random_poses(t, 0)), n)


# --- upright cameras ------------------------------------------------------------------------------


@several
@given(st.floats(-720, 720), st.floats(-80, 80))
def test_upright_cameras_face_their_heading_and_slope_without_roll(heading, slope):
    position = torch.tensor([[1.0, -1.5, 2.0]])
    camera = upright_cameras(
        position, torch.tensor([heading]), intrinsics(60.0), torch.tensor([slope])
    )
    right, _, ahead = camera.rotation[0].unbind(1)
    torch.testing.assert_close(camera.position, position)
    assert float(right[1]) == pytest.approx(0, abs=1e-6)
    assert math.degrees(math.asin(float(ahead[1]))) == pytest.approx(slope, abs=1e-3)
    turn = math.degrees(math.atan2(float(ahead[0]), float(ahead[2]))) - heading
    assert (turn + 180) % 360 == pytest.approx(180, abs=1e-2)


def test_upright_cameras_at_one_position_are_as_many_as_their_headings():
    path = upright_cameras(torch.zeros(1, 3), torch.tensor([0.0, 90.0]), intrinsics(60.0))
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(path.forward, expected, **CLOSE)


# --- keys -----------------------------------------------------------------------------------------

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # the released code has y up and looks along -z
RUNS = {  # name in the released numbers -> keys, step, turn
    "forward": ("w", 0.1, 4.0),
    "forward3": ("w", 0.3, 4.0),
    "backward": ("s", 0.1, 4.0),
    "left_default": ("a", 0.1, 3.0),
    "left4": ("a", 0.1, 4.0),
    "right4": ("d", 0.1, 4.0),
    "left170": ("a", 0.1, 170.0),
    "cmd_wads": ("wads", 0.1, 4.0),
}


def released(name: str) -> np.ndarray:
    return FLIP @ part("navigator")[name].numpy() @ FLIP


@pytest.mark.parametrize("pose", ["identity", "generic"])
@pytest.mark.parametrize("run", RUNS)
def test_keys_lead_to_the_released_poses(pose, run):
    path = trajectory.key_poses(released(f"{pose}/start"), *RUNS[run])
    assert np.abs(path - released(f"{pose}/{run}")).max() < 1e-12
    assert np.abs(path[-1] - released(f"{pose}/{run}/final")).max() < 1e-12


@pytest.mark.parametrize("n", [1, 3, 8])
def test_poses_between_two_are_the_released_ones(n):
    ends = np.stack([released("interp/a"), released("interp/b")])
    shares = np.arange(1, n + 1) / n
    path = trajectory.interpolate_poses(ends, np.array([0.0, 1.0]), shares)
    assert np.abs(path - released(f"interp/{n}")).max() < 1e-12


def test_from_an_upright_camera_keys_are_moves():
    first = core.cameras(torch.eye(4))
    by_keys = navigate(first, "wad", step=0.4, turn=8.0)
    assert len(check_cameras(by_keys)) == 3 * trajectory.FRAMES_PER_KEY
    by_words = moves(first, "forward 0.4, left 8, right 8", step=0.1, turn=2.0)
    assert torch.allclose(by_keys.world_from_cam, by_words.world_from_cam, atol=1e-6)


@pytest.mark.parametrize("keys", ["", "x", "wW"])
def test_other_keys_are_refused(keys):
    with pytest.raises(ValueError, match="keys"):
        navigate(core.cameras(torch.eye(4)), keys)


def test_steps_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite, got nan"):
        navigate(core.cameras(torch.eye(4)), "w", step=math.nan)


def test_several_starts_are_refused():
    with pytest.raises(ValueError, match="single camera"):
        navigate(core.cameras(torch.eye(4).repeat(2, 1, 1)), "w")
