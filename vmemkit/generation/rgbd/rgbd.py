"""RGB-D diffusion: the small generator that ships with its weights, trained on made-up rooms.

In: context views with depth, target cameras. Out: target views with depth. It is the multi-view UNet
of the published models (VMem, section 3.3) at a small size, on pixels instead of latents.
What the context shows of a target is reprojected and kept. The rest starts from a guess at the room's
shape (`layout`) and is sampled. The network is given a noisy picture, the guess, the camera rays and
the context's patches, which it attends to, and estimates the clean picture. Depth is a fourth channel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, pixel_shuffle, pixel_unshuffle

from vmemkit.core import (
    Cameras,
    TensorStruct,
    Views,
    cat,
    check_cameras,
    data_file,
    seed_from,
    stream,
    unproject,
)
from vmemkit.generation.diffusion import sampling
from vmemkit.generation.diffusion.conditioning import pluecker
from vmemkit.generation.diffusion.sampling import Denoise, LogLevels
from vmemkit.generation.generator import IMAGINED, SEEN, Generation, check_context, check_images
from vmemkit.generation.reprojection import (
    ContextBatch,
    Reprojection,
    completed,
    context_batch,
    relative,
    reproject,
)
from vmemkit.generation.rgbd.room_box import FEATURES, REACH, layout
from vmemkit.nets.unet import UNet, UNetConfig
from vmemkit.nets.weights import load_into, read

WEIGHTS = "rooms.safetensors"  # name of the weight file in data/
FACTOR = 2  # image pixels per latent pixel, along a side
LATENT = 4 * FACTOR**2  # latent channels: RGB-D by space to depth
PATCH = 8  # image pixels of a context patch, along a side

TOKEN = (
    4 * 4 + 3 + 2
)  # channels per patch: RGB-D of its quarters, its place, shares known and given

COLOR_STD = 0.25  # standard deviation of colours in made-up rooms, about
DEPTH_MEAN, DEPTH_STD = 2.5, 0.5  # metres, and standard deviation of log depth, in the same rooms
DEPTH_LIMITS = (-4.0, 4.0)  # range of encoded depth, in standard deviations

# Rows: brightness, two colour differences, depth. In pictures these are almost uncorrelated.
OPPONENT = ((1, 1, 1, 0), (1, 0, -1, 0), (1, -2, 1, 0), (0, 0, 0, 1))

# Power of what the layout leaves unexplained, a fit to 512 views of made-up rooms: its level per row
# of OPPONENT (per pixel), the corner frequency (waves per picture), and the exponent of the fall-off.
SPECTRUM = ((0.244, 0.027, 0.0042, 0.11), 0.75, 1.3)

UNET = UNetConfig(
    in_channels=2 * LATENT + FACTOR**2 + FEATURES,
    model_channels=32,
    out_channels=LATENT,
    num_frames=1,
    num_res_blocks=1,
    attention_resolutions=(4,),  # 8 x 8 for images of 64 x 64 pixels
    channel_mult=(2, 2, 3, 3),
    num_head_channels=32,
    transformer_depth=(1, 1, 1, 1),
    context_dim=TOKEN,
)


# ---- what the network is given -------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Cues(TensorStruct):
    """The network's input besides the noisy picture, for n = b m targets of b contexts."""

    base: Float[Tensor, "n c hl wl"]  # reprojected pixels, elsewhere the layout: the starting point
    known: Float[Tensor, "n c hl wl"]  # 1 where the base is reprojected, and is kept
    concat: Float[Tensor, "n e hl wl"]  # further input channels
    tokens: Float[Tensor, "n s d"]  # the context's patches
    rays: Float[Tensor, "n 6 hl wl"]  # Pluecker rays


def encode(
    image: Float[Tensor, "*b 3 h w"], depth: Float[Tensor, "*b h w"]
) -> Float[Tensor, "*b c hl wl"]:
    """RGB-D as latents of about zero mean and unit variance; unknown depth is encoded as the mean."""
    pixels = _standardised(image, depth)
    pixels[..., 3, :, :].clamp_(*DEPTH_LIMITS)
    return pixel_unshuffle(pixels, FACTOR)


