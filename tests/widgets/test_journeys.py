"""Journeys: a tree of steps in which nothing is lost, and beginnings from examples and images."""

import json

import pytest
import torch

import vmemkit as vm
from vmemkit.scenes import (
    EXAMPLES,
    PHOTO_FOV,
    examples,
    from_image,
    load_capture,
    moves,
)
from vmemkit.widgets import journeys
from vmemkit.widgets.walk_tree import lanes_of

HEIGHT = 24


@pytest.fixture(scope="module")
def begun():
    return journeys.begin_journey(EXAMPLES["house, one view"](HEIGHT, 0).given)


def taken(journey, text):
    """One step further, as `text` says."""
    return journey.take(vm.step(journey.memory, moves(journey.camera, text)), text)


@pytest.fixture(scope="module")
def branched(begun):
    """right, right and, from the first of them, left."""
    out = taken(taken(begun, "right 15"), "right 30")
    return taken(out.go(0), "left 15")


def test_a_step_leads_to_its_last_target_and_its_memory(begun):
    journey = taken(begun, "right 30")
    assert journey.at == 0
    assert len(journey.memory) == len(begun.memory) + 2
    assert torch.equal(
        journey.camera.world_from_cam, moves(begun.camera, "right 30")[-1].world_from_cam
    )
    assert begun.at == journeys.START
    assert len(begun.nodes) == 0


def test_undo_and_redo_return_to_the_same_memories(branched):
    back = branched.undo()
    assert back.at == 0
    assert back.memory is branched.nodes[0].step.memory
    assert back.redo().at == branched.at  # the youngest branch
    assert back.undo().memory is branched.start
    assert torch.equal(back.undo().camera.world_from_cam, branched.eye.world_from_cam)


def test_undo_at_the_start_and_redo_at_the_end_are_told_so(branched, begun):
    with pytest.raises(ValueError, match="nothing to undo"):
        begun.undo()
    with pytest.raises(ValueError, match="nothing to redo"):
        branched.redo()


def test_branches_keep_their_own_views_and_share_their_past(branched):
    assert branched.leaves() == [1, 2]
    assert branched.way(1) == [0, 1]
    assert branched.way() == [0, 2]
    shared = len(branched.nodes[0].step.memory)
    first, second = (branched.go(leaf).memory.views.image for leaf in (1, 2))
    assert torch.equal(first[:shared], second[:shared])
    assert len(first) == shared + 2
    assert len(second) == shared + 1


def test_branches_from_the_start_share_nothing_but_it(begun):
    two = taken(taken(begun, "right 15").undo(), "left 15")
    assert two.leaves() == [0, 1]
    assert lanes_of(two) == {journeys.START: 0, 0: 0, 1: 1}


def test_a_step_that_is_dropped_is_hidden_with_all_that_follow_it_and_comes_back(branched):
    dropped = branched.drop(0)
    assert (dropped.at, dropped.kept(), dropped.leaves()) == (journeys.START, [], [])
    assert dropped.bring_back().leaves() == [1, 2]
    aside = branched.drop(1)  # one stands on the other branch, and stays
    assert (aside.at, aside.kept(), aside.children(0)) == (2, [0, 2], [2])
    assert lanes_of(aside) == {journeys.START: 0, 0: 0, 2: 0}
    assert lanes_of(branched) == {journeys.START: 0, 0: 0, 1: 0, 2: 1}
    with pytest.raises(ValueError, match="step 1 was deleted"):
        aside.go(1)
    with pytest.raises(ValueError, match="the start cannot be deleted"):
        branched.drop(journeys.START)
    assert taken(aside, "left 15").way() == [0, 2, 3]  # numbers are not used again


def test_steps_and_the_start_can_be_renamed(branched):
    named = branched.rename(1, "the door").rename(journeys.START, "a house")
    assert [node.label for node in named.nodes] == ["right 15", "the door", "left 15"]
    assert (named.label, named.at, named.nodes[1].step) == ("a house", 2, branched.nodes[1].step)
    with pytest.raises(ValueError, match="at least one letter"):
        branched.rename(1, "")


