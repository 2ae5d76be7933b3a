"""Evaluation: what is a good retrieval, generation or reconstruction?

In: walks, policies, generators or reconstructors. Out: numbers, in rows that can be printed or saved.
Coverage needs no generator: the share of target pixels whose true surface point a chosen view saw.
"""

from vmemkit.evaluation.generators import (
    GATE,
    Circle,
    Filled,
    GeneratorVerdict,
    Trial,
    circle,
    endurance,
    imagination,
    imagine,
    judge_generators,
    passed,
    trial_rows,
    trials,
)
from vmemkit.evaluation.reconstructors import (
    CORRUPTIONS,
    Corruption,
    ReconstructorVerdict,
    Simulated,
    judge_reconstructors,
)
from vmemkit.evaluation.scores import Scores, coverage, coverage_ratios, psnr, race, score, ssim

__all__ = [
    "CORRUPTIONS",
    "Circle",
    "Corruption",
    "Filled",
    "GATE",
    "GeneratorVerdict",
    "ReconstructorVerdict",
    "Scores",
    "Simulated",
    "Trial",
    "circle",
    "coverage",
    "coverage_ratios",
    "endurance",
    "imagination",
    "imagine",
    "judge_generators",
    "judge_reconstructors",
    "passed",
    "psnr",
    "race",
    "score",
    "ssim",
    "trial_rows",
    "trials",
]
