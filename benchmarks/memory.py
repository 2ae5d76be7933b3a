"""The cost of the memory: reads, votes, normals, writes and bytes, against two references.

One is the torch code on the same tensors; the other the bandwidth floor: the bytes that must move
(28 a surfel, 12 a pixel in and out) over the memory bandwidth, measured in the same run. Two worlds:
a walk through a house, most of which is out of a camera's sight, and a cloud that is all in sight.
Frames have 512 x 288 pixels of which each becomes a surfel. Medians of several runs.
Run: python benchmarks/memory.py [--sizes 1e3 1e5 ...] [--device cuda] [--long 10000] [--json F]
     [--plot F]
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from vmemkit.core import (
    Cameras,
    PointMaps,
    SurfelConfig,
    Surfels,
    Views,
    cameras,
    intrinsics,
    look_at,
    surfels_from_points,
)
from vmemkit.core.kernels import backend, use
from vmemkit.memory import (
    AssociationConfig,
    Memory,
    MemoryConfig,
    Sightings,
    Spill,
    begin,
    read,
    write,
)
from vmemkit.retrieval import count_votes, pixels_per_surfel
from vmemkit.scenes import capture_tour, rooms

HEIGHT, WIDTH = 288, 512
FULL = SurfelConfig(shrink=1.0)
PER_SURFEL, PER_PIXEL = (
    28,
    2 * 12,
)  # bytes a read moves per surfel (position, normal, radius) and pixel
SETTLED = 0.2  # seconds: minimum time for which a job is timed
PER_POINT = 32  # bytes moved per point: point and depth in, normal and radius out


def clock(
    job: Callable[..., object],
    device: str,
    times: int = 9,
    before: Callable[[], object] | None = None,
) -> float:
    """Median milliseconds of several runs, after one warm-up. `before` makes the job's argument and
    is not timed."""
    # Torch's threads spin for some milliseconds after their work. Quick jobs run for longer, so that
    # the measurement does not consist of the time in which they share a core with these threads.
    spent, began = [], time.perf_counter()
    while len(spent) <= times or time.perf_counter() - began < SETTLED:
        given = () if before is None else (before(),)
        start = time.perf_counter()
        job(*given)
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent[1:])


def at_its_end(memory: Memory) -> Callable[[], Memory]:
    """Returns a function that copies a memory after a write, with spare rows, as during a walk."""
    last = memory.views[-1:]
    return lambda: write(memory.truncate(len(memory) - 1), last)


def bandwidth(device: str) -> float:
    """Bytes per millisecond that a copy of 256 MB reads and writes (best of several)."""
    a = torch.ones(1 << 26, device=device)
    b = torch.empty_like(a)
    return max(2 * a.nbytes / clock(lambda: b.copy_(a), device, 3) for _ in range(3))


def walk_through(views: Views, count: int) -> Memory:
    """A memory with about `count` surfels, or all of the views' pixels; coarser grids for fewer."""
    memory = Memory.empty(
        MemoryConfig(dataclasses.replace(FULL, shrink=min(1, count / 1e6) ** 0.5))
    )
    for i in range(len(views)):
        memory = write(memory, views[i : i + 1])
        if len(memory.surfels) >= count:
            break
    return memory


def cloud(view: Views, count: int) -> Memory:
    """A memory of one view and `count` discs at random positions and orientations in front of it. They
    are as large as the discs of an image with that many pixels, at most those of WIDTH columns."""
    random = torch.Generator().manual_seed(0)
    camera, numbers = view.cameras[0], torch.rand(count, 6, generator=random)
    depth = 1 + 4 * numbers[:, 2]
    ray = (numbers[:, :2] - camera.K[:2, 2]) / camera.K.diagonal()[:2]
    local = torch.cat([ray, torch.ones(count, 1)], 1) * depth[:, None]
    normal = torch.nn.functional.normalize(numbers[:, 3:] - 0.5, dim=-1)
    radius = depth / camera.K[0, 0] * max(0.5 / WIDTH, 0.5 / math.sqrt(count * WIDTH / HEIGHT))
    where = local @ camera.rotation.T + camera.position
    surfels = Surfels(where, normal @ camera.rotation.T, radius, torch.rand(count, 3))
    seen = Sightings(torch.arange(count).int(), torch.zeros(count).int())
    view = view.replace(confidence=torch.ones_like(view.depth))
    shrink = min(1, count / (WIDTH * HEIGHT)) ** 0.5
    config = MemoryConfig(dataclasses.replace(FULL, shrink=shrink))
    return Memory.from_tables(view, surfels, seen, torch.tensor([count]), config)


