"""Weight files: their table, which files are read and which are refused, and strict loading."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import types
import typing
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vmemkit.nets import weights
from vmemkit.nets.unet import UNet, UNetConfig
from vmemkit.nets.weights import (
    WEIGHTS,
    catalogue,
    checkpoints,
    download,
    load_into,
    matching_entries,
    read,
    training_settings,
)

NAMES = list(WEIGHTS)
MAPS = Path("/proc/self/maps")


# ---- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_all_that_one_must_know_before_downloading_it(name):
    entry = WEIGHTS[name]
    assert entry.name == name
    assert entry.files
    assert entry.repositories
    assert all(download.REPOSITORY.fullmatch(repository) for repository in entry.repositories)
    assert entry.licence in entry.terms
    assert entry.limits in entry.terms
    assert entry.page.startswith(catalogue.HUB)
    assert ("hf auth login" in entry.terms) is (entry.gated is True)
    assert Path(entry.file).suffix in (".safetensors", *checkpoints.PICKLES)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_of_float32_parameters(name):
    entry = WEIGHTS[name]
    assert entry.size >= 4 * entry.parameters
    if name != "clip":  # its file holds the text tower too
        assert entry.size < 4.01 * entry.parameters


def test_terms_say_if_the_gate_is_unknown():
    assert "unknown" in dataclasses.replace(WEIGHTS["vae"], gated=None).terms


def test_small_sizes_are_said_in_megabytes():
    assert WEIGHTS["depth-metric"].size_text == "about 99 MB"
    assert WEIGHTS["vae"].size_text == "0.33 GB"


def unet() -> nn.Module:
    return UNet(UNetConfig())


def autoencoder() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    widths = (128, 256, 512, 512)
    return diffusers.AutoencoderKL(3, 3, down, up, widths, layers_per_block=2, latent_channels=4)


def image_tower() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1024}
    depth = {"num_hidden_layers": 32, "num_attention_heads": 16, "patch_size": 14}
    config = transformers.CLIPVisionConfig(**sizes, **depth)
    return transformers.CLIPVisionModelWithProjection(config)


def depth_anything() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    stages = {"out_features": ["stage3", "stage6", "stage9", "stage12"]}
    sizes = {"image_size": 518, "hidden_size": 384, "num_attention_heads": 6}
    backbone = transformers.Dinov2Config(**sizes, **stages, reshape_hidden_states=False)
    widths = {"reassemble_hidden_size": 384, "neck_hidden_sizes": [48, 96, 192, 384]}
    config = transformers.DepthAnythingConfig(backbone_config=backbone, **widths)
    return transformers.DepthAnythingForDepthEstimation(config)


@pytest.mark.parametrize(
    ("build", "fits"),
    [
        (unet, ("vmem", "seva", "seva-1.0")),
        (autoencoder, ("vae",)),
        (image_tower, ("clip",)),
        (depth_anything, ("depth-metric", "depth-relative")),
    ],
)
def test_a_file_of_full_size_fits_its_entry_and_its_network(build, fits):
    with torch.device("meta"):
        net = build()
    # One number expanded to each shape: gigabytes that take no memory.
    file = {key: torch.zeros(()).expand(like.shape) for key, like in net.state_dict().items()}
    assert matching_entries(file) == fits
    if build is unet:  # the other networks have buffers that only their libraries can fill
        load_into(net, file, fits[0])
        assert not any(tensor.is_meta for tensor in net.state_dict().values())


# ---- reading -------------------------------------------------------------------------------------


class Command:
    """Unpickling this would run a command of the shell."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def saved(path: Path, content, **options) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, **options)
    return path


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}


def same(got: dict, wanted: dict) -> bool:
    return got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in got)


@pytest.mark.parametrize("suffix", [".safetensors", *checkpoints.PICKLES, ".PTH"])
def test_files_of_every_suffix_are_read(tmp_path, suffix):
    assert same(read(saved(tmp_path / f"x{suffix}", state())), state())


