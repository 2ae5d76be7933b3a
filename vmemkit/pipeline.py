"""A walk: retrieve, generate, reconstruct, write, again and again. The only file that knows all stages.

`stages` runs the four stages on values and hands over what each made; `step` runs them through;
`walk` chains steps along a trajectory and yields each as a `Step`, so that progress, pictures and
stopping belong to the caller.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vmemkit.core import Cameras, PointMaps, Views, check, check_row, stream
from vmemkit.core.kernels import Backend, backend
from vmemkit.generation import Encodes, Generation, Generator, Warp
from vmemkit.memory import Memory, write
from vmemkit.reconstruction import Reconstruction, Reconstructor, Report, from_depth, reconstruct
from vmemkit.retrieval import Policy, Retrieval, RetrievalConfig, retrieve

STAGES = ("retrieve", "generate", "reconstruct", "write")


@dataclass(frozen=True, repr=False)
class Step:
    """One iteration, with everything that passed between the stages."""

    before: Memory  # as it was given, without what the generator's encoder may have added
    targets: Cameras  # (m,)
    retrieval: Retrieval
    context: Views  # (k,) the chosen views
    states: tuple[Generation, ...]  # of the generator; the last made the views
    views: Views  # (m,) generated
    maps: PointMaps  # (m,) their geometry
    reports: tuple[Report, ...]  # of each, from a reconstructor that makes them
    memory: Memory  # after the write
    seconds: dict[str, float]  # per stage of STAGES
    backend: Backend  # what ran the memory's stages

    def __repr__(self) -> str:
        surfels = len(self.memory.surfels) - len(self.before.surfels)
        views = f"{len(self.before)}..{len(self.memory) - 1}"
        chosen = self.retrieval.chosen.tolist()
        return f"Step(views={views}, context={chosen}, surfels=+{surfels})"


@dataclass(frozen=True, repr=False)
class Stage:
    """What one stage of a step made. The last one brings the whole step."""

    name: str  # one of STAGES
    made: Retrieval | Generation | Reconstruction | Memory
    seconds: float
    step: Step | None = None

    def __repr__(self) -> str:
        return f"Stage({self.name}: {self.made})"


def stages(
    memory: Memory,
    targets: Cameras,
    generator: Generator | None = None,
    reconstructor: Reconstructor = from_depth,
    policy: str | Policy = "coverage",
    k: int = 4,
    config: RetrievalConfig | None = None,
    rng: torch.Generator | None = None,
) -> Iterator[Stage]:
    """One step, a stage at a time: retrieve, generate (once per state of the generator),
    reconstruct, write. Nothing is remembered before the last one, so a caller may stop anywhere.

    Arguments, defaults and errors are those of `step`.
    """
    generator, rng = generator or Warp(), rng or torch.Generator().manual_seed(0)
    clock, seconds = time.perf_counter(), dict.fromkeys(STAGES, 0.0)

    def lap(name: str) -> float:
        nonlocal clock
        passed, clock = time.perf_counter() - clock, time.perf_counter()
        seconds[name] += passed
        return passed

    retrieval = retrieve(memory, targets, max(1, min(k, len(memory))), policy, config)
    yield Stage("retrieve", retrieval, lap("retrieve"))
    clock = time.perf_counter()  # what the caller did meanwhile is not ours
    before, memory = memory, _encoded(memory, generator)
    context, states = memory.views[retrieval.chosen], []
    for state in generator(context, targets, rng):
        states.append(state)
        yield Stage("generate", state, lap("generate"))
        clock = time.perf_counter()
    if not states:
        raise ValueError("the generator made nothing: it must yield at least one Generation")
    if len(states[-1].image) != len(targets):
        raise ValueError(
            f"the generator must make a view for each of {len(targets)} targets, got {states[-1]}"
        )
    views = states[-1].views(targets)
    found = reconstruct(reconstructor, memory, views)
    yield Stage("reconstruct", found, lap("reconstruct"))
    clock = time.perf_counter()
    after = write(memory, views, found.maps, found.state)
    passed = lap("write")
    made = (before, targets, retrieval, context, tuple(states), views, found.maps, found.reports)
    whole = Step(*made, after, seconds, backend(memory.device))
    yield Stage("write", after, passed, whole)


def step(
    memory: Memory,
    targets: Cameras,
    generator: Generator | None = None,
    reconstructor: Reconstructor = from_depth,
    policy: str | Policy = "coverage",
    k: int = 4,
    config: RetrievalConfig | None = None,
    rng: torch.Generator | None = None,
) -> Step:
    """Generate the views of the target cameras (m,) and remember them.

    At most k views are retrieved, fewer while the memory holds fewer. Defaults: `Warp()`, the
    generator's own depth, and a generator seeded with 0.
    Errors: ValueError from the stages; `memory` stays as it was.
    """
    *_, last = stages(memory, targets, generator, reconstructor, policy, k, config, rng)
    return last.step


def walk(
    memory: Memory,
    trajectory: Cameras,
    generator: Generator | None = None,
    reconstructor: Reconstructor = from_depth,
    policy: str | Policy = "coverage",
    k: int = 4,
    m: int = 4,
    config: RetrievalConfig | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Steps of m views along `trajectory` (n,), each from the memory that the last one left.

    Where the path turns away from all that is remembered, the nearest poses are retrieved, unless
    `config` says otherwise. The same seed gives the same walk (`step_rng`).
    Errors: ValueError at once for a bad trajectory, m or k; later from the stages.
    """
    check_row(trajectory, "a trajectory")
    if m < 1 or k < 1:
        raise ValueError(
            f"a walk needs m >= 1 targets a step and k >= 1 context views, got {m}, {k}"
        )
    check(trajectory)
    config = config or replace(RetrievalConfig(), blind="nearest")
    return _steps(memory, trajectory, generator, reconstructor, policy, k, m, config, seed)


