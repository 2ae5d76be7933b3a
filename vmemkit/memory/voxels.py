"""A voxel hash: which of many points is nearest, looked up in the eight cells around.

In: points that come one batch after the other. Out: for queries the nearest point within a distance
whose normal agrees. Cells are more than two distances wide, so that all points in reach of a query
lie in the 2 x 2 x 2 cells it is nearest to. A cell is a chain of points from the youngest to the
oldest; so a shorter value sees the chains of a longer one, and skips what came later.
The kernels are in kernels_tables.py; without numba, association.by_radius compares all with all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.core.kernels import in_bands
from vmemkit.memory.rows import Shared

WIDTH = 2.5  # of a cell, in distances: more than two, so that no rounding loses a neighbour

FEW = 1 << 12  # queries that one thread is done with before another has begun


@dataclass
class _Store(Shared):
    """What all values on one table share: open addressing by cell, and the chains."""

    cell: float  # width, world units
    # [slots] a cell's number, -1 = free; [slots] its youngest point; [capacity] the next older point
    # of the same cell; -1 = none. Replaced as one, for the sake of who reads in another thread.
    table: tuple[np.ndarray, np.ndarray, np.ndarray]
    cells: int = 0


class Voxels:
    """The first `length` of the points in a table. No value ever changes: it shares the table with
    what it grew from, as structs.Rows does."""

    def __init__(self, store: _Store, length: int) -> None:
        self._store, self._length = store, length

    @classmethod
    def of(cls, points: Float[Tensor, "n 3"], distance: float) -> Voxels:
        """A table of points for queries within `distance`."""
        slots = np.full(1024, -1, np.int64), np.full(1024, -1, np.int32)
        cell = WIDTH * distance if distance > 0 else 1.0
        return cls(_Store(0, cell, (*slots, np.empty(1024, np.int32))), 0).extended(points)

    def serves(self, distance: float) -> bool:
        """Are the cells wide enough for a distance, and not so wide that chains get long?"""
        return distance <= self._store.cell * 0.49 and self._store.cell <= 8 * WIDTH * distance

    def prefix(self, length: int) -> Voxels:
        """The first `length` points, in O(1)."""
        return Voxels(self._store, length)

    def extended(self, points: Float[Tensor, "n 3"]) -> Voxels:
        """With all of `points`, of which it holds the first already."""
        from vmemkit.core.kernels import tables

        store, start = self._store, self._length
        # Refused: others have come in between, or one that was interrupted left it half done.
        if not store.claim(start):
            return Voxels.of(points, store.cell / WIDTH)
        (keys, heads, following), cells = store.table, store.cells
        if len(points) > len(following):
            room = np.empty(max(len(points), len(following) * 3 // 2), np.int32)
            room[:start] = following[:start]
            keys, heads, following = keys.copy(), heads.copy(), room
        position = points.contiguous().numpy()
        while start < len(points):
            if 2 * cells >= len(keys):
                more = np.full(2 * len(keys), -1, np.int64), np.full(2 * len(keys), -1, np.int32)
                tables.move_cells(keys, heads, *more)
                keys, heads = more
            work = keys, heads, following, position, start, cells, store.cell
            start, cells = tables.insert_points(*work)
        store.table, store.cells, store.used = (keys, heads, following), cells, len(points)
        return Voxels(store, len(points))

    def nearest(
        self,
        queries: tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]],
        points: tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]],
        distance: float,
        cosine: float,
    ) -> Int[Tensor, " m"]:
        """Per query the nearest point within `distance` whose normal's cosine is above `cosine`, the
        first of equals; -1 = none. Both are positions and normals."""
        from vmemkit.core.kernels import tables

        store, best = self._store, torch.empty(len(queries[0]), dtype=torch.int64)
        arrays = [x.contiguous().numpy() for x in (*queries, *points)]
        table = *store.table, self._length, store.cell
        limits = np.float32([distance, cosine])
        work = table, *arrays, limits, best.numpy()
        in_bands(partial(tables.nearest_alike, *work), len(best), FEW)
        return best
