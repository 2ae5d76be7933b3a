"""Gallery and Screen: pictures that can be clicked on, and one that listens to keys.

ipywidgets has neither, so these two are anywidgets: a few lines of JavaScript that show what the
traits say and write back what was clicked on or pressed. No state lives in the browser.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import anywidget
import torch
import traitlets
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vmemkit.figures import css

QUALITY = 88  # of JPEG, of 100: pictures are small

GALLERY = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "vmemkit-gallery";
  el.appendChild(box);
  const draw = () => {
    const picked = model.get("picked"), height = model.get("height");
    box.replaceChildren(...model.get("items").map((item) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = item.title;
      button.setAttribute("aria-pressed", String(item.id === picked));
      button.dataset.id = item.id;
      button.style.borderColor = item.color;
      const image = document.createElement("img");
      image.src = item.src;
      image.alt = item.title;
      image.style.height = height + "px";
      const label = document.createElement("span");
      label.textContent = item.label;
      button.append(image, label);
      button.onclick = () => {
        model.set("picked", item.id === model.get("picked") ? -1 : item.id);
        model.save_changes();
      };
      return button;
    }));
    const now = box.querySelector("[aria-pressed=true]");
    if (now) box.scrollLeft = now.offsetLeft - box.clientWidth / 2;
  };
  for (const name of ["items", "picked", "height"]) model.on("change:" + name, draw);
  draw();
}
export default { render };
"""

GALLERY_CSS = """
.vmemkit-gallery { display: flex; gap: 4px; overflow-x: auto; padding: 3px; }
.vmemkit-gallery button { border: 3px solid; padding: 0; background: none; cursor: pointer;
  position: relative; flex: none; line-height: 0; }
.vmemkit-gallery button[aria-pressed=true] { outline: 3px solid #22262b; }
.vmemkit-gallery span { position: absolute; left: 0; bottom: 0; background: rgba(255,255,255,.85);
  color: #22262b; font: 11px/15px sans-serif; padding: 0 4px; }
"""

SCREEN = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "vmemkit-screen";
  box.tabIndex = 0;
  box.dataset.lmSuppressShortcuts = "true";  // of JupyterLab, where single letters edit cells
  const image = document.createElement("img"), words = document.createElement("div");
  box.append(image, words);
  el.appendChild(box);
  const draw = () => {
    image.src = model.get("src");
    image.alt = model.get("caption");
    image.style.width = model.get("width") + "px";
    image.style.imageRendering = model.get("crisp") ? "pixelated" : "auto";
    words.textContent = model.get("caption");
  };
  for (const name of ["src", "caption", "width", "crisp"]) model.on("change:" + name, draw);
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!model.get("listens").includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    model.set("pressed", [event.key, (model.get("pressed")[1] || 0) + 1]);
    model.save_changes();
  });
  draw();
}
export default { render };
"""

SCREEN_CSS = """
.vmemkit-screen { display: inline-block; border: 3px solid transparent; max-width: 100%; }
.vmemkit-screen:focus { border-color: #339cff; outline: none; }
.vmemkit-screen img { display: block; max-width: 100%; }
.vmemkit-screen div { font: 12px/18px sans-serif; min-height: 18px; }
"""


class Gallery(anywidget.AnyWidget):
    """A row of framed pictures; `picked` is the id of the one clicked on, -1 = none."""

    _esm, _css = GALLERY, GALLERY_CSS
    items = traitlets.List(traitlets.Dict()).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True)
    height = traitlets.Int(72).tag(sync=True)

    def __repr__(self) -> str:
        return f"Gallery({len(self.items)} pictures)"

    def show(
        self,
        images: Float[Tensor, "n 3 h w"],
        ids: Sequence[int],
        labels: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
        colors: Sequence[str] | None = None,
        picked: int | None = None,
    ) -> None:
        """Show images under the numbers `ids`, framed in `colors` or in those of these views.

        `picked` selects one; None keeps what was, if it is still there.
        """
        items = [
            {
                "id": int(number),
                "src": data_uri(image),
                "color": colors[i] if colors else css(number),
                "label": labels[i] if labels else str(number),
                "title": titles[i] if titles else f"view {number}",
            }
            for i, (image, number) in enumerate(zip(images, ids, strict=True))
        ]
        with self.hold_sync():
            self.items = items
            held = self.picked if self.picked in ids else -1
            self.picked = held if picked is None else picked


class Screen(anywidget.AnyWidget):
    """One picture with a caption. Clicked on, it listens to the keys of `listens`: `pressed` is the last one and
    how many there were, so that a key pressed twice is noticed twice."""

    _esm, _css = SCREEN, SCREEN_CSS
    src = traitlets.Unicode().tag(sync=True)
    caption = traitlets.Unicode().tag(sync=True)
    width = traitlets.Int(400).tag(sync=True)
    crisp = traitlets.Bool(False, help="whether pixels stay squares").tag(sync=True)
    listens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    pressed = traitlets.List(["", 0]).tag(sync=True)

    def __repr__(self) -> str:
        return f"Screen({self.caption!r})"

    def show(self, image: Float[Tensor, "3 h w"], caption: str | None = None) -> None:
        with self.hold_sync():
            self.src = data_uri(image)
            if caption is not None:
                self.caption = caption


def data_uri(image: Float[Tensor, "3 h w"]) -> str:
    """An image as a JPEG within its own address."""
    pixels = (255 * image.detach().cpu().clamp(0, 1)).round().to(torch.uint8)
    rows = pixels.permute(1, 2, 0).contiguous()  # in the order in which Pillow wants them
    jpeg = io.BytesIO()
    Image.fromarray(rows.numpy()).save(jpeg, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
