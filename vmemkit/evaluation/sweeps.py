"""Sweeps: many walks, each judged by a protocol, which can be stopped and gone on with anywhere.

In: cells, each a scene, a protocol and the stages to use, as names and numbers. Out: a row of scores
per cell. `run_cell` is a pure function of its cell. Each row is a file of its own, written whole, so a
file that is there is done. A cell that fails is a row with its error, not the end of the sweep.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import Cameras, Views, cat, replacing
from vmemkit.evaluation.clusters import run_on_ray
from vmemkit.evaluation.perceptual import Lpips
from vmemkit.evaluation.pose_estimates import (
    ESTIMATORS,
    PoseEstimate,
    pose_estimator,
    pose_scores,
)
from vmemkit.evaluation.poses import warp_consistency
from vmemkit.evaluation.protocols import (
    PROTOCOLS,
    Course,
    Route,
    house_route,
    recorded_route,
)
from vmemkit.evaluation.recording_noise import NOISES, noisy
from vmemkit.evaluation.scores import coverage, psnr, share_of_best, ssim
from vmemkit.generation import PRESETS, Generator, Warp, Writer, preset, with_depth
from vmemkit.memory import Memory, begin, read, sightings_of
from vmemkit.pipeline import Step, WalkConfig, walk
from vmemkit.reconstruction import Reconstructor, cut3r, from_depth
from vmemkit.retrieval import POLICIES, Policy, pixels_per_surfel, retrieve, true_visibility
from vmemkit.scenes import Scene, build, capture, design, load, open_plan

Row = dict[str, Any]
ASPECT = 4 / 3  # width over height of views in houses
DIGITS = 4  # decimals of scores in rows
HASHED_DIGITS = 2  # decimals of poses in a hash: more would depend on a machine's rounding
GENERATORS: Mapping[str, Callable[[], Generator]] = {"warp": Warp, "writer": Writer}
SCORES = {  # of a row -> what it says: range, direction, unit
    "truth_ssim": "frames against the scene; -1 to 1, higher is better",
    "truth_psnr": "the same; dB, higher is better, at most 99",
    "truth_lpips": "the same by LPIPS, only with its network's file; 0 or more, lower is better",
    "pair_ssim": "frames against each other, weighted; -1 to 1, higher is better",
    "pair_psnr": "the same; dB. A world that has faded to one colour has the most",
    "warp_error": "colour difference where a pair shows one surface; 0 to 1, lower is better",
    "warp_share": "share of the pixels at which a pair shows one surface; 0 to 1, higher is better",
    "coverage": "target pixels that the chosen views had really seen; 0 to 1, higher is better",
    "coverage_of_best": "the same, relative to the best choice of as many views",
    "recall": "chosen views that overlap the targets, of all such views or of k; 0 to 1",
    "precision": "chosen views that overlap the targets, of all that were chosen; 0 to 1",
    "any_hit": "windows with a chosen view that overlaps the targets; 0 to 1",
    "poses_found": "frames whose pixels tell a pose, only if poses are asked for; 0 to 1",
    "rotation_distance": "R_dist of these poses, from those asked for; mean, degrees, lower is better",
    "translation_distance": "T_dist: mean, in shares of the furthest position; lower is better",
    "trajectory_error": "ATE: root mean square of positions; world units, lower is better",
    "motion_error": "RPE: the same of motions between located frames; world units, lower is better",
    "turn_error": "RPE: the same of turns between located frames; degrees, lower is better",
}
# Scores that a row has only where a field of its cell asks for them.
ON_REQUEST = {
    "lpips": ("truth_lpips",),
    "poses": (
        "poses_found",
        "rotation_distance",
        "translation_distance",
        "trajectory_error",
        "motion_error",
        "turn_error",
    ),
}
RECALL = "recall"  # the protocol without generation
OVERLAP = 0.1  # share of a window's pixels that a view must really see to overlap it


@dataclass(frozen=True)
class Cell:
    """One walk of a sweep."""

    scene: str  # "rooms:SEED", "open:SEED" (no walls between the rooms), or a recording's folder
    protocol: str  # a name in PROTOCOLS, or "recall"
    policy: str  # a name in `policies`
    generator: str = "warp"  # "warp", "writer", or a preset with published weights
    geometry: str = "generator"  # where new depth comes from: "generator" (or Warp), or "cut3r"
    k: int = 4
    m: int = 4
    seed: int = 0  # of the walk
    height: int = 72  # of the images of houses; recordings have their own
    noise: str = "clean"  # a name in NOISES: what is wrong with the given views
    lpips: str = ""  # a file with the network of LPIPS, see `Lpips`; none if empty
    poses: str = ""  # a name in ESTIMATORS: what tells the poses of the frames; nothing if empty

    @property
    def fields(self) -> Row:
        """The fields, as its row has them: those of ON_REQUEST only if they ask for something."""
        return {
            name: value for name, value in asdict(self).items() if value or name not in ON_REQUEST
        }

    @property
    def scores(self) -> list[str]:
        """The names of the scores in its row."""
        missing = [
            name for field in ON_REQUEST if not getattr(self, field) for name in ON_REQUEST[field]
        ]
        return [name for name in SCORES if name not in missing]

    @property
    def name(self) -> str:
        """The name of its file, which differs wherever a field does."""
        text = json.dumps(self.fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def last_and_greedy(memory: Memory, targets: Cameras, k: int) -> list[int]:
    """Lyra 2.0's form of retrieval: the last view, then greedily those that see most of the rest.

    # differs from Lyra 2.0: merged surfels instead of the views' points.
    """
    canvas = read(memory, targets, 48, 64)
    pixels = pixels_per_surfel(memory, canvas)
    surfel, view = sightings_of(memory.packed_sightings, pixels > 0)
    chosen = [len(memory) - 1]
    for _ in range(k - 1):
        pixels[surfel[view == chosen[-1]]] = 0.0
        gains = torch.bincount(view, pixels[surfel], minlength=len(memory))
        if float(gains.max()) <= 0:
            break
        chosen.append(int(gains.argmax()))
    return chosen


def policies() -> dict[str, Policy]:
    """All policies that a cell can name."""
    return {**POLICIES, "last_and_greedy": last_and_greedy}


def run_cell(cell: Cell) -> Row:
    """The scores of a cell, with its fields, the hash of its course, and seconds; SCORES says what
    each is. Scores that a protocol does not ask for are None. With LPIPS, "lpips_weights" says whose.

    Errors: ValueError for names that are not known, and whatever the stages raise.
    """
    _check_names(cell)
    scene, route, size = _scene(cell)
    course = PROTOCOLS["abca" if cell.protocol == RECALL else cell.protocol].course(route)
    memory = begin(noisy(scene.render(course.given, *size), NOISES[cell.noise]))
    # Networks load before the walk, so that a missing file is told at once.
    lpips, estimate = _measures(cell.lpips, cell.poses)
    began = time.perf_counter()
    if cell.protocol == RECALL:
        scores = overlap_recall(
            scene, memory, course.path, policies()[cell.policy], cell.k, cell.m, course.given
        )
    else:
        generator, reconstructor = _stages(cell.generator, cell.geometry)
        config = WalkConfig(
            generator=generator,
            reconstructor=reconstructor,
            policy=policies()[cell.policy],
            k=cell.k,
            m=cell.m,
            seed=cell.seed,
        )
        steps = list(walk(memory, course.path, config))
        scores = judge(course, scene, steps, lpips)
        if estimate is not None:
            frames = steps[-1].memory.views[len(course.given) - 1 :]
            scores |= pose_scores(estimate(frames), frames.cameras)
    seconds = time.perf_counter() - began
    scores = dict.fromkeys(cell.scores) | scores
    rounded = {name: None if x is None else round(x, DIGITS) for name, x in scores.items()}
    weights = {} if lpips is None else {"lpips_weights": lpips.name}
    about = {"course": course_hash(course), "seconds": round(seconds, 3)}
    return {**cell.fields, **rounded, **weights, **about}


def judge(
    course: Course, scene: Scene, steps: Sequence[Step], lpips: Lpips | None = None
) -> dict[str, float | None]:
    """The scores of a walk along a course, as SCORES names them; those that it does not ask for are
    missing, as are those of poses (`pose_scores`). Errors: ValueError for a walk of another length.
    """
    parts = [step.views for step in steps]
    image = torch.cat([views.image for views in parts])
    if len(image) != len(course.path):
        raise ValueError(
            f"need a view for each of {len(course.path)} frames, got {len(image)}: walk all of course.path"
        )
    scores: dict[str, float | None] = {}
    if len(course.truth):
        truth = scene.render(course.path[course.truth], *image.shape[2:]).image
        compared = list(zip(image[course.truth], truth, strict=True))
        scores["truth_ssim"] = mean(ssim(a, b) for a, b in compared)
        scores["truth_psnr"] = mean(psnr(a, b) for a, b in compared)
        if lpips is not None:
            scores["truth_lpips"] = mean(lpips(a, b) for a, b in compared)
    if len(course.pairs):
        scores |= _pair_scores(course, steps[-1].memory.views[-len(image) :])
    cameras = cat([course.given, course.path])  # where views were really taken
    covered, at = [], 0  # shares of judged steps, own and best; frame of the step's first target
    for step in steps:
        if course.judged.start <= at < course.judged.stop:
            chosen = step.retrieval.chosen
            known = cameras[: len(step.before)]
            covered += coverage(scene, known, step.targets, [chosen], len(chosen), rows=24)
        at += len(step.targets)
    if covered:
        scores["coverage"] = mean(share for share, _ in covered)
        scores["coverage_of_best"] = mean(share_of_best(share, best) for share, best in covered)
    return scores


def overlap_recall(
    scene: Scene,
    memory: Memory,
    targets: Cameras,
    policy: Policy,
    k: int = 4,
    m: int = 4,
    taken: Cameras | None = None,
) -> dict[str, float]:
    """Whether a policy names the views that overlap the targets: "recall", "precision" and "any_hit" of
    SCORES, as means over windows of m targets.

    A view overlaps a window if it really sees a tenth of the window's pixels or more. Nothing is
    generated, and the memory stays as it is. `taken` are the cameras that its views were really taken
    with, if their poses are wrong. The question is that of Context as Memory (Yu et al.,
    2025), which labels overlaps by frusta; here they are exact, with occlusion.
    Errors: ValueError if no view overlaps any window.
    """
    taken = memory.views.cameras if taken is None else taken
    recalls, precisions, finds = [], [], []
    for start in range(0, len(targets), m):
        window = targets[start : start + m]
        overlaps = overlapping(scene, taken, window)
        if not overlaps.any():
            continue
        chosen = retrieve(memory, window, min(k, len(memory)), policy).chosen
        hits = int(overlaps[chosen].sum())
        recalls.append(hits / min(k, int(overlaps.sum())))
        precisions.append(hits / max(1, len(chosen)))
        finds.append(float(hits > 0))
    if not recalls:
        raise ValueError(
            f"no view of the memory overlaps any target, of {len(memory)} views and {len(targets)} targets: "
            "begin the memory with views of what the targets see"
        )
    return {RECALL: mean(recalls), "precision": mean(precisions), "any_hit": mean(finds)}


def overlapping(
    scene: Scene, cameras: Cameras, targets: Cameras, rows: int = 24
) -> Bool[Tensor, " t"]:
    """Which cameras (t,) really see a tenth of the targets' pixels or more, on a grid of `rows` rows."""
    return true_visibility(scene, cameras, targets, rows).float().mean(1) >= OVERLAP


