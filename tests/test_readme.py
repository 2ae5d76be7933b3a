"""The README: short, complete, and with links that lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import vmemkit

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "vmemkit/serving/README.md",
    "vmemkit/sessions/README.md",
    "data/README.md",
    "notebooks/GLOSSARY.md",
    "notebooks/REFERENCES.md",
]
MAX_LINES = 120
API = README.partition("## API")[2].partition("\n## ")[0]
ROOMS = sorted(path.parent.name for path in REPOSITORY.glob("vmemkit/*/__init__.py"))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", sorted({*vmemkit.__all__} - {*ROOMS, "pipeline"}))
def test_the_api_table_has_every_public_name(name):
    assert f"`{name}`" in API


@pytest.mark.parametrize("room", ROOMS)
def test_the_api_table_has_every_room(room):
    assert f"`vm.{room}`" in API


def test_the_example_is_python_of_ten_lines():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    ast.parse(code)
    assert len(code.splitlines()) <= 10


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    path = REPOSITORY / page
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if not link.startswith("http")]
    assert [link for link in files if not (path.parent / link).exists()] == []
