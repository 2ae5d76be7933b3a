"""Generation: context views and target cameras in, target views out.

`DiffusionGenerator` is the published generator: a multi-view diffusion model, all of whose parts can
be replaced and called alone. `preset` builds it from weight files, and the small `rgbd` generator
from those that ship with the project. `warp.Warp` needs no weights. What they have in common, such as
`Generation`, is in `generation` and may be had from here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vmemkit.core import Cameras, Views, cat, check, seed_from, stream
from vmemkit.generation.diffusion import sampling
from vmemkit.generation.diffusion.codecs import Codec, ImageEncoder
from vmemkit.generation.diffusion.conditioning import CameraScale, centred, conditions, scaled
from vmemkit.generation.diffusion.sampling import Condition, Denoise, Denoising, Levels, Network
from vmemkit.generation.generator import Generation, check_images
from vmemkit.nets.unet import UNet

AT_ONCE = 4  # images that are sent to the codec or the image encoder together


@dataclass(frozen=True)
class DiffusionConfig:
    """Defaults: VMem as released."""

    frames: int = 8  # of a window: context and targets, the last target repeated up to this
    context: int = 4  # views at most
    steps: int = 50
    sampler: Literal["euler", "dpm_solver"] = "euler"
    spacing: Literal["uniform", "karras"] = "uniform"  # of the noise levels
    # temporal: for targets on the way from the first context view to the last, as in `passes`
    guidance: Literal["multiview", "temporal", "uniform"] = "multiview"
    guidance_scale: float = 2.0  # 1 = none
    guidance_least: float = 1.2  # where a context view is as good as the target
    interval: tuple[float, float] = (0.0, math.inf)  # of sigma, outside which guidance is off
    camera_scale: CameraScale = field(default_factory=CameraScale)
    levels: Levels = field(default_factory=Levels)
    preview_every: int = 0  # steps between states that are decoded to look at; 0 = the result only
    low_memory: bool = False  # codec and image encoder are on the GPU only while they work
    compile: str | None = None  # mode of torch.compile, such as "default" or "reduce-overhead"

    def __post_init__(self) -> None:
        """Errors: ValueError for names that there are not, and windows that cannot be."""
        for name, choices in (
            ("sampler", ("euler", "dpm_solver")),
            ("spacing", ("uniform", "karras")),
            ("guidance", ("multiview", "temporal", "uniform")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {choices}, got {getattr(self, name)!r}")
        if not 1 <= self.context < self.frames:
            raise ValueError(
                f"a window of {self.frames} frames needs 1 to {self.frames - 1} context views, got "
                f"{self.context}"
            )
        numbers = (self.guidance_scale, self.guidance_least)
        if not all(map(math.isfinite, numbers)) or not 0 <= self.interval[0] <= self.interval[1]:
            raise ValueError(
                f"guidance needs finite scales and an interval from low to high, got {numbers} and "
                f"{self.interval}"
            )
        if self.preview_every < 0:
            raise ValueError(f"preview_every is 0 or more steps, got {self.preview_every}")
        self.levels.sigmas(self.steps, self.spacing)  # refuses steps that it cannot space


@dataclass(frozen=True, repr=False)
class Window:
    """What the network is told about one step: t frames, k of context, m targets, then padding."""

    cameras: Cameras  # (t,) in the network's units
    given: Bool[Tensor, " t"]
    condition: Condition
    unconditional: Condition
    scale: Float[Tensor, " t"]  # of guidance
    targets: slice  # frames that are wanted

    def __repr__(self) -> str:
        m, k = self.targets.stop - self.targets.start, int(self.given.sum())
        return f"Window({len(self.given)} frames: {k} of context, {m} targets)"


@dataclass(frozen=True, repr=False)
class DiffusionGenerator:
    """Multi-view diffusion (VMem, section 3.3; Stable Virtual Camera).

    Images become latents (`encode`), cameras and context a `window`, noise becomes latents of the
    targets step by step (`sample`), and these become images; calling it does all of that. It makes
    no depth: a walk needs a reconstructor, or `with_depth`. It works where the network is, in its
    dtype; samples are float32. Each call takes one number from `rng` and draws all its noise from a
    generator of its own on the CPU, so that neither the device nor what others draw matters.
    """

    unet: UNet
    codec: Codec
    image_encoder: ImageEncoder | None = None  # None: embeddings are zero
    config: DiffusionConfig = field(default_factory=DiffusionConfig)

    def __post_init__(self) -> None:
        """Errors: ValueError for parts that do not fit each other."""
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

    @torch.no_grad()
    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """States of the targets (m,): previews if the config asks for them, then the result.

        Errors: ValueError for no or too many context views or targets, poses that are not rigid, and
        images that are not finite or whose sizes the codec and the network cannot halve often enough.
        """
        context, size = self.encode(context), context.image.shape[2:]
        window, every = self.window(context, targets), self.config.preview_every
        state = None
        for state in self.sample(window, rng):
            if every and state.step % every == 0 and state.sigma_next > 0:
                yield self._shown(state.denoised[window.targets], size, context.device)
        latent = state.x[window.targets]
        made = self._shown(latent, size, context.device)
        embedding = self._embedded(made.image)
        yield made.replace(latent=latent.to(context.device), embedding=embedding)

    @torch.no_grad()
    def encode(self, views: Views) -> Views:
        """Views with latents and embeddings; only those that are missing are made. The same object,
        if none is. Latents of another codec are known by their shape only: replace them by None.
        Errors: ValueError for images that are not finite or cannot be halved often enough."""
        (t, _, h, w), factor = views.image.shape, self.codec.factor
        check_images(views, factor * self.unet.config.stride)
        shape = (t, self.codec.channels, h // factor, w // factor)
        codes = {"latent": self._completed(views.latent, shape, views, self._latents)}
        if self.image_encoder is not None:
            shape = (t, self.image_encoder.width)
            codes["embedding"] = self._completed(views.embedding, shape, views, self._embedded)
        nothing_new = all(getattr(views, name) is code for name, code in codes.items())
        return views if nothing_new else views.replace(**codes)

    def window(self, context: Views, targets: Cameras) -> Window:
        """What the network is told, of encoded context views (k,) and target cameras (m,).

        Errors: ValueError for views that `encode` has not seen, and as for a call.
        """
        if targets.world_from_cam.ndim != 3 or context.latent is None:
            raise ValueError(
                f"a window needs target cameras (m,) and context views that `encode` has completed, "
                f"got {targets} and {context}"
            )
        check(targets)
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
    def sample(self, window: Window, rng: torch.Generator) -> Iterator[Denoising]:
        """All frames of a window, from noise, a step at a time."""
        config, like = self.config, window.condition.latent
        own = stream(seed_from(rng))

        def noise() -> Tensor:
            return torch.randn(like.shape, generator=own).to(like.device)

        sigmas = config.levels.sigmas(config.steps, config.spacing)
        x, denoise = sampling.start(noise(), sigmas), self.denoiser(window)
        if config.sampler == "euler":
            yield from sampling.euler(denoise, x, sigmas, noise)
        else:
            yield from sampling.dpm_solver(denoise, x, sigmas)

    def denoiser(self, window: Window) -> Denoise:
        """x [t c h w], sigma [] -> the clean x, by the network under guidance."""
        config, levels = self.config, self.config.levels
        both = cat([window.unconditional, window.condition])
        network = self._network(both, window)
        alone = None
        if config.interval != (0.0, math.inf):
            single = self._network(window.condition, window)
            alone = lambda x, sigma: sampling.denoised(  # noqa: E731
                single, x, sigma, window.condition, levels
            )

        def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            unconditional, conditional = sampling.denoised(network, x, sigma, both, levels).chunk(2)
            return unconditional, conditional

        return sampling.guided(pair, window.scale, config.interval, alone)

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
        """Of the frames of a window, for targets on the way from the first context view to the last."""
        if k > 2:
            raise ValueError(
                f"temporal guidance is for targets after one context view or between two, got {k}: "
                'retrieve fewer, or use guidance="multiview"'
            )
        order = [-1, m][:k] + list(range(m))
        order += [m - 1] * (self.config.frames - k - m)
        return torch.tensor(order, device=self.device)

    def _network(self, condition: Condition, window: Window) -> Network:
        """The network with all that does not change over the steps worked out. Rays are the same with
        and without context, so they are given once."""
        dtype, (t, _, h, w) = self.unet.out[-1].weight.dtype, window.condition.latent.shape
        rays = window.condition.dense.to(dtype)
        fixed = self.unet.fixed(condition.crossattn.to(dtype), rays, h, w, t)

        def network(x: Tensor, index: Tensor) -> Tensor:
            x = x.to(dtype, memory_format=torch.channels_last)
            return self._run(x, index.to(x.device), fixed, t)

        return network

    def _shown(
        self, latent: Float[Tensor, "m c hl wl"], size: tuple[int, int], device: torch.device
    ) -> Generation:
        with self._awake(self.codec) as codec:
            image = codec.decode(latent.to(self.device)).to(device)
        unknown = image.new_zeros(len(image), *size)
        return Generation(image, unknown + torch.nan, unknown)

    def _latents(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
        with self._awake(self.codec) as codec:
            return self._in_parts(codec.encode, image)

    def _embedded(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"] | None:
        if self.image_encoder is None:
            return None
        with self._awake(self.image_encoder) as encoder:
            return self._in_parts(encoder, image)

    def _in_parts(self, encode: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """Codes of any number of images, of which few are on the GPU at a time."""
        parts = [encode(part.to(self.device)) for part in image.split(AT_ONCE)]
        return torch.cat(parts).float().to(image.device)

    @contextmanager
    def _awake(self, module: nn.Module) -> Iterator[nn.Module]:
        """The module where the network is; sent away again if memory is short."""
        try:
            yield module.to(self.device)
        finally:
            if self.config.low_memory:
                module.to("cpu")

    def _completed(
        self, code: Tensor | None, shape: tuple[int, ...], views: Views, make: Callable
    ) -> Tensor:
        """A column of codes with the missing rows made: those that are NaN, or all if they have
        another shape, which is another network's."""
        if code is None or code.shape != shape:
            code = views.image.new_full(shape, torch.nan)
        missing = code.flatten(1).isnan().any(1)
        if missing.any():
            code = code.clone()
            code[missing] = make(views.image[missing])
        return code