def course_hash(course: Course) -> str:
    """A hash of the cameras and frames of a course: equal hashes mean equal tasks.

    Poses count to two decimals. `benchmarks/courses.json` has the hashes of the made-up houses.
    """
    total = hashlib.sha256()
    for cameras in (course.given, course.path):
        for tensor in (cameras.world_from_cam, cameras.K):
            total.update(str(torch.round(tensor * 10**HASHED_DIGITS).long().tolist()).encode())
    weights = torch.round(course.weights * 10**DIGITS).long()
    frames = [part.tolist() for part in (course.truth, course.pairs, weights)]
    total.update(f"{frames} {course.judged}".encode())
    return total.hexdigest()[:16]


def sweep(
    cells: Sequence[Cell],
    out: str | Path,
    workers: int = 1,
    run: Callable[[Cell], Row] = run_cell,
    ray: str | None = None,
) -> Iterator[Row]:
    """The rows of all cells, as they come; rows that an earlier sweep wrote to the folder `out` come
    first.

    With one worker the cells run in this process, with more in processes of one thread each. A row
    of a cell that failed has its `error` and no scores; it runs again in the next sweep.
    ray: "local" starts a Ray with as many workers and stops it in the end. Any other text is the
    address of a cluster, all of whose CPUs and GPUs are used. Its machines need the same vmemkit,
    the weights, and recordings under the same full paths; this process writes all files. A cell
    whose worker or machine dies is tried again. Rows equal those of this machine but for seconds.
    Errors: ValueError for two equal cells, for an `out` that is a file, for files there that are no
    rows, and for a Ray that is missing or cannot be joined; OSError for disks.
    """
    if len(set(cells)) < len(cells):
        raise ValueError("a sweep needs cells that differ: some are given twice")
    folder = Path(out) / "cells"
    if Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"{out} is a file: give a folder to write to")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = []
    for cell in cells:
        row = _stored(folder / f"{cell.name}.json", cell)
        if row is None:
            waiting.append(cell)
        else:
            yield row
    rows = _rows(waiting, workers, run) if ray is None else _rows_of_ray(waiting, workers, run, ray)
    for cell, row in rows:
        with replacing(folder / f"{cell.name}.json") as draft:
            draft.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        yield row


