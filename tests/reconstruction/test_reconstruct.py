"""CUT3R as a reconstructor: scales found, failures said, a state that goes with the memory."""

from __future__ import annotations

import dataclasses
from argparse import Namespace

import pytest
import torch
from core_helpers import Box
from golden_helpers import TINY_CUT3R, seeing_ahead, tiny_cut3r
from safetensors.torch import save_file
from test_cut3r import PUBLISHED

import vmemkit as vm
from vmemkit.core import Cameras, PointMaps, cameras, cat, intrinsics, pixel_centres, stream
from vmemkit.evaluation import Corruption, Simulated
from vmemkit.memory import Memory, begin, write
from vmemkit.nets.cut3r import CUT3RConfig
from vmemkit.reconstruction import (
    AlignConfig,
    Cut3r,
    Reconstruction,
    Report,
    cut3r,
    prepare,
    reconstruct,
    sampled,
)
from vmemkit.reconstruction.cut3r_images import load_network, taken
from vmemkit.reconstruction.cut3r_stage import (
    NO_BASELINE,
    NO_OVERLAP,
    NO_PNP,
    ODD_SCALE,
    POOR_FIT,
    Cut3rState,
)

SIZE = (48, 64)
SMALL = CUT3RConfig(img_size=(64, 64))
BOTH = Corruption(unit=0.4, scale=0.1, shift=0.2)
QUICK = AlignConfig(iterations=5, pnp_pixels=0.6)  # 5 pixels at the published size


def path(n: int = 9) -> Cameras:
    """A step to the right and a turn from camera to camera: a baseline, and much overlap."""
    box = Box()
    return cat([box.look(4.0 * i, at=(-0.5 + 0.1 * i, 0.0, -0.6 + 0.03 * i)) for i in range(n)])


def start(n: int = 1, size: tuple[int, int] = SIZE, of: Cameras | None = None) -> Memory:
    return begin(Box().render((of or path())[:n], *size))


def unknown(first: int, last: int, size: tuple[int, int] = SIZE, of: Cameras | None = None):
    """Views whose depth nobody knows."""
    views = Box().render((of or path())[first:last], *size)
    return views.replace(depth=None, given=torch.zeros(last - first, dtype=torch.bool))


def simulated(corruption: Corruption = BOTH, size=SIZE, of: Cameras | None = None, **how) -> Cut3r:
    return Cut3r(Simulated(Box(), of or path(), size, corruption, SMALL), **how)


def wrong(made: Reconstruction, first: int, size=SIZE, of: Cameras | None = None) -> float:
    """Median relative error of the depth of views from `first` on."""
    known = (of or path())[first : first + len(made.views)]
    error = (made.views.depth / Box().depth(known, *size) - 1).abs()
    return float(error[error.isfinite()].median())


# ---- scales --------------------------------------------------------------------------------------


def test_the_memory_tells_scale_and_shift_of_each_view():
    made = simulated().seeing(start())(unknown(1, 5))
    assert wrong(made, 1) < 2e-3
    for i, report in enumerate(made.reports, start=1):
        of_view = torch.randn(2, generator=stream(0, i))
        assert report.scale == pytest.approx(float((-0.1 * of_view[0]).exp()) / 0.4, rel=0.02)
        assert report.inliers > 0.9
        assert report.overlap > 0.5
        assert report.residual < 0.01
        assert (report.warning, report.trusted) == ("", True)


def test_noise_stays_noise():
    noisy = dataclasses.replace(BOTH, noise=0.02)
    made = simulated(noisy).seeing(start())(unknown(1, 5))
    assert wrong(made, 1) == pytest.approx(0.0135, abs=0.004)  # the median of |N(0, 0.02)|


@pytest.mark.parametrize(("align", "limit"), [("released", 0.1), ("full", 0.1), ("none", 0.7)])
def test_other_ways_come_less_close(align, limit):
    how = simulated(Corruption(unit=0.4), align=align, failures="keep", optimiser=QUICK)
    made = how.seeing(start())(unknown(1, 5))
    assert 2e-3 < wrong(made, 1) < limit
    assert all(
        report.residual == pytest.approx(wrong(made, 1), abs=0.05) for report in made.reports
    )


