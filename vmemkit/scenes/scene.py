"""The scene protocol: a world with known geometry that shows what any camera sees.

In: cameras. Out: true views with depth, and which points each camera really sees.

- `rooms(seed)`     a procedural house, exact from everywhere (house/)
- `panorama(image)` an equirectangular photograph, exact for cameras that turn about its centre
- `capture(views)`  a posed RGB-D recording, known at the recorded cameras only
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import Cameras, Views


@runtime_checkable
class Scene(Protocol):
    """A world with known geometry. Both methods raise ValueError for cameras it cannot show."""

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """What the cameras (t,) truly see: image and planar depth, marked as given."""
        ...

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        """Whether each point is in front of each camera, inside its image, and not occluded."""
        ...