def test_files_of_the_old_format_are_read(tmp_path):
    old = saved(tmp_path / "old.pth", state(), _use_new_zipfile_serialization=False)
    assert same(read(old), state())


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux lists what is mapped")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_large_files_are_mapped_and_not_copied(tmp_path, suffix):
    path = saved(tmp_path / f"x{suffix}", {"a": torch.zeros(1_000_000)})
    tensor = read(path)["a"]
    mapped = [line for line in MAPS.read_text().splitlines() if str(path) in line]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
    assert any(low <= tensor.data_ptr() < high for low, high in spans)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_weights_are_found_under_a_wrapper(tmp_path, wrapper):
    path = saved(tmp_path / "x.pth", {wrapper: OrderedDict(state()), "epoch": 3, "args": ["--lr"]})
    assert same(read(path), state())


def test_a_dict_beside_tensors_is_not_a_wrapper(tmp_path):
    path = saved(tmp_path / "x.pth", {"model": state(), "other": torch.ones(1)})
    with pytest.raises(ValueError, match="holds a dict under 'model', needs tensors alone"):
        read(path)


def test_parameters_come_as_plain_tensors(tmp_path):
    path = saved(tmp_path / "x.pth", {"a": nn.Parameter(torch.ones(2))})
    assert not read(path)["a"].requires_grad


def test_prefixes_of_parallel_training_are_removed(tmp_path):
    parallel = {f"module.net.module.{key}": value for key, value in state().items()}
    plain = {f"net.{key}": value for key, value in state().items()}
    assert same(read(saved(tmp_path / "x.pth", parallel)), plain)


def test_two_names_that_become_one_are_refused(tmp_path):
    path = saved(tmp_path / "x.pth", {"module.a": torch.ones(1), "a": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"'module\.a' and 'a', which both become 'a'"):
        read(path)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path, new_format):
    trap = tmp_path / "sprung"
    content = {"a": torch.ones(1), "b": Command(f"touch {trap}")}
    path = saved(tmp_path / "x.pth", content, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"x\.pth is refused.*asks for \w+\.system.*run its code"):
        read(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)  # the trap works: an unsafe reader runs it
    assert trap.exists()


@pytest.mark.parametrize(
    ("extra", "module"),
    [
        (Path("x"), "pathlib"),
        (nn.Linear(1, 1), "torch.nn.modules"),
        (argparse.Namespace(layer=nn.Linear(1, 1)), "torch.nn.modules"),
    ],
)
def test_a_pickle_of_more_than_tensors_is_refused_with_its_reason(tmp_path, extra, module):
    path = saved(tmp_path / "x.pth", {"model": state(), "args": extra})
    with pytest.raises(ValueError, match=f"asks for {module}") as error:
        read(path)
    assert "weights_only" not in str(error.value)  # torch's own advice is the unsafe way
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


def test_settings_beside_the_weights_are_read_as_plain_values(tmp_path):
    settings = argparse.Namespace(model="Net()", lr=1e-4, sizes=(1, 2))
    path = saved(tmp_path / "x.pth", {"model": state(), "args": settings, "epoch": 3})
    assert same(read(path), state())
    assert training_settings(path) == {"model": "Net()", "lr": 1e-4, "sizes": (1, 2)}
    as_dict = saved(tmp_path / "d.pth", {"model": state(), "args": {"model": "Net()"}})
    assert training_settings(as_dict) == {"model": "Net()"}
    for other in ({"model": state()}, {"model": state(), "args": "Net()"}, state()):
        assert training_settings(saved(tmp_path / "y.pth", other)) == {}
    assert training_settings(saved(tmp_path / "z.safetensors", state())) == {}
    trap = tmp_path / "sprung"
    bad = argparse.Namespace(model=Command(f"touch {trap}"))
    with pytest.raises(ValueError, match="is refused"):
        training_settings(saved(tmp_path / "w.pth", {"model": state(), "args": bad}))
    assert not trap.exists()


