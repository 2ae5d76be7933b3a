"""What grows: the cost of every stage of the memory beside its work, as a walk goes on and on.

The world is a row of equal rooms with crates. Whoever stands in one of them sees no other, so that a
stage has the same work to do after ten rooms as after ten thousand. Three tables:

- rooms: ever more of them, with ten views in each;
- views: ever more views of one room, of which each surfel is seen by ever more;
- given: a generated view is written into ever more rooms of given ones, against which its pixels
  are held.

Each cell is milliseconds, and in brackets how they and the work grew against the row before. Images
have 48 x 64 pixels, so that many fit into memory.
Run: python benchmarks/growth.py [--surfels 1e4 1e5 1e6 1e7] [--views 100 1000 10000]
     [--given 10 100 1000] [--threads 1] [--json F]
"""

import argparse
import json
import platform
import time
from collections.abc import Callable

import torch
from worlds import BoxWorld

from vmemkit.core import Cameras, SurfelConfig, Views, intrinsics, runs_in_sight
from vmemkit.core.kernels import RUN, backend
from vmemkit.memory import (
    Memory,
    MemoryConfig,
    Sightings,
    begin,
    excerpt,
    read,
    sightings_of,
    write,
)
from vmemkit.retrieval import count_votes, pixels_per_surfel, retrieve
from vmemkit.scenes import upright_cameras

SIZE = (48, 64)
PITCH = 5.0  # metres from a room to the next one
ROOM = (4.6, 2.6, 4.0)  # metres: width, height, length
PER_ROOM = 10  # views of a walk in each room
POSES = 40  # different ones in a room; the last ones are of queries and new views
K = 4
SETTLED = 0.1  # seconds for which a job is timed at least
CONFIG = MemoryConfig(SurfelConfig(shrink=1.0))


def room() -> BoxWorld:
    """A closed room from 0 to ROOM along x and z, with crates."""
    x, y, z = ROOM
    blocks = [
        (-1, -y - 1, -1, x + 1, -y, z + 1),
        (-1, 0, -1, x + 1, 1, z + 1),
        (-1, -y, -1, 0, 0, z + 1),
        (x, -y, -1, x + 1, 0, z + 1),
        (-1, -y, -1, x + 1, 0, 0),
        (-1, -y, z, x + 1, 0, z + 1),
        (0.2, -0.8, 0.2, 0.9, 0, 1.1),
        (3.4, -1.8, 2.9, 4.4, 0, 3.8),
        (2.2, -0.5, 3.0, 2.9, 0, 3.6),
    ]
    table = torch.tensor(blocks)
    color = 0.2 + 0.7 * torch.rand(len(table), 3, generator=torch.Generator().manual_seed(0))
    return BoxWorld(table[:, :3].contiguous(), table[:, 3:].contiguous(), color, (x, z))


def room_views(size: tuple[int, int]) -> Views:
    """POSES views of one room, from its middle and around it."""
    turn = torch.arange(POSES) * 2.4
    x, z = ROOM[0] / 2 + 0.5 * turn.cos(), ROOM[2] / 2 + 0.5 * turn.sin()
    eyes = torch.stack([x, torch.full_like(x, -1.5), z], 1)
    headings = torch.arange(POSES) * 360.0 * 0.381966  # the golden ratio spreads any number evenly
    return room().render(
        upright_cameras(eyes, headings, intrinsics(70.0, size[1] / size[0])), *size
    )


def moved(views: Views, *rooms: int) -> Views:
    """The views in each of these rooms of the row."""
    shift = torch.tensor(rooms).repeat_interleave(len(views)) * PITCH
    again = views[torch.arange(len(shift)) % len(views)]
    poses = again.cameras.world_from_cam.clone()
    poses[:, 0, 3] += shift
    return again.replace(cameras=Cameras(poses, again.cameras.K))


def in_a_row(one: Memory, rooms: int) -> Memory:
    """The memory of a walk through so many rooms, each as in the memory of one."""
    surfels, sightings, place = one.surfels, one.sightings, torch.arange(rooms)[:, None]
    n, t = len(surfels), len(one)
    every = surfels[torch.arange(rooms * n) % n]
    shift = torch.zeros(rooms * n, 3)
    shift[:, 0] = (place * PITCH).expand(rooms, n).flatten()
    seen = Sightings(
        (sightings.surfel + place * n).flatten().int(), (sightings.view + place * t).flatten().int()
    )
    every = every.replace(position=every.position + shift)
    views = moved(one.views, *range(rooms))
    return Memory.from_tables(views, every, seen, (one.ends + place * n).flatten(), CONFIG)


def again_and_again(one: Memory, walks: int) -> Memory:
    """The memory of so many equal walks through the place of one."""
    sightings, place, t = one.sightings, torch.arange(walks)[:, None], len(one)
    seen = Sightings(sightings.surfel.repeat(walks), (sightings.view + place * t).flatten().int())
    later = one.ends.new_full(((walks - 1) * t,), len(one.surfels))
    views = one.views[torch.arange(walks * t) % t]
    return Memory.from_tables(views, one.surfels, seen, torch.cat([one.ends, later]), CONFIG)


def clock(job: Callable[..., object], before: Callable[[], object] | None = None) -> float:
    """The least milliseconds of at least five runs, after one that is not counted: other programs
    only add to them. `before` makes the job's argument and is not timed."""
    spent: list[float] = []
    began = time.perf_counter()
    while len(spent) <= 5 or (time.perf_counter() - began < SETTLED and before is None):
        given = () if before is None else (before(),)
        start = time.perf_counter()
        job(*given)
        spent.append(1e3 * (time.perf_counter() - start))
    return min(spent[1:])


