"""Writing: from views with depth to surfels and sightings in a memory.

In: a memory and views. Out: a longer memory. Each view becomes surfels, and those that nothing in
memory explains are added. Sightings say which surfels the new view sees, and which older views see
the new surfels. A budget of surfels is kept by forgetting the ones that have gone unseen for longest.
Source: VMem, section 3.2.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import (
    CODES,
    Boxes,
    PointMaps,
    Surfels,
    Views,
    boxes_of,
    cat,
    check_cameras,
    depth_noise,
    far_depths,
    runs_in_sight,
    runs_to_test,
    seen_through,
    smoothed,
    surfels_from_points,
    thin,
    to_float32,
    with_confidence,
    with_sky,
)
from vmemkit.core.kernels import PATCH, RUN
from vmemkit.memory.association import by_projection, by_radius, released_distance
from vmemkit.memory.memory import Ends, Memory, MemoryConfig, Reach, check_codes, sky_in
from vmemkit.memory.rows import Rows
from vmemkit.memory.sightings import (
    PackedSightings,
    Sightings,
    last_seen,
    pack_ordered,
    pack_sightings,
    spans_of,
    surfels_of,
)
from vmemkit.memory.spill import Spill
from vmemkit.memory.visibility import sightings_by_depth

SPARE = 8  # a full memory forgets an eighth of its budget more than it must


def begin(views: Views, config: MemoryConfig | None = None, spill: Spill | None = None) -> Memory:
    """A memory that holds the given views, whose depth must be known; `spill` as in `empty`.

    Errors: ValueError as `write`.
    """
    _check_kind(views)
    return write(Memory.empty(config, views.device, spill), views)


def write(memory: Memory, views: Views, state: object = None) -> Memory:
    """The memory with views (t,) and the surfels of their depth appended, one view at a time.

    Without a confidence, every known depth is trusted. Surfels are made of smoothed depth where it is
    noisy (`SurfelConfig.noise`), and none of the sky (`core.with_sky`); the views keep their depth.
    `state` is what the reconstructor that made the depth wants to go on from (`Memory.state`). Where
    a generated view has depth that a given view of the memory looks through, that depth is dropped
    (NaN): a guess must not hide evidence.
    Errors: ValueError for bad poses, images, depths or shapes; `memory` stays as it was.
    """
    _check_kind(views)
    views = with_confidence(to_float32(views))
    _check(memory, views)
    views = views.replace(depth=with_sky(views.depth))
    metric = torch.where(views.depth.isinf(), torch.nan, views.depth)
    depth = _without_noise(metric, memory.config.surfels.noise)
    maps = PointMaps.from_depth(views.cameras, depth, views.confidence)
    return _with_points(memory, views, maps, state)


def _with_points(memory: Memory, views: Views, maps: PointMaps, state: object = None) -> Memory:
    """As `write`, of checked views and the points of their pixels."""
    maps = _without_contradictions(memory, views, maps)
    dropped = maps.depth.isnan() & ~views.depth.isinf()
    views = views.replace(depth=torch.where(dropped, torch.nan, views.depth))
    sky = sky_in(views.depth)
    coarse, images = thin(maps, views.image, memory.config.surfels)
    for i in range(len(views)):
        memory = _within_budget(
            _write_one(memory, views[i : i + 1], maps[i], coarse[i], images[i], sky[i : i + 1])
        )
    if state is None:
        return memory
    unknown = (None,) * (len(memory) - 1 - len(memory._states))
    return dataclasses.replace(memory, _states=(*memory._states, *unknown, state))


def _without_noise(depth: Float[Tensor, "t h w"], least: float) -> Float[Tensor, "t h w"]:
    """The depth of which surfels are made: smoothed where a view's noise is above `least`."""
    if least >= 1:
        return depth
    noise = depth_noise(depth)
    if not (noise > least).any():
        return depth
    pairs = zip(depth, noise.tolist(), strict=True)
    return torch.stack([smoothed(map_, share) if share > least else map_ for map_, share in pairs])


def forget(memory: Memory, surfels: Bool[Tensor, " n"]) -> Memory:
    """The memory without the surfels of a mask and their sightings; the views stay.

    Later surfels are renumbered. Truncating the result gives earlier views without these surfels;
    memories made before are unchanged.
    Errors: ValueError unless there is a flag for each surfel.
    """
    count, got = len(memory._surfels), f"{surfels.dtype} {list(surfels.shape)}"
    if surfels.dtype != torch.bool or surfels.shape != (count,):
        raise ValueError(f"forget needs a flag for each of {count} surfels, got {got}")
    stays = ~surfels
    new_ids = torch.nn.functional.pad(stays.cumsum(0), (1, 0))  # of each surfel that stays
    sightings, remaining = memory.sightings, memory.surfels[stays]
    valid = stays[sightings.surfel.long()]
    renumbered = Sightings(new_ids[sightings.surfel[valid].long()].int(), sightings.view[valid])
    ends = new_ids[memory.ends.to(memory.device)]
    packed, rows = pack_sightings(renumbered, ends)
    return dataclasses.replace(
        memory,
        _surfels=Rows.of(remaining),
        _sightings=Rows.of(packed),
        _ends=Rows.of(Ends(ends.cpu(), rows.cpu(), memory.shows_sky)),
        _boxes=Rows.of(boxes_of(remaining.position, remaining.radius)),
        _spans=Rows.of(spans_of(packed)),
    )


