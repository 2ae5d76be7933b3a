"""The shape of the package: which module may know which, how long things are, what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vmemkit

FOLDER = Path(vmemkit.__file__).parent
# From the bottom up: a module may import only from lower rows. Generators and scenes know views,
# not the memory; only `walk` knows all stages; nothing below the last rows knows plots or terminals.
LAYERS = (
    ("spill", "backends"),
    ("structs", "nets", "weight_files", "checkpoint_settings"),
    ("camera", "weights"),
    ("runs",),
    ("kernels_lanes", "kernels_triton"),
    ("kernels",),
    ("kernels_tables",),
    ("native", "voxels"),
    ("views", "sampling", "registration", "depth_fit"),
    (
        "camera_files",
        "surfels",
        "fill",
        "finishes",
        "conditioning",
        "encoders",
        "generation",
        "cut3r_input",
        "align",
    ),
    ("splat", "sightings", "cylinder", "trajectory", "navigator", "rooms", "reproject"),
    ("houses", "warp", "layout"),
    ("scenes", "association", "rgbd"),
    ("memory", "generate", "training_walks"),
    ("storage", "votes", "passes", "train", "reconstruction"),
    ("retrieval", "cut3r"),
    ("reconstruct",),
    ("walk", "pictures"),
    ("__init__", "evaluate", "figures", "palettes"),
    ("demo", "charts", "buffers3d", "judge", "geometry"),
    ("scene3d", "explore"),
    ("widgets", "cli_rooms"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
# A folder counts as one module in the table; its parts are named folder.part.
MODULES = sorted(
    ".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in FOLDER.rglob("*.py")
)
INTERFACES = ("matplotlib", "plotly", "pythreejs", "ipywidgets", "IPython", "rich")
MAX_FILE, MAX_FUNCTION = 450, 60  # lines
WEIGHTS_ONLY = "weights_only=True"


def source(module: str) -> str:
    return (FOLDER / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def imported(module: str) -> set[str]:
    """Names of the package's modules that `module` imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write vmemkit in full"
            own = node.module == "vmemkit"
            names = [f"vmemkit.{a.name}" for a in node.names] if own else [node.module]
        else:
            continue
        for name in names:
            head, _, rest = name.partition(".")
            if head == "vmemkit":
                part = rest.split(".")[0]
                found.add(part if part in RANK else "__init__")
    return found - {module.partition(".")[0]}


def named(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def functions(module: str) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(source(module))) if isinstance(n, ast.FunctionDef)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    own = module.partition(".")[0]
    assert own in RANK, f"{module} is new: give it a row in LAYERS of {Path(__file__).name}"
    upwards = {name for name in imported(module) if RANK[name] >= RANK[own]}
    assert not upwards, f"{module} must not know {sorted(upwards)}: see LAYERS"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module):
    assert len(source(module).splitlines()) <= MAX_FILE
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions(module)}
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION} == {}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_and_every_public_function_what_it_returns(module):
    tree = ast.parse(source(module))
    assert ast.get_docstring(tree)
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert [f.name for f in public if f.returns is None] == []
    assert [f.name for f in public if ast.get_docstring(f) is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_pickles_are_read_in_one_place_and_for_tensors_alone(module):
    text, nodes = source(module), list(ast.walk(ast.parse(source(module))))
    assert "import pickle" not in text
    assert "allow_pickle=True" not in text
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not [node for node in froms if node.module == "torch" and "load" in named(node)]
    from_pickle = {name for node in froms if node.module == "pickle" for name in named(node)}
    assert from_pickle <= {"UnpicklingError"}
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    safe = [call.func for call in calls if WEIGHTS_ONLY in map(ast.unparse, call.keywords)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    loaders = [node for node in attributes if ast.unparse(node) == "torch.load"]
    assert all(loader in safe for loader in loaders)
    assert module == "weights" or not loaders


def test_importing_the_package_loads_no_user_interface():
    code = f"import sys, vmemkit; print(sorted(set({INTERFACES}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_of_layers_names_each_module_once():
    names = [name for row in LAYERS for name in row]
    assert len(names) == len(set(names))
