"""Camera files: round trips in every convention, what other programs write, and hostile files."""

import copy
import json
import math
import os
import random
import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vmemkit import core
from vmemkit.core import intrinsics, pose, project
from vmemkit.scenes import (
    read_realestate10k,
    read_transforms,
    write_realestate10k,
    write_transforms,
)

several = settings(deadline=None, max_examples=20)
IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def random_cameras(t, seed, spread=5.0, one_lens=False):
    rng = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(t, 3, 3, generator=rng))
    Q = Q * torch.linalg.det(Q)[:, None, None]
    K = torch.eye(3).repeat(t, 1, 1)
    K[:, [0, 1], [0, 1]] = 0.3 + torch.rand(t, 2, generator=rng)
    K[:, :2, 2] = torch.rand(t, 2, generator=rng)
    K = K[:1].expand(t, 3, 3) if one_lens else K
    return core.cameras(pose(Q, spread * torch.randn(t, 3, generator=rng)), K)


def assert_same(a, b, atol=1e-5):
    torch.testing.assert_close(a.world_from_cam, b.world_from_cam, atol=atol, rtol=1e-5)
    torch.testing.assert_close(a.K, b.K, atol=1e-5, rtol=1e-5)


def capture(folder, **changes):
    """A folder with two images and their transforms.json, changed as told; DROP removes a key."""
    for i in range(2):
        Image.new("RGB", (8, 6)).save(folder / f"{i}.png")
    frames = [{"file_path": f"{i}.png", "transform_matrix": IDENTITY} for i in range(2)]
    data = {"w": 8, "h": 6, "fl_x": 8, "fl_y": 6, "cx": 4, "cy": 3, "frames": frames} | changes
    data = {key: value for key, value in data.items() if value != "DROP"}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


# --- transforms.json ------------------------------------------------------------------------------


@several
@given(st.integers(1, 5), st.integers(0, 99), st.sampled_from(["opengl", "opencv"]), st.booleans())
def test_transforms_that_are_written_and_read_are_the_same(
    tmp_path_factory, t, seed, convention, one_lens
):
    folder = tmp_path_factory.mktemp("capture")
    cameras = random_cameras(t, seed, one_lens=one_lens)
    write_transforms(folder, cameras, (480, 640), convention=convention)
    read = read_transforms(folder / "transforms.json", convention)
    assert_same(read.cameras, cameras)
    assert read.size == (480, 640)
    assert read.images == ()
    assert read.depths == (None,) * t


def test_an_opengl_camera_looks_along_its_negative_z(tmp_path):
    read = read_transforms(capture(tmp_path)).cameras
    torch.testing.assert_close(read.forward[0], torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(read.rotation[0, :, 1], torch.tensor([0.0, -1.0, 0.0]))
    read = read_transforms(tmp_path, "opencv").cameras
    torch.testing.assert_close(read.world_from_cam[0], torch.eye(4))


def test_the_positions_and_the_world_frame_stay_the_files_own(tmp_path):
    matrix = [[1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]]
    folder = capture(tmp_path, frames=[{"file_path": "0.png", "transform_matrix": matrix}])
    position = read_transforms(folder).cameras.position[0]
    torch.testing.assert_close(position, torch.tensor([3.0, 4.0, 5.0]))


def test_files_are_named_relative_to_the_json_and_found_again(tmp_path):
    capture(tmp_path)
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "1.png").write_bytes(b"")
    cameras = random_cameras(2, 0)
    images, depths = ["0.png", tmp_path / "1.png"], [None, "depth/1.png"]
    write_transforms(tmp_path, cameras, (6, 8), images, depths)
    read = read_transforms(tmp_path)
    assert [path.name for path in read.images] == ["0.png", "1.png"]
    assert read.depths == (None, tmp_path.resolve() / "depth" / "1.png")
    assert read.depth_unit == 0.001


def test_depth_arrays_are_written_in_their_usual_unit_unless_told_otherwise(tmp_path):
    for dtype, unit, expected in (("f4", None, 1.0), ("u2", None, 0.001), ("u2", 0.5, 0.5)):
        np.save(tmp_path / "0.npy", np.ones((6, 8), dtype))
        write_transforms(tmp_path, random_cameras(1, 0), (6, 8), depths=["0.npy"], depth_unit=unit)
        assert read_transforms(tmp_path).depth_unit == expected


def test_a_file_that_does_not_state_its_depth_unit_has_none(tmp_path):
    assert read_transforms(capture(tmp_path)).depth_unit is None


def test_intrinsics_are_of_a_one_by_one_image(tmp_path):
    K = read_transforms(capture(tmp_path)).cameras.K[0]
    torch.testing.assert_close(K, torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]))


