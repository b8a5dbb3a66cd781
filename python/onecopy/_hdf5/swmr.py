"""Rows added in place to a file that others read meanwhile: HDF5's single writer, multiple readers (SWMR)."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from pathlib import Path

import h5py

from onecopy._atomic import AtomicFile
from onecopy._temporaries import lock_file

# Of a superblock of version 3: signature, version, sizes of offsets and lengths, flags, base, extension, end of the
# file, root; then the check sum of all that.
_SUPERBLOCK = struct.Struct("<8sBBBBQQQQ")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SWMR_VERSION = 3
_CHECK = struct.Struct("<I")


class InPlaceFile(AtomicFile):
    """An existing file whose datasets get more rows where it lies, while others read it.

    There is no copy, so a writer that fails or is killed leaves the rows that it has added.

    Parameters
    ----------
    path : str or path-like
        The file, made with ``swmr=True``.

    Raises
    ------
    OSError
        EBUSY: another process writes it. EINVAL: it was not made for this.

    Attributes
    ----------
    mended : bool
        Whether the last writer was killed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, "a")
        self.temporary = self.path
        self.mended = False

    def __enter__(self) -> InPlaceFile:
        self._old = self._check_destination()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._lock()
            self._repair()
        except BaseException:
            self._close()
            raise
        return self

    @property
    def copied(self) -> bool:
        """Nothing is copied."""
        return False

    @property
    def begun(self) -> bool:
        """Whether there is something in the file already."""
        return True

    def reserve(self, size: int) -> int:
        """As for any file; but it is no longer for that, as a writer that is killed would leave it so."""
        return self._reserve(size, lengthen=False)

    def _busy(self) -> OSError:
        return OSError(errno.EBUSY, "is being written by another process: wait until it is done", self.given)

    def _lock(self) -> None:
        """Keep other writers out: those of onecopy, and those that lock as libhdf5 does, but no readers."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._busy() from None
        if not lock_file(self._fd, False):
            raise self._busy()

    def commit(self) -> None:
        """Put the rows on the disk."""
        self._give_back()
        os.fsync(self._fd)
        self._close()

    def _discard(self) -> None:
        self._give_back()
        self._close()

    def _give_back(self) -> None:
        """Give back what was reserved behind the end."""
        os.ftruncate(self._fd, os.fstat(self._fd).st_size)

    def _repair(self) -> None:
        """Take away the mark of a writer that was killed, without which libhdf5 does not open the file for writing."""
        size = _SUPERBLOCK.size
        head = os.pread(self._fd, size + _CHECK.size, 0)
        if len(head) < size + _CHECK.size or not head.startswith(_SIGNATURE) or head[8] != _SWMR_VERSION:
            what = "was not made with swmr=True: rows are added to it without swmr, on a copy"
            raise OSError(errno.EINVAL, what, self.given)
        *fields, flags, base, extension, end, root = _SUPERBLOCK.unpack(head[:size])
        if not flags:
            return
        if _CHECK.unpack(head[size:])[0] != lookup3(head[:size]):
            raise OSError(errno.EIO, "has a damaged superblock: take a copy of the file", self.given)
        self._check_unwritten()
        # What it had written behind the end that is noted may be part of the file.
        end = max(end, os.fstat(self._fd).st_size - base)
        mended = _SUPERBLOCK.pack(*fields, 0, base, extension, end, root)
        os.pwrite(self._fd, mended + _CHECK.pack(lookup3(mended)), 0)
        os.fsync(self._fd)
        self.mended = True

    def _check_unwritten(self) -> None:
        """Raise unless nobody else has the file open for writing: only then a lease for reading is given."""
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Whoever opens it meanwhile makes the kernel send this; by default it would be a signal that kills.
            fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            raise self._busy() from None
        finally:
            os.close(self._fd)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._lock()


def open_for_swmr(path: Path, aligned_bytes: int, page: int) -> h5py.File:
    """Open a file in such a way that there is no moment in which readers could not.

    h5py opens it for writing first, and for readers as well in a second step.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    access.set_alignment(aligned_bytes, page)
    if hasattr(access, "set_file_locking"):
        # A reader that has opened the file while nobody wrote keeps a lock of libhdf5 that is no obstacle.
        access.set_file_locking(False, True)
    flags = h5py.h5f.ACC_RDWR | h5py.h5f.ACC_SWMR_WRITE
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


def take_back_rows(file: h5py.File) -> None:
    """Cut datasets to the rows that are complete: a killed writer may have made room for more."""

    def cut(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and node.chunks and node.attrs.get("rows", len(node)) < len(node):
            node.resize(int(node.attrs["rows"]), axis=0)

    file.visititems(cut)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a file to which rows can be added."""
    return Path(os.path.realpath(path)).is_file()


def lookup3(data: bytes) -> int:
    """Return the check sum of HDF5's metadata: Jenkins' hash of this name, begun with 0."""
    a = b = c = 0xDEADBEEF + len(data) & 0xFFFFFFFF
    words: list[int] = list(struct.unpack(f"<{len(data) // 4 + 3}I", data.ljust(len(data) // 4 * 4 + 12, b"\0")))
    at = 0
    while len(data) - 4 * at > 12:
        a, b, c = (x + y & 0xFFFFFFFF for x, y in zip((a, b, c), words[at : at + 3], strict=True))
        at += 3
        for turn in (4, 6, 8, 16, 19, 4):
            a = (a - c & 0xFFFFFFFF) ^ _rotated(c, turn)
            c = c + b & 0xFFFFFFFF
            a, b, c = b, c, a
    if len(data) == 4 * at:
        return c
    a, b, c = (x + y & 0xFFFFFFFF for x, y in zip((a, b, c), words[at : at + 3], strict=True))
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, turn) & 0xFFFFFFFF
        a, b, c = b, c, a
    return b


def _rotated(value: int, turn: int) -> int:
    return (value << turn | value >> 32 - turn) & 0xFFFFFFFF
