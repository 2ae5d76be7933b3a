"""PolicyRace: the same walk under several policies at once, scored while they walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

import ipywidgets
import torch

from vmemkit.evaluation import coverage, share_of_best, ssim
from vmemkit.figures import INK, POLICY_COLORS, coverage_curves
from vmemkit.generation import Generator, Warp
from vmemkit.memory import begin
from vmemkit.pipeline import Step, walk
from vmemkit.retrieval import POLICIES, Policy, find_policy, render_size
from vmemkit.scenes import Scene, Tour
from vmemkit.widgets.gallery import Gallery
from vmemkit.widgets.parts import WRAPPED, Message, Worker, button, named_policies, words_of

RACERS = ("coverage", "surfel_votes", "paper", "fov_overlap", "temporal")
SIZE = (72, 96)  # height and width of the images, unless the scene is a recording
COVERAGE_ROWS = 24  # rows of the grid of points on which coverage is judged
CHART = 520  # width of a chart, pixels


class PolicyRace(ipywidgets.VBox):
    """Policies that walk the same tour, step by step in turns, scored at once: the coverage of each
    step's context relative to the best choice, and how much the new views resemble the true ones.

    `start` and `cancel` are buttons, `racers` chooses the policies. By policy, `value` has the
    steps, `coverage` the coverage of each step, and `truth` the SSIM of each view to the true one.
    The walks run in the background; `wait()` blocks until they have ended.
    """

    def __init__(
        self,
        scene: Scene,
        tour: Tour,
        policies: Sequence[str | Policy] | Mapping[str, str | Policy] = RACERS,
        generator: Generator | None = None,
        k: int = 4,
        m: int = 4,
        size: tuple[int, int] | None = None,
    ) -> None:
        """`policies` are names of POLICIES, policies, or functions, as `vmemkit.retrieve` takes them;
        a mapping gives them names. `size` is the images' (height, width): by default a recording's
        own, else 72 x 96.

        Errors: ValueError for unknown policies, or none.
        """
        if not policies:
            raise ValueError(f"a race needs policies: choose some of {', '.join(POLICIES)}")
        if isinstance(policies, Mapping):
            named = {name: find_policy(policy) for name, policy in policies.items()}
        else:
            named = named_policies(policies)
        self.policies = {**POLICIES, **named}
        self.scene, self.tour, self._generator = scene, tour, generator or Warp()
        self._k, self._m, self._size = k, m, size or render_size(scene, SIZE)
        self.value: dict[str, list[Step]] = {}
        self.coverage: dict[str, list[float]] = {}
        self.truth: dict[str, list[float]] = {}
        self.racers = ipywidgets.SelectMultiple(
            options=list(self.policies),
            value=list(named),
            rows=len(self.policies),
            description="policies",
        )
        self._worker = Worker(self._stepped, self._ended)
        self.wait = self._worker.wait
        self.start = button("start", self.run, button_style="primary")
        self.cancel = button("cancel", self._worker.cancel, disabled=True)
        self.progress = ipywidgets.IntProgress(0, 0, len(tour.cameras), description="views")
        self.message, self.latest = Message(), Gallery(height=150, wraps=True)
        self.charts = [
            ipywidgets.Image(format="jpeg", layout={"display": "none"}) for _ in range(2)
        ]
        buttons = ipywidgets.VBox([self.start, self.cancel, self.progress, self.message])
        above = ipywidgets.HBox([self.racers, buttons])
        super().__init__([above, self.latest, ipywidgets.HBox(self.charts, layout=WRAPPED)])

    def __repr__(self) -> str:
        return f"PolicyRace({', '.join(self.racers.value)}: {self.tour})"

    def run(self) -> None:
        """Start the race from the beginning, in the background."""
        if self._worker.busy or not self.racers.value:
            self.message.warn("a race is running" if self._worker.busy else "choose a policy")
            return
        names = list(self.racers.value)
        self.value = {name: [] for name in names}
        self.coverage = {name: [] for name in names}
        self.truth = {name: [] for name in names}
        self.start.disabled, self.cancel.disabled = True, False
        self.progress.value = 0
        self.message.say("racing")
        self._worker.start(self._race(names))

    def _race(self, names: list[str]) -> Iterator[str]:
        """Yields the name of a policy after each of its steps."""
        memory, path = begin(self.scene.render(self.tour.given, *self._size)), self.tour.cameras
        truth = self.scene.render(path, *self._size).image
        walks = {
            name: walk(
                memory,
                path,
                generator=self._generator,
                policy=self.policies[name],
                k=self._k,
                m=self._m,
            )
            for name in names
        }
        for at in range(0, len(path), self._m):
            for name, steps in walks.items():
                step = next(steps)
                chosen = step.retrieval.chosen
                known, k = step.before.views.cameras, len(chosen)
                [both] = coverage(self.scene, known, step.targets, [chosen], k, COVERAGE_ROWS)
                self.value[name].append(step)
                self.coverage[name].append(share_of_best(*both))
                true = truth[at : at + self._m]
                self.truth[name] += [
                    ssim(a, b) for a, b in zip(step.views.image, true, strict=True)
                ]
                yield name

    def _stepped(self, name: str) -> None:
        """Redraw after a step of the last policy, when all have taken as many."""
        names = list(self.value)
        if name != names[-1]:
            return
        self.progress.value = sum(len(step.targets) for step in self.value[name])
        images = torch.stack([steps[-1].views.image[-1] for steps in self.value.values()])
        colors = [POLICY_COLORS.get(name, INK) for name in names]
        self.latest.show(images, range(len(names)), names, names, colors)
        coverage_chart, truth_chart = self.charts
        _draw(coverage_chart, self.coverage, "coverage, of the best choice's", "step")
        _draw(truth_chart, self.truth, "SSIM to the truth", "view")

    def _ended(self, error: BaseException | None) -> None:
        self.start.disabled, self.cancel.disabled = False, True
        if error is not None:
            self.message.warn(f"The race stopped: {words_of(error)}")
            return
        means = {name: mean(values) for name, values in self.coverage.items() if values}
        leader = max(means, key=means.get, default="nobody")
        state = "cancelled; so far" if self._worker.cancelled else "finished:"
        self.message.say(f"{state} {leader} is ahead" if means else state)


def _draw(chart: ipywidgets.Image, curves: dict[str, list[float]], y: str, x: str) -> None:
    if any(curves.values()):
        chart.value = coverage_curves(curves, y=y, x=x).still()._repr_jpeg_()
        chart.layout = {"width": f"{CHART}px"}
