"""Protocols: what a walk is given, where it goes, and which of its frames are compared.

In: a `Route`, the cameras of a recording or of a tour through a house. Out: a `Course`. A protocol is a
value, so the same one runs with any retriever, generator and scene. Those of other benchmarks follow
their papers as far as a route allows; each says what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.core import Cameras, cat
from vmemkit.scenes import Capture, Rooms, single_tour

AGAIN = 6  # frames of the way out that `leave_and_return` repeats at its end
SHORT_FRAME = 50  # VMem's near measurement is at this frame of a video
STRIDE = 10  # frames of a video between two views


@dataclass(frozen=True, repr=False)
class Route:
    """A way through a scene, from which protocols make their courses."""

    out: Cameras  # (t,) in order; the views of all are known
    back: Cameras | None  # (b,) from the end to the beginning by other poses; None if not recorded
    stride: int = STRIDE  # frames of the video from one camera of `out` to the next


@dataclass(frozen=True, repr=False)
class Course:
    """A walk to take, and the frames to judge it by. Frames are rows of `path`."""

    given: Cameras  # (g,) whose true views the memory begins with
    path: Cameras  # (n,) to be generated, in order
    truth: Int[Tensor, " p"]  # frames to compare with the scene
    pairs: Int[Tensor, "q 2"]  # frames to compare with each other
    weights: Float[Tensor, " q"]  # how much each pair counts; their sum is 1
    judged: slice  # frames for which the choice of context is judged

    def __repr__(self) -> str:
        return (
            f"Course({len(self.given)} given, {len(self.path)} frames, {len(self.truth)} compared "
            f"with the truth, {len(self.pairs)} pairs)"
        )


@dataclass(frozen=True)
class Protocol:
    """A way to ask whether a walk remembers."""

    name: str
    about: str  # says what is done and what is compared
    source: str
    differs: str  # says how it differs from the source
    course: Callable[[Route], Course]


def house_route(house: Rooms, seed: int = 0, fov: float = 75.0, aspect: float = 4 / 3) -> Route:
    """The route of `single_tour`: a look aside, through the doorways, and back by other poses.

    Its views are 0.35 metres apart, which are ten frames of a video at a walking pace.
    """
    tour = single_tour(house, seed, fov, aspect)
    out = cat([tour.given, tour.cameras[: tour.back.start]])
    return Route(out, tour.cameras[tour.back])


def recorded_route(capture: Capture, stride: int = STRIDE) -> Route:
    """The cameras of a recording at every `stride`-th of its frames.

    Errors: ValueError for a stride below 1 and for fewer than four cameras.
    """
    if stride < 1:
        raise ValueError(f"the stride must be 1 or more frames, got {stride}")
    out = capture.views.cameras[::stride]
    if len(out) < 4:
        raise ValueError(
            f"a route needs 4 cameras or more; {len(capture.views.cameras)} frames at a stride of {stride} "
            f"have {len(out)}: choose a smaller stride"
        )
    return Route(out, None, stride)


def chosen_clips(names: Iterable[str], count: int) -> list[str]:
    """The same clips for everybody who has the data: those with the smallest SHA-256 of their names.

    A larger count only adds clips. Errors: ValueError for fewer names than that, or a count below 1.
    """
    known = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if not 1 <= count <= len(known):
        raise ValueError(f"{count} clips are asked for, and there are {len(known)}")
    return known[:count]


# ---- the protocols -------------------------------------------------------------------------------


def leave_and_return(route: Route) -> Course:
    """Out, back by other poses, and the first frames again.

    A recording without a way back goes out by its even frames and back by its odd ones.
    """
    out, back = route.out, route.back
    if back is None:
        out, back = out[::2], _reversed(out[1::2])
    again = out[1 : 1 + AGAIN]
    path = cat([out[1:], back, again])
    turn, first = len(out) - 1, len(path) - len(again)
    pairs = [(first + i, i) for i in range(len(again))]
    return _course(out[:1], path, range(turn, len(path)), pairs, slice(turn, first))


def cycle(route: Route) -> Course:
    """Out, and back by the same poses; the way back is compared with the scene and the way out."""
    ahead, home = route.out[1:], _reversed(route.out[:-1])
    path, turn = cat([ahead, home]), len(ahead)
    pairs = [(turn + i, turn - 2 - i) for i in range(turn - 1)]
    return _course(route.out[:1], path, range(turn, len(path)), pairs, slice(turn, len(path)))


def short(route: Route) -> Course:
    """The frame number SHORT_FRAME of the video is compared with the scene, or the last before it."""
    last = min(max(1, SHORT_FRAME // route.stride), len(route.out) - 1)
    return _course(route.out[:1], route.out[1 : last + 1], [last - 1], [], slice(0, last))


def long(route: Route) -> Course:
    """The last frame is compared with the scene."""
    path = route.out[1:]
    return _course(route.out[:1], path, [len(path) - 1], [], slice(0, len(path)))


def mirror(route: Route) -> Course:
    """Out and back by the same poses; each frame of the way back is compared with its first visit."""
    ahead = route.out[1:]
    path, n = cat([ahead, _reversed(ahead)]), 2 * len(ahead)
    return _course(route.out[:1], path, [], _mirrored(n), slice(n // 2, n))


def symmetry(route: Route) -> Course:
    """As `mirror`; a frame counts in proportion to its distance from the turning point."""
    course = mirror(route)
    weights = (len(course.path) - 1) / 2 - course.pairs[:, 1]
    return replace(course, weights=weights / weights.sum())


def mark(route: Route) -> Course:
    """The first half is given; the second half is generated and compared with the scene."""
    half = len(route.out) // 2
    return _against_scene(route.out[:half], route.out[half:])


def aba(route: Route) -> Course:
    """The way from A to B is given; the same way back is generated and compared with the scene."""
    return _against_scene(route.out, _reversed(route.out[:-1]))


def abca(route: Route) -> Course:
    """The way from A by B to C is given; another way from C to A is generated and compared.

    Of a recording without a way back, the last third is taken for it.
    """
    third = 2 * len(route.out) // 3
    if route.back is None:
        return _against_scene(route.out[:third], route.out[third:])
    return _against_scene(route.out, route.back)


def _against_scene(given: Cameras, path: Cameras) -> Course:
    return _course(given, path, range(len(path)), [], slice(0, len(path)))


def _reversed(cameras: Cameras) -> Cameras:
    return cameras[torch.arange(len(cameras) - 1, -1, -1)]


def _mirrored(n: int) -> list[tuple[int, int]]:
    return [(n - 1 - i, i) for i in range(n // 2)]


def _course(
    given: Cameras,
    path: Cameras,
    truth: Iterable[int],
    pairs: Sequence[tuple[int, int]],
    judged: slice,
) -> Course:
    weights = torch.full((len(pairs),), 1 / max(1, len(pairs)))
    at = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return Course(given, path, torch.tensor(list(truth), dtype=torch.long), at, weights, judged)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "leave_and_return",
            "out, back by other poses, and the first frames again; the way back against the scene",
            "ours; that scores of replay and of return disagree is from Echo-Memory",
            "nothing. A recording goes out by its even frames and back by its odd ones",
            leave_and_return,
        ),
        Protocol(
            "cycle",
            "out and back by the same poses; the way back against the scene",
            "VMem (Li et al., ICCV 2025), section 4.2: every 10th frame",
            "only views at the route's stride are generated, and each of them counts",
            cycle,
        ),
        Protocol(
            "short",
            "the 50th frame of a way out against the scene",
            "VMem, section 4.1",
            "frames are generated at the route's stride; a route of fewer frames uses its last",
            short,
        ),
        Protocol(
            "long",
            "the last frame of a way out against the scene",
            "VMem, section 4.1",
            "frames are generated at the route's stride",
            long,
        ),
        Protocol(
            "mirror",
            "out and back by the same poses; the way back against the way out",
            "MIND (Ye et al., 2026), generated scene consistency",
            "poses instead of actions; SSIM and PSNR instead of the squared error",
            mirror,
        ),
        Protocol(
            "symmetry",
            "as mirror, with weights that grow with the distance from the turning point",
            "iWorld-Bench (Fang et al., 2026), memory",
            "poses instead of actions; the weights are linear",
            symmetry,
        ),
        Protocol(
            "mark",
            "the first half is given, the second half against the scene",
            "MIND (Ye et al., 2026), long context memory",
            "poses instead of actions; SSIM and PSNR instead of the squared error",
            mark,
        ),
        Protocol(
            "aba",
            "the way out is given, the same way back against the scene",
            "LoopNav (Lian et al., 2025), A to B to A",
            "rooms or recordings instead of Minecraft; no scene graphs",
            aba,
        ),
        Protocol(
            "abca",
            "the way out is given, another way back against the scene",
            "LoopNav (Lian et al., 2025), A to B to C to A",
            "rooms or recordings instead of Minecraft; no scene graphs",
            abca,
        ),
    )
}
