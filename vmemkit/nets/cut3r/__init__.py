"""CUT3R: a recurrent transformer that estimates geometry, one image at a time.

In: an image and the state left by the images before. Out: a point map with confidence, a pose, and
the next state. Source: Wang et al., CVPR 2025; names and shapes as in the published weights.
"""

from vmemkit.nets.cut3r.config import CUT3RConfig, check_model_string
from vmemkit.nets.cut3r.cut3r import CUT3R, PATCH, CUT3RPrediction, CUT3RState, Head

__all__ = [
    "CUT3R",
    "PATCH",
    "CUT3RConfig",
    "CUT3RPrediction",
    "CUT3RState",
    "Head",
    "check_model_string",
]
