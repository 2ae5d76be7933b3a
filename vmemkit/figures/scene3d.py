"""Scenes: the memory in three dimensions, to turn, to colour and to click on.

In: a memory, and a retrieval or a path where there is one. Out: a widget (pythreejs), and from it a
still that our own splatting draws, for readers without a kernel.
Surfels are points that the graphics card widens to shaded discs, 32 bytes each; discs are seen from
the side that was looked at, so walls vanish from behind and a house opens like a doll's. A click
becomes a ray, and what it meets is found here, in the same discs that the still shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import ipywidgets
import numpy as np
import pythreejs as three
import torch
import traitlets
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from vmemkit.core import LUMA, UP, Cameras, cameras, cat, intrinsics, look_at, project
from vmemkit.figures.buffers3d import MAX_IMAGES, DiscMesh, Images, Lines, ball, geometry, resized
from vmemkit.figures.floor_plan import EMPHASIS, WEDGE, drawn_from, wedges
from vmemkit.figures.page import INK, Picture
from vmemkit.figures.palettes import OF_RETRIEVAL, legend, spotlight, surfel_colors
from vmemkit.figures.pictures import view_colors
from vmemkit.memory import Memory, read, surfels_of, views_of
from vmemkit.retrieval import Retrieval

CAP = 200_000  # surfels that are drawn; of more, a sample

SIZE = (720, 440)  # pixels: width, height of the canvas

PAPER = "#ffffff"

FIRM = {"width": "auto", "flex": "0 0 auto"}  # buttons that keep their words

FOV, ELEVATION = 40.0, 55.0  # degrees: of the eye, vertical; how high it starts

STRAYS = 0.01  # share of surfels at either end that may be out of sight at first

ENOUGH = 100_000  # surfels that make a quantile

ALL_ROUND = 0.4  # length of the mean of viewing directions below which they look all round

TINY = 0.5  # world units: the least extent of a scene

FILL, FITS = 0.95, 4  # how much of the canvas the memory fills at first; rounds to find it

FAINT = 0.6  # how far cameras that nobody asked about go towards white

AWAY = 40.0  # radius of the sphere that catches clicks, in extents of the memory

STILL = 1e-5  # change of the eye's direction or target that is rounding, not a drag

BEHIND = 0.3  # of the memory's extent: how far behind a camera one stands to look its way

HAIR = 0.01  # degrees: field of view of the camera that looks along a click's ray

EDGES = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1]  # of a camera's pyramid: eye, corners

FACES = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 2, 3], [1, 3, 4]]

KEEP = object()  # stands for "as it was" where None has a meaning of its own


class Scene3D(ipywidgets.VBox):
    """A memory to look at from all sides. Drag to turn, scroll to approach, right-drag to shift.

    A click on a surfel sets `picked_surfel` and lights the views that saw it; a click on a camera
    sets `picked_view` and lights the surfels that it saw; a click beside both (-1) lights all.
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
    ) -> None:
        """`path` cameras are drawn in black; more surfels than `cap` are drawn as a sample.

        Errors: ValueError for an unknown colour mode, or one about a retrieval without one.
        """
        self.memory, self.color, self.retrieval, self.path = memory, "", retrieval, path
        self.lit: tuple[int, ...] | None = None  # views whose surfels are lit, None = all
        self.size, self.cap = size, cap
        self._discs, self._frames, self._images = DiscMesh(size[1]), Lines(), Images()
        self._mark = ball()
        self._line = three.Line(geometry(position=np.zeros((2, 3), np.float32)))
        self._line.material = three.LineBasicMaterial(color="#9aa1a9")
        self._camera = three.PerspectiveCamera(up=list(UP), aspect=size[0] / size[1])
        self._sky = three.Mesh(
            three.SphereBufferGeometry(radius=1.0, widthSegments=16, heightSegments=12),
            three.MeshBasicMaterial(side="BackSide", visible=False),
        )
        self._orbit = three.OrbitControls(controlling=self._camera)
        self._picker = three.Picker(controlling=self._sky, event="click")
        self._picker.observe(self._clicked, "point")
        things = [self._discs.points, self._frames.lines, self._line, self._mark]
        # The world is shifted so that what is looked at is the origin: there orbits begin to turn,
        # and a page without a kernel cannot be told of another place.
        self._world = three.Group(children=[*things, *self._images.meshes])
        scene = three.Scene(children=[self._camera, self._world, self._sky], background=PAPER)
        self.renderer = three.Renderer(
            camera=self._camera,
            scene=scene,
            controls=[self._orbit, self._picker],
            width=size[0],
            height=size[1],
            antialias=True,
        )
        self.label, self.about = ipywidgets.HTML(), ipywidgets.HTML()
        self.whole = ipywidgets.Button(description="see all", layout=FIRM)
        self.inside = ipywidgets.Button(description="stand behind the camera", layout=FIRM)
        self.whole.on_click(lambda button: self.look_at_all())
        self.inside.on_click(lambda button: self._stand_behind())
        self.look_at_all()
        self.update(color=color)
        below = ipywidgets.HBox([self.whole, self.inside, self.about])
        super().__init__([self.renderer, self.label, below])

    def __repr__(self) -> str:
        return f"Scene3D({len(self.memory)} views, color={self.color!r})"

    # ---- what is shown ---------------------------------------------------------------------------

    def update(
        self,
        memory: Memory | None = None,
        color: str | None = None,
        retrieval: Retrieval | object | None = KEEP,
        path: Cameras | object | None = KEEP,
        lit: Sequence[int] | object | None = KEEP,
    ) -> None:
        """Show another memory, colour mode, retrieval or path, or light other views, in place; what
        is not named stays. Errors: ValueError as for a new scene; the scene stays as it was."""
        memory = self.memory if memory is None else memory
        color = self.color if color is None else color
        retrieval = self.retrieval if retrieval is KEEP else retrieval
        path = self.path if path is KEEP else path
        lit_views = self.lit if lit is KEEP else None if lit is None else tuple(lit)
        if lit_views is not None:
            lit_views = tuple(view for view in lit_views if 0 <= view < len(memory)) or None
        if retrieval is not None and len(retrieval.votes) > len(memory):
            raise ValueError(
                f"the retrieval chose among {len(retrieval.votes)} views, the memory holds "
                f"{len(memory)}: pass the retrieval that was made from it, or retrieval=None"
            )
        if color in OF_RETRIEVAL and retrieval is None and color == self.color:
            color = "image"  # the retrieval that the colours were about is gone
        colors = surfel_colors(memory, color, retrieval)
        self.memory, self.color, self.retrieval = memory, color, retrieval
        self.path, self.lit = path, lit_views
        views = None if lit_views is None else torch.tensor(lit_views, device=memory.device).long()
        self.paint = spotlight(memory, colors, views).cpu()
        if len(memory.surfels) > self._fitted and self._untouched():
            self.look_at_all()
        drawn = self._discs.show(memory, self.paint, self.cap)
        self._show_cameras()
        if self.picked_surfel >= len(memory.surfels):
            self.picked_surfel, self._mark.visible = -1, False
        if self.picked_view >= len(memory):
            self.picked_view = -1
        self.label.value = _caption(memory, drawn, legend(memory, color, retrieval), lit_views)

    def look_from(self, camera: Cameras) -> None:
        """Put the eye behind a single camera, looking its way: walls are open from behind."""
        step = BEHIND * self._extent * camera.forward.cpu()
        self._aim(camera.position.cpu() - step, camera.position.cpu() + step)

    def look_at_all(self) -> None:
        """Put the eye above and outside, with all surfels and cameras in sight; a memory that grows
        then stays in sight, until the scene is turned."""
        self._look()
        self._home = torch.cat([self.eye, self.target])
        self._fitted = len(self.memory.surfels)

    @property
    def eye(self) -> Float[Tensor, " 3"]:
        """Where the scene is looked at from, world."""
        return self._origin + torch.tensor(self._camera.position)

    @property
    def target(self) -> Float[Tensor, " 3"]:
        """The point in the middle of the canvas, about which dragging turns, world."""
        return self._origin + torch.tensor(self._orbit.target)

    def _untouched(self) -> bool:
        now = torch.cat([self.eye, self.target])
        return torch.allclose(now, self._home, atol=STILL * self._extent)

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
        """What the scene shows, from where it is looked at, drawn by our own splat."""
        shown, length, colors, filled = self._cameras()
        camera, aspect = (
            cameras(_pose(self.eye, self.target)[None], self._intrinsics()),
            self._camera.aspect,
        )
        drawn = (self.paint, shown, length, colors, filled, rows, aspect)
        return drawn_from(camera, self.memory.to("cpu"), *drawn, trim=False)

    # ---- cameras ---------------------------------------------------------------------------------

    def _cameras(self) -> tuple[Cameras, Tensor, list, Tensor]:
        """The cameras that are drawn, views first, their lengths, colours, and which are filled."""
        views, t = self.memory.views.cameras.to("cpu"), len(self.memory)
        length, colors = torch.full((t,), WEDGE * self._extent), view_colors(t)
        asked = torch.zeros(t, dtype=torch.bool)
        if self.lit is not None:
            asked[list(self.lit)] = True
        elif self.retrieval is not None:
            asked[self.retrieval.chosen.cpu()] = True
        if asked.any():
            colors[~asked] += FAINT * (1 - colors[~asked])
            length[asked] *= EMPHASIS
        others = [self.path] if self.path is not None else []
        others += [self.retrieval.query] if self.retrieval is not None else []
        for other in others:
            views = cat([views, other.to("cpu")])
            length = torch.cat([length, torch.full((len(other),), EMPHASIS * WEDGE * self._extent)])
        filled = torch.cat([asked, torch.zeros(len(views) - t, dtype=torch.bool)])
        return views, length, colors.tolist() + [INK] * (len(views) - t), filled

    def _show_cameras(self) -> None:
        shown, length, colors, filled = self._cameras()
        points = wedges(shown, length)
        ink = [int(INK[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        rgb = torch.tensor([ink if color == INK else color for color in colors]).reshape(-1, 3)
        self._pyramids, t = points[: len(self.memory)], len(self.memory)
        self._frames.show(points[:, EDGES].reshape(-1, 3), rgb.repeat_interleave(len(EDGES), 0))
        carry = list(range(t)) if t <= MAX_IMAGES else filled.nonzero().flatten().tolist()
        self._images.show(self.memory, points, carry[:MAX_IMAGES])
        steps = self.memory.views.cameras.position.cpu() if t > 1 else torch.zeros(2, 3)
        resized(self._line, position=steps.numpy())

    # ---- clicks ----------------------------------------------------------------------------------

    def _clicked(self, change: dict) -> None:
        """The picker reports a point of the sky behind the click. The click that ends a drag is
        told apart by the camera, which has turned since the last one."""
        turn = self._direction()
        dragged, self._turn = not np.allclose(turn, self._turn, atol=STILL), turn
        if not dragged:
            self.click(self.eye.tolist(), (self._origin + torch.tensor(change["new"])).tolist())

    def click(self, eye: Sequence[float], point: Sequence[float]) -> None:
        """What a click does whose ray goes from `eye` through `point`, world."""
        ray = torch.tensor(eye, dtype=torch.float32), torch.tensor(point, dtype=torch.float32)
        surfel, depth = _surfel_at(self.memory, *ray)
        view, nearer = _view_at(self._pyramids, *ray)
        surfel, view = (-1, view) if nearer < depth else (surfel, -1)
        self.pick(surfel, view)

    def pick(self, surfel: int = -1, view: int = -1) -> None:
        """Light the views that saw a surfel, or the surfels that a view saw; -1 for none."""
        saw = views_of(self.memory.packed_sightings, surfel).tolist() if surfel >= 0 else []
        self._mark.visible = surfel >= 0
        if surfel >= 0:
            self._mark.position = self.memory.surfels.position[surfel].tolist()
        self.update(lit=saw if surfel >= 0 else [view] if view >= 0 else None)
        self.about.value = _about(self.memory, surfel, view, saw)
        with self.hold_trait_notifications():
            self.picked_surfel, self.picked_view = surfel, view

    # ---- the eye ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """From above and outside, with all in sight."""
        memory, self._camera.fov = self.memory.to("cpu"), FOV
        shown = (
            memory.views.cameras
            if self.path is None
            else cat([memory.views.cameras, self.path.to("cpu")])
        )
        low, high = _bounds(memory.surfels.position, shown.position)
        centre, self._extent = (low + high) / 2, max(float((high - low).norm()) / 2, TINY)
        corners = torch.cartesian_prod(*torch.stack([low, high], 1))
        eye = centre - 4 * self._extent * _downwards(memory, shown)
        for _ in range(FITS):  # nearer makes near things larger still
            fitted = cameras(look_at(eye[None], centre[None]), self._intrinsics())
            filled = float((2 * project(fitted, corners[None])[0] - 1).abs().max())
            eye = centre + (eye - centre) * max(filled / FILL, 0.2)
        self._mark.scale = (0.012 * self._extent,) * 3
        self._sky.scale = (AWAY * self._extent,) * 3
        self._camera.near, self._camera.far = 0.01 * self._extent, 3 * AWAY * self._extent
        self._aim(eye, centre)

    def _direction(self) -> tuple[float, ...]:
        """The way the eye looks, and at what: dragging changes it, coming nearer does not."""
        way = torch.nn.functional.normalize(self.target - self.eye, dim=0)
        return (*way.tolist(), *self.target.tolist())

    def _intrinsics(self) -> Float[Tensor, "3 3"]:
        """Of the eye, whose stated field of view is vertical."""
        wide = self._camera.aspect * math.tan(math.radians(self._camera.fov) / 2)
        return intrinsics(2 * math.degrees(math.atan(wide)), self._camera.aspect)

    def _aim(self, eye: Float[Tensor, " 3"], target: Float[Tensor, " 3"]) -> None:
        self._origin = target
        self._world.position = (-target).tolist()
        self._camera.position = (eye - target).tolist()
        self._orbit.target = (0.0, 0.0, 0.0)
        # three's cameras look along -z, with y up; a page without a kernel has only this to go by
        axes = _pose(eye, target)[:3, :3] * torch.tensor([1.0, -1.0, -1.0])
        self._camera.quaternion = Rotation.from_matrix(axes.double()).as_quat().tolist()
        self._orbit.exec_three_obj_method("update")
        self._turn = self._direction()


def _downwards(memory: Memory, shown: Cameras) -> Float[Tensor, " 3"]:
    """Down at ELEVATION, the way that the given views look on average; +z where they look all
    round. Without given views, all cameras count."""
    given = memory.views.cameras[memory.views.given]
    forward = (given if len(given) else shown).forward
    up, angle = torch.tensor(UP), math.radians(ELEVATION)
    ahead = forward.mean(0) if len(forward) else torch.zeros(3)
    ahead = ahead - (ahead @ up) * up
    if ahead.norm() < ALL_ROUND:
        ahead = torch.tensor([0.0, 0.0, 1.0])
    return math.cos(angle) * torch.nn.functional.normalize(ahead, dim=0) - math.sin(angle) * up


def _bounds(
    surfels: Float[Tensor, "n 3"], eyes: Float[Tensor, "t 3"]
) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Corners of the box around all cameras and around the surfels without their farthest few."""
    ends = [eyes]
    if len(surfels):
        sample = surfels[:: 1 + len(surfels) // ENOUGH]
        ends.append(sample.quantile(torch.tensor([STRAYS, 1 - STRAYS]), 0))
    points = torch.cat(ends) if len(eyes) or len(surfels) else torch.zeros(1, 3)
    return points.amin(0), points.amax(0)


# ---- what a click meets --------------------------------------------------------------------------


def _pose(eye: Float[Tensor, " 3"], point: Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    """A camera at `eye` that looks at `point`, upright unless it looks straight up or down."""
    ahead = torch.nn.functional.normalize(point - eye, dim=0)
    level = abs(float(ahead @ torch.tensor(UP))) < 0.999
    return look_at(eye[None], (eye + ahead)[None], up=UP if level else (0.0, 0.0, 1.0))[0]


def _surfel_at(
    memory: Memory, eye: Float[Tensor, " 3"], point: Float[Tensor, " 3"]
) -> tuple[int, float]:
    """The surfel that a ray meets first and its distance; -1 and infinity for none."""
    if len(memory.surfels) == 0:
        return -1, math.inf
    camera = cameras(_pose(eye, point)[None], intrinsics(HAIR)).to(memory.device)
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
    normal_b = torch.linalg.cross(ray.expand_as(c), c - a)
    area = ((b - a) * normal_b).sum(-1)
    u = ((eye - a) * normal_b).sum(-1) / area
    across = torch.linalg.cross(eye - a, b - a)
    v = (across * ray).sum(-1) / area
    away = (across * (c - a)).sum(-1) / area
    met = (u >= 0) & (v >= 0) & (u + v <= 1) & (away > 0)  # NaN where parallel: not met
    away = torch.where(met, away, math.inf).amin(-1)
    nearest = int(away.argmin())
    return (nearest, float(away[nearest])) if away[nearest] < math.inf else (-1, math.inf)


# ---- words ---------------------------------------------------------------------------------------


def _caption(memory: Memory, drawn: int, meaning: str, lit: tuple[int, ...] | None) -> str:
    n = len(memory.surfels)
    held = f"{n:,} surfels" if drawn == n else f"a fixed sample of {drawn:,} of {n:,} surfels"
    if lit is not None:
        chips = ", ".join(chip(view) for view in lit)
        meaning = f"what {chips} saw, each surfel in the colour of the first of them that did"
    views = "1 view" if len(memory) == 1 else f"{len(memory)} views"
    return f"<b>{views}, {held}.</b> Colour: {meaning}."


def _about(memory: Memory, surfel: int, view: int, saw: list[int]) -> str:
    """What was clicked on, in words."""
    if surfel >= 0:
        names = ", ".join(chip(i) for i in saw)
        return f"Surfel {surfel}: written by view {saw[0]}, seen by {names}."
    if view >= 0:
        kind = "given" if memory.views.given[view] else "generated"
        count = len(surfels_of(memory.packed_sightings, view))
        return f"View {chip(view)}, {kind}: saw {count:,} surfels."
    return "Click on a surfel or a camera: who saw it, what did it see?"


def chip(view: int) -> str:
    """A view's number on its colour, in HTML."""
    ink = "#000" if float(view_colors(view + 1)[view] @ torch.tensor(LUMA)) > 0.5 else "#fff"
    style = f"background:{css(view)};color:{ink};padding:0 4px;border-radius:3px"
    return f'<span style="{style}">{view}</span>'


def css(view: int) -> str:
    """A view's colour as browsers want it."""
    return "rgb({},{},{})".format(*(255 * view_colors(view + 1)[view]).round().int().tolist())