def test_the_first_views_of_all_can_be_brought_into_the_world_by_their_poses():
    released = simulated(Corruption(unit=0.4), align="released", optimiser=QUICK)
    made = released(unknown(0, 4))
    assert wrong(made, 0) < 0.1
    assert {report.overlap for report in made.reports} == {0.0}
    memory = write(Memory.empty(), made.views, made.state)
    again = released.seeing(memory)(unknown(4, 8))
    assert wrong(again, 4) < 0.1
    assert again.reports[0].overlap > 0.5


def test_a_wrong_unit_is_seen_against_the_memory_and_leaves_no_surfels():
    memory, views = start(), unknown(1, 3)
    bad = Corruption(unit=300.0)
    how = simulated(bad, align="none")
    made = how.seeing(memory)(views)
    assert {report.warning for report in made.reports} == {ODD_SCALE}
    assert (made.views.confidence == 0).all()
    after = write(memory, made.views, made.state)
    assert len(after.surfels) == len(memory.surfels)
    assert len(after) == 3
    kept = simulated(bad, align="none", failures="keep").seeing(memory)(views)
    assert kept.reports == made.reports
    assert len(write(memory, kept.views).surfels) > len(memory.surfels)
    with pytest.raises(ValueError, match=r"view 0 of 2 cannot .* implausible scale"):
        simulated(bad, align="none", failures="stop").seeing(memory)(views)
    assert wrong(simulated(bad).seeing(memory)(views), 1) < 2e-3  # which the overlap mends


def test_a_unit_that_changes_on_the_way_is_followed_where_the_memory_knows_the_place():
    memory = start()
    for first, unit in ((1, 0.4), (3, 0.8), (5, 0.8)):
        how, views = simulated(Corruption(unit=unit)), unknown(first, first + 2)
        made = how.seeing(memory)(views)
        assert [report.warning for report in made.reports] == ["", ""]
        assert wrong(made, first) < 2e-3
        memory = write(memory, made.views, made.state)


def test_what_the_generator_imagined_stays_imagined():
    views, guess = unknown(1, 3), torch.ones(2, *SIZE)
    guess[:, :, 32:] = 2.0
    made = simulated().seeing(start())(views.replace(confidence=guess))
    assert torch.equal(made.views.confidence, guess)


def test_one_view_that_pnp_cannot_place_spoils_no_other():
    @dataclasses.dataclass(frozen=True)
    class Unsure(Simulated):
        def step(self, state, image, heads):
            after, said = super().step(state, image, heads)
            low = said.confidence_other * (0.4 if state == 2 else 1)
            return after, dataclasses.replace(said, confidence_other=low)

    net = Unsure(Box(), path(), SIZE, Corruption(unit=0.4), SMALL)
    made = Cut3r(net, "released", optimiser=QUICK)(unknown(0, 4))
    assert [report.warning for report in made.reports] == ["", "", NO_PNP, ""]
    assert wrong(made, 0) < 0.1
    assert (made.views.confidence[2] == 0).all()
    assert all(report.scale == pytest.approx(2.5, rel=0.1) for report in made.reports)
    memory = write(Memory.empty(), made.views, made.state)
    assert len(memory.state.placed) == 2  # the anchor is kept apart


def test_a_baseline_that_is_tiny_beside_the_depth_tells_no_scale():
    box = Box()
    of = cat([box.look(2.0 * i, at=(0.001 * i, 0.0, 0.0)) for i in range(4)])
    noisy = Corruption(unit=0.4, noise=0.01)
    made = simulated(noisy, of=of, align="released", optimiser=QUICK)(unknown(0, 4, of=of))
    assert not any(report.trusted for report in made.reports)


@pytest.mark.parametrize("align", ["direct", "released", "full", "none"])
def test_views_without_texture_and_identical_ones_go_through_a_real_network(align):
    how, grey = Cut3r(seeing_ahead(), align, optimiser=QUICK), torch.full((3, 3, *SIZE), 0.5)
    views = unknown(1, 4).replace(image=grey)
    made = how.seeing(start())(views)
    assert len(made.reports) == 3
    assert (made.views.depth > 0).any()
    trusted = torch.tensor([report.trusted for report in made.reports])
    assert ((made.views.confidence > 0).flatten(1).any(1) == trusted).all()
    twins = views.replace(cameras=cat([path()[1:2]] * 3))
    again = how.seeing(start())(twins)
    assert len(write(start(), again.views, again.state)) == 4


