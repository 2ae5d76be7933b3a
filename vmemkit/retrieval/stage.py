"""Retrieval as a stage: run a policy and check what it returns."""

from __future__ import annotations

import torch
from torch import Tensor

from vmemkit.core import Cameras, check, check_row
from vmemkit.memory import Memory
from vmemkit.retrieval.policies import POLICIES
from vmemkit.retrieval.types import Policy, Retrieval, RetrievalConfig


def retrieve(
    memory: Memory,
    targets: Cameras,
    k: int = 4,
    policy: str | Policy = "coverage",
    config: RetrievalConfig | None = None,
) -> Retrieval:
    """Choose at most k views of the memory as context for the target cameras (m,).

    Fewer than k come back where fewer saw anything of the targets. `policy` is a name of POLICIES
    or any callable of that signature.
    Errors: ValueError for an empty memory, bad cameras, k outside 1..len(memory), an unknown
    policy, and (unless `config.blind` is "nearest") targets that see no surfel.
    """
    if len(memory) == 0:
        raise ValueError("the memory is empty: write a view first, e.g. vmemkit.begin(views)")
    if not 1 <= k <= len(memory):
        raise ValueError(f"need 1 <= k <= {len(memory)}, the views in memory; got k = {k}")
    check_row(targets, "targets")
    check(targets)
    if isinstance(policy, str) and policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(POLICIES)}")
    choose = POLICIES[policy] if isinstance(policy, str) else policy
    found = choose(memory, targets.to(memory.device), k, config or RetrievalConfig())
    if not isinstance(found, Retrieval):
        raise ValueError(f"a policy must return a Retrieval, got {found!r:.80}")
    _check_chosen(found.chosen, k, len(memory))
    return found


def _check_chosen(chosen: object, k: int, views: int) -> None:
    """Policies are anybody's. Errors: ValueError for what are not up to k different views."""
    if not isinstance(chosen, Tensor) or chosen.ndim != 1 or chosen.dtype != torch.int64:
        raise ValueError(f"a policy must choose an int64 tensor [k] of views, got {chosen!r}")
    ids = chosen.tolist()
    if not 1 <= len(set(ids)) == len(ids) <= k or not all(0 <= view < views for view in ids):
        raise ValueError(
            f"a policy must choose 1 to {k} different views of 0 to {views - 1}, got {ids}"
        )
