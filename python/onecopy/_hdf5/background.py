"""Arrays into places of an open file, in the background and past the page cache.

The bytes of a large array go to the disk by O_DIRECT, where the file system allows it: straight from its memory, or
by way of some memory in huge pages. The page cache would keep a copy, evict what others have there, and make `fsync`
wait at the end; and the processor is free meanwhile to parse the next file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from onecopy import _native

# The disk works for one while others copy, or wait for their turn at it.
_THREADS = 3


class BackgroundWriter:
    """Begins to write arrays in the order in which they are given.

    Parameters
    ----------
    fd : int
        A file open for writing, which stays open until `close`.
    report : callable
        Called with the number of bytes just written, from the thread that waits for them.
    """

    def __init__(self, fd: int, report: Callable[[int], object]) -> None:
        self._fd = fd
        self._report = report
        self._direct = _open_direct(fd)
        self._staging = _native.Staging()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="onecopy-write")
        self._pending: deque[tuple[Future[None], int]] = deque()

    def submit(self, array: npt.NDArray[np.generic], position: int) -> None:
        """Write a contiguous array, which nobody may change until `settle`, from byte `position` of the file on."""
        self._pending.append((self._threads.submit(self._write, array, position), array.nbytes))

    def settle(self, keep: int = 0) -> None:
        """Wait until no more than `keep` arrays are left to write; raise what went wrong with one of them."""
        while len(self._pending) > keep:
            future, size = self._pending[0]
            future.result()
            self._pending.popleft()
            self._report(size)

    def close(self) -> None:
        """Give up what has not been begun and wait for the rest."""
        self._threads.shutdown(cancel_futures=True)
        self._pending.clear()
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1

    def _write(self, array: npt.NDArray[np.generic], position: int) -> None:
        _native.write_array(self._fd, self._direct, array, position, self._staging)
        _native.start_writeback(self._fd)


def _open_direct(fd: int) -> int:
    """Open a file a second time, past the page cache; -1 where there is no such thing."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return -1
