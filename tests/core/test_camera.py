"""Cameras: projection and its inverse, poses and their distance, and what is no camera."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import (
    UP,
    Cameras,
    cameras,
    canvas_width,
    check_cameras,
    horizontal_fov,
    intrinsics,
    intrinsics_from_pixels,
    invert,
    look_at,
    mean_pose,
    pixel_centres,
    pose,
    pose_distance,
    project,
    rays,
    unproject,
)


def random_poses(n: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    """Uniformly random rotations, positions normal with standard deviation `spread`."""
    rng = torch.Generator().manual_seed(seed)
    q = torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=-1)
    w, x, y, z = q.unbind(-1)
    rotation = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )
    return pose(rotation, spread * torch.randn(n, 3, generator=rng))


def turn(degrees: float, x: float = 0.0) -> torch.Tensor:
    """The pose of an upright camera turned about the vertical, moved along x."""
    angle = math.radians(degrees)
    rotation = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    )
    return pose(rotation, torch.tensor([x, 0.0, 0.0]))


seeds = st.integers(0, 10_000)

# ---- conventions ---------------------------------------------------------------------------------


def test_the_identity_pose_looks_along_z_with_x_right_and_y_down():
    here = cameras(torch.eye(4), torch.tensor([[0.7, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]]))
    uv, depth = project(here, torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 2.0]]))
    assert torch.allclose(uv, torch.tensor([[0.675, 0.95], [0.5, 0.05]]))
    assert depth.tolist() == [4.0, 2.0]
    assert here.forward.tolist() == [0, 0, 1]


def test_pixel_centres_lie_half_a_pixel_inside():
    centres = pixel_centres(2, 4)
    assert centres[0, :, 0].tolist() == [0.125, 0.375, 0.625, 0.875]
    assert centres[:, 0, 1].tolist() == [0.25, 0.75]


def test_k_in_pixels_and_field_of_view_agree():
    focal = 320 / math.tan(math.radians(35))
    by_pixels = intrinsics_from_pixels(focal, focal, 320.0, 240.0, 640, 480)
    assert torch.allclose(by_pixels, intrinsics(70.0, 640 / 480))


def test_the_field_of_view_ends_at_the_border_of_the_image():
    here = cameras(torch.eye(4), intrinsics(60.0, 1.5))
    edge = torch.tensor([[math.tan(math.radians(30)), math.tan(math.radians(30)) / 1.5, 1.0]])
    assert torch.allclose(project(here, edge)[0], torch.ones(1, 2))


def test_cameras_default_to_a_square_image_of_seventy_degrees_and_float32():
    made = cameras(torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert made.K.shape == (3, 3, 3)
    assert torch.equal(made.K[1], intrinsics(70.0))
    assert made.world_from_cam.dtype == made.K.dtype == torch.float32


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(20, 120), st.floats(0.5, 2), st.integers(1, 9), st.integers(1, 9))
def test_projection_undoes_unprojection(seed, fov, aspect, h, w):
    views = cameras(random_poses(2, seed), intrinsics(fov, aspect))
    depth = torch.rand(2, h, w, generator=torch.Generator().manual_seed(seed)) * 9 + 0.5
    points = unproject(views, depth)
    uv, back = project(views, points.reshape(2, -1, 3))
    assert torch.allclose(back, depth.reshape(2, -1), rtol=1e-4, atol=1e-4)
    assert torch.allclose(uv.view(2, h, w, 2), pixel_centres(h, w).expand(2, h, w, 2), atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_depth_is_planar_not_the_length_of_the_ray(seed):
    views = cameras(random_poses(1, seed), intrinsics(80.0))
    points = unproject(views, torch.full((1, 3, 4), 2.0))
    ahead = ((points - views.position[:, None, None]) * views.forward[:, None, None]).sum(-1)
    assert torch.allclose(ahead, torch.full((1, 3, 4), 2.0), atol=1e-4)
    assert (points - views.position[:, None, None]).norm(dim=-1).amin() > 2.0 - 1e-4


def test_rays_and_unprojection_broadcast_one_camera_or_none():
    uv = pixel_centres(3, 5)
    one = cameras(turn(30.0, 1.0))
    many = Cameras(one.world_from_cam.expand(2, 4, 4), one.K.expand(2, 3, 3))
    assert torch.equal(rays(many, uv[None].expand(2, 3, 5, 2))[1], rays(one, uv))
    depth = torch.ones(3, 5)
    assert torch.equal(unproject(many, depth.expand(2, 3, 5))[0], unproject(one, depth))


def test_a_point_in_the_cameras_plane_gives_no_nan():
    uv, depth = project(cameras(torch.eye(4)), torch.tensor([[1.0, 1.0, 0.0]]))
    assert uv.isfinite().all()
    assert depth.tolist() == [0.0]


# ---- poses ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_inversion_undoes_a_pose(seed):
    poses = random_poses(4, seed)
    assert torch.allclose(invert(poses) @ poses, torch.eye(4).expand(4, 4, 4), atol=1e-5)
    assert torch.equal(cameras(poses).cam_from_world, invert(poses))


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_look_at_puts_the_target_in_the_middle_of_an_upright_image(seed):
    position, target = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed))
    views = cameras(look_at(position, target))
    uv, depth = project(views, target[:, None])
    assert torch.allclose(uv, torch.full_like(uv, 0.5), atol=1e-4)
    assert (depth > 0).all()
    right, down = views.rotation[..., 0], views.rotation[..., 1]
    assert right[:, 1].abs().amax() < 1e-5  # the horizon is level
    assert (down @ torch.tensor(UP) < 0).all()


def test_look_at_refuses_itself_as_target_and_straight_up():
    here = torch.zeros(1, 3)
    for target in (here, here + torch.tensor(UP), here - 2 * torch.tensor(UP)):
        with pytest.raises(ValueError, match="straight up or down"):
            look_at(here, target)


@settings(deadline=None, max_examples=40)
@given(seeds, st.floats(0, 2))
def test_pose_distance_is_a_metric(seed, weight):
    a, b, c, common = random_poses(4, seed)
    ab = float(pose_distance(a, b, weight))
    assert float(pose_distance(a, a, weight)) == 0
    assert ab > 0
    assert ab == float(pose_distance(b, a, weight))
    assert ab <= float(pose_distance(a, c, weight) + pose_distance(c, b, weight)) + 1e-5
    # Near half a turn the sine is flat, and float32 tells no more.
    near = 0.01 if pose_distance(a, b, 0.0) > 3 else 1e-4
    assert ab == pytest.approx(float(pose_distance(common @ a, common @ b, weight)), abs=near)


@pytest.mark.parametrize("degrees", [0.0, 0.01, 1.0, 90.0, 179.0, 180.0])
def test_pose_distance_is_the_angle_and_a_tenth_of_the_way(degrees):
    near = 0.01 if degrees > 178 else 1e-6  # the sine is flat there: float32 tells no more
    distance = float(pose_distance(turn(0.0), turn(degrees, 2.0)))
    assert distance == pytest.approx(math.radians(degrees) + 0.2, abs=near)


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 6))
def test_a_mean_pose_is_rigid_and_moves_with_its_poses(seed, n):
    *poses, common = random_poses(n + 1, seed)
    mean = mean_pose(torch.stack(poses))
    check_cameras(cameras(mean))
    assert torch.allclose(mean[:3, 3], torch.stack(poses)[:, :3, 3].mean(0), atol=1e-5)
    # the singular values of the mean rotation can come close; then the mean is ill-defined
    values = torch.linalg.svdvals(torch.stack(poses)[:, :3, :3].mean(0))
    if float((values[:-1] - values[1:]).abs().amin()) > 0.05 and n < 3:
        moved = mean_pose(common @ torch.stack(poses))
        assert torch.allclose(moved, common @ mean, atol=1e-3)


def test_the_mean_of_two_headings_lies_halfway():
    mean = mean_pose(torch.stack([turn(-20.0, -1.0), turn(60.0, 3.0)]))
    assert torch.allclose(mean, turn(20.0, 1.0), atol=1e-6)
    assert torch.allclose(mean_pose(turn(77.0, 3.0)[None]), turn(77.0, 3.0), atol=1e-6)


def test_the_mean_of_opposite_rotations_is_a_rotation_still():
    halves = torch.diag_embed(2 * torch.eye(3) - 1)  # half turns about x, y, z: their sum is -1
    mean = mean_pose(pose(halves, torch.zeros(3, 3)))
    check_cameras(cameras(mean))


def test_no_poses_have_no_mean():
    with pytest.raises(ValueError, match="got none"):
        mean_pose(torch.zeros(0, 4, 4))


# ---- what is no camera ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_every_rigid_pose_is_accepted(seed):
    check_cameras(cameras(random_poses(3, seed, spread=1000.0)))


def test_no_cameras_are_cameras():
    assert len(cameras(torch.zeros(0, 4, 4))) == 0


def changed(row: int, column: int, value: float) -> torch.Tensor:
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, row, column] = value
    return pose


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (changed(0, 3, math.nan), "finite"),
        (changed(1, 1, math.inf), "finite"),
        (changed(0, 0, 2.0), "rigid"),  # scaled
        (changed(0, 1, 0.1), "rigid"),  # sheared
        (changed(2, 2, -1.0), "rigid"),  # mirrored
        (changed(3, 3, 2.0), "rigid"),  # not affine
        (changed(3, 0, 0.5), "rigid"),
        (torch.zeros(2, 4, 4), "rigid"),
    ],
)
def test_one_pose_that_is_not_rigid_is_refused(poses, message):
    with pytest.raises(ValueError, match=message):
        cameras(poses)


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (0, 0, math.nan, "finite"),
        (0, 0, 1e-7, "focal lengths must be 1e-06 to"),
        (0, 2, 1e7, "principal points at most"),
        (0, 0, -0.7, "focal"),
        (1, 1, 0.0, "focal"),
        (0, 1, 0.2, "skew"),
        (1, 0, 0.2, "pinhole"),
        (2, 0, 0.2, "pinhole"),
        (2, 2, 2.0, "pinhole"),
    ],
)
def test_an_intrinsic_matrix_that_is_no_pinholes_is_refused(row, column, value, message):
    K = intrinsics(70.0).repeat(2, 1, 1)
    K[1, row, column] = value
    with pytest.raises(ValueError, match=message):
        cameras(torch.eye(4).expand(2, 4, 4), K)


@pytest.mark.parametrize(
    ("poses", "K"),
    [
        (torch.eye(3), None),
        (torch.zeros(2, 3, 4), None),
        (torch.eye(4)[None], torch.eye(2)),
        (torch.eye(4)[None], torch.eye(3).expand(5, 3, 3)),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_matrices_of_other_shapes_are_refused(poses, K):
    with pytest.raises(ValueError, match=r"\[\*b 4 4\]"):
        cameras(poses, K)


@pytest.mark.usefixtures("as_installed")
def test_unequal_numbers_of_poses_and_intrinsics_are_refused():
    with pytest.raises(ValueError, match=r"\[\*b 4 4\]"):
        check_cameras(Cameras(torch.eye(4).expand(2, 4, 4), torch.eye(3).expand(3, 3, 3)))


@settings(deadline=None)
@given(st.floats(1.0, 170.0), st.floats(1.0, 4.0))
def test_a_field_of_view_along_the_longer_side_is_the_same_lens_held_upright(fov, aspect):
    level = intrinsics(horizontal_fov(fov, aspect), aspect)
    upright = intrinsics(horizontal_fov(fov, 1 / aspect), 1 / aspect)
    torch.testing.assert_close(upright, level[[1, 0, 2]][:, [1, 0, 2]])
    assert horizontal_fov(fov, aspect) == fov


@pytest.mark.parametrize(
    ("fov", "aspect"), [(0.0, 1.0), (180.0, 1.0), (-5.0, 1.0), (math.nan, 1.0), (70.0, 0.0)]
)
def test_an_impossible_field_of_view_is_refused(fov, aspect):
    with pytest.raises(ValueError, match="field of view"):
        intrinsics(fov, aspect)


@pytest.mark.parametrize(("aspect", "rows", "width"), [(4 / 3, 96, 128), (0.5, 9, 4), (0.01, 1, 1)])
def test_a_canvas_of_square_pixels_has_the_aspect_of_its_cameras(aspect, rows, width):
    camera = cameras(torch.eye(4)[None], intrinsics(60.0, aspect))
    assert canvas_width(camera, rows) == width
