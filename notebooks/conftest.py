"""How nbval runs a notebook and compares it with its stored outputs: by the text a reader would check."""

from __future__ import annotations

import os

# Pictures of 3-D views and plots, tables drawn by widgets, and warnings may differ between machines.
NOT_COMPARED = ("application/vnd.plotly.v1+json", "text/html", "stderr")


def set_environment() -> None:
    """Environment variables that kernels inherit, in tests and in `render.py`."""
    # Tensors are small, so more threads only wait for each other. With one thread, sums are also
    # taken in the same order on every machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Notebook 08 takes the branch without weights on every machine, because its outputs are stored.
    os.environ |= {"VMEMKIT_WEIGHTS": "", "HF_HUB_CACHE": os.devnull}


set_environment()


def pytest_collectstart(collector: object) -> None:
    """Leave `NOT_COMPARED` out of the comparison; nbval itself leaves out images and widgets."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
