"""CUT3R as a reconstructor: its scale, its warnings, and a state that goes with the memory."""

from __future__ import annotations

import dataclasses
from argparse import Namespace

import pytest
import torch
from core_helpers import Box
from golden_helpers import PUBLISHED_CUT3R, TINY_CUT3R, seeing_ahead, tiny_cut3r
from safetensors.torch import save_file

import vmemkit as vm
from vmemkit.core import Cameras, cameras, cat, intrinsics, stream
from vmemkit.evaluation import Corruption, SimulatedNetwork
from vmemkit.memory import Memory, begin, write
from vmemkit.nets.cut3r import CUT3RConfig
from vmemkit.reconstruction import AlignConfig, Cut3r, Reconstruction, Report, cut3r
from vmemkit.reconstruction.cut3r_reconstructor import (
    NO_BASELINE,
    NO_OVERLAP,
    NO_PNP,
    ODD_SCALE,
    POOR_FIT,
    Cut3rState,
    load_network,
)

SIZE = (48, 64)
SMALL = CUT3RConfig(img_size=(64, 64))
SCALED_AND_SHIFTED = Corruption(unit=0.4, scale=0.1, shift=0.2)
QUICK = AlignConfig(iterations=5, pnp_pixels=0.6)  # 5 pixels at the published size


def path(n: int = 9) -> Cameras:
    """Each camera a step to the right of the last, and turned: a baseline, and much overlap."""
    box = Box()
    return cat([box.look(4.0 * i, at=(-0.5 + 0.1 * i, 0.0, -0.6 + 0.03 * i)) for i in range(n)])


def start(n: int = 1, size: tuple[int, int] = SIZE, of: Cameras | None = None) -> Memory:
    return begin(Box().render((of or path())[:n], *size))


def unknown(first: int, last: int, size: tuple[int, int] = SIZE, of: Cameras | None = None):
    """Views of unknown depth."""
    views = Box().render((of or path())[first:last], *size)
    return views.replace(depth=None, given=torch.zeros(last - first, dtype=torch.bool))


def simulated(
    corruption: Corruption = SCALED_AND_SHIFTED, size=SIZE, of: Cameras | None = None, **how
) -> Cut3r:
    return Cut3r(SimulatedNetwork(Box(), of or path(), size, corruption, SMALL), **how)


def depth_error(made: Reconstruction, first: int, size=SIZE, of: Cameras | None = None) -> float:
    """Median relative error of the depth of the views from `first` on."""
    known = (of or path())[first : first + len(made.views)]
    error = (made.views.depth / Box().depth(known, *size) - 1).abs()
    return float(error[error.isfinite()].median())


# ---- scales --------------------------------------------------------------------------------------


def test_the_memory_tells_the_scale_and_shift_of_each_view():
    made = simulated().with_memory(start())(unknown(1, 5))
    assert depth_error(made, 1) < 2e-3
    for i, report in enumerate(made.reports, start=1):
        of_view = torch.randn(2, generator=stream(0, i))
        assert report.scale == pytest.approx(float((-0.1 * of_view[0]).exp()) / 0.4, rel=0.02)
        assert report.inliers > 0.9
        assert report.overlap > 0.5
        assert report.residual < 0.01
        assert (report.warning, report.trusted) == ("", True)


def test_noise_of_the_network_stays_in_the_depth():
    noisy = dataclasses.replace(SCALED_AND_SHIFTED, noise=0.02)
    made = simulated(noisy).with_memory(start())(unknown(1, 5))
    assert depth_error(made, 1) == pytest.approx(0.0135, abs=0.004)  # the median of |N(0, 0.02)|


@pytest.mark.parametrize(("align", "limit"), [("released", 0.1), ("full", 0.1), ("none", 0.7)])
def test_other_alignments_are_less_accurate(align, limit):
    how = simulated(Corruption(unit=0.4), align=align, failures="keep", optimiser=QUICK)
    made = how.with_memory(start())(unknown(1, 5))
    assert 2e-3 < depth_error(made, 1) < limit
    assert all(
        report.residual == pytest.approx(depth_error(made, 1), abs=0.05) for report in made.reports
    )


