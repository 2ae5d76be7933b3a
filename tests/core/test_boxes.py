"""Runs that are passed over hold nothing that counts: whatever is in sight or near is in a run found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemkit.core import (
    Surfels,
    boxes_of,
    cameras,
    intrinsics,
    look_at,
    runs_in_region,
    runs_in_sight,
    runs_to_test,
    splat,
    surfels_in_runs,
)
from vmemkit.core.kernels import RUN, use


def scattered(runs: int, seed: int, radius: float) -> Surfels:
    """Runs of surfels, each run in a place of its own; a few surfels more than the full runs."""
    random = torch.Generator().manual_seed(seed)
    places = 4 * torch.randn(runs + 1, 1, 3, generator=random)
    n = runs * RUN + 17
    position = (places + 0.4 * torch.randn(runs + 1, RUN, 3, generator=random)).view(-1, 3)[:n]
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=random), dim=-1)
    size = radius * torch.rand(n, generator=random)
    return Surfels(position.contiguous(), normal, size, torch.zeros(n, 3))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), radius=st.sampled_from([0.0, 0.05, 2.0]), scale=st.floats(0.5, 2))
def test_every_surfel_that_a_camera_sees_is_in_a_run_that_may_show(seed, radius, scale):
    random = torch.Generator().manual_seed(seed)
    discs, eyes = scattered(6, seed, radius), torch.randn(3, 3, generator=random)
    K = intrinsics(70.0, 1.5).clone()
    K[:2, 2] += 0.3 * (torch.rand(2, generator=random) - 0.5)
    query = cameras(look_at(eyes, torch.randn(3, 3, generator=random) * 3), K)
    boxes, n = boxes_of(discs.position, discs.radius), len(discs)
    found = runs_in_sight(boxes, query, 2**0.5, 0.02, torch.inf)
    for i in range(3):
        seen = splat(discs, query[i : i + 1], 40, 60).surfel.unique()
        rows = surfels_in_runs(runs_to_test(found[i], n), n)
        assert torch.isin(seen[seen >= 0], rows).all()


@pytest.mark.parametrize("limits", [(2**0.5, 0.02, torch.inf), (0.0, 0.0, 9.0)])
def test_the_kernel_finds_the_same_runs_in_sight(limits):
    random, discs = torch.Generator().manual_seed(1), scattered(200, 3, 0.3)
    eyes, goals = torch.randn(2, 5, 3, generator=random) * 3
    query = cameras(look_at(eyes, goals), intrinsics(70.0, 1.5))
    boxes = boxes_of(discs.position, discs.radius)
    found = runs_in_sight(boxes, query, *limits)
    with use("torch"):
        assert torch.equal(found, runs_in_sight(boxes, query, *limits))
    assert 0.05 < found.float().mean() < 0.95


def test_runs_out_of_sight_are_passed_over():
    discs = scattered(8, 0, 0.01)
    boxes = boxes_of(discs.position, discs.radius)
    ahead = torch.tensor([0.0, 0.0, 1.0])
    middle = discs.position[:RUN].mean(0)
    lens = intrinsics(40.0, 1.0)
    toward, away = (
        cameras(look_at((middle - 5 * ahead)[None], (middle + sign * 9 * ahead)[None]), lens)
        for sign in (1, -1)
    )
    assert runs_in_sight(boxes, toward, 1.0, 0.02, torch.inf)[0, 0]
    assert not runs_in_sight(boxes, away, 1.0, 0.02, torch.inf)[0, 0]
    assert not runs_in_sight(boxes, toward, 1.0, 0.02, 1.0)[0, 0]  # beyond far
    assert not runs_in_sight(boxes, toward, 1.0, 50.0, torch.inf)[0, 0]  # nearer than near


@pytest.mark.parametrize("radius", [0.01, 1.0])
def test_runs_that_reach_into_a_box_are_found(radius):
    discs = scattered(8, 3, radius)
    boxes, n = boxes_of(discs.position, discs.radius), len(discs)
    low, high = torch.tensor([-1.0, -2.0, 0.0]), torch.tensor([3.0, 1.0, 4.0])
    rows = surfels_in_runs(runs_to_test(runs_in_region(boxes, low, high, 1.0), n), n)
    gap = torch.maximum(low - discs.position, discs.position - high).clamp(min=0).norm(dim=-1)
    near = (gap <= discs.radius).nonzero()[:, 0]
    assert torch.isin(near, rows).all()
    assert radius > 0.5 or len(rows) < n


def test_what_fills_no_run_has_no_box_and_is_always_looked_at():
    discs = scattered(0, 0, 0.1)
    boxes = boxes_of(discs.position, discs.radius)
    assert len(boxes) == 0
    assert surfels_in_runs(runs_to_test(torch.zeros(0, dtype=torch.bool), 17), 17).tolist() == list(
        range(17)
    )
