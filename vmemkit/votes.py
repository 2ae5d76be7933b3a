"""Votes: from what a camera sees of the memory to a ranking, and from a ranking to k views.

In: a memory and the surfels that query cameras see. Out: votes per view, and views chosen by votes
with suppression of like poses, or by coverage. The policies of retrieval.py are made of these
parts, and policies of your own may be.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Splat, SurfelConfig, dot, footprint, kernels, pose_distance, root
from vmemkit.core.kernels import backend, footprints, pixel_counts
from vmemkit.memory import Memory, sightings_of, weight_by_view

SLANT = SurfelConfig.slant

EXCHANGES = 10  # rounds of exchanging views in `best_cover`; it settles in two or three


def pixels_per_surfel(memory: Memory, seen: Splat) -> Float[Tensor, " n"]:
    """How many pixels of all query cameras each surfel of the memory won.

    Errors: ValueError for surfels that the memory does not have.
    """
    surfels = len(memory.surfels)
    # On a CPU only: a GPU would have to wait, and stops at such an index by itself. In numpy: see
    # native._zeros.
    if seen.surfel.device.type == "cpu" and (most := int(seen.surfel.numpy().max())) >= surfels:
        raise ValueError(f"pixels see surfels up to {most}, of {surfels}: read this memory")
    if backend(memory.device) == "numba":
        return pixel_counts(seen.surfel, surfels)
    ids = seen.surfel.flatten() + 1  # the pixels that see none are counted in front, and cut off
    count = torch.zeros(surfels + 1, device=ids.device)
    return count.index_add_(0, ids, torch.ones_like(ids, dtype=count.dtype))[1:]


def count_votes(memory: Memory, weight: Float[Tensor, " n"]) -> Float[Tensor, " t"]:
    """Per view the sum of the weights of the surfels that it saw.

    Errors: ValueError unless there is a weight for every surfel.
    """
    if weight.shape != (len(memory.surfels),):
        raise ValueError(
            f"votes need a weight for each of {len(memory.surfels)} surfels, got "
            f"{list(weight.shape)}"
        )
    return weight_by_view(memory.marks, weight, len(memory))


def released_votes(memory: Memory, canvas: Splat) -> Float[Tensor, " t"]:
    """The released code's votes from one camera: cos / (1 + depth) per pixel and view."""
    hit = canvas.surfel.flatten() >= 0
    ids, total = canvas.surfel.flatten()[hit], len(memory.surfels)
    weight = (canvas.cosine / (1 + canvas.depth)).flatten()[hit]
    votes = count_votes(memory, torch.zeros(total, device=ids.device).index_add_(0, ids, weight))
    # The first pixel of a view counts twice: the code sets the vote, then adds to it.
    none, place = len(ids), torch.arange(len(ids), device=ids.device)
    first = torch.full((total,), none, device=ids.device).scatter_reduce_(0, ids, place, "amin")
    surfel, view = sightings_of(memory.marks, first < none)
    of_view = torch.full((len(memory),), none, device=ids.device)
    of_view.scatter_reduce_(0, view, first[surfel], "amin")
    return votes + torch.cat([weight, weight.new_zeros(1)])[of_view]


def sharpness(
    memory: Memory, query: Cameras, seen: Splat, surfel: Tensor, view: Tensor
) -> Float[Tensor, " e"]:
    """How finely a view sampled a surfel, against the query camera that sees it largest; at most 1.

    The measure is the footprint of a pixel (as in the surfels' radius).
    """
    need = torch.full((len(memory.surfels),), torch.inf, device=memory.device)
    for i in range(len(query)):
        ids = seen.surfel[i][seen.surfel[i] >= 0].unique()
        need[ids] = torch.minimum(
            need[ids], _footprints(memory, query, ids, torch.full_like(ids, i))
        )
    have = _footprints(memory, memory.views.cameras, surfel, view)
    return (need[surfel] / have).clamp(max=1)


def _footprints(
    memory: Memory, cameras: Cameras, surfel: Int[Tensor, " e"], camera: Int[Tensor, " e"]
) -> Float[Tensor, " e"]:
    """World size of a pixel of `camera[e]` (of an image of unit height) at `surfel[e]`."""
    eye, forward, focal = cameras.position, cameras.forward, cameras.K[:, 1, 1]
    position, normal = memory.surfels.position, memory.surfels.normal
    if backend(memory.device) == "numba":
        return footprints(position, normal, eye, forward, focal, surfel, camera, SLANT)
    sight = position[surfel] - eye[camera]
    depth = dot(sight, forward[camera]).clamp(min=1e-6)
    cosine = dot(sight, normal[surfel]) / root(dot(sight, sight)).clamp(min=1e-6)
    return footprint(depth, focal[camera], cosine.clamp(min=0))


