"""What the kernels do is what the torch code does, to the bit; and who runs what, when."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from core_helpers import Box, same, tables

from vmemkit.core import (
    MAX_DISTANCE,
    SKY_FROM,
    Cameras,
    PointMaps,
    SplatConfig,
    SurfelConfig,
    Surfels,
    boxes_of,
    cameras,
    check_surfels,
    dot,
    intrinsics,
    look_at,
    root,
    seen_through,
    splat,
    surfels,
    surfels_from_points,
    thin,
)
from vmemkit.core.kernels import backend, backends, use
from vmemkit.memory import (
    AssociationConfig,
    Memory,
    MemoryConfig,
    begin,
    by_projection,
    write,
)
from vmemkit.retrieval import POLICIES, RetrievalConfig, retrieve

pytest.importorskip("numba")
BOX = Box()


@pytest.fixture(params=[1, 12], ids=["one thread", "a dozen"])
def with_threads(request) -> Iterator[None]:
    """Work is shared, however little there is. A dozen threads are more than any test has cameras."""
    with use("numba", threads=request.param):
        yield


def cloud(n: int, seed: int, radius: float, flat: bool = False) -> Surfels:
    """Discs all around the origin, or on one wall, where depths are equal up to rounding."""
    random = torch.Generator().manual_seed(seed)
    position = torch.randn(n, 3, generator=random) * 2
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=random), dim=-1)
    if flat:
        position[:, 2], normal = 2.0, torch.tensor([0.0, 0.6, 0.8]).expand(n, 3).contiguous()
    size = torch.rand(n, generator=random) * radius
    return Surfels(position, normal, size, torch.rand(n, 3, generator=random))


def turns(m: int) -> Cameras:
    """Cameras at the origin and beside it, all around, with a lens that is off centre."""
    angle = torch.arange(m) * 2.4
    eye = torch.stack([0.3 * angle.sin(), 0.1 * angle.cos(), 0.2 * angle], -1)
    ahead = torch.stack([angle.sin(), 0.3 * angle.cos(), angle.cos()], -1)
    K = intrinsics(75.0, 4 / 3).clone()
    K[0, 2], K[1, 2] = 0.42, 0.61
    return cameras(look_at(eye, eye + ahead), K)


def equal(a: object, b: object) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.leaves().values(), b.leaves().values(), strict=True)
    )


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("radius", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("flat", [False, True], ids=["cloud", "wall"])
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (24, 8), (90, 3)])
def test_reading_is_equal_to_the_bit(radius, flat, size):
    discs = cloud(1500, 3, radius, flat)
    boxes = boxes_of(discs.position, discs.radius)
    for config in (SplatConfig(), SplatConfig(scale=1.0, near=0.5, far=3.0)):
        seen = splat(discs, turns(5), *size, config, boxes=boxes)
        with use("torch"):
            assert equal(seen, splat(discs, turns(5), *size, config))


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("radius", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("flat", [False, True], ids=["cloud", "wall"])
@pytest.mark.parametrize("size", [(1, 1), (24, 33), (90, 3)])
def test_reading_polygons_is_equal_to_the_bit(radius, flat, size):
    discs = cloud(400, 3, radius, flat)
    discs.normal[::50] = torch.tensor([0.0, 0.0, 1.0])
    discs.normal[1::50] = 0.0
    for config in (SplatConfig.released(), SplatConfig(1.5, near=0.5, far=3.0, polygon=True)):
        seen = splat(discs, turns(3), *size, config)
        with use("torch"):
            assert equal(seen, splat(discs, turns(3), *size, config))


@pytest.mark.usefixtures("with_threads")
def test_reading_polygons_of_no_surfels_is_equal_to_the_bit():
    seen = splat(cloud(0, 0, 1.0), turns(2), 4, 5, SplatConfig.released())
    assert (seen.surfel == -1).all()
    with use("torch"):
        assert equal(seen, splat(cloud(0, 0, 1.0), turns(2), 4, 5, SplatConfig.released()))


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("polygon", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_surfels_that_are_none_are_drawn_by_nobody(bad, polygon):
    discs, config = cloud(600, 1, 0.3), SplatConfig(polygon=polygon)
    discs.position[5:90:7, 1], discs.normal[100:200:9], discs.radius[300:400:11] = bad, 0.0, bad
    seen = splat(discs, turns(3), 20, 30, config)
    with use("torch"):
        expected = splat(discs, turns(3), 20, 30, config)
    assert torch.equal(seen.surfel, expected.surfel)
    assert torch.equal(seen.depth, expected.depth)


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("where", ["around the cameras", "far away"])
@pytest.mark.parametrize("polygon", [False, True])
def test_reading_is_equal_to_the_bit_up_to_the_greatest_distances(where, polygon):
    discs, query = cloud(400 if polygon else 1500, 3, 1.0), turns(5)
    config = SplatConfig(polygon=polygon)
    if where == "far away":
        discs = discs.replace(position=discs.position + torch.tensor([5.0, 6.0, 7.0]))
    unit = 0.999 * MAX_DISTANCE / float(discs.position.norm(dim=-1).amax())
    discs = discs.replace(position=discs.position * unit, radius=discs.radius * MAX_DISTANCE)
    check_surfels(discs)
    query.world_from_cam[:, :3, 3] *= unit
    seen = splat(discs, query, 37, 50, config, boxes=boxes_of(discs.position, discs.radius))
    with use("torch"):
        assert equal(seen, splat(discs, query, 37, 50, config))
    assert (seen.surfel >= 0).any()


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("rules", [AssociationConfig(), AssociationConfig.released()])
def test_a_walk_at_the_greatest_distances_makes_the_same_memory(rules):
    unit = 0.28 * SKY_FROM  # a side of the box

    def walk() -> Memory:
        memory = Memory.empty(MemoryConfig(SurfelConfig(shrink=1.0), rules))
        for i in range(5):
            view = BOX.render(BOX.look(40.0 * i, at=(0.1 * i, 0.0, -0.2 * i)), 24, 32)
            view.cameras.world_from_cam[:, :3, 3] *= unit
            memory = write(memory, view.replace(depth=view.depth * unit))
        return memory

    memory = walk()
    assert memory.surfels.position.norm(dim=-1).amax() > 0.9 * SKY_FROM
    with use("torch"):
        assert same(tables(walk()), tables(memory))
    check_surfels(memory.surfels)


@pytest.mark.usefixtures("with_threads")
def test_points_beyond_the_greatest_distance_make_no_surfel_and_spoil_none_beside_them():
    view = BOX.render(BOX.look(0.0, 90.0, fov=120.0), 24, 32)
    view.depth[:, :, 20:] *= 0.999 * MAX_DISTANCE / view.depth.amax()
    memory = begin(view, MemoryConfig(SurfelConfig(shrink=1.0)))
    with use("torch"):
        assert same(tables(begin(view, memory.config)), tables(memory))
    check_surfels(memory.surfels)
    assert 0 < len(memory.surfels) < view.depth.numel()


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("size", [(3, 3), (17, 130), (48, 64)])
def test_normals_and_radii_are_equal_to_the_bit(size):
    view = BOX.render(BOX.look(33.0, pitch=-12.0), *size)
    view.depth[0, 0, 0] = torch.nan
    view.depth[0, size[0] // 2, 1:] *= 0.7  # an edge
    maps = PointMaps.from_depth(view.cameras, view.depth)
    for config in (SurfelConfig(shrink=1.0), SurfelConfig(shrink=0.6, edge=10.0, slant=0.7)):
        (coarse, image), camera = thin(maps, view.image, config), view.cameras[0]
        made = surfels_from_points(coarse[0], camera, image[0], config)
        with use("torch"):
            expected = surfels_from_points(coarse[0], camera, image[0], config)
        assert len(made[0]) > 0 or size == (3, 3)
        assert equal(made[0], expected[0])
        assert torch.equal(made[1], expected[1])


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("distance", [0.5, 2.0, 50.0])
def test_association_is_equal_to_the_bit(distance):
    view = BOX.render(BOX.look(5.0), 40, 56)
    maps, config = PointMaps.from_depth(view.cameras, view.depth), SurfelConfig(shrink=1.0)
    new, pixel = surfels_from_points(maps[0], view.cameras[0], view.image[0], config)
    others = BOX.render(BOX.look(0.0, 30.0, 170.0, at=(0.3, 0.1, 0.4)), 40, 56)
    old, rules = begin(others).surfels, AssociationConfig(distance=distance)
    for boxes in (None, boxes_of(old.position, old.radius)):
        work = new, pixel, (40, 56), view.cameras, old, rules, boxes
        fresh = by_projection(*work)
        with use("torch"):
            assert torch.equal(fresh, by_projection(*work))
        assert 0 < int(fresh.sum()) < len(new)


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize(
    "config",
    [
        MemoryConfig(),
        MemoryConfig(SurfelConfig(shrink=1.0)),
        MemoryConfig(association=AssociationConfig.released()),
        MemoryConfig(SurfelConfig(shrink=0.2, scheme="forward"), AssociationConfig.released()),
        MemoryConfig(budget=500),
    ],
    ids=["default", "full resolution", "radius", "released", "budget"],
)
def test_a_walk_makes_the_same_memory_and_the_same_choices(config):
    def walk() -> Memory:
        memory = Memory.empty(config)
        for i in range(7):
            camera = BOX.look(40.0 * i, at=(0.1 * i, 0.0, -0.2 * i), pitch=9.0 * (i % 3))
            view = BOX.render(camera, 24, 32)
            view = view.replace(given=torch.tensor([i < 2]))
            memory = write(memory, view)
        return memory

    memory, targets = walk(), BOX.look(60.0, 75.0, at=(0.0, 0.1, 0.1))
    with use("torch"):
        reference = walk()
    assert same(tables(memory), tables(reference))
    for policy in POLICIES:
        found = retrieve(memory, targets, 3, policy, RetrievalConfig(blind="nearest"))
        with use("torch"):
            expected = retrieve(memory, targets, 3, policy, RetrievalConfig(blind="nearest"))
        assert torch.equal(found.chosen, expected.chosen)
        assert torch.allclose(found.votes, expected.votes, rtol=1e-6)


def test_numba_runs_where_it_is_installed_and_torch_where_it_is_told_to():
    assert backend("cpu") == "numba"
    with use("torch"):
        assert backend("cpu") == "torch"
        with use("numba"):
            assert backend("cpu") == "numba"
    assert backend("cpu") == "numba"
    with use("numba"):
        assert backend("cuda") == "torch"  # it is not for that device


def test_without_numba_the_reference_runs():
    code = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import numpy as np
import pytest
from core_helpers import Box
from vmemkit import begin
from vmemkit.core.kernels import backend, use
assert backend("cpu") == "torch"
assert len(begin(Box().render(Box().look(0.0))).surfels) > 0
with pytest.raises(ValueError, match="numba is not installed.*pip install --upgrade numba"):
    with use("numba"):
        pass
"""
    helpers = str(Path(__file__).parents[1] / "helpers")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([helpers, *sys.path])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_choice_is_of_this_thread_and_ends_with_its_block():
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(backend("cpu")))
    with use("torch"):
        thread.start()
        thread.join()
    assert elsewhere == ["numba"]
    assert backend("cpu") == "numba"


