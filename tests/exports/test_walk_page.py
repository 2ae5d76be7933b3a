"""The page of a walk: what it says, and what a browser shows of it."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from vmemkit.exports import html
from vmemkit.exports.vote_bars import vote_bars_svg
from vmemkit.retrieval import Retrieval


@pytest.fixture(scope="module")
def file(steps, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "walk.html"
    html(steps, file)
    return file


@pytest.fixture(scope="module")
def text(file) -> str:
    return file.read_text(encoding="utf-8")


def test_the_page_tells_of_each_step(steps, text):
    assert "<h1>A walk of 2 steps</h1>" in text
    assert "Step 1: right 60.0" in text  # from the given view to the last target of the step
    assert "Step 2: right 60.0" in text
    assert text.count("2 views were generated from") == 2
    assert "began with 1 view and ended with 5" in text
    assert "which temporal chose among 3" in text
    assert "Not every choice looked at surfels" in text


def test_the_page_asks_for_nothing_from_elsewhere(text):
    addresses = re.findall(r'(?:src|href)="([^"]{0,5})', text)
    assert {address[:1] if address[:1] == "#" else address for address in addresses} == {
        "#",
        "data:",
    }
    assert "http" not in text
    assert "import(" not in text


def test_what_generators_say_cannot_become_a_part_of_the_page(steps, tmp_path):
    last = dataclasses.replace(steps[-1].generations[-1], note="<script>alert(1)</script>")
    step = dataclasses.replace(steps[-1], generations=(last,))
    html([step], tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "A walk of one step" in text


def test_the_height_of_a_bar_is_its_vote(steps):
    rivals, votes = torch.tensor([-1, -1, 0]), torch.tensor([50.0, 100.0, 25.0])
    query = steps[0].targets
    retrieval = Retrieval("mine", torch.tensor([1, 0]), votes, votes, rivals, query, None)
    svg = vote_bars_svg(retrieval)
    assert re.findall(r'<rect [^>]*height="([0-9.]+)"', svg) == ["50.0", "100.0", "25.0"]
    assert "view 2: score 25, skipped: too near to view 0" in svg
    assert "view 1: score 100, chosen as number 1" in svg
    negative = dataclasses.replace(retrieval, votes=-votes)
    svg = vote_bars_svg(negative)
    assert re.findall(r'<rect [^>]*height="([0-9.]+)"', svg) == ["50.0", "100.0", "25.0"]
    assert len(set(re.findall(r'<rect [^>]* y="([0-9.]+)"', svg))) == 1  # all hang from zero


def drawn(page) -> np.ndarray:
    """Which pixels of the scene differ from its background."""
    page.wait_for_timeout(300)  # a frame
    shot = page.locator("#space").screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return np.abs(pixels - pixels[2, 2]).max(-1) > 8


def test_a_browser_shows_pictures_and_a_scene_that_follows_time(browser, file):
    page, trouble = browser.new_page(viewport={"width": 1024, "height": 768}), []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(request.url))
    page.on(
        "request",
        lambda request: trouble.append(request.url[:60]) if "http" in request.url[:5] else None,
    )
    page.goto(file.as_uri())
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert set(widths) == {16} | ({w for w in widths if w > 16})  # views, and maps of votes
    whole = drawn(page)
    assert whole.mean() > 0.02
    page.evaluate("""() => {
      const time = document.querySelector("input[name=step]");
      time.value = 0;
      time.dispatchEvent(new Event("input", { bubbles: true }));
    }""")
    assert 0 < drawn(page).sum() < 0.8 * whole.sum()
    expect(page.locator("output")).to_have_text("the beginning: 1 view")
    page.locator("select[name=color]").select_option("1")
    expect(page.locator("#legend")).to_contain_text("a given view saw it")
    before = drawn(page)
    page.locator("#space").focus()
    page.keyboard.press("ArrowLeft")
    assert (drawn(page) != before).mean() > 0.001
    assert page.evaluate("document.documentElement.scrollWidth") <= 1024
    assert trouble == []
    page.close()


def test_the_page_is_light_or_dark_as_the_reader_wishes(browser, file):
    colors = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        colors[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.close()
    assert colors == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 27)"}


def test_walks_without_steps_and_other_names_are_refused(steps, tmp_path):
    with pytest.raises(ValueError, match="steps"):
        html([], tmp_path / "a.html")
    with pytest.raises(ValueError, match=r"\.html"):
        html(steps, tmp_path / "a.htm")
    assert list(tmp_path.iterdir()) == []
