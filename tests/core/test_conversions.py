"""What people have (arrays, Pillow images, lists, other kinds of numbers) is taken, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from core_helpers import Box, same, tables
from PIL import Image

import vmemkit as vm
from vmemkit import core, scenes
from vmemkit.core import Cameras, Views, as_images, as_tensor, load_depth, load_image, whole
from vmemkit.memory import Memory, begin, read

pytestmark = pytest.mark.usefixtures("as_installed")

BOX = Box()
VIEWS = BOX.render(BOX.look(0.0, 30.0), 24, 32)
TARGETS = BOX.look(10.0, 20.0)
SCENE = scenes.rooms(0)
INSIDE = scenes.single_tour(SCENE).cameras[:2]
BYTES = (VIEWS.image * 255).round().byte()
PICTURES = [Image.fromarray(x) for x in BYTES.permute(0, 2, 3, 1).numpy()]


@pytest.fixture(scope="module")
def memory() -> Memory:
    return begin(VIEWS)


def as_arrays(cameras: Cameras) -> Cameras:
    return Cameras(cameras.world_from_cam.numpy(), cameras.K.tolist())


KINDS = {
    "arrays and lists": as_arrays,
    "doubles": lambda c: c.map(torch.Tensor.double),
    "gradients": lambda c: c.map(lambda x: x.clone().requires_grad_()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_cameras_of_any_kind_give_the_same(memory, kind):
    targets = KINDS[kind](TARGETS)
    seen, expected = read(memory, targets, 12, 16), read(memory, TARGETS, 12, 16)
    assert torch.equal(seen.surfel, expected.surfel)
    chosen = vm.retrieve(memory, targets, 1)
    assert torch.equal(chosen.votes, vm.retrieve(memory, TARGETS, 1).votes)
    steps = list(vm.walk(memory, targets))
    assert same(tables(steps[-1].memory), tables(vm.step(memory, TARGETS).memory))
    for generator in (vm.Warp(), vm.Writer()):
        *_, made = generator(memory.views, targets, torch.Generator().manual_seed(0))
        *_, wanted = generator(memory.views, TARGETS, torch.Generator().manual_seed(0))
        assert torch.equal(made.image, wanted.image)
    rendered = SCENE.render(KINDS[kind](INSIDE), 6, 8)
    assert torch.equal(rendered.image, SCENE.render(INSIDE, 6, 8).image)


def test_half_precision_cameras_are_taken(memory):
    assert len(vm.step(memory, TARGETS.map(torch.Tensor.half)).memory) == 4


def test_poses_may_be_arrays_lists_or_integers():
    for poses in (np.eye(4)[None], np.eye(4)[None].tolist(), torch.eye(4).long()[None]):
        made = vm.cameras(poses, np.eye(3))
        assert torch.equal(made.world_from_cam, torch.eye(4)[None])
        assert made.K.dtype == torch.float32


IMAGES = {
    "array": VIEWS.image.numpy(),
    "colours last": VIEWS.image.permute(0, 2, 3, 1).numpy(),
    "colours last, reversed rows": VIEWS.image.flip(2).permute(0, 2, 3, 1).numpy()[:, ::-1],
    "doubles": VIEWS.image.double(),
    "bytes": BYTES,
    "bytes, colours last": BYTES.permute(0, 2, 3, 1).numpy(),
    "Pillow images": PICTURES,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_kind_become_views(kind):
    made = core.views(IMAGES[kind], VIEWS.cameras, VIEWS.depth.numpy(), given=[True, False])
    assert made.image.dtype == made.depth.dtype == torch.float32
    assert (made.image - VIEWS.image).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(made.depth, VIEWS.depth)


def test_a_memory_begins_with_views_of_arrays(memory):
    arrays = Views(
        as_arrays(VIEWS.cameras), VIEWS.image.numpy(), VIEWS.given.numpy(), VIEWS.depth.numpy()
    )
    assert same(tables(begin(arrays)), tables(memory))


@pytest.mark.parametrize("image", [VIEWS.image[0].numpy(), BYTES[0].numpy(), PICTURES[0]])
def test_images_of_any_kind_are_saved(image, tmp_path):
    core.save_image(tmp_path / "a.png", image)
    assert (load_image(tmp_path / "a.png") - VIEWS.image[0]).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("depth", [np.full((2, 3), 1.5), [[1.5] * 3] * 2])
def test_depth_of_any_kind_is_saved(depth, tmp_path):
    core.save_depth(tmp_path / "a.png", depth)
    assert torch.equal(load_depth(tmp_path / "a.png"), torch.full((2, 3), 1.5))


@pytest.mark.parametrize(
    "source", [np.full((8, 16, 3), 0.2), Image.new("RGB", (16, 8), (51, 51, 51))]
)
def test_a_panorama_may_be_an_array_or_a_pillow_image(source):
    assert torch.allclose(scenes.panorama(source).image, torch.full((3, 8, 16), 0.2))


ZOOM = TARGETS.replace(K=TARGETS.K * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 1]]))
REFUSED = {
    "poses of nothing": (lambda m: vm.cameras(None), "camera poses must be numbers"),
    "poses of words": (lambda m: vm.cameras([["a"]]), "camera poses must be numbers"),
    "uneven poses": (lambda m: vm.cameras([[1.0], [1.0, 2.0]]), "camera poses must be numbers"),
    "poses of three rows": (lambda m: vm.cameras(np.eye(4)[None, :3]), "poses"),
    "k as text": (lambda m: vm.retrieve(m, TARGETS, "4"), "k must be a whole number, got '4'"),
    "k as a share": (lambda m: vm.retrieve(m, TARGETS, 1.5), "k must be a whole number"),
    "m as a share": (lambda m: list(vm.walk(m, TARGETS, m=2.0)), "m must be a whole number"),
    "a seed of text": (lambda m: vm.step(m, TARGETS, seed="a"), "seed must be a whole number"),
    "poses as targets": (lambda m: vm.step(m, TARGETS.world_from_cam), "targets must be Cameras"),
    "one camera": (lambda m: vm.step(m, TARGETS[0]), r"cameras \[m 4 4\]"),
    "no cameras": (lambda m: vm.step(m, TARGETS[:0]), r"cameras \[m 4 4\]"),
    "no generator": (lambda m: vm.step(m, TARGETS, generator=5), "generator must be a function"),
    "no reconstructor": (lambda m: vm.step(m, TARGETS, reconstructor=5), "reconstructor must be"),
    "no views": (lambda m: vm.begin([VIEWS]), "a memory is made of Views, .* got a list"),
    "canvas of text": (lambda m: read(m, TARGETS, "9", 9), "height must be a whole number"),
    "vast canvas": (lambda m: read(m, TARGETS, 10**6, 10**6), "at most 268435456 pixels"),
    "vast images": (lambda m: SCENE.render(INSIDE, 10**6, 10**6), "rays in all"),
    "no focal length": (lambda m: list(vm.Warp()(m.views, ZOOM, torch.Generator())), "focal"),
    "Warp, one": (lambda m: list(vm.Warp()(m.views, TARGETS[0], torch.Generator())), "targets"),
    "Writer, none": (lambda m: list(vm.Writer()(m.views, TARGETS[:0], torch.Generator())), "targ"),
    "a house, one camera": (lambda m: SCENE.render(INSIDE[0], 6, 8), "cameras to render"),
    "an image of words": (lambda m: core.save_image("a.png", "photo.jpg"), "images must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_rest_is_refused_by_name(memory, case):
    act, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        act(memory)


def test_conversions_leave_tensors_and_numbers_as_they_are():
    tensor = torch.rand(3, 4, 5)
    assert as_tensor(tensor, "it") is tensor
    assert as_images(tensor) is tensor
    assert as_images(torch.zeros(2, 4, 3, dtype=torch.uint8)).shape == (3, 2, 4)
    assert whole(np.int64(3), "it") == 3
