"""Names and coordinates of axes, as netCDF-4 keeps them in HDF5: dimension scales.

A dimension is a dataset of one axis in the root group, marked as a scale and attached to an axis of every dataset that
has the dimension. Its values are the coordinates; a dimension without coordinates is a dataset without values, with a
mark that netCDF knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from onecopy._hdf5.storage import Array

Dims = Sequence[str] | Mapping[str, Sequence[str]]

_WITHOUT_VALUES = b"This is a netCDF dimension but not a netCDF variable."


def check_dims(dims: Dims | None, coords: Mapping[str, npt.ArrayLike] | None) -> dict[str, Array]:
    """Return the coordinates as arrays; raise for what is wrong with them whatever the datasets are."""
    names = set() if dims is None else set(_all_names(dims))
    for name in names:
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"dims: {name!r} is no name for a dimension: give a string without '/'")
    arrays = {name: _coordinate(values) for name, values in (coords or {}).items()}
    for name, array in arrays.items():
        if name not in names:
            raise ValueError(
                f"coords for {name!r}, but dims has {', '.join(sorted(names)) or 'no names'}: add it there"
            )
        if array.ndim != 1:
            raise ValueError(f"coords for {name!r} have the shape {array.shape}: give one value for each index")
    return arrays


def _coordinate(values: npt.ArrayLike) -> Array:
    array = np.asarray(values)
    # Text of a fixed length would be bytes to xarray.
    return array.astype(object) if array.dtype.kind == "U" else array


def _all_names(dims: Dims) -> list[str]:
    return [name for axes in dims.values() for name in axes] if isinstance(dims, Mapping) else list(dims)


def axes_of(name: str, ndim: int, dims: Dims | None) -> Sequence[str] | None:
    """Return the dimensions of a dataset: those under its name, or those for all datasets with so many axes."""
    if dims is None:
        return None
    if not isinstance(dims, Mapping):
        return dims if len(dims) == ndim else None
    axes = dims.get(name)
    if axes is not None and len(axes) != ndim:
        raise ValueError(f"dims of {name!r} are {', '.join(axes)}, but it has {ndim} axes: give a name for each")
    return axes


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
    elif file[name].shape != (length,):
        shape = file[name].shape
        raise ValueError(f"dimension {name!r} has {length} indices, but the coordinates have the shape {shape}")
    elif not file[name].is_scale:
        file[name].make_scale(name)


def is_without_values(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset is there only to name a dimension."""
    name: Any = dataset.attrs.get("NAME", b"")
    return bool(h5py.h5ds.is_scale(dataset.id)) and isinstance(name, bytes) and name.startswith(_WITHOUT_VALUES)
