"""Splatting: which surfel does each pixel of a camera see, how far away, at what angle.

In: surfels and cameras. Out: per pixel the nearest disc hit by the pixel's ray. The disc test is
exact: with q the centre in the camera, n the normal, c = n . q and d = (du, dv, 0) the offset of
the ray from the ray through the centre, the ray meets the disc's plane at
q + (c d - (n . d) q) / (c / q_z + n . d), which loses no digits to cancellation in float32.
`polygon` instead draws 16-gons of one depth each, as VMem's released renderer does.
Every disc is expanded into the pixels of its bounding box ("fragments"); the smallest key
(depth, surfel) wins a pixel, so equal depths go to the older surfel on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.boxes import Boxes
from vmemkit.core.camera import Cameras, camera_list, in_camera_axes
from vmemkit.core.conversions import whole
from vmemkit.core.kernels import CORNERS, MARGIN, RING, accelerated
from vmemkit.core.structs import TensorStruct, cat
from vmemkit.core.surfels import Surfels, cross, dot, root

FRAGMENTS = 1 << 21  # fragments per batch: bounds the memory of one call to about 200 MB
MAX_CANVAS = 1 << 28  # pixels of all cameras of a call: 8 GB
PINHOLE = 0.05  # share of the depth: what lies farther behind a surface is not of it
EMPTY = torch.iinfo(torch.int64).max  # key of a pixel that no disc covers


@dataclass(frozen=True, repr=False)
class Splat(TensorStruct):
    """What m cameras see of the surfels, per pixel."""

    surfel: Int[Tensor, "m h w"]  # index of the nearest surfel, -1 = none
    depth: Float[Tensor, "m h w"]  # planar, world units; 0 where none
    cosine: Float[Tensor, "m h w"]  # between normal and line of sight at the surfel's centre


@dataclass(frozen=True)
class SplatConfig:
    scale: float = 2**0.5  # of the radii: discs inscribed in pixels leave holes, circumscribed none
    near: float = 0.02  # world units
    far: float = math.inf
    polygon: bool = False  # the released renderer's shapes

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and 0 <= self.near < self.far):
            raise ValueError(
                "need 0 < scale < infinity and 0 <= near < far, got "
                f"{self.scale}, {self.near} and {self.far}"
            )

    @classmethod
    def released(cls) -> SplatConfig:
        return cls(scale=1.0, near=0.1, far=1000.0, polygon=True)


# (surfel ids, pixel ids) -> which hits to keep
Accept = Callable[[Int[Tensor, " f"], Int[Tensor, " f"]], Bool[Tensor, " f"]]
# Batches of (surfel, pixel, depth).
Hits = Iterator[tuple[Int[Tensor, " f"], Int[Tensor, " f"], Float[Tensor, " f"]]]


def splat(
    surfels: Surfels,
    cameras: Cameras,
    height: int,
    width: int,
    config: SplatConfig | None = None,
    accept: Accept | None = None,
    boxes: Boxes | None = None,
) -> Splat:
    """Render surfel indices into cameras (m,), on a canvas of height x width pixels.

    Back faces, and whatever is nearer than `near`, are not drawn. `accept(surfel ids, pixel ids)`
    may refuse hits; pixel ids are (camera * height + row) * width + column. `boxes` of the surfels
    let the kernels skip what is out of sight; they change no result. Surfels must be as
    `check_surfels` demands, which a `Memory` has seen to: others are drawn by chance or not at all.
    Errors: ValueError for an empty canvas, and unless `cameras` has exactly one axis, not empty.
    """
    cameras = camera_list(cameras, "the cameras to render")
    config, size = config or SplatConfig(), (whole(height, "height"), whole(width, "width"))
    if min(size) < 1 or len(cameras) * size[0] * size[1] > MAX_CANVAS:
        raise ValueError(
            f"splat needs canvases of at least 1 x 1 pixels and at most {MAX_CANVAS} pixels in all, "
            f"got {len(cameras)} of {height} x {width}"
        )
    limits = (config.scale, config.near, config.far)
    if accept is not None:
        hits = _polygon_hits if config.polygon else _disc_hits
        return _nearest_hits(hits, surfels, cameras, size, limits, accept)
    if config.polygon:
        return Splat(*polygons(surfels, cameras, size, limits))
    return Splat(*discs(surfels, cameras, size, limits, boxes))


@accelerated
def discs(
    surfels: Surfels,
    cameras: Cameras,
    size: tuple[int, int],
    limits: tuple[float, float, float],
    boxes: Boxes | None,
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """Surfel, depth and cosine per pixel, as in `Splat`. `limits` are scale, near and far.

    This reference tests every surfel; its twins use `boxes` to skip those out of sight.
    """
    nearest = _nearest_hits(_disc_hits, surfels, cameras, size, limits)
    return nearest.surfel, nearest.depth, nearest.cosine


@accelerated
def polygons(
    surfels: Surfels,
    cameras: Cameras,
    size: tuple[int, int],
    limits: tuple[float, float, float],
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """As `discs`, of 16-gons of one depth each."""
    nearest = _nearest_hits(_polygon_hits, surfels, cameras, size, limits)
    return nearest.surfel, nearest.depth, nearest.cosine


def _nearest_hits(
    hits: Callable[..., tuple[Float[Tensor, " n"], Hits]],
    surfels: Surfels,
    cameras: Cameras,
    size: tuple[int, int],
    limits: tuple[float, float, float],
    accept: Accept | None = None,
) -> Splat:
    """The nearest of all accepted hits per pixel."""
    pixels = size[0] * size[1]
    canvases = []
    for i in range(len(cameras)):
        keys = torch.full((pixels,), EMPTY, dtype=torch.int64, device=surfels.device)
        cosine, batches = hits(surfels, cameras[i : i + 1], size, limits)
        for surfel, pixel, depth in batches:
            if accept is not None:
                accepted = accept(surfel, pixel + i * pixels)
                surfel, pixel, depth = surfel[accepted], pixel[accepted], depth[accepted]
            # The bit patterns of positive float32 numbers have the numbers' order.
            hit_keys = (depth.view(torch.int32).long() << 32) | surfel
            keys.scatter_reduce_(0, pixel, hit_keys, "amin")
        canvases.append(_splat_of_keys(keys, cosine, size))
    return cat(canvases)


def _disc_hits(
    surfels: Surfels, camera: Cameras, size: tuple[int, int], limits: tuple[float, float, float]
) -> tuple[Float[Tensor, " n"], Hits]:
    """Cosine of every surfel, and batches of (surfel, pixel, depth) where rays meet discs."""
    scale, nearest, farthest = limits
    height, width = size
    rotation, eye, focal, centre = pose_and_lens(camera, height, width)
    q, n = (
        in_camera_axes(surfels.position - eye, rotation),
        in_camera_axes(surfels.normal, rotation),
    )
    r = surfels.radius * scale
    c = n[0] * q[0] + n[1] * q[1] + n[2] * q[2]
    # 1. Bounding boxes in pixels: the disc reaches r sqrt(1 - n_k^2) along axis k.
    reach = [r * root((1 - nk * nk).clamp(min=0)) for nk in n]
    near, far = (q[2] - reach[2]).clamp(min=nearest), q[2] + reach[2]
    drawn = (c > 0) & (q[2] > 0) & (far > nearest) & (q[2] < farthest)
    borders, middle = [], []
    for k in range(2):
        low, high = q[k] - reach[k], q[k] + reach[k]
        low = torch.where(low < 0, low / near, low / far) * focal[k] + centre[k]
        high = torch.where(high > 0, high / near, high / far) * focal[k] + centre[k]
        borders.append((low, high))
        middle.append(q[k] / q[2] * focal[k] + centre[k])
    low, high = (torch.stack(border, -1) for border in zip(*borders, strict=True))
    boxes = _PixelBoxes.of(low, high, drawn, height, width)
    inverse = 1 / focal

    def batches() -> Hits:
        # 2. Rays that meet a disc, and where.
        for s, row, column in boxes.fragments():
            du, dv = (column - middle[0][s]) * inverse[0], (row - middle[1][s]) * inverse[1]
            nd, cs = n[0][s] * du + n[1][s] * dv, c[s]
            facing = cs / q[2][s] + nd
            dx, dy, dz = cs * du - nd * q[0][s], cs * dv - nd * q[1][s], nd * q[2][s]
            depth = cs / facing
            inside = dx * dx + dy * dy + dz * dz <= (r[s] * facing) ** 2
            inside &= (facing > 0) & (depth > nearest)
            yield s[inside], (row * width + column)[inside], depth[inside]

    distance = root(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    return c / distance.clamp(min=1e-12), batches()


def without_pinholes(seen: Splat) -> Splat:
    """The splat with surfels in pinholes: pixels between two opposite neighbours of about one depth
    (within PINHOLE) that see nothing, or something deeper by more than that.

    Discs leave such gaps where a surface is seen at a slant. Through them, what is behind would vote.
    """
    for axis in (1, 2):
        first, last = (seen.map(partial(torch.roll, shifts=n, dims=axis)) for n in (1, -1))
        depth = torch.where(seen.surfel < 0, torch.inf, seen.depth)
        nearer, farther = (
            torch.minimum(first.depth, last.depth),
            torch.maximum(first.depth, last.depth),
        )
        closed = (first.surfel >= 0) & (last.surfel >= 0)
        closed &= (farther <= (1 + PINHOLE) * nearer) & (depth > (1 + PINHOLE) * farther)
        closed.narrow(axis, 0, 1).fill_(False)  # the border has one neighbour only
        closed.narrow(axis, closed.shape[axis] - 1, 1).fill_(False)
        seen = Splat(
            torch.where(closed, first.surfel, seen.surfel),
            torch.where(closed, 0.5 * (first.depth + last.depth), seen.depth),
            torch.where(closed, first.cosine, seen.cosine),
        )
    return seen


def pose_and_lens(
    camera: Cameras, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pose of a camera (1,) and its intrinsics in pixels of a canvas.

    rotation [3 3] (world_from_cam), eye [3] (world), focal lengths [2] and centre [2]:
    column = focal[0] * x / z + centre[0], which is whole at pixel centres.
    """
    across, down = camera.K[0, 0] * width, camera.K[0, 1] * height
    centre = (
        torch.stack([across[2], down[2]]) - 0.5
    )  # pixel (0, 0) has its centre at u = 0.5 / width
    return camera.rotation[0], camera.position[0], torch.stack([across[0], down[1]]), centre


