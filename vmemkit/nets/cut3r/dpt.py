"""The dense prediction transformer head (DPT; Ranftl et al., 2021) as DUSt3R and CUT3R use it.

In: tokens from four layers ("depths") of a transformer on a patch grid. Out: a map at the image's
resolution. The tokens of each depth become a map of their own scale (4, 2, 1 and 1/2 pixels per
patch). From the coarsest on, maps are fused and doubled in size. Parameter names are the published
files'.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ResidualConvUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


class FeatureFusion(nn.Module):
    """Adds a finer map to the sum so far and doubles its size; the coarsest map comes first, alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        self.resConfUnit1 = ResidualConvUnit(width)  # the published names' spelling
        self.resConfUnit2 = ResidualConvUnit(width)

    def forward(
        self, x: Float[Tensor, "b c h w"], finer: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h2 w2"]:
        x = x if finer is None else x + self.resConfUnit1(finer)
        return self.out_conv(_doubled(self.resConfUnit2(x)))


class DPT(nn.Module):
    """token_widths: channels of the four depths' tokens. layer_dims: channels of their maps.
    feature_dim, last_dim: channels of the fused map, and before the output."""

    def __init__(
        self,
        token_widths: Sequence[int],
        layer_dims: Sequence[int],
        feature_dim: int,
        last_dim: int,
        channels: int,
    ) -> None:
        super().__init__()
        first = [nn.Conv2d(token_widths[i], layer_dims[i], 1) for i in range(4)]
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(first[0], nn.ConvTranspose2d(layer_dims[0], layer_dims[0], 4, 4)),
                nn.Sequential(first[1], nn.ConvTranspose2d(layer_dims[1], layer_dims[1], 2, 2)),
                nn.Sequential(first[2]),
                nn.Sequential(first[3], nn.Conv2d(layer_dims[3], layer_dims[3], 3, 2, 1)),
            ]
        )
        layers = [nn.Conv2d(width, feature_dim, 3, padding=1, bias=False) for width in layer_dims]
        self.scratch = nn.Module()
        for i, layer in enumerate(layers, start=1):
            self.scratch.add_module(f"layer{i}_rn", layer)
        self.scratch.layer_rn = nn.ModuleList(layers)  # the same layers: files hold both names
        for i in range(1, 5):
            self.scratch.add_module(f"refinenet{i}", FeatureFusion(feature_dim))
        half = feature_dim // 2
        self.head = nn.Sequential(
            nn.Conv2d(feature_dim, half, 3, padding=1),
            nn.Identity(),  # where the map is doubled
            nn.Conv2d(half, last_dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(last_dim, channels, 1),
        )

    def forward(
        self, tokens: Sequence[Float[Tensor, "b n _"]], rows: int, columns: int
    ) -> Float[Tensor, "b k h w"]:
        """tokens: of the four depths, shallow first, each a grid of rows x columns row by row."""
        maps = [
            layer(post(depth.transpose(1, 2).unflatten(2, (rows, columns))))
            for depth, post, layer in zip(
                tokens, self.act_postprocess, self.scratch.layer_rn, strict=True
            )
        ]
        fused = self.scratch.refinenet4(maps[3])
        fused = fused[:, :, : maps[2].shape[2], : maps[2].shape[3]]  # odd grids were rounded up
        fused = self.scratch.refinenet3(fused, maps[2])
        fused = self.scratch.refinenet2(fused, maps[1])
        fused = self.scratch.refinenet1(fused, maps[0])
        return self.head[2:](_doubled(self.head[0](fused)))


def _doubled(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
