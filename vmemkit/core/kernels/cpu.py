"""From tensors to numba's kernels and back, with the work shared among threads.

Each public function here is the twin of a plain torch function that is marked `@accelerated`: the
same name, arguments and results. The kernels are in `pixels.py`, `polygons.py`, `tables.py`,
`solids.py`, `hashes.py` and `filling.py`; they are imported on first use, because importing numba
takes a while.
"""

from __future__ import annotations

from functools import partial
from types import NotImplementedType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vmemkit.core.kernels.backends import bands, in_bands, in_parallel, most_threads, threads_for
from vmemkit.core.kernels.sizes import RUN

LEAST_ROWS = 1 << 13  # points or pixels that a thread should have: starting one takes that long
# Drawing costs a thread as much as so many pixels for each surfel in sight.
PIXELS_PER_SURFEL = 6
LEAST_PIXELS = 1 << 18  # pixels' worth of drawing that a thread should have
WORDS = RUN // 64  # words of packed sightings in a run
MOST_PAIRS = 1 << 20  # pairs of a view and a run that are tested at once: 32 MB of bits


@runtime_checkable
class Discs(Protocol):
    """n oriented discs, such as `Surfels`."""

    position: Tensor  # [n 3]
    normal: Tensor  # [n 3]
    radius: Tensor  # [n]


@runtime_checkable
class Lenses(Protocol):
    """m pinhole cameras, such as `Cameras`."""

    world_from_cam: Tensor  # [m 4 4]
    K: Tensor  # [m 3 3]


@runtime_checkable
class Bounds(Protocol):
    """Bounds of runs of RUN discs, such as `Boxes`."""

    low: Tensor  # [c 3]
    high: Tensor  # [c 3]
    radius: Tensor  # [c]


@runtime_checkable
class BitRows(Protocol):
    """Packed sightings: 64 surfels of one view in a row."""

    word: Tensor  # [r]
    view: Tensor  # [r]
    bits: Tensor  # [r]


@runtime_checkable
class Solids(Protocol):
    """b axis-aligned boxes, such as the `Blocks` of a house."""

    low: Tensor  # [b 3]
    high: Tensor  # [b 3]


@runtime_checkable
class Meetings(Protocol):
    """Where n rays meet blocks, such as the `Hits` in a house."""

    block: Tensor  # [n]
    normal: Tensor  # [n 3]


