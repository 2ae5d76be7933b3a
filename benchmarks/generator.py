"""How fast is the published network here, and how much memory does each mode take?

    python benchmarks/generator.py --save     # on a GPU: full size, 576 x 576; on a CPU: a small one
    python benchmarks/generator.py --memory   # memory of each mode, counted on the meta device

Weights are random, which costs as much as trained ones. The reference runs in the same process:
float32 weights (on a GPU under bfloat16 autocast), general cross-attention, nothing cached over the
steps, 50 Euler steps, all frames decoded. Ours is `DiffusionGenerator` with `FAST`, on a GPU with
bfloat16 weights, eager and compiled. A window begins with encoded context and ends with images.
Rates count the operations of the reference's step for both, so that saved work counts as speed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vmemkit.core import Cameras, Views, cameras, cat, intrinsics
from vmemkit.generation import FAST, Generation, diffusion
from vmemkit.generation.diffusion import (
    DiffusionConfig,
    DiffusionGenerator,
    Levels,
    VaeCodec,
    Window,
    euler,
    guided_denoiser,
)
from vmemkit.nets.unet import UNet, UNetConfig, in_precision
from vmemkit.scenes import orbit

FRAMES, CONTEXT = 8, 4  # frames of a window, and how many of them are context
SMALL = UNetConfig(model_channels=64, context_dim=128)
RESULTS = Path(__file__).parent / "results"
VAE = {  # Stable Diffusion 2.1
    "down_block_types": 4 * ("DownEncoderBlock2D",),
    "up_block_types": 4 * ("UpDecoderBlock2D",),
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLIP_PARAMETERS = 632_076_800  # image tower only


@dataclass(frozen=True)
class Setup:
    """A device, a network and the size of its window."""

    device: str
    config: UNetConfig
    side: int  # latent pixels
    dtype: torch.dtype
    modes: tuple[str | None, ...]  # torch.compile modes to time with our network
    vae: dict
    products: tuple[int, ...]  # sides of the matrices whose products give the fastest rate
    steps: int = 50  # that the reference's sampler takes, and the most that ours may take

    @classmethod
    def on(cls, device: str, mode: str | None) -> Setup:
        if device == "cuda":
            modes = (None, mode or "max-autotune-no-cudagraphs")
            products = (4096, 8192, 16384)
            return cls(device, UNetConfig(), 72, torch.bfloat16, modes, VAE, products)
        modes = (None, mode) if mode else (None,)
        small = VAE | {"block_out_channels": (32, 32, 32, 32)}  # otherwise decoding would dominate
        return cls(device, SMALL, 24, torch.float32, modes, small, (512, 1024, 2048))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", help="mode of torch.compile")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="count the memory instead")
    parser.add_argument("--save", action="store_true", help="write results/generator-DEVICE.json")
    options = parser.parse_args()
    if options.memory:
        print_memory()
        return
    results = measure(Setup.on(options.device, options.compile), options.repeats)
    print(json.dumps(results, indent=1))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        name = results["device"].lower().replace(" ", "-")
        (RESULTS / f"generator-{name}.json").write_text(json.dumps(results, indent=1) + "\n")


@torch.no_grad()
def measure(setup: Setup, repeats: int) -> dict:
    torch.backends.cudnn.benchmark = setup.device == "cuda"
    torch.manual_seed(0)
    net = random_unet(setup)
    codec = VaeCodec(autoencoder(setup.vae, setup.device))
    generators = {f"ours, {mode or 'eager'}": ours(setup, net, codec, mode) for mode in setup.modes}
    context, targets = scene(next(iter(generators.values())), setup)
    window = next(iter(generators.values())).window(context, targets)
    steps = {"reference": reference_step(setup, net, window)}
    windows = {"reference": reference_window(setup, net, codec, window)}
    for name, generator in generators.items():
        steps[name] = our_step(setup, generator, window)
        windows[name] = our_window(generator, context, targets)
    tera, best = operations(setup, window) / 1e12, ceiling(setup)
    step_seconds = compare(setup, steps, repeats)
    gpu = setup.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else f"cpu {platform.machine()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "network": f"{sum(p.numel() for p in net.parameters()) / 1e6:.0f} M parameters",
        "window": f"2 x {FRAMES} frames of {8 * setup.side} x {8 * setup.side}",
        "precision of ours": str(setup.dtype),
        "step, TFLOP": tera,
        "matrix products, TFLOP/s": best,
        "step, seconds": step_seconds,
        "step, share of matrix products": {k: tera / s / best for k, s in step_seconds.items()},
        "step, reference / ours": ratios(step_seconds),
        "window, seconds": (window_seconds := compare(setup, windows, max(1, repeats // 2))),
        "window, reference / ours": ratios(window_seconds),
        "peak, GB": torch.cuda.max_memory_allocated() / 1e9 if gpu else None,
    }


def random_unet(setup: Setup) -> UNet:
    """The network with random weights, which take seconds on a GPU and minutes on a CPU."""
    with torch.device(setup.device):
        return UNet(setup.config).eval()


def ours(setup: Setup, net: UNet, codec: nn.Module, mode: str | None) -> DiffusionGenerator:
    """Our generator with a copy of the network."""
    mine = random_unet(setup)
    mine.load_state_dict(net.state_dict())
    return prepared(setup, mine, codec, mode)


def prepared(setup: Setup, net: UNet, codec: nn.Module, mode: str | None) -> DiffusionGenerator:
    """Our generator with this network, which is changed to our precision and layout."""
    mine = in_precision(net, setup.dtype).to(memory_format=torch.channels_last)
    fast = FAST | {"steps": min(FAST["steps"], setup.steps)}
    return DiffusionGenerator(mine, codec, None, DiffusionConfig(**fast, compile=mode))


def autoencoder(config: dict, device: str) -> nn.Module:
    """Stable Diffusion's VAE with random weights."""
    from diffusers import AutoencoderKL  # late: what needs no VAE runs without diffusers

    with torch.device(device):
        return AutoencoderKL(**config).eval()


