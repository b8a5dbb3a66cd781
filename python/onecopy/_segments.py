"""Named segments of shared memory, and who is to take them away.

A segment is a file in `/dev/shm`, as `shm_open` makes them, so that any program can use it. Beside it lies an
**entry**, a symbolic link whose name is the segment's inode and whose target names the **program** that owns it: the
process at the root of a tree of `multiprocessing` processes. When the root ends, or has been killed, the segment is
removed by whoever comes by, unless a process still has it open: each that does holds a shared `flock` on it.

There is no process that tracks segments. A process that only attaches owns nothing, so nothing that it does, its death
included, takes a segment away from the others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from functools import cache
from multiprocessing import process, util

from onecopy._errors import OutOfMemoryError

_DIRECTORY = "/dev/shm"
_ENTRY = ".onecopy-"

#: Where a process keeps the name of its program; processes that it starts inherit the settings of `multiprocessing`.
_SETTING = "onecopy_program"

#: Sizes from which on it is asked whether the memory is there; below, the question costs more than the memory.
_LEAST_BYTES_TO_ASK = 64 << 20

#: When a program's segments are removed at its end: after its children have been joined, for which they may be.
LEAVE_PRIORITY = -100


def join_program() -> None:
    """Settle which program this process and those that it will start belong to."""
    settings: dict[str, object] = process.current_process()._config  # type: ignore[attr-defined]
    if _SETTING not in settings:
        settings[_SETTING] = _identity(os.getpid())
        util.Finalize(None, _leave_program, (os.getpid(),), exitpriority=LEAVE_PRIORITY)


def _program() -> str:
    join_program()
    return str(process.current_process()._config[_SETTING])  # type: ignore[attr-defined]


def _leave_program(pid: int) -> None:
    if pid == os.getpid():
        sweep(leaving=_program())


@cache
def _namespace() -> str:
    """Return what tells apart the processes of containers that share the directory."""
    return os.readlink("/proc/self/ns/pid").strip("pid:[]")


def _identity(pid: int) -> str | None:
    """Return what tells a process from all that had or will have its pid; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *figures = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    started = figures[18].decode()
    return None if state in (b"Z", b"X") else f"{pid}.{started}.{_namespace()}"


def _has_ended(program: str) -> bool:
    pid, _, rest = program.partition(".")
    if rest.partition(".")[2] != _namespace():
        return False  # nobody in here can tell
    return _identity(int(pid)) != program


