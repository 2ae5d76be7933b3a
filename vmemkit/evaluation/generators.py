"""Evaluating generators where they have to invent: on unseen pixels, and over full circles.

In: generators. Out: numbers for each, and its images. Trials lie in made-up houses.
They count the pixels that no context view shows (by `reproject`): the error of depth, and how much
structure there is against the truth, because a blur wins every error of colours. A full circle on
the spot and back then shows whether a walk decays, and whether it comes back to what it invented.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from vmemkit.core import LUMA, Cameras, Views, cat, intrinsics, stream, unproject
from vmemkit.evaluation.scores import psnr
from vmemkit.generation import (
    Facts,
    Generation,
    Generator,
    Writer,
    completed,
    context_batch,
    push_pull,
    read_facts,
    reproject,
    solid_boxes,
    thing_space,
)
from vmemkit.memory import begin
from vmemkit.pipeline import walk
from vmemkit.scenes import Rooms, build, design, rooms, upright_cameras, walk_through
from vmemkit.scenes.house import Box, Plan, bare_walls, long_walls, middle

EVALUATION = 0x5EE  # first number of the random streams here
LEAST_UNSEEN, MOST_UNSEEN = 0.25, 0.95  # share of a trial's target that no context view shows
WALK_VIEWS = 20  # length of the walk through a house that a trial is taken from
DEPTH_TOLERANCE = 0.05  # relative error up to which a reprojected depth is right
SAME_PLACE = 0.1  # metres within which a thing has come back
DEEP, FEW_RAYS = 0.05, 3  # metres inside a thing; rays through it that are no contradiction
TURN, FOV = 30.0, 70.0  # degrees: between the views of a circle, and their field of view
FEATURES, CELL = (16, 32, 64), 8  # channels of the random convolutions; pixels per feature
GATE = {  # what a generator must reach to be the default: least, most
    "depth_error": (0.0, 0.18),
    "edges_least": (0.6, 1.4),
    "edges_most": (0.6, 1.4),
    "contrast_least": (0.6, 1.4),
    "contrast_most": (0.6, 1.4),
    "return_psnr": (25.0, math.inf),
    "return_gain": (5.0, math.inf),
    "seconds": (0.0, 1.0),
}


@dataclass(frozen=True, repr=False)
class Trial:
    """One target with the context that a generator gets and the truth."""

    context: Views  # (k,)
    truth: Views  # (1,)
    unseen_mask: Bool[Tensor, "h w"]  # pixels that no context view shows
    seen_mask: Bool[Tensor, "h w"]  # pixels that one shows, and whose depth is then right
    plan: Plan  # the true house


@dataclass(frozen=True)
class FillBaseline:
    """A generator that reprojects the context and fills the rest by a rule: from the nearest known
    pixel, or by push-pull. Of a target without any known pixel it makes a plain wall, in the
    context's mean colour at its median depth."""

    fill: Literal["nearest", "push_pull"]

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        shown = reproject(context_batch(context), targets[None])
        image, depth = shown.image[0].clone(), shown.depth[0].clone()
        for i, known in enumerate(shown.known[0]):
            if known.any():
                image[i], depth[i] = self._fill(image[i], depth[i], known)
            else:
                image[i] = context.image.mean((0, 2, 3))[:, None, None]
                depth[i] = context.depth.nanmedian()
        yield completed(shown, image, depth)

    def _fill(
        self, image: Float[Tensor, "3 h w"], depth: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]
    ) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
        if self.fill == "nearest":
            unknown = ~known.cpu().numpy()
            at = distance_transform_edt(unknown, return_distances=False, return_indices=True)
            row, column = torch.from_numpy(at).to(known.device)
            return image[:, row, column], depth[row, column]
        return push_pull(image, known), 1 / push_pull(1 / depth[None], known)[0]


# ---- trials --------------------------------------------------------------------------------------