def grown(memory: Memory) -> Callable[[], Memory]:
    """Makes the memory once more, with room to grow, as during a walk: of its last view, written
    again."""
    last = memory.views[-1:]
    return lambda: write(memory.truncate(len(memory) - 1), last)


def votes(memory: Memory, cameras: Cameras, height: int, width: int) -> torch.Tensor:
    """A vote for each view by each pixel whose surfel it saw."""
    part, canvas = excerpt(memory, read(memory, cameras, height, width))
    return count_votes(part, pixels_per_surfel(part, canvas))


def measured(memory: Memory, query: Views, new: Views) -> dict[str, float]:
    """Milliseconds of every stage for a query and a new view, and what there was to do."""
    cameras, (height, width) = query.cameras, query.image.shape[2:]
    canvas = read(memory, cameras, height, width)
    pixels = pixels_per_surfel(memory, canvas)
    longer = write(memory, new)
    first, last = memory._ends.value.rows[-1], longer._ends.value.rows[-1]
    row: dict[str, float] = {"surfels": len(memory.surfels), "views": len(memory)}
    row["read"] = clock(lambda: read(memory, cameras, height, width))
    row["read + vote"] = clock(lambda: votes(memory, cameras, height, width))
    row["coverage"] = clock(lambda: retrieve(memory, cameras, K))
    row["write"] = clock(lambda given: write(given, new), grown(memory))
    row["surfels in frustum"] = RUN * int(runs_in_sight(memory.boxes, cameras, 2.0, 0.0, 1e9).sum())
    row["sightings in sight"] = len(sightings_of(memory.packed_sightings, pixels > 0)[0])
    row["surfels written"] = len(longer.surfels) - len(memory.surfels)
    row["sightings written"] = int(last - first)
    return row


WORK = {  # what the cost of a stage may grow with
    "read": ("surfels in frustum",),
    "read + vote": ("surfels in frustum", "sightings in sight"),
    "coverage": ("surfels in frustum", "sightings in sight"),
    "write": ("surfels in frustum", "surfels written", "sightings written"),
}


def by_rooms(counts: list[int], size: tuple[int, int]) -> list[dict]:
    """Costs with ever more rooms, until each number of surfels. The query and the new view are in the
    middle room."""
    rows, one = [], room_views(size)
    memory = begin(one[:PER_ROOM], CONFIG)
    for count in counts:
        rooms = max(1, round(count / len(memory.surfels)))
        middle = moved(one[-2:], rooms // 2)
        rows.append(measured(in_a_row(memory, rooms), middle[:1], middle[1:]))
        line(rows, WORK)
    return rows


def by_views(counts: list[int], size: tuple[int, int]) -> list[dict]:
    """Costs with ever more views of one room."""
    rows, one = [], room_views(size)
    memory = begin(one[:PER_ROOM], CONFIG)
    for count in counts:
        longer = again_and_again(memory, max(1, count // PER_ROOM))
        rows.append(measured(longer, one[-2:-1], one[-1:]))
        line(rows, WORK)
    return rows


def by_given(counts: list[int], size: tuple[int, int]) -> list[dict]:
    """Cost of writing a generated view whose depth is 5 % too short everywhere, by given views in ever
    more rooms; and of a given one with this depth, which is not tested."""
    rows, one = [], room_views(size)
    memory, yes = begin(one[:PER_ROOM], CONFIG), torch.ones(1, dtype=torch.bool)
    for count in counts:
        rooms = max(1, count // PER_ROOM)
        longer, new = in_a_row(memory, rooms), moved(one[-1:], rooms // 2)
        row: dict[str, float] = {"given views": len(longer), "surfels": len(longer.surfels)}
        for name, given in (("guess", ~yes), ("no guess", yes)):
            view = new.replace(given=given, depth=0.95 * new.depth)
            row[name] = clock(lambda start, view=view: write(start, view), grown(longer))
        row["pixels"] = new.depth.numel()
        rows.append(row)
        line(rows, {"guess": ("pixels",), "no guess": ("pixels",)})
    return rows


def line(rows: list[dict], works: dict[str, tuple[str, ...]]) -> None:
    """Prints the last row: its sizes, then each cost, its growth, and the growth of its work."""
    row, before = rows[-1], rows[-2] if len(rows) > 1 else None
    numbers = [name for name in row if name not in works]
    if before is None:
        print(" ".join(f"{name:>{max(10, len(name))}s}" for name in [*numbers, *works]))
    cells = [f"{row[name]:{max(10, len(name))},.0f}" for name in numbers]
    for name, work in works.items():
        cell = f"{row[name]:.2f}"
        if before is not None:
            grown_work = max(row[w] / max(1, before[w]) for w in work)
            cell += f" (x{row[name] / before[name]:.1f} of x{grown_work:.1f})"
        cells.append(f"{cell:>{max(10, len(name))}s}")
    print(" ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surfels", type=float, nargs="*", default=[1e4, 1e5, 1e6, 1e7])
    parser.add_argument("--views", type=int, nargs="*", default=[100, 1000, 10000])
    parser.add_argument("--given", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="height and width")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {options.threads} threads, {backend('cpu')}; milliseconds")
    size, tables = tuple(options.size), {}
    for title, make, counts in (
        ("rooms", by_rooms, [int(n) for n in options.surfels]),
        ("views", by_views, options.views),
        ("given", by_given, options.given),
    ):
        print(f"\n{title}: ", end="\n")
        tables[title] = make(counts, size)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"threads": options.threads, "size": size} | tables, file, indent=1)


if __name__ == "__main__":
    main()
