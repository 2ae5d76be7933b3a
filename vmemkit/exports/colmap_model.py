"""COLMAP: a memory as a sparse model in text, with the sightings as tracks.

In: a memory. Out: a folder with `images/` and `sparse/0/{cameras,images,points3D}.txt`. gsplat's
`simple_trainer` and the 3DGS code of Inria take it as `--data_dir` and `-s`; nerfstudio takes it as
`ns-train splatfacto colmap --data FOLDER --colmap-path sparse/0`.
A surfel is a point, and a sighting is an observation: the surfel's centre, projected into the view.
Camera axes and the world are OpenCV's in both, and so are pixels: the centre of the first one lies at
(0.5, 0.5). Source: colmap.github.io/format.html.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int
from scipy.spatial.transform import Rotation

from vmemkit.core import Views, save_image
from vmemkit.exports.places import writing_folder
from vmemkit.memory import Memory

MODEL = Path("sparse") / "0"


@dataclass(frozen=True)
class ColmapReport:
    """What a model holds, and what was left out of it."""

    images: int
    points: int
    observations: int
    outside: int  # observations whose projection lies outside their image
    unseen: int  # points with fewer observations than the least

    def __str__(self) -> str:
        return (
            f"{self.images} images, {self.points:,} points, {self.observations:,} observations; left "
            f"out: {self.outside:,} observations outside their images, {self.unseen:,} points with too "
            "few observations"
        )


@dataclass(frozen=True)
class Observations:
    """Row i: image `view[i]` shows point `surfel[i]` at `pixel[i]`. Ordered by view, then surfel."""

    view: Int[np.ndarray, " s"]
    surfel: Int[np.ndarray, " s"]
    pixel: Float64[np.ndarray, "s 2"]

    def only(self, rows: np.ndarray) -> Observations:
        return Observations(self.view[rows], self.surfel[rows], self.pixel[rows])


def colmap(memory: Memory, folder: str | os.PathLike, least: int = 1) -> ColmapReport:
    """Write a memory as a new folder with a COLMAP model in text and its images.

    Image i + 1 is view i, and point i + 1 is surfel i. The world and its unit stay the memory's. Points
    have the surfels' colours, and an error of 0, because observations are projections. `least` is the
    number of observations that a point needs; COLMAP's own tools drop points with one.
    Errors: ValueError for a memory without views, `least` below 1, and a folder that is not new or
    empty; OSError for a full disk.
    """
    if len(memory) == 0 or least < 1:
        raise ValueError(
            f"a COLMAP model needs a memory with views and least >= 1, got {memory} and {least}"
        )
    views = memory.views
    poses = _poses(views)
    seen, outside = _observations(memory, poses)
    counts = np.bincount(seen.surfel, minlength=len(memory.surfels))
    seen = seen.only(counts[seen.surfel] >= least)
    with writing_folder(folder) as draft:
        (draft / "images").mkdir()
        (draft / MODEL).mkdir(parents=True)
        for i, image in enumerate(views.image):
            save_image(draft / "images" / _name(i), image)
        lens_ids = _write_cameras(draft / MODEL / "cameras.txt", views)
        _write_images(draft / MODEL / "images.txt", poses, lens_ids, seen)
        points = _write_points(draft / MODEL / "points3D.txt", memory, seen)
    unseen = len(memory.surfels) - points
    return ColmapReport(len(views), points, len(seen.view), outside, unseen)


def _name(view: int) -> str:
    return f"{view:05d}.png"


@dataclass(frozen=True)
class _Poses:
    """cam_from_world of each view as the file has it."""

    quaternion: Float64[np.ndarray, "t 4"]  # w x y z
    translation: Float64[np.ndarray, "t 3"]

    def in_camera(
        self, view: int, points: Float64[np.ndarray, "n 3"]
    ) -> Float64[np.ndarray, "n 3"]:
        rotation = Rotation.from_quat(self.quaternion[view, [1, 2, 3, 0]])
        return rotation.apply(points) + self.translation[view]


def _poses(views: Views) -> _Poses:
    world_from_cam = views.cameras.world_from_cam.cpu().double().numpy()
    turn = Rotation.from_matrix(world_from_cam[:, :3, :3]).inv()
    quaternion = turn.as_quat(canonical=True)[:, [3, 0, 1, 2]]
    return _Poses(quaternion, -turn.apply(world_from_cam[:, :3, 3]))


def _observations(memory: Memory, poses: _Poses) -> tuple[Observations, int]:
    """The sightings whose projection lies in their image, and how many do not."""
    sightings = memory.sightings
    surfel, view = sightings.surfel.cpu().numpy(), sightings.view.cpu().numpy()
    order = np.lexsort((surfel, view))
    surfel, view = surfel[order].astype(np.int64), view[order].astype(np.int64)
    positions = memory.surfels.position.cpu().double().numpy()
    K, size = _pixel_intrinsics(memory.views), np.array(memory.views.image.shape[:1:-1])
    pixel, depth = np.empty((len(view), 2)), np.empty(len(view))
    for i in range(len(memory)):
        rows = slice(*np.searchsorted(view, [i, i + 1]))
        point = poses.in_camera(i, positions[surfel[rows]])
        depth[rows] = point[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):  # such a point is left out
            pixel[rows] = point[:, :2] / point[:, 2:] * K[i, :2] + K[i, 2:]
    inside = (depth > 0) & (pixel >= 0).all(1) & (pixel < size).all(1)
    return Observations(view, surfel, pixel).only(inside), int((~inside).sum())


def _pixel_intrinsics(views: Views) -> Float64[np.ndarray, "t 4"]:
    """fx, fy, cx, cy of each view in pixels."""
    h, w = views.image.shape[2:]
    return views.cameras.K.cpu().double().numpy()[:, [0, 1, 0, 1], [0, 1, 2, 2]] * [w, h, w, h]


def _write_cameras(path: Path, views: Views) -> Int[np.ndarray, " t"]:
    """Write a camera for each lens; returns the camera of each view."""
    h, w = views.image.shape[2:]
    lenses, ids = np.unique(_pixel_intrinsics(views), axis=0, return_inverse=True)
    lines = ["# CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY"]
    for i, lens in enumerate(lenses, 1):
        lines.append(f"{i} PINHOLE {w} {h} {_numbers(lens)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ids.reshape(-1) + 1


def _write_images(
    path: Path, poses: _Poses, lens_ids: Int[np.ndarray, " t"], seen: Observations
) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then X Y POINT3D_ID ...\n")
        for i, lens in enumerate(lens_ids):
            pose = _numbers([*poses.quaternion[i], *poses.translation[i]])
            file.write(f"{i + 1} {pose} {lens} {_name(i)}\n")
            rows = slice(*np.searchsorted(seen.view, [i, i + 1]))
            found = zip(*seen.pixel[rows].T.tolist(), seen.surfel[rows].tolist(), strict=True)
            file.write(" ".join(f"{x:.6f} {y:.6f} {point + 1}" for x, y, point in found) + "\n")


def _write_points(path: Path, memory: Memory, seen: Observations) -> int:
    """Write the points that are observed, with their tracks; returns their number."""
    index = np.arange(len(seen.view)) - np.searchsorted(seen.view, seen.view)  # in its image
    order = np.argsort(seen.surfel, kind="stable")
    tracks = [f"{view + 1} {i}" for view, i in zip(seen.view[order], index[order], strict=True)]
    points, counts = np.unique(seen.surfel, return_counts=True)
    ends = counts.cumsum()
    positions = memory.surfels.position.cpu().numpy()[points].tolist()
    colors = (memory.surfels.color.cpu() * 255).round().byte().numpy()[points].tolist()
    with path.open("w", encoding="utf-8") as file:
        file.write("# POINT3D_ID X Y Z R G B ERROR, then IMAGE_ID POINT2D_IDX ...\n")
        for point, xyz, (r, g, b), start, end in zip(
            points, positions, colors, ends - counts, ends, strict=True
        ):
            track = " ".join(tracks[start:end])
            file.write(f"{point + 1} {_numbers(xyz)} {r} {g} {b} 0 {track}\n")
    return len(points)


def _numbers(values: Iterable[float]) -> str:
    """Numbers with more digits than float32 has."""
    return " ".join(f"{value:.12g}" for value in values)
