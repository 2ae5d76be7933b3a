"""Formats: what posed images at a path are, recognised by their content.

In: a file or a folder. Out: a `Source`, which a reader of `readers/` has made. Pictures without poses,
such as a video, get the cameras of another file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from vmemkit.core import cameras, horizontal_fov, image_size, intrinsics, names_in, photo_fov
from vmemkit.scenes.file_names import FolderFiles
from vmemkit.scenes.readers.arrays import POSES, arrays_source
from vmemkit.scenes.readers.checks import missing_files
from vmemkit.scenes.readers.colmap import colmap_source, find_model
from vmemkit.scenes.readers.pictures import IMAGES, pictures_in
from vmemkit.scenes.readers.realestate10k import MICRO, is_realestate10k, realestate10k_source
from vmemkit.scenes.readers.record3d import metadata_file, record3d_source
from vmemkit.scenes.readers.scannet import FOLDERS, scannet_source
from vmemkit.scenes.readers.source import Source
from vmemkit.scenes.readers.transforms import transforms_cameras, transforms_source
from vmemkit.scenes.readers.tum import is_tum, tum_source
from vmemkit.scenes.readers.unreal import (
    context_as_memory_source,
    is_context_as_memory,
    is_mind,
    mind_source,
)
from vmemkit.scenes.readers.video import CONTAINERS, video_format
from vmemkit.scenes.room_box import PHOTO_FOV

MAX_TEXTS = 50  # text files of a folder that are looked at
SHOWN = 20  # names of a folder in a message
ARCHIVES = (".zip", ".r3d", ".gz", ".tar")


@dataclass(frozen=True)
class Format:
    """A format: what it is, whether it lies at a path, its reader, and the options that apply to it."""

    what: str
    is_at: Callable[[Path], bool]
    read: Callable[..., Source]
    options: tuple[str, ...] = ()


def find_source(
    path: Path,
    format: str | None = None,
    cameras: Path | None = None,
    given: Mapping[str, Any] | None = None,
) -> Source:
    """What lies at a path, without opening its images: cameras in the order of time, and files.

    The arguments are those of `load`; `given` are its options for formats by name. Errors: ValueError
    as `load`.
    """
    given = {} if given is None else given
    if cameras is not None:
        return _with_cameras(path, cameras, format, given)
    name, others = _recognised(path, format)
    source = _read(name, path, given)
    if others:
        words = ", ".join(f"{other} ({FORMATS[other].what})" for other in others)
        note = f"the path holds other formats, too, which format= chooses: {words}"
        source = replace(source, notes=(*source.notes, note))
    return source


def _has_transforms(path: Path) -> bool:
    return (path / "transforms.json").is_file() or (path.suffix == ".json" and path.is_file())


def _has_arrays(path: Path) -> bool:
    is_array = path.suffix.lower() in (".npy", ".npz") and path.is_file()
    return is_array or (path / POSES).is_file()


def _realestate10k_file(path: Path) -> Path | None:
    """The one text of RealEstate10K that the path is, or that lies in it; None if there is none."""
    if path.is_file():
        return path if is_realestate10k(path) else None
    if not path.is_dir():
        return None
    texts = [path / name for name in names_in(path) if name.endswith(".txt")][:MAX_TEXTS]
    inside = [text for text in texts if text.resolve().is_relative_to(path.resolve())]
    found = [text for text in inside if is_realestate10k(text)]
    return found[0] if len(found) == 1 else None


def _realestate10k_folder(path: Path) -> Source:
    """A text, with the images beside it where these have its times as names, or are as many."""
    file = _realestate10k_file(path)
    source = realestate10k_source(path if file is None else file)
    folders = (path / "images", path) if path.is_dir() else ()
    photos = next((found for folder in folders if (found := pictures_in(folder))), ())
    return replace(source, images=_matched(source, photos, path)) if photos else source


def _photo(path: Path, fov: float | None = None) -> Source:
    """A photo as a camera at the origin that looks along z."""
    h, w = image_size(path)
    by_exif = photo_fov(path)
    if fov is not None:
        note = f"the lens is the given fov, {fov:g} degrees"
    elif by_exif is not None:
        fov, note = by_exif, f"the lens is by EXIF's focal length: {by_exif:.1f} degrees across"
    else:
        fov = horizontal_fov(PHOTO_FOV, w / h)
        note = f"no lens is known: {PHOTO_FOV:g} degrees along the longer side are a guess"
    return Source(
        what="photo",
        cameras=cameras(torch.eye(4)[None], intrinsics(fov, w / h)),
        images=(path,),
        notes=(note, "its camera is put at the origin, level"),
    )


def _video(path: Path) -> Source:
    raise ValueError(
        f"{path} is a video, which has no poses: give cameras=, a camera file of any format"
    )


# In the order in which they are looked for.
FORMATS = {
    "transforms": Format(
        "transforms.json of nerfstudio or instant-ngp",
        _has_transforms,
        transforms_source,
        ("convention", "depth_unit"),
    ),
    "colmap": Format(
        "COLMAP model, binary or text", lambda path: find_model(path) is not None, colmap_source
    ),
    "tum": Format(
        "folder of the TUM RGB-D benchmark, or a text of its poses",
        is_tum,
        tum_source,
        ("fov", "depth_unit"),
    ),
    "scannet": Format(
        "export of ScanNet",
        lambda path: all((path / name).is_dir() for name in FOLDERS),
        scannet_source,
        ("depth_unit",),
    ),
    "record3d": Format(
        "export of Record3D", lambda path: metadata_file(path) is not None, record3d_source
    ),
    "arrays": Format(
        "poses.npy with intrinsics.npy, or .npz with w2c, c2w or poses",
        _has_arrays,
        arrays_source,
        ("convention", "world_to_camera", "fov", "depth_unit"),
    ),
    "realestate10k": Format(
        "text of RealEstate10K",
        lambda path: _realestate10k_file(path) is not None,
        _realestate10k_folder,
    ),
    "context_as_memory": Format(
        "frames of a scene of Context-as-Memory",
        is_context_as_memory,
        context_as_memory_source,
        ("fov",),
    ),
    "mind": Format("folder of a video of MIND", is_mind, mind_source, ("fov",)),
    "video": Format("video, with cameras=", lambda path: path.suffix.lower() in CONTAINERS, _video),
    "photo": Format(
        "photo", lambda path: path.is_file() and path.suffix.lower() in IMAGES, _photo, ("fov",)
    ),
}


def _recognised(path: Path, format: str | None) -> tuple[str, list[str]]:
    """The format of what lies at a path, and others that lie there, too. Errors: ValueError."""
    if format is not None and format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    try:
        if not path.exists():
            raise ValueError(f"cannot read {path}: there is no such file or folder")
        found = [name for name, known in FORMATS.items() if known.is_at(path)]
        inside = names_in(path) if path.is_dir() else []
    except OSError as error:
        raise ValueError(f"cannot look at {path}: {error}") from error
    if format is not None:
        return format, []
    if found:
        return found[0], found[1:]
    why = ": unpack it first" if path.suffix.lower() in ARCHIVES else ""
    if path.is_dir():
        more = ", ..." if len(inside) > SHOWN else ""
        why = f": the folder holds {', '.join(inside[:SHOWN]) or 'nothing'}{more}"
    photos = pictures_in(path)
    if photos:
        why += f"; its {len(photos)} images need poses: give cameras=, a camera file"
    known = "; ".join(f"{name}: {known.what}" for name, known in FORMATS.items())
    raise ValueError(f"{path} is nothing known{why}. Recognised are {known}")


def _read(name: str, path: Path, given: Mapping[str, Any]) -> Source:
    """What a format's reader finds. Errors: ValueError for an option that does not apply to it."""
    known = FORMATS[name]
    _check_options(given, known.options, known.what)
    return known.read(path, **given)


