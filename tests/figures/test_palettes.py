"""Palettes: what every colour mode says of a surfel, against references by hand."""

from dataclasses import replace

import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from vmemkit.core import cat, project
from vmemkit.figures import COLOR_MODES, RETRIEVAL_MODES, look, surfel_colors, view_colors
from vmemkit.figures.palettes import (
    AMOUNTS,
    FAINT,
    GENERATED,
    GIVEN,
    INVENTED,
    ORIGIN_COLORS,
    UNSEEN,
    amount_colors,
    legend,
    origins,
    spotlight,
    without_invention,
)
from vmemkit.figures.renderings import PALE, SHADE
from vmemkit.memory import AssociationConfig, Memory, MemoryConfig, begin, write
from vmemkit.retrieval import retrieve

FEW, MANY = (torch.tensor(colormaps[AMOUNTS].colors[i]).float() for i in (0, -1))


@pytest.fixture(scope="module")
def memory(box):
    """Views 0 and 1 share what is between them; view 2 looks away from both."""
    return box.memory(0.0, 40.0, 180.0)


@pytest.fixture(scope="module")
def retrieval(memory, box):
    """A look between the first two views, answered by the second and the last."""
    found = retrieve(memory, box.look(20.0), 2, "coverage")
    return replace(found, chosen=torch.tensor([1, 2]))


def saw(memory):
    """The views that saw each surfel, oldest first."""
    seen = [[] for _ in range(len(memory.surfels))]
    for surfel, view in zip(memory.sightings.surfel, memory.sightings.view, strict=True):
        seen[int(surfel)].append(int(view))
    return seen


def unshaded(memory, colors):
    """The colours without the surfels' own brightness."""
    return colors / (1 - SHADE + SHADE * memory.surfels.color.mean(-1, keepdim=True))


def by_hand(memory, color_of):
    return torch.stack([torch.as_tensor(color_of(i)) for i in range(len(memory.surfels))])


def test_images_colour_surfels_as_their_pixels_were_and_are_handed_out_as_copies(memory):
    colors = surfel_colors(memory, "image")
    assert torch.equal(colors, memory.surfels.color)
    colors.zero_()
    assert memory.surfels.color.any()


def test_normals_say_which_way_a_wall_faces(box):
    memory = begin(box.render(box.look(0.0, 90.0, pitch=-30.0)))
    colors, at = surfel_colors(memory, "normal"), memory.surfels.position
    floor, ahead, right = (at[:, axis] > box.half[axis] - 1e-3 for axis in (1, 2, 0))
    for wall, color in ((floor, (0.5, 1, 0.5)), (ahead, (0.5, 0.5, 1)), (right, (1, 0.5, 0.5))):
        assert wall.sum() > 10
        assert torch.allclose(colors[wall].median(0).values, torch.tensor(color), atol=1e-3)


def test_the_newest_view_is_the_last_that_saw_a_surfel(memory):
    seen = saw(memory)
    assert any(len(views) == 2 for views in seen)
    hues = view_colors(3)
    expected = by_hand(memory, lambda i: hues[seen[i][-1]])
    colors = surfel_colors(memory, "newest view")
    torch.testing.assert_close(unshaded(memory, colors), expected)


def test_sightings_go_from_dark_for_one_to_bright_for_the_most(memory):
    seen = saw(memory)
    assert {len(views) for views in seen} == {1, 2}
    expected = by_hand(memory, lambda i: FEW if len(seen[i]) == 1 else MANY)
    colors = surfel_colors(memory, "sightings")
    torch.testing.assert_close(unshaded(memory, colors), expected)


def test_vote_weights_are_the_pixels_that_a_surfel_won_and_grey_where_there_are_none(
    memory, retrieval
):
    won = torch.zeros(len(memory.surfels))
    for surfel in retrieval.splat.surfel.flatten().tolist():
        if surfel >= 0:
            won[surfel] += 1
    colors = unshaded(memory, surfel_colors(memory, "vote weight", retrieval))
    assert 0 < (won == 0).sum() < len(won)
    assert torch.allclose(colors[won == 0], torch.tensor(UNSEEN))
    torch.testing.assert_close(
        colors[won == won.max()], MANY.expand(int((won == won.max()).sum()), 3)
    )
    few, many = won[won > 0].argsort()[[0, -1]].tolist()
    assert colors[won > 0][few].mean() < colors[won > 0][many].mean()


