"""CUT3R as a reconstructor: depth per pixel of each new view, in the world of known cameras.

In: the memory and new views. Each image goes through the network (nets/cut3r) once. The memory
keeps the network's state, so that the steps of a long walk cost no more than those of a short one.
Depth comes in the network's own unit. `align` chooses where its scale in the world comes from:
- `direct`: from the depth of the memory's surfels in the same camera, which also gives a shift
  (depth_fit.py); the default, and beyond VMem;
- `released`, `full`: from the poses that the network's points imply (alignment.py), as in VMem's
  and in CUT3R's code;
- `none`: from nowhere, for comparison: the network's unit counts as the world's.
Every view gets a `Report`. If PnP fails or a scale is far off, the released code continues without
a warning. Here the report warns, and by default such a view adds no surfels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import (
    Boxes,
    Cameras,
    Surfels,
    Views,
    cat,
    in_image,
    pixel_centres,
    project,
    runs_in_sight,
    runs_to_test,
    splat,
    surfels_in_runs,
)
from vmemkit.memory import Memory
from vmemkit.nets.cut3r import CUT3R, CUT3RConfig, CUT3RPrediction, Head, check_model_string
from vmemkit.nets.weights import load_into, read, require, training_settings
from vmemkit.reconstruction import alignment
from vmemkit.reconstruction.cut3r_images import NetworkCrop, prepare_images, sample, sample_depth
from vmemkit.reconstruction.depth_fit import DepthFit, FitConfig, fit_depth
from vmemkit.reconstruction.pnp import (
    AlignConfig,
    PoseMatches,
    Predictions,
    has_baseline,
    planar_depth,
    register,
)
from vmemkit.reconstruction.reconstructor import Reconstruction, Report

LAYER = 0.2  # thickness of a noisy surface, as a share of its depth
Align = Literal["direct", "released", "full", "none"]
Failures = Literal["distrust", "keep", "stop"]

# Warnings of reports.
NO_OVERLAP = "no overlap with the memory"
NO_BASELINE = "no baseline that tells the scale"
NO_PNP = "PnP failed"
ODD_SCALE = "implausible scale"
POOR_FIT = "poor fit"


@runtime_checkable
class Network(Protocol):
    """What the reconstructor needs of a network; `nets.cut3r.CUT3R` has it."""

    config: CUT3RConfig

    @property
    def device(self) -> torch.device: ...

    @property
    def fingerprint(self) -> str: ...  # networks of the same one go on with each other's states

    def begin(self, batch: int = 1) -> Any: ...

    def step(
        self, state: Any, image: Float[Tensor, "1 3 h w"], heads: Collection[Head]
    ) -> tuple[Any, CUT3RPrediction]: ...


@dataclass(frozen=True, repr=False)
class VisibleSurfels:
    """Centres of the surfels that one camera sees."""

    uv: Float[Tensor, "1 n 2"]  # image points in [0, 1]
    depth: Float[Tensor, "1 n"]  # planar, world units
    share: float  # share of the image's pixels, at a coarse resolution, that show a surfel


@dataclass(frozen=True, repr=False)
class Cut3rState:
    """What the next step needs to know of all views of a memory."""

    source: str  # the fingerprint of the network that made `network`
    network: object  # its state after the last view
    scale: float | None = None  # the last plausible one; world units per unit of the network
    # Only for `released` and `full`: the prediction of the first view, and the poses of the others.
    anchor: Predictions | None = None
    matches: PoseMatches | None = None

    def __repr__(self) -> str:
        return f"Cut3rState({self.network}, scale={self.scale})"

    def to(self, network: torch.device, memory: torch.device) -> Cut3rState:
        """The state beside a network and a memory, which may lie on two devices."""
        return replace(
            self,
            anchor=None if self.anchor is None else self.anchor.to(network),
            matches=None if self.matches is None else self.matches.to(memory),
        )


@dataclass(frozen=True, repr=False)
class Cut3r:
    """A reconstructor that depends on the memory. `cut3r()` makes one with published weights."""

    network: Network
    align: Align = "direct"
    shift: bool = True  # whether `direct` fits a shift besides the scale
    # A view whose report is not trusted gets confidence 0 and so adds no surfels ("distrust"), is
    # used all the same, as in the released code ("keep"), or raises a ValueError ("stop").
    failures: Failures = "distrust"
    plausible: float = 1.5  # factor by which a scale may differ from the last one or the memory's
    min_inliers: float = 0.3  # share of inliers that a fit or PnP needs
    min_baseline: float = 0.05  # for `released` and `full`: camera motion, as a share of the depth
    max_mismatch: float = 0.3  # for the same: `pose_mismatch` of the known and the implied poses
    rows: int = 96  # image rows at which the memory is rendered for comparison
    fit: FitConfig = field(default_factory=FitConfig)
    optimiser: AlignConfig = field(default_factory=AlignConfig)
    memory: Memory | None = None  # the memory that new views follow; set by `with_memory`

    def __post_init__(self) -> None:
        for name, choices in (("align", get_args(Align)), ("failures", get_args(Failures))):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        if not (self.plausible > 1 and 0 <= self.min_inliers <= 1 and self.rows >= 1):
            raise ValueError(
                "need plausible > 1, min_inliers in [0, 1] and rows >= 1, got "
                f"{self.plausible}, {self.min_inliers} and {self.rows}"
            )

    def __repr__(self) -> str:
        return f"Cut3r(align={self.align!r}, failures={self.failures!r})"

    def with_memory(self, memory: Memory) -> Cut3r:
        """The reconstructor of views that come after those of `memory`."""
        return replace(self, memory=memory)

    @property
    def _needs_poses(self) -> bool:
        return self.align in ("released", "full")

    @torch.no_grad()
    def __call__(self, views: Views) -> Reconstruction:
        """Reconstruct new views; without a memory, the first of all: two or more with a baseline.

        Errors: ValueError for no views, images too narrow for the network, a memory that cannot
        tell the scale, views with nothing in front of the camera, and, with failures="stop", a view
        that is not trusted.
        """
        memory = Memory.empty(device=views.device) if self.memory is None else self.memory
        if self.align == "direct" and len(memory.surfels) == 0:
            raise ValueError(
                "the memory holds no surfels, so that nothing tells the scale: begin with views "
                'of known depth, or with align="released" on two or more views'
            )
        # 1. Run the network, and find the surfels that the new cameras see.
        images, crop = prepare_images(views.image, self.network.config)
        state, predictions = self._run_network(self._state_after(memory), images, len(memory))
        h, w = views.image.shape[2:]
        rows = min(h, self.rows)
        columns = max(1, round(rows * w / h))
        visible = visible_surfels(memory.surfels, views.cameras, rows, columns, memory.boxes)
        # 2. Bring depth into world units.
        if self._needs_poses:
            state, depth, confidence, reports = self._by_poses(state, memory, predictions, views)
        else:
            depth, confidence = _own_depth(predictions, views)
            reports = [Report(1.0, inliers=1.0)] * len(views)
        if self.align == "direct":
            depth, reports = self._by_memory(depth, crop, visible, state.scale)
        else:
            reports = [
                self._compare(report, own, surfels, crop)
                for report, own, surfels in zip(reports, depth, visible, strict=True)
            ]
        # 3. Decide which views to trust, and carry a plausible scale to the next step.
        reports = [self._judge(report, state.scale) for report in reports]
        scales = [report.scale for report in reports if report.trusted and not report.warning]
        state = replace(state, scale=median(scales) if scales else state.scale)
        # 4. Resample the maps at the views' pixels.
        views = self._resampled(views, crop, depth, confidence, reports)
        return Reconstruction(views, tuple(reports), state)

    # ---- the network -----------------------------------------------------------------------------

    def _state_after(self, memory: Memory) -> Cut3rState:
        """The state after the memory's last view: the one that it stores, or else a new one, for
        which all its views go through the network."""
        stored = memory.state
        if (
            isinstance(stored, Cut3rState)
            and stored.source == self.network.fingerprint
            and (stored.anchor is not None or not self._needs_poses)
        ):
            return stored.to(self.network.device, memory.device)
        state = Cut3rState(self.network.fingerprint, self.network.begin())
        if len(memory) == 0:
            return state
        images, _ = prepare_images(memory.views.image, self.network.config)
        state, predictions = self._run_network(state, images, 0, remembered=True)
        if len(memory) == 1 or not self._needs_poses:
            return state
        joint = _join(state.anchor, predictions[1:]).to(memory.device)
        registration = register(joint, 1, self.optimiser)
        matches = PoseMatches(memory.views.cameras.world_from_cam[1:], registration.anchor_from_cam)
        return replace(state, matches=matches[registration.inliers >= self.min_inliers])

    def _run_network(
        self,
        state: Cut3rState,
        images: Float[Tensor, "t 3 h w"],
        before: int,
        remembered: bool = False,
    ) -> tuple[Cut3rState, list[CUT3RPrediction]]:
        """State and predictions after the images, which follow `before` others. The geometry of
        `remembered` views is known, so that the network runs the heads for their poses at most."""
        predictions, network, device = [], state.network, self.network.device
        for i, image in enumerate(images):
            first = before + i == 0
            head: Head = "other" if self._needs_poses and not first else "self"
            heads = () if remembered and not self._needs_poses else (head,)
            network, prediction = self.network.step(network, image[None].to(device), heads)
            predictions.append(prediction)
            if first and self._needs_poses:
                points, confidence = prediction.points_self, prediction.confidence_self
                state = replace(state, anchor=Predictions(points.float(), confidence.float()))
        return replace(state, network=network), predictions

    # ---- where the scale comes from --------------------------------------------------------------

    def _by_memory(
        self,
        depth: Float[Tensor, "t h2 w2"],
        crop: NetworkCrop,
        visible: list[VisibleSurfels],
        last_scale: float | None,
    ) -> tuple[Float[Tensor, "t h2 w2"], list[Report]]:
        """Depth and reports of `direct`: a view is fitted to the surfels that its camera sees."""
        # 1. Fit scale and shift where the memory knows enough of a view.
        fits: list[DepthFit | None] = []
        for own, surfels in zip(depth, visible, strict=True):
            here = sample_depth(own, crop, surfels.uv)
            samples = int(here.isfinite().sum())
            overlap = samples * (surfels.share / max(1, here.numel()))
            enough = samples >= self.fit.min_samples and overlap >= self.fit.min_overlap
            fits.append(fit_depth(here, surfels.depth, self.shift, self.fit) if enough else None)
        # 2. The other views get the median scale of these, or else the last plausible one.
        scales = [fit.scale for fit in fits if fit and fit.inliers >= self.min_inliers]
        carried = median(scales) if scales else last_scale
        scaled, reports = [], []
        for own, surfels, fit in zip(depth, visible, fits, strict=True):
            if fit is not None:
                scaled.append(fit(own))
                report = Report(fit.scale, fit.shift, fit.inliers, surfels.share, fit.residual)
            elif carried is not None:
                scaled.append(own * carried)
                report = Report(carried, overlap=surfels.share, warning=NO_OVERLAP)
            else:
                scaled.append(own)
                report = Report(math.nan, overlap=surfels.share, warning=NO_OVERLAP, trusted=False)
            reports.append(report)
        return torch.stack(scaled), reports

    def _by_poses(
        self, state: Cut3rState, memory: Memory, predicted: list[CUT3RPrediction], views: Views
    ) -> tuple[Cut3rState, Float[Tensor, "t h2 w2"], Float[Tensor, "t h2 w2"], list[Report]]:
        """State, depth, confidence and reports of `released` and `full`: the scale comes from the
        poses that the points imply."""
        # 1. Put the anchor, which is the first view of all, in front of the new views.
        poses, continues = views.cameras.world_from_cam, len(memory) > 0
        if continues:
            poses = torch.cat([memory.views.cameras.world_from_cam[:1], poses])
        others_than_anchor = predicted if continues else predicted[1:]
        predictions = _join(state.anchor, others_than_anchor).to(views.device)
        new = slice(len(predictions) - len(views), None)
        # 2. Find the poses by PnP, and add the successful ones to those of earlier steps.
        registration = register(predictions, config=self.optimiser)
        has_pose = registration.inliers >= self.min_inliers
        depth = planar_depth(predictions.points, registration)
        cameras = PoseMatches(poses, registration.anchor_from_cam)
        matches, others = cameras[1:][has_pose[1:]], state.matches
        matches = matches if others is None else cat([others, matches])
        state = replace(state, matches=matches)
        inliers = registration.inliers[new].tolist()
        if not (has_pose[0] and self._tells_scale(cat([cameras[:1], matches]), depth)):
            reports = [self._pose_report(math.nan, share) for share in inliers]
            return state, depth[new], predictions.confidence[new], reports
        # 3. Align. Only `full` optimises: `released` would refine focal lengths, which are known.
        config = replace(self.optimiser, min_inliers=self.min_inliers)
        aligned = alignment.initialise(predictions, poses, others, config, registration)
        if self.align == "full":
            with torch.inference_mode(False), torch.enable_grad():
                *_, (_, aligned) = alignment.optimise(
                    aligned, predictions, "full", continues, self.optimiser
                )
        confidence = alignment.clean(aligned, predictions.confidence, self.optimiser)
        scale = (aligned.depth / depth).flatten(1).median(dim=1).values[new].tolist()
        reports = [self._pose_report(*values) for values in zip(scale, inliers, strict=True)]
        return state, aligned.depth[new], confidence[new], reports

    def _tells_scale(self, matches: PoseMatches, depth: Float[Tensor, "n h w"]) -> bool:
        """Whether the cameras, the anchor first, moved far enough for their poses to determine the
        scale, and whether the known and the implied poses agree."""
        motion = float(matches.anchor_from_cam[:, :3, 3].norm(dim=-1).max())
        far = motion >= self.min_baseline * float(depth.median())
        agrees = far and has_baseline(matches.world_from_cam)
        return agrees and alignment.pose_mismatch(matches) <= self.max_mismatch

    def _pose_report(self, scale: float, inliers: float) -> Report:
        failed, unknown = inliers < self.min_inliers, math.isnan(scale)
        warning = NO_PNP if failed else NO_BASELINE if unknown else ""
        return Report(scale, inliers=inliers, warning=warning, trusted=not warning)

    # ---- which views to trust --------------------------------------------------------------------

    def _compare(
        self,
        report: Report,
        depth: Float[Tensor, "h2 w2"],
        surfels: VisibleSurfels,
        crop: NetworkCrop,
    ) -> Report:
        """The report, with how well depth agrees with the memory's, to which it was not fitted."""
        if surfels.share < self.fit.min_overlap:
            return replace(report, overlap=surfels.share)
        ratio = sample_depth(depth, crop, surfels.uv) / surfels.depth
        ratio = ratio[ratio.isfinite()]
        residual = float((ratio - 1).abs().median())
        report = replace(report, overlap=surfels.share, residual=residual)
        if not report.warning and not self._is_plausible(float(ratio.median())):
            return replace(report, warning=ODD_SCALE, trusted=False)
        return report

    def _judge(self, report: Report, last_scale: float | None) -> Report:
        if report.warning:
            return report
        if report.inliers < self.min_inliers:
            return replace(report, warning=POOR_FIT, trusted=False)
        # A view that was compared with the memory needs no comparison with the last scale.
        compared = report.overlap >= self.fit.min_overlap
        jump = report.scale / last_scale if last_scale and not compared else 1.0
        if not self._is_plausible(jump):
            return replace(report, warning=ODD_SCALE, trusted=False)
        return report

    def _is_plausible(self, factor: float) -> bool:
        return 1 / self.plausible <= factor <= self.plausible

    # ---- back to the views' pixels ---------------------------------------------------------------

    def _resampled(self, views, crop, depth, confidence, reports):
        """Depth and confidence at the views' pixels; confidence 0 where a view is not trusted."""
        h, w = views.image.shape[2:]
        uv = pixel_centres(h, w, views.device)
        depth = torch.stack([sample_depth(each, crop, uv) for each in depth])
        confidence = torch.stack([sample(each, crop, uv, "nearest") for each in confidence])
        confidence = confidence.nan_to_num()
        if views.confidence is not None:  # the generator knows which pixels it has invented
            confidence = torch.minimum(confidence, views.confidence)
        depth = torch.where(depth > 0, depth, torch.nan)
        for i, report in enumerate(reports):
            if not report.trusted and self.failures == "stop":
                raise ValueError(
                    f"view {i} of {len(views)} cannot be brought into the world: {report.warning} "
                    f'({report}). Take smaller steps, or set failures="distrust"'
                )
            if not report.trusted and self.failures == "distrust":
                confidence[i] = 0.0
            if depth[i].isnan().all():
                raise ValueError(
                    f"the network sees nothing in front of the camera of view {i} of {len(views)} "
                    f"({report}): check the view's camera"
                )
        return views.replace(depth=depth, confidence=confidence)


