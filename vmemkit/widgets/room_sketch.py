"""RoomSketch: a photograph with the box of its room drawn on it, and handles to drag.

An anywidget: a few lines of JavaScript draw the traits as SVG and write back which handle was dragged
where. Handles take the keyboard, too: Tab goes to them, arrows move them. The browser holds no state.
"""

from __future__ import annotations

import anywidget
import traitlets
from jaxtyping import Float
from torch import Tensor

from vmemkit.scenes import PhotoRoom, handle_places, seams
from vmemkit.widgets.gallery import data_uri

MARGIN = 0.35  # of the photo's sides around it: handles are often outside of the photo
STEP = 0.005  # of the photo's sides: how far an arrow key moves a handle, ten times that with Shift

SKETCH = """
const SVG = "http://www.w3.org/2000/svg";
function render({ model, el }) {
  const svg = document.createElementNS(SVG, "svg"), size = {};
  svg.setAttribute("class", "vmemkit-sketch");
  svg.dataset.lmSuppressShortcuts = "true";  // JupyterLab has arrows of its own
  el.appendChild(svg);
  const add = (parent, name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    return parent.appendChild(element);
  };
  const inside = (value) => Math.min(Math.max(value, -size.m), 1 + size.m);
  const x = (u) => (u + size.m) * size.w, y = (v) => (v + size.m) * size.h;
  const put = (name, u, v) => {
    model.set("moved", [name, u, v, (model.get("moved")[3] || 0) + 1]);
    model.save_changes();
  };
  let dragged = null, next = null, edges = null, knobs = null;
  const places = () => {  // handles are moved, not made anew, so that drags and the focus go on
    edges.replaceChildren();
    for (const [x0, y0, x1, y1] of model.get("lines"))
      add(edges, "line", { x1: x(x0), y1: y(y0), x2: x(x1), y2: y(y1) });
    for (const { name, u, v } of model.get("handles")) {
      const circle = [...svg.querySelectorAll("circle")].find((c) => c.dataset.name === name)
        || handle(name);
      if (name !== dragged) {
        circle.setAttribute("cx", x(inside(u)));
        circle.setAttribute("cy", y(inside(v)));
      }
      const outside = inside(u) !== u || inside(v) !== v;
      circle.classList.toggle("outside", outside);
      const where = `${Math.round(100 * u)} % across, ${Math.round(100 * v)} % down`;
      circle.setAttribute("aria-label", `${name}: ${where}${outside ? ", outside of the view" : ""}`);
      circle.querySelector("title").textContent = circle.getAttribute("aria-label");
    }
  };
  const handle = (name) => {
    const circle = add(knobs, "circle", { r: 9, tabindex: 0, role: "button" });
    circle.dataset.name = name;
    circle.classList.toggle("point", name === model.get("handles")[0].name);
    add(circle, "title", {});
    circle.addEventListener("pointerdown", (event) => {
      circle.setPointerCapture(event.pointerId);
      dragged = name;
    });
    circle.addEventListener("pointermove", (event) => {
      if (dragged !== name) return;
      const box = svg.getBoundingClientRect();
      const u = inside((event.clientX - box.left) / box.width * (1 + 2 * size.m) - size.m);
      const v = inside((event.clientY - box.top) / box.height * (1 + 2 * size.m) - size.m);
      circle.setAttribute("cx", x(u));
      circle.setAttribute("cy", y(v));
      if (next === null) requestAnimationFrame(() => { const f = next; next = null; f(); });
      next = () => put(name, u, v);
    });
    const drop = () => { dragged = null; places(); };
    circle.addEventListener("pointerup", drop);
    circle.addEventListener("pointercancel", drop);
    circle.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const step = model.get("step") * (event.shiftKey ? 10 : 1);
      const now = model.get("handles").find((h) => h.name === name);
      put(name, now.u + step * way[0], now.v + step * way[1]);
    });
    return circle;
  };
  const draw = () => {
    svg.replaceChildren();
    Object.assign(size, { w: model.get("width"), h: model.get("height"), m: model.get("margin") });
    const whole = [(1 + 2 * size.m) * size.w, (1 + 2 * size.m) * size.h];
    svg.setAttribute("viewBox", `0 0 ${whole[0]} ${whole[1]}`);
    svg.setAttribute("width", whole[0]);
    add(svg, "rect", { width: whole[0], height: whole[1] });
    add(svg, "image", { href: model.get("src"), x: x(0), y: y(0), width: size.w, height: size.h,
      preserveAspectRatio: "none" });
    [edges, knobs] = [add(svg, "g", {}), add(svg, "g", {})];
    places();
  };
  for (const name of ["src", "width", "height", "margin"]) model.on("change:" + name, draw);
  for (const name of ["handles", "lines"]) model.on("change:" + name, places);
  draw();
}
export default { render };
"""

SKETCH_CSS = """
.vmemkit-sketch { display: block; max-width: 100%; height: auto; touch-action: none; user-select: none; }
.vmemkit-sketch rect { fill: #eceef1; }
.vmemkit-sketch line { stroke: #ffb000; stroke-width: 2.5; pointer-events: none;
  paint-order: stroke; filter: drop-shadow(0 0 1px #22262b); }
.vmemkit-sketch circle { fill: #ffb000; stroke: #22262b; stroke-width: 2; cursor: grab; }
.vmemkit-sketch circle.point { fill: #339cff; }
.vmemkit-sketch circle.outside { fill-opacity: .35; stroke-dasharray: 4 3; }
.vmemkit-sketch circle:focus-visible { outline: none; stroke: #d1006c; stroke-width: 4; }
"""


class RoomSketch(anywidget.AnyWidget):
    """A photo with the seams of a room and its handles. `moved` is the name of the last handle that
    was dragged, where to (u, v), and a count, so that the same place twice is noticed twice."""

    _esm, _css = SKETCH, SKETCH_CSS
    src = traitlets.Unicode().tag(sync=True)
    width = traitlets.Int(400).tag(sync=True)  # of the photo, pixels
    height = traitlets.Int(300).tag(sync=True)
    margin = traitlets.Float(MARGIN).tag(sync=True)
    step = traitlets.Float(STEP).tag(sync=True)
    handles = traitlets.List(traitlets.Dict()).tag(sync=True)
    lines = traitlets.List(traitlets.List()).tag(sync=True)
    moved = traitlets.List(["", 0.0, 0.0, 0]).tag(sync=True)

    def __init__(self, photo: Float[Tensor, "3 h w"], width: int) -> None:
        height = max(1, round(width * photo.shape[1] / photo.shape[2]))
        super().__init__(src=data_uri(photo), width=width, height=height)

    def __repr__(self) -> str:
        return f"RoomSketch({self.width} x {self.height})"

    def show(self, room: PhotoRoom) -> None:
        """Draw a room."""
        places = handle_places(room)
        with self.hold_sync():
            self.lines = seams(room).flatten(1).tolist()
            self.handles = [{"name": name, "u": u, "v": v} for name, (u, v) in places.items()]
