"""Surfel drawing: how a pixel becomes a disc, and a disc becomes pixels of another camera.

In: a view with depth, one of its pixels, another camera. Out: a picture of four steps (the ray, the
footprint, the disc, the splat). All points, angles and pixels in it are those of the given cameras
and of the surfels that `core` makes, on a grid that is coarse enough to be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import normalize

from vmemkit.core import (
    Cameras,
    PointMaps,
    SplatConfig,
    SurfelConfig,
    Surfels,
    Views,
    cameras,
    canvas_width,
    grid_focal,
    intrinsics,
    look_at,
    project,
    rays,
    splat,
    surfels_from_points,
    thin,
)
from vmemkit.figures.colors import CARD, CARD_INK, CARD_QUIET
from vmemkit.figures.picture import PAGE_WIDTH, Picture, on_card

PAGE_HEIGHT = 6.4  # inches
ASPECT = 1.33  # width / height of a drawing
RAY, FOOTPRINT, DISC = "#f0a044", "#56b4e9", "#35c79b"  # after Okabe and Ito, 2008, on a dark card
TEXT, TITLE = 9.5, 10.5  # points: large enough for a projector
PALE = 0.45  # share of their colour that surfels in the background keep
IMAGE_PLANE = 0.38  # distance of the drawn image plane, as a share of the pixel's depth
OBSERVER_ROWS = 300  # height of the surfels' picture behind a drawing, pixels
FINER = 4  # rows of the other camera's canvas per row of the grid
AROUND = 1.7  # what the last panel shows, in half extents of the disc's image
CIRCLE = torch.linspace(0, 2 * torch.pi, 73)


@dataclass(frozen=True)
class _Pixel:
    """A pixel of a camera's grid, and the surfel that it made."""

    camera: Cameras  # no batch axis
    grid: tuple[int, int]  # rows and columns
    place: tuple[int, int]  # row and column
    depth: float  # z-depth, world units
    surfels: Surfels  # all of this grid
    index: int  # which of the surfels this pixel made
    scenery: Surfels  # the background: the surfels that the view makes on its usual, finer grid

    @property
    def point(self) -> Float[Tensor, " 3"]:
        return self.surfels.position[self.index]

    @property
    def normal(self) -> Float[Tensor, " 3"]:
        return self.surfels.normal[self.index]

    @property
    def sight(self) -> Float[Tensor, " 3"]:
        return normalize(self.point - self.camera.position, dim=0)

    @property
    def cosine(self) -> float:
        return float(self.sight @ self.normal)

    @property
    def focal(self) -> float:
        """In pixels of the grid."""
        return float(grid_focal(self.camera.K, *self.grid))

    @property
    def tangents(self) -> Float[Tensor, "2 3"]:
        """Unit vectors in the surface: down the slope of the line of sight, and across."""
        across = torch.linalg.cross(self.normal, self.sight)
        if float(across.norm()) < 1e-4:  # the surface faces the camera
            across = self.camera.rotation[:, 0]
        along = normalize(torch.linalg.cross(across, self.normal), dim=0)
        return torch.stack([along, torch.linalg.cross(self.normal, along)])

    @property
    def square(self) -> Float[Tensor, "4 2"]:
        """Corners of the pixel around its point's image, in image coordinates."""
        uv, _ = project(self.camera, self.point[None])
        around = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        return uv + around / torch.tensor([self.grid[1], self.grid[0]])

    @property
    def footprint(self) -> Float[Tensor, "4 3"]:
        """Where the rays through the pixel's corners meet the plane of its surfel, world."""
        ahead = rays(self.camera, self.square[None])[0]
        reach = (self.point - self.camera.position) @ self.normal / (ahead @ self.normal)
        return self.camera.position + reach[:, None] * ahead

    def on_image(self, uv: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
        """World points on the drawn image plane."""
        return self.camera.position + IMAGE_PLANE * self.depth * rays(self.camera, uv[None])[0]

    def disc(self, scale: float = 1.0) -> Float[Tensor, "n 3"]:
        """World points on the disc's edge."""
        circle = torch.stack([CIRCLE.cos(), CIRCLE.sin()], -1) @ self.tangents
        return self.point + scale * self.surfels.radius[self.index] * circle


def pixel_to_splat(view: Views, pixel: tuple[int, int], other: Cameras, rows: int = 12) -> Picture:
    """Four drawings: a pixel's ray, its footprint on the surface, its surfel, and the splat.

    `view` is one view (1,) with depth, thinned to a grid of `rows` rows, of which `pixel` is a row
    and a column; `other` is the camera (1,) that sees the disc at the end.
    Errors: ValueError for another number of views or cameras, no depth, a pixel that makes no
    surfel, and a disc that the other camera does not see.
    """
    if len(view) != 1 or len(other) != 1 or view.depth is None:
        raise ValueError(f"need one view with depth and one camera, got {view} and {other}")
    chosen = _choose(view.to("cpu"), pixel, rows)
    picture = Picture(PAGE_WIDTH, PAGE_HEIGHT)
    axes = picture.subplots(2, 2)
    picture.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.95, wspace=0.03, hspace=0.1)
    _draw_ray(axes[0, 0], chosen)
    _draw_footprint(axes[0, 1], chosen)
    _draw_disc(axes[1, 0], chosen)
    _draw_splat(axes[1, 1], chosen, other.to("cpu"))
    return picture


