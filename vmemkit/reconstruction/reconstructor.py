"""Reconstruction as a stage: what a reconstructor is, what it returns, and how one is run.

A `Reconstructor` is any callable `(views) -> views with depth and confidence`. One that needs
to know what is remembered has a method `seeing(memory)`, which returns such a callable; one that has
more to say than point maps returns a `Reconstruction`: a report per view, and a state, which the
memory keeps, so that it is undone and forked with the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from vmemkit.core import Views
from vmemkit.memory import Memory


@dataclass(frozen=True)
class Report:
    """How the geometry of one view was brought into the world."""

    scale: float  # world units per unit of the network; NaN where nothing told it
    shift: float = 0.0  # that was added to depth, world units
    inliers: float = 0.0  # share of what was compared that the result explains
    overlap: float = 0.0  # share of the view that the memory knew
    residual: float = float("nan")  # median |depth / memory's - 1| over the overlap
    warning: str = ""  # what is wrong with it; empty if nothing
    trusted: bool = True  # False: better not remembered


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """Point maps of t views, with a report of each, and what to go on from."""

    views: Views
    reports: tuple[Report, ...] = ()
    state: Any = None

    def __repr__(self) -> str:
        warnings = "; ".join(sorted({r.warning for r in self.reports if r.warning}))
        return f"Reconstruction({self.views}, reports={len(self.reports)}, warnings={warnings!r})"


@runtime_checkable
class Reconstructor(Protocol):
    def __call__(self, views: Views) -> Views | Reconstruction: ...


@runtime_checkable
class SeesMemory(Protocol):
    """A reconstructor that depends on what is remembered."""

    def seeing(self, memory: Memory) -> Reconstructor: ...


def reconstruct(reconstructor: Reconstructor, memory: Memory, views: Views) -> Reconstruction:
    """What a reconstructor of any kind makes of new views, beside what is remembered.

    Errors: ValueError from the reconstructor, and where it returns something else.
    """
    if isinstance(reconstructor, SeesMemory):
        reconstructor = reconstructor.seeing(memory)
    made = reconstructor(views)
    if isinstance(made, Views):
        return Reconstruction(made)
    if not isinstance(made, Reconstruction):
        raise ValueError(
            f"a reconstructor returns Views or a Reconstruction, got {type(made).__name__}"
        )
    return made


def from_depth(views: Views) -> Views:
    """The views themselves: their own depth is trusted. Errors: ValueError for views without it."""
    if views.depth is None or bool(views.depth.isnan().all()):
        raise ValueError(
            "these views carry no depth: use a generator that makes it, `with_depth`, or "
            "another reconstructor"
        )
    return views


def oracle(scene) -> Reconstructor:
    """A reconstructor that renders the true depth of `scene` from the views' cameras."""

    def render(views: Views) -> Views:
        truth = scene.render(views.cameras, *views.image.shape[2:])
        return views.replace(depth=truth.depth, confidence=torch.ones_like(truth.depth))

    return render
