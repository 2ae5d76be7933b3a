"""Training of the small generator: on walks through made-up houses, or on one's own recordings.

A `Run` advances by one step of the optimiser per call, so that progress, pictures and stopping belong
to the caller. All random numbers of step s follow from the seed and s alone, so that a run that is
resumed from a checkpoint is equal to one that was never interrupted. A step does this:

1. Take the pool of walks, in which new walks replace old ones all the time.
2. Cut samples from it: context views and targets. Degrade some context views a little, as
   the model's own views will be (`sample`).
3. Add noise to the targets, and let the network estimate the clean ones. The error counts where the
   context shows nothing (`loss`; noise levels and weights as in Karras et al., 2022).
4. Update the weights, and their moving average.
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
from vmemkit.generation import ContextBatch, reproject
from vmemkit.generation.diffusion import LogLevels, euler, initial_sample
from vmemkit.generation.rgbd import FACTOR, UNET, cues, decode, encode, linear_error, network
from vmemkit.nets.unet import UNet, UNetConfig
from vmemkit.nets.weights import load_into, read
from vmemkit.training.data import Walks, record

K = 4  # context views of a sample, at most
STEPS = 2  # number of the random stream for steps; walks have their own
SHARD = 15_000_000  # bytes per file of a checkpoint, at most


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. Errors: ValueError for settings that allow no training."""

    seed: int = 0
    size: int = 64  # pixels, side of the square images; a multiple of 16
    steps: int = 20_000  # over which the learning rate falls
    batch: int = 8  # target views per step
    targets: tuple[float, ...] = (1.0,)  # shares of samples with 1, 2, 3, 4 targets
    lr: float = 1e-3  # learning rate after the warm-up
    warm_up: int = 200  # steps over which the learning rate rises
    weight_decay: float = 0.01
    ema: float = 0.999  # decay per step of the weights' moving average
    walks: int = 96  # in the pool
    views: int = 20  # per walk
    refresh: float = 0.25  # walks replaced per step
    nearest: float = 0.35  # share of samples whose context views are nearest by pose,
    recent: float = 0.30  # are the latest before the target; the others are random
    past: float = 0.7  # share of samples whose context is from before the targets only
    empty: float = 0.05  # share of samples without context
    spoilt: float = 0.5  # share of context views that are degraded like generated ones
    noise: tuple[float, float] = (0.4, 1.4)  # mean and standard deviation of log sigma
    depth: float = 1.5  # weight of the depth channel; a colour's is 1
    network: UNetConfig = field(default_factory=lambda: UNET)

    def __post_init__(self) -> None:
        counts = (self.size, self.steps, self.batch, self.warm_up, self.walks)
        if min(counts) < 1 or not self.lr > 0 or self.refresh < 0:
            raise ValueError(
                f"size, steps, batch, warm_up, walks and lr must be positive, got {counts} and {self.lr}"
            )
        most = len(self.targets)
        if not 1 <= most <= K or self.views < K or not sum(self.targets) > 0:
            raise ValueError(
                f"need shares of samples with 1 to {K} targets, and walks of {K} views or more, got "
                f"{self.targets} and {self.views}"
            )
        if self.size % 16:
            raise ValueError(f"size must be a multiple of 16 pixels, got {self.size}")

    @classmethod
    def of(cls, values: dict) -> TrainConfig:
        """The inverse of `dataclasses.asdict`, also after a round trip through JSON."""
        known = {f.name: values[f.name] for f in fields(cls)}
        known |= {name: tuple(known[name]) for name in ("targets", "noise")}
        network = {k: tuple(v) if isinstance(v, list) else v for k, v in known["network"].items()}
        return cls(**known | {"network": UNetConfig(**network)})


# A smaller network that learns one short walk by heart: a minute on a CPU.
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
    """b contexts, each with m target cameras and their true images and depth."""

    context: ContextBatch
    targets: Cameras  # (b, m)
    image: Float[Tensor, "b m 3 h w"]
    depth: Float[Tensor, "b m h w"]


# ---- samples -------------------------------------------------------------------------------------


