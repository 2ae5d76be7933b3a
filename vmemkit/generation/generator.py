"""What every generator takes and makes.

A generator is any callable `(context, targets, rng) -> iterator of Generation`. Each item is a state of
the target views worth looking at, and the last one is the result. Plain images [m 3 h w], yielded or
returned, are enough for a walk, which then takes their depth from `Warp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import (
    Cameras,
    TensorStruct,
    Views,
    camera_list,
    check_cameras,
    seed_from,
    stream,
)

# Confidence of a pixel whose content comes from a given view, and of one that was made up.
SEEN, IMAGINED = 2.0, 1.0


@dataclass(frozen=True, repr=False)
class Generation(TensorStruct):
    """A state of the target views while they are generated."""

    image: Float[Tensor, "m 3 h w"]  # in [0, 1]
    depth: Float[Tensor, "m h w"]  # planar z-depth, world units; NaN where unknown
    confidence: Float[Tensor, "m h w"]  # SEEN, IMAGINED, or 0 where nothing is known yet
    latent: Float[Tensor, "m c hl wl"] | None = (
        None  # code of the image, for the generator's own use
    )
    embedding: Float[Tensor, "m d"] | None = None  # likewise, one vector per image
    note: str | None = None  # what the user should know of how it was made, one sentence

    def views(self, cameras: Cameras) -> Views:
        """The state as generated views of `cameras` (m,)."""
        return Views(
            cameras=cameras,
            image=self.image,
            given=torch.zeros(len(self.image), dtype=torch.bool, device=self.image.device),
            depth=self.depth,
            confidence=self.confidence,
            latent=self.latent,
            embedding=self.embedding,
        )


@runtime_checkable
class Generator(Protocol):
    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """States of the m target views, at the context's image size; the last is the result."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """A generator that works on codes of images, which a walk keeps in the memory's views."""

    def encode(self, views: Views) -> Views:
        """The views with their latents and embeddings; missing ones are computed."""
        ...


Asked = tuple[Views, Cameras, torch.Generator]  # what a call takes: context, targets, rng


@runtime_checkable
class Batches(Protocol):
    """A generator that makes several windows in less time together than one after the other."""

    def together(self, asked: Sequence[Asked]) -> Iterator[list[Generation | None]]:
        """Several calls as one batch: now and then the new state of each, or None.

        Each is as a call alone, up to rounding. Errors: ValueError as for a call, and for images of
        different sizes.
        """
        ...


def checked_targets(targets: Cameras) -> Cameras:
    """Target cameras (m,) as float32. Errors: ValueError unless they are rigid pinhole cameras."""
    return check_cameras(camera_list(targets, "targets"))


def check_context(context: Views) -> None:
    """Errors: ValueError for no context views, and for views without depth."""
    if len(context) == 0 or context.depth is None:
        raise ValueError(
            f"need context views with depth, got {context}: retrieve at least one view"
        )


def confidence_of(views: Views) -> Float[Tensor, "t h w"]:
    """SEEN for given views, whatever the confidence of their depth; others keep their own."""
    full = torch.full_like(views.depth, SEEN)
    if views.confidence is None:
        return full
    return torch.where(views.given[:, None, None], full, views.confidence)


def check_images(views: Views, side: int) -> None:
    """Errors: ValueError for images that are not finite, or not multiples of `side` pixels."""
    if not views.image.isfinite().all():
        raise ValueError("images must be finite, got NaN or infinity")
    h, w = views.image.shape[2:]
    if h % side or w % side:
        near = [max(side, round(n / side) * side) for n in (h, w)]
        raise ValueError(
            f"images must be multiples of {side} pixels in height and width, got {h} x {w}: "
            f"resize them, such as vmemkit.core.resize(views, {near[0]}, {near[1]})"
        )


def states(made: Any, context: Views, targets: Cameras) -> Iterator[Generation | Tensor]:
    """What a generator yielded or returned, one state after the other.

    Errors: ValueError for anything but Generations and images [m 3 h w] of the context's size.
    """
    shape = (len(targets), 3, *context.image.shape[2:])
    if isinstance(made, (Tensor, Generation)) or not isinstance(made, Iterable):
        made = [made]
    for state in made:
        images = isinstance(state, Tensor) and state.shape == shape and state.is_floating_point()
        if not images and not isinstance(state, Generation):
            got = f"{state.dtype} {list(state.shape)}" if isinstance(state, Tensor) else state
            raise ValueError(
                "a generator must yield or return a Generation, or images in [0, 1] as a float "
                f"tensor {list(shape)}, got {got!s:.80}"
            )
        yield state


@dataclass(frozen=True)
class WithDepth:
    """The images of one generator with the depth and confidence of another."""

    images: Generator
    depth: Generator

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        seed = seed_from(rng)
        *_, geometry = self.depth(context, targets, stream(seed, 0))
        for state in states(self.images(context, targets, stream(seed, 1)), context, targets):
            if isinstance(state, Tensor):
                yield Generation(state, geometry.depth, geometry.confidence)
            else:
                yield state.replace(depth=geometry.depth, confidence=geometry.confidence)

    def encode(self, views: Views) -> Views:
        return self.images.encode(views) if isinstance(self.images, Encodes) else views


def with_depth(images: Generator, depth: Generator) -> WithDepth:
    """A generator that paints with `images` and takes its geometry from `depth`, such as `Warp()`.

    It serves walks without a reconstructor. Where the context shows the target, the geometry is
    right. Imagined content is remembered where `depth` guesses it to be.
    """
    return WithDepth(images, depth)
