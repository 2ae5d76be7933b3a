"""Figures: what the memory knows, what is retrieved and why, what comes of it.

In: memories, retrievals and steps, as the stages made them. Out: matplotlib figures, which are
returned, never shown or saved (`figure.savefig` does that; notebooks show them), made of the
pictures of pictures.py, which has the meaning of their colours.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from vmemkit.core import LUMA, Cameras, cameras, cat, intrinsics, look_at, project
from vmemkit.memory import Memory, read
from vmemkit.pictures import explained, painted, recalled, view_colors, vote_map
from vmemkit.pipeline import Step
from vmemkit.reconstruction import DepthFit, FitConfig
from vmemkit.retrieval import Retrieval

PAPER = 1.0  # grey level of plans

INK, QUIET = "#22262b", "#6d747c"  # of texts

DPI, POINTS = 150, 72  # per inch

NOTEBOOK_DPI = 100  # the width of a notebook's page

JPEG = {"quality": 64, "optimize": True, "progressive": True}  # of 100: no loss is to be seen

PAGE = 8.0  # inches: 1200 pixels, the width of a page of documentation

GAP, SEAM, FRAME = 0.07, 0.03, 0.024  # inches: between cells, between their images, round these

HEADING, TITLE = 0.22, 0.3  # inches

LENS = 35.0  # degrees: of the camera that takes plans, long so that rooms stay rectangles

WEDGE = 0.05  # length of a camera in a plan, of the plan's extent

EMPHASIS = 2.0  # how much larger a plan shows the cameras that its retrieval is about


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
    page = _Page.of(len(shown), 4, _aspect(steps[0].views.image), title)
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
    page = _Page.of(len(moments), 1 + 2 * len(walks), _aspect(truth), title)
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
    page = _Page.of(math.ceil(len(images) / columns), columns, _aspect(images), heading=0.0)
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
    page = _Page.of(2, len(retrievals), _aspect(memory.views.image))
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
    page = _Page.of(1, len(images), _aspect(next(iter(images.values()))[None]))
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
    page = _Page.of(len(rows), len(shown), _aspect(next(iter(rows.values()))), heading=heading)
    for column, text in enumerate(headings or ()):
        page.heading(column, text)
    for row, (name, images) in enumerate(rows.items()):
        for column, i in enumerate(shown):
            page.mosaic(row, column, images[i : i + 1])
        page.name(row, name)
    return page.figure


def plan(
    memory: Memory,
    retrieval: Retrieval | None = None,
    path: Cameras | None = None,
    elevation: float = 60.0,
    rows: int = 600,
) -> Figure:
    """The memory as a doll's house: its surfels from above, where ceilings are seen from behind and
    so not at all, and its views as small cameras, the given ones filled.

    With a retrieval, its query cameras are black, only the chosen views are filled, and both are
    larger. With a path instead, its cameras are shown, not the views'; what is neither seen nor a
    camera is white. `elevation` is in degrees, 90 looks straight down; `rows` are the rendering's.
    Errors: ValueError for a memory without surfels, an elevation outside (0, 90], and both.
    """
    if len(memory.surfels) == 0 or not 0 < elevation <= 90 or (retrieval and path is not None):
        raise ValueError(
            f"a plan needs surfels, 0 < elevation <= 90, and a retrieval or a path, not both; got "
            f"{memory}, {elevation}, {retrieval}, {path}"
        )
    memory = memory.to("cpu")
    camera, extent = from_above(memory, elevation)
    shown = memory.views.cameras if path is None else path.to("cpu")
    length, colors = torch.full((len(shown),), WEDGE * extent), view_colors(len(shown)).tolist()
    filled = memory.views.given if path is None else torch.ones(len(shown), dtype=torch.bool)
    if retrieval is not None:
        query, chosen = retrieval.query.to("cpu"), retrieval.chosen.cpu()
        shown, colors = cat([shown, query]), colors + [INK] * len(query)
        filled = torch.zeros(len(shown), dtype=torch.bool).index_fill(0, chosen, True)
        length = torch.cat([length, length.new_full((len(query),), EMPHASIS * WEDGE * extent)])
        length[chosen] *= EMPHASIS
    return drawn_from(camera, memory, memory.surfels.color, shown, length, colors, filled, rows)


def drawn_from(
    camera: Cameras,
    memory: Memory,
    paint: Float[Tensor, "n 3"],
    shown: Cameras,
    length: Float[Tensor, " t"],
    colors: Sequence[Sequence[float] | str],
    filled: Bool[Tensor, " t"],
    rows: int = 600,
    aspect: float = 2.0,
    trim: bool = True,
) -> Figure:
    """The surfels in the colours `paint`, as `camera` (1,) sees them, and the cameras `shown` (t,) as
    pyramids of `length` world units, the image in front of it filled or not. `rows` are the
    rendering's, whose width / height is `aspect`; `trim` cuts the figure to what is drawn."""
    columns = round(rows * aspect)
    seen = read(memory, camera, rows, columns)
    corners, depth = project(camera, wedges(shown, length).reshape(1, -1, 3))
    at = corners.view(-1, 5, 2) * corners.new_tensor([columns, rows]) - 0.5
    ahead = (depth.view(-1, 5) > 0).all(-1)
    hit = (seen.surfel[0] >= 0).nonzero().flip(1)
    drawn = torch.cat([hit - 0.5, hit + 0.5, at[ahead].flatten(0, 1)])
    if not trim:
        drawn = at.new_tensor([[-0.5, -0.5], [columns - 0.5, rows - 0.5]])
    (left, top), (right, bottom) = drawn.amin(0).tolist(), drawn.amax(0).tolist()
    figure, axes = _figure(PAGE, PAGE * (bottom - top) / (right - left))
    image = painted(memory, seen, PAPER, paint)[0]
    axes.imshow(image.permute(1, 2, 0).numpy(), aspect="auto")
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for i in length.argsort(stable=True).tolist():  # the large ones on top
        if ahead[i]:
            _draw_wedge(axes, at[i], colors[i], bool(filled[i]))
    return figure


