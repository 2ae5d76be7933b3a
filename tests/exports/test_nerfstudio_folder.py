"""nerfstudio folders: read back, and their masks against places worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vmemkit.core import Views, cameras, intrinsics
from vmemkit.exports import nerfstudio, ply, supported_pixels
from vmemkit.memory import Memory, begin, write
from vmemkit.scenes import load_capture, read_transforms


@pytest.fixture(scope="module")
def folder(memory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nerfstudio") / "scene"
    nerfstudio(memory, folder)
    return folder


def test_views_are_read_back(memory, folder):
    again, views = load_capture(folder), memory.views
    poses = views.cameras.world_from_cam
    torch.testing.assert_close(again.cameras.world_from_cam, poses, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.cameras.K, views.cameras.K, atol=1e-6, rtol=0)
    assert (again.image - views.image).abs().max() <= 1 / 255
    # Masked pixels, which no given view supports, are read as pixels of unknown depth.
    known = again.depth.isfinite()
    assert torch.equal(known, supported_pixels(memory) & views.depth.isfinite())
    assert torch.allclose(again.depth[known], views.depth[known], atol=0.0005 + 1e-6, rtol=0)
    assert read_transforms(folder).size == tuple(views.image.shape[2:])


def test_the_file_names_what_nerfstudio_asks_for(memory, folder):
    data = json.loads((folder / "transforms.json").read_text())
    assert data["ply_file_path"] == "surfels.ply"
    assert data["depth_unit_scale_factor"] == 0.001
    for frame in data["frames"]:
        for key in ("file_path", "depth_file_path", "mask_path"):
            assert (folder / frame[key]).is_file()
    # Camera axes are OpenGL's: y is up and z back, so these columns of the matrix are turned round.
    pose = np.array(data["frames"][1]["transform_matrix"])
    ours = memory.views.cameras.world_from_cam[1].numpy() * [1, -1, -1, 1]
    np.testing.assert_allclose(pose, ours, atol=1e-6)


def test_the_point_cloud_is_in_the_frame_of_the_cameras(memory, folder, tmp_path):
    ply(memory, tmp_path / "a.ply")
    assert (folder / "surfels.ply").read_bytes() == (tmp_path / "a.ply").read_bytes()
    body = (folder / "surfels.ply").read_bytes().partition(b"end_header\n")[2]
    first = np.frombuffer(body[:12], "<f4")
    np.testing.assert_array_equal(first, memory.surfels.position[0])


def test_masks_are_the_supported_pixels(memory, folder):
    supported = supported_pixels(memory)
    for i in range(len(memory)):
        mask = np.asarray(Image.open(folder / "masks" / f"{i:05d}.png"))
        assert set(np.unique(mask)) <= {0, 255}
        np.testing.assert_array_equal(mask == 255, supported[i])
    assert supported[0].all()  # the given view
    assert 0.1 < supported[1].float().mean() < 0.9  # turned by 30 of 70 degrees
    assert not supported[4].any()  # turned by 120 degrees


def plane(depth: torch.Tensor, x: float = 0.0) -> Views:
    """A view [1 3 4 8] of 90 degrees that stands at x and sees this depth; grey."""
    pose = torch.eye(4)[None].clone()
    pose[0, 0, 3] = x
    image = torch.full((1, 3, 4, 8), 0.5)
    of = cameras(pose, intrinsics(90.0, 2.0))
    return Views(of, image, torch.ones(1).bool(), depth, torch.full((1, 4, 8), 2.0))


def generated(views: Views) -> Views:
    return views.replace(given=torch.zeros(len(views)).bool())


def test_support_ends_where_the_given_image_ends():
    """At 2 metres, 8 pixels are 4 metres wide: a step of 1 metre shifts the image by 2 of them."""
    depth = torch.full((1, 4, 8), 2.0)
    memory = write(begin(plane(depth)), generated(plane(depth, x=1.0)))
    expected = torch.tensor([True] * 6 + [False] * 2).expand(4, 8)
    assert torch.equal(supported_pixels(memory)[1], expected)


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        (2.0, 2.09, True),  # 4.5 % farther than the surface
        (2.0, 2.11, False),
        (2.0, 1.5, False),  # in the air, where the given view sees through
        (torch.inf, 2.0, False),  # likewise, before the sky
        (torch.inf, torch.inf, True),
        (2.0, torch.inf, False),
        (2.0, torch.nan, False),
        (torch.nan, 2.0, False),
    ],
)
def test_a_pixel_is_supported_where_both_views_show_the_same(there, here, expected):
    shown, made = (torch.full((1, 4, 8), 2.0) for _ in range(2))
    shown[0, :, 4:], made[0, :, 4:] = there, here
    memory = write(begin(plane(shown)), generated(plane(made)))
    # A write may drop generated depth that a given view sees through: then it is unknown.
    assert supported_pixels(memory)[1, :, 4:].all() == expected
    assert supported_pixels(memory)[1, :, 4:].any() == expected
    assert supported_pixels(memory)[1, :, :4].all()


def test_sky_is_read_back(tmp_path):
    depth = torch.full((1, 4, 8), 2.0)
    depth[0, 0] = torch.inf
    nerfstudio(begin(plane(depth)), tmp_path / "scene")
    torch.testing.assert_close(load_capture(tmp_path / "scene").depth, depth)


def test_other_folders_and_empty_memories_are_refused(memory, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="new folder"):
        nerfstudio(memory, tmp_path)
    with pytest.raises(ValueError, match="views"):
        nerfstudio(Memory.empty(), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
