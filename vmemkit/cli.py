"""The command line: `vmemkit demo`, `walk IMAGE`, `train`, `evaluate`, `weights`, `doctor`.

Bad input is one red line and exit code 2, with nothing written; Ctrl-C is exit code 130. All work is
done by functions of the package; here are only words, tables and a progress bar.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import torch
from jaxtyping import Float
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.cli_rooms import add_evaluate, add_train
from vmemkit.core import (
    Cameras,
    Views,
    cameras,
    crop_to_aspect,
    intrinsics,
    invert,
    load_depth,
    load_image,
    resize,
    views,
)
from vmemkit.core.kernels import backend
from vmemkit.demo import WALKS, demo
from vmemkit.figures import contact_sheet, save_figure, save_walk_video
from vmemkit.generation import FAST, PRESETS, Warp, preset, with_depth
from vmemkit.generation.diffusion import DEFAULT_FOV, default_intrinsics
from vmemkit.memory import begin, save, save_ply
from vmemkit.nets import weights
from vmemkit.nets.weights import FOLDERS, WEIGHTS, available, contents, find, fitting, read, require
from vmemkit.pipeline import Step, walk
from vmemkit.reconstruction import cut3r
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import check_data, moves, read_realestate10k, read_transforms, write_transforms

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes: argparse's, and the shell's for Ctrl-C

FOV = 65.0  # degrees: of a phone's main camera, if nobody says

HEIGHT = 144  # pixels of a walk's images

PUBLISHED_HEIGHT, PUBLISHED_STEP = 576, 64  # as the published networks were trained, and can halve

SIZES = {"warp": (HEIGHT, 1), "rooms": (64, 16)}  # height and step; others: as published

MOVES = "right 30, left 60, right 30"  # what a single picture can bear

ASPECT_TOLERANCE = 0.02  # within which a depth map is taken to be one of the image's field of view

NEEDS_DEPTH = (
    "a walk needs to know how far away things are: give --depth FILE, a 16-bit PNG (--depth-unit "
    "metres per step, 0.001 unless said) or a .npy in metres. Depth comes from a depth camera or a "
    "phone's depth sensor, from stereo matching (data/make_stereo_depth.py shows how), or from any "
    "monocular depth estimator that gives metres"
)

METRICS = {  # key of a row of metrics.json -> heading, decimals
    "coverage": ("coverage", 3),
    "coverage_of_oracle": ("of best", 3),
    "return_psnr": ("return dB", 1),
    "return_ssim": ("SSIM", 3),
    "truth_psnr": ("truth dB", 1),
}

EXPLANATION = (
    "coverage: share of what the way back shows that the retrieved views had really seen (of best: "
    "relative to the best choice); return dB, SSIM: likeness to the first visit; truth dB: to the "
    "real scene. Higher is better."
)

DEPENDENCIES = (
    "torch",
    "numpy",
    "scipy",
    "opencv-contrib-python-headless",
    "safetensors",
    "numba",
    "rich",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line, `sys.argv` by default; returns the exit code."""
    console, errors = Console(), Console(stderr=True)
    options = _parser().parse_args(arguments)
    if getattr(options, "generator", "warp") == "warp":
        # Tensors are small here: more threads only wait for each other.
        torch.set_num_threads(1)
    try:
        options.run(options, console)
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder that is not ours
        errors.print(Text(f"error: {error}", style="bold red"), soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        errors.print("stopped; what was finished is kept")
        return INTERRUPTED
    return 0


def run_demo(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit demo`: the walks, their table, and where the pictures are."""
    rows: list[dict[str, Any]] = []
    with _progress(console) as bar:
        task = bar.add_task("preparing", total=None)
        for state in demo(options.out, options.seed, options.walks):
            label = f"{state.walk} · {state.policy or 'preparing'}"
            bar.update(task, description=label, completed=state.done, total=state.total)
            rows += [] if state.row is None else [state.row]
    console.print(metrics_table(rows))
    console.print(EXPLANATION, style="dim")
    console.print(f"videos, contact sheets, surfels and metrics.json are in {options.out}")


def run_walk(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit walk IMAGE`: the same for one's own image."""
    if options.depth is None:
        raise ValueError(NEEDS_DEPTH)
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to write to")
    start, path = _start_and_path(options)
    steps: list[Step] = []
    how = _stages(options) | {"policy": options.policy, "k": options.k, "m": options.m}
    taken = walk(begin(start), path, **how)
    with _progress(console) as bar:
        task = bar.add_task(options.policy, total=len(path))
        for step in taken:
            steps.append(step)
            bar.advance(task, len(step.targets))
            for view, report in enumerate(step.reports, start=len(step.before)):
                if report.warning:
                    console.print(Text(f"view {view}: {report.warning}", style="yellow"))
    out.mkdir(parents=True, exist_ok=True)
    _write_walk(out, steps)
    console.print(
        f"{steps[-1].memory}: video, contact sheet, surfels, memory and cameras are in {out}"
    )


def run_weights(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit weights`: what published weight files there are, and which are here."""
    console.print(weights_table())
    console.print(
        "None is needed. `vmemkit weights get NAME` fetches one; `vmemkit weights check NAME` reads "
        f"it. Files of your own go into a folder that {FOLDERS} names.",
        style="dim",
    )


def run_get(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit weights get NAME`: its terms, then the download, which has a bar of its own."""
    if options.name in WEIGHTS:
        entry = WEIGHTS[options.name]
        console.print(Text(f"{entry.name}: {entry.what}, {entry.size_text}"))
        console.print(Text(entry.terms), soft_wrap=True)
    path = weights.get(options.name, options.folder, options.repository)
    console.print(Text(f"{options.name} is in {path}"), soft_wrap=True)


def run_check(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit weights check NAME|FILE`: what a file holds, and which entry of the table it fits."""
    asked = options.file
    path = require(asked) if asked in WEIGHTS else Path(asked)
    state = read(path)
    held, fits = contents(state), fitting(state)
    dtypes = " and ".join(held.dtypes) or "no floating-point tensor"
    console.print(
        Text(f"{path}: {held.keys:,} keys, {held.parameters:,} parameters, {dtypes}"),
        soft_wrap=True,
    )
    if asked in WEIGHTS and asked not in fits:
        entry = WEIGHTS[asked]
        raise ValueError(
            f"{path} is not {asked}, which has {entry.keys:,} keys and {entry.parameters:,} "
            f"parameters: get it anew with `vmemkit weights get {asked}`"
        )
    console.print(f"its numbers are those of {' and '.join(fits) or 'no entry of the table'}")


def run_doctor(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit doctor`: what is installed, what it will run on, what is missing."""
    found = diagnosis()
    width = max(map(len, found))
    for name, value in found.items():
        # Long paths are left to the terminal to wrap, so that they can be copied whole.
        console.print(Text.assemble((f"{name:{width}s}  ", "bold"), value), soft_wrap=True)


def diagnosis() -> dict[str, str]:
    """What `doctor` prints, by topic."""
    found = {"vmemkit": _version("vmemkit"), "python": platform.python_version()}
    found |= {name: _version(name) for name in DEPENDENCIES}
    found["torch"] = torch.__version__  # with its build, which the package's metadata may lack
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    device = torch.cuda.get_device_name() if cuda else "Apple GPU" if mps else "none"
    found["processor"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    found["accelerator"] = f"{device} (not needed)"
    places = {"CPU": "cpu"} | ({"GPU": "cuda"} if cuda else {})
    found["memory"] = ", ".join(f"{backend(at)} on the {name}" for name, at in places.items())
    try:
        found["video encoder"] = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        found["video encoder"] = f"missing: {error}"
    try:
        found["data"] = f"{check_data()} (origins and licences: README.md there)"
    except ValueError as error:
        found["data"] = f"missing: {error}"
    try:
        here = ", ".join(name for name in WEIGHTS if available(name)) or "none"
        found["weights"] = f"{here} found, none needed: the warp generator has no weights"
    except ValueError as error:
        found["weights"] = f"not looked for: {error}"
    return found


def weights_table() -> Table:
    """The published weight files, their terms, and where they are on this machine."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for heading in ("what", "size", "licence", "gated", "found"):
        table.add_column(heading, overflow="fold")
    gates = {True: "yes", False: "no", None: "unknown"}
    for name, entry in WEIGHTS.items():
        terms = "; ".join(filter(None, (entry.licence, entry.limits)))
        where = str(find(name) or "no")
        cells = (entry.what, entry.size_text, terms, gates[entry.gated], where)
        table.add_row(name, *map(Text, cells), end_section=True)
    return table


def metrics_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of metrics.json as a table, the better of each walk in bold."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("walk", "policy"):
        table.add_column(heading, no_wrap=True)
    for heading, _ in METRICS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        rivals = [other for other in rows if other["walk"] == row["walk"]]
        cells = [
            _cell(row[key], [r[key] for r in rivals], digits)
            for key, (_, digits) in METRICS.items()
        ]
        last = i + 1 == len(rows) or rows[i + 1]["walk"] != row["walk"]
        table.add_row(row["walk"], row["policy"], *cells, end_section=last)
    return table


def _cell(value: float | None, rivals: list[float | None], digits: int) -> Text:
    best = (
        value is not None and len(rivals) > 1 and value == max(r for r in rivals if r is not None)
    )
    return Text("-" if value is None else f"{value:.{digits}f}", style="bold" if best else "")


# ---- a walk of one's own -------------------------------------------------------------------------


def _stages(options: argparse.Namespace) -> dict[str, Any]:
    """What paints and what finds depth: published weights paint without depth, which comes from
    `Warp` unless something else is asked for."""
    found: dict[str, Any] = {}
    if options.geometry == "cut3r":
        found["reconstructor"] = cut3r(require("cut3r", options.weights))
    if options.generator == "warp":
        return found | {"generator": Warp()}
    if options.generator == "rooms":
        return found | {"generator": preset("rooms", options.weights)}
    generator = preset(options.generator, options.weights, **(FAST if options.fast else {}))
    return found | {"generator": generator if found else with_depth(generator, Warp())}


def _size(options: argparse.Namespace, aspect: float) -> tuple[int, int]:
    """(height, width) of the walk's images, in the steps that the generator can take."""
    usual, step = SIZES.get(options.generator, (PUBLISHED_HEIGHT, PUBLISHED_STEP))
    height = usual if options.size is None else options.size
    if step > 1 and height < step:
        raise ValueError(f"{options.generator} needs --size of {step} or more, got {height}")
    return round(height / step) * step, max(step, round(height * aspect / step) * step)


def _start_and_path(options: argparse.Namespace) -> tuple[Views, Cameras]:
    """The given view (1,) and the cameras to generate."""
    image, depth = load_image(options.image), load_depth(options.depth, options.depth_unit)
    (height, width), (rows, columns) = image.shape[1:], depth.shape
    if abs(columns / rows * height / width - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"{options.depth} is {columns} x {rows} and {options.image} is {width} x {height} (width "
            "x height): the depth must show the same part of the scene, so crop one like the other"
        )
    path = None if options.trajectory is None else read_path(Path(options.trajectory))
    camera = cameras(torch.eye(4), _lens(options, path, width / height))
    depth = interpolate(depth[None, None], (height, width), mode="nearest-exact")[0]
    start = views(image[None], camera[None], depth)
    height, width = _size(options, width / height)
    # (a height of 0 is for `resize` to refuse)
    start = resize(crop_to_aspect(start, width / max(height, 1)), height, width)
    camera = start.cameras[0]
    if path is None:
        return start, moves(camera, options.moves or MOVES)
    if len(path) < 2:
        raise ValueError(
            f"{options.trajectory} needs two cameras or more: the first is the image's"
        )
    return start, cameras(path.world_from_cam[1:], camera.K)


def read_path(file: Path) -> Cameras:
    """Cameras (n,) of a transforms.json or a RealEstate10K text, as seen from the first of them.

    Errors: ValueError for unreadable files.
    """
    if file.suffix.lower() == ".txt":
        path, _ = read_realestate10k(file)
    else:
        path = read_transforms(file).cameras
    return Cameras(invert(path.world_from_cam[:1]) @ path.world_from_cam, path.K)


def _lens(options: argparse.Namespace, path: Cameras | None, aspect: float) -> Float[Tensor, "3 3"]:
    """K by what was said, by the trajectory's first camera, or by what the generator is used to."""
    if options.fov is None and path is None and options.generator not in SIZES:
        return default_intrinsics(aspect)
    fov = FOV if path is None else math.degrees(2 * math.atan(0.5 / float(path.K[0, 0, 0])))
    return intrinsics(fov if options.fov is None else options.fov, aspect)


def _write_walk(out: Path, steps: list[Step]) -> None:
    memory, size = steps[-1].memory, steps[-1].views.image.shape[2:]
    save(memory, out / "memory")
    save_ply(memory.surfels, out / "surfels.ply")
    write_transforms(out / "transforms.json", memory.views.cameras, (size[0], size[1]))
    save_walk_video(out / "walk.mp4", steps)
    save_figure(out / "contact_sheet.png", contact_sheet(steps))


# ---- words ---------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmemkit", description="Surfel-indexed view memory: walk a room and come back."
    )
    commands = parser.add_subparsers(
        required=True, metavar="demo | walk | train | evaluate | weights | doctor"
    )
    show = commands.add_parser("demo", help="four walks with and without surfel memory, from data/")
    show.add_argument("--out", default="out/demo", help="folder to write to (%(default)s)")
    show.add_argument("--seed", type=int, default=0, help="of the house and of its walks")
    names = ", ".join(WALKS)
    show.add_argument("--walks", nargs="+", metavar="NAME", help=f"some of {names} (all)")
    show.set_defaults(run=run_demo)
    _add_walk(commands.add_parser("walk", help="walk into an image of your own that has depth"))
    add_train(commands.add_parser("train", help="train the small generator"))
    add_evaluate(commands.add_parser("evaluate", help="judge the small generator"))
    _add_weights(commands.add_parser("weights", help="published weight files: list, get, check"))
    doctor = commands.add_parser("doctor", help="versions, device, data and weights")
    doctor.set_defaults(run=run_doctor)
    return parser


def _add_walk(walk: argparse.ArgumentParser) -> None:
    add = walk.add_argument
    add("image", help="where the walk starts")
    add("--depth", help="planar depth of the image: 16-bit PNG, .npy or .npz")
    add("--depth-unit", type=float, help="metres per step of it (0.001 for PNG, 1 for arrays)")
    otherwise = f"{FOV:g}; published weights: {DEFAULT_FOV:g} along the longer side"
    add("--fov", type=float, help=f"horizontal, degrees (the trajectory's, else {otherwise})")
    way = walk.add_mutually_exclusive_group()
    way.add_argument(
        "--trajectory",
        help="transforms.json or RealEstate10K text; its first camera is the image's",
    )
    way.add_argument("--moves", help=f"such as 'forward 1, right 90' ({MOVES})")
    add("--policy", default="coverage", help=f"one of {', '.join(POLICIES)} (%(default)s)")
    add("--k", type=int, default=4, help="views to retrieve (%(default)s)")
    add("--m", type=int, default=4, help="views to generate at once (%(default)s)")
    add(
        "--generator",
        choices=("warp", "rooms", *PRESETS),
        default="warp",
        help="what paints: warp, the small generator, or published weights (%(default)s)",
    )
    add(
        "--geometry",
        choices=("generator", "cut3r"),
        default="generator",
        help="depth of new views: the generator's (Warp's, for published weights), or CUT3R's",
    )
    add("--weights", help="folder of the weight files, if not where `vmemkit weights` finds them")
    add("--fast", action="store_true", help="15 better steps instead of the released 50")
    sizes = f"{HEIGHT}; rooms: 64, in steps of 16; published weights: {PUBLISHED_HEIGHT}, in steps of {PUBLISHED_STEP}"
    add("--size", type=int, help=f"height of the images, pixels ({sizes})")
    add("--out", default="out/walk", help="folder to write to (%(default)s)")
    walk.set_defaults(run=run_walk)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_weights)
    actions = parser.add_subparsers(metavar="get | check")
    get = actions.add_parser("get", help="download one, through huggingface_hub")
    get.add_argument("name", help=f"one of {', '.join(WEIGHTS)}")
    get.add_argument("--folder", help="where to put it (the hub's cache)")
    get.add_argument(
        "--repository", help="another OWNER/NAME[/SUBFOLDER] of the hub to take it from"
    )
    get.set_defaults(run=run_get)
    check = actions.add_parser("check", help="read a file and count what is in it")
    check.add_argument("file", metavar="NAME|FILE", help="an entry of the list, or any weight file")
    check.set_defaults(run=run_check)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing: pip install -e . in the repository"


def _progress(console: Console) -> Progress:
    """A bar while there is something to wait for, and somebody to see it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
