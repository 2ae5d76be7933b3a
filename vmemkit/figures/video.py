"""A walk as a video.

In: the steps of a walk, and the true images if they are known. Out: an .mp4 of the generated views.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import save_video
from vmemkit.pipeline import Step

FPS, VIDEO_ROWS = 8.0, 192  # frames per second, and height in pixels


def save_walk_video(
    path: str | Path, steps: Sequence[Step], truth: Float[Tensor, "n 3 h w"] | None = None
) -> None:
    """Write a video of the generated views, with the truth on the left if it is known."""
    images = torch.cat([step.views.image for step in steps])
    if truth is not None:
        images = torch.cat([truth, images], -1)
    scale = VIDEO_ROWS / images.shape[2]
    large = interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False)
    save_video(path, large.clamp(0, 1), FPS)
