"""Parts that several widgets share: controls, messages, vote bars, and work in the background."""

from __future__ import annotations

import contextvars
import html
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import ipywidgets
from jaxtyping import Float
from matplotlib.colors import to_rgb
from torch import Tensor

from vmemkit.figures import CARD, chip, view_hex
from vmemkit.memory import Memory
from vmemkit.retrieval import POLICIES, Policy, Retrieval, find_policy, policy_name

BARS = 12  # number of views with most votes that have a bar, beside the chosen ones
GAP = 2  # pixels between the images of a mosaic
BUTTON = {"width": "auto", "flex": "0 0 auto"}  # layout of buttons as wide as their words
# Layout of buttons that share a row evenly.
ALIKE = {"width": "auto", "min_width": "0", "flex": "1 1 0", "padding": "0 2px"}
WRAPPED = {"flex_flow": "row wrap", "grid_gap": "4px 8px"}  # rows that go on below in narrow pages
FIXED = "0 0 auto"  # flex of what keeps its size in a row
DESCRIPTION = {"description_width": "initial"}  # as wide as its words
WIDTH = "290px"  # of sliders and menus
W = TypeVar("W", bound=ipywidgets.DOMWidget)


def button(text: str, press: Callable[[], object], **options: Any) -> ipywidgets.Button:
    """A button that calls `press`; `options` are those of ipywidgets."""
    made = ipywidgets.Button(description=text, **{"layout": BUTTON, **options})
    made.on_click(lambda clicked: press())
    return made


