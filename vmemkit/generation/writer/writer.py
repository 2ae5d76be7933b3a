"""Writer: the generator that writes the scene as a plan, renders it, and keeps what was seen.

In: context views with depth, target cameras. Out: target views with depth and with the facts that
they show. It knows one made-up style of houses. It reads what the context shows as facts, draws the
rest from the grammar of these houses, builds and renders the plan, and lays the context over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Cameras, Views, cat, seed_from, stream
from vmemkit.generation.generator import IMAGINED, Generation, check_context, confidence_of
from vmemkit.generation.warp.config import WarpConfig
from vmemkit.generation.warp.forward_warp import discs_of_views, splat_context
from vmemkit.generation.warp.smoothing import blend_seam
from vmemkit.generation.writer.completion import complete
from vmemkit.generation.writer.contents import facts_in_view
from vmemkit.generation.writer.evidence import find_frame, gather, in_frame
from vmemkit.generation.writer.facts import Facts, decode, encode, join
from vmemkit.generation.writer.perception import frame_numbers, frame_of, perceive
from vmemkit.scenes.house import Plan, build


@dataclass(frozen=True)
class WriterConfig:
    """Settings of the Writer."""

    samples: int = 2  # rays per pixel and direction at edges; 2 softens them
    # Whether walls and things that were written earlier go where a camera stands in them. If not, the
    # camera is refused, as it is by what given views show.
    gives_way: bool = True


@dataclass(frozen=True)
class Draft:
    """What the Writer knows and what it makes of it, in the frame of the walls."""

    facts: Facts  # what the context says
    plan: Plan  # the house that was written
    frame_from_world: Float[Tensor, "4 4"]

    def in_frame(self, cameras: Cameras) -> Cameras:
        """Cameras of the world in the frame of the walls, where the facts and the plan are."""
        return in_frame(cameras, self.frame_from_world)


@dataclass(frozen=True)
class Writer:
    """A generator that writes houses.

    1. Read the facts: of given views from their pixels, of generated views from their codes.
    2. Join them: given views first, then the oldest (`join`).
    3. Draw what is missing (`complete`), build the plan, and render the targets.
    4. Lay what the context shows over it, and blend the seam.

    Yields what the context shows, the rendered plan, and the two together.
    """

    config: WriterConfig = field(default_factory=WriterConfig)

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """Errors: ValueError for an empty context or one without depth, and for a target inside a wall
        or a thing that the context shows."""
        check_context(context)
        height, width = context.image.shape[2:]
        shown = _shown(context, targets)
        yield shown
        draft = self.draft(context, targets, rng)
        cameras = in_frame(targets, draft.frame_from_world)
        rendered = _rendered(draft.plan, cameras, height, width, self.config.samples)
        age = draft.facts.age + 1
        codes = torch.stack(
            [
                encode(facts_in_view(draft.plan, rendered[i : i + 1], draft.facts, age))
                for i in range(len(targets))
            ]
        )
        confidence = torch.full_like(rendered.depth, IMAGINED)
        yield Generation(rendered.image, rendered.depth, confidence, embedding=codes)
        known = shown.confidence > 0
        image = torch.stack(
            [blend_seam(rendered.image[i], shown.image[i], known[i]) for i in range(len(targets))]
        )
        depth = torch.where(known, shown.depth, rendered.depth)
        confidence = torch.where(known, shown.confidence, confidence)
        yield Generation(image, depth, confidence, embedding=codes)

    def draft(self, context: Views, targets: Cameras, rng: torch.Generator) -> Draft:
        """What the context says, and the plan that is written from it."""
        seed = seed_from(rng)
        carried = read_facts(context)
        remembered = sorted((facts for facts in carried if facts), key=lambda facts: facts.age)
        given = context[torch.tensor([facts is None for facts in carried])]
        frame = frame_of(remembered[0]) if remembered else find_frame(given)
        evidence = gather(context, frame)
        cameras = torch.cat([in_frame(c, frame).position for c in (targets, context.cameras)])
        places = cameras.double().numpy()
        seen: list[Facts] = []
        if len(given):
            turn, floor = frame_numbers(frame)
            found = perceive(gather(given, frame), places)
            seen = [Facts(found.rooms, found.doors, turn, floor)]
        position = in_frame(targets, frame).position
        # What was written last is dropped first where a target stands in what was written.
        least = 0 if self.config.gives_way else len(remembered)
        for count in range(len(remembered), least - 1, -1):
            facts = join(seen + remembered[:count])
            plan = complete(facts, places, evidence, stream(seed))
            if bool(build(plan).in_the_open(position).all()):
                break
        return Draft(facts, plan, frame)


def _shown(context: Views, targets: Cameras) -> Generation:
    """What the context shows of the targets, as `Warp` has it."""
    context = context.replace(confidence=confidence_of(context), latent=None, embedding=None)
    config = WarpConfig()
    discs = cat(discs_of_views(context, config))
    height, width = context.image.shape[2:]
    return splat_context(context, discs, targets, height, width, config)


def _rendered(plan: Plan, cameras: Cameras, height: int, width: int, samples: int) -> Views:
    try:
        return build(plan).render(cameras, height, width, samples)
    except ValueError as error:
        raise ValueError(
            "the Writer has no house around these targets: one of them is inside a wall or a thing that "
            f"the context shows ({error})"
        ) from error


def read_facts(views: Views) -> list[Facts | None]:
    """The facts that each view carries; None for given views, whose pixels must be read."""
    if views.embedding is None:
        return [None] * len(views)
    return [decode(code) for code in views.embedding.cpu()]