def test_the_first_views_of_all_can_be_aligned_by_their_poses():
    released = simulated(Corruption(unit=0.4), align="released", optimiser=QUICK)
    made = released(unknown(0, 4))
    assert depth_error(made, 0) < 0.1
    assert {report.overlap for report in made.reports} == {0.0}
    memory = write(Memory.empty(), made.views, made.state)
    again = released.with_memory(memory)(unknown(4, 8))
    assert depth_error(again, 4) < 0.1
    assert again.reports[0].overlap > 0.5


def test_a_wrong_unit_is_noticed_against_the_memory_and_adds_no_surfels():
    memory, views = start(), unknown(1, 3)
    bad = Corruption(unit=300.0)
    how = simulated(bad, align="none")
    made = how.with_memory(memory)(views)
    assert {report.warning for report in made.reports} == {ODD_SCALE}
    assert (made.views.confidence == 0).all()
    after = write(memory, made.views, made.state)
    assert len(after.surfels) == len(memory.surfels)
    assert len(after) == 3
    careless = simulated(bad, align="none", failures="keep").with_memory(memory)(views)
    assert careless.reports == made.reports
    assert len(write(memory, careless.views).surfels) > len(memory.surfels)
    with pytest.raises(ValueError, match=r"view 0 of 2 cannot .* implausible scale"):
        simulated(bad, align="none", failures="stop").with_memory(memory)(views)
    assert (
        depth_error(simulated(bad).with_memory(memory)(views), 1) < 2e-3
    )  # the overlap gives the scale


def test_a_unit_that_changes_on_the_way_is_followed_where_the_memory_overlaps():
    memory = start()
    for first, unit in ((1, 0.4), (3, 0.8), (5, 0.8)):
        how, views = simulated(Corruption(unit=unit)), unknown(first, first + 2)
        made = how.with_memory(memory)(views)
        assert [report.warning for report in made.reports] == ["", ""]
        assert depth_error(made, first) < 2e-3
        memory = write(memory, made.views, made.state)


def test_confidence_is_never_above_the_generators():
    views, guess = unknown(1, 3), torch.ones(2, *SIZE)
    guess[:, :, 32:] = 2.0
    made = simulated().with_memory(start())(views.replace(confidence=guess))
    assert torch.equal(made.views.confidence, guess)


@dataclasses.dataclass(frozen=True)
class Unsure(SimulatedNetwork):
    """A network whose points of some views are too uncertain for PnP."""

    views: tuple[int, ...] = ()

    def step(self, state, image, heads):
        after, prediction = super().step(state, image, heads)
        if state in self.views:
            low = 0.4 * prediction.confidence_other  # PnP takes nothing below 3
            prediction = dataclasses.replace(prediction, confidence_other=low)
        return after, prediction


def test_one_view_that_pnp_cannot_place_spoils_no_other():
    net = Unsure(Box(), path(), SIZE, Corruption(unit=0.4), SMALL, views=(2,))
    made = Cut3r(net, "released", optimiser=QUICK)(unknown(0, 4))
    assert [report.warning for report in made.reports] == ["", "", NO_PNP, ""]
    assert depth_error(made, 0) < 0.1
    assert (made.views.confidence[2] == 0).all()
    assert all(report.scale == pytest.approx(2.5, rel=0.1) for report in made.reports)
    memory = write(Memory.empty(), made.views, made.state)
    assert len(memory.state.matches) == 2  # the anchor is not among them


def test_a_baseline_that_is_tiny_compared_with_the_depth_tells_no_scale():
    box = Box()
    of = cat([box.look(2.0 * i, at=(0.001 * i, 0.0, 0.0)) for i in range(4)])
    noisy = Corruption(unit=0.4, noise=0.01)
    made = simulated(noisy, of=of, align="released", optimiser=QUICK)(unknown(0, 4, of=of))
    assert not any(report.trusted for report in made.reports)


