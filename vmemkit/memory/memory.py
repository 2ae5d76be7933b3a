"""The memory: all views, all surfels, and the sightings that tie them together.

A `Memory` is a value. `write` returns a longer one, `truncate` a shorter one, and neither changes
the one it was called on: undo is truncation. Tables only grow at their end, so values share storage,
and a write costs what it writes: bounding boxes of runs tell which old surfels matter.
Sightings are stored as bits (sightings.py). `Spill.max_bytes` limits the views in RAM, and further
ones go to disk (spill.py). `MemoryConfig.budget` limits the surfels. Source: VMem, section 3.2.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core import (
    CODES,
    Boxes,
    Cameras,
    Splat,
    SplatConfig,
    SurfelConfig,
    Surfels,
    TensorStruct,
    Views,
    boxes_of,
    check_cameras,
    check_equal_lengths,
    check_surfels,
    dot,
    far_depths,
    footprint,
    grid_focal,
    grid_size,
    splat,
)
from vmemkit.core.kernels import ROUNDING, RUN
from vmemkit.memory.association import AssociationConfig
from vmemkit.memory.rows import Rows
from vmemkit.memory.sightings import (
    PackedSightings,
    Sightings,
    Spans,
    counts_per_row,
    pack_sightings,
    spans_of,
    unpack_sightings,
)
from vmemkit.memory.spill import Spill

EXCESS = 2.0  # times the widest disc of a write: room for rounding and for surfels made otherwise


@dataclass(frozen=True, repr=False)
class Ends(TensorStruct):
    """How many surfels and rows of packed sightings there were after each view, where truncation cuts;
    and whether the view shows sky.

    They are on the CPU, whatever the memory's device: they decide which tables are read, and how far.
    """

    surfels: Int[Tensor, " t"]
    rows: Int[Tensor, " t"]
    sky: Bool[Tensor, " t"]


@dataclass(frozen=True, repr=False)
class Reach(TensorStruct):
    """How far each view sees, patch by patch (`far_depths`): a write skips what no view may see. It is
    made of the views' depth, and not saved."""

    far: Float[Tensor, "t i j"]


