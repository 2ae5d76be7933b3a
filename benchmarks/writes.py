"""Does a write slow down as the memory grows? 200 steps of four views to and fro through a house.

Prints the seconds per write by quarters of the walk, and the slope of a line fitted to all steps.
Run: python benchmarks/writes.py [--steps N] [--rooms N] [--json FILE]
"""

import argparse
import json
import platform
import time

import numpy as np
import torch

from vmemkit.camera import Cameras
from vmemkit.evaluate import capture_tour
from vmemkit.memory import Memory, write
from vmemkit.scenes import rooms
from vmemkit.structs import cat
from vmemkit.surfels import PointMaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rooms", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    house = rooms(0, options.rooms)
    tours: list[Cameras] = []
    while sum(map(len, tours)) < 4 * options.steps:
        tours.append(capture_tour(house, seed=len(tours)).cameras)
    path, memory, seconds = cat(tours), Memory.empty(device=options.device), []
    for i in range(options.steps):
        views = house.render(path[4 * i : 4 * i + 4], 96, 128).to(options.device)
        maps = PointMaps.from_depth(views.cameras, views.depth)
        start = time.perf_counter()
        memory = write(memory, views, maps)
        len(memory.surfels)  # reads a count back, so that a GPU has finished
        seconds.append(time.perf_counter() - start)
    slope = np.polyfit(np.arange(options.steps), seconds, 1)[0]
    quarters = [float(np.median(part)) for part in np.array_split(seconds, 4)]
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    print(f"{memory} on {device}, {torch.get_num_threads()} threads")
    print("median seconds per write, by quarters: " + "  ".join(f"{q:.4f}" for q in quarters))
    print(
        f"slope: {1e6 * slope:+.1f} microseconds per step, of {1e6 * np.mean(seconds):.0f} on average"
    )
    if options.json:
        result = {"device": device, "quarters": quarters, "slope": slope, "steps": options.steps}
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
