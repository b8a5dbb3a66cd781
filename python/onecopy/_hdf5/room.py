"""Room on the disk, which is reserved before libhdf5 writes.

libhdf5 does not survive a full disk: it keeps what it could not write and crashes later. So it never meets one.
"""

from __future__ import annotations

import h5py

from onecopy._atomic import AtomicFile

#: What libhdf5 may allocate besides the data itself: for a dataset, and in its index for a chunk.
DATASET_BYTES = 4 << 10
CHUNK_BYTES = 64
#: The same for the file.
FILE_BYTES = 128 << 10
#: What it takes of the file at a time for all that is no data. Each time, rows written past it may have to move.
META_BYTES = 8 << 10
#: What is as large as this begins at a page of the file, as writing past the page cache asks for.
ALIGNED_BYTES = 1 << 20
PAGE = 4096
#: How libhdf5 lays out a file: options of `h5py.File`.
LAYOUT = {"alignment_threshold": ALIGNED_BYTES, "alignment_interval": PAGE, "meta_block_size": META_BYTES}


class Room:
    """What may be written to a file without asking again."""

    def __init__(self, file: AtomicFile, h5: h5py.File) -> None:
        self._file = file
        self._h5 = h5
        self._bytes = 0

    def ensure(self, size: int) -> None:
        """Make sure that the disk has room for `size` more bytes, before they are written."""
        if size > self._bytes:
            end = self._h5.id.get_filesize() + FILE_BYTES
            self._bytes = self._file.reserve(end + size) - end

    def take(self, size: int) -> None:
        """Make sure of `size` bytes that are about to be written."""
        self.ensure(size)
        self._bytes -= size

    def forget(self) -> None:
        """Ask anew the next time: libhdf5 has written, and does not say how much."""
        self._bytes = 0
