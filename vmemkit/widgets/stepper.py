"""StepThrough: the pipeline one stage at a time, with what goes into each and what comes out."""

from __future__ import annotations

import html
from collections.abc import Iterator

import ipywidgets
import torch

from vmemkit.core import Cameras, check_cameras
from vmemkit.figures import (
    DARK,
    depth_images,
    look,
    paint,
    recall,
    share_labels,
    surfel_colors,
    vote_map,
)
from vmemkit.generation import Generator, Warp
from vmemkit.memory import Memory
from vmemkit.pipeline import STAGES, Stage, Step, stages, step_rng
from vmemkit.reconstruction import Reconstruction, Reconstructor, from_depth
from vmemkit.retrieval import Policy, find_policy, with_config
from vmemkit.widgets.gallery import COLUMN, TOUCH, Gallery, Screen
from vmemkit.widgets.parts import FIXED, WRAPPED, Message, button, classed, mosaic, words_of

OLD = 0.4  # brightness of surfels that are older than the step
SCREEN = 218  # width of a stage's images, pixels

PLANS = {  # what each stage will do
    "retrieve": "read the memory from the targets, let the surfels vote, choose views",
    "generate": "make the targets' views from the chosen ones",
    "reconstruct": "find the depth of the new views",
    "write": "turn new pixels into surfels, tie them to the old ones",
}


