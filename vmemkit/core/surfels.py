"""Surfels: from a point map to small oriented discs.

In: a point map (a world point per pixel), its camera, image and confidence. Out: a surfel for each
trusted pixel of a coarser grid: position, normal (away from the camera), radius, colour.
The radius covers the pixel's footprint, widened where the surface is seen at a slant:
r = (1/2 depth / f) / (a + (1 - a) |n . v|) (VMem, section 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.camera import MAX_DISTANCE, Cameras, unproject
from vmemkit.core.kernels import accelerated
from vmemkit.core.noise import depth_noise
from vmemkit.core.structs import TensorStruct

LONGEST_NORMAL = 1.001  # length of a unit normal, with room for rounding
NARROW = 0.5**0.5  # factor on radii: as `SplatConfig` draws them, discs stay inside narrow surfaces
CLEAR = 10.0  # times the noise that an edge must be: else noise makes edges, and narrow surfaces
LEAST_SLANT = 0.01  # a disc is at most 100 times as wide as the pixel that it comes from


@dataclass(frozen=True, repr=False)
class Surfels(TensorStruct):
    position: Float[Tensor, "n 3"]  # world
    normal: Float[Tensor, "n 3"]  # unit, world, away from the camera that wrote it
    radius: Float[Tensor, " n"]  # world units
    color: Float[Tensor, "n 3"]  # in [0, 1]


def check_surfels(surfels: Surfels) -> None:
    """Errors: ValueError, which names the first one, for surfels that cannot be drawn everywhere
    alike: positions and radii that are not finite or beyond MAX_DISTANCE, negative radii, normals
    longer than 1, and colours that are not finite."""
    normal, radius = surfels.normal, surfels.radius
    reach = f"at most {MAX_DISTANCE:g} units"
    for name, sound, needed in (
        ("position", in_reach(surfels.position), f"{reach} from the origin"),
        ("normal", dot(normal, normal) <= LONGEST_NORMAL**2, "a vector of length 1"),
        ("radius", (radius >= 0) & (radius <= MAX_DISTANCE), f"{reach}, and not negative"),
        ("color", surfels.color.isfinite().all(-1), "finite"),
    ):
        if not sound.all():
            i = int((~sound).nonzero()[0, 0])
            got = getattr(surfels, name)[i].tolist()
            raise ValueError(f"the {name} of surfel {i} is {got}, it must be {needed}")


@dataclass(frozen=True, repr=False)
class PointMaps(TensorStruct):
    """Points of views on a pixel grid; NaN where unknown. After thinning by interpolation they need
    not lie on their pixels' rays."""

    points: Float[Tensor, "*t h w 3"]  # world
    depth: Float[Tensor, "*t h w"]  # z-depth, world units
    confidence: Float[Tensor, "*t h w"]  # >= 1 is trusted

    @classmethod
    def from_depth(
        cls,
        cameras: Cameras,
        depth: Float[Tensor, "*t h w"],
        confidence: Float[Tensor, "*t h w"] | None = None,
    ) -> PointMaps:
        """Point maps of depth maps; confidence 1 where none is given."""
        points = unproject(cameras, depth)
        return cls(points, depth, torch.ones_like(depth) if confidence is None else confidence)


@dataclass(frozen=True)
class SurfelConfig:
    """How a point map is thinned and filtered. Defaults are ours; `released` is VMem's code."""

    shrink: float = 0.5  # surfels per image pixel, along each axis  # differs from VMem: 0.03 (paper), 0.05 (code)
    slant: float = 0.2  # `a` in the radius formula (paper)
    min_confidence: float = 1.0  # pixels below it make no surfel (released code)
    depth_quantile: float = 0.999  # deeper pixels make no surfel (released code)
    edge: float = 0.04  # an edge: relative jump of inverse depth, beyond its local slope
    # Depth whose noise per pixel is a larger share of it is smoothed first; 1 = never.
    noise: float = 0.002  # differs from VMem: no smoothing
    scheme: Literal["central", "forward"] = (
        "central"  # normals and thinning: as the paper | released code
    )

    def __post_init__(self) -> None:
        if self.scheme not in ("central", "forward"):
            raise ValueError(f"unknown scheme {self.scheme!r}: choose from central, forward")
        if not (0 < self.shrink <= 1 and 0 <= self.depth_quantile <= 1):
            raise ValueError(
                "need shrink in (0, 1] and depth_quantile in [0, 1], got "
                f"{self.shrink} and {self.depth_quantile}"
            )
        if not LEAST_SLANT <= self.slant <= 1:
            raise ValueError(f"need a slant in [{LEAST_SLANT}, 1], got {self.slant}")
        if not (self.edge > 0 and self.noise > 0) or math.isnan(self.min_confidence):
            raise ValueError(
                "need edge > 0, noise > 0 and a min_confidence, got "
                f"{self.edge}, {self.noise} and {self.min_confidence}"
            )

    @classmethod
    def released(cls) -> SurfelConfig:
        """As the released code: few surfels, forward differences, no test for depth edges or noise."""
        return cls(shrink=0.05, scheme="forward", noise=1.0)


