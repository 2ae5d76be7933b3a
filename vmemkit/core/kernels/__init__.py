"""Kernels: compiled versions of the plain torch code, equal to it to the bit.

In and out: tensors and arrays. `@accelerated` marks a plain function whose twin may run in its place;
`backends.py` decides which one runs on a device. `cpu.py` leads from tensors to the numba kernels
(`pixels.py`, `polygons.py`, `tables.py`, `filling.py`, and of houses `solids.py`, `hashes.py`), and
`cuda.py` holds Triton's. The plain torch code is the reference, and runs where neither library is
installed.
"""

from vmemkit.core.kernels.backends import Backend, accelerated, backend, use
from vmemkit.core.kernels.sizes import CORNERS, MARGIN, PATCH, RING, ROUNDING, RUN

__all__ = [
    "CORNERS",
    "MARGIN",
    "PATCH",
    "RING",
    "ROUNDING",
    "RUN",
    "Backend",
    "accelerated",
    "backend",
    "use",
]
