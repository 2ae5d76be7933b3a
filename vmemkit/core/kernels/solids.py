"""The CPU kernels over boxes: where rays meet them, and how far points are from them.

Like those of pixels.py, the kernels repeat torch code (of scenes/house) and write into given arrays.
They work on WIDE neighbours at once and skip the boxes that none of these can reach.
"""

from __future__ import annotations

import numpy as np

from vmemkit.core.kernels.compiling import compiled, inlined
from vmemkit.core.kernels.pixels import F32, I32, INFINITY, ONE, ZERO

WIDE = 64  # rays or points: enough for vectors, few enough to be close together


@compiled
def meet_boxes(cells, boxes, cubes, origin, step, slack, out, rows) -> None:
    """Where rays rows[0] to rows[1] leave the cells or enter a box, as ray_casting._meet_boxes.

    Solids are pairs low, high [b 3]. `out` is distance, block, normal [n 3], and whether the ray
    meets a cube. Boxes and cubes farther than `slack` from the rays' ways are skipped.
    """
    distance, block, normal, meets = out
    o, d, inverse = np.empty((3, WIDE), F32), np.empty((3, WIDE), F32), np.empty((3, WIDE), F32)
    nearest, owner, cube = np.empty(WIDE, F32), np.empty(WIDE, I32), np.empty(WIDE, np.uint8)
    bounds = np.empty((2, len(cells[0]), WIDE), F32)
    low, high = np.empty(3, F32), np.empty(3, F32)
    for start in range(rows[0], rows[1], WIDE):
        n = min(WIDE, rows[1] - start)
        for i in range(n):
            for k in range(3):
                o[k, i], d[k, i] = origin[start + i, k], step[start + i, k]
                inverse[k, i] = ONE / d[k, i]
            cube[i] = 0
        leave_cells(cells, o, inverse, n, bounds, nearest, owner)
        for k in range(3):
            low[k], high[k] = INFINITY, -INFINITY
            for i in range(n):
                end = o[k, i] + nearest[i] * d[k, i]
                low[k] = min(low[k], min(o[k, i], end) - slack)
                high[k] = max(high[k], max(o[k, i], end) + slack)
        for b in range(len(boxes[0])):
            if overlap(boxes, b, low, high):
                number = I32(len(cells[0]) + b)
                for i in range(n):
                    enter, leave = slab(boxes, b, o, inverse, i)
                    first = (enter < leave) & (enter > ZERO) & (enter < nearest[i])
                    nearest[i] = enter if first else nearest[i]
                    owner[i] = number if first else owner[i]
        for b in range(len(cubes[0])):
            if overlap(cubes, b, low, high):
                for i in range(n):
                    enter, leave = slab(cubes, b, o, inverse, i)
                    cube[i] |= (enter < leave) & (leave > ZERO) & (enter < nearest[i])
        for i in range(n):
            at, c = start + i, owner[i]
            distance[at], block[at], meets[at] = nearest[i], c, cube[i] != 0
            if c < len(cells[0]):
                face_forward(cells, c, True, o, d, nearest[i], i, normal[at])
            else:
                face_forward(boxes, c - len(cells[0]), False, o, d, nearest[i], i, normal[at])


@inlined
def face_forward(solids, b, inside, o, d, distance, i, normal) -> None:
    """Writes the normal of the face that a ray meets from inside or outside, as ray_casting._normal."""
    axis, least = 0, INFINITY
    for k in range(3):
        face = solids[1][b, k] if (d[k, i] > ZERO) == inside else solids[0][b, k]
        off = abs(face - (o[k, i] + distance * d[k, i]))
        normal[k] = ZERO
        if off < least:
            axis, least = k, off
    normal[axis] = -ONE if d[axis, i] > ZERO else ONE


@inlined
def leave_cells(cells, o, inverse, n, bounds, distance, cell) -> None:
    """Where n rays leave the union of the cells, as ray_casting._leave_cells."""
    further = np.empty(WIDE, F32)
    for c in range(len(cells[0])):
        for i in range(n):
            bounds[0, c, i], bounds[1, c, i] = slab(cells, c, o, inverse, i)
    for i in range(n):
        distance[i], cell[i] = ZERO, I32(0)
    for _ in range(len(cells[0])):
        for i in range(n):
            further[i] = distance[i]
        for c in range(len(cells[0])):
            number = I32(c)
            for i in range(n):
                enter, leave = bounds[0, c, i], bounds[1, c, i]
                reached = (enter < leave) & (enter <= distance[i]) & (leave > further[i])
                further[i] = leave if reached else further[i]
                cell[i] = number if reached else cell[i]
        moved = False
        for i in range(n):
            moved |= further[i] > distance[i]
            distance[i] = further[i]
        if not moved:
            break


@inlined
def slab(solids, b, o, inverse, i) -> tuple[float, float]:
    """Where a ray enters and leaves a box, as ray_casting._slab."""
    low, high = solids
    p, q = (low[b, 0] - o[0, i]) * inverse[0, i], (high[b, 0] - o[0, i]) * inverse[0, i]
    enter, leave = min(p, q), max(p, q)
    p, q = (low[b, 1] - o[1, i]) * inverse[1, i], (high[b, 1] - o[1, i]) * inverse[1, i]
    enter, leave = max(enter, min(p, q)), min(leave, max(p, q))
    p, q = (low[b, 2] - o[2, i]) * inverse[2, i], (high[b, 2] - o[2, i]) * inverse[2, i]
    return max(enter, min(p, q)), min(leave, max(p, q))


