"""The multi-view UNet of Stable Virtual Camera and VMem.

In: noisy latents of all frames, a noise level, embeddings and rays. Out: an estimate of the noise.
Source: Stable Virtual Camera (Zhou et al., 2025); names and shapes as in the published weights.
"""

from vmemkit.nets.unet.unet import UNet, UNetConfig, in_precision

__all__ = ["UNet", "UNetConfig", "in_precision"]
