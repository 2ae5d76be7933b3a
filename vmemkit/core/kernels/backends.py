"""Backends: which implementation runs, plain torch, numba on a CPU, or Triton on a GPU.

The torch code is the reference: it is readable and runs everywhere. A function that is marked
`@accelerated` has a twin of the same name and arguments in `cpu.py` or `cuda.py`, whose results are
equal to the bit. The twin runs where its library is installed, unless `use("torch")` asks otherwise.
Nothing is compiled before it is first needed; numba keeps what it compiled on disk (compiling.py).
Other processes: spawn them, or use torch's DataLoader. A child of a bare `os.fork` may wait for ever
for torch's threads, which it does not have (README, "Processes and threads").
"""

from __future__ import annotations

import contextvars
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType
from typing import Any, Literal, TypeVar

import torch

Backend = Literal["torch", "numba", "triton"]
Plain = TypeVar("Plain", bound=Callable[..., Any])
FASTEST: dict[str, Backend] = {"cpu": "numba", "cuda": "triton"}  # by type of device
TWINS = {"numba": "vmemkit.core.kernels.cpu", "triton": "vmemkit.core.kernels.cuda"}
MAX_THREADS = 8  # each thread needs a depth buffer of its own, and these have to be merged
_chosen: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("chosen", default=None)
_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar("threads", default=None)


def accelerated(plain: Plain) -> Plain:
    """Mark a plain torch function as the reference of a twin, which runs in its place if it can.

    The device is that of the first argument that has one. A twin returns NotImplemented for
    arguments that it does not handle; then the reference runs.
    """
    name = plain.__name__.lstrip("_")

    @functools.wraps(plain)
    def run(*arguments: Any, **options: Any) -> Any:
        device = next(a.device for a in arguments if hasattr(a, "device"))
        twin = _twin(name, backend(device))
        result = NotImplemented if twin is None else twin(*arguments, **options)
        return plain(*arguments, **options) if result is NotImplemented else result

    return run  # type: ignore[return-value]


def backend(device: torch.device | str) -> Backend:
    """The implementation that runs on that device, in this thread, at this moment."""
    fastest = FASTEST.get(torch.device(device).type, "torch")
    chosen = _chosen.get()
    if chosen == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
        return "triton"  # its interpreter runs the CUDA kernels on a CPU, slowly
    if chosen is None:
        return fastest if installed(fastest) else "torch"
    return fastest if chosen == fastest else "torch"


@contextmanager
def use(name: Backend, threads: int | None = None) -> Iterator[None]:
    """Within the `with`, in this thread: run `name` on the devices it is for, torch on all others.

    `use("torch")` runs the reference, to compare with it or to debug it. `threads` shares the work
    of numba's kernels among exactly that many threads, however little work there is.
    Errors: ValueError for an unknown name, and for a library that is not installed.
    """
    if name not in ("torch", *FASTEST.values()):
        raise ValueError(f"unknown backend {name!r}: choose from torch, numba, triton")
    if not installed(name):
        raise ValueError(f"{name} is not installed, or too old: pip install --upgrade {name}")
    chosen, count = _chosen.set(name), _threads.set(threads)
    try:
        yield
    finally:
        _chosen.reset(chosen)
        _threads.reset(count)


@functools.cache
def installed(name: str) -> bool:
    """Whether the library is there and new enough. Only Triton is imported to find out."""
    if find_spec(name) is None:
        return False
    # Triton before 3.3 lacks `gather`. Its version says nothing: it comes under several names.
    return name != "triton" or hasattr(import_module("triton.language"), "gather")


@functools.cache
def _twin(name: str, engine: Backend) -> Callable[..., Any] | None:
    """The twin of that name. Functions of a device, which only kernels can call, are no twins."""
    twin = None if engine == "torch" else getattr(import_module(TWINS[engine]), name, None)
    return twin if isinstance(twin, FunctionType) else None


def most_threads() -> int:
    """Threads that a kernel may use: as many as torch (`torch.set_num_threads`), at most 8."""
    return _threads.get() or max(1, min(torch.get_num_threads(), MAX_THREADS))


def threads_for(work: float, least: float) -> int:
    """Threads for an amount of work, of which each should have at least `least`."""
    return _threads.get() or max(1, min(most_threads(), int(work / least)))


def in_parallel(tasks: Sequence[Callable[[], object]]) -> None:
    """Run kernels side by side, which release Python's lock. The first error is raised."""
    if len(tasks) == 1 or most_threads() == 1:
        for task in tasks:
            task()
        return
    helpers = _helpers(os.getpid(), most_threads() - 1)
    others = [helpers.submit(task) for task in tasks[1:]]
    try:
        tasks[0]()
    finally:  # all tasks end before this returns or raises
        wait(others)
    for other in others:
        other.result()


def in_bands(task: Callable[[tuple[int, int]], object], rows: int, least: int) -> None:
    """Run a kernel on bands of rows [start, stop), one for each thread, of at least `least` rows."""
    parts = bands(rows, threads_for(rows, least))
    in_parallel([functools.partial(task, band) for band in parts])


def bands(rows: int, parts: int) -> list[tuple[int, int]]:
    """Rows in `parts` bands [start, stop) of nearly equal size."""
    return [(i * rows // parts, (i + 1) * rows // parts) for i in range(parts)]


@functools.cache
def _helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Waiting threads of this process: after a fork, the child has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix=f"vmemkit-{process}")
