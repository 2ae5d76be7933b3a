"""Kernels: compiled versions of the plain torch code, equal to it to the bit.

In and out: arrays. `switch.py` decides which implementation runs on a device; `cpu.py` leads from
tensors to the numba kernels (`pixels.py`, `tables.py`), and `cuda.py` holds the Triton kernels.
The torch code beside each caller is the reference, and runs where neither library is installed.
"""

from vmemkit.core.kernels.cpu import footprints, pairs, pixel_counts, seen_again
from vmemkit.core.kernels.sizes import ROUNDING, RUN
from vmemkit.core.kernels.switch import Backend, backend, in_bands, use

__all__ = [
    "ROUNDING",
    "RUN",
    "Backend",
    "backend",
    "footprints",
    "in_bands",
    "pairs",
    "pixel_counts",
    "seen_again",
    "use",
]
