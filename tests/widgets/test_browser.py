"""The widgets in a real browser: in JupyterLab and on offline pages, pressed and clicked on.

Needs Chromium (or Chrome) on the PATH, or named by the variable VMEMKIT_BROWSER. Where there is
none the tests are skipped and say so; where CI is set they fail.
"""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser_helpers import (
    MINUTE,
    ask,
    camera_in_sight,
    jupyterlab,
    open_and_run,
    surfels_in_sight,
    wait_until,
)
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL = """
import vmemkit as vm
from vmemkit import figures, scenes
house = scenes.rooms(0)
memory = vm.begin(house.render(scenes.capture_tour(house).given, 48, 64))
figures.Scene3D(memory)
# ---
figures.memory_growth(memory)
"""
SCRUBBER = """
import torch
from vmemkit import widgets
from vmemkit.generation import diffusion
codec, rng = diffusion.PixelCodec(2), torch.Generator().manual_seed(0)
world = torch.rand(5, 3, 12, 8, 12, generator=rng)
sigmas = diffusion.Levels().sigmas(6)
x = diffusion.initial_sample(torch.randn(world[0].shape, generator=rng), sigmas)
states = diffusion.euler(diffusion.ideal_denoiser(world), x, sigmas)
scrubber = widgets.SamplingScrubber(states, codec.decode)
scrubber
"""
EXPLORER = """
from vmemkit import widgets
explorer = widgets.Explorer("house, one view", height=72, session=None)
explorer
"""
INSPECTOR = """
import vmemkit as vm
from vmemkit import scenes, widgets
house = scenes.rooms(0)
tour = scenes.capture_tour(house)
memory = vm.begin(house.render(tour.cameras[: tour.back.start], 48, 64))
inspector = widgets.RetrievalInspector(
    memory, tour.cameras[tour.back], house, policy="coverage", rival="camera_distance"
)
inspector.place.value = 5
inspector
"""
STEPPER = """
import vmemkit as vm
from vmemkit import scenes, widgets
house = scenes.rooms(0)
tour = scenes.single_tour(house)
memory = vm.begin(house.render(tour.given, 48, 64))
stepper = widgets.StepThrough(memory, tour.cameras[:8], generator=vm.Writer(), m=3)
stepper
"""
ROOM_BOX = """
from vmemkit import widgets
from vmemkit.core import data_file
room = widgets.RoomBox(data_file("cycles_left.png"))
room
"""
KEPT = """
from vmemkit import widgets
explorer = widgets.Explorer("house, one view", height=72, session=True)
explorer
"""
SHOWN = {  # notebooks of one cell
    "kept": KEPT,
    "explorer": EXPLORER,
    "inspector": INSPECTOR,
    "stepper": STEPPER,
    "scrubber": SCRUBBER,
    "room_box": ROOM_BOX,
}
pytestmark = pytest.mark.filterwarnings("default")  # the browser's driver warns


@pytest.fixture
def page(browser):
    """A page that remembers what went wrong on it."""
    context = browser.new_context(viewport={"width": 1440, "height": 1600})
    page = context.new_page()
    page.errors, page.missed = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda said: page.errors.append(said.text) if said.type == "error" else None,
    )
    page.on("requestfailed", lambda request: page.missed.append(request.url))
    yield page
    context.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """A JupyterLab on small notebooks, with no settings but its own."""
    root, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for name, source in SHOWN.items():
        notebook = new_notebook(cells=[new_code_cell(source)], metadata=kernel)
        nbformat.write(notebook, root / f"{name}.ipynb")
    with jupyterlab(root, home) as address:
        yield address


def pixels(element) -> np.ndarray:
    image = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return np.asarray(image).astype(float)


def is_drawn(canvas, paper: float = 0.05) -> bool:
    """Whether a canvas shows a scene: many colours, and the page around it on a share of `paper`."""
    seen = pixels(canvas).reshape(-1, 3)
    colors = len(np.unique(seen.round(-1), axis=0))
    return colors > 30 and bool((seen.min(1) > 250).mean() > paper)


def run_command(page, name: str, **options: str) -> None:
    page.evaluate("([name, o]) => window.jupyterapp.commands.execute(name, o)", [name, options])


def is_whole(page) -> bool:
    """Whether nothing of the widget reaches beyond the page, once the page has settled."""
    time.sleep(1)
    right = page.locator(".jp-NotebookPanel-notebook").bounding_box()
    return page.locator(".vmemkit-touch *").evaluate_all(
        "(all, right) => all.map(one => one.getBoundingClientRect())"
        ".every(box => !box.height || box.right <= right)",
        right["x"] + right["width"],
    )


