"""A page of a walk: one .html that explains each step, and shows the memory in three dimensions.

In: the steps of a walk. Out: a file that a browser opens from the disk; it asks no network and no
kernel. Each picture is in it once, as JPEG. The scene is drawn by WebGL (walk_page.js), which draws a
disc only from the side that was seen, so that a house opens like a doll's house.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vmemkit.core import image_bytes
from vmemkit.exports.places import writing_file
from vmemkit.exports.vote_bars import vote_bars_svg
from vmemkit.figures import (
    COLOR_MODES,
    FRUSTUM_EDGES,
    chip,
    explained_shares,
    frustum_corners,
    scene_box,
    surfel_colors,
    view_colors,
    vote_map,
)
from vmemkit.memory import Memory
from vmemkit.pipeline import Step
from vmemkit.retrieval import Retrieval
from vmemkit.sessions import motion_between

MAX_SURFELS = 60_000  # in the scene; a larger memory is sampled
MAX_ROWS = 288  # height of pictures, pixels
JPEG_QUALITY = 85
MODES = ("image", "origin")  # colours of surfels that a reader can choose
MODE_NAMES = ("of the pictures", "given, generated or invented")
ELEVATION = 0.9  # angle at which the eye looks down at first, radians
AWAY = 1.05  # distance of the eye at first, in extents of the memory
FRUSTUM = 0.05  # length of a drawn camera, in extents of the memory
WIDER = 1.4  # how much wider discs are drawn: at a slant, exact ones show gaps
MAX_GIVEN = 8  # pictures of the beginning
VOTING = (
    "The surfels that the new cameras have in sight vote for the views that saw them. So the views that "
    "are chosen have seen the same places, however long ago."
)
BLIND = "Not every choice looked at surfels here. What the memory knew is shown all the same, to compare."
VOTE_MAP = (
    "Who saw what the targets show, as the memory knew it: each pixel has the colour of the first chosen "
    "view that saw its surfel. Pale pixels were seen by other views only, dark ones by none."
)


def html(steps: Sequence[Step], path: str | os.PathLike) -> None:
    """Write a page of a walk, with the surfels and cameras in three dimensions.

    Each step has its new views, the views that were chosen as their context, what these had seen, and
    the votes of all views. Of more than MAX_SURFELS surfels a sample is drawn. Pictures of more than
    MAX_ROWS rows are scaled to them.
    Errors: ValueError for no steps, another suffix and a missing folder; OSError for a full disk.
    """
    if not steps:
        raise ValueError("a page needs the steps of a walk, got none: list(vmemkit.walk(...))")
    memory = steps[-1].memory
    data = {"pictures": _pictures(memory.views.image), "scene": _scene(steps)}
    style, script = (Path(__file__).with_suffix(s).read_text("utf-8") for s in (".css", ".js"))
    title = f"A walk of {len(steps)} steps" if len(steps) > 1 else "A walk of one step"
    sections = "\n".join(_section(number, step) for number, step in enumerate(steps, 1))
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vmemkit: {title.lower()}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
{_introduction(steps)}
{_space(len(steps))}
<nav aria-label="Steps">{_links(len(steps))}</nav>
{_beginning(steps[0].before)}
{sections}
<script>
const DATA = {json.dumps(data, allow_nan=False, separators=(",", ":"))};
{script}</script>
</body>
</html>
"""
    with writing_file(path, ".html") as draft:
        draft.write_text(text, encoding="utf-8")


# ---- words and pictures --------------------------------------------------------------------------


def _introduction(steps: Sequence[Step]) -> str:
    before, memory = steps[0].before, steps[-1].memory
    policies = list(dict.fromkeys(step.retrieval.policy for step in steps))
    looks = all(step.retrieval.splat is not None for step in steps)
    return (
        f"<p>The walk began with {_count(len(before), 'view')} and ended with {len(memory)}. In each "
        "step, earlier views were chosen as context, and new views were generated from them. Context "
        f"was chosen by {escape(' and '.join(policies))}.</p>\n"
        "<p>A surfel is a small disc of a surface that some view saw. "
        f"{VOTING if looks else BLIND}</p>"
    )


