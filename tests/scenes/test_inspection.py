"""Inspection: numbers that show what a recording is, and that a convention is wrong."""

from __future__ import annotations

import math

import pytest
import torch
from recording_helpers import (
    house_views,
    write_arrays,
    write_colmap_text,
    write_lyra,
    write_transforms_json,
)
from scipy.spatial.transform import Rotation

from vmemkit.core import UP, cameras, intrinsics, unproject
from vmemkit.scenes import (
    Recording,
    depth_difference,
    inspect,
    levelled,
    load,
    surface_points,
    up_direction,
)
from vmemkit.scenes.gravity import rotation_between


@pytest.fixture(scope="module")
def recorded():
    return house_views(8)


@pytest.fixture(scope="module")
def folder(recorded, tmp_path_factory):
    return write_transforms_json(recorded, tmp_path_factory.mktemp("room"))


def test_a_report_tells_what_is_there(recorded, folder):
    recording, report = inspect(folder)
    assert isinstance(recording, Recording)
    assert report["cameras"] == "8"
    assert report["images"] == "64 x 48 (width x height)"
    assert report["lens"] == "75.0 degrees across, centred"
    assert report["up"].startswith("-y of the world")
    assert report["depth"].startswith("known at 100% of the pixels, from ")
    length = float((recorded.cameras.position[-1] - recorded.cameras.position[0]).norm())
    assert f"{length:.4g} units long" in report["path"]
    assert f"neighbours {length / 7:.3g}" in report["path"]


def test_long_recordings_are_opened_in_part_and_measured_whole(folder):
    recording, report = inspect(folder, every=3)
    assert len(recording.views) == 3
    assert report["cameras"] == "8, of which 3 were opened"
    assert report["path"] == inspect(folder)[1]["path"]


def test_the_right_convention_agrees_and_a_wrong_one_is_named(folder, recorded, tmp_path):
    assert "differs by 0." in inspect(folder)[1]["agreement"]
    assert "convention" not in inspect(folder)[1]["agreement"]
    wrong = inspect(folder, convention="opencv")[1]["agreement"]
    assert "with camera axes of OpenGL instead of OpenCV" in wrong
    arrays = write_arrays(recorded, tmp_path)
    wrong = inspect(arrays, world_to_camera=True)[1]["agreement"]
    assert "with poses the other way round" in wrong
    assert "convention" not in inspect(arrays)[1]["agreement"]


def test_depth_of_another_unit_differs_between_views(recorded):
    exact = depth_difference(recorded)
    assert exact < 0.005
    too_near = recorded.replace(depth=recorded.depth / 5)
    assert depth_difference(too_near) > 3 * exact
    apart = cameras(recorded.cameras.world_from_cam[:2].clone(), recorded.cameras.K[:2])
    apart.world_from_cam[1, :3, :3] @= torch.diag(torch.tensor([-1.0, 1, -1]))  # it looks back
    assert depth_difference(recorded[:2].replace(cameras=apart)) is None
    with pytest.raises(ValueError, match="without depth"):
        depth_difference(recorded.replace(depth=None))


def test_points_of_a_model_are_counted_where_cameras_look(recorded, tmp_path):
    report = inspect(write_colmap_text(recorded, tmp_path))[1]
    assert report["points"].startswith("3; cameras look at ")
    assert report["depth"] == "none: a reconstructor can estimate it"
    assert "unknown" in report["scale"]


def test_a_trajectory_has_a_path_and_no_images(recorded, tmp_path):
    report = inspect(write_lyra(recorded, tmp_path))[1]
    assert report["images"] == "none: a bare trajectory"
    assert "depth" not in report


def test_points_of_depth_are_its_surfaces_in_their_colours(recorded, folder):
    points, colors = surface_points(load(folder))
    assert len(points) == len(colors) == 8 * 48 * 64
    truth = unproject(recorded.cameras, recorded.depth).reshape(-1, 3)
    assert float((points - truth).norm(dim=1).max()) < 0.002


# ---- gravity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "name"), [(2, "+z"), (1, "-y"), (0, "+x")])
def test_up_is_the_axis_that_images_point_to(recorded, axis, name):
    up = torch.zeros(3)
    up[axis] = -1.0 if name[0] == "-" else 1.0
    world = torch.eye(4)
    world[:3, :3] = rotation_between(torch.tensor(UP), up)
    turned = recorded.replace(
        cameras=recorded.cameras.replace(world_from_cam=world @ recorded.cameras.world_from_cam)
    )
    assert torch.equal(up_direction(turned.cameras), up)
    level = levelled(turned)
    assert torch.allclose(up_direction(level.cameras), torch.tensor(UP))
    # The turn about gravity is free: heights are what they were.
    heights = level.cameras.position[:, 1]
    assert torch.allclose(heights, recorded.cameras.position[:, 1], atol=1e-5)


def test_up_along_no_axis_is_the_mean_of_the_images(recorded):
    tilt = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    world = torch.eye(4)
    world[:3, :3] = torch.from_numpy(tilt).float()
    poses = world @ torch.eye(4)[None]
    up = up_direction(cameras(poses, intrinsics(60.0)))
    torch.testing.assert_close(up, torch.tensor([math.sqrt(0.5), -math.sqrt(0.5), 0.0]))


def test_cameras_without_an_up_in_common_have_the_usual_one():
    turns = Rotation.from_euler("z", [[0], [90], [180], [270]], degrees=True).as_matrix()
    poses = torch.eye(4).repeat(4, 1, 1)
    poses[:, :3, :3] = torch.from_numpy(turns).float()
    assert torch.equal(up_direction(cameras(poses, intrinsics(60.0))), torch.tensor(UP))


@pytest.mark.parametrize("seed", range(6))
def test_the_rotation_between_two_directions_takes_one_to_the_other(seed):
    rng = torch.Generator().manual_seed(seed)
    a, b = torch.nn.functional.normalize(torch.randn(2, 3, generator=rng), dim=1)
    b = -a if seed == 0 else b
    R = rotation_between(a, b)
    assert torch.allclose(R @ a, b, atol=1e-6)
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-6)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-5)
