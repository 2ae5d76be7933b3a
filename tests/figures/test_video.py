"""Films: their frames are where they say, and files play."""

import pytest
import torch
from core_helpers import Box
from matplotlib.colors import to_rgb
from PIL import Image

from vmemkit.core import cat, pose_distance
from vmemkit.figures import (
    FPS,
    fly_round,
    save_animation,
    save_walk_video,
    side_by_side,
    walk_film,
)
from vmemkit.figures.colors import CARD
from vmemkit.generation import Generation
from vmemkit.memory import Memory
from vmemkit.pipeline import Step, step, walk

YAWS = (10.0, 20.0, 30.0, 120.0)


@pytest.fixture(scope="module")
def steps(box) -> list[Step]:
    """A walk of true views that turns by 10 degrees a view, and then looks to the other side."""

    def see(context, targets, rng):
        true = box.render(targets)
        yield Generation(true.image, true.depth, torch.ones_like(true.depth))

    return list(walk(box.memory(0.0), box.look(*YAWS), m=2, generator=see))


def test_a_film_begins_with_the_first_view_and_holds_every_view(steps):
    film = walk_film(steps)
    assert len(film.cameras) == len(film.image) == 3 * round(4 * FPS / 5) + 2  # and a cut
    path = cat([steps[0].before.views.cameras, *(s.targets for s in steps)])
    images = torch.cat([steps[0].before.views.image, *(s.views.image for s in steps)])
    places = pose_distance(path.world_from_cam[:, None], film.cameras.world_from_cam[None]).argmin(
        1
    )
    assert places[0] == 0
    assert places[-1] == len(film.image) - 1
    assert torch.equal(film.image[places], images)
    assert torch.equal(film.cameras.world_from_cam[places], path.world_from_cam)


def test_the_frames_between_turn_evenly_and_show_what_is_there(steps, box):
    film = walk_film(steps)
    path = film.cameras.world_from_cam
    apart = torch.rad2deg(pose_distance(path[1:], path[:-1]))
    turning = apart < 30  # a cut is where the walk looks to the other side
    assert turning.sum() == len(apart) - 1
    assert apart[turning].std() < 1e-2
    truth = box.render(film.cameras)
    error = (film.image - truth.image).abs().mean((1, 2, 3))
    assert error.max() < 0.02


def test_a_film_starts_at_the_given_view_that_is_nearest(box):
    memory = box.memory(0.0, 90.0, 180.0)
    film = walk_film([step(memory, box.look(80.0))])
    assert torch.equal(film.image[0], memory.views.image[1])


def test_panels_stand_beside_each_other_under_their_names():
    red, blue = torch.zeros(2, 3, 12, 16), torch.zeros(2, 3, 12, 16)
    red[:, 0], blue[:, 2] = 1, 1
    frames = side_by_side({"first": red, "second": blue})
    assert frames.shape == (2, 3, 410, 960)
    caption, left, right = frames[0, :, :50], frames[0, :, 50:, :480], frames[0, :, 50:, 480:]
    assert (left.mean((1, 2)) - torch.tensor([1.0, 0, 0])).abs().max() < 1e-6
    assert (right.mean((1, 2)) - torch.tensor([0.0, 0, 1])).abs().max() < 1e-6
    assert caption[:, 0, 0].tolist() == pytest.approx(to_rgb(CARD), abs=1 / 255)
    # At the width of a README, 800 pixels for three panels, letters are about 12 pixels high.
    (rows,) = (caption[:, :, :480].amin(0) > 0.5).any(1).nonzero(as_tuple=True)
    assert (rows[-1] - rows[0]) * 800 / (3 * 480) > 12
    with pytest.raises(ValueError, match="one size"):
        side_by_side({"first": red, "second": blue[:1]})
    with pytest.raises(ValueError, match="at least one panel"):
        side_by_side({})


def test_a_flight_sees_into_the_room_from_outside(box):
    memory = box.memory(*range(0, 360, 45))
    film = fly_round(memory, frames=8, rows=48)
    assert film.image.shape == (8, 3, 48, 48)
    outside = film.cameras.position.abs() > torch.tensor(box.half)
    assert outside.any(1).all()
    up = -film.cameras.position[:, 1]
    assert (up > 0).all()
    lit = (film.image.std(1) > 0.02).float().mean((1, 2))  # the background is grey
    assert lit.min() > 0.1


def test_a_flight_over_one_sided_surfels_stays_on_their_side():
    box = Box()
    film = fly_round(box.memory(0.0), frames=8, rows=24)
    ahead = torch.rad2deg(torch.atan2(film.cameras.forward[:, 0], film.cameras.forward[:, 2]))
    assert ahead.abs().max() < 45
    with pytest.raises(ValueError, match="needs surfels"):
        fly_round(Memory.empty())


def test_films_are_written(steps, tmp_path):
    save_walk_video(tmp_path / "walk.mp4", steps)
    assert (tmp_path / "walk.mp4").stat().st_size > 500
    images = torch.rand(5, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    for name in ("a.webp", "a.gif"):
        save_animation(tmp_path / name, images, 12.5)
        with Image.open(tmp_path / name) as animation:
            animation.load()
            assert (animation.n_frames, animation.size) == (5, (10, 8))
            assert animation.info["duration"] == 80
    with pytest.raises(ValueError, match=r"needs a \.webp or \.gif"):
        save_animation(tmp_path / "a.avi", images, 12.0)
    with pytest.raises(ValueError, match="steps of a walk"):
        save_walk_video(tmp_path / "b.mp4", [])
