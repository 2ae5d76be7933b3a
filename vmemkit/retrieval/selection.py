"""Selection: from votes to k views.

In: votes, or who saw what how well. Out: views, by votes with suppression of similar poses, or by
coverage. The policies are made of these parts, and policies of your own may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
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


def ranked(score: Float[Tensor, " t"], distance: Float[Tensor, " t"]) -> Int[Tensor, " t"]:
    """Views by score, the greatest first; equals by pose distance, the nearest first."""
    near = torch.argsort(distance, stable=True)
    return near[torch.argsort(score[near], descending=True, stable=True)]


def suppress(
    memory: Memory, order: Int[Tensor, " n"], k: int, threshold: float, relax: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " t"]]:
    """Non-maximum suppression: take views in `order`, skipping poses similar to a chosen one's.

    Until k views are chosen, the threshold is divided by `relax` (> 1) and the skipped ones are tried
    again. Returns the chosen views and, for each view that was finally skipped, the chosen one that
    it resembles. Time grows with k times the number of views, memory with their number.
    """
    # On the CPU, because each choice decides which view is looked at next.
    poses, ids, n = memory.views.cameras.world_from_cam[order].cpu(), order.cpu(), len(order)
    chosen: list[int] = []  # positions in `order`, as all indices here
    rounds: list[tuple[float, int]] = []  # threshold, and how many were chosen after it
    nearest = poses.new_full((n,), torch.inf)  # least pose distance of each view to a chosen one
    while len(chosen) < min(k, n):
        while len(chosen) < min(k, n) and (free := nearest >= threshold).any():
            chosen.append(int(free.int().argmax()))
            nearest = torch.minimum(nearest, pose_distance(poses, poses[chosen[-1]]))
            nearest[chosen[-1]] = -torch.inf
        rounds.append((threshold, len(chosen)))
        threshold = threshold / relax if threshold > 1e-5 else 0.0
    # The last round may end before the last view: the views behind it were skipped in the one before.
    end = chosen[-1] if 0 < k == len(chosen) else n
    (before, count), (last, _) = [(0.0, 0), (0.0, 0), *rounds][-2:]
    suppressor = torch.cat(
        [
            _first_similar(poses[:end], poses[chosen], last),
            _first_similar(poses[end:], poses[chosen[:count]], before),
        ]
    )
    suppressor[chosen] = -1
    skipped = suppressor >= 0
    suppressed_by = torch.full((len(memory),), -1)
    suppressed_by[ids[skipped]] = ids[chosen][suppressor[skipped]]
    return ids[chosen].to(memory.device), suppressed_by.to(memory.device)


def _first_similar(
    poses: Float[Tensor, "n 4 4"], chosen: Float[Tensor, "c 4 4"], threshold: float
) -> Int[Tensor, " n"]:
    """Per pose the first of the chosen ones that is nearer than `threshold`; -1 = none."""
    first = torch.full((len(poses),), -1)
    for i in reversed(range(len(chosen))):  # one by one, so that no distances are kept
        first[pose_distance(poses, chosen[i]) < threshold] = i
    return first


def suppress_softly(
    memory: Memory, votes: Float[Tensor, " t"], distance: Float[Tensor, " t"], k: int, fade: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " t"]]:
    """Soft non-maximum suppression (Bodla et al., ICCV 2017).

    k times the view with most votes is chosen, and every other view loses the share
    exp(-(pose distance / fade)^2) of its votes. Also returned: for each view that its votes alone
    would have chosen, the chosen view that it resembles most; -1 for all others.
    """
    poses, remaining = memory.views.cameras.world_from_cam, votes
    near, winners, left = torch.argsort(distance, stable=True), [], []
    for _ in range(k):
        winner = _best(remaining, near)
        winners.append(winner)
        left.append(remaining[winner] > 0)
        apart = pose_distance(poses, poses[winner])
        remaining = remaining * (1 - torch.exp(-((apart / fade) ** 2)))
    ids = torch.cat(winners)[torch.cat(left)]
    apart = pose_distance(poses[ids][:, None], poses[None])
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
    cost: Float[Tensor, " t"] | float = 0.0,
) -> Int[Tensor, " c"]:
    """Up to k views by coordinate ascent: each in turn becomes the best one given all others, until
    none changes, at most EXCHANGES rounds. The first round is the greedy choice. Row e: `view` saw
    `surfel` with `quality`. A view is taken only if it adds more than its `cost`, in pixels; the
    first one costs nothing."""
    near, views = torch.argsort(distance, stable=True), len(distance)
    chosen = torch.full((k,), views, device=distance.device)  # `views` stands for none
    for _ in range(EXCHANGES):
        before = chosen.clone()
        for i in range(k):
            others = torch.zeros(views + 1, dtype=torch.bool, device=distance.device)
            others[torch.cat([chosen[:i], chosen[i + 1 :]])] = True
            gains = _gains(surfel, view, quality, pixels, others[:views])
            gains = gains - cost * others[:views].any()
            winner = _best(gains, near)
            current = chosen[i : i + 1]
            worth = torch.nn.functional.pad(gains, (0, 1))[current].clamp(min=0)  # 0 for none
            better = gains[winner] > worth * (1 + 1e-6)  # strictly, so that the rounds end
            current = torch.where(worth > 0, current, views)
            chosen[i : i + 1] = torch.where(better, winner, current)
        if torch.equal(chosen, before):  # a GPU waits here only, once a round
            break
    return chosen[chosen < views]


def largest_cover(
    visible: Bool[Tensor, "t n"], distance: Float[Tensor, " t"], k: int
) -> Int[Tensor, " c"]:
    """The k views that see most of n points, exactly; of equally good sets that of `best_cover`.

    Where `best_cover` leaves something out, an integer program decides (HiGHS, through SciPy). It has
    a variable per view and per group of points with the same views: a tenth of a second for 50 views,
    some seconds for 400. Fewer than k views come back where fewer see all that can be seen.
    """
    view, point = visible.nonzero(as_tuple=True)
    quality, pixels = distance.new_ones(len(view)), distance.new_ones(visible.shape[1])
    found = best_cover(point, view, quality, pixels, distance, k)
    seen = int(visible[found].any(0).sum())
    if seen == int(visible.any(0).sum()):
        return found
    groups, sizes = torch.unique(visible.cpu(), dim=1, return_counts=True)
    best = _solve_cover(groups.numpy(), sizes.numpy(), k).to(visible.device)
    if int(visible[best].any(0).sum()) <= seen:
        return found
    return best[ranked(visible[best].sum(1).float(), distance[best])]


def _solve_cover(groups: NDArray[np.bool_], sizes: NDArray[np.int64], k: int) -> Int[Tensor, " c"]:
    """At most k views (rows of `groups`) that cover most, where group j counts `sizes[j]`.

    A group is covered up to the number of its chosen views, and at most once. Errors: RuntimeError
    if the solver gives up.
    """
    # Imported late: only the oracle needs it.
    from scipy.optimize import Bounds, LinearConstraint, milp

    views, count = groups.shape
    is_covered = np.hstack([-groups.T.astype(float), np.eye(count)])
    is_chosen = np.concatenate([np.ones(views), np.zeros(count)])
    solution = milp(
        np.concatenate([np.zeros(views), -sizes.astype(float)]),
        integrality=is_chosen,
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(is_covered, ub=0), LinearConstraint(is_chosen, ub=k)],
        options={"mip_rel_gap": 0.0},
    )
    if not solution.success:
        raise RuntimeError(f"no largest cover was found: {solution.message}")
    return torch.from_numpy(np.flatnonzero(solution.x[:views] > 0.5))


def _best(score: Float[Tensor, " t"], near: Int[Tensor, " t"]) -> Int[Tensor, 1]:
    """The view of the greatest score; of equals the first in `near`."""
    return near[score[near].argmax(0, keepdim=True)]


@accelerated
def _gains(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    chosen: Bool[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """What each view would add to the chosen views."""
    known = torch.where(chosen[view], quality, 0)
    best = torch.zeros_like(pixels).scatter_reduce_(0, surfel, known, "amax")
    gain = (quality - best[surfel]).clamp(min=0) * pixels[surfel]
    return pixels.new_zeros(len(chosen)).index_add_(0, view, gain)
