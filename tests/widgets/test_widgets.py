"""Widgets without a browser: controls are set and pressed, and values, words and pictures read."""

import threading

import pytest
import torch
from core_helpers import same, tables
from matplotlib.colors import to_rgb
from widget_helpers import Nowhere, Paints, agrees, ids, picture

import vmemkit as vm
from vmemkit.evaluation import coverage
from vmemkit.figures import CARD, chip, seen_by, view_hex
from vmemkit.memory import begin, views_of
from vmemkit.retrieval import Hard, SurfelVotes
from vmemkit.scenes import moves
from vmemkit.widgets import MemoryViewer, RetrievalInspector
from vmemkit.widgets.gallery import Gallery, Screen, data_uri
from vmemkit.widgets.inspector import MOVES, OWN
from vmemkit.widgets.parts import Message, Worker, mosaic, vote_table

pytest.importorskip("anywidget", reason="widgets need the extra `notebook`")


@pytest.fixture(scope="module")
def memory(box):
    """Views 0 and 1 share what is between them; view 2 looks away from both."""
    return box.memory(0.0, 40.0, 180.0)


# ---- parts ---------------------------------------------------------------------------------------


def test_a_gallery_shows_images_under_their_numbers_in_their_views_colours(memory):
    gallery = Gallery(picked=7)
    gallery.show(memory.views.image, [4, 0, 7], ["a", "b", "c"], ["A", "B", "C"])
    assert [item["color"] for item in gallery.items] == [view_hex(view) for view in (4, 0, 7)]
    assert [(item["id"], item["label"], item["title"]) for item in gallery.items] == [
        (4, "a", "A"),
        (0, "b", "B"),
        (7, "c", "C"),
    ]
    for item, image in zip(gallery.items, memory.views.image, strict=True):
        assert (picture(item["src"]) - image).abs().mean() < 0.02
    assert gallery.picked == 7
    gallery.show(memory.views.image[:2], range(2), colors=["#123456", "#abcdef"])
    assert gallery.picked == -1  # it is not there any more
    assert [item["color"] for item in gallery.items] == ["#123456", "#abcdef"]
    assert [item["label"] for item in gallery.items] == ["0", "1"]
    gallery.show(memory.views.image[:2], range(2), picked=1)
    assert gallery.picked == 1
    assert repr(gallery) == "Gallery(2 images)"
    with pytest.raises(ValueError, match="shorter"):
        gallery.show(memory.views.image, range(2))


def test_a_screen_notices_a_key_that_is_pressed_twice(memory):
    screen, keys = Screen(listens=["w"]), []
    screen.observe(lambda change: keys.append(change["new"][0]), "pressed")
    screen.pressed = ["w", 1, False]
    screen.pressed = ["w", 2, False]
    assert keys == ["w", "w"]
    screen.show(memory.views.image[0], "first")
    screen.show(memory.views.image[1])  # the caption stays
    assert repr(screen) == "Screen('first')"
    assert screen.src == data_uri(memory.views.image[1])


def test_messages_are_told_as_they_are_whatever_signs_they_hold():
    message = Message()
    for text in ("a < b & c > 'd'", "", "<script>"):
        message.say(text)
        assert message.text == text
        assert "alert" not in message.value
        message.warn(text)
        assert message.text == text
        assert 'role="alert"' in message.value
        assert "<script" not in message.value


@pytest.mark.parametrize(("n", "size"), [(1, (4, 6)), (2, (4, 14)), (3, (10, 14)), (4, (10, 14))])
def test_a_mosaic_lays_images_in_rows_of_two(n, size):
    images = (torch.arange(n) + 1).view(n, 1, 1, 1).expand(n, 3, 4, 6) / 8
    laid = mosaic(images)
    assert laid.shape == (3, *size)
    for i, (top, left) in enumerate([(0, 0), (0, 8), (6, 0), (6, 8)][:n]):
        assert (laid[:, top : top + 4, left : left + 6] == (i + 1) / 8).all()
    card = torch.tensor(to_rgb(CARD))[:, None, None]
    assert (laid == card).all(0).sum() == size[0] * size[1] - 24 * n


def test_a_table_of_votes_says_who_was_chosen_and_who_was_suppressed_by_whom(box):
    twins, policy = box.memory(0.0, 5.0, 180.0), SurfelVotes(suppression=Hard())
    found = vm.retrieve(twins, box.look(0.0, 5.0, 178.0), 2, policy)
    first, second = found.chosen.tolist()
    assert (first in (0, 1), second) == (True, 2)
    table = vote_table(twins, found)
    assert table.count("<tr") == 3
    assert f"suppressed by {chip(first)}" in table
    assert "<b>1.</b>" in table.partition(chip(2))[0]
    assert "<b>2.</b>" in table.rpartition(chip(2))[2]