def scene(generator: DiffusionGenerator, setup: Setup) -> tuple[Views, Cameras]:
    """Four random context views, encoded, and four targets along an arc."""
    start = cameras(torch.eye(4), intrinsics(60.0))
    path = orbit(start, 2.0, 90.0, FRAMES).to(setup.device)
    image = torch.rand(CONTEXT, 3, 8 * setup.side, 8 * setup.side).to(setup.device)
    given = torch.ones(CONTEXT, dtype=torch.bool, device=setup.device)
    return generator.encode(Views(path[:CONTEXT], image, given)), path[CONTEXT:]


def reference_step(setup: Setup, net: UNet, window: Window) -> Callable[..., Tensor]:
    told = cat([window.unconditional, window.condition])
    tokens = told.crossattn.repeat(
        1, 2, 1
    )  # two equal tokens, so that the general attention code runs
    noise = torch.randn_like(window.condition.latent)

    def step(x: Tensor = noise, t: int = 500) -> Tensor:
        rows = torch.cat([x.repeat(2, 1, 1, 1), told.concat], 1)
        index = torch.full((len(rows),), t, device=rows.device)
        half = torch.autocast("cuda", torch.bfloat16) if setup.device == "cuda" else nullcontext()
        with half:
            return net(rows, index, tokens, told.dense, FRAMES).float()

    return step


def reference_window(
    setup: Setup, net: UNet, codec: VaeCodec, window: Window
) -> Callable[[], Tensor]:
    step, sigmas = reference_step(setup, net, window), Levels().sigmas(setup.steps)
    noise = torch.randn_like(window.condition.latent)
    pair = lambda x, sigma: [x - sigma * part for part in step(x).chunk(2)]  # noqa: E731

    def run() -> Tensor:
        denoise = guided_denoiser(pair, window.scale)
        *_, state = euler(denoise, diffusion.initial_sample(noise, sigmas), sigmas)
        return codec.decode(state.x)

    return run


def our_step(setup: Setup, generator: DiffusionGenerator, window: Window) -> Callable[[], Tensor]:
    denoise, sigma = generator.denoiser(window), torch.tensor(10.0)
    x = 10 * torch.randn_like(window.condition.latent)
    return lambda: denoise(x, sigma)


def our_window(
    generator: DiffusionGenerator, context: Views, targets: Cameras
) -> Callable[[], Generation]:
    return lambda: list(generator(context, targets, torch.Generator().manual_seed(0)))[-1]


