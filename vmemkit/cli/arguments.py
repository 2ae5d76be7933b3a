"""The arguments of all commands, with their help.

Nothing heavy is imported here, so that `--help` and wrong usage answer at once. The names and numbers
of other rooms are therefore written down again; tests/cli/test_commands.py holds them equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

HEIGHT = 144  # pixels
PUBLISHED_HEIGHT, PUBLISHED_MULTIPLE = 576, 64  # pixels: training size, and what sizes divide by
MOVES = "right 30, left 60, right 30"  # a single image shows little else

# As in other rooms and in the commands' files.
EXAMPLES = (
    "house, one view",
    "house, six views a room",
    "panorama",
    "photo with stereo depth",
    "colour photo, depth of a box",
)
WALKS = ("rooms", "rooms_capture", "panorama", "stereo")
EYE_HEIGHT = 1.5  # metres
PHOTO_FOV, DEFAULT_FOV = 65.0, 54.0  # degrees
RECORDINGS = (
    "transforms",
    "colmap",
    "tum",
    "scannet",
    "record3d",
    "arrays",
    "realestate10k",
    "context_as_memory",
    "mind",
    "video",
    "photo",
)
POLICIES = (
    "surfel_votes",
    "coverage",
    "paper",
    "released",
    "temporal",
    "camera_distance",
    "fov_overlap",
    "random",
)
GENERATORS = ("warp", "writer")  # without weights
PRESETS = ("vmem", "seva", "seva-1.0")  # with published weights
SWEPT_POLICIES = (*POLICIES, "last_and_greedy")
LAYOUTS = ("rooms", "open")
ESTIMATORS = ("xfeat", "cut3r")
NOISES = (
    "clean",
    "depth 1 %",
    "depth 3 %",
    "depth 10 %",
    "smooth depth 1 %",
    "smooth depth 3 %",
    "smooth depth 10 %",
    "scale 3 %",
    "scale 10 %",
    "poses 1 cm, 0.5 deg",
    "poses 5 cm, 2 deg",
    "holes 10 %",
    "sky at 65.5 m",
)
LOCAL_RAY = "local"
TABLE4 = (
    "temporal",
    "camera_distance",
    "fov_overlap",
    "paper",
    "released",
    "coverage",
    "last_and_greedy",
)
PROTOCOLS = {
    "leave_and_return": "out, back by other poses, and the first frames again",
    "cycle": "out and back by the same poses (VMem)",
    "short": "the 50th frame (VMem)",
    "long": "the last frame (VMem)",
    "mirror": "the way back against the way out (MIND)",
    "symmetry": "the same, weighted (iWorld-Bench)",
    "mark": "the second half after the first is given (MIND)",
    "aba": "the same way back (LoopNav)",
    "abca": "another way back (LoopNav)",
    "recall": "are the views chosen that overlap the targets? (Context as Memory)",
}
# Limits of a server, with what they are of.
SERVED = {
    "pixels": (8_000_000, "pixels of a window, context and targets together"),
    "views": (32, "views of a window, likewise"),
    "queue": (64, "windows that are there at once; others are told to come again"),
    "held": (2_000_000_000, "bytes of the windows that are there at once"),
    "seconds": (600, "seconds for a window, from when its generation begins"),
}
WEIGHTS = ("vmem", "seva", "seva-1.0", "vae", "clip", "depth-metric", "depth-relative", "cut3r")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit demo`."""
    parser.add_argument("--out", default="out/demo", help="folder to write to (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the house and of its walks")
    names = ", ".join(WALKS)
    parser.add_argument("--walks", nargs="+", metavar="NAME", help=f"some of {names} (all)")
    parser.set_defaults(run=_runs("demonstration", "run_demo"))


