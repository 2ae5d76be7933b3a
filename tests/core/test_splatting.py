"""Splatting: against a float64 loop over pixels, by hand, and by the laws of looking."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from core_helpers import same
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_helpers import eyes, make_surfels, soup
from torch.nn.functional import normalize

from vmemkit.core import (
    Cameras,
    Splat,
    SplatConfig,
    Surfels,
    cameras,
    cat,
    intrinsics,
    kernels,
    pose,
    splat,
    unproject,
)
from vmemkit.core.kernels import use

PLAIN = SplatConfig(scale=1.0)
HEIGHT, WIDTH = 15, 20


def straight(fov: float = 60.0) -> Cameras:
    return cameras(torch.eye(4)[None], intrinsics(fov, WIDTH / HEIGHT))


def reference(
    surfels: Surfels, camera: Cameras, config: SplatConfig, accepted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, depth and whether float32 can be expected to agree, per pixel, in float64.

    `accepted` [h w n] is True where a surfel may be seen.
    """
    rotation = camera.world_from_cam[0, :3, :3].double().numpy()
    q = (surfels.position.double().numpy() - camera.position[0].double().numpy()) @ rotation
    n = surfels.normal.double().numpy() @ rotation
    r = surfels.radius.double().numpy() * config.scale
    K = camera.K[0].double().numpy()
    c = (n * q).sum(1)
    index, depth = np.full((HEIGHT, WIDTH), -1), np.zeros((HEIGHT, WIDTH))
    sure = np.ones((HEIGHT, WIDTH), dtype=bool)
    for i in range(HEIGHT):
        for j in range(WIDTH):
            u, v = (j + 0.5) / WIDTH, (i + 0.5) / HEIGHT
            ray = np.array([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], 1.0])
            with np.errstate(divide="ignore", invalid="ignore"):
                z = c / (n @ ray)
            gap = np.linalg.norm(z[:, None] * ray - q, axis=1) - r
            faces = (c > 0) & (n @ ray > 0) & (q[:, 2] > 0) & (q[:, 2] < config.far)
            faces &= True if accepted is None else accepted[i, j]
            hit = np.flatnonzero(faces & (gap <= 0) & (z > config.near))
            blur = 1e-5 * (1 + np.abs(z) * np.linalg.norm(ray) / np.maximum(n @ ray, 1e-9))
            # an edge matters only where the disc would be what is seen
            first = z[hit].min() if len(hit) else np.inf
            matters = faces & (z > config.near - blur) & (z < first + blur)
            doubtful = matters & ((np.abs(gap) < blur) | (np.abs(z - config.near) < blur))
            rivals = hit[z[hit] < first + blur[hit]]
            sure[i, j] = not doubtful.any() and (len(rivals) < 2 or np.ptp(z[rivals]) == 0)
            if len(hit):
                index[i, j] = hit[np.lexsort((hit, z[hit]))[0]]
                depth[i, j] = first
    return index, depth, sure


def assert_agrees(seen: Splat, expected: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    index, depth, sure = expected
    assert sure.mean() > 0.95
    assert (seen.surfel[0].cpu().numpy() == index)[sure].all()
    np.testing.assert_allclose(seen.depth[0].cpu().numpy()[sure], depth[sure], rtol=1e-3, atol=1e-4)


# ---- against the reference -----------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 2**0.5]), st.sampled_from([0.02, 0.5, 2.0]))
def test_every_pixel_sees_the_nearest_disc_that_its_ray_hits(seed, scale, near):
    surfels, camera, config = soup(80, seed), eyes(1, seed), SplatConfig(scale, near)
    seen = splat(surfels, camera, HEIGHT, WIDTH, config)
    assert_agrees(seen, reference(surfels, camera, config))


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10_000))
def test_refusing_what_was_seen_peels_the_layers_off_one_by_one(seed):
    surfels, camera = soup(60, seed), eyes(1, seed)
    accepted = np.ones((HEIGHT, WIDTH, 60), dtype=bool)
    depth = torch.zeros(1, HEIGHT, WIDTH)
    for _ in range(4):
        left = torch.from_numpy(accepted).view(-1, 60)
        seen = splat(surfels, camera, HEIGHT, WIDTH, PLAIN, lambda s, p, left=left: left[p, s])
        assert_agrees(seen, reference(surfels, camera, PLAIN, accepted))
        hit = seen.surfel >= 0
        assert (seen.depth >= depth)[hit].all()
        depth = torch.where(hit, seen.depth, depth)
        row, column = hit[0].nonzero(as_tuple=True)
        accepted = accepted.copy()
        accepted[row, column, seen.surfel[hit]] = False


