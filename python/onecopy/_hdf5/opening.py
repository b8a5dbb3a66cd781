"""HDF5 files of others, opened for reading, with errors that name them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import h5py

from onecopy import _native
from onecopy._hdf5.dimensions import is_without_values
from onecopy._hdf5.storage import OPEN_BYTES
from onecopy._names import is_text

Path = str | os.PathLike[str]


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading."""
    path = os.fspath(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "is a directory: give an HDF5 file", path)
    with open(path, "rb"):
        # FileNotFoundError and PermissionError come from here, in Python's words.
        pass
    if not h5py.is_hdf5(path):
        raise OSError(errno.EINVAL, "is not an HDF5 file", path)
    _native.check_work_memory(OPEN_BYTES)
    try:
        return h5py.File(path, "r")
    except BlockingIOError:
        what = "is being written by another process: wait until it is done"
        raise BlockingIOError(errno.EAGAIN, what, path) from None
    except OSError as error:
        # One that is being written for others to read meanwhile must be opened as such.
        with suppress(OSError):
            return h5py.File(path, "r", swmr=True)
        raise OSError(error.errno or errno.EIO, f"cannot be opened: {error}", path) from error


def dataset_names(file: h5py.File) -> list[str]:
    """Return the names of all datasets with values, those in groups as ``group/name``."""
    names: list[str] = []

    def note(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and not is_without_values(node):
            names.append(name)

    file.visititems(note)
    return names


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset by its name; the error for another name lists those that there are."""
    node = file.get(name) if is_text(name) else None
    if isinstance(node, h5py.Dataset):
        return node
    raise KeyError(f"no dataset {name!r} in {file.filename}; there are: {', '.join(dataset_names(file)) or 'none'}")


@contextmanager
def named_errors(dataset: h5py.Dataset) -> Iterator[None]:
    """Let errors of reading say which file and which dataset it was."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        number = (isinstance(error, OSError) and error.errno) or errno.EIO
        raise OSError(number, f"dataset {dataset.name!r} cannot be read: {reason}", dataset.file.filename) from error
