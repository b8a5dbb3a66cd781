"""Names and coordinates of axes, as netCDF-4 keeps them in HDF5: dimension scales.

A dimension is a dataset of one axis in the root group, marked as a scale and attached to an axis of every dataset that
has the dimension. Its values are the coordinates; a dimension without coordinates is a dataset without values, with a
mark that netCDF knows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from onecopy._arrays import is_masked
from onecopy._hdf5.storage import Array
from onecopy._names import check_name

Dims = Sequence[str] | Mapping[str, Sequence[str]]

_WITHOUT_VALUES = b"This is a netCDF dimension but not a netCDF variable."


class Labels:
    """Names and coordinates of axes, checked, and which datasets have them.

    Parameters
    ----------
    dims, coords
        As users give them, see `onecopy.to_hdf5`.

    Attributes
    ----------
    axes : dict of str to sequence of str
        The dimensions of each dataset that has been added and has some.
    coords : dict of str to numpy.ndarray
        The coordinates.

    Raises
    ------
    TypeError, ValueError
        What is wrong whatever the datasets are.
    """

    def __init__(self, dims: Dims | None, coords: Mapping[str, npt.ArrayLike] | None) -> None:
        self._dims = dims
        self._names = _all_names(dims)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.axes: dict[str, Sequence[str]] = {}
        if coords is not None and not isinstance(coords, Mapping):
            raise TypeError(f"coords: {coords!r:.80}: give a mapping of the names of dimensions to arrays")
        self.coords = {name: _coordinate(name, values) for name, values in (coords or {}).items()}
        for name in self.coords:
            if name not in self._names:
                known = ", ".join(sorted(self._names)) or "no names"
                raise ValueError(f"coords for {name!r}, but dims has {known}: add it there")

    def add(self, name: str, shape: tuple[int, ...]) -> None:
        """Note a dataset, before it is written: its dimensions are those under its name, or of as many axes."""
        top, *inner = name.strip("/").split("/")
        if top in self._names and (inner or len(shape) != 1):
            raise ValueError(_taken(top, None if inner else len(shape)))
        if isinstance(self._dims, Mapping):
            axes = self._dims.get(name)
            if axes is not None and len(axes) != len(shape):
                dims = ", ".join(axes)
                raise ValueError(f"dims of {name!r} are {dims}, but it has {len(shape)} axes: give a name for each")
        else:
            axes = self._dims if self._dims is not None and len(self._dims) == len(shape) else None
        if axes is not None:
            self.axes[name] = axes
            self._shapes[name] = shape

    def check(self) -> None:
        """Raise `ValueError` for what does not fit the datasets, when all have been added."""
        lengths = axis_lengths(self.axes, self._shapes)
        if isinstance(self._dims, Mapping) and (unknown := set(self._dims) - set(self.axes) - set(self.coords)):
            names = ", ".join(map(repr, sorted(unknown)))
            raise ValueError(f"dims for {names}, but there is no such dataset: check the names")
        for name, values in self.coords.items():
            if name not in lengths:
                raise ValueError(f"coords for {name!r}, but no dataset has that dimension: see dims")
            if len(values) != (length := lengths[name]):
                raise ValueError(f"dimension {name!r} has {length} indices, but coords {len(values)} values for it")

    def texts(self) -> dict[str, str]:
        """Return what is the same in two calls that give the same, and, unlike, differs."""
        if self._dims is None:
            return {}
        by_name = {key: list(axes) for key, axes in self._dims.items()} if isinstance(self._dims, Mapping) else None
        sums = {name: _check_sum(values) for name, values in self.coords.items()}
        return {"dims": repr(by_name or list(self._names)), "coords": repr(sums)}


def _check_sum(values: Array) -> str:
    return f"{len(values)} of {values.dtype}, {zlib.crc32(repr(values.tolist()).encode(errors='surrogatepass')):08x}"


def _coordinate(name: str, values: npt.ArrayLike) -> Array:
    if is_masked(values):
        raise TypeError(f"coords for {name!r} are masked, and coordinates have no mask: give array.filled(value)")
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"coords for {name!r} have the shape {array.shape}: give one value for each index")
    if array.dtype.kind == "O" and not all(isinstance(value, str) for value in array):
        raise TypeError(f"coords for {name!r} are Python objects: give numbers, dates or text")
    # Text of a fixed length would be bytes to xarray.
    return array.astype(object) if array.dtype.kind in "UT" else array


def _all_names(dims: Dims | None) -> list[str]:
    """Return the names of all dimensions, which can be names of datasets in the root group."""
    found: list[str] = []
    for axes in dims.values() if isinstance(dims, Mapping) else [] if dims is None else [dims]:
        if isinstance(axes, str) or not isinstance(axes, Sequence):
            raise TypeError(f"dims: {axes!r}: give a list of names, one for each axis")
        found.extend(axes)
    for name in found:
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"dims: {name!r} is no name for a dimension: give a string without '/'")
        check_name(name)
    return found


def _taken(name: str, ndim: int | None) -> str:
    what = "a group" if ndim is None else f"a dataset with {ndim} axes"
    return f"dimension {name!r}: {name!r} is that of {what}: give one of the two another name"


def axis_lengths(axes: Mapping[str, Sequence[str]], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the length of each dimension, which must be the same wherever it is."""
    lengths: dict[str, tuple[int, str]] = {}
    for dataset, names in axes.items():
        for name, length in zip(names, shapes[dataset], strict=True):
            known, where = lengths.setdefault(name, (length, dataset))
            if known != length:
                raise ValueError(f"dimension {name!r} has {known} indices in {where!r}, but {length} in {dataset!r}")
    return {name: length for name, (length, _) in lengths.items()}


def label_axes(file: h5py.File, axes: Mapping[str, Sequence[str]]) -> None:
    """Attach dimensions to the axes of datasets; coordinates are datasets of the root group already."""
    lengths = axis_lengths(axes, {dataset: file[dataset].shape for dataset in axes})
    for name, length in lengths.items():
        _make_scale(file, name, length)
    for dataset, names in axes.items():
        # A scale has no scales.
        if list(names) == [dataset]:
            continue
        for axis, name in zip(file[dataset].dims, names, strict=True):
            axis.attach_scale(file[name])


def _make_scale(file: h5py.File, name: str, length: int) -> None:
    if name not in file:
        # No values are written, so none take room.
        empty = file.create_dataset(name, (length,), ">f4")
        empty.make_scale(f"{_WITHOUT_VALUES.decode()}{length:10d}")
    elif not isinstance(file[name], h5py.Dataset) or file[name].ndim != 1:
        raise ValueError(_taken(name, getattr(file[name], "ndim", None)))
    elif file[name].shape != (length,):
        shape = file[name].shape
        raise ValueError(f"dimension {name!r} has {length} indices, but the coordinates have the shape {shape}")
    elif not file[name].is_scale:
        file[name].make_scale(name)


def is_without_values(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset is there only to name a dimension."""
    name: Any = dataset.attrs.get("NAME", b"")
    return bool(h5py.h5ds.is_scale(dataset.id)) and isinstance(name, bytes) and name.startswith(_WITHOUT_VALUES)