def walks(
    memories: Memory | Sequence[Memory], trajectories: Sequence[Cameras], **how: Any
) -> Iterator[tuple[Step | None, ...]]:
    """Several walks in turn, from one memory or from one each: the next step of every walk, None
    where a path has ended. Walks from one memory are forks of it: what it holds is there once.

    `how` is as for `walk`, and every walk is what `walk` alone makes of its memory and trajectory.
    Errors: ValueError for no trajectories or another number of memories, and as `walk`.
    """
    if isinstance(memories, Memory):
        memories = [memories] * len(trajectories)
    if len(trajectories) == 0 or len(memories) != len(trajectories):
        raise ValueError(
            f"walks need trajectories, and one memory or as many: got {len(memories)} memories for "
            f"{len(trajectories)} trajectories"
        )
    started = [walk(*start, **how) for start in zip(memories, trajectories, strict=True)]
    return itertools.zip_longest(*started)


def step_rng(memory: Memory, seed: int) -> torch.Generator:
    """The random generator of the step that goes on from `memory` in a walk of this seed.

    Nothing that was drawn before matters, so a walk that is taken up again, or undone and redone,
    makes the same views.
    """
    return stream(seed, len(memory))


def _steps(memory, trajectory, generator, reconstructor, policy, k, m, config, seed):
    for start in range(0, len(trajectory), m):
        targets, rng = trajectory[start : start + m], step_rng(memory, seed)
        done = step(memory, targets, generator, reconstructor, policy, k, config, rng)
        yield done
        memory = done.memory


def _encoded(memory: Memory, generator: Generator) -> Memory:
    """The memory with the codes that the generator needs, so that it makes each only once."""
    if not isinstance(generator, Encodes) or len(memory) == 0:
        return memory
    views = memory.views
    encoded = generator.encode(views)
    return memory if encoded is views else memory.with_codes(encoded)
