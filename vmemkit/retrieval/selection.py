"""Selection: from votes to k views.

In: votes, or who saw what how well. Out: views, by votes with suppression of similar poses, or by
coverage. The policies are made of these parts, and policies of your own may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import pose_distance
from vmemkit.core.kernels import accelerated
from vmemkit.memory import Memory

EXCHANGES = 10  # rounds of exchanging views in `best_cover`; it settles in two or three


@dataclass(frozen=True)
class Soft:
    """Views of similar poses lose votes."""

    fade: float = 0.7  # pose distance at which 37 % of the votes remain, in fields of view

    def __post_init__(self) -> None:
        if not self.fade > 0:
            raise ValueError(f"fade is a pose distance above 0, got {self.fade}")


@dataclass(frozen=True)
class Hard:
    """Views of similar poses are skipped."""

    threshold: float = 0.5  # pose distance below which poses are similar, in fields of view
    relax: float = 1.2  # divides the threshold until k views are found (released code)

    def __post_init__(self) -> None:
        if not (self.threshold >= 0 and self.relax > 1):
            raise ValueError(
                f"need threshold >= 0 and relax > 1, got {self.threshold} and {self.relax}"
            )


def ranked(score: Float[Tensor, " t"], distance: Float[Tensor, " t"]) -> list[int]:
    """Views by score, the greatest first; equals by pose distance, the nearest first."""
    near = torch.argsort(distance, stable=True)
    return near[torch.argsort(score[near], descending=True, stable=True)].tolist()


def suppress(
    memory: Memory, order: list[int], k: int, threshold: float, relax: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " t"]]:
    """Non-maximum suppression: take views in `order`, skipping poses similar to a chosen one's.

    Until k views are chosen, the threshold is divided by `relax` (> 1) and the skipped ones are tried
    again. Returns the chosen views and, for each view that was finally skipped, the chosen one that
    it resembles.
    """
    poses = memory.views.cameras.world_from_cam[order]
    apart = pose_distance(poses[:, None], poses[None])
    chosen: list[int] = []  # positions in `order`
    suppressor = [-1] * len(order)
    while len(chosen) < min(k, len(order)):
        for i in range(len(order)):
            if i in chosen or len(chosen) == k:
                continue
            similar = [j for j in chosen if apart[i, j] < threshold]
            suppressor[i] = similar[0] if similar else -1
            if not similar:
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
    """Soft non-maximum suppression (Bodla et al., ICCV 2017).

    k times the view with most votes is chosen, and every other view loses the share
    exp(-(pose distance / fade)^2) of its votes. Also returned: for each view that its votes alone
    would have chosen, the chosen view that it resembles most; -1 for all others.
    """
    poses = memory.views.cameras.world_from_cam
    remaining, chosen = votes.clone(), []
    apart = torch.zeros(0, len(votes), device=votes.device)
    for _ in range(k):
        winner = ranked(remaining, distance)[0]
        if remaining[winner] <= 0:
            break
        chosen.append(winner)
        apart = torch.cat([apart, pose_distance(poses, poses[winner])[None]])
        remaining = remaining * (1 - torch.exp(-((apart[-1] / fade) ** 2)))
    ids = view_ids(chosen, memory)
    missed = votes > votes[ids].amin()
    missed[ids] = False
    return ids, torch.where(missed, ids[apart.argmin(0)], -1)


def best_cover(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    distance: Float[Tensor, " t"],
    k: int,
) -> list[int]:
    """Up to k views by coordinate ascent: each in turn becomes the best one given all others, until
    none changes, at most EXCHANGES rounds. The first round is the greedy choice. Row e: `view` saw
    `surfel` with `quality`."""
    chosen: list[int] = []
    for _ in range(EXCHANGES):
        before = list(chosen)
        for i in range(k):
            others = torch.zeros_like(distance, dtype=torch.bool)
            others[chosen[:i] + chosen[i + 1 :]] = True
            gains = _gains(surfel, view, quality, pixels, others)
            winner = ranked(gains, distance)[0]
            current = gains[chosen[i]] if i < len(chosen) else 0.0
            if gains[winner] > current * (1 + 1e-6):  # strictly, so that the rounds end
                chosen[i : i + 1] = [winner]
        if chosen == before:
            break
    return chosen


@accelerated
def _gains(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    chosen: Bool[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """What each view would add to the chosen views."""
    known, best = chosen[view], torch.zeros_like(pixels)
    best.scatter_reduce_(0, surfel[known], quality[known], "amax")
    gain = (quality - best[surfel]).clamp(min=0) * pixels[surfel]
    return pixels.new_zeros(len(chosen)).index_add_(0, view, gain)


def view_ids(views: list[int], memory: Memory) -> Int[Tensor, " k"]:
    """View indices as a tensor on the memory's device."""
    return torch.tensor(views, dtype=torch.int64, device=memory.device)