def _path(name: str) -> str:
    file = name.lstrip("/")
    if not file or "/" in file or file in (".", ".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return os.path.join(_DIRECTORY, file)


def _entry_of(inode: int) -> str:
    return f"{_DIRECTORY}/{_ENTRY}{inode}"


def create(name: str | None, size: int, *, track: bool = True) -> tuple[str, int]:
    """Make a segment; it appears under its name only when it is whole.

    Parameters
    ----------
    name : str or None
        Its name, which begins with a slash; by default one that nobody uses.
    size : int
        Bytes.
    track : bool, optional
        Whether it is taken away with the program.

    Returns
    -------
    name : str
    descriptor : int
        Open for reading and writing.

    Raises
    ------
    FileExistsError
        There is a segment of that name.
    OutOfMemoryError
        There is no memory for it.
    """
    sweep()
    _check_memory(size)
    fd = os.open(_DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _reserve(fd, size)
        fcntl.flock(fd, fcntl.LOCK_SH)
        entry = _entry_of(os.fstat(fd).st_ino)
        while True:
            chosen = f"/psm_{secrets.token_hex(4)}" if name is None else name
            path = _path(chosen)
            if track:
                _enter(entry, path)
            try:
                _link(fd, path)
                return chosen, fd
            except OSError as error:
                if track:
                    os.unlink(entry)
                if name is not None or error.errno != errno.EEXIST:
                    raise type(error)(error.errno, os.strerror(error.errno or 0), chosen) from None
    except BaseException:
        os.close(fd)
        raise


def _enter(entry: str, path: str) -> None:
    target = f"{_program()}/{os.path.basename(path)}"
    try:
        os.symlink(target, entry)
    except FileExistsError:
        # The inode's number has been used before, by a segment that somebody unlinked without knowing of entries.
        os.unlink(entry)
        os.symlink(target, entry)


def _link(fd: int, path: str) -> None:
    directory = os.open(_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Only with a directory's descriptor does Python follow the link to the file that has no name yet.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def _check_memory(size: int) -> None:
    """Refuse what would be an out-of-memory kill: in a cgroup, memory that was reserved may still not be there."""
    if size < _LEAST_BYTES_TO_ASK:
        return
    from onecopy import _native

    figures = _native.stats()
    free, bound = figures["headroom_bytes"], figures["headroom_bound"]
    if size > free and "arena" not in bound:
        raise _out_of_memory(size, free, figures["limit"], bound)


def _reserve(fd: int, size: int) -> None:
    """Give the file its memory now: a page that is not there when it is touched kills the process (SIGBUS)."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise
        system = os.fstatvfs(fd)
        free, limit = system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize
        raise _out_of_memory(size, free, limit, _DIRECTORY) from None


def _out_of_memory(asked: int, free: int, limit: int, bound: str) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"a segment of {asked} bytes: {bound} has {free} bytes left; make it larger, or free something",
        asked=asked,
        free=free,
        limit=limit,
        bound=bound,
    )


def attach(name: str) -> int:
    """Open a segment.

    Parameters
    ----------
    name : str
        Its name, which begins with a slash.

    Returns
    -------
    int
        A descriptor, open for reading and writing.

    Raises
    ------
    FileNotFoundError
        There is no such segment, or nobody is left of the program that owned it.
    """
    path = _path(name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise type(error)(error.errno, os.strerror(error.errno or 0), name) from None
    try:
        inode = os.fstat(fd).st_ino
        if _owner_has_ended(inode):
            _sweep_one(inode, path)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unlink(name: str, inode: int) -> None:
    """Take a segment's name away; who has it open keeps it.

    Parameters
    ----------
    name : str
        Its name, which begins with a slash.
    inode : int
        Its inode.

    Raises
    ------
    FileNotFoundError
        There is no segment of that name.
    """
    try:
        os.unlink(_path(name))
    except OSError as error:
        raise type(error)(error.errno, os.strerror(error.errno or 0), name) from None
    disown(inode)


def let_go(fd: int) -> None:
    """Close the descriptor of a segment; the entry of one that has lost its name is removed."""
    status = os.fstat(fd)
    os.close(fd)
    if status.st_nlink == 0:
        disown(status.st_ino)


def disown(inode: int) -> None:
    """Let a segment outlive its program."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_entry_of(inode))


def disown_named(name: str) -> None:
    """Let a segment outlive its program, if there is one of that name."""
    with contextlib.suppress(FileNotFoundError):
        disown(os.stat(_path(name), follow_symlinks=False).st_ino)


def sweep(*, leaving: str | None = None) -> int:
    """Remove the segments of programs that have ended.

    Parameters
    ----------
    leaving : str, optional
        A program that is about to end.

    Returns
    -------
    int
        How many were removed.
    """
    swept = 0
    for file in os.listdir(_DIRECTORY):
        number = file.removeprefix(_ENTRY)
        if number == file or not number.isdecimal():
            continue
        owner, name = _read(int(number))
        if owner is not None and (owner == leaving or _has_ended(owner)):
            swept += _sweep_one(int(number), f"{_DIRECTORY}/{name}")
    return swept


def _read(inode: int) -> tuple[str | None, str]:
    """Return the program and the name that an entry tells; no program unless the entry is this user's."""
    entry = _entry_of(inode)
    try:
        if os.lstat(entry).st_uid != os.geteuid():
            return None, ""
        owner, separator, name = os.readlink(entry).partition("/")
    except OSError:
        return None, ""
    well_formed = separator and "/" not in name and owner.count(".") == 2 and owner.partition(".")[0].isdecimal()
    return (owner, name) if well_formed else (None, "")


def _owner_has_ended(inode: int) -> bool:
    owner, _ = _read(inode)
    return owner is not None and owner != _program() and _has_ended(owner)


def _sweep_one(inode: int, path: str) -> bool:
    """Remove a segment whose program has ended, unless somebody has it open; tell whether it was removed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        disown(inode)
        return False
    try:
        if os.fstat(fd).st_ino != inode:
            disown(inode)
            return False
        # Who attaches waits for this lock, and then sees that the name has gone.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            unlink(f"/{os.path.basename(path)}", inode)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
