"""Golden numbers: the released code of VMem, run on exact geometry, against the `released` variants.

data/golden_memory.npz holds what the released implementation computed (runjiali-rl/vmem at 39291e4):
three rendered scenes, normals and radii of point maps, a merge, and a whole loop of 25 views with
its index maps, votes and choices. Its pixels are tested at integer coordinates, ours at + 0.5, so
principal points move by half a pixel; its world is y up, which matters to nothing here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vmemkit.core import (
    Cameras,
    PointMaps,
    Splat,
    SplatConfig,
    SurfelConfig,
    Surfels,
    Views,
    forward_normals,
    pose_distance,
    splat,
    surfels_from_points,
)
from vmemkit.memory import AssociationConfig, Memory, MemoryConfig, Sightings
from vmemkit.memory.association import by_radius, released_distance
from vmemkit.memory.writing import _with_points
from vmemkit.retrieval import Released, Retrieval

STORED = np.load(Path(__file__).parents[1] / "data" / "golden_memory.npz")
FOCAL = float(STORED["loop_focal"])  # pixels of a 512 x 288 image
STEPS = (1, 2, 3, 4, 5)  # of the loop; the first writes the first view and reads nothing


def golden(name: str) -> Tensor:
    return torch.from_numpy(STORED[name])


def golden_surfels(prefix: str) -> Surfels:
    position = golden(f"{prefix}_pos")
    return Surfels(
        position, golden(f"{prefix}_nrm"), golden(f"{prefix}_rad"), torch.zeros_like(position)
    )


def intrinsics(focal: float, width: int, height: int) -> Tensor:
    return torch.tensor([[focal / width, 0, 0.5], [0, focal / height, 0.5], [0, 0, 1]])


def loop_cameras(K: Tensor) -> Cameras:
    """The 25 cameras of the loop, from OpenGL axes to ours."""
    poses = golden("loop_c2w_gl") @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    return Cameras(poses, K.expand(25, 3, 3))


# ---- rendering -----------------------------------------------------------------------------------


def rendered(scene: str, config: SplatConfig) -> tuple[Splat, Tensor]:
    index = golden(f"{scene}_index").long()
    (h, w), (fx, fy, cx, cy) = index.shape, STORED[f"{scene}_k"]
    K = torch.tensor(
        [[fx / w, 0, (cx + 0.5) / w], [0, fy / h, (cy + 0.5) / h], [0, 0, 1]], dtype=torch.float64
    )
    camera = Cameras(golden(f"{scene}_pose_cv")[None], K[None])
    if not config.polygon:
        camera = camera.map(Tensor.float)
    return splat(golden_surfels(scene), camera, h, w, config), index


@pytest.mark.parametrize("scene", ["rA", "rB", "rC"])
def test_polygons_match_the_released_renderer_to_the_pixel(scene):
    seen, index = rendered(scene, SplatConfig.released())
    assert torch.equal(seen.surfel[0], index)
    assert torch.allclose(seen.depth[0], golden(f"{scene}_depth"), rtol=0, atol=1e-6)
    assert torch.allclose(seen.cosine[0], golden(f"{scene}_cos"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scene", ["rA", "rC"])
def test_discs_differ_from_its_polygons_in_few_pixels(scene):
    seen, index = rendered(scene, SplatConfig(scale=1.0, near=0.1))
    assert float((seen.surfel[0] != index).float().mean()) < 0.06


# ---- surfels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["nrm_a", "nrm_b"])
def test_normals_and_radii_match_the_released_ones(case):
    points, depth = golden(f"{case}_points"), golden(f"{case}_depth")
    assert torch.allclose(forward_normals(points), golden(f"{case}_raw"), rtol=0, atol=1e-6)
    camera = Cameras(golden(f"{case}_pose_cv"), intrinsics(FOCAL * 0.05, 25, 14))
    maps = PointMaps(points, depth, torch.full_like(depth, 3.0))
    surfels, _ = surfels_from_points(maps, camera, torch.zeros(3, 14, 25), SurfelConfig.released())
    assert len(surfels) == 349  # the quantile drops the deepest pixel
    assert torch.equal(surfels.position, golden(f"{case}_out_pos"))
    assert torch.allclose(surfels.normal, golden(f"{case}_out_nrm"), rtol=0, atol=1e-6)
    assert torch.allclose(surfels.radius, golden(f"{case}_out_rad"), rtol=1e-6, atol=0)


def test_coincident_points_have_no_normal_and_make_no_surfel():
    points = golden("nrm_bad_points")
    normals = forward_normals(points)
    broken = golden("nrm_bad_raw").isnan()
    assert torch.equal(normals.isnan(), broken)
    depth = torch.ones(points.shape[:2])
    surfels, pixel = surfels_from_points(
        PointMaps(points, depth, depth),
        Cameras(torch.eye(4), torch.eye(3)),
        torch.zeros(3, *depth.shape),
        SurfelConfig.released(),
    )
    assert surfels.normal.isfinite().all()  # in the released code they turn all merging off
    assert not broken.any(-1).flatten()[pixel].any()


# ---- merging -------------------------------------------------------------------------------------


def test_a_merge_keeps_what_the_released_one_kept():
    new, old = golden_surfels("merge_new"), golden_surfels("merge_old")
    distance = released_distance(new.radius, old.radius)
    assert distance == pytest.approx(float(STORED["merge_threshold"]), rel=1e-6)
    theta = AssociationConfig.released().normal_cosine
    assert theta == pytest.approx(float(STORED["merge_normal_threshold"]))
    _, fresh = by_radius(new, old, distance, theta)
    assert torch.equal(fresh, golden("merge_kept"))


def test_writing_the_loop_makes_the_released_memory():
    K, count = intrinsics(FOCAL * 0.05, 25, 14), []
    cams = loop_cameras(K)
    # the stored point maps are already on the surfel grid
    config = MemoryConfig(
        SurfelConfig(shrink=1.0, edge=float("inf"), scheme="forward"), AssociationConfig.released()
    )
    memory = Memory.empty(config)
    for i in range(25):
        count.append(len(memory.surfels))
        depth = golden("loop_depths")[i : i + 1]
        maps = PointMaps(golden("loop_points")[i : i + 1], depth, torch.full_like(depth, 3.0))
        image, given = torch.zeros(1, 3, 14, 25), torch.ones(1, dtype=torch.bool)
        view = Views(cams[i : i + 1], image, given, depth, maps.confidence)
        memory = _with_points(memory, view, maps)
    reads = [0, *(1 + 4 * step for step in STEPS)]
    assert [count[i] for i in reads] == STORED["loop_surfels_before"].tolist()
    expected = golden_surfels("mem")
    assert torch.equal(memory.surfels.position, expected.position)
    assert torch.allclose(memory.surfels.normal, expected.normal, rtol=0, atol=1e-6)
    assert torch.allclose(memory.surfels.radius, expected.radius, rtol=1e-5, atol=0)


# ---- reading -------------------------------------------------------------------------------------


def memory_at(step: int) -> Memory:
    """The released memory as it was read at a step of the loop."""
    t, n = 1 + 4 * step, int(STORED["loop_surfels_before"][step])
    surfel = np.repeat(np.arange(1626), np.diff(STORED["mem_view_ptr"]))
    view = STORED["mem_view_ids"].astype(np.int64)
    order = np.lexsort((surfel, view))
    order = order[view[order] < t]
    surfel, view = surfel[order], view[order]
    # ids are given in order of birth, so a view's end is the greatest id seen until then
    born = [int(surfel[view <= i].max(initial=-1)) + 1 for i in range(t - 1)]
    ends = torch.tensor([*born, n])
    nothing = torch.ones(t, 2, 2)
    views = Views(
        loop_cameras(intrinsics(FOCAL, 512, 288))[:t],
        torch.zeros(t, 3, 2, 2),
        torch.zeros(t, dtype=torch.bool),
        nothing,
        nothing,
    )
    sightings = Sightings(torch.from_numpy(surfel).int(), torch.from_numpy(view).int())
    return Memory.from_tables(views, golden_surfels("mem")[:n], sightings, ends)


def read_at(step: int) -> Retrieval:
    t = 1 + 4 * step
    targets = loop_cameras(intrinsics(FOCAL, 512, 288))[t : t + 4]
    return Released()(memory_at(step), targets, 4)


@pytest.mark.parametrize("step", STEPS)
def test_the_released_policy_reads_the_loop_as_the_released_code_does(step):
    outcome = read_at(step)
    differing = int((outcome.splat.surfel[0] != golden("loop_index_map")[step].long()).sum())
    # at the last step the released code's pose passes through a mean of quaternions
    assert differing <= (266 if step == 5 else 0)
    votes = outcome.votes.double() / outcome.votes.double().sum()
    expected = golden("loop_vote")[step]
    assert (votes - expected[: len(votes)]).abs().max() < (3e-4 if step == 5 else 2e-5)
    assert (expected[len(votes) :] == 0).all()
    selected = [v for v in STORED["loop_selected"][step].tolist() if v >= 0]
    assert outcome.chosen.tolist() == selected


def test_the_suppression_threshold_is_the_median_distance_of_the_first_five_poses():
    poses = loop_cameras(torch.eye(3)).world_from_cam[:5]
    i, j = torch.triu_indices(5, 5, offset=1)
    median = float(pose_distance(poses[i], poses[j]).sort().values[5])
    assert median == pytest.approx(float(STORED["loop_nms_threshold"][1]), rel=1e-4)
