"""What a view cannot see is skipped by how far it sees (`far_depths`), and nothing else is."""

from __future__ import annotations

import pytest
import torch
from core_helpers import Box, same
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from vmemkit.core import Surfels, Views, far_depths, seen_through, with_confidence
from vmemkit.core.kernels import PATCH, RUN, use
from vmemkit.memory import MemoryConfig, begin, sightings_by_depth, write

BOX, SIZE = Box(), (25, 34)
scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "spread": st.sampled_from([0.02, 0.3, 3.0]),
        "bend": st.sampled_from([0.0, 0.1, 1.0]),
        "radius": st.sampled_from([0.01, 0.2, 1.0]),
    }
)


def seeing(random: torch.Generator) -> Views:
    """Four views of a box from places in it, in part unknown."""
    turn = (360 * torch.rand(4, generator=random)).tolist()
    place = tuple((torch.rand(3, generator=random) - 0.5).tolist())
    views = with_confidence(BOX.render(BOX.look(*turn, at=place), *SIZE))
    views.depth[torch.rand(views.depth.shape, generator=random) < 0.05] = torch.nan
    views.depth[0, :PATCH] = torch.nan
    return views


def clusters(seed: int, spread: float, bend: float, radius: float) -> tuple[Views, Surfels]:
    """Views, and runs of surfels that are close together: at random places within the box and without,
    and on the surfaces that the views see. Normals of a run differ by `bend`."""
    random = torch.Generator().manual_seed(seed)
    views = seeing(random)
    with use("torch"):
        seen = begin(views).surfels.position
    places = torch.cat([seen, 16 * torch.rand(len(seen), 3, generator=random) - 8])
    place = places[torch.randint(len(places), (6,), generator=random)].repeat_interleave(RUN, 0)
    facing = torch.randn(6, 3, generator=random).repeat_interleave(RUN, 0)

    def noise() -> torch.Tensor:
        return torch.randn(6 * RUN, 3, generator=random)

    normal = normalize(normalize(facing, dim=1) + bend * noise(), dim=1)
    size = radius * torch.rand(6 * RUN, generator=random)
    return views, Surfels(place + spread * noise(), normal, size, noise())


@settings(max_examples=40, deadline=None)
@given(scene=scenes, first=st.sampled_from([0, 100, 600]))
def test_hidden_surfels_are_skipped_and_no_others(scene, first):
    views, surfels = clusters(**scene)
    surfels, runs = surfels[: 6 * RUN - 9], torch.arange(first // RUN, 6)
    case = surfels, runs, first, views, MemoryConfig()
    found = sightings_by_depth(*case, far_depths(views.depth))
    with use("torch"):
        assert same(found.leaves(), sightings_by_depth(*case).leaves())


@settings(max_examples=40, deadline=None)
@given(scene=scenes, margin=st.sampled_from([0.0, 0.06, 0.5]))
def test_points_that_no_view_looks_through_are_skipped_and_no_others(scene, margin):
    views, surfels = clusters(**scene)
    asked, points = torch.tensor([True, False, True, True]), surfels.position
    through = seen_through(views, points, margin, asked, far_depths(views.depth))
    with use("torch"):
        assert torch.equal(through, seen_through(views, points, margin, asked))


def test_a_view_that_knows_no_depth_sees_nothing():
    views, surfels = clusters(seed=1, spread=0.02, bend=0.0, radius=0.2)
    blind = torch.zeros_like(far_depths(views.depth))
    runs = torch.arange(6)
    assert len(sightings_by_depth(surfels, runs, 0, views, MemoryConfig())) > 0
    with use("numba"):
        assert len(sightings_by_depth(surfels, runs, 0, views, MemoryConfig(), blind)) == 0


@pytest.mark.parametrize("size", [(2, 3), (16, 32), (25, 34)])
def test_the_greatest_depth_of_each_patch_is_kept(size):
    depth = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)) + 0.1
    depth[0, 0, 0] = torch.nan
    depth[1] = torch.nan
    far = far_depths(depth)
    assert far.shape == (2, -(-size[0] // PATCH), -(-size[1] // PATCH))
    assert far[0, 0, 0] == depth[0, :PATCH, :PATCH].nan_to_num(0).max()
    assert far[0].max() == depth[0].nan_to_num(0).max()
    assert (far[1] == 0).all()


def test_a_memory_keeps_how_far_its_views_see_and_makes_it_again_when_loaded():
    views = seeing(torch.Generator().manual_seed(0))
    memory = write(begin(views[:2]), views[2:])
    assert torch.equal(memory._reach.value.far, far_depths(memory.views.depth))
    assert len(memory.truncate(1)._reach) == 1
    assert same(memory.to("cpu")._reach.value.leaves(), memory._reach.value.leaves())
