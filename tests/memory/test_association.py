"""Association: what is new to a view, by projection and by radius, and what it sees by its depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from vmemkit.core import (
    Cameras,
    PointMaps,
    SurfelConfig,
    Surfels,
    Views,
    cameras,
    cat,
    intrinsics,
    look_at,
    surfels_from_points,
)
from vmemkit.core.kernels import RUN, backend, use
from vmemkit.memory import (
    AssociationConfig,
    MemoryConfig,
    begin,
    by_projection,
    forget,
    sightings_by_depth,
    unpack_sightings,
    write,
)
from vmemkit.memory.association import by_radius, released_distance

GRID = (24, 32)
CONFIG = AssociationConfig()


def surfels_of(camera: Cameras, depth: torch.Tensor) -> tuple[Surfels, torch.Tensor]:
    """Surfels of one camera (1,) and depth map (1, h, w), and their pixels."""
    maps = PointMaps.from_depth(camera, depth)[0]
    config = SurfelConfig(depth_quantile=1.0)
    return surfels_from_points(maps, camera[0], torch.zeros(3, *depth.shape[1:]), config)


def associate(camera: Cameras, depth: torch.Tensor, old: Surfels):
    new, pixel = surfels_of(camera, depth)
    grid = (depth.shape[1], depth.shape[2])
    fresh = by_projection(new, pixel, grid, camera, old, CONFIG)
    return seen_by(camera, depth, old), fresh, new


def seeing(cameras_: Cameras, depth: torch.Tensor) -> Views:
    """Views of which only depth matters, all of it trusted."""
    t, h, w = depth.shape
    images, flags = torch.zeros(t, 3, h, w), torch.ones(t, dtype=torch.bool)
    return Views(cameras_, images, flags, depth, torch.ones_like(depth))


def seen_by(camera: Cameras, depth: torch.Tensor, old: Surfels) -> torch.Tensor:
    """The old surfels that a camera (1,) with this depth sees."""
    runs = torch.arange(-(-len(old) // RUN))
    rows = sightings_by_depth(old, runs, 0, seeing(camera, depth), MemoryConfig())
    return unpack_sightings(rows).surfel.long()


def wall(distance: float) -> torch.Tensor:
    return torch.full((1, *GRID), distance)


K = intrinsics(70.0, GRID[1] / GRID[0])  # square pixels
HERE = cameras(torch.eye(4)[None], K)
FAR = cameras(look_at(torch.tensor([[0.0, 0, -6.0]]), torch.zeros(1, 3)), K)

# ---- by projection -------------------------------------------------------------------------------


def test_into_an_empty_memory_every_surfel_is_new(box):
    camera = box.look(0.0)
    nothing = surfels_of(camera, wall(2.0))[0][:0]
    seen, fresh, new = associate(camera, box.depth(camera, *GRID), nothing)
    assert len(seen) == 0
    assert fresh.all()
    assert len(fresh) == len(new) == GRID[0] * GRID[1]


@settings(deadline=None, max_examples=10)
@given(st.floats(-180, 180), st.floats(-40, 40))
def test_a_view_sees_again_all_that_it_wrote_and_nothing_is_new_to_it(box, yaw, pitch):
    camera = box.look(yaw, at=(0.4, 0.1, -0.3), pitch=pitch)
    depth = box.depth(camera, *GRID)
    old, _ = surfels_of(camera, depth)
    seen, fresh, _ = associate(camera, depth, old)
    assert seen.tolist() == list(range(len(old)))
    assert not fresh.any()


def test_writing_a_view_twice_adds_no_surfel_and_gives_every_surfel_a_sighting(box):
    view = box.render(box.look(25.0))
    once = begin(view)
    twice = write(once, view)
    assert len(twice.surfels) == len(once.surfels) > 100
    assert twice.sightings.surfel.tolist() == 2 * list(range(len(once.surfels)))
    assert twice.sightings.view.tolist() == [0] * len(once.surfels) + [1] * len(once.surfels)


@settings(deadline=None, max_examples=10)
@given(st.floats(-30, 30), st.floats(-0.5, 0.5), st.floats(-0.5, 0.8))
def test_from_elsewhere_what_is_in_the_image_is_seen_and_what_was_is_not_new(box, yaw, x, z):
    first, second = box.look(0.0), box.look(yaw, at=(x, 0.0, z))
    old, _ = surfels_of(first, box.depth(first, *GRID))
    seen, fresh, new = associate(second, box.depth(second, *GRID), old)
    in_image = box.visible(old.position, second)[0]
    assert float(in_image[seen].float().mean()) > 0.97
    missed = in_image.clone()
    missed[seen] = False
    assert float(missed.sum() / in_image.sum()) < 0.03
    known = box.visible(new.position, first)[0]
    assert float(fresh[known].float().mean()) < 0.03
    outside = ~known & (_border_distance(new.position, first) > 0.1)
    assert fresh[outside].all()


def _border_distance(points: torch.Tensor, camera: Cameras) -> torch.Tensor:
    """How far outside the image of the camera (1,) points project, in images."""
    ahead = (points - camera.position[0]) @ camera.rotation[0]
    uv = (ahead @ camera.K[0].T)[:, :2] / ahead[:, 2:]
    off = torch.maximum(-uv, uv - 1).amax(-1)
    return torch.where(ahead[:, 2] > 0, off, torch.inf)


def test_a_wall_hidden_by_a_nearer_one_is_not_seen():
    old, _ = surfels_of(HERE, wall(4.0))
    seen, fresh, _ = associate(HERE, wall(2.0), old)
    assert len(seen) == 0
    assert fresh.all()


def test_old_surfels_in_front_do_not_hide_the_surface_that_the_view_sees():
    behind, in_front = surfels_of(HERE, wall(4.0))[0], surfels_of(HERE, wall(2.0))[0]
    seen, fresh, _ = associate(HERE, wall(4.0), cat([in_front, behind]))
    assert seen.tolist() == list(range(len(in_front), len(in_front) + len(behind)))
    assert not fresh.any()


def test_the_other_side_of_a_wall_is_another_surface():
    camera = cameras(look_at(torch.tensor([[0.0, 0, 6.0]]), torch.tensor([[0.0, 0, 3.0]])), K)
    old, _ = surfels_of(HERE, wall(3.0))
    seen, fresh, _ = associate(camera, wall(3.0), old)
    assert len(seen) == 0
    assert fresh.all()


def test_surfaces_that_meet_at_a_right_angle_are_told_apart():
    old, _ = surfels_of(HERE, wall(2.0))
    floor = old.replace(normal=torch.tensor([0.0, 1.0, 0.0]).expand(len(old), 3))
    _, fresh, _ = associate(HERE, wall(2.0), floor)
    assert fresh.all()


def test_a_distant_view_sees_every_fine_surfel_of_a_nearer_one():
    old, _ = surfels_of(HERE, wall(1.0))
    seen, fresh, _ = associate(FAR, wall(7.0), old)
    assert len(seen) == len(old)
    assert 0 < int((~fresh).sum()) < len(old) / 20  # a few coarse surfels see them all


def test_a_near_view_of_a_coarse_surface_adds_nothing():
    old, _ = surfels_of(FAR, wall(7.0))
    seen, fresh, _ = associate(HERE, wall(1.0), old)
    assert not fresh.any()
    assert 0 < len(seen) < len(old) / 10


@pytest.mark.parametrize(("off", "explained"), [(0.0, True), (0.1, True), (0.6, False)])
def test_how_far_off_the_same_surface_may_lie_is_measured_in_the_coarser_radii(off, explained):
    coarse, _ = surfels_of(FAR, wall(7.0 + off))
    _, fresh, fine = associate(HERE, wall(1.0), coarse)
    assert 2 * float(fine.radius.amax()) < 0.1 < 2 * float(coarse.radius.amin()) < 0.6
    assert bool(fresh.any()) != explained


@pytest.mark.parametrize("scale", [0.25, 4.0, 1024.0])
def test_the_unit_of_length_does_not_matter(box, scale):
    def scaled(camera: Cameras) -> Cameras:
        pose = camera.world_from_cam.clone()
        pose[:, :3, 3] *= scale
        return camera.replace(world_from_cam=pose)

    first, second = box.look(0.0), box.look(30.0, at=(0.3, 0.1, 0.2))
    depths = box.depth(first, *GRID), box.depth(second, *GRID)
    plain = associate(second, depths[1], surfels_of(first, depths[0])[0])
    old, _ = surfels_of(scaled(first), depths[0] * scale)
    large = associate(scaled(second), depths[1] * scale, old)
    assert torch.equal(plain[0], large[0])
    assert torch.equal(plain[1], large[1])


def test_a_view_without_surfels_sees_nothing():
    old, _ = surfels_of(HERE, wall(2.0))
    none = torch.zeros(0, dtype=torch.int64)
    assert len(by_projection(old[:0], none, GRID, HERE, old, CONFIG)) == 0
    assert len(seen_by(HERE, torch.full((1, *GRID), torch.nan), old)) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"behind": -0.1}, "behind and before are shares"),
        ({"behind": 1.0}, "behind and before are shares"),
        ({"before": 1.5}, "behind and before are shares"),
        ({"before": float("nan")}, "behind and before are shares"),
        ({"distance": 0.0}, "need distance > 0"),
        ({"normal_cosine": 2.0}, "need distance > 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AssociationConfig(**settings)


# ---- by depth ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "sees"), [(2.0, True), (1.96, True), (1.9, False), (2.8, True), (2.9, False)]
)
def test_a_seen_surfel_is_a_little_behind_the_depth_or_well_before_it(distance, sees):
    """Surfels 2 m away, faced: 3 % behind the view's depth, or 30 % before it."""
    old, _ = surfels_of(HERE, wall(2.0))
    assert len(seen_by(HERE, wall(distance), old)) == (len(old) if sees else 0)


