"""Recordings, and the folders that they come in."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from vmemkit.core import (
    Views,
    cameras,
    intrinsics,
    invert,
    look_at,
    resize,
    save_depth,
    save_image,
    unproject,
    views,
)
from vmemkit.scenes import capture, load_capture, rooms, save_capture

# ---- captures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded() -> Views:
    """Three views of a room, a step and a turn apart."""
    house = rooms(seed=1)
    position = house.centres[0] + torch.tensor([[0.0, 0, 0], [0.3, 0, 0.1], [0.2, 0, -0.3]])
    ahead = torch.tensor([[0.3, 0.2, 1.0], [0.5, 0.2, 1.0], [0.1, 0.3, 1.0]])
    lens = intrinsics(75.0, 4 / 3)
    return house.render(cameras(look_at(position, position + ahead), lens), 48, 64)


def test_a_capture_shows_its_views_in_any_order(recorded):
    order = [2, 0, 2]
    shown = capture(recorded).render(recorded.cameras[order], 48, 64)
    assert torch.equal(shown.image, recorded.image[order])
    assert torch.equal(shown.depth, recorded.depth[order])


def test_a_capture_sees_the_points_of_its_depth_and_none_well_behind_them(recorded):
    scene = capture(recorded)
    surface = unproject(recorded.cameras, recorded.depth).flatten(1, 2)
    behind = unproject(recorded.cameras, recorded.depth * 1.05).flatten(1, 2)
    for i in range(3):
        assert scene.visible(surface[i], recorded.cameras[i : i + 1]).all()
        assert not scene.visible(behind[i], recorded.cameras[i : i + 1]).any()


def test_a_capture_agrees_with_the_house_it_recorded(recorded):
    points = unproject(recorded.cameras, recorded.depth).reshape(-1, 3)
    truth = rooms(seed=1).visible(points, recorded.cameras)
    agree = capture(recorded).visible(points, recorded.cameras) == truth
    assert agree.float().mean() > 0.97


def test_nothing_is_visible_where_depth_is_unknown(recorded):
    unknown = recorded.replace(depth=torch.full_like(recorded.depth, math.nan))
    points = unproject(recorded.cameras, recorded.depth).reshape(-1, 3)
    assert not capture(unknown).visible(points, recorded.cameras).any()


def test_a_capture_refuses_cameras_and_sizes_it_did_not_record(recorded):
    scene = capture(recorded)
    moved = recorded.cameras.world_from_cam.clone()
    moved[1, 0, 3] += 0.01
    others = recorded.cameras.replace(world_from_cam=moved)
    with pytest.raises(ValueError, match="camera 1 is none of the 3 recorded ones"):
        scene.render(others, 48, 64)
    with pytest.raises(ValueError, match="camera 1 is none"):
        scene.visible(torch.zeros(1, 3), others)
    with pytest.raises(ValueError, match="recorded at"):
        scene.render(recorded.cameras, 24, 32)


def test_a_capture_needs_views_depth_and_a_tolerance(recorded):
    for bad in (recorded[:0], recorded.replace(depth=None)):
        with pytest.raises(ValueError, match="needs views with depth"):
            capture(bad)
    with pytest.raises(ValueError, match="tolerance"):
        capture(recorded, tolerance=-0.1)


# ---- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["opengl", "opencv"])
def test_a_saved_capture_loads_as_it_was(recorded, tmp_path, convention):
    save_capture(recorded, tmp_path / "room", convention)
    loaded = load_capture(tmp_path / "room", convention)
    assert torch.allclose(loaded.image, recorded.image, atol=0.51 / 255)
    assert torch.allclose(loaded.depth, recorded.depth, atol=0.00051)
    assert torch.allclose(loaded.cameras.K, recorded.cameras.K, atol=1e-6)
    poses = loaded.cameras.world_from_cam
    assert torch.allclose(poses, recorded.cameras.world_from_cam, atol=1e-6)
    assert capture(loaded).visible(torch.zeros(1, 3), recorded.cameras).shape == (3, 1)


@pytest.mark.parametrize("scale", [1.0, 1000.0, 1e-5])
def test_depth_of_any_size_survives_with_its_holes(recorded, tmp_path, scale):
    depth = recorded.depth * scale
    depth[0] = math.nan
    depth[1, :20] = math.nan
    save_capture(recorded.replace(depth=depth), tmp_path / "room")
    loaded = load_capture(tmp_path / "room").depth
    assert torch.allclose(loaded, depth, rtol=1e-3, equal_nan=True)


def test_views_without_depth_are_saved_without(recorded, tmp_path):
    save_capture(recorded.replace(depth=None), tmp_path / "room")
    assert load_capture(tmp_path / "room").depth is None


def test_the_unit_of_depth_is_the_callers_then_the_files(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room", depth_unit=0.002)
    assert torch.allclose(load_capture(tmp_path / "room").depth, recorded.depth, atol=0.0011)
    doubled = load_capture(tmp_path / "room", depth_unit=0.004).depth
    assert torch.allclose(doubled, 2 * recorded.depth, atol=0.0022)


def test_coarse_depth_is_brought_to_the_images_size(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room")
    coarse = resize(recorded, 24, 32).depth
    for i in range(3):
        save_depth(tmp_path / f"room/depth/{i:05d}.png", coarse[i])
    loaded = load_capture(tmp_path / "room").depth
    assert torch.allclose(loaded[:, ::2, ::2], coarse, atol=0.00051)
    save_depth(tmp_path / "room/depth/00001.png", coarse[1, :, :20])
    with pytest.raises(ValueError, match=r"00001.png .* same part of the scene"):
        load_capture(tmp_path / "room")


def test_opengl_poses_are_turned_into_our_axes(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room", "opencv")
    file = tmp_path / "room/transforms.json"
    data = json.loads(file.read_text())
    for frame in data["frames"]:
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        frame["transform_matrix"] = matrix.tolist()
    file.write_text(json.dumps(data))
    poses = load_capture(tmp_path / "room").cameras.world_from_cam
    assert torch.allclose(poses @ invert(poses), torch.eye(4), atol=1e-5)
    assert torch.allclose(poses, recorded.cameras.world_from_cam, atol=1e-6)


def test_saving_never_touches_a_folder_with_something_in_it(recorded, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "mine", tmp_path / "mine/letter.txt", tmp_path / "no/where"):
        with pytest.raises(ValueError, match="needs to be a new folder"):
            save_capture(recorded, bad)
    save_capture(recorded, tmp_path / "empty")
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


def test_a_save_that_fails_leaves_nothing(recorded, tmp_path):
    K = recorded.cameras.K.clone()
    K[:, 0, 1] = 0.1
    skewed = recorded.replace(cameras=recorded.cameras.replace(K=K))
    with pytest.raises(ValueError, match="skew"):
        save_capture(skewed, tmp_path / "room")
    with pytest.raises(ValueError, match="at least one view"):
        save_capture(recorded[:0], tmp_path / "room")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_no_captures_are_refused(recorded, tmp_path):
    with pytest.raises(ValueError, match="transforms"):
        load_capture(tmp_path)
    save_capture(recorded, tmp_path / "room")
    save_image(tmp_path / "room/images/00001.png", recorded.image[1, :, :20])
    with pytest.raises(ValueError, match="need one size"):
        load_capture(tmp_path / "room")
    (tmp_path / "room/images/00001.png").unlink()
    with pytest.raises(ValueError, match="frame 1"):
        load_capture(tmp_path / "room")


def test_a_trajectory_without_images_is_no_capture(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room")
    file = tmp_path / "room/transforms.json"
    data = json.loads(file.read_text())
    for frame in data["frames"]:
        del frame["file_path"], frame["depth_file_path"]
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="give every frame a file_path"):
        load_capture(tmp_path / "room")


def test_a_loaded_capture_is_checked_views(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room")
    loaded = load_capture(tmp_path / "room")
    again = views(loaded.image, loaded.cameras, loaded.depth)
    assert loaded.given.all()
    assert torch.equal(again.image, loaded.image)