class StepThrough(ipywidgets.VBox):
    """A walk, one stage per press. `next` runs one stage, `whole` the rest of the step, `again`
    restarts the step, `undo` takes one back. `value` holds the finished steps. `StepThrough.of(step)`
    shows a step that was taken.

    Errors are shown and nothing is lost: the step can be taken again.
    """

    def __init__(
        self,
        memory: Memory,
        trajectory: Cameras,
        generator: Generator | None = None,
        reconstructor: Reconstructor = from_depth,
        policy: str | Policy = "coverage",
        k: int = 4,
        m: int = 4,
        seed: int = 0,
    ) -> None:
        """Steps of m targets along `trajectory` (n,), as `vmemkit.walk` takes them.

        Errors: ValueError for an empty memory or a bad trajectory.
        """
        if len(memory) == 0 or trajectory.world_from_cam.ndim != 3 or len(trajectory) == 0 or m < 1:
            raise ValueError(
                "need a memory with views, a trajectory (n,) and m >= 1, "
                f"got {memory}, {trajectory}, {m}"
            )
        self.start, self.trajectory, self.m = memory, check_cameras(trajectory), m
        self._generator, self._reconstructor = generator or Warp(), reconstructor
        self._policy = with_config(find_policy(policy), blind="nearest")
        self._k, self.seed = k, seed
        self._taken: Step | None = None  # the step that is shown again, instead of taking one
        self.value: list[Step] = []
        self.next = button("", self.press, button_style="primary")
        self.whole = button("the rest of the step", self.finish)
        self.again = button("this step again", self.restart)
        self.undo = button("undo", self.forget)
        self.where, self.message = ipywidgets.HTML(), Message()
        self.panels = {name: _Panel(name) for name in STAGES}
        row = ipywidgets.HBox(
            [self.next, self.whole, self.again, self.undo, self.where], layout=WRAPPED
        )
        stages_row = ipywidgets.HBox(list(self.panels.values()), layout=WRAPPED)
        super().__init__([row, self.message, classed(stages_row, COLUMN)])
        self.add_class(TOUCH)
        self.restart()

    @classmethod
    def of(cls, step: Step) -> StepThrough:
        """A step that was taken, stage by stage, as it was; nothing is computed again."""
        made = cls(step.before, step.targets, m=len(step.targets))
        made._taken = step
        made.restart()
        return made

    def __repr__(self) -> str:
        return f"StepThrough({len(self.start)} views, {len(self.trajectory)} cameras)"

    @property
    def memory(self) -> Memory:
        """The memory after the last finished step."""
        return self.value[-1].memory if self.value else self.start

    @property
    def targets(self) -> Cameras:
        """The targets (m,) of the current step; none at the walk's end."""
        at = sum(len(step.targets) for step in self.value)
        return self.trajectory[at : at + self.m]

    def restart(self) -> None:
        """Begin the current step again."""
        self.message.say("")
        self._done: list[Stage] = []
        self._stages: Iterator[Stage] = iter(())
        for panel in self.panels.values():
            panel.clear()
        if len(self.targets):
            self._stages = self._run() if self._taken is None else _stages_of(self._taken)
            images = recall(self.memory, self.targets)
            caption = "the targets, as the memory recalls them"
            self.panels["retrieve"].show_input(mosaic(images), caption)
        self._label_buttons()

    def _run(self) -> Iterator[Stage]:
        return stages(
            self.memory,
            self.targets,
            generator=self._generator,
            reconstructor=self._reconstructor,
            policy=self._policy,
            k=self._k,
            rng=step_rng(self.memory, self.seed),
        )

    def press(self) -> bool:
        """Run one stage; after the last one, begin the next step. Returns whether that worked."""
        if self._finished:
            self.value.append(self._done[-1].step)
            self.restart()
            return True
        try:
            stage = next(self._stages, None)
        except Exception as error:  # of a policy or a generator that anybody may have written
            self.message.warn(
                f"{words_of(error)}. Nothing was remembered: press 'this step again'."
            )
            return False
        if stage is None:
            return False
        self.message.say("")
        self._done.append(stage)
        self._show(stage)
        self._label_buttons()
        return True

    def finish(self) -> None:
        """Run the rest of the current step."""
        while not self._finished and self.press():
            pass

    def forget(self) -> None:
        """Undo the current step, or the last finished one if the current has not begun."""
        if not self._done and self.value:
            self.value.pop()
        self.restart()

    @property
    def _finished(self) -> bool:
        return bool(self._done) and self._done[-1].step is not None

    def _label_buttons(self) -> None:
        ended = len(self.targets) == 0
        following = {
            "": "run: retrieve",
            "retrieve": "run: generate",
            "generate": "run: generate on, or reconstruct",
            "reconstruct": "run: write",
            "write": "to the next step",
        }
        last = self._done[-1].name if self._done else ""
        words = "the end" if ended else following[last]
        if self._taken is not None:
            words = words.replace("run:", "show:")
        self.next.description, self.next.disabled = words, ended
        self.whole.disabled = ended or self._finished
        self.undo.disabled = not (self.value or self._done)
        first = len(self.memory)
        views = f"views {first} to {first + len(self.targets) - 1}"
        where = "the walk has ended" if ended else f"step {len(self.value)}: {views}"
        memory = self._done[-1].made if self._finished else self.memory
        self.where.value = f"&nbsp; {where} &nbsp;·&nbsp; {memory}"

    def _show(self, stage: Stage) -> None:
        show = {
            "retrieve": self._show_retrieval,
            "generate": self._show_generation,
            "reconstruct": self._show_reconstruction,
            "write": self._show_memory,
        }
        show[stage.name](stage)

    def _show_retrieval(self, stage: Stage) -> None:
        panel, memory, retrieval = self.panels["retrieve"], self.memory, stage.made
        votes = mosaic(vote_map(memory, retrieval).permute(0, 3, 1, 2))
        chosen = retrieval.chosen.tolist()
        labels = share_labels(memory, retrieval, total=True)
        views = f"view{'s' * (len(chosen) > 1)} {', '.join(map(str, chosen))}"
        summary = f"{html.escape(retrieval.policy)} chose {views} ({len(memory)} in memory)"
        images = memory.views.image[retrieval.chosen]
        panel.show_output(votes, "who saw the targets", summary, stage.seconds)
        panel.gallery.show(images, chosen, labels)
        self.panels["generate"].show_input(mosaic(images), "the chosen views")

    def _show_generation(self, stage: Stage) -> None:
        state, panel = stage.made, self.panels["generate"]
        known = float((state.confidence > 0).float().mean())
        times = [done.seconds for done in self._done if done.name == "generate"]
        image, summary = mosaic(state.image), f"{known:.0%} of the pixels are made"
        panel.show_output(image, f"state {len(times)}", summary, sum(times))
        first = len(self.memory)
        panel.gallery.show(state.image, range(first, first + len(state.image)))
        self.panels["reconstruct"].show_input(image, "the new views")

    def _show_reconstruction(self, stage: Stage) -> None:
        depth = torch.nan_to_num(stage.made.views.depth)
        near, far = float(torch.where(depth > 0, depth, torch.inf).min()), float(depth.max())
        images, scale = depth_images(depth)
        image = mosaic(images)
        summary = f"depths from {near:.2f} to {far:.2f} world units"
        if warnings := {report.warning for report in stage.made.reports if report.warning}:
            summary += f"; {', '.join(sorted(warnings))}"
        panel = self.panels["reconstruct"]
        panel.show_output(image, scale, summary, stage.seconds)
        self.panels["write"].show_input(image, "the new views' depth")

    def _show_memory(self, stage: Stage) -> None:
        before, after = self.memory, stage.made
        seen = look(after, self.targets)
        colors = surfel_colors(after, "newest view")
        colors[: len(before.surfels)] *= OLD
        image = mosaic(paint(after, seen, DARK, colors))
        new = len(after.surfels) - len(before.surfels)
        by_new, pairs = after.sightings.view >= len(before), after.sightings.surfel
        again = int((by_new & (pairs < len(before.surfels))).sum())
        summary = f"{new:,} new surfels, {again:,} sightings of old ones"
        caption = "in the colour of the last view that saw it; new surfels bright, old ones dark"
        self.panels["write"].show_output(image, caption, summary, stage.seconds)


