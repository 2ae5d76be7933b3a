"""Retrieval and sightings under noise: which policy breaks first, and are sightings true?

Per row of the table: the worlds' true views are recorded with an error in depth or pose; a memory is
made of them along a walk; on the way back each policy chooses K views for the next four cameras.
A choice is judged by what its views truly show of the targets, relative to the best choice. A
sighting is judged by whether the view truly sees the surface point that its surfel was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

import torch
from jaxtyping import Float
from torch import Tensor
from worlds import KINDS, box_world, walk

from vmemkit.core import Cameras, Views, project, unproject
from vmemkit.evaluation import NOISES, RecordingNoise, coverage, noisy, share_of_best
from vmemkit.memory import Memory, begin, write
from vmemkit.retrieval import retrieve
from vmemkit.scenes import Scene, capture_tour, rooms

SIZE, K, M = (96, 128), 4, 4


def true_points(memory: Memory, truth: Views) -> Float[Tensor, "n 3"]:
    """The true surface point that each surfel was made of: the one behind the same pixel of its view."""
    ids = torch.arange(len(memory.surfels))
    writer = torch.searchsorted(memory.ends, ids, right=True)
    points = torch.full((len(ids), 3), torch.nan)
    h, w = truth.depth.shape[1:]
    for view in writer.unique().tolist():
        mine = writer == view
        uv, _ = project(memory.views.cameras[view : view + 1], memory.surfels.position[mine])
        u, v = uv[0].unbind(-1)
        row, column = (v * h).long().clamp(0, h - 1), (u * w).long().clamp(0, w - 1)
        points[mine] = unproject(truth.cameras[view], truth.depth[view])[row, column]
    return points


def sightings_score(memory: Memory, scene: Scene, truth: Views) -> dict[str, float]:
    """Recall and precision of the sightings, over all pairs of a view and a surfel."""
    points = true_points(memory, truth)
    known = points.isfinite().all(1)
    visible = torch.zeros(len(memory), len(points), dtype=torch.bool)
    visible[:, known] = scene.visible(points[known], truth.cameras[: len(memory)])
    credited = torch.zeros_like(visible)
    sightings = memory.sightings
    credited[sightings.view.long(), sightings.surfel.long()] = True
    hits = float((credited & visible).sum())
    return {
        "recall": hits / float(visible.sum()),
        "precision": hits / float(credited[:, known].sum()),
        "surfels": len(points),
    }


def one_walk(
    scene: Scene, path: Cameras, back: int, policies: Sequence[str], noise: RecordingNoise
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Per policy the true coverage relative to the best choice, per step; and the sightings' score.

    The first `back` views of the path are given. Then each policy chooses for the next M cameras.
    """
    truth = scene.render(path, *SIZE)
    found = noisy(truth, noise)
    memory = begin(found[:back])
    ratios: dict[str, list[float]] = {name: [] for name in policies}
    for start in range(back, len(path), M):
        targets = path[start : start + M]
        choices = [retrieve(memory, targets, K, name).chosen for name in policies]
        shares = coverage(scene, truth.cameras[: len(memory)], targets, choices, K)
        for name, both in zip(policies, shares, strict=True):
            ratios[name].append(share_of_best(*both))
        memory = write(memory, found[start : start + M])
    return ratios, sightings_score(memory, scene, truth)


def walks(seeds: Sequence[int]) -> Iterator[tuple[Scene, Cameras, int]]:
    """Scenes of every kind, each with its path and where the way back starts."""
    for seed in seeds:
        house = rooms(seed, 2)
        tour = capture_tour(house, seed)
        yield house, tour.cameras[: tour.back.stop], tour.back.start
        for kind in KINDS:
            world = box_world(kind, seed)
            yield (world, *walk(world, seed))


def by_noise(names: Sequence[str], seeds: Sequence[int], policies: Sequence[str]) -> list:
    """The table: a row per kind of noise, all of them without `names`."""
    print(f"a house, {', '.join(f'a {kind}' for kind in KINDS)} for each of {len(seeds)} seeds")
    columns = "".join(f"{name + ': mean':>22s}  worst" for name in policies)
    print(f"{'noise':20s}{columns}   recall  precision  surfels")
    rows = []
    for name in names or NOISES:
        total: dict[str, list[float]] = {policy: [] for policy in policies}
        scores = []
        for scene, path, back in walks(seeds):
            ratios, score = one_walk(scene, path, back, policies, NOISES[name])
            scores.append(score)
            for policy, values in ratios.items():
                total[policy] += values
        row = {"noise": name} | {key: mean(score[key] for score in scores) for key in scores[0]}
        for policy, values in total.items():
            row |= {policy: mean(values), f"{policy}, worst": min(values)}
        cells = "".join(f"{row[p]:22.4f} {row[f'{p}, worst']:6.3f}" for p in policies)
        figures = f"{row['recall']:8.3f} {row['precision']:10.3f} {row['surfels']:8.0f}"
        print(f"{name:20s}{cells} {figures}", flush=True)
        rows.append(row)
    return rows
