"""Parts of the Explorer: what to start from, how to step, and the branches of a journey."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import torch

from vmemkit.core import load_depth, load_image
from vmemkit.figures import MODES
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import FOV, KINDS, VERBS, Beginning, from_image
from vmemkit.widgets.gallery import Gallery
from vmemkit.widgets.journeys import Journey
from vmemkit.widgets.parts import BUTTON, DESCRIPTION

METRES, DEGREES = 0.4, 20.0  # of a press, at first

SOME = {"layout": ipywidgets.Layout(width="290px"), "style": DESCRIPTION}

STRIP = 54  # pixels: height of a branch's pictures


class OwnImage(ipywidgets.HBox):
    """An image of one's own, what it is, and its depth where there is one."""

    def __init__(self) -> None:
        self.image = ipywidgets.FileUpload(accept="image/*", description="image")
        self.depth = ipywidgets.FileUpload(accept=".png,.npy,.npz", description="depth")
        self.kind = ipywidgets.Dropdown(
            options=KINDS, value=KINDS[2], description="it is a", **SOME
        )
        self.fov = ipywidgets.BoundedFloatText(
            FOV, min=10.0, max=150.0, description="field of view (degrees)", **SOME
        )
        self.start = ipywidgets.Button(description="start from it", layout=BUTTON)
        super().__init__([self.image, self.depth, self.kind, self.fov, self.start])

    def beginning(self, height: int) -> Beginning:
        """Where a journey into the image starts. Errors: ValueError without an image, and as
        `explore.from_image` and the loaders."""
        if not self.image.value:
            raise ValueError("no image was chosen: press 'image' and choose a file first")
        with tempfile.TemporaryDirectory() as folder:
            image, depth = load_image(_stored(self.image.value[0], folder)), None
            if self.depth.value and self.kind.value == KINDS[0]:
                depth = load_depth(_stored(self.depth.value[0], folder))
        return from_image(image, self.kind.value, height, depth, self.fov.value)


class Settings(ipywidgets.HBox):
    """How far a press goes, how many views it makes, and how their context is chosen."""

    def __init__(self, policy: str, k: int) -> None:
        self.metres = ipywidgets.FloatSlider(
            METRES, min=0.05, max=2.0, step=0.05, description="metres a step", **SOME
        )
        self.degrees = ipywidgets.FloatSlider(
            DEGREES, min=1.0, max=90.0, step=1.0, description="degrees a step", **SOME
        )
        self.views = ipywidgets.IntSlider(2, 1, 8, description="views a step", **SOME)
        self.policy = ipywidgets.Dropdown(
            options=list(POLICIES), value=policy, description="policy", **SOME
        )
        self.k = ipywidgets.IntSlider(k, 1, max(8, k), description="K views", **SOME)
        self.color = ipywidgets.Dropdown(options=list(MODES), description="3-D colour", **SOME)
        self.truth = ipywidgets.Checkbox(False, description="show the truth", indent=False)
        left = ipywidgets.VBox([self.metres, self.degrees, self.views])
        super().__init__([left, ipywidgets.VBox([self.policy, self.k, self.color]), self.truth])

    def amount(self, verb: str) -> float:
        """Metres or degrees of a press."""
        return self.metres.value if VERBS.get(verb, ("move",))[0] == "move" else self.degrees.value


class Branches(ipywidgets.VBox):
    """Where a journey has branches, each one's steps after it leaves the way to here."""

    def show(self, journey: Journey, go: Callable[[int], None]) -> None:
        """`go` is called with the end of the branch that was asked for."""
        leaves = journey.leaves()
        rows = [self._row(journey, i, leaf, go) for i, leaf in enumerate(leaves)]
        self.children = rows if len(leaves) > 1 else []

    @staticmethod
    def _row(
        journey: Journey, number: int, leaf: int, go: Callable[[int], None]
    ) -> ipywidgets.VBox:
        way, fork = journey.way(leaf), journey.fork_of(leaf)
        nodes = [journey.nodes[i] for i in way if i > fork] or [journey.nodes[leaf]]
        where = "you are here" if journey.at in way else "another branch"
        policy = nodes[-1].step.retrieval.policy
        title = ipywidgets.HTML(f"<b>branch {number}</b>, {policy}, {len(way)} steps: {where}")
        button = ipywidgets.Button(description="go there", layout=BUTTON)
        button.on_click(lambda pressed: go(leaf))
        strip = Gallery(height=STRIP)
        images = torch.cat([node.step.views.image[-1:] for node in nodes])
        views = [len(node.step.memory) - 1 for node in nodes]
        strip.show(images, views, [node.label for node in nodes])
        return ipywidgets.VBox([ipywidgets.HBox([button, title]), strip])


def _stored(upload: dict, folder: str) -> Path:
    """An uploaded file on disk, under a name that keeps its format."""
    file = Path(folder) / f"upload{Path(upload['name']).suffix}"
    file.write_bytes(bytes(upload["content"]))
    return file
