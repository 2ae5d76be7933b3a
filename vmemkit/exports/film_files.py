"""Films: a walk as a video or an animation.

In: the steps of a walk. Out: an .mp4 or .gif file, with the frames of `figures.walk_film`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vmemkit.exports.places import check_suffix, in_words
from vmemkit.figures import FPS, VIDEO_ROWS, save_animation, save_walk_video, scaled, walk_film
from vmemkit.pipeline import Step

GIF_ROWS = 240  # height, pixels: a GIF is about ten times as large as a video


def mp4(steps: Sequence[Step], path: str | os.PathLike, rows: int = VIDEO_ROWS) -> None:
    """Write a walk as a video, `rows` pixels high, as `figures.save_walk_video`.

    Errors: as there; ValueError for another suffix; OSError for a full disk.
    """
    check_suffix(path, ".mp4")
    with in_words(path):
        save_walk_video(Path(path), steps, rows)


def gif(steps: Sequence[Step], path: str | os.PathLike, rows: int = GIF_ROWS) -> None:
    """Write a walk as an animation that repeats, `rows` pixels high, with the frames of the video.

    Errors: as `figures.walk_film`; ValueError for another suffix and for fewer rows than one; OSError for
    a full disk.
    """
    check_suffix(path, ".gif")
    with in_words(path):
        save_animation(path, scaled(walk_film(steps).image, rows), FPS)
