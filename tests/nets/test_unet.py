"""The multi-view UNet: published names and numbers, and speed-ups that change nothing."""

import copy
import functools
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
import torch
from golden_helpers import TINY, TOPOLOGY, error, golden, normal, part, seeded, shapes, tiny_unet
from torch.utils.flop_counter import FlopCounterMode

from vmemkit.nets.unet import UNet, UNetConfig, in_precision
from vmemkit.nets.unet.layers import Downsample, GroupNorm, MultiviewTransformer, ResBlock, Upsample
from vmemkit.nets.unet.unet import timestep_embedding

FRAMES = 4
INPUTS = ("x", "t", "y", "dense_y")


def run(net: UNet, name: str = "tiny", **changes) -> torch.Tensor:
    inputs = {key: golden()[f"{name}/{key}"] for key in INPUTS} | changes
    return net(*inputs.values(), num_frames=FRAMES)


@functools.cache
def published() -> UNet:
    with torch.device("meta"):
        return UNet(UNetConfig())


# ---- names and numbers ---------------------------------------------------------------------------


def test_parameters_have_the_published_names_and_shapes():
    got = {key: list(value.shape) for key, value in published().state_dict().items()}
    assert got == shapes("vmem_unet")
    assert len(got) == 1146
    assert sum(p.numel() for p in published().parameters()) == 1_263_968_004


def test_the_tiny_network_computes_what_the_reference_does_block_by_block():
    net, outputs = copy.deepcopy(tiny_unet()), {}
    for where in ("input_blocks", "output_blocks"):
        for i, block in enumerate(getattr(net, where)):
            name = f"{where}.{i}"
            block[-1].register_forward_hook(
                lambda m, i, out, name=name: outputs.update({name: out})
            )
    net.middle_block[-1].register_forward_hook(lambda m, i, out: outputs.update(middle_block=out))
    net.time_embed.register_forward_hook(lambda m, i, out: outputs.update(time_embed=out))
    assert error(run(net), part("tiny")["out"]) < 1e-5
    assert error(outputs.pop("time_embed"), part("tiny")["time_embed_out"]) < 1e-6
    assert {f"act/{name}" for name in outputs} == {k for k in part("tiny") if k.startswith("act/")}
    for name, out in outputs.items():
        assert error(out.flatten()[::37], part("tiny")[f"act/{name}"]) < 1e-5, name


def test_a_network_of_the_full_topology_computes_what_the_reference_does():
    net = seeded(UNet(TOPOLOGY), "unet_topo/")
    assert error(run(net, "topology"), part("topology")["out"]) < 1e-5


def test_the_noise_level_is_embedded_as_in_the_reference():
    want = part("tiny")
    assert error(timestep_embedding(want["t"], 32), want["timestep_embedding"]) < 1e-6


@pytest.mark.parametrize(("name", "channels", "emb"), [("a", 32, 48), ("b", 64, 48)])
def test_a_residual_block_computes_what_the_reference_does(name, channels, emb):
    block, want = (
        seeded(ResBlock(channels, emb, 64, 6), f"resblock_{name}/"),
        part(f"resblock/{name}"),
    )
    fixed = block.fixed(want["dense_emb"], *want["x"].shape[2:])
    assert error(block(want["x"], want["emb"], fixed), want["out"]) < 1e-5


def test_halving_and_doubling_compute_what_the_reference_does():
    for name, layer in {"down": Downsample(32), "up": Upsample(32)}.items():
        want = part(f"resblock/{name}")
        layer.load_state_dict({k[2:]: v for k, v in want.items() if k.startswith("w/")})
        assert error(layer.requires_grad_(False)(want["x"]), want["out"]) < 1e-5


