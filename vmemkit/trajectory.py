"""Trajectories: where the camera goes, by words, around a point, through keyframes or from a file.

In: a start camera and what it shall do, or cameras to pass through. Out: `Cameras` (t,).
Paths turn about gravity, `up`. A world that came from elsewhere may have another one than
`camera.UP`: nerfstudio's worlds have `up=(0, 0, 1)`. Everything is computed in float64, each move
from its own start, and returned as float32, so that a circle of a hundred steps closes.
"""

from __future__ import annotations

import math
import re

import numpy as np
import torch
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

from vmemkit.camera import TRANSLATION_WEIGHT, UP, Cameras, check, pose_distance
from vmemkit.camera_files import (
    MAX_CAMERAS,
    Transforms,
    check_path,
    read_realestate10k,
    read_transforms,
    write_realestate10k,
    write_transforms,
)
from vmemkit.structs import cat

__all__ = [  # with the files of trajectories, which have a module of their own for its length
    "VERBS",
    "Transforms",
    "keyframes",
    "moves",
    "orbit",
    "read_realestate10k",
    "read_transforms",
    "there_and_back",
    "write_realestate10k",
    "write_transforms",
]

# A verb moves along an axis of the level frame (x right, y down, z ahead; y is gravity), turns about
# one, or looks about one of the camera's own axes (x right, y down, z forward).
VERBS = {
    "forward": ("move", (0, 0, 1)),
    "back": ("move", (0, 0, -1)),
    "backward": ("move", (0, 0, -1)),
    "strafe left": ("move", (-1, 0, 0)),
    "strafe right": ("move", (1, 0, 0)),
    "up": ("move", (0, -1, 0)),
    "down": ("move", (0, 1, 0)),
    "left": ("turn", (0, -1, 0)),
    "right": ("turn", (0, 1, 0)),
    "look up": ("look", (1, 0, 0)),
    "look down": ("look", (-1, 0, 0)),
}
MAX_METRES = 1000.0  # of one move: beyond any walk, short of a slip of the keyboard
MAX_DEGREES = 3600.0  # of one turn: ten times round
MIN_STEP = 1e-3  # metres or degrees: no image shows less
ELEVATION_SLACK = 1e-3  # degrees over straight up that are float32's


def moves(
    start: Cameras, text: str, step: float = 0.25, turn: float = 15.0, up: tuple = UP
) -> Cameras:
    """Cameras (n,) along moves such as "forward 1, right 90, look up 20"; the start is left out.

    Verbs are those of `VERBS`, with metres or degrees, separated by commas or lines. Each move is
    cut into equal steps of at most `step` metres or `turn` degrees. Forward and strafe stay level
    with respect to `up`, so that walking on while looking down does not end in the floor.
    Errors: ValueError for what is no move, for a look beyond straight up or down, and for a path
    of more than 100,000 cameras.
    """
    if not (MIN_STEP <= step < math.inf and MIN_STEP <= turn < math.inf):
        raise ValueError(f"step and turn must be finite, at least {MIN_STEP}, got {step}, {turn}")
    plan = []
    for verb, amount in _parse_moves(text):
        count = math.ceil(amount / (step if VERBS[verb][0] == "move" else turn) - 1e-9)
        plan.append((verb, amount, max(count, 1)))
    total = sum(count for *_, count in plan)
    if total > MAX_CAMERAS:
        raise ValueError(
            f"moves need at most {MAX_CAMERAS} cameras, got {total}: take larger steps"
        )
    poses = [_pose_of(start)[None]]
    for verb, amount, count in plan:
        amounts = amount * np.arange(1, count + 1) / count
        poses.append(_move(poses[-1][-1], verb, amounts, _unit(up)))
    return _cameras_like(start, np.concatenate(poses[1:]))


def orbit(start: Cameras, distance: float, degrees: float, n: int, up: tuple = UP) -> Cameras:
    """Cameras (n,) in equal steps around the point `distance` ahead of the start, looking at it.

    Positive degrees go to the right. The start is left out; after 360 degrees the last is there.
    """
    if not (0 < distance <= MAX_METRES and abs(degrees) <= MAX_DEGREES and 1 <= n <= MAX_CAMERAS):
        raise ValueError(
            f"orbit needs 0 < distance <= {MAX_METRES:g}, degrees within {MAX_DEGREES:g} and "
            f"1 to {MAX_CAMERAS} cameras, got {distance}, {degrees} and {n}"
        )
    pose = _pose_of(start)
    centre = pose[:3, 3] + distance * pose[:3, 2]
    angles = np.deg2rad(degrees) * np.arange(1, n + 1) / n
    turns = Rotation.from_rotvec(angles[:, None] * _unit(up)).as_matrix()
    poses = np.tile(pose, (n, 1, 1))
    poses[:, :3, :3] = turns @ pose[:3, :3]
    poses[:, :3, 3] = centre + turns @ (pose[:3, 3] - centre)
    return _cameras_like(start, poses)


def there_and_back(cameras: Cameras) -> Cameras:
    """The path (t,) and its reverse, the turning point once: (2 t - 1,)."""
    check_path(cameras, 1)
    return cat([cameras, cameras[torch.arange(len(cameras) - 2, -1, -1, device=cameras.device)]])


