"""vmemkit: surfel-indexed view memory (VMem, Li et al., ICCV 2025), one stage at a time.

The stages are functions on frozen values: `retrieve`, a generator such as `Warp()`, a reconstructor
such as `reconstruction.from_depth`, and `write`. `step` and `walk` chain them.
Each room (`vmemkit.core`, `memory`, `retrieval`, `generation`, `reconstruction`, `scenes`, `evaluation`,
`figures`, `widgets`, `nets`, `cli`) is a package; its docstring says what it is for.
Conventions (axes, units, pixels, intrinsics) are stated once, in `core/camera.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmemkit.core import Cameras, Surfels, Views, cameras
from vmemkit.generation import Generation, Generator, Warp, WarpConfig, with_depth
from vmemkit.memory import Memory, MemoryConfig, Spill, begin, forget, load, read, save, write
from vmemkit.pipeline import Stage, Step, WalkConfig, stages, step, walk, walks
from vmemkit.retrieval import POLICIES, Retrieval, RetrievalConfig, retrieve

if TYPE_CHECKING:
    from vmemkit.generation import DiffusionGenerator, Writer, preset

__version__ = "0.2.0"

__all__ = [
    "POLICIES",
    "Cameras",
    "DiffusionGenerator",
    "Generation",
    "Generator",
    "Memory",
    "MemoryConfig",
    "Retrieval",
    "RetrievalConfig",
    "Spill",
    "Stage",
    "Step",
    "Surfels",
    "Views",
    "WalkConfig",
    "Warp",
    "WarpConfig",
    "Writer",
    "begin",
    "cameras",
    "forget",
    "load",
    "preset",
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

# On first use only, because a network, a plotting library or the made-up houses hang on them.
_LAZY_NAMES = dict.fromkeys(("DiffusionGenerator", "Writer", "preset"), "generation")
_LAZY_ROOMS = ("cli", "evaluation", "figures", "nets", "scenes", "widgets")


def __getattr__(name: str) -> Any:
    if name in _LAZY_NAMES:
        return getattr(import_module(f"vmemkit.{_LAZY_NAMES[name]}"), name)
    if name in _LAZY_ROOMS:
        return import_module(f"vmemkit.{name}")
    raise AttributeError(f"module 'vmemkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY_ROOMS})
