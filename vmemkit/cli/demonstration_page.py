"""The page of a demonstration: `index.html`, which shows all that it has written.

In: what each walk is called and about, the names of its files, its metrics. Out: HTML that a browser
opens from the disk, without a server and without scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from vmemkit.cli.terminal import METRICS

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
video, img { width: 100%; border-radius: 6px; display: block }
figure { margin: 1rem 0 } figcaption { margin-top: .3rem; opacity: .8 }
.flight { max-width: 30rem } details figure { max-width: 52rem }
summary { cursor: pointer; font-weight: 600; padding: .6rem 0 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .15rem .9rem; text-align: right }
td:first-child, th:first-child { text-align: left } th { border-bottom: 1px solid }
.wide { overflow-x: auto } section { margin: 3rem 0 }
"""
INTRODUCTION = (
    "Each walk goes away and comes back. Every new view is made from at most four earlier ones. Surfel "
    "memory chooses those that saw the same surfaces; without it, the latest ones are taken. Watch "
    "the way back: with surfel memory, what was seen or invented before is there again. Compare it with "
    "the first visit, not with the truth, which the generator cannot know."
)
OVERVIEW = (
    "Three moments of a walk: on the way out, far away, and back where it began. With surfel memory "
    "the last picture shows the room of the first."
)


@dataclass(frozen=True)
class Section:
    """What the page says and shows of a walk. Files are named relative to the page."""

    title: str  # one sentence
    film: str
    flight: str  # round the surfels
    sheets: Mapping[str, str]  # policy -> contact sheet
    surfels: Mapping[str, str]  # policy -> PLY
    rows: Mapping[str, Mapping[str, Any]]  # policy -> its row of metrics.json


def page(sections: Sequence[Section], explanation: str, overview: str | None = None) -> str:
    """The page as HTML. `explanation` says what the metrics mean, `overview` names a picture."""
    parts = "\n".join(_section(section, first=i == 0) for i, section in enumerate(sections))
    first = "" if overview is None else _picture(overview, OVERVIEW)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vmemkit: walks with and without surfel memory</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Walks with and without surfel memory</h1>
<p>{escape(INTRODUCTION)}</p>
{first}
<p>In the tables: {escape(explanation)}</p>
{parts}
<p>Next: <code>make lab</code> opens the lessons. <code>.venv/bin/vmemkit walk photo.jpg</code> walks
through a photo of a room of yours.</p>
</body>
</html>
"""


def _section(section: Section, first: bool) -> str:
    """A walk. Its contact sheets are large, to be legible, so those of the first walk alone are open."""
    sheets = "\n".join(
        _picture(
            name, f"{policy}: targets, who saw what they show, the views chosen, the new views"
        )
        for policy, name in section.sheets.items()
    )
    links = ", ".join(
        f'<a href="{escape(name)}">{escape(policy)}</a>' for policy, name in section.surfels.items()
    )
    return f"""<section>
<h2>{escape(section.title)}</h2>
{_video(section.film, "The same path, view by view")}
{_summary(section.rows)}
{_table(section.rows)}
<div class="flight">{_video(section.flight, "The surfels that are remembered at the end")}</div>
<p>Surfels for MeshLab, CloudCompare or Blender: {links}</p>
<details{" open" if first else ""}><summary>What some steps retrieved, and what came of it</summary>
{sheets}
</details>
</section>"""


def _video(name: str, caption: str) -> str:
    play = "controls autoplay loop muted playsinline"
    return (
        f'<figure><video src="{escape(name)}" {play}></video>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _picture(name: str, caption: str) -> str:
    image = f'<img src="{escape(name)}" alt="{escape(caption)}" loading="lazy">'
    return (
        f'<figure><a href="{escape(name)}">{image}</a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _summary(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """How much the views are like the truth, and second visits like first ones, in one sentence."""
    parts = []
    for key, words in (
        ("truth_ssim", "of all views to the real scene"),
        ("return_ssim", "of second visits to first ones"),
    ):
        values = {name: row[key] for name, row in rows.items() if row[key] is not None}
        likeness = [f"{value:.2f} with {escape(name)}" for name, value in values.items()]
        parts += [f"{words} {', '.join(likeness)}"] if likeness else []
    return f"<p>Likeness (SSIM, 1 for equal pictures) {'; '.join(parts)}.</p>"


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    headings = "".join(f"<th>{escape(heading)}</th>" for heading, _ in METRICS.values())
    lines = []
    for policy, row in rows.items():
        values = [(row[key], digits) for key, (_, digits) in METRICS.items()]
        cells = "".join(f"<td>{'-' if v is None else f'{v:.{n}f}'}</td>" for v, n in values)
        lines.append(f"<tr><td>{escape(policy)}</td>{cells}</tr>")
    return f'<div class="wide"><table><tr><th>context</th>{headings}</tr>{"".join(lines)}</table></div>'
