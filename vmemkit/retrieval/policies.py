"""Retrieval: which past views should be the context of the next ones?

In: a memory, the target cameras, k. Out: a `Retrieval`: the chosen views and all that led to them.
Every policy has the signature `(memory, targets, k, config) -> Retrieval`:

- surfel_votes   the paper: every target pixel's surfel votes for the views that saw it; most votes
                 first, skipping views whose pose resembles a chosen one's (VMem, section 3.3).
- coverage       ours: greedily the view that explains most of what no chosen view explains yet,
                 weighted by how sharply it saw it. Needs no suppression; at least 1 - 1/e of the best.
- released       the released code's rule, quirks included.
- temporal, camera_distance, fov_overlap, random: the baselines of the paper's ablation.
- oracle(scene)  the most true target points, by the scene's exact visibility.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import (
    Cameras,
    Splat,
    SplatConfig,
    mean_pose,
    pixel_centres,
    pose_distance,
    project,
    rays,
    unproject,
)
from vmemkit.memory import Memory, read, sighting_counts, sightings_of
from vmemkit.retrieval.selection import best_cover, ranked, suppress, suppress_softly, view_ids
from vmemkit.retrieval.types import Policy, Retrieval, RetrievalConfig, Visibility
from vmemkit.retrieval.votes import count_votes, pixels_per_surfel, released_votes, sharpness

ENOUGH = 100_000  # depths that make a quantile


# The paper's policy, ours, and the released code's.


def surfel_votes(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """Views by the target pixels whose surfel they saw, unlike poses first.

    # differs from VMem: a pixel's vote is shared by all views that saw its surfel, so that what few
    views saw is not outvoted by what many saw (`vote="frequency"` gives each of them a whole vote),
    and suppression is soft, for lack of a published threshold (`suppression="hard"` has one).
    """
    query = _query(targets, config)
    distance, seen = _distance(memory, query), _look(memory, query, config)
    if not (seen.surfel >= 0).any():
        return _blind("surfel_votes", memory, query, k, config)
    pixels = pixels_per_surfel(memory, seen)
    if config.vote == "shared":
        pixels = pixels / sighting_counts(memory.marks, len(pixels)).clamp(min=1)
    votes = count_votes(memory, pixels)
    field_of_view = 2 * math.atan(0.5 / float(query.K[0, 0, 0]))
    if config.suppression == "soft":
        fade = config.fade * field_of_view
        chosen, suppressed_by = suppress_softly(memory, votes, distance, k, fade)
    else:
        order = [v for v in ranked(votes, distance) if votes[v] > 0]
        threshold = config.threshold * field_of_view
        chosen, suppressed_by = suppress(memory, order, k, threshold, config.relax)
    return Retrieval("surfel_votes", chosen, votes, distance, suppressed_by, query, seen)


def coverage(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """Maximum coverage of target pixels, each worth more the more sharply it was seen.

    The worth of a set of views is the sum over pixels of the best quality among the views that saw
    the pixel's surfel: monotone and submodular, so the greedy choice is within 1 - 1/e of the best
    set (Nemhauser et al., 1978); exchanging single views then improves it further.
    """
    query = _query(targets, config)
    distance, seen = _distance(memory, query), _look(memory, query, config)
    if not (seen.surfel >= 0).any():
        return _blind("coverage", memory, query, k, config)
    pixels = pixels_per_surfel(memory, seen)
    surfel, view = sightings_of(memory.marks, pixels > 0)
    quality = 1 - config.sharpness + config.sharpness * sharpness(memory, query, seen, surfel, view)
    quality = torch.where(memory.views.given[view], quality, config.generated * quality)
    chosen = best_cover(surfel, view, quality, pixels, distance, k)
    votes = count_votes(memory, pixels)
    nobody = torch.full_like(votes, -1).long()
    return Retrieval("coverage", view_ids(chosen, memory), votes, distance, nobody, query, seen)


def released(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """The released code's rule: votes only shortlist k + 10 views, pose distance orders them.

    Read from the last target with a focal length of 0.65 on 512 x 288 pixels; a vote is
    cos / (1 + depth), each view's first pixel counts twice; the suppression threshold is the median
    pose distance among the first five views, without suppression before there are five.
    # differs from VMem: no state is kept, and targets that see nothing are an error, not a crash.
    """
    query = targets[-1:]
    wide = torch.diag(query.K.new_tensor([0.65, 0.65, 1.0])) @ query.K
    wide[:, :2, 2] = wide.new_tensor([256.5 / 512, 144.5 / 288])  # pixel (256, 144), its centre
    camera = Cameras(query.world_from_cam, wide)
    canvas = read(memory, camera, 288, 512, SplatConfig.released())
    distance = _distance(memory, query)
    if not (canvas.surfel >= 0).any():
        return _blind("released", memory, query, k, config)
    votes = released_votes(memory, canvas)
    shortlist = ranked(votes, distance)[: k + 10]
    shortlist = [v for v in shortlist if votes[v] > 0]
    nearest = sorted(shortlist, key=lambda v: float(distance[v]))
    threshold = 0.0
    if len(memory) >= 5:
        poses = memory.views.cameras.world_from_cam[:5]
        i, j = torch.triu_indices(5, 5, offset=1)
        threshold = float(pose_distance(poses[i], poses[j]).sort().values[5])
    chosen, suppressed_by = suppress(memory, nearest, k, threshold, config.relax)
    return Retrieval("released", chosen, votes, distance, suppressed_by, query, canvas)


# Baselines.


def temporal(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """The most recent views."""
    score = torch.arange(len(memory), device=memory.device).float()
    return _by_score("temporal", memory, _query(targets, config), score, k)


def camera_distance(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """The views whose poses are nearest to the query cameras, on average."""
    return _nearest("camera_distance", memory, _query(targets, config), k)


def fov_overlap(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """The views whose frusta hold most of the targets' frusta; walls are ignored.

    Both frusta end at the depth that 99 % of the remembered pixels do not exceed.
    """
    query = _query(targets, config)
    depth = memory.views.depth[memory.views.depth.isfinite()]
    far = depth[:: 1 + len(depth) // ENOUGH].quantile(0.99)
    shares = (torch.arange(8, device=memory.device) + 0.5) / 8
    directions = rays(query, pixel_centres(6, 8, device=memory.device).expand(len(query), 6, 8, 2))
    points = query.position[:, None, None, None] + directions[:, None] * (
        far * shares[:, None, None, None]
    )
    uv, z = project(memory.views.cameras, points.reshape(1, -1, 3))
    inside = (z > 0) & (z <= far) & (uv >= 0).all(-1) & (uv <= 1).all(-1)
    return _by_score("fov_overlap", memory, query, inside.float().mean(-1), k)


def random(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """Any k views; the same for the same `config.seed` and number of views."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + len(memory))
    score = torch.rand(len(memory), generator=generator).to(memory.device)
    return _by_score("random", memory, _query(targets, config), score, k)


