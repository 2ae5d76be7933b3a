"""Fixtures for all tests: the box, the devices, and the package as it is when installed."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from core_helpers import Box

torch.set_num_threads(1)  # the tests' tensors are tiny: more threads only wait for each other


@pytest.fixture(scope="session")
def box() -> Box:
    return Box()


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request) -> str:
    return request.param


@pytest.fixture
def as_installed(monkeypatch) -> None:
    """Without the shape checks that only the tests have: bad shapes arrive where users' would."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
