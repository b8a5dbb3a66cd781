"""Texts to coordinates: all numbers, all dates, or text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onecopy._hdf5.storage import Array

# Digits of a date without separators, and where they are cut: year, month, day, hour, minute, second.
_COMPACT = {8: 3, 10: 4, 12: 5, 14: 6}


def numbers_or_dates(texts: Sequence[str]) -> Array:
    """Return coordinates in the simplest type that all of them fit.

    >>> numbers_or_dates(["10", "20"]), numbers_or_dates(["1.5", "nan"])
    (array([10, 20]), array([1.5, nan]))
    >>> numbers_or_dates(["2020-01-31", "2020-02-01"])
    array(['2020-01-31', '2020-02-01'], dtype='datetime64[D]')
    >>> numbers_or_dates(["10E", "20E"])
    array(['10E', '20E'], dtype='<U3')
    """
    return _first(texts, [_integers, _floats, _dates])


def dates_or_numbers(texts: Sequence[str]) -> Array:
    """Return coordinates of which 8, 10, 12 or 14 digits are dates rather than numbers.

    >>> dates_or_numbers(["20200131", "20200201"]), dates_or_numbers(["2020013106"])
    (array(['2020-01-31', '2020-02-01'], dtype='datetime64[D]'), array(['2020-01-31T06:00:00'], dtype='datetime64[s]'))
    >>> dates_or_numbers(["007", "008"]), dates_or_numbers(["20209999"])
    (array([7, 8]), array([20209999]))
    """
    return _first(texts, [_compact_dates, _integers, _floats, _dates])


def _first(texts: Sequence[str], parsers: Sequence[Callable[[Sequence[str]], Array]]) -> Array:
    for parse in parsers:
        try:
            return parse(texts)
        except ValueError:
            continue
    return np.array(texts, "U")


def _integers(texts: Sequence[str]) -> Array:
    return np.array([int(text) for text in texts], "i8")


def _floats(texts: Sequence[str]) -> Array:
    return np.array([float(text) for text in texts], "f8")


def _compact_dates(texts: Sequence[str]) -> Array:
    return _dates([_separated(text) for text in texts])


def _separated(text: str) -> str:
    if not text.isdecimal() or len(text) not in _COMPACT:
        raise ValueError(text)
    pairs = [text[at : at + 2] for at in range(4, len(text), 2)]
    date = "-".join([text[:4], *pairs[:2]])
    clock = ":".join(pairs[2:])
    return f"{date}T{clock}" if clock else date


def _dates(texts: Sequence[str]) -> Array:
    moments = [np.datetime64(text) for text in texts]
    units: set[Any] = {np.datetime_data(moment)[0] for moment in moments}
    if units & {"generic", "Y"}:
        raise ValueError("no dates")
    # The conventions of netCDF have no months, and hours are rare.
    days = units <= {"M", "W", "D"}
    return np.array(moments, "M8[D]" if days else "M8[s]" if units <= {"M", "W", "D", "h", "m", "s"} else "M8[ns]")