@pytest.mark.parametrize("align", ["direct", "released", "full", "none"])
def test_views_without_texture_and_identical_views_can_be_reconstructed_by_a_real_network(align):
    how, grey = Cut3r(seeing_ahead(), align, optimiser=QUICK), torch.full((3, 3, *SIZE), 0.5)
    views = unknown(1, 4).replace(image=grey)
    made = how.with_memory(start())(views)
    assert len(made.reports) == 3
    assert (made.views.depth > 0).any()
    trusted = torch.tensor([report.trusted for report in made.reports])
    assert ((made.views.confidence > 0).flatten(1).any(1) == trusted).all()
    twins = views.replace(cameras=cat([path()[1:2]] * 3))
    again = how.with_memory(start())(twins)
    assert len(write(start(), again.views, again.state)) == 4


def test_views_that_pnp_cannot_place_are_reported_and_not_trusted():
    net = Unsure(Box(), path(), SIZE, SCALED_AND_SHIFTED, SMALL, views=(1, 2))
    made = Cut3r(net, "released").with_memory(start())(unknown(1, 3))
    assert [report.warning for report in made.reports] == [NO_PNP] * 2
    assert (made.views.confidence == 0).all()


def test_geometry_that_contradicts_the_memory_everywhere_is_a_poor_fit():
    made = simulated(Corruption(unit=0.4, noise=0.4)).with_memory(start())(unknown(1, 2))
    assert made.reports[0].warning == POOR_FIT
    assert not made.reports[0].trusted


# ---- no overlap, one place, one view -------------------------------------------------------------


def around() -> Cameras:
    box = Box()
    return cat([box.look(0.0, at=(0.0, 0.0, -0.5)), box.look(2.0), box.look(180.0)])


def test_without_overlap_the_last_scale_is_carried_over_with_a_warning():
    how, memory, of = simulated(Corruption(unit=0.4), of=around()), start(of=around()), around()
    together = how.with_memory(memory)(unknown(1, 3, of=of))
    assert [report.warning for report in together.reports] == ["", NO_OVERLAP]
    assert together.reports[1].trusted
    assert depth_error(together, 1, of=of) < 2e-3
    made = how.with_memory(memory)(unknown(1, 2, of=of))
    memory = write(memory, made.views, made.state)
    alone = how.with_memory(memory)(unknown(2, 3, of=of))
    assert [report.warning for report in alone.reports] == [NO_OVERLAP]
    assert depth_error(alone, 2, of=of) < 2e-3


def test_without_overlap_and_without_a_scale_nothing_is_trusted():
    of = around()[torch.tensor([0, 2])]
    made = simulated(Corruption(unit=0.4), of=of).with_memory(start(of=of))(unknown(1, 2, of=of))
    assert (made.reports[0].warning, made.reports[0].trusted) == (NO_OVERLAP, False)
    assert made.reports[0].scale != made.reports[0].scale  # NaN
    assert (made.views.confidence == 0).all()


def test_cameras_in_one_place_get_their_scale_from_the_memory_only():
    of = cat([Box().look(5.0 * i) for i in range(4)])
    made = simulated(of=of, align="released").with_memory(start(of=of))(unknown(1, 4, of=of))
    assert {report.warning for report in made.reports} == {NO_BASELINE}
    assert not any(report.trusted for report in made.reports)
    assert (
        depth_error(simulated(of=of).with_memory(start(of=of))(unknown(1, 4, of=of)), 1, of=of)
        < 2e-3
    )


def test_identical_views_have_one_geometry():
    of = cat([path(1)] * 4)
    made = simulated(Corruption(unit=0.4), of=of).with_memory(start(of=of))(unknown(1, 4, of=of))
    assert depth_error(made, 1, of=of) < 2e-3
    torch.testing.assert_close(made.views.depth[0], made.views.depth[2])


