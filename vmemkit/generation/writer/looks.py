"""Looks: the palette and the finishes of a room, by painting its walls in all of them.

In: evidence and the walls of a room. Out: palette, wall finish and floor finish.
The lamp and the window shade a wall more than its pattern does, so a smooth gain is fitted to each
wall before colours are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from vmemkit.generation.writer.doors import limits
from vmemkit.generation.writer.evidence import Evidence, axis_of
from vmemkit.generation.writer.walls import Shell
from vmemkit.scenes.house import (
    CORNER,
    CORNER_SHADE,
    CORNICE,
    EVEN,
    FLOORS,
    PALETTES,
    SKIRTING,
    WALLS,
    Palette,
    Room,
    Solid,
    Surface,
    finish_of,
    floor_solid,
    paint,
    wall_solid,
)

SAMPLES = 200  # that are compared, at most
LEAST_WALL, LEAST_FLOOR = 40, 30  # samples that a guess needs
EDGE = 0.1  # metres from a corner that are left out
GAINS = (0.5, 1.7)
NOISE = 0.012  # colour difference that is expected anyway
WORST = 0.15  # largest error of a sample that counts
FITS = 0.05  # mean colour difference from which no palette of our houses explains the walls
PHASES = 5  # shifts of a pattern that are tried where the room's corner is unseen


@dataclass(frozen=True)
class Look:
    """The look of a room; None where too little is seen."""

    palette: Palette | None
    wall_finish: str | None
    floor_finish: str | None
    of_our_houses: bool = False  # whether the palette explains the walls


@dataclass(frozen=True)
class _Patch:
    """Samples on one level or upright surface, in its coordinates."""

    uv: Float[Tensor, "n 2"]
    extent: Float[Tensor, "n 2"]
    pixel: Float[Tensor, "n 2"]
    color: Float[Tensor, "n 3"]
    basis: Float[Tensor, "n b"]  # functions whose weighted sum is the gain
    free: bool  # whether the place of the pattern along u is unknown


def find_look(evidence: Evidence, shell: Shell) -> Look:
    """The palette and finishes that explain the colours of the walls and the floor best."""
    walls = [_wall_patch(evidence, shell, wall) for wall in range(4)]
    walls = [patch for patch in walls if patch is not None]
    if sum(len(patch.uv) for patch in walls) < LEAST_WALL:
        return Look(None, None, None)
    choices = [(palette, finish) for palette in PALETTES for finish in WALLS]
    solids = [wall_solid(_room(*choice)) for choice in choices]
    differences, costs = _compare(walls, solids)
    best = int(np.argmin(differences))
    palette, _ = choices[best]
    wall_finish = min(WALLS, key=lambda finish: costs[choices.index((palette, finish))])
    floor = _floor_patch(evidence, shell)
    floor_finish = None
    if floor is not None:
        solids = [floor_solid(_room(palette, wall_finish, name)) for name in FLOORS]
        _, floors = _compare([floor], solids)
        floor_finish = list(FLOORS)[int(np.argmin(floors))]
    return Look(palette, wall_finish, floor_finish, differences[best] < FITS)


def _room(palette: Palette, wall_finish: str, floor_finish: str = "planks") -> Room:
    box = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # the finish of a surface does not depend on it
    return Room(box, palette, wall_finish, floor_finish, (1.0, 1.0))


def _wall_patch(evidence: Evidence, shell: Shell, wall: int) -> _Patch | None:
    at, axis, side = shell.walls[wall], axis_of(wall), 2 - axis_of(wall)
    if at is None:
        return None
    low, high = limits(shell, side)
    top = -2.7 if shell.ceiling is None else shell.ceiling
    point = evidence.point
    rows = evidence.facing(wall) & (np.abs(point[:, axis] - at) < 0.008)
    rows &= (point[:, side] > low + EDGE) & (point[:, side] < high - EDGE)
    rows &= (point[:, 1] < -SKIRTING - 0.03) & (point[:, 1] > top + CORNICE + 0.1)
    start = low if np.isfinite(low) else 0.0
    end = high if np.isfinite(high) else start + 5.0
    uv = np.stack([point[:, side] - start, -point[:, 1]], 1)
    extent = np.broadcast_to([end - start, -top], uv.shape)
    return _patch(evidence, rows, uv, extent, (side, 1), free=not np.isfinite(low))


def _floor_patch(evidence: Evidence, shell: Shell) -> _Patch | None:
    point = evidence.point
    (x0, x1), (z0, z1) = limits(shell, 0), limits(shell, 2)
    rows = (evidence.normal[:, 1] < -0.99) & (np.abs(point[:, 1]) < 0.006) & (evidence.area > 0)
    rows &= (point[:, 0] > x0 + 0.1) & (point[:, 0] < x1 - 0.1)
    rows &= (point[:, 2] > z0 + 0.1) & (point[:, 2] < z1 - 0.1)
    start = [x0 if np.isfinite(x0) else 0.0, z0 if np.isfinite(z0) else 0.0]
    uv = point[:, ::2] - start
    extent = np.broadcast_to([5.0, 5.0], uv.shape)
    patch = _patch(evidence, rows, uv, extent, (0, 2), free=not np.isfinite(x0))
    return patch if patch is not None and len(patch.uv) >= LEAST_FLOOR else None


def _patch(
    evidence: Evidence,
    rows: np.ndarray,
    uv: np.ndarray,
    extent: np.ndarray,
    axes: tuple[int, int],
    free: bool,
) -> _Patch | None:
    """The patch of the chosen samples; `axes` of the world are those of u and v."""
    chosen = np.nonzero(rows)[0]
    chosen = chosen[:: max(1, len(chosen) // SAMPLES)]
    if len(chosen) < 8:
        return None
    sight = evidence.point[chosen] - evidence.eye[chosen]
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    cosine = np.abs((sight * evidence.normal[chosen]).sum(1)).clip(0.1)
    pixel = evidence.size[chosen, None] * _stretch(sight, axes, cosine)
    a, b = uv[chosen].T
    middle, scale = (a.mean(), b.mean()), (max(np.ptp(a), 0.5), max(np.ptp(b), 0.5))
    a, b = (a - middle[0]) / scale[0], (b - middle[1]) / scale[1]
    basis = np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], 1)
    basis *= _shade(evidence, chosen)[:, None]
    uv, extent, pixel, color, basis = (
        torch.from_numpy(np.ascontiguousarray(value)).float()
        for value in (uv[chosen], extent[chosen], pixel, evidence.color[chosen], basis)
    )
    return _Patch(uv, extent, pixel, color, basis, free)


def _stretch(sight: np.ndarray, axes: tuple[int, int], cosine: np.ndarray) -> np.ndarray:
    """How much longer a pixel is on the surface, along u and along v, than across the line of sight."""
    along = sight[:, axes]
    along = np.abs(along) / np.linalg.norm(along, axis=1, keepdims=True).clip(1e-6)
    return np.hypot(along / cosine[:, None], along[:, ::-1])


def _shade(evidence: Evidence, rows: np.ndarray) -> np.ndarray:
    """The shade on the samples from surfaces nearby, as the renderer of houses has it, estimated from
    the samples around them."""
    tree = cKDTree(evidence.point)
    above = evidence.point[rows] + CORNER * evidence.normal[rows]
    clear = tree.query(above)[0].clip(max=CORNER)
    return 1 - CORNER_SHADE * (1 - clear / CORNER) ** 2


def _compare(patches: list[_Patch], solids: list[Solid]) -> tuple[list[float], list[float]]:
    """The mean colour difference of each finish, and how badly it explains the samples: the negative
    logarithm of a likelihood.

    Random tones are unknown, so a finish with strong ones (brick) is expected to miss by more.
    """
    toned = _painted([(patch, 0.0) for patch in patches], solids, seed=1)
    phases = [[i / PHASES for i in range(PHASES if patch.free else 1)] for patch in patches]
    even = _painted(
        [(patch, phase) for i, patch in enumerate(patches) for phase in phases[i]], solids, EVEN
    )
    differences, tones = [], []
    for i, patch in enumerate(patches):
        at_phases = [even.pop(0) for _ in phases[i]]
        differences.append(_at_best_phase(patch, at_phases))
        tones.append((toned[i] - at_phases[0]).abs().mean(2))
    difference, tone = torch.cat(differences, 1), torch.cat(tones, 1)
    expected = (NOISE**2 + tone.square().mean(1)).sqrt()
    mean = difference.clamp(max=WORST).mean(1)
    return mean.tolist(), (mean / expected + expected.log()).tolist()


def _at_best_phase(patch: _Patch, colors: list[Float[Tensor, "s n 3"]]) -> Float[Tensor, "s n"]:
    """The difference of every sample from every finish, at the phase of its pattern that fits best."""
    best = torch.full(colors[0].shape[:2], torch.inf)
    for color in colors:
        difference = _after_gain(patch, color)
        better = difference.mean(1) < best.mean(1)
        best = torch.where(better[:, None], difference, best)
    return best


def _painted(
    placed: list[tuple[_Patch, float]], solids: list[Solid], seed: int
) -> list[Float[Tensor, "s n 3"]]:
    """The samples of each patch in every finish, its pattern shifted along u by a share of its repeat.

    A painted colour is a sum of the finish's three colours, each weighted by the pattern, and of a
    constant. So a pattern is painted once for all finishes that have it, as weights.
    """
    one_of_each = {solid.pattern: solid for solid in solids}
    patterns = list(one_of_each)
    counts = [len(patch.uv) for patch, _ in placed]
    n = sum(counts)
    phase = torch.tensor([phase for _, phase in placed]).repeat_interleave(torch.tensor(counts))
    finish = finish_of(list(one_of_each.values()))[torch.arange(len(patterns)).repeat_interleave(n)]
    finish = finish.replace(seed=torch.full_like(finish.seed, seed))
    uv, extent, pixel = (
        torch.cat([getattr(patch, name) for patch, _ in placed]).repeat(len(patterns), 1)
        for name in ("uv", "extent", "pixel")
    )
    uv[:, 0] += phase.repeat(len(patterns)) * finish.scale

    def painted_in(colors: Float[Tensor, "3 3"]) -> Float[Tensor, "p n 3"]:
        colored = finish.replace(colors=colors.expand(len(uv), 3, 3))
        return paint(Surface(uv, extent, pixel, colored)).view(len(patterns), n, 3)

    constant = painted_in(torch.zeros(3, 3))
    weights = 2 * (painted_in(torch.eye(3) / 2) - constant)  # half, so that no sum exceeds 1
    row = torch.tensor([patterns.index(solid.pattern) for solid in solids])
    color = constant[row] + weights[row] @ finish_of(solids).colors
    return list(color.split(counts, 1))


def _after_gain(patch: _Patch, color: Float[Tensor, "s n 3"]) -> Float[Tensor, "s n"]:
    """Differences after the smooth gain that fits best: one for all channels, and a tint from warm to
    cool, because lamps are warm and daylight is cool."""
    tint = color.new_tensor([1.0, 0.0, -1.0])
    gains = patch.basis[:, None, :].expand(-1, 3, -1)
    tints = patch.basis[:, None, :3] * tint[:, None]
    basis = torch.cat([gains, tints], 2)  # [n 3 b]
    design = (color[..., None] * basis).flatten(1, 2)  # [s 3n b]
    b = design.shape[2]
    left = design.mT @ design + 1e-3 * torch.eye(b)
    target = patch.color.flatten().expand(len(color), -1)[..., None]
    weights = torch.linalg.solve(left, design.mT @ target)  # [s b 1]
    gain = (basis.flatten(0, 1) @ weights)[..., 0].unflatten(1, (-1, 3)).clamp(*GAINS)
    return (color * gain - patch.color).abs().mean(2)
