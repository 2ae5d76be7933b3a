"""The CPU kernels of Warp: points that a view sees, and what fills holes.

Like those of pixels.py, the kernels repeat torch code (of generation/warp) and write into given
arrays. They do not check bounds: cpu.py does.
"""

from __future__ import annotations

import math

import numpy as np

from vmemkit.core.kernels.compiling import compiled, inlined
from vmemkit.core.kernels.pixels import F32, HALF, I32, INFINITY, ONE, TWO, UNSIGNED, ZERO

PART = 256  # pixels at once: their numbers stay in the fastest cache
QUARTER = F32(0.25)


@compiled
def sight(points, normal, camera, view, limits, out, rows, found) -> None:
    """Lists what forward_warp._sight finds among the points rows[0] to rows[1] in `out`, from row
    rows[0] on, and their count in `found` [1]. The limits are error of depth, slant, 1 - slant and
    confidence."""
    (pose, K), (depth, confidence), (h, w) = camera, view, view[0].shape
    r00, r10, r20 = pose[0, 0], pose[1, 0], pose[2, 0]
    r01, r11, r21 = pose[0, 1], pose[1, 1], pose[2, 1]
    r02, r12, r22 = pose[0, 2], pose[1, 2], pose[2, 2]
    f0, f1, c0, c1 = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    most, slant, upright, least = limits
    point, grid, size, seen = out
    offset, inside = np.empty((3, PART), F32), np.empty(PART, I32)
    us, vs, zs = np.empty(PART, F32), np.empty(PART, F32), np.empty(PART, F32)
    at = rows[0]
    for start in range(rows[0], rows[1], PART):
        n = min(PART, rows[1] - start)
        for axis in range(3):
            for i in range(n):
                offset[axis, i] = points[start + i, axis] - pose[axis, 3]
        for i in range(n):
            x, y, z = offset[0, i], offset[1, i], offset[2, i]
            ahead = x * r02 + y * r12 + z * r22
            u = (x * r00 + y * r10 + z * r20) / ahead * f0 + c0
            v = (x * r01 + y * r11 + z * r21) / ahead * f1 + c1
            us[i], vs[i], zs[i] = u, v, ahead
            shown = (u >= ZERO) & (u <= ONE) & (v >= ZERO) & (v <= ONE)
            inside[i] = I32(shown & (ahead > ZERO))
        for i in range(n):
            if inside[i] == 0:
                continue
            u, v, z = us[i], vs[i], zs[i]
            if not abs(inverse_at(depth, u, v) * z - ONE) <= most:
                continue
            x, y, z = offset[0, i], offset[1, i], offset[2, i]
            distance = max(math.sqrt(x * x + y * y + z * z), F32(1e-12))
            a, b, c = normal[start + i, 0], normal[start + i, 1], normal[start + i, 2]
            cosine = max(x / distance * a + y / distance * b + z / distance * c, ZERO)
            row, column = min(int(v * F32(h)), h - 1), min(int(u * F32(w)), w - 1)
            point[at], grid[at, 0], grid[at, 1] = start + i, TWO * u - ONE, TWO * v - ONE
            size[at] = HALF * zs[i] / f1 / (slant + upright * cosine)
            seen[at] = confidence[row, column] >= least
            at += 1
    found[0] = at - rows[0]


@inlined
def inverse_at(depth, u, v) -> float:
    """Interpolated inverse depth, as forward_warp._bilinear."""
    h, w = depth.shape
    x = min(max(u * F32(w) - HALF, ZERO), F32(w - 1))
    y = min(max(v * F32(h) - HALF, ZERO), F32(h - 1))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, w - 1), min(top + 1, h - 1)
    x, y = x - F32(left), y - F32(top)
    a, b = ONE / depth[top, left], ONE / depth[top, right]
    c, d = ONE / depth[bottom, left], ONE / depth[bottom, right]
    above, below = a + x * (b - a), c + x * (d - c)
    return above + y * (below - above)


