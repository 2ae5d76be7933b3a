"""Charts: what their traces hold, what hovering tells, and that the still twin draws the same."""

import base64
import io
import json
import subprocess
import sys
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch
from PIL import Image

from vmemkit.figures import (
    POLICY_COLORS,
    ablation,
    coverage_curves,
    memory_growth,
    retrieval_matrix,
    view_colors,
    vote_bars,
)
from vmemkit.figures.charts import DASHES, MARKERS, SPARE_COLORS, STYLES, Chart
from vmemkit.memory import Memory, MemoryConfig, begin, write
from vmemkit.pipeline import walk
from vmemkit.reconstruction import from_depth
from vmemkit.retrieval import POLICIES, Hard, SurfelVotes, retrieve

pytest.importorskip("plotly", reason="charts need the extra `notebook`")


PLOTLY = "application/vnd.plotly.v1+json"
SCORES = {"temporal": [0.5, 0.25, 0.125], "coverage": [0.75, 1.0], "mine": [0.5]}
SEEDS = {"temporal": [0.5, 0.7], "coverage": [0.9, 1.0, 0.95], "mine": [0.8]}


@pytest.fixture(scope="module")
def memory(box):
    return box.memory(0.0, 40.0, 50.0, 80.0, 180.0)


@pytest.fixture(scope="module")
def retrieval(memory, box):
    """Of two views that are nearly twins one is suppressed."""
    policy = SurfelVotes(suppression=Hard())
    return retrieve(memory, box.look(40.0, 50.0), 2, policy)


@pytest.fixture(scope="module")
def steps(box):
    return list(walk(box.memory(0.0, 40.0, 80.0), box.look(*range(0, 80, 10)), k=2, m=2))


@pytest.fixture(scope="module")
def charts(memory, retrieval, steps):
    return {
        "votes": vote_bars(memory, retrieval),
        "matrix": retrieval_matrix(steps),
        "growth": memory_growth(steps[-1].memory),
        "curves": coverage_curves(SCORES),
        "ablation": ablation(SEEDS, reference={"coverage": 0.97}),
    }


KINDS = ("votes", "matrix", "growth", "curves", "ablation")


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))


def view_rgb(view: int) -> tuple[int, ...]:
    return tuple((255 * view_colors(view + 1)[view]).round().int().tolist())


def pixels(chart: Chart) -> dict[tuple[int, ...], int]:
    """How many pixels of the still have each colour."""
    file = io.BytesIO()
    chart.still().savefig(file, format="png")
    colors = Image.open(file).convert("RGB").getcolors(1 << 24)
    return {color: count for count, color in colors}


def notes(chart: Chart) -> list[str]:
    return [note.text for note in chart.layout.annotations]


# ---- what is drawn -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_bars_are_as_high_as_the_votes_of_any_policy(memory, box, policy):
    found = retrieve(memory, box.look(5.0, 40.0), 2, policy)
    (bars,) = vote_bars(memory, found).data
    assert list(bars.x) == list(range(len(memory)))
    assert list(bars.y) == pytest.approx(found.votes.tolist(), rel=1e-5)
    assert vote_bars(memory, found).layout.yaxis.title.text == (
        "score" if found.splat is None else "votes"
    )


def test_chosen_bars_have_their_views_colour_and_the_others_a_paler_one(memory, retrieval):
    (bars,) = vote_bars(memory, retrieval).data
    for view in range(len(memory)):
        color = rgb(bars.marker.color[view])
        assert (color == view_rgb(view)) == (view in retrieval.chosen)
        assert view in retrieval.chosen or sum(color) > sum(view_rgb(view))


def test_chosen_bars_bear_their_order(memory, retrieval):
    (bars,) = vote_bars(memory, retrieval).data
    order = {view: str(i + 1) for i, view in enumerate(retrieval.chosen.tolist())}
    assert list(bars.text) == [order.get(view, "") for view in range(len(memory))]


def test_ordinals_end_as_they_are_spoken(box):
    memory = box.memory(*range(0, 230, 10))
    every = replace(retrieve(memory, box.look(0.0), 1), chosen=torch.arange(23))
    spoken = ["1st", "2nd", "3rd", "4th"], ["11th", "12th", "13th"], ["21st", "22nd", "23rd"]
    hover = vote_bars(memory, every).data[0].hovertext
    order = [text.split("chosen ")[1] for text in hover]
    assert (order[:4], order[10:13], order[20:]) == spoken


