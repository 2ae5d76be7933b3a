"""Charts: retrievals, walks and scores as plots that answer to the pointer.

In: memories, retrievals, steps, and scores by policy. Out: a `Chart`, a plotly figure: hovering
tells the numbers, and the legend hides curves. With it a notebook stores its still twin, the same
traces drawn by matplotlib, for readers without JavaScript. A view has the colour that it has in all
pictures (`view_colors`), a policy one of its own (`POLICY_COLORS`), a dash and a marker.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import plotly.graph_objects as go
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import MultipleLocator
from PIL import Image

from vmemkit.figures.page import DPI, INK, NOTEBOOK_DPI, POINTS, QUIET, Picture
from vmemkit.figures.pictures import view_colors
from vmemkit.memory import Memory, begin
from vmemkit.pipeline import Step
from vmemkit.retrieval import Retrieval

# Colour, dash and marker of each policy: strong colours (Okabe and Ito, 2008) for those that ask who
# saw the targets, tinted greys for those that do not.
STYLES = {
    "coverage": ("#0072b2", "solid", "circle"),
    "surfel_votes": ("#d55e00", "solid", "square"),
    "released": ("#009e73", "dash", "diamond"),
    "oracle": (INK, "dot", "star"),
    "temporal": ("#8b8f95", "solid", "triangle-up"),
    "camera_distance": ("#a08a55", "dash", "triangle-down"),
    "fov_overlap": ("#7d95b5", "dashdot", "cross"),
    "random": ("#a58ca0", "dot", "x"),
}

POLICY_COLORS = {name: color for name, (color, _, _) in STYLES.items()}

SPARE_COLORS = ("#cc79a7", "#e69f00", "#56b4e9", "#7f5a2b")  # of other names, in their order

DASHES = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}  # plotly's names: matplotlib's

MARKERS = {"circle": "o", "square": "s", "diamond": "D", "star": "*", "cross": "P", "x": "X"}

MARKERS |= {"triangle-up": "^", "triangle-down": "v", "hexagon": "h", "pentagon": "p"}

GRID, THERE, PAPER = "#e9ebee", "#e4e7ea", "#ffffff"  # grid | a view that was in memory | page

PALE = 0.3  # share of its colour that remains to what is not emphasised

PIXEL = POINTS / NOTEBOOK_DPI  # points of print per pixel of a screen

WIDTH, HEIGHT = 800, 400  # pixels, as all sizes below

LEFT, RIGHT, TOP, BOTTOM = 72, 20, 44, 52  # margins

TEXT, TITLE, LETTER = 12, 14, 7.5  # sizes of letters, and the width of one

ROOM, MANY = 0.06, 40  # of an axis, beyond the data | points at which a curve loses its markers

FULL, LOWER = 0.94, 0.7  # height of a first choice in its row, and what a last one would lack

ROW, ROWS = (12, 26), 400  # height of a step's row, at least and at most; of all rows, if they can

TICK = (0.0, 0.0, -0.3, 0.3, 0.0, 0.0)  # how far off its row a stroke goes on its way

STILL_COLORS = 255  # of a stored still: flat areas and their edges need no more

Trace = dict[str, Any]  # one of plotly's, or a part of one

Series = Mapping[str, Sequence[float]]  # by policy


class Chart(go.Figure):
    """A plotly figure that notebooks show as such, and store together with a still picture."""

    _ipython_display_ = None  # plotly's would show it by itself, and without the still
    _repr_html_ = None  # with plotly's whole library in it

    def still(self) -> Picture:
        """The chart as a matplotlib figure. Errors: ValueError for traces of kinds unknown here."""
        return _still(self.to_plotly_json())

    def _repr_mimebundle_(self, include=None, exclude=None, **kwargs) -> dict[str, Any]:
        chart, drawn, stored = json.loads(self.to_json()), io.BytesIO(), io.BytesIO()
        chart["layout"].pop("template", None)
        self.still().savefig(drawn, format="png", dpi=NOTEBOOK_DPI)
        flat = Image.open(drawn).convert("RGB").quantize(STILL_COLORS, dither=Image.Dither.NONE)
        flat.save(stored, format="png", optimize=True)
        return {
            "application/vnd.plotly.v1+json": {**chart, "config": {"displaylogo": False}},
            "image/png": base64.b64encode(stored.getvalue()).decode("ascii"),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return "Chart()"


def vote_bars(memory: Memory, retrieval: Retrieval) -> Chart:
    """A bar per view, as high as its votes, in its colour: full for the chosen views, which bear
    their order, pale for the others, and hatched where a chosen view suppressed one. Policies that
    do not look at surfels have scores instead. Errors: ValueError for another memory's retrieval.
    """
    order, hover, title, unit = _read(memory, retrieval)
    votes, suppressed = retrieval.votes.tolist(), (retrieval.suppressed_by >= 0).tolist()
    colors = [c if view in order else _pale(c) for view, c in enumerate(_hex(len(memory)))]
    hatch = {"shape": ["/" if by else "" for by in suppressed], "fgcolor": QUIET}
    hatch |= {"fillmode": "overlay", "fgopacity": 1, "solidity": 0.15}
    bars = {"type": "bar", "x": [*range(len(votes))], "y": _short(votes), "width": 0.85}
    bars |= {"marker": {"color": colors, "pattern": hatch}, "hovertext": hover}
    x = _axis(f"view{' (hatched: suppressed)' * any(suppressed)}", (-0.7, len(votes) - 0.3))
    low, high = _range([0.0, *votes], 3 * ROOM)
    chart = _chart([bars], x, _axis(unit, (low if min(votes) < 0 else 0.0, high), True), title)
    tops = [(view, max(0.0, votes[view])) for view in order]
    _label(chart, tops, [_ordinal(place) for place in order.values()], radius=1, beside=False)
    return chart


def pose_distances(memory: Memory, retrieval: Retrieval) -> Chart:
    """A marker per view in its colour: how far its pose is from the query cameras, and its votes.

    The chosen views are large, outlined, and named with their order: the nearest need not have the
    most votes. Errors: ValueError for another memory's retrieval.
    """
    order, hover, title, unit = _read(memory, retrieval)
    distance, votes = retrieval.distance.tolist(), retrieval.votes.tolist()
    views, colors = sorted(range(len(votes)), key=order.__contains__), _hex(len(memory))
    marker = {"symbol": "circle", "opacity": 1, "color": [colors[view] for view in views]}
    marker |= {"size": [15 if view in order else 8 for view in views]}
    marker |= {"line": {"color": INK, "width": [2 if view in order else 0 for view in views]}}
    x, y = [distance[view] for view in views], [votes[view] for view in views]
    trace = _markers(x, y, marker, [hover[view] for view in views])
    x_axis = _axis("pose distance to the query cameras", _range(x, 2 * ROOM), grid=True)
    chart = _chart([trace], x_axis, _axis(unit, _range(y, 2 * ROOM), grid=True), title)
    points = [(distance[view], votes[view]) for view in (*order, *views)]
    texts = [f"{view} ({_ordinal(place)})" for view, place in order.items()]
    _label(chart, points, texts, radius=7, beside=True)
    return chart


def retrieval_matrix(steps: Sequence[Step]) -> Chart:
    """Who was used when: a row per step, the first on top, and a column per view.

    A view that the step chose has its colour, in full height if it was the first choice and lower
    for each later one; grey was in memory and not chosen, white was not there yet.
    Errors: ValueError for no steps.
    """
    if not steps:
        raise ValueError("a retrieval matrix needs at least one step, got none: walk first")
    held, rows, hover, height = [len(step.before) for step in steps], range(len(steps)), [], []
    chosen = [step.retrieval.chosen.tolist() for step in steps]
    uses = [(row, view, place) for row in rows for place, view in enumerate(chosen[row])]
    for row, view, place in uses:
        age = f"{held[row] - view} view{'s' * (held[row] - view > 1)} old"
        hover.append(f"step {row} used view {view}, its {_ordinal(place)} choice, {age}")
        height.append(FULL * (1 - LOWER * place / len(chosen[row])))
    there = {"x": held, "y": [*rows], "base": [-0.5] * len(rows), "width": [FULL] * len(rows)}
    there |= {"marker": {"color": THERE}, "hoverinfo": "skip"}
    used = {"x": [1] * len(uses), "y": [row for row, _, _ in uses], "width": height}
    used |= {"base": [view - 0.5 for _, view, _ in uses], "hovertext": hover}
    used |= {"marker": {"color": [_hex(view + 1)[view] for _, view, _ in uses]}}
    traces = [{"type": "bar", "orientation": "h", **bars} for bars in (there, used)]
    given = int(steps[0].before.views.given.sum())
    x = _axis(f"view (the first {given} given)" if given else "view", (-0.7, max(held) - 0.3))
    names = ", ".join(dict.fromkeys(step.retrieval.policy for step in steps))
    title = f"{names}: the views that each step used (highest: its first choice)"
    whole = TOP + BOTTOM + round(len(steps) * min(ROW[1], max(ROW[0], ROWS / len(steps))))
    return _chart(traces, x, _axis("step", (len(steps) - 0.5, -0.5)), title, height=whole)


def memory_growth(memory: Memory) -> Chart:
    """How many surfels and sightings the memory held after each view, and how many surfels it would
    hold if none had been merged with those of earlier views: each view's surfels are made anew from
    the depth that is remembered, and counted. Errors: ValueError for an empty memory.
    """
    if len(memory) == 0:
        raise ValueError("an empty memory has not grown: write a view first")
    alone = torch.zeros(len(memory), dtype=torch.int64)
    for view in memory.views.depth.flatten(1).isfinite().any(1).nonzero()[:, 0].tolist():
        alone[view] = len(begin(memory.views[view : view + 1], memory.config).surfels)
    curves = {
        "without merging": (alone.cumsum(0), QUIET, "dash"),
        "sightings": (memory.ends.sightings.cpu(), POLICY_COLORS["surfel_votes"], "dot"),
        "surfels": (memory.ends.surfels.cpu(), POLICY_COLORS["coverage"], "solid"),
    }
    last, traces = {name: int(counts[-1]) for name, (counts, *_) in curves.items()}, []
    for name, (counts, color, dash) in curves.items():
        added = torch.diff(counts, prepend=counts.new_zeros(1)).tolist()
        hover = [f"{name} {n:,} (+{d:,})" for n, d in zip(counts.tolist(), added, strict=True)]
        traces.append(_line(name, counts.tolist(), (color, dash, "circle"), hover))
    x = _axis("after view", _range([0, max(1, len(memory) - 1)], ROOM / 3))
    y = _axis("", (0.0, (1 + ROOM) * max(last.values())), grid=True)
    title = f"{last['surfels']:,} surfels in memory, {last['without merging']:,} without merging"
    return _chart(traces, x, y, title)


def coverage_curves(curves: Series, y: str = "coverage", x: str = "step") -> Chart:
    """A line per policy over the steps of a walk, of whatever `y` names: coverage, PSNR in dB.

    The curves may differ in length, as they do while they grow; an empty one is only named. In the
    legend the one that ends highest comes first. Shares have an axis from 0 to 1.
    Errors: ValueError for no values at all, and for values that are not finite.
    """
    values = _finite(curves)
    if not values:
        raise ValueError(f"curves of {y} need at least one value, got none: score a step first")
    styles, traces = _styles(curves), []
    for name in sorted(curves, key=lambda name: -([-math.inf, *curves[name]][-1])):
        hover = [f"{name} {value:.3g}" for value in curves[name]]
        traces.append(_line(name, curves[name], styles[name], hover))
    across = _axis(x, _range([0, max(1, *(len(curve) - 1 for curve in curves.values()))], ROOM / 3))
    up = _range([0.0, 1.0] if 0 <= min(values) <= max(values) <= 1 + ROOM else values)
    return _chart(traces, across, _axis("", up, grid=True), y)


def ablation(
    results: Series, y: str = "coverage", reference: Mapping[str, float] | None = None
) -> Chart:
    """A row per policy, the best mean on top: a marker per value (a seed's, say), a tick at the mean,
    a line of one standard deviation to either side, and both as numbers. `y` names what was measured.

    `reference` has other values for some or all of the policies, such as published ones: diamonds.
    Errors: ValueError for a policy without values or none, values that are not finite, and a
    reference for a policy without results.
    """
    reference = dict(reference or {})
    values = _finite(results) + _finite({"reference": list(reference.values())})
    if not results or not all(len(seeds) for seeds in results.values()):
        raise ValueError(f"an ablation needs one or more values per policy, got {dict(results)}")
    if not reference.keys() <= results.keys():
        raise ValueError(f"reference is for {list(reference)}, but results for {list(results)}")
    names, styles = sorted(results, key=lambda name: -fmean(results[name])), _styles(results)
    digits, traces, notes = 3 if 0 <= min(values) <= max(values) <= 1 + ROOM else 1, [], []
    for row, name in enumerate(names):
        seeds, (color, _, symbol) = results[name], styles[name]
        center, *spread = fmean(seeds), *([stdev(seeds)] if len(seeds) > 1 else [])
        notes.append(" ± ".join(f"{number:.{digits}f}" for number in (center, *spread)))
        hover = [f"{name}, no. {i}: {value:.{digits}f}" for i, value in enumerate(seeds)]
        dot = {"symbol": symbol, "size": 9, "color": _pale(color)}
        dot |= {"line": {"color": color, "width": 1}}
        # one stroke along the deviation, with the tick on its way
        stroke = [center - sum(spread), *[center] * 4, center + sum(spread)]
        off = [row + d for d in TICK]
        mean = _markers(stroke, off, dot, [f"{name}: {notes[-1]}"] * 6) | {"mode": "lines"}
        traces.append(mean | {"line": {"color": color, "dash": "solid", "width": 3}})
        traces.append(_markers(seeds, [row] * len(seeds), dot, hover))
    rows = [row for row, name in enumerate(names) if name in reference]
    known = [reference[names[row]] for row in rows]
    marker = {"symbol": "diamond", "size": 10, "color": PAPER, "line": {"color": INK, "width": 2}}
    traces.append(_markers(known, rows, marker, [f"reference: {v:.{digits}f}" for v in known]))
    title = f"{y}: mean ± one standard deviation{', diamonds: reference' * bool(known)}"
    down = _axis("", (len(names) - 0.4, -0.6)) | {"tickvals": [*range(len(names))]}
    x, height = _axis("", _range(values), grid=True), TOP + BOTTOM + 34 * len(names)
    chart = _chart(traces, x, {**down, "ticktext": names}, title, height)
    for row, note in enumerate(notes):
        at_end = {"x": x["range"][1], "xanchor": "left", "xshift": 10, "showarrow": False}
        chart.add_annotation(y=row, text=note, **at_end)
    return chart.update_layout(margin={"l": 24 + LETTER * max(map(len, names)), "r": 120})


# ---- parts ---------------------------------------------------------------------------------------


def _chart(traces: list[Trace], x: Trace, y: Trace, title: str, height: int = HEIGHT) -> Chart:
    """The traces in the look of all charts; names get a legend, and hovering that reads them all."""
    legend = [len(trace["name"]) for trace in traces if "name" in trace]
    right = 80 + round(LETTER * max(legend)) if legend else RIGHT
    layout = {
        "template": "none",
        "width": WIDTH,
        "height": height,
        "margin": {"l": LEFT, "r": right, "t": TOP, "b": BOTTOM},
        "title": {"text": title, "font": {"size": TITLE}, "x": 0.01, "xanchor": "left"},
        "font": {"family": "sans-serif", "size": TEXT, "color": INK},
        "barmode": "overlay",
        "showlegend": bool(legend),
        "hovermode": "x unified" if legend else "closest",
        "hoverlabel": {"bgcolor": PAPER, "font": {"color": INK}, "align": "left"},
    }
    layout |= {"paper_bgcolor": PAPER, "plot_bgcolor": PAPER, "xaxis": x, "yaxis": y}
    hover = {"hovertemplate": "%{hovertext}<extra></extra>"}
    return Chart([trace | hover if "hovertext" in trace else trace for trace in traces], layout)


def _axis(title: str, limits: tuple[float, float], grid: bool = False) -> Trace:
    """An axis; one without a grid counts something, and has no ticks between whole numbers."""
    quiet = {"showgrid": grid, "gridcolor": GRID, "zeroline": False, "tickfont": {"color": QUIET}}
    few = {"dtick": 1} if not grid and abs(limits[1] - limits[0]) <= MANY / 2 else {}
    numbers = {"exponentformat": "none", "separatethousands": True}
    apart = {"title": {"text": title, "standoff": 10}, "ticks": "outside", "tickcolor": PAPER}
    return {"range": list(limits), **apart, **quiet, **numbers, **few}


def _range(values: Iterable[float], room: float = ROOM) -> tuple[float, float]:
    """From the least to the greatest, and some room."""
    low, high = min(values), max(values)
    room *= (high - low) or abs(high) or 1.0
    return low - room, high + room


def _line(name: str, y: Sequence[float], style: tuple[str, str, str], hover: list[str]) -> Trace:
    color, dash, symbol = style
    trace = _markers(range(len(y)), y, {"symbol": symbol, "size": 8, "color": color}, hover)
    trace["mode"] = "lines+markers" if len(y) <= MANY else "lines"
    return {**trace, "name": name, "line": {"color": color, "dash": dash, "width": 2}}


def _markers(x: Iterable[float], y: Iterable[float], marker: Trace, hover: list[str]) -> Trace:
    look = {"mode": "markers", "marker": marker, "hovertext": hover}
    return {"type": "scatter", "x": _short(x), "y": _short(y), **look}


def _label(chart: Chart, points: Sequence, texts: list[str], radius: float, beside: bool) -> None:
    """Write texts at the first points, above or (with `beside`) round them, each in the first place
    that is free of markers and other texts. Boxes are centres and half sizes, in pixels."""
    (left, right), (low, high) = chart.layout.xaxis.range, chart.layout.yaxis.range
    across, up = (WIDTH - LEFT - RIGHT) / (right - left), (HEIGHT - TOP - BOTTOM) / (high - low)
    taken = torch.tensor([(x * across, y * up, radius, radius) for x, y in points])
    for (x, y), text in zip(points, texts, strict=False):
        half, line = LETTER * len(text) / 2, TEXT / 2
        above, aside = radius + line + 2, radius + half + 2
        places = [(0, above + i * line) for i in range(10)]
        if beside:
            corners = [(dx, dy) for dy in (above, -above) for dx in (aside, -aside)]
            places = [(0, above), (0, -above), (aside, 0), (-aside, 0), *corners, *places]
        boxes = torch.tensor([(x * across + dx, y * up + dy, half, line) for dx, dy in places])
        gaps = (boxes[:, None, :2] - taken[:, :2]).abs() - boxes[:, None, 2:] - taken[:, 2:]
        free = (gaps > 0).any(-1).all(-1) & (boxes[:, 1] + line < high * up + TEXT)
        for best in free.nonzero()[:1, 0].tolist():  # if any: the title has all chosen views
            taken = torch.cat([taken, boxes[best : best + 1]])
            shift = {"xshift": places[best][0], "yshift": places[best][1]}
            chart.add_annotation(x=x, y=y, text=text, showarrow=False, **shift)


def _read(memory: Memory, retrieval: Retrieval) -> tuple[dict[int, int], list[str], str, str]:
    """The chosen views' places, what hovering tells of all, a title, and what the votes are called.
    Errors: ValueError for another memory's retrieval."""
    held = len(retrieval.votes)
    if len(memory) == 0 or held != len(memory):
        raise ValueError(f"need the memory of {held} views that was read, got {memory}")
    order = {view: place for place, view in enumerate(retrieval.chosen.tolist())}
    title = f"{retrieval.policy} chose {', '.join(map(str, order))} of {held} views"
    unit, hover = "score" if retrieval.splat is None else "votes", []
    total = float(retrieval.votes.sum())
    columns = retrieval.votes, retrieval.distance, retrieval.suppressed_by, memory.views.given
    for view, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        votes, distance, by, given = row
        share = f" ({votes / total:.0%} of all)" if unit == "votes" and total > 0 else ""
        fate = f"chosen {_ordinal(order[view])}" if view in order else "not chosen"
        lines = (
            f"<b>view {view}</b>, {'given' if given else 'generated'}",
            f"{unit} {votes:,.{0 if abs(votes) >= 100 else 2}f}{share}",
            f"pose distance {distance:.2f}",
            f"suppressed by view {by}" if by >= 0 else fate,
        )
        hover.append("<br>".join(lines))
    return order, hover, title, unit


def _styles(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, dash and marker by name; spare ones, in turn, for names that are no policy's."""
    spare = itertools.cycle(zip(SPARE_COLORS, DASHES, reversed(MARKERS), strict=False))
    return {name: STYLES.get(name) or next(spare) for name in names}


def _finite(values: Series) -> list[float]:
    """All values, in a row. Errors: ValueError where one is not finite."""
    flat = [float(value) for row in values.values() for value in row]
    if not all(map(math.isfinite, flat)):
        raise ValueError(f"values must be finite, got {dict(values)}: leave others out")
    return flat


def _short(values: Iterable[float]) -> list[float]:
    """To what a chart can show: digits beyond that only make notebooks longer."""
    return [float(f"{value:.6g}") for value in values]


def _hex(n: int) -> list[str]:
    """The colours of views 0 to n - 1."""
    return ["#" + bytes(rgb).hex() for rgb in (255 * view_colors(n)).round().int().tolist()]


def _pale(color: str) -> str:
    return "#" + bytes(round(255 - PALE * (255 - c)) for c in bytes.fromhex(color[1:])).hex()


def _ordinal(place: int) -> str:
    """1st for place 0, and so on."""
    n, endings = place + 1, {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{'th' if n // 10 % 10 == 1 else endings.get(n % 10, 'th')}"


# ---- the still twin ------------------------------------------------------------------------------


def _still(chart: Trace) -> Picture:
    look, text = chart["layout"], {"color": INK, "size": TEXT * PIXEL}
    width, height, margin = look["width"], look["height"], look["margin"]
    size = (width / NOTEBOOK_DPI, height / NOTEBOOK_DPI)
    picture = Picture(figsize=size, dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(picture)
    axes, top = picture.add_subplot(), 1 - margin["t"] / height
    sides = margin["l"] / width, margin["b"] / height, 1 - margin["r"] / width
    picture.subplots_adjust(*sides, top)
    for trace in chart["data"]:
        if trace["type"] not in ("bar", "scatter"):
            raise ValueError(
                f"a still shows bars and scatters, got a trace of type {trace['type']}"
            )
        (_still_bars if trace["type"] == "bar" else _still_scatter)(axes, trace)
    axes.set(xlim=look["xaxis"]["range"], ylim=look["yaxis"]["range"], axisbelow=True)
    axes.spines[:].set_visible(False)
    for side, axis in ((axes.xaxis, look["xaxis"]), (axes.yaxis, look["yaxis"])):
        side.set_label_text(axis["title"].get("text", ""), **text)
        side.set_tick_params(length=0, labelcolor=QUIET, labelsize=TEXT * PIXEL)
        side.set_major_formatter(lambda x, _: f"{x:,.10g}".replace("-", "\N{MINUS SIGN}"))
        if "dtick" in axis:
            side.set_major_locator(MultipleLocator(axis["dtick"]))
        if "ticktext" in axis:
            side.set_ticks(axis["tickvals"], axis["ticktext"])
        if axis["showgrid"]:
            side.grid(color=GRID, linewidth=PIXEL)
    for note in look.get("annotations", ()):
        style = {"ha": note.get("xanchor", "center"), "va": "center", "annotation_clip": False}
        shift = [PIXEL * note.get(name, 0) for name in ("xshift", "yshift")]
        at = {"xytext": shift, "textcoords": "offset points"}
        axes.annotate(note["text"], (note["x"], note["y"]), **at, **style, **text)
    if look["showlegend"]:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
        axes.legend(**place, frameon=False, labelcolor=INK, fontsize=TEXT * PIXEL, handlelength=3.5)
    above = {"va": "center", "color": INK, "size": TITLE * PIXEL}
    picture.text(0.01, (1 + top) / 2, look["title"]["text"], **above)
    return picture


def _still_bars(axes: Axes, bars: Trace) -> None:
    pattern = bars["marker"].get("pattern", {"shape": [""], "fgcolor": INK})
    style = {"color": bars["marker"]["color"], "linewidth": 0, "edgecolor": pattern["fgcolor"]}
    style |= {"hatch": [2 * shape for shape in pattern["shape"]]}
    if bars.get("orientation") == "h":
        axes.barh(bars["y"], bars["x"], bars["width"], bars["base"], **style)
    else:
        axes.bar(bars["x"], bars["y"], bars["width"], **style)


def _still_scatter(axes: Axes, points: Trace) -> None:
    x, y, marker, line = points["x"], points["y"], points["marker"], points.get("line", {})
    symbol, size = MARKERS[marker["symbol"]], PIXEL * torch.as_tensor(marker["size"]).numpy()
    if "lines" in points["mode"]:
        style = {"color": line["color"], "ls": DASHES[line["dash"]], "lw": PIXEL * line["width"]}
        style |= {"marker": symbol if "markers" in points["mode"] else None, "markersize": size}
        axes.plot(x, y, label=points.get("name"), **style)
    else:
        edge, width = marker["line"]["color"], torch.as_tensor(marker["line"]["width"])
        style = {"edgecolors": edge, "linewidths": PIXEL * width.numpy(), "zorder": 3}
        axes.scatter(x, y, size**2, marker["color"], marker=symbol, **style)
