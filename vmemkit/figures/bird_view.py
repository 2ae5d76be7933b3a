"""Bird view: cameras and surfels seen from above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor

from vmemkit.core import Cameras, cameras, canvas_width, cat, intrinsics, look_at, project
from vmemkit.figures.colors import CARD, CARD_INK, view_colors
from vmemkit.figures.extents import without_background
from vmemkit.figures.frusta import frustum_corners
from vmemkit.figures.picture import PAGE_WIDTH, Picture
from vmemkit.figures.renderings import paint
from vmemkit.memory import Memory, read
from vmemkit.retrieval import Retrieval

FOV = 35.0  # degrees, vertical: narrow, so that rooms stay nearly rectangular
ASPECT = 2.0  # width / height of the rendering
CAMERA_LENGTH = 0.05  # length of a drawn camera, as a share of the memory's extent
EMPHASIS = 2.0  # how much larger the cameras of a retrieval are drawn


def plan(
    memory: Memory,
    retrieval: Retrieval | None = None,
    path: Cameras | None = None,
    elevation: float = 60.0,
    rows: int = 600,
) -> Picture:
    """The memory as a doll's house: its surfels from above, where ceilings face away and so are not
    drawn, and its views as small cameras, the given ones filled.

    With a retrieval, its query cameras are white, only the chosen views are filled, and both are
    larger. With a path, its cameras are drawn instead of the views. The background is the card.
    `elevation` is in degrees, 90 looks straight down; `rows` is the rendering's height in pixels.
    Errors: ValueError for a memory without surfels, an elevation outside (0, 90], and both a
    retrieval and a path.
    """
    if len(memory.surfels) == 0 or not 0 < elevation <= 90 or (retrieval and path is not None):
        raise ValueError(
            f"a plan needs surfels, 0 < elevation <= 90, and a retrieval or a path, not both; got "
            f"{memory}, {elevation}, {retrieval}, {path}"
        )
    memory = memory.to("cpu")
    eye, extent = _from_above(memory, elevation)
    shown = memory.views.cameras if path is None else path.to("cpu")
    length = torch.full((len(shown),), CAMERA_LENGTH * extent)
    filled = memory.views.given if path is None else torch.ones(len(shown), dtype=torch.bool)
    drawn = DrawnCameras(shown, length, view_colors(len(shown)).tolist(), filled)
    if retrieval is not None:
        chosen = torch.zeros_like(filled).index_fill(0, retrieval.chosen.cpu(), True)
        length[chosen] *= EMPHASIS
        drawn = replace(drawn, filled=chosen).add(
            retrieval.query, EMPHASIS * CAMERA_LENGTH * extent
        )
    return draw_from_eye(eye, memory, memory.surfels.color, drawn, rows)


@dataclass(frozen=True)
class DrawnCameras:
    """Cameras (t,) as pyramids: their length in world units, colours, and whether the base is
    filled."""

    cameras: Cameras
    length: Float[Tensor, " t"]
    colors: list[list[float] | str]
    filled: Bool[Tensor, " t"]

    def add(self, others: Cameras, length: float) -> DrawnCameras:
        """More cameras (m,), in `CARD_INK` and not filled."""
        count = len(others)
        return DrawnCameras(
            cat([self.cameras, others.to("cpu")]),
            torch.cat([self.length, torch.full((count,), length)]),
            self.colors + [CARD_INK] * count,
            torch.cat([self.filled, torch.zeros(count, dtype=torch.bool)]),
        )

    @property
    def corners(self) -> Float[Tensor, "t 5 3"]:
        """World points of each camera's eye and of its image's corners, `length` ahead of it."""
        return frustum_corners(self.cameras, self.length)


def draw_from_eye(
    eye: Cameras,
    memory: Memory,
    surfel_colors: Float[Tensor, "n 3"],
    drawn: DrawnCameras,
    rows: int = 600,
    trim: bool = True,
    fill: float = 0.85,
) -> Picture:
    """Surfels and cameras as the camera `eye` (1,) sees them, on a canvas of `rows` rows. `trim`
    cuts the picture to what is drawn; `fill` is the opacity of filled cameras."""
    columns = canvas_width(eye, rows)
    seen = read(memory, eye, rows, columns)
    uv, depth = project(eye, drawn.corners.reshape(1, -1, 3))
    corners = uv.view(-1, 5, 2) * uv.new_tensor([columns, rows]) - 0.5  # in pixels of the canvas
    in_front = (depth.view(-1, 5) > 0).all(-1)
    (left, top), (right, bottom) = (-0.5, -0.5), (columns - 0.5, rows - 0.5)
    if trim:
        hit = (seen.surfel[0] >= 0).nonzero().flip(1)
        inside = torch.cat([hit - 0.5, hit + 0.5, corners[in_front].flatten(0, 1)])
        (left, top), (right, bottom) = inside.amin(0).tolist(), inside.amax(0).tolist()
    picture = Picture(PAGE_WIDTH, PAGE_WIDTH * (bottom - top) / (right - left))
    axes = picture.add_page()
    image = paint(memory, seen, to_rgb(CARD), surfel_colors)[0]
    axes.imshow(image.permute(1, 2, 0).numpy(), aspect="auto")
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for i in drawn.length.argsort(stable=True).tolist():  # large cameras on top of small ones
        if in_front[i]:
            _draw_pyramid(axes, corners[i], drawn.colors[i], fill if drawn.filled[i] else 0.0)
    return picture


def _draw_pyramid(
    axes: Axes, points: Float[Tensor, "5 2"], color: Sequence[float] | str, fill: float
) -> None:
    eye, *corners = points.tolist()
    width, alpha = (1.2, 1.0) if fill or color == CARD_INK else (0.6, 0.6)
    outline = [*corners, corners[0], eye, corners[1], corners[2], eye, corners[3]]
    (line,) = axes.plot(*zip(*outline, strict=True), color=color, solid_joinstyle="round")
    line.set(linewidth=width, alpha=alpha)
    if fill:
        axes.fill(*zip(*corners, strict=True), color=color, alpha=fill, linewidth=0)


def _from_above(memory: Memory, elevation: float) -> tuple[Cameras, float]:
    """A camera (1,) that has the memory in view, and the memory's extent, world units."""
    position = without_background(memory.surfels.position, memory.views.cameras.position)
    centre = (position.amin(0) + position.amax(0)) / 2
    extent = float((position - centre).norm(dim=-1).max())
    angle, half_fov = math.radians(elevation), math.radians(FOV / 2)
    direction = centre.new_tensor([0.0, -math.sin(angle), -math.cos(angle)])
    eye = centre + extent / math.sin(half_fov) * direction
    # The world's z points up in the picture; the usual UP fails for a view straight down.
    poses = look_at(eye[None], centre[None], up=(0.0, 0.0, 1.0))
    fov_x = 2 * math.degrees(math.atan(ASPECT * math.tan(half_fov)))
    return cameras(poses, intrinsics(fov_x, ASPECT)), extent
