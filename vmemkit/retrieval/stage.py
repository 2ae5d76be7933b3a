"""Retrieval as a stage: run a policy, and check what it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vmemkit.core import Cameras, check_camera_list, check_cameras
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

    Fewer than k come back where fewer saw anything of the targets. `policy` is a name of POLICIES, a
    policy such as `Coverage(sharpness=0.2)`, or any callable `(memory, targets, k) -> Retrieval`.
    `config` replaces the policy's own, if it has one.
    Errors: ValueError for an empty memory, bad cameras, k outside 1..len(memory), an unknown
    policy, and (unless `config.blind` is "nearest") targets that see no surfel.
    """
    if len(memory) == 0:
        raise ValueError("the memory is empty: write a view first, e.g. vmemkit.begin(views)")
    if not 1 <= k <= len(memory):
        raise ValueError(f"need 1 <= k <= {len(memory)}, the views in memory; got k = {k}")
    check_camera_list(targets, "targets")
    check_cameras(targets)
    policy = find_policy(policy)
    if config is not None:
        policy = with_config(policy, **vars(config))
    retrieval = policy(memory, targets.to(memory.device), k)
    if not isinstance(retrieval, Retrieval):
        raise ValueError(f"a policy must return a Retrieval, got {retrieval!r:.80}")
    _check_chosen(retrieval.chosen, k, len(memory))
    return retrieval


def find_policy(policy: str | Policy) -> Policy:
    """The policy of that name, or the policy itself. Errors: ValueError for an unknown name."""
    if not isinstance(policy, str):
        return policy
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(POLICIES)}")
    return POLICIES[policy]


def with_config(policy: Policy, **changes: Any) -> Policy:
    """The policy with fields of its `RetrievalConfig` changed; itself if it has none."""
    config = getattr(policy, "config", None)
    if not isinstance(config, RetrievalConfig):
        return policy
    return replace(policy, config=replace(config, **changes))  # type: ignore[type-var]


def _check_chosen(chosen: object, k: int, views: int) -> None:
    """Anybody may write a policy. Errors: ValueError unless it chose 1 to k different views."""
    if not isinstance(chosen, Tensor) or chosen.ndim != 1 or chosen.dtype != torch.int64:
        raise ValueError(f"a policy must choose an int64 tensor [k] of views, got {chosen!r}")
    ids = chosen.tolist()
    if not 1 <= len(set(ids)) == len(ids) <= k or not all(0 <= view < views for view in ids):
        raise ValueError(
            f"a policy must choose 1 to {k} different views of 0 to {views - 1}, got {ids}"
        )
