"""Camera files: round trips in every convention, and hostile files refused by name."""

import json
import math

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


def test_depth_arrays_are_written_as_metres_unless_told_otherwise(tmp_path):
    (tmp_path / "0.npy").write_bytes(b"")
    for unit, expected in ((None, 1.0), (0.5, 0.5)):
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
        ({"w": 7.5}, "whole numbers"),
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


def scaled(rows, factor):
    return [[value * factor for value in row] for row in rows]


@pytest.mark.parametrize(
    "matrix",
    [
        None,
        3,
        [],
        IDENTITY[:3],
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
    (tmp_path / "transforms.json").write_text('{"frames": [' + "{}," * 100_000 + "{}]}")
    with pytest.raises(ValueError, match="1 to 100000 frames, got 100001"):
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
        ({"depths": ["0.npy", "1.png"]}, "depth_unit"),
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


def test_timestamps_are_kept(tmp_path):
    write_realestate10k(tmp_path / "a.txt", random_cameras(2, 0), [5, 90])
    assert read_realestate10k(tmp_path / "a.txt")[1] == [5, 90]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got 0"),
        ("url", "got 0"),
        ("url\n\n", "got 0"),
        (LINE, "address"),
        (f"url\n{LINE}\n{LINE} 3", "line 3 needs 19"),
        (f"url\n{LINE[:-2]}", "line 2 needs 19"),
        (f"url\n{LINE.replace('7', '7.5')}", "line 2 needs 19"),
        (f"url\n{LINE.replace('7', '-7')}", "line 2 needs 19"),
        (f"url\n{LINE.replace('0.5', 'nan')}", "line 2 needs finite"),
        (f"url\n{LINE.replace('0.5', 'inf')}", "line 2 needs finite"),
        (f"url\n{LINE.replace('0.5', 'half')}", "line 2 needs finite"),
        (f"url\n\n{LINE.replace('0.5 0.5 0 0', '0.5 0.5 0.1 0')}", "line 3 has lens"),
        (f"url\n{LINE.replace('0 0 1 0', '0 0 2 0')}", "line 2: the matrix must be rigid"),
        (f"url\n{LINE.replace('7 1', '7 -1')}", "line 2: focal"),
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
