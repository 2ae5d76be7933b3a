"""Cameras and context as the network gets them: released numbers, and laws of Pluecker rays."""

import pytest
import torch
from golden_helpers import error, part

from vmemkit.core import Cameras, cameras, intrinsics, mean_pose, pose_distance
from vmemkit.generation.diffusion import default_intrinsics
from vmemkit.generation.diffusion.conditioning import (
    CameraScale,
    centred,
    conditions,
    pluecker,
    scaled,
)
from vmemkit.scenes import preset_path

NO_OFFSET = CameraScale(offset=0.0)


def in_our_axes(opengl: torch.Tensor) -> torch.Tensor:
    """The reference's cameras have OpenGL axes (-z forward, y up); the network gets OpenCV's."""
    return opengl * opengl.new_tensor([1.0, -1.0, -1.0, 1.0])


def ring(n: int = 5) -> Cameras:
    start = cameras(torch.eye(4), intrinsics(60.0, 4 / 3))
    return preset_path(start, "orbit", n, distance=2.0)


# ---- the released numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("norm72", 72, 72),
        ("norm_16x24", 16, 24),
        ("pixK_24x24_img192", 24, 24),
        ("pixK_32x48", 32, 48),
    ],
)
def test_pluecker_maps(name, height, width):
    """The reference also takes K in pixels of images 8 times as large. It then divides the first row
    by the height and the second by the width. This is wrong unless they are equal, but repeated here
    to compare the rest."""
    g = part("pluecker")
    K = g[f"{name}/K"].clone()
    if name.startswith("pixK"):
        K[:, :2] /= 8 * torch.tensor([height, width]).view(2, 1)
    got = pluecker(Cameras(torch.linalg.inv(g["w2c"]), K), height, width)
    got = got[..., 1::3, ::3] if width > 24 else got
    assert error(got, g[f"{name}/plucker"]) < 1e-5


@pytest.mark.parametrize("name", ["c2ws", "c2ws_outlier"])
def test_windows_are_centred_as_released(name):
    g = part("conditioning")
    got = centred(Cameras(g[f"{name}_in"], g["Ks"]))
    assert torch.equal(got.world_from_cam, g[f"{name}_centered"])


def test_windows_are_scaled_as_released():
    g = part("conditioning")
    for name, where in {"tsf": "c2ws_centered", "tsf_outlier": "c2ws_outlier_centered"}.items():
        got = scaled(Cameras(g[where], g["Ks"]), CameraScale())
        factor = got.position.norm() / g[where][:, :3, 3].norm()
        assert float(factor) == pytest.approx(float(g[name]), rel=1e-5)
    same = torch.eye(4).repeat(3, 1, 1)
    same[1, 0, 3] = 1.0  # the first camera is at the origin: it gives no scale
    assert scaled(Cameras(same, g["Ks"][:3]), CameraScale()).position[1, 0] == float(g["tsf_same"])


@pytest.mark.parametrize("name", ["ctx1", "ctx4"])
def test_conditions_are_the_released_ones(name):
    g = part("conditioning")
    window = scaled(Cameras(in_our_axes(g["c2ws_centered"]), g["Ks"]), CameraScale())
    assert error(window.world_from_cam, g[f"{name}/all_c2ws_out"]) < 1e-6
    given = g[f"{name}/input_mask"]
    with_context, without = conditions(window, given, g[f"{name}/latents"], g[f"{name}/embeddings"])
    for condition in (with_context, without):
        assert error(condition.dense, g["dense"]) < 1e-5
        assert torch.equal(condition.concat[:, 1:], condition.dense)
    assert torch.equal(with_context.latent[given], g[f"{name}/latents"])
    assert not with_context.latent[~given].any()
    assert torch.equal(with_context.known[:, 0, 0, 0].bool(), given)
    assert torch.equal(with_context.concat[:, :1], with_context.known)
    assert error(with_context.crossattn, g[f"{name}/c/crossattn"]) < 1e-6
    zeros = without.latent, without.known, without.concat[:, :1], without.crossattn
    assert not any(zero.any() for zero in zeros)


def test_lenses_and_poses_are_measured_as_released():
    g = part("conditioning")
    for aspect, name in ((1.0, ""), (1.5, "_aspect1.5"), (0.75, "_aspect0.75")):
        assert error(default_intrinsics(aspect), g[f"default_K{name}"]) < 1e-6
    poses = g["c2ws_in"]
    assert error(pose_distance(poses[:, None], poses[None]), g["geodesic_w0.1"]) < 1e-5
    assert error(mean_pose(g["avg_pose_in"].double()), g["avg_pose_out_f64"]) < 1e-5


# ---- laws ----------------------------------------------------------------------------------------


def test_a_ray_is_a_unit_direction_and_a_moment_perpendicular_to_it():
    lines = pluecker(ring(), 6, 8)
    direction, moment = lines[:, :3], lines[:, 3:]
    assert direction.norm(dim=1).sub(1).abs().max() < 1e-6
    assert (direction * moment).sum(1).abs().max() < 1e-5
    assert not moment[0].any()  # the first camera is the origin


def test_the_same_line_has_the_same_coordinates_for_every_camera_on_it():
    """The middle ray of a camera that moves along it."""
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, 1.0, 1.0])
    poses[2, 2, 3] = 5.0  # straight ahead of the second
    lines = pluecker(cameras(poses), 3, 3)
    assert torch.equal(lines[1, :, 1, 1], lines[2, :, 1, 1])
    assert lines[1, 3:, 1, 1].tolist() == [0.0, -1.0, 0.0]


def test_rays_do_not_depend_on_the_origin_of_the_world():
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q
    other = torch.eye(4)
    other[:3, :3] = turn * torch.det(turn).sign()
    other[:3, 3] = torch.tensor([3.0, -1.0, 2.0])
    moved = Cameras(other @ ring().world_from_cam, ring().K)
    assert error(pluecker(moved, 6, 8), pluecker(ring(), 6, 8)) < 1e-5


def test_the_size_of_a_scene_does_not_matter():
    """Without the released offset, a doll's house looks to the network like a house."""
    poses = ring().world_from_cam.clone()
    poses[:, :3, 3] *= 0.01
    large = scaled(centred(ring()), NO_OFFSET)
    small = scaled(centred(Cameras(poses, ring().K)), NO_OFFSET)
    assert error(small.position, large.position) < 1e-4
    assert float(large.position[0].norm()) == pytest.approx(2.0, rel=1e-5)


def test_cameras_are_not_changed_in_place():
    window = ring()
    before = window.world_from_cam.clone()
    scaled(centred(window), CameraScale())
    pluecker(window, 4, 4)
    assert torch.equal(window.world_from_cam, before)
