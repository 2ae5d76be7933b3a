"""Floor plans: cameras and surfels seen from above."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vmemkit.core import Cameras, cameras, cat, intrinsics, look_at, project
from vmemkit.figures.page import INK, PAGE, PAPER, new_figure
from vmemkit.figures.pictures import painted, view_colors
from vmemkit.memory import Memory, read
from vmemkit.retrieval import Retrieval

LENS = 35.0  # degrees: of the camera that takes plans, long so that rooms stay rectangles

WEDGE = 0.05  # length of a camera in a plan, of the plan's extent

EMPHASIS = 2.0  # how much larger a plan shows the cameras that its retrieval is about


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
    figure, axes = new_figure(PAGE, PAGE * (bottom - top) / (right - left))
    image = painted(memory, seen, PAPER, paint)[0]
    axes.imshow(image.permute(1, 2, 0).numpy(), aspect="auto")
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for i in length.argsort(stable=True).tolist():  # the large ones on top
        if ahead[i]:
            _draw_wedge(axes, at[i], colors[i], bool(filled[i]))
    return figure


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