def slider(
    text: str, value: float, low: float, high: float, step: float = 1, width: str = WIDTH
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """A slider over whole numbers if `value` is one, else over floats."""
    kind = ipywidgets.IntSlider if isinstance(value, int) else ipywidgets.FloatSlider
    style = {"style": DESCRIPTION, "layout": {"width": width, "flex": FIXED}}
    return kind(value, min=low, max=high, step=step, description=text, **style)


def classed(widget: W, *names: str) -> W:
    """The widget, with classes for style sheets."""
    for name in names:
        widget.add_class(name)
    return widget


def menu(
    text: str, options: Iterable[str], value: str | None = None, width: str = WIDTH
) -> ipywidgets.Dropdown:
    """A drop-down menu, at its first option unless `value` names another."""
    options = list(options)
    value = options[0] if value is None else value
    style = {"style": DESCRIPTION, "layout": {"width": width, "flex": FIXED}}
    return ipywidgets.Dropdown(options=options, value=value, description=text, **style)


def named_policies(policies: Iterable[str | Policy]) -> dict[str, Policy]:
    """Policies by name: as in POLICIES, that of the function, or that of the class. Other policies
    of a name that is taken get a number.

    Errors: ValueError for an unknown name, and for what is no policy.
    """
    named: dict[str, Policy] = {}
    for policy in policies:
        found, name = find_policy(policy), policy_name(policy)
        if not isinstance(policy, str):
            number, plain = 1, name
            while name in POLICIES or name in named:
                number += 1
                name = f"{plain} ({number})"
        named[name] = found
    return named


def words_of(error: BaseException) -> str:
    """What went wrong, in words. Errors that are not meant for users have their kind before them."""
    text = str(error) or type(error).__name__
    meant = isinstance(error, (ValueError, OSError)) or not str(error)
    return text if meant else f"{type(error).__name__}: {text}"


class Message(ipywidgets.HTML):
    """A line that tells what goes on (`say`), or what went wrong (`warn`)."""

    def say(self, text: str) -> None:
        style = "line-height:20px;padding:4px 0"
        self.value = f'<div style="{style}">{html.escape(text)}</div>' if text else ""

    def warn(self, text: str) -> None:
        style = (
            "color:#8a1c1c;background:#fdecec;padding:4px 8px;border-radius:4px;line-height:20px"
        )
        self.value = f'<div role="alert" style="{style}">{html.escape(text)}</div>'

    @property
    def text(self) -> str:
        """The message without its HTML."""
        return html.unescape(self.value.partition(">")[2].rpartition("<")[0])


class Worker:
    """Runs one job at a time in a thread, so that the page stays responsive.

    A job is an iterator; between its items it can be cancelled. `on_item` receives every item,
    `on_end` the error (None after success or cancelling); it may return a job to go on with. Both
    are called from the thread.
    """

    def __init__(
        self,
        on_item: Callable[[Any], None],
        on_end: Callable[[BaseException | None], Iterator[Any] | None],
    ) -> None:
        self._on_item, self._on_end = on_item, on_end
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vmemkit")
        self._future: Future | None = None
        self._stop, self._ended = threading.Event(), threading.Event()

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
        self._ended.clear()
        self._begin(job)

    def _begin(self, job: Iterator[Any]) -> None:
        self._stop.clear()
        # ipywidgets keeps in the calling context which notebook cell its messages belong to.
        run = contextvars.copy_context().run
        self._future = self._pool.submit(run, self._run, job)
        self._future.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Stop before the next item."""
        self._stop.set()

    def close(self) -> None:
        """Stop before the next item, and let go of the thread."""
        self._stop.set()
        self._pool.shutdown(wait=not self.busy)

    def wait(self, seconds: float = 60.0) -> None:
        """Block until the job, and those that followed it, have ended. Errors: TimeoutError."""
        if self._future is not None and not self._ended.wait(seconds):
            raise TimeoutError(f"the job has not ended within {seconds:g} s")

    def _run(self, job: Iterator[Any]) -> None:
        for item in job:
            if self._stop.is_set():
                return
            self._on_item(item)

    def _finish(self, future: Future) -> None:
        following = None
        try:
            following = self._on_end(future.exception())
        finally:
            if following is None:
                self._ended.set()
            else:
                self._begin(following)


def mosaic(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "3 h2 w2"]:
    """Images in one, on a card: one alone, two side by side, more in rows of two."""
    columns = min(2, len(images))
    rows = math.ceil(len(images) / columns)
    h, w = images.shape[2] + GAP, images.shape[3] + GAP
    card = images.new_tensor(to_rgb(CARD))[:, None, None].repeat(
        1, rows * h - GAP, columns * w - GAP
    )
    for i, image in enumerate(images):
        y, x = i // columns * h, i % columns * w
        card[:, y : y + h - GAP, x : x + w - GAP] = image
    return card


def vote_table(memory: Memory, retrieval: Retrieval) -> str:
    """Bars of the views with most votes, in HTML: who was chosen, who was suppressed by whom."""
    votes, chosen = retrieval.votes.tolist(), retrieval.chosen.tolist()
    rivals = retrieval.suppressed_by.tolist()
    most = sorted(range(len(votes)), key=lambda view: -votes[view])[:BARS]
    others = [v for v in most if v not in chosen and (votes[v] > 0 or rivals[v] >= 0)]
    low, high = min(0.0, *votes), max(votes)
    rows = []
    for view in sorted([*others, *chosen], key=lambda view: -votes[view]):
        order = f"<b>{chosen.index(view) + 1}.</b>" if view in chosen else ""
        fate = f"suppressed by {chip(rivals[view])}" if rivals[view] >= 0 else order
        kind = "given" if memory.views.given[view] else "generated"
        distance = float(retrieval.distance[view])
        title = f"view {view}, {kind}: {votes[view]:.4g}, pose distance {distance:.2f}"
        opacity = 1.0 if view in chosen else 0.35
        width = 1 + 150 * (votes[view] - low) / max(high - low, 1e-9)
        bar = f"background:{view_hex(view)};opacity:{opacity};width:{width:.0f}px;height:12px"
        rows.append(
            f"<tr title='{title}'><td>{chip(view)}</td>"
            f"<td style='width:152px'><div style='{bar}'></div></td><td>{fate}</td></tr>"
        )
    return (
        "<small>votes, and the order of choice</small>"
        f"<table style='border-spacing:4px 1px;line-height:17px'>{''.join(rows)}</table>"
    )


def heading(text: str) -> ipywidgets.HTML:
    """A line in bold."""
    return ipywidgets.HTML(f"<b>{html.escape(text)}</b>")


def close_all(widget: ipywidgets.Widget) -> None:
    """Close a widget and all that it refers to: children, layouts, what a scene draws."""
    found, waiting = set(), [widget]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ipywidgets.Widget):
            if value not in found:
                found.add(value)
                waiting += [getattr(value, name) for name in value.keys]
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    for value in found:
        value.unobserve_all()
        ipywidgets.Widget.close(value)
