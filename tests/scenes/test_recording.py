"""Recordings, and the folders that they come in."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vmemkit.core import (
    Views,
    cameras,
    image_bytes,
    intrinsics,
    invert,
    load_depth,
    load_image,
    look_at,
    project,
    resize,
    save_depth,
    save_image,
    unproject,
    views,
)
from vmemkit.scenes import (
    add_capture,
    capture,
    load_capture,
    load_photo_depth,
    rooms,
    save_capture,
    turn_of,
)
from vmemkit.scenes.turned_photos import turn, turn_back

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


def changed(folder, change):
    """The folder, after `change` was applied to what its transforms.json holds."""
    file = folder / "transforms.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_an_applied_scale_leaves_depth_and_positions_in_one_unit(recorded, tmp_path, scale):
    save_capture(recorded, tmp_path / "room")

    def apply_scale(data):
        data["applied_scale"] = scale
        for frame in data["frames"]:
            for row in frame["transform_matrix"][:3]:
                row[3] *= scale

    loaded = load_capture(changed(tmp_path / "room", apply_scale))
    position = recorded.cameras.position
    assert torch.allclose(loaded.cameras.position, position, atol=1e-5)
    points = unproject(recorded.cameras[:1], recorded.depth[:1])[0, ::9, ::9].reshape(1, -1, 3)
    uv, _ = project(recorded.cameras, points.expand(3, -1, 3))
    seen = unproject(loaded.cameras[:1], loaded.depth[:1])[0, ::9, ::9].reshape(1, -1, 3)
    assert torch.allclose(project(loaded.cameras, seen.expand(3, -1, 3))[0], uv, atol=1e-3)


def test_depth_of_instant_ngp_is_in_its_integer_depth_scale(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room", depth_unit=10 / 65535)

    def rename(data):
        data["integer_depth_scale"] = data.pop("depth_unit_scale_factor")
        for frame in data["frames"]:
            frame["depth_path"] = frame.pop("depth_file_path")

    loaded = load_capture(changed(tmp_path / "room", rename))
    assert torch.allclose(loaded.depth, recorded.depth, atol=10 / 65535)


@pytest.mark.parametrize("by", ["names", "times"])
def test_views_come_in_the_order_in_which_they_were_taken(recorded, tmp_path, by):
    save_capture(recorded, tmp_path / "room")
    order = {0: "9", 1: "10", 2: "11"}  # as texts, 9 comes last
    for i, name in order.items():
        (tmp_path / f"room/images/{i:05d}.png").rename(tmp_path / f"room/images/f{name}.png")

    def shuffle(data):
        for i, frame in enumerate(data["frames"]):
            frame["file_path"] = f"images/f{order[i]}.png"
            if by == "times":
                frame["timestamp"] = -0.5 * i
        data["frames"] = [data["frames"][i] for i in (2, 0, 1)]

    loaded = load_capture(changed(tmp_path / "room", shuffle))
    expected = recorded if by == "names" else recorded[[2, 1, 0]]
    assert torch.allclose(loaded.image, expected.image, atol=0.51 / 255)
    assert torch.allclose(loaded.depth, expected.depth, atol=0.00051)
    assert torch.allclose(loaded.cameras.position, expected.cameras.position, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(24, 32), (96, 128), (16, 21)])
def test_copies_of_the_stated_shape_in_another_size_keep_the_lens(
    recorded, tmp_path, height, width
):
    save_capture(recorded, tmp_path / "room")
    small = resize(recorded, height, width)
    for i in range(3):
        save_image(tmp_path / f"room/images/{i:05d}.png", small.image[i])
    loaded = load_capture(tmp_path / "room")
    assert loaded.image.shape == (3, 3, height, width)
    assert loaded.depth.shape == (3, height, width)
    assert torch.allclose(loaded.cameras.K, recorded.cameras.K, atol=1e-6)


def test_images_of_another_shape_than_stated_are_refused(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room")
    for i in range(3):
        save_image(tmp_path / f"room/images/{i:05d}.png", recorded.image[i, :, 4:])
    with pytest.raises(ValueError, match=r"00000\.png is 64 x 44, and the lens .* for 64 x 48"):
        load_capture(tmp_path / "room")


def test_frames_of_two_sizes_are_refused(recorded, tmp_path):
    save_capture(recorded, tmp_path / "room")
    save_image(tmp_path / "room/images/00001.png", recorded.image[1].mT)
    folder = changed(tmp_path / "room", lambda data: [data.pop(key) for key in ("w", "h")])
    with pytest.raises(ValueError, match=r"need one size, got 64 x 48 \(.*48 x 64 \(00001"):
        load_capture(folder)


# ---- photos that EXIF turns ----------------------------------------------------------------------


def save_turned(file, image, orientation):
    """A lossless photo whose stored pixels are `image`, with a tag that turns it."""
    tag = Image.Exif()
    tag[0x112] = orientation
    Image.fromarray(image_bytes(image[None])[0]).save(file, exif=tag)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_that_of_the_loader(recorded, tmp_path, orientation):
    save_turned(tmp_path / "a.png", recorded.image[0], orientation)
    shown = load_image(tmp_path / "a.png")
    assert torch.allclose(turn(recorded.image[0], orientation), shown, atol=0.51 / 255)
    assert torch.allclose(turn_back(shown, orientation), recorded.image[0], atol=0.51 / 255)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("depth_as_stored", [True, False])
def test_a_capture_whose_lens_is_for_stored_pixels_stays_as_stored(
    recorded, tmp_path, orientation, depth_as_stored
):
    save_capture(recorded, tmp_path / "room")
    for i in range(3):
        save_turned(tmp_path / f"room/images/{i:05d}.png", recorded.image[i], orientation)
        if not depth_as_stored:
            shown = turn(recorded.depth[i], orientation)
            save_depth(tmp_path / f"room/depth/{i:05d}.png", shown)
    loaded = load_capture(tmp_path / "room")
    assert torch.allclose(loaded.image, recorded.image, atol=0.51 / 255)
    assert torch.allclose(loaded.depth, recorded.depth, atol=0.00051)
    assert torch.allclose(loaded.cameras.K, recorded.cameras.K, atol=1e-6)


def test_a_capture_whose_lens_is_for_the_shown_photo_shows_it(recorded, tmp_path):
    save_capture(recorded.replace(image=recorded.image, depth=recorded.depth), tmp_path / "room")
    for i in range(3):
        save_turned(tmp_path / f"room/images/{i:05d}.png", turn_back(recorded.image[i], 6), 6)
        save_depth(tmp_path / f"room/depth/{i:05d}.png", turn_back(recorded.depth[i], 6))
    loaded = load_capture(tmp_path / "room")
    assert torch.allclose(loaded.image, recorded.image, atol=0.51 / 255)
    assert torch.allclose(loaded.depth, recorded.depth, atol=0.00051)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_turns_that_no_shape_tells_are_refused_by_name(recorded, tmp_path, orientation):
    save_capture(recorded, tmp_path / "room")
    save_turned(tmp_path / "room/images/00001.png", recorded.image[1], orientation)
    with pytest.raises(ValueError, match=f"00001.png is turned .* EXIF orientation {orientation}"):
        load_capture(tmp_path / "room")
    photo, depth = tmp_path / "room/images/00001.png", tmp_path / "room/depth/00001.png"
    with pytest.raises(ValueError, match=r"its depth \(64 x 48\) may be for the pixels as stored"):
        load_photo_depth(photo, depth)


def test_the_depth_of_a_turned_photo_turns_with_it(recorded, tmp_path):
    save_turned(tmp_path / "a.png", recorded.image[0], 6)
    save_depth(tmp_path / "d.png", recorded.depth[0])
    depth = load_photo_depth(tmp_path / "a.png", tmp_path / "d.png")
    assert torch.equal(depth, turn(load_depth(tmp_path / "d.png"), 6))
    save_depth(tmp_path / "d.png", turn(recorded.depth[0], 6))
    assert torch.equal(load_photo_depth(tmp_path / "a.png", tmp_path / "d.png"), depth)


def test_a_square_that_is_turned_leaves_open_what_fits_it(recorded, tmp_path):
    save_turned(tmp_path / "a.png", recorded.image[0, :, :, :48], 6)
    with pytest.raises(ValueError, match="EXIF orientation 6"):
        turn_of(tmp_path / "a.png", (48, 48), "the lens")
    assert turn_of(tmp_path / "a.png", (48, 64), "the lens") == 1  # it does not fit at all


# ---- captures among other files ------------------------------------------------------------------


def test_a_capture_is_added_to_other_files_and_replaces_its_like(recorded, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    add_capture(recorded, tmp_path)
    (tmp_path / "images" / ".DS_Store").write_text("")
    add_capture(recorded[:2].replace(depth=None), tmp_path)
    loaded = load_capture(tmp_path)
    assert torch.allclose(loaded.image, recorded.image[:2], atol=0.51 / 255)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"letter.txt", "images", "transforms.json"}
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "00000.png",
        "00001.png",
    ]


def test_a_capture_is_not_added_where_others_keep_their_images(recorded, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.png").write_text("mine")
    with pytest.raises(ValueError, match=r"images holds other files \(holiday.png\)"):
        add_capture(recorded, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    with pytest.raises(ValueError, match="is a file"):
        add_capture(recorded, tmp_path / "images" / "holiday.png")


def test_cameras_that_zoom_are_written_with_a_lens_each(recorded, tmp_path):
    K = recorded.cameras.K.clone()
    K[:, [0, 1], [0, 1]] *= torch.tensor([1.0, 1.5, 2.0])[:, None]
    K[:, 0, 2] = 0.4
    save_capture(recorded.replace(cameras=recorded.cameras.replace(K=K)), tmp_path / "room")
    assert torch.allclose(load_capture(tmp_path / "room").cameras.K, K, atol=1e-6)


def test_depth_arrays_are_in_the_unit_that_nerfstudio_takes_for_granted(recorded, tmp_path):
    depth = recorded.depth * 1000
    save_capture(recorded.replace(depth=depth), tmp_path / "room")
    stored = torch.from_numpy(np.load(tmp_path / "room/depth/00000.npy"))
    assert torch.allclose(stored * 0.001, depth[0], rtol=1e-6)
    data = json.loads((tmp_path / "room/transforms.json").read_text())
    assert data["depth_unit_scale_factor"] == 0.001


def test_saving_never_touches_a_folder_with_something_in_it(recorded, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "mine", tmp_path / "mine/letter.txt", tmp_path / "no/where"):
        with pytest.raises(ValueError, match="needs to be a new folder"):
            save_capture(recorded, bad)
    (tmp_path / "empty/.DS_Store").write_text("")
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
