"""COLMAP models, read by COLMAP's own reader."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from vmemkit.core import Surfels, Views, cameras, project
from vmemkit.exports import colmap
from vmemkit.memory import Memory, MemoryConfig, Sightings, sighting_counts


@pytest.fixture(scope="module")
def folder(memory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("colmap") / "model"
    colmap(memory, folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return pycolmap.Reconstruction(folder / "sparse" / "0")


def tracks(model) -> set[tuple[int, int]]:
    """Pairs of a surfel and a view that sees it."""
    return {
        (point - 1, element.image_id - 1)
        for point, value in model.points3D.items()
        for element in value.track.elements
    }


def pairs(memory) -> set[tuple[int, int]]:
    sightings = memory.sightings
    return set(zip(sightings.surfel.tolist(), sightings.view.tolist(), strict=True))


def test_tracks_are_the_sightings(memory, model):
    assert tracks(model) == pairs(memory)
    assert max(len(point.track.elements) for point in model.points3D.values()) > 2


def test_observations_are_projections_of_their_points(model):
    for image in model.images.values():
        for observation in image.get_observation_points2D():
            xyz = model.points3D[observation.point3D_id].xyz
            error = np.linalg.norm(image.project_point(xyz) - observation.xy)
            assert error < 1e-3  # pixels
    model.update_point_3d_errors()
    assert max(point.error for point in model.points3D.values()) < 1e-3


def test_images_and_points_know_of_each_other(model):
    for point, value in model.points3D.items():
        for element in value.track.elements:
            observation = model.images[element.image_id].points2D[element.point2D_idx]
            assert observation.point3D_id == point


def test_poses_lenses_and_images_are_those_of_the_views(memory, folder, model):
    views = memory.views
    assert len(model.images) == len(views)
    h, w = views.image.shape[2:]
    for i in range(len(views)):
        view, image = views[i : i + 1], model.images[i + 1]
        pose = image.cam_from_world().matrix()
        np.testing.assert_allclose(pose, view.cameras.cam_from_world[0, :3], atol=1e-6)
        lens = view.cameras.K[0].numpy() * [[w], [h], [1]]
        np.testing.assert_allclose(image.camera.calibration_matrix(), lens, rtol=1e-6)
        pixels = np.asarray(Image.open(folder / "images" / image.name))
        assert (
            np.abs(pixels / 255 - view.image[0].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
        )
    names = {path.name for path in (folder / "images").iterdir()}
    assert names == {image.name for image in model.images.values()}


def test_points_have_the_places_and_colours_of_surfels(memory, model):
    points = [model.points3D[i + 1] for i in range(len(memory.surfels))]
    places = np.array([point.xyz for point in points])
    np.testing.assert_allclose(places, memory.surfels.position, atol=1e-6)
    colors = np.array([point.color for point in points]) / 255
    assert np.abs(colors - memory.surfels.color.numpy()).max() <= 0.5 / 255 + 1e-6


def one_pixel_memory(*points: tuple[float, float, float], seen: list[tuple[int, int]]) -> Memory:
    """Two views of 8 x 4 pixels of a wall at 1, the second moved 0.5 to the right, and discs on it."""
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 0.5
    K = torch.tensor([[1.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]])
    image, depth = torch.full((2, 3, 4, 8), 0.5), torch.ones(2, 4, 8)
    views = Views(cameras(poses, K), image, torch.ones(2).bool(), depth, depth)
    n = len(points)
    normal = torch.tensor([[0.0, 0.0, 1.0]]).expand(n, 3)
    surfels = Surfels(torch.tensor(points), normal, torch.full((n,), 0.05), torch.ones(n, 3))
    surfel, view = torch.tensor(seen).T
    ends = torch.tensor([n, n])
    return Memory.from_tables(views, surfels, Sightings(surfel, view), ends, MemoryConfig())


def test_the_centre_of_the_first_pixel_is_at_one_half(tmp_path):
    """Its ray meets the wall at ((0.5 / 8 - 0.5) / 1, (0.5 / 4 - 0.5) / 2)."""
    memory = one_pixel_memory((-0.4375, -0.1875, 1.0), (0.0, 0.0, 1.0), seen=[(0, 0), (1, 0)])
    colmap(memory, tmp_path / "model")
    model = pycolmap.Reconstruction(tmp_path / "model" / "sparse" / "0")
    np.testing.assert_allclose(model.images[1].points2D[0].xy, [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(model.images[1].points2D[1].xy, [4.0, 2.0], atol=1e-6)
    assert model.cameras[1].params.tolist() == [8, 8, 4, 2]  # fx, fy, cx, cy


def test_what_lies_outside_an_image_is_left_out_and_counted(tmp_path):
    # At x = -0.2 the second view, at 0.5, sees u = -0.7 + 0.5, which is outside.
    memory = one_pixel_memory((-0.2, 0.0, 1.0), (0.2, 0.0, 1.0), seen=[(0, 0), (0, 1), (1, 1)])
    report = colmap(memory, tmp_path / "one")
    assert (report.points, report.observations, report.outside, report.unseen) == (2, 2, 1, 0)
    assert "1 observations outside their images" in str(report)
    model = pycolmap.Reconstruction(tmp_path / "one" / "sparse" / "0")
    assert tracks(model) == {(0, 0), (1, 1)}


def test_points_with_too_few_observations_are_left_out(memory, tmp_path):
    counts = sighting_counts(memory.packed_sightings, len(memory.surfels))
    report = colmap(memory, tmp_path / "model", least=2)
    assert 0 < report.points == int((counts >= 2).sum()) < len(memory.surfels)
    assert report.unseen == len(memory.surfels) - report.points
    model = pycolmap.Reconstruction(tmp_path / "model" / "sparse" / "0")
    often = set((counts >= 2).nonzero()[:, 0].tolist())
    assert tracks(model) == {pair for pair in pairs(memory) if pair[0] in often}


def test_projections_agree_with_the_package(memory, model):
    views = memory.views
    h, w = views.image.shape[2:]
    for i, image in model.images.items():
        ids = torch.tensor([point.point3D_id - 1 for point in image.points2D])
        [uv], _ = project(views.cameras[i - 1 : i], memory.surfels.position[ids][None])
        pixels = np.array([point.xy for point in image.points2D])
        np.testing.assert_allclose(pixels, uv.numpy() * [w, h], atol=1e-4)


def test_bad_places_and_numbers_are_refused_and_change_nothing(memory, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="new folder"):
        colmap(memory, tmp_path / "photos")
    with pytest.raises(ValueError, match="least"):
        colmap(memory, tmp_path / "new", least=0)
    with pytest.raises(ValueError, match="views"):
        colmap(Memory.empty(), tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}