def test_an_unknown_backend_is_refused(as_installed):
    with (
        pytest.raises(ValueError, match=r"unknown backend 'cuda': choose from torch, numba"),
        use("cuda"),
    ):
        pass


def test_threads_are_bounded_by_torchs_and_by_eight():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert backends.most_threads() == 3
        torch.set_num_threads(96)
        assert backends.most_threads() == 8
    finally:
        torch.set_num_threads(before)


def test_little_work_is_not_shared_unless_threads_are_asked_for():
    assert backends.threads_for(99, 100) == 1
    with use("numba", threads=5):
        assert backends.threads_for(99, 100) == 5


def test_the_first_error_of_parallel_work_is_raised():
    done = []
    with use("numba", threads=2), pytest.raises(ZeroDivisionError):
        backends.in_parallel([lambda: 1 / 0, lambda: done.append(1), lambda: done.append(2)])
    assert done == [1, 2]


def test_importing_and_building_compiles_nothing():
    code = """
import sys, vmemkit, vmemkit.memory, vmemkit.retrieval, vmemkit.pipeline
assert "numba" not in sys.modules and "triton" not in sys.modules
memory = vmemkit.Memory.empty()
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_sums_that_kernels_repeat_are_what_they_are_called():
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 50, 3, generator=random)
    assert torch.allclose(dot(a, b), (a * b).sum(-1), atol=1e-6)
    assert torch.allclose(surfels.cross(a, b), torch.linalg.cross(a, b), atol=1e-6)
    exact = a.abs().double().sqrt().float()
    assert torch.equal(root(a.abs()), exact)


@pytest.mark.usefixtures("with_threads")
@pytest.mark.parametrize("margin", [0.0, 0.06, 0.5])
def test_what_views_look_through_is_equal_to_the_bit(margin):
    views = BOX.render(BOX.look(0.0, 50.0, 200.0, at=(0.2, 0.0, 0.3)), 25, 34)
    views.depth[:, 3:9, 4:20] = torch.nan
    points = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)) * 2
    through = seen_through(views, points, margin)
    with use("torch"):
        expected = seen_through(views, points, margin)
    assert 0 < int(expected.sum()) < len(points)
    assert torch.equal(through, expected)


# ---- compiled kernels on disk --------------------------------------------------------------------


def twice(values: np.ndarray) -> None:
    for i in range(len(values)):
        values[i] *= 2


def doubled() -> list[float]:
    """What a kernel of its own makes of [1, 2], compiled anew or read from the cache."""
    from vmemkit.core.kernels.compiling import compiled

    values = np.array([1.0, 2.0])
    kernel = compiled(twice)
    kernel(values)
    return [*values.tolist(), sum(kernel.stats.cache_hits.values())]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "a folder"])
def test_a_damaged_cache_of_kernels_is_made_anew(suffix, damage, tmp_path, monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert doubled() == [2.0, 4.0, 0]
    assert doubled() == [2.0, 4.0, 1]
    (path,) = tmp_path.rglob(f"*{suffix}")
    content = path.read_bytes()
    spoiled = {"cut": content[: len(content) // 2], "garbage": b"\x93" * 99, "empty": b""}
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(spoiled[damage])
    assert doubled() == [2.0, 4.0, 0]
    if damage != "a folder":
        assert doubled() == [2.0, 4.0, 1]


KERNEL = """
from vmemkit.core.kernels.compiling import compiled


