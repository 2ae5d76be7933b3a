"""Examples: where the demo, the notebooks and the Explorer start.

In: a height in pixels and a seed, or an image of one's own. Out: given views to begin a memory
with, and the scene they come from where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import (
    Cameras,
    Views,
    as_images,
    cameras,
    crop,
    crop_to_aspect,
    data_file,
    horizontal_fov,
    intrinsics,
    intrinsics_from_pixels,
    load_depth,
    load_image,
    pose,
    resize,
    views,
)
from vmemkit.scenes.house.designer import rooms
from vmemkit.scenes.house.ray_casting import Rooms
from vmemkit.scenes.panoramas import Panorama, panorama
from vmemkit.scenes.recording import resized_depth
from vmemkit.scenes.room_box import EYE_HEIGHT, PHOTO_FOV, PhotoRoom
from vmemkit.scenes.room_fit import fit_room
from vmemkit.scenes.scene import Scene
from vmemkit.scenes.tours import capture_tour, single_tour
from vmemkit.scenes.trajectory import moves, upright_cameras

PANORAMA, STEREO = "st_fagans_interior_1k.jpg", "bedroom_chair"  # files of data/
ASPECT = 4 / 3  # width / height of all example images
HEIGHT = 180  # pixels
FOV = 75.0  # degrees: horizontal
STEREO_TILT = 17.0  # degrees: the stereo camera looked down, measured from upright edges
SOUND_PART = (
    120,
    50,
    345,
    460,
)  # pixels of the stereo image with good depth: top, left, height, width
# The photo of a room is cut from a panorama.
ROOM_PANORAMA = "lebombo_1k.jpg"  # file of data/
ROOM_HEADING = -5.0  # degrees to the right of the panorama's middle at which the photo looks
ROOM_DROP = 5.0  # degrees below the horizon at which it looks
ROOM_FOV = 95.0  # degrees: horizontal field of view
ROOM_ROWS = 240  # pixels: with these rows the photo is about as sharp as the panorama
ROOM_EYE_HEIGHT = 1.33  # metres: the door, 1.52 eye heights high, is taken to be 2.03 m high
ROOM_CEILING = 1.85  # metres above the eye, measured: the fit takes the curtain rail for its edge
ASPECT_TOLERANCE = 0.02  # relative: an image this close to 2 : 1 is a panorama
WALL = 3.0  # metres: distance of the wall on which a photo without depth hangs
# Metres. Where all but a tenth is nearer or farther, the unit of the depth may be wrong.
USUAL_DEPTHS, TENTH = (0.1, 200.0), 0.1
KINDS = ("photo", "photo with depth", "panorama", "photo on a wall")  # what an own image can be


@dataclass(frozen=True, repr=False)
class Beginning:
    """Where a journey starts: given views, the scene if it is known, and a description."""

    given: Views  # (g,)
    scene: Scene | None
    about: str


def example_size(height: int) -> tuple[int, int]:
    """Height and width of the examples' images, pixels."""
    return height, round(height * ASPECT)


def stereo_view(name: str = STEREO) -> Views:
    """The left image (1,) of a stereo pair of data/ with camera and depth, cut to where depth is good."""
    calibration = json.loads(data_file("oakd_calibration.json").read_text(encoding="utf-8"))
    fx, fy, cx, cy = (calibration[key] for key in ("fx", "fy", "cx0", "cy"))
    K = intrinsics_from_pixels(fx, fy, cx, cy, calibration["width"], calibration["height"])
    level = cameras(torch.eye(4), K)
    camera = moves(level, f"look down {STEREO_TILT}", turn=STEREO_TILT)
    image = load_image(data_file(f"{name}_left.png"))
    depth = load_depth(data_file(f"{name}_depth.png"))
    return crop(views(image[None], camera, depth[None]), *SOUND_PART)


def room_photo(rows: int = ROOM_ROWS) -> tuple[Views, PhotoRoom]:
    """A colour photo of a room as a view (1,), and the box that gives it its depth.

    The photo is cut from a panorama. `fit_room` finds how the camera is turned and how far the walls
    are, so the depth is that of a box around the camera: nobody measured it. More than ROOM_ROWS rows
    show no more detail.
    """
    scene, fov = panorama(data_file(ROOM_PANORAMA)), intrinsics(ROOM_FOV, ASPECT)
    direction = torch.tensor([ROOM_HEADING]), fov, torch.tensor([ROOM_DROP])
    camera = upright_cameras(torch.zeros(1, 3), *direction)
    photo = scene.render(camera, *example_size(ROOM_ROWS)).image[0]
    box = replace(fit_room(photo, fov, ROOM_EYE_HEIGHT), ceiling=ROOM_CEILING)
    image = scene.render(camera, *example_size(rows)).image[0]
    return box.view(image, example_size(rows)), box


def circle_cameras(headings: Float[Tensor, " n"]) -> Cameras:
    """Level cameras (n,) at the origin; headings in degrees to the right of a panorama's middle."""
    return upright_cameras(torch.zeros(1, 3), headings, intrinsics(FOV, ASPECT))


