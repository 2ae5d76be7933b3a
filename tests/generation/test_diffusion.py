"""The diffusion generator: its parts, windows, seeds and weights, and walks with it."""

import copy
import json
import math
import struct
from dataclasses import replace

import pytest
import torch
from generator_helpers import small
from golden_helpers import error, seeded, shapes

import vmemkit as vm
from vmemkit.core import crop, resize, stream
from vmemkit.generation import FAST, PRESETS, Warp, load_diffusion, preset, with_depth
from vmemkit.generation.diffusion import DiffusionConfig, Levels, PixelCodec, euler, initial_sample
from vmemkit.nets.unet import UNet, UNetConfig, in_precision
from vmemkit.nets.weights import FOLDERS, WEIGHTS, load_into, read
from vmemkit.reconstruction import oracle
from vmemkit.scenes import rooms, single_tour

H, W = 24, 32


@pytest.fixture(scope="module")
def house():
    return rooms(0)


@pytest.fixture(scope="module")
def tour(house):
    return single_tour(house)


@pytest.fixture(scope="module")
def memory(house, tour):
    return vm.begin(house.render(tour.given, H, W))


@pytest.fixture(scope="module")
def walked(house, tour, memory):
    """A walk of 12 views, and the generator that made them."""
    generator = small()
    true_depth = oracle(house)
    return list(
        vm.walk(memory, tour.cameras[:12], generator=generator, reconstructor=true_depth)
    ), generator


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def last(states):
    *_, state = states
    return state


# ---- walks ---------------------------------------------------------------------------------------


def test_a_walk_of_twelve_views_goes_through_every_stage(walked):
    steps, _ = walked
    after = steps[-1].memory
    assert len(after) == 13
    assert after.views.given.tolist() == [True] + 12 * [False]
    assert [len(step.context) for step in steps] == [1, 2, 2]  # the others would add too little
    assert all(len(step.memory.surfels) > len(step.before.surfels) for step in steps)
    assert all(float(step.retrieval.votes.sum()) > 0 for step in steps)
    assert after.views.latent.isfinite().all()
    assert after.views.image[1:].std() > 0


def test_no_image_is_encoded_twice(walked):
    """The given one is encoded once, and generated ones come with their latents."""
    _, generator = walked
    assert generator.codec.encoded == 1
    assert generator.codec.decoded == 12


def test_another_seed_gives_another_walk(house, tour, memory, walked):
    steps, generator = walked
    true_depth = oracle(house)
    again = next(
        iter(vm.walk(memory, tour.cameras[:4], generator=generator, reconstructor=true_depth))
    )
    other = next(
        iter(
            vm.walk(memory, tour.cameras[:4], generator=generator, reconstructor=true_depth, seed=1)
        )
    )
    assert torch.equal(again.views.image, steps[0].views.image)
    assert error(other.views.image, steps[0].views.image) > 0.1


def test_a_walk_that_is_undone_and_resumed_makes_the_same_views(house, tour, walked):
    steps, generator = walked
    undone = steps[-1].memory.truncate(5)
    resumed = list(
        vm.walk(undone, tour.cameras[4:12], generator=generator, reconstructor=oracle(house))
    )
    assert torch.equal(resumed[-1].memory.views.image, steps[-1].memory.views.image)


def test_codes_are_saved_and_loaded(walked, tmp_path):
    steps, _ = walked
    vm.save(steps[-1].memory, tmp_path)
    assert torch.equal(vm.load(tmp_path).views.latent, steps[-1].memory.views.latent)


def test_generators_may_take_turns_in_one_memory(tour, walked):
    """Warp makes no latents, so they are computed when the next generator needs them."""
    steps, _ = walked
    warped = last(vm.walk(steps[-1].memory, tour.cameras[12:14])).memory
    assert warped.views.latent[-2:].isnan().all()
    generator = small()
    after = last(
        vm.walk(warped, tour.cameras[14:16], generator=with_depth(generator, Warp()))
    ).memory
    assert generator.codec.encoded == 2
    assert after.views.latent.isfinite().all()


