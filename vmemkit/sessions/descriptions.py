"""Descriptions of the functions that a walk used: what can be made again, and what only has a name.

In: policies, generators, reconstructors. Out: JSON. The package's own values are stored with their
settings. Anything else is described by its name, its settings as far as they can be stored, and the
hash of its weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vmemkit.nets.weights import module_hash
from vmemkit.sessions.values import NotStorableError, decode, encode, no_tensor, type_name

NO_VALUES = (type, types.ModuleType, types.FunctionType)  # what they hold is no setting of theirs
DEEPEST = 4  # levels of settings inside of settings


@dataclass(frozen=True)
class Described:
    """A function that a session can name, but not make again, such as a network or one of your own."""

    name: str  # qualified
    settings: dict[str, Any]  # as JSON
    weights: str | None = None  # SHA-256 of its networks' tensors, hexadecimal

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights {self.weights[:12]}"
        return f"Described({self.name}{weights})"


def describe(value: Any, depth: int = 0) -> Any:
    """A value as JSON: whole if a session can make it again, otherwise described."""
    try:
        return encode(value, _no_tensor, "")
    except NotStorableError:
        pass
    settings = {}
    if dataclasses.is_dataclass(value) and depth < DEEPEST:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        settings = {
            name: describe(field, depth + 1)
            for name, field in fields.items()
            if not isinstance(field, nn.Module)
        }
    return {
        "described": type_name(value),
        "settings": settings,
        "weights": weights_hash(value) if depth == 0 else None,
    }


def described(made: Any) -> Any:
    """The value that `describe` gave as JSON: itself, or a `Described`. Errors: ValueError."""
    match made:
        case {
            "described": str(name),
            "settings": dict(settings),
            "weights": str() | None as weights,
        }:
            return Described(name, settings, weights)
    return decode(made, no_tensor)


def weights_hash(value: Any) -> str | None:
    """SHA-256 of the tensors of all networks in a value, by their names; None without a network.

    It is computed once for each network.
    """
    hashes = {name: module_hash(module) for name, module in _modules(value, "", 0)}
    if not hashes:
        return None
    total = hashlib.sha256()
    for name in sorted(hashes):
        total.update(name.encode() + b"\0" + hashes[name])
    return total.hexdigest()


def _modules(value: Any, name: str, depth: int) -> Iterator[tuple[str, nn.Module]]:
    """The networks in a value's fields, and in the values there, by their dotted names."""
    if isinstance(value, nn.Module):
        yield name, value
    elif depth < DEEPEST and hasattr(value, "__dict__") and not isinstance(value, NO_VALUES):
        for key, field in vars(value).items():
            yield from _modules(field, f"{name}.{key}", depth + 1)


def _no_tensor(name: str, tensor: Tensor) -> str:
    raise NotStorableError(tensor)
