"""A dataset to which rows are added."""

from __future__ import annotations

from collections.abc import Callable

import h5py
import numpy as np

from onecopy._hdf5.storage import Array, to_storage


class GrowingDataset:
    """A dataset to which arrays are appended. Rows that do not fill a chunk wait for the next array or `save`.

    Parameters
    ----------
    dataset : h5py.Dataset
        It has chunks and may grow along its first axis; its rows stay.
    empty : numpy.ndarray
        An array without rows, of the type and the shape of rows that are appended.
    write_rows : callable
        Writes an array into the dataset from the first row of a chunk on.
    """

    def __init__(
        self, dataset: h5py.Dataset, empty: Array, write_rows: Callable[[h5py.Dataset, Array, int], None]
    ) -> None:
        self.dtype = empty.dtype
        self.row_shape = empty.shape[1:]
        self._dataset = dataset
        self._write_rows = write_rows
        rows: int = len(dataset)
        self._written: int = rows - rows % dataset.chunks[0]
        # A chunk is written as a whole, so the rows that do not fill one are written once more.
        self._waiting = dataset[self._written :] if self._written < rows else to_storage(empty)

    def __len__(self) -> int:
        return self._written + len(self._waiting)

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

    def save(self) -> None:
        """Write what is waiting, which the next rows are joined to all the same."""
        self._dataset.resize(len(self), axis=0)
        self._write_rows(self._dataset, self._waiting, self._written)
        self._dataset.attrs.modify("rows", np.int64(len(self)))

    def _put(self, array: Array) -> None:
        self._dataset.resize(self._written + len(array), axis=0)
        self._write_rows(self._dataset, array, self._written)
        self._written += len(array)
