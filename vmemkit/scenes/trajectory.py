"""Trajectories: camera paths from words, around a point, through keyframes, or by pressing keys.

In: a start camera and a description of the path, or cameras to pass through. Out: `Cameras` (n,).
Paths turn about gravity, `up`. A world from elsewhere may have another one than `core.UP`:
nerfstudio's worlds have `up=(0, 0, 1)`. Everything is computed in float64, each move from its own
start, and returned as float32, so that a circle of a hundred steps closes.
Sources: the presets are those of Stable Virtual Camera (SEVA; Zhou et al. 2025, arXiv 2503.14489),
with formulas and numbers of its released `get_preset_pose_fov`; `preset_path` lists the differences.
The keys are those of VMem's released demo.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.interpolate import make_interp_spline
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from vmemkit.core import (
    TRANSLATION_WEIGHT,
    UP,
    Cameras,
    cameras,
    cat,
    check_cameras,
    look_at,
    pose_distance,
)
from vmemkit.scenes.readers.checks import MAX_CAMERAS, check_path

# The verbs of `moves`: what a verb does, and along or about which axis. "move" and "turn" use axes of
# the level frame (x right, y down along gravity, z ahead), "look" uses the camera's own axes.
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

# The presets: a kind of path and its size, in SEVA's numbers. The size is in degrees for an orbit, a
# roll and a lemniscate (the angle that it spans as the subject sees it). A spiral has three radii
# (right, down, ahead), a zoom the ratio of last to first field of view, a move its axis.
PRESETS: dict[str, tuple[str, Any]] = {
    "orbit": ("orbit", 360.0),
    "spiral": ("spiral", (0.5, 0.5, 0.2)),  # SEVA's default; its web demo has 1, 1, 0.5
    "lemniscate": ("lemniscate", 60.0),
    "zoom in": ("zoom", 0.28),
    "zoom out": ("zoom", 1.5),
    "dolly zoom in": ("dolly zoom", 0.28),
    "dolly zoom out": ("dolly zoom", 1.5),
    "move forward": ("move", (0, 0, 1)),
    "move backward": ("move", (0, 0, -1)),
    "move up": ("move", (0, -1, 0)),
    "move down": ("move", (0, 1, 0)),
    "move left": ("move", (-1, 0, 0)),
    "move right": ("move", (1, 0, 0)),
    "roll": ("roll", 360.0),
}

SUBJECT_DISTANCE = 10.0  # world units: SEVA's demos look at a point 10 ahead
MOVE_SHARE = 0.99 / SUBJECT_DISTANCE  # length of a preset move over the distance (SEVA)
SPIRAL_TURNS = 2  # turns of a spiral
SPIRAL_RATE = 0.5  # cycles ahead and back per turn of a spiral

# World units from the spiral's centre to the point that SEVA looks at. Its inverse is a mean of
# inverse depths: weight 1/4 at 0.9 times the near bound 1, weight 3/4 at 5 times the far bound 5.
SPIRAL_FOCUS = 1 / (0.25 / (0.9 * 1) + 0.75 / (5 * 5))
FOVS = (1.0, 170.0)  # degrees: limits of a zoom's last field of view; SEVA's sliders: 5.4 to 162
MAX_METRES = 1000.0  # longest single move: more than any walk, less than most typing errors
MAX_DEGREES = 3600.0  # largest single turn: ten times round
MIN_STEP = 1e-3  # metres or degrees: smaller steps show in no image
ELEVATION_SLACK = 1e-3  # degrees: by how much float32 may exceed straight up or down
KEYS = "wsad"  # of `navigate`: forward, backward, left, right
KEY_STEP, KEY_TURN = 0.1, 4.0  # world units and degrees per key (VMem, released demo)
FRAMES_PER_KEY = 4  # cameras per key (VMem, released demo)


def upright_cameras(
    position: Float[Tensor, "#n 3"],
    heading: Float[Tensor, " n"],
    K: Float[Tensor, "3 3"],
    slope: Float[Tensor, " n"] | None = None,
) -> Cameras:
    """Cameras (n,) without roll at one position or n of them; y is the world's vertical.

    `heading` is in degrees from +z to the right, towards +x. `slope` is in degrees, positive looks
    down; without it the cameras are level.
    """
    yaw = torch.deg2rad(heading)
    pitch = torch.deg2rad(torch.zeros_like(heading) if slope is None else slope)
    ahead = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
    position = position.expand(len(heading), 3)
    return cameras(look_at(position, position + ahead.to(position.dtype)), K)


def moves(
    start: Cameras, text: str, step: float = 0.25, turn: float = 15.0, up: tuple = UP
) -> Cameras:
    """Cameras (n,) along moves such as "forward 1, right 90, look up 20", without the start.

    Moves are separated by commas or lines. Each is a verb of `VERBS` with metres or degrees, and is
    cut into equal steps of at most `step` metres or `turn` degrees. Forward and strafe stay level
    with respect to `up`: a camera that looks down does not walk into the floor.
    Errors: ValueError for unknown moves, a look beyond straight up or down, and more than 100,000
    cameras.
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

    Positive degrees go to the right. The start is left out; 360 degrees end at the start's pose.
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


