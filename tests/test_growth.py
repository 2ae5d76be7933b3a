"""The benchmark of growth, at tiny size: its memories are sound, and its tables say what grew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = [
    "--surfels",
    "1000",
    "6000",
    "--views",
    "10",
    "30",
    "--given",
    "10",
    "20",
    "--size",
    "12",
    "16",
]


def test_the_tables_of_growth_are_printed_and_stored(tmp_path):
    stored = tmp_path / "growth.json"
    command = [sys.executable, str(BENCHMARKS / "growth.py"), *TINY, "--json", str(stored)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tables = json.loads(stored.read_text())
    assert printed.count(" of x") == 4 + 4 + 2  # the second row of each table says what grew
    few, many = tables["rooms"]
    assert many["surfels"] > 2 * few["surfels"]
    assert few["surfels in frustum"] > 0  # whoever looks from the middle room sees something
    few, many = tables["views"]
    assert many["surfels"] == few["surfels"]
    assert many["sightings in sight"] == 3 * few["sightings in sight"]
    assert [row["given views"] for row in tables["given"]] == [10, 20]
