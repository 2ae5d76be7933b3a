"""What figures refuse, and that the message says what is needed."""

import math
from types import SimpleNamespace

import pytest
import torch

from vmemkit.figures import (
    RETRIEVAL_MODES,
    Scene3D,
    ablation,
    choices,
    comparison,
    contact_sheet,
    coverage_curves,
    depth_fits,
    filmstrip,
    grid,
    memory_growth,
    panels,
    plan,
    retrieval_matrix,
    surfel_colors,
    vote_bars,
)
from vmemkit.memory import Memory
from vmemkit.pipeline import walk
from vmemkit.retrieval import retrieve

pytest.importorskip("pythreejs", reason="3-D scenes need the extra `notebook`")

NOTHING = Memory.empty()
TWO = torch.zeros(2, 3, 2, 2)


@pytest.fixture(scope="module")
def good(box):
    """Input that is all right by itself."""
    memory, path = box.memory(0.0, 60.0), box.look(10.0, 20.0, 30.0, 40.0)
    return SimpleNamespace(
        memory=memory,
        path=path,
        steps=list(walk(memory, path, m=2)),
        truth=box.render(path).image,
        retrieval=retrieve(memory, path, 2),
    )


SHEETS = {
    "no steps": (lambda good: contact_sheet([]), "need steps"),
    "a step that there is not": (lambda good: contact_sheet(good.steps, rows=[2]), "rows"),
    "no rows": (lambda good: contact_sheet(good.steps, rows=0), "rows"),
    "too little truth": (
        lambda good: contact_sheet(good.steps, good.truth[:-1]),
        "an image per target",
    ),
    "no walks": (lambda good: comparison({}, good.truth, [0]), "moments"),
    "no moments": (lambda good: comparison({"a": good.steps}, good.truth, []), "moments"),
    "a late moment": (lambda good: comparison({"a": good.steps}, good.truth, [4]), "moments"),
    "an early moment": (lambda good: comparison({"a": good.steps}, good.truth, [-1]), "moments"),
    "no images": (lambda good: filmstrip(good.truth[:0]), "images"),
    "no columns": (lambda good: filmstrip(good.truth, columns=0), "column"),
    "no retrievals": (lambda good: choices(good.memory, {}), "at least one"),
    "no panels": (lambda good: panels({}), "at least one"),
    "no fits": (lambda good: depth_fits({}), "at least one"),
    "a flat plan": (lambda good: plan(good.memory, elevation=0.0), "elevation"),
    "a plan from below": (lambda good: plan(good.memory, elevation=91.0), "elevation"),
    "a plan from NaN": (lambda good: plan(good.memory, elevation=math.nan), "elevation"),
    "a plan of nothing": (lambda good: plan(NOTHING), "surfels"),
    "a plan of a retrieval and a path": (
        lambda good: plan(good.memory, good.retrieval, good.path),
        "not both",
    ),
    "no grid": (lambda good: grid({}), "at least one"),
    "a grid without images": (lambda good: grid({"a": TWO[:0]}), "got {'a': .0, 3"),
    "a ragged grid": (lambda good: grid({"a": TWO, "b": TWO[:1]}), "'b': .1, 3"),
    "a grid of sizes": (lambda good: grid({"a": TWO, "b": TWO[..., :1]}), "of one size"),
    "a heading too few": (lambda good: grid({"a": TWO}, ["one"]), "2 columns, got 1"),
    "a column too far": (lambda good: grid({"a": TWO}, columns=[5]), r"columns \[5\]"),
}
CHARTS = {
    "votes of less memory": (
        lambda good: vote_bars(good.memory.truncate(1), good.retrieval),
        "memory of 2 views",
    ),
    "votes of no memory": (lambda good: vote_bars(NOTHING, good.retrieval), "memory of 2 views"),
    "a matrix of no steps": (lambda good: retrieval_matrix([]), "at least one step"),
    "growth of nothing": (lambda good: memory_growth(NOTHING), "empty memory"),
    "no curves": (lambda good: coverage_curves({}), "at least one value"),
    "empty curves": (lambda good: coverage_curves({"a": []}), "at least one value"),
    "NaN in a curve": (lambda good: coverage_curves({"a": [1.0, math.nan]}), "finite"),
    "no policies": (lambda good: ablation({}), "one or more values"),
    "a policy without values": (lambda good: ablation({"a": [1.0], "b": []}), "one or more values"),
    "an infinite value": (lambda good: ablation({"a": [math.inf]}), "finite"),
    "an infinite reference": (
        lambda good: ablation({"a": [1.0]}, reference={"a": math.inf}),
        "finite",
    ),
    "a reference for another policy": (
        lambda good: ablation({"a": [1.0]}, reference={"b": 1.0}),
        "reference is for",
    ),
    "a still of a pie": (
        lambda good: coverage_curves({"a": [1.0]}).add_trace({"type": "pie"}).still(),
        "a pie trace",
    ),
}
COLORS = {
    "an unknown mode": (
        lambda good: surfel_colors(good.memory, "depth"),
        "unknown colour mode 'depth': choose from image",
    ),
    "a scene in an unknown mode": (lambda good: Scene3D(good.memory, "depth"), "unknown"),
    **{
        f"{mode} without a retrieval": (
            lambda good, mode=mode: surfel_colors(good.memory, mode),
            f"'{mode}' is about a retrieval",
        )
        for mode in RETRIEVAL_MODES
    },
    "a scene without a retrieval": (
        lambda good: Scene3D(good.memory, "votes for"),
        "about a retrieval",
    ),
}
CASES = SHEETS | CHARTS | COLORS


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_words(good, case):
    draw, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        draw(good)
