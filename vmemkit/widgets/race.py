"""PolicyRace: the same walk under several policies at once, scored while they walk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

import ipywidgets
import torch

from vmemkit.evaluation import coverage, psnr
from vmemkit.figures import INK, POLICY_COLORS, coverage_curves
from vmemkit.generation import Generator
from vmemkit.memory import begin
from vmemkit.pipeline import Step, walk
from vmemkit.retrieval import POLICIES
from vmemkit.scenes import Scene, Tour
from vmemkit.widgets.gallery import Gallery
from vmemkit.widgets.parts import BUTTON, Message, Worker

RACERS = ("coverage", "surfel_votes", "fov_overlap", "temporal")

COVERAGE_ROWS = 24  # of the grid of points on which coverage is judged

CHART = 520  # pixels: width of a chart


class PolicyRace(ipywidgets.VBox):
    """Policies that walk the same tour, step by step in turns: the coverage of each step's context,
    relative to the best choice, and the likeness of revisits to the first visit, as they come.

    `start` and `cancel` are buttons, `racers` chooses the policies; `value` maps each policy to its
    steps, `coverage` and `returns` (dB) to what is drawn. The walk runs beside the page; `wait()`
    blocks until it has ended.
    """

    def __init__(
        self,
        scene: Scene,
        tour: Tour,
        policies: Sequence[str] = RACERS,
        generator: Generator | None = None,
        k: int = 4,
        m: int = 4,
        size: tuple[int, int] = (72, 96),
    ) -> None:
        """Errors: ValueError for unknown policies, or none."""
        unknown = [name for name in policies if name not in POLICIES]
        if unknown or not policies:
            raise ValueError(f"unknown policies {unknown}: choose some of {', '.join(POLICIES)}")
        self.scene, self.tour, self._how = scene, tour, (generator, k, m, size)
        self.value: dict[str, list[Step]] = {}
        self.coverage: dict[str, list[float]] = {}
        self.returns: dict[str, list[float]] = {}
        self.racers = ipywidgets.SelectMultiple(
            options=list(POLICIES), value=list(policies), rows=len(POLICIES), description="policies"
        )
        self.start = ipywidgets.Button(description="start", button_style="primary", layout=BUTTON)
        self.cancel = ipywidgets.Button(description="cancel", disabled=True, layout=BUTTON)
        self.progress = ipywidgets.IntProgress(0, 0, len(tour.cameras), description="views")
        self.message, self.latest = Message(), Gallery(height=90)
        self.charts = [
            ipywidgets.Image(format="jpeg", layout={"display": "none"}) for _ in range(2)
        ]
        self._worker = Worker(self._stepped, self._ended)
        self.start.on_click(lambda button: self.run())
        self.cancel.on_click(lambda button: self._worker.cancel())
        self.wait = self._worker.wait
        buttons = ipywidgets.VBox([self.start, self.cancel, self.progress, self.message])
        above = ipywidgets.HBox([self.racers, buttons])
        super().__init__([above, self.latest, ipywidgets.HBox(self.charts)])

    def __repr__(self) -> str:
        return f"PolicyRace({', '.join(self.racers.value)}: {self.tour})"

    def run(self) -> None:
        """Start the race from the beginning. The walk goes on beside the page."""
        if self._worker.busy or not self.racers.value:
            self.message.warn("choose a policy" if not self._worker.busy else "a race is running")
            return
        names = list(self.racers.value)
        self.value, self.coverage, self.returns = ({name: [] for name in names} for _ in range(3))
        self.start.disabled, self.cancel.disabled = True, False
        self.progress.value = 0
        self.message.say("racing")
        self._worker.start(self._race(names))

    def _race(self, names: list[str]) -> Iterator[str]:
        """The name of each policy after each of its steps."""
        generator, k, m, size = self._how
        memory = begin(self.scene.render(self.tour.given, *size))
        walks = {
            name: walk(memory, self.tour.cameras, generator, policy=name, k=k, m=m)
            for name in names
        }
        for _ in range(0, len(self.tour.cameras), m):
            for name, steps in walks.items():
                step = next(steps)
                chosen = step.retrieval.chosen
                [(_, ratio)] = coverage(
                    self.scene, step.before, step.targets, [chosen], len(chosen), COVERAGE_ROWS
                )
                self.value[name].append(step)
                self.coverage[name].append(ratio)
                self.returns[name] += self._likeness(name)
                yield name

    def _likeness(self, name: str) -> list[float]:
        """PSNR of the last step's revisits against the first visit."""
        images = [image for step in self.value[name] for image in step.views.image]
        new = range(len(images) - len(self.value[name][-1].targets), len(images))
        pairs = [(i, int(self.tour.twin[i])) for i in new]
        return [psnr(images[i], images[j]) for i, j in pairs if j >= 0]

    def _stepped(self, name: str) -> None:
        """Redraw after a round."""
        if name != list(self.value)[-1]:
            return
        views = sum(len(step.targets) for step in self.value[name])
        self.progress.value = views
        last = [steps[-1].views.image[-1] for steps in self.value.values()]
        names = list(self.value)
        colors = [POLICY_COLORS.get(name, INK) for name in names]
        self.latest.show(torch.stack(last), range(len(last)), names, names, colors)
        self._draw()

    def _draw(self) -> None:
        curves = [
            (self.coverage, "coverage, of the best choice's", "step"),
            (self.returns, "return PSNR, dB", "revisit"),
        ]
        for image, (values, y, x) in zip(self.charts, curves, strict=True):
            if any(values.values()):
                image.value = coverage_curves(values, y=y, x=x).still()._repr_jpeg_()
                image.layout = {"width": f"{CHART}px"}

    def _ended(self, error: BaseException | None) -> None:
        self.start.disabled, self.cancel.disabled = False, True
        if error is not None:
            self.message.warn(f"The race stopped: {error}")
            return
        means = {name: mean(values) for name, values in self.coverage.items() if values}
        leader = max(means, key=means.get) if means else "nobody"
        said = "cancelled; so far" if self._worker.cancelled else "finished:"
        self.message.say(f"{said} {leader} is ahead" if means else said)
