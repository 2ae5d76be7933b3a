"""CUT3R: the published names, reference numbers, and its state, which is a value."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from golden_helpers import PUBLISHED_CUT3R, TINY_CUT3R, error, part, seeded, shapes, tiny_cut3r
from torch.utils.flop_counter import FlopCounterMode

from vmemkit.nets.cut3r import CUT3R, CUT3RConfig, check_model_string
from vmemkit.nets.cut3r.cut3r import points_and_confidence, state_positions
from vmemkit.nets.cut3r.dpt import DPT
from vmemkit.nets.cut3r.vit import rotate, turns

CPU = torch.device("cpu")
ALL = ("pose", "self", "other", "rgb")
OUTPUTS = {
    "camera_pose": "pose",
    "pts3d_in_self_view": "points_self",
    "conf_self": "confidence_self",
    "pts3d_in_other_view": "points_other",
    "conf": "confidence_other",
    "rgb": "rgb",
}


@pytest.fixture(scope="module")
def golden():
    return part("cut3r", "geometry")


@pytest.fixture(scope="module")
def images(golden):
    return golden["images"][:, None]  # [t 1 3 h w]


@pytest.fixture(scope="module")
def run(images):
    """States and predictions, frame by frame."""
    return walk(tiny_cut3r(), images)


def walk(net, images, heads=ALL):
    state, steps = net.begin(), []
    for image in images:
        state, prediction = net.step(state, image, heads)
        steps.append((state, prediction))
    return steps


def same(a, b):
    fields = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)]
    return all(torch.equal(x, y) for x, y in fields if isinstance(x, torch.Tensor))


# ---- the published network -----------------------------------------------------------------------


def test_parameters_have_the_published_names_and_shapes():
    with torch.device("meta"):
        net = CUT3R(CUT3RConfig())
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == shapes("cut3r_512_dpt")
    assert len(net.state_dict()) == 1248
    assert sum(p.numel() for p in net.parameters()) == 793_307_858  # shared ones count once


def test_a_frame_of_the_published_size_costs_what_the_specification_counts():
    with torch.device("meta"):
        net = CUT3R(CUT3RConfig())

    def gflop(height, heads):
        counter = FlopCounterMode(display=False)
        with torch.device("meta"):
            state = dataclasses.replace(net.begin(), started=True)
            image = torch.zeros(1, 3, height, 512)
            with counter, torch.no_grad():
                net.step(state, image, heads)
        return counter.get_total_flops() / 1e9

    assert gflop(384, ALL) == pytest.approx(1585, rel=0.01)
    assert gflop(288, ALL) == pytest.approx(1232, rel=0.01)
    assert gflop(384, ("other",)) == pytest.approx(1585 - 2 * 187, rel=0.01)  # what alignment needs


FULL_SIZE = """
import resource, torch
from vmemkit.nets.cut3r import CUT3R, CUT3RConfig

torch.set_num_threads(2)
with torch.device("meta"):
    net = CUT3R(CUT3RConfig())
net = net.to_empty(device="cpu").requires_grad_(False).eval()
rng = torch.Generator().manual_seed(0)
for name, weights in net.named_parameters():
    scale = weights[0].numel() ** -0.5 if weights.ndim > 1 else 0.1
    weights.normal_(generator=rng).mul_(scale * (0.15 if ".head.4." in name else 1))
