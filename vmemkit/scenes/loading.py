"""Loading: posed images of any common format.

In: a file or a folder. Out: a `Recording` that says what the path was taken for, and what was
converted, left out or assumed. `formats.py` recognises the format, a file of `readers/` reads it. Here
its images are opened, turned, freed of lens distortion and brought to one size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vmemkit.core import MAX_PIXELS, Cameras, Views, image_size, load_image, whole
from vmemkit.core import views as checked_views
from vmemkit.scenes.formats import check_shape, find_source
from vmemkit.scenes.readers.checks import check_path
from vmemkit.scenes.readers.lenses import pinhole_zoom, undistorted, zoomed
from vmemkit.scenes.readers.source import Source
from vmemkit.scenes.readers.video import video_frames
from vmemkit.scenes.recording import resized_depth
from vmemkit.scenes.turned_photos import LYING, load_photo_depth, turn_back, turn_of, turned_like

MAX_RECORDING_PIXELS = 500_000_000  # 8 GB of colour and depth as float32
USUAL_PIXELS = 25_000_000  # that any image of a recording may have; it takes 0.8 GB to undistort
PIXELS_PER_BYTE = 20  # of larger images: photos have 2 to 10
MAX_HEIGHT = 16_384  # pixels

Picture = tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"] | None]  # with its depth


@dataclass(frozen=True, repr=False)
class Recording:
    """Posed images, or a bare trajectory, and what is known of them.

    `begin(recording.views)` remembers them, and `capture(recording.views)` is their scene, if they have
    depth.
    """

    what: str  # what the path was taken for
    cameras: Cameras  # (t,)
    views: Views | None  # of the cameras, with depth where it was recorded; None for a trajectory
    points: Float[Tensor, "n 3"] | None  # world, of a sparse reconstruction
    recorded_size: tuple[int, int] | None  # (height, width) of the images before they were resized
    times: tuple[float, ...]  # seconds, of each camera; none if they are not known
    axes: str  # the camera axes of the file, which are converted to OpenCV's
    scale: str  # the unit of positions and depth
    notes: tuple[str, ...]  # what was converted, left out or assumed, as sentences

    def __repr__(self) -> str:
        kind = (
            "trajectory" if self.views is None else f"images of {list(self.views.image.shape[2:])}"
        )
        return f"Recording({self.what}: {len(self.cameras)} cameras, {kind})"


def load(
    path: str | os.PathLike,
    format: str | None = None,
    *,
    cameras: str | os.PathLike | None = None,
    height: int | None = None,
    every: int = 1,
    convention: str | None = None,
    world_to_camera: bool | None = None,
    depth_unit: float | None = None,
    fov: float | None = None,
    sky: bool = False,
) -> Recording:
    """Posed images, or a trajectory, of any format that `FORMATS` names.

    path: a file or folder, recognised by its content; `format` chooses where several are there.
    cameras: a camera file of any format for pictures without poses: a video or a folder of images.
    height: of the views, pixels; the width keeps the shape. Without it, the images' own size.
    every: keep every n-th camera, in the order in which they were taken.
    convention: camera axes of transforms.json and arrays, "opengl" or "opencv".
    world_to_camera: whether the poses of arrays are that, not camera-to-world.
    depth_unit: metres per step of the depth files, in place of the format's own.
    fov: horizontal, degrees, of formats that lack a lens: arrays, TUM, Context-as-Memory, MIND,
        photos.
    sky: 65535 of 16 bits means that nothing is met, not that the depth is unknown.
    Poses become camera-to-world with OpenCV's camera axes; the world frame stays the file's own. Lens
    distortion is undone. Masked pixels have unknown depth. `notes` says all of this.
    Errors: ValueError for a path that holds nothing known, an option that does not apply to its format,
    and whatever is missing, malformed, hostile, or of differing sizes.
    """
    options = {
        "convention": convention,
        "world_to_camera": world_to_camera,
        "depth_unit": depth_unit,
        "fov": fov,
    }
    given = {name: value for name, value in options.items() if value is not None}
    source = find_source(Path(path), format, None if cameras is None else Path(cameras), given)
    return open_source(source, height, every, sky)


def open_source(source: Source, height: int | None, every: int, sky: bool = False) -> Recording:
    """The recording of a source. The arguments are those of `load`. Errors: ValueError as `load`."""
    every = whole(every, "every")
    if every < 1 or (height is not None and not 1 <= whole(height, "height") <= MAX_HEIGHT):
        raise ValueError(
            f"need every >= 1 and a height of 1 to {MAX_HEIGHT}, got {every}, {height}"
        )
    if not source.lens_known:
        raise ValueError(
            f"the path ({source.what}) states no lens: give fov (horizontal, degrees), or for arrays "
            "intrinsics beside the poses"
        )
    source = _thinned(source, every)
    if source.images:
        pictures = _opened(source, _turns(source), sky)
    elif source.video is not None:
        pictures = _filmed(source, source.video)
    else:
        left_out = "the lens distortion was left out, because there are no images"
        notes = (*source.notes, *((left_out,) if any(source.distortions) else ()))
        return _recording(replace(source, notes=notes), source.cameras, None, None)
    views, size, notes = _views(source, pictures, height)
    return _recording(replace(source, notes=(*source.notes, *notes)), views.cameras, views, size)


def load_capture(
    folder: str | os.PathLike,
    convention: str = "opengl",
    depth_unit: float | None = None,
    sky: bool = False,
) -> Views:
    """The views of a folder with a nerfstudio transforms.json; depth is NaN where it is unknown.

    `convention` names the camera axes of the file, "opengl" or "opencv". `depth_unit` is metres
    per step of the depth files; by default it is the file's, else that of `load_depth`. With `sky`,
    65535 of 16 bits means that nothing is met, not that the depth is unknown.
    Views come in the order of their frames' `timestamp` or `time`, else of file names that differ
    only in their numbers (2 before 10), else of the file. Lens distortion is undone, and masked
    pixels have unknown depth.
    Images may be smaller or larger than the file says, but not of another shape. Where EXIF turns
    images and the lens is for their pixels as stored, they stay as stored. Depth of another
    resolution is brought to the images' by nearest pixel.
    Errors: ValueError for whatever is missing, malformed, hostile, or of differing sizes.
    """
    loaded = load(folder, "transforms", convention=convention, depth_unit=depth_unit, sky=sky)
    if loaded.views is None:
        raise ValueError(f"{folder} has cameras but no images: give every frame a file_path")
    return loaded.views


def _thinned(source: Source, every: int) -> Source:
    """Every n-th camera of a source, with what belongs to it."""
    names = ("sizes", "images", "names", "depths", "masks", "distortions", "times", "frames")
    thinner = {name: getattr(source, name)[::every] for name in names}
    return replace(source, cameras=check_path(source.cameras[::every]), **thinner)


def _turns(source: Source) -> list[int]:
    """The EXIF orientation of each image that its lens does not have, else 1.

    Errors: ValueError for images of several sizes, of another shape than their lens is for, or too
    many.
    """
    turns, sizes = [], []
    for i, photo in enumerate(source.images):
        h, w = image_size(photo, _pixel_limit(photo))
        turn = turn_of(photo, source.sizes[i], "its lens") if source.sizes else 1
        turns.append(turn)
        sizes.append((w, h) if turn in LYING else (h, w))
    differing = dict(zip(sizes, source.images, strict=True))
    if len(differing) > 1:
        got = ", ".join(f"{w} x {h} ({path.name})" for (h, w), path in differing.items())
        raise ValueError(
            f"the images of a recording need one size, got {got[:400]}: resize them, or crop them with "
            "their cameras"
        )
    for size, stated, photo in zip(sizes, source.sizes, source.images, strict=False):
        check_shape(size, stated, photo.name)
    return turns


def _pixel_limit(file: Path) -> int:
    """Pixels that a file may have: more than its bytes can describe would only fill the memory."""
    return min(MAX_PIXELS, max(USUAL_PIXELS, PIXELS_PER_BYTE * file.stat().st_size))


def _opened(source: Source, turns: Sequence[int], sky: bool) -> Iterator[Picture]:
    """Each image with its depth, as the lens is for them; masked pixels have unknown depth."""
    for i, (photo, turn) in enumerate(zip(source.images, turns, strict=True)):
        image = turn_back(load_image(photo, _pixel_limit(photo)), turn)
        h, w = image.shape[1:]
        file = source.depths[i] if source.depths else None
        mask = source.masks[i] if source.masks else None
        if file is None:
            yield image, None
            continue
        if source.read_depth is None:
            depth = load_photo_depth(photo, file, source.depth_unit, _pixel_limit(file), sky)
        else:
            depth = turned_like(photo, source.read_depth(file), "its depth")
        depth = resized_depth(turn_back(depth, turn), h, w, str(file))
        if mask is not None:
            kept = load_image(mask, _pixel_limit(mask)).amax(0)
            kept = turned_like(photo, kept, "its mask")
            kept = resized_depth(turn_back(kept, turn), h, w, str(mask))
            depth = torch.where(kept > 0, depth, torch.nan)
        yield image, depth


def _filmed(source: Source, video: Path) -> Iterator[Picture]:
    """The frames of a video that cameras have, without depth.

    Errors: ValueError for a video that lacks one, and for one that has not `frame_count` frames.
    """
    count, wanted, last = 0, set(source.frames), source.frames[-1]
    for image in video_frames(video):
        if count in wanted:
            yield image, None
        count += 1
        if source.frame_count is None and count > last:
            return
    if count <= last or source.frame_count not in (None, count):
        raise ValueError(
            f"{video} has {count} frames for {source.frame_count or last + 1} cameras: give one camera "
            "for each frame, or a RealEstate10K text, whose times choose the frames"
        )


def _views(
    source: Source, pictures: Iterator[Picture], height: int | None
) -> tuple[Views, tuple[int, int], list[str]]:
    """The pictures as views without distortion, the size that they had, and notes on what was done."""
    t, notes = len(source.cameras), list[str]()
    zooms = torch.ones(t)
    images, depths, size = torch.empty(0), torch.empty(0), (0, 0)
    for i, (image, depth) in enumerate(pictures):
        if i == 0:
            size = (image.shape[1], image.shape[2])
            rows, columns = _target(size, height, t)
            images = torch.empty(t, 3, rows, columns)
            depths = torch.full((t, rows, columns), torch.nan) if source.depths else depths
        lens = source.distortions[i] if source.distortions else None
        if lens is not None:
            K = source.cameras.K[i]
            zooms[i] = zoom = pinhole_zoom(lens, K, size, f"camera {i}")
            image = undistorted(image, lens, K, zoom)
            depth = None if depth is None else undistorted(depth, lens, K, zoom)
        images[i] = _resized(image, rows, columns)
        if depth is not None:
            depths[i] = interpolate(depth[None, None], (rows, columns), mode="nearest-exact")[0, 0]
    if any(source.distortions):
        notes.append(_distortion_words(source, zooms))
    if any(source.masks):
        if source.depths:
            notes.append("pixels that a mask leaves out have unknown depth; their colours stay")
        else:
            notes.append("the masks were not used, because there is no depth that they could mask")
    seen = source.cameras.replace(K=zoomed(source.cameras.K, zooms))
    return checked_views(images, seen, depths if source.depths else None), size, notes


def _target(size: tuple[int, int], height: int | None, count: int) -> tuple[int, int]:
    """(height, width) of the views. Errors: ValueError for more pixels than can be held."""
    h, w = size
    rows, columns = (h, w) if height is None else (height, max(1, round(w * height / h)))
    if count * rows * columns > MAX_RECORDING_PIXELS:
        raise ValueError(
            f"{count} images of {columns} x {rows} are more than {MAX_RECORDING_PIXELS} pixels: keep "
            "fewer frames (every=), or smaller images (height=)"
        )
    return rows, columns


def _resized(image: Float[Tensor, "3 h w"], rows: int, columns: int) -> Float[Tensor, "3 h2 w2"]:
    if image.shape[1:] == (rows, columns):
        return image
    smaller = interpolate(image[None], (rows, columns), mode="bilinear", antialias=True)[0]
    return smaller.clamp(0, 1)


def _distortion_words(source: Source, zooms: Float[Tensor, " t"]) -> str:
    bent = [lens for lens in source.distortions if lens is not None]
    least, most = float(zooms.min()), float(zooms.max())
    kept = "K was kept, because all that its pinhole sees was recorded"
    if most > 1:
        factor = f"{most:.3f}" if least == most else f"{least:.3f} to {most:.3f}"
        kept = f"focal lengths are {factor} times as long, so that every pixel was recorded"
    return f"lens distortion of {len(bent)} images was undone, such as {bent[0]}; {kept}"


def _recording(
    source: Source, cameras: Cameras, views: Views | None, size: tuple[int, int] | None
) -> Recording:
    return Recording(
        what=source.what,
        cameras=cameras,
        views=views,
        points=source.points,
        recorded_size=size,
        times=source.times,
        axes=source.axes,
        scale=source.scale,
        notes=source.notes,
    )
