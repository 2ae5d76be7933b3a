"""Reconstruction as a stage: what a reconstructor is, what it returns, and how one is run.

A `Reconstructor` is any callable that takes views and returns them with depth and confidence.
If it depends on the memory, it has a method `with_memory(memory)`, which returns such a callable. If
it reports on each view or continues from a state, it returns a `Reconstruction`. The memory keeps the
state, so that it is undone and forked with the memory.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from vmemkit.core import Views, with_confidence
from vmemkit.memory import Memory


@dataclass(frozen=True)
class Report:
    """How the geometry of one view was found, and whether to trust it."""

    scale: float  # world units per unit of the network; NaN if it is unknown
    shift: float = 0.0  # added to the scaled depth, world units
    inliers: float = 0.0  # share of the compared pixels that the result explains
    overlap: float = 0.0  # share of the view's pixels whose depth the memory knows
    residual: float = float("nan")  # median |depth / the memory's depth - 1| over the overlap
    warning: str = ""  # what is wrong; empty if nothing is
    trusted: bool = True  # False: better not written to the memory


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """Views (t,) with depth and confidence, and what else a reconstructor may return."""

    views: Views
    reports: tuple[Report, ...] = ()  # one per view, or none
    state: Any = None  # from which the reconstructor continues at the next step

    def __repr__(self) -> str:
        warnings = "; ".join(sorted({r.warning for r in self.reports if r.warning}))
        return f"Reconstruction({self.views}, reports={len(self.reports)}, warnings={warnings!r})"


@runtime_checkable
class Reconstructor(Protocol):
    def __call__(self, views: Views) -> Views | Reconstruction: ...


@runtime_checkable
class SeesMemory(Protocol):
    """A reconstructor that depends on the memory."""

    def with_memory(self, memory: Memory) -> Reconstructor: ...


def reconstruct(reconstructor: Reconstructor, memory: Memory, views: Views) -> Reconstruction:
    """Run a reconstructor of any kind on new views, which the memory does not hold yet.

    Where it gives no confidence, every known depth is trusted (1).
    Errors: ValueError from the reconstructor, and if it returns no views with depth.
    """
    if isinstance(reconstructor, SeesMemory):
        reconstructor = reconstructor.with_memory(memory)
    result = reconstructor(views)
    if isinstance(result, Views):
        result = Reconstruction(result)
    if not isinstance(result, Reconstruction):
        raise ValueError(
            f"a reconstructor returns Views or a Reconstruction, got {type(result).__name__}"
        )
    return dataclasses.replace(result, views=with_confidence(result.views))


def from_depth(views: Views) -> Views:
    """The views themselves: their own depth is trusted. Errors: ValueError for views without it."""
    if views.depth is None or bool(views.depth.isnan().all()):
        raise ValueError(
            "these views carry no depth: use a generator that makes it, `generation.with_depth`, or "
            "another reconstructor"
        )
    return views


def oracle(scene) -> Reconstructor:
    """A reconstructor that renders the true depth of `scene` from the views' cameras."""

    def render(views: Views) -> Views:
        truth = scene.render(views.cameras, *views.image.shape[2:])
        return views.replace(depth=truth.depth, confidence=None)

    return render
