"""Errors of poses against evo and against cases worked by hand; the geometry that two views share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from core_helpers import Box
from evo.core import metrics
from evo.core.trajectory import PosePath3D

from vmemkit.core import Cameras, cat, stream
from vmemkit.evaluation import (
    relative_pose_error,
    rotation_distance,
    trajectory_error,
    translation_distance,
    warp_consistency,
)
from vmemkit.reconstruction import fit_similarity


def path(count: int = 9) -> Cameras:
    box = Box()
    return cat([box.look(20.0 * i, at=(0.1 * i, 0.02 * i, math.sin(i) / 3)) for i in range(count)])


def disturbed(cameras: Cameras, size: float, seed: int = 0) -> Cameras:
    """Each camera turned and moved a little, and all of them seen in another frame and unit."""
    rng = stream(seed)
    poses = cameras.world_from_cam.double().clone()
    for pose in poses:
        turn = torch.linalg.matrix_exp(_cross(size * torch.randn(3, generator=rng).double()))
        pose[:3, :3] = pose[:3, :3] @ turn
        pose[:3, 3] += size * torch.randn(3, generator=rng).double()
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = torch.linalg.matrix_exp(_cross(torch.tensor([0.3, -1.0, 0.5]).double()))
    frame[:3, 3] = torch.tensor([1.0, 2.0, -3.0])
    poses[:, :3, 3] *= 2.5
    return cameras.replace(world_from_cam=(frame @ poses).float())


def _cross(v):
    zero = torch.zeros((), dtype=v.dtype)
    x, y, z = v
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows).reshape(3, 3)


def evo_path(cameras: Cameras) -> PosePath3D:
    poses = cameras.world_from_cam.double().numpy()
    for pose in poses:  # evo asks for rotations to 1e-6
        u, _, v = np.linalg.svd(pose[:3, :3])
        pose[:3, :3] = u @ v
    return PosePath3D(poses_se3=list(poses))


def evo_error(relation, kind, estimated: Cameras, asked: Cameras, **how) -> float:
    ours, theirs = evo_path(estimated), evo_path(asked)
    ours.align(theirs, correct_scale=True)
    metric = kind(relation, **how)
    metric.process_data((theirs, ours))
    return metric.get_statistic(metrics.StatisticsType.rmse)


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_trajectories_are_those_of_evo(seed):
    asked = path()
    estimated = disturbed(asked, 0.05, seed)
    relation = metrics.PoseRelation
    ate = evo_error(relation.translation_part, metrics.APE, estimated, asked)
    assert trajectory_error(estimated, asked) == pytest.approx(ate, rel=1e-4)
    shift, angle = relative_pose_error(estimated, asked)
    by_frame = {"delta": 1, "delta_unit": metrics.Unit.frames}
    theirs = evo_error(relation.translation_part, metrics.RPE, estimated, asked, **by_frame)
    assert shift == pytest.approx(theirs, rel=1e-3)
    theirs = evo_error(relation.rotation_angle_deg, metrics.RPE, estimated, asked, **by_frame)
    assert angle == pytest.approx(theirs, rel=1e-3)


def test_another_frame_and_unit_are_no_error():
    asked = path()
    same = disturbed(asked, 0.0)
    assert trajectory_error(same, asked) < 1e-5
    assert max(relative_pose_error(same, asked)) < 1e-3
    assert rotation_distance(same, asked) < 1e-3
    assert translation_distance(same, asked) < 1e-5


def test_distances_worked_by_hand():
    """Three cameras in a row along x; the estimate turns the last one by 30 degrees and stops early."""
    box = Box()
    asked = cat([box.look(0.0, at=(x, 0.0, 0.0)) for x in (0.0, 0.4, 0.8)])
    estimated = cat(
        [box.look(yaw, at=(x, 0.0, 0.0)) for yaw, x in ((0.0, 0.0), (0.0, 0.3), (30.0, 0.4))]
    )
    assert rotation_distance(estimated, asked) == pytest.approx(15.0, abs=1e-3)
    # Shares of the furthest position: 0.5 and 1 are asked for, 0.75 and 1 are estimated.
    assert translation_distance(estimated, asked) == pytest.approx(0.125, abs=1e-5)


def test_a_mirrored_path_is_not_taken_for_a_turned_one():
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], dtype=torch.float64)
    _, rotation, _ = fit_similarity(a, a * torch.tensor([-1.0, 1.0, 1.0]))
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0)


@pytest.mark.parametrize("function", [rotation_distance, translation_distance, trajectory_error])
@pytest.mark.parametrize(("a", "b"), [(3, 4), (1, 1)])
def test_paths_that_cannot_be_compared_are_refused(function, a, b):
    with pytest.raises(ValueError, match=f"of 2 or more, got {a} and {b}"):
        function(path(a), path(b))


def test_true_views_of_one_scene_are_consistent_and_others_are_not():
    box = Box()
    a, b = (box.render(box.look(yaw), 48, 64) for yaw in (0.0, 15.0))
    error, share = warp_consistency(a, b)
    assert error < 0.03
    assert share > 0.6
    grey = b.replace(image=torch.full_like(b.image, 0.5))
    worse, same_share = warp_consistency(a, grey)
    assert worse > 3 * error
    assert same_share == share
    away = box.render(box.look(180.0), 48, 64)
    assert warp_consistency(a, away) == (None, 0.0)


def test_the_difference_of_colours_is_that_of_the_pixels():
    box = Box()
    view = box.render(box.look(0.0), 12, 16)
    brighter = view.replace(image=view.image * 0.5)
    error, share = warp_consistency(view, brighter)
    assert share == 1.0
    assert error == pytest.approx(float((view.image * 0.5).mean()), rel=1e-5)
    with pytest.raises(ValueError, match="two views with depth"):
        warp_consistency(view.replace(depth=None), view)