def _choose(view: Views, place: tuple[int, int], rows: int) -> _Pixel:
    """The pixel with its surfel. Errors: ValueError for a pixel without one."""
    surfels, ids, depth = _surfels(view, SurfelConfig(shrink=rows / view.image.shape[2]))
    height, width = depth.shape
    inside = 0 <= place[0] < height and 0 <= place[1] < width
    match = (ids == place[0] * width + place[1]).nonzero()[:, 0]
    if not inside or len(match) == 0:
        raise ValueError(
            f"pixel {place} of the {height} x {width} grid makes no surfel: choose one inside the "
            "grid whose depth is known and that is not at an edge"
        )
    scenery, _, _ = _surfels(view, SurfelConfig())
    return _Pixel(
        camera=view.cameras[0],
        grid=(height, width),
        place=place,
        depth=float(depth[place]),
        surfels=surfels,
        index=int(match[0]),
        scenery=scenery,
    )


def _surfels(
    view: Views, config: SurfelConfig
) -> tuple[Surfels, Int[Tensor, " n"], Float[Tensor, "h w"]]:
    """A view's surfels, the grid pixel of each, and the depth of that grid."""
    maps = PointMaps.from_depth(view.cameras, view.depth, view.confidence)
    coarse, image = thin(maps, view.image, config)
    surfels, ids = surfels_from_points(coarse[0], view.cameras[0], image[0], config)
    return surfels, ids, coarse.depth[0]


# ---- the four drawings ---------------------------------------------------------------------------


def _draw_ray(axes: Axes, pixel: _Pixel) -> None:
    """The frustum with the grid of its pixels, and one pixel's ray to the surface."""
    right, down, forward = pixel.camera.rotation.unbind(1)
    target = pixel.camera.position + 0.8 * pixel.depth * forward + 0.1 * pixel.depth * down
    eye = target + pixel.depth * (1.0 * right - 0.9 * down - 1.15 * forward)
    draw = _Observer.at(axes, eye, target, fov=54.0)
    draw.background(pixel.scenery)
    (rows, columns), (row, column) = pixel.grid, pixel.place
    ends = torch.tensor([0.0, 1.0])
    for v in torch.arange(rows + 1) / rows:
        line = pixel.on_image(torch.stack([ends, v.expand(2)], 1))
        draw.line(line, color=CARD_QUIET, linewidth=0.5)
    for u in torch.arange(columns + 1) / columns:
        line = pixel.on_image(torch.stack([u.expand(2), ends], 1))
        draw.line(line, color=CARD_QUIET, linewidth=0.5)
    for corner in pixel.on_image(torch.cartesian_prod(ends, ends)):
        draw.line(torch.stack([pixel.camera.position, corner]), color=CARD_INK, linewidth=1.0)
    square = pixel.on_image(pixel.square)
    draw.fill(square, RAY, alpha=1.0)
    draw.line(torch.stack([pixel.camera.position, pixel.point]), color=RAY, linewidth=2.0)
    draw.dot(pixel.point, RAY)
    draw.text(pixel.camera.position, "camera", (-4, 8), CARD_INK)
    draw.text(pixel.point, "point on the surface", (7, -10), RAY)
    draw.text(square[1], f"pixel ({row}, {column})", (-14, -34), RAY)
    _title(axes, f"1  The pixel's ray: point at z-depth $z$ = {pixel.depth:.2f} m")


