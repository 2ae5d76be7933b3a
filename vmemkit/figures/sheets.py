"""Figures: what the memory knows, what is retrieved and why, what comes of it.

In: memories, retrievals and steps, as the stages made them. Out: matplotlib figures, which are
returned, never shown or saved (`figure.savefig` does that; notebooks show them), made of the
pictures of pictures.py, which has the meaning of their colours.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import save_video
from vmemkit.figures.page import DPI, HEADING, INK, PAGE, QUIET, Page, Picture
from vmemkit.figures.pictures import explained, recalled, vote_map
from vmemkit.memory import Memory
from vmemkit.pipeline import Step
from vmemkit.reconstruction import DepthFit, FitConfig
from vmemkit.retrieval import Retrieval

# ---- figures -------------------------------------------------------------------------------------


def contact_sheet(
    steps: Sequence[Step],
    truth: Float[Tensor, "n 3 h w"] | None = None,
    title: str | None = None,
    rows: int | Sequence[int] = 4,
) -> Figure:
    """A row per shown step: its targets, the votes for them, the chosen views with the share of the
    targets' pixels that each explains, and the generated views with their numbers.

    `truth` holds the true images of the whole path; without it the targets are shown as far as the
    memory recalls them. `rows` is how many steps to show, evenly spaced, or which.
    Errors: ValueError for no steps, for rows that there are not, and for truth of another length.
    """
    shown, starts = _shown(steps, rows), [0, *itertools.accumulate(len(s.targets) for s in steps)]
    if truth is not None and len(truth) != starts[-1]:
        raise ValueError(f"truth needs an image per target, {starts[-1]}, got {len(truth)}")
    page = Page.of(len(shown), 4, _aspect(steps[0].views.image), title)
    targets = "targets, in truth" if truth is not None else "targets, as recalled"
    for column, heading in enumerate((targets, "who saw it", "chosen", "generated")):
        page.heading(column, heading)
    for row, i in enumerate(shown):
        step, memory = steps[i], steps[i].before
        whole = (
            recalled(memory, step.targets) if truth is None else truth[starts[i] : starts[i + 1]]
        )
        shares = explained(memory, step.retrieval).mean(0).tolist()
        chosen, made = step.retrieval.chosen.tolist(), range(len(memory), len(step.memory))
        kinds = ["given" if memory.views.given[view] else "view" for view in chosen]
        labels = [
            f"{kind} {view}: {share:.0%}"
            for kind, view, share in zip(kinds, chosen, shares, strict=True)
        ]
        page.mosaic(row, 0, whole)
        page.mosaic(row, 1, vote_map(memory, step.retrieval).permute(0, 3, 1, 2))
        page.mosaic(row, 2, step.context.image, chosen, labels)
        page.mosaic(row, 3, step.views.image, made, [f"view {view}" for view in made])
    return page.figure


def comparison(
    walks: Mapping[str, Sequence[Step]],
    truth: Float[Tensor, "n 3 h w"],
    moments: Sequence[int],
    title: str | None = None,
) -> Figure:
    """Walks of one path, by name, side by side: a row per moment (an index into the path) with the
    truth, and for each walk the chosen views and the view that was generated from them.

    Errors: ValueError for no walks, or moments that the path does not have.
    """
    if not walks or not moments or not all(0 <= i < len(truth) for i in moments):
        raise ValueError(f"need a walk, and moments from 0 to {len(truth) - 1}, got {moments}")
    page = Page.of(len(moments), 1 + 2 * len(walks), _aspect(truth), title)
    page.heading(0, "truth")
    for row, moment in enumerate(moments):
        page.mosaic(row, 0, truth[moment : moment + 1])
    for i, (name, steps) in enumerate(walks.items()):
        image = torch.cat([step.views.image for step in steps])
        owner = [step for step in steps for _ in range(len(step.targets))]
        page.heading(1 + 2 * i, f"{name}: chosen")
        page.heading(2 + 2 * i, "generated")
        for row, moment in enumerate(moments):
            step = owner[moment]
            page.mosaic(row, 1 + 2 * i, step.context.image, step.retrieval.chosen.tolist())
            page.mosaic(row, 2 + 2 * i, image[moment : moment + 1])
    return page.figure


def filmstrip(images: Float[Tensor, "t 3 h w"], columns: int = 8) -> Figure:
    """Images in reading order, framed in the colours of views 0 to t - 1.

    Errors: ValueError for no images, or no column.
    """
    if len(images) == 0 or columns < 1:
        raise ValueError(f"need images and a column, got {len(images)} images, {columns} columns")
    columns = min(columns, len(images))
    page = Page.of(math.ceil(len(images) / columns), columns, _aspect(images), heading=0.0)
    for i in range(len(images)):
        page.mosaic(i // columns, i % columns, images[i : i + 1], [i], [str(i)])
    return page.figure


def choices(memory: Memory, retrievals: Mapping[str, Retrieval]) -> Figure:
    """A column per retrieval from one memory, by name: the vote map, and below it the chosen views
    with the share of the query cameras' pixels that each explains.

    Errors: ValueError for no retrievals.
    """
    if not retrievals:
        raise ValueError("choices needs at least one retrieval, got none")
    page = Page.of(2, len(retrievals), _aspect(memory.views.image))
    for column, (name, retrieval) in enumerate(retrievals.items()):
        chosen, shares = retrieval.chosen.tolist(), explained(memory, retrieval).mean(0).tolist()
        labels = [f"{view}: {share:.0%}" for view, share in zip(chosen, shares, strict=True)]
        page.heading(column, name)
        page.mosaic(0, column, vote_map(memory, retrieval).permute(0, 3, 1, 2))
        page.mosaic(1, column, memory.views.image[retrieval.chosen], chosen, labels)
    return page.figure


def panels(images: Mapping[str, Float[Tensor, "c h w"]]) -> Figure:
    """Images side by side under their names; with one channel they are grey, stretched to [0, 1],
    and what is unknown (NaN) is black.

    Errors: ValueError for no images.
    """
    if not images:
        raise ValueError("panels needs at least one image, got none")
    page = Page.of(1, len(images), _aspect(next(iter(images.values()))[None]))
    for column, (name, image) in enumerate(images.items()):
        if len(image) == 1:
            known = image[image.isfinite()]
            low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
            image = ((image - low) / max(high - low, 1e-12)).nan_to_num(0).expand(3, -1, -1)
        page.heading(column, name)
        page.mosaic(0, column, image[None])
    return page.figure


def depth_fits(
    found: Mapping[str, tuple[Float[Tensor, " n"], Float[Tensor, " n"], DepthFit]],
) -> Figure:
    """Per name: a network's depths against those that the memory knows, a dot per surfel, and the
    line of the fit. Dots that it explains are dark.

    Errors: ValueError for none.
    """
    if not found:
        raise ValueError("depth_fits needs at least one fit, got none")
    figure = Picture(figsize=(PAGE, 0.9 * PAGE / max(2, len(found))), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for column, (name, (depth, reference, fit)) in enumerate(found.items(), start=1):
        axes = figure.add_subplot(1, max(2, len(found)), column)
        good = (fit(depth) / reference - 1).abs() < FitConfig.tolerance
        for dots, color in ((~good, "#c9ced4"), (good, "#1f6f8b")):
            axes.plot(depth[dots], reference[dots], ".", color=color, markersize=1.5)
        ends = torch.stack([depth.min(), depth.max()])
        axes.plot(ends, fit(ends), color="#c8553d", linewidth=1.2)
        axes.set_title(name, fontsize=8, color=INK)
        axes.set_xlabel("depth, the network's units", fontsize=7, color=QUIET)
        axes.set_ylabel("depth that the memory knows, m" if column == 1 else "", fontsize=7)
        axes.tick_params(labelsize=7, colors=QUIET)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def grid(
    rows: Mapping[str, Float[Tensor, "n 3 h w"]],
    headings: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
) -> Figure:
    """A row of images per name, which stands in the first of them. `headings` stand above the columns;
    `columns` selects some of each row's images, all by default.

    Errors: ValueError for no images, rows of different lengths, or not as many headings as columns.
    """
    count = len(next(iter(rows.values()))) if rows else 0
    shown = list(range(count) if columns is None else columns)
    inside = all(0 <= i < count for i in shown)
    if not shown or not inside or len({images.shape for images in rows.values()}) != 1:
        shapes = {name: list(images.shape) for name, images in rows.items()}
        raise ValueError(
            f"a grid needs rows of as many images of one size, at least one, and columns of them, got "
            f"{shapes} and columns {shown}"
        )
    if headings is not None and len(headings) != len(shown):
        raise ValueError(f"need a heading for each of {len(shown)} columns, got {len(headings)}")
    heading = HEADING if headings else 0.0
    page = Page.of(len(rows), len(shown), _aspect(next(iter(rows.values()))), heading=heading)
    for column, text in enumerate(headings or ()):
        page.heading(column, text)
    for row, (name, images) in enumerate(rows.items()):
        for column, i in enumerate(shown):
            page.mosaic(row, column, images[i : i + 1])
        page.name(row, name)
    return page.figure


def _shown(steps: Sequence[Step], rows: int | Sequence[int]) -> list[int]:
    """Which steps to show. Errors: ValueError for none, and for those that there are not."""
    if isinstance(rows, int):
        count = min(rows, len(steps))
        rows = [round(i * (len(steps) - 1) / max(1, count - 1)) for i in range(count)]
    if not rows or not all(0 <= i < len(steps) for i in rows):
        raise ValueError(f"need steps and rows of them, got {len(steps)} steps and rows {rows}")
    return list(rows)


def _aspect(images: Float[Tensor, "t c h w"]) -> float:
    return images.shape[3] / images.shape[2]


FPS, VIDEO_ROWS = 8.0, 192  # of videos


def save_walk_video(
    path: str | os.PathLike, steps: Sequence[Step], truth: Float[Tensor, "n 3 h w"] | None = None
) -> None:
    """A video of the generated views, with the truth on the left if it is known."""
    images = torch.cat([step.views.image for step in steps])
    if truth is not None:
        images = torch.cat([truth, images], -1)
    scale = VIDEO_ROWS / images.shape[2]
    large = interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False)
    save_video(path, large.clamp(0, 1), FPS)
