"""Picture: the kind of matplotlib figure that all printed figures of this room are."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vmemkit.core import replacing
from vmemkit.figures.colors import CARD, CARD_INK, CARD_QUIET

DPI, NOTEBOOK_DPI = 150, 100  # pixels per inch: in saved files, in notebooks
POINTS = 72  # per inch
LETTER = 0.6  # mean width of a letter, as a share of its size
PAGE_WIDTH = 8.0  # inches: 1200 pixels in files, 800 in notebooks
JPEG = {"quality": 64, "optimize": True, "progressive": True}  # shows no loss at these sizes


class Picture(Figure):
    """A matplotlib figure that notebooks show without pyplot, which would keep global state.

    They store it as JPEG, because rendered rooms are twice as large in PNG, even with 255 colours,
    and nbconvert shows no WebP. So it is a card that fits light and dark pages.
    """

    def __init__(self, width: float, height: float, **options) -> None:
        """`width` and `height` are in inches; `options` are matplotlib's."""
        super().__init__((width, height), **{"dpi": DPI, "facecolor": CARD, **options})
        FigureCanvasAgg(self)

    def _repr_jpeg_(self) -> bytes:
        jpeg = io.BytesIO()
        self.savefig(jpeg, format="jpeg", dpi=NOTEBOOK_DPI, pil_kwargs=JPEG)
        return jpeg.getvalue()

    def __repr__(self) -> str:
        """The same on every machine; matplotlib's has the size in pixels."""
        return "Picture()"

    def add_page(self) -> Axes:
        """Axes without ticks or frame that fill the picture; they count from 0 to 1 both ways."""
        axes = self.add_axes((0, 0, 1, 1), autoscale_on=False)
        axes.set_axis_off()
        return axes


def on_card(axes: Axes) -> None:
    """Let the card show through axes, and make their words and lines legible on it."""
    axes.set_facecolor("none")
    axes.tick_params(colors=CARD_QUIET)
    axes.spines[:].set_color(CARD_QUIET)
    for words in (axes.title, axes.xaxis.label, axes.yaxis.label):
        words.set_color(CARD_INK)


def fitting(words: str, width: float, most: float) -> float:
    """A size, in points and at most `most`, at which words are not wider than `width` inches."""
    return min(most, width * POINTS / (LETTER * max(1, len(words))))


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the format that the suffix of `path` names, completely or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft)