def test_on_a_slanted_surface_depth_may_differ_from_that_of_the_pixel(box):
    """Low over the floor, depth grows by more than 3 % from one pixel to the next."""
    camera = box.look(0.0, at=(0.0, 1.2, 0.0))
    old, _ = surfels_of(camera, box.depth(camera, 4 * GRID[0], 4 * GRID[1]))
    depth = box.depth(camera, *GRID)
    truly = box.visible(old.position, camera)[0]
    seen = torch.zeros(len(old), dtype=torch.bool)
    seen[seen_by(camera, depth, old)] = True
    assert float((seen & truly).sum() / truly.sum()) > 0.97


def test_a_rim_in_the_image_is_no_sighting():
    """Half of a disc of 1 m lies in the image of a near view, but not its centre."""
    far, _ = surfels_of(HERE, wall(2.0))
    disc = far[:1].replace(position=torch.tensor([[-1.0, 0, 1.0]]), radius=torch.tensor([0.9]))
    assert len(seen_by(HERE, wall(1.0), disc)) == 0
    assert len(seen_by(HERE, wall(1.0), disc.replace(position=torch.tensor([[-0.5, 0, 1.0]])))) == 1


def test_an_older_view_is_credited_with_what_a_later_one_wrote(box):
    """Half of the first view's surfels are forgotten, so that the second writes them again."""
    first, second = box.render(box.look(0.0)), box.render(box.look(5.0))
    once = begin(first)
    memory = write(forget(once, once.surfels.position[:, 0] > 0), second)
    by_second = torch.arange(len(memory.surfels)) >= memory.ends[0]
    seen = memory.sightings.surfel[memory.sightings.view == 0].long()
    inside = box.visible(memory.surfels.position, first.cameras)[0]
    assert float(by_second[seen].sum() / (by_second & inside).sum()) > 0.95
    assert len(memory.truncate(1).sightings) == memory.ends[0]  # undone with the later view


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(0, 700), st.integers(1, 5), st.integers(0, 600))
def test_the_kernel_finds_what_the_plain_code_finds(seed, n, t, first):
    """Random discs, cameras and depth, some of it unknown."""
    rng = torch.Generator().manual_seed(seed)
    surfels = cloud(n, rng).replace(position=4 * torch.rand(n, 3, generator=rng) - 2)
    eyes, aims = torch.randn(2, t, 3, generator=rng)
    depth = 3 * torch.rand(t, *GRID, generator=rng)
    depth = torch.where(torch.rand(t, *GRID, generator=rng) < 0.1, torch.nan, depth)
    views = seeing(cameras(look_at(eyes, aims), K), depth)
    views = views.replace(confidence=2 * torch.rand(t, *GRID, generator=rng))
    runs = torch.arange(-(-n // RUN))[first // RUN :]
    found = []
    for name in ("torch", backend("cpu")):
        with use(name, threads=None if name == "torch" else 3):
            found.append(sightings_by_depth(surfels, runs, first, views, MemoryConfig()))
    for column, other in zip(*(rows.leaves().values() for rows in found), strict=True):
        assert torch.equal(column, other)


# ---- by radius -----------------------------------------------------------------------------------


def cloud(n: int, rng: torch.Generator) -> Surfels:
    position = torch.rand(n, 3, generator=rng)
    normal = normalize(torch.randn(n, 3, generator=rng), dim=-1)
    return Surfels(position, normal, torch.rand(n, generator=rng), position)


def slow_by_radius(new: Surfels, old: Surfels, distance: float, cosine: float):
    seen, fresh = set(), []
    for i in range(len(new)):
        best, nearest = -1, np.inf
        for j in range(len(old)):
            gap = float((new.position[i] - old.position[j]).double().norm())
            agrees = float(new.normal[i].double() @ old.normal[j].double()) > cosine
            if agrees and gap <= distance and gap < nearest:
                best, nearest = j, gap
        fresh.append(best < 0)
        seen |= {best} - {-1}
    return sorted(seen), fresh


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10_000),
    st.integers(0, 12),
    st.integers(0, 12),
    st.floats(0.05, 0.6),
    st.floats(-0.5, 0.9),
)
def test_the_radius_rule_is_that_of_a_loop_over_all_pairs(seed, n, m, distance, cosine):
    rng = torch.Generator().manual_seed(seed)
    new, old = cloud(n, rng), cloud(m, rng)
    seen, fresh = by_radius(new, old, distance, cosine)
    assert (seen.tolist(), fresh.tolist()) == slow_by_radius(new, old, distance, cosine)


