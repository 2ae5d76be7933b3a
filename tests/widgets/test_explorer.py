"""Widgets that walk: stage by stage, by hand, and in a race, without a browser."""

import io
import tempfile
import threading
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import torch
from core_helpers import same, tables
from generator_helpers import small
from ipywidgets.widgets import widget as registry
from PIL import ExifTags, Image
from widget_helpers import H, Nowhere, Paints, W, agrees, ids

import vmemkit as vm
from vmemkit.core import cat, data_file
from vmemkit.evaluation import coverage, share_of_best, ssim
from vmemkit.figures import POLICY_COLORS
from vmemkit.pipeline import step_rng
from vmemkit.reconstruction import from_depth
from vmemkit.retrieval import SurfelVotes, Temporal
from vmemkit.scenes import EXAMPLES, Beginning, Tour, capture, moves
from vmemkit.scenes.examples import WALL
from vmemkit.scenes.recording import resized_depth
from vmemkit.widgets import Explorer, PolicyRace, StepThrough
from vmemkit.widgets.explorer import BUSY
from vmemkit.widgets.files import LIMITS
from vmemkit.widgets.gallery import data_uri
from vmemkit.widgets.journeys import START

pytest.importorskip("anywidget", reason="widgets need the extra `notebook`")


@pytest.fixture(scope="module")
def memory(box):
    """Views 0 and 1 share what is between them; view 2 looks away from both."""
    return box.memory(0.0, 40.0, 180.0)


# ---- StepThrough ---------------------------------------------------------------------------------


def test_stages_come_in_order_and_nothing_is_remembered_before_the_next_step(memory, box):
    stepper = StepThrough(memory, box.look(10.0, 20.0, 30.0), Paints(box), k=2, m=2)
    offered, ran = [], []
    while not stepper.value:
        offered.append(stepper.next.description)
        assert stepper.memory is memory
        ran.append([name for name, panel in stepper.panels.items() if "ms" in panel.words.value])
        assert stepper.press()
    assert [len(names) for names in ran] == [0, 1, 2, 3, 4]
    assert ran[-1] == ["retrieve", "generate", "reconstruct", "write"]
    assert (offered[0], offered[-1]) == ("run: retrieve", "to the next step")
    assert (len(stepper.memory), len(stepper.targets)) == (5, 1)
    assert repr(stepper) == "StepThrough(3 views, 3 cameras)"


def test_a_walk_by_stages_is_the_walk(memory, box):
    path = box.look(10.0, 20.0, 30.0)
    stepper = StepThrough(memory, path, policy="surfel_votes", k=2, m=2)
    for _ in range(2):
        stepper.finish()
        stepper.press()
    walked = list(vm.walk(memory, path, policy="surfel_votes", k=2, m=2))
    assert same(tables(stepper.memory), tables(walked[-1].memory))
    for mine, theirs in zip(stepper.value, walked, strict=True):
        assert agrees(mine.retrieval, theirs.retrieval)
    assert (stepper.next.description, stepper.next.disabled) == ("the end", True)
    assert not stepper.press()
    assert "the walk has ended" in stepper.where.value


def test_a_step_taken_again_or_undone_and_taken_is_the_same(memory, box):
    stepper = StepThrough(memory, box.look(10.0, 20.0), Paints(box), k=2, m=1, seed=5)
    walked = next(vm.walk(memory, box.look(10.0), generator=Paints(box), k=2, m=1, seed=5))
    stepper.press()
    stepper.again.click()
    assert stepper.next.description == "run: retrieve"
    for _ in range(2):
        stepper.whole.click()
        stepper.next.click()
        assert len(stepper.value) == 1
        assert same(tables(stepper.memory), tables(walked.memory))
        stepper.press()
        stepper.undo.click()  # the stage that ran
        assert len(stepper.value) == 1
        stepper.undo.click()  # the step
        assert stepper.value == []
        assert stepper.memory is memory
    assert stepper.undo.disabled


