"""Warp: new views without a network, by moving the pixels of the context.

In: context views with depth, target cameras. Out: target views with depth. `forward_warp.py` splats
the pixels as discs; `holes.py` says how the holes between and beside them are filled.
"""

from vmemkit.generation.warp.config import WarpConfig
from vmemkit.generation.warp.forward_warp import Warp

__all__ = ["Warp", "WarpConfig"]
