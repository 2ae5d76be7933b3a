"""Protocols: where walks go, and which frames are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from core_helpers import Box

from vmemkit.core import Cameras, cat
from vmemkit.evaluation import (
    PROTOCOLS,
    Route,
    chosen_clips,
    course_hash,
    house_route,
    recorded_route,
)
from vmemkit.scenes import build, capture, design, open_plan, rooms

BOX = Box()
REPOSITORY = Path(__file__).parents[2]


def row(count: int, height: float = 0.0) -> Cameras:
    """Cameras whose x tells their number."""
    return cat([BOX.look(0.0, at=(0.01 * i, height, 0.0)) for i in range(count)])


def numbers(cameras: Cameras) -> list[int]:
    return [round(100 * x) for x in cameras.position[:, 0].tolist()]


def course(name: str, count: int = 5, back: Cameras | None = None, stride: int = 10):
    return PROTOCOLS[name].course(Route(row(count), back, stride))


def test_a_cycle_comes_back_by_its_own_poses():
    made = course("cycle")
    assert numbers(made.given) == [0]
    assert numbers(made.path) == [1, 2, 3, 4, 3, 2, 1, 0]
    assert made.truth.tolist() == [4, 5, 6, 7]
    assert made.pairs.tolist() == [[4, 2], [5, 1], [6, 0]]
    assert made.judged == slice(4, 8)


def test_the_other_way_back_is_taken_where_there_is_one():
    back = row(3, height=0.2)
    made = course("leave_and_return", back=back)
    assert numbers(made.path) == [1, 2, 3, 4, 0, 1, 2, 1, 2, 3, 4]
    assert made.path.position[4:7, 1].tolist() == pytest.approx([0.2] * 3)
    assert made.truth.tolist() == list(range(4, 11))
    assert made.pairs.tolist() == [[7, 0], [8, 1], [9, 2], [10, 3]]
    assert made.judged == slice(4, 7)
    recorded = course("leave_and_return", 7)
    assert numbers(recorded.path) == [2, 4, 6, 5, 3, 1, 2, 4, 6]


@pytest.mark.parametrize(
    ("name", "count", "stride", "frame"),
    [("short", 20, 10, 5), ("short", 4, 10, 3), ("short", 80, 1, 50), ("long", 20, 10, 19)],
)
def test_one_frame_is_compared(name, count, stride, frame):
    made = course(name, count, stride=stride)
    (at,) = made.truth.tolist()
    assert numbers(made.path)[at] == frame
    assert len(made.path) == frame


@pytest.mark.parametrize("name", ["mirror", "symmetry"])
def test_the_way_back_is_compared_with_the_way_out(name):
    made = course(name)
    assert numbers(made.path) == [1, 2, 3, 4, 4, 3, 2, 1]
    for back, out in made.pairs.tolist():
        assert numbers(made.path)[back] == numbers(made.path)[out]
    assert len(made.truth) == 0
    expected = [0.25] * 4 if name == "mirror" else [3.5 / 8, 2.5 / 8, 1.5 / 8, 0.5 / 8]
    assert made.weights.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "given", "path"),
    [
        ("mark", [0, 1, 2], [3, 4, 5]),
        ("aba", [0, 1, 2, 3, 4, 5], [4, 3, 2, 1, 0]),
        ("abca", [0, 1, 2, 3], [4, 5]),
    ],
)
def test_what_is_given_and_what_is_compared(name, given, path):
    made = course(name, 6)
    assert numbers(made.given) == given
    assert numbers(made.path) == path
    assert made.truth.tolist() == list(range(len(path)))


def test_a_house_has_another_way_back_and_all_protocols():
    house = rooms(0)
    route = house_route(house)
    for protocol in PROTOCOLS.values():
        made = protocol.course(route)
        assert house.free(made.path.position).all()
        assert len(made.truth) + len(made.pairs) > 0
        assert protocol.source
        assert protocol.differs
    home = PROTOCOLS["abca"].course(route).path
    assert torch.cdist(home.position, route.out.position).min(1).values.max() > 0.1


def test_a_recording_is_taken_at_its_stride():
    scene = capture(BOX.render(row(30), 6, 8))
    assert numbers(recorded_route(scene, 5).out) == [0, 5, 10, 15, 20, 25]
    assert recorded_route(scene, 5).stride == 5
    with pytest.raises(ValueError, match="30 frames at a stride of 10 have 3"):
        recorded_route(scene)
    with pytest.raises(ValueError, match="stride must be 1 or more"):
        recorded_route(scene, 0)


@pytest.mark.parametrize("scene", ["rooms:0", "open:3"])
def test_the_stored_index_says_what_the_protocols_do(scene):
    """Published hashes stay as they are: others compare their rows by them."""
    index = json.loads((REPOSITORY / "benchmarks/courses.json").read_text())[scene]
    layout, _, seed = scene.partition(":")
    plan = design(int(seed))
    house = build(plan if layout == "rooms" else open_plan(plan))
    assert index.keys() == PROTOCOLS.keys()
    for name, protocol in PROTOCOLS.items():
        made = protocol.course(house_route(house, int(seed)))
        stored = {"given": len(made.given), "frames": len(made.path), "hash": course_hash(made)}
        assert index[name] == stored


def test_everybody_takes_the_same_clips():
    names = ["000c3ab189999a83", "00703abf0f52f3c2", "00cc5e0fbd8b1f1e", "a", "b"]
    assert chosen_clips(names, 3) == chosen_clips(names[::-1], 4)[:3]
    # SHA-256 of "b" begins with 3e, of "a" with ca.
    assert chosen_clips(["a", "b", "b"], 2) == ["b", "a"]
    with pytest.raises(ValueError, match="6 clips are asked for, and there are 5"):
        chosen_clips(names, 6)