def test_an_angle_and_the_first_image_are_intrinsics_enough(tmp_path):
    drop = dict.fromkeys(["w", "h", "fl_x", "fl_y", "cx", "cy"], "DROP")
    read = read_transforms(capture(tmp_path, camera_angle_x=math.pi / 2, **drop))
    torch.testing.assert_close(read.cameras.K[0], intrinsics(90.0, 8 / 6))
    assert read.size == (6, 8)


def test_intrinsics_of_a_frame_come_before_those_of_the_file(tmp_path):
    frames = [
        {"file_path": f"{i}.png", "transform_matrix": IDENTITY, "fl_x": 8 * (i + 1), "w": 8 + i}
        for i in range(2)
    ]
    read = read_transforms(capture(tmp_path, frames=frames))
    assert read.cameras.K[:, 0, 0].tolist() == pytest.approx([1.0, 16 / 9])
    assert read.size is None


def test_a_name_without_its_png_is_found(tmp_path):
    frames = [{"file_path": "./0", "transform_matrix": IDENTITY}]
    read = read_transforms(capture(tmp_path, frames=frames))
    assert read.images[0].name == "0.png"


def test_duplicate_keys_are_tolerated(tmp_path):
    capture(tmp_path)
    text = (tmp_path / "transforms.json").read_text()
    (tmp_path / "transforms.json").write_text('{"w": 99, ' + text[1:])
    assert read_transforms(tmp_path).size == (6, 8)


def test_zero_distortion_is_welcome(tmp_path):
    zero = {"k1": 0, "k2": 0.0, "p1": 0, "camera_model": "OPENCV", "distortion_params": [0.0] * 6}
    assert len(read_transforms(capture(tmp_path, **zero)).images) == 2


