"""`vmemkit walk`: a walk from an image of your own."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.text import Text
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.cli.terminal import progress_bar
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
from vmemkit.figures import contact_sheet, save_figure, save_walk_video
from vmemkit.generation import FAST, PRESETS, Warp, preset, with_depth
from vmemkit.generation.diffusion import DEFAULT_FOV, default_intrinsics
from vmemkit.memory import begin, save, save_ply
from vmemkit.nets.weights import require
from vmemkit.pipeline import Step, walk
from vmemkit.reconstruction import cut3r
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import moves, read_realestate10k, read_transforms, write_transforms

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
    with progress_bar(console) as bar:
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


def add_walk(walk: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit walk`."""
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
