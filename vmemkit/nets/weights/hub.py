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
from pathlib import Path

from vmemkit.nets.weights.catalogue import HUB, WEIGHTS, WeightFile

FOLDERS, MIRRORS = "VMEMKIT_WEIGHTS", "VMEMKIT_MIRRORS"  # environment variables

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*", re.ASCII)  # OWNER/NAME[/SUBFOLDER]


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