def test_views_that_pnp_cannot_place_are_said_to_be_so(monkeypatch):
    how = simulated(align="released", failures="distrust")
    monkeypatch.setattr("vmemkit.evaluation.reconstructors.SURE", 2.0)  # PnP takes nothing below 3
    made = how.seeing(start())(unknown(1, 3))
    assert [report.warning for report in made.reports] == [NO_PNP] * 2
    assert (made.views.confidence == 0).all()


def test_a_geometry_that_the_memory_contradicts_all_over_is_a_poor_fit():
    made = simulated(Corruption(unit=0.4, noise=0.4)).seeing(start())(unknown(1, 2))
    assert made.reports[0].warning == POOR_FIT
    assert not made.reports[0].trusted


# ---- no overlap, one place, one view ---------------------------------------------------------------


def around() -> Cameras:
    box = Box()
    return cat([box.look(0.0, at=(0.0, 0.0, -0.5)), box.look(2.0), box.look(180.0)])


def test_without_overlap_the_last_scale_is_carried_over_and_said_so():
    how, memory, of = simulated(Corruption(unit=0.4), of=around()), start(of=around()), around()
    together = how.seeing(memory)(unknown(1, 3, of=of))
    assert [report.warning for report in together.reports] == ["", NO_OVERLAP]
    assert together.reports[1].trusted
    assert wrong(together, 1, of=of) < 2e-3
    seen = how.seeing(memory)(unknown(1, 2, of=of))
    memory = write(memory, seen.views, seen.state)
    alone = how.seeing(memory)(unknown(2, 3, of=of))
    assert [report.warning for report in alone.reports] == [NO_OVERLAP]
    assert wrong(alone, 2, of=of) < 2e-3


def test_without_overlap_and_without_a_scale_nothing_is_trusted():
    of = around()[torch.tensor([0, 2])]
    made = simulated(Corruption(unit=0.4), of=of).seeing(start(of=of))(unknown(1, 2, of=of))
    assert (made.reports[0].warning, made.reports[0].trusted) == (NO_OVERLAP, False)
    assert made.reports[0].scale != made.reports[0].scale  # NaN
    assert (made.views.confidence == 0).all()


def test_cameras_in_one_place_need_the_memory():
    of = cat([Box().look(5.0 * i) for i in range(4)])
    made = simulated(of=of, align="released").seeing(start(of=of))(unknown(1, 4, of=of))
    assert {report.warning for report in made.reports} == {NO_BASELINE}
    assert not any(report.trusted for report in made.reports)
    assert wrong(simulated(of=of).seeing(start(of=of))(unknown(1, 4, of=of)), 1, of=of) < 2e-3


def test_identical_views_have_one_geometry():
    of = cat([path(1)] * 4)
    made = simulated(Corruption(unit=0.4), of=of).seeing(start(of=of))(unknown(1, 4, of=of))
    assert wrong(made, 1, of=of) < 2e-3
    torch.testing.assert_close(made.views.depth[0], made.views.depth[2])


def test_nothing_remembered_tells_direct_no_scale_and_one_view_tells_nobody():
    with pytest.raises(
        ValueError, match='begin with views of known depth, or with align="released"'
    ):
        simulated()(unknown(0, 2))
    with pytest.raises(ValueError, match="no baseline that tells the scale"):
        simulated(align="released", failures="stop")(unknown(0, 1))


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (45, 61), (64, 64), (33, 100)])
@pytest.mark.parametrize("align", ["direct", "released"])
def test_images_of_any_shape_have_geometry_where_the_network_sees(size, align):
    K = intrinsics(70.0, size[1] / size[0])
    of = cameras(path().world_from_cam, K)
    how = simulated(Corruption(unit=0.4), size, of, align=align, optimiser=QUICK)
    made = how.seeing(start(size=size, of=of))(unknown(1, 4, size, of))
    assert made.views.depth.shape == (3, *size)
    if align == "direct":
        assert wrong(made, 1, size, of) < 3e-3
    else:  # which on images so small may take a wrong focal length for the right one, and says so
        close = wrong(made, 1, size, of) < 0.15
        assert close or not any(report.trusted for report in made.reports)
    known = made.views.depth.isfinite()
    assert known.float().mean() > 0.6
    if size[0] == size[1]:  # a square loses an eighth above and below
        assert not known[:, :8].any()
        assert not known[:, -8:].any()
        assert known[:, 8:-8].all()


