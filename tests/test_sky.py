"""The sky through all stages: it makes no surfel, hides nothing, is voted for by direction, is painted,
and is stored."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import vmemkit as vm
from vmemkit.core import Cameras, Views, intrinsics, pixel_centres, pose, rays
from vmemkit.evaluation import psnr
from vmemkit.generation import Writer
from vmemkit.retrieval import Coverage
from vmemkit.scenes import Capture, capture, capture_tour, load_capture, rooms, save_capture

SIZE, EYE, FAR = (
    (48, 64),
    1.6,
    12.0,
)  # pixels, metres above the ground, metres of ground that is drawn


def cameras_at(*stands: tuple[float, float, float], pitch: float = 0.0) -> Cameras:
    """Cameras at (x, z) that look along a yaw, degrees, and up by `pitch`."""
    x, z, yaw = torch.tensor(stands).T
    yaw, up = torch.deg2rad(yaw), torch.deg2rad(torch.full_like(yaw, pitch))
    one, none = torch.ones_like(yaw), torch.zeros_like(yaw)
    turn = torch.stack(
        [yaw.cos(), none, yaw.sin(), none, one, none, -yaw.sin(), none, yaw.cos()], 1
    )
    tilt = torch.stack([one, none, none, none, up.cos(), -up.sin(), none, up.sin(), up.cos()], 1)
    eye = torch.stack([x, torch.full_like(x, -EYE), z], 1)
    poses = pose(turn.view(-1, 3, 3) @ tilt.view(-1, 3, 3), eye)
    return Cameras(poses, intrinsics(70, 4 / 3).expand(len(x), 3, 3))


def plain(cameras: Cameras) -> Views:
    """Views of a plain under a sky: the colour of the ground is by place, that of the sky by direction."""
    uv = pixel_centres(*SIZE)
    ray = rays(cameras, uv.expand(len(cameras), *uv.shape))
    depth = EYE / ray[..., 1]
    sky = (depth <= 0) | (depth > FAR)
    depth = torch.where(sky, torch.inf, depth)
    place = cameras.position[:, None, None] + torch.where(sky, 0, depth)[..., None] * ray
    x, y, z = (ray / ray.norm(dim=-1, keepdim=True)).unbind(-1)
    above = torch.stack([0.5 + 0.3 * x, 0.6 - 0.3 * y, 0.8 + 0.15 * z], 1)
    ground = torch.stack([0.4 + 0.2 * torch.sin(place[..., k]) for k in (0, 2, 0)], 1)
    image = torch.where(sky[:, None], above, ground).clamp(0, 1)
    return Views(cameras, image, torch.ones(len(cameras), dtype=torch.bool), depth)


ROUND = [(0.0, 0.0, 40.0 * i) for i in range(9)]


@pytest.fixture(scope="module")
def memory() -> vm.Memory:
    return vm.begin(plain(cameras_at(*ROUND)))


def tables(memory: vm.Memory) -> list[Tensor]:
    structs = (memory.surfels, memory.sightings, memory.views)
    return [leaf.nan_to_num(-1.0) for struct in structs for leaf in struct.leaves().values()]


@pytest.mark.parametrize("value", [65.535, 65535.0, 1e10])
def test_every_way_to_record_sky_makes_the_same_memory(memory, value):
    views = plain(cameras_at(*ROUND))
    recorded = views.replace(depth=views.depth.nan_to_num(posinf=value))
    assert all(map(torch.equal, tables(vm.begin(recorded)), tables(memory)))


def test_sky_makes_the_surfels_that_unknown_depth_makes(memory):
    views = plain(cameras_at(*ROUND))
    unknown = vm.begin(
        views.replace(depth=torch.where(views.depth.isinf(), torch.nan, views.depth))
    )
    assert all(
        map(torch.equal, unknown.surfels.leaves().values(), memory.surfels.leaves().values())
    )
    assert memory.shows_sky.all()
    assert not unknown.shows_sky.any()


def test_a_view_of_sky_alone_is_remembered(memory):
    up = plain(cameras_at((0.0, 0.0, 10.0), pitch=60))
    assert up.depth.isinf().all()
    longer = vm.write(memory, up)
    assert len(longer.surfels) == len(memory.surfels)
    assert int((longer.sightings.view == len(memory)).sum()) == 0


def test_a_guess_in_front_of_the_sky_is_dropped(memory):
    guess = plain(cameras_at((0.3, 0.0, 0.0)))
    depth = torch.where(guess.depth.isinf(), 5.0, guess.depth)
    written = vm.write(memory, guess.replace(given=~guess.given, depth=depth)).views.depth[-1]
    middle = guess.depth[0, 4 : SIZE[0] // 2 - 4].isinf()
    assert written[4 : SIZE[0] // 2 - 4][middle].isnan().float().mean() > 0.95


def test_the_sky_is_voted_for_by_direction(memory):
    """From far away and upwards no surfel is in sight, but the sky is as it was."""
    for yaw, view in ((0.0, 0), (80.0, 2), (200.0, 5)):
        target = cameras_at((300.0, -200.0, yaw), pitch=25)
        found = vm.retrieve(memory, target, 1)
        assert not (found.splat.surfel >= 0).any()
        assert found.chosen.tolist() == [view]
    with pytest.raises(ValueError, match="see no surfel"):
        vm.retrieve(memory, cameras_at((0.0, 0.0, 0.0), pitch=-89), 1, Coverage(sky=0))


def test_sky_is_worth_less_than_ground(memory):
    """One view shows the ground in sight, the others more of the sky."""
    views = plain(cameras_at((0.0, 0.0, 0.0), (40.0, 0.0, 0.0)))
    lifted = plain(cameras_at((80.0, 0.0, 0.0), pitch=15))
    both = vm.write(vm.begin(views), lifted)
    target = cameras_at((0.5, 0.5, 3.0), pitch=10)
    assert vm.retrieve(both, target, 1).chosen.tolist() == [0]
    assert vm.retrieve(both, target, 2).chosen.tolist()[0] == 0


def test_warp_paints_the_sky_and_says_where_it_is(memory):
    targets = cameras_at((0.5, 0.3, 20.0), (0.2, 0.8, 110.0))
    truth, step = plain(targets), vm.step(memory, targets)
    for made, true in zip(step.views.image, truth.image, strict=True):
        assert psnr(made, true) > 24
    agree = step.views.depth.isinf() == truth.depth.isinf()
    assert agree.float().mean() > 0.97
    assert step.memory.shows_sky[-2:].all()


def test_nothing_between_sky_and_ground_is_remembered(memory):
    surfels = vm.step(memory, cameras_at((0.5, 0.3, 20.0))).memory.surfels
    assert surfels.position.norm(dim=1).max() < 2 * FAR


def test_a_memory_with_sky_is_stored(memory, tmp_path):
    vm.save(memory, tmp_path / "m")
    loaded = vm.load(tmp_path / "m")
    assert all(map(torch.equal, tables(loaded), tables(memory)))
    assert torch.equal(loaded.shows_sky, memory.shows_sky)


def test_a_recording_with_sky_is_stored(tmp_path):
    views = plain(cameras_at(*ROUND[:2]))
    save_capture(views, tmp_path / "c")
    assert torch.equal(load_capture(tmp_path / "c").depth.isinf(), views.depth.isinf())


def test_a_recording_judges_by_what_is_not_sky():
    scene: Capture = capture(plain(cameras_at(*ROUND)))
    targets = cameras_at(*ROUND[:1])
    assert vm.evaluation.coverage(
        scene, scene.views.cameras, targets, [torch.tensor([0]), torch.tensor([4])], 1
    ) == [(1.0, 1.0), (0.0, 1.0)]


def test_undo_and_forget_keep_what_shows_sky(memory):
    room = plain(cameras_at((0.0, 0.0, 0.0), pitch=-60))
    mixed = vm.write(memory, room)
    assert mixed.shows_sky.tolist() == [True] * 9 + [False]
    assert mixed.truncate(9).shows_sky.all()
    none = torch.zeros(len(mixed.surfels), dtype=torch.bool)
    assert vm.forget(mixed, none).shows_sky.tolist() == mixed.shows_sky.tolist()


def test_the_writer_takes_a_window_to_the_sky():
    """A room seen with sky behind its window: the Writer goes on, and the sky stays sky."""
    house = rooms(3, 2)
    views = house.render(capture_tour(house, 0).cameras[:1], *SIZE)
    depth = views.depth.clone()
    depth[:, 8:16, 20:28] = math.inf
    memory = vm.begin(views.replace(depth=depth))
    step = vm.step(memory, memory.views.cameras, generator=Writer())
    assert step.views.depth[0, 8:16, 20:28].isinf().float().mean() > 0.9
