"""RGB-D diffusion: a small pixel model that ships with its weights. Experimental.

In: context views with depth and target cameras. Out: target views with depth, 64 x 64 pixels.
"""

from vmemkit.generation.rgbd.rgbd import (
    FACTOR,
    UNET,
    WEIGHTS,
    RgbdConfig,
    RgbdDiffusion,
    cues,
    decode,
    encode,
    linear_error,
    load_rgbd,
    network,
    wiener,
)
from vmemkit.generation.rgbd.room_box import layout

__all__ = [
    "FACTOR",
    "RgbdConfig",
    "RgbdDiffusion",
    "UNET",
    "WEIGHTS",
    "cues",
    "decode",
    "encode",
    "layout",
    "linear_error",
    "load_rgbd",
    "network",
    "wiener",
]
