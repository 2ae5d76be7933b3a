"""Fixtures of the command line's tests."""

import numpy as np
import pytest

from vmemkit.core import save_depth, save_image
from vmemkit.nets.weights import FOLDERS


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
def printed(capsys):
    """A function that returns the output so far, without the line breaks of terminals."""

    def read() -> str:
        out, err = capsys.readouterr()
        return " ".join((out + " " + err).split())

    return read


@pytest.fixture
def weight_folder(tmp_path, monkeypatch):
    """A folder that VMEMKIT_WEIGHTS names, on a machine without other weights."""
    monkeypatch.setenv(FOLDERS, str(tmp_path / "weights"))
    monkeypatch.delenv("VMEMKIT_MIRRORS", raising=False)
    # The library reads its environment once, on import.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"
