"""Renderings: what the memory and a retrieval look like from given cameras, as tensors of colours.

In: memories, retrievals, rays. Out: images in [0, 1], masks, and shares of pixels.

In a vote map each pixel of a target has the colour of the first chosen view that saw its surfel.
Pale pixels were seen, but by no chosen view; dark ones were never seen.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from matplotlib import colormaps
from torch import Tensor

from vmemkit.core import Cameras, Splat, canvas_width
from vmemkit.figures.colors import view_colors
from vmemkit.memory import Memory, read, surfels_of
from vmemkit.retrieval import Retrieval

PALE, DARK = 0.84, 0.13  # grey levels: seen by no chosen view | never seen
SHADE = 0.35  # share of brightness that follows the surfels' own colour, to show their shapes
ROWS = 96  # height of a rendering, pixels


def look(memory: Memory, cameras: Cameras, rows: int = ROWS) -> Splat:
    """What the cameras (m,) see of the memory, on a canvas of square pixels."""
    return read(memory, cameras, rows, canvas_width(cameras, rows))


def recall(memory: Memory, cameras: Cameras, rows: int = ROWS) -> Float[Tensor, "m 3 h w"]:
    """The memory's surfels in their own colours, as the cameras (m,) see them."""
    return paint(memory, look(memory, cameras, rows), DARK)


def paint(
    memory: Memory,
    seen: Splat,
    background: float | tuple[float, float, float],
    colors: Float[Tensor, "n 3"] | None = None,
) -> Float[Tensor, "m 3 h w"]:
    """An image of a splat, with the surfels in `colors` (default: their own) and `background`, a grey
    level or a colour, where there are none."""
    colors = memory.surfels.color if colors is None else colors
    colors = torch.cat([colors, colors.new_tensor(background).expand(1, 3)])
    return colors[_surfel_rows(memory, seen)].permute(0, 3, 1, 2)


def vote_map(memory: Memory, retrieval: Retrieval) -> Float[Tensor, "m h w 3"]:
    """The query cameras' pixels in the colours of the chosen views that saw what is there.

    Policies that do not look at surfels are shown the same way, so that they can be compared.
    """
    chosen = view_colors(len(memory))[retrieval.chosen.cpu()].to(memory.device)
    colors = torch.cat([chosen, chosen.new_tensor([[PALE], [DARK]]).expand(2, 3)])
    brightness = torch.cat([memory.surfels.color.mean(-1), chosen.new_ones(1)])
    surfel = _surfel_rows(memory, query_splat(memory, retrieval))
    first = _first_chosen(memory, retrieval)[surfel]
    shade = torch.where(first < len(chosen), 1 - SHADE + SHADE * brightness[surfel], 1.0)
    return colors[first] * shade[..., None]


def seen_by(memory: Memory, retrieval: Retrieval, view: int) -> Bool[Tensor, "m h w"]:
    """The query cameras' pixels whose surfel a view saw, whatever the others saw."""
    saw = torch.zeros(len(memory.surfels) + 1, dtype=torch.bool, device=memory.device)
    saw[surfels_of(memory.packed_sightings, view)] = True
    return saw[_surfel_rows(memory, query_splat(memory, retrieval))]


def explained_shares(memory: Memory, retrieval: Retrieval) -> Float[Tensor, "m k"]:
    """Share of each query camera's pixels that each chosen view saw and no view chosen before it.

    The mean over the cameras is the share of all their pixels.
    """
    surfel = _surfel_rows(memory, query_splat(memory, retrieval))
    first = _first_chosen(memory, retrieval)[surfel].flatten(1)
    places = torch.arange(len(retrieval.chosen), device=memory.device)
    return (first[:, None] == places[:, None]).float().mean(-1)


