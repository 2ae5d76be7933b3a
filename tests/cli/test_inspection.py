"""`vmemkit inspect`, and walks that begin in a recording."""

import numpy as np
import pytest
import torch
from PIL import Image
from recording_helpers import house_views, write_colmap_text, write_lyra, write_tum

from vmemkit import scenes
from vmemkit.cli import arguments as known
from vmemkit.cli import main
from vmemkit.cli.walk import read_path
from vmemkit.core import save_image
from vmemkit.memory import begin
from vmemkit.sessions import Session

pytestmark = pytest.mark.usefixtures("as_installed")


@pytest.fixture(scope="module")
def recorded():
    return house_views(4)


@pytest.fixture(scope="module")
def folder(recorded, tmp_path_factory):
    return str(write_tum(recorded, tmp_path_factory.mktemp("tum")))


def test_the_help_names_all_formats():
    assert tuple(scenes.FORMATS) == known.RECORDINGS


def test_inspect_prints_what_it_took_the_path_for_and_draws_it(folder, printed, tmp_path):
    picture = tmp_path / "cameras.png"
    assert main(["inspect", folder, "--fov", "75", "--picture", str(picture)]) == 0
    words = printed()
    for text in ("TUM RGB-D", "64 x 48", "-y of the world", "matched by time", "differs by"):
        assert text in words
    with Image.open(picture) as image:
        assert image.size == (1200, 630)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 200  # the surfaces are there in their colours


def test_inspect_draws_a_bare_trajectory_and_a_single_camera(recorded, tmp_path):
    for views in (recorded, recorded[:1]):
        file = write_lyra(views, tmp_path)
        assert main(["inspect", str(file), "--picture", str(tmp_path / "a.png")]) == 0
        assert (tmp_path / "a.png").stat().st_size > 5000
        (tmp_path / "a.png").unlink()


def test_inspect_refuses_what_it_does_not_know_in_one_line(folder, printed, tmp_path):
    assert main(["inspect", str(tmp_path)]) == 2
    assert "Recognised are transforms" in printed()
    assert main(["inspect", folder, "--format", "blender"]) == 2
    assert "format must be one of" in printed()


def test_inspect_says_what_to_do_with_a_session(recorded, printed, tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin(recorded))
    assert main(["inspect", str(tmp_path)]) == 2
    words = printed()
    assert "is the session of a walk" in words
    assert f"vmemkit show {tmp_path}" in words
    assert main(["show", str(tmp_path)]) == 0


def test_a_walk_begins_in_a_recording_with_depth(recorded, printed, tmp_path):
    scenes.save_capture(recorded, tmp_path / "capture")
    out = tmp_path / "out"
    options = ["--moves", "right 15", "--size", "24", "--generator", "warp", "--out", str(out)]
    assert main(["walk", str(tmp_path / "capture"), *options]) == 0
    assert "4 of 4 views of a recording (transforms.json" in printed()
    walked = scenes.load_capture(out)
    assert len(walked) == 5
    torch.testing.assert_close(
        walked.cameras.position[:4], recorded.cameras.position, atol=1e-5, rtol=0
    )


def test_a_walk_needs_depth_and_refuses_another(recorded, printed, tmp_path):
    folder = str(write_colmap_text(recorded, tmp_path))
    assert main(["walk", folder, "--out", str(tmp_path / "out")]) == 2
    assert "without depth, which a walk has to know" in printed()
    assert main(["walk", folder, "--fov", "60", "--out", str(tmp_path / "out")]) == 2
    assert "is a recording with a lens and depth of its own, got --fov" in printed()
    assert not (tmp_path / "out").exists()


def test_a_trajectory_may_have_any_format(recorded, tmp_path):
    save_image(tmp_path / "photo.png", recorded.image[0])
    K = recorded.cameras.K[0]
    (tmp_path / "t").mkdir()
    tum = write_tum(recorded, tmp_path / "t") / "groundtruth.txt"  # it has no lens
    for file in (
        write_colmap_text(recorded, tmp_path / "c"),
        write_lyra(recorded, tmp_path / "l"),
        tum,
    ):
        path, note = read_path(file, tmp_path / "photo.png", K)
        relative = recorded.cameras.cam_from_world[:1] @ recorded.cameras.world_from_cam
        torch.testing.assert_close(path.world_from_cam, relative, atol=1e-5, rtol=0)
        torch.testing.assert_close(path.K, recorded.cameras.K)
        assert note == ""
