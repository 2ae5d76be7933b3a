"""Scenes without a browser: what is on the graphics card, what a click meets, where the eye is."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from scipy.spatial.transform import Rotation

from vmemkit.core import cameras, cat, intrinsics, look_at, project, splat, unproject
from vmemkit.core import views as checked_views
from vmemkit.figures import INK, Picture, Scene3D, chip, surfel_colors, view_colors
from vmemkit.figures.bird_view import EMPHASIS, _from_above
from vmemkit.figures.buffers3d import MAX_IMAGES
from vmemkit.figures.colors import CARD, WHITE
from vmemkit.figures.scene3d import DASHES, _pose
from vmemkit.memory import Memory, begin
from vmemkit.retrieval import retrieve

pytest.importorskip("pythreejs", reason="3-D scenes need the extra `notebook`")


ABOVE = (0.5, -0.5, 0.0)  # a point of the box under a part of the ceiling that no view saw


@pytest.fixture(scope="module")
def memory(box):
    """Views 0 and 1 share what is between them; view 2 looks away from both."""
    return box.memory(0.0, 40.0, 180.0)


@pytest.fixture(scope="module")
def retrieval(memory, box):
    return retrieve(memory, box.look(20.0), 2)


@pytest.fixture
def scene(memory):
    return Scene3D(memory)


def attributes(scene):
    return scene._discs.points.geometry.attributes


def arrays(scene):
    return {name: attribute.array for name, attribute in attributes(scene).items()}


def shown(scene):
    """Positions of the surfels that are to be seen."""
    return arrays(scene)["position"][arrays(scene)["rgba"][:, 3] > 0]


def look(scene, eye, target):
    """Turn the scene as the browser does when it is dragged: eye and target are world points."""
    eye, target = (torch.as_tensor(point) - scene._origin for point in (eye, target))
    scene._camera.position, scene._orbit.target = eye.tolist(), target.tolist()


def sky_at(scene, point):
    """Report a click as the browser does, whose ray ends at a world point of the sky."""
    scene._picker.point = (torch.tensor(point) - scene._origin).tolist()


def eye_of(scene):
    """The scene's eye as our own camera, from what the graphics card is told."""
    ends = torch.tensor([scene._camera.position, scene._orbit.target])
    eye, target = ends - torch.tensor(scene._world.position)
    aspect = scene.size[0] / scene.size[1]
    wide = 2 * math.degrees(math.atan(aspect * math.tan(math.radians(scene._camera.fov / 2))))
    return cameras(look_at(eye[None], target[None]), intrinsics(wide, aspect))


def in_sight(scene, points):
    uv, depth = project(eye_of(scene), points[None])
    return (depth[0] > 0) & (uv[0] >= 0).all(-1) & (uv[0] <= 1).all(-1)


def bytes_of(image):
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def drawn_by(still):
    assert isinstance(still, Picture)
    return np.asarray(still.axes[0].images[0].get_array())


def is_card(drawn):
    """Which pixels of a picture show the card behind what is drawn."""
    return np.isclose(drawn, to_rgb(CARD), atol=1e-6).all(-1)


# ---- surfels -------------------------------------------------------------------------------------


def test_the_card_holds_the_memorys_surfels_in_32_bytes_each(scene, memory):
    held = arrays(scene)
    for name in ("position", "normal", "radius"):
        assert np.array_equal(held[name], getattr(memory.surfels, name).numpy())
    colors = (255 * surfel_colors(memory, "image")).round().byte().numpy()
    assert np.array_equal(held["rgba"][:, :3], colors)
    assert (held["rgba"][:, 3] == 255).all()
    assert sum(array.nbytes for array in held.values()) == 32 * len(memory.surfels)
    shares = {name for name, attribute in attributes(scene).items() if attribute.normalized}
    assert shares == {"rgba"}


