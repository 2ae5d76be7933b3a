"""What the tests of the core share: a box to stand in whose geometry is exact, and equal tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vmemkit.core import Cameras, Views, cameras, intrinsics, look_at, pixel_centres, rays
from vmemkit.memory import Memory, MemoryConfig, begin


@dataclass(frozen=True)
class Box:
    """The inside of an axis-aligned box around the origin: convex, so nothing hides anything."""

    half: tuple[float, float, float] = (2.0, 1.3, 2.5)

    def look(
        self,
        *yaws: float,
        at: tuple[float, float, float] = (0.0, 0.0, 0.0),
        pitch: float = 0.0,
        fov: float = 70.0,
    ) -> Cameras:
        """Upright cameras at `at`, turned right by each of `yaws` and up by `pitch`, degrees."""
        yaw = torch.deg2rad(torch.tensor(yaws, dtype=torch.float32))
        up = torch.full_like(yaw, math.radians(pitch))
        ahead = torch.stack([yaw.sin() * up.cos(), -up.sin(), yaw.cos() * up.cos()], -1)
        position = torch.tensor(at).expand(len(yaws), 3)
        return cameras(look_at(position, position + ahead), intrinsics(fov, 4 / 3))

    def depth(self, of: Cameras, height: int, width: int) -> Tensor:
        """Exact planar depth [t h w]: the nearest of the walls ahead."""
        ray = rays(of, pixel_centres(height, width).expand(len(of), height, width, 2)).double()
        half, eye = torch.tensor(self.half).double(), of.position.double()[:, None, None]
        return ((torch.copysign(half, ray) - eye) / ray).amin(-1).float()

    def render(self, of: Cameras, height: int = 24, width: int = 32) -> Views:
        """What the cameras see; the colour is a smooth pattern of the surface."""
        depth = self.depth(of, height, width)
        ray = rays(of, pixel_centres(height, width).expand(len(of), height, width, 2))
        points = of.position[:, None, None] + depth[..., None] * ray
        image = (0.5 + 0.5 * torch.sin(3 * points + 1)).permute(0, 3, 1, 2).clamp(0, 1)
        return Views(of, image, torch.ones(len(of), dtype=torch.bool), depth)

    def visible(self, points_world: Tensor, of: Cameras) -> Tensor:
        """Which points [n 3] lie in the image of each camera (t,)."""
        ahead = (points_world - of.position[:, None]) @ of.rotation
        uv = ahead @ of.K.mT
        uv = uv[..., :2] / uv[..., 2:]
        return (ahead[..., 2] > 0) & (uv >= 0).all(-1) & (uv <= 1).all(-1)

    def memory(self, *yaws: float, config: MemoryConfig | None = None) -> Memory:
        """A memory of views from the middle, turned by `yaws`."""
        return begin(self.render(self.look(*yaws)), config)


def tables(memory: Memory) -> dict[str, Tensor]:
    """Every column of a memory by name, copied."""
    columns = {
        f"{table}.{name}": leaf.clone()
        for table in ("views", "surfels", "sightings")
        for name, leaf in getattr(memory, table).leaves().items()
    }
    return columns | {"ends": memory.ends.clone(), "sighting_counts": memory.sighting_counts}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit-equal columns (NaN equals NaN): dtypes, shapes and values."""

    def bits(tensor: Tensor) -> Tensor:
        return tensor.view(torch.int32) if tensor.dtype == torch.float32 else tensor

    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(bits(a[name]), bits(b[name])) for name in a
    )


def turned(eye: Tensor, *degrees: float, fov: float = 70.0) -> Cameras:
    """Level cameras at `eye`, in these directions."""
    yaw = torch.deg2rad(torch.tensor(degrees))
    gaze = torch.stack([yaw.sin(), torch.zeros_like(yaw), yaw.cos()], 1)
    poses = look_at(eye.expand_as(gaze), eye + gaze)
    return Cameras(poses, intrinsics(fov).expand(len(degrees), 3, 3))
