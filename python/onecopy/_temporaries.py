"""Temporaries beside their destinations: locked while their writers live, and removed by the next one when not.

What a writer that was killed has left is known by that nobody holds its lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".onecopy-tmp"
# Of NAME_MAX = 255 bytes, the dots, the random part and the suffix take 30 at most.
_STEM_BYTES = 220


class Temporaries(NamedTuple):
    """How temporaries of one kind are made and removed.

    Attributes
    ----------
    make : callable
        Makes one under a name that nobody has, and opens it.
    flags : int
        With which one that is there is opened.
    lock : callable
        Locks an open one until it is closed or its process dies; false when another one holds it.
    remove : callable
        Removes one.
    """

    make: Callable[[Path], int]
    flags: int
    lock: Callable[[int, bool], bool]
    remove: Callable[[str], object]

    def create(self, destination: Path) -> tuple[Path, int]:
        """Make one for a destination, locked; its path and its descriptor."""
        while True:
            temporary = destination.with_name(f"{hidden_name(destination)}{secrets.token_hex(6)}{SUFFIX}")
            fd = self.make(temporary)
            self.lock(fd, True)
            if temporary.exists():
                return temporary, fd
            # Another writer swept it between creation and lock.
            os.close(fd)

    def sweep(self, destination: Path) -> None:
        """Remove those of this destination whose writers are dead."""
        prefix = hidden_name(destination)
        with os.scandir(destination.parent) as entries:
            found = [entry.path for entry in entries if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX)]
        for temporary in found:
            # It may vanish, be of another kind, or belong to somebody else.
            with suppress(OSError):
                fd = os.open(temporary, self.flags | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if self.lock(fd, False):
                        self.remove(temporary)
                finally:
                    os.close(fd)


def hidden_name(path: Path, ending: str = "") -> str:
    """Return how files are called that belong to a destination and lie beside it."""
    stem = os.fsencode(path.name)[:_STEM_BYTES].decode(errors="ignore")
    return f".{stem}.{ending}"


def lock_file(fd: int, wait: bool) -> bool:
    """Lock a file until it is closed or its process dies; `False` when another one holds it.

    A lock of the open file description (fcntl(2)): libhdf5 locks with flock(2), which would collide with another flock,
    and a classic record lock would go when libhdf5 closes its own descriptor.
    """
    whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0).ljust(32, b"\0")
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, whole_file)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks: take every temporary for a live one.
        return wait
    return True


def _lock_directory(fd: int, wait: bool) -> bool:
    # The other kind of lock needs a descriptor that is open for writing.
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return wait
    return True


def _make_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _make_directory(path: Path) -> int:
    path.mkdir(mode=0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


FILES = Temporaries(_make_file, os.O_RDWR, lock_file, os.unlink)
DIRECTORIES = Temporaries(_make_directory, os.O_RDONLY | os.O_DIRECTORY, _lock_directory, shutil.rmtree)