def share_labels(memory: Memory, retrieval: Retrieval, total: bool = False) -> list[str]:
    """A label per chosen view: its number, and the share of the query pixels that it adds to those
    of the views chosen before it. With `total`, a second line has the share that it sees in all."""
    chosen = retrieval.chosen.tolist()
    added = explained_shares(memory, retrieval).mean(0).tolist()
    labels = [f"{view}: +{share:.0%}" for view, share in zip(chosen, added, strict=True)]
    if total:
        seen = [float(seen_by(memory, retrieval, view).float().mean()) for view in chosen]
        labels = [f"{label}\nsees {share:.0%}" for label, share in zip(labels, seen, strict=True)]
    return labels


def first_to_see(memory: Memory, views: Int[Tensor, " k"]) -> Int[Tensor, " n"]:
    """Per surfel the place among `views` of the first that saw it; k where none of them did."""
    first = torch.full((len(memory.surfels),), len(views), device=memory.device)
    for place, view in reversed(list(enumerate(views.tolist()))):
        first[surfels_of(memory.packed_sightings, view)] = place
    return first


def query_splat(memory: Memory, retrieval: Retrieval) -> Splat:
    """What the query cameras saw; rendered here for policies that do not look at surfels."""
    return look(memory, retrieval.query) if retrieval.splat is None else retrieval.splat


def depth_images(depth: Float[Tensor, "m h w"]) -> tuple[Float[Tensor, "m 3 h w"], str]:
    """Depths in colours, and the scale in words: from yellow for what is near to violet for what is
    far, even in 1 / depth, so that a single far pixel does not darken the rest. Sky (infinite depth)
    is violet, and unknown depths (NaN, or not above 0) are dark grey."""
    known = depth.isfinite() & (depth > 0)
    if not known.any():
        return torch.full_like(depth, DARK)[:, None].expand(-1, 3, -1, -1), "no depth is known"
    inverse = torch.where(known, 1 / depth, 0)
    low, high = _ends(inverse[known])
    shares = ((inverse - low) / max(high - low, 1e-9)).clamp(0, 1)
    colors = torch.from_numpy(colormaps["plasma"](shares.cpu().numpy())[..., :3]).to(depth)
    colors = torch.where((known | depth.isposinf())[..., None], colors, DARK).permute(0, 3, 1, 2)
    return colors, f"depth from {1 / high:.3g} (yellow) to {1 / low:.3g} (violet)"


def _ends(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """The values that a hundredth of all is below or above; every one of many is enough."""
    sample = values[:: 1 + len(values) // 100_000]
    low, high = sample.quantile(sample.new_tensor([0.01, 0.99])).tolist()
    return low, high


def grey_images(values: Float[Tensor, "m h w"]) -> Float[Tensor, "m 3 h w"]:
    """Values from 0 (black) to their maximum (white), such as cosines."""
    return (values / values.max().clamp(min=1e-9))[:, None].expand(-1, 3, -1, -1)


def ray_colors(
    lines: Float[Tensor, "t 6 h w"],
) -> tuple[Float[Tensor, "t 3 h w"], Float[Tensor, "t 3 h w"]]:
    """Pluecker maps as two images, direction and moment, with x, y, z as red, green, blue.

    Grey is 0. Directions reach from -1 to 1; moments are scaled by one factor for all frames.
    """
    direction, moment = lines.split(3, dim=1)
    reach = moment.abs().amax().clamp(min=1e-9)
    return direction / 2 + 0.5, moment / (2 * reach) + 0.5


def _first_chosen(memory: Memory, retrieval: Retrieval) -> Int[Tensor, " rows"]:
    """`first_to_see` of the chosen views, and k + 1 in an extra row that stands for no surfel."""
    first = first_to_see(memory, retrieval.chosen)
    return torch.cat([first, first.new_full((1,), len(retrieval.chosen) + 1)])


def _surfel_rows(memory: Memory, seen: Splat) -> Int[Tensor, "m h w"]:
    """The surfel behind each pixel; where there is none, the row after the last surfel."""
    return torch.where(seen.surfel >= 0, seen.surfel, len(memory.surfels))
