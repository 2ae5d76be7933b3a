"""Batches: windows of several clients in one generator. No Ray is needed."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from generator_helpers import small

import vmemkit as vm
from vmemkit.core import same_bits
from vmemkit.generation import Asked, Generation
from vmemkit.generation.remote import frame, read_frame, read_state
from vmemkit.scenes import rooms, single_tour
from vmemkit.serving import Job, run_jobs

pytestmark = pytest.mark.usefixtures("as_installed")
M, H, W = 2, 16, 24


@pytest.fixture(scope="module")
def windows() -> list[Asked]:
    """Three windows of one house: other cameras, numbers of context views and seeds."""
    house = rooms(0)
    path = single_tour(house).cameras
    return [
        (house.render(path[i : i + 1 + i], H, W), path[5 * i : 5 * i + M], seed(i))
        for i in range(3)
    ]


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def run(generator, jobs: Sequence[Job], watch=lambda frames: None) -> list[list[bytes]]:
    """All frames of each job, until StopIteration."""

    async def collect() -> list[list[bytes]]:
        made, ended = [[] for _ in jobs], set()
        with ThreadPoolExecutor(1) as thread:
            async for frames in run_jobs(generator, jobs, thread):
                assert len(frames) == len(jobs)
                watch(frames)
                for i, part in enumerate(frames):
                    if part is StopIteration:
                        ended.add(i)
                    elif part is not None:
                        assert i not in ended
                        made[i].append(part)
        assert ended == set(range(len(jobs)))
        return made

    return asyncio.run(collect())


def kinds(frames: list[bytes]) -> list[str]:
    return [read_frame(io.BytesIO(part).read, 10**7).kind for part in frames]


def states(frames: list[bytes]) -> list[Generation]:
    made = [read_frame(io.BytesIO(part).read, 10**7) for part in frames]
    return [
        read_state(one, M, *one.tensors["image"].shape[2:]) for one in made if one.kind == "state"
    ]


def test_a_batch_makes_what_each_window_makes_alone(windows):
    """This network on this machine to the bit; others may differ by rounding, so a little is allowed."""
    network = small(steps=4, preview_every=2)
    together = run(network, [Job(window) for window in windows])
    for i, (context, targets, _) in enumerate(windows):
        frames, alone = together[i], list(network(context, targets, seed(i)))
        assert kinds(frames) == ["wait", "state", "state", "state", "done"]
        assert len(alone) == 3
        for state, other in zip(states(frames), alone, strict=True):
            assert torch.allclose(state.image, other.image, atol=1e-4)
        assert float((states(frames)[-1].latent - alone[-1].latent).abs().max()) < 1e-3


def test_the_network_sees_all_windows_at_once(windows):
    network, rows = small(steps=2), []
    denoise = network.unet.denoise
    network.unet.denoise = lambda x, *rest: rows.append(len(x)) or denoise(x, *rest)
    run(network, [Job(window) for window in windows])
    assert rows == [3 * 2 * 8] * 2  # windows, with and without context, frames


def test_each_window_is_told_where_the_generator_left_its_rng(windows):
    frames = run(vm.Writer(), [Job(windows[0])])[0]
    context, targets, _ = windows[0]
    rng = seed(0)
    list(vm.Writer()(context, targets, rng))
    done = read_frame(io.BytesIO(frames[-1]).read, 10**6)
    assert done.kind == "done"
    assert torch.equal(done.tensors["rng"], rng.get_state())


def test_images_of_other_sizes_are_batches_of_their_own(windows):
    context, targets, rng = windows[0]
    other = vm.core.resize(context, 24, 32), targets, rng
    made = run(small(steps=1), [Job(windows[0]), Job(other), Job(windows[1])])
    assert [states(frames)[-1].image.shape[2:] for frames in made] == [(16, 24), (24, 32), (16, 24)]


def test_one_that_leaves_disturbs_none_of_the_others(windows):
    network, jobs = small(steps=4, preview_every=1), [Job(window) for window in windows]
    whole = run(network, [Job(window) for window in windows])

    def leave(frames: list) -> None:
        jobs[1].gone = True

    made = run(network, jobs, leave)
    assert made[0] == whole[0]
    assert made[2] == whole[2]


@pytest.mark.parametrize("make", [lambda: small(steps=500), vm.Writer], ids=["network", "writer"])
def test_where_all_have_left_the_work_stops(windows, make):
    jobs = [Job(window) for window in windows]

    def leave(frames: list) -> None:
        for job in jobs:
            job.gone = True

    made = run(make(), jobs, leave)
    assert not any("done" in kinds(frames) for frames in made)


def test_a_window_that_is_refused_spoils_no_other(windows):
    context, targets, rng = windows[2]
    broken = context.replace(image=context.image + torch.nan), targets, rng
    made = run(small(steps=1), [Job(windows[0]), Job(broken), Job(windows[1])])
    assert [kinds(frames)[-1] for frames in made] == ["done", "error", "done"]
    assert b"must be finite" in made[1][-1]
    alone = run(small(steps=1), [Job(windows[0])])[0]
    assert same_bits(states(made[0])[-1].image, states(alone)[-1].image)


def test_other_failures_are_logged_and_not_told(windows, caplog):
    def fails(context, targets, rng) -> Iterator[Generation]:
        raise KeyError("a secret path")
        yield

    (made,) = run(fails, [Job(windows[0])])
    assert made[-1] == frame(
        "error", message="the generator failed (KeyError); the server logged it"
    )
    assert "a secret path" in caplog.text