def surfels_from_points(
    maps: PointMaps,
    camera: Cameras,
    image: Float[Tensor, "3 h w"],
    config: SurfelConfig,
    whole: PointMaps | None = None,
) -> tuple[Surfels, Int[Tensor, " n"]]:
    """Surfels of one view, and the grid pixel (row * width + column) that each comes from.

    `maps`, `camera` and `image` belong to that one view (no batch), on a grid already thinned by
    `thin`. `whole` are the point maps before that, in which surfaces are found that are two pixels
    wide: on a thinner grid these have no neighbours of their own. If its noise is more than a CLEAR-th
    of an edge, they cannot be told from noise, and make no surfels.
    """
    h, w = maps.depth.shape
    focal, known = grid_focal(camera.K, h, w), _trusted(maps, config)
    if config.scheme == "central":
        normal, radius, smooth = _normals_and_radii(
            maps.points, maps.depth, camera.position, focal, config.slant, config.edge
        )
        uneven = known & ~smooth
        if whole is not None:
            uneven &= CLEAR * depth_noise(whole.depth[None]) <= config.edge
        narrow = uneven.flatten().nonzero()[:, 0]
        raw = narrow_normals(maps if whole is None else whole, narrow, (h, w), config.edge)
        at = narrow // w, narrow % w
        normal[at], size, smooth[at] = _oriented_with_radii(
            raw, maps.points[at], maps.depth[at], camera.position, focal, config.slant
        )
        radius[at] = NARROW * size
    else:
        raw = forward_normals(maps.points)
        normal, radius, smooth = _oriented_with_radii(
            raw, maps.points, maps.depth, camera.position, focal, config.slant
        )
    pixel = known & smooth & (radius <= MAX_DISTANCE)
    pixel = pixel.flatten().nonzero()[:, 0]
    # Selecting rows by index is several times faster than by mask.
    position = maps.points.reshape(-1, 3).index_select(0, pixel)
    normal = normal.reshape(-1, 3).index_select(0, pixel)
    color = torch.stack([c.index_select(0, pixel) for c in image.flatten(1)], -1)
    radius = radius.flatten().index_select(0, pixel)
    return Surfels(position, normal, radius, color), pixel


