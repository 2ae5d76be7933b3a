"""The published generator: multi-view latent diffusion (Stable Virtual Camera, VMem).

In: context views and target cameras. Out: target images, without depth. `DiffusionGenerator` chains
parts that can all be replaced and called alone: a codec, a `Window` of conditions, a denoiser and a
sampler. `generation.preset` builds one from weight files.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vmemkit.core import Cameras, Views, cat, check_cameras, seed_from, sent, stream
from vmemkit.generation.diffusion import sampling
from vmemkit.generation.diffusion.codecs import Codec, ImageEncoder
from vmemkit.generation.diffusion.conditioning import CameraScale, centred, conditions, scaled
from vmemkit.generation.diffusion.sampling import Condition, Denoise, Denoising, Levels
from vmemkit.generation.generator import Asked, Generation, check_images
from vmemkit.nets.unet import UNet

AT_ONCE = 4  # images that are sent to the codec or the image encoder together

CHOICES = {
    "sampler": ("euler", "dpm_solver"),
    "guidance": ("multiview", "temporal", "uniform"),
}


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of `DiffusionGenerator`. The defaults are VMem as released.

    Errors: ValueError for unknown words, and for numbers outside the ranges given here.
    """

    frames: int = 8  # of a window: context and targets; the last target is repeated up to this
    context: int = 4  # views at most; 1 to frames - 1
    steps: int = 50  # of the sampler
    sampler: Literal["euler", "dpm_solver"] = "euler"
    spacing: Literal["uniform", "karras"] = "uniform"  # of the noise levels
    # "temporal" is for targets on the way from the first context view to the last, see passes.py
    guidance: Literal["multiview", "temporal", "uniform"] = "multiview"
    guidance_scale: float = 2.0  # 1 = no guidance
    guidance_least: float = 1.2  # scale for targets that a context view shows almost exactly
    interval: tuple[float, float] = (0.0, math.inf)  # range of sigma in which guidance is on
    camera_scale: CameraScale = field(default_factory=CameraScale)
    levels: Levels = field(default_factory=Levels)
    preview_every: int = 0  # steps between states that are decoded to look at; 0 = the result only
    low_memory: bool = False  # keep codec and image encoder on the GPU only while they work
    compile: str | None = None  # mode of torch.compile, such as "default" or "reduce-overhead"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {choices}, got {getattr(self, name)!r}")
        if not 1 <= self.context < self.frames:
            raise ValueError(
                f"a window of {self.frames} frames needs 1 to {self.frames - 1} context views, got "
                f"{self.context}"
            )
        scales = (self.guidance_scale, self.guidance_least)
        if not all(map(math.isfinite, scales)) or not 0 <= self.interval[0] <= self.interval[1]:
            raise ValueError(
                f"guidance needs finite scales and an interval from low to high, got {scales} and "
                f"{self.interval}"
            )
        if self.preview_every < 0:
            raise ValueError(f"preview_every is 0 or more steps, got {self.preview_every}")
        # Raises ValueError for steps and spacings that the levels do not allow.
        self.levels.sigmas(self.steps, self.spacing)


@dataclass(frozen=True, repr=False)
class Window:
    """All that conditions one sampling: t frames, of which k are context, m targets, the rest padding."""

    cameras: Cameras  # (t,) in the network's units
    given: Bool[Tensor, " t"]  # true on context frames
    condition: Condition
    unconditional: Condition  # the same without context
    scale: Float[Tensor, " t"]  # of guidance
    targets: slice  # the frames of the m targets

    def __repr__(self) -> str:
        m, k = self.targets.stop - self.targets.start, int(self.given.sum())
        return f"Window({len(self.given)} frames: {k} of context, {m} targets)"


