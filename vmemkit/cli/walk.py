"""`vmemkit walk`: a walk from an image of your own, with depth or without."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from rich.console import Console
from rich.text import Text
from torch import Tensor

from vmemkit.cli.terminal import progress_bar
from vmemkit.core import Cameras, cameras, intrinsics, invert, load_depth, load_image
from vmemkit.figures import contact_sheet, save_figure, save_walk_video
from vmemkit.generation import FAST, PRESETS, Generator, Warp, Writer, preset, with_depth
from vmemkit.generation.diffusion import DEFAULT_FOV, default_intrinsics
from vmemkit.memory import begin, save, save_ply
from vmemkit.nets.weights import WeightFile, require
from vmemkit.pipeline import Step, walk
from vmemkit.reconstruction import (
    GUESSES,
    DepthEstimator,
    Reconstructor,
    cut3r,
    find_estimator,
    start_from_photo,
)
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import (
    EYE_HEIGHT,
    PHOTO_FOV,
    Beginning,
    NoRoomError,
    moves,
    read_realestate10k,
    read_transforms,
    write_transforms,
)

# Generators that need no weights and take images of any size; the others are the published ones.
WEIGHTLESS: dict[str, Callable[[], Generator]] = {"warp": Warp, "writer": Writer}
HEIGHT = 144  # pixels
PUBLISHED_HEIGHT, PUBLISHED_MULTIPLE = 576, 64  # pixels: training size, and what sizes divide by
MOVES = "right 30, left 60, right 30"  # a single image shows little else
OTHER_DEPTH = (
    "On the command line, --depth auto asks a monocular network, and --depth FILE takes a 16-bit PNG "
    "(with --depth-unit metres per step, by default 0.001) or a .npy in metres, from a depth camera, a "
    "phone's depth sensor or stereo matching (data/make_stereo_depth.py shows how)"
)


def add_walk(walk: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit walk`."""
    add = walk.add_argument
    add("image", help="where the walk starts")
    add(
        "--depth",
        default="room",
        metavar="FILE|auto|room",
        help="planar depth of the image (16-bit PNG, .npy or .npz); auto: Depth Anything V2 estimates "
        "it; room: the image is taken for a box-shaped room (%(default)s)",
    )
    add("--depth-unit", type=float, help="metres per step of it (0.001 for PNG, 1 for arrays)")
    add(
        "--eye-height",
        type=float,
        default=EYE_HEIGHT,
        help="metres from the floor to the camera, for depth that is guessed (%(default)s)",
    )
    add("--yes", action="store_true", help="download what --depth auto needs without asking")
    otherwise = f"{PHOTO_FOV:g}; published weights: {DEFAULT_FOV:g} along the longer side"
    add("--fov", type=float, help=f"horizontal, degrees (the trajectory's, else {otherwise})")
    path = walk.add_mutually_exclusive_group()
    path.add_argument(
        "--trajectory",
        help="transforms.json or RealEstate10K text; its first camera is the image's",
    )
    path.add_argument("--moves", help=f"such as 'forward 1, right 90' ({MOVES})")
    add("--policy", default="coverage", help=f"one of {', '.join(POLICIES)} (%(default)s)")
    add("--k", type=int, default=4, help="views to retrieve (%(default)s)")
    add("--m", type=int, default=4, help="views to generate at once (%(default)s)")
    add(
        "--generator",
        choices=(*WEIGHTLESS, *PRESETS),
        default="writer",
        help="writer invents the rest of a room, and uses warp elsewhere; warp only moves what it has "
        "seen; or published weights (%(default)s)",
    )
    add(
        "--geometry",
        choices=("generator", "cut3r"),
        default="generator",
        help="depth of new views: the generator's (Warp's, for published weights), or CUT3R's",
    )
    add("--weights", help="folder of the weight files, if not where `vmemkit weights` finds them")
    add("--fast", action="store_true", help="15 better sampling steps instead of the released 50")
    sizes = f"{HEIGHT}; published weights: {PUBLISHED_HEIGHT}, in steps of {PUBLISHED_MULTIPLE}"
    add("--size", type=int, help=f"height of the images, pixels ({sizes})")
    add("--out", default="out/walk", help="folder to write to (%(default)s)")
    walk.set_defaults(run=run_walk)


def load_cut3r(folder: str | None) -> Reconstructor:
    """CUT3R with its published weights. Errors: ValueError if they are missing."""
    return cut3r(require("cut3r", folder))


def asks(options: argparse.Namespace, console: Console) -> Callable[[WeightFile], bool]:
    """A function that shows the size and terms of weights and asks whether to download them.

    --yes is the answer; without it, and where nobody can answer, the answer is no.
    """

    def consent(entry: WeightFile) -> bool:
        can_answer = console.is_terminal and sys.stdin is not None and sys.stdin.isatty()
        if not (options.yes or can_answer):
            return False
        console.print(Text(f"{entry.what}: {entry.size_text}; {entry.terms}"), soft_wrap=True)
        return options.yes or console.input("Download it? [y/N] ").strip().lower() in ("y", "yes")

    return consent


