"""A file that appears under its name only when it is complete."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

from onecopy import _native
from onecopy._temporaries import FILES, hidden_name, lock_file

Mode = Literal["x", "w", "a"]

#: What can be resumed (see `onecopy._hdf5.resumable`), and its journal.
PARTIAL = "onecopy-partial"
JOURNAL = "onecopy-journal"
# Room is reserved in steps, so that a chunk costs no system call: as long as the file is, within these limits. A step
# waits for the writes that are under way, and holds up others.
_STEPS = 64 << 20, 1 << 30


class AtomicFile:
    """A temporary file beside its destination, renamed over it by `commit`.

    Leaving the context without `commit` removes the temporary. A writer that was killed cannot do that; the next one to
    the same destination does: the temporary of a live writer is locked, that of a dead one is not.

    Parameters
    ----------
    path : str or path-like
        The destination. A symbolic link is followed.
    mode : {"x", "w", "a"}
        "x" refuses an existing file, "w" replaces it, "a" begins with a copy of it (or empty, when there is none).

    Raises
    ------
    FileExistsError
        Mode "x" and the destination exists, when the context is entered or at `commit`.
    FileNotFoundError, IsADirectoryError, PermissionError
        There is no such directory, the destination is a directory, or the directory cannot be written to.
    OSError
        The destination is no regular file, or in mode "a" it is being written by another process.
    """

    def __init__(self, path: str | os.PathLike[str], mode: Mode) -> None:
        if mode not in ("x", "w", "a"):
            raise ValueError(f"mode {mode!r}: give 'x' (refuse an existing file), 'w' (replace it) or 'a' (add to it)")
        self.given = os.fspath(path)
        self.path = Path(os.path.realpath(self.given))
        self.mode = mode
        self._owner = os.getpid()
        self._fd = -1
        self._reserved = 0
        self._lengthened = False
        self._old: os.stat_result | None = None

    def __enter__(self) -> AtomicFile:
        self._old = self._check_destination()
        FILES.sweep(self.path)
        try:
            self.temporary, self._fd = FILES.create(self.path)
        except OSError as error:
            raise cannot_create(self.given, error) from None
        try:
            if self.copied:
                self._copy_old()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # A forked child that unwinds through here must leave its parent's file alone.
        if self._fd >= 0 and os.getpid() == self._owner:
            self._discard()

    @property
    def copied(self) -> bool:
        """Whether the file begins as a copy of an older one."""
        return self.mode == "a" and self._old is not None

    @property
    def begun(self) -> bool:
        """Whether there is something in the file already."""
        return self.copied

    @property
    def saved_end(self) -> int:
        """The first byte that may be written to without changing what has been saved."""
        return 0

    def give_up(self) -> None:
        """Let nothing that is written from now on count."""

    def reserve(self, size: int) -> int:
        """Make sure that the file can grow to `size` bytes; the size to which it then can.

        It may be as long as that from now on, for threads to write there at the same time: see `shorten`.

        Raises
        ------
        OSError
            ENOSPC or EDQUOT: there is no room; EFBIG: no file may be so long. The file is as before.
        """
        return self._reserve(size, lengthen=True)

    def shorten(self, size: int) -> None:
        """Let the file, whose contents have `size` bytes, be no longer than these, whatever was reserved."""
        if self._lengthened:
            os.ftruncate(self._fd, size)
            self._reserved, self._lengthened = 0, False

    def _reserve(self, size: int, *, lengthen: bool) -> int:
        if size <= self._reserved:
            return self._reserved
        if size > (longest := _longest()):
            raise self._too_long(size, longest)
        step = min(max(size, _STEPS[0]), _STEPS[1])
        for goal in (min(size + step, longest), size):
            try:
                _native.reserve_space(self._fd, goal, lengthen=lengthen)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                    return self._check_free(size)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                failure = error
            else:
                self._reserved, self._lengthened = goal, self._lengthened or lengthen
                return goal
        raise self.no_space(size - self._written(), failure.errno)

    def no_space(self, needed: int, number: int | None = errno.ENOSPC) -> OSError:
        """Build the error for a disk that lacks room for `needed` more bytes."""
        numbers = f"{needed:,} bytes more are needed, {self._free():,} are free"
        what = f"the disk is full: {numbers}; make room or write elsewhere"
        return OSError(number or errno.ENOSPC, what, self.given)

    def _too_long(self, size: int, longest: int) -> OSError:
        what = f"it takes {size:,} bytes, and no file may be longer than {longest:,} bytes: raise that (ulimit -f)"
        return OSError(errno.EFBIG, what, self.given)

    def fileno(self) -> int:
        """Return the descriptor of the temporary, open for writing until `commit`."""
        return self._fd

    def write_at(self, data: bytes, position: int) -> None:
        """Write bytes to a place, which counts as all else that is written does."""
        write_all(self._fd, memoryview(data), position)

    def start_writeback(self) -> None:
        """Let the disk begin with what is written, so that `commit` has less to wait for."""
        _native.start_writeback(self._fd)

    def commit(self) -> None:
        """Put the file, which nobody may have open for writing any more, on the disk and under its name."""
        # Gives back what was reserved behind the end.
        os.ftruncate(self._fd, os.fstat(self._fd).st_size)
        self._take_over_permissions()
        os.fsync(self._fd)
        if self.mode == "x" or (self.mode == "a" and self._old is None):
            self._rename_new()
        else:
            self._rename_over()
        sync_directory(self.path.parent)
        self._close()
        if self.mode != "a":
            _remove_partial(self.path)

    def _check_destination(self) -> os.stat_result | None:
        for parent in (os.path.dirname(self.given) or ".", str(self.path.parent)):
            if not os.path.isdir(parent):
                raise FileNotFoundError(errno.ENOENT, "no such directory: create it first", parent)
        try:
            old = self.path.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory: give the name of a file in it", self.given)
        if not stat.S_ISREG(old.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file: give another name", self.given)
        if self.mode == "x":
            raise exists_already(self.given)
        return old

    def _copy_old(self) -> None:
        with open(self.path, "rb") as old:
            # HDF5 locks a file that it writes to in this way.
            try:
                fcntl.flock(old, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                what = "is being written by another process: wait until it is done"
                raise OSError(errno.EBUSY, what, self.given) from None
            self._old = os.fstat(old.fileno())
            self._reserve(self._old.st_size, lengthen=False)
            _copy_bytes(old.fileno(), self._fd, self._old.st_size)

    def _rename_new(self) -> None:
        try:
            _native.rename_noreplace(self.temporary, self.path)
        except FileExistsError:
            raise exists_already(self.given) from None
        except OSError as error:
            if not lacks_call(error):
                raise
            # A file system without that call: a hard link does not replace either.
            try:
                os.link(self.temporary, self.path)
            except FileExistsError:
                raise exists_already(self.given) from None
            os.unlink(self.temporary)

    def _rename_over(self) -> None:
        if self.copied and _identity(self.path) != _identity_of(self._old):
            what = "was changed by another process in the meantime: nothing was added, run it again"
            raise OSError(errno.EBUSY, what, self.given)
        os.replace(self.temporary, self.path)

    def _take_over_permissions(self) -> None:
        if self._old is None:
            os.fchmod(self._fd, 0o666 & ~umask())
            return
        # The owner first: changing it clears bits of the mode.
        with suppress(PermissionError):
            os.fchown(self._fd, self._old.st_uid, self._old.st_gid)
        os.fchmod(self._fd, stat.S_IMODE(self._old.st_mode))

    def _check_free(self, size: int) -> int:
        if size - self._written() > self._free():
            raise self.no_space(size - self._written())
        return size

    def _written(self) -> int:
        return os.fstat(self._fd).st_blocks * 512

    def _free(self) -> int:
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize

    def _discard(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.temporary)
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def cannot_create(given: str, error: OSError) -> OSError:
    """Build the error for a destination whose directory takes no temporary."""
    what = f"cannot be created in its directory: {os.strerror(error.errno or 0).lower()}; write elsewhere"
    return OSError(error.errno, what, given)


def exists_already(given: str) -> FileExistsError:
    """Build the error for a destination that is there and shall not be replaced."""
    what = "exists already: choose another name, or replace it with mode='w' (on the command line: --force)"
    return FileExistsError(errno.EEXIST, what, given)


def cannot_write(given: str, error: OSError) -> OSError:
    """Build the error for a destination for which there is no room."""
    what = f"cannot be written: {os.strerror(error.errno or errno.EIO).lower()}; make room or write elsewhere"
    return OSError(error.errno or errno.EIO, what, given)


def lacks_call(error: OSError) -> bool:
    """Tell whether a file system has no such call."""
    return error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def _remove_partial(path: Path) -> None:
    """Remove what could have been resumed, had the destination not become complete in another way."""
    partial = path.with_name(hidden_name(path, PARTIAL))
    with suppress(OSError):
        fd = os.open(partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if lock_file(fd, False):
                os.unlink(partial)
                os.unlink(path.with_name(hidden_name(path, JOURNAL)))
        finally:
            os.close(fd)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power failure."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: memoryview, position: int) -> None:
    """Write bytes to a place in a file."""
    while data:
        written = os.pwrite(fd, data, position)
        data = data[written:]
        position += written


def _longest() -> int:
    """Return how long this process may make a file."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _copy_bytes(source: int, destination: int, size: int) -> None:
    left = size
    try:
        while left and (copied := os.copy_file_range(source, destination, left)):
            left -= copied
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        with open(source, "rb", closefd=False) as reader, open(destination, "wb", closefd=False) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        return _identity_of(path.stat())
    except FileNotFoundError:
        return None


def _identity_of(status: os.stat_result | None) -> tuple[int, ...] | None:
    return status and (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def umask() -> int:
    """Read the umask without changing it for a moment, which other threads would notice."""
    with suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
