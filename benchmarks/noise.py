"""Retrieval and sightings under noise: which policy breaks first, and are sightings true?

Per row of the table: the worlds' true views are recorded with an error in depth or pose; a memory is
made of them along a walk; on the way back each policy chooses K views for the next four cameras.
A choice is judged by what its views truly show of the targets, relative to the best choice. A
sighting is judged by whether the view truly sees the surface point that its surfel was made of.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from statistics import mean

import torch
from jaxtyping import Float
from torch import Tensor
from worlds import KINDS, box_world, walk

from vmemkit.core import Cameras, Views, project
from vmemkit.evaluation import coverage, share_of_best
from vmemkit.memory import Memory, MemoryConfig, begin, write
from vmemkit.retrieval import Coverage, Policy, SurfelVotes, retrieve
from vmemkit.scenes import Scene, capture_tour, rooms

SIZE, K, M = (96, 128), 4, 4
NOISES = {  # what is wrong, and by how much
    "clean": {},
    "depth 1 %": {"depth": 0.01},
    "depth 3 %": {"depth": 0.03},
    "depth 10 %": {"depth": 0.1},
    "smooth depth 1 %": {"smooth": 0.01},
    "smooth depth 3 %": {"smooth": 0.03},
    "smooth depth 10 %": {"smooth": 0.1},
    "scale 3 %": {"scale": 0.03},
    "scale 10 %": {"scale": 0.1},
    "poses 1 cm, 0.5 deg": {"shift": 0.01, "turn": 0.5},
    "poses 5 cm, 2 deg": {"shift": 0.05, "turn": 2.0},
    "holes 10 %": {"holes": 0.1},
    "sky at 65.5 m": {"sky": 65.535},
}
BLOBS = (6, 8)  # cells of smooth noise


def disturbed(
    views: Views,
    seed: int,
    depth: float = 0,
    smooth: float = 0,
    scale: float = 0,
    shift: float = 0,
    turn: float = 0,
    holes: float = 0,
    sky: float = 0,
) -> Views:
    """Views with errors of these standard deviations: of depth per pixel, smooth over the image, and
    common to a view (shares); of the position (metres) and rotation (degrees). `holes` is the share
    of pixels without depth, in blobs; `sky` the depth that a sensor records where nothing is met."""
    rng = torch.Generator().manual_seed(seed)
    t, h, w = views.depth.shape

    def blobs() -> Tensor:
        cells = torch.randn(t, 1, *BLOBS, generator=rng)
        return torch.nn.functional.interpolate(cells, (h, w), mode="bicubic")[:, 0]

    factor = 1 + depth * torch.randn(t, h, w, generator=rng) + smooth * blobs()
    factor = (factor + scale * torch.randn(t, 1, 1, generator=rng)).clamp(min=0.2)
    found = views.depth * factor
    if holes:
        field = blobs()
        found = torch.where(field > field.flatten().quantile(1 - holes), torch.nan, found)
    if sky:
        found = torch.where(views.depth.isnan(), sky, found)
    pose = views.cameras.world_from_cam.clone()
    pose[:, :3, 3] += shift * torch.randn(t, 3, generator=rng)
    axis = torch.deg2rad(turn * torch.randn(t, 3, generator=rng) / 3**0.5)
    x, y, z = axis.unbind(1)
    skew = torch.stack([0 * x, -z, y, z, 0 * x, -x, -y, x, 0 * x], 1).view(t, 3, 3)
    pose[:, :3, :3] = torch.linalg.matrix_exp(skew.double()).float() @ pose[:, :3, :3]
    return views.replace(cameras=views.cameras.replace(world_from_cam=pose), depth=found)


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
        z = truth.depth[view, row, column]
        K, camera = truth.cameras.K[view], truth.cameras[view]
        at = torch.stack([(column + 0.5) / w, (row + 0.5) / h], 1)
        ray = torch.cat([(at - K[:2, 2]) / K.diagonal()[:2], torch.ones(len(at), 1)], 1)
        points[mine] = (ray * z[:, None]) @ camera.rotation.T + camera.position
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
    scene: Scene,
    path: Cameras,
    back: int,
    policies: Mapping[str, str | Policy],
    noise: Mapping[str, float],
    config: MemoryConfig | None = None,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Per policy the true coverage relative to the best choice, per step; and the sightings' score."""
    truth = scene.render(path, *SIZE)
    found = disturbed(truth, 0, **noise)
    memory = begin(found[:back], config)
    ratios: dict[str, list[float]] = {label: [] for label in policies}
    for start in range(back, len(path), M):
        targets = path[start : start + M]
        choices = [
            retrieve(memory, targets, min(K, len(memory)), p).chosen for p in policies.values()
        ]
        true_views = truth[: len(memory)].replace(
            confidence=torch.ones_like(truth.depth[: len(memory)])
        )
        shares = coverage(scene, Judged(true_views), targets, choices, K)
        for label, both in zip(policies, shares, strict=True):
            ratios[label].append(share_of_best(*both))
        memory = write(memory, found[start : start + M])
    return ratios, sightings_score(memory, scene, truth)


class Judged:
    """The views of a memory as they truly are, for the judge."""

    def __init__(self, views: Views) -> None:
        self.views = views

    def __len__(self) -> int:
        return len(self.views.image)


def walks(houses: list[int], seeds: list[int]) -> dict:
    """Scenes, each with its path and where the way back starts."""
    found = {}
    for seed in houses:
        house = rooms(seed, 2)
        tour = capture_tour(house, seed)
        found[f"house {seed}"] = (house, tour.cameras[: tour.back.stop], tour.back.start)
    for kind in KINDS:
        for seed in seeds:
            world = box_world(kind, seed)
            path, back = walk(world, seed)
            found[f"{kind} {seed}"] = (world, path, back)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--houses", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--noise", nargs="+", default=list(NOISES))
    parser.add_argument("--policies", nargs="+", default=["coverage", "surfel_votes"])
    parser.add_argument("--each", action="store_true", help="a line per walk")
    parser.add_argument("--json")
    options = parser.parse_args()
    named = {"verified": Coverage(verify=True), "surfel_votes (paper)": SurfelVotes.paper()}
    policies = {name: named.get(name, name) for name in options.policies}
    print(
        f"{'':28s}"
        + "".join(f"{p + ': mean':>22s}  worst" for p in policies)
        + "   recall  precision  surfels"
    )
    rows = []
    for noise in options.noise:
        total = {p: [] for p in policies}
        scores = []
        for name, (scene, path, back) in walks(options.houses, options.seeds).items():
            ratios, score = one_walk(scene, path, back, policies, NOISES[noise])
            for p, values in ratios.items():
                total[p] += values
            scores.append(score)
            if options.each:
                print_row(f"  {noise}, {name}", ratios, score)
        score = {key: mean(s[key] for s in scores) for key in scores[0]}
        print_row(noise, total, score)
        rows.append(
            {
                "noise": noise,
                **score,
                **{p: mean(v) for p, v in total.items()},
                **{f"{p}, worst": min(v) for p, v in total.items()},
            }
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


def print_row(label: str, ratios: Mapping[str, list[float]], score: Mapping[str, float]) -> None:
    cells = "".join(f"{mean(values):22.4f} {min(values):6.3f}" for values in ratios.values())
    print(
        f"{label:28s}{cells} {score['recall']:8.3f} {score['precision']:10.3f} {score['surfels']:8.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
