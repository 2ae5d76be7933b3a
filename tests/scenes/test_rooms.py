"""The procedural house: exact depth and visibility, real walls, room to walk, stable pictures."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import cameras, intrinsics, kernels, look_at, project, unproject
from vmemkit.core.kernels import use
from vmemkit.scenes import Rooms, rooms, upright_cameras
from vmemkit.scenes.house import finishes
from vmemkit.scenes.house.finishes import Finish, Surface
from vmemkit.scenes.house.plan import PAPERS
from vmemkit.scenes.house.ray_casting import VIEWER_RADIUS

HOUSE = rooms(seed=1)
K = intrinsics(75.0, 4 / 3)


def cameras_at(position: torch.Tensor, headings: list[float], slope: float = 11.0):
    """Cameras at one place that look in several directions (degrees)."""
    slopes = torch.full((len(headings),), slope)
    return upright_cameras(position[None], torch.tensor(headings), K, slopes)


def is_solid(house: Rooms, points: torch.Tensor) -> torch.Tensor:
    """Whether points [n 3] are in rock, a box or a ball: the definition of the house."""

    def within(blocks):
        p = points[:, None]
        return ((p > blocks.low) & (p < blocks.high)).all(-1)

    in_ball = torch.cdist(points, house.balls.middle) < house.balls.radius
    return ~within(house.cells).any(1) | within(house.boxes).any(1) | in_ball.any(1)


# ---- the picture ---------------------------------------------------------------------------------


def test_the_same_seed_gives_bit_equal_pictures():
    camera = cameras_at(HOUSE.centres[0], [30.0])
    again = rooms(seed=1).render(camera, 24, 32)
    assert torch.equal(HOUSE.render(camera, 24, 32).image, again.image)


def test_another_seed_gives_another_house():
    assert not torch.equal(rooms(seed=2).boxes.low[:9], HOUSE.boxes.low[:9])


def test_views_are_given_images_with_positive_depth():
    views = HOUSE.render(cameras_at(HOUSE.centres[1], [0.0, 90.0, 180.0]), 24, 32)
    assert views.image.shape == (3, 3, 24, 32)
    assert 0 <= views.image.amin() <= views.image.amax() <= 1
    assert (views.depth > 0).all()
    assert views.given.all()
    assert views.confidence is None


def test_depth_agrees_with_marching_along_the_rays():
    camera = cameras_at(HOUSE.doorways[0], [70.0, -110.0])
    depth = HOUSE.render(camera, 12, 16).depth
    surface = unproject(camera, depth).reshape(-1, 3)
    ray = surface - HOUSE.doorways[0]
    steps = torch.arange(0.0, 1.1, 0.001)  # of the way to the surface and somewhat beyond
    for direction in ray[:: len(ray) // 40]:
        solid = is_solid(HOUSE, HOUSE.doorways[0] + steps[:, None] * direction)
        assert float(steps[solid][0]) == pytest.approx(1, abs=0.003)


def test_depth_does_not_depend_on_the_resolution():
    camera = cameras_at(HOUSE.centres[0], [45.0])
    fine, coarse = (HOUSE.render(camera, 8 * n, 10 * n).depth for n in (3, 1))
    assert torch.allclose(fine[:, 1::3, 1::3], coarse, rtol=1e-4)


def test_more_samples_soften_the_image_and_leave_depth_alone():
    camera = cameras_at(HOUSE.centres[0], [100.0])
    rough, soft = (HOUSE.render(camera, 40, 50, samples=n) for n in (1, 3))
    assert torch.equal(rough.depth, soft.depth)
    assert float((rough.image - soft.image).abs().mean()) < 0.03
    assert soft.image.diff(dim=-1).abs().mean() < rough.image.diff(dim=-1).abs().mean()


def test_a_place_has_the_same_color_from_everywhere():
    first = cameras_at(HOUSE.centres[0], [20.0])
    second = cameras_at(HOUSE.centres[0] + torch.tensor([0.3, 0.0, -0.2]), [25.0])
    views = HOUSE.render(first, 90, 120)
    points = unproject(first, views.depth).reshape(-1, 3)
    seen = HOUSE.visible(points, second)[0]
    uv = project(second, points)[0][:, seen]
    there = torch.nn.functional.grid_sample(
        HOUSE.render(second, 90, 120).image, 2 * uv[None] - 1, align_corners=False
    )[0, :, 0]
    here = views.image[0].flatten(1)[:, seen]
    assert seen.float().mean() > 0.7
    assert float((there - here).abs().median()) < 0.01


def test_no_two_rooms_share_their_walls():
    house = rooms(seed=3, n_rooms=8)
    walls = house.cells.finish[:8]
    assert len(walls.colors[:, 0].unique(dim=0)) == 8
    assert len(walls.pattern.unique()) == 8


def test_no_cameras_give_no_views():
    assert HOUSE.render(cameras_at(HOUSE.centres[0], []), 4, 5).image.shape == (0, 3, 4, 5)


# ---- who sees what -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 50), st.floats(0, 360), st.integers(0, 1))
def test_a_camera_sees_the_points_of_its_own_depth_and_none_behind_them(seed, yaw, room):
    house = rooms(seed)
    camera = cameras_at(house.centres[room], [yaw])
    depth = house.render(camera, 15, 20).depth
    assert house.visible(unproject(camera, depth).reshape(-1, 3), camera).all()
    assert not house.visible(unproject(camera, depth + 0.05).reshape(-1, 3), camera).any()


def test_what_is_behind_or_beside_the_camera_is_not_visible():
    camera = cameras_at(HOUSE.centres[0], [0.0], slope=0.0)
    offsets = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.5]])
    assert HOUSE.visible(HOUSE.centres[0] + offsets, camera).tolist() == [[True, False, False]]


@pytest.mark.parametrize("seed", range(4))
def test_the_next_room_is_visible_through_the_doorway_alone(seed):
    house = rooms(seed)
    eye, door, room = house.centres[0], house.cells[2:], house.cells[1:2]
    camera = cameras(look_at(eye[None], house.doorways), intrinsics(160.0))
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    points = room.low + points * (room.high - room.low)
    ends = torch.stack([door.low[:, 0], door.high[:, 0]])  # both faces of the wall
    share = (ends[:, 0] - eye[0]) / (points[:, :1] - eye[0])  # [n 2] of the way
    crossing = eye + share[..., None] * (points - eye)[:, None]
    through = (
        ((crossing > door.low - 0.01) & (crossing < door.high + 0.01))[..., 1:].all(-1).all(-1)
    )
    visible = house.visible(points, camera)[0]
    assert visible.sum() > 20
    assert not (visible & ~through).any()


def test_visible_needs_no_points():
    camera = cameras_at(HOUSE.centres[0], [0.0, 90.0])
    assert HOUSE.visible(torch.zeros(0, 3), camera).shape == (2, 0)


# ---- the compiled code ---------------------------------------------------------------------------

needs_numba = pytest.mark.skipif(kernels.backend("cpu") != "numba", reason="numba is not installed")


@needs_numba
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_compiled_code_draws_the_same_bits(seed, threads):
    house = rooms(seed, n_rooms=2 + seed)
    eyes = torch.cat([house.centres, house.doorways])
    camera = upright_cameras(
        eyes, 77.0 * torch.arange(len(eyes)), K, torch.full_like(eyes[:, 0], 9)
    )
    with use("numba", threads=threads):
        views = house.render(camera, 31, 47, samples=2)
    with use("torch"):
        expected = house.render(camera, 31, 47, samples=2)
    assert torch.equal(views.image, expected.image)
    assert torch.equal(views.depth, expected.depth)


@needs_numba
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 30_000])
def test_compiled_code_meets_the_same_surfaces(count):
    random = torch.Generator().manual_seed(count)
    house = rooms(seed=5, n_rooms=5)
    origin = house.centres[torch.randint(5, (count,), generator=random)]
    direction = torch.randn(count, 3, generator=random)
    direction[::5, count % 3] = 0.0  # along walls
    with use("numba", threads=2):
        hits = house.cast(origin, direction)
    with use("torch"):
        expected = house.cast(origin, direction)
    leaves = expected.leaves()
    assert all(torch.equal(got, leaves[name]) for name, got in hits.leaves().items())
    if count > 1000:  # cells, boxes and balls
        assert hits.block.min() < len(house.cells)
        assert hits.block.max() >= len(house.cells) + len(house.boxes)


@needs_numba
@pytest.mark.parametrize("pattern", finishes.PATTERNS)
def test_compiled_code_paints_the_same_bits(pattern):
    uv = 4 * torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)) - 1
    with use("torch"):
        expected = finishes.paint(surface(pattern, uv, 0.02))
    assert torch.equal(finishes.paint(surface(pattern, uv, 0.02)), expected)


# ---- where one can stand -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(14))
def test_the_straight_ways_between_centres_and_doorways_are_free(seed):
    house = rooms(seed, n_rooms=2 + seed % 4)
    share = torch.linspace(0, 1, 40)[:, None]
    for i, door in enumerate(house.doorways):
        for centre in house.centres[i : i + 2]:
            assert house.free(torch.lerp(centre[None], door[None], share)).all()


def test_a_free_place_keeps_its_distance_from_everything():
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0))
    low, high = HOUSE.cells.low.amin(0), HOUSE.cells.high.amax(0)
    points = low + points * (high - low)
    points[:, 1] = -1.5
    free = points[HOUSE.free(points)]
    assert len(free) > 300
    for angle in range(0, 360, 45):
        turn = math.radians(angle)
        ring = VIEWER_RADIUS * torch.tensor([math.cos(turn), 0.0, math.sin(turn)])
        assert not is_solid(HOUSE, free + 0.99 * ring).any()


def test_nobody_stands_in_furniture_in_walls_or_above_the_ceiling():
    thick = (HOUSE.boxes.high - HOUSE.boxes.low)[:, 1] > 0.05
    assert not HOUSE.free(HOUSE.boxes.middle[thick]).any()
    assert not HOUSE.free(HOUSE.balls.middle).any()
    above = HOUSE.centres - torch.tensor([0.0, 3.0, 0.0])
    assert not HOUSE.free(above).any()
    assert not HOUSE.free(HOUSE.cells.low).any()


def test_every_point_knows_its_room():
    assert HOUSE.room_of(HOUSE.centres).tolist() == [0, 1]
    assert HOUSE.room_of(HOUSE.doorways).tolist() == [-1]
    assert HOUSE.room_of(HOUSE.centres + 100).tolist() == [-1, -1]


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_rooms", [-1, 0, 1, 9, 10**9])
def test_a_house_has_two_to_eight_rooms(n_rooms):
    with pytest.raises(ValueError, match="n_rooms must be 2 to 8"):
        rooms(n_rooms=n_rooms)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_are_what_the_generator_takes(seed):
    with pytest.raises(ValueError, match="seed must be"):
        rooms(seed)


@pytest.mark.parametrize("place", [HOUSE.cells.low[0] - 0.1, HOUSE.boxes.middle[20]])
def test_a_camera_in_a_wall_or_in_furniture_is_refused(place):
    camera = cameras_at(place, [0.0])
    with pytest.raises(ValueError, match=r"camera 0 .* is inside a wall or a piece of furniture"):
        HOUSE.render(camera, 4, 4)
    with pytest.raises(ValueError, match="is inside a wall"):
        HOUSE.visible(HOUSE.centres, camera)


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (10**6, 10**6)])
def test_sizes_that_are_no_images_are_refused(size):
    with pytest.raises(ValueError, match="at least 1 x 1 pixel"):
        HOUSE.render(cameras_at(HOUSE.centres[0], [0.0]), *size)


# ---- finishes ------------------------------------------------------------------------------------


def surface(pattern: str, uv: torch.Tensor, pixel: float) -> Surface:
    n = len(uv)
    finish = Finish(
        pattern=torch.full((n,), list(finishes.PATTERNS).index(pattern)),
        colors=torch.tensor([[0.8, 0.3, 0.2], [0.2, 0.5, 0.9], [0.1, 0.9, 0.4]]).expand(n, 3, 3),
        scale=torch.full((n,), 0.3),
        seed=torch.full((n,), 7),
        glow=torch.zeros(n),
    )
    return Surface(uv, torch.full((n, 2), 2.5), torch.full((n, 2), pixel), finish)


@pytest.mark.parametrize("pattern", finishes.PATTERNS)
@pytest.mark.parametrize("pixel", [0.0, 0.01, 3.0])
def test_every_finish_paints_colors(pattern, pixel):
    uv = 2.5 * torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    color = finishes.paint(surface(pattern, uv, pixel))
    assert color.shape == (500, 3)
    assert ((color >= 0) & (color <= 1)).all()


@pytest.mark.parametrize("pattern", [*PAPERS, "brick", "planks", "checker", "parquet"])
def test_a_pattern_far_away_fades_to_its_mean(pattern):
    uv = 2.5 * torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    near, far = (finishes.paint(surface(pattern, uv, pixel)) for pixel in (1e-4, 3.0))
    assert (far.std(0) < 0.03).all()
    assert torch.allclose(far.mean(0), near.mean(0), atol=0.05)


@settings(deadline=None, max_examples=25)
@given(st.floats(-5, 5), st.floats(0.1, 0.9), st.floats(0.05, 4))
def test_a_pulse_is_the_share_of_its_interval_that_is_on(x, duty, width):
    samples = x - width / 2 + width * (torch.arange(20000) + 0.5) / 20000
    share = float((samples % 1 < duty).float().mean())
    got = finishes.pulse(torch.tensor([x]), duty, torch.tensor([width]))
    assert float(got) == pytest.approx(share, abs=1e-3)


def test_samples_at_edges_alone_look_like_samples_everywhere():
    camera = cameras_at(HOUSE.centres[0], [100.0])
    everywhere = torch.nn.functional.avg_pool2d(HOUSE.render(camera, 120, 160).image, 2)
    rough, soft = (HOUSE.render(camera, 60, 80, samples=n).image for n in (1, 2))
    error = (soft - everywhere).square().mean()
    assert error < 1e-3  # 30 dB
    assert error < 0.25 * (rough - everywhere).square().mean()
