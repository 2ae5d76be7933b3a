"""What a notebook of this project is: short cells that tell a story, stored with their outputs.

nbval compares the outputs. These tests check what it does not see: a cell without an execution
count, for example, is never compared.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES, MAX_LINES = 520_000, 15
MAX_COLUMNS = 98  # what a page shows without a scroll bar
FUNCTIONS = {"09_extend": 3}  # this lesson writes functions; elsewhere one is enough
TOOLS = {  # what some lessons need besides the package
    "07_consistency": {
        "TemporaryDirectory": "tempfile.TemporaryDirectory",
        "ttest_rel": "scipy.stats.ttest_rel",
    },
    "11_sessions": {
        "json": "json",
        "time": "time",
        "Path": "pathlib.Path",
        "DEVNULL": "subprocess.DEVNULL",
        "mkdtemp": "tempfile.mkdtemp",
        "KernelManager": "jupyter_client.KernelManager",
    },
}
READERS_OWN = {"my_network"}  # stands in solutions for what only the reader has
ROOMS = {path.parent.name for path in FOLDER.parent.glob("vmemkit/*/__init__.py")}
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`([A-Za-z_][\w.]*)[^`]*`")  # a dotted name at the start of inline code
# "/home/ada/x", "C:\x", "~/x"; then "3 ms", "1.5 s", "2 min", "it/s".
PATH = re.compile(r"(?<![\w.:/)])/(?:[\w.-]+/)+[\w.-]*|\b[A-Za-z]:\\|~/")
TIMING = re.compile(r"\b\d+(?:\.\d+)?\s?(?:ns|[uµm]?s|sec(?:ond)?s?|min(?:ute)?s?)\b|\bit/s\b")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def is_exercise(cell: dict) -> bool:
    """Whether the reader is to write this cell: it is stored empty."""
    return "exercise" in cell["metadata"].get("tags", [])


def prose(notebook: dict) -> list[str]:
    return [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def texts(notebook: dict) -> list[str]:
    """All text in the outputs."""
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    streams = ["".join(output.get("text", "")) for output in outputs]
    plain = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    return [text for text in streams + plain if text]


def is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def imports(notebook: dict) -> dict[str, str]:
    """What the first code cell imports: the name in the notebook -> the module."""
    names = {}
    for node in filter(is_import, ast.walk(ast.parse(source(code(notebook)[0])))):
        prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        names |= {alias.asname or alias.name: prefix + alias.name for alias in node.names}
    return names


def unknown(name: str, modules: dict[str, str]) -> str | None:
    """What is wrong with a dotted name such as `vm.core.look_at` or `scenes.rooms`, if anything.

    Names that do not begin with an imported module are not checked.
    """
    root, *parts = name.split(".")
    if not modules.get(root, "").startswith("vmemkit"):
        return None
    value = importlib.import_module(modules[root])
    for part in parts:
        if not isinstance(value, ModuleType):
            return None
        if not hasattr(value, part):
            return f"{name}: {part} does not exist"
        value = getattr(value, part)
        if isinstance(value, ModuleType) and not hasattr(value, "__path__"):
            return f"{name}: {part} is a file behind a door"
    return None


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path) -> dict:
    return read(path)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_cell_was_executed_in_order(notebook):
    counts = [cell["execution_count"] for cell in code(notebook) if not is_exercise(cell)]
    assert counts == list(range(1, len(counts) + 1)), "run `make render`"


def test_exactly_the_exercise_cells_are_empty_and_not_executed(notebook):
    for cell in code(notebook):
        assert is_exercise(cell) == (not source(cell).strip()), source(cell)
        if is_exercise(cell):
            assert cell["execution_count"] is None
            assert cell["outputs"] == []


def test_no_cell_failed(notebook):
    kinds = {output["output_type"] for cell in code(notebook) for output in cell["outputs"]}
    assert "error" not in kinds


def test_the_file_is_small(path):
    assert path.stat().st_size < MAX_BYTES


def test_no_state_of_widgets_and_no_times_are_stored(notebook):
    assert "widgets" not in notebook["metadata"]
    assert not any("execution" in cell["metadata"] for cell in notebook["cells"])


def test_cells_are_short(notebook):
    cells = [source(cell).splitlines() for cell in code(notebook)]
    assert max(len(lines) for lines in cells) <= MAX_LINES
    assert max(len(line) for lines in cells for line in lines) <= MAX_COLUMNS


def test_cells_use_the_package_and_define_next_to_nothing(notebook, path):
    nodes = [node for cell in code(notebook) for node in ast.walk(ast.parse(source(cell)))]
    assert not any(isinstance(node, ast.ClassDef) for node in nodes)
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    assert functions <= FUNCTIONS.get(path.stem, 1)


def test_a_3d_view_is_followed_by_a_still_for_readers_without_a_kernel(notebook):
    cells = [source(cell) for cell in code(notebook)]
    for place, cell in enumerate(cells):
        if view := re.search(r"(Scene3D|MemoryViewer|RetrievalInspector|Explorer)\(", cell):
            below = [cell[view.end() :], *cells[place + 1 :]]
            assert any(".still(" in text for text in below), cell


def test_the_readme_shows_every_notebook_with_a_picture(path):
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert f"notebooks/{path.name}" in readme
    picture = f"notebooks/pictures/{path.stem}.jpg"
    assert picture in readme
    assert (FOLDER.parent / picture).is_file()


def test_words_come_before_code(notebook):
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown"
    for place, kind in enumerate(kinds):
        assert kind != "code" or "markdown" in kinds[max(0, place - 2) : place], f"cell {place}"


def test_outputs_name_no_paths_and_no_times(notebook):
    for text in texts(notebook):
        assert not PATH.search(text), text
        assert not TIMING.search(text), text


def test_every_notebook_checks_a_claim_and_sets_an_exercise(notebook):
    assert any("assert" in source(cell) for cell in code(notebook))
    text = "".join(prose(notebook))
    assert "## Exercise" in text
    assert "<details>" in text


def test_the_first_cell_imports_exactly_what_the_notebook_uses(notebook, path):
    later = [ast.parse(source(cell)) for cell in code(notebook)[1:]]
    nodes = [node for tree in later for node in ast.walk(tree)]
    assert not any(map(is_import, nodes))
    allowed = {"torch": "torch", "vm": "vmemkit", "display": "IPython.display.display"}
    allowed |= {room: f"vmemkit.{room}" for room in ROOMS} | TOOLS.get(path.stem, {})
    assert imports(notebook).items() <= allowed.items()
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert set(imports(notebook)) - used == set()


def test_code_and_solutions_use_only_names_that_exist(notebook):
    blocks = [source(cell) for cell in code(notebook)]
    blocks += FENCED.findall("\n".join(prose(notebook)))  # solutions, for example
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    known = {*dir(builtins), *imports(notebook), *READERS_OWN}
    known |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    named = (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler, ast.alias)
    known |= {node.name for node in nodes if isinstance(node, named)}
    assert {node.id for node in names} - known == set()
    dotted = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    dotted = sorted(name for name in dotted if re.fullmatch(r"[\w.]+", name))
    assert [problem for name in dotted if (problem := unknown(name, imports(notebook)))] == []


def test_prose_names_only_what_exists(notebook):
    text = FENCED.sub("", "\n".join(prose(notebook)))
    names = sorted(set(INLINE.findall(text)))
    assert [problem for name in names if (problem := unknown(name, imports(notebook)))] == []


@pytest.mark.parametrize(
    "text", ["in /home/ada/x", "C:\\temp", "~/x", "took 3 ms", "1.5 s", "9 it/s"]
)
def test_the_lint_knows_a_path_and_a_time_when_it_sees_one(text):
    assert PATH.search(text) or TIMING.search(text)


@pytest.mark.parametrize(
    "text", ["[4 3 h w]", "29 dB", "0.5", "and/or", "39 m", "3 views", "a / b"]
)
def test_the_lint_lets_other_things_pass(text):
    assert not PATH.search(text)
    assert not TIMING.search(text)
