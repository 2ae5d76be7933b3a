"""CUT3R (Wang et al., 2025): geometry from one image after another, with a state that persists.

In: a state and an image. Out: the next state, and what the image shows. That is the pose of its camera
in the world of the first image, and a point per pixel, both in the camera's own axes ("self") and in
that world ("other"). Axes are OpenCV's.
The network is causal: a prediction depends on earlier images only, through the state. The state is a
value, so one can go on from any earlier image's. Sizes are in `config.py`, and parameter names are
the published files'.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vmemkit.nets.cut3r.config import RAY_HEADS, CUT3RConfig, check_config
from vmemkit.nets.cut3r.dpt import DPT
from vmemkit.nets.cut3r.vit import (
    DecoderBlock,
    EncoderBlock,
    LayerNorm,
    Mlp,
    ModulatedBlock,
    grid_positions,
    turns,
)
from vmemkit.nets.weights import module_hash

Head = Literal["pose", "self", "other", "rgb"]
PATCH = 16  # pixels along the side of a patch
MEMORY_DEPTH = 2  # blocks that read the pose memory, and blocks that write it
TINY = 1e-8  # length below which a vector has no direction


@dataclass(frozen=True)
class CUT3RState:
    """What the network remembers between images of b sequences: 3.9 MB each in the published size."""

    feature: Float[Tensor, "b s c"]
    memory: Float[Tensor, "b m d"]  # from appearance to pose, see `PoseRetriever`
    started: bool = False  # false before the first image, whose pose defines the world

    def __repr__(self) -> str:
        return f"CUT3RState(feature={list(self.feature.shape)}, memory={list(self.memory.shape)})"


@dataclass(frozen=True, repr=False)
class CUT3RPrediction:
    """The results of the requested heads; the others are None. Lengths are in the network's unit."""

    # world_from_cam: x, y, z of the camera's centre, then the unit quaternion w, x, y, z (w >= 0) of
    # its rotation. The world is the first image's camera.
    pose: Float[Tensor, "b 7"] | None = None
    points_self: Float[Tensor, "b h w 3"] | None = None  # in the camera's own axes
    confidence_self: Float[Tensor, "b h w"] | None = None  # > 1
    points_other: Float[Tensor, "b h w 3"] | None = None  # in the world
    confidence_other: Float[Tensor, "b h w"] | None = None  # > 1
    rgb: Float[Tensor, "b h w 3"] | None = None  # in [-1, 1]


