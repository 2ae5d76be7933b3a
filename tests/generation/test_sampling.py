"""Noise levels, guidance and samplers: released numbers, exact solutions, orders of convergence."""

import itertools
import math

import pytest
import torch
from golden_helpers import error, normal, part, tiny_unet

from vmemkit.core import Cameras, cat
from vmemkit.generation.diffusion import (
    Levels,
    dpm_solver,
    euler,
    guided_denoiser,
    ideal_denoiser,
    initial_sample,
    sampling,
)
from vmemkit.generation.diffusion.conditioning import conditions
from vmemkit.generation.diffusion.sampling import (
    Condition,
    denoised,
    multiview_scale,
    temporal_scale,
)

LEVELS = Levels()
SHAPE = (8, 4, 24, 24)


def window() -> tuple[Cameras, Condition, Condition]:
    """Four context frames and four targets, as in the reference's run."""
    g = part("conditioning")
    cameras, given = Cameras(g["ctx4/all_c2ws_out"], g["Ks"]), g["ctx4/input_mask"]
    return cameras, *conditions(cameras, given, g["ctx4/latents"], g["ctx4/embeddings"])


def released_guidance() -> torch.Tensor:
    return multiview_scale(2.0, 1.2, window()[0], part("conditioning")["ctx4/input_mask"])


# ---- the released numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [6, 8, 20, 25, 50])
def test_levels_are_the_released_ones_exactly(steps):
    assert torch.equal(LEVELS.sigmas(steps), part("sigmas")[f"sigmas_{steps}"])


def test_the_table_and_its_nearest_entries_are_the_released_ones_exactly():
    want = part("sigmas")
    assert torch.equal(LEVELS.table, want["denoiser_sigmas_asc"])
    index, snapped = LEVELS.snap(want["sigma_query"])
    assert torch.equal(index, want["sigma_idx"])
    assert torch.equal(snapped, want["sigma_snapped"])
    assert torch.equal(LEVELS.snap(want["sigmas_50"][:-1])[0].flip(0), want["timesteps_50"])
    signal = 1 / (1 + (LEVELS.table.double() / math.exp(2.4)) ** 2)
    assert error(signal, want["alphas_cumprod_f64"]) < 1e-6
    raised = want["sigmas_50"][:-1] + sampling.CHURN
    assert torch.equal(raised, want["sigma_hat_50"])
    churn = (raised**2 - want["sigmas_50"][:-1] ** 2).sqrt()
    assert error(churn, want["eps_std_50"]) < 1e-6  # processors round roots differently
    assert torch.equal(churn == 0, want["eps_std_50"] == 0)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0, 500.0])
def test_the_denoiser_is_the_released_one_with_and_without_context(sigma):
    net, want = tiny_unet(), part("sampler/denoiser")
    _, with_context, without = window()
    for name, condition in {"cond": with_context, "uncond": without}.items():
        fixed = net.fixed(condition.crossattn, condition.dense, 24, 24, 8)
        network = lambda x, t, fixed=fixed: net.denoise(x, t, fixed, 8)  # noqa: E731
        got = denoised(network, want["x"], torch.tensor(sigma), condition, LEVELS)
        assert error(got[..., ::3, 1::3], want[f"{name}_sigma{sigma}"]) < 2e-5


def test_guidance_scales_are_the_released_ones():
    assert error(released_guidance(), part("sampler")["cfg_scale_per_frame"]) < 1e-6


def test_eight_steps_of_the_tiny_network_are_the_released_ones():
    net, want = tiny_unet(), part("sampler")
    _, condition, without = window()
    both = cat([without, condition])
    fixed = net.fixed(both.crossattn, condition.dense, 24, 24, 8)
    denoise = guided_denoiser(
        lambda x, sigma: denoised(
            lambda x, t: net.denoise(x, t, fixed, 8), x, sigma, both, LEVELS
        ).chunk(2),
        released_guidance(),
    )
    noise = (normal(f"euler_unet/eps{i}", *SHAPE) for i in itertools.count())
    sigmas = LEVELS.sigmas(8)
    x = initial_sample(normal("euler_unet/noise", *SHAPE), sigmas)
    for i, state in enumerate(euler(denoise, x, sigmas, lambda: next(noise))):
        assert error(state.x[..., ::4, 1::4], want["x_after_step"][i]) < 1e-4
    assert error(state.x, want["z"]) < 1e-4