def sample(walks: Walks, config: TrainConfig, targets: int, rng: torch.Generator) -> Sample:
    """Samples of up to K context views and `targets` consecutive views of a walk.

    1. Choose a walk per sample, and where in it the targets begin.
    2. Score the walk's other views as context: by pose, by time or at random.
    3. Rule out the targets themselves, and in most samples all later views.
    4. Take the K best, of which a random number is present, sometimes none.
    """
    device, (count, t) = rng.device, walks.depth.shape[:2]
    b = max(1, config.batch // targets)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, device=device)

    walk = torch.randint(count, (b,), generator=rng, device=device)
    first = 1 + torch.randint(t - targets, (b,), generator=rng, device=device)
    time = torch.arange(t, device=device)
    target = first[:, None] + torch.arange(targets, device=device)
    poses = walks.cameras.world_from_cam[walk]
    first_target = poses[torch.arange(b, device=device), first]
    by_pose = -pose_distance(poses, first_target[:, None], 0.4)
    by_time = -(first[:, None] - time).abs().float()
    mode = draw(b, 1)
    score = torch.where(mode < config.nearest + config.recent, by_time, draw(b, t))
    score = torch.where(mode < config.nearest, by_pose, score)
    is_target = (time >= first[:, None]) & (time < first[:, None] + targets)
    later = (time > first[:, None]) & (draw(b, 1) < config.past)
    score = score.masked_fill(is_target | later, -torch.inf)
    best, chosen = score.topk(K, dim=1)
    number = 1 + torch.randint(K, (b, 1), generator=rng, device=device)
    number = torch.where(draw(b, 1) < config.empty, 0, number)
    present = best.isfinite() & (torch.arange(K, device=device) < number)
    rows = walk[:, None]
    context = ContextBatch(
        cameras=walks.cameras[rows, chosen],
        image=walks.image[rows, chosen],
        depth=walks.depth[rows, chosen],
        given=present[:, :, None, None].expand(b, K, *walks.depth.shape[2:]),
        present=present,
    )
    return Sample(
        context=_degraded(context, config, rng),
        targets=walks.cameras[rows, target],
        image=walks.image[rows, target],
        depth=walks.depth[rows, target],
    )


def _degraded(context: ContextBatch, config: TrainConfig, rng: torch.Generator) -> ContextBatch:
    """A context in which some views look generated: blurred, with wrong colours and grain, and with
    bent and rough depth. These are no longer `given`."""
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
    spoilt = torch.rand(b, k, generator=rng, device=device) < config.spoilt
    image, depth = image.clamp(0, 1).unflatten(0, (b, k)), depth[:, 0].unflatten(0, (b, k))
    return context.replace(
        image=torch.where(spoilt[:, :, None, None, None], image, context.image),
        depth=torch.where(spoilt[:, :, None, None], depth, context.depth),
        given=context.given & ~spoilt[:, :, None, None],
    )


def loss(
    unet: UNet,
    sample: Sample,
    config: TrainConfig,
    levels: LogLevels,
    rng: torch.Generator,
    half: bool = False,
) -> Float[Tensor, ""]:
    """Mean squared error of the denoised targets where the context does not show them.

    It is relative to the error that the best linear filter leaves, so that all noise levels count
    alike. Below 1, the network has learnt something. half: as in `rgbd.network`.
    """
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
    weight = 1 - given.known  # known pixels are copied, whatever the network estimates
    measured = sample.depth.isfinite().flatten(0, 1)[:, None].float()
    # Depth is the last quarter of the latent channels.
    weight[:, -weight.shape[1] // 4 :] *= config.depth * pixel_unshuffle(measured, FACTOR)
    usual_error = linear_error(sigma, *sample.depth.shape[2:]).view(-1, 1, 1, 1)
    return (weight * error / usual_error).sum() / weight.sum().clamp(min=1)


# ---- the run -------------------------------------------------------------------------------------


class Run:
    """A training run: the network, its moving average, the optimiser and the pool of walks.

    walks: to train on, such as `recorded` ones. By default the pool is filled with walks through
    made-up houses. `resume` after `save` gives the same run to the last bit.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device | str = "cpu", walks: Walks | None = None
    ) -> None:
        self.config, self.device, self.levels = config, torch.device(device), LogLevels()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            unet = UNet(config.network)
        for tensor in unet.out[-1].parameters():
            nn.init.zeros_(tensor)  # so that the first estimate is the linear filter's
        self.unet = unet.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.unet).requires_grad_(False).eval()
        self.optimizer = self._optimizer()
        self._given_walks = None if walks is None else walks.to(self.device)
        self._pool: Walks | None = None
        self._pool_numbers = range(0)
        self.step = 0
        self.losses: list[float] = []

    def advance(self) -> float:
        """One step of the optimiser. Returns the loss."""
        config, step = self.config, self.step
        seed = stream(config.seed, STEPS, step)
        rng = torch.Generator(self.device).manual_seed(seed.initial_seed())
        targets = 1 + int(torch.multinomial(torch.tensor(config.targets), 1, generator=seed))
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        samples = sample(self.walks(), config, targets, rng)
        half = self.device.type == "cuda"
        value = loss(self.unet, samples, config, self.levels, rng, half)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.unet.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        self.losses.append(float(value.detach()))
        return self.losses[-1]

    def walks(self) -> Walks:
        """The walks to train on at this step. In the pool, walk n is in row n modulo its size."""
        if self._given_walks is not None:
            return self._given_walks
        config, first = self.config, int(self.step * self.config.refresh)
        numbers = range(first, first + config.walks)
        for number in numbers:
            if number in self._pool_numbers:
                continue
            walk = record(config.seed, number, config.views, config.size, self.device)
            if self._pool is None:
                self._pool = walk.map(lambda x: x.repeat(config.walks, *[1] * (x.ndim - 1)))
            for name, rows in self._pool.leaves().items():
                rows[number % config.walks] = walk.leaves()[name][0]
        self._pool_numbers = numbers
        return self._pool

    def save(self, folder: str | Path, shard: int = SHARD) -> None:
        """Write a checkpoint: everything that the next step depends on.

        The tensors go into files of at most `shard` bytes, or of one larger tensor. The folder
        appears complete, or stays as it was.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder.parent) as temporary:
            draft = Path(temporary) / "new"
            draft.mkdir()
            for i, part in enumerate(_shards(self._state(), shard)):
                save_file(part, draft / f"state-{i:02d}.safetensors")
            about = {"config": asdict(self.config), "step": self.step, "losses": self.losses}
            (draft / "run.json").write_text(json.dumps(about), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            draft.rename(folder)

    @classmethod
    def resume(
        cls, folder: str | Path, device: torch.device | str = "cpu", walks: Walks | None = None
    ) -> Run:
        """The run that `save` wrote. Errors: ValueError for a folder without a complete one."""
        folder = Path(folder)
        try:
            about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            run = cls(TrainConfig.of(about["config"]), device, walks)
            run.step, run.losses = int(about["step"]), [float(x) for x in about["losses"]]
        except Exception as error:
            raise ValueError(f"{folder} holds no training run to resume: {error}") from error
        state: dict[str, Tensor] = {}
        for shard in sorted(folder.glob("state-*.safetensors")):
            state |= read(shard)
        run._restore(state, folder)
        return run

    def _optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.unet.parameters(),
            self.config.lr,
            betas=(0.9, 0.98),
            weight_decay=self.config.weight_decay,
            fused=True,
        )

    def _rate(self, step: int) -> float:
        config = self.config
        fall = 0.5 + 0.5 * math.cos(math.pi * min(step / config.steps, 1.0))
        return config.lr * min((step + 1) / config.warm_up, 1.0) * max(fall, 0.01)

    def _state(self) -> dict[str, Tensor]:
        """All tensors by name: "now." and "average." weights, then the optimiser's, KEY.PARAMETER."""
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
        self.optimizer = self._optimizer()  # loading has replaced the parameters
        for name, parameter in self.unet.named_parameters():
            moments = {key: part[name] for key, part in parts.items() if name in part}
            if moments:
                # The fused optimiser needs them in the memory layout of the parameter.
                self.optimizer.state[parameter] = {
                    key: torch.empty_like(parameter).copy_(x) if x.ndim else x
                    for key, x in moments.items()
                }


@torch.no_grad()
def painted(run: Run, samples: Sample, seed: int = 0) -> Float[Tensor, "n 3 h w"]:
    """The targets of samples, as the averaged network generates them."""
    given, seen = cues(samples.context, samples.targets)
    sigmas = run.levels.sigmas(10)
    noise = torch.randn(given.base.shape, generator=stream(seed)).to(run.device)
    denoise = network(run.average, given, run.levels, samples.depth.shape[1])
    *_, last = euler(denoise, initial_sample(noise, sigmas), sigmas)
    image, _ = decode(last.denoised)
    known = seen.known.flatten(0, 1)[:, None]
    return torch.where(known, seen.image.flatten(0, 1), image)


def remembered(run: Run) -> float:
    """PSNR (dB) of generated targets from the training walks, where the context shows nothing.

    It tells whether the network can learn by heart.
    """
    samples = sample(run.walks(), run.config, 1, torch.Generator(run.device).manual_seed(0))
    seen = reproject(samples.context, samples.targets)
    error = (painted(run, samples) - samples.image.flatten(0, 1)).square().mean(1)
    return float(-10 * error[~seen.known.flatten(0, 1)].mean().log10())


def export(unet: UNet, file: str | Path) -> None:
    """Write the weights alone, in half precision, as `preset("rooms")` reads them."""
    state = {name: x.detach().half().cpu().contiguous() for name, x in unet.state_dict().items()}
    save_file(state, file)


def _shards(state: dict[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    """The state in parts of at most `limit` bytes, or of one larger tensor."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, x in state.items():
        if part and size + x.nbytes > limit:
            yield part
            part, size = {}, 0
        part[name], size = x, size + x.nbytes
    yield part
