"""Depth of one photograph: by a network, or as the box of a room.

In: a photo and its intrinsics. Out: where a walk starts, a view with depth in metres that stands level
in the world, and one sentence that says what was assumed. A network's depth is in metres, or it is
inverse depth up to a scale and a shift; then the floor and the eye height give both.
Sources: Depth Anything V2 (Yang et al., NeurIPS 2024, arXiv 2406.09414), through transformers;
`scenes.fit_room` for the box.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import cameras, horizontal_fov, intrinsics, pixel_centres, pose, rays
from vmemkit.nets import weights
from vmemkit.nets.weights import (
    WEIGHTS,
    WeightFile,
    find,
    import_library,
    load_pretrained,
    silenced,
)
from vmemkit.scenes import (
    EYE_HEIGHT,
    PHOTO_FOV,
    Beginning,
    NoRoomError,
    depth_words,
    find_axes,
    fit_room,
    photo_view,
)

DEPTH_WEIGHTS = (
    "depth-metric",
    "depth-relative",
)  # entries of WEIGHTS; the first that is here counts
GUESSES = ("auto", "room")  # ways to depth without a file
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, as in training
SIDE = 518  # pixels: shorter side of the images that the network was trained on
MAX_ASPECT = 4.0  # longer side over SIDE: the network takes time with the square of the pixels
FARTHEST = 20.0  # metres: beyond a room, and what the metric network can say at most
SAMPLES, PAIRS = 4096, 2000  # pixels that the floor is fitted to, and pairs that propose floors
TOLERANCE = 0.02  # of the range of inverse depth: by how much it may miss the floor
BELOW = 3.0  # what a pixel below a floor costs, in pixels on it: nothing lies below a floor
MIN_FLOOR = 0.03  # share of the pixels that must lie on the floor
FLOOR_SLOPE = 0.05  # of a ray: down per unit of depth; floor that is seen at less is far away
NO_FLOOR = (
    "no floor is seen in this photo, which the metres of a relative depth come from: get the metric "
    "network with `vmemkit weights get depth-metric`, or use depth 'room' or a depth file"
)


@dataclass(frozen=True)
class DepthEstimator:
    """A network that sees depth in one photo, and what its numbers mean."""

    network: Callable[[Float[Tensor, "3 h w"]], Float[Tensor, "h2 w2"]]
    metric: bool  # whether it gives metres; else inverse depth, up to a scale and a shift
    name: str = "a network"

    def __call__(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h2 w2"]:
        """Depth or inverse depth of all that the image shows, at the network's resolution."""
        return self.network(image)


class DepthAnything:
    """Depth Anything V2 of transformers. Images are prepared here, as its processor does, because the
    processor needs torchvision."""

    def __init__(self, model: Any) -> None:
        """`model` is a `DepthAnythingForDepthEstimation`."""
        self.model = model
        self.patch = int(model.config.backbone_config.patch_size)
        self.side = min(SIDE, int(model.config.backbone_config.image_size))

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h2 w2"]:
        """Metres or inverse depth. The shorter side is SIDE, as in training."""
        h, w = image.shape[1:]
        scale = min(self.side / min(h, w), MAX_ASPECT * self.side / max(h, w))
        size = [max(1, round(scale * n / self.patch)) * self.patch for n in (h, w)]
        small = interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        pixels = (small.cpu().clamp(0, 1) - mean) / std
        depth = self.model(pixel_values=pixels.to(self.model.device)).predicted_depth
        # Whole patches have another format than the image: bring it back, without means across edges.
        exact = (max(1, round(scale * h)), max(1, round(scale * w)))
        return interpolate(depth[None].float().cpu(), exact, mode="nearest-exact")[0, 0]


def load_depth_anything(file: Path) -> DepthEstimator:
    """Depth Anything V2 from its weight file with its config.json beside it.

    Errors: ValueError for files that are missing, broken or of another model, and without transformers.
    """
    transformers = import_library("transformers")
    with silenced(transformers):
        model, _ = load_pretrained(
            transformers.DepthAnythingForDepthEstimation, file, torch.float32
        )
    metric = getattr(model.config, "depth_estimation_type", "relative") == "metric"
    kind = "metric" if metric else "relative"
    return DepthEstimator(DepthAnything(model), metric, f"Depth Anything V2 ({kind})")


def find_estimator(
    folder: str | os.PathLike | None = None,
    consent: Callable[[WeightFile], bool] = lambda entry: False,
    get: Callable[..., Path] = weights.download_weights,
) -> DepthEstimator:
    """The first of DEPTH_WEIGHTS that is on this machine, or after `consent` to its terms downloaded.

    folder: where to look besides the folders of VMEMKIT_WEIGHTS and the hub's cache.
    Errors: ValueError if there is none; it says how to get one.
    """
    for name in DEPTH_WEIGHTS:
        file = find(name, folder)
        if file is not None:
            return load_depth_anything(file)
    import_library("transformers")  # asked before a download that could not be used
    for name in DEPTH_WEIGHTS:
        if consent(WEIGHTS[name]):
            return load_depth_anything(get(name, folder))
    entry = WEIGHTS[DEPTH_WEIGHTS[0]]
    raise ValueError(
        f"depth 'auto' needs a network that is not on this machine: {entry.what}; {entry.size_text}; "
        f"{entry.terms}. Get it with `vmemkit weights get {entry.name}`, or let `vmemkit walk` do it "
        "with --yes. Without it, depth 'room' takes the photo for a box-shaped room"
    )


