"""Lens distortion: its models, and images and depth without it.

In: the coefficients of a lens. Out: images as a pinhole would have taken them. Every pixel of the
result was recorded: K is kept where that is so. Where the pinhole with that K would look past the
border of the recorded image, its focal length grows until it does not, because a view cannot say which
of its colours are unknown.
Sources: the camera models of OpenCV (calib3d, fisheye) and COLMAP (src/colmap/sensor/models.h), which
agree in their formulas. Their pixels differ: COLMAP's and ours count from the image's corner, OpenCV's
from the centre of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Shaped
from torch import Tensor

from vmemkit.scenes.readers.checks import MAX_NUMBER

POLYNOMIAL = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # in OpenCV's order
FISHEYE = ("k1", "k2", "k3", "k4")
# COLMAP's models: how many focal lengths they have, and their coefficients in the file's order.
COLMAP_MODELS: dict[str, tuple[int, tuple[str, ...], bool]] = {
    "SIMPLE_PINHOLE": (1, (), False),
    "PINHOLE": (2, (), False),
    "SIMPLE_RADIAL": (1, ("k1",), False),
    "RADIAL": (1, ("k1", "k2"), False),
    "OPENCV": (2, ("k1", "k2", "p1", "p2"), False),
    "FULL_OPENCV": (2, POLYNOMIAL, False),
    "OPENCV_FISHEYE": (2, FISHEYE, True),
    "SIMPLE_RADIAL_FISHEYE": (1, ("k1",), True),
    "RADIAL_FISHEYE": (1, ("k1", "k2"), True),
    "SIMPLE_FISHEYE": (1, (), True),
    "FISHEYE": (2, (), True),
}
MAX_ZOOM = 4.0  # a lens that needs more to be undone is described wrongly
MAX_SIDE = 32_000  # pixels: OpenCV counts them in 16 bits
STEPS = 12  # halvings that find the zoom to a thousandth
RADII, SIDE = 24, 25  # points at which the formula is looked at: along each ray, along each border
TOLERANCE = 0.5  # pixels beyond the border that count as on it


@dataclass(frozen=True)
class Distortion:
    """Coefficients of a lens: POLYNOMIAL, or FISHEYE, which bends by the angle from the axis."""

    fisheye: bool
    coefficients: tuple[float, ...]

    def __str__(self) -> str:
        """Its model and the coefficients that are not 0."""
        names = FISHEYE if self.fisheye else POLYNOMIAL
        values = zip(names, self.coefficients, strict=True)
        words = ", ".join(f"{name} = {value:.4g}" for name, value in values if value)
        return f"{'fisheye' if self.fisheye else 'polynomial'} ({words or 'equidistant'})"


def distortion(fisheye: bool, **coefficients: float) -> Distortion | None:
    """The distortion of these coefficients; None for a pinhole without any."""
    names = FISHEYE if fisheye else POLYNOMIAL
    values = tuple(float(coefficients.get(name, 0.0)) for name in names)
    return Distortion(fisheye, values) if fisheye or any(values) else None


def pinhole_zoom(
    lens: Distortion, K: Float[Tensor, "3 3"], size: tuple[int, int], where: str
) -> float:
    """The factor, 1 or more, of the focal length with which every pixel of the pinhole was recorded.

    `size` is (height, width). Errors: ValueError that begins with `where` for a lens that no factor up
    to MAX_ZOOM undoes.
    """
    zoom = _zoom(lens, tuple(K.double().flatten().tolist()), size)
    if zoom is None:
        raise ValueError(
            f"{where}: the lens distortion {lens} cannot be undone, because its formula leaves the "
            "image or folds it over: check the coefficients, or undistort the images first"
        )
    return zoom


def zoomed(K: Float[Tensor, "*b 3 3"], zoom: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    """K with longer focal lengths."""
    longer = K.clone()
    longer[..., 0, 0] *= zoom
    longer[..., 1, 1] *= zoom
    return longer


def undistorted(
    plane: Shaped[Tensor, "*c h w"], lens: Distortion, K: Float[Tensor, "3 3"], zoom: float
) -> Shaped[Tensor, "*c h w"]:
    """An image (3 h w), or depth (h w), as the pinhole of `zoomed(K, zoom)` would have taken it.

    Colours are interpolated. Depth is planar, so it stays what it is, and is taken from the nearest
    pixel, because a mean across an edge would be in mid-air.
    Errors: ValueError for more than MAX_SIDE pixels a side.
    """
    import cv2  # loaded here, because it takes a tenth of the package's import time

    height, width = plane.shape[-2:]
    if max(height, width) > MAX_SIDE:
        raise ValueError(
            f"lens distortion is undone in images of up to {MAX_SIDE} pixels a side, got {width} x "
            f"{height}: resize the images first"
        )
    columns, rows = _maps(lens, tuple(K.double().flatten().tolist()), (height, width), zoom)
    if plane.ndim == 2:
        nearest = cv2.remap(
            plane.numpy(), columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        return torch.from_numpy(nearest)
    smooth = np.empty(plane.shape, np.float32)
    for channel, straight in zip(plane.numpy(), smooth, strict=True):
        cv2.remap(
            np.ascontiguousarray(channel),
            columns,
            rows,
            cv2.INTER_CUBIC,
            dst=straight,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return torch.from_numpy(smooth).clamp_(0, 1)


def _pixel_matrix(K: tuple[float, ...], size: tuple[int, int]) -> Float64[np.ndarray, "3 3"]:
    """K in pixels as OpenCV counts them: the centre of the first pixel is 0, 0."""
    h, w = size
    return np.array(
        [[K[0] * w, 0, K[2] * w - 0.5], [0, K[4] * h, K[5] * h - 0.5], [0, 0, 1]], np.float64
    )


@lru_cache(maxsize=1)  # the frames of a recording mostly share one lens
def _maps(
    lens: Distortion, K: tuple[float, ...], size: tuple[int, int], zoom: float
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Where each pixel of the pinhole lies in the recorded image: columns and rows."""
    import cv2

    matrix = _pixel_matrix(K, size)
    longer = matrix.copy()
    longer[[0, 1], [0, 1]] *= zoom
    coefficients, shape = np.array(lens.coefficients), (size[1], size[0])
    make = cv2.fisheye.initUndistortRectifyMap if lens.fisheye else cv2.initUndistortRectifyMap
    return make(matrix, coefficients, np.eye(3), longer, shape, cv2.CV_32FC1)