def test_settings_of_omegaconf_are_read_without_it(tmp_path, monkeypatch):
    """CUT3R's file has objects of classes with these names, whose code must not run."""
    classes = {}
    for name in ("dictconfig.DictConfig", "nodes.AnyNode", "base.Metadata"):
        module, _, own = name.partition(".")
        kind = type(own, (), {"__module__": f"omegaconf.{module}", "__qualname__": own})
        kind.__setstate__ = lambda *_: pytest.fail("the file's own code ran")
        classes[own] = kind
        fake = types.ModuleType(f"omegaconf.{module}")
        setattr(fake, own, kind)
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))

    def node(kind, **attributes):
        one = classes[kind]()
        vars(one).update(attributes)
        return one

    model = node("AnyNode", _val="Net()", _metadata=node("Metadata", ref_type=typing.Any))
    tree = node("DictConfig", _content={"model": model, "lr": node("AnyNode", _val=0.1)})
    path = saved(tmp_path / "x.pth", {"model": state(), "args": tree})
    assert training_settings(path) == {"model": "Net()", "lr": 0.1}
    assert same(read(path), state())


def damaged(folder: Path) -> dict[str, Path]:
    """Files that cannot be read, by what is wrong with them."""
    files = {}
    for suffix in (".pth", ".safetensors"):
        whole = saved(folder / f"whole{suffix}", state()).read_bytes()
        contents = {
            "half": whole[: len(whole) // 2],
            "almost whole": whole[:-1],
            "six bytes": whole[:6],
            "empty": b"",
            "text": b"Entry not found\n",
            "a page": b"<!DOCTYPE html><html>",
            "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "noise": bytes(range(255, 0, -1)) * 9,
        }
        for what, content in contents.items():
            files[f"{what}{suffix}"] = folder / f"{what}{suffix}"
            files[f"{what}{suffix}"].write_bytes(content)
    old = saved(folder / "old.pth", state(), _use_new_zipfile_serialization=False)
    old.write_bytes(old.read_bytes()[:-5])
    return files | {"old and cut short": old}


def test_damaged_truncated_and_foreign_files_are_refused_by_name(tmp_path):
    for path in damaged(tmp_path).values():
        with pytest.raises(ValueError, match="it is damaged, cut short or no weight file") as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_missing_files_folders_and_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.pth is missing: give a file"):
        read(tmp_path / "none.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ValueError, match=r"folder\.pth is a folder"):
        read(tmp_path / "folder.pth")
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"picture\.png is no weight file by its name"):
        read(tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "a list"),
        (torch.ones(1), "a Tensor"),
        ({}, "nothing"),
        ({"a": 1}, "a int under 'a'"),
        ({1: torch.ones(1)}, "a Tensor under 1"),
        ({"a": torch.ones(2, device="meta")}, "no values for 'a'"),
        ({"a": torch.eye(2).to_sparse()}, "no values for 'a'"),
    ],
)
def test_anything_but_dense_tensors_by_name_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=f"x.pth holds {words}"):
        read(saved(tmp_path / "x.pth", content))


def test_contents_count_floating_point_tensors_and_shared_ones_once():
    shared = torch.ones(4, 2)
    tensors = {"a": shared, "b": shared, "c": torch.ones(3).half(), "ids": torch.arange(9)}
    assert weights.count_tensors(tensors) == checkpoints.TensorCounts(3, 11, ("float16", "float32"))


def test_a_file_fits_the_entries_whose_numbers_it_has():
    tower = {"vision_model.x": torch.ones(5), "visual_projection.weight": torch.ones(2)}
    entries = {
        name: dataclasses.replace(WEIGHTS[name], keys=2, parameters=7) for name in ("vae", "clip")
    }
    assert matching_entries(tower, entries) == ("vae", "clip")
    assert matching_entries(tower | {"text_model.x": torch.ones(1)}, entries) == ("clip",)
    assert matching_entries(tower | {"vision_model.y": torch.ones(1)}, entries) == ()


# ---- loading -------------------------------------------------------------------------------------


