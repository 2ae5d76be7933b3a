"""The Writer on photographs: which show a room, in which colours it goes on, and when Warp takes over."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from vmemkit import walk
from vmemkit.core import crop, data_file, intrinsics, resize, stream
from vmemkit.generation import Warp, Writer, WriterConfig, read_facts
from vmemkit.generation.writer.evidence import in_frame
from vmemkit.generation.writer.facts import CODE, decode, encode, no_room_code, says_no_room
from vmemkit.generation.writer.photographs import (
    find_photo_frame,
    find_photo_room,
    is_grey,
    is_photographed,
    to_grey_palette,
)
from vmemkit.generation.writer.quilting import quilt
from vmemkit.generation.writer.tiles import find_tiles, lay, with_flat_floors
from vmemkit.memory import begin
from vmemkit.scenes import (
    build,
    circle_cameras,
    design,
    fit_room,
    moves,
    panorama,
    stereo_view,
    upright_cameras,
)
from vmemkit.scenes.house import PALETTES, Palette

K = intrinsics(70.0)
WRITER = Writer(WriterConfig(samples=1))
UNCHECKED = pytest.mark.usefixtures("as_installed")  # half of the time would go into shape checks
STEREO = ("bedroom_chair", "cycles")
HALL = "st_fagans_interior_1k.jpg"
PINK = Palette((0.95, 0.35, 0.70), (0.55, 0.20, 0.40), (0.30, 0.30, 0.90), (0.35, 0.75, 0.80))


@functools.cache
def grey_photo(name: str = "bedroom_chair", height: int = 48):
    return resize(stereo_view(name), height, height * 4 // 3)


@functools.cache
def photo_as_a_box(name: str, heading: float, height: int = 48):
    """A piece of a panorama, with the depth of the box that is fitted to it."""
    piece = panorama(data_file(name)).render(circle_cameras(torch.tensor([heading])), 360, 480)
    return fit_room(piece.image[0], piece.cameras.K[0]).view(
        piece.image[0], (height, height * 4 // 3)
    )


@functools.cache
def street():
    """A view of a square, on a sphere, since its depth is unknown."""
    cameras = circle_cameras(torch.tensor([0.0]))
    return panorama(data_file("potsdamer_platz_1k.jpg")).render(cameras, 48, 64)


@functools.cache
def pink_house():
    """A view of a house in colours that none of ours has."""
    plan = design(3)
    rooms = [replace(room, palette=PINK, wall_finish="plaster") for room in plan.rooms]
    plan = replace(plan, rooms=tuple(rooms))
    house = build(plan)
    camera = upright_cameras(house.centres[:1], torch.tensor([135.0]), K, torch.tensor([15.0]))
    return house.render(camera, 48, 48)


def around(views, degrees: float = 90.0):
    return moves(views.cameras[0], f"right {degrees}", turn=30.0)


def last(generations):
    *_, result = generations
    return result


# ---- rooms ---------------------------------------------------------------------------------------


def test_the_walls_and_the_floor_of_a_photograph_are_found():
    view = grey_photo()
    frame = find_photo_frame(view)
    room = find_photo_room(view, frame)
    known = [at for at in room.walls if at is not None]
    assert len(known) == 2  # the corner behind the armchair
    assert float(frame[1, 3]) == pytest.approx(-1.4, abs=0.1)  # height of the tripod


def test_holes_and_noise_do_not_change_which_walls_are_found():
    view = grey_photo(height=72)
    rng = stream(0)
    noise = 1 + 0.01 * torch.randn(view.depth.shape, generator=rng)
    holes = torch.rand(view.depth.shape, generator=rng) < 0.2
    rough = view.replace(depth=torch.where(holes, torch.nan, view.depth * noise))
    a, b = (find_photo_room(v, find_photo_frame(v)).walls for v in (view, rough))
    for p, q in zip(a, b, strict=True):
        assert (p is None) == (q is None)
        assert p is None or abs(p - q) < 0.15


@UNCHECKED
@pytest.mark.parametrize("name", STEREO)
def test_a_walk_from_a_grey_photograph_shows_no_colour(name):
    view = grey_photo(name)
    steps = list(walk(begin(view), around(view), generator=WRITER, m=1))
    assert len(steps) == 3
    for step in steps:
        assert step.note is None
        chroma = step.views.image.amax(1) - step.views.image.amin(1)
        assert float(chroma.max()) < 1e-3
        assert step.views.depth.isfinite().all()
        (facts,) = read_facts(step.views)
        assert all(is_grey(room.palette) for room in facts.rooms)


@pytest.mark.parametrize("name", [None, *STEREO])
def test_seen_pixels_win(name):
    view = photo_as_a_box(HALL, 90.0) if name is None else grey_photo(name)
    targets = around(view, 30.0)
    shown, *_, result = WRITER(view, targets, stream(0))
    moved = next(iter(Warp()(view, targets, stream(0))))
    known = shown.confidence[0] > 0
    assert float((shown.image - moved.image).abs().mean()) < 0.01
    assert 0.2 < float(known.float().mean()) < 0.9
    assert torch.equal(result.image[0][:, known], shown.image[0][:, known])
    assert torch.equal(result.depth[0][known], shown.depth[0][known])


@UNCHECKED
def test_the_same_seed_gives_the_same_pictures():
    view = grey_photo()
    a, b = (last(WRITER(view, around(view, 60.0), stream(4))) for _ in range(2))
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.embedding.nan_to_num(-9.0), b.embedding.nan_to_num(-9.0))


@UNCHECKED
def test_a_room_goes_on_in_its_own_colours():
    view = pink_house()
    targets = around(view, 180.0)[-1:]
    draft = WRITER.draft(view, targets, stream(0))
    palette = draft.plan.rooms[0].palette
    assert is_photographed(palette)
    assert np.allclose(palette.wall, PINK.wall, atol=0.1)
    result = last(WRITER(view, targets, stream(0)))
    pink = result.image[0, 0] - result.image[0, 1] > 0.25
    assert float(pink.float().mean()) > 0.2


def test_the_colours_of_a_photograph_survive_the_code():
    view = pink_house()
    draft = WRITER.draft(view, around(view, 30.0), stream(0))
    assert decode(encode(draft.facts)).rooms[0].palette == draft.facts.rooms[0].palette


def test_views_that_were_made_from_a_photograph_speak_for_it():
    """Also without the photograph, its colours go on."""
    view = grey_photo()
    (step,) = walk(begin(view), around(view, 60.0), generator=WRITER, m=2)
    draft = WRITER.draft(step.views, around(view, 120.0)[-1:], stream(1))
    assert is_photographed(draft.plan.rooms[0].palette)
    assert all(is_grey(room.palette) for room in draft.plan.rooms)


def test_our_houses_are_no_photographs():
    assert not any(is_photographed(palette) for palette in PALETTES)
    assert not any(is_photographed(to_grey_palette(palette)) for palette in PALETTES)
    house = build(design(504))
    view = house.render(upright_cameras(house.centres[:1], torch.zeros(1), K), 64, 64)
    result = last(WRITER(view, around(view, 30.0), stream(0)))
    assert result.note is None
    assert decode(result.embedding[0]).rooms[0].palette in PALETTES


@UNCHECKED
def test_only_photographed_rooms_have_tiles_and_a_tile_looks_like_what_is_seen():
    plan = design(504)
    house = build(plan)
    view = house.render(upright_cameras(house.centres[:1], torch.zeros(1), K), 48, 48)
    assert find_tiles(plan, view) == []
    view = photo_as_a_box(HALL, 90.0, height=144)
    draft = WRITER.draft(view, view.cameras, stream(0))
    known = view.replace(cameras=in_frame(view.cameras, draft.frame_from_world))
    tiles = find_tiles(draft.plan, known)
    assert {tile.face.axis for tile in tiles} == {0, 1, 2}
    (floor,) = (tile for tile in tiles if tile.face.axis == 1)
    again = lay(with_flat_floors(draft.plan, tiles).render(known.cameras, 144, 192), tiles)
    lower = (view.image - again)[0, :, -28:].abs().mean()  # rows that show the floor
    blank = view.image[0, :, -28:] - torch.tensor(draft.plan.rooms[0].palette.wood)[:, None, None]
    assert floor.ratio.shape[1] > 100
    assert float(lower) < 0.8 * float(blank.abs().mean())


# ---- quilting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [(1.0, 0.0, 11.0), (0.0, 1.0, 13.0), (0.8, 0.6, 15.0)])
def test_a_quilt_continues_stripes(slope):
    across, down, period = slope
    y, x = np.mgrid[:90, :120]
    stripes = np.repeat((0.5 * ((across * x + down * y) / period % 1 < 0.5))[..., None], 3, 2)
    known = (abs(x - 60) < 30) & (abs(y - 45) < 25)
    result = quilt(stripes, known, stripes, known)
    assert np.array_equal(result[known], stripes[known])
    assert np.abs(result - stripes)[~known].mean() < 0.02  # a blank or a shifted one misses by 0.25


def test_a_texture_that_is_hardly_seen_is_not_quilted():
    picture, known = np.ones((60, 60, 3)), np.zeros((60, 60), dtype=bool)
    known[:10, :10] = True
    assert quilt(picture, known, picture, known) is None
    assert quilt(picture[:5], known[:5], picture[:5], known[:5]) is None


# ---- no room -------------------------------------------------------------------------------------


def ground(view):
    """The view with the depth of a plain under the open sky."""
    down = torch.linspace(-0.5, 0.5, view.depth.shape[1])[:, None].expand(view.depth.shape[1:])
    depth = torch.where(down > 0.02, 1.5 / down.clamp(min=0.02), 60.0)
    return view.replace(depth=depth[None].clamp(max=60.0))


@UNCHECKED
@pytest.mark.parametrize("prepared", [lambda view: view, ground])
def test_outdoors_warp_goes_on_and_the_step_says_so(prepared):
    view = prepared(street())
    steps = list(walk(begin(view), around(view), generator=WRITER, m=1, k=1, policy="temporal"))
    for step in steps:
        assert "no room was found" in step.note
        assert "Warp" in step.note
    targets = around(view, 30.0)
    ours, warps = last(WRITER(view, targets, stream(0))), last(Warp()(view, targets, stream(0)))
    assert torch.equal(ours.image, warps.image)
    assert says_no_room(steps[-1].views.embedding[0])


def test_a_street_that_is_taken_for_a_box_without_a_floor_is_no_room():
    view = photo_as_a_box("potsdamer_platz_1k.jpg", 0.0)
    assert "no room" in last(WRITER(view, around(view, 30.0), stream(0))).note


def test_there_is_nothing_to_draft_without_a_room():
    with pytest.raises(ValueError, match="no room"):
        WRITER.draft(street(), around(street(), 30.0), stream(0))


def test_the_code_of_no_room_holds_no_facts():
    assert len(no_room_code()) == CODE
    assert decode(no_room_code()) is None
    assert not says_no_room(torch.full((CODE,), torch.nan))


def test_a_photograph_without_a_floor_shows_no_room():
    view = grey_photo()
    upper = crop(view, 0, 0, 20, 64)
    assert find_photo_room(upper, find_photo_frame(upper)) is None
