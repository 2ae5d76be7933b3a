"""Reconstructors: the geometry of views, as point maps. What one is stands in reconstruction.py.

`from_depth` trusts the depth that a generator made; `oracle(scene)` knows the scene's exact
geometry, for teaching; `cut3r()` estimates it with the published network (cut3r.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vmemkit.core import PointMaps, Views
from vmemkit.reconstruction import Reconstructor

if TYPE_CHECKING:
    from vmemkit.cut3r import Cut3r


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

    def render(views: Views) -> PointMaps:
        truth = scene.render(views.cameras, *views.image.shape[2:])
        return PointMaps.from_depth(views.cameras, truth.depth)

    return render


def cut3r(file: str | os.PathLike | None = None, **how: Any) -> Cut3r:
    """CUT3R with the published weights: those of `file`, or of where `weights.find` looks.

    how: fields of `cut3r.Cut3r`, such as align="released"; `config` and `device` of `cut3r_input.load`.
    Errors: ValueError for weights that are missing (with how to get them), damaged, or of another
    network than their own description and `config` say.
    """
    from vmemkit import (
        cut3r,  # and SciPy, which only this needs
        cut3r_input,
    )

    loading = {name: how.pop(name) for name in ("config", "device") if name in how}
    return cut3r.Cut3r(cut3r_input.load(file, **loading), **how)