def _within_budget(memory: Memory) -> Memory:
    """The memory, cut down to its budget of surfels if it holds more.

    Those are forgotten that have gone unseen for the most views; of equals the older ones. A few
    more are forgotten than must be, so that it happens rarely.
    """
    total, budget = len(memory._surfels), memory.config.budget
    if budget is None or total <= budget:
        return memory
    last = last_seen(memory.packed_sightings, total)
    surplus = total - budget + budget // SPARE
    forgotten = torch.zeros(total, dtype=torch.bool, device=memory.device)
    forgotten[torch.argsort(last, stable=True)[:surplus]] = True
    return forget(memory, forgotten)


def _without_contradictions(memory: Memory, views: Views, maps: PointMaps) -> PointMaps:
    """The point maps with NaN where a generated view contradicts a given one of the memory."""
    margin, held = memory.config.association.empty, memory.views
    generated = ~views.given
    if margin >= 1 or len(memory) == 0 or not generated.any():
        return maps
    guessed = maps.depth.isfinite() & generated[:, None, None]
    pixel = _patch_by_patch(*guessed.shape).to(guessed.device)
    pixel = pixel[guessed.flatten()[pixel]]
    points = maps.points.reshape(-1, 3).index_select(0, pixel)
    if len(points) == 0:
        return maps
    around = Boxes(points.amin(0)[None], points.amax(0)[None], points.new_zeros(1))
    asked = held.given & runs_in_sight(around, held.cameras, 1.0, 0.0, math.inf)[:, 0]
    wrong = torch.zeros_like(guessed)
    wrong.view(-1)[pixel] = seen_through(held, points, margin, asked, memory._reach.value.far)
    return maps.replace(
        points=torch.where(wrong[..., None], torch.nan, maps.points),
        depth=torch.where(wrong, torch.nan, maps.depth),
    )


def _patch_by_patch(t: int, h: int, w: int) -> Int[Tensor, " p"]:
    """The pixels of t images, numbered row by row, in the order of patches of 16 x 16: runs of 256
    are then close together."""
    numbers = torch.arange(t * h * w).view(t, h, w)
    padded = torch.nn.functional.pad(numbers, (0, -w % PATCH, 0, -h % PATCH), value=-1)
    patches = padded.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten()
    return patches[patches >= 0]


def _write_one(
    memory: Memory,
    view: Views,
    whole: PointMaps,
    maps: PointMaps,
    image: Float[Tensor, "3 h w"],
    sky: Bool[Tensor, " 1"],
) -> Memory:
    """The memory with one more view (1,). `maps` and `image` are on the surfel grid, `whole` are the
    point maps before thinning. `sky` says whether the view shows any; on the CPU."""
    new, pixel = surfels_from_points(maps, view.cameras[0], image, memory.config.surfels, whole)
    count, projective = len(memory._surfels), memory.config.association.method == "projective"
    if projective:
        old_ids, added = _seen(memory, view), new[_unexplained(memory, new, pixel, maps, view)]
    else:
        old_ids, unexplained = _by_radius(memory, new)
        added = new[unexplained]
    surfels = memory._surfels.append(added)
    seen_ids = torch.cat([old_ids, torch.arange(count, len(surfels), device=memory.device)])
    block = pack_ordered(seen_ids, torch.full_like(seen_ids, len(memory)))
    if projective and len(memory):
        block = cat([_seen_before(memory, surfels.value), block])
    sightings = memory._sightings.append(block)
    ends = Ends(torch.tensor([len(surfels)]), torch.tensor([len(sightings)]), sky)
    unboxed = surfels.value[len(memory._boxes) * RUN :]
    return dataclasses.replace(
        memory,
        _views=_with_view(memory._views, view),
        _surfels=surfels,
        _sightings=sightings,
        _ends=memory._ends.append(ends),
        _boxes=memory._boxes.append(boxes_of(unboxed.position, unboxed.radius)),
        _spans=memory._spans.append(spans_of(sightings.value[len(memory._spans) * RUN :])),
        _reach=memory._reach.append(Reach(far_depths(view.depth))),
    )


