"""A directory that appears under its name only when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onecopy import _native
from onecopy._atomic import cannot_create, cannot_write, exists_already, lacks_call, sync_directory, umask
from onecopy._temporaries import DIRECTORIES

# What a directory has in it that may be replaced: nobody's folder shall vanish because of a slip.
_MARKS = ("zarr.json", ".zgroup", ".zarray")

# No room, or none for this user or process.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    DIRECTORIES.sweep(final)
    try:
        temporary, fd = DIRECTORIES.create(final)
    except OSError as error:
        raise cannot_create(given, error) from None
    try:
        try:
            yield temporary
            _native.sync_file_system(fd)
        except OSError as error:
            if error.errno in _FULL:
                raise cannot_write(given, error) from error
            raise
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
        raise exists_already(given)
    if not final.is_dir() or not any((final / mark).exists() for mark in _MARKS):
        raise FileExistsError(errno.EEXIST, "exists and is no Zarr store: it is not replaced, give another name", given)


def _put(temporary: Path, final: Path, given: str, replace: bool) -> None:
    if replace:
        with suppress(FileNotFoundError):
            _check(final, given, replace)
            _exchange(temporary, final, given)
            return
    try:
        _native.rename_noreplace(temporary, final)
    except FileExistsError:
        raise exists_already(given) from None
    except OSError as error:
        if not lacks_call(error):
            raise
        # Others may come between the two, and lose an empty directory.
        if os.path.lexists(final):
            raise exists_already(given) from None
        os.rename(temporary, final)


def _exchange(temporary: Path, final: Path, given: str) -> None:
    try:
        _native.rename_exchange(temporary, final)
    except OSError as error:
        if not lacks_call(error):
            raise
        what = "cannot be replaced at once on this file system: remove it first, or give another name"
        raise OSError(error.errno, what, given) from None
