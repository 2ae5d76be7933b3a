"""Cameras, and every convention of the package.

- Camera axes are OpenCV's: x right, y down, z forward. `a_from_b` maps coordinates of b to a.
- World: right-handed, unit metre where the scene knows it. The identity pose is an upright camera,
  so the world's y points down and `UP` is -y.
- `K` is the intrinsic matrix of an image of size 1 x 1: u = K[0,0] x/z + K[0,2] lies in [0, 1] across
  the width, v likewise down the height. One K serves every resolution of the same image.
- Pixel (row i, column j) of an h x w image has its centre at u = (j + 0.5)/w, v = (i + 0.5)/h.
- Depth is planar: the z coordinate in the camera, not the length of the ray.
- Positions, depths and radii are at most MAX_DISTANCE: the squares and products of larger ones may
  overflow float32.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core.conversions import as_tensor
from vmemkit.core.structs import TensorStruct, convert_fields

UP = (0.0, -1.0, 0.0)
MAX_DISTANCE = 1e11  # world units
SKY_FROM = 1e10  # world units: renderers write such depths where a ray meets nothing
FOCAL_LENGTHS = (1e-6, 1e6)  # least and greatest entry of K, in image widths or heights
TRANSLATION_WEIGHT = 0.1  # radians per world unit in `pose_distance` (VMem, released configuration)


@dataclass(frozen=True, repr=False)
class Cameras(TensorStruct):
    """Pinhole cameras: poses and intrinsics, in the conventions above."""

    world_from_cam: Float[Tensor, "*b 4 4"]
    K: Float[Tensor, "*b 3 3"]

    def __post_init__(self) -> None:
        """Arrays and lists become tensors. Errors: ValueError for anything else."""
        convert_fields(self, ("world_from_cam", "K"), "cameras'")

    @property
    def position(self) -> Float[Tensor, "*b 3"]:
        return self.world_from_cam[..., :3, 3]

    @property
    def rotation(self) -> Float[Tensor, "*b 3 3"]:
        return self.world_from_cam[..., :3, :3]

    @property
    def forward(self) -> Float[Tensor, "*b 3"]:
        """Unit viewing direction, world."""
        return self.world_from_cam[..., :3, 2]

    @property
    def cam_from_world(self) -> Float[Tensor, "*b 4 4"]:
        return invert(self.world_from_cam)


def cameras(
    world_from_cam: Float[Tensor, "*b 4 4"], K: Float[Tensor, "*#b 3 3"] | None = None
) -> Cameras:
    """Checked cameras as float32; K is broadcast to the poses, default a square image of 70 degrees.

    Poses and K may be tensors, arrays or lists. Errors: ValueError for poses that are not rigid or
    intrinsics that are not a pinhole's.
    """
    poses = as_tensor(world_from_cam, "camera poses").float()
    if K is None:
        K = intrinsics(70.0, device=poses.device)
    K = as_tensor(K, "K").to(poses.device).float()
    with suppress(RuntimeError):  # shapes that do not fit are reported by `check_cameras`
        K = K.expand(*poses.shape[:-2], 3, 3)
    return check_cameras(Cameras(poses, K))


def check_cameras(cameras: Cameras) -> Cameras:
    """The same cameras, if they are finite, rigid and pinhole, at most MAX_DISTANCE from the origin
    and with focal lengths in FOCAL_LENGTHS. Errors: ValueError otherwise."""
    poses, K = cameras.world_from_cam, cameras.K
    if poses.shape[-2:] != (4, 4) or K.shape[-2:] != (3, 3) or poses.shape[:-2] != K.shape[:-2]:
        raise ValueError(
            f"cameras need poses [*b 4 4] and K [*b 3 3], got {list(poses.shape)} and {list(K.shape)}"
        )
    # numpy takes a third of torch's time for these dozens of small operations. All numbers come in
    # one copy, because a GPU waits for each.
    numbers = torch.cat([poses.flatten(-2), K.flatten(-2)], -1)
    numbers = numbers.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("camera poses and intrinsics must be finite, got NaN or infinity")
    poses = numbers[..., :16].reshape(*numbers.shape[:-1], 4, 4)
    K = numbers[..., 16:].reshape(*numbers.shape[:-1], 3, 3)
    R = poses[..., :3, :3]
    error = np.abs(R.swapaxes(-1, -2) @ R - np.eye(3)).max(initial=0)
    rigid = error < 1e-3 and (np.linalg.det(R) > 0).all()
    if not rigid or np.abs(poses[..., 3, :] - [0, 0, 0, 1]).max(initial=0) > 1e-5:
        raise ValueError(
            "camera poses must be rigid (rotation and translation, last row 0 0 0 1), got "
            f"|R^T R - 1| = {error:.3g}: remove scale, shear and mirroring first"
        )
    distance = np.linalg.norm(poses[..., :3, 3], axis=-1).max(initial=0)
    if distance > MAX_DISTANCE:
        raise ValueError(
            f"cameras must be at most {MAX_DISTANCE:g} units from the origin, got {distance:.3g}: move "
            "the origin or take a larger unit"
        )
    focal, (shortest, longest) = K[..., [0, 1], [0, 1]], FOCAL_LENGTHS
    if not (focal > 0).all():
        raise ValueError("focal lengths must be positive; K is for a 1 x 1 image")
    if (focal < shortest).any() or (np.abs(K[..., :2, :]) > longest).any():
        raise ValueError(
            f"focal lengths must be {shortest:g} to {longest:g} and principal points at most "
            f"{longest:g}, in image widths and heights, got K = {K[..., :2, :].tolist()!r:.80}"
        )
    others = K[..., [0, 1, 2, 2, 2], [1, 0, 0, 1, 2]]
    if np.abs(others - [0, 0, 0, 0, 1]).max(initial=0) > 1e-5:
        raise ValueError("K must be [[fx 0 cx] [0 fy cy] [0 0 1]]: a pinhole without skew")
    return cameras


def camera_list(cameras: Cameras, name: str, least: int = 1) -> Cameras:
    """The cameras (m,) as float32, without gradients.

    Errors: ValueError unless they are `Cameras` with one axis, at least `least` of them. `name` says
    what they are for. `check_cameras` looks at their numbers.
    """
    if not isinstance(cameras, Cameras):
        kind = type(cameras).__name__
        raise ValueError(f"{name} must be Cameras, such as vmemkit.cameras makes, got a {kind}")
    poses, K = list(cameras.world_from_cam.shape), list(cameras.K.shape)
    if len(poses) != 3 or poses[0] < least or K[:1] != poses[:1]:
        raise ValueError(f"{name} must be one or more cameras [m 4 4], got poses {poses} and K {K}")
    return cameras.map(lambda x: x.detach().to(torch.float32))


def intrinsics(
    fov_x: float, aspect: float = 1.0, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 3"]:
    """K of a centred pinhole: horizontal field of view in degrees, aspect = width / height."""
    if not 0 < fov_x < 180 or not aspect > 0:
        raise ValueError(
            f"need a field of view in (0, 180) degrees and a positive aspect, got {fov_x}, {aspect}"
        )
    focal = 0.5 / torch.tan(torch.deg2rad(torch.tensor(fov_x / 2, dtype=torch.float64)))
    K = torch.tensor([[focal, 0, 0.5], [0, focal * aspect, 0.5], [0, 0, 1]])
    return K.float().to(device)


def horizontal_fov(along: float, aspect: float) -> float:
    """The horizontal field of view, degrees, of one `along` the longer side; aspect = width / height.

    It is the same lens, whether a camera is held level or upright.
    """
    if aspect >= 1:
        return along
    return 2 * math.degrees(math.atan(aspect * math.tan(math.radians(along / 2))))


def intrinsics_from_pixels(
    fx: float, fy: float, cx: float, cy: float, width: int, height: int
) -> Float[Tensor, "3 3"]:
    """K from focal lengths and principal point in pixels (continuous: the corner is 0, 0)."""
    return torch.tensor(
        [[fx / width, 0, cx / width], [0, fy / height, cy / height], [0, 0, 1]]
    ).float()


def look_at(
    position: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"], up: tuple = UP
) -> Float[Tensor, "*b 4 4"]:
    """Poses (world_from_cam) at `position` that look at `target`, upright with respect to `up`."""
    z = torch.nn.functional.normalize(target - position, dim=-1)
    x = torch.linalg.cross(z, z.new_tensor(up).expand_as(z))
    if z.numel() and (z.norm(dim=-1).amin() < 0.5 or x.norm(dim=-1).amin() < 1e-6):
        raise ValueError(
            "look_at needs a target apart from the position and not straight up or down"
        )
    x = torch.nn.functional.normalize(x, dim=-1)
    return pose(torch.stack([x, torch.linalg.cross(z, x), z], -1), position)


def pose(
    rotation: Float[Tensor, "*b 3 3"], position: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4 4"]:
    """world_from_cam from a rotation and a position."""
    top = torch.cat([rotation, position[..., None]], -1)
    bottom = top.new_zeros(*top.shape[:-2], 1, 4)
    bottom[..., 3] = 1
    return torch.cat([top, bottom], -2)


def invert(a_from_b: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """The inverse b_from_a of a rigid transform."""
    rotation = a_from_b[..., :3, :3].mT
    return pose(rotation, -(rotation @ a_from_b[..., :3, 3:])[..., 0])


def pixel_centres(
    height: int, width: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "h w 2"]:
    """(u, v) in [0, 1] of every pixel centre."""
    v = (torch.arange(height, device=device) + 0.5) / height
    u = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)


def canvas_width(cameras: Cameras, rows: int) -> int:
    """Columns of a canvas with `rows` rows of square pixels, for the first of the cameras (m,)."""
    aspect = float(cameras.K[0, 1, 1] / cameras.K[0, 0, 0])  # width / height
    return max(1, round(rows * aspect))


def rays(cameras: Cameras, uv: Float[Tensor, "*#b h w 2"]) -> Float[Tensor, "*b h w 3"]:
    """World directions through image points, scaled so that position + depth * ray is the point."""
    return _ray_columns(cameras, uv).mT.contiguous().unflatten(-2, uv.shape[-3:-1])


def _ray_columns(cameras: Cameras, uv: Float[Tensor, "*#b h w 2"]) -> Float[Tensor, "*b 3 n"]:
    """As `rays`. Pixels are columns: products with few rows are several times as fast as with few
    columns."""
    u, v = uv.flatten(-3, -2).unbind(-1)
    # `inv` would wait for a GPU to say that K is not singular; `check_cameras` has seen to that.
    world_from_image = cameras.rotation @ torch.linalg.inv_ex(cameras.K).inverse
    return world_from_image @ torch.stack([u, v, torch.ones_like(u)], -2)


def unproject(cameras: Cameras, depth: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w 3"]:
    """World points of a depth map at its pixel centres."""
    height, width = depth.shape[-2:]
    uv = pixel_centres(height, width, depth.device)
    uv = uv.expand(*depth.shape[:-2], *uv.shape)
    offset = depth.flatten(-2)[..., None, :] * _ray_columns(cameras, uv)
    points = cameras.position[..., None] + offset
    return points.mT.contiguous().unflatten(-2, (height, width))


def project(
    cameras: Cameras, points: Float[Tensor, "*#b n 3"]
) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
    """Image coordinates (u, v) and depth of world points. Behind the camera, uv is meaningless."""
    # Points are columns, as in `rays`.
    offset = points.mT.contiguous() - cameras.position[..., None]
    in_cam = cameras.rotation.mT @ offset
    image = cameras.K @ in_cam
    depth = in_cam[..., 2, :]
    safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
    return (image[..., :2, :] / safe[..., None, :]).mT, depth


def in_camera_axes(
    vectors: Float[Tensor, "*b 3"], rotation: Float[Tensor, "3 3 *c"]
) -> list[Float[Tensor, ...]]:
    """World vectors in camera axes, one column each. Kernels repeat this order of operations."""
    x, y, z = vectors.unbind(-1)
    return [x * rotation[0, k] + y * rotation[1, k] + z * rotation[2, k] for k in range(3)]


def pose_distance(
    a: Float[Tensor, "*#b 4 4"],
    b: Float[Tensor, "*#b 4 4"],
    translation_weight: float = TRANSLATION_WEIGHT,
) -> Float[Tensor, "*b"]:
    """Rotation angle in radians + `translation_weight` * distance (VMem's pose distance)."""
    chord = (a[..., :3, :3] - b[..., :3, :3]).flatten(-2).norm(dim=-1)
    angle = 2 * torch.asin((chord / 8**0.5).clamp(max=1))  # exact, and stable near zero
    return angle + translation_weight * (a[..., :3, 3] - b[..., :3, 3]).norm(dim=-1)


def mean_pose(poses: Float[Tensor, "n 4 4"]) -> Float[Tensor, "4 4"]:
    """Mean position and chordal mean rotation. Errors: ValueError for no poses."""
    if len(poses) == 0:
        raise ValueError("mean_pose needs at least one pose, got none")
    U, _, Vh = torch.linalg.svd(poses[:, :3, :3].mean(0))
    # The last axis is flipped where U Vh is a mirroring.
    U = torch.cat([U[:, :2], U[:, 2:] * torch.sign(torch.linalg.det(U @ Vh))], 1)
    return pose(U @ Vh, poses[:, :3, 3].mean(0))


def in_image(uv: Float[Tensor, "t n 2"], depth: Float[Tensor, "t n"]) -> Bool[Tensor, "t n"]:
    """Which projected points lie in front of the camera and inside its image."""
    u, v = uv.unbind(-1)
    return (depth > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
