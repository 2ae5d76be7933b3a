"""Finding, fetching, reading and loading the published weight files of weight_files.py.

In: the name of an entry of `WEIGHTS`, or a path. Out: paths, tensors by name, a network that holds
them. `find` looks on this machine only; `get` alone uses the network, when asked. A file may come
from a stranger, so that a pickle is read for tensors and nothing else, and a network takes a file
whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
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

from vmemkit.checkpoint_settings import HARMLESS, plain
from vmemkit.weight_files import HUB, WEIGHTS, WeightFile

FOLDERS, MIRRORS = "VMEMKIT_WEIGHTS", "VMEMKIT_MIRRORS"  # environment variables

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*", re.ASCII)  # OWNER/NAME[/SUBFOLDER]

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


# ---- where files lie -----------------------------------------------------------------------------


def find(name: str, folder: str | os.PathLike | None = None) -> Path | None:
    """The file of an entry on this machine, or None. Never uses the network.

    Looked for as NAME/FILE and FILE in `folder` and then in the folders of VMEMKIT_WEIGHTS, and
    then in the hub's cache. A FILE whose name several entries have counts only as NAME/FILE.
    Errors: ValueError for an unknown name and a malformed VMEMKIT_MIRRORS.
    """
    entry = _entry(name)
    given = [] if folder is None else [folder]
    listed = [place for place in os.environ.get(FOLDERS, "").split(os.pathsep) if place]
    for place in (*given, *listed):
        if (path := _in_folder(entry, place)) is not None:
            return path
    cached = (_in_cache(entry, repository) for repository in repositories(name))
    return next((path for path in cached if path is not None), None)


def available(name: str) -> bool:
    """Whether `find` finds it."""
    return find(name) is not None


def require(name: str, folder: str | os.PathLike | None = None) -> Path:
    """The file of an entry on this machine.

    Errors: ValueError that says what it is, its size and terms, and how to get it.
    """
    path = find(name, folder)
    if path is None:
        entry = WEIGHTS[name]
        raise ValueError(
            f"{entry.file} is not on this machine: {entry.what}; {entry.size_text}; {entry.terms}. "
            f"Get it with `vmemkit weights get {name}`, or put it into a folder as "
            f"{name}/{entry.file} and set {FOLDERS} to that folder"
        )
    return path


def repositories(name: str) -> tuple[str, ...]:
    """Where the hub may have an entry, OWNER/NAME[/SUBFOLDER]: the mirrors that VMEMKIT_MIRRORS
    names ("vae=me/my-vae,clip=me/models/clip"), then the table's.

    Errors: ValueError for an unknown name and a malformed VMEMKIT_MIRRORS.
    """
    entry, mirrors = _entry(name), []
    for item in filter(None, map(str.strip, os.environ.get(MIRRORS, "").split(","))):
        of, _, repository = (part.strip() for part in item.partition("="))
        if of not in WEIGHTS or not REPOSITORY.fullmatch(repository):
            raise ValueError(
                f"{MIRRORS} needs the form NAME=OWNER/REPOSITORY[/SUBFOLDER],... with NAME one of "
                f"{', '.join(WEIGHTS)}, got {item!r}"
            )
        mirrors += [repository] if of == name else []
    return (*mirrors, *entry.repositories)


def _entry(name: str) -> WeightFile:
    if name not in WEIGHTS:
        raise ValueError(f"no weights are called {name!r}: one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _in_folder(entry: WeightFile, folder: str | os.PathLike) -> Path | None:
    place = Path(folder).expanduser()
    namesakes = [other for other in WEIGHTS.values() if other.file == entry.file]
    paths = [place / entry.name / entry.file]
    paths += [place / entry.file] if len(namesakes) == 1 else []
    return next((path for path in paths if path.is_file()), None)


def _in_cache(entry: WeightFile, repository: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # without the library there is no cache
        return None
    hub_id, subfolder = _parts(repository)
    path = try_to_load_from_cache(hub_id, f"{subfolder}/{entry.file}" if subfolder else entry.file)
    return Path(path) if isinstance(path, str) else None  # there is a third answer: known to lack


def _parts(repository: str) -> tuple[str, str]:
    """OWNER/NAME, which is how the hub knows it, and the folder in it (empty: none)."""
    owner, name, *subfolder = repository.split("/")
    return f"{owner}/{name}", "/".join(subfolder)


# ---- fetching ------------------------------------------------------------------------------------


def get(name: str, folder: str | os.PathLike | None = None, repository: str | None = None) -> Path:
    """Fetch all files of an entry, unless they are here, and return the path of the weights.

    They go to `folder`/NAME, or else to the hub's cache. `repository` (OWNER/NAME[/SUBFOLDER]) is
    tried alone; otherwise `repositories` are tried in order, as long as they do not have the file.
    Errors: ValueError for no library, no access, no such file, no connection and no room, each with
    what to do.
    """
    entry = _entry(name)
    if repository is not None and not REPOSITORY.fullmatch(repository):
        raise ValueError(f"a repository is OWNER/NAME[/SUBFOLDER], got {repository!r}")
    candidates = repositories(name) if repository is None else (repository,)
    here = find(name) if folder is None else _in_folder(entry, folder)
    if repository is None and here is not None and _is_whole(entry, here):
        return here
    try:
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise ValueError(
            'downloading needs the library huggingface_hub: pip install "vmemkit[weights]", or put '
            f"{entry.file} into a folder yourself and set {FOLDERS} to it"
        ) from error
    if here is None:
        _check_room(entry, constants.HF_HUB_CACHE if folder is None else folder)
    for candidate in candidates:
        try:
            return _fetch(entry, candidate, folder)
        # All that its HTTP library raises is an HTTPError, whichever library that is by version.
        except (errors.HTTPError, errors.EntryNotFoundError, OSError, RuntimeError) as error:
            if not _is_gone(error):
                raise ValueError(_failure(entry, candidate, error)) from error
    raise ValueError(
        f"{entry.file} is in none of {', '.join(candidates)} (or only for those who are let in: "
        f"`hf auth login`). If you know a mirror, `vmemkit weights get {name} --repository "
        f'OWNER/NAME[/SUBFOLDER]`, or set {MIRRORS}="{name}=OWNER/NAME[/SUBFOLDER]"'
    )


def _is_whole(entry: WeightFile, path: Path) -> bool:
    return all((path.parent / file).is_file() for file in entry.files)


def _check_room(entry: WeightFile, target: str | os.PathLike) -> None:
    target = Path(target).expanduser().absolute()
    existing = next(place for place in (target, *target.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < entry.size:
        raise ValueError(
            f"{entry.file} needs {entry.size_text} and {existing} has {free / 1e9:.2f} GB left: "
            "make room, or choose another disk with --folder (or HF_HOME, for the hub's cache)"
        )


def _fetch(entry: WeightFile, repository: str, folder: str | os.PathLike | None) -> Path:
    """Download all files from one repository; returns the path of the weights."""
    from huggingface_hub import hf_hub_download

    hub_id, subfolder = _parts(repository)
    home = None if folder is None else Path(folder).expanduser() / entry.name
    # The weights last: what is refused or missing shows with the small files.
    for file in reversed(entry.files):
        path = Path(hf_hub_download(hub_id, file, subfolder=subfolder or None, local_dir=home))
        if home is not None and not path.parent.samefile(home):  # it lies in the hub's subfolder
            os.replace(path, home / file)
            if not any(path.parent.iterdir()):
                os.removedirs(path.parent)
    return path if home is None else home / entry.file


def _cause(error: BaseException) -> BaseException:
    """What lies behind the library's word for all that went wrong before a download began."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wrapped = isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None
    return error.__cause__ if wrapped else error


