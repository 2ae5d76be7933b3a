"""The shape of the package: which room may know which, what is loaded when, how long functions are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vmemkit

FOLDER = Path(vmemkit.__file__).parent
# From the bottom up: a room imports from lower rows and from itself, never sideways or upwards.
# So generators know views and made-up houses but no memory, and only `pipeline` knows all stages.
ROWS = (
    ("core", "nets"),
    ("memory", "scenes"),
    ("generation", "retrieval", "reconstruction"),
    ("pipeline",),
    ("evaluation", "figures", "sessions"),
    ("exports", "serving"),
    ("widgets", "cli"),
)
RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}
# A room is entered by its door, `vmemkit.ROOM`. These packages inside rooms are doors, too: the switch
# between implementations, the made-up houses, each published network, the generator of networks, and the remote one.
INNER_DOORS = {
    "core.kernels",
    "scenes.house",
    "nets.unet",
    "nets.cut3r",
    "nets.weights",
    "generation.diffusion",
    "generation.remote",
}
OUTSIDE = {"", "__main__"}  # the package's own `__init__` and `python -m vmemkit`
MODULES = sorted(
    ".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in FOLDER.rglob("*.py")
)
NOT_LOADED = {
    "nets",
    "scenes",
    "evaluation",
    "figures",
    "sessions",
    "exports",
    "serving",
    "widgets",
    "cli",
}
INTERFACES = {"matplotlib", "plotly", "pythreejs", "ipywidgets", "IPython", "rich"}
MAX_FUNCTION = 60  # lines
WEIGHTS_ONLY = "weights_only=True"


def path_of(module: str) -> Path:
    return FOLDER / f"{module.replace('.', '/')}.py"


def source(module: str) -> str:
    return path_of(module).read_text(encoding="utf-8")


def is_module(name: str) -> bool:
    path = FOLDER / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported(module: str) -> set[str]:
    """Dotted names of the package's modules that a module imports, anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write vmemkit in full"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in whole if is_module(name.removeprefix("vmemkit."))}
            names |= inner if inner == whole else inner | {str(node.module)}
    return {n.removeprefix("vmemkit").removeprefix(".") for n in names if n.startswith("vmemkit")}


def room(module: str) -> str:
    return module.removesuffix("__init__").partition(".")[0]


def functions(module: str) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(source(module))) if isinstance(n, ast.FunctionDef)]


def public_functions(module: str) -> list[ast.FunctionDef]:
    tops = ast.parse(source(module)).body
    return [n for n in tops if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_lower_rows(module):
    own = room(module)
    if own in OUTSIDE:
        return
    others = {room(name) for name in imported(module)} - {own}
    assert not {name for name in others if RANK[name] >= RANK[own]}, "see ROWS"


@pytest.mark.parametrize("module", MODULES)
def test_rooms_are_entered_by_their_doors(module):
    doors = set(RANK) | INNER_DOORS
    elsewhere = {name for name in imported(module) if name and room(name) != room(module)}
    assert elsewhere <= doors, f"import from the room itself: {sorted(elsewhere - doors)}"


def test_every_room_has_a_row_and_says_what_it_is_for():
    rooms = {room(module) for module in MODULES} - OUTSIDE
    assert rooms == set(RANK)
    for name in rooms - {"pipeline"}:
        docstring = ast.get_docstring(ast.parse(source(f"{name}.__init__")))
        assert docstring
        assert 3 <= len(docstring.splitlines()) <= 12, name


@pytest.mark.parametrize("module", MODULES)
def test_no_file_bears_the_name_of_a_function_that_it_exports(module):
    assert path_of(module).stem not in {function.name for function in public_functions(module)}


@pytest.mark.parametrize("module", MODULES)
def test_functions_stay_short(module):
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions(module)}
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION} == {}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_and_every_public_function_what_it_returns(module):
    assert ast.get_docstring(ast.parse(source(module)))
    public = public_functions(module)
    public = [f for f in public if f.name not in ("__getattr__", "__dir__")]
    assert [f.name for f in public if f.returns is None] == []
    assert [f.name for f in public if ast.get_docstring(f) is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_pickles_are_read_in_one_place_and_for_tensors_alone(module):
    text, nodes = source(module), list(ast.walk(ast.parse(source(module))))
    assert "import pickle" not in text
    assert "allow_pickle=True" not in text
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names = {(node.module, alias.name) for node in froms for alias in node.names}
    assert ("torch", "load") not in names
    assert {name for source, name in names if source == "pickle"} <= {"UnpicklingError"}
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    safe = [call.func for call in calls if WEIGHTS_ONLY in map(ast.unparse, call.keywords)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    loaders = [node for node in attributes if ast.unparse(node) == "torch.load"]
    assert all(loader in safe for loader in loaders)
    assert module == "nets.weights.checkpoints" or not loaders


def loaded_by(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after `code`."""
    command = f"{code}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def rooms_of(modules: set[str]) -> set[str]:
    return {m[1] for name in modules if (m := re.match(r"vmemkit\.(\w+)", name))}


def test_importing_the_package_loads_no_room():
    modules = loaded_by("import vmemkit")
    assert rooms_of(modules) == set()
    assert "torch" not in modules


def test_walking_loads_the_stages_and_nothing_else():
    modules = loaded_by("import vmemkit; vmemkit.walk")
    rooms = rooms_of(modules)
    assert rooms == {"core", "memory", "retrieval", "reconstruction", "generation", "pipeline"}
    assert not {name for name in modules if "diffusion" in name}
    assert not rooms & NOT_LOADED
    assert not modules & INTERFACES


@pytest.mark.parametrize("name", vmemkit.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(vmemkit)
    assert getattr(vmemkit, name) is not None
