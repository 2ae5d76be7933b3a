"""Colours that all figures share: one per view, the greys of texts, and names that browsers know.

A view has the same colour in every figure and widget, however many views there are.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from matplotlib.colors import to_hex
from torch import Tensor

from vmemkit.core import LUMA

INK, QUIET = "#22262b", "#6d747c"  # main texts and lines | secondary texts
WHITE = "#ffffff"
# Pictures are JPEG, which cannot be transparent, so they lie on a dark card, as photographs do in an
# album. It fits light and dark pages, and its texts can be read on both.
CARD, CARD_INK, CARD_QUIET = "#2d3238", "#e8eaed", "#aab1b9"

# View colours: OKLCh hue and lightness advance by fixed shares of their ranges. A search chose the
# shares so that views less than 30 apart differ most, to normal eyes and to simulated colour-blind
# ones (Machado et al., 2009). OKLab: Ottosson, 2020.
HUE_START, HUE_STEP, LIGHTNESS_STEP = 0.683, 0.6997, 0.756
LIGHTNESS, CHROMA = (0.48, 0.86), 0.15


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


def _rgb_from_oklab(
    lightness: Float[Tensor, " n"], a: Float[Tensor, " n"], b: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """sRGB in [0, 1]; colours that screens cannot show are clipped."""
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


def view_hex(view: int) -> str:
    """A view's colour as #rrggbb, for matplotlib, plotly and browsers."""
    red, green, blue = view_colors(view + 1)[view].tolist()
    return to_hex((red, green, blue))


def text_color(background: Float[Tensor, " 3"]) -> str:
    """INK on light backgrounds, white on dark ones."""
    return INK if float(background @ background.new_tensor(LUMA)) > 0.5 else WHITE


def chip(view: int) -> str:
    """A view's number on its colour, in HTML."""
    ink = text_color(view_colors(view + 1)[view])
    style = f"background:{view_hex(view)};color:{ink};padding:0 4px;border-radius:3px"
    return f'<span style="{style}">{view}</span>'
