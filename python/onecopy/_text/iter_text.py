"""`iter_text`: texts that are larger than memory, a block of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _native
from onecopy._text import arguments
from onecopy._text.lines import Text, as_files, text_of
from onecopy._text.loading import dialect_for_native, header_of, item_of, with_names
from onecopy._text.loadtxt import readable
from onecopy._text.progress import showing

if TYPE_CHECKING:
    import numpy.typing as npt


def iter_text(
    fname: Any,
    dtype: npt.DTypeLike | None = float,
    *,
    rows: int = 1 << 20,
    comments: str | bytes | Sequence[str | bytes] | None = "#",
    delimiter: str | bytes | None = None,
    skiprows: int = 0,
    usecols: arguments.Columns | None = None,
    encoding: str | None = None,
    max_rows: int | None = None,
    quotechar: str | None = None,
    names: bool = False,
    missing: arguments.Missing | None = None,
    truncate: bool = False,
    return_index: bool = False,
    threads: int | None = None,
    progress: bool | Callable[[int], None] = False,
) -> Iterator[Any]:
    """Load delimited text block by block, on all cores, in bounded memory.

    The next blocks are parsed while the caller works on one; a few of them is all that is in memory, however long the
    text is.

    Parameters
    ----------
    fname : path, file, iterable of lines, or sequence of paths
        As for `loadtxt`. Several files come one after the other, and no block holds rows of two.
    dtype, comments, delimiter, skiprows, usecols, encoding, max_rows, quotechar : optional
        As for `loadtxt`, for each file.
    names, missing, truncate, return_index, threads : optional
        As for `loadtxt`, for each file.
    rows : int, optional
        Rows of a block; the last one of a file may have fewer.
    progress : bool or callable, optional
        As for `loadtxt`.

    Yields
    ------
    numpy.ndarray
        Shared: records of shape ``(rows,)`` for a structured dtype or with `names`, else ``(rows, columns)``. With
        `return_index` a pair of this and the indices of its lines in the whole file.

    Raises
    ------
    ParseError
        The text does not hold what `dtype` says. Whole blocks before that place come first.
    ValueError, TypeError, OSError, OutOfMemoryError
        As for `loadtxt`. A `dtype` or `encoding` that only numpy's reader knows is a `ValueError`.

    Examples
    --------
    >>> import onecopy as oc
    >>> lines = (f"{n} {n * n}" for n in range(5))
    >>> [block[:, 1].sum().item() for block in oc.iter_text(lines, int, rows=2)]
    [1, 13, 16]
    """
    item = None if dtype is None else np.dtype(dtype)
    dialect = arguments.dialect(
        item, comments, delimiter, skiprows, usecols, max_rows, quotechar, names, missing, truncate, return_index
    )
    if item is not None and not readable(item):
        raise ValueError(f"dtype={item!r} is read by numpy alone, which cannot go on block by block; see loadtxt")
    if not (encoding in (None, "bytes") or arguments.is_utf8(encoding) or arguments.is_latin1(encoding)):
        raise ValueError(f"encoding={encoding!r}: only UTF-8 and Latin-1 are read block by block; see loadtxt")
    if rows < 1:
        raise ValueError(f"rows={rows}: expected at least 1")
    files = as_files(fname)
    texts = [text_of(name, encoding, quotechar) for name in ([fname] if files is None else files)]
    return _blocks(texts, item, rows, threads or 0, progress, dialect)


def _blocks(
    texts: list[Text],
    item: np.dtype[Any] | None,
    rows: int,
    threads: int,
    progress: bool | Callable[[int], None],
    dialect: dict[str, Any],
) -> Iterator[Any]:
    with showing(progress, [text.content for text in texts]) as report:
        for text in texts:
            yield from _blocks_of(text, item_of(text, item, dialect), rows, threads, report, dialect)


def _blocks_of(
    text: Text,
    item: np.dtype[Any],
    rows: int,
    threads: int,
    report: Callable[[int], None] | None,
    dialect: dict[str, Any],
) -> Iterator[Any]:
    content = _content(text)
    blocks = _native.TextBlocks(content, item, dialect_for_native(encoding=text.encoding, **dialect), threads, rows)
    header = header_of(text, dialect) if item.names is None else None
    reported = 0

    def finished(part: tuple[Any, Any]) -> Any:
        nonlocal reported
        if report is not None:
            read = blocks.bytes_read
            report(read - reported)
            reported = read
        block, lines = part
        named = block if header is None else with_names(block, header)
        return named if lines is None else (named, lines)

    # Keeps no block, so that who gets one has it alone.
    yield from map(finished, blocks)


def _content(text: Text) -> str | os.PathLike[str] | bytes:
    if text.content is None:
        raise ValueError("lines with line ends inside of quotes are read by numpy alone; see loadtxt, or give a file")
    return text.content
