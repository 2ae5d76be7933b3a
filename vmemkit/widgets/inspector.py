"""RetrievalInspector: move the targets and see which past views are retrieved, and why."""

from __future__ import annotations

import html
from functools import partial

import ipywidgets
import torch

from vmemkit.core import Cameras, check_cameras
from vmemkit.evaluation import coverage
from vmemkit.figures import (
    DARK,
    Scene3D,
    chip,
    depth_images,
    grey_images,
    look,
    paint,
    seen_by,
    share_labels,
    vote_map,
)
from vmemkit.memory import Memory
from vmemkit.pipeline import Step
from vmemkit.retrieval import (
    POLICIES,
    Policy,
    Retrieval,
    RetrievalConfig,
    Visibility,
    retrieve,
    with_config,
)
from vmemkit.scenes import moves
from vmemkit.widgets.gallery import TOUCH, Gallery, Screen
from vmemkit.widgets.parts import (
    ALIKE,
    FIXED,
    WRAPPED,
    Message,
    button,
    menu,
    mosaic,
    named_policies,
    slider,
    vote_table,
    words_of,
)

# (control, verb for more, verb for less, limit, step of the slider, step of the buttons)
MOVES = (
    ("ahead", "forward", "back", 3.0, 0.1, 0.3),
    ("aside", "strafe right", "strafe left", 2.0, 0.1, 0.3),
    ("turn", "right", "left", 180.0, 5.0, 15.0),
    ("look", "look up", "look down", 60.0, 5.0, 15.0),
)

NOTHING = "none"  # the rival where there is none
OWN = "as the policy says"  # who looks
SCREEN, SPLAT = 360, 320  # widths of vote maps and of the memory below the controls, pixels
SCENE = (440, 330)  # width and height of the 3-D scene, pixels
STEERING = "340px"  # width of the controls
TWO_LINES = "56px"  # height of titles, so that longer ones move nothing
FADE = 0.85  # how far pixels that the clicked view did not see fade towards white, 1 = white
MAX_TARGETS, MAX_K = 4, 8
TRUTH_ROWS = 24  # rows of the grid of points on which coverage is judged


