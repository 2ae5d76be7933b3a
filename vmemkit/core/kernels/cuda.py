"""The CUDA kernels: the surfels that cameras see, in two launches and without waiting for the host.

In: surfels and cameras on the device. Out: the nearest disc per pixel, as `splat`. The formulas are
those of splatting._disc_hits, in the same order of float32 operations, unfused and with IEEE 754
rounding, so that results are equal to the bit.
1. A program takes BLOCK neighbouring surfels and one camera. It ends at once if the bounding box of
   their run lies outside the frustum (boxes.py).
2. The pixels of all discs' boxes form one sequence, which is dealt out to the lanes. So all lanes
   have work, whatever the sizes of the boxes.
3. The smallest key (depth, surfel) wins a pixel, by an atomic minimum.
With TRITON_INTERPRET=1 the kernels run on a CPU, slowly: the tests do so.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.kernels.cpu import BitRows, Bounds, Discs, Lenses
from vmemkit.core.kernels.sizes import ROUNDING, RUN

# Of new surfels: position, normal, radius, which of them is at each pixel (-1: none); then how far
# from their plane, in radii, and with what cosine to their normal an old disc must lie.
Surface = tuple[Tensor, Tensor, Tensor, Tensor, float, float]

# Surfels, pixels or rows of a program: one for each lane of a warp. RUN is a multiple of it. In the
# interpreter, time goes by the number of programs.
BLOCK = 256 if os.environ.get("TRITON_INTERPRET") == "1" else 32
EMPTY = tl.constexpr(torch.iinfo(torch.int64).max)
SURFELS, SLACK, BITS = tl.constexpr(RUN), tl.constexpr(ROUNDING), tl.constexpr(64)

# Arguments that change from call to call: Triton must not compile anew for their values.
CHANGING = ("total", "boxed", "height", "width", "pixels", "rows", "known")


def compiled(function: Callable) -> Callable:
    """Compile a function on its first call; Triton keeps the result on disk for other processes."""
    # A type checker may have wrapped the function, as in the tests; Triton needs the original.
    return triton.jit(inspect.unwrap(function), do_not_specialize=CHANGING)


def discs(
    surfels: Discs,
    cameras: Lenses,
    size: tuple[int, int],
    limits: tuple[float, float, float],
    boxes: Bounds | None,
    surface: Surface | None = None,
    block: int = BLOCK,
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """Twin of `splatting.discs`. With a `surface`, only discs that lie on it count."""
    m, n, (height, width) = len(cameras.K), len(surfels.position), size
    columns = _contiguous(surfels.position, surfels.normal, surfels.radius)
    lenses = _contiguous(cameras.world_from_cam, cameras.K)
    bounds = None if boxes is None else _contiguous(boxes.low, boxes.high, boxes.radius)
    boxed = 0 if boxes is None else len(boxes.low)
    if surface is not None:
        surface = (*_contiguous(*surface[:4]), *surface[4:])
    keys = torch.full((m, height, width), EMPTY.value, device=surfels.position.device)
    surfel = torch.empty_like(keys)
    depth, cosine = (torch.empty_like(keys, dtype=torch.float32) for _ in range(2))
    options = _options(1, block)
    with torch.cuda.device_of(surfels.position):
        draw_discs[triton.cdiv(n, block), m](
            columns, n, lenses, height, width, limits, bounds, boxed, surface, keys, **options
        )
        pixels = height * width
        read_keys[triton.cdiv(pixels, block), m](
            keys, pixels, columns, lenses, surfel, depth, cosine, **options
        )
    return surfel, depth, cosine


def hits_on_surface(
    new: Discs,
    at_pixel: Int[Tensor, " p"],
    old: Discs,
    camera: Lenses,
    grid: tuple[int, int],
    limits: tuple[float, float, float],
    tolerances: tuple[float, float],
) -> Int[Tensor, "1 h w"]:
    """Twin of `association._hits_on_surface`."""
    surface = (new.position, new.normal, new.radius, at_pixel, *tolerances)
    return discs(old, camera, grid, limits, None, surface)[0]


def weight_by_view(
    sightings: BitRows, weight: Float[Tensor, " n"], views: int
) -> Float[Tensor, " t"]:
    """Twin of `sightings.weight_by_view`. Sums are taken in any order, in float64."""
    total = torch.zeros(views, dtype=torch.float64, device=weight.device)
    columns, rows = _contiguous(*_columns(sightings)), len(sightings.word)
    with torch.cuda.device_of(weight):
        add_votes[(triton.cdiv(rows, BLOCK),)](
            *columns, weight.float().contiguous(), len(weight), total, rows, **_options(4)
        )
    return total.float()


def sighting_counts(sightings: BitRows, surfels: int) -> Int[Tensor, " n"]:
    """Twin of `sightings.sighting_counts`."""
    count = torch.zeros(surfels, dtype=torch.int64, device=sightings.word.device)
    word, _, bits = _contiguous(*_columns(sightings))
    with torch.cuda.device_of(count):
        add_counts[(triton.cdiv(len(word), BLOCK),)](
            word, bits, count, surfels, len(word), **_options(4)
        )
    return count


def pairs(
    sightings: BitRows, bits: Int[Tensor, " r"]
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Twin of `sightings._pairs`. It waits once, to learn how many pairs there are."""
    word, view, bits = _contiguous(sightings.word, sightings.view, bits)
    count = torch.empty_like(word)
    grid, options = (triton.cdiv(len(word), BLOCK),), _options(4)
    if len(word) == 0:
        return bits.new_zeros(0), bits.new_zeros(0)
    with torch.cuda.device_of(bits):
        count_bits[grid](bits, count, len(word), **options)
        ends = count.cumsum(0)
        surfel, seer = torch.empty(2, int(ends[-1]), dtype=torch.int64, device=bits.device)
        list_pairs[grid](word, view, bits, ends, surfel, seer, len(word), **options)
    return surfel, seer