def _polygon_hits(
    surfels: Surfels, camera: Cameras, size: tuple[int, int], limits: tuple[float, float, float]
) -> tuple[Float[Tensor, " n"], Hits]:
    """16-gons of constant depth (the mean of their corners), in float64, like the released code."""
    scale, nearest, farthest = limits
    height, width = size
    rotation, eye = camera.rotation[0].double(), camera.position[0].double()
    K = camera.K[0].double() * torch.tensor([[width], [height], [1.0]], device=camera.K.device)
    normal = surfels.normal.double()
    length = dot(normal, normal).sqrt()
    normal = normal / length[:, None]
    sight = surfels.position.double() - eye
    cosine = dot(sight, normal) / dot(sight, sight).sqrt()
    q = in_camera_axes(sight, rotation)
    u, v = (q[k] / q[2] * K[k, k] + K[k, 2] - 0.5 for k in (0, 1))
    drawn = (q[2] > nearest) & (q[2] < farthest) & (length >= 1e-12) & (cosine >= 0)
    drawn &= (u >= -MARGIN) & (u < width + MARGIN) & (v >= -MARGIN) & (v < height + MARGIN)
    x, y, z = _polygon_corners(q, normal, surfels.radius.double() * scale, rotation)
    # Corners behind the camera are dropped: each repeats the one before it, an edge of length zero.
    front = z > 0
    drawn &= front.sum(-1) >= 3
    index = torch.where(front, torch.arange(CORNERS, device=z.device), -1).cummax(-1).values
    index = torch.where(index < 0, index[:, -1:], index).clamp(min=0)
    depth = torch.zeros_like(cosine)
    for k in range(CORNERS):  # one by one, because kernels repeat the order of a sum
        depth = depth + torch.where(front[:, k], z[:, k], 0)
    depth = (depth / front.sum(-1)).float()
    column, row = (p / z * K[k, k] + K[k, 2] - 0.5 for k, p in enumerate((x, y)))
    xy = torch.stack([column.gather(1, index), row.gather(1, index)], -1)
    boxes = _PixelBoxes.of(xy.amin(1), xy.amax(1), drawn, height, width)

    def batches() -> Hits:
        for s, row, column in boxes.fragments():
            inside = _in_polygon(xy[s], column.double(), row.double())
            yield s[inside], (row * width + column)[inside], depth[s[inside]]

    return cosine.float(), batches()