def keyframes(cameras: Cameras, n: int, translation_weight: float = TRANSLATION_WEIGHT) -> Cameras:
    """Cameras (n,) through the given ones (t,), at equal intervals of `pose_distance`.

    Between two keyframes positions and K are linear and rotations turn at a constant rate (slerp).
    The first and the last camera are exact; keyframes between them are passed, though not
    necessarily stopped at. If all share one pose, they count as equally far apart.
    Errors: ValueError for fewer than two keyframes, n below 2 and a negative weight.
    """
    check_path(cameras, 2)
    if not (2 <= n <= MAX_CAMERAS and 0 <= translation_weight < math.inf):
        raise ValueError(
            f"keyframes needs 2 to {MAX_CAMERAS} cameras and a finite weight of 0 or more, got {n} "
            f"and {translation_weight}"
        )
    poses = cameras.world_from_cam.cpu().double()
    lengths = pose_distance(poses[:-1], poses[1:], translation_weight).numpy()
    if lengths.sum() == 0:
        lengths = np.ones_like(lengths)
    keys = np.append(0.0, np.cumsum(lengths))
    kept = np.diff(keys, append=np.inf) > 0  # of keyframes at one place, the last
    keys, poses, K = keys[kept], poses.numpy()[kept], cameras.K.cpu().double().numpy()[kept]
    at = np.linspace(0, keys[-1], n)
    segment = np.clip(np.searchsorted(keys, at, side="right") - 1, 0, len(keys) - 2)
    share = ((at - keys[segment]) / (keys[segment + 1] - keys[segment]))[:, None, None]
    between = (1 - share) * poses[segment] + share * poses[segment + 1]
    between[:, :3, :3] = Slerp(keys, Rotation.from_matrix(poses[:, :3, :3]))(at).as_matrix()
    path = _cameras_like(cameras[0], between, (1 - share) * K[segment] + share * K[segment + 1])
    return cat([cameras[:1], path[1:-1], cameras[-1:]])


def _parse_moves(text: str) -> list[tuple[str, float]]:
    """(verb, amount) of every move. Errors: ValueError with the verbs there are."""
    plan = []
    for words in (part.split() for part in re.split(r"[,\n]", text.lower()) if part.strip()):
        verb, amount = " ".join(words[:-1]), words[-1]
        limit = MAX_METRES if VERBS.get(verb, ("move",))[0] == "move" else MAX_DEGREES
        is_number = re.fullmatch(r"\d{1,9}(\.\d*)?|\.\d+", amount, re.ASCII)
        if verb not in VERBS or not is_number or not 0 < float(amount) <= limit:
            raise ValueError(
                f"cannot move by {' '.join(words)[:60]!r}: a move is a verb and its amount, such as "
                f"'forward 1' (metres, up to {MAX_METRES:g}) or 'right 90' (degrees, up to "
                f"{MAX_DEGREES:g}); verbs are {', '.join(VERBS)}"
            )
        plan.append((verb, float(amount)))
    if not plan:
        raise ValueError("moves got no move: give some, such as 'forward 1, right 90'")
    return plan


def _move(
    pose: Float64[np.ndarray, "4 4"],
    verb: str,
    amounts: Float64[np.ndarray, " n"],
    up: Float64[np.ndarray, 3],
) -> Float64[np.ndarray, "n 4 4"]:
    """Poses after each of the amounts (metres or degrees) of one verb, all from the same pose."""
    kind, axis = VERBS[verb]
    world_from_level = _level(pose, up)
    poses = np.tile(pose, (len(amounts), 1, 1))
    if kind == "move":
        poses[:, :3, 3] += amounts[:, None] * (world_from_level @ axis)
        return poses
    if kind == "look":
        # elevation within the camera's own upright plane, so that it counts on past vertical
        elevation = np.rad2deg(np.arctan2(up @ pose[:3, 2], -up @ pose[:3, 1])) * axis[0]
        if elevation + amounts[-1] > 90 + ELEVATION_SLACK:
            raise ValueError(
                f"cannot {verb} {amounts[-1]:g} degrees: straight {verb[5:]} is "
                f"{max(90 - elevation, 0):.1f} degrees away; turn round with 'right 180' instead"
            )
    frame = world_from_level if kind == "turn" else pose[:3, :3]
    turns = Rotation.from_rotvec(np.deg2rad(amounts)[:, None] * (frame @ axis)).as_matrix()
    poses[:, :3, :3] = turns @ pose[:3, :3]
    return poses


def _level(
    pose: Float64[np.ndarray, "4 4"], up: Float64[np.ndarray, 3]
) -> Float64[np.ndarray, "3 3"]:
    """World axes of the level frame: right, down along gravity, ahead."""
    ahead = pose[:3, 2] - (pose[:3, 2] @ up) * up
    if np.linalg.norm(ahead) < 1e-3:  # straight up or down: ahead is where the image's x says
        ahead = np.cross(pose[:3, 0], -up)
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(-up, ahead), -up, ahead], axis=-1)


def _unit(up: tuple) -> Float64[np.ndarray, 3]:
    vector = np.array(up, dtype=np.float64)
    length = np.linalg.norm(vector)
    if vector.shape != (3,) or not 1e-6 < length < math.inf:
        raise ValueError(f"up must be a direction (x, y, z) in the world, got {up}")
    return vector / length


def _pose_of(start: Cameras) -> Float64[np.ndarray, "4 4"]:
    if check(start).world_from_cam.ndim != 2:
        shape = list(start.world_from_cam.shape)
        raise ValueError(f"start must be a single camera, got poses {shape}: take one, cameras[-1]")
    return start.world_from_cam.cpu().double().numpy()


def _cameras_like(
    camera: Cameras,
    poses: Float64[np.ndarray, "n 4 4"],
    K: Float64[np.ndarray, "n 3 3"] | None = None,
) -> Cameras:
    """float32 cameras on the device of `camera`, and with its K unless another is given."""
    K = camera.K.expand(len(poses), 3, 3) if K is None else torch.from_numpy(K)
    return Cameras(torch.from_numpy(poses), K).map(lambda tensor: tensor.float().to(camera.device))
