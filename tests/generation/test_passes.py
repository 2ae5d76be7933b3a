"""A whole path at once: anchors, then the views between them."""

import pytest
import torch
from generator_helpers import small

from vmemkit.evaluation import psnr
from vmemkit.generation import Warp, assembled, two_passes
from vmemkit.generation.passes import anchor_places
from vmemkit.scenes import preset_path, rooms, single_tour

H, W = 24, 32
pytestmark = pytest.mark.usefixtures("as_installed")  # shape checks would take half of the time


@pytest.fixture(scope="module")
def house():
    return rooms(0)


@pytest.fixture(scope="module")
def given(house):
    return house.render(single_tour(house).given, H, W)


@pytest.fixture(scope="module")
def path(given):
    return preset_path(given.cameras[0], "orbit", 24, distance=1.5)


def generator():
    return small(frames=8, context=7, steps=1)


@pytest.mark.parametrize("n", [1, 2, 6, 7, 19, 60, 400])
@pytest.mark.parametrize("given", [1, 4])
def test_anchors_span_the_path_and_the_views_between_fit_into_a_window(n, given):
    places = anchor_places(n, given, frames=8)
    assert places[0] == 0
    assert places[-1] == n - 1
    assert len(places) == len(places.unique()) >= min(n, 8 - given)
    assert len(places) < 2 or places.diff().max() - 1 <= 6


def test_a_path_is_made_once_and_in_order(given, path):
    windows = list(two_passes(given, path, generator(), frames=8))
    views = assembled(windows)
    assert torch.equal(views.cameras.world_from_cam, path.world_from_cam)
    assert not views.given.any()
    assert views.image.std() > 0
    assert all(len(window.index) + len(window.context) <= 8 for window in windows)


def test_views_between_are_made_from_their_two_anchors(given, path):
    windows = list(two_passes(given, path, generator(), frames=8))
    places = [place for window in windows if window.number == 1 for place in window.index.tolist()]
    assert places == anchor_places(24, 1, 8).tolist()
    for window in windows:
        if window.number == 2:
            first, after = int(window.index[0]) - 1, int(window.index[-1]) + 1
            ends = path[[first, after]].world_from_cam
            assert torch.equal(window.context.cameras.world_from_cam, ends)
            assert {first, after} <= set(places)


def test_all_given_views_are_context_of_the_anchors(house, path):
    given = house.render(path[[0, 1, 23]], H, W)
    first = next(two_passes(given, path, generator(), frames=8))
    assert first.context.given.all()
    assert len(first.context) == 3


def test_anchors_that_do_not_fit_into_one_window_have_earlier_ones_as_context(given):
    path = preset_path(given.cameras[0], "orbit", 60, distance=1.5)
    windows = [w for w in two_passes(given, path, generator(), frames=8) if w.number == 1]
    assert [len(w.context) for w in windows] == [1, 4, 4]
    assert [len(w.index) for w in windows] == [4, 4, 3]
    assert not windows[1].context.given.all()


def test_the_same_seed_gives_the_same_views_and_another_another(given, path):
    short = path[:4]
    one, same, other = (
        assembled(list(two_passes(given, short, generator(), 8, seed))) for seed in (3, 3, 4)
    )
    assert torch.equal(one.image, same.image)
    assert not torch.equal(one.image, other.image)


def test_nothing_is_encoded_twice(given, path):
    diffusion = generator()
    list(two_passes(given, path, diffusion, frames=8))
    assert diffusion.codec.encoded == 1


def test_the_second_pass_may_have_a_generator_of_its_own(given, path):
    """As released: multi-view guidance for the anchors, temporal guidance between them."""
    first, second = generator(), generator().with_config(guidance="temporal", guidance_scale=3.0)
    windows = list(two_passes(given, path, first, frames=8, between=second))
    alone = list(two_passes(given, path, first, frames=8))
    for window, other in zip(windows, alone, strict=True):
        assert torch.equal(window.views.image, other.views.image) == (window.number == 1)


def test_codes_of_the_given_views_do_no_harm(given, path):
    """They are another generator's: warp makes no codes, and this diffusion makes no embeddings."""
    coded = given.replace(latent=torch.zeros(1, 4, 3, 4), embedding=torch.zeros(1, 16))
    long = preset_path(given.cameras[0], "orbit", 40, distance=1.5)
    for either in (Warp(), generator()):
        assert len(assembled(list(two_passes(coded, long, either, frames=8)))) == 40


def test_a_generator_without_codes_works_too(given, path):
    views = assembled(list(two_passes(given, path, Warp(), frames=8)))
    assert views.image.shape == (24, 3, H, W)
    assert views.latent is None
    assert psnr(views.image[-1], given.image[0]) > 20  # the orbit ends where it began