@inlined
def overlap(solids, b, low, high) -> bool:
    """Whether a box reaches into the region from low to high."""
    x = (solids[0][b, 0] <= high[0]) & (solids[1][b, 0] >= low[0])
    y = (solids[0][b, 1] <= high[1]) & (solids[1][b, 1] >= low[1])
    return x & y & (solids[0][b, 2] <= high[2]) & (solids[1][b, 2] >= low[2])


@compiled
def clearances(cells, boxes, cubes, point, reach, out, rows) -> None:
    """How far points rows[0] to rows[1] are from walls and boxes, as ray_casting._clearances.

    `out` is the depth in the cells, the squared distance from the boxes, and whether a point is in a
    cube. Boxes farther than `reach` from all neighbours are skipped.
    """
    p, depth = np.empty((3, WIDE), F32), np.empty(WIDE, F32)
    squared, cube = np.empty(WIDE, F32), np.empty(WIDE, np.uint8)
    low, high = np.empty(3, F32), np.empty(3, F32)
    for start in range(rows[0], rows[1], WIDE):
        n = min(WIDE, rows[1] - start)
        for k in range(3):
            low[k], high[k] = INFINITY, -INFINITY
            for i in range(n):
                p[k, i] = point[start + i, k]
                low[k], high[k] = min(low[k], p[k, i] - reach), max(high[k], p[k, i] + reach)
        for i in range(n):
            depth[i], squared[i], cube[i] = -INFINITY, INFINITY, 0
        for b in range(len(cells[0])):
            for i in range(n):
                depth[i] = max(depth[i], depth_in(cells, b, p, i))
        for b in range(len(boxes[0])):
            if overlap(boxes, b, low, high):
                for i in range(n):
                    x, y, z = gap(boxes, b, 0, p, i), gap(boxes, b, 1, p, i), gap(boxes, b, 2, p, i)
                    squared[i] = min(squared[i], x * x + y * y + z * z)
        for b in range(len(cubes[0])):
            if overlap(cubes, b, low, high):
                for i in range(n):
                    cube[i] |= depth_in(cubes, b, p, i) >= ZERO
        for i in range(n):
            out[0][start + i], out[1][start + i] = depth[i], squared[i]
            out[2][start + i] = cube[i] != 0


@inlined
def depth_in(solids, b, p, i) -> float:
    """Distance of a point from the nearest side of a box, negative outside."""
    low, high = solids
    x = min(p[0, i] - low[b, 0], high[b, 0] - p[0, i])
    y = min(p[1, i] - low[b, 1], high[b, 1] - p[1, i])
    return min(min(x, y), min(p[2, i] - low[b, 2], high[b, 2] - p[2, i]))


@inlined
def gap(solids, b, k, p, i) -> float:
    """Distance of a point from a box along one axis, 0 inside."""
    return max(max(solids[0][b, k] - p[k, i], p[k, i] - solids[1][b, k]), ZERO)


@compiled
def to_lights(cells, lights, point, normal, along, squared, rows) -> None:
    """How far the lights of the nearest cell are from points rows[0] to rows[1], as
    ray_casting._to_lights."""
    p, outside = np.empty((3, WIDE), F32), np.empty(WIDE, F32)
    cell = np.empty(WIDE, I32)
    for start in range(rows[0], rows[1], WIDE):
        n = min(WIDE, rows[1] - start)
        for i in range(n):
            for k in range(3):
                p[k, i] = point[start + i, k]
            outside[i], cell[i] = INFINITY, I32(0)
        for b in range(len(cells[0])):
            number = I32(b)
            for i in range(n):
                beyond = -depth_in(cells, b, p, i)
                cell[i] = number if beyond < outside[i] else cell[i]
                outside[i] = min(beyond, outside[i])
        for kind in range(lights.shape[0]):
            for i in range(n):
                at, light = start + i, lights[kind, cell[i]]
                x, y, z = light[0] - p[0, i], light[1] - p[1, i], light[2] - p[2, i]
                along[kind, at] = normal[at, 0] * x + normal[at, 1] * y + normal[at, 2] * z
                squared[kind, at] = x * x + y * y + z * z


@compiled
def on_faces(blocks, block, normal, point, direction, per_pixel, view, cells, out, rows) -> None:
    """Points rows[0] to rows[1] in coordinates of their faces, as ray_casting._on_faces."""
    (low, high), (uv, extent, moved, finish) = blocks, out
    least = F32(-1e-3)
    for i in range(rows[0], rows[1]):
        b, n0, n1, n2 = block[i], normal[i, 0], normal[i, 1], normal[i, 2]
        axis = 0 if abs(n0) >= abs(n1) else 1
        axis = axis if abs(normal[i, axis]) >= abs(n2) else 2
        u, v = 2 if axis == 0 else 0, 2 if axis == 1 else 1
        uv[i, 0] = point[i, u] - low[b, u]
        uv[i, 1] = point[i, 2] - low[b, 2] if v == 2 else high[b, 1] - point[i, 1]
        extent[i, 0], extent[i, 1] = high[b, u] - low[b, u], high[b, v] - low[b, v]
        d, change = direction[i], per_pixel[view[i]]
        towards = min(n0 * d[0] + n1 * d[1] + n2 * d[2], least)
        for k in range(2):
            slide = (n0 * change[0, k] + n1 * change[1, k] + n2 * change[2, k]) / towards
            moved[i, 0, k] = change[u, k] - d[u] * slide
            moved[i, 1, k] = change[v, k] - d[v] * slide
        finish[i] = b
        if axis == 1 and b < cells:
            finish[i] = b + len(low) + (0 if n1 < ZERO else cells)
