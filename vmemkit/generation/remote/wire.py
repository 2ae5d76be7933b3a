"""The wire: windows and states as bytes, checked where they come in.

A window goes to the server as one frame; its states come back as a stream of frames. A frame is the
lengths of its two parts (little-endian, 4 and 8 bytes), a JSON object and tensors as safetensors.
Nothing is pickled. Sizes are compared with limits before anything is read, then names, types and
shapes are checked, since either side may be hostile.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from vmemkit.core import Cameras, Views, to_float32, views
from vmemkit.generation.generator import Asked, Generation, checked_targets

VERSION = 1
MEDIA_TYPE = "application/x-vmemkit-frames"
WINDOWS = "/windows"  # where a server takes them

LENGTHS = struct.Struct("<IQ")
MOST_HEAD = 1 << 16  # bytes of JSON
MOST_NOTE = 2000  # letters
# Bytes at most. A pixel has image, depth, confidence and a latent as large as the image (9 numbers).
# A view has its cameras, and an embedding of up to 4096 numbers.
PIXEL, VIEW, REST = 4 * 9, 4 * 4500, MOST_HEAD + LENGTHS.size

# Axes of each tensor by name; "?" marks those that may be missing.
WINDOW = {
    "context.cameras.world_from_cam": "k 4 4",
    "context.cameras.K": "k 3 3",
    "context.image": "k 3 h w",
    "context.given": "k",
    "context.depth": "? k h w",
    "context.confidence": "? k h w",
    "context.latent": "? k c hl wl",
    "context.embedding": "? k d",
    "targets.world_from_cam": "m 4 4",
    "targets.K": "m 3 3",
    "rng": "b",
}
STATE = {
    "image": "m 3 h w",
    "depth": "m h w",
    "confidence": "m h w",
    "latent": "? m c hl wl",
    "embedding": "? m d",
}
TYPES = {"context.given": torch.bool, "rng": torch.uint8}  # the others are float32


@dataclass(frozen=True)
class Limits:
    """What a server takes. Errors: ValueError for numbers below 1."""

    # A window has its context and its targets; 21 views of 576 x 576 have 7 million pixels.
    pixels: int = 8_000_000  # a window's views have at most so many together
    views: int = 32  # a window has at most so many
    queue: int = 64  # windows that are there at once, waiting ones among them
    held: int = 2_000_000_000  # bytes of all windows that are there at once
    seconds: int = 600  # for a window, from when its generation begins

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"the limit {field.name} is a whole number from 1 on, got {value!r:.40}"
                )

    @property
    def window(self) -> int:
        """Bytes of a window at most."""
        return PIXEL * self.pixels + VIEW * self.views + REST

    def check(self, context: int, targets: int, height: int, width: int) -> None:
        """Errors: ValueError for a window of more views or pixels."""
        count = context + targets
        if count > self.views:
            raise ValueError(
                f"the server takes {self.views} views a window, got {context} of context and {targets} "
                "targets: retrieve fewer (k) or make fewer at once (m)"
            )
        if count * height * width > self.pixels:
            raise ValueError(
                f"the server takes {self.pixels / 1e6:g} megapixels a window, got {count} views of "
                f"{height} x {width}, which are {count * height * width / 1e6:.3g}: use smaller images, "
                "or fewer views"
            )


@dataclass(frozen=True)
class Frame:
    """A frame that was read: a JSON object, of which `kind` is one entry, and tensors by name."""

    kind: str
    head: dict[str, Any]
    tensors: dict[str, Tensor]


def frame(kind: str, tensors: dict[str, Tensor] | None = None, **head: Any) -> bytes:
    """A frame as bytes. Tensors may be on any device, and may share memory."""
    text = json.dumps({"kind": kind, **head}).encode()
    # Tensors may share one buffer, which safetensors refuses: each is copied.
    columns = {
        name: x.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, x in (tensors or {}).items()
    }
    body = safetensors.torch.save(columns) if columns else b""
    return LENGTHS.pack(len(text), len(body)) + text + body


def read_frame(read: Callable[[int], bytes], most: int) -> Frame:
    """The next frame of a stream.

    read: gives exactly so many bytes, or raises an error of its own. most: bytes of tensors.
    Errors: ValueError for longer frames, and for what is not JSON or safetensors.
    """
    text_length, length = LENGTHS.unpack(read(LENGTHS.size))
    if text_length > MOST_HEAD or length > most:
        raise ValueError(
            f"a frame has at most {MOST_HEAD} bytes of text and here {most} of tensors, got "
            f"{text_length} and {length}"
        )
    text, body = read(text_length), read(length)
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a frame begins with JSON: {error}") from error
    if not isinstance(head, dict) or not isinstance(head.get("kind"), str):
        raise ValueError(f"a frame begins with an object that has a kind, got {head!r:.60}")
    try:
        tensors = safetensors.torch.load(body) if body else {}
    except Exception as error:  # foreign bytes: safetensors raises several kinds
        raise ValueError(f"a frame has tensors as safetensors: {error}") from error
    return Frame(head["kind"], head, tensors)


def window_frame(context: Views, targets: Cameras, rng: torch.Generator) -> bytes:
    """What a generator takes, as a frame. `rng` must be on the CPU."""
    columns = {f"context.{name}": leaf for name, leaf in to_float32(context).leaves().items()}
    columns |= {f"targets.{name}": leaf for name, leaf in to_float32(targets).leaves().items()}
    return frame("window", {**columns, "rng": rng.get_state()}, version=VERSION)


def read_window(body: bytes, limits: Limits) -> Asked:
    """What a generator takes, from `window_frame`. Errors: ValueError for anything else, for values
    that views and cameras refuse, and for more than the limits."""
    made = read_frame(_reader(body), limits.window)
    if made.kind != "window" or made.head.get("version") != VERSION:
        raise ValueError(
            f"a window of version {VERSION} is needed, got {made.kind!r:.40} of "
            f"{made.head.get('version')!r:.40}: install the same vmemkit on both sides"
        )
    t = made.tensors
    sizes = _check_shapes(t, WINDOW, {})
    limits.check(sizes["k"], sizes["m"], sizes["h"], sizes["w"])
    seen = Cameras(t["context.cameras.world_from_cam"], t["context.cameras.K"])
    depth, confidence = t.get("context.depth"), t.get("context.confidence")
    context = views(t["context.image"], seen, depth, confidence, t["context.given"])
    codes = {name: t.get(f"context.{name}") for name in ("latent", "embedding")}
    targets = checked_targets(Cameras(t["targets.world_from_cam"], t["targets.K"]))
    rng = torch.Generator()
    set_rng(rng, t["rng"])
    return context.replace(**codes), targets, rng


def state_frame(state: Generation) -> bytes:
    """A state of a generator as a frame."""
    return frame("state", to_float32(state).leaves(), note=state.note)


def read_state(made: Frame, m: int, height: int, width: int) -> Generation:
    """The state of m target views in a frame from `state_frame`. Errors: ValueError for anything else."""
    _check_shapes(made.tensors, STATE, {"m": m, "h": height, "w": width})
    note = made.head.get("note")
    if note is not None and not (isinstance(note, str) and _is_line(note)):
        raise ValueError(f"a note is a line of at most {MOST_NOTE} letters, got {note!r:.60}")
    return Generation(**made.tensors, note=note)


def state_bytes(m: int, height: int, width: int) -> int:
    """The tensors of a state have at most so many bytes."""
    return m * (PIXEL * height * width + VIEW) + REST


def rng_frame(rng: torch.Generator) -> bytes:
    """The frame after the last state: where the generator left its randomness."""
    return frame("done", {"rng": rng.get_state()})


def error_frame(error: object) -> bytes:
    """The last frame of a window that is not made, with the reason."""
    return frame("error", message=str(error)[:MOST_NOTE])


def set_rng(rng: torch.Generator, state: Tensor | None) -> None:
    """Let `rng` go on from a state. Errors: ValueError for what is none."""
    try:
        rng.set_state(state)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"the state of a torch.Generator on the CPU is needed: {error}") from error


def _check_shapes(
    tensors: dict[str, Tensor], table: dict[str, str], sizes: dict[str, int]
) -> dict[str, int]:
    """The size of each axis by its letter. Errors: ValueError for tensors that are missing, unknown,
    empty, of another type, or of sizes that do not agree with each other and with `sizes`."""
    needed = {name for name, axes in table.items() if not axes.startswith("?")}
    if not needed <= set(tensors) <= set(table):
        raise ValueError(f"tensors {sorted(needed)} are needed, got {sorted(tensors)!r:.200}")
    sizes = dict(sizes)
    for name in (name for name in table if name in tensors):
        tensor, axes = tensors[name], table[name].removeprefix("?").split()
        known = [int(axis) if axis.isdigit() else sizes.get(axis) for axis in axes]
        shape, kind = list(tensor.shape), TYPES.get(name, torch.float32)
        fits = len(shape) == len(axes) and all(
            length and length == (want or length) for length, want in zip(shape, known, strict=True)
        )
        if tensor.dtype != kind or not fits:
            raise ValueError(
                f"{name} must be {kind} [{' '.join(axes)}], which is {known}, got {tensor.dtype} {shape}"
            )
        sizes |= dict(zip(axes, shape, strict=True))
    return sizes


def _is_line(note: str) -> bool:
    """Whether it is short, and holds nothing that could command a terminal."""
    return len(note) <= MOST_NOTE and note.isprintable()


def _reader(body: bytes) -> Callable[[int], bytes]:
    """Gives the next so many bytes. Errors: ValueError where there are fewer."""
    start = 0

    def read(count: int) -> bytes:
        nonlocal start
        part = body[start : start + count]
        start += count
        if len(part) < count:
            raise ValueError(f"a frame of {start} bytes or more is needed, got {len(body)}")
        return part

    return read
