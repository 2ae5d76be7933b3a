"""Gallery and Screen: images that can be clicked on, and one that listens to keys.

ipywidgets has neither, so these two are anywidgets: a few lines of JavaScript that show the traits
and write back which image was clicked on or which key was pressed. The browser holds no state.
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

from vmemkit.figures import view_hex

KEYS_ROOT = "vmemkit-keys"  # class of the widget within which a screen's keys work
# Classes for narrow pages: a widget whose controls grow to the size of a finger; a row whose parts
# stand below each other there, in the order of FIRST, SECOND, the others and LAST; and a part that
# gives up its own box, so that this order holds for what is in it.
TOUCH, COLUMN, OPEN = "vmemkit-touch", "vmemkit-column", "vmemkit-open"
FIRST, SECOND, LAST = "vmemkit-first", "vmemkit-second", "vmemkit-last"
QUALITY = 88  # of JPEG, up to 100; the images are small

GALLERY = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "vmemkit-gallery";
  for (const name of ["wraps", "cards"]) box.classList.toggle(name, model.get(name));
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
      const [first, ...others] = item.label.split("\\n");
      const name = document.createElement("b");
      name.textContent = first;
      if (model.get("cards")) label.append(name, "\\n" + others.join("\\n"));
      else label.textContent = item.label;
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
.vmemkit-gallery.wraps { flex-wrap: wrap; overflow-x: visible; }
.vmemkit-gallery button { border: 3px solid; padding: 0; background: none; cursor: pointer;
  position: relative; flex: none; line-height: 0; }
.vmemkit-gallery button[aria-pressed=true] { outline: 3px solid var(--jp-ui-font-color0, #22262b); }
.vmemkit-gallery span { position: absolute; left: 0; bottom: 0; background: rgba(255,255,255,.85);
  color: #22262b; font: 11px/14px sans-serif; padding: 0 4px; white-space: pre-line;
  text-align: left; }
.vmemkit-gallery.cards { gap: 12px; }
.vmemkit-gallery.cards button { border: 1px solid var(--jp-border-color2, #e0e0e0) !important;
  border-radius: 4px; overflow: hidden; display: flex; flex-direction: column;
  justify-content: flex-start; }
.vmemkit-gallery.cards button:hover { border-color: var(--jp-brand-color1, #1976d2) !important; }
.vmemkit-gallery.cards span { position: static; display: block; padding: 6px 8px; width: 0;
  min-width: calc(100% - 16px); background: none; color: var(--jp-ui-font-color1, #22262b);
  font: 12px/17px var(--jp-ui-font-family, sans-serif); overflow-wrap: anywhere; }
"""