def test_of_more_surfels_than_the_cap_the_same_sample_is_drawn_every_time(memory):
    first, second = Scene3D(memory, cap=100), Scene3D(memory, "normal", cap=100)
    assert len(shown(first)) == 100
    assert np.array_equal(shown(first), shown(second))
    everywhere = memory.surfels.position.tolist()
    rows = [everywhere.index(at) for at in shown(first).tolist()]
    assert rows == sorted(set(rows))
    assert rows[-1] > 0.9 * len(memory.surfels)
    wider = arrays(first)["radius"] / memory.surfels.radius[rows].numpy()
    assert wider == pytest.approx(math.sqrt(len(memory.surfels) / 100))  # to cover as much
    assert f"sample of 100 of {len(memory.surfels)} surfels" in first.label.value
    assert "sample" not in Scene3D(memory, cap=len(memory.surfels)).label.value


def test_undo_hides_exactly_the_later_views_surfels_and_keeps_every_object(scene, memory):
    shape = scene._discs.points.geometry
    before, position = dict(attributes(scene)), arrays(scene)["position"]
    for views in (1, 2, 3, 1):
        scene.update(memory=memory.truncate(views))
        count = int(memory.ends[views - 1])
        alpha = arrays(scene)["rgba"][:, 3]
        assert (alpha[:count] == 255).all()
        assert (alpha[count:] == 0).all()
        assert f"{views} view{'s' * (views > 1)}, {count} surfels" in scene.label.value
    assert scene._discs.points.geometry is shape
    assert all(attributes(scene)[name] is held for name, held in before.items())
    assert arrays(scene)["position"] is position


def test_undo_thins_a_sample_to_what_was_there(memory):
    scene, count = Scene3D(memory, cap=100), int(memory.ends[0])
    sample = {tuple(at) for at in shown(scene)}
    old = {tuple(at) for at in memory.surfels.position[:count].numpy()}
    scene.update(memory=memory.truncate(1))
    assert {tuple(at) for at in shown(scene)} == sample & old
    assert f"{len(sample & old)} of {count} surfels" in scene.label.value


def test_a_memory_that_grows_gets_room_by_doubling_and_then_grows_in_place(box):
    memory = box.memory(0.0, 20.0, 40.0)
    scene, first = Scene3D(memory.truncate(1)), len(memory.truncate(1).surfels)
    scene.update(memory=memory.truncate(2))
    assert len(arrays(scene)["rgba"]) == 2 * first
    held = dict(attributes(scene))
    scene.update(memory=memory)
    assert all(attributes(scene)[name] is attribute for name, attribute in held.items())
    assert np.array_equal(shown(scene), memory.surfels.position.numpy())
    capped = Scene3D(memory.truncate(1), cap=first + 2)
    capped.update(memory=memory)
    assert len(arrays(capped)["radius"]) == len(shown(capped)) == first + 2


def test_another_branch_replaces_what_was_there(scene, box):
    other = box.memory(0.0, 90.0)
    scene.update(memory=other)
    assert np.array_equal(shown(scene), other.surfels.position.numpy())


def test_an_empty_memory_shows_a_path_and_may_grow(memory, box):
    scene = Scene3D(Memory.empty(), path=box.look(0.0, 30.0))
    assert len(shown(scene)) == 0
    assert in_sight(scene, box.look(0.0).position).all()
    scene.click((0.0, 0.0, -1.0), (0.0, 0.0, 1.0))
    assert (scene.picked_surfel, scene.picked_view, scene.lit) == (-1, -1, None)
    assert is_card(drawn_by(scene.still(24))).all()
    scene.update(memory=memory, path=None)
    assert len(shown(scene)) == len(memory.surfels)
    assert in_sight(scene, memory.surfels.position).all()


# ---- cameras and images --------------------------------------------------------------------------


def ends_of(scene, camera):
    """Line ends [16 3] of a camera and their colour, the same at all."""
    held = scene._frames.lines.geometry.attributes
    rows = slice(16 * camera, 16 * camera + 16)
    color = held["color"].array[rows]
    assert (color == color[0]).all()
    return torch.tensor(held["position"].array[rows]), color[0]


