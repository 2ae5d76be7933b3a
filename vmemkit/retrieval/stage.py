"""Retrieval as a stage: run a policy, and check what it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vmemkit.core import Cameras, camera_list, check_cameras, whole
from vmemkit.memory import Memory
from vmemkit.retrieval.policies import POLICIES, mean_distance, none_suppressed
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
    policy such as `Coverage(sharpness=0.2)`, or any callable `(memory, targets, k)` that returns
    view indices, such as [3, 0] (a list, an array or a tensor), or a whole `Retrieval`. `config`
    replaces the policy's own, if it has one ("paper" is the paper's with `query="mean"` only).
    Errors: ValueError for an empty memory, bad cameras, k outside 1..len(memory), an unknown
    policy, and (unless `config.blind` is "nearest") targets that see no surfel.
    """
    if len(memory) == 0:
        raise ValueError("the memory is empty: write a view first, e.g. vmemkit.begin(views)")
    if not 1 <= (k := whole(k, "k")) <= len(memory):
        raise ValueError(f"need 1 <= k <= {len(memory)}, the views in memory; got k = {k}")
    targets = check_cameras(camera_list(targets, "targets"))
    policy = find_policy(policy)
    if config is not None:
        policy = with_config(policy, **vars(config))
    targets = targets.to(memory.device)
    made = policy(memory, targets, k)
    if not isinstance(made, Retrieval):
        made = _from_indices(policy_name(policy), made, memory, targets)
    _check_chosen(made.chosen, k, len(memory))
    return made


def policy_name(policy: str | Policy) -> str:
    """What a policy is called: its name in POLICIES, that of the function, or that of its class."""
    if isinstance(policy, str):
        return policy
    return getattr(policy, "__name__", type(policy).__name__)


def find_policy(policy: str | Policy) -> Policy:
    """The policy of that name, or the policy itself.

    Errors: ValueError for an unknown name, and for what cannot be called with (memory, targets, k).
    """
    if isinstance(policy, type):
        raise ValueError(f"{policy.__name__} is a class: pass a value, such as {policy.__name__}()")
    if not isinstance(policy, str):
        if not callable(policy):
            raise ValueError(
                f"a policy is one of {', '.join(POLICIES)}, or a function of (memory, targets, k), "
                f"got {policy!r:.80}"
            )
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


def _from_indices(name: str, made: Any, memory: Memory, targets: Cameras) -> Retrieval:
    """The retrieval of a policy that returned view indices only.

    Errors: ValueError for anything but whole numbers.
    """
    try:
        chosen = torch.as_tensor(made, device=memory.device)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.zeros(0)
    if chosen.ndim != 1 or chosen.dtype == torch.bool or chosen.is_floating_point():
        raise ValueError(
            f"the policy {name} must return indices of views, such as [3, 0], or a Retrieval, "
            f"got {made!r:.80}"
        )
    distance = mean_distance(memory, targets)
    votes = torch.zeros_like(distance)
    return Retrieval(name, chosen.long(), votes, distance, none_suppressed(votes), targets, None)


def _check_chosen(chosen: object, k: int, views: int) -> None:
    """Anybody may write a policy. Errors: ValueError unless it chose 1 to k different views."""
    if not isinstance(chosen, Tensor) or chosen.ndim != 1 or chosen.dtype != torch.int64:
        raise ValueError(
            f"a policy must choose an int64 tensor [k] of views, got {chosen!r:.80}: "
            "such as torch.tensor([3, 0])"
        )
    ids = chosen.tolist()
    if not 1 <= len(set(ids)) == len(ids) <= k or not all(0 <= view < views for view in ids):
        raise ValueError(
            f"a policy must choose 1 to {k} different views of 0 to {views - 1}, got {ids}"
        )
