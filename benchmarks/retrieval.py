"""True coverage of the targets by the chosen views, relative to the best choice, for each policy.

Tours through two-room houses (out, a look around, back by other poses); the memory holds true views;
K = 4, M = 4. --shrink compares memories of few and of many surfels (surfels per pixel and axis).
--noise makes depth and poses wrong, in other worlds, too, and also judges the sightings (noise.py).
Run: python benchmarks/retrieval.py [--seeds 0 1 ...] [--rooms N] [--shrink 0.05 ...] [--json FILE]
     [--noise [NAME ...]] [--policies NAME ...]
"""

import argparse
import json
from collections.abc import Sequence
from statistics import mean

from noise import by_noise

from vmemkit.core import SurfelConfig
from vmemkit.evaluation import NOISES, compare_policies
from vmemkit.memory import MemoryConfig
from vmemkit.retrieval import POLICIES, Hard, Policy, RetrievalConfig, SurfelVotes
from vmemkit.scenes import capture_tour, rooms

COMPARED = ("coverage", "surfel_votes", "paper", "fov_overlap", "camera_distance")  # under noise


def by_resolution(
    shrinks: Sequence[float], seeds: Sequence[int], room_count: int, size: tuple[int, int]
) -> list:
    """Coverage with `shrink` surfels per image pixel along each axis."""
    policies = {name: name for name in ("coverage", "surfel_votes")}
    print(f"images of {size[0]} x {size[1]}, {len(seeds)} houses of {room_count} rooms")
    print("shrink   " + "".join(f"{name + ': mean':>20s} {'worst':>6s}" for name in policies))
    rows = []
    for shrink in shrinks:
        ratios = {name: [] for name in policies}
        config = MemoryConfig(SurfelConfig(shrink=shrink))
        for seed in seeds:
            house = rooms(seed, room_count)
            tour = capture_tour(house, seed)
            scores = compare_policies(house, tour, policies, size=size, config=config)
            for name, values in scores.items():
                ratios[name] += values
        row = {"shrink": shrink}
        for name, values in ratios.items():
            row |= {name: mean(values), f"{name}, worst": min(values)}
        cells = "".join(f"{row[n]:20.4f} {row[n + ', worst']:6.3f}" for n in policies)
        print(f"{shrink:6.2f}   {cells}", flush=True)
        rows.append(row)
    return rows


def by_policy(seeds: Sequence[int], room_count: int) -> list:
    """Coverage of every policy, and of ours with one setting of the paper's."""
    policies: dict[str, str | Policy] = {name: name for name in POLICIES}
    policies["surfel_votes, frequency"] = SurfelVotes("frequency")
    policies["surfel_votes, mean pose"] = SurfelVotes(config=RetrievalConfig(query="mean"))
    policies["surfel_votes, hard"] = SurfelVotes(suppression=Hard())
    ratios = {label: [] for label in policies}
    for seed in seeds:
        house = rooms(seed, room_count)
        for label, values in compare_policies(house, capture_tour(house, seed), policies).items():
            ratios[label] += values
    rows = [
        {"policy": label, "mean": mean(values), "worst": min(values), "steps": len(values)}
        for label, values in ratios.items()
    ]
    print(f"coverage relative to the best choice, {len(seeds)} houses of {room_count} rooms")
    print(f"{'policy':26s} {'mean':>6s} {'worst':>6s}   steps")
    for row in sorted(rows, key=lambda row: -row["mean"]):
        print(f"{row['policy']:26s} {row['mean']:6.3f} {row['worst']:6.3f}   {row['steps']}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=range(5), help="of the houses (0 1 2 3 4)"
    )
    parser.add_argument("--rooms", type=int, default=2)
    parser.add_argument("--shrink", type=float, nargs="+")
    parser.add_argument("--size", type=int, nargs=2, default=(144, 192), help="with --shrink")
    parser.add_argument("--noise", nargs="*", choices=NOISES, help="one or more kinds; all of them")
    parser.add_argument("--policies", nargs="+", default=COMPARED, help="with --noise")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.noise is not None:
        rows = by_noise(options.noise, options.seeds, options.policies)
    elif options.shrink:
        size = (options.size[0], options.size[1])
        rows = by_resolution(options.shrink, options.seeds, options.rooms, size)
    else:
        rows = by_policy(options.seeds, options.rooms)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