def test_more_neighbours_are_searched_where_the_nearest_ones_do_not_agree():
    """Old surfels in one place, of which only the last few face the right way."""
    old = cloud(60, torch.Generator().manual_seed(0))
    facing = torch.tensor([0.0, 0.0, 1.0]).expand(60, 3).clone()
    facing[:57] *= -1
    old = old.replace(position=torch.full((60, 3), 0.5), normal=facing)
    new = old[59:].replace(position=torch.full((1, 3), 0.51))
    seen_ids, unexplained = by_radius(new, old, 0.1, 0.5)
    assert seen_ids.tolist() == [57]  # the oldest of equals
    assert unexplained.tolist() == [False]


def test_a_tighter_rule_sees_less_and_keeps_more():
    rng = torch.Generator().manual_seed(1)
    new, old = cloud(200, rng), cloud(200, rng)
    kept = [int(by_radius(new, old, 0.2, theta)[1].sum()) for theta in (-1.0, 0.0, 0.6, 0.99)]
    assert kept == sorted(kept)
    kept = [int(by_radius(new, old, d, 0.6)[1].sum()) for d in (0.5, 0.2, 0.05, 0.0)]
    assert kept == sorted(kept)


def test_the_released_distance_is_the_mean_and_half_the_spread_of_all_radii():
    new, old = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
    radii = np.array([1.0, 2.0, 3.0, 6.0])
    assert released_distance(new, old) == pytest.approx(radii.mean() + 0.5 * radii.std())
    assert released_distance(new[:0], old[:0]) == 0.0


def test_a_memory_may_associate_by_radius(box):
    config = MemoryConfig(association=AssociationConfig.released())
    view: Views = box.render(box.look(0.0))
    once = begin(view, config)
    twice = write(once, view)
    assert len(twice.surfels) == len(once.surfels)
    assert len(twice.sightings) == 2 * len(once.sightings)
