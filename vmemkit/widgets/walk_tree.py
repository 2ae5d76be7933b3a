"""The tree of a journey: a row for each step, lines from each to the steps that were taken from it.

In: a journey. Out: rows to be clicked on, with a lane for each branch. The newest step is the last row,
and the current one is marked.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets

from vmemkit.widgets.gallery import data_uri
from vmemkit.widgets.journeys import START, Journey
from vmemkit.widgets.parts import button

PICTURE = 56  # height of a row's picture, pixels; it is shown at half its size, for sharp screens
NAME = 80  # letters of a name, at most
QUIET = (  # style of the line that says where the walk is kept
    "color:var(--jp-ui-font-color2,#616161);font-size:12px;line-height:18px;"
    "white-space:nowrap;overflow:hidden;text-overflow:ellipsis;max-width:336px"
)

TREE = """
const ROW = 30, MARGIN = 10;
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "vmemkit-tree";
  el.appendChild(box);
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const draw = () => {
    const rows = model.get("rows"), here = model.get("here"), top = box.scrollTop;
    const lanes = 1 + Math.max(0, ...rows.map((row) => row.lane));
    const gap = Math.min(14, 120 / lanes), width = 2 * MARGIN + gap * (lanes - 1);
    const place = new Map(rows.map((row, i) => [row.id, i]));
    const x = (row) => MARGIN + gap * row.lane, y = (i) => ROW * (i + 0.5);
    const lines = svg("svg", { width, height: ROW * rows.length, "aria-hidden": "true" });
    const dots = [];
    rows.forEach((row, i) => {
      const state = row.on_way ? "way" : "aside";
      if (place.has(row.parent)) {
        const j = place.get(row.parent), from = rows[j];
        const bend = from.lane === row.lane ? "" :
          `C ${x(from)} ${y(j) + ROW / 2} ${x(row)} ${y(j) + ROW / 2} ${x(row)} ${y(j) + ROW}`;
        const d = `M ${x(from)} ${y(j)} ${bend} L ${x(row)} ${y(i)}`;
        const line = svg("path", { d, class: state });
        row.on_way ? dots.push(line) : lines.append(line);
      }
    });
    lines.append(...dots);  // the way lies above the other lines
    rows.forEach((row, i) => {
      const state = row.id === here ? "here" : row.on_way ? "way" : "aside";
      lines.append(svg("circle", { cx: x(row), cy: y(i), r: row.id === here ? 5.5 : 3.5,
        class: state }));
    });
    box.replaceChildren(lines, ...rows.map((row) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = row.title;
      button.dataset.id = row.id;
      button.style.paddingLeft = width + "px";
      if (row.id === here) button.setAttribute("aria-current", "step");
      button.classList.toggle("aside", !row.on_way);
      const image = document.createElement("img");
      image.src = row.src;
      image.alt = "";
      const label = document.createElement("span");
      label.textContent = row.label;
      const more = document.createElement("small");
      more.textContent = row.more;
      button.append(image, label, more);
      button.onclick = () => {
        model.set("pressed", [row.id, model.get("pressed")[1] + 1]);
        model.save_changes();
      };
      return button;
    }));
    const now = place.get(here) ?? 0;
    box.scrollTop = top;
    if (ROW * now < top || ROW * (now + 1) > top + box.clientHeight)
      box.scrollTop = ROW * (now + 1.5) - box.clientHeight;
  };
  for (const name of ["rows", "here"]) model.on("change:" + name, draw);
  draw();
}
export default { render };
"""

TREE_CSS = """
.vmemkit-tree { position: relative; max-height: 150px; overflow-y: auto; overflow-x: hidden;
  border: 1px solid var(--jp-border-color2, #e0e0e0); border-radius: 4px; }
.vmemkit-tree svg { position: absolute; left: 0; top: 0; pointer-events: none; }
.vmemkit-tree path { fill: none; stroke-width: 2; }
.vmemkit-tree path.way { stroke: var(--jp-brand-color1, #1976d2); }
.vmemkit-tree path.aside { stroke: var(--jp-border-color1, #bdbdbd); }
.vmemkit-tree circle { stroke-width: 2; fill: var(--jp-layout-color0, #fff); }
.vmemkit-tree circle.way { stroke: var(--jp-brand-color1, #1976d2); }
.vmemkit-tree circle.here { stroke: var(--jp-brand-color1, #1976d2);
  fill: var(--jp-brand-color1, #1976d2); }
.vmemkit-tree circle.aside { stroke: var(--jp-border-color1, #bdbdbd); }
.vmemkit-tree button { display: flex; align-items: center; gap: 8px; width: 100%; height: 30px;
  box-sizing: border-box; padding: 0 8px 0 0; border: 0; background: none; cursor: pointer;
  color: var(--jp-ui-font-color1, #22262b); font: 13px/30px var(--jp-ui-font-family, sans-serif);
  text-align: left; }
.vmemkit-tree button:hover { background: var(--jp-layout-color2, #eee); }
.vmemkit-tree button:focus-visible { outline: 2px solid #339cff; outline-offset: -2px; }
.vmemkit-tree button.aside { color: var(--jp-ui-font-color2, #616161); }
.vmemkit-tree button[aria-current] { font-weight: 600; background: var(--jp-layout-color2, #eee); }
.vmemkit-tree img { height: 26px; border-radius: 2px; flex: none; }
.vmemkit-tree span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; flex: 1 1 0; }
.vmemkit-tree small { flex: none; color: var(--jp-ui-font-color2, #616161); font-weight: 400; }
"""


class WalkTree(anywidget.AnyWidget):
    """Rows of steps, which can be clicked on. A policy is named where it changes. `here` is the current
    node. `pressed` is the node that was clicked on, and a count, so that the same one is noticed twice."""

    _esm, _css = TREE, TREE_CSS
    rows = traitlets.List(traitlets.Dict()).tag(sync=True)
    here = traitlets.Int(START).tag(sync=True)
    pressed = traitlets.List([START, 0]).tag(sync=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pictures: dict[int, tuple[torch.Tensor, str]] = {}  # node -> view, its picture

    def __repr__(self) -> str:
        return f"WalkTree({len(self.rows)} rows)"

    def show(self, journey: Journey) -> None:
        """Show a journey."""
        way, lanes = {START, *journey.way()}, lanes_of(journey)
        rows = [self._row(START, None, journey.label, "", journey.start.views.image[0])]
        policies = {START: ""}
        for i in journey.kept():
            node = journey.nodes[i]
            policies[i] = policy = node.step.retrieval.policy
            changed = policy if policy != policies[node.parent] else ""
            rows.append(self._row(i, node.parent, node.label, changed, node.step.views.image[-1]))
        for row in rows:
            row |= {"lane": lanes[row["id"]], "on_way": row["id"] in way}
        with self.hold_sync():
            self.rows, self.here = rows, journey.at

    def _row(
        self, node: int, parent: int | None, label: str, more: str, image: torch.Tensor
    ) -> dict[str, Any]:
        row = {"id": node, "parent": parent, "label": label, "more": more}
        return row | {"src": self._picture(node, image), "title": f"go to {label}"}

    def _picture(self, node: int, image: torch.Tensor) -> str:
        """A small picture. Those that were drawn before are kept."""
        shown, src = self._pictures.get(node, (None, ""))
        if shown is None or shown.data_ptr() != image.data_ptr():
            size = (PICTURE, max(1, round(PICTURE * image.shape[2] / image.shape[1])))
            small = torch.nn.functional.interpolate(image[None].float(), size=size, mode="area")
            src = data_uri(small[0])
            self._pictures[node] = image, src
        return src


class TreePanel(ipywidgets.VBox):
    """The tree, where it is kept, and what can be done with the current step: `name` renames it,
    `delete` hides it and what follows it, `bring_back` undoes that."""

    def __init__(
        self,
        go: Callable[[int], object],
        rename: Callable[[str], object],
        drop: Callable[[], object],
        bring_back: Callable[[], object],
    ) -> None:
        self.tree, self.kept = WalkTree(), ipywidgets.HTML()
        self._rename = rename
        tip = "the name of the current step; of the start, that of the walk"
        self.name = ipywidgets.Text(
            continuous_update=False,
            tooltip=tip,
            layout={"width": "auto", "flex": "1 1 0", "min_width": "0"},
        )
        self.delete = button("delete", drop, icon="trash-o")
        self.delete.tooltip = "delete this step and all that follow it; this can be undone"
        self.bring_back = button("", bring_back, icon="undo")
        self.bring_back.tooltip = "show all steps again that were deleted since the walk was opened"
        self._journey: Journey | None = None
        self.tree.observe(lambda change: go(change["new"][0]), "pressed")
        self.name.observe(self._named, "value")
        self.acts = ipywidgets.HBox([self.name, self.delete, self.bring_back])
        super().__init__([self.tree, self.acts, self.kept])

    def show(self, journey: Journey) -> None:
        """Show a journey. Before its first step there is no tree."""
        self._journey = journey
        self.tree.show(journey)
        self.name.value = self._label
        self.delete.disabled = journey.at == START
        gone, some = len(journey.dropped), bool(journey.nodes)
        self.bring_back.description = f"bring back {gone}"
        for part, shown in ((self.tree, some), (self.acts, some), (self.bring_back, gone)):
            part.layout.display = "" if shown else "none"

    def tell(self, words: str) -> None:
        """Say in a quiet line where the walk is kept."""
        escaped = html.escape(words)
        self.kept.value = f'<div style="{QUIET}" title="{escaped}">{escaped}</div>' if words else ""

    @property
    def _label(self) -> str:
        journey = self._journey
        assert journey is not None
        return journey.label if journey.at == START else journey.nodes[journey.at].label

    def _named(self, change: dict) -> None:
        name = change["new"].strip()[:NAME]
        if name and name != self._label:
            self._rename(name)
        self.name.value = self._label


def lanes_of(journey: Journey) -> dict[int, int]:
    """The column of each node: a step goes on in that of its parent, if it is the first from there."""
    lanes, taken, last = {START: 0}, set[int](), 0
    for i in journey.kept():
        parent = journey.nodes[i].parent
        if parent in taken:
            last += 1
            lanes[i] = last
        else:
            lanes[i] = lanes[parent]
            taken.add(parent)
    return lanes
