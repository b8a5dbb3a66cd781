"""An HDF5 file under construction, which appears under its name only when it is complete."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from onecopy import _native
from onecopy._arrays import is_masked
from onecopy._atomic import AtomicFile, Mode
from onecopy._hdf5.attributes import write_attributes
from onecopy._hdf5.dimensions import label_axes
from onecopy._hdf5.edges import has_plain_edges
from onecopy._hdf5.filters import Filters, native_codec, thread_count
from onecopy._hdf5.growing import GrowingDataset, check_rows
from onecopy._hdf5.journal import Note
from onecopy._hdf5.resumable import ResumableFile
from onecopy._hdf5.room import ALIGNED_BYTES, DATASET_BYTES, LAYOUT, PAGE, Room
from onecopy._hdf5.rows import Report, RowWriter
from onecopy._hdf5.storage import (
    OPEN_BYTES,
    Array,
    cf_attributes,
    describe,
    from_storage,
    has_no_bytes,
    has_unicode,
    to_storage,
)
from onecopy._hdf5.streaming import RowStream, SameRows, placed_at_once, rows_up_to
from onecopy._hdf5.swmr import InPlaceFile, is_there, open_for_swmr, take_back_rows
from onecopy._hdf5.texts import begin_next, text_of
from onecopy._names import check_name, is_text

# HDF5 describes a type in 64 KiB: somewhere above this many fields, that is too little.
_MANY_FIELDS = 500
_MOST_AXES = 32


class Hdf5Writer:
    """An HDF5 file under construction: committed when the context ends without an error.

    Otherwise it is discarded, or, when it can be resumed, kept as it was at the last `save`.

    Parameters
    ----------
    path, mode
        As for `AtomicFile`. Everything that can be wrong with them is found when the context is entered.
    filters : Filters
        How datasets are stored.
    threads : int, optional
        How many threads compress.
    report : callable, optional
        Called with the number of bytes of arrays just written.
    resume : mapping of str to str, optional
        Go on with what an earlier writer saved, and save what this one writes: the options that both must share, by
        the names that users know.
    swmr : bool, default False
        Make a file to which rows can be added while others read it, or with mode "a" add rows to one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Mode,
        filters: Filters,
        *,
        threads: int | None = None,
        report: Report | None = None,
        resume: Mapping[str, str] | None = None,
        swmr: bool = False,
    ) -> None:
        self.filters = filters
        self._threads = thread_count(threads)
        self._report = report or (lambda _: None)
        self._swmr = swmr
        self._file = _file_for(path, mode, resume, swmr)

    def __enter__(self) -> Hdf5Writer:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            self._h5 = self._open()
            stack.callback(self._close_after_error)
            self._room = Room(self._file, self._h5)
            self._rows = RowWriter(self._file, self._room, self._threads, self._report)
            stack.callback(self._rows.close)
            self._growing: dict[str, GrowingDataset] = {}
            if not self._file.begun:
                self._h5.attrs.update(creator="onecopy", version=_native.__version__)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._cleanup:
            if kind is None:
                self._finish_rows()
                # libhdf5 does not know how long the file is. When it closes it, it may still add to it.
                self._h5.flush()
                self._file.shorten(self._h5.id.get_filesize())
                self._h5.close()
                self._file.commit()

    @property
    def saved(self) -> list[Note]:
        """What was noted at each `save` so far, by an earlier writer or this one."""
        return self._file.notes if isinstance(self._file, ResumableFile) else []

    @property
    def resumable(self) -> bool:
        """Whether what is saved can be resumed."""
        return isinstance(self._file, ResumableFile)

    @property
    def complete(self) -> bool:
        """Whether an earlier writer has saved all, and only could not give the file its name."""
        return isinstance(self._file, ResumableFile) and self._file.complete

    def save(self, note: Note) -> None:
        """Keep what has been written, whatever happens from now on; without `resume`, do nothing."""
        if isinstance(self._file, ResumableFile):
            self._finish_rows()
            self._h5.flush()
            self._file.save(note)

    def _finish_rows(self) -> None:
        for growing in self._growing.values():
            growing.save()
        self._rows.settle()

    def _open(self) -> h5py.File:
        if self._file.copied and not h5py.is_hdf5(self._file.temporary):
            raise OSError(f"{self._file.given} is not an HDF5 file: nothing can be added; replace it with mode='w'")
        _native.check_work_memory(OPEN_BYTES)
        if isinstance(self._file, InPlaceFile):
            file = open_for_swmr(self._file.path, ALIGNED_BYTES, PAGE)
            if self._file.mended:
                take_back_rows(file)
            return file
        if isinstance(self._file, ResumableFile):
            return h5py.File(self._file.image, "r+" if self._file.begun else "w", **LAYOUT)
        libver = "latest" if self._swmr else None
        # Nobody else knows the temporary; a lock by libhdf5 fails on some network file systems.
        mode = "r+" if self._file.begun else "w"
        return h5py.File(self._file.temporary, mode, locking=False, libver=libver, **LAYOUT)

    def _close_after_error(self) -> None:
        self._file.give_up()
        # A file that is discarded may also be one that libhdf5 cannot finish.
        with suppress(Exception):
            self._h5.close()

    def describe(self, attributes: Mapping[str, str]) -> None:
        """Give the file attributes."""
        self._h5.attrs.update(attributes)

    def link(self, name: str, layout: h5py.VirtualLayout, like: Array, sources: Sequence[str]) -> None:
        """Write a virtual dataset of sources of these names, described as an array like the one that is given."""
        self._check_new(name)
        # Each has its names and two selections in a heap, which grows by doubling.
        self._room.take(DATASET_BYTES + sum(2 * (len(os.fsencode(source)) + 256) for source in sources))
        self._describe(self._h5.create_virtual_dataset(name, layout), like.dtype, None)

    def label(
        self,
        axes: Mapping[str, Sequence[str]],
        coords: Mapping[str, Array],
        attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Name the axes of datasets, and write coordinates along them, with their attributes."""
        if not axes:
            return
        for name, values in coords.items():
            # Chunks of the grid would not fit them.
            self.write(name, values, (attrs or {}).get(name), filters=Filters())
        self._finish_rows()
        self._room.take(DATASET_BYTES * sum(2 + len(names) for names in axes.values()))
        label_axes(self._h5, axes)

    def ensure_room(self, size: int) -> None:
        """Make sure that the disk has room for `size` more bytes, before they are written."""
        self._room.ensure(size)

    def write(
        self,
        name: str,
        array: npt.ArrayLike,
        attrs: Mapping[str, Any] | None = None,
        *,
        later: bool = False,
        filters: Filters | None = None,
    ) -> None:
        """Write an array as a dataset with its attributes, by default with the filters of the writer.

        With `later`, nobody else may change the array any more, and it may still be on its way when this returns: the
        next call, or the end of the context, waits for it.
        """
        array = writable(name, array)
        self._rows.settle()
        self._check_new(name)
        if array.dtype.hasobject or array.dtype.kind == "T":
            dataset = self._create_object(name, array)
        else:
            stored = _stored(name, array)
            options = (filters or self.filters).for_dataset(name, stored.shape, stored.dtype)
            if "chunks" not in options:
                options["dcpl"] = placed_at_once()
            dataset = _create_in(self._h5, name, stored.dtype, shape=stored.shape, **options)
            self._rows.write(dataset, stored, 0, later=later)
        self._describe(dataset, array.dtype, attrs)

    def write_blocks(
        self,
        name: str,
        blocks: Iterable[npt.ArrayLike],
        attrs: Mapping[str, Any] | None = None,
        *,
        append: bool = False,
        following: object = None,
    ) -> tuple[int, ...]:
        """Write arrays of rows as a dataset, one behind the other and one at a time, or append them; its shape.

        `following` is what is written next, if that is known: if it is a text, reading it may begin.
        """
        # None of these steps keeps an array, so that one which nobody else has can be written while the next is made.
        arrays: Iterator[Array] = map(partial(writable, name), blocks)
        first = next(arrays, None)
        if first is None:
            raise ValueError(f"dataset {name!r}: the iterator had no array, and so no type: give one without rows")
        dtype, row_shape = first.dtype, first.shape[1:]
        in_chunks = "chunks" in self.filters.for_dataset(name, (1, *row_shape), dtype)
        # Taken out, so that nobody else has it.
        arrays = chain(map(list.pop, [[first]]), arrays)
        del first
        if append or self._swmr:
            for array in arrays:
                later = not self._swmr and _native.is_exclusive(array)
                self.append(name, array, in_parts=not self._swmr, later=later)
            write_attributes(self._h5[name], name, attrs or {})
            return (len(self._growing[name]), *row_shape)
        _check_fixed_size(name, dtype)
        empty = np.empty((0, *row_shape), dtype)
        if in_chunks:
            return self._stream_chunks(name, empty, map(SameRows(name), arrays), attrs)
        return self._stream(name, empty, arrays, (blocks, following), attrs)

    def _stream_chunks(
        self, name: str, empty: Array, arrays: Iterator[Array], attrs: Mapping[str, Any] | None
    ) -> tuple[int, ...]:
        # An axis of a chunk is never longer than that of its array, and so long it may turn out to be a short one.
        begun = rows_up_to(self.filters.chunk_rows(name, empty), empty, arrays)
        second = next(arrays, None)
        if second is None:
            self.write(name, begun, attrs)
            return (len(begun), *empty.shape[1:])
        growing = self.grow(name, empty.dtype, empty.shape[1:], in_parts=True)
        # A copy; and what nobody else has can be compressed while the next one is made.
        growing.append(begun, later=True)
        later = _native.is_exclusive(second)
        growing.append(second, later=later)
        del begun, second
        for array in arrays:
            later = _native.is_exclusive(array)
            growing.append(array, later=later)
        growing.save()
        # Nothing is added any more.
        del self._growing[name]
        write_attributes(self._h5[name], name, attrs or {})
        return (len(growing), *empty.shape[1:])

    def _stream(
        self,
        name: str,
        empty: Array,
        arrays: Iterator[Array],
        sources: tuple[object, object],
        attrs: Mapping[str, Any] | None,
    ) -> tuple[int, ...]:
        # Until it is finished, nothing else may be made in the file, and so no chunks.
        self._rows.settle_chunks()
        self._check_new(name)
        stored = to_storage(empty)
        same = SameRows(name)
        arrays = map(same, arrays)
        if stored is not empty:
            arrays = map(to_storage, arrays)

        def make(count: int, properties: h5py.h5p.PropDCID) -> h5py.Dataset:
            return _create_in(self._h5, name, stored.dtype, shape=(count, *empty.shape[1:]), dcpl=properties)

        stream = RowStream(self._file, self._h5, name, make, self._rows)
        try:
            for array in arrays:
                # Before it is an argument, and so referred to once more.
                later = _native.is_exclusive(array)
                stream.append(array, later=later)
                # Its memory is for the blocks that follow.
                del array
                if stored is empty and (rest := text_of(sources[0])) is not None:
                    same.rows += stream.append_text(rest, partial(begin_next, *sources))
        except BaseException:
            # As long as it is there, libhdf5 takes the file for a very large one.
            stream.give_up()
            raise
        dataset = stream.finish()
        self._room.forget()
        self._describe(dataset, empty.dtype, attrs)
        shape: tuple[int, ...] = dataset.shape
        return shape

    def annotate(self, name: str, attrs: Mapping[str, Any]) -> None:
        """Give a dataset that is there more attributes."""
        self._room.take(DATASET_BYTES)
        write_attributes(self._h5[name], name, attrs)

    def append(
        self,
        name: str,
        array: npt.ArrayLike,
        attrs: Mapping[str, Any] | None = None,
        *,
        in_parts: bool = False,
        later: bool = False,
    ) -> None:
        """Add the rows of an array to a dataset, which is made when there is none.

        With `in_parts`, many more rows are expected to follow; `later` is as for `write`.
        """
        array = writable(name, array)
        if not array.ndim:
            raise ValueError(f"dataset {name!r}: a single value has no rows that could be added, give an array")
        if attrs and isinstance(self._file, InPlaceFile):
            raise ValueError(f"dataset {name!r}: attrs cannot be given in place: add them without swmr")
        growing = self.grow(name, array.dtype, array.shape[1:], in_parts=in_parts)
        growing.append(array, later=later)
        write_attributes(self._h5[name], name, attrs or {})

    def grow(
        self, name: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = (), *, in_parts: bool = False
    ) -> GrowingDataset:
        """Begin a dataset to which arrays of rows of one shape are appended, or go on with one that is there.

        With `in_parts` they will be many, for which it pays to find out how they are compressed best.
        """
        if name in self._growing:
            return self._growing[name]
        self._rows.settle()
        empty = np.empty((0, *row_shape), dtype)
        _check_fixed_size(name, empty.dtype)
        if name in self:
            dataset = self._h5[name]
            check_rows(dataset, empty, len(dataset))
            if (codec := native_codec(dataset)) is not None and codec.filters and has_plain_edges(dataset):
                way_out = "chunks at its end are not filtered; copy it, for example with h5repack"
                raise ValueError(f"dataset {dataset.name!r} cannot grow: {way_out}")
        else:
            dataset = self._create_growing(name, empty)
        write_rows = partial(self._rows.write, course=_native.ChunkCourse() if in_parts else None)
        growing = self._growing[name] = GrowingDataset(dataset, empty, write_rows)
        return growing

    def _create_growing(self, name: str, empty: Array) -> h5py.Dataset:
        self._check_new(name)
        stored = to_storage(empty)
        options = self.filters.for_dataset(name, stored.shape, stored.dtype, growing=True)
        # A chunk is no longer than an axis that has an end, and an axis without elements has chunks all the same.
        maxshape = (None, *(size or None for size in stored.shape[1:]))
        dataset = _create_in(self._h5, name, stored.dtype, shape=stored.shape, maxshape=maxshape, **options)
        self._describe(dataset, empty.dtype, None)
        return dataset

    def __contains__(self, name: str) -> bool:
        return isinstance(self._h5.get(name), h5py.Dataset)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape of a dataset that is there."""
        return tuple(self._h5[name].shape)

    def rows_of(self, name: str) -> int:
        """Return how many rows a dataset has; 0 when there is none."""
        return len(self._h5[name]) if name in self else 0

    def read(self, name: str) -> Array:
        """Return what is in a small dataset."""
        self._rows.settle()
        dataset = self._h5[name]
        return from_storage(dataset[()], dataset.attrs.get("dtype", ""))

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the type of the array that was written as a dataset."""
        dataset = self._h5[name]
        return from_storage(np.empty(0, dataset.dtype), dataset.attrs.get("dtype", "")).dtype

    def remove(self, name: str) -> None:
        """Take a dataset out of the file, if it is there. The room that it had in the file may stay unused."""
        self._rows.settle()
        if name in self._h5:
            del self._h5[name]

    def check_dtype(self, name: str, dtype: np.dtype[Any]) -> None:
        """Raise what `write` would raise for the type, before there is an array."""
        with h5py.File(io.BytesIO(), "w") as scratch:
            _create_in(scratch, name, to_storage(np.empty(0, dtype)).dtype, shape=(0,))

    def _check_new(self, name: str) -> None:
        if isinstance(self._file, InPlaceFile):
            raise ValueError(
                f"dataset {name!r} is not in {self._file.given}, and cannot be made in place: do without swmr"
            )
        self._room.take(DATASET_BYTES)
        if name in self._h5:
            raise ValueError(f"dataset {name!r} is in {self._file.given} already: give another name")
        groups = (name.rsplit("/", depth)[0] for depth in range(1, name.strip("/").count("/") + 1))
        for group in groups:
            if isinstance(self._h5.get(group), h5py.Dataset):
                raise ValueError(f"dataset {name!r}: {group!r} is a dataset and no group, give another name")

    def _create_object(self, name: str, array: Array) -> h5py.Dataset:
        """Leave types with Python objects inside (strings of any length) to h5py."""
        try:
            return self._h5.create_dataset(name, data=array)
        except UnicodeEncodeError as error:
            raise _no_text(name, error) from error
        except ValueError as error:
            way_out = "; text with NUL can be converted with array.astype('U')" if "NULL" in str(error) else ""
            raise ValueError(f"dataset {name!r} cannot be stored: {error}{way_out}") from error
        except TypeError as error:
            way_out = "convert it first, for example array.astype('S') or array.astype('f8')"
            raise TypeError(f"dataset {name!r}: HDF5 cannot hold dtype {array.dtype} ({error}): {way_out}") from error

    def _describe(self, dataset: h5py.Dataset, dtype: np.dtype[Any], attrs: Mapping[str, Any] | None) -> None:
        dataset.attrs["dtype"] = describe(dtype)
        if dataset.shape:
            dataset.attrs["rows"] = len(dataset)
        dataset.attrs.update(cf_attributes(dtype))
        write_attributes(dataset, str(dataset.name).lstrip("/"), attrs or {})


def _check_fixed_size(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject or has_unicode(dtype):
        raise TypeError(f"dataset {name!r}: type {dtype} has no fixed size in a file; use S instead")


def _file_for(
    path: str | os.PathLike[str], mode: Mode, resume: Mapping[str, str] | None, swmr: bool
) -> AtomicFile | ResumableFile | InPlaceFile:
    if resume is not None and swmr:
        raise ValueError("swmr=True adds rows in place, which cannot be resumed: leave resume out")
    if swmr and mode == "a" and is_there(path):
        return InPlaceFile(path)
    return AtomicFile(path, mode) if resume is None else ResumableFile(path, mode, resume)


def _create_in(file: h5py.File, name: str, dtype: np.dtype[Any], **options: Any) -> h5py.Dataset:
    what = f"dataset {name!r}: dtype {dtype!s:.100}"
    if not all(map(is_text, dtype.names or ())):
        raise ValueError(f"dataset {name!r}: HDF5 cannot hold the field names of {dtype}, rename them")
    if len(options["shape"]) > _MOST_AXES:
        way_out = f"HDF5 has {_MOST_AXES} at most: reshape it"
        raise ValueError(f"dataset {name!r} has {len(options['shape'])} axes, and {way_out}")
    try:
        dataset = file.create_dataset(name, dtype=dtype, **options)
    except (TypeError, ValueError) as error:
        if has_no_bytes(dtype):
            raise ValueError(f"{what} has values of no bytes, which HDF5 cannot hold: leave them out") from error
        way_out = "; columns of one type can be one array instead" if len(dtype.names or ()) > _MANY_FIELDS else ""
        raise type(error)(f"{what} cannot be stored: {error}{way_out}") from error
    if dataset.dtype.names != dtype.names:
        raise ValueError(f"dataset {name!r}: HDF5 cannot hold the field names of {dtype}, rename them")
    return dataset


def _stored(name: str, array: Array) -> Array:
    try:
        return to_storage(array)
    except UnicodeEncodeError as error:
        raise _no_text(name, error) from error


def _no_text(name: str, error: UnicodeEncodeError) -> ValueError:
    way_out = "encode it first, for example numpy.char.encode(array, 'utf-8', 'surrogateescape')"
    return ValueError(
        f"dataset {name!r} has text that is no Unicode: {str(error.object)!r:.60} has surrogates; {way_out}"
    )


def writable(name: str, data: Any) -> Array:
    """Return data as an array, when it can be a dataset."""
    check_name(name)
    if is_masked(data):
        raise TypeError(f"dataset {name!r} is a masked array, and HDF5 has no mask: give array.filled(value)")
    return np.asarray(data)