def test_suppressed_bars_are_hatched_and_say_by_whom(memory, retrieval):
    chart = vote_bars(memory, retrieval)
    suppressed = (retrieval.suppressed_by >= 0).tolist()
    assert any(suppressed)
    assert [shape == "/" for shape in chart.data[0].marker.pattern.shape] == suppressed
    for view, by in enumerate(retrieval.suppressed_by.tolist()):
        assert (f"suppressed by view {by}" in chart.data[0].hovertext[view]) == (by >= 0)
    assert "hatched" in chart.layout.xaxis.title.text


def test_hovering_tells_all_of_a_view(memory, box):
    mixed = write(memory, *made(box, 20.0))
    found = retrieve(mixed, box.look(5.0, 40.0), 2, "coverage")
    hover = vote_bars(mixed, found).data[0].hovertext
    votes, distance = found.votes.tolist(), found.distance.tolist()
    for view in range(len(mixed)):
        assert f"view {view}<" in hover[view]
        assert ("given" in hover[view]) == (view < len(memory))
        assert ("generated" in hover[view]) == (view >= len(memory))
        assert f"votes {votes[view]:,.0f}" in hover[view] or votes[view] < 100
        assert f"({votes[view] / sum(votes):.0%} of all)" in hover[view]
        assert f"pose distance {distance[view]:.2f}" in hover[view]
        assert ("not chosen" in hover[view]) == (view not in found.chosen)
    assert "chosen 2nd" in hover[int(found.chosen[1])]


def made(box, *yaws):
    """Views that were not given, and their point maps."""
    views = box.render(box.look(*yaws))
    views = views.replace(given=torch.zeros(len(yaws), dtype=torch.bool))
    return views, from_depth(views)


def test_the_matrix_has_a_cell_per_use_and_its_age(steps):
    there, used = retrieval_matrix(steps).data
    assert list(there.x) == [len(step.before) for step in steps]
    cells = [
        (i, view, place)
        for i, step in enumerate(steps)
        for place, view in enumerate(step.retrieval.chosen.tolist())
    ]
    assert [(y, base + 0.5) for y, base in zip(used.y, used.base, strict=True)] == [
        (i, view) for i, view, _ in cells
    ]
    assert [rgb(color) for color in used.marker.color] == [view_rgb(view) for _, view, _ in cells]
    for text, height, (i, view, place) in zip(used.hovertext, used.width, cells, strict=True):
        age = len(steps[i].before) - view
        assert text.startswith(f"step {i} used view {view}, its {('1st', '2nd')[place]} choice")
        assert text.endswith(f"{age} views old" if age > 1 else "1 view old")
        assert (height > 0.9) == (place == 0)


def test_the_first_step_is_on_top_and_nothing_is_cut(steps):
    layout = retrieval_matrix(steps).layout
    below, above = layout.yaxis.range
    assert below > len(steps) - 1 > 0 > above
    assert layout.xaxis.range[1] > len(steps[-1].before) - 1
    assert "first 3 given" in layout.xaxis.title.text


def test_growth_counts_what_the_memory_holds(steps):
    memory = steps[-1].memory
    alone, sightings, surfels = memory_growth(memory).data
    assert list(surfels.y) == memory.ends.tolist()
    assert list(sightings.y) == memory.sighting_counts.tolist()
    assert alone.y[-1] > 2 * len(memory.surfels)
    assert f"{len(memory.surfels):,} (+" in surfels.hovertext[-1]


@pytest.mark.parametrize("config", [MemoryConfig(), MemoryConfig.released()])
def test_without_merging_every_view_keeps_its_own_surfels(box, config):
    views = box.render(box.look(0.0, 20.0, 40.0))
    own = torch.tensor([len(begin(views[i : i + 1], config).surfels) for i in range(3)])
    alone = memory_growth(begin(views, config)).data[0]
    assert list(alone.y) == own.cumsum(0).tolist()


def test_views_that_see_no_common_surface_grow_as_if_unmerged(box):
    alone, sightings, surfels = memory_growth(box.memory(0.0, 180.0)).data
    assert alone.y == sightings.y == surfels.y


def test_a_view_without_any_depth_left_adds_nothing(memory):
    views = memory.views.replace(depth=memory.views.depth.clone())
    views.depth[1] = torch.nan
    blank = Memory.from_tables(views, memory.surfels, memory.sightings, memory.ends)
    alone = memory_growth(blank).data[0].y
    assert alone[1] == alone[0] < alone[2]


def test_curves_are_what_was_given_the_highest_end_first():
    chart = coverage_curves(SCORES | {"random": []}, y="true coverage", x="window")
    assert [line.name for line in chart.data] == ["coverage", "mine", "temporal", "random"]
    assert all(list(line.y) == SCORES.get(line.name, []) for line in chart.data)
    assert all(list(line.x) == list(range(len(line.y))) for line in chart.data)
    assert chart.layout.title.text == "true coverage"
    assert chart.layout.xaxis.title.text == "window"


