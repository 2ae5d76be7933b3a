"""What is exported can be loaded again, with the same poses, lenses, colours and depth."""

from __future__ import annotations

import pytest
import torch

from vmemkit.exports import export
from vmemkit.scenes import load

PLACES = {
    "colmap": "model",
    "nerfstudio": "folder",
    "lyra": "path.npz",
    "realestate10k": "path.txt",
    "tum": "trajectory.txt",
}
WITHOUT_LENS = {"tum"}


@pytest.mark.parametrize(("name", "place"), PLACES.items())
def test_what_is_exported_is_loaded_again(name, place, memory, tmp_path):
    export(name, memory, [], tmp_path / place)
    recording = load(tmp_path / place, fov=70.0 if name in WITHOUT_LENS else None)
    poses = memory.views.cameras.world_from_cam
    torch.testing.assert_close(recording.cameras.world_from_cam, poses, atol=1e-6, rtol=0)
    if name not in WITHOUT_LENS:
        torch.testing.assert_close(recording.cameras.K, memory.views.cameras.K, atol=1e-6, rtol=0)
    if recording.views is not None:
        assert (recording.views.image - memory.views.image).abs().max() <= 1 / 255
        depth = recording.views.depth
        if depth is not None:  # only pixels that a given view supports have a mask of white
            known = depth.isfinite()
            assert known[memory.views.given].all()
            assert (depth - memory.views.depth)[known].abs().max() <= 0.0005 + 1e-6


def test_a_point_of_colmap_is_its_surfel(memory, tmp_path):
    export("colmap", memory, [], tmp_path / "model")
    points = load(tmp_path / "model").points
    nearest = torch.cdist(points.double(), memory.surfels.position.double()).min(1).values
    assert nearest.max() < 1e-6