def preset_path(
    start: Cameras,
    name: str,
    n: int,
    distance: float = SUBJECT_DISTANCE,
    zoom_factor: float | None = None,
    up: tuple = UP,
) -> Cameras:
    """Cameras (n,) along one of `PRESETS`, the paths of SEVA, without the start.

    `distance` (world units) is that of the subject, the point ahead of the start; all lengths are
    proportional to it. `zoom_factor` is the last field of view over the first (None: SEVA's).

    - orbit, spiral and lemniscate look at the subject and end at the start. An orbit turns about
      `up`; the others use the camera's own axes.
    - roll turns clockwise and ends at the start.
    - moves keep the rotation: forward and backward follow the camera's axis, up and down follow
      `up`, left and right are level.
    - zooms change the field of view of the longer image side in equal steps.
    - dolly zooms also move, so that the subject keeps its size in the image.

    Differs from SEVA: its path includes the start, its orbit and moves use the camera's own up, and
    its spiral, moves and dolly zooms have fixed lengths whatever the distance. Its moves turn to the
    subject, and its roll assumes a start at the world's origin.
    Errors: ValueError for an unknown name, a bad distance or number, and an impossible zoom.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name[:60]!r}: there are {', '.join(PRESETS)}")
    if not (0 < distance <= MAX_METRES and 1 <= n <= MAX_CAMERAS):
        raise ValueError(
            f"preset needs 0 < distance <= {MAX_METRES:g} and 1 to {MAX_CAMERAS} cameras, got "
            f"{distance} and {n}"
        )
    kind, size = PRESETS[name]
    gravity, shares = _unit(up), np.arange(1, n + 1) / n
    if kind in ("zoom", "dolly zoom"):
        return _zoom(start, name, distance, size if zoom_factor is None else zoom_factor, shares)
    if zoom_factor is not None:
        raise ValueError(f"only zooms take a zoom_factor, got {zoom_factor} for {name!r}: omit it")
    if kind == "orbit":
        return orbit(start, distance, size, n, up)
    pose = _pose_of(start)
    poses = np.tile(pose, (n, 1, 1))
    if kind == "move":
        axes = np.column_stack([_level(pose, gravity)[:, :2], pose[:3, 2]])  # right, down, ahead
        # differs from SEVA: lengths follow the distance, and the rotation stays
        poses[:, :3, 3] += MOVE_SHARE * distance * shares[:, None] * (axes @ size)
    elif kind == "roll":
        turns = Rotation.from_rotvec(shares[:, None] * [0, 0, math.radians(size)]).as_matrix()
        poses[:, :3, :3] = pose[:3, :3] @ turns
    else:
        start_from_cam = _spiral if kind == "spiral" else _lemniscate
        poses = pose @ start_from_cam(distance, size, shares)
    return _cameras_like(start, poses)


def there_and_back(cameras: Cameras) -> Cameras:
    """The path (t,) followed by its reverse, with one turning point: (2 t - 1,)."""
    check_path(cameras, 1)
    return cat([cameras, cameras[torch.arange(len(cameras) - 2, -1, -1, device=cameras.device)]])


def keyframes(cameras: Cameras, n: int, translation_weight: float = TRANSLATION_WEIGHT) -> Cameras:
    """Cameras (n,) through the given ones (t,), at equal intervals of `pose_distance`.

    Between two keyframes positions and K are linear and rotations turn at a constant rate (slerp).
    The first and the last camera are exact; the path passes the others, but may have no camera
    there. Keyframes that all share one pose count as equally far apart.
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
    distinct = np.diff(keys, append=np.inf) > 0  # of several keyframes at one place, the last
    keys, poses, K = keys[distinct], poses.numpy()[distinct], cameras.K.cpu().double().numpy()
    at = np.linspace(0, keys[-1], n)
    between = _cameras_like(
        cameras[0],
        interpolate_poses(poses, keys, at),
        make_interp_spline(keys, K[distinct], k=1)(at),
    )
    return cat([cameras[:1], between[1:-1], cameras[-1:]])


def navigate(start: Cameras, keys: str, step: float = KEY_STEP, turn: float = KEY_TURN) -> Cameras:
    """Cameras (4 * len(keys),) that follow pressed keys such as "wwaad", as VMem's released demo.

    w and s move along the camera's own axis by `step` world units; a and d turn about the world's
    vertical by `turn` degrees. Errors: ValueError for other keys, none, or a step that is not finite.
    """
    if not keys or set(keys) - set(KEYS):
        raise ValueError(f"need keys of {', '.join(KEYS)}, got {keys!r}")
    if not (math.isfinite(step) and math.isfinite(turn)):
        raise ValueError(f"a step and a turn are finite, got {step} and {turn}")
    return _cameras_like(start, key_poses(_pose_of(start), keys, step, turn))


