"""Cells on Ray: the work of the pool of processes, on this machine or on many.

In: cells and the function that gives a cell's row. Out: each cell with its row, as they finish. The
rows come back to the process that asked, so the machines share no disk. Only this file imports Ray.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

LOCAL = "local"  # the address that starts a Ray of our own
RETRIES = 3  # a job whose worker or machine died is tried so often again
PATIENCE = 10  # seconds for a cluster to answer
MOST_AT_ONCE = 200  # jobs that Ray knows of, so that a long sweep fills no scheduler


def run_on_ray(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    address: str,
    workers: int,
    needs_gpu: Callable[[Job], bool],
) -> Iterator[tuple[Job, Result | Exception]]:
    """Each job with the function's result as it comes; with Ray's error if its workers kept dying.

    address: "local" starts a Ray with `workers` CPUs and stops it in the end; any other is that of a
    running cluster, all of whose CPUs are used. Whoever stops iterating cancels what is left.
    A job takes one CPU. Jobs on GPUs have an actor for each GPU of the cluster, because Ray ends the
    process of a task that had a GPU, and its networks would be loaded again.
    Errors: ValueError where Ray is missing or cannot be reached, where no GPU is there for jobs
    that need one, and where machines cannot run the function.
    """
    ray = _library()
    with _joined(ray, address, workers):
        yield from _finished(ray, function, jobs, needs_gpu)


def _finished(
    ray: ModuleType,
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    needs_gpu: Callable[[Job], bool],
) -> Iterator[tuple[Job, Result | Exception]]:
    waiting = deque(job for job in jobs if not needs_gpu(job))
    waiting_for_gpu = deque(job for job in jobs if needs_gpu(job))
    run = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
    idle = _actors(ray, len(waiting_for_gpu))
    running: dict[Any, tuple[Job, Any]] = {}  # Ray's reference -> job, its actor if it has one
    while waiting or waiting_for_gpu or running:
        while waiting and len(running) < MOST_AT_ONCE:
            job = waiting.popleft()
            running[run.remote(function, job)] = job, None
        while waiting_for_gpu and idle:
            job, actor = waiting_for_gpu.popleft(), idle.pop()
            running[actor.run.remote(function, job)] = job, actor
        (reference,), _ = ray.wait(list(running))
        job, actor = running.pop(reference)
        if actor and waiting_for_gpu:
            idle.append(actor)
        elif actor:
            ray.kill(actor)  # an actor whose machine died may be waiting for this GPU
        yield job, _result(ray, reference)


class _OnGpu:
    """A process that keeps its GPU, and so the networks that it has loaded."""

    def run(self, function: Callable[[Job], Result], job: Job) -> Result:
        return function(job)


def _call(function: Callable[[Job], Result], job: Job) -> Result:
    return function(job)


def _actors(ray: ModuleType, jobs: int) -> list[Any]:
    """Actors for so many jobs: one for each GPU of the cluster at most."""
    if not jobs:
        return []
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if not gpus:
        raise ValueError(
            f"{jobs} cells have published weights and need a GPU, and this Ray has none: join a "
            "cluster with GPUs, or run without Ray"
        )
    # The actor itself comes back as often as it must; each of its jobs has its own retries.
    actor = ray.remote(num_cpus=1, num_gpus=1, max_restarts=-1, max_task_retries=RETRIES)(_OnGpu)
    return [actor.remote() for _ in range(min(gpus, jobs))]


def _result(ray: ModuleType, reference: Any) -> Any:
    """The result of a job, or Ray's error if its worker died at every try.

    Errors: ValueError for a machine that cannot run the function.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise ValueError(
            "Ray's workers cannot run cells. All machines need the same vmemkit and Python: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from error
    except ray.exceptions.RayError as error:
        return error


@contextmanager
def _joined(ray: ModuleType, address: str, workers: int) -> Iterator[None]:
    """Be connected to Ray. Leaving cancels all jobs, and stops a Ray of our own."""
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        # Without this, a Ray that is started tells its makers so over the network.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        settings |= {"num_cpus": workers, "include_dashboard": False}
    else:
        _check_answer(address)
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        raise ValueError(f"Ray cannot be joined at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answer(address: str) -> None:
    """Errors: ValueError for HOST:PORT where nothing answers, for which Ray would wait minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray answers at {address!r}: {error}") from error


def _library() -> ModuleType:
    try:
        return import_module("ray")
    except ImportError as error:
        raise ValueError('sweeps on a cluster need Ray: pip install "vmemkit[cluster]"') from error