@compiled
def push_pull(image, known, filled, layers) -> None:
    """Fills layers[0] to layers[1] of images [b c h w], counted over b and c, as smoothing._push_pull."""
    channels, (height, width) = image.shape[1], known.shape[1:]
    levels, shares = [np.empty((height, width), F32)], [np.empty((height, width), F32)]
    while levels[-1].size > 1:
        h, w = (levels[-1].shape[0] + 1) // 2, (levels[-1].shape[1] + 1) // 2
        levels.append(np.empty((h, w), F32))
        shares.append(np.empty((h, w), F32))
    for layer in range(layers[0], layers[1]):
        b, c = layer // channels, layer % channels
        pixels, mask, finest, share = image[b, c], known[b], levels[0], shares[0]
        least, most = INFINITY, -INFINITY
        for i in range(height):
            for j in range(width):
                value = pixels[i, j]
                finest[i, j], share[i, j] = (value, ONE) if mask[i, j] else (ZERO, ZERO)
                least = min(least, value) if mask[i, j] else least
                most = max(most, value) if mask[i, j] else most
        for k in range(1, len(levels)):
            push(levels[k - 1], shares[k - 1], levels[k], shares[k])
        for k in range(len(levels) - 1, 0, -1):
            pull(levels[k], levels[k - 1], shares[k - 1])
        for i in range(height):
            for j in range(width):
                smooth = min(max(finest[i, j], least), most)
                filled[b, c, i, j] = pixels[i, j] if mask[i, j] else smooth