class RetrievalInspector(ipywidgets.VBox):
    """Targets to steer, and one or two policies that choose views for them from the same memory.

    Controls: `place` along the given targets, `count` of them at once, `sliders` by name ("ahead",
    "aside" in metres, "turn", "look" in degrees; `buttons` have the verbs), `policy` and `rival`,
    `k`, `query`, `color`. `value` maps the policies' names to their retrievals. A click
    on a chosen view shows which target pixels it saw. `RetrievalInspector.of(step)` looks from the
    targets of a step that was taken.
    """

    def __init__(
        self,
        memory: Memory,
        targets: Cameras,
        scene: Visibility | None = None,
        policy: str | Policy = "coverage",
        rival: str | Policy = NOTHING,
        config: RetrievalConfig | None = None,
    ) -> None:
        """With a `scene` that knows the truth, the true coverage of each choice is shown. `policy`
        and `rival` are names of POLICIES, policies, or functions, as `vmemkit.retrieve` takes them.
        `config` replaces those of all policies; by default each has its own.

        Errors: ValueError for an empty memory, bad targets (n,), and unknown policies.
        """
        if len(memory) == 0 or targets.world_from_cam.ndim != 3 or len(targets) == 0:
            raise ValueError(f"need a memory with views and targets (n,), got {memory}, {targets}")
        asked = [policy] if isinstance(rival, str) and rival == NOTHING else [policy, rival]
        own = named_policies(asked)
        self.policies = {**POLICIES, **own}
        self.memory, self.targets, self.truth = memory, check_cameras(targets), scene
        first, *others = own
        self.config = config
        self.value: dict[str, Retrieval] = {}
        self._make_controls(first, others[0] if others else NOTHING)
        self.scene, self.message = Scene3D(memory, size=SCENE), Message()
        self.splat = Screen(width=SPLAT)
        self.columns = [_Column(self), _Column(self)]
        self._going_home = False
        for control in (self.place, self.count, *self.sliders.values()):
            control.observe(self._moved, "value")
        for control in (self.policy, self.rival, self.k, self.query, self.look):
            control.observe(lambda change: self.redraw(), "value")
        self.color.observe(self._recolor, "value")
        super().__init__(self._layout())
        self.add_class(TOUCH)
        self._followed = self.query_targets[0]  # where the 3-D view stands, unless it was turned
        self.scene.look_from(self._followed)
        self.redraw()

    @classmethod
    def of(cls, step: Step, scene: Visibility | None = None) -> RetrievalInspector:
        """The memory before a step, seen from its targets, with as many views of context. The policy is
        that of the step, or "coverage" if it has no name in POLICIES.
        """
        policy = step.retrieval.policy
        made = cls(step.before, step.targets, scene, policy if policy in POLICIES else "coverage")
        made.count.value = made.count.max
        made.k.value = min(len(step.retrieval.chosen), made.k.max)
        return made

    def __repr__(self) -> str:
        return f"RetrievalInspector({len(self.memory)} views, {len(self.targets)} targets)"

    # ---- retrieval -------------------------------------------------------------------------------

    @property
    def query_targets(self) -> Cameras:
        """The targets (m,): the given ones, moved as the sliders say."""
        given = self.targets[self.place.value : self.place.value + self.count.value]
        verbs = []
        for name, more, less, *_ in MOVES:
            amount = self.sliders[name].value
            if round(amount, 6):  # presses to and fro may leave a rounding error
                verbs.append(f"{more if amount > 0 else less} {abs(amount):.6f}")
        if not verbs:
            return given
        spacing = 1e3  # so wide that each verb makes one camera; only the last is needed
        poses = [moves(c, ", ".join(verbs), spacing, spacing).world_from_cam[-1] for c in given]
        return Cameras(torch.stack(poses), given.K)

    def redraw(self) -> None:
        """Retrieve again and show the result. If that fails, a message says why, and all stays. The
        3-D view follows the first target until somebody turns it."""
        names = dict.fromkeys(n for n in (self.policy.value, self.rival.value) if n != NOTHING)
        try:
            targets = self.query_targets
            retrievals = {name: self._retrieve(name, targets) for name in names}
        except Exception as error:  # of a policy that anybody may have written
            self.message.warn(words_of(error))
            return
        self.message.say("")
        self.value = retrievals
        self.query.disabled = len(targets) == 1  # one target is all, the mean and the last
        self._show_splat(targets)
        first = retrievals[self.policy.value]
        follows = self.scene.looks_from(self._followed)
        self.scene.update(retrieval=first, color=self.color.value, lit=None)
        self._followed = targets[0]
        if follows:
            self.scene.look_from(self._followed)
        for column, (name, retrieval) in zip(self.columns, retrievals.items(), strict=False):
            column.show(name, retrieval, self._true_coverage(targets, retrieval))
        self.columns[1].layout.display = "" if len(retrievals) > 1 else "none"

    def _retrieve(self, name: str, targets: Cameras) -> Retrieval:
        policy, k = self.policies[name], min(self.k.value, len(self.memory))
        if self.config is not None:
            policy = with_config(policy, **vars(self.config))
        if self.query.value != OWN:
            policy = with_config(policy, query=self.query.value)
        return retrieve(self.memory, targets, k, policy)

    def _true_coverage(self, targets: Cameras, retrieval: Retrieval) -> str:
        """The true coverage in words, empty without a scene."""
        if self.truth is None:
            return ""
        try:
            chosen = retrieval.chosen
            known, k = self.memory.views.cameras, len(chosen)
            [(share, best)] = coverage(self.truth, known, targets, [chosen], k, TRUTH_ROWS)
        except ValueError as error:  # such as a camera inside a wall, which sees no truth
            return f"(true coverage unknown: {str(error).split(':')[0]})"
        return f"truly covers {share:.0%} of the pixels, the best choice {best:.0%}"

    def _show_splat(self, targets: Cameras) -> None:
        seen, scale = look(self.memory, targets), ""
        if self.look.value == "depth":
            images, words = depth_images(seen.depth)
            scale = f"; {words}"
        elif self.look.value == "cosine":
            images = grey_images(seen.cosine)
        else:
            images = paint(self.memory, seen, DARK)
        known = [f"{share:.0%}" for share in (seen.surfel >= 0).float().mean((1, 2)).tolist()]
        caption = f"the memory from the targets, {', '.join(known)} known{scale}"
        self.splat.show(mosaic(images), caption)

    # ---- controls --------------------------------------------------------------------------------

    def _make_controls(self, policy: str, rival: str) -> None:
        wide, narrow = "330px", "236px"
        most = min(MAX_TARGETS, len(self.targets))
        self.place = slider("place on the path", 0, 0, len(self.targets) - 1, width=wide)
        self.count = slider("targets at once", 1, 1, most, width=wide)
        self.sliders, self.buttons = {}, {}
        for name, more, less, limit, fine, coarse in MOVES:
            text = f"{name} ({'m' if limit < 10 else 'degrees'})"
            self.sliders[name] = control = slider(text, 0.0, -limit, limit, fine, wide)
            for verb, amount in ((less, -coarse), (more, coarse)):
                press = partial(self._nudge, control, amount)
                self.buttons[verb] = button(verb, press, layout=ALIKE)
        self.home = button("back to the path", self._go_home)
        self.policy = menu("policy", self.policies, policy, "270px")
        self.rival = menu("compare with", [NOTHING, *self.policies], rival, "270px")
        most = min(MAX_K, len(self.memory))
        self.k = slider("K views", min(4, most), 1, most, width=narrow)
        self.query = menu("who looks", [OWN, "all", "mean", "last"], width=narrow)
        self.look = menu("left image", ["colour", "depth", "cosine"], width=narrow)
        modes = ["votes for", "vote weight", "image", "sightings"]
        self.color = menu("3-D colour", modes, width=narrow)

    def _layout(self) -> list[ipywidgets.Widget]:
        sliders, presses = [], []
        for name, more, less, *_ in MOVES:
            sliders.append(self.sliders[name])
            presses += [self.buttons[less], self.buttons[more]]
        rows = [ipywidgets.HBox(presses[:4]), ipywidgets.HBox(presses[4:])]
        steer = ipywidgets.VBox(
            [self.place, self.count, *sliders, *rows, self.home, self.message, self.splat],
            layout={"width": STEERING, "max_width": "100%", "flex": FIXED},
        )
        asked = [self.policy, self.rival, self.k, self.query]
        above = ipywidgets.HBox([*asked, self.look, self.color], layout=WRAPPED)
        return [above, ipywidgets.HBox([steer, *self.columns, self.scene], layout=WRAPPED)]

    def _nudge(self, control: ipywidgets.FloatSlider, amount: float) -> None:
        control.value = control.value + amount

    def _go_home(self) -> None:
        self._going_home = True  # redraws once instead of after each slider
        for control in self.sliders.values():
            control.value = 0.0
        self._going_home = False
        self.redraw()

    def _recolor(self, change: dict) -> None:
        if self.value:
            self.scene.update(color=change["new"])

    def _moved(self, change: dict) -> None:
        if not self._going_home:
            self.redraw()


