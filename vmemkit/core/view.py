"""Views: images with their cameras and, where known, their depth.

In: tensors. Out: `Views`, in the conventions of camera.py. Values are checked here, so that no later
stage has to: images are finite in [0, 1], depth is positive or NaN. Infinite depth is the sky.
Because K is for a 1 x 1 image, resizing leaves cameras alone and only cropping changes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from vmemkit.core.camera import SKY_FROM, Cameras, check_cameras, in_camera_axes, project
from vmemkit.core.conversions import as_tensor
from vmemkit.core.image_files import check_size, images_in_range
from vmemkit.core.kernels import PATCH, accelerated
from vmemkit.core.structs import TensorStruct, convert_fields

SATURATED = (65535.0, 65.535)  # the largest depth of 16 bits: in steps, and in metres of 0.001 each
LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B in luminance (ITU-R BT.601)
SAME_SURFACE = 0.05  # share of the depth within which two depths are of one surface
CODES = {"latent": 4, "embedding": 2}  # optional columns of a generator, and their number of axes


@dataclass(frozen=True, repr=False)
class Views(TensorStruct):
    """Images with cameras. `given` is True where a view was given by the user, not generated."""

    cameras: Cameras  # (t,)
    image: Float[Tensor, "t 3 h w"]  # in [0, 1]
    given: Bool[Tensor, " t"]
    # Planar, world units; > 0; NaN where unknown, infinity where nothing is met (sky).
    depth: Float[Tensor, "t h w"] | None = None
    confidence: Float[Tensor, "t h w"] | None = None  # >= 1 is trusted
    # Codes that a generator made of the images, so that none is encoded twice; NaN where missing.
    latent: Float[Tensor, "t c hl wl"] | None = None
    embedding: Float[Tensor, "t d"] | None = None

    def __post_init__(self) -> None:
        """Arrays and lists become tensors. Errors: ValueError for anything else."""
        names = ("image", "given", "depth", "confidence")
        convert_fields(self, [n for n in names if getattr(self, n) is not None], "views'")


def views(
    image: Float[Tensor, "t 3 h w"],
    cameras: Cameras,
    depth: Float[Tensor, "t h w"] | None = None,
    confidence: Float[Tensor, "t h w"] | None = None,
    given: bool | Bool[Tensor, " t"] = True,
) -> Views:
    """Checked views of `cameras` (t,), as float32.

    Images may be tensors, arrays or Pillow images; bytes are shares of 255. Depth is planar, NaN where
    unknown, and infinite where nothing is met; `with_sky` says which other values mean that.
    Errors: ValueError for images that are not finite in [0, 1], depth that is neither positive nor
    NaN, confidence that is negative or not finite, cameras that `check_cameras` refuses, and sizes
    that do not agree.
    """
    image = images_in_range(image)
    depth = None if depth is None else as_tensor(depth, "depth").to(image.device)
    confidence = None if confidence is None else as_tensor(confidence, "confidence")
    t, _, h, w = image.shape
    if check_cameras(cameras).world_from_cam.shape[:-2] != (t,):
        got = list(cameras.world_from_cam.shape[:-2])
        raise ValueError(f"{t} images need {t} cameras (one axis), got cameras of shape {got}")
    for name, plane in (("depth", depth), ("confidence", confidence)):
        if plane is not None and plane.shape != (t, h, w):
            raise ValueError(f"{name} must be [t h w] = {[t, h, w]}, got {list(plane.shape)}")
    if depth is not None and not bool(((depth > 0) | depth.isnan()).all()):
        raise ValueError(
            "depth must be positive, NaN where unknown, or infinite where nothing is met: set other "
            "values to NaN"
        )
    if confidence is not None and not bool((confidence.isfinite() & (confidence >= 0)).all()):
        raise ValueError("confidence must be finite and not negative: use 0 for no trust")
    flags = torch.as_tensor(given, dtype=torch.bool, device=image.device)
    if flags.shape not in ((), (t,)):
        raise ValueError(f"given must be one bool or [t] = [{t}] bools, got {list(flags.shape)}")
    return Views(
        cameras=cameras,
        image=image,
        given=flags.expand(t),
        depth=None if depth is None else with_sky(depth.float()),
        confidence=None if confidence is None else confidence.float(),
    )


def with_sky(depth: Float[Tensor, "*t h w"]) -> Float[Tensor, "*t h w"]:
    """The depth with infinity where a file or a renderer says that nothing is met: from 1e10 on, and
    at the largest value of 16 bits (65535, or 65.535 as metres).

    Such pixels have a direction and no place. They make no surfel and hide nothing.
    """
    saturated = torch.zeros_like(depth, dtype=torch.bool)
    for most in SATURATED:  # with room for rounding of the unit
        saturated |= (depth - most).abs() <= 2e-7 * most
    return torch.where(saturated | (depth >= SKY_FROM), torch.inf, depth)


def resize(views: Views, height: int, width: int) -> Views:
    """The views at another resolution; K stays, since it is for a 1 x 1 image.

    Images are filtered against aliasing. Depth and confidence take the nearest pixel, because a
    mean across an edge would be a point in mid-air.
    """
    check_size(height, width)

    def nearest(plane: Float[Tensor, "t h w"]) -> Float[Tensor, "t h2 w2"]:
        # "exact" is the variant that agrees with pixel centres at + 0.5
        return functional.interpolate(plane[None], (height, width), mode="nearest-exact")[0]

    return views.replace(
        image=functional.interpolate(
            views.image, (height, width), mode="bilinear", antialias=True, align_corners=False
        ).clamp(0, 1),
        depth=None if views.depth is None else nearest(views.depth),
        confidence=None if views.confidence is None else nearest(views.confidence),
        latent=None,  # the codes belong to the original images
        embedding=None,
    )


def crop(views: Views, top: int, left: int, height: int, width: int) -> Views:
    """A rectangle of every view, in pixels, with K changed to match.

    Errors: ValueError for a rectangle that is empty or reaches over the border.
    """
    h, w = views.image.shape[-2:]
    if not (0 <= top < top + height <= h and 0 <= left < left + width <= w):
        raise ValueError(
            f"crop needs a rectangle inside the image of {h} x {w} pixels (height x width), got "
            f"{height} x {width} at row {top}, column {left}"
        )
    crop_from_image = views.cameras.K.new_tensor(
        [[w / width, 0, -left / width], [0, h / height, -top / height], [0, 0, 1]]
    )

    def cut(tensor: Shaped[Tensor, "*b h w"]) -> Shaped[Tensor, "*b h2 w2"]:
        return tensor[..., top : top + height, left : left + width]

    return views.replace(
        cameras=views.cameras.replace(K=crop_from_image @ views.cameras.K),
        image=cut(views.image),
        depth=None if views.depth is None else cut(views.depth),
        confidence=None if views.confidence is None else cut(views.confidence),
        latent=None,  # the codes belong to the original images
        embedding=None,
    )


def crop_to_aspect(views: Views, aspect: float) -> Views:
    """The largest central crop whose width / height is `aspect`, to the pixel."""
    if not (math.isfinite(aspect) and aspect > 0):
        raise ValueError(f"aspect is width / height, positive and finite, got {aspect}")
    h, w = views.image.shape[-2:]
    height = min(h, max(1, round(w / aspect)))
    width = min(w, max(1, round(h * aspect)))
    return crop(views, (h - height) // 2, (w - width) // 2, height, width)


def with_confidence(views: Views) -> Views:
    """The views with a confidence: their own, or 1 everywhere. Errors: ValueError without depth."""
    if views.depth is None:
        raise ValueError(
            "views need depth to be remembered: render them from a scene, load it with "
            "vmemkit.core.load_depth, or estimate it with a reconstructor"
        )
    if views.confidence is not None:
        return views
    return views.replace(confidence=torch.ones_like(views.depth))


def surface_at(
    view: Views, points_world: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The depth of points in a view (1,), and the depth that it shows at their pixels.

    The second is NaN where that is unknown, and for points outside the image and behind the camera.
    """
    [uv], [depth] = project(view.cameras, points_world[None])
    inside = (depth > 0) & (uv >= 0).all(-1) & (uv < 1).all(-1)
    h, w = view.depth.shape[1:]
    column, row = (torch.where(inside[:, None], uv, 0) * uv.new_tensor([w, h])).long().unbind(-1)
    return depth, torch.where(inside, view.depth[0, row, column], torch.nan)


