"""Reprojection against known geometry; a batch gives what its rows give one by one."""

import pytest
import torch
from core_helpers import turned

from vmemkit import scenes
from vmemkit.core import Cameras, Views, cat, intrinsics
from vmemkit.generation import context_batch, reproject


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
    for i, batch in enumerate((one, two)):
        alone = reproject(batch, targets[:1])
        for name, value in alone.leaves().items():
            torch.testing.assert_close(together.leaves()[name][i], value[0], equal_nan=True)


def test_cracks_of_a_surface_that_comes_nearer_are_closed(house):
    eye, ahead = house.centres[0], torch.tensor([0.0, 0.0, 1.0])
    far = house.render(turned(eye, 0.0), 64, 64)
    near = turned(eye + 0.4 * ahead, 0.0)
    seen = reproject(context_batch(far), near[None])
    assert seen.known[0, 0, 12:-12, 12:-12].float().mean() > 0.97
