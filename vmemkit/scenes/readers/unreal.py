"""Two data sets that were rendered with Unreal Engine: Context-as-Memory and MIND.

In: a folder. Out: a `Source`. Unreal's axes are left-handed, x ahead, y to the right and z up, for the
world and for cameras; lengths are centimetres, angles degrees. Neither set states its lens, and neither
has depth. Both are converted to a right-handed world, x to the right, y down and z ahead, in metres.
Sources: github.com/CSU-JPG/MIND (README, "Dataset Format"). Of Context-as-Memory, the layout as three
programs read it: Echo-Memory (Joy Future Academy), MemCam (Gao et al., 2026) and an adapter for VMem.
They disagree on the order of its first two angles and on its lens, so these are not guessed.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from vmemkit.core import Cameras, cameras, check_cameras, image_size, intrinsics, names_in
from vmemkit.scenes.readers.checks import (
    MAX_CAMERAS,
    finite,
    inner_file,
    numbers,
    read_json,
    shown,
)
from vmemkit.scenes.readers.pictures import pictures_in
from vmemkit.scenes.readers.source import METRES, STAND_IN_FOV, Source
from vmemkit.scenes.readers.video import video_format

FRAMES, JSONS = "frames", "jsons"  # folders of Context-as-Memory, with one entry for each scene
ACTOR = "CineCameraActor"  # key of the cameras in its files
ACTIONS, FILM = "action.json", "video.mp4"  # of MIND
CENTIMETRES = 100.0  # in a metre
LEVEL = 0.01  # degrees: the largest angle that counts as none
SHOWN = 20  # names of scenes in a message
AXES = "Unreal's axes (left-handed, z up)"
UNITS = "positions were taken for Unreal's centimetres"
# Rows are x, y and z of OpenCV, which are Unreal's y, -z and x; the same for the world and cameras.
OPENCV_FROM_UNREAL = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def unreal_poses(
    position: Float64[np.ndarray, "t 3"], roll_pitch_yaw: Float64[np.ndarray, "t 3"]
) -> Float64[np.ndarray, "t 4 4"]:
    """Camera-to-world poses, metres, of Unreal's positions (centimetres) and angles (degrees).

    A positive yaw turns to the right, a positive pitch looks up, and a positive roll lowers the right
    side. Yaw turns about the world's vertical, then pitch and roll about the camera's own axes.
    """
    (sr, sp, sy), (cr, cp, cy) = (f(np.radians(roll_pitch_yaw.T)) for f in (np.sin, np.cos))
    ahead = np.stack([cp * cy, cp * sy, sp], -1)
    right = np.stack([sr * sp * cy - cr * sy, sr * sp * sy + cr * cy, -sr * cp], -1)
    up = np.stack([-cr * sp * cy - sr * sy, sr * cy - cr * sp * sy, cr * cp], -1)
    poses = np.tile(np.eye(4), (len(position), 1, 1))
    # Columns: the camera's right, down and ahead in Unreal's world, which is then OpenCV's.
    poses[:, :3, :3] = OPENCV_FROM_UNREAL @ np.stack([right, -up, ahead], -1)
    poses[:, :3, 3] = position @ OPENCV_FROM_UNREAL.T / CENTIMETRES
    return poses


def unreal_placement(
    cameras: Cameras,
) -> tuple[Float64[np.ndarray, "t 3"], Float64[np.ndarray, " t"]]:
    """Positions (centimetres) and yaw (degrees) in Unreal's axes of level cameras (t,).

    Errors: ValueError for cameras that are not level, as their angles would be ambiguous.
    """
    poses = check_cameras(cameras).world_from_cam.cpu().double().numpy()
    ahead = poses[:, :3, 2]
    yaw = np.degrees(np.arctan2(ahead[:, 0], ahead[:, 2]))
    position = CENTIMETRES * poses[:, :3, 3] @ OPENCV_FROM_UNREAL
    level = unreal_poses(position, np.stack([0 * yaw, 0 * yaw, yaw], -1))
    tilt = np.abs(level - poses)[:, :3, :3].max()
    if tilt > np.radians(LEVEL):
        raise ValueError(
            f"need level cameras, which are turned about the vertical alone; one is off by {tilt:.2g} "
            "in its rotation"
        )
    return position, yaw


def is_context_as_memory(path: Path) -> bool:
    """Whether a path is the frames of a scene of Context-as-Memory, or the folder of all scenes."""
    return _scene_file(path) is not None or all((path / name).is_dir() for name in (FRAMES, JSONS))


def context_as_memory_source(path: Path, fov: float | None = None) -> Source:
    """The frames of a scene, frames/SCENE, with the cameras of jsons/SCENE.json beside `frames`.

    Overlap labels and captions are not read. `fov`: horizontal, degrees; the set does not state it.
    Errors: ValueError for the folder of all scenes, for cameras that are not level, and naming file
    and key for whatever is missing or malformed.
    """
    file = _scene_file(path)
    if file is None:
        scenes = names_in(path / FRAMES)
        listed = ", ".join(scenes[:SHOWN]) + (", ..." if len(scenes) > SHOWN else "")
        raise ValueError(
            f"{path} holds {len(scenes)} scenes: give the frames of one of them, "
            f"{path / FRAMES / 'SCENE'}. They are {listed or 'none'}"
        )
    entries = read_json(inner_file(file.parent.parent, f"{JSONS}/{file.name}")).get(ACTOR)
    if not isinstance(entries, dict) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f"{file} needs 1 to {MAX_CAMERAS} cameras under {ACTOR!r}")
    photos = {int(p.stem): p for p in pictures_in(path) if _is_index(p.stem)}
    taken = sorted(int(key) for key in entries if _is_index(key) and int(key) in photos)
    if not taken:
        raise ValueError(f"{path} has {len(photos)} numbered images, and {file} a camera of none")
    position, angles = [], []
    for index in taken:
        where = f"{file}, {ACTOR}, {index}"
        entry = entries.get(str(index))
        if not isinstance(entry, dict):
            raise ValueError(f"{where} must be an object, got {shown(entry)}")
        position.append(numbers(entry.get("position"), 3, f"{where}, position"))
        first, second, yaw = numbers(entry.get("rotation"), 3, f"{where}, rotation")
        if max(abs(first), abs(second)) > LEVEL:
            raise ValueError(
                f"{where}: only level cameras can be read, got rotation {[first, second, yaw]}. Public "
                "programs disagree on which of the first two angles is roll and which is pitch"
            )
        angles.append([0.0, 0.0, yaw])
    notes = [UNITS, f"{AXES} were converted; the overlap labels were not read"]
    if len(taken) < len(photos):
        notes.append(f"{len(photos) - len(taken)} of {len(photos)} images have no camera: left out")
    size = image_size(photos[taken[0]])
    return Source(
        what="scene of Context-as-Memory",
        cameras=_cameras(position, angles, size, fov),
        lens_known=fov is not None,
        sizes=(size,) * len(taken),
        images=tuple(photos[index] for index in taken),
        axes=AXES,
        scale=METRES,
        notes=tuple(notes),
    )


def is_mind(path: Path) -> bool:
    """Whether a path is the folder of a video of MIND."""
    return all((path / name).is_file() for name in (ACTIONS, FILM))


def mind_source(path: Path, fov: float | None = None) -> Source:
    """A video of MIND with the poses of action.json.

    Of a third person it has the camera's poses. Of a first person it has only those of the character,
    which are taken for the camera's. `fov`: horizontal, degrees; the set does not state it.
    Errors: ValueError naming file and key for whatever is missing or malformed.
    """
    film, file = inner_file(path, FILM), inner_file(path, ACTIONS)
    data = read_json(file)
    entries = data.get("data")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f"{file} needs a list of 1 to {MAX_CAMERAS} frames under 'data'")
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{file}: each frame under 'data' must be an object")
    who = "camera" if any("camera_pos" in entry for entry in entries) else "actor"
    times = [
        _frame(entry.get("time"), f"{file}, data, {i}, time") for i, entry in enumerate(entries)
    ]
    if any(a >= b for a, b in pairwise(times)):
        raise ValueError(f"{file}: the frames' times must grow from each to the next")
    position, angles = (
        [
            _vector(entry, f"{who}_{kind}", f"{file}, frame {t}")
            for t, entry in zip(times, entries, strict=True)
        ]
        for kind in ("pos", "rpy")
    )
    fps, size = video_format(film)
    notes = [UNITS, f"{AXES} were converted"]
    if who == "actor":
        notes.append(
            "a first person has no poses of its camera: the character's were taken for them"
        )
    if "mark_time" in data:
        mark = _frame(data["mark_time"], f"{file}, mark_time")
        notes.append(
            f"the benchmark shows the frames before {mark} and asks for those from there on"
        )
    return Source(
        what=f"video of MIND, {'third' if who == 'camera' else 'first'} person",
        cameras=_cameras(position, angles, size, fov),
        lens_known=fov is not None,
        sizes=(size,) * len(times),
        video=film,
        frames=tuple(times),
        times=tuple(t / fps for t in times),
        axes=AXES,
        scale=METRES,
        notes=tuple(notes),
    )


def _cameras(
    position: list[list[float]],
    roll_pitch_yaw: list[list[float]],
    size: tuple[int, int],
    fov: float | None,
) -> Cameras:
    poses = unreal_poses(np.array(position), np.array(roll_pitch_yaw))
    lens = intrinsics(STAND_IN_FOV if fov is None else fov, size[1] / size[0])
    return cameras(torch.from_numpy(poses), lens)


def _scene_file(path: Path) -> Path | None:
    """The cameras of the scene whose frames lie at a path; None if it is no such folder."""
    if path.absolute().parent.name != FRAMES or not path.is_dir():
        return None
    file = path.absolute().parent.parent / JSONS / f"{path.name}.json"
    return file if file.is_file() else None


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10


def _frame(value: Any, where: str) -> int:
    """The number of a frame."""
    number = finite(value, where)
    if number < 0 or number != int(number):
        raise ValueError(f"{where} must be the number of a frame, got {shown(value)}")
    return int(number)


def _vector(entry: dict[str, Any], name: str, where: str) -> list[float]:
    """The x, y and z of a frame's position, or of its angles (roll, pitch, yaw)."""
    value = entry.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{where} needs {name} with x, y and z, got {shown(value)}")
    return [finite(value.get(axis), f"{where}, {name}, {axis}") for axis in "xyz"]
