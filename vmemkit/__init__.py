"""vmemkit: surfel-indexed view memory (VMem, Li et al., ICCV 2025), one stage at a time.

The stages are functions on frozen values: `retrieve`, a generator such as `Warp()`, a reconstructor
such as `reconstruction.from_depth`, and `write`. `step` and `walk` chain them.
Each room (`vmemkit.core`, `memory`, `retrieval`, `generation`, `reconstruction`, `scenes`, `evaluation`,
`figures`, `sessions`, `exports`, `serving`, `widgets`, `nets`, `cli`) is a package; its docstring says
what it is for.
Conventions (axes, units, pixels, intrinsics) are stated once, in `core/camera.py`.
"""

import lazy_loader

# Names are in `__init__.pyi`. They load their room on first use, so that `vmemkit --help` loads none.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.2.0"