def test_what_is_refused_lets_see_what_lies_behind_it_in_its_camera_alone():
    discs = make_surfels([[0, 0, 2.0], [0, 0, 4.0]], [[0, 0, 1.0]] * 2, [0.5, 9.0])
    both = cat([straight(), straight()])

    def accept(surfel: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
        return (surfel != 0) | (pixel < HEIGHT * WIDTH)  # the first camera's pixels come first

    seen = splat(discs, both, HEIGHT, WIDTH, PLAIN, accept)
    assert (seen.surfel[0] == 0).any()
    assert (seen.surfel[1] == 1).all()
    assert torch.equal(seen.depth[1], torch.full((HEIGHT, WIDTH), 4.0))


@pytest.mark.parametrize("polygon", [False, True])
def test_if_all_is_refused_nothing_is_seen(polygon):
    config = SplatConfig(polygon=polygon)
    seen = splat(soup(50, 0), straight(), HEIGHT, WIDTH, config, lambda s, p: s < 0)
    assert (seen.surfel == -1).all()


def test_all_devices_see_the_same(device):
    surfels, camera = soup(80, 7), eyes(1, 7)
    seen = splat(surfels.to(device), camera.to(device), HEIGHT, WIDTH, PLAIN)
    assert seen.device.type == device
    assert_agrees(seen, reference(surfels, camera, PLAIN))


# ---- by hand -------------------------------------------------------------------------------------


def test_a_disc_that_faces_the_camera_covers_the_pixels_within_its_radius():
    seen = splat(make_surfels([0, 0, 2.0], [0, 0, 1.0], 0.5), straight(), HEIGHT, WIDTH, PLAIN)
    at = unproject(straight(), torch.full((1, HEIGHT, WIDTH), 2.0))
    assert torch.equal(seen.surfel >= 0, at[..., :2].norm(dim=-1) <= 0.5)
    hit = seen.surfel >= 0
    assert torch.allclose(seen.depth[hit], torch.tensor(2.0))
    assert torch.allclose(seen.cosine[hit], torch.tensor(1.0))


def test_a_slanted_disc_has_the_depth_of_its_plane_in_every_pixel():
    normal = normalize(torch.tensor([0.8, -0.3, 1.0]), dim=0)
    seen = splat(make_surfels([0.1, 0.2, 3.0], normal, 1.5), straight(), HEIGHT, WIDTH)
    hit = seen.surfel >= 0
    assert int(hit.sum()) > 50
    points = unproject(straight(), seen.depth)[hit]
    offset = torch.tensor([0.1, 0.2, 3.0]) @ normal
    assert torch.allclose(points @ normal, offset.expand(len(points)), atol=1e-5)


def test_a_disc_seen_from_its_other_side_is_not_drawn():
    seen = splat(make_surfels([0, 0, 2.0], [0, 0, -1.0], 0.5), straight(), HEIGHT, WIDTH)
    assert (seen.surfel == -1).all()


def test_a_disc_whose_centre_lies_behind_the_camera_is_not_drawn():
    floor = make_surfels([0, 1.0, -0.1], [0, 1.0, 0], 20.0)
    assert (splat(floor, straight(), HEIGHT, WIDTH).surfel == -1).all()


def test_a_disc_that_reaches_behind_the_camera_is_drawn_up_to_the_near_plane():
    floor = make_surfels([0, 1.0, 0.1], [0, 1.0, 0], 30.0)
    seen = splat(floor, straight(), HEIGHT, WIDTH, SplatConfig(near=2.5))
    below = torch.arange(HEIGHT) > HEIGHT // 2
    points = unproject(straight(), seen.depth)[0]
    hit = seen.surfel[0] >= 0
    assert not hit[~below].any()
    assert torch.allclose(points[hit][:, 1], torch.tensor(1.0), atol=1e-4)
    depth = 1 / ((torch.arange(HEIGHT) + 0.5) / HEIGHT - 0.5) * straight().K[0, 1, 1]
    assert torch.equal(hit.any(1), below & (depth > 2.5))


@pytest.mark.parametrize("duplicates", [2, 5])
def test_of_equal_depths_the_older_surfel_wins(duplicates):
    one = make_surfels([0.1, 0, 2.0], [0.2, 0, 1.0], 0.7)
    other = make_surfels([0, 0, 5.0], [0, 0, 1.0], 9.0)
    seen = splat(cat([other, *[one] * duplicates]), straight(), HEIGHT, WIDTH)
    assert set(seen.surfel.unique().tolist()) == {0, 1}


def test_pixels_that_see_nothing_hold_minus_one_and_zeros():
    for surfels in (soup(5, 0)[:0], make_surfels([9.0, 9.0, 1.0], [0, 0, 1.0], 0.1)):
        seen = splat(surfels, straight(), 3, 4)
        assert seen.surfel.shape == seen.depth.shape == seen.cosine.shape == (1, 3, 4)
        assert (seen.surfel == -1).all()
        assert (seen.depth == 0).all()
        assert (seen.cosine == 0).all()


def test_surfels_beyond_far_are_not_drawn():
    walls = make_surfels([[0, 0, 5.0], [0, 0, 3.0]], [[0, 0, 1.0], [0, 0, 1.0]], [9.0, 0.5])
    seen = splat(walls, straight(), HEIGHT, WIDTH, SplatConfig(far=4.0))
    assert set(seen.surfel.unique().tolist()) == {-1, 1}


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (-1, 4)])
def test_an_empty_canvas_is_refused(height, width):
    with pytest.raises(ValueError, match="at least 1 x 1"):
        splat(soup(3, 0), straight(), height, width)


