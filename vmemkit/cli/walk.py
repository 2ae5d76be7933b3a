"""`vmemkit walk`: a walk from an image of your own, with depth or without, or from an example."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.text import Text
from torch import Tensor

from vmemkit.cli.arguments import HEIGHT, MOVES, PUBLISHED_HEIGHT, PUBLISHED_MULTIPLE
from vmemkit.cli.terminal import progress_bar
from vmemkit.core import (
    Cameras,
    cameras,
    horizontal_fov,
    image_size,
    intrinsics,
    invert,
    load_image,
    photo_fov,
    resize,
)
from vmemkit.figures import VIDEO_ROWS, contact_sheet, save_figure, save_walk_video
from vmemkit.generation import FAST, Generator, Remote, Warp, Writer, preset, with_depth
from vmemkit.generation.diffusion import DEFAULT_FOV
from vmemkit.memory import begin, check_folder, save, save_ply
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
from vmemkit.scenes import (
    ASPECT,
    EXAMPLES,
    EYE_HEIGHT,
    PHOTO_FOV,
    Beginning,
    NoRoomError,
    add_capture,
    check_capture_place,
    find_source,
    levelled,
    load_photo_depth,
    moves,
    open_source,
    read_transforms,
    same_shape,
    turn_of,
)
from vmemkit.sessions import Session

# Generators that need no weights and take images of any size; the others are the published ones.
WEIGHTLESS: dict[str, Callable[[], Generator]] = {"warp": Warp, "writer": Writer}
MOST_GIVEN = 50  # views of a recording that a walk starts from
SHAPE_UNIT = 10_000  # pixels of height that stand for a shape of which only the aspect is known
MEMORY = "memory"  # folder of the memory, in that of the results; beside it lie these files
FILES = ("surfels.ply", "transforms.json", "contact_sheet.png", "walk.mp4")
OTHER_DEPTH = (
    "On the command line, --depth auto asks a monocular network, and --depth FILE takes a 16-bit PNG "
    "(with --depth-unit metres per step, by default 0.001) or a .npy in metres (of integers: in "
    "millimetres), from a depth camera, a phone's depth sensor or stereo matching "
    "(data/make_stereo_depth.py shows how)"
)


def chosen_stages(
    options: argparse.Namespace,
    load_generator: Callable[..., Generator],
    load_reconstructor: Callable[[str | None], Reconstructor],
) -> dict[str, Any]:
    """The generator and the reconstructor that the arguments choose, as settings of a walk."""
    stages: dict[str, Any] = {}
    if options.geometry == "cut3r":
        stages["reconstructor"] = load_reconstructor(options.weights)
    if options.remote is not None:
        generator = _remote(options)
    elif options.generator in WEIGHTLESS:
        generator = WEIGHTLESS[options.generator]()
    elif options.generator is not None:
        settings = FAST if options.fast else {}
        generator = load_generator(options.generator, options.weights, **settings)
    else:
        return stages
    # Published generators make images only; without a reconstructor, depth comes from Warp.
    makes_depth = options.generator in WEIGHTLESS or "reconstructor" in stages
    return stages | {"generator": generator if makes_depth else with_depth(generator, Warp())}


def _remote(options: argparse.Namespace) -> Remote:
    """The generator of a server. Errors: ValueError if it is not the one that the arguments name."""
    remote = Remote(options.remote)
    served = remote.about().get("generator")
    if served != options.generator:
        raise ValueError(f"{options.remote} serves {served!r:.40}: choose that by --generator")
    return remote


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
    film_rows: int = VIDEO_ROWS,
) -> None:
    """`vmemkit walk IMAGE`: takes the walk and writes video, contact sheet and memory, and its views
    as a capture: transforms.json with images and depth, which nerfstudio reads, too.

    `load_generator(name, folder, **settings)`, `load_reconstructor(folder)` and
    `load_estimator(folder, consent)` load weights. The video has `film_rows` rows.
    """
    out = check_capture_place(options.out)
    if options.image in EXAMPLES:
        beginning, path, note = _from_example(options)
    elif Path(options.image).is_dir():
        beginning, path, note = _from_recording(options)
    else:
        load = partial(load_estimator, options.weights, asks(options, console))
        beginning, path, note = _from_file(options, load)
    words = [text for text in (note, beginning.about) if text]
    stages = chosen_stages(options, load_generator, load_reconstructor)
    settings = {"policy": options.policy, "k": options.k, "m": options.m, **stages}
    with _new_session(options.session) as session:
        walked = walk(begin(beginning.given), path, session=session, **settings)
        _prepare(out)
        steps: list[Step] = []
        try:
            take(walked, len(path), options.policy, console, words, steps)
        finally:  # after Ctrl-C, too
            if steps:
                _write_results(out, steps, console, film_rows)
            else:
                with contextlib.suppress(OSError):
                    out.rmdir()  # if it is empty


def _new_session(folder: str | None) -> AbstractContextManager[Session | None]:
    """A session in a new folder; None without a folder. Errors: ValueError if it holds a walk."""
    if folder is None:
        return contextlib.nullcontext()
    session = Session(folder)
    if session.tree:
        session.close()
        raise ValueError(
            f"{folder} holds a walk already: go on with `vmemkit resume {folder} --moves ...`, or "
            "give a new folder"
        )
    return session


def _prepare(out: Path) -> None:
    """Make the folder for the results. Errors: ValueError or OSError if they cannot be written."""
    out.mkdir(parents=True, exist_ok=True)
    check_folder(out / MEMORY)
    for name in FILES:
        if (out / name).is_dir():
            raise ValueError(f"cannot write {out / name}: it is a folder; choose another --out")
    with tempfile.TemporaryFile(dir=out):
        pass  # it can be written to


def take(
    walked: Iterator[Step],
    views: int,
    policy: str,
    console: Console,
    words: Sequence[str],
    steps: list[Step],
) -> None:
    """Take the walk of so many views. Each finished step is added to `steps`, and what it has to say
    is printed; after the first one, which may be refused, the `words` on how the walk began."""
    with progress_bar(console) as bar:
        task = bar.add_task(policy, total=views)
        for step in _until_refused(walked, console):
            for text in words if not steps else ():
                console.print(f"{text}.", soft_wrap=True)
            steps.append(step)
            bar.advance(task, len(step.targets))
            if step.note and step.note not in (earlier.note for earlier in steps[:-1]):
                console.print(Text(step.note, style="yellow"), soft_wrap=True)
            for view, report in enumerate(step.reports, start=len(step.before)):
                if report.warning:
                    console.print(Text(f"view {view}: {report.warning}", style="yellow"))


def _write_results(out: Path, steps: Sequence[Step], console: Console, film_rows: int) -> None:
    """Write memory, surfels, views with cameras, contact sheet and video of the steps taken."""
    memory = steps[-1].memory
    save(memory, out / MEMORY)
    save_ply(memory.surfels, out / "surfels.ply")
    add_capture(memory.views, out)
    save_figure(out / "contact_sheet.png", contact_sheet(steps))
    written = "contact sheet, surfels, memory, and images with depth and cameras"
    try:
        save_walk_video(out / "walk.mp4", steps, film_rows)
        written = f"video, {written}"
    except (ValueError, OSError) as error:
        console.print(Text(f"no video was written: {error}", style="yellow"), soft_wrap=True)
    console.print(f"{memory}: {written} are in {out}", soft_wrap=True)


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


def _from_example(options: argparse.Namespace) -> tuple[Beginning, Cameras, str]:
    """Where one of EXAMPLES starts, and the cameras (n,) to generate.

    Errors: ValueError for options that say what an example has already.
    """
    _refuse_others(options, "an example")
    size = _size(options, ASPECT)
    beginning = EXAMPLES[options.image](size[0], 0)
    beginning = replace(beginning, given=resize(beginning.given, *size))
    return beginning, _path(options, None, beginning.given.cameras[0]), ""


def _from_recording(options: argparse.Namespace) -> tuple[Beginning, Cameras, str]:
    """Where a recording of any format ends, and the cameras (n,) to generate.

    At most MOST_GIVEN of its views are given, evenly taken. Its world is turned so that up is up.
    Errors: ValueError for a recording without depth, and as `_from_example`.
    """
    _refuse_others(options, "a recording")
    source = find_source(Path(options.image))
    every = math.ceil(len(source.cameras) / MOST_GIVEN)
    recording = open_source(source, options.size or HEIGHT, every)
    if recording.views is None or recording.views.depth is None:
        raise ValueError(
            f"{options.image} is a {recording.what} without depth, which a walk has to know: add depth "
            "files, or start from one image with --depth auto"
        )
    h, w = recording.views.image.shape[2:]
    given = levelled(resize(recording.views, *_size(options, w / h)))
    about = f"{len(given)} of {len(source.cameras)} views of a recording ({recording.what})"
    return Beginning(given, None, about), _path(options, None, given.cameras[-1]), ""


def _refuse_others(options: argparse.Namespace, what: str) -> None:
    """Errors: ValueError for options that say what an example or a recording has already."""
    for name, value, usual in (
        ("--fov", options.fov, None),
        ("--trajectory", options.trajectory, None),
        ("--depth-unit", options.depth_unit, None),
        ("--depth", options.depth, "room"),
        ("--eye-height", options.eye_height, EYE_HEIGHT),
    ):
        if value != usual:
            raise ValueError(
                f"{options.image!r} is {what} with a lens and depth of its own, got {name} {value}: "
                f"leave it out, or give an image file"
            )


def _from_file(
    options: argparse.Namespace, load_estimator: Callable[[], DepthEstimator]
) -> tuple[Beginning, Cameras, str]:
    """The image file with its depth, the cameras (n,) to generate, and what to say of the lens."""
    image = load_image(options.image)
    lens, note = _lens(options, image.shape[2] / image.shape[1])
    trajectory = None
    if options.trajectory is not None:
        trajectory, note = read_path(options.trajectory, options.image, lens)
        if options.fov is not None and not torch.allclose(trajectory.K, lens):
            trajectory = cameras(trajectory.world_from_cam, lens)
            note = "--fov takes the place of the trajectory's lens"
        lens = trajectory.K[0]
    beginning = _beginning(options, image, lens, load_estimator)
    return beginning, _path(options, trajectory, beginning.given.cameras[0]), note


def _beginning(
    options: argparse.Namespace,
    image: Float[Tensor, "3 h w"],
    K: Float[Tensor, "3 3"],
    load_estimator: Callable[[], DepthEstimator],
) -> Beginning:
    """The image with its depth, as the first view of the walk."""
    size = _size(options, image.shape[2] / image.shape[1])
    depth: Float[Tensor, "h w"] | str = options.depth
    if depth not in GUESSES:
        depth = load_photo_depth(options.image, options.depth, options.depth_unit)
    estimator = load_estimator() if options.depth == "auto" else None
    try:
        return start_from_photo(image, size, depth, K, options.eye_height, estimator)
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
    # The image may have been cut to the walk's format, and its lens with it.
    zoom = torch.linalg.inv(path.K[0]) @ path.K[1:]
    same = (path.K[1:] == path.K[0]).flatten(1).all(1)
    K = torch.where(same[:, None, None], camera.K, camera.K @ zoom)
    return cameras(camera.world_from_cam @ path.world_from_cam[1:], K)


def read_path(file: str | Path, photo: str | Path, K: Float[Tensor, "3 3"]) -> tuple[Cameras, str]:
    """Cameras (n,) of a camera file of any format, relative to the first of them, and what was changed
    about their lens, as words.

    They are in the order of time. Files that a transforms.json names need not exist. Frames and formats
    that state no lens have `K`, that of the photo. A lens for images of another shape keeps its field of
    view across, and is cut or extended in height.
    Errors: ValueError for unreadable files, frames of several sizes, and a lens for the photo's
    pixels as stored where EXIF turns it.
    """
    size, file = image_size(photo), Path(file)
    if file.suffix.lower() == ".json" or (file / "transforms.json").is_file():
        transforms = read_transforms(file, assumed=(size, K))
        path, sizes = transforms.cameras[list(transforms.order)], set(transforms.sizes)
    else:
        source = find_source(file)
        path, sizes = source.cameras, set(source.sizes)
        if not source.lens_known:
            path, sizes = cameras(path.world_from_cam, K), {size}
    if len(sizes) > 1:
        raise ValueError(f"{file} has frames of several sizes: a walk needs one w and h")
    aspect = float(path.K[0, 1, 1] / path.K[0, 0, 0])  # pixels are square
    lens_size = sizes.pop() if sizes else (SHAPE_UNIT, round(SHAPE_UNIT * aspect))
    is_own = not torch.equal(path.K, K.expand_as(path.K))
    if is_own and turn_of(photo, lens_size, f"the lens of {file.name}") != 1:
        raise ValueError(
            f"the lens of {file.name} is for the pixels of {photo} as stored, and its EXIF orientation "
            "turns them to be shown: save the photo without the tag"
        )
    note = ""
    aspect, lens_aspect = size[1] / size[0], lens_size[1] / lens_size[0]
    if not same_shape(size, lens_size):
        path = path.replace(K=_cut_to_aspect(path.K, aspect / lens_aspect))
        note = (
            f"the trajectory's lens is for images of {lens_aspect:.3g} : 1 and the image has "
            f"{aspect:.3g} : 1, so the field of view across is kept, and cut or extended in height"
        )
    return Cameras(invert(path.world_from_cam[:1]) @ path.world_from_cam, path.K), note


def _cut_to_aspect(K: Float[Tensor, "n 3 3"], ratio: float) -> Float[Tensor, "n 3 3"]:
    """K of images `ratio` times as wide for their height, with the same middle and width."""
    cut = torch.diag(K.new_tensor([1.0, ratio, 1.0]))
    cut[1, 2] = (1 - ratio) / 2
    return cut @ K


def _lens(options: argparse.Namespace, aspect: float) -> tuple[Float[Tensor, "3 3"], str]:
    """K from --fov, else by the photo's EXIF data, else the generator's default; and which, as
    words."""
    if options.fov is not None:
        return intrinsics(options.fov, aspect), ""
    fov, source = photo_fov(options.image), "by the focal length in its EXIF data"
    if fov is None:
        along = PHOTO_FOV if options.generator in WEIGHTLESS else DEFAULT_FOV
        fov, source = horizontal_fov(along, aspect), f"a guess: {along:g} along the longer side"
    return intrinsics(fov, aspect), f"the field of view is {fov:.1f} degrees across, {source}"


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
