"""Explorer: walk by hand through a room, a photograph or an image of one's own, and come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ipywidgets
import torch

from vmemkit.figures import OF_RETRIEVAL, Scene3D
from vmemkit.generation import Generation, Generator
from vmemkit.memory import load, save
from vmemkit.pipeline import STAGES, Stage, stages, step_rng
from vmemkit.reconstruction import Reconstructor, from_depth
from vmemkit.retrieval import POLICIES, RetrievalConfig
from vmemkit.scenes import EXAMPLES, HEIGHT, Beginning, moves
from vmemkit.widgets import journeys
from vmemkit.widgets.explorer_parts import Branches, OwnImage, Settings
from vmemkit.widgets.gallery import Gallery, Screen
from vmemkit.widgets.journeys import START, Journey
from vmemkit.widgets.parts import BUTTON, Message, Worker, heading, share_labels

SCREEN, TRUTH, SCENE = 480, 240, (640, 400)  # pixels

KEYS = {  # keys, and the verbs of `trajectory.VERBS` that they stand for
    "w": "forward",
    "ArrowUp": "forward",
    "s": "back",
    "ArrowDown": "back",
    "a": "strafe left",
    "d": "strafe right",
    "ArrowLeft": "left",
    "ArrowRight": "right",
    "r": "look up",
    "f": "look down",
}

UNDO, REDO = "u", "y"  # keys

PAD = (  # how the buttons lie: name, verb
    (("⟲ turn left", "left"), ("▲ forward", "forward"), ("turn right ⟳", "right")),
    (("◀ strafe left", "strafe left"), ("▼ back", "back"), ("strafe right ▶", "strafe right")),
    (("look up", "look up"), ("look down", "look down"), ("rise", "up"), ("sink", "down")),
)

HELP = "Click on the picture, then W A S D or arrows walk, R F look up and down, U undo, Y redo."

BUSY = "One step at a time: this one is not finished."


class Explorer(ipywidgets.VBox):
    """The memory at work: every press is a step of the walk, retrieved, generated and written.

    Press `buttons[verb]`, or keys on the `screen`. Undo, redo, or go to any earlier step in the
    `strip` and walk on from there: that starts a branch. `value` is the journey, with all that was
    ever generated. A step runs beside the page (`wait()` blocks until it has ended) and can be
    cancelled; where one fails the journey stays as it was, and `message` says why.
    """

    def __init__(
        self,
        example: str = "house, one view",
        generator: Generator | None = None,
        reconstructor: Reconstructor = from_depth,
        policy: str = "coverage",
        k: int = 4,
        height: int = HEIGHT,
        seed: int = 0,
    ) -> None:
        """Images are `height` x 4/3 `height` pixels; `seed` is the house's and the generator's.

        Errors: ValueError for an unknown example or policy.
        """
        if example not in EXAMPLES or policy not in POLICIES:
            raise ValueError(
                f"need an example ({', '.join(EXAMPLES)}) and a policy ({', '.join(POLICIES)}), got "
                f"{example!r} and {policy!r}"
            )
        self._height, self._seed, self._made_by = height, seed, (generator, reconstructor)
        self.message, self._worker = Message(), Worker(self._progressed, self._ended)
        self.wait, self._label = self._worker.wait, ""
        self._make_controls(example, Settings(policy, k))
        self.screen = Screen(width=SCREEN, listens=[*KEYS, UNDO, REDO])
        self.truth = Screen(width=TRUTH)
        self.strip, self.context, self.branches = Gallery(height=60), Gallery(height=60), Branches()
        self._place = ipywidgets.VBox()
        self._open(EXAMPLES[example](height, seed))
        self._observe()
        super().__init__(self._layout())

    def __repr__(self) -> str:
        return f"Explorer({self.example.value!r})"

    # ---- steps -----------------------------------------------------------------------------------

    def move(self, verb: str) -> None:
        """Take a step; it goes on beside the page. Errors are messages."""
        if self._refused():
            return
        journey, settings = self.value, self.settings
        amount = settings.amount(verb)
        self._label = f"{verb} {amount:g}"
        try:
            apart = amount / settings.views.value
            targets = moves(journey.camera, self._label, apart, apart)
        except ValueError as error:
            self.message.warn(str(error))
            return
        rng = step_rng(journey.memory, self._seed)
        config = RetrievalConfig(blind="nearest")
        how = (*self._made_by, settings.policy.value, settings.k.value, config, rng)
        self.progress.value, self.cancel.disabled = 0, False
        self.message.say(f"{self._label}: {STAGES[0]} …")
        self._worker.start(stages(journey.memory, targets, *how))

    def go(self, node: int) -> None:
        """Stand at a step of the journey, or at its start (-1)."""
        if not self._refused():
            self.value = self.value.go(node)
            self._redraw()

    def _refused(self) -> bool:
        """Whether a step is still running, in which case that is said."""
        if self._worker.busy:
            self.message.say(BUSY)
        return self._worker.busy

    def _progressed(self, stage: Stage) -> None:
        done = STAGES.index(stage.name) + 1
        self.progress.value = done
        if isinstance(stage.made, Generation):
            self.screen.show(stage.made.image[-1], f"generating: {self._label}")
        if stage.step is not None:
            self.value = self.value.take(stage.step, self._label)
        elif stage.name != "generate":
            self.message.say(f"{self._label}: {STAGES[done]} …")

    def _ended(self, error: BaseException | None) -> None:
        self.cancel.disabled = True
        if error is not None:
            self.message.warn(f"The step failed, and nothing was lost: {error}")
        elif self.progress.value < len(STAGES):
            self.message.say("Cancelled: nothing was remembered.")
        else:
            seconds = sum(self.value.nodes[self.value.at].step.seconds.values())
            self.message.say(f"{self._label}: {seconds:.2f} s")
        self._redraw()

    def _attempt(self, move: Callable[[Journey], Journey]) -> None:
        """Undo or redo, where there is something to."""
        if self._refused():
            return
        try:
            self.value = move(self.value)
        except ValueError as error:
            self.message.say(str(error))
            return
        self.message.say("")
        self._redraw()

    # ---- where to start, and files ---------------------------------------------------------------

    def _open(self, beginning: Beginning, journey: Journey | None = None) -> None:
        """Another journey: the scene is looked at anew."""
        self.beginning = beginning
        self.value = journeys.journey(beginning.given) if journey is None else journey
        if self._place.children:
            self.scene.pick()
            self.scene.update(memory=self.value.memory, retrieval=None, color="image")
            self.scene.look_at_all()
        else:
            self.scene = Scene3D(self.value.memory, size=SCENE)
            self.scene.observe(self._scene_picked, "picked_view")
            self._place.children = [self.scene]
        self.message.say(f"{beginning.about}. {HELP}")
        self._redraw()

    def _open_example(self, change: dict) -> None:
        if self._refused():
            return
        try:
            self._open(EXAMPLES[change["new"]](self._height, self._seed))
        except ValueError as error:
            self.message.warn(str(error))

    def start_own(self) -> None:
        """Start from the uploaded image. Errors are messages, and the journey stays."""
        if self._refused():
            return
        try:
            self._open(self.own.beginning(self._height))
        except ValueError as error:
            self.message.warn(str(error))

    def file(self, what: str) -> None:
        """ "save" or "load" the memory, or "export" the walk's video and cameras, in `folder`.

        Errors are messages, and the journey stays.
        """
        if self._refused():
            return
        folder = Path(self.folder.value).expanduser()
        try:
            if what == "save":
                save(self.value.memory, folder / "memory")
                said = f"saved {self.value.memory} in {folder / 'memory'}"
            elif what == "load":
                loaded = journeys.resumed(load(folder / "memory"))
                self._open(Beginning(loaded.start.views[:1], None, "a memory from disk"), loaded)
                said = f"loaded {self.value.memory}"
            else:
                said = "wrote " + " and ".join(map(str, journeys.export(self.value, folder)))
        except (ValueError, OSError) as error:
            self.message.warn(str(error))
            return
        self.message.say(said)

    # ---- what is shown ---------------------------------------------------------------------------

    def _redraw(self) -> None:
        journey, memory = self.value, self.value.memory
        step = None if journey.at == START else journey.nodes[journey.at].step
        image = self._first_image() if step is None else step.views.image[-1]
        kind = "where you start" if step is None else f"view {len(memory) - 1}"
        self.screen.show(image, f"{kind} · {memory}")
        self.context.items = []
        if step is not None:
            chosen = step.retrieval.chosen.tolist()
            labels = share_labels(step.before, step.retrieval)
            self.context.show(step.context.image, chosen, labels)
        retrieval = None if step is None else step.retrieval
        self.scene.update(memory=memory, retrieval=retrieval, lit=None, color=self._scene_color())
        self._redraw_strip()
        self.branches.show(journey, self.go)
        self._redraw_truth()
        self.undo.disabled = journey.at == START
        self.redo.disabled = not journey.children(journey.at)

    def _scene_color(self) -> str:
        """The chosen colour mode, where there is a retrieval for it to be about."""
        mode = self.settings.color.value
        return "image" if mode in OF_RETRIEVAL and self.value.at == START else mode

    def _first_image(self) -> torch.Tensor:
        """What is seen from where the journey starts: the view that was taken there."""
        memory = self.value.start
        away = (memory.views.cameras.world_from_cam - self.value.eye.world_from_cam).abs()
        return memory.views.image[int(away.flatten(1).amax(1).argmin())]

    def _redraw_strip(self) -> None:
        """The whole way from the start, and on along the youngest branch."""
        journey, end = self.value, self.value.at
        while journey.children(end):
            end = journey.children(end)[-1]
        images, self._owner = [journey.start.views.image], [START] * len(journey.start)
        for node in journey.way(end):
            made = journey.nodes[node].step.views.image
            images.append(made)
            self._owner += [node] * len(made)
        here = len(journey.memory)
        labels = [str(i) if i < here else f"{i} (undone)" for i in range(len(self._owner))]
        self.strip.show(torch.cat(images), range(len(self._owner)), labels, picked=here - 1)

    def _redraw_truth(self) -> None:
        self.truth.layout.display = "" if self.settings.truth.value else "none"
        if not self.settings.truth.value:
            return
        image, caption = torch.ones(3, 3, 4), "the truth is not known here"
        if self.beginning.scene is not None:
            camera = self.value.camera.map(lambda tensor: tensor[None])
            size = self.value.memory.views.image.shape[2:]
            try:
                image = self.beginning.scene.render(camera, *size).image[0]
                caption = "the truth"
            except ValueError as error:  # such as inside a wall
                caption = f"no truth here: {error}"
        self.truth.show(image, caption)

    def _scene_picked(self, change: dict) -> None:
        view = change["new"]
        if view >= 0:
            kind = "given" if self.value.memory.views.given[view] else "generated"
            self.screen.show(self.value.memory.views.image[view], f"selected: view {view}, {kind}")

    def _strip_picked(self, change: dict) -> None:
        view = change["new"]
        if 0 <= view < len(self._owner) and view != len(self.value.memory) - 1:
            self.go(self._owner[view])

    # ---- controls --------------------------------------------------------------------------------

    def _make_controls(self, example: str, settings: Settings) -> None:
        self.settings, self.own = settings, OwnImage()
        self.example = ipywidgets.Dropdown(
            options=list(EXAMPLES), value=example, description="start in"
        )
        width = ipywidgets.Layout(width="120px")
        self.buttons = {
            verb: ipywidgets.Button(description=name, layout=width)
            for row in PAD
            for name, verb in row
        }
        self.undo = ipywidgets.Button(description="undo", icon="undo", layout=BUTTON)
        self.redo = ipywidgets.Button(description="redo", icon="repeat", layout=BUTTON)
        self.cancel = ipywidgets.Button(description="cancel", disabled=True, layout=BUTTON)
        self.progress = ipywidgets.IntProgress(0, 0, len(STAGES), layout={"width": "160px"})
        self.folder = ipywidgets.Text("my_walk", description="folder")
        names = ("save", "load", "export")
        self.files = {name: ipywidgets.Button(description=name, layout=BUTTON) for name in names}

    def _observe(self) -> None:
        for verb, button in self.buttons.items():
            button.on_click(lambda pressed, verb=verb: self.move(verb))
        for what, button in self.files.items():
            button.on_click(lambda pressed, what=what: self.file(what))
        self.screen.observe(self._key, "pressed")
        self.undo.on_click(lambda pressed: self._attempt(Journey.undo))
        self.redo.on_click(lambda pressed: self._attempt(Journey.redo))
        self.cancel.on_click(lambda pressed: self._worker.cancel())
        self.example.observe(self._open_example, "value")
        self.own.start.on_click(lambda pressed: self.start_own())
        recolor = lambda change: self.scene.update(color=self._scene_color())  # noqa: E731
        self.settings.color.observe(recolor, "value")
        self.settings.truth.observe(lambda change: self._redraw_truth(), "value")
        self.strip.observe(self._strip_picked, "picked")

    def _key(self, change: dict) -> None:
        key = change["new"][0]
        if key in KEYS:
            self.move(KEYS[key])
        elif key in (UNDO, REDO):
            self._attempt(Journey.undo if key == UNDO else Journey.redo)

    def _layout(self) -> list[ipywidgets.Widget]:
        pad = [ipywidgets.HBox([self.buttons[verb] for _, verb in row]) for row in PAD]
        going = ipywidgets.HBox([self.undo, self.redo, self.cancel, self.progress])
        files = ipywidgets.HBox([self.folder, *self.files.values()])
        own = ipywidgets.Accordion(
            [self.own, files], titles=("an image of your own", "save, load, export")
        )
        left = ipywidgets.VBox([self.screen, *pad, going])
        return [
            ipywidgets.HBox([self.example, self.message]),
            ipywidgets.HBox([left, ipywidgets.VBox([self._place, self.truth])]),
            self.settings,
            heading("The context of the last step: views that were retrieved, what each explains"),
            self.context,
            heading(
                "The way so far: click on a picture to go back to its step; walk on, and it branches"
            ),
            self.strip,
            self.branches,
            own,
        ]
