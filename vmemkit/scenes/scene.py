"""Scenes: worlds that can be looked at from where one likes, to be walked, taught with and measured.

In: cameras. Out: views as they truly are, with depth; and which points a camera truly sees.

- `rooms(seed)`        a procedural house: exact from everywhere (rooms.py, houses.py, finishes.py).
- `panorama(image)`    an equirectangular photograph: exact for cameras that turn about its centre.
- `capture(views)`     a posed RGB-D recording: known at the recorded cameras only.

`load_capture` and `save_capture` read and write recordings as folders with a nerfstudio
transforms.json (docs.nerf.studio, data conventions).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import Cameras, Views


@runtime_checkable
class Scene(Protocol):
    """A world with known geometry. Both verbs raise ValueError for cameras it knows nothing of."""

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """What the cameras (t,) truly see: image and planar depth, `given`."""
        ...

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera, inside its image, and not occluded."""
        ...
