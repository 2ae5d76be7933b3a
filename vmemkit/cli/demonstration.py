"""`vmemkit demo`: four walks, each with the surfel memory and with the most recent views only.

In: a seed and a size. Out: a folder with films, contact sheets and surfels of each walk, their
metrics, and `index.html`, which shows it all; on the way, a `Progress` per step for whoever shows it.

- rooms           a made-up house, from a single view: through the doorway and back by other poses
- rooms_capture   the same house from six views per room: all is seen, only retrieval decides
- panorama        a photograph of all directions: four views given, full circle and back
- stereo          a stereo photograph with its depth: a short orbit and back

The Writer continues the houses, and Warp the photographs.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.cli.demonstration_page import Section, page
from vmemkit.cli.terminal import metrics_table, progress_bar
from vmemkit.core import Cameras, Views, cat, data_file, replacing, resize, save_video
from vmemkit.evaluation import score
from vmemkit.figures import (
    FPS,
    VIDEO_ROWS,
    comparison,
    contact_sheet,
    fly_round,
    save_animation,
    save_figure,
    side_by_side,
    walk_film,
)
from vmemkit.generation import Generator, Warp, Writer
from vmemkit.memory import begin, save_ply
from vmemkit.pipeline import Step, walk
from vmemkit.retrieval import POLICIES as RETRIEVAL_POLICIES
from vmemkit.scenes import (
    ASPECT,
    FOV,
    HEIGHT,
    PANORAMA,
    STEREO,
    Scene,
    Tour,
    capture_tour,
    circle_cameras,
    example_size,
    moves,
    orbit,
    panorama,
    rooms,
    single_tour,
    stereo_view,
)

TURN = 15.0  # degrees between the views of the circle
SWING = 12.0  # degrees of the orbit to each side
SWING_STEP = 3.0  # degrees between its views
LIFT = 0.12  # metres by which its way back is higher
POLICIES = ("coverage", "temporal")
LABELS = {"coverage": "surfel memory", "temporal": "latest views"}  # names of the overview's rows
MOMENTS = (0.06, 0.215, 0.96)  # shares of the path at which the overview shows a view
SHEET_ROWS = 3  # steps in a contact sheet
DIGITS = 4  # decimals of the metrics
OVERVIEW_SCALE = 0.5  # the animation has this share of the film's height and width
PAGE = "index.html"
SMALLER = 2 / 3  # all walks but `rooms`, which the overview shows, are smaller by this factor
MIN_HEIGHT = 16  # pixels
EXPLANATION = (
    "coverage: share of the target pixels on the way back that the retrieved views had really seen "
    "(of best: relative to the best choice of views); truth SSIM, dB: likeness of all views to the real "
    "scene; return SSIM, dB: of second visits to first ones. Higher is better. Do not read return dB "
    "alone: a world that has faded to one colour repeats itself perfectly."
)


@dataclass(frozen=True, repr=False)
class Job:
    """A walk to take: where it starts, where it goes, and the truth if it is known."""

    name: str
    about: str
    given: Views  # (g,)
    tour: Tour
    scene: Scene | None
    truth: Views | None  # (n,) of the tour's cameras
    generator: Generator
    render: Callable[[Cameras], Views] | None = None  # the truth of other cameras

    @property
    def title(self) -> str:
        return self.about[0].upper() + self.about[1:]


@dataclass(frozen=True)
class Progress:
    """How far the demonstration is. `row` comes with the last step of a walk: its metrics."""

    walk: str
    policy: str | None  # or several; None while the walk is prepared, and while its films are made
    done: int = 0  # views
    total: int | None = None
    row: dict[str, Any] | None = None


def run_demo(
    options: argparse.Namespace,
    console: Console,
    height: int = HEIGHT,
    film_rows: int = VIDEO_ROWS,
) -> None:
    """`vmemkit demo`: takes the walks, prints their metrics and where the results are."""
    rows: list[dict[str, Any]] = []
    with progress_bar(console) as bar:
        task = bar.add_task("preparing", total=None)
        for state in demo(
            options.out, options.seed, options.walks, height=height, film_rows=film_rows
        ):
            label = f"{state.walk} · {state.policy or 'truth and films'}"
            bar.update(task, description=label, completed=state.done, total=state.total)
            if state.row is not None:
                rows.append(state.row)
                if not console.is_terminal:  # a log shows no bar
                    console.print(f"{state.walk} with {state.policy} is done")
    console.print(metrics_table(rows))
    console.print(EXPLANATION, style="dim")
    console.print(
        "next: `make lab` opens the lessons; `vmemkit walk photo.jpg` takes your own photo"
    )
    console.print(f"open {Path(options.out) / PAGE}", soft_wrap=True)


def demo(
    out: str | os.PathLike,
    seed: int = 0,
    walks: Sequence[str] | None = None,
    policies: Sequence[str] = POLICIES,
    height: int = HEIGHT,
    film_rows: int = VIDEO_ROWS,
) -> Iterator[Progress]:
    """Take the walks (default: all of `WALKS`), each with every policy, and write them to `out`.

    Per walk: `<walk>.mp4` (the truth and each policy, side by side), `<walk>-surfels.mp4` (a flight
    round them), and per policy `<walk>-<policy>.png` (contact sheet) and `.ply` (surfels). Then
    `index.html`, which shows it all, `metrics.json` (a list of rows), `overview.png` and
    `overview.webp` (a film in small). The same seed gives the same metrics. Images of `rooms` have
    `height` x 4/3 `height` pixels, those of the other walks are smaller by SMALLER;
    panels of films have `film_rows` rows.
    Errors: ValueError, before anything is written, for unknown walks or policies, missing data,
    too small a height, or a file at `out`.
    """
    walks, out = list(WALKS) if walks is None else list(walks), Path(out)
    _check_names("walks", walks, WALKS)
    _check_names("policies", policies, RETRIEVAL_POLICIES)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to write to")
    if height < MIN_HEIGHT:
        raise ValueError(
            f"need images of at least {MIN_HEIGHT} rows to show anything, got {height}"
        )
    data_file(PANORAMA)  # raises if the data is missing
    return _demo(out, seed, walks, policies, height, film_rows)


def _check_names(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"unknown {kind} {unknown}: choose one or more of {', '.join(known)}")


def _demo(
    out: Path,
    seed: int,
    walks: Sequence[str],
    policies: Sequence[str],
    height: int,
    film_rows: int,
) -> Iterator[Progress]:
    rows: list[dict[str, Any]] = []
    sections: list[Section] = []
    for name in walks:
        yield Progress(name, None)
        job = WALKS[name](height, seed)
        out.mkdir(parents=True, exist_ok=True)
        steps_by_policy: dict[str, list[Step]] = {policy: [] for policy in policies}
        total = len(job.tour.cameras)
        for done, steps in _walks_at_once(job, policies, seed):
            for policy, step in zip(policies, steps, strict=True):
                steps_by_policy[policy].append(step)
            yield Progress(name, " and ".join(policies), done, total)
        for policy, steps in steps_by_policy.items():
            rows.append(_row(job, policy, steps))
            _write(out, job, policy, steps)
            with replacing(out / "metrics.json") as draft:
                draft.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
            yield Progress(name, policy, total, total, rows[-1])
        yield Progress(name, None)
        film = _film(job, steps_by_policy, film_rows)
        save_video(out / f"{name}.mp4", film, FPS)
        flight = fly_round(steps_by_policy[policies[0]][-1].memory, rows=film_rows)
        save_video(out / f"{name}-surfels.mp4", flight.image, FPS)
        # The overview shows `rooms`, or else the last walk whose truth is known.
        if job.truth is not None and (name == "rooms" or "rooms" not in walks):
            save_figure(out / "overview.png", _overview(job, steps_by_policy))
            small = interpolate(film, scale_factor=OVERVIEW_SCALE, mode="area")
            save_animation(out / "overview.webp", small, FPS)
        sections.append(_section(job, policies, rows[-len(policies) :]))
        overview = "overview.png" if (out / "overview.png").exists() else None
        with replacing(out / PAGE) as draft:
            draft.write_text(page(sections, EXPLANATION, overview), encoding="utf-8")


def _walks_at_once(
    job: Job, policies: Sequence[str], seed: int
) -> Iterator[tuple[int, tuple[Step, ...]]]:
    """The number of views that are done, and the last step by each policy. The steps are taken in
    threads, because most of their work lets other threads run."""
    start, path, done = begin(job.given), job.tour.cameras, 0
    started = [
        walk(start, path, generator=job.generator, policy=policy, seed=seed) for policy in policies
    ]
    with ThreadPoolExecutor(len(started)) as pool:
        while done < len(path):
            steps = tuple(pool.map(next, started))
            done += len(steps[0].targets)
            yield done, steps


# ---- the walks -----------------------------------------------------------------------------------


def rooms_walk(height: int, seed: int) -> Job:
    """A house from a single view."""
    return _in_house("rooms", "a made-up house, from one view", single_tour, height, seed)


def rooms_capture_walk(height: int, seed: int) -> Job:
    """A house from six views per room."""
    about = "a made-up house, from six views per room"
    return _in_house("rooms_capture", about, capture_tour, round(SMALLER * height), seed)


def panorama_walk(height: int, seed: int) -> Job:
    """Four views 90 degrees apart are given; the full circle, and back the same way."""
    scene, size = panorama(data_file(PANORAMA)), example_size(round(SMALLER * height))
    headings = torch.arange(TURN, 360 + TURN / 2, TURN)
    count = len(headings)
    # Row i of the way back stands where row count - 2 - i of the way out stood; heading 0, the last
    # one, was first reached at the circle's end.
    first_visit = torch.arange(count - 2, -2, -1) % count
    given = circle_cameras(torch.arange(0.0, 360.0, 90.0))
    tour = Tour(
        given=given,
        cameras=circle_cameras(torch.cat([headings, headings.flip(0) - TURN])),
        back=slice(count, 2 * count),
        twin=torch.cat([torch.full((count,), -1), first_visit]),
    )
    about = "a photograph of all directions, from four views"
    render = functools.partial(scene.render, height=size[0], width=size[1])
    return Job("panorama", about, render(given), tour, scene, render(tour.cameras), Warp(), render)


def stereo_walk(height: int, seed: int) -> Job:
    """One view is given; to the right, back and to the left from higher up, and the first again."""
    given = resize(stereo_view(STEREO), *example_size(round(SMALLER * height)))
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
    return Job("stereo", "a stereo photograph, from one view", given, tour, None, None, Warp())


WALKS: dict[str, Callable[[int, int], Job]] = {
    "rooms": rooms_walk,
    "rooms_capture": rooms_capture_walk,
    "panorama": panorama_walk,
    "stereo": stereo_walk,
}


def _in_house(name: str, about: str, tour_of: Callable[..., Tour], height: int, seed: int) -> Job:
    house, size = rooms(seed), example_size(height)
    tour = tour_of(house, seed, FOV, ASPECT)
    render = functools.partial(house.render, height=size[0], width=size[1], samples=2)
    given, truth = render(tour.given), render(tour.cameras)
    return Job(name, about, given, tour, house, truth, Writer(), render)


# ---- results -------------------------------------------------------------------------------------


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
    title = f"{job.title} · {LABELS.get(policy, policy)}"
    save_figure(stem.with_suffix(".png"), contact_sheet(steps, truth, title, SHEET_ROWS))
    save_ply(steps[-1].memory.surfels, stem.with_suffix(".ply"))


def _film(job: Job, steps_by_policy: dict[str, list[Step]], rows: int) -> Float[Tensor, "f 3 h w"]:
    """The truth, if it is known, and the walk by each policy, side by side."""
    with ThreadPoolExecutor(len(steps_by_policy)) as pool:
        films = dict(
            zip(steps_by_policy, pool.map(walk_film, steps_by_policy.values()), strict=True)
        )
    panels = {LABELS.get(policy, policy): film.image for policy, film in films.items()}
    if job.render is not None:
        path = next(iter(films.values())).cameras
        panels = {"truth": job.render(path).image} | panels
    return side_by_side(panels, rows)


def _section(job: Job, policies: Sequence[str], rows: Sequence[dict[str, Any]]) -> Section:
    names = {LABELS.get(policy, policy): f"{job.name}-{policy}" for policy in policies}
    return Section(
        title=job.title,
        film=f"{job.name}.mp4",
        flight=f"{job.name}-surfels.mp4",
        sheets={label: f"{stem}.png" for label, stem in names.items()},
        surfels={label: f"{stem}.ply" for label, stem in names.items()},
        rows=dict(zip(names, rows, strict=True)),
    )


def _overview(job: Job, steps_by_policy: dict[str, list[Step]]) -> Figure:
    moments = [round(share * (len(job.tour.cameras) - 1)) for share in MOMENTS]
    rows = {LABELS.get(policy, policy): steps for policy, steps in steps_by_policy.items()}
    return comparison(rows, job.truth.image, moments)
