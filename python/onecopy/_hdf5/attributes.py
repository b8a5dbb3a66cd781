"""Attributes that users give: what HDF5 cannot hold is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

# By these, what was written is known again.
_OWN = ("dtype", "rows")
# An attribute is part of the header of its dataset, which is this long at most.
_MOST_BYTES = 64 << 10


def write_attributes(dataset: h5py.Dataset, name: str, attrs: Mapping[str, Any]) -> None:
    """Give a dataset the attributes of its user."""
    for key, value in attrs.items():
        if not isinstance(key, str) or not key:
            kind = ValueError if isinstance(key, str) else TypeError
            raise kind(f"dataset {name!r}: {key!r} is no name of an attribute: give a string that is not empty")
        if key in _OWN:
            raise ValueError(f"dataset {name!r}: attribute {key!r} is onecopy's own: give it another name")
        try:
            dataset.attrs[key] = _storable(value)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise _refusal(f"dataset {name!r}: attribute {key!r}", value, error) from error


def _storable(value: Any) -> Any:
    # Text in an array has any length in a file, as that in a list has.
    if isinstance(value, (np.ndarray, list, tuple)) and (array := np.asarray(value)).dtype.kind == "U":
        return array.astype(object)
    return str(value) if isinstance(value, str) else value


def _refusal(what: str, value: Any, error: Exception) -> Exception:
    if isinstance(error, (OSError, RuntimeError)):
        size = np.asarray(value).nbytes
        if size < _MOST_BYTES:
            return error
        return ValueError(f"{what} has {size:,} bytes, and HDF5 holds 64 KiB at most: write it as a dataset")
    if isinstance(error, ValueError):
        return ValueError(f"{what} is {value!r:.60}, and HDF5 has no text with NUL or surrogates: change it")
    way_out = "give numbers, text or arrays of these; of others, str(value)"
    return TypeError(f"{what} is {value!r:.60}, which HDF5 cannot hold: {way_out}")