class CUT3R(nn.Module):
    """The network. Errors: ValueError for a config that `check_config` refuses."""

    def __init__(self, config: CUT3RConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        wide, width = config.enc_embed_dim, config.dec_embed_dim
        self.pose_token = nn.Parameter(torch.zeros(1, 1, width))
        # Used in training only, in place of images or rays that are left out.
        self.masked_img_token = nn.Parameter(torch.zeros(1, wide))
        self.masked_ray_map_token = nn.Parameter(torch.zeros(1, wide))
        self.patch_embed, self.patch_embed_ray_map = PatchEmbed(3, wide), PatchEmbed(6, wide)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(wide, config.enc_num_heads, half_turns=True)
            for _ in range(config.enc_depth)
        )
        self.enc_norm = LayerNorm(wide)
        self.decoder_embed = nn.Linear(wide, width)
        self.dec_blocks = _decoder(width, config.dec_num_heads, config.dec_depth)
        self.dec_norm = LayerNorm(width)
        self.enc_blocks_ray_map = nn.ModuleList(
            EncoderBlock(wide, RAY_HEADS) for _ in range(config.ray_enc_depth)
        )
        self.enc_norm_ray_map = LayerNorm(wide)
        self.pose_retriever = PoseRetriever(config)
        self.register_tokens = nn.Embedding(config.state_size, wide)
        self.decoder_embed_state = nn.Linear(wide, width)
        self.dec_blocks_state = _decoder(width, config.state_dec_num_heads, config.dec_depth)
        self.dec_norm_state = LayerNorm(width)
        self.downstream_head = Heads(config)

    @property
    def device(self) -> torch.device:
        return self.pose_token.device

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the weights, which is computed once."""
        return module_hash(self).hex()

    def begin(self, batch: int = 1) -> CUT3RState:
        """The state before the first image of `batch` sequences."""
        feature = self.decoder_embed_state(self.register_tokens.weight)[None]
        memory = self.pose_retriever.mem
        return CUT3RState(feature.expand(batch, -1, -1), memory.expand(batch, -1, -1))

    def reset(self, state: CUT3RState) -> CUT3RState:
        """The state before the first image, except that the world stays defined if it was."""
        return dataclasses.replace(self.begin(len(state.feature)), started=state.started)

    def step(
        self,
        state: CUT3RState,
        image: Float[Tensor, "b 3 h w"] | None,
        heads: Collection[Head] = ("pose", "self", "other"),
        ray_map: Float[Tensor, "b 6 h w"] | None = None,
    ) -> tuple[CUT3RState, CUT3RPrediction]:
        """The next state, and the results of `heads` for an image in [-1, 1].

        ray_map: origin and direction per pixel. Without an image, the network predicts from the rays
        alone what a camera there would see, and the state stays as it is.
        Errors: ValueError for sides that are not multiples of PATCH, for a batch size other than the
        state's, for neither image nor rays, and for a head that the config does not have.
        """
        given = image if image is not None else ray_map
        _check_input(self.config, state, image, ray_map, heads)
        # A state that was read from a file may lie on another device.
        state = dataclasses.replace(
            state, feature=state.feature.to(given.device), memory=state.memory.to(given.device)
        )
        rows, columns = given.shape[2] // PATCH, given.shape[3] // PATCH
        grid = grid_positions(rows, columns, given.device)
        tokens = self._encoded(image, ray_map, grid)
        summary = tokens.mean(1, keepdim=True)  # [b 1 c]
        if state.started:
            pose = self.pose_retriever.read(summary, state.memory)
        else:
            pose = self.pose_token.expand(len(given), -1, -1)
        feature, depths = self._decoded(state.feature, pose, tokens, grid)
        pose = depths[-1][:, :1]
        prediction = self.downstream_head(tokens, depths, grid, (rows, columns), heads)
        if image is None:
            return state, prediction
        memory = self.pose_retriever.write(summary, pose, state.memory)
        return CUT3RState(feature, memory, started=True), prediction

    def _encoded(
        self, image: Tensor | None, ray_map: Tensor | None, grid: Int[Tensor, "n 2"]
    ) -> Float[Tensor, "b n c"]:
        tokens: Tensor | float = 0.0
        width = self.config.enc_embed_dim
        if image is not None:
            x, by = self.patch_embed(image), turns(grid, width // self.config.enc_num_heads)
            for block in self.enc_blocks:
                x = block(x, by)
            tokens = self.enc_norm(x)
        if ray_map is not None:
            x, by = self.patch_embed_ray_map(ray_map), turns(grid, width // RAY_HEADS)
            for block in self.enc_blocks_ray_map:
                x = block(x, by)
            tokens = tokens + self.enc_norm_ray_map(x)
        return tokens

    def _decoded(
        self,
        feature: Float[Tensor, "b s c"],
        pose: Float[Tensor, "b 1 c"],
        tokens: Float[Tensor, "b n e"],
        grid: Int[Tensor, "n 2"],
    ) -> tuple[Tensor, list[Tensor]]:
        """The next state feature, and the image stream [b 1+n c] at the depths that the heads read.

        These are half of the layers, three quarters, and the end after a norm. The pose token is the
        stream's first. It has a place of its own, (-1, -1), since it belongs to no patch.
        """
        config = self.config
        places = torch.cat([grid.new_full((1, 2), -1), grid])
        own = state_positions(config.state_size, grid.device)
        wide = config.dec_embed_dim // config.dec_num_heads
        narrow = config.dec_embed_dim // config.state_dec_num_heads
        image_turns = turns(places, wide), turns(own, wide)
        state_turns = turns(own, narrow), turns(places, narrow)
        stream, taps = torch.cat([pose, self.decoder_embed(tokens)], dim=1), []
        layers = zip(self.dec_blocks_state, self.dec_blocks, strict=True)
        for depth, (state_block, image_block) in enumerate(layers, start=1):
            # Each attends to the other as it was before this layer.
            feature, stream = (
                state_block(feature, stream, *state_turns),
                image_block(stream, feature, *image_turns),
            )
            if depth in (config.dec_depth // 2, config.dec_depth * 3 // 4):
                taps.append(stream)
        return self.dec_norm_state(feature), [*taps, self.dec_norm(stream)]


class PatchEmbed(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, PATCH, PATCH)

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b n c"]:
        return self.proj(image).flatten(2).transpose(1, 2)


class PoseRetriever(nn.Module):
    """An associative memory: from what an image looks like to where its camera stands."""

    def __init__(self, config: CUT3RConfig) -> None:
        super().__init__()
        width, heads = config.dec_embed_dim, config.dec_num_heads
        self.mem = nn.Parameter(torch.zeros(1, config.local_mem_size, 2 * width))
        self.masked_token = nn.Parameter(torch.zeros(1, 1, width))
        self.proj_q = nn.Linear(config.enc_embed_dim, width)
        self.write_blocks = _decoder(2 * width, heads, MEMORY_DEPTH)
        self.read_blocks = _decoder(2 * width, heads, MEMORY_DEPTH)

    def read(
        self, summary: Float[Tensor, "b 1 e"], memory: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b 1 c"]:
        unknown = self.masked_token.expand(len(summary), -1, -1)
        x = torch.cat([self.proj_q(summary), unknown], dim=-1)
        for block in self.read_blocks:
            x = block(x, memory)
        return x.chunk(2, dim=-1)[1]

    def write(
        self,
        summary: Float[Tensor, "b 1 e"],
        pose: Float[Tensor, "b 1 c"],
        memory: Float[Tensor, "b m d"],
    ) -> Float[Tensor, "b m d"]:
        pair = torch.cat([self.proj_q(summary), pose], dim=-1)
        for block in self.write_blocks:
            memory = block(memory, pair)
        return memory


class PoseHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = Mlp(width, 7)

    def forward(self, token: Float[Tensor, "b c"]) -> Float[Tensor, "b 7"]:
        raw = self.mlp(token)
        quaternion = functional.normalize(raw[:, 3:], dim=-1)
        quaternion = torch.where(quaternion[:, :1] < 0, -quaternion, quaternion)
        return torch.cat([stretched(raw[:, :3]), quaternion], dim=-1)


class Heads(nn.Module):
    """From tokens to points, pose and colour."""

    def __init__(self, config: CUT3RConfig) -> None:
        super().__init__()
        width = config.dec_embed_dim
        token_widths = (config.enc_embed_dim, width, width, width)
        sizes = (token_widths, config.layer_dims, config.feature_dim, config.last_dim)
        self.heads = config.dec_num_heads
        self.dpt_self = DPT(*sizes, channels=4)
        self.final_transform = nn.ModuleList(ModulatedBlock(width, self.heads) for _ in range(2))
        self.dpt_cross = DPT(*sizes, channels=4)
        if config.rgb_head:
            self.dpt_rgb = DPT(*sizes, channels=3)
        self.pose_head = PoseHead(width)

    def forward(
        self,
        tokens: Float[Tensor, "b n e"],
        depths: list[Tensor],
        grid: Int[Tensor, "n 2"],
        size: tuple[int, int],
        wanted: Collection[Head],
    ) -> CUT3RPrediction:
        pose, results = depths[-1][:, 0], {}
        maps = [tokens, *(depth[:, 1:] for depth in depths)]
        if "pose" in wanted:
            results["pose"] = self.pose_head(pose)
        if "self" in wanted:
            raw = self.dpt_self(maps, *size)
            results["points_self"], results["confidence_self"] = points_and_confidence(raw)
        if "other" in wanted:
            x, by = maps[-1], turns(grid, maps[-1].shape[-1] // self.heads)
            for block in self.final_transform:
                x = block(x, pose, by)
            raw = self.dpt_cross([*maps[:-1], x], *size)
            results["points_other"], results["confidence_other"] = points_and_confidence(raw)
        if "rgb" in wanted:
            squeezed = self.dpt_rgb(maps, *size).sigmoid() * (1 - 2e-6) + 1e-6
            results["rgb"] = (2 * squeezed - 1).permute(0, 2, 3, 1)
        return CUT3RPrediction(**results)


def points_and_confidence(raw: Float[Tensor, "b 4 h w"]) -> tuple[Tensor, Tensor]:
    """Points [b h w 3] and confidence [b h w] from the output of a dense head."""
    return stretched(raw[:, :3].permute(0, 2, 3, 1)), 1 + raw[:, 3].exp()


def stretched(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Vectors of the same direction, with the length l changed to exp(l) - 1."""
    length = v.norm(dim=-1, keepdim=True)
    return v / length.clamp(min=TINY) * length.expm1()