def _draw_footprint(axes: Axes, pixel: _Pixel) -> None:
    """A section along the line of sight: what the pixel covers at this depth, and on the surface."""
    reach = float((pixel.point - pixel.camera.position).norm())
    cosine = pixel.cosine
    sine = (1 - cosine**2) ** 0.5
    side = pixel.depth / pixel.focal
    eye, point = torch.zeros(2), torch.tensor([reach, 0.0])
    surface = torch.tensor([-sine, cosine])
    window = point + torch.tensor([[0.0, -0.5], [0.0, 0.5]]) * side
    # A ray through an end of the window meets the surface at point + length * surface.
    normal = torch.tensor([cosine, sine])
    ends = torch.stack([w * (point @ normal) / (w @ normal) for w in window])
    length = float((ends[1] - ends[0]).norm())
    line = torch.stack([point - 1.5 * length * surface, point + 1.5 * length * surface])
    _plot(axes, line, color=CARD_INK, linewidth=1.5)
    for end, edge in zip(ends, window, strict=True):
        far = end if float(end[0]) > float(edge[0]) else edge
        _plot(axes, torch.stack([eye, far]), color=RAY, linewidth=1.2)
    _plot(axes, torch.stack([eye, point]), color=RAY, linewidth=1.2, linestyle="--")
    _plot(axes, window, color=FOOTPRINT, linewidth=5.0)
    _plot(axes, ends, color=DISC, linewidth=5.0)
    half = 2.2 * max(length, side) / 2
    axes.set_aspect("equal", adjustable="box")
    axes.set(xlim=(reach - 1.6 * half * ASPECT, reach + 0.4 * half * ASPECT), ylim=(-half, half))
    left = reach - 1.55 * half * ASPECT
    _note(axes, torch.tensor([left, 0.0]), f"camera, {reach:.2f} m away", (0, 6), RAY)
    _note(axes, line[1], "surface", (8, -2), CARD_INK)
    words = f"the pixel's width at depth $z$:\n$z/f$ = {100 * side:.0f} cm"
    _note(axes, window[0], words, (-12, -34), FOOTPRINT, "right")
    _note(axes, ends[1], f"on the surface:\n{100 * length:.0f} cm", (-22, 2), DISC, "right")
    _title(axes, f"2  Its footprint, from the side: $f$ = {pixel.focal:.1f} pixels")


def _draw_disc(axes: Axes, pixel: _Pixel) -> None:
    """The surfel on the pixel's footprint, with its normal and radius."""
    along, across = pixel.tangents
    radius = float(pixel.surfels.radius[pixel.index])
    eye = pixel.point + 9 * radius * (across - 0.8 * pixel.normal - 0.25 * along)
    draw = _Observer.at(axes, eye, pixel.point, fov=32.0)
    draw.background(pixel.surfels)
    draw.fill(pixel.disc(), DISC, alpha=0.55)
    draw.line(_closed(pixel.disc()), color=DISC, linewidth=2.0)
    draw.line(_closed(pixel.footprint), color=FOOTPRINT, linewidth=2.0)
    draw.arrow(pixel.point - 2 * radius * pixel.sight, pixel.point, RAY)
    draw.arrow(pixel.point, pixel.point + 1.6 * radius * pixel.normal, CARD_INK)
    draw.line(torch.stack([pixel.point, pixel.point + radius * along]), color=DISC, linewidth=2.0)
    draw.text(pixel.point - 2 * radius * pixel.sight, "$v$, line of sight", (4, 4), RAY)
    draw.text(pixel.point + 1.6 * radius * pixel.normal, "$n$, normal", (6, -4), CARD_INK)
    draw.text(pixel.point + radius * along, f"$r$ = {100 * radius:.0f} cm", (6, 2), DISC)
    draw.text(pixel.footprint[0], "footprint", (-4, 4), FOOTPRINT)
    formula = r"$r = \frac{z \,/\, 2f}{a + (1 - a)\, n \cdot v}$"
    _note(axes, torch.tensor([0.03, 0.95]), formula, (0, 0), CARD_INK, size=1.5 * TEXT)
    _title(axes, f"3  The disc: $n \\cdot v$ = {pixel.cosine:.2f}")