class _Column(ipywidgets.VBox):
    """What one policy chose, and why."""

    def __init__(self, inspector: RetrievalInspector) -> None:
        self.inspector = inspector
        self.retrieval: Retrieval | None = None
        self.title = ipywidgets.HTML(layout={"min_height": TWO_LINES})
        self.votes = ipywidgets.HTML()
        self.map, self.chosen = Screen(width=SCREEN, crisp=True), Gallery(height=72, wraps=True)
        self.chosen.observe(self._clicked, "picked")
        layout = {"width": f"{SCREEN + 84}px", "max_width": "100%", "flex": FIXED}
        super().__init__([self.title, self.map, self.chosen, self.votes], layout=layout)

    def show(self, name: str, retrieval: Retrieval, truth: str) -> None:
        self.retrieval = retrieval
        memory, chosen = self.inspector.memory, retrieval.chosen.tolist()
        self.title.value = f"<b>{html.escape(name)}</b> {truth}"
        labels = share_labels(memory, retrieval, total=True)
        titles = [f"view {view}: click to see which target pixels it saw" for view in chosen]
        self.chosen.show(memory.views.image[retrieval.chosen], chosen, labels, titles, picked=-1)
        self.votes.value = vote_table(memory, retrieval)
        self._show_map()

    def _clicked(self, change: dict) -> None:
        view, scene = change["new"], self.inspector.scene
        self._show_map()
        scene.update(lit=None if view < 0 else [view])
        scene.about.value = "" if view < 0 else f"Lit: the surfels that view {chip(view)} saw."

    def _show_map(self) -> None:
        memory, retrieval, view = self.inspector.memory, self.retrieval, self.chosen.picked
        colors = vote_map(memory, retrieval).permute(0, 3, 1, 2)
        caption = "each pixel in the colour of the first chosen view that saw it"
        if view >= 0:
            seen = seen_by(memory, retrieval, view)
            colors = torch.where(seen[:, None], colors, colors + FADE * (1 - colors))
            caption = (
                f"{float(seen.float().mean()):.0%} of the target pixels were seen by view {view}"
            )
        self.map.show(mosaic(colors), caption)
