"""Small walks for the tests of sessions, and values taken apart to be compared to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from core_helpers import Box
from torch import Tensor

import vmemkit as vm
from vmemkit.core import Cameras, Views, stream
from vmemkit.generation import Generation
from vmemkit.memory import Memory, MemoryConfig, columns_since
from vmemkit.pipeline import Step
from vmemkit.reconstruction import Reconstruction, Report

BOX, SIZE = Box(), (12, 16)


def paint(context: Views, targets: Cameras, rng: torch.Generator) -> Iterator[Generation]:
    """The box with some noise, in two states."""
    truth = BOX.render(targets, *SIZE)
    noise = torch.rand(truth.image.shape, generator=rng)
    confidence = torch.full_like(truth.depth, 2.0)
    yield Generation(noise, truth.depth, confidence)
    image = (0.9 * truth.image + 0.1 * noise).clamp(0, 1)
    yield Generation(image, truth.depth, confidence, note="painted")


@dataclasses.dataclass(frozen=True)
class Coding:
    """A generator that works on codes: `encode` adds those that are missing."""

    def __call__(self, context: Views, targets: Cameras, rng: torch.Generator):
        assert context.latent is not None
        *_, last = paint(context, targets, rng)
        yield last.replace(latent=last.image[:, :, ::4, ::4], embedding=last.image.mean((2, 3)))

    def encode(self, views: Views) -> Views:
        latent, embedding = views.image[:, :, ::4, ::4], views.image.mean((2, 3))
        if views.latent is not None:
            known = ~views.latent.isnan()
            if known.all():
                return views
            latent = torch.where(known, views.latent, latent)
        return views.replace(latent=latent, embedding=embedding)


@dataclasses.dataclass(frozen=True)
class Counting:
    """A reconstructor that goes on from a state, and reports."""

    memory: Memory | None = None

    def with_memory(self, memory: Memory) -> Counting:
        return Counting(memory)

    def __call__(self, views: Views) -> Reconstruction:
        last = self.memory.state
        count = 0 if last is None else last["count"]
        state = {
            "count": count + len(views),
            "seen": [views.image.mean((1, 2, 3)), None],
            "cameras": views.cameras,
            "scales": (1.0, float("nan"), float("-inf")),
            2: "two",
        }
        reports = tuple(Report(float("nan"), residual=0.1 * i) for i in range(len(views)))
        return Reconstruction(views, reports, state)


def begin(config: MemoryConfig | None = None) -> Memory:
    return vm.begin(BOX.render(BOX.look(0.0), *SIZE), config)


def path(*yaws: float) -> Cameras:
    return BOX.look(*yaws)


def some_yaws(count: int, seed: int = 0) -> Cameras:
    return BOX.look(*(360 * torch.rand(count, generator=stream(seed))).tolist())


def walk(memory: Memory, cameras: Cameras, **settings: Any) -> Iterator[Step]:
    """A walk that is fast and small, and draws random numbers."""
    usual = {"generator": paint, "policy": "temporal", "m": 1}
    return vm.walk(memory, cameras, **{**usual, **settings})


def parts(value: Any, name: str = "") -> dict[str, Any]:
    """Everything in a value by its place, tensors as bytes."""
    if isinstance(value, Tensor):
        bits = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        return {name: (value.dtype, tuple(value.shape), bits.numpy().tobytes())}
    if isinstance(value, Memory):
        columns = {key: column for key, (_, column) in columns_since(value).items()}
        states = list(value._states)
        while states and states[-1] is None:  # as if there were none
            states.pop()
        value = {"config": value.config, "states": states, **columns}
    if isinstance(value, (list, tuple)):
        value = {**dict(enumerate(value)), "kind": type(value).__name__}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        value = {**fields, "kind": type(value).__name__}
    if isinstance(value, dict):
        found: dict[str, Any] = {f"{name}.keys": tuple(map(repr, value))}
        for key, item in value.items():
            found |= parts(item, f"{name}.{key}")
        return found
    return {name: repr(value)}