def test_votes_for_names_the_first_chosen_view_among_what_the_targets_see(memory, retrieval):
    seen, looked = saw(memory), set(retrieval.splat.surfel.flatten().tolist())

    def color(i):
        if i not in looked:
            return torch.full((3,), UNSEEN)
        chosen = [view for view in retrieval.chosen.tolist() if view in seen[i]]
        return view_colors(3)[chosen[0]] if chosen else torch.full((3,), PALE)

    colors = unshaded(memory, surfel_colors(memory, "votes for", retrieval))
    expected = by_hand(memory, color)
    torch.testing.assert_close(colors, expected)
    kinds = expected.unique(dim=0)
    assert len(kinds) == 3  # view 1, pale and grey; view 2 saw nothing that is asked about


def test_the_order_of_choice_decides_whose_colour_a_shared_surfel_has(memory, retrieval):
    shared = [i for i, views in enumerate(saw(memory)) if views == [0, 1]]
    looked = retrieval.splat.surfel.unique().tolist()
    shared = [i for i in shared if i in looked]
    for chosen in ([0, 1], [1, 0]):
        asked = replace(retrieval, chosen=torch.tensor(chosen))
        colors = unshaded(memory, surfel_colors(memory, "votes for", asked))[shared]
        torch.testing.assert_close(colors, view_colors(3)[chosen[0]].expand_as(colors))


@pytest.mark.parametrize("mode", RETRIEVAL_MODES)
def test_policies_that_do_not_look_are_asked_what_their_targets_would_see(memory, box, mode):
    blind = retrieve(memory, box.look(20.0), 2, "temporal")
    assert blind.splat is None
    looking = replace(blind, splat=look(memory, blind.query))
    colors = surfel_colors(memory, mode, blind)
    assert torch.equal(colors, surfel_colors(memory, mode, looking))
    assert len(unshaded(memory, colors).round(decimals=4).unique(dim=0)) > 1


def test_amounts_are_even_on_a_scale_of_doublings_and_zero_is_grey():
    colors = amount_colors(torch.tensor([0.0, 1.0, 4.0, 16.0]))
    table = torch.tensor(colormaps[AMOUNTS].colors).float()
    assert torch.equal(colors[0], torch.full((3,), UNSEEN))
    assert torch.equal(colors[1], FEW)
    assert torch.equal(colors[2], table[round((len(table) - 1) / 2)])
    assert torch.equal(colors[3], MANY)


def test_amounts_that_are_all_one_are_few_and_amounts_of_nothing_are_grey():
    assert torch.equal(amount_colors(torch.ones(2)), FEW.expand(2, 3))
    assert torch.equal(amount_colors(torch.zeros(2)), torch.full((2, 3), UNSEEN))


def test_a_spotlight_fades_what_its_views_did_not_see_and_colours_what_they_did(memory):
    colors, seen = surfel_colors(memory, "normal"), saw(memory)
    lit = spotlight(memory, colors, torch.tensor([1]))
    own = torch.tensor([1 in views for views in seen])
    assert 0 < own.sum() < len(own)
    assert torch.equal(lit[~own, :3], colors[~own])
    assert torch.allclose(lit[:, 3], torch.where(own, 1.0, FAINT))
    lit = lit[:, :3]
    hue = torch.nn.functional.normalize(view_colors(2)[1], dim=0)
    assert (torch.nn.functional.normalize(lit[own], dim=-1) @ hue).min() > 0.9999
    bright = colors[own].mean(-1).argsort()[[0, -1]]
    assert lit[own][bright[0]].mean() < lit[own][bright[1]].mean()  # shapes stay readable


def test_a_spotlight_of_several_views_gives_each_surfel_to_the_first_that_is_named(memory):
    colors, seen = surfel_colors(memory, "image"), saw(memory)
    lit = spotlight(memory, colors, torch.tensor([1, 0]))
    for i, views in enumerate(seen):
        first = next((view for view in (1, 0) if view in views), None)
        if first is None:
            assert torch.allclose(lit[i], torch.tensor([*colors[i], FAINT]))
        else:
            assert lit[i, 3] == 1
            hues = torch.stack([lit[i, :3], view_colors(2)[first]])
            assert torch.nn.functional.normalize(hues, dim=-1).prod(0).sum() > 0.9999


def test_a_spotlight_of_no_view_fades_everything_and_none_at_all_lights_everything(memory):
    colors = surfel_colors(memory, "image")
    everything = spotlight(memory, colors, None)
    assert torch.equal(everything[:, :3], colors)
    assert (everything[:, 3] == 1).all()
    nobody = spotlight(memory, colors, torch.zeros(0, dtype=torch.long))
    assert torch.allclose(nobody[:, 3], torch.tensor(FAINT))


