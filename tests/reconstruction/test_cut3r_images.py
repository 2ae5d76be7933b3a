"""Images to the network and its maps back: the crop, its camera, and depth between pixels."""

from __future__ import annotations

import pytest
import torch
from core_helpers import Box

from vmemkit.core import pixel_centres
from vmemkit.nets.cut3r import CUT3RConfig
from vmemkit.reconstruction import prepare_images, sample_depth
from vmemkit.reconstruction.cut3r_images import sample


@pytest.mark.parametrize(
    ("size", "network_size", "share"),
    [
        (
            (576, 576),
            (384, 512),
            (0, 0.125, 1, 0.75),
        ),  # VMem's images lose an eighth above and below
        ((288, 512), (288, 512), (0, 0, 1, 1)),
        ((720, 1280), (288, 512), (0, 0, 1, 1)),
        ((640, 360), (512, 288), (0, 0, 1, 1)),
        ((48, 64), (384, 512), (0, 0, 1, 1)),
        ((341, 512), (336, 512), (0, 2 / 341, 1, 336 / 341)),
        ((100, 303), (160, 512), (0, 4 / 169, 1, 160 / 169)),
    ],
)
def test_images_are_prepared_as_in_the_training_of_the_network(size, network_size, share):
    image, box = prepare_images(torch.full((2, 3, *size), 0.75), CUT3RConfig())
    assert image.shape == (2, 3, *network_size)
    torch.testing.assert_close(image, torch.full_like(image, 0.5), atol=0.01, rtol=0)
    assert (box.left, box.top, box.width, box.height) == pytest.approx(share)


def test_the_crop_shows_the_central_part_of_the_image():
    ramp = torch.linspace(0, 1, 576)[:, None].expand(3, 576, 576)
    image, crop = prepare_images(ramp[None], CUT3RConfig())
    rows = crop.top + crop.height * (torch.arange(384) + 0.5) / 384
    torch.testing.assert_close(image[0, 0, :, 100], 2 * rows - 1, atol=0.01, rtol=0)
    camera = Box().look(0.0)[0]
    uv = torch.tensor([[0.5, crop.top], [0.5, 0.5]])
    there = crop.camera(camera).K @ torch.linalg.inv(camera.K)
    moved = torch.cat([uv, torch.ones(2, 1)], -1) @ there.mT
    torch.testing.assert_close(moved[:, :2], torch.tensor([[0.5, 0.0], [0.5, 0.5]]))


def test_sampled_depth_is_exact_on_planes_and_not_mixed_across_edges():
    _, crop = prepare_images(torch.zeros(1, 3, 64, 64), CUT3RConfig(img_size=(64, 64)))
    rows, columns = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    plane = 1 / (0.2 + 0.004 * columns + 0.002 * rows)
    uv = pixel_centres(150, 150)
    got = sample_depth(plane, crop, uv)
    u, v = uv[..., 0] * 64, (uv[..., 1] - crop.top) / crop.height * 48
    want = 1 / (0.2 + 0.004 * u + 0.002 * v)
    inner = (u > 0.5) & (u < 63.5) & (v > 0.5) & (v < 47.5)
    torch.testing.assert_close(got[inner], want[inner])
    assert got[(v < 0) | (v > 48)].isnan().all()
    step = torch.where(columns < 32, 1.0, 3.0)
    step[0, 0] = torch.nan
    mixed = sample_depth(step, crop, uv)
    mixed = mixed[mixed.isfinite()]
    assert torch.minimum((mixed - 1).abs(), (mixed - 3).abs()).max() < 1e-6
    assert len(mixed) == sample(step, crop, uv, "nearest").isfinite().sum()