def _polygon_corners(
    centre: list[Float[Tensor, " n"]],
    normal: Float[Tensor, "n 3"],
    radius: Float[Tensor, " n"],
    rotation: Float[Tensor, "3 3"],
) -> list[Float[Tensor, "n 16"]]:
    """Corners in camera axes, counted from the axis normal x z (normal x y if steep)."""
    nx, ny, nz = normal.unbind(-1)
    zero, steep = torch.zeros_like(nx), nz.abs() > 0.9
    a = torch.where(
        steep[:, None], torch.stack([-nz, zero, nx], -1), torch.stack([ny, -nx, zero], -1)
    )
    a = a / dot(a, a).sqrt()[:, None]
    along = [axis * radius for axis in in_camera_axes(a, rotation)]
    across = [axis * radius for axis in in_camera_axes(cross(normal, a), rotation)]
    ring = radius.new_tensor(RING)
    return [
        q[:, None] + (ring[0] * e[:, None] + ring[1] * f[:, None])
        for q, e, f in zip(centre, along, across, strict=True)
    ]


def _in_polygon(
    xy: Float[Tensor, "f 16 2"], x: Float[Tensor, " f"], y: Float[Tensor, " f"]
) -> Tensor:
    """Even-odd rule over the 16 edges."""
    inside = torch.zeros_like(x, dtype=torch.bool)
    for i in range(CORNERS):
        (xi, yi), (xj, yj) = xy[:, i].unbind(-1), xy[:, i - 1].unbind(-1)
        # The 1e-15 is the released code's guard against horizontal edges; it decides rare ties.
        crossing = (xj - xi) * (y - yi) / (yj - yi + 1e-15) + xi
        inside ^= ((yi > y) != (yj > y)) & (x < crossing)
    return inside


