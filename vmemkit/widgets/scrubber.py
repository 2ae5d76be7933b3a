"""SamplingScrubber: the way from noise to views, a slider over its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import ipywidgets
import torch
from torch import Tensor

from vmemkit.generation.diffusion import Denoising
from vmemkit.widgets.gallery import Gallery
from vmemkit.widgets.parts import heading, slider

HEIGHT = 110  # of the frames, pixels
GREY = "#969696"  # frames are not yet views, so they have no colour of their own


class SamplingScrubber(ipywidgets.VBox):
    """The steps of a sampler: the frames with the noise that is left, and the guess at the clean
    frames that the step follows. `step` is the slider, `value` the state that is shown."""

    def __init__(
        self,
        states: Iterable[Denoising],
        decode: Callable[[Tensor], Tensor],
        names: Sequence[str] | None = None,
    ) -> None:
        """`decode` turns latents into images, such as `codec.decode`; `names` has one per frame.

        Errors: ValueError for no states, or another number of names than of frames.
        """
        self.states, self._decode = list(states), decode
        if not self.states:
            raise ValueError("need the states of a sampler, got none")
        frames = len(self.states[0].x)
        self._names = [str(i) for i in range(frames)] if names is None else list(names)
        if len(self._names) != frames:
            raise ValueError(f"need a name for each of {frames} frames, got {len(self._names)}")
        last = len(self.states) - 1
        self.step = slider("step", last, 0, last, width="420px")
        self.play = ipywidgets.Play(last, 0, last, interval=250)
        ipywidgets.link((self.play, "value"), (self.step, "value"))
        self.about = ipywidgets.HTML()
        self.noisy, self.clean = Gallery(height=HEIGHT), Gallery(height=HEIGHT)
        self.step.observe(lambda change: self._redraw(), "value")
        self._redraw()
        super().__init__(
            [
                ipywidgets.HBox([self.play, self.step, self.about]),
                heading("The sample, with the noise that is left"),
                self.noisy,
                heading("The guess at the clean sample that this step followed"),
                self.clean,
            ]
        )

    def __repr__(self) -> str:
        return f"SamplingScrubber({len(self.states)} steps, {len(self._names)} frames)"

    @property
    def value(self) -> Denoising:
        """The state that is shown."""
        return self.states[self.step.value]

    def _redraw(self) -> None:
        state = self.value
        self.about.value = f"sigma {state.sigma:.3g} → {state.sigma_next:.3g}"
        for gallery, latent in ((self.noisy, state.x), (self.clean, state.denoised)):
            with torch.no_grad():
                images = self._decode(latent)
            colors = [GREY] * len(images)
            gallery.show(images, range(len(images)), self._names, self._names, colors)
