"""Codecs and image encoders: shapes, scales, published names, and strict loading."""

import json
import sys

import pytest
import torch
from golden_helpers import error, normal, shapes
from torch.nn.functional import interpolate

from vmemkit.generation.diffusion import PixelCodec, VaeCodec
from vmemkit.generation.diffusion.codecs import (
    CLIP_MEAN,
    CLIP_STD,
    VAE_SCALE,
    ClipTower,
    Codec,
    ImageEncoder,
    load_clip,
    load_vae,
)

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
BLOCKS = {
    "down_block_types": 4 * ("DownEncoderBlock2D",),
    "up_block_types": 4 * ("UpDecoderBlock2D",),
}


def image(*shape: int) -> torch.Tensor:
    return normal("image", *shape).mul(0.2).add(0.5).clamp(0, 1)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(3, 3, **BLOCKS, block_out_channels=(32,) * 4, latent_channels=4)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=16,
        patch_size=56,
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_act="gelu",
    )
    return transformers.CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


# ---- pixels --------------------------------------------------------------------------------------


def test_pixels_come_back_from_their_latents():
    codec = PixelCodec(4)
    latent = codec.encode(image(2, 3, 8, 12))
    assert latent.shape == (2, 48, 2, 3)
    assert error(codec.decode(latent), image(2, 3, 8, 12)) < 1e-6
    assert float(codec.encode(torch.ones(1, 3, 4, 4)).min()) == 1.0


def test_decoded_colours_are_clamped():
    assert PixelCodec(2).decode(torch.full((1, 12, 1, 1), 3.0)).max() == 1.0


# ---- the autoencoder -----------------------------------------------------------------------------


def test_the_published_autoencoder_has_these_names_and_shapes():
    widths = (128, 256, 512, 512)
    with torch.device("meta"):
        model = diffusers.AutoencoderKL(
            3, 3, **BLOCKS, block_out_channels=widths, layers_per_block=2, latent_channels=4
        )
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == shapes("sd21_vae")
    assert model.config.scaling_factor == VAE_SCALE


def test_latents_are_scaled_means_of_the_posterior(vae):
    codec, pixels = VaeCodec(vae), image(2, 3, 16, 24)
    want = vae.encode(2 * pixels - 1).latent_dist.mean * VAE_SCALE
    assert error(codec.encode(pixels), want) < 1e-5
    shown = (vae.decode(want / VAE_SCALE).sample / 2 + 0.5).clamp(0, 1)
    assert error(codec.decode(want), shown) < 1e-4
    assert (codec.channels, codec.factor) == (4, 8)


def test_chunks_change_nothing(vae):
    latents = [VaeCodec(vae, chunk=n).encode(image(3, 3, 16, 16)) for n in (1, 2, 3)]
    assert all(error(latent, latents[0]) < 1e-4 for latent in latents)


# ---- the image tower -----------------------------------------------------------------------------


def test_the_published_image_tower_has_the_stated_number_of_parameters():
    config = transformers.CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        projection_dim=1024,
        patch_size=14,
        num_hidden_layers=32,
        num_attention_heads=16,
        hidden_act="gelu",
    )
    with torch.device("meta"):
        model = transformers.CLIPVisionModelWithProjection(config)
    want = sum(torch.Size(shape).numel() for shape in shapes("open_clip_vith14_visual").values())
    assert sum(p.numel() for p in model.parameters()) == want == 632_076_800


def test_images_are_blurred_before_they_are_shrunk(clip):
    """A chequerboard of single pixels becomes grey. An image that is enlarged is not blurred."""
    board = torch.arange(1344).view(1, -1, 1).add(torch.arange(1344)).remainder(2).float()
    grey = torch.full((1, 3, 8, 8), 0.5)
    tower = ClipTower(clip)
    assert error(tower(board.expand(1, 3, -1, -1)), tower(grey)) < 0.05
    small = image(2, 3, 100, 60)
    size = {"size": (224, 224), "mode": "bicubic", "align_corners": True}
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    pixels = (interpolate(small, **size) - mean) / std
    assert error(tower(small), clip(pixel_values=pixels).image_embeds) < 1e-5
    assert tower.width == 16


# ---- loading -------------------------------------------------------------------------------------


def test_models_come_back_from_their_files(vae, clip, tmp_path):
    vae.save_pretrained(tmp_path / "vae")
    clip.save_pretrained(tmp_path / "clip")
    codec = load_vae(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    tower = load_clip(tmp_path / "clip" / "model.safetensors")
    pixels = image(1, 3, 16, 16)
    assert torch.equal(codec.encode(pixels), VaeCodec(vae).encode(pixels))
    assert torch.equal(tower(pixels), ClipTower(clip)(pixels))
    assert not any(p.requires_grad for p in codec.parameters())
    assert isinstance(codec, Codec)
    assert isinstance(tower, ImageEncoder)


@pytest.mark.parametrize("where", ["both", "top"])
def test_the_image_tower_comes_out_of_a_file_with_both_towers(clip, tmp_path, capfd, where):
    """As on the hub. The towers' common width may be given only at the top of the settings."""
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 9}
    text |= {"num_attention_heads": 2, "projection_dim": 16}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=clip.config.to_dict(), projection_dim=16
    )
    whole = transformers.CLIPModel(config)
    whole.vision_model.load_state_dict(clip.vision_model.state_dict())
    whole.visual_projection.load_state_dict(clip.visual_projection.state_dict())
    whole.save_pretrained(tmp_path)
    if where == "top":
        settings = json.loads((tmp_path / "config.json").read_text())
        del settings["vision_config"]["projection_dim"]
        (tmp_path / "config.json").write_text(json.dumps(settings))
    capfd.readouterr()
    tower = load_clip(tmp_path / "model.safetensors")
    assert error(tower(image(1, 3, 16, 16)), ClipTower(clip)(image(1, 3, 16, 16))) < 1e-5
    assert capfd.readouterr() == ("", "")  # no table of the text tower's hundreds of keys


def test_a_vae_file_with_more_in_it_is_refused(vae, tmp_path):
    from safetensors.torch import load_file, save_file

    vae.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"stranger": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="more than a VAE, such as stranger"):
        load_vae(file)
    with pytest.raises(ValueError, match="named as on the hub"):
        load_vae(tmp_path / "does_not_exist.safetensors")


def test_files_that_lack_parameters_are_refused(vae, tmp_path):
    from safetensors.torch import load_file, save_file

    vae.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    for key in [key for key in state if key.startswith("encoder.conv")]:
        del state[key]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder\.conv"):
        load_vae(file)


def test_pickles_and_files_without_their_config_are_refused(tmp_path):
    for name in ("pytorch_model.bin", "model.safetensors"):
        with pytest.raises(ValueError, match=r"config\.json beside it"):
            load_clip(tmp_path / name)


def test_a_broken_file_is_refused(clip, tmp_path):
    clip.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot load"):
        load_clip(file)


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r'pip install "vmemkit\[weights\]"'):
        load_vae(tmp_path / "vae.safetensors")