@lru_cache(maxsize=256)
def _zoom(lens: Distortion, K: tuple[float, ...], size: tuple[int, int]) -> float | None:
    """As `pinhole_zoom`; None where no factor does."""
    if _is_recorded(lens, K, size, 1.0):
        return 1.0
    least, most = 1.0, MAX_ZOOM
    if not _is_recorded(lens, K, size, most):
        return None
    for _ in range(STEPS):
        middle = (least + most) / 2
        least, most = (least, middle) if _is_recorded(lens, K, size, middle) else (middle, most)
    return most


def _is_recorded(
    lens: Distortion, K: tuple[float, ...], size: tuple[int, int], zoom: float
) -> bool:
    """Whether the pinhole's border lies in the recorded image, and nothing inside it is folded."""
    import cv2

    (h, w), matrix = size, _pixel_matrix(K, size)
    along = np.linspace(-0.5, 0.5, SIDE)
    sides = [(along, np.full(SIDE, end)) for end in (-0.5, 0.5)]
    border = np.concatenate([np.stack(side, -1) for x, y in sides for side in ((x, y), (y, x))])
    border = (border + 0.5) * [w, h] - 0.5  # from the image's outer edge
    rays = (border - matrix[:2, 2]) / (zoom * matrix[[0, 1], [0, 1]])
    shares = np.linspace(0, 1, RADII + 1)[1:, None, None]
    points = np.concatenate([shares * rays, np.ones((RADII, len(rays), 1))], -1).reshape(-1, 1, 3)
    nothing, coefficients = np.zeros(3), np.array(lens.coefficients)
    project = cv2.fisheye.projectPoints if lens.fisheye else cv2.projectPoints
    pixels = project(points, nothing, nothing, matrix, coefficients)[0]
    pixels = pixels.reshape(RADII, len(rays), 2)
    if not np.abs(pixels).max() < MAX_NUMBER:
        return False
    inside = (pixels[-1] >= -0.5 - TOLERANCE) & (pixels[-1] <= np.array([w, h]) - 0.5 + TOLERANCE)
    # Outwards along a ray, the place in the recorded image must go outwards, too.
    outwards = np.diff((pixels - matrix[:2, 2]) * rays, axis=0).sum(-1) > 0
    return bool(inside.all() and outwards.all())
