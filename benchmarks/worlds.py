"""Worlds of boxes that the package's own scenes do not resemble: mazes, halls, and yards under a sky.

They hold retrieval against other geometry than the houses that it was developed on: long corridors,
thin pillars, views without a ceiling. Every world is exact, and is a `Scene` of vmemkit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import (
    Cameras,
    Views,
    in_image,
    intrinsics,
    pixel_centres,
    project,
    rays,
)
from vmemkit.scenes import upright_cameras

KINDS = ("maze", "hall", "yard")
RAYS_AT_ONCE = 1 << 15
EYE = -1.5  # metres: y points down, the floor is y = 0
BODY = 0.3  # metres that a camera keeps from every box
NEAREST = 1e-4  # metres: a ray that starts on a face does not meet it
TOLERANCE = 0.01  # metres in front of a point that do not hide it
STRIDE, TURN = 0.4, 30.0  # metres and degrees between the views of a walk
LEGS = 6  # straight pieces of a walk, before it returns


@dataclass(frozen=True)
class BoxWorld:
    """Axis-aligned boxes in metres. Where no box is met there is sky, whose depth is unknown."""

    low: Float[Tensor, "b 3"]
    high: Float[Tensor, "b 3"]
    color: Float[Tensor, "b 3"]
    ground: tuple[float, float]  # metres along x and z, from 0

    def render(self, cameras: Cameras, height: int, width: int) -> Views:
        """What the cameras (t,) see: flat colours, shaded by the side of the box."""
        grid = pixel_centres(height, width).expand(len(cameras), height, width, 2)
        directions = rays(cameras, grid).reshape(-1, 3)
        origins = cameras.position[:, None].expand(-1, height * width, 3).reshape(-1, 3)
        depth, box, axis = self.cast(origins, directions)
        shade = torch.tensor([0.85, 1.0, 0.7])[axis]
        image = torch.where(depth.isfinite()[:, None], self.color[box] * shade[:, None], 0.9)
        image = image.view(len(cameras), height, width, 3).permute(0, 3, 1, 2).contiguous()
        depth = torch.where(depth.isfinite(), depth, torch.nan).view(-1, height, width)
        return Views(cameras, image, torch.ones(len(cameras), dtype=torch.bool), depth)

    def visible(self, points_world: Float[Tensor, "n 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
        uv, depth = project(cameras, points_world)
        visible = in_image(uv, depth)
        view, point = visible.nonzero().unbind(1)
        sight = points_world[point] - cameras.position[view]
        distance = self.cast(cameras.position[view], sight)[0]
        visible[view, point] = distance >= 1 - TOLERANCE / sight.norm(dim=1)
        return visible

    def cast(
        self, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Per ray: in how many lengths of its direction it meets a box (inf for none), which box,
        and the axis along which it enters."""
        parts = []
        for o, d in zip(origins.split(RAYS_AT_ONCE), directions.split(RAYS_AT_ONCE), strict=True):
            a = (self.low - o[:, None]) / d[:, None]
            b = (self.high - o[:, None]) / d[:, None]
            enter, axis = torch.minimum(a, b).nan_to_num(-torch.inf).max(2)
            leave = torch.maximum(a, b).nan_to_num(torch.inf).amin(2)
            at, box = enter.where((enter <= leave) & (enter > NEAREST), torch.inf).min(1)
            parts.append((at, box, axis.gather(1, box[:, None])[:, 0]))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]

    def free(self, plan: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
        """Whether a camera at eye height can be at each (x, z)."""
        blocks = (self.low[:, 1] < EYE + BODY) & (self.high[:, 1] > EYE - BODY)
        low, high = self.low[blocks][:, ::2], self.high[blocks][:, ::2]
        gap = torch.maximum(low - plan[:, None], plan[:, None] - high).clamp(min=0).norm(dim=2)
        inside = ((plan > BODY) & (plan < torch.tensor(self.ground) - BODY)).all(1)
        return inside & (gap > BODY).all(1)


def box_world(kind: str, seed: int) -> BoxWorld:
    """A world of one of the KINDS."""
    rng = torch.Generator().manual_seed(1000 * KINDS.index(kind) + seed)
    make = {"maze": _maze, "hall": _hall, "yard": _yard}[kind]
    blocks, ground, ceiling = make(rng)
    width, length = ground
    if ceiling is not None:
        blocks.append((-1, ceiling - 1, -1, width + 1, ceiling, length + 1))
        for x in (-1.0, width):
            blocks.append((x, ceiling, -1, x + 1, 0, length + 1))
        for z in (-1.0, length):
            blocks.append((-1, ceiling, z, width + 1, 0, z + 1))
    blocks.append((-30, 0, -30, width + 30, 1, length + 30))
    table = torch.tensor(blocks, dtype=torch.float32)
    color = 0.2 + 0.7 * torch.rand(len(table), 3, generator=rng)
    return BoxWorld(table[:, :3], table[:, 3:], color, ground)


def walk(world: BoxWorld, seed: int, fov: float = 75.0) -> tuple[Cameras, int]:
    """Cameras of a walk along straight legs and back by other headings, and where the return starts."""
    rng = torch.Generator().manual_seed(seed)
    points = [_free_points(world, rng, 1)[0]]
    while len(points) <= LEGS:
        around = _free_points(world, rng, 64)
        lengths = (around - points[-1]).norm(dim=1)
        fits = (lengths > 1.5) & (lengths < 4)
        for goal in around[fits]:
            steps = torch.linspace(0, 1, 40)[:, None]
            if world.free(points[-1] + steps * (goal - points[-1])).all():
                points.append(goal)
                break
    places, headings = [], []
    for a, b in itertools.pairwise(points):
        count = math.ceil(float((b - a).norm()) / STRIDE)
        heading = math.degrees(math.atan2(float(b[0] - a[0]), float(b[1] - a[1])))
        if headings:
            turn = (heading - headings[-1] + 180) % 360 - 180
            turns = int(abs(turn) // TURN)
            for _ in range(turns):
                places.append(a)
                headings.append(headings[-1] + turn / (turns + 1))
        for i in range(count):
            places.append(a + (b - a) * i / count)
            headings.append(heading)
    start = len(places)
    sway = 50 * torch.sin(0.9 * torch.arange(start) + 6 * torch.rand(1, generator=rng))
    places += places[::-1]
    headings += [h + float(s) for h, s in zip(headings[::-1], sway, strict=True)]
    plan = torch.stack(places)
    eyes = torch.stack([plan[:, 0], torch.full((len(plan),), EYE), plan[:, 1]], 1)
    K = intrinsics(fov, 4 / 3)
    return upright_cameras(eyes, torch.tensor(headings), K), start


def _maze(rng: torch.Generator) -> tuple[list, tuple[float, float], float]:
    """Corridors 2.5 m wide between walls 0.2 m thick: a spanning tree of 4 x 4 cells."""
    n, size, thick = 4, 2.5, 0.1
    seen, stack, opened = {(0, 0)}, [(0, 0)], set()
    while stack:
        x, z = stack[-1]
        ways = [(x + 1, z), (x - 1, z), (x, z + 1), (x, z - 1)]
        ways = [w for w in ways if 0 <= w[0] < n and 0 <= w[1] < n and w not in seen]
        if not ways:
            stack.pop()
            continue
        way = ways[int(torch.randint(len(ways), (1,), generator=rng))]
        opened.add(frozenset([(x, z), way]))
        seen.add(way)
        stack.append(way)
    blocks = []
    for x in range(n):
        for z in range(n):
            if x + 1 < n and frozenset([(x, z), (x + 1, z)]) not in opened:
                wall = (x + 1) * size
                blocks.append((wall - thick, -2.4, z * size, wall + thick, 0, (z + 1) * size))
            if z + 1 < n and frozenset([(x, z), (x, z + 1)]) not in opened:
                wall = (z + 1) * size
                blocks.append((x * size, -2.4, wall - thick, (x + 1) * size, 0, wall + thick))
    return blocks, (n * size, n * size), -2.4


def _hall(rng: torch.Generator) -> tuple[list, tuple[float, float], float]:
    """One large room with pillars and crates."""
    width, length = 14.0, 9.0
    blocks = []
    for _ in range(8):
        x, z = _between(rng, 1.5, width - 1.5), _between(rng, 1.5, length - 1.5)
        side = _between(rng, 0.1, 0.3)
        blocks.append((x - side, -3.2, z - side, x + side, 0, z + side))
    for _ in range(8):
        x, z = _between(rng, 0.8, width - 0.8), _between(rng, 0.8, length - 0.8)
        a, b, tall = (_between(rng, 0.2, 0.7) for _ in range(3))
        blocks.append((x - a, -2.5 * tall, z - b, x + a, 0, z + b))
    return blocks, (width, length), -3.2


def _yard(rng: torch.Generator) -> tuple[list, tuple[float, float], None]:
    """Buildings and crates on a plane, under a sky."""
    width = length = 16.0
    blocks = []
    for _ in range(24):
        x, z = _between(rng, 1, width - 1), _between(rng, 1, length - 1)
        a, b = (_between(rng, 0.3, 1.2) for _ in range(2))
        blocks.append((x - a, -_between(rng, 0.6, 5), z - b, x + a, 0, z + b))
    return blocks, (width, length), None


def _free_points(world: BoxWorld, rng: torch.Generator, count: int) -> Float[Tensor, "n 2"]:
    points = torch.empty(0, 2)
    while len(points) < count:
        tries = torch.rand(256, 2, generator=rng) * torch.tensor(world.ground)
        points = torch.cat([points, tries[world.free(tries)]])
    return points[:count]


def _between(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=rng))
