"""Execute the notebooks and store their outputs, normalised: the same run gives the same file.

In: notebooks beside this file, all of them or those named. Out: the same files, with outputs.
Widget states (megabytes of JavaScript), execution times, the Python version and transient metadata
are dropped. Stream outputs are joined, keys are sorted, and cells are numbered in order.
Cells tagged "exercise" are the reader's: they are empty, so they are not executed.
The picture of the cell tagged "cover" is saved as pictures/NAME.jpg, for the README and the gallery.
Run: python notebooks/render.py [NAME ...]
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
from conftest import set_environment
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
TIMEOUT = 300  # seconds per cell
COVER = (480, 400)  # pixels, at most
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(path: Path) -> NotebookNode:
    """The notebook with fresh outputs. Errors: CellExecutionError from the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name=KERNEL["name"])
    return client.execute(cwd=str(path.parent))


def normalised(notebook: NotebookNode) -> NotebookNode:
    """The notebook without metadata that differs between runs."""
    cells = []
    for place, cell in enumerate(notebook.cells):
        tags = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        changes = {"id": f"cell-{place:02d}", "metadata": tags}
        if cell.cell_type == "code":
            changes["outputs"] = _joined(cell.outputs)
        cells.append(NotebookNode({**cell, **changes}))
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return nbformat.from_dict(
        {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    )


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with adjacent pieces of one stream joined: the kernel splits streams at random places."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == "stream" and output.name == last.get("name"):
            joined[-1] = NotebookNode({**last, "text": last.text + output.text})
        else:
            joined.append(output)
    return joined


def save_cover(notebook: NotebookNode, path: Path) -> None:
    """Write the picture of the cell tagged "cover", if any, as a small JPEG."""
    for cell in notebook.cells:
        if "cover" in cell.metadata.get("tags", []):
            bundles = [output.data for output in cell.outputs if "data" in output]
            kinds = ("image/jpeg", "image/png")
            image = next(data[kind] for data in bundles for kind in kinds if kind in data)
            picture = Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")
            picture.thumbnail(COVER)
            path.parent.mkdir(exist_ok=True)
            picture.save(path, quality=85)


def main(names: list[str]) -> None:
    set_environment()
    paths = [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb"))
    for path in paths:
        notebook = normalised(execute(path))
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        save_cover(notebook, FOLDER / "pictures" / f"{path.stem}.jpg")
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