def test_fifty_steps_of_a_formula_instead_of_a_network_are_the_released_ones():
    want, (_, condition, without) = part("sampler/toy"), window()
    both = cat([without, condition])

    def formula(x, t):
        context = both.crossattn.mean((1, 2)).view(-1, 1, 1, 1)
        wave = 0.2 * torch.cos(t / 1000.0).view(-1, 1, 1, 1)
        parts = 0.6 * x[:, :4], 0.1 * x[:, 4:5], 0.05 * x[:, 5:9]
        return torch.tanh(parts[0]) + parts[1] + parts[2] + wave + 0.1 * context

    denoise = guided_denoiser(
        lambda x, sigma: denoised(formula, x, sigma, both, LEVELS).chunk(2), released_guidance()
    )
    noise = (normal(f"euler_toy/eps{i}", *SHAPE) for i in itertools.count())
    sigmas = LEVELS.sigmas(50)
    x = initial_sample(normal("euler_toy/noise", *SHAPE), sigmas)
    states = list(euler(denoise, x, sigmas, lambda: next(noise)))
    for step in (0, 24, 48):
        assert error(states[step].x[..., ::3, 1::3], want[f"x_after_step_{step}"]) < 1e-5
    assert error(states[-1].x[..., ::3, 1::3], want["z"]) < 1e-5


# ---- samplers ------------------------------------------------------------------------------------


def gaussian(variance: float):
    """The best denoiser of independent normal numbers, and the exact end of its flow."""
    denoise = lambda x, sigma: x * variance / (variance + sigma**2)  # noqa: E731
    exact = lambda x, sigma: x * (variance / (variance + sigma**2)) ** 0.5  # noqa: E731
    return denoise, exact


def last(states):
    *_, state = states
    return state


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (dpm_solver, 2)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(sampler, order):
    """In equal steps of log sigma, down to a sigma above zero, where the solution is known exactly."""
    denoise, exact = gaussian(0.5)
    x = normal("x", 2, 3, 4, 4).double()
    want = exact(x, 10.0) * ((0.5 + 0.1**2) / 0.5) ** 0.5
    errors = []
    for steps in (64, 128):
        sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
        errors.append(error(last(sampler(denoise, x, sigmas)).x, want))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


def test_fifteen_second_order_steps_are_nearer_to_the_flow_than_fifty_of_the_first():
    """With Karras' spacing. Spaced evenly in the index, they end at a level with too much noise."""
    denoise, exact = gaussian(0.5)
    x = 85 * normal("x", 2, 3, 4, 4).double()

    def distance(sampler, steps, spacing) -> float:
        sigmas = LEVELS.sigmas(steps, spacing)
        return error(last(sampler(denoise, x, sigmas)).x, exact(x, float(sigmas[0])))

    assert distance(dpm_solver, 15, "karras") < 0.03
    assert 0.08 < distance(euler, 50, "uniform") < 0.2
    assert distance(dpm_solver, 15, "uniform") > 0.2


@pytest.mark.parametrize("steps", [1, 2, 15, 40])
def test_karras_levels_are_in_the_table_and_end_where_fifty_released_ones_do(steps):
    sigmas = LEVELS.sigmas(steps, "karras")
    assert len(sigmas) == steps + 1
    assert torch.isin(sigmas[:-1], LEVELS.table).all()
    assert sigmas[0] == LEVELS.table[-1]
    assert sigmas[-2] == LEVELS.sigmas(50)[-2] or steps == 1


@pytest.mark.parametrize("sampler", [euler, dpm_solver])
def test_the_ideal_denoiser_draws_from_its_samples(sampler):
    """Every result is one of them, and each of them comes up."""
    world, drawn = normal("world", 3, 2, 3, 4, 4), set()
    for seed in range(12):
        noise, sigmas = normal(f"seed {seed}", 2, 3, 4, 4), LEVELS.sigmas(25)
        x = last(sampler(ideal_denoiser(world), initial_sample(noise, sigmas), sigmas)).x
        nearest = int((world - x).flatten(1).norm(dim=1).argmin())
        assert error(x, world[nearest]) < 0.05
        drawn.add(nearest)
    assert drawn == {0, 1, 2}


def test_probabilities_decide_where_noise_does_not():
    world, x = normal("world", 3, 2, 3, 4, 4), normal("x", 2, 3, 4, 4)
    far = torch.tensor(1e4)
    assert error(ideal_denoiser(world)(x, far), world.mean(0)) < 1e-3
    certain = torch.tensor([0.0, -1e6, -1e6])
    assert error(ideal_denoiser(world, certain)(x, far), world[0]) < 1e-5


