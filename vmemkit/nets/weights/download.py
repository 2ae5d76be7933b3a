"""Download the published weight files of `catalogue.py`, or find them where they already are.

In: the name of an entry of `WEIGHTS`. Out: the path of its file. `find` looks on this machine only;
`download_weights` alone uses the network, and only when it is called.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from vmemkit.nets.weights.catalogue import HUB, WEIGHTS, WeightFile

FOLDERS, MIRRORS = "VMEMKIT_WEIGHTS", "VMEMKIT_MIRRORS"  # environment variables
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*", re.ASCII)  # OWNER/NAME[/SUBFOLDER]


# ---- finding -------------------------------------------------------------------------------------


def find(name: str, folder: str | os.PathLike | None = None) -> Path | None:
    """The file of an entry on this machine, or None. It never uses the network.

    1. Look in `folder` and then in the folders of VMEMKIT_WEIGHTS, for NAME/FILE and for FILE. Where
       several entries have files of one name, only NAME/FILE counts.
    2. Look in the hub's cache.

    Errors: ValueError for an unknown name and a malformed VMEMKIT_MIRRORS.
    """
    entry = _entry(name)
    folders = [] if folder is None else [folder]
    folders += [path for path in os.environ.get(FOLDERS, "").split(os.pathsep) if path]
    paths = [_in_folder(entry, folder) for folder in folders]
    paths += [_in_cache(entry, repository) for repository in repositories(name)]
    return next((path for path in paths if path is not None), None)


def available(name: str) -> bool:
    """Whether `find` finds it."""
    return find(name) is not None


def require(name: str, folder: str | os.PathLike | None = None) -> Path:
    """The file of an entry on this machine.

    Errors: ValueError if it is not here; it says what the file is, its size and terms, and how to
    get it.
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
    """Repositories of the hub that may have an entry, as OWNER/NAME[/SUBFOLDER].

    First those of VMEMKIT_MIRRORS (such as "vae=me/my-vae,clip=me/models/clip"), then the table's.
    Errors: ValueError for an unknown name and a malformed VMEMKIT_MIRRORS.
    """
    entry, mirrors = _entry(name), []
    for item in filter(None, map(str.strip, os.environ.get(MIRRORS, "").split(","))):
        key, _, repository = (part.strip() for part in item.partition("="))
        if key not in WEIGHTS or not REPOSITORY.fullmatch(repository):
            raise ValueError(
                f"{MIRRORS} needs the form NAME=OWNER/REPOSITORY[/SUBFOLDER],... with NAME one of "
                f"{', '.join(WEIGHTS)}, got {item!r}"
            )
        mirrors += [repository] if key == name else []
    return (*mirrors, *entry.repositories)


def _entry(name: str) -> WeightFile:
    if name not in WEIGHTS:
        raise ValueError(f"no weights are called {name!r}: one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _in_folder(entry: WeightFile, folder: str | os.PathLike) -> Path | None:
    folder = Path(folder).expanduser()
    namesakes = [other for other in WEIGHTS.values() if other.file == entry.file]
    paths = [folder / entry.name / entry.file]
    paths += [folder / entry.file] if len(namesakes) == 1 else []
    return next((path for path in paths if path.is_file()), None)


def _in_cache(entry: WeightFile, repository: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # without the library there is no cache
        return None
    hub_id, subfolder = _split(repository)
    path = try_to_load_from_cache(hub_id, f"{subfolder}/{entry.file}" if subfolder else entry.file)
    # Besides a path and None, the library returns a marker for files that the repository lacks.
    return Path(path) if isinstance(path, str) else None


def _split(repository: str) -> tuple[str, str]:
    """OWNER/NAME, which the hub knows the repository by, and the subfolder in it ("" if none)."""
    owner, name, *subfolder = repository.split("/")
    return f"{owner}/{name}", "/".join(subfolder)


# ---- downloading ---------------------------------------------------------------------------------


def download_weights(
    name: str, folder: str | os.PathLike | None = None, repository: str | None = None
) -> Path:
    """Download all files of an entry, unless they are here, and return the path of the weights.

    folder: they go to `folder`/NAME; by default to the hub's cache.
    repository: OWNER/NAME[/SUBFOLDER] to take them from; by default all `repositories`, in order.
    Errors: ValueError without huggingface_hub, for a disk that is too small, and for a download that
    fails: it quotes the library's own errors, and says what can be done.
    """
    entry = _entry(name)
    if repository is not None and not REPOSITORY.fullmatch(repository):
        raise ValueError(f"a repository is OWNER/NAME[/SUBFOLDER], got {repository!r}")
    path = find(name) if folder is None else _in_folder(entry, folder)
    complete = path is not None and all((path.parent / file).is_file() for file in entry.files)
    if complete and repository is None:
        return path
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise ValueError(
            'downloading needs the library huggingface_hub: pip install "vmemkit[weights]", or put '
            f"{entry.file} into a folder yourself and set {FOLDERS} to it"
        ) from error
    if path is None:
        _check_free_space(entry, constants.HF_HUB_CACHE if folder is None else folder)
    failures: dict[str, Exception] = {}
    for candidate in repositories(name) if repository is None else (repository,):
        try:
            return _download(entry, candidate, folder)
        except Exception as error:
            failures[candidate] = error
    reasons = (f"{HUB}/{_split(key)[0]}: {error}" for key, error in failures.items())
    raise ValueError(
        f"cannot download {entry.file} ({' | '.join(' '.join(r.split()) for r in reasons)}): accept its "
        f"terms at {entry.page} and log in with `hf auth login` if it is gated, check connection and "
        f"disk, or name a mirror with `vmemkit weights get {name} --repository OWNER/NAME[/SUBFOLDER]` "
        f'or {MIRRORS}="{name}=OWNER/NAME[/SUBFOLDER]"'
    ) from next(iter(failures.values()))


def _check_free_space(entry: WeightFile, target: str | os.PathLike) -> None:
    target = Path(target).expanduser().absolute()
    existing = next(path for path in (target, *target.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < entry.size:
        raise ValueError(
            f"{entry.file} needs {entry.size_text} and {existing} has {free / 1e9:.2f} GB left: "
            "make room, or choose another disk with --folder (or HF_HOME, for the hub's cache)"
        )


def _download(entry: WeightFile, repository: str, folder: str | os.PathLike | None) -> Path:
    """Download all files from one repository; returns the path of the weights."""
    from huggingface_hub import hf_hub_download

    hub_id, subfolder = _split(repository)
    home = None if folder is None else Path(folder).expanduser() / entry.name
    # The weights come last, so that a refusal shows with the small files.
    for file in reversed(entry.files):
        path = Path(hf_hub_download(hub_id, file, subfolder=subfolder or None, local_dir=home))
        # The library repeats the repository's subfolder below `home`: move the file up.
        if home is not None and not path.parent.samefile(home):
            os.replace(path, home / file)
            if not any(path.parent.iterdir()):
                os.removedirs(path.parent)
    return path if home is None else home / entry.file
