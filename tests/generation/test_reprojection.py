"""Reprojection and layout against known geometry; a batch gives what its rows give one by one."""

import math

import pytest
import torch
from core_helpers import turned

from vmemkit import scenes
from vmemkit.core import Cameras, Views, cat, intrinsics
from vmemkit.generation import context_batch, reproject
from vmemkit.generation.rgbd import layout
from vmemkit.generation.rgbd.room_box import fit_box


@pytest.fixture(scope="module")
def house():
    return scenes.rooms(3)


@pytest.fixture(scope="module")
def around(house):
    """Six views all around from the first room's centre."""
    return house.render(turned(house.centres[0], *range(0, 360, 60)), 64, 64)


def test_the_own_pose_gets_its_own_pixels_back(around):
    seen = reproject(context_batch(around[:1]), around.cameras[None, :1])
    assert seen.known.all()
    assert seen.given.all()
    torch.testing.assert_close(seen.image[0, 0], around.image[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(seen.depth[0, 0], around.depth[0], rtol=1e-5, atol=0)


def test_what_is_known_is_right_and_what_no_view_shows_is_unknown(house, around):
    eye = house.centres[0] + torch.tensor([0.2, 0.05, -0.1])
    targets = turned(eye, 20.0, 180.0)
    truth = house.render(targets, 64, 64)
    seen = reproject(context_batch(around[:2]), targets[None])
    known = seen.known[0, 0]
    assert 0.8 < known.float().mean() < 1
    error = (seen.depth[0, 0] / truth.depth[0] - 1).abs()[known]
    assert error.median() < 0.005
    assert (error < 0.05).float().mean() > 0.97
    assert not seen.known[0, 1].any()  # behind
    assert seen.depth[0, 1].isnan().all()
    assert (seen.image[0, 1] == 0).all()


def test_the_nearer_surface_wins_and_what_it_hides_does_not_shine_through():
    K = intrinsics(60.0)
    cameras = Cameras(torch.eye(4).expand(2, 4, 4), K.expand(2, 3, 3))
    depth = torch.stack([torch.full((16, 16), 4.0), torch.full((16, 16), 2.0)])
    color = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    batch = context_batch(Views(cameras, color, torch.ones(2, dtype=torch.bool), depth))
    seen = reproject(batch, cameras[None, :1])
    assert (seen.depth == 2).all()
    assert (seen.image == 1).all()


def test_imagined_pixels_yield_to_given_ones_and_say_what_they_are(around):
    both = cat([around[:1], around[:1].replace(image=1 - around.image[:1])])
    batch = context_batch(both)
    batch = batch.replace(given=batch.given & torch.tensor([True, False])[None, :, None, None])
    seen = reproject(batch, around.cameras[None, :1])
    torch.testing.assert_close(seen.image[0, 0], around.image[0], rtol=0, atol=2e-3)
    assert seen.given.all()
    made = batch.replace(given=torch.zeros_like(batch.given))
    assert not reproject(made, around.cameras[None, :1]).given.any()


def test_absent_views_and_unknown_depth_add_nothing(around):
    batch = context_batch(around[:3])
    absent = batch.replace(present=torch.tensor([[True, False, False]]))
    target = around.cameras[None, 1:2]
    alone = reproject(context_batch(around[:1]), target)
    for name, value in reproject(absent, target).leaves().items():
        torch.testing.assert_close(value, alone.leaves()[name], equal_nan=True)
    nothing = batch.replace(depth=torch.full_like(batch.depth, torch.nan))
    assert not reproject(nothing, target).known.any()


def test_contexts_of_a_batch_do_not_influence_each_other(house, around):
    targets = turned(house.centres[0], 10.0, 100.0)[None].map(lambda x: x.expand(2, *x.shape[1:]))
    one, two = context_batch(around[:2]), context_batch(around[2:4])
    together = reproject(cat([one, two]), targets)
    rooms = layout(cat([one, two]), targets, 32, 32)
    for i, batch in enumerate((one, two)):
        alone = reproject(batch, targets[:1])
        for name, value in alone.leaves().items():
            torch.testing.assert_close(together.leaves()[name][i], value[0], equal_nan=True)
        room = layout(batch, targets[:1], 32, 32)
        torch.testing.assert_close(rooms.depth[i], room.depth[0])
        torch.testing.assert_close(rooms.image[i], room.image[0])


def test_cracks_of_a_surface_that_comes_nearer_are_closed(house):
    eye, ahead = house.centres[0], torch.tensor([0.0, 0.0, 1.0])
    far = house.render(turned(eye, 0.0), 64, 64)
    near = turned(eye + 0.4 * ahead, 0.0)
    seen = reproject(context_batch(far), near[None])
    assert seen.known[0, 0, 12:-12, 12:-12].float().mean() > 0.97


# ---- layout --------------------------------------------------------------------------------------


def true_distances(house, room, eye, height):
    """Distances from the eye to -x, +x, ceiling, floor, -z, +z of a room."""
    low, high = house.cells.low[room], house.cells.high[room]
    point = torch.stack([eye[0], torch.tensor(-height), eye[2]])
    return torch.stack([point - low, high - point], 1).flatten()


@pytest.mark.parametrize("seed", range(4))
def test_a_room_seen_all_round_is_measured_within_centimetres(seed):
    house = scenes.rooms(seed)
    eye = house.centres[0]
    views = house.render(turned(eye, *range(0, 360, 60)), 64, 64)
    targets = turned(eye, 0.0)
    box = fit_box(context_batch(views), targets[None])
    torch.testing.assert_close(box.frame_from_world[0, :3, :3], torch.eye(3), atol=0.02, rtol=0)
    assert box.seen.all()
    error = (box.distance[0] - true_distances(house, 0, eye, -float(eye[1]))).abs()
    assert (error < 0.1).sum() >= 5  # a wardrobe may be taken for one wall


def test_the_layout_guesses_depth_better_than_its_surroundings_do(house, around):
    targets = turned(house.centres[0], 105.0, 290.0)
    truth = house.render(targets, 64, 64)
    room = layout(context_batch(around), targets[None], 64, 64)
    error = (room.depth[0] / truth.depth - 1).abs().median()
    assert error < 0.06
    floor = room.features[0, :, 0] == 1
    assert floor[:, 63].any()
    assert not floor[:, :20].any()


def test_turning_the_world_turns_the_layout_with_it(around):
    turn = torch.eye(4)
    angle = math.radians(33.0)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    other = around.replace(cameras=Cameras(turn @ around.cameras.world_from_cam, around.cameras.K))
    before = layout(context_batch(around[:3]), around.cameras[None, 3:4], 32, 32)
    after = layout(context_batch(other[:3]), other.cameras[None, 3:4], 32, 32)
    torch.testing.assert_close(before.depth, after.depth, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(before.image, after.image, rtol=0, atol=0.01)


def test_without_any_context_the_layout_is_a_plain_room(around):
    batch = context_batch(around[:1]).replace(present=torch.zeros(1, 1, dtype=torch.bool))
    room = layout(batch, around.cameras[None, :2], 32, 32)
    assert room.depth.isfinite().all()
    assert (room.depth > 0.2).all()
    assert (room.depth < 8).all()
    assert ((room.image >= 0) & (room.image <= 1)).all()


def test_a_target_outside_the_box_still_gets_positive_depth(house, around):
    targets = turned(house.centres[0], 0.0)
    far = Cameras(targets.world_from_cam.clone(), targets.K)
    far.world_from_cam[:, 0, 3] += 30.0
    room = layout(context_batch(around), cat([targets, far])[None], 32, 32)
    assert (room.depth > 0).all()
