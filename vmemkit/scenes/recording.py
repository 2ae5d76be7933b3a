"""Recordings: posed images with depth as a scene, and written as a folder with a transforms.json.

In: views with depth. Out: a `Capture` that shows the recorded views and nothing else, or a folder in
nerfstudio's format (docs.nerf.studio, data conventions). `loading.py` reads folders.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import (
    DEPTH_UNIT,
    MAX_STEP,
    Cameras,
    Views,
    in_image,
    names_in,
    new_folder,
    project,
    save_depth,
    save_image,
)
from vmemkit.scenes.readers.transforms import write_transforms
from vmemkit.scenes.turned_photos import (
    same_shape,
)

CAMERA_TOLERANCE = 1e-4  # largest difference of pose and K entries from a recorded camera
MAX_CAPTURE_PIXELS = 500_000_000  # 8 GB of colour and depth as float32
WRITTEN = ("images", "depth", "transforms.json")  # what a capture is made of
WRITTEN_NAME = re.compile(r"[0-9]{5,}\.(png|npy)")


@dataclass(frozen=True, repr=False)
class Capture:
    """A posed RGB-D recording as a scene: it knows its recorded cameras and no others."""

    views: Views
    tolerance: float  # share of the depth by which a visible point may lie behind the surface

    def __repr__(self) -> str:
        return f"Capture({len(self.views)} views of {list(self.views.image.shape[2:])})"

    @property
    def recorded_size(self) -> tuple[int, int]:
        """Height and width of the recorded views in pixels, the only size that it renders."""
        return self.views.image.shape[2], self.views.image.shape[3]

    def to(self, device: torch.device | str) -> Capture:
        return Capture(self.views.to(device), self.tolerance)

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """The recorded views of these cameras.

        Errors: ValueError for a camera that was not recorded and for another resolution.
        """
        if (height, width) != self.recorded_size:
            raise ValueError(
                f"this was recorded at {self.recorded_size} (height, width), got {(height, width)}: ask "
                "for the recorded size, or resize the views before making the capture"
            )
        return self.views[self._find(cameras)].replace(cameras=cameras)

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera, inside its image, and not behind the
        recorded depth; never where that is unknown. Errors: as `render`."""
        view = self._find(cameras)
        uv, depth = project(cameras, points_world)
        inside = in_image(uv, depth)
        height, width = self.recorded_size
        at = torch.where(inside[..., None], uv, 0.0) * uv.new_tensor([width, height])
        column = at[..., 0].long().clamp(max=width - 1)
        row = at[..., 1].long().clamp(max=height - 1)
        surface = self.views.depth[view[:, None], row, column]
        return inside & (depth <= surface * (1 + self.tolerance))  # false where surface is NaN

    def _find(self, cameras: Cameras) -> Int[Tensor, " t"]:
        """The recorded view of each camera."""

        def entries(cameras: Cameras) -> Float[Tensor, "n 25"]:
            return torch.cat([cameras.world_from_cam.flatten(1), cameras.K.flatten(1)], 1)

        difference, view = torch.cdist(
            entries(cameras), entries(self.views.cameras), p=math.inf
        ).min(1)
        if bool((difference > CAMERA_TOLERANCE).any()):
            first = int((difference > CAMERA_TOLERANCE).nonzero()[0, 0])
            raise ValueError(
                f"camera {first} is none of the {len(self.views)} recorded ones (the nearest differs "
                f"by {difference[first]:.3g}): a capture knows only capture.views.cameras"
            )
        return view


def capture(views: Views, tolerance: float = 0.02) -> Capture:
    """The scene of recorded views with depth.

    `tolerance` is a share of the depth: 2 % allows for the noise of depth cameras.
    Errors: ValueError for no views, views without depth, and a bad tolerance.
    """
    if len(views) == 0 or views.depth is None:
        raise ValueError(
            f"a capture needs views with depth, got {len(views)} views and depth "
            f"{'missing' if views.depth is None else 'given'}: load depth files with the images"
        )
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a share of the depth of 0 or more, got {tolerance}")
    return Capture(views.replace(given=torch.ones_like(views.given), confidence=None), tolerance)


