"""Writer: the generator that writes the scene as a plan, renders it, and keeps what was seen.

In: context views with depth, target cameras. Out: target views with depth and with the facts that
they show. It knows one made-up style of houses. It reads what the context shows as facts, draws the
rest from the grammar of these houses, builds and renders the plan, and lays the context over it.
A photographed room goes on in its own colours and surfaces; where no room shows, `Warp` takes over.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vmemkit.core import Cameras, Views, cat, seed_from, stream
from vmemkit.generation.far_sky import sky_again, with_far_sky
from vmemkit.generation.generator import (
    IMAGINED,
    Generation,
    check_context,
    checked_targets,
    confidence_of,
)
from vmemkit.generation.warp.config import WarpConfig
from vmemkit.generation.warp.forward_warp import Warp, context_discs, one_by_one, splat_context
from vmemkit.generation.warp.smoothing import blend_seam
from vmemkit.generation.writer.completion import complete, is_blocked
from vmemkit.generation.writer.contents import facts_in_view
from vmemkit.generation.writer.evidence import Array, Evidence, find_frame, gather, in_frame
from vmemkit.generation.writer.facts import (
    Facts,
    RoomFacts,
    decode,
    encode,
    join,
    no_room_code,
    says_no_room,
)
from vmemkit.generation.writer.perception import frame_numbers, frame_of, perceive
from vmemkit.generation.writer.photographs import (
    find_photo_frame,
    find_photo_room,
    is_grey,
    may_be_room,
    shows_grey,
    snap_to_planes,
    to_grey_views,
)
from vmemkit.generation.writer.tiles import find_tiles, lay, with_flat_floors
from vmemkit.scenes.house import Plan, build

NO_ROOM = "no room was found in these views"


@dataclass(frozen=True)
class WriterConfig:
    """Settings of the Writer."""

    samples: int = 2  # rays per pixel and direction at edges; 2 softens them
    # Whether a path may lead through walls, and through things that were written earlier, which then
    # go. If not, targets behind a wall that is seen are refused.
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
    """A generator that writes houses, and continues photographs of rooms.

    1. Read the facts: of given views from their pixels, of generated views from their codes.
    2. Join them: given views first, then the oldest (`join`).
    3. Draw what is missing (`complete`), build the plan, and render the targets.
    4. Lay what the context shows over it, and blend the seam.

    Yields what the context shows, the rendered plan, and the two together. Where the context shows
    no room, it yields what `Warp` makes instead of the last two, with a note that says so.
    """

    config: WriterConfig = field(default_factory=WriterConfig)

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """Errors: ValueError for an empty context or one without depth, and for a target inside a wall
        or a thing that the context shows."""
        check_context(context)
        targets = checked_targets(targets)
        height, width = context.image.shape[2:]
        shown = _shown(context, targets)
        yield shown
        # Facts and plans are made on the CPU; pictures on the device of the context.
        device, seen, places = context.image.device, context.to("cpu"), targets.to("cpu")
        reading = _read(seen, places)
        if reading is None:
            yield from _without_room(context, targets, rng)
            return
        draft = self._drafted(reading, rng)
        cameras = in_frame(places, draft.frame_from_world)
        known = seen.replace(cameras=in_frame(seen.cameras, draft.frame_from_world))
        _check_open(draft.plan, cameras, places)
        samples = self.config.samples
        rendered = _rendered(draft.plan, known, cameras, height, width, samples, device)
        age, views = draft.facts.age + 1, rendered.to("cpu")
        codes = torch.stack(
            [
                encode(facts_in_view(draft.plan, views[i : i + 1], draft.facts, age))
                for i in range(len(targets))
            ]
        ).to(device)
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
        """What the context says, and the plan that is written from it.

        Errors: ValueError as for a call, and where the context shows no room.
        """
        check_context(context)
        reading = _read(context.to("cpu"), targets.to("cpu"))
        if reading is None:
            raise ValueError(f"{NO_ROOM}: give it views of a room, with a floor and walls")
        return self._drafted(reading, rng)

    def _drafted(self, reading: _Reading, rng: torch.Generator) -> Draft:
        """The plan that is written from the reading.

        What was written last is dropped first where a target stands in what was written earlier.
        """
        seed, remembered = seed_from(rng), reading.remembered
        turn, floor = frame_numbers(reading.frame_from_world)
        age = max((facts.age for facts in remembered), default=0)
        least = 0 if self.config.gives_way else len(remembered)
        for count in range(len(remembered), least - 1, -1):
            facts = join([*reading.seen, *remembered[:count]])
            facts = replace(facts, turn=turn, floor=floor, age=age)
            plan = complete(facts, reading.places, reading.evidence, stream(seed))
            if bool(build(plan).in_the_open(reading.targets).all()):
                break
        if not self.config.gives_way:
            _check_way(reading, facts)
        return Draft(facts, plan, reading.frame_from_world)


@dataclass(frozen=True)
class _Reading:
    """What a context says, in the frame of the walls."""

    seen: list[Facts]  # of the views that were read from their pixels, at most one
    remembered: list[Facts]  # of the others, the oldest first
    evidence: Evidence
    places: Array  # [n 3] of all cameras
    targets: Float[Tensor, "m 3"]  # places of the targets
    frame_from_world: Float[Tensor, "4 4"]


def _read(context: Views, targets: Cameras) -> _Reading | None:
    """The facts of the context; None if it shows no room.

    What remembered views say comes first in time, so a walk that began in a room stays in it. Views
    without facts are read from their pixels: given ones, if there are any.
    """
    carried = read_facts(context)
    remembered = sorted((facts for facts in carried if facts), key=lambda facts: facts.age)
    # Numbers of another frame mean other places. As in every contradiction, the older facts win.
    remembered = [facts for facts in remembered if _same_frame(facts, remembered[0])]
    unread = torch.tensor([facts is None for facts in carried]) & ~_says_no_room(context)
    unread &= context.given.cpu() | (not bool(context.given.any()))
    if not remembered and not unread.any():
        return None
    frame = frame_of(remembered[0]) if remembered else None
    views = context[unread]
    room, seen = None, []
    if len(views):
        sight = _sight(_Pixels(views, frame))
        if sight is None:
            return None
        frame, room, seen = sight.frame_from_world, sight.photographed, [sight.facts]
    evidence = gather(context, frame)
    if room is not None:
        evidence = snap_to_planes(evidence, room)
    places, positions = _places(context, targets, frame), in_frame(targets, frame).position
    return _Reading(seen, remembered, evidence, places, positions, frame)


@dataclass(frozen=True)
class _Sight:
    """What the pixels of views show."""

    facts: Facts
    photographed: RoomFacts | None  # the room, where it is none of our houses
    frame_from_world: Float[Tensor, "4 4"]


class _Pixels:
    """Views, and the frame to read them in (None: one that they show). Equal if all numbers are."""

    def __init__(self, views: Views, frame_from_world: Float[Tensor, "4 4"] | None) -> None:
        self.views, self.frame_from_world = views, frame_from_world
        values = [views.image, views.depth, views.cameras.world_from_cam, views.cameras.K]
        values += [] if frame_from_world is None else [frame_from_world]
        digest = hashlib.sha256(str([value.shape for value in values]).encode())
        for value in values:
            digest.update(value.detach().cpu().numpy().tobytes())
        self.digest = digest.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pixels) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@functools.lru_cache(maxsize=8)  # most steps of a walk from one view read that view again
def _sight(pixels: _Pixels) -> _Sight | None:
    """What the views show; None if that is no room."""
    views, given_frame = pixels.views, pixels.frame_from_world
    frame = find_frame(views) if given_frame is None else given_frame
    samples = gather(views, frame)
    own_places = in_frame(views.cameras, frame).position.double().numpy()
    facts = None if shows_grey(views.image) else perceive(samples, own_places)
    room = None
    if facts is None or all(room.palette is None for room in facts.rooms):
        photo_frame = find_photo_frame(views) if given_frame is None else given_frame
        room = find_photo_room(views, photo_frame)
        if room is not None:
            frame, facts = photo_frame, Facts((room,))
        elif given_frame is None and not may_be_room(samples, facts.rooms if facts else ()):
            return None
    turn, floor = frame_numbers(frame)
    facts = facts or Facts()
    return _Sight(Facts(facts.rooms, facts.doors, turn, floor), room, frame)


def _same_frame(a: Facts, b: Facts) -> bool:
    return (a.turn, a.floor) == (b.turn, b.floor)


def _check_way(reading: _Reading, facts: Facts) -> None:
    """Errors: ValueError if a wall stands between a target and the camera of the context next to it."""
    m = len(reading.targets)
    targets, known = reading.places[:m], reading.places[m:]
    for i, target in enumerate(targets):
        start = known[np.linalg.norm(known - target, axis=1).argmin()]
        if is_blocked(facts, tuple(start.tolist()), tuple(target.tolist()), reading.evidence):
            raise ValueError(f"a wall is in the way to target {i}: turn, or go through a doorway")


def _places(context: Views, targets: Cameras, frame: Float[Tensor, "4 4"]) -> Array:
    """The places of all cameras, in the frame."""
    cameras = torch.cat([in_frame(c, frame).position for c in (targets, context.cameras)])
    return cameras.double().numpy()


def _says_no_room(context: Views) -> Bool[Tensor, " k"]:
    """Which views continue views in which no room was found."""
    if context.embedding is None:
        return torch.zeros(len(context), dtype=torch.bool)
    return torch.tensor([says_no_room(code) for code in context.embedding.cpu()])


def _without_room(context: Views, targets: Cameras, rng: torch.Generator) -> Iterator[Generation]:
    """Warp's states, which say that no room was found."""
    codes = no_room_code().to(targets.device).expand(len(targets), -1)
    for state in Warp()(context, targets, rng):
        yield state.replace(embedding=codes, note=f"{NO_ROOM}, so Warp continues them")


