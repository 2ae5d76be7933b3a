"""How long a person waits: from a press, a key or a click in the browser to the changed page.

JupyterLab in Chromium on this machine (drawing in software), a memory of about 20 thousand and one
of about 200 thousand surfels. Medians of several presses, milliseconds, measured on the page:
a slider of the RetrievalInspector until the votes are redrawn, a click on a surfel until its views
are lit, a press of the Explorer until the new view is shown (images of 90 x 120 and 300 x 400).
Needs a browser, as tests/test_browser.py. Run: python benchmarks/latency.py
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
from browser_helpers import ask, find_browser, jupyterlab, open_and_run, opened, surfels_in_sight
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

HEIGHTS = {"20k": 90, "200k": 300}  # rows of the images
TIMES = 7
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CELLS = """
import torch
from vmemkit import scenes, widgets
explorer = widgets.Explorer("house, six views a room", height={height})
explorer
# ---
house = scenes.rooms(0)
tour = scenes.capture_tour(house)
targets = tour.cameras[tour.back]
inspector = widgets.RetrievalInspector(explorer.value.memory, targets, policy="coverage")
inspector
"""
# Notes when a person acts, and when below an element (found by selector and words) something has
# changed and the words to wait for are there.
WATCH = """([selector, words, until]) => {
  const found = [...document.querySelectorAll(selector)].filter(e => e.textContent.includes(words));
  window.changed = null;
  window.observer?.disconnect();
  const observer = window.observer = new MutationObserver(() => {
    const there = found.some(e => e.textContent.includes(until));
    if (window.changed === null && there) window.changed = performance.now();
  });
  for (const element of found)
    observer.observe(element, { subtree: true, childList: true, attributes: true, characterData: true });
  for (const name of ["keydown", "click"])
    document.addEventListener(name, () => { window.began ??= performance.now(); }, { capture: true });
  window.began = undefined;
  return found.length;
}"""


def waited(page, selector: str, words: str, act, until: str = "") -> float:
    """Milliseconds from what `act` does on the page until the element changes and says `until`."""
    assert page.evaluate(WATCH, [selector, words, until]), f"nothing found: {selector} {words}"
    act()
    page.wait_for_function("() => window.changed !== null", timeout=60_000)
    return page.evaluate("() => window.changed - window.began")


def measure(page, lab: str, root: Path, height: int) -> dict[str, float]:
    cells = [new_code_cell(source) for source in CELLS.format(height=height).split("# ---")]
    name = f"latency{height}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), root / name)
    open_and_run(page, lab, name)
    surfels = int(ask(page, "print(len(explorer.value.memory.surfels))"))
    slider = page.locator(".widget-slider", has_text="turn (degrees)").locator(".noUi-handle")

    def turn() -> float:
        slider.focus()
        act = lambda: page.keyboard.press("ArrowRight")  # noqa: E731
        return waited(page, ".vmemkit-screen", "each pixel in the colour", act)

    ask(page, "inspector.scene.look_at_all()")
    canvas = page.locator("canvas").last
    canvas.scroll_into_view_if_needed()
    places = iter(surfels_in_sight(page, canvas, "inspector.scene", TIMES))

    def click() -> float:
        place = next(places)
        # the words come after the colours, in the order in which they were sent
        return waited(page, ".widget-html-content", "", lambda: page.mouse.click(*place))

    clicks = [click() for _ in range(TIMES)]
    turns = [turn() for _ in range(TIMES)]
    forward = page.get_by_role("button", name="▲ forward")

    def step() -> float:
        made = int(ask(page, "print(len(explorer.value.memory) + explorer.settings.views.value)"))
        ms = waited(page, ".vmemkit-screen", "Memory(", forward.click, f"view {made - 1} ·")
        ask(page, "explorer.wait()")
        return ms

    steps = [step() for _ in range(3)]
    return {
        "surfels": surfels,
        "slider to votes, ms": round(statistics.median(turns)),
        "click to highlight, ms": round(statistics.median(clicks)),
        "press to frame, ms": round(statistics.median(steps)),
    }


def main() -> None:
    path = find_browser()
    if path is None:
        raise SystemExit("no browser: install Chromium, or name one in VMEMKIT_BROWSER")
    with tempfile.TemporaryDirectory() as folder:
        root, home = Path(folder) / "root", Path(folder) / "home"
        root.mkdir()
        home.mkdir()
        with jupyterlab(root, home) as lab, opened(path) as browser:
            page = browser.new_context(viewport={"width": 1440, "height": 2600}).new_page()
            rows = {name: measure(page, lab, root, height) for name, height in HEIGHTS.items()}
    for name, row in rows.items():
        print(name, json.dumps(row))


if __name__ == "__main__":
    main()
