"""The CPU kernels over table rows: packed sightings, votes and footprints.

Packed sightings are rows (word, view, bits): bit i of `bits` says that the view saw surfel
64 * word + i. Like those of pixels.py, the kernels repeat torch code, write into given arrays, and
do not check bounds: cpu.py does.
"""

from __future__ import annotations

import math

import numpy as np

from vmemkit.core.kernels.compiling import compiled, inlined
from vmemkit.core.kernels.pixels import F32, HALF, ONE, UNSIGNED, ZERO

BIT = np.uint64(1)
SEQUENCE = np.uint64(0x03F79D71B4CB0A89)  # De Bruijn's: any six neighbouring bits are unique
PLACES = np.zeros(64, np.int64)

for place in range(64):
    PLACES[((int(SEQUENCE) << place) & (2**64 - 1)) >> 58] = place


@inlined
def lowest(bits) -> int:
    """Position of the lowest set bit of a word that has one, by De Bruijn's sequence."""
    return PLACES[((bits & (~bits + BIT)) * SEQUENCE) >> np.uint64(58)]


@compiled
def pixel_counts(surfel, count) -> None:
    """Adds one to count[surfel] for every pixel that sees a surfel (-1 = none)."""
    for i in range(surfel.shape[0]):
        if surfel[i] >= 0:
            count[surfel[i]] += ONE


@compiled
def votes(word, view, bits, weight, total) -> None:
    """Adds to total[view] the weights of the surfels that it saw, as sightings.weight_by_view."""
    # 1. Per word of 64 surfels: which of them have a weight, and the sum of the weights. Most words
    #    have none. They are skipped quickly: two float32 weights are compared with 0 at a time.
    n, whole, words = weight.shape[0], weight.shape[0] // 64, (weight.shape[0] + 63) // 64
    # 32, but not as a constant: the compiler would unroll the loop instead of vectorising it.
    length = UNSIGNED(min(32, n))
    weighted, sums = np.zeros(words, np.uint64), np.zeros(words)
    pairs = weight[: 64 * whole].view(np.int64)
    for k in range(words):
        if k < whole:
            some = np.int64(0)
            for i in range(length):
                some |= pairs[UNSIGNED(32 * k + i)]
            if some == 0:
                continue
        mask, part = np.uint64(0), 0.0
        for i in range(min(64, n - 64 * k)):
            mask |= np.uint64(weight[64 * k + i] != ZERO) << np.uint64(i)
            part += weight[64 * k + i]
        weighted[k], sums[k] = mask, part
    # 2. Per row: most views saw all or none of the weighted surfels of a word. Only the others need
    #    a loop over bits.
    for r in range(word.shape[0]):
        k = UNSIGNED(word[r])
        left = bits[r] & weighted[k]
        if left == weighted[k]:
            part = sums[k]
        else:
            part = 0.0
            while left:
                part += weight[k * UNSIGNED(64) + UNSIGNED(lowest(left))]
                left &= left - BIT
        if part != 0.0:
            total[UNSIGNED(view[r])] += part


@compiled
def pack_flags(mask, words) -> None:
    """Packs 64 flags into each word."""
    for i in range(mask.shape[0]):
        words[i // 64] |= np.uint64(mask[i]) << np.uint64(i % 64)


@compiled
def counts(word, bits, count) -> None:
    """Adds one to count[surfel] for every view that saw a surfel, as sightings.sighting_counts."""
    for r in range(word.shape[0]):
        left, start = bits[r], np.int64(word[r]) * 64
        while left:
            surfel = start + lowest(left)
            if surfel < count.shape[0]:
                count[surfel] += 1
            left &= left - BIT


@compiled
def marked(word, view, bits, surfel, seer) -> int:
    """Unpacks sightings into pairs of surfel and seer, as far as there is room for them; returns
    their number."""
    n = 0
    for r in range(word.shape[0]):
        left, start = bits[r], np.int64(word[r]) * 64
        while left:
            if n < surfel.shape[0]:
                surfel[n], seer[n] = start + lowest(left), view[r]
            n += 1
            left &= left - BIT
    return n


@compiled
def gains(surfel, view, quality, pixels, chosen, best, gain) -> None:
    """Adds to gain[view] what each view would add to those flagged in `chosen`, as selection._gains.
    `best` [n] is overwritten with the best quality at which these see a surfel."""
    for e in range(surfel.shape[0]):
        best[surfel[e]] = ZERO
    for e in range(surfel.shape[0]):
        if chosen[view[e]]:
            best[surfel[e]] = max(best[surfel[e]], quality[e])
    for e in range(surfel.shape[0]):
        more = max(quality[e] - best[surfel[e]], ZERO)
        gain[view[e]] += more * pixels[surfel[e]]


@compiled
def footprints(position, normal, eye, forward, focal, surfel, view, slant, size) -> None:
    """World size of a pixel of view[e] at surfel[e], as votes._footprints."""
    for e in range(surfel.shape[0]):
        i, v = surfel[e], view[e]
        x, y, z = position[i, 0] - eye[v, 0], position[i, 1] - eye[v, 1], position[i, 2] - eye[v, 2]
        depth = max(x * forward[v, 0] + y * forward[v, 1] + z * forward[v, 2], F32(1e-6))
        distance = max(math.sqrt(x * x + y * y + z * z), F32(1e-6))
        cosine = x * normal[i, 0] + y * normal[i, 1] + z * normal[i, 2]
        cosine = max(cosine / distance, ZERO)
        size[e] = HALF * depth / focal[v] / (slant[0] + slant[1] * cosine)
