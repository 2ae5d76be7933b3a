"""Judging a generator where it has to imagine: beside copies of what was seen, and in circles.

In: generators. Out: a row of numbers for each, and pictures. Unseen houses, and only the pixels that
no context view shows (by `reproject`): there the error of depth, and how much structure there is
against the truth, since a blur wins every error of colours. Then a full circle on the spot and back,
which shows whether a walk decays, and whether it comes back to what it invented.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from vmemkit.core import LUMA, Cameras, Views, cat, intrinsics, look_at, stream
from vmemkit.evaluation.scores import psnr
from vmemkit.generation import Generation, Generator, completed, push_pull, reproject, windows
from vmemkit.generation.rgbd import layout
from vmemkit.memory import begin
from vmemkit.pipeline import walk
from vmemkit.scenes import EYE_HEIGHT, Rooms, rooms, walk_through

UNSEEN = 0x5EE  # first number of the random streams of judging, which training does not use
LEAST, MOST = 0.25, 0.95  # share of a target that must be unseen for it to be a trial
WALK_VIEWS = 20  # of the walk through a house that a trial is taken from
SAME = 0.05  # share of the depth
TURN, FOV = 30.0, 70.0  # degrees: between views of a circle, and of its camera
FEATURES, CELL = (16, 32, 64), 8  # channels of the random convolutions; pixels per feature

GATE = {  # what a generator must reach to be the default: from, to
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
    """One target, the context that a generator gets, and the truth."""

    context: Views  # (k,)
    truth: Views  # (1,)
    unseen: Bool[Tensor, "h w"]  # what no context view shows
    seen: Bool[Tensor, "h w"]  # what one shows, and rightly (its depth within SAME)


@dataclass(frozen=True)
class Filled:
    """A rival without a network: what the context shows, and the rest by rule: from the nearest known
    pixel, by push-pull, or the room's `layout`."""

    fill: Literal["nearest", "push_pull", "layout"]

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        window, (height, width) = windows(context), context.image.shape[2:]
        seen = reproject(window, targets[None])
        room = layout(window, targets[None], height, width)
        known = seen.known[0]
        image, depth = room.image[0], room.depth[0]
        for i in range(len(targets) if self.fill != "layout" else 0):
            if known[i].any():  # else the layout is all there is to go by
                image[i], depth[i] = self._spread(seen.image[0, i], seen.depth[0, i], known[i])
        yield completed(seen, image, depth)

    def _spread(
        self, image: Float[Tensor, "3 h w"], depth: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]
    ) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
        if self.fill == "nearest":
            unknown = ~known.cpu().numpy()
            at = distance_transform_edt(unknown, return_distances=False, return_indices=True)
            row, column = torch.from_numpy(at).to(known.device)
            return image[:, row, column], depth[row, column]
        return push_pull(image, known), 1 / push_pull(1 / depth[None], known)[0]


# ---- trials --------------------------------------------------------------------------------------


def trials(count: int, size: int = 64, seed: int = 0) -> list[Trial]:
    """Targets in houses that training never sees, with 1 to 4 of the views before them as context.

    Those that the context shows almost whole, or not at all, are left out.
    """
    found: list[Trial] = []
    number = 0
    while len(found) < count:
        rng = stream(UNSEEN, seed, number)
        number += 1
        house = rooms(int(torch.randint(2**40, (), generator=rng)), 2)
        cameras = walk_through(house, rng, WALK_VIEWS)
        views = house.render(cameras, size, size)
        for _ in range(6):
            at = 2 + int(torch.randint(len(views) - 2, (), generator=rng))
            k = 1 + int(torch.randint(4, (), generator=rng))
            context, truth = views[max(0, at - k) : at], views[at : at + 1]
            shown = reproject(windows(context), truth.cameras[None])
            unseen = ~shown.known[0, 0]
            right = (shown.depth[0, 0] / truth.depth[0] - 1).abs() < SAME
            if LEAST <= float(unseen.float().mean()) <= MOST and len(found) < count:
                found.append(Trial(context, truth, unseen, ~unseen & right))
    return found


def imagine(generator: Generator, trials: list[Trial], seed: int = 0) -> Views:
    """What a generator makes of each trial (n,)."""
    made = []
    for i, trial in enumerate(trials):
        *_, last = generator(trial.context, trial.truth.cameras, stream(UNSEEN, seed, 1, i))
        made.append(last.views(trial.truth.cameras))
    return cat(made)


def imagination(made: Views, trials: list[Trial]) -> dict[str, float]:
    """Numbers on the pixels that the context does not show, and PSNR on those it does."""
    unseen, seen = (torch.stack([getattr(t, n) for t in trials]) for n in ("unseen", "seen"))
    truth = torch.cat([trial.truth.image for trial in trials])
    depth = torch.cat([trial.truth.depth for trial in trials])
    error = (made.image - truth).square().mean(1)
    return {
        "depth_error": float((made.depth / depth - 1).abs()[unseen].nanmean()),
        "edges": edge_energy(made.image, unseen) / edge_energy(truth, unseen),
        "contrast": contrast(made.image, unseen) / contrast(truth, unseen),
        "frechet": frechet(features(made.image, unseen), features(truth, unseen)),
        "psnr_unseen": _decibels(error[unseen]),
        "psnr_seen": _decibels(error[seen]),
    }


