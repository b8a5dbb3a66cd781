"""numpy types and arrays as columns of Arrow.

=========================  =====================================================================
numpy                      Arrow
=========================  =====================================================================
booleans, numbers          the same, in the byte order of the machine
``S``, ``U``               strings
``V`` (raw bytes)          binary of a fixed size
``datetime64``             dates (for days and longer), else timestamps without a time zone
``timedelta64``            durations
arrays inside of records   lists of a fixed size; so are the other axes of arrays of several axes
records inside of records  structs
=========================  =====================================================================

NaT and masked items are null.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onecopy._arrays import Array, is_masked
from onecopy._export.text import code_points, native_text

# Units that Arrow has; others are kept in the next finer one.
_TIMES = {"h": "s", "m": "s", "s": "s", "ms": "ms", "us": "us", "ns": "ns"}
_DATES = ("Y", "M", "W", "D")
_DURATIONS = {"W": "s", "D": "s", **_TIMES}


def arrow_type(dtype: np.dtype[Any], name: str) -> pa.DataType:
    """Return the type of a column.

    Raises
    ------
    TypeError
        Arrow has no such type.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        inner = arrow_type(base, name)
        if 0 in shape:
            # pyarrow does not survive them.
            raise TypeError(f"column {name!r}: Arrow has no lists of 0 values: leave it out")
        for size in reversed(shape):
            inner = pa.list_(inner, size)
        return inner
    if dtype.names:
        return pa.struct([(field, arrow_type(dtype[field], f"{name}.{field}")) for field in dtype.names])
    if dtype.kind in "SU":
        return pa.string()
    if not dtype.itemsize:
        raise TypeError(f"column {name!r} has values of no bytes, dtype {dtype}: leave it out")
    if dtype.kind == "V":
        return pa.binary(dtype.itemsize)
    if dtype.kind in "mM":
        return _time_type(dtype, name)
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return pa.from_numpy_dtype(dtype.newbyteorder("="))
    way_out = (
        "convert it first: complex numbers to two columns (.real, .imag), objects with astype('U') or astype('f8')"
    )
    raise TypeError(f"column {name!r}: Arrow has no type for dtype {dtype}: {way_out}")


def _time_type(dtype: np.dtype[Any], name: str) -> pa.DataType:
    unit, _ = np.datetime_data(dtype)
    if dtype.kind == "M" and unit in _DATES:
        return pa.date32()
    if unit in (known := _TIMES if dtype.kind == "M" else _DURATIONS):
        return (pa.timestamp if dtype.kind == "M" else pa.duration)(known[unit])
    raise TypeError(f"column {name!r}: Arrow has no type for dtype {dtype}: convert it to s, ms, us or ns with astype")


def column(array: Array, name: str) -> pa.Array:
    """Return an array as a column; its other axes are lists. Numbers without gaps are not copied."""
    return _flat(array, arrow_type(np.dtype((array.dtype, array.shape[1:])), name), name)


def _flat(array: Array, kind: pa.DataType, name: str) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        inner = _flat(array.reshape(len(array) * size, *array.shape[2:]), kind.value_type, name)
        return pa.FixedSizeListArray.from_arrays(inner, type=kind)
    if array.dtype.names is not None:
        parts = [_flat(array[field.name], field.type, f"{name}.{field.name}") for field in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    mask = np.ma.getmaskarray(array) if is_masked(array) else None
    values = np.asarray(array.data if is_masked(array) else array)
    if values.dtype.kind == "S":
        return _bytes(values, mask, name)
    if values.dtype.kind == "U":
        return _text(native_text(values, f"column {name!r}"), mask)
    if values.dtype.kind in "mM":
        values = _times(values, kind, mask, name)
    elif not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return pa.array(values, kind, mask=mask)


def _times(values: Array, kind: pa.DataType, mask: Array | None, name: str) -> Array:
    """Return dates or durations in a unit of Arrow's; numpy would let those turn over that do not fit."""
    is_date = pa.types.is_date(kind)
    converted = values.astype(f"{values.dtype.kind}8[{'D' if is_date else kind.unit}]")
    lost = (converted.astype(values.dtype) != values) & ~np.isnat(values)
    if is_date:
        days = np.iinfo("i4")
        lost |= ((converted.view("i8") > days.max) | (converted.view("i8") < days.min)) & ~np.isnat(converted)
    if mask is not None:
        lost &= ~mask
    if lost.any():
        way_out = "leave it out, or take its numbers: array.view('i8')"
        raise ValueError(f"column {name!r} has {values[lost][0]}, which is beyond {kind}: {way_out}")
    return converted


def _text(values: Array, mask: Array | None) -> pa.Array:
    # pyarrow ends a string at its first NUL, numpy at its last character that is none.
    inner = code_points(values).astype(bool).sum() != np.char.str_len(values).sum()
    return pa.array(values.tolist() if inner else values, pa.string(), mask=mask)


def _bytes(values: Array, mask: Array | None, name: str) -> pa.Array:
    """Return bytes as text; those behind a NUL that is not at the end count, which pyarrow would leave out."""
    lengths = np.char.str_len(values)
    found = pa.array(values, pa.binary(), mask=mask)
    kept = int((lengths if mask is None else lengths[~mask]).sum())
    if (pc.sum(pc.binary_length(found)).as_py() or 0) != kept:
        found = pa.array(values.tolist(), pa.binary(), mask=mask)
    try:
        return found.cast(pa.string())
    except pa.ArrowInvalid:
        way_out = "decode it to U, or take its bytes as they are: array.view('V...')"
        raise ValueError(f"column {name!r} has bytes that are no UTF-8 text: {way_out}") from None