def _shown(context: Views, targets: Cameras) -> Generation:
    """What the context shows of the targets, as `Warp` has it."""
    context = context.replace(confidence=confidence_of(context), latent=None, embedding=None)
    context, sky = with_far_sky(context)
    config = WarpConfig()
    views, evidence = one_by_one(context), context[context.given]
    height, width = context.image.shape[2:]
    discs = cat([context_discs(view, evidence, config) for view in views])
    shown = splat_context(views, discs, targets, height, width, config)
    return shown.replace(depth=sky_again(shown.depth, sky))


def _check_open(plan: Plan, cameras: Cameras, targets: Cameras) -> None:
    """Errors: ValueError for the first target that is inside a wall or a thing of the plan.

    `cameras` are the targets in the plan's frame.
    """
    blocked = ~build(plan).in_the_open(cameras.position)
    if blocked.any():
        i = int(blocked.nonzero()[0, 0])
        place = ", ".join(f"{x:.2f}" for x in targets.position[i].tolist())
        raise ValueError(
            f"target {i} at ({place}) is inside a wall, a ceiling, a floor or a thing that the context "
            "shows: make the move shorter, go another way, or use Warp(), which knows no walls"
        )


def _rendered(
    plan: Plan,
    context: Views,
    cameras: Cameras,
    height: int,
    width: int,
    samples: int,
    device: torch.device,
) -> Views:
    """The plan from the cameras, both in the frame of the walls, rendered on the device; photographed
    rooms with the surfaces that the context shows, and grey ones in grey."""
    tiles = find_tiles(plan, context)
    house = with_flat_floors(plan, tiles).to(device)
    views = house.render(cameras.to(device), height, width, samples)
    if tiles:
        views = views.replace(image=lay(views.to("cpu"), tiles).to(device))
    return to_grey_views(views) if all(is_grey(room.palette) for room in plan.rooms) else views


def read_facts(views: Views) -> list[Facts | None]:
    """The facts that each view carries; None for given views, whose pixels must be read."""
    if views.embedding is None:
        return [None] * len(views)
    return [decode(code) for code in views.embedding.cpu()]