def seen_through(
    views: Views,
    points_world: Float[Tensor, "n 3"],
    margin: float,
    asked: Bool[Tensor, " t"] | None = None,
    far: Float[Tensor, "t i j"] | None = None,
) -> Bool[Tensor, " n"]:
    """Whether some view looks through each point, and so shows that nothing is there.

    It does where it sees a surface behind the point, by more than the share `margin` of the
    surface's depth. `asked` are the views that count, all of them by default. `far` (`far_depths` of
    the views) saves time where runs of 256 points are close together, and changes nothing.
    Errors: ValueError for views without depth.
    """
    if views.depth is None:
        raise ValueError("views without depth cannot tell what they look through: give them depth")
    return _seen_through(points_world, views.cameras, views.depth, asked, margin, far)


def far_depths(depth: Float[Tensor, "t h w"]) -> Float[Tensor, "t i j"]:
    """The greatest known depth in each patch of 16 x 16 pixels, 0 where none is known: the last
    patches may be smaller."""
    if depth.numel() == 0:  # torch pools no empty images
        t, h, w = depth.shape
        return depth.new_zeros(t, -(-h // PATCH), -(-w // PATCH))
    known = torch.where(depth.isnan(), 0, depth)
    return functional.max_pool2d(known[:, None], PATCH, ceil_mode=True)[:, 0]


@accelerated
def _seen_through(
    points_world: Float[Tensor, "n 3"],
    cameras: Cameras,
    depth: Float[Tensor, "t h w"],
    asked: Bool[Tensor, " t"] | None,
    margin: float,
    far: Float[Tensor, "t i j"] | None,
) -> Bool[Tensor, " n"]:
    through = torch.zeros(len(points_world), dtype=torch.bool, device=points_world.device)
    for i in range(len(depth)) if asked is None else asked.nonzero()[:, 0].tolist():
        # The nearest depth of the 3 x 3 pixels around, so that no point at a silhouette counts.
        # Unknown depth blocks the view.
        inverse = (1 / depth[i : i + 1]).nan_to_num(nan=torch.inf)
        nearest = functional.max_pool2d(inverse, 3, stride=1, padding=1)[0]
        through |= _looks_through(points_world, cameras[i], nearest, margin)
    return through


@accelerated
def _looks_through(
    points_world: Float[Tensor, "n 3"],
    camera: Cameras,
    inverse_depth: Float[Tensor, "h w"],
    margin: float,
) -> Bool[Tensor, " n"]:
    """Whether one camera, without a batch axis, looks through each point."""
    (h, w), K = inverse_depth.shape, camera.K
    x, y, depth = in_camera_axes(points_world - camera.position, camera.rotation)
    u, v = x / depth * K[0, 0] + K[0, 2], y / depth * K[1, 1] + K[1, 2]
    inside = (depth > 0) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    row = (torch.where(inside, v, 0) * h).long()
    column = (torch.where(inside, u, 0) * w).long()
    return inside & (inverse_depth[row, column] * depth < 1 - margin)
