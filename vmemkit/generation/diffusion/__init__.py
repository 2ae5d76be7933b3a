"""Diffusion: the multi-view latent diffusion model of SEVA and VMem, part by part.

In: context views and target cameras. Out: images without depth. Views become latents (`codecs.py`),
cameras become rays (`conditioning.py`), noise becomes latents step by step (`sampling.py`).
Source: VMem, section 3.3; Stable Virtual Camera (Zhou et al., 2025); EDM (Karras et al., 2022).
"""

from vmemkit.generation.diffusion.codecs import PixelCodec, VaeCodec
from vmemkit.generation.diffusion.conditioning import DEFAULT_FOV, default_intrinsics
from vmemkit.generation.diffusion.diffusion import DiffusionConfig, DiffusionGenerator, Window
from vmemkit.generation.diffusion.sampling import (
    Denoising,
    Levels,
    LogLevels,
    dpm_solver,
    euler,
    guided,
    ideal,
    start,
)

__all__ = [
    "DEFAULT_FOV",
    "Denoising",
    "DiffusionConfig",
    "DiffusionGenerator",
    "Levels",
    "LogLevels",
    "PixelCodec",
    "VaeCodec",
    "Window",
    "default_intrinsics",
    "dpm_solver",
    "euler",
    "guided",
    "ideal",
    "start",
]
