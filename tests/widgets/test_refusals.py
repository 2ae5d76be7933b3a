"""What widgets refuse, and that the message says what is needed."""

from types import SimpleNamespace

import pytest
import torch
from golden_helpers import normal

import vmemkit as vm
from vmemkit.core import Cameras
from vmemkit.generation.diffusion import Levels, PixelCodec, euler, ideal_denoiser, initial_sample
from vmemkit.scenes import Tour
from vmemkit.widgets import (
    Explorer,
    MemoryViewer,
    PolicyRace,
    RetrievalInspector,
    SamplingScrubber,
    StepThrough,
)

pytest.importorskip("anywidget", reason="widgets need the extra `notebook`")

NOTHING = vm.Memory.empty()


@pytest.fixture(scope="module")
def good(box):
    """Input that is all right by itself."""
    path, world = box.look(20.0), normal("world", 2, 3, 12, 4, 6).clamp(-1, 1)
    sigmas = Levels().sigmas(2)
    states = euler(ideal_denoiser(world), initial_sample(normal("x", 3, 12, 4, 6), sigmas), sigmas)
    return SimpleNamespace(
        memory=box.memory(0.0, 40.0),
        path=path,
        scene=box,
        tour=Tour(path, path, slice(0, 1), torch.tensor([-1])),
        states=list(states),
        decode=PixelCodec(2).decode,
    )


def bent(path):
    return Cameras(2 * path.world_from_cam, path.K)


NO_VIEWS, NO_WALK = "need a memory with views and targets", "need a memory with views, a trajectory"
CASES = {
    "a viewer of nothing": (lambda good: MemoryViewer(NOTHING), "write a view first"),
    "an unknown colour": (lambda good: MemoryViewer(good.memory, "depth"), "colour mode"),
    "a colour without a retrieval": (
        lambda good: MemoryViewer(good.memory, "votes for"),
        "about a retrieval",
    ),
    "an inspector of nothing": (lambda good: RetrievalInspector(NOTHING, good.path), NO_VIEWS),
    "a single target": (lambda good: RetrievalInspector(good.memory, good.path[0]), NO_VIEWS),
    "no targets": (lambda good: RetrievalInspector(good.memory, good.path[:0]), NO_VIEWS),
    "an unknown policy": (
        lambda good: RetrievalInspector(good.memory, good.path, policy="best"),
        "unknown policy 'best'",
    ),
    "no policy": (
        lambda good: RetrievalInspector(good.memory, good.path, policy="none"),
        "unknown policy 'none'",
    ),
    "an unknown rival": (
        lambda good: RetrievalInspector(good.memory, good.path, rival="worst"),
        "unknown policy 'worst'",
    ),
    "steps from nothing": (lambda good: StepThrough(NOTHING, good.path), NO_WALK),
    "steps to a single camera": (lambda good: StepThrough(good.memory, good.path[0]), NO_WALK),
    "steps to nowhere": (lambda good: StepThrough(good.memory, good.path[:0]), NO_WALK),
    "steps of no targets": (lambda good: StepThrough(good.memory, good.path, m=0), NO_WALK),
    "steps along bent cameras": (
        lambda good: StepThrough(good.memory, bent(good.path)),
        "rigid",
    ),
    "an unknown example": (lambda good: Explorer("attic"), "need an example"),
    "an explorer's unknown policy": (
        lambda good: Explorer(policy="best"),
        "unknown policy 'best'",
    ),
    "a race of an unknown policy": (
        lambda good: PolicyRace(good.scene, good.tour, ["coverage", "best"]),
        "unknown policy 'best'",
    ),
    "a race of none": (lambda good: PolicyRace(good.scene, good.tour, []), "choose some of"),
    "no states": (lambda good: SamplingScrubber([], good.decode), "states of a sampler"),
    "a name too few": (
        lambda good: SamplingScrubber(good.states, good.decode, ["a", "b"]),
        "each of 3 frames, got 2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_words(good, case):
    make, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        make(good)
