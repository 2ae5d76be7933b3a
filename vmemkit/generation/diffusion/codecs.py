"""Codecs: images to the codes that a diffusion network works on, and back.

A `Codec` turns images into latents and latents into images. An image encoder sums an image up in one
vector. `PixelCodec` needs no weights; `VaeCodec` and `ClipTower` wrap models of diffusers and
transformers, which are imported when a model is loaded. Images are [n 3 h w] in [0, 1] everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from vmemkit.nets.weights import from_pretrained, import_library, load_pretrained, silenced

VAE_SCALE = 0.18215  # brings latents of Stable Diffusion's VAE to about unit variance
CLIP_SIZE = 224  # pixels: side of the images that CLIP takes
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # colours of the images that CLIP was trained on
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)  # their standard deviation


@runtime_checkable
class Codec(Protocol):
    """Images to latents and back. It is also a torch module, so that it can change devices."""

    channels: int  # of a latent
    factor: int  # image pixels per latent pixel, along a side

    def encode(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]: ...

    def decode(self, latent: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]: ...


@runtime_checkable
class ImageEncoder(Protocol):
    """Images to one embedding each. It is also a torch module."""

    width: int  # of an embedding

    def __call__(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]: ...


class PixelCodec(nn.Module):
    """Space to depth: a latent pixel holds factor x factor image pixels, in [-1, 1]. It is lossless."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor, self.channels = factor, 3 * factor**2

    def encode(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
        return pixel_unshuffle(2 * image - 1, self.factor)

    def decode(self, latent: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
        return (pixel_shuffle(latent, self.factor) / 2 + 0.5).clamp(0, 1)


class VaeCodec(nn.Module):
    """A variational autoencoder of diffusers (`AutoencoderKL`): latents are scaled posterior means.

    It takes `chunk` images at a time, to bound the memory.
    """

    def __init__(self, vae: nn.Module, scale: float = VAE_SCALE, chunk: int = 1) -> None:
        super().__init__()
        self.vae, self.scale, self.chunk = vae, scale, chunk
        self.channels = vae.config.latent_channels
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)

    def encode(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
        parts = [self.vae.encode(part).latent_dist.mean for part in self._parts(2 * image - 1)]
        return torch.cat(parts).float() * self.scale

    def decode(self, latent: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
        parts = [self.vae.decode(part).sample for part in self._parts(latent / self.scale)]
        return (torch.cat(parts).float() / 2 + 0.5).clamp(0, 1)

    def _parts(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return tensor.to(self.vae.dtype).split(self.chunk)


class ClipTower(nn.Module):
    """CLIP's image tower (`CLIPVisionModelWithProjection`); its embeddings are not normalised.

    Images are resized as in the networks' training: blurred, then bicubic with aligned corners.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.width = model, model.config.projection_dim
        self._resize = import_library("kornia.geometry").resize
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        size = (CLIP_SIZE, CLIP_SIZE)
        small = self._resize(image, size, "bicubic", align_corners=True, antialias=True)
        pixels = ((small - self.mean) / self.std).to(self.model.dtype)
        return self.model(pixel_values=pixels).image_embeds.float()


def load_vae(file: Path, dtype: torch.dtype = torch.float32) -> VaeCodec:
    """The VAE of a weight file with its config.json beside it.

    Errors: ValueError for files that are missing, broken or of another model, and without diffusers.
    """
    diffusers = import_library("diffusers")
    with silenced(diffusers):
        model, unused = load_pretrained(diffusers.AutoencoderKL, file, dtype)
    if unused:
        raise ValueError(f"{file} holds more than a VAE, such as {', '.join(unused[:5])}")
    return VaeCodec(model)


def load_clip(file: Path, dtype: torch.dtype = torch.float32) -> ClipTower:
    """The image tower of a CLIP weight file with its config.json beside it.

    The text tower, which such files hold too, is left out. Errors: as `load_vae`, for transformers.
    """
    transformers = import_library("transformers")
    with silenced(transformers):
        config = from_pretrained(transformers.AutoConfig, file)
        tower = getattr(config, "vision_config", config)
        # Some files give the width that both towers share only at the top of their settings.
        tower.projection_dim = config.projection_dim
        kind = transformers.CLIPVisionModelWithProjection
        model, _ = load_pretrained(kind, file, dtype, config=tower)
    return ClipTower(model)