class Log:
    """What a worker reports."""

    def __init__(self):
        self.items, self.ends = [], []
        self.worker = Worker(self.items.append, self.ends.append)


def test_a_worker_hands_on_items_in_order_and_takes_job_after_job():
    log = Log()
    log.worker.wait()  # nothing to wait for
    for _ in range(2):
        log.worker.start(iter("abc"))
        log.worker.wait()
    assert log.items == list("abcabc")
    assert log.ends == [None, None]
    assert not log.worker.busy
    assert not log.worker.cancelled


def test_a_workers_error_is_reported_and_it_can_work_on():
    log = Log()
    log.worker.start(1 / i for i in (1, 0, 1))
    log.worker.wait()
    assert log.items == [1.0]
    assert isinstance(log.ends[0], ZeroDivisionError)
    log.worker.start(iter("a"))
    log.worker.wait()
    assert log.ends[1:] == [None]


def test_a_job_may_be_followed_by_another_and_waiting_is_for_both():
    items, following = [], [iter("bc")]
    worker = Worker(items.append, lambda error: following.pop() if following else None)
    worker.start(iter("a"))
    worker.wait()
    assert items == list("abc")
    assert not worker.busy


def test_a_busy_worker_refuses_waits_no_longer_than_it_should_and_stops_when_told():
    log, gate = Log(), threading.Event()
    log.worker.start(("late" if gate.wait(30) else "never") for _ in range(3))
    try:
        assert log.worker.busy
        with pytest.raises(RuntimeError, match="a job is running"):
            log.worker.start(iter("x"))
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            log.worker.wait(0.01)
        log.worker.cancel()
    finally:
        gate.set()
    log.worker.wait()
    assert (log.items, log.ends, log.worker.cancelled) == ([], [None], True)


# ---- MemoryViewer --------------------------------------------------------------------------------


def test_the_viewers_timeline_is_truncation(memory):
    viewer = MemoryViewer(memory)
    assert viewer.value is memory
    for views in (1, 2, 3):
        viewer.play.value = views
        assert viewer.time.value == views
        assert same(tables(viewer.value), tables(memory.truncate(views)))
    assert ids(viewer.gallery) == [0, 1, 2]
    assert repr(viewer) == "MemoryViewer(3 views)"


def test_a_view_selected_in_the_gallery_is_selected_in_the_scene_and_the_other_way_round(memory):
    viewer = MemoryViewer(memory)
    viewer.gallery.picked = 1
    assert (viewer.scene.picked_view, viewer.scene.lit) == (1, (1,))
    assert viewer.panel.caption == "view 1, selected"
    assert viewer.panel.src == data_uri(memory.views.image[1])
    viewer.scene.click((0.0, 0.0, -2.0), (0.0, 0.0, 1.0))
    assert viewer.gallery.picked == 2
    assert viewer.panel.caption == "view 2, selected"
    start, end = memory.ends[:2].tolist()  # view 1 wrote the surfels from `start` to `end`
    seers = [views_of(memory.packed_sightings, i).tolist() for i in range(start, end)]
    own = start + next(i for i, views in enumerate(seers) if views[0] == 1)
    viewer.scene.pick(surfel=own)
    assert viewer.gallery.picked == -1
    assert viewer.panel.caption == "view 1, the first to see the surfel"
    viewer.gallery.picked = 0
    assert viewer.scene.picked_surfel == -1
    viewer.gallery.picked = -1
    assert (viewer.scene.lit, viewer.panel.caption) == (None, "view 2, the latest view")


def test_selecting_a_later_view_goes_there_and_going_back_lets_go_of_it(memory):
    viewer = MemoryViewer(memory)
    viewer.time.value = 1
    viewer.gallery.picked = 2
    assert (viewer.time.value, len(viewer.value), viewer.scene.lit) == (3, 3, (2,))
    viewer.time.value = 2
    assert (viewer.gallery.picked, viewer.scene.picked_view) == (-1, -1)


def test_the_viewer_colours_surfels(memory):
    viewer = MemoryViewer(memory, "sightings")
    viewer.color.value = "normal"
    assert torch.equal(viewer.scene.paint[:, :3], 0.5 + 0.5 * memory.surfels.normal)


def test_the_viewer_fades_and_hides_what_was_invented(box):
    views = box.render(box.look(0.0, 90.0), 12, 16).replace(given=torch.tensor([True, False]))
    viewer = MemoryViewer(begin(views))
    invented = viewer.value.ends[0]  # the first of those that the generated view wrote
    viewer.invented.value = "hidden"
    assert (viewer.scene.paint[:invented, 3] == 1).all()
    assert (viewer.scene.paint[invented:, 3] == 0).float().mean() > 0.8
    viewer.invented.value = "faded"
    assert 0 < viewer.scene.paint[:, 3].min() < 0.5
    viewer.time.value = 1
    assert (viewer.scene.paint[:, 3] == 1).all()


