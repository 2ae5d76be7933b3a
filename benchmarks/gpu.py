"""What a GPU has to tell, in one command that loses nothing: `make gpu`.

The parts below run in the order of their worth, each in a process of its own with a time limit.
After each part, and after each measurement within it, the results so far are in OUT/gpu.json; what
the parts print is in OUT/gpu.log. A part that fails, hangs or lacks a package is a row that says so.
Without CUDA, every part runs at smoke size on the CPU, so that none can rot.
Run: python benchmarks/gpu.py [--budget 540] [--out out/gpu] [--device cpu] [--parts memory unet]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from generator import (
    FRAMES,
    Setup,
    autoencoder,
    ceiling,
    measure,
    our_step,
    prepared,
    random_unet,
    scene,
)
from geometry import SMALL
from memory import HEIGHT, PER_PIXEL, PER_SURFEL, WIDTH, at_its_end, bandwidth, clock, cloud
from walk import spent

from vmemkit.core import Cameras, Surfels, replacing
from vmemkit.core.kernels import backend, use
from vmemkit.generation import Warp, Writer
from vmemkit.generation.diffusion import VaeCodec
from vmemkit.memory import Memory, begin, read, write
from vmemkit.nets.cut3r import CUT3R, CUT3RConfig
from vmemkit.nets.unet import UNetConfig
from vmemkit.pipeline import retrieve, step
from vmemkit.reconstruction import Cut3r
from vmemkit.retrieval import count_votes, pixels_per_surfel
from vmemkit.scenes import capture_tour, rooms

REPOSITORY = Path(__file__).resolve().parents[1]
LEAST = 10.0  # seconds of the budget that must be left for a part to start
TINY = UNetConfig(model_channels=64, num_res_blocks=1, context_dim=64)  # at smoke size
TAIL = 20  # lines of its output that the row of a failed part keeps
Result = dict[str, Any]


# ---- the parts -----------------------------------------------------------------------------------
# Each takes a device ("cuda" or "cpu", which means smoke size) and yields results as it has them.


def machine(device: str) -> Iterator[Result]:
    """The card with its software, and its own limits: memory bandwidth and matrix rate."""
    yield {"python": platform.python_version(), "torch": torch.__version__}
    yield {"triton": version("triton") if find_spec("triton") else None}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        yield {"card": card.name, "memory, GB": card.total_memory / 1e9}
        yield {"cuda": torch.version.cuda, "capability": f"{card.major}.{card.minor}"}
        yield {"multiprocessors": card.multi_processor_count, "driver": _driver()}
    else:
        yield {"card": f"cpu {platform.machine()}", "threads": torch.get_num_threads()}
    yield {"bandwidth, GB/s": bandwidth(device) / 1e6}
    setup = _setup(device)
    yield {"precision": str(setup.dtype), "matrix products, TFLOP/s": ceiling(setup)}


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def tests(device: str) -> Iterator[Result]:
    """The tests that need CUDA; at smoke size, one file of the same tests in Triton's interpreter."""
    places = ("core", "memory", "retrieval", "generation", "test_gpu_waits.py")
    what = [
        *(f"tests/{place}" for place in places),
        "-k",
        "cuda",
        "--continue-on-collection-errors",
    ]
    what = what if device == "cuda" else ["tests/core/test_cuda.py", "-k", "far_end"]
    command = [sys.executable, "-m", "pytest", "-q", *what]
    command += ["-p", "no:cacheprovider", "-p", "no:jaxtyping"]
    command += ["-o", "addopts=--import-mode=importlib"]
    if device == "cpu":  # the interpreter computes lanes that are off as well: 0 / 0
        command += ["-W", "ignore::RuntimeWarning"]
    variables = os.environ | ({} if device == "cuda" else {"TRITON_INTERPRET": "1"})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command += [f"--junitxml={report}"]
        subprocess.run(command, cwd=REPOSITORY, env=variables, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {
        f"{case.get('classname')}::{case.get('name')}": str(trouble.get("message"))[:300]
        for case in cases
        for trouble in (*case.findall("failure"), *case.findall("error"))
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    yield {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed}
    if not cases:
        raise ValueError("pytest ran no test: see the log")


def memory(device: str) -> Iterator[Result]:
    """Reads, votes, choices and writes, beside the torch code and the time that the bytes take."""
    rate = bandwidth(device)
    house = rooms(0)
    path = capture_tour(house, aspect=WIDTH / HEIGHT).cameras
    view = house.render(path[:1], HEIGHT, WIDTH)
    sizes = (100_000, 1_000_000, 10_000_000) if device == "cuda" else (10_000,)
    rows: list[Result] = []
    yield {"backend": backend(device), "image": [HEIGHT, WIDTH]}
    wall = large_disc(path[:1].to(device))
    job = functools.partial(read, wall, path[:1].to(device), HEIGHT, WIDTH)
    yield {"read of one disc that fills the image, ms": clock(job, device, 5)}
    for count in sizes:
        held, new = cloud(view, count).to(device), view.to(device)
        for cameras in (1, 4):
            query = path[:cameras].to(device)

            def see(query=query, held=held):
                return read(held, query, HEIGHT, WIDTH)

            def vote(held=held, see=see):
                return count_votes(held, pixels_per_surfel(held, see()))

            jobs = {"read": see, "read + vote": vote}
            jobs["choose"] = lambda query=query, held=held: retrieve(held, query, 1, "coverage")
            floor = (PER_SURFEL * count + cameras * PER_PIXEL * HEIGHT * WIDTH) / rate
            row: Result = {"surfels": count, "cameras": cameras, "floor, ms": floor}
            for name, job in jobs.items():
                row[f"{name}, ms"] = clock(job, device, 5)
                if count <= 1_000_000:
                    row[f"{name} by torch, ms"] = clock(use("torch")(job), device, 1)
            rows.append(row)
            yield {"rows": rows}
        after = write(held, new)  # two views: the last one is written again and again
        row = {"surfels": len(after.surfels), "points": HEIGHT * WIDTH}
        job = lambda given, new=new: write(given, new)  # noqa: E731
        row["write, ms"] = clock(job, device, 5, at_its_end(after))
        rows.append(row)
        yield {"rows": rows}


def large_disc(camera: Cameras) -> Memory:
    """A memory of one disc before the camera that fills its image: all work for one block of lanes."""
    ahead = camera.position + camera.forward
    size = torch.tensor([10.0], device=ahead.device)
    disc = Surfels(ahead, camera.forward, size, torch.zeros_like(ahead))
    memory = Memory.empty(device=ahead.device)
    return dataclasses.replace(memory, _surfels=memory._surfels.replaced(disc))


def unet(device: str) -> Iterator[Result]:
    """The published UNet with random weights, eager, beside the reference in the same process."""
    yield measure(_setup(device), 3 if device == "cuda" else 1)
    yield {"step by layout, s": layouts(_setup(device))}


def layouts(setup: Setup) -> dict[str, float]:
    """A step of the network by the layout of its tensors: in channels-last, each group norm on a GPU
    changes the layout twice, and without it each convolution may."""
    seconds = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        network = prepared(setup, random_unet(setup), _Latents(), None).unet
        network = network.to(memory_format=layout)
        config, side = network.config, setup.side
        x = torch.randn(2 * FRAMES, config.in_channels, side, side, device=setup.device)
        y = torch.randn(2 * FRAMES, 1, config.context_dim, device=setup.device)
        rays = torch.randn(FRAMES, config.dense_in_channels, side, side, device=setup.device)
        index = torch.tensor([500], device=setup.device)
        with torch.no_grad():
            x = x.to(setup.dtype, memory_format=layout)
            fixed = network.fixed(y.to(setup.dtype), rays.to(setup.dtype), side, side, FRAMES)
            job = functools.partial(network.denoise, x, index, fixed, FRAMES)
            times = 5 if setup.device == "cuda" else 1
            seconds[str(layout)[6:]] = clock(job, setup.device, times) / 1e3
    return seconds


def _setup(device: str) -> Setup:
    """The published network without compilation, or a small one in small windows and few steps."""
    setup = dataclasses.replace(Setup.on(device, None), modes=(None,))
    if device == "cuda":
        return setup
    return dataclasses.replace(setup, config=TINY, side=8, products=(256,), steps=2)


def compiled_unet(device: str) -> Iterator[Result]:
    """A step of our network, compiled; the first call, which compiles, apart."""
    setup = _setup(device)
    mode = "default" if device == "cuda" else None
    generator = prepared(setup, random_unet(setup), _Latents(), mode)
    context, targets = scene(generator, setup)
    with torch.no_grad():
        job = our_step(setup, generator, generator.window(context, targets))
        start = time.perf_counter()
        job()
        if device == "cuda":
            torch.cuda.synchronize()
        yield {"first step, s": time.perf_counter() - start}
        yield {"step, s": clock(job, device, 5) / 1e3}


class _Latents(torch.nn.Module):
    """A codec whose latents are random, in the place of the VAE."""

    channels, factor = 4, 8

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        n, _, h, w = image.shape
        return torch.randn(n, self.channels, h // 8, w // 8, device=image.device)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        n, _, h, w = latent.shape
        return torch.rand(n, 3, 8 * h, 8 * w, device=latent.device)


def coders(device: str) -> Iterator[Result]:
    """Seconds an image: the VAE's decoder, in float32 and bfloat16, and CLIP's image tower."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    full, setup = device == "cuda", _setup(device)
    side = setup.side
    with torch.no_grad():
        vae = autoencoder(setup.vae, device)
        for dtype in (torch.float32, torch.bfloat16) if full else (torch.float32,):
            vae = vae.to(dtype)
            for n in (1, 4):
                latent = torch.randn(n, 4, side, side, device=device, dtype=dtype)
                milliseconds = clock(lambda x=latent, v=vae: v.decode(x).sample, device, 3)
                yield {f"VAE, {n} at a time, {str(dtype)[6:]}, s": milliseconds / 1e3 / n}
        shape = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
        shape |= {"num_attention_heads": 16, "patch_size": 14, "projection_dim": 1024}
        little = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        with torch.device(device):
            tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**(shape if full else little)))
        dtype = torch.bfloat16 if full else torch.float32
        tower = tower.eval().to(dtype)
        pixels = torch.randn(4, 3, 224, 224, device=device, dtype=dtype)
        yield {"CLIP, s": clock(lambda: tower(pixel_values=pixels), device, 3) / 1e3 / 4}


def cut3r(device: str) -> Iterator[Result]:
    """A frame by CUT3R at its published size, with random weights."""
    network, size = _cut3r(device), (384, 512) if device == "cuda" else (32, 48)
    image = torch.rand(1, 3, *size, device=device) * 2 - 1
    with torch.no_grad():
        state, _ = network.step(network.begin(), image)
        one = clock(lambda: network.step(state, image, ("self",)), device, 3) / 1e3
        yield {"a frame, one head, s": one}
        yield {"a frame, all heads, s": clock(lambda: network.step(state, image), device, 3) / 1e3}


def _cut3r(device: str) -> torch.nn.Module:
    """The published network, or a small one, with random weights that see something ahead."""
    with torch.device(device):
        network = CUT3R(CUT3RConfig() if device == "cuda" else SMALL).eval().requires_grad_(False)
    for head in (network.downstream_head.dpt_self, network.downstream_head.dpt_cross):
        head.head[4].bias[2] += 3  # z of the points
    return network


def whole_step(device: str) -> Iterator[Result]:
    """VMem's pipeline with random weights: seconds of each stage, and where CUDA waits for the CPU."""
    setup = _setup(device)
    codec = VaeCodec(autoencoder(setup.vae, device))
    generator = prepared(setup, random_unet(setup), codec, None)
    house, side = rooms(0), 8 * setup.side
    path = capture_tour(house, aspect=1.0).cameras
    memory = begin(house.render(path[:4], side, side).to(device))
    targets, geometry = path[4:8].to(device), Cut3r(_cut3r(device), failures="keep")
    how = {"generator": generator, "reconstructor": geometry, "k": 4}
    step(memory, targets, **how)  # compiles kernels
    yield {"seconds": step(memory, targets, **how).seconds}
    yield {"peak, GB": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device == "cuda":  # it is the process's last step, so this need not be undone
            torch.cuda.set_sync_debug_mode("warn")
        step(memory, targets, **how)
    waits = Counter(_place(w) for w in caught if "synchroniz" in str(w.message))
    yield {"waits": dict(waits.most_common(60)), "waits in all": sum(waits.values())}


def _place(warning: warnings.WarningMessage) -> str:
    path = Path(warning.filename)
    inside = path.is_relative_to(REPOSITORY)
    return f"{path.relative_to(REPOSITORY) if inside else path.name}:{warning.lineno}"


def walks(device: str) -> Iterator[Result]:
    """Milliseconds of the stages of a step by `Warp` and by `Writer`, on this device and on the CPU."""
    full = device == "cuda"
    size, steps = ((288, 512), 4) if full else ((24, 32), 1)
    rows: list[Result] = []
    for name, generator in (("warp", Warp()), ("writer", Writer())):
        for where in dict.fromkeys((device, "cpu")):
            rows.append({"generator": name, "device": where, "image": list(size)})
            rows[-1] |= spent(generator, size, 0.5, steps, where)
            yield {"rows": rows}


@dataclasses.dataclass(frozen=True)
class Part:
    """A part: what it runs, its time limit in seconds, and packages that some machines lack."""

    run: Callable[[str], Iterator[Result]]
    seconds: float
    needs: tuple[str, ...] = ()


PARTS = {  # the most valuable first
    "machine": Part(machine, 60),
    "tests": Part(tests, 150, ("pytest", "hypothesis", "triton")),
    "memory": Part(memory, 120),
    "unet": Part(unet, 150, ("diffusers",)),
    "coders": Part(coders, 60, ("diffusers", "transformers")),
    "cut3r": Part(cut3r, 60),
    "whole step": Part(whole_step, 120, ("diffusers",)),
    "walks": Part(walks, 90),
    "compiled unet": Part(compiled_unet, 240),
}


# ---- the runner ----------------------------------------------------------------------------------


def run_parts(
    parts: dict[str, Part], device: str, out: Path, budget: float, child: list[str]
) -> list[Result]:
    """Run the parts one after the other; returns their rows, which OUT/gpu.json holds all along.

    A part that does not end in its time is stopped with all that it started, and the next one runs.
    `child` is the command that runs one part: the part, device and result file are added to it.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Result] = []
    end = time.monotonic() + budget
    with (out / "gpu.log").open("w") as log:
        for name, part in parts.items():
            missing = [package for package in part.needs if find_spec(package) is None]
            left = end - time.monotonic()
            if missing:
                row = {"state": "left out", "why": f"needs {', '.join(missing)}"}
            elif left < LEAST:
                row = {"state": "left out", "why": "no time was left"}
            else:
                result = out / "part.json"
                command = [*child, "--part", name, "--device", device, "--result", str(result)]
                row = _run(command, min(part.seconds, left), result, log)
            rows.append({"part": name} | row)
            _save(out / "gpu.json", {"device": device, "budget": budget, "parts": rows})
            print(_line(rows[-1]), flush=True)
    return rows


def _run(command: list[str], seconds: float, result: Path, log) -> Result:
    """The row of one part."""
    result.unlink(missing_ok=True)
    header, start = f"==== {' '.join(command)}\n", time.monotonic()
    log.write(header)
    log.flush()
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    row: Result = {}
    try:
        row["state"] = "done" if process.wait(seconds) == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        row = {"state": "cut", "why": f"took over {seconds:.0f} s"}
    row["seconds"] = round(time.monotonic() - start, 1)
    if row["state"] == "failed":
        _, _, said = Path(log.name).read_text(errors="replace").rpartition(header)
        row["why"] = "\n".join(said.splitlines()[-TAIL:])
    if result.exists():
        row["result"] = json.loads(result.read_text())
        result.unlink()
    return row


def _save(path: Path, value: object) -> None:
    with replacing(path) as draft:  # the file is whole at any moment
        draft.write_text(json.dumps(value, indent=1) + "\n")


def _line(row: Result) -> str:
    why = str(row.get("why", "")).splitlines()
    return f"{row['part']:14s} {row['state']:9s} {row.get('seconds', 0):6.1f} s  {why[-1] if why else ''}"


def run_part(part: Part, device: str, result: Path) -> None:
    """Run one part in this process; its results are in the file as soon as it yields them."""
    known: Result = {}
    for news in part.run(device):
        known |= news
        _save(result, known)
    print(json.dumps(known, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(PARTS[options.part], options.device, options.result)
        return 0
    chosen = {name: PARTS[name] for name in PARTS if name in options.parts}
    child = [sys.executable, str(Path(__file__).resolve())]
    rows = run_parts(chosen, options.device, options.out, options.budget, child)
    print(f"results are in {options.out / 'gpu.json'}")
    return int(any(row["state"] == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