@inlined
def push(fine, fine_share, coarse, coarse_share) -> None:
    """Means of the known ones among 2 x 2 cells; the share is 1 where there are any, else 0."""
    coarse[:], coarse_share[:] = ZERO, ZERO
    for i in range(fine.shape[0]):
        for j in range(fine.shape[1]):
            coarse[i // 2, j // 2] += fine[i, j]
            coarse_share[i // 2, j // 2] += fine_share[i, j]
    for i in range(coarse.shape[0]):
        for j in range(coarse.shape[1]):
            share = QUARTER * coarse_share[i, j]
            coarse[i, j] = QUARTER * coarse[i, j] / max(share, F32(1e-9))
            coarse_share[i, j] = ONE if share > ZERO else ZERO


@inlined
def pull(coarse, fine, fine_share) -> None:
    """Fills unknown cells from the next coarser level, as smoothing._doubled."""
    h, w = coarse.shape
    for i in range(fine.shape[0]):
        here, beside = coarse[i // 2], coarse[min(max(i // 2 + 2 * (i % 2) - 1, 0), h - 1)]
        for j in range(fine.shape[1]):
            if fine_share[i, j] == ZERO:
                a, b = j // 2, min(max(j // 2 + 2 * (j % 2) - 1, 0), w - 1)
                first = here[a] + QUARTER * (beside[a] - here[a])
                second = here[b] + QUARTER * (beside[b] - here[b])
                fine[i, j] = first + QUARTER * (second - first)


@compiled
def box_means(layers, values, pixel, reach, mean, rows) -> None:
    """Means of layers rows[0] to rows[1] over squares around the pixels, as planes._box_means."""
    height, width = layers.shape[1:]
    image, sums = np.zeros((height + 3, width), F32), np.zeros((height + 4, width + 1))
    flat, means = image.reshape(-1), np.empty(width, F32)
    # Sums along a row, which go on unchanged beyond its ends.
    strip, count = np.empty(width + 1 + 2 * reach), np.empty(width)
    left, middle, right = strip[:width], strip[reach : reach + width + 1], strip[2 * reach + 1 :]
    for j in range(width):
        count[j] = min(j + reach + 1, width) - max(j - reach, 0)
    for layer in range(rows[0], rows[1]):
        for i in range(height):
            for j in range(width):
                image[i, j] = layers[layer, i, j]
        for k in range(pixel.shape[0]):
            flat[UNSIGNED(pixel[k])] = values[layer, k]
        for row in range(0, height, 4):  # four at once, because a sum waits for the one before it
            total_a, total_b, total_c, total_d = 0.0, 0.0, 0.0, 0.0
            for j in range(width):
                total_a, total_b = total_a + image[row, j], total_b + image[row + 1, j]
                total_c, total_d = total_c + image[row + 2, j], total_d + image[row + 3, j]
                sums[row + 1, j + 1] = sums[row, j + 1] + total_a
                sums[row + 2, j + 1] = sums[row + 1, j + 1] + total_b
                sums[row + 3, j + 1] = sums[row + 2, j + 1] + total_c
                sums[row + 4, j + 1] = sums[row + 3, j + 1] + total_d
        start = -width  # number of the first pixel of a row
        for k in range(pixel.shape[0]):
            if not start <= pixel[k] < start + width:  # a new row, of which most pixels follow
                i = pixel[k] // width
                start, top, bottom = i * width, max(i - reach, 0), min(i + reach + 1, height)
                for j in range(width + 1):
                    middle[j] = sums[bottom, j] - sums[top, j]
                for j in range(reach):
                    strip[j], strip[reach + width + 1 + j] = 0.0, middle[width]
                tall = float(bottom - top)
                for j in range(width):
                    means[j] = (right[j] - left[j]) / (tall * count[j])
            mean[layer, k] = means[UNSIGNED(pixel[k] - start)]


@compiled
def expected_steps(surfaces, share, expected, rows) -> None:
    """Steps from pixels rows[0] to rows[1] of surfaces [p n], as planes._expected_steps."""
    p = surfaces.shape[0]
    # Each has its own memory, so the compiler knows that they do not overlap.
    depth, weight, total = (
        np.empty((p, PART), F32),
        np.empty((p, PART), F32),
        np.empty((p, PART), F32),
    )
    for start in range(rows[0], rows[1], PART):
        n = min(PART, rows[1] - start)
        for a in range(p):
            for i in range(n):
                depth[a, i], weight[a, i] = surfaces[a, start + i], share[a, start + i]
                total[a, i] = ZERO
        # A step is as large as the step back. The sums are still taken in the order of surfaces.
        for a in range(p):
            for b in range(a + 1, p):
                for i in range(n):
                    step = min(abs((depth[b, i] - depth[a, i]) / depth[p - 1, i]), ONE)
                    total[b, i] += weight[a, i] * step
                    total[a, i] += weight[b, i] * step
        for a in range(p):
            for i in range(n):
                expected[a, start + i] = total[a, i]


@compiled
def step_cost(distance, usable, before, after, jumps, cost) -> None:
    """Costs of states `before` being followed by those `after`, as cylinder._step_cost. States are
    pairs column, direction."""
    (column, way), (next_column, next_way), w = before, after, usable.shape[0]
    prior, has_prior = np.empty_like(next_column), np.empty(next_column.shape[0], np.bool_)
    for b in range(next_column.shape[0]):
        prior[b] = (next_column[b] - next_way[b]) % w
        has_prior[b] = usable[prior[b]]
    for a in range(column.shape[0]):
        beyond, its_way = (column[a] + way[a]) % w, way[a]
        here, ahead, has_beyond = distance[column[a]], distance[beyond], usable[beyond]
        for b in range(next_column.shape[0]):
            forward, backward = ahead[next_column[b]], here[prior[b]]
            if not has_beyond:
                forward = backward if has_prior[b] else here[next_column[b]]
            if not has_prior[b]:
                backward = forward
            turns = its_way != next_way[b]
            jump = forward + backward + (jumps[1] if turns else jumps[0])
            cost[a, b] = ZERO if next_column[b] == beyond and not turns else jump


@compiled
def viterbi(enter, step, stay, leave, path) -> None:
    """The cheapest path through the states, as cylinder._viterbi."""
    states = step.shape[0]
    origins = np.empty(stay.shape, I32)
    cost, least, origin = enter + stay[0], np.empty(states, F32), np.empty(states, I32)
    for t in range(1, stay.shape[0]):
        least[:], origin[:] = INFINITY, I32(0)
        for a in range(states):
            here, before, row = cost[a], I32(a), step[a]
            for b in range(states):
                reached = here + row[b]
                origin[b] = before if reached < least[b] else origin[b]
                least[b] = min(reached, least[b])
        for b in range(states):
            cost[b] = least[b] + stay[t, b]
        origins[t] = origin
    state = np.argmin(cost + leave)
    for t in range(stay.shape[0] - 1, -1, -1):
        path[t] = state
        state = origins[t, state]


@compiled
def cross_fade(image, known, source, column, direction, reach, total, weight, rows) -> None:
    """What runs of columns show at the unknown pixels of rows[0] to rows[1], as
    cylinder._cross_fade. `total` [3 h w] and `weight` [h w] hold zeros before."""
    width = image.shape[2]
    for offset in range(-reach, reach + 1):
        share = F32(reach + 1 - abs(offset))
        for j in range(width):
            beside = (j + offset) % width
            taken = (column[beside] - offset * direction[beside]) % width
            for i in range(rows[0], rows[1]):
                if source[i, taken] and not known[i, j]:
                    for k in range(3):
                        total[k, i, j] += share * image[k, i, taken]
                    weight[i, j] += share
