"""The CPU kernels over pixels, compiled by numba on first use; tables.py has those over table rows.

Each repeats the torch code of its stage in the same order of float32 operations: results are equal
to the bit (numba neither reorders nor fuses operations by default). They take numpy arrays,
write into arrays that the caller made (cpu.py), and release Python's lock.
The heavy loops have no branches and use arrays that are made inside the kernel. The compiler then
knows that no other pointer reaches them, and vectorises the loops.
"""

from __future__ import annotations

import math

import numpy as np

from vmemkit.core.kernels.compiling import compiled, inlined
from vmemkit.core.kernels.lanes import lower
from vmemkit.core.kernels.sizes import PATCH, ROUNDING, RUN

F32, I32, I64, UNSIGNED = np.float32, np.int32, np.int64, np.uint64
SLACK = F32(ROUNDING)
ZERO, HALF, ONE, TWO, INFINITY = F32(0), F32(0.5), F32(1), F32(2), F32(np.inf)
TILE, SPAN = 16, 128  # rows and columns of a tile: normals are computed tile by tile
LANES = 8  # pixels that are drawn at once; buffers have this many spare columns for the last ones
SIDE = LANES  # pixels; a disc whose box has at most this many rows and columns is drawn in one loop

# Column and row of each pixel of such a box, which is drawn SIDE / 2 or SIDE pixels wide.
COLUMNS = np.float32([np.arange(SIDE * SIDE) % width for width in (SIDE // 2, SIDE)])
LINES = np.float32([np.arange(SIDE * SIDE) // width for width in (SIDE // 2, SIDE)])
lower_four, lower_eight = lower(SIDE // 2), lower(SIDE)

# A pixel's key packs depth (upper half) and surfel (lower half): the least key is the nearest
# surfel, and of equally near ones the oldest.
LOWER = np.int64(0xFFFFFFFF)
NOTHING = np.int64(np.float32(np.inf).view(np.int32)) << np.int64(32)


@compiled
def draw_discs(surfels, runs, camera, limits, height, rows, buffers, out) -> None:
    """Draws the discs of `runs` into rows[0] to rows[1] of a canvas of `height` rows.

    Writes surfel, bits of its depth and cosine of the nearest disc per pixel to `out` [rows w]; -1,
    0 and 0 where there is none. `buffers` are overwritten: keys [rows w + LANES] and the cosines of
    all surfels. The formulas are those of splatting._disc_hits.
    """
    (position, normal, radius), (keys, cosine) = surfels, buffers
    padded, flat = keys.shape[1], keys.reshape(-1)
    lens = lens_of(camera, height, padded - LANES)
    inverse0, inverse1, near = ONE / lens[0], ONE / lens[1], limits[1]
    disc, box = np.empty((11, RUN), F32), np.empty((4, RUN), I32)
    met = np.empty(max(padded, SIDE * SIDE), F32)
    keys[:] = NOTHING
    for k in range(runs.shape[0]):
        start = runs[k] * RUN
        stop = min(start + RUN, position.shape[0])
        p, n, r = position[start:stop], normal[start:stop], radius[start:stop]
        measure_discs(p, n, r, camera, lens, limits, padded - LANES, rows, disc, box)
        for i in range(stop - start):
            cosine[start + i] = disc[10, i]
            first, last, top, bottom = box[0, i], box[1, i], box[2, i], box[3, i]
            if last < first:
                continue
            c, plane, r = disc[0, i], disc[1, i], disc[2, i]
            n0, n1 = disc[3, i], disc[4, i]
            q0, q1, q2 = disc[5, i], disc[6, i], disc[7, i]
            middle0, middle1 = disc[8, i], disc[9, i]
            begin, edge, at = F32(first), F32(last), I64((top - rows[0]) * padded + first)
            if max(last - first, bottom - top) < SIDE:  # a small box: all its pixels in one loop
                wide = 0 if last - first < SIDE // 2 else 1
                count, stride = bottom - top + 1, SIDE if wide else SIDE // 2
                column, line, under = COLUMNS[wide], LINES[wide], F32(top)
                for j in range(lanes(count * stride)):
                    place = begin + column[j]
                    du = (place - middle0) * inverse0
                    dv = (under + line[j] - middle1) * inverse1
                    inside, d = ray_meets(du, n0, n1 * dv, c, c * dv, plane, q0, q1, q2, r)
                    met[j] = d if inside & (d > near) & (place <= edge) else INFINITY
                bits = met.view(I32)  # positive float32 are ordered as their bit patterns are
                for j in range(count):
                    if wide:
                        lower_eight(flat, at + j * padded, bits, j * SIDE, start + i)
                    else:
                        lower_four(flat, at + j * padded, bits, j * (SIDE // 2), start + i)
                continue
            width = lanes(last - first + 1)
            for row in range(top, bottom + 1):
                dv = (F32(row) - middle1) * inverse1
                n1dv, cdv = n1 * dv, c * dv
                for j in range(width):
                    place = begin + F32(I32(j))
                    du = (place - middle0) * inverse0
                    inside, d = ray_meets(du, n0, n1dv, c, cdv, plane, q0, q1, q2, r)
                    met[j] = d if inside & (d > near) & (place <= edge) else INFINITY
                keep_nearest(met, start + i, flat, at + (row - top) * padded, width)
    read_keys(keys, cosine, out)


@inlined
def read_keys(keys, cosines, out) -> None:
    """Surfel, bits of depth and cosine of the keys [h w + LANES], into `out` [h w]."""
    surfel, bits, cosine = out
    for row in range(surfel.shape[0]):
        key_row, surfel_row, depth_row, cosine_row = keys[row], surfel[row], bits[row], cosine[row]
        for column in range(UNSIGNED(surfel.shape[1])):
            drawn, index = key_row[column] < NOTHING, UNSIGNED(key_row[column] & LOWER)
            surfel_row[column] = I64(index) if drawn else I64(-1)
            depth_row[column] = I32(key_row[column] >> 32) if drawn else I32(0)
            # Where nothing was drawn, index is 0: reading that cosine is cheaper than a branch.
            cosine_row[column] = cosines[index] if drawn else ZERO


@compiled
def read_canvases(keys, cosines, out) -> None:
    """Merges the keys [b h w + LANES] of several threads, and reads them as `read_keys`."""
    for b in range(1, keys.shape[0]):
        for row in range(keys.shape[1]):
            for column in range(keys.shape[2]):
                keys[0, row, column] = min(keys[0, row, column], keys[b, row, column])
    read_keys(keys[0], cosines, out)


@compiled
def hit_surfaces(surfels, runs, camera, limits, new, settled) -> None:
    """Sets the flags settled[row, column] where a disc of `runs` hits the pixel, on the same surface
    as the new surfel there. `new` [h w 7] are the position, normal and radius of these. Pixels whose
    flag is set are not looked at again. The formulas are those of association.by_projection.
    """
    (position, normal, radius), (h, w) = surfels, settled.shape
    near, distance, like = limits[1], limits[3], limits[4]
    lens = lens_of(camera, h, w)
    inverse0, inverse1 = ONE / lens[0], ONE / lens[1]
    disc, box = np.empty((11, RUN), F32), np.empty((4, RUN), I32)
    for k in range(runs.shape[0]):
        start = runs[k] * RUN
        stop = min(start + RUN, position.shape[0])
        p, n, r = position[start:stop], normal[start:stop], radius[start:stop]
        measure_discs(p, n, r, camera, lens, limits, w, (0, h), disc, box)
        for i in range(stop - start):
            first, last, top, bottom = box[0, i], box[1, i], box[2, i], box[3, i]
            x, y, z, nx, ny, nz, size = p[i, 0], p[i, 1], p[i, 2], n[i, 0], n[i, 1], n[i, 2], r[i]
            old, middle0, middle1 = (x, y, z, nx, ny, nz, size), disc[8, i], disc[9, i]
            c, plane, reach, n0, n1 = disc[0, i], disc[1, i], disc[2, i], disc[3, i], disc[4, i]
            q0, q1, q2 = disc[5, i], disc[6, i], disc[7, i]
            for row in range(top, bottom + 1):
                dv = (F32(row) - middle1) * inverse1
                n1dv, cdv = n1 * dv, c * dv
                for column in range(first, last + 1):
                    if settled[row, column]:
                        continue
                    du = (F32(column) - middle0) * inverse0
                    if on_surface(old, new[row, column], distance, like):
                        inside, d = ray_meets(du, n0, n1dv, c, cdv, plane, q0, q1, q2, reach)
                        if inside & (d > near):  # never False: another thread may have set it
                            settled[row, column] = True


@inlined
def lanes(pixels) -> int:
    """The number of pixels, rounded up to whole vectors."""
    # Unsigned, here and in indices: a signed index could count from the end of an array, and the
    # compiler would have to check that at every pixel.
    return UNSIGNED(pixels + LANES - 1) // UNSIGNED(LANES) * UNSIGNED(LANES)


@inlined
def keep_nearest(met, surfel, keys, at, width) -> None:
    """Writes `surfel` to keys[at : at + width] where its depth `met` is less than that of the key,
    or where the depths are equal and the surfel is older."""
    bits = met.view(I32)
    for j in range(0, I64(width), LANES):
        lower_eight(keys, at + j, bits, j, surfel)


@inlined
def ray_meets(du, n0, n1dv, c, cdv, plane, q0, q1, q2, reach) -> tuple[bool, float]:
    """Whether the ray at offset (du, dv) from a disc's centre meets the disc, and at what depth.
    The products n1 dv and c dv are the same for a whole row."""
    nd = n0 * du + n1dv
    facing = plane + nd
    dx, dy, dz = c * du - nd * q0, cdv - nd * q1, nd * q2
    rim = reach * facing
    return (dx * dx + dy * dy + dz * dz <= rim * rim) & (facing > ZERO), c / facing


@inlined
def on_surface(at, new, distance, like) -> bool:
    """Whether a new surfel lies on the surface of an old one. Each is seven numbers: centre, normal,
    radius."""
    off = (new[0] - at[0]) * at[3] + (new[1] - at[1]) * at[4] + (new[2] - at[2]) * at[5]
    alike = at[3] * new[3] + at[4] * new[4] + at[5] * new[5] > like
    return (abs(off) <= distance * max(at[6], new[6])) & alike


@compiled
def lay_out(position, normal, radius, pixel, at_pixel, settled) -> None:
    """Writes surfels into the rows of at_pixel [p 7] that are their pixels, and clears the flags of
    these."""
    for i in range(pixel.shape[0]):
        row = at_pixel[pixel[i]]
        for k in range(3):
            row[k], row[3 + k] = position[i, k], normal[i, k]
        row[6] = radius[i]
        settled[pixel[i]] = False


@inlined
def lens_of(camera, h, w) -> tuple[float, float, float, float]:
    """Focal lengths and centre in pixels, as splatting.pose_and_lens; a camera is pose and intrinsics."""
    K = camera[1]
    return K[0, 0] * F32(w), K[1, 1] * F32(h), K[0, 2] * F32(w) - HALF, K[1, 2] * F32(h) - HALF


@inlined
def measure_discs(position, normal, radius, camera, lens, limits, w, rows, disc, box) -> None:
    """Writes the quantities that drawing needs to `disc` [11 n], and the first and last column and
    row of each disc to `box` [4 n], within columns 0 to w and rows[0] to rows[1]. The last column
    comes before the first where a disc shows nowhere."""
    pose, (f0, f1, c0, c1) = camera[0], lens
    r00, r10, r20, e0 = pose[0, 0], pose[1, 0], pose[2, 0], pose[0, 3]
    r01, r11, r21, e1 = pose[0, 1], pose[1, 1], pose[2, 1], pose[1, 3]
    r02, r12, r22, e2 = pose[0, 2], pose[1, 2], pose[2, 2], pose[2, 3]
    scale, near, far = limits[0], limits[1], limits[2]
    for i in range(position.shape[0]):
        for k in range(3):
            disc[k, i], disc[3 + k, i] = position[i, k], normal[i, k]
        disc[6, i] = radius[i]
    for i in range(position.shape[0]):
        x, y, z = disc[0, i] - e0, disc[1, i] - e1, disc[2, i] - e2
        q0, q1 = x * r00 + y * r10 + z * r20, x * r01 + y * r11 + z * r21
        q2 = x * r02 + y * r12 + z * r22
        x, y, z = disc[3, i], disc[4, i], disc[5, i]
        n0, n1 = x * r00 + y * r10 + z * r20, x * r01 + y * r11 + z * r21
        n2 = x * r02 + y * r12 + z * r22
        c = n0 * q0 + n1 * q1 + n2 * q2
        r = disc[6, i] * scale
        reach0 = r * math.sqrt(max(ONE - n0 * n0, ZERO))
        reach1 = r * math.sqrt(max(ONE - n1 * n1, ZERO))
        reach2 = r * math.sqrt(max(ONE - n2 * n2, ZERO))
        nearest, farthest = max(q2 - reach2, near), q2 + reach2
        drawn = (c > ZERO) & (q2 > ZERO) & (farthest > near) & (q2 < far)
        low, high = q0 - reach0, q0 + reach0
        low = low / (nearest if low < ZERO else farthest) * f0 + c0
        high = high / (nearest if high > ZERO else farthest) * f0 + c0
        box[0, i] = I32(math.ceil(min(max(low, ZERO), F32(w))))
        last0 = I32(math.floor(max(min(high, F32(w - 1)), -ONE)))
        low, high = q1 - reach1, q1 + reach1
        low = low / (nearest if low < ZERO else farthest) * f1 + c1
        high = high / (nearest if high > ZERO else farthest) * f1 + c1
        top = I32(math.ceil(min(max(low, F32(rows[0])), F32(rows[1]))))
        bottom = I32(math.floor(max(min(high, F32(rows[1] - 1)), -ONE)))
        box[1, i] = last0 if drawn & (bottom >= top) else I32(-1)
        box[2, i], box[3, i] = top, bottom
        disc[0, i], disc[1, i], disc[2, i] = c, c / q2, r
        disc[3, i], disc[4, i] = n0, n1
        disc[5, i], disc[6, i], disc[7, i] = q0, q1, q2
        distance = math.sqrt(q0 * q0 + q1 * q1 + q2 * q2)
        disc[10, i] = c / max(distance, F32(1e-12))
        disc[8, i], disc[9, i] = q0 / q2 * f0 + c0, q1 / q2 * f1 + c1


@compiled
def showing(low, high, radius, pose, K, part, limits, inside) -> None:
    """Clears the flags of boxes that do not reach into a part of each camera's frustum. `part` is
    left, top, right and bottom in an image from 0 to 1. The formulas are those of boxes._in_sight."""
    offsets = (ZERO, ZERO, ZERO, ZERO, -limits[1], limits[2])
    planes = np.empty((6, 3), F32)
    for m in range(K.shape[0]):
        for k in range(3):  # as boxes.frusta
            ahead = pose[m, k, 2]
            for side in range(2):
                start = K[m, side, side] * pose[m, k, side] + K[m, side, 2] * ahead
                planes[side, k] = start - part[side] * ahead
                planes[2 + side, k] = part[2 + side] * ahead - start
            planes[4, k], planes[5, k] = ahead, -ahead
        for i in range(low.shape[0]):
            for border in range(6):
                side = offsets[border]
                for k in range(3):
                    plane = planes[border, k]
                    middle = (low[i, k] + high[i, k]) * HALF - pose[m, k, 3]
                    half = (high[i, k] - low[i, k]) * HALF + limits[0] * radius[i]
                    half += (half + abs(middle)) * SLACK
                    side += middle * plane + half * abs(plane)
                if not side >= ZERO:
                    inside[m, i] = False
                    break


@compiled
def bounds(position, runs, first, low, high) -> None:
    """Writes the bounds of the positions of each run, from number `first` on."""
    for k in range(runs.shape[0]):
        low[k], high[k] = INFINITY, -INFINITY
        for i in range(max(runs[k] * RUN, first), min(runs[k] * RUN + RUN, position.shape[0])):
            for axis in range(3):
                low[k, axis] = min(low[k, axis], position[i, axis])
                high[k, axis] = max(high[k, axis], position[i, axis])


@compiled
def lay_out_runs(position, normal, radius, runs, first, columns) -> None:
    """Writes position, normal and radius of the surfels of each run to columns [r 7 RUN]. Surfel
    `first` stands for those before it, and the last one for those that a run has not."""
    for k in range(runs.shape[0]):
        for i in range(RUN):
            at = min(max(runs[k] * RUN + i, first), position.shape[0] - 1)
            for axis in range(3):
                columns[k, axis, i], columns[k, 3 + axis, i] = position[at, axis], normal[at, axis]
            columns[k, 6, i] = radius[at]


@inlined
def nearest_and_farthest(low, high, pose, K, far, size) -> tuple[float, float, float]:
    """Of the box from low to high: its least depth in a camera, the greatest depth that the camera's
    view has where the box may show (`far` [i j] is that of its patches), and how far its points are
    from the camera at most, in sum over the axes.

    The greatest depth is 0 where the box is out of sight, and infinite where it reaches behind the
    camera.
    """
    h, w = size
    reach, middle0, middle1, middle2 = ZERO, ZERO, ZERO, ZERO
    half0, half1, half2 = ZERO, ZERO, ZERO
    for k in range(3):
        middle, half = (low[k] + high[k]) * HALF - pose[k, 3], (high[k] - low[k]) * HALF
        half += (half + abs(middle) + abs(pose[k, 3])) * SLACK
        middle0 += middle * pose[k, 0]
        middle1 += middle * pose[k, 1]
        middle2 += middle * pose[k, 2]
        half0 += half * abs(pose[k, 0])
        half1 += half * abs(pose[k, 1])
        half2 += half * abs(pose[k, 2])
        reach += abs(middle) + half
    nearest, end = middle2 - half2, middle2 + half2
    if not end > ZERO:
        return nearest, ZERO, reach
    if not nearest > ZERO:
        return nearest, INFINITY, reach
    left, right, top, bottom = middle0 - half0, middle0 + half0, middle1 - half1, middle1 + half1
    left = left / (nearest if left < ZERO else end) * K[0, 0] + K[0, 2]
    right = right / (nearest if right > ZERO else end) * K[0, 0] + K[0, 2]
    top = top / (nearest if top < ZERO else end) * K[1, 1] + K[1, 2]
    bottom = bottom / (nearest if bottom > ZERO else end) * K[1, 1] + K[1, 2]
    # A pixel more on every side, because of rounding.
    left, right = min(left * F32(w) - ONE, F32(w)), max(right * F32(w) + ONE, -ONE)
    top, bottom = min(top * F32(h) - ONE, F32(h)), max(bottom * F32(h) + ONE, -ONE)
    i0, i1 = I64(max(top, ZERO)) // PATCH, I64(min(bottom, F32(h - 1))) // PATCH
    j0, j1 = I64(max(left, ZERO)) // PATCH, I64(min(right, F32(w - 1))) // PATCH
    farthest = ZERO
    if bottom >= ZERO and right >= ZERO:
        for i in range(i0, min(i1 + 1, far.shape[0])):
            for j in range(j0, min(j1 + 1, far.shape[1])):
                farthest = max(farthest, far[i, j])
    return nearest, farthest, reach


@compiled
def in_front(low, high, views, far, share, inside, rows) -> None:
    """Clears the flags of runs, for views rows[0] to rows[1], that no view may look through: none of
    their points is nearer than `share` of what the view shows there. `low` and `high` [r 3] bound
    the runs."""
    (poses, intrinsics, _), size = views, views[2].shape[1:]
    for view in range(rows[0], rows[1]):
        pose, K, patches = poses[view], intrinsics[view], far[view]
        for k in range(low.shape[0]):
            if inside[view, k]:
                nearest, farthest, _ = nearest_and_farthest(low[k], high[k], pose, K, patches, size)
                inside[view, k] = nearest < share * farthest * (ONE + SLACK)


@compiled
def not_hidden(columns, low, high, views, far, behind, inside, rows) -> None:
    """Clears the flags of runs, for views rows[0] to rows[1], of which the view sees no surfel.

    `columns` are those of lay_out_runs; `low` and `high` [r 7] bound them. No surfel of a run is seen
    if all turn their backs, are out of sight, or lie behind all that the view shows there, with planes
    that pass by it: a surfel may be seen at a slant (visibility._seen).
    """
    poses, intrinsics, depth, _ = views
    h, w = depth.shape[1:]
    for view in range(rows[0], rows[1]):
        pose, K, patches = poses[view], intrinsics[view], far[view]
        e0, e1, e2 = pose[0, 3], pose[1, 3], pose[2, 3]
        pixel = HALF / (F32(w) * K[0, 0]) + HALF / (F32(h) * K[1, 1])
        for k in range(low.shape[0]):
            if not inside[view, k]:
                continue
            # How far the eye is before the surfels' planes, at least and at most.
            least, most = ZERO, ZERO
            for axis in range(3):
                a, b = low[k, axis] - pose[axis, 3], high[k, axis] - pose[axis, 3]
                c, d = low[k, 3 + axis], high[k, 3 + axis]
                least += min(min(a * c, a * d), min(b * c, b * d))
                most += max(max(a * c, a * d), max(b * c, b * d))
            nearest, farthest, reach = nearest_and_farthest(
                low[k], high[k], pose, K, patches, (h, w)
            )
            slack = (reach + abs(e0) + abs(e1) + abs(e2)) * SLACK
            if most < -slack or farthest == ZERO:
                inside[view, k] = False
                continue
            if not nearest > behind * farthest * (ONE + SLACK):
                continue
            # The view's surface lies before a surfel by so much of the surfel's distance. Its point
            # at the surfel's pixel is off the surfel's plane by that share of the eye's distance.
            share, rest = ONE - farthest / nearest, farthest * pixel + slack
            if (least - slack) * share > high[k, 6] + rest:
                inside[view, k] = False
                continue
            x, y, z = columns[k, 0], columns[k, 1], columns[k, 2]
            n0, n1, n2 = columns[k, 3], columns[k, 4], columns[k, 5]
            r, may = columns[k, 6], I32(0)
            for i in range(RUN):
                c = (x[i] - e0) * n0[i] + (y[i] - e1) * n1[i] + (z[i] - e2) * n2[i]
                may += I32((c > -slack) & ((c - slack) * share <= r[i] + rest))
            inside[view, k] = may > 0


@compiled
def sighted(columns, ends, views, pairs, numbers, bits, items) -> None:
    """Sets the bits [p 4] of the surfels that views see. `pairs` [2 p] are a view and a row of
    `columns`, which are those of lay_out_runs; those of items[0] to items[1] are tested. Of row k
    the surfels from ends[0, k] to ends[1, k] count. The formulas are those of visibility._seen."""
    poses, intrinsics, depth, confidence = views
    h, w = depth.shape[1:]
    high, wide, (most_behind, most_before, least) = F32(h), F32(w), numbers
    local, at, found = np.empty((6, RUN), F32), np.empty((2, RUN), I32), np.empty((2, RUN), F32)
    seen = np.empty(RUN, I64)
    for item in range(items[0], items[1]):
        view, k = pairs[0, item], pairs[1, item]
        pose, K, surfel = poses[view], intrinsics[view], columns[k]
        r00, r10, r20, e0 = pose[0, 0], pose[1, 0], pose[2, 0], pose[0, 3]
        r01, r11, r21, e1 = pose[0, 1], pose[1, 1], pose[2, 1], pose[1, 3]
        r02, r12, r22, e2 = pose[0, 2], pose[1, 2], pose[2, 2], pose[2, 3]
        f0, f1, c0, c1 = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        # 1. Which pixel shows each centre: pixel 0 for those that are out of sight.
        for i in range(RUN):
            x, y, z = surfel[0, i] - e0, surfel[1, i] - e1, surfel[2, i] - e2
            q0, q1 = x * r00 + y * r10 + z * r20, x * r01 + y * r11 + z * r21
            q2 = x * r02 + y * r12 + z * r22
            x, y, z = surfel[3, i], surfel[4, i], surfel[5, i]
            n0, n1 = x * r00 + y * r10 + z * r20, x * r01 + y * r11 + z * r21
            n2 = x * r02 + y * r12 + z * r22
            u, v = q0 / q2 * f0 + c0, q1 / q2 * f1 + c1
            inside = (q2 > ZERO) & (u >= ZERO) & (u < ONE) & (v >= ZERO) & (v < ONE)
            inside &= n0 * q0 + n1 * q1 + n2 * q2 > ZERO
            local[0, i], local[1, i], local[2, i] = q0, q1, q2
            local[3, i], local[4, i], local[5, i] = n0, n1, n2
            u, v = u * wide if inside else ZERO, v * high if inside else ZERO
            at[0, i], at[1, i] = I32(v), I32(u)
            seen[i] = I64(inside)
        # 2. What the view shows there.
        for i in range(RUN):
            row, column = UNSIGNED(at[0, i]), UNSIGNED(at[1, i])
            found[0, i], found[1, i] = depth[view, row, column], confidence[view, row, column]
        # 3. Which centres are not hidden.
        start, stop = I32(ends[0, k]), I32(ends[1, k])
        for i in range(RUN):
            q0, q1, q2, depth_there = local[0, i], local[1, i], local[2, i], found[0, i]
            a = ((F32(at[1, i]) + HALF) / wide - c0) / f0 * depth_there - q0
            b = ((F32(at[0, i]) + HALF) / high - c1) / f1 * depth_there - q1
            off = a * local[3, i] + b * local[4, i] + (depth_there - q2) * local[5, i]
            shown = (q2 <= most_behind * depth_there) & (q2 >= most_before * depth_there)
            shown |= abs(off) <= surfel[6, i]
            shown &= (found[1, i] >= least) & (I32(i) >= start) & (I32(i) < stop)
            seen[i] &= I64(shown)
        for word in range(RUN // 64):
            mask = I64(0)
            for i in range(64):
                mask |= seen[word * 64 + i] << I64(i)
            bits[item, word] = mask


@compiled
def seen_through(points, views, inside, share, through, runs) -> None:
    """Flags the points of runs[0] to runs[1] through which some view sees. A view is asked about a
    run where `inside` [t r] says so. The formulas are those of view._seen_through."""
    (poses, intrinsics, depths), (h, w) = views, views[2].shape[1:]
    for run in range(runs[0], runs[1]):
        for view in range(poses.shape[0]):
            if not inside[view, run]:
                continue
            pose, K, depth = poses[view], intrinsics[view], depths[view]
            for i in range(run * RUN, min(run * RUN + RUN, points.shape[0])):
                x, y = points[i, 0] - pose[0, 3], points[i, 1] - pose[1, 3]
                z = points[i, 2] - pose[2, 3]
                q2 = x * pose[0, 2] + y * pose[1, 2] + z * pose[2, 2]
                if through[i] or not q2 > ZERO:
                    continue
                q0 = x * pose[0, 0] + y * pose[1, 0] + z * pose[2, 0]
                q1 = x * pose[0, 1] + y * pose[1, 1] + z * pose[2, 1]
                u, v = q0 / q2 * K[0, 0] + K[0, 2], q1 / q2 * K[1, 1] + K[1, 2]
                if not (u >= ZERO and u < ONE and v >= ZERO and v < ONE):
                    continue
                row, column = int(v * F32(h)), int(u * F32(w))
                # The middle first: most points are hidden by it. Unknown depth compares false.
                behind = ONE / depth[row, column] * q2 < share
                if behind:
                    for r in range(max(row - 1, 0), min(row + 2, h)):
                        for c in range(max(column - 1, 0), min(column + 2, w)):
                            behind &= ONE / depth[r, c] * q2 < share
                through[i] = behind


@compiled
def normals_and_radii(points, depth, eye, numbers, normal, radius, smooth, rows) -> None:
    """Normals by central differences that cross no edge, radii, and flags where both are known, for
    rows[0] to rows[1]; the formulas are those of surfels._normals_and_radii."""
    h, w = depth.shape
    focal, slant, upright, edge = numbers[0], numbers[1], numbers[2], numbers[3]
    e0, e1, e2 = eye[0], eye[1], eye[2]
    # A tile holds points, depth and inverse depth, with a margin of two pixels. Outside the image
    # it is NaN, for which `joined` is false.
    tile, result = np.empty((5, TILE + 4, SPAN + 4), F32), np.empty((5, SPAN), F32)
    for top in range(rows[0], rows[1], TILE):
        for start in range(0, w, SPAN):
            tile[:] = np.nan
            for y in range(max(top - 2, 0), min(top + TILE + 2, h)):
                for x in range(max(start - 2, 0), min(start + SPAN + 2, w)):
                    at, j = y - top + 2, x - start + 2
                    for k in range(3):
                        tile[k, at, j] = points[y, x, k]
                    tile[3, at, j] = depth[y, x]
                    tile[4, at, j] = ONE / depth[y, x]
            for y in range(top, min(top + TILE, rows[1])):
                at = y - top + 2
                for i in range(SPAN):
                    j = i + 2
                    inverse, after = tile[4, at, j], tile[4, at, j + 1]
                    left = joined(tile[4, at, j - 2], tile[4, at, j - 1], inverse, after, edge)
                    right = joined(tile[4, at, j - 1], inverse, after, tile[4, at, j + 2], edge)
                    above, below = tile[4, at - 1, j], tile[4, at + 1, j]
                    up = joined(tile[4, at - 2, j], above, inverse, below, edge)
                    down = joined(above, inverse, below, tile[4, at + 2, j], edge)
                    p0, p1, p2 = tile[0, at, j], tile[1, at, j], tile[2, at, j]
                    a0 = across(tile[0, at, j - 1], p0, tile[0, at, j + 1], left, right)
                    a1 = across(tile[1, at, j - 1], p1, tile[1, at, j + 1], left, right)
                    a2 = across(tile[2, at, j - 1], p2, tile[2, at, j + 1], left, right)
                    b0 = across(tile[0, at - 1, j], p0, tile[0, at + 1, j], up, down)
                    b1 = across(tile[1, at - 1, j], p1, tile[1, at + 1, j], up, down)
                    b2 = across(tile[2, at - 1, j], p2, tile[2, at + 1, j], up, down)
                    n0, n1, n2 = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
                    length = math.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
                    n0, n1, n2 = n0 / length, n1 / length, n2 / length
                    p0, p1, p2 = p0 - e0, p1 - e1, p2 - e2
                    distance = max(math.sqrt(p0 * p0 + p1 * p1 + p2 * p2), F32(1e-12))
                    cosine = n0 * (p0 / distance) + n1 * (p1 / distance) + n2 * (p2 / distance)
                    sign = -ONE if cosine < ZERO else ONE
                    result[0, i], result[1, i], result[2, i] = n0 * sign, n1 * sign, n2 * sign
                    shown = slant + upright * abs(cosine)
                    result[3, i] = HALF * tile[3, at, j] / focal / shown
                    known = (left | right) & (up | down) & (length > ZERO) & (length < INFINITY)
                    result[4, i] = ONE if known else ZERO
                for x in range(start, min(start + SPAN, w)):
                    i = x - start
                    for k in range(3):
                        normal[y, x, k] = result[k, i]
                    radius[y, x], smooth[y, x] = result[3, i], result[4, i] > ZERO


@inlined
def across(before, here, after, has_before, has_after) -> float:
    """Sum of the differences to the neighbours that exist."""
    forward, backward = after - here, here - before
    return (forward if has_after else ZERO) + (backward if has_before else ZERO)


@inlined
def joined(before, a, b, after, edge) -> bool:
    """Whether neighbours of inverse depths a and b lie on one surface, given the ones beyond."""
    # The lesser bend (second difference) counts; an unknown one is infinite.
    bend_a, bend_b = abs(b - TWO * a + before), abs(after - TWO * b + a)
    bend_a = bend_a if bend_a == bend_a else INFINITY
    bend_b = bend_b if bend_b == bend_b else INFINITY
    bend, step = min(bend_a, bend_b), b - a
    return (bend / max(a, b) <= edge) & (abs(step) < INFINITY)
