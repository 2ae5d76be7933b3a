"""Layers of the multi-view UNet of VMem and Stable Virtual Camera (Zhou et al., 2025).

Rows are frames of one or more sequences: n = sequences * frames, frames of a sequence in a row. The
condition (image embedding, camera rays) is the same in all steps of a sampling. So a layer has two
methods: `fixed(condition)`, once per sampling, and `forward(x, ..., fixed)`, once per step. Norms are
computed in float32 or wider, whatever the dtype around them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 32  # of channels in every group norm


class FixedContext(NamedTuple):
    """Keys and values of cross-attention; or, for one token, its result.

    The result is then the same for every query, because the softmax over one key is 1.
    """

    outcome: Float[Tensor, "r 1 c"] | None
    key: Float[Tensor, "r s c"] | None = None
    value: Float[Tensor, "r s c"] | None = None


class Modulation(NamedTuple):
    """h -> gain h + shift, per channel and pixel."""

    gain: Float[Tensor, "r c h w"]
    shift: Float[Tensor, "r c h w"]


class GroupNorm(nn.GroupNorm):
    """Over GROUPS groups of channels."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(GROUPS, channels, eps)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return functional.group_norm(x.to(wide), GROUPS, weight, bias, self.eps).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Over the last axis."""

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        normed = functional.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps)
        return normed.to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of x to itself (`forward`), or to a context (`fixed`, then `add_to`)."""

    def __init__(self, width: int, context_width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
        if x.shape[1] == 1:  # the softmax over one key is 1
            return self.to_out(self.to_v(x))
        return self.attend(x, self.to_k(x), self.to_v(x))

    def attend(
        self, x: Float[Tensor, "n l c"], key: Float[Tensor, "n s c"], value: Float[Tensor, "n s c"]
    ) -> Float[Tensor, "n l c"]:
        heads = [
            tensor.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for tensor in (self.to_q(x), key, value)
        ]
        mixed = functional.scaled_dot_product_attention(*heads)
        return self.to_out(mixed.transpose(1, 2).flatten(2))

    def fixed(self, context: Float[Tensor, "r s d"]) -> FixedContext:
        if context.shape[1] == 1:
            return FixedContext(self.to_out(self.to_v(context)))
        return FixedContext(None, self.to_k(context), self.to_v(context))

    def add_to(
        self, x: Float[Tensor, "n l c"], norm: LayerNorm, context: FixedContext
    ) -> Float[Tensor, "n l c"]:
        """x + attention of norm(x) to a context of r rows, each of which serves n / r rows of x."""
        count = len(context.key if context.outcome is None else context.outcome)
        rows = x.unflatten(0, (count, -1))
        if context.outcome is not None:
            return (rows + context.outcome[:, None]).flatten(0, 1)
        queries = norm(rows).flatten(1, 2)  # all rows that one context serves, in one attention
        mixed = self.attend(queries, context.key, context.value)
        return (rows + mixed.view_as(rows)).flatten(0, 1)


class GatedLinear(nn.Module):
    """value * GELU(gate) (GEGLU; Shazeer, 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        # The identity is there because published files call the last layer net.2.
        self.net = nn.Sequential(
            GatedLinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention over the tokens of a row, cross-attention to the embedding, feed-forward."""

    def __init__(self, width: int, context_width: int, head_width: int) -> None:
        super().__init__()
        self.attn1 = Attention(width, width, head_width)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, context_width, head_width)
        self.norm1, self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width), LayerNorm(width)

    def forward(self, x: Float[Tensor, "n l c"], context: FixedContext) -> Float[Tensor, "n l c"]:
        x = self._attended(x, context)
        return x + self.ff(self.norm3(x))

    def _attended(self, x: Tensor, context: FixedContext) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        return self.attn2.add_to(x, self.norm2, context)


class TimeMixBlock(TransformerBlock):
    """A transformer block over the frames at one pixel.

    Its last feed-forward layer has no skip connection, so the result must be added to the input.
    """

    def __init__(self, width: int, context_width: int, head_width: int) -> None:
        super().__init__(width, context_width, head_width)
        self.norm_in = LayerNorm(width)
        self.ff_in = FeedForward(width)

    def forward(self, x: Float[Tensor, "n t c"], context: FixedContext) -> Float[Tensor, "n t c"]:
        x = x + self.ff_in(self.norm_in(x))
        return self.ff(self.norm3(self._attended(x, context)))


class MultiviewTransformer(nn.Module):
    """Attention over the pixels of each frame, or `across` those of all frames; then, for each pixel,
    over the frames."""

    def __init__(
        self, width: int, context_width: int, head_width: int, depth: int, across: bool
    ) -> None:
        super().__init__()
        self.across = across
        sizes = (width, context_width, head_width)
        self.norm = GroupNorm(width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(*sizes) for _ in range(depth))
        self.proj_out = nn.Linear(width, width)
        self.time_mix_blocks = nn.ModuleList(TimeMixBlock(*sizes) for _ in range(depth))

    def fixed(
        self, y: Float[Tensor, "n s d"], num_frames: int
    ) -> list[tuple[FixedContext, FixedContext]]:
        """Per layer, the context of the spatial and of the time-mix block.

        Where a row is a whole sequence, the embedding of its first frame serves all frames.
        """
        first = y[::num_frames]
        spatial = first if self.across else y
        return [
            (block.attn2.fixed(spatial), mix.attn2.fixed(first))
            for block, mix in zip(self.transformer_blocks, self.time_mix_blocks, strict=True)
        ]

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        fixed: list[tuple[FixedContext, FixedContext]],
        num_frames: int,
    ) -> Float[Tensor, "n c h w"]:
        (n, c, h, w), t = x.shape, num_frames
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))  # [n hw c]
        for block, mix, (spatial, temporal) in zip(
            self.transformer_blocks, self.time_mix_blocks, fixed, strict=True
        ):
            rows = tokens.reshape(n // t, t * h * w, c) if self.across else tokens
            frames = block(rows, spatial).reshape(n // t, t, h * w, c)
            pixels = frames.transpose(1, 2).reshape(-1, t, c)
            mixed = mix(pixels, temporal).unflatten(0, (n // t, h * w)).transpose(1, 2)
            tokens = (frames + mixed).reshape(n, h * w, c)
        return x + self.proj_out(tokens).transpose(1, 2).unflatten(2, (h, w))


class ResBlock(nn.Module):
    """Two convolutions. The camera rays modulate the input of the first, and the noise level is added
    to its output."""

    def __init__(
        self, channels: int, emb_width: int, out_channels: int, dense_channels: int
    ) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_width, out_channels))
        self.dense_emb_layers = nn.Sequential(nn.Conv2d(dense_channels, 2 * channels, 1))
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels),
            nn.SiLU(),
            nn.Identity(),  # because published files call the last layer out_layers.3
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def fixed(self, dense_y: Float[Tensor, "r d hd wd"], height: int, width: int) -> Modulation:
        """The modulation at this block's resolution. Rays of one sequence may serve all sequences."""
        resized = functional.interpolate(
            dense_y, (height, width), mode="bilinear", align_corners=True
        )
        both = self.dense_emb_layers(resized)  # scale and shift
        half = both.shape[1] // 2
        both[:, :half] += 1  # in place, because these maps take the most memory
        return Modulation(both[:, :half], both[:, half:])

    def forward(
        self, x: Float[Tensor, "n c h w"], emb: Float[Tensor, "e d"], fixed: Modulation
    ) -> Float[Tensor, "n c2 h w"]:
        """emb: the noise level of each row, or one for all."""
        norm, act, conv = self.in_layers
        h = act(norm(x)).unflatten(0, (-1, len(fixed.gain)))
        h = conv(torch.addcmul(fixed.shift, h, fixed.gain).flatten(0, 1))
        h = h + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    """To half the size, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        return self.op(x)


class Upsample(nn.Module):
    """To twice the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        return self.conv(functional.interpolate(x, scale_factor=2, mode="nearest"))
