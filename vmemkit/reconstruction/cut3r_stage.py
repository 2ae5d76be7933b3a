"""CUT3R as a reconstructor: a depth per pixel of each new view, in the world of known cameras.

In: the memory and new views. Each image goes once through the network (nets/cut3r.py), whose state
the memory keeps, so that a step costs the same however long the walk. Its depth is in the network's
own unit; the world's comes, by choice, from
- `direct`: what the memory's surfels, rendered from the same camera, say of scale and shift
  (depth_fit.py); the default, and beyond VMem;
- `released`, `full`: where the network thinks the cameras stand (align.py; VMem's code, CUT3R's);
- `none`: nothing, for comparison: the network's unit is taken for the world's.
Every view gets a `Report`. The released code carries on when PnP fails or when the scale is off by
hundreds; here such a view says so, and by default leaves no surfels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import (
    Boxes,
    Cameras,
    Surfels,
    Views,
    cat,
    pixel_centres,
    project,
    rows_of,
    runs_that,
    showing,
    splat,
)
from vmemkit.memory import Memory
from vmemkit.nets.cut3r import CUT3RConfig, CUT3RPrediction, Head
from vmemkit.reconstruction import alignment
from vmemkit.reconstruction.cut3r_images import NetworkCrop, prepare, sampled, taken
from vmemkit.reconstruction.depth_fit import DepthFit, FitConfig, fit_depth
from vmemkit.reconstruction.pnp import (
    AlignConfig,
    Placed,
    Predictions,
    away,
    has_baseline,
    register,
)
from vmemkit.reconstruction.reconstructor import Reconstruction, Report

LAYER = 0.2  # of the nearest surfel's depth: how thick a noisy surface may be

ALIGN, FAILURES = ("direct", "released", "full", "none"), ("distrust", "keep", "stop")

NO_OVERLAP, NO_BASELINE = "no overlap with the memory", "no baseline that tells the scale"

NO_PNP = "PnP failed"

ODD_SCALE, POOR_FIT = "implausible scale", "poor fit"


@runtime_checkable
class Network(Protocol):
    """What the reconstructor needs of a network: `nets.cut3r.CUT3R` has it."""

    config: CUT3RConfig
    device: torch.device

    def begin(self, batch: int = 1) -> Any: ...

    def step(
        self, state: Any, image: Float[Tensor, "1 3 h w"], heads: Collection[Head]
    ) -> tuple[Any, CUT3RPrediction]: ...


@dataclass(frozen=True, repr=False)
class Seen:
    """Surfels of the memory that a camera sees."""

    uv: Float[Tensor, "1 n 2"]  # where in the image, in [0, 1]
    depth: Float[Tensor, "1 n"]  # world units
    share: float  # of the image's pixels, coarse ones, that have any


@dataclass(frozen=True, repr=False)
class Cut3rState:
    """What to go on from after the last view of a memory."""

    source: Network  # whose state it is
    network: Any  # that state
    scale: float | None  # the last that was plausible
    # Of `released` and `full`: the first view's prediction, and all other cameras so far.
    anchor: Predictions | None
    placed: Placed | None

    def __repr__(self) -> str:
        return f"Cut3rState({self.network}, scale={self.scale})"


@dataclass(frozen=True, repr=False)
class Cut3r:
    """A reconstructor that sees the memory. `reconstruct.cut3r()` makes one."""

    network: Network
    align: Literal[ALIGN] = "direct"
    shift: bool = True  # whether `direct` fits one, too
    # What becomes of a view whose report is not trusted: it gets confidence 0, so that it leaves no
    # surfels; it is kept, as by the released code; or a ValueError says what is wrong with it.
    failures: Literal[FAILURES] = "distrust"
    plausible: float = 1.5  # by this factor a scale may leave the last one, or what the memory says
    min_inliers: float = 0.3  # share, of a fit or of PnP
    min_baseline: float = 0.05  # of `released` and `full`: cameras' way, relative to the depth
    max_mismatch: float = 0.3  # of these, of where the network and the world have them
    rows: int = 96  # at which the memory is rendered for comparison
    fit: FitConfig = field(default_factory=FitConfig)
    optimiser: AlignConfig = field(default_factory=AlignConfig)

    def __post_init__(self) -> None:
        for name, known in (("align", ALIGN), ("failures", FAILURES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if not (self.plausible > 1 and 0 <= self.min_inliers <= 1 and self.rows >= 1):
            raise ValueError(
                "need plausible > 1, min_inliers in [0, 1] and rows >= 1, got "
                f"{self.plausible}, {self.min_inliers} and {self.rows}"
            )

    def __repr__(self) -> str:
        return f"Cut3r(align={self.align!r}, failures={self.failures!r})"

    def __call__(self, views: Views) -> Reconstruction:
        """Of the first views, two or more with a baseline; not by `direct`, which needs a memory."""
        return self.seeing(Memory.empty(device=views.device))(views)

    def seeing(self, memory: Memory) -> Seeing:
        """The reconstructor of views that come after those of `memory`."""
        return Seeing(self, memory)


@dataclass(frozen=True, repr=False)
class Seeing:
    """A `Cut3r` beside what is remembered."""

    how: Cut3r
    memory: Memory

    @property
    def _needs_poses(self) -> bool:
        return self.how.align in ("released", "full")

    @torch.no_grad()
    def __call__(self, views: Views) -> Reconstruction:
        """Errors: ValueError for no views, images too narrow for the network, a memory that cannot
        tell the scale, views in which nothing is in front of the camera, and, with
        failures="stop", a view that is not trusted."""
        how, memory = self.how, self.memory
        if how.align == "direct" and len(memory.surfels) == 0:
            raise ValueError(
                "the memory holds no surfels, so that nothing tells the scale: begin with views "
                'of known depth, or with align="released" on two or more views'
            )
        images, window = prepare(views.image, how.network.config)
        state = self._state()
        state, made = self._watched(state, images, len(memory))
        canvas = self._canvas(views)
        seen = in_sight(memory.surfels, views.cameras, *canvas, memory.boxes)
        if self._needs_poses:
            state, depth, confidence, reports = self._by_poses(state, made, views)
        else:
            depth, confidence = _own(made, views)
            reports = [Report(1.0, inliers=1.0)] * len(views)
        if how.align == "direct":
            depth, reports = self._direct(state, depth, window, seen)
        else:
            compared = zip(reports, depth, seen, strict=True)
            reports = [self._compared(*each, window) for each in compared]
        reports = [self._judged(report, state.scale) for report in reports]
        good = [report.scale for report in reports if report.trusted and not report.warning]
        state = replace(state, scale=median(good) if good else state.scale)
        views = self._located(views, window, depth, confidence, reports)
        return Reconstruction(views, tuple(reports), state)

    # ---- the network -----------------------------------------------------------------------------

    def _state(self) -> Cut3rState:
        """After the memory's last view: the one it keeps, or made anew by going through its views."""
        kept, memory, how = self.memory.state, self.memory, self.how
        own = isinstance(kept, Cut3rState) and kept.source is how.network
        if own and (kept.anchor is not None or not self._needs_poses):
            return kept
        state = Cut3rState(how.network, how.network.begin(), None, None, None)
        if len(memory) == 0:
            return state
        images, _ = prepare(memory.views.image, how.network.config)
        state, made = self._watched(state, images, 0, remembered=True)
        if len(memory) == 1 or not self._needs_poses:
            return state
        predictions = _predictions(state.anchor, made[1:]).to(memory.device)
        found = register(predictions, 1, how.optimiser)
        placed = Placed(memory.views.cameras.world_from_cam[1:], found.anchor_from_cam)
        return replace(state, placed=placed[found.inliers >= how.min_inliers])

    def _watched(
        self,
        state: Cut3rState,
        images: Float[Tensor, "t 3 h w"],
        before: int,
        remembered: bool = False,
    ) -> tuple[Cut3rState, list[CUT3RPrediction]]:
        """The images gone through the network, after `before` others. What is `remembered` has its
        geometry, and only says where it was seen from."""
        made, network, device = [], state.network, self.how.network.device
        for i, image in enumerate(images):
            first = before + i == 0
            asked: Head = "other" if self._needs_poses and not first else "self"
            heads = () if remembered and not self._needs_poses else (asked,)
            network, said = self.how.network.step(network, image[None].to(device), heads)
            made.append(said)
            if first and self._needs_poses:
                points, confidence = said.points_self, said.confidence_self
                state = replace(state, anchor=Predictions(points.float(), confidence.float()))
        return replace(state, network=network), made

    # ---- three ways to the scale -------------------------------------------------------------------

    def _direct(self, state, depth, window, seen):
        """Depth and reports from what the memory knows of each view."""
        fits: list[DepthFit | None] = []
        for own, known in zip(depth, seen, strict=True):
            here = sampled(own, window, known.uv)
            count, share = int(here.isfinite().sum()), known.share / max(1, here.numel())
            enough = count >= self.how.fit.min_samples and count * share >= self.how.fit.min_overlap
            fits.append(
                fit_depth(here, known.depth, self.how.shift, self.how.fit) if enough else None
            )
        good = [fit.scale for fit in fits if fit and fit.inliers >= self.how.min_inliers]
        carried = median(good) if good else state.scale
        scaled, reports = [], []
        for own, known, fit in zip(depth, seen, fits, strict=True):
            if fit is not None:
                scaled.append(fit(own))
                found = (fit.scale, fit.shift, fit.inliers, known.share, fit.residual)
                reports.append(Report(*found))
            else:
                scaled.append(own if carried is None else own * carried)
                scale = math.nan if carried is None else carried
                none = {"warning": NO_OVERLAP, "trusted": carried is not None}
                reports.append(Report(scale, overlap=known.share, **none))
        return torch.stack(scaled), reports

    def _by_poses(self, state, made, views):
        """State, depth, confidence and reports from where the network thinks the cameras stand."""
        how, memory = self.how, self.memory
        poses, begun = views.cameras.world_from_cam, len(memory) > 0
        if begun:
            poses = torch.cat([memory.views.cameras.world_from_cam[:1], poses])
        predictions = _predictions(state.anchor, made if begun else made[1:]).to(views.device)
        others, mine = state.placed, slice(len(predictions) - len(views), None)
        found = register(predictions, config=how.optimiser)
        good, depth = found.inliers >= how.min_inliers, away(predictions.points, found)
        cameras = Placed(poses, found.anchor_from_cam)
        placed = cameras[1:][good[1:]]
        placed = placed if others is None else cat([others, placed])
        if not (good[0] and self._tells_scale(cat([cameras[:1], placed]), depth)):
            reports = [self._by_pose(math.nan, float(share)) for share in found.inliers[mine]]
            state = replace(state, placed=placed)
            return state, depth[mine], predictions.confidence[mine], reports
        counting = replace(how.optimiser, min_inliers=how.min_inliers)
        aligned = alignment.initialise(predictions, poses, None, others, counting, found)
        if how.align == "full":  # `released` would only refine focal lengths, which are known
            with torch.inference_mode(False), torch.enable_grad():
                moving = (predictions, "full", int(begun), how.optimiser)
                *_, (_, aligned) = alignment.optimise(aligned, *moving)
        confidence = alignment.clean(aligned, predictions.confidence, how.optimiser)
        scale = (aligned.depth / depth).flatten(1).median(dim=1).values
        columns = zip(scale[mine].tolist(), found.inliers[mine].tolist(), strict=True)
        reports = [self._by_pose(*each) for each in columns]
        return replace(state, placed=placed), aligned.depth[mine], confidence[mine], reports

    def _tells_scale(self, placed: Placed, depth: Float[Tensor, "n h w"]) -> bool:
        """Whether the cameras, the anchor first, moved far enough for their places to tell the
        network's unit, and in a way that the network agrees with."""
        moved = float(placed.anchor_from_cam[:, :3, 3].norm(dim=-1).max())
        far = moved >= self.how.min_baseline * float(depth.median())
        agrees = far and has_baseline(placed.world_from_cam)
        return agrees and alignment.mismatch(placed) <= self.how.max_mismatch

    def _by_pose(self, scale: float, inliers: float) -> Report:
        failed, unknown = inliers < self.how.min_inliers, math.isnan(scale)
        warning = NO_PNP if failed else NO_BASELINE if unknown else ""
        return Report(scale, inliers=inliers, warning=warning, trusted=not warning)

    def _compared(
        self, report: Report, depth: Float[Tensor, "h w"], seen: Seen, window: NetworkCrop
    ) -> Report:
        """The report with how the depth agrees with the memory's, which had no say in it."""
        if seen.share < self.how.fit.min_overlap:
            return replace(report, overlap=seen.share)
        ratio = sampled(depth, window, seen.uv) / seen.depth
        ratio = ratio[ratio.isfinite()]
        residual = float((ratio - 1).abs().median())
        report = replace(report, overlap=seen.share, residual=residual)
        off = float(ratio.median())
        if not report.warning and not 1 / self.how.plausible <= off <= self.how.plausible:
            return replace(report, warning=ODD_SCALE, trusted=False)
        return report

    def _judged(self, report: Report, last: float | None) -> Report:
        if report.warning:
            return report
        if report.inliers < self.how.min_inliers:
            return replace(report, warning=POOR_FIT, trusted=False)
        # What the memory was compared with needs no comparison with the past.
        jump = report.scale / last if last and report.overlap < self.how.fit.min_overlap else 1.0
        if not 1 / self.how.plausible <= jump <= self.how.plausible:
            return replace(report, warning=ODD_SCALE, trusted=False)
        return report

    # ---- from and to the views' pixels --------------------------------------------------------------

    def _canvas(self, views: Views) -> tuple[int, int]:
        """Rows and columns at which the memory is looked at."""
        h, w = views.image.shape[2:]
        rows = min(h, self.how.rows)
        return rows, max(1, round(rows * w / h))

    def _located(self, views, window, depth, confidence, reports):
        h, w = views.image.shape[2:]
        uv = pixel_centres(h, w, views.device)
        depth = torch.stack([sampled(each, window, uv) for each in depth])
        sure = torch.stack([taken(each, window, uv, "nearest") for each in confidence]).nan_to_num()
        if views.confidence is not None:  # the generator knows what it has imagined
            sure = torch.minimum(sure, views.confidence)
        depth = torch.where(depth > 0, depth, torch.nan)
        for i, report in enumerate(reports):
            if not report.trusted and self.how.failures == "stop":
                raise ValueError(
                    f"view {i} of {len(views)} cannot be brought into the world: {report.warning} "
                    f'({report}). Take smaller steps, or set failures="distrust"'
                )
            if not report.trusted and self.how.failures == "distrust":
                sure[i] = 0.0
            if depth[i].isnan().all():
                raise ValueError(
                    f"the network sees nothing in front of the camera of view {i} of {len(views)} "
                    f"({report})"
                )
        return views.replace(depth=depth, confidence=sure)