def _standardised(image: Tensor, depth: Tensor) -> Float[Tensor, "*b 4 h w"]:
    far = ((depth / DEPTH_MEAN).log() / DEPTH_STD).nan_to_num(0.0)
    return torch.cat([(image - 0.5) / COLOR_STD, far[..., None, :, :]], -3)


def decode(latent: Float[Tensor, "*b c hl wl"]) -> tuple[Tensor, Tensor]:
    """Image [*b 3 h w] in [0, 1] and depth [*b h w] of latents."""
    pixels = pixel_shuffle(latent, FACTOR)
    depth = DEPTH_MEAN * (pixels[..., 3, :, :].clamp(*DEPTH_LIMITS) * DEPTH_STD).exp()
    return (pixels[..., :3, :, :] * COLOR_STD + 0.5).clamp(0, 1), depth


def cues(context: ContextBatch, targets: Cameras) -> tuple[Cues, Reprojection]:
    """The network's input for targets (b, m), and what the context shows of them."""
    height, width = context.depth.shape[-2:]
    seen, room = reproject(context, targets), layout(context, targets, height, width)
    image = torch.where(seen.known[:, :, None], seen.image, room.image)
    base = encode(image, torch.where(seen.known, seen.depth, room.depth)).flatten(0, 1)
    known = pixel_unshuffle(seen.known.flatten(0, 1)[:, None].float(), FACTOR)
    features = avg_pool2d(room.features.flatten(0, 1), FACTOR)
    tokens = _tokens(context, room.frame_from_world)
    given = Cues(
        base=base,
        known=known.repeat(1, 4, 1, 1),
        concat=torch.cat([base, known, features], 1),
        tokens=tokens.repeat_interleave(targets.world_from_cam.shape[1], 0),
        rays=_rays(relative(targets, room.frame_from_world), *base.shape[2:]),
    )
    return given, seen


def _rays(cameras: Cameras, height: int, width: int) -> Float[Tensor, "n 6 hl wl"]:
    """Pluecker rays of cameras (b, m) in the frame of the layout, in which up is always up."""
    (b, m), eye = cameras.K.shape[:2], torch.eye(4, device=cameras.device)
    # `pluecker` takes its first camera as the origin: put one at the layout's, and drop its rays.
    origin = Cameras(eye[None], cameras.K[:1, 0])
    flat = cameras.map(lambda tensor: tensor.flatten(0, 1))
    return pluecker(cat([origin, flat]), height, width)[1:].reshape(b * m, 6, height, width)