# ---- the state -------------------------------------------------------------------------------------


def walked(how: Cut3r, memory: Memory, steps: int = 3, m: int = 2) -> list[Memory]:
    memories = [memory]
    for i in range(steps):
        views = unknown(1 + m * i, 1 + m * (i + 1))
        made = how.seeing(memory)(views)
        truth = PointMaps.from_depth(views.cameras, Box().depth(views.cameras, *SIZE))
        memory = write(memory, views, truth, made.state)
        memories.append(memory)
    return memories


def network_state(memory: Memory) -> tuple:
    state = memory.state.network
    return state.feature, state.memory


@pytest.mark.parametrize("align", ["direct", "released"])
def test_a_kept_state_is_the_one_that_going_through_all_views_makes(align):
    how = Cut3r(seeing_ahead(), align, failures="keep", optimiser=QUICK)
    *_, before, last = walked(how, start())
    made = how.seeing(before)(unknown(5, 7))
    forgotten = dataclasses.replace(before, _states=())
    assert forgotten.state is None
    again = how.seeing(forgotten)(unknown(5, 7))
    for kept, anew in zip(
        network_state(last), dataclasses.astuple(again.state.network), strict=False
    ):
        assert torch.equal(kept, anew)
    assert torch.equal(made.views.depth.nan_to_num(), again.views.depth.nan_to_num())


def test_undo_and_fork_go_back_to_the_state_of_then():
    how = Cut3r(seeing_ahead(), failures="keep")
    one, two, three, _ = walked(how, start())
    assert one.state is None
    assert isinstance(two.state, Cut3rState)
    assert three.truncate(3).state is two.state
    assert three.truncate(4).state is None  # in the middle of a step: made anew when needed
    assert three.fork().state is three.state
    undone = how.seeing(three.truncate(3))(unknown(3, 5))
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            network_state(three), dataclasses.astuple(undone.state.network), strict=False
        )
    )


def test_a_step_costs_as_many_frames_as_it_has_new_views():
    @dataclasses.dataclass(frozen=True)
    class Counted(Simulated):
        frames: list = dataclasses.field(default_factory=list)

        def step(self, state, image, heads):
            self.frames.append((state, heads))
            return super().step(state, image, heads)

    for align, heads in (("direct", ("self",)), ("released", ("other",))):
        net = Counted(Box(), path(), SIZE, Corruption(unit=0.4), SMALL)
        how, memory = Cut3r(net, align), start(3)
        for first in (3, 5, 7):
            before = len(net.frames)
            views = unknown(first, first + 2)
            made = how.seeing(memory)(views)
            memory = write(memory, made.views, made.state)
            assert net.frames[before:][-2:] == [(first, heads), (first + 1, heads)]
            assert len(net.frames) - before == (5 if first == 3 else 2)  # three given ones, once
        if align == "direct":  # whose geometry is known already
            assert [heads for _, heads in net.frames[:3]] == [()] * 3


def test_the_state_of_another_network_is_not_gone_on_from():
    memory = walked(Cut3r(seeing_ahead(), failures="keep"), start())[1]
    made = simulated().seeing(memory)(unknown(3, 5))
    assert made.state.network == 5
    assert wrong(made, 3) < 2e-3


def test_a_walk_keeps_reports_and_state():
    of = path()
    how, memory = simulated(), start()
    steps = list(vm.walk(memory, of[1:5], reconstructor=how, m=2))
    assert [len(step.reports) for step in steps] == [2, 2]
    assert all(isinstance(report, Report) for step in steps for report in step.reports)
    assert steps[-1].memory.state.network == 5
    assert "Reconstruction(PointMaps" in repr(
        list(vm.stages(memory, of[1:3], reconstructor=how))[-2]
    )


