"""PLY: the surfels as points with normals, radii and colours.

In: a memory. Out: a binary .ply file, in the memory's world and unit.
"""

from __future__ import annotations

import os

from vmemkit.core import Surfels
from vmemkit.exports.places import check_suffix, in_words
from vmemkit.memory import Memory, save_ply


def ply(memory: Memory, path: str | os.PathLike) -> None:
    """Write the surfels as the vertices of a binary .ply, in the memory's world.

    Unlike in the memory, normals point to where the surface was seen from, as MeshLab, CloudCompare
    and Poisson reconstruction expect. Radii are the property `radius`, in world units.
    Errors: ValueError for another suffix and a missing folder; OSError for a full disk.
    """
    check_suffix(path, ".ply")
    with in_words(path):
        save_ply(facing_viewers(memory.surfels), path)


def facing_viewers(surfels: Surfels) -> Surfels:
    """The surfels with normals that point to where they were seen from."""
    return surfels.replace(normal=-surfels.normal)
