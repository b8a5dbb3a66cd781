"""How numpy types that HDF5 lacks are stored: dates as integers, Unicode strings as UTF-8.

Every other type is stored as h5py maps it. The attribute ``dtype`` of a dataset holds the numpy type of the array that
was written, and `from_storage` brings that type back.

========================  ==========================================================================================
numpy                     stored as
========================  ==========================================================================================
``datetime64[unit]``      ``int64``; attributes ``units`` ("seconds since 1970-01-01") and ``calendar`` as in the
                          CF conventions for units from day to nanosecond, which xarray decodes;
                          ``_FillValue`` is NaT
``timedelta64[unit]``     ``int64``; attribute ``units`` ("seconds") for the same units
``U`` (Unicode)           fixed-length strings of UTF-8, as long as the longest one
========================  ==========================================================================================

The same holds for fields of structured types, without the attributes ``units``.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: What libhdf5 needs to open a file; one that gets less, under ``ulimit -v``, may crash instead of failing.
OPEN_BYTES = 8 << 20

_CF_UNITS = {
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}


def to_storage(array: Array) -> Array:
    """Return the array as HDF5 can hold it: itself, a view, or for Unicode strings a copy."""
    dtype = _without_dates(array.dtype)
    if not has_unicode(dtype):
        return array if dtype == array.dtype else array.view(dtype)
    if dtype.names is None:
        return _encode(array)
    fields = {name: to_storage(array[name]) for name in dtype.names}
    stored = np.empty(array.shape, [(name, field.dtype, field.shape[array.ndim :]) for name, field in fields.items()])
    for name, field in fields.items():
        stored[name] = field
    return stored


def from_storage(array: Array, dtype: str, fields: str | Sequence[str] | None = None) -> Array:
    """Undo `to_storage`, where `dtype` is what `describe` returned; an array that does not fit it stays as it is.

    An array of only some `fields` (or of one, by its name) is restored as those are.
    """
    try:
        target = parse_dtype(dtype)
        if fields is not None:
            target = target[fields] if isinstance(fields, str) else np.dtype([(name, target[name]) for name in fields])
    except (TypeError, ValueError, SyntaxError, KeyError):
        return array
    target = target.base if isinstance(fields, str) else target
    return _restore(array, target) if _fits(array.dtype, target) else array


def describe(dtype: np.dtype[Any]) -> str:
    """Return numpy's text for a type: ``int32``, ``<M8[s]``, ``[('chr', 'S10'), ('pos', '<i4')]``."""
    return str(np.dtype((np.void, dtype)) if dtype.names is not None else dtype)


def cf_attributes(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the attributes by which the CF conventions (and so xarray) know dates and durations."""
    if dtype.kind not in "mM":
        return {}
    unit, count = np.datetime_data(dtype)
    if count != 1 or unit not in _CF_UNITS:
        return {}
    units = _CF_UNITS[unit]
    if dtype.kind == "m":
        return {"units": units}
    missing = np.array(np.iinfo(np.int64).min, _without_dates(dtype))
    return {"units": f"{units} since 1970-01-01", "calendar": "proleptic_gregorian", "_FillValue": missing}


def parse_dtype(text: str) -> np.dtype[Any]:
    """Undo `describe`."""
    layout: Any = ast.literal_eval(text) if text.startswith(("[", "{")) else text
    parsed: np.dtype[Any] = np.dtype(layout)
    return parsed


def _without_dates(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type with integers in place of dates, of the same size and layout."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_without_dates(base), shape))
    if dtype.names is not None and dtype.fields is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        layout: Any = {
            "names": list(dtype.names),
            "formats": [_without_dates(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
        converted: np.dtype[Any] = np.dtype(layout)
        return converted
    return np.dtype(f"{dtype.str[0]}i8") if dtype.kind in "mM" else dtype


def has_unicode(dtype: np.dtype[Any]) -> bool:
    """Tell whether a type has Unicode strings in it, whose size in a file depends on their values."""
    base = dtype.base
    if base.names is not None:
        return any(has_unicode(base[name]) for name in base.names)
    return base.kind == "U"


def has_no_bytes(dtype: np.dtype[Any]) -> bool:
    """Tell whether a type, or a field of it, takes no room."""
    if dtype.names:
        return any(has_no_bytes(dtype[name].base) for name in dtype.names)
    return not dtype.itemsize


def _encode(array: Array) -> Array:
    try:
        stored = array.astype("S")
    except UnicodeEncodeError:
        stored = np.char.encode(array, "utf-8")
    return stored.astype(h5py.string_dtype("utf-8", max(stored.dtype.itemsize, 1)))


def _decode(array: Array, target: np.dtype[Any]) -> Array:
    try:
        return array.astype(target)
    except UnicodeDecodeError:
        return np.char.decode(array, "utf-8").astype(target)


def _fits(stored: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Tell whether `to_storage` can have made the one type from the other."""
    if stored.subdtype is not None or target.subdtype is not None:
        return stored.shape == target.shape and _fits(stored.base, target.base)
    if target.names is not None:
        return stored.names == target.names and all(_fits(stored[name], target[name]) for name in target.names)
    if target.kind == "U":
        return stored.kind == "S"
    return stored == _without_dates(target)


def _restore(array: Array, target: np.dtype[Any]) -> Array:
    if array.dtype == target:
        return array
    if array.dtype == _without_dates(target):
        return array.view(target)
    if target.names is None:
        return _decode(array, target) if target.kind == "U" else array.view(target)
    restored = np.zeros(array.shape, target)
    for name in target.names:
        restored[name] = _restore(array[name], target[name].base)
    return restored
