"""Arrays from an HDF5 file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import h5py
import numpy as np

from onecopy._arrays import empty
from onecopy._hdf5.filters import thread_count
from onecopy._hdf5.layouts import read_rows
from onecopy._hdf5.opening import Path, dataset_names, find_dataset, named_errors, open_file
from onecopy._hdf5.storage import Array, from_storage

Fields = str | Sequence[str]

# What is read at a time when not all of it is wanted.
_BLOCK_BYTES = 32 << 20


@overload
def from_hdf5(
    path: Path, name: str, *, rows: slice | None = None, fields: Fields | None = None, threads: int | None = None
) -> Array: ...
@overload
def from_hdf5(path: Path, name: None = None, *, threads: int | None = None) -> dict[str, Array]: ...
def from_hdf5(
    path: Path,
    name: str | None = None,
    *,
    rows: slice | None = None,
    fields: Fields | None = None,
    threads: int | None = None,
) -> Array | dict[str, Array]:
    """Read one dataset, or all datasets, of an HDF5 file into shared memory.

    Contiguous datasets, and chunks without filters or with those that `to_hdf5` runs itself, are read and decompressed
    on all cores; so are the sources of virtual datasets that join rows. Everything else is read by h5py. Types that
    HDF5 lacks (dates, Unicode strings) come back as `to_hdf5` got them.

    Parameters
    ----------
    path : str or path-like
        The file.
    name : str, optional
        The dataset, with its groups: ``"run1/reads"``. Without a name, all of them are read.
    rows : slice, optional
        Which indices of the first axis to read, as in ``array[rows]``. Only chunks that hold some of them are read.
    fields : str or sequence of str, optional
        Which fields of records to read: one gives a plain array, as ``array["pos"]`` does, a sequence gives records of
        these fields, without gaps.
    threads : int, optional
        How many threads read and decompress; by default one per available processor.

    Returns
    -------
    numpy.ndarray or dict of str to numpy.ndarray
        The array, or all arrays by name. They lie in shared memory, as those of `onecopy.empty`, except for strings of
        any length, which are Python objects, and Unicode strings, which are decoded into memory of this process.

    Raises
    ------
    FileNotFoundError
        There is no such file, or a virtual dataset is made of one that is missing.
    KeyError
        There is no dataset, or field, of that name; the message lists those that there are.
    OSError
        The file is not HDF5, it is damaged or truncated, or it shrank while it was read.
    TypeError, ValueError
        `rows` is no slice, or the dataset has no rows or no fields.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a.h5")
    >>> calls = np.array([(b"chr1", 100), (b"chr1", 250), (b"chr2", 7)], [("chr", "S4"), ("pos", "i4")])
    >>> oc.to_hdf5(path, {"calls": calls, "day": np.array(["2020-01-01", "NaT"], "M8[D]")})
    >>> oc.from_hdf5(path, "day")
    array(['2020-01-01',        'NaT'], dtype='datetime64[D]')
    >>> oc.from_hdf5(path, "calls", rows=slice(1, None), fields="pos")
    array([250,   7], dtype=int32)
    >>> sorted(oc.from_hdf5(path))
    ['calls', 'day']
    """
    threads = thread_count(threads)
    if rows is not None and not isinstance(rows, slice):
        raise TypeError(f"rows={rows!r}: give a slice, for example slice(0, 1000)")
    if name is None and (rows is not None or fields is not None):
        raise ValueError("rows and fields are those of one dataset: give its name too")
    with open_file(path) as file:
        if name is not None:
            return _read(find_dataset(file, name), rows, fields, threads)
        return {found: _read(file[found], None, None, threads) for found in dataset_names(file)}


def _read(dataset: h5py.Dataset, rows: slice | None, fields: Fields | None, threads: int) -> Array:
    if rows is not None and not dataset.shape:
        raise ValueError(f"rows={rows!r}: dataset {dataset.name!r} is a scalar and has no rows")
    if fields is not None:
        _check_fields(dataset, fields)
    with named_errors(dataset):
        if dataset.shape is None:
            return np.empty(0, dataset.dtype)
        if dataset.dtype.hasobject:
            return _read_objects(dataset, rows, fields)
        if rows is None and fields is None:
            array = empty(dataset.shape, dataset.dtype)
            read_rows(dataset, array, 0, threads)
        else:
            array = _read_selected(dataset, rows, fields, threads)
    array = _without_notes(array)
    dtype = dataset.attrs.get("dtype")
    return from_storage(array, dtype, fields) if isinstance(dtype, str) else array


def _check_fields(dataset: h5py.Dataset, fields: Fields) -> None:
    names = dataset.dtype.names
    if names is None:
        raise ValueError(f"fields={fields!r}: dataset {dataset.name!r} has the type {dataset.dtype} and no fields")
    for field in [fields] if isinstance(fields, str) else fields:
        if field not in names:
            raise KeyError(f"no field {field!r} in dataset {dataset.name!r}; there are: {', '.join(names)}")


def _read_objects(dataset: h5py.Dataset, rows: slice | None, fields: Fields | None) -> Array:
    """Leave strings of any length to h5py."""
    text = h5py.check_string_dtype(dataset.dtype) is not None
    # Bytes that are no UTF-8 stay what they are, as in names of files: `os.fsencode` gives them back.
    data = np.asarray(dataset.asstr(errors="surrogateescape")[()] if text else dataset[()])
    chosen = data if rows is None else data[rows]
    if fields is None:
        return chosen
    return np.array(chosen[fields] if isinstance(fields, str) else chosen[list(fields)])


def _read_selected(dataset: h5py.Dataset, rows: slice | None, fields: Fields | None, threads: int) -> Array:
    dtype = _select(dataset.dtype, fields)
    if not dataset.shape:
        whole = np.empty((), dataset.dtype)
        read_rows(dataset, whole, 0, threads)
        array = empty((), dtype)
        _copy_fields(whole, array, fields)
        return array
    wanted = range(len(dataset))[slice(None) if rows is None else rows]
    array = empty((len(wanted), *dataset.shape[1:]), dtype)
    if fields is None and wanted.step == 1:
        read_rows(dataset, array, wanted.start, threads)
        return array
    for part, block in _blocks(dataset, wanted, threads):
        _copy_fields(block, array[part], fields)
    return array


def _select(dtype: np.dtype[Any], fields: Fields | None) -> np.dtype[Any]:
    if fields is None:
        return dtype
    return dtype[fields] if isinstance(fields, str) else np.dtype([(field, dtype[field]) for field in fields])


def _copy_fields(block: Array, array: Array, fields: Fields | None) -> None:
    if fields is None or isinstance(fields, str):
        array[...] = block if fields is None else block[fields]
        return
    for field in fields:
        array[field] = block[field]


def _blocks(dataset: h5py.Dataset, wanted: range, threads: int) -> Iterator[tuple[slice, Array]]:
    """Yield the wanted rows, block by block, each with its place among them."""
    row_bytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:])))
    whole = dataset.chunks[0] if dataset.chunks else 1
    rows = max(1, _BLOCK_BYTES // (row_bytes * whole)) * whole
    ordered = wanted if wanted.step > 0 else wanted[::-1]
    memory = np.empty((min(rows, len(dataset)), *dataset.shape[1:]), dataset.dtype)
    done = 0
    while done < len(ordered):
        # From the next wanted row on to the end of its block; in between may be none.
        first = ordered[done]
        end = min((first // rows + 1) * rows, ordered[-1] + 1)
        part = ordered[done : done + len(range(first, end, ordered.step))]
        block = memory[: end - first]
        read_rows(dataset, block, first, threads)
        chosen = block[:: ordered.step]
        if wanted.step > 0:
            yield slice(done, done + len(part)), chosen
        else:
            yield slice(len(wanted) - done - len(part), len(wanted) - done), chosen[::-1]
        done += len(part)


def _without_notes(array: Array) -> Array:
    """Drop what h5py notes in a type (such as "these bytes are UTF-8"), without which it does not read them."""
    return array if array.dtype.metadata is None else array.view(array.dtype.str)
