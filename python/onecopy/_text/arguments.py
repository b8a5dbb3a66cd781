"""The arguments of `loadtxt`, checked as numpy checks them: the same exceptions, before anything is opened."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, SupportsIndex

import numpy as np

from onecopy._text.converters import elements

Columns = SupportsIndex | str | Sequence[SupportsIndex | str]
#: Text to the value that it stands for; or the name of a field to such texts of its own.
Missing = Mapping[str, Any]

#: Numbers of lines and columns that the compiled half takes are below this.
_MOST = 1 << 63


def check_ndmin(ndmin: Any) -> None:
    """Refuse what is no number of dimensions."""
    if ndmin not in (0, 1, 2):
        raise ValueError(f"Illegal value of ndmin keyword: {ndmin!r}; expected 0, 1 or 2")


def _count(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"argument must be an integer: {name}={value!r}") from None
    if number < 0:
        raise ValueError(f"argument must be nonnegative: {name}={number}")
    if number >= _MOST:
        raise OverflowError(f"{name}={number} is more than any text has; the largest number is 2**63 - 1")
    return number


def thread_count(threads: Any) -> int:
    """Return how many threads are to be used, 0 for all cores."""
    return 0 if threads is None else _count("threads", threads)


def block_rows(rows: Any) -> int:
    """Return the rows of a block."""
    if (number := _count("rows", rows)) == 0:
        raise ValueError("rows=0: expected at least 1")
    return number


def dialect(
    dtype: np.dtype[Any] | None,
    comments: Any,
    delimiter: str | bytes | None,
    skiprows: Any,
    usecols: Any,
    max_rows: Any,
    quotechar: str | None,
    names: bool,
    missing: Missing | None,
    truncate: bool,
    return_index: bool,
) -> dict[str, Any]:
    """Return what the compiled half has to know about the text; refuse what makes no sense, in the order of numpy."""
    if not isinstance(names, (bool, np.bool_)):
        raise TypeError(f"names={names!r}: expected True or False; give names of your own with a structured dtype")
    begins = _comments(comments)
    if "" in begins:
        raise ValueError("comments cannot be an empty string; use comments=None to have none")
    if len(begins) > 1 and _text(delimiter) in begins:
        raise TypeError(f"Comment characters {begins!r} cannot include the delimiter {delimiter!r}; choose others")
    if quotechar is not None and (len(begins) > 1 or any(len(begin) > 1 for begin in begins)):
        raise ValueError(
            f"when multiple comments or a multi-character comment is given, quotes are not supported. "
            f"With comments={begins!r}, quotechar must be None"
        )
    return {
        "comments": begins,
        "skiprows": _count("skiprows", skiprows),
        "max_rows": None if max_rows is None else _count("max_rows", max_rows),
        **_control_characters(delimiter, begins, quotechar),
        "usecols": _columns(usecols, dtype, names),
        "header": bool(names),
        "missing": _missing_values(missing),
        "truncate": bool(truncate),
        "lines": bool(return_index),
    }


def _control_characters(delimiter: str | bytes | None, comments: list[str], quotechar: str | None) -> dict[str, Any]:
    between: str | None = _text(delimiter)
    begin = comments[0] if len(comments) == 1 else None
    for name, value in (("delimiter", between), ("comments", begin), ("quotechar", quotechar)):
        _check_control(name, value)
    _check_apart(between, begin, quotechar)
    return {"delimiter": between, "quotechar": quotechar}


def _check_control(name: str, value: Any) -> None:
    single = name == "quotechar"
    if value is not None and (not isinstance(value, str) or not value or (single and len(value) > 1)):
        raise TypeError(
            f"Text reading control character must be a single unicode character or None; but got {name}={value!r}"
        )
    if value is not None and ("\n" in value or "\r" in value):
        raise TypeError(f"control character {name}={value!r} cannot be a newline (`\\r` or `\\n`)")


def _check_apart(delimiter: str | None, comment: str | None, quotechar: str | None) -> None:
    """Refuse two control characters of which one hides the other."""
    for name, value in (("comments", comment), ("quotechar", quotechar)):
        if value is not None and (value == delimiter or (delimiter is None and value[0].isspace())):
            _refuse_pair("delimiter", delimiter, name, value)
    if comment is not None and comment == quotechar:
        _refuse_pair("comments", comment, "quotechar", quotechar)


def _refuse_pair(first: str, a: str | None, second: str, b: str | None) -> None:
    raise TypeError(
        f"The values for control characters {first!r} and {second!r} are incompatible: {a!r} and {b!r}; choose others"
    )


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _comments(comments: str | bytes | Sequence[str | bytes] | None) -> list[str]:
    if comments is None:
        return []
    several = [comments] if isinstance(comments, (str, bytes)) else comments
    return [text for comment in several if (text := _text(comment)) is not None]


def _columns(usecols: Any, dtype: np.dtype[Any] | None, named: bool) -> list[int | str] | None:
    if usecols is None:
        return None
    several = [usecols]
    if not isinstance(usecols, str):
        with suppress(TypeError):
            several = list(usecols)
    chosen = [_column(column, named) for column in several]
    if dtype is not None and dtype.names is not None and len(chosen) != (fields := len(elements(dtype))):
        raise TypeError(
            "If a structured dtype is used, the number of columns in `usecols` must match the effective number of "
            f"fields. But {len(chosen)} usecols were given and the number of fields is {fields}."
        )
    return chosen


def _column(column: Any, named: bool) -> int | str:
    if named and isinstance(column, str):
        return column
    try:
        number = operator.index(column)
    except TypeError:
        raise TypeError(
            "usecols must be an int or a sequence of ints but it contains at least one element of type "
            f"{type(column).__name__!r}: {column!r}; names need names=True"
        ) from None
    if not -_MOST <= number < _MOST:
        raise OverflowError(f"usecols has {number}, and no file has so many columns")
    return number


def _missing_values(missing: Any) -> list[tuple[str, str, str | None]]:
    """Return (text, what it stands for, field or none for all)."""
    if missing is None:
        return []
    everywhere: list[tuple[str, str, str | None]] = []
    of_fields: list[tuple[str, str, str | None]] = []
    for key, value in _items_of_missing(missing):
        if isinstance(value, Mapping):
            of_fields.extend((text, _spelled(fill), key) for text, fill in _items_of_missing(value))
        else:
            everywhere.append((key, _spelled(value), None))
    return of_fields + everywhere  # the first that fits is taken


def _items_of_missing(missing: Any) -> list[tuple[str, Any]]:
    if not isinstance(missing, Mapping):
        raise TypeError(f"missing={missing!r}: expected texts and what to store for them, such as {{'NA': -1}}")
    for key in missing:
        if not isinstance(key, str):
            raise TypeError(f"missing has {key!r}: expected a text, or the name of a field with a mapping for it")
    return list(missing.items())


def _spelled(fill: Any) -> str:
    """Write a value as a text would hold it."""
    if isinstance(fill, (bool, np.bool_)):
        return str(int(fill))
    return fill.decode("latin-1") if isinstance(fill, bytes) else str(fill)


def check_encoding(encoding: Any) -> None:
    """Refuse what is no name of an encoding."""
    if encoding is not None and not isinstance(encoding, str):
        raise ValueError(f"encoding={encoding!r}: expected the name of an encoding, such as 'latin-1'")


def is_utf8(encoding: str | None) -> bool:
    """Tell whether the encoding is UTF-8 or a part of it."""
    return encoding is not None and encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "us-ascii")


def is_latin1(encoding: str | None) -> bool:
    """Tell whether each byte is the character of its number."""
    return encoding is not None and encoding.lower().replace("_", "-") in ("latin-1", "latin1", "iso-8859-1")