def compare(setup: Setup, what: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median seconds of each job; the jobs run in turn, after one warm-up each."""
    taken: dict[str, list[float]] = {name: [] for name in what}
    for i in range(repeats + 1):
        for name, function in what.items():
            start = clock(setup)
            function()
            taken[name].append(clock(setup) - start)
        if i == 0:
            taken = {name: [] for name in what}
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    return {name: seconds["reference"] / s for name, s in seconds.items() if name != "reference"}


def clock(setup: Setup) -> float:
    if setup.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ceiling(setup: Setup) -> float:
    """TFLOP/s of the fastest of a few square matrix products in the same precision."""
    rates = []
    for n in setup.products:
        a, b = (torch.randn(n, n, dtype=setup.dtype, device=setup.device) for _ in "ab")
        seconds = []
        for _ in range(8):
            start = clock(setup)
            torch.mm(a, b)
            seconds.append(clock(setup) - start)
        rates.append(2 * n**3 / statistics.median(seconds[2:]) / 1e12)
    return max(rates)


def operations(setup: Setup, window: Window) -> int:
    """TFLOP of the reference's step."""
    with torch.device("meta"):
        net = UNet(setup.config)
    window = replace(
        window,
        condition=window.condition.to("meta"),
        unconditional=window.unconditional.to("meta"),
    )
    with FlopCounterMode(display=False) as counter:
        reference_step(replace(setup, device="meta"), net, window)()
    return counter.get_total_flops()


# ---- memory --------------------------------------------------------------------------------------


class Peak(TorchDispatchMode):
    """Bytes of the tensors that are alive, without `kept` ones (such as weights)."""

    def __init__(self, *kept: Tensor) -> None:
        super().__init__()
        self._kept = {tensor.untyped_storage()._cdata for tensor in kept}
        self._live: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._live and key not in self._kept:
                    self._live[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._freed, key)
        return made

    def _freed(self, key: int) -> None:
        self.now -= self._live.pop(key)


@torch.no_grad()
def print_memory() -> None:
    """GB of the presets at 576 x 576: weights, and other live tensors at the peak.
    Assumes that kernels need no scratch space and attention stores no scores, as on a GPU."""
    scores = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda q, *_, **__: torch.empty_like(q)
    try:
        decoding, vae = vae_memory()
        print("preset precision  mode            UNet  fixed  step   VAE  CLIP  peak (GB)")
        for name, frames in (("vmem", 8), ("seva", 21)):
            for dtype in (torch.bfloat16, torch.float32):
                unet, fixed, step = unet_memory(frames, dtype)
                clip = CLIP_PARAMETERS * dtype.itemsize / 1e9
                at_work = max(fixed + step, decoding)
                peaks = {
                    "all on the GPU": unet + vae + clip + at_work,
                    "low_memory": unet + max(fixed + step, vae + decoding, clip),
                }
                for mode, peak in peaks.items():
                    print(
                        f"{name:6s} {str(dtype)[6:]:9s}  {mode:14s} {unet:5.2f} {fixed:6.2f} "
                        f"{step:5.2f} {vae:5.2f} {clip:5.2f} {peak:5.1f}"
                    )
    finally:
        functional.scaled_dot_product_attention = scores


def unet_memory(frames: int, dtype: torch.dtype) -> tuple[float, float, float]:
    """GB of weights, of tensors that are fixed over the steps, and of a step."""
    config = UNetConfig()
    with torch.device("meta"):
        net = in_precision(UNet(config), dtype)
        x = torch.empty(2 * frames, config.in_channels, 72, 72, dtype=dtype)
        y = torch.empty(2 * frames, 1, config.context_dim, dtype=dtype)
        rays = torch.empty(frames, config.dense_in_channels, 72, 72, dtype=dtype)
        t = torch.empty(1, dtype=torch.long)
    with Peak(*net.parameters()) as peak:
        fixed = net.fixed(y, rays, 72, 72, frames)
        kept = peak.peak = peak.now
        net.denoise(x, t, fixed, frames)
    return weight_gb(net), kept / 1e9, (peak.peak - kept) / 1e9


def vae_memory() -> tuple[float, float]:
    """GB of decoding (or encoding) one image, and of the weights."""
    vae = autoencoder(VAE, "meta")
    with torch.device("meta"):
        image, latent = torch.empty(1, 3, 576, 576), torch.empty(1, 4, 72, 72)
    with Peak(*vae.parameters()) as peak:
        vae.decode(latent)
        vae.encode(image)
    return peak.peak / 1e9, weight_gb(vae)


def weight_gb(module: nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in module.parameters()) / 1e9


if __name__ == "__main__":
    main()