def test_a_reconstructor_that_returns_something_else_is_told_so():
    with pytest.raises(ValueError, match="returns PointMaps or a Reconstruction, got int"):
        reconstruct(lambda views: 3, start(), unknown(1, 2))


def test_settings_that_cannot_be_are_refused(as_installed):
    for bad, match in (
        ({"align": "hopefully"}, "align is one of direct, released, full, none, got 'hopefully'"),
        ({"failures": "ignore"}, "failures is one of"),
        ({"plausible": 0.5}, "need plausible > 1"),
    ):
        with pytest.raises(ValueError, match=match):
            simulated(**bad)


# ---- images in and maps out --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "seen", "window"),
    [
        ((576, 576), (384, 512), (0, 0.125, 1, 0.75)),  # VMem's images, and what it loses of them
        ((288, 512), (288, 512), (0, 0, 1, 1)),
        ((720, 1280), (288, 512), (0, 0, 1, 1)),
        ((640, 360), (512, 288), (0, 0, 1, 1)),
        ((48, 64), (384, 512), (0, 0, 1, 1)),
        ((341, 512), (336, 512), (0, 2 / 341, 1, 336 / 341)),
        ((100, 303), (160, 512), (0, 4 / 169, 1, 160 / 169)),
    ],
)
def test_images_are_prepared_as_the_network_was_trained(size, seen, window):
    image, box = prepare(torch.full((2, 3, *size), 0.75), CUT3RConfig())
    assert image.shape == (2, 3, *seen)
    assert image == pytest.approx(0.5, abs=0.01)
    assert (box.left, box.top, box.width, box.height) == pytest.approx(window)


def test_the_window_shows_what_the_image_shows_there():
    ramp = torch.linspace(0, 1, 576)[:, None].expand(3, 576, 576)
    image, window = prepare(ramp[None], CUT3RConfig())
    rows = window.top + window.height * (torch.arange(384) + 0.5) / 384
    torch.testing.assert_close(image[0, 0, :, 100], 2 * rows - 1, atol=0.01, rtol=0)
    camera = Box().look(0.0)[0]
    uv = torch.tensor([[0.5, window.top], [0.5, 0.5]])
    there = window.camera(camera).K @ torch.linalg.inv(camera.K)
    moved = torch.cat([uv, torch.ones(2, 1)], -1) @ there.mT
    torch.testing.assert_close(moved[:, :2], torch.tensor([[0.5, 0.0], [0.5, 0.5]]))


def test_depth_between_pixels_is_exact_on_planes_and_not_mixed_across_edges():
    _, window = prepare(torch.zeros(1, 3, 64, 64), SMALL)
    rows, columns = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    plane = 1 / (0.2 + 0.004 * columns + 0.002 * rows)
    uv = pixel_centres(150, 150)
    got = sampled(plane, window, uv)
    u, v = uv[..., 0] * 64, (uv[..., 1] - window.top) / window.height * 48
    want = 1 / (0.2 + 0.004 * u + 0.002 * v)
    inner = (u > 0.5) & (u < 63.5) & (v > 0.5) & (v < 47.5)
    torch.testing.assert_close(got[inner], want[inner])
    assert got[(v < 0) | (v > 48)].isnan().all()
    step = torch.where(columns < 32, 1.0, 3.0)
    step[0, 0] = torch.nan
    mixed = sampled(step, window, uv)
    mixed = mixed[mixed.isfinite()]
    assert torch.minimum((mixed - 1).abs(), (mixed - 3).abs()).max() < 1e-6
    assert len(mixed) == taken(step, window, uv, "nearest").isfinite().sum()


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (torch.zeros(0, 3, 48, 64), r"needs images .* got \[0, 3, 48, 64\]"),
        (torch.zeros(1, 3, 0, 0), "needs images"),
        (torch.zeros(1, 3, 10, 400), "shorter side is at least 16 / 512 of the longer"),
        (torch.full((1, 3, 48, 64), torch.nan), "finite and in"),
        (torch.full((1, 3, 48, 64), 1.5), "finite and in"),
    ],
)
def test_images_that_the_network_cannot_take_are_refused(image, match):
    with pytest.raises(ValueError, match=match):
        prepare(image, CUT3RConfig())


