"""Examples: where the demo, the lessons and the Explorer start."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import (
    Cameras,
    Views,
    cameras,
    crop,
    crop_to_aspect,
    data_file,
    intrinsics,
    intrinsics_from_pixels,
    load_depth,
    load_image,
    look_at,
    resize,
    views,
)
from vmemkit.scenes.house.design import rooms
from vmemkit.scenes.panoramas import panorama
from vmemkit.scenes.scene import Scene
from vmemkit.scenes.tours import capture_tour, single_tour
from vmemkit.scenes.trajectory import moves

PANORAMA, STEREO = "st_fagans_interior_1k.jpg", "bedroom_chair"
ASPECT = 4 / 3  # width / height of all pictures
HEIGHT = 90  # pixels
FOV = 75.0  # degrees
LOOKS_DOWN = 17.0  # degrees: how the stereo camera was held, by the lines that are upright
PART = (120, 50, 345, 460)  # top, left, height, width of the stereo image in which depth is sound


def stereo_view(name: str = STEREO) -> Views:
    """The left image (1,) of a stereo pair of data/, its depth and its camera, where depth is sound."""
    calibration = json.loads(data_file("oakd_calibration.json").read_text())
    fx, fy, cx, cy = (calibration[key] for key in ("fx", "fy", "cx0", "cy"))
    K = intrinsics_from_pixels(fx, fy, cx, cy, calibration["width"], calibration["height"])
    level = cameras(torch.eye(4), K)
    camera = moves(level, f"look down {LOOKS_DOWN}", turn=LOOKS_DOWN)
    image = load_image(data_file(f"{name}_left.png"))
    depth = load_depth(data_file(f"{name}_depth.png"))
    return crop(views(image[None], camera, depth[None]), *PART)


def turned(headings: Float[Tensor, " n"]) -> Cameras:
    """Level cameras at the origin, turned right from the photograph's middle, degrees."""
    yaw = torch.deg2rad(headings)
    ahead = torch.stack([yaw.sin(), torch.zeros_like(yaw), yaw.cos()], -1)
    return cameras(look_at(torch.zeros_like(ahead), ahead), intrinsics(FOV, ASPECT))


def picture_size(height: int) -> tuple[int, int]:
    """Height and width of pictures, pixels."""
    return height, round(height * ASPECT)


SLACK = 0.02  # of an aspect of 2 that still is a panorama's
KINDS = ("photo with depth", "panorama", "photo on a wall")  # what an uploaded image can be
WALL = 3.0  # metres: distance of the wall on which a photo without depth hangs


@dataclass(frozen=True, repr=False)
class Beginning:
    """Where a journey starts: given views, what is true (if anything is known), in words."""

    given: Views  # (g,)
    scene: Scene | None
    about: str


# ---- where to start ------------------------------------------------------------------------------


def room(height: int, seed: int = 0) -> Beginning:
    """A made-up house, from one view."""
    house = rooms(seed)
    tour = single_tour(house, seed, FOV, ASPECT)
    return _rendered(house, tour.given, height, "a made-up house, from one view")


def captured_rooms(height: int, seed: int = 0) -> Beginning:
    """A made-up house, from six views a room."""
    house = rooms(seed)
    given = capture_tour(house, seed, FOV, ASPECT).given
    return _rendered(house, given, height, "a made-up house, from six views a room")


def photographed_hall(height: int, seed: int = 0) -> Beginning:
    """A panorama, from four views around."""
    return _around(panorama(data_file(PANORAMA)), height)


def stereo(height: int, seed: int = 0) -> Beginning:
    """A photograph with measured depth."""
    given = resize(stereo_view(), *picture_size(height))
    return Beginning(given, None, "a photograph with depth from a stereo camera")


EXAMPLES: dict[str, Callable[[int, int], Beginning]] = {
    "house, one view": room,
    "house, six views a room": captured_rooms,
    "panorama": photographed_hall,
    "photo with stereo depth": stereo,
}


def from_image(
    image: Float[Tensor, "3 h w"],
    kind: str,
    height: int,
    depth: Float[Tensor, "h2 w2"] | None = None,
    fov: float = FOV,
) -> Beginning:
    """An image of one's own, as one of `KINDS`, cut to the examples' format of 4:3.

    A photo needs depth of the same field of view, at any resolution; without depth it can be hung
    on a wall WALL metres away. A panorama is equirectangular, twice as wide as high.
    Errors: ValueError for another kind, missing depth, and formats that do not fit.
    """
    h, w = image.shape[1:]
    if kind == "panorama":
        if abs(w / h / 2 - 1) > SLACK:
            raise ValueError(f"a panorama is twice as wide as high, this image is {w} x {h}")
        exact = interpolate(image[None], (h, 2 * h), mode="bilinear", antialias=True)[0]
        return _around(panorama(exact.clamp(0, 1)), height)
    if kind not in KINDS:
        raise ValueError(f"an image can be {', '.join(KINDS)}, got {kind!r}")
    if kind == "photo with depth":
        if depth is None:
            raise ValueError(
                "a photo needs depth to be walked into: upload its depth too (16-bit PNG, .npy or "
                f".npz), or choose {KINDS[2]!r}"
            )
        rows, columns = depth.shape
        if abs(columns / rows * h / w - 1) > SLACK:
            raise ValueError(
                f"the depth is {columns} x {rows} and the image {w} x {h}: both must show the same "
                "part of the scene"
            )
        depth = interpolate(depth[None, None], (h, w), mode="nearest-exact")[0]
    else:
        depth = torch.full((1, h, w), WALL)
    camera = cameras(torch.eye(4)[None], intrinsics(fov, w / h))
    cut = crop_to_aspect(views(image[None], camera, depth), ASPECT)
    return Beginning(resize(cut, *picture_size(height)), None, f"your image, a {kind}")


def _around(scene: Scene, height: int) -> Beginning:
    given = scene.render(turned(torch.arange(0.0, 360.0, 90.0)), *picture_size(height))
    return Beginning(given, scene, "a photograph of all directions, from four views")


def _rendered(scene: Scene, given: Cameras, height: int, about: str) -> Beginning:
    return Beginning(scene.render(given, *picture_size(height)), scene, about)
