"""LPIPS (Zhang et al., 2018): how different two images look to a network that was trained to classify.

In: a file with the weights of AlexNet or VGG16, which is never downloaded; pairs of images. Out: a
distance, 0 for equal images. torchmetrics brings the weights of the layers, and its own LPIPS needs
torchvision for the networks. Here their convolutions are stacked from the published sizes, with
torchvision's names, so that its files fit.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vmemkit.nets.weights import load_into, read

POOL = 0  # in place of a number of channels: the largest value of each window
FEATURES = (
    "features."  # prefix of the convolutions in torchvision's files; the classifier is unused
)
# Mean and deviation of the training images in [-1, 1], as the authors of LPIPS rounded them.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TINY = 1e-8  # added to squared lengths


@dataclass(frozen=True)
class Backbone:
    """A network whose activations are compared."""

    name: str  # torchmetrics' name for it
    file: str  # torchvision's, whose name ends in the beginning of its SHA-256
    layers: tuple[tuple[int, int], ...]  # channels and side of each convolution, or POOL and side
    first_stride: int
    compared: tuple[int, ...]  # numbers of the layers whose activations are compared, from 0
    least: int  # pixels a side


ALEXNET = Backbone(
    "alex",
    "alexnet-owt-7be5be79.pth",
    ((64, 11), (POOL, 3), (192, 5), (POOL, 3), (384, 3), (256, 3), (256, 3)),
    first_stride=4,
    compared=(0, 2, 4, 5, 6),
    least=31,
)
VGG16 = Backbone(
    "vgg",
    "vgg16-397923af.pth",
    (
        *((64, 3), (64, 3), (POOL, 2)),
        *((128, 3), (128, 3), (POOL, 2)),
        *((256, 3), (256, 3), (256, 3), (POOL, 2)),
        *((512, 3), (512, 3), (512, 3), (POOL, 2)),
        *((512, 3), (512, 3), (512, 3)),
    ),
    first_stride=1,
    compared=(1, 4, 8, 12, 16),
    least=16,
)
BACKBONES = (ALEXNET, VGG16)


class Lpips:
    """LPIPS with the weights of a file: torchvision's of AlexNet, as papers on views use, or VGG16.

    `name` is the network and the SHA-256 of the file, of which 16 digits are kept. Numbers of the two
    networks do not compare, nor do those of weights that are not `is_published`, torchvision's own.
    Errors: ValueError for a file that is missing, no weight file, or of another network.
    """

    def __init__(self, file: str | os.PathLike) -> None:
        state = {key: value for key, value in read(file).items() if key.startswith(FEATURES)}
        built = [(known, _convolutions(known)) for known in BACKBONES]
        fits = [both for both in built if _names(both[1]) == state.keys()]
        if not fits:
            known = " or ".join(backbone.file for backbone in BACKBONES)
            raise ValueError(
                f"{file} has none of the networks of LPIPS: give torchvision's file {known}"
            )
        [(self.backbone, convolutions)] = fits
        stack = nn.ModuleDict({FEATURES[:-1]: convolutions})
        load_into(stack, state, self.backbone.name, torch.float32)
        self.convolutions = convolutions.eval().requires_grad_(False)
        self.compared = _places_compared(self.backbone)
        self.heads = _heads(self.backbone)
        digest = _sha256(Path(file))
        self.is_published = digest.startswith(Path(self.backbone.file).stem.split("-")[-1])
        self.name = f"{self.backbone.name}:{digest[:16]}"

    def __repr__(self) -> str:
        return f"Lpips({self.name})"

    @torch.no_grad()
    def __call__(self, a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
        """The distance of two images in [0, 1]. Errors: ValueError for images that are too small."""
        height, width = a.shape[1:]
        if min(height, width) < self.backbone.least:
            raise ValueError(
                f"LPIPS by {self.backbone.name} needs {self.backbone.least} pixels a side or more, got "
                f"{height} x {width}: render the images larger"
            )
        x = 2 * torch.stack([a, b]).float().cpu() - 1
        x = (x - x.new_tensor(SHIFT)[:, None, None]) / x.new_tensor(SCALE)[:, None, None]
        total, heads = 0.0, iter(self.heads)
        for place, layer in enumerate(self.convolutions):
            x = layer(x)
            if place in self.compared:
                own, other = x / (TINY + x.square().sum(1, keepdim=True)).sqrt()
                total += float((next(heads) * (own - other).square()).sum(0).mean())
        return total


def _convolutions(backbone: Backbone) -> nn.Sequential:
    """The layers up to the last that is compared, each convolution with its rectifier."""
    layers, channels = list[nn.Module](), 3
    for wide, side in backbone.layers:
        if wide == POOL:
            layers.append(nn.MaxPool2d(side, 2))
            continue
        stride = backbone.first_stride if not layers else 1
        padding = 2 if side > 3 else 1
        layers += [nn.Conv2d(channels, wide, side, stride, padding), nn.ReLU()]
        channels = wide
    return nn.Sequential(*layers)


def _places_compared(backbone: Backbone) -> set[int]:
    """Places, among the modules of `_convolutions`, of the rectifiers that are compared."""
    sizes = [1 if wide == POOL else 2 for wide, _ in backbone.layers]
    return {sum(sizes[: layer + 1]) - 1 for layer in backbone.compared}


def _names(convolutions: nn.Sequential) -> set[str]:
    return {FEATURES + name for name in convolutions.state_dict()}


def _heads(backbone: Backbone) -> list[Float[Tensor, "c 1 1"]]:
    """The weights of the channels of each compared layer, from the files inside torchmetrics."""
    folder = Path(str(files("torchmetrics"))) / "functional" / "image" / "lpips_models"
    stored = read(folder / f"{backbone.name}.pth")
    return [stored[f"lin{i}.model.1.weight"][0] for i in range(len(backbone.compared))]


def _sha256(file: Path) -> str:
    total = hashlib.sha256()
    with open(file, "rb") as stream:
        while part := stream.read(1 << 20):  # the file of VGG16 has half a gigabyte
            total.update(part)
    return total.hexdigest()
