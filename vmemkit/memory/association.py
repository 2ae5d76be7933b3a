"""Association: which old surfels does a new view see again, and which of its surfels are new?

In: the surfels of one new view and those already in memory. Out: the old surfels that the view saw
(each gets a sighting) and the new surfels that nothing in memory explains (each is added).

`projective` (default) looks at the memory through the new camera, as surfel SLAM does (Keller et
al., 3DV 2013): an old surfel is seen if its centre lands on the new surface at that pixel, or its
disc is what the pixel hits; a new surfel is explained if the disc that its pixel hits lies on the
same surface. Tolerances are multiples of the local radii, so no scale needs to be known.
# differs from VMem: `radius` is the paper's rule, centre distance < d and normal cosine > theta.
It credits one old surfel per new one, so a distant view is credited to a few of the many fine
surfels it sees, and loses votes; the released code takes d = mean + 0.5 std of all radii.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import (
    Boxes,
    Cameras,
    SplatConfig,
    Surfels,
    dot,
    lens,
    rows_of,
    runs_that,
    showing,
    splat,
    touching,
    turned,
)
from vmemkit.core.kernels import RUN, backend, seen_again
from vmemkit.memory.voxels import Voxels

PAIRS = 1 << 22  # distances per batch in the radius search: bounds its memory to 100 MB


@dataclass(frozen=True)
class AssociationConfig:
    method: Literal["projective", "radius"] = "projective"
    distance: float = 2.0  # projective: tolerance off the surface, in radii
    normal_cosine: float = 0.6  # theta (released code)
    empty: float = 0.06  # relative depth by which a given view must look past a generated
    # surfel for it to be dropped; 1 keeps all  # differs from VMem: no such test there

    def __post_init__(self) -> None:
        if self.method not in ("projective", "radius"):
            raise ValueError(f"unknown method {self.method!r}: choose from projective, radius")
        if not (self.distance > 0 and -1 <= self.normal_cosine <= 1 and self.empty >= 0):
            raise ValueError(
                "need distance > 0, normal_cosine in [-1, 1] and empty >= 0, got "
                f"{self.distance}, {self.normal_cosine} and {self.empty}"
            )

    @classmethod
    def released(cls) -> AssociationConfig:
        return cls(method="radius", empty=1.0)


def by_projection(
    new: Surfels,
    pixel: Int[Tensor, " n"],
    grid: tuple[int, int],
    camera: Cameras,
    old: Surfels,
    config: AssociationConfig,
    boxes: Boxes | None = None,
) -> tuple[Int[Tensor, " s"], Bool[Tensor, " n"]]:
    """(old surfels that the view sees, ascending; mask of new surfels that nothing explains).

    `pixel` is where each new surfel lies on the view's surfel grid of (rows, columns) `grid`;
    `camera` (1,) is the view's. `boxes` of the old surfels save looking at those out of reach.
    """
    if len(new) == 0:
        return pixel, pixel.bool()
    height, width = grid
    runs = _in_reach(new, camera, old, config, boxes)
    discs, tolerances = SplatConfig(), (config.distance, config.normal_cosine)
    limits = discs.scale, discs.near, discs.far
    if backend(old.device) == "numba":
        seen, hit = seen_again(
            *((new.position, new.normal, new.radius), pixel, grid),
            *((old.position, old.normal, old.radius), runs),
            *(camera.world_from_cam[0], camera.K[0], (*limits, *tolerances)),
        )
        return seen, hit < 0
    rows = rows_of(runs, len(old))
    old = old[rows]
    at_pixel = pixel.new_full((height * width,), -1)
    at_pixel[pixel] = torch.arange(len(pixel), device=pixel.device)
    # 1. Centres of old surfels that land on the new surface.
    rotation, eye, focal, centre = lens(camera, height, width)
    q, n = turned(old.position - eye, rotation), turned(old.normal, rotation)
    column = (q[0] / q[2] * focal[0] + centre[0] + 0.5).floor()
    row = (q[1] / q[2] * focal[1] + centre[1] + 0.5).floor()
    inside = (q[2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    inside &= n[0] * q[0] + n[1] * q[1] + n[2] * q[2] > 0
    ids = inside.nonzero()[:, 0]
    match = at_pixel[(row[ids] * width + column[ids]).long()]
    ids, match = ids[match >= 0], match[match >= 0]
    centred = ids[_same_surface(new[match], old[ids], config)]

    # 2. New surfels whose pixel hits an old disc on the same surface, whatever hides it.
    def accept(ids: Tensor, at: Tensor) -> Bool[Tensor, " f"]:
        match = at_pixel[at]
        return (match >= 0) & _same_surface(old[ids], new[match], config)

    if backend(old.device) == "triton":
        from vmemkit.core.kernels import cuda

        surface = new.position, new.normal, new.radius, at_pixel, *tolerances
        seen_by = camera.world_from_cam, camera.K, grid, limits, None, surface
        hit = cuda.discs(old.position, old.normal, old.radius, *seen_by)[0]
    else:
        hit = splat(old, camera, height, width, accept=accept).surfel
    hit = hit.flatten()[pixel]
    return rows[torch.unique(torch.cat([centred, hit[hit >= 0]]))], hit < 0


def _in_reach(
    new: Surfels, camera: Cameras, old: Surfels, config: AssociationConfig, boxes: Boxes | None
) -> Int[Tensor, " r"]:
    """Runs of old surfels of which some may lie on the new surface, in the camera's sight."""
    if boxes is None:
        return torch.arange(-(-len(old) // RUN), device=old.device)
    discs, margin = SplatConfig(), config.distance * new.radius.amax()
    low, high = new.position.amin(0) - margin, new.position.amax(0) + margin
    meets = touching(boxes, low, high, max(config.distance, discs.scale))
    meets &= showing(boxes, camera, discs.scale, discs.near, discs.far)[0]
    return runs_that(meets, len(old))


def _same_surface(plane: Surfels, point: Surfels, config: AssociationConfig) -> Bool[Tensor, " n"]:
    """Does each point lie on its plane, with a like normal?"""
    off = dot(point.position - plane.position, plane.normal).abs()
    limit = config.distance * torch.maximum(plane.radius, point.radius)
    return (off <= limit) & (dot(plane.normal, point.normal) > config.normal_cosine)


def by_radius(
    new: Surfels, old: Surfels, distance: float, normal_cosine: float, voxels: Voxels | None = None
) -> tuple[Int[Tensor, " s"], Bool[Tensor, " n"]]:
    """As `by_projection`, by the paper's rule: the nearest old surfel within `distance` whose normal
    agrees is seen again, and explains the new one. `voxels` of the old surfels find it at once."""
    if voxels is None and backend(old.device) == "numba":
        voxels = Voxels.of(old.position, distance)
    if voxels is not None:
        discs = (new.position, new.normal), (old.position, old.normal)
        found = voxels.nearest(*discs, distance, normal_cosine)
    else:
        found = _nearest_of_all(new, old, distance, normal_cosine)
    return torch.unique(found[found >= 0]), found < 0


def _nearest_of_all(
    new: Surfels, old: Surfels, distance: float, normal_cosine: float
) -> Int[Tensor, " n"]:
    """Per new surfel the nearest old one within `distance` whose normal agrees; -1 = none."""
    found = [torch.zeros(0, dtype=torch.int64, device=new.device)]
    limit = new.radius.new_tensor(distance) ** 2
    for block in torch.arange(len(new), device=new.device).split(max(1, PAIRS // max(1, len(old)))):
        columns = zip(new.position[block].T, old.position.T, strict=True)
        gap = sum((a[:, None] - b) ** 2 for a, b in columns)
        columns = zip(new.normal[block].T, old.normal.T, strict=True)
        agrees = sum(a[:, None] * b for a, b in columns) > normal_cosine
        gap = torch.where(agrees & (gap <= limit), gap, torch.inf)
        if len(old):
            nearest, ids = gap.min(1)
            found.append(torch.where(nearest.isfinite(), ids, -1))
        else:
            found.append(torch.full_like(block, -1))
    return torch.cat(found)


def released_distance(new: Float[Tensor, " n"], old: Float[Tensor, " o"]) -> float:
    """d of the released code: mean + 0.5 std of all radii, new and old."""
    total = len(new) + len(old)
    if total == 0:
        return 0.0
    mean = float(new.double().sum() + old.double().sum()) / total
    squares = sum(float(((x.double() - mean) ** 2).sum()) for x in (new, old))
    return mean + 0.5 * math.sqrt(squares / total)
