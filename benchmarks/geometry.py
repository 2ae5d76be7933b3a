"""How good is a reconstructor's depth, and what does it cost?

1. Ways of alignment, for depth that a simulated network spoiled by known amounts: relative depth
   error, and true coverage by two retrieved views, relative to the best choice. The walks start from
   one view with true depth and go through two-room houses and back; all images are true.
2. Seconds per step along a walk: with CUT3R's state kept, and with all frames run again.
3. FLOPs of a frame at the published size, counted.
Run: python benchmarks/geometry.py [--seeds N] [--views N] [--json FILE]
"""

import argparse
import dataclasses
import json
import platform
import time
from statistics import mean

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vmemkit.core import cat
from vmemkit.evaluation import (
    CORRUPTIONS,
    ReconstructorScores,
    SimulatedNetwork,
    evaluate_reconstructor,
)
from vmemkit.memory import begin, write
from vmemkit.nets.cut3r import CUT3R, CUT3RConfig
from vmemkit.reconstruction import AlignConfig, Cut3r, oracle
from vmemkit.scenes import capture_tour, rooms, single_tour

SIZE = (96, 128)
ALIGNERS = ("none", "released", "full", "direct")
PNP = AlignConfig(pnp_pixels=5 * 128 / 512)  # the same share of the image as in the released code
SMALL = CUT3RConfig(
    state_size=48,
    img_size=(128, 128),
    enc_embed_dim=256,
    enc_depth=6,
    enc_num_heads=8,
    dec_embed_dim=192,
    dec_depth=4,
    dec_num_heads=4,
    state_dec_num_heads=4,
    local_mem_size=32,
    layer_dims=(24, 48, 96, 192),
    feature_dim=64,
    last_dim=32,
)


def table(seeds: int) -> list[dict]:
    print(f"{'the network spoils':27s} {'aligner':9s} depth error  worst kept  coverage  trusted")
    rows = []
    for label, corruption in CORRUPTIONS.items():
        scores: dict[str, list[ReconstructorScores]] = {}
        for seed in range(seeds):
            house = rooms(seed, 2)
            tour = single_tour(house, seed)
            seen = cat([tour.given, tour.cameras])
            for name in ALIGNERS:
                net = SimulatedNetwork(house, seen, SIZE, corruption, seed=seed)
                kept = "keep" if name == "none" else "distrust"
                how = Cut3r(net, align=name, failures=kept, optimiser=PNP)
                scores.setdefault(name, []).append(
                    evaluate_reconstructor(house, tour, how, k=2, size=SIZE)
                )
            if label == "unit":
                true = evaluate_reconstructor(house, tour, oracle(house), k=2, size=SIZE)
                scores.setdefault("(truth)", []).append(true)
        for name, of_houses in scores.items():
            fields = ("error", "worst", "coverage", "trusted")
            row = {field: mean(getattr(v, field) for v in of_houses) for field in fields}
            rows.append({"corruption": label, "aligner": name, **row})
            numbers = "{error:10.1%} {worst:11.1%} {coverage:9.3f} {trusted:8.0%}".format(**row)
            print(f"{label:27s} {name:9s} {numbers}", flush=True)
    return rows


def small_network() -> CUT3R:
    """A network with seeded weights whose depth is positive."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CUT3R(SMALL).eval().requires_grad_(False)
    for head in (net.downstream_head.dpt_self, net.downstream_head.dpt_cross):
        head.head[4].bias[2] += 2
    return net


def slopes(views: int, m: int = 4) -> list[dict]:
    """Seconds per step of m views. The memory's geometry is true, so only costs differ."""
    house, net, rows = rooms(0, 2), small_network(), []
    path = cat([capture_tour(house, seed).cameras for seed in range(1 + views // 60)])[:views]
    seen = house.render(path, *SIZE)
    print(f"\n{'seconds per step':22s} {'first':>8s} {'last':>8s} {'slope per 100 views':>20s}")
    for name, again in (
        ("direct", False),
        ("released", False),
        ("direct", True),
        ("released", True),
    ):
        how, memory, seconds = Cut3r(net, name, failures="keep", optimiser=PNP), begin(seen[:m]), []
        for start in range(m, views, m):
            new = seen[start : start + m]
            before = dataclasses.replace(memory, _states=()) if again else memory
            clock = time.perf_counter()
            state = how.with_memory(before)(new).state
            seconds.append(time.perf_counter() - clock)
            memory = write(memory, new, state)
        seconds = seconds[1:]  # the first step also processes the given views
        at = m * np.arange(len(seconds))
        slope = 100 * float(np.polyfit(at, seconds, 1)[0])
        first, last = float(np.median(seconds[:4])), float(np.median(seconds[-4:]))
        label = f"{name}, {'all again' if again else 'state kept'}"
        print(f"{label:22s} {first:8.3f} {last:8.3f} {slope:+20.4f}", flush=True)
        row = {"run": label, "first": first, "last": last, "slope_per_100_views": slope}
        rows.append(row | {"surfels": len(memory.surfels)})
    print(f"the memory grew to {len(memory.surfels)} surfels, all of which are looked at")
    return rows


def flops() -> dict[str, float]:
    """GFLOP of a frame of the published network (a multiplication and an addition count as two)."""
    counted = {}
    for label, height, heads in (
        ("512 x 384, all heads", 384, ("pose", "self", "other", "rgb")),
        ("512 x 384, what direct needs", 384, ("self",)),
        ("512 x 384, what released needs", 384, ("other",)),
        ("512 x 288, all heads", 288, ("pose", "self", "other", "rgb")),
    ):
        with torch.device("meta"):
            net = CUT3R(CUT3RConfig())
            state = dataclasses.replace(net.begin(), started=True)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                net.step(state, torch.zeros(1, 3, height, 512), heads)
        counted[label] = counter.get_total_flops() / 1e9
    print("\nGFLOP per frame at the published size")
    for label, value in counted.items():
        print(f"{label:32s} {value:8.0f}")
    one = counted["512 x 384, what direct needs"]
    rerun = 100 * counted["512 x 384, all heads"]
    print(
        f"a step of 4 views after 96: {4 * one / 1e3:.1f} TFLOP, all again {rerun / 1e3:.1f} TFLOP"
    )
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--views", type=int, default=100)
    parser.add_argument("--json")
    options = parser.parse_args()
    result = {
        "device": platform.machine(),
        "threads": torch.get_num_threads(),
        "aligners": table(options.seeds),
        "steps": slopes(options.views),
        "gflop": flops(),
    }
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