def test_cameras_are_drawn_in_their_colours_chosen_ones_large_and_queries_in_ink(
    memory, retrieval, box
):
    plain, asked = Scene3D(memory), Scene3D(memory, retrieval=retrieval, path=box.look(90.0, 95.0))
    assert len(plain._frames.lines.geometry.attributes["position"].array) == 3 * 16
    lines = asked._frames.lines.geometry.attributes
    assert len(lines["position"].array) == 3 * 16 + 3 * 16 * 2 * DASHES
    for view in range(3):
        (small, color), (large, now) = ends_of(plain, view), ends_of(asked, view)
        assert np.allclose(color, view_colors(3)[view])
        chosen = view in retrieval.chosen.tolist()
        grown = large.norm(dim=-1).max() / small.norm(dim=-1).max()
        assert grown == pytest.approx(EMPHASIS if chosen else 1.0)
        assert np.allclose(now, color) == chosen
        assert (np.ptp(now) < np.ptp(color)) == (not chosen)  # the others turn grey
    inks = [np.frombuffer(bytes.fromhex(name[1:]), np.uint8) / 255 for name in (INK, WHITE)]
    dashes = lines["color"].array[3 * 16 :].reshape(-1, 2, 2, 3)  # [pair, ink or white, end, rgb]
    assert np.allclose(dashes, np.stack(inks)[:, None])
    places = lines["position"].array[3 * 16 :].reshape(3, 8, 4 * DASHES, 3)  # by camera and edge
    corners = asked._drawn_cameras().corners[3:].numpy()
    assert np.allclose(places[:, 0, [0, -1]], corners[:, [0, 1]], atol=1e-6)
    assert np.allclose(np.diff(places, axis=2)[:, :, 1::2], 0, atol=1e-6)  # dashes join


def test_hidden_surfels_are_neither_drawn_nor_met_by_clicks(box):
    views = box.render(box.look(0.0, 90.0), 12, 16).replace(given=torch.tensor([True, False]))
    scene = Scene3D(begin(views), invented="hidden")
    hidden = scene.paint[:, 3] == 0
    assert 0 < hidden.sum() < len(hidden)
    assert ((arrays(scene)["rgba"][:, 3] == 0) == hidden.numpy()).all()
    for surfel in (int(hidden.nonzero()[5]), int((~hidden).nonzero()[5])):
        at = scene.memory.surfels.position[surfel]
        scene.click(tuple((0.8 * at).tolist()), tuple((2 * at).tolist()))
        assert scene.picked_surfel == (-1 if hidden[surfel] else surfel)
    scene.pick()
    look(scene, (0.0, 0.0, -0.1), (0.1, 0.0, 0.0))
    drawn = 1 - is_card(drawn_by(scene.still(60))).mean()
    scene.update(invented="shown")
    assert (scene.paint[:, 3] == 1).all()
    assert 1 - is_card(drawn_by(scene.still(60))).mean() > drawn + 0.1


def test_a_line_runs_through_the_cameras(box):
    eyes = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.5]])
    given = cat([box.render(box.look(0.0, at=tuple(eye.tolist()))) for eye in eyes])
    assert np.allclose(Scene3D(begin(given))._line.geometry.attributes["position"].array, eyes)


def test_few_views_carry_their_images_the_right_way_round(scene, memory):
    carried = [mesh for mesh in scene._images.meshes if mesh.visible]
    assert len(carried) == 3
    for view, mesh in enumerate(carried):
        assert np.array_equal(mesh.material.map.data[..., :3], bytes_of(memory.views.image[view]))
        assert (mesh.material.map.data[..., 3] == 255).all()
        at = torch.tensor(mesh.geometry.attributes["position"].array)
        uv, _ = project(memory.views.cameras[view], at)
        # the texture's rows go up from v = 0, as the image's go down from its top
        assert np.allclose(uv, mesh.geometry.attributes["uv"].array, atol=1e-5)


def test_of_many_views_only_those_asked_about_carry_their_images(box):
    memory = box.memory(*range(0, 260, 20))
    scene = Scene3D(memory)
    assert not any(mesh.visible for mesh in scene._images.meshes)
    scene.update(lit=[12, 4])
    assert sum(mesh.visible for mesh in scene._images.meshes) == 2
    first = scene._images.meshes[0].material.map
    assert np.array_equal(first.data[..., :3], bytes_of(memory.views.image[4]))
    scene.update(lit=[4])
    assert scene._images.meshes[0].material.map is first  # what stays is not sent again
    scene.update(lit=range(13))
    assert sum(mesh.visible for mesh in scene._images.meshes) == MAX_IMAGES < 13


