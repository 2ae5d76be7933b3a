"""`vmemkit evaluate table4` and the protocols: which retrieval remembers best?

In: scenes, policies, generators, budgets. Out: a folder with a row per walk, all rows as CSV, and a page
with charts; in the terminal a table of means with their intervals over the scenes.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean

from rich import box
from rich.console import Console
from rich.table import Table

from vmemkit.cli.terminal import progress_bar
from vmemkit.core import names_in, replacing
from vmemkit.evaluation import (
    BACKBONES,
    PROTOCOLS,
    SCORES,
    Cell,
    Lpips,
    Row,
    bootstrap,
    by_policy,
    chosen_clips,
    layout_of,
    pose_estimator,
    run_cell,
    sweep,
    write_rows,
)
from vmemkit.figures import ablation

GROUP = ("protocol", "generator", "layout", "k", "noise")  # rows of one table
HEADINGS = {  # score -> heading, decimals
    "truth_ssim": ("truth SSIM", 3),
    "truth_psnr": ("truth dB", 1),
    "truth_lpips": ("LPIPS", 3),
    "pair_ssim": ("return SSIM", 3),
    "coverage": ("coverage", 3),
    "recall": ("recall", 3),
    "precision": ("precision", 3),
    "any_hit": ("any hit", 3),
}
POSE_HEADINGS = {  # in a table of their own: all would be too wide for a terminal
    "poses_found": ("found", 3),
    "rotation_distance": ("R_dist", 2),
    "translation_distance": ("T_dist", 3),
    "trajectory_error": ("ATE", 3),
    "motion_error": ("RPE", 3),
}
CHARTS = ("truth_ssim", "coverage", "recall")  # scores that the page draws
CSV, PAGE = "results.csv", "index.html"


def run_sweep(
    options: argparse.Namespace, console: Console, run: Callable[[Cell], Row] = run_cell
) -> None:
    """`vmemkit evaluate PROTOCOL` or `table4`: takes the walks that are not done yet, and reports."""
    cells, out = cells_of(options), Path(options.out)
    lpips = Lpips(options.lpips) if options.lpips else None
    if options.poses:
        pose_estimator(options.poses)  # raises at once if its package or weights are missing
    rows: list[Row] = []
    with progress_bar(console) as bar:
        task = bar.add_task("walks", total=len(cells))
        for row in sweep(cells, out, options.workers, run, options.ray):
            rows.append(row)
            bar.advance(task)
    rows.sort(
        key=lambda row: [str(row[name]) for name in ("protocol", "generator", "scene", "policy")]
    )
    good, failed = [r for r in rows if "error" not in r], [r for r in rows if "error" in r]
    write_rows(out / CSV, rows)
    for title, table in tables(good):
        console.print(f"\n{title}")
        console.print(table)
    with replacing(out / PAGE) as draft:
        draft.write_text(page(good), encoding="utf-8")
    for row in failed:
        what = ", ".join(str(row[name]) for name in ("scene", "protocol", "policy", "generator"))
        console.print(f"failed: {what}: {row['error']}", soft_wrap=True)
    if not good:
        raise ValueError(f"all {len(failed)} walks failed; the first: {failed[0]['error']}")
    if any(row["truth_ssim"] is not None for row in good):
        console.print(_about_networks(lpips), soft_wrap=True)
    console.print(f"{len(good)} of {len(rows)} walks are in {out / CSV}; open {out / PAGE}")


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """The cells of the command's options. Errors: ValueError for numbers below 1."""
    if min(options.seeds, options.workers, *options.k, options.height) < 1:
        raise ValueError("--seeds, --workers, --k and --height must be 1 or more")
    scenes = [scene for folder in options.data for scene in _recordings(folder, options.clips)]
    scenes = scenes or [
        f"{layout}:{seed}" for layout in options.layouts for seed in range(options.seeds)
    ]
    # Without generation, one generator stands for all, and there are no frames to measure.
    generators = dict.fromkeys(options.protocols, options.generators)
    measures = dict.fromkeys(options.protocols, (options.lpips, options.poses))
    if "recall" in generators:
        generators["recall"] = options.generators[:1]
        measures["recall"] = ("", "")
    return [
        Cell(
            scene,
            protocol,
            policy,
            generator,
            options.geometry,
            k,
            height=options.height,
            noise=noise,
            lpips=measures[protocol][0],
            poses=measures[protocol][1],
        )
        for noise in options.noise
        for protocol in options.protocols
        for scene, k, generator, policy in itertools.product(
            scenes, options.k, generators[protocol], options.policies
        )
    ]


def _recordings(folder: str, clips: int | None) -> list[str]:
    """The folder itself, or so many of the recordings in it."""
    if clips is None:
        return [folder]
    if not Path(folder).is_dir():
        raise ValueError(f"--clips needs a folder of recordings, got {folder}")
    return [str(Path(folder) / name) for name in chosen_clips(names_in(Path(folder)), clips)]


