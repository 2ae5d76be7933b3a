"""The box of a room in a photograph: the one whose seams lie on edges of the right direction.

In: a photo, its intrinsics and an eye height. Out: a `PhotoRoom`. The vanishing points say how the
camera is turned; four ratios are left: how far the floor, the ceiling and the side walls are, in
distances to the back wall. Every seam of two faces should lie on an edge along its own axis, and no
edge may lie on a face that it cannot run along. Both are sums over pairs and triples of the four
ratios, so all boxes of a grid are compared at once, and then of two finer ones. No weights, no chance.
Sources: the idea is that of Hedau, Hoiem and Forsyth (ICCV 2009) and Lee, Hebert and Kanade (CVPR
2009), here without learning. Metres come from the eye height (Criminisi, Reid and Zisserman, IJCV 2000).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from vmemkit.core import as_images
from vmemkit.scenes.room_box import EYE_HEIGHT, PhotoRoom, check_eye_height
from vmemkit.scenes.vanishing_points import RoomAxes, find_axes

MAP_SIDE = 320  # pixels: longer side of the maps of edges
LINE, BLUR = 2, 2.0  # pixels of these maps: width of an edge, and by how much a seam may miss it
NEAR, FAR, STEPS = 0.08, 5.0, 24  # ratios of the first grid: least, greatest, number
FINER, ROUNDS = 11, 2  # number of ratios of a finer grid; number of finer grids
SAMPLES = 256  # along a seam
SEAM_COST = 0.1  # of an edge's score: what a seam costs on which no edge lies
CONTRADICTION = 1.0  # of an edge's score: what an edge costs on a face that it cannot run along
POINTS = 5  # of an edge that are asked on which face they lie
# What rooms are like, as median and spread (factor) of ratios: ceiling over eye height, side wall over
# eye height, back wall over eye height.
CEILING, SIDE, BACK = (0.8, 1.35), (1.3, 1.9), (2.2, 1.7)
PRIOR = 0.1  # longer sides of seams that one squared spread is worth

Ratios = Float64[np.ndarray, " n"]  # distances over that of the back wall


@dataclass(frozen=True, repr=False)
class _Evidence:
    """What is compared with each box."""

    axes: RoomAxes
    pixel_from_room: Float64[np.ndarray, "3 3"]  # of a map of edges
    maps: Float64[np.ndarray, "3 h w"]  # of edges along x, y, z: 1 on an edge, 0 away from it
    points: Float64[np.ndarray, "p 3"]  # rays to points on edges, room axes
    axis: Int[np.ndarray, " p"]  # of the point's edge
    weight: Float64[np.ndarray, " p"]  # length that the point stands for, of the longer side


def fit_room(
    image: Float[Tensor, "3 h w"], K: Float[Tensor, "3 3"], eye_height: float = EYE_HEIGHT
) -> PhotoRoom:
    """The room that an upright photo shows, if it is a box and seen from `eye_height` metres.

    It is rough: on photographs with measured depth, a seventh of the depth is wrong on average.
    Errors: NoRoomError where the lines show no room; ValueError for an image that is too small or not
    finite, and for an eye height that is none.
    """
    image = as_images(image, "a photo")
    check_eye_height(eye_height)
    evidence = _evidence(
        find_axes(image, K), K.double().cpu().numpy(), (image.shape[1], image.shape[2])
    )
    grids = [np.geomspace(NEAR, FAR, STEPS)] * 4
    best = _best_box(evidence, grids)
    for _ in range(ROUNDS):
        step = grids[0][1] / grids[0][0]
        grids = [np.geomspace(ratio / step, ratio * step, FINER) for ratio in best]
        best = _best_box(evidence, grids)
    left, right, ceiling, floor = (float(eye_height * ratio / best[3]) for ratio in best)
    rotation = torch.from_numpy(evidence.axes.room_from_cam).float()
    back = float(eye_height / best[3])
    return PhotoRoom(K.float().cpu(), rotation, floor, ceiling, left, right, back)


# ---- evidence ------------------------------------------------------------------------------------


def _evidence(axes: RoomAxes, K: Float64[np.ndarray, "3 3"], shape: tuple[int, int]) -> _Evidence:
    """The edges of a photo of `shape`, as maps and as points."""
    import cv2  # loaded here, because it takes a tenth of the package's import time

    scale = MAP_SIDE / max(shape)
    size = np.array([max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))])  # w, h
    maps = np.zeros((3, size[1], size[0]), np.float32)
    along = axes.axis >= 0
    segments, axis = axes.segments[along], axes.axis[along]
    for (a, b), k in zip((segments * size).round().astype(int).tolist(), axis, strict=True):
        cv2.line(maps[k], a, b, 1.0, LINE)
    maps = np.stack([cv2.GaussianBlur(m, (0, 0), BLUR) for m in maps])
    maps = maps / max(float(maps.max()), 1e-9)
    shares = (np.arange(POINTS) + 0.5) / POINTS
    uv = segments[:, :1] + shares[:, None] * (segments[:, 1:] - segments[:, :1])
    rays = np.concatenate([uv, np.ones((*uv.shape[:2], 1))], -1) @ np.linalg.inv(K).T
    return _Evidence(
        axes,
        np.diag([*size, 1.0]) @ K @ axes.room_from_cam.T,
        maps.astype(np.float64),
        (rays @ axes.room_from_cam.T).reshape(-1, 3),
        np.repeat(axis, POINTS),
        np.repeat(axes.lengths[along] / POINTS, POINTS),
    )


def _along(
    evidence: _Evidence, axis: int, points: Float64[np.ndarray, "*b n 3"]
) -> Float64[np.ndarray, "*b n"]:
    """Score of a seam along `axis` up to each of its points, which follow each other."""
    in_image = points @ evidence.pixel_from_room.T
    ahead = in_image[..., 2] > 1e-6
    pixel = in_image[..., :2] / np.where(ahead, in_image[..., 2], 1.0)[..., None]
    h, w = evidence.maps.shape[1:]
    seen = ahead & (pixel >= 0).all(-1) & (pixel < [w, h]).all(-1)
    column, row = np.where(seen[..., None], pixel, 0).astype(int).transpose(-1, *range(seen.ndim))
    step = np.linalg.norm(np.diff(pixel, axis=-2), axis=-1) / MAP_SIDE
    step = np.where(seen[..., 1:] & seen[..., :-1], step, 0.0)
    gain = np.where(seen, evidence.maps[axis][row, column] - SEAM_COST, 0.0)
    pieces = step * (gain[..., 1:] + gain[..., :-1]) / 2
    return np.concatenate([np.zeros_like(pieces[..., :1]), pieces.cumsum(-1)], -1)


# ---- boxes ---------------------------------------------------------------------------------------


def _best_box(evidence: _Evidence, grids: list[Ratios]) -> Float64[np.ndarray, " 4"]:
    """Of all boxes with ratios (left, right, ceiling, floor) on the grids, the one that fits best.

    A ratio is a distance over that of the back wall.
    """
    left, right, ceiling, floor = grids
    score = _prior(left, right, ceiling, floor)
    # Seams of the back wall: along x at floor and ceiling, along y at left and right.
    for rows, where in ((floor, 3), (-ceiling, 2)):
        total = _wall_seams(evidence, 0, rows, left, right)  # [rows, left, right]
        score = score + np.expand_dims(total.transpose(1, 2, 0), 5 - where)
    for columns, where in ((-left, 0), (right, 1)):
        total = _wall_seams(evidence, 1, columns, ceiling, floor)  # [columns, ceiling, floor]
        score = score + np.expand_dims(total, 1 - where)
    # Seams from the wall's corners towards the camera, and faces of edges: one quadrant each.
    for sides, x in ((-left, 0), (right, 1)):
        for heights, y in ((-ceiling, 2), (floor, 3)):
            pair = _corner_seams(evidence, sides, heights) - _contradictions(
                evidence, sides, heights
            )
            shape = [1, 1, 1, 1]
            shape[x], shape[y] = len(sides), len(heights)
            score = score + pair.reshape(shape)
    at = np.unravel_index(score.argmax(), score.shape)
    return np.array([grid[i] for grid, i in zip(grids, at, strict=True)])


def _prior(
    left: Ratios, right: Ratios, ceiling: Ratios, floor: Ratios
) -> Float64[np.ndarray, "l r c f"]:
    """Score of what is usual in rooms, 0 at best."""

    def surprise(ratio: np.ndarray, usual: tuple[float, float]) -> np.ndarray:
        return -PRIOR * (np.log(ratio / usual[0]) / np.log(usual[1])) ** 2

    sides = [surprise(side[:, None] / floor, SIDE) for side in (left, right)]
    heights = surprise(ceiling[:, None] / floor, CEILING) + surprise(1 / floor, BACK)
    return sides[0][:, None, None] + sides[1][None, :, None] + heights


def _wall_seams(
    evidence: _Evidence,
    axis: int,
    offsets: Float64[np.ndarray, " o"],
    low: Float64[np.ndarray, " l"],
    high: Float64[np.ndarray, " h"],
) -> Float64[np.ndarray, "o l h"]:
    """Score of the seams at `offsets` on the back wall, from -low to high along `axis`."""
    angles = np.linspace(-np.arctan(low.max()), np.arctan(high.max()), SAMPLES)
    at = np.tan(angles)  # dense where the wall is near the middle of the image
    first, second = np.broadcast_arrays(at, offsets[:, None])
    plane = (first, second) if axis == 0 else (second, first)
    total = _along(evidence, axis, np.stack([*plane, np.ones_like(first)], -1))

    def up_to(end: np.ndarray) -> np.ndarray:
        place = np.interp(end, at, np.arange(SAMPLES))
        whole = np.minimum(place.astype(int), SAMPLES - 2)
        share = place - whole
        return (1 - share) * total[:, whole] + share * total[:, whole + 1]

    return up_to(high)[:, None, :] - up_to(-low)[:, :, None]


def _corner_seams(
    evidence: _Evidence, sides: Float64[np.ndarray, " s"], heights: Float64[np.ndarray, " h"]
) -> Float64[np.ndarray, "s h"]:
    """Score of the seams along z, from each corner (side, height) of the back wall to the camera."""
    z = np.linspace(1.0, -1.0, SAMPLES // 2)
    x, y, z = np.broadcast_arrays(sides[:, None, None], heights[:, None], z)
    return _along(evidence, 2, np.stack([x, y, z], -1))[..., -1]


def _contradictions(
    evidence: _Evidence, sides: Float64[np.ndarray, " s"], heights: Float64[np.ndarray, " h"]
) -> Float64[np.ndarray, "s h"]:
    """Cost of the edges in one quadrant of the room that lie on a face which they cannot run along.

    Edges along x are not on a side wall, upright ones neither on the floor nor on the ceiling, and
    edges along z are not on the back wall.
    """
    x, y, z = evidence.points.T
    inside = (x * sides[0] > 0) & (y * heights[0] > 0)
    x, y, z = x[inside], y[inside], np.maximum(z[inside], 0)
    # How far a ray gets along each axis; it shows the face where it gets farthest.
    reach = np.broadcast_arrays(x / sides[:, None, None], y / heights[:, None], z)
    axis = evidence.axis[inside]
    own = np.stack(reach)[axis, ..., np.arange(len(axis))]  # [p, s, h]
    others = np.stack(reach).max(0)
    wrong = np.moveaxis(own, 0, -1) >= others
    return CONTRADICTION * (wrong * evidence.weight[inside]).sum(-1)