@dataclass(frozen=True)
class MemoryConfig:
    """Settings of a memory: density and filters of surfels, matching, and their largest number."""

    surfels: SurfelConfig = field(default_factory=SurfelConfig)
    association: AssociationConfig = field(default_factory=AssociationConfig)
    budget: int | None = None  # at most so many surfels; None = no limit  # differs from VMem

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
    _sightings: Rows[PackedSightings]
    _ends: Rows[Ends]
    _boxes: Rows[Boxes]
    _spans: Rows[Spans]
    _reach: Rows[Reach]
    _states: tuple[object, ...] = ()  # the reconstructor's state after each view, None if unknown

    @classmethod
    def empty(
        cls,
        config: MemoryConfig | None = None,
        device: torch.device | str = "cpu",
        spill: Spill | None = None,
    ) -> Memory:
        """A memory without views. The first write fixes the size of its images. With `spill`, views
        beyond its `max_bytes` are stored on disk."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        ids, image = zeros(0).int(), zeros(0, 0, 0)
        cameras = Cameras(zeros(0, 4, 4), zeros(0, 3, 3))
        return cls(
            config or MemoryConfig(),
            Rows.of(Views(cameras, zeros(0, 3, 0, 0), zeros(0).bool(), image, image), spill),
            Rows.of(Surfels(zeros(0, 3), zeros(0, 3), zeros(0), zeros(0, 3))),
            Rows.of(PackedSightings(ids, ids, ids.long())),
            Rows.of(Ends(torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0).bool())),
            Rows.of(Boxes(zeros(0, 3), zeros(0, 3), zeros(0))),
            Rows.of(Spans(ids, ids)),
            Rows.of(Reach(image)),
        )

    @classmethod
    def from_tables(
        cls,
        views: Views,
        surfels: Surfels,
        sightings: Sightings,
        ends: Int[Tensor, " t"],
        config: MemoryConfig | None = None,
        spill: Spill | None = None,
    ) -> Memory:
        """A memory of existing tables. `ends` are the numbers of surfels after each view.

        Errors: ValueError where they contradict each other, for cameras and surfels that
        `check_cameras` and `check_surfels` refuse, and for discs that are larger than a write makes
        them: a few of those would hide the scene, and many would take minutes to draw.
        """
        for table in (views, surfels, sightings):
            check_equal_lengths(table)
        if ends.shape != (len(views),):
            raise ValueError(f"got ends of shape {list(ends.shape)} for {len(views)} views")
        ends, total = ends.cpu(), len(surfels)
        # Bounds first: steps between huge counts could overflow and look like rises.
        fits = not ((ends < 0) | (ends > total)).any() and not (torch.diff(ends) < 0).any()
        if not fits or (int(ends[-1]) if len(ends) else 0) != total:
            raise ValueError(f"the ends must rise to the {total} surfels")
        for name, ids, most in (
            ("surfel", sightings.surfel, total),
            ("view", sightings.view, len(views)),
        ):
            if ((ids < 0) | (ids >= most)).any():
                raise ValueError(f"a sighting names a {name} that does not exist: there are {most}")
        config = config or MemoryConfig()
        check_cameras(views.cameras)
        check_surfels(surfels)
        check_radii(surfels, views, ends, config.surfels)
        packed, rows = pack_sightings(sightings, ends.to(surfels.device))
        return cls(
            config,
            Rows.of(views, spill),
            Rows.of(surfels),
            Rows.of(packed),
            Rows.of(Ends(ends, rows.cpu(), sky_in(views.depth))),
            Rows.of(boxes_of(surfels.position, surfels.radius)),
            Rows.of(spans_of(packed)),
            Rows.of(Reach(far_depths(views.depth))),
        )

    def to(self, device: torch.device | str) -> Memory:
        """The memory on another device; on a GPU nothing is stored on disk. `state` is dropped: its
        reconstructor makes it anew from the views."""
        return Memory.from_tables(
            self.views.to(device),
            self.surfels.to(device),
            self.sightings.to(device),
            self.ends,
            self.config,
            self._views.spill if torch.device(device).type == "cpu" else None,
        )

    @property
    def views(self) -> Views:
        return self._views.value

    @property
    def surfels(self) -> Surfels:
        return self._surfels.value

    @property
    def packed_sightings(self) -> PackedSightings:
        """The sightings as they are stored, a bit each."""
        return self._sightings.value

    @property
    def sightings(self) -> Sightings:
        """The sightings, unpacked. Time and memory grow with their number."""
        return unpack_sightings(self.packed_sightings)

    @property
    def sighting_counts(self) -> Int[Tensor, " t"]:
        """How many sightings there were after each view."""
        rows = self._ends.value.rows.to(self.device)
        return torch.nn.functional.pad(counts_per_row(self.packed_sightings).cumsum(0), (1, 0))[
            rows
        ]

    @property
    def boxes(self) -> Boxes:
        """Bounding boxes of the surfels, one per full run of 256."""
        return self._boxes.value

    @property
    def spans(self) -> Spans:
        """The words of 64 surfels that packed sightings name, per full run of 256 rows."""
        return self._spans.value

    @property
    def ends(self) -> Int[Tensor, " t"]:
        """How many surfels there were after each view; on the CPU."""
        return self._ends.value.surfels

    @property
    def shows_sky(self) -> Bool[Tensor, " t"]:
        """Whether each view has pixels of infinite depth; on the CPU."""
        return self._ends.value.sky

    @property
    def device(self) -> torch.device:
        return self.surfels.device

    @property
    def state(self) -> object:
        """What the reconstructor of the last view wants to go on from; None if unknown.

        It is undone and forked with the memory. It is not saved: a reconstructor that needs it goes
        through the views again."""
        return self._states[-1] if self._states and len(self._states) == len(self) else None

    def __len__(self) -> int:
        """Number of views."""
        return len(self._views)

    def __repr__(self) -> str:
        surfels, sightings = len(self._surfels), int(counts_per_row(self.packed_sightings).sum())
        return f"Memory(views={len(self)}, surfels={surfels}, sightings={sightings})"

    def truncate(self, views: int) -> Memory:
        """The memory as it was when it held its first `views` views: exact undo, in O(1).

        Errors: ValueError unless 0 <= views <= len(self).
        """
        if not 0 <= views <= len(self):
            raise ValueError(f"cannot truncate to {views} views: the memory holds {len(self)}")
        last = self._ends.value[views - 1 : views]
        surfels, rows = (int(n.sum()) for n in (last.surfels, last.rows))  # 0 without a view
        return dataclasses.replace(
            self,
            _views=self._views.prefix(views),
            _surfels=self._surfels.prefix(surfels),
            _sightings=self._sightings.prefix(rows),
            _ends=self._ends.prefix(views),
            _boxes=self._boxes.prefix(surfels // RUN),
            _spans=self._spans.prefix(rows // RUN),
            _reach=self._reach.prefix(views),
            _states=self._states[:views],
        )

    def with_codes(self, views: Views) -> Memory:
        """The memory with the latents and embeddings of `views`: its own views, as a generator's
        `encode` returned them. Errors: ValueError for another number of views or invalid codes."""
        if len(views) != len(self):
            raise ValueError(f"need codes of the memory's {len(self)} views, got {len(views)}")
        check_codes(views)
        codes = {name: getattr(views, name) for name in CODES}
        return dataclasses.replace(self, _views=self._views.replaced(self.views.replace(**codes)))

    def fork(self) -> Memory:
        """A branch that shares everything remembered so far and grows on its own."""
        return self.truncate(len(self))


def read(
    memory: Memory, cameras: Cameras, height: int, width: int, config: SplatConfig | None = None
) -> Splat:
    """The memory's surfels, rendered into cameras (m,) on a canvas of height x width pixels.

    Errors: ValueError for an empty canvas, no cameras, and, on a CPU, cameras that `check_cameras`
    refuses.
    """
    if cameras.device.type == "cpu":  # checking numbers on a GPU would mean waiting for them
        check_cameras(cameras)
    return splat(memory.surfels, cameras, height, width, config, boxes=memory.boxes)


def check_radii(
    surfels: Surfels, views: Views, ends: Int[Tensor, " t"], config: SurfelConfig
) -> None:
    """Errors: ValueError for a disc more than EXCESS times as wide as the widest that its view writes.

    That is the footprint of a pixel of the view's surfel grid, at grazing incidence.
    """
    if len(surfels) == 0:
        return
    ids = torch.arange(len(surfels), device=surfels.device)
    writer = torch.searchsorted(ends.to(ids.device), ids, right=True)
    (height, width), cameras = views.image.shape[2:], views.cameras
    grid = grid_size(height, width, config)
    eye = cameras.position[writer]
    depth = dot(surfels.position - eye, cameras.forward[writer]).abs()
    depth += ROUNDING * (surfels.position.abs() + eye.abs()).sum(-1)
    widest = EXCESS * footprint(
        depth, grid_focal(cameras.K, *grid)[writer], 0 * depth, config.slant
    )
    if (surfels.radius > widest).any():
        i = int((surfels.radius / widest).argmax())
        raise ValueError(
            f"surfel {i} has a radius of {surfels.radius[i]:.3g}: at its depth of {depth[i]:.3g}, view "
            f"{writer[i]} writes radii up to {widest[i] / EXCESS:.3g}, and {EXCESS:g} times that is "
            "the limit (surfels.shrink, surfels.slant and the size of the images decide)"
        )


def sky_in(depth: Float[Tensor, "t h w"]) -> Bool[Tensor, " t"]:
    """Whether each view has pixels of infinite depth; on the CPU."""
    return depth.isinf().flatten(1).any(1).cpu()


def check_codes(views: Views) -> None:
    """Errors: ValueError unless latents and embeddings are float32, one row for each view, finite or
    NaN (missing)."""
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
