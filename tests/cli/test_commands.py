"""The commands: what they write and print."""

import argparse
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_helpers import small
from golden_helpers import seeing_ahead
from PIL import ExifTags, Image
from rich.console import Console

from vmemkit import scenes
from vmemkit.cli import arguments as known
from vmemkit.cli import main, terminal
from vmemkit.cli.commands import COMMANDS, parser, run_command
from vmemkit.cli.demonstration import WALKS
from vmemkit.cli.evaluate import CANDIDATE, run_evaluate
from vmemkit.cli.walk import WEIGHTLESS, run_walk
from vmemkit.cli.weights import run_get
from vmemkit.core import (
    cameras,
    data_file,
    image_bytes,
    intrinsics,
    save_depth,
    save_image,
    stream,
)
from vmemkit.evaluation import GATE, FillBaseline
from vmemkit.generation import FAST, PRESETS, Warp, read_facts
from vmemkit.generation.diffusion import DEFAULT_FOV
from vmemkit.memory import load
from vmemkit.nets.weights import WEIGHTS as PUBLISHED
from vmemkit.reconstruction import Cut3r, DepthEstimator
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import (
    load_capture,
    orbit,
    rooms,
    single_tour,
    write_realestate10k,
    write_transforms,
)

pytestmark = pytest.mark.usefixtures("as_installed")  # shape checks would take half of the time
FILM_ROWS = 36  # a film of the usual size takes longer than the walk
CAPTURE = {"transforms.json", "images", "depth"}
WRITTEN = {"walk.mp4", "contact_sheet.png", "surfels.ply", "memory"} | CAPTURE


def run(command: Callable, arguments: list[str], **parts: object) -> None:
    """One command with parts of its own, such as a small network instead of published weights."""
    command(parser().parse_args(arguments), Console(), **parts)


def walk(arguments: list[str], **parts: object) -> None:
    """`vmemkit walk` with a small film."""
    run(run_walk, ["walk", *arguments], film_rows=FILM_ROWS, **parts)


def test_help_and_wrong_usage_load_nothing_heavy():
    code = """
import sys
from vmemkit.cli import main
for line in sys.stdin.read().splitlines():
    try:
        main(line.split())
    except SystemExit:
        continue
    raise AssertionError(f"{line} has run")
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "numpy", "numba", "rich"}, loaded
rooms = {name for name in sys.modules if name.startswith("vmemkit.")}
assert all(name.startswith("vmemkit.cli") for name in rooms), rooms
"""
    lines = ["--help", "--version", "wlak", "", "--wlak", "walk", "walk a.png --k two", "evaluate"]
    lines += [f"{name} --help" for name in (*COMMANDS, "evaluate generator", "weights get")]
    text = "\n".join(lines) + "\n"
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True)


def test_the_arguments_know_what_the_rooms_have():
    """They are written down twice, because the rooms take seconds to import."""
    assert tuple(scenes.EXAMPLES) == known.EXAMPLES
    assert known.EYE_HEIGHT == scenes.EYE_HEIGHT
    assert known.PHOTO_FOV == scenes.PHOTO_FOV
    assert known.DEFAULT_FOV == DEFAULT_FOV
    assert tuple(POLICIES) == known.POLICIES
    assert tuple(WEIGHTLESS) == known.GENERATORS
    assert tuple(PRESETS) == known.PRESETS
    assert tuple(WALKS) == known.WALKS
    assert tuple(PUBLISHED) == known.WEIGHTS


@pytest.mark.parametrize("name", ["colour photo, depth of a box", "photo with stereo depth"])
def test_a_walk_starts_from_an_example(name, tmp_path, capsys):
    walk([name, "--size", "24", "--moves", "right 30", "--out", str(tmp_path)])
    memory = load(tmp_path / "memory")
    assert memory.views.image.shape[2:] == (24, 32)
    assert int(memory.views.given.sum()) == 1
    assert "photograph" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--fov", "70"], ["--depth", "auto"], ["--eye-height", "1"]])
