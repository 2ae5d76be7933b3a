"""Explorer: walk by hand through a room, a photograph or an image of your own, and come back."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import horizontal_fov, image_size, load_image, photo_fov
from vmemkit.figures import APPEARANCES, COLOR_MODES, RETRIEVAL_MODES, Scene3D, share_labels
from vmemkit.generation import Generation, Generator, Warp, Writer, WriterConfig
from vmemkit.memory import load, save
from vmemkit.pipeline import STAGES, Stage, WalkConfig, stages, step_rng
from vmemkit.reconstruction import Reconstructor, from_depth
from vmemkit.retrieval import POLICIES, Policy, with_config
from vmemkit.scenes import (
    EXAMPLES,
    KINDS,
    PHOTO_FOV,
    VERBS,
    Beginning,
    Panorama,
    Scene,
    from_image,
    load_photo_depth,
    moves,
)
from vmemkit.sessions import Described, Session
from vmemkit.widgets import journeys
from vmemkit.widgets.files import (
    HELD,
    IMAGE,
    LIMITS,
    MB,
    STEPS,
    UPLOAD,
    BrowserFiles,
    FolderFiles,
    read_upload,
    received,
    upload,
)
from vmemkit.widgets.gallery import (
    COLUMN,
    FIRST,
    KEYS_ROOT,
    LAST,
    OPEN,
    SECOND,
    TOUCH,
    Gallery,
    Screen,
)
from vmemkit.widgets.journeys import START, Journey
from vmemkit.widgets.keeper import Opened, keeper_of, read_session, slug
from vmemkit.widgets.parts import (
    ALIKE,
    DESCRIPTION,
    FIXED,
    WRAPPED,
    Message,
    Worker,
    button,
    classed,
    close_all,
    heading,
    menu,
    named_policies,
    slider,
    words_of,
)
from vmemkit.widgets.room_box import RoomBox
from vmemkit.widgets.walk_list import BLANK, WalkList
from vmemkit.widgets.walk_tree import TreePanel

HEIGHT = 240  # height of the images that are generated, pixels
SCREEN, TRUTH = 440, 240  # widths of the screen and of the truth below it, pixels
SCENE = (430, 330)  # width and height of the 3-D scene, pixels
CONTEXT, STRIP = 74, 60  # heights of images in strips, pixels
CONTROLS = "344px"  # width of the controls, which stand to the left of what they change
METRES, DEGREES = 0.4, 20.0  # length and angle of a press at first

KEYS = {  # the verbs of `scenes.VERBS` by the key that stands for them
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

UNDO, REDO = "u", "y"
TIME = {UNDO: Journey.undo, REDO: Journey.redo}  # ways in time, by their keys

PAD = (  # rows of buttons: name, verb
    (("⟲ turn left", "left"), ("▲ forward", "forward"), ("turn right ⟳", "right")),
    (("◀ strafe left", "strafe left"), ("▼ back", "back"), ("strafe right ▶", "strafe right")),
    (("look up", "look up"), ("look down", "look down"), ("rise", "up"), ("sink", "down")),
)

HELP = "Click on the picture, then W A S D or arrows walk, R F look up and down, U undo, Y redo."
OWN = "an image of your own"  # what a walk into it is called
WITH_DEPTH = "photo with depth"  # of `scenes.KINDS`
BUSY = "One step at a time: this one is not finished."
QUEUE = 2  # keys that are kept while a step is running
T = TypeVar("T")


class Explorer(ipywidgets.VBox):
    """The memory at work: every press is a step of the walk, retrieved, generated and written.

    Press `buttons[verb]`, or keys on the `screen`. Undo, redo, or go to any earlier step in the
    `strip` or the `tree`; walking on from there starts a branch. `value` is the journey, with all that
    was ever generated. A step runs in the background (`wait()` blocks until it has ended) and can be
    cancelled. If it fails, the journey stays as it was, and `message` says why. `close()` gives
    back all that the widget holds.

    The walk is kept on the disk, in a session that begins with the first step. After a restart,
    `earlier` lists what was kept, and `open_session` goes on with it.
    """

    value: Journey
    scene: Scene3D

    def __init__(
        self,
        example: str = "house, one view",
        generator: Generator | None = None,
        reconstructor: Reconstructor = from_depth,
        policy: str | Policy = "coverage",
        k: int = 4,
        height: int = HEIGHT,
        seed: int = 0,
        examples: Mapping[str, Callable[[int, int], Beginning]] = EXAMPLES,
        shared: bool = False,
        session: Session | str | os.PathLike | bool | None = True,
    ) -> None:
        """Images are `height` x 4/3 `height` pixels; `seed` is the house's and the generator's. By
        default, the generator is Warp in panoramas that were started here, and else the Writer.
        `policy` is a name of POLICIES, a policy, or a function, as `vmemkit.retrieve` takes them.
        `examples` are the places to start in, by name: functions of the height and the seed.
        `shared` is for pages that strangers visit: saving is a download, loading an upload, the disk
        is out of reach, and there are limits, which the page states.
        `session` keeps the walk: by default in a new folder in `sessions`, beside the notebook; None or
        False keeps nothing. A `vmemkit.Session` or a folder that holds a walk is opened at its head;
        walks that are started somewhere else are then kept beside it.

        Errors: ValueError for an unknown example or policy, and a folder that holds anything else.
        """
        if example not in examples:
            raise ValueError(f"need an example ({', '.join(examples)}), got {example!r}")
        self._queue: list[str] = []  # keys that wait for the end of a step
        named = named_policies([policy])
        self.policies = {**POLICIES, **named}
        self._examples, self._height, self._seed = examples, height, seed
        self._generator, self._reconstructor = generator, reconstructor
        self._worker, self._label = Worker(self._progressed, self._ended), ""
        self.wait, self.message = self._worker.wait, Message()
        self._shared = shared
        self._make_controls(example, Settings(self.policies, next(iter(named)), k))
        self.screen = Screen(width=SCREEN, listens=[*KEYS, UNDO, REDO])
        self.truth = Screen(width=TRUTH)
        self.tree = TreePanel(self.go, self.rename, self.drop, self.bring_back)
        self.earlier = WalkList(self.open_session, self.delete_session, self._show_results)
        self.strip, self.context = Gallery(height=STRIP), Gallery(height=CONTEXT)
        self._keeper, opened = keeper_of(session, shared)
        self.beginning, self._shown_example = examples[example](height, seed), example
        self.value = journeys.begin_journey(self.beginning.given, example)
        self._walk = self._settings_for(self.beginning)
        self.scene = Scene3D(self.value.memory, size=SCENE)
        self.message.say(f"{self.beginning.about}. {HELP}")
        self._redraw()
        self._tell_kept()
        self._observe()
        super().__init__(self._layout())
        classed(self, KEYS_ROOT, TOUCH)
        if opened is not None:
            try:
                self._resume(opened)
            except BaseException:
                self.close()
                raise

    def __repr__(self) -> str:
        return f"Explorer({self.example.value!r})"

    def close(self) -> None:
        """Close the widget and all that it is made of, and let go of its thread."""
        if self.comm is not None:  # it is None after closing, and where `__init__` has failed
            self._worker.close()
            self._keeper.close()
            close_all(self)

    # ---- steps -----------------------------------------------------------------------------------

    def move(self, verb: str) -> None:
        """Start a step; it runs in the background. Errors are messages."""
        self._attempt(lambda: self._worker.start(self._job(verb)))

    def go(self, node: int) -> None:
        """Go to a step of the journey, or to its start (-1). Errors are messages."""
        self._attempt(lambda: self._show(self.value.go(node)))

    def _job(self, verb: str) -> Iterator[Stage]:
        """A step, by stages. Errors: ValueError for a move that cannot be made."""
        journey, settings = self.value, self.settings
        amount = settings.amount(verb)
        label, spacing = f"{verb} {amount:g}", amount / settings.views.value
        targets = moves(journey.camera, label, spacing, spacing)
        if self._shared:
            _check_room(journey, len(targets))
        self._config = WalkConfig(
            policy=with_config(self.policies[settings.policy.value], blind="nearest"),
            k=settings.k.value,
            m=len(targets),
            **self._walk,
        )
        rng = step_rng(journey.memory, self._config.seed)
        job = stages(journey.memory, targets, self._config, rng)
        self._show_results()
        self._label, self.progress.value, self.cancel.disabled = label, 0, False
        self.screen.busy = True
        self.message.say(f"{label}: {STAGES[0]} …")
        return job

    def _attempt(self, act: Callable[[], object]) -> None:
        """Act if no step is running, and keep what that changes. Whatever goes wrong is a message."""
        if self._worker.busy:
            self.message.say(BUSY)
            return
        self._queue.clear()
        try:
            act()
            if not self._worker.busy:
                self._keep()
        except Exception as error:
            self.message.warn(words_of(error))

    def _progressed(self, stage: Stage) -> None:
        done = STAGES.index(stage.name) + 1
        self.progress.value = done
        if isinstance(stage.made, Generation):
            self.screen.show(stage.made.image[-1], f"generating: {self._label}")
        if stage.step is not None:
            self.value = self.value.take(stage.step, self._label, self._config)
        elif stage.name != "generate":
            self.message.say(f"{self._label}: {STAGES[done]} …")

    def _ended(self, error: BaseException | None) -> Iterator[Stage] | None:
        """Tell how the step ended. Returns the step of the next key, if one was pressed meanwhile."""
        self.cancel.disabled, self.screen.busy = True, False
        keys, self._queue = self._queue, []
        try:
            self._redraw()
            if error is not None:
                self.message.warn(f"The step failed, and nothing was lost: {words_of(error)}")
            elif self.progress.value < len(STAGES):
                self.message.say("Cancelled: nothing was remembered.")
            else:
                step = self.value.nodes[self.value.at].step
                note = f" ({step.note})" if step.note else ""
                self.message.say(f"{self._label}: {sum(step.seconds.values()):.2f} s{note}")
                self._keep()
                while keys:
                    key = keys.pop(0)
                    if key in KEYS:
                        job, self._queue = self._job(KEYS[key]), keys
                        return job
                    self._step_in_time(TIME[key])
                    self._keep()
        except Exception as failed:
            self.message.warn(words_of(failed))
        return None

    def _step_in_time(self, move: Callable[[Journey], Journey]) -> None:
        """Undo or redo. Errors: ValueError where there is nothing to undo or redo."""
        self._show(move(self.value))
        self.message.say("")

    def _show(self, journey: Journey) -> None:
        """Show another place of the journey. If that fails, the journey stays where it was."""
        before, self.value = self.value, journey
        try:
            self._redraw()
        except Exception:
            self.value = before
            self._redraw()
            raise

    # ---- the walk on the disk --------------------------------------------------------------------

    def rename(self, label: str) -> None:
        """Call the current step something else; at the start, the whole walk. Errors are messages."""
        self._attempt(lambda: self._show(self.value.rename(self.value.at, label)))

    def drop(self) -> None:
        """Delete the current step and all that follow it. Errors are messages."""
        self._attempt(self._drop)

    def bring_back(self) -> None:
        """Bring back all steps that were deleted since the walk was opened. Errors are messages."""
        self._attempt(lambda: self._show(self.value.bring_back()))

    def list_earlier(self) -> None:
        """Show the earlier walks instead of this one. Errors are messages."""
        self._attempt(self._list_earlier)

    def open_session(self, session: Session | str | os.PathLike) -> None:
        """Go on with a walk on the disk, where its head is. Errors are messages, and the journey stays."""
        self._attempt(lambda: self._open_session(session))

    def delete_session(self, folder: str | os.PathLike) -> None:
        """Delete one of the earlier walks from the disk, for good. Errors are messages."""
        self._attempt(lambda: self._delete_session(Path(folder)))

    def _drop(self) -> None:
        before = len(self.value.dropped)
        self._show(self.value.drop(self.value.at))
        count = len(self.value.dropped) - before
        self.message.say(f"deleted {count} step{'s' * (count != 1)}; 'bring back' undoes that")

    def _delete_session(self, folder: Path) -> None:
        self._keeper.delete(folder)
        self.earlier.refresh(self._keeper.folder())
        self.message.say(f"deleted {folder.name}")

    def _list_earlier(self) -> None:
        self.earlier.show(self._keeper.folder())
        self.earlier.layout.display, self._results.layout.display = "", "none"

    def _show_results(self) -> None:
        self.earlier.layout.display, self._results.layout.display = "none", ""

    def _open_session(self, session: Session | str | os.PathLike) -> None:
        given = session if isinstance(session, Session) else Path(session)
        folder = given.folder if isinstance(given, Session) else given
        if self._keeper.holds(folder):
            self._show_results()
            raise ValueError(f"{folder.name} is the walk that you see")
        self._resume(read_session(given))

    def _resume(self, opened: Opened) -> None:
        """Go on with the walk of a session, with its settings. If that fails, all stays as it was."""
        session, journey = opened.session, opened.journey
        try:
            if self._shared:
                _check_room(journey, 0)
            settings = session.entry().settings or {}
            name, beginning = self._beginning_of(session.folder, journey)
            self._open(beginning, journey)
        except BaseException:
            if opened.owned:
                session.close()
            raise
        self._keeper.take(opened)
        if name is not None:
            self._shown_example = self.example.value = name
        notes = [opened.note, *self._take_settings(settings)]
        said = f"opened {session.folder.name}: {len(journey.nodes)} steps, to go on where you were"
        if any(notes):
            self.message.warn(". ".join([said, *filter(None, notes)]))
        else:
            self.message.say(f"{said}.")
        self._tell_kept()

    def _take_settings(self, settings: Mapping[str, Any]) -> list[str]:
        """Go on with the settings of the current step, as far as the user has given no others.

        Returns a sentence for each that cannot be made again. Of the start there are no settings.
        """
        if not settings:
            return []
        notes, names = list[str](), ["seed"]
        if self._generator is None:
            names.append("generator")
        if self._reconstructor is from_depth:
            names.append("reconstructor")
        for name in names:
            stored = settings.get(name, self._walk[name])
            if isinstance(stored, Described):
                notes.append(
                    f"Its {name} was {stored.name}: give it as Explorer({name}=...), or go on with "
                    f"{self._walk[name]!r}"
                )
            else:
                self._walk[name] = stored
        shown, step = self.settings, self.value.nodes[self.value.at].step
        if step.retrieval.policy in self.policies:
            shown.policy.value = step.retrieval.policy
        shown.views.value = len(step.targets)
        if isinstance(k := settings.get("k"), int):
            shown.k.max = max(shown.k.max, k)
            shown.k.value = k
        return notes

    def _beginning_of(self, folder: Path, journey: Journey) -> tuple[str | None, Beginning]:
        """The example that a walk began in, if it is one of ours, with its scene; its name or None."""
        given = journey.start.views
        for name, make in self._examples.items():
            if slug(name) in folder.name:
                with suppress(ValueError, OSError):
                    made = make(given.image.shape[2], self._seed)
                    if torch.equal(made.given.image, given.image):
                        return name, made
        return None, Beginning(given[:1], None, "a walk of yours")

    def _settings_for(self, beginning: Beginning) -> dict[str, Any]:
        """What a walk from there uses, besides the controls."""
        return {
            "generator": self._generator or default_generator(beginning.scene),
            "reconstructor": self._reconstructor,
            "seed": self._seed,
        }

    def _keep(self) -> None:
        """Bring the disk up to date. If that fails, a message says why, and the walk goes on."""
        try:
            self._keeper.keep(self.value)
        except Exception as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            why = getattr(cause, "strerror", None) or words_of(error)
            self.message.warn(
                f"The walk goes on in memory, because the disk does not keep it: {why}. Each step "
                "tries again."
            )
        self._tell_kept()

    def _tell_kept(self) -> None:
        self.tree.tell(self._keeper.words(self.value))

    # ---- where to start, and files ---------------------------------------------------------------

    def _open(self, beginning: Beginning, journey: Journey | str) -> None:
        """Show another journey, or begin a new one of this name. If that fails, all stays as it was."""
        if isinstance(journey, str):
            journey = journeys.begin_journey(beginning.given, journey)
        before, self.beginning = self.beginning, beginning
        try:
            self._show(journey)
        except Exception:
            self.beginning = before
            raise
        self._keeper.let_go()
        self._walk = self._settings_for(beginning)
        self._show_results()
        self.scene.pick()
        self.scene.look_at_all()
        self.message.say(f"{beginning.about}. {HELP}")

    def _example_chosen(self, change: dict) -> None:
        if change["new"] != self._shown_example:
            self._attempt(lambda: self._open_example(change["new"]))
            self.example.value = self._shown_example

    def _open_example(self, name: str) -> None:
        self._open(self._examples[name](self._height, self._seed), name)
        self._shown_example = name

    def start_own(self) -> None:
        """Start from the uploaded image. Errors are messages, and the journey stays."""
        self._attempt(lambda: self._open(self.own.beginning(self._height), OWN))

    def draw_own(self) -> None:
        """Show the uploaded photo with the box of its room to draw. Errors are messages."""
        self._attempt(lambda: self.own.draw(self.start_drawn))

    def start_drawn(self, room: RoomBox) -> None:
        """Start from the room that was drawn."""
        self._attempt(lambda: self._open(room.beginning(self._height), OWN))

    def file(self, what: str) -> None:
        """ "save" or "load" the memory, or "export" the walk's video and views, in `folder`.

        Errors are messages, and the journey stays.
        """
        self._attempt(lambda: self.message.say(self._filed(what)))

    def _filed(self, what: str) -> str:
        """Save, load or export, and say what was done."""
        with self.storage.opened(what) as folder:
            if what == "save":
                save(self.value.memory, folder / "memory")
                return f"saved {self.value.memory} in {self.storage.place}"
            if what == "load":
                journey = journeys.resume_journey(load(folder / "memory"), "a saved memory")
                if self._shared:
                    _check_room(journey, 0)
                self._open(Beginning(journey.start.views[:1], None, "a saved memory"), journey)
                return f"loaded {self.value.memory}"
            names = " and ".join(path.name for path in journeys.export(self.value, folder))
            return f"wrote {names} in {self.storage.place}"

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
            labels = share_labels(step.before, step.retrieval, total=True)
            self.context.show(step.context.image, chosen, labels)
        retrieval = None if step is None else step.retrieval
        self.scene.update(memory=memory, retrieval=retrieval, lit=None, color=self._scene_color())
        self._redraw_strip()
        self.tree.show(journey)
        self._redraw_truth()
        self.undo.disabled = journey.at == START
        self.redo.disabled = not journey.children(journey.at)

    def _scene_color(self) -> str:
        """The colour mode of the settings, or "image" where it lacks a retrieval to be about."""
        mode = self.settings.color.value
        return "image" if mode in RETRIEVAL_MODES and self.value.at == START else mode

    def _recolor(self) -> None:
        self.scene.update(color=self._scene_color(), invented=self.settings.invented.value)

    def _first_image(self) -> torch.Tensor:
        """The image of the view that was taken where the journey starts."""
        memory = self.value.start
        difference = (memory.views.cameras.world_from_cam - self.value.eye.world_from_cam).abs()
        return memory.views.image[int(difference.flatten(1).amax(1).argmin())]

    def _redraw_strip(self) -> None:
        """The whole way from the start, and on along the youngest branch."""
        journey, end = self.value, self.value.at
        while journey.children(end):
            end = journey.children(end)[-1]
        images = [journey.start.views.image]
        self._node_of_view = [START] * len(journey.start)
        for node in journey.way(end):
            new = journey.nodes[node].step.views.image
            images.append(new)
            self._node_of_view += [node] * len(new)
        count, here = len(self._node_of_view), len(journey.memory)
        labels = [str(i) if i < here else f"{i} (undone)" for i in range(count)]
        self.strip.show(torch.cat(images), range(count), labels, picked=here - 1)

    def _redraw_truth(self) -> None:
        self.truth.layout.display = "" if self.settings.truth.value else "none"
        if not self.settings.truth.value:
            return
        image, caption = BLANK, "the truth is not known here"
        if self.beginning.scene is not None:
            camera = self.value.camera.map(lambda tensor: tensor[None])
            size = self.value.memory.views.image.shape[2:]
            try:
                image = self.beginning.scene.render(camera, *size).image[0]
                caption = "the truth"
            except ValueError as error:  # such as inside a wall
                caption = f"no truth here: {error}"
        self.truth.show(image, caption)

    def _view_picked(self, change: dict) -> None:
        """Show the view that was clicked on, large."""
        view = change["new"]
        if view >= 0:
            kind = "given" if self.value.memory.views.given[view] else "generated"
            self.screen.show(self.value.memory.views.image[view], f"selected: view {view}, {kind}")

    def _strip_picked(self, change: dict) -> None:
        view = change["new"]
        if 0 <= view < len(self._node_of_view) and view != len(self.value.memory) - 1:
            self.go(self._node_of_view[view])

    # ---- controls --------------------------------------------------------------------------------

    def _make_controls(self, example: str, settings: Settings) -> None:
        limits = (UPLOAD, IMAGE) if self._shared else (None, None)
        self.settings, self.own = settings, OwnImage(self.start_own, self.draw_own, *limits)
        self.example = menu("start in", self._examples, example, width="auto")
        self.example.layout.flex, self.example.layout.min_width = "1 1 0", "0"
        narrow = {"width": "auto", "flex": FIXED, "padding": "0 4px"}  # long names need the room
        self.listing = button("earlier walks", self.list_earlier, layout=narrow)
        self.buttons = {
            verb: button(text, partial(self.move, verb), layout=ALIKE)
            for row in PAD
            for text, verb in row
        }
        self.undo = button("undo", partial(self._pressed, UNDO), icon="undo")
        self.redo = button("redo", partial(self._pressed, REDO), icon="repeat")
        self.cancel = button("cancel", self._cancel, disabled=True)
        self.progress = ipywidgets.IntProgress(0, 0, len(STAGES), layout={"width": "90px"})
        self.storage = (BrowserFiles if self._shared else FolderFiles)(self.file)
        self.files = self.storage.buttons
        if isinstance(self.storage, FolderFiles):
            self.folder = self.storage.folder

    def _observe(self) -> None:
        self.screen.observe(self._key, "pressed")
        self.example.observe(self._example_chosen, "value")
        self.scene.observe(self._view_picked, "picked_view")
        for menu_of_scene in (self.settings.color, self.settings.invented):
            menu_of_scene.observe(lambda change: self._attempt(self._recolor), "value")
        self.settings.truth.observe(lambda change: self._attempt(self._redraw_truth), "value")
        self.strip.observe(self._strip_picked, "picked")
        self.context.observe(self._view_picked, "picked")

    def _key(self, change: dict) -> None:
        """A key that is pressed during a step waits for its end; one that is held does not."""
        key, _, held = change["new"]
        if key not in KEYS and key not in TIME:
            return
        if not self._worker.busy:
            self._pressed(key)
        elif not held and len(self._queue) < QUEUE:
            self._queue.append(key)
        elif not held:
            self.message.say(BUSY)

    def _pressed(self, key: str) -> None:
        if key in KEYS:
            self.move(KEYS[key])
        else:
            self._attempt(partial(self._step_in_time, TIME[key]))

    def _cancel(self) -> None:
        self._queue.clear()
        self._worker.cancel()

    def _layout(self) -> list[ipywidgets.Widget]:
        """The controls beside the pictures. On a phone the picture comes first, then the buttons, what
        else there is to see, and the settings."""
        pad = [ipywidgets.HBox([self.buttons[verb] for _, verb in row]) for row in PAD]
        begin = ipywidgets.HBox([self.example, self.listing])
        self.listing.layout.display = "" if self._keeper.keeps else "none"
        going = ipywidgets.HBox([self.undo, self.redo, self.cancel, self.progress])
        self.message.layout.min_height = "68px"  # three lines, so that longer words move nothing
        controls = ipywidgets.VBox(
            [begin, *pad, going, self.message, self.settings, self.tree],
            layout={"width": CONTROLS, "max_width": "100%", "flex": FIXED},
        )
        screens = ipywidgets.VBox([self.screen, self.truth])
        pictures = ipywidgets.HBox([screens, self.scene], layout=WRAPPED)
        self._results = ipywidgets.VBox(
            [
                pictures,
                heading("The context of the last step: click on a view to see it above"),
                self.context,
                heading("The way so far: click on an image to go back to its step and branch off"),
                self.strip,
            ]
        )
        self._show_results()
        shown = ipywidgets.VBox(
            [self.earlier, self._results], layout={"flex": f"1 1 {SCREEN}px", "min_width": "0"}
        )
        own = ipywidgets.Accordion([self.own, self.storage], titles=(OWN, "save, load, export"))
        limits = [ipywidgets.HTML(LIMITS)] if self._shared else []
        for part in (self.earlier, screens):
            part.add_class(FIRST)
        for part in (*pad, going, self.message):
            part.add_class(SECOND)
        for part in (self.settings, self.tree):
            part.add_class(LAST)
        for part in (controls, shown, self._results, pictures):
            part.add_class(OPEN)
        walk = classed(ipywidgets.HBox([controls, shown], layout=WRAPPED), COLUMN)
        return [walk, own, *limits]


def default_generator(scene: Scene | None) -> Generator:
    """Warp in a panorama, where all is seen; else the Writer, whose walls stop the walker."""
    return Warp() if isinstance(scene, Panorama) else Writer(WriterConfig(gives_way=False))


class OwnImage(ipywidgets.VBox):
    """An uploaded image, what it shows, and its depth if there is one.

    `room` is the box that one draws on a photo, a `RoomBox`, None until `draw`. `held` tells which
    files have arrived.
    """

    def __init__(
        self,
        start: Callable[[], None],
        draw: Callable[[], None],
        most_bytes: int | None = None,
        most_pixels: int | None = None,
    ) -> None:
        """`start` is called by the button to start from the image, `draw` by that to draw its room.
        The limits are those of a file and of an image; None leaves the loaders' own.
        """
        self.room: RoomBox | None = None
        self._most_bytes = most_bytes
        self._limits = {} if most_pixels is None else {"max_pixels": most_pixels}
        self.image, self.depth = upload("image/*", "image"), upload(".png,.npy,.npz", "depth")
        self.held, self.kind = ipywidgets.HTML(), menu("it is a", KINDS)
        text = "field of view (degrees)"
        self.fov = ipywidgets.BoundedFloatText(
            PHOTO_FOV, min=10.0, max=150.0, description=text, style=DESCRIPTION
        )
        self.image.observe(lambda change: self._take_lens(), "value")
        self.start, self.drawing = button("start from it", start), button("draw its room", draw)
        self.image.observe(lambda change: self._arrived(KINDS[0]), "value")
        self.depth.observe(lambda change: self._arrived(WITH_DEPTH), "value")
        files = ipywidgets.HBox([self.image, self.depth, self.held])
        taken = ipywidgets.HBox([self.kind, self.fov, self.start, self.drawing], layout=WRAPPED)
        self._form = (files, taken)
        super().__init__(self._form)
        self._arrived(KINDS[0])

    def draw(self, start: Callable[[RoomBox], object]) -> None:
        """Show the photo with its room to draw; `start` is called with it by its start button.

        Errors: ValueError without an image, and as the loader.
        """
        self.room = RoomBox(
            self._read(self.image, "image", load_image), self.fov.value, start=start
        )
        self.children = (*self._form, self.room)

    def beginning(self, height: int) -> Beginning:
        """Where a journey into the image starts, at `height` pixels.

        A photo whose depth is not there is taken for a box-shaped room, and `about` says so.
        Errors: ValueError without an image, and as `scenes.from_image` and the loaders.
        """
        image, depth = self._read(self.image, "image", load_image), None
        kind, missing = self.kind.value, ""
        if self.depth.value and kind == WITH_DEPTH:
            depth = self._turned_depth()
        elif kind == WITH_DEPTH:
            kind, missing = KINDS[0], "No depth was uploaded: "
        elif self.depth.value:
            missing = f"{self.depth.value[0]['name']} is not used for a {kind}: "
        made = from_image(image, kind, height, depth, self.fov.value)
        return replace(made, about=missing + made.about)

    def _take_lens(self) -> None:
        """Show the field of view of the photo's EXIF data, or a phone's along the longer side."""
        with suppress(ValueError, OSError):  # the start says what cannot be read
            (height, width), fov = self._read(self.image, "image", _size_and_fov)
            self.fov.value = fov or horizontal_fov(PHOTO_FOV, width / height)

    def _arrived(self, kind: str) -> None:
        """Tell what the kernel holds. The kind follows what was uploaded."""
        if self.depth.value:
            kind = WITH_DEPTH
        if self.image.value or self.depth.value:
            self.kind.value = kind
        files = [*self.image.value, *self.depth.value]
        names = [f"{html.escape(file['name'])} ({file['size'] / MB:.1f} MB)" for file in files]
        self.held.value = f"here: {', '.join(names)}" if names else "no file is here yet"

    def _read(self, field: ipywidgets.FileUpload, what: str, read: Callable[..., T]) -> T:
        file = received(field, what, self._most_bytes)
        return read_upload(file, partial(read, **self._limits))

    def _turned_depth(self) -> Float[Tensor, "h w"]:
        """The uploaded depth, turned as the photo's EXIF data turns it."""

        def beside(photo: Path, **limits: int) -> Float[Tensor, "h w"]:
            return self._read(self.depth, "depth", partial(load_photo_depth, photo))

        return self._read(self.image, "image", beside)


