"""Drawings of recordings: cameras and points, before anything is run on them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor

from vmemkit.core import Cameras
from vmemkit.figures.colors import CARD_INK, view_colors
from vmemkit.figures.extents import QUANTILE_SAMPLE
from vmemkit.figures.frusta import FRUSTUM_EDGES, frustum_corners
from vmemkit.figures.picture import PAGE_WIDTH, Picture, on_card

HEIGHT = 4.2  # inches
MOST_CAMERAS = 60  # drawn as pyramids; the path shows the others
CAMERA_LENGTH = 0.06  # of a drawn camera, as a share of what is shown
KEPT = 0.98  # share of the points that is in the picture: the farthest are often wrong
GREY = (0.55, 0.55, 0.55)
TOP = [1, 2]  # the edge above its image, which is thick


def recording_drawing(
    cameras: Cameras,
    points: Float[Tensor, "n 3"],
    colors: Float[Tensor, "n 3"] | None,
    up: Float[Tensor, 3],
) -> Picture:
    """Cameras (t,) as pyramids with their points, from above and from the side, without perspective.

    `up` is a unit vector, world. The thick edge of a pyramid is the top of its image; its colour is that
    of its view in other figures. Errors: ValueError for no cameras.
    """
    if len(cameras) == 0:
        raise ValueError("a drawing of a recording needs at least one camera, got none")
    right, ahead = _level_axes(cameras, up)
    picture = Picture(PAGE_WIDTH, HEIGHT, layout="constrained")
    points, colors = _without_farthest(points, colors, cameras.position.mean(0))
    everything = torch.cat([points, cameras.position])
    length = CAMERA_LENGTH * float((everything.amax(0) - everything.amin(0)).norm()) or 1.0
    for i, (x, y, title) in enumerate(((right, ahead, "from above"), (ahead, up, "from the side"))):
        axes = picture.add_subplot(1, 2, i + 1)
        _draw(axes, torch.stack([x, y], -1), length, cameras, points, colors)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(f"along {_words(x)}", fontsize=8.5)
        axes.set_ylabel(f"along {_words(y)}", fontsize=8.5)
        axes.tick_params(labelsize=8)
        on_card(axes)
    return picture


def _level_axes(
    cameras: Cameras, up: Float[Tensor, 3]
) -> tuple[Float[Tensor, 3], Float[Tensor, 3]]:
    """Unit vectors at right angles to `up`: to the right of the mean camera, and ahead of it."""
    ahead = cameras.forward.mean(0)
    ahead = ahead - (ahead @ up) * up
    if float(ahead.norm()) < 1e-3:  # all around, or up or down: any direction
        ahead = torch.eye(3)[int(up.abs().argmin())]
        ahead = ahead - (ahead @ up) * up
    ahead = torch.nn.functional.normalize(ahead, dim=0)
    return torch.linalg.cross(ahead, up), ahead


def _without_farthest(
    points: Float[Tensor, "n 3"], colors: Float[Tensor, "n 3"] | None, centre: Float[Tensor, 3]
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """The points that are in the picture, with their colours."""
    colors = points.new_tensor([GREY]).expand(len(points), 3) if colors is None else colors
    if len(points) == 0:
        return points, colors
    distance = (points - centre).norm(dim=1)
    sample = distance[:: 1 + len(distance) // QUANTILE_SAMPLE].double()
    near = distance <= float(sample.quantile(KEPT))
    return points[near], colors[near]


def _draw(
    axes: Axes,
    flat: Float[Tensor, "3 2"],
    length: float,
    cameras: Cameras,
    points: Float[Tensor, "n 3"],
    colors: Float[Tensor, "n 3"],
) -> None:
    """One view without perspective; `flat` has the directions to the right and up in it, `length` is
    that of a drawn camera."""
    x, y = (points @ flat).T.numpy()
    axes.scatter(x, y, s=0.6, c=colors.numpy(), linewidths=0)
    axes.plot(*(cameras.position @ flat).T.numpy(), color=CARD_INK, linewidth=0.6)
    shown = cameras[:: 1 + (len(cameras) - 1) // MOST_CAMERAS]
    corners = frustum_corners(shown, torch.full((len(shown),), length)) @ flat
    for ends, width in ((FRUSTUM_EDGES, 0.7), (TOP, 2.0)):
        lines = corners[:, ends].reshape(-1, 2, 2).numpy()
        tints = view_colors(len(shown)).repeat_interleave(len(ends) // 2, 0).tolist()
        axes.add_collection(LineCollection(list(lines), colors=tints, linewidths=width))
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.05)


def _words(direction: Float[Tensor, 3]) -> str:
    """The axis of the world that a direction is nearest to, or its numbers."""
    axis = int(direction.abs().argmax())
    if float(direction.abs()[axis]) > 0.98:
        return f"{'-' if direction[axis] < 0 else '+'}{'xyz'[axis]} of the world"
    return f"({', '.join(f'{value:.2f}' for value in direction.tolist())})"