def _space(count: int) -> str:
    options = "".join(f'<option value="{i}">{name}</option>' for i, name in enumerate(MODE_NAMES))
    return f"""<div class="space">
<canvas id="space" tabindex="0" role="img" aria-label="The surfels and cameras of the walk"></canvas>
<form id="controls">
<label>time <input type="range" name="step" min="0" max="{count}" value="{count}"></label>
<output name="shown"></output>
<label>colours <select name="color">{options}</select></label>
</form>
<p class="quiet">Drag to turn, drag with shift to move. Click, then scroll to approach. Pyramids are the
cameras, each in the colour of its view. Colours: <span id="legend"></span>.</p>
</div>"""


def _links(count: int) -> str:
    return " ".join(
        f'<a href="#step-{i}" data-step="{i}">step {i}</a>' for i in range(1, count + 1)
    )


def _beginning(memory: Memory) -> str:
    views = list(range(min(len(memory), MAX_GIVEN)))
    rest = len(memory) - len(views)
    more = f'<p class="quiet">and {_count(rest, "view")} more</p>' if rest else ""
    pictures = _figures(views, [_kind(memory, view) for view in views])
    return (
        '<section class="step"><h2>Where the walk began</h2>'
        f'<div class="row"><div class="pictures">{pictures}</div></div>{more}</section>'
    )


def _section(number: int, step: Step) -> str:
    retrieval, chosen = step.retrieval, step.retrieval.chosen.tolist()
    new = list(range(len(step.before), len(step.memory)))
    added = explained_shares(step.before, retrieval).mean(0).tolist()
    words = [
        f"+{share:.0%}, {_kind(step.before, view)}"
        for share, view in zip(added, chosen, strict=True)
    ]
    note = f"<p>{escape(step.note)}</p>" if step.note else ""
    return f"""<section class="step" id="step-{number}">
<h2>Step {number}: {escape(_motion(step))}</h2>
<p>{_sentence(step)}</p>{note}
<div class="row">
<div><h3>New views</h3><div class="pictures">{_figures(new, [""] * len(new))}</div></div>
<div><h3>Context: the chosen views, and the share of pixels that each adds</h3>
<div class="pictures">{_figures(chosen, words)}</div></div>
<div><h3>Who saw it before</h3><div class="pictures">{_vote_maps(step)}</div>
<p class="quiet">{VOTE_MAP}</p></div>
<div><h3>{retrieval.unit.capitalize()} of all views</h3>
{vote_bars_svg(retrieval)}
<p class="quiet">Numbers above bars: the order of choice; below: the view. Pale views were not chosen.
{_suppressed(retrieval)}</p></div>
</div>
</section>"""


def _motion(step: Step) -> str:
    """How the camera moved, from the memory's last view to the last target."""
    return motion_between(step.before.views.cameras[-1], step.targets[-1])


def _sentence(step: Step) -> str:
    retrieval, new = step.retrieval, len(step.memory) - len(step.before)
    chosen = [chip(view) for view in retrieval.chosen.tolist()]
    surfels = len(step.memory.surfels) - len(step.before.surfels)
    grown = (
        f"The memory grew by {surfels:,} surfels" if surfels >= 0 else "The memory forgot surfels"
    )
    made = f"{_count(new, 'view')} {'was' if new == 1 else 'were'} generated"
    return (
        f"{made} from {' '.join(chosen)}, which {escape(retrieval.policy)} "
        f"chose among {len(retrieval.votes)}. {grown}. It took {sum(step.seconds.values()):.1f} seconds."
    )


def _suppressed(retrieval: Retrieval) -> str:
    count = int((retrieval.suppressed_by >= 0).sum())
    return f"{_count(count, 'view')} (dashed) skipped as too near to a chosen one." if count else ""


def _kind(memory: Memory, view: int) -> str:
    return "given" if memory.views.given[view] else "generated"


