"""Context-as-Memory and MIND: small folders in their layouts, and Unreal's axes worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recording_helpers import house_views

from vmemkit.core import cameras, intrinsics, save_image, save_video
from vmemkit.scenes import find_source, load, unreal_placement
from vmemkit.scenes.readers.unreal import unreal_poses

H = 0.5**0.5


def write_context_as_memory(root: Path, **changes) -> Path:
    """Three frames: at the origin, two metres ahead, and there turned by 90 degrees to the right."""
    frames = {
        "0": {"position": [0, 0, 150], "rotation": [0, 0, 0], "scale": [1, 1, 1]},
        "1": {"position": [200, 0, 150], "rotation": [0, 0, 0], "scale": [1, 1, 1]},
        "10": {"position": [200, 100, 150], "rotation": [0.0, -0.0, 90.0], "scale": [1, 1, 1]},
    } | changes
    for part in ("frames/Room_1", "jsons", "overlap_labels/Room_1"):
        (root / part).mkdir(parents=True)
    for i, image in zip((0, 1, 10), house_views(3, 12, 16).image, strict=True):
        save_image(root / "frames" / "Room_1" / f"{i:04d}.png", image)
        label = {"frame_index": i, "overlapping_frames": ["1"]}
        (root / "overlap_labels" / "Room_1" / f"{i}.json").write_text(json.dumps(label))
    (root / "captions.txt").write_text("Room_1/0000_0010.mp4\tA room.\n")
    (root / "jsons" / "Room_1.json").write_text(json.dumps({"CineCameraActor": frames}))
    return root / "frames" / "Room_1"


def write_mind(folder: Path, who: str = "actor", **changes) -> Path:
    """Three frames of a video of five: at a place, a metre to its right, and looking up there."""

    def xyz(x: float, y: float, z: float) -> dict[str, float]:
        return {"x": x, "y": y, "z": z}

    places, angles = [(0, 0, 0), (0, 100, 0), (0, 100, 50)], [(0, 0, 0), (0, 0, 0), (0, 30, 0)]
    entries = []
    for t, place, angle in zip((0, 2, 3), places, angles, strict=True):
        entry = {"time": t, "ws": 0, "ad": 2, "ud": 0, "lr": 0}
        entry |= {"actor_pos": xyz(9, 9, 9), "actor_rpy": xyz(0, 0, 45)}
        entries.append(entry | {f"{who}_pos": xyz(*place), f"{who}_rpy": xyz(*angle)})
    data = {"mark_time": 2, "total_time": 5, "caption": "A room.", "data": entries} | changes
    folder.mkdir(parents=True)
    (folder / "action.json").write_text(json.dumps(data))
    save_video(folder / "video.mp4", house_views(5, 32, 48).image, 24.0)
    return folder


@pytest.mark.parametrize(
    ("roll_pitch_yaw", "right", "down", "ahead"),
    [
        # In our world, x is to the right, y down and z ahead.
        ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, 0, 90), (0, 0, -1), (0, 1, 0), (1, 0, 0)),  # to the right
        ((0, 30, 0), (1, 0, 0), (0, 3**0.5 / 2, 0.5), (0, -0.5, 3**0.5 / 2)),  # up
        ((90, 0, 0), (0, 1, 0), (-1, 0, 0), (0, 0, 1)),  # the right side down
        ((0, 45, 90), (0, 0, -1), (H, H, 0), (H, -H, 0)),  # up, to the right
        ((90, 0, 90), (0, 1, 0), (0, 0, 1), (1, 0, 0)),
    ],
)
def test_angles_of_unreal_worked_by_hand(roll_pitch_yaw, right, down, ahead):
    [pose] = unreal_poses(np.array([[100.0, 200.0, 300.0]]), np.array([roll_pitch_yaw], float))
    assert np.allclose(pose[:3, :3], np.array([right, down, ahead]).T, atol=1e-12)
    assert pose[:3, 3].tolist() == [2.0, -3.0, 1.0]  # Unreal's y, -z and x in metres
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


def test_placements_of_level_cameras_are_the_inverse_and_others_are_refused():
    position = np.array([[10.0, -20.0, 30.0], [1.0, 2.0, 3.0]])
    poses = unreal_poses(position, np.array([[0.0, 0.0, -120.0], [0.0, 0.0, 35.0]]))
    where, yaw = unreal_placement(cameras(torch.from_numpy(poses), torch.eye(3)))
    assert np.allclose(where, position, atol=1e-4)
    assert np.allclose(yaw, [-120.0, 35.0], atol=1e-4)
    up = unreal_poses(position[:1], np.array([[0.0, 1.0, 0.0]]))
    with pytest.raises(ValueError, match="need level cameras"):
        unreal_placement(cameras(torch.from_numpy(up), torch.eye(3)))


def test_a_scene_of_context_as_memory_is_read(tmp_path):
    path = write_context_as_memory(tmp_path)
    recording = load(path, fov=60.0)
    assert recording.what == "scene of Context-as-Memory"
    assert recording.scale == "metres"
    assert recording.views.image.shape == (3, 3, 12, 16)
    assert recording.views.depth is None
    place = recording.cameras.position
    assert torch.allclose(place, torch.tensor([[0, -1.5, 0], [0, -1.5, 2], [1, -1.5, 2]]))
    assert torch.allclose(
        recording.cameras.world_from_cam[2, :3, 2], torch.tensor([1.0, 0, 0]), atol=1e-6
    )
    assert torch.allclose(recording.cameras.K[0], intrinsics(60.0, 16 / 12))
    # Frame 10 comes after frame 1.
    assert [file.name for file in find_source(path).images] == ["0000.png", "0001.png", "0010.png"]


def test_of_all_scenes_one_must_be_named_and_the_lens_must_be_given(tmp_path):
    path = write_context_as_memory(tmp_path)
    with pytest.raises(ValueError, match=r"holds 1 scenes: give .*frames/SCENE. They are Room_1"):
        load(tmp_path)
    with pytest.raises(ValueError, match="states no lens: give fov"):
        load(path)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"position": [0, 0, 0], "rotation": [0, 5, 0]}, "only level cameras can be read"),
        ({"position": [0, 0], "rotation": [0, 0, 0]}, "1, position must be a list of 3 numbers"),
        ({"position": [0, 0, 1e99], "rotation": [0, 0, 0]}, "position must be a number within"),
        ([], "1 must be an object, got a list of 0"),
    ],
)
def test_wrong_cameras_of_context_as_memory_are_refused(tmp_path, frame, message):
    path = write_context_as_memory(tmp_path, **{"1": frame})
    with pytest.raises(ValueError, match=message):
        load(path, fov=60.0)


def test_images_without_a_camera_are_left_out_and_counted(tmp_path):
    path = write_context_as_memory(tmp_path)
    save_image(path / "0011.png", torch.zeros(3, 12, 16))
    recording = load(path, fov=60.0)
    assert len(recording.cameras) == 3
    assert "1 of 4 images have no camera: left out" in recording.notes


@pytest.mark.parametrize("who", ["actor", "camera"])
def test_a_video_of_mind_is_read(tmp_path, who):
    recording = load(write_mind(tmp_path / "data-1", who), fov=90.0)
    third = who == "camera"
    assert recording.what == f"video of MIND, {'third' if third else 'first'} person"
    assert any("the character's were taken" in note for note in recording.notes) is not third
    assert any("the frames before 2" in note for note in recording.notes)
    place = recording.cameras.position
    assert torch.allclose(place, torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, -0.5, 0]]))
    ahead = recording.cameras.world_from_cam[2, :3, 2]
    assert torch.allclose(ahead, torch.tensor([0, -0.5, 3**0.5 / 2]), atol=1e-6)
    assert recording.times == pytest.approx((0, 2 / 24, 3 / 24))
    # Frames 0, 2 and 3 of the video, which is compressed.
    shown = house_views(5, 32, 48).image[[0, 2, 3]]
    assert (recording.views.image - shown).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": []}, "needs a list of 1 to 30000 frames"),
        ({"data": [3]}, "each frame under 'data' must be an object"),
        ({"data": [{"time": 0.5}]}, "must be the number of a frame, got 0.5"),
        ({"data": [{"time": 0}, {"time": 0}]}, "times must grow"),
        ({"data": [{"time": 0, "actor_pos": 3}]}, "needs actor_pos with x, y and z, got 3"),
        ({"data": [{"time": 0, "actor_pos": {"x": 0, "y": 0}}]}, "actor_pos, z must be a number"),
        ({"mark_time": "soon"}, "mark_time must be a number"),
    ],
)
def test_wrong_files_of_mind_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load(write_mind(tmp_path / "data-1", **change), fov=90.0)


def test_links_out_of_a_folder_of_mind_are_refused(tmp_path):
    path = write_mind(tmp_path / "data-1")
    (path / "action.json").rename(tmp_path / "action.json")
    (path / "action.json").symlink_to(tmp_path / "action.json")
    with pytest.raises(ValueError, match="leads out of"):
        load(path, fov=90.0)


def test_camera_texts_of_iworld_bench_are_those_of_realestate10k(tmp_path):
    """81 cameras that push forward: the first line is empty, and all times are 0."""
    lens = "0 0.532139961 0.946026558 0.5 0.5 0 0"
    rows = [f"{lens} 1.0 0.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 0.0 1.0 {-2 * i / 81}" for i in range(81)]
    (tmp_path / "camera_1_1_0.txt").write_text("\n" + "\n".join(rows))
    recording = load(tmp_path / "camera_1_1_0.txt")
    assert recording.what == "text of RealEstate10K"
    assert torch.allclose(recording.cameras.position[:, 2], 2 * torch.arange(81) / 81)
    # Some of its programs write the rotation first and then the position, which is refused.
    rows = [f"{lens} 1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0 0.0 0.0 {i / 81}" for i in range(81)]
    (tmp_path / "TartanAir_camera_001.txt").write_text("\n".join(rows))
    with pytest.raises(ValueError, match="line 1: the matrix must be rigid"):
        load(tmp_path / "TartanAir_camera_001.txt")
