"""The command line of the small generator: `vmemkit train rooms`, `vmemkit evaluate generator`.

As in cli.py, which takes both in: words, tables and files are here, the work is done elsewhere.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
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
    Filled,
    GeneratorVerdict,
    Trial,
    imagine,
    judge_generators,
    passed,
    trial_rows,
    trials,
)
from vmemkit.figures import grid, save_figure
from vmemkit.generation import Generator, Warp, WarpConfig
from vmemkit.generation.rgbd import WEIGHTS, RgbdConfig, RgbdDiffusion, load_rgbd
from vmemkit.training import SMOKE, Run, TrainConfig, Walks, export, recorded, remembered

SAVE_EVERY = 300.0  # seconds
REPORT_EVERY = 100  # steps
SHEET = 6  # trials of a sample sheet

COLUMNS = {  # number -> heading, decimals
    "depth_error": ("depth error", 3),
    "edges": ("edges", 2),
    "contrast": ("contrast", 2),
    "frechet": ("frechet", 3),
    "psnr_unseen": ("unseen dB", 1),
    "psnr_seen": ("seen dB", 1),
    "return_psnr": ("return dB", 1),
    "return_gain": ("gain dB", 1),
    "edges_least": ("edges from", 2),
    "edges_most": ("to", 2),
    "contrast_least": ("contrast from", 2),
    "contrast_most": ("to", 2),
    "seconds": ("s / step", 2),
}

EXPLANATION = (
    "Where the context shows nothing: relative depth error; edge energy, contrast (1 = as much "
    "structure as the truth); Frechet distance of random-convolution features (not FID); dB. Where it "
    "shows the target: dB. A full circle and back: dB of the way back against the way out under surfel "
    "retrieval, its gain over temporal; structure of the step with least and with most of it; seconds "
    "a step of 4 views."
)


# ---- training ------------------------------------------------------------------------------------


def add_train(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vmemkit train rooms`."""
    actions = parser.add_subparsers(required=True, metavar="rooms")
    rooms = actions.add_parser(
        "rooms", help="the small RGB-D generator, on made-up houses or your own"
    )
    add = rooms.add_argument
    default = TrainConfig()
    add("--out", default="out/rooms", help="folder; a run that is there goes on (%(default)s)")
    add("--minutes", type=float, default=math.inf, help="stop after so many, to go on later")
    add("--steps", type=int, default=default.steps, help="of the optimiser in all (%(default)s)")
    add("--batch", type=int, default=default.batch, help="target views a step (%(default)s)")
    add("--lr", type=float, default=default.lr, help="learning rate at its highest (%(default)s)")
    add("--refresh", type=float, default=default.refresh, help="new walks a step (%(default)s)")
    add("--seed", type=int, default=0)
    add("--device", help="such as cpu or cuda (a GPU if there is one)")
    add("--threads", type=int, default=2, help="on the CPU (%(default)s)")
    add(
        "--walks", nargs="+", metavar="FOLDER", help="posed RGB-D recordings with a transforms.json"
    )
    add("--smoke", action="store_true", help="a minute: can it learn one walk by heart?")
    rooms.set_defaults(run=run_train)


