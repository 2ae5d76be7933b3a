"""Renderings: colours of views, and who saw what, against references by hand and by brute force."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import splat
from vmemkit.figures import (
    DARK,
    depth_images,
    explained_shares,
    paint,
    ray_colors,
    recall,
    view_colors,
    vote_map,
)
from vmemkit.figures.renderings import PALE
from vmemkit.memory import begin
from vmemkit.retrieval import POLICIES, retrieve


def test_view_colours_are_colours_and_do_not_depend_on_how_many_there_are():
    colors = view_colors(200)
    assert colors.shape == (200, 3)
    assert 0 <= colors.min() <= colors.max() <= 1
    assert torch.equal(view_colors(7), colors[:7])
    assert view_colors(0).shape == (0, 3)


def test_views_near_each_other_in_time_have_unlike_colours():
    colors = view_colors(60)
    apart = torch.cdist(colors, colors)
    i, j = torch.triu_indices(60, 60, offset=1)
    assert apart[i, j][j - i <= 4].min() > 0.2
    assert apart[i, j][j - i <= 16].min() > 0.1


def test_no_view_has_the_greys_of_a_vote_map():
    spread = view_colors(200).amax(-1) - view_colors(200).amin(-1)
    assert spread.min() > 0.2


def test_a_view_explains_all_that_it_saw_itself(box):
    memory = box.memory(0.0, 90.0)
    shares = explained_shares(memory, retrieve(memory, box.look(0.0), k=1))
    assert shares.shape == (1, 1)
    assert shares[0, 0] > 0.97


@settings(max_examples=15, deadline=None)
@given(
    yaw=st.floats(-180, 180),
    k=st.integers(1, 3),
    policy=st.sampled_from([*POLICIES]),
)
def test_a_pixel_is_credited_to_the_first_chosen_view_that_saw_its_surfel(box, yaw, k, policy):
    memory = box.memory(0.0, 120.0, 240.0)
    retrieval = retrieve(memory, box.look(yaw, yaw + 20), k, policy)
    seen = retrieval.splat
    if seen is None:
        height, width = vote_map(memory, retrieval).shape[1:3]
        seen = splat(memory.surfels, retrieval.query, height, width)
    saw = {view: set() for view in range(3)}
    for surfel, view in zip(memory.sightings.surfel, memory.sightings.view, strict=True):
        saw[int(view)].add(int(surfel))
    chosen = retrieval.chosen.tolist()
    expected = torch.zeros(len(retrieval.query), len(chosen))
    for m, surfels in enumerate(seen.surfel.flatten(1).tolist()):
        for surfel in surfels:
            first = next((i for i, view in enumerate(chosen) if surfel in saw[view]), None)
            if first is not None:
                expected[m, first] += 1
    pixels = seen.surfel[0].numel()
    torch.testing.assert_close(explained_shares(memory, retrieval), expected / pixels)


def test_what_no_chosen_view_saw_is_pale_and_what_nobody_saw_is_dark(box):
    memory = box.memory(0.0, 180.0)
    behind = retrieve(memory, box.look(180.0), k=1)
    assert behind.chosen.tolist() == [1]
    picture = vote_map(memory, replace(behind, chosen=torch.tensor([0])))
    assert is_grey(picture, PALE).float().mean() > 0.97
    aside = vote_map(memory, retrieve(memory, box.look(90.0), k=1, policy="camera_distance"))
    assert is_grey(aside, DARK).float().mean() > 0.3


def is_grey(picture, level):
    return ((picture - level).abs() < 1e-6).all(-1)


def test_a_vote_map_wears_the_colour_of_the_chosen_view_shaded(box):
    memory = box.memory(0.0, 90.0)
    picture = vote_map(memory, retrieve(memory, box.look(90.0), k=1))
    pixels = picture.flatten(0, 2)
    colored = pixels[pixels.amax(-1) - pixels.amin(-1) > 0.05]
    hue = torch.nn.functional.normalize(view_colors(2)[1], dim=0)
    assert (torch.nn.functional.normalize(colored, dim=-1) @ hue).min() > 0.999
    assert len(colored) > 0.9 * len(pixels)


def test_the_memory_recalls_what_it_was_shown(box):
    view = box.render(box.look(0.0), 48, 64)
    picture = recall(begin(view), view.cameras, rows=48)
    assert picture.shape == (1, 3, 48, 64)
    assert (picture - view.image).abs().median() < 0.03


def test_a_camera_that_sees_nothing_recalls_the_background(box):
    memory = box.memory(0.0)
    away = splat(memory.surfels, box.look(180.0), 8, 8)
    assert torch.equal(paint(memory, away, 0.5), torch.full((1, 3, 8, 8), 0.5))
    assert torch.equal(recall(memory, box.look(180.0), 8).unique(), torch.tensor([DARK]))


@pytest.mark.parametrize("rows", [8, 30])
def test_recalled_pictures_have_the_views_shape(box, rows):
    assert recall(box.memory(0.0), box.look(0.0, 9.0), rows).shape == (
        2,
        3,
        rows,
        round(rows * 4 / 3),
    )


def test_one_far_pixel_does_not_darken_a_depth_picture():
    near_to_far = torch.linspace(1.0, 4.0, 400).view(1, 20, 20)
    far = near_to_far.clone()
    far[0, 0, 0], far[0, 5, 5], far[0, 6, 6] = 5000.0, torch.nan, 0.0
    plain, _ = depth_images(near_to_far)
    images, scale = depth_images(far)
    assert images.shape == (1, 3, 20, 20)
    others = torch.ones(20, 20, dtype=torch.bool)
    others[0, 0] = others[5, 5] = others[6, 6] = False
    assert (images - plain)[0, :, others].abs().max() < 0.05
    assert (images[0, :, [5, 6], [5, 6]] == DARK).all()
    assert torch.equal(images[0, :, 0, 0], plain[0, :, 19, 19])  # the colour of the far end
    assert plain[0, 1, 0, 0] > 0.9 > 0.1 > plain[0, 1, 19, 19]  # from yellow to violet
    low, high = (float(end) for end in re.findall(r"[\d.]+", scale))
    assert (low, high) == (pytest.approx(1.03, abs=0.02), pytest.approx(3.97, abs=0.03))
    blank, words = depth_images(torch.full((1, 2, 2), torch.nan))
    assert ((blank == DARK).all(), words) == (True, "no depth is known")


def test_rays_are_painted_about_grey_with_one_stretch_for_all():
    lines = torch.zeros(2, 6, 1, 2)
    lines[0, 0, 0, 0], lines[0, 2, 0, 1] = -1.0, 1.0  # left, ahead
    lines[1, 4] = torch.tensor([[0.5, -2.0]])
    direction, moment = ray_colors(lines)
    assert direction[0, :, 0].T.tolist() == [[0.0, 0.5, 0.5], [0.5, 0.5, 1.0]]
    assert moment[1, 1].tolist() == [[0.625, 0.0]]
    assert (moment[0] == 0.5).all()
    assert torch.equal(ray_colors(torch.zeros(1, 6, 2, 2))[1], torch.full((1, 3, 2, 2), 0.5))
