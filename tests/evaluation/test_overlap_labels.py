"""Labels of overlap: exact, with walls; and what is written is what is read."""

from __future__ import annotations

import json

import pytest
import torch
from core_helpers import Box

from vmemkit.core import cat
from vmemkit.evaluation import (
    PROTOCOLS,
    house_route,
    overlapping_frames,
    save_overlap_labels,
)
from vmemkit.scenes import build, design, load, open_plan, rooms


def test_frames_overlap_that_see_the_same_wall():
    """From the middle of a box, 70 degrees wide: 20 degrees aside overlap, 180 degrees do not."""
    box = Box()
    path = cat([box.look(0.0), box.look(20.0), box.look(180.0)])
    assert overlapping_frames(box, path) == [[1], [0], []]


def test_walls_hide_what_frusta_share():
    """The same path through the same furniture, with walls between the rooms and without."""
    plan = design(0)
    house = build(plan)
    path = house_route(house, 0).out[::4]
    walls = [set(others) for others in overlapping_frames(house, path)]
    without = [set(others) for others in overlapping_frames(build(open_plan(plan)), path)]
    assert sum(map(len, walls)) < sum(map(len, without))


def test_a_house_is_written_in_the_layout_and_read_again(tmp_path):
    house = rooms(0)
    path = PROTOCOLS["short"].course(house_route(house, 0)).path
    save_overlap_labels(tmp_path / "set", "House_0", house, path, (24, 32))
    read = load(tmp_path / "set" / "frames" / "House_0", fov=75.0)
    assert torch.allclose(read.cameras.world_from_cam, path.world_from_cam, atol=1e-5)
    assert torch.allclose(read.cameras.K, path.K, atol=1e-6)
    assert (read.views.image - house.render(path, 24, 32).image).abs().max() < 0.51 / 255 + 1e-6
    labels = overlapping_frames(house, path)
    for i, others in enumerate(labels):
        text = (tmp_path / "set" / "overlap_labels" / "House_0" / f"{i}.json").read_text()
        assert json.loads(text) == {
            "frame_index": i,
            "overlapping_frames": [str(j) for j in others],
        }
    assert any(labels)


def test_names_folders_and_cameras_that_do_not_fit_are_refused(tmp_path):
    box = Box()
    for name in ("../out", "a/b", ""):
        with pytest.raises(ValueError, match="the scene's name needs letters"):
            save_overlap_labels(tmp_path / "set", name, box, box.look(0.0), (12, 16))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(ValueError, match="needs to be a new folder"):
        save_overlap_labels(tmp_path / "full", "Box", box, box.look(0.0), (12, 16))
    assert not (tmp_path / "set").exists()
