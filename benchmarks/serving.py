"""Does a server make more windows a second for many notebooks at once than for one after the other?

It starts `vmemkit.serving` on this machine, asks for windows of a house one after the other, and then
from many notebooks at once; each window is compared to that of the generator here, to the bit. All
rates are of one run, so their ratios hold where the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter

import torch

from vmemkit.core import same_bits
from vmemkit.generation import Asked, Generation, Generator, Remote, Writer
from vmemkit.generation.diffusion import DiffusionConfig, DiffusionGenerator, PixelCodec
from vmemkit.generation.remote import TOKEN
from vmemkit.nets.unet import UNet, UNetConfig
from vmemkit.scenes import rooms, single_tour
from vmemkit.serving import Service, serving


def network(steps: int) -> DiffusionGenerator:
    """A small network with random weights, the same in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(
            UNetConfig(
                in_channels=55,
                out_channels=48,
                model_channels=32,
                channel_mult=(1, 2),
                num_res_blocks=1,
                attention_resolutions=(2, 1),
                transformer_depth=(1, 1),
                num_head_channels=16,
                context_dim=16,
            )
        )
    codec = PixelCodec(4)
    return DiffusionGenerator(unet.requires_grad_(False), codec, None, DiffusionConfig(steps=steps))


GENERATORS: dict[str, Callable[[], Generator]] = {
    "writer": Writer,
    "network": partial(network, 4),
}


def windows(count: int, height: int, width: int, m: int) -> list[Asked]:
    """Windows of one house, each with a seed of its own."""
    house = rooms(0)
    tour = single_tour(house)
    given, path = house.render(tour.given, height, width), tour.cameras
    starts = [i % (len(path) - m) for i in range(count)]
    return [
        (given, path[s : s + m], torch.Generator().manual_seed(i)) for i, s in enumerate(starts)
    ]


def made(generator: Generator, asked: Sequence[Asked]) -> list[Generation]:
    """The last state of each window, one after the other."""
    results = []
    for context, targets, rng in asked:
        own = torch.Generator().set_state(rng.get_state())
        *_, last = generator(context, targets, own)
        results.append(last)
    return results


def rate(count: int, work: Callable[[], list[Generation]]) -> tuple[float, list[Generation]]:
    """Windows a second, and the windows."""
    start = perf_counter()
    results = work()
    assert len(results) == count
    return count / (perf_counter() - start), results


def differences(states: Sequence[Generation], others: Sequence[Generation]) -> tuple[int, float]:
    """How many windows differ in any bit of their images, and the largest difference of a pixel."""
    pairs = [(a.image, b.image) for a, b in zip(states, others, strict=True)]
    unequal = sum(not same_bits(a, b) for a, b in pairs)
    return unequal, max(float((a - b).abs().max()) for a, b in pairs)


def host(name: str, options: argparse.Namespace) -> None:
    """Serve until the standard input ends; prints the URL."""
    service = Service(
        GENERATORS[name], {}, os.environ[TOKEN], replicas=options.replicas, at_once=options.at_once
    )
    with serving(service) as url:
        print(url, flush=True)
        sys.stdin.read()


@contextmanager
def hosted(name: str, options: argparse.Namespace) -> Iterator[Remote]:
    """A server in a process of its own, as for notebooks."""
    command = [sys.executable, __file__, "--serve", name]
    command += ["--replicas", str(options.replicas), "--at-once", str(options.at_once)]
    os.environ[TOKEN] = secrets.token_urlsafe(24)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield Remote(next(line.strip() for line in process.stdout if line.startswith("http")))
        finally:
            process.communicate()


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """A row: windows a second here, by the server one by one, and by the server for all notebooks."""
    asked = windows(options.windows, options.height, options.height * 4 // 3, options.m)
    start = perf_counter()
    with hosted(name, options) as remote, ThreadPoolExecutor(options.notebooks) as pool:
        ready, local = perf_counter() - start, GENERATORS[name]()
        list(pool.map(partial(made, remote), [asked[:1]] * options.notebooks))  # loads kernels
        here, wanted = rate(len(asked), lambda: made(local, asked))
        one, singly = rate(len(asked), lambda: made(remote, asked))
        shares = [asked[i :: options.notebooks] for i in range(options.notebooks)]
        many, results = rate(
            len(asked), lambda: list(chain(*pool.map(partial(made, remote), shares)))
        )
    order = [i for n in range(options.notebooks) for i in range(n, len(asked), options.notebooks)]
    unequal, largest = differences(results, [wanted[i] for i in order])
    return {
        "generator": name,
        "replicas": options.replicas,
        "windows": len(asked),
        "at once": options.at_once,
        "seconds to start": round(ready, 1),
        "a second here": round(here, 2),
        "one by one": round(one, 2),
        f"{options.notebooks} notebooks": round(many, 2),
        "ratio": round(many / one, 2),
        "windows that differ": [differences(singly, wanted)[0], unequal],
        "largest difference": largest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", choices=GENERATORS, default=list(GENERATORS))
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--notebooks", type=int, default=20)
    parser.add_argument("--replicas", type=int, default=os.cpu_count())
    parser.add_argument("--at-once", type=int, default=1, help="windows in a batch (%(default)s)")
    parser.add_argument("--height", type=int, default=24)
    parser.add_argument("--m", type=int, default=4, help="targets of a window")
    parser.add_argument("--json")
    parser.add_argument("--serve", choices=GENERATORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in a replica
    if options.serve:
        host(options.serve, options)
        return
    rows = []
    for name in options.generators:
        rows.append(measure(name, options))
        print(*(f"{key}: {value}" for key, value in rows[-1].items()), sep=", ", flush=True)
    if options.json:
        machine = {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "torch": torch.__version__,
        }
        Path(options.json).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