def test_latents_of_another_shape_are_computed_anew(walked):
    steps, _ = walked
    views = steps[-1].memory.views
    foreign = views.replace(latent=torch.zeros(len(views), 4, 2, 2))
    anew = views.replace(latent=None)
    assert torch.equal(small().encode(foreign).latent, small().encode(anew).latent)


def test_resized_and_cropped_views_have_no_latents(walked):
    views = walked[0][-1].memory.views
    assert resize(views, 12, 16).latent is None
    assert crop(views, 0, 0, 12, 16).latent is None


def test_without_depth_a_walk_says_what_it_needs(memory, tour):
    with pytest.raises(ValueError, match="with_depth"):
        list(vm.walk(memory, tour.cameras[:4], generator=small()))


def test_depth_may_come_from_another_generator(memory, tour):
    together = last(vm.walk(memory, tour.cameras[:4], generator=with_depth(small(), Warp())))
    warped = last(vm.walk(memory, tour.cameras[:4], generator=Warp()))
    depths = (walk.generations[-1].depth.nan_to_num(0.0) for walk in (together, warped))
    assert torch.equal(*depths)
    assert error(together.views.image, warped.views.image) > 0.1


def test_noise_does_not_depend_on_what_the_other_generator_draws(memory, tour):
    def drawing_warp(context, targets, rng):
        torch.rand(3, generator=rng)
        yield from Warp()(context, targets, rng)

    images = [
        last(vm.walk(memory, tour.cameras[:4], generator=with_depth(small(), depth))).views.image
        for depth in (Warp(), drawing_warp)
    ]
    assert torch.equal(*images)


def test_streams_of_different_numbers_differ():
    firsts = {
        float(torch.rand(1, generator=stream(*numbers)))
        for numbers in [(0, 0), (0, 1), (1, 0), (1, 1), (2**40, 0), (-1, 0), (0,), (0, 0, 1)]
    }
    assert len(firsts) == 8


# ---- one call ------------------------------------------------------------------------------------


def test_a_call_is_its_parts(house, memory, tour):
    """Window, denoiser, sampler and codec, called one by one, make the same views."""
    generator, targets = small(), tour.cameras[:4]
    made = last(generator(memory.views, targets, seed()))
    window = generator.window(generator.encode(memory.views), targets)
    own = stream(int(torch.randint(2**62, (1,), generator=seed())))
    noise = lambda: torch.randn(window.condition.latent.shape, generator=own)  # noqa: E731
    sigmas = Levels().sigmas(3)
    x = initial_sample(noise(), sigmas)
    state = last(euler(generator.denoiser(window), x, sigmas, noise))
    latent = state.x[window.targets]
    assert torch.equal(made.latent, latent)
    assert torch.equal(made.image, PixelCodec(4).decode(latent))
    assert made.depth.isnan().all()
    assert not made.confidence.any()


def test_calls_of_one_batch_need_images_of_one_size(house, memory, tour):
    other = house.render(tour.given, 2 * H, 2 * W)
    asked = [(views, tour.cameras[:1], seed()) for views in (memory.views, other)]
    with pytest.raises(ValueError, match=r"images of one size, got \[\(24, 32\), \(48, 64\)\]"):
        next(small().together(asked))


def test_a_window_is_context_then_targets_then_repeats_of_the_last(memory, tour):
    generator = small()
    window = generator.window(generator.encode(memory.views), tour.cameras[:3])
    assert window.given.tolist() == [True] + 7 * [False]
    assert window.targets == slice(1, 4)
    poses = window.cameras.world_from_cam
    assert torch.equal(poses[4:], poses[3:4].expand(4, 4, 4))
    assert repr(window) == "Window(8 frames: 1 of context, 3 targets)"


@pytest.mark.parametrize(
    ("frames", "context", "k", "m"), [(2, 1, 1, 1), (5, 2, 2, 3), (9, 6, 6, 3)]
)
def test_windows_of_any_size(house, tour, frames, context, k, m):
    generator = small(frames=frames, context=context, steps=1)
    views = house.render(tour.cameras[:k], H, W)
    assert last(generator(views, tour.cameras[k : k + m], seed())).image.shape == (m, 3, H, W)


def test_previews_are_states_on_the_way(memory, tour):
    states = list(small(steps=6, preview_every=2)(memory.views, tour.cameras[:1], seed()))
    assert len(states) == 4
    assert all(state.image.shape == (1, 3, H, W) for state in states)
    assert states[0].latent is None
    assert states[-1].latent is not None