def looks_through(
    points: Float[Tensor, "n 3"],
    camera: Lenses,
    inverse_depth: Float[Tensor, "h w"],
    margin: float,
) -> Bool[Tensor, " n"]:
    """Twin of `view._looks_through`."""
    (height, width), total = inverse_depth.shape, len(points)
    through = torch.zeros(total, dtype=torch.bool, device=points.device)
    columns = _contiguous(points, camera.world_from_cam, camera.K, inverse_depth)
    with torch.cuda.device_of(points):
        look_through[(triton.cdiv(total, BLOCK),)](
            *columns, 1 - margin, height, width, through, total, **_options(1)
        )
    return through


def _columns(sightings: BitRows) -> tuple[Tensor, Tensor, Tensor]:
    return sightings.word, sightings.view, sightings.bits


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)


def _options(warps: int, block: int = BLOCK) -> dict[str, int]:
    return {"BLOCK": block, "num_warps": warps, "enable_fp_fusion": False}


@compiled
def draw_discs(
    surfels, total, lens, height, width, limits, boxes, boxed, surface, keys, BLOCK: tl.constexpr
) -> None:
    """Lowers `keys` [m h w] to the least packed depth and index of the discs that hit a pixel. The
    first `boxed` runs have bounding boxes: low corner, high corner, largest radius."""
    start, camera, lane = tl.program_id(0) * BLOCK, tl.program_id(1), tl.arange(0, BLOCK)
    pose, K, keys = lens[0] + camera * 16, lens[1] + camera * 9, keys + camera * height * width
    if boxes is not None:
        run = start // SURFELS
        if run < boxed:  # noqa: SIM102 - `and` would read boxes that do not exist
            if not in_sight(boxes, run, pose, K, limits):
                return
    discs, left, top, columns, rows = measured(
        surfels, start + lane, start + lane < total, pose, K, height, width, limits
    )
    c, plane, reach, n0, n1, q0, q1, q2, middle0, middle1 = discs
    inverse0 = tl.div_rn(1.0, tl.load(K) * width)
    inverse1 = tl.div_rn(1.0, tl.load(K + 4) * height)
    ends = tl.cumsum(columns * rows, 0)
    before, count = ends - columns * rows, tl.max(ends, 0)
    for first in range(0, count, BLOCK):
        # 1. Deal out the next pixels, one per lane: the k-th pixel of the box of disc `own`.
        at = first + lane
        own = tl.minimum(tl.sum((ends[None, :] <= at[:, None]).to(tl.int32), 1), BLOCK - 1)
        k, across = at - of(before, own), tl.maximum(of(columns, own), 1)
        row, column = of(top, own) + k // across, of(left, own) + k % across
        # 2. Intersect the rays with the discs.
        du = (column.to(tl.float32) - of(middle0, own)) * inverse0
        dv = (row.to(tl.float32) - of(middle1, own)) * inverse1
        nd, cs = of(n0, own) * du + of(n1, own) * dv, of(c, own)
        facing = of(plane, own) + nd
        dx, dy = cs * du - nd * of(q0, own), cs * dv - nd * of(q1, own)
        dz, rim, depth = nd * of(q2, own), of(reach, own) * facing, tl.div_rn(cs, facing)
        inside = (dx * dx + dy * dy + dz * dz <= rim * rim) & (facing > 0) & (depth > limits[1])
        inside &= at < count
        ids, pixel = start + own, row * width + column
        if surface is not None:
            inside = on_surface(surfels, ids, surface, pixel, inside)
        # 3. Write the keys: positive float32 are ordered as their bit patterns are. Most pixels
        # have a smaller key already, and reading it is cheaper than an atomic minimum. The read
        # bypasses the first-level cache, which may hold an old value.
        key = (depth.to(tl.int32, bitcast=True).to(tl.int64) << 32) | ids
        current = tl.load(keys + pixel, inside, EMPTY, cache_modifier=".cg")
        tl.atomic_min(keys + pixel, key, inside & (key < current), sem="relaxed")


