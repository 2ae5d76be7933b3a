"""Tours come back by other poses, through free space; walks move as people do."""

import pytest
import torch

from vmemkit.core import pose_distance, stream
from vmemkit.scenes import capture_tour, rooms, single_tour, walk_through


@pytest.mark.parametrize("tour_of", [single_tour, capture_tour])
@pytest.mark.parametrize("seed", range(4))
def test_a_tour_stays_in_free_space_and_comes_back_by_other_poses(tour_of, seed):
    house = rooms(seed)
    tour = tour_of(house, seed)
    assert house.free(tour.cameras.position).all()
    out, back = tour.cameras[: tour.back.start], tour.cameras[tour.back]
    distance = pose_distance(
        out.world_from_cam[:, None], back.world_from_cam[None], translation_weight=1.0
    )
    assert distance.amin() > 0.1
    revisits = (tour.twin >= 0).nonzero()[:, 0]
    twins = tour.cameras[tour.twin[revisits]]
    assert torch.equal(tour.cameras[revisits].world_from_cam, twins.world_from_cam)


@pytest.mark.parametrize("seed", range(3))
def test_walks_stay_in_the_open_and_move_as_people_do(seed):
    house = rooms(seed, 3)
    cameras = walk_through(house, stream(seed), 60)
    assert house.free(cameras.position).all()
    strides = cameras.position.diff(dim=0).norm(dim=1)
    assert strides.amax() < 1.6  # a stride, and a step aside
    assert (strides > 0.05).float().mean() > 0.2
    turns = torch.rad2deg(
        torch.acos((cameras.forward[1:] * cameras.forward[:-1]).sum(1).clamp(-1, 1))
    )
    assert ((turns > 5) & (turns < 46)).float().mean() > 0.4
    height = -cameras.position[:, 1]
    assert ((height > 1.3) & (height < 1.7)).all()


def test_walks_go_through_doorways():
    visited = []
    for seed in range(6):
        house = rooms(seed)
        visited.append(house.room_of(walk_through(house, stream(seed), 60).position).unique())
    assert sum(len(places[places >= 0]) > 1 for places in visited) >= 3


def test_a_walk_follows_from_its_random_stream():
    house = rooms(0)
    one, same, other = (walk_through(house, stream(seed), 8).world_from_cam for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
