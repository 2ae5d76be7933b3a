"""MemoryViewer: the memory in 3-D, as it was after any of its views."""

from __future__ import annotations

import ipywidgets

from vmemkit.figures import MODES, OF_RETRIEVAL, SIZE, Scene3D
from vmemkit.memory import Memory
from vmemkit.widgets.gallery import Gallery, Screen
from vmemkit.widgets.parts import DESCRIPTION

PANEL = 320  # pixels: width of the selected view's panel


class MemoryViewer(ipywidgets.VBox):
    """Turn the memory, go back in time, and ask who saw what.

    `time` is a slider over the number of views, `color` the colour mode; `scene` and `gallery` tell
    each other which view is selected, and `panel` shows it. `value` is the memory as shown.
    """

    def __init__(self, memory: Memory, color: str = "image", size: tuple[int, int] = SIZE) -> None:
        """Errors: ValueError for a memory without views, and an unknown colour mode."""
        if len(memory) == 0:
            raise ValueError("the memory is empty: write a view first, e.g. vmemkit.begin(views)")
        self.memory, t = memory, len(memory)
        self.scene = Scene3D(memory, color, size=size)
        wide = ipywidgets.Layout(width="420px")
        self.time = ipywidgets.IntSlider(
            t, 1, t, description="views in memory", style=DESCRIPTION, layout=wide
        )
        self.play = ipywidgets.Play(t, 1, t, interval=300)
        modes = [mode for mode in MODES if mode not in OF_RETRIEVAL]
        self.color = ipywidgets.Dropdown(options=modes, value=color, description="colour")
        self.gallery, self.panel = Gallery(height=54), Screen(width=PANEL)
        ipywidgets.link((self.play, "value"), (self.time, "value"))
        self.time.observe(self._travel, "value")
        self.color.observe(self._recolor, "value")
        self.scene.observe(self._picked, ["picked_view", "picked_surfel"])
        self.gallery.observe(self._chosen, "picked")
        kinds = ["given" if given else "generated" for given in memory.views.given.tolist()]
        titles = [f"view {i}, {kind}" for i, kind in enumerate(kinds)]
        self.gallery.show(memory.views.image, range(t), titles=titles)
        self._show_panel(-1)
        above = ipywidgets.HBox([self.play, self.time, self.color])
        side = ipywidgets.VBox([self.panel])
        super().__init__([above, ipywidgets.HBox([self.scene, side]), self.gallery])

    def __repr__(self) -> str:
        return f"MemoryViewer({len(self.memory)} views)"

    @property
    def value(self) -> Memory:
        """The memory as shown."""
        return self.scene.memory

    def _travel(self, change: dict) -> None:
        self.scene.update(memory=self.memory.truncate(change["new"]))
        self.scene.pick(self.scene.picked_surfel, self.scene.picked_view)  # by those who saw it yet
        self._picked(change)

    def _recolor(self, change: dict) -> None:
        """Another colour mode, of all surfels: what was picked is let go."""
        self.scene.pick()
        self.scene.update(color=change["new"])

    def _chosen(self, change: dict) -> None:
        if change["new"] != self.scene.picked_view:
            if change["new"] >= len(self.value):
                self.time.value = change["new"] + 1
            self.scene.pick(view=change["new"])

    def _picked(self, change: dict) -> None:
        self.gallery.picked = self.scene.picked_view
        saw = self.scene.lit or ()
        self._show_panel(
            saw[0] if saw and self.scene.picked_surfel >= 0 else self.scene.picked_view
        )

    def _show_panel(self, view: int) -> None:
        shown = len(self.value) - 1 if view < 0 else view
        what = "the latest view" if view < 0 else "selected"
        if self.scene.picked_surfel >= 0:
            what = "the first to see the surfel"
        self.panel.show(self.memory.views.image[shown], f"view {shown}, {what}")
