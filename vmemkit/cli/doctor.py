"""`vmemkit doctor`: what is installed, and what it runs on."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from vmemkit.core import data_file, save_video, video_encoder
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
    report = diagnosis()
    width = max(map(len, report))
    for name, value in report.items():
        # The terminal wraps long paths, so that they can be copied whole.
        console.print(Text.assemble((f"{name:{width}s}  ", "bold"), value), soft_wrap=True)


def diagnosis() -> dict[str, str]:
    """What `doctor` prints, by topic."""
    report = {"vmemkit": _version("vmemkit"), "python": platform.python_version()}
    report |= {name: _version(name) for name in DEPENDENCIES}
    report["torch"] = torch.__version__  # with its build, which the package's metadata may lack
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    device = torch.cuda.get_device_name() if cuda else "Apple GPU" if mps else "none"
    report["processor"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    report["accelerator"] = f"{device} (not needed)"
    devices = {"CPU": "cpu"} | ({"GPU": "cuda"} if cuda else {})
    report["memory"] = ", ".join(f"{backend(at)} on the {name}" for name, at in devices.items())
    report["video encoder"] = _encoder()
    try:
        report["data"] = f"{data_file(PANORAMA).parent} (origins and licences: README.md there)"
    except ValueError as error:
        report["data"] = f"missing: {error}"
    try:
        names = ", ".join(name for name in WEIGHTS if available(name)) or "none"
        report["weights"] = f"{names} found, none needed: Warp and the Writer have no weights"
    except ValueError as error:
        report["weights"] = f"not looked for: {error}"
    return report


def _encoder() -> str:
    """The program that writes videos, after a test, or what is wrong with it."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            save_video(Path(folder) / "test.mp4", torch.zeros(1, 3, 16, 16), 8.0)
        return f"{video_encoder()} (a test video was written)"
    except (ValueError, OSError) as error:
        return f"none that works, so walks come without videos: {error}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing: pip install -e . in the repository"