# ---- RetrievalInspector --------------------------------------------------------------------------


@pytest.fixture
def inspector(memory, box):
    made = RetrievalInspector(memory, box.look(10.0, 20.0, 30.0))
    made.k.value = 2
    return made


def test_the_inspector_retrieves_as_by_hand_whatever_is_asked(inspector, memory, box):
    targets = box.look(10.0, 20.0, 30.0)
    assert agrees(inspector.value["coverage"], vm.retrieve(memory, targets[:1], 2))
    inspector.place.value, inspector.count.value = 1, 2
    for query in ("mean", "last", "all"):
        inspector.query.value = query
        config = vm.RetrievalConfig(query=query)
        assert agrees(
            inspector.value["coverage"], vm.retrieve(memory, targets[1:], 2, "coverage", config)
        )
    inspector.query.value = OWN
    for policy in vm.POLICIES:
        inspector.policy.value = policy
        assert agrees(inspector.value[policy], vm.retrieve(memory, targets[1:], 2, policy))
    inspector.k.value = 1
    assert len(inspector.value["random"].chosen) == 1
    assert inspector.message.text == ""


def looking_back(memory, targets, k):
    return [2, 0]


def test_policies_of_ones_own_are_inspected_under_their_names(memory, box):
    path = box.look(10.0)
    inspector = RetrievalInspector(memory, path, policy=looking_back, rival=SurfelVotes.paper())
    assert list(inspector.value) == ["looking_back", "SurfelVotes"]
    assert ids(inspector.columns[0].chosen) == [2, 0]
    inspector.k.value = 2
    inspector.policy.value = inspector.rival.value = "SurfelVotes"
    by_hand = vm.retrieve(memory, path, 2, SurfelVotes.paper())
    assert agrees(inspector.value["SurfelVotes"], by_hand)
    unnamed = RetrievalInspector(memory, path, policy=lambda memory, targets, k: 1 / 0)
    assert unnamed.message.text == "ZeroDivisionError: division by zero"
    unnamed = RetrievalInspector(memory, path, policy=lambda memory, targets, k: [0])
    assert "<b>&lt;lambda&gt;</b>" in unnamed.columns[0].title.value


def test_each_policy_looks_from_its_own_cameras_until_somebody_says_otherwise(memory, box):
    path = box.look(10.0, 60.0)
    inspector = RetrievalInspector(memory, path, policy="paper", rival="surfel_votes")
    inspector.count.value = inspector.k.value = 2
    for name, cameras in (("paper", 1), ("surfel_votes", 2)):
        assert agrees(inspector.value[name], vm.retrieve(memory, path, 2, name))
        assert len(inspector.value[name].query) == cameras
    inspector.query.value = "all"
    assert len(inspector.value["paper"].query) == 2
    coarse = RetrievalInspector(memory, path, policy="paper", config=vm.RetrievalConfig(rows=12))
    coarse.count.value = coarse.k.value = 2
    by_hand = vm.retrieve(memory, path, 2, "paper", vm.RetrievalConfig(rows=12))
    assert agrees(coarse.value["paper"], by_hand)


def test_a_rival_stands_beside(inspector, memory):
    first, second = inspector.columns
    assert second.layout.display == "none"
    inspector.rival.value = "temporal"
    assert list(inspector.value) == ["coverage", "temporal"]
    assert second.layout.display == ""
    assert ids(second.chosen) == [2, 1]
    assert "temporal" in second.title.value
    assert ids(first.chosen) == inspector.value["coverage"].chosen.tolist()
    inspector.rival.value = "coverage"
    assert list(inspector.value) == ["coverage"]
    assert second.layout.display == "none"


def test_the_scene_follows_the_target_until_somebody_turns_it(inspector, box):
    for yaw in (15.0, 30.0):
        inspector.sliders["turn"].value = yaw
        assert inspector.scene.looks_from(box.look(10.0 + yaw)[0])
    inspector.scene.look_at_all()
    turned = inspector.scene.eye
    inspector.sliders["turn"].value = 0.0
    assert torch.equal(inspector.scene.eye, turned)
    inspector.scene.inside.click()  # "stand behind the camera"
    inspector.place.value = 1
    assert inspector.scene.looks_from(box.look(20.0)[0])


def test_chosen_views_show_what_they_add_and_what_they_see(memory, box):
    inspector = RetrievalInspector(memory, box.look(20.0))
    retrieval = inspector.value["coverage"]
    seen = [seen_by(memory, retrieval, view).float().mean() for view in retrieval.chosen.tolist()]
    labels = [item["label"].split("\n") for item in inspector.columns[0].chosen.items]
    assert [second for _, second in labels] == [f"sees {share:.0%}" for share in seen]
    assert labels[0][0] == f"{retrieval.chosen[0]}: +{seen[0]:.0%}"
    assert labels[1][0].startswith(f"{retrieval.chosen[1]}: +")
    assert labels[1][0].split("+")[1] != labels[1][1].split()[1]  # what both see counts once