# ---- clicks --------------------------------------------------------------------------------------


def test_a_click_on_a_wall_finds_the_surfel_that_our_splat_sees_there(scene, memory, box):
    eye = box.look(10.0, 60.0, 190.0, at=(0.3, 0.2, -0.4))
    seen = splat(memory.surfels, eye, 9, 12)
    depth = torch.where(seen.surfel >= 0, seen.depth, 1.0)
    points, place = unproject(eye, depth), tuple(eye.position[0].tolist())
    checked = 0
    for view in range(3):
        for row, column in ((1, 2), (4, 6), (7, 9), (4, 2)):
            scene.click(place, tuple(points[view, row, column].tolist()))
            if scene.picked_view < 0:  # else a camera stands in front of the wall
                assert scene.picked_surfel == int(seen.surfel[view, row, column])
                checked += scene.picked_surfel >= 0
    assert checked >= 6


def test_a_surfel_lights_the_views_that_saw_it_and_is_marked(scene, memory):
    sightings = memory.sightings
    twice = int((torch.bincount(sightings.surfel) == 2).nonzero()[0])
    eye, at = torch.tensor([0.0, 0.0, -1.0]), memory.surfels.position[twice]
    scene.click(tuple(eye.tolist()), tuple((eye + 3 * (at - eye)).tolist()))
    assert (scene.picked_surfel, scene.picked_view) == (twice, -1)
    assert scene.lit == (0, 1)
    assert scene._mark.visible
    assert scene._mark.position == pytest.approx(at.tolist())
    assert f"Surfel {twice}: written by view 0, seen by {chip(0)}, {chip(1)}." == scene.about.value


def test_a_camera_is_met_before_the_wall_behind_it_and_lights_what_it_saw(scene, memory):
    scene.click((0.0, 0.0, -2.0), (0.0, 0.0, 1.0))
    assert (scene.picked_surfel, scene.picked_view) == (-1, 2)
    assert scene.lit == (2,)
    own = torch.zeros(len(memory.surfels), dtype=torch.bool)
    own[memory.sightings.surfel[memory.sightings.view == 2].long()] = True
    assert (scene.paint[~own, 3] < 0.5).all()
    assert (scene.paint[own, 3] == 1).all()
    hues = torch.nn.functional.normalize(scene.paint[own, :3], dim=-1)
    assert (hues @ torch.nn.functional.normalize(view_colors(3)[2], dim=0)).min() > 0.999
    rgba = arrays(scene)["rgba"]
    assert np.array_equal(rgba, (255 * scene.paint).round().byte().numpy())
    count = int((memory.sightings.view == 2).sum())
    assert f"View {chip(2)}, given: saw {count} surfels." == scene.about.value


def test_a_wall_is_met_before_the_camera_behind_it(box):
    outside = box.look(0.0, at=(0.0, 0.0, 4.0))
    beyond = box.render(box.look(0.0)).replace(cameras=outside)
    scene = Scene3D(begin(cat([box.render(box.look(0.0)), beyond])))
    scene.click((0.0, 0.0, 0.5), (0.0, 0.0, 4.1))
    assert scene.picked_view == -1
    assert scene.memory.surfels.position[scene.picked_surfel][2] == pytest.approx(2.5, abs=1e-4)
    scene.click((0.0, 0.0, 3.0), (0.0, 0.0, 4.1))
    assert (scene.picked_surfel, scene.picked_view) == (-1, 1)


def test_a_click_into_the_void_lights_everything_again(scene, memory):
    scene.pick(view=1)
    scene.click(ABOVE, (0.5, -5.0, 0.0))
    assert (scene.picked_surfel, scene.picked_view, scene.lit) == (-1, -1, None)
    assert not scene._mark.visible
    assert torch.equal(scene.paint[:, :3], surfel_colors(memory, "image"))
    assert (scene.paint[:, 3] == 1).all()
    assert scene.about.value.startswith("Click on")


