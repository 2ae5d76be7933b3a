"""What the kernels of Warp do is what the torch code does, to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from vmemkit.core import cameras, look_at, unproject
from vmemkit.core.kernels import use
from vmemkit.generation import Warp, push_pull
from vmemkit.generation.warp.cylinder import _cross_fade, _step_cost, _viterbi, copy_columns
from vmemkit.generation.warp.forward_warp import _sight
from vmemkit.generation.warp.planes import _box_means, _expected_steps, fill_depth
from vmemkit.scenes import capture_tour, rooms

pytest.importorskip("numba")
SIZES = [(1, 1), (1, 40), (40, 1), (2, 3), (24, 37)]
HOLES = ["random", "border", "none", "all"]


@pytest.fixture(autouse=True, params=[1, 5], ids=["one thread", "five threads"])
def with_threads(request) -> Iterator[None]:
    """Work is shared, however little there is."""
    with use("numba", threads=request.param):
        yield


def holes(kind: str, height: int, width: int) -> torch.Tensor:
    hole = torch.zeros(height, width, dtype=torch.bool)
    if kind == "random":
        hole = torch.rand(height, width, generator=torch.Generator().manual_seed(3)) < 0.3
    if kind == "border":
        hole[0], hole[-1], hole[:, 0], hole[:, -1] = True, True, True, True
    return ~hole if kind == "all" else hole


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("points", [0, 1, 2000])
def test_what_a_view_sees_is_the_same_to_the_bit(size, points):
    """Points all round the camera, a third of them on surfaces; some of the depth is unknown."""
    depth, confidence = 1 + numbers(*size), 4 * numbers(*size, seed=1)
    depth[numbers(*size, seed=2) < 0.1] = torch.nan
    camera = cameras(look_at(torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[1.0, 0.5, 2.0]])))
    shown = unproject(camera, depth[None]).view(-1, 3)
    near = shown[(len(shown) * numbers(points, seed=3)).long()]
    far = 4 * numbers(points, 3, seed=4) - 2
    position = torch.where(numbers(points, 1, seed=5) < 0.3, near, far)
    normal = functional.normalize(numbers(points, 3, seed=6) - 0.5, dim=-1)
    case = position, normal, camera, (depth, confidence), (0.03, 0.2, 2.0)
    seen = _sight(*case)
    with use("torch"):
        assert all(torch.equal(a, b) for a, b in zip(seen, _sight(*case), strict=True))
    if points > 1 and min(size) > 2:
        assert 0 < len(seen[0]) < points
        assert 0 < seen[3].float().mean() < 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", HOLES)
def test_smooth_fillings_are_equal_to_the_bit(size, kind):
    image, known = numbers(2, 3, *size), ~torch.stack([holes(kind, *size), holes("border", *size)])
    known[:, size[0] // 2, size[1] // 2] = True  # something has to be known
    image = torch.where(known[:, None], image, torch.nan)
    filled = push_pull(image, known)
    with use("torch"):
        assert torch.equal(filled, push_pull(image, known))


def test_a_smooth_filling_between_two_columns_is_worked_by_hand():
    image = torch.tensor([[[0.0, 9.0, 9.0, 1.0]] * 4])
    known = torch.tensor([[True, False, False, True]] * 4)
    # Half as wide, the columns are 0 and 1; twice as wide again, a quarter and three.
    assert torch.equal(push_pull(image, known), torch.tensor([[[0.0, 0.25, 0.75, 1.0]] * 4]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", HOLES)
@pytest.mark.parametrize("reach", [1, 4, 60])
def test_means_over_squares_are_equal_to_the_bit(size, kind, reach):
    layers, pixel = numbers(3, *size), holes(kind, *size).flatten().nonzero()[:, 0]
    values = numbers(3, len(pixel), seed=1)
    mean = _box_means(layers, values, pixel, reach)
    with use("torch"):
        assert torch.equal(mean, _box_means(layers, values, pixel, reach))
    assert mean.shape == (3, len(pixel))


def test_a_square_larger_than_the_image_has_the_mean_of_the_image():
    layers, values = numbers(2, 5, 8), numbers(2, 20, seed=1)
    mean = _box_means(layers, values, torch.arange(20), 8)
    every = torch.cat([values, layers.flatten(1)[:, 20:]], 1).mean(1, keepdim=True)
    assert torch.allclose(mean, every.expand(2, 20))


def test_pixels_outside_of_the_image_are_refused():
    with pytest.raises(ValueError, match="outside of an image of 2 x 3"):
        _box_means(numbers(1, 2, 3), numbers(1, 1), torch.tensor([6]), 1)


@pytest.mark.parametrize("surfaces", [1, 2, 9])
@pytest.mark.parametrize("pixels", [0, 1, 1000])
def test_expected_steps_are_equal_to_the_bit(surfaces, pixels):
    depth, share = 0.1 + numbers(surfaces, pixels), numbers(surfaces, pixels, seed=1)
    steps = _expected_steps(depth, share)
    with use("torch"):
        assert torch.equal(steps, _expected_steps(depth, share))


@pytest.mark.parametrize("columns", [1, 2, 40])
@pytest.mark.parametrize("share", [0.3, 1.0], ids=["some usable", "all usable"])
def test_costs_of_steps_between_states_are_equal_to_the_bit(columns, share):
    usable = numbers(columns) <= share
    usable[0] = True
    own = usable.nonzero()[:, 0]
    states = torch.cat([own, own]), torch.cat([torch.ones_like(own), -torch.ones_like(own)])
    case = numbers(columns, columns, seed=5), usable, states, states, torch.tensor([0.2, 0.3])
    cost = _step_cost(*case)
    with use("torch"):
        assert torch.equal(cost, _step_cost(*case))
    assert cost.shape == (2 * len(own), 2 * len(own))


@pytest.mark.parametrize("states", [1, 2, 60])
@pytest.mark.parametrize("length", [1, 2, 45])
@pytest.mark.parametrize("levels", [3, 10**6], ids=["with ties", "without"])
def test_the_cheapest_path_is_the_same(states, length, levels):
    cost = [
        (levels * numbers(*shape, seed=i)).floor()
        for i, shape in enumerate([(states,), (states, states), (length, states), (states,)])
    ]
    path = _viterbi(*cost)
    with use("torch"):
        assert torch.equal(path, _viterbi(*cost))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", HOLES)
def test_runs_are_cross_faded_alike_to_the_bit(size, kind):
    known, source = ~holes(kind, *size), numbers(*size, seed=2) < 0.5
    column = (size[1] * numbers(size[1])).long()
    direction = torch.where(numbers(size[1], seed=4) < 0.5, 1, -1)
    faded = _cross_fade(numbers(3, *size), known, source, column, direction, 6)
    with use("torch"):
        plain = _cross_fade(numbers(3, *size), known, source, column, direction, 6)
    assert torch.equal(faded[0], plain[0])
    assert torch.equal(faded[1], plain[1])


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("kind", HOLES)
def test_filled_images_and_depths_are_equal_to_the_bit(size, kind):
    known, image, depth = ~holes(kind, *size), numbers(3, *size), 1 + numbers(*size)
    known[size[0] // 2, size[1] // 2] = True  # something has to be known
    filled = copy_columns(image, known, known), fill_depth(depth, known)
    with use("torch"):
        plain = copy_columns(image, known, known), fill_depth(depth, known)
    assert torch.equal(filled[0], plain[0])
    assert torch.equal(filled[1], plain[1])


def test_a_walk_through_a_house_shows_the_same_views():
    house = rooms(3)
    path = capture_tour(house, aspect=4 / 3).cameras
    context, targets = house.render(path[:2], 36, 48), path[5:8]
    made = list(Warp()(context, targets, torch.Generator()))
    with use("torch"):
        plain = list(Warp()(context, targets, torch.Generator()))
    for state, expected in zip(made, plain, strict=True):
        assert torch.equal(state.image, expected.image)
        assert torch.equal(state.depth.nan_to_num(), expected.depth.nan_to_num())
        assert torch.equal(state.confidence, expected.confidence)
    assert 0.1 < (made[0].confidence == 0).float().mean() < 0.9