def check_layout(page) -> None:
    """The Explorer fits a laptop's screen and narrower ones, on light and on dark pages."""
    explorer, canvas = page.locator(".vmemkit-keys"), page.locator("canvas").first
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": 1440, "height": 900})
    below, across = explorer.bounding_box()["height"], explorer.bounding_box()["width"]
    assert below < page.locator(".jp-NotebookPanel-notebook").bounding_box()["height"]
    for width in (1440, 1024, 800):
        page.set_viewport_size({"width": width, "height": 900})
        wait_until(lambda most=across: explorer.bounding_box()["width"] <= most)
        across = explorer.bounding_box()["width"]
        right = explorer.bounding_box()["x"] + across
        for part in (canvas, *page.locator(".vmemkit-keys button").all()):
            box = part.bounding_box()
            assert box is None or box["x"] + box["width"] <= right + 1
    page.set_viewport_size({"width": 1440, "height": 900})
    for theme, low, high in (("Dark", 0, 60), ("Light", 240, 255)):
        run_command(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
        canvas.scroll_into_view_if_needed()
        wait_until(lambda low=low, high=high: low <= pixels(canvas)[5, 5].mean() <= high)


def test_the_explorer_walks_undoes_and_can_be_clicked_on(page, lab):
    open_and_run(page, lab, "explorer.ipynb")
    check_layout(page)
    screen = page.locator(".vmemkit-screen", has_text="Memory(").first
    screen.scroll_into_view_if_needed()
    ask(page, "explorer.go(-1); explorer.settings.degrees.value = 20")
    steps = int(ask(page, "print(len(explorer.value.nodes))"))
    cells = page.locator(".jp-Cell").count()
    for press in (
        lambda: page.get_by_role("button", name="▲ forward").click(),
        lambda: page.keyboard.press("a"),  # would insert a cell if the button had the focus
        lambda: page.get_by_role("button", name="turn right ⟳").click(),
        lambda: page.keyboard.press("ArrowLeft"),
    ):
        before = screen.locator("img").get_attribute("src")
        press()
        steps += 1
        wait_until(lambda n=steps: ask(page, "print(len(explorer.value.nodes))") == str(n))
        ask(page, "explorer.wait()")
        wait_until(lambda old=before: screen.locator("img").get_attribute("src") != old)
    # a key that is held walks step by step, and none are left over
    page.keyboard.down("w")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        page.keyboard.down("w")  # the browser says that it repeats
        time.sleep(0.03)
    page.keyboard.up("w")
    time.sleep(1)  # the last one may be on its way
    wait_until(lambda: ask(page, "print(explorer._worker.busy)") == "False")
    walked = int(ask(page, "print(len(explorer.value.nodes))"))
    assert walked > steps
    time.sleep(1)
    assert ask(page, "print(len(explorer.value.nodes), explorer._worker.busy)") == f"{walked} False"
    at, shown = ask(page, "print(explorer.value.at)"), screen.locator("img").get_attribute("src")
    page.get_by_role("button", name="undo").click()
    wait_until(lambda: ask(page, "print(explorer.value.at)") != at)
    wait_until(lambda: screen.locator("img").get_attribute("src") != shown)

    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    wait_until(lambda: is_drawn(canvas))
    ask(page, "explorer.go(-1); explorer.scene.look_at_all(); explorer.scene.pick()")
    time.sleep(1)  # the eye moves in the browser
    page.mouse.click(*surfels_in_sight(page, canvas, "explorer.scene", 3)[1])
    wait_until(lambda: ask(page, "print(explorer.scene.picked_surfel)") != "-1")
    lit = ask(page, "print(explorer.scene.lit)")
    expected = ask(
        page,
        "_m, _i = explorer.scene.memory, explorer.scene.picked_surfel\n"
        "print(tuple(_m.sightings.view[_m.sightings.surfel == _i].tolist()))",
    )
    assert lit == expected
    page.mouse.click(*camera_in_sight(page, canvas, "explorer.scene", 0))
    wait_until(lambda: ask(page, "print(explorer.scene.picked_view)") == "0")
    assert ask(page, "print(explorer.scene.lit)") == "(0,)"
    # a drag turns the scene and picks nothing
    box, turned = canvas.bounding_box(), ask(page, "print(explorer.scene.eye)")
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 40, steps=4)
    page.mouse.up()
    wait_until(lambda: ask(page, "print(explorer.scene.eye)") != turned)
    assert ask(page, "print(explorer.scene.picked_view)") == "0"
    # after a click into the scene, keys walk instead of deleting cells; one waits for the other
    steps = int(ask(page, "print(len(explorer.value.nodes))"))
    for _ in range(2):
        page.keyboard.press("d")
    wait_until(lambda: ask(page, "print(len(explorer.value.nodes))") == str(steps + 2))
    assert page.locator(".jp-Cell").count() == cells
    # files above the servers' own limit of 10 MB arrive, and the form says what is there
    bitmap = io.BytesIO()
    Image.new("RGB", (2400, 1800)).save(bitmap, "bmp")
    own = {"name": "large.bmp", "mimeType": "image/bmp", "buffer": bitmap.getvalue()}
    page.get_by_text("an image of your own").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="image (0)").click()
    chooser.value.set_files(own)
    wait_until(lambda: "large.bmp (13.0 MB)" in ask(page, "print(explorer.own.held.value)"))
    ask(page, "explorer.wait(); explorer.close()")
    wait_until(lambda: page.locator(".vmemkit-screen").count() == 0)
    assert page.errors == []


def test_after_a_restart_of_the_kernel_the_walk_is_opened_from_the_list(page, lab):
    open_and_run(page, lab, "kept.ipynb")
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": 1440, "height": 900})
    ask(page, "for verb in ('right', 'forward'): explorer.move(verb); explorer.wait()")
    rows = page.locator(".vmemkit-tree button")
    wait_until(lambda: rows.count() == 3)
    rows.nth(1).click()  # goes there
    wait_until(lambda: ask(page, "print(explorer.value.at)") == "0")
    page.keyboard.press("a")  # the click has left the focus on the walk's keys
    wait_until(lambda: ask(page, "print(len(explorer.value.nodes))") == "3")
    ask(page, "explorer.wait()")
    wait_until(lambda: rows.count() == 4)
    assert rows.nth(3).get_attribute("aria-current") == "step"
    shown = page.locator(".vmemkit-keys").bounding_box()
    assert shown["height"] < page.locator(".jp-NotebookPanel-notebook").bounding_box()["height"]
    name = page.locator(".vmemkit-keys input[type=text]").first
    name.fill("was it red?")  # its letters are no steps
    name.press("Enter")
    wait_until(lambda: "was it red?" in rows.nth(3).inner_text())
    assert ask(page, "print(len(explorer.value.nodes))") == "3"
    page.get_by_title("delete this step").click()
    wait_until(lambda: rows.count() == 3)
    page.get_by_role("button", name="bring back 1").click()
    wait_until(lambda: rows.count() == 4)
    rows.nth(3).click()
    wait_until(lambda: ask(page, "print(explorer.value.at)") == "2")
    pictures = [row.locator("img").get_attribute("src") for row in rows.all()]
    screen = page.locator(".vmemkit-screen img").first
    before = screen.get_attribute("src")

    restart = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    page.evaluate(restart)
    open_and_run(page, lab, "kept.ipynb")
    page.get_by_role("button", name="earlier walks").click()
    card = page.locator(".vmemkit-gallery.cards button")
    assert "3 steps" in card.inner_text()
    card.click()
    wait_until(lambda: rows.count() == 4)
    wait_until(lambda: screen.get_attribute("src") == before)
    assert [row.locator("img").get_attribute("src") for row in rows.all()] == pictures
    page.get_by_role("button", name="▲ forward").click()
    wait_until(lambda: rows.count() == 5)
    # JupyterLab may still have messages for widgets of the kernel that is gone.
    assert [error for error in page.errors if not error.startswith("Comm not found")] == []


def test_the_inspector_follows_its_sliders_and_shows_who_saw_what(page, lab):
    open_and_run(page, lab, "inspector.ipynb")
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    wait_until(lambda: is_drawn(canvas, paper=0.005))  # the eye is in a room
    maps = page.locator(".vmemkit-screen", has_text="each pixel in the colour")
    before = maps.first.locator("img").get_attribute("src")
    chosen = ask(page, "print(inspector.value['coverage'].chosen.tolist())")
    handle = page.locator(".widget-slider", has_text="turn (degrees)").locator(".noUi-handle")
    handle.focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    wait_until(lambda: ask(page, "print(inspector.sliders['turn'].value)") == "45.0")
    wait_until(lambda: maps.first.locator("img").get_attribute("src") != before)
    assert ask(page, "print(inspector.value['coverage'].chosen.tolist())") != chosen
    follows = "print(inspector.scene.looks_from(inspector.query_targets[0]))"
    assert ask(page, follows) == "True"
    first = ask(page, "print(int(inspector.value['coverage'].chosen[0]))")
    page.locator(f".vmemkit-gallery button[data-id='{first}']").first.click()
    wait_until(lambda: ask(page, "print(inspector.scene.lit)") == f"({first},)")
    seen = page.locator(".vmemkit-screen", has_text=f"were seen by view {first}")
    wait_until(lambda: seen.count() == 1)
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": 1024, "height": 768})
    assert is_whole(page)
    assert page.errors == []


def test_a_step_is_gone_through_stage_by_stage_and_fits_a_projector(page, lab):
    open_and_run(page, lab, "stepper.ipynb")
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": 1024, "height": 768})
    following = page.locator(".vmemkit-touch button.mod-primary")
    presses = 0
    while following.inner_text() != "to the next step":
        following.click()
        presses += 1
        wait_until(lambda n=presses: ask(page, "print(len(stepper._done))") == str(n))
        wait_until(lambda: following.inner_text() == ask(page, "print(stepper.next.description)"))
    assert presses >= 4  # stages
    assert is_whole(page)
    assert page.errors == []


def test_sampling_can_be_scrubbed_through(page, lab):
    open_and_run(page, lab, "scrubber.ipynb")
    slider = page.locator(".widget-slider", has_text="step")
    slider.scroll_into_view_if_needed()
    frames = page.locator(".vmemkit-gallery img")
    wait_until(lambda: frames.count() == 6)
    last = [frames.nth(i).get_attribute("src") for i in (0, 3)]
    slider.locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    wait_until(lambda: ask(page, "print(scrubber.value.step)") == "0")
    wait_until(lambda: all(frames.nth(i).get_attribute("src") not in last for i in (0, 3)))
    assert page.get_by_text("sigma 84.9 → ").count() == 1
    assert page.errors == []


def test_the_box_of_a_room_is_drawn_by_mouse_and_keyboard(page, lab):
    open_and_run(page, lab, "room_box.ipynb")
    sketch = page.locator(".vmemkit-sketch")
    sketch.scroll_into_view_if_needed()
    assert sketch.locator("line").count() >= 6
    depth = page.locator(".vmemkit-screen img").first
    before, seen = ask(page, "print(room.value)"), depth.get_attribute("src")
    corner = sketch.locator("circle[data-name='bottom right']")
    box = corner.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 50, y + 20, steps=5)
    page.mouse.up()
    wait_until(lambda: ask(page, "print(room.value)") != before)
    wait_until(lambda: depth.get_attribute("src") != seen)
    # The handle comes to lie where it was dropped, although the kernel draws every move again.
    wait_until(lambda: abs(corner.bounding_box()["x"] - box["x"] - 50) < 3)
    assert abs(corner.bounding_box()["y"] - box["y"] - 20) < 3
    back = ask(page, "print(room.numbers['back'].value)")
    assert page.get_by_label("back wall (m)").input_value() == back
    point = sketch.locator("circle.point")
    u = float(ask(page, "print(room.numbers['across'].value)"))
    point.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        time.sleep(0.3)  # each press starts from where the kernel has put the handle
    wait_until(
        lambda: abs(float(ask(page, "print(room.numbers['across'].value)")) - u - 2.0) < 0.05
    )
    page.get_by_role("button", name="start the walk").click()
    wait_until(lambda: ask(page, "print(room.started)") == "1")
    assert page.errors == []


def test_the_offline_pages_draw_and_turn_without_kernel_or_network(page, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("no npm, which brings the widgets' browser code: install Node.js")
    cells = [new_code_cell(source) for source in SMALL.split("# ---")]
    cells.append(new_markdown_cell("A pixel is $z / f$ wide."))
    nbformat.write(new_notebook(cells=cells), tmp_path / "small.ipynb")
    build = [sys.executable, str(NOTEBOOKS / "gallery.py"), str(tmp_path), tmp_path / "small.ipynb"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(build, check=True, capture_output=True, env=environment)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/small.html")
    canvas = page.locator("canvas").first
    canvas.wait_for(timeout=MINUTE)
    canvas.scroll_into_view_if_needed()
    wait_until(lambda: is_drawn(canvas))
    before, box = pixels(canvas), canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 330, box["y"] + 230, steps=5)
    page.mouse.up()
    wait_until(lambda: np.abs(pixels(canvas) - before).mean() > 2)
    assert page.locator(".js-plotly-plot").count() >= 1
    page.locator("mjx-container").wait_for(timeout=MINUTE)  # the formula is set
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    server.shutdown()
    server.server_close()
    assert elsewhere == []
    assert page.missed == []
    assert page.errors == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, *words: object) -> None:
        pass
