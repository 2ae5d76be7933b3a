"""Small walks to export: the box, seen by a given view and by generated ones."""

from __future__ import annotations

import pytest
from session_helpers import begin, path, walk

from vmemkit.memory import Memory
from vmemkit.pipeline import Step


@pytest.fixture(scope="session")
def steps() -> list[Step]:
    """Two steps of two views: aside, and on."""
    return list(walk(begin(), path(30.0, 60.0, 90.0, 120.0), m=2, k=2))


@pytest.fixture(scope="session")
def memory(steps) -> Memory:
    """Five views of the box, the first one given."""
    return steps[-1].memory
