"""Generators by name, built from weight files.

In: a name such as "vmem", and where its weight files lie. Out: a generator, ready to be called.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vmemkit.generation.diffusion.codecs import load_clip, load_vae
from vmemkit.generation.diffusion.conditioning import CameraScale
from vmemkit.generation.diffusion.diffusion import DiffusionConfig, DiffusionGenerator
from vmemkit.nets.unet import UNet, UNetConfig, in_precision
from vmemkit.nets.weights import load_into, read, require

_SEVA = (
    UNetConfig(num_frames=21),
    DiffusionConfig(frames=21, context=20, camera_scale=CameraScale(offset=0.0)),
)

# The network and the sampling settings of each entry of `nets.weights.WEIGHTS` that is a generator.
PRESETS = {"vmem": (UNetConfig(), DiffusionConfig()), "seva": _SEVA, "seva-1.0": _SEVA}

# Less than a third of the released work. On worlds with a known solution, 15 such steps come nearer to
# it than the released 50 (tests/generation/test_sampling.py). Not yet judged by published weights.
FAST = {"sampler": "dpm_solver", "spacing": "karras", "steps": 15}


def preset(
    name: str,
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **changes: Any,
) -> DiffusionGenerator:
    """A generator with published weights, by name.

    name: "vmem" (4 context and 4 target views of 576 x 576), "seva" or "seva-1.0" (21 views).
    folder: of the weight files; by default where `nets.weights.find` looks.
    device: by default the GPU, if there is one.
    dtype: of the network; by default bfloat16 on a GPU and float32 on a CPU. The VAE and the norms
    stay in float32.
    changes: fields of `DiffusionConfig`, such as those of `FAST` (`preset("vmem", **FAST)`).
    Errors: ValueError for an unknown name, and for weights that are missing (the message says how to
    get them), broken, or those of another network.
    """
    if name not in PRESETS:
        raise ValueError(f"presets are {', '.join(PRESETS)}, got {name!r}")
    network, config = PRESETS[name]
    return load_diffusion(name, network, replace(config, **changes), folder, device, dtype)


def load_diffusion(
    weights: str,
    network: UNetConfig,
    config: DiffusionConfig,
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> DiffusionGenerator:
    """A latent diffusion generator from weight files: a UNet (`weights`, an entry of
    `nets.weights.WEIGHTS`) with the published VAE and CLIP image tower.

    folder, device, dtype, errors: as in `preset`.
    """
    files = {name: require(name, folder) for name in (weights, "vae", "clip")}
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    with torch.device("meta"):
        unet = UNet(network)
    load_into(unet, read(files[weights]), f"{weights} (read from {files[weights]})")
    unet = in_precision(unet, dtype).to(device, memory_format=torch.channels_last)
    return DiffusionGenerator(
        unet=unet.eval().requires_grad_(False),
        codec=load_vae(files["vae"]),
        image_encoder=load_clip(files["clip"], dtype),
        config=config,
    )
