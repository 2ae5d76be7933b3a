"""Generators by name, built from weight files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from vmemkit.generation.diffusion.codecs import load_clip, load_vae
from vmemkit.generation.diffusion.conditioning import CameraScale
from vmemkit.generation.diffusion.diffusion import DiffusionConfig, DiffusionGenerator
from vmemkit.generation.rgbd import rgbd
from vmemkit.generation.rgbd.rgbd import RgbdDiffusion
from vmemkit.nets.unet import UNet, UNetConfig, in_precision
from vmemkit.nets.weights import load_into, read, require

# ---- published weights ---------------------------------------------------------------------------

# Name (of an entry of `weights.WEIGHTS`, too) -> network, and how it samples.
_SEVA = (
    UNetConfig(num_frames=21),
    DiffusionConfig(frames=21, context=20, camera_scale=CameraScale(offset=0.0)),
)

PRESETS = {"vmem": (UNetConfig(), DiffusionConfig()), "seva": _SEVA, "seva-1.0": _SEVA}

# Less than a third of the work: on worlds with a known solution, 15 such steps come nearer to it than
# the released 50 (tests/test_sampling.py). Not yet judged by pictures of the published weights.
FAST = {"sampler": "dpm_solver", "spacing": "karras", "steps": 15}


def preset(
    name: str,
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **changes: object,
) -> DiffusionGenerator | RgbdDiffusion:
    """A published generator: "vmem" (4 + 4 frames of 576 x 576), "seva" or "seva-1.0" (21 frames); or
    the small one that ships with the project, "rooms" (`rgbd`; 64 x 64 with depth, experimental).

    folder: where the weight files are, if not where `weights.find` looks. device: a GPU if there is
    one. dtype of the network: bfloat16 on a GPU, float32 on a CPU; the VAE and norms stay float32.
    changes: fields of `DiffusionConfig`, such as those of `FAST` (`preset("vmem", **FAST)`); for rooms
    of `RgbdConfig`.
    Errors: ValueError for an unknown name, and for weights that are missing (it says how to get
    them), broken, or another network's.
    """
    if name == "rooms":
        if dtype not in (None, torch.float32):
            raise ValueError(f"rooms works in float32, got {dtype}")
        return rgbd.load_rgbd(folder, device, **changes)
    if name not in PRESETS:
        raise ValueError(f"presets are rooms, {', '.join(PRESETS)}, got {name!r}")
    network, config = PRESETS[name]
    files = {part: require(part, folder) for part in (name, "vae", "clip")}
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    with torch.device("meta"):
        unet = UNet(network)
    load_into(unet, read(files[name]), f"{name} (read from {files[name]})")
    unet = in_precision(unet, dtype).to(device, memory_format=torch.channels_last)
    tower = load_clip(files["clip"], dtype)
    return DiffusionGenerator(
        unet.eval().requires_grad_(False), load_vae(files["vae"]), tower, replace(config, **changes)
    )
