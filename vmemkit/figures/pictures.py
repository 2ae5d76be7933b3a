"""Pictures: what the memory knows and what a retrieval saw, as tensors of colours.

In: memories and retrievals, and rays. Out: images in [0, 1], and shares.

A view has one colour, the same in every picture (`view_colors`). In a vote map each pixel of a
target has the colour of the first chosen view that saw its surfel; pale was seen, but by no chosen
view; dark was never seen.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Splat
from vmemkit.memory import Memory, read, surfels_of
from vmemkit.retrieval import Retrieval

PALE, DARK = 0.84, 0.13  # grey levels: seen by no chosen view | never seen

# View colours: OKLCh hue and lightness advance by shares of their ranges that a search found to keep
# views less than 30 apart the most distinct, to normal eyes and to simulated colour-blind ones
# (Machado et al., 2009). OKLab: Ottosson, 2020.
HUE_START, HUE_STEP, LIGHTNESS_STEP = 0.683, 0.6997, 0.756

LIGHTNESS, CHROMA = (0.48, 0.86), 0.15

SHADE = 0.35  # share of a vote map's brightness that follows the surfels' own, to show their shapes

MAP_ROWS = 96  # of what is rendered for a picture


def view_colors(n: int) -> Float[Tensor, "n 3"]:
    """RGB in [0, 1] of views 0 to n - 1; the colour of a view does not depend on n."""
    return _view_colors(n).clone()


@lru_cache
def _view_colors(n: int) -> Float[Tensor, "n 3"]:
    index = torch.arange(n, dtype=torch.float64)
    hue = 2 * math.pi * ((HUE_START + HUE_STEP * index) % 1)
    low, high = LIGHTNESS
    lightness = low + (high - low) * ((0.5 + LIGHTNESS_STEP * index) % 1)
    return _rgb_from_oklab(lightness, CHROMA * hue.cos(), CHROMA * hue.sin()).float()


def vote_map(memory: Memory, retrieval: Retrieval) -> Float[Tensor, "m h w 3"]:
    """The query cameras' pixels in the colours of the chosen views that saw what they see.

    Policies that do not look are shown the same way, so that they can be compared.
    """
    chosen = view_colors(len(memory))[retrieval.chosen.cpu()].to(memory.device)
    colors = torch.cat([chosen, chosen.new_tensor([[PALE], [DARK]]).expand(2, 3)])
    brightness = torch.cat([memory.surfels.color.mean(-1), chosen.new_ones(1)])
    surfel = _surfel_or_last(memory, retrieval)
    first = _first_or_nothing(memory, retrieval)[surfel]
    shade = torch.where(first < len(chosen), 1 - SHADE + SHADE * brightness[surfel], 1.0)
    return colors[first] * shade[..., None]


def seen_by(memory: Memory, retrieval: Retrieval, view: int) -> Bool[Tensor, "m h w"]:
    """The query cameras' pixels whose surfel a view saw, whatever the others saw."""
    saw = torch.zeros(len(memory.surfels) + 1, dtype=torch.bool, device=memory.device)
    saw[surfels_of(memory.packed_sightings, view)] = True
    return saw[_surfel_or_last(memory, retrieval)]


def explained(memory: Memory, retrieval: Retrieval) -> Float[Tensor, "m k"]:
    """Share of each query camera's pixels that each chosen view saw, and no view chosen before it.

    The mean over the cameras is the share of the whole window.
    """
    first = _first_or_nothing(memory, retrieval)[_surfel_or_last(memory, retrieval)].flatten(1)
    places = torch.arange(len(retrieval.chosen), device=memory.device)
    return (first[:, None] == places[:, None]).float().mean(-1)


def first_to_see(memory: Memory, views: Int[Tensor, " k"]) -> Int[Tensor, " n"]:
    """Per surfel the place among `views` of the first that saw it; k where none of them did."""
    first = torch.full((len(memory.surfels),), len(views), device=memory.device)
    for place, view in reversed(list(enumerate(views.tolist()))):
        first[surfels_of(memory.packed_sightings, view)] = place
    return first


def ray_colors(
    lines: Float[Tensor, "t 6 h w"],
) -> tuple[Float[Tensor, "t 3 h w"], Float[Tensor, "t 3 h w"]]:
    """Pluecker maps as two pictures: direction and moment, x, y, z as red, green, blue. Grey is 0;
    directions reach from -1 to 1, moments are stretched, with one factor for all frames."""
    direction, moment = lines.split(3, dim=1)
    reach = moment.abs().amax().clamp(min=1e-9)
    return direction / 2 + 0.5, moment / (2 * reach) + 0.5


def look(memory: Memory, cameras: Cameras, rows: int = MAP_ROWS) -> Splat:
    """What the cameras (m,) see of the memory, in the format of its images."""
    height, width = memory.views.image.shape[2:]
    return read(memory, cameras, rows, max(1, round(rows * width / height)))


def recalled(memory: Memory, cameras: Cameras, rows: int = MAP_ROWS) -> Float[Tensor, "m 3 h w"]:
    """The memory's surfels in their own colours, as the cameras (m,) see them."""
    return painted(memory, look(memory, cameras, rows), DARK)


def painted(
    memory: Memory, seen: Splat, background: float, paint: Float[Tensor, "n 3"] | None = None
) -> Float[Tensor, "m 3 h w"]:
    """What was seen of the surfels, in their own colours or those of `paint`; the grey level
    `background` elsewhere."""
    color = memory.surfels.color if paint is None else paint
    color = torch.cat([color, color.new_full((1, 3), background)])
    return color[_or_last(seen, memory)].permute(0, 3, 1, 2)


def _surfel_or_last(memory: Memory, retrieval: Retrieval) -> Int[Tensor, "m h w"]:
    """The surfel behind each pixel of the query cameras, as `_or_last`."""
    seen = retrieval.splat
    return _or_last(look(memory, retrieval.query, MAP_ROWS) if seen is None else seen, memory)


def _first_or_nothing(memory: Memory, retrieval: Retrieval) -> Int[Tensor, " rows"]:
    """`first_to_see` of the chosen views, and k + 1 in an extra row for no surfel."""
    first = first_to_see(memory, retrieval.chosen)
    return torch.cat([first, first.new_full((1,), len(retrieval.chosen) + 1)])


def _or_last(seen: Splat, memory: Memory) -> Int[Tensor, "m h w"]:
    """The surfel behind each pixel; where there is none, the row after the last one."""
    return torch.where(seen.surfel >= 0, seen.surfel, len(memory.surfels))


def _rgb_from_oklab(
    lightness: Float[Tensor, " n"], a: Float[Tensor, " n"], b: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """sRGB in [0, 1], clipped to what screens show."""
    cones = (
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    )
    linear_from_cones = lightness.new_tensor(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (torch.stack(cones, -1) ** 3 @ linear_from_cones.T).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
