"""Palettes: what the colour of a surfel can say.

In: a memory, and a retrieval where the colours are about one. Out: a colour per surfel.
Views have their own colours throughout (colors.py). Amounts go from dark blue (few) to yellow
(many): colour-blind readers tell these apart, and grey printers keep their order.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from torch import Tensor

from vmemkit.core import SAME_SURFACE, Views, surface_at
from vmemkit.figures.colors import view_colors
from vmemkit.figures.renderings import PALE, SHADE, first_to_see, query_splat
from vmemkit.memory import Memory, last_seen, sighting_counts, surfels_of
from vmemkit.retrieval import Retrieval, pixels_per_surfel

# The colour modes, and the legend of each.
COLOR_MODES = {
    "image": "the colour that the surfel's pixel had",
    "newest view": "the last view that saw it, in that view's colour",
    "sightings": "how many views saw it: dark blue once, yellow {most} times",
    "origin": "dark blue: a given view saw it; light blue: generated where a given view looks; "
    "orange: invented where no given view looks",
    "normal": "its normal: red is x (right), green y (down), blue z (ahead)",
    "vote weight": "how many target pixels it votes for: dark blue few, yellow {most}, grey none",
    "votes for": "the first chosen view that saw it; pale: seen by no chosen view; "
    "grey: no target sees it",
}

RETRIEVAL_MODES = ("vote weight", "votes for")  # colour modes that need a retrieval

# Colours of surfels by where they come from, by the codes of `origins` (Okabe and Ito, 2008).
ORIGIN_COLORS = ("#0072b2", "#56b4e9", "#e69f00")
GIVEN, GENERATED, INVENTED = range(3)
APPEARANCES = ("shown", "faded", "hidden")  # what a scene can do with invented surfels
AMOUNTS = "cividis"  # Nunez et al., 2018: even to normal and to colour-blind eyes
UNSEEN = 0.72  # grey level of surfels that no target sees
FAINT = 0.18  # opacity of surfels outside the spotlight


def surfel_colors(
    memory: Memory, mode: str, retrieval: Retrieval | None = None
) -> Float[Tensor, "n 3"]:
    """RGB in [0, 1] of every surfel, in one of `COLOR_MODES`.

    Errors: ValueError for another mode, and for a mode about a retrieval without one.
    """
    if mode not in COLOR_MODES:
        raise ValueError(f"unknown colour mode {mode!r}: choose from {', '.join(COLOR_MODES)}")
    if mode in RETRIEVAL_MODES and retrieval is None:
        raise ValueError(f"{mode!r} is about a retrieval: pass one, or choose another mode")
    surfels = memory.surfels
    if len(surfels) == 0 or mode == "image":
        return surfels.color.clone()
    if mode == "normal":
        return 0.5 + 0.5 * surfels.normal
    if mode == "newest view":
        newest = last_seen(memory.packed_sightings, len(surfels))
        return _shaded(view_colors(len(memory)).to(memory.device)[newest], memory)
    if mode == "origin":
        table = torch.tensor([to_rgb(color) for color in ORIGIN_COLORS], device=memory.device)
        return _shaded(table[origins(memory)], memory)
    if mode == "sightings":
        return _shaded(amount_colors(_sightings(memory)), memory)
    pixels = pixels_per_surfel(memory, query_splat(memory, retrieval))
    if mode == "vote weight":
        return _shaded(amount_colors(pixels), memory)
    chosen = view_colors(len(memory))[retrieval.chosen.cpu()].to(memory.device)
    colors = torch.cat([chosen, chosen.new_full((1, 3), PALE)])
    colors = colors[first_to_see(memory, retrieval.chosen)]
    return _shaded(torch.where((pixels > 0)[:, None], colors, UNSEEN), memory)


def legend(memory: Memory, mode: str, retrieval: Retrieval | None = None) -> str:
    """What the colours of a mode mean, with the greatest amount that they show."""
    most = 0
    if len(memory.surfels) and mode == "sightings":
        most = int(_sightings(memory).max())
    elif len(memory.surfels) and mode == "vote weight" and retrieval is not None:
        most = int(pixels_per_surfel(memory, query_splat(memory, retrieval)).max())
    return COLOR_MODES[mode].format(most=most)


def origins(memory: Memory) -> Int[Tensor, " n"]:
    """Where each surfel comes from.

    GIVEN: a given view saw it. GENERATED: only generated views did, but it lies where a given view
    looks, within SAME_SURFACE of the surface that this view sees. INVENTED: all others.
    """
    origin = torch.full((len(memory.surfels),), INVENTED, device=memory.device)
    given = memory.views.given.nonzero()[:, 0].tolist()
    for view in given:
        origin[surfels_of(memory.packed_sightings, view)] = GIVEN
    for view in given:
        rest = (origin == INVENTED).nonzero()[:, 0]
        on_surface = _on_surface(memory.views[view : view + 1], memory.surfels.position[rest])
        origin[rest[on_surface]] = GENERATED
    return origin


def _on_surface(view: Views, points_world: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Which points lie near the surface that a view (1,) sees at their pixel. Sky is no surface."""
    depth, surface = surface_at(view, points_world)
    return surface.isfinite() & ((depth - surface).abs() <= SAME_SURFACE * surface)


