"""From votes to k views: suppression of similar poses, and greedy coverage."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import pose_distance
from vmemkit.core.kernels import backend, cpu
from vmemkit.memory import Memory

EXCHANGES = 10  # rounds of exchanging views in `best_cover`; it settles in two or three


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
            gains = cpu.gains(*work, held) if compiled else _gains(*work, held)
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