def test_the_panels_show_what_goes_in_and_what_came_out(memory, box):
    stepper = StepThrough(memory, box.look(10.0), Paints(box), k=2, m=1)
    panels = stepper.panels
    assert panels["retrieve"].screen.caption.startswith("in: the targets")
    stepper.finish()
    words = {name: panel.words.value for name, panel in panels.items()}
    chosen, made = ids(panels["retrieve"].gallery), panels["generate"].screen.src
    assert ids(panels["generate"].gallery) == [3]
    stepper.press()
    step = stepper.value[0]
    assert chosen == step.retrieval.chosen.tolist()
    assert made == data_uri(step.views.image[0])
    born = len(step.memory.surfels) - len(memory.surfels)
    sightings = step.memory.sightings
    seen = int(((sightings.view == 3) & (sightings.surfel < len(memory.surfels))).sum())
    assert f"{born:,} new surfels, {seen:,} sightings of old ones" in words["write"]
    depth = step.views.depth
    assert f"depths from {depth.min():.2f} to {depth.max():.2f}" in words["reconstruct"]


def nothing_known(views):
    return from_depth(views.replace(depth=torch.full_like(views.depth, torch.nan)))


def test_a_stage_that_fails_is_told_and_the_step_can_be_taken_again(memory, box):
    paints = Paints(box, fails=True)
    stepper = StepThrough(memory, box.look(10.0), paints, k=2, m=1)
    stepper.finish()
    assert stepper.message.text.startswith("out of paint. Nothing was remembered")
    assert (stepper.value, stepper.memory) == ([], memory)
    assert not stepper.press()
    paints.fails = False
    stepper.again.click()
    stepper.finish()
    stepper.press()
    assert len(stepper.memory) == 4
    blank = StepThrough(memory, box.look(10.0), Paints(box), nothing_known, k=2, m=1)
    blank.finish()
    assert "carry no depth" in blank.message.text


# ---- Explorer ------------------------------------------------------------------------------------


@pytest.fixture
def explore(box):
    """Makes explorers of the box: from two views, one looks ahead and one behind."""
    given = box.render(box.look(0.0, 180.0), H, W)
    examples = {**EXAMPLES, "box": lambda height, seed: Beginning(given, box, "a box")}

    def make(generator=None, **options):
        generator = generator or Paints(box)
        options = {"session": None, **options}
        return Explorer("box", generator, height=H, examples=examples, **options)

    return make


def walked(explorer, *verbs):
    for verb in verbs:
        explorer.move(verb)
        explorer.wait(30)
    return explorer


def test_a_press_is_a_step_as_by_hand(explore, box):
    explorer, settings = (
        explore(seed=3, policy="surfel_votes", k=2),
        vm.RetrievalConfig(blind="nearest"),
    )
    explorer.settings.metres.value, explorer.settings.views.value = 0.3, 3
    by_hand, camera = explorer.value.memory, explorer.value.camera
    for verb, amount in [("right", 20.0), ("forward", 0.3)]:
        explorer.buttons[verb].click()
        explorer.wait(30)
        targets = moves(camera, f"{verb} {amount}", amount / 3, amount / 3)
        rng = step_rng(by_hand, 3)
        step = vm.step(
            by_hand,
            targets,
            generator=Paints(box),
            reconstructor=from_depth,
            policy="surfel_votes",
            k=2,
            retrieval=settings,
            rng=rng,
        )
        by_hand, camera = step.memory, targets[-1]
        assert same(tables(explorer.value.memory), tables(by_hand))
        assert explorer.screen.src == data_uri(step.views.image[-1])
        assert ids(explorer.context) == step.retrieval.chosen.tolist()
    assert explorer.message.text.startswith("forward 0.3: ")
    assert explorer.scene.memory is explorer.value.memory
    assert ids(explorer.strip) == list(range(8))
    assert repr(explorer) == "Explorer('box')"


