"""Inspection: what a recording holds, in numbers that show a wrong convention before a run.

In: a path or a `Recording`. Out: words by topic, and points of its surfaces. Where depth is known, views
are compared with later ones, with the poses as they were read and as other conventions would read them:
the right convention makes surfaces agree best.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, Views, in_image, project, surface_at, unproject
from vmemkit.scenes.formats import find_source
from vmemkit.scenes.gravity import up_direction, up_words
from vmemkit.scenes.loading import Recording, open_source

MOST_VIEWS = 100  # that are opened; of longer recordings, every n-th
HEIGHT = 144  # pixels of the opened views
# Relative differences of depth: above the first, with less than its half by other conventions, these
# are named. Above the second, poses, axes or units are doubtful.
NOTICEABLE, DOUBTFUL = 0.003, 0.1
QUANTILE_SAMPLE = 100_000  # values that suffice for a quantile
MOST_PAIRS = 30  # of views that are compared
POINTS = 60_000  # of a picture


def inspect(
    path: str | os.PathLike,
    format: str | None = None,
    cameras: str | os.PathLike | None = None,
    every: int | None = None,
    **options: Any,
) -> tuple[Recording, dict[str, str]]:
    """A recording at a small size, and what it holds, as words by topic.

    The arguments are those of `load`; `every` is by default such that at most MOST_VIEWS are opened.
    Numbers of cameras, distances and the up direction are of all cameras.
    Errors: ValueError as `load`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    source = find_source(Path(path), format, None if cameras is None else Path(cameras), given)
    if every is None:
        every = math.ceil(len(source.cameras) / MOST_VIEWS)
    recording = open_source(source, HEIGHT, every)
    return recording, describe(recording, source.cameras)


def describe(recording: Recording, cameras: Cameras | None = None) -> dict[str, str]:
    """What a recording holds, as words by topic. `cameras` (t,) are all, where it has only some."""
    cameras = recording.cameras if cameras is None else cameras
    opened = len(recording.cameras)
    some = f", of which {opened} were opened" if opened < len(cameras) else ""
    report = {
        "format": recording.what,
        "cameras": f"{len(cameras)}{some}",
        "images": _image_words(recording),
        "lens": _lens_words(cameras),
        "axes": recording.axes,
        "scale": recording.scale,
        "up": f"{up_words(up_direction(cameras))}, by the images",
        "path": _path_words(cameras),
    }
    if recording.points is not None:
        report["points"] = _points_words(recording.points, recording.cameras)
    if recording.views is not None:
        report["depth"] = _depth_words(recording.views)
        if recording.views.depth is not None and len(recording.views) > 1:
            report["agreement"] = _agreement_words(recording.views)
    return report | {
        f"note {i}" if len(recording.notes) > 1 else "note": note
        for i, note in enumerate(recording.notes, 1)
    }


