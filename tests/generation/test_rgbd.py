"""The small RGB-D generator: its codec, its filter, and what its views depend on."""

from dataclasses import replace

import pytest
import torch
from core_helpers import turned
from golden_helpers import seeded

from vmemkit.core import cat, data_file, seed_from, stream
from vmemkit.generation import IMAGINED, SEEN, context_batch, diffusion, preset, reproject
from vmemkit.generation.diffusion import LogLevels
from vmemkit.generation.rgbd import (
    UNET,
    WEIGHTS,
    RgbdConfig,
    RgbdDiffusion,
    cues,
    decode,
    encode,
    linear_error,
    network,
    wiener,
)
from vmemkit.memory import begin
from vmemkit.nets.unet import UNet
from vmemkit.pipeline import walk
from vmemkit.scenes import rooms
from vmemkit.training import export


@pytest.fixture(scope="module")
def model():
    """Random weights, with a small last layer, so that samples stay pictures."""
    unet = seeded(
        UNet(replace(UNET, channel_mult=(1, 1, 1), transformer_depth=(1, 1, 1))), "rooms/"
    )
    with torch.no_grad():
        unet.out[-1].weight *= 0.1
    return RgbdDiffusion(unet.eval().requires_grad_(False), RgbdConfig(steps=3))


@pytest.fixture(scope="module")
def seen(box):
    return box.render(cat([box.look(0.0), box.look(20.0)]), 32, 48)


@pytest.fixture(scope="module")
def targets(box):
    return cat([box.look(40.0), box.look(60.0), box.look(80.0)])


def result(generator, context, targets, seed=0):
    *_, last = generator(context, targets, stream(seed))
    return last


def test_the_codec_loses_nothing_and_brings_rooms_to_unit_variance():
    house = rooms(0)
    view = house.render(all_round(house), 64, 64)
    latent = encode(view.image, view.depth)
    assert latent.shape == (4, 16, 32, 32)
    image, depth = decode(latent)
    torch.testing.assert_close(image, view.image, rtol=0, atol=1e-6)
    torch.testing.assert_close(depth, view.depth, rtol=1e-5, atol=0)
    pixels = torch.nn.functional.pixel_shuffle(latent, 2)
    assert ((pixels.std((0, 2, 3)) > 0.4) & (pixels.std((0, 2, 3)) < 1.6)).all()
    unknown = encode(view.image, torch.full_like(view.depth, torch.nan))
    assert unknown.isfinite().all()


def all_round(house):
    return turned(house.centres[0], 0.0, 90.0, 180.0, 270.0)


def test_the_filter_keeps_clean_pictures_and_removes_pure_noise():
    noise = torch.randn(2, 16, 16, 24, generator=stream(1))
    near = wiener(noise, torch.full((2, 1, 1, 1), 1e-4))
    torch.testing.assert_close(near, noise, rtol=0, atol=1e-4)
    assert wiener(80 * noise, torch.full((2, 1, 1, 1), 80.0)).std() < 0.8
    flat = encode(torch.full((1, 3, 32, 32), 0.9), torch.full((1, 32, 32), 2.5))
    filtered = wiener(flat, torch.full((1, 1, 1, 1), 0.5))
    torch.testing.assert_close(filtered, flat, rtol=0, atol=0.02)  # flat colour is not noise


def test_the_filter_removes_most_of_the_noise_of_smooth_pictures():
    sigma = torch.ones(16, 1, 1, 1)
    field = 3 * wiener(torch.randn(16, 16, 16, 16, generator=stream(2)), sigma)
    noisy = field + torch.randn(field.shape, generator=stream(3))
    error = (wiener(noisy, sigma) - field).square().mean()
    assert error < 0.25 * (noisy - field).square().mean()


