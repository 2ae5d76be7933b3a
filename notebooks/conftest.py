"""How nbval runs a notebook and compares it with its stored outputs: by what a reader would check."""

from __future__ import annotations

import os

# Pictures of 3-D views and plots, tables that widgets draw, and warnings are for the eye.
FOR_THE_EYE = ("application/vnd.plotly.v1+json", "text/html", "stderr")


def set_environment() -> None:
    """What kernels inherit, here and where the notebooks are executed to be stored."""
    # Tensors are small here, so more threads only wait for each other; and with one thread sums are
    # taken in the same order on machines with many cores and with few.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # On every machine 08 takes the branch without weights, whose outputs are stored.
    os.environ |= {"VMEMKIT_WEIGHTS": "", "HF_HUB_CACHE": os.devnull}


set_environment()


def pytest_collectstart(collector: object) -> None:
    """Leave `FOR_THE_EYE` out of the comparison; nbval leaves out images and widgets by itself."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += FOR_THE_EYE