def _check_options(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    others = [option for option in given if option not in known]
    if others:
        raise ValueError(
            f"{', '.join(others)} does not apply to this format ({what}): leave it out"
        )


# ---- pictures whose cameras lie elsewhere ----------------------------------------------------------


def _with_cameras(path: Path, file: Path, format: str | None, given: Mapping[str, Any]) -> Source:
    """Pictures at `path`, seen by the cameras of `file`. Errors: ValueError."""
    is_video, photos = path.suffix.lower() in CONTAINERS, pictures_in(path)
    if not is_video and not photos:
        raise ValueError(f"{path} must be a video or a folder of images, if cameras= is given")
    name, _ = _recognised(file, format)
    if name in ("video", "photo"):
        raise ValueError(f"{file} is a {name} and has no poses: give a camera file")
    fps, size = video_format(path) if is_video else (0.0, image_size(photos[0]))
    if name == "transforms":  # the files that it names need not be there
        _check_options(given, ("convention", "fov"), "path of a transforms.json")
        source = transforms_cameras(file, size, **given)
    else:
        source = _read(name, file, given)
    source = replace(
        source,
        what=f"{'video' if is_video else 'images'} with cameras of another file: {source.what}",
        images=() if is_video else _matched(source, photos, path),
        depths=(),
        masks=(),
    )
    if not is_video:
        return source
    for stated in set(source.sizes):
        check_shape(size, stated, path.name)
    # The times of other formats are not those of a video.
    frames, total = _frames_at(source.times if name == "realestate10k" else (), fps), None
    note = "the times of the cameras choose the frames of the video"
    if not frames:
        total = len(source.cameras)
        frames, note = tuple(range(total)), "each frame of the video has a camera"
    notes = (*source.notes, note)
    return replace(source, video=path, frames=frames, frame_count=total, notes=notes)


def check_shape(size: tuple[int, int], stated: tuple[int, int], name: str) -> None:
    """Errors: ValueError for an image that is no smaller or larger copy of what is stated."""
    (h, w), (stated_h, stated_w) = size, stated
    # Half sizes and the like are rounded to whole pixels.
    if abs(w * stated_h - h * stated_w) > max(stated_w, stated_h):
        raise ValueError(
            f"{name} is {w} x {h}, and the lens of its camera is for {stated_w} x {stated_h}: images "
            "need the size that their lens is for, or must be smaller copies of the same shape"
        )


def _matched(source: Source, photos: Sequence[Path], where: Path) -> tuple[Path, ...]:
    """The picture of each camera: by the name that the camera file has, by time, else one for one.

    Errors: ValueError for other numbers of cameras and pictures.
    """
    if source.names:
        files, found, misses = FolderFiles(where), [], []
        for name in source.names:
            try:
                found.append(files.find(name, f"{where}: the image {name[:60]!r}"))
            except ValueError as error:
                misses.append((repr(name[:60]), error))
        if misses:
            raise missing_files(misses)
        return tuple(found)
    by_time = {
        int(file.stem): file for file in photos if file.stem.isascii() and file.stem.isdecimal()
    }
    times = [round(time * MICRO) for time in source.times]
    if times and all(time in by_time for time in times):
        return tuple(by_time[time] for time in times)
    if len(photos) != len(source.cameras):
        raise ValueError(
            f"{where} has {len(photos)} images for {len(source.cameras)} cameras: give one image for "
            "each camera, name them by the times of the cameras in microseconds, or load the camera file "
            "alone"
        )
    return tuple(photos)


def _frames_at(times: Sequence[float], fps: float) -> tuple[int, ...]:
    """The frame of a video at each time; none where several cameras would share one."""
    frames = tuple(round(time * fps) for time in times)
    return frames if all(a < b for a, b in pairwise(frames)) else ()
