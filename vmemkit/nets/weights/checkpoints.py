"""Checkpoints: weight files are read safely and loaded strictly.

In: a path, a network. Out: tensors by name, or the network with these weights. A file may come from a
stranger. So a pickle is read for tensors and plain settings only and nothing in it is run, and a
network takes the tensors of a file all together or not at all.
"""

from __future__ import annotations

import os
import re
import typing
import warnings
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vmemkit.nets.weights.catalogue import WEIGHTS, WeightFile

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
ZIP_MAGIC = b"PK\x03\x04"  # starts files of torch.save since 1.6, which can be mapped into memory
WRAPPERS = ("state_dict", "model")  # keys under which training scripts keep the weights
PARALLEL = "module."  # prefix that data-parallel training puts before names
FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")  # torch's words for what a refused pickle asks for
SHOWN = 5  # mismatches that a message names


class OmegaConfStub:
    """Stands in for a class of OmegaConf: it takes the attributes, and has none of the code."""


# The only classes that a pickle may ask for besides tensors. None of them runs code from the file.
HARMLESS = (
    Namespace,
    dict,
    defaultdict,
    (typing.Any, "typing.Any"),
    *(
        (type(name.rpartition(".")[2], (OmegaConfStub,), {}), name)
        for name in (
            "omegaconf.dictconfig.DictConfig",
            "omegaconf.listconfig.ListConfig",
            "omegaconf.base.ContainerMetadata",
            "omegaconf.base.Metadata",
            "omegaconf.nodes.AnyNode",
        )
    ),
)


# ---- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorCounts:
    """Counts of the floating-point tensors in a file."""

    keys: int
    parameters: int  # a tensor under two names counts once
    dtypes: tuple[str, ...]


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU, mapped from disk where the format allows.

    Nothing in the file is run: a pickle that asks for more than tensors and plain settings is refused.
    If the weights lie under "state_dict" or "model", these are returned. Names lose the prefixes of
    data-parallel training. Errors: ValueError that names the file, if it is missing, damaged, cut
    short, no weight file or refused, or if two tensors get the same name.
    """
    path = Path(path)
    known = (".safetensors", *PICKLES)
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'missing'}: give a file")
    if path.suffix.lower() not in known:
        raise ValueError(f"{path} is no weight file by its name, which ends in {', '.join(known)}")
    return _without_parallel(_tensors(_unwrapped(_stored(path)), path), path)


def training_settings(path: str | os.PathLike) -> dict[str, object]:
    """The settings that a training script saved beside the weights under "args"; {} if there are none.

    Values are plain, and as in `read` nothing in the file is run. Errors: ValueError as in `read`.
    """
    path = Path(path)
    stored = _stored(path) if path.suffix.lower() in PICKLES else None
    settings = as_plain(stored.get("args")) if isinstance(stored, dict) else None
    return settings if isinstance(settings, dict) else {}


def as_plain(settings: object) -> object:
    """Settings as dicts, tuples and the values in them."""
    if isinstance(settings, OmegaConfStub):
        attributes = vars(settings)
        return as_plain(attributes.get("_content", attributes.get("_val")))
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if isinstance(settings, dict):
        return {key: as_plain(value) for key, value in settings.items()}
    return tuple(map(as_plain, settings)) if isinstance(settings, list) else settings


def count_tensors(state: dict[str, Tensor]) -> TensorCounts:
    """Counts of the floating-point tensors; older files hold indices too, which are not weights."""
    weights = [tensor for tensor in state.values() if tensor.is_floating_point()]
    distinct = {tensor.data_ptr(): tensor.numel() for tensor in weights}
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights})
    return TensorCounts(len(weights), sum(distinct.values()), tuple(dtypes))


def matching_entries(
    state: dict[str, Tensor], entries: Mapping[str, WeightFile] = WEIGHTS
) -> tuple[str, ...]:
    """Names of the entries whose numbers of keys and parameters are those of `state`."""

    def fits(entry: WeightFile) -> bool:
        own = count_tensors({k: v for k, v in state.items() if k.startswith(entry.prefixes)})
        return (own.keys, own.parameters) == (entry.keys, entry.parameters)

    return tuple(name for name, entry in entries.items() if fits(entry))


def _stored(path: Path) -> Any:
    """The content of a file. Errors: ValueError, whatever goes wrong."""
    try:
        if path.suffix.lower() not in PICKLES:
            return safetensors.torch.load_file(path)
        with path.open("rb") as file:
            can_be_mapped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(HARMLESS)):
            warnings.simplefilter("ignore")  # about the pickle's protocol
            return torch.load(path, map_location="cpu", weights_only=True, mmap=can_be_mapped)
    except Exception as error:
        refusal = _refusal(path, error)
    # Raised outside the `except`, because torch's own message recommends the unsafe way to read it.
    raise refusal


def _refusal(path: Path, error: Exception) -> ValueError:
    is_pickle = isinstance(error, UnpicklingError)
    forbidden = FORBIDDEN.search(str(error)) if is_pickle else None
    if forbidden:
        return ValueError(
            f"{path} is refused: besides tensors its pickle asks for {forbidden[1]}, and to give it "
            "that would be to run its code. Ask for a .safetensors of it, or save its tensors alone, "
            "by name, on a machine where its code can do no harm"
        )
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    reason = "its pickle is none of tensors" if is_pickle else reason
    return ValueError(
        f"cannot read {path}: it is damaged, cut short or no weight file ({reason}): get it again"
    )


def _unwrapped(stored: Any) -> Any:
    """The weights, without what a training script stored beside them."""
    if not isinstance(stored, dict):
        return stored
    for key in WRAPPERS:
        others = [value for name, value in stored.items() if name != key]
        if isinstance(stored.get(key), dict) and not any(isinstance(v, Tensor) for v in others):
            return stored[key]
    return stored


def _tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name, without gradients. Errors: ValueError for anything but dense tensors."""
    if not isinstance(stored, dict) or not stored:
        got = "nothing" if stored == {} else f"a {type(stored).__name__}"
        raise ValueError(f"{path} holds {got}, needs tensors by name: is it another kind of file?")
    for name, value in stored.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise ValueError(
                f"{path} holds a {type(value).__name__} under {name!r}, needs tensors alone: save "
                "its state dict by itself"
            )
        if value.is_meta or value.layout != torch.strided:
            raise ValueError(f"{path} holds no values for {name!r}: save it from dense tensors")
    return {name: value.detach() for name, value in stored.items()}


