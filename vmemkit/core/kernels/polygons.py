"""The CPU kernels of the released renderer's shapes: 16-gons of one depth each, in float64.

Like those of pixels.py, they repeat torch code, write into given arrays and do not check bounds.
The formulas are those of splatting._polygon_hits.
"""

from __future__ import annotations

import math

import numpy as np

from vmemkit.core.kernels.compiling import compiled, inlined
from vmemkit.core.kernels.pixels import F32, I32, I64, NOTHING
from vmemkit.core.kernels.sizes import CORNERS, MARGIN, RING

F64 = np.float64
COSINE, SINE = np.array(RING)
NONE, ONE, HALF, INFINITY = F64(0), F64(1), F64(0.5), F64(np.inf)


@compiled
def draw_polygons(surfels, camera, limits, size, cosine, rows, keys) -> None:
    """Writes the keys [h w + LANES] of the surfels from rows[0] to rows[1], and the cosines of those
    that may show to `cosine` [n]. A camera is pose and intrinsics, `size` is (h, w)."""
    (position, normal, radius), (pose, K), (h, w) = surfels, camera, size
    scale, nearest, farthest = limits[0], limits[1], limits[2]
    focal = F64(K[0, 0]) * w, F64(K[1, 1]) * h
    middle = F64(K[0, 2]) * w, F64(K[1, 2]) * h
    corners, crossings = np.empty((2, CORNERS)), np.empty(CORNERS)
    number = np.empty(1, F32)
    bits = number.view(I32)
    keys[:] = NOTHING
    for i in range(rows[0], rows[1]):
        nx, ny, nz = F64(normal[i, 0]), F64(normal[i, 1]), F64(normal[i, 2])
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx / length, ny / length, nz / length
        x, y = F64(position[i, 0]) - F64(pose[0, 3]), F64(position[i, 1]) - F64(pose[1, 3])
        z = F64(position[i, 2]) - F64(pose[2, 3])
        facing = (x * nx + y * ny + z * nz) / math.sqrt(x * x + y * y + z * z)
        q = in_camera(x, y, z, pose)
        u, v = q[0] / q[2] * focal[0] + middle[0] - HALF, q[1] / q[2] * focal[1] + middle[1] - HALF
        drawn = (q[2] > nearest) & (q[2] < farthest) & (length >= 1e-12) & (facing >= NONE)
        drawn &= (u >= -MARGIN) & (u < w + MARGIN) & (v >= -MARGIN) & (v < h + MARGIN)
        if not drawn:
            continue
        r = F64(radius[i]) * scale
        e, f = axes(nx, ny, nz, r, pose)
        count, depth = lay_out_corners(q, e, f, focal, middle, corners)
        if count < 3:
            continue
        cosine[i], number[0] = facing, depth
        fill(corners[:, :count], (I64(bits[0]) << 32) | I64(i), keys, w, crossings)


@inlined
def in_camera(x, y, z, pose) -> tuple[float, float, float]:
    """A world vector in camera axes."""
    return (
        x * F64(pose[0, 0]) + y * F64(pose[1, 0]) + z * F64(pose[2, 0]),
        x * F64(pose[0, 1]) + y * F64(pose[1, 1]) + z * F64(pose[2, 1]),
        x * F64(pose[0, 2]) + y * F64(pose[1, 2]) + z * F64(pose[2, 2]),
    )


@inlined
def axes(nx, ny, nz, r, pose) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Two axes of a disc in camera axes, as long as its radius r; as splatting._polygon_corners."""
    steep = abs(nz) > F64(0.9)
    ax, ay, az = (-nz, NONE, nx) if steep else (ny, -nx, NONE)
    length = math.sqrt(ax * ax + ay * ay + az * az)
    ax, ay, az = ax / length, ay / length, az / length
    e = in_camera(ax, ay, az, pose)
    f = in_camera(ny * az - nz * ay, nz * ax - nx * az, nx * ay - ny * ax, pose)
    return (e[0] * r, e[1] * r, e[2] * r), (f[0] * r, f[1] * r, f[2] * r)


@inlined
def lay_out_corners(q, e, f, focal, middle, corners) -> tuple[int, float]:
    """Writes the pixels [2 CORNERS] of the corners in front of the camera; their number and mean
    depth are returned."""
    count, depth = 0, NONE
    for k in range(CORNERS):
        z = q[2] + (COSINE[k] * e[2] + SINE[k] * f[2])
        if z > NONE:
            x, y = (
                q[0] + (COSINE[k] * e[0] + SINE[k] * f[0]),
                q[1] + (COSINE[k] * e[1] + SINE[k] * f[1]),
            )
            corners[0, count] = x / z * focal[0] + middle[0] - HALF
            corners[1, count] = y / z * focal[1] + middle[1] - HALF
            depth += z
            count += 1
    return count, depth / F64(count)


@inlined
def fill(corners, key, keys, w, crossings) -> None:
    """Lowers to `key` the keys of the pixels in a polygon, by the even-odd rule."""
    h, count = keys.shape[0], corners.shape[1]
    left, top, right, bottom = INFINITY, INFINITY, -INFINITY, -INFINITY
    for k in range(count):
        x, y = corners[0, k], corners[1, k]
        if not (x == x and y == y):
            return
        left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    first, last = pixels_between(left, right, w)
    begin, end = pixels_between(top, bottom, h)
    for row in range(begin, end + 1):
        y, edges = F64(row), 0
        xj, yj = corners[0, count - 1], corners[1, count - 1]
        for k in range(count):
            xi, yi = corners[0, k], corners[1, k]
            if (yi > y) != (yj > y):
                crossings[edges] = (xj - xi) * (y - yi) / (yj - yi + F64(1e-15)) + xi
                edges += 1
            xj, yj = xi, yi
        for column in range(first, last + 1):
            inside = False
            for k in range(edges):
                inside ^= F64(column) < crossings[k]
            if inside and key < keys[row, column]:
                keys[row, column] = key


@inlined
def pixels_between(low, high, size) -> tuple[int, int]:
    """First and last of `size` pixels from `low` to `high`."""
    first = math.ceil(min(max(low, NONE), F64(size)))
    return I64(first), I64(math.floor(max(min(high, F64(size - 1)), -ONE)))
