"""Replicas: processes that hold the generator and make windows, as a deployment of Ray Serve.

In: a function that loads the generator. Out: a deployment whose `states` turns a window's frame into
the frames of its states. Windows that arrive while a batch runs become the next batch. Only this file
and `server.py` need Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from ray import serve

from vmemkit.generation import Generator
from vmemkit.generation.remote import Limits, error_frame, read_window
from vmemkit.serving.batches import Frames, Job, run_jobs

GATHERING = 0.02  # seconds that a batch waits for more windows

batched: Any = serve.batch(max_batch_size=1, batch_wait_timeout_s=GATHERING)


class Replica:
    """One generator in a process of its own, with the GPU that Ray gave it."""

    def __init__(self, load: Callable[[], Generator], at_once: int, limits: Limits) -> None:
        self.generator, self.limits = load(), limits
        self.idle = asyncio.Event()
        self.idle.set()
        # One thread, so that windows are made one batch at a time and the event loop stays free.
        self.thread = ThreadPoolExecutor(1)
        self.together.set_max_batch_size(at_once)

    async def states(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The frames of a window's states, and of its end. Closing it cancels the window."""
        try:
            job = Job(await asyncio.to_thread(read_window, body, self.limits))
        except ValueError as error:
            yield error_frame(error)
            return
        # What Serve has put into a batch stays in it. So windows wait here while a batch runs, and
        # all that have come until it ends make the next one.
        await self.idle.wait()
        try:
            async for part in self.together(job):
                if part is not None:
                    yield part
        finally:
            job.gone = True

    @batched
    async def together(self, jobs: list[Job]) -> AsyncGenerator[Frames, None]:
        """The frames of several windows, each at its place; Serve gathers them from calls with one."""
        self.idle.clear()
        try:
            async with aclosing(run_jobs(self.generator, jobs, self.thread)) as made:
                async for frames in made:
                    yield frames
        finally:
            self.idle.set()
