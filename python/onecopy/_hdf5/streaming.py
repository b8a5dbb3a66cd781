"""Rows as they come into one contiguous dataset, of which nobody knows beforehand how long it becomes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import h5py
import numpy as np

from onecopy import _native
from onecopy._atomic import AtomicFile
from onecopy._hdf5.room import ALIGNED_BYTES, DATASET_BYTES, FILE_BYTES, PAGE
from onecopy._hdf5.rows import RowWriter
from onecopy._hdf5.storage import Array, describe

# Longer than any dataset, and shorter than what file systems allow for a file.
_MOST_BYTES = 4 << 40
# What is moved at a time, when libhdf5 has another place for a dataset than was thought.
_MOVE_BYTES = 8 << 20

#: Makes a dataset of so many rows, with such properties.
Make = Callable[[int, h5py.h5p.PropDCID], h5py.Dataset]


class RowStream:
    """A contiguous dataset under construction.

    libhdf5 gives such a dataset its place when its length is known. So a nameless one, longer than any can be, holds
    the end of the file while rows are written there, past libhdf5. When all are there, it goes, and the dataset is
    made, for which libhdf5 then takes the place that has just become free. Its header finds the room that one of the
    same type had until then, so that nothing else is made at that place. Where libhdf5 decides otherwise, the rows are
    moved.

    Parameters
    ----------
    file : AtomicFile
        The file. What has been saved of it stays as it is: rows are written behind that.
    h5 : h5py.File
        The same file as libhdf5 has it open. Nothing else may be made in it, nor may it be flushed, until `finish`.
    name : str
        The name of the dataset, at which there is none.
    make : callable
        Makes it.
    rows : RowWriter
        Writes rows.
    """

    def __init__(self, file: AtomicFile, h5: h5py.File, name: str, make: Make, rows: RowWriter) -> None:
        self._file, self._h5, self._name, self._make, self._writer = file, h5, name, make, rows
        make(1, placed_when_written())
        self._placeholder = h5.create_dataset(None, (_MOST_BYTES,), "u1", dcpl=placed_at_once())
        self._start: int = max(self._placeholder.id.get_offset(), -(-file.saved_end // PAGE) * PAGE)
        self._size = 0
        self._rows = 0
        self._last = 0

    def append(self, rows: Array, *, later: bool) -> None:
        """Write rows behind those before. With `later`, nobody else may change them any more."""
        self._reserve(rows.nbytes)
        self._writer.write_at(rows, self._start + self._size, later)
        self._size += rows.nbytes
        self._rows += len(rows)
        self._last = rows.nbytes

    def append_text(self, text: _native.TextBlocks, when_read: Callable[[], None]) -> int:
        """Write the blocks that are left of a text behind the rows before, which were of it, too; how many rows.

        `when_read` is called as soon as nothing is left to read, and perhaps again.
        """
        before, block = self._rows, self._last
        needed: int | None = 0
        while needed is not None:
            if text.is_read:
                when_read()
            room = self._reserve(needed)
            rows, size, needed = self._writer.write_text_at(text, self._start + self._size, room, block)
            self._size += size
            self._rows += rows
        when_read()
        return self._rows - before

    def _reserve(self, size: int) -> int:
        """Make sure that there is room for so many bytes more; the end of all the room that there is."""
        end = self._start + self._size + size
        if end > self._start + _MOST_BYTES:
            raise ValueError(f"dataset {self._name!r} has more than {_MOST_BYTES:,} bytes of rows: give chunks=True")
        behind = FILE_BYTES + DATASET_BYTES
        return self._file.reserve(end + behind) - behind

    def give_up(self) -> None:
        """Leave the place; what was written there does not count."""
        del self._placeholder

    def finish(self) -> h5py.Dataset:
        """Return the dataset, with the rows in it or on their way there."""
        # Small ones may be put anywhere, also between other things of libhdf5.
        small = self._read(0, self._size) if self._size < ALIGNED_BYTES else None
        # The last reference: libhdf5 frees what nobody can reach.
        del self._placeholder
        del self._h5[self._name]
        dataset = self._make(self._rows, placed_at_once())
        if self._size:
            place = dataset.id.get_offset()
            if small is not None:
                self._file.write_at(small, place)
            elif place != self._start:
                self._move(place)
        return dataset

    def _move(self, place: int) -> None:
        """Copy the rows to a place that may overlap theirs, from the end on which it does not."""
        self._file.reserve(place + self._size + FILE_BYTES)
        steps = range(0, self._size, _MOVE_BYTES)
        for done in steps if place < self._start else reversed(steps):
            self._file.write_at(self._read(done, min(_MOVE_BYTES, self._size - done)), place + done)

    def _read(self, first: int, size: int) -> bytes:
        self._writer.settle()
        read = os.pread(self._file.fileno(), size, self._start + first)
        if len(read) < size:
            raise OSError(f"{self._file.temporary} was truncated while it was written: nothing is kept")
        return read


class SameRows:
    """Lets arrays of rows of one dataset pass. It keeps none of them.

    Parameters
    ----------
    name : str
        The name of the dataset.

    Attributes
    ----------
    rows : int
        How many have passed, or gone another way.

    Raises
    ------
    ValueError
        An array has another type or other rows than the first one, or none at all.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.rows = 0
        self._first: tuple[str, tuple[int, ...]] | None = None
        self._seen: np.dtype[np.generic] | None = None

    def __call__(self, block: Array) -> Array:
        """Return a block as it is."""
        # To describe a type takes longer than all else that is done for a block.
        if not (block.ndim and self._first and block.dtype is self._seen and block.shape[1:] == self._first[1]):
            self._check(block)
        self.rows += len(block)
        self._seen = block.dtype
        return block

    def _check(self, block: Array) -> None:
        which = f"dataset {self._name!r}: what comes behind row {self.rows:,}"
        if not block.ndim:
            raise ValueError(f"{which} is a single value, give arrays of rows")
        found = describe(block.dtype), block.shape[1:]
        first = self._first = self._first or found
        if found != first:
            one, other = (f"{dtype} and shape {shape}" for dtype, shape in (found, first))
            raise ValueError(f"{which} has type {one}, the rows before {other}: use astype or reshape")


def rows_up_to(count: int, empty: Array, arrays: Iterator[Array]) -> Array:
    """Take arrays until they have so many rows, or end; return a copy of these rows."""
    rows, found = [empty], 0
    while found < count and (array := next(arrays, None)) is not None:
        # Its memory may be used again for the next one.
        rows.append(array.copy())
        found += len(array)
        del array
    # In the very type, of which `concatenate` by itself keeps neither the byte order nor the padding.
    return np.concatenate(rows, out=np.empty((found, *empty.shape[1:]), empty.dtype))


def placed_at_once() -> h5py.h5p.PropDCID:
    """Build the properties of a dataset that has its place in the file, unfilled, when it is created."""
    return _unfilled(h5py.h5d.ALLOC_TIME_EARLY)


def placed_when_written() -> h5py.h5p.PropDCID:
    """Build the properties of a dataset that has its place in the file, unfilled, when it is written to."""
    return _unfilled(h5py.h5d.ALLOC_TIME_LATE)


def _unfilled(time: int) -> h5py.h5p.PropDCID:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(time)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties
