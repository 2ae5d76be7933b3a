"""Scenes: the memory in three dimensions, to turn, to colour and to click on.

In: a memory, and a retrieval or a path where there is one. Out: a widget (pythreejs), and from it a
still that our own splatting draws, for readers without a kernel.
The graphics card draws each surfel as a shaded disc, and only from the side that the views saw. So
walls vanish from behind, and a house opens like a doll's house. The canvas is transparent, so that
it fits light and dark pages. A click becomes a ray, and the surfel that it meets is found here, among
the discs that the still shows.
`buffers3d.py` holds the arrays, `palettes.py` the colours; `widgets.MemoryViewer` adds controls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import pythreejs as three
import torch
import traitlets
from jaxtyping import Float, Int
from matplotlib.colors import to_rgb
from scipy.spatial.transform import Rotation
from torch import Tensor

from vmemkit.core import UP, Cameras, cameras, cat, intrinsics, look_at, pose, project
from vmemkit.figures.bird_view import (
    CAMERA_LENGTH,
    EMPHASIS,
    DrawnCameras,
    draw_from_eye,
)
from vmemkit.figures.buffers3d import (
    MAX_IMAGES,
    ImageQuads,
    LineSegments,
    SurfelPoints,
    geometry,
    overwrite,
)
from vmemkit.figures.colors import CARD, CARD_INK, INK, WHITE, chip, view_colors
from vmemkit.figures.extents import scene_box
from vmemkit.figures.frusta import FRUSTUM_EDGES
from vmemkit.figures.palettes import (
    RETRIEVAL_MODES,
    legend,
    spotlight,
    surfel_colors,
    without_invention,
)
from vmemkit.figures.picture import Picture
from vmemkit.memory import Memory, forget, read, surfels_of, views_of
from vmemkit.retrieval import Retrieval

CAP = 200_000  # surfels that are drawn; larger memories are sampled
SCENE_CLASS = "vmemkit-scene"  # for style sheets
SIZE = (720, 440)  # width and height of the canvas, pixels
WORDS = "44px"  # height of two lines
BUTTON = {"width": "auto", "flex": "0 0 auto"}  # layout of buttons as wide as their words
FOV = 40.0  # vertical field of view of the eye, degrees
ELEVATION = 55.0  # angle at which the eye looks down at first, degrees
ALL_ROUND = 0.4  # viewing directions whose mean is shorter than this look all round
MIN_EXTENT = 0.5  # least extent of a scene, world units
FILL, FITS = 0.95, 4  # share of the canvas that the memory fills at first, rounds to fit it
FILL_STILL = 0.2  # opacity of images in a still, so that they do not hide the scene
FAINT = 0.6  # how far cameras outside the selection fade towards grey, 1 = grey
GREY = 0.6  # level of this grey, which shows on light and on dark pages
# A query camera's edge is drawn as so many dashes in ink with as many in white between them: one of
# the two colours shows on any page.
DASHES = 6
SKY = 40.0  # radius of the sphere that catches clicks, in extents of the memory
STILL = 1e-5  # changes of the eye below this are rounding, not a drag
BEHIND = 0.3  # distance behind a camera to look its way from, in extents of the memory
CLICK_FOV = 0.01  # field of view of the camera that looks along a click's ray, degrees
FACES = [
    [0, 1, 2],
    [0, 2, 3],
    [0, 3, 4],
    [0, 4, 1],
    [1, 2, 3],
    [1, 3, 4],
]  # of a camera's pyramid: its eye is 0
KEEP: Any = object()  # default of arguments for which None has a meaning of its own


class Scene3D(ipywidgets.VBox):
    """A memory to look at from all sides. Drag to turn, scroll to approach, right-drag to shift.

    A click on a surfel sets `picked_surfel` and lights the views that saw it. A click on a camera
    sets `picked_view` and lights the surfels that it saw. A click on nothing sets both to -1 and
    lights everything.
    """

    picked_surfel = traitlets.Int(-1, help="index of the surfel last clicked on, -1 = none")
    picked_view = traitlets.Int(-1, help="index of the view last clicked on, -1 = none")

    def __init__(
        self,
        memory: Memory,
        color: str = "image",
        retrieval: Retrieval | None = None,
        path: Cameras | None = None,
        size: tuple[int, int] = SIZE,
        cap: int = CAP,
        invented: str = "shown",
    ) -> None:
        """`color` is one of COLOR_MODES; the cameras of `path` are dashed in black and white. `size`
        is the canvas's width and height in pixels. Of more surfels than `cap` a sample is drawn.
        `invented` is one of APPEARANCES: how surfels show that lie where no given view looks.

        Errors: ValueError for an unknown colour mode or appearance, and for a colour mode about a
        retrieval without one.
        """
        self.memory, self.color, self.retrieval, self.path = memory, "", retrieval, path
        self.invented = invented
        self.lit: tuple[int, ...] | None = None  # views whose surfels are lit, None = all
        self.size, self.cap = size, cap
        self._last_direction: tuple[float, ...] = ()
        self._discs, self._frames = SurfelPoints(size[1]), LineSegments()
        self._images, self._line = ImageQuads(), _grey_line()
        self._mark, self._sky = _red_ball(), _sky()
        self._camera = three.PerspectiveCamera(up=list(UP), aspect=size[0] / size[1])
        self._orbit = three.OrbitControls(controlling=self._camera)
        self._picker = three.Picker(controlling=self._sky, event="click")
        self._picker.observe(self._clicked, "point")
        things = [self._discs.points, self._frames.lines, self._line, self._mark]
        # The world is shifted so that the point looked at is the origin. Orbits turn about the
        # origin at first, and a page without a kernel cannot be told another point.
        self._world = three.Group(children=[*things, *self._images.meshes])
        scene = three.Scene(children=[self._camera, self._world, self._sky], background=None)
        self.renderer = three.Renderer(
            camera=self._camera,
            scene=scene,
            controls=[self._orbit, self._picker],
            width=size[0],
            height=size[1],
            antialias=True,
            alpha=True,
            clearOpacity=0.0,
        )
        self.label, self.about = ipywidgets.HTML(), ipywidgets.HTML()
        self.whole = ipywidgets.Button(description="see all", layout=BUTTON)
        self.inside = ipywidgets.Button(description="stand behind the camera", layout=BUTTON)
        self.whole.on_click(lambda button: self.look_at_all())
        self.inside.on_click(lambda button: self._stand_behind())
        self.look_at_all()
        self.update(color=color)
        below = ipywidgets.HBox([self.whole, self.inside])
        # As wide as the canvas, and with lines to spare, so that longer words move nothing.
        layout = {"width": f"{size[0] + 8}px", "max_width": "100%", "flex": "0 0 auto"}
        self.label.layout.min_height = self.about.layout.min_height = WORDS
        super().__init__([self.renderer, self.label, below, self.about], layout=layout)
        self.add_class(SCENE_CLASS)

    def __repr__(self) -> str:
        return f"Scene3D({len(self.memory)} views, color={self.color!r})"

    # ---- what is shown ---------------------------------------------------------------------------

    def update(
        self,
        memory: Memory | None = None,
        color: str | None = None,
        retrieval: Retrieval | Any = KEEP,
        path: Cameras | Any = KEEP,
        lit: Sequence[int] | Any = KEEP,
        invented: str | None = None,
    ) -> None:
        """Show another memory, colour mode, retrieval or path, light other views, or show invented
        surfels otherwise, in place.

        Arguments that are left out stay as they are. `lit` are the views whose surfels are lit;
        None lights all. Errors: ValueError as for a new scene; this one then stays as it was.
        """
        memory = self.memory if memory is None else memory
        color = self.color if color is None else color
        retrieval = self.retrieval if retrieval is KEEP else retrieval
        path = self.path if path is KEEP else path
        invented = self.invented if invented is None else invented
        lit_views = self.lit if lit is KEEP else None if lit is None else tuple(lit)
        if lit_views is not None:
            lit_views = tuple(view for view in lit_views if 0 <= view < len(memory)) or None
        if retrieval is not None and len(retrieval.votes) > len(memory):
            raise ValueError(
                f"the retrieval chose among {len(retrieval.votes)} views, the memory holds "
                f"{len(memory)}: pass the retrieval that was made from it, or retrieval=None"
            )
        if color in RETRIEVAL_MODES and retrieval is None and color == self.color:
            color = "image"  # the retrieval that the colours were about is gone
        colors = surfel_colors(memory, color, retrieval)
        views = None if lit_views is None else torch.tensor(lit_views, device=memory.device).long()
        paint = without_invention(memory, spotlight(memory, colors, views), invented)
        self.memory, self.color, self.retrieval = memory, color, retrieval
        self.path, self.lit, self.invented, self.paint = path, lit_views, invented, paint.cpu()
        if len(memory.surfels) > self._fitted and self._is_at(self._home):
            self.look_at_all()
        drawn = self._discs.show(memory, self.paint, self.cap)
        self._show_cameras()
        if self.picked_surfel >= len(memory.surfels):
            self.picked_surfel, self._mark.visible = -1, False
        if self.picked_view >= len(memory):
            self.picked_view = -1
        self.label.value = _caption(memory, drawn, legend(memory, color, retrieval), lit_views)

    def look_from(self, camera: Cameras) -> None:
        """Put the eye behind a single camera, looking its way: walls are invisible from behind."""
        self._aim(*self._behind(camera))

    def looks_from(self, camera: Cameras) -> bool:
        """Whether the eye is where `look_from` puts it, so nobody has turned the scene since."""
        return self._is_at(torch.cat(self._behind(camera)))

    def _behind(self, camera: Cameras) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
        step = BEHIND * self._extent * camera.forward.cpu()
        return camera.position.cpu() - step, camera.position.cpu() + step

    def look_at_all(self) -> None:
        """Put the eye above and outside, with all surfels and cameras in sight. A memory that grows
        stays in sight until somebody turns the scene."""
        self._fit()
        self._home = torch.cat([self.eye, self.target])
        self._fitted = len(self.memory.surfels)

    @property
    def eye(self) -> Float[Tensor, " 3"]:
        """Where the eye stands, world."""
        return self._origin + torch.tensor(self._camera.position)

    @property
    def target(self) -> Float[Tensor, " 3"]:
        """The point in the middle of the canvas, about which dragging turns, world."""
        return self._origin + torch.tensor(self._orbit.target)

    def _is_at(self, place: Float[Tensor, " 6"]) -> bool:
        """Whether eye and target are where `place` says."""
        now = torch.cat([self.eye, self.target])
        return torch.allclose(now, place, atol=STILL * self._extent)

    def _stand_behind(self) -> None:
        """Behind the view that was clicked on, else the first query camera, else the last view."""
        cameras = self.memory.views.cameras
        if self.picked_view >= 0:
            self.look_from(cameras[self.picked_view])
        elif self.retrieval is not None:
            self.look_from(self.retrieval.query[0])
        elif len(cameras):
            self.look_from(cameras[-1])

    def still(self, rows: int = 480) -> Picture:
        """A picture of what the eye sees, `rows` pixels high, drawn by our own splat."""
        eye = cameras(_pose(self.eye, self.target)[None], self._intrinsics())
        memory, ids = self._in_sight()
        color, opacity = self.paint[ids, :3], self.paint[ids, 3:]
        on_card = opacity * color + (1 - opacity) * color.new_tensor(to_rgb(CARD))
        drawn = self._drawn_cameras()
        return draw_from_eye(
            eye, memory.to("cpu"), on_card, drawn, rows, trim=False, fill=FILL_STILL
        )

    def _in_sight(self) -> tuple[Memory, Int[Tensor, " n"]]:
        """The memory without the surfels that are hidden, and the ids of the others."""
        hidden = self.paint[:, 3] == 0
        memory = forget(self.memory, hidden.to(self.memory.device)) if hidden.any() else self.memory
        return memory, (~hidden).nonzero()[:, 0]

    # ---- cameras ---------------------------------------------------------------------------------

    def _drawn_cameras(self) -> DrawnCameras:
        """All views, those that were asked about large and filled; then the path and the query."""
        t, length = len(self.memory), CAMERA_LENGTH * self._extent
        selected = torch.zeros(t, dtype=torch.bool)
        if self.lit is not None:
            selected[list(self.lit)] = True
        elif self.retrieval is not None:
            selected[self.retrieval.chosen.cpu()] = True
        colors, lengths = view_colors(t), torch.full((t,), length)
        if selected.any():
            colors[~selected] += FAINT * (GREY - colors[~selected])
            lengths[selected] *= EMPHASIS
        views = self.memory.views.cameras.to("cpu")
        drawn = DrawnCameras(views, lengths, colors.tolist(), selected)
        if self.path is not None:
            drawn = drawn.add(self.path, EMPHASIS * length)
        if self.retrieval is not None:
            drawn = drawn.add(self.retrieval.query, EMPHASIS * length)
        return drawn

    def _show_cameras(self) -> None:
        drawn = self._drawn_cameras()
        t, points = len(self.memory), drawn.corners
        self._pyramids = points[:t]
        in_ink = torch.tensor([color == CARD_INK for color in drawn.colors], dtype=torch.bool)
        ends = points[:, FRUSTUM_EDGES].reshape(-1, len(FRUSTUM_EDGES) // 2, 2, 3)
        dashes, dash_colors = _dashed(ends[in_ink].reshape(-1, 2, 3))
        plain = [color for color in drawn.colors if color != CARD_INK]
        rgb = torch.tensor(plain).reshape(-1, 3).repeat_interleave(len(FRUSTUM_EDGES), 0)
        plain_ends = ends[~in_ink].reshape(-1, 3)
        self._frames.show(torch.cat([plain_ends, dashes]), torch.cat([rgb, dash_colors]))
        with_image = (
            list(range(t)) if t <= MAX_IMAGES else drawn.filled.nonzero().flatten().tolist()
        )
        self._images.show(self.memory, points, with_image[:MAX_IMAGES])
        positions = self.memory.views.cameras.position.cpu() if t > 1 else torch.zeros(2, 3)
        overwrite(self._line, position=positions.numpy())

    # ---- clicks ----------------------------------------------------------------------------------

    def _clicked(self, change: dict) -> None:
        """The picker reports a point of the sky behind the click. A drag ends in a click, too, but
        then the eye has turned since the last one."""
        direction = self._direction()
        dragged = not np.allclose(direction, self._last_direction, atol=STILL)
        self._last_direction = direction
        if not dragged:
            self.click(self.eye.tolist(), (self._origin + torch.tensor(change["new"])).tolist())

    def click(self, eye: Sequence[float], point: Sequence[float]) -> None:
        """Pick what a ray from `eye` through `point`, world, meets first: a surfel or a camera."""
        start = torch.tensor(eye, dtype=torch.float32)
        through = torch.tensor(point, dtype=torch.float32)
        memory, ids = self._in_sight()
        surfel, to_surfel = _surfel_at(memory, start, through)
        surfel = int(ids[surfel]) if surfel >= 0 else -1
        view, to_view = _view_at(self._pyramids, start, through)
        if to_view < to_surfel:
            self.pick(view=view)
        else:
            self.pick(surfel=surfel)

    def pick(self, surfel: int = -1, view: int = -1) -> None:
        """Light the views that saw a surfel, or the surfels that a view saw; -1 for none."""
        lit, text = None, "Click on a surfel or a camera: who saw it, what did it see?"
        self._mark.visible = surfel >= 0
        if surfel >= 0:
            self._mark.position = self.memory.surfels.position[surfel].tolist()
            lit = views_of(self.memory.packed_sightings, surfel).tolist()
            chips = ", ".join(chip(i) for i in lit)
            text = f"Surfel {surfel}: written by view {lit[0]}, seen by {chips}."
        elif view >= 0:
            lit, count = [view], len(surfels_of(self.memory.packed_sightings, view))
            kind = "given" if self.memory.views.given[view] else "generated"
            text = f"View {chip(view)}, {kind}: saw {count:,} surfels."
        self.update(lit=lit)
        self.about.value = text
        with self.hold_trait_notifications():
            self.picked_surfel, self.picked_view = surfel, view

    # ---- the eye ---------------------------------------------------------------------------------

    def _fit(self) -> None:
        """Aim the eye from above and outside, as near as leaves all in sight."""
        memory, self._camera.fov = self.memory.to("cpu"), FOV
        drawn = memory.views.cameras
        if self.path is not None:
            drawn = cat([drawn, self.path.to("cpu")])
        low, high = scene_box(memory.surfels.position, drawn.position)
        centre, self._extent = (low + high) / 2, max(float((high - low).norm()) / 2, MIN_EXTENT)
        corners = torch.cartesian_prod(*torch.stack([low, high], 1))
        eye = centre - 4 * self._extent * _downwards(memory, drawn)
        for _ in range(FITS):  # several rounds, because near corners grow as the eye approaches
            fitted = cameras(look_at(eye[None], centre[None]), self._intrinsics())
            filled = float((2 * project(fitted, corners[None])[0] - 1).abs().max())
            eye = centre + (eye - centre) * max(filled / FILL, 0.2)
        self._mark.scale = (0.012 * self._extent,) * 3
        self._sky.scale = (SKY * self._extent,) * 3
        self._camera.near, self._camera.far = 0.01 * self._extent, 3 * SKY * self._extent
        self._aim(eye, centre)

    def _direction(self) -> tuple[float, ...]:
        """The eye's viewing direction and target: dragging changes them, coming nearer does not."""
        forward = torch.nn.functional.normalize(self.target - self.eye, dim=0)
        return (*forward.tolist(), *self.target.tolist())

    def _intrinsics(self) -> Float[Tensor, "3 3"]:
        """The eye's K; pythreejs states the field of view vertically, `intrinsics` horizontally."""
        half_width = self._camera.aspect * math.tan(math.radians(self._camera.fov) / 2)
        return intrinsics(2 * math.degrees(math.atan(half_width)), self._camera.aspect)

    def _aim(self, eye: Float[Tensor, " 3"], target: Float[Tensor, " 3"]) -> None:
        self._origin = target
        self._world.position = (-target).tolist()
        self._camera.position = (eye - target).tolist()
        self._orbit.target = (0.0, 0.0, 0.0)
        # three's cameras look along -z, with y up. A page without a kernel needs this quaternion.
        axes = _pose(eye, target)[:3, :3] * torch.tensor([1.0, -1.0, -1.0])
        self._camera.quaternion = Rotation.from_matrix(axes.double()).as_quat().tolist()
        self._orbit.exec_three_obj_method("update")
        self._last_direction = self._direction()


def _dashed(
    ends: Float[Tensor, "n 2 3"],
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """Ends and colours of the dashes of lines: in turn ink and white."""
    share = torch.linspace(0, 1, 2 * DASHES + 1)
    share = torch.stack([share[:-1], share[1:]], 1).flatten()[:, None]
    points = ends[:, :1] * (1 - share) + ends[:, 1:] * share
    inks = torch.tensor([to_rgb(INK), to_rgb(WHITE)]).repeat_interleave(2, 0)
    return points.reshape(-1, 3), inks.repeat(len(ends) * DASHES, 1)


def _red_ball() -> three.Mesh:
    """The mark of the surfel that was picked."""
    shape = three.SphereBufferGeometry(radius=1.0, widthSegments=12, heightSegments=8)
    return three.Mesh(shape, three.MeshBasicMaterial(color="#e8112d"), visible=False)


def _sky() -> three.Mesh:
    """The invisible sphere around everything that catches clicks."""
    shape = three.SphereBufferGeometry(radius=1.0, widthSegments=16, heightSegments=12)
    return three.Mesh(shape, three.MeshBasicMaterial(side="BackSide", visible=False))


def _grey_line() -> three.Line:
    """A line for the way from view to view."""
    shape = geometry(position=np.zeros((2, 3), np.float32))
    return three.Line(shape, three.LineBasicMaterial(color="#9aa1a9"))


def _downwards(memory: Memory, drawn: Cameras) -> Float[Tensor, " 3"]:
    """The first viewing direction: ELEVATION downwards, and horizontally the mean direction of the
    given views, or +z where they look all round. Without given views, all cameras count."""
    given = memory.views.cameras[memory.views.given]
    forward = (given if len(given) else drawn).forward
    up, angle = torch.tensor(UP), math.radians(ELEVATION)
    ahead = forward.mean(0) if len(forward) else torch.zeros(3)
    ahead = ahead - (ahead @ up) * up
    if ahead.norm() < ALL_ROUND:
        ahead = torch.tensor([0.0, 0.0, 1.0])
    return math.cos(angle) * torch.nn.functional.normalize(ahead, dim=0) - math.sin(angle) * up


# ---- what a click meets --------------------------------------------------------------------------


def _pose(eye: Float[Tensor, " 3"], point: Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    """A camera at `eye` that looks at `point`, upright unless it looks straight up or down."""
    ahead = torch.nn.functional.normalize(point - eye, dim=0)
    level = abs(float(ahead @ torch.tensor(UP))) < 0.999
    # From the origin, because far away from it a step of one unit is lost to rounding.
    turned = look_at(torch.zeros(3), ahead, up=UP if level else (0.0, 0.0, 1.0))
    return pose(turned[:3, :3], eye)


def _surfel_at(
    memory: Memory, eye: Float[Tensor, " 3"], point: Float[Tensor, " 3"]
) -> tuple[int, float]:
    """The surfel that a ray meets first and its distance; -1 and infinity for none."""
    if len(memory.surfels) == 0:
        return -1, math.inf
    camera = cameras(_pose(eye, point)[None], intrinsics(CLICK_FOV)).to(memory.device)
    seen = read(memory, camera, 1, 1)
    surfel = int(seen.surfel)
    return surfel, float(seen.depth) if surfel >= 0 else math.inf


def _view_at(
    pyramids: Float[Tensor, "t 5 3"], eye: Float[Tensor, " 3"], point: Float[Tensor, " 3"]
) -> tuple[int, float]:
    """The pyramid that a ray meets first and its distance; -1 and infinity for none.

    Rays and triangles: Moller and Trumbore, 1997.
    """
    if len(pyramids) == 0:
        return -1, math.inf
    ray = torch.nn.functional.normalize(point - eye, dim=0).double()
    a, b, c = pyramids[:, FACES].double().unbind(2)
    across_ac = torch.linalg.cross(ray.expand_as(c), c - a)
    determinant = ((b - a) * across_ac).sum(-1)
    u = ((eye - a) * across_ac).sum(-1) / determinant
    across_ab = torch.linalg.cross(eye - a, b - a)
    v = (across_ab * ray).sum(-1) / determinant
    distance = (across_ab * (c - a)).sum(-1) / determinant
    # Rays parallel to a face give NaN, which fails every comparison.
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
    distance = torch.where(hit, distance, math.inf).amin(-1)
    nearest = int(distance.argmin())
    return (nearest, float(distance[nearest])) if hit.any() else (-1, math.inf)


# ---- captions ------------------------------------------------------------------------------------


def _caption(memory: Memory, drawn: int, meaning: str, lit: tuple[int, ...] | None) -> str:
    n = len(memory.surfels)
    surfels = f"{n:,} surfels" if drawn == n else f"a fixed sample of {drawn:,} of {n:,} surfels"
    if lit is not None:
        chips = ", ".join(chip(view) for view in lit)
        meaning = f"what {chips} saw, each surfel in the colour of the first of them that did"
    views = "1 view" if len(memory) == 1 else f"{len(memory)} views"
    return f"<b>{views}, {surfels}.</b> Colour: {meaning}."