def test_a_step_from_another_memory_is_refused(begun, branched):
    with pytest.raises(ValueError, match="another memory"):
        begun.take(branched.nodes[1].step, "right 30")


@pytest.mark.parametrize("node", [-2, 3])
def test_there_is_no_way_to_a_node_that_is_not_there(branched, node):
    with pytest.raises(ValueError, match="there is no step"):
        branched.go(node)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_place_to_walk_from(name):
    beginning = EXAMPLES[name](HEIGHT, 0)
    assert beginning.given.image.shape[1:] == (3, HEIGHT, 32)
    assert beginning.about
    journey = taken(journeys.begin_journey(beginning.given), "right 15")
    assert journey.memory.views.image[-1].std() > 0.02


def test_a_photo_hung_on_a_wall_is_cut_to_format_and_stands_upright_ahead():
    image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    given = from_image(image, "photo on a wall", HEIGHT).given
    assert given.image.shape == (1, 3, HEIGHT, 32)
    assert torch.all(given.depth == examples.WALL)
    # the cut takes from the height, so the field of view across stays
    assert given.cameras.K[0, 0, 0] == pytest.approx(
        0.5 / torch.tan(torch.tensor(PHOTO_FOV / 2).deg2rad())
    )


def test_a_photo_walks_with_depth_of_another_resolution():
    depth = torch.full((6, 8), 2.5)
    given = from_image(torch.rand(3, 48, 64), "photo with depth", HEIGHT, depth).given
    assert torch.all(given.depth == 2.5)


def test_a_panorama_may_be_a_little_off_its_format():
    beginning = from_image(torch.rand(3, 50, 101), "panorama", HEIGHT)
    assert len(beginning.given) == 4
    assert beginning.scene is not None


@pytest.mark.parametrize(
    ("kind", "shape", "depth", "message"),
    [
        ("photo with depth", (3, 40, 40), None, "needs its depth: upload it too"),
        ("photo", (3, 40, 40), None, "shows no room"),
        ("photo with depth", (3, 40, 40), (30, 40), "same part"),
        ("panorama", (3, 40, 60), None, "twice as wide"),
        ("painting", (3, 40, 60), None, "can be photo"),
    ],
)
def test_images_that_do_not_fit_are_told_why(kind, shape, depth, message):
    depth = None if depth is None else torch.ones(depth)
    with pytest.raises(ValueError, match=message):
        from_image(torch.rand(shape), kind, HEIGHT, depth)


def test_a_saved_memory_is_resumed_where_its_last_view_was_taken(branched, tmp_path):
    vm.save(branched.memory, tmp_path / "memory")
    journey = journeys.resume_journey(vm.load(tmp_path / "memory"))
    assert torch.allclose(journey.camera.world_from_cam, branched.camera.world_from_cam)
    assert len(taken(journey, "right 15").memory) == len(branched.memory) + 1
    with pytest.raises(ValueError, match="empty"):
        journeys.resume_journey(vm.Memory.empty())


def test_export_writes_the_walk_and_its_views_as_a_capture(branched, begun, tmp_path):
    video, cameras = journeys.export(branched, tmp_path / "out")
    assert video.stat().st_size > 1000
    assert len(json.loads(cameras.read_text())["frames"]) == 2
    views, again = (
        vm.core.cat([step.views for step in branched.steps()]),
        load_capture(video.parent),
    )
    torch.testing.assert_close(again.cameras.world_from_cam, views.cameras.world_from_cam)
    assert torch.allclose(again.image, views.image, atol=1 / 255)
    assert torch.allclose(again.depth, views.depth, atol=0.001, equal_nan=True)
    journeys.export(branched.undo(), tmp_path / "out")  # in place of the longer way
    assert len(load_capture(tmp_path / "out")) == 1
    with pytest.raises(ValueError, match="take a step first"):
        journeys.export(begun, tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="give a folder"):
        journeys.export(branched, tmp_path / "file")