@dataclass(frozen=True)
class _PixelBoxes:
    """Pixel boxes of the drawn surfels, to be expanded into fragments."""

    surfel: Int[Tensor, " b"]
    row: Int[Tensor, " b"]  # first row
    column: Int[Tensor, " b"]  # first column
    width: Int[Tensor, " b"]
    area: Int[Tensor, " b"]

    @classmethod
    def of(cls, low: Tensor, high: Tensor, drawn: Tensor, height: int, width: int) -> _PixelBoxes:
        """Boxes of the pixels with low <= (column, row) <= high, cut to the canvas."""
        limit = low.new_tensor([width, height])
        first = torch.minimum(low.nan_to_num(0).ceil().clamp(min=0), limit).long()
        last = torch.minimum(high.nan_to_num(-1).floor().clamp(min=-1), limit - 1).long()
        size = (last - first + 1).clamp(min=0)
        area = size[:, 0] * size[:, 1]
        live = (drawn & (area > 0)).nonzero()[:, 0]
        return cls(live, first[live, 1], first[live, 0], size[live, 0], area[live])

    def fragments(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of (surfel, row, column), at most about FRAGMENTS each."""
        ends = self.area.cumsum(0)
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = int(torch.searchsorted(ends, before + FRAGMENTS, right=True))
            stop = max(stop, start + 1)
            area = self.area[start:stop]
            box = torch.repeat_interleave(torch.arange(start, stop, device=area.device), area)
            k = torch.arange(len(box), device=area.device) + before
            k = k - (ends[box] - self.area[box])
            width = self.width[box]
            down = torch.div(k, width, rounding_mode="floor")
            yield self.surfel[box], self.row[box] + down, self.column[box] + k - down * width
            start = stop


def _splat_of_keys(
    keys: Int[Tensor, " p"], cosine: Float[Tensor, " n"], size: tuple[int, int]
) -> Splat:
    """The canvas of one camera from its keys (depth, surfel)."""
    hit = keys != EMPTY
    surfel = torch.where(hit, keys & 0xFFFFFFFF, -1)
    depth = torch.where(hit, keys >> 32, 0).to(torch.int32).view(torch.float32)
    seen_cosine = torch.zeros_like(depth)
    seen_cosine[hit] = cosine[surfel[hit]]
    return Splat(surfel.view(1, *size), depth.view(1, *size), seen_cosine.view(1, *size))
