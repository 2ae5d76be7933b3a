"""`vmemkit evaluate generator`: the generators without weights, beside simple baselines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmemkit.core import Views
from vmemkit.evaluation import (
    GATE,
    FillBaseline,
    GeneratorScores,
    Trial,
    evaluate_generators,
    gate_results,
    sample_trials,
    trial_images,
)
from vmemkit.figures import grid, save_figure
from vmemkit.generation import Generator, Warp, WarpConfig, Writer

CANDIDATE = "writer"  # the generator that is held to the GATE
# All but `warp` start from the same reprojection.
GENERATORS: Mapping[str, Generator] = {
    "nearest": FillBaseline("nearest"),
    "push-pull": FillBaseline("push_pull"),
    "warp": Warp(WarpConfig(fill="push_pull")),
    CANDIDATE: Writer(),
}
COLUMNS = {  # metric -> heading, decimals
    "depth_error": ("depth error", 3),
    "edges": ("edges", 2),
    "contrast": ("contrast", 2),
    "frechet": ("frechet", 3),
    "psnr_unseen": ("unseen dB", 1),
    "psnr_seen": ("seen dB", 1),
    "edges_least": ("edges from", 2),
    "edges_most": ("to", 2),
    "contrast_least": ("contrast from", 2),
    "contrast_most": ("to", 2),
    "things_kept": ("things kept", 2),
    "things_kept_temporal": ("by temporal", 2),
    "things_in_empty_space": ("in empty space", 0),
    "bare_walls": ("bare walls", 3),
    "bare_walls_true": ("in truth", 3),
    "seconds": ("s / step", 2),
    "return_psnr": ("return dB", 1),
    "return_gain": ("gain dB", 1),
}
EXPLANATION = (
    "On pixels that the context does not show: relative depth error; edge energy and contrast (1: as "
    "much structure as the truth); Frechet distance of random-convolution features (not FID); unseen "
    "dB. On pixels that it shows: seen dB. On a full circle and back: structure of the steps with "
    "least and most of it. Where views say what they show: the share of things that come back within "
    "10 cm and of the same kind, and things where the first view saw nothing. Of plans: the share of "
    "walls of 3 m or longer with no thing, window or doorway. Seconds per step of 4 views. Last, PSNR "
    "of the way back against the way out under surfel retrieval, and its gain over temporal: an empty "
    "wall repeats itself best, so do not read these alone."
)


def run_evaluate(
    options: argparse.Namespace,
    console: Console,
    generators: Mapping[str, Generator] = GENERATORS,
) -> None:
    """`vmemkit evaluate generator`: the table, evaluation.json and a sheet of images.

    `generators` by name; the gate is for the CANDIDATE among them.
    """
    torch.set_num_threads(options.threads)
    if options.count < 2 or options.houses < 1:
        raise ValueError("--count must be 2 or more, --houses 1 or more")
    trials = sample_trials(options.count, seed=options.seed)
    scores = []
    for score in evaluate_generators(generators, trials, options.houses, options.seed):
        console.print(f"{score.name} is evaluated")
        scores.append(score)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    numbers = {score.name: score.metrics for score in scores}
    gate = gate_results(numbers[CANDIDATE])
    names = ("count", "houses", "seed", "threads")
    settings = {name: getattr(options, name) for name in names}
    text = json.dumps({"settings": settings, "numbers": numbers, "gate": gate}, indent=1)
    (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    views = {score.name: score.views for score in scores}
    save_figure(out / "sheet.png", trials_sheet(views, trials))
    console.print(scores_table(scores))
    console.print(EXPLANATION, style="dim")
    for name, is_met in gate.items():
        least, most = GATE[name]
        reached = f"{CANDIDATE}: {name} {numbers[CANDIDATE][name]:.2f}"
        line = f"{reached}, wanted {least:g} to {most:g}"
        console.print(Text(line, style="green" if is_met else "red"))
    console.print(f"numbers and images are in {out}")


def scores_table(scores: list[GeneratorScores]) -> Table:
    """All metrics, one column per generator."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for score in scores:
        table.add_column(score.name, justify="right", no_wrap=True)
    for key, (heading, digits) in COLUMNS.items():
        values = [score.metrics.get(key) for score in scores]
        table.add_row(heading, *("-" if v is None else f"{v:.{digits}f}" for v in values))
    return table


def trials_sheet(views: Mapping[str, Views], trials: list[Trial], columns: int = 10) -> Figure:
    """A figure of the first trials: one row per generator, between the context and the truth."""
    return grid(trial_images(views, trials), columns=range(min(columns, len(trials))))