@compiled
def measured(surfels, ids, live, pose, K, height, width, limits) -> tuple:
    """The quantities of discs that drawing needs, and the boxes of pixels that they may cover:
    first column and row, and numbers of columns and rows."""
    q0, q1, q2, n0, n1, n2, c = in_camera(surfels, ids, live, pose)
    f0, f1 = tl.load(K) * width, tl.load(K + 4) * height
    c0, c1 = tl.load(K + 2) * width - 0.5, tl.load(K + 5) * height - 0.5
    reach = tl.load(surfels[2] + ids, live, 0.0) * limits[0]
    reach2 = reach * tl.sqrt_rn(tl.maximum(1 - n2 * n2, 0.0))
    nearest, farthest = tl.maximum(q2 - reach2, limits[1]), q2 + reach2
    drawn = (c > 0) & (q2 > 0) & (farthest > limits[1]) & (q2 < limits[2])
    left, columns = span(q0, n0, reach, nearest, farthest, f0, c0, width)
    top, rows = span(q1, n1, reach, nearest, farthest, f1, c1, height)
    middle0, middle1 = tl.div_rn(q0, q2) * f0 + c0, tl.div_rn(q1, q2) * f1 + c1
    disc = (c, tl.div_rn(c, q2), reach, n0, n1, q0, q1, q2, middle0, middle1)
    return disc, left, top, tl.where(drawn, columns, 0), rows


@compiled
def span(q, n, reach, nearest, farthest, focal, centre, size) -> tuple:
    """First pixel and number of pixels that a disc may cover along an axis of `size` pixels."""
    reach = reach * tl.sqrt_rn(tl.maximum(1 - n * n, 0.0))
    low, high = q - reach, q + reach
    low = tl.div_rn(low, tl.where(low < 0, nearest, farthest)) * focal + centre
    high = tl.div_rn(high, tl.where(high > 0, nearest, farthest)) * focal + centre
    # Clamped to the canvas before they become integers; NaN becomes an empty span.
    first = tl.ceil(tl.minimum(tl.maximum(low, 0.0), size.to(tl.float32))).to(tl.int32)
    last = tl.floor(tl.minimum(tl.maximum(high, -1.0), (size - 1).to(tl.float32))).to(tl.int32)
    return first, tl.maximum(last - first + 1, 0)


@compiled
def in_camera(surfels, ids, live, pose) -> tuple:
    """Centres and normals in camera axes, and their dot products; 0 where not `live`."""
    x, y, z, nx, ny, nz = placed(surfels, ids, live)
    x, y, z = x - tl.load(pose + 3), y - tl.load(pose + 7), z - tl.load(pose + 11)
    q0, q1, q2 = along(x, y, z, pose), along(x, y, z, pose + 1), along(x, y, z, pose + 2)
    n0, n1, n2 = along(nx, ny, nz, pose), along(nx, ny, nz, pose + 1), along(nx, ny, nz, pose + 2)
    return q0, q1, q2, n0, n1, n2, n0 * q0 + n1 * q1 + n2 * q2