def _with_view(rows: Rows[Views], view: Views) -> Rows[Views]:
    """The rows with one more view (1,).

    Codes may be missing on either side. Codes of another shape come from another network. Such
    columns start anew, unknown (NaN) for the views before.
    """
    old, old_codes, new_codes = rows.value, {}, {}
    for name in CODES:
        old_code, code = getattr(old, name), getattr(view, name)
        if code is None and old_code is not None:
            new_codes[name] = old_code.new_full((1, *old_code.shape[1:]), torch.nan)
        elif code is not None and (old_code is None or old_code.shape[1:] != code.shape[1:]):
            missing = code.new_full((1, *code.shape[1:]), torch.nan)
            old_codes[name] = missing.expand(len(old), *code.shape[1:])
    if old_codes and len(old):
        rows = rows.replaced(old.replace(**old_codes))
    return rows.append(view.replace(**new_codes) if new_codes else view)


def _unexplained(
    memory: Memory, new: Surfels, pixel: Int[Tensor, " n"], maps: PointMaps, view: Views
) -> Bool[Tensor, " n"]:
    """Which surfels of a view (1,) nothing in the memory explains, by projection."""
    config, grid = memory.config.association, (maps.depth.shape[0], maps.depth.shape[1])
    return by_projection(new, pixel, grid, view.cameras, memory.surfels, config, memory.boxes)


def _by_radius(memory: Memory, new: Surfels) -> tuple[Int[Tensor, " s"], Bool[Tensor, " n"]]:
    """(old surfels that a view sees, mask of its surfels that are new), by the paper's rule."""
    distance = released_distance(new.radius, memory.surfels.radius)
    return by_radius(new, memory.surfels, distance, memory.config.association.normal_cosine)


def _seen(memory: Memory, view: Views) -> Int[Tensor, " s"]:
    """The surfels of the memory that a new view (1,) sees, ascending."""
    inside = runs_in_sight(memory.boxes, view.cameras, 0.0, 0.0, math.inf)[0]
    runs = runs_to_test(inside, len(memory.surfels))
    return surfels_of(sightings_by_depth(memory.surfels, runs, 0, view, memory.config), 0)


def _seen_before(memory: Memory, surfels: Surfels) -> PackedSightings:
    """Which views of the memory see the last of these surfels, which are not in it yet."""
    count = len(memory._surfels)
    runs = torch.arange(count // RUN, -(-len(surfels) // RUN), device=memory.device)
    return sightings_by_depth(
        surfels, runs, count, memory.views, memory.config, memory._reach.value.far
    )


def _check_kind(views: object) -> None:
    if not isinstance(views, Views):
        kind = type(views).__name__
        raise ValueError(f"a memory is made of Views, such as core.views makes, got a {kind}")


def _check(memory: Memory, views: Views) -> None:
    check_cameras(views.cameras)
    if views.image.ndim != 4 or len(views.image) == 0 or min(views.image.shape[2:]) < 2:
        raise ValueError(f"write needs views of at least 2 x 2 pixels, got {views}")
    (t, _, h, w), size = views.image.shape, tuple(memory.views.image.shape[2:])
    device = memory.device
    for name, tensor, shape, kind in (
        ("images", views.image, (t, 3, h, w), torch.float32),
        ("camera poses", views.cameras.world_from_cam, (t, 4, 4), torch.float32),
        ("flags (given)", views.given, (t,), torch.bool),
        ("depth", views.depth, (t, h, w), torch.float32),
        ("confidence", views.confidence, (t, h, w), torch.float32),
    ):
        if tensor.shape != shape or tensor.dtype != kind:
            raise ValueError(
                f"{name} must be {list(shape)} of {kind} for {t} views of {h} x {w} pixels, got "
                f"{list(tensor.shape)} of {tensor.dtype}"
            )
        if tensor.device != device:
            raise ValueError(f"{name} must be on the memory's device {device}")
    check_codes(views)
    if len(memory) and (h, w) != size:
        raise ValueError(f"the memory holds views of {size} pixels, got {(h, w)}: resize them")
    # Masks and `isfinite` would take as long as a write. NaN fails every comparison. The answers
    # come in one copy, because a GPU waits for each.
    unknown = views.depth != views.depth
    known = torch.where(unknown, 1.0, views.depth)
    darkest, brightest, nearest, blind, trust = torch.stack(
        [
            *views.image.aminmax(),
            known.amin(),
            unknown.flatten(1).all(1).any(),
            views.confidence.amin(),
        ]
    ).tolist()
    if not (darkest >= 0 and brightest <= 1):
        raise ValueError("images must be finite and in [0, 1]")
    if blind:
        raise ValueError("a view without any known depth cannot be remembered: estimate it first")
    if not nearest > 0:
        raise ValueError(
            "depth must be positive, NaN where it is unknown, or infinite where nothing is met"
        )
    if trust != trust:
        raise ValueError("confidence must not be NaN: use 0 for no trust")
