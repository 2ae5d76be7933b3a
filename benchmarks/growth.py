"""What grows: the cost of every stage of the memory beside its work, as a walk goes on and on.

The world is a row of equal rooms with crates. Whoever stands in one of them sees no other, so that a
stage has the same work to do after ten rooms as after ten thousand. Three tables:

- rooms: a walk through ever more of them, with new surfels and ten views in each;
- views: ever more views of the same four rooms, of which each surfel is seen by ever more;
- given: a generated view is written into ever more given ones, and every pixel is held against them.

Each cell is milliseconds, with the growth against the row before in brackets; beside the cells stands
the growth of the work. Images have 48 x 64 pixels, so that many fit into memory.
Run: python benchmarks/growth.py [--surfels 1e4 1e5 1e6] [--views 100 1000 10000]
     [--given 10 100 1000] [--threads 1] [--json F]
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from worlds import BoxWorld

from vmemkit.core import Cameras, SurfelConfig, Views, intrinsics, runs_in_sight
from vmemkit.core.kernels import RUN, backend
from vmemkit.memory import Memory, MemoryConfig, read, sightings_of, write
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
    return room().render(upright_cameras(eyes, headings, intrinsics(70.0, size[1] / size[0])), *size)


def moved(views: Views, room: int) -> Views:
    """The views in another room of the row."""
    poses = views.cameras.world_from_cam.clone()
    poses[:, 0, 3] += PITCH * room
    return views.replace(cameras=Cameras(poses, views.cameras.K))


def clock(job: Callable[..., object], before: Callable[[], object] | None = None) -> float:
    """Median milliseconds of at least five runs, after one that is not counted. `before` makes the
    job's argument and is not timed."""
    spent: list[float] = []
    began = time.perf_counter()
    while len(spent) <= 5 or (time.perf_counter() - began < SETTLED and before is None):
        given = () if before is None else (before(),)
        start = time.perf_counter()
        job(*given)
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent[1:])


def grown(memory: Memory) -> Callable[[], Memory]:
    """Makes the memory once more, with room to grow, as during a walk: of its last view, written
    again."""
    last = memory.views[-1:]
    return lambda: write(memory.truncate(len(memory) - 1), last)


def measured(memory: Memory, query: Views, new: Views) -> dict[str, float]:
    """Milliseconds of every stage for a query and a new view, and what there was to do."""
    cameras, (height, width) = query.cameras, query.image.shape[2:]
    canvas = read(memory, cameras, height, width)
    pixels = pixels_per_surfel(memory, canvas)
    longer = write(memory, new)
    first, last = memory._ends.value.rows[-1], longer._ends.value.rows[-1]
    row: dict[str, float] = {"surfels": len(memory.surfels), "views": len(memory)}
    row["read"] = clock(lambda: read(memory, cameras, height, width))
    row["read + vote"] = clock(
        lambda: count_votes(memory, pixels_per_surfel(memory, read(memory, cameras, height, width)))
    )
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


def by_rooms(sizes: list[int], size: tuple[int, int] = SIZE) -> list[dict]:
    """Costs in a walk through ever more rooms, until each number of surfels. The query and the new
    view are in the middle room."""
    rows, memory, one = [], Memory.empty(CONFIG), room_views(size)
    for count in sizes:
        while len(memory.surfels) < count:
            place = len(memory) // PER_ROOM
            for i in range(PER_ROOM):
                memory = write(memory, moved(one[i : i + 1], place))
        middle = moved(one[-2:], len(memory) // PER_ROOM // 2)
        rows.append(measured(memory, middle[:1], middle[1:]))
        line(rows, WORK)
    return rows


def by_views(counts: list[int], size: tuple[int, int] = SIZE) -> list[dict]:
    """Costs in a walk round and round through four rooms, after each number of views."""
    rows, memory, one = [], Memory.empty(CONFIG), room_views(size)
    for count in counts:
        while (n := len(memory)) < count:
            pose = n // 4 % (POSES - 2)
            memory = write(memory, moved(one[pose : pose + 1], n % 4))
        middle = moved(one[-2:], 1)
        rows.append(measured(memory, middle[:1], middle[1:]))
        line(rows, WORK)
    return rows


def by_given(counts: list[int], size: tuple[int, int] = SIZE) -> list[dict]:
    """Cost of writing a generated view whose depth is 5 % too short everywhere, by given views."""
    rows, memory, one = [], Memory.empty(CONFIG), room_views(size)
    for count in counts:
        while (n := len(memory)) < count:
            memory = write(memory, moved(one[n % PER_ROOM : n % PER_ROOM + 1], n // PER_ROOM))
        new = moved(one[-1:], len(memory) // PER_ROOM // 2)
        guess = new.replace(given=torch.zeros(1, dtype=torch.bool), depth=0.95 * new.depth)
        row: dict[str, float] = {"given views": len(memory), "surfels": len(memory.surfels)}
        as_given = guess.replace(given=torch.ones(1, dtype=torch.bool))
        row["write"] = clock(lambda given: write(given, guess), grown(memory))  # noqa: B023
        row["write, not tested"] = clock(lambda given: write(given, as_given), grown(memory))  # noqa: B023
        row["pixels tested"] = guess.depth.numel()
        rows.append(row)
        line(rows, {"write": ("pixels tested",), "write, not tested": ("pixels tested",)})
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
    parser.add_argument("--surfels", type=float, nargs="*", default=[1e4, 1e5, 1e6])
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
