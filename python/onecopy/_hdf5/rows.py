"""Rows of arrays into datasets: past libhdf5 where there are no filters, compressed on all cores, or by libhdf5."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import numpy.typing as npt

from onecopy import _native
from onecopy._atomic import AtomicFile
from onecopy._hdf5.background import BackgroundWriter
from onecopy._hdf5.filters import Codec, native_codec
from onecopy._hdf5.room import CHUNK_BYTES, Room
from onecopy._hdf5.storage import Array

Report = Callable[[int], object]

# What is written, or copied because it is not contiguous, at a time: large enough to be as fast as one call, small
# enough for progress, Ctrl-C and memory.
_BLOCK_BYTES = 32 << 20
# Arrays that may be on their way at a time, besides the one that is made meanwhile: several small ones, so that the
# disk need not wait for a thread to bring the next, but no more large ones than these bytes are.
_KEEP = 2, 5
_KEEP_BYTES = 8 << 20
# And so many more of a text that has been read, as there will be no others while the next dataset is made.
_KEEP_OF_LAST = 2
# What a filter may add to a chunk that does not shrink.
_EXPANSION = 1.01


class RowWriter:
    """Writes rows into the datasets of a file.

    Parameters
    ----------
    file : AtomicFile
        The file.
    room : Room
        Its room on the disk.
    threads : int
        How many threads compress.
    report : callable
        Called with the number of bytes of arrays just written.
    """

    def __init__(self, file: AtomicFile, room: Room, threads: int, report: Report) -> None:
        self._file = file
        self._room = room
        self._report = report
        self._compressor = _native.ChunkCompressor(threads)
        self._background = BackgroundWriter(file.fileno(), report)

    def settle(self) -> None:
        """Wait for what is still on its way."""
        self._compressor.settle()
        self._background.settle()

    def settle_chunks(self) -> None:
        """Wait for chunks that are still on their way: nothing is made in the file any more for what was given."""
        self._compressor.settle()

    def close(self) -> None:
        """Give up what has not been begun and wait for the rest."""
        self._compressor.close()
        self._background.close()

    def write_at(self, rows: Array, position: int, later: bool) -> None:
        """Write rows at a place of the file that has been reserved, past libhdf5.

        With `later` they may still be on their way when this returns.
        """
        self._background.submit(np.ascontiguousarray(rows), position)
        self._background.settle(keep=_keep(rows.nbytes) if later else 0)

    def write_text_at(
        self, text: _native.TextBlocks, position: int, room: int, block: int
    ) -> tuple[int, int, int | None]:
        """Write some of the blocks of a text, `block` bytes each, at a reserved place of the file, up to byte `room`.

        How many rows and bytes they had; and how many bytes the next one has, as far as that is known, or None at the
        end. They may still be on their way when this returns.
        """
        keep = _keep(block, _KEEP_OF_LAST if text.is_read else 0)
        return self._background.submit_text(text, position, room, keep)

    def write(
        self,
        dataset: h5py.Dataset,
        array: Array,
        start: int,
        *,
        later: bool = False,
        course: _native.ChunkCourse | None = None,
    ) -> None:
        """Write an array into a dataset from row `start` on, which with chunks is the first row of a chunk.

        With `later`, nobody else may change it any more, and it may still be on its way when this returns. With
        `course` it is one of several that become one array in the file.
        """
        if array.size and dataset.chunks:
            self._write_chunked(dataset, array, start, course)
        elif array.size:
            self._room.take(array.nbytes)
            if array.ndim:
                self._write_contiguous(dataset, array, later=later)
            else:
                # h5py does not let anybody say how a scalar is stored.
                dataset.write_direct(array)
        if not later:
            self._compressor.settle()

    def _write_chunked(
        self, dataset: h5py.Dataset, array: Array, start: int, course: _native.ChunkCourse | None
    ) -> None:
        codec = native_codec(dataset)
        for first, block in _blocks(array, dataset.chunks, whole=codec is not None):
            if codec is None:
                self._write_block(dataset, block, start + first)
            elif codec.filters or dataset.chunks[1:] != block.shape[1:]:
                self._write_compressed(dataset, block, start + first, codec, course)
            else:
                self._write_plain(dataset, block, start + first)

    def _write_contiguous(self, dataset: h5py.Dataset, array: Array, *, later: bool) -> None:
        """Write past libhdf5, which would copy on one core into the page cache."""
        position = dataset.id.get_offset()
        if position < self._file.saved_end:
            # A small one in a gap; the saved state must not change before the next one is.
            dataset.write_direct(np.ascontiguousarray(array))
            self._report(array.nbytes)
            return
        for _, block in _blocks(array, None, whole=False):
            self._background.submit(block, position)
            position += block.nbytes
            if not later:
                # The next one may be a copy that is made meanwhile; more than two need not exist.
                self._background.settle(keep=1)
        if not later:
            self._background.settle()

    def _write_block(self, dataset: h5py.Dataset, block: Array, row: int) -> None:
        """Let libhdf5 filter and write one block."""
        self._room.ensure(_stored_bytes(block, dataset.chunks))
        dataset.write_direct(block, dest_sel=np.s_[row : row + len(block)])
        # What waits in the cache of chunks takes room later; how much, libhdf5 does not say.
        dataset.flush()
        self._room.forget()
        self._file.start_writeback()
        self._report(block.nbytes)

    def _write_plain(self, dataset: h5py.Dataset, block: Array, row: int) -> None:
        """Hand over chunks of whole rows that have no filters, from where they lie in memory."""
        chunk_bytes = math.prod(dataset.chunks) * block.itemsize
        stored = block.reshape(-1).view(np.uint8)
        for number, first in enumerate(range(0, block.nbytes, chunk_bytes)):
            chunk = stored[first : first + chunk_bytes]
            done = len(chunk)
            if done < chunk_bytes:
                chunk = np.zeros(chunk_bytes, np.uint8)
                chunk[:done] = stored[first:]
            self._room.take(chunk_bytes + CHUNK_BYTES)
            dataset.id.write_direct_chunk((row + number * dataset.chunks[0], *[0] * (block.ndim - 1)), chunk)
            self._report(done)
        self._file.start_writeback()

    def _write_compressed(
        self, dataset: h5py.Dataset, block: Array, row: int, codec: Codec, course: _native.ChunkCourse | None
    ) -> None:
        """Compress one block on all cores, and hand over the chunks that are ready."""
        chunk_bytes = math.prod(dataset.chunks) * block.itemsize
        left = block.nbytes

        def store(origin: tuple[int, ...], chunk: npt.NDArray[np.uint8], mask: int) -> None:
            nonlocal left
            self._room.take(len(chunk) + CHUNK_BYTES)
            dataset.id.write_direct_chunk((origin[0] + row, *origin[1:]), chunk, mask)
            done = min(chunk_bytes, left)
            left -= done
            self._report(done)

        self._compressor.put(
            block,
            dataset.chunks,
            codec=codec.name,
            level=codec.level,
            shuffle=codec.shuffle,
            fletcher32=codec.fletcher32,
            write=store,
            course=course,
        )


def _keep(size: int, more: int = 0) -> int:
    """Return how many arrays of so many bytes may be on their way; so many more of small ones."""
    fewest, most = _KEEP
    return max(fewest, min(most + more, _KEEP_BYTES // max(size, 1)))


def _blocks(array: Array, chunks: tuple[int, ...] | None, *, whole: bool) -> Iterator[tuple[int, Array]]:
    """Split an array along its first axis into C-contiguous blocks of whole chunks, copying no more than one block.

    With `whole`, an array that is contiguous already is one block.
    """
    if not array.ndim or (whole and array.flags.c_contiguous):
        yield 0, np.ascontiguousarray(array) if array.ndim else array
        return
    unit = chunks[0] if chunks else 1
    row_bytes = max(1, array.nbytes // len(array))
    step = max(1, _BLOCK_BYTES // (row_bytes * unit)) * unit
    for first in range(0, len(array), step):
        yield first, np.ascontiguousarray(array[first : first + step])


def _stored_bytes(block: Array, chunks: tuple[int, ...]) -> int:
    """Return how much a block takes at most when it is stored in chunks, those at the edge being whole too."""
    count: int = math.prod(-(-size // side) for size, side in zip(block.shape, chunks, strict=True))
    chunk_bytes: int = math.ceil(math.prod(chunks) * int(block.itemsize) * _EXPANSION)
    return count * (chunk_bytes + CHUNK_BYTES)
