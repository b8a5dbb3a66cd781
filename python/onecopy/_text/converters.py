"""Converters: functions that make the elements of some columns, while all others are parsed by the compiled half."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np


def are_plain(converters: Any, names: bool) -> bool:
    """Tell whether numpy takes these converters; if not, its reader is to say what is wrong with them."""
    if callable(converters):
        return True
    if not isinstance(converters, Mapping):
        return False
    return all(callable(function) and _is_column(key, names) for key, function in converters.items())


def _is_column(key: Any, names: bool) -> bool:
    if isinstance(key, str):
        return names
    try:
        return -(1 << 63) <= operator.index(key) < 1 << 63
    except TypeError:
        return False


def converters_for_native(
    converters: Any, dtype: np.dtype[Any], *, latin1: bool, as_bytes: bool
) -> dict[str, Any] | None:
    """Spell the converters out for the compiled half."""
    if converters is None:
        return None
    columns = None if callable(converters) else [_column(key) for key in converters]
    return {
        "columns": columns,
        "functions": [converters] if callable(converters) else list(converters.values()),
        "elements": elements(dtype),
        "latin1": latin1,
        "as_bytes": as_bytes,
    }


def _column(key: Any) -> int | str:
    return key if isinstance(key, str) else operator.index(key)


def elements(dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
    """Return the types of what the columns of a line become, one after the other."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return elements(base) * int(np.prod(shape))
    if dtype.names is None:
        return [dtype]
    return [element for name in dtype.names for element in elements(dtype[name])]