def _is_gone(error: BaseException) -> bool:
    """Whether another repository may still have the file."""
    from huggingface_hub import errors

    cause = _cause(error)
    missing = (
        *(errors.RepositoryNotFoundError, errors.RevisionNotFoundError),
        *(errors.EntryNotFoundError, errors.DisabledRepoError),
    )
    ours = (errors.GatedRepoError, errors.LocalEntryNotFoundError)  # both derive from a missing one
    return isinstance(cause, missing) and not isinstance(cause, ours)


def _failure(entry: WeightFile, repository: str, error: BaseException) -> str:
    """One line for an error that another repository would not mend."""
    from huggingface_hub import errors

    cause, page = _cause(error), f"{HUB}/{_parts(repository)[0]}"
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.GatedRepoError) or status in (401, 403):
        return (
            f"{repository} does not let you in: read and accept its terms at {page}, log in with "
            "`hf auth login` (a token needs read access to gated repositories), then run this again"
        )
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return f"cannot fetch {entry.file}: HF_HUB_OFFLINE is set: unset it and run this again"
    reason = " ".join(f"{type(cause).__name__}: {cause}".split())
    return (
        f"cannot fetch {entry.file} from {page} ({reason}): check the connection, the proxy and the "
        "disk, then run this again"
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
    kept = plain(stored.get("args")) if isinstance(stored, dict) else None
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
