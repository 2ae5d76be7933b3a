"""How much of what the targets see do the chosen views show, relative to the best choice?

Two-room tours (out, a look around, back by other poses), true views in the memory, K = 4, M = 4.
Run: python benchmarks/retrieval.py [--seeds N] [--rooms N] [--json FILE]
"""

import argparse
import json
from statistics import mean

from vmemkit.evaluate import capture_tour, race
from vmemkit.retrieval import POLICIES, RetrievalConfig
from vmemkit.scenes import rooms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rooms", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    policies = {name: (name, RetrievalConfig()) for name in POLICIES}
    policies["surfel_votes, frequency"] = ("surfel_votes", RetrievalConfig(vote="frequency"))
    policies["surfel_votes, mean pose"] = ("surfel_votes", RetrievalConfig(query="mean"))
    ratios = {label: [] for label in policies}
    for seed in range(options.seeds):
        house = rooms(seed, options.rooms)
        for label, values in race(house, capture_tour(house, seed), policies).items():
            ratios[label] += values
    rows = [
        {"policy": label, "mean": mean(values), "worst": min(values), "steps": len(values)}
        for label, values in ratios.items()
    ]
    print(f"coverage relative to the oracle's, {options.seeds} houses of {options.rooms} rooms")
    print(f"{'policy':26s} {'mean':>6s} {'worst':>6s}   steps")
    for row in sorted(rows, key=lambda row: -row["mean"]):
        print(f"{row['policy']:26s} {row['mean']:6.3f} {row['worst']:6.3f}   {row['steps']}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
