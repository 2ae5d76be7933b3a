"""Checkpoints: read weight files safely and load them strictly."""

from __future__ import annotations

import os
import re
import typing
import warnings
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vmemkit.nets.weights.catalogue import WEIGHTS, WeightFile


class Held:
    """In place of a class of OmegaConf: its attributes, and nothing that it does."""


HARMLESS = (
    Namespace,
    dict,
    defaultdict,
    (typing.Any, "typing.Any"),
    *(
        (type(name.rpartition(".")[2], (Held,), {}), name)
        for name in (
            "omegaconf.dictconfig.DictConfig",
            "omegaconf.listconfig.ListConfig",
            "omegaconf.base.ContainerMetadata",
            "omegaconf.base.Metadata",
            "omegaconf.nodes.AnyNode",
        )
    ),
)


def as_plain(settings: object) -> object:
    """Settings as dicts, tuples and the values in them."""
    if isinstance(settings, Held):
        held = vars(settings)
        return as_plain(held.get("_content", held.get("_val")))
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if isinstance(settings, dict):
        return {key: as_plain(value) for key, value in settings.items()}
    return tuple(map(as_plain, settings)) if isinstance(settings, list) else settings


PICKLES = (".pth", ".pt", ".bin", ".ckpt")

ZIP_MAGIC = b"PK\x03\x04"  # of the format that torch.save writes since 1.6, which can be mapped

WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights

PARALLEL = "module."  # what data-parallel training leaves in names

FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what a refused pickle asked for

SHOWN = 5  # mismatches that a message names

# What the readers raise, between them, for files that are damaged, cut short or something else.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, MemoryError, OverflowError, SafetensorError),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError),
)


# ---- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contents:
    """What a file holds, in numbers."""

    keys: int
    parameters: int  # a tensor under two names counts once
    dtypes: tuple[str, ...]


def without_parallel(key: str) -> str:
    """A tensor's name without the traces of data-parallel training."""
    return key.replace(PARALLEL, "")


def read(
    path: str | os.PathLike, rename: Callable[[str], str] = without_parallel
) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU, mapped from disk where the format allows.

    `rename` is applied to every name. Nothing in the file is run: a pickle that asks for more than
    tensors and plain settings is refused. One level of {"state_dict": ...} or {"model": ...} is taken off.
    Errors: ValueError that names the file, for one that is missing, damaged, cut short, no weight
    file or refused, and for two tensors that get the same name.
    """
    path = Path(path)
    known = (".safetensors", *PICKLES)
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'missing'}: give a file")
    if path.suffix.lower() not in known:
        raise ValueError(f"{path} is no weight file by its name, which ends in {', '.join(known)}")
    return _renamed(_tensors(_unwrapped(_stored(path)), path), rename, path)


def arguments(path: str | os.PathLike) -> dict[str, object]:
    """What a training script kept beside the weights under "args", by name; empty if nothing.

    Plain values only: like `read`, this runs nothing in the file. Errors: ValueError as `read`'s.
    """
    path = Path(path)
    stored = _stored(path) if path.suffix.lower() in PICKLES else None
    kept = as_plain(stored.get("args")) if isinstance(stored, dict) else None
    return kept if isinstance(kept, dict) else {}


def contents(state: dict[str, Tensor]) -> Contents:
    """Counts of the floating-point tensors (older files hold indices too, which are no weights)."""
    weights = [tensor for tensor in state.values() if tensor.is_floating_point()]
    distinct = {tensor.data_ptr(): tensor.numel() for tensor in weights}
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights})
    return Contents(len(weights), sum(distinct.values()), tuple(dtypes))


def fitting(state: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the entries whose numbers of keys and parameters are those of `state`."""

    def fits(entry: WeightFile) -> bool:
        own = contents({k: v for k, v in state.items() if k.startswith(entry.prefixes)})
        return (own.keys, own.parameters) == (entry.keys, entry.parameters)

    return tuple(name for name, entry in WEIGHTS.items() if fits(entry))


def _stored(path: Path) -> Any:
    """What a file holds. Whatever goes wrong is a ValueError."""
    try:
        if path.suffix.lower() not in PICKLES:
            return safetensors.torch.load_file(path)
        with path.open("rb") as file:
            can_be_mapped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(HARMLESS)):
            warnings.simplefilter("ignore")  # about the pickle's protocol
            return torch.load(path, map_location="cpu", weights_only=True, mmap=can_be_mapped)
    except UnpicklingError as error:
        asked, reason = FORBIDDEN.search(str(error)), "its pickle is none of tensors"
    except UNREADABLE as error:
        asked, reason = None, " ".join(f"{type(error).__name__}: {error}".split())
    # Raised out here, so that torch's own message, which tells how to read it unsafely, ends there.
    if asked is None:
        raise ValueError(
            f"cannot read {path}: it is damaged, cut short or no weight file ({reason}): get it again"
        )
    raise ValueError(
        f"{path} is refused: besides tensors its pickle asks for {asked[1]}, and to give it that "
        "would be to run its code. Ask for a .safetensors of it, or save its tensors alone, by "
        "name, on a machine where its code can do no harm"
    )


def _unwrapped(stored: Any) -> Any:
    """The weights themselves, where a training script put them beside other things."""
    if not isinstance(stored, dict):
        return stored
    for key in WRAPPERS:
        others = [value for name, value in stored.items() if name != key]
        if isinstance(stored.get(key), dict) and not any(isinstance(v, Tensor) for v in others):
            return stored[key]
    return stored


def _tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    """Errors: ValueError unless these are dense tensors with values, by name."""
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


def _renamed(
    stored: dict[str, Tensor], rename: Callable[[str], str], path: Path
) -> dict[str, Tensor]:
    sources: dict[str, str] = {}
    for name in stored:
        first = sources.setdefault(rename(name), name)
        if first != name:
            raise ValueError(
                f"{path} holds {first!r} and {name!r}, which both become {rename(name)!r}: give "
                "read a `rename` that keeps them apart"
            )
    return {new: stored[old] for new, old in sources.items()}


# ---- loading -------------------------------------------------------------------------------------


def load_into(
    module: nn.Module, state: dict[str, Tensor], name: str, dtype: torch.dtype | None = None
) -> nn.Module:
    """Give `module` the tensors of `state`, all or none, and return it; `name` is for messages.

    The module takes the tensors' dtypes, or `dtype` for its floating-point ones, and stays on its
    device; one on the meta device takes the tensors themselves, uncopied. Its parameters are new
    objects afterwards: make optimisers then.
    Errors: ValueError, with nothing changed, for names, shapes or kinds of numbers that differ (how
    many, and the first five), and for a buffer on the meta device that no file can fill.
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
    fresh = {key: _placed(state[key], like, dtype) for key, like in expected.items()}
    module.load_state_dict(fresh, strict=True, assign=True)
    return module


def _placed(tensor: Tensor, like: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor in the place of `like`: shared if that has no memory of its own, else copied."""
    own = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    if like.is_meta:
        return tensor.to(own)
    return tensor.to(like.device, own, copy=True)


def _check_same(expected: dict[str, Tensor], state: dict[str, Tensor], name: str) -> None:
    def unlike(key: str) -> bool:
        got, needed = state[key], expected[key]
        return got.shape != needed.shape or got.is_floating_point() != needed.is_floating_point()

    missing = [key for key in expected if key not in state]
    misshapen = [key for key in expected if key in state and unlike(key)]
    foreign = sorted(state.keys() - expected.keys())
    # Some of each sort, because a wrong prefix shows in what is missing beside what is foreign.
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