def sample_trials(count: int, size: int = 64, seed: int = 0) -> list[Trial]:
    """Trials of `size` x `size` pixels in made-up houses, with 1 to 4 views before the target as
    context. Targets that the context shows almost whole, or not at all, are left out.
    """
    trials: list[Trial] = []
    number = 0
    while len(trials) < count:
        rng = stream(EVALUATION, seed, number)
        number += 1
        plan = design(int(torch.randint(2**40, (), generator=rng)), 2)
        house = build(plan)
        cameras = walk_through(house, rng, WALK_VIEWS)
        views = house.render(cameras, size, size)
        for _ in range(6):
            at = 2 + int(torch.randint(len(views) - 2, (), generator=rng))
            k = 1 + int(torch.randint(4, (), generator=rng))
            context, truth = views[max(0, at - k) : at], views[at : at + 1]
            shown = reproject(context_batch(context), truth.cameras[None])
            unseen = ~shown.known[0, 0]
            right = (shown.depth[0, 0] / truth.depth[0] - 1).abs() < DEPTH_TOLERANCE
            share = float(unseen.float().mean())
            if LEAST_UNSEEN <= share <= MOST_UNSEEN and len(trials) < count:
                trials.append(Trial(context, truth, unseen, ~unseen & right, plan))
    return trials


def generate_trials(generator: Generator, trials: list[Trial], seed: int = 0) -> Views:
    """The views (n,) that a generator makes of the trials' targets."""
    views = []
    for i, trial in enumerate(trials):
        *_, last = generator(trial.context, trial.truth.cameras, _trial_rng(seed, i))
        views.append(last.views(trial.truth.cameras))
    return cat(views)


def _trial_rng(seed: int, number: int) -> torch.Generator:
    return stream(EVALUATION, seed, 1, number)


def trial_plans(writer: Writer, trials: list[Trial], seed: int = 0) -> list[Plan]:
    """The plans from which `generate_trials` renders the trials, but for those without a room."""
    plans = []
    for i, trial in enumerate(trials):
        with contextlib.suppress(ValueError):  # no room was found, so Warp made the view
            draft = writer.draft(trial.context, trial.truth.cameras, _trial_rng(seed, i))
            plans.append(draft.plan)
    return plans


def bare_share(plans: Sequence[Plan]) -> float:
    """Share of the long walls (3 m) with no thing, window or doorway."""
    rooms = [(room, plan.doorways) for plan in plans for room in plan.rooms]
    bare = sum(len(bare_walls(room, doorways)) for room, doorways in rooms)
    return bare / max(sum(len(long_walls(room)) for room, _ in rooms), 1)


def trial_metrics(views: Views, trials: list[Trial]) -> dict[str, float]:
    """Metrics on the pixels that the context does not show, and PSNR on those that it shows."""
    unseen = torch.stack([trial.unseen_mask for trial in trials])
    seen = torch.stack([trial.seen_mask for trial in trials])
    truth = torch.cat([trial.truth.image for trial in trials])
    depth = torch.cat([trial.truth.depth for trial in trials])
    error = (views.image - truth).square().mean(1)
    return {
        "depth_error": float((views.depth / depth - 1).abs()[unseen].nanmean()),
        "edges": edge_energy(views.image, unseen) / edge_energy(truth, unseen),
        "contrast": contrast(views.image, unseen) / contrast(truth, unseen),
        "frechet": frechet(features(views.image, unseen), features(truth, unseen)),
        "psnr_unseen": _decibels(error[unseen]),
        "psnr_seen": _decibels(error[seen]),
    }


def trial_images(
    views: Mapping[str, Views], trials: list[Trial]
) -> dict[str, Float[Tensor, "n 3 h w"]]:
    """Rows of images by name, for `figures.grid`: the last context view of each trial, the target
    with its unseen pixels white, each generator's views, and the truth."""
    truth = torch.cat([trial.truth.image for trial in trials])
    unseen = torch.stack([trial.unseen_mask for trial in trials])
    return {
        "context": torch.cat([trial.context.image[-1:] for trial in trials]),
        "shown": torch.where(unseen[:, None], 1.0, truth),
        **{name: rows.image for name, rows in views.items()},
        "truth": truth,
    }


