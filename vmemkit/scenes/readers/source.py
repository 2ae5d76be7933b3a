"""Source: what a reader found at a path, before any image is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras
from vmemkit.scenes.readers.lenses import Distortion

ARBITRARY = "unknown: positions have a unit of their own"
METRES = "metres"
STAND_IN_FOV = 60.0  # degrees: of cameras whose lens is not known
AXES = {"opencv": "OpenCV's camera axes", "opengl": "OpenGL's camera axes (y up, z back)"}


@dataclass(frozen=True)
class Source:
    """Cameras (t,) in the order in which they were taken, and what belongs to them.

    Tuples have one entry for each camera, or none at all.
    """

    what: str  # the format, as words
    cameras: Cameras
    lens_known: bool = True  # if not, the K of the cameras only holds its place
    sizes: tuple[tuple[int, int], ...] = ()  # (height, width) in pixels that the lens is for
    images: tuple[Path, ...] = ()
    video: Path | None = None  # in place of images
    frames: tuple[int, ...] = ()  # of the video, that of each camera
    frame_count: int | None = None  # that the video must have
    names: tuple[str, ...] = ()  # of the images, by which they are found elsewhere
    depths: tuple[Path | None, ...] = ()
    masks: tuple[Path | None, ...] = ()  # images that are black where depth is to be ignored
    distortions: tuple[Distortion | None, ...] = ()
    times: tuple[float, ...] = ()  # seconds
    depth_unit: float | None = None  # metres per step of the depth files, None for their usual one
    # Reads a depth file that `core.load_depth` does not know: planar depth in metres.
    read_depth: Callable[[Path], Float[Tensor, "h w"]] | None = None
    points: Float[Tensor, "n 3"] | None = None  # world, of a sparse reconstruction
    axes: str = AXES["opencv"]  # those of the file
    scale: str = ARBITRARY
    notes: tuple[str, ...] = ()  # what was converted, left out or assumed, as sentences
