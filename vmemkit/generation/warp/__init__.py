"""Warp: new views without a network, by moving the pixels of the context.

In: context views with depth, target cameras. Out: target views with depth. Pixels are splatted as
discs; holes are filled from their surroundings, in the picture and in a panorama around the camera.
"""

from vmemkit.generation.warp.forward_warp import Warp, WarpConfig

__all__ = ["Warp", "WarpConfig"]
