"""Arrays into places of an open file, in the background and past the page cache.

The bytes of a large array go to the disk by O_DIRECT, where the file system allows it: straight from its memory, or
by way of some memory in huge pages. The page cache would keep a copy, evict what others have there, and make `fsync`
wait at the end; and the processor is free meanwhile to parse the next file.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onecopy import _native


class BackgroundWriter:
    """Begins to write arrays in the order in which they are given.

    Parameters
    ----------
    fd : int
        A file open for writing.
    report : callable
        Called with the number of bytes just written, from the thread that waits for them.
    """

    def __init__(self, fd: int, report: Callable[[int], object]) -> None:
        self._report = report
        direct = _open_direct(fd)
        self._writer = _native.BackgroundWriter(fd, direct)
        if direct >= 0:
            os.close(direct)

    def submit(self, array: npt.NDArray[np.generic], position: int) -> None:
        """Write a contiguous array, which nobody may change until `settle`, from byte `position` of the file on."""
        self._writer.submit(array, position)

    def submit_text(self, text: _native.TextBlocks, position: int, room: int, keep: int) -> tuple[int, int, int | None]:
        """Write some blocks of a text from byte `position` of the file on, up to byte `room`, without Python.

        How many rows and bytes they had; and how many bytes the next one has, as far as that is known, or None at the
        end. No more than `keep` are left to write.
        """
        written = self._writer.submit_text(text, position, room, keep)
        self.settle(keep)
        return written

    def settle(self, keep: int = 0) -> None:
        """Wait until no more than `keep` arrays are left to write; raise what went wrong with one of them."""
        if settled := self._writer.settle(keep):
            self._report(settled)

    def close(self) -> None:
        """Give up what has not been begun and wait for the rest."""
        self._writer.close()


def _open_direct(fd: int) -> int:
    """Open a file a second time, past the page cache; -1 where there is no such thing."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return -1