def key_poses(
    pose: Float64[np.ndarray, "4 4"], keys: str, step: float, turn: float
) -> Float64[np.ndarray, "n 4 4"]:
    """world_from_cam of `navigate`, from a start pose."""
    path, shares = [], np.arange(1, FRAMES_PER_KEY + 1) / FRAMES_PER_KEY
    for key in keys:
        end = pose.copy()
        if key in "ws":
            end[:3, 3] += (step if key == "w" else -step) * pose[:3, 2]
        else:
            angle = np.deg2rad(turn if key == "a" else -turn)
            end[:3, :3] = Rotation.from_rotvec(angle * np.array(UP)).as_matrix() @ pose[:3, :3]
        path.append(interpolate_poses(np.stack([pose, end]), np.array([0.0, 1.0]), shares))
        pose = end
    return np.concatenate(path)


def interpolate_poses(
    poses: Float64[np.ndarray, "k 4 4"],
    keys: Float64[np.ndarray, " k"],
    at: Float64[np.ndarray, " n"],
) -> Float64[np.ndarray, "n 4 4"]:
    """Positions linear, rotations at a constant rate (slerp)."""
    between = make_interp_spline(keys, poses, k=1)(at)
    between[:, :3, :3] = Slerp(keys, Rotation.from_matrix(poses[:, :3, :3]))(at).as_matrix()
    return between


def _spiral(
    distance: float, radii: tuple, shares: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 4 4"]:
    """start_from_cam along a spiral that begins at the start."""
    angles = 2 * np.pi * SPIRAL_TURNS * np.append(0.0, shares)
    waves = np.stack([np.cos(angles), np.sin(angles), np.sin(SPIRAL_RATE * angles)], axis=-1)
    # differs from SEVA: scaled so that the point that all cameras look at is the subject
    scale = distance / math.hypot(SPIRAL_FOCUS, radii[0])
    centre_from_cam = _gaze(scale * np.array(radii) * waves, scale * SPIRAL_FOCUS)
    return np.linalg.inv(centre_from_cam[0]) @ centre_from_cam[1:]


def _lemniscate(
    distance: float, degrees: float, shares: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 4 4"]:
    """start_from_cam along Bernoulli's lemniscate across the image, centred on the start."""
    angles = np.pi / 2 + 2 * np.pi * shares
    reach = distance * math.tan(math.radians(degrees / 2))
    right = reach * np.cos(angles) / (1 + np.sin(angles) ** 2)
    return _gaze(np.stack([right, right * np.sin(angles), 0 * right], axis=-1), distance)


def _gaze(positions: Float64[np.ndarray, "n 3"], distance: float) -> Float64[np.ndarray, "n 4 4"]:
    """a_from_cam of cameras at positions in frame a that look at its point (0, 0, distance)."""
    target = torch.tensor([0.0, 0.0, distance], dtype=torch.float64)
    return look_at(torch.from_numpy(positions), target.expand(len(positions), 3)).numpy()


def _zoom(
    start: Cameras, name: str, distance: float, factor: float, shares: Float64[np.ndarray, " n"]
) -> Cameras:
    """Cameras (n,) of a zoom or a dolly zoom to `factor` times the field of view."""
    poses = np.tile(_pose_of(start), (len(shares), 1, 1))
    K = np.tile(start.K.cpu().double().numpy(), (len(shares), 1, 1))
    # Half the field of view along the longer side, whose focal length in K is the smaller one.
    half = math.atan(0.5 / min(K[0, 0, 0], K[0, 1, 1]))
    least, most = (math.radians(fov / 2) / half for fov in FOVS)
    least, most = (least, 1.0) if name.endswith("in") else (1.0, most)
    if not least <= factor <= most:
        raise ValueError(
            f"{name!r} from {math.degrees(2 * half):.1f} degrees needs a zoom_factor of {least:.3g} to "
            f"{most:.3g}, for a last view of {FOVS[0]:g} to {FOVS[1]:g} degrees, got {factor}"
        )
    focal = math.tan(half) / np.tan(half * (1 + (factor - 1) * shares))  # ratio to the start's
    K[:, 0, 0] *= focal
    K[:, 1, 1] *= focal
    if name.startswith("dolly"):
        # differs from SEVA: the subject keeps its size at `focal` times its distance
        poses[:, :3, 3] += distance * (1 - focal)[:, None] * poses[:, :3, 2]
    return _cameras_like(start, poses, K)


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
        # Elevation in the camera's own vertical plane, so that it keeps growing past vertical.
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
    if np.linalg.norm(ahead) < 1e-3:  # straight up or down: the image's x axis defines ahead
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
    if check_cameras(start).world_from_cam.ndim != 2:
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
