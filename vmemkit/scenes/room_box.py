"""A room as a box: the floor, the ceiling and three walls around a photograph's camera.

In: the camera's intrinsics, how it is turned in the room, and the distances of the five faces. Out:
planar depth at any resolution, which face each pixel shows, and the photo as a view to walk into.
Source: "Tour into the picture" (Horry, Anjyo and Arai, SIGGRAPH 1997), here for cameras that may look
up, down or to the side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.core import (
    Cameras,
    Views,
    cameras,
    crop_to_aspect,
    intrinsics,
    pixel_centres,
    pose,
    rays,
    resize,
    views,
)

FACES = ("floor", "ceiling", "left wall", "right wall", "back wall")
PHOTO_FOV = 65.0  # degrees along the longer side: field of view of a phone's main camera
EYE_HEIGHT = 1.5  # metres: of a standing person who holds a camera, and of `scenes.rooms`
EYE_HEIGHTS = (0.05, 50.0)  # metres: least and greatest
NEAREST = 1e-4  # of the eye height: a nearer face would leave no room


@dataclass(frozen=True, repr=False)
class PhotoRoom:
    """The room that a photo shows, as a box around its camera.

    The world's axes are the room's: x right along the back wall, y down, z towards the back wall. The
    camera is at the origin. Distances from it are in metres, all positive.
    """

    K: Float[Tensor, "3 3"]
    rotation: Float[Tensor, "3 3"]  # world_from_cam
    floor: float  # the eye height
    ceiling: float
    left: float
    right: float
    back: float

    def __post_init__(self) -> None:
        check_eye_height(self.floor)
        for name in ("ceiling", "left", "right", "back"):
            if not NEAREST * self.floor <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"the distance of the {name} must be positive, got {getattr(self, name)}"
                )

    def __repr__(self) -> str:
        return (
            f"PhotoRoom({self.left + self.right:.1f} m wide, {self.floor + self.ceiling:.1f} m high, "
            f"back wall {self.back:.1f} m away, eye at {self.floor:.2f} m)"
        )

    @property
    def fov(self) -> float:
        """Horizontal field of view, degrees."""
        u = self.K[0, 2] / self.K[0, 0], (1 - self.K[0, 2]) / self.K[0, 0]
        return sum(math.degrees(math.atan(float(side))) for side in u)

    @property
    def about(self) -> str:
        """What the depth assumes, in one sentence."""
        return (
            f"depth is a rough guess: the photo is taken for a box {self.left + self.right:.1f} m wide "
            f"and {self.floor + self.ceiling:.1f} m high with its back wall {self.back:.1f} m away, "
            f"seen from {self.floor:g} m above the floor with a field of view of {self.fov:.0f} degrees"
        )

    @property
    def camera(self) -> Cameras:
        """The photo's camera, at the origin."""
        return cameras(pose(self.rotation, torch.zeros(3)), self.K)

    def scaled(self, eye_height: float) -> PhotoRoom:
        """The same box in another size: the floor is `eye_height` metres below the camera.

        Errors: ValueError for an eye height that is none.
        """
        check_eye_height(eye_height)
        scale = eye_height / self.floor
        names = ("floor", "ceiling", "left", "right", "back")
        return replace(self, **{name: scale * getattr(self, name) for name in names})

    def depth(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """Planar depth in metres."""
        return self._distances(height, width).amin(-1)

    def faces(self, height: int, width: int) -> Int[Tensor, "h w"]:
        """The face that each pixel shows, as a row of FACES."""
        return self._distances(height, width).argmin(-1)

    def view(self, image: Float[Tensor, "3 h w"], size: tuple[int, int]) -> Views:
        """The photo as a view (1,) of `size` (height, width), cut to its format, with this depth.

        Errors: ValueError for an image or a size that is none.
        """
        height, width = size
        photo = views(image[None].cpu(), self.camera.map(lambda tensor: tensor[None]))
        photo = resize(crop_to_aspect(photo, width / max(height, 1)), height, width)
        return photo.replace(depth=replace(self, K=photo.cameras.K[0]).depth(height, width)[None])

    def _distances(self, height: int, width: int) -> Float[Tensor, "h w 5"]:
        """Depth of each face's plane, infinity where the ray leaves it behind."""
        x, y, z = rays(self.camera, pixel_centres(height, width)).double().unbind(-1)
        away = (
            (y, self.floor),
            (-y, self.ceiling),
            (-x, self.left),
            (x, self.right),
            (z, self.back),
        )
        planes = [torch.where(ray > 0, distance / ray, torch.inf) for ray, distance in away]
        return torch.stack(planes, -1).float()


def default_room(aspect: float, fov: float, eye_height: float = EYE_HEIGHT) -> PhotoRoom:
    """A room to start from where nothing is known: level, 4 m wide, 2.7 m high, 3.5 m ahead."""
    room = PhotoRoom(intrinsics(fov, aspect), torch.eye(3), 1.5, 1.2, 2.0, 2.0, 3.5)
    return room.scaled(eye_height)


def check_eye_height(eye_height: float) -> None:
    """Errors: ValueError for an eye height that is none, such as a negative one."""
    low, high = EYE_HEIGHTS
    if not low <= eye_height <= high:
        raise ValueError(f"an eye height is {low:g} to {high:g} metres, got {eye_height:g}")
