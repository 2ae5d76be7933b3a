"""The demonstration: its walks are what they say, and what it writes is complete and repeatable."""

import json
import math
import re

import pytest
import torch
from PIL import Image
from rich.console import Console

from vmemkit.cli import demonstration
from vmemkit.cli.commands import parser
from vmemkit.core import data_file, load_depth, pose_distance
from vmemkit.figures import FPS
from vmemkit.memory import begin
from vmemkit.scenes import examples, stereo_view

pytestmark = pytest.mark.usefixtures("as_installed")  # shape checks would take half of the time
FILM_ROWS = 60  # films of the usual size would take most of the time
KEYS = [
    "walk",
    "policy",
    "coverage",
    "coverage_of_oracle",
    "truth_ssim",
    "truth_psnr",
    "return_ssim",
    "return_psnr",
]


@pytest.fixture(scope="module")
def jobs():
    return {name: make(24, 0) for name, make in demonstration.WALKS.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A demonstration of the two quick walks, and how it progressed."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    walks = ["stereo", "panorama"]
    return out, list(demonstration.demo(out, 3, walks, height=24, film_rows=FILM_ROWS))


@pytest.mark.parametrize("name", demonstration.WALKS)
def test_every_walk_has_what_it_needs(jobs, name):
    job = jobs[name]
    assert job.name == name
    height, width = (24, 32) if name == "rooms" else (16, 21)
    assert job.given.image.shape[1:] == (3, height, width)
    assert len(begin(job.given)) == len(job.given.image)
    assert (job.scene is None) == (job.truth is None)
    if job.truth is not None:
        assert job.truth.image.shape == (len(job.tour.cameras), 3, height, width)


@pytest.mark.parametrize("name", demonstration.WALKS)
def test_every_walk_comes_back_to_where_it_was(jobs, name):
    tour = jobs[name].tour
    poses = tour.cameras.world_from_cam
    later = (tour.twin >= 0).nonzero()[:, 0]
    assert len(later) >= 4
    assert (tour.twin[later] < later).all()
    assert pose_distance(poses[later], poses[tour.twin[later]]).max() < 1e-3
    assert tour.twin[: tour.back.start].max() == -1


def test_the_panorama_is_given_from_four_sides_and_turned_full_circle(jobs):
    job = jobs["panorama"]
    ahead = torch.cat([job.given.cameras.forward, job.tour.cameras.forward])
    heading = torch.rad2deg(torch.atan2(ahead[:, 0], ahead[:, 2])).round() % 360
    assert heading[:4].tolist() == [0, 90, 180, 270]
    assert set(heading[4:].tolist()) == {15.0 * i for i in range(24)}
    turns = torch.diff(heading[3:])[1:]
    assert set(((turns + 180) % 360 - 180).abs().tolist()) == {15.0}


def test_the_capture_shows_every_room_from_six_sides(jobs):
    rooms = jobs["rooms_capture"].scene
    assert len(jobs["rooms_capture"].given) == 6 * len(rooms.centres)
    assert len(jobs["rooms"].given) == 1


def test_the_orbit_stays_round_its_middle(jobs):
    job = jobs["stereo"]
    start, distance = job.given.cameras[0], float(job.given.depth.nanmedian())
    middle = start.position + distance * start.forward
    away = (job.tour.cameras.position - middle).norm(dim=-1)
    assert (away - distance).abs().max() < 2 * demonstration.LIFT


def test_the_stereo_view_has_good_depth_almost_everywhere():
    view = stereo_view()
    assert view.depth.isfinite().float().mean() > 0.98
    assert (
        1.0 <= float(view.depth.nan_to_num(2).min()) <= float(view.depth.nan_to_num(2).max()) <= 5
    )
    assert view.cameras.K[0, 0, 0] == pytest.approx(451.0344 / examples.SOUND_PART[3], rel=1e-4)
    tilt = math.degrees(math.asin(float(view.cameras.forward[0, 1])))
    assert tilt == pytest.approx(examples.STEREO_TILT, abs=1e-3)


@pytest.mark.parametrize("name", ["bedroom_chair", "cycles"])
def test_stereo_depth_is_within_the_cameras_range_and_unknown_where_borders_repeat(name):
    calibration = json.loads(data_file("oakd_calibration.json").read_text())
    depth = load_depth(data_file(f"{name}_depth.png"))
    nearest, farthest = calibration["depth_range"]
    known = depth.isfinite()
    assert known.float().mean() > 0.8
    assert nearest <= depth[known].min() <= depth[known].max() <= farthest
    _, top, right, _ = calibration["left_image_rect_normalized"]
    assert not known[: round(top * 480)].any()
    assert not known[:, round(right * 640) :].any()


def test_the_demonstration_writes_films_sheets_and_surfels_and_a_page_that_shows_them(written):
    out, _ = written
    expected = {"metrics.json", "overview.png", "overview.webp", "index.html"}
    for walk in ("stereo", "panorama"):
        expected |= {f"{walk}.mp4", f"{walk}-surfels.mp4"}
        for policy in demonstration.POLICIES:
            expected |= {f"{walk}-{policy}.png", f"{walk}-{policy}.ply"}
    assert {path.name for path in out.iterdir()} == expected
    assert all(path.stat().st_size > 500 for path in out.iterdir())
    page = (out / "index.html").read_text()
    shown = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert shown == expected - {"metrics.json", "overview.webp", "index.html"}
    assert "A stereo photograph, from one view" in page
    assert page.count("<table>") == 2
    for words, count in (("to the real scene", 2), ("of second visits to first ones", 3)):
        assert page.count(words) == count  # in the explanation, and of each walk that has it


def test_the_overview_moves_through_the_whole_walk(written):
    out, _ = written
    with Image.open(out / "overview.webp") as animation:
        animation.load()
        assert animation.n_frames == 2 * 48 - 1 + 2  # a frame between two views, and the first one
        assert animation.info["duration"] == round(1000 / FPS)


def test_metrics_are_rows_with_null_where_undefined(written):
    out, _ = written
    rows = json.loads((out / "metrics.json").read_text())
    assert [list(row) for row in rows] == [KEYS] * 4
    stereo, panorama = rows[0], rows[2]
    unknown = ("coverage", "coverage_of_oracle", "truth_ssim", "truth_psnr")
    assert all(stereo[key] is None for key in unknown)
    assert stereo["return_psnr"] > 10
    assert all(panorama[key] is not None for key in KEYS)


def test_surfel_memory_comes_back_better_than_the_latest_views(written):
    out, _ = written
    rows = {
        (row["walk"], row["policy"]): row for row in json.loads((out / "metrics.json").read_text())
    }
    memory, latest = rows["panorama", "coverage"], rows["panorama", "temporal"]
    assert memory["truth_ssim"] > latest["truth_ssim"] + 0.1
    assert memory["truth_psnr"] > latest["truth_psnr"] + 3
    assert memory["return_ssim"] > latest["return_ssim"] + 0.1


def test_progress_counts_up_to_the_end_of_every_walk_and_ends_with_its_metrics(written):
    _, states = written
    ends = [state for state in states if state.row is not None]
    assert [(state.walk, state.policy) for state in ends] == [
        (walk, policy) for walk in ("stereo", "panorama") for policy in demonstration.POLICIES
    ]
    assert all(state.done == state.total for state in ends)
    both = [s for s in states if (s.walk, s.policy) == ("stereo", "coverage and temporal")]
    done = [state.done for state in both]
    assert done == sorted(set(done))
    assert done[-1] == both[0].total


def test_the_command_prints_its_metrics_which_are_the_same_for_the_same_seed(
    written, tmp_path, printed
):
    arguments = ["demo", "--out", str(tmp_path), "--seed", "3", "--walks", "stereo"]
    options = parser().parse_args(arguments)
    demonstration.run_demo(options, Console(), height=24, film_rows=FILM_ROWS)
    words, rows = printed(), json.loads((tmp_path / "metrics.json").read_text())
    assert rows == json.loads((written[0] / "metrics.json").read_text())[:2]
    assert all(f"{row['return_psnr']:.1f}" in words for row in rows)
    assert "Higher is better" in words
    assert str(tmp_path) in words.replace(" ", "")


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    for options, words in (
        ({"walks": ["moon"]}, "unknown walks"),
        ({"walks": []}, "choose one or more"),
        ({"policies": []}, "choose one or more"),
        ({"policies": ["guess"]}, "unknown policies"),
        ({"height": 8}, "at least 16 rows"),
    ):
        with pytest.raises(ValueError, match=words):
            list(demonstration.demo(tmp_path / "out", **options))
    with pytest.raises(ValueError, match="is a file"):
        list(demonstration.demo(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_file_of_the_data_is_in_its_readme_with_a_licence():
    text = data_file("README.md").read_text()
    for path in data_file("README.md").parent.glob("*.*g"):  # jpg and png
        either = path.name.replace("_left", "_{left,right}").replace("_right", "_{left,right}")
        assert path.name in text or either in text, path.name
    assert all(words in text for words in ("CC0", "CC BY 4.0", "Nicolas Burrus", "Poly Haven"))