def save_capture(
    views: Views,
    folder: str | os.PathLike,
    convention: str = "opengl",
    depth_unit: float = DEPTH_UNIT,
) -> None:
    """Write views as a new folder with a nerfstudio transforms.json, PNG images and depth.

    Depth becomes 16-bit PNG in steps of `depth_unit` metres, or .npy in the same unit if that cannot
    hold it. The folder appears complete or not at all. Errors: ValueError for no views, and for a
    path that is a file, a folder with something in it, or without a folder to lie in.
    """
    with new_folder(folder) as draft:
        _write(views, draft, convention, depth_unit)


def add_capture(
    views: Views,
    folder: str | os.PathLike,
    convention: str = "opengl",
    depth_unit: float = DEPTH_UNIT,
    masks: Sequence[str] | None = None,
    points: str | None = None,
) -> None:
    """Write views as `save_capture` does, into a folder that may hold other things.

    The folder is made if it is missing. A capture that was written there before is replaced. `masks`
    and `points` are names of files in the folder, as in `write_transforms`. Errors: ValueError for no
    views, and as `check_capture_place`.
    """
    folder = check_capture_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
        draft, replaced = Path(temporary) / "new", Path(temporary) / "replaced"
        draft.mkdir()
        replaced.mkdir()
        _write(views, draft, convention, depth_unit, masks, points)
        for name in WRITTEN:  # the index comes last
            if (folder / name).exists():
                os.replace(folder / name, replaced / name)
            if (draft / name).exists():
                os.replace(draft / name, folder / name)


def check_capture_place(folder: str | os.PathLike) -> Path:
    """The folder, if `add_capture` can write there.

    Errors: ValueError for a file, and for `images` or `depth` with files of somebody else.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder to write to")
    for place in (folder / "images", folder / "depth"):
        others = names_in(place) if place.is_dir() else []
        others = [name for name in others if not WRITTEN_NAME.fullmatch(name)]
        if others or (place.exists() and not place.is_dir()):
            raise ValueError(
                f"{place} holds other files ({', '.join(others[:3])}): give another folder"
            )
    return folder


def resized_depth(
    depth: Float[Tensor, "h w"], height: int, width: int, name: str = "the depth"
) -> Float[Tensor, "h2 w2"]:
    """Depth at an image's resolution, by nearest pixel: a mean across an edge would be in mid-air.

    Errors: ValueError for depth of another shape than the image, because both must show the same.
    """
    rows, columns = depth.shape
    if not same_shape((rows, columns), (height, width)):
        raise ValueError(
            f"{name} is {columns} x {rows} and its image {width} x {height} (width x height): both "
            "must show the same part of the scene, so crop one like the other"
        )
    # "exact" is the variant that agrees with pixel centres at + 0.5
    return interpolate(depth[None, None], (height, width), mode="nearest-exact")[0, 0]


def _write(
    views: Views,
    folder: Path,
    convention: str,
    depth_unit: float,
    masks: Sequence[str] | None = None,
    points: str | None = None,
) -> None:
    """A capture in an empty folder. Errors: ValueError for no views."""
    if len(views) == 0:
        raise ValueError("a capture needs at least one view, got none")
    (folder / "images").mkdir()
    images = [f"images/{i:05d}.png" for i in range(len(views))]
    for name, image in zip(images, views.image, strict=True):
        save_image(folder / name, image)
    depths = _save_depths(folder, views, depth_unit)
    unit = depth_unit if any(depths) else None
    size = (views.image.shape[2], views.image.shape[3])
    write_transforms(folder, views.cameras, size, images, depths, convention, unit, masks, points)


def _save_depths(folder: Path, views: Views, unit: float) -> list[str | None]:
    """Write the depth maps; returns their names, None for a view without known depth."""
    if views.depth is None:
        return [None] * len(views)
    steps = (views.depth / unit).round()
    fits = bool((steps.isnan() | ((steps >= 1) & (steps <= MAX_STEP))).all())
    (folder / "depth").mkdir()
    names: list[str | None] = []
    for i, depth in enumerate(views.depth):
        name = f"depth/{i:05d}.{'png' if fits else 'npy'}"
        if bool(depth.isnan().all()):
            names.append(None)
            continue
        names.append(name)
        if fits:
            save_depth(folder / name, depth, unit)
        else:
            np.save(folder / name, (depth / unit).cpu().numpy())
    return names
