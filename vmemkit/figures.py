"""Figures: what the memory knows, what is retrieved and why, what comes of it.

In: memories, retrievals and steps, as the stages made them. Out: pictures as tensors, or matplotlib
figures, which are returned, never shown or saved (`figure.savefig` does that; notebooks show them).

A view has one colour, the same in every picture (`view_colors`). In a vote map each pixel of a
target has the colour of the first chosen view that saw its surfel; pale was seen, but by no chosen
view; dark was never seen. Plans are seen from above, with the walk's first camera looking up.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vmemkit.camera import Cameras
from vmemkit.memory import Memory
from vmemkit.retrieval import Retrieval
from vmemkit.splat import Splat, splat
from vmemkit.walk import Step

PALE, DARK = 0.84, 0.13  # grey levels of vote maps: seen by no chosen view | never seen
INK, QUIET = "#22262b", "#6d747c"  # of texts
# View colours: OKLCh hue and lightness advance by shares of their ranges that a search found to keep
# views less than 30 apart the most distinct, to normal eyes and to simulated colour-blind ones
# (Machado et al., 2009). OKLab: Ottosson, 2020.
HUE_START, HUE_STEP, LIGHTNESS_STEP = 0.683, 0.6997, 0.756
LIGHTNESS, CHROMA = (0.48, 0.86), 0.15
SHADE = 0.5  # share of a vote map's brightness that follows the surfels' own, to show their shapes
MAP_ROWS = 96  # of what is rendered for a figure
DPI = 150
PAGE = 8.0  # inches: 1200 pixels, the width of a page of documentation
GAP, CAPTION, HEADING, TITLE = 0.05, 0.17, 0.22, 0.3  # inches
PLAN_SURFELS = 12_000  # enough to fill a plan, few enough to draw at once
CEILING = 0.7  # cosine to straight up beyond which a surfel is of a ceiling, which hides all else


class Picture(Figure):
    """A matplotlib figure that notebooks show without pyplot, which would keep global state."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


# ---- pictures as tensors -------------------------------------------------------------------------


def view_colors(n: int) -> Float[Tensor, "n 3"]:
    """RGB in [0, 1] of views 0 to n - 1; the colour of a view does not depend on n."""
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
    first = _first_to_see(memory, retrieval)[surfel]
    shade = torch.where(first < len(chosen), 1 - SHADE + SHADE * brightness[surfel], 1.0)
    return colors[first] * shade[..., None]


def explained(memory: Memory, retrieval: Retrieval) -> Float[Tensor, "m k"]:
    """Share of each query camera's pixels that each chosen view saw, and no view chosen before it.

    The mean over the cameras is the share of the whole window.
    """
    first = _first_to_see(memory, retrieval)[_surfel_or_last(memory, retrieval)].flatten(1)
    places = torch.arange(len(retrieval.chosen), device=memory.device)
    return (first[:, None] == places[:, None]).float().mean(-1)


def recalled(memory: Memory, cameras: Cameras, rows: int = MAP_ROWS) -> Float[Tensor, "m 3 h w"]:
    """The memory's surfels in their own colours, as the cameras (m,) see them."""
    seen = _splat(memory, cameras, rows)
    color = torch.cat([memory.surfels.color, memory.surfels.color.new_full((1, 3), DARK)])
    return color[_or_last(seen, memory)].permute(0, 3, 1, 2)


# ---- figures -------------------------------------------------------------------------------------


def contact_sheet(
    steps: Sequence[Step],
    truth: Float[Tensor, "n 3 h w"] | None = None,
    title: str | None = None,
    rows: int | Sequence[int] = 6,
) -> Figure:
    """A row per shown step, for the last of its targets: the target, the votes, the chosen views
    with the share of the target's pixels that each explains, and what was generated.

    `truth` holds the true images of the whole path; without it the target is shown as the memory
    recalls it. `rows` is how many steps to show, evenly spaced, or which.
    Errors: ValueError for no steps, for rows that there are not, and for truth of another length.
    """
    shown, ends = _shown(steps, rows), torch.tensor([len(s.targets) for s in steps]).cumsum(0)
    if truth is not None and len(truth) != ends[-1]:
        raise ValueError(f"truth needs an image per target, {int(ends[-1])}, got {len(truth)}")
    k = max(len(steps[i].retrieval.chosen) for i in shown)
    page = _Page.of(len(shown), k + 3, _aspect(steps[0].views.image), title)
    target = "target" if truth is not None else "target, as recalled"
    headings = [target, "who saw it", "chosen views", *[""] * (k - 1), "generated"]
    for column, heading in enumerate(headings):
        page.heading(column, heading)
    for row, i in enumerate(shown):
        step = steps[i]
        view = recalled(step.before, step.targets[-1:])[0] if truth is None else truth[ends[i] - 1]
        _sheet_row(page, row, step, view)
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
    page = _Page.of(len(moments), 1 + 2 * len(walks), _aspect(truth), title, caption=0.0)
    page.heading(0, "truth")
    for row, moment in enumerate(moments):
        page.image(row, 0, truth[moment])
    for i, (name, steps) in enumerate(walks.items()):
        image = torch.cat([step.views.image for step in steps])
        owner = [step for step in steps for _ in range(len(step.targets))]
        page.heading(1 + 2 * i, f"{name}: chosen")
        page.heading(2 + 2 * i, "and generated")
        for row, moment in enumerate(moments):
            page.mosaic(row, 1 + 2 * i, owner[moment].context.image, _frames(owner[moment]))
            page.image(row, 2 + 2 * i, image[moment])
    return page.figure


