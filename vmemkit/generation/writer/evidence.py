"""Evidence: what views show of a room, as a list of surface samples.

In: views with depth. Out: `Evidence`, one row for each pixel that shows a surface, in a frame whose y
axis points down along gravity, whose floor is y = 0 and whose x and z axes run along the walls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from vmemkit.core import Cameras, Views, pose, unproject

ROWS = 72  # pixel rows of a view that are used, about
EYE_HEIGHTS = (1.15, 2.2)  # metres above the floor at which eyes may be
EYE_HEIGHT, LOWEST_EYE = 1.5, 0.8  # metres, where the floor is unseen: usual, and least
SMOOTH = 0.25  # share of the distance: neighbouring points farther apart are on two surfaces
FACING = 0.99  # cosine from which a normal counts as along an axis
LEVEL = 0.3  # |y| of a unit normal below which a surface counts as vertical
BINS = 180  # into which the headings within 90 degrees are sorted
FRAME_STEP = (
    1e-3  # radians: the walls' direction is rounded to it, so that it is the same each time
)

Array = np.ndarray


@dataclass(frozen=True)
class Evidence:
    """n surface samples. Metres, in the frame of the walls."""

    eye: Array  # [n 3] the camera that sees the sample
    point: Array  # [n 3]
    normal: Array  # [n 3] unit, towards the eye
    area: Array  # [n] square metres that the pixel covers; 0 at depth edges
    color: Array  # [n 3]
    size: Array  # [n] metres from one pixel to the next, across the line of sight

    def __len__(self) -> int:
        return len(self.point)

    def __getitem__(self, rows: Array) -> Evidence:
        return Evidence(**{name: value[rows] for name, value in vars(self).items()})

    def thinned(self, count: int) -> Evidence:
        """About that many of the samples, evenly chosen."""
        return self[np.arange(0, len(self), max(1, len(self) // count))]

    def facing(self, wall: int, cosine: float = FACING) -> Array:
        """Rows whose surface faces into the room like wall 0 to 3 (-x, +x, -z, +z)."""
        axis, sign = axis_of(wall), inward(wall)
        return (self.normal[:, axis] * sign > cosine) & (self.area > 0)

    def crossing(self, rows: Array, axis: int, at: float) -> Array:
        """Where the rays of these samples reach a coordinate on an axis: places [m 3]."""
        eye, point = self.eye[rows], self.point[rows]
        start, end = eye[:, axis] - at, point[:, axis] - at
        return eye + (start / (start - end))[:, None] * (point - eye)


def axis_of(wall: int) -> int:
    """The axis that a wall stands across: 0 (x) or 2 (z)."""
    return 0 if wall < 2 else 2


def inward(wall: int) -> int:
    """The sign of a wall's normal into the room."""
    return 1 if wall % 2 == 0 else -1


def gather(views: Views, frame_from_world: Float[Tensor, "4 4"]) -> Evidence:
    """The samples of the views (t,) in the given frame, about ROWS rows of each view."""
    cameras = in_frame(views.cameras, frame_from_world)
    points = unproject(cameras, views.depth).double()
    across = points[:, :-1, 1:] - points[:, :-1, :-1]
    down = points[:, 1:, :-1] - points[:, :-1, :-1]
    points = points[:, :-1, :-1]
    eye = cameras.position.double()[:, None, None].expand_as(points)
    sight = points - eye
    normal = torch.linalg.cross(across, down)  # its length is the area of a pixel on the surface
    normal = torch.where((normal * sight).sum(-1, keepdim=True) > 0, -normal, normal)
    area = normal.norm(dim=-1)
    distance = sight.norm(dim=-1)
    flat = torch.maximum(across.norm(dim=-1), down.norm(dim=-1)) < SMOOTH * distance
    focal = (cameras.K[:, 1, 1] * views.depth.shape[1]).double()[:, None, None]
    step = max(1, round(views.depth.shape[1] / ROWS))
    rows = {
        "eye": eye,
        "point": points,
        "normal": normal / area.clamp(min=1e-12)[..., None],
        "area": torch.where(flat, area, 0.0) * step**2,
        "color": views.image[:, :, :-1, :-1].permute(0, 2, 3, 1).double(),
        "size": step * distance / focal,
    }
    usable = (points.isfinite().all(-1) & normal.isfinite().all(-1))[:, ::step, ::step]
    return Evidence(**{name: row[:, ::step, ::step][usable].numpy() for name, row in rows.items()})


def within(points: Array, low: Array, high: Array) -> Array:
    """Whether each point [n 3] is inside the box between two corners [3]."""
    return np.logical_and.reduce((points > low) & (points < high), axis=1)