def _count(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _figures(views: Iterable[int], words: Iterable[str]) -> str:
    """Pictures of views, which the script takes from its table."""
    return "".join(
        f'<figure><img data-view="{view}" alt="view {view}">'
        f"<figcaption>{chip(view)} {escape(text)}</figcaption></figure>"
        for view, text in zip(views, words, strict=True)
    )


def _vote_maps(step: Step) -> str:
    images = vote_map(step.before, step.retrieval).permute(0, 3, 1, 2)
    return "".join(
        f'<figure><img src="data:image/jpeg;base64,{picture}" alt="who saw target {i}"></figure>'
        for i, picture in enumerate(_pictures(images), 1)
    )


def _pictures(images: Float[Tensor, "t 3 h w"]) -> list[str]:
    """Images as JPEG in base64."""
    texts = []
    for i in range(len(images)):
        picture = Image.fromarray(image_bytes(images[i : i + 1])[0])
        if picture.height > MAX_ROWS:
            width = max(1, round(picture.width * MAX_ROWS / picture.height))
            picture = picture.resize((width, MAX_ROWS), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=JPEG_QUALITY)
        texts.append(base64.b64encode(content.getvalue()).decode())
    return texts


# ---- the scene -----------------------------------------------------------------------------------


def _scene(steps: Sequence[Step]) -> dict[str, Any]:
    """The surfels and cameras as walk_page.js reads them. Both are in the order of their views, so that
    a moment of the walk is how many of each are drawn."""
    memory = steps[-1].memory
    surfels = memory.surfels.to("cpu")
    sizes = [len(steps[0].before), *(len(step.memory) for step in steps)]
    stride = -(-len(surfels) // MAX_SURFELS) or 1
    drawn = torch.arange(0, len(surfels), stride)
    ends = memory.ends[torch.tensor(sizes) - 1]
    low, high = scene_box(surfels.position, memory.views.cameras.position.cpu())
    extent = float((high - low).norm()) or 1.0
    lines = _frusta(memory, FRUSTUM * extent)
    names = ["the beginning", *(f"after step {i}" for i in range(1, len(steps) + 1))]
    return {
        "place": _packed(surfels.position[drawn].numpy().astype("<f4")),
        "normal": _packed((127 * surfels.normal[drawn]).round().numpy().astype(np.int8)),
        "radius": _packed(surfels.radius[drawn].numpy().astype("<f4")),
        "colors": [_packed(_bytes(surfel_colors(memory, mode).cpu()[drawn])) for mode in MODES],
        "legends": [COLOR_MODES[mode] for mode in MODES],
        "frusta": _packed(lines.numpy().astype("<f4")),
        "frustumColors": _packed(
            _bytes(view_colors(len(memory)).repeat_interleave(len(FRUSTUM_EDGES), 0))
        ),
        "surfelCounts": torch.searchsorted(drawn, ends).tolist(),
        "lineCounts": [len(FRUSTUM_EDGES) * size for size in sizes],
        "stepNames": [f"{name}: {_count(n, 'view')}" for name, n in zip(names, sizes, strict=True)],
        "widen": WIDER * stride**0.5,  # the discs of a sample cover as much as all
        "extent": extent,
        "eye": _first_eye(memory, (low + high) / 2, AWAY * extent),
    }


def _first_eye(memory: Memory, target: Float[Tensor, " 3"], distance: float) -> dict[str, Any]:
    """Above and behind the first camera, so that what it saw shows."""
    ahead = memory.views.cameras.forward[0].cpu()
    turn = float(torch.atan2(ahead[0], ahead[2]))
    return {"target": target.tolist(), "distance": distance, "turn": turn, "climb": ELEVATION}


def _frusta(memory: Memory, length: float) -> Float[Tensor, "v 3"]:
    """Both ends of the edges of each view's frustum, view after view."""
    lengths = torch.full((len(memory),), length)
    corners = frustum_corners(memory.views.cameras.to("cpu"), lengths)
    return corners[:, FRUSTUM_EDGES].flatten(0, 1)


def _bytes(colors: Float[Tensor, "n 3"]) -> np.ndarray:
    return (255 * colors).round().clamp(0, 255).byte().numpy()


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
