"""Vanishing points: the axes of a room, from the straight lines of one photograph.

In: an image and its intrinsics. Out: how the camera is turned in the room, and the line segments that
say so. The edges of a room run along three directions at right angles, and the images of parallel
edges meet in one point. So rotations are scored by the length of the lines that they explain.
Sources: LSD (Grompone von Gioi et al., PAMI 2010) finds the lines; the score is that of Manhattan
worlds (Coughlan and Yuille, ICCV 1999), searched on a grid and then in ever smaller steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import LUMA

WORKING_SIDE = 640  # pixels: longer side of the image in which lines are sought
MIN_SIDE = 32  # pixels: in a smaller image no line is long enough to have a direction
MIN_LENGTH = 0.03  # of the longer side: the direction of a shorter line is noise
MAX_LINES = 600  # the longest ones: more change nothing and take time
COARSE, FINE = 0.03, 0.01  # radians: by how much a line may miss its vanishing point
# Degrees: largest pitch, yaw and roll. A yaw of more than 45 is another wall's; people hold cameras
# almost level, but look down a lot.
LIMITS = (55.0, 45.0, 12.0)
GRID = 4.0  # degrees: step of the first search
SHRINK, ROUNDS = 0.6, 12  # of the steps of the later ones
TRUE = 0.02  # radians: a line within this of an axis runs along it
UPRIGHT_PRIOR = 8.0  # degrees: roll at which a rotation loses a share 1 - exp(-1/2) of its score
MIN_AXIS = 0.25  # of the longer side: length of the lines that an axis needs to count as found
MIN_LINES = 5  # along axes: a rotation has three angles and explains three lines always
# Share of all lines, by length, that the axes must explain. Random lines reach 0.24, rooms with
# patterned wallpaper have 0.34 or more.
MIN_SHARE = 0.3

OTHER_WAYS = "Other ways are depth from a file or a network, or a room drawn by hand (vmemkit.widgets.RoomBox)"
AXES = ("across", "upright", "ahead")  # the room's x, y and z


class NoRoomError(ValueError):
    """A photo shows no room by its lines."""


@dataclass(frozen=True, repr=False)
class RoomAxes:
    """How a camera is turned in a room, and the lines that show it.

    Room axes: x along the back wall to the right, y down along gravity, z towards the back wall.
    """

    room_from_cam: Float64[np.ndarray, "3 3"]
    segments: Float64[np.ndarray, "m 2 2"]  # ends (u, v), shares of width and height
    axis: Int[np.ndarray, " m"]  # 0, 1, 2 of the segment's axis, -1 = none
    lengths: Float64[np.ndarray, " m"]  # shares of the longer side

    @property
    def evidence(self) -> str:
        """How many lines run along each axis, in words."""
        counts = [f"{int((self.axis == a).sum())} {name}" for a, name in enumerate(AXES)]
        return f"{len(self.axis)} lines, of which {counts[0]}, {counts[1]} and {counts[2]}"

    @property
    def found(self) -> Bool[np.ndarray, " 3"]:
        """Which axes enough lines run along."""
        along = self.axis[:, None] == np.arange(3)
        return (along * self.lengths[:, None]).sum(0) > MIN_AXIS

    @property
    def share(self) -> float:
        """Length of the lines along an axis over the length of all."""
        return float(self.lengths[self.axis >= 0].sum() / max(self.lengths.sum(), 1e-9))


def find_axes(image: Float[Tensor, "3 h w"], K: Float[Tensor, "3 3"]) -> RoomAxes:
    """The axes of the room that an upright photo with intrinsics `K` shows.

    The result does not depend on chance. Errors: ValueError for an image that is too small or not
    finite, and NoRoomError where the lines show no room; it says what was found.
    """
    segments, lengths = line_segments(image.cpu())
    planes = segment_planes(segments, K.double().cpu().numpy())
    rotation = _best_rotation(planes, lengths) if len(planes) else np.eye(3)
    miss = np.abs(planes @ rotation.T)
    axis = np.where(miss.min(1) < TRUE, miss.argmin(1), -1) if len(planes) else np.zeros(0, int)
    axes = RoomAxes(rotation, segments, axis, lengths)
    enough = (axis >= 0).sum() >= MIN_LINES and axes.share >= MIN_SHARE
    if not (enough and axes.found[1] and axes.found[[0, 2]].any()):
        raise NoRoomError(
            f"this photo shows no room by its lines ({axes.evidence}; {axes.share:.0%} of their length "
            f"fits three directions, needed are {MIN_SHARE:.0%}, with upright lines and others): check "
            f"the field of view. {OTHER_WAYS}"
        )
    return axes


def line_segments(
    image: Float[Tensor, "3 h w"],
) -> tuple[Float64[np.ndarray, "m 2 2"], Float64[np.ndarray, " m"]]:
    """Straight edges, longest first: ends (u, v) as shares of the sides, lengths of the longer side.

    Errors: ValueError for an image that is too small or not finite.
    """
    import cv2  # loaded here, because it takes a tenth of the package's import time

    h, w = image.shape[1:]
    if min(h, w) < MIN_SIDE:
        raise ValueError(f"a photo needs {MIN_SIDE} pixels or more each way, got {w} x {h}")
    if not bool(image.isfinite().all()):
        raise ValueError("a photo needs finite values in [0, 1], got NaN or infinity")
    scale = min(1.0, WORKING_SIDE / max(h, w))
    size = (max(1, round(h * scale)), max(1, round(w * scale)))
    grey = torch.einsum("c,chw->hw", image.new_tensor(LUMA), image).clamp(0, 1)[None, None]
    small = interpolate(grey, size, mode="bilinear", antialias=True)[0, 0]
    pixels = (255 * small).round().byte().numpy()
    found = cv2.createLineSegmentDetector(0).detect(pixels)[0]
    if found is None:
        return np.zeros((0, 2, 2)), np.zeros(0)
    ends = found.reshape(-1, 2, 2).astype(np.float64) + 0.5  # its pixels have centres at integers
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1) / max(size)
    order = np.argsort(-lengths, kind="stable")[:MAX_LINES]
    order = order[lengths[order] > MIN_LENGTH]
    return ends[order] / np.array([size[1], size[0]]), lengths[order]


def segment_planes(
    segments: Float64[np.ndarray, "m 2 2"], K: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, "m 3"]:
    """Unit normals of the planes through the eye and each segment, camera axes.

    A segment is the image of an edge along d only if its normal is at right angles to d.
    """
    ends = np.concatenate([segments, np.ones((len(segments), 2, 1))], -1) @ np.linalg.inv(K).T
    normals = np.cross(ends[:, 0], ends[:, 1])
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


def rotations(angles: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3 3"]:
    """room_from_cam of pitch (down), yaw (right) and roll (clockwise) in degrees."""
    zero, one = np.zeros(len(angles)), np.ones(len(angles))
    (cp, cy, cr), (sp, sy, sr) = np.cos(np.deg2rad(angles)).T, np.sin(np.deg2rad(angles)).T
    pitch = np.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], -1).reshape(-1, 3, 3)
    yaw = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    roll = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return yaw @ pitch @ roll


def _best_rotation(
    planes: Float64[np.ndarray, "m 3"], lengths: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, "3 3"]:
    """room_from_cam that explains the greatest length of lines."""
    limits = np.array(LIMITS)
    ranges = [np.linspace(-limit, limit, 2 * math.ceil(limit / GRID) + 1) for limit in limits]
    candidates = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    best = candidates[_scores(candidates, planes, lengths, COARSE).argmax()]
    offsets = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for i in range(ROUNDS):
        tolerance = max(FINE, COARSE * SHRINK**i)
        near = np.clip(best + GRID * SHRINK**i * offsets, -limits, limits)
        best = near[_scores(near, planes, lengths, tolerance).argmax()]
    return rotations(best[None])[0]


def _scores(
    angles: Float64[np.ndarray, "n 3"],
    planes: Float64[np.ndarray, "m 3"],
    lengths: Float64[np.ndarray, " m"],
    tolerance: float,
) -> Float64[np.ndarray, " n"]:
    """Length of lines that each rotation explains; lines count less the more they miss."""
    rows = rotations(angles).astype(np.float32).reshape(-1, 3)
    miss = np.abs(planes.astype(np.float32) @ rows.T).reshape(len(planes), -1, 3).min(-1)
    fits = np.exp(-((miss / tolerance) ** 2))
    upright = np.exp(-0.5 * (angles[:, 2] / UPRIGHT_PRIOR) ** 2)
    return (lengths.astype(np.float32) @ fits) * upright
