"""Which implementation runs a stage: torch, numba or triton.

The torch code is the readable reference and runs everywhere. On a CPU numba's compiled kernels
(kernels.py) do the same, to the bit; on CUDA the Triton kernels (kernels_triton.py) do. A stage asks
`backend(device)` and takes its own torch code where neither is installed or `use("torch")` says so.
Nothing is compiled before it is first needed; numba keeps what it compiled on disk.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import torch

Backend = Literal["torch", "numba", "triton"]

NATIVE: dict[str, Backend] = {"cpu": "numba", "cuda": "triton"}  # what is fastest on a device

MAX_THREADS = 8  # every thread of an association has a depth buffer of its own, to be merged

_wanted: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("wanted", default=None)


def backend(device: torch.device | str) -> Backend:
    """What the stages run on that device: here, now."""
    native = NATIVE.get(torch.device(device).type, "torch")
    wanted = _wanted.get()
    if wanted in (None, native):
        return native if wanted or installed(native) else "torch"
    return "torch"


@contextmanager
def use(name: Backend) -> Iterator[None]:
    """Within the `with`, in this thread: that implementation on the devices it is for, and the
    torch reference on all others. `use("torch")` compares with the reference, or debugs it.

    Errors: ValueError for an unknown name, and for a library that is not installed.
    """
    if name not in ("torch", *NATIVE.values()):
        raise ValueError(f"unknown backend {name!r}: choose from torch, numba, triton")
    if not installed(name):
        raise ValueError(f"{name} is not installed, or too old: pip install --upgrade {name}")
    token = _wanted.set(name)
    try:
        yield
    finally:
        _wanted.reset(token)


@cache
def installed(name: str) -> bool:
    """Is the library there, and new enough? Only Triton is imported to find out."""
    if find_spec(name) is None:
        return False
    # Triton before 3.3 lacks this; its version is no help, it comes under several names.
    return name != "triton" or hasattr(import_module("triton.language"), "gather")


def threads() -> int:
    """How many threads a kernel may use: as many as torch (`torch.set_num_threads`), at most 8."""
    return max(1, min(torch.get_num_threads(), MAX_THREADS))


def in_parallel(tasks: Sequence[Callable[[], object]]) -> None:
    """Run kernels, which release Python's lock, side by side; the first error is raised."""
    if len(tasks) == 1 or threads() == 1:
        for task in tasks:
            task()
        return
    helpers = _helpers(os.getpid(), threads() - 1)
    others = [helpers.submit(task) for task in tasks[1:]]
    try:
        tasks[0]()
    finally:  # all are done before anyone goes on, or sees an error
        wait(others)
    for other in others:
        other.result()


def in_bands(task: Callable[[tuple[int, int]], object], rows: int, few: int) -> None:
    """Run a kernel on bands of rows, [start, stop), one for each thread; of `few` rows on all."""
    in_parallel([partial(task, band) for band in bands(rows, threads() if rows > few else 1)])


def bands(rows: int, parts: int) -> list[tuple[int, int]]:
    """Rows in as many bands [start, stop), as equal as can be."""
    return [(i * rows // parts, (i + 1) * rows // parts) for i in range(parts)]


@cache
def _helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that wait for work; of this process, since a fork has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix=f"vmemkit-{process}")
