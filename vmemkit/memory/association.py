"""Association: which surfels of a new view does the memory hold already, and which are new?

In: the surfels of one new view and those already in memory. Out: the new surfels that nothing in
memory explains (each is added).

`projective` (default) renders the memory into the new camera, as surfel SLAM does (Keller et al.,
3DV 2013). A new surfel is explained if its pixel hits an old disc on the same surface. Tolerances are
multiples of the local radii, so that no scale needs to be known. Who sees which surfel is decided by
the views' depth (visibility.py).
# differs from VMem: the paper's rule is `radius`, centre distance < d and normal cosine > theta, and
decides both. It credits one old surfel per new one. So a distant view is credited with few of the many
fine surfels that it sees, and loses votes. d is the released code's, mean + 0.5 std of all radii.
"""

from __future__ import annotations

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
    runs_in_region,
    runs_in_sight,
    runs_to_test,
    splat,
    surfels_in_runs,
)
from vmemkit.core.kernels import RUN, accelerated

NEIGHBOURS = 8  # old surfels that the radius rule looks at first; more where none of them agrees


@dataclass(frozen=True)
class AssociationConfig:
    """How new surfels are matched to old ones. `writing.py` calls the chosen method."""

    method: Literal["projective", "radius"] = "projective"
    distance: float = 2.0  # projective only: largest distance from the surface, in radii
    normal_cosine: float = 0.6  # theta (released code)
    # projective only: a view sees a surfel that is at most these shares of the view's depth behind it
    # or before it.
    behind: float = 0.03
    before: float = 0.3
    # Depth of a generated pixel is dropped if a given view sees a surface behind it, by more than this
    # share of that surface's depth; 1 keeps all.  # differs from VMem: no such test
    empty: float = 0.06

    def __post_init__(self) -> None:
        if self.method not in ("projective", "radius"):
            raise ValueError(f"unknown method {self.method!r}: choose from projective, radius")
        if not (self.distance > 0 and -1 <= self.normal_cosine <= 1 and self.empty >= 0):
            raise ValueError(
                "need distance > 0, normal_cosine in [-1, 1] and empty >= 0, got "
                f"{self.distance}, {self.normal_cosine} and {self.empty}"
            )
        if not (0 <= self.behind < 1 and 0 <= self.before <= 1):
            raise ValueError(
                f"behind and before are shares from 0 to 1, got {self.behind} and {self.before}"
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
) -> Bool[Tensor, " n"]:
    """Which of the new surfels nothing in memory explains.

    `pixel` is where each new surfel lies on the view's surfel grid of (rows, columns) `grid`;
    `camera` (1,) is the view's. `boxes` of the old surfels save looking at those out of reach.
    """
    if len(new) == 0:
        return pixel.bool()
    runs = _in_reach(new, camera, old, config, boxes)
    discs = SplatConfig()
    limits = (discs.scale, discs.near, discs.far)
    tolerances = (config.distance, config.normal_cosine)
    return ~_explained(new, pixel, grid, camera, old, runs, limits, tolerances)


@accelerated
def _explained(
    new: Surfels,
    pixel: Int[Tensor, " n"],
    grid: tuple[int, int],
    camera: Cameras,
    old: Surfels,
    runs: Int[Tensor, " r"],
    limits: tuple[float, float, float],
    tolerances: tuple[float, float],
) -> Bool[Tensor, " n"]:
    """Which new surfels' pixels hit an old disc of `runs` on the same surface, whatever hides that
    disc. `limits` are scale, near and far; `tolerances` distance and normal cosine."""
    old = old[surfels_in_runs(runs, len(old))]
    at_pixel = pixel.new_full((grid[0] * grid[1],), -1)  # the new surfel at each grid pixel
    at_pixel[pixel] = torch.arange(len(pixel), device=pixel.device)
    hit = _hits_on_surface(new, at_pixel, old, camera, grid, limits, tolerances)
    return hit.flatten()[pixel] >= 0


@accelerated
def _hits_on_surface(
    new: Surfels,
    at_pixel: Int[Tensor, " p"],
    old: Surfels,
    camera: Cameras,
    grid: tuple[int, int],
    limits: tuple[float, float, float],
    tolerances: tuple[float, float],
) -> Int[Tensor, "1 h w"]:
    """Per pixel the nearest old disc that lies on the surface of the new surfel there, -1 = none."""

    def accept(ids: Tensor, at: Tensor) -> Bool[Tensor, " f"]:
        match = at_pixel[at]
        return (match >= 0) & _same_surface(old[ids], new[match], tolerances)

    scale, near, far = limits
    return splat(old, camera, *grid, SplatConfig(scale, near, far), accept).surfel


