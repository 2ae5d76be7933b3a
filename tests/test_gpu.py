"""`make gpu` on a machine without a GPU: every part runs, and no part can spoil the others."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from gpu import PARTS, Part, run_parts  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("as_installed"),
    pytest.mark.filterwarnings("default"),  # libraries of the parts warn
]
# Stands for a part: the name says how it goes.
CHILD = """
import json, pathlib, subprocess, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
pathlib.Path(options["--result"]).write_text(json.dumps({"device": options["--device"]}))
if options["--part"] == "hangs":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    time.sleep(30)
if options["--part"] == "fails":
    raise ValueError("this is why")
"""


def run(tmp_path, parts: dict[str, Part], budget: float = 100.0) -> dict[str, dict]:
    rows = run_parts(parts, "cpu", tmp_path, budget, [sys.executable, "-c", CHILD])
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == rows
    return {row["part"]: row for row in rows}


def part(seconds: float = 60.0, *needs: str) -> Part:
    return Part(lambda device: iter(()), seconds, needs)


def test_a_part_that_hangs_is_cut_keeps_what_it_found_and_the_rest_runs(tmp_path):
    start = time.monotonic()
    rows = run(tmp_path, {"hangs": part(2.0), "works": part()})
    assert time.monotonic() - start < 20
    assert rows["hangs"]["state"] == "cut"
    assert rows["hangs"]["result"] == {"device": "cpu"}
    assert rows["works"]["state"] == "done"


def test_a_part_that_fails_says_why_and_the_rest_runs(tmp_path):
    rows = run(tmp_path, {"fails": part(), "works": part()})
    assert rows["fails"]["state"] == "failed"
    assert "ValueError: this is why" in rows["fails"]["why"]
    assert rows["fails"]["result"] == {"device": "cpu"}
    assert rows["works"]["state"] == "done"


def test_a_part_without_its_packages_or_without_time_is_left_out(tmp_path):
    rows = run(tmp_path, {"lacks": part(60.0, "no_such_package"), "works": part()})
    assert rows["lacks"]["state"] == "left out"
    assert rows["lacks"]["why"] == "needs no_such_package"
    assert rows["works"]["state"] == "done"
    late = run(tmp_path, {"works": part()}, budget=1.0)
    assert late["works"]["why"] == "no time was left"


def test_the_command_writes_what_its_parts_find(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--out", tmp_path]
    done = subprocess.run(
        [*command, "--parts", "tests", "machine"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    machine, tests = json.loads((tmp_path / "gpu.json").read_text())["parts"]  # in order of worth
    assert (machine["part"], machine["state"]) == ("machine", "done")
    assert machine["result"]["bandwidth, GB/s"] > 0
    if find_spec("triton") is None:
        assert (tests["state"], tests["why"]) == ("left out", "needs triton")
        pytest.skip("the part `tests` needs Triton, 1 GB on Linux: pip install -e '.[triton]'")
    assert tests["result"]["passed"] == 1
    assert tests["result"]["failed"] == {}


@pytest.mark.parametrize("name", [name for name in PARTS if name not in ("machine", "tests")])
def test_every_part_runs_without_a_gpu(name):
    result = {}
    for news in PARTS[name].run("cpu"):
        result |= news
    numbers = [value for value in leaves(json.loads(json.dumps(result))) if value is not None]
    assert numbers
    assert all(math.isfinite(value) for value in numbers)


def leaves(value):
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if isinstance(value, str) else [value]