def test_surfels_are_given_generated_or_invented_by_where_given_views_look(box):
    given = box.render(box.look(0.0), 12, 16)
    beside = box.render(box.look(45.0), 12, 16).replace(given=torch.tensor([False]))
    closer = box.render(box.look(0.0, at=(0.0, 0.0, 1.0)), 12, 16)
    closer = closer.replace(given=torch.tensor([False]), depth=1.01 * closer.depth)
    far_off = MemoryConfig(association=AssociationConfig(method="radius"))  # merges less
    memory = write(begin(given, far_off), cat([beside, closer]))
    origin, first = origins(memory), memory.ends[0]
    assert (origin[:first] == GIVEN).all()
    uv, depth = project(given.cameras[0], memory.surfels.position)
    inside = (depth > 0) & (uv >= 0).all(-1) & (uv < 1).all(-1)
    assert (origin[first:][~inside[first:]] == INVENTED).all()
    assert (origin[first:][inside[first:]] == GENERATED).all()
    assert {GIVEN, GENERATED, INVENTED} == set(origin.tolist())
    colors = surfel_colors(memory, "origin")
    for code, name in enumerate(ORIGIN_COLORS):
        hue = torch.nn.functional.normalize(torch.tensor(to_rgb(name)), dim=0)
        own = torch.nn.functional.normalize(colors[origin == code], dim=-1)
        assert (own @ hue).min() > 0.9999


@pytest.mark.parametrize("behind", ["a surface", "sky"])
def test_what_is_generated_in_front_of_what_a_given_view_sees_is_invented(box, behind):
    given = box.render(box.look(0.0), 12, 16)
    near = given.replace(given=torch.tensor([False]), depth=0.5 * given.depth)
    if behind == "sky":
        given = given.replace(depth=torch.full_like(given.depth, torch.inf))
    memory = begin(given, MemoryConfig(association=AssociationConfig(empty=1.0)))
    after = write(memory, near)
    assert (origins(after)[len(memory.surfels) :] == INVENTED).all()


@pytest.mark.parametrize(("word", "opacity"), [("shown", 1.0), ("faded", FAINT), ("hidden", 0.0)])
def test_invented_surfels_are_shown_faded_or_hidden(box, word, opacity):
    views = box.render(box.look(0.0, 90.0), 12, 16).replace(given=torch.tensor([True, False]))
    memory = begin(views)
    invented = origins(memory) == INVENTED
    assert 0 < invented.sum() < len(invented)
    paint = spotlight(memory, surfel_colors(memory, "image"), None)
    shown = without_invention(memory, paint, word)
    assert torch.equal(shown[:, :3], paint[:, :3])
    assert (shown[~invented, 3] == 1).all()
    assert torch.allclose(shown[invented, 3], torch.tensor(opacity))


def test_an_unknown_appearance_is_refused(memory):
    paint = spotlight(memory, surfel_colors(memory, "image"), None)
    with pytest.raises(ValueError, match="shown, faded, hidden, got 'away'"):
        without_invention(memory, paint, "away")


def test_legends_tell_the_greatest_amounts(memory, retrieval):
    most = int(torch.bincount(retrieval.splat.surfel[retrieval.splat.surfel >= 0]).max())
    assert "yellow 2 times" in legend(memory, "sightings")
    assert "yellow 1 times" in legend(memory.truncate(1), "sightings")
    assert most > 2
    assert f"yellow {most}," in legend(memory, "vote weight", retrieval)
    for mode in set(COLOR_MODES) - {"sightings", "vote weight"}:
        assert legend(memory, mode, retrieval) == COLOR_MODES[mode]


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_every_mode_colours_every_surfel_within_range(memory, retrieval, device, mode):
    there = memory.to(device)
    query, splat = retrieval.query.to(device), retrieval.splat.to(device)
    asked = replace(retrieval, chosen=retrieval.chosen.to(device), query=query, splat=splat)
    colors = surfel_colors(there, mode, asked)
    assert colors.shape == (len(memory.surfels), 3)
    assert colors.dtype == torch.float32
    assert 0 <= colors.min() <= colors.max() <= 1
    torch.testing.assert_close(colors.cpu(), surfel_colors(memory, mode, retrieval))


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_an_empty_memory_has_no_colours_and_a_legend(retrieval, mode):
    empty = Memory.empty()
    colors = surfel_colors(empty, mode, retrieval)
    assert colors.shape == (0, 3)
    assert spotlight(empty, colors, torch.zeros(0, dtype=torch.long)).shape == (0, 4)
    assert legend(empty, mode, retrieval) == COLOR_MODES[mode].format(most=0)