def _draw_splat(axes: Axes, pixel: _Pixel, other: Cameras) -> None:
    """The disc in another camera: its exact outline, the pixels it covers, and those it wins."""
    rows = FINER * pixel.grid[0]
    columns = canvas_width(other, rows)
    seen = splat(pixel.surfels, other, rows, columns).surfel[0]
    alone = pixel.surfels[pixel.index : pixel.index + 1]
    covered = splat(alone, other, rows, columns).surfel[0] == 0
    if not covered.any():
        raise ValueError("the other camera does not see the disc: choose one that looks at it")
    won = covered & (seen == pixel.index)
    uv, _ = project(other, pixel.disc(SplatConfig.scale)[None])
    outline = uv[0] * torch.tensor([columns, rows])
    axes.imshow(_painted(pixel.surfels, seen, PALE).numpy(), extent=(0, columns, rows, 0))
    for row, column in covered.nonzero().tolist():
        alpha = 0.9 if won[row, column] else 0.4
        square = Rectangle((column, row), 1, 1, facecolor=DISC, alpha=alpha, linewidth=0)
        axes.add_patch(square)
    _plot(axes, outline, color=CARD_INK, linewidth=1.8)
    (left, top), (right, bottom) = outline.amin(0).tolist(), outline.amax(0).tolist()
    half = AROUND * max((right - left) / ASPECT, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    for at in range(columns + 1):
        axes.axvline(at, color=CARD, linewidth=0.6)
    for at in range(rows + 1):
        axes.axhline(at, color=CARD, linewidth=0.6)
    axes.set(xlim=(x - half * ASPECT, x + half * ASPECT), ylim=(y + half, y - half))
    _title(
        axes, f"4  The splat: covers {int(covered.sum())} pixels, is nearest in {int(won.sum())}"
    )


# ---- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Observer:
    """A camera (1,) that looks at the drawing, and the axes that show its image."""

    axes: Axes
    camera: Cameras

    @classmethod
    def at(
        cls, axes: Axes, eye: Float[Tensor, " 3"], target: Float[Tensor, " 3"], fov: float
    ) -> _Observer:
        axes.set(xlim=(0, 1), ylim=(1, 0))
        return cls(axes, cameras(look_at(eye[None], target[None]), intrinsics(fov, ASPECT)))

    def background(self, surfels: Surfels) -> None:
        columns = canvas_width(self.camera, OBSERVER_ROWS)
        seen = splat(surfels, self.camera, OBSERVER_ROWS, columns).surfel[0]
        image = _painted(surfels, seen, PALE)
        self.axes.imshow(image.numpy(), extent=(0, 1, 1, 0), aspect="auto")

    def line(self, points: Float[Tensor, "n 3"], **style) -> None:
        _plot(self.axes, self._places(points), **style)

    def fill(self, points: Float[Tensor, "n 3"], color: str, alpha: float) -> None:
        x, y = self._places(points).T.tolist()
        self.axes.fill(x, y, color=color, alpha=alpha, linewidth=0, zorder=3)

    def dot(self, point: Float[Tensor, " 3"], color: str) -> None:
        _plot(self.axes, self._places(point[None]), color=color, marker="o")

    def arrow(self, start: Float[Tensor, " 3"], end: Float[Tensor, " 3"], color: str) -> None:
        tail, head = self._places(torch.stack([start, end])).tolist()
        style = {"arrowstyle": "-|>", "color": color, "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", head, tail, arrowprops=style, zorder=5)

    def text(
        self, point: Float[Tensor, " 3"], words: str, offset: tuple[float, float], color: str
    ) -> None:
        _note(self.axes, self._places(point[None])[0], words, offset, color)

    def _places(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
        return project(self.camera, points[None])[0][0]


def _painted(surfels: Surfels, seen: Int[Tensor, "h w"], share: float) -> Float[Tensor, "h w 3"]:
    """The surfels in their colours, mixed with the card; the card where none is."""
    card = torch.tensor([to_rgb(CARD)])
    colors = torch.cat([(1 - share) * card + share * surfels.color, card])
    return colors[seen]


def _note(
    axes: Axes,
    place: Float[Tensor, " 2"],
    words: str,
    offset: tuple[float, float],
    color: str,
    side: Literal["left", "right"] = "left",
    size: float = TEXT,
) -> None:
    """Words beside a place; `side` is the end of the words that is `offset` points from it."""
    box = {"facecolor": CARD, "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
    style: dict[str, Any] = {"color": color, "fontsize": size, "ha": side, "bbox": box, "zorder": 6}
    x, y = place.tolist()
    axes.annotate(words, (x, y), offset, textcoords="offset points", **style)


def _closed(points: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
    return torch.cat([points, points[:1]])


def _plot(axes: Axes, points: Float[Tensor, "n 2"], **style) -> None:
    axes.plot(*points.T.tolist(), **{"zorder": 4, "solid_capstyle": "butt", **style})


def _title(axes: Axes, words: str) -> None:
    axes.set(xticks=[], yticks=[])
    on_card(axes)
    axes.set_title(words, fontsize=TITLE, color=CARD_INK, loc="left", pad=4)
