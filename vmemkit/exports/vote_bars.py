"""Vote bars as SVG, for pages.

In: a retrieval. Out: an SVG element. Unlike `figures.vote_bars`, it needs no plotly on the page and no
other script, and its text has the colour of a light or a dark page.
"""

from __future__ import annotations

from vmemkit.figures import view_hex
from vmemkit.retrieval import Retrieval

WIDTH, HEIGHT = 480.0, 100.0  # of all bars
MARGIN = 18.0  # height of the line of text above the bars, and of that below
LEAST_SLOTS = 20  # few bars do not fill the width: it has room for so many at least
BAR = 0.75  # width of a bar, as a share of its slot
PALE = 0.35  # opacity of views that were not chosen
LABEL = 16.0  # least distance between numbers


def vote_bars_svg(retrieval: Retrieval) -> str:
    """A bar for each view of the memory, in its colour, as an SVG element; hovering tells the number.

    Where bars are many, only chosen views are numbered, as far as there is room.
    """
    votes, chosen = retrieval.votes.tolist(), retrieval.chosen.tolist()
    low, high = min(0.0, *votes), max(0.0, *votes)
    scale, slot = HEIGHT / ((high - low) or 1.0), WIDTH / max(LEAST_SLOTS, len(votes))
    zero, parts, labelled = MARGIN + high * scale, [], -LABEL
    for view, count in enumerate(votes):
        top, is_chosen = zero - max(0.0, count) * scale, view in chosen
        dash = ' stroke="currentColor" stroke-dasharray="2 2"'
        parts.append(
            f'<rect x="{view * slot:.1f}" y="{top:.1f}" width="{BAR * slot:.1f}" '
            f'height="{max(1.0, abs(count) * scale):.1f}" fill="{view_hex(view)}" '
            f'fill-opacity="{1 if is_chosen else PALE}"'
            f"{dash if retrieval.suppressed_by[view] >= 0 else ''}>"
            f"<title>{_title(retrieval, view)}</title></rect>"
        )
        middle = (view + BAR / 2) * slot
        if is_chosen:
            parts.append(_text(middle, top - 5, chosen.index(view) + 1))
        if (is_chosen or slot >= LABEL) and middle - labelled >= LABEL:
            parts.append(_text(middle, MARGIN + HEIGHT + 14, view))
            labelled = middle
    parts.append(f'<line x1="0" x2="{WIDTH:g}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    return (
        f'<svg class="votes" viewBox="0 0 {WIDTH:g} {HEIGHT + 2 * MARGIN:g}" role="img" '
        f'aria-label="a bar for each view">{"".join(parts)}</svg>'
    )


def _title(retrieval: Retrieval, view: int) -> str:
    """What hovering shows of a view."""
    chosen, rival = retrieval.chosen.tolist(), int(retrieval.suppressed_by[view])
    fate = "not chosen"
    if view in chosen:
        fate = f"chosen as number {chosen.index(view) + 1}"
    elif rival >= 0:
        fate = f"skipped: too near to view {rival}"
    return f"view {view}: {retrieval.unit} {float(retrieval.votes[view]):,.3g}, {fate}"


def _text(x: float, y: float, number: int) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{number}</text>'