def test_the_click_that_ends_a_drag_is_no_click(scene):
    look(scene, (0.0, 0.0, -2.0), scene.target)  # turned
    sky_at(scene, (0.0, 0.0, 9.0))
    assert scene.picked_view == -1
    sky_at(scene, (0.0, 0.0, 8.0))  # without a turn in between
    assert scene.picked_view == 2
    look(scene, scene.eye, scene.target + 0.1)  # moved aside
    sky_at(scene, ABOVE)
    assert scene.picked_view == 2


def test_coming_nearer_and_rounding_noise_are_no_drag(scene, box):
    scene.look_from(box.look(0.0, at=(0.0, 0.0, -1.0))[0])
    look(scene, 0.8 * scene.eye + 0.2 * scene.target + 1e-7, scene.target + 1e-7)
    sky_at(scene, (0.0, 0.0, 9.0))
    assert scene.picked_view == 2


def test_what_was_picked_is_forgotten_when_its_view_is_undone(scene, memory):
    scene.pick(surfel=len(memory.surfels) - 1)
    scene.update(memory=memory.truncate(2))
    assert scene.picked_surfel == -1
    assert not scene._mark.visible
    scene.update(memory=memory)
    scene.pick(view=2)
    scene.update(memory=memory.truncate(1))
    assert scene.picked_view == -1
    assert scene.lit is None  # what was lit is not there: everything is
    scene._stand_behind()


# ---- the eye -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(720, 440), (300, 500)])
def test_at_first_all_is_in_sight_and_fills_the_canvas(memory, size):
    scene = Scene3D(memory, size=size)
    points = torch.cat([memory.surfels.position, memory.views.cameras.position])
    assert in_sight(scene, points).all()
    uv, _ = project(eye_of(scene), points[None])
    assert (uv.amax(1) - uv.amin(1)).max() > 0.7
    assert scene.eye[1] < points[:, 1].min()  # from above: y points down


def test_a_growing_memory_stays_in_sight_until_the_scene_is_turned(memory):
    scene = Scene3D(memory.truncate(1))
    assert not in_sight(scene, memory.surfels.position).all()
    scene.update(memory=memory.truncate(2))
    scene.update(memory=memory)
    assert in_sight(scene, memory.surfels.position).all()
    turned = Scene3D(memory.truncate(1))
    look(turned, (1.0, -5.0, -4.0), turned.target)
    turned.update(memory=memory)
    assert torch.allclose(turned.eye, torch.tensor([1.0, -5.0, -4.0]), atol=1e-5)
    turned.whole.click()
    assert in_sight(turned, memory.surfels.position).all()


def test_the_eye_stands_behind_a_camera_and_looks_its_way(scene, memory, retrieval):
    views = memory.views.cameras

    def stands_behind(camera):
        way = camera.position - scene.eye
        assert torch.allclose(torch.nn.functional.normalize(way, dim=0), camera.forward, atol=1e-5)
        assert torch.allclose(eye_of(scene).world_from_cam[0, :3, :3], camera.rotation, atol=1e-4)

    scene.look_from(views[1])
    stands_behind(views[1])
    scene.inside.click()  # nothing is asked about: the last view
    stands_behind(views[2])
    scene.update(retrieval=retrieval)
    scene.inside.click()
    stands_behind(retrieval.query[0])
    scene.pick(view=0)
    scene.inside.click()
    stands_behind(views[0])
    sky_at(scene, ABOVE)  # looking from elsewhere is no drag
    assert scene.picked_view == -1


def test_the_card_is_told_a_pose_that_needs_no_kernel(scene, memory):
    for stand in (scene.look_at_all, lambda: scene.look_from(memory.views.cameras[1])):
        stand()
        ours = eye_of(scene)
        assert torch.allclose(scene.eye, ours.position[0], atol=1e-5)
        ahead = torch.nn.functional.normalize(scene.target - scene.eye, dim=0)
        assert torch.allclose(ahead, ours.forward[0], atol=1e-5)
        assert scene._orbit.target == (0.0, 0.0, 0.0)  # where orbits begin to turn
        theirs = Rotation.from_quat(scene._camera.quaternion).as_matrix()
        # three's cameras look along -z with y up, ours along z with y down
        assert np.allclose(theirs * [1, -1, -1], ours.rotation[0], atol=1e-5)


