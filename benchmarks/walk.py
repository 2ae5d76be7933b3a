"""Where the time of a step goes: milliseconds of every stage of a walk, by generator.

The walk goes through a two-room house, four views per step: with `Warp` at several image sizes and at
one or half a surfel per pixel and axis, and with `Writer` at the smallest. The first step compiles
and is left out; results are medians of the others. The torch code of the memory runs for comparison.
Then houses, which `Writer` renders in each step, are rendered by both implementations in turn, and
so are steps of `Warp` with every kernel and with none.
Run: python benchmarks/walk.py [--steps N] [--device cuda] [--json FILE]
"""

import argparse
import json
import os
import platform
from contextlib import nullcontext
from statistics import median
from time import perf_counter

import torch

from vmemkit.core import SurfelConfig
from vmemkit.core.kernels import backend, use
from vmemkit.generation import Generator, Warp, Writer
from vmemkit.memory import MemoryConfig, begin
from vmemkit.pipeline import STAGES, walk
from vmemkit.scenes import capture_tour, rooms

GIVEN, M = 8, 4  # views in the memory at the start; views per step
DRAWN, ROUNDS = (180, 240), 6  # size of rendered views; how often each implementation renders them
WARPED = ((96, 128), (288, 512), (576, 576))  # sizes at which steps of `Warp` are timed alone


def spent(
    generator: Generator, size: tuple[int, int], shrink: float, steps: int, device: str
) -> dict:
    """Median milliseconds of each stage, and the number of surfels and views at the end."""
    house = rooms(0)
    path = capture_tour(house, aspect=size[1] / size[0]).cameras
    given = house.render(path[:GIVEN], *size).to(device)
    memory = begin(given, MemoryConfig(SurfelConfig(shrink=shrink)))
    targets = path[GIVEN : GIVEN + M * (steps + 1)].to(device)
    seconds = []
    for step in walk(memory, targets, generator=generator, m=M):
        memory = step.memory
        len(memory.surfels)  # reads a count back, so the GPU has finished
        seconds.append(step.seconds)
    stages = {name: 1e3 * median(s[name] for s in seconds[1:]) for name in STAGES}
    return stages | {"surfels": len(memory.surfels), "views": len(memory)}


def drawn(n_rooms: int, device: str) -> dict:
    """Least milliseconds of a view of a house, by implementation; these run in turn."""
    house = rooms(0, n_rooms=n_rooms).to(device)
    cameras = capture_tour(rooms(0, n_rooms=n_rooms)).cameras[:: 2 * n_rooms].to(device)
    times: dict[str, list[float]] = {name: [] for name in dict.fromkeys((backend(device), "torch"))}
    for _ in range(ROUNDS):
        for name, spent in times.items():
            with use(name):
                start = perf_counter()
                house.render(cameras, *DRAWN, samples=2).image.sum().item()
            spent.append(1e3 * (perf_counter() - start) / len(cameras))
    return {name: min(spent[1:]) for name, spent in times.items()}  # the first round compiles


def warped(size: tuple[int, int], device: str) -> dict:
    """Mean milliseconds of a step of `Warp`, by implementation; these run each step in turn.

    Three steps along a tour, each from four of the eight views before it.
    """
    house = rooms(0)
    path = capture_tour(house, aspect=size[1] / size[0]).cameras
    views = house.render(path[: GIVEN + 2 * M], *size).to(device)
    times: dict[str, list[float]] = {name: [] for name in dict.fromkeys((backend(device), "torch"))}
    for first in (GIVEN, GIVEN, GIVEN + M, GIVEN + 2 * M):
        context, targets = views[first - GIVEN : first : 2], path[first : first + M].to(device)
        for name, spent in times.items():
            with use(name):
                start = perf_counter()
                *_, made = Warp()(context, targets, torch.Generator())
                made.image.sum().item()
            spent.append(1e3 * (perf_counter() - start))
    return {
        name: sum(spent[1:]) / len(spent[1:]) for name, spent in times.items()
    }  # first: compiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json")
    options = parser.parse_args()
    most = (len(capture_tour(rooms(0)).cameras) - GIVEN) // M - 1  # the first step is not counted
    if not 1 <= options.steps <= most:
        parser.error(f"the walk has 1 to {most} steps, got {options.steps}")
    torch.set_num_threads(options.threads)
    device = options.device
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"milliseconds of a step of {M} views, {name}, {options.threads} threads")
    header = " ".join(f"{stage:>11s}" for stage in STAGES)
    print(f"{'generator':10s} {'image':>9s} {'shrink':>6s} {'memory by':>9s} {header}  surfels")
    cases = [("warp", size, shrink) for size in ((96, 128), (288, 512)) for shrink in (0.5, 1.0)]
    rows = []
    for label, size, shrink in [*cases, ("writer", (96, 128), 0.5)]:
        generator = Warp() if label == "warp" else Writer()
        for engine in dict.fromkeys((backend(device), "torch")):
            with use(engine) if engine == "torch" else nullcontext():
                row = spent(generator, size, shrink, options.steps, device)
            cells = " ".join(f"{row[stage]:11.1f}" for stage in STAGES)
            image = f"{size[0]} x {size[1]}"
            print(f"{label:10s} {image:>9s} {shrink:6.1f} {engine:>9s} {cells}", end="")
            print(f" {row['surfels']:8,d}", flush=True)
            rows.append({"generator": label, "image": size, "shrink": shrink, "memory by": engine})
            rows[-1] |= row
    houses = []
    print(f"milliseconds of a view of a house, {DRAWN[0]} x {DRAWN[1]} with 2 x 2 samples at edges")
    for n_rooms in (2, 3, 5):
        view = drawn(n_rooms, device)
        times = ", ".join(f"{name} {ms:.1f}" for name, ms in view.items())
        ratio = view["torch"] / view[backend(device)]
        print(f"{n_rooms} rooms: {times}, ratio {ratio:.2f}", flush=True)
        houses.append({"rooms": n_rooms, "ratio": ratio} | view)
    steps = []
    print(f"milliseconds of a step of {M} views by Warp alone")
    for size in WARPED:
        step = warped(size, device)
        times = ", ".join(f"{name} {ms:.0f}" for name, ms in step.items())
        ratio = step["torch"] / step[backend(device)]
        print(f"{size[0]} x {size[1]}: {times}, ratio {ratio:.2f}", flush=True)
        steps.append({"image": size, "ratio": ratio} | step)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {
                    "device": name,
                    "threads": options.threads,
                    "rows": rows,
                    "houses": houses,
                    "warp alone": steps,
                },
                file,
                indent=1,
            )


if __name__ == "__main__":
    main()