def test_levels_are_even_in_log_sigma_and_samplers_start_and_stop_as_configured():
    levels = LogLevels()
    assert levels.table[0] == pytest.approx(0.02)
    assert levels.table[-1] == pytest.approx(80.0)
    steps = levels.table.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-3, atol=1e-5)
    for spacing in ("karras", "uniform"):
        sigmas = levels.sigmas(10, spacing)
        assert len(sigmas) == 11
        assert sigmas[0] == pytest.approx(40.0)
        assert sigmas[-2] == pytest.approx(0.1)
        assert sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()
    karras = (40 ** (1 / 7) + 0.5 * (0.1 ** (1 / 7) - 40 ** (1 / 7))) ** 7
    assert levels.sigmas(3)[1] == pytest.approx(karras, rel=1e-4)


def test_reprojected_pixels_are_kept_to_the_last_bit(model, seen, targets):
    made = result(model, seen, targets[:1])
    shown = reproject(context_batch(seen), targets[None, :1])
    known = shown.known[0, 0]
    assert 0.2 < known.float().mean() < 0.95
    assert torch.equal(made.image[0][:, known], shown.image[0, 0][:, known])
    assert torch.equal(made.depth[0][known], shown.depth[0, 0][known])
    assert (made.confidence[0][known] == SEEN).all()
    assert (made.confidence[0][~known] == IMAGINED).all()
    assert made.depth.isfinite().all()
    assert ((made.image >= 0) & (made.image <= 1)).all()


def test_the_same_seed_makes_the_same_views_and_another_seed_others(model, seen, targets):
    one, same, other = (result(model, seen, targets, seed) for seed in (0, 0, 1))
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.depth, same.depth)
    assert not torch.equal(one.image, other.image)


def test_at_temperature_zero_the_seed_does_not_matter(model, seen, targets):
    cold = model.with_config(temperature=0.0)
    one, other = (result(cold, seen, targets[:1], seed) for seed in (0, 1))
    assert torch.equal(one.image, other.image)


def test_only_one_number_is_drawn_from_the_random_generator(model, seen, targets):
    rng, other = stream(5), stream(5)
    list(model(seen, targets, rng))
    seed_from(other)
    assert torch.equal(rng.get_state(), other.get_state())


def test_targets_made_in_turn_agree_with_each_other(model, seen, box):
    twice = cat([box.look(70.0), box.look(70.0)])
    made = result(model, seen, twice)
    # Except for the few pixels where the larger context of the second shows a nearer surface.
    assert (made.image[0] - made.image[1]).abs().amax(0).lt(0.01).float().mean() > 0.97


def test_states_fill_up_target_by_target_or_step_by_step(model, seen, targets):
    states = list(model(seen, targets, stream(0)))
    assert [int((state.confidence.amax((1, 2)) > 0).sum()) for state in states] == [1, 2, 3]
    assert states[0].depth[1].isnan().all()
    shown = list(model.with_config(preview_every=1)(seen, targets, stream(0)))
    assert len(shown) == 9
    assert torch.equal(shown[-1].image, states[-1].image)
    together = list(model.with_config(together=3)(seen, targets, stream(0)))
    assert len(together) == 1
    assert together[0].image.shape == states[-1].image.shape


def test_a_walk_goes_round_and_remembers_what_it_made(model, box):
    start = box.render(box.look(0.0), 32, 32)
    path = cat([box.look(angle) for angle in (60.0, 120.0, 180.0, 180.0, 120.0, 60.0)])
    steps = list(walk(begin(start), path, generator=model, m=3, k=4))
    views = steps[-1].memory.views
    assert len(views) == 7
    out, back = views.image[1:4], views.image[4:].flip(0)
    assert (out - back).square().mean() < 5e-3  # 23 dB, with the depths of an untrained network


def test_more_targets_than_the_network_saw_and_any_number_of_context_views(model, seen, targets):
    for k in (1, 2, 5):
        context = seen[[0, 1, 0, 1, 0][:k]]
        assert result(model, context, targets[:1]).image.isfinite().all()


def test_absent_context_and_nothing_in_sight_still_make_a_room(model, box, seen):
    behind = box.look(180.0)
    made = result(model, seen, behind)
    assert (made.confidence == IMAGINED).all()
    assert made.depth.isfinite().all()


