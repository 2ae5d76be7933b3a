"""Core: the values that flow between the stages, and their geometry.

In: images, depth, cameras. Out: `Views` (images with their cameras), `Surfels` (small oriented
discs) and `Splat` (which disc each pixel of a camera sees). All are frozen bundles of tensors.
Conventions (axes, units, pixels, intrinsics) are stated once, in `camera.py`.
`kernels/` repeats the slow parts in machine code, equal to the bit; skip it at first reading.
Source: VMem (Li et al., ICCV 2025), section 3.2.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