@compiled
def placed(surfels, ids, live) -> tuple:
    """Position and normal of surfels."""
    p, n = surfels[0] + 3 * ids, surfels[1] + 3 * ids
    x, y, z = tl.load(p, live, 0.0), tl.load(p + 1, live, 0.0), tl.load(p + 2, live, 0.0)
    return x, y, z, tl.load(n, live, 0.0), tl.load(n + 1, live, 0.0), tl.load(n + 2, live, 0.0)


@compiled
def along(x, y, z, axis) -> tl.tensor:
    """World vectors along a camera axis, a column of the pose."""
    return x * tl.load(axis) + y * tl.load(axis + 4) + z * tl.load(axis + 8)


@compiled
def of(values, own) -> tl.tensor:
    """For each lane, the value of the disc that it draws."""
    return tl.gather(values, own, 0)


@compiled
def in_sight(boxes, run, pose, K, limits) -> tl.tensor:
    """Whether the bounding box of a run, boxed again in camera axes, reaches into the frustum."""
    margin = tl.load(boxes[2] + run) * limits[0]
    x, hx = interval(boxes, 3 * run, pose + 3, margin)
    y, hy = interval(boxes, 3 * run + 1, pose + 7, margin)
    z, hz = interval(boxes, 3 * run + 2, pose + 11, margin)
    q2, h2 = along(x, y, z, pose + 2), spread(hx, hy, hz, pose + 2)
    reaches = (q2 + h2 >= limits[1]) & (q2 - h2 <= limits[2])
    for k in tl.static_range(2):
        q, h = along(x, y, z, pose + k), spread(hx, hy, hz, pose + k)
        focal, low = tl.load(K + 4 * k), tl.load(K + 3 * k + 2)
        high = 1 - low
        # The image ends where focal * q + low * q2 = 0 and where -focal * q + high * q2 = 0.
        reaches &= focal * (h + q) + low * q2 + tl.abs(low) * h2 >= 0
        reaches &= focal * (h - q) + high * q2 + tl.abs(high) * h2 >= 0
    return reaches


@compiled
def interval(boxes, at, eye, margin) -> tuple:
    """Middle (relative to the eye) and half the length of a box along a world axis, rounded up."""
    low, high = tl.load(boxes[0] + at) - tl.load(eye), tl.load(boxes[1] + at) - tl.load(eye)
    middle, half = (low + high) * 0.5, (high - low) * 0.5 + margin
    return middle, half + (half + tl.abs(middle)) * SLACK


@compiled
def spread(x, y, z, axis) -> tl.tensor:
    """Half the extent, along a camera axis, of a box with these half lengths."""
    a, b, c = tl.abs(tl.load(axis)), tl.abs(tl.load(axis + 4)), tl.abs(tl.load(axis + 8))
    return x * a + y * b + z * c


@compiled
def on_surface(surfels, ids, surface, pixel, live) -> tl.tensor:
    """Which `live` hits are of discs on the same surface as the new surfel at their pixel."""
    match = tl.load(surface[3] + pixel, live, -1)
    live &= match >= 0
    x, y, z, nx, ny, nz = placed(surfels, ids, live)
    u, v, w, nu, nv, nw = placed(surface, match, live)
    size, other = tl.load(surfels[2] + ids, live, 0.0), tl.load(surface[2] + match, live, 0.0)
    off = tl.abs((u - x) * nx + (v - y) * ny + (w - z) * nz)
    live &= off <= surface[4] * tl.maximum(size, other)
    return live & (nx * nu + ny * nv + nz * nw > surface[5])


@compiled
def read_keys(keys, pixels, surfels, lens, surfel, depth, cosine, BLOCK: tl.constexpr) -> None:
    """Unpacks keys [m pixels] into surfel, depth, and the cosine between the surfel's normal and
    the line of sight to its centre."""
    at, camera = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1)
    live, place = at < pixels, camera * pixels + at
    key = tl.load(keys + place, live, EMPTY)
    hit, ids = key != EMPTY, key & 0xFFFFFFFF
    q0, q1, q2, _, _, _, c = in_camera(surfels, ids, hit, lens[0] + camera * 16)
    distance = tl.maximum(tl.sqrt_rn(q0 * q0 + q1 * q1 + q2 * q2), 1e-12)
    tl.store(surfel + place, tl.where(hit, ids, -1), live)
    bits = tl.where(hit, key >> 32, 0).to(tl.int32)
    tl.store(depth + place, bits.to(tl.float32, bitcast=True), live)
    tl.store(cosine + place, tl.where(hit, tl.div_rn(c, distance), 0.0), live)


