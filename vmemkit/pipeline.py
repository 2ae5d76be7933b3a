"""The pipeline: retrieve, generate, reconstruct, write, again and again. Only this file knows all stages.

`stages` runs the four stages on values and yields what each made; `step` runs them through; `walk`
chains steps along a trajectory and yields each as a `Step`. Progress, pictures and stopping belong to
the caller. All three take one frozen `WalkConfig`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vmemkit.core import Cameras, Views, camera_list, check_cameras, stream, whole
from vmemkit.core.kernels import Backend, backend
from vmemkit.generation import Encodes, Generation, Generator, Warp, states
from vmemkit.memory import Memory, write
from vmemkit.reconstruction import (
    Reconstructor,
    Report,
    SeesMemory,
    from_depth,
    reconstruct,
)
from vmemkit.retrieval import Policy, Retrieval, RetrievalConfig, find_policy, retrieve, with_config

STAGES = ("retrieve", "generate", "reconstruct", "write")


@dataclass(frozen=True)
class WalkConfig:
    """The settings of a walk. `walk(memory, path, k=2)` changes one of them for that walk."""

    generator: Generator = field(default_factory=Warp)
    reconstructor: Reconstructor = from_depth
    policy: str | Policy = "coverage"
    k: int = 4  # views of context at most; fewer while the memory holds fewer
    m: int = 4  # views that are generated in a step of a walk
    retrieval: RetrievalConfig | None = None  # replaces the policy's own, if it has one
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("k", "m", "seed"):
            object.__setattr__(self, name, whole(getattr(self, name), name))
        for name, needed in (("generator", callable), ("reconstructor", _is_reconstructor)):
            if not needed(getattr(self, name)):
                raise ValueError(
                    f"{name} must be a function, or a value that is called like one, got "
                    f"{getattr(self, name)!r:.60}"
                )
        if self.m < 1 or self.k < 1:
            raise ValueError(
                "a walk needs m >= 1 targets a step and k >= 1 context views, got "
                f"{self.m} and {self.k}"
            )


def _is_reconstructor(value: Any) -> bool:
    return callable(value) or isinstance(value, SeesMemory)


@dataclass(frozen=True, repr=False)
class Step:
    """One iteration, with everything that passed between the stages."""

    before: Memory  # as it was given, without the codes that the generator may have added
    targets: Cameras  # (m,)
    retrieval: Retrieval
    context: Views  # (k,) the chosen views
    generations: tuple[Generation, ...]  # what the generator yielded; the last one made the views
    views: Views  # (m,) generated images, with the depth that the reconstructor found
    reports: tuple[Report, ...]  # one for each view, from reconstructors that make them
    memory: Memory  # after the write
    seconds: dict[str, float]  # per stage
    backend: Backend  # the implementation that ran the memory's stages

    @property
    def note(self) -> str | None:
        """What the generator says of how it made the views, one sentence; None if nothing."""
        return self.generations[-1].note

    def __repr__(self) -> str:
        surfels = len(self.memory.surfels) - len(self.before.surfels)
        views = f"{len(self.before)}..{len(self.memory) - 1}"
        chosen = self.retrieval.chosen.tolist()
        return f"Step(views={views}, context={chosen}, surfels=+{surfels})"


@dataclass(frozen=True, repr=False)
class Stage:
    """What one stage of a step made. After the last stage, `step` holds the whole step."""

    name: str  # one of STAGES
    made: Any  # a Retrieval, Generation, Reconstruction or Memory, by the stage
    seconds: float
    step: Step | None = None

    def __repr__(self) -> str:
        return f"Stage({self.name}: {self.made})"


@runtime_checkable
class Recorder(Protocol):
    """What keeps the steps of a walk, such as `sessions.Session`."""

    def start(self, memory: Memory) -> object:
        """Make ready for steps from this memory. Errors: ValueError if it keeps another walk."""
        ...

    def add(self, step: Step, *, config: WalkConfig | None = None) -> object:
        """Keep a step, and the settings that it was taken with."""
        ...


def stages(
    memory: Memory,
    targets: Cameras,
    config: WalkConfig | None = None,
    rng: torch.Generator | None = None,
    **changes: Any,
) -> Iterator[Stage]:
    """One step, a stage at a time: retrieve, generate (once per `Generation`), reconstruct, write.

    Nothing is remembered before the last one, so a caller may stop anywhere.

    Arguments, defaults and errors are those of `step`.
    """
    return _stages(memory, targets, replace(config or WalkConfig(), **changes), rng)


def step(
    memory: Memory,
    targets: Cameras,
    config: WalkConfig | None = None,
    rng: torch.Generator | None = None,
    session: Recorder | None = None,
    **changes: Any,
) -> Step:
    """Generate the views of the target cameras (m,), and remember them; `session` keeps the step.

    `changes` are fields of `WalkConfig`, such as `policy="temporal"`. `rng` is the generator's
    randomness; without one it is that of a walk of `config.seed` here (`step_rng`).
    Errors: ValueError from the stages; `memory` stays as it was. As `Session.start` and `add`.
    """
    config = replace(config or WalkConfig(), **changes)
    if session is not None:
        session.start(memory)
    *_, last = stages(memory, targets, config, rng)
    assert last.step is not None
    if session is not None:
        session.add(last.step, config=config)
    return last.step


def walk(
    memory: Memory,
    trajectory: Cameras,
    config: WalkConfig | None = None,
    session: Recorder | None = None,
    **changes: Any,
) -> Iterator[Step]:
    """Steps of m views along `trajectory` (n,), each from the memory that the last one left.

    `changes` are fields of `WalkConfig`. Where the path turns away from all that is remembered, the
    nearest poses are retrieved, unless `retrieval` says otherwise. The same seed gives the same walk.
    `session` keeps each step before it is yielded; an empty one begins with `memory`.
    Errors: ValueError at once for a bad trajectory or bad settings, and for a memory that the session
    does not know; later from the stages; OSError where the session finds no room.
    """
    trajectory = check_cameras(camera_list(trajectory, "a trajectory"))
    config = replace(config or WalkConfig(), **changes)
    if config.retrieval is None:
        config = replace(config, policy=with_config(find_policy(config.policy), blind="nearest"))
    if session is not None:
        session.start(memory)
    return _steps(memory, trajectory, config, session)


def walks(
    memories: Memory | Sequence[Memory],
    trajectories: Sequence[Cameras],
    config: WalkConfig | None = None,
    **changes: Any,
) -> Iterator[tuple[Step | None, ...]]:
    """Several walks in turn, from one memory or from one each: the next step of every walk, None
    where a path has ended. Walks from one memory are forks of it: they share what it holds.

    Every walk is what `walk` alone makes of its memory and trajectory.
    Errors: ValueError for no trajectories or another number of memories, and as `walk`.
    """
    if isinstance(memories, Memory):
        memories = [memories] * len(trajectories)
    if len(trajectories) == 0 or len(memories) != len(trajectories):
        raise ValueError(
            f"walks need trajectories, and one memory or as many: got {len(memories)} memories for "
            f"{len(trajectories)} trajectories"
        )
    started = [
        walk(memory, trajectory, config, **changes)
        for memory, trajectory in zip(memories, trajectories, strict=True)
    ]
    return itertools.zip_longest(*started)


def step_rng(memory: Memory, seed: int) -> torch.Generator:
    """The random generator of the step that goes on from `memory` in a walk of this seed.

    It depends on nothing that was drawn before. So a walk that is resumed, or undone and redone,
    makes the same views.
    """
    return stream(seed, len(memory))


def _steps(
    memory: Memory, trajectory: Cameras, config: WalkConfig, session: Recorder | None
) -> Iterator[Step]:
    for start in range(0, len(trajectory), config.m):
        targets = trajectory[start : start + config.m]
        done = step(memory, targets, config, step_rng(memory, config.seed), session)
        yield done
        memory = done.memory


class _Clock:
    """Seconds per stage, without the time that a caller spends between two of them."""

    def __init__(self) -> None:
        self.seconds, self._start = dict.fromkeys(STAGES, 0.0), time.perf_counter()

    def resume(self) -> None:
        self._start = time.perf_counter()

    def lap(self, name: str) -> float:
        passed = time.perf_counter() - self._start
        self.seconds[name] += passed
        self.resume()
        return passed


def _stages(
    before: Memory, targets: Cameras, config: WalkConfig, rng: torch.Generator | None
) -> Iterator[Stage]:
    targets = camera_list(targets, "targets")
    rng, clock = rng or step_rng(before, config.seed), _Clock()
    k = max(1, min(config.k, len(before)))
    retrieval = retrieve(before, targets, k, config.policy, config.retrieval)
    yield Stage("retrieve", retrieval, clock.lap("retrieve"))
    clock.resume()
    memory = _encoded(before, config.generator)
    context, generations = memory.views[retrieval.chosen], []
    for generation in _generations(config.generator, context, targets, rng):
        generations.append(generation)
        yield Stage("generate", generation, clock.lap("generate"))
        clock.resume()
    if not generations:
        raise ValueError("the generator made nothing: it must yield at least one Generation")
    last = generations[-1]
    if len(last.image) != len(targets):
        raise ValueError(
            f"the generator must make a view for each of {len(targets)} targets, got {last}"
        )
    geometry = reconstruct(config.reconstructor, memory, last.views(targets))
    yield Stage("reconstruct", geometry, clock.lap("reconstruct"))
    clock.resume()
    after = write(memory, geometry.views, geometry.state)
    seconds = clock.lap("write")
    whole = Step(
        before=before,
        targets=targets,
        retrieval=retrieval,
        context=context,
        generations=tuple(generations),
        views=geometry.views,
        reports=geometry.reports,
        memory=after,
        seconds=clock.seconds,
        backend=backend(memory.device),
    )
    yield Stage("write", after, seconds, whole)


def _generations(
    generator: Generator, context: Views, targets: Cameras, rng: torch.Generator
) -> Iterator[Generation]:
    """What the generator made. Images without depth get that of `Warp`, as by `with_depth`."""
    geometry = None
    for state in states(generator(context, targets, rng), context, targets):
        if isinstance(state, Tensor):
            if geometry is None:
                *_, geometry = Warp()(context, targets, rng)
            state = Generation(state, geometry.depth, geometry.confidence)
        yield state


def _encoded(memory: Memory, generator: Generator) -> Memory:
    """The memory with the codes that the generator needs, so that it makes each only once."""
    if not isinstance(generator, Encodes) or len(memory) == 0:
        return memory
    views = memory.views
    encoded = generator.encode(views)
    return memory if encoded is views else memory.with_codes(encoded)