SCREEN = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "vmemkit-screen";
  const image = document.createElement("img"), words = document.createElement("div");
  box.append(image, words);
  el.appendChild(box);
  const draw = () => {
    image.src = model.get("src");
    image.hidden = !model.get("src");
    image.alt = model.get("caption");
    image.style.width = model.get("width") + "px";
    image.style.imageRendering = model.get("crisp") ? "pixelated" : "auto";
    words.textContent = model.get("caption");
  };
  for (const name of ["src", "caption", "width", "crisp"]) model.on("change:" + name, draw);
  const typed = "input, select, textarea, [role=slider], circle, [contenteditable=true]";
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(typed)) return;
    if (!model.get("listens").includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat && model.get("busy")) return;
    model.set("pressed", [event.key, model.get("pressed")[1] + 1, event.repeat]);
    model.save_changes();
  };
  const release = () => {  // a held key that has not been sent yet is taken back
    if (!model.get("pressed")[2]) return;
    model.set("pressed", ["", model.get("pressed")[1] + 1, false]);
    model.save_changes();
  };
  // A mouse leaves the focus on buttons, where keys would be lost. Those who use Tab stay there.
  const focus = (event) => {
    if (event.detail && event.target.closest("button, canvas"))
      box.focus({ preventScroll: true });
  };
  let root = null;
  const settle = new ResizeObserver(() => {  // called when the screen comes onto the page
    if (root || !box.isConnected || !model.get("listens").length) return;
    root = box.closest(".vmemkit-keys") || box;
    box.tabIndex = 0;
    root.dataset.lmSuppressShortcuts = "true";  // JupyterLab edits cells at single letters
    root.addEventListener("keydown", press);
    root.addEventListener("keyup", release);
    root.addEventListener("click", focus);
  });
  settle.observe(box);
  draw();
  return () => {
    settle.disconnect();
    root?.removeEventListener("keydown", press);
    root?.removeEventListener("keyup", release);
    root?.removeEventListener("click", focus);
  };
}
export default { render };
"""

SCREEN_CSS = """
.vmemkit-screen { display: inline-block; border: 3px solid transparent; max-width: 100%; }
.vmemkit-screen:focus { border-color: #339cff; outline: none; }
.vmemkit-screen img { display: block; max-width: 100%; }
.vmemkit-screen img[hidden] { display: none; }
.vmemkit-screen div { font: 12px/18px sans-serif; min-height: 18px; }
.vmemkit-scene canvas { max-width: 100%; height: auto !important; }
@media (max-width: 600px) {
  .vmemkit-touch { --jp-widgets-inline-height: 44px; --jp-widgets-font-size: 13px; }
  .vmemkit-touch .widget-html-content { line-height: 1.5 !important; }
  .vmemkit-touch .vmemkit-screen, .vmemkit-touch .vmemkit-screen img { width: 100% !important;
    box-sizing: border-box; }
  .vmemkit-touch .widget-slider, .vmemkit-touch .widget-dropdown { width: calc(100% - 4px) !important; }
  .vmemkit-touch .slider-container { margin-left: 16px; }
  .vmemkit-touch .noUi-handle { width: 28px !important; height: 28px !important;
    top: -12px !important; right: -14px !important; border-radius: 14px !important; }
  .vmemkit-touch .vmemkit-column { flex-flow: column nowrap !important; align-items: stretch; }
  .vmemkit-touch .vmemkit-column > * { width: 100% !important; }
  .vmemkit-column .vmemkit-open.vmemkit-open.vmemkit-open { display: contents; }
  .vmemkit-column .vmemkit-first { order: -2; }
  .vmemkit-column .vmemkit-second { order: -1; }
  .vmemkit-column .vmemkit-last { order: 1; }
}
"""


class Gallery(anywidget.AnyWidget):
    """A row of framed images; `picked` is the id of the one clicked on, -1 = none."""

    _esm, _css = GALLERY, GALLERY_CSS
    items = traitlets.List(traitlets.Dict()).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True)
    height = traitlets.Int(72).tag(sync=True)
    wraps = traitlets.Bool(False, help="go on below, instead of scrolling").tag(sync=True)
    cards = traitlets.Bool(False, help="labels stand below the images").tag(sync=True)

    def __repr__(self) -> str:
        return f"Gallery({len(self.items)} images)"

    def show(
        self,
        images: Float[Tensor, "n 3 h w"],
        ids: Sequence[int],
        labels: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
        colors: Sequence[str] | None = None,
        picked: int | None = None,
    ) -> None:
        """Show images with the numbers `ids`, framed in `colors`, by default those of these views.

        `picked` selects one; None keeps the selected one if it is among them.
        """
        items = [
            {
                "id": int(number),
                "src": data_uri(image),
                "color": colors[i] if colors else view_hex(number),
                "label": labels[i] if labels else str(number),
                "title": titles[i] if titles else f"view {number}",
            }
            for i, (image, number) in enumerate(zip(images, ids, strict=True))
        ]
        with self.hold_sync():
            self.items = items
            if picked is None:
                picked = self.picked if self.picked in ids else -1
            self.picked = picked


class Screen(anywidget.AnyWidget):
    """One image with a caption. It reports the keys of `listens` that are pressed within the widget
    of class KEYS_ROOT around it, by default on itself. `pressed` is the last key, a count, so that
    the same key pressed twice is noticed twice, and whether the key was held."""

    _esm, _css = SCREEN, SCREEN_CSS
    src = traitlets.Unicode().tag(sync=True)
    caption = traitlets.Unicode().tag(sync=True)
    width = traitlets.Int(400).tag(sync=True)
    crisp = traitlets.Bool(False, help="whether pixels stay sharp squares").tag(sync=True)
    busy = traitlets.Bool(False, help="whether held keys are ignored").tag(sync=True)
    listens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    pressed = traitlets.List(["", 0, False]).tag(sync=True)

    def __repr__(self) -> str:
        return f"Screen({self.caption!r})"

    def clear(self) -> None:
        """Show nothing."""
        with self.hold_sync():
            self.src = self.caption = ""

    def show(self, image: Float[Tensor, "3 h w"], caption: str | None = None) -> None:
        with self.hold_sync():
            self.src = data_uri(image)
            if caption is not None:
                self.caption = caption


def data_uri(image: Float[Tensor, "3 h w"]) -> str:
    """An image as a data address that contains it as JPEG."""
    pixels = (255 * image.detach().cpu().clamp(0, 1)).round().to(torch.uint8)
    jpeg = io.BytesIO()
    drawn = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    drawn.save(jpeg, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