def test_both_samplers_and_all_kinds_of_guidance_run(memory, tour):
    images = [
        last(small(steps=2, **settings)(memory.views, tour.cameras[:2], seed())).image
        for settings in (
            {},
            {"sampler": "dpm_solver", "spacing": "karras"},
            {"guidance": "temporal"},
            {"guidance": "uniform"},
        )
    ]
    for i, image in enumerate(images):
        assert all(not torch.equal(image, other) for other in images[:i])


def test_guidance_of_one_is_no_guidance(memory, tour):
    """So is guidance outside its interval of sigma."""
    off = {"guidance": "uniform", "guidance_scale": 1.0}
    images = [
        last(small(**settings)(memory.views, tour.cameras[:2], seed())).image
        for settings in (off, {"interval": (1e3, math.inf)})
    ]
    assert error(*images) < 1e-4


def test_outside_the_interval_half_as_many_rows_are_computed(memory, tour):
    generator, rows = small(interval=(1.0, 50.0), steps=4), []
    run = generator.unet.denoise
    generator.unet.denoise = lambda x, *rest: rows.append(len(x)) or run(x, *rest)
    last(generator(memory.views, tour.cameras[:1], seed()))
    assert rows == [8, 16, 16, 16]


def test_temporal_guidance_is_strongest_midway_between_two_context_views(house, tour):
    generator = small(guidance="temporal", guidance_scale=3.0, guidance_least=1.0)
    views = generator.encode(house.render(tour.cameras[[8, 12]], H, W))
    scale = generator.window(views, tour.cameras[9:12]).scale
    assert scale[:5].tolist() == [1.0, 1.0, 2.0, 3.0, 2.0]
    assert scale[5:].eq(scale[4]).all()  # repeats of the last target


def test_a_step_is_the_same_on_every_device(device, memory, tour):
    """With the memory on the CPU or there, in float32, and almost so in bfloat16."""
    want = last(small()(memory.views, tour.cameras[:2], seed()))
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        generator = small()
        generator = replace(generator, unet=in_precision(generator.unet, dtype).to(device))
        for home in {"cpu", device}:
            views, targets = memory.views.to(home), tour.cameras[:2].to(home)
            made = last(generator(views, targets, seed()))
            assert made.image.device.type == home
            assert error(made.latent.cpu(), want.latent) < tolerance
    assert generator.device.type == device


def test_half_precision_of_the_network_leaves_samples_in_float32(memory, tour):
    generator = small()
    half = replace(generator, unet=in_precision(copy.deepcopy(generator.unet), torch.bfloat16))
    whole, made = (last(g(memory.views, tour.cameras[:2], seed())) for g in (generator, half))
    assert made.latent.dtype == torch.float32
    assert 1e-4 < error(made.latent, whole.latent) < 0.1


def test_in_low_memory_mode_the_codec_is_sent_away_when_idle(memory, tour):
    frugal, lavish = small(low_memory=True), small()
    images = [last(g(memory.views, tour.cameras[:1], seed())).image for g in (frugal, lavish)]
    assert torch.equal(*images)
    assert frugal.codec.sent[1::2] == ["cpu", "cpu"]  # after encoding and after decoding
    assert len(lavish.codec.sent) == 2


def test_in_low_memory_mode_the_codec_is_sent_away_even_if_it_fails(memory, tour):
    generator = small(low_memory=True)

    def fails(latent):
        raise RuntimeError("out of memory")

    generator.codec.decode = fails
    with pytest.raises(RuntimeError, match="out of memory"):
        last(generator(memory.views, tour.cameras[:1], seed()))
    assert generator.codec.sent[-1] == "cpu"


def test_a_compiled_generator_makes_the_same(memory, tour, as_installed, monkeypatch):
    """torch's compiler is left out here; test_unet checks that the network compiles."""
    options = {}
    compile_ = lambda f, **how: options.update(how) or f  # noqa: E731
    monkeypatch.setattr(torch, "compile", compile_)
    images = [
        last(small(compile=mode)(memory.views, tour.cameras[:1], seed())).image
        for mode in (None, "reduce-overhead")
    ]
    assert torch.equal(*images)
    assert options == {"mode": "reduce-overhead", "fullgraph": True}


