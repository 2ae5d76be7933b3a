"""Recordings: posed images with depth in a folder, as a scene."""

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
from torch.nn import functional

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

POSE_TOLERANCE = 1e-4  # of a pose's and of K's entries, for a camera to be a recorded one
ASPECT_TOLERANCE = 0.01  # within which a depth map is one of the image's field of view
MAX_CAPTURE_PIXELS = 500_000_000  # 8 GB of colour and depth as float32
LARGEST_STEP = 65535  # of a 16-bit depth image


# ---- recordings ----------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Capture:
    """A posed RGB-D recording as a scene: only what was recorded can be shown or asked."""

    views: Views
    tolerance: float  # share by which a point may lie behind the recorded depth and be seen

    def __repr__(self) -> str:
        return f"Capture({len(self.views)} views of {list(self.views.image.shape[2:])})"

    def to(self, device: torch.device | str) -> Capture:
        return Capture(self.views.to(device), self.tolerance)

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """The views recorded by these cameras. Errors: ValueError if there is none, or if it was
        recorded at another resolution."""
        recorded = tuple(self.views.image.shape[2:])
        if (height, width) != recorded:
            raise ValueError(
                f"this was recorded at {recorded} (height, width), got {(height, width)}: ask for "
                "the recorded size, or resize the views before making the capture"
            )
        return self.views[self._find(cameras)].replace(cameras=cameras)

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera, inside its image, and not behind the
        recorded depth of its pixel; never where that is unknown. Errors: as `render`."""
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
        wanted, known = _numbers(cameras), _numbers(self.views.cameras)
        off, view = torch.cdist(wanted, known, p=math.inf).min(1)
        if bool((off > POSE_TOLERANCE).any()):
            first = int((off > POSE_TOLERANCE).nonzero()[0, 0])
            raise ValueError(
                f"camera {first} is none of the {len(known)} recorded ones (the nearest differs by "
                f"{off[first]:.3g}): a capture knows only its own views, so use capture.views.cameras"
            )
        return view


def capture(views: Views, tolerance: float = 0.02) -> Capture:
    """The scene known at its recorded views; `tolerance` is a share of the depth (2 % allows for
    the noise of depth cameras). Errors: ValueError for no views, or views without depth."""
    if len(views) == 0 or views.depth is None:
        raise ValueError(
            f"a capture needs views with depth, got {len(views)} views and depth "
            f"{'missing' if views.depth is None else 'given'}: load depth files with the images"
        )
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a share of the depth of 0 or more, got {tolerance}")
    given = torch.ones_like(views.given)
    return Capture(views.replace(given=given, confidence=None), tolerance)


def load_capture(
    folder: str | os.PathLike, convention: str = "opengl", depth_unit: float | None = None
) -> Views:
    """The views of a folder with a nerfstudio transforms.json; NaN where depth is unknown.

    `convention` names the camera axes of the file, "opengl" or "opencv". `depth_unit` is metres
    per step of the depth files, by default what the file says, then 0.001 for images and 1 for
    arrays. Depth of another resolution than the images is brought to theirs by nearest pixel.
    Errors: ValueError for whatever is missing, malformed, hostile, or of differing sizes.
    """
    transforms = read_transforms(Path(folder), convention)
    if not transforms.images:
        raise ValueError(f"{folder} has cameras but no images: give every frame a file_path")
    size = _common_size(transforms.images, transforms.size)
    unit = transforms.depth_unit if depth_unit is None else depth_unit
    image = torch.stack([load_image(path) for path in transforms.images])
    depth = None
    if any(path is not None for path in transforms.depths):
        depth = torch.stack([_depth_of(path, unit, size) for path in transforms.depths])
    return checked_views(image, transforms.cameras, depth)


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
    if not folder.parent.is_dir() or (folder.exists() and not _is_empty_folder(folder)):
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


def _numbers(cameras: Cameras) -> Float[Tensor, "t 25"]:
    return torch.cat([cameras.world_from_cam.flatten(1), cameras.K.flatten(1)], 1)


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


def _depth_of(path: Path | None, unit: float | None, size: tuple[int, int]) -> Tensor:
    if path is None:
        return torch.full(size, torch.nan)
    depth = load_depth(path, unit)
    aspect = depth.shape[1] / depth.shape[0] * size[0] / size[1]
    if abs(aspect - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"{path} is {depth.shape[1]} x {depth.shape[0]}, another shape than its image of "
            f"{size[1]} x {size[0]}: crop it to the same field of view"
        )
    # "exact" is the variant that agrees with pixel centres at + 0.5
    return functional.interpolate(depth[None, None], size, mode="nearest-exact")[0, 0]


def _save_depths(folder: Path, views: Views, unit: float) -> list[str | None]:
    """Write the depth maps and name them; None for a view of which no depth is known."""
    if views.depth is None:
        return [None] * len(views)
    steps = (views.depth / unit).round()
    fits = bool((steps.isnan() | ((steps >= 1) & (steps <= LARGEST_STEP))).all())
    (folder / "depth").mkdir()
    names: list[str | None] = []
    for i, depth in enumerate(views.depth):
        name = f"depth/{i:05d}.{'png' if fits else 'npy'}"
        names.append(None if bool(depth.isnan().all()) else name)
        if names[-1] is None:
            continue
        if fits:
            save_depth(folder / name, depth, unit)
        else:
            np.save(folder / name, depth.cpu().numpy())
    return names


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
