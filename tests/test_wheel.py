"""The package as a user installs it: from a wheel, outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
DATA = {
    "README.md",
    "bedroom_chair_depth.png",
    "bedroom_chair_left.png",
    "bedroom_chair_right.png",
    "cycles_depth.png",
    "cycles_left.png",
    "cycles_right.png",
    "empty_warehouse_01_1k.jpg",
    "lebombo_1k.jpg",
    "oakd_calibration.json",
    "potsdamer_platz_1k.jpg",
    "st_fagans_interior_1k.jpg",
    "table4.csv",
}
WRITER = """
import vmemkit as vm
from vmemkit import scenes
house = scenes.rooms(0)
memory = vm.begin(house.render(scenes.single_tour(house).given, 48, 64))
print(vm.step(memory, scenes.moves(memory.views.cameras[-1], "right 20"), generator=vm.Writer()))
"""
DEMO = """
from vmemkit.cli.demonstration import demo
states = demo("out", walks=["stereo"], policies=["coverage"], height=16, film_rows=60)
assert len([state.row for state in states if state.row is not None]) == 1
"""
EXAMPLES = """
from vmemkit import scenes
print([start(24) for start in scenes.EXAMPLES.values()])
"""
# The kernels would be compiled once more, for the installed files, in 20 seconds: also in threads, to
# which `use("torch")` does not reach.
WITHOUT_KERNELS = """
import sys
sys.modules["numba"] = None
import vmemkit
print(vmemkit.__file__)
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Standard output of a command, which must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation nothing is downloaded: the build backend is in the `dev` extra.
    run(*PIP, "wheel", REPOSITORY, "--no-deps", "--no-build-isolation", "-w", folder, cwd=folder)
    (path,) = folder.glob("vmemkit-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    """The folder that holds the installed wheel and nothing else."""
    folder = wheel.parent / "installed"
    run(*PIP, "install", wheel, "--no-deps", "--no-index", "--target", folder, cwd=wheel.parent)
    return folder


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_the_package_and_its_type_information(wheel):
    package = REPOSITORY / "vmemkit"
    sources = {*package.rglob("*.py"), *package.rglob("*.pyi"), package / "py.typed"}
    sources |= {*package.rglob("*.css"), *package.rglob("*.js")}
    assert {path.relative_to(REPOSITORY).as_posix() for path in sources} <= names(wheel)


def test_the_wheel_carries_the_example_data(wheel):
    data = {name for name in names(wheel) if name.startswith("vmemkit/data/")}
    assert {name.removeprefix("vmemkit/data/") for name in data} == DATA


def test_the_wheel_carries_nothing_else(wheel):
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top.split("-")[0] for top in tops} == {"vmemkit"}


@pytest.mark.parametrize("code", [WRITER, EXAMPLES, DEMO], ids=["writer", "examples", "demo"])
def test_the_installed_package_needs_no_repository(installed, tmp_path, code):
    output = run(
        sys.executable, "-c", WITHOUT_KERNELS + code, cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert output.startswith(str(installed)), "another vmemkit than the installed one was imported"
