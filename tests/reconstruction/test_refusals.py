"""Inputs from which no geometry can be made: each is a ValueError that says what is needed."""

from __future__ import annotations

import pytest
import torch
from core_helpers import Box
from golden_helpers import part, tiny_cut3r

from vmemkit.memory import begin
from vmemkit.nets.cut3r import CUT3RConfig
from vmemkit.reconstruction import (
    AlignConfig,
    Cut3r,
    fit_depth,
    from_depth,
    prepare_images,
    reconstruct,
)
from vmemkit.reconstruction.alignment import initialise
from vmemkit.reconstruction.pnp import Predictions


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"align": "hopefully"}, "align is one of direct, released, full, none, got 'hopefully'"),
        ({"failures": "ignore"}, "failures is one of"),
        ({"plausible": 0.5}, "need plausible > 1"),
    ],
)
def test_impossible_settings_are_refused(settings, match, as_installed):
    with pytest.raises(ValueError, match=match):
        Cut3r(tiny_cut3r(), **settings)


def test_an_optimiser_without_iterations_is_refused():
    with pytest.raises(ValueError, match="one or more iterations, got 0"):
        AlignConfig(iterations=0)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (torch.zeros(0, 3, 48, 64), r"needs images .* got \[0, 3, 48, 64\]"),
        (torch.zeros(1, 3, 0, 0), "needs images"),
        (torch.zeros(1, 3, 10, 400), "shorter side is at least 16 / 512 of the longer"),
        (torch.full((1, 3, 48, 64), torch.nan), "finite and in"),
        (torch.full((1, 3, 48, 64), 1.5), "finite and in"),
    ],
)
def test_images_that_do_not_fit_the_network_are_refused(image, match):
    with pytest.raises(ValueError, match=match):
        prepare_images(image, CUT3RConfig())


@pytest.mark.parametrize(
    ("views", "point", "confidence", "moves", "match"),
    [
        (1, 1.0, 2.0, True, r"two or more views .* got 1"),
        (4, 1.0, 2.0, False, "stand in one place"),
        (4, float("nan"), 2.0, True, "finite point"),
        (4, 1.0, 0.5, True, "confidence of 1 or more"),
    ],
    ids=["one view", "one place", "unknown point", "low confidence"],
)
def test_predictions_that_cannot_be_aligned_are_refused(views, point, confidence, moves, match):
    problem = part("align", "geometry")
    points = torch.cat([problem["pred_i"][None], problem["pred_j"]])[:views].clone()
    points[0, 2, 3] *= point
    poses = problem["known_poses"][:views]
    predictions = Predictions(points, torch.full(points.shape[:3], confidence))
    with pytest.raises(ValueError, match=match):
        initialise(predictions, poses if moves else poses[:1].expand_as(poses))


def test_depths_of_two_shapes_are_refused(as_installed):
    with pytest.raises(ValueError, match="of one shape"):
        fit_depth(torch.ones(60, 80), torch.ones(30, 80))


def test_views_without_depth_have_no_depth_to_take(box):
    views = box.render(box.look(0.0), 12, 16).replace(depth=None)
    with pytest.raises(ValueError, match="carry no depth"):
        from_depth(views)


def test_a_reconstructor_that_returns_something_else_is_refused():
    views = Box().render(Box().look(0.0), 12, 16)
    with pytest.raises(ValueError, match="returns Views or a Reconstruction, got int"):
        reconstruct(lambda views: 3, begin(views), views)