def test_undo_redo_and_clicks_in_the_strip_walk_the_journey(explore):
    explorer = walked(explore(), "forward", "right")
    whole = explorer.value.memory
    explorer.undo.click()
    assert (explorer.value.at, explorer.strip.picked) == (0, 3)
    assert [item["label"] for item in explorer.strip.items][3:] == ["3", "4 (undone)", "5 (undone)"]
    assert len(explorer.scene.memory) == 4
    explorer.redo.click()
    assert explorer.value.memory is whole
    assert explorer.redo.disabled
    explorer.strip.picked = 0
    assert explorer.value.at == START
    assert explorer.undo.disabled
    assert explorer.screen.src == data_uri(whole.views.image[0])  # where one stands, not the last
    assert explorer.context.items == []
    explorer.strip.picked = 4  # the first of the second step's views
    assert (explorer.value.at, explorer.strip.picked) == (1, 5)


def test_walking_on_from_an_earlier_step_branches(explore):
    explorer = walked(explore(), "forward", "right")
    explorer.settings.policy.value = "temporal"
    explorer.strip.picked = 2
    walked(explorer, "left")
    assert explorer.value.leaves() == [1, 2]
    tree = explorer.tree.tree
    rows = [[row[name] for name in ("label", "more", "lane", "on_way")] for row in tree.rows]
    assert rows == [
        ["box", "", 0, True],
        ["forward 0.4", "coverage", 0, True],
        ["right 20", "", 0, False],
        ["left 20", "temporal", 1, True],
    ]
    assert [row["parent"] for row in tree.rows] == [None, START, 0, 0]
    assert tree.here == 2
    tree.pressed = [1, 1]
    assert (explorer.value.at, tree.here) == (1, 1)
    assert [row["on_way"] for row in tree.rows] == [True, True, True, False]
    explorer.go(START)  # ahead lies the youngest branch
    youngest = explorer.value.nodes[2].step.views.image[-1]
    assert explorer.strip.items[-1]["src"] == data_uri(youngest)


def test_keys_walk_undo_and_redo(explore):
    explorer = explore()
    for number, key in enumerate(("w", "ArrowLeft", "u", "u", "y"), 1):
        explorer.screen.pressed = [key, number, False]
        explorer.wait(30)
    assert [node.label for node in explorer.value.nodes] == ["forward 0.4", "left 20"]
    assert explorer.value.at == 0
    explorer.screen.pressed = ["x", 6, False]
    assert explorer.value.at == 0


def test_two_keys_wait_for_the_end_of_a_step_and_a_held_key_does_not(explore, box):
    paints = Paints(box, waits=True)
    explorer = explore(paints)
    for number, (key, held) in enumerate([("w", False), ("w", True), ("a", False), ("u", False)]):
        explorer.screen.pressed = [key, number, held]
    assert explorer.message.text != BUSY
    explorer.screen.pressed = ["d", 9, False]  # a third one
    assert explorer.message.text == BUSY
    assert explorer.screen.busy  # so that the browser sends no held keys meanwhile
    paints.go.set()
    explorer.wait(60)
    assert [node.label for node in explorer.value.nodes] == ["forward 0.4", "strafe left 0.4"]
    assert (explorer.value.at, explorer.screen.busy) == (0, False)
    explorer.screen.pressed = ["w", 10, True]
    explorer.wait(30)
    assert len(explorer.value.nodes) == 3


def test_keys_that_wait_are_forgotten_when_the_step_fails_or_is_cancelled(explore, box):
    paints = Paints(box, waits=True)
    explorer = explore(paints)
    for number, end in enumerate((explorer.cancel.click, lambda: setattr(paints, "fails", True))):
        paints.entered.clear()
        paints.go.clear()
        explorer.screen.pressed = ["w", 2 * number, False]
        assert paints.entered.wait(30)
        explorer.screen.pressed = ["a", 2 * number + 1, False]
        end()
        paints.go.set()
        explorer.wait(30)
        assert explorer.value.nodes == ()


def latest(memory, targets, k):
    return [len(memory) - 1]


