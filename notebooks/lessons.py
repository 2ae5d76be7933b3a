"""Copy the lessons for a reader to work in: `make lab` opens the copies.

In: the notebooks, glossary and references beside this file. Out: a folder with copies; what is there
already stays as it is. Stored widgets need a kernel that is gone, and JupyterLab would show an error
in their place. So the copies say how to get them.
Run: python notebooks/lessons.py OUT
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
HINT = (
    "*A widget comes here when you run the cells from the top (menu Run, Run All Cells, or "
    "Shift + Enter in each).*"
)


def copy_lessons(out: Path) -> None:
    """Copy what `out` does not have yet."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted([*FOLDER.glob("*.ipynb"), *FOLDER.glob("*.md")]):
        copy = out / path.name
        if copy.exists():
            continue
        if path.suffix == ".md":
            shutil.copy(path, copy)
        else:
            nbformat.write(without_widgets(nbformat.read(path, as_version=4)), copy)


def without_widgets(notebook: NotebookNode) -> NotebookNode:
    """The notebook with a hint in the place of every stored widget."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop(WIDGET, None) is not None:
                output.data["text/markdown"] = HINT
    return notebook


if __name__ == "__main__":
    copy_lessons(Path(sys.argv[1]))
