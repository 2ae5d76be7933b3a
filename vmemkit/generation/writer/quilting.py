"""Quilting: continue a texture by laying pieces of it side by side.

In: a picture that is known in part, and a picture to take pieces from. Out: the first one, complete.
Known parts that look unlike the rest, such as a picture on a wall, are laid anew, too.
Pieces overlap. Each is one of those that agree best with what is there, and is cut along the path
through the overlap on which the two differ least.
Source: Efros and Freeman, "Image quilting for texture synthesis and transfer", SIGGRAPH 2001. Here,
pieces are laid from the known part outwards, so that a pattern goes on where it ends.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, uniform_filter

from vmemkit.generation.writer.evidence import Array

PIECE, OVERLAP = 24, 8  # pixels: side of a piece, and width of its overlap
PIECES = 300  # that are tried, at most, and as many mirrored ones
FEW = 4  # pieces that a texture needs, mirrored ones included
TOLERANCE = 1.1  # pieces that disagree so much more than the best may be taken, too
PLAIN = 1.5  # places that differ by more than this times the median show a thing, not the surface
REUSE = 0.0002  # squared colour difference that each earlier use of a piece costs, so that it is no stamp
SAME_ROW = 0.002  # squared colour difference that a row farther up or down costs


def quilt(
    picture: Array, known: Array, source: Array, of_source: Array, rows: bool = False
) -> Array | None:
    """The picture [h w 3], completed where `known` [h w] is false.

    source: [h2 w2 3] with `of_source` [h2 w2], where its pieces come from. rows: a piece should come
    from about the row where it is laid, as on walls with bands. None where the source is too small.
    """
    known = known & _usual(picture, known)
    pieces, origin = _pieces(source, of_source & _usual(source, of_source))
    if len(pieces) < FEW:
        return None
    rng = np.random.default_rng(0)  # the same picture is always continued in the same way
    result, filled = np.where(known[..., None], picture, 0.0), known.copy()
    flat = pieces.reshape(len(pieces), -1, 3)
    squares, used = (flat**2).sum(2), np.zeros(len(pieces))
    for top, left in _places(known):
        here = np.s_[top : top + PIECE, left : left + PIECE]
        height, width = filled[here].shape
        mask = np.zeros((PIECE, PIECE), dtype=bool)
        mask[:height, :width] = filled[here]
        there = np.zeros((PIECE, PIECE, 3))
        there[:height, :width] = result[here]
        weight = mask.reshape(-1).astype(float)
        wanted = there.reshape(-1, 3) * weight[:, None]
        error = squares @ weight - 2 * flat.reshape(len(flat), -1) @ wanted.ravel()
        error = (error + (wanted**2).sum()) / max(weight.sum(), 1.0)
        error += REUSE * used
        if rows:
            error = error + SAME_ROW * ((origin[:, 0] - top) / PIECE) ** 2
        best = np.nonzero(error <= TOLERANCE * max(error.min(), 1e-6))[0]
        chosen = int(best[rng.integers(len(best))])
        used[np.abs(origin - origin[chosen]).max(1) < OVERLAP] += 1
        piece = pieces[chosen]
        new = _cut(there, mask, piece)[:height, :width] & ~known[here]
        result[here] = np.where(new[..., None], piece[:height, :width], result[here])
        filled[here] = True
    return result


def _pieces(source: Array, known: Array) -> tuple[Array, Array]:
    """Pieces [n PIECE PIECE 3] of the known part, as they are and mirrored, and their corners [n 2]."""
    h, w = known.shape
    if min(h, w) < PIECE:
        return np.zeros((0, PIECE, PIECE, 3)), np.zeros((0, 2))
    whole = np.lib.stride_tricks.sliding_window_view(known, (PIECE, PIECE)).all((2, 3))
    corners = np.argwhere(whole)
    if len(corners) == 0:
        return np.zeros((0, PIECE, PIECE, 3)), corners
    corners = corners[np.linspace(0, len(corners) - 1, min(len(corners), PIECES)).astype(int)]
    pieces = np.stack([source[i : i + PIECE, j : j + PIECE] for i, j in corners])
    return np.concatenate([pieces, pieces[:, :, ::-1]]), np.concatenate([corners, corners])


def _usual(picture: Array, known: Array) -> Array:
    """The places around which the known part looks as most of it does."""
    if not known.any():
        return known
    unlike = np.abs(picture - np.median(picture[known], 0)).mean(2) * known
    share = uniform_filter(known.astype(float), PIECE)
    around = uniform_filter(unlike, PIECE) / share.clip(1e-6)
    return around <= PLAIN * np.median(around[known]) + 1e-6


def _places(known: Array) -> list[tuple[int, int]]:
    """Where pieces are laid: their upper left corners, those next to the known part first."""
    h, w = known.shape
    step = PIECE - OVERLAP
    corners = np.stack(np.meshgrid(np.arange(0, h, step), np.arange(0, w, step), indexing="ij"), -1)
    corners = corners.reshape(-1, 2)
    middle = np.minimum(corners + PIECE // 2, [h - 1, w - 1])
    away = distance_transform_edt(~known) if known.any() else np.zeros(known.shape)
    order = np.argsort(away[tuple(middle.T)], kind="stable")
    needed = [corners[i] for i in order]
    return [(int(i), int(j)) for i, j in needed if not known[i : i + PIECE, j : j + PIECE].all()]


def _cut(there: Array, mask: Array, piece: Array) -> Array:
    """Where the piece is laid over what is there: beyond the best cuts through the overlaps."""
    difference = np.where(mask, ((there - piece) ** 2).sum(2), 0.0)
    new = np.ones((PIECE, PIECE), dtype=bool)
    for turn in range(4):  # the overlap on each side is the left one after some quarter turns
        turned, strip = np.rot90(new, turn), np.rot90(difference, turn)[:, :OVERLAP]
        if np.rot90(mask, turn)[:, :OVERLAP].mean() > 0.5:
            turned[:, :OVERLAP] &= np.arange(OVERLAP) >= _path(strip)[:, None]
    return new | ~mask


def _path(cost: Array) -> Array:
    """The column [h] in each row of the cheapest path from the top to the bottom, by dynamic programming."""
    total = cost.copy()
    for row in range(1, len(cost)):
        above = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    path = np.zeros(len(cost), dtype=int)
    path[-1] = total[-1].argmin()
    for row in range(len(cost) - 2, -1, -1):
        low = max(path[row + 1] - 1, 0)
        path[row] = low + total[row, low : path[row + 1] + 2].argmin()
    return path
