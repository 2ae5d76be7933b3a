"""`vmemkit train rooms`: trains the small generator, on made-up houses or on recordings."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from vmemkit.cli.evaluate import trials_sheet
from vmemkit.evaluation import generate_trials, sample_trials
from vmemkit.figures import save_figure
from vmemkit.generation.rgbd import WEIGHTS, RgbdDiffusion
from vmemkit.training import SMOKE, Run, TrainConfig, export, recorded, remembered

SAVE_EVERY = 300.0  # seconds
REPORT_EVERY = 100  # steps
SHEET = 6  # trials of a sample sheet


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit train rooms`."""
    actions = parser.add_subparsers(required=True, metavar="rooms")
    rooms = actions.add_parser(
        "rooms", help="the small RGB-D generator, on made-up houses or your own recordings"
    )
    add, usual = rooms.add_argument, TrainConfig()
    add("--out", default="out/rooms", help="folder; a run in it is continued (%(default)s)")
    add("--minutes", type=float, default=math.inf, help="stop after so many, to continue later")
    add("--steps", type=int, default=usual.steps, help="total steps of the optimiser (%(default)s)")
    add("--batch", type=int, default=usual.batch, help="target views per step (%(default)s)")
    add("--lr", type=float, default=usual.lr, help="highest learning rate (%(default)s)")
    add("--refresh", type=float, default=usual.refresh, help="new walks per step (%(default)s)")
    add("--seed", type=int, default=0)
    add("--device", help="such as cpu or cuda (a GPU if there is one)")
    add("--threads", type=int, default=2, help="on the CPU (%(default)s)")
    recordings = "posed RGB-D recordings with a transforms.json"
    add("--walks", nargs="+", metavar="FOLDER", help=recordings)
    add("--smoke", action="store_true", help="a one-minute test: can it memorise one walk?")
    rooms.set_defaults(run=run_train)


def run_train(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit train rooms`: steps, reports, checkpoints and sample sheets until time is up."""
    torch.set_num_threads(options.threads)
    if not options.minutes > 0:
        raise ValueError(f"--minutes must be positive, got {options.minutes}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = Path(options.out)
    run = _new_or_resumed(options, out / "checkpoint", device, console)
    start, first = time.perf_counter(), run.step
    end, last_save = start + 60 * options.minutes, start
    try:
        while run.step < run.config.steps and time.perf_counter() < end:
            run.advance()
            if run.step % REPORT_EVERY == 0:
                recent = run.losses[-REPORT_EVERY:]
                rate = (time.perf_counter() - start) / (run.step - first)
                console.print(
                    f"step {run.step}: loss {sum(recent) / len(recent):.4f}, {rate:.2f} s a step"
                )
            if time.perf_counter() - last_save > SAVE_EVERY:
                _save(run, out)
                last_save = time.perf_counter()
    finally:  # also after Ctrl-C
        _save(run, out)
    if options.smoke:
        tenth = max(1, len(run.losses) // 10)
        before, after = sum(run.losses[:tenth]) / tenth, sum(run.losses[-tenth:]) / tenth
        console.print(f"loss {before:.3f} -> {after:.3f}; memorised walk: {remembered(run):.1f} dB")
    console.print(
        f"{run.step} of {run.config.steps} steps done; weights and sample sheet are in {out}"
    )


def _new_or_resumed(
    options: argparse.Namespace, checkpoint: Path, device: str, console: Console
) -> Run:
    config = TrainConfig(
        seed=options.seed,
        steps=options.steps,
        batch=options.batch,
        lr=options.lr,
        refresh=options.refresh,
    )
    walks = recorded(options.walks, config.views, config.size) if options.walks else None
    if options.smoke:
        return Run(replace(SMOKE, seed=options.seed), device, walks)
    if not checkpoint.exists():
        return Run(config, device, walks)
    run = Run.resume(checkpoint, device, walks)
    console.print(f"continuing from step {run.step} with the settings of {checkpoint}")
    return run


def _save(run: Run, out: Path) -> None:
    """Write the checkpoint, the weights and a sheet of samples."""
    run.save(out / "checkpoint")
    export(run.average, out / WEIGHTS)
    trials = sample_trials(SHEET, run.config.size)
    views = generate_trials(RgbdDiffusion(run.average), trials)
    save_figure(out / "sheet.png", trials_sheet({"sample": views}, trials))
