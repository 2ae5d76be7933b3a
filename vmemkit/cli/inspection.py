"""`vmemkit inspect`: what posed images at a path are taken for, and a picture of their cameras."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vmemkit.figures import recording_drawing, save_figure
from vmemkit.scenes import inspect, surface_points, up_direction
from vmemkit.sessions import is_session


def run_inspect(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit inspect PATH`: format, cameras, sizes, scale, axes, path, depth and notes; with
    `--picture`, the cameras and points as one picture.

    Errors: ValueError for a path that holds nothing known, and for a session of a walk.
    """
    if options.format is None and is_session(options.path):
        raise ValueError(
            f"{options.path} is the session of a walk, no recording: `vmemkit show {options.path}` lists "
            f"its steps, `vmemkit export {options.path} --to nerfstudio --out FOLDER` makes a recording"
        )
    recording, report = inspect(
        options.path,
        options.format,
        options.cameras,
        options.every,
        convention=options.convention,
        world_to_camera=options.world_to_camera or None,
        depth_unit=options.depth_unit,
        fov=options.fov,
    )
    width = max(map(len, report))
    for name, value in report.items():
        console.print(Text.assemble((f"{name:{width}s}  ", "bold"), value), soft_wrap=True)
    if options.picture is not None:
        points, colors = surface_points(recording)
        up = up_direction(recording.cameras)
        save_figure(Path(options.picture), recording_drawing(recording.cameras, points, colors, up))
        console.print(f"cameras and points are drawn in {options.picture}", soft_wrap=True)
