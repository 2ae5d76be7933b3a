"""The Explorer as a page (`make app`): two visitors walk, one of them on a phone, and none of them can
ask for too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_helpers import HOW, MINUTE, find_browser, free_port, opened, responds, wait_until

pytest.importorskip("voila", reason="voila is not installed: pip install -e '.[notebook,app]'")

ROOT = Path(__file__).parents[2]
APP = ROOT / "notebooks" / "app"
MOST, IDLE = 2, 15  # visitors; seconds after which a kernel that nobody asks is ended
LIMITS = {
    "VisitorKernels.most": MOST,
    "VisitorConnection.burst": 300,
    "VisitorConnection.data_burst": 20_000_000,
}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
MESSAGE = {
    "header": {"msg_id": "1", "msg_type": "comm_info_request", "session": "x", "username": ""}
    | {"version": "5.3", "date": "2026-01-01T00:00:00Z"},
    "parent_header": {},
    "metadata": {},
    "content": {},
    "channel": "shell",
}


@contextlib.contextmanager
def voila(home: Path, **settings: float) -> Iterator[str]:
    """The address of the page, served with the settings of `make app` and these."""
    port = free_port()
    options = {"Voila.config_file_paths": APP, "port": port, **LIMITS, **settings}
    command = [sys.executable, "-m", "voila", "--no-browser", str(APP / "explorer.ipynb")]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(home), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home)
        try:
            wait_until(lambda: responds(f"http://127.0.0.1:{port}/voila/static/voila.js"), 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def page(tmp_path) -> Iterator[str]:
    with voila(tmp_path) as address:
        yield address


def visit(address: str) -> str:
    """Opens the page as a browser would, up to its last cell. The id of the visitor's kernel."""
    with urllib.request.urlopen(address, timeout=120) as answer:
        return re.search(r'"kernelId": "([0-9a-f-]+)"', answer.read().decode())[1]


async def flood(address: str, kernel: str, size: int, count: int) -> bool:
    """Sends so many messages of a size to a kernel. Whether the server closes the websocket."""
    from tornado.websocket import WebSocketClosedError, websocket_connect

    url = f"{address.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id=x"
    socket = await websocket_connect(url)
    text = json.dumps(MESSAGE | {"metadata": {"padding": "x" * size}})
    try:
        for _ in range(count):
            await socket.write_message(text)
            await asyncio.sleep(0)
        while await asyncio.wait_for(socket.read_message(), 10) is not None:
            pass
    except asyncio.TimeoutError:
        return False
    except WebSocketClosedError:
        pass
    finally:
        socket.close()
        await asyncio.sleep(0.2)  # until it has said goodbye
    return True


def test_the_next_visitor_is_told_to_come_back(page):
    kernels = [visit(page) for _ in range(MOST)]
    assert len(set(kernels)) == MOST
    with pytest.raises(urllib.error.HTTPError, match="503: Too many visitors") as refused:
        visit(page)
    refused.value.close()


@pytest.mark.parametrize(("size", "count"), [(10, 3_000), (1_000_000, 200)])
def test_a_visitor_who_sends_too_much_is_cut_off_and_the_others_are_not(
    page, tmp_path, size, count
):
    from psutil import Process

    loud, quiet = visit(page), visit(page)
    [server] = [p for p in Process().children() if "voila" in " ".join(p.cmdline())]
    before = server.memory_info().rss
    assert asyncio.run(flood(page, loud, size, count))
    assert f"closed the websocket of kernel {loud}" in (tmp_path / "log").read_text()
    # Nor does it help to come again.
    assert asyncio.run(flood(page, loud, size, count))
    assert not asyncio.run(flood(page, quiet, 10, 10))
    assert server.memory_info().rss < before + 150_000_000


def test_a_visitor_who_does_not_fetch_what_is_sent_is_cut_off(tmp_path):
    with voila(tmp_path, **{"VisitorConnection.unfetched": 500}) as address:  # less than an answer
        assert asyncio.run(flood(address, visit(address), 10, 1))
    assert "messages are not fetched" in (tmp_path / "log").read_text()