def _in_reach(
    new: Surfels, camera: Cameras, old: Surfels, config: AssociationConfig, boxes: Boxes | None
) -> Int[Tensor, " r"]:
    """Runs of old surfels of which some may lie on the new surface, in the camera's sight."""
    if boxes is None:
        return torch.arange(-(-len(old) // RUN), device=old.device)
    discs, margin = SplatConfig(), config.distance * new.radius.amax()
    # Column by column, which torch does ten times as fast as over the rows.
    low, high = zip(*(column.aminmax() for column in new.position.unbind(1)), strict=True)
    region = torch.stack(low) - margin, torch.stack(high) + margin
    meets = runs_in_region(boxes, *region, max(config.distance, discs.scale))
    meets &= runs_in_sight(boxes, camera, discs.scale, discs.near, discs.far)[0]
    return runs_to_test(meets, len(old))


def _same_surface(
    plane: Surfels, point: Surfels, tolerances: tuple[float, float]
) -> Bool[Tensor, " n"]:
    """Whether each point lies on its plane, and has a similar normal."""
    distance, normal_cosine = tolerances
    offset = dot(point.position - plane.position, plane.normal).abs()
    limit = distance * torch.maximum(plane.radius, point.radius)
    return (offset <= limit) & (dot(plane.normal, point.normal) > normal_cosine)


def by_radius(
    new: Surfels, old: Surfels, distance: float, normal_cosine: float
) -> tuple[Int[Tensor, " s"], Bool[Tensor, " n"]]:
    """As `by_projection`, by the paper's rule: the nearest old surfel within `distance` whose normal
    agrees is seen again, and explains the new one."""
    nearest = _nearest_alike(new, old, distance, normal_cosine)
    return torch.unique(nearest[nearest >= 0]), nearest < 0


def _nearest_alike(
    new: Surfels, old: Surfels, distance: float, normal_cosine: float
) -> Int[Tensor, " n"]:
    """Per new surfel the nearest old one within `distance` whose normal agrees, -1 = none.

    Of equally near ones the oldest counts.
    """
    from scipy.spatial import cKDTree  # imported late: only this rule needs it

    nearest = torch.full((len(new),), -1, device=new.device)
    if len(old) == 0:
        return nearest
    limit = new.radius.new_tensor(distance) ** 2
    reach = distance * (1 + 1e-5) + 1e-12  # a little more, as the tree rounds; `limit` is exact
    tree, count = cKDTree(old.position.cpu().numpy()), NEIGHBOURS
    pending = torch.arange(len(new), device=new.device)
    while len(pending):
        count = min(count, len(old))
        centres = new.position[pending].cpu().numpy()
        _, ids = tree.query(centres, k=range(1, count + 1), distance_upper_bound=reach)
        ids = torch.from_numpy(ids).to(new.device)  # [p count]; len(old) where there are no more
        exists = ids < len(old)
        ids = ids.where(exists, 0)
        gap = _squared_distance(new.position[pending, None], old.position[ids])
        agrees = dot(new.normal[pending, None], old.normal[ids]) > normal_cosine
        in_reach = torch.where(exists & agrees & (gap <= limit), gap, torch.inf)
        best = in_reach.amin(1)
        oldest = torch.where(in_reach == best[:, None], ids, len(old)).amin(1)
        nearest[pending] = torch.where(best.isfinite(), oldest, -1)
        # Done if nothing is left to look at, or if the best is nearer than the last one looked at.
        settled = ~exists[:, -1] | (best < gap[:, -1])
        pending, count = pending[~settled & (count < len(old))], 4 * count
    return nearest


def _squared_distance(a: Float[Tensor, "*#b 3"], b: Float[Tensor, "*#b 3"]) -> Float[Tensor, "*b"]:
    difference = a - b
    return dot(difference, difference)


def released_distance(new: Float[Tensor, " n"], old: Float[Tensor, " o"]) -> float:
    """d of the released code: mean + 0.5 std of all radii, new and old."""
    radii = torch.cat([new, old]).double()
    return float(radii.mean() + 0.5 * radii.std(correction=0)) if len(radii) else 0.0
