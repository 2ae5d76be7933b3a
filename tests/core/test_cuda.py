"""The Triton kernels against the torch reference: on a GPU, or else in Triton's interpreter.

Triton has to be told to interpret before it is imported: where there is no GPU, one test runs this
file once more in a process of its own, in which the CPU is given to Triton.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from core_helpers import Box, same, tables
from splat_helpers import eyes, make_surfels, soup

from vmemkit.core import (
    MAX_DISTANCE,
    Boxes,
    Cameras,
    Splat,
    SplatConfig,
    Surfels,
    boxes_of,
    cameras,
    cat,
    intrinsics,
    seen_through,
    splat,
    unproject,
)
from vmemkit.core.kernels import RUN, use
from vmemkit.memory import (
    AssociationConfig,
    Memory,
    Sightings,
    begin,
    by_projection,
    read,
    sighting_counts,
    sightings_of,
    weight_by_view,
    write,
)
from vmemkit.memory.rows import Rows
from vmemkit.memory.sightings import pack_sightings
from vmemkit.retrieval import count_votes, pixels_per_surfel

pytest.importorskip(
    "triton",
    reason="the CUDA kernels need Triton, 1 GB on Linux: pip install -e '.[triton]' (CUDA builds of "
    "torch bring it)",
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HEIGHT, WIDTH = 24, 32


@pytest.fixture
def place() -> Iterator[str]:
    """The device that Triton works for."""
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("there is no GPU: this runs in the interpreter's process")
    with use("triton"):
        yield "cpu" if INTERPRETED else "cuda"


def straight() -> Cameras:
    return cameras(torch.eye(4)[None], intrinsics(60.0, WIDTH / HEIGHT))


def assert_equal(
    place: str, surfels: Surfels, query: Cameras, boxes: Boxes | None = None, **config: float
) -> Splat:
    """What the kernels see is what the torch reference sees, which is returned.

    To the bit: no operation is left to the device. Equal depths are no exception, since the smaller
    key (depth, id) wins on both sides: the older surfel.
    """
    settings = SplatConfig(**config)
    with use("torch"):
        expected = splat(surfels, query, HEIGHT, WIDTH, settings)
    held = boxes and boxes.to(place)
    seen = splat(surfels.to(place), query.to(place), HEIGHT, WIDTH, settings, boxes=held).to("cpu")
    assert torch.equal(seen.surfel, expected.surfel)
    assert torch.equal(seen.depth, expected.depth)
    assert torch.equal(seen.cosine, expected.cosine)
    return expected


# ---- drawing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "scale", "near"), [(1, 2**0.5, 0.02), (2, 1.0, 0.5), (3, 1.0, 2.0)]
)
def test_several_cameras_off_centre_see_what_the_reference_sees(place, seed, scale, near):
    seen = assert_equal(place, soup(100, seed), eyes(2, seed), scale=scale, near=near)
    assert (seen.surfel >= 0).float().mean() > 0.1


def test_discs_at_the_greatest_distances_are_what_the_reference_sees(place):
    discs, query = soup(100, 5), eyes(2, 5)
    unit = 0.999 * MAX_DISTANCE / float(discs.position.norm(dim=-1).amax())
    discs = discs.replace(position=discs.position * unit, radius=discs.radius * unit)
    query.world_from_cam[:, :3, 3] *= unit
    seen = assert_equal(place, discs, query, boxes_of(discs.position, discs.radius))
    assert (seen.surfel >= 0).any()


def test_the_far_end_hides_what_is_beyond(place):
    assert_equal(place, soup(100, 4), eyes(1, 4), far=2.0)


def test_a_warp_of_lanes_draws_the_same_and_keeps_to_its_canvas(place):
    from vmemkit.core.kernels import cuda

    # The last lane's disc reaches far below the first canvas; the second camera looks away.
    large = make_surfels([[0, 0, 4.0]], [[0, 0, 1.0]], [30.0])
    away = straight().replace(world_from_cam=torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))[None])
    surfels, lenses = cat([soup(31, 6), large]), cat([straight(), away])
    seen, config = assert_equal(place, surfels, lenses), SplatConfig()
    limits = (config.scale, config.near, config.far)
    size = (HEIGHT, WIDTH)
    warp = cuda.discs(surfels.to(place), lenses.to(place), size, limits, None, block=32)
    assert torch.equal(warp[0].cpu(), seen.surfel)
    assert (seen.surfel[0] >= 0).all()
    assert not (seen.surfel[1] == 31).any()


def test_of_discs_in_one_place_the_oldest_is_seen(place):
    x, y = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    centres = torch.stack([x, y, torch.full_like(x, 2.0)], -1).view(-1, 3)
    wall = make_surfels(centres, [[0, 0, 1.0]] * 64, [0.2] * 64)
    seen = assert_equal(place, cat([wall, wall, wall]), straight())
    assert (seen.surfel < 64).all()
    assert (seen.surfel >= 0).float().mean() > 0.5


def test_a_disc_that_fills_the_canvas_among_small_ones(place):
    small = soup(40, 6).replace(radius=torch.full((40,), 0.2))
    large = make_surfels([[0.1, 0, 3.0], [0, 3.0, 0.1]], [[0, 0, 1.0], [0, 1.0, 0.2]], [9.0, 9.0])
    seen = assert_equal(place, cat([small[:20], large, small[20:]]), straight())
    assert (seen.surfel >= 0).all()
    assert (seen.surfel == 20).float().mean() > 0.2


def test_nothing_in_sight_and_nothing_at_all(place):
    behind = make_surfels([[0, 0, -2.0]] * 3, [[0, 0, -1.0]] * 3, [0.5] * 3)
    for surfels in (behind, behind[:0]):
        assert (assert_equal(place, surfels, straight()).surfel == -1).all()


# ---- boxes ---------------------------------------------------------------------------------------


def room(runs: int) -> Surfels:
    """Runs of surfels in clusters all around, and some surfels more."""
    rng = torch.Generator().manual_seed(runs)
    count = runs * RUN + 9
    centre = torch.nn.functional.normalize(torch.randn(runs + 1, 3, generator=rng), dim=-1)
    run = torch.arange(count) // RUN
    position = 3 * centre[run] + 0.3 * torch.randn(count, 3, generator=rng)
    return make_surfels(position, position + 0.5 * centre[run], torch.full((count,), 0.1))


def test_boxes_change_no_result(place):
    surfels = room(6)
    boxes = boxes_of(surfels.position, surfels.radius)
    seen = assert_equal(place, surfels, eyes(2, 3), boxes)
    assert len((seen.surfel[seen.surfel >= 0] // RUN).unique()) > 1


def test_a_disc_may_show_though_its_centre_does_not(place):
    beside = make_surfels([[1.5, 0, 2.0]] * RUN, [[0, 0, 1.0]] * RUN, [0.01] * (RUN - 1) + [0.6])
    boxes = boxes_of(beside.position, beside.radius)
    assert RUN - 1 in assert_equal(place, beside, straight(), boxes).surfel


def test_runs_whose_box_is_out_of_sight_are_not_drawn(place):
    surfels = make_surfels([[0, 0, 2.0]] * (RUN + 1), [[0, 0, 1.0]] * (RUN + 1), [0.1] * (RUN + 1))
    there = torch.tensor([[0.0, 0.0, 2.0]])
    radius = torch.tensor([0.1])
    for away in ([9, 0, 0], [-9, 0, 0], [0, 9, 0], [0, -9, 0], [0, 0, -9], [0, 0, 9]):
        elsewhere = there + torch.tensor([away])
        boxes = Boxes(elsewhere, elsewhere, radius).to(place)
        look = surfels.to(place), straight().to(place), HEIGHT, WIDTH, SplatConfig(far=5.0)
        found = splat(*look, boxes=boxes).surfel
        assert found.unique().tolist() == [-1, RUN]  # the last run has no box yet
    assert 0 in assert_equal(place, surfels, straight(), Boxes(there, there, radius)).surfel


# ---- association, votes --------------------------------------------------------------------------


def test_the_same_surfels_are_new_as_to_the_reference(place):
    rng, grid = torch.Generator().manual_seed(1), (12, 16)
    points = unproject(straight(), torch.full((1, *grid), 2.0)).view(-1, 3)
    # A wall with holes; and discs in front of it, on it and behind it that turn all ways.
    pixel = torch.randperm(192, generator=rng)[:120].sort().values
    tilt, count = 0.3 * torch.randn(120, 3, generator=rng), 250
    new = make_surfels(points[pixel], tilt + torch.tensor([0, 0, 1.0]), [0.08] * 120)
    at = points[torch.randint(192, (count,), generator=rng)]
    tilt = torch.randn(count, 3, generator=rng) + torch.tensor([0, 0, 1.0])
    radius = 0.02 + 0.15 * torch.rand(count, generator=rng)
    old = make_surfels(at + 0.2 * torch.randn(count, 3, generator=rng), tilt, radius)
    with use("torch"):
        expected = by_projection(new, pixel, grid, straight(), old, AssociationConfig())
    assert 0.2 < expected.float().mean() < 0.8
    there = new.to(place), pixel.to(place), grid, straight().to(place), old.to(place)
    assert torch.equal(by_projection(*there, AssociationConfig()).cpu(), expected)


def remembered(place: str) -> Memory:
    """A box seen twice, and once more by an eye that is elsewhere."""
    box = Box()
    views = box.render(box.look(0.0, 35.0)), box.render(box.look(20.0, at=(0.4, 0.1, -0.3)))
    memory = begin(views[0].to(place))
    return write(memory, views[1].to(place))


def test_what_is_written_is_what_the_reference_writes(place):
    with use("torch"):
        expected = remembered("cpu")
    assert len(expected.sightings) > len(expected.surfels) + 100
    written = {name: column.cpu() for name, column in tables(remembered(place)).items()}
    assert same(written, tables(expected))


def test_votes_and_counts_add_up_as_the_references(place):
    rng = torch.Generator().manual_seed(0)
    seen = torch.rand(7, 700, generator=rng) < torch.rand(7, 1, generator=rng)
    seen[3] = False
    view, surfel = seen.nonzero(as_tuple=True)
    packed_sightings, weight = (
        pack_sightings(Sightings(surfel.int(), view.int()), torch.full((7,), 700))[0],
        torch.rand(700, generator=rng),
    )
    packed_sightings, weight = packed_sightings.to(place), weight.to(place)
    with use("torch"):
        expected, counts = (
            weight_by_view(packed_sightings, weight, 9),
            sighting_counts(packed_sightings, 700),
        )
    from vmemkit.core.kernels import cuda

    torch.testing.assert_close(cuda.weight_by_view(packed_sightings, weight, 9), expected)
    assert torch.equal(cuda.sighting_counts(packed_sightings, 700), counts)
    # Nothing is read or written beyond the surfels that there are.
    assert torch.equal(cuda.sighting_counts(packed_sightings, 650), counts[:650])
    fewer = cuda.weight_by_view(packed_sightings, weight[:650], 9)
    weight[650:] = 0
    torch.testing.assert_close(fewer, cuda.weight_by_view(packed_sightings, weight, 9))
    none = cuda.weight_by_view(packed_sightings[:0], weight, 9)
    assert none.tolist() == [0.0] * 9


def test_the_pairs_of_a_mask_come_as_the_reference_lists_them(place):
    rng = torch.Generator().manual_seed(1)
    seen = torch.rand(5, 700, generator=rng) < torch.rand(5, 1, generator=rng)
    seen[2] = False
    view, surfel = seen.nonzero(as_tuple=True)
    packed, _ = pack_sightings(Sightings(surfel.int(), view.int()), torch.full((5,), 700))
    mask = torch.rand(700, generator=rng) < 0.4
    for few in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        with use("torch"):
            expected = sightings_of(packed, few)
        found = sightings_of(packed.to(place), few.to(place))
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
    assert len(sightings_of(packed[:0].to(place), mask.to(place))[0]) == 0


def test_views_look_through_what_the_reference_says(place):
    rng, box = torch.Generator().manual_seed(2), Box()
    views = box.render(box.look(0.0, 90.0, 200.0), HEIGHT, WIDTH)
    views.depth[0, 5:9, 7:12] = torch.nan  # unknown depth blocks
    points = 6 * torch.rand(999, 3, generator=rng) - 3
    points = torch.cat([points, views.cameras.position[:1]])
    with use("torch"):
        expected = seen_through(views, points, 0.06)
    assert 0.05 < expected.float().mean() < 0.5
    assert torch.equal(seen_through(views.to(place), points.to(place), 0.06).cpu(), expected)


# ---- without asking the host ---------------------------------------------------------------------


@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a GPU")
def test_reading_and_voting_do_not_wait_for_the_device():
    memory, query = remembered("cuda"), Box().look(10.0, 25.0).to("cuda")

    def ballots(memory: Memory, query: Cameras) -> torch.Tensor:
        pixels = pixels_per_surfel(memory, read(memory, query, HEIGHT, WIDTH))
        counts = sighting_counts(memory.packed_sightings, len(memory.surfels))
        return count_votes(memory, pixels / counts.clamp(min=1))

    ballots(memory, query)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = ballots(memory, query)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), ballots(memory.to("cpu"), query.to("cpu")))


@pytest.mark.skipif(INTERPRETED, reason="has nothing to interpret")
def test_votes_look_at_no_value():
    # Tensors without values: whatever asks for one fails, as nonzero, item and masks would.
    memory = Box().memory(0.0, 20.0)
    columns = ("_views", "_surfels", "_sightings", "_ends", "_boxes")
    empty = {name: Rows.of(getattr(memory, name).value.to("meta")) for name in columns}
    memory = dataclasses.replace(memory, **empty)
    ids = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.int64, device="meta")
    pixels = pixels_per_surfel(memory, Splat(ids, ids.float(), ids.float()))
    counts = sighting_counts(memory.packed_sightings, len(memory.surfels))
    assert count_votes(memory, pixels / counts.clamp(min=1)).shape == (2,)


# ---- where there is no GPU -----------------------------------------------------------------------


@pytest.mark.skipif(INTERPRETED, reason="is the interpreter's process")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU has run the kernels")
def test_the_interpreter_agrees():
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    # The interpreter computes lanes that are off as well: 0 / 0.
    quiet = ("-q", "-p", "no:cacheprovider", "-W", "ignore:invalid value:RuntimeWarning")
    # Shapes are checked where the same tests run outside of the interpreter.
    quiet += ("-p", "no:jaxtyping", "-o", "addopts=--import-mode=importlib")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, "-W", "ignore:divide by:RuntimeWarning", __file__],
        env={**inherited, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(INTERPRETED, reason="an interpreter compiles nothing")
def test_the_kernels_compile_for_a_gpu_without_fusing(monkeypatch, tmp_path):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vmemkit.core.kernels import cuda

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    f, i, j, n = "*fp32", "*i64", "*i32", "i32"
    surfels, lens, block = (f, f, f), (f, f), {"BLOCK": "constexpr"}
    size, surface = {"height": n, "width": n}, (f, f, f, i, "fp32", "fp32")
    limits = {"limits": ("fp32",) * 3, "boxes": (f, f, f), "boxed": n, "surface": surface}
    seen, columns = {"surfel": i, "depth": f, "cosine": f}, {"word": j, "view": j, "bits": i}
    signatures = {
        "draw_discs": {"surfels": surfels, "total": n, "lens": lens, **size, **limits, "keys": i},
        "read_keys": {"keys": i, "pixels": n, "surfels": surfels, "lens": lens, **seen},
        "add_votes": {**columns, "weight": f, "known": n, "total": "*fp64", "rows": n},
        "add_counts": {"word": j, "bits": i, "count": i, "known": n, "rows": n},
    }
    options = {"num_warps": 1, "enable_fp_fusion": False}
    code = {}
    for name, signature in signatures.items():
        source = ASTSource(getattr(cuda, name), {**signature, **block}, {"BLOCK": 32})
        code[name] = triton.compile(source, GPUTarget("cuda", 90, 32), options).asm["ptx"]
    assert re.search(r"min\.s64", code["draw_discs"])
    # What is rounded twice in the reference is rounded twice here; no quick division, no quick root.
    quick = r"fma\.\S*f32|div\.(full|approx)|sqrt\.approx|rcp\.approx"
    assert [name for name, text in code.items() if re.search(quick, text)] == []
