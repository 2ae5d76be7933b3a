"""Settings of the warp generator, shared by its splatting and its hole filling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmemkit.core import SurfelConfig


@dataclass(frozen=True)
class WarpConfig:
    """Settings of `Warp`. Errors: ValueError for an unknown `fill`."""

    occlusion: float = 0.03  # relative depth error up to which a view counts as seeing a point
    empty: float = 0.06  # relative depth by which a given view must see past a point to rule it out
    focus: float = 8.0  # exponent on sharpness: how far the sharpest view outweighs the others
    imagined: float = 1e-3  # weight of an imagined pixel's colour; a seen pixel's is 1
    edge: float = SurfelConfig.edge  # relative depth step from which a pixel lies on a depth edge
    scale: float = 2**0.5  # factor on the radii of the discs, as in `SplatConfig`
    fill: Literal["columns", "push_pull"] = "columns"  # how holes get their colour, see holes.py
    crack: float = 0.01  # share of unknown pixels up to which holes are smoothed over as cracks
    rim: float = 0.06  # share of the image width: reach around a hole in which `nearer` is tested
    nearer: float = 0.9  # share of a hole's depth: surfaces closer than this lend it no colour

    def __post_init__(self) -> None:
        if self.fill not in ("columns", "push_pull"):
            raise ValueError(f"fill is columns or push_pull, got {self.fill!r}")
