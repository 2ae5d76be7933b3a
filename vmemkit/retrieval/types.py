"""What a retrieval policy takes and returns, and the settings that all policies share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Splat, SplatConfig, Views
from vmemkit.memory import Memory


@dataclass(frozen=True)
class RetrievalConfig:
    """How the memory is rendered from the target cameras. Each policy has one as `config`."""

    rows: int = 72  # height of the canvas in pixels; its width follows the images'
    query: Literal["all", "mean", "last"] = (
        "all"  # rendered from all (ours) | mean (paper) | last (code)
    )
    splatting: SplatConfig = field(default_factory=SplatConfig)  # how the surfels are drawn
    blind: Literal["raise", "nearest"] = "raise"  # no surfel in sight: error | the nearest poses

    def __post_init__(self) -> None:
        if self.query not in ("all", "mean", "last") or self.blind not in ("raise", "nearest"):
            raise ValueError(
                "query is one of all, mean, last and blind one of raise, nearest; got "
                f"{self.query!r} and {self.blind!r}"
            )
        if self.rows < 1:
            raise ValueError(f"the canvas needs at least 1 row, got {self.rows}")


@dataclass(frozen=True, repr=False)
class Retrieval:
    """The outcome of a policy over a memory of t views."""

    policy: str
    chosen: Int[Tensor, " k"]  # view indices, in the order in which they were chosen
    votes: Float[Tensor, " t"]  # what the policy ranked by: the greater the better
    distance: Float[Tensor, " t"]  # mean pose distance to the query cameras
    suppressed_by: Int[
        Tensor, " t"
    ]  # the chosen view that made the policy skip this one; -1 = none
    query: Cameras  # (m,) the cameras that the memory was rendered from
    splat: Splat | None  # what they see; None for policies that render nothing

    @property
    def unit(self) -> str:
        """What `votes` counts: "votes" of surfels, or "score" if the policy looked at none."""
        return "score" if self.splat is None else "votes"

    def __repr__(self) -> str:
        return f"Retrieval({self.policy}: {self.chosen.tolist()} of {len(self.votes)} views)"


@runtime_checkable
class Policy(Protocol):
    """Any function or value that chooses at most k views for target cameras (m,). It returns their
    indices in the order of choice, or a `Retrieval`, which also says why."""

    def __call__(
        self, memory: Memory, targets: Cameras, k: int
    ) -> Retrieval | Sequence[int] | Tensor: ...


@runtime_checkable
class Visibility(Protocol):
    """What the oracle asks of a scene."""

    def render(self, cameras: Cameras, height: int, width: int) -> Views: ...

    def visible(
        self, points_world: Float[Tensor, "n 3"], cameras: Cameras
    ) -> Bool[Tensor, "t n"]: ...


@runtime_checkable
class Recorded(Protocol):
    """A scene that renders at its recorded size only, such as a `Capture`."""

    @property
    def recorded_size(self) -> tuple[int, int]: ...  # height and width in pixels