def spotlight(
    memory: Memory, colors: Float[Tensor, "n 3"], views: Int[Tensor, " k"] | None
) -> Float[Tensor, "n 4"]:
    """The colours and opacities with a light on what `views` saw: those surfels take the colour of
    the first of `views` that saw them, and all others fade. With None, all are opaque."""
    opaque = torch.ones_like(colors[:, :1])
    if views is None or len(colors) == 0:
        return torch.cat([colors, opaque], 1)
    first = first_to_see(memory, views)
    own = view_colors(len(memory)).to(memory.device)[views]
    own = torch.cat([own, own.new_zeros(1, 3)])[first]
    brightness = 0.45 + 0.55 * colors.mean(-1, keepdim=True)  # shows the shapes
    lit = (first < len(views))[:, None]
    return torch.cat([torch.where(lit, own * brightness, colors), lit + ~lit * FAINT], 1)


def without_invention(
    memory: Memory, paint: Float[Tensor, "n 4"], invented: str
) -> Float[Tensor, "n 4"]:
    """The colours and opacities with invented surfels "shown", "faded" or "hidden".

    Errors: ValueError for another word.
    """
    if invented not in APPEARANCES:
        raise ValueError(f"invented surfels can be {', '.join(APPEARANCES)}, got {invented!r}")
    if invented == "shown" or len(paint) == 0:
        return paint
    most = torch.where(origins(memory) == INVENTED, FAINT if invented == "faded" else 0.0, 1.0)
    return torch.cat([paint[:, :3], torch.minimum(paint[:, 3:], most[:, None])], 1)


def amount_colors(values: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Colours of counts on a logarithmic scale that ends at the greatest; zeros are grey."""
    scale = torch.log2(values.clamp(min=1)) / torch.log2(values.max().clamp(min=2))
    colormap = colormaps[AMOUNTS]
    table = torch.from_numpy(colormap(np.arange(colormap.N))[:, :3]).float().to(values.device)
    colors = table[(scale * (len(table) - 1)).round().long()]
    return torch.where((values > 0)[:, None], colors, UNSEEN)


def _shaded(colors: Float[Tensor, "n 3"], memory: Memory) -> Float[Tensor, "n 3"]:
    """Colours that partly follow the surfels' own brightness, to show the shapes."""
    return colors * (1 - SHADE + SHADE * memory.surfels.color.mean(-1, keepdim=True))


def _sightings(memory: Memory) -> Float[Tensor, " n"]:
    return sighting_counts(memory.packed_sightings, len(memory.surfels)).float()