def bytes_per_surfel(memory: Memory) -> tuple[float, float]:
    """Bytes of all tables except the views: (used, allocated). Sightings are included."""
    tables = memory._surfels, memory._sightings, memory._boxes, memory._spans
    held = sum(leaf.nbytes for rows in tables for leaf in rows.value.leaves().values())
    return held / len(memory.surfels), sum(rows.nbytes for rows in tables) / len(memory.surfels)


def one_size(memory: Memory, query: Cameras, new: Views, device: str, rate: float) -> dict:
    """Times of all stages on one memory."""
    memory, query, new = (x.to(device) for x in (memory, query, new))
    count, coarse = len(memory.surfels), memory.config.surfels
    radius = dataclasses.replace(
        memory, config=MemoryConfig(coarse, AssociationConfig(method="radius"))
    )
    memory = dataclasses.replace(memory, config=MemoryConfig(FULL))
    seen = read(memory, query, HEIGHT, WIDTH)
    jobs = {
        "read": lambda: read(memory, query, HEIGHT, WIDTH),
        "vote": lambda: count_votes(memory, pixels_per_surfel(memory, seen)),
        "read + vote": lambda: count_votes(
            memory, pixels_per_surfel(memory, read(memory, query, HEIGHT, WIDTH))
        ),
    }
    # The frame has full resolution. For the radius rule it has the memory's resolution: a distance
    # that suits coarse surfels would match thousands of fine ones.
    writes = {"write": memory, "write, radius rule": radius} if len(memory) > 1 else {}
    floor = (PER_SURFEL * count + PER_PIXEL * HEIGHT * WIDTH) / rate
    held, allocated = bytes_per_surfel(memory)
    row = {"surfels": count, "views": len(memory), "floor": floor}
    row |= {"bytes per surfel": held, "bytes allocated": allocated}
    for name, job in jobs.items():
        row[name] = clock(job, device)
        row[f"{name}, torch"] = clock(use("torch")(job), device, 3)
    # Simulates a network that ran before: its data fill the caches, and its threads still spin.
    pair = jobs["read + vote"]
    row["read + vote, after torch"] = clock(lambda _: pair(), device, 9, use("torch")(pair))
    for name, start in writes.items():
        job, before = lambda given: write(given, new), at_its_end(start)
        row[name] = clock(job, device, 5, before)
        if (
            name == "write" or count <= 2_000
        ):  # comparing all pairs takes minutes on larger memories
            row[f"{name}, torch"] = clock(use("torch")(job), device, 1, before)
    row["read over floor"] = row["read"] / floor
    row["read + vote, torch over ours"] = row["read + vote, torch"] / row["read + vote"]
    return row


def table(world: str, rows: list[dict]) -> None:
    print(f"\n{world}: milliseconds (the torch code in brackets)")
    names = ["read", "vote", "read + vote", "write", "write, radius rule"]
    print(f"{'surfels':>9s} {'views':>5s} " + " ".join(f"{name:>19s}" for name in names), end="")
    print(f" {'after torch':>11s} {'read/floor':>10s} {'torch/ours':>10s} {'bytes':>6s}")
    for row in rows:
        cells = []
        for name in names:
            slow = row.get(f"{name}, torch")
            bracket = "" if slow is None else f"({slow:.1f})"
            cells.append(f"{row[name]:8.2f} {bracket:>10s}" if name in row else " " * 19)
        print(f"{row['surfels']:9,d} {row['views']:5d} " + " ".join(cells), end="")
        print(f" {row['read + vote, after torch']:11.2f} {row['read over floor']:9.1f}x", end="")
        print(f" {row['read + vote, torch over ours']:9.1f}x", end="")
        print(f" {row['bytes per surfel']:6.1f}", flush=True)


