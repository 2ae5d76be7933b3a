"""Numbers on which the plain code and the kernels must agree."""

from __future__ import annotations

# Compiled into kernels: numba does not notice a change here: change pixels.py, too, or delete its cache.
RUN = 256  # surfels per bounding box: small enough to be tight, large enough to be few
ROUNDING = 1e-5  # relative: more than float32 can be off by
