import pytest
import torch
from matplotlib.patches import Rectangle

from vmemkit import scenes
from vmemkit.core import cameras, pose
from vmemkit.figures import floor_plan
from vmemkit.generation import Facts, perceive_views
from vmemkit.generation.writer.facts import RoomFacts
from vmemkit.scenes.house import Plan, design


def walls_of(picture):
    return [line for line in picture.axes[0].lines if line.get_zorder() == 3]


def triangles_of(picture):
    return [patch for patch in picture.axes[0].patches if not isinstance(patch, Rectangle)]


def names(picture):
    return [text.get_text() for text in picture.axes[0].texts]


def test_a_plan_has_four_walls_a_room_and_its_things():
    plan = design(0)
    picture = floor_plan(plan)
    walls = walls_of(picture)
    assert len(walls) == 4 * len(plan.rooms)
    (x0, x1), (z0, z1) = walls[2].get_data()
    assert (x0, x1) == (plan.rooms[0].box[0][0], plan.rooms[0].box[1][0])
    assert z0 == z1 == plan.rooms[0].box[0][2]
    standing = {t.kind for room in plan.rooms for t in room.things if t.kind != "picture"}
    assert set(names(picture)) <= standing
    assert "wardrobe" in names(picture)


def test_facts_have_only_the_walls_that_are_known():
    room = RoomFacts(inside=(0.0, -1.5, 0.0), walls=(None, 2.0, None, None))
    picture = floor_plan(Facts(rooms=(room,)))
    (wall,) = walls_of(picture)
    assert list(wall.get_xdata()) == [2.0, 2.0]


def test_the_facts_of_a_view_and_its_path_can_be_drawn_beside_the_truth():
    house = scenes.rooms(0)
    tour = scenes.single_tour(house, 0, scenes.FOV, scenes.ASPECT)
    facts = perceive_views(house.render(tour.given, 48, 64))
    picture = floor_plan(facts, design(0), path=tour.cameras[:4], titles=("facts", "truth"))
    assert len(picture.axes) == 2
    assert names(picture)[-1] == "facts"
    x, z = picture.axes[0].get_xlim(), picture.axes[0].get_ylim()
    assert (x, z) == (picture.axes[1].get_xlim(), picture.axes[1].get_ylim())
    assert len(triangles_of(picture)) == 4


def test_a_camera_points_where_it_looks():
    turned = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # looks along +x
    camera = cameras(pose(turned, torch.tensor([1.0, -1.5, 0.5]))[None], torch.eye(3))
    (triangle,) = triangles_of(floor_plan(design(0), path=camera))
    eye, *corners = triangle.get_xy()[:3].tolist()
    assert eye == pytest.approx([1.0, 0.5])
    assert all(x > 1.4 for x, _ in corners)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="needs houses with rooms"):
        floor_plan()
    with pytest.raises(ValueError, match="needs houses with rooms"):
        floor_plan(design(0), Facts())
    with pytest.raises(ValueError, match="needs houses with rooms"):
        floor_plan(Plan(rooms=()))
