"""Panoramas: every direction shows its place in the photograph, from the centre alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import (
    Cameras,
    cameras,
    intrinsics,
    look_at,
    pixel_centres,
    pose,
    save_image,
    unproject,
)
from vmemkit.core import rays as pixel_rays
from vmemkit.scenes import panorama, upright_cameras


def color_of(direction: torch.Tensor) -> torch.Tensor:
    """A smooth colour for every direction [... 3], seamless all round."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    return torch.stack([x, y, z], -3) / 2 + 0.5


def sphere(height: int = 128) -> torch.Tensor:
    """The equirectangular image of `color_of`."""
    u, v = pixel_centres(height, 2 * height).unbind(-1)
    longitude, drop = 2 * math.pi * (u - 0.5), math.pi * (v - 0.5)
    x, z = drop.cos() * longitude.sin(), drop.cos() * longitude.cos()
    return color_of(torch.stack([x, drop.sin(), z], -1))


def turned(yaw: float, pitch: float = 0.0, fov: float = 70.0) -> Cameras:
    """A camera at the origin, turned right by yaw and up by pitch, degrees."""
    heading, slope = torch.tensor([float(yaw)]), torch.tensor([-float(pitch)])
    return upright_cameras(torch.zeros(1, 3), heading, intrinsics(fov, 4 / 3), slope)


@settings(deadline=None, max_examples=20)
@given(st.floats(-400, 400), st.floats(-80, 80), st.sampled_from([6, 60]))
def test_a_panorama_shows_every_pixel_what_lies_in_its_direction(yaw, pitch, height):
    camera = turned(yaw, pitch)
    uv = pixel_centres(height, height * 4 // 3)
    truth = color_of(pixel_rays(camera, uv[None]))
    seen = panorama(sphere()).render(camera, height, height * 4 // 3).image
    assert float((seen - truth).abs().max()) < 0.02


def test_the_identity_pose_looks_at_the_middle_and_turning_right_moves_right():
    image = torch.zeros(3, 32, 64)
    image[0, 14:18, 30:34] = 1  # the middle
    image[1, 14:18, 46:50] = 1  # a quarter of the width further right
    ahead = panorama(image).render(cameras(torch.eye(4)[None]), 9, 9).image[0, :, 4, 4]
    right = panorama(image).render(turned(90), 9, 9).image[0, :, 4, 4]
    assert ahead.tolist() == pytest.approx([1, 0, 0], abs=0.05)
    assert right.tolist() == pytest.approx([0, 1, 0], abs=0.05)


def test_a_full_turn_shows_the_same():
    scene = panorama(sphere(64))
    once, again = (scene.render(turned(yaw), 24, 32).image for yaw in (30.0, 390.0))
    assert torch.allclose(once, again, atol=1e-4)


def test_four_quarter_turns_up_and_down_see_every_direction():
    sides = [turned(90.0 * k, 0.0, fov=90.2) for k in range(4)]
    poses = [camera.world_from_cam for camera in sides]
    for angle in (math.pi / 2, -math.pi / 2):
        c, s = math.cos(angle), math.sin(angle)
        tilt = torch.tensor([[[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]])
        poses.append(pose(tilt, torch.zeros(1, 3)))
    six = cameras(torch.cat(poses), intrinsics(90.2))
    points = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    visible = panorama(sphere(16)).visible(points, six)
    assert visible.any(0).all()
    assert visible.float().sum(0).mean() < 1.1


def test_a_panorama_puts_everything_on_its_sphere():
    camera = turned(20, -10)
    view = panorama(sphere(16), radius=3.0).render(camera, 12, 16)
    assert view.given.all()
    assert torch.allclose(unproject(camera, view.depth).norm(dim=-1), torch.tensor(3.0))


def test_a_coarse_view_averages_fine_detail():
    stripes = (torch.arange(1024) % 2).float().expand(3, 512, 1024)
    image = panorama(stripes).render(turned(0), 24, 32).image
    assert float((image - 0.5).abs().max()) < 0.1


def test_a_panorama_comes_from_a_file(tmp_path):
    save_image(tmp_path / "sphere.png", sphere(16))
    assert torch.allclose(panorama(tmp_path / "sphere.png").image, sphere(16), atol=1 / 255)


def test_a_panorama_refuses_a_camera_that_moved():
    moved = cameras(look_at(torch.tensor([[0.0, 0.0, 0.1]]), torch.tensor([[0.0, 0.0, 1.0]])))
    for ask in (
        lambda: panorama(sphere(16)).render(moved, 4, 4),
        lambda: panorama(sphere(16)).visible(torch.zeros(1, 3), moved),
    ):
        with pytest.raises(ValueError, match=r"camera 0 is 0.1 away .* turn, but do not move"):
            ask()


@pytest.mark.parametrize(
    ("image", "radius", "message"),
    [
        (torch.zeros(3, 10, 21), 1.0, "equirectangular"),
        (torch.zeros(3, 0, 0), 1.0, "needs pixels"),
        (torch.full((3, 1, 2), 2.0), 1.0, r"\[0, 1\]"),
        (torch.full((3, 1, 2), math.nan), 1.0, r"\[0, 1\]"),
        (torch.zeros(3, 10, 20), 0.0, "radius"),
        (torch.zeros(3, 10, 20), math.nan, "radius"),
    ],
)
def test_what_is_no_panorama_is_refused(image, radius, message):
    with pytest.raises(ValueError, match=message):
        panorama(image, radius)