def test_an_example_has_a_lens_and_depth_of_its_own(option, tmp_path):
    with pytest.raises(ValueError, match=option[0]):
        walk(["photo with stereo depth", *option, "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_the_writer_walks_on_from_a_picture_of_a_house(tmp_path):
    house = rooms(0)
    view = house.render(single_tour(house).given, 51, 68)  # in steps of no number
    save_image(tmp_path / "image.png", view.image[0])
    save_depth(tmp_path / "depth.png", view.depth[0])
    picture = [str(tmp_path / "image.png"), "--depth", str(tmp_path / "depth.png"), "--size", "51"]
    how = ["--generator", "writer", "--fov", "75", "--moves", "right 20"]
    walk([*picture, *how, "--out", str(tmp_path / "out")])
    views = load(tmp_path / "out" / "memory").views
    assert views.image.shape == (3, 3, 51, 68)
    # The memory drops the depth of pixels that the given view has seen through.
    assert views.depth.isfinite().float().mean() > 0.99
    assert [facts is None for facts in read_facts(views)] == [True, False, False]


def test_a_walk_through_the_ceiling_keeps_the_steps_before_it(tmp_path, printed):
    house = rooms(0)
    view = house.render(single_tour(house).given, 48, 64)
    save_image(tmp_path / "image.png", view.image[0])
    save_depth(tmp_path / "depth.png", view.depth[0])
    picture = [str(tmp_path / "image.png"), "--depth", str(tmp_path / "depth.png"), "--size", "48"]
    how = ["--fov", "75", "--m", "3", "--out", str(tmp_path / "out")]
    walk([*picture, *how, "--moves", "up 1.5"])
    assert "because the next is refused: target " in printed()
    views = load(tmp_path / "out" / "memory").views
    assert len(views) > 1
    assert float(views.cameras.position[-1, 1]) < -0.5  # nearly at the ceiling


def test_the_writer_says_once_that_it_found_no_room(tmp_path, printed):
    down = torch.linspace(-0.5, 0.5, 48)[:, None].expand(48, 64)
    save_image(tmp_path / "image.png", torch.rand(3, 48, 64, generator=stream(0)))
    save_depth(tmp_path / "depth.png", (1.5 / down.clamp(min=0.03)).clamp(max=50.0))
    picture = [str(tmp_path / "image.png"), "--depth", str(tmp_path / "depth.png"), "--size", "48"]
    how = ["--generator", "writer", "--moves", "right 40", "--m", "1"]
    walk([*picture, *how, "--out", str(tmp_path / "out")])
    assert printed().count("no room was found") == 1


@pytest.mark.parametrize("policy", ["coverage", "temporal"])
def test_a_walk_writes_everything_that_it_says(picture, tmp_path, printed, policy):
    moves = ["--moves", "right 15, left 15, forward 0.25", "--policy", policy, "--m", "2"]
    assert main(["walk", *picture, *moves, "--out", str(tmp_path / "a" / "b")]) == 0
    out = tmp_path / "a" / "b"
    assert {path.name for path in out.iterdir()} == WRITTEN
    memory = load(out / "memory")
    assert len(memory) == 4
    assert memory.views.given.tolist() == [True, False, False, False]
    assert "views=4" in printed()
    views, again = memory.views, load_capture(out)
    torch.testing.assert_close(again.cameras.world_from_cam, views.cameras.world_from_cam)
    torch.testing.assert_close(again.cameras.K, views.cameras.K)
    assert torch.allclose(again.image, views.image, atol=1 / 255)
    assert torch.allclose(again.depth, views.depth, atol=0.001, equal_nan=True)


def test_a_walk_can_be_repeated_in_place(picture, tmp_path):
    for moves in ("right 15", "right 15, left 15"):
        walk([*picture, "--moves", moves, "--out", str(tmp_path / "out")])
    assert len(load(tmp_path / "out" / "memory")) == 3
    assert len(load_capture(tmp_path / "out")) == 3


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
    walk([*picture, "--trajectory", str(file), *out])
    taken = load(tmp_path / "out" / "memory").views.cameras
    expected = torch.linalg.inv(path[0]) @ path
    torch.testing.assert_close(taken.world_from_cam, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(taken.K[0], start.K[0], atol=1e-4, rtol=0)  # the file's lens


def trajectory(folder, frames, **shared):
    """A transforms.json of poses that step to the right, with frames changed as told."""
    rows = torch.eye(4).repeat(len(frames), 1, 1)
    rows[:, 0, 3] = torch.arange(len(frames)) * 0.05
    frames = [
        {"transform_matrix": row.tolist()} | own for row, own in zip(rows, frames, strict=True)
    ]
    file = folder / "path.json"
    file.write_text(json.dumps({"frames": frames} | shared))
    return ["--trajectory", str(file), "--out", str(folder / "out")]


LENS = {"w": 64, "h": 48, "fl_x": 50.0, "fl_y": 60.0, "cx": 20.0, "cy": 30.0}


def test_the_whole_lens_of_a_trajectory_is_kept(picture, tmp_path):
    walk([*picture, *trajectory(tmp_path, [{}] * 3, **LENS)])
    expected = torch.tensor([[50 / 64, 0, 20 / 64], [0, 60 / 48, 30 / 48], [0, 0, 1]])
    K = load_capture(tmp_path / "out").cameras.K
    torch.testing.assert_close(K, expected.expand(3, 3, 3))
    data = json.loads((tmp_path / "out/transforms.json").read_text())
    # The walk's images are half as high as those that the lens is stated for.
    pixels = [data[key] * 2 for key in ("fl_x", "fl_y", "cx", "cy")]
    assert pixels == pytest.approx([50, 60, 20, 30], abs=1e-3)


@pytest.mark.parametrize("size", ["24", "18"])
def test_the_zoom_of_a_trajectory_is_kept(picture, tmp_path, size):
    frames = [{"fl_x": 50.0 + 25 * i, "fl_y": 50.0 + 25 * i} for i in range(4)]
    how = [*picture[:3], "--size", size, *trajectory(tmp_path, frames, w=64, h=48)]
    walk(how)
    K = load_capture(tmp_path / "out").cameras.K
    assert (K[:, 0, 0] * 64).tolist() == pytest.approx([50, 75, 100, 125], rel=0.001)
    data = json.loads((tmp_path / "out/transforms.json").read_text())
    assert data["frames"][3]["fl_x"] == pytest.approx(125 / 48 * int(size), rel=0.001)


def test_a_trajectory_needs_only_poses(picture, tmp_path):
    frames = [{"file_path": f"gone/{i}.jpg"} for i in (10, 9, 8)]
    walk([*picture, *trajectory(tmp_path, frames)])
    cameras = load_capture(tmp_path / "out").cameras
    torch.testing.assert_close(cameras.position[:, 0], torch.tensor([0.0, -0.05, -0.1]))  # by name
    assert len(cameras.K.unique(dim=0)) == 1


@pytest.mark.parametrize(("lens", "code"), [({}, 0), (LENS, 2)])
def test_a_trajectory_without_a_lens_fits_a_photo_however_it_is_turned(tmp_path, lens, code):
    tag = Image.Exif()
    tag[0x112] = 3
    path = trajectory(tmp_path, [{}] * 2, **lens)
    # A photo that shows a room when it is turned upside down.
    with Image.open(data_file("cycles_left.png")) as photo:
        photo.rotate(180).save(tmp_path / "a.png", exif=tag)
    assert main(["walk", str(tmp_path / "a.png"), "--size", "24", *path]) == code


def test_a_lens_for_another_shape_is_cut_and_that_is_said(picture, tmp_path, printed):
    lens = {"w": 128, "h": 72, "fl_x": 100.0, "cy": 30.0}
    walk([*picture, *trajectory(tmp_path, [{}] * 2, **lens)])
    words = printed()
    assert "lens is for images of 1.78 : 1 and the image has 1.33 : 1" in words
    K = load_capture(tmp_path / "out").cameras.K[1]
    expected = [[100 / 128, 0, 0.5], [0, 100 / 96, (30 + 12) / 96], [0, 0, 1]]
    torch.testing.assert_close(K, torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_field_of_view_takes_the_place_of_a_trajectorys_lens_and_says_so(
    picture, tmp_path, printed
):
    walk([*picture, "--fov", "80", *trajectory(tmp_path, [{}] * 2, **LENS)])
    assert "--fov takes the place of the trajectory's lens" in printed()
    K = load_capture(tmp_path / "out").cameras.K
    torch.testing.assert_close(K, intrinsics(80.0, 4 / 3).expand(2, 3, 3))


def test_realestate10k_is_walked_in_the_order_of_its_times(picture, box, tmp_path):
    start = box.look(0.0, fov=70.0)
    path = torch.cat([start.world_from_cam, orbit(start[0], 2.0, 10.0, 2).world_from_cam])
    file, order = tmp_path / "path.txt", [2, 0, 1]
    write_realestate10k(file, cameras(path[order], start.K[0]), [20, 0, 10])
    out = ["--trajectory", str(file), "--out", str(tmp_path / "out")]
    walk([*picture, *out])
    taken = load(tmp_path / "out" / "memory").views.cameras.world_from_cam
    torch.testing.assert_close(taken, torch.linalg.inv(path[0]) @ path, atol=1e-4, rtol=0)


def test_the_depth_of_a_photo_that_exif_turns_turns_with_it(box, tmp_path):
    view, tag = box.render(box.look(0.0), 48, 64), Image.Exif()
    tag[0x112] = 6
    Image.fromarray(image_bytes(view.image)[0]).save(tmp_path / "a.jpg", exif=tag)
    save_depth(tmp_path / "d.png", view.depth[0])
    photo = [str(tmp_path / "a.jpg"), "--depth", str(tmp_path / "d.png"), "--size", "64"]
    out = ["--moves", "right 5", "--out", str(tmp_path / "out")]
    walk([*photo, *out])
    given = load(tmp_path / "out" / "memory").views
    assert given.image.shape[2:] == (64, 48)
    expected = torch.rot90(view.depth[0], -1)
    torch.testing.assert_close(given.depth[0], expected, atol=0.0006, rtol=0)


def taken(tmp_path, size, *arguments, **options):
    """A walk into a photo with depth of `size`; the focal length over the longer side."""
    height, width = size
    Image.new("RGB", (width, height), "grey").save(tmp_path / "photo.jpg", **options)
    np.save(tmp_path / "depth.npy", np.full(size, 2.5))
    files = [str(tmp_path / "photo.jpg"), "--depth", str(tmp_path / "depth.npy")]
    how = [*arguments, "--size", "48", "--moves", "right 5", "--out", str(tmp_path / "out")]
    walk([*files, *how])
    lens = json.loads((tmp_path / "out" / "transforms.json").read_text())
    return lens["fl_x"] / max(lens["w"], lens["h"])


@pytest.mark.parametrize("size", [(60, 80), (80, 60)])
def test_a_photo_held_upright_has_the_same_lens(tmp_path, printed, size):
    focal = 0.5 / np.tan(np.radians(65 / 2))
    assert taken(tmp_path, size) == pytest.approx(focal, rel=0.02)
    assert "across, a guess: 65 along the longer side" in printed()


def test_the_focal_length_of_the_photo_counts_and_fov_counts_more(tmp_path, printed):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 24
    assert taken(tmp_path, (60, 80), exif=exif) == pytest.approx(24 / 36, rel=0.01)
    assert "73.7 degrees across, by the focal length in its EXIF data" in printed()
    assert taken(tmp_path, (60, 80), "--fov", "90", exif=exif) == pytest.approx(0.5, rel=0.01)
    assert "EXIF" not in printed()


def test_depth_in_the_wrong_unit_is_doubted_aloud(picture, tmp_path, printed):
    how = ["--moves", "right 5", "--out", str(tmp_path / "out")]
    walk([*picture, *how])
    assert "is its unit right?" not in printed()
    walk([*picture, "--depth-unit", "1", *how])
    words = printed()
    assert "a photo with depth of 2" in words
    assert "m: is its unit right?" in words


def test_depth_of_another_resolution_fits_if_it_shows_the_same(picture, tmp_path):
    half = tmp_path / "half.npy"
    np.save(half, np.full((24, 32), 2.5, dtype=np.float32))
    arguments = [picture[0], "--depth", str(half), "--size", "24", "--moves", "right 5"]
    walk([*arguments, "--out", str(tmp_path / "out")])
    assert load(tmp_path / "out" / "memory").views.depth[0].unique().tolist() == [2.5]


def test_a_photo_alone_can_be_walked_into_and_the_guess_is_said(tmp_path, printed):
    photo = str(data_file("cycles_left.png"))
    how = ["--size", "48", "--moves", "forward 0.25, right 15", "--eye-height", "1.2"]
    walk([photo, *how, "--out", str(tmp_path)])
    words = printed()
    assert "depth is a rough guess: the photo is taken for a box" in words
    assert "1.2 m above the floor with a field of view of 65 degrees" in words
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN
    views = load(tmp_path / "memory").views
    assert views.image.shape == (3, 3, 48, 64)
    assert views.depth.isfinite().all()
    forward = views.cameras.forward
    assert forward[0, 1] > 0.2  # the camera looked down
    step = views.cameras.position[1] - views.cameras.position[0]
    assert abs(float(step[1])) < 1e-5  # and walks on level ground
    assert float(step.norm()) == pytest.approx(0.25, abs=1e-5)


def test_a_trajectory_goes_on_from_where_a_photo_stands_in_its_room(box, tmp_path):
    path = torch.cat([torch.eye(4)[None], orbit(box.look(0.0)[0], 2.0, 10.0, 2).world_from_cam])
    write_transforms(tmp_path / "path.json", cameras(path, box.look(0.0).K[0]), (48, 64))
    arguments = [str(data_file("cycles_left.png")), "--depth", "room", "--size", "24"]
    out = ["--trajectory", str(tmp_path / "path.json"), "--out", str(tmp_path / "out")]
    walk([*arguments, *out])
    taken = load(tmp_path / "out" / "memory").views.cameras.world_from_cam
    torch.testing.assert_close(torch.linalg.inv(taken[:1]) @ taken, path, atol=1e-4, rtol=0)


@pytest.mark.parametrize("yes", [False, True])
def test_a_network_s_depth_is_asked_for_by_name(tmp_path, printed, yes):
    consents = []

    def load_estimator(folder, consent):
        consents.append((folder, consent(PUBLISHED["depth-metric"])))
        return DepthEstimator(lambda image: torch.full((30, 40), 2.0), True, "a test")

    photo = [str(data_file("cycles_left.png")), "--depth", "auto", "--weights", "here"]
    how = ["--size", "24", "--moves", "right 5", *(["--yes"] if yes else [])]
    walk([*photo, *how, "--out", str(tmp_path)], load_estimator=load_estimator)
    assert consents == [("here", yes)]  # a test is no terminal: nobody can be asked
    words = printed()
    assert ("about 99 MB" in words) is yes
    assert ("Apache-2.0" in words) is yes
    assert "depth is estimated by a test: in metres" in words
    assert load(tmp_path / "memory").views.depth[0].unique().tolist() == [2.0]


@pytest.mark.parametrize("fast", [False, True])
def test_published_weights_make_a_walk_in_sizes_that_they_can(picture, tmp_path, fast):
    requests = []

    def load_generator(*arguments, **settings):
        requests.append((arguments, settings))
        return small(steps=2)

    options = ["--generator", "vmem", "--weights", "somewhere", "--moves", "right 30"]
    out = ["--out", str(tmp_path / "out"), *(["--fast"] if fast else [])]
    walk([*picture[:3], "--size", "64", *options, *out], load_generator=load_generator)
    assert requests == [(("vmem", "somewhere"), FAST if fast else {})]
    views = load(tmp_path / "out" / "memory").views
    assert views.image.shape == (3, 3, 64, 64)  # 85 columns wide, in steps of 64
    assert views.latent.isfinite().all()


def test_cut3r_finds_the_depth_of_a_walk(picture, tmp_path, printed):
    """A small network in its place, whose wrong scale is reported."""
    folders, net = [], seeing_ahead()

    def load_reconstructor(folder):
        folders.append(folder)
        return Cut3r(net, "none")

    out = ["--out", str(tmp_path / "out"), "--moves", "right 20", "--size", "48"]
    how = ["--geometry", "cut3r", "--weights", "there", "--generator", "warp"]
    walk([*picture[:3], *how, *out], load_reconstructor=load_reconstructor)
    assert folders == ["there"]
    assert "view 1: implausible scale" in printed()
    memory = load(tmp_path / "out" / "memory")
    assert len(memory.views) == 3
    assert memory.ends[0] == len(memory.surfels)  # untrusted views leave no surfels


def test_images_of_others_are_noticed_before_the_walk(picture, tmp_path, printed):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.jpg").write_text("mine")
    assert main(["walk", *picture, "--moves", "right 5", "--out", str(tmp_path)]) == 2
    assert "images holds other files (holiday.jpg)" in printed()
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def stops():
    """A generator that is Warp twice; the third time somebody presses Ctrl-C."""
    calls = itertools.count()

    def generate(context, targets, rng):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return Warp()(context, targets, rng)

    return generate


def test_a_walk_that_is_stopped_writes_the_steps_that_were_taken(picture, tmp_path):
    arguments = [*picture, "--moves", "right 60", "--m", "1", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        walk(
            [*arguments, "--generator", "seva", "--size", "64"],
            load_generator=lambda *_, **__: stops(),
        )
    assert len(load(tmp_path / "memory")) == 3
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN


@pytest.mark.parametrize("foreign", ["memory/notes.txt", "walk.mp4/notes.txt", "transforms.json/a"])
def test_what_cannot_be_replaced_is_noticed_before_the_walk(foreign, picture, tmp_path):
    (tmp_path / foreign).parent.mkdir()
    (tmp_path / foreign).write_text("mine")

    def walks(*_: object) -> None:
        pytest.fail("the walk has begun")

    with pytest.raises(ValueError, match=Path(foreign).parts[0]):
        walk(
            [*picture, "--out", str(tmp_path), "--generator", "seva", "--size", "64"],
            load_generator=lambda *_, **__: walks,
        )
    assert (tmp_path / foreign).read_text() == "mine"


@pytest.mark.parametrize("name", ["a[b]c", "x[/b]", "[red]", "客厅"])
def test_any_folder_is_named_as_it_is_on_any_terminal(name, picture, tmp_path, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    out = tmp_path / name
    options = parser().parse_args(["walk", *picture, "--moves", "right 5", "--out", str(out)])
    options.run = partial(run_walk, film_rows=FILM_ROWS)
    assert run_command(options) == 0
    said = terminal.buffer.getvalue().decode("cp1252").replace("\n", "")
    assert name.encode("cp1252", "replace").decode() in said
    assert len(load(out / "memory")) > 1


def test_foreign_files_stay_as_they_are(picture, tmp_path, printed):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out" / "memory").mkdir(parents=True)
    (tmp_path / "out" / "memory" / "diary.txt").write_text("mine")
    walk = ["walk", *picture, "--moves", "right 5", "--out"]
    assert main([*walk, str(tmp_path / "file")]) == 2
    assert main([*walk, str(tmp_path / "out")]) == 2
    assert "holds other files" in printed()
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["memory"]


def test_the_table_of_metrics_fits_80_columns_and_ends_with_what_means_least():
    row = {"walk": "rooms_capture", "policy": "coverage", **dict.fromkeys(terminal.METRICS, 0.5)}
    assert Console(width=400).measure(terminal.metrics_table([row])).maximum <= 80
    assert list(terminal.METRICS)[-1] == "return_psnr"


def test_the_better_of_each_walk_is_bold():
    rows = [
        {"walk": "a", "policy": policy, **dict.fromkeys(terminal.METRICS), "truth_psnr": psnr}
        for policy, psnr in (("coverage", 30.0), ("temporal", 12.0))
    ]
    column = terminal.metrics_table(rows).columns[5]
    assert [(str(cell), cell.style) for cell in column.cells] == [("30.0", "bold"), ("12.0", "")]


def test_the_version_is_told(printed):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert printed().strip() == f"vmemkit {version('vmemkit')}"


def test_interrupting_is_quiet(printed):
    def interrupted(options, console):
        raise KeyboardInterrupt

    assert run_command(argparse.Namespace(run=interrupted)) == 130
    assert "Traceback" not in printed()


def test_a_walk_without_an_encoder_keeps_the_rest(picture, tmp_path, monkeypatch, printed):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", sys.executable)
    out = tmp_path / "a[b]c"
    assert main(["walk", *picture, "--moves", "right 5", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == WRITTEN - {"walk.mp4"}
    words = printed()
    assert "no video was written: the video encoder" in words
    assert (
        f"contact sheet, surfels, memory, and images with depth and cameras are in {out}" in words
    )


def test_the_doctor_names_versions_device_data_and_weights(printed):
    assert main(["doctor"]) == 0
    words = printed()
    assert all(word in words for word in ("torch", torch.__version__, "numpy", "data", "weights"))
    assert "no weights" in words


def test_the_doctor_tests_the_video_encoder(monkeypatch, printed):
    assert main(["doctor"]) == 0
    assert "a test video was written" in printed()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", sys.executable)  # no encoder: it refuses our options
    assert main(["doctor"]) == 0
    assert "none that works, so walks come without videos: the video encoder" in printed()


def test_the_doctor_names_the_weights_that_are_here_in_one_line(weight_folder, capsys):
    (weight_folder / "vmem_weights.pth").touch()
    (weight_folder / "clip").mkdir()
    (weight_folder / "clip" / "model.safetensors").touch()
    assert main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("weights ")]
    assert "vmem, clip found, none needed" in line


def test_the_doctor_survives_malformed_mirrors(weight_folder, monkeypatch, printed):
    monkeypatch.setenv("VMEMKIT_MIRRORS", "vae")
    assert main(["doctor"]) == 0
    assert "not looked for: VMEMKIT_MIRRORS needs the form" in printed()


def test_weights_are_listed_with_their_terms_and_where_they_are(weight_folder, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    (weight_folder / "vmem_weights.pth").touch()
    assert main(["weights"]) == 0
    out = capsys.readouterr().out
    for name, entry in PUBLISHED.items():
        [line] = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert all(words in line for words in (entry.what, entry.size_text, entry.licence))
        assert line.split()[-2] == ("yes" if entry.gated else "no")
        assert line.split()[-1] == (
            str(weight_folder / "vmem_weights.pth") if name == "vmem" else "no"
        )
    assert "None is needed" in out


def test_the_terms_are_shown_before_a_download(weight_folder, printed):
    requests = []

    def download(*arguments):
        requests.append((arguments, printed()))
        return weight_folder / "vae.safetensors"

    options = ["--folder", "here", "--repository", "me/my-vae"]
    run(run_get, ["weights", "get", "vae", *options], download=download)
    [(arguments, shown)] = requests
    assert arguments == ("vae", "here", "me/my-vae")
    assert PUBLISHED["vae"].terms in shown
    assert f"vae is in {weight_folder}" in printed()


def test_weights_are_checked_by_name_and_by_file(weight_folder, printed):
    entry, file = PUBLISHED["vmem"], weight_folder / "vmem_weights.pth"
    state = {f"module.{i}": torch.ones(1) for i in range(entry.keys - 1)}
    # A file stores the one number behind it: the tensor has the published size, the file has not.
    rest = torch.ones(1).half().expand(entry.parameters - entry.keys + 1)
    torch.save(state | {"rest": rest}, file)
    for asked in ("vmem", str(file)):
        assert main(["weights", "check", asked]) == 0
        words = printed()
        size = f"{entry.keys:,} keys, {entry.parameters:,} parameters, float16 and float32"
        assert size in words
        assert "it has the size of vmem" in words
    torch.save({"a": torch.ones(7)}, file)
    assert main(["weights", "check", str(file)]) == 0
    assert "it has the size of no entry of the table" in printed()
    assert main(["weights", "check", "vmem"]) == 2
    assert f"is not vmem, which has {entry.keys:,} keys" in printed()


def test_the_package_is_a_program():
    command = [sys.executable, "-m", "vmemkit", "walk", "nowhere.png"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr


# ---- evaluate ------------------------------------------------------------------------------------


def test_evaluate_writes_numbers_and_images(tmp_path, printed):
    arguments = ["evaluate", "generator", "--count", "2", "--houses", "1", "--out", str(tmp_path)]
    run(run_evaluate, arguments, generators={CANDIDATE: FillBaseline("nearest")})
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["gate"].keys() == GATE.keys()
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    words = printed()
    assert "depth error" in words
    assert "wanted" in words
