"""A stand-in for a GPU on machines without one: it counts where a GPU would make the program wait.

Tensors "on the GPU" are ordinary ones whose `device` says cuda. Within `with StandIn() as gpu`, every
torch function is looked at before it runs. `gpu.waits` counts, per line of the package, the calls for
which CUDA has to finish its work first: reading numbers, copies between the devices, and results whose
size depends on values. Tensors of both devices in one operation raise an error, as on a real GPU.
What Triton's kernels do in the place of a plain function is not counted. Run it under `use("torch")`.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import vmemkit

PACKAGE = Path(vmemkit.__file__).parent
CUDA = torch.device("cuda", 0)

# Functions that return numbers to Python or compare on its behalf.
READS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__contains__"}
READS |= {"numpy", "__array__", "equal", "allclose", "is_nonzero"}
# Functions whose result has a size that depends on values, or that look for errors on the way.
SIZES = {"nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount"}
CHECKS = {"inverse", "linalg_inv", "linalg_solve", "linalg_svd", "linalg_eigh", "linalg_cholesky"}
# Functions that Triton replaces on a GPU.
TRITON = {"discs", "_hits_on_surface", "weight_by_view", "sighting_counts", "_pairs"}
TRITON |= {"_looks_through"}


class OnGpu(Tensor):
    """A tensor that claims to be on the GPU."""


class StandIn(TorchFunctionMode):
    """Within its `with`, the device "cuda" exists. Waits are counted for calls from `folder`."""

    def __init__(self, folder: Path = PACKAGE) -> None:
        super().__init__()
        self.folder, self.waits = str(folder), Counter()

    def __torch_function__(self, function, types, arguments=(), options=None):
        options, name = dict(options or {}), getattr(function, "__name__", "")
        if function is torch.device:
            return function(*arguments, **options)
        of = getattr(function, "__self__", None)  # a property's getter belongs to its descriptor
        tensors = [x for x in tree_leaves((arguments, options)) if isinstance(x, Tensor)]
        ours = [x for x in tensors if isinstance(x, OnGpu)]
        if name == "__get__" and of is Tensor.device:
            return CUDA if ours else torch.device("cpu")
        if name == "__get__" and of is Tensor.is_cuda:
            return bool(ours)
        if name == "pin_memory":
            return arguments[0]
        target = _target(name, arguments, options)
        self._count(name, arguments, options, target)
        copies = name in ("to", "cpu", "cuda", "copy_", "__setitem__", "__getitem__", "index_put_")
        if ours and not copies and any(x.ndim and not isinstance(x, OnGpu) for x in tensors):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        arguments, options = tree_map(_without_gpu, (arguments, options))
        with torch._C.DisableTorchFunctionSubclass():
            made = function(*arguments, **options)
        on_gpu = bool(ours) if target is None else target == "cuda"
        if not on_gpu or name in ("numpy", "tolist", "item"):
            return tree_map(lambda x: x.as_subclass(Tensor) if isinstance(x, OnGpu) else x, made)
        return tree_map(lambda x: x.as_subclass(OnGpu) if isinstance(x, Tensor) else x, made)

    def _count(self, name: str, arguments: tuple, options: dict, target: str | None) -> None:
        first = arguments[0] if arguments else None
        if isinstance(first, list | tuple) and first and isinstance(first[0], Tensor):
            first = first[0]  # `torch.cat` and others take a list of tensors
        here = isinstance(first, OnGpu)
        why = None
        if here and (name in READS or name in SIZES or name in CHECKS):
            why = name
        elif here and name == "repeat_interleave" and "output_size" not in options:
            why = name if any(isinstance(x, Tensor) for x in arguments[1:]) else None
        elif here and name == "where" and len(arguments) == 1:
            why = name
        elif here and name in ("__getitem__", "__setitem__"):
            why = _waits_for_index(name, arguments)
        elif here and name in ("to", "cpu") and target == "cpu":
            why = "copy to the CPU"
        elif target == "cuda" and not options.get("non_blocking"):
            from_python = name in ("tensor", "as_tensor", "new_tensor") and not here
            if from_python or (isinstance(first, Tensor) and not here and name in ("to", "cuda")):
                why = "copy to the GPU"
        elif here and name == "new_tensor":
            why = "copy to the GPU"
        if why and (place := self._place(sys._getframe(2))):
            self.waits[f"{place} {why}"] += 1

    def _place(self, frame: FrameType | None) -> str | None:
        """The line of the folder that is running; None in what Triton would replace."""
        place = None
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(self.folder):
                if code.co_name in TRITON:
                    return None
                if place is None and not code.co_filename.endswith("structs.py"):
                    place = f"{Path(code.co_filename).relative_to(self.folder)}:{frame.f_lineno}"
            frame = frame.f_back
        return place


def on_gpu(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers on the stand-in, in place."""
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = tensor.detach().as_subclass(OnGpu)
    return module


def _target(name: str, arguments: tuple, options: dict) -> str | None:
    """The type of the device that the call names for its result; None if it names none."""
    named = [options["device"]] if options.get("device") is not None else []
    if name == "to" and len(arguments) > 1:
        place = arguments[1]
        if isinstance(place, OnGpu):
            return "cuda"
        named += [place] if isinstance(place, str | torch.device) else []
    if name in ("cpu", "cuda"):
        return name
    return torch.device(named[0]).type if named else None


def _without_gpu(x: object) -> object:
    if isinstance(x, torch.device) and x.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(x, str) and x.startswith("cuda") else x


def _waits_for_index(name: str, arguments: tuple) -> str | None:
    index = arguments[1] if isinstance(arguments[1], tuple) else (arguments[1],)
    if any(
        isinstance(x, list) or (isinstance(x, Tensor) and not isinstance(x, OnGpu) and x.ndim)
        for x in index
    ):
        return "index from the CPU"
    if any(isinstance(x, Tensor) and x.ndim == 0 and x.dtype != torch.bool for x in index):
        return "index read as a number"
    if not any(isinstance(x, Tensor) and x.dtype == torch.bool for x in index):
        return None
    fills = name == "__setitem__" and (
        not isinstance(arguments[2], Tensor) or arguments[2].ndim == 0
    )
    return None if fills else "boolean index"