def start_from_photo(
    image: Float[Tensor, "3 h w"],
    size: tuple[int, int],
    depth: str | Float[Tensor, "h2 w2"] = "room",
    K: Float[Tensor, "3 3"] | None = None,
    eye_height: float = EYE_HEIGHT,
    estimator: DepthEstimator | None = None,
) -> Beginning:
    """Where a walk into a photo starts: a view (1,) of `size` (height, width) with depth in metres.

    depth: planar depth in metres, or one of GUESSES: "auto" asks `estimator` (by default
    `find_estimator()`), "room" takes the photo for a box-shaped room. Both place the view level in the
    world, as far as the photo's lines tell, and `about` says what they assumed.
    K: by default PHOTO_FOV degrees along the longer side. eye_height: metres from the floor to the camera.
    Errors: ValueError for another word, and as `photo_view`, `fit_room` and `find_estimator`.
    """
    aspect = image.shape[2] / image.shape[1]
    K = intrinsics(horizontal_fov(PHOTO_FOV, aspect), aspect) if K is None else K
    if isinstance(depth, Tensor):
        given = photo_view(image, depth, K, size)
        return Beginning(given, None, f"a photo with depth of {depth_words(given.depth)}")
    if depth not in GUESSES:
        raise ValueError(f"depth is [h w] in metres, or one of {', '.join(GUESSES)}, got {depth!r}")
    if depth == "room":
        room = fit_room(image, K, eye_height)
        return Beginning(room.view(image, size), None, room.about)
    return _estimated(image, size, K, eye_height, estimator or find_estimator())


def metres_from_floor(
    inverse: Float[Tensor, "h w"],
    K: Float[Tensor, "3 3"],
    rotation: Float[Tensor, "3 3"],
    eye_height: float = EYE_HEIGHT,
) -> Float[Tensor, "h w"]:
    """Planar depth in metres from inverse depth that lacks a scale and a shift.

    rotation: world_from_cam, with the world's y along gravity. On the floor, inverse depth is linear in
    how steeply a ray goes down, and nothing lies below it. So the floor is the line through most pixels
    with few below; its slope and offset are the scale and the shift. Depth ends at FARTHEST.
    Errors: ValueError where no floor is seen.
    """
    camera = cameras(pose(rotation, torch.zeros(3)), K)
    # How far a ray goes down per unit of depth; above the horizon nothing is known but the shift.
    down = rays(camera, pixel_centres(*inverse.shape))[..., 1].clamp(min=0).double()
    slope, offset = _floor_line(down.flatten(), inverse.double().flatten())
    nearness = (inverse.double() - offset) / (slope * eye_height)
    return (1 / nearness.clamp(min=1 / FARTHEST)).float()


def _floor_line(down: Float[Tensor, " n"], inverse: Float[Tensor, " n"]) -> tuple[float, float]:
    """Slope and offset of inverse depth on the floor. Errors: ValueError where no floor is seen."""
    some = torch.linspace(0, len(inverse) - 1, min(len(inverse), SAMPLES)).long()
    down, inverse = down[some], inverse[some]
    low, high = torch.quantile(inverse, inverse.new_tensor([0.02, 0.98])).tolist()
    tolerance = TOLERANCE * (high - low)
    steep = (down > FLOOR_SLOPE).nonzero()[:, 0]
    slope, offset = inverse.new_zeros(0), inverse.new_zeros(0)
    if len(steep) >= 2 and tolerance > 0:
        # The pairs are drawn from a stream of their own, so that the same photo gives the same depth.
        rng = torch.Generator().manual_seed(0)
        a, b = steep[torch.randint(len(steep), (2, PAIRS), generator=rng)]
        slope = (inverse[a] - inverse[b]) / (down[a] - down[b])
        possible = slope.isfinite() & (slope > 0)
        slope, offset = slope[possible], (inverse[a] - slope * down[a])[possible]
    if len(slope) == 0:
        raise ValueError(NO_FLOOR)
    above = inverse - slope[:, None] * down - offset[:, None]
    on_floor = (above.abs() < tolerance) & (down > FLOOR_SLOPE)
    score = on_floor.sum(1) - BELOW * (above < -tolerance).sum(1)
    best = int(score.argmax())
    floor = on_floor[best]
    if score[best] < MIN_FLOOR * len(inverse):
        raise ValueError(NO_FLOOR)
    # Least squares over the pixels on the floor.
    design = torch.stack([down[floor], torch.ones_like(down[floor])], -1)
    line = torch.linalg.lstsq(design, inverse[floor, None]).solution[:, 0]
    return float(line[0]), float(line[1])


def _estimated(
    image: Float[Tensor, "3 h w"],
    size: tuple[int, int],
    K: Float[Tensor, "3 3"],
    eye_height: float,
    estimator: DepthEstimator,
) -> Beginning:
    """The photo with the estimator's depth, level in the world if its lines show how."""
    depth = estimator(image)
    try:
        rotation = torch.from_numpy(find_axes(image, K).room_from_cam).float()
        stance = "the camera's tilt is from the photo's lines"
    except NoRoomError:
        rotation, stance = torch.eye(3), "the camera is taken to be level"
    scale = "in metres"
    if not estimator.metric:
        depth = metres_from_floor(depth, K, rotation, eye_height)
        scale = f"its metres are from the floor, seen from {eye_height:g} m above it"
    given = photo_view(image, depth, K, size, rotation)
    return Beginning(given, None, f"depth is estimated by {estimator.name}: {scale}; {stance}")
