"""Walking as the released demo does."""

import numpy as np
import pytest
import torch
from golden_helpers import part

from vmemkit.core import cameras, check
from vmemkit.scenes import moves, navigate
from vmemkit.scenes.trajectory import FRAMES, between, moved

FLIP = np.diag(
    [1.0, -1.0, -1.0, 1.0]
)  # between the reference's axes (y up, looking along -z) and ours
RUNS = {
    "forward": [("forward", 0.1)],
    "forward3": [("forward", 0.3)],
    "backward": [("backward", 0.1)],
    "left_default": [("left", 3.0)],
    "left4": [("left", 4.0)],
    "right4": [("right", 4.0)],
    "left170": [("left", 170.0)],
    "cmd_wads": [("forward", 0.1), ("left", 4.0), ("right", 4.0), ("backward", 0.1)],
}


def wanted(name: str) -> np.ndarray:
    return FLIP @ part("navigator")[name].numpy() @ FLIP


@pytest.mark.parametrize("start", ["identity", "generic"])
@pytest.mark.parametrize("run", RUNS)
def test_poses_are_the_released_ones(start, run):
    pose, path = wanted(f"{start}/start"), []
    for verb, amount in RUNS[run]:
        end = moved(pose, verb, amount)
        path.append(between(pose, end, FRAMES))
        pose = end
    assert np.abs(np.concatenate(path) - wanted(f"{start}/{run}")).max() < 1e-12
    assert np.abs(pose - wanted(f"{start}/{run}/final")).max() < 1e-12


@pytest.mark.parametrize("n", [1, 3, 8])
def test_poses_between_two_are_the_released_ones(n):
    got = between(wanted("interp/a"), wanted("interp/b"), n)
    assert np.abs(got - wanted(f"interp/{n}")).max() < 1e-12


def test_from_an_upright_camera_keys_are_moves():
    start = cameras(torch.eye(4))
    walked = navigate(start, "wad", step=0.4, turn=8.0)
    assert len(check(walked)) == 3 * FRAMES
    told = moves(start, "forward 0.4, left 8, right 8", step=0.1, turn=2.0)
    assert torch.allclose(walked.world_from_cam, told.world_from_cam, atol=1e-6)


@pytest.mark.parametrize("keys", ["", "x", "wW"])
def test_other_keys_are_refused(keys):
    with pytest.raises(ValueError, match="keys"):
        navigate(cameras(torch.eye(4)), keys)


def test_steps_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite, got nan"):
        navigate(cameras(torch.eye(4)), "w", step=float("nan"))


def test_several_starts_are_refused():
    with pytest.raises(ValueError, match="single camera"):
        navigate(cameras(torch.eye(4).repeat(2, 1, 1)), "w")
