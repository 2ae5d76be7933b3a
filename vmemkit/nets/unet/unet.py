"""The multi-view UNet of VMem and Stable Virtual Camera (Zhou et al., 2025).

In: noisy latents of all frames of a window, context frames among them, with mask and camera rays as
further channels. Out: an estimate of the noise in each.
Frames exchange information by attention: across all pixels of all frames at the coarser resolutions,
and over the frames at each pixel. Only rays and mask tell frames apart. Parameter names are the
published files'. Call `fixed` once per sampling and `denoise` once per step, or `forward` for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vmemkit.nets.unet.layers import Downsample, GroupNorm, MultiviewTransformer, ResBlock, Upsample

MAX_PERIOD = 10_000  # of the slowest wave of the noise level's embedding, in levels

# Layers whose attention runs across all pixels of all frames, by their published names.
ACROSS = ("middle_ds8", "output_ds4", "output_ds2")
Fixed = tuple[list, list, list]  # for input, middle and output blocks: an entry per layer


@dataclass(frozen=True)
class UNetConfig:
    """Names and defaults as published."""

    in_channels: int = 11  # latent 4, mask 1, Pluecker rays 6
    model_channels: int = 320  # of the finest level
    out_channels: int = 4  # latent
    num_frames: int = 8  # of a window in training: 8 for VMem, 21 for Stable Virtual Camera
    num_res_blocks: int = 2  # per level
    attention_resolutions: tuple[int, ...] = (4, 2, 1)  # in latent pixels per pixel of the level
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)  # factor on model_channels, per level
    num_head_channels: int = 64
    transformer_depth: tuple[int, ...] = (1, 1, 1, 1)  # transformer blocks per layer, per level
    context_dim: int = 1024  # of the image embedding
    dense_in_channels: int = 6  # of the ray maps

    @property
    def stride(self) -> int:
        """Pixels of which latent sides must be multiples."""
        return 2 ** (len(self.channel_mult) - 1)


class UNet(nn.Module):
    """The network. Errors: ValueError for a config that contradicts itself."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        emb_width = 4 * config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, emb_width), nn.SiLU(), nn.Linear(emb_width, emb_width)
        )
        widths = self._build_inputs()
        width, ds = widths[-1], config.stride
        self.middle_block = nn.Sequential(
            self._res(width, width),
            self._attention(width, len(config.channel_mult) - 1, f"middle_ds{ds}"),
            self._res(width, width),
        )
        width = self._build_outputs(widths)
        self.out = nn.Sequential(
            GroupNorm(width), nn.SiLU(), nn.Conv2d(width, config.out_channels, 3, padding=1)
        )

    def forward(
        self,
        x: Float[Tensor, "n i h w"],
        t: Int[Tensor, " e"],
        y: Float[Tensor, "n s d"],
        dense_y: Float[Tensor, "r 6 hd wd"],
        num_frames: int | None = None,
    ) -> Float[Tensor, "n o h w"]:
        """The noise in x, whose rows are the frames of all sequences.

        t: index of the noise level (0 to 999) of each row, or one for all.
        y: image embedding, s tokens per row. dense_y: Pluecker rays of each row, or of one sequence.
        num_frames: per sequence; by default the config's.
        Errors: ValueError for sizes that do not fit.
        """
        num_frames = self.config.num_frames if num_frames is None else num_frames
        n, channels, height, width = x.shape
        if channels != self.config.in_channels or len(y) != n or len(t) not in (1, n):
            raise ValueError(
                f"need {self.config.in_channels} channels, and as many embeddings as rows of x and as "
                f"many or one noise level, got x {list(x.shape)}, {len(y)} and {len(t)}"
            )
        return self.denoise(x, t, self.fixed(y, dense_y, height, width, num_frames), num_frames)

    def fixed(
        self,
        y: Float[Tensor, "n s d"],
        dense_y: Float[Tensor, "r 6 hd wd"],
        height: int,
        width: int,
        num_frames: int,
    ) -> Fixed:
        """What the condition determines and no step changes, for latents of height x width."""
        _check_sizes(self.config, y, dense_y, (height, width), num_frames)
        size = (height, width)

        def fixed_part(layer: nn.Module) -> object:
            nonlocal size  # of the latents at this layer
            if isinstance(layer, ResBlock):
                return layer.fixed(dense_y, *size)
            if isinstance(layer, MultiviewTransformer):
                return layer.fixed(y, num_frames)
            if isinstance(layer, Downsample):
                size = (size[0] // 2, size[1] // 2)
            elif isinstance(layer, Upsample):
                size = (size[0] * 2, size[1] * 2)
            return None

        # In the order of the layers, since each changes the size for the next.
        inputs = [[fixed_part(layer) for layer in block] for block in self.input_blocks]
        middle = [fixed_part(layer) for layer in self.middle_block]
        outputs = [[fixed_part(layer) for layer in block] for block in self.output_blocks]
        return inputs, middle, outputs

    def denoise(
        self, x: Float[Tensor, "n i h w"], t: Int[Tensor, " e"], fixed: Fixed, num_frames: int
    ) -> Float[Tensor, "n o h w"]:
        """As `forward`, with the result of `fixed`."""
        inputs, middle, outputs = fixed
        waves = timestep_embedding(t, self.config.model_channels)
        emb = self.time_embed(waves.to(self.time_embed[0].weight.dtype))
        skips, h = [], x
        for block, parts in zip(self.input_blocks, inputs, strict=True):
            h = _run(block, parts, h, emb, num_frames)
            skips.append(h)
        h = _run(self.middle_block, middle, h, emb, num_frames)
        for block, parts in zip(self.output_blocks, outputs, strict=True):
            h = _run(block, parts, torch.cat([h, skips.pop()], dim=1), emb, num_frames)
        return self.out(h)

    def _build_inputs(self) -> list[int]:
        """Build the blocks from fine to coarse. Returns the width of every skip connection."""
        config = self.config
        width = config.model_channels
        blocks = [nn.Sequential(nn.Conv2d(config.in_channels, width, 3, padding=1))]
        widths, ds = [width], 1
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                layers = [self._res(width, mult * config.model_channels)]
                width = mult * config.model_channels
                if ds in config.attention_resolutions:
                    layers.append(self._attention(width, level, f"input_ds{ds}"))
                blocks.append(nn.Sequential(*layers))
                widths.append(width)
            if level < len(config.channel_mult) - 1:
                blocks.append(nn.Sequential(Downsample(width)))
                widths.append(width)
                ds *= 2
        self.input_blocks = nn.ModuleList(blocks)
        return widths

    def _build_outputs(self, widths: list[int]) -> int:
        """Build the blocks from coarse to fine. Returns the last width."""
        config = self.config
        blocks, width, ds = [], widths[-1], config.stride
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.num_res_blocks + 1):
                layers = [self._res(width + widths.pop(), mult * config.model_channels)]
                width = mult * config.model_channels
                if ds in config.attention_resolutions:
                    layers.append(self._attention(width, level, f"output_ds{ds}"))
                if level > 0 and i == config.num_res_blocks:
                    layers.append(Upsample(width))
                    ds //= 2
                blocks.append(nn.Sequential(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        return width

    def _res(self, width: int, out_width: int) -> ResBlock:
        config = self.config
        return ResBlock(width, 4 * config.model_channels, out_width, config.dense_in_channels)

    def _attention(self, width: int, level: int, name: str) -> MultiviewTransformer:
        config = self.config
        depth = config.transformer_depth[level]
        return MultiviewTransformer(
            width, config.context_dim, config.num_head_channels, depth, name in ACROSS
        )


def timestep_embedding(t: Int[Tensor, " e"], width: int) -> Float[Tensor, "e d"]:
    """[cos, sin] of t times frequencies that fall geometrically from 1 to almost 1 / MAX_PERIOD."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angle = t[:, None].float() * torch.exp(-math.log(MAX_PERIOD) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network with its linear layers and convolutions changed to `dtype` in place; norms stay."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(dtype)
    return network


def _run(block: nn.Sequential, fixed: list, h: Tensor, emb: Tensor, num_frames: int) -> Tensor:
    for layer, part in zip(block, fixed, strict=True):
        if isinstance(layer, ResBlock):
            h = layer(h, emb, part)
        elif isinstance(layer, MultiviewTransformer):
            h = layer(h, part, num_frames)
        else:
            h = layer(h)
    return h


def _check(config: UNetConfig) -> None:
    if len(config.transformer_depth) != len(config.channel_mult):
        raise ValueError(
            f"transformer_depth and channel_mult need an entry per level, got "
            f"{config.transformer_depth} and {config.channel_mult}"
        )
    for mult in config.channel_mult:
        width = mult * config.model_channels
        if width % config.num_head_channels or width % 32:
            raise ValueError(
                f"widths must be multiples of 32 and of num_head_channels "
                f"{config.num_head_channels}, got {width}"
            )


def _check_sizes(
    config: UNetConfig, y: Tensor, dense_y: Tensor, size: tuple[int, int], num_frames: int
) -> None:
    stride, (rows, _, dim) = config.stride, y.shape
    if size[0] % stride or size[1] % stride or 0 in size:
        raise ValueError(f"latents must be multiples of {stride} in height and width, got {size}")
    if dim != config.context_dim or dense_y.shape[1] != config.dense_in_channels:
        raise ValueError(
            f"need embeddings of width {config.context_dim} and {config.dense_in_channels} dense "
            f"channels, got {dim} and {dense_y.shape[1]}"
        )
    if num_frames < 1 or rows % num_frames or len(dense_y) not in (num_frames, rows):
        raise ValueError(
            f"rows must be sequences of {num_frames} frames, got {rows} embeddings and "
            f"{len(dense_y)} ray maps (those of one sequence, or of all)"
        )
