"""What generators and their parts refuse, and the words that say what is needed."""

import math

import pytest
import torch
from core_helpers import turned
from generator_helpers import SMALL, small

from vmemkit.core import Cameras
from vmemkit.generation import Warp, WarpConfig, Writer, assembled, preset, push_pull, two_passes
from vmemkit.generation.diffusion import (
    DiffusionConfig,
    DiffusionGenerator,
    Levels,
    PixelCodec,
    euler,
)
from vmemkit.generation.diffusion.conditioning import conditions
from vmemkit.generation.passes import anchor_places
from vmemkit.generation.warp.planes import fill_depth
from vmemkit.nets.unet import UNet

H, W = 32, 48
pytestmark = pytest.mark.usefixtures("as_installed")


@pytest.fixture(scope="module")
def views(box):
    return box.render(box.look(0.0, 20.0, 40.0, 60.0, 80.0), H, W)


# ---- input of generators -------------------------------------------------------------------------


def of_width(views, width: int):
    return views.replace(image=views.image[..., :width], depth=views.depth[..., :width])


def bent(cameras: Cameras) -> Cameras:
    return cameras.replace(world_from_cam=2 * cameras.world_from_cam)


@pytest.mark.parametrize(
    ("generator", "change", "message"),
    [
        (Warp, lambda c, t: (c[:0], t), "context views with depth"),
        (Warp, lambda c, t: (c.replace(depth=None), t), "context views with depth"),
        (Writer, lambda c, t: (c[:0], t), "context views with depth"),
        (Writer, lambda c, t: (c.replace(depth=None), t), "context views with depth"),
        (small, lambda c, t: (c[:0], t), "8 frames, 1 to 4 of them context"),
        (small, lambda c, t: (c, t), "8 frames, 1 to 4 of them context"),
        (small, lambda c, t: (c[:4], t), "8 frames, 1 to 4 of them context"),
        (small, lambda c, t: (c[:1], t[:0]), "8 frames, 1 to 4 of them context"),
        (small, lambda c, t: (c[:1], t[0]), r"target cameras \(m,\)"),
        (small, lambda c, t: (c[:1], bent(t)), "rigid"),
        (small, lambda c, t: (c.replace(image=c.image / 0), t), "images must be finite"),
        (
            small,
            lambda c, t: (of_width(c, 45), t),
            r"multiples of 8 .* got 32 x 45.*resize\(views, 32, 48\)",
        ),
    ],
)
def test_bad_context_and_bad_targets_are_refused(views, generator, change, message):
    context, targets = change(views, views.cameras)
    with pytest.raises(ValueError, match=message):
        list(generator()(context, targets, torch.Generator()))


def test_a_window_needs_encoded_views_and_temporal_guidance_at_most_two(views):
    with pytest.raises(ValueError, match="`encode` has completed"):
        small().window(views[:1], views.cameras[1:])
    temporal = small(guidance="temporal")
    with pytest.raises(ValueError, match="one context view or between two, got 3"):
        temporal.window(temporal.encode(views[:3]), views.cameras[3:])


@pytest.mark.parametrize(("latents", "embeddings"), [(0, 0), (2, 1), (1, 1)])
def test_conditions_need_a_latent_and_an_embedding_per_given_frame(latents, embeddings):
    given = torch.tensor([True, True, False, False, False])
    cameras = turned(torch.zeros(3), 0.0, 10.0, 20.0, 30.0, 40.0)
    with pytest.raises(ValueError, match="each of 2 given frames"):
        conditions(cameras, given, torch.zeros(latents, 4, 3, 4), torch.zeros(embeddings, 8))


def test_parts_that_do_not_fit_each_other_are_refused():
    network = UNet(SMALL)
    with pytest.raises(ValueError, match="codec of 12 channels needs a network of 19 input"):
        DiffusionGenerator(network, PixelCodec(2))
    encoder = torch.nn.Identity()
    encoder.width = 5
    with pytest.raises(ValueError, match="embeddings of 16, got 5"):
        DiffusionGenerator(network, PixelCodec(4), encoder)


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (DiffusionConfig, {"frames": 4, "context": 4}, "1 to 3 context views, got 4"),
        (DiffusionConfig, {"sampler": "dpm"}, "sampler is one of .* got 'dpm'"),
        (DiffusionConfig, {"guidance": "cfg"}, "guidance is one of"),
        (DiffusionConfig, {"spacing": "linear"}, "spacing is uniform or karras"),
        (DiffusionConfig, {"steps": 0}, "1 to 1000 steps"),
        (DiffusionConfig, {"guidance_scale": math.nan}, "finite scales"),
        (DiffusionConfig, {"interval": (5.0, 1.0)}, "from low to high"),
        (DiffusionConfig, {"preview_every": -1}, "0 or more"),
        (WarpConfig, {"fill": "exemplar"}, "fill is columns or push_pull, got 'exemplar'"),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("levels", "steps", "spacing", "message"),
    [
        (Levels(), 0, "uniform", "1 to 1000 steps"),
        (Levels(), 1001, "uniform", "1 to 1000 steps"),
        (Levels(), 5, "linear", "uniform or karras, got 'linear'"),
        (Levels(), 900, "karras", "fewer steps"),
    ],
)
def test_noise_levels_that_cannot_be_spaced_are_refused(levels, steps, spacing, message):
    with pytest.raises(ValueError, match=message):
        levels.sigmas(steps, spacing)


@pytest.mark.parametrize("levels", [[1.0], [1.0, 2.0, 0.0], [1.0, 1.0, 0.0], [1.0, -1.0]])
def test_levels_that_do_not_fall_are_refused(levels):
    with pytest.raises(ValueError, match="falling levels"):
        list(euler(lambda x, sigma: x, torch.ones(1, 3, 4, 4), torch.tensor(levels)))


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match=r"vmem, seva.*'dalle'"):
        preset("dalle")


# ---- paths and holes -----------------------------------------------------------------------------


def test_two_passes_refuse_bad_paths_at_once(views):
    given, path = views[:1], views.cameras
    for bad in ((given[:0], path), (given, path[:0]), (given, path[0])):
        with pytest.raises(ValueError, match="two passes need"):
            two_passes(*bad, Warp(), frames=8)
    with pytest.raises(ValueError, match="4 frames or more"):
        two_passes(given, path, Warp(), frames=3)
    with pytest.raises(ValueError, match="4 frames or more, got 9, 2"):
        anchor_places(9, 1, 2)


def test_a_path_is_assembled_from_all_its_windows(views):
    windows = list(two_passes(views[:1], views.cameras, Warp(), frames=4))
    with pytest.raises(ValueError, match="each view of the path once"):
        assembled(windows[1:])
    with pytest.raises(ValueError, match="at least one window"):
        assembled([])


def test_filling_from_nothing_is_refused():
    nothing = torch.zeros(4, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="at least one known pixel"):
        push_pull(torch.rand(3, 4, 5), nothing)
    with pytest.raises(ValueError, match="at least one known pixel"):
        fill_depth(torch.rand(4, 5), nothing)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_known_depth_must_be_positive_and_finite(wrong):
    depth = torch.ones(4, 5)
    depth[1, 2] = wrong
    with pytest.raises(ValueError, match="positive and finite"):
        fill_depth(depth, torch.ones(4, 5, dtype=torch.bool))