# ---- laws ----------------------------------------------------------------------------------------


def test_the_cosine_is_that_of_the_line_of_sight_to_the_centre():
    surfels, camera = soup(80, 3), eyes(1, 3)
    seen = splat(surfels, camera, HEIGHT, WIDTH)
    hit = seen.surfel >= 0
    ids = seen.surfel[hit]
    sight = normalize(surfels.position[ids] - camera.position[0], dim=-1)
    assert torch.allclose(seen.cosine[hit], (sight * surfels.normal[ids]).sum(-1), atol=1e-5)


def test_several_cameras_see_what_each_sees_alone():
    surfels, views = soup(80, 4), eyes(3, 4)
    together = splat(surfels, views, HEIGHT, WIDTH)
    alone = cat([splat(surfels, views[i : i + 1], HEIGHT, WIDTH) for i in range(3)])
    assert torch.equal(together.surfel, alone.surfel)
    assert torch.equal(together.depth, alone.depth)


def test_the_order_of_the_surfels_changes_only_their_names():
    surfels, camera = soup(80, 5), eyes(1, 5)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    seen = splat(surfels, camera, HEIGHT, WIDTH)
    shuffled = splat(surfels[order], camera, HEIGHT, WIDTH)
    renamed = torch.where(shuffled.surfel >= 0, order[shuffled.surfel], -1)
    assert torch.equal(renamed, seen.surfel)
    assert torch.equal(shuffled.depth, seen.depth)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_moving_the_world_and_the_camera_together_changes_nothing(seed):
    surfels, camera = soup(80, seed), eyes(1, seed)
    other = eyes(1, seed + 1).world_from_cam[0]
    moved = surfels.replace(
        position=surfels.position @ other[:3, :3].T + other[:3, 3],
        normal=surfels.normal @ other[:3, :3].T,
    )
    moved_camera = camera.replace(world_from_cam=other @ camera.world_from_cam)
    same = (
        splat(moved, moved_camera, HEIGHT, WIDTH).surfel
        == splat(surfels, camera, HEIGHT, WIDTH).surfel
    )
    assert float(same.float().mean()) > 0.98  # rays that graze an edge may flip