image = torch.rand(1, 3, 384, 512, generator=rng) * 2 - 1
state, made = net.step(net.begin(), image)
assert made.points_other.shape == (1, 384, 512, 3) and made.points_other.isfinite().all()
assert 4 * (state.feature.numel() + state.memory.numel()) == 3_932_160  # bytes of a snapshot
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_frame_of_the_published_size_needs_less_than_12_gb():
    done = subprocess.run([sys.executable, "-c", FULL_SIZE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 12


# ---- reference numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "out"), [("pos", "out"), ("pos_neg", "out_cuda_formula_neg")])
def test_rotary_embedding_is_the_references_also_at_negative_places(at, out):
    reference = part("rope", "geometry")
    got = [
        rotate(x, turns(place, 64))
        for x, place in zip(reference["tokens"], reference[at], strict=True)
    ]
    assert error(torch.stack(got), reference[out]) < 1e-6


@pytest.mark.parametrize(("height", "width"), [(48, 80), (64, 32)])
def test_the_dense_head_of_published_widths_is_the_references(height, width):
    reference = part(f"dpt/{height}x{width}", "geometry")
    head = seeded(DPT((64, 48, 48, 48), (96, 192, 384, 768), 256, 128, 4), "dpt_real/")
    raw = head([reference[f"tok{i}"] for i in range(4)], height // 16, width // 16)
    points, confidence = points_and_confidence(raw)
    assert error(raw[..., ::2, ::2], reference["raw"]) < 1e-5
    assert error(points[:, ::2, ::2], reference["pts3d"]) < 1e-4
    assert error(confidence[:, ::2, ::2], reference["conf"]) < 1e-4


@pytest.mark.parametrize("frame", range(3))
def test_every_output_of_a_frame_is_the_references(golden, run, frame):
    state, made = run[frame]
    for theirs, ours in OUTPUTS.items():
        got, want = getattr(made, ours), golden[f"frame{frame}/{theirs}"]
        got = got if theirs == "camera_pose" else got[:, ::2, ::2]
        assert error(got, want) < 1e-4, theirs
    assert error(state.feature, golden[f"frame{frame}/state_feat_after"]) < 1e-4
    assert error(state.memory, golden[f"frame{frame}/mem_after"]) < 1e-4


def test_the_layers_inside_are_the_references(golden, images):
    net, seen = tiny_cut3r(), {}
    watched = ("enc_norm", "dec_blocks.0", "dec_blocks_state.0", "downstream_head.pose_head.mlp")
    hooks = [
        net.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.setdefault(name, []).append(out)
        )
        for name in watched
    ]
    walk(net, images[:3])
    for hook in hooks:
        hook.remove()
    assert error(torch.cat(seen["enc_norm"]), golden["act/enc_norm/0"]) < 1e-4
    for frame in range(3):
        for name, key in zip(watched[1:], (*watched[1:3], "pose_raw"), strict=True):
            assert error(seen[name][frame], golden[f"act/{key}/{frame}"]) < 1e-4, (name, frame)


def test_the_state_begins_as_the_references(golden):
    state = tiny_cut3r().begin()
    assert error(state.feature, golden["init_state_feat"]) < 1e-6
    assert error(state.memory, golden["init_mem"]) < 1e-6
    assert torch.equal(state_positions(12, CPU), golden["state_pos"][0])
    assert state_positions(768, CPU)[-1].tolist() == [27, 11]  # 28 columns, not 27


def test_keeping_and_resetting_the_state_equal_the_references_update_and_reset(golden, images):
    net = tiny_cut3r()
    state = net.begin()
    for i, image in enumerate(images):
        after, made = net.step(state, image)
        state = state if i == 1 else net.reset(after) if i == 2 else after
        want = part(f"cut3r/upd_reset/frame{i}", "geometry")
        assert error(made.points_other[:, ::4, ::4], want["pts3d_in_other_view"]) < 1e-4
        assert error(state.feature, want["state_feat_after"]) < 1e-4
        assert error(state.memory, want["mem_after"]) < 1e-4


# ---- the state is a value ------------------------------------------------------------------------


def test_later_images_change_no_earlier_prediction(images, run):
    for k in (1, 2, 3):
        for short, long in zip(walk(tiny_cut3r(), images[:k]), run, strict=False):
            assert same(short[0], long[0])
            assert same(short[1], long[1])


def test_going_on_from_a_kept_state_is_running_all_at_once(images, run):
    net = tiny_cut3r()
    after_two = run[1][0]
    copy = dataclasses.replace(
        after_two, feature=after_two.feature.clone(), memory=after_two.memory.clone()
    )
    resumed = net.step(copy, images[2], ALL)
    assert same(resumed[1], run[2][1])
    assert same(resumed[0], run[2][0])
    net.step(after_two, images[3])  # a fork
    assert same(net.step(after_two, images[2], ALL)[1], run[2][1])


def test_sequences_of_a_batch_do_not_influence_each_other(images):
    net = tiny_cut3r()
    both, _ = net.step(net.begin(2), torch.cat([images[0], images[1]]))
    both, made = net.step(both, torch.cat([images[1], images[0]]))
    alone = walk(net, images[[1, 0]])[1]
    assert error(made.points_self[1:], alone[1].points_self) < 1e-5
    assert error(both.memory[1:], alone[0].memory) < 1e-5


def test_heads_that_are_not_requested_are_not_run(images, run):
    state, made = tiny_cut3r().step(tiny_cut3r().begin(), images[0], ("self",))
    assert made.pose is made.points_other is made.confidence_other is made.rgb is None
    assert torch.equal(made.points_self, run[0][1].points_self)
    assert same(state, run[0][0])


def test_a_camera_without_an_image_is_answered_and_leaves_the_state_unchanged(images, run):
    net, rays = tiny_cut3r(), torch.rand(1, 6, 48, 80, generator=torch.Generator().manual_seed(0))
    asked, made = net.step(run[0][0], None, ray_map=rays)
    assert same(asked, run[0][0])
    _, other = net.step(run[0][0], None, ray_map=rays + 0.1)
    assert made.points_self.isfinite().all()
    assert not torch.equal(made.points_self, other.points_self)
    both, _ = net.step(run[0][0], images[1], ray_map=rays)
    assert not same(both, run[1][0])


@pytest.mark.parametrize(("height", "width"), [(80, 48), (16, 16), (48, 16), (32, 112)])
def test_portrait_small_and_wide_images_have_a_point_per_pixel(height, width):
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, height, width, generator=rng)
    _, made = tiny_cut3r().step(tiny_cut3r().begin(), image)
    assert made.points_self.shape == (1, height, width, 3)
    assert made.points_other.isfinite().all()
    assert (made.confidence_self > 1).all()


def test_quaternions_are_unit_and_of_one_sign(run):
    for _, made in run:
        assert made.pose[0, 3:].norm() == pytest.approx(1, abs=1e-6)
        assert made.pose[0, 3] >= 0


def test_a_network_without_the_colour_head_has_none(images):
    net = seeded(CUT3R(dataclasses.replace(TINY_CUT3R, rgb_head=False)), "cut3r_tiny/")
    assert not any("rgb" in name for name in net.state_dict())
    with pytest.raises(ValueError, match="the heads are pose, self, other, got rgb"):
        net.step(net.begin(), images[0], ("rgb",))


# ---- errors --------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_say_what_is_needed(images):
    net = tiny_cut3r()
    for match, arguments in {
        "multiples of 16, got": (net.begin(), images[0][..., :-1]),
        "a state of 2 sequences": (net.begin(2), images[0]),
        "got neither": (net.begin(), None),
    }.items():
        with pytest.raises(ValueError, match=match):
            net.step(*arguments)


def test_heads_and_sizes_that_do_not_go_together_are_refused(images, as_installed):
    with pytest.raises(ValueError, match="need one size"):
        tiny_cut3r().step(tiny_cut3r().begin(), images[0], ray_map=torch.zeros(1, 6, 32, 32))
    with pytest.raises(ValueError, match="the heads are pose, self, other, rgb, got depth"):
        tiny_cut3r().step(tiny_cut3r().begin(), images[0], ("depth",))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"enc_num_heads": 3}, r"encoder needs a width that is a multiple of 4 \* 3"),
        ({"state_dec_num_heads": 0}, "state decoder needs"),
        ({"dec_depth": 3}, "need dec_depth >= 4"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        CUT3R(dataclasses.replace(TINY_CUT3R, **change))


# ---- the description in a checkpoint ------------------------------------------------------------


def test_the_published_model_string_describes_the_default_config():
    check_model_string(PUBLISHED_CUT3R, CUT3RConfig())


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("dec_num_heads=12", "dec_num_heads=16", "dec_num_heads: the file says 16, the config 12"),
        ("freeze='encoder'", "state_dec_num_heads=12", "state_dec_num_heads: the file says 12"),
        ("freeze='encoder'", "pose_conf_head=True", "the config 'does not know it'"),
        ("'exp', 1, inf", "'exp', 0, inf", "conf_mode: the file says"),
        ("ARCroco3DStereo(A", "AsymmetricCroCo3DStereo(A", "cannot read"),
        ("enc_depth=24", "enc_depth=__import__('os').system('true')", "is not a plain value"),
        ("enc_depth=24", "enc_depth=[x for x in (1,)]", "is not a plain value"),
        ("enc_num_heads=16, ", "", "does not say enc_num_heads"),
        (PUBLISHED_CUT3R, "-" * 100_000, "cannot read"),
        ("enc_depth=24", "**{}", "cannot read"),
        ("enc_depth=24", "enc_depth={}", "is not a plain value"),
        ("))", "))()", "cannot read"),
        ("))", "), 1)", "cannot read"),
        ("))", "", "cannot read"),
        (PUBLISHED_CUT3R, "", "cannot read"),
        (PUBLISHED_CUT3R, "(" * 5000, "cannot read"),
    ],
)
def test_a_model_string_of_another_network_or_with_code_is_refused(old, new, match):
    assert old in PUBLISHED_CUT3R
    with pytest.raises(ValueError, match=match):
        check_model_string(PUBLISHED_CUT3R.replace(old, new), CUT3RConfig())


def test_numbers_of_heads_that_the_string_omits_are_compared_too():
    with pytest.raises(ValueError, match="state_dec_num_heads: the file says 16, the config 12"):
        check_model_string(PUBLISHED_CUT3R, CUT3RConfig(state_dec_num_heads=12))
