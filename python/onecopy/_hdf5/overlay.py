"""A file for libhdf5 whose saved state stays as it is on the disk until the next one is saved.

libhdf5 changes its tables in place, in no order that a killed process could be recovered from. Here what it writes
behind the end of the saved state goes to the file, and what it writes before that end waits in memory, page by page.
"""

from __future__ import annotations

import os
from typing import Any

from onecopy._atomic import write_all

PAGE = 4096


def _read_all(fd: int, buffer: memoryview, position: int) -> int:
    """Read until a buffer is full or the file ends, which one call need not do; how much there was."""
    done = 0
    while done < len(buffer) and (read := os.preadv(fd, [buffer[done:]], position + done)):
        done += read
    return done


class Overlay:
    """What h5py's driver ``fileobj`` asks of a file.

    Parameters
    ----------
    fd : int
        The file, open for reading and writing.
    end : int
        The first byte behind the saved state.

    Attributes
    ----------
    end : int
        As above: what lies before it changes in memory only.
    size : int
        How long libhdf5 has made the file.
    pages : dict of int to bytearray
        The pages that have changed before `end`, by number; the one that holds `end` stops there.
    """

    def __init__(self, fd: int, end: int) -> None:
        self._fd = fd
        self._position = 0
        self._closed = False
        self.end = end
        self.size = end
        self.pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte of the file, or by so many from its end."""
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read so many bytes at the position (h5py knows a file by this method, and calls `readinto`)."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: Any) -> int:
        """Read at the position as libhdf5 has written; what nobody wrote is zeros."""
        into = memoryview(buffer).cast("B")
        start, stop = self._position, self._position + len(into)
        found = _read_all(self._fd, into, start)
        into[found:] = bytes(len(into) - found)
        for number in self._changed(start, stop):
            first = number * PAGE
            page = self.pages[number]
            low, high = max(start, first), min(stop, first + len(page))
            if low < high:
                into[low - start : high - start] = page[low - first : high - first]
        self._position = stop
        return len(into)

    def write(self, data: Any) -> int:
        """Write at the position."""
        source = memoryview(data).cast("B")
        self.write_at(source, self._position)
        self._position += len(source)
        return len(source)

    def write_at(self, source: memoryview, position: int) -> None:
        """Write to a place: before `end` into memory, behind it into the file."""
        if self._closed:
            return
        self.size = max(self.size, position + len(source))
        inside = max(0, min(len(source), self.end - position))
        self._change(source[:inside], position)
        write_all(self._fd, source[inside:], position + inside)

    def truncate(self, size: int) -> int:
        """Note how long the file is."""
        self.size = size
        return size

    def flush(self) -> None:
        """Do nothing: what is saved, and when, is not for libhdf5 to say."""

    def take_pages(self) -> dict[int, bytearray]:
        """Return the pages, which are somebody else's now: all of the file is the saved state."""
        pages, self.pages = self.pages, {}
        self.end = self.size
        return pages

    def abandon(self) -> None:
        """Take what libhdf5 still has to write, and drop it."""
        self._closed = True

    def _changed(self, start: int, stop: int) -> list[int]:
        first, last = start // PAGE, -(-stop // PAGE)
        if last - first < len(self.pages):
            return [number for number in range(first, last) if number in self.pages]
        return [number for number in self.pages if first <= number < last]

    def _change(self, source: memoryview, position: int) -> None:
        done = 0
        while done < len(source):
            number, offset = divmod(position + done, PAGE)
            part = source[done : done + PAGE - offset]
            page = self.pages.get(number)
            if page is None:
                # Of the page that holds the end, the part behind it changes in the file.
                length = min(PAGE, self.end - number * PAGE)
                page = bytearray(length)
                _read_all(self._fd, memoryview(page), number * PAGE)
                self.pages[number] = page
            page[offset : offset + len(part)] = part
            done += len(part)
