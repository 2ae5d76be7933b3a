"""How often a GPU would make the program wait for it, counted on a stand-in (gpu_stand_in.py).

Each wait takes some 20 microseconds in which the GPU stands idle, so that their number per step must
not grow with views, surfels, choices or denoising steps. The stand-in also refuses tensors of both
devices in one operation: a stage that runs here to its end sends everything to the right device.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from core_helpers import Box, same, tables
from generator_helpers import small
from golden_helpers import seeing_ahead
from gpu_stand_in import OnGpu, StandIn, on_gpu

from vmemkit.core.kernels import use
from vmemkit.generation import Warp, Writer
from vmemkit.memory import Memory, begin, read, sighting_counts, write
from vmemkit.pipeline import step
from vmemkit.reconstruction import Cut3r
from vmemkit.retrieval import (
    POLICIES,
    count_votes,
    finest_sizes,
    pixels_per_surfel,
    retrieve,
    sharpness,
)
from vmemkit.retrieval.selection import EXCHANGES
from vmemkit.scenes import capture_tour, rooms

pytestmark = pytest.mark.usefixtures("as_installed")
GPU, HERE = "cuda", Path(__file__).parent


def waits(job: Callable[[], object]) -> Counter[str]:
    """Where the job waits, on the stand-in."""
    with use("torch"), StandIn() as gpu:
        job()
    return gpu.waits


def views(count: int, size: tuple[int, int] = (24, 32)):
    box = Box()
    return box.render(box.look(*(7.0 * i for i in range(count))), *size)


def remembered(count: int) -> Memory:
    with use("torch"), StandIn():
        return begin(views(count).to(GPU))


@pytest.fixture(scope="module")
def few() -> Memory:
    return remembered(5)


@pytest.fixture(scope="module")
def many() -> Memory:
    return remembered(15)


# ---- the stand-in --------------------------------------------------------------------------------

x = torch.tensor([0.5, 2.0, 3.0])
WAITS = {
    "reading a number": lambda a: float(a[0]),
    "asking a question": lambda a: bool((a > 1).any()),
    "a list": lambda a: a.tolist(),
    "a mask as an index": lambda a: a[a > 1],
    "a number of the GPU as an index": lambda a: a[a.argmax()],
    "indices from Python": lambda a: a[[0, 1]],
    "the places of a mask": lambda a: (a > 1).nonzero(),
    "different values": lambda a: a.unique(),
    "a copy to the CPU": lambda a: a.cpu(),
    "a copy to the GPU": lambda a: x.to(a.device),
    "numbers from Python": lambda a: a.new_tensor([1.0]),
    "a tensor from Python": lambda a: torch.tensor([1.0], device=a.device),
    "an inverse": lambda a: torch.linalg.inv(torch.eye(3, device=a.device)),
    "repeats of unknown length": lambda a: torch.arange(3, device=a.device).repeat_interleave(
        a.long()
    ),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_stand_in_counts(name):
    with StandIn(HERE) as gpu:
        a = x.to(GPU)
        gpu.waits.clear()
        WAITS[name](a)
    assert sum(gpu.waits.values()) == 1


def test_the_stand_in_lets_a_gpu_work_on_and_keeps_the_devices_apart():
    with StandIn(HERE) as gpu:
        a = x.pin_memory().to(GPU, non_blocking=True)
        b = torch.where(a > 1, a.cumsum(0), 0)[torch.arange(2, device=a.device)]
        b[b > 1] = 5.0
        assert isinstance(b, OnGpu)
        assert b.device.type == "cuda"
        assert not gpu.waits
        with pytest.raises(RuntimeError, match="same device"):
            a + x
        assert type(a.cpu()) is torch.Tensor


# ---- the memory ----------------------------------------------------------------------------------


def test_a_written_view_waits_eleven_times_and_a_call_five_times(few):
    first = waits(lambda: begin(views(1).to(GPU)))
    assert sum(first.values()) <= 13, first
    for count in (2, 4):
        new = views(count)
        found = waits(lambda new=new: write(few, new.to(GPU)))
        found -= waits(lambda new=new: new.to(GPU))
        assert sum(found.values()) <= 5 + 11 * count, found


def test_writing_waits_no_more_often_into_a_large_memory(few, many):
    new = views(1)
    assert waits(lambda: write(few, new.to(GPU))) == waits(lambda: write(many, new.to(GPU)))


def test_reading_and_voting_wait_for_nothing(many):
    with StandIn():
        query = Box().look(10.0, 25.0).to(GPU)

    def ballots() -> None:
        canvas = read(many, query, 24, 32)
        pixels = pixels_per_surfel(many, canvas)
        counts = sighting_counts(many.packed_sightings, len(many.surfels))
        count_votes(many, pixels / counts.clamp(min=1))
        surfel = torch.arange(9, device=query.device)
        finest = finest_sizes(many, query, canvas)
        sharpness(many.surfels, finest, many.views.cameras, surfel, surfel)

    assert not waits(ballots)


# ---- retrieval -----------------------------------------------------------------------------------

TARGETS = Box().look(5.0, 12.0, at=(0.2, 0.0, 0.1))


@pytest.mark.parametrize("name", POLICIES)
def test_a_choice_waits_no_more_often_for_more_views(few, many, name):
    with StandIn():
        targets = TARGETS.to(GPU)
    found = [
        waits(lambda memory=memory, k=k: retrieve(memory, targets, k, name))
        for memory, k in ((few, 2), (few, 4), (many, 4), (many, 8))
    ]
    if name == "coverage":  # which waits once a round of exchanges
        found = [Counter({w: n for w, n in f.items() if "equal" not in w}) for f in found]
    assert found[0] == found[1] == found[2] == found[3]
    # The polygons of the released renderer have no Triton kernel.
    assert sum(found[0].values()) <= (30 if name == "released" else 12)


@pytest.mark.parametrize("policy", ["coverage", "surfel_votes", "paper", "released"])
def test_what_is_chosen_is_what_the_cpu_chooses(many, policy):
    with use("torch"), StandIn():
        there = retrieve(many, TARGETS.to(GPU), 4, policy)
    with use("torch"):
        here = retrieve(begin(views(15)), TARGETS, 4, policy)
    assert there.chosen.tolist() == here.chosen.tolist()
    assert there.suppressed_by.tolist() == here.suppressed_by.tolist()


# ---- generators and whole steps ------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["euler", "dpm_solver"])
def test_diffusion_waits_a_few_times_whatever_the_number_of_its_steps(sampler):
    context = views(2, (16, 16)).replace(depth=None, confidence=None)

    def generate(steps: int) -> None:
        generator = small(steps=steps, sampler=sampler, frames=5)
        on_gpu(generator.unet)
        *_, made = generator(context.to(GPU), TARGETS.to(GPU), torch.Generator().manual_seed(0))
        assert made.image.device.type == "cuda"

    found = waits(lambda: generate(3))
    assert found == waits(lambda: generate(9))
    assert sum(found.values()) <= 20


def whole(generator, reconstructor, device: str):
    scene = rooms(0)
    path = capture_tour(scene, aspect=4 / 3).cameras
    given = scene.render(path[:3], 48, 64)
    how = {"generator": generator, "k": 3}
    if reconstructor is not None:
        how["reconstructor"] = reconstructor
    return step(begin(given.to(device)), path[3:5].to(device), **how)


@pytest.mark.parametrize("generator", [Warp(), Writer()], ids=["warp", "writer"])
def test_a_whole_step_runs_on_a_gpu_and_makes_what_the_cpu_makes(generator):
    with use("torch"):
        expected = whole(generator, None, "cpu")
        with StandIn() as gpu:
            made = whole(generator, None, GPU)
            assert made.views.device.type == "cuda"
    assert made.retrieval.chosen.tolist() == expected.retrieval.chosen.tolist()
    assert torch.equal(made.views.image.cpu(), expected.views.image)
    assert same(
        {name: column.cpu() for name, column in tables(made.memory).items()},
        tables(expected.memory),
    )
    assert sum(gpu.waits.values()) < 600


def test_the_pipeline_of_vmem_runs_on_a_gpu():
    network = on_gpu(seeing_ahead())
    generator = small(frames=5)
    on_gpu(generator.unet)
    with use("torch"), StandIn():
        made = whole(generator, Cut3r(network, failures="keep"), GPU)
        assert made.views.depth.device.type == "cuda"
    assert len(made.memory) == 5


# ---- a real GPU ----------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_waits_as_seldom_as_the_stand_in():
    memory, new, targets = begin(views(15).to(GPU)), views(2).to(GPU), TARGETS.to(GPU)
    jobs = {lambda: write(memory, new): 13, lambda: retrieve(memory, targets, 4): 6 + EXCHANGES}
    for job, most in jobs.items():
        job()  # compiles kernels
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                job()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        places = Counter(
            f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
        )
        assert sum(places.values()) <= most, places