def trial_rows(
    made: Mapping[str, Views], trials: list[Trial]
) -> dict[str, Float[Tensor, "n 3 h w"]]:
    """Rows of images by name, for `figures.grid`: the last context view of each trial, the seen part
    of the target (the rest white), what each generator made, and the truth."""
    truth = torch.cat([trial.truth.image for trial in trials])
    unseen = torch.stack([trial.unseen for trial in trials])
    return {
        "context": torch.cat([trial.context.image[-1:] for trial in trials]),
        "shown": torch.where(unseen[:, None], 1.0, truth),
        **{name: views.image for name, views in made.items()},
        "truth": truth,
    }


def edge_energy(image: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n h w"]) -> float:
    """Mean absolute step of luminance between neighbouring pixels of the mask."""
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
    pixels most of which are in the mask. No pretrained network: not FID, and not comparable to it."""
    rng, x = torch.Generator().manual_seed(0), 2 * image - 1
    for channels in FEATURES:
        fan = 9 * x.shape[1]
        weight = torch.randn(channels, x.shape[1], 3, 3, generator=rng) * (2 / fan) ** 0.5
        x = functional.relu(functional.conv2d(x, weight.to(x), stride=2, padding=1))
    cells = functional.avg_pool2d(mask[:, None].float(), CELL)[:, 0] > 0.5
    return x.movedim(1, -1)[cells]


def frechet(a: Float[Tensor, "s f"], b: Float[Tensor, "r f"]) -> float:
    """Frechet distance of two sets of features, as if they were normally distributed."""
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

    made: Views  # (2 n,) n out, the last of which is the start's pose, and n back
    truth: Views
    seconds: float  # per step of 4 views


def circle(
    house: Rooms, generator: Generator, policy: str, size: int = 64, seed: int = 0
) -> Circle:
    """From a view of the first room: TURN degrees at a time, all round to the start, and back."""
    n = round(360 / TURN)
    turn = torch.cat([torch.arange(1, n + 1), torch.arange(n - 1, -1, -1)]) * TURN
    cameras = _turned(house.centres[0], torch.cat([torch.zeros(1), turn]))
    truth = house.render(cameras, size, size)
    start = time.perf_counter()
    steps = list(walk(begin(truth[:1]), cameras[1:], generator, policy=policy, seed=seed))
    seconds = (time.perf_counter() - start) / len(steps)
    made = steps[-1].memory.views[1:]
    return Circle(made, truth[1:], seconds)


def _turned(eye: Float[Tensor, " 3"], degrees: Float[Tensor, " n"]) -> Cameras:
    yaw = torch.deg2rad(degrees)
    eye = torch.stack([eye[0], torch.tensor(-EYE_HEIGHT), eye[2]])
    gaze = torch.stack([yaw.sin(), torch.zeros_like(yaw), yaw.cos()], 1)
    poses = look_at(eye.expand_as(gaze), eye + gaze)
    return Cameras(poses, intrinsics(FOV).expand(len(poses), 3, 3))


def endurance(circles: list[Circle]) -> dict[str, float]:
    """How a generator holds out, over circles in several houses: PSNR of the way back against the
    way out, and the least and most structure of any step against the truth's."""
    n = len(circles[0].made) // 2
    whole = torch.ones_like(circles[0].made.image[:, 0], dtype=torch.bool)
    ratios: dict[str, list[float]] = {"edges": [], "contrast": []}
    for i in range(2 * n):
        made, truth = (
            torch.cat([getattr(c, name).image[i : i + 1] for c in circles])
            for name in ("made", "truth")
        )
        mask = whole[:1].expand(len(circles), -1, -1)
        for name, measure in (("edges", edge_energy), ("contrast", contrast)):
            ratios[name].append(measure(made, mask) / measure(truth, mask))
    pairs = [(2 * n - 2 - i, i) for i in range(n - 1)]  # back, and out, in the same pose
    returns = [psnr(c.made.image[back], c.made.image[out]) for c in circles for back, out in pairs]
    limits = {f"{key}_{f.__name__[:3]}": f(row) for key, row in ratios.items() for f in (min, max)}
    return {
        "return_psnr": mean(returns),
        "edges_least": limits["edges_min"],
        "edges_most": limits["edges_max"],
        "contrast_least": limits["contrast_min"],
        "contrast_most": limits["contrast_max"],
        "seconds": mean(c.seconds for c in circles),
    }


@dataclass(frozen=True, repr=False)
class GeneratorVerdict:
    """What a generator was found to be worth."""

    name: str
    numbers: dict[str, float]
    made: Views  # of the trials


def judge_generators(
    generators: Mapping[str, Generator], asked: list[Trial], houses: int = 6, seed: int = 0
) -> Iterator[GeneratorVerdict]:
    """One verdict per generator, as it is ready: on the trials, and on circles in `houses` houses."""
    size = asked[0].truth.image.shape[-1]
    seeds = [
        int(torch.randint(2**40, (), generator=stream(UNSEEN, seed, 2, i))) for i in range(houses)
    ]
    homes = [rooms(number) for number in seeds]
    for name, generator in generators.items():
        made = imagine(generator, asked, seed)
        kept, lost = (
            [circle(house, generator, policy, size, seed) for house in homes]
            for policy in ("coverage", "temporal")
        )
        numbers = imagination(made, asked) | endurance(kept)
        numbers["return_gain"] = numbers["return_psnr"] - endurance(lost)["return_psnr"]
        yield GeneratorVerdict(name, numbers, made)


def passed(row: Mapping[str, float]) -> dict[str, bool]:
    """Which lines of the GATE a row of numbers passes."""
    return {name: low <= row[name] <= high for name, (low, high) in GATE.items()}