def test_shares_have_an_axis_from_0_to_1_and_other_scores_their_own():
    low, high = coverage_curves({"coverage": [0.4, 0.5]}).layout.yaxis.range
    assert low <= 0 < 1 <= high < 1.1
    low, high = coverage_curves({"coverage": [20.0, 30.0]}).layout.yaxis.range
    assert 15 < low < 20 < 30 < high < 35


def test_long_curves_have_no_markers_and_short_ones_do():
    long, short = coverage_curves({"coverage": [1.0] * 100, "temporal": [0.5]}).data
    assert (long.mode, short.mode) == ("lines", "lines+markers")


def test_policies_can_be_told_apart_without_colour():
    assert len(set(POLICY_COLORS.values())) == len(STYLES)
    assert len({symbol for _, _, symbol in STYLES.values()}) == len(STYLES)
    assert {dash for _, dash, _ in STYLES.values()} <= set(DASHES)
    assert {symbol for _, _, symbol in STYLES.values()} <= set(MARKERS)
    assert set(POLICIES) | {"oracle"} == set(STYLES)


def test_a_policy_keeps_its_colour_and_others_get_what_is_left():
    names = ["mine", "coverage", "yours", "temporal", *map(str, range(9))]
    lines = {line.name: line for line in coverage_curves({n: [1.0] for n in names}).data}
    for name in ("coverage", "temporal"):
        assert lines[name].line.color == lines[name].marker.color == POLICY_COLORS[name]
    assert lines["mine"].line.color == SPARE_COLORS[0]
    assert lines["yours"].line.color == SPARE_COLORS[1]


def test_an_ablation_shows_every_value_the_mean_and_the_deviation():
    chart = ablation(SEEDS)
    assert list(chart.layout.yaxis.ticktext) == ["coverage", "mine", "temporal"]
    for row, name in enumerate(chart.layout.yaxis.ticktext):
        stroke, dots = chart.data[2 * row], chart.data[2 * row + 1]
        center, spread = fmean(SEEDS[name]), (stdev(SEEDS[name]) if len(SEEDS[name]) > 1 else 0)
        assert list(dots.x) == SEEDS[name]
        assert set(dots.y) == {row}
        assert (min(stroke.x), max(stroke.x)) == pytest.approx((center - spread, center + spread))
        assert stroke.x[2] == stroke.x[3] == pytest.approx(center)
        assert stroke.line.color == dots.marker.line.color
    assert notes(chart) == ["0.950 ± 0.050", "0.800", "0.600 ± 0.141"]


def test_references_are_diamonds_in_the_rows_of_their_policies():
    diamonds = ablation(SEEDS, reference={"temporal": 0.55}).data[-1]
    assert (list(diamonds.x), list(diamonds.y)) == ([0.55], [2])
    assert "diamonds" in ablation(SEEDS, reference={"temporal": 0.55}).layout.title.text
    assert "diamonds" not in ablation(SEEDS).layout.title.text


def test_decibels_have_fewer_digits_than_shares():
    assert notes(ablation({"coverage": [20.0, 30.0]}, y="PSNR, dB")) == ["25.0 ± 7.1"]


# ---- in notebooks --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_notebooks_store_the_chart_its_still_and_a_fixed_text(charts, kind):
    formatters = pytest.importorskip("IPython.core.formatters")
    data, metadata = formatters.DisplayFormatter().format(charts[kind])
    assert set(data) == {PLOTLY, "image/png", "text/plain"}
    assert data["text/plain"] == repr(charts[kind]) == "Chart()"
    assert metadata == {}
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    layout = data[PLOTLY]["layout"]
    assert still.size == (layout["width"], layout["height"]) == (800, layout["height"])
    assert len(json.dumps(data)) < 60_000