@accelerated
def _normals_and_radii(
    points: Float[Tensor, "h w 3"],
    depth: Float[Tensor, "h w"],
    eye: Float[Tensor, " 3"],
    focal: Float[Tensor, ""],
    slant: float,
    edge: float,
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Normal by central differences and radius of every pixel, and where both are known."""
    raw, smooth = central_normals(points, depth, edge)
    normal, radius, known = _oriented_with_radii(raw, points, depth, eye, focal, slant)
    return normal, radius, smooth & known


def _oriented_with_radii(
    raw: Float[Tensor, "*n 3"],
    points: Float[Tensor, "*n 3"],
    depth: Float[Tensor, "*n"],
    eye: Float[Tensor, " 3"],
    focal: Float[Tensor, ""],
    slant: float,
) -> tuple[Float[Tensor, "*n 3"], Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """Raw normals turned away from the camera, radii, and where the normal is finite."""
    sight = points - eye
    sight = sight / root(dot(sight, sight)).clamp(min=1e-12)[..., None]
    normal, cosine = turned_away(raw, sight)
    return normal, footprint(depth, focal, cosine, slant), normal.isfinite().all(-1)


def thin(
    maps: PointMaps, image: Float[Tensor, "t 3 h w"], config: SurfelConfig
) -> tuple[PointMaps, Float[Tensor, "t 3 i j"]]:
    """The point maps and images on the surfel grid: `shrink` times as many rows and columns.

    "central" takes the pixel at each cell's centre. "forward" interpolates, as the released code does,
    which makes points in mid-air across depth edges.
    """
    h, w = maps.depth.shape[1:]
    rows, columns = grid_size(h, w, config)
    if config.scheme == "forward":

        def sample(x: Tensor) -> Tensor:
            size = (rows, columns)
            return torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)

    elif (rows, columns) == (h, w):
        return maps, image
    else:
        i = ((torch.arange(rows, device=image.device) + 0.5) * h / rows).long()
        j = ((torch.arange(columns, device=image.device) + 0.5) * w / columns).long()

        def sample(x: Tensor) -> Tensor:
            return x[:, :, i[:, None], j]

    points = sample(maps.points.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    depth, confidence = sample(maps.depth[:, None])[:, 0], sample(maps.confidence[:, None])[:, 0]
    return PointMaps(points, depth, confidence), sample(image)


def grid_size(height: int, width: int, config: SurfelConfig) -> tuple[int, int]:
    """Rows and columns of the surfel grid of an image: at least two of each."""
    return max(2, round(height * config.shrink)), max(2, round(width * config.shrink))


def grid_focal(K: Float[Tensor, "*b 3 3"], rows: int, columns: int) -> Float[Tensor, "*b"]:
    """Focal length in pixels of a grid: the mean of both axes."""
    return 0.5 * (K[..., 0, 0] * columns + K[..., 1, 1] * rows)


def forward_normals(points: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Unit normals by forward differences; zero in the last row and column (released code)."""
    corner = points[:-1, :-1]
    cross = torch.linalg.cross(points[:-1, 1:] - corner, points[1:, :-1] - corner)
    normals = torch.zeros_like(points)
    normals[:-1, :-1] = cross / cross.norm(dim=-1, keepdim=True)
    return normals


def central_normals(
    points: Float[Tensor, "h w 3"], depth: Float[Tensor, "h w"], edge: float
) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
    """Unit normals by central differences (paper), one-sided at borders and depth edges.

    The mask is False where a pixel has no neighbour on its own surface along some axis.
    """
    across, ok_across = _difference(points.transpose(0, 1), depth.T, edge)
    down, ok_down = _difference(points, depth, edge)
    upright = cross(across.transpose(0, 1), down)
    length = root(dot(upright, upright))
    known = (length > 0) & (length < torch.inf)
    return upright / length[..., None], ok_across.T & ok_down & known


def narrow_normals(
    maps: PointMaps, pixel: Int[Tensor, " n"], grid: tuple[int, int], edge: float
) -> Float[Tensor, "n 3"]:
    """Unit normals at pixels (row * width + column) of a grid of an image, by the differences to the
    image's next pixels whose inverse depth is within the share `edge` of theirs; NaN without any.

    Two pixels show no slope beyond which a step would be an edge (`central_normals`). So only small
    steps count.
    """
    (height, width), (rows, columns) = maps.depth.shape, grid
    row = ((pixel // columns + 0.5) * height / rows).long()
    column = ((pixel % columns + 0.5) * width / columns).long()
    here, point = 1 / maps.depth[row, column], maps.points[row, column]

    def step(down: int, across: int) -> Float[Tensor, "n 3"]:
        i, j = row + down, column + across
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        i, j = i.clamp(0, height - 1), j.clamp(0, width - 1)
        there = 1 / maps.depth[i, j]
        near = inside & ((there - here).abs() <= edge * torch.maximum(here, there))
        return torch.where(near[:, None], maps.points[i, j] - point, 0)

    upright = cross(step(0, 1) - step(0, -1), step(1, 0) - step(-1, 0))
    return upright / root(dot(upright, upright))[:, None]


def turned_away(
    normal: Float[Tensor, "*b 3"], sight: Float[Tensor, "*b 3"]
) -> tuple[Float[Tensor, "*b 3"], Float[Tensor, "*b"]]:
    """Normals turned so that sight . normal >= 0, and that cosine; `sight` are unit directions."""
    cosine = dot(normal, sight)
    return torch.where((cosine < 0)[..., None], -normal, normal), cosine.abs()


def footprint(
    depth: Float[Tensor, "*b"],
    focal: Float[Tensor, "*#b"],
    cosine: Float[Tensor, "*b"],
    slant: float = SurfelConfig.slant,
) -> Float[Tensor, "*b"]:
    """Radius of the surface patch behind a pixel: (1/2 depth / f) / (a + (1 - a) cos). f in pixels."""
    return 0.5 * depth / focal / (slant + (1 - slant) * cosine)


# Kernels must equal these to the bit, so the order of sums is fixed and roots are rounded exactly.


def dot(a: Float[Tensor, "*#b 3"], b: Float[Tensor, "*#b 3"]) -> Float[Tensor, "*b"]:
    """Scalar products."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def cross(a: Float[Tensor, "*#b 3"], b: Float[Tensor, "*#b 3"]) -> Float[Tensor, "*b 3"]:
    """Vector products."""
    (a0, a1, a2), (b0, b1, b2) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1)


def root(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Square root, rounded as IEEE 754 demands; torch's own may be off in the last bit."""
    return x.double().sqrt().float()


def in_reach(vectors: Float[Tensor, "*b 3"]) -> Bool[Tensor, "*b"]:
    """Which vectors are finite and at most MAX_DISTANCE long."""
    return dot(vectors, vectors) <= MAX_DISTANCE**2


def _trusted(maps: PointMaps, config: SurfelConfig) -> Bool[Tensor, "h w"]:
    known = in_reach(maps.points) & (maps.depth > 0) & (maps.depth < torch.inf)
    far = _quantile(maps.depth.flatten(), known.flatten(), config.depth_quantile)
    return known & (maps.confidence >= config.min_confidence) & (maps.depth <= far)


def _quantile(values: Float[Tensor, " n"], known: Bool[Tensor, " n"], q: float) -> Tensor:
    """The quantile of the known values, by linear interpolation; -infinity where none is known.

    torch.quantile sorts everything and takes at most 16 million values. Here only the greatest are
    sorted: few, because q is near 1. The number of known values is not read, for a GPU would wait.
    """
    most = len(values) - math.floor(q * (len(values) - 1))
    top = torch.where(known, values, -torch.inf).topk(most).values
    count = known.sum()
    place = q * (count - 1).clamp(min=0).double()
    below = place.floor()
    at = (count - 1 - below.long()).clamp(min=0)
    low, high = top.take(at), top.take((at - 1).clamp(min=0))
    return torch.lerp(low, high, (place - below).float())


def _difference(
    points: Float[Tensor, "n m 3"], depth: Float[Tensor, "n m"], edge: float
) -> tuple[Float[Tensor, "n m 3"], Bool[Tensor, "n m"]]:
    """Mean of the forward and backward differences along axis 0 that cross no edge."""
    step = points[1:] - points[:-1]
    joined = (_edge_strength(depth) <= edge)[..., None]
    zero, none = torch.zeros_like(points[:1]), torch.zeros_like(joined[:1])
    forward, has_forward = torch.cat([step, zero]), torch.cat([joined, none])
    backward, has_backward = torch.cat([zero, step]), torch.cat([none, joined])
    total = torch.where(has_forward, forward, 0) + torch.where(has_backward, backward, 0)
    return total, (has_forward | has_backward)[..., 0]


def _edge_strength(depth: Float[Tensor, "n m"]) -> Float[Tensor, "p m"]:
    """How much each pair of rows breaks the plane that continues from its better side.

    Inverse depth is affine over the image of a plane, however slanted, so what counts is its
    deviation from linear extrapolation, relative to its size. Unknown depth breaks everything.
    """
    inverse = 1 / depth
    if len(depth) < 3:
        return (inverse[1:] - inverse[:-1]).abs() / torch.maximum(inverse[1:], inverse[:-1])
    bend = (inverse[2:] - 2 * inverse[1:-1] + inverse[:-2]).abs().nan_to_num(nan=torch.inf)
    none = torch.full_like(bend[:1], torch.inf)
    jump = torch.minimum(torch.cat([none, bend]), torch.cat([bend, none]))
    known = (inverse[1:] - inverse[:-1]).isfinite()
    strength = jump / torch.maximum(inverse[1:], inverse[:-1])
    return torch.where(known, strength, torch.inf)