def test_many_large_discs_are_drawn_in_pieces_and_as_a_whole_alike():
    surfels, camera = soup(20, 6), eyes(1, 6)
    surfels = surfels.replace(radius=surfels.radius * 20)  # some fill the canvas
    seen = splat(surfels, camera, 600, 800)
    with use("torch"):
        expected = splat(surfels, camera, 600, 800)
    assert same(seen.leaves(), expected.leaves())


def test_discs_circumscribed_about_their_pixels_leave_no_holes(box):
    memory = box.memory(0.0)
    seen = splat(memory.surfels, box.look(0.0), 48, 64)
    inside = seen.surfel[0, 2:-2, 2:-2]  # the outermost surfels have no neighbours
    assert float((inside >= 0).float().mean()) > 0.995
    true = box.depth(box.look(0.0), 48, 64)
    hit = seen.surfel >= 0
    assert float(((seen.depth - true).abs() / true)[hit].median()) < 1e-4


def test_a_polygon_is_a_disc_but_for_a_few_pixels_of_its_rim():
    one = make_surfels([0.2, -0.1, 3.0], [0.4, 0.3, 1.0], 1.0)
    disc = splat(one, straight(), 90, 120, PLAIN)
    polygon = splat(one, straight(), 90, 120, SplatConfig(scale=1.0, polygon=True))
    assert float((disc.surfel != polygon.surfel).float().mean()) < 0.01
    share = int((polygon.surfel >= 0).sum()) / int((disc.surfel >= 0).sum())
    area = 16 / 2 * math.sin(2 * math.pi / 16) / math.pi  # of the 16-gon in its circle
    assert share == pytest.approx(area, abs=0.01)
    hit = polygon.surfel >= 0
    assert polygon.depth[hit].unique().numel() == 1
    assert float(polygon.depth[hit][0]) == pytest.approx(3.0, abs=1e-5)


def test_polygons_far_off_the_canvas_or_behind_it_are_not_drawn():
    pose_back = pose(torch.diag(torch.tensor([-1.0, 1.0, -1.0])), torch.zeros(3))[None]
    back = Cameras(pose_back, straight().K)
    one = make_surfels([0, 0, 2.0], [0, 0, 1.0], 0.5)
    config = SplatConfig.released()
    assert (splat(one, straight(), HEIGHT, WIDTH, config).surfel == 0).any()
    assert (splat(one, back, HEIGHT, WIDTH, config).surfel == -1).all()


@pytest.mark.parametrize("backend", ["torch", kernels.backend("cpu")])
@pytest.mark.parametrize("n", [3, 20_000])
def test_no_cameras_are_refused(backend, n):
    discs = make_surfels([0.0, 0.0, 2.0], [0.0, 0.0, 1.0], 0.1)[torch.zeros(n).long()]
    with (
        use(backend),
        pytest.raises(ValueError, match=r"one or more cameras .* \[0, 4, 4"),
    ):
        splat(discs, straight()[:0], 8, 8)


@pytest.mark.parametrize("backend", ["torch", kernels.backend("cpu")])
@pytest.mark.usefixtures("as_installed")
def test_cameras_that_are_no_row_of_cameras_are_refused(backend):
    many = eyes(3, 0)
    for bad in (many[0], Cameras(many.world_from_cam, many.K[:1]), many[None]):
        with use(backend), pytest.raises(ValueError, match="one or more cameras"):
            splat(soup(9, 0), bad, 8, 8)


@pytest.mark.parametrize("backend", ["torch", kernels.backend("cpu")])
def test_cameras_may_come_as_doubles_and_all_with_gradients(backend):
    many, discs = eyes(3, 0), soup(40, 1)
    other = many.map(lambda x: x.double().requires_grad_())
    with use(backend):
        seen = splat(discs.map(lambda x: x.clone().requires_grad_()), other, HEIGHT, WIDTH)
        assert torch.equal(seen.surfel, splat(discs, many, HEIGHT, WIDTH).surfel)


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": 0.0},
        {"scale": math.inf},
        {"near": -1.0},
        {"near": 2.0, "far": 1.0},
        {"far": math.nan},
    ],
)
def test_settings_that_draw_nothing_are_refused(bad):
    with pytest.raises(ValueError, match="near < far"):
        SplatConfig(**bad)