def read_rows(path: str | Path) -> list[Row]:
    """The rows of the results.csv of `vmemkit evaluate`; empty fields are None.

    `core.data_file("table4.csv")` is VMem's table of retrieval strategies, as stored with vmemkit.
    Errors: ValueError for a file that is no such table, OSError if it cannot be read.
    """
    any_cell = Cell("", "", "")
    kinds: dict[str, type] = {name: type(value) for name, value in any_cell.fields.items()}
    kinds |= dict.fromkeys((*SCORES, "seconds"), float)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if missing := {*any_cell.fields, *any_cell.scores}.difference(table.fieldnames or ()):
                raise ValueError(f"it has no {', '.join(sorted(missing))}")
            return [
                {name: kinds.get(name, str)(text) if text else None for name, text in row.items()}
                for row in table
            ]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no table of a sweep: {error}") from error


def layout_of(row: Row) -> str:
    """ "rooms" (with walls between them), "open" (without) or "recordings", by the scene of a row."""
    kind, _, number = row["scene"].partition(":")
    return kind if number.isdecimal() else "recordings"


def by_policy(
    rows: Sequence[Row], score: str, layout: str | None = None, **fields: Any
) -> dict[str, list[float]]:
    """The values of a score by policy, in the order of the rows: of those rows that have these fields,
    such as k=4, and the layout, if one is given. Scores that were not asked for are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        fits = layout in (None, layout_of(row)) and fields.items() <= row.items()
        if fits and row.get(score) is not None:
            values.setdefault(row["policy"], []).append(row[score])
    return values


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a sweep as CSV. Errors: OSError for disks."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def bootstrap(
    values: Sequence[float], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """The lower and upper end of the mean's confidence interval, from resampled values (Efron, 1979).

    Errors: ValueError for no values.
    """
    if not len(values):
        raise ValueError("an interval needs values, got none")
    rng = torch.Generator().manual_seed(seed)
    sample = torch.tensor(values, dtype=torch.float64)
    drawn = torch.randint(len(values), (resamples, len(values)), generator=rng)
    means = sample[drawn].mean(1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return low, high


# ---- cells ---------------------------------------------------------------------------------------


def _check_names(cell: Cell) -> None:
    known = {
        "protocol": [*PROTOCOLS, RECALL],
        "policy": policies(),
        "generator": [*GENERATORS, *PRESETS],
        "geometry": ["generator", "cut3r"],
        "noise": NOISES,
        "poses": ["", *ESTIMATORS],
    }
    for name, choices in known.items():
        if getattr(cell, name) not in choices:
            raise ValueError(
                f"unknown {name} {getattr(cell, name)!r}: choose from {', '.join(filter(None, choices))}"
            )


@functools.lru_cache(maxsize=1)  # a worker's cells mostly use the same networks
def _stages(generator: str, geometry: str) -> tuple[Generator, Reconstructor]:
    """Errors: ValueError for weights that are missing; it says how to get them."""
    reconstructor = cut3r() if geometry == "cut3r" else from_depth
    if generator in GENERATORS:
        return GENERATORS[generator](), reconstructor
    made = preset(generator)
    return made if geometry == "cut3r" else with_depth(made, Warp()), reconstructor


@functools.lru_cache(maxsize=1)  # a sweep's cells have the same
def _measures(
    lpips: str, poses: str
) -> tuple[Lpips | None, Callable[[Views], PoseEstimate] | None]:
    return Lpips(lpips) if lpips else None, pose_estimator(poses) if poses else None


def _scene(cell: Cell) -> tuple[Scene, Route, tuple[int, int]]:
    """The scene, its route, and the (height, width) of its views."""
    kind, _, number = cell.scene.partition(":")
    if kind in ("rooms", "open") and number.isdecimal():
        plan = design(int(number))
        house = build(plan if kind == "rooms" else open_plan(plan))
        size = cell.height, round(ASPECT * cell.height)
        return house, house_route(house, int(number), aspect=size[1] / size[0]), size
    if not Path(cell.scene).exists():
        raise ValueError(
            f"there is no scene {cell.scene!r}: give rooms:SEED, open:SEED, or a recording's folder"
        )
    recording = capture(load(cell.scene).views)
    return recording, recorded_route(recording), recording.recorded_size


def _pair_scores(course: Course, views: Views) -> dict[str, float]:
    """Scores of the pairs of a course, among its generated views (n,)."""
    ssims, psnrs, errors, shares = [], [], [], []
    for i, j in course.pairs.tolist():
        ssims.append(ssim(views.image[i], views.image[j]))
        psnrs.append(psnr(views.image[i], views.image[j]))
        error, share = warp_consistency(views[i : i + 1], views[j : j + 1])
        errors.append(1.0 if error is None else error)
        shares.append(share)
    named = {"pair_ssim": ssims, "pair_psnr": psnrs, "warp_error": errors, "warp_share": shares}
    return {name: _weighted(values, course.weights) for name, values in named.items()}


def _weighted(values: Sequence[float], weights: Float[Tensor, " q"]) -> float:
    return float((torch.tensor(values, dtype=torch.float64) * weights).sum())


# ---- rows ----------------------------------------------------------------------------------------


def _stored(path: Path, cell: Cell) -> Row | None:
    """The finished row in a file; None without one. Errors: ValueError for a file of other content."""
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if {name: row[name] for name in cell.fields} != cell.fields:
            raise ValueError("it is of another cell")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no row of this sweep ({error}): delete it") from error
    return None if row.get("error") else row


def _rows(
    cells: Sequence[Cell], workers: int, run: Callable[[Cell], Row]
) -> Iterator[tuple[Cell, Row]]:
    if workers == 1:
        yield from ((cell, _tried(run, cell)) for cell in cells)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn) as pool:
        futures = {pool.submit(_tried, run, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # after Ctrl-C, too: what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)


def _rows_of_ray(
    cells: Sequence[Cell], workers: int, run: Callable[[Cell], Row], address: str
) -> Iterator[tuple[Cell, Row]]:
    if not cells:  # then no Ray is needed
        return
    for cell, row in run_on_ray(
        functools.partial(_tried, run), cells, address, workers, _has_networks
    ):
        yield cell, _failed(cell, row) if isinstance(row, Exception) else row


def _has_networks(cell: Cell) -> bool:
    """Whether a cell takes published weights, which a GPU should run."""
    return cell.protocol != RECALL and (
        cell.generator not in GENERATORS or "cut3r" in (cell.geometry, cell.poses)
    )


def _tried(run: Callable[[Cell], Row], cell: Cell) -> Row:
    """The row of a cell, or its error.

    torch has one thread meanwhile: sums round otherwise with several, and rows must not depend on that.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(cell)
    except Exception as error:  # of any stage: the other cells do not depend on this one
        return _failed(cell, error)
    finally:
        torch.set_num_threads(threads)


def _failed(cell: Cell, error: Exception) -> Row:
    return {**cell.fields, "error": f"{type(error).__name__}: {error}"}
