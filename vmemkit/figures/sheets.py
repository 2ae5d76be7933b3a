"""Sheets: rows and columns of images that show what a walk retrieved, why, and what came of it.

In: memories, retrievals, steps, images. Out: pictures (matplotlib), returned and never shown:
notebooks show them, `figure.savefig` writes them. renderings.py says what vote maps mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox
from torch import Tensor

from vmemkit.figures.colors import CARD_INK, CARD_QUIET, text_color, view_colors
from vmemkit.figures.picture import PAGE_WIDTH, POINTS, Picture, fitting, on_card
from vmemkit.figures.renderings import recall, share_labels, vote_map
from vmemkit.memory import Memory
from vmemkit.pipeline import Step
from vmemkit.reconstruction import DepthFit, FitConfig
from vmemkit.retrieval import Retrieval

GAP, SEAM, FRAME = 0.07, 0.03, 0.024  # inches: between cells, between their images, frame width
HEADING, TITLE = 0.26, 0.32  # inches: height of the line of headings, of the title
LABEL_SIZE, HEADING_SIZE, TITLE_SIZE = 8.0, 9.5, 11.0  # points: 11, 13 and 15 pixels in notebooks


@dataclass(frozen=True)
class Cell:
    """Images that share a place of a sheet, `across` beside each other.

    With `views`, each has a frame in its view's colour. Labels stand in the lower left corners.
    """

    images: Float[Tensor, "n 3 h w"]
    views: Sequence[int] | None = None
    labels: Sequence[str] = ()
    columns: int | None = None  # None: a square mosaic

    @property
    def across(self) -> int:
        return self.columns or max(1, math.ceil(math.sqrt(len(self.images))))

    @property
    def down(self) -> int:
        return math.ceil(len(self.images) / self.across)


# ---- figures -------------------------------------------------------------------------------------


def contact_sheet(
    steps: Sequence[Step],
    truth: Float[Tensor, "n 3 h w"] | None = None,
    title: str | None = None,
    rows: int | Sequence[int] = 4,
) -> Picture:
    """A row per shown step: its first and last target, the votes for them, the chosen views with the
    share of all targets' pixels that each explains, and the two generated views with their numbers.

    `truth` holds the true images of the whole path; without it the targets are shown as far as the
    memory recalls them. `rows` is the number of steps to show, evenly spaced, or their indices.
    Errors: ValueError for no steps, an index that no step has, and truth of another length.
    """
    shown, starts = _shown(steps, rows), [0, *itertools.accumulate(len(s.targets) for s in steps)]
    if truth is not None and len(truth) != starts[-1]:
        raise ValueError(f"truth needs an image per target, {starts[-1]}, got {len(truth)}")
    cells = []
    for i in shown:
        step, memory = steps[i], steps[i].before
        whole = slice(starts[i], starts[i + 1])
        targets = recall(memory, step.targets) if truth is None else truth[whole]
        votes = vote_map(memory, step.retrieval).permute(0, 3, 1, 2)
        chosen, ends = step.retrieval.chosen.tolist(), _ends(len(targets))
        new = [range(len(memory), len(step.memory))[end] for end in ends]
        kinds = ["given" if memory.views.given[view] else "view" for view in chosen]
        shares = share_labels(memory, step.retrieval)
        labels = [f"{kind} {share}" for kind, share in zip(kinds, shares, strict=True)]
        cells.append(
            [
                Cell(targets[ends], columns=1),
                Cell(votes[_ends(len(votes))], columns=1),
                Cell(step.context.image, chosen, labels),
                Cell(step.views.image[ends], new, [f"view {view}" for view in new], columns=1),
            ]
        )
    first = "targets, as recalled" if truth is None else "targets, in truth"
    aspect = _aspect(steps[0].views.image)
    spans = (1, 1, 2, 1) if max(row[0].down for row in cells) > 1 else (1, 1, 1, 1)
    return _sheet(cells, aspect, [first, "who saw it", "chosen", "generated"], title, spans)


def comparison(
    walks: Mapping[str, Sequence[Step]],
    truth: Float[Tensor, "n 3 h w"],
    moments: Sequence[int],
    title: str | None = None,
) -> Picture:
    """Walks of one path, by name, side by side: a row per moment (an index into the path) with the
    truth, and for each walk the chosen views and the view that was generated from them.

    Errors: ValueError for no walks, or moments that the path does not have.
    """
    if not walks or not moments or not all(0 <= i < len(truth) for i in moments):
        raise ValueError(f"need a walk, and moments from 0 to {len(truth) - 1}, got {moments}")
    cells = [[Cell(truth[moment : moment + 1])] for moment in moments]
    headings = ["truth"]
    for name, steps in walks.items():
        headings += [f"{name}: chosen", "generated"]
        generated = torch.cat([step.views.image for step in steps])
        step_of_moment = [step for step in steps for _ in range(len(step.targets))]
        for row, moment in zip(cells, moments, strict=True):
            step = step_of_moment[moment]
            row.append(Cell(step.context.image, step.retrieval.chosen.tolist()))
            row.append(Cell(generated[moment : moment + 1]))
    return _sheet(cells, _aspect(truth), headings, title)


def filmstrip(images: Float[Tensor, "t 3 h w"], columns: int = 8) -> Picture:
    """Images in reading order, framed in the colours of views 0 to t - 1.

    Errors: ValueError for no images, or no column.
    """
    if len(images) == 0 or columns < 1:
        raise ValueError(f"need images and a column, got {len(images)} images, {columns} columns")
    columns = min(columns, len(images))
    cells = [Cell(images[i : i + 1], [i], [str(i)]) for i in range(len(images))]
    starts = range(0, len(cells), columns)
    return _sheet([cells[start : start + columns] for start in starts], _aspect(images))


def choices(memory: Memory, retrievals: Mapping[str, Retrieval]) -> Picture:
    """A column per retrieval from one memory, by name: the vote map, and below it the chosen views
    with the share of the query cameras' pixels that each explains.

    Errors: ValueError for no retrievals.
    """
    if not retrievals:
        raise ValueError("choices needs at least one retrieval, got none")
    votes, chosen = [], []
    for retrieval in retrievals.values():
        votes.append(Cell(vote_map(memory, retrieval).permute(0, 3, 1, 2)))
        images = memory.views.image[retrieval.chosen]
        chosen.append(Cell(images, retrieval.chosen.tolist(), share_labels(memory, retrieval)))
    return _sheet([votes, chosen], _aspect(memory.views.image), list(retrievals))


def panels(images: Mapping[str, Float[Tensor, "c h w"]]) -> Picture:
    """Images side by side under their names. Images of one channel are grey and stretched to
    [0, 1], with unknown values (NaN) in black.

    Errors: ValueError for no images.
    """
    if not images:
        raise ValueError("panels needs at least one image, got none")
    cells = [
        Cell((_stretched(image) if len(image) == 1 else image)[None]) for image in images.values()
    ]
    return _sheet([cells], _aspect(cells[0].images), list(images))


def depth_fits(
    fits: Mapping[str, tuple[Float[Tensor, " n"], Float[Tensor, " n"], DepthFit]],
) -> Picture:
    """Per name: a network's depths against those that the memory knows, a dot per surfel, and the
    line of the fit. Dots that the fit explains are blue, the others grey.

    Errors: ValueError for no fits.
    """
    if not fits:
        raise ValueError("depth_fits needs at least one fit, got none")
    columns = max(2, len(fits))
    picture = Picture(PAGE_WIDTH, 0.9 * PAGE_WIDTH / columns, layout="tight")
    for column, (name, (depth, reference, fit)) in enumerate(fits.items(), start=1):
        axes = picture.add_subplot(1, columns, column)
        explained = (fit(depth) / reference - 1).abs() < FitConfig.tolerance
        for dots, color in ((~explained, "#6d747c"), (explained, "#56b4e9")):
            axes.plot(depth[dots], reference[dots], ".", color=color, markersize=1.5)
        ends = torch.stack([depth.min(), depth.max()])
        axes.plot(ends, fit(ends), color="#f0a044", linewidth=1.2)
        axes.set_title(name, fontsize=9.5)
        axes.set_xlabel("depth, the network's units", fontsize=8)
        axes.set_ylabel("depth that the memory knows, m" if column == 1 else "", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        on_card(axes)
    return picture


def grid(
    rows: Mapping[str, Float[Tensor, "n 3 h w"]],
    headings: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
) -> Picture:
    """A row of images per name; the name stands in the row's first image. `headings` stand above
    the columns; `columns` are the indices of the images to show, all by default.

    Errors: ValueError for no images, rows of different shapes, an index that the rows do not have,
    or a number of headings that is not that of the columns.
    """
    count = len(next(iter(rows.values()))) if rows else 0
    shown = list(range(count) if columns is None else columns)
    inside = all(0 <= i < count for i in shown)
    if not shown or not inside or len({images.shape for images in rows.values()}) != 1:
        shapes = {name: list(images.shape) for name, images in rows.items()}
        raise ValueError(
            "a grid needs rows of as many images of one size, at least one, and columns of them, "
            f"got {shapes} and columns {shown}"
        )
    if headings is not None and len(headings) != len(shown):
        raise ValueError(f"need a heading for each of {len(shown)} columns, got {len(headings)}")
    cells = []
    for name, images in rows.items():
        labels = [name] + [""] * (len(shown) - 1)
        row = zip(shown, labels, strict=True)
        cells.append([Cell(images[i : i + 1], labels=[label]) for i, label in row])
    return _sheet(cells, _aspect(next(iter(rows.values()))), headings or ())


# ---- layout --------------------------------------------------------------------------------------


def _sheet(
    cells: Sequence[Sequence[Cell]],
    aspect: float,
    headings: Sequence[str] = (),
    title: str | None = None,
    spans: Sequence[int] | None = None,
) -> Picture:
    """Rows of cells under headings and a title. Images have width / height `aspect`; a column is as
    wide as `spans` of it says, in images beside each other, by default all are equal."""
    spans = [1] * len(cells[0]) if spans is None else spans
    free = PAGE_WIDTH - (len(spans) + 1) * GAP - (sum(spans) - len(spans)) * SEAM
    widths = [span * free / sum(spans) + (span - 1) * SEAM for span in spans]
    lefts = [GAP, *(GAP + x for x in itertools.accumulate(width + GAP for width in widths))]
    sizes = [
        [_image_size(cell, x, aspect) for cell, x in zip(row, widths, strict=False)]
        for row in cells
    ]
    heights = [
        max(cell.down * (h + SEAM) - SEAM for cell, (_, h) in zip(*row, strict=True))
        for row in zip(cells, sizes, strict=True)
    ]
    top = (HEADING if headings else 0) + (TITLE if title else GAP)
    page_height = top + sum(heights) + len(heights) * GAP
    picture = Picture(PAGE_WIDTH, page_height)
    axes = picture.add_page()  # in shares of the page, from its lower left corner
    if title:
        middle = 1 - (TITLE + GAP) / 2 / page_height
        style = {"size": TITLE_SIZE, "weight": "bold", "va": "center_baseline", "color": CARD_INK}
        axes.text(GAP / PAGE_WIDTH, middle, title, fontdict=style)
    for left, width, heading in zip(lefts, widths, headings, strict=False):
        corner, lift = (left / PAGE_WIDTH, 1 - top / page_height), 0.25 * HEADING * POINTS
        _write(
            axes,
            heading,
            corner,
            (0, lift),
            size=fitting(heading, width, HEADING_SIZE),
            color=CARD_QUIET,
        )
    for row, row_sizes, height in zip(cells, sizes, heights, strict=True):
        for cell, (w, h), left in zip(row, row_sizes, lefts, strict=False):
            boxes = []
            for i in range(len(cell.images)):
                x = left + i % cell.across * (w + SEAM)
                y = page_height - top - i // cell.across * (h + SEAM) - h
                boxes.append(
                    Bbox.from_bounds(
                        x / PAGE_WIDTH, y / page_height, w / PAGE_WIDTH, h / page_height
                    )
                )
            _draw_cell(axes, boxes, cell)
        top += height + GAP
    return picture


def _image_size(cell: Cell, width: float, aspect: float) -> tuple[float, float]:
    """Width and height of the images of a cell, inches."""
    width = (width - (cell.across - 1) * SEAM) / cell.across
    return width, width / aspect


def _draw_cell(axes: Axes, boxes: Sequence[Bbox], cell: Cell) -> None:
    """The images of a cell, each in its box of the page."""
    for i, image in enumerate(cell.images):
        box, color = boxes[i], torch.ones(3)
        pixels = image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy()
        axes.imshow(pixels, extent=(box.x0, box.x1, box.y0, box.y1), aspect="auto")
        if cell.views is not None:
            color = view_colors(cell.views[i] + 1)[cell.views[i]]
            frame = Rectangle(box.p0, box.width, box.height, fill=False, edgecolor=color.tolist())
            frame.set_linewidth(2 * FRAME * POINTS)
            axes.add_patch(frame)
            frame.set_clip_box(TransformedBbox(box, axes.transData))  # keeps the inner half
        if cell.labels and cell.labels[i]:
            chip = {"facecolor": color.tolist(), "edgecolor": "none", "pad": FRAME * POINTS}
            style = {"size": LABEL_SIZE, "color": text_color(color), "bbox": chip}
            inside = (2 * FRAME * POINTS, 2 * FRAME * POINTS)
            _write(axes, cell.labels[i], (box.x0, box.y0), inside, **style)


def _write(
    axes: Axes, text: str, corner: tuple[float, float], offset: tuple[float, float], **style: Any
) -> None:
    """A text that begins `offset` points to the upper right of a corner."""
    axes.annotate(text, corner, xytext=offset, textcoords="offset points", **style)


def _shown(steps: Sequence[Step], rows: int | Sequence[int]) -> list[int]:
    """Indices of the steps to show. Errors: ValueError for none, and for those out of range."""
    if isinstance(rows, int):
        count = min(rows, len(steps))
        rows = [round(i * (len(steps) - 1) / max(1, count - 1)) for i in range(count)]
    if not rows or not all(0 <= i < len(steps) for i in rows):
        raise ValueError(f"need steps and rows of them, got {len(steps)} steps and rows {rows}")
    return list(rows)


def _ends(count: int) -> list[int]:
    """The first and the last of so many: four images in a place of a sheet would be too small."""
    return [0, -1] if count > 1 else [0]


def _stretched(image: Float[Tensor, "1 h w"]) -> Float[Tensor, "3 h w"]:
    """Values as grey levels from 0 for the least to 1 for the greatest; NaN becomes 0."""
    known = image[image.isfinite()]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return ((image - low) / max(high - low, 1e-12)).nan_to_num(0).expand(3, -1, -1)


def _aspect(images: Float[Tensor, "t c h w"]) -> float:
    """Width / height."""
    return images.shape[3] / images.shape[2]
