"""Arrays into one HDF5 file, which appears under its name only when it is complete."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from onecopy import _native
from onecopy._arrays import is_masked
from onecopy._hdf5.atomic import AtomicFile, Mode
from onecopy._hdf5.background import BackgroundWriter
from onecopy._hdf5.filters import Chunks, Codec, Filters, native_codec, thread_count
from onecopy._hdf5.storage import OPEN_BYTES, Array, cf_attributes, describe, has_unicode, to_storage

Report = Callable[[int], object]

# What is written, or copied because it is not contiguous, at a time: large enough to be as fast as one call, small
# enough for progress, Ctrl-C and memory.
_BLOCK_BYTES = 32 << 20
# What is as large as this begins at a page of the file, as writing past the page cache asks for.
_ALIGNED_BYTES = 1 << 20
_PAGE = 4096
# What libhdf5 may allocate besides the data itself: for the file, for a dataset, and in its index for a chunk.
_FILE_METADATA_BYTES = 128 << 10
_DATASET_METADATA_BYTES = 4 << 10
_CHUNK_METADATA_BYTES = 64
# What a filter may add to a chunk that does not shrink.
_EXPANSION = 1.01
# HDF5 describes a type in 64 KiB: somewhere above this many fields, that is too little.
_MANY_FIELDS = 500


def to_hdf5(
    path: str | os.PathLike[str],
    data: Mapping[str, npt.ArrayLike] | Iterable[tuple[str, npt.ArrayLike]] | npt.ArrayLike,
    *,
    chunks: Chunks = None,
    compression: str | int | None = None,
    compression_opts: Any = None,
    shuffle: bool | None = None,
    fletcher32: bool = False,
    mode: Mode = "x",
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool | Report = False,
    threads: int | None = None,
) -> None:
    """Write arrays into an HDF5 file, one dataset each.

    The file appears under its name only when it is complete and on the disk. After an error, Ctrl-C or a kill, what was
    there before is unchanged. Chunks are compressed on all cores; uncompressed arrays are contiguous in the file.

    Parameters
    ----------
    path : str or path-like
        The file.
    data : mapping of str to array, iterable of (str, array), or array
        The datasets by name; a name may contain groups: ``"run1/reads"``. An iterable is consumed step by step, so that
        not all arrays need to exist at once. A single array becomes the dataset ``data``.
    chunks : bool, int or tuple of int, optional
        Shape of the chunks; an integer is a number of rows. By default, arrays without filters are contiguous, and
        others have chunks of about 1 MiB. An axis of a chunk is never longer than that of its array.
    compression : {"gzip", "lzf", "szip"} or int, optional
        As in h5py: 0 to 9 is a gzip level, a larger number is that of a registered HDF5 filter. gzip and lzf run on all
        cores, the others in libhdf5 on one.
    compression_opts : int, optional
        The gzip level, 0 to 9 (default 4), or the options of another filter.
    shuffle : bool, optional
        Reorder bytes before compression, which makes numbers smaller. On by default with gzip and lzf.
    fletcher32 : bool, default False
        Add check sums to the chunks; compression then runs in libhdf5 on one core.
    mode : {"x", "w", "a"}, default "x"
        "x" refuses an existing file, "w" replaces it, "a" adds to it (on a copy, which then replaces it).
    attrs : mapping of str to mapping, optional
        Attributes by dataset name, besides ``dtype`` (numpy's text for the type) and ``rows``.
    progress : bool or callable, default False
        ``True`` shows a progress bar on a terminal; a function is called with the number of bytes just written.
    threads : int, optional
        How many threads compress; by default one per available processor.

    Raises
    ------
    FileExistsError
        Mode "x" and the file exists.
    FileNotFoundError, IsADirectoryError, PermissionError
        The directory does not exist, the path is a directory, or the directory cannot be written to.
    OSError
        The disk is full (``errno.ENOSPC``): with the bytes needed and free.
    TypeError
        A type that HDF5 cannot hold, or a masked array.
    ValueError
        A dataset of that name exists already, or filter options do not fit.

    Notes
    -----
    All types without Python objects are kept exactly. Dates (``datetime64``, ``timedelta64``) are stored as integers
    with the attributes of the CF conventions, and Unicode strings as UTF-8; `from_hdf5` brings both back.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "calls.h5")
    >>> calls = np.array([(b"chr1", 100, 87.5)], dtype=[("chr", "S10"), ("pos", "<i4"), ("pct", "<f4")])
    >>> oc.to_hdf5(path, {"sample1": calls}, compression="gzip", attrs={"sample1": {"source": "calls.txt"}})
    >>> oc.from_hdf5(path, "sample1")["pos"]
    array([100], dtype=int32)
    >>> oc.to_hdf5(path, calls)
    Traceback (most recent call last):
    FileExistsError: [Errno 17] exists already: choose another name, or replace it with mode='w' ...
    """
    filters = Filters(chunks, compression, compression_opts, shuffle, fletcher32)
    datasets, sizes = _datasets(data)
    with ExitStack() as stack:
        report = _reporter(progress, sizes, stack)
        writer = stack.enter_context(Hdf5Writer(path, mode, filters, threads=threads, report=report))
        if sizes is not None and compression is None:
            writer.ensure_room(sizes)
        unused = dict(attrs or {})
        for name, array in datasets:
            # An array that the iterable has kept may be changed by its next step; one that it made for us may not.
            later = sizes is None and _native.is_exclusive(array)
            writer.write(name, array, unused.pop(name, None), later=later)
            # Its memory is free for the next one as soon as it is written.
            del array
        if unused:
            raise ValueError(f"attrs for {', '.join(map(repr, unused))}, but there is no such dataset: check the names")


class Hdf5Writer:
    """An HDF5 file under construction: committed when the context ends without an error, and discarded otherwise.

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
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Mode,
        filters: Filters,
        *,
        threads: int | None = None,
        report: Report | None = None,
    ) -> None:
        self.filters = filters
        self._threads = thread_count(threads)
        self._report = report or (lambda _: None)
        self._file = AtomicFile(path, mode)
        self._room = 0

    def __enter__(self) -> Hdf5Writer:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            self._h5 = self._open()
            stack.callback(self._close_after_error)
            self._background = BackgroundWriter(self._file.fileno(), self._report)
            stack.callback(self._background.close)
            if not self._file.copied:
                self._h5.attrs.update(creator="onecopy", version=_native.__version__)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._cleanup:
            if kind is None:
                self._background.settle()
                self._h5.close()
                self._file.commit()

    def _open(self) -> h5py.File:
        if self._file.copied and not h5py.is_hdf5(self._file.temporary):
            raise OSError(f"{self._file.given} is not an HDF5 file: nothing can be added; replace it with mode='w'")
        _native.check_work_memory(OPEN_BYTES)
        # Nobody else knows the temporary; a lock by libhdf5 fails on some network file systems.
        return h5py.File(
            self._file.temporary,
            "r+" if self._file.copied else "w",
            locking=False,
            alignment_threshold=_ALIGNED_BYTES,
            alignment_interval=_PAGE,
        )

    def _close_after_error(self) -> None:
        # A file that is discarded may also be one that libhdf5 cannot finish.
        with suppress(Exception):
            self._h5.close()

    def ensure_room(self, size: int) -> None:
        """Make sure that the disk has room for `size` more bytes, before they are written.

        libhdf5 does not survive a full disk: it keeps what it could not write and crashes later. So it never meets one.
        """
        if size > self._room:
            end = self._h5.id.get_filesize() + _FILE_METADATA_BYTES
            self._room = self._file.reserve(end + size) - end

    def _take_room(self, size: int) -> None:
        self.ensure_room(size)
        self._room -= size

    def write(
        self, name: str, array: npt.ArrayLike, attrs: Mapping[str, Any] | None = None, *, later: bool = False
    ) -> None:
        """Write an array as a dataset with its attributes.

        With `later`, nobody else may change the array any more, and it may still be on its way when this returns: the
        next call, or the end of the context, waits for it.
        """
        array = _writable(name, array)
        self._background.settle()
        self._check_new(name)
        if array.dtype.hasobject or array.dtype.kind == "T":
            dataset = self._create_object(name, array)
        else:
            stored = to_storage(array)
            options = self.filters.for_dataset(stored.shape, stored.dtype)
            if "chunks" not in options:
                options["dcpl"] = _placed_at_once()
            dataset = self._create(name, stored.dtype, shape=stored.shape, **options)
            self._write_rows(dataset, stored, 0, later=later)
        self._describe(dataset, array, attrs)

    def grow(self, name: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> GrowingDataset:
        """Begin a dataset to which arrays of rows of one shape are appended."""
        self._check_new(name)
        empty = np.empty((0, *row_shape), dtype)
        if has_unicode(empty.dtype):
            raise TypeError(f"dataset {name!r}: strings of type U have no fixed length in a file; use S instead")
        stored = to_storage(empty)
        options = self.filters.for_dataset(stored.shape, stored.dtype, growing=True)
        dataset = self._create(name, stored.dtype, shape=stored.shape, maxshape=(None, *row_shape), **options)
        self._describe(dataset, empty, None)
        return GrowingDataset(dataset, empty, self._write_rows)

    def check_dtype(self, name: str, dtype: np.dtype[Any]) -> None:
        """Raise what `write` would raise for the type, before there is an array."""
        with h5py.File(io.BytesIO(), "w") as scratch:
            _create_in(scratch, name, to_storage(np.empty(0, dtype)).dtype, shape=(0,))

    def _check_new(self, name: str) -> None:
        self._take_room(_DATASET_METADATA_BYTES)
        if name in self._h5:
            raise ValueError(f"dataset {name!r} is in {self._file.given} already: give another name")
        groups = (name.rsplit("/", depth)[0] for depth in range(1, name.strip("/").count("/") + 1))
        for group in groups:
            if isinstance(self._h5.get(group), h5py.Dataset):
                raise ValueError(f"dataset {name!r}: {group!r} is a dataset and no group, give another name")

    def _create(self, name: str, dtype: np.dtype[Any], **options: Any) -> h5py.Dataset:
        return _create_in(self._h5, name, dtype, **options)

    def _create_object(self, name: str, array: Array) -> h5py.Dataset:
        """Leave types with Python objects inside (strings of any length) to h5py."""
        try:
            return self._h5.create_dataset(name, data=array)
        except TypeError as error:
            way_out = "convert it first, for example array.astype('S') or array.astype('f8')"
            raise TypeError(f"dataset {name!r}: HDF5 cannot hold dtype {array.dtype} ({error}): {way_out}") from error

    def _describe(self, dataset: h5py.Dataset, array: Array, attrs: Mapping[str, Any] | None) -> None:
        dataset.attrs["dtype"] = describe(array.dtype)
        if array.ndim:
            dataset.attrs["rows"] = len(array)
        for key, value in {**cf_attributes(array.dtype), **(attrs or {})}.items():
            dataset.attrs[key] = value

    def _write_rows(self, dataset: h5py.Dataset, array: Array, start: int, *, later: bool = False) -> None:
        """Write an array into a dataset from row `start` on, which with chunks is the first row of a chunk."""
        if not array.size:
            return
        if not dataset.chunks:
            self._take_room(array.nbytes)
            if array.ndim:
                self._write_contiguous(dataset, array, later=later)
            else:
                # h5py does not let anybody say how a scalar is stored.
                dataset.write_direct(array)
            return
        codec = native_codec(dataset)
        for first, block in _blocks(array, dataset.chunks, whole=codec is not None):
            if codec is None:
                self._write_block(dataset, block, start + first)
            else:
                self._write_compressed(dataset, block, start + first, codec)

    def _write_contiguous(self, dataset: h5py.Dataset, array: Array, *, later: bool) -> None:
        """Write past libhdf5, which would copy on one core into the page cache."""
        position = dataset.id.get_offset()
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
        self.ensure_room(_stored_bytes(block, dataset.chunks))
        dataset.write_direct(block, dest_sel=np.s_[row : row + len(block)])
        # What waits in the cache of chunks takes room later; how much, libhdf5 does not say.
        dataset.flush()
        self._room = 0
        self._file.start_writeback()
        self._report(block.nbytes)

    def _write_compressed(self, dataset: h5py.Dataset, block: Array, row: int, codec: Codec) -> None:
        """Compress one block on all cores and hand the chunks over."""
        chunk_bytes = math.prod(dataset.chunks) * block.itemsize
        left = block.nbytes

        def store(origin: tuple[int, ...], chunk: bytes, mask: int) -> None:
            nonlocal left
            self._take_room(len(chunk) + _CHUNK_METADATA_BYTES)
            dataset.id.write_direct_chunk((origin[0] + row, *origin[1:]), chunk, mask)
            done = min(chunk_bytes, left)
            left -= done
            self._report(done)

        _native.compress_chunks(
            block,
            dataset.chunks,
            codec=codec.name,
            level=codec.level,
            shuffle=codec.shuffle,
            threads=self._threads,
            write=store,
        )


class GrowingDataset:
    """A dataset to which arrays are appended. Rows that do not fill a chunk wait for the next array or `finish`."""

    def __init__(
        self, dataset: h5py.Dataset, empty: Array, write_rows: Callable[[h5py.Dataset, Array, int], None]
    ) -> None:
        self.dtype = empty.dtype
        self.row_shape = empty.shape[1:]
        self._dataset = dataset
        self._write_rows = write_rows
        self._waiting = to_storage(empty)
        self._written = 0

    def append(self, array: Array) -> None:
        """Add the rows of an array of the dataset's type."""
        rows = self._dataset.chunks[0]
        stored = to_storage(array)
        if len(self._waiting):
            missing = rows - len(self._waiting)
            self._waiting = np.concatenate([self._waiting, stored[:missing]])
            stored = stored[missing:]
            if len(self._waiting) < rows:
                return
            self._put(self._waiting)
        whole = len(stored) // rows * rows
        self._put(stored[:whole])
        self._waiting = stored[whole:].copy()

    def finish(self) -> None:
        """Write what is waiting."""
        self._put(self._waiting)
        self._dataset.attrs["rows"] = self._written

    def _put(self, array: Array) -> None:
        self._dataset.resize(self._written + len(array), axis=0)
        self._write_rows(self._dataset, array, self._written)
        self._written += len(array)


def _create_in(file: h5py.File, name: str, dtype: np.dtype[Any], **options: Any) -> h5py.Dataset:
    try:
        dataset = file.create_dataset(name, dtype=dtype, **options)
    except (TypeError, ValueError) as error:
        way_out = "; columns of one type can be one array instead" if len(dtype.names or ()) > _MANY_FIELDS else ""
        raise type(error)(f"dataset {name!r}: dtype {dtype!s:.100} cannot be stored: {error}{way_out}") from error
    if dataset.dtype.names != dtype.names:
        raise ValueError(f"dataset {name!r}: HDF5 cannot hold the field names of {dtype}, rename them")
    return dataset


def _placed_at_once() -> h5py.h5p.PropDCID:
    """Build the properties of a dataset that has its place in the file, unfilled, when it is created."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def _datasets(data: Any) -> tuple[Iterator[tuple[str, Any]], int | None]:
    """Return the datasets and, when they are all there, their bytes."""
    if isinstance(data, Mapping):
        arrays = {name: _writable(name, array) for name, array in data.items()}
        return iter(arrays.items()), sum(array.nbytes for array in arrays.values())
    if hasattr(data, "__array__") or not isinstance(data, Iterable):
        array = _writable("data", data)
        return iter([("data", array)]), array.nbytes
    return map(_pair, data), None


def _pair(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return item
    way_out = "give a mapping, pairs, or an array (numpy.asarray of a list)"
    raise TypeError(f"{item!r:.80} is no pair (name, array): {way_out}")


def _writable(name: str, data: Any) -> Array:
    if not isinstance(name, str) or not name.strip("/"):
        raise TypeError(f"{name!r} is no name for a dataset: give a string that is not empty")
    if is_masked(data):
        raise TypeError(f"dataset {name!r} is a masked array, and HDF5 has no mask: give array.filled(value)")
    return np.asarray(data)


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
    return count * (chunk_bytes + _CHUNK_METADATA_BYTES)


def _reporter(progress: bool | Report, total: int | None, stack: ExitStack) -> Report | None:
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return None
    from tqdm import tqdm

    # `disable=None`: on a terminal only.
    bar = stack.enter_context(tqdm(total=total, unit="B", unit_scale=True, disable=None))
    return lambda size: bar.update(size)
