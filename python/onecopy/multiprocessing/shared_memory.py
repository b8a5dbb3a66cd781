"""Named segments of shared memory, as `multiprocessing.shared_memory` has them and for its users too.

What differs is who takes them away: see `onecopy._segments`.
"""

from __future__ import annotations

import mmap
import multiprocessing.shared_memory as _std
import os
import types
import weakref
from collections.abc import Iterable
from multiprocessing import util
from typing import Any

from onecopy import _segments

__all__ = ["ShareableList", "SharedMemory"]

#: Those of this process, which let go of their segments when it ends.
_here: weakref.WeakSet[SharedMemory] = weakref.WeakSet()


class SharedMemory(_std.SharedMemory):
    """A segment of shared memory with a name; see `multiprocessing.shared_memory.SharedMemory`.

    A segment that nobody unlinks is removed when the program has ended that made it: the first process of the tree
    that `multiprocessing` has started, in good order or by a kill. Those that attach never take it away from others.
    All its memory is there from the start.

    Parameters
    ----------
    name : str, optional
        Its name; by default a new one.
    create : bool, optional
        Whether to make it or to attach to one that is there.
    size : int, optional
        Bytes of a new one, at least 1.
    track : bool, optional
        Whether a new one is removed with its program.

    Raises
    ------
    FileExistsError, FileNotFoundError
        There is a segment of that name already; there is none.
    OutOfMemoryError
        There is no memory for it.

    Examples
    --------
    >>> from onecopy.multiprocessing.shared_memory import SharedMemory
    >>> segment = SharedMemory(create=True, size=16)
    >>> segment.buf[:5] = b"hello"
    >>> same = SharedMemory(segment.name)
    >>> bytes(same.buf[:5])
    b'hello'
    >>> same.close()
    >>> segment.close()
    >>> segment.unlink()
    """

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        if not size >= 0:
            raise ValueError(f"size={size}: 'size' must be a positive integer")
        if create:
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
            path = None if name is None else f"/{name}"
            self._name, self._fd = _segments.create(path, size, track=track)
        elif name is None:
            raise ValueError("'name' can only be None if create=True")
        else:
            self._name = f"/{name}"
            self._fd = _segments.attach(self._name)
        status = os.fstat(self._fd)
        self._inode = status.st_ino
        self._size = status.st_size
        self._mmap: mmap.mmap | None = _map(self._fd, self._size)
        self._buf: Any = memoryview(self._mmap)
        _here.add(self)

    def __del__(self) -> None:
        """Let go of the segment; arrays that lie in it keep its memory."""
        self._let_go()

    def close(self) -> None:
        """Let go of the segment, which stays for others.

        Arrays that were made over it by ``numpy.ndarray(shape, dtype, buffer=segment.buf)`` stay good: the memory goes
        with the last of them.

        Raises
        ------
        BufferError
            Parts of `buf`, or arrays made from it by `numpy.frombuffer`, are still there.
        """
        if self._mmap is not None and self._buf is not None:
            self._buf.release()
            used = weakref.ref(self._mmap)
            self._buf = self._mmap = None
            if (mapping := used()) is not None:
                self._refuse_if_exported(mapping)
        self._let_go()

    def _refuse_if_exported(self, mapping: mmap.mmap) -> None:
        try:
            mapping.resize(self._size)  # the one question about exported bytes that an mmap answers; it changes nothing
        except BufferError:
            self._mmap, self._buf = mapping, memoryview(mapping)
            raise BufferError(
                f"{self!r} cannot be closed: memoryviews, or arrays made by numpy.frombuffer, still use its bytes; "
                "delete them first"
            ) from None

    def _let_go(self) -> None:
        # Never mmap.close(): numpy does not say that it uses the memory, but it does hold the mmap.
        self._buf = None
        self._mmap = None
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _segments.let_go(fd)

    def unlink(self) -> None:
        """Take the name away; the memory goes with the last process that uses it.

        Raises
        ------
        FileNotFoundError
            There is no segment of that name any more.
        """
        if self._name:
            _segments.unlink(self._name, self._inode)


def _map(fd: int, size: int) -> mmap.mmap:
    # A mapping keeps a descriptor, which shall not be the one that says that this object uses the segment.
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(other, size)
    finally:
        os.close(other)


def _let_all_go() -> None:
    """Say that this process uses no segment any more; what still runs at its end may read them all the same."""
    for segment in list(_here):
        segment._close_descriptor()


util.Finalize(None, _let_all_go, exitpriority=_segments.LEAVE_PRIORITY + 1)


class ShareableList(_std.ShareableList[Any]):
    """A list of fixed length in a segment; see `multiprocessing.shared_memory.ShareableList`.

    Parameters
    ----------
    sequence : iterable, optional
        Its items: int, float, bool, str, bytes or None.
    name : str, optional
        The name of the segment; with no `sequence`, that of one to attach to.

    Examples
    --------
    >>> from onecopy.multiprocessing.shared_memory import ShareableList
    >>> a = ShareableList(["howdy", 1.5, None])
    >>> a[1] = 2
    >>> list(ShareableList(name=a.shm.name))
    ['howdy', 2, None]
    >>> a.shm.unlink()
    """

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        _lay_out(self, sequence, name=name)


# The standard library's way to lay a list out, but in a segment of this module.
_lay_out = types.FunctionType(
    _std.ShareableList.__init__.__code__, {**vars(_std), "SharedMemory": SharedMemory}, "_lay_out"
)
_lay_out.__kwdefaults__ = _std.ShareableList.__init__.__kwdefaults__
_lay_out.__defaults__ = _std.ShareableList.__init__.__defaults__
