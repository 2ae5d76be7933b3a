"""Reference numbers of the published generator, and the recipe of the weights behind them."""

from __future__ import annotations

import functools
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vmemkit.nets.unet import UNet, UNetConfig

DATA = Path(__file__).parent / "data"
TINY = UNetConfig(
    model_channels=32,
    num_frames=4,
    num_res_blocks=1,
    channel_mult=(1, 1, 1, 2),
    num_head_channels=16,
    context_dim=16,
)
TOPOLOGY = UNetConfig(model_channels=32, num_frames=4, num_head_channels=16, context_dim=16)


@functools.cache
def golden() -> dict[str, Tensor]:
    return load_file(DATA / "golden_generator.safetensors")


def part(name: str) -> dict[str, Tensor]:
    """The tensors whose names start with name/, without it."""
    return {k[len(name) + 1 :]: v for k, v in golden().items() if k.startswith(name + "/")}


def shapes(name: str) -> dict[str, list[int]]:
    return json.loads((DATA / f"{name}.keys.json").read_text())


def normal(name: str, *shape: int) -> Tensor:
    """Standard normal numbers that follow from a name, the same for ever (a frozen generator)."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def seeded(module: nn.Module, tag: str) -> nn.Module:
    """The module with weights by recipe: matrices of unit gain, norms near 1, small biases."""
    state = {}
    for key, old in module.state_dict().items():
        random = np.random.RandomState(zlib.crc32((tag + key).encode()))
        z = random.standard_normal(tuple(old.shape))
        if old.ndim >= 2:
            z = z / np.sqrt(np.prod(old.shape[1:]))
        elif key.endswith("weight"):
            z = 1 + 0.1 * z
        else:
            z = 0.1 * z
        state[key] = torch.from_numpy(z.astype(np.float32))
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


@functools.cache
def tiny_unet() -> UNet:
    """The network of the reference run: not to be changed."""
    return seeded(UNet(TINY), "unet_tiny/")


def error(got: Tensor, want: Tensor) -> float:
    """Largest deviation, relative to the largest value that is wanted."""
    assert got.shape == want.shape
    return float((got.double() - want.double()).abs().max() / want.double().abs().max())
