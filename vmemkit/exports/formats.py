"""The formats by name, and `export`, which writes one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vmemkit.exports.camera_paths import lyra, realestate10k, tum
from vmemkit.exports.colmap_model import colmap
from vmemkit.exports.film_files import gif, mp4
from vmemkit.exports.gltf_scene import glb
from vmemkit.exports.nerfstudio_folder import nerfstudio
from vmemkit.exports.surfel_points import ply
from vmemkit.exports.walk_page import html
from vmemkit.memory import Memory
from vmemkit.pipeline import Step


@dataclass(frozen=True)
class Format:
    """A format: what it is for, and the function that writes it."""

    about: str  # one line
    write: Callable[..., Any]
    source: Literal["memory", "steps", "cameras", "cameras and size"] = "memory"  # what it takes
    options: tuple[str, ...] = ()  # arguments of `write` that a user may give


FORMATS = {
    "colmap": Format(
        "folder: COLMAP model in text with tracks, and images, for gsplat, 3DGS and nerfstudio",
        colmap,
        options=("least",),
    ),
    "nerfstudio": Format(
        "folder: transforms.json, images, depth, masks of what was invented, point cloud",
        nerfstudio,
    ),
    "ply": Format(".ply: surfels as points with normals, radii and colours", ply),
    "glb": Format(
        ".glb: surfels as discs or points, and cameras, for Blender and browsers",
        glb,
        options=("points",),
    ),
    "mp4": Format(".mp4: the walk as a video", mp4, "steps", ("rows",)),
    "gif": Format(".gif: the walk as an animation", gif, "steps", ("rows",)),
    "html": Format(
        ".html: a page that shows each step and its votes, without network", html, "steps"
    ),
    "lyra": Format(".npz: camera path for NVIDIA's Lyra 2.0", lyra, "cameras and size"),
    "realestate10k": Format(
        ".txt: camera path as in RealEstate10K, with lenses", realestate10k, "cameras"
    ),
    "tum": Format(".txt: camera path as in the TUM benchmarks, without lenses", tum, "cameras"),
}


def find_format(name: str) -> Format:
    """A format by its name. Errors: ValueError, which lists them with a line each."""
    if name not in FORMATS:
        lines = [f"  {known:14} {format.about}" for known, format in FORMATS.items()]
        raise ValueError("\n".join([f"there is no format {name!r}; there are", *lines]))
    return FORMATS[name]


def export(
    name: str,
    memory: Memory,
    steps: Sequence[Step],
    out: str | os.PathLike,
    **options: Any,
) -> Any:
    """Write a memory, or the steps that led to it, to `out` as the format `name`.

    `options` are those of the format. Returns what the function of the format returns. Errors:
    ValueError for an unknown name, an option that the format does not have, and a format of walks
    without steps; and those of the function.
    """
    format = find_format(name)
    for option in options.keys() - set(format.options):
        known = ", ".join(format.options) or "none"
        raise ValueError(f"the format {name} has no option {option!r}; it has: {known}")
    if format.source == "steps" and not steps:
        raise ValueError(
            f"{name} shows the steps of a walk, and there are none: keep the walk in a session "
            "(vmemkit walk --session FOLDER), and export a node that is no beginning"
        )
    cameras, size = memory.views.cameras, tuple(memory.views.image.shape[2:])
    if format.source == "cameras":
        return format.write(cameras, out, **options)
    if format.source == "cameras and size":
        return format.write(cameras, out, size, **options)
    return format.write(steps if format.source == "steps" else memory, out, **options)
