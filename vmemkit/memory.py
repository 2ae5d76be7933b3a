"""The memory: all views, all surfels, and the sightings that tie them together.

A `Memory` is a value. `write` returns a longer one, `truncate` a shorter one, and neither changes
the one it was called on: undo is truncation and a fork is just another name. Every table only grows
at its end (a surfel that is seen again gets a sighting, it is not moved), so values share storage
and a write costs what it writes: old surfels are looked up through bounding boxes of runs of
surfels, not one by one. Sightings are kept as bits (sightings.py), views on disk beyond a budget of
memory (spill.py), and `MemoryConfig.budget` limits the surfels.
Source: VMem, section 3.2; how new surfels meet old ones is in association.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.association import AssociationConfig, by_projection, by_radius, released_distance
from vmemkit.core import (
    CODES,
    Boxes,
    Cameras,
    PointMaps,
    Splat,
    SplatConfig,
    SurfelConfig,
    Surfels,
    TensorStruct,
    Views,
    boxes_of,
    check,
    check_rows,
    finite,
    plain,
    seen_through,
    splat,
    surfels_from_points,
    thin,
)
from vmemkit.core.kernels import RUN, backend
from vmemkit.sightings import Marks, Sightings, last_seen, pack, unpack
from vmemkit.spill import Spill
from vmemkit.structs import Rows
from vmemkit.voxels import Voxels

SPARE = 8  # a full memory forgets an eighth of its budget more than it must


@dataclass(frozen=True, repr=False)
class Ends(TensorStruct):
    """How many surfels and sightings there were after each view: where truncation cuts."""

    surfels: Int[Tensor, " t"]
    sightings: Int[Tensor, " t"]


@dataclass(frozen=True)
class MemoryConfig:
    surfels: SurfelConfig = field(default_factory=SurfelConfig)
    association: AssociationConfig = field(default_factory=AssociationConfig)
    budget: int | None = None  # most surfels to be held; None = no limit  # differs from VMem

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"the budget must be 1 surfel or more, or None, got {self.budget}")

    @classmethod
    def released(cls) -> MemoryConfig:
        return cls(SurfelConfig.released(), AssociationConfig.released())


@dataclass(frozen=True, repr=False)
class Memory:
    """Views, surfels and sightings. Make one with `Memory.empty()` or `begin(views)`."""

    config: MemoryConfig
    _views: Rows[Views]
    _surfels: Rows[Surfels]
    _marks: Rows[Marks]  # the sightings, packed
    _ends: Rows[Ends]
    _boxes: Rows[Boxes]
    _voxels: Voxels | None = None  # of the surfels' centres, once a radius search has needed it
    _states: tuple[object, ...] = ()  # of a reconstructor, after each view; shorter: unknown

    @classmethod
    def empty(
        cls,
        config: MemoryConfig | None = None,
        device: torch.device | str = "cpu",
        spill: Spill | None = None,
    ) -> Memory:
        """A memory without views; the first write fixes the size of its images. With `spill`, views
        that outgrow its budget are kept on disk."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        ids, image = zeros(0).int(), zeros(0, 0, 0)
        cameras = Cameras(zeros(0, 4, 4), zeros(0, 3, 3))
        return cls(
            config or MemoryConfig(),
            Rows.of(Views(cameras, zeros(0, 3, 0, 0), zeros(0).bool(), image, image), spill),
            Rows.of(Surfels(zeros(0, 3), zeros(0, 3), zeros(0), zeros(0, 3))),
            Rows.of(Marks(ids, ids, ids.long())),
            Rows.of(Ends(ids.long(), ids.long())),
            Rows.of(Boxes(zeros(0, 3), zeros(0, 3), zeros(0))),
        )

    @classmethod
    def from_tables(
        cls,
        views: Views,
        surfels: Surfels,
        sightings: Sightings,
        ends: Ends,
        config: MemoryConfig | None = None,
        spill: Spill | None = None,
    ) -> Memory:
        """A memory of existing tables. Errors: ValueError where they contradict each other."""
        for table in (views, surfels, sightings, ends):
            check_rows(table)
        for name, counts, total in (
            ("surfels", ends.surfels, len(surfels)),
            ("sightings", ends.sightings, len(sightings)),
        ):
            steps = torch.diff(counts, prepend=counts.new_zeros(1))
            # bounded first: steps of hostile counts could wrap round to look like rises
            fits = not ((counts < 0) | (counts > total) | (steps < 0)).any()
            if not fits or (int(counts[-1]) if len(counts) else 0) != total:
                raise ValueError(f"ends.{name} must rise to the {total} rows of its table")
        if len(ends) != len(views):
            raise ValueError(f"got ends of {len(ends)} views for {len(views)} views")
        view = torch.repeat_interleave(
            torch.arange(len(views), device=views.device),
            torch.diff(ends.sightings, prepend=ends.sightings.new_zeros(1)),
        )
        if not torch.equal(sightings.view.long(), view):
            raise ValueError("sightings must be ordered by view, as ends.sightings counts them")
        if ((sightings.surfel < 0) | (sightings.surfel >= ends.surfels[view])).any():
            raise ValueError(
                "a sighting names a surfel that did not exist when its view was written"
            )
        return cls(
            config or MemoryConfig(),
            Rows.of(views, spill),
            Rows.of(surfels),
            Rows.of(pack(sightings)),
            Rows.of(ends),
            Rows.of(boxes_of(surfels.position, surfels.radius)),
        )

    def to(self, device: torch.device | str) -> Memory:
        """The memory on another device; on a GPU nothing is kept on disk. `state` stays behind: what
        it is only its reconstructor knows, which goes through the views again."""
        tables = (self.views, self.surfels, self.sightings, self.ends)
        spill = self._views.spill if torch.device(device).type == "cpu" else None
        return Memory.from_tables(*(table.to(device) for table in tables), self.config, spill)

    @property
    def views(self) -> Views:
        return self._views.value

    @property
    def surfels(self) -> Surfels:
        return self._surfels.value

    @property
    def marks(self) -> Marks:
        """The sightings as they are kept: a bit each. sightings.py has the questions to them."""
        return self._marks.value

    @property
    def sightings(self) -> Sightings:
        """The sightings, unpacked: what this takes grows with their number."""
        return unpack(self.marks)

    @property
    def boxes(self) -> Boxes:
        """Bounds of the surfels, run by run."""
        return self._boxes.value

    @property
    def ends(self) -> Ends:
        return self._ends.value

    @property
    def device(self) -> torch.device:
        return self.surfels.device

    @property
    def state(self) -> object:
        """What the reconstructor that wrote the last view wants to go on from; None if nothing is
        known. It goes back and forks with the memory, and is not saved: a reconstructor that needs
        it goes through the views again."""
        return self._states[-1] if self._states and len(self._states) == len(self) else None

    def __len__(self) -> int:
        """Number of views."""
        return len(self._views)

    def __repr__(self) -> str:
        surfels, sightings = self._counts(len(self))
        return f"Memory(views={len(self)}, surfels={surfels}, sightings={sightings})"

    def truncate(self, views: int) -> Memory:
        """The memory as it was when it held its first `views` views: exact undo, in O(1).

        Errors: ValueError unless 0 <= views <= len(self).
        """
        if not 0 <= views <= len(self):
            raise ValueError(f"cannot truncate to {views} views: the memory holds {len(self)}")
        surfels, _ = self._counts(views)
        marks = int(torch.searchsorted(self.marks.view, views))
        return dataclasses.replace(
            self,
            _views=self._views.prefix(views),
            _surfels=self._surfels.prefix(surfels),
            _marks=self._marks.prefix(marks),
            _ends=self._ends.prefix(views),
            _boxes=self._boxes.prefix(surfels // RUN),
            _voxels=self._voxels and self._voxels.prefix(surfels),
            _states=self._states[:views],
        )

    def _counts(self, views: int) -> tuple[int, int]:
        """How many surfels and sightings the first `views` views left."""
        if views == 0:
            return 0, 0
        return int(self.ends.surfels[views - 1]), int(self.ends.sightings[views - 1])

    def with_codes(self, views: Views) -> Memory:
        """The same memory with the latents and embeddings of `views`, which are its own views as a
        generator's `encode` returned them. Errors: ValueError for another number of views, and for
        codes that are none."""
        if len(views) != len(self):
            raise ValueError(f"need codes of the memory's {len(self)} views, got {len(views)}")
        check_codes(views)
        codes = {name: getattr(views, name) for name in CODES}
        return dataclasses.replace(self, _views=self._views.replaced(self.views.replace(**codes)))

    def fork(self) -> Memory:
        """A branch that shares all that is remembered so far and grows on its own."""
        return self.truncate(len(self))


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


def read(
    memory: Memory, cameras: Cameras, height: int, width: int, config: SplatConfig | None = None
) -> Splat:
    """What cameras (m,) see of the memory, per pixel of a canvas: its surfels, splatted.

    Errors: ValueError for an empty canvas, no cameras, and bad ones on a CPU.
    """
    if cameras.device.type == "cpu":  # to look at a GPU's numbers is to wait for them
        check(cameras)
    return splat(memory.surfels, cameras, height, width, config, boxes=memory.boxes)


def check_codes(views: Views) -> None:
    """Errors: ValueError for latents and embeddings that are no float32 rows, one for each view, of
    finite numbers or NaN (missing)."""
    t = len(views.image)
    for name, axes in CODES.items():
        code = getattr(views, name)
        if code is None:
            continue
        if code.ndim != axes or len(code) != t or code.dtype != torch.float32:
            raise ValueError(
                f"{name} needs {axes} axes of float32, a row for each of {t} views, got {code.dtype} "
                f"{list(code.shape)}"
            )
        if code.device != views.image.device or code.isinf().any():
            raise ValueError(f"{name} must be finite, or NaN where missing, beside the images")


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
