"""Surfels and cameras at random, for the tests of splatting and its kernels."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from vmemkit.core import Cameras, Surfels, cameras, look_at


def make_surfels(position, normal, radius) -> Surfels:
    position = torch.as_tensor(position, dtype=torch.float32).view(-1, 3)
    normal = normalize(torch.as_tensor(normal, dtype=torch.float32).view(-1, 3), dim=-1)
    radius = torch.as_tensor(radius, dtype=torch.float32).view(-1)
    return Surfels(position, normal, radius, torch.zeros_like(position))


def soup(n: int, seed: int) -> Surfels:
    """Discs of all sizes and directions around the origin, behind it too, some through it."""
    rng = torch.Generator().manual_seed(seed)
    position = 2 * torch.randn(n, 3, generator=rng)
    radius = torch.rand(n, generator=rng) ** 2 * 1.5 + 0.02
    return make_surfels(position, torch.randn(n, 3, generator=rng), radius)


def eyes(n: int, seed: int) -> Cameras:
    """Cameras near the origin that look anywhere, with off-centre, unequal intrinsics."""
    rng = torch.Generator().manual_seed(seed)
    position = 0.3 * torch.randn(n, 3, generator=rng)
    poses = look_at(position, position + torch.randn(n, 3, generator=rng))
    K = torch.tensor([[0.6, 0, 0.45], [0, 0.75, 0.56], [0, 0, 1]])
    return cameras(poses, K)
