"""Writing: from views with depth to surfels and sightings in a memory."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import (
    CODES,
    Cameras,
    PointMaps,
    Surfels,
    Views,
    boxes_of,
    check,
    finite,
    plain,
    seen_through,
    surfels_from_points,
    thin,
)
from vmemkit.core.kernels import RUN, backend
from vmemkit.memory.association import by_projection, by_radius, released_distance
from vmemkit.memory.memory import Ends, Memory, MemoryConfig, check_codes
from vmemkit.memory.rows import Rows
from vmemkit.memory.sightings import Sightings, last_seen, pack
from vmemkit.memory.spill import Spill
from vmemkit.memory.voxels import Voxels

SPARE = 8  # a full memory forgets an eighth of its budget more than it must


def begin(views: Views, config: MemoryConfig | None = None, spill: Spill | None = None) -> Memory:
    """A memory that holds the given views, whose depth must be known; `spill` as in `empty`.

    Errors: ValueError for views without depth, and as `write`.
    """
    if views.depth is None:
        raise ValueError(
            "the first views need depth: render them from a scene, load it with "
            "vmemkit.views.load_depth, or estimate it with a reconstructor"
        )
    views, empty = plain(views), Memory.empty(config, views.device, spill)
    return write(empty, views, PointMaps.from_depth(views.cameras, views.depth, views.confidence))


def write(memory: Memory, views: Views, maps: PointMaps, state: object = None) -> Memory:
    """The memory with `views` and the surfels of their point maps appended, one view at a time.

    `state` is what the reconstructor that made the maps wants to go on from (`Memory.state`).

    The views' own depth is replaced by that of the point maps, of the same height and width. Where a
    generated view has geometry that a given view of the memory looks through, it is forgotten (NaN):
    guesses do not stand in front of evidence.
    Errors: ValueError for bad poses, images, depths or shapes; `memory` stays as it was.
    """
    views, maps = plain(views), plain(maps)
    _check(memory, views, maps)
    maps = _without_contradictions(memory, views, maps)
    views = views.replace(depth=maps.depth, confidence=maps.confidence)
    coarse, images = thin(maps, views.image, memory.config.surfels)
    for i in range(len(views)):
        memory = _within_budget(_write_one(memory, views[i : i + 1], coarse[i], images[i]))
    if state is None:
        return memory
    unknown = (None,) * (len(memory) - 1 - len(memory._states))
    return dataclasses.replace(memory, _states=(*memory._states, *unknown, state))


def forget(memory: Memory, surfels: Bool[Tensor, " n"]) -> Memory:
    """The memory without the surfels of a mask and their sightings; the views stay.

    Later surfels are renumbered, so undo goes back from here: `truncate` of what is returned gives
    earlier views without the forgotten surfels. Values from before are what they were.
    Errors: ValueError unless there is a flag for each surfel.
    """
    count, got = len(memory._surfels), f"{surfels.dtype} {list(surfels.shape)}"
    if surfels.dtype != torch.bool or surfels.shape != (count,):
        raise ValueError(f"forget needs a flag for each of {count} surfels, got {got}")
    kept = ~surfels
    number = torch.nn.functional.pad(kept.cumsum(0), (1, 0))  # how many are kept before each
    old, held = memory.sightings, memory.surfels[kept]
    known = kept[old.surfel.long()]
    sightings = Sightings(number[old.surfel[known].long()].int(), old.view[known])
    counted = torch.nn.functional.pad(known.cumsum(0), (1, 0))
    return dataclasses.replace(
        memory,
        _surfels=Rows.of(held),
        _marks=Rows.of(pack(sightings)),
        _ends=Rows.of(Ends(number[memory.ends.surfels], counted[memory.ends.sightings])),
        _boxes=Rows.of(boxes_of(held.position, held.radius)),
        _voxels=None,
    )


def _within_budget(memory: Memory) -> Memory:
    """The memory, with those surfels forgotten that have gone unseen for the most views (of equals
    the older ones) if there are more than the budget; a little more, so that it is done rarely."""
    total, budget = len(memory._surfels), memory.config.budget
    if budget is None or total <= budget:
        return memory
    last = last_seen(memory.marks, total)
    surplus = total - budget + budget // SPARE
    gone = torch.zeros(total, dtype=torch.bool, device=memory.device)
    gone[torch.argsort(last, stable=True)[:surplus]] = True
    return forget(memory, gone)


def _without_contradictions(memory: Memory, views: Views, maps: PointMaps) -> PointMaps:
    """The point maps with NaN where a generated view contradicts a given one of the memory."""
    margin = memory.config.association.empty
    made, given = ~views.given, memory.views.given
    if margin >= 1 or not made.any() or not given.any():
        return maps
    guessed = maps.depth.isfinite() & made[:, None, None]
    wrong, points = torch.zeros_like(guessed), maps.points[guessed]
    through = torch.zeros(len(points), dtype=torch.bool, device=memory.device)
    for view in given.nonzero()[:, 0].tolist():  # one by one: none of them is copied
        through |= seen_through(memory.views[view : view + 1], points, margin)
    wrong[guessed] = through
    return maps.replace(
        points=torch.where(wrong[..., None], torch.nan, maps.points),
        depth=torch.where(wrong, torch.nan, maps.depth),
    )


def _write_one(
    memory: Memory, view: Views, maps: PointMaps, image: Float[Tensor, "3 h w"]
) -> Memory:
    new, pixel = surfels_from_points(maps, view.cameras[0], image, memory.config.surfels)
    seen, fresh, voxels = _associate(memory, new, pixel, maps, view.cameras)
    born, count = new[fresh], len(memory._surfels)
    ids = torch.arange(count, count + len(born), device=memory.device)
    surfel = torch.cat([seen, ids])
    surfels = memory._surfels.append(born)
    unboxed = surfels.value[len(memory._boxes) * RUN :]
    marks = memory._marks.append(pack(Sightings(surfel, torch.full_like(surfel, len(memory)))))
    sightings = memory._counts(len(memory))[1] + len(surfel)
    ends = Ends(*torch.tensor([[len(surfels)], [sightings]], device=memory.device))
    return dataclasses.replace(
        memory,
        _views=_with_view(memory._views, view),
        _surfels=surfels,
        _marks=marks,
        _ends=memory._ends.append(ends),
        _voxels=voxels and voxels.extended(surfels.value.position),
        _boxes=memory._boxes.append(boxes_of(unboxed.position, unboxed.radius)),
    )


def _with_view(rows: Rows[Views], view: Views) -> Rows[Views]:
    """The rows with one more. Codes may be missing on either side, and those of another shape are
    another network's: such columns start anew, unknown (NaN) for the views before."""
    old, old_codes, new_codes = rows.value, {}, {}
    for name in CODES:
        had, has = getattr(old, name), getattr(view, name)
        if has is None and had is not None:
            new_codes[name] = had.new_full((1, *had.shape[1:]), torch.nan)
        elif has is not None and (had is None or had.shape[1:] != has.shape[1:]):
            missing = has.new_full((1, *has.shape[1:]), torch.nan)
            old_codes[name] = missing.expand(len(old), *has.shape[1:])
    if old_codes and len(old):
        rows = rows.replaced(old.replace(**old_codes))
    return rows.append(view.replace(**new_codes) if new_codes else view)