def test_a_norm_of_half_precision_numbers_is_computed_in_float32():
    norm, want = GroupNorm(64), part("resblock")
    block = seeded(ResBlock(64, 48, 64, 6), "resblock_b/")
    norm.load_state_dict(block.in_layers[0].state_dict())
    got = norm(want["gn32_bf16_in"])
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, want["gn32_bf16_out"])


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("tokens", ["context", "context3"])
def test_a_transformer_computes_what_the_reference_does(across, tokens):
    net, want = seeded(MultiviewTransformer(64, 16, 16, 1, across), "mvt/"), part("transformer")
    got = net(want["x"], net.fixed(want[tokens], FRAMES), FRAMES)
    name = ("unflat" if across else "flat") + ("/out" if tokens == "context" else "/out_context3")
    assert error(got, want[name]) < 1e-5


# ---- exact speed-ups -----------------------------------------------------------------------------


def test_one_token_gives_the_same_as_the_general_attention():
    """The same token twice takes the general path, with the same result."""
    y = golden()["tiny/y"]
    assert error(run(tiny_unet(), y=y.repeat(1, 2, 1)), run(tiny_unet())) < 1e-5


def test_the_fixed_part_serves_all_steps():
    g, net = part("tiny"), tiny_unet()
    fixed = net.fixed(g["y"], g["dense_y"], 16, 16, FRAMES)
    for t in (7, 500):
        index = torch.tensor([t])
        once = net.denoise(g["x"], index, fixed, FRAMES)
        every = net(g["x"], index.expand(8), g["y"], g["dense_y"], FRAMES)
        assert error(once, every) < 1e-5


def test_rays_of_one_sequence_serve_both_sequences():
    g = part("tiny")
    rays = g["dense_y"][:FRAMES]
    assert (
        error(run(tiny_unet(), dense_y=rays), run(tiny_unet(), dense_y=rays.repeat(2, 1, 1, 1)))
        < 1e-6
    )


def test_channels_last_gives_the_same():
    net = copy.deepcopy(tiny_unet()).to(memory_format=torch.channels_last)
    x = golden()["tiny/x"].to(memory_format=torch.channels_last)
    assert error(run(net, x=x), part("tiny")["out"]) < 1e-5


COMPILED = """
import torch
from vmemkit.nets.unet import UNet, UNetConfig
config = UNetConfig(
    model_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(2, 1),
    transformer_depth=(1, 1), num_head_channels=16, context_dim=16,
)
net = UNet(config).eval().requires_grad_(False)
fixed = net.fixed(torch.randn(8, 1, 16), torch.randn(4, 6, 8, 8), 8, 8, 4)
x, t = torch.randn(8, 11, 8, 8), torch.tensor([100])
compiled = torch.compile(net.denoise, backend="eager", fullgraph=True)
assert torch.allclose(compiled(x, t, fixed, 4), net.denoise(x, t, fixed, 4), atol=1e-5)
"""


def test_the_network_compiles_into_one_graph():
    """In a process of its own, because the tests' shape checks cannot be compiled."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


def test_float32_is_as_good_as_float64():
    net = copy.deepcopy(tiny_unet()).double()
    doubles = {key: golden()[f"tiny/{key}"].double() for key in ("x", "y", "dense_y")}
    assert error(run(tiny_unet()), run(net, **doubles)) < 1e-5


def test_bfloat16_deviates_by_about_two_percent_as_weights_and_as_autocast():
    """With random weights, as much as the reference's own half precision. Norms stay float32."""
    want = run(tiny_unet())
    net = in_precision(copy.deepcopy(tiny_unet()), torch.bfloat16)
    assert {p.dtype for n, p in net.named_parameters() if "norm" in n} == {torch.float32}
    halves = {key: golden()[f"tiny/{key}"].bfloat16() for key in ("x", "y", "dense_y")}
    with torch.autocast("cpu", torch.bfloat16):
        auto = run(tiny_unet())
    for got in (run(net, **halves), auto):
        deviation = (got.float() - want).square().mean().sqrt() / want.square().mean().sqrt()
        assert 1e-3 < deviation < 0.03


# ---- inputs --------------------------------------------------------------------------------------