def test_an_untrained_network_is_the_linear_filter_on_the_base(seen, targets):
    unet = UNet(replace(UNET, channel_mult=(1, 1, 1), transformer_depth=(1, 1, 1)))
    for tensor in unet.out[-1].parameters():
        torch.nn.init.zeros_(tensor)
    sigma = LogLevels().table[-1]
    with torch.no_grad():
        given, _ = cues(context_batch(seen), targets[None])
        noise = sigma * torch.randn(given.base.shape, generator=stream(0))
        made = network(unet, given, LogLevels(), 3)(noise, sigma)
    unknown = 1 - given.known
    wanted = given.base + unknown * wiener(unknown * (noise - given.base), sigma.view(1, 1, 1, 1))
    torch.testing.assert_close(made, wanted)
    assert (made - given.base).square().mean() < 0.3  # of noise with a variance of 6400


def test_the_filters_error_is_as_predicted():
    sigma = torch.tensor([0.3, 2.0])
    white = torch.randn(2, 16, 16, 16, generator=stream(4))
    noise = wiener(sigma.view(-1, 1, 1, 1) * white, sigma.view(-1, 1, 1, 1))
    # The error has two parts: noise that is left, which this measures, and detail that is lost.
    left, predicted = noise.square().mean((1, 2, 3)), linear_error(sigma, 32, 32)
    assert (left < predicted).all()
    assert (predicted < sigma**2).all()
    assert predicted[0] < predicted[1]


def test_half_precision_is_close_to_single_precision(model, seen, targets):
    with torch.no_grad():
        given, _ = cues(context_batch(seen), targets[None])
        noise = torch.randn(given.base.shape, generator=stream(0))
        one, half = (
            network(model.unet, given, LogLevels(), 3, h)(noise, torch.tensor(1.0))
            for h in (False, True)
        )
    assert half.dtype == torch.float32
    difference = (one - half).square().mean().sqrt()
    assert 0 < difference < 0.03 * (one - given.base).std()


# ---- the shipped weights -------------------------------------------------------------------------


def test_the_shipped_weights_are_small_and_make_the_same_view_twice():
    file = data_file(WEIGHTS)
    assert file.stat().st_size < 15_000_000
    model = preset("rooms", device="cpu", steps=4)
    house = rooms(7)
    view = house.render(all_round(house), 64, 64)
    made = result(model, view[:1], view.cameras[1:2])
    again = result(preset("rooms", device="cpu", steps=4), view[:1], view.cameras[1:2])
    assert torch.equal(made.image, again.image)
    error = (made.depth[0] / view.depth[1] - 1).abs().mean()
    assert error < 0.5  # a room, not noise


def test_one_step_of_the_shipped_weights_is_closer_to_the_truth_than_the_base():
    model, errors = preset("rooms", device="cpu"), torch.zeros(2)
    for seed in range(11, 17):
        house = rooms(seed)
        views = house.render(all_round(house), 64, 64)
        given, seen = cues(context_batch(views[:2]), views.cameras[None, 2:])
        noise = torch.randn(given.base.shape, generator=stream(0))
        noise = diffusion.initial_sample(noise, torch.tensor([80.0]))
        with torch.no_grad():
            guess = network(model.unet, given, LogLevels(), 2)(noise, torch.tensor(80.0))
        clean, unseen = encode(views.image[2:], views.depth[2:]), 1 - given.known
        errors += torch.stack([((x - clean).square() * unseen).sum() for x in (guess, given.base)])
        assert not seen.known.all()
    assert errors[0] < errors[1]


def test_missing_or_foreign_weights_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match="vmemkit train rooms"):
        preset("rooms", tmp_path)
    export(model.unet, tmp_path / WEIGHTS)  # of a narrower network
    with pytest.raises(ValueError, match="rooms"):
        preset("rooms", tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_the_same_views(model, seen, targets):
    there = RgbdDiffusion(UNet(model.unet.config).cuda(), model.config)
    there.unet.load_state_dict(model.unet.state_dict())
    ours, theirs = (result(m, seen, targets[:1]) for m in (model, there))
    torch.testing.assert_close(ours.image, theirs.image, rtol=0, atol=0.05)
