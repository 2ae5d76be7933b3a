"""`vmemkit evaluate PROTOCOL` and `table4`: which walks are taken, and what is reported."""

from __future__ import annotations

import csv
import io
import re
import sys
from dataclasses import asdict

import pytest
from rich.console import Console

from vmemkit.cli import arguments as known
from vmemkit.cli.commands import main, parser
from vmemkit.cli.sweeps import cells_of, run_sweep, tables
from vmemkit.evaluation import ESTIMATORS, NOISES, PROTOCOLS, SCORES, Cell, policies
from vmemkit.evaluation.clusters import LOCAL


def toy(cell: Cell) -> dict:
    """A row whose scores follow from the names; `random` fails."""
    if cell.policy == "random":
        raise ValueError("no luck")
    score = {"coverage": 0.9, "temporal": 0.4}[cell.policy] + 0.01 * int(cell.scene[-1])
    return {**asdict(cell), **dict.fromkeys(SCORES), "truth_ssim": score, "coverage": score}


def test_the_names_of_the_command_are_those_of_the_package():
    assert tuple(known.PROTOCOLS) == (*PROTOCOLS, "recall")
    assert set(known.SWEPT_POLICIES) == set(policies())
    assert set(known.TABLE4) < set(policies())
    assert tuple(NOISES) == known.NOISES
    assert known.ESTIMATORS == ESTIMATORS


def test_the_table_has_every_policy_on_every_scene_at_both_budgets():
    cells = cells_of(parser().parse_args(["evaluate", "table4", "--seeds", "3"]))
    assert len(cells) == len(set(cells)) == 2 * 3 * 2 * 2 * 2 * len(known.TABLE4)
    assert {cell.scene for cell in cells} == {
        f"{n}:{i}" for n in ("rooms", "open") for i in range(3)
    }
    assert {cell.k for cell in cells} == {4, 17}
    assert {cell.generator for cell in cells} == {"warp", "writer"}


def test_recall_needs_no_generators():
    command = ["evaluate", "recall", "--generators", "warp", "writer", "--seeds", "2"]
    cells = cells_of(parser().parse_args(command))
    assert {cell.generator for cell in cells} == {"warp"}
    assert len(cells) == 2 * len(known.TABLE4)


def test_scores_by_networks_are_asked_for_where_frames_are_generated():
    command = ["evaluate", "table4", "--seeds", "1", "--lpips", "a.pth", "--poses", "xfeat"]
    cells = cells_of(parser().parse_args([*command, "--protocols", "cycle", "recall"]))
    asked = {(cell.protocol, cell.lpips, cell.poses) for cell in cells}
    assert asked == {("cycle", "a.pth", "xfeat"), ("recall", "", "")}


def test_what_networks_are_missing_for_is_told(tmp_path, capsys):
    text = run(tmp_path, "--policies", "coverage")
    assert "LPIPS was left out: give --lpips FILE, torchvision's alexnet-owt-7be5be79.pth" in text
    assert "FID is not computed" in text
    command = ["evaluate", "aba", "--lpips", "none.pth", "--out", str(tmp_path / "new")]
    assert main(command) == 2
    assert "none.pth is missing" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()  # no walk was taken


def test_scores_that_some_rows_lack_are_shown_as_a_dash():
    scores = dict.fromkeys(SCORES) | {"truth_ssim": 0.5, "poses_found": 0.0}
    cells = [Cell("rooms:0", "aba", policy, poses="xfeat") for policy in ("coverage", "temporal")]
    rows = [cell.fields | scores for cell in cells]
    rows[1] |= {"poses_found": 1.0, "rotation_distance": 2.0}
    [_, (title, table)] = tables(rows)
    assert title.endswith(": poses")
    console = Console(record=True, width=200)
    console.print(table)
    lines = console.export_text().splitlines()
    assert any(line.split()[-1] == "-" for line in lines if "coverage" in line)
    assert any("2.00 ±0.00" in line for line in lines if "temporal" in line)


def run(tmp_path, *more: str) -> str:
    console = Console(record=True, width=100, markup=False)
    command = ["evaluate", "aba", "--seeds", "3", "--workers", "1", "--out", str(tmp_path), *more]
    run_sweep(parser().parse_args(command), console, run=toy)
    return console.export_text()


def test_means_with_intervals_are_printed_and_all_rows_are_kept(tmp_path):
    text = run(tmp_path, "--policies", "temporal", "coverage", "random")
    assert "aba, warp, K = 4, 3 houses with walls" in text
    first, second = (line.split() for line in text.splitlines() if "±" in line)
    assert first[:3] == ["coverage", "0.910", "±0.010"]
    assert second[:2] == ["temporal", "0.410"]
    assert text.count("ValueError: no luck") == 3
    assert "6 of 9 walks are in" in text
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 9
    assert [row["truth_ssim"] for row in rows if row["policy"] == "random"] == [""] * 3
    assert [row["error"] for row in rows if row["policy"] == "coverage"] == [""] * 3


def test_the_page_draws_each_score_once_and_needs_no_network(tmp_path):
    run(tmp_path, "--policies", "temporal", "coverage")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot(") == 2  # truth SSIM and coverage
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert "LoopNav" in page
    for name in SCORES:
        assert f"<b>{name}</b>" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aba", "--policies", "random"], "all 3 walks failed; the first: ValueError: no luck"),
        (["aba", "--k", "0"], "must be 1 or more"),
        (["aba", "--seeds", "0"], "must be 1 or more"),
    ],
)
def test_nothing_to_report_is_an_error(tmp_path, arguments, message):
    command = ["evaluate", *arguments, "--workers", "1", "--out", str(tmp_path)]
    command += [] if "--seeds" in arguments else ["--seeds", "3"]
    with pytest.raises(ValueError, match=message):
        run_sweep(parser().parse_args(command), Console(file=io.StringIO()), run=toy)


def test_an_unknown_policy_is_refused_before_any_walk(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "aba", "--policies", "best", "--out", str(tmp_path / "out")])
    assert "invalid choice: 'best'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ray_is_started_here_or_joined_where_it_is(tmp_path, monkeypatch, capsys):
    command = ["evaluate", "recall", "--seeds", "1", "--out", str(tmp_path)]
    for more, address in (([], None), (["--ray"], LOCAL), (["--ray", "head:6379"], "head:6379")):
        assert parser().parse_args([*command, *more]).ray == address
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails
    assert main([*command, "--ray"]) == 2
    assert 'pip install "vmemkit[cluster]"' in capsys.readouterr().err


def test_a_missing_recording_is_one_line(tmp_path, capsys):
    command = ["evaluate", "recall", "--data", "nowhere", "--policies", "temporal"]
    assert main([*command, "--workers", "1", "--out", str(tmp_path)]) == 2
    assert "there is no scene 'nowhere'" in capsys.readouterr().err


def test_clips_of_a_folder_are_chosen_by_their_names(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    command = ["evaluate", "cycle", "--data", str(tmp_path), "--clips", "2"]
    cells = cells_of(parser().parse_args([*command, "--policies", "coverage"]))
    assert [cell.scene for cell in cells] == [str(tmp_path / "c"), str(tmp_path / "b")]
    command[3] = str(tmp_path / "nothing")
    with pytest.raises(ValueError, match="--clips needs a folder of recordings"):
        cells_of(parser().parse_args(command))
