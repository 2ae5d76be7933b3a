"""nerfstudio: a memory as images with depth, masks and a point cloud, named by a transforms.json.

In: a memory. Out: a folder that `ns-train splatfacto --data FOLDER` takes as it is, and that
`scenes.load_capture` reads back. Camera axes are OpenGL's, as nerfstudio's; the world stays the
memory's, in the file and in the point cloud. Source: docs.nerf.studio, data conventions.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from vmemkit.core import MAX_DISTANCE, SAME_SURFACE, Views, pixel_centres, rays, surface_at
from vmemkit.exports.places import writing_folder
from vmemkit.exports.surfel_points import facing_viewers
from vmemkit.memory import Memory, save_ply
from vmemkit.scenes import add_capture

POINTS, MASKS = "surfels.ply", "masks"


def nerfstudio(memory: Memory, folder: str | os.PathLike) -> None:
    """Write a memory as a new folder of transforms.json, `images/`, `depth/`, `masks/`, `surfels.ply`.

    Depth is a 16-bit PNG in steps of 1/1000 world unit, nerfstudio's default. Depth that this cannot
    hold, such as that of sky, is .npy in the same unit. A mask is black where
    `supported_pixels` says no, so that a trainer does not learn what was invented. To train on that,
    too, delete each `mask_path`.
    Errors: ValueError for a memory without views, and a folder that is not new or empty; OSError for a
    full disk.
    """
    if len(memory) == 0:
        raise ValueError(
            "a transforms.json needs a memory with views, got none: write a view first"
        )
    with writing_folder(folder) as draft:
        save_ply(facing_viewers(memory.surfels), draft / POINTS)
        masks = _save_masks(draft, supported_pixels(memory))
        add_capture(memory.views, draft, masks=masks, points=POINTS)


def supported_pixels(memory: Memory) -> Bool[Tensor, "t h w"]:
    """The pixels of each view that a given view supports.

    There, some given view shows the same surface, within 5 % of its depth, or both show sky. All pixels
    of given views are supported. Pixels of unknown depth in the others are not.
    """
    views = memory.views
    supported = views.given[:, None, None].expand(views.depth.shape).clone()
    for i in (~views.given).nonzero()[:, 0].tolist():
        for j in views.given.nonzero()[:, 0].tolist():
            supported[i] |= _supported_by(views[j : j + 1], views[i : i + 1])
    return supported


def _supported_by(given: Views, view: Views) -> Bool[Tensor, "h w"]:
    """The pixels of a view (1,) that a given view (1,) supports."""
    depth = view.depth[0].flatten()
    is_sky = depth.isinf()
    # A place so far away stands for the direction of the sky.
    reach = torch.where(is_sky, MAX_DISTANCE, depth)[:, None]
    h, w = view.depth.shape[1:]
    uv = pixel_centres(h, w, depth.device)
    points = view.cameras.position[0] + reach * rays(view.cameras[0], uv).flatten(0, 1)
    there, surface = surface_at(given, points)
    near = surface.isfinite() & ((there - surface).abs() <= SAME_SURFACE * surface)
    return torch.where(is_sky, surface.isinf(), near).view(h, w)


def _save_masks(folder: Path, supported: Bool[Tensor, "t h w"]) -> list[str]:
    """Write a mask for each view, white where it is supported; returns their names."""
    (folder / MASKS).mkdir()
    names = [f"{MASKS}/{i:05d}.png" for i in range(len(supported))]
    for name, mask in zip(names, supported.cpu(), strict=True):
        Image.fromarray(mask.byte().numpy() * 255).save(folder / name)
    return names
