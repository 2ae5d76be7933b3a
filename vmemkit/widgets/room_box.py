"""RoomBox: draw the room that a photograph shows, see its depth at once, and walk in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from vmemkit.core import Views, horizontal_fov, intrinsics, load_image, photo_fov
from vmemkit.figures import depth_images
from vmemkit.scenes import (
    EYE_HEIGHT,
    PHOTO_FOV,
    VANISHING_POINT,
    Beginning,
    NoRoomError,
    PhotoRoom,
    default_room,
    example_size,
    fit_room,
    handle_places,
    move_handle,
    roll_of,
    with_fov,
    with_roll,
)
from vmemkit.widgets.gallery import Screen
from vmemkit.widgets.parts import DESCRIPTION, WRAPPED, Message, button, heading
from vmemkit.widgets.room_sketch import RoomSketch

WIDTH, DEPTH_WIDTH = 360, 300  # of the photo and of the depth beside it, pixels
SHOWN_SIDE = 800  # pixels: longer side of the photo as it is drawn
DEPTH_ROWS = 120  # pixels: height of the depth that is drawn
HELP = (
    "Drag the blue vanishing point, where edges that lead ahead meet, and the corners of the back wall. "
    "Tab and arrows do the same."
)
NUMBERS = {  # name: words, least, greatest, step
    "across": ("point across (%)", -1000.0, 1000.0, 1.0),
    "down": ("point down (%)", -1000.0, 1000.0, 1.0),
    "roll": ("roll (degrees)", -45.0, 45.0, 0.5),
    "left": ("left wall (m)", 0.01, 1000.0, 0.1),
    "right": ("right wall (m)", 0.01, 1000.0, 0.1),
    "ceiling": ("ceiling (m)", 0.01, 1000.0, 0.1),
    "back": ("back wall (m)", 0.01, 1000.0, 0.1),
    "eye_height": ("eye height (m)", 0.1, 20.0, 0.05),
    "fov": ("field of view (°)", 10.0, 150.0, 1.0),
}


class RoomBox(ipywidgets.VBox):
    """A photo taken for a box-shaped room, which one draws: drag the vanishing point and the corners
    of the back wall on the `sketch`, or set the `numbers`.

    `value` is the room, a trait to observe; `depth` is that of the photo, `view(height)` is ready for
    `vmemkit.begin`, `beginning(height)` for the Explorer. It starts from what the photo's lines show,
    or from a usual room. After "Tour into the picture" (Horry, Anjyo and Arai, SIGGRAPH 1997).
    """

    value = traitlets.Instance(PhotoRoom)
    started = traitlets.Int(0, help="how often the start button was pressed")

    def __init__(
        self,
        photo: str | os.PathLike | Float[Tensor, "3 h w"],
        fov: float | None = None,
        eye_height: float = EYE_HEIGHT,
        start: Callable[[RoomBox], object] | None = None,
    ) -> None:
        """`photo` is an image or its file, `fov` its horizontal field of view in degrees, `eye_height`
        metres. By default `fov` is that of the file's EXIF data, or PHOTO_FOV along the longer side.
        `start` is called with this widget when the start button is pressed.

        Errors: ValueError for a photo, a field of view or an eye height that is none.
        """
        self.photo = (photo if isinstance(photo, Tensor) else load_image(photo)).cpu()
        aspect = self.photo.shape[2] / self.photo.shape[1]
        if fov is None and not isinstance(photo, Tensor):
            fov = photo_fov(photo)
        fov = horizontal_fov(PHOTO_FOV, aspect) if fov is None else fov
        self._start, self.message = start, Message()
        try:
            first = fit_room(self.photo, intrinsics(fov, aspect), eye_height)
            self.message.say(f"This is what the photo's lines show. {HELP}")
        except NoRoomError:
            first = default_room(aspect, fov, eye_height)
            self.message.say(f"The photo's lines show no room, so this is a usual one. {HELP}")
        self.sketch, self.screen = RoomSketch(_small(self.photo), WIDTH), Screen(width=DEPTH_WIDTH)
        self.numbers = {name: _number(*settings) for name, settings in NUMBERS.items()}
        self.button = button("start the walk", self.start, button_style="primary")
        self.again = button("as the lines show", lambda: self._set(lambda room: first))
        self._first, self._syncing = first, False
        super().__init__(self._layout(), value=first)
        self._redraw()
        self.sketch.observe(self._dragged, "moved")
        self.observe(lambda change: self._redraw(), "value")
        for name, number in self.numbers.items():
            number.observe(lambda change, name=name: self._typed(name, change["new"]), "value")

    def __repr__(self) -> str:
        return f"RoomBox({self.value!r})"

    @property
    def depth(self) -> Float[Tensor, "h w"]:
        """Planar depth of the photo, metres."""
        return self.value.depth(*self.photo.shape[1:])

    def view(self, height: int) -> Views:
        """The photo as a view (1,) with camera and depth, cut to 4 : 3, `height` pixels high."""
        return self.value.view(self.photo, example_size(height))

    def beginning(self, height: int, seed: int = 0) -> Beginning:
        """Where a walk into the photo starts; a function for the Explorer's `examples`."""
        return Beginning(self.view(height), None, f"your photo, as you drew it; {self.value.about}")

    def start(self) -> None:
        """Press the start button."""
        self.started += 1
        if self._start is not None:
            self._start(self)

    def _dragged(self, change: dict) -> None:
        handle, u, v, _ = change["new"]
        self._set(lambda room: move_handle(room, handle, (float(u), float(v))))

    def _typed(self, name: str, number: float) -> None:
        if self._syncing:
            return
        if name in ("across", "down"):
            u, v = handle_places(self.value)[VANISHING_POINT]
            place = (number / 100, v) if name == "across" else (u, number / 100)
            self._set(lambda room: move_handle(room, VANISHING_POINT, place))
        elif name in ("roll", "fov"):
            change = with_roll if name == "roll" else with_fov
            self._set(lambda room: change(room, number))
        elif name == "eye_height":
            self._set(lambda room: room.scaled(number))
        else:
            distance: dict[str, Any] = {name: number}
            self._set(lambda room: replace(room, **distance))

    def _set(self, change: Callable[[PhotoRoom], PhotoRoom]) -> None:
        """Change the room; what is impossible is a message, and the room stays."""
        try:
            self.value = change(self.value)
        except ValueError as error:
            self.message.warn(str(error))
            return
        self.message.say(HELP)

    def _redraw(self) -> None:
        room = self.value
        self.sketch.show(room)
        columns = max(1, round(DEPTH_ROWS * self.photo.shape[2] / self.photo.shape[1]))
        depth = room.depth(DEPTH_ROWS, columns)
        images, scale = depth_images(depth[None])
        self.screen.show(images[0], scale)
        u, v = handle_places(room)[VANISHING_POINT]
        shown = {"across": 100 * u, "down": 100 * v, "roll": roll_of(room), "fov": room.fov}
        shown |= {"eye_height": room.floor}
        self._syncing = True
        try:
            for name, number in self.numbers.items():
                number.value = round(shown.get(name, getattr(room, name, 0.0)), 2)
        finally:
            self._syncing = False

    def _layout(self) -> list[ipywidgets.Widget]:
        camera = ("across", "down", "roll", "fov", "eye_height")
        walls = ("left", "right", "ceiling", "back")
        columns = [
            ipywidgets.VBox([heading(title), *(self.numbers[name] for name in names)])
            for title, names in (("Camera", camera), ("Walls, from the camera", walls))
        ]
        going = ipywidgets.HBox([self.button, self.again])
        beside = ipywidgets.VBox([self.screen, ipywidgets.HBox(columns), going])
        return [self.message, ipywidgets.HBox([self.sketch, beside], layout=WRAPPED)]


def _number(text: str, low: float, high: float, step: float) -> ipywidgets.BoundedFloatText:
    layout = ipywidgets.Layout(width="190px")
    return ipywidgets.BoundedFloatText(
        low, min=low, max=high, step=step, description=text, style=DESCRIPTION, layout=layout
    )


def _small(photo: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h2 w2"]:
    """The photo at a size that a browser shows at once."""
    scale = min(1.0, SHOWN_SIDE / max(photo.shape[1:]))
    size = [max(1, round(scale * side)) for side in photo.shape[1:]]
    small = torch.nn.functional.interpolate(photo[None], size, mode="bilinear", antialias=True)
    return small[0]
