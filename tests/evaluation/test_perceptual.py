"""LPIPS against torchmetrics' own, with the same random networks; files that do not fit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image.lpips as reference
from torch import nn

from vmemkit.evaluation import BACKBONES, Lpips, perceptual
from vmemkit.evaluation.perceptual import _convolutions

ALEXNET, VGG16 = BACKBONES


def stored(folder: Path, network: nn.Module, name: str = "net.pth") -> Path:
    """A file as torchvision's: the convolutions under "features", and a classifier."""
    state = {f"features.{key}": value for key, value in network.state_dict().items()}
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, folder / name)
    return folder / name


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
@pytest.mark.parametrize("larger", [0, 29])
def test_distances_are_those_of_torchmetrics(backbone, larger, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = _convolutions(backbone)
    # torchmetrics takes the layers from torchvision, which need not be installed.
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *_: network)
    theirs = reference._NoTrainLpips(net=backbone.name)
    ours = Lpips(stored(tmp_path, network))
    a, b = torch.rand(2, 3, backbone.least + larger, backbone.least + 3)
    expected = float(theirs(a[None], b[None], normalize=True))
    assert expected > 0.01
    assert ours(a, b) == pytest.approx(expected, rel=1e-5)
    assert ours(b, a) == pytest.approx(expected, rel=1e-5)
    assert ours(a, a) == 0.0


@pytest.mark.parametrize(
    ("backbone", "parameters", "places"),
    [
        (ALEXNET, 2_469_696, [0, 3, 6, 8, 10]),
        (VGG16, 14_714_688, [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]),
    ],
)
def test_layers_have_the_published_sizes_and_names(backbone, parameters, places):
    network = _convolutions(backbone)
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    assert [int(name.split(".")[0]) for name in network.state_dict()][::2] == places


def test_a_distance_says_whose_weights_it_is_by(tmp_path, monkeypatch):
    file = stored(tmp_path, _convolutions(ALEXNET))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    lpips = Lpips(file)
    assert lpips.name == f"alex:{digest[:16]}"
    assert not lpips.is_published  # random weights are nobody's
    # The names of torchvision's files end in the beginning of their SHA-256.
    ours = replace(ALEXNET, file=f"alexnet-owt-{digest[:8]}.pth")
    monkeypatch.setattr(perceptual, "BACKBONES", (ours,))
    assert Lpips(file).is_published


def test_files_and_images_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="missing: give a file"):
        Lpips(tmp_path / "none.pth")
    half = stored(tmp_path, _convolutions(ALEXNET)[:5], "half.pth")
    with pytest.raises(ValueError, match=r"none of the networks of LPIPS: give torchvision's file"):
        Lpips(half)
    wide = nn.Sequential(*_convolutions(ALEXNET))
    wide[0] = nn.Conv2d(3, 32, 11, 4, 2)
    with pytest.raises(ValueError, match=r"needs float \[64, 3, 11, 11\]"):
        Lpips(stored(tmp_path, wide, "wide.pth"))
    lpips = Lpips(stored(tmp_path, _convolutions(ALEXNET)))
    with pytest.raises(ValueError, match="alex needs 31 pixels a side or more, got 30 x 64"):
        lpips(torch.rand(3, 30, 64), torch.rand(3, 30, 64))