def test_a_policy_of_ones_own_walks_and_is_named(explore):
    explorer = walked(explore(policy=latest), "right")
    assert explorer.settings.policy.value == "latest"
    assert explorer.value.nodes[0].step.retrieval.chosen.tolist() == [1]
    explorer.settings.policy.value = "temporal"
    walked(explorer, "right")
    assert explorer.value.nodes[1].step.retrieval.policy == "temporal"
    paper = explore(policy=SurfelVotes.paper(), k=1)
    assert paper.settings.policy.value == "SurfelVotes"
    step = walked(paper, "right").value.nodes[0].step
    assert len(step.retrieval.query) == 1  # the mean of two targets, as the paper has it


def test_a_start_that_fails_leaves_everything_as_it_was(explore, monkeypatch, tmp_path):
    explorer = walked(explore(), "forward")
    before, shown, named = explorer.value, explorer.screen.src, explorer.example.value
    explorer.folder.value = str(tmp_path)
    explorer.file("save")
    explorer.own.image.value = upload("my.png", data_file("cycles_left.png").read_bytes())
    real = explorer.scene.update

    def broken(memory=None, **options):
        if memory is not None and memory is not before.memory:
            raise OverflowError("too far to draw")
        real(memory, **options)

    monkeypatch.setattr(explorer.scene, "update", broken)
    for start in (
        explorer.own.start.click,
        explorer.files["load"].click,
        lambda: setattr(explorer.example, "value", "photo with stereo depth"),
        lambda: explorer.go(START),
    ):
        explorer.message.say("")
        start()
        assert explorer.message.text == "OverflowError: too far to draw"
        assert explorer.value is before
        assert explorer.screen.src == shown
        assert explorer.beginning.about == "a box"
        assert explorer.example.value == named
        assert explorer.scene.memory is before.memory


def test_every_button_ends_in_a_message(explore, monkeypatch):
    explorer = explore()
    explorer.own.image.value = upload("my.png", data_file("cycles_left.png").read_bytes())
    explorer.folder.value = "~nobody_here/walk"
    for name in ("save", "load", "export"):
        explorer.message.say("")
        explorer.files[name].click()
        assert "~nobody_here/walk: there is no such home" in explorer.message.text
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/place")
    for press in (explorer.own.start, explorer.own.drawing):
        explorer.message.say("")
        press.click()
        assert "/no/such/place" in explorer.message.text

    def full(*arguments):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr("vmemkit.widgets.explorer.save", full)
    explorer.folder.value = "my_walk"
    explorer.files["save"].click()
    assert explorer.message.text == "RuntimeError: No space left on device"


def test_a_closed_explorer_gives_back_its_widgets_and_its_thread(explore):
    before = set(registry._instances), threading.active_count()
    explorer = walked(explore(), "forward", "right")
    explorer.go(0)
    walked(explorer, "left")  # a branch, which is drawn anew after every step
    explorer.draw_own()
    assert threading.active_count() == before[1] + 1
    explorer.close()
    explorer.close()
    assert set(registry._instances) <= before[0]
    assert threading.active_count() == before[1]


def test_a_diffusion_generator_walks_undoes_and_branches():
    """One that keeps latents with the memory's views, and shows its guesses on the way."""
    generator = vm.with_depth(small(preview_every=1), vm.Warp())
    explorer = Explorer("house, one view", generator=generator, height=24, session=None)
    for button in ("forward", "right"):
        explorer.buttons[button].click()
        explorer.wait(60)
    assert explorer.value.way() == [0, 1]
    assert explorer.value.memory.views.latent.isfinite().all()
    assert len(explorer.value.nodes[0].step.generations) == 3
    explorer.go(START)
    explorer.buttons["left"].click()
    explorer.wait(60)
    assert explorer.value.leaves() == [1, 2]
    stepper = StepThrough(explorer.value.start, explorer.value.camera[None], generator, m=1)
    stepper.finish()
    stepper.press()
    assert len(stepper.memory) == 2


def test_moves_that_cannot_be_made_are_told(explore):
    explorer = explore()
    explorer.settings.degrees.value, explorer.settings.views.value = 60.0, 1
    before = walked(explorer, "look up").value
    assert before.at == 0  # at a ceiling that nobody saw: the nearest poses were retrieved
    for verb, message in (("look up", "straight up is 30.0 degrees away"), ("jump", "verbs are")):
        explorer.move(verb)
        assert message in explorer.message.text
        assert explorer.value is before
    explorer.screen.pressed = ["y", 1, False]
    assert "nothing to redo" in explorer.message.text
    explorer.go(START)
    explorer.screen.pressed = ["u", 2, False]
    assert "nothing to undo" in explorer.message.text


