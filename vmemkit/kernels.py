"""The CPU kernels: loops over surfels, pixels and sightings, compiled by numba on first use.

Each does what the torch code of its stage does, in the same order of float32 operations, so that
results are equal to the bit (numba neither reorders nor fuses operations unless told to). They take
numpy arrays, write into arrays they are given and release Python's lock; native.py calls them.
The heavy loops have no branches and work on arrays of their own, which nothing else can point into:
then the compiler makes vector instructions of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
from numba import njit

from vmemkit.runs import RUN

F32, I32 = np.float32, np.int32
ZERO, ONE = F32(0), F32(1)
BIT = np.uint64(1)
SEQUENCE = np.uint64(0x03F79D71B4CB0A89)  # of bits; any six in a row are different
PLACES = np.zeros(64, np.int64)
for place in range(64):
    PLACES[((int(SEQUENCE) << place) & (2**64 - 1)) >> 58] = place
LANES = 8  # pixels that are drawn at once; rows of depth buffers are that much longer than needed


def compiled(function: Callable) -> Callable:
    """To machine code on the first call; kept on disk for the next process."""
    # A type checker may have wrapped the function, as in the tests: numba needs the plain one.
    return njit(nogil=True, cache=True, error_model="numpy")(inspect.unwrap(function))


def inlined(function: Callable) -> Callable:
    """Part of the kernels that call it."""
    return njit(inline="always", error_model="numpy")(inspect.unwrap(function))


@compiled
def draw_discs(
    position, normal, radius, runs, rotation, eye, focal, centre, limits, depth, surfel, cosine
) -> None:
    """The nearest disc per pixel, of the surfels of `runs` (ascending), into `depth` (inf where
    none), `surfel` and `cosine` [h w + LANES]. The formulas are those of splat._disc_hits."""
    h, padded = depth.shape
    w = padded - LANES
    places = np.arange(padded).astype(F32)
    inverse0, inverse1, near = ONE / focal[0], ONE / focal[1], limits[1]
    disc, box = np.empty((11, RUN), F32), np.empty((4, RUN), I32)
    for k in range(runs.shape[0]):
        start = runs[k] * RUN
        stop = min(start + RUN, position.shape[0])
        p, n, r = position[start:stop], normal[start:stop], radius[start:stop]
        measure_discs(p, n, r, rotation, eye, focal, centre, limits, w, h, disc, box)
        for i in range(stop - start):
            first, last, top, bottom = box[0, i], box[1, i], box[2, i], box[3, i]
            if last < first:
                continue
            c, plane, r = disc[0, i], disc[1, i], disc[2, i]
            n0, n1 = disc[3, i], disc[4, i]
            q0, q1, q2 = disc[5, i], disc[6, i], disc[7, i]
            middle0, middle1, seen = disc[8, i], disc[9, i], disc[10, i]
            who, edge = I32(start + i), F32(last)
            stop_at = first + ((last - first) // LANES + 1) * LANES
            place = places[first:stop_at]
            for row in range(top, bottom + 1):
                dv = (F32(row) - middle1) * inverse1
                n1dv, cdv = n1 * dv, c * dv
                d_row, s_row = depth[row, first:stop_at], surfel[row, first:stop_at]
                c_row = cosine[row, first:stop_at]
                for j in range(place.shape[0]):
                    du = (place[j] - middle0) * inverse0
                    nd = n0 * du + n1dv
                    facing = plane + nd
                    dx, dy, dz = c * du - nd * q0, cdv - nd * q1, nd * q2
                    rim = r * facing
                    d, old = c / facing, d_row[j]
                    take = (dx * dx + dy * dy + dz * dz <= rim * rim) & (facing > ZERO)
                    take &= (d > near) & (d < old) & (place[j] <= edge)
                    d_row[j] = d if take else old
                    s_row[j] = who if take else s_row[j]
                    c_row[j] = seen if take else c_row[j]


@inlined
def measure_discs(
    position, normal, radius, rotation, eye, focal, centre, limits, w, h, disc, box
) -> None:
    """What drawing needs of each disc, into `disc` [11 n], and its first and last column and row,
    into `box` [4 n]: last < first where it is not drawn."""
    r00, r10, r20 = rotation[0, 0], rotation[1, 0], rotation[2, 0]
    r01, r11, r21 = rotation[0, 1], rotation[1, 1], rotation[2, 1]
    r02, r12, r22 = rotation[0, 2], rotation[1, 2], rotation[2, 2]
    e0, e1, e2 = eye[0], eye[1], eye[2]
    f0, f1, c0, c1 = focal[0], focal[1], centre[0], centre[1]
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
        top = I32(math.ceil(min(max(low, ZERO), F32(h))))
        bottom = I32(math.floor(max(min(high, F32(h - 1)), -ONE)))
        box[1, i] = last0 if drawn & (bottom >= top) else I32(-1)
        box[2, i], box[3, i] = top, bottom
        disc[0, i], disc[1, i], disc[2, i] = c, c / q2, r
        disc[3, i], disc[4, i] = n0, n1
        disc[5, i], disc[6, i], disc[7, i] = q0, q1, q2
        distance = math.sqrt(q0 * q0 + q1 * q1 + q2 * q2)
        disc[10, i] = c / max(distance, F32(1e-12))
        disc[8, i], disc[9, i] = q0 / q2 * f0 + c0, q1 / q2 * f1 + c1


@compiled
def nearest_of(depths, surfels, cosines, rows, surfel, depth, cosine) -> None:
    """The nearest of several buffers [b h w + LANES] per pixel, equals to the first, in rows[0] to
    rows[1]. -1, 0 and 0 where nothing was drawn."""
    for row in range(rows[0], rows[1]):
        for column in range(surfel.shape[1]):
            best = 0
            for b in range(1, depths.shape[0]):
                if depths[b, row, column] < depths[best, row, column]:
                    best = b
            surfel[row, column] = surfels[best, row, column]
            hit = surfels[best, row, column] >= 0
            depth[row, column] = depths[best, row, column] if hit else ZERO
            cosine[row, column] = cosines[best, row, column] if hit else ZERO


@inlined
def lowest(bits) -> int:
    """Place of the lowest set bit of a word that has one (by De Bruijn's sequence)."""
    return PLACES[((bits & (~bits + BIT)) * SEQUENCE) >> np.uint64(58)]


@compiled
def votes(word, view, bits, asked, weight, total) -> None:
    """Adds to total[view] the weights of the surfels that are marked, as sightings.votes."""
    for r in range(word.shape[0]):
        left, start, votes = bits[r] & asked[word[r]], np.int64(word[r]) * 64, 0.0
        while left:
            votes += weight[start + lowest(left)]
            left &= left - BIT
        total[view[r]] += votes


@compiled
def counts(word, bits, count) -> None:
    """Adds one to count[surfel] for every mark."""
    for r in range(word.shape[0]):
        left, start = bits[r], np.int64(word[r]) * 64
        while left:
            count[start + lowest(left)] += 1
            left &= left - BIT


@compiled
def marked(word, view, bits, surfel, seer) -> int:
    """The marks as pairs, and how many there are; where there is no room for them, only that."""
    n = 0
    for r in range(word.shape[0]):
        left, start = bits[r], np.int64(word[r]) * 64
        while left:
            if n < surfel.shape[0]:
                surfel[n], seer[n] = start + lowest(left), view[r]
            n += 1
            left &= left - BIT
    return n
