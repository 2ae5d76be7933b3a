"""GLB files, read by trimesh."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from vmemkit.core import Surfels, Views, cameras
from vmemkit.exports import glb
from vmemkit.memory import Memory, MemoryConfig, Sightings

GREY = 0.5  # sRGB, which is 0.21404 in linear light (IEC 61966-2-1)


@pytest.fixture
def one(tmp_path) -> Memory:
    """A view from (1, 2, 3) that looks along z, and a grey disc 2 ahead of it, which it faces."""
    pose = torch.eye(4)[None].clone()
    pose[0, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    K = torch.tensor([[1.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]])
    depth = torch.full((1, 4, 8), 2.0)
    image = torch.full((1, 3, 4, 8), GREY)
    views = Views(cameras(pose, K), image, torch.tensor([True]), depth, depth)
    color = torch.tensor([[GREY, 0.0, 1.0]])
    place, normal = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    surfels = Surfels(place, normal, torch.tensor([0.3]), color)
    zero = torch.zeros(1).long()
    return Memory.from_tables(views, surfels, Sightings(zero, zero), zero + 1, MemoryConfig())


def read(path) -> dict:
    return trimesh.load(path).geometry


def test_a_disc_has_its_place_size_colour_and_front(one, tmp_path):
    glb(one, tmp_path / "a.glb")
    disc = read(tmp_path / "a.glb")["surfels"]
    # The memory's y points down and its z ahead; glTF's y up and its z back.
    np.testing.assert_allclose(disc.vertices.mean(0), [1.0, -2.0, -5.0], atol=1e-6)
    assert disc.area == pytest.approx(math.pi * 0.3**2, rel=1e-5)
    # Its front shows to the view, which stands at z = -3 and sees it at z = -5.
    np.testing.assert_allclose(disc.face_normals, [[0, 0, 1]] * len(disc.faces), atol=1e-6)
    colors = np.asarray(disc.visual.vertex_attributes["color"])
    np.testing.assert_allclose(colors, [[0.21404, 0, 1]] * 6, atol=1e-5)


def test_surfels_can_be_points(memory, tmp_path):
    glb(memory, tmp_path / "a.glb", points=True)
    cloud = read(tmp_path / "a.glb")["surfels"]
    expected = memory.surfels.position.numpy() * [1, -1, -1]
    np.testing.assert_allclose(cloud.vertices, expected, atol=1e-6)
    srgb = memory.surfels.color.double().numpy()
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    # trimesh reads the colours of points in 8 bits.
    np.testing.assert_allclose(cloud.colors[:, :3] / 255, linear, atol=1 / 255)


def test_every_surfel_has_a_disc_and_every_view_a_frustum(memory, tmp_path):
    glb(memory, tmp_path / "a.glb")
    parts = read(tmp_path / "a.glb")
    n = len(memory.surfels)
    assert parts["surfels"].vertices.shape == (6 * n, 3)
    assert len(parts["surfels"].faces) == 4 * n
    centres = parts["surfels"].vertices.reshape(n, 6, 3).mean(1)
    expected = memory.surfels.position.numpy() * [1, -1, -1]
    np.testing.assert_allclose(centres, expected, atol=1e-5)
    edges = parts["frusta"].vertices
    assert len(np.unique(edges.round(5), axis=0)) >= 4 * len(memory) + 1  # they stand in one place


def test_a_frustum_goes_from_the_eye_to_the_corners_of_the_image(one, tmp_path):
    glb(one, tmp_path / "a.glb")
    corners = np.unique(read(tmp_path / "a.glb")["frusta"].vertices.round(6), axis=0) - [1, -2, -3]
    ahead = corners[np.abs(corners).max(1) > 1e-6]
    assert len(corners) == len(ahead) + 1 == 5
    # The image is 1 / fx = 1 wide and 1 / fy = 0.5 high at a distance of 1.
    np.testing.assert_allclose(np.abs(ahead[:, :2]), -ahead[:, 2:] * [0.5, 0.25], atol=1e-5)


def test_cameras_look_the_way_of_the_views(memory, tmp_path):
    glb(memory, tmp_path / "a.glb")
    graph = trimesh.load(tmp_path / "a.glb").graph
    for i, pose in enumerate(memory.views.cameras.world_from_cam.double().numpy()):
        matrix, _ = graph.get(f"view {i}")
        np.testing.assert_allclose(matrix[:3, 3], pose[:3, 3] * [1, -1, -1], atol=1e-6)
        # A glTF camera looks along its -z, with y up: x right, y down and z ahead in the memory.
        for column, axis in ((0, pose[:3, 0]), (1, -pose[:3, 1]), (2, -pose[:3, 2])):
            np.testing.assert_allclose(matrix[:3, column], axis * [1, -1, -1], atol=1e-6)


def many(memory: Memory, count: int) -> Memory:
    """The memory with its first surfel many times."""
    surfels = memory.surfels.at(torch.zeros(count).long())
    sightings = Sightings(torch.arange(count), torch.zeros(count).long())
    return Memory.from_tables(memory.views, surfels, sightings, torch.tensor([count]))


def test_too_many_discs_are_refused_and_points_are_not(one, tmp_path):
    crowd = many(one, 200_001)
    with pytest.raises(ValueError, match="--points"):
        glb(crowd, tmp_path / "a.glb")
    glb(crowd, tmp_path / "a.glb", points=True)
    assert len(read(tmp_path / "a.glb")["surfels"].vertices) == 200_001


def test_bad_names_and_empty_memories_are_refused(memory, tmp_path):
    with pytest.raises(ValueError, match=r"\.glb"):
        glb(memory, tmp_path / "a.obj")
    with pytest.raises(ValueError, match="surfels"):
        glb(Memory.empty(), tmp_path / "a.glb")
    assert list(tmp_path.iterdir()) == []