@compiled
def add_votes(word, view, bits, weight, known, total, rows, BLOCK: tl.constexpr) -> None:
    """Adds to total[view] the weights of the surfels whose bits are set; `known` have a weight."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < rows
    marked, ids = places(word, bits, at, live, known)
    votes = tl.sum(tl.load(weight + ids, marked, 0.0).to(tl.float64), 1)
    seer = tl.load(view + tl.minimum(at, rows - 1))
    # Rows are ordered by view: most programs have a single view, and add to it once.
    first = tl.min(seer, 0)
    if first == tl.max(seer, 0):
        tl.atomic_add(total + first, tl.sum(votes, 0), sem="relaxed")
    else:
        tl.atomic_add(total + seer, votes, live, sem="relaxed")


@compiled
def count_bits(bits, count, rows, BLOCK: tl.constexpr) -> None:
    """Writes how many bits of each row are set."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < rows
    marked = (tl.load(bits + at, live, 0)[:, None] >> tl.arange(0, BITS)[None, :]) & 1
    tl.store(count + at, tl.sum(marked, 1).to(tl.int32), live)


@compiled
def list_pairs(word, view, bits, ends, surfel, seer, rows, BLOCK: tl.constexpr) -> None:
    """Writes (surfel, view) of every bit that is set, row by row; row r's are the last before
    ends[r]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live, place = at < rows, tl.arange(0, BITS)
    marked = (tl.load(bits + at, live, 0)[:, None] >> place[None, :]) & 1
    ids = tl.load(word + at, live, 0)[:, None].to(tl.int64) * BITS + place[None, :]
    start = tl.load(ends + at, live, 0) - tl.sum(marked, 1)
    to = start[:, None] + tl.cumsum(marked, 1) - 1
    views = tl.load(view + at, live, 0)[:, None].to(tl.int64) + tl.zeros_like(ids)
    tl.store(surfel + to, ids, marked != 0)
    tl.store(seer + to, views, marked != 0)


@compiled
def look_through(
    points, pose, K, nearest, share, height, width, through, total, BLOCK: tl.constexpr
) -> None:
    """Flags the points through which a view with inverse depths `nearest` [h w] sees."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live, p = at < total, points + 3 * at
    x, y, z = tl.load(p, live, 0.0), tl.load(p + 1, live, 0.0), tl.load(p + 2, live, 0.0)
    x, y, z = x - tl.load(pose + 3), y - tl.load(pose + 7), z - tl.load(pose + 11)
    q0, q1, q2 = along(x, y, z, pose), along(x, y, z, pose + 1), along(x, y, z, pose + 2)
    u = tl.div_rn(q0, q2) * tl.load(K) + tl.load(K + 2)
    v = tl.div_rn(q1, q2) * tl.load(K + 4) + tl.load(K + 5)
    inside = live & (q2 > 0) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    row = tl.where(inside, v * height, 0.0).to(tl.int32)
    column = tl.where(inside, u * width, 0.0).to(tl.int32)
    behind = tl.load(nearest + row * width + column, inside, 0.0) * q2 < share
    tl.store(through + at, inside & behind, live)


@compiled
def add_counts(word, bits, count, known, rows, BLOCK: tl.constexpr) -> None:
    """Adds one to count[surfel] for every bit that is set, for the first `known` surfels."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    marked, ids = places(word, bits, at, at < rows, known)
    tl.atomic_add(count + ids, marked.to(tl.int64), marked, sem="relaxed")


@compiled
def places(word, bits, at, live, known) -> tuple:
    """Per row: which of its 64 surfels were seen, among the first `known`, and their indices."""
    place = tl.arange(0, BITS)
    ids = tl.load(word + at, live, 0)[:, None] * BITS + place[None, :]
    marked = ((tl.load(bits + at, live, 0)[:, None] >> place[None, :]) & 1) != 0
    return marked & (ids < known), ids