def tables(rows: Sequence[Row]) -> list[tuple[str, Table]]:
    """A title and a table of policies for each group of rows that differ in scene and policy only; a
    second table where poses were asked for."""
    made = []
    for key, group in _groups(rows):
        title = _title(key, group)
        made.append((title, _table(group, HEADINGS)))
        if by_policy(group, "poses_found"):
            made.append((f"{title}: poses", _table(group, POSE_HEADINGS)))
    return made


def _table(group: Sequence[Row], headings: Mapping[str, tuple[str, int]]) -> Table:
    """The means of the scores that some policy has, the best policy by the first of them on top."""
    values = {name: by_policy(group, name) for name in headings}
    scores = [name for name in headings if values[name]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("policy", no_wrap=True)
    for name in scores:
        table.add_column(headings[name][0], justify="right", no_wrap=True)
    first = values[scores[0]]
    for policy in sorted(first, key=lambda policy: -mean(first[policy])):
        means = [_mean_text(values[name].get(policy), headings[name][1]) for name in scores]
        table.add_row(policy, *means)
    return table


def page(rows: Sequence[Row]) -> str:
    """A page of HTML that opens without a network: for each group of rows a chart of each of CHARTS."""
    parts, script = list[str](), True  # the first chart brings plotly's script
    for key, group in _groups(rows):
        parts.append(f"<h2>{escape(_title(key, group))}</h2>")
        parts.append(f"<p>{escape(_about(group[0]['protocol']))}</p>")
        for name in (name for name in CHARTS if group[0][name] is not None):
            values = by_policy(group, name)
            intervals = {policy: bootstrap(seeds) for policy, seeds in values.items()}
            chart = ablation(values, HEADINGS[name][0], intervals=intervals)
            parts.append(chart.to_html(full_html=False, include_plotlyjs=script))
            script = False
    notes = "".join(f"<li><b>{name}</b>: {escape(text)}</li>" for name, text in SCORES.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>vmemkit evaluate</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;"
        "padding:0 1rem;color:#222;background:#fff}h2{margin-top:2.5rem}"
        "@media(prefers-color-scheme:dark){body{color:#ddd;background:#15181c}a{color:#8ab4f8}}</style>"
        "<h1>Which retrieval remembers?</h1>"
        "<p>A marker is a scene. Ticks are means, lines their 95 % intervals by 2,000 resamples of "
        f"the scenes. All rows are in <a href='{CSV}'>{CSV}</a>.</p>"
        f"{''.join(parts)}<h2>Scores</h2><ul>{notes}</ul></html>"
    )


def _groups(rows: Sequence[Row]) -> list[tuple[tuple, list[Row]]]:
    """Rows by their values of GROUP."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        key = tuple(layout_of(row) if name == "layout" else row[name] for name in GROUP)
        groups.setdefault(key, []).append(row)
    return list(groups.items())


def _title(key: tuple, group: Sequence[Row]) -> str:
    protocol, generator, layout, k, noise = key
    scenes = len({row["scene"] for row in group})
    where = {"rooms": "houses with walls", "open": "houses without walls between rooms"}
    stage = "" if protocol == "recall" else f", {generator}"
    error = "" if noise == "clean" else f", {noise}"
    return f"{protocol}{stage}, K = {k}, {scenes} {where.get(layout, layout)}{error}"


def _about(protocol: str) -> str:
    if protocol not in PROTOCOLS:
        return "Which chosen views overlap the targets? Nothing is generated."
    known = PROTOCOLS[protocol]
    return f"{known.about[0].upper()}{known.about[1:]}. Source: {known.source}. Differs: {known.differs}."


def _mean_text(values: Sequence[float] | None, digits: int) -> str:
    """The mean and half the width of its interval; a dash where no walk has the score."""
    if values is None:
        return "-"
    low, high = bootstrap(values)
    return f"{mean(values):.{digits}f} ±{(high - low) / 2:.{digits}f}"


def _about_networks(lpips: Lpips | None) -> str:
    """What is to be known of the scores that need trained networks."""
    fid = "FID is not computed: it compares thousands of images, and a walk has dozens."
    if lpips is None:
        files = " or ".join(backbone.file for backbone in BACKBONES)
        return f"LPIPS was left out: give --lpips FILE, torchvision's {files}. {fid}"
    if lpips.is_published:
        return f"LPIPS is by torchvision's {lpips.backbone.file}. {fid}"
    return (
        f"LPIPS is by weights ({lpips.name}) that are not torchvision's {lpips.backbone.file}: do not "
        f"compare it with published numbers. {fid}"
    )
