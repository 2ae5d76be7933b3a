"""How nbval compares a notebook with its stored outputs: by what a reader would check, the text."""

from __future__ import annotations

# Pictures of 3-D views and plots, tables that widgets draw, and warnings are for the eye.
FOR_THE_EYE = ("application/vnd.plotly.v1+json", "text/html", "stderr")


def pytest_collectstart(collector: object) -> None:
    """Leave `FOR_THE_EYE` out of the comparison; nbval leaves out images and widgets by itself."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += FOR_THE_EYE
