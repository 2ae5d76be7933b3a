"""Reference numbers of the published generator, and the recipe of the weights behind them."""

from __future__ import annotations

import functools
import json
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vmemkit.nets.cut3r import CUT3R, CUT3RConfig
from vmemkit.nets.unet import UNet, UNetConfig

DATA = Path(__file__).parents[1] / "data"
TINY = UNetConfig(
    model_channels=32,
    num_frames=4,
    num_res_blocks=1,
    channel_mult=(1, 1, 1, 2),
    num_head_channels=16,
    context_dim=16,
)
TINY_CUT3R = CUT3RConfig(
    state_size=12,
    img_size=(64, 64),
    enc_embed_dim=64,
    enc_depth=2,
    enc_num_heads=4,
    dec_embed_dim=48,
    dec_depth=4,
    dec_num_heads=3,
    state_dec_num_heads=4,  # not dec_num_heads, so that a mix-up shows
    local_mem_size=8,
    layer_dims=(8, 12, 16, 24),
    feature_dim=16,
    last_dim=8,
)
# What the published checkpoint says of its network.
PUBLISHED_CUT3R = (
    "ARCroco3DStereo(ARCroco3DStereoConfig(freeze='encoder', state_size=768, state_pe='2d', "
    "pos_embed='RoPE100', rgb_head=True, pose_head=True, patch_embed_cls='ManyAR_PatchEmbed', "
    "img_size=(512, 512), head_type='dpt', output_mode='pts3d+pose', "
    "depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), pose_mode=('exp', -inf, inf), "
    "enc_embed_dim=1024, enc_depth=24, enc_num_heads=16, dec_embed_dim=768, dec_depth=12, "
    "dec_num_heads=12, landscape_only=False))"
)
TOPOLOGY = UNetConfig(model_channels=32, num_frames=4, num_head_channels=16, context_dim=16)


@functools.cache
def golden(of: str = "generator") -> dict[str, Tensor]:
    return load_file(DATA / f"golden_{of}.safetensors")


def part(name: str, of: str = "generator") -> dict[str, Tensor]:
    """The tensors whose names start with name/, without it."""
    return {k[len(name) + 1 :]: v for k, v in golden(of).items() if k.startswith(name + "/")}


def shapes(name: str) -> dict[str, list[int]]:
    return json.loads((DATA / f"{name}.keys.json").read_text())


def normal(name: str, *shape: int) -> Tensor:
    """Standard normal numbers that follow from a name, the same for ever (a frozen generator)."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def seeded(module: nn.Module, tag: str) -> nn.Module:
    """The module with weights by recipe: matrices of unit gain, norms near 1, small biases.

    Layers that a module holds under two names have the weights of the first.
    """
    state = {}
    for key, old in module.state_dict().items():
        first = re.sub(r"layer_rn\.(\d)", lambda m: f"layer{int(m[1]) + 1}_rn", key)
        random = np.random.RandomState(zlib.crc32((tag + first).encode()))
        z = random.standard_normal(tuple(old.shape))
        leaf = key.rpartition(".")[2]
        if leaf == "weight":
            z = z / np.sqrt(np.prod(old.shape[1:])) if old.ndim >= 2 else 1 + 0.1 * z
        else:
            z = 0.1 * z if leaf == "bias" else 0.2 * z
        state[key] = torch.from_numpy(z.astype(np.float32))
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


@functools.cache
def tiny_unet() -> UNet:
    """The network of the reference run: not to be changed."""
    return seeded(UNet(TINY), "unet_tiny/")


@functools.cache
def tiny_cut3r() -> CUT3R:
    """The network of the reference run: not to be changed."""
    net = seeded(CUT3R(TINY_CUT3R), "cut3r_tiny/")
    for name, weights in net.named_parameters():  # outputs of a size that exp can bear
        weights.mul_(0.15 if ".head.4." in name else 0.5 if "pose_head.mlp.fc2" in name else 1)
    return net


@functools.cache
def seeing_ahead() -> CUT3R:
    """The tiny network, its weights such that what it sees is in front of the camera."""
    net = CUT3R(TINY_CUT3R).eval().requires_grad_(False)
    net.load_state_dict(tiny_cut3r().state_dict())
    for head in (net.downstream_head.dpt_self, net.downstream_head.dpt_cross):
        head.head[4].bias[2] += 3
    return net


def error(got: Tensor, want: Tensor) -> float:
    """Largest deviation, relative to the largest value that is wanted."""
    assert got.shape == want.shape
    return float((got.double() - want.double()).abs().max() / want.double().abs().max())
