"""Fixtures for all tests: the box, the devices, and the package as it is when installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from browser_helpers import HOW, find_browser, opened
from core_helpers import Box

# Minutes long: they start first, so that no worker waits for them in the end.
LONG_FILES = (
    "test_browser.py",
    "test_voila.py",
    "test_demonstration.py",
    "test_scores.py",
    "test_server.py",
    "test_wheel.py",
)

torch.set_num_threads(1)  # the tests' tensors are tiny: more threads only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running browser; without one the test is skipped, and fails where CI is set."""
    path = find_browser()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI has no browser: {HOW}")
        pytest.skip(f"no browser: {HOW}")
    with opened(path) as running:
        yield running