def state_positions(count: int, device: torch.device) -> Int[Tensor, "n 2"]:
    """Places of the state's tokens on a grid, about square and of even width."""
    width = math.isqrt(count)
    width += width % 2
    index = torch.arange(count, device=device)
    return torch.stack([index // width, index % width], dim=-1)


def _decoder(width: int, heads: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))


def _check_input(
    config: CUT3RConfig,
    state: CUT3RState,
    image: Tensor | None,
    ray_map: Tensor | None,
    heads: Collection[Head],
) -> None:
    known = ("pose", "self", "other", *(("rgb",) if config.rgb_head else ()))
    if not set(heads) <= set(known):
        raise ValueError(f"the heads are {', '.join(known)}, got {', '.join(heads)}")
    inputs = [x for x in (image, ray_map) if x is not None]
    if not inputs:
        raise ValueError("step needs an image, a ray map or both, got neither")
    b, s, m = len(inputs[0]), config.state_size, config.local_mem_size
    height, width = inputs[0].shape[2:]
    if any(x.shape[2:] != (height, width) for x in inputs) or height % PATCH or width % PATCH:
        raise ValueError(
            f"images and ray maps need one size, sides multiples of {PATCH}, got "
            f"{[list(x.shape[2:]) for x in inputs]}: see reconstruction.prepare_images"
        )
    fits = state.feature.shape[:2] == (b, s) and state.memory.shape[:2] == (b, m)
    if min(height, width) == 0 or not fits:
        raise ValueError(
            f"a state of {len(state.feature)} sequences ({s} and {m} tokens) goes on with as many "
            f"images, got {state} and {list(inputs[0].shape)}: begin with CUT3R.begin"
        )
