"""A directory that appears under its name only when it is complete."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onecopy import _native
from onecopy._atomic import SUFFIX, hidden_name, sync_directory, umask

# What a directory has in it that may be replaced: nobody's folder shall vanish because of a slip.
_MARKS = ("zarr.json", ".zgroup", ".zarray")


@contextmanager
def atomic_directory(path: str | os.PathLike[str], *, replace: bool) -> Iterator[Path]:
    """Give a temporary directory beside the destination, which gets its name when the context ends without an error.

    Otherwise it is removed. The one of a writer that was killed is removed by the next one to the same destination: the
    temporary of a live writer is locked, that of a dead one is not.

    Raises
    ------
    FileExistsError
        The destination exists, and shall not be replaced, or is no Zarr store.
    FileNotFoundError, PermissionError
        There is no such directory to put it in, or it cannot be written to.
    """
    given, final = os.fspath(path), Path(os.path.realpath(path))
    if not final.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory: create it first", str(final.parent))
    _check(final, given, replace)
    _remove_stale(final)
    temporary, fd = _create_locked(final)
    try:
        yield temporary
        _native.sync_file_system(fd)
        os.chmod(temporary, 0o777 & ~umask())
        _put(temporary, final, given, replace)
        sync_directory(final.parent)
    finally:
        # Now the old one, or one that is not complete.
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(fd)


def _check(final: Path, given: str, replace: bool) -> None:
    if not os.path.lexists(final):
        return
    if not replace:
        raise _exists(given)
    if not final.is_dir() or not any((final / mark).exists() for mark in _MARKS):
        raise FileExistsError(errno.EEXIST, "exists and is no Zarr store: it is not replaced, give another name", given)


def _exists(given: str) -> FileExistsError:
    what = "exists already: choose another name, or replace it with mode='w' (on the command line: --force)"
    return FileExistsError(errno.EEXIST, what, given)


def _put(temporary: Path, final: Path, given: str, replace: bool) -> None:
    if replace:
        with suppress(FileNotFoundError):
            _check(final, given, replace)
            _native.rename_exchange(temporary, final)
            return
    try:
        _native.rename_noreplace(temporary, final)
    except FileExistsError:
        raise _exists(given) from None


def _create_locked(final: Path) -> tuple[Path, int]:
    while True:
        temporary = final.with_name(f"{hidden_name(final)}{secrets.token_hex(6)}{SUFFIX}")
        temporary.mkdir(mode=0o700)
        fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, fd
        # Another writer swept it between creation and lock.
        os.close(fd)


def _remove_stale(final: Path) -> None:
    prefix = hidden_name(final)
    with os.scandir(final.parent) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX)]
    for temporary in found:
        # It may vanish, be a file, or belong to somebody else.
        with suppress(OSError):
            fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(temporary)
            finally:
                os.close(fd)