def oracle(scene: Visibility) -> Policy:
    """Greedy maximum coverage of the true surface points behind the target pixels."""

    def choose(memory: Memory, targets: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
        visible = true_visibility(scene, memory.views.cameras, targets, config.rows // 2)
        query = _query(targets, config)
        distance = _distance(memory, query)
        covered = torch.zeros(visible.shape[1], dtype=torch.bool, device=visible.device)
        chosen = []
        for _ in range(k):
            gains = (visible & ~covered).sum(1).float()
            winner = int(ranked(gains, distance)[0])
            if gains[winner] == 0:
                break
            chosen.append(winner)
            covered |= visible[winner]
        if not chosen:
            return _blind("oracle", memory, query, k, config)
        votes, nobody = visible.sum(1).float(), torch.full_like(distance, -1).long()
        return Retrieval("oracle", view_ids(chosen, memory), votes, distance, nobody, query, None)

    return choose


POLICIES: dict[str, Policy] = {
    policy.__name__: policy
    for policy in (surfel_votes, coverage, released, temporal, camera_distance, fov_overlap, random)
}


def true_visibility(
    scene: Visibility, cameras: Cameras, targets: Cameras, rows: int = 36
) -> Bool[Tensor, "t n"]:
    """Which of the surface points behind a grid of target pixels each camera (t,) really sees."""
    points = unproject(targets, scene.render(targets, rows, _columns(targets, rows)).depth)
    points = points.reshape(-1, 3)
    return scene.visible(points[points.isfinite().all(-1)], cameras)


def _columns(cameras: Cameras, rows: int) -> int:
    """Width of a canvas of square pixels."""
    return max(1, round(rows * float(cameras.K[0, 1, 1] / cameras.K[0, 0, 0])))


def _query(targets: Cameras, config: RetrievalConfig) -> Cameras:
    if config.query == "mean":
        return Cameras(mean_pose(targets.world_from_cam)[None], targets.K[:1])
    return targets[-1:] if config.query == "last" else targets


def _look(memory: Memory, query: Cameras, config: RetrievalConfig) -> Splat:
    return read(memory, query, config.rows, _columns(query, config.rows), config.splat)


def _blind(name: str, memory: Memory, query: Cameras, k: int, config: RetrievalConfig) -> Retrieval:
    """What to do where the query cameras see no surfel."""
    if config.blind == "nearest":
        return _nearest(name, memory, query, k)
    raise ValueError(
        "the targets see no surfel of the memory, so no view can be voted for: move them, "
        'or fall back to the nearest poses with RetrievalConfig(blind="nearest")'
    )


def _distance(memory: Memory, query: Cameras) -> Float[Tensor, " t"]:
    poses = memory.views.cameras.world_from_cam
    return pose_distance(poses[:, None], query.world_from_cam[None]).mean(1)


def _by_score(
    name: str, memory: Memory, query: Cameras, score: Float[Tensor, " t"], k: int
) -> Retrieval:
    distance = _distance(memory, query)
    chosen = view_ids(ranked(score, distance)[:k], memory)
    nobody = torch.full_like(distance, -1).long()
    return Retrieval(name, chosen, score, distance, nobody, query, None)


def _nearest(name: str, memory: Memory, query: Cameras, k: int) -> Retrieval:
    return _by_score(name, memory, query, -_distance(memory, query), k)