def run_walk(
    options: argparse.Namespace,
    console: Console,
    load_generator: Callable[..., Generator] = preset,
    load_reconstructor: Callable[[str | None], Reconstructor] = load_cut3r,
    load_estimator: Callable[..., DepthEstimator] = find_estimator,
) -> None:
    """`vmemkit walk IMAGE`: takes the walk and writes video, contact sheet, memory and cameras.

    `load_generator(name, folder, **settings)`, `load_reconstructor(folder)` and
    `load_estimator(folder, consent)` load weights.
    """
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to write to")
    path = None if options.trajectory is None else read_path(Path(options.trajectory))
    beginning = _beginning(
        options, path, partial(load_estimator, options.weights, asks(options, console))
    )
    start, path = beginning.given, _path(options, path, beginning.given.cameras[0])
    if options.depth in GUESSES:
        console.print(Text(f"{beginning.about}."), soft_wrap=True)
    steps: list[Step] = []
    stages: dict[str, Any] = {}
    if options.geometry == "cut3r":
        stages["reconstructor"] = load_reconstructor(options.weights)
    if options.generator in WEIGHTLESS:
        stages["generator"] = WEIGHTLESS[options.generator]()
    else:
        settings = FAST if options.fast else {}
        generator = load_generator(options.generator, options.weights, **settings)
        # Published generators make images only; without a reconstructor, depth comes from Warp.
        stages["generator"] = generator if stages else with_depth(generator, Warp())
    walked = walk(begin(start), path, policy=options.policy, k=options.k, m=options.m, **stages)
    with progress_bar(console) as bar:
        task = bar.add_task(options.policy, total=len(path))
        for step in _until_refused(walked, console):
            steps.append(step)
            bar.advance(task, len(step.targets))
            if step.note and step.note not in (earlier.note for earlier in steps[:-1]):
                console.print(Text(step.note, style="yellow"), soft_wrap=True)
            for view, report in enumerate(step.reports, start=len(step.before)):
                if report.warning:
                    console.print(Text(f"view {view}: {report.warning}", style="yellow"))
    out.mkdir(parents=True, exist_ok=True)
    memory, size = steps[-1].memory, steps[-1].views.image.shape[2:]
    save(memory, out / "memory")
    save_ply(memory.surfels, out / "surfels.ply")
    write_transforms(out / "transforms.json", memory.views.cameras, (size[0], size[1]))
    save_walk_video(out / "walk.mp4", steps)
    save_figure(out / "contact_sheet.png", contact_sheet(steps))
    console.print(f"{memory}: video, contact sheet, surfels, memory and cameras are in {out}")


def _until_refused(walked: Iterator[Step], console: Console) -> Iterator[Step]:
    """The steps up to the first that cannot be taken, which is said. Errors: ValueError if none can."""
    taken = 0
    try:
        for step in walked:
            taken += 1
            yield step
    except ValueError as error:
        if taken == 0:
            raise
        reason = f"the walk ends after {taken} steps, because the next is refused: {error}"
        console.print(Text(reason, style="yellow"), soft_wrap=True)


def _beginning(
    options: argparse.Namespace, path: Cameras | None, load_estimator: Callable[[], DepthEstimator]
) -> Beginning:
    """The image with its depth, as the first view of the walk."""
    image = load_image(options.image)
    aspect = image.shape[2] / image.shape[1]
    K, size = _intrinsics(options, path, aspect), _size(options, aspect)
    if options.depth not in GUESSES:
        return start_from_photo(image, size, load_depth(options.depth, options.depth_unit), K)
    estimator = load_estimator() if options.depth == "auto" else None
    try:
        return start_from_photo(image, size, options.depth, K, options.eye_height, estimator)
    except NoRoomError as error:
        raise ValueError(f"{error}. {OTHER_DEPTH}") from error


def _path(options: argparse.Namespace, path: Cameras | None, camera: Cameras) -> Cameras:
    """The cameras (n,) to generate: moves from the image's camera, or the trajectory, put there."""
    if path is None:
        return moves(camera, options.moves or MOVES)
    if len(path) < 2:
        raise ValueError(
            f"{options.trajectory} needs two cameras or more: the first is the image's"
        )
    return cameras(camera.world_from_cam @ path.world_from_cam[1:], camera.K)


def read_path(file: Path) -> Cameras:
    """Cameras (n,) of a transforms.json or a RealEstate10K text, relative to the first of them.

    Errors: ValueError for unreadable files.
    """
    if file.suffix.lower() == ".txt":
        path, _ = read_realestate10k(file)
    else:
        path = read_transforms(file).cameras
    return Cameras(invert(path.world_from_cam[:1]) @ path.world_from_cam, path.K)


def _intrinsics(
    options: argparse.Namespace, path: Cameras | None, aspect: float
) -> Float[Tensor, "3 3"]:
    """K from --fov, else of the trajectory's first camera, else the generator's default."""
    if options.fov is not None:
        return intrinsics(options.fov, aspect)
    if path is not None:
        fov = math.degrees(2 * math.atan(0.5 / float(path.K[0, 0, 0])))
        return intrinsics(fov, aspect)
    if options.generator in WEIGHTLESS:
        return intrinsics(PHOTO_FOV, aspect)
    return default_intrinsics(aspect)


def _size(options: argparse.Namespace, aspect: float) -> tuple[int, int]:
    """(height, width) of the walk's images, multiples of what the generator can take."""
    if options.generator in WEIGHTLESS:
        height = HEIGHT if options.size is None else options.size
        return height, max(1, round(height * aspect))
    height = PUBLISHED_HEIGHT if options.size is None else options.size
    multiple = PUBLISHED_MULTIPLE
    if height < multiple:
        raise ValueError(f"{options.generator} needs --size of {multiple} or more, got {height}")
    width = max(multiple, round(height * aspect / multiple) * multiple)
    return round(height / multiple) * multiple, width
