"""A batch: several windows that one generator makes, together where it can.

In: jobs. Out: lists with the next frame of each job, or None, until all have ended. A generator that
has `together` makes windows of one image size as one batch; any other makes one after the other. A job
whose client is gone is left out, and disturbs none of the others. This file needs no Ray.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

from vmemkit.generation import Asked, Batches, Generator
from vmemkit.generation.remote import error_frame, frame, rng_frame, state_frame

Frames = list[bytes | type[StopIteration] | None]  # the next frame of each job
BEGUN = frame("wait", message="the window is being made")
log = logging.getLogger(__name__)


@dataclass
class Job:
    """A window to make. `gone` becomes true when nobody waits for it any more."""

    window: Asked
    gone: bool = False

    def asked(self) -> Asked:
        """The window with an rng of its own, so that it can be made again."""
        context, targets, rng = self.window
        copy = torch.Generator()
        copy.set_state(rng.get_state())
        return context, targets, copy


async def run_jobs(
    generator: Generator, jobs: Sequence[Job], thread: Executor
) -> AsyncGenerator[Frames, None]:
    """The frames of the jobs as they come, each at the place of its job: news, states, and "done" or
    "error". Where a job has ended, StopIteration follows. All work is done in `thread`.
    """
    loop = asyncio.get_running_loop()
    for group in _groups(generator, jobs):
        made = _made(generator, jobs, group)
        while (new := await loop.run_in_executor(thread, next, made, None)) is not None:
            yield [new.get(i) for i in range(len(jobs))]
        yield [StopIteration if i in group else None for i in range(len(jobs))]


def _groups(generator: Generator, jobs: Sequence[Job]) -> list[list[int]]:
    """The numbers of the jobs that are made together: those of one image size, if the generator can."""
    if not isinstance(generator, Batches):
        return [[i] for i in range(len(jobs))]
    sizes: dict[tuple[int, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        context, _, _ = job.window
        sizes.setdefault(tuple(context.image.shape[2:]), []).append(i)
    return list(sizes.values())


def _made(
    generator: Generator, jobs: Sequence[Job], group: Sequence[int]
) -> Iterator[dict[int, bytes]]:
    """New frames of the jobs of a group, by their numbers."""
    there = [i for i in group if not jobs[i].gone]
    if len(there) > 1 and isinstance(generator, Batches):
        yield dict.fromkeys(there, BEGUN)
        sent = False
        try:
            for new in _made_together(generator, jobs, there):
                yield new
                sent = sent or bool(new)
            return
        except Exception as error:
            if sent:
                yield dict.fromkeys(there, _error(error))
                return
            # One of them may be to blame, or all are too much at once: each is made alone.
    for i in there:
        yield from _made_alone(generator, jobs[i], i)


def _made_together(
    generator: Batches, jobs: Sequence[Job], there: Sequence[int]
) -> Iterator[dict[int, bytes]]:
    asked = [jobs[i].asked() for i in there]
    for states in generator.together(asked):
        if all(jobs[i].gone for i in there):
            return
        pairs = zip(there, states, strict=True)
        yield {i: state_frame(state) for i, state in pairs if state is not None}
    yield {i: rng_frame(rng) for i, (_, _, rng) in zip(there, asked, strict=True)}


def _made_alone(generator: Generator, job: Job, number: int) -> Iterator[dict[int, bytes]]:
    if job.gone:
        return
    yield {number: BEGUN}
    context, targets, rng = job.asked()
    try:
        for state in generator(context, targets, rng):
            if job.gone:
                return
            yield {number: state_frame(state)}
    except Exception as error:
        yield {number: _error(error)}
    else:
        yield {number: rng_frame(rng)}


def _error(error: Exception) -> bytes:
    """What the client hears: what it asked wrongly, and of other failures only that there was one."""
    if isinstance(error, ValueError):
        return error_frame(error)
    log.error("a window failed", exc_info=error)
    return error_frame(f"the generator failed ({type(error).__name__}); the server logged it")