def test_a_step_that_fails_loses_nothing(explore, box):
    paints = Paints(box)
    explorer = walked(explore(paints), "right")
    before, paints.fails = explorer.value, True
    walked(explorer, "right")
    assert explorer.message.text == "The step failed, and nothing was lost: out of paint"
    assert explorer.value is before
    paints.fails = False
    assert len(walked(explorer, "right").value.nodes) == 2


def test_a_cancelled_step_is_not_remembered_and_only_one_is_taken_at_a_time(explore, box):
    paints = Paints(box, waits=True)
    explorer = explore(paints)
    before = explorer.value
    explorer.move("right")
    try:
        assert paints.entered.wait(30)
        for attempt in (
            lambda: explorer.move("left"),
            lambda: explorer.go(START),
            explorer.undo.click,
            lambda: explorer.file("save"),
            explorer.start_own,
        ):
            explorer.message.say("")
            attempt()
            assert explorer.message.text == BUSY
        assert not explorer.cancel.disabled
        explorer.cancel.click()
    finally:
        paints.go.set()
    explorer.wait(30)
    assert explorer.message.text == "Cancelled: nothing was remembered."
    assert explorer.value is before
    assert explorer.screen.src == data_uri(before.memory.views.image[0])
    assert explorer.cancel.disabled
    assert len(walked(explorer, "right").value.nodes) == 1


def test_a_walk_is_saved_loaded_and_exported(explore, tmp_path):
    explorer, folder = explore(), tmp_path / "walk"
    explorer.folder.value = str(folder)
    explorer.files["export"].click()
    assert "nothing to export" in explorer.message.text
    walked(explorer, "forward")
    for what in ("save", "export"):
        explorer.files[what].click()
        assert str(folder) in explorer.message.text
    assert (folder / "walk.mp4").stat().st_size > 1000
    assert (folder / "transforms.json").exists()
    saved = explorer.value
    (tmp_path / "file").write_text("")
    explorer.folder.value = str(tmp_path / "file")
    for what in ("save", "load", "export"):
        explorer.message.say("")
        explorer.file(what)
        assert str(tmp_path / "file") in explorer.message.text
        assert 'role="alert"' in explorer.message.value
        assert explorer.value is saved
    explorer.folder.value = str(folder)
    explorer.file("load")
    assert explorer.message.text == f"loaded {saved.memory}"
    assert same(tables(explorer.value.memory), tables(saved.memory))
    assert torch.equal(explorer.value.camera.world_from_cam, saved.camera.world_from_cam)
    assert explorer.scene.memory is explorer.value.memory


def upload(name, content):
    now = datetime.now(timezone.utc)
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
    return ({**file, "last_modified": now},)


def test_an_image_of_ones_own_can_be_walked_into(explore):
    explorer = explore()
    before, own = explorer.value, explorer.own
    for image, kind, message in (
        (None, "photo on a wall", "no image has arrived"),
        (b"not an image", "photo on a wall", "image"),
        ("png", "photo", "shows no room by its lines (0 lines"),
        ("png", "photo with depth", "shows no room by its lines (0 lines"),
        ("png", "panorama", "twice as wide as high"),
    ):
        png = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), 99, np.uint8)).save(png, "png")
        if image is not None:
            own.image.value = upload("my.png", png.getvalue() if image == "png" else image)
        own.kind.value = kind
        own.start.click()
        assert message in explorer.message.text
        assert explorer.value is before
    own.kind.value = "photo on a wall"
    own.start.click()
    assert torch.all(explorer.value.memory.views.depth == WALL)
    assert explorer.value.memory.views.image.mean() == pytest.approx(99 / 255, abs=0.01)
    npy = io.BytesIO()
    np.save(npy, np.full((12, 16), 1.5))
    own.depth.value = upload("my.npy", npy.getvalue())
    assert own.kind.value == "photo with depth"  # follows what was uploaded
    assert own.held.value == "here: my.png (0.0 MB), my.npy (0.0 MB)"
    own.fov.value = 60.0
    own.start.click()
    assert torch.all(explorer.value.memory.views.depth == 1.5)
    focal = explorer.value.camera.K[0, 0]
    assert float(focal) == pytest.approx(0.5 / np.tan(np.deg2rad(30)), rel=1e-4)
    own.kind.value = "photo on a wall"
    own.start.click()
    assert explorer.message.text.startswith("my.npy is not used for a photo on a wall: ")
    own.depth.value, before = upload("no depth.npy", b"no array"), explorer.value
    own.start.click()
    assert explorer.message.text.startswith("cannot read no depth.npy")  # as the user named it
    assert explorer.value is before