@pytest.mark.parametrize("sampler", [euler, dpm_solver])
def test_a_sampler_yields_every_step(sampler):
    states = list(sampler(gaussian(1.0)[0], normal("x", 1, 3, 4, 4), LEVELS.sigmas(5)))
    assert [state.step for state in states] == [0, 1, 2, 3, 4]
    assert [state.sigma_next for state in states[:-1]] == [state.sigma for state in states[1:]]
    assert states[-1].sigma_next == 0
    assert torch.equal(states[-1].x, states[-1].denoised) or sampler is euler
    assert "step 5 of 5" in repr(states[-1])


def test_a_table_without_the_finest_level_serves():
    assert len(Levels(count=10).sigmas(3, "karras")) == 4


# ---- guidance ------------------------------------------------------------------------------------


def test_guidance_goes_past_the_conditional_guess_frame_by_frame():
    pair = lambda x, sigma: (torch.zeros_like(x), torch.ones_like(x))  # noqa: E731
    x = normal("x", 3, 4, 2, 2)
    got = guided_denoiser(pair, torch.tensor([1.0, 1.5, 3.0]))(x, torch.tensor(1.0))
    assert got[:, 0, 0, 0].tolist() == [1.0, 1.5, 3.0]
    assert torch.equal(guided_denoiser(pair, 2.0)(x, torch.tensor(1.0)), torch.full_like(x, 2.0))


def test_outside_its_interval_guidance_costs_nothing():
    sigmas = []

    def pair(x, sigma):
        sigmas.append(float(sigma))
        return torch.zeros_like(x), torch.ones_like(x)

    denoise = guided_denoiser(pair, 3.0, (1.0, 10.0), alone=lambda x, sigma: torch.ones_like(x))
    values = [float(denoise(normal("x", 1, 1, 1, 1), torch.tensor(s))) for s in (0.5, 5.0, 50.0)]
    assert values == [1.0, 3.0, 1.0]
    assert sigmas == [5.0]
    alone_or_not = guided_denoiser(pair, 3.0, (1.0, 10.0))
    assert float(alone_or_not(normal("x", 1, 1, 1, 1), torch.tensor(50.0))) == 1.0


def looking(*degrees: float, shift: float = 0.0, focal: float = 1.0) -> Cameras:
    angle = torch.deg2rad(torch.tensor(degrees))
    poses = torch.eye(4).repeat(len(degrees), 1, 1)
    poses[:, 0, 0] = poses[:, 2, 2] = angle.cos()
    poses[:, 0, 2], poses[:, 2, 0] = angle.sin(), -angle.sin()
    poses[:, 0, 3] = shift
    K = torch.diag(torch.tensor([focal, focal, 1.0])).repeat(len(degrees), 1, 1)
    return Cameras(poses, K)


def test_a_target_that_the_context_shows_is_hardly_guided():
    """It is at the context's place, turned by less than 10 degrees, with the same intrinsics."""
    cameras = cat([looking(0.0, 9.0, 11.0), looking(0.0, shift=0.1), looking(0.0, focal=2.0)])
    given = torch.tensor([True, False, False, False, False])
    scale = multiview_scale(3.0, 1.5, cameras, given)
    assert scale.tolist() == [1.5, 1.5, 3.0, 3.0, 3.0]


def test_temporal_guidance_grows_away_from_the_context():
    cameras = looking(*range(0, 125, 25))
    given = torch.tensor([True, False, False, False, True])
    assert temporal_scale(3.0, 1.0, cameras, given).tolist() == [1.0, 2.0, 3.0, 2.0, 1.0]
    context_first = torch.tensor([True, True, False, False, False])
    time = torch.tensor([-1, 3, 0, 1, 2])
    scales = temporal_scale(3.0, 1.0, cameras, context_first, time)
    assert scales.tolist() == [1.0, 1.0, 2.0, 3.0, 2.0]


def test_without_context_guidance_is_full():
    cameras, given = looking(0.0, 30.0), torch.zeros(2, dtype=torch.bool)
    assert multiview_scale(3.0, 1.5, cameras, given).tolist() == [3.0, 3.0]
    assert temporal_scale(3.0, 1.5, cameras, given).tolist() == [3.0, 3.0]


def test_levels_span_the_published_range():
    assert float(LEVELS.table[0]) == pytest.approx(0.024649, abs=1e-6)
    assert float(LEVELS.table[-1]) == pytest.approx(84.9163, abs=1e-4)
    assert math.isclose(float(LEVELS.sigmas(50)[-2]), 0.1634, abs_tol=1e-4)
