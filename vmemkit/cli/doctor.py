"""`vmemkit doctor`: what is installed, and what it runs on."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform

import imageio_ffmpeg
import torch
from rich.console import Console
from rich.text import Text

from vmemkit.core import data_file
from vmemkit.core.kernels import backend
from vmemkit.nets.weights import WEIGHTS, available
from vmemkit.scenes import PANORAMA

DEPENDENCIES = (
    "torch",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "safetensors",
    "numba",
    "rich",
)


def run_doctor(options: argparse.Namespace, console: Console) -> None:
    """`vmemkit doctor`: what is installed, what it will run on, what is missing."""
    found = diagnosis()
    width = max(map(len, found))
    for name, value in found.items():
        # Long paths are left to the terminal to wrap, so that they can be copied whole.
        console.print(Text.assemble((f"{name:{width}s}  ", "bold"), value), soft_wrap=True)


def diagnosis() -> dict[str, str]:
    """What `doctor` prints, by topic."""
    found = {"vmemkit": _version("vmemkit"), "python": platform.python_version()}
    found |= {name: _version(name) for name in DEPENDENCIES}
    found["torch"] = torch.__version__  # with its build, which the package's metadata may lack
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    device = torch.cuda.get_device_name() if cuda else "Apple GPU" if mps else "none"
    found["processor"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    found["accelerator"] = f"{device} (not needed)"
    places = {"CPU": "cpu"} | ({"GPU": "cuda"} if cuda else {})
    found["memory"] = ", ".join(f"{backend(at)} on the {name}" for name, at in places.items())
    try:
        found["video encoder"] = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        found["video encoder"] = f"missing: {error}"
    try:
        found["data"] = f"{data_file(PANORAMA).parent} (origins and licences: README.md there)"
    except ValueError as error:
        found["data"] = f"missing: {error}"
    try:
        here = ", ".join(name for name in WEIGHTS if available(name)) or "none"
        found["weights"] = f"{here} found, none needed: the warp generator has no weights"
    except ValueError as error:
        found["weights"] = f"not looked for: {error}"
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing: pip install -e . in the repository"
