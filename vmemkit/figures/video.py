"""Films: a walk as a video, walks side by side, and a flight round the surfels of a memory.

In: steps of a walk, memories, images. Out: frames, and files that browsers play.
A walk makes few views a second. The frames between two views are made of both by their depth; they
are there to be looked at, and no memory holds them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from vmemkit.core import (
    CODES,
    UP,
    Cameras,
    Views,
    cameras,
    cat,
    image_bytes,
    intrinsics,
    look_at,
    pose_distance,
    replacing,
    save_video,
)
from vmemkit.figures.colors import CARD, CARD_INK
from vmemkit.figures.extents import surfel_box
from vmemkit.figures.renderings import recall
from vmemkit.generation import context_batch, reproject, with_far_sky
from vmemkit.memory import Memory
from vmemkit.pipeline import Step
from vmemkit.scenes import keyframes

FPS = 12.0  # frames per second
LEAST_SECONDS = (
    4.0  # films of short walks get so many frames between views that they last this long
)
PARTS = 2  # frames per view, at least
CUT = 1.0  # pose distance beyond which nothing is put between two views
VIDEO_ROWS = 360  # pixels: height of a film
CAPTION = 0.14  # share of the height that a caption takes: legible in films half as high
WEBP_QUALITY = 60  # percent, of animations
FLIGHT_FOV, FLIGHT_HEIGHT, FLIGHT_SWING = 50.0, 40.0, 35.0  # degrees: lens, elevation, to each side
ONE_SIDED = 0.4  # length of the mean normal above which surfels can be seen from one side only


@dataclass(frozen=True, repr=False)
class Film:
    """Frames with their cameras."""

    cameras: Cameras  # (f,)
    image: Float[Tensor, "f 3 h w"]  # in [0, 1]


def walk_film(steps: Sequence[Step]) -> Film:
    """The view that a walk went on from, its generated views, and frames between them.

    Errors: ValueError for no steps.
    """
    if not steps:
        raise ValueError("a film needs the steps of a walk, got none")
    before, first = steps[0].before.views, steps[0].targets[:1]
    nearest = pose_distance(before.cameras.world_from_cam, first.world_from_cam).argmin()[None]
    views = cat([_plain(before[nearest]), *(_plain(step.views) for step in steps)])
    parts = max(PARTS, math.ceil(LEAST_SECONDS * FPS / len(views)))
    path, frames = [], []
    for i in range(len(views) - 1):
        path.append(views.cameras[i : i + 1])
        frames.append(views.image[i : i + 1])
        pair = views[i : i + 2]
        if pose_distance(*pair.cameras.world_from_cam) < CUT:
            between = keyframes(pair.cameras, parts + 1)[1:-1].to(views.device)
            path.append(between)
            frames.append(_between(pair, between))
    return Film(cat([*path, views.cameras[-1:]]), torch.cat([*frames, views.image[-1:]]))


def _plain(views: Views) -> Views:
    """The views without what a film does not need."""
    return views.replace(confidence=None, **dict.fromkeys(CODES))


def _between(pair: Views, between: Cameras) -> Float[Tensor, "f 3 h w"]:
    """What cameras on the way from one view to the next see of both; where that is nothing, the
    pixels of the nearer view."""
    context = context_batch(with_far_sky(pair)[0])
    context = context.replace(given=torch.ones_like(context.given))  # both count alike
    seen = reproject(context, between.map(lambda x: x[None]))
    half = (torch.arange(len(between), device=pair.device) + 1) * 2 > len(between) + 1
    return torch.where(seen.known[0, :, None], seen.image[0], pair.image[half.long()])


def side_by_side(
    panels: Mapping[str, Float[Tensor, "f 3 h w"]], rows: int = VIDEO_ROWS
) -> Float[Tensor, "f 3 hc wp"]:
    """Frames of equal size beside each other, scaled to so many rows, each under its name.

    Errors: ValueError for no panels, or panels of different sizes.
    """
    shapes = {tuple(images.shape) for images in panels.values()}
    if len(shapes) != 1:
        raise ValueError(f"panels need one size, and at least one panel, got {sorted(shapes)}")
    columns = []
    for name, images in panels.items():
        large = scaled(images, rows)
        columns.append(torch.cat([_caption(name, large), large], 2))
    return torch.cat(columns, 3)


def scaled(images: Float[Tensor, "f 3 h w"], rows: int) -> Float[Tensor, "f 3 rows w2"]:
    """The images with so many rows. Errors: ValueError for fewer than one."""
    if rows < 1:
        raise ValueError(f"the height of pictures must be 1 pixel or more, got {rows}")
    size = (rows, round(rows * images.shape[3] / images.shape[2]))
    return interpolate(images, size, mode="bicubic", align_corners=False).clamp(0, 1)


def _caption(name: str, images: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 3 c w"]:
    """A strip of card with the name in its middle, for every frame."""
    count, _, height, width = images.shape
    rows = round(CAPTION * height)
    strip = Image.new("RGB", (width, rows), CARD)
    font = ImageFont.load_default(round(0.66 * rows))
    middle = (width / 2, rows / 2)
    ImageDraw.Draw(strip).text(middle, name, CARD_INK, font, anchor="mm")
    pixels = torch.from_numpy(np.array(strip)).permute(2, 0, 1).float() / 255
    return pixels.to(images.device).expand(count, 3, rows, width)


def fly_round(memory: Memory, frames: int = 72, rows: int = VIDEO_ROWS) -> Film:
    """The memory's surfels from cameras above that circle them once.

    Surfels show from the side that was seen. So walls and ceilings in the foreground do not hide a
    room; and where all surfels face one way, the cameras swing to both sides instead.
    Errors: ValueError for a memory without surfels.
    """
    surfels = memory.surfels
    if len(surfels) == 0:
        raise ValueError("a flight needs surfels, and this memory has none: write a view first")
    low, high = surfel_box(surfels.position, memory.views.cameras.position)
    centre, reach = (low + high) / 2, float((high - low).norm()) / 2
    facing = surfels.normal.mean(0)
    share = torch.arange(frames, device=surfels.device) / frames
    if facing.norm() > ONE_SIDED:
        heading = math.radians(FLIGHT_SWING) * torch.sin(2 * math.pi * share)
        heading = heading + torch.atan2(facing[0], facing[2])
        climb = torch.tensor(math.radians(FLIGHT_HEIGHT) / 4, device=surfels.device)
    else:
        heading = 2 * math.pi * share
        climb = torch.tensor(math.radians(FLIGHT_HEIGHT), device=surfels.device)
    flat = torch.stack([heading.sin(), torch.zeros_like(heading), heading.cos()], -1)
    up = flat.new_tensor(UP)
    away = normalize(climb.sin() * up - climb.cos() * flat, dim=-1)
    eye = centre + reach / math.tan(math.radians(FLIGHT_FOV / 2)) * away
    circle = cameras(look_at(eye, centre.expand_as(eye)), intrinsics(FLIGHT_FOV).to(eye.device))
    return Film(circle, recall(memory, circle, rows))


def save_walk_video(path: str | Path, steps: Sequence[Step], rows: int = VIDEO_ROWS) -> None:
    """Write a video of a walk (`walk_film`) with so many rows.

    Errors: as `walk_film` and `core.save_video`.
    """
    save_video(path, scaled(walk_film(steps).image, rows), FPS)


def save_animation(path: str | os.PathLike, images: Float[Tensor, "f 3 h w"], fps: float) -> None:
    """Write images in [0, 1] as an animated .webp or .gif that repeats, for pages that show no video.

    A GIF has 256 colours a frame, and counts time in hundredths of a second.
    Errors: ValueError for no images, a bad frame rate or another suffix.
    """
    if Path(path).suffix.lower() not in (".webp", ".gif") or len(images) == 0 or not fps > 0:
        raise ValueError(
            f"save_animation needs a .webp or .gif, images and fps > 0, got {path}, {len(images)} and "
            f"{fps}"
        )
    first, *others = [Image.fromarray(pixels) for pixels in image_bytes(images)]
    with replacing(path) as draft:
        first.save(
            draft,
            save_all=True,
            append_images=others,
            duration=round(1000 / fps),  # milliseconds
            loop=0,
            quality=WEBP_QUALITY,
        )