HOSTILE_TEXTS = {
    "empty": "",
    "not JSON": "{",
    "a list": "[]",
    "null": "null",
    "deeply nested": "[" * 100_000,
    "not UTF-8": b"\xff\xfe\x00{",
    "a huge number": '{"frames": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_a_file_that_is_no_object_is_refused_by_name(tmp_path, name):
    text = HOSTILE_TEXTS[name]
    (tmp_path / "transforms.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"transforms\.json"):
        read_transforms(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": "DROP"}, "frames"),
        ({"frames": []}, "frames"),
        ({"frames": {}}, "frames"),
        ({"frames": [3]}, "frame 0"),
        ({"fl_x": "DROP"}, "frame 0: fl_x or camera_angle_x"),
        ({"fl_x": "8"}, "frame 0: fl_x"),
        ({"fl_x": True}, "frame 0: fl_x"),
        ({"fl_x": 0}, "positive"),
        ({"fl_x": -3}, "positive"),
        ({"fl_x": math.nan}, "frame 0: fl_x"),
        ({"fl_y": math.inf}, "frame 0: fl_y"),
        ({"fl_x": 10**400}, "frame 0: fl_x"),
        ({"fl_y": [6]}, "frame 0: fl_y"),
        ({"cx": {}}, "frame 0: cx"),
        ({"w": 0}, "frame 0: w"),
        ({"h": -6}, "frame 0: h"),
        ({"w": 7.5}, "frame 0: w must be a whole number"),
        ({"fl_x": "DROP", "camera_angle_x": 4}, "below pi"),
        ({"k1": 0.1}, "undistort"),
        ({"p2": -1e-9}, "undistort"),
        ({"k1": "much"}, "k1"),
        ({"distortion_params": [0.1, 0]}, "undistort"),
        ({"is_fisheye": True}, "undistort"),
        ({"camera_model": "OPENCV_FISHEYE"}, "pinhole"),
        ({"camera_model": 3}, "pinhole"),
        ({"depth_unit_scale_factor": 0}, "depth_unit_scale_factor"),
        ({"depth_unit_scale_factor": "mm"}, "depth_unit_scale_factor"),
    ],
)
def test_hostile_values_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        read_transforms(capture(tmp_path, **changes))
    assert "transforms.json" in str(error.value)


def test_a_matrix_may_lack_its_last_row(tmp_path):
    matrix = [[1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 1, 5]]
    frames = [{"file_path": "0.png", "transform_matrix": matrix}]
    position = read_transforms(capture(tmp_path, frames=frames)).cameras.position[0]
    torch.testing.assert_close(position, torch.tensor([3.0, 4.0, 5.0]))


def test_all_missing_files_are_listed(tmp_path):
    frames = [{"file_path": f"{i}.png", "transform_matrix": IDENTITY} for i in range(5)]
    with pytest.raises(
        ValueError, match=r"frame 2: file_path must .* 3 files are missing"
    ) as error:
        read_transforms(capture(tmp_path, frames=frames))
    assert str(error.value).endswith("'2.png', '3.png', '4.png'")


def scaled(rows, factor):
    return [[value * factor for value in row] for row in rows]


@pytest.mark.parametrize(
    "matrix",
    [
        None,
        3,
        [],
        IDENTITY[:2],
        [row[:3] for row in IDENTITY],
        [*IDENTITY[:3], "abcd"],
        [*IDENTITY[:3], [0, 0, 0, None]],
        [*IDENTITY[:3], [0, 0, 0, math.nan]],
        [*IDENTITY[:3], [0, 0, 0, 2]],
        [*IDENTITY[:3], [0, 0, 1, 1]],
        [[1, 0, 0, 1e12], *IDENTITY[1:]],
        [[-1, 0, 0, 0], *IDENTITY[1:]],
        [[1, 0.5, 0, 0], *IDENTITY[1:]],
        [[0, 0, 0, 0], *IDENTITY[1:]],
        scaled(IDENTITY, 2),
    ],
)
def test_a_matrix_that_is_no_pose_is_refused_with_its_frame(tmp_path, matrix):
    frames = [
        {"file_path": "0.png", "transform_matrix": IDENTITY},
        {"file_path": "1.png", "transform_matrix": matrix},
    ]
    with pytest.raises(ValueError, match=r"transforms\.json, frame 1.*matrix"):
        read_transforms(capture(tmp_path, frames=frames))


@pytest.mark.parametrize("key", ["file_path", "depth_file_path"])
@pytest.mark.parametrize(
    "name",
    [
        *("missing.png", "", ".", "..", "../outside.png", "sub/../../outside.png", "link.png"),
        *("a\0b.png", "x" * 5000, "loop.png", 3, ["0.png"], True, {}),
    ],
)
def test_a_file_that_is_missing_or_outside_the_folder_is_refused(tmp_path, key, name):
    folder = tmp_path / "capture"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    frames = [{"file_path": "0.png", "transform_matrix": IDENTITY, key: name}]
    with pytest.raises(ValueError, match=rf"frame 0: {key}"):
        read_transforms(capture(folder, frames=frames))


def test_an_absolute_name_is_refused_even_inside_the_folder(tmp_path):
    frames = [{"file_path": str(tmp_path / "0.png"), "transform_matrix": IDENTITY}]
    with pytest.raises(ValueError, match="relative to the folder"):
        read_transforms(capture(tmp_path, frames=frames))


def test_frames_with_and_without_an_image_are_refused(tmp_path):
    frames = [{"file_path": "0.png", "transform_matrix": IDENTITY}, {"transform_matrix": IDENTITY}]
    with pytest.raises(ValueError, match="give every frame its image"):
        read_transforms(capture(tmp_path, frames=frames))


def test_a_bare_trajectory_must_state_its_size(tmp_path):
    frames = [{"transform_matrix": IDENTITY}]
    with pytest.raises(ValueError, match="add w and h"):
        read_transforms(capture(tmp_path, frames=frames, w="DROP"))


def test_too_many_frames_are_refused(tmp_path):
    (tmp_path / "transforms.json").write_text('{"frames": [' + "{}," * 30_000 + "{}]}")
    with pytest.raises(ValueError, match="1 to 30000 frames, got 30001"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("read", [read_transforms, read_realestate10k])
def test_an_enormous_or_missing_file_is_refused_unread(tmp_path, read):
    with (tmp_path / "transforms.json").open("wb") as file:
        file.truncate(10**12)
    for name in ("transforms.json", "missing.json", "a\0b.json", "x" * 300):
        with pytest.raises(ValueError, match="cannot read"):
            read(tmp_path / name)


def test_a_convention_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(ValueError, match="opengl"):
        read_transforms(capture(tmp_path), "blender")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (0, 8)}, "size"),
        ({"images": ["0.png"]}, "one file_path per camera"),
        ({"images": ["../a.png", "1.png"]}, "must lie in"),
        ({"depths": ["/a.png", "1.png"]}, "must lie in"),
        ({"masks": ["../a.png", "1.png"]}, "must lie in"),
        ({"masks": ["1.png"]}, "one mask_path per camera"),
        ({"points": "../a.ply"}, "must lie in"),
        ({"depths": ["0.npy", "1.png"]}, r"0\.npy"),
        ({"depths": ["0.npy", "1.npy"], "depth_unit": math.nan}, "depth_unit"),
        ({"convention": "blender"}, "convention"),
    ],
)
def test_transforms_that_cannot_be_written_leave_nothing(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_transforms(tmp_path, random_cameras(2, 0), **({"size": (6, 8)} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_cameras_that_a_file_cannot_hold_are_refused_and_nothing_is_written(tmp_path):
    skewed = random_cameras(2, 0)
    K = skewed.K.clone()
    K[:, 0, 1] = 0.1
    path = tmp_path / "cameras.txt"
    for cameras in (skewed.replace(K=K), skewed[0], skewed[:0]):
        with pytest.raises(ValueError, match=r"need a path|skew"):
            write_realestate10k(path, cameras)
        with pytest.raises(ValueError, match=r"need a path|skew"):
            write_transforms(path, cameras, (6, 8))
    assert list(tmp_path.iterdir()) == []


# --- transforms.json of other programs ------------------------------------------------------------


def one_image(folder, file, name, **changes):
    """A folder with one image `file`, which its transforms.json calls `name`."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(folder / file)
    frames = [{"file_path": name, "transform_matrix": IDENTITY}]
    data = {"w": 8, "h": 6, "fl_x": 8, "fl_y": 6, "frames": frames} | changes
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("images\\a.png", "images/a.png"),
        (".\\images\\a.png", "images/a.png"),
        ("./images//a.png", "images/a.png"),
        ("images/../images/a.png", "images/a.png"),
        ("images/a", "images/a.jpg"),
        ("images/a", "images/a.JPG"),
        ("images\\frame.0001", "images/frame.0001.jpeg"),
        ("images/a.jpg", "images/a.JPG"),
        ("images/a.PNG", "images/a.png"),
        (unicodedata.normalize("NFD", "café/é.png"), unicodedata.normalize("NFC", "café/é.png")),
        (unicodedata.normalize("NFC", "café/é"), unicodedata.normalize("NFD", "café/é.png")),
    ],
)
def test_names_of_other_systems_are_found(tmp_path, name, file):
    assert read_transforms(one_image(tmp_path, file, name)).images == (tmp_path.resolve() / file,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("images/A.png", "nearest there is 'a.png'"),
        ("images/a.jpg", "nearest there is 'a.png'"),
        ("image/a.png", "nearest there is 'images'"),
        ("images", "a folder or a device"),
        ("C:\\images\\a.png", "relative to the folder"),
        ("\\images\\a.png", "relative to the folder"),
        ("\\\\host\\share\\a.png", "relative to the folder"),
        ("images\\..\\..\\a.png", "leads out of the folder"),
        ("images/twice", "can be twice.jpg or twice.png"),
        ("pipe.png", "a folder or a device"),
    ],
)
def test_near_misses_are_named(tmp_path, name, message):
    folder = one_image(tmp_path, "images/a.png", name)
    for suffix in ("jpg", "png"):
        Image.new("RGB", (8, 6)).save(folder / f"images/twice.{suffix}")
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(ValueError, match="frame 0: file_path must be an existing file") as error:
        read_transforms(folder)
    assert message in str(error.value)


def test_a_folder_of_images_that_is_a_link_to_elsewhere_is_called_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "elsewhere" / "b.png")
    folder = one_image(tmp_path / "capture", "originals/a.png", "images/b.png")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link that leads out of"):
        read_transforms(folder)
    (folder / "images").unlink()
    (folder / "images").symlink_to(folder / "originals")
    Image.new("RGB", (8, 6)).save(folder / "originals" / "b.png")
    assert read_transforms(folder).images == (folder.resolve() / "originals" / "b.png",)


@pytest.mark.parametrize("lens", [{"fl_x": 50.0, "fl_y": 50.0}, {"camera_angle_x": 1.0}])
def test_without_w_and_h_every_frame_has_the_size_of_its_image(tmp_path, lens):
    frames = []
    for name, size in (("wide.png", (64, 48)), ("tall.png", (48, 64))):
        Image.new("RGB", size).save(tmp_path / name)
        frames.append({"file_path": name, "transform_matrix": IDENTITY})
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames} | lens))
    read = read_transforms(tmp_path)
    for K, (w, h) in zip(read.cameras.K, ((64, 48), (48, 64)), strict=True):
        focal = lens.get("fl_x", w / 2 / math.tan(0.5))
        pixels = [K[0, 0] * w, K[1, 1] * h, K[0, 2] * w, K[1, 2] * h]
        assert [float(value) for value in pixels] == pytest.approx([focal, focal, w / 2, h / 2])
    assert read.size is None


def test_two_fields_of_view_are_two_focal_lengths(tmp_path):
    drop = dict.fromkeys(["fl_x", "fl_y"], "DROP")
    angles = {"camera_angle_x": math.pi / 2, "camera_angle_y": 2 * math.atan(0.25)}
    K = read_transforms(capture(tmp_path, **drop, **angles)).cameras.K[0]
    assert K.diagonal().tolist() == pytest.approx([0.5, 2.0, 1.0])


@pytest.mark.parametrize("zeros", [[], [0.0], [0] * 5, [0.0] * 8, [0] * 14, 0, None])
def test_zeros_of_any_length_are_no_distortion(tmp_path, zeros):
    names = ["k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "b1", "b2"]
    changes = dict.fromkeys(names, 0.0) | {"distortion_params": zeros, "is_fisheye": False}
    assert len(read_transforms(capture(tmp_path, **changes)).images) == 2


def test_positions_are_in_the_unit_of_the_depth_files(tmp_path):
    matrix = [[1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]]
    frames = [{"file_path": "0.png", "transform_matrix": matrix}]
    turned = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0.5]]
    folder = capture(tmp_path, frames=frames, applied_scale=0.25, applied_transform=turned)
    read = read_transforms(folder).cameras
    torch.testing.assert_close(read.position[0], torch.tensor([12.0, 16.0, 20.0]))
    torch.testing.assert_close(read.forward[0], torch.tensor([0.0, 0.0, -1.0]))


@pytest.mark.parametrize("key", ["depth_file_path", "depth_path"])
@pytest.mark.parametrize("unit", ["depth_unit_scale_factor", "integer_depth_scale"])
def test_depth_is_read_as_nerfstudio_and_instant_ngp_name_it(tmp_path, key, unit):
    frames = [{"file_path": "0.png", key: "1.png", "transform_matrix": IDENTITY}]
    read = read_transforms(capture(tmp_path, frames=frames, **{unit: 0.25}))
    assert read.depths == (tmp_path.resolve() / "1.png",)
    assert read.depth_unit == 0.25


HARMLESS = {
    "camera_model": "PINHOLE",
    "aabb_scale": 16,
    "ply_file_path": "sparse_pc.ply",
    "train_filenames": ["0.png"],
    "orientation_override": "none",
    "enable_depth_loading": True,
    "is_fisheye": False,
    "title": "my room",
    "project": "house",
    "tags": ["room", "evening"],
    "scale": 1.0,
    "offset": [0, 0, 0],
    "from_na": False,
    "lens_shift": 0,
    "up": None,
}


def test_keys_that_do_not_change_geometry_are_welcome(tmp_path):
    own = {"colmap_im_id": 7, "sharpness": 31.5, "rotation": 0.0126, "semantic_path": "gone.png"}
    frames = [{"file_path": "0.png", "transform_matrix": IDENTITY, **own}]
    assert len(read_transforms(capture(tmp_path, frames=frames, **HARMLESS)).images) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale", 0.33),
        ("offset", [0.5, 0.5, 0.5]),
        ("from_na", True),
        ("up", [0, 0, 1]),
        ("x_fov", 60.0),
        ("camera_convention", "opencv"),
        ("cameras", {"0": {"fl_x": 5}}),
        ("rolling_shutter", [0, 0, 0.5, 0]),
        ("world_matrix", IDENTITY),
        ("normalise", True),
        ("depth_scale", 1000),
    ],
)
def test_keys_that_may_change_geometry_are_refused_by_name(tmp_path, key, value):
    with pytest.raises(ValueError, match=f"transforms.json has the key '{key}'"):
        read_transforms(capture(tmp_path, **{key: value}))
    frames = [{"file_path": "0.png", "transform_matrix": IDENTITY, key: value}]
    with pytest.raises(ValueError, match=f"frame 0 has the key '{key}'"):
        read_transforms(capture(tmp_path, frames=frames))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"applied_scale": 0}, "applied_scale must be positive"),
        ({"applied_scale": "2"}, "applied_scale must be a number"),
        ({"applied_transform": [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]}, "applied_transform"),
        ({"applied_transform": 3}, "applied_transform"),
        ({"integer_depth_scale": 1, "depth_unit_scale_factor": 2}, "two units of depth"),
        ({"fl_x": 0.9, "fl_y": 1.2}, "fl_x and fl_y must be in pixels"),
        ({"fl_x": 4000}, "fl_x and fl_y must be in pixels"),
        ({"cx": 0.5, "cy": 0.5}, "cx and cy must be in pixels"),
        ({"cy": 3000}, "cx and cy must be in pixels"),
        ({"fl_x": "DROP", "camera_angle_x": 60}, "camera_angle_x must be .* radians"),
        ({"fl_x": "DROP", "camera_angle_x": 5e-324}, "camera_angle_x must be .* radians"),
        ({"h": "DROP"}, "only one of w and h"),
    ],
)
def test_units_that_cannot_be_are_refused_by_key(tmp_path, changes, message):
    changes = {"w": 80, "h": 60, "fl_x": 80, "fl_y": 60, "cx": 40, "cy": 30} | changes
    with pytest.raises(ValueError, match=message) as error:
        read_transforms(capture(tmp_path, **changes))
    assert "transforms.json" in str(error.value)


def test_two_names_for_one_depth_must_agree(tmp_path):
    names = {"depth_file_path": "0.png", "depth_path": "1.png"}
    frames = [{"file_path": "0.png", "transform_matrix": IDENTITY} | names]
    with pytest.raises(ValueError, match="name different files"):
        read_transforms(capture(tmp_path, frames=frames))


@pytest.mark.parametrize("seed", range(20))
def test_rotations_rounded_to_three_decimals_are_the_nearest_ones(tmp_path, seed):
    R = random_cameras(1, seed).rotation[0].double().numpy()
    rounded = np.eye(4)
    rounded[:3, :3] = np.round(R, 3)
    frames = [{"transform_matrix": rounded.tolist()}]
    read = read_transforms(capture(tmp_path, frames=frames), "opencv").cameras.rotation[0]
    assert torch.allclose(read @ read.T, torch.eye(3), atol=1e-6)
    assert torch.allclose(read.double(), torch.from_numpy(R), atol=1e-3)
    rounded[:3, :3] = np.round(R, 1)
    with pytest.raises(ValueError, match=r"frame 0: .* remove scale, shear"):
        read_transforms(capture(tmp_path, frames=[{"transform_matrix": rounded.tolist()}]))


def test_coarser_rounding_is_called_rounding(tmp_path):
    turn = [[0.87, 0.5, 0, 0], [-0.5, 0.87, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(ValueError, match="write more decimals, if they were rounded"):
        read_transforms(capture(tmp_path, frames=[{"transform_matrix": turn}]))


@pytest.mark.parametrize(
    ("frames", "order"),
    [
        ([{"file_path": f"f{i}.png"} for i in (10, 2, 1)], (2, 1, 0)),
        ([{"file_path": f"cam{i}\\{j}.png"} for i, j in ((2, 0), (1, 10), (1, 9))], (2, 1, 0)),
        ([{"file_path": name} for name in ("wide.png", "tall.png")], (0, 1)),
        ([{"file_path": name} for name in ("b1.png", "a2.png")], (0, 1)),
        ([{"file_path": f"{i}.png", "timestamp": -i} for i in range(3)], (2, 1, 0)),
        ([{"file_path": f"{2 - i}.png", "time": 0.0} for i in range(3)], (2, 1, 0)),
        ([{}, {}], (0, 1)),
    ],
)
def test_frames_are_ordered_by_time_then_by_numbers_in_names(tmp_path, frames, order):
    frames = [{"transform_matrix": IDENTITY} | frame for frame in frames]
    lens = ((6, 8), intrinsics(60.0))
    assert read_transforms(capture(tmp_path, frames=frames), assumed=lens).order == order


def test_a_path_needs_only_poses(tmp_path):
    lens = ((6, 8), intrinsics(60.0, 8 / 6))
    frames = [{"file_path": f"gone/{i}.png", "transform_matrix": IDENTITY} for i in range(2)]
    folder = capture(tmp_path, frames=frames, w=80, h=60, fl_x=80, fl_y=60, cx=20, cy=30)
    read = read_transforms(folder, assumed=lens)
    torch.testing.assert_close(
        read.cameras.K[1], torch.tensor([[1, 0, 0.25], [0, 1, 0.5], [0, 0, 1]])
    )
    assert read.images == ()
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    read = read_transforms(tmp_path, assumed=lens)
    assert read.size == (6, 8)
    torch.testing.assert_close(read.cameras.K[0], lens[1])
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames, "camera_angle_x": 1.0}))
    K = read_transforms(tmp_path, assumed=lens).cameras.K[0]
    torch.testing.assert_close(K, intrinsics(math.degrees(1.0), 8 / 6))
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames, "fl_x": 80}))
    with pytest.raises(ValueError, match=r"frame 0 has no w and h, so its image is measured"):
        read_transforms(tmp_path, assumed=lens)
    frames[1]["fl_x"] = 80
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames, "w": 80, "h": 60}))
    with pytest.raises(ValueError, match="only some frames have a lens"):
        read_transforms(tmp_path, assumed=lens)


def test_a_photo_that_exif_turns_needs_its_size_stated(tmp_path):
    frames = [{"file_path": "a.jpg", "transform_matrix": IDENTITY}]
    drop = dict.fromkeys(["w", "h"], "DROP")
    folder = capture(tmp_path, frames=frames, **drop)
    tag = Image.Exif()
    tag[0x112] = 6
    Image.new("RGB", (8, 6)).save(folder / "a.jpg", exif=tag)
    with pytest.raises(ValueError, match=r"frame 0: a\.jpg is turned .* EXIF orientation 6"):
        read_transforms(folder)


@pytest.mark.parametrize("text", ["transforms.json", "cameras.txt"])
def test_only_regular_files_of_a_sane_size_are_opened(tmp_path, text):
    read = read_transforms if text.endswith("json") else read_realestate10k
    os.mkfifo(tmp_path / text)
    with pytest.raises(ValueError, match=r"cannot read .*: it must be an existing file"):
        read(tmp_path / text)
    (tmp_path / text).unlink()
    (tmp_path / text).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="at most 40000000 bytes"):
        read(tmp_path / text)


def test_texts_are_utf8_with_or_without_a_mark(tmp_path):
    file = "café/é.png"
    one_image(tmp_path, file, file)
    text = (tmp_path / "transforms.json").read_text().encode().decode("unicode_escape")
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "transforms.json").write_text(text, encoding=encoding)
        assert read_transforms(tmp_path).images[0].name == "é.png"
        (tmp_path / "a.txt").write_text(f"https://é\n{LINE}\n", encoding=encoding)
        assert read_realestate10k(tmp_path / "a.txt")[1] == [7]
    write_realestate10k(tmp_path / "b.txt", random_cameras(1, 0), url="https://客厅")
    assert (tmp_path / "b.txt").read_bytes().startswith("https://客厅\n".encode())


# --- RealEstate10K --------------------------------------------------------------------------------

LINE = "7 1 1 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"


@several
@given(st.integers(1, 5), st.integers(0, 99), st.sampled_from(["", "https://a.b/c?d=e"]))
def test_realestate10k_that_is_written_and_read_is_the_same(tmp_path_factory, t, seed, url):
    path = tmp_path_factory.mktemp("text") / "cameras.txt"
    cameras = random_cameras(t, seed)
    write_realestate10k(path, cameras, url=url)
    read, timestamps = read_realestate10k(path)
    assert_same(read, cameras)
    assert timestamps == [i * 33_333 for i in range(t)]
    assert path.read_text().splitlines()[0] == url


def test_realestate10k_holds_world_to_camera(tmp_path):
    path = tmp_path / "cameras.txt"
    path.write_text("url\n7 1 2 0.5 0.25 0 0 1 0 0 1 0 0 -1 2 0 1 0 3\n")
    read, timestamps = read_realestate10k(path)
    point = torch.tensor([[0.5, -0.25, 0.75]])
    uv, depth = project(read[0], point)
    in_cam = torch.tensor([1.5, 1.25, 2.75])
    torch.testing.assert_close(depth[0], in_cam[2])
    torch.testing.assert_close(
        uv[0], in_cam[:2] / in_cam[2] * torch.tensor([1.0, 2]) + torch.tensor([0.5, 0.25])
    )
    assert timestamps == [7]


@pytest.mark.parametrize("word", ["33367", "33367.0", "33367.000000", "3.3367e+04", "+33367"])
def test_whole_timestamps_are_read_however_they_are_written(tmp_path, word):
    (tmp_path / "a.txt").write_text(f"url\r\n{LINE.replace('7', word)}\r\n", newline="")
    assert read_realestate10k(tmp_path / "a.txt")[1] == [33367]


def test_the_line_of_the_address_may_be_missing(tmp_path):
    (tmp_path / "a.txt").write_text(f"{LINE}\n{LINE.replace('7', '9')}\n")
    cameras, times = read_realestate10k(tmp_path / "a.txt")
    assert (len(cameras), times) == (2, [7, 9])


@pytest.mark.parametrize(
    ("words", "times"),
    [
        (["0", "0.033333", "1.5"], [0, 33_333, 1_500_000]),
        (["0.0", "33333.5", "100000"], [0, 33_334, 100_000]),
        (["0", "1", "2"], [0, 1, 2]),
    ],
)
def test_fractional_times_up_to_a_day_are_seconds(tmp_path, words, times):
    text = "\n".join(LINE.replace("7", word, 1) for word in words)
    (tmp_path / "a.txt").write_text(text)
    assert read_realestate10k(tmp_path / "a.txt")[1] == times


def test_rounded_rotations_of_realestate10k_are_the_nearest_ones(tmp_path):
    turn = "0.866 0.5 0 0 -0.5 0.866 0 0 0 0 1 0"
    (tmp_path / "a.txt").write_text(f"url\n7 1 1 0.5 0.5 0 0 {turn}\n")
    R = read_realestate10k(tmp_path / "a.txt")[0].rotation[0]
    torch.testing.assert_close(R.T[0], torch.tensor([0.75**0.5, 0.5, 0.0]), atol=1e-4, rtol=0)
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-6)


def test_timestamps_are_kept(tmp_path):
    write_realestate10k(tmp_path / "a.txt", random_cameras(2, 0), [5, 90])
    assert read_realestate10k(tmp_path / "a.txt")[1] == [5, 90]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got 0"),
        ("url", "got 0"),
        ("url\n\n", "got 0"),
        (f"url\n{LINE}\n{LINE} 3", "line 3 needs 19"),
        (f"url\n{LINE[:-2]}", "line 2 needs 19"),
        (f"url\n{LINE.replace('7', '-7')}", "line 2 needs 19"),
        (f"url\n{LINE.replace('0.5', 'nan')}", "line 2 needs finite"),
        (f"url\n{LINE.replace('0.5', 'inf')}", "line 2 needs finite"),
        (f"url\n{LINE.replace('0.5', 'half')}", "line 2 needs finite"),
        (f"url\n\n{LINE.replace('0.5 0.5 0 0', '0.5 0.5 0.1 0')}", "line 3 has lens"),
        (f"url\n{LINE.replace('0 0 1 0', '0 0 2 0')}", "line 2: the matrix must be rigid"),
        (f"url\n{LINE.replace('7 1', '7 -1')}", "line 2: focal"),
        (f"url\n{LINE.replace('7 1 1', '7 640 648')}", "line 2: focal .* divide pixels"),
        (f"url\n{LINE.replace('0.5 0.5 0 0', '576 396 0 0')}", "line 2: focal .* divide pixels"),
        (f"url\n{LINE.replace('7 1 1', '7 0.001 0.001')}", "line 2: focal .* are shares"),
        (f"url\n{LINE.replace('7', '1e999999999')}", "line 2 needs 19 .* a time"),
        (f"url\n{LINE.replace('7', 'sNaN')}", "line 2 needs 19 .* a time"),
    ],
)
def test_hostile_realestate10k_is_refused_by_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_realestate10k(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "arguments", [{"timestamps": [1]}, {"timestamps": [-1, 2]}, {"url": "a\nb"}, {"url": LINE}]
)
def test_realestate10k_that_cannot_be_written_leaves_nothing(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"timestamps|address"):
        write_realestate10k(tmp_path / "a.txt", random_cameras(2, 0), **arguments)
    assert list(tmp_path.iterdir()) == []


# --- any file -------------------------------------------------------------------------------------

VALUES = [
    *(None, True, "", "9" * 50, "\ud800", "../x", [], {}, [[]], {"a": {"b": [1]}}, [None] * 4),
    *(0, -1, 1e-320, 5e-324, 1e308, 10**18, 10**400, -(10**30), math.nan, math.inf, -math.inf),
    *(2**31, 2**63, 0.5, [0] * 4, ["0"] * 4, [[0] * 4] * 4, [[math.nan] * 4] * 4),
]


def message(read, file):
    """That of the ValueError with which a file is refused; None if it is read."""
    try:
        read(file)
    except ValueError as error:
        return str(error)


def places(value, path=()):
    """The paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))


def test_whatever_a_transforms_json_holds_it_is_read_or_a_value_error(tmp_path):
    """A seeded few hundred changes of a sound file that uses every key."""
    rng = random.Random(0)
    for i in range(2):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{i}.png")
    names = {"depth_file_path": "0.png", "mask_path": "1.png", "timestamp": 1, "sharpness": 2.0}
    frames = [{"file_path": f"{i}.png", "transform_matrix": IDENTITY} | names for i in range(2)]
    sound = {"w": 8, "h": 6, "fl_x": 8, "fl_y": 6, "cx": 4, "cy": 3, "k1": 0, "frames": frames}
    sound |= {"camera_angle_x": 0.9, "camera_model": "OPENCV", "distortion_params": [0, 0, 0, 0]}
    sound |= {"applied_scale": 1.0, "applied_transform": IDENTITY[:3], "integer_depth_scale": 0.1}
    everywhere, read = list(places(sound)), 0
    for _ in range(400):
        data = copy.deepcopy(sound)
        for _ in range(rng.randint(1, 2)):
            *path, key = rng.choice(everywhere)
            inner = data
            try:
                for step in path:
                    inner = inner[step]
                if rng.random() < 0.1:
                    del inner[key]
                else:
                    inner[key] = copy.deepcopy(rng.choice([*VALUES, "DEEP"]))
            except (TypeError, KeyError, IndexError):
                continue  # an earlier change removed the place
        levels = rng.choice([3, 900, 9000])
        text = json.dumps(data).replace('"DEEP"', "[" * levels + "]" * levels)
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text))]
        (tmp_path / "transforms.json").write_text(text)
        words = message(read_transforms, tmp_path)
        assert words is None or ("transforms.json" in words and len(words) < 1000)
        read += words is None
    assert 20 < read < 380  # some changes are harmless


def test_whatever_a_realestate10k_text_holds_it_is_read_or_a_value_error(tmp_path):
    rng, read = random.Random(0), 0
    words = [
        "",
        "nan",
        "inf",
        "-1",
        "1e400",
        "9" * 30,
        "1e-400",
        "x",
        "0x1",
        "1_0",
        "\x00",
        "½",
        "٣",
    ]
    for _ in range(300):
        lines = [["url"], *([LINE.split() for _ in range(2)])]
        for _ in range(rng.randint(1, 3)):
            line = rng.choice(lines)
            line[rng.randrange(len(line))] = rng.choice(words)
        (tmp_path / "a.txt").write_text("\n".join(map(" ".join, lines)), encoding="utf-8")
        refusal = message(read_realestate10k, tmp_path / "a.txt")
        assert refusal is None or str(tmp_path) in refusal
        read += refusal is None
    assert 10 < read < 290