def run_train(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit train rooms`: steps, reports, checkpoints and sample sheets until time is up."""
    torch.set_num_threads(options.threads)
    if not options.minutes > 0:
        raise ValueError(f"--minutes must be positive, got {options.minutes}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = Path(options.out)
    run = _begun(options, out / "checkpoint", device, console)
    end = time.perf_counter() + 60 * options.minutes
    saved, start, first = time.perf_counter(), time.perf_counter(), run.step
    try:
        while run.step < run.config.steps and time.perf_counter() < end:
            run.advance()
            if run.step % REPORT_EVERY == 0:
                recent = run.losses[-REPORT_EVERY:]
                rate = (time.perf_counter() - start) / (run.step - first)
                console.print(
                    f"step {run.step}: loss {sum(recent) / len(recent):.4f}, {rate:.2f} s a step"
                )
            if time.perf_counter() - saved > SAVE_EVERY:
                _keep(run, out)
                saved = time.perf_counter()
    finally:  # Ctrl-C, too
        _keep(run, out)
    if options.smoke:
        _report_smoke(run, console)
    console.print(
        f"{run.step} of {run.config.steps} steps done; weights and sample sheet are in {out}"
    )


def _begun(options: argparse.Namespace, folder: Path, device: str, console: Console) -> Run:
    config = TrainConfig(seed=options.seed, steps=options.steps, batch=options.batch, lr=options.lr)
    walks: Walks | None = None
    if options.walks:
        walks = recorded(options.walks, config.views, config.size)
    if options.smoke:
        return Run(replace(SMOKE, seed=options.seed), device, walks)
    if not folder.exists():
        return Run(config, device, walks)
    run = Run.resume(folder, device, walks)
    console.print(f"going on from step {run.step} with the settings of {folder}")
    return run


def _keep(run: Run, out: Path) -> None:
    """Checkpoint, weights and a sheet of samples."""
    run.save(out / "checkpoint")
    export(run.average, out / WEIGHTS)
    asked = trials(SHEET, run.config.size)
    made = {"sample": imagine(RgbdDiffusion(run.average), asked)}
    save_figure(out / "sheet.png", trials_sheet(made, asked))


def _report_smoke(run: Run, console: Console) -> None:
    tenth = max(1, len(run.losses) // 10)
    first, last = (sum(x) / len(x) for x in (run.losses[:tenth], run.losses[-tenth:]))
    console.print(f"loss {first:.3f} -> {last:.3f}; its walk by heart: {remembered(run):.1f} dB")


# ---- evaluation ----------------------------------------------------------------------------------


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vmemkit evaluate generator`."""
    actions = parser.add_subparsers(required=True, metavar="generator")
    generator = actions.add_parser(
        "generator", help="where it has to imagine, beside simple rivals"
    )
    add = generator.add_argument
    add("--out", default="out/evaluate", help="folder to write to (%(default)s)")
    add("--weights", help="folder with rooms.safetensors, if not data/")
    add("--count", type=int, default=96, help="targets (%(default)s)")
    add("--houses", type=int, default=6, help="in which to turn in circles (%(default)s)")
    usual = RgbdConfig()
    add("--steps", type=int, default=usual.steps, help="of the sampler (%(default)s)")
    add(
        "--temperature",
        type=float,
        default=usual.temperature,
        help="of its first noise (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of the unseen houses")
    add("--threads", type=int, default=1, help="on the CPU (%(default)s)")
    generator.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit evaluate generator`: the table, evaluation.json and a sheet of pictures."""
    torch.set_num_threads(options.threads)
    if options.count < 2 or options.houses < 1:
        raise ValueError("--count must be 2 or more, --houses 1 or more")
    rivals = generators(options.weights, options.steps, options.temperature)
    asked = trials(options.count, seed=options.seed)
    verdicts = []
    for verdict in judge_generators(rivals, asked, options.houses, options.seed):
        console.print(f"{verdict.name} is judged")
        verdicts.append(verdict)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    numbers = {verdict.name: verdict.numbers for verdict in verdicts}
    gates = passed(numbers["rooms"])
    asked_for = ("count", "houses", "seed", "steps", "temperature", "threads")
    about = {name: getattr(options, name) for name in asked_for}
    text = json.dumps({"settings": about, "numbers": numbers, "gate": gates}, indent=1)
    (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    made = {verdict.name: verdict.made for verdict in verdicts}
    save_figure(out / "sheet.png", trials_sheet(made, asked))
    console.print(table(verdicts))
    console.print(EXPLANATION, style="dim")
    for name, good in gates.items():
        low, high = GATE[name]
        said = f"rooms: {name} {numbers['rooms'][name]:.2f}, wanted {low:g} to {high:g}"
        console.print(Text(said, style="green" if good else "red"))
    console.print(f"numbers and pictures are in {out}")


def generators(folder: str | None, steps: int, temperature: float) -> Mapping[str, Generator]:
    """The small generator and its rivals, all of which start from the same reprojection but `warp`."""
    return {
        "nearest": Filled("nearest"),
        "push-pull": Filled("push_pull"),
        "layout": Filled("layout"),
        "warp": Warp(WarpConfig(fill="push_pull")),
        "rooms": load_rgbd(folder, "cpu", steps=steps, temperature=temperature),
    }


def table(verdicts: list[GeneratorVerdict]) -> Table:
    """The numbers, a generator to a column."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column("")
    for verdict in verdicts:
        made.add_column(verdict.name, justify="right", no_wrap=True)
    for key, (heading, digits) in COLUMNS.items():
        made.add_row(heading, *(f"{v.numbers[key]:.{digits}f}" for v in verdicts))
    return made


def trials_sheet(made: Mapping[str, Views], asked: list[Trial], columns: int = 10) -> Figure:
    """A picture of the first trials: a row for each generator, between context and truth."""
    return grid(trial_rows(made, asked), columns=range(min(columns, len(asked))))
