"""Palettes: what the colour of a surfel can say.

In: a memory, and a retrieval where the question is about one. Out: a colour per surfel.
Views have the colours of pictures.py throughout; amounts go from dark blue (few) to yellow (many),
which colour-blind readers tell apart and grey printers keep in order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from matplotlib import colormaps
from torch import Tensor

from vmemkit.figures.pictures import PALE, SHADE, first_to_see, look, view_colors
from vmemkit.memory import Memory, last_seen, sighting_counts
from vmemkit.retrieval import Retrieval, pixels_per_surfel

# What each mode says, for legends.
MODES = {
    "image": "the colour that the surfel's pixel had",
    "newest view": "the last view that saw it, in that view's colour",
    "sightings": "how many views saw it: dark blue once, yellow {most} times",
    "normal": "its normal: red is x (right), green y (down), blue z (ahead)",
    "vote weight": "how many target pixels it votes for: dark blue few, yellow {most}, grey none",
    "votes for": "the first chosen view that saw it; pale: seen by no chosen view; grey: no target sees it",
}

OF_RETRIEVAL = ("vote weight", "votes for")  # modes that are about a retrieval

AMOUNTS = "cividis"  # Nunez et al., 2018: even to normal and to colour-blind eyes

ASIDE = 0.72  # grey level of surfels that the question is not about

DIM = 0.82  # how far what is not lit goes towards white


def surfel_colors(
    memory: Memory, mode: str, retrieval: Retrieval | None = None
) -> Float[Tensor, "n 3"]:
    """RGB in [0, 1] of every surfel, in one of `MODES`.

    Errors: ValueError for another mode, and for a mode about a retrieval without one.
    """
    if mode not in MODES:
        raise ValueError(f"unknown colour mode {mode!r}: choose from {', '.join(MODES)}")
    if mode in OF_RETRIEVAL and retrieval is None:
        raise ValueError(f"{mode!r} is about a retrieval: pass one, or choose another mode")
    surfels = memory.surfels
    if len(surfels) == 0 or mode == "image":
        return surfels.color.clone()
    if mode == "normal":
        return 0.5 + 0.5 * surfels.normal
    if mode == "newest view":
        newest = last_seen(memory.packed_sightings, len(surfels))
        return _shaded(view_colors(len(memory)).to(memory.device)[newest], memory)
    if mode == "sightings":
        return _shaded(amounts(_sightings(memory)), memory)
    looked = _looked_at(memory, retrieval)
    if mode == "vote weight":
        return _shaded(amounts(looked), memory)
    chosen = view_colors(len(memory))[retrieval.chosen.cpu()].to(memory.device)
    colors = torch.cat([chosen, chosen.new_full((1, 3), PALE)])[
        first_to_see(memory, retrieval.chosen)
    ]
    return _shaded(torch.where((looked > 0)[:, None], colors, ASIDE), memory)


def legend(memory: Memory, mode: str, retrieval: Retrieval | None = None) -> str:
    """What the colours of a mode mean, with its greatest amount."""
    most = 0
    if len(memory.surfels) and mode == "sightings":
        most = int(_sightings(memory).max())
    elif len(memory.surfels) and mode == "vote weight" and retrieval is not None:
        most = int(_looked_at(memory, retrieval).max())
    return MODES[mode].format(most=most)


def spotlight(
    memory: Memory, colors: Float[Tensor, "n 3"], views: Int[Tensor, " k"] | None
) -> Float[Tensor, "n 3"]:
    """The colours with all surfels that none of `views` saw faded; those of one view alone, or
    first seen by it among `views`, take its colour. None lights everything."""
    if views is None or len(colors) == 0:
        return colors
    first = first_to_see(memory, views)
    own = view_colors(len(memory)).to(memory.device)[views]
    faded = colors + DIM * (1 - colors)
    shade = 0.45 + 0.55 * colors.mean(-1, keepdim=True)  # shapes stay readable
    return torch.where(
        (first < len(views))[:, None], torch.cat([own, faded[:1]])[first] * shade, faded
    )


def amounts(values: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Colours of counts on a logarithmic scale that ends at the greatest; zeros are grey."""
    scale = torch.log2(values.clamp(min=1)) / torch.log2(values.max().clamp(min=2))
    table = torch.tensor(colormaps[AMOUNTS].colors, device=values.device).float()
    colors = table[(scale * (len(table) - 1)).round().long()]
    return torch.where((values > 0)[:, None], colors, ASIDE)


def _shaded(colors: Float[Tensor, "n 3"], memory: Memory) -> Float[Tensor, "n 3"]:
    """Colours that partly follow the surfels' own brightness, so that shapes are to be seen."""
    return colors * (1 - SHADE + SHADE * memory.surfels.color.mean(-1, keepdim=True))


def _sightings(memory: Memory) -> Float[Tensor, " n"]:
    return sighting_counts(memory.packed_sightings, len(memory.surfels)).float()


def _looked_at(memory: Memory, retrieval: Retrieval) -> Float[Tensor, " n"]:
    """Target pixels that each surfel won, also for policies that do not look."""
    seen = look(memory, retrieval.query) if retrieval.splat is None else retrieval.splat
    return pixels_per_surfel(memory, seen)
