"""Unicode strings of fixed length as what other formats call text."""

from __future__ import annotations

import numpy as np

from onecopy._arrays import Array

_SURROGATES = (0xD800, 0xE000)


def native_text(array: Array, what: str) -> Array:
    """Return strings (type ``U``) in the byte order of the machine; raise `ValueError` for what is no text."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    codes = code_points(native)
    first, end = _SURROGATES
    if ((codes >= first) & (codes < end)).any():
        way_out = "encode it first, for example numpy.char.encode(array, 'utf-8', 'replace')"
        raise ValueError(f"{what} has text that is no Unicode (surrogates): {way_out}")
    return native


def code_points(strings: Array) -> Array:
    """Return the characters of strings as numbers, of each string in a row, with zeros behind its end."""
    width = strings.dtype.itemsize // 4
    return np.ascontiguousarray(strings).view("u4").reshape(strings.size, width)
