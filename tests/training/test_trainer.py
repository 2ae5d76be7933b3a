"""Training: walks to learn from, samples as configured, and runs that can be interrupted."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from vmemkit import scenes
from vmemkit.core import cat, stream
from vmemkit.generation.diffusion import LogLevels
from vmemkit.generation.rgbd import UNET
from vmemkit.nets.unet import UNet
from vmemkit.nets.weights import read
from vmemkit.scenes import save_capture, walk_through
from vmemkit.training import SMOKE, Run, TrainConfig, export, recorded, remembered, sample
from vmemkit.training.data import record
from vmemkit.training.trainer import loss

TINY = TrainConfig(
    size=32,
    steps=20,
    batch=2,
    walks=2,
    views=6,
    refresh=0.3,
    network=replace(UNET, channel_mult=(1, 1, 1), transformer_depth=(1, 1, 1)),
)


@pytest.fixture(scope="module")
def walks():
    return cat([record(0, number, 8, 32) for number in range(3)])


# ---- walks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_walks_stay_in_the_open_and_move_as_people_do(seed):
    house = scenes.rooms(seed, 3)
    cameras = walk_through(house, stream(seed), 60)
    assert house.free(cameras.position).all()
    strides = cameras.position.diff(dim=0).norm(dim=1)
    assert strides.amax() < 1.6  # a stride, and a step aside
    assert (strides > 0.05).float().mean() > 0.2
    turns = torch.rad2deg(
        torch.acos((cameras.forward[1:] * cameras.forward[:-1]).sum(1).clamp(-1, 1))
    )
    assert ((turns > 5) & (turns < 46)).float().mean() > 0.4
    height = -cameras.position[:, 1]
    assert ((height > 1.3) & (height < 1.7)).all()


def test_walks_go_through_doorways():
    visited = []
    for seed in range(6):
        house = scenes.rooms(seed)
        visited.append(house.room_of(walk_through(house, stream(seed), 60).position).unique())
    assert sum(len(rooms[rooms >= 0]) > 1 for rooms in visited) >= 3


def test_a_walk_follows_from_the_seed_and_its_number(walks):
    again = record(0, 1, 8, 32)
    for name, value in again.leaves().items():
        assert torch.equal(value[0], walks.leaves()[name][1])
    other = record(1, 1, 8, 32)
    assert not torch.equal(other.image, again.image)


def test_recordings_are_cut_into_walks(tmp_path, walks):
    views = scenes.rooms(0).render(walk_through(scenes.rooms(0), stream(0), 10, 4 / 3), 24, 32)
    save_capture(views, tmp_path / "tape")
    cut = recorded([tmp_path / "tape"], 4, 16)
    assert cut.image.shape == (4, 4, 3, 16, 16)  # frames 0-3, 2-5, 4-7, 6-9
    K = cut.cameras.K[0, 0]
    assert float(K[0, 0]) == pytest.approx(float(K[1, 1]), rel=1e-3)  # square
    run = Run(replace(TINY, size=16, views=4), walks=cut)
    assert run.advance() > 0
    with pytest.raises(ValueError, match="12 frames or more"):
        recorded([tmp_path / "tape"], 12, 16)
    with pytest.raises(ValueError, match="one recording"):
        recorded([], 4, 16)


# ---- samples -------------------------------------------------------------------------------------


def times(walks, cameras):
    """Index of every camera among all views of the walks, by its pose."""
    poses = walks.cameras.world_from_cam.flatten(0, 1).flatten(1)
    wanted = cameras.world_from_cam.flatten(0, 1).flatten(1)
    return torch.cdist(wanted, poses).argmin(1).view(cameras.K.shape[:2])


def test_targets_are_consecutive_and_never_their_own_context(walks):
    config = replace(TINY, batch=60, empty=0.0, spoilt=0.0)
    for number in (1, 3):
        samples = sample(walks, config, number, torch.Generator().manual_seed(0))
        assert samples.depth.shape == (60 // number, number, 32, 32)
        target, context = times(walks, samples.targets), times(walks, samples.context.cameras)
        assert (target.diff(dim=1) == 1).all()
        assert (target[:, :1] // 8 == context // 8).all()  # of the same walk
        present = samples.context.present
        assert present.any(1).all()
        own = (context[:, :, None] == target[:, None]).any(2)
        assert not (own & present).any()
        assert len(present.sum(1).unique()) == 4  # 1 to 4 of them


def test_context_is_chosen_and_dropped_at_the_configured_rates(walks):
    config = replace(TINY, batch=400, empty=0.3, spoilt=0.25, past=1.0, nearest=0.0, recent=1.0)
    samples = sample(walks, config, 1, torch.Generator().manual_seed(1))
    present = samples.context.present
    assert abs((~present.any(1)).float().mean() - 0.3) < 0.07
    spoilt = ~samples.context.given.flatten(2).all(2) & present
    assert abs(spoilt.sum() / present.sum() - 0.25) < 0.07
    target, context = times(walks, samples.targets), times(walks, samples.context.cameras)
    ages = (target - context)[present]
    assert ages.amin() == 1
    newest = (target - context).masked_fill(~present, 99).amin(1)[present.any(1)]
    assert (newest == 1).all()  # the view right before the target


def test_spoilt_views_are_close_to_the_clean_ones(walks):
    config = replace(TINY, batch=100, empty=0.0, spoilt=1.0)
    clean = replace(config, spoilt=0.0)
    spoilt, true = (sample(walks, c, 1, torch.Generator().manual_seed(2)) for c in (config, clean))
    present = true.context.present
    ratio = (spoilt.context.depth / true.context.depth)[present].log()
    assert 0.005 < ratio.std() < 0.06
    change = (spoilt.context.image - true.context.image)[present]
    assert 0.005 < change.std() < 0.1
    assert torch.equal(spoilt.image, true.image)
    assert not spoilt.context.given[present].any()


def test_the_loss_of_a_linear_filter_is_about_one_and_ignores_known_pixels(walks):
    config = replace(TINY, batch=60, spoilt=0.0)
    unet = UNet(TINY.network)
    for tensor in unet.out[-1].parameters():
        torch.nn.init.zeros_(tensor)
    samples = sample(walks, config, 1, torch.Generator().manual_seed(3))

    def value(samples) -> float:
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return float(loss(unet, samples, config, LogLevels(), rng))

    assert 0.3 < value(samples) < 3
    whole = samples.replace(
        context=samples.context.replace(
            cameras=samples.targets.map(lambda x: x.expand(-1, 4, *x.shape[2:])),
            image=1 - samples.image.expand(-1, 4, -1, -1, -1),  # wrong, but known
            depth=samples.depth.expand(-1, 4, -1, -1),
            present=torch.ones_like(samples.context.present),
        )
    )
    assert value(whole) < 0.02


def test_pixels_of_unknown_depth_do_not_count_for_depth(walks):
    config = replace(TINY, batch=8, empty=1.0)
    samples = sample(walks, config, 1, torch.Generator().manual_seed(4))
    unet = UNet(TINY.network)
    for tensor in unet.out[-1].parameters():
        torch.nn.init.zeros_(tensor)

    def value(samples, weight) -> float:
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return float(loss(unet, samples, replace(config, depth=weight), LogLevels(), rng))

    unknown = samples.replace(depth=torch.full_like(samples.depth, torch.nan))
    assert value(unknown, 5.0) == pytest.approx(value(samples, 0.0), rel=1e-4)
    assert value(samples, 5.0) != pytest.approx(value(samples, 0.0), rel=0.01)


# ---- runs ----------------------------------------------------------------------------------------


def test_a_run_that_is_resumed_equals_one_that_was_not_interrupted(tmp_path):
    whole, parts = Run(TINY), Run(TINY)
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        parts.advance()
    parts.save(tmp_path / "checkpoint")
    parts = Run.resume(tmp_path / "checkpoint")
    for _ in range(3):
        parts.advance()
    assert parts.losses == whole.losses
    for ours, theirs in ((whole.unet, parts.unet), (whole.average, parts.average)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)


def test_several_targets_at_once_can_be_trained():
    run = Run(replace(TINY, targets=(0.0, 1.0), batch=4))
    assert run.advance() > 0


def test_checkpoints_come_in_small_files_and_replace_each_other(tmp_path):
    run = Run(TINY)
    run.advance()
    run.save(tmp_path / "checkpoint", shard=1_000_000)
    run.advance()
    run.save(tmp_path / "checkpoint", shard=1_000_000)
    files = sorted((tmp_path / "checkpoint").glob("*.safetensors"))
    assert len(files) > 3
    assert all(file.stat().st_size < 1_100_000 for file in files)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert Run.resume(tmp_path / "checkpoint").step == 2


def test_a_broken_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no training run"):
        Run.resume(tmp_path)
    run = Run(TINY)
    run.save(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "state-00.safetensors").unlink()
    with pytest.raises(ValueError, match="checkpoint"):
        Run.resume(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "run.json").write_text(json.dumps({"step": 1}))
    with pytest.raises(ValueError, match="no training run"):
        Run.resume(tmp_path / "checkpoint")


def test_settings_survive_json():
    assert TrainConfig.of(json.loads(json.dumps(asdict(TINY)))) == TINY


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"size": 40}, {"views": 3}, {"targets": (0.0,)}, {"lr": 0.0}]
)
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|need"):
        replace(TINY, **wrong)


def test_a_small_network_learns_a_walk(tmp_path):
    run = Run(
        replace(
            SMOKE,
            steps=120,
            network=replace(UNET, channel_mult=(1, 1, 1), transformer_depth=(1, 1, 1)),
        )
    )
    before = remembered(run)
    for _ in range(120):
        run.advance()
    first, last = sum(run.losses[:20]) / 20, sum(run.losses[-20:]) / 20
    assert last < 0.8 * first
    assert remembered(run) > before + 2  # dB
    export(run.average, tmp_path / "rooms.safetensors")
    state = read(tmp_path / "rooms.safetensors")
    assert state.keys() == run.average.state_dict().keys()
    assert all(x.dtype == torch.float16 for x in state.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_training_runs_on_a_gpu():
    run = Run(TINY, "cuda")
    assert all(run.advance() < 10 for _ in range(3))
