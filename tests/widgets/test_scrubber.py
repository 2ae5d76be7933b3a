"""The scrubber through sampling, without a browser."""

import pytest
import torch
from golden_helpers import normal
from widget_helpers import ids, picture

from vmemkit.generation.diffusion import (
    Levels,
    PixelCodec,
    dpm_solver,
    ideal_denoiser,
    initial_sample,
)
from vmemkit.widgets import SamplingScrubber

CODEC = PixelCodec(2)


@pytest.fixture(scope="module")
def states():
    world = normal("world", 2, 3, 12, 4, 6).clamp(-1, 1)
    sigmas = Levels().sigmas(5, "karras")
    return list(
        dpm_solver(ideal_denoiser(world), initial_sample(normal("x", 3, 12, 4, 6), sigmas), sigmas)
    )


def shown(gallery):
    return torch.stack([picture(item["src"]) for item in gallery.items])


def test_it_begins_at_the_end_with_all_frames(states):
    scrubber = SamplingScrubber(states, CODEC.decode)
    assert scrubber.value is states[-1]
    assert ids(scrubber.noisy) == ids(scrubber.clean) == [0, 1, 2]
    assert (shown(scrubber.noisy) - CODEC.decode(states[-1].x)).abs().mean() < 0.05
    assert repr(scrubber) == "SamplingScrubber(5 steps, 3 frames)"


def test_the_slider_shows_the_sample_and_the_guess_of_a_step(states):
    scrubber = SamplingScrubber(states, CODEC.decode, ["left", "middle", "right"])
    scrubber.step.value = 1
    assert scrubber.value is states[1]
    for gallery, latent in ((scrubber.noisy, states[1].x), (scrubber.clean, states[1].denoised)):
        assert (shown(gallery) - CODEC.decode(latent)).abs().mean() < 0.05
        assert [item["label"] for item in gallery.items] == ["left", "middle", "right"]
    assert f"sigma {states[1].sigma:.3g}" in scrubber.about.value


def test_playing_moves_the_slider(states):
    scrubber = SamplingScrubber(states, CODEC.decode)
    scrubber.play.value = 2
    assert scrubber.step.value == 2