def normals(view: Views, device: str, rate: float) -> dict:
    """Times of normals and radii of a frame, and of its surfels."""
    view = view.to(device)
    maps, camera = PointMaps.from_depth(view.cameras, view.depth)[0], view.cameras[0]
    job = lambda: surfels_from_points(maps, camera, view.image[0], FULL)  # noqa: E731
    floor, ours = PER_POINT * HEIGHT * WIDTH / rate, clock(job, device)
    slow = clock(use("torch")(job), device, 3)
    print(f"\nnormals, radii and filters of a frame: {ours:.2f} ms, torch {slow:.2f} ms", end=", ")
    print(f"floor {floor:.3f} ms: {ours / floor:.1f}x")
    return {"normals": ours, "normals, torch": slow, "floor": floor, "over floor": ours / floor}


def by_views(view: Views, device: str) -> list[dict]:
    """Times of votes and writes with 100,000 surfels and more and more views that saw a third of them."""
    rows, random = [], torch.Generator().manual_seed(0)
    print("\n  views  sightings    vote   write   (ms; 100,000 surfels)")
    for views in (10, 100, 1_000):
        one = cloud(view, 100_000)
        surfel, seer = [], []
        for v in range(views):  # each view sees some runs of neighbours, as real views do
            start = torch.randint(0, 66_000, (1,), generator=random)
            surfel.append(start + torch.arange(33_000))
            seer.append(torch.full((33_000,), v))
        seen = Sightings(torch.cat(surfel).int(), torch.cat(seer).int())
        ends = torch.full((views,), 100_000)
        small = one.views.replace(
            image=one.views.image[..., :2, :2],
            depth=one.views.depth[:, :2, :2],
            confidence=one.views.confidence[:, :2, :2],
        )
        memory = Memory.from_tables(small[torch.zeros(views).long()], one.surfels, seen, ends)
        memory, new = memory.to(device), small.to(device)
        weight = torch.rand(100_000, generator=random).to(device)
        row = {"views": views, "sightings": len(seen)}
        row["vote"] = clock(lambda m=memory, w=weight: count_votes(m, w), device)
        job = lambda given, n=new: write(given, n)  # noqa: E731
        row["write"] = clock(job, device, 5, at_its_end(memory))
        print(f"{views:7,d} {len(seen):10,d} {row['vote']:7.2f} {row['write']:7.2f}", flush=True)
        rows.append(row)
    return rows


def starting() -> dict:
    """Seconds of the first use in a new process: import, first compilation, load from the cache."""
    read_once = (
        "import time, torch; a = time.perf_counter(); import vmemkit as vm, vmemkit.memory as m;"
        "b = time.perf_counter(); from vmemkit.scenes import capture_tour, rooms; house = rooms(0);"
        "c = capture_tour(house).cameras[:1];"
        "v = house.render(c, 48, 64); t = time.perf_counter(); memory = m.begin(v);"
        "vm.retrieve(memory, c, 1); print(b - a, time.perf_counter() - t)"
    )
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("compiling", "compiled before"):
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            command = [sys.executable, "-c", read_once]
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            result["import"], result[name] = map(float, done.stdout.split())
    print(f"\nimport vmemkit, torch being there: {result['import']:.2f} s; first write and", end="")
    print(
        f" retrieval {result['compiling']:.1f} s, {result['compiled before']:.2f} s once compiled"
    )
    return result


def redraw() -> dict:
    """Milliseconds in the kernel from a slider's move until an inspector has retrieved and redrawn."""
    from vmemkit.widgets import RetrievalInspector  # late: all else runs without notebooks

    house = rooms(0)
    tour = capture_tour(house)
    memory = begin(house.render(tour.cameras[:12], 300, 400))
    inspector = RetrievalInspector(memory, tour.cameras[tour.back])
    slider = next(iter(inspector.sliders.values()))
    places = iter(range(1, 100))

    def move() -> None:
        slider.value = slider.min + (slider.max - slider.min) * next(places) / 100

    spent, count = clock(move, "cpu"), len(memory.surfels)
    print(f"\na slider's move redraws {count:,} surfels in {spent:.0f} ms")
    return {"surfels": count, "milliseconds": spent}