def test_direct_needs_a_memory_and_released_two_views():
    with pytest.raises(
        ValueError, match='begin with views of known depth, or with align="released"'
    ):
        simulated()(unknown(0, 2))
    with pytest.raises(ValueError, match="no baseline that tells the scale"):
        simulated(align="released", failures="stop")(unknown(0, 1))


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (45, 61), (64, 64), (33, 100)])
@pytest.mark.parametrize("align", ["direct", "released"])
def test_images_of_any_shape_have_depth_where_the_network_sees_them(size, align):
    K = intrinsics(70.0, size[1] / size[0])
    of = cameras(path().world_from_cam, K)
    how = simulated(Corruption(unit=0.4), size, of, align=align, optimiser=QUICK)
    made = how.with_memory(start(size=size, of=of))(unknown(1, 4, size, of))
    assert made.views.depth.shape == (3, *size)
    if align == "direct":
        assert depth_error(made, 1, size, of) < 3e-3
    else:  # PnP may find a wrong focal length on such small images: then it must warn
        close = depth_error(made, 1, size, of) < 0.15
        assert close or not any(report.trusted for report in made.reports)
    known = made.views.depth.isfinite()
    assert known.float().mean() > 0.6
    if size[0] == size[1]:  # a square loses an eighth above and below
        assert not known[:, :8].any()
        assert not known[:, -8:].any()
        assert known[:, 8:-8].all()


# ---- the state -----------------------------------------------------------------------------------


def walk_memories(how: Cut3r, memory: Memory, steps: int = 3, m: int = 2) -> list[Memory]:
    memories = [memory]
    for i in range(steps):
        views = unknown(1 + m * i, 1 + m * (i + 1))
        made = how.with_memory(memory)(views)
        truth = views.replace(depth=Box().depth(views.cameras, *SIZE))
        memory = write(memory, truth, made.state)
        memories.append(memory)
    return memories


def network_state(memory: Memory) -> tuple:
    state = memory.state.network
    return state.feature, state.memory


@pytest.mark.parametrize("align", ["direct", "released"])
def test_a_stored_state_equals_one_made_anew_from_all_views(align):
    how = Cut3r(seeing_ahead(), align, failures="keep", optimiser=QUICK)
    *_, before, last = walk_memories(how, start())
    made = how.with_memory(before)(unknown(5, 7))
    forgotten = dataclasses.replace(before, _states=())
    assert forgotten.state is None
    again = how.with_memory(forgotten)(unknown(5, 7))
    anew = dataclasses.astuple(again.state.network)
    for ours, theirs in zip(network_state(last), anew, strict=False):
        assert torch.equal(ours, theirs)
    assert torch.equal(made.views.depth.nan_to_num(), again.views.depth.nan_to_num())


def test_undo_and_fork_restore_the_earlier_state():
    how = Cut3r(seeing_ahead(), failures="keep")
    one, two, three, _ = walk_memories(how, start())
    assert one.state is None
    assert isinstance(two.state, Cut3rState)
    assert three.truncate(3).state is two.state
    assert three.truncate(4).state is None  # within a step: made anew when it is needed
    assert three.fork().state is three.state
    undone = how.with_memory(three.truncate(3))(unknown(3, 5))
    anew = dataclasses.astuple(undone.state.network)
    for ours, theirs in zip(network_state(three), anew, strict=False):
        assert torch.equal(ours, theirs)


def test_a_step_costs_as_many_frames_as_it_has_new_views():
    @dataclasses.dataclass(frozen=True)
    class Counted(SimulatedNetwork):
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
            made = how.with_memory(memory)(views)
            memory = write(memory, made.views, made.state)
            assert net.frames[before:][-2:] == [(first, heads), (first + 1, heads)]
            assert len(net.frames) - before == (
                5 if first == 3 else 2
            )  # the three given ones, once
        if align == "direct":  # the geometry of given views is known
            assert [heads for _, heads in net.frames[:3]] == [()] * 3


def test_the_state_of_another_network_is_not_used():
    memory = walk_memories(Cut3r(seeing_ahead(), failures="keep"), start())[1]
    made = simulated().with_memory(memory)(unknown(3, 5))
    assert made.state.network == 5
    assert depth_error(made, 3) < 2e-3


def test_a_walk_returns_reports_and_the_memory_holds_the_state():
    of = path()
    how, memory = simulated(), start()
    steps = list(vm.walk(memory, of[1:5], reconstructor=how, m=2))
    assert [len(step.reports) for step in steps] == [2, 2]
    assert all(isinstance(report, Report) for step in steps for report in step.reports)
    assert steps[-1].memory.state.network == 5
    assert "Reconstruction(Views" in repr(list(vm.stages(memory, of[1:3], reconstructor=how))[-2])


