"""Laws of the cylinder: there and back, elevation is kept, overlapping targets agree."""

import math

import pytest
import torch

from vmemkit.core import Cameras, cameras, intrinsics, pixel_centres, pose, rays
from vmemkit.generation.warp import cylinder
from vmemkit.generation.warp.cylinder import (
    Panorama,
    copy_columns,
    cylinder_rays,
    fill_views,
    from_cylinder,
    surrounding_cameras,
    to_cylinder,
)

HEIGHT, WIDTH = 36, 48


def turned(*degrees: float) -> Cameras:
    angle = torch.deg2rad(torch.tensor(degrees))
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [angle.cos(), zero, angle.sin(), zero, one, zero, -angle.sin(), zero, angle.cos()]
    poses = pose(torch.stack(rows, -1).view(-1, 3, 3), torch.zeros(len(degrees), 3))
    return cameras(poses, intrinsics(70.0, WIDTH / HEIGHT))


def painted(direction: torch.Tensor) -> torch.Tensor:
    """A smooth world at infinity: colour by direction, [... 3] to [3 ...]."""
    azimuth = torch.atan2(direction[..., 0], direction[..., 2])
    slope = direction[..., 1] / torch.hypot(direction[..., 0], direction[..., 2])
    color = [0.5 + 0.4 * azimuth.sin(), 0.5 + 0.4 * (2 * azimuth).cos(), 0.5 + 0.4 * slope]
    return torch.stack(color)


def photographed(targets: Cameras) -> torch.Tensor:
    uv = pixel_centres(HEIGHT, WIDTH).expand(len(targets), HEIGHT, WIDTH, 2)
    return painted(rays(targets, uv)).transpose(0, 1)


def striped(width: int, period: int = 8) -> torch.Tensor:
    wave = 0.5 + 0.4 * torch.sin(2 * math.pi * torch.arange(width) / period)
    return wave.expand(3, 20, width).clone()


ALL = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)


def test_what_the_cylinder_shows_is_what_the_targets_saw():
    targets = turned(-30.0, 20.0, 160.0)
    directions = cylinder_rays(targets, HEIGHT, WIDTH)
    panorama, known = to_cylinder(targets, photographed(targets), ALL.expand(3, -1, -1), directions)
    assert 0.3 < known.float().mean() < 0.6
    assert (panorama - painted(directions))[:, known].abs().amax() < 0.01


def test_there_and_back_gives_the_same_image_also_behind():
    targets = turned(0.0, 90.0, 180.0, -150.0)
    directions = cylinder_rays(targets, HEIGHT, WIDTH)
    back = from_cylinder(painted(directions), directions, targets, HEIGHT, WIDTH)
    assert (back - photographed(targets)).abs().amax() < 0.01