def discs(
    surfels: Discs,
    cameras: Lenses,
    size: tuple[int, int],
    limits: tuple[float, float, float],
    boxes: Bounds | None,
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """Twin of `splatting.discs`. Each thread draws a band of rows, from the runs that show in it."""
    from vmemkit.core.kernels import pixels

    m, n, (height, width) = len(cameras.K), len(surfels.position), size
    numbers = np.float32(limits)
    poses, intrinsics = _arrays(cameras.world_from_cam, cameras.K)
    bounds = [] if boxes is None else _arrays(boxes.low, boxes.high, boxes.radius)

    def runs_in(top: int, bottom: int) -> np.ndarray:
        """[m runs]: which runs may show in these rows of each camera."""
        shows = np.ones((m, -(-n // RUN)), bool)
        if bounds:
            edges = np.float32([0, top / height, 1, bottom / height])
            pixels.showing(*bounds, poses, intrinsics, edges, numbers, shows)
        return shows

    in_sight = runs_in(0, height)
    effort = PIXELS_PER_SURFEL * RUN * np.count_nonzero(in_sight) / m + height * width
    threads = most_threads()
    rows = bands(height, min(-(-threads // m), threads_for(effort, LEAST_PIXELS)))
    runs = [in_sight] if len(rows) == 1 else [runs_in(*band) for band in rows]
    at_once = min(m, threads)  # cameras, which share buffers with the next ones
    keys = np.empty((at_once, height, width + pixels.LANES), np.int64)
    cosines = np.empty((at_once, max(n, 1)), np.float32)
    surfel = torch.empty((m, height, width), dtype=torch.int64)
    depth, cosine = torch.empty(m, height, width), torch.empty(m, height, width)
    columns = tuple(_arrays(surfels.position, surfels.normal, surfels.radius))
    canvases = _arrays(surfel, depth.view(torch.int32), cosine)
    for first in range(0, m, at_once):
        tasks = []
        for i in range(first, min(first + at_once, m)):
            for band, shows in zip(rows, runs, strict=True):
                cut = slice(*band)
                # Bands that share a surfel write its cosine more than once: the same number.
                task = partial(
                    pixels.draw_discs,
                    columns,
                    np.flatnonzero(shows[i]),
                    (poses[i], intrinsics[i]),
                    numbers,
                    height,
                    band,
                    (keys[i - first, cut], cosines[i - first]),
                    tuple(canvas[i, cut] for canvas in canvases),
                )
                tasks.append(task)
        in_parallel(tasks)
    return surfel, depth, cosine


def polygons(
    surfels: Discs,
    cameras: Lenses,
    size: tuple[int, int],
    limits: tuple[float, float, float],
) -> tuple[Int[Tensor, "m h w"], Float[Tensor, "m h w"], Float[Tensor, "m h w"]]:
    """Twin of `splatting.polygons`. Each thread draws a part of the surfels on a canvas of its own."""
    from vmemkit.core.kernels import pixels, polygons

    m, n, (height, width) = len(cameras.K), len(surfels.position), size
    parts = bands(n, threads_for(n, LEAST_ROWS))
    keys = np.empty((len(parts), height, width + pixels.LANES), np.int64)
    cosines = np.empty(max(n, 1), np.float32)
    surfel = torch.empty((m, height, width), dtype=torch.int64)
    depth, cosine = torch.empty(m, height, width), torch.empty(m, height, width)
    columns = tuple(_arrays(surfels.position, surfels.normal, surfels.radius))
    poses, intrinsics = _arrays(cameras.world_from_cam, cameras.K)
    canvases = _arrays(surfel, depth.view(torch.int32), cosine)
    for i in range(m):
        scene = columns, (poses[i], intrinsics[i]), np.float64(limits)
        draw = partial(polygons.draw_polygons, *scene, size, cosines)
        in_parallel([partial(draw, *part) for part in zip(parts, keys, strict=True)])
        pixels.read_canvases(keys, cosines, tuple(canvas[i] for canvas in canvases))
    return surfel, depth, cosine


def pixel_counts(surfel: Int[Tensor, "m h w"], surfels: int) -> Float[Tensor, " n"]:
    """Twin of `votes._pixel_counts`."""
    from vmemkit.core.kernels import tables

    count = _zeros(surfels, np.float32)
    tables.pixel_counts(*_arrays(surfel.flatten(), count))
    return count


def explained(
    new: Discs,
    pixel: Int[Tensor, " p"],
    grid: tuple[int, int],
    camera: Lenses,
    old: Discs,
    runs: Int[Tensor, " r"],
    limits: tuple[float, float, float],
    tolerances: tuple[float, float],
) -> Bool[Tensor, " p"]:
    """Twin of `association._explained`."""
    from vmemkit.core.kernels import pixels

    at_pixel = np.empty((*grid, 7), np.float32)
    settled = np.ones(grid, bool)  # where there is no new surfel, there is nothing to find out
    surfaces = _arrays(new.position, new.normal, new.radius, pixel)
    pixels.lay_out(*surfaces, at_pixel.reshape(-1, 7), settled.reshape(-1))
    columns = tuple(_arrays(old.position, old.normal, old.radius))
    lens = tuple(_arrays(camera.world_from_cam[0], camera.K[0]))
    scene = lens, np.float32([*limits, *tolerances]), at_pixel, settled
    parts, run_ids = threads_for(len(runs) * RUN, LEAST_ROWS), runs.numpy()
    # Every part takes runs from all over, so that none has all the near ones. They share the flags:
    # a part that misses another's flag finds the same.
    tasks = [
        partial(pixels.hit_surfaces, columns, run_ids[part::parts], *scene) for part in range(parts)
    ]
    in_parallel(tasks)
    return torch.from_numpy(settled).flatten()[pixel]


def sighted(
    surfels: Discs,
    runs: Int[Tensor, " r"],
    first: int,
    cameras: Lenses,
    maps: tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]],
    limits: tuple[float, float, float],
    far: Float[Tensor, "t i j"] | None,
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Twin of `visibility._sighted`, which skips runs that are out of a view's sight or hidden."""
    from vmemkit.core.kernels import pixels

    table = tuple(_arrays(surfels.position, surfels.normal, surfels.radius))
    views = tuple(_arrays(cameras.world_from_cam, cameras.K, *maps))
    numbers = np.float32([1 + limits[0], 1 - limits[1], limits[2]])
    run_ids = runs.numpy()
    low, high = _bounds(table[0], run_ids, first)
    inside = _boxes_in_sight(low, high, *views[:2])
    columns = np.empty((len(run_ids), 7, RUN), np.float32)
    pixels.lay_out_runs(*table, run_ids, first, columns)
    ends = np.stack([first - run_ids * RUN, len(table[0]) - run_ids * RUN]).clip(0, RUN)
    if far is not None:
        low, high = columns.min(2), columns.max(2)
        seen = views, *_arrays(far), numbers[0], inside
        task = partial(pixels.not_hidden, columns, low, high, *seen)
        in_bands(task, len(inside), 1 + LEAST_ROWS // max(1, len(run_ids)))
    view, place = inside.nonzero()
    found = []
    for start in range(0, max(1, len(view)), MOST_PAIRS):
        pairs = np.stack([view[start : start + MOST_PAIRS], place[start : start + MOST_PAIRS]])
        bits = np.zeros((pairs.shape[1], WORDS), np.int64)
        task = partial(pixels.sighted, columns, ends, views, pairs, numbers, bits)
        in_bands(task, pairs.shape[1], LEAST_ROWS // RUN)
        pair, k = bits.nonzero()
        found.append((run_ids[pairs[1, pair]] * WORDS + k, pairs[0, pair], bits[pair, k]))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    kinds = np.int32, np.int32, np.int64
    word, view, bits = (c.astype(k, copy=False) for c, k in zip(columns, kinds, strict=True))
    return torch.from_numpy(word), torch.from_numpy(view), torch.from_numpy(bits)


def normals_and_radii(
    points: Float[Tensor, "h w 3"],
    depth: Float[Tensor, "h w"],
    eye: Float[Tensor, " 3"],
    focal: Float[Tensor, ""],
    slant: float,
    edge: float,
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"], Bool[Tensor, "h w"]] | NotImplementedType:
    """Twin of `surfels._normals_and_radii`, for grids of at least 3 x 3 pixels."""
    from vmemkit.core.kernels import pixels

    height, width = depth.shape
    if min(height, width) < 3:
        return NotImplemented
    normal, radius = torch.empty(points.shape), torch.empty(depth.shape)
    known = torch.empty(depth.shape, dtype=torch.bool)
    arrays = _arrays(points, depth, eye)
    numbers = np.float32([float(focal), slant, 1 - slant, edge])
    task = partial(
        pixels.normals_and_radii, *arrays, numbers, normal.numpy(), radius.numpy(), known.numpy()
    )
    in_bands(task, height, LEAST_ROWS // width)
    return normal, radius, known


def seen_through(
    points: Float[Tensor, "n 3"],
    cameras: Lenses,
    depth: Float[Tensor, "t h w"],
    asked: Bool[Tensor, " t"] | None,
    margin: float,
    far: Float[Tensor, "t i j"] | None,
) -> Bool[Tensor, " n"]:
    """Twin of `view._seen_through`, which skips runs of points that are out of a view's sight, or not
    before what it shows."""
    from vmemkit.core.kernels import pixels

    through = torch.from_numpy(np.zeros(len(points), bool))
    table, *views = _arrays(points, cameras.world_from_cam, cameras.K, depth)
    runs = np.arange(-(-len(table) // RUN))
    low, high = _bounds(table, runs, 0)
    inside = _boxes_in_sight(low, high, *views[:2])
    if asked is not None:
        inside &= asked.numpy()[:, None]
    share = np.float32(1 - margin)
    if far is not None:
        task = partial(pixels.in_front, low, high, tuple(views), far.numpy(), share, inside)
        in_bands(task, len(inside), 1 + LEAST_ROWS // max(1, len(runs)))
    task = partial(pixels.seen_through, table, tuple(views), inside, share, through.numpy())
    in_bands(task, inside.shape[1], LEAST_ROWS // RUN)
    return through


def in_sight(
    boxes: Bounds, cameras: Lenses, limits: tuple[float, float, float]
) -> Bool[Tensor, "m c"]:
    """Twin of `boxes._in_sight`."""
    bounds = _arrays(boxes.low, boxes.high, boxes.radius)
    frusta = _arrays(cameras.world_from_cam, cameras.K)
    return torch.from_numpy(_showing(*bounds, *frusta, limits))


def _showing(
    low: np.ndarray,
    high: np.ndarray,
    radius: np.ndarray,
    poses: np.ndarray,
    intrinsics: np.ndarray,
    limits: tuple[float, float, float],
) -> np.ndarray:
    """[t r]: which cameras may see some of each box [r 3], anywhere in their images."""
    from vmemkit.core.kernels import pixels

    inside, whole = np.ones((len(poses), len(low)), bool), np.float32([0, 0, 1, 1])
    pixels.showing(low, high, radius, poses, intrinsics, whole, np.float32(limits), inside)
    return inside


def _bounds(position: np.ndarray, runs: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest [r 3] of the positions of each run, from number `first` on."""
    from vmemkit.core.kernels import pixels

    low, high = np.empty((2, len(runs), 3), np.float32)
    pixels.bounds(position, runs, first, low, high)
    return low, high


def _boxes_in_sight(
    low: np.ndarray, high: np.ndarray, poses: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """[t r]: which cameras may see some of each box [r 3], at any distance."""
    inside = np.zeros((len(poses), len(low)), bool)
    if len(low) == 0:
        return inside
    sizes, limits = np.zeros(len(low), np.float32), (0.0, 0.0, np.inf)
    # Most cameras of a long walk see nothing of all these boxes: one around them tells.
    around = low.min(0)[None], high.max(0)[None], sizes[:1]
    some = np.flatnonzero(_showing(*around, poses, intrinsics, limits))
    inside[some] = _showing(low, high, sizes, poses[some], intrinsics[some], limits)
    return inside


def weight_by_view(
    sightings: BitRows, weight: Float[Tensor, " n"], views: int
) -> Float[Tensor, " t"]:
    """Twin of `sightings.weight_by_view`."""
    from vmemkit.core.kernels import tables

    total = _zeros(views, np.float64)
    _check_surfels(sightings, len(weight))
    if len(sightings.view) and (last := int(sightings.view.max())) >= views:
        raise ValueError(f"the sightings name views up to {last}, of {views}")
    columns = _arrays(sightings.word, sightings.view)
    tables.votes(*columns, _bits(sightings.bits), *_arrays(weight.float(), total))
    return total.float()


def pack_flags(mask: Bool[Tensor, " n"]) -> Int[Tensor, " w"]:
    """Twin of `sightings.pack_flags`."""
    from vmemkit.core.kernels import tables

    words = _zeros(-(-len(mask) // 64), np.int64)
    tables.pack_flags(mask.numpy(), _bits(words))
    return words


def sighting_counts(sightings: BitRows, surfels: int) -> Int[Tensor, " n"]:
    """Twin of `sightings.sighting_counts`."""
    from vmemkit.core.kernels import tables

    count = _zeros(surfels, np.int64)
    _check_surfels(sightings, surfels)
    tables.counts(*_arrays(sightings.word), _bits(sightings.bits), count.numpy())
    return count


def pairs(
    sightings: BitRows, bits: Int[Tensor, " r"]
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Twin of `sightings._pairs`."""
    from vmemkit.core.kernels import tables

    rows, none = (*_arrays(sightings.word, sightings.view), _bits(bits)), np.empty(0, np.int64)
    surfel, view = torch.empty(2, tables.marked(*rows, none, none), dtype=torch.int64)
    tables.marked(*rows, surfel.numpy(), view.numpy())
    return surfel, view


def gains(
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
    quality: Float[Tensor, " e"],
    pixels: Float[Tensor, " n"],
    chosen: Bool[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """Twin of `selection._gains`."""
    from vmemkit.core.kernels import tables

    gain, best = _zeros(len(chosen), np.float32), torch.empty_like(pixels)
    tables.gains(*_arrays(surfel, view, quality, pixels, chosen, best, gain))
    return gain


def footprints(
    surfels: Discs,
    cameras: Lenses,
    surfel: Int[Tensor, " e"],
    camera: Int[Tensor, " e"],
    slant: float,
) -> Float[Tensor, " e"]:
    """Twin of `votes._footprints`."""
    from vmemkit.core.kernels import tables

    size = torch.empty(len(surfel))
    eye, forward = cameras.world_from_cam[:, :3, 3], cameras.world_from_cam[:, :3, 2]
    scene = _arrays(surfels.position, surfels.normal, eye, forward, cameras.K[:, 1, 1])
    numbers = np.float32([slant, 1 - slant])
    tables.footprints(*scene, *_arrays(surfel, camera), numbers, size.numpy())
    return size


def meet_boxes(
    cells: Solids,
    boxes: Solids,
    cubes: Solids,
    origin: Float[Tensor, "n 3"],
    step: Float[Tensor, "n 3"],
    slack: float,
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, "n 3"], Bool[Tensor, " n"]]:
    """Twin of `ray_casting._meet_boxes`."""
    from vmemkit.core.kernels import solids

    n = len(origin)
    out = torch.empty(n), torch.empty(n, dtype=torch.int64), torch.empty(n, 3)
    out = *out, torch.empty(n, dtype=torch.bool)
    tables = (tuple(_arrays(blocks.low, blocks.high)) for blocks in (cells, boxes, cubes))
    arrays = *tables, *_arrays(origin, step), np.float32(slack), tuple(_arrays(*out))
    task = partial(solids.meet_boxes, *arrays)
    in_bands(task, n, LEAST_ROWS)
    return out


def clearances(
    cells: Solids, boxes: Solids, cubes: Solids, point: Float[Tensor, "n 3"], reach: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Twin of `ray_casting._clearances`."""
    from vmemkit.core.kernels import solids

    n = len(point)
    out = torch.empty(n), torch.empty(n), torch.empty(n, dtype=torch.bool)
    tables = (tuple(_arrays(blocks.low, blocks.high)) for blocks in (cells, boxes, cubes))
    arrays = *tables, *_arrays(point), np.float32(reach), tuple(_arrays(*out))
    task = partial(solids.clearances, *arrays)
    in_bands(task, n, LEAST_ROWS)
    return out


def to_lights(
    cells: Solids,
    lights: Float[Tensor, "l r 3"],
    point: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, "l n"], Float[Tensor, "l n"]]:
    """Twin of `ray_casting._to_lights`."""
    from vmemkit.core.kernels import solids

    along, squared = torch.empty(2, len(lights), len(point))
    inside = tuple(_arrays(cells.low, cells.high))
    arrays = inside, *_arrays(lights, point, normal, along, squared)
    task = partial(solids.to_lights, *arrays)
    in_bands(task, len(point), LEAST_ROWS)
    return along, squared


def on_faces(
    blocks: Solids,
    hits: Meetings,
    point: Float[Tensor, "n 3"],
    direction: Float[Tensor, "n 3"],
    per_pixel: Float[Tensor, "t 3 2"],
    view: Int[Tensor, " n"],
    cells: int,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"], Float[Tensor, "n 2 2"], Int[Tensor, " n"]]:
    """Twin of `ray_casting._on_faces`."""
    from vmemkit.core.kernels import solids

    n = len(point)
    out = torch.empty(n, 2), torch.empty(n, 2), torch.empty(n, 2, 2), torch.empty_like(view)
    scene = tuple(_arrays(blocks.low, blocks.high))
    arrays = scene, *_arrays(hits.block, hits.normal, point, direction, per_pixel, view)
    task = partial(solids.on_faces, *arrays, cells, tuple(_arrays(*out)))
    in_bands(task, n, LEAST_ROWS)
    return out


def corner_tones(
    uv: Float[Tensor, "n 2"],
    pixel: Float[Tensor, "n 2"],
    seed: Int[Tensor, " n"],
    length: tuple[float, float],
) -> tuple[Float[Tensor, "2 n"], Float[Tensor, "4 n"], Float[Tensor, " n"]]:
    """Twin of `finishes._corner_tones`."""
    from vmemkit.core.kernels import hashes

    place, tones, fade = torch.empty(2, len(uv)), torch.empty(4, len(uv)), torch.empty(len(uv))
    arrays = *_arrays(uv, pixel, seed), np.float32(length), *_arrays(place, tones, fade)
    task = partial(hashes.corner_tones, *arrays)
    in_bands(task, len(uv), LEAST_ROWS)
    return place, tones, fade


def sight(
    points: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    camera: Lenses,
    view: tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]],
    limits: tuple[float, float, float],
) -> tuple[Int[Tensor, " s"], Float[Tensor, "s 2"], Float[Tensor, " s"], Bool[Tensor, " s"]]:
    """Twin of `forward_warp._sight`. Each thread lists the points of a band."""
    from vmemkit.core.kernels import filling

    n, (error, slant, confidence) = len(points), limits
    lens = tuple(_arrays(camera.world_from_cam[0], camera.K[0]))
    scene = *_arrays(points, normal), lens, tuple(_arrays(*view))
    numbers = np.float32([error, slant, 1 - slant, confidence])
    out = torch.empty(n, dtype=torch.int64), torch.empty(n, 2), torch.empty(n)
    out = *out, torch.empty(n, dtype=torch.bool)
    parts = bands(n, threads_for(n, LEAST_ROWS))
    found, columns = np.zeros((len(parts), 1), np.int64), tuple(_arrays(*out))
    tasks = zip(parts, found, strict=True)
    in_parallel([partial(filling.sight, *scene, numbers, columns, *task) for task in tasks])
    ends = [start + int(count) for (start, _), [count] in zip(parts, found, strict=True)]
    if len(parts) == 1:
        return tuple(column[: ends[0]] for column in out)
    cuts = [slice(start, end) for (start, _), end in zip(parts, ends, strict=True)]
    return tuple(torch.cat([column[cut] for cut in cuts]) for column in out)


def push_pull(
    image: Float[Tensor, "b c h w"], known: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b c h w"] | NotImplementedType:
    """Twin of `smoothing._push_pull`, for float32. Each thread takes some of the layers."""
    from vmemkit.core.kernels import filling

    if image.dtype != torch.float32:
        return NotImplemented
    batch, channels, height, width = image.shape
    filled = torch.empty(image.shape)
    task = partial(filling.push_pull, *_arrays(image, known, filled))
    in_bands(task, batch * channels, -(-LEAST_ROWS // (height * width)))
    return filled


def box_means(
    layers: Float[Tensor, "c h w"],
    values: Float[Tensor, "c n"],
    pixel: Int[Tensor, " n"],
    reach: int,
) -> Float[Tensor, "c n"]:
    """Twin of `planes._box_means`. Each thread takes some of the layers."""
    from vmemkit.core.kernels import filling

    (count, height, width), places = layers.shape, pixel.numpy()
    if len(places) and not (places.min() >= 0 and places.max() < height * width):
        raise ValueError(f"got pixels outside of an image of {height} x {width}")
    mean = torch.empty(values.shape)
    task = partial(filling.box_means, *_arrays(layers, values, pixel), reach, mean.numpy())
    in_bands(task, count, -(-LEAST_ROWS // (height * width)))
    return mean


def expected_steps(
    surfaces: Float[Tensor, "p n"], share: Float[Tensor, "p n"]
) -> Float[Tensor, "p n"]:
    """Twin of `planes._expected_steps`."""
    from vmemkit.core.kernels import filling

    expected = torch.empty(share.shape)
    task = partial(filling.expected_steps, *_arrays(surfaces, share, expected))
    in_bands(task, share.shape[1], LEAST_ROWS)
    return expected


def step_cost(
    distance: Float[Tensor, "w w"],
    usable: Bool[Tensor, " w"],
    before: tuple[Int[Tensor, " a"], Int[Tensor, " a"]],
    after: tuple[Int[Tensor, " b"], Int[Tensor, " b"]],
    jumps: Float[Tensor, " 2"],
) -> Float[Tensor, "a b"]:
    """Twin of `cylinder._step_cost`."""
    from vmemkit.core.kernels import filling

    cost = torch.empty(len(before[0]), len(after[0]))
    states = tuple(_arrays(*before)), tuple(_arrays(*after))
    filling.step_cost(*_arrays(distance, usable), *states, *_arrays(jumps, cost))
    return cost


def viterbi(
    enter: Float[Tensor, " s"],
    step: Float[Tensor, "s s"],
    stay: Float[Tensor, "g s"],
    leave: Float[Tensor, " s"],
) -> Int[Tensor, " g"]:
    """Twin of `cylinder._viterbi`."""
    from vmemkit.core.kernels import filling

    path = torch.empty(len(stay), dtype=torch.int64)
    filling.viterbi(*_arrays(enter, step, stay, leave, path))
    return path


def cross_fade(
    image: Float[Tensor, "3 h w"],
    known: Bool[Tensor, "h w"],
    source: Bool[Tensor, "h w"],
    column: Int[Tensor, " w"],
    direction: Int[Tensor, " w"],
    reach: int,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
    """Twin of `cylinder._cross_fade`."""
    from vmemkit.core.kernels import filling

    height, width = known.shape
    total = _zeros(image.numel(), np.float32).view_as(image)
    weight = _zeros(height * width, np.float32).view(height, width)
    arrays = *_arrays(image, known, source, column, direction), reach, *_arrays(total, weight)
    in_bands(partial(filling.cross_fade, *arrays), height, -(-LEAST_ROWS // width))
    return total, weight


def _zeros(count: int, kind: type[np.number]) -> Tensor:
    """Zeros by numpy: torch.zeros wakes torch's threads, which then spin where ours should run."""
    return torch.from_numpy(np.zeros(count, kind))


def _check_surfels(sightings: BitRows, surfels: int) -> None:
    """Kernels do not check where they write. Errors: ValueError for sightings of more surfels."""
    if len(sightings.word) and int(sightings.word.numpy().max()) * 64 >= surfels:
        raise ValueError(f"got numbers for {surfels} surfels: the sightings name more than those")


def _bits(words: Tensor) -> np.ndarray:
    return words.contiguous().numpy().view(np.uint64)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors' own memory where it is contiguous, else a copy."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