def visible_surfels(
    surfels: Surfels, cameras: Cameras, rows: int, columns: int, boxes: Boxes | None = None
) -> list[VisibleSurfels]:
    """The surfels that each camera (t,) sees, because no nearer one hides them.

    Their centres are returned, not a rendered depth map: a render keeps the nearest of several
    noisy surfels, which lies in front of the true surface. A canvas of `rows` x `columns` decides
    what is hidden. `boxes` around runs of surfels save projecting those outside the frustum.
    """
    nearest = splat(surfels, cameras, rows, columns, boxes=boxes).depth
    visible = []
    for i in range(len(nearest)):
        # 1. Project the centres that may lie in the image.
        position = surfels.position
        if boxes is not None:
            reached = runs_in_sight(boxes, cameras[i : i + 1], 0.0, 0.0, torch.inf)[0]
            position = position[surfels_in_runs(runs_to_test(reached, len(surfels)), len(surfels))]
        uv, depth = project(cameras[i : i + 1], position[None])
        inside = in_image(uv, depth)[0]
        uv, depth = uv[:, inside], depth[:, inside]
        column = (uv[..., 0] * columns).long().clamp(max=columns - 1)
        row = (uv[..., 1] * rows).long().clamp(max=rows - 1)
        # 2. Keep those within a layer behind the nearest surface.
        in_layer = (depth < (1 + LAYER) * nearest[i, row, column])[0]
        share = float((nearest[i] > 0).float().mean())
        visible.append(VisibleSurfels(uv[:, in_layer], depth[:, in_layer], share))
    return visible


