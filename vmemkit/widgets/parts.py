"""Parts that several widgets share: messages, bars, mosaics, and work that can be waited for."""

from __future__ import annotations

import contextvars
import html
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.figures import chip, css, explained
from vmemkit.memory import Memory
from vmemkit.retrieval import Retrieval

BARS = 12  # views with most votes, and all chosen ones, have a bar

GAP = 2  # pixels between the pictures of a mosaic

WHITE = 1.0

BUTTON = ipywidgets.Layout(width="auto", min_width="44px")

DESCRIPTION = {"description_width": "initial"}


class Message(ipywidgets.HTML):
    """A line that says what went wrong, or what is going on."""

    def say(self, text: str) -> None:
        self.value = f"<span>{html.escape(text)}</span>" if text else ""

    def warn(self, text: str) -> None:
        style = "color:#8a1c1c;background:#fdecec;padding:4px 8px;border-radius:4px"
        self.value = f'<div role="alert" style="{style}">{html.escape(text)}</div>'

    @property
    def text(self) -> str:
        """What it says, without its looks."""
        return html.unescape(self.value.partition(">")[2].rpartition("<")[0])


class Worker:
    """Runs one job at a time beside the page, so that the page stays alive.

    A job is an iterator; between its items it can be cancelled. `on_item` sees every item, `on_end`
    the error (None for success or a cancelled job); both are called from the worker's thread.
    """

    def __init__(
        self, on_item: Callable[[Any], None], on_end: Callable[[BaseException | None], None]
    ) -> None:
        self._on_item, self._on_end = on_item, on_end
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vmemkit")
        self._stop, self._future, self._ended = threading.Event(), None, threading.Event()

    @property
    def busy(self) -> bool:
        return self._future is not None and not self._ended.is_set()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def start(self, job: Iterator[Any]) -> None:
        """Errors: RuntimeError while another job is running."""
        if self.busy:
            raise RuntimeError("a job is running: cancel it or wait for it")
        self._stop.clear()
        self._ended.clear()
        # what is sent to the page is told apart by a variable of the calling context
        run = contextvars.copy_context().run
        self._future = self._pool.submit(run, self._run, job)
        self._future.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Stop before the next item."""
        self._stop.set()

    def wait(self, seconds: float = 60.0) -> None:
        """Block until the job has ended. Errors: TimeoutError."""
        if self._future is not None and not self._ended.wait(seconds):
            raise TimeoutError(f"the job has not ended within {seconds:g} s")

    def _run(self, job: Iterator[Any]) -> None:
        for item in job:
            if self._stop.is_set():
                return
            self._on_item(item)

    def _finish(self, future: Future) -> None:
        try:
            self._on_end(future.exception())
        finally:
            self._ended.set()


def mosaic(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "3 h2 w2"]:
    """Images in one: one alone, two side by side, more in rows of two."""
    columns = min(2, len(images))
    missing = -len(images) % columns
    blank = images.new_full((missing, *images.shape[1:]), WHITE)
    padded = torch.nn.functional.pad(torch.cat([images, blank]), (0, GAP, 0, GAP), value=WHITE)
    rows = [torch.cat([*row], -1) for row in padded.split(columns)]
    return torch.cat(rows, -2)[:, :-GAP, :-GAP]


def share_labels(memory: Memory, retrieval: Retrieval) -> list[str]:
    """The chosen views, each with the share of the target pixels that it explains."""
    shares = explained(memory, retrieval).mean(0).tolist()
    chosen = retrieval.chosen.tolist()
    return [f"{view}: {share:.0%}" for view, share in zip(chosen, shares, strict=True)]


def vote_table(memory: Memory, retrieval: Retrieval) -> str:
    """Bars of the views with most votes, in HTML: who was chosen, who was kept out by whom."""
    votes, chosen = retrieval.votes, retrieval.chosen.tolist()
    ranked = votes.argsort(descending=True)[:BARS].tolist()
    rows = [
        v for v in ranked if v not in chosen and (votes[v] > 0 or retrieval.suppressed_by[v] >= 0)
    ]
    rows = sorted([*rows, *chosen], key=lambda view: -float(votes[view]))
    low, high = min(0.0, float(votes.min())), float(votes.max())
    return (
        "<small>votes, and the order of choice</small>"
        "<table style='border-spacing:4px 1px;line-height:17px'>"
        + "".join(
            _bar(memory, retrieval, view, (float(votes[view]) - low) / max(high - low, 1e-9))
            for view in rows
        )
        + "</table>"
    )


def _bar(memory: Memory, retrieval: Retrieval, view: int, share: float) -> str:
    chosen, rival = retrieval.chosen.tolist(), int(retrieval.suppressed_by[view])
    fate = f"<b>{chosen.index(view) + 1}.</b>" if view in chosen else ""
    fate = f"kept out by {chip(rival)}" if rival >= 0 else fate
    kind = "given" if memory.views.given[view] else "generated"
    votes, distance = float(retrieval.votes[view]), float(retrieval.distance[view])
    title = f"view {view}, {kind}: {votes:.4g}, pose distance {distance:.2f}"
    alpha = 1.0 if view in chosen else 0.35
    bar = f"background:{css(view)};opacity:{alpha};width:{1 + 150 * share:.0f}px;height:12px"
    return (
        f"<tr title='{title}'><td>{chip(view)}</td><td style='width:152px'><div style='{bar}'></div>"
        f"</td><td>{fate}</td></tr>"
    )


def heading(text: str) -> ipywidgets.HTML:
    """A line in bold."""
    return ipywidgets.HTML(f"<b>{html.escape(text)}</b>")
