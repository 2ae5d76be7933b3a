"""Pages: the layout that all printed figures share."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from vmemkit.core import LUMA, replacing
from vmemkit.figures.pictures import view_colors


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as the suffix of `path` says; complete or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft)


PAPER = 1.0  # grey level of plans

INK, QUIET = "#22262b", "#6d747c"  # of texts

DPI, POINTS = 150, 72  # per inch

NOTEBOOK_DPI = 100  # the width of a notebook's page

JPEG = {"quality": 64, "optimize": True, "progressive": True}  # of 100: no loss is to be seen

PAGE = 8.0  # inches: 1200 pixels, the width of a page of documentation

GAP, SEAM, FRAME = 0.07, 0.03, 0.024  # inches: between cells, between their images, round these

HEADING, TITLE = 0.22, 0.3  # inches


class Picture(Figure):
    """A matplotlib figure that notebooks show without pyplot, which would keep global state.

    They keep it as JPEG, since rendered rooms are four times as large as PNG.
    """

    def _repr_jpeg_(self) -> bytes:
        jpeg = io.BytesIO()
        self.savefig(jpeg, format="jpeg", dpi=NOTEBOOK_DPI, pil_kwargs=JPEG)
        return jpeg.getvalue()

    def __repr__(self) -> str:
        """The same on every machine; matplotlib's has the size in pixels."""
        return "Picture()"


# ---- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A grid of equal cells for images under headings; lengths in inches, from the top left."""

    figure: Figure
    axes: Axes  # over the whole page, in inches
    cell: tuple[float, float]  # width, height
    top: float  # of the first row

    @classmethod
    def of(
        cls,
        rows: int,
        columns: int,
        aspect: float,
        title: str | None = None,
        heading: float = HEADING,
    ) -> Page:
        """A page of PAGE inches in width, with its title."""
        width = (PAGE - (columns + 1) * GAP) / columns
        top = heading + (TITLE if title else GAP)
        height = top + rows * (width / aspect + GAP)
        figure, axes = new_figure(PAGE, height)
        axes.set(xlim=(0, PAGE), ylim=(height, 0), autoscale_on=False)
        if title:
            _write(axes, GAP, TITLE / 2 + GAP / 2, title, size=9, weight="bold")
        return cls(figure, axes, (width, width / aspect), top)

    def heading(self, column: int, text: str) -> None:
        left = GAP + column * (self.cell[0] + GAP)
        _write(self.axes, left, self.top - HEADING / 2, text, size=7.5, color=QUIET)

    def name(self, row: int, text: str) -> None:
        """A text in the first cell of a row."""
        below = self.top + row * (self.cell[1] + GAP) + self.cell[1]
        _label(self.axes, GAP, below, text, torch.ones(3))

    def mosaic(
        self,
        row: int,
        column: int,
        images: Float[Tensor, "n 3 h w"],
        views: Sequence[int] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Images in a square grid within one cell, framed in the colours of `views`."""
        side = max(1, math.ceil(math.sqrt(len(images))))
        width, height = ((length - (side - 1) * SEAM) / side for length in self.cell)
        for i, image in enumerate(images):
            left = GAP + column * (self.cell[0] + GAP) + (i % side) * (width + SEAM)
            above = self.top + row * (self.cell[1] + GAP) + (i // side) * (height + SEAM)
            extent = (left, left + width, above + height, above)
            pixels = image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy()
            self.axes.imshow(pixels, extent=extent, aspect="auto")
            if views is not None:
                color = view_colors(views[i] + 1)[views[i]]
                _frame(self.axes, left, above, width, height, color)
                _label(self.axes, left, above + height, labels[i] if labels else "", color)


def _frame(axes: Axes, left: float, above: float, width: float, height: float, color) -> None:
    """A frame inside the image's edges."""
    corner, size = (left + FRAME / 2, above + FRAME / 2), (width - FRAME, height - FRAME)
    style = {"fill": False, "linewidth": POINTS * FRAME, "joinstyle": "miter"}
    axes.add_patch(Rectangle(corner, *size, edgecolor=color.tolist(), **style))


def _label(axes: Axes, left: float, below: float, text: str, color) -> None:
    """A text in the lower left corner of an image, on the frame's colour."""
    if not text:
        return
    ink = INK if float(color @ color.new_tensor(LUMA)) > 0.5 else "white"
    chip = {"facecolor": color.tolist(), "edgecolor": "none", "pad": POINTS * FRAME}
    at = (left + 2 * FRAME, below - 2 * FRAME)
    axes.text(*at, text, size=5.5, color=ink, bbox=chip, va="baseline")


def _write(axes: Axes, left: float, middle: float, text: str, **style) -> None:
    axes.text(left, middle, text, va="center_baseline", **{"color": INK, **style})


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure, inches, and axes that fill it."""
    figure = Picture(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes
