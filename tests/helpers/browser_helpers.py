"""JupyterLab in a browser, for tests and benchmarks: start it, run a notebook, ask its kernel."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = "install Chromium (apt-get install chromium), or name a browser in VMEMKIT_BROWSER"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--use-gl=angle", "--enable-unsafe-swiftshader"]
TOKEN = "test"
MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()
[UPLOAD] = re.findall(r"^UPLOAD \?= (\d+)$", MAKEFILE, re.MULTILINE)  # bytes, as for `make lab`
MINUTE = 60_000  # milliseconds
READY = """() => {
  const context = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  return context?.isReady && context.session?.kernel?.status === "idle";
}"""
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
DONE = """() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.widgets];
  return cells.filter(c => c.model.type === "code").every(c => c.model.executionCount !== null);
}"""
ASK = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  let out = "";
  const future = kernel.requestExecute({ code, store_history: false });
  future.onIOPub = (message) => {
    if (message.header.msg_type === "stream") out += message.content.text;
    if (message.header.msg_type === "error") out += "ERROR " + message.content.evalue;
  };
  await future.done;
  return out.trim();
}"""


def find_browser() -> str | None:
    """The path of Chromium or Chrome, None where there is neither."""
    return os.environ.get("VMEMKIT_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def opened(path: str) -> Iterator:
    """A running browser, drawing in software as it must where there is no screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def jupyterlab(root: Path, home: Path) -> Iterator[str]:
    """The address of a JupyterLab on the folder `root`; its settings and logs go to `home`."""
    variables = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    port = free_port()
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": root,
        "ServerApp.tornado_settings": f'{{"websocket_max_message_size": {UPLOAD}}}',
        "IdentityProvider.token": TOKEN,
        "LabApp.news_url": "None",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--expose-app-in-browser", *(f"--{key}={value}" for key, value in options.items())]
    environment = {**os.environ, **variables, "IPYTHONDIR": str(home), "OMP_NUM_THREADS": "1"}
    address = f"http://127.0.0.1:{port}"
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            wait_until(lambda: responds(f"{address}/api/status?token={TOKEN}"), 60)
            yield address
        finally:
            server.terminate()
            server.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def responds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this has not come true in time"
        time.sleep(0.1)


def open_and_run(page, lab: str, name: str) -> None:
    page.goto(f"{lab}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_function(READY, timeout=2 * MINUTE)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.evaluate(RUN)
    page.wait_for_function(DONE, timeout=4 * MINUTE)
    page.wait_for_function(READY, timeout=MINUTE)


def ask(page, code: str) -> str:
    """What the notebook's kernel prints."""
    said = page.evaluate(ASK, code)
    assert not said.startswith("ERROR"), said
    return said


EYE = """
import torch
from vmemkit.core import cameras, project, splat
from vmemkit.figures.scene3d import _pose
camera = cameras(_pose(scene.eye, scene.target)[None], scene._intrinsics())
"""
SEEN = """
seen = (splat(scene.memory.surfels, camera, 44, 64).surfel[0] >= 0).float()
inside = -torch.nn.functional.max_pool2d(-seen[None], 5, 1, 2)[0]
places = (inside.nonzero().flip(1) + 0.5) / torch.tensor([64, 44])
print(places[torch.linspace(0, len(places) - 1, {n}).long()].tolist())
"""
AT = """
points = scene._pyramids[{view}].mean(0).reshape(1, 1, 3)
print(project(camera, points)[0].flatten().tolist())
"""


def surfels_in_sight(page, canvas, scene: str, n: int) -> list[tuple[float, float]]:
    """Where on the page n surfels are drawn that our own splatting sees from the scene's eye, each
    in the middle of a patch of surfels."""
    places = json.loads(ask(page, f"scene = {scene}" + EYE + SEEN.format(n=n)))
    return [on_page(canvas, *place) for place in places]


def camera_in_sight(page, canvas, scene: str, view: int) -> tuple[float, float]:
    """Where on the page a view's pyramid is drawn."""
    return on_page(canvas, *json.loads(ask(page, f"scene = {scene}" + EYE + AT.format(view=view))))


def on_page(canvas, u: float, v: float) -> tuple[float, float]:
    box = canvas.bounding_box()
    return box["x"] + u * box["width"], box["y"] + v * box["height"]