def _associate(
    memory: Memory, new: Surfels, pixel: Int[Tensor, " n"], maps: PointMaps, camera: Cameras
) -> tuple[Tensor, Tensor, Voxels | None]:
    """What association says of the new surfels, and the voxels of the old ones, if it takes any."""
    config, old = memory.config.association, memory.surfels
    if config.method == "projective":
        grid = (maps.depth.shape[0], maps.depth.shape[1])
        work = new, pixel, grid, camera, old, config, memory.boxes
        return *by_projection(*work), None
    distance, voxels = released_distance(new.radius, old.radius), memory._voxels
    if backend(memory.device) != "numba":
        voxels = None
    elif voxels is None or not voxels.serves(distance):
        voxels = Voxels.of(old.position, distance)
    return *by_radius(new, old, distance, config.normal_cosine, voxels), voxels


def _check(memory: Memory, views: Views, maps: PointMaps) -> None:
    check(views.cameras)
    if views.image.ndim != 4 or len(views.image) == 0 or min(views.image.shape[2:]) < 2:
        raise ValueError(f"write needs views of at least 2 x 2 pixels, got {views}")
    (t, _, h, w), held = views.image.shape, tuple(memory.views.image.shape[2:])
    # Floating point is float32 by now, see `plain`.
    for name, tensor, shape in (
        ("images", views.image, (t, 3, h, w)),
        ("camera poses", views.cameras.world_from_cam, (t, 4, 4)),
        ("flags (given)", views.given, (t,)),
        ("point maps", maps.depth, (t, h, w)),
        ("points", maps.points, (t, h, w, 3)),
        ("confidence", maps.confidence, (t, h, w)),
    ):
        kind = torch.bool if tensor is views.given else torch.float32
        if tensor.shape != shape or tensor.dtype != kind:
            raise ValueError(
                f"{name} must be {list(shape)} of {kind} for {t} views of {h} x {w} pixels, got "
                f"{list(tensor.shape)} of {tensor.dtype}"
            )
    check_codes(views)
    if len(memory) and (h, w) != held:
        raise ValueError(f"the memory holds views of {held} pixels, got {(h, w)}: resize them")
    if views.device != memory.device or maps.device != memory.device:
        raise ValueError(f"views and point maps must be on the memory's device {memory.device}")
    # Without masks and `isfinite`, which take as long as a write: NaN fails every comparison.
    if not (views.image.amin() >= 0 and views.image.amax() <= 1):
        raise ValueError("images must be finite and in [0, 1]")
    unknown = maps.depth != maps.depth
    if unknown.flatten(1).all(1).any():
        raise ValueError("a view without any finite depth cannot be remembered: estimate it first")
    depth = torch.where(unknown, 1.0, maps.depth)
    if not (depth.amin() > 0 and depth.amax() < torch.inf):
        raise ValueError("depth must be positive, or NaN where it is unknown")
    if not (finite(maps.points) | unknown).all() or (maps.confidence != maps.confidence).any():
        raise ValueError("points must be finite where depth is, and confidence must not be NaN")