def _stages_of(step: Step) -> Iterator[Stage]:
    """The stages of a step that was taken. The time of generating is told with the first state."""
    seconds = step.seconds
    yield Stage("retrieve", step.retrieval, seconds["retrieve"])
    for number, generation in enumerate(step.generations):
        yield Stage("generate", generation, 0.0 if number else seconds["generate"])
    yield Stage("reconstruct", Reconstruction(step.views, step.reports), seconds["reconstruct"])
    yield Stage("write", step.memory, seconds["write"], step)


class _Panel(ipywidgets.VBox):
    """One stage: first its input, then its output, a summary, and its time."""

    def __init__(self, name: str) -> None:
        self.name, self.title, self.words = name, ipywidgets.HTML(), ipywidgets.HTML()
        self.screen, self.gallery = Screen(width=SCREEN, crisp=True), Gallery(height=72, wraps=True)
        layout = ipywidgets.Layout(
            width=f"{SCREEN + 24}px", flex=FIXED, padding="6px", border="2px solid #ddd"
        )
        super().__init__([self.title, self.screen, self.gallery, self.words], layout=layout)

    def clear(self) -> None:
        number = STAGES.index(self.name) + 1
        self.title.value = f"<b>{number} {self.name}</b>"
        self.words.value = f"<i>will {PLANS[self.name]}</i>"
        self.screen.clear()
        self.gallery.items, self.layout.border = [], "2px solid #ddd"

    def show_input(self, image: torch.Tensor, caption: str) -> None:
        self.screen.show(image, f"in: {caption}")
        self.layout.border = "2px solid #b9c7d6"

    def show_output(self, image: torch.Tensor, caption: str, summary: str, seconds: float) -> None:
        self.screen.show(image, f"out: {caption}")
        self.words.value = f"{summary}<br><small>{1000 * seconds:.0f} ms</small>"
        self.layout.border = "2px solid #339cff"
