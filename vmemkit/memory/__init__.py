"""Memory: all views, all surfels, and the sightings (which view saw which surfel).

In: views with depth. Out: a `Memory`, a value that `write` makes longer and `truncate` shorter.
A surfel that is seen again gets a sighting; it is not moved. So tables only grow at their end,
undo is truncation, and a fork shares what both remember.
Source: VMem, section 3.2. How new surfels meet old ones is in `association.py`.
"""

from vmemkit.memory.association import AssociationConfig, by_projection
from vmemkit.memory.memory import Ends, Memory, MemoryConfig, read
from vmemkit.memory.sightings import (
    Sightings,
    last_seen,
    sighting_counts,
    sightings_of,
    surfels_of,
    views_of,
    weight_by_view,
)
from vmemkit.memory.spill import Spill
from vmemkit.memory.storage import load, save, save_ply
from vmemkit.memory.writing import begin, forget, write

__all__ = [
    "AssociationConfig",
    "Ends",
    "Memory",
    "MemoryConfig",
    "Sightings",
    "Spill",
    "begin",
    "by_projection",
    "forget",
    "last_seen",
    "load",
    "read",
    "save",
    "save_ply",
    "sighting_counts",
    "sightings_of",
    "surfels_of",
    "views_of",
    "weight_by_view",
    "write",
]
