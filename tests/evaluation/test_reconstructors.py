"""The simulated network corrupts depth as asked, and the scores tell good geometry from bad."""

from __future__ import annotations

import pytest
import torch

from vmemkit.core import cat, unproject
from vmemkit.evaluation import CORRUPTIONS, Corruption, SimulatedNetwork, evaluate_reconstructor
from vmemkit.reconstruction import AlignConfig, Cut3r, oracle, prepare_images
from vmemkit.scenes import Tour, rooms, single_tour

SIZE = (48, 64)


@pytest.fixture(scope="module")
def house():
    return rooms(1)


@pytest.fixture(scope="module")
def tour(house) -> Tour:
    """Out and back, without the looks aside at the start."""
    whole = single_tour(house, 1)
    start, stop = whole.back.start, whole.back.stop
    path = whole.cameras[8:stop:4]
    back = slice(len(whole.cameras[8:start:4]), len(path))
    return Tour(whole.given, path, back, torch.full((len(path),), -1))


def network(house, tour: Tour, corruption: Corruption, **more) -> SimulatedNetwork:
    return SimulatedNetwork(house, cat([tour.given, tour.cameras]), SIZE, corruption, **more)


def predict(net: SimulatedNetwork, at: int, image: torch.Tensor):
    return net.step(at, image, ("self", "other"))


@pytest.mark.parametrize("size", [(48, 64), (64, 64)])
def test_without_corruption_everything_is_true_but_the_unit(house, tour, size):
    cameras = cat([tour.given, tour.cameras])
    net = SimulatedNetwork(house, cameras, size, Corruption(unit=0.25))
    image, window = prepare_images(torch.zeros(1, 3, *size), net.config)
    state, prediction = predict(net, 3, image)
    assert state == 4
    camera = window.camera(cameras[3:4])
    depth = house.render(camera, *image.shape[2:]).depth
    torch.testing.assert_close(prediction.points_self[..., 2], 0.25 * depth)
    points = unproject(camera, depth)[0]
    anchor = cameras.world_from_cam[0]
    in_anchor = (points - anchor[:3, 3]) @ anchor[:3, :3]
    torch.testing.assert_close(prediction.points_other[0], 0.25 * in_anchor, atol=1e-5, rtol=1e-4)


def test_the_same_seed_corrupts_alike_and_another_differently(house, tour):
    image, _ = prepare_images(torch.zeros(1, 3, *SIZE), network(house, tour, Corruption()).config)
    worst = CORRUPTIONS["unit, scale, shift, noise"]
    first, again, other = (
        predict(network(house, tour, worst, seed=seed), 3, image)[1].points_self
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_images_than_cameras_are_refused(house, tour):
    net = network(house, tour, Corruption())
    n = len(net.cameras)
    with pytest.raises(ValueError, match=f"knows {n} views, and got another"):
        predict(net, n, torch.zeros(1, 3, 96, 128))


@pytest.mark.usefixtures("as_installed")  # a third of the time would go into shape checks
def test_scores_rank_geometries_by_their_errors(house, tour):
    def evaluate(how):
        return evaluate_reconstructor(house, tour, how, size=SIZE)

    corruption = CORRUPTIONS["unit, scale, shift"]
    net, pnp = network(house, tour, corruption), AlignConfig(pnp_pixels=0.6)
    true = evaluate(oracle(house))
    direct = evaluate(Cut3r(net))
    released = evaluate(Cut3r(net, "released", optimiser=pnp))
    nothing = evaluate(Cut3r(net, "none", failures="keep"))
    assert true.error == true.worst == 0
    assert direct.error < 0.01
    assert direct.trusted == 1
    assert direct.error < released.error < nothing.error
    assert 1.3 < nothing.error < 1.7  # a unit of 2.5
    assert nothing.trusted < 0.7
    assert direct.coverage == pytest.approx(true.coverage, abs=0.05)
    assert direct.surfels < 1.2 * true.surfels
    assert nothing.surfels > 2 * true.surfels  # old surfaces are never met again
    assert "depth error" in str(direct)