def filmstrip(
    images: Float[Tensor, "t 3 h w"], columns: int = 8, captions: Sequence[str] | None = None
) -> Figure:
    """Images in reading order. Errors: ValueError for no images, or captions of another length."""
    if len(images) == 0 or columns < 1 or len(captions or images) != len(images):
        raise ValueError(f"need images, a column, and a caption for each, got {len(images)} images")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    page = _Page.of(rows, columns, _aspect(images), caption=CAPTION if captions else 0.0, heading=0)
    for i, image in enumerate(images):
        page.image(i // columns, i % columns, image, captions[i] if captions else "")
    return page.figure


def plan(memory: Memory, retrieval: Retrieval | None = None) -> Figure:
    """The memory from above: surfels below the ceiling, and the views, given ones in full.

    With a retrieval, its targets are black, and of the views the chosen ones stand out.
    Errors: ValueError for a memory without views.
    """
    if len(memory) == 0:
        raise ValueError("a plan needs views, got an empty memory: write a view first")
    surfels, cameras = memory.surfels.to("cpu"), memory.views.cameras.to("cpu")
    below = (surfels.normal[:, 1] > -CEILING).nonzero()[:, 0]
    below = below[:: max(1, math.ceil(len(below) / PLAN_SURFELS))]
    shown = surfels[below[surfels.position[below, 1].argsort(descending=True)]]  # y points down
    figure = _figure(PAGE / 1.6, PAGE / 1.6)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    x, _, z = shown.position.unbind(-1)
    axes.scatter(x, z, s=9, c=shown.color.numpy(), linewidths=0, alpha=0.75)
    chosen = set() if retrieval is None else set(retrieval.chosen.tolist())
    size = 0.06 * max(float(torch.ptp(p)) for p in (x, z)) if len(x) else 0.3
    for i, color in enumerate(view_colors(len(memory)).tolist()):
        quiet = bool(chosen) and i not in chosen
        _wedge(axes, cameras[i], size, color, bool(memory.views.given[i]) or i in chosen, quiet)
    for target in (
        [] if retrieval is None else [retrieval.query[i] for i in range(len(retrieval.query))]
    ):
        _wedge(axes, target.to("cpu"), size, INK, False, False)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure


# ---- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """A grid of equal cells for images under headings; lengths in inches, from the top left."""

    figure: Figure
    cell: tuple[float, float]  # width, height
    top: float  # of the first row
    caption: float  # height under each image

    @classmethod
    def of(
        cls,
        rows: int,
        columns: int,
        aspect: float,
        title: str | None = None,
        caption: float = CAPTION,
        heading: float = HEADING,
    ) -> _Page:
        """A page of PAGE inches in width, with its title."""
        width = (PAGE - (columns + 1) * GAP) / columns
        height = width / aspect
        top = heading + (TITLE if title else GAP)
        figure = _figure(PAGE, top + rows * (height + caption + GAP))
        page = cls(figure, (width, height), top, caption)
        if title:
            page._text(GAP, TITLE / 2 + GAP / 2, title, size=9, weight="bold")
        return page

    def heading(self, column: int, text: str) -> None:
        self._text(self._left(column), self.top - HEADING / 2, text, size=7.5, color=QUIET)

    def image(
        self,
        row: int,
        column: int,
        image: Float[Tensor, "3 h w"],
        caption: str = "",
        color: Sequence[float] | None = None,
    ) -> None:
        """An image, with a frame in `color`."""
        width, height = self.cell
        self._draw(self._left(column), self._above(row), width, height, image, color)
        below = self._above(row) + height + self.caption / 2
        self._text(self._left(column), below, caption, size=6.5)

    def mosaic(self, row: int, column: int, images: Float[Tensor, "k 3 h w"], colors: list) -> None:
        """Images in one cell, in a square grid, with frames in their colours."""
        side = max(1, math.ceil(math.sqrt(len(images))))
        width, height = ((length - (side - 1) * GAP / 2) / side for length in self.cell)
        for i, (image, color) in enumerate(zip(images, colors, strict=True)):
            left = self._left(column) + (i % side) * (width + GAP / 2)
            above = self._above(row) + (i // side) * (height + GAP / 2)
            self._draw(left, above, width, height, image, color)

    def _left(self, column: int) -> float:
        return GAP + column * (self.cell[0] + GAP)

    def _above(self, row: int) -> float:
        return self.top + row * (self.cell[1] + self.caption + GAP)

    def _draw(self, left, above, width, height, image, color) -> None:
        page_width, page_height = self.figure.get_size_inches()
        box = (left / page_width, 1 - (above + height) / page_height)
        axes = self.figure.add_axes((*box, width / page_width, height / page_height))
        axes.imshow(image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy(), aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=color is not None, color=color or INK, linewidth=2.0)

    def _text(self, left: float, middle: float, text: str, **style) -> None:
        page_width, page_height = self.figure.get_size_inches()
        at = (left / page_width, 1 - middle / page_height)
        self.figure.text(*at, text, va="center_baseline", **{"color": INK, **style})


def _sheet_row(page: _Page, row: int, step: Step, target: Float[Tensor, "3 h w"]) -> None:
    """The last target of a step."""
    shares, memory = explained(step.before, step.retrieval)[-1], step.before
    votes = vote_map(memory, step.retrieval)[-1].permute(2, 0, 1)
    page.image(row, 0, target)
    page.image(row, 1, votes, f"{float(shares.sum()):.0%} explained")
    k = len(step.retrieval.chosen)
    for i, (view, color) in enumerate(
        zip(step.retrieval.chosen.tolist(), _frames(step), strict=True)
    ):
        kind = "given" if memory.views.given[view] else "view"
        caption = f"{kind} {view} · {float(shares[i]):.0%}"
        page.image(row, 2 + i, step.context.image[i], caption, color)
    last = len(step.memory) - 1
    page.image(
        row, 2 + k, step.views.image[-1], f"view {last}", view_colors(last + 1)[last].tolist()
    )


def _frames(step: Step) -> list[list[float]]:
    """The colours of a step's chosen views."""
    return view_colors(len(step.before))[step.retrieval.chosen.cpu()].tolist()


def _wedge(
    axes: Axes, camera: Cameras, size: float, color: Sequence[float] | str, full: bool, quiet: bool
) -> None:
    """A camera from above: its eye, and its field of view."""
    half = 0.5 / float(camera.K[0, 0])
    corners = camera.position.new_tensor([[0, 0, 0], [-half, 0, 1], [half, 0, 1]]) * size
    x, _, z = (corners @ camera.rotation.T + camera.position).unbind(-1)
    face = color if full and not quiet else "none"
    width, alpha = (0.6, 0.55) if quiet else (1.1, 1.0)
    axes.fill(
        x, z, facecolor=face, edgecolor=color if quiet or not full else INK, lw=width, alpha=alpha
    )


def _figure(width: float, height: float) -> Figure:
    figure = Picture(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _shown(steps: Sequence[Step], rows: int | Sequence[int]) -> list[int]:
    """Which steps to show: all kinds of places from the first to the last."""
    if isinstance(rows, int):
        count = min(rows, len(steps))
        rows = [round(i * (len(steps) - 1) / max(1, count - 1)) for i in range(count)]
    if not rows or not all(0 <= i < len(steps) for i in rows):
        raise ValueError(f"need steps and rows of them, got {len(steps)} steps and rows {rows}")
    return list(rows)


def _aspect(images: Float[Tensor, "t 3 h w"]) -> float:
    return images.shape[3] / images.shape[2]


# ---- who saw what --------------------------------------------------------------------------------


def _splat(memory: Memory, cameras: Cameras, rows: int) -> Splat:
    height, width = memory.views.image.shape[2:]
    return splat(memory.surfels, cameras, rows, max(1, round(rows * width / height)))


def _surfel_or_last(memory: Memory, retrieval: Retrieval) -> Int[Tensor, "m h w"]:
    """The surfel behind each pixel of the query cameras, as `_or_last`."""
    seen = retrieval.splat
    return _or_last(_splat(memory, retrieval.query, MAP_ROWS) if seen is None else seen, memory)


def _or_last(seen: Splat, memory: Memory) -> Int[Tensor, "m h w"]:
    """The surfel behind each pixel; where there is none, the row after the last one."""
    return torch.where(seen.surfel >= 0, seen.surfel, len(memory.surfels))


def _first_to_see(memory: Memory, retrieval: Retrieval) -> Int[Tensor, " n+1"]:
    """Per surfel the place among the chosen views of the first that saw it; k where none did, and
    k + 1 in the extra row, for no surfel."""
    k, total = len(retrieval.chosen), len(memory.surfels)
    place = torch.full((len(memory),), k, device=memory.device)
    place[retrieval.chosen] = torch.arange(k, device=memory.device)
    first = torch.full((total + 1,), k, device=memory.device)
    sightings = memory.sightings
    first.scatter_reduce_(0, sightings.surfel.long(), place[sightings.view.long()], "amin")
    first[total] = k + 1
    return first


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
