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

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit import native, splat
from vmemkit.backends import backend
from vmemkit.camera import Cameras
from vmemkit.runs import RUN, Boxes, rows_of, runs_that, showing, touching
from vmemkit.splat import SplatConfig
from vmemkit.surfels import Surfels, dot

PAIRS = 1 << 24  # distances per batch in the radius search: bounds its memory to 64 MB


@dataclass(frozen=True)
class AssociationConfig:
    method: Literal["projective", "radius"] = "projective"
    distance: float = 2.0  # projective: tolerance off the surface, in radii
    normal_cosine: float = 0.6  # theta (released code)
    empty: float = 0.06  # relative depth by which a given view must look past a generated
    # surfel for it to be dropped; 1 keeps all  # differs from VMem: no such test there

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
    lens = splat.lens(camera, height, width)
    if backend(old.device) == "numba":
        discs, limits = SplatConfig(), (config.distance, config.normal_cosine)
        seen, hit = native.seen_again(
            *((new.position, new.normal, new.radius), pixel, grid),
            *((old.position, old.normal, old.radius), runs, lens),
            (discs.scale, discs.near, discs.far, *limits),
        )
        return seen, hit < 0
    rows = rows_of(runs, len(old))
    old = old[rows]
    at_pixel = pixel.new_full((height * width,), -1)
    at_pixel[pixel] = torch.arange(len(pixel), device=pixel.device)
    # 1. Centres of old surfels that land on the new surface.
    rotation, eye, focal, centre = lens
    q, n = splat.turned(old.position - eye, rotation), splat.turned(old.normal, rotation)
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

    hit = splat.splat(old, camera, height, width, accept=accept).surfel.flatten()[pixel]
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
    meets &= showing(boxes, camera, discs.scale, discs.near, discs.far)
    return runs_that(meets, len(old))


def _same_surface(plane: Surfels, point: Surfels, config: AssociationConfig) -> Bool[Tensor, " n"]:
    """Does each point lie on its plane, with a like normal?"""
    off = dot(point.position - plane.position, plane.normal).abs()
    limit = config.distance * torch.maximum(plane.radius, point.radius)
    return (off <= limit) & (dot(plane.normal, point.normal) > config.normal_cosine)


def by_radius(
    new: Surfels, old: Surfels, distance: float, normal_cosine: float
) -> tuple[Int[Tensor, " s"], Bool[Tensor, " n"]]:
    """As `by_projection`, by the paper's rule: the nearest old surfel within `distance` whose normal
    agrees is seen again, and explains the new one."""
    seen, fresh = [], []
    for block in torch.arange(len(new), device=new.device).split(max(1, PAIRS // max(1, len(old)))):
        gap = torch.cdist(
            new.position[block], old.position, compute_mode="donot_use_mm_for_euclid_dist"
        )
        agrees = new.normal[block] @ old.normal.T > normal_cosine
        gap = torch.where(agrees & (gap <= distance), gap, torch.inf)
        if len(old):
            nearest, ids = gap.min(1)
            seen.append(ids[nearest.isfinite()])
            fresh.append(~nearest.isfinite())
        else:
            fresh.append(torch.ones_like(block, dtype=torch.bool))
    none = torch.zeros(0, dtype=torch.int64, device=new.device)
    return torch.unique(torch.cat([none, *seen])), torch.cat([none.bool(), *fresh])


def released_distance(new: Float[Tensor, " n"], old: Float[Tensor, " o"]) -> float:
    """d of the released code: mean + 0.5 std of all radii, new and old."""
    radii = torch.cat([new, old])
    return float(radii.mean() + 0.5 * radii.std(correction=0)) if len(radii) else 0.0
