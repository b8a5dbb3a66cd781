"""Arrays from an HDF5 file."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import overload

import h5py
import numpy as np

from onecopy import _native
from onecopy._arrays import empty
from onecopy._hdf5.filters import Codec, native_codec, thread_count
from onecopy._hdf5.storage import OPEN_BYTES, Array, from_storage

Path = str | os.PathLike[str]


@overload
def from_hdf5(path: Path, name: str, *, threads: int | None = None) -> Array: ...
@overload
def from_hdf5(path: Path, name: None = None, *, threads: int | None = None) -> dict[str, Array]: ...
def from_hdf5(path: Path, name: str | None = None, *, threads: int | None = None) -> Array | dict[str, Array]:
    """Read one dataset, or all datasets, of an HDF5 file.

    Chunks compressed with gzip or lzf are decompressed on all cores; everything else is read by h5py. Types that HDF5
    lacks (dates, Unicode strings) come back as `to_hdf5` got them.

    Parameters
    ----------
    path : str or path-like
        The file.
    name : str, optional
        The dataset, with its groups: ``"run1/reads"``. Without a name, all of them are read.
    threads : int, optional
        How many threads decompress; by default one per available processor.

    Returns
    -------
    numpy.ndarray or dict of str to numpy.ndarray
        The array, or all arrays by name. They lie in shared memory, as those of `onecopy.empty`, except for strings of
        any length, which are Python objects, and Unicode strings, which are decoded into memory of this process.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    KeyError
        There is no dataset of that name; the message lists those that there are.
    OSError
        The file is not HDF5, or it is damaged.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a.h5")
    >>> oc.to_hdf5(path, {"x": np.arange(4), "t": np.array(["2020-01-01", "NaT"], "M8[D]")})
    >>> oc.from_hdf5(path, "x")
    array([0, 1, 2, 3])
    >>> sorted(oc.from_hdf5(path))
    ['t', 'x']
    """
    threads = thread_count(threads)
    with open_file(path) as file:
        if name is not None:
            return _read(_find(file, name), threads)
        return {found: _read(file[found], threads) for found in dataset_names(file)}


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, with errors that name it."""
    path = os.fspath(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "is a directory: give an HDF5 file", path)
    with open(path, "rb"):
        # FileNotFoundError and PermissionError come from here, in Python's words.
        pass
    if not h5py.is_hdf5(path):
        raise OSError(errno.EINVAL, "is not an HDF5 file", path)
    _native.check_work_memory(OPEN_BYTES)
    return h5py.File(path, "r")


def dataset_names(file: h5py.File) -> list[str]:
    """Return the names of all datasets, those in groups as ``group/name``."""
    names: list[str] = []
    file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names


def _find(file: h5py.File, name: str) -> h5py.Dataset:
    node = file.get(name)
    if isinstance(node, h5py.Dataset):
        return node
    raise KeyError(f"no dataset {name!r} in {file.filename}; there are: {', '.join(dataset_names(file)) or 'none'}")


def _read(dataset: h5py.Dataset, threads: int) -> Array:
    if dataset.dtype.hasobject or dataset.shape is None:
        text = h5py.check_string_dtype(dataset.dtype) is not None
        return np.asarray(dataset.asstr()[()] if text else dataset[()])
    array = empty(dataset.shape, dataset.dtype)
    codec = native_codec(dataset)
    if codec is not None:
        _read_compressed(dataset, array, codec, threads)
    elif array.size:
        dataset.read_direct(array)
    dtype = dataset.attrs.get("dtype")
    return from_storage(_without_notes(array), dtype) if isinstance(dtype, str) else _without_notes(array)


def _without_notes(array: Array) -> Array:
    """Drop what h5py notes in a type (such as "these bytes are UTF-8"), without which it does not read them."""
    return array if array.dtype.metadata is None else array.view(array.dtype.str)


def _read_compressed(dataset: h5py.Dataset, array: Array, codec: Codec, threads: int) -> None:
    file = dataset.file.filename
    steps = [range(0, size, step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)]
    origins: Iterable[tuple[int, ...]] = itertools.product(*steps)
    if dataset.id.get_num_chunks() < np.prod([len(step) for step in steps]):
        array[...] = dataset.fillvalue
        # A chunk that was never written has no place in the file.
        origins = (at for at in origins if dataset.id.get_chunk_info_by_coord(at).byte_offset is not None)

    def stored() -> Iterator[tuple[tuple[int, ...], bytes, int]]:
        for origin in origins:
            mask, chunk = dataset.id.read_direct_chunk(origin)
            yield origin, chunk, mask

    try:
        _native.decompress_chunks(
            array,
            dataset.chunks,
            codec=codec.name,
            shuffle=codec.shuffle,
            fletcher32=codec.fletcher32,
            threads=threads,
            stored=stored(),
        )
    except OSError as error:
        raise OSError(f"{file}: dataset {dataset.name!r} cannot be read: {error}") from error
