"""The tasks of every protocol in made-up houses: given views, frames, and the hash that a row has.

Rows of `vmemkit evaluate` with the same hash are about the same task, whoever made them.
Run: python benchmarks/courses.py [--json FILE]   (stored: benchmarks/courses.json)
"""

import argparse
import json

from vmemkit.evaluation import PROTOCOLS, course_hash, house_route
from vmemkit.scenes import build, design, open_plan

SEEDS = 20


def courses(scene: str) -> dict[str, dict[str, int | str]]:
    """By protocol, of a scene "rooms:SEED" or "open:SEED"."""
    layout, _, seed = scene.partition(":")
    plan = design(int(seed))
    house = build(plan if layout == "rooms" else open_plan(plan))
    made = {name: each.course(house_route(house, int(seed))) for name, each in PROTOCOLS.items()}
    return {
        name: {"given": len(course.given), "frames": len(course.path), "hash": course_hash(course)}
        for name, course in made.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json")
    options = parser.parse_args()
    scenes = [f"{layout}:{seed}" for layout in ("rooms", "open") for seed in range(SEEDS)]
    index = {scene: courses(scene) for scene in scenes}
    for scene, by_protocol in index.items():
        for name, course in by_protocol.items():
            print(f"{scene:9s} {name:17s}", *(f"{key} {value}" for key, value in course.items()))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(index, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
