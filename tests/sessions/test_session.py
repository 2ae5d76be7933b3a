"""A session: every step comes back to the bit, and the tree remembers where one was."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from golden_helpers import seeing_ahead
from session_helpers import BOX, SIZE, Coding, Counting, begin, paint, parts, path, some_yaws, walk

import vmemkit as vm
from vmemkit.core import CODES
from vmemkit.generation import Warp, with_depth
from vmemkit.memory import AssociationConfig, MemoryConfig
from vmemkit.pipeline import Recorder
from vmemkit.reconstruction import AlignConfig, Cut3r, Cut3rState
from vmemkit.retrieval import Coverage, RetrievalConfig
from vmemkit.sessions import Described, Session


def take(session: Session, cameras, **settings) -> list[int]:
    """A walk from the head; the numbers of its nodes."""
    first = len(session.tree)
    for _ in walk(session.memory(), cameras, session=session, **settings):
        pass
    return [entry.id for entry in session.tree[first:]]


def check_all(folder, steps: dict) -> None:
    """All these steps, by their nodes, come back to the bit, in any order."""
    for order in (list(steps), list(steps)[::-1]):
        with Session(folder, readonly=True) as session:
            for node in order:
                assert parts(session.step(node)) == parts(steps[node])
                assert parts(session.memory(node)) == parts(steps[node].memory)


WALKS = {
    "a painter": {},
    "Warp and coverage": {"generator": Warp(), "policy": "coverage", "m": 2},
    "codes": {"generator": Coding()},
    "reports and a state": {"reconstructor": Counting(), "m": 2},
    "votes": {"policy": "paper", "retrieval": RetrievalConfig(rows=9, blind="nearest")},
    "images only": {"generator": lambda context, targets, rng: 0.5 + 0 * context.image[:1]},
}


@pytest.mark.parametrize("settings", WALKS.values(), ids=WALKS)
@pytest.mark.parametrize(
    "config", [None, MemoryConfig(budget=60), MemoryConfig(association=AssociationConfig("radius"))]
)
def test_every_step_comes_back_to_the_bit(settings, config, tmp_path):
    steps, memory = {}, begin(config)
    with Session(tmp_path) as session:
        for step in walk(memory, path(20, 40, 60, 90, 130, 20), session=session, **settings):
            steps[session.head] = step
    check_all(tmp_path, steps)


def test_branches_come_back_to_the_bit(tmp_path):
    steps, memory = {}, begin()
    with Session(tmp_path) as session:
        session.begin(memory)
        for place, yaws in ((0, (20, 40, 60)), (1, (5, 350)), (0, (180, 200)), (5, (90,))):
            session.go(place)
            for step in walk(session.memory(), path(*yaws), session=session):
                steps[session.head] = step
        assert [entry.parent for entry in session.tree] == [None, 0, 1, 2, 1, 4, 0, 6, 5]
    check_all(tmp_path, steps)


def test_the_last_picture_of_a_node_is_read_without_its_memory(tmp_path):
    memory = begin(MemoryConfig(budget=60))  # so that older surfels change, too
    with Session(tmp_path) as session:
        steps = list(walk(memory, path(20, 40, 60), session=session))
    with Session(tmp_path, readonly=True) as session:
        (tmp_path / "tensors" / "00000001.safetensors").write_bytes(b"damaged")
        assert torch.equal(session.picture(), steps[-1].views.image[-1])
        assert torch.equal(session.picture(0), memory.views.image[-1])
        with pytest.raises(ValueError, match=r"00000001\.safetensors is missing or damaged"):
            session.picture(1)


def test_a_step_from_a_truncated_memory_of_its_own_buffer_comes_back(tmp_path):
    first, second, third = walk(begin(), path(20, 40, 60))
    undone = third.memory.truncate(2)  # equal to the memory after the first step, but not the same
    (other,) = walk(undone, path(250))
    with Session(tmp_path) as session:
        nodes = [session.add(step) for step in (first, second, third, other)]
        assert session.entry(nodes[-1]).parent == nodes[0]
    check_all(tmp_path, dict(zip(nodes, (first, second, third, other), strict=True)))


def test_several_beginnings_live_in_one_session(tmp_path):
    other = vm.begin(BOX.render(BOX.look(70.0, 80.0), *SIZE))
    with Session(tmp_path) as session:
        roots = [session.begin(begin()), session.begin(other, "two views")]
        (step,) = walk(other, path(90), session=session)
        assert session.entry().parent == roots[1]
        assert session.entry(roots[1]).label == "two views"
    with Session(tmp_path, readonly=True) as session:
        assert parts(session.memory(roots[1])) == parts(other)
        assert parts(session.step()) == parts(step)


def test_restoring_runs_no_generator_and_no_reconstructor(tmp_path):
    with Session(tmp_path) as session:
        take_from = begin()
        session.begin(take_from)
        take(session, path(20, 40), generator=Coding(), reconstructor=Counting())
    calls = []
    with Session(tmp_path) as session:
        steps = list(session.steps())
        settings = session.config(generator=lambda *a: calls.append(a), reconstructor=Counting())
    assert len(steps) == 2
    assert callable(settings.generator)
    assert calls == []


def test_a_walk_that_is_resumed_equals_the_walk_in_one_go(tmp_path):
    settings = {"generator": Coding(), "reconstructor": Counting(), "seed": 5, "k": 2}
    whole = list(walk(begin(), path(20, 40, 60, 80), **settings))
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(20, 40), **settings)
    with Session(tmp_path) as session:
        take(session, path(60, 80), **settings)
        for ours, theirs in zip(session.steps(), whole, strict=True):
            ours = dataclasses.replace(ours, seconds=theirs.seconds)
            assert parts(ours) == parts(theirs)


def test_states_that_cannot_be_stored_are_said_and_left_out(tmp_path):
    class Secret:
        pass

    def secretive(views):
        return vm.reconstruction.Reconstruction(views, state={"inside": [Secret()]})

    with Session(tmp_path) as session:
        (step,) = walk(begin(), path(20), session=session, reconstructor=secretive)
    with Session(tmp_path) as session:
        (sentence,) = session.entry().left_out
        assert "state after view 1" in sentence
        assert "Secret" in sentence
        assert session.memory().state is None
        assert parts(session.step().views) == parts(step.views)


def test_codes_are_stored_once(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(20, 40, 60), generator=Coding())
        *_, first, second, third = session.tree
        assert not first.goes_on  # the codes of the given view were added
        assert second.goes_on
        assert abs(second.size - third.size) < 0.1 * second.size  # not again those of all views
        assert all(getattr(session.memory().views, name) is not None for name in CODES)


# ---- what the journal says -----------------------------------------------------------------------


def test_entries_say_what_was_done_without_a_tensor(tmp_path):
    config = {"policy": Coverage(sharpness=0.2), "k": 2, "seed": 7}
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(30, 10), **config)
    for file in (tmp_path / "tensors").iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    with Session(tmp_path, readonly=True) as session:
        root, first, second = session.tree
        assert (root.parent, first.parent, second.parent) == (None, 0, 1)
        assert [entry.views for entry in session.tree] == [1, 2, 3]
        assert first.chosen == (0,)
        assert sorted(second.chosen) == [0, 1]
        assert (first.moved, second.moved) == ("right 30.0", "left 20.0")
        assert set(first.seconds) == set(vm.pipeline.STAGES)
        assert first.versions["vmemkit"] == vm.__version__
        assert first.settings["policy"].sharpness == 0.2
        assert first.settings["generator"].name.endswith("session_helpers.paint")
        assert "3" in repr(second.views)


def test_settings_come_back_as_the_values_they_were(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        generator = with_depth(vm.Writer(), Warp())
        take(session, path(20), generator=generator, policy="coverage", k=3, seed=2)
        config = session.config(k=2)
    assert config.generator == generator
    assert config.policy == Coverage(config=RetrievalConfig(blind="nearest"))
    assert (config.k, config.seed, config.m) == (2, 2, 1)
    assert config.reconstructor is vm.reconstruction.from_depth


def test_a_function_of_ones_own_must_be_given_again(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(20))
        with pytest.raises(
            ValueError, match=r"generator of step 1 was .*paint.*config\(generator="
        ):
            session.config()
        assert session.config(generator=paint).generator is paint


def test_a_network_is_described_by_the_hash_of_its_weights(tmp_path):
    class Network(torch.nn.Module):
        def __init__(self, weight: float) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)
            torch.nn.init.constant_(self.layer.weight, weight)
            torch.nn.init.zeros_(self.layer.bias)

        def forward(self, context, targets, rng):
            return paint(context, targets, rng)

    with Session(tmp_path) as session:
        session.begin(begin())
        for weight in (1.0, 1.0, 2.0):
            take(session, path(20), generator=Network(weight))
        described = [entry.settings["generator"] for entry in session.tree[1:]]
    assert all(isinstance(value, Described) for value in described)
    assert described[0].weights == described[1].weights != described[2].weights
    assert len(described[0].weights) == 64


def test_a_step_that_was_added_without_settings_says_so(tmp_path):
    with Session(tmp_path) as session:
        (step,) = walk(begin(), path(20))
        session.add(step, label="by hand")
        assert session.entry().label == "by hand"
        assert session.entry().settings is None
        with pytest.raises(ValueError, match="without its settings"):
            session.config()


# ---- moving in the tree --------------------------------------------------------------------------


def test_undo_redo_and_go_move_the_head_and_are_remembered(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(20, 40))
        assert (session.undo(), session.undo()) == (1, 0)
        with pytest.raises(ValueError, match="nothing to undo"):
            session.undo()
        assert session.redo() == 1
    with Session(tmp_path) as session:
        assert session.head == 1
        take(session, path(90))
        assert [child.id for child in session.children(1)] == [2, 3]
        session.go(1)
        assert session.redo() == 3  # the youngest
        with pytest.raises(ValueError, match="nothing to redo"):
            session.redo()
        assert [entry.id for entry in session.way()] == [0, 1, 3]


def test_labels_are_remembered(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        session.rename(0, "the kitchen — ☕")
    with Session(tmp_path) as session:
        assert session.entry(0).label == "the kitchen — ☕"


def test_what_is_deleted_is_hidden_and_compacting_frees_its_place(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(20, 40, 60))
        session.go(1)
        (kept,) = take(session, path(200))
        session.rename(kept, "kept")
        session.go(3)
        steps = {node: session.step(node) for node in (1, kept)}
        assert session.delete(2) == 1
        assert [entry.id for entry in session.tree] == [0, 1, kept]
        with pytest.raises(ValueError, match="no node 3"):
            session.step(3)
        before, files = session.size, len(list((tmp_path / "tensors").iterdir()))
        reader = Session(tmp_path, readonly=True)
        session.compact()
        assert session.size < before
        assert len(list((tmp_path / "tensors").iterdir())) == files - 2
        assert (session.head, session.entry(kept).label) == (1, "kept")
        assert take(session, path(10)) == [kept + 1]  # no number is used twice
        assert [entry.id for entry in reader.tree] == [0, 1, kept, kept + 1]
        steps[kept + 1] = session.step()
    check_all(tmp_path, steps)


def test_a_deleted_root_leaves_an_empty_session(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        assert session.delete(0) is None
        for ask in (session.memory, session.step, session.undo, session.way):
            with pytest.raises(ValueError, match=r"session\.begin"):
                ask()
        assert session.begin(begin()) == 1


# ---- refusals ------------------------------------------------------------------------------------


def test_a_walk_from_a_memory_that_the_session_does_not_know_is_refused_at_once(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        stranger = vm.begin(BOX.render(BOX.look(3.0), *SIZE))
        with pytest.raises(
            ValueError, match=r"does not know this memory of 1 views.*session\.memory"
        ):
            walk(stranger, path(20), session=session)
        (step,) = walk(stranger, path(20))
        for parent in (None, 0):
            with pytest.raises(ValueError, match=r"not know|not taken"):
                session.add(step, parent)
        assert len(session.tree) == 1


def test_an_equal_memory_is_known_wherever_it_comes_from(tmp_path):
    with Session(tmp_path / "session") as session:
        session.begin(begin())
        take(session, path(20, 40))
        vm.save(session.memory(1), tmp_path / "memory")
        assert session.find(vm.load(tmp_path / "memory")) == 1
        assert session.find(begin()) == 0


def test_a_single_step_can_be_kept(tmp_path):
    memory = begin()
    with Session(tmp_path) as session:
        assert isinstance(session, Recorder)
        step = vm.step(memory, path(20), generator=paint, session=session)
        assert parts(session.step()) == parts(step)
        assert session.entry().settings["k"] == 4


def test_forks_of_one_memory_are_branches(tmp_path):
    memory = begin()
    with Session(tmp_path) as session:
        session.begin(memory)
        rounds = vm.walks(memory, [path(20, 40), path(90)], generator=paint, m=1, session=session)
        assert [len(turn) for turn in rounds] == [2, 2]
        assert [entry.parent for entry in session.tree] == [None, 0, 0, 1]


def test_a_reader_changes_nothing(tmp_path):
    with Session(tmp_path) as session:
        session.begin(begin())
        take(session, path(20))
    with Session(tmp_path, readonly=True) as reader:
        (step,) = walk(reader.memory(), path(30))
        for change in (
            lambda: reader.add(step),
            lambda: reader.begin(begin()),
            lambda: reader.go(0),
            lambda: reader.delete(0),
            reader.undo,
            reader.compact,
        ):
            with pytest.raises(ValueError, match="readonly=True"):
                change()
    with pytest.raises(ValueError, match="is closed"):
        session.begin(begin())


def test_only_a_folder_of_its_own_becomes_a_session(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"other files, such as holiday\.jpg"):
        Session(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        Session(tmp_path / "holiday.jpg")
    with pytest.raises(ValueError, match="no session in"):
        Session(tmp_path / "nothing", readonly=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(("ask", "message"), [("memory", "no node 9"), ("step", "no node 9")])
def test_a_node_that_is_not_there_is_refused(ask, message, tmp_path):
    with Session(tmp_path) as session:
        with pytest.raises(ValueError, match="empty"):
            getattr(session, ask)()
        session.begin(begin())
        with pytest.raises(ValueError, match=message):
            getattr(session, ask)(9)
        with pytest.raises(ValueError, match="no step"):
            session.step(0)
        with pytest.raises(ValueError, match="holds a view"):
            session.begin(vm.Memory.empty())


def test_spilled_memories_come_back_spilled(tmp_path):
    spill = vm.Spill(4096)
    memory = vm.begin(BOX.render(BOX.look(0.0), *SIZE), spill=spill)
    with Session(tmp_path) as session:
        steps = list(walk(memory, some_yaws(5), session=session))
    with Session(tmp_path, readonly=True, spill=spill) as session:
        back = session.memory()
        assert back._views.spilled > 0
        assert parts(back) == parts(steps[-1].memory)


@pytest.mark.parametrize("align", ["direct", "released"])
def test_cut3r_goes_on_with_its_stored_state(align, tmp_path):
    def how() -> Cut3r:
        """The same weights in a network of its own, as in another process."""
        config = AlignConfig(iterations=5)
        return Cut3r(copy.deepcopy(seeing_ahead()), align, failures="keep", optimiser=config)

    cameras = path(5, 10, 15, 20)
    whole = list(walk(begin(), cameras, reconstructor=how(), m=2))
    with Session(tmp_path) as session:
        for _ in walk(begin(), cameras[:2], session=session, reconstructor=how(), m=2):
            pass
        assert session.entry().left_out == ()
    with Session(tmp_path) as session:
        memory = session.memory()
        assert isinstance(memory.state, Cut3rState)
        (last,) = walk(memory, cameras[2:], session=session, reconstructor=how(), m=2)
    ours, theirs = last, whole[-1]
    assert parts(dataclasses.replace(ours, seconds=theirs.seconds)) == parts(theirs)