def in_sight(
    surfels: Surfels, cameras: Cameras, rows: int, columns: int, boxes: Boxes | None = None
) -> list[Seen]:
    """The surfels that each camera (t,) sees, no nearer ones being in front of them.

    Their centres, not a rendered depth map: where surfels are noisy, the nearest of those behind a
    pixel is nearer than the surface. `rows` x `columns` pixels decide what is in front; `boxes` of
    the surfels save looking at those out of reach.
    """
    near, found = splat(surfels, cameras, rows, columns, boxes=boxes).depth, []
    for i in range(len(near)):
        position = surfels.position
        if boxes is not None:
            reached = showing(boxes, cameras[i : i + 1], 0.0, 0.0, torch.inf)[0]
            position = position[rows_of(runs_that(reached, len(surfels)), len(surfels))]
        uv, depth = project(cameras[i], position)
        x, y = (uv[:, 0] * columns).long(), (uv[:, 1] * rows).long()
        ahead = (depth > 0) & (uv >= 0).all(-1) & (x < columns) & (y < rows)
        x, y, z = x[ahead], y[ahead], depth[ahead]
        in_front = z < (1 + LAYER) * near[i, y, x]
        share = float((near[i] > 0).float().mean())
        found.append(Seen(uv[ahead][in_front][None], z[in_front][None], share))
    return found


