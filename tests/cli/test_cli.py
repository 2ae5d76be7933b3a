"""The command line: what is written, what is said, and that bad input is one line and code 2."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_helpers import small
from golden_helpers import seeing_ahead

from vmemkit.cli import commands as cli
from vmemkit.cli import demonstration, main, terminal
from vmemkit.cli import demonstration as demo
from vmemkit.core import cameras, save_depth, save_image
from vmemkit.generation import FAST
from vmemkit.memory import load
from vmemkit.nets.weights import FOLDERS, WEIGHTS, hub
from vmemkit.nets.weights import hub as weights
from vmemkit.reconstruction import Cut3r
from vmemkit.scenes import orbit, read_transforms, write_realestate10k, write_transforms

WRITTEN = {"walk.mp4", "contact_sheet.png", "surfels.ply", "memory", "transforms.json"}


@pytest.fixture(scope="module")
def picture(box, tmp_path_factory):
    """Options that name an image and its depth."""
    folder = tmp_path_factory.mktemp("picture")
    view = box.render(box.look(0.0), 48, 64)
    save_image(folder / "image.png", view.image[0])
    save_depth(folder / "depth.png", view.depth[0])
    np.save(folder / "depth.npy", view.depth[0].numpy())
    return [str(folder / "image.png"), "--depth", str(folder / "depth.png"), "--size", "24"]


@pytest.fixture
def said(capsys):
    """What was printed, as one line of single spaces: terminals wrap."""

    def read() -> str:
        out, err = capsys.readouterr()
        return " ".join((out + " " + err).split())

    return read


def test_a_walk_with_the_small_generator_needs_no_other_files(picture, tmp_path):
    image, depth, file, *_ = picture
    how = ["--generator", "rooms", "--size", "32", "--moves", "right 20", "--m", "2"]
    assert main(["walk", image, depth, file, *how, "--out", str(tmp_path)]) == 0
    memory = load(tmp_path / "memory")
    assert memory.views.image.shape[2:] == (32, 48)  # to the nearest multiple of 16
    assert memory.views.depth.isfinite().all()


@pytest.mark.parametrize("policy", ["coverage", "temporal"])
def test_a_walk_writes_everything_that_it_says(picture, tmp_path, said, policy):
    moves = ["--moves", "right 15, left 15, forward 0.25", "--policy", policy, "--m", "2"]
    assert main(["walk", *picture, *moves, "--out", str(tmp_path / "a" / "b")]) == 0
    out = tmp_path / "a" / "b"
    assert {path.name for path in out.iterdir()} == WRITTEN
    memory = load(out / "memory")
    assert len(memory) == 4
    assert memory.views.given.tolist() == [True, False, False, False]
    path = read_transforms(out / "transforms.json").cameras
    torch.testing.assert_close(path.world_from_cam, memory.views.cameras.world_from_cam)
    assert "views=4" in said()


def test_a_walk_can_be_repeated_in_place(picture, tmp_path):
    for moves in ("right 15", "right 15, left 15"):
        arguments = ["walk", *picture, "--moves", moves, "--out", str(tmp_path / "out")]
        assert main(arguments) == 0
    assert len(load(tmp_path / "out" / "memory")) == 3


@pytest.mark.parametrize("kind", ["transforms.json", "path.txt"])
def test_a_trajectory_starts_where_the_image_was_taken(box, picture, tmp_path, kind):
    start = box.look(50.0, at=(3.0, 1.0, 2.0), fov=80.0)
    path = torch.cat([start.world_from_cam, orbit(start[0], 2.0, 10.0, 2).world_from_cam])
    file = tmp_path / kind
    if kind.endswith("txt"):
        write_realestate10k(file, cameras(path, start.K[0]))
    else:
        write_transforms(file, cameras(path, start.K[0]), (48, 64))
    out = ["--out", str(tmp_path / "out")]
    assert main(["walk", *picture, "--trajectory", str(file), *out]) == 0
    taken = load(tmp_path / "out" / "memory").views.cameras
    expected = torch.linalg.inv(path[0]) @ path
    torch.testing.assert_close(taken.world_from_cam, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(taken.K[0], start.K[0], atol=1e-4, rtol=0)  # the file's lens


def test_depth_of_another_resolution_fits_if_it_shows_the_same(picture, tmp_path):
    half = tmp_path / "half.npy"
    np.save(half, np.full((24, 32), 2.5, dtype=np.float32))
    arguments = ["walk", picture[0], "--depth", str(half), "--size", "24", "--moves", "right 5"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert load(tmp_path / "out" / "memory").views.depth[0].unique().tolist() == [2.5]


@pytest.mark.parametrize("fast", [False, True])
def test_published_weights_paint_a_walk_in_sizes_that_they_can(
    picture, tmp_path, monkeypatch, fast
):
    """A small network in their place: what is asked of `preset`, and that its images arrive."""
    asked = {}

    def preset(name, folder, **changes):
        asked.update(name=name, folder=folder, **changes)
        return small(steps=2)

    monkeypatch.setattr(cli, "preset", preset)
    monkeypatch.setattr(cli, "PUBLISHED_HEIGHT", 64)
    options = ["--generator", "vmem", "--weights", "somewhere", "--moves", "right 30"]
    image_and_depth = picture[:3]
    out = ["--out", str(tmp_path / "out"), *(["--fast"] if fast else [])]
    assert main(["walk", *image_and_depth, *options, *out]) == 0
    assert asked == {"name": "vmem", "folder": "somewhere"} | (FAST if fast else {})
    views = load(tmp_path / "out" / "memory").views
    assert views.image.shape == (3, 3, 64, 64)  # 85 columns wide, in steps of 64
    assert views.latent.isfinite().all()


def test_cut3r_finds_the_depth_of_a_walk_if_asked_to(picture, tmp_path, monkeypatch, capsys):
    """A small network in its place, which says nonsense: what is said of that."""
    asked, net = [], seeing_ahead()
    monkeypatch.setattr(cli, "cut3r", lambda file: asked.append(file) or Cut3r(net, "none"))
    monkeypatch.setattr(weights, "find", lambda name, folder: tmp_path / f"{folder}/{name}.pth")
    out = ["--out", str(tmp_path / "out"), "--moves", "right 20", "--size", "48"]
    how = ["--geometry", "cut3r", "--weights", "there", "--generator", "warp"]
    assert main(["walk", *picture[:3], *how, *out]) == 0
    assert asked == [tmp_path / "there/cut3r.pth"]
    said = capsys.readouterr().out
    assert "view 1: implausible scale" in said
    memory = load(tmp_path / "out" / "memory")
    assert len(memory.views) == 3
    assert memory.ends.surfels[0] == len(memory.surfels)  # what is not trusted leaves none


def test_missing_published_weights_are_one_line_and_code_2(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "find", lambda *a: None)
    seva, out = ["--generator", "seva"], ["--out", str(tmp_path / "out")]
    assert main(["walk", *picture[:3], *seva, *out]) == 2
    assert "vmemkit weights get seva" in " ".join(capsys.readouterr().err.split())
    assert main(["walk", *picture, *seva, *out]) == 2  # 24 pixels
    assert "needs --size of 64 or more, got 24" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_without_depth_it_says_what_is_needed_and_the_ways_to_get_it(picture, tmp_path, said):
    assert main(["walk", picture[0], "--out", str(tmp_path / "out")]) == 2
    words = said()
    assert all(way in words for way in ("--depth", "16-bit PNG", "stereo", "monocular"))
    assert not (tmp_path / "out").exists()


def bad(picture: list[str]) -> dict[str, tuple[list[str], str]]:
    image, depth = picture[0], picture[2]
    return {
        "no image": (["nowhere.png", "--depth", depth], "cannot read"),
        "no depth": ([image, "--depth", "nowhere.png"], "cannot read"),
        "an image as depth": ([image, "--depth", image], "16 bits"),
        "a wrong move": ([*picture, "--moves", "fly 3"], "a move is a verb"),
        "a wrong unit": ([*picture, "--depth-unit", "0"], "unit"),
        "no policy": ([*picture, "--policy", "guess"], "unknown policy"),
        "no field of view": ([*picture, "--fov", "0"], "field of view"),
        "no views": ([*picture, "--k", "0"], "k >= 1"),
        "no size": ([*picture, "--size", "0"], "pixels"),
        "a giant": ([*picture, "--size", "99999"], "pixels"),
        "no trajectory": ([*picture, "--trajectory", "nowhere.json"], "cannot read"),
        "no text": ([*picture, "--trajectory", "nowhere.txt"], "cannot read"),
    }


@pytest.mark.parametrize("case", bad(["", "", ""]))
def test_bad_input_is_one_line_and_code_2_and_nothing_is_written(picture, tmp_path, capsys, case):
    arguments, words = bad(picture)[case]
    assert main(["walk", *arguments, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_depth_map_of_another_shape_is_refused(picture, tmp_path, said):
    square = tmp_path / "square.npy"
    np.save(square, np.ones((32, 32), dtype=np.float32))
    assert main(["walk", picture[0], "--depth", str(square)]) == 2
    assert "same part of the scene" in said()


def test_a_trajectory_of_one_camera_is_refused(box, picture, tmp_path, said):
    write_transforms(tmp_path / "one.json", box.look(0.0), (48, 64))
    assert main(["walk", *picture, "--trajectory", str(tmp_path / "one.json")]) == 2
    assert "two cameras or more" in said()


def test_foreign_files_stay_as_they_are(picture, tmp_path, said):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out" / "memory").mkdir(parents=True)
    (tmp_path / "out" / "memory" / "diary.txt").write_text("mine")
    walk = ["walk", *picture, "--moves", "right 5", "--out"]
    assert main([*walk, str(tmp_path / "file")]) == 2
    assert main([*walk, str(tmp_path / "out")]) == 2
    assert "holds other files" in said()
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["memory"]


def test_the_demonstration_ends_with_a_table_of_its_metrics(tmp_path, said, monkeypatch):
    monkeypatch.setattr(demo, "demo", functools.partial(demonstration.demo, height=16))
    assert main(["demo", "--out", str(tmp_path), "--walks", "stereo"]) == 0
    words, rows = said(), json.loads((tmp_path / "metrics.json").read_text())
    assert all(f"{row['return_psnr']:.1f}" in words for row in rows)
    assert "Higher is better" in words
    assert str(tmp_path) in words.replace(" ", "")


def test_the_better_of_each_walk_is_bold():
    rows = [
        {"walk": "a", "policy": policy, **dict.fromkeys(terminal.METRICS), "return_psnr": psnr}
        for policy, psnr in (("coverage", 30.0), ("temporal", 12.0))
    ]
    column = terminal.metrics_table(rows).columns[4]
    assert [(str(cell), cell.style) for cell in column.cells] == [("30.0", "bold"), ("12.0", "")]


def test_an_unknown_walk_is_refused(tmp_path, said):
    assert main(["demo", "--walks", "moon", "--out", str(tmp_path / "out")]) == 2
    assert "rooms_capture" in said()
    assert not (tmp_path / "out").exists()


def test_interrupting_is_quiet(monkeypatch, said):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "demo", interrupted)
    assert main(["demo"]) == 130
    assert "Traceback" not in said()


def test_the_doctor_names_versions_device_data_and_weights(said):
    assert main(["doctor"]) == 0
    words = said()
    assert all(word in words for word in ("torch", torch.__version__, "numpy", "data", "weights"))
    assert "no weights" in words


@pytest.fixture
def weight_folder(tmp_path, monkeypatch):
    """A folder that VMEMKIT_WEIGHTS names, on a machine without other weights."""
    monkeypatch.setenv(FOLDERS, str(tmp_path / "weights"))
    monkeypatch.delenv(hub.MIRRORS, raising=False)
    monkeypatch.setattr(weights, "_in_cache", lambda *_: None)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_the_doctor_names_the_weights_that_are_here_in_one_line(weight_folder, capsys):
    (weight_folder / "vmem_weights.pth").touch()
    (weight_folder / "clip").mkdir()
    (weight_folder / "clip" / "model.safetensors").touch()
    assert main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("weights ")]
    assert "vmem, clip found, none needed" in line


def test_the_doctor_survives_malformed_mirrors(weight_folder, monkeypatch, said):
    monkeypatch.setenv(hub.MIRRORS, "vae")
    assert main(["doctor"]) == 0
    assert "not looked for: VMEMKIT_MIRRORS needs the form" in said()


def test_weights_are_listed_with_their_terms_and_where_they_are(weight_folder, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    (weight_folder / "vmem_weights.pth").touch()
    assert main(["weights"]) == 0
    out = capsys.readouterr().out
    for name, entry in WEIGHTS.items():
        [line] = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert all(words in line for words in (entry.what, entry.size_text, entry.licence))
        assert line.split()[-2] == ("yes" if entry.gated else "no")
        assert line.split()[-1] == (
            str(weight_folder / "vmem_weights.pth") if name == "vmem" else "no"
        )
    assert "None is needed" in out


def test_the_terms_are_shown_before_a_download(weight_folder, monkeypatch, said):
    words = []

    def download(repository, file, *, subfolder, local_dir):
        words.append((repository, said()))
        path = Path(local_dir) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    options = ["--folder", str(weight_folder), "--repository", "me/my-vae"]
    assert main(["weights", "get", "vae", *options]) == 0
    repository, before = words[0]
    assert repository == "me/my-vae"
    assert WEIGHTS["vae"].terms in before
    assert f"vae is in {weight_folder}" in said()


def test_weights_are_checked_by_name_and_by_file(weight_folder, monkeypatch, said):
    small = dataclasses.replace(WEIGHTS["vmem"], keys=2, parameters=1500)
    monkeypatch.setitem(WEIGHTS, "vmem", small)
    file = weight_folder / "vmem_weights.pth"
    torch.save({"module.a": torch.ones(1499), "b": torch.ones(1).half()}, file)
    for asked in ("vmem", str(file)):
        assert main(["weights", "check", asked]) == 0
        words = said()
        assert "2 keys, 1,500 parameters, float16 and float32" in words
        assert "its numbers are those of vmem" in words
    torch.save({"a": torch.ones(7)}, file)
    assert main(["weights", "check", str(file)]) == 0
    assert "its numbers are those of no entry of the table" in said()
    assert main(["weights", "check", "vmem"]) == 2
    assert "is not vmem, which has 2 keys and 1,500 parameters" in said()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "vmen"], "no weights are called 'vmen'"),
        (["check", "seva"], "modelv1.1.safetensors is not on this machine"),
        (["check", "vmen"], "vmen is missing: give a file"),
        (["check", "vmem"], "is refused: besides tensors its pickle asks for"),
    ],
)
def test_bad_weights_are_one_line_and_code_2(weight_folder, capsys, arguments, words):
    torch.save({"a": torch.nn.Linear(1, 1)}, weight_folder / "vmem_weights.pth")
    assert main(["weights", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["walk"], ["walk", "a.png", "--k", "two"]])
def test_wrong_usage_is_code_2(arguments, said):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage" in said()


def test_the_package_is_a_program():
    command = [sys.executable, "-m", "vmemkit", "walk", "nowhere.png"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