def test_a_view_in_which_all_is_behind_the_camera_is_an_error():
    how = simulated(Corruption(unit=-1.0), align="none", failures="keep")
    with pytest.raises(ValueError, match="sees nothing in front of the camera of view 0 of 2"):
        how.seeing(start())(unknown(1, 3))


# ---- weights -----------------------------------------------------------------------------------------


def model_string(config: CUT3RConfig, **changes) -> str:
    ours = ("layer_dims", "feature_dim", "last_dim")
    fields = {k: v for k, v in (dataclasses.asdict(config) | changes).items() if k not in ours}
    inner = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"ARCroco3DStereo(ARCroco3DStereoConfig(freeze='encoder', {inner}))"


def saved(path, text=None, **extra):
    kept = {} if text is None else {"args": Namespace(model=text, lr=1e-4, epochs=10)}
    torch.save({"model": tiny_cut3r().state_dict(), "epoch": 3} | kept | extra, path)
    return path


def test_a_checkpoint_is_loaded_after_its_own_words_were_compared(tmp_path):
    file = saved(tmp_path / "x.pth", model_string(TINY_CUT3R))
    how = cut3r(file, config=TINY_CUT3R, align="released", failures="keep")
    own = tiny_cut3r().state_dict()
    assert all(torch.equal(value, own[name]) for name, value in how.network.state_dict().items())
    assert not any(p.requires_grad for p in how.network.parameters())
    assert repr(how) == "Cut3r(align='released', failures='keep')"
    made = how.seeing(start())(unknown(1, 3))
    same = Cut3r(tiny_cut3r(), "released", failures="keep").seeing(start())(unknown(1, 3))
    assert torch.equal(made.views.depth.nan_to_num(), same.views.depth.nan_to_num())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    file = saved(tmp_path / "x.pth", model_string(TINY_CUT3R, state_dec_num_heads=3))
    with pytest.raises(ValueError, match="state_dec_num_heads: the file says 3, the config 4"):
        load_network(file, TINY_CUT3R)
    with pytest.raises(ValueError, match="enc_depth: the file says 2, the config 24"):
        load_network(saved(tmp_path / "x.pth", model_string(TINY_CUT3R)))
    with pytest.raises(ValueError, match="these are not the weights of CUT3R, which has 1248 keys"):
        load_network(saved(tmp_path / "x.pth", PUBLISHED))
    with pytest.raises(ValueError, match="cannot read the checkpoint's model string"):
        load_network(saved(tmp_path / "x.pth", "__import__('os').abort()"), TINY_CUT3R)


def test_half_precision_files_are_loaded_in_float32(tmp_path):
    half = {name: value.half() for name, value in tiny_cut3r().state_dict().items()}
    torch.save({"model": half, "args": {"model": model_string(TINY_CUT3R)}}, tmp_path / "x.pth")
    assert load_network(tmp_path / "x.pth", TINY_CUT3R).pose_token.dtype == torch.float32
    torch.save({"model": half, "args": {"model": 7}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="describes its network by a int, needs text"):
        load_network(tmp_path / "x.pth", TINY_CUT3R)


def test_a_file_that_does_not_say_what_it_is_of_needs_a_config(tmp_path):
    shared = tiny_cut3r().state_dict()
    save_file({name: value.clone() for name, value in shared.items()}, tmp_path / "x.safetensors")
    for file in (tmp_path / "x.safetensors", saved(tmp_path / "x.pth")):
        with pytest.raises(ValueError, match="does not say which network it is of"):
            load_network(file)
        net = load_network(file, TINY_CUT3R)
        assert torch.equal(net.pose_token, tiny_cut3r().pose_token)


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("VMEMKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"cut3r_512_dpt_4_64\.pth .*vmemkit weights get cut3r"):
        cut3r()
    with pytest.raises(ValueError, match=r"nowhere\.pth is missing"):
        cut3r(tmp_path / "nowhere.pth")