def add_walk(walk: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit walk`."""
    add = walk.add_argument
    add(
        "image",
        help="where the walk starts: an image file, the folder of a recording with depth (see "
        f"`vmemkit inspect`), or one of {', '.join(EXAMPLES)}",
    )
    add(
        "--depth",
        default="room",
        metavar="FILE|auto|room",
        help="planar depth of the image (16-bit PNG, .npy or .npz); auto: Depth Anything V2 estimates "
        "it; room: the image is taken for a box-shaped room (%(default)s)",
    )
    add(
        "--depth-unit",
        type=float,
        help="metres per step of it (0.001 for PNG and integers, 1 for arrays of floats)",
    )
    add(
        "--eye-height",
        type=float,
        default=EYE_HEIGHT,
        help="metres from the floor to the camera, for depth that is guessed (%(default)s)",
    )
    add("--yes", action="store_true", help="download what --depth auto needs without asking")
    otherwise = f"{PHOTO_FOV:g} along the longer side, for published weights {DEFAULT_FOV:g}"
    add(
        "--fov",
        type=float,
        help=f"horizontal, degrees (the trajectory's, else by the photo's EXIF data, else {otherwise})",
    )
    path = walk.add_mutually_exclusive_group()
    path.add_argument(
        "--trajectory",
        help="camera file of any format that `vmemkit inspect` knows, of which poses and lenses are "
        "used; the first camera is the image's",
    )
    path.add_argument("--moves", help=f"such as 'forward 1, right 90' ({MOVES})")
    add("--policy", default="coverage", help=f"one of {', '.join(POLICIES)} (%(default)s)")
    add("--k", type=int, default=4, help="views to retrieve (%(default)s)")
    add("--m", type=int, default=4, help="views to generate at once (%(default)s)")
    _add_stages(walk, "writer", "generator")
    sizes = f"{HEIGHT}; published weights: {PUBLISHED_HEIGHT}, in steps of {PUBLISHED_MULTIPLE}"
    add("--size", type=int, help=f"height of the images, pixels ({sizes})")
    add("--out", default="out/walk", help="folder to write to (%(default)s)")
    add(
        "--session",
        metavar="FOLDER",
        help="new folder that keeps each step as it is taken, for `vmemkit resume` and `show`",
    )
    walk.set_defaults(run=_runs("walk", "run_walk"))


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit inspect`."""
    add = parser.add_argument
    add("path", help="a folder or file of posed images, or a trajectory, of any known format")
    add("--picture", metavar="FILE", help="draw cameras and points there, such as cameras.png")
    add("--format", help=f"one of {', '.join(RECORDINGS)}, where several are there")
    add("--cameras", metavar="FILE", help="camera file of a video or of a folder of images")
    add("--every", type=int, help="open every n-th image (as many as make up to 100)")
    add("--convention", help="camera axes of transforms.json and arrays: opengl or opencv")
    add("--world-to-camera", action="store_true", help="the poses of arrays are that")
    add("--depth-unit", type=float, help="metres per step of the depth files (the format's own)")
    add("--fov", type=float, help="horizontal, degrees, of formats without a lens")
    parser.set_defaults(run=_runs("inspection", "run_inspect"))


def add_resume(resume: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit resume`."""
    add = resume.add_argument
    add("folder", help="of the session, such as `vmemkit walk --session` has made")
    add("--moves", required=True, help="such as 'forward 1, right 90'")
    add(
        "--at",
        type=int,
        metavar="NODE",
        help="step to go on from (the one where the walk was left)",
    )
    _add_stages(resume)  # without them, the stored ones
    resume.set_defaults(run=_runs("sessions", "run_resume"))


def add_show(show: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit show`."""
    show.add_argument("folder", help="of the session; another process may be writing to it")
    show.set_defaults(run=_runs("sessions", "run_show"))


def add_export(export: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit export`."""
    add = export.add_argument
    add("folder", nargs="?", metavar="DIR", help="a session, or a memory that was saved")
    add("--to", nargs="?", metavar="FORMAT", help="without a name, the formats are listed")
    add("--out", metavar="PATH", help="new file or folder to write")
    add(
        "--at",
        type=int,
        metavar="NODE",
        help="of a session: its memory and the steps that led there (where the walk was left)",
    )
    add(
        "--least",
        type=int,
        metavar="N",
        help="colmap: observations that a point needs (1); COLMAP's own tools want 2",
    )
    add("--points", action="store_true", help="glb: surfels as points, not as discs")
    add("--rows", type=int, metavar="N", help="mp4, gif: height in pixels (360, 240)")
    export.set_defaults(run=_runs("export", "run_export"))


def _add_stages(
    command: argparse.ArgumentParser, generator: str | None = None, geometry: str | None = None
) -> None:
    """Add the arguments that choose the generator and the reconstructor, with these defaults."""
    add = command.add_argument
    add(
        "--generator",
        choices=(*GENERATORS, *PRESETS),
        default=generator,
        help="writer invents the rest of a room, and uses warp elsewhere; warp only moves what it has "
        f"seen; or published weights ({generator or 'as before'})",
    )
    add(
        "--geometry",
        choices=("generator", "cut3r"),
        default=geometry,
        help="depth of new views: the generator's (Warp's, for published weights), or CUT3R's "
        f"({geometry or 'as before'})",
    )
    add("--weights", help="folder of the weight files, if not where `vmemkit weights` finds them")
    add("--fast", action="store_true", help="15 better sampling steps instead of the released 50")
    add(
        "--remote",
        metavar="URL",
        help="let a server of `vmemkit serve` run the generator; VMEMKIT_TOKEN holds its token",
    )


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit evaluate` and of what it evaluates."""
    names = " | ".join(("generator", "table4", *PROTOCOLS))
    actions = parser.add_subparsers(required=True, metavar=names)
    _add_sweep(actions.add_parser("table4", help="VMem's table of retrieval strategies"))
    for name, about in PROTOCOLS.items():
        _add_sweep(actions.add_parser(name, help=about), name)
    generator = actions.add_parser(
        "generator", help="the generators without weights where they must invent, beside baselines"
    )
    add = generator.add_argument
    add("--out", default="out/evaluate", help="folder to write to (%(default)s)")
    add("--count", type=int, default=96, help="targets (%(default)s)")
    add("--houses", type=int, default=6, help="houses in which to turn in circles (%(default)s)")
    add("--seed", type=int, default=0, help="of the houses")
    add("--threads", type=int, default=1, help="on the CPU (%(default)s)")
    generator.set_defaults(run=_runs("evaluate", "run_evaluate"))


def _add_sweep(parser: argparse.ArgumentParser, protocol: str | None = None) -> None:
    """Add the arguments of a sweep: of one protocol, or without one of the paper's table 4."""
    add, whole_table = parser.add_argument, protocol is None
    add("--out", default=f"out/{protocol or 'table4'}", help="folder to write to (%(default)s)")
    if whole_table:
        add(
            "--protocols",
            nargs="+",
            choices=tuple(PROTOCOLS),
            default=["leave_and_return", "cycle"],
            metavar="NAME",
            help=f"some of {', '.join(PROTOCOLS)} (leave_and_return cycle)",
        )
    else:
        parser.set_defaults(protocols=[protocol])
    _add_scenes(parser, whole_table)
    add(
        "--policies",
        nargs="+",
        choices=SWEPT_POLICIES,
        default=list(TABLE4),
        metavar="NAME",
        help=f"some of {', '.join(SWEPT_POLICIES)} ({' '.join(TABLE4)})",
    )
    generators = list(GENERATORS if whole_table else GENERATORS[:1])
    add(
        "--generators",
        nargs="+",
        choices=(*GENERATORS, *PRESETS),
        default=generators,
        help=f"what makes the views ({' '.join(generators)})",
    )
    add(
        "--geometry",
        choices=("generator", "cut3r"),
        default="generator",
        help="where the depth of new views comes from (%(default)s)",
    )
    budgets = [4, 17] if whole_table else [4]
    words = " ".join(map(str, budgets))
    add("--k", type=int, nargs="+", default=budgets, help=f"views of context ({words})")
    parser.set_defaults(lpips="", poses="")
    if protocol != "recall":  # which generates nothing
        _add_measures(parser)
    _add_runners(parser)
    parser.set_defaults(run=_runs("sweeps", "run_sweep"))


def _add_scenes(parser: argparse.ArgumentParser, whole_table: bool) -> None:
    """Add the arguments that say in which scenes a sweep walks."""
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="FOLDER", help="recordings (made-up houses)")
    add(
        "--clips",
        type=int,
        help="recordings to take from each folder of --data, which holds one in each file or folder: "
        "those with the smallest SHA-256 of their names, so that all who have the data take the same",
    )
    add("--seeds", type=int, default=20 if whole_table else 5, help="houses (%(default)s)")
    layouts = list(LAYOUTS if whole_table else LAYOUTS[:1])
    add(
        "--layouts",
        nargs="+",
        choices=LAYOUTS,
        default=layouts,
        help=f"houses with walls between their rooms, and without ({' '.join(layouts)})",
    )
    add("--height", type=int, default=72, help="of the images of houses, pixels (%(default)s)")
    add(
        "--noise",
        nargs="+",
        choices=NOISES,
        default=[NOISES[0]],
        metavar="NAME",
        help=f"what is wrong with the given views: {'; '.join(NOISES).replace('%', '%%')} (clean)",
    )


def _add_measures(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ask for scores by trained networks."""
    add = parser.add_argument
    add(
        "--lpips",
        metavar="FILE",
        help="compare with the truth by LPIPS, too, with torchvision's weights of AlexNet or VGG16 "
        "(alexnet-owt-7be5be79.pth, vgg16-397923af.pth); nothing is downloaded",
    )
    add(
        "--poses",
        choices=ESTIMATORS,
        help='tell the poses of the frames from their pixels, by XFeat (pip install "vmemkit[poses]") '
        "or by CUT3R (published weights), and compare them with those asked for",
    )


def _add_runners(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where a sweep runs."""
    add = parser.add_argument
    add(
        "--workers",
        type=int,
        default=2,
        help="processes (%(default)s); a cluster of --ray ADDRESS uses all its CPUs",
    )
    add(
        "--ray",
        nargs="?",
        const=LOCAL_RAY,
        metavar="ADDRESS",
        help="run the walks on Ray, which tries again those whose worker or machine dies. Without an "
        "address, a Ray on this machine is started and stopped; HOST:PORT is a running cluster, auto "
        "the one of this machine. Its machines need the same vmemkit, weights and full paths of "
        'recordings; published weights need GPUs. Needs: pip install "vmemkit[cluster]"',
    )


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit serve`."""
    add = parser.add_argument
    add(
        "--generator",
        choices=(*GENERATORS, *PRESETS),
        default="writer",
        help="writer and warp run on CPUs, published weights on all GPUs of this machine (%(default)s)",
    )
    add("--weights", help="folder of the weight files, if not where `vmemkit weights` finds them")
    add("--fast", action="store_true", help="15 better sampling steps instead of the released 50")
    add(
        "--previews",
        type=int,
        default=0,
        metavar="N",
        help="published weights: show the views after every N steps (the result only)",
    )
    add(
        "--replicas",
        type=int,
        metavar="N",
        help="processes that make windows (one on each GPU; without GPUs one)",
    )
    add(
        "--at-once",
        type=int,
        metavar="N",
        help="windows in one batch (4 for published weights; the others have nothing to gain by it)",
    )
    add(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s, this machine alone)"
    )
    add("--port", type=int, default=8700, help="0 takes any that is free (%(default)s)")
    add(
        "--token-file",
        metavar="FILE",
        help="file whose text is the token (that of the environment variable VMEMKIT_TOKEN, else a new "
        "one, which is printed)",
    )
    for name, (number, what) in SERVED.items():
        add(f"--{name}", type=int, default=number, metavar="N", help=f"{what} (%(default)s)")
    parser.set_defaults(run=_runs("serve", "run_serve"))


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vmemkit weights` and of its actions."""
    parser.set_defaults(run=_runs("weights", "run_weights"))
    actions = parser.add_subparsers(metavar="get | check")
    get = actions.add_parser("get", help="download one, through huggingface_hub")
    get.add_argument("name", help=f"one of {', '.join(WEIGHTS)}")
    get.add_argument("--folder", help="where to put it (the hub's cache)")
    get.add_argument(
        "--repository", help="another OWNER/NAME[/SUBFOLDER] of the hub to take it from"
    )
    get.set_defaults(run=_runs("weights", "run_get"))
    check = actions.add_parser("check", help="read a file and count what is in it")
    check.add_argument("file", metavar="NAME|FILE", help="an entry of the list, or any weight file")
    check.set_defaults(run=_runs("weights", "run_check"))


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add `vmemkit doctor`, which has no arguments."""
    parser.set_defaults(run=_runs("doctor", "run_doctor"))


def _runs(file: str, function: str) -> Callable[[argparse.Namespace, Console], None]:
    """A function of a file beside this one, which is imported when the function is called."""

    def run(options: argparse.Namespace, console: Console) -> None:
        getattr(import_module(f"vmemkit.cli.{file}"), function)(options, console)

    return run
