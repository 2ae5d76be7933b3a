"""What a session costs: the share of a walk's time, bytes per step, and seconds until it is open again.

A walk through a two-room house is taken by `Warp` and by `Writer`, each step kept by a session; `add`
is timed apart. Beside it a file of as many bytes is written and flushed, which is what the disk alone
takes. Then a session of many small steps is written, opened, and its last memory and all its steps are
read.
Run: python benchmarks/sessions.py [--steps N] [--small N] [--folder DIR] [--json FILE]
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from vmemkit.core import cameras, intrinsics, look_at
from vmemkit.generation import Generator, Warp, Writer
from vmemkit.memory import begin
from vmemkit.pipeline import Step, WalkConfig, walk
from vmemkit.scenes import capture_tour, rooms
from vmemkit.sessions import Session

M = 4  # views per step


class Timed:
    """A session whose `add` is timed."""

    def __init__(self, session: Session) -> None:
        self.session, self.seconds = session, 0.0

    def start(self, memory) -> int:
        return self.session.start(memory)

    def add(self, step: Step, *, config: WalkConfig | None = None) -> int:
        began = perf_counter()
        node = self.session.add(step, config=config)
        self.seconds += perf_counter() - began
        return node


def kept(generator: Generator, size: tuple[int, int], steps: int, folder: Path) -> dict:
    """Seconds of a step and of keeping it, and its bytes; the first step compiles and is left out."""
    house = rooms(0)
    path = capture_tour(house, aspect=size[1] / size[0]).cameras
    memory = begin(house.render(path[:M], *size))
    with Session(folder) as session:
        timed = Timed(session)
        timed.start(memory)
        walked = walk(memory, path[M : M * (steps + 2)], generator=generator, m=M, session=timed)
        next(walked)
        timed.seconds, began, before = 0.0, perf_counter(), session.size
        for _ in walked:
            pass
        whole = perf_counter() - began
        per_step = (session.size - before) // steps
    return {
        "step": (whole - timed.seconds) / steps,
        "add": timed.seconds / steps,
        "share": timed.seconds / (whole - timed.seconds),
        "disk": flushed(folder, per_step),
        "bytes": per_step,
    }


def flushed(folder: Path, size: int) -> float:
    """Least seconds to write so many bytes and wait until they are on the disk."""
    content, times = os.urandom(size), []
    for _ in range(3):
        began = perf_counter()
        with (folder / "probe").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        times.append(perf_counter() - began)
    (folder / "probe").unlink()
    return min(times)


def many(steps: int, folder: Path) -> dict:
    """Seconds to write, open and read a session of small steps of one view each."""
    house = rooms(0)
    start = capture_tour(house).cameras[0]
    turn = torch.linspace(0, 40, steps)
    ahead = torch.stack([turn.sin(), 0 * turn, turn.cos()], -1)
    eye = start.position.expand(steps, 3)
    path = cameras(look_at(eye, eye + ahead), intrinsics(75, 4 / 3))
    memory, times = begin(house.render(path[:1], 12, 16)), {}
    began = perf_counter()
    with Session(folder) as session:
        for _ in walk(memory, path, policy="temporal", m=1, session=session):
            pass
        size = session.size
    times["write"] = perf_counter() - began
    began = perf_counter()
    session = Session(folder, readonly=True)
    nodes = len(session.tree)
    times["open"] = perf_counter() - began
    began = perf_counter()
    views = len(session.memory())
    times["memory"] = perf_counter() - began
    began = perf_counter()
    read = sum(1 for _ in Session(folder, readonly=True).steps())
    times["all steps"] = perf_counter() - began
    assert nodes == views == read + 1 == steps + 1
    return {"steps": steps, "bytes": size} | times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument(
        "--folder", help="on the disk to measure; by default that of temporary files"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        print(f"seconds of a step of {M} views, {platform.machine()}, {options.threads} threads")
        print("generator      image    step  kept in  share   the disk   bytes a step")
        for size in ((96, 128), (288, 512)):
            for label, generator in (("warp", Warp()), ("writer", Writer())):
                row = kept(generator, size, options.steps, folder / f"{label}{size[0]}")
                print(
                    f"{label:9s} {size[0]:4d} x {size[1]:3d} {row['step']:7.3f} {row['add']:8.3f} "
                    f"{row['share']:6.1%} {row['disk']:10.3f} {row['bytes']:14,d}",
                    flush=True,
                )
                rows.append({"generator": label, "image": size} | row)
        small = many(options.small, folder / "many")
    print(
        f"{small['steps']} small steps, {small['bytes'] / 1e6:.0f} MB: written in {small['write']:.1f} "
        f"s, open in {small['open']:.2f} s, the last memory read in {small['memory']:.2f} s, all steps "
        f"in {small['all steps']:.1f} s"
    )
    if options.json:
        Path(options.json).write_text(
            json.dumps(
                {
                    "device": platform.machine(),
                    "threads": options.threads,
                    "rows": rows,
                    "small": small,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
