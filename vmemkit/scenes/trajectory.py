"""Trajectories: where the camera goes, by words, around a point, through keyframes or from a file.

In: a start camera and what it shall do, or cameras to pass through. Out: `Cameras` (t,).
The presets are those of Stable Virtual Camera (SEVA; Zhou et al. 2025, arXiv 2503.14489): formulas
and numbers come from its released `get_preset_pose_fov`; `preset` says what differs.
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

from vmemkit.core import TRANSLATION_WEIGHT, UP, Cameras, cat, check, look_at, pose_distance
from vmemkit.scenes.camera_files import MAX_CAMERAS, check_path

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

# A preset is a kind of path with its size, in SEVA's numbers: degrees of an orbit, a roll and the
# angle in which the subject sees a lemniscate; radii of a spiral (right, down, ahead); the last field
# of view of a zoom over the first; the axis of a move (right, down, ahead).
PRESETS = {
    "orbit": ("orbit", 360.0),
    "spiral": ("spiral", (0.5, 0.5, 0.2)),  # the function's default; SEVA's web demo: 1, 1, 0.5
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

SUBJECT_DISTANCE = 10.0  # SEVA's demos look at a point 10 ahead

MOVE_SHARE = 0.99 / SUBJECT_DISTANCE  # of the distance: SEVA moves by 0.99

SPIRAL_TURNS, SPIRAL_RATE = 2, 0.5  # it goes ahead and back once while it turns twice

# How far ahead of its centre SEVA's spiral looks: disparity is 1/4 of that at 0.9 times the near
# bound, 1, and 3/4 of that at 5 times the far bound, 5.
SPIRAL_FOCUS = 1 / (0.25 / (0.9 * 1) + 0.75 / (5 * 5))

FOVS = (1.0, 170.0)  # degrees, of the last camera of a zoom; SEVA's sliders allow 5.4 to 162

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


def preset_path(
    start: Cameras,
    name: str,
    n: int,
    distance: float = SUBJECT_DISTANCE,
    zoom_factor: float | None = None,
    up: tuple = UP,
) -> Cameras:
    """Cameras (n,) along one of `PRESETS`, the paths of SEVA; the start is left out, as in `orbit`.

    `distance` is that of the subject, the point ahead of the start, in world units; every length is
    in proportion to it. Orbit, spiral and lemniscate look at the subject; they, and a roll (which is
    clockwise), end at the start. An orbit turns about `up`, spiral and lemniscate keep to the
    camera's own axes. Moves keep the rotation: forward and backward go along the camera's axis, up
    and down along `up`, left and right level with respect to it. Zooms change the field of view, of
    the longer side of an image with square pixels, in equal steps to `zoom_factor` times the start's
    (None: 0.28 in, 1.5 out). A dolly zoom backs off while it zooms in, or goes ahead while it zooms
    out, so that the subject keeps its size in the image: from 54 degrees, 0.28 backs off by 2.8
    times the distance.
    Differs from SEVA, whose paths have the start as their first camera: its orbit and moves go by
    the camera's own up; its spiral looks at a point 3.29 ahead, whatever the distance (that distance
    gives its path); its moves are 0.99 long, whatever the distance, and turn to the subject; its
    dolly zooms move as far, so that the subject changes its size; its roll presumes a start at the
    world's origin.
    Errors: ValueError for a name, distance or number that is none, and for a zoom no lens can do.
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
        # differs from SEVA: in proportion to the distance, and with the rotation kept
        poses[:, :3, 3] += MOVE_SHARE * distance * shares[:, None] * (axes @ size)
    elif kind == "roll":
        turns = Rotation.from_rotvec(shares[:, None] * [0, 0, math.radians(size)]).as_matrix()
        poses[:, :3, :3] = pose[:3, :3] @ turns
    else:
        start_from_cam = _spiral if kind == "spiral" else _lemniscate
        poses = pose @ start_from_cam(distance, size, shares)
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


