"""Texts of command line options to values, and back. Each error says what is wrong and shows what is right."""

from __future__ import annotations

import argparse
import codecs
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from onecopy._hdf5.filters import Filters

Invalid = argparse.ArgumentTypeError
DType = np.dtype[Any]

#: Of a number that fits 64 bits.
_DIGITS = 18

_WORDS = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " ", "white space": None, "whitespace": None}


def dtype(text: str) -> DType:
    """Parse ``chr:S10,pos:i4`` (a record), ``S10,i4`` (a record without names) or ``f4`` (all columns alike).

    >>> dtype("chr:S10,pos:i4,grid:3f4")
    dtype([('chr', 'S10'), ('pos', '<i4'), ('grid', '<f4', (3,))])
    >>> dtype("f4")
    dtype('float32')
    """
    fields = [field.strip() for field in text.split(",")]
    if len(fields) == 1 and ":" not in text:
        return _scalar(text, text)
    parsed = []
    for number, field in enumerate(fields):
        name, colon, kind = field.partition(":")
        if not colon:
            name, kind = f"f{number}", field
        if not name or not kind:
            raise Invalid(f"{field!r} in {text!r}: write name:type, for example pos:i4")
        parsed.append((name, _scalar(kind, field)))
    try:
        return np.dtype(parsed)
    except ValueError as error:
        raise Invalid(f"{text!r}: {error}") from error


def _scalar(kind: str, field: str) -> DType:
    way_out = "give for example i4, f8, S10 or datetime64[s]"
    try:
        parsed: DType = np.dtype(kind)
    except TypeError as error:
        raise Invalid(f"{field!r}: {kind!r} is no numpy type; {way_out}") from error
    if parsed.hasobject or (parsed.base.kind in "SU" and parsed.base.itemsize == 0):
        raise Invalid(f"{field!r}: {kind!r} has no fixed size; {way_out}")
    return parsed


def dtype_text(dtype: DType) -> str:
    """Write a type as the option ``--dtype`` takes it.

    >>> dtype_text(np.dtype([("chr", "S10"), ("grid", "<f4", (3,))]))
    'chr:S10,grid:3f4'
    """
    if dtype.names is None:
        return _scalar_text(dtype)
    return ",".join(f"{name}:{_scalar_text(dtype[name])}" for name in dtype.names)


def _scalar_text(dtype: DType) -> str:
    count = "x".join(map(str, dtype.shape))
    return count + (dtype.base.str.lstrip("<|") if dtype.base.names is None else str(dtype.base))


def delimiter(text: str) -> str | None:
    r"""Parse a delimiter: one character, an escape such as ``\t``, or a word such as ``tab``."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    plain = codecs.decode(text, "unicode_escape") if text.startswith("\\") else text
    if len(plain) != 1:
        raise Invalid(f"{text!r}: give one character, '\\t', or one of {', '.join(_WORDS)}")
    return plain


def columns(text: str) -> list[int | str]:
    """Parse ``0,2,-1`` or ``chr,pos``: numbers from 0, negative ones from the end, or names."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise Invalid(f"{text!r}: give numbers from 0 (negative ones from the end) or names: 0,2,-1 or chr,pos")
    return [int(part) if part.removeprefix("-").isdigit() else part for part in parts]


def names(text: str) -> list[str]:
    """Parse ``chr,pos,pct``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts) or len(set(parts)) < len(parts):
        raise Invalid(f"{text!r}: give different names, for example chr,pos,pct")
    return parts


def missing(text: str) -> tuple[str, str, str | None]:
    """Parse ``[COLUMN:]TEXT=VALUE`` to (text, value, column).

    >>> missing("NA=nan"), missing("pos:.=-1")
    (('NA', 'nan', None), ('.', '-1', 'pos'))
    """
    left, equals, value = text.rpartition("=")
    column, colon, name = left.partition(":")
    if not equals or not value:
        raise Invalid(f"{text!r}: write TEXT=VALUE, for example NA=nan, or COLUMN:TEXT=VALUE")
    return (name, value, column) if colon else (left, value, None)


def dims(text: str) -> list[str]:
    """Parse ``time,lat,lon``: the three axes of a stack of tables."""
    parts = names(text)
    if len(parts) != 3:
        raise Invalid(f"{text!r}: give three names, of the files, the rows and the columns, such as time,lat,lon")
    return parts


def coordinate(text: str) -> tuple[str, list[str]]:
    """Parse ``DIM=VALUE,VALUE,...``.

    >>> coordinate("lat=10,20.5")
    ('lat', ['10', '20.5'])
    """
    name, equals, values = text.partition("=")
    if not name or not equals or not all(values.split(",")):
        raise Invalid(f"{text!r}: write DIM=VALUE,VALUE,..., for example time=2020-01-01,2020-01-02")
    return name, values.split(",")


def pattern(text: str) -> re.Pattern[str]:
    r"""Parse a regular expression: ``(\d{8})``."""
    try:
        return re.compile(text)
    except re.error as error:
        raise Invalid(f"{text!r}: no regular expression: {error}") from error


def one_character(text: str) -> str:
    """Parse a character."""
    if len(text) != 1:
        raise Invalid(f"{text!r}: give one character")
    return text


def count(text: str) -> int:
    """Parse a number that is not negative."""
    if not text.isdecimal() or len(text) > _DIGITS:
        raise Invalid(f"{text!r}: give a whole number from 0 with at most {_DIGITS} digits")
    return int(text)


def positive(text: str) -> int:
    """Parse a number of at least 1."""
    if (number := count(text)) == 0:
        raise Invalid("0: give at least 1")
    return number


def compression(text: str) -> Mapping[str, Any]:
    """Parse ``none``, ``lzf``, or ``gzip``, ``zstd`` or ``blosc2`` with or without a level, to the keywords of h5py.

    >>> compression("gzip:9")
    {'compression': 'gzip', 'compression_opts': 9}
    """
    name, colon, level = text.partition(":")
    if colon and not level.isdecimal():
        raise Invalid(f"{text!r}: the level is a number, for example gzip:4")
    if text == "none":
        return {}
    options: dict[str, Any] = {"compression": name, **({"compression_opts": int(level)} if colon else {})}
    try:
        if name in ("gzip", "lzf", "zstd", "blosc2"):
            Filters(**options)
            return options
    except ValueError as error:
        raise Invalid(f"{text!r}: {error}") from None
    raise Invalid(f"{text!r}: give none, lzf, gzip:0 to gzip:9, zstd:1 to zstd:22, or blosc2:0 to blosc2:9")
