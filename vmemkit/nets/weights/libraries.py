"""Models of diffusers and transformers: from a file on this machine, strictly and silently.

In: a class of such a library and a weight file with its config.json beside it. Out: the model with
all its weights. The libraries are imported only here, and only when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

LIBRARY_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")  # names on the hub


def load_pretrained(
    kind: type, file: Path, dtype: torch.dtype, **settings: object
) -> tuple[nn.Module, list[str]]:
    """A model with all its weights from `file`, and the names in the file that it has no use for.

    Errors: ValueError where the library would fill missing parameters with random numbers.
    """
    model, info = from_pretrained(
        kind,
        file,
        use_safetensors=True,
        output_loading_info=True,
        torch_dtype=dtype,
        **settings,
    )
    wrong = [str(key) for key in [*info["missing_keys"], *info["mismatched_keys"]]]
    if wrong:
        raise ValueError(
            f"{file} is not the weights of its config.json: {len(wrong)} parameters are missing or "
            f"have another shape, such as {', '.join(wrong[:5])}"
        )
    return model.eval().requires_grad_(False), sorted(map(str, info["unexpected_keys"]))


def from_pretrained(kind: type, file: Path, **options: object) -> Any:
    """`kind.from_pretrained` of the file's folder. Errors: ValueError, whatever goes wrong."""
    if file.name not in LIBRARY_FILES or not all(
        path.is_file() for path in (file, file.parent / "config.json")
    ):
        raise ValueError(
            f"{file} needs to be there with its config.json beside it, both named as on the hub "
            f"({' or '.join(LIBRARY_FILES)})"
        )
    try:
        return kind.from_pretrained(file.parent, local_files_only=True, **options)
    except Exception as error:
        raise ValueError(f"cannot load {kind.__name__} from {file.parent}: {error}") from error


@contextmanager
def silenced(library: ModuleType) -> Iterator[None]:
    """Keep the library from printing tables of keys, progress bars and advice."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def import_library(name: str) -> ModuleType:
    """A library of the extra `weights`. Errors: ValueError that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f'published weights need {name.split(".")[0]}: pip install "vmemkit[weights]"'
        ) from error