def _tokens(
    context: ContextBatch, frame_from_world: Float[Tensor, "b 4 4"]
) -> Float[Tensor, "b s d"]:
    """The context's patches; those of absent views are zero, so that attention gets nothing there."""
    cameras = relative(context.cameras, frame_from_world)
    pixels = _standardised(context.image, context.depth).flatten(0, 1)
    quarters = pixel_unshuffle(avg_pool2d(pixels, PATCH // 2), 2)
    usable = context.depth.isfinite()
    point = unproject(cameras, context.depth).nan_to_num(0.0).flatten(0, 1).movedim(-1, 1) / REACH
    flags = torch.stack([usable, context.given], 2).flatten(0, 1).to(point)
    share = avg_pool2d(flags, PATCH)
    place = avg_pool2d(point, PATCH) / share[:, :1].clamp(min=1e-3)
    tokens = torch.cat([quarters, place, share], 1).flatten(2).transpose(1, 2)
    b, k = context.present.shape
    tokens = tokens.unflatten(0, (b, k)) * context.present[:, :, None, None]
    return tokens.flatten(1, 2)


# ---- denoising -----------------------------------------------------------------------------------


def network(unet: UNet, given: Cues, levels: LogLevels, frames: int, half: bool = False) -> Denoise:
    """A function x [n c hl wl], sigma [] or [n] -> the clean x.

    The network gets the best linear guess at the clean x, so that it need not learn to average noise.
    Its output corrects the guess, in units of the error that the guess is expected to have.
    frames: targets per context. half: the network runs in bfloat16 where it can, the filter never.
    """
    (height, width), unknown = given.base.shape[2:], 1 - given.known
    pixels = [FACTOR * height, FACTOR * width]
    precision = torch.autocast(given.base.device.type, torch.bfloat16, enabled=half)
    with precision:
        fixed = unet.fixed(given.tokens, given.rays, height, width, frames)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        index, snapped = levels.snap(sigma)
        snapped = snapped.to(x.device).view(-1, 1, 1, 1)
        guess = given.base + unknown * wiener(unknown * (x - given.base), snapped)
        inputs = torch.cat([guess, given.concat], 1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with precision:
            change = unet.denoise(inputs, index.view(-1).to(x.device), fixed, frames)
        usual_error = linear_error(snapped.view(-1), *pixels).sqrt().view(-1, 1, 1, 1)
        return guess + unknown * usual_error * change.float()

    return denoise


def wiener(
    latent: Float[Tensor, "n c h w"], sigma: Float[Tensor, "#n 1 1 1"]
) -> Float[Tensor, "n c h w"]:
    """The linear filter that best removes white noise of standard deviation sigma from the difference
    of a picture and its layout (Wiener, 1949).

    1. Mix the channels so that they are uncorrelated (OPPONENT).
    2. Transform to frequencies by the discrete cosine transform.
    3. Multiply each frequency by its power over the power with noise, and transform back.
    """
    pixels = pixel_shuffle(latent, FACTOR)
    mix = pixels.new_tensor(OPPONENT)
    mix = mix / mix.norm(dim=1, keepdim=True)
    power = _power(*pixels.shape[2:], pixels.device)
    down, across = (_cosines(n, pixels.device) for n in pixels.shape[2:])
    waves = down @ torch.einsum("ij,njhw->nihw", mix, pixels) @ across.T
    waves = waves * (power / (power + sigma**2))
    pixels = torch.einsum("ji,njhw->nihw", mix, down.T @ waves @ across)
    return pixel_unshuffle(pixels, FACTOR)


def linear_error(sigma: Float[Tensor, " n"], height: int, width: int) -> Float[Tensor, " n"]:
    """Mean squared error that `wiener` is expected to leave in pictures of height x width."""
    power, variance = _power(height, width, sigma.device), sigma.view(-1, 1, 1, 1) ** 2
    return (power * variance / (power + variance)).mean((1, 2, 3))


@functools.lru_cache(maxsize=16)
def _power(height: int, width: int, device: torch.device) -> Float[Tensor, "4 h w"]:
    """SPECTRUM at every frequency of the cosine transform, per row of OPPONENT.

    Frequencies are in waves per picture, so that a picture and its half-size copy have the same.
    """
    rows, columns = (torch.arange(n, device=device) / 2 for n in (height, width))
    levels, corner, exponent = SPECTRUM
    fall = (1 + (rows[:, None] ** 2 + columns**2) / corner**2) ** exponent
    return torch.tensor(levels, device=device).view(-1, 1, 1) * height * width / fall


@functools.lru_cache(maxsize=16)
def _cosines(n: int, device: torch.device) -> Float[Tensor, "n n"]:
    """The orthonormal discrete cosine transform (type II) as a matrix."""
    k = torch.arange(n, device=device)
    waves = torch.cos(torch.pi * (k + 0.5) * k[:, None] / n) * (2 / n) ** 0.5
    return torch.where(k[:, None] == 0, waves / 2**0.5, waves)


# ---- the generator -------------------------------------------------------------------------------


@dataclass(frozen=True)
class RgbdConfig:
    """Settings of `RgbdDiffusion`. Errors: ValueError for values outside the ranges given here."""

    steps: int = 8  # of the sampler, 2 or more
    temperature: float = (
        0.5  # factor on the first noise, 0 to 1: lower keeps samples near their mean
    )
    together: int = 1  # targets sampled at once, 1 or more; later ones have earlier ones as context
    levels: LogLevels = field(default_factory=LogLevels)
    preview_every: int = 0  # steps between states that are yielded to look at; 0 = whole views only

    def __post_init__(self) -> None:
        if self.together < 1 or self.preview_every < 0 or not 0 <= self.temperature <= 1:
            raise ValueError(
                "need together >= 1 targets, preview_every >= 0 steps and a temperature of 0 to 1, got "
                f"{self.together}, {self.preview_every} and {self.temperature}"
            )
        self.levels.sigmas(self.steps)  # raises ValueError for a number of steps it cannot space


@dataclass(frozen=True, repr=False)
class RgbdDiffusion:
    """A generator of target views with depth.

    What the context shows is reprojected, not painted anew, and the rest is sampled. Each target
    becomes context for the next, so that targets agree with each other. All noise follows from one
    number taken from `rng`, and is drawn on the CPU, so that every device gives the same views.
    """

    unet: UNet
    config: RgbdConfig = field(default_factory=RgbdConfig)

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.unet.parameters()) / 1e6
        return f"RgbdDiffusion({millions:.1f} M parameters, {self.config.steps} steps)"

    @torch.no_grad()
    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """States of the targets (m,), each with what is known so far; the last is the result.

        Errors: ValueError for no context or targets, context without depth, poses that are not
        rigid, and images that are not finite or not multiples of 16 pixels.
        """
        if targets.world_from_cam.ndim != 3 or len(targets) == 0:
            raise ValueError(f"need one or more target cameras (m,), got {targets}")
        check_cameras(targets)
        check_context(context)
        check_images(context, FACTOR * self.unet.config.stride)
        noise_rng, home = stream(seed_from(rng)), context.device
        context, targets = _with_confidence(context.to(self.device)), targets.to(self.device)
        unknown = context.image.new_zeros(len(targets), *context.image.shape[2:])
        nothing = Generation(
            unknown[:, None].repeat(1, 3, 1, 1), depth=unknown + torch.nan, confidence=unknown
        )
        finished = nothing[:0]
        while len(finished) < len(targets):
            part = targets[len(finished) : len(finished) + self.config.together]
            for state in self._samples(context, part, noise_rng):
                whole = cat([finished, state, nothing[len(finished) + len(part) :]])
                yield whole.to(home)
            finished = cat([finished, state])
            context = cat([context, state.views(part)])

    def with_config(self, **changes: object) -> RgbdDiffusion:
        """The same network with other settings, such as steps=20."""
        return replace(self, config=replace(self.config, **changes))

    @property
    def device(self) -> torch.device:
        return self.unet.out[-1].weight.device

    def _samples(
        self, context: Views, targets: Cameras, noise_rng: torch.Generator
    ) -> Iterator[Generation]:
        """States of targets that are sampled together."""
        config, m = self.config, len(targets)
        given, seen = cues(context_batch(context), targets[None])
        sigmas = config.levels.sigmas(config.steps)
        noise = torch.randn(given.base.shape, generator=noise_rng).to(given.base.device)
        denoise = network(self.unet, given, config.levels, m)
        x = sampling.initial_sample(config.temperature * noise, sigmas)
        for step in sampling.euler(denoise, x, sigmas):
            last = step.step + 1 == step.steps
            if last or (config.preview_every and step.step % config.preview_every == 0):
                yield completed(seen, *decode(step.denoised))


def _with_confidence(views: Views) -> Views:
    """Views without codes, and with a confidence, so that generated views can be added to them."""
    confidence = views.confidence
    if confidence is None:
        confidence = torch.where(views.given[:, None, None], SEEN, IMAGINED).expand_as(views.depth)
    return views.replace(confidence=confidence, latent=None, embedding=None)


def load_rgbd(
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    **changes: object,
) -> RgbdDiffusion:
    """The generator with the weights that ship with the project (`data/`), or those of `folder`.

    device: by default the GPU, if there is one. changes: fields of `RgbdConfig`.
    Errors: ValueError for weights that are missing, broken, or another network's.
    """
    file = data_file(WEIGHTS) if folder is None else Path(folder) / WEIGHTS
    if not file.is_file():
        raise ValueError(
            f"{file} is missing: it comes with the repository (clone it anew and install it with pip "
            "install -e .), or is written by `vmemkit train rooms`"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.device("meta"):
        unet = UNet(UNET)
    load_into(unet, read(file), f"rooms (read from {file})", torch.float32)
    unet = unet.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return RgbdDiffusion(unet, RgbdConfig(**changes))
