"""MemoryViewer: the memory in 3-D, as it was after any of its views."""

from __future__ import annotations

import ipywidgets

from vmemkit.figures import APPEARANCES, COLOR_MODES, RETRIEVAL_MODES, SIZE, Scene3D
from vmemkit.memory import Memory
from vmemkit.widgets.gallery import Gallery, Screen
from vmemkit.widgets.parts import FIXED, WRAPPED, menu, slider

PANEL = 256  # width of the selected view's image, pixels


class MemoryViewer(ipywidgets.VBox):
    """Turn the memory, go back in time, and ask who saw what.

    `time` is a slider over the number of views, `color` the colour mode; `invented` shows, fades or
    hides surfels that lie where no given view looks. A view that is selected in
    the `scene` or in the `gallery` is selected in both, and `panel` shows it. `value` is the memory
    that is shown.
    """

    def __init__(self, memory: Memory, color: str = "image", size: tuple[int, int] = SIZE) -> None:
        """Errors: ValueError for a memory without views, and an unknown colour mode."""
        if len(memory) == 0:
            raise ValueError("the memory is empty: write a view first, e.g. vmemkit.begin(views)")
        self.memory, t = memory, len(memory)
        self.scene = Scene3D(memory, color, size=size)
        self.time = slider("views in memory", t, 1, t, width="420px")
        self.play = ipywidgets.Play(t, 1, t, interval=300)
        modes = [mode for mode in COLOR_MODES if mode not in RETRIEVAL_MODES]
        self.color = menu("colour", modes, color, width="220px")
        self.invented = menu("invented surfels", APPEARANCES, width="220px")
        self.gallery, self.panel = Gallery(height=54), Screen(width=PANEL)
        ipywidgets.link((self.play, "value"), (self.time, "value"))
        self.time.observe(self._travel, "value")
        self.color.observe(self._recolor, "value")
        self.invented.observe(self._fade, "value")
        self.scene.observe(self._picked, ["picked_view", "picked_surfel"])
        self.gallery.observe(self._chosen, "picked")
        kinds = ["given" if given else "generated" for given in memory.views.given.tolist()]
        titles = [f"view {i}, {kind}" for i, kind in enumerate(kinds)]
        self.gallery.show(memory.views.image, range(t), titles=titles)
        self._show_panel()
        above = ipywidgets.HBox([self.play, self.time, self.color, self.invented], layout=WRAPPED)
        panel = ipywidgets.VBox([self.panel], layout={"flex": FIXED})
        beside = ipywidgets.HBox([self.scene, panel], layout=WRAPPED)
        super().__init__([above, beside, self.gallery])

    def __repr__(self) -> str:
        return f"MemoryViewer({len(self.memory)} views)"

    @property
    def value(self) -> Memory:
        """The memory that is shown."""
        return self.scene.memory

    def _travel(self, change: dict) -> None:
        self.scene.update(memory=self.memory.truncate(change["new"]))
        # Picks again, so that only the views of that time are lit.
        self.scene.pick(self.scene.picked_surfel, self.scene.picked_view)
        self._picked(change)

    def _recolor(self, change: dict) -> None:
        """Show another colour mode, which is about all surfels, so nothing stays picked."""
        self.scene.pick()
        self.scene.update(color=change["new"])

    def _fade(self, change: dict) -> None:
        self.scene.update(invented=change["new"])

    def _chosen(self, change: dict) -> None:
        if change["new"] != self.scene.picked_view:
            if change["new"] >= len(self.value):
                self.time.value = change["new"] + 1
            self.scene.pick(view=change["new"])

    def _picked(self, change: dict) -> None:
        self.gallery.picked = self.scene.picked_view
        self._show_panel()

    def _show_panel(self) -> None:
        view, what = len(self.value) - 1, "the latest view"
        if self.scene.picked_surfel >= 0 and self.scene.lit:
            view, what = self.scene.lit[0], "the first to see the surfel"
        elif self.scene.picked_view >= 0:
            view, what = self.scene.picked_view, "selected"
        self.panel.show(self.memory.views.image[view], f"view {view}, {what}")