def test_sliders_move_all_targets_as_the_words_do(inspector, box):
    inspector.count.value, targets = 2, box.look(10.0, 20.0)
    words = []
    for (name, more, less, *_), amount in zip(MOVES, (0.5, -0.3, -15.0, 10.0), strict=True):
        inspector.sliders[name].value = amount
        words.append(f"{more if amount > 0 else less} {abs(amount)}")
    moved = [moves(targets[i], ", ".join(words), 100.0, 100.0)[-1] for i in range(2)]
    expected = torch.stack([camera.world_from_cam for camera in moved])
    assert torch.allclose(inspector.query_targets.world_from_cam, expected, atol=1e-6)
    assert torch.equal(inspector.query_targets.K, targets.K)
    query = inspector.value["coverage"].query.world_from_cam
    assert torch.allclose(query, expected, atol=1e-6)
    inspector.home.click()
    assert torch.equal(inspector.query_targets.world_from_cam, targets.world_from_cam)
    assert agrees(inspector.value["coverage"], vm.retrieve(inspector.memory, targets, 2))


def test_as_many_presses_back_as_forth_lead_home(inspector, box):
    for verb in ("strafe right", "look up", "left"):
        inspector.buttons[verb].click()
    assert [slider.value for slider in inspector.sliders.values()] == [0.0, 0.3, -15.0, 15.0]
    inspector.home.click()
    for verb in ("forward", "back"):
        for _ in range(3):
            inspector.buttons[verb].click()
    assert inspector.message.text == ""
    assert torch.equal(inspector.query_targets.world_from_cam, box.look(10.0).world_from_cam)


def test_a_click_on_a_chosen_view_shows_what_it_saw_of_the_targets(inspector, memory):
    column, retrieval = inspector.columns[0], inspector.value["coverage"]
    plain, view = column.map.src, int(retrieval.chosen[1])
    column.chosen.picked = view
    share = float(seen_by(memory, retrieval, view).float().mean())
    assert 0.05 < share < 0.95
    assert column.map.caption == f"{share:.0%} of the target pixels were seen by view {view}"
    assert column.map.src != plain
    assert inspector.scene.lit == (view,)
    assert chip(view) in inspector.scene.about.value
    column.chosen.picked = -1
    assert (column.map.src, inspector.scene.lit) == (plain, None)


def test_targets_that_see_nothing_are_told_so_and_the_last_answer_stays(inspector):
    last = inspector.value
    inspector.sliders["turn"].value = -100.0
    assert "see no surfel" in inspector.message.text
    assert inspector.value is last
    inspector.policy.value = "temporal"  # does not look
    assert inspector.message.text == ""
    assert list(inspector.value) == ["temporal"]


def test_an_inspector_that_has_no_answer_yet_can_be_coloured_and_turned(memory, box):
    inspector = RetrievalInspector(memory.truncate(1), box.look(180.0))
    assert inspector.value == {}
    inspector.color.value = "vote weight"
    inspector.sliders["turn"].value = 180.0
    assert inspector.value["coverage"].chosen.tolist() == [0]
    assert inspector.scene.color == "vote weight"


def test_the_true_coverage_is_that_of_an_evaluation(memory, box):
    target = box.look(100.0)
    inspector = RetrievalInspector(memory, target, box, policy="temporal")
    inspector.k.value = 1
    step = vm.step(memory, target, generator=Paints(box), policy="temporal", k=1)
    chosen = step.retrieval.chosen
    [(share, best)] = coverage(box, memory.views.cameras, target, [chosen], len(chosen), rows=24)
    assert share < 0.05 < best
    said = f"truly covers {share:.0%} of the pixels, the best choice {best:.0%}"
    assert said in inspector.columns[0].title.value
    unknown = RetrievalInspector(memory, box.look(10.0), Nowhere())
    assert "(true coverage unknown: inside a wall)" in unknown.columns[0].title.value


def test_the_splat_can_be_seen_as_colour_depth_and_cosine(inspector):
    sources = set()
    for kind in ("depth", "cosine", "colour"):
        inspector.look.value = kind
        sources.add(inspector.splat.src)
    assert len(sources) == 3
    known = float((inspector.value["coverage"].splat.surfel >= 0).float().mean())
    told = int(inspector.splat.caption.rpartition(", ")[2].removesuffix("% known"))
    assert told / 100 == pytest.approx(known, abs=0.02)


def test_an_inspector_says_what_it_holds(memory, box):
    inspector = RetrievalInspector(memory, box.look(0.0))
    assert repr(inspector) == "RetrievalInspector(3 views, 1 targets)"
