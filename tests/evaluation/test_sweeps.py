"""Sweeps: rows that can be told, a sweep that goes on where it was, and scores that mean something."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from core_helpers import Box

import vmemkit as vm
from vmemkit.core import cat, data_file, stream
from vmemkit.evaluation import (
    BACKBONES,
    ON_REQUEST,
    PROTOCOLS,
    SCORES,
    Cell,
    Lpips,
    Route,
    bootstrap,
    by_policy,
    course_hash,
    judge,
    last_and_greedy,
    overlap_recall,
    read_rows,
    run_cell,
    sweep,
    write_rows,
)
from vmemkit.evaluation.perceptual import _convolutions
from vmemkit.scenes import save_capture

REPOSITORY = Path(__file__).parents[2]
CELL = Cell("rooms:0", "aba", "coverage", height=24)
CELLS = [replace(CELL, policy=name) for name in ("coverage", "temporal", "random")]


def toy(cell: Cell) -> dict:
    if cell.policy == "random":
        raise ValueError("no luck")
    return {**asdict(cell), "truth_ssim": 0.5}


def test_the_same_cell_has_the_same_row_here_and_in_other_processes(tmp_path):
    coverage, temporal = sweep(CELLS[:2], tmp_path / "one")
    (there,) = sweep(CELLS[:1], tmp_path / "two", workers=2)
    assert {**there, "seconds": 0} == {**coverage, "seconds": 0}
    assert set(CELL.scores) < set(there)
    assert coverage["truth_ssim"] > temporal["truth_ssim"]


def test_scores_by_networks_are_in_rows_that_ask_for_them(tmp_path):
    file = tmp_path / "alexnet.pth"
    state = _convolutions(BACKBONES[0]).state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, file)
    cell = replace(CELL, protocol="short", height=36, lpips=str(file), poses="xfeat")
    row = run_cell(cell)
    assert cell.scores == list(SCORES)
    assert set(cell.fields) | set(SCORES) <= set(row)
    assert 0 < row["truth_lpips"] < 1
    assert row["lpips_weights"] == Lpips(file).name
    # `Warp` moves pixels to where they are asked for, so what they tell is near.
    assert row["poses_found"] > 0.5
    assert row["rotation_distance"] < 10
    plain = set(CELL.fields) | set(CELL.scores) | {"course", "seconds"}
    assert set(row) - plain == {
        *ON_REQUEST["lpips"],
        *ON_REQUEST["poses"],
        *("lpips", "poses", "lpips_weights"),
    }


def test_rows_of_earlier_sweeps_are_still_found():
    """The name of a row's file, from before there were fields that add scores."""
    assert CELL.name == "5a204c4b9c02c8a3de7a"
    assert len({cell.name for cell in (CELL, replace(CELL, poses="xfeat"))}) == 2


def test_what_is_done_is_read_and_what_failed_is_tried_again(tmp_path):
    rows = list(sweep(CELLS, tmp_path, run=toy))
    assert [row.get("error") for row in rows] == [None, None, "ValueError: no luck"]

    def not_again(cell: Cell) -> dict:
        assert cell.policy == "random"
        return {**asdict(cell), "truth_ssim": 0.1}

    again = {row["policy"]: row["truth_ssim"] for row in sweep(CELLS, tmp_path, run=not_again)}
    assert again == {"coverage": 0.5, "temporal": 0.5, "random": 0.1}


def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path):
    code = (
        "import sys, time; from dataclasses import asdict, replace\n"
        "from vmemkit.evaluation import Cell, sweep\n"
        "cells = [Cell('rooms:0', 'aba', 'coverage', seed=i) for i in range(40)]\n"
        "def slow(cell): time.sleep(0.05); return {**asdict(cell), 'truth_ssim': 0.5}\n"
        "for row in sweep(cells, sys.argv[1], run=slow): print(row['seed'], flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    for _ in range(5):
        process.stdout.readline()
    time.sleep(0.03)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = list((tmp_path / "cells").glob("*.json"))
    assert 5 <= len(done) < 40
    assert all(json.loads(path.read_text())["truth_ssim"] == 0.5 for path in done)
    ran = []

    def count(cell: Cell) -> dict:
        ran.append(cell)
        return {**asdict(cell), "truth_ssim": 0.5}

    cells = [Cell("rooms:0", "aba", "coverage", seed=i) for i in range(40)]
    assert len(list(sweep(cells, tmp_path, run=count))) == 40
    assert len(ran) == 40 - len(done)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "best"}, "unknown policy 'best': choose from surfel_votes"),
        ({"protocol": "loop"}, "unknown protocol 'loop': choose from leave_and_return"),
        ({"generator": "gan"}, "unknown generator 'gan': choose from warp, writer, vmem"),
        ({"geometry": "slam"}, "unknown geometry 'slam': choose from generator, cut3r"),
        ({"poses": "slam"}, "unknown poses 'slam': choose from xfeat, cut3r"),
        ({"lpips": "none.pth"}, "none.pth is missing: give a file"),
        ({"noise": "fog"}, "unknown noise 'fog': choose from clean, depth 1 %"),
        ({"scene": "rooms:x"}, "there is no scene 'rooms:x': give rooms:SEED"),
    ],
)
def test_unknown_names_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        run_cell(replace(CELL, **change))