def edge_energy(image: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n h w"]) -> float:
    """Mean absolute difference of luminance between neighbouring pixels of the mask."""
    grey = _grey(image)
    across = (grey[:, :, 1:] - grey[:, :, :-1]).abs()[mask[:, :, 1:] & mask[:, :, :-1]]
    down = (grey[:, 1:] - grey[:, :-1]).abs()[mask[:, 1:] & mask[:, :-1]]
    return float(torch.cat([across, down]).mean())


def contrast(image: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n h w"]) -> float:
    """Standard deviation of luminance within the mask of each image, averaged over images."""
    grey = _grey(image)
    return mean(float(g[m].std()) for g, m in zip(grey, mask, strict=True) if int(m.sum()) > 1)


def features(image: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n h w"]) -> Float[Tensor, "s f"]:
    """Responses of fixed random convolutions (three layers, stride 2, ReLU), one row per CELL x CELL
    pixels that are mostly in the mask. No network is pretrained: this is not comparable to FID."""
    rng, x = torch.Generator().manual_seed(0), 2 * image - 1
    for channels in FEATURES:
        fan = 9 * x.shape[1]
        weight = torch.randn(channels, x.shape[1], 3, 3, generator=rng) * (2 / fan) ** 0.5
        x = functional.relu(functional.conv2d(x, weight.to(x), stride=2, padding=1))
    cells = functional.avg_pool2d(mask[:, None].float(), CELL)[:, 0] > 0.5
    return x.movedim(1, -1)[cells]


def frechet(a: Float[Tensor, "s f"], b: Float[Tensor, "r f"]) -> float:
    """Frechet distance of the normal distributions fitted to two sets of features."""
    (m, A), (n, B) = ((x.mean(0).double(), x.double().T.cov()) for x in (a, b))
    values, axes = torch.linalg.eigh(A)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    shared = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    return float((m - n).square().sum() + torch.trace(A + B) - 2 * shared)


def _decibels(squared_error: Float[Tensor, " n"]) -> float:
    return -10 * math.log10(max(float(squared_error.mean()), 1e-12))


def _grey(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    return (image * image.new_tensor(LUMA).view(3, 1, 1)).sum(1)


# ---- circles -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Circle:
    """A walk of a full turn on the spot and back, from one given view."""

    views: Views  # (2 n,) n out, the last of which has the start's pose, and n back
    truth: Views
    seconds: float  # per step of 4 views


def walk_circle(
    house: Rooms, generator: Generator, policy: str, size: int = 64, seed: int = 0
) -> Circle:
    """From a view of the first room: TURN degrees at a time, all round to the start, and back."""
    n = round(360 / TURN)
    out_and_back = torch.cat([torch.arange(0, n + 1), torch.arange(n - 1, -1, -1)]) * TURN
    cameras = upright_cameras(house.centres[:1], out_and_back, intrinsics(FOV))
    truth = house.render(cameras, size, size)
    start = time.perf_counter()
    steps = list(walk(begin(truth[:1]), cameras[1:], generator=generator, policy=policy, seed=seed))
    seconds = (time.perf_counter() - start) / len(steps)
    return Circle(steps[-1].memory.views[1:], truth[1:], seconds)


def circle_metrics(circles: list[Circle]) -> dict[str, float]:
    """Metrics over circles in several houses: PSNR of the way back against the way out, and the least
    and most structure of any step relative to the truth's."""
    n = len(circles[0].views) // 2
    everywhere = torch.ones_like(
        torch.cat([c.truth.image[:1, 0] for c in circles]), dtype=torch.bool
    )
    edges, contrasts = [], []
    for i in range(2 * n):
        image = torch.cat([circle.views.image[i : i + 1] for circle in circles])
        truth = torch.cat([circle.truth.image[i : i + 1] for circle in circles])
        edges.append(edge_energy(image, everywhere) / edge_energy(truth, everywhere))
        contrasts.append(contrast(image, everywhere) / contrast(truth, everywhere))
    same_pose = [(2 * n - 2 - i, i) for i in range(n - 1)]  # rows of the way back, and out
    returns = [
        psnr(circle.views.image[back], circle.views.image[out])
        for circle in circles
        for back, out in same_pose
    ]
    return {
        "return_psnr": mean(returns),
        "edges_least": min(edges),
        "edges_most": max(edges),
        "contrast_least": min(contrasts),
        "contrast_most": max(contrasts),
        "seconds": mean(circle.seconds for circle in circles),
    }


def things_kept(circles: list[Circle]) -> float:
    """Share of the things shown on the way out that the way back shows from the same pose, of the same
    kind and within SAME_PLACE. The views must carry facts, as those of the `Writer` do."""
    shown = kept = 0
    for circle in circles:
        things = [_things(facts) for facts in read_facts(circle.views)]
        n = len(things) // 2
        for i in range(n - 1):
            back = things[2 * n - 2 - i]
            shown += len(things[i])
            kept += sum(any(_is_same(a, b) for b in back) for a in things[i])
    return kept / max(shown, 1)


def things_in_empty_space(circles: list[Circle]) -> float:
    """How many things stand where the given view had looked through, in all circles together. The
    views must carry facts; the walls of these houses are along the world's axes, as are facts."""
    count = 0
    for circle in circles:
        given = circle.truth[len(circle.truth) // 2 - 1]  # the pose of the start
        points = unproject(given.cameras, given.depth).reshape(-1, 3)
        eye = given.cameras.position
        middles = eye + torch.linspace(0.05, 0.9, 18)[:, None, None] * (points - eye)
        things = {
            tuple(solid_boxes(room.walls, thing))
            for facts in read_facts(circle.views)
            for room in (facts.rooms if facts else ())
            for thing in room.things
        }
        for boxes in things - {()}:
            low, high = torch.tensor(boxes)[:, :, None, None].unbind(1)
            inside = ((middles > low + DEEP) & (middles < high - DEEP)).all(-1)
            count += int(inside.any(0).any(0).sum()) > FEW_RAYS
    return float(count)


def _things(facts: Facts | None) -> list[tuple[str, Box]]:
    """Kind and space of the things that a view shows."""
    rooms = () if facts is None else facts.rooms
    return [(thing.kind, thing_space(room.walls, thing)) for room in rooms for thing in room.things]


def _is_same(a: tuple[str, Box], b: tuple[str, Box]) -> bool:
    return a[0] == b[0] and math.dist(middle(a[1]), middle(b[1])) < SAME_PLACE


# ---- both ----------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class GeneratorScores:
    """All metrics of a generator, and its views of the trials."""

    name: str
    metrics: dict[str, float]
    views: Views


def evaluate_generators(
    generators: Mapping[str, Generator], trials: list[Trial], houses: int = 6, seed: int = 0
) -> Iterator[GeneratorScores]:
    """The scores of each generator, as they are ready: on the trials, and on circles in `houses`
    houses under surfel retrieval and, for the gain, with the most recent views."""
    size = trials[0].truth.image.shape[-1]
    streams = [stream(EVALUATION, seed, 2, i) for i in range(houses)]
    worlds = [rooms(int(torch.randint(2**40, (), generator=rng))) for rng in streams]
    for name, generator in generators.items():
        views = generate_trials(generator, trials, seed)
        circles = {
            policy: [  # another seed each, or all houses would be written alike
                walk_circle(house, generator, policy, size, seed + i)
                for i, house in enumerate(worlds)
            ]
            for policy in ("coverage", "temporal")
        }
        metrics = {policy: circle_metrics(walked) for policy, walked in circles.items()}
        gain = metrics["coverage"]["return_psnr"] - metrics["temporal"]["return_psnr"]
        scores = trial_metrics(views, trials) | metrics["coverage"] | {"return_gain": gain}
        if isinstance(generator, Writer):
            scores["bare_walls"] = bare_share(trial_plans(generator, trials, seed))
            scores["bare_walls_true"] = bare_share([trial.plan for trial in trials])
        if all(read_facts(circle.views)[0] for circle in circles["coverage"]):
            scores["things_kept"] = things_kept(circles["coverage"])
            scores["things_kept_temporal"] = things_kept(circles["temporal"])
            scores["things_in_empty_space"] = things_in_empty_space(circles["coverage"])
        yield GeneratorScores(name, scores, views)


def gate_results(metrics: Mapping[str, float]) -> dict[str, bool]:
    """Whether each line of the GATE is met."""
    return {name: least <= metrics[name] <= most for name, (least, most) in GATE.items()}