def test_frames_are_told_apart_by_rays_and_mask_alone():
    """Frames in another order give the same result in that order, if all embeddings are equal (the
    first frame's serves all)."""
    g, order = part("tiny"), torch.tensor([2, 0, 3, 1])
    x, dense, y = (g[k][:FRAMES] for k in ("x", "dense_y", "y"))
    y, t = y[:1].expand_as(y), g["t"][:1]
    net = tiny_unet()
    mixed = net(x[order], t, y, dense[order], FRAMES)
    assert error(mixed, net(x, t, y, dense, FRAMES)[order]) < 1e-5


@pytest.mark.parametrize(("frames", "size"), [(1, (16, 8)), (3, (8, 24)), (5, (24, 16))])
def test_any_number_of_frames_and_any_shape_of_images(frames, size):
    x, y = normal("x", frames, 11, *size), normal("y", frames, 1, 16)
    out = tiny_unet()(x, torch.tensor([3]), y, normal("rays", frames, 6, *size), frames)
    assert out.shape == (frames, 4, *size)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(8, 11, 12, 16)}, "multiples of 8"),
        ({"y": torch.zeros(8, 1, 17)}, "embeddings of width 16"),
        ({"dense_y": torch.zeros(8, 5, 16, 16)}, "6 dense channels"),
        (
            {"x": torch.zeros(6, 11, 16, 16), "t": torch.tensor([5]), "y": torch.zeros(6, 1, 16)},
            "sequences of 4 frames",
        ),
        ({"dense_y": torch.zeros(3, 6, 16, 16)}, "3 ray maps"),
        ({"dense_y": torch.zeros(2, 6, 16, 16)}, "2 ray maps"),
        ({"y": torch.zeros(4, 1, 16)}, "as many embeddings as rows"),
        ({"x": torch.zeros(8, 10, 16, 16)}, "11 channels"),
        ({"t": torch.zeros(3, dtype=torch.long)}, "one noise level"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message, as_installed):
    with pytest.raises(ValueError, match=message):
        run(tiny_unet(), **changes)


@pytest.mark.parametrize("bad", [{"transformer_depth": (1,)}, {"model_channels": 24}])
def test_a_config_that_contradicts_itself_is_refused(bad):
    with pytest.raises(ValueError, match="got"):
        UNet(replace(TINY, **bad))


# ---- full size -----------------------------------------------------------------------------------


def test_a_step_of_the_published_network_costs_25_tflop():
    """For 2 x 8 frames of 576 x 576. The reference needs 26.34 TFLOP, of which 1.16 go to
    cross-attention to one token; here that is computed once for all steps."""
    net = published()
    x, t = (
        torch.empty(16, 11, 72, 72, device="meta"),
        torch.empty(16, dtype=torch.long, device="meta"),
    )
    y, rays = torch.empty(16, 1, 1024, device="meta"), torch.empty(8, 6, 72, 72, device="meta")
    fixed = net.fixed(y, rays, 72, 72, 8)
    with FlopCounterMode(display=False) as counter:
        net.denoise(x, t, fixed, 8)
    assert counter.get_total_flops() / 1e12 == pytest.approx(26.34 - 1.158 - 0.0049, abs=0.05)


FULL = """
import resource, torch
from vmemkit.nets.unet import UNet, UNetConfig
torch.set_num_threads(2)
with torch.device("meta"):
    net = UNet(UNetConfig())
net = net.to_empty(device="cpu").requires_grad_(False)
rng = torch.Generator().manual_seed(0)
for name, p in net.named_parameters():
    p.normal_(0, 0.02, generator=rng) if p.ndim > 1 else p.fill_(float(name.endswith("weight")))
rows = lambda *s: torch.randn(*s, generator=rng)
with torch.no_grad():
    out = net(rows(4, 11, 8, 8), torch.tensor([500]), rows(4, 1, 1024), rows(2, 6, 8, 8), 2)
assert out.shape == (4, 4, 8, 8) and out.isfinite().all() and out.std() > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_the_published_network_takes_a_step_on_a_cpu_within_12_gb():
    free = psutil.virtual_memory().available / 2**30
    if free < 9:
        pytest.skip(f"needs 9 GiB of free memory, got {free:.1f}")
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=True)
    assert 4.7 < float(done.stdout) < 12
