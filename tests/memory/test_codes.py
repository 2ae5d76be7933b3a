"""Latents and embeddings in a memory: caches that may be missing, and must never spoil it."""

import pytest
import torch
from core_helpers import same, tables
from safetensors.torch import load_file, save_file

from vmemkit.memory import Memory, begin, load, save, write


@pytest.fixture
def views(box):
    return box.render(box.look(0.0, 50.0, 100.0), 12, 16)


def codes(n: int, channels: int = 4) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(n)
    latent = torch.randn(n, channels, 3, 4, generator=rng)
    return {"latent": latent, "embedding": torch.randn(n, 8, generator=rng)}


def written(memory: Memory, views) -> Memory:
    return write(memory, views)


def test_codes_are_kept_with_their_views(views):
    coded = views.replace(**codes(3))
    memory = written(begin(coded[:1]), coded[1:])
    assert torch.equal(memory.views.latent, coded.latent)
    assert torch.equal(memory.truncate(2).views.embedding, coded.embedding[:2])


def test_views_without_codes_have_unknown_ones_beside_those_that_have(views):
    coded = views.replace(**codes(3))
    first = written(begin(coded[:1]), views[1:])
    assert torch.equal(first.views.latent[:1], coded.latent[:1])
    assert first.views.latent[1:].isnan().all()
    later = written(begin(views[:2]), coded[2:])
    assert later.views.latent[:2].isnan().all()
    assert torch.equal(later.views.latent[2:], coded.latent[2:])


def test_codes_of_another_shape_begin_anew(views):
    memory = written(
        begin(views[:2].replace(**codes(2))), views[2:].replace(**codes(1, channels=9))
    )
    assert memory.views.latent.shape == (3, 9, 3, 4)
    assert memory.views.latent[:2].isnan().all()
    assert memory.views.embedding.isfinite().all()


def test_a_write_with_codes_leaves_the_memory_it_was_called_on(views):
    memory = begin(views[:1])
    before = tables(memory)
    written(memory, views[1:].replace(**codes(2)))
    assert memory.views.latent is None
    assert same(tables(memory), before)


def test_a_memory_takes_the_codes_of_its_own_views(views):
    memory = begin(views)
    coded = memory.with_codes(memory.views.replace(**codes(3)))
    assert torch.equal(coded.views.latent, codes(3)["latent"])
    assert memory.views.latent is None
    assert torch.equal(coded.surfels.position, memory.surfels.position)
    with pytest.raises(ValueError, match="3 views, got 2"):
        memory.with_codes(memory.views[:2])


@pytest.mark.parametrize(
    "bad",
    [
        {"latent": torch.zeros(3, 5)},
        {"latent": torch.zeros(2, 4, 3, 4)},
        {"latent": torch.zeros(3, 4, 3, 4, dtype=torch.float64)},
        {"embedding": torch.full((3, 8), torch.inf)},
        {"embedding": torch.zeros(3, 8, 1)},
    ],
)
def test_what_could_not_be_loaded_again_is_not_taken(views, bad, as_installed, tmp_path):
    memory = begin(views)
    with pytest.raises(ValueError, match=r"latent|embedding"):
        memory.with_codes(memory.views.replace(**bad))
    if next(iter(bad.values())).dtype == torch.float32:
        with pytest.raises(ValueError, match=r"latent|embedding"):
            written(Memory.empty(), views.replace(**bad))
    save(memory, tmp_path)
    assert same(tables(load(tmp_path)), tables(memory))


def test_codes_come_back_from_disk(views, tmp_path):
    coded = views.replace(**codes(3))
    memory = written(begin(coded[:1]), views[1:])
    save(memory, tmp_path)
    assert torch.equal(load(tmp_path).views.latent.nan_to_num(), memory.views.latent.nan_to_num())


@pytest.mark.parametrize("value", [torch.zeros(3, 4), torch.full((3, 4, 3, 4), torch.inf)])
def test_hostile_codes_in_a_file_are_refused(views, tmp_path, value, as_installed):
    save(begin(views.replace(**codes(3))), tmp_path)
    file = next(tmp_path.glob("tables-*.safetensors"))
    save_file(load_file(file) | {"views.latent": value}, file)
    with pytest.raises(ValueError, match="latent"):
        load(tmp_path)
