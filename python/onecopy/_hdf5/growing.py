"""A dataset to which rows are added."""

from __future__ import annotations

from typing import Protocol

import h5py
import numpy as np

from onecopy._hdf5.layouts import read_rows
from onecopy._hdf5.storage import Array, describe, to_storage


class WriteRows(Protocol):
    """Writes an array into a dataset from the first row of a chunk on; with `later`, it may be under way afterwards."""

    def __call__(self, dataset: h5py.Dataset, array: Array, start: int, *, later: bool) -> None: ...


class GrowingDataset:
    """A dataset to which arrays are appended. Rows that do not fill a chunk wait for the next array or `save`.

    Parameters
    ----------
    dataset : h5py.Dataset
        It has chunks and may grow along its first axis; its rows stay.
    empty : numpy.ndarray
        An array without rows, of the type and the shape of rows that are appended.
    write_rows : callable
        Writes an array into the dataset.
    """

    def __init__(self, dataset: h5py.Dataset, empty: Array, write_rows: WriteRows) -> None:
        self.dtype = empty.dtype
        self.row_shape = empty.shape[1:]
        self._dataset = dataset
        self._write_rows = write_rows
        rows: int = len(dataset)
        self._written: int = rows - rows % dataset.chunks[0]
        # A chunk is written as a whole, so the rows that do not fill one are written once more.
        self._waiting = _rows_from(dataset, self._written) if self._written < rows else to_storage(empty)

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return str(self._dataset.name)

    def __len__(self) -> int:
        return self._written + len(self._waiting)

    def append(self, array: Array, *, later: bool = False) -> None:
        """Add the rows of an array of the dataset's type.

        With `later`, nobody else may change it any more, and it may still be on its way when this returns.
        """
        check_rows(self._dataset, array, len(self) + len(array))
        rows = self._dataset.chunks[0]
        stored = to_storage(array)
        if len(self._waiting):
            missing = rows - len(self._waiting)
            self._waiting = _joined(self._waiting, stored[:missing])
            stored = stored[missing:]
            if len(self._waiting) < rows:
                return
            # Nobody else has that.
            self._put(self._waiting, later=True)
        whole = len(stored) // rows * rows
        self._put(stored[:whole], later=later)
        rest = stored[whole:]
        self._waiting = rest if later else rest.copy()

    def save(self) -> None:
        """Write what is waiting, which the next rows are joined to all the same."""
        self._dataset.resize(len(self), axis=0)
        has_readers = bool(self._dataset.file.id.get_intent() & h5py.h5f.ACC_SWMR_WRITE)
        self._write_rows(self._dataset, self._waiting, self._written, later=not has_readers)
        if has_readers:
            # The number of rows may not be seen before they are.
            self._dataset.flush()
        if "rows" in self._dataset.attrs:
            self._dataset.attrs.modify("rows", np.int64(len(self)))

    def _put(self, array: Array, *, later: bool) -> None:
        self._dataset.resize(self._written + len(array), axis=0)
        self._write_rows(self._dataset, array, self._written, later=later)
        self._written += len(array)


def _rows_from(dataset: h5py.Dataset, first: int) -> Array:
    """Return the rows of the last chunks, which begin at `first`; libhdf5 may lack their filters."""
    rows = np.empty((len(dataset) - first, *dataset.shape[1:]), dataset.dtype)
    read_rows(dataset, rows, first, threads=1)
    return rows


def _joined(one: Array, other: Array) -> Array:
    # In the very type of both, of which `concatenate` by itself keeps neither the byte order nor the padding.
    both = np.empty((len(one) + len(other), *one.shape[1:]), one.dtype)
    return np.concatenate([one, other], out=both)


def check_rows(dataset: h5py.Dataset, rows: Array, total: int) -> None:
    """Raise `ValueError` unless rows of this type and shape can be added to a dataset, which then has `total`."""
    name = f"dataset {dataset.name!r}"
    if not dataset.chunks or (dataset.maxshape[0] is not None and dataset.maxshape[0] < total):
        way_out = "write it with append=True, or with h5py's maxshape=(None, ...), from the beginning"
        raise ValueError(f"{name} cannot grow to {total:,} rows: {way_out}")
    dtype = dataset.attrs.get("dtype", describe(dataset.dtype))
    if dtype != describe(rows.dtype) or to_storage(rows[:0]).dtype != dataset.dtype:
        raise ValueError(f"{name} has the type {dtype}, but the rows to be added {describe(rows.dtype)}: use astype")
    if dataset.shape[1:] != rows.shape[1:]:
        raise ValueError(f"{name} has rows of shape {dataset.shape[1:]}, but those to be added have {rows.shape[1:]}")
