"""Tours come back by other poses, through free space."""

import pytest
import torch

from vmemkit.core import pose_distance
from vmemkit.scenes import capture_tour, rooms, single_tour


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