def surface_points(
    recording: Recording,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"] | None]:
    """Points of the recording, world, and their colours in [0, 1]: of its depth, else its own points
    without colours; up to POINTS of them, evenly taken."""
    views = recording.views
    if views is not None and views.depth is not None:
        known = views.depth.isfinite()
        every = 1 + int(known.sum()) // POINTS
        points = unproject(views.cameras, views.depth.nan_to_num(posinf=0.0))[known]
        return points[::every], views.image.movedim(1, -1)[known][::every]
    points = torch.empty(0, 3) if recording.points is None else recording.points
    return points[:: 1 + len(points) // POINTS], None


def depth_difference(views: Views) -> float | None:
    """The median relative difference between the depth of a surface as one view shows it and as a later
    view does; None where no two of them overlap. What is hidden in the later view counts, too.

    Errors: ValueError for views without depth.
    """
    if views.depth is None:
        raise ValueError("views without depth cannot be compared: load depth with the images")
    differences = []
    for step in {1, max(1, len(views) // 4)}:
        for i in range(0, len(views) - step, 1 + len(views) // MOST_PAIRS):
            differences.append(_difference(views[i : i + 1], views[i + step : i + step + 1]))
    together = torch.cat(differences) if differences else torch.empty(0)
    return float(together.median()) if len(together) else None


def _difference(here: Views, there: Views) -> Float[Tensor, " n"]:
    """Relative differences of depth, for the pixels of a view that another one sees."""
    known = here.depth.isfinite()
    points = unproject(here.cameras, here.depth.nan_to_num(posinf=0.0))[known]
    depth, surface = surface_at(there, points)
    difference = (surface / depth - 1).abs()
    return difference[difference.isfinite()]


def _other_conventions(cameras: Cameras) -> dict[str, Cameras]:
    """The cameras as other conventions would have read the same file."""
    flip = torch.diag(cameras.world_from_cam.new_tensor([1.0, -1, -1, 1]))
    poses, inverse = cameras.world_from_cam, cameras.cam_from_world
    others = {
        "camera axes of OpenGL instead of OpenCV, or the reverse": poses @ flip,
        "poses the other way round (world to camera, or the reverse)": inverse,
        "both poses the other way round and other camera axes": flip @ inverse,
    }
    return {name: cameras.replace(world_from_cam=other) for name, other in others.items()}


def _image_words(recording: Recording) -> str:
    if recording.views is None or recording.recorded_size is None:
        return "none: a bare trajectory"
    h, w = recording.recorded_size
    return f"{w} x {h} (width x height)"


def _lens_words(cameras: Cameras) -> str:
    fov = 2 * torch.rad2deg(torch.atan(0.5 / cameras.K[:, 0, 0].double()))
    least, most = float(fov.min()), float(fov.max())
    same = most - least < 0.05
    across = f"{least:.1f}" if same else f"{least:.1f} to {most:.1f}"
    off = (cameras.K[:, :2, 2] - 0.5).abs().max()
    centred = "centred" if off < 0.005 else f"up to {off:.1%} of the image off its middle"
    return f"{across} degrees across, {centred}"


def _path_words(cameras: Cameras) -> str:
    position = cameras.position.double()
    steps = (position[1:] - position[:-1]).norm(dim=1)
    if len(steps) == 0:
        return "one camera"
    extent = float((position.amax(0) - position.amin(0)).norm())
    return (
        f"{float(steps.sum()):.4g} units long in an extent of {extent:.4g}; baseline between "
        f"neighbours {float(steps.median()):.3g} (largest {float(steps.max()):.3g})"
    )


def _points_words(points: Float[Tensor, "n 3"], cameras: Cameras) -> str:
    if len(points) == 0:
        return "none"
    sample = points[:: 1 + len(points) // QUANTILE_SAMPLE]
    uv, depth = project(cameras[::10], sample)
    seen = in_image(uv, depth)
    if not seen.any():
        return f"{len(points)}, and no camera looks at one: check poses and axes"
    near, far = _tenths(depth[seen])
    share = float(seen.any(0).float().mean())
    return f"{len(points)}; cameras look at {share:.0%} of them, from {near:.3g} to {far:.3g} units away"


def _depth_words(views: Views) -> str:
    if views.depth is None:
        return "none: a reconstructor can estimate it"
    known = views.depth.isfinite()
    if not known.any():
        return "none is known"
    shares = known.flatten(1).float().mean(1)
    near, far = _tenths(views.depth[known])
    without = int((shares == 0).sum())
    lacking = f"; {without} views have none" if without else ""
    return (
        f"known at {float(known.float().mean()):.0%} of the pixels, from {near:.3g} to {far:.3g} units "
        f"(tenths at either end left out){lacking}"
    )


def _agreement_words(views: Views) -> str:
    found = depth_difference(views)
    if found is None:
        return "unknown: no view sees what another one saw"
    words = f"depth differs by {found:.2%} from view to view (median)"
    others = {
        name: depth_difference(views.replace(cameras=cameras))
        for name, cameras in _other_conventions(views.cameras).items()
    }
    better = {name: value for name, value in others.items() if value is not None}
    name = min(better, key=lambda name: better[name], default="")
    if name and found > NOTICEABLE and better[name] < found / 2:
        return f"{words}, and by {better[name]:.2%} with {name}: is the convention right?"
    if found > DOUBTFUL:
        return f"{words}: check poses, axes and the unit of depth"
    return words


def _tenths(values: Float[Tensor, " n"]) -> tuple[float, float]:
    sample = values[:: 1 + len(values) // QUANTILE_SAMPLE]
    near, far = sample.quantile(sample.new_tensor([0.1, 0.9])).tolist()
    return near, far