def twice(values):
    for i in range(len(values)):
        values[i] *= 2


if __name__ == "__main__":
    import numpy as np

    kernel = compiled(twice)
    kernel(np.ones(1))
    print(sum(kernel.stats.cache_hits.values()))
"""


def test_where_neither_package_nor_home_is_writable_kernels_are_kept_among_temporary_files(
    tmp_path,
):
    # A file in place of a folder cannot be written into by anybody, the administrator included.
    for name in ("__pycache__", "home"):
        (tmp_path / name).write_text("")
    (tmp_path / "temporary").mkdir()
    (tmp_path / "kernel.py").write_text(KERNEL)
    places = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "temporary"}
    ignored = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    environment |= {name: str(path) for name, path in places.items()}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)

    def cache_hits() -> str:
        command = [sys.executable, tmp_path / "kernel.py"]
        return subprocess.check_output(command, env=environment, text=True).strip()

    assert [cache_hits(), cache_hits()] == ["0", "1"]
    (folder,) = (tmp_path / "temporary").glob("vmemkit-kernels-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert cache_hits() == "0"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owner on this system")
@pytest.mark.parametrize("kind", ["open to others", "a link", "a file", "of somebody else"])
def test_a_folder_that_others_may_have_written_to_is_refused(kind, tmp_path):
    from vmemkit.core.kernels.compiling import private_folder

    folder = Path(private_folder(str(tmp_path)))
    assert private_folder(str(tmp_path)) == str(folder)
    if kind == "open to others":
        folder.chmod(0o755)
    elif kind == "of somebody else":
        if os.getuid() != 0:
            pytest.skip("only the administrator can give a folder away")
        os.chown(folder, 65534, 65534)
    else:
        folder.rmdir()
        folder.write_text("") if kind == "a file" else folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="written to by others"):
        private_folder(str(tmp_path))