def _spiral(
    distance: float, radii: tuple, shares: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 4 4"]:
    """start_from_cam along a spiral that begins at the start."""
    angles = 2 * np.pi * SPIRAL_TURNS * np.append(0.0, shares)
    waves = np.stack([np.cos(angles), np.sin(angles), np.sin(SPIRAL_RATE * angles)], axis=-1)
    # differs from SEVA: scaled, so that the point that all look at is the subject
    scale = distance / math.hypot(SPIRAL_FOCUS, radii[0])
    centre_from_cam = _gaze(scale * np.array(radii) * waves, scale * SPIRAL_FOCUS)
    return np.linalg.inv(centre_from_cam[0]) @ centre_from_cam[1:]


def _lemniscate(
    distance: float, degrees: float, shares: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 4 4"]:
    """start_from_cam along Bernoulli's lemniscate across the image, with the start as its centre."""
    angles = np.pi / 2 + 2 * np.pi * shares
    reach = distance * math.tan(math.radians(degrees / 2))
    right = reach * np.cos(angles) / (1 + np.sin(angles) ** 2)
    return _gaze(np.stack([right, right * np.sin(angles), 0 * right], axis=-1), distance)


def _gaze(positions: Float64[np.ndarray, "n 3"], distance: float) -> Float64[np.ndarray, "n 4 4"]:
    """a_from_cam at positions in a's axes that look at the point `distance` ahead of a's origin."""
    target = torch.tensor([0.0, 0.0, distance], dtype=torch.float64)
    return look_at(torch.from_numpy(positions), target.expand(len(positions), 3)).numpy()


def _zoom(
    start: Cameras, name: str, distance: float, factor: float, shares: Float64[np.ndarray, " n"]
) -> Cameras:
    """Cameras (n,) of a zoom or a dolly zoom to `factor` times the field of view."""
    poses = np.tile(_pose_of(start), (len(shares), 1, 1))
    K = np.tile(start.K.cpu().double().numpy(), (len(shares), 1, 1))
    # half the view along the longer side, whose focal length in a 1 x 1 image is the smaller one
    half = math.atan(0.5 / min(K[0, 0, 0], K[0, 1, 1]))
    least, most = (math.radians(fov / 2) / half for fov in FOVS)
    least, most = (least, 1.0) if name.endswith("in") else (1.0, most)
    if not least <= factor <= most:
        raise ValueError(
            f"{name!r} from {math.degrees(2 * half):.1f} degrees needs a zoom_factor of {least:.3g} to "
            f"{most:.3g}, for a last view of {FOVS[0]:g} to {FOVS[1]:g} degrees, got {factor}"
        )
    focal = math.tan(half) / np.tan(half * (1 + (factor - 1) * shares))  # over the start's
    K[:, 0, 0] *= focal
    K[:, 1, 1] *= focal
    if name.startswith("dolly"):
        # differs from SEVA: the place follows from the lens: `focal` times as far is as large
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


STEP = 0.1  # world units of a key

TURN = 4.0  # degrees of a key

FRAMES = 4  # views generated per key

KEYS = {"w": "forward", "s": "backward", "a": "left", "d": "right"}


def navigate(start: Cameras, keys: str, step: float = STEP, turn: float = TURN) -> Cameras:
    """Cameras (FRAMES * len(keys),) of a single start camera and keys such as "wwaad".

    Errors: ValueError for other keys, or none.
    """
    if not keys or set(keys) - set(KEYS):
        raise ValueError(f"need keys of {', '.join(KEYS)}, got {keys!r}")
    if not (math.isfinite(step) and math.isfinite(turn)):
        raise ValueError(f"a step and a turn are finite, got {step} and {turn}")
    if check(start).world_from_cam.ndim != 2:
        raise ValueError("start must be a single camera: take one, cameras[-1]")
    pose, path = start.world_from_cam.cpu().double().numpy(), []
    for key in keys:
        end = moved(pose, KEYS[key], turn if key in "ad" else step)
        path.append(between(pose, end, FRAMES))
        pose = end
    poses = torch.from_numpy(np.concatenate(path)).float().to(start.device)
    return Cameras(poses, start.K.expand(len(poses), 3, 3))


def moved(pose: Float64[np.ndarray, "4 4"], verb: str, amount: float) -> Float64[np.ndarray, "4 4"]:
    """The pose after one verb of KEYS, by world units or degrees."""
    pose = pose.copy()
    if verb in ("forward", "backward"):
        pose[:3, 3] += (1 if verb == "forward" else -1) * amount * pose[:3, 2]
    else:
        angle = np.deg2rad(amount if verb == "left" else -amount)
        pose[:3, :3] = Rotation.from_rotvec(angle * np.array(UP)).as_matrix() @ pose[:3, :3]
    return pose


def between(
    a: Float64[np.ndarray, "4 4"], b: Float64[np.ndarray, "4 4"], n: int
) -> Float64[np.ndarray, "n 4 4"]:
    """n poses from a (left out) to b (included): positions linear, rotations at a constant rate."""
    share = np.arange(1, n + 1) / n
    poses = np.tile(b, (n, 1, 1))
    poses[:, :3, :3] = Slerp([0, 1], Rotation.from_matrix([a[:3, :3], b[:3, :3]]))(
        share
    ).as_matrix()
    poses[:, :3, 3] = a[:3, 3] + share[:, None] * (b[:3, 3] - a[:3, 3])
    return poses