@pytest.mark.parametrize(("orientation", "turns"), [(6, -1), (8, 1), (3, None)])
def test_depth_turns_with_a_photo_that_exif_turns_or_that_is_said(explore, orientation, turns):
    explorer, tag, files = explore(), Image.Exif(), (io.BytesIO(), io.BytesIO())
    before, own, tag[0x112] = explorer.value, explorer.own, orientation
    steps = np.arange(1000, 1000 + 48 * 64, dtype=np.uint16).reshape(48, 64)
    Image.fromarray(np.full((48, 64, 3), 99, np.uint8)).save(files[0], "png", exif=tag)
    Image.fromarray(steps).save(files[1], "png")
    own.image.value, own.depth.value = (upload("my.png", file.getvalue()) for file in files)
    own.kind.value = "photo with depth"
    own.start.click()
    if turns is None:
        assert "EXIF orientation 3" in explorer.message.text
        assert explorer.value is before
        return
    depth = np.rot90(steps, turns)[14:50] / 1000  # the middle, in the format of 4 : 3
    shown = explorer.value.memory.views.depth[0]
    expected = resized_depth(torch.from_numpy(depth.copy()).float(), *shown.shape)
    assert torch.allclose(shown, expected, atol=1e-4)


def test_an_upload_brings_its_lens_and_one_may_set_another(explore):
    own = explore().own
    buffer, exif = io.BytesIO(), Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    Image.new("RGB", (40, 30)).save(buffer, "JPEG", exif=exif)
    own.image.value = upload("my.jpg", buffer.getvalue())
    assert own.fov.value == pytest.approx(69.39, abs=0.01)
    own.image.value = upload("my.png", b"no image")  # the start says so
    assert own.fov.value == pytest.approx(69.39, abs=0.01)
    buffer = io.BytesIO()
    Image.new("RGB", (30, 40)).save(buffer, "PNG")
    own.image.value = upload("upright.png", buffer.getvalue())
    assert own.fov.value == pytest.approx(51.08, abs=0.01)  # 65 degrees along the longer side


@pytest.mark.parametrize("kind", ["photo", "photo with depth"])
def test_a_photo_without_depth_is_walked_into_as_a_room(explore, kind):
    explorer = explore()
    own = explorer.own
    own.image.value = upload("my.png", data_file("cycles_left.png").read_bytes())
    own.kind.value = kind
    own.start.click()
    assert "depth is a rough guess" in explorer.message.text
    assert ("No depth was uploaded" in explorer.message.text) is (kind == "photo with depth")
    given = explorer.value.memory.views
    assert given.depth.isfinite().all()
    assert given.cameras.forward[0, 1] > 0.2  # the camera looked down


def test_the_room_of_a_photo_can_be_drawn_and_walked_into(explore):
    explorer = explore()
    own = explorer.own
    own.drawing.click()
    assert "no image has arrived" in explorer.message.text
    own.image.value = upload("my.png", data_file("cycles_left.png").read_bytes())
    own.fov.value = 70.0
    own.drawing.click()
    assert own.room in own.children
    assert own.room.value.fov == pytest.approx(70.0, abs=1e-3)
    own.room.numbers["back"].value = 4.5
    own.room.button.click()
    assert "as you drew it" in explorer.message.text
    assert "back wall 4.5 m away" in explorer.message.text
    assert float(explorer.value.memory.views.depth.max()) > 4
    walked(explorer, "forward")
    assert len(explorer.value.memory) > 1