@dataclass(frozen=True, repr=False)
class DiffusionGenerator:
    """Multi-view diffusion (VMem, section 3.3; Stable Virtual Camera).

    A call takes these steps, each of which is a method:

    1. `encode` the context's images to latents and embeddings.
    2. Put cameras and context into a `window`.
    3. `sample` latents of all frames from noise, with the window's `denoiser`.
    4. Decode the targets' latents to images.

    It makes no depth, so a walk needs a reconstructor or `with_depth`. It works on the network's
    device and in its dtype, but samples stay float32. A call takes one number from `rng` and draws
    its noise from that on the CPU, so that every device gives the same views.
    """

    unet: UNet
    codec: Codec
    image_encoder: ImageEncoder | None = None  # without one, embeddings are zero
    config: DiffusionConfig = field(default_factory=DiffusionConfig)

    def __post_init__(self) -> None:
        """Errors: ValueError for a codec or an image encoder that does not fit the network."""
        unet, c = self.unet.config, self.codec.channels
        if (unet.out_channels, unet.in_channels) != (c, c + 1 + unet.dense_in_channels):
            raise ValueError(
                f"a codec of {c} channels needs a network of {c + 1 + unet.dense_in_channels} input "
                f"and {c} output channels, got {unet.in_channels} and {unet.out_channels}"
            )
        width = unet.context_dim if self.image_encoder is None else self.image_encoder.width
        if width != unet.context_dim:
            raise ValueError(f"the network takes embeddings of {unet.context_dim}, got {width}")

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.unet.parameters()) / 1e6
        how = f"{self.config.steps} steps of {self.config.sampler}"
        return f"DiffusionGenerator({millions:.1f} M parameters, {how})"

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """States of the targets (m,): previews if the config asks for them, then the result.

        Errors: ValueError for no or too many context views or targets, poses that are not rigid,
        images that are not finite, and sizes that codec and network cannot halve often enough.
        """
        for (state,) in self.together([(context, targets, rng)]):
            if state is not None:
                yield state

    @torch.no_grad()
    def together(self, asked: Sequence[Asked]) -> Iterator[list[Generation | None]]:
        """Several calls as one batch: after each step of the sampler the new state of each, or None.

        Each has the noise of its own rng. Its views differ from those of a call alone only by rounding,
        because libraries add up in another order for another number of rows.
        Errors: ValueError as for a call, and for images of different sizes.
        """
        sizes = {tuple(context.image.shape[2:]) for context, _, _ in asked}
        if len(sizes) != 1:
            raise ValueError(f"windows of one batch need images of one size, got {sorted(sizes)}")
        contexts = [self.encode(context) for context, _, _ in asked]
        targets = [cameras for _, cameras, _ in asked]
        windows = [self.window(*pair) for pair in zip(contexts, targets, strict=True)]
        every, step = self.config.preview_every, None
        for step in self.sample(_joined(windows), *(rng for _, _, rng in asked)):
            if step.sigma_next == 0:
                break
            if every and step.step % every == 0:
                rows = self._of_targets(step.denoised, windows)
                yield [self._decoded(x, c) for x, c in zip(rows, contexts, strict=True)]
            else:
                yield [None] * len(asked)
        rows = self._of_targets(step.x, windows)
        yield [self._result(latent, c) for latent, c in zip(rows, contexts, strict=True)]

    @torch.no_grad()
    def encode(self, views: Views) -> Views:
        """Views with latents and embeddings. Only missing ones are computed; if none is missing, the
        same object is returned.

        Latents of another codec are recognised by their shape only. If the shape is the same, replace
        them by None first. Errors: ValueError for images that are not finite or of unsuitable sizes.
        """
        (t, _, h, w), factor = views.image.shape, self.codec.factor
        check_images(views, factor * self.unet.config.stride)
        shape = (t, self.codec.channels, h // factor, w // factor)
        codes = {"latent": self._completed(views.latent, shape, views, self.codec)}
        if self.image_encoder is not None:
            shape = (t, self.image_encoder.width)
            codes["embedding"] = self._completed(views.embedding, shape, views, self.image_encoder)
        complete = all(getattr(views, name) is code for name, code in codes.items())
        return views if complete else views.replace(**codes)

    def window(self, context: Views, targets: Cameras) -> Window:
        """The conditions for encoded context views (k,) and target cameras (m,).

        Errors: ValueError for views without latents, and as for a call.
        """
        if targets.world_from_cam.ndim != 3 or context.latent is None:
            raise ValueError(
                f"a window needs target cameras (m,) and context views that `encode` has completed, "
                f"got {targets} and {context}"
            )
        check_cameras(targets)
        config, (k, m) = self.config, (len(context), len(targets))
        if not 1 <= k <= config.context or not 1 <= m <= config.frames - k:
            raise ValueError(
                f"a window has {config.frames} frames, 1 to {config.context} of them context and the "
                f"others targets, got {k} and {m}: retrieve fewer views (k) or make fewer at once (m)"
            )
        padding = targets[[-1] * (config.frames - k - m)]
        cameras = cat([context.cameras, targets, padding]).to(self.device)
        given = torch.arange(config.frames, device=self.device) < k
        cameras = scaled(centred(cameras), config.camera_scale)
        embedding = context.embedding
        if self.image_encoder is None:
            embedding = torch.zeros(k, self.unet.config.context_dim)
        condition, unconditional = conditions(
            cameras, given, context.latent.to(self.device), embedding.to(self.device)
        )
        limits = (config.guidance_scale, config.guidance_least)
        if config.guidance == "uniform":
            scale = torch.full((config.frames,), config.guidance_scale, device=self.device)
        elif config.guidance == "multiview":
            scale = sampling.multiview_scale(*limits, cameras, given)
        else:
            scale = sampling.temporal_scale(*limits, cameras, given, self._times(k, m))
        return Window(cameras, given, condition, unconditional, scale, slice(k, k + m))

    @torch.no_grad()
    def sample(self, window: Window, *rngs: torch.Generator) -> Iterator[Denoising]:
        """All frames of a window, from noise, a step at a time.

        Of several windows that are joined in one, each has its own rng.
        """
        config, latent = self.config, window.condition.latent
        shape = (config.frames, *latent.shape[1:])
        noise_rngs = [stream(seed_from(rng)) for rng in rngs]

        def noise() -> Tensor:
            drawn = [torch.randn(shape, generator=rng) for rng in noise_rngs]
            return sent(torch.cat(drawn), latent.device)

        sigmas = config.levels.sigmas(config.steps, config.spacing)
        x, denoise = sampling.initial_sample(noise(), sigmas), self.denoiser(window)
        if config.sampler == "euler":
            yield from sampling.euler(denoise, x, sigmas, noise)
        else:
            yield from sampling.dpm_solver(denoise, x, sigmas)

    def denoiser(self, window: Window) -> Denoise:
        """A function x [t c h w], sigma [] -> the clean x, by the network under guidance."""
        both = cat([window.unconditional, window.condition])
        denoise_both = self._denoise(both, window)
        alone = None
        if self.config.interval != (0.0, math.inf):
            alone = self._denoise(window.condition, window)

        def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            unconditional, conditional = denoise_both(x, sigma).chunk(2)
            return unconditional, conditional

        return sampling.guided_denoiser(pair, window.scale, self.config.interval, alone)

    def with_config(self, **changes: object) -> DiffusionGenerator:
        """The same parts with other settings, such as guidance="temporal", steps=30."""
        return replace(self, config=replace(self.config, **changes))

    @property
    def device(self) -> torch.device:
        return self.unet.out[-1].weight.device

    @functools.cached_property
    def _run(self) -> Callable:
        if self.config.compile is None:
            return self.unet.denoise
        return torch.compile(self.unet.denoise, mode=self.config.compile, fullgraph=True)

    def _times(self, k: int, m: int) -> Int[Tensor, " t"]:
        """Time of each frame, for targets on the way from the first context view to the last."""
        if k > 2:
            raise ValueError(
                f"temporal guidance is for targets after one context view or between two, got {k}: "
                'retrieve fewer, or use guidance="multiview"'
            )
        order = [-1, m][:k] + list(range(m))
        order += [m - 1] * (self.config.frames - k - m)
        return torch.tensor(order, device=self.device)

    def _denoise(self, condition: Condition, window: Window) -> Denoise:
        """The network as a denoiser under a condition (or two of a window, concatenated)."""
        dtype, t = self.unet.out[-1].weight.dtype, self.config.frames
        rows, _, h, w = window.condition.latent.shape
        # What does not change over the steps is computed once. Both conditions have the same rays, so
        # those of a single window are computed once, too.
        rays = (window.condition if rows == t else condition).dense.to(dtype)
        fixed = self.unet.fixed(condition.crossattn.to(dtype), rays, h, w, t)

        def network(x: Tensor, index: Tensor) -> Tensor:
            x = x.to(dtype, memory_format=torch.channels_last)
            return self._run(x, sent(index, x.device), fixed, t)

        levels = self.config.levels
        return lambda x, sigma: sampling.denoised(network, x, sigma, condition, levels)

    def _of_targets(
        self, x: Float[Tensor, "t c h w"], windows: Sequence[Window]
    ) -> list[Float[Tensor, "m c h w"]]:
        """The rows of each window's targets among the frames of all windows."""
        frames = x.split(self.config.frames)
        return [rows[window.targets] for rows, window in zip(frames, windows, strict=True)]

    def _result(self, latent: Float[Tensor, "m c hl wl"], context: Views) -> Generation:
        result, encoder = self._decoded(latent, context), self.image_encoder
        embedding = None if encoder is None else self._encoded(encoder, result.image)
        return result.replace(latent=latent.to(context.device), embedding=embedding)

    def _decoded(self, latent: Float[Tensor, "m c hl wl"], context: Views) -> Generation:
        """The images of latents, as large as those of the context and on its device."""
        with self._on_device(self.codec):
            image = self.codec.decode(latent.to(self.device)).to(context.device)
        zeros = image.new_zeros(len(image), *context.image.shape[2:])
        return Generation(image, depth=zeros + torch.nan, confidence=zeros)

    def _encoded(self, module: nn.Module, image: Float[Tensor, "n 3 h w"]) -> Tensor:
        """Codes of images by the codec or the image encoder, AT_ONCE images at a time."""
        encode = module.encode if module is self.codec else module
        with self._on_device(module):
            parts = [encode(part.to(self.device)) for part in image.split(AT_ONCE)]
            return torch.cat(parts).float().to(image.device)

    @contextmanager
    def _on_device(self, module: nn.Module) -> Iterator[None]:
        """Move the module to the network's device; in low-memory mode, afterwards to the CPU."""
        try:
            module.to(self.device)
            yield
        finally:
            if self.config.low_memory:
                module.to("cpu")

    def _completed(
        self, code: Tensor | None, shape: tuple[int, ...], views: Views, module: nn.Module
    ) -> Tensor:
        """Codes with the missing rows computed: those with NaN, or all if the shape is another, which
        means that another network made them."""
        if code is None or code.shape != shape:
            code = views.image.new_full(shape, torch.nan)
        missing = code.flatten(1).isnan().any(1)
        if missing.any():
            code = code.clone()
            code[missing] = self._encoded(module, views.image[missing])
        return code


def _joined(windows: Sequence[Window]) -> Window:
    """The frames of all windows as one, whose `targets` are those of the first alone."""
    if len(windows) == 1:
        return windows[0]
    return Window(
        cat([window.cameras for window in windows]),
        torch.cat([window.given for window in windows]),
        cat([window.condition for window in windows]),
        cat([window.unconditional for window in windows]),
        torch.cat([window.scale for window in windows]),
        windows[0].targets,
    )
