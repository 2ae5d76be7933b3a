"""Values as JSON and tensors, and back.

In: the values that a step is made of. Out: JSON that names tensors, which are kept apart. Stored are
None, numbers, text, tensors, lists, tuples, dicts, and the package's own frozen values and functions
that KNOWN lists. Reading makes nothing else: the names in a file choose among these, and each field
must be what its class says.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from jaxtyping import jaxtyped
from torch import Tensor

# By room: the values and functions that a session can store and make again.
KNOWN = {
    "core": ("Cameras", "Views", "Surfels", "Splat", "SplatConfig", "SurfelConfig"),
    "memory": ("AssociationConfig", "MemoryConfig"),
    "retrieval": (
        *("CameraDistance", "Coverage", "FovOverlap", "Random", "Released", "SurfelVotes"),
        *("Temporal", "Hard", "Soft", "Retrieval", "RetrievalConfig"),
    ),
    "generation": ("Generation", "Warp", "WarpConfig", "WithDepth", "Writer", "WriterConfig"),
    "reconstruction": ("Cut3rState", "PoseMatches", "Predictions", "Report", "from_depth"),
    "nets.cut3r": ("CUT3RState",),
}
BIGGEST_FLOAT = 2**53  # a whole number that stands for a float is at most so large
BIGGEST_INT = 2**64  # other whole numbers are at most so large: seeds may have 64 bits

Store = Callable[[str, Tensor], str]  # takes a tensor and a wish for its name; returns the name
Fetch = Callable[[str], Tensor]  # a tensor by its name


class NotStorableError(ValueError):
    """A value is of a type that sessions do not store."""

    def __init__(self, value: object) -> None:
        super().__init__(f"a session cannot store a {type_name(value)}")
        self.type_name = type_name(value)


def type_name(value: object) -> str:
    """The qualified name of a function or class, or of the type of another value."""
    named = value if isinstance(value, (type, types.FunctionType)) else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def encode(value: Any, store: Store, name: str) -> Any:
    """A value as JSON. Tensors go to `store`, with names that begin with `name`.

    Errors: NotStorableError for values of other types, also inside of lists and fields.
    """
    if value is None or type(value) in (bool, str) or _is_whole(value):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_quantized:
            raise NotStorableError(value)
        return {"tensor": store(name, value)}
    if type(value) in (list, tuple):
        items = [encode(item, store, f"{name}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if type(value) is dict:
        pairs = enumerate(value.items())
        return {"dict": [[encode(x, store, f"{name}.{i}") for x in pair] for i, pair in pairs]}
    known = known_name(value)
    if known is None:
        raise NotStorableError(value)
    if isinstance(value, types.FunctionType):
        return {"function": known}
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {
        "value": known,
        "fields": {key: encode(x, store, f"{name}.{key}") for key, x in fields.items()},
    }


def decode(made: Any, fetch: Fetch) -> Any:
    """The value that `encode` gave as JSON. Errors: ValueError for what it never gives."""
    if made is None or type(made) in (bool, str, float):
        return made
    if type(made) is int and abs(made) <= BIGGEST_INT:
        return made
    if isinstance(made, list):
        return [decode(item, fetch) for item in made]
    match made:
        case {"float": "nan" | "inf" | "-inf" as text}:
            return float(text)
        case {"tensor": str(name)}:
            return fetch(name)
        case {"tuple": list(items)}:
            return tuple(decode(item, fetch) for item in items)
        case {"dict": list(pairs)}:
            return dict(_pair(pair, fetch) for pair in pairs)
        case {"function": str(name)} if isinstance(_found(name), types.FunctionType):
            return _found(name)
        case {"value": str(name), "fields": dict(fields)} if isinstance(_found(name), type):
            decoded = {key: decode(value, fetch) for key, value in fields.items()}
            return build(_found(name), decoded)
    raise ValueError(f"a session holds no such value: {made!r:.60}")


def build(kind: type, fields: dict[str, Any]) -> Any:
    """A frozen value of these fields, each of which must be what the class says; axes of one name must
    agree. Errors: ValueError for other fields."""
    hints = _hints(kind)
    with jaxtyped("context"):
        for name, value in fields.items():
            if name not in hints or not _fits(value, hints[name]):
                raise ValueError(f"{kind.__name__}.{name} cannot be {_short(value)}")
    try:
        return kind(**fields)
    except TypeError as error:  # a field is missing
        raise ValueError(f"{kind.__name__} lacks fields: {error}") from error


def no_tensor(name: str) -> Tensor:
    """Fetch nothing, where a value must not have tensors. Errors: ValueError."""
    raise ValueError(f"there must be no tensor here, got {name!r:.60}")


def known_name(value: object) -> str | None:
    """The name in KNOWN of a function, or of a value's type, such as "retrieval.Coverage"."""
    kind = value if isinstance(value, types.FunctionType) else type(value)
    for room, names in KNOWN.items():
        if kind.__name__ in names and _found(f"{room}.{kind.__name__}") is kind:
            return f"{room}.{kind.__name__}"
    return None


def _found(name: str) -> Any:
    """The class or function of a name in KNOWN; None for other names."""
    room, _, own = name.rpartition(".")
    return getattr(import_module(f"vmemkit.{room}"), own) if own in KNOWN.get(room, ()) else None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return type(value) is str and value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is dict:
        pairs = value.items() if isinstance(value, dict) else [(None, None)]
        return all(_fits(k, arguments[0]) and _fits(v, arguments[1]) for k, v in pairs)
    if hint is float:
        return isinstance(value, float) or (_is_whole(value) and abs(value) <= BIGGEST_FLOAT)
    if hint is int:
        return _is_whole(value)
    return isinstance(value, hint)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= BIGGEST_INT


def _pair(pair: Any, fetch: Fetch) -> tuple[Any, Any]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"a dict needs pairs, got {pair!r:.60}")
    key, value = (decode(item, fetch) for item in pair)
    return key, value


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return f"{value!r:.60}"