def test_a_view_with_everything_behind_the_camera_is_refused():
    how = simulated(Corruption(unit=-1.0), align="none", failures="keep")
    with pytest.raises(ValueError, match="sees nothing in front of the camera of view 0 of 2"):
        how.with_memory(start())(unknown(1, 3))


# ---- weights -------------------------------------------------------------------------------------


def model_string(config: CUT3RConfig, **changes) -> str:
    ours = ("layer_dims", "feature_dim", "last_dim")
    fields = {k: v for k, v in (dataclasses.asdict(config) | changes).items() if k not in ours}
    inner = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"ARCroco3DStereo(ARCroco3DStereoConfig(freeze='encoder', {inner}))"


def save_checkpoint(path, description=None):
    arguments = {"args": Namespace(model=description, lr=1e-4, epochs=10)} if description else {}
    torch.save({"model": tiny_cut3r().state_dict(), "epoch": 3} | arguments, path)
    return path


def test_a_checkpoint_is_loaded_if_its_description_agrees(tmp_path):
    file = save_checkpoint(tmp_path / "x.pth", model_string(TINY_CUT3R))
    how = cut3r(file, config=TINY_CUT3R, align="released", failures="keep")
    own = tiny_cut3r().state_dict()
    assert all(torch.equal(value, own[name]) for name, value in how.network.state_dict().items())
    assert not any(p.requires_grad for p in how.network.parameters())
    assert repr(how) == "Cut3r(align='released', failures='keep')"
    made = how.with_memory(start())(unknown(1, 3))
    same = Cut3r(tiny_cut3r(), "released", failures="keep").with_memory(start())(unknown(1, 3))
    assert torch.equal(made.views.depth.nan_to_num(), same.views.depth.nan_to_num())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    file = save_checkpoint(tmp_path / "x.pth", model_string(TINY_CUT3R, state_dec_num_heads=3))
    with pytest.raises(ValueError, match="state_dec_num_heads: the file says 3, the config 4"):
        load_network(file, TINY_CUT3R)
    with pytest.raises(ValueError, match="enc_depth: the file says 2, the config 24"):
        load_network(save_checkpoint(tmp_path / "x.pth", model_string(TINY_CUT3R)))
    with pytest.raises(ValueError, match="these are not the weights of CUT3R, which has 1248 keys"):
        load_network(save_checkpoint(tmp_path / "x.pth", PUBLISHED_CUT3R))
    with pytest.raises(ValueError, match="cannot read the checkpoint's model string"):
        load_network(save_checkpoint(tmp_path / "x.pth", "__import__('os').abort()"), TINY_CUT3R)


def test_half_precision_files_are_loaded_in_float32(tmp_path):
    half = {name: value.half() for name, value in tiny_cut3r().state_dict().items()}
    torch.save({"model": half, "args": {"model": model_string(TINY_CUT3R)}}, tmp_path / "x.pth")
    assert load_network(tmp_path / "x.pth", TINY_CUT3R).pose_token.dtype == torch.float32
    torch.save({"model": half, "args": {"model": 7}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="describes its network by a int, needs text"):
        load_network(tmp_path / "x.pth", TINY_CUT3R)


def test_a_file_without_a_description_needs_a_config(tmp_path):
    shared = tiny_cut3r().state_dict()
    save_file({name: value.clone() for name, value in shared.items()}, tmp_path / "x.safetensors")
    for file in (tmp_path / "x.safetensors", save_checkpoint(tmp_path / "x.pth")):
        with pytest.raises(ValueError, match="does not say which network it is of"):
            load_network(file)
        net = load_network(file, TINY_CUT3R)
        assert torch.equal(net.pose_token, tiny_cut3r().pose_token)


def test_missing_weights_are_refused_with_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("VMEMKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"cut3r_512_dpt_4_64\.pth .*vmemkit weights get cut3r"):
        cut3r()
    with pytest.raises(ValueError, match=r"nowhere\.pth is missing"):
        cut3r(tmp_path / "nowhere.pth")
