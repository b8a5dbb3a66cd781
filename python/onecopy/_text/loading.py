"""What the package reads text by: a dialect spelled out for the compiled half."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from onecopy import _native
from onecopy._arrays import Array

if TYPE_CHECKING:
    import numpy.typing as npt

Path = str | os.PathLike[str]


class LoadedFile(NamedTuple):
    """What a text file became.

    Attributes
    ----------
    array : numpy.ndarray
        Shared; records, or rows times columns.
    names : list of str or None
        Names in the header line.
    dtype : numpy.dtype
        Of the array.
    rows : int
        Records, or rows.
    bytes : int
        Bytes of text, decompressed.
    blank_line : int or None
        With ``max_rows``: the first line that was passed over because it holds nothing.
    lines : numpy.ndarray or None
        If asked for: the number of lines before each record.
    """

    array: Array
    names: list[str] | None
    dtype: np.dtype[Any]
    rows: int
    bytes: int
    blank_line: int | None
    lines: npt.NDArray[np.int64] | None


class Inferred(NamedTuple):
    """What the first lines of a text look like.

    Attributes
    ----------
    dtype : numpy.dtype
        Structured, with a field per column (of those in ``usecols``); integers and floats as the sample needs, strings
        with head-room.
    names : list of str or None
        Names of all columns, when there is a header.
    delimiter, quotechar : str or None
        Of the dialect.
    header : bool
        Whether the first line holds names.
    """

    dtype: np.dtype[Any]
    names: list[str] | None
    delimiter: str | None
    quotechar: str | None
    header: bool


def dialect_for_native(
    *,
    delimiter: str | None = None,
    comments: Sequence[str] = ("#",),
    quotechar: str | None = None,
    skiprows: int = 0,
    max_rows: int | None = None,
    usecols: Sequence[int | str] | None = None,
    header: bool = False,
    missing: Sequence[tuple[str, str, str | None]] = (),
    truncate: bool = False,
    lines: bool = False,
    encoding: Literal["utf-8", "latin-1"] = "utf-8",
) -> dict[str, Any]:
    """Spell a dialect out for the compiled half."""
    return {
        "delimiter": delimiter,
        "comments": list(comments),
        "quotechar": quotechar,
        "skiprows": skiprows,
        "max_rows": max_rows,
        "usecols": None if usecols is None else list(usecols),
        "header": header,
        "missing": list(missing),
        "truncate": truncate,
        "lines": lines,
        "latin1": encoding == "latin-1",
    }


def infer(path: Path | tuple[str, bytes], *, types: bool = True, **dialect: Any) -> Inferred:
    """Guess the delimiter (and with it the quote), the header and the types where `dialect` leaves them open.

    Without `types` these are not those of the columns, but as many, with their names.
    """
    fields, names, delimiter, quotechar, header = _native.infer(
        path, dialect_for_native(**dialect), "delimiter" not in dialect, "header" not in dialect, types
    )
    file = path[0] if isinstance(path, tuple) else os.fspath(path)
    return Inferred(_structure(fields, file), names, delimiter, quotechar, header)


def load(
    path: Path | tuple[str, bytes],
    dtype: npt.DTypeLike,
    *,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    converters: dict[str, Any] | None = None,
    **dialect: Any,
) -> LoadedFile:
    """Load one text: a file, or what a text is called and its bytes.

    `progress` is called now and then with the bytes of the file read since its last call; what it raises ends the
    loading. The converters are those of `converters_for_native`, the dialect is that of `dialect_for_native`.
    """
    loaded = _native.load(path, np.dtype(dtype), dialect_for_native(**dialect), threads, progress, converters)
    return _loaded_file(*loaded)


def load_blocks(
    path: Path | tuple[str, Callable[[], bytes]],
    dtype: npt.DTypeLike,
    *,
    rows: int | None = None,
    threads: int = 0,
    progress: Callable[[int], object] | None = None,
    converters: dict[str, Any] | None = None,
    **dialect: Any,
) -> _native.TextBlocks:
    """Load one text block by block: a file, or what a text is called and what gives its next bytes, none at its end.

    Blocks have so many rows, or else as many as make a few megabytes; each comes with the numbers of lines before its
    rows, if these are asked for. All else is as for `load`.
    """
    native = dialect_for_native(**dialect)
    return _native.TextBlocks(path, np.dtype(dtype), native, threads, rows, converters, progress)


def load_many(
    files: Sequence[tuple[Path, np.dtype[Any]]],
    *,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    **dialect: Any,
) -> list[LoadedFile]:
    """Load several files as `load` does: large ones one after the other, each on all cores, small ones side by side."""
    return [
        _loaded_file(*loaded) for loaded in _native.load_many(files, dialect_for_native(**dialect), threads, progress)
    ]


def _loaded_file(
    array: Array, lines: Array | None, names: list[str] | None, size: int, blank_line: int | None
) -> LoadedFile:
    return LoadedFile(array, names, array.dtype, len(array), size, blank_line, lines)


def with_names(array: Array, names: Sequence[str], file: str) -> Array:
    """Return rows of equal items as records, whose fields have the names of the header."""
    # Equal items side by side are a structure without padding.
    return array.view(_structure([(name, array.dtype) for name in names], file))[:, 0]


def _structure(fields: Sequence[tuple[str, Any]], file: str) -> np.dtype[Any]:
    names = [name for name, _ in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{file}: the header has {twice!r} more than once; choose columns with usecols, or give a dtype"
        )
    return np.dtype(list(fields))