@pytest.mark.parametrize("kind", KINDS)
def test_stored_outputs_are_valid(charts, kind):
    nbformat = pytest.importorskip("nbformat")
    output = nbformat.v4.new_output("display_data", charts[kind]._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell(outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(nbformat.reads(nbformat.writes(notebook), as_version=4))


def test_what_is_stored_is_the_chart_without_plotlys_template(charts):
    stored = charts["curves"]._repr_mimebundle_()[PLOTLY]
    assert "template" not in stored["layout"]
    assert [line["y"] for line in stored["data"]] == [list(t.y) for t in charts["curves"].data]


def test_nothing_else_loads_plotly():
    rooms = "vmemkit, vmemkit.figures, vmemkit.evaluation"
    code = f"import sys, {rooms}; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- the still twin ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_still_is_of_the_charts_size_and_not_blank(charts, kind):
    found = pixels(charts[kind])
    area = charts[kind].layout.width * charts[kind].layout.height * 1.5**2  # 150 of 100 DPI
    assert sum(found.values()) == pytest.approx(area, rel=0.01)
    assert 0.3 * area < found[(255, 255, 255)] < 0.99 * area
    assert charts[kind].layout.title.text in words(charts[kind])


def words(chart: Chart) -> set[str]:
    """All texts of the still: its title, axes, ticks, notes and legend."""
    still = chart.still()
    (axes,) = still.axes
    legend = axes.get_legend().get_texts() if axes.get_legend() else []
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    found = [*still.texts, *axes.texts, axes.xaxis.label, axes.yaxis.label, *ticks, *legend]
    return {text.get_text() for text in found}


def test_stills_of_retrievals_have_the_views_colours(charts, retrieval, steps):
    found = pixels(charts["votes"])
    assert all(found.get(view_rgb(view), 0) > 100 for view in retrieval.chosen.tolist())
    used = {view for step in steps for view in step.retrieval.chosen.tolist()}
    found = pixels(charts["matrix"])
    assert all(found.get(view_rgb(view), 0) > 100 for view in used)


def test_stills_of_scores_have_the_policies_colours(charts):
    for kind, names in (("curves", SCORES), ("ablation", SEEDS)):
        found = pixels(charts[kind])
        colors = [POLICY_COLORS.get(name, SPARE_COLORS[0]) for name in names]
        assert all(found.get(rgb(color), 0) > 20 for color in colors)


def test_bars_of_stills_are_as_high_as_those_of_their_charts(charts, retrieval):
    (axes,) = charts["votes"].still().axes
    assert [bar.get_height() for bar in axes.patches] == list(charts["votes"].data[0].y)
    assert [bool(bar.get_hatch()) for bar in axes.patches] == (
        retrieval.suppressed_by >= 0
    ).tolist()


def test_cells_of_stills_are_where_their_charts_have_them(charts):
    (axes,) = charts["matrix"].still().axes
    there, used = charts["matrix"].data
    corners = [bar.get_x() for bar in axes.patches]
    assert corners == [*there.base, *used.base]
    assert axes.yaxis_inverted()


def test_lines_of_stills_are_those_of_their_charts(charts):
    (axes,) = charts["curves"].still().axes
    for drawn, line in zip(axes.lines, charts["curves"].data, strict=True):
        assert list(drawn.get_ydata()) == list(line.y)
        assert drawn.get_linestyle() == DASHES[line.line.dash]
        assert drawn.get_marker() == MARKERS[line.marker.symbol]


def test_stills_say_what_their_charts_say(charts):
    view = "view (numbered: order of choice; hatched: suppressed)"
    assert {view, "votes", "1", "2"} <= words(charts["votes"])
    assert {"step", "view (the first 3 given)", "0", "3"} <= words(charts["matrix"])
    assert {*SCORES, "coverage", "step"} <= words(charts["curves"])
    assert {"surfels", "sightings", "without merging"} <= words(charts["growth"])
    assert {*SEEDS, "0.950 ± 0.050"} <= words(charts["ablation"])


def test_a_still_follows_its_chart(charts):
    chart = Chart(charts["curves"]).update_layout(title_text="another title")
    assert "another title" in words(chart)
    assert "another title" not in words(charts["curves"])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_still_is_cut_off(charts, kind):
    still = charts[kind].still()
    drawn, page = still.get_tightbbox(), still.bbox_inches
    assert page.x0 <= drawn.x0 < drawn.x1 <= page.x1
    assert page.y0 <= drawn.y0 < drawn.y1 <= page.y1


def test_drawing_changes_nothing_that_it_is_given(memory, retrieval):
    votes, scores = retrieval.votes.clone(), {"coverage": [0.5]}
    vote_bars(memory, retrieval).still()
    coverage_curves(scores).still()
    assert torch.equal(votes, retrieval.votes)
    assert scores == {"coverage": [0.5]}


# ---- little input --------------------------------------------------------------------------------


def test_the_smallest_inputs_are_drawn_too(box):
    memory = box.memory(0.0)
    (step,) = walk(memory, box.look(5.0))
    found = step.retrieval
    for chart in (
        vote_bars(memory, found),
        retrieval_matrix([step]),
        memory_growth(memory),
        coverage_curves({"a": [0.0]}),
        ablation({"a": [0.0]}),
    ):
        assert len(pixels(chart)) > 2