# ---- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
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
    ) -> _Page:
        """A page of PAGE inches in width, with its title."""
        width = (PAGE - (columns + 1) * GAP) / columns
        top = heading + (TITLE if title else GAP)
        height = top + rows * (width / aspect + GAP)
        figure, axes = _figure(PAGE, height)
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


def wedges(of: Cameras, size: Float[Tensor, " t"]) -> Float[Tensor, "t 5 3"]:
    """World points of each camera's eye and of the corners of its image, `size` ahead."""
    uv = of.K.new_tensor([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    ahead = torch.einsum("t,tij,cj->tci", size, of.rotation @ torch.linalg.inv(of.K), uv)
    return of.position[:, None] + torch.cat([torch.zeros_like(ahead[:, :1]), ahead], 1)


def _draw_wedge(
    axes: Axes, points: Float[Tensor, "5 2"], color: Sequence[float] | str, filled: bool
) -> None:
    eye, *corners = points.tolist()
    strong = filled or color == INK
    style = {"color": color, "lw": 1.2 if strong else 0.6, "alpha": 1.0 if strong else 0.6}
    outline = [*corners, corners[0], eye, corners[1], corners[2], eye, corners[3]]
    axes.plot(*zip(*outline, strict=True), solid_joinstyle="round", **style)
    if filled:
        axes.fill(*zip(*corners, strict=True), color=color, alpha=0.85, lw=0)


def from_above(memory: Memory, elevation: float) -> tuple[Cameras, float]:
    """A camera (1,) that has the whole memory in view, and the memory's extent, world units."""
    position = memory.surfels.position
    centre = (position.amin(0) + position.amax(0)) / 2
    extent = float((position - centre).norm(dim=-1).max())
    angle, away = math.radians(elevation), extent / math.sin(math.radians(LENS / 2))
    eye = centre + away * centre.new_tensor([0.0, -math.sin(angle), -math.cos(angle)])
    # z is up in the picture, which holds straight down as well
    poses = look_at(eye[None], centre[None], up=(0.0, 0.0, 1.0))
    wide = 2 * math.degrees(math.atan(2 * math.tan(math.radians(LENS / 2))))
    return cameras(poses, intrinsics(wide, 2.0)), extent


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure, inches, and axes that fill it."""
    figure = Picture(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


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