def ranked(score: Float[Tensor, " t"], distance: Float[Tensor, " t"]) -> list[int]:
    """Views by score, the greatest first; equals by pose distance, the nearest first."""
    near = torch.argsort(distance, stable=True)
    return near[torch.argsort(score[near], descending=True, stable=True)].tolist()


def suppress(
    memory: Memory, order: list[int], k: int, threshold: float, relax: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " t"]]:
    """Non-maximum suppression: take views in `order`, skipping poses like one already taken.

    Until k are taken the threshold is relaxed and the skipped ones are tried again. Returns the
    chosen views and, for each view that was finally skipped, the chosen one that it resembles.
    Errors: ValueError unless relax > 1, without which there would be no end.
    """
    if not relax > 1:
        raise ValueError(f"the threshold must be relaxed by a factor above 1, got {relax}")
    poses = memory.views.cameras.world_from_cam[order]
    apart = pose_distance(poses[:, None], poses[None])
    chosen: list[int] = []  # positions in `order`
    suppressor = [-1] * len(order)
    while len(chosen) < min(k, len(order)):
        for i in range(len(order)):
            if i in chosen or len(chosen) == k:
                continue
            like = [j for j in chosen if apart[i, j] < threshold]
            suppressor[i] = like[0] if like else -1
            if not like:
                chosen.append(i)
        threshold = threshold / relax if threshold > 1e-5 else 0.0
    suppressed_by = torch.full((len(memory),), -1, device=memory.device)
    for i, j in enumerate(suppressor):
        if j >= 0 and i not in chosen:
            suppressed_by[order[i]] = order[j]
    return view_ids([order[i] for i in chosen], memory), suppressed_by


def suppress_softly(
    memory: Memory, votes: Float[Tensor, " t"], distance: Float[Tensor, " t"], k: int, fade: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " t"]]:
    """Soft non-maximum suppression (Bodla et al., ICCV 2017): the view with most votes is taken, and
    every other loses the share exp(-(pose distance / fade)^2) of its votes; k times.

    Also returned: for each view that would have been taken for its votes alone, the chosen view that
    it resembles most; -1 for all others.
    """
    poses = memory.views.cameras.world_from_cam
    left, chosen = votes.clone(), []
    apart = torch.zeros(0, len(votes), device=votes.device)
    for _ in range(k):
        winner = ranked(left, distance)[0]
        if left[winner] <= 0:
            break
        chosen.append(winner)
        apart = torch.cat([apart, pose_distance(poses, poses[winner])[None]])
        left = left * (1 - torch.exp(-((apart[-1] / fade) ** 2)))
    taken = view_ids(chosen, memory)
    missed = votes > votes[taken].amin()
    missed[taken] = False
    return taken, torch.where(missed, taken[apart.argmin(0)], -1)


def best_cover(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    distance: Float[Tensor, " t"],
    k: int,
) -> list[int]:
    """Up to k views by coordinate ascent: each in turn becomes the best one given all others, until
    none changes. The first round is the greedy choice. Row e: `view` saw `surfel` with `quality`."""
    chosen: list[int] = []
    work, compiled = (surfel, view, quality, pixels), backend(view.device) == "numba"
    for _ in range(EXCHANGES):
        before = list(chosen)
        for i in range(k):
            held = torch.zeros_like(distance, dtype=torch.bool)
            held[chosen[:i] + chosen[i + 1 :]] = True
            gains = kernels.gains(*work, held) if compiled else _gains(*work, held)
            winner = ranked(gains, distance)[0]
            now = gains[chosen[i]] if i < len(chosen) else 0.0
            if gains[winner] > now * (1 + 1e-6):  # strictly, so that the rounds end
                chosen[i : i + 1] = [winner]
        if chosen == before:
            break
    return chosen


def _gains(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    held: Bool[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """What each view would add to the views that are held."""
    known, best = held[view], torch.zeros_like(pixels)
    best.scatter_reduce_(0, surfel[known], quality[known], "amax")
    gain = (quality - best[surfel]).clamp(min=0) * pixels[surfel]
    return pixels.new_zeros(len(held)).index_add_(0, view, gain)


def view_ids(views: list[int], memory: Memory) -> Int[Tensor, " k"]:
    """View indices as a tensor on the memory's device."""
    return torch.tensor(views, dtype=torch.int64, device=memory.device)