def test_bad_folders_and_cells_are_refused(tmp_path):
    with pytest.raises(ValueError, match="some are given twice"):
        list(sweep([CELL, CELL], tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file: give a folder"):
        list(sweep([CELL], tmp_path / "file"))
    list(sweep([CELL], tmp_path, run=toy))
    (path,) = (tmp_path / "cells").iterdir()
    for text in ("{", "[]", json.dumps({**asdict(CELL), "k": 9})):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name} is no row of this sweep"):
            list(sweep([CELL], tmp_path, run=toy))


def test_a_recording_is_a_scene(tmp_path):
    box = Box()
    views = box.render(cat([box.look(3.0 * i) for i in range(41)]), 24, 32)
    save_capture(views, tmp_path / "recorded")
    row = run_cell(Cell(str(tmp_path / "recorded"), "cycle", "coverage"))
    assert row["truth_ssim"] > 0.5
    assert row["coverage"] > 0.9


def test_a_perfect_walk_has_perfect_scores():
    box = Box()
    route = Route(cat([box.look(12.0 * i) for i in range(6)]), None)
    course = PROTOCOLS["cycle"].course(route)

    def truth(context, targets, rng):
        views = box.render(targets, 24, 32)
        yield vm.Generation(views.image, views.depth, torch.ones_like(views.depth))

    memory = vm.begin(box.render(course.given, 24, 32))
    scores = judge(course, box, list(vm.walk(memory, course.path, generator=truth)))
    assert scores["truth_ssim"] > 0.999  # rendering several cameras at once rounds otherwise
    assert scores["pair_ssim"] > 0.999
    assert min(scores["truth_psnr"], scores["pair_psnr"]) > 45
    assert scores["warp_error"] < 1e-3
    assert scores["warp_share"] > 0.999
    with pytest.raises(ValueError, match="need a view for each of 10 frames, got 4"):
        judge(course, box, list(vm.walk(memory, course.path[:4], generator=truth)))


def test_the_hash_tells_courses_apart():
    box = Box()
    route = Route(cat([box.look(12.0 * i) for i in range(6)]), None)
    hashes = [course_hash(protocol.course(route)) for protocol in PROTOCOLS.values()]
    assert len(set(hashes)) >= len(hashes) - 1  # `short` ends at the same frame as `long` here
    again = Route(route.out.replace(K=route.out.K + 1e-6), None)
    assert course_hash(PROTOCOLS["cycle"].course(again)) == hashes[list(PROTOCOLS).index("cycle")]
    other = Route(route.out.replace(K=route.out.K + 3e-2), None)
    assert course_hash(PROTOCOLS["cycle"].course(other)) not in hashes


def test_recall_worked_by_hand():
    """Five views all round; the targets look where views 0 and 1 look, and nowhere else."""
    box = Box()
    memory = vm.begin(box.render(cat([box.look(yaw) for yaw in (0, 5, 90, 180, 270)]), 24, 32))
    targets = cat([box.look(2.0), box.look(3.0)])
    choose = {"right": [1, 0], "one": [0, 3], "wrong": [2, 3], "few": [1]}
    expected = {"right": (1, 1, 1), "one": (0.5, 0.5, 1), "wrong": (0, 0, 0), "few": (0.5, 1, 1)}
    for name, chosen in choose.items():
        got = overlap_recall(box, memory, targets, lambda *_, c=chosen: c, k=2)
        assert tuple(got.values()) == expected[name], name
    with pytest.raises(ValueError, match="no view of the memory overlaps any target"):
        overlap_recall(box, memory.truncate(1), cat([box.look(180.0)]), lambda *_: [0], k=1)


def test_the_last_view_comes_first_and_its_pixels_do_not_count_again():
    box = Box()
    memory = vm.begin(box.render(cat([box.look(yaw) for yaw in (0, 40, 20, 180)]), 24, 32))
    targets = cat([box.look(20.0), box.look(40.0)])
    assert last_and_greedy(memory, targets, 3)[0] == 3
    seen = memory.truncate(3)  # the last view is at 20 degrees and shows most of the first target
    assert last_and_greedy(seen, targets, 2) == [2, 1]
    assert last_and_greedy(seen, cat([box.look(20.0)]), 3)[:1] == [2]


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = [
        {
            **cell.fields,
            **dict.fromkeys(cell.scores),
            "truth_ssim": share,
            "course": "0a",
            "seconds": 1.5,
        }
        for cell, share in zip(CELLS[:2], (0.75, 0.5), strict=True)
    ]
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows
    by_name = {"coverage": [0.75], "temporal": [0.5]}
    assert by_policy(rows, "truth_ssim", "rooms", k=4) == by_name
    assert by_policy(rows, "truth_ssim", "open") == by_policy(rows, "recall", "rooms") == {}
    (tmp_path / "other.csv").write_text("scene,policy\nrooms:0,coverage\n")
    with pytest.raises(ValueError, match=r"other.csv is no table of a sweep: it has no any_hit"):
        read_rows(tmp_path / "other.csv")


def test_the_stored_table_is_whole():
    rows = read_rows(data_file("table4.csv"))
    wanted = {name: {row[name] for row in rows} for name in ("scene", "policy", "k", "generator")}
    wanted["protocol"] = {"cycle", "leave_and_return"}
    assert len(rows) == math.prod(len(values) for values in wanted.values())
    courses = json.loads((REPOSITORY / "benchmarks/courses.json").read_text())
    assert all(r["course"] == courses[r["scene"]][r["protocol"]]["hash"] for r in rows)


def test_the_interval_of_a_mean_is_as_wide_as_it_should_be():
    values = torch.randn(400, generator=stream(0)).tolist()
    low, high = bootstrap(values)
    assert low < mean(values) < high
    assert high - low == pytest.approx(2 * 1.96 * stdev(values) / 20, rel=0.1)
    assert bootstrap([0.5] * 3) == pytest.approx((0.5, 0.5))
    with pytest.raises(ValueError, match="needs values"):
        bootstrap([])