def test_the_surrounding_cameras_see_the_whole_cylinder():
    directions = cylinder_rays(turned(25.0), HEIGHT, WIDTH)
    around = surrounding_cameras(turned(25.0), directions)
    image = torch.zeros(len(around), 3, len(directions), directions.shape[1] // 4)
    _, known = to_cylinder(
        around, image, torch.ones_like(image[:, 0], dtype=torch.bool), directions
    )
    assert known.all()


def test_a_periodic_pattern_is_continued_in_step():
    image, known = striped(96), torch.ones(20, 96, dtype=torch.bool)
    known[:, 40:57] = False
    assert (copy_columns(image * known, known, known) - image).abs().amax() < 0.02


def test_rows_stay_rows_however_wide_the_gap_and_also_across_the_ends():
    image = torch.linspace(0, 1, 20)[:, None].expand(3, 20, 90)
    known = torch.zeros(20, 90, dtype=torch.bool)
    known[:, 30:50] = True
    assert (copy_columns(image * known, known, known) - image).abs().amax() < 1e-5


def test_only_source_columns_are_copied():
    image = torch.zeros(3, 20, 90)
    image[0, :, :30], image[2, :, 60:] = 1, 1
    known = torch.ones(20, 90, dtype=torch.bool)
    known[:, 30:60] = False
    filled = copy_columns(image, known, known & (torch.arange(90) < 30))
    assert torch.equal(filled[:, known], image[:, known])
    assert filled[2, :, 30:60].amax() == 0
    assert filled[0, :, 30:60].amin() > 0.99


def test_gaps_that_nobody_wants_are_left_to_smoothing():
    image, known = striped(120), torch.ones(20, 120, dtype=torch.bool)
    known[:, 20:40] = known[:, 70:90] = False
    filled = copy_columns(image * known, known, known, torch.arange(120) < 50)
    assert (filled - image)[:, :, 20:40].abs().amax() < 0.02
    assert filled[:, :, 76:84].std() < 0.5 * image[:, :, 76:84].std()


def test_targets_that_overlap_are_filled_alike_even_where_nothing_was_known():
    given, targets = turned(0.0), turned(100.0, 125.0)
    directions = cylinder_rays(targets, HEIGHT, WIDTH)
    panorama, source = to_cylinder(given, photographed(given), ALL, directions)
    nothing = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    image = torch.zeros(2, 3, HEIGHT, WIDTH)
    filled = fill_views(targets, image, nothing, Panorama(directions, panorama, source))
    left, left_known = to_cylinder(targets[:1], filled[:1], ALL, directions)
    right, right_known = to_cylinder(targets[1:], filled[1:], ALL, directions)
    both = left_known & right_known
    assert both.float().mean() > 0.05
    assert (left - right)[:, both].abs().mean() < 0.01
    # the third channel is elevation, which every copy must keep
    elevation = photographed(targets)[:, 2, 8:-8]
    assert (filled[:, 2, 8:-8] - elevation).abs().mean() < 0.02


def test_differences_kept_with_the_panorama_are_those_of_all_columns(monkeypatch):
    given, target = turned(0.0), turned(60.0)
    directions = cylinder_rays(target, HEIGHT, WIDTH)
    panorama, source = to_cylinder(given, photographed(given), ALL, directions)
    known = ALL.clone()
    known[..., 30:] = False  # the rest shows what the given view does not
    asked = []

    def copied(image, known, source, wanted, differences):
        asked.append((image, known, source, differences))
        return copy_columns(image, known, source, wanted, differences)

    monkeypatch.setattr(cylinder, "copy_columns", copied)
    fill_views(target, photographed(target), known, Panorama(directions, panorama, source))
    [(image, known, source, (total, common))] = asked
    assert (known & ~source).any()
    pairs = (known[:, :, None] & source[:, None]).float()
    difference = (image[..., None] - image[:, :, None]).square().sum(0)
    assert torch.equal(common, pairs.sum(0))
    assert torch.allclose(total, (pairs * difference).sum(0), atol=1e-3)


def test_known_pixels_are_returned_unchanged():
    targets = turned(0.0, 20.0)
    image, known = photographed(targets), torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    known[1, :, 30:] = False
    known[0, :, 45:] = False
    directions = cylinder_rays(targets, HEIGHT, WIDTH)
    panorama, source = to_cylinder(targets, image, known, directions)
    around = Panorama(directions, panorama, source)
    filled = fill_views(targets, image * known[:, None], known, around)
    assert torch.equal(filled.movedim(1, -1)[known], image.movedim(1, -1)[known])
    assert torch.isfinite(filled).all()
    assert filled.amin() >= 0
    assert filled.amax() <= 1


def test_without_any_source_the_targets_own_pixels_are_copied():
    targets = turned(0.0)
    image, known = photographed(targets), ALL.clone()
    known[..., 30:] = False
    directions = cylinder_rays(targets, HEIGHT, WIDTH)
    nothing = torch.zeros(directions.shape[:2], dtype=torch.bool)
    empty = Panorama(directions, torch.zeros(3, *directions.shape[:2]), nothing)
    filled = fill_views(targets, image, known, empty)
    assert (filled - image).abs().mean() < 0.1
    with pytest.raises(ValueError, match="at least one source pixel"):
        fill_views(targets, image, torch.zeros_like(known), empty)


@pytest.mark.parametrize(("count", "height"), [(0, HEIGHT), (1, 0)])
def test_a_cylinder_needs_targets_and_a_size(count, height):
    with pytest.raises(ValueError, match="needs targets"):
        cylinder_rays(turned(0.0)[:count], height, WIDTH)


def test_looking_straight_up_makes_no_endless_cylinder():
    up = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    targets = cameras(pose(up, torch.zeros(3))[None], intrinsics(70.0, WIDTH / HEIGHT))
    directions = cylinder_rays(targets, HEIGHT, WIDTH)
    assert directions[..., 1].abs().amax() <= 2
    back = from_cylinder(painted(directions), directions, targets, HEIGHT, WIDTH)
    assert torch.isfinite(back).all()
