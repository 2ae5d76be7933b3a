"""Frames of a video file.

In: a path. Out: images, one at a time, at the video's constant rate. ffmpeg decodes them, told which
container to read, so that no file can make it open another one.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import video_encoder

# ffmpeg's readers of the containers, by the suffixes of their files.
CONTAINERS = {
    ".mp4": "mov",
    ".mov": "mov",
    ".m4v": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".avi": "avi",
}
MAX_FRAME_PIXELS = 40_000_000  # an 8K frame has 33 million
MAX_RATE = 10_000  # frames per second
HEADER = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)")  # of the format y4m
HEADER_BYTES = 200
WORDS = 300  # characters of what ffmpeg said last
SECONDS = 60  # that reading the first frame may take


def video_format(path: Path) -> tuple[float, tuple[int, int]]:
    """Frames per second, and (height, width) of a video as it is shown.

    Errors: ValueError for a file that is missing, damaged or no video, and without ffmpeg.
    """
    # The format y4m states size and rate in its first line.
    command = [*_command(path), "-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"cannot read {path}: no frame after {SECONDS} seconds") from error
    found = HEADER.match(done.stdout[:HEADER_BYTES])
    if found is None:
        raise ValueError(f"cannot read {path} (a video is needed): {_last_words(done.stderr)}")
    width, height, frames, seconds = map(int, found.groups())
    if not 0 < width * height <= MAX_FRAME_PIXELS or not 0 < frames <= MAX_RATE * seconds:
        raise ValueError(
            f"{path} has {width} x {height} pixels and {frames} frames in {seconds} seconds: at most "
            f"{MAX_FRAME_PIXELS} pixels and {MAX_RATE} frames per second are read"
        )
    return frames / seconds, (height, width)


def video_frames(path: Path) -> Iterator[Float[Tensor, "3 h w"]]:
    """The frames of a video in [0, 1], turned upright. Errors: ValueError as `video_format`."""
    height, width = video_format(path)[1]
    with _decoded(path) as frames:
        while len(content := frames.read(3 * height * width)) == 3 * height * width:
            pixels = torch.from_numpy(
                np.frombuffer(content, np.uint8).reshape(height, width, 3).copy()
            )
            yield pixels.permute(2, 0, 1).float() / 255


@contextmanager
def _decoded(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of all frames, RGB. Errors: ValueError with ffmpeg's words if it fails."""
    command = [*_command(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    # What ffmpeg says goes to a file, because a pipe that nobody reads would stop it.
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as decoder,
    ):
        try:
            yield decoder.stdout
            failed = decoder.wait() != 0
        finally:
            decoder.kill()
        if failed:
            log.seek(0)
            raise ValueError(f"{path} is damaged: {_last_words(log.read())}")


def _command(path: Path) -> list[str]:
    """ffmpeg's command up to its input. Errors: ValueError for a file that is no video by its name."""
    if path.suffix.lower() not in CONTAINERS or not path.is_file():
        raise ValueError(f"{path} must be an existing video, one of {', '.join(CONTAINERS)}")
    limits = ["-protocol_whitelist", "file,pipe", "-max_pixels", str(MAX_FRAME_PIXELS)]
    # An absolute path, because ffmpeg takes others with a colon for addresses.
    file = ["-f", CONTAINERS[path.suffix.lower()], "-i", os.path.abspath(path)]
    return [video_encoder(), "-nostdin", "-loglevel", "error", *limits, *file, "-an", "-sn", "-dn"]


def _last_words(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())[-WORDS:] or "ffmpeg said nothing"
