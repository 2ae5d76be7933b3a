"""Training of the small generator, on made-up rooms or on recordings of your own.

In: a seed and settings. Out: a `Run`, which can be stopped, saved and taken up again, and weights.
"""

from vmemkit.training.data import Walks, in_house, recorded
from vmemkit.training.trainer import SMOKE, Run, TrainConfig, export, painted, remembered, sample

__all__ = [
    "Run",
    "SMOKE",
    "TrainConfig",
    "Walks",
    "export",
    "in_house",
    "painted",
    "recorded",
    "remembered",
    "sample",
]
