"""The settings that training scripts keep beside weights, read as plain values.

A pickle names the classes of what it holds. Those of settings (argparse's namespaces, OmegaConf's
trees, in which CUT3R's file keeps its own) are replaced by stand-ins that only hold what they are
given, so that reading them runs none of those libraries' code, nor needs them.
"""

from __future__ import annotations

import typing
from argparse import Namespace
from collections import defaultdict


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


def plain(settings: object) -> object:
    """Settings as dicts, tuples and the values in them."""
    if isinstance(settings, Held):
        held = vars(settings)
        return plain(held.get("_content", held.get("_val")))
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if isinstance(settings, dict):
        return {key: plain(value) for key, value in settings.items()}
    return tuple(map(plain, settings)) if isinstance(settings, list) else settings
