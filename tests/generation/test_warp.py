"""The warp generator: exact where the context shows the target, and marked as imagined elsewhere."""

import pytest
import torch

from vmemkit.core import Cameras, cameras, intrinsics, look_at, pose, project, unproject
from vmemkit.evaluation import psnr
from vmemkit.generation import IMAGINED, SEEN, Warp, WarpConfig
from vmemkit.generation.warp.forward_warp import context_discs, splat_context
from vmemkit.scenes import moves, rooms

H, W = 48, 64


@pytest.fixture(scope="module")
def house():
    return rooms(3)


def facing(house, turn: float = 0.0) -> Cameras:
    """One camera in the first room's centre, looking at the doorway and `turn` degrees right."""
    start = look_at(house.centres[:1], house.doorways[:1])
    camera = cameras(start, intrinsics(75.0, W / H))
    return moves(camera[0], f"right {turn}", turn=360.0) if turn else camera


def generate(house, given: Cameras, targets: Cameras, **config):
    context = house.render(given, H, W)
    rng = torch.Generator().manual_seed(0)
    return list(Warp(WarpConfig(**config))(context, targets, rng))


def test_a_target_at_a_given_pose_is_that_view(house):
    given = facing(house)
    truth = house.render(given, H, W)
    *_, made = generate(house, given, given)
    assert psnr(made.image[0], truth.image[0]) > 24  # the rest is lost at depth edges
    seen = made.confidence[0] == SEEN
    assert seen.float().mean() > 0.9
    error = (made.depth[0] / truth.depth[0] - 1).abs()[seen & made.depth[0].isfinite()]
    assert error.quantile(0.99) < 3e-3


def test_a_small_step_shows_the_true_view_where_the_context_saw_it(house):
    given = facing(house)
    target = moves(given[0], "forward 0.25")
    truth = house.render(target, H, W)
    *_, made = generate(house, given, target)
    seen = made.confidence[0] == SEEN
    assert psnr(made.image[0], truth.image[0]) > 20
    assert ((made.depth[0] / truth.depth[0] - 1).abs() < 0.05)[seen].float().mean() > 0.97


def test_the_first_state_has_holes_and_the_last_has_none(house):
    warped, filled = generate(house, facing(house), facing(house, 30))
    hole = warped.confidence == 0
    assert 0.2 < hole.float().mean() < 0.8
    assert warped.depth[hole].isnan().all()
    assert (filled.confidence[hole] == IMAGINED).all()
    assert torch.equal(
        filled.image[~hole[:, None].expand_as(filled.image)],
        warped.image[~hole[:, None].expand_as(warped.image)],
    )
    assert filled.image.isfinite().all()
    assert filled.image.amin() >= 0
    assert filled.image.amax() <= 1


@pytest.mark.parametrize("fill", ["columns", "push_pull"])
def test_the_same_seed_gives_the_same_views(house, fill):
    first, second = (generate(house, facing(house), facing(house, 40), fill=fill)[-1] for _ in "ab")
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.depth.nan_to_num(), second.depth.nan_to_num())


def test_targets_of_one_window_agree_with_each_other(house):
    """What the first target imagines, the second one shows too."""
    turned = facing(house, 30)
    *_, made = generate(
        house,
        facing(house),
        Cameras(turned.world_from_cam.repeat(2, 1, 1), turned.K.repeat(2, 1, 1)),
    )
    assert psnr(made.image[0], made.image[1]) > 30


def test_imagination_does_not_fill_space_that_a_given_view_saw_to_be_empty(house):
    """Seen from the side, with the first view known, nothing new stands before what it sees."""
    given = facing(house)
    *_, made = generate(house, given, facing(house, 25))
    imagined = (made.confidence[0] == IMAGINED) & made.depth[0].isfinite()
    points = unproject(facing(house, 25), made.depth)[0][imagined]
    uv, depth = project(given, points)
    inside = ((uv >= 0) & (uv <= 1)).all(-1)[0] & (depth[0] > 0)
    truth = house.render(given, H, W).depth[0]
    column, row = (uv[0, inside, 0] * W).long().clamp(max=W - 1), (uv[0, inside, 1] * H).long()
    assert (depth[0, inside] > 0.9 * truth[row.clamp(max=H - 1), column]).all()


@pytest.mark.parametrize("fill", ["columns", "push_pull"])
def test_a_target_that_sees_nothing_is_still_painted_and_has_depth(house, fill):
    """An ordinary fast turn leads there."""
    *_, made = generate(house, facing(house), facing(house, 180), fill=fill)
    assert made.image.isfinite().all()
    assert made.depth.isfinite().any()
    assert (made.confidence == IMAGINED).all()


def test_the_world_may_have_any_axis_up(house):
    """The same house and cameras in a world turned on its side give the same views."""
    context, targets = house.render(facing(house), H, W), facing(house, 30)
    side = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # y down becomes z up
    turn = pose(side, torch.zeros(3))
    turned = Cameras(turn @ context.cameras.world_from_cam, context.cameras.K)
    rng = torch.Generator().manual_seed(0)
    *_, upright = Warp()(context, targets, rng)
    *_, tilted = Warp()(
        context.replace(cameras=turned), Cameras(turn @ targets.world_from_cam, targets.K), rng
    )
    assert psnr(upright.image[0], tilted.image[0]) > 30


def test_a_context_of_imagined_pixels_in_empty_space_shows_nothing(box):
    """Imagined surfaces at arm's length, in a room that given views looked through."""
    seen = box.render(box.look(*range(0, 360, 45)))
    made = seen.replace(
        depth=torch.full_like(seen.depth, 0.3),
        given=torch.zeros_like(seen.given),
        confidence=torch.ones_like(seen.depth),
    )
    config = WarpConfig()
    discs = context_discs(made[:1], seen, config)
    assert len(discs) == 0
    state = splat_context([made[:1]], discs, seen.cameras[:2], 24, 32, config)
    assert not state.image.any()
    assert state.depth.isnan().all()
    assert not state.confidence.any()


def test_a_context_that_knows_no_depth_makes_views_that_can_be_remembered(box):
    seen = box.render(box.look(0.0, 40.0))
    blind = seen.replace(
        depth=torch.full_like(seen.depth, torch.nan), given=torch.zeros_like(seen.given)
    )
    *_, made = Warp()(blind, seen.cameras, torch.Generator())
    assert made.depth.isfinite().all()
