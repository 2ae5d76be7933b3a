"""Bad input is one line and exit code 2, with nothing written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vmemkit.cli import main
from vmemkit.core import data_file, save_image
from vmemkit.scenes import write_transforms

PHOTO = ["image.png", "--depth", "depth.png"]  # files of the fixture `picture`
PHOTOGRAPH = str(data_file("cycles_left.png"))
WALK = {
    "no image": (["nowhere.png", "--depth", "depth.png"], "cannot read"),
    "no depth file": (["image.png", "--depth", "nowhere.png"], "cannot read"),
    "an image as depth": (["image.png", "--depth", "image.png"], "16 bits"),
    "another shape": (["image.png", "--depth", "square.npy"], "same part of the scene"),
    "a wrong move": ([*PHOTO, "--moves", "fly 3"], "a move is a verb"),
    "a wrong unit": ([*PHOTO, "--depth-unit", "0"], "unit"),
    "no policy": ([*PHOTO, "--policy", "guess"], "unknown policy"),
    "no field of view": ([*PHOTO, "--fov", "0"], "field of view"),
    "no views": ([*PHOTO, "--k", "0"], "k >= 1"),
    "no size": ([*PHOTO, "--size", "0"], "pixels"),
    "a giant": ([*PHOTO, "--size", "99999"], "pixels"),
    "no trajectory": ([*PHOTO, "--trajectory", "nowhere.json"], "cannot read"),
    "no text": ([*PHOTO, "--trajectory", "nowhere.txt"], "cannot read"),
    "a turned lens": (["turned.jpg", "--trajectory", "one.json"], "EXIF orientation turns them"),
    "one camera": ([*PHOTO, "--trajectory", "one.json"], "two cameras or more"),
    "no weights": ([*PHOTO, "--generator", "seva"], "vmemkit weights get seva"),
    "no room": (["grey.png"], "shows no room by its lines"),
    "no eye height": ([PHOTOGRAPH, "--eye-height", "0"], "an eye height is 0.05 to 50 metres"),
    "no lens for a room": ([PHOTOGRAPH, "--fov", "200"], "field of view"),
    "no network": (
        [PHOTOGRAPH, "--depth", "auto"],
        "Get it with `vmemkit weights get depth-metric`",
    ),
    "too small": ([*PHOTO, "--generator", "seva", "--size", "24"], "--size of 64 or more, got 24"),
}
OTHERS = {
    "an unknown walk": (["demo", "--walks", "moon"], "rooms_capture"),
    "too few trials": (["evaluate", "generator", "--count", "1"], "--count must be 2 or more"),
}
WEIGHTS = {
    "an unknown name": (["get", "vmen"], "no weights are called 'vmen'"),
    "a missing file": (["check", "seva"], "modelv1.1.safetensors is not on this machine"),
    "an unknown file": (["check", "vmen"], "vmen is missing: give a file"),
    "a pickled module": (["check", "vmem"], "is refused: besides tensors its pickle asks for"),
}


def refused(arguments: list[str], words: str, capsys) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("case", WALK)
def test_a_bad_walk_is_refused(case, box, picture, weight_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(Path(picture[0]).parent)
    save_image("grey.png", torch.full((3, 48, 64), 0.5))
    np.save("square.npy", np.ones((32, 32), dtype=np.float32))
    write_transforms("one.json", box.look(0.0), (48, 64))
    turned = Image.Exif()
    turned[0x112] = 8
    Image.new("RGB", (64, 48)).save("turned.jpg", exif=turned)
    arguments, words = WALK[case]
    refused(["walk", *arguments, "--out", str(tmp_path / "out")], words, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", OTHERS)
def test_bad_arguments_are_refused(case, tmp_path, capsys):
    arguments, words = OTHERS[case]
    refused([*arguments, "--out", str(tmp_path / "out")], words, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", WEIGHTS)
def test_bad_weights_are_refused(case, weight_folder, capsys):
    torch.save({"a": torch.nn.Linear(1, 1)}, weight_folder / "vmem_weights.pth")
    arguments, words = WEIGHTS[case]
    refused(["weights", *arguments], words, capsys)


def test_where_no_room_is_seen_the_ways_to_depth_are_named(tmp_path, printed):
    save_image(tmp_path / "grey.png", torch.full((3, 48, 64), 0.5))
    assert main(["walk", str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]) == 2
    words = printed()
    assert all(way in words for way in ("--depth", "16-bit PNG", "stereo", "monocular"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["fly"], ["walk"], ["walk", "a.png", "--k", "two"]])
def test_wrong_usage_is_code_2(arguments, printed):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage" in printed()
