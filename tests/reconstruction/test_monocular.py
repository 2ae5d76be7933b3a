"""Depth of one photo: a network's, in metres or made metric by the floor, or a box."""

from __future__ import annotations

import sys

import pytest
import torch

from vmemkit.core import intrinsics
from vmemkit.nets.weights import FOLDERS
from vmemkit.reconstruction import (
    DepthEstimator,
    find_estimator,
    load_depth_anything,
    metres_from_floor,
    start_from_photo,
)
from vmemkit.reconstruction.monocular import MAX_ASPECT, DepthAnything
from vmemkit.scenes import rooms, stereo_view, upright_cameras

SIZE = (36, 48)
STEREO = stereo_view("cycles")


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """A machine without weights."""
    monkeypatch.setenv(FOLDERS, str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def small_network(kind: str):
    """Depth Anything V2 in small, with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    stages = [f"stage{i}" for i in range(1, 5)]
    sizes = {"image_size": 56, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    backbone = transformers.Dinov2Config(**sizes, out_features=stages, reshape_hidden_states=False)
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20,
    )
    return transformers.DepthAnythingForDepthEstimation(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both networks, as VMEMKIT_WEIGHTS may name it."""
    folder = tmp_path_factory.mktemp("weights")
    for kind in ("metric", "relative"):
        small_network(kind).save_pretrained(folder / f"depth-{kind}")
    return folder


# ---- the network ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # the library's own
@pytest.mark.parametrize("kind", ["metric", "relative"])
def test_the_network_is_loaded_from_a_folder_and_knows_what_its_numbers_mean(folder, kind):
    estimator = load_depth_anything(folder / f"depth-{kind}" / "model.safetensors")
    assert estimator.metric is (kind == "metric")
    assert kind in estimator.name
    image = torch.rand(3, 90, 160, generator=torch.Generator().manual_seed(0))
    depth = estimator(image)
    assert depth.shape == (56, 100)  # the photo's format at the shorter side of training
    assert (depth >= 0).all()
    assert not depth.requires_grad


def test_an_image_is_prepared_as_by_the_library_s_own_processor():
    """Normalised, at whole patches: what the network gets for a photo of its own size is compared."""
    network, image = small_network("metric"), torch.rand(3, 56, 84)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        expected = network(pixel_values=((image - mean) / std)[None]).predicted_depth[0]
    torch.testing.assert_close(DepthAnything(network)(image), expected)


def test_a_long_photo_is_made_small_enough():
    depth = DepthAnything(small_network("metric"))(torch.rand(3, 20, 400))
    assert depth.shape[1] <= MAX_ASPECT * 56


@pytest.mark.filterwarnings("default")
def test_the_metric_network_comes_first(folder, no_weights, tmp_path):
    assert find_estimator(folder).metric
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "depth-relative").symlink_to(folder / "depth-relative")
    assert not find_estimator(tmp_path / "other").metric


def test_without_weights_it_is_said_what_they_are_and_how_to_get_them(no_weights):
    with pytest.raises(ValueError, match="not on this machine") as error:
        find_estimator()
    for words in ("99 MB", "Apache-2.0", "weights get depth-metric", "--yes", "depth 'room'"):
        assert words in str(error.value)


@pytest.mark.filterwarnings("default")
def test_nothing_is_downloaded_without_consent(folder, no_weights):
    asked, got = [], []

    def get(name, where):
        got.append(name)
        return folder / name / "model.safetensors"

    def second(entry):
        asked.append(entry.name)
        return len(asked) == 2

    assert not find_estimator(None, second, get).metric
    assert asked == ["depth-metric", "depth-relative"]
    assert got == ["depth-relative"]


def test_without_the_library_it_is_said_how_to_install_it(no_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r'pip install "vmemkit\[weights\]"'):
        find_estimator(consent=lambda entry: True)


def test_a_broken_file_is_refused(folder, tmp_path):
    pytest.importorskip("transformers")
    for name in ("config.json", "model.safetensors"):
        content = (folder / "depth-metric" / name).read_bytes()
        (tmp_path / name).write_bytes(
            content[: len(content) // (1 if name == "config.json" else 2)]
        )
    with pytest.raises(ValueError, match="cannot load"):
        load_depth_anything(tmp_path / "model.safetensors")


# ---- metres --------------------------------------------------------------------------------------


def tilted_room(seed: int, slope: float):
    camera = upright_cameras(
        rooms(seed).centres[:1],
        torch.tensor([40.0 + 67 * seed]),
        intrinsics(75.0, 4 / 3),
        torch.tensor([slope]),
    )
    return rooms(seed).render(camera, 90, 120)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (7.0, 3.0), (0.2, -0.5)])
