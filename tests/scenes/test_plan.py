"""Plans of houses: drawn from a seed, stored as JSON, changed by hand, and built."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from vmemkit.core import intrinsics
from vmemkit.scenes import Doorway, Plan, build, design, furnish, plan_from_json, upright_cameras
from vmemkit.scenes.house.plan import THINGS, bounds, claim, overlap

PLAN = design(seed=3, n_rooms=3)


def test_a_plan_survives_json():
    assert plan_from_json(PLAN.to_json()) == PLAN


def test_the_same_seed_draws_the_same_house_as_ever():
    """Sums over the house of seed 1, as it was before houses had plans."""
    house = build(design(seed=1))
    assert len(house.boxes) == 56
    assert int(house.boxes.finish.seed.sum()) == 32764067
    assert float(house.boxes.low.double().sum()) == pytest.approx(39.01982, abs=1e-4)


def test_a_plan_is_built_to_the_bit_each_time():
    a, b = build(PLAN), build(PLAN)
    assert torch.equal(a.boxes.low, b.boxes.low)
    assert torch.equal(a.cells.finish.seed, b.cells.finish.seed)


def test_furnishing_keeps_what_stands_and_the_ways_free():
    room, doorways = PLAN.rooms[0], [door.box for door in PLAN.doorways]
    kept = replace(room, things=room.things[:2])
    rng = torch.Generator().manual_seed(0)
    more = furnish(rng, kept, doorways, ("desk", "picture", "plant"))
    assert more.things[:2] == room.things[:2]
    assert len(more.things) > 2
    spaces = [claim(room.box, thing) for thing in more.things]
    for i, space in enumerate(spaces):
        assert not any(overlap(space, other) for other in spaces[:i])


def test_furnishing_asks_whether_a_thing_may_stand_somewhere():
    room = replace(PLAN.rooms[0], things=())
    rng = torch.Generator().manual_seed(0)
    low_x = (room.box[0][0] + room.box[1][0]) / 2
    left = furnish(rng, room, [], ("desk", "plant"), lambda kind, box: box[1][0] < low_x)
    assert left.things
    assert all(bounds(room.box, thing)[1][0] < low_x for thing in left.things)


def test_a_doorway_may_lead_along_z():
    room = replace(PLAN.rooms[0], things=())
    (x0, top, z0), (x1, _, z1) = room.box
    behind = replace(room, box=((x0, top, z1 + 0.2), (x1, 0.0, z1 + 4.0)))
    middle = (x0 + x1) / 2
    doorway = Doorway(((middle - 0.55, -2.1, z1 - 5e-3), (middle + 0.55, 0.0, z1 + 0.205)))
    assert doorway.axis == 2
    house = build(Plan((room, behind), (doorway,)))
    eye = torch.tensor([[middle, -1.5, (z0 + z1) / 2]])
    camera = upright_cameras(eye, torch.zeros(1), intrinsics(60.0))
    depth = house.render(camera, 31, 31).depth
    assert float(depth[0, 15, 15]) == pytest.approx(z1 + 4.0 - float(eye[0, 2]), abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["rooms"][0].update(wall_finish="fur"), "fur"),
        (lambda table: table["rooms"][0]["things"][0].update(kind="whale"), "whale"),
        (lambda table: table["rooms"][0]["things"][0].update(wall=7), "wall"),
        (lambda table: table["rooms"][0].update(box=[[0, 0, 0], [0, 0, 0]]), "no space"),
        (lambda table: table["rooms"].clear(), "one room"),
        (lambda table: table.pop("rooms"), "no plan"),
        (lambda table: table["rooms"][0].update(roof=1), "no plan"),
    ],
)
def test_a_broken_plan_is_refused(change, message):
    table = json.loads(PLAN.to_json())
    change(table)
    with pytest.raises(ValueError, match=message):
        plan_from_json(json.dumps(table))


def test_every_kind_can_be_built():
    assert {thing.kind for i in range(8) for room in design(i).rooms for thing in room.things} == (
        set(THINGS)
    )
