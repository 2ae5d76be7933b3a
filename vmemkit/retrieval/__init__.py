"""Retrieval: which past views should be the context of the next ones?

In: a memory, target cameras, k. Out: a `Retrieval`: the chosen views, and all that led to them.
The memory is rendered from the targets, the visible surfels vote for the views that saw them, and a
policy selects k views from the votes. A policy is any callable `(memory, targets, k, config)`.
Source: VMem, section 3.3. Greedy maximum coverage for retrieval: NVIDIA Lyra 2.0.
"""

from vmemkit.retrieval.policies import (
    POLICIES,
    camera_distance,
    coverage,
    fov_overlap,
    oracle,
    released,
    surfel_votes,
    temporal,
    true_visibility,
)
from vmemkit.retrieval.selection import best_cover, ranked, suppress, suppress_softly
from vmemkit.retrieval.stage import retrieve
from vmemkit.retrieval.types import Policy, Retrieval, RetrievalConfig, Visibility
from vmemkit.retrieval.votes import count_votes, pixels_per_surfel, released_votes, sharpness

__all__ = [
    "POLICIES",
    "Policy",
    "Retrieval",
    "RetrievalConfig",
    "Visibility",
    "best_cover",
    "camera_distance",
    "count_votes",
    "coverage",
    "fov_overlap",
    "oracle",
    "pixels_per_surfel",
    "ranked",
    "released",
    "released_votes",
    "retrieve",
    "sharpness",
    "suppress",
    "suppress_softly",
    "surfel_votes",
    "temporal",
    "true_visibility",
]