class Net(nn.Module):
    """Layers, a buffer of indices, and if `scratch` a buffer that the state does not hold."""

    def __init__(self, scratch: bool = False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        self.register_buffer("ids", torch.arange(4))
        if scratch:
            self.register_buffer("scratch", torch.zeros(1), persistent=False)


def on_meta(**options) -> Net:
    with torch.device("meta"):
        return Net(**options)


def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in Net().state_dict().items()
    }


def test_a_network_without_memory_takes_the_tensors_themselves():
    given, net = trained(), on_meta()
    assert load_into(net, given, "net") is net
    assert same(net.state_dict(), given)
    assert net.layers[0].weight.data_ptr() == given["layers.0.weight"].data_ptr()
    assert net.layers[0].weight.requires_grad


def test_a_network_with_memory_takes_copies():
    given, net = trained(), Net(scratch=True)
    load_into(net, given, "net")
    assert same(net.state_dict(), given)
    with torch.no_grad():
        net.layers[0].weight.zero_()
    assert same(trained(), given)


@pytest.mark.parametrize("build", [Net, on_meta])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_unless_a_dtype_is_given(build, dtype):
    half = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in trained().items()
    }
    net = load_into(build(), half, "net")
    assert {value.dtype for value in net.parameters()} == {dtype}
    net = load_into(build(), half, "net", dtype=torch.float32)
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    assert net.ids.dtype == torch.int64


WRONG = {
    "missing": ({"layers.0.bias": None}, "1 missing, 0 foreign, 0 misshapen"),
    "foreign": ({"head": torch.ones(1)}, "0 missing, 1 foreign, 0 misshapen"),
    "misshapen": ({"layers.0.bias": torch.ones(4)}, "0 missing, 0 foreign, 1 misshapen"),
    "transposed": ({"layers.0.weight": torch.ones(2, 3)}, "got float [2, 3], needs float [3, 2]"),
    "rounded": ({"layers.0.bias": torch.ones(3).int()}, "got int32 [3], needs float [3]"),
    "not indices": ({"ids": torch.ones(4)}, "ids: got float [4], needs int64 [4]"),
    "empty": (dict.fromkeys(trained()), "5 missing"),
}


@pytest.mark.parametrize("build", [Net, on_meta])
@pytest.mark.parametrize("what", WRONG)
def test_other_weights_are_refused_and_nothing_changes(build, what):
    change, words = WRONG[what]
    given = {key: value for key, value in (trained() | change).items() if value is not None}
    net = build()
    before = {key: (id(value), value.is_meta) for key, value in net.named_parameters()}
    values = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match="not the weights of toy, which has 5 keys") as error:
        load_into(net, given, "toy")
    assert words in str(error.value)
    assert {key: (id(value), value.is_meta) for key, value in net.named_parameters()} == before
    assert build is on_meta or same(net.state_dict(), values)


def test_five_differences_are_named_of_all_sorts_and_always_the_same():
    given = {f"net.{key}": value for key, value in trained().items()} | {"ids": torch.ones(9)}
    lines = (
        "layers.0.weight: got nothing, needs float [3, 2]",
        "ids: got float [9], needs int64 [4]",
        "net.ids: got int64 [4], needs nothing",
        "layers.0.bias: got nothing, needs float [3]",
        "net.layers.0.bias: got float [3], needs nothing",
    )
    for order in (dict, lambda items: dict(reversed(items.items()))):
        with pytest.raises(ValueError, match="4 missing, 5 foreign, 1 misshapen") as error:
            load_into(Net(), order(given), "net")
        assert f"misshapen. {'; '.join(lines)}. `vmemkit" in str(error.value)


def test_a_network_must_not_keep_tensors_without_values():
    net = on_meta(scratch=True)
    with pytest.raises(ValueError, match="1 tensors without values, such as 'scratch'"):
        load_into(net, trained(), "net")
    assert all(value.is_meta for value in net.state_dict().values())
    hollow = trained() | {"layers.0.bias": torch.ones(3, device="meta")}
    with pytest.raises(ValueError, match=r"such as 'layers\.0\.bias'"):
        load_into(Net(), hollow, "net")
