"""Sweeps on Ray: the rows of this machine, whatever dies; what cannot run is said."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from vmemkit.evaluation import Cell, run_cell, sweep

CELL = Cell("rooms:0", "recall", "coverage", height=24)
CELLS = [replace(CELL, policy=name) for name in ("coverage", "temporal", "random", "best")]
TIMELESS = {"seconds": 0}
LIMIT = 60  # seconds that a test waits for another process


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """Ray on one CPU; tests may add machines."""
    pytest.importorskip("ray", reason="needs Ray, the extra `cluster`")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield cluster
    cluster.shutdown()


def waiting(folder: Path) -> Callable[[Cell], dict]:
    """`run_cell`, which notes where each cell starts; all but the first wait for the file `go`.

    Made here, so that cloudpickle sends its code: workers cannot import the tests.
    """

    def run(cell: Cell) -> dict:
        with open(folder / "starts", "a") as file:
            file.write(f"{os.environ.get('MACHINE', 'head')} {os.getpid()} {cell.policy}\n")
        while cell.policy != CELL.policy and not (folder / "go").exists():
            time.sleep(0.02)
        return run_cell(cell)

    return run


def starts(folder: Path) -> list[list[str]]:
    file = folder / "starts"
    return [line.split() for line in file.read_text().splitlines()] if file.is_file() else []


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_machine_that_dies_loses_no_cell_and_rows_equal_those_of_this_machine(cluster, tmp_path):
    other = cluster.add_node(num_cpus=1, env_vars={"MACHINE": "other"})
    rows = sweep(CELLS, tmp_path, run=waiting(tmp_path), ray=cluster.address)
    first = next(rows)
    wait_until(lambda: "other" in {machine for machine, *_ in starts(tmp_path)})
    cluster.remove_node(other)
    (tmp_path / "go").touch()
    there = {row["policy"]: row | TIMELESS for row in (first, *rows)}
    assert there == {row["policy"]: row | TIMELESS for row in sweep(CELLS, tmp_path / "here")}
    assert there["best"]["error"].startswith("ValueError: unknown policy 'best'")
    tries = Counter(policy for *_, policy in starts(tmp_path))
    assert tries["best"] == 1  # an error of the cell itself is not tried again by Ray
    assert len(CELLS) < tries.total() <= len(CELLS) + 2  # what the machine had begun


def test_who_stops_cancels_and_goes_on_with_what_is_missing(cluster, tmp_path):
    rows = sweep(CELLS[:3], tmp_path, run=waiting(tmp_path), ray=cluster.address)
    assert next(rows)["policy"] == CELL.policy
    wait_until(lambda: len(starts(tmp_path)) == 2)
    rows.close()
    pids = {int(pid) for _, pid, _ in starts(tmp_path)}
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    (tmp_path / "go").touch()
    again = list(sweep(CELLS[:3], tmp_path, run=waiting(tmp_path), ray=cluster.address))
    assert [row["policy"] for row in again] == [cell.policy for cell in CELLS[:3]]
    assert [name for *_, name in starts(tmp_path)] == ["coverage", "temporal", "temporal", "random"]


def test_published_weights_keep_one_process_for_each_gpu(cluster, tmp_path):
    def run(cell: Cell) -> dict:
        return {**asdict(cell), "pid": os.getpid(), "gpu": os.environ["CUDA_VISIBLE_DEVICES"]}

    cells = [replace(CELL, protocol="aba", generator="vmem", seed=seed) for seed in range(2)]
    with pytest.raises(ValueError, match="2 cells have published weights and need a GPU"):
        list(sweep(cells, tmp_path, run=run, ray=cluster.address))
    node = cluster.add_node(num_cpus=1, num_gpus=1)
    first, second = sweep(cells, tmp_path, run=run, ray=cluster.address)
    cluster.remove_node(node)
    assert first["pid"] == second["pid"]
    assert first["gpu"] == "0"


def test_a_ray_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("ray", reason="needs Ray, the extra `cluster`")
    for address, message in (
        ("127.0.0.1:1", "no Ray answers at '127.0.0.1:1'"),
        ("", "Ray cannot be joined at ''"),
    ):
        with pytest.raises(ValueError, match=message):
            list(sweep([CELL], tmp_path, ray=address))


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails
    with pytest.raises(ValueError, match=r'pip install "vmemkit\[cluster\]"'):
        list(sweep([CELL], tmp_path, ray="local"))
