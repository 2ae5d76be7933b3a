"""Surfels: normals, radii and filters of point maps, on planes and spheres that are known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from vmemkit.core import (
    Cameras,
    PointMaps,
    SplatConfig,
    SurfelConfig,
    Surfels,
    cameras,
    cat,
    central_normals,
    footprint,
    forward_normals,
    intrinsics,
    look_at,
    pixel_centres,
    rays,
    splat,
    surfels_from_points,
    thin,
    turned_away,
    unproject,
    views,
    without_pinholes,
)
from vmemkit.memory import begin

EVERYTHING = SurfelConfig(depth_quantile=1.0)  # the quantile would drop the deepest pixel
EDGE = SurfelConfig().edge


def posed(seed: int) -> Cameras:
    """One camera somewhere, looking at the origin."""
    position = torch.randn(3, generator=torch.Generator().manual_seed(seed)) + torch.tensor(
        [0.0, 0.0, 3.0]
    )
    return cameras(look_at(position, torch.zeros(3)), intrinsics(60.0, 4 / 3))


def depth_of_plane(
    camera: Cameras, normal: torch.Tensor, offset: float, h: int, w: int
) -> torch.Tensor:
    """Depth [h w] of the plane normal . x = offset."""
    ray = rays(camera, pixel_centres(h, w)).double()
    normal = normal.double()
    return ((offset - camera.position.double() @ normal) / (ray @ normal)).float()


def one_map(camera: Cameras, depth: torch.Tensor, confidence: torch.Tensor | None = None):
    return PointMaps.from_depth(camera, depth, confidence)


def write_out(camera, depth, config=EVERYTHING, confidence=None) -> tuple[Surfels, torch.Tensor]:
    image = torch.zeros(3, *depth.shape)
    return surfels_from_points(one_map(camera, depth, confidence), camera, image, config)


# ---- normals -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 70), st.floats(0, 360))
def test_normals_of_a_plane_are_exact_in_every_pixel_borders_included(seed, slant, azimuth):
    camera = posed(seed)
    tilt, around = math.radians(slant), math.radians(azimuth)
    in_cam = torch.tensor(
        [math.sin(tilt) * math.cos(around), math.sin(tilt) * math.sin(around), math.cos(tilt)]
    )
    normal = camera.rotation @ in_cam
    offset = float(camera.position @ normal) + 2.0
    depth = depth_of_plane(camera, normal, offset, 12, 16)
    if float(depth.amin()) <= 0:  # a plane that crosses the horizon of the image
        return
    surfels, pixel = write_out(camera, depth)
    assert pixel.tolist() == list(range(12 * 16))
    assert ((surfels.normal @ normal) > 1 - 1e-5).all()


def sphere(h: int, w: int) -> tuple[Cameras, torch.Tensor, torch.Tensor]:
    """A camera inside a sphere of radius 2, off its centre; depth and true outward normals."""
    camera = cameras(look_at(torch.tensor([0.3, -0.2, 0.1]), torch.tensor([1.0, 0.2, 1.0])))
    ray, eye = rays(camera, pixel_centres(h, w)).double(), camera.position.double()
    a, b, c = (ray * ray).sum(-1), ray @ eye, eye @ eye - 4.0
    depth = ((b * b - a * c).sqrt() - b) / a
    return camera, depth.float(), normalize(eye + depth[..., None] * ray, dim=-1).float()


def worst_angle(h: int, w: int) -> tuple[float, float]:
    """Degrees between estimated and true normals of the sphere: inside the image, at its border."""
    camera, depth, true = sphere(h, w)
    normal, known = central_normals(unproject(camera, depth), depth, EDGE)
    assert known.all()
    normal, _ = turned_away(normal, normalize(unproject(camera, depth) - camera.position, dim=-1))
    angle = torch.rad2deg(2 * torch.asin((normal - true).norm(dim=-1) / 2))
    return float(angle[1:-1, 1:-1].amax()), float(angle.amax())


def test_normals_of_a_sphere_converge_quadratically_inside_and_linearly_at_the_border():
    coarse, fine = worst_angle(16, 16), worst_angle(64, 64)
    assert coarse[0] < 0.5
    assert fine[0] < coarse[0] / 8  # 16 in theory
    assert coarse[1] < 3.0
    assert fine[1] < coarse[1] / 3  # 4 in theory


def test_normals_beside_a_depth_step_are_those_of_their_own_side():
    camera = cameras(torch.eye(4), intrinsics(60.0, 4 / 3))
    near = depth_of_plane(camera, torch.tensor([0.0, 0.0, 1.0]), 1.5, 12, 16)
    slanted = normalize(torch.tensor([0.5, 0.2, 1.0]), dim=0)
    far = depth_of_plane(camera, slanted, 3.0, 12, 16)
    is_near = torch.zeros(12, 16, dtype=torch.bool)
    is_near[4:9, 5:11] = True
    surfels, pixel = write_out(camera, torch.where(is_near, near, far))
    assert len(pixel) == 12 * 16  # one-sided differences: not even the pixels at the step are lost
    side = is_near.flatten()[pixel]
    assert ((surfels.normal[side] @ torch.tensor([0.0, 0.0, 1.0])) > 1 - 1e-5).all()
    assert ((surfels.normal[~side] @ slanted) > 1 - 1e-5).all()


def test_a_pixel_apart_from_all_its_neighbours_has_no_normal():
    camera = cameras(torch.eye(4))
    depth = torch.full((8, 8), 2.0)
    depth[3, 4] = 1.0
    _, pixel = write_out(camera, depth)
    assert pixel.tolist() == [p for p in range(64) if p != 3 * 8 + 4]


@pytest.mark.parametrize(("width", "kept"), [(1, False), (2, True), (3, True)])
def test_a_post_needs_two_pixels_to_have_a_surface_and_is_never_bridged_to_the_wall(width, kept):
    depth = torch.full((8, 12), 4.0)
    depth[:, 4 : 4 + width] = 1.0
    surfels, pixel = write_out(cameras(torch.eye(4)), depth)
    on_post = (pixel % 12 >= 4) & (pixel % 12 < 4 + width)
    assert int(on_post.sum()) == (8 * width if kept else 0)
    assert int((~on_post).sum()) == 8 * (12 - width)
    assert torch.allclose(surfels.normal, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)


@pytest.mark.parametrize("first", range(4, 8))
@pytest.mark.parametrize("upright", [True, False])
def test_surfaces_two_pixels_wide_have_surfels_on_a_grid_of_half_the_size(first, upright):
    """A post in front of a wall, wherever it stands on the grid."""
    depth = torch.full((16, 16), 4.0)
    depth[:, first : first + 2] = 1.0
    depth = depth if upright else depth.T.contiguous()
    memory = begin(views(torch.zeros(1, 3, 16, 16), cameras(torch.eye(4)[None]), depth[None]))
    on_post = memory.surfels.position[:, 2] < 2
    assert int(on_post.sum()) == 8
    focal = 8 * float(memory.views.cameras.K[0, 0, 0])
    drawn = SplatConfig().scale * memory.surfels.radius[on_post]
    assert (drawn >= 0.5 / focal).all()  # half of the post's width
    assert (drawn < 0.6 / focal).all()
    assert torch.allclose(memory.surfels.normal[on_post], torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)
    assert int((~on_post).sum()) == 7 * 8


@pytest.mark.parametrize(("noise", "clear"), [(0.002, True), (0.02, False)])
def test_noise_makes_no_narrow_surfaces(noise, clear):
    """A post in front of a wall: where noise makes edges, what is between edges is no surface."""
    random = torch.Generator().manual_seed(0)
    depth = torch.full((32, 48), 4.0)
    depth[:, 20:22] = 1.0
    depth *= 1 + noise * torch.randn(depth.shape, generator=random)
    camera = cameras(torch.eye(4))
    maps = one_map(camera, depth, None)
    _, pixel = surfels_from_points(maps, camera, torch.zeros(3, 32, 48), EVERYTHING, whole=maps)
    _, known = central_normals(unproject(camera, depth), depth, EDGE)
    known = known.flatten().nonzero()[:, 0]
    post = [p for p in range(32 * 48) if p % 48 in (20, 21)]
    assert not set(post) & set(known.tolist())
    assert set(pixel.tolist()) == set(known.tolist()) | set(post if clear else ())
    assert len(known) == 32 * 46 if clear else len(known) < 32 * 46


def test_pinholes_between_slanted_discs_are_closed_and_nothing_else_is_changed():
    """Floors at a slant, of every second pixel, with a wall far behind them."""
    for slant in (0.0, 60.0, 75.0):
        tilt = math.radians(slant)
        camera = cameras(torch.eye(4)[None], intrinsics(8.0))
        normal = torch.tensor([0.0, math.sin(tilt), math.cos(tilt)])
        depth = depth_of_plane(camera[0], normal, 2.0, 48, 48)[None]
        memory = begin(views(torch.zeros(1, 3, 48, 48), camera, depth))
        behind = begin(views(torch.ones(1, 3, 48, 48), camera, torch.full((1, 48, 48), 40.0)))
        both = cat([memory.surfels, behind.surfels])
        seen = splat(both, camera, 48, 48)
        is_floor = without_pinholes(seen).surfel < len(memory.surfels)
        assert is_floor[:, 4:-4, 4:-4].all()
        kept = seen.surfel < len(memory.surfels)
        assert (kept[:, 4:-4, 4:-4].all()) == (slant < 70)
        assert torch.equal(without_pinholes(seen).surfel[kept], seen.surfel[kept])


def test_a_steep_floor_is_one_surface_however_its_depth_runs():
    camera = cameras(torch.eye(4), intrinsics(70.0))
    depth = depth_of_plane(camera, torch.tensor([0.0, 1.0, 0.0]), 1.0, 20, 20)[11:]
    cut = Cameras(
        camera.world_from_cam,
        torch.diag(torch.tensor([1.0, 20 / 9, 1.0]))
        @ (camera.K - torch.tensor([[0, 0, 0], [0, 0, 11 / 20], [0, 0, 0]])),
    )
    assert float(depth[0, 0] / depth[1, 0]) > 1.5  # the jumps are large
    surfels, pixel = write_out(cut, depth)
    assert len(pixel) == depth.numel()
    assert torch.allclose(surfels.normal, torch.tensor([0.0, 1.0, 0.0]), atol=1e-4)


def test_forward_normals_are_exact_but_for_the_last_row_and_column():
    camera = posed(3)
    normal = camera.rotation @ normalize(torch.tensor([0.3, -0.4, 1.0]), dim=0)
    depth = depth_of_plane(camera, normal, float(camera.position @ normal) + 2.0, 6, 7)
    normals = forward_normals(unproject(camera, depth))
    assert ((normals[:-1, :-1] @ normal).abs() > 1 - 1e-5).all()
    assert (normals[-1] == 0).all()
    assert (normals[:, -1] == 0).all()


def test_normals_are_turned_away_from_the_viewer():
    sight = normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    normal = normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    away, cosine = turned_away(normal, sight)
    assert torch.allclose((away * sight).sum(-1), cosine)
    assert (cosine >= 0).all()
    assert ((away * normal).sum(-1).abs() > 1 - 1e-5).all()


def test_written_normals_point_away_from_the_camera_that_wrote_them(box):
    camera = box.look(20.0, at=(0.5, 0.2, -0.4), pitch=25.0)
    surfels, _ = write_out(camera[0], box.depth(camera, 24, 32)[0])
    assert (((surfels.position - camera.position) * surfels.normal).sum(-1) > 0).all()
    assert torch.allclose(surfels.normal.norm(dim=-1), torch.ones(len(surfels)), atol=1e-5)


# ---- radii ---------------------------------------------------------------------------------------


def test_the_radius_by_hand():
    depth, focal = torch.tensor([4.0, 4.0, 4.0]), torch.tensor(100.0)
    radius = footprint(depth, focal, torch.tensor([1.0, 0.5, 0.0]), 0.2)
    assert torch.allclose(radius, torch.tensor([0.02, 0.02 / 0.6, 0.1]))


def test_radii_follow_the_formula_with_the_focal_length_in_pixels_of_the_grid(box):
    camera = box.look(33.0)[0]
    depth = box.depth(box.look(33.0), 12, 16)[0]
    surfels, pixel = write_out(camera, depth)
    sight = normalize(surfels.position - camera.position, dim=-1)
    cosine = (sight * surfels.normal).sum(-1)
    focal = float(camera.K[0, 0]) * 16  # square pixels: the same along both axes
    assert focal == pytest.approx(float(camera.K[1, 1]) * 12, rel=1e-5)
    expected = 0.5 * depth.flatten()[pixel] / focal / (0.2 + 0.8 * cosine)
    assert torch.allclose(surfels.radius, expected, rtol=1e-4)


def test_radii_halve_when_the_grid_is_twice_as_fine(box):
    camera, of = box.look(0.0)[0], box.look(0.0)
    coarse, _ = write_out(camera, box.depth(of, 12, 16)[0])
    fine, _ = write_out(camera, box.depth(of, 24, 32)[0])
    assert float(fine.radius.median() / coarse.radius.median()) == pytest.approx(0.5, abs=0.01)


# ---- filters -------------------------------------------------------------------------------------


def test_every_surfel_is_the_point_and_colour_of_its_pixel(box):
    view = box.render(box.look(10.0), 24, 32)
    maps = PointMaps.from_depth(view.cameras, view.depth)[0]
    surfels, pixel = surfels_from_points(maps, view.cameras[0], view.image[0], SurfelConfig())
    assert torch.equal(surfels.position, maps.points.reshape(-1, 3)[pixel])
    assert torch.equal(surfels.color, view.image[0].permute(1, 2, 0).reshape(-1, 3)[pixel])
    assert (pixel.diff() > 0).all()


def test_untrusted_and_unknown_pixels_make_no_surfel():
    confidence = torch.ones(9, 9)
    confidence[0, 0] = 0.99
    depth = torch.full((9, 9), 2.0)
    depth[5, 5] = torch.nan
    _, pixel = write_out(cameras(torch.eye(4)), depth, confidence=confidence)
    assert sorted(set(range(81)) - set(pixel.tolist())) == [0, 5 * 9 + 5]


def test_a_map_without_any_depth_makes_no_surfels():
    surfels, pixel = write_out(cameras(torch.eye(4)), torch.full((4, 4), torch.nan))
    assert len(surfels) == len(pixel) == 0


def test_the_deepest_thousandth_is_dropped_unless_it_is_as_deep_as_the_rest():
    camera = cameras(torch.eye(4))
    slope = depth_of_plane(camera, torch.tensor([0.3, 0.1, 1.0]), 2.0, 20, 20)
    _, pixel = write_out(camera, slope, SurfelConfig())
    assert sorted(set(range(400)) - set(pixel.tolist())) == [int(slope.argmax())]
    _, pixel = write_out(camera, torch.full((20, 20), 2.0), SurfelConfig())
    assert len(pixel) == 400


# ---- the grid ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.05, 1))
def test_thinning_takes_for_each_cell_a_pixel_within_it(h, w, shrink):
    depth = torch.arange(1.0, h * w + 1).view(1, h, w)
    maps = PointMaps.from_depth(cameras(torch.eye(4)[None]), depth)
    coarse, image = thin(maps, torch.rand(1, 3, h, w), SurfelConfig(shrink=shrink))
    rows, columns = coarse.depth.shape[1:]
    assert (rows, columns) == (max(2, round(h * shrink)), max(2, round(w * shrink)))
    assert image.shape == (1, 3, rows, columns)
    index = (coarse.depth[0] - 1).long()  # the pixel that was taken
    i, j = index // w, index % w
    assert ((i + 0.5) * rows / h).floor().equal(torch.arange(rows)[:, None] + 0.0 * j)
    assert ((j + 0.5) * columns / w).floor().equal(torch.arange(columns) + 0.0 * i)
    assert torch.equal(coarse.points[..., 2], coarse.depth)


def test_thinning_by_one_changes_nothing(box):
    view = box.render(box.look(0.0, 90.0), 6, 8)
    maps = PointMaps.from_depth(view.cameras, view.depth)
    coarse, image = thin(maps, view.image, SurfelConfig(shrink=1.0))
    assert torch.equal(coarse.points, maps.points)
    assert torch.equal(image, view.image)


def test_ours_invents_no_depth_at_edges_and_the_released_way_does():
    depth = torch.full((1, 16, 16), 1.0)
    depth[:, :, 6:] = 3.0  # the second of four columns is interpolated from pixels 5 and 6
    maps = PointMaps.from_depth(cameras(torch.eye(4)[None]), depth)
    image = torch.zeros(1, 3, 16, 16)
    ours, _ = thin(maps, image, SurfelConfig(shrink=0.25))
    theirs, _ = thin(maps, image, SurfelConfig(shrink=0.25, scheme="forward"))
    assert set(ours.depth.unique().tolist()) == {1.0, 3.0}
    assert 2.0 in theirs.depth.unique().tolist()


def test_the_released_grid_of_an_image_of_512_by_288_has_25_by_14_points():
    maps = PointMaps.from_depth(cameras(torch.eye(4)[None]), torch.ones(1, 288, 512))
    coarse, _ = thin(maps, torch.zeros(1, 3, 288, 512), SurfelConfig.released())
    assert coarse.depth.shape == (1, 14, 26)
