"""vmemkit: surfel-indexed view memory (VMem, Li et al., ICCV 2025), one stage at a time.

The stages are functions on frozen values: `retrieve`, a generator such as `Warp()`, a reconstructor
such as `reconstruct.from_depth`, and `write`; `step` and `walk` chain them.
Conventions (axes, units, pixels, intrinsics) are stated once, in `vmemkit.camera`.
"""

from importlib import import_module
from types import ModuleType

from vmemkit.core import Cameras, PointMaps, Surfels, Views, cameras
from vmemkit.generation import Generation, Generator, Warp, WarpConfig, with_depth
from vmemkit.generation.diffusion import DiffusionGenerator
from vmemkit.memory import Memory, MemoryConfig, Spill, begin, forget, load, read, save, write
from vmemkit.pipeline import Stage, Step, stages, step, walk, walks
from vmemkit.retrieval import POLICIES, Retrieval, RetrievalConfig, retrieve

__version__ = "0.1.0"

__all__ = [
    "POLICIES",
    "Cameras",
    "DiffusionGenerator",
    "Generation",
    "Generator",
    "Memory",
    "MemoryConfig",
    "PointMaps",
    "Retrieval",
    "RetrievalConfig",
    "Spill",
    "Stage",
    "Step",
    "Surfels",
    "Views",
    "Warp",
    "WarpConfig",
    "begin",
    "cameras",
    "forget",
    "load",
    "read",
    "retrieve",
    "save",
    "stages",
    "step",
    "walk",
    "walks",
    "with_depth",
    "write",
]

_LAZY = (
    "cli",
    "core",
    "evaluation",
    "figures",
    "generation",
    "memory",
    "nets",
    "reconstruction",
    "retrieval",
    "scenes",
    "training",
    "widgets",
)


def __getattr__(name: str) -> ModuleType:
    """Submodules on first use, so that `import vmemkit` loads no plotting and no scene."""
    if name in _LAZY:
        return import_module(f"vmemkit.{name}")
    raise AttributeError(f"module 'vmemkit' has no attribute {name!r}")