def _own(
    made: list[CUT3RPrediction], views: Views
) -> tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]]:
    """Depth and confidence in the views' own cameras, on their device."""
    depth = torch.cat([one.points_self[..., 2] for one in made])
    confidence = torch.cat([one.confidence_self for one in made])
    return depth.float().to(views.device), confidence.float().to(views.device)


def _predictions(anchor: Predictions, others: list[CUT3RPrediction]) -> Predictions:
    points = [one.points_other.float() for one in others]
    confidence = [one.confidence_other.float() for one in others]
    return Predictions(
        torch.cat([anchor.points, *points]), torch.cat([anchor.confidence, *confidence])
    )


def cut3r(file: str | os.PathLike | None = None, **how: Any) -> Cut3r:
    """CUT3R with the published weights: those of `file`, or of where `weights.find` looks.

    how: fields of `cut3r.Cut3r`, such as align="released"; `config` and `device` of `cut3r_input.load`.
    Errors: ValueError for weights that are missing (with how to get them), damaged, or of another
    network than their own description and `config` say.
    """
    from vmemkit.reconstruction import cut3r_images  # and SciPy, which only this needs

    loading = {name: how.pop(name) for name in ("config", "device") if name in how}
    return Cut3r(cut3r_images.load_network(file, **loading), **how)
