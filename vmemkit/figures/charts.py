"""Charts: retrievals, walks and scores as plots that answer to the pointer.

In: memories, retrievals, steps, and scores by policy. Out: a `Chart`, a plotly figure: hovering
shows the numbers, and the legend hides curves. Notebooks store a still beside each chart, the same
traces drawn by matplotlib, for readers without JavaScript. Charts and their stored stills are
transparent, in colours that can be read on light and on dark pages. A view has the colour that it
has in all figures (`view_colors`); a policy has a colour, a dash and a marker of its own.
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
from matplotlib.axis import Axis
from matplotlib.ticker import MultipleLocator
from PIL import Image

from vmemkit.figures.colors import INK, QUIET, WHITE, view_hex
from vmemkit.figures.picture import NOTEBOOK_DPI, POINTS, Picture
from vmemkit.memory import Memory, begin
from vmemkit.pipeline import Step
from vmemkit.retrieval import Retrieval

# Colour, dash and marker of each policy. Those that ask who saw the targets have strong colours
# (Okabe and Ito, 2008), the others tinted greys.
STYLES = {
    "coverage": ("#0072b2", "solid", "circle"),
    "surfel_votes": ("#d55e00", "solid", "square"),
    "paper": ("#e69f00", "dash", "triangle-right"),
    "released": ("#009e73", "dash", "diamond"),
    "oracle": ("#7b4fb5", "dot", "star"),
    "temporal": ("#8b8f95", "solid", "triangle-up"),
    "camera_distance": ("#a08a55", "dash", "triangle-down"),
    "fov_overlap": ("#7d95b5", "dashdot", "cross"),
    "random": ("#a58ca0", "dot", "x"),
}

POLICY_COLORS = {name: color for name, (color, _, _) in STYLES.items()}
SPARE_COLORS = ("#cc79a7", "#56b4e9", "#7f5a2b")  # for other names, in their order
DASHES = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}  # matplotlib's by plotly's name

MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "star": "*",
    "cross": "P",
    "x": "X",
    "triangle-right": ">",
    "triangle-up": "^",
    "triangle-down": "v",
    "hexagon": "h",
    "pentagon": "p",
}

NO_PAPER = "#00000000"
GRID, IN_MEMORY = "#6d747c30", "#6d747c38"  # grid lines | views that were in memory
PALE = "4d"  # opacity of a colour that is not emphasised, 30 %, as the end of #rrggbbaa
PIXEL = POINTS / NOTEBOOK_DPI  # points of print per pixel of a screen
WIDTH, HEIGHT = 800, 400  # of a chart, pixels
LEFT, RIGHT, TOP, BOTTOM = 72, 20, 44, 52  # margins, pixels
TEXT, TITLE, LETTER = 12, 14, 7.5  # font sizes, and the width of a letter, pixels
MARGIN = 0.06  # room on an axis beyond the data, as a share of their range
MANY = 40  # points from which on a curve has no markers
FIRST_CHOICE, DECREASE = 0.94, 0.7  # height of a first choice in its row; what a last one lacks
ROW_HEIGHT, ROWS_HEIGHT = (12, 26), 400  # least and greatest height of a step's row; of all rows
TICK = (0.0, 0.0, -0.3, 0.3, 0.0, 0.0)  # a stroke that draws a tick on its way: offsets in rows
STILL_COLORS = 255  # palette size of a stored still: flat areas and their edges need no more
Scores = Mapping[str, Sequence[float]]  # by policy


class Chart(go.Figure):
    """A plotly figure that notebooks show as such, and store together with a still picture.

    JupyterLab shows the still until the pointer comes.
    """

    _ipython_display_ = None  # plotly's would show the chart without the still
    _repr_html_ = None  # plotly's contains its whole library

    def still(self) -> Picture:
        """The chart as a matplotlib figure. Errors: ValueError for traces of kinds unknown here."""
        return _still(self.to_plotly_json())

    def _repr_mimebundle_(self, include=None, exclude=None, **kwargs) -> dict[str, Any]:
        chart = json.loads(self.to_json())
        chart["layout"].pop("template", None)
        drawn, stored = io.BytesIO(), io.BytesIO()
        self.still().savefig(drawn, format="png", dpi=NOTEBOOK_DPI, transparent=True)
        octree = Image.Quantize.FASTOCTREE  # the one that keeps transparency
        flat = Image.open(drawn).quantize(STILL_COLORS, octree, dither=Image.Dither.NONE)
        flat.save(stored, format="png", optimize=True)
        return {
            "application/vnd.plotly.v1+json": {**chart, "config": {"displaylogo": False}},
            "image/png": base64.b64encode(stored.getvalue()).decode("ascii"),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return "Chart()"


def vote_bars(memory: Memory, retrieval: Retrieval) -> Chart:
    """A bar per view, in its colour and as high as its votes. Bars of chosen views are full and
    bear their order of choice; the others are pale, and hatched where a chosen view suppressed one.

    Policies that do not look at surfels have scores instead of votes.
    Errors: ValueError for another memory's retrieval.
    """
    count = len(retrieval.votes)
    if len(memory) == 0 or count != len(memory):
        raise ValueError(f"need the memory of {count} views that was read, got {memory}")
    votes, suppressed = retrieval.votes.tolist(), (retrieval.suppressed_by >= 0).tolist()
    chosen = retrieval.chosen.tolist()
    colors = [view_hex(view) for view in range(count)]
    bars = go.Bar(
        x=list(range(count)),
        y=_rounded(votes),
        width=0.85,
        text=[str(chosen.index(view) + 1) if view in chosen else "" for view in range(count)],
        textposition="outside",
        textangle=0,
        constraintext="none",
        cliponaxis=False,
        marker={
            "color": [c if view in chosen else _pale(c) for view, c in enumerate(colors)],
            "pattern": {
                "shape": ["/" if hatched else "" for hatched in suppressed],
                "fgcolor": QUIET,
                "fillmode": "overlay",
                "fgopacity": 1,
                "solidity": 0.15,
            },
        },
        hovertext=_vote_texts(memory, retrieval),
    )
    low, high = _range([0.0, *votes], 3 * MARGIN)
    hint = "numbered: order of choice" + ("; hatched: suppressed" if any(suppressed) else "")
    return _chart(
        [bars],
        _axis(f"view ({hint})", (-0.7, count - 0.3)),
        _axis(retrieval.unit, (low if min(votes) < 0 else 0.0, high), grid=True),
        f"{retrieval.policy} chose {', '.join(map(str, chosen))} of {count} views",
    )


def retrieval_matrix(steps: Sequence[Step]) -> Chart:
    """Who was used when: a row per step, the first on top, and a column per view.

    A view that the step chose has its colour, in full height if it was the first choice and lower
    for each later one. Grey views were in memory and not chosen; white ones were not there yet.
    Errors: ValueError for no steps.
    """
    if not steps:
        raise ValueError("a retrieval matrix needs at least one step, got none: walk first")
    sizes = [len(step.before) for step in steps]
    rows, views, heights, hover = [], [], [], []
    for row, step in enumerate(steps):
        chosen = step.retrieval.chosen.tolist()
        for place, view in enumerate(chosen):
            age = sizes[row] - view
            rows.append(row)
            views.append(view)
            heights.append(FIRST_CHOICE * (1 - DECREASE * place / len(chosen)))
            hover.append(
                f"step {row} used view {view}, its {_ordinal(place)} choice, "
                f"{age} view{'s' * (age > 1)} old"
            )
    in_memory = go.Bar(
        orientation="h",
        x=sizes,
        y=list(range(len(steps))),
        base=[-0.5] * len(steps),
        width=[FIRST_CHOICE] * len(steps),
        marker={"color": IN_MEMORY},
        hoverinfo="skip",
    )
    used = go.Bar(
        orientation="h",
        x=[1] * len(views),
        y=rows,
        base=[view - 0.5 for view in views],
        width=heights,
        marker={"color": [view_hex(view) for view in views]},
        hovertext=hover,
    )
    given = int(steps[0].before.views.given.sum())
    policies = ", ".join(dict.fromkeys(step.retrieval.policy for step in steps))
    row_height = min(ROW_HEIGHT[1], max(ROW_HEIGHT[0], ROWS_HEIGHT / len(steps)))
    return _chart(
        [in_memory, used],
        _axis(f"view (the first {given} given)" if given else "view", (-0.7, max(sizes) - 0.3)),
        _axis("step", (len(steps) - 0.5, -0.5)),
        f"{policies}: the views that each step used (highest: its first choice)",
        height=TOP + BOTTOM + round(len(steps) * row_height),
    )


def memory_growth(memory: Memory) -> Chart:
    """How many surfels and sightings the memory held after each view, and how many surfels it would
    hold without merging: each view's surfels are made anew from its remembered depth, and counted.

    Errors: ValueError for an empty memory.
    """
    if len(memory) == 0:
        raise ValueError("an empty memory has not grown: write a view first")
    alone = torch.zeros(len(memory), dtype=torch.int64)
    for view in memory.views.depth.flatten(1).isfinite().any(1).nonzero()[:, 0].tolist():
        alone[view] = len(begin(memory.views[view : view + 1], memory.config).surfels)
    curves = {
        "without merging": (alone.cumsum(0), QUIET, "dash"),
        "sightings": (memory.sighting_counts.cpu(), POLICY_COLORS["surfel_votes"], "dot"),
        "surfels": (memory.ends.cpu(), POLICY_COLORS["coverage"], "solid"),
    }
    traces, last = [], {}
    for name, (counts, color, dash) in curves.items():
        added = torch.diff(counts, prepend=counts.new_zeros(1)).tolist()
        totals = counts.tolist()
        hover = [f"{name} {n:,} (+{d:,})" for n, d in zip(totals, added, strict=True)]
        traces.append(_line(name, totals, (color, dash, "circle"), hover))
        last[name] = totals[-1]
    return _chart(
        traces,
        _axis("after view", _range([0, max(1, len(memory) - 1)], MARGIN / 3)),
        _axis("", (0.0, (1 + MARGIN) * max(last.values())), grid=True),
        f"{last['surfels']:,} surfels in memory, {last['without merging']:,} without merging",
    )


def coverage_curves(curves: Scores, y: str = "coverage", x: str = "step") -> Chart:
    """A line per policy over the steps of a walk; `y` says what is drawn: coverage, PSNR in dB.

    Curves may differ in length, as they do while they grow; an empty one has its name in the legend
    only. The curve that ends highest comes first there. Shares have an axis from 0 to 1.
    Errors: ValueError for no values at all, and for values that are not finite.
    """
    values = _finite(curves)
    if not values:
        raise ValueError(f"curves of {y} need at least one value, got none: score a step first")
    styles, traces = _styles(curves), []
    for name in sorted(curves, key=lambda name: -([-math.inf, *curves[name]][-1])):
        hover = [f"{name} {value:.3g}" for value in curves[name]]
        traces.append(_line(name, curves[name], styles[name], hover))
    longest = max(len(curve) for curve in curves.values())
    across = _axis(x, _range([0, max(1, longest - 1)], MARGIN / 3))
    up = _axis("", _range([0.0, 1.0] if _are_shares(values) else values), grid=True)
    return _chart(traces, across, up, y)


def ablation(
    results: Scores,
    y: str = "coverage",
    reference: Mapping[str, float] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Chart:
    """A row per policy, the best mean on top: a marker per value (one per seed, say), a tick at the
    mean, a line of one standard deviation to either side, and both as numbers. `y` names the score.

    `reference` has other values for some or all of the policies, such as published ones: diamonds.
    `intervals` are confidence intervals of all means, drawn instead of the standard deviations.
    Errors: ValueError for no policies or one without values, values that are not finite, and a
    reference for a policy without results.
    """
    reference = reference or {}
    values = _finite(results) + _finite({"reference": list(reference.values())})
    if not results or not all(len(seeds) for seeds in results.values()):
        raise ValueError(f"an ablation needs one or more values per policy, got {dict(results)}")
    if not reference.keys() <= results.keys():
        raise ValueError(f"reference is for {list(reference)}, but results for {list(results)}")
    names, styles = sorted(results, key=lambda name: -fmean(results[name])), _styles(results)
    digits = 3 if _are_shares(values) else 1
    traces, notes = [], []
    for row, name in enumerate(names):
        seeds, (color, _, symbol) = results[name], styles[name]
        mean, deviation = fmean(seeds), stdev(seeds) if len(seeds) > 1 else 0.0
        low, high = mean - deviation, mean + deviation
        spread = f" ± {deviation:.{digits}f}" if len(seeds) > 1 else ""
        if intervals is not None:
            low, high = intervals[name]
            spread = f" ({low:.{digits}f} to {high:.{digits}f})"
        notes.append(f"{mean:.{digits}f}{spread}")
        dot = {"symbol": symbol, "size": 9, "color": _pale(color)}
        dot["line"] = {"color": color, "width": 1}
        along = [low, mean, mean, mean, mean, high]
        stroke = _markers(
            along, [row + offset for offset in TICK], dot, [f"{name}: {notes[-1]}"] * 6
        )
        stroke.update(mode="lines", line={"color": color, "dash": "solid", "width": 3})
        hover = [f"{name}, no. {i}: {value:.{digits}f}" for i, value in enumerate(seeds)]
        traces += [stroke, _markers(seeds, [row] * len(seeds), dot, hover)]
    rows = [row for row, name in enumerate(names) if name in reference]
    known = [reference[names[row]] for row in rows]
    diamond = {"symbol": "diamond", "size": 10, "color": WHITE, "line": {"color": INK, "width": 2}}
    traces.append(_markers(known, rows, diamond, [f"reference: {v:.{digits}f}" for v in known]))
    hint = ", diamonds: reference" if known else ""
    x, down = _axis("", _range(values), grid=True), _axis("", (len(names) - 0.4, -0.6))
    down |= {"tickvals": list(range(len(names))), "ticktext": names}
    several = any(len(seeds) > 1 for seeds in results.values())
    shown = "mean ± one standard deviation" if intervals is None else "mean, 95 % interval"
    title = f"{y}: {shown}{hint}" if several else f"{y}{hint}"
    chart = _chart(traces, x, down, title, height=TOP + BOTTOM + 34 * len(names))
    for row, note in enumerate(notes):
        end = x["range"][1]
        chart.add_annotation(x=end, y=row, text=note, xanchor="left", xshift=10, showarrow=False)
    return chart.update_layout(
        margin={"l": 24 + LETTER * max(map(len, names)), "r": 120 if intervals is None else 170}
    )


# ---- parts ---------------------------------------------------------------------------------------


def _chart(
    traces: list[go.Bar | go.Scatter],
    x: dict[str, Any],
    y: dict[str, Any],
    title: str,
    height: int = HEIGHT,
) -> Chart:
    """The traces in the look of all charts. Named traces get a legend and are hovered together."""
    names = [trace.name for trace in traces if trace.name]
    for trace in traces:
        if trace.hovertext is not None:
            trace.hovertemplate = "%{hovertext}<extra></extra>"
    right = 80 + round(LETTER * max(map(len, names))) if names else RIGHT
    layout = {
        "template": "none",
        "width": WIDTH,
        "height": height,
        "margin": {"l": LEFT, "r": right, "t": TOP, "b": BOTTOM},
        "title": {"text": title, "font": {"size": TITLE}, "x": 0.01, "xanchor": "left"},
        "font": {"family": "sans-serif", "size": TEXT, "color": QUIET},
        "barmode": "overlay",
        "showlegend": bool(names),
        "hovermode": "x unified" if names else "closest",
        "hoverlabel": {"bgcolor": WHITE, "font": {"color": INK}, "align": "left"},
        "paper_bgcolor": NO_PAPER,
        "plot_bgcolor": NO_PAPER,
        "xaxis": x,
        "yaxis": y,
    }
    return Chart(traces, layout)


def _axis(title: str, limits: tuple[float, float], grid: bool = False) -> dict[str, Any]:
    """An axis. One without a grid counts something, so it has no ticks between whole numbers."""
    axis = {
        "range": list(limits),
        "title": {"text": title, "standoff": 10},
        "ticks": "outside",
        "tickcolor": NO_PAPER,
        "tickfont": {"color": QUIET},
        "showgrid": grid,
        "gridcolor": GRID,
        "zeroline": False,
        "exponentformat": "none",
        "separatethousands": True,
    }
    if not grid and abs(limits[1] - limits[0]) <= MANY / 2:
        axis["dtick"] = 1
    return axis


def _range(values: Iterable[float], margin: float = MARGIN) -> tuple[float, float]:
    """From the least to the greatest value, and a margin beyond both."""
    low, high = min(values), max(values)
    margin *= (high - low) or abs(high) or 1.0
    return low - margin, high + margin


def _line(
    name: str, y: Sequence[float], style: tuple[str, str, str], hover: list[str]
) -> go.Scatter:
    color, dash, symbol = style
    line = _markers(range(len(y)), y, {"symbol": symbol, "size": 8, "color": color}, hover)
    return line.update(
        name=name,
        mode="lines+markers" if len(y) <= MANY else "lines",
        line={"color": color, "dash": dash, "width": 2},
    )


def _markers(
    x: Iterable[float], y: Iterable[float], marker: dict[str, Any], hover: list[str]
) -> go.Scatter:
    return go.Scatter(x=_rounded(x), y=_rounded(y), mode="markers", marker=marker, hovertext=hover)


def _vote_texts(memory: Memory, retrieval: Retrieval) -> list[str]:
    """What hovering shows of each view."""
    unit, texts = retrieval.unit, []
    order = {view: place for place, view in enumerate(retrieval.chosen.tolist())}
    total = float(retrieval.votes.sum())
    for view in range(len(memory)):
        votes, rival = float(retrieval.votes[view]), int(retrieval.suppressed_by[view])
        share = f" ({votes / total:.0%} of all)" if unit == "votes" and total > 0 else ""
        fate = f"chosen {_ordinal(order[view])}" if view in order else "not chosen"
        lines = (
            f"<b>view {view}</b>, {'given' if memory.views.given[view] else 'generated'}",
            f"{unit} {votes:,.{0 if abs(votes) >= 100 else 2}f}{share}",
            f"pose distance {float(retrieval.distance[view]):.2f}",
            f"suppressed by view {rival}" if rival >= 0 else fate,
        )
        texts.append("<br>".join(lines))
    return texts


def _styles(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, dash and marker by name; names that are no policy's get spare ones in turn."""
    spare = itertools.cycle(zip(SPARE_COLORS, DASHES, reversed(MARKERS), strict=False))
    return {name: STYLES.get(name) or next(spare) for name in names}