def test_a_latent_with_a_missing_number_is_computed_anew(memory):
    generator = small()
    views = generator.encode(memory.views)
    latent = views.latent.clone()
    latent[0, 3, 1, 1] = torch.nan
    assert torch.equal(generator.encode(views.replace(latent=latent)).latent, views.latent)


# ---- published weights ---------------------------------------------------------------------------


@pytest.fixture
def published_files(tmp_path):
    """Small networks in files of the published layout, with prefixes of data-parallel training."""
    from diffusers import AutoencoderKL
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = UNetConfig(model_channels=32, num_head_channels=16, context_dim=16)
    state = seeded(UNet(config), "published/").state_dict()
    torch.save(
        {f"module.{key}": value for key, value in state.items()}, tmp_path / "vmem_weights.pth"
    )
    down, up = 4 * ["DownEncoderBlock2D"], 4 * ["UpDecoderBlock2D"]
    widths = [32, 32, 32, 32]
    vae = AutoencoderKL(3, 3, down, up, widths, latent_channels=4, layers_per_block=1)
    vae.save_pretrained(tmp_path / "vae")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "projection_dim": 16, "patch_size": 56}
    clip = CLIPVisionConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu")
    CLIPVisionModelWithProjection(clip).save_pretrained(tmp_path / "clip")
    return tmp_path, config, state


def test_a_generator_is_loaded_from_files_and_walks(published_files, house, tour):
    folder, network, state = published_files
    config = DiffusionConfig(**FAST | {"steps": 2})
    generator = load_diffusion("vmem", network, config, folder, "cpu")
    assert torch.equal(generator.unet.out[2].weight, state["out.2.weight"])
    memory = vm.begin(house.render(tour.given, 64, 128))
    step = last(vm.walk(memory, tour.cameras[:4], generator=generator, reconstructor=oracle(house)))
    assert step.views.latent.shape == (4, 4, 8, 16)
    assert step.memory.views.embedding.shape == (5, 16)
    assert step.memory.views.embedding.isfinite().all()


def test_weights_of_another_network_are_refused_with_the_first_differences(published_files):
    folder, network, _ = published_files
    with pytest.raises(ValueError, match=r"attn2\.to_k\.weight"):
        load_diffusion("vmem", replace(network, context_dim=32), DiffusionConfig(), folder, "cpu")
    with pytest.raises(ValueError, match="not the weights of vmem"):  # of the published size
        preset("vmem", folder, "cpu")


@pytest.mark.parametrize("name", ["vmem", "seva"])
def test_missing_weights_are_named_with_the_way_to_get_them(name, tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDERS, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ValueError, match=f"vmemkit weights get {name}"):
        preset(name, tmp_path)


def test_a_checkpoint_of_the_full_size_loads(tmp_path):
    """With the right names and shapes: a sparse file of 2.5 GB, mapped into memory."""
    header, end = {}, 0
    for key, shape in shapes("vmem_unet").items():
        size = 2 * math.prod(shape)
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = tmp_path / "modelv1.1.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    with torch.device("meta"):
        net = UNet(UNetConfig())
    load_into(net, read(path), "a fake file")
    assert sum(p.numel() for p in net.parameters()) == 1_263_968_004
    assert not any(p.is_meta for p in net.parameters())
    assert not net.out[2].weight.any()


def test_seva_is_the_same_network_with_longer_windows():
    network, config = PRESETS["seva"]
    assert replace(network, num_frames=8) == PRESETS["vmem"][0]
    assert (config.frames, config.context) == (21, 20)
    assert set(PRESETS) <= set(WEIGHTS)
    assert config.camera_scale.offset == 0


def test_only_one_number_is_drawn_from_the_random_generator(memory, tour):
    """So that the same seed gives the same noise, however many steps there are."""
    rng = seed(5)
    last(small(steps=2)(memory.views, tour.cameras[:1], rng))
    follows = seed(5)
    torch.randint(2**62, (1,), generator=follows)
    assert torch.equal(torch.rand(3, generator=rng), torch.rand(3, generator=follows))
