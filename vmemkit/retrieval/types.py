"""What a retrieval policy takes and returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Splat, SplatConfig
from vmemkit.memory import Memory


@dataclass(frozen=True)
class RetrievalConfig:
    """What the policies look with and how they choose; each reads what it needs."""

    rows: int = 72  # height of the canvas on which the memory is read; width follows the images'
    query: Literal["all", "mean", "last"] = "all"  # which target cameras vote: ours | paper | code
    splat: SplatConfig = field(default_factory=SplatConfig)
    vote: Literal["shared", "frequency"] = "shared"  # one vote a pixel | one a view (paper)
    suppression: Literal["soft", "hard"] = "soft"  # fade like views | skip them
    fade: float = 0.7  # soft: pose distance over which resemblance fades, in fields of view
    threshold: float = 0.5  # hard: pose distance of views that resemble each other, likewise
    relax: float = 1.2  # hard: the threshold is divided by this until k are found (released code)
    sharpness: float = 0.1  # coverage: share of a pixel's worth that lies in being seen sharply
    generated: float = 0.9  # coverage: worth of a generated view against a given one
    blind: Literal["raise", "nearest"] = "raise"  # targets see no surfel: fail | nearest poses
    seed: int = 0  # random


@dataclass(frozen=True, repr=False)
class Retrieval:
    """The outcome of a policy over a memory of t views."""

    policy: str
    chosen: Int[Tensor, " k"]  # view indices, in the order in which they were chosen
    votes: Float[Tensor, " t"]  # what the policy ranked by: the greater the better
    distance: Float[Tensor, " t"]  # pose distance to the query cameras (mean over them)
    suppressed_by: Int[Tensor, " t"]  # chosen view because of which a view was skipped, -1 = none
    query: Cameras  # (m,) the cameras that the memory was read from
    splat: Splat | None  # what they see; None for policies that do not look

    def __repr__(self) -> str:
        return f"Retrieval({self.policy}: {self.chosen.tolist()} of {len(self.votes)} views)"


@runtime_checkable
class Policy(Protocol):
    def __call__(
        self, memory: Memory, targets: Cameras, k: int, config: RetrievalConfig
    ) -> Retrieval: ...


@runtime_checkable
class Visibility(Protocol):
    """What the oracle asks of a scene."""

    def render(self, cameras: Cameras, height: int, width: int): ...

    def visible(
        self, points_world: Float[Tensor, "n 3"], cameras: Cameras
    ) -> Bool[Tensor, "t n"]: ...
