"""Camera paths: files of other programs that hold poses, in OpenCV's camera axes.

In: cameras (t,). Out: a file. Poses stay in the world and the unit of the cameras.
Sources: the loader of NVIDIA's Lyra 2.0 (github.com/nv-tlabs/lyra, lyra2_custom_traj_inference.py),
the TUM RGB-D benchmark (cvg.cit.tum.de, file formats), google.github.io/realestate10k.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vmemkit.core import Cameras, camera_list, check_cameras
from vmemkit.exports.places import check_suffix, in_words, writing_file
from vmemkit.scenes import write_realestate10k

FPS = 30.0  # cameras a second of a path without times


def lyra(cameras: Cameras, path: str | os.PathLike, size: tuple[int, int]) -> None:
    """Write cameras (t,) as an .npz that Lyra 2.0 takes as `--trajectory_path`.

    Arrays: `w2c` [t 4 4], world to camera, and `intrinsics` [t 3 3] in pixels, both float32;
    `image_height` and `image_width`, the `size` (height, width) that the intrinsics are for.
    Lyra's image is that of the first camera, and the first `--num_frames` poses count.
    Errors: ValueError for no cameras, an empty size, another suffix and a missing folder; OSError for a
    full disk.
    """
    cameras, (height, width) = _path(cameras), size
    if height < 1 or width < 1:
        raise ValueError(f"size is (height, width) in pixels, at least 1, got {size}")
    K = cameras.K.cpu().double().numpy() * [[width], [height], [1]]
    w2c = np.linalg.inv(cameras.world_from_cam.cpu().double().numpy())
    with writing_file(path, ".npz") as draft:
        np.savez(
            draft,
            w2c=w2c.astype(np.float32),
            intrinsics=K.astype(np.float32),
            image_height=np.int64(height),
            image_width=np.int64(width),
        )


def tum(
    cameras: Cameras, path: str | os.PathLike, timestamps: Sequence[float] | None = None
) -> None:
    """Write cameras (t,) as a trajectory of the TUM benchmarks: `timestamp tx ty tz qx qy qz qw`.

    Position and rotation are world_from_cam. Times are seconds, by default 30 cameras a second. The
    format has no lens. Errors: ValueError for no cameras, times that are not finite, do not rise or are
    not as many, another suffix than .txt and a missing folder; OSError for a full disk.
    """
    cameras = _path(cameras)
    times = [i / FPS for i in range(len(cameras))] if timestamps is None else list(timestamps)
    rises = all(a < b for a, b in itertools.pairwise(times))
    if len(times) != len(cameras) or not rises or not all(map(math.isfinite, times)):
        raise ValueError(
            f"need {len(cameras)} finite timestamps in seconds that rise, got {len(times)}: "
            f"{str(times)[:60]}"
        )
    poses = cameras.world_from_cam.cpu().double().numpy()
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True)
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for time, numbers in zip(times, np.hstack([poses[:, :3, 3], quaternions]), strict=True):
        lines.append(f"{time:.6f} " + " ".join(f"{number:.9f}" for number in numbers))
    with writing_file(path, ".txt") as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def realestate10k(cameras: Cameras, path: str | os.PathLike) -> None:
    """Write cameras (t,) as a text file of RealEstate10K, as `scenes.write_realestate10k`.

    Errors: as there, and ValueError for another suffix than .txt; OSError for a full disk.
    """
    check_suffix(path, ".txt")
    with in_words(path):
        write_realestate10k(Path(path), cameras)


def _path(cameras: Cameras) -> Cameras:
    """Cameras (t,) that were checked. Errors: ValueError for none, and for a single one without an axis."""
    return check_cameras(camera_list(cameras, "a camera path"))