def photo_view(
    image: Float[Tensor, "3 h w"],
    depth: Float[Tensor, "h2 w2"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    rotation: Float[Tensor, "3 3"] | None = None,
) -> Views:
    """A photo with planar depth as a view (1,) at the origin, cut and resized to `size`.

    rotation: world_from_cam; by default the camera is taken to be level. Depth may have another
    resolution, but must show the same part of the scene as the image.
    Errors: ValueError for depth of another shape and a size that is none.
    """
    depth = resized_depth(depth, *image.shape[1:])
    rotation = torch.eye(3) if rotation is None else rotation
    photo = views(image[None], cameras(pose(rotation, torch.zeros(3))[None], K), depth[None])
    height, width = size
    return resize(crop_to_aspect(photo, width / max(height, 1)), height, width)


# ---- where to start ------------------------------------------------------------------------------


def room(height: int, seed: int = 0) -> Beginning:
    """A made-up house, from one view."""
    house = rooms(seed)
    given = single_tour(house, seed, FOV, ASPECT).given
    return _in_house(house, given, height, "a made-up house, from one view")


def captured_rooms(height: int, seed: int = 0) -> Beginning:
    """A made-up house, from six views a room."""
    house = rooms(seed)
    given = capture_tour(house, seed, FOV, ASPECT).given
    return _in_house(house, given, height, "a made-up house, from six views a room")


def photographed_hall(height: int, seed: int = 0) -> Beginning:
    """A panorama, from four views around."""
    return _around(panorama(data_file(PANORAMA)), height)


def stereo(height: int, seed: int = 0) -> Beginning:
    """A photograph with measured depth."""
    given = resize(stereo_view(), *example_size(height))
    return Beginning(given, None, "a photograph with depth from a stereo camera")


def boxed_room(height: int, seed: int = 0) -> Beginning:
    """A colour photograph of a room, with the depth of a box."""
    given, box = room_photo(height)
    return Beginning(given, None, f"a photograph of a room, cut from a panorama; {box.about}")


EXAMPLES: dict[str, Callable[[int, int], Beginning]] = {
    "house, one view": room,
    "house, six views a room": captured_rooms,
    "panorama": photographed_hall,
    "photo with stereo depth": stereo,
    "colour photo, depth of a box": boxed_room,
}


def from_image(
    image: Float[Tensor, "3 h w"],
    kind: str,
    height: int,
    depth: Float[Tensor, "h2 w2"] | None = None,
    fov: float | None = None,
    eye_height: float = EYE_HEIGHT,
) -> Beginning:
    """An image of one's own as one of `KINDS`, cut to the examples' aspect of 4 : 3.

    A photo is taken for a room that is a box, seen from `eye_height` metres above its floor, and
    `about` says so. A photo with depth needs depth of the same field of view, at any resolution. A
    photo of anything else can be hung on a wall WALL metres away. `fov` is horizontal, in degrees, by
    default PHOTO_FOV along the longer side. A panorama is equirectangular, twice as wide as high.
    Errors: ValueError for another kind, missing depth, shapes that do not fit, and a photo without
    depth whose lines show no room.
    """
    image = as_images(image, "an image")
    h, w = image.shape[1:]
    if kind not in KINDS:
        raise ValueError(f"an image can be {', '.join(KINDS)}, got {kind!r}")
    if kind == "panorama":
        if abs(w / h / 2 - 1) > ASPECT_TOLERANCE:
            raise ValueError(f"a panorama is twice as wide as high, this image is {w} x {h}")
        exact = interpolate(image[None], (h, 2 * h), mode="bilinear", antialias=True)[0]
        return _around(panorama(exact.clamp(0, 1)), height)
    fov = horizontal_fov(PHOTO_FOV, w / h) if fov is None else fov
    if kind == "photo":
        room = fit_room(image, intrinsics(fov, w / h), eye_height)
        given = room.view(image, example_size(height))
        return Beginning(given, None, f"your image, a photo; {room.about}")
    if kind == "photo on a wall":
        depth = torch.full((h, w), WALL)
    if depth is None:
        raise ValueError(
            "a photo with depth needs its depth: upload it too (16-bit PNG, .npy or .npz), or choose "
            f"{KINDS[0]!r}, for which depth is guessed"
        )
    given = photo_view(image, depth, intrinsics(fov, w / h), example_size(height))
    words = f" of {depth_words(given.depth)}" if kind == "photo with depth" else ""
    return Beginning(given, None, f"your image, a {kind}{words}")


def depth_words(depth: Float[Tensor, "*b h w"]) -> str:
    """From where to where depth reaches, without its tenths at either end, and whether that is odd."""
    known = depth[depth.isfinite()]
    if len(known) == 0:
        return "unknown distances"
    near, far = np.quantile(known.cpu().numpy(), [TENTH, 1 - TENTH])
    doubt = "" if far >= USUAL_DEPTHS[0] and near <= USUAL_DEPTHS[1] else ": is its unit right?"
    return f"{near:.4g} to {far:.4g} m{doubt}"


def _in_house(house: Rooms, given: Cameras, height: int, about: str) -> Beginning:
    return Beginning(house.render(given, *example_size(height), samples=2), house, about)


def _around(scene: Panorama, height: int) -> Beginning:
    given = circle_cameras(torch.arange(0.0, 360.0, 90.0))
    about = "a photograph of all directions, from four views"
    return Beginning(scene.render(given, *example_size(height)), scene, about)