def test_a_kernel_that_nobody_asks_is_ended_and_its_folder_is_deleted(tmp_path, monkeypatch):
    culling = {"VisitorKernels.cull_idle_timeout": IDLE, "VisitorKernels.cull_interval": 1}
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with voila(tmp_path, **culling) as address:
        for _ in range(MOST):
            visit(address)
        [root] = temporary.glob("vmemkit-visitors-*")
        folders = list(root.iterdir())
        assert len(folders) == MOST
        for folder in folders:
            (folder / "walk").write_text("kept while the visitor is here")
        log = tmp_path / "log"
        wait_until(lambda: log.read_text().count("of inactivity") >= MOST, 60)
        wait_until(lambda: not any(root.iterdir()))
        visit(address)  # there is room again
    assert not root.exists()


def test_what_a_visitor_walks_is_kept_in_the_folder_of_the_kernel(tmp_path, monkeypatch):
    browser = find_browser()
    if browser is None:
        pytest.skip(f"no browser: {HOW}")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with opened(browser) as chromium:
        monkeypatch.setenv("TMPDIR", str(temporary))
        with voila(tmp_path) as address:
            tab = chromium.new_context().new_page()
            tab.goto(address, timeout=2 * MINUTE)
            tab.get_by_text("your steps will be kept until the page is closed").wait_for()
            tab.get_by_role("button", name="turn right").click()
            tab.get_by_text("MB kept until the page is closed").wait_for(timeout=MINUTE)
            assert len(list(temporary.glob("vmemkit-visitors-*/*/vmemkit-walks-*/*/journal"))) == 1
    assert not any(temporary.glob("vmemkit-visitors-*"))


def test_two_visitors_walk_and_see_their_own_pictures(page):
    browser = find_browser()
    if browser is None:
        pytest.skip(f"no browser: {HOW}")
    with opened(browser) as chromium:
        first, second = (chromium.new_context(**device).new_page() for device in ({}, PHONE))
        for tab in (first, second):
            tab.goto(page, timeout=2 * MINUTE)
            tab.locator(".vmemkit-screen img").first.wait_for(timeout=2 * MINUTE)
        assert picture(first) == picture(second)
        start = picture(second)
        first.get_by_role("button", name="turn right").click()
        wait_until(lambda: picture(first) != start, 60)
        assert picture(second) == start
        second.get_by_role("button", name="look up").click()
        wait_until(lambda: picture(second) not in (start, picture(first)), 60)
        check_phone(second)
        # A tap meets a surfel although the canvas is scaled.
        canvas, scene = second.locator("canvas").first, second.locator(".vmemkit-scene")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box["width"] < PHONE["viewport"]["width"]
        second.touchscreen.tap(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"])
        wait_until(lambda: "Surfel" in scene.inner_text())


def check_phone(tab) -> None:
    """Nothing is cut off; the picture and, below it, buttons large enough for a finger fill the first
    screen; and the rest follows."""
    width, height = PHONE["viewport"].values()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = tab.locator(".vmemkit-touch *").evaluate_all(
        "(all, width) => all.map(one => one.getBoundingClientRect())"
        ".filter(box => box.height && (box.right > width || box.left < 0)).length",
        width,
    )
    assert wide == 0
    tab.evaluate("document.querySelector('.vmemkit-screen').scrollIntoView()")
    screen = tab.locator(".vmemkit-screen img").first.bounding_box()
    assert screen["width"] > 0.9 * width
    buttons = [
        tab.get_by_role("button", name=name).bounding_box() for name in ("forward", "sink", "undo")
    ]
    assert all(box["height"] >= 44 and box["width"] >= 44 for box in buttons)
    assert (
        screen["y"] + screen["height"]
        < buttons[0]["y"]
        < buttons[1]["y"]
        < buttons[2]["y"]
        < height
    )
    rest = [tab.locator("canvas").first, tab.get_by_text("metres a step")]
    places = [buttons[2]["y"], *(part.bounding_box()["y"] for part in rest)]
    assert places == sorted(places)


def picture(tab) -> str:
    """What a visitor's screen shows."""
    return tab.locator(".vmemkit-screen img").first.get_attribute("src")