def _finite(scores: Scores) -> list[float]:
    """All values in one list. Errors: ValueError where one is not finite."""
    flat = [float(value) for row in scores.values() for value in row]
    if not all(map(math.isfinite, flat)):
        raise ValueError(f"values must be finite, got {dict(scores)}: leave others out")
    return flat


def _are_shares(values: Sequence[float]) -> bool:
    """Whether all values lie in [0, 1], with some slack for ratios a little above 1."""
    return 0 <= min(values) <= max(values) <= 1 + MARGIN


def _rounded(values: Iterable[float]) -> list[float]:
    """Six digits: a chart shows no more, and notebooks stay small."""
    return [float(f"{value:.6g}") for value in values]


def _pale(color: str) -> str:
    return color + PALE


def _ordinal(place: int) -> str:
    """1st for place 0, and so on."""
    n, endings = place + 1, {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{'th' if n // 10 % 10 == 1 else endings.get(n % 10, 'th')}"


# ---- stills --------------------------------------------------------------------------------------


def _still(chart: dict[str, Any]) -> Picture:
    layout = chart["layout"]
    width, height, margin = layout["width"], layout["height"], layout["margin"]
    picture = Picture(width / NOTEBOOK_DPI, height / NOTEBOOK_DPI, facecolor=WHITE)
    axes, top = picture.add_subplot(), 1 - margin["t"] / height
    left, bottom, right = margin["l"] / width, margin["b"] / height, 1 - margin["r"] / width
    picture.subplots_adjust(left, bottom, right, top)
    for trace in chart["data"]:
        if trace["type"] not in STILL_TRACES:
            raise ValueError(f"a still shows {list(STILL_TRACES)}, got a {trace['type']} trace")
        STILL_TRACES[trace["type"]](axes, trace)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.set(xlim=layout["xaxis"]["range"], ylim=layout["yaxis"]["range"])
    _still_axis(axes.xaxis, layout["xaxis"])
    _still_axis(axes.yaxis, layout["yaxis"])
    text: dict[str, Any] = {"color": QUIET, "va": "center"}
    for note in layout.get("annotations", ()):
        at, shift = (note["x"], note["y"]), (PIXEL * note.get("xshift", 0), 0)
        style = {"size": TEXT * PIXEL, "ha": note.get("xanchor", "center"), **text}
        style["annotation_clip"] = False
        axes.annotate(note["text"], at, shift, textcoords="offset points", **style)
    if layout["showlegend"]:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
        place["borderaxespad"] = 0.0
        axes.legend(
            **place, frameon=False, labelcolor=QUIET, fontsize=TEXT * PIXEL, handlelength=3.5
        )
    picture.text(0.01, (1 + top) / 2, layout["title"]["text"], size=TITLE * PIXEL, **text)
    return picture


def _still_axis(axis: Axis, chart_axis: dict[str, Any]) -> None:
    axis.set_label_text(chart_axis["title"].get("text", ""), color=QUIET, size=TEXT * PIXEL)
    axis.set_tick_params(length=0, labelcolor=QUIET, labelsize=TEXT * PIXEL)
    axis.set_major_formatter(lambda x, _: f"{x:,.10g}".replace("-", "\N{MINUS SIGN}"))
    if "dtick" in chart_axis:
        axis.set_major_locator(MultipleLocator(chart_axis["dtick"]))
    if "ticktext" in chart_axis:
        axis.set_ticks(chart_axis["tickvals"], chart_axis["ticktext"])
    if chart_axis["showgrid"]:
        axis.grid(color=GRID, linewidth=PIXEL)


def _still_bars(axes: Axes, bars: dict[str, Any]) -> None:
    pattern = bars["marker"].get("pattern", {"shape": [""], "fgcolor": QUIET})
    style = {"color": bars["marker"]["color"], "edgecolor": pattern["fgcolor"], "linewidth": 0}
    style["hatch"] = [2 * shape for shape in pattern["shape"]]
    if bars.get("orientation") == "h":
        axes.barh(bars["y"], bars["x"], bars["width"], bars["base"], **style)
    else:
        drawn = axes.bar(bars["x"], bars["y"], bars["width"], **style)
        axes.bar_label(drawn, bars["text"], padding=2, color=QUIET, size=TEXT * PIXEL)


def _still_scatter(axes: Axes, points: dict[str, Any]) -> None:
    marker, line = points["marker"], points.get("line")
    style = {"color": marker["color"], "linestyle": "none", "zorder": 3}
    if line:
        style = {"color": line["color"], "linestyle": DASHES[line["dash"]], "zorder": 2}
        style["linewidth"] = PIXEL * line["width"]
    if "markers" in points["mode"]:
        style |= {"marker": MARKERS[marker["symbol"]], "markersize": PIXEL * marker["size"]}
    if "line" in marker:
        style["markeredgecolor"] = marker["line"]["color"]
        style["markeredgewidth"] = PIXEL * marker["line"]["width"]
    axes.plot(points["x"], points["y"], label=points.get("name"), **style)


STILL_TRACES = {"bar": _still_bars, "scatter": _still_scatter}
