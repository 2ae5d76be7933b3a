"""Reconstruction: the geometry of views, as point maps.

A `Reconstructor` is any callable `(views) -> PointMaps` over the views' own pixels.
`from_depth` trusts the depth that a generator made; `oracle(scene)` knows the scene's exact
geometry, for teaching.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vmemkit.surfels import PointMaps
from vmemkit.views import Views


@runtime_checkable
class Reconstructor(Protocol):
    def __call__(self, views: Views) -> PointMaps: ...


def from_depth(views: Views) -> PointMaps:
    """Point maps from the views' own depth. Errors: ValueError for views without depth."""
    if views.depth is None or bool(views.depth.isnan().all()):
        raise ValueError(
            "these views carry no depth: use a generator that makes it, `generate.with_depth`, or "
            "another reconstructor"
        )
    return PointMaps.from_depth(views.cameras, views.depth, views.confidence)


def oracle(scene) -> Reconstructor:
    """A reconstructor that renders the true depth of `scene` from the views' cameras."""

    def reconstruct(views: Views) -> PointMaps:
        truth = scene.render(views.cameras, *views.image.shape[2:])
        return PointMaps.from_depth(views.cameras, truth.depth)

    return reconstruct
