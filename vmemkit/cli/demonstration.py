"""The demonstration: four walks, each with the surfel memory and with the most recent views only.

In: a seed and a size. Out: a folder with a video, a contact sheet and the surfels of each walk,
`metrics.json` and `overview.png`; on the way, `Progress` for whoever shows it.

- rooms           a made-up house, from a single view: through the doorway and back by other poses
- rooms_capture   the same house from six views per room: all is seen, only memory decides
- panorama        a photograph of all directions: four views given, full circle and back
- stereo          a stereo photograph with its depth: a short orbit and back
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from vmemkit.core import Views, cat, data_file, replacing, resize
from vmemkit.evaluation import score
from vmemkit.figures import comparison, contact_sheet, save_figure, save_walk_video
from vmemkit.memory import begin, save_ply
from vmemkit.pipeline import Step, walk
from vmemkit.retrieval import POLICIES as RETRIEVAL_POLICIES
from vmemkit.scenes import (
    ASPECT,
    FOV,
    HEIGHT,
    PANORAMA,
    STEREO,
    Rooms,
    Scene,
    Tour,
    capture_tour,
    moves,
    orbit,
    picture_size,
    rooms,
    single_tour,
    stereo_view,
    turned,
)
from vmemkit.scenes import panorama as photograph

TURN = 15.0  # degrees between the views of the circle
SWING, SWING_STEP, LIFT = 12.0, 3.0, 0.12  # degrees to each side, between views; metres
POLICIES = ("coverage", "temporal")
PLAIN = {"coverage": "surfel memory", "temporal": "latest views"}  # for the overview
MOMENTS = (0.215, 0.49, 0.85)  # of the path: those of the overview
DIGITS = 4  # of the metrics


@dataclass(frozen=True, repr=False)
class Job:
    """A walk to take: where it starts, where it goes, and what is known of the truth."""

    name: str
    about: str
    given: Views  # (g,)
    tour: Tour
    scene: Scene | None
    truth: Views | None  # (n,) of the tour's cameras


@dataclass(frozen=True)
class Progress:
    """How far the demonstration is. `row` comes with the last step of a walk: its metrics."""

    walk: str
    policy: str | None  # None while the walk is prepared
    done: int = 0  # views
    total: int | None = None
    row: dict[str, Any] | None = None


def demo(
    out: str | os.PathLike,
    seed: int = 0,
    walks: Sequence[str] | None = None,
    policies: Sequence[str] = POLICIES,
    height: int = HEIGHT,
) -> Iterator[Progress]:
    """Take the walks (all of `WALKS` unless named), each with every policy, and write `out`.

    Per walk and policy: `<walk>-<policy>.mp4`, `.png` (contact sheet) and `.ply` (the last
    memory's surfels); then `metrics.json`, a list of rows, and `overview.png`. The same seed gives
    the same metrics. Images are `height` x 4/3 `height` pixels.
    Errors: ValueError, before anything is written, for unknown walks or policies, missing data,
    too small a height, or a file at `out`.
    """
    walks, out = list(WALKS) if walks is None else list(walks), Path(out)
    _check_names("walks", walks, WALKS)
    _check_names("policies", policies, RETRIEVAL_POLICIES)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to write to")
    if height < 16:
        raise ValueError(f"need images of at least 16 rows for anything to be seen, got {height}")
    data_file(PANORAMA)  # before anything is written
    return _demo(out, seed, walks, policies, height)


def _check_names(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"unknown {kind} {unknown}: choose one or more of {', '.join(known)}")


def _demo(
    out: Path, seed: int, walks: Sequence[str], policies: Sequence[str], height: int
) -> Iterator[Progress]:
    rows: list[dict[str, Any]] = []
    for name in walks:
        yield Progress(name, None)
        job, taken = WALKS[name](height, seed), {}
        out.mkdir(parents=True, exist_ok=True)
        for policy in policies:
            total, steps = len(job.tour.cameras), []
            for step in walk(begin(job.given), job.tour.cameras, policy=policy, seed=seed):
                yield Progress(name, policy, sum(len(s.targets) for s in steps), total)
                steps.append(step)
            taken[policy] = steps
            rows.append(_row(job, policy, steps))
            _write(out, job, policy, steps)
            _save_json(out / "metrics.json", rows)
            yield Progress(name, policy, total, total, rows[-1])
        # the capture is the walk on which only memory decides; else any that knows the truth
        if job.truth is not None and (name == "rooms_capture" or "rooms_capture" not in walks):
            save_figure(out / "overview.png", _overview(job, taken))


# ---- the walks -----------------------------------------------------------------------------------


def rooms_walk(height: int, seed: int) -> Job:
    """A house from a single view."""
    house = rooms(seed)
    tour = single_tour(house, seed, FOV, ASPECT)
    return _in_house("rooms", "a made-up house, from one view", house, tour, height)


def rooms_capture_walk(height: int, seed: int) -> Job:
    """A house from six views per room."""
    house = rooms(seed)
    tour = capture_tour(house, seed, FOV, ASPECT)
    about = "a made-up house, from six views per room"
    return _in_house("rooms_capture", about, house, tour, height)


def panorama_walk(height: int, seed: int) -> Job:
    """Four views 90 degrees apart are given; the full circle, and back the same way."""
    scene = photograph(data_file(PANORAMA))
    headings = torch.arange(TURN, 360 + TURN / 2, TURN)
    there_and_back = torch.cat([headings, headings.flip(0) - TURN])
    count = len(headings)
    # going back, heading h - TURN was seen going out, and heading 0 at the circle's end
    seen = (torch.arange(count - 2, -2, -1)) % count
    twin = torch.cat([torch.full((count,), -1), seen])
    given = turned(torch.arange(0.0, 360.0, 90.0))
    tour = Tour(given, turned(there_and_back), slice(count, 2 * count), twin)
    size = picture_size(height)
    about, truth = (
        "a photograph of all directions, from four views",
        scene.render(tour.cameras, *size),
    )
    return Job("panorama", about, scene.render(given, *size), tour, scene, truth)


def stereo_walk(height: int, seed: int) -> Job:
    """One view is given; to the right, back and to the left from higher up, and the first again."""
    given = resize(stereo_view(STEREO), *picture_size(height))
    start, distance = given.cameras[0], float(given.depth.nanmedian())
    count = round(SWING / SWING_STEP)
    first = orbit(start, distance, SWING, count)
    higher = moves(first[-1], f"up {LIFT}", step=LIFT)
    over = orbit(higher[-1], distance, -2 * SWING, count)
    lower = moves(over[-1], f"down {LIFT}", step=LIFT)
    home = orbit(lower[-1], distance, SWING, count // 2)
    path = cat([first, higher, over, lower, home, first])
    back = slice(count, len(path) - count)
    twin = torch.cat([torch.full((len(path) - count,), -1), torch.arange(count)])
    tour = Tour(given.cameras, path, back, twin)
    return Job("stereo", "a stereo photograph, from one view", given, tour, None, None)


WALKS: dict[str, Callable[[int, int], Job]] = {
    "rooms": rooms_walk,
    "rooms_capture": rooms_capture_walk,
    "panorama": panorama_walk,
    "stereo": stereo_walk,
}


def _in_house(name: str, about: str, house: Rooms, tour: Tour, height: int) -> Job:
    size = picture_size(height)
    given = house.render(tour.given, *size, samples=2)
    return Job(name, about, given, tour, house, house.render(tour.cameras, *size, samples=2))


# ---- what is written -----------------------------------------------------------------------------


def _row(job: Job, policy: str, steps: list[Step]) -> dict[str, Any]:
    truth = None if job.truth is None else job.truth.image
    scores = asdict(score(job.tour, steps, job.scene, truth))
    rounded = {
        key: None if value is None else round(value, DIGITS) for key, value in scores.items()
    }
    return {"walk": job.name, "policy": policy, **rounded}


def _write(out: Path, job: Job, policy: str, steps: list[Step]) -> None:
    truth = None if job.truth is None else job.truth.image
    stem = out / f"{job.name}-{policy}"
    save_walk_video(stem.with_suffix(".mp4"), steps, truth)
    save_figure(stem.with_suffix(".png"), contact_sheet(steps, truth, f"{job.about} · {policy}"))
    save_ply(steps[-1].memory.surfels, stem.with_suffix(".ply"))


def _overview(job: Job, taken: dict[str, list[Step]]) -> Figure:
    moments = [round(share * (len(job.tour.cameras) - 1)) for share in MOMENTS]
    named = {PLAIN.get(policy, policy): steps for policy, steps in taken.items()}
    return comparison(named, job.truth.image, moments)


def _save_json(path: Path, rows: list[dict[str, Any]]) -> None:
    with replacing(path) as draft:
        draft.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