def _size_and_fov(photo: Path, **limits: int) -> tuple[tuple[int, int], float | None]:
    return image_size(photo, **limits), photo_fov(photo, **limits)


class Settings(ipywidgets.VBox):
    """How far a press goes, how many views it makes, how their context is chosen, and what is shown."""

    def __init__(self, policies: Iterable[str], policy: str, k: int) -> None:
        self.metres = slider("metres a step", METRES, 0.05, 2.0, 0.05)
        self.degrees = slider("degrees a step", DEGREES, 1.0, 90.0)
        self.views = slider("views a step", 2, 1, 8)
        self.policy = menu("policy", policies, policy)
        self.k = slider("K views", k, 1, max(8, k))
        self.color = menu("3-D colour", COLOR_MODES)
        self.invented = menu("invented surfels", APPEARANCES)
        self.truth = ipywidgets.Checkbox(False, description="show the truth", indent=False)
        steps, choice = [self.metres, self.degrees, self.views], [self.policy, self.k]
        super().__init__([*steps, *choice, self.color, self.invented, self.truth])

    def amount(self, verb: str) -> float:
        """Metres or degrees of a press of `verb`."""
        return self.metres.value if VERBS.get(verb, ("move",))[0] == "move" else self.degrees.value


def _check_room(journey: Journey, new: int) -> None:
    """Errors: ValueError for more steps and views than a page holds that many visit."""
    held = len(journey.start) + sum(len(node.step.targets) for node in journey.nodes) + new
    height, width = journey.start.views.image.shape[2:]
    if len(journey.nodes) >= STEPS or held * height * width > HELD:
        raise ValueError(
            f"this page holds {STEPS} steps, and views of {HELD / 1e6:g} megapixels in all: save the "
            "walk, and start a new one"
        )
