"""Numbers on which the plain code and the kernels must agree."""

from __future__ import annotations

import math

# Compiled into kernels. Numba does not notice a change here: change their files, too, or delete its
# cache.
RUN = 256  # surfels per bounding box: small enough to be tight, large enough to be few
PATCH = 16  # rows and columns of the patches of a depth map whose greatest depths are kept
ROUNDING = 1e-5  # relative: more than float32 can be off by
CORNERS = 16  # VMem's released renderer draws polygons of so many corners
RING = [[turn(2 * math.pi * k / CORNERS) for k in range(CORNERS)] for turn in (math.cos, math.sin)]
MARGIN = 50  # pixels around the canvas in which a polygon's centre may lie (released code)
