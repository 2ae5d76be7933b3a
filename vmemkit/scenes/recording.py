"""Recordings: posed images with depth as a scene, and as a folder with a transforms.json.

In: views with depth, or a folder in nerfstudio's format (docs.nerf.studio, data conventions).
Out: a `Capture` that shows the recorded views and nothing else, or the views, or the folder.
`camera_files.py` reads the json itself.
"""

from __future__ import annotations

import math
import os
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
    Cameras,
    Views,
    image_size,
    in_image,
    load_depth,
    load_image,
    project,
    save_depth,
    save_image,
)
from vmemkit.core import views as checked_views
from vmemkit.scenes.camera_files import read_transforms, write_transforms

CAMERA_TOLERANCE = 1e-4  # largest difference of pose and K entries from a recorded camera
ASPECT_TOLERANCE = 0.02  # relative difference of aspect between a depth map and its image
MAX_CAPTURE_PIXELS = 500_000_000  # 8 GB of colour and depth as float32
MAX_DEPTH_STEP = 65535  # largest value of a 16-bit depth image


@dataclass(frozen=True, repr=False)
class Capture:
    """A posed RGB-D recording as a scene: it knows its recorded cameras and no others."""

    views: Views
    tolerance: float  # share of the depth by which a visible point may lie behind the surface

    def __repr__(self) -> str:
        return f"Capture({len(self.views)} views of {list(self.views.image.shape[2:])})"

    def to(self, device: torch.device | str) -> Capture:
        return Capture(self.views.to(device), self.tolerance)

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """The recorded views of these cameras.

        Errors: ValueError for a camera that was not recorded and for another resolution.
        """
        recorded_size = tuple(self.views.image.shape[2:])
        if (height, width) != recorded_size:
            raise ValueError(
                f"this was recorded at {recorded_size} (height, width), got {(height, width)}: ask "
                "for the recorded size, or resize the views before making the capture"
            )
        return self.views[self._find(cameras)].replace(cameras=cameras)

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera, inside its image, and not behind the
        recorded depth; never where that is unknown. Errors: as `render`."""
        view = self._find(cameras)
        uv, depth = project(cameras, points_world)
        inside = in_image(uv, depth)
        height, width = self.views.image.shape[2:]
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


def load_capture(
    folder: str | os.PathLike, convention: str = "opengl", depth_unit: float | None = None
) -> Views:
    """The views of a folder with a nerfstudio transforms.json; NaN where depth is unknown.

    `convention` names the camera axes of the file, "opengl" or "opencv". `depth_unit` is metres
    per step of the depth files; by default it is the file's, else 0.001 for images and 1 for arrays.
    Depth of another resolution is brought to the images' by nearest pixel.
    Errors: ValueError for whatever is missing, malformed, hostile, or of differing sizes.
    """
    transforms = read_transforms(Path(folder), convention)
    if not transforms.images:
        raise ValueError(f"{folder} has cameras but no images: give every frame a file_path")
    size = _common_size(transforms.images, transforms.size)
    unit = transforms.depth_unit if depth_unit is None else depth_unit
    image = torch.stack([load_image(path) for path in transforms.images])
    if not any(transforms.depths):
        return checked_views(image, transforms.cameras)
    depths = [
        torch.full(size, torch.nan)
        if path is None
        else resized_depth(load_depth(path, unit), *size, str(path))
        for path in transforms.depths
    ]
    return checked_views(image, transforms.cameras, torch.stack(depths))


def save_capture(
    views: Views,
    folder: str | os.PathLike,
    convention: str = "opengl",
    depth_unit: float = DEPTH_UNIT,
) -> None:
    """Write views as a folder with a nerfstudio transforms.json, PNG images and depth.

    Depth becomes 16-bit PNG in steps of `depth_unit` metres, or .npy in metres if that cannot hold
    it. The folder appears complete or not at all. Errors: ValueError for no views, and for a path
    that is a file, a folder with something in it, or without a folder to lie in.
    """
    folder = Path(folder)
    if len(views) == 0:
        raise ValueError("save_capture needs at least one view, got none")
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if not folder.parent.is_dir() or (folder.exists() and not is_empty):
        raise ValueError(f"cannot write {folder}: it needs to be a new folder in an existing one")
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder.parent) as temporary:
        draft = Path(temporary) / folder.name
        (draft / "images").mkdir(parents=True)
        images = [f"images/{i:05d}.png" for i in range(len(views))]
        for name, image in zip(images, views.image, strict=True):
            save_image(draft / name, image)
        depths = _save_depths(draft, views, depth_unit)
        unit = depth_unit if any(str(name).endswith(".png") for name in depths) else None
        size = (views.image.shape[2], views.image.shape[3])
        write_transforms(draft, views.cameras, size, images, depths, convention, unit)
        if folder.exists():
            folder.rmdir()  # it is empty, and renaming onto a folder is not portable
        os.replace(draft, folder)


def resized_depth(
    depth: Float[Tensor, "h w"], height: int, width: int, name: str = "the depth"
) -> Float[Tensor, "h2 w2"]:
    """Depth at an image's resolution, by nearest pixel: a mean across an edge would be in mid-air.

    Errors: ValueError for depth of another shape than the image, because both must show the same.
    """
    rows, columns = depth.shape
    if abs(columns / rows * height / width - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"{name} is {columns} x {rows} and its image {width} x {height} (width x height): both "
            "must show the same part of the scene, so crop one like the other"
        )
    # "exact" is the variant that agrees with pixel centres at + 0.5
    return interpolate(depth[None, None], (height, width), mode="nearest-exact")[0, 0]


def _common_size(images: Sequence[Path], stated: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of all images. Errors: ValueError if they differ or are too much to hold."""
    sizes = {image_size(path): path for path in images}
    size = next(iter(sizes))
    if len(sizes) > 1 or stated not in (None, size):
        got = ", ".join(f"{w} x {h} ({path.name})" for (h, w), path in sizes.items())
        raise ValueError(
            f"the images of a capture need one size, that of transforms.json, got {got}: resize them"
        )
    if len(images) * size[0] * size[1] > MAX_CAPTURE_PIXELS:
        raise ValueError(
            f"{len(images)} images of {size[1]} x {size[0]} are more than {MAX_CAPTURE_PIXELS} "
            "pixels: keep fewer frames, or smaller images"
        )
    return size


def _save_depths(folder: Path, views: Views, unit: float) -> list[str | None]:
    """Write the depth maps; returns their names, None for a view without known depth."""
    if views.depth is None:
        return [None] * len(views)
    steps = (views.depth / unit).round()
    fits = bool((steps.isnan() | ((steps >= 1) & (steps <= MAX_DEPTH_STEP))).all())
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
            np.save(folder / name, depth.cpu().numpy())
    return names