def _own_depth(
    predictions: list[CUT3RPrediction], views: Views
) -> tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]]:
    """Depth and confidence in the views' own cameras, on the views' device."""
    depth = torch.cat([each.points_self[..., 2] for each in predictions])
    confidence = torch.cat([each.confidence_self for each in predictions])
    return depth.float().to(views.device), confidence.float().to(views.device)


def _join(anchor: Predictions, others: list[CUT3RPrediction]) -> Predictions:
    """The anchor's prediction and those of other views, all in the anchor's axes."""
    points = [each.points_other.float() for each in others]
    confidence = [each.confidence_other.float() for each in others]
    return Predictions(
        torch.cat([anchor.points, *points]), torch.cat([anchor.confidence, *confidence])
    )


def cut3r(
    file: str | os.PathLike | None = None,
    config: CUT3RConfig | None = None,
    device: torch.device | str | None = None,
    **settings: Any,
) -> Cut3r:
    """CUT3R with the weights of `file`; by default the published ones, where `weights.find` looks.

    `config` and `device` are those of `load_network`; `settings` are fields of `Cut3r`, such as
    align="released". Errors: ValueError as `load_network`'s.
    """
    return Cut3r(load_network(file, config, device), **settings)


def load_network(
    file: str | os.PathLike | None = None,
    config: CUT3RConfig | None = None,
    device: torch.device | str | None = None,
) -> CUT3R:
    """The network with the weights of `file`, in float32, on `device` (default: a GPU if there is
    one).

    A training checkpoint describes its network; the description must agree with `config` (default:
    the published network's). Errors: ValueError for weights that are missing (it says how to get
    them), damaged or of another network, and for a file without a description if no `config` is
    given.
    """
    path = require("cut3r") if file is None else Path(file)
    state, description = read(path), training_settings(path).get("model")
    if description is not None:
        if not isinstance(description, str):
            raise ValueError(
                f"{path} describes its network by a {type(description).__name__}, needs text"
            )
        check_model_string(description, config or CUT3RConfig())
    elif config is None:
        raise ValueError(
            f"{path} does not say which network it is of, and weights do not show the number of "
            "attention heads: give config=CUT3RConfig() if it is the published network"
        )
    with torch.device("meta"):
        network = CUT3R(config or CUT3RConfig())
    load_into(network, state, "CUT3R", torch.float32)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device).eval().requires_grad_(False)
