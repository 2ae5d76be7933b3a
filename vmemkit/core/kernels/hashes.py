"""The CPU kernel of random tones on a grid, as scenes/house/finishes.py hashes them."""

from __future__ import annotations

import numpy as np

from vmemkit.core.kernels.compiling import compiled, inlined
from vmemkit.core.kernels.pixels import F32, I32, ONE, TWO

U32 = np.uint32
THREE = F32(3)
STEP = 512  # points at once: their states stay in the fastest cache


@compiled
def corner_tones(uv, pixel, seed, length, place, tones, fade, rows) -> None:
    """Place in the cell, tones of its corners and fade of points rows[0] to rows[1], as
    finishes._corner_tones."""
    corner, state, t = np.empty((2, STEP), U32), np.empty(STEP, U32), np.empty((2, STEP), F32)
    seeds, width = np.empty(STEP, U32), np.empty((2, STEP), F32)
    for start in range(rows[0], rows[1], STEP):
        n = min(STEP, rows[1] - start)
        for i in range(n):
            for k in range(2):
                t[k, i], width[k, i] = uv[start + i, k], pixel[start + i, k]
            seeds[i] = U32(seed[start + i])
        for k in range(2):
            size = length[k]
            for i in range(n):
                x = t[k, i] / size
                whole = np.floor(x)
                x = x - whole
                t[k, i] = x * x * (THREE - TWO * x)
                corner[k, i] = U32(I32(whole))
                width[k, i] = width[k, i] / size
                place[k, start + i] = t[k, i]
        for i in range(n):
            wide = max(width[0, i], width[1, i])
            fade[start + i] = ONE / (ONE + wide * wide)
        for column in range(2):
            for i in range(n):
                state[i] = hashed(U32(0), U32(corner[0, i] + U32(column)))
            for row in range(2):
                for i in range(n):
                    last = hashed(hashed(state[i], U32(corner[1, i] + U32(row))), seeds[i])
                    tone = F32(I32(last & U32(0xFFFFFF))) / F32(0x1000000)
                    tones[2 * row + column, start + i] = tone


@inlined
def hashed(state, integer) -> int:
    """One round of finishes.chance, whose 32-bit words are kept in 64 bits there."""
    state = U32(U32(state ^ integer) * U32(0x9E3779B1))
    state = U32(U32(state ^ (state >> U32(15))) * U32(0x85EBCA6B))
    return U32(state ^ (state >> U32(13)))
