"""The CPU kernels of hole filling: means and steps of surfaces, runs of columns.

Like those of pixels.py, the kernels repeat torch code (of generation/warp) and write into given
arrays. They do not check bounds: cpu.py does.
"""

from __future__ import annotations

import numpy as np

from vmemkit.core.kernels.compiling import compiled
from vmemkit.core.kernels.pixels import F32, I32, INFINITY, ONE, ZERO

PART = 256  # pixels at once: their numbers stay in the fastest cache


@compiled
def box_means(layers, pixel, reach, mean, rows) -> None:
    """Means of layers rows[0] to rows[1] over squares around the pixels, as planes._box_means."""
    height, width = layers.shape[1:]
    sums, strip = np.zeros((height + 1, width + 1)), np.zeros(width + 1)
    for layer in range(rows[0], rows[1]):
        for row in range(height):
            total, values, above, below = 0.0, layers[layer, row], sums[row], sums[row + 1]
            for j in range(width):
                total += values[j]
                below[j + 1] = above[j + 1] + total
        start, tall = -width, 0  # number of the first pixel of a row, and the strip's height there
        for k in range(pixel.shape[0]):
            if not start <= pixel[k] < start + width:  # a new row, of which most pixels follow
                i = pixel[k] // width
                start, top, bottom = i * width, max(i - reach, 0), min(i + reach + 1, height)
                above, below, tall = sums[top], sums[bottom], bottom - top
                for j in range(width + 1):
                    strip[j] = below[j] - above[j]
            j = pixel[k] - start
            left, right = max(j - reach, 0), min(j + reach + 1, width)
            mean[layer, k] = (strip[right] - strip[left]) / (tall * (right - left))


@compiled
def expected_steps(surfaces, share, expected, rows) -> None:
    """Steps from pixels rows[0] to rows[1] of surfaces [p n], as planes._expected_steps."""
    p = surfaces.shape[0]
    depth, weight, total = np.empty((3, p, PART), F32)
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