def test_a_still_shows_what_our_splat_sees_from_there_in_the_scenes_colours(scene, memory):
    rows, columns = 60, round(60 * 720 / 440)
    look(scene, (0.3, 0.2, -1.0), (0.3, 0.2, 0.0))
    seen = splat(memory.surfels, eye_of(scene), rows, columns).surfel[0].numpy()
    hit = seen >= 0
    assert 0.2 < hit.mean() < 1
    drawn = drawn_by(scene.still(rows))
    assert np.allclose(drawn[hit], scene.paint[:, :3].numpy()[seen[hit]], atol=1e-5)
    assert is_card(drawn)[~hit].all()
    scene.update(color="normal")
    drawn = drawn_by(scene.still(rows))
    assert np.allclose(drawn[hit], surfel_colors(memory, "normal").numpy()[seen[hit]], atol=1e-5)


def test_images_in_a_still_do_not_hide_the_scene(scene):
    scene.update(lit=[0])
    (filled,) = scene.still(24).axes[0].patches
    assert filled.get_alpha() <= 0.25


# ---- what is said, and errors --------------------------------------------------------------------


def test_the_label_says_what_is_lit_in_the_views_colours(scene):
    scene.update(color="sightings")
    assert repr(scene) == "Scene3D(3 views, color='sightings')"
    assert "yellow 2 times" in scene.label.value
    scene.update(lit=[2, 0, 7])
    assert scene.lit == (2, 0)
    assert f"what {chip(2)}, {chip(0)} saw" in scene.label.value
    scene.update(lit=[])
    assert scene.lit is None


def test_colours_about_a_retrieval_end_with_it(scene, retrieval):
    scene.update(retrieval=retrieval, color="votes for")
    assert scene.color == "votes for"
    scene.update(retrieval=None)
    assert scene.color == "image"
    assert torch.equal(scene.paint[:, :3], scene.memory.surfels.color)


def test_what_cannot_be_shown_is_refused_and_the_scene_stays(memory, box, retrieval):
    scene, other = Scene3D(memory.truncate(2), "normal"), box.memory(90.0)
    scene.update(lit=[1])
    before = (scene.memory, scene.color, scene.lit, scene.label.value, arrays(scene)["rgba"])
    for change, message in (
        ({"memory": other, "color": "depth"}, "unknown colour mode"),
        ({"memory": other, "color": "votes for", "lit": None}, "about a retrieval"),
        ({"retrieval": retrieval, "color": "votes for"}, "among 3 views, the memory holds 2"),
        ({"memory": other, "retrieval": retrieval}, "pass the retrieval that was made from it"),
    ):
        with pytest.raises(ValueError, match=message):
            scene.update(**change)
    after = (scene.memory, scene.color, scene.lit, scene.label.value, arrays(scene)["rgba"])
    assert all(new is old for new, old in zip(after, before, strict=True))
    assert scene.retrieval is None


# ---- backgrounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.75])
@pytest.mark.parametrize("far", [1e3, 1e10, 65504e6])
def test_a_far_background_leaves_the_near_things_in_sight(far, share):
    depth = torch.full((1, 48, 64), 2.0)
    depth[:, : round(share * 48)] = far
    camera = cameras(torch.eye(4)[None], intrinsics(65.0, 4 / 3))
    memory = begin(checked_views(torch.rand(1, 3, 48, 64), camera, depth))
    scene = Scene3D(memory)
    assert scene.eye.norm() < 10
    assert _from_above(memory, 60.0)[1] < 10
    near = memory.surfels.position[memory.surfels.position.norm(dim=-1) < 10]
    uv, ahead = project(cameras(_pose(scene.eye, scene.target), scene._intrinsics()), near)
    assert bool(((uv > 0) & (uv < 1)).all())
    assert bool((ahead > 0).all())


def test_a_scene_that_is_all_far_away_is_drawn():
    camera = cameras(torch.eye(4)[None], intrinsics(65.0, 4 / 3))
    memory = begin(checked_views(torch.rand(1, 3, 48, 64), camera, torch.full((1, 48, 64), 9e9)))
    scene = Scene3D(memory)
    assert scene.eye.norm() > 1e9
    scene.look_from(memory.views.cameras[0])
    assert isinstance(scene.still(48), Picture)
