"""PLY, camera paths and films: read by other means than those that wrote them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vmemkit.core import cameras
from vmemkit.exports import gif, lyra, mp4, ply, realestate10k, tum
from vmemkit.scenes import read_realestate10k

# 90 degrees to the right about the vertical, at (1, 2, 3): the camera's z is the world's x.
POSE = [[0.0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3], [0, 0, 0, 1]]
K = [[0.75, 0, 0.5], [0, 1.0, 0.25], [0, 0, 1]]


@pytest.fixture
def path():
    return cameras(torch.tensor([torch.eye(4).tolist(), POSE]), torch.tensor(K))


def test_a_ply_has_normals_to_the_viewer_radii_and_colours(memory, tmp_path):
    ply(memory, tmp_path / "a.ply")
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in header.decode().splitlines()]
    columns = {line[2]: line[1] for line in lines if line[0] == "property"}
    assert list(columns) == ["x", "y", "z", "nx", "ny", "nz", "radius", "red", "green", "blue"]
    assert ["element", "vertex", str(len(memory.surfels))] in lines
    kinds = {"float": "<f4", "uchar": "u1"}
    rows = np.frombuffer(body, [(name, kinds[kind]) for name, kind in columns.items()])
    surfels = memory.surfels
    np.testing.assert_array_equal(rows["radius"], surfels.radius)
    np.testing.assert_array_equal(rows["y"], surfels.position[:, 1])
    np.testing.assert_allclose(rows["green"] / 255, surfels.color[:, 1], atol=0.5 / 255)
    # The box was seen from its middle, so its normals point there.
    places = np.stack([rows[name] for name in "xyz"], 1)
    normals = np.stack([rows[name] for name in ("nx", "ny", "nz")], 1)
    assert ((places * normals).sum(1) < 0).all()


def test_lyras_arrays(path, tmp_path):
    lyra(path, tmp_path / "a.npz", (480, 832))
    data = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert set(data) == {"w2c", "intrinsics", "image_height", "image_width"}
    assert (int(data["image_height"]), int(data["image_width"])) == (480, 832)
    assert data["w2c"].shape == (2, 4, 4)
    # The point one metre ahead of the second camera is at (2, 2, 3).
    np.testing.assert_allclose(data["w2c"][1] @ [2, 2, 3, 1], [0, 0, 1, 1], atol=1e-6)
    lens = [[0.75 * 832, 0, 416], [0, 480, 120], [0, 0, 1]]
    np.testing.assert_allclose(data["intrinsics"], [lens, lens], rtol=1e-6)


def test_a_tum_line_is_time_place_and_rotation(path, tmp_path):
    tum(path, tmp_path / "a.txt", [10.0, 10.5])
    rows = np.loadtxt(tmp_path / "a.txt")
    half = 0.5**0.5  # half the cosine of 45 degrees, about y
    expected = [[10, 0, 0, 0, 0, 0, 0, 1], [10.5, 1, 2, 3, 0, half, 0, half]]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    tum(path, tmp_path / "b.txt")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "b.txt")[:, 0], [0, 1 / 30], atol=1e-6)


def test_realestate10k_is_read_back(path, tmp_path):
    realestate10k(path, tmp_path / "a.txt")
    again, _ = read_realestate10k(tmp_path / "a.txt")
    torch.testing.assert_close(again.world_from_cam, path.world_from_cam, atol=1e-6, rtol=0)


def test_films_are_as_high_as_asked_for(steps, tmp_path):
    gif(steps, tmp_path / "a.gif", rows=24)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.size == (32, 24)
        assert film.n_frames >= 40  # four seconds
        assert film.info["loop"] == 0
    mp4(steps, tmp_path / "a.mp4", rows=24)
    assert b"ftyp" in (tmp_path / "a.mp4").read_bytes()[:16]


@pytest.mark.parametrize(("write", "name"), [(mp4, "a.mp4"), (gif, "a.gif")])
@pytest.mark.parametrize("rows", [0, -5])
def test_films_without_height_are_refused(steps, tmp_path, write, name, rows):
    with pytest.raises(ValueError, match=f"1 pixel or more, got {rows}"):
        write(steps, tmp_path / name, rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("times", "message"),
    [([0.0], "2 finite timestamps"), ([1.0, 1.0], "rise"), ([0.0, float("nan")], "finite")],
)
def test_times_that_are_none_are_refused(path, tmp_path, times, message):
    with pytest.raises(ValueError, match=message):
        tum(path, tmp_path / "a.txt", times)


@pytest.mark.parametrize("write", [tum, realestate10k])
def test_camera_paths_are_text_and_have_a_folder(path, tmp_path, write):
    with pytest.raises(ValueError, match=r"\.txt"):
        write(path, tmp_path / "a.csv")
    with pytest.raises(ValueError, match="folder that exists"):
        write(path, tmp_path / "none" / "a.txt")


def test_empty_paths_and_sizes_are_refused(path, tmp_path):
    with pytest.raises(ValueError, match="size"):
        lyra(path, tmp_path / "a.npz", (0, 10))
    with pytest.raises(ValueError, match="camera path"):
        lyra(path[:0], tmp_path / "a.npz", (10, 10))
    assert list(tmp_path.iterdir()) == []