def test_visitors_of_one_page_save_and_load_in_their_browsers(explore, tmp_path, monkeypatch):
    """Nothing is left on the disk that they share, and nothing there can be read."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    explorer = walked(explore(shared=True), "forward")
    files, saved = explorer.storage, explorer.value
    assert not hasattr(files, "folder")
    assert any(getattr(child, "value", "") == LIMITS for child in explorer.children)
    explorer.files["load"].click()
    assert "no saved walk has arrived" in explorer.message.text
    explorer.files["export"].click()
    with zipfile.ZipFile(io.BytesIO(files.download.content)) as archive:
        tops = {Path(name).parts[0] for name in archive.namelist()}
    assert tops == {"transforms.json", "walk.mp4", "images", "depth"}
    explorer.files["save"].click()
    assert "in my_walk.zip: follow the link to download it" in explorer.message.text
    other = explore(shared=True)
    for content, message in (
        (b"no zip", "other.zip is no zip file that 'save' made"),
        (zipped({"../../outside.txt": b"x"}), "memory/memory.json"),
        (zipped({"zeros": bytes(500_000_001)}), "500 MB once it is unpacked"),
        (bytes(50_000_001), "other.zip has 50.0 MB, the limit here is 50 MB"),
    ):
        other.storage.upload.value = upload("other.zip", content)
        other.files["load"].click()
        assert message in other.message.text
        assert str(tmp_path) not in other.message.text
    other.storage.upload.value = upload("my_walk.zip", files.download.content)
    other.files["load"].click()
    assert other.message.text == f"loaded {saved.memory}"
    assert same(tables(other.value.memory), tables(saved.memory))
    assert list(tmp_path.iterdir()) == []


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_a_page_that_many_visit_has_limits(explore, monkeypatch):
    explorer = walked(explore(shared=True), "forward")
    before = explorer.value
    for name, limit in (("STEPS", 1), ("HELD", 5 * H * W)):
        with monkeypatch.context() as changed:
            changed.setattr(f"vmemkit.widgets.explorer.{name}", limit)
            walked(explorer, "forward")
        assert "save the walk, and start a new one" in explorer.message.text
        assert explorer.value is before
    large = io.BytesIO()
    Image.new("1", (6000, 4001)).save(large, "png")
    explorer.own.image.value = upload("large.png", large.getvalue())
    explorer.own.start.click()
    assert "large.png" in explorer.message.text
    assert "24" in explorer.message.text
    assert explorer.value is before
    assert len(walked(explorer, "forward").value.nodes) == 2


def test_another_example_is_another_journey(explore):
    explorer = walked(explore(), "right")
    explorer.example.value = "photo with stereo depth"
    assert explorer.value.nodes == ()
    assert len(explorer.value.memory) == 1
    assert explorer.scene.memory is explorer.value.memory
    assert "a photograph with depth" in explorer.message.text
    explorer.settings.truth.value = True
    assert explorer.truth.caption == "the truth is not known here"


def test_the_truth_stands_beside_and_the_scene_takes_colours_and_clicks(explore, box):
    explorer = explore()
    explorer.settings.color.value = "votes for"
    assert explorer.scene.color == "image"  # nothing was retrieved yet
    explorer.settings.truth.value = True
    walked(explorer, "right")
    assert explorer.scene.color == "votes for"
    assert explorer.truth.caption == "the truth"
    assert explorer.truth.src == data_uri(box.render(box.look(20.0), H, W).image[0])
    explorer.scene.pick(view=1)
    assert explorer.screen.caption == "selected: view 1, given"
    explorer.context.picked = 0
    assert explorer.screen.caption == "selected: view 0, given"
    explorer.beginning = Beginning(explorer.beginning.given, Nowhere(), "")
    explorer.go(START)
    assert explorer.truth.caption == "no truth here: inside a wall"


# ---- PolicyRace ----------------------------------------------------------------------------------


@pytest.fixture
def tour(box):
    """Two steps of two cameras; the last two stand where the first two stood."""
    path, twin = box.look(20.0, 40.0, 20.0, 40.0), torch.tensor([-1, -1, 0, 1])
    return Tour(box.look(0.0, 180.0), path, slice(2, 4), twin)


def test_a_race_is_walks_and_their_evaluation(box, tour):
    names, size = ("coverage", "temporal"), (H, W)
    race = PolicyRace(box, tour, names, Paints(box), k=1, m=2, size=size)
    race.run()
    race.wait(60)
    start, means = vm.begin(box.render(tour.given, *size)), {}
    for name in names:
        steps = list(vm.walk(start, tour.cameras, generator=Paints(box), policy=name, k=1, m=2))
        assert same(tables(race.value[name][-1].memory), tables(steps[-1].memory))
        for step, ratio in zip(steps, race.coverage[name], strict=True):
            chosen = step.retrieval.chosen
            known, k = step.before.views.cameras, len(chosen)
            [both] = coverage(box, known, step.targets, [chosen], k, 24)
            assert ratio == share_of_best(*both)
        images = torch.cat([step.views.image for step in steps])
        truth = box.render(tour.cameras, *size).image
        assert race.truth[name] == [ssim(a, b) for a, b in zip(images, truth, strict=True)]
        means[name] = sum(race.coverage[name])
    assert means["coverage"] > means["temporal"]
    assert race.message.text == "finished: coverage is ahead"
    assert race.progress.value == 4
    assert [item["label"] for item in race.latest.items] == list(names)
    assert [item["color"] for item in race.latest.items] == [POLICY_COLORS[n] for n in names]
    assert all(bytes(chart.value[:2]) == b"\xff\xd8" for chart in race.charts)  # JPEG
    assert (race.start.disabled, race.cancel.disabled) == (False, True)
    assert repr(race) == f"PolicyRace(coverage, temporal: {tour})"


def test_policies_of_ones_own_race(box, tour):
    entrants = [latest, Temporal(), Temporal(), "coverage"]
    race = PolicyRace(box, tour, entrants, Paints(box), k=1, m=4, size=(H, W))
    race.run()
    race.wait(60)
    assert list(race.value) == ["latest", "Temporal", "Temporal (2)", "coverage"]
    assert len({float(race.coverage[name][0]) for name in list(race.value)[:3]}) == 1
    named = PolicyRace(box, tour, {"mine": latest, "theirs": "temporal"}, Paints(box), size=(H, W))
    assert named.racers.value == ("mine", "theirs")


def test_a_race_through_a_recording_has_its_size(box, tour):
    recorded = box.render(cat([tour.given, tour.cameras[:2]]), 20, 28)
    race = PolicyRace(capture(recorded), tour, ["paper", "temporal"], k=1, m=2)
    race.run()
    race.wait(60)
    assert race.message.text == "finished: paper is ahead"
    assert race.value["paper"][0].views.image.shape[2:] == (20, 28)
    assert all(0 <= ratio <= 1 for ratio in race.coverage["paper"])


def test_a_race_can_be_cancelled_and_run_again(box, tour):
    paints = Paints(box, waits=True)
    race = PolicyRace(box, tour, ["temporal"], paints, k=1, m=4, size=(H, W))
    race.start.click()
    try:
        assert paints.entered.wait(30)
        race.run()
        assert race.message.text == "a race is running"
        assert (race.start.disabled, race.cancel.disabled) == (True, False)
        race.cancel.click()
    finally:
        paints.go.set()
    race.wait(60)
    assert race.message.text.startswith("cancelled; so far")
    assert race.latest.items == []
    race.run()
    race.wait(60)
    assert len(race.value["temporal"]) == len(race.latest.items) == 1
    paints.fails = True
    race.run()
    race.wait(60)
    assert race.message.text == "The race stopped: out of paint"
    race.racers.value = ()
    race.run()
    assert race.message.text == "choose a policy"
