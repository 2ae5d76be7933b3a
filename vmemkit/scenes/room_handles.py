"""The handles of a room in a photo: what one drags to draw its box, and the room that follows.

In: a `PhotoRoom` and where a handle was put, (u, v) in the image. Out: another `PhotoRoom`. The handles
are the vanishing point, where all edges that lead ahead meet, and the corners of the back wall. A
corner moves two walls, so its neighbours follow it. The eye height always stays.
Source: the spidery mesh of "Tour into the picture" (Horry, Anjyo and Arai, SIGGRAPH 1997). There the
camera is level and faces the back wall; here the vanishing point says how it looks up and to the side.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import intrinsics
from vmemkit.scenes.room_box import PhotoRoom
from vmemkit.scenes.vanishing_points import rotations

VANISHING_POINT = "vanishing point"
CORNERS = {  # of the back wall, clockwise: the walls that meet there, and their signs along x and y
    "top left": ("left", "ceiling", -1, -1),
    "top right": ("right", "ceiling", 1, -1),
    "bottom right": ("right", "floor", 1, 1),
    "bottom left": ("left", "floor", -1, 1),
}
HANDLES = (VANISHING_POINT, *CORNERS)
LEAST, MOST = 0.02, 50.0  # of the back wall's distance: how near and far the other walls can be put
GRAZING = 0.02  # least share ahead of a ray that is followed to the back wall
NEAR = 0.02  # of the eye height: seams are drawn from this depth on
REACH = 1000.0  # image sides: how far outside of the image a seam or a handle is placed at most


def room_from_handles(
    K: Float[Tensor, "3 3"],
    vanishing_point: tuple[float, float],
    top_left: tuple[float, float],
    bottom_right: tuple[float, float],
    roll: float,
    eye_height: float,
) -> PhotoRoom:
    """The room whose edges ahead meet in `vanishing_point`, between two corners of the back wall.

    Points are (u, v), shares of the image's width and height. roll: degrees, clockwise.
    A corner on the wrong side of the vanishing point is put just beside it.
    Errors: ValueError for values that are not finite, and an eye height that is none.
    """
    points = (*vanishing_point, *top_left, *bottom_right, roll)
    if not all(map(math.isfinite, points)):
        raise ValueError(f"handles need finite places and a finite roll, got {points}")
    ahead = torch.linalg.inv(K.double()) @ torch.tensor([*vanishing_point, 1.0]).double()
    x, y, z = rotations(np.array([[0.0, 0.0, roll]]))[0] @ (ahead / ahead.norm()).numpy()
    pitch, yaw = math.atan2(-y, z), math.asin(min(max(-x, -1.0), 1.0))
    angles = np.array([[math.degrees(pitch), math.degrees(yaw), roll]])
    rotation = torch.from_numpy(rotations(angles)[0]).float()
    left, ceiling = _on_wall(K, rotation, top_left, -1, -1)
    right, floor = _on_wall(K, rotation, bottom_right, 1, 1)
    scale = eye_height / floor
    sides = {"ceiling": scale * ceiling, "left": scale * left, "right": scale * right}
    return PhotoRoom(K.float(), rotation, floor=eye_height, back=scale, **sides)


def handle_places(room: PhotoRoom) -> dict[str, tuple[float, float]]:
    """Where each of HANDLES is in the image, (u, v); behind the camera, far outside of it."""
    corners = [
        (x * getattr(room, side), y * getattr(room, height), room.back)
        for side, height, x, y in CORNERS.values()
    ]
    in_cam = torch.tensor([(0.0, 0.0, room.back), *corners]) @ room.rotation
    places = in_cam @ room.K.T
    uv = (places[:, :2] / places[:, 2:].clamp(min=1e-3 * room.back)).clamp(-REACH, REACH)
    return {name: (float(u), float(v)) for name, (u, v) in zip(HANDLES, uv, strict=True)}


def move_handle(room: PhotoRoom, handle: str, place: tuple[float, float]) -> PhotoRoom:
    """The room after one of HANDLES was put to `place` (u, v).

    With the vanishing point the camera turns, and the top left and bottom right corners stay. With a
    corner its two walls move. Errors: ValueError for another handle and a place that is not finite.
    """
    if handle not in HANDLES:
        raise ValueError(f"a handle is {', '.join(HANDLES)}, got {handle!r}")
    places = handle_places(room)
    if handle == VANISHING_POINT:
        return _rebuilt(room, room.K, place, places)
    if not all(map(math.isfinite, place)):
        raise ValueError(f"a handle needs a finite place, got {place}")
    side, height, x, y = CORNERS[handle]
    across, down = _on_wall(room.K, room.rotation, place, x, y)
    # At first in the old room's metres; if the floor has moved, all is scaled to the eye height again.
    distances = {side: across * room.back, height: down * room.back}
    walls = {name: getattr(room, name) for name in ("floor", "ceiling", "left", "right", "back")}
    walls = {**walls, **distances}
    scale = room.floor / walls["floor"]
    return replace(room, **{name: scale * distance for name, distance in walls.items()})


def with_roll(room: PhotoRoom, roll: float) -> PhotoRoom:
    """The room seen by a camera that is turned clockwise by `roll` degrees; other handles stay."""
    places = handle_places(room)
    return _rebuilt(room, room.K, places[VANISHING_POINT], places, roll)


def with_fov(room: PhotoRoom, fov: float) -> PhotoRoom:
    """The room of the same handles under another horizontal field of view, degrees.

    Errors: ValueError for a field of view that is none.
    """
    aspect = float(room.K[1, 1] / room.K[0, 0])
    places = handle_places(room)
    return _rebuilt(room, intrinsics(fov, aspect), places[VANISHING_POINT], places)


def roll_of(room: PhotoRoom) -> float:
    """By how many degrees the camera is turned clockwise about its axis."""
    return math.degrees(math.atan2(float(room.rotation[1, 0]), float(room.rotation[1, 1])))


def seams(room: PhotoRoom) -> Float[Tensor, "n 2 2"]:
    """The edges of the box as lines in the image, from (u, v) to (u, v), as far as they lie ahead."""
    signs = [(x, y) for *_, x, y in CORNERS.values()]
    width = {-1: room.left, 1: room.right}
    tall = {-1: room.ceiling, 1: room.floor}
    wall = torch.tensor([(x * width[x], y * tall[y], room.back) for x, y in signs])
    towards = wall - torch.tensor([0.0, 0.0, 2 * room.back + 10 * room.floor])
    ends = torch.stack([torch.cat([wall, wall]), torch.cat([wall.roll(-1, 0), towards])], 1)
    ends = ends @ room.rotation  # camera axes [8 2 3]
    near = NEAR * room.floor
    depth = ends[..., 2]
    ahead = (depth > near).any(1)
    ends, depth = ends[ahead], depth[ahead]
    # An end behind the camera moves along its edge to where the edge comes near the camera.
    share = ((near - depth) / (depth.flip(1) - depth)).nan_to_num(0.0).clamp(0, 1)
    share = torch.where(depth < near, share, 0.0)[..., None]
    ends = ends + share * (ends.flip(1) - ends)
    places = ends @ room.K.T
    return (places[..., :2] / places[..., 2:].clamp(min=near / 2)).clamp(-REACH, REACH)


def _rebuilt(
    room: PhotoRoom,
    K: Float[Tensor, "3 3"],
    vanishing_point: tuple[float, float],
    places: dict[str, tuple[float, float]],
    roll: float | None = None,
) -> PhotoRoom:
    """The room of the same corners and eye height, and of another camera."""
    roll = roll_of(room) if roll is None else roll
    corners = places["top left"], places["bottom right"]
    return room_from_handles(K, vanishing_point, *corners, roll, room.floor)


def _on_wall(
    K: Float[Tensor, "3 3"],
    rotation: Float[Tensor, "3 3"],
    place: tuple[float, float],
    x: int,
    y: int,
) -> tuple[float, float]:
    """How far right and down (with signs x and y) a corner of the back wall at distance 1 is."""
    ray = rotation.double() @ torch.linalg.inv(K.double()) @ torch.tensor([*place, 1.0]).double()
    across, down = (ray[:2] / ray[2].clamp(min=GRAZING)).tolist()
    return min(max(x * across, LEAST), MOST), min(max(y * down, LEAST), MOST)
