"""Exact labels of overlapping frames, in the layout of Context-as-Memory (Yu et al., 2025).

In: a scene and a path of level cameras. Out: which frames overlap which, and a folder with frames,
cameras and these labels. Their labels intersect frusta; here a frame overlaps another if it really sees
a tenth of its pixels or more, with occlusion.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from vmemkit.core import Cameras, new_folder, save_image
from vmemkit.evaluation.sweeps import overlapping
from vmemkit.scenes import Scene, unreal_placement

NAME = re.compile(r"\w+", re.ASCII)


def overlapping_frames(scene: Scene, cameras: Cameras, rows: int = 24) -> list[list[int]]:
    """For each camera (t,), the numbers of the others that really see a tenth of its pixels or more.

    Pixels are points on a grid of `rows` rows. This is not symmetric: a wide view overlaps a detail
    that fills another one, and the detail may not overlap the wide view.
    """
    found = []
    for i in range(len(cameras)):
        others = overlapping(scene, cameras, cameras[i : i + 1], rows).nonzero()[:, 0]
        found.append([j for j in others.tolist() if j != i])
    return found


def save_overlap_labels(
    folder: str | os.PathLike,
    name: str,
    scene: Scene,
    cameras: Cameras,
    size: tuple[int, int],
) -> None:
    """Write a new folder in the layout of Context-as-Memory, with one scene `name`.

    It holds frames/NAME/0000.png of `size` (height, width), jsons/NAME.json with Unreal's positions
    and angles, and overlap_labels/NAME/0.json. The layout has no lens: tell its readers the field of
    view. Errors: ValueError for another name than letters, digits and underscores, for cameras that
    are not level, and for a folder that exists; OSError for disks.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"the scene's name needs letters, digits and underscores, got {name[:60]!r}"
        )
    position, yaw = unreal_placement(cameras)
    labels = overlapping_frames(scene, cameras)
    image = scene.render(cameras, *size).image
    actor = {
        str(i): {"position": place.tolist(), "rotation": [0.0, 0.0, turn], "scale": [1.0, 1.0, 1.0]}
        for i, (place, turn) in enumerate(zip(position, yaw.tolist(), strict=True))
    }
    with new_folder(folder) as draft:
        frames, overlaps = (draft / part / name for part in ("frames", "overlap_labels"))
        for part in (frames, overlaps, draft / "jsons"):
            part.mkdir(parents=True)
        _write_json(draft / "jsons" / f"{name}.json", {"CineCameraActor": actor})
        for i, others in enumerate(labels):
            save_image(frames / f"{i:04d}.png", image[i])
            # The data set writes the numbers of frames as texts.
            label = {"frame_index": i, "overlapping_frames": [str(j) for j in others]}
            _write_json(overlaps / f"{i}.json", label)


def _write_json(file: Path, data: dict) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
