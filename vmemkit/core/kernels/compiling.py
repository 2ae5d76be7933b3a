"""Compiling: how numba compiles the CPU kernels, and where it keeps them for other processes.

They lie in the folder that NUMBA_CACHE_DIR names, else beside the source, else in the user's folder
for caches, else in a folder of temporary files that only the user can open. What is read from
there is executed, so a folder that others may have written to is not used. Without any folder,
every process compiles anew.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import stat
import tempfile
from collections.abc import Callable

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserWideCacheLocator


def compiled(function: Callable) -> Callable:
    """Compile a function on its first call; numba keeps the result on disk for other processes."""
    # A type checker may have wrapped the function, as in the tests; numba needs the original.
    plain = inspect.unwrap(function)
    kernel = njit(nogil=True, error_model="numpy")(plain)
    with contextlib.suppress(RuntimeError):  # no folder is writable
        kernel._cache = KernelCache(plain)  # numba has no public way to set it
    return kernel


def inlined(function: Callable) -> Callable:
    """Compile a function into the kernels that call it."""
    return njit(inline="always", error_model="numpy")(inspect.unwrap(function))


def private_folder(parent: str) -> str:
    """A folder in `parent` that belongs to the user and that nobody else can open; it is made if need be.

    Errors: OSError where it cannot be made, or where others may have written to it.
    """
    if not hasattr(os, "getuid"):
        raise OSError("this system does not tell who owns a folder")
    folder = os.path.join(parent, f"vmemkit-kernels-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)  # a link to a folder is none of ours
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not ours or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{folder} may have been written to by others")
    return folder


class TemporaryLocator(UserWideCacheLocator):
    """Finds the folder for kernels among the system's temporary files."""

    def get_cache_path(self) -> str:
        parent = private_folder(tempfile.gettempdir())
        return os.path.join(parent, self.get_suitable_cache_subpath(self._py_file))


class KernelFiles(CompileResultCacheImpl):
    """Numba's files, which may also be temporary ones."""

    _locator_classes = (*CompileResultCacheImpl._locator_classes, TemporaryLocator)


class KernelCache(FunctionCache):
    """Numba's cache on disk, which is never needed: if a file is damaged, cannot be read or cannot be
    written, the kernel is compiled in memory."""

    _impl_class = KernelFiles

    def load_overload(self, sig: object, target_context: object) -> object:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling damaged bytes may raise anything
            with contextlib.suppress(OSError):
                self.flush()  # so that what is compiled now can be kept
            return None

    def save_overload(self, sig: object, data: object) -> None:
        with contextlib.suppress(OSError):  # a full disk
            super().save_overload(sig, data)
