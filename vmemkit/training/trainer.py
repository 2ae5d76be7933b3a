"""Training of the small generator: walks through made-up houses, or through one's own recordings.

A `Run` advances by one step of the optimiser at a time, so that progress, pictures and stopping belong
to the caller. Everything random in step s follows from the seed and s alone, so a run that goes on
from a checkpoint is the run that was never interrupted.
Per step: windows (context views and targets) are cut from a pool of walks, in which old walks are
replaced by new ones all the time; the context is spoilt a little, as the model's own views will be;
the targets are noised, and the network's estimate of the clean ones is judged where the context
shows nothing (Karras et al., 2022, for noise levels and weights).
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import pixel_unshuffle

from vmemkit.core import Cameras, TensorStruct, pose_distance, stream
from vmemkit.generation import Windows, reproject
from vmemkit.generation.diffusion import LogLevels, euler, start
from vmemkit.generation.rgbd import FACTOR, UNET, cues, decode, encode, linear_error, network
from vmemkit.nets.unet import UNet, UNetConfig
from vmemkit.nets.weights import load_into, read
from vmemkit.training.data import Walks, record

K = 4  # context views of a window, at most

STEPS = 2  # random stream of a run: another than its walks'

SHARD = 15_000_000  # bytes


@dataclass(frozen=True)
class TrainConfig:
    """A run. Shares are of the samples."""

    seed: int = 0
    size: int = 64  # pixels
    steps: int = 20_000  # over which the learning rate falls
    batch: int = 8  # target views
    targets: tuple[float, ...] = (1.0,)  # shares of windows with 1, 2, 3, 4 targets
    lr: float = 1e-3
    warm_up: int = 200  # steps
    weight_decay: float = 0.01
    ema: float = 0.999
    walks: int = 96  # in the pool
    views: int = 20  # of a walk
    refresh: float = 0.25  # walks replaced per step
    nearest: float = 0.35  # share of contexts of the nearest poses,
    recent: float = 0.30  # of the latest views; the others are random
    past: float = 0.7  # of contexts from before the targets only
    empty: float = 0.05  # of windows without context
    spoilt: float = 0.5  # of context views as if the model had made them
    noise: tuple[float, float] = (0.4, 1.4)  # mean and deviation of log sigma
    depth: float = 1.5  # weight of depth against a colour
    network: UNetConfig = field(default_factory=lambda: UNET)

    def __post_init__(self) -> None:
        """Errors: ValueError for settings with which nothing can be trained."""
        counts = (self.size, self.steps, self.batch, self.warm_up, self.walks)
        if min(counts) < 1 or not self.lr > 0 or self.refresh < 0:
            raise ValueError(
                f"size, steps, batch, warm_up, walks and lr must be positive, got {counts} and {self.lr}"
            )
        most = len(self.targets)
        if not 1 <= most <= K or self.views < K or not sum(self.targets) > 0:
            raise ValueError(
                f"need shares of windows with 1 to {K} targets, and walks of {K} views or more, got "
                f"{self.targets} and {self.views}"
            )
        if self.size % 16:
            raise ValueError(f"size must be a multiple of 16 pixels, got {self.size}")

    @classmethod
    def of(cls, values: dict) -> TrainConfig:
        """From what `dataclasses.asdict` made of one, and JSON of that."""
        kept = {f.name: values[f.name] for f in fields(cls)}
        network = {k: tuple(v) if isinstance(v, list) else v for k, v in kept["network"].items()}
        kept |= {key: tuple(kept[key]) for key in ("targets", "noise")}
        return cls(**kept | {"network": UNetConfig(**network)})


# A minute on a CPU: a smaller network learns one short walk by heart.
SMOKE = TrainConfig(
    size=32,
    steps=1000,
    batch=4,
    lr=2e-3,
    warm_up=20,
    ema=0.99,
    walks=1,
    views=4,
    refresh=0.0,
    nearest=1.0,
    past=1.0,
    empty=0.0,
    spoilt=0.0,
    noise=(0.0, 1.4),
    network=replace(UNET, channel_mult=(2, 2, 2), transformer_depth=(1, 1, 1)),
)


@dataclass(frozen=True, repr=False)
class Sample(TensorStruct):
    """Windows with their true targets."""

    context: Windows
    targets: Cameras  # (b, m)
    image: Float[Tensor, "b m 3 h w"]
    depth: Float[Tensor, "b m h w"]


# ---- samples -------------------------------------------------------------------------------------


def sample(walks: Walks, config: TrainConfig, targets: int, rng: torch.Generator) -> Sample:
    """Windows of up to K context views and `targets` consecutive targets."""
    device, (count, t) = rng.device, walks.depth.shape[:2]
    b = max(1, config.batch // targets)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, device=device)

    walk = torch.randint(count, (b,), generator=rng, device=device)
    first = 1 + torch.randint(t - targets, (b,), generator=rng, device=device)
    time = torch.arange(t, device=device)
    target = first[:, None] + torch.arange(targets, device=device)
    poses = walks.cameras.world_from_cam[walk]
    asked = poses[torch.arange(b, device=device), first]
    near = -pose_distance(poses, asked[:, None], 0.4)
    mode = draw(b, 1)
    score = torch.where(
        mode < config.nearest + config.recent, -(first[:, None] - time).abs().float(), draw(b, t)
    )
    score = torch.where(mode < config.nearest, near, score)
    is_target = (time >= first[:, None]) & (time < first[:, None] + targets)
    later = (time > first[:, None]) & (draw(b, 1) < config.past)
    score = score.masked_fill(is_target | later, -torch.inf)
    best, chosen = score.topk(K, dim=1)
    number = 1 + torch.randint(K, (b, 1), generator=rng, device=device)
    number = torch.where(draw(b, 1) < config.empty, 0, number)
    present = best.isfinite() & (torch.arange(K, device=device) < number)
    rows = walk[:, None]
    context = Windows(
        walks.cameras[rows, chosen],
        walks.image[rows, chosen],
        walks.depth[rows, chosen],
        present[:, :, None, None].expand(b, K, *walks.depth.shape[2:]),
        present,
    )
    return Sample(
        _spoilt(context, config, rng),
        walks.cameras[rows, target],
        walks.image[rows, target],
        walks.depth[rows, target],
    )


def _spoilt(context: Windows, config: TrainConfig, rng: torch.Generator) -> Windows:
    """Some of the views as if they had been generated: depth bent and rough, colours off, blurred,
    grainy; and no longer `given`."""
    (b, k, h, w), device = context.depth.shape, rng.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(b * k, *shape, generator=rng, device=device)

    def smooth(channels: int) -> Tensor:
        return functional.interpolate(normal(channels, 4, 4), (h, w), mode="bilinear")

    def amount() -> Tensor:
        return torch.rand(b * k, 1, 1, 1, generator=rng, device=device)

    image, depth = context.image.flatten(0, 1), context.depth.flatten(0, 1)[:, None]
    edge = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    image = image + amount() * (functional.avg_pool2d(edge, 3, 1) - image)
    image = image + 0.04 * amount() * smooth(3) + 0.02 * amount() * normal(3, h, w)
    depth = depth * (0.04 * amount() * smooth(1) + 0.01 * amount() * normal(1, h, w)).exp()
    made = torch.rand(b, k, generator=rng, device=device) < config.spoilt
    image, depth = image.clamp(0, 1).unflatten(0, (b, k)), depth[:, 0].unflatten(0, (b, k))
    return context.replace(
        image=torch.where(made[:, :, None, None, None], image, context.image),
        depth=torch.where(made[:, :, None, None], depth, context.depth),
        given=context.given & ~made[:, :, None, None],
    )


def loss(
    unet: UNet,
    sample: Sample,
    config: TrainConfig,
    levels: LogLevels,
    rng: torch.Generator,
    half: bool = False,
) -> Float[Tensor, ""]:
    """Mean squared error of the denoised targets, where the context does not show them, as a share of
    what the best linear filter leaves: so every noise level counts alike, and below 1 something has
    been learnt."""
    b, m = sample.depth.shape[:2]
    with torch.no_grad():
        given, _ = cues(sample.context, sample.targets)
        clean = encode(sample.image, sample.depth).flatten(0, 1)
    mean, deviation = config.noise
    draw = torch.randn(b, generator=rng, device=rng.device)
    sigma = (mean + deviation * draw).exp().repeat_interleave(m)
    sigma = levels.snap(sigma.to(levels.table.device))[1].to(clean.device)
    noise = torch.randn(clean.shape, generator=rng, device=rng.device)
    noisy = clean + sigma.view(-1, 1, 1, 1) * noise
    error = (network(unet, given, levels, m, half)(noisy, sigma) - clean).square()
    weight = 1 - given.known  # the rest is copied, whatever the network says
    measured = sample.depth.isfinite().flatten(0, 1)[:, None].float()
    # Space to depth keeps a channel together: depth is the last quarter.
    weight[:, -weight.shape[1] // 4 :] *= config.depth * pixel_unshuffle(measured, FACTOR)
    usual = linear_error(sigma, *sample.depth.shape[2:]).view(-1, 1, 1, 1)
    return (weight * error / usual).sum() / weight.sum().clamp(min=1)


# ---- the run -------------------------------------------------------------------------------------


class Run:
    """A training run: the network, its moving average, the optimiser and the pool of walks.

    walks: one's own (`recorded`), else houses made up on the way. `save` and `resume` keep every bit.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device | str = "cpu", walks: Walks | None = None
    ) -> None:
        self.config, self.device, self.levels = config, torch.device(device), LogLevels()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            unet = UNet(config.network)
        for tensor in unet.out[-1].parameters():
            nn.init.zeros_(tensor)  # the first estimate is the base itself
        self.unet = unet.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.unet).requires_grad_(False).eval()
        self.optimizer = self._optimizer()
        self.own = None if walks is None else walks.to(self.device)
        self._pool: Walks | None = None
        self._recorded = range(0)
        self.step, self.losses = 0, []

    def advance(self) -> float:
        """One step of the optimiser. Returns the loss."""
        config, step = self.config, self.step
        seed = stream(config.seed, STEPS, step)
        rng = torch.Generator(self.device).manual_seed(seed.initial_seed())
        targets = 1 + int(torch.multinomial(torch.tensor(config.targets), 1, generator=seed))
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        windows = sample(self.walks(), config, targets, rng)
        half = self.device.type == "cuda"
        value = loss(self.unet, windows, config, self.levels, rng, half)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.unet.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        self.losses.append(float(value.detach()))
        return self.losses[-1]

    def walks(self) -> Walks:
        """The pool at this step: walk n lies in row n modulo the pool's size."""
        if self.own is not None:
            return self.own
        config, first = self.config, int(self.step * self.config.refresh)
        wanted = range(first, first + config.walks)
        for number in wanted:
            if number in self._recorded:
                continue
            walk = record(config.seed, number, config.views, config.size, self.device)
            if self._pool is None:
                self._pool = walk.map(lambda x: x.repeat(config.walks, *[1] * (x.ndim - 1)))
            for name, rows in self._pool.leaves().items():
                rows[number % config.walks] = walk.leaves()[name][0]
        self._recorded = wanted
        return self._pool

    def save(self, folder: str | Path) -> None:
        """A checkpoint: everything that the next step depends on, in files of at most SHARD bytes.
        The folder appears complete, or stays as it was."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder.parent) as temporary:
            draft = Path(temporary) / "new"
            draft.mkdir()
            for i, shard in enumerate(_shards(self._state())):
                save_file(shard, draft / f"state-{i:02d}.safetensors")
            about = {"config": asdict(self.config), "step": self.step, "losses": self.losses}
            (draft / "run.json").write_text(json.dumps(about), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            draft.rename(folder)

    @classmethod
    def resume(
        cls, folder: str | Path, device: torch.device | str = "cpu", walks: Walks | None = None
    ) -> Run:
        """The run that `save` left there. Errors: ValueError for a folder that holds none."""
        folder = Path(folder)
        try:
            about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            run = cls(TrainConfig.of(about["config"]), device, walks)
            run.step, run.losses = int(about["step"]), [float(x) for x in about["losses"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder} holds no training run to go on with: {error}") from error
        state: dict[str, Tensor] = {}
        for shard in sorted(folder.glob("state-*.safetensors")):
            state |= read(shard)
        run._restore(state, folder)
        return run

    def _optimizer(self) -> torch.optim.Optimizer:
        lr, decay = self.config.lr, self.config.weight_decay
        how = {"betas": (0.9, 0.98), "weight_decay": decay, "fused": True}
        return torch.optim.AdamW(self.unet.parameters(), lr, **how)

    def _rate(self, step: int) -> float:
        config = self.config
        fall = 0.5 + 0.5 * math.cos(math.pi * min(step / config.steps, 1.0))
        return config.lr * min((step + 1) / config.warm_up, 1.0) * max(fall, 0.01)

    def _state(self) -> dict[str, Tensor]:
        state = {f"now.{name}": x for name, x in self.unet.state_dict().items()}
        state |= {f"average.{name}": x for name, x in self.average.state_dict().items()}
        for name, parameter in self.unet.named_parameters():
            for key, x in self.optimizer.state.get(parameter, {}).items():
                state[f"{key}.{name}"] = x
        return {name: x.detach().cpu().contiguous() for name, x in state.items()}

    def _restore(self, state: dict[str, Tensor], folder: Path) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, x in state.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = x
        for part, unet in (("now", self.unet), ("average", self.average)):
            load_into(unet, parts.pop(part, {}), f"the checkpoint in {folder}")
        self.unet.to(self.device, memory_format=torch.channels_last)
        self.average.to(self.device, memory_format=torch.channels_last)
        self.optimizer = self._optimizer()  # loading has made new parameters
        for name, parameter in self.unet.named_parameters():
            kept = {key: part[name] for key, part in parts.items() if name in part}
            if kept:  # in the layout of the parameter, which the fused optimiser takes for granted
                self.optimizer.state[parameter] = {
                    key: torch.empty_like(parameter).copy_(x) if x.ndim else x
                    for key, x in kept.items()
                }


@torch.no_grad()
def painted(run: Run, windows: Sample, seed: int = 0) -> Float[Tensor, "n 3 h w"]:
    """What the averaged network samples of the windows' targets, one each."""
    given, seen = cues(windows.context, windows.targets)
    sigmas = run.levels.sigmas(10)
    noise = torch.randn(given.base.shape, generator=stream(seed)).to(run.device)
    denoise = network(run.average, given, run.levels, windows.depth.shape[1])
    *_, last = euler(denoise, start(noise, sigmas), sigmas)
    image, _ = decode(last.denoised)
    known = seen.known.flatten(0, 1)[:, None]
    return torch.where(known, seen.image.flatten(0, 1), image)


def remembered(run: Run) -> float:
    """PSNR (dB) of what the network samples of the walks it was trained on, where the context shows
    nothing: whether it can learn by heart."""
    windows = sample(run.walks(), run.config, 1, torch.Generator(run.device).manual_seed(0))
    seen = reproject(windows.context, windows.targets)
    error = (painted(run, windows) - windows.image.flatten(0, 1)).square().mean(1)
    return float(-10 * error[~seen.known.flatten(0, 1)].mean().log10())


def export(unet: UNet, file: str | Path) -> None:
    """The weights alone, in half precision, as `preset("rooms")` reads them."""
    state = {name: x.detach().half().cpu().contiguous() for name, x in unet.state_dict().items()}
    save_file(state, file)


def _shards(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state in parts of at most SHARD bytes (or of one larger tensor)."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, x in state.items():
        if part and size + x.nbytes > SHARD:
            yield part
            part, size = {}, 0
        part[name], size = x, size + x.nbytes
    yield part