def runs_through(eye: Array, way: Array, low: Array, high: Array, end: float = 1.0) -> Array:
    """Whether rays run through boxes before the share `end` of their ways; no way may be 0 on an axis."""
    a, b = (low - eye) / way, (high - eye) / way
    enter, leave = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return enter.clip(min=0) < leave.clip(max=end)


def groups(points: Array, together: float, least: int) -> list[Array]:
    """Rows of points that hang together, in groups of at least that many, the largest first.

    Points hang together that are nearer than `together` metres to each other."""
    if len(points) == 0:
        return []
    pairs = cKDTree(points).query_pairs(together, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), (len(points), len(points)))
    count, label = connected_components(graph, directed=False)
    rows = [np.nonzero(label == i)[0] for i in range(count)]
    return sorted((group for group in rows if len(group) >= least), key=lambda group: -len(group))


def frame(turn: float, floor: float) -> Float[Tensor, "4 4"]:
    """frame_from_world of a turn about y, in radians, and the world's y of the floor."""
    cos, sin = math.cos(turn), math.sin(turn)
    rotation = torch.tensor([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    return pose(rotation, torch.tensor([0.0, -floor, 0.0]))


def in_frame(cameras: Cameras, frame_from_world: Float[Tensor, "4 4"]) -> Cameras:
    """The cameras in the frame's coordinates."""
    return cameras.replace(world_from_cam=frame_from_world @ cameras.world_from_cam)


def find_frame(views: Views) -> Float[Tensor, "4 4"]:
    """frame_from_world: upright, with the floor at y = 0 and the axes along the walls.

    The world's y axis must point down along gravity. Walls are at right angles (a Manhattan world;
    Coughlan and Yuille, 1999): their headings agree modulo 90 degrees. Where the views show no floor,
    it is where eyes usually are above it.
    """
    samples = gather(views, torch.eye(4))  # the world's own axes
    wall = (np.abs(samples.normal[:, 1]) < LEVEL) * samples.area
    heading = np.arctan2(samples.normal[:, 0], samples.normal[:, 2])
    turn = round(common_heading(heading, wall) / FRAME_STEP) * FRAME_STEP
    level = (samples.normal[:, 1] < -FACING) & (samples.area > 0)
    below = samples.point[:, 1] - samples.eye[:, 1]
    level &= (below > EYE_HEIGHTS[0]) & (below < EYE_HEIGHTS[1])
    floors = planes(samples.point[level, 1], samples.area[level])
    if floors:
        floor = max(floors, key=lambda plane: plane.area).at
    else:  # unseen: the world's y = 0, if eyes can be that far above it
        eye = float(views.cameras.position[:, 1].mean())
        floor = 0.0 if LOWEST_EYE < -eye < EYE_HEIGHTS[1] else eye + EYE_HEIGHT
    return frame(turn, round(floor, 2))


def common_heading(heading: Array, weight: Array, bins: int = BINS) -> float:
    """The heading in [-45, 45) degrees, modulo 90 degrees, that most of the weight agrees on."""
    quarter = math.pi / 2
    if not weight.any():
        return 0.0
    folded = np.mod(heading + quarter / 2, quarter)  # equal for all four walls
    at = (folded / quarter * bins).astype(int) % bins
    amount = np.bincount(at, weight, bins)
    best = int((amount + np.roll(amount, 1) + np.roll(amount, -1)).argmax())
    offset = np.mod(folded - (best + 0.5) / bins * quarter + quarter / 2, quarter) - quarter / 2
    near = weight * (np.abs(offset) < 1.5 / bins * quarter)
    order = np.argsort(offset)
    middle = _median(offset[order], near[order])
    return (best + 0.5) / bins * quarter + middle - quarter / 2


@dataclass(frozen=True)
class Plane:
    """Samples with the same coordinate on one axis."""

    at: float  # the coordinate, metres
    area: float  # square metres that are visible


def planes(values: Array, area: Array, gap: float = 0.006) -> list[Plane]:
    """Groups of coordinates with no gap inside, each at its weighted median."""
    if len(values) == 0:
        return []
    order = np.argsort(values)
    values, area = values[order], area[order]
    cuts = np.nonzero(np.diff(values) > gap)[0] + 1
    groups = zip(np.split(values, cuts), np.split(area, cuts), strict=True)
    return [Plane(_median(v, a), float(a.sum())) for v, a in groups if a.sum() > 0]


def _median(values: Array, weights: Array) -> float:
    """Weighted median of sorted values."""
    total = np.cumsum(weights)
    return float(values[np.searchsorted(total, total[-1] / 2)])