def long_walk(views: int) -> dict:
    """Memory of the process during a long walk through new places, under limits."""
    import psutil  # late, as above

    height, width, process = 60, 80, psutil.Process()
    memory = Memory.empty(MemoryConfig(FULL, budget=100_000), spill=Spill(max_bytes=64 << 20))
    lens, random = intrinsics(75.0, width / height), torch.Generator().manual_seed(0)
    print("\n  views   surfels  on disk   resident   ms a write")
    rows, part, start = [], max(1, views // 5), time.perf_counter()
    for i in range(views):
        eye = torch.tensor([[0.25 * i, 0.0, 0.0]])  # along an infinite wall of boxes
        camera = cameras(look_at(eye, eye + torch.tensor([[0.3, 0.0, 1.0]])), lens)
        depth = (2 + torch.rand(1, 6, 8, generator=random)).repeat_interleave(10, 1)
        depth = depth.repeat_interleave(10, 2)
        image = torch.rand(1, 3, height, width, generator=random)
        new = Views(camera, image, torch.ones(1, dtype=torch.bool), depth)
        memory = write(memory, new)
        if (i + 1) % part == 0:
            row = {"views": i + 1, "surfels": len(memory.surfels), "spilled": memory._views.spilled}
            row |= {"resident": process.memory_info().rss}
            row["write"] = 1e3 * (time.perf_counter() - start) / part
            print(f"{i + 1:7,d} {row['surfels']:9,d} {row['spilled'] / 2**20:6.0f}MB", end="")
            print(f" {row['resident'] / 2**20:7.0f}MB {row['write']:9.1f}", flush=True)
            rows.append(row)
            start = time.perf_counter()
    return {"walk": rows}


def plot(worlds: dict[str, list[dict]], path: str) -> None:
    """Plot milliseconds over surfels: ours, torch, and the bandwidth floor."""
    import matplotlib.pyplot as plt  # late, as above

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, (world, rows) in zip(axes, worlds.items(), strict=True):
        x = [row["surfels"] for row in rows]
        for name, color in (("read", "C0"), ("vote", "C2"), ("write", "C1")):
            if name not in rows[0]:
                continue
            axis.loglog(x, [row[name] for row in rows], color=color, marker="o", label=name)
            slow = [row[f"{name}, torch"] for row in rows]
            axis.loglog(x, slow, color=color, ls=":", marker=".", label=f"{name}, torch code")
        axis.loglog(x, [row["floor"] for row in rows], color="0.6", label="floor of a read")
        axis.set(xlabel="surfels in memory", title=world)
        axis.grid(color="0.9")
    axes[0].set_ylabel("milliseconds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e3, 1e4, 1e5, 1e6])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--long", type=int, help="views of a walk under limits, e.g. 10000")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = options.device
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    rate = bandwidth(device)
    print(f"{name}, {options.threads} threads, {backend(device)}; memory {rate / 1e6:.1f} GB/s")
    house = rooms(0, 6)
    views = house.render(capture_tour(house, aspect=WIDTH / HEIGHT).cameras[:45], HEIGHT, WIDTH)
    query, new, sizes = views.cameras[6:7], views[40:41], [int(n) for n in options.sizes]
    worlds = {"walk through a house": [], "cloud, all in sight": []}
    for count in sizes:
        for world, make in zip(worlds, (walk_through, cloud), strict=True):
            if count <= 2_000_000 or make is cloud:
                memory = make(views if make is walk_through else views[6:7], count)
                worlds[world].append(one_size(memory, query, new, device, rate))
    for world, rows in worlds.items():
        table(world, rows)
    result = {"device": name, "threads": options.threads, "backend": backend(device)}
    result |= {"bandwidth": rate * 1e3, "worlds": worlds, "normals": normals(new, device, rate)}
    result |= {"by views": by_views(views[:1], device), "starting": starting()}
    result |= {"redraw": redraw()}
    if options.long:
        result |= long_walk(options.long)
    if options.plot:
        plot(worlds, options.plot)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