def _without_parallel(stored: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    sources: dict[str, str] = {}
    for name in stored:
        new = name.replace(PARALLEL, "")
        first = sources.setdefault(new, name)
        if first != name:
            raise ValueError(
                f"{path} holds {first!r} and {name!r}, which both become {new!r}: save one of them"
            )
    return {new: stored[old] for new, old in sources.items()}


# ---- loading -------------------------------------------------------------------------------------


def load_into(
    module: nn.Module, state: dict[str, Tensor], name: str, dtype: torch.dtype | None = None
) -> nn.Module:
    """Give `module` the tensors of `state`, all or none, and return it.

    name: of the module, for messages. dtype: of its floating-point tensors, by default the file's.
    The module stays on its device; one on the meta device takes the tensors themselves, uncopied. Its
    parameters are new objects afterwards, so optimisers must be made later.
    Errors: ValueError, with nothing changed, for names, shapes or kinds of numbers that differ (how
    many, and the first five), and for buffers on the meta device that the file does not fill.
    """
    expected = module.state_dict()
    _check_same(expected, state, name)
    tensors = chain(module.named_parameters(), module.named_buffers())
    unfilled = [key for key, tensor in tensors if tensor.is_meta and key not in expected]
    unfilled += [key for key, tensor in state.items() if tensor.is_meta]
    if unfilled:
        raise ValueError(
            f"{name} would keep {len(unfilled)} tensors without values, such as {unfilled[0]!r}: "
            "build it on a real device, or make its buffers persistent"
        )
    fresh = {key: _on_device_of(like, state[key], dtype) for key, like in expected.items()}
    module.load_state_dict(fresh, strict=True, assign=True)
    return module


def _on_device_of(like: Tensor, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The tensor on the device of `like`, as a copy; itself if `like` is on the meta device."""
    dtype = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.to(dtype) if like.is_meta else tensor.to(like.device, dtype, copy=True)


def _check_same(expected: dict[str, Tensor], state: dict[str, Tensor], name: str) -> None:
    def unlike(key: str) -> bool:
        got, needed = state[key], expected[key]
        return got.shape != needed.shape or got.is_floating_point() != needed.is_floating_point()

    missing = [key for key in expected if key not in state]
    misshapen = [key for key in expected if key in state and unlike(key)]
    foreign = sorted(state.keys() - expected.keys())
    # The message shows some of each sort: a wrong prefix shows in a missing name beside a foreign one.
    rows = zip_longest(missing, misshapen, foreign)
    mixed = (key for key in chain.from_iterable(rows) if key is not None)
    first = [
        f"{key}: got {_described(state.get(key))}, needs {_described(expected.get(key))}"
        for key in islice(mixed, SHOWN)
    ]
    if first:
        raise ValueError(
            f"these are not the weights of {name}, which has {len(expected)} keys: {len(missing)} "
            f"missing, {len(foreign)} foreign, {len(misshapen)} misshapen. {'; '.join(first)}. "
            "`vmemkit weights check FILE` says what a file holds"
        )


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    kind = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {list(tensor.shape)}"
