"""Layers of the vision transformers in CUT3R (Wang et al., 2025; after CroCo v2 and DUSt3R).

In and out: tokens [b n c]. Their places on the patch grid are integer positions [n 2] (y, x), which
attention gets by a rotary embedding in two dimensions. A position may be negative, for tokens that
belong to no patch. Parameter names are the published files'.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

BASE = 100.0  # ratio of the longest to the shortest rotary wave length, about ("RoPE100")
EPS = 1e-6  # added to the variance by every LayerNorm
Turns = tuple[Tensor, Tensor]  # cosine and sine [n d] of the angle by which each channel is rotated


def turns(position: Int[Tensor, "n 2"], head_width: int) -> Turns:
    """The rotary embedding of each position, for heads of `head_width` channels (a multiple of 4).

    Channels are rotated in pairs: channel i of the first quarter with channel i of the second, by
    y * BASE^(-i / quarter) radians. The third and fourth quarter rotate likewise by x.
    """
    quarter = head_width // 4
    index = torch.arange(quarter, dtype=torch.float32, device=position.device)
    frequency = BASE ** (-index / quarter)
    angle = position.float()[:, :, None] * frequency  # [n 2 quarter]
    angle = torch.cat([angle, angle], dim=-1).flatten(1)  # both channels of a pair
    return angle.cos(), angle.sin()


def rotate(x: Float[Tensor, "*b n d"], by: Turns) -> Float[Tensor, "*b n d"]:
    """x with each channel pair rotated by its token's position, in float32 or wider."""
    u, v, p, q = x.chunk(4, dim=-1)
    return x * by[0] + torch.cat([-v, u, -q, p], dim=-1) * by[1]


def grid_positions(rows: int, columns: int, device: torch.device) -> Int[Tensor, "n 2"]:
    """(y, x) of each patch of a grid, row by row."""
    y, x = torch.arange(rows, device=device), torch.arange(columns, device=device)
    return torch.cartesian_prod(y, x)


class LayerNorm(nn.LayerNorm):
    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)


class Mlp(nn.Module):
    def __init__(self, width: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width if out is None else out)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b e"]:
        return self.fc2(functional.gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    """half_turns: round queries and keys to float16 before and after the rotation, in any dtype,
    as in the training of the published encoder."""

    def __init__(self, width: int, heads: int, half_turns: bool = False) -> None:
        super().__init__()
        self.heads, self.half_turns = heads, half_turns
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n c"], by: Turns | None) -> Float[Tensor, "b n c"]:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if by is not None:
            query, key = self._turned(query, by), self._turned(key, by)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _turned(self, x: Tensor, by: Turns) -> Tensor:
        if not self.half_turns:
            return rotate(x, by).to(x.dtype)
        return rotate(x.half().float(), by).half().to(x.dtype)


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq, self.projk, self.projv, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        other: Float[Tensor, "b m c"],
        by: Turns | None,
        other_by: Turns | None,
    ) -> Float[Tensor, "b n c"]:
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.projq(x), self.projk(other), self.projv(other))
        )
        if by is not None:
            query, key = rotate(query, by).to(x.dtype), rotate(key, other_by).to(x.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    def __init__(self, width: int, heads: int, half_turns: bool = False) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads, half_turns)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Float[Tensor, "b n c"], by: Turns) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x), by)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Tokens attend to each other, then to those of another stream. Without `by`, attention ignores
    places."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width)
        self.mlp = Mlp(width)
        self.norm_y = LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        other: Float[Tensor, "b m c"],
        by: Turns | None = None,
        other_by: Turns | None = None,
    ) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x), by)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(other), by, other_by)
        return x + self.mlp(self.norm3(x))


class ModulatedNorm(nn.Module):
    """LayerNorm whose gain and shift depend on a condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(
        self, x: Float[Tensor, "b n c"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n c"]:
        shift, scale = self.mlp(condition)[:, None].chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class ModulatedBlock(nn.Module):
    """An encoder block with a condition, which is the camera's pose token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = ModulatedNorm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = ModulatedNorm(width)
        self.mlp = Mlp(width)

    def forward(
        self, x: Float[Tensor, "b n c"], condition: Float[Tensor, "b c"], by: Turns
    ) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x, condition), by)
        return x + self.mlp(self.norm2(x, condition))
