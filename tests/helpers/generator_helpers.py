"""A diffusion generator small enough for tests: random weights, pixels for latents."""

from __future__ import annotations

from golden_helpers import seeded

from vmemkit.generation.diffusion import DiffusionConfig, DiffusionGenerator, PixelCodec
from vmemkit.nets.unet import UNet, UNetConfig

FACTOR = 4
SMALL = UNetConfig(
    in_channels=3 * FACTOR**2 + 7,
    out_channels=3 * FACTOR**2,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(2, 1),
    transformer_depth=(1, 1),
    num_head_channels=16,
    context_dim=16,
)


class Counting(PixelCodec):
    """A codec that remembers how many images it encoded and decoded, and where it was sent."""

    def __init__(self) -> None:
        super().__init__(FACTOR)
        self.encoded, self.decoded, self.sent = 0, 0, []

    def encode(self, image):
        self.encoded += len(image)
        return super().encode(image)

    def decode(self, latent):
        self.decoded += len(latent)
        return super().decode(latent)

    def to(self, *where, **how):
        self.sent.append(str(where[0]))
        return super().to(*where, **how)


def small(**config) -> DiffusionGenerator:
    """With 3 steps, unless the config says otherwise."""
    net = seeded(UNet(SMALL), "small/")
    return DiffusionGenerator(net, Counting(), None, DiffusionConfig(**{"steps": 3} | config))