def test_the_floor_gives_scale_and_shift(scale, shift):
    """Inverse depth with noise of 1 %; the eye of the made-up rooms is 1.5 m above the floor."""
    for seed in range(3):
        view = tilted_room(seed, 18.0)
        truth, noise = view.depth[0], torch.Generator().manual_seed(seed)
        inverse = 1 / truth * (1 + 0.01 * torch.randn(truth.shape, generator=noise))
        camera = view.cameras
        depth = metres_from_floor(scale * inverse + shift, camera.K[0], camera.rotation[0], 1.5)
        assert (depth / truth - 1).abs().mean() < 0.1


def test_the_eye_height_sets_the_metres():
    view = tilted_room(0, 18.0)
    lens = view.cameras.K[0], view.cameras.rotation[0]
    one, two = (metres_from_floor(1 / view.depth[0], *lens, height) for height in (0.5, 1.0))
    near = two < 19
    torch.testing.assert_close(2 * one[near], two[near])


@pytest.mark.parametrize("case", ["a wall", "nothing", "the sky"])
def test_without_a_floor_other_ways_are_named(case):
    inverse = {
        "a wall": torch.full(SIZE, 0.5),
        "nothing": torch.zeros(SIZE),
        "the sky": torch.linspace(1, 0, SIZE[0])[:, None].expand(SIZE).contiguous(),
    }[case]
    with pytest.raises(ValueError, match="no floor is seen"):
        metres_from_floor(inverse, intrinsics(65.0, 4 / 3), torch.eye(3))


# ---- the start of a walk -------------------------------------------------------------------------


def test_a_metric_network_s_depth_is_taken_as_it_is():
    truth = STEREO.depth[0].nan_to_num(2.0)
    estimator = DepthEstimator(lambda image: truth, metric=True, name="the truth")
    beginning = start_from_photo(STEREO.image[0], SIZE, "auto", STEREO.cameras.K[0], 1.5, estimator)
    assert beginning.given.image.shape == (1, 3, *SIZE)
    assert set(beginning.given.depth.unique().tolist()) <= set(truth.unique().tolist())
    assert beginning.given.cameras.forward[0, 1] > 0.2  # level in the world: the camera looked down
    assert "estimated by the truth: in metres" in beginning.about
    assert "from the photo's lines" in beginning.about


def test_a_relative_network_s_depth_gets_metres_from_the_floor_of_a_photograph():
    """Measured depth as inverse depth without scale and shift, as the relative network gives it."""
    truth = STEREO.depth[0].nan_to_num(3.0)
    estimator = DepthEstimator(lambda image: 40 / truth + 5, metric=False)
    beginning = start_from_photo(STEREO.image[0], SIZE, "auto", STEREO.cameras.K[0], 1.1, estimator)
    known = torch.nn.functional.interpolate(truth[None, None], SIZE, mode="nearest-exact")[0]
    error = (beginning.given.depth / known - 1).abs()
    scale = float((known / beginning.given.depth).median())
    assert (scale * beginning.given.depth / known - 1).abs().mean() < 0.1, (scale, error.mean())
    assert "1.1 m above it" in beginning.about


def test_a_photo_without_lines_is_taken_to_be_level():
    estimator = DepthEstimator(lambda image: torch.full((12, 16), 2.0), metric=True)
    beginning = start_from_photo(torch.full((3, 48, 64), 0.5), SIZE, "auto", estimator=estimator)
    assert torch.equal(beginning.given.cameras.rotation[0], torch.eye(3))
    assert "taken to be level" in beginning.about


def test_depth_can_be_a_room_or_given():
    image = STEREO.image[0]
    room = start_from_photo(image, SIZE, "room", STEREO.cameras.K[0])
    assert "rough guess" in room.about
    given = start_from_photo(image, SIZE, torch.full((3, 4), 2.0), STEREO.cameras.K[0])
    assert given.given.depth.unique().tolist() == [2.0]


def test_another_word_for_depth_is_refused():
    with pytest.raises(ValueError, match="one of auto, room, got 'guess'"):
        start_from_photo(STEREO.image[0], SIZE, "guess")
